"""CLIP against transformers' numbers, its files, its pictures, its hook points."""

from __future__ import annotations

import functools
import importlib.util
import json
import pickle
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_reference import NANO, PROMPTS, configuration, filled, hf_shapes, in_short, pictures, reference
from golden_policies import GOLDEN
from safetensors.torch import save_file

from harness.agent.clip import (
    CLIP,
    CLIP_SIZES,
    CLIPConfig,
    ImageTokens,
    Tower,
    fit_picture,
    load_clip,
    prompt_tokens,
)
from harness.agent.clip.files import clip_of
from harness.agent.clip.model import plain_random_weights
from harness.agent.weights_file import read_torchscript, read_weights_file
from harness.errors import AgentError, HookError, WeightsError

TIGHT = {"atol": 1e-5, "rtol": 1e-5}


@functools.cache
def weights() -> dict[str, torch.Tensor]:
    return filled(NANO)


def ours(model: CLIP, shown: np.ndarray) -> dict[str, torch.Tensor]:
    """Every number of ``reference``, as ours has it."""
    with torch.inference_mode():
        out, cache = model.run_with_cache(shown, PROMPTS)
    found = {"logits": out.logits, "logit_scale": model.logit_scale, "image.projected": cache["image.hook_out"],
             "text.projected": cache["text.hook_out"], "image.pooled": cache["image.ln_final.hook_normalized"]}
    ends = prompt_tokens(PROMPTS).argmax(-1)
    found["text.pooled"] = cache["text.ln_final.hook_normalized"][torch.arange(len(ends)), ends]
    for part, tower in (("image", model.config.image), ("text", model.config.text)):
        found[f"{part}.hidden.0"] = cache[f"{part}.blocks.0.hook_resid_pre"]
        for i in range(tower.n_blocks):
            found[f"{part}.hidden.{i + 1}"] = cache[f"{part}.blocks.{i}.hook_resid_post"]
            found[f"{part}.pattern.{i}"] = cache[f"{part}.blocks.{i}.attn.hook_pattern"]
    return found


def folder(path: Path, config: CLIPConfig = NANO, **changes: Any) -> Path:
    """A folder as Hugging Face's hub has them."""
    save_file({**weights(), **changes}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(configuration(config)))
    return path


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_golden_numbers_of_transformers(tmp_path: Path, activation: Any) -> None:
    config = replace(NANO, activation=activation)
    found = ours(load_clip(folder(tmp_path, config)), pictures(2, config))
    with np.load(GOLDEN / "golden_clip_nano.npz", allow_pickle=False) as kept:
        golden = {name.removeprefix(activation + "."): kept[name] for name in kept if name.startswith(activation + ".")}
    assert golden.keys() == found.keys() and len(golden) == 16
    for name, value in golden.items():
        torch.testing.assert_close(in_short(name, found[name]), torch.from_numpy(value), **TIGHT,
                                   msg=lambda m, n=name: f"{n}: {m}")


HAS_TRANSFORMERS = importlib.util.find_spec("transformers") is not None
needs_transformers = pytest.mark.skipif(
    not HAS_TRANSFORMERS, reason="transformers is not installed: pip install --target FOLDER transformers, and FOLDER "
                                 "on PYTHONPATH")


