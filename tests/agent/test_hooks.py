"""Names, globs, the cache, and what a hook function may do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from golden_policies import TINY, tiny_policy

from harness.agent.action_mapping import BUTTON_NAMES
from harness.agent.hooks import rows_by_age
from harness.agent.vpt import SIZES
from harness.agent.vpt.hook_points import hook_points
from harness.errors import HookError

FRAMES = torch.randint(0, 256, (2, 3, *TINY.image_shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
FIRST = torch.zeros(2, 3, dtype=torch.bool)


def cached(*globs: str):  # noqa: ANN201
    policy = tiny_policy()
    with torch.inference_mode():
        return policy.run_with_cache(FRAMES, FIRST, policy.initial_state(2), list(globs))


def test_shapes_are_as_declared() -> None:
    """Every point, chunked: axes b and t as given, T = window + t, the rest as ``shape`` says."""
    _, _, cache = cached("*")
    assert list(cache) == tiny_policy().hook_points
    for name, value in cache.items():
        point = cache.point(name)
        rest = iter(point.shape)
        sizes = {"b": 2, "t": 3, "T": TINY.window + 3}
        wanted = []
        for axis in point.axes:
            if axis not in ("b", "t"):
                size = next(rest)
            wanted.append(sizes.get(axis, size if axis not in ("b", "t") else 0))
        assert tuple(value.shape) == tuple(wanted), name
        assert value.dtype == torch.float32


def test_shapes_of_the_2x_model() -> None:
    shapes = {point.name: point.shape for point in hook_points(SIZES["2x"])}
    assert shapes["hook_image"] == (128, 128, 3)
    assert shapes["cnn.stacks.0.hook_firstconv"] == (128, 128, 128)
    assert shapes["cnn.stacks.2.blocks.1.hook_resid_post"] == (256, 16, 16)
    assert shapes["cnn.hook_dense"] == (256,) and shapes["hook_embed"] == (2048,)
    assert shapes["blocks.3.attn.hook_pattern"] == (16, 129)
    assert shapes["blocks.3.attn.hook_k_mem"] == (129, 16, 128)
    assert shapes["blocks.3.attn.hook_result"] == (16, 2048)
    assert shapes["blocks.3.mlp.hook_post"] == (8192,)
    assert shapes["unembed.buttons.hook_out"] == (8641,) and shapes["readout.attack.hook_margin"] == ()


def test_globs_keep_the_order_of_the_pass() -> None:
    resolve = tiny_policy().hook_stack.resolve
    assert resolve(["blocks.1.hook_resid_post", "blocks.*.attn.hook_pattern", "hook_embed"]) == [
        "hook_embed", "blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern", "blocks.1.hook_resid_post"]
    assert resolve(["blocks.[01].hook_resid_mid"]) == [f"blocks.{i}.hook_resid_mid" for i in range(2)]
    assert len(resolve(["readout.*"])) == 20
    assert resolve([]) == []


def test_transformer_lens_3_aliases() -> None:
    resolve = tiny_policy().hook_stack.resolve
    assert resolve(["blocks.*.hook_in"]) == ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre"]
    _, _, cache = cached("blocks.0.hook_out")
    assert torch.equal(cache["blocks.0.hook_out"], cache["blocks.0.hook_resid_post"])
    assert "blocks.0.hook_out" in cache and len(cache) == 1


@pytest.mark.parametrize(("glob", "near"), [
    ("blocks.0.attn.hook_patern", "blocks.0.attn.hook_pattern"), ("blocks.*.attn.hook_patterns", "hook_pattern"),
    ("blocks.9.attn.hook_pattern", "blocks.0.attn.hook_pattern"), ("hook_embedding", "hook_embed"), ("", "docs/hooks"),
])
def test_a_glob_without_a_match_names_the_nearest(glob: str, near: str) -> None:
    policy = tiny_policy()
    with pytest.raises(HookError) as caught:
        policy.run_with_cache(FRAMES, FIRST, policy.initial_state(2), [glob])
    assert near in str(caught.value), str(caught.value)
    with pytest.raises(HookError):
        policy.hooks([(glob, lambda x, hook: None)])


def test_the_cache_says_what_it_lacks() -> None:
    _, _, cache = cached("hook_embed")
    with pytest.raises(HookError, match="was not cached"):
        cache["hook_image"]
    with pytest.raises(HookError, match="hook_embd"):
        cache["hook_embd"]
    assert cache.get("hook_image") is None and "hook_image" not in cache


def test_by_age() -> None:
    """Age 0 is the query's own frame; what is left out of the row is masked."""
    _, _, cache = cached("blocks.*.attn.hook_pattern", "hook_embed")
    pattern = cache["blocks.1.attn.hook_pattern"]
    aged = cache.by_age("blocks.1.attn.hook_pattern")
    assert isinstance(aged, torch.Tensor) and aged.shape == (2, 2, 3, TINY.window)
    for t in range(3):
        for age in range(TINY.window):
            assert torch.equal(aged[:, :, t, age], pattern[:, :, t, TINY.window + t - age])
    torch.testing.assert_close(aged.sum(-1), torch.ones(2, 2, 3))
    assert not aged[:, :, 0, 1:].any() and aged[:, :, 2, 2].all() and not aged[:, :, 2, 3:].any()
    assert sorted(cache.by_age()) == ["blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern"]
    with pytest.raises(HookError, match="expected b, h, t, T"):
        cache.by_age("hook_embed")
    one = torch.arange(6.0).view(1, 1, 1, 6)
    assert rows_by_age(one).flatten().tolist() == [5, 4, 3, 2, 1]


