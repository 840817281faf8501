"""MineCLIP against the original's numbers, and the laws of its hook points."""

from __future__ import annotations

import functools
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_policies import GOLDEN, fill_rule, golden

from harness.agent.clip.network import image_tower, text_tower
from harness.agent.hooks import HookStack
from harness.agent.mineclip import MineCLIP, MineCLIPConfig, prompt_tokens, resize_clip, spatial_attention
from harness.agent.mineclip.model import expected_shapes
from harness.agent.mineclip.network import adapt_video, build_tree, temporal_encoder
from harness.errors import AgentError, HookError, WeightsError

TIGHT = {"atol": 1e-5, "rtol": 1e-5}
RELEASED = MineCLIPConfig()
SHAPES = expected_shapes()


def filled(prefix: str) -> dict[str, torch.Tensor]:
    """Weights by the golden rule, of one part, without the prefix."""
    constant = {"clip_model.logit_scale": math.log(1 / 0.07), "reward_head.video_residual_weight": 4.0}
    return {name.removeprefix(prefix): torch.tensor(constant[name], dtype=torch.float32) if name in constant
            else torch.from_numpy(np.array(fill_rule().fill_value(name, shape)))
            for name, shape in SHAPES.items() if name.startswith(prefix)}


def part(prefix: str) -> torch.nn.Module:
    """One of the three top-level modules, filled."""
    with torch.device("meta"):
        module = build_tree(RELEASED)[prefix]
    module.load_state_dict(filled(prefix + "."), assign=True)
    return module.requires_grad_(False)


def quiet() -> HookStack:
    return HookStack([], {})


@functools.cache
def tiny() -> MineCLIP:
    return MineCLIP.random("nano", seed=1).requires_grad_(False)


def clips(b: int = 1, t: int = 16, seed: int = 0, height: int = 160, width: int = 256) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (b, t, height, width, 3), dtype=np.uint8))


def test_names_and_shapes_of_the_released_file() -> None:
    """With the tied copies under their first name; the counts are those of the released model."""
    theirs = {name: tuple(shape) for name, (shape, _) in json.loads((GOLDEN / "state_dict_mineclip.json").read_text()
                                                                     ).items()}
    tied = {"image_encoder.": "clip_model.vision_model.", "reward_head.clip_model.": "clip_model."}
    for name, shape in theirs.items():
        own = next((ours + name.removeprefix(copy) for copy, ours in tied.items() if name.startswith(copy)), name)
        assert SHAPES[own] == shape, name
    assert set(SHAPES) <= set(theirs) and len(theirs) == 788
    assert len(SHAPES) == 334 and sum(math.prod(shape) for shape in SHAPES.values()) == 158_537_730


def test_temporal_encoder_and_scores_of_the_original() -> None:
    _, arrays = golden("mineclip")
    video = temporal_encoder(part("temporal_encoder"), torch.from_numpy(arrays["frame_features"]), RELEASED, quiet())
    torch.testing.assert_close(video, torch.from_numpy(arrays["video_embed"]), **TIGHT)
    adapted, text = adapt_video(part("reward_head"), video), torch.from_numpy(arrays["text_embed"])
    logits = math.exp(float(arrays["logit_scale"])) * F.cosine_similarity(adapted, text)
    torch.testing.assert_close(logits[None], torch.from_numpy(arrays["logits_per_video"]), **TIGHT)


def test_text_tower_of_the_original() -> None:
    _, arrays = golden("mineclip")
    with torch.device("meta"):
        tree = build_tree(RELEASED)["clip_model"].text_model
    tree.load_state_dict(filled("clip_model.text_model."), assign=True)
    with torch.inference_mode():
        text = text_tower(torch.nn.ModuleDict({"text_model": tree}), torch.from_numpy(arrays["tokens"]), RELEASED.clip,
                          quiet())
    torch.testing.assert_close(text, torch.from_numpy(arrays["text_embed"]), **TIGHT)


def test_image_tower_of_the_original() -> None:
    """At full size: 86 million weights, the first and the last of the sixteen frames."""
    _, arrays = golden("mineclip")
    with torch.device("meta"):
        tree = build_tree(RELEASED)["clip_model"].vision_model
    tree.load_state_dict(filled("clip_model.vision_model."), assign=True)
    frames = torch.from_numpy(fill_rule().frames(3, 1, 16, 160, 256)[:, [0, 15]])
    with torch.inference_mode():
        features = image_tower(torch.nn.ModuleDict({"vision_model": tree}), frames, RELEASED.clip, quiet())
    torch.testing.assert_close(features, torch.from_numpy(arrays["frame_features"])[:, [0, 15]], **TIGHT)