@needs_transformers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", ["nano", pytest.param("ViT-B/32", marks=pytest.mark.slow),
                                  pytest.param("ViT-B/16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_transformers_on_random_weights(size: str, activation: Any) -> None:
    config = replace(CLIP_SIZES[size], activation=activation)
    drawn = plain_random_weights(hf_shapes(config), 3)
    shown = pictures(2, config)
    theirs = reference(config, drawn, shown)
    found = ours(clip_of(drawn, config), shown)
    assert theirs.keys() == found.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(found[name], value, **TIGHT, msg=lambda m, n=name: f"{n}: {m}")


# --- files ---------------------------------------------------------------------------------------------------------

def openai(hf: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Hugging Face's tensors under OpenAI's names: a second table, written independently of the loader's."""
    out = {"logit_scale": hf["logit_scale"]}
    for theirs, name in (
            ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
            ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
            ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
            ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
            ("positional_embedding", "text_model.embeddings.position_embedding.weight")):
        out[theirs] = hf[name]
    out["visual.proj"] = hf["visual_projection.weight"].T.contiguous()
    out["text_projection"] = hf["text_projection.weight"].T.contiguous()
    for kind in ("weight", "bias"):
        out[f"visual.ln_pre.{kind}"] = hf[f"vision_model.pre_layrnorm.{kind}"]
        out[f"visual.ln_post.{kind}"] = hf[f"vision_model.post_layernorm.{kind}"]
        out[f"ln_final.{kind}"] = hf[f"text_model.final_layer_norm.{kind}"]
        for to, at in (("visual.transformer", "vision_model"), ("transformer", "text_model")):
            for i in range(2):
                old, new = f"{at}.encoder.layers.{i}.", f"{to}.resblocks.{i}."
                out[f"{new}attn.in_proj_{kind}"] = torch.cat([hf[f"{old}self_attn.{x}_proj.{kind}"] for x in "qkv"])
                for a, b in (("attn.out_proj", "self_attn.out_proj"), ("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"),
                             ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2")):
                    out[f"{new}{a}.{kind}"] = hf[f"{old}{b}.{kind}"]
    return out


class Node(torch.nn.Module):
    """A tree of tensors that can be traced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def archive(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """A TorchScript archive with these parameters, as OpenAI's are: half precision, sizes as buffers."""
    root = Node()
    for name, tensor in tensors.items():
        at = root
        *parents, last = name.split(".")
        for part in parents:
            if part not in dict(at.named_children()):
                at.add_module(part, Node())
            at = at.get_submodule(part)
        at.register_parameter(last, torch.nn.Parameter(tensor.half(), requires_grad=False))
    for name, number in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 49408)):
        root.register_buffer(name, torch.tensor(number))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(root, torch.ones(1)).save(str(path))
    return path


def same(one: CLIP, two: CLIP) -> bool:
    first, second = one.state_dict(), two.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_one_model_in_three_layouts(tmp_path: Path) -> None:
    """Hugging Face's, OpenCLIP's and OpenAI's files of the same numbers are the same model."""
    hf = load_clip(folder(tmp_path))
    torch.save({"text_model.embeddings.position_ids": torch.arange(77)[None], **weights()},
               tmp_path / "pytorch_model.bin")
    assert same(load_clip(tmp_path / "pytorch_model.bin"), hf)

    other = tmp_path / "open_clip"
    other.mkdir()
    torch.save(openai(weights()), other / "open_clip_pytorch_model.bin")
    model = {"embed_dim": 32, "quick_gelu": True,
             "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
             "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}}
    told = {"model_cfg": model, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}}
    (other / "open_clip_config.json").write_text(json.dumps(told))
    loaded = load_clip(other)
    assert same(loaded, hf)
    assert loaded.config == replace(NANO, pixel_mean=(0.5, 0.5, 0.5), pixel_std=(0.25, 0.25, 0.25))
    del model["quick_gelu"]  # OpenCLIP's own default
    (other / "open_clip_config.json").write_text(json.dumps(told))
    assert load_clip(other).config.activation == "gelu"

    halved = load_clip(archive(tmp_path / "nano.pt", openai(weights())), activation="quick_gelu")
    assert halved.config == NANO
    for name, value in hf.state_dict().items():
        assert torch.equal(halved.state_dict()[name], value.half().float()), name


def test_an_archive_is_read_without_running_it(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.pt", openai(weights()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = torch.jit.load(str(path)).state_dict()
    found = read_torchscript(path)
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)
    with pytest.raises(WeightsError, match="compressed|TorchScript program"):
        read_weights_file(path)
    raw = path.read_bytes()
    (tmp_path / "cut.pt").write_bytes(raw[:len(raw) // 2])
    with pytest.raises(WeightsError, match="without running code"):
        load_clip(tmp_path / "cut.pt", activation="gelu")


class Evil:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("evil-was-here"),)


@pytest.mark.parametrize(("program", "words"), [
    (pickle.dumps(Evil(), 2), "it asks for"),
    (pickle.dumps({"a": 1}, 2), "expected a module"),
    (b"\x80\x02c__torch__\nA\n)\x81}X\x01\x00\x00\x00wK\x01sb.", "no tensors"),
])
def test_hostile_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: bytes, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as made:
        made.writestr("x/data.pkl", program)
        made.writestr("x/code/__torch__.py", "import os")
    with pytest.raises(WeightsError, match=words):
        load_clip("x.pt", activation="gelu")
    assert not Path("evil-was-here").exists()


def test_a_tensor_larger_than_its_bytes(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.pt", {"w": torch.ones(4, 4)})
    with zipfile.ZipFile(path) as opened, zipfile.ZipFile(tmp_path / "y.pt", "w") as made:
        for entry in opened.infolist():
            short = entry.filename.endswith("data/0")
            made.writestr(entry.filename, b"12" if short else opened.read(entry))
    with pytest.raises(WeightsError, match="w: claims|and the file holds"):
        read_torchscript(tmp_path / "y.pt")


def test_what_is_not_told_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "alone.safetensors"
    save_file(weights(), path)
    with pytest.raises(AgentError, match="which activation") as told:
        load_clip(path)
    assert "laion" in str(told.value)
    assert load_clip(path, activation="gelu").config == replace(NANO, activation="gelu")
    with pytest.raises(AgentError, match='unknown activation "relu"'):
        load_clip(path, activation="relu")
    with pytest.raises(AgentError, match="says quick_gelu, and you say gelu"):
        load_clip(folder(tmp_path), activation="gelu")
    with pytest.raises(AgentError, match="other sizes than you"):
        load_clip(tmp_path, size="ViT-B/32")
    other = hf_shapes(replace(NANO, image=Tower(64, 3, 32)))
    save_file(plain_random_weights(other, 0), path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(AgentError, match="no known size"):
        load_clip(path, activation="gelu")


@pytest.mark.parametrize(("change", "words"), [
    ({"vision_model.post_layernorm.bias": None}, 'missing weight "vision_model.post_layernorm.bias"'),
    ({"vision_model.post_layernorm.bais": torch.zeros(64)}, "nearest: vision_model.post_layernorm.bias"),
    ({"visual_projection.weight": torch.zeros(64, 32)}, r"visual_projection.weight: expected float32 \[32, 64\]"),
    ({"logit_scale": torch.tensor(float("nan"))}, "finite"),
])
def test_weights_that_do_not_fit(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    changed = {name: value for name, value in {**weights(), **change}.items() if value is not None}
    save_file(changed, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(configuration(NANO)))
    with pytest.raises(WeightsError, match=words):
        load_clip(tmp_path)


@pytest.mark.parametrize(("change", "words"), [
    ({"model_type": "siglip"}, "model_type: expected 'clip', got 'siglip'"),
    ({"vision_config": {"hidden_size": "64"}}, "hidden_size: expected a whole number"),
    ({"vision_config": {"hidden_act": "relu"}}, "hidden_act"),
    ({"vision_config": 3}, "vision_config: expected an object"),
    ({"text_config": {"layer_norm_eps": 1e-6}}, "layer_norm_eps"),
    ({"projection_dim": -1}, "projection_dim"),
])
def test_configurations_that_do_not_fit(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    told = configuration(NANO)
    for key, value in change.items():
        told[key] = {**told[key], **value} if isinstance(value, dict) else value
    folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(told))
    with pytest.raises(AgentError, match=words):
        load_clip(tmp_path)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights of CLIP"):
        load_clip(tmp_path)
    with pytest.raises(WeightsError, match="no weights file"):
        load_clip(tmp_path / "nothing.pt")
    save_file({"conv1.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(AgentError, match="no configuration in JSON"):
        load_clip(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(WeightsError, match="names weights like this: conv1.weight"):
        load_clip(tmp_path)


# --- pictures, tokens, hooks ---------------------------------------------------------------------------------------

@pytest.mark.parametrize(("height", "width"), [(300, 451), (500, 224), (100, 180), (225, 224)])
def test_pictures_as_pillow_resizes_them(height: int, width: int) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    rng = np.random.default_rng(height)
    shown = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    short = min(height, width)
    new = (224 * height // short, 224 * width // short)
    resized = np.asarray(image.fromarray(shown).resize(new[::-1], image.Resampling.BICUBIC)).astype(int)
    top, left = round((new[0] - 224) / 2), round((new[1] - 224) / 2)
    ours_ = fit_picture(shown).astype(int)
    assert ours_.shape == (224, 224, 3)
    apart = np.abs(ours_ - resized[top:top + 224, left:left + 224])
    # Noise is the worst there is; Pillow rounds in between in another way.
    assert apart.max() <= 2 and (apart > 1).mean() < 1e-4 and apart.mean() < 0.02


def test_pictures_that_are_none() -> None:
    right = np.zeros((224, 224, 3), np.uint8)
    assert fit_picture(right) is right
    for wrong in (right.astype(np.float32), right[..., 0], right[:0]):
        with pytest.raises(AgentError, match="expected uint8"):
            fit_picture(wrong)
    with pytest.raises(AgentError, match="50 times"):
        fit_picture(np.zeros((1, 60, 3), np.uint8))
    with pytest.raises(AgentError, match="squares"):
        fit_picture(right, (160, 256))
    with pytest.raises(AgentError, match=r"pictures: expected uint8 \[b, H, W, 3\]"):
        CLIP.random().encode_image(right)


def test_image_tokens() -> None:
    tokens = ImageTokens((2, 3))
    assert tokens.kinds == ("cls", *["patch"] * 6) and tokens.n == 7
    assert tokens.rows.tolist() == [-1, 0, 0, 0, 1, 1, 1] and tokens.columns.tolist() == [-1, 0, 1, 2, 0, 1, 2]
    assert tokens.picture(np.arange(7)).tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(AgentError, match="7 tokens"):
        tokens.picture(np.arange(6))
    with pytest.raises(AgentError, match='unknown set of tokens "clas"'):
        ImageTokens.places("clas")  # type: ignore[arg-type]
    assert CLIP_SIZES["ViT-B/32"].n_image_tokens == 50 and CLIP_SIZES["ViT-B/16"].n_image_tokens == 197
    assert CLIP.random().image_tokens.grid == (4, 4)


def test_hook_points_have_the_shapes_they_announce() -> None:
    model = CLIP.random("nano", seed=2)
    out, cache = model.run_with_cache(pictures(3, NANO), ["a cat", "a dog"])
    assert list(cache) == model.hook_points and out.logits is not None and out.logits.shape == (3, 2)
    for name, value in cache.items():
        assert value.shape == (3 if name.startswith("image.") else 2, *cache.point(name).shape), name
        assert len(cache.point(name).axes) == value.ndim
    assert cache.point("image.blocks.1.hook_resid_mid").layer == 1
    with pytest.raises(HookError, match="reached none"):
        model.run_with_cache(pictures(1, NANO), names_filter="text.*")


def test_an_edit_at_the_class_token_changes_what_comes_after_it_only() -> None:
    model = CLIP.random("nano", seed=2)
    shown = pictures(2, NANO)
    out, clean = model.run_with_cache(shown)

    def silence(x: torch.Tensor, hook: Any) -> torch.Tensor:
        x = x.clone()
        x[:, 0] = 0
        return x

    with model.hooks([("image.blocks.0.hook_resid_post", silence)]):
        changed, edited = model.run_with_cache(shown)
    assert torch.equal(clean["image.blocks.0.hook_resid_mid"], edited["image.blocks.0.hook_resid_mid"])
    assert out.image is not None and changed.image is not None and not torch.allclose(out.image, changed.image)
    assert torch.equal(model.encode_image(shown), out.image)


def test_class_embeddings_are_means_of_unit_prompts() -> None:
    model = CLIP.random("nano", seed=2)
    found = model.class_embeddings([["a cat", "one cat"], ["a dog"]])
    one = torch.nn.functional.normalize(model.encode_text(["a cat", "one cat"]), dim=-1).mean(0)
    torch.testing.assert_close(found[0], one / one.norm())
    assert torch.allclose(found.norm(dim=-1), torch.ones(2))
    with pytest.raises(AgentError, match="for each class"):
        model.class_embeddings([["a cat"], []])


def test_random_weights_say_so_and_come_again() -> None:
    assert "random weights" in CLIP.random("nano", seed=1).description
    assert same(CLIP.random("nano", seed=1), CLIP.random("nano", seed=1))
    with pytest.raises(AgentError, match='unknown CLIP size "ViT-B/23"'):
        CLIP.random("ViT-B/23")