def test_margins_are_log_odds() -> None:
    out, _, cache = cached("readout.*")
    for column, key in enumerate(BUTTON_NAMES):
        margin = cache[f"readout.{key}.hook_margin"]
        from harness.agent.action_mapping import button_table
        chance = out.buttons.exp()[..., torch.from_numpy(button_table()[:, column] != 0)].sum(-1)
        torch.testing.assert_close(torch.sigmoid(margin), chance, atol=1e-5, rtol=1e-4)


def test_a_margin_cannot_be_replaced() -> None:
    policy = tiny_policy()
    with pytest.raises(HookError, match="read-out"), policy.hooks([("readout.use.hook_margin", lambda x, h: x + 1)]):
        policy(FRAMES, FIRST, policy.initial_state(2))


@pytest.mark.parametrize("wrong", [lambda x: x[:1], lambda x: x.double(), lambda x: 3.0])
def test_replacements_must_fit(wrong) -> None:  # noqa: ANN001
    policy = tiny_policy()
    with pytest.raises(HookError, match="hook_embed returned"), policy.hooks([("hook_embed", lambda x, h: wrong(x))]):
        policy(FRAMES, FIRST, policy.initial_state(2))


def test_later_functions_see_earlier_edits_and_the_cache_sees_them_all() -> None:
    policy, seen = tiny_policy(), []
    with policy.hooks([("hook_embed", lambda x, h: x * 0 + 1)]), policy.hooks([("hook_embed", lambda x, h: x + 1)]), \
            policy.hooks([("hook_embed", lambda x, h: seen.append((h.name, float(x.detach().mean()))))]):
        _, _, cache = policy.run_with_cache(FRAMES, FIRST, policy.initial_state(2), "hook_embed")
    assert seen == [("hook_embed", 2.0)] and (cache["hook_embed"] == 2).all()
    assert policy.hook_stack.points["blocks.1.attn.hook_z"].layer == 1
    assert policy.hook_stack.points["hook_embed"].layer is None


def test_a_replaced_scale_is_used() -> None:
    """Freezing the norm at twice its scale halves what the block sees around the norm's bias."""
    policy = tiny_policy()
    _, _, clean = cached("blocks.0.ln1.*")
    with policy.hooks([("blocks.0.ln1.hook_scale", lambda x, h: 2 * x)]), torch.inference_mode():
        _, _, cache = policy.run_with_cache(FRAMES, FIRST, policy.initial_state(2), ["blocks.0.ln1.hook_normalized"])
    bias = policy.state_dict()["net.recurrent_layer.blocks.0.pre_r_ln.bias"]
    name = "blocks.0.ln1.hook_normalized"
    torch.testing.assert_close(2 * (cache[name] - bias), clean[name] - bias, atol=1e-5, rtol=1e-5)


def test_without_a_filter_everything_but_the_shares_of_heads_is_kept() -> None:
    policy = tiny_policy()
    _, _, cache = policy.run_with_cache(FRAMES, FIRST, policy.initial_state(2))
    assert set(policy.hook_points) - set(cache) == {f"blocks.{i}.attn.hook_result" for i in range(2)}


def test_the_document_lists_exactly_the_hook_points() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "hooks.md").read_text(encoding="utf-8")
    written = set(re.findall(r"^\| `([^`]+)` \|", text, flags=re.M))
    real = {re.sub(r"\.stacks\.\d", ".stacks.{s}", re.sub(r"stacks\.(\d)\.blocks\.\d", r"stacks.\1.blocks.{k}", re.sub(
        r"^blocks\.\d", "blocks.{i}", re.sub(r"readout\.[a-z.0-9]+\.hook", "readout.{key}.hook", name))))
        for name in tiny_policy().hook_points}
    assert written == real, written ^ real