@pytest.mark.slow
def test_everything_of_the_original() -> None:
    """The whole model at full size: 158 million weights, sixteen frames, two prompts (20 s, 1.4 GB)."""
    _, arrays = golden("mineclip")
    model = MineCLIP.from_released(filled(""))
    frames = fill_rule().frames(3, 1, 16, 160, 256)
    with torch.inference_mode():
        out = model(frames, torch.from_numpy(arrays["tokens"]))
    for name, ours in (("frame_features", out.frames), ("video_embed", out.video), ("text_embed", out.text),
                       ("logits_per_video", out.logits)):
        torch.testing.assert_close(ours, torch.from_numpy(arrays[name]), **TIGHT, msg=lambda m, n=name: f"{n}: {m}")
    with torch.inference_mode():
        assert torch.equal(model.encode_video(frames), out.video)


def test_image_tower_against_torch_layers() -> None:
    """PyTorch's own attention module, fed the same weights, is a second opinion on a block."""
    model = tiny()
    with torch.inference_mode():
        _, cache = model.run_with_cache(clips(), names_filter=["image.*"])
    block = model.clip_model.vision_model.blocks[1]
    d = model.config.image_width
    attention = torch.nn.MultiheadAttention(d, d // 64, batch_first=True)
    attention.load_state_dict(block.attn.state_dict())
    normed = cache["image.blocks.1.ln1.hook_normalized"][0]
    out, pattern = attention(normed, normed, normed, average_attn_weights=False)
    at = "image.blocks.1."
    torch.testing.assert_close(cache[at + "hook_attn_out"][0], out, **TIGHT)
    torch.testing.assert_close(cache[at + "attn.hook_pattern"][0], pattern, **TIGHT)
    x = cache[at + "mlp.hook_pre"]
    torch.testing.assert_close(cache[at + "mlp.hook_post"], x * torch.sigmoid(1.702 * x))
    torch.testing.assert_close(cache[at + "hook_resid_post"], cache[at + "hook_resid_mid"] + cache[at + "hook_mlp_out"])
    torch.testing.assert_close(cache[at + "hook_resid_mid"],
                               cache[at + "hook_resid_pre"] + cache[at + "hook_attn_out"])
    patch = cache["image.hook_image"][0, 3, :, 16:32, 48:64].flatten()
    torch.testing.assert_close(cache["image.hook_embed"][0, 3, 16 + 3],
                               model.clip_model.vision_model.conv1.weight.flatten(1) @ patch, **TIGHT)


def test_hook_points_have_the_shapes_they_announce() -> None:
    model = tiny()
    with torch.inference_mode():
        out, cache = model.run_with_cache(clips(2), ["chop a tree", "swim", "dig"])
    assert list(cache) == model.hook_points
    n = {"b": 2, "t": 16}
    for name, value in cache.items():
        point = cache.point(name)
        b = 3 if name.startswith("text.") else 2
        assert value.shape[0] == b, name
        rest = iter(point.shape)
        assert value.shape == tuple(b if a == "b" else n["t"] if a == "t" else next(rest) for a in point.axes), name
        assert next(rest, None) is None, name
    assert out.logits is not None and out.logits.shape == (2, 3)
    assert cache.point("image.blocks.1.attn.hook_pattern").layer == 1
    for part_name in ("image", "temporal", "text"):
        pattern = cache[f"{part_name}.blocks.0.attn.hook_pattern"]
        torch.testing.assert_close(pattern.sum(-1), torch.ones_like(pattern[..., 0]))
    assert not cache["text.blocks.0.attn.hook_pattern"].triu(1).any(), "a prompt is read from left to right"


def test_listening_changes_no_bit_and_leaves_no_trace() -> None:
    model, frames = tiny(), clips()
    with torch.inference_mode():
        before = model(frames, ["chop a tree"])
        loud, _ = model.run_with_cache(frames, ["chop a tree"])
        after = model(frames, ["chop a tree"])
    for name in ("video", "text", "frames", "logits"):
        assert torch.equal(getattr(before, name), getattr(loud, name)), name
        assert torch.equal(getattr(before, name), getattr(after, name)), name
    assert not model.hook_stack.listeners


@pytest.mark.parametrize("name", tiny().hook_points)
def test_a_replacement_takes_effect(name: str) -> None:
    def noise(x: torch.Tensor, hook: object) -> torch.Tensor:
        return x + torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) * (x[x.isfinite()].abs().mean() + 1)

    model, frames = tiny(), clips()
    with torch.inference_mode():
        plain = model(frames, ["chop a tree"])
        with model.hooks([(name, noise)]):
            out = model(frames, ["chop a tree"])
    which = "text" if name.startswith("text.") else "video"
    assert (getattr(out, which) - getattr(plain, which)).abs().max() > 1e-6


def test_spatial_attention_is_a_map_of_patches() -> None:
    """Attention put on one patch by hand shows at that patch's place in the picture."""
    row, column = 7, 11

    def stare(pattern: torch.Tensor, hook: object) -> torch.Tensor:
        new = torch.zeros_like(pattern)
        new[..., 1 + row * 16 + column] = 1
        return new

    model, name = tiny(), "image.blocks.0.attn.hook_pattern"
    with torch.inference_mode(), model.hooks([(name, stare)]):
        _, cache = model.run_with_cache(clips(), names_filter=name)
    maps = spatial_attention(cache[name])
    assert maps.shape == (1, 16, 1, 10, 16) == (1, 16, 1, *model.config.grid)
    assert maps[0, 0, 0].argmax() == row * 16 + column and maps.sum() == 16
    with pytest.raises(AgentError, match="161, 161"):
        spatial_attention(torch.zeros(1, 8, 16, 16))


def test_other_sizes_are_stretched_bilinearly() -> None:
    model, frames = tiny(), clips(1, 16, 4, 90, 160)
    small = torch.from_numpy(resize_clip(frames[0].numpy()))[None]
    assert small.shape == (1, 16, 160, 256, 3)
    with torch.inference_mode():
        assert torch.equal(model.encode_video(frames), model.encode_video(small))
        assert torch.equal(model.encode_video(frames.numpy()), model.encode_video(small))
    # Twice the size is two-by-two means: a bilinear sample falls between four pixels.
    double = np.random.default_rng(0).integers(0, 256, (1, 320, 512, 3), dtype=np.uint8)
    means = double.reshape(1, 160, 2, 256, 2, 3).astype(np.float64).mean((2, 4))
    assert np.abs(resize_clip(double) - means).max() <= 1


@pytest.mark.parametrize(("frames", "words"), [
    (clips(1, 15), "16 consecutive frames, got 15"), (clips(1, 17), "got 17"),
    (torch.zeros(1, 16, 160, 256, 3), "expected uint8"), (clips()[0], "expected uint8"),
    (torch.zeros(1, 0, 160, 256, 3, dtype=torch.uint8), "expected uint8"),
])
def test_clips_that_are_refused(frames: torch.Tensor, words: str) -> None:
    with pytest.raises(AgentError, match=words):
        tiny().encode_video(frames)


@pytest.mark.parametrize(("tokens", "words"), [
    (torch.zeros(1, 77), "expected int64"), (torch.zeros(1, 76, dtype=torch.int64), "int64 .n, 77."),
    (torch.full((1, 77), 49408), "from 0 to 49407"), ("tree " * 80, "80 tokens"),
])
def test_prompts_that_are_refused(tokens: torch.Tensor, words: str) -> None:
    with pytest.raises(AgentError, match=words):
        tiny().encode_text(tokens)


def test_strict_weights_and_names() -> None:
    weights = dict(tiny().state_dict())
    weights["clip_model.vision_model.cls_tokn"] = weights.pop("clip_model.vision_model.cls_token")
    with pytest.raises(WeightsError, match=r'unexpected weight "clip_model.vision_model.cls_tokn" \(nearest'):
        MineCLIP.from_released(weights, "nano")
    with pytest.raises(HookError, match="image.hook_out"):
        tiny().run_with_cache(clips(), names_filter="image.hook_outt")
    with pytest.raises(HookError, match="reached none of text.hook_out"):
        tiny().run_with_cache(clips(), names_filter="text.hook_out")
    with pytest.raises(AgentError, match="nano"):
        MineCLIP.random("nanno")


def test_a_text_is_what_its_tokens_are() -> None:
    with torch.inference_mode():
        one = tiny().encode_text(["chop a tree", "dig"])
        other = tiny().encode_text(prompt_tokens(["chop a tree", "dig"]))
        alone = tiny().encode_text("dig")
    assert torch.equal(one, other) and torch.allclose(one[1:], alone, atol=1e-6)
