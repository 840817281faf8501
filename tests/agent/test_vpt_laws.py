"""Laws of the policy: chunked = stepped, looking does not touch, leaving hooks leaves no trace."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from golden_policies import TINY, exact_policy, golden_frames, golden_policy, tiny_policy
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.hooks import ActivationCache
from harness.agent.vpt import VPTOutput, VPTState
from harness.errors import HookError

TIME_FIRST = [name for name, point in tiny_policy().hook_stack.points.items() if "T" not in point.axes]
ATTENTION = [f"blocks.{i}.attn.{x}" for i in range(2) for x in ("hook_pattern", "hook_rel_bias", "hook_attn_scores")]


def pictures(seed: int, b: int, t: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (b, t, *TINY.image_shape), dtype=np.uint8))


def run_in(lengths: list[int], frames: torch.Tensor, first: torch.Tensor
           ) -> tuple[list[VPTOutput], list[ActivationCache], VPTState]:
    policy, outs, caches, start = exact_policy(), [], [], 0
    state = policy.initial_state(frames.shape[0])
    with torch.inference_mode():
        for length in lengths:
            part = slice(start, start + length)
            out, state, cache = policy.run_with_cache(frames[:, part], first[:, part], state)
            outs.append(out)
            caches.append(cache)
            start += length
    return outs, caches, state


@st.composite
def videos(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    b, t = draw(st.integers(1, 2)), sum(lengths)
    first = draw(st.lists(st.lists(st.booleans(), min_size=t, max_size=t), min_size=b, max_size=b))
    sparse = torch.tensor(first) & (torch.arange(t) % draw(st.integers(1, 4)) == 0)
    return pictures(draw(st.integers(0, 99)), b, t), sparse, lengths


@given(videos())
@settings(max_examples=25, deadline=None)
def test_chunked_is_stepped(video: tuple[torch.Tensor, torch.Tensor, list[int]]) -> None:
    """Outputs, memory and cache, with episodes that start anywhere and chunks longer than the window."""
    frames, first, lengths = video
    outs, caches, state = run_in(lengths, frames, first)
    one_outs, one_caches, one_state = run_in([1] * sum(lengths), frames, first)
    for name in ("buttons", "camera", "value", "latent"):
        whole = torch.cat([getattr(out, name) for out in outs], 1)
        steps = torch.cat([getattr(out, name) for out in one_outs], 1)
        torch.testing.assert_close(whole, steps, atol=1e-9, rtol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
    for name in TIME_FIRST:
        if name.endswith("hook_result"):
            continue
        whole, steps = torch.cat([c[name] for c in caches], 1), torch.cat([c[name] for c in one_caches], 1)
        torch.testing.assert_close(whole, steps, atol=1e-9, rtol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
    for name in ATTENTION:
        whole = torch.cat([c.by_age(name) for c in caches], 2)
        steps = torch.cat([c.by_age(name) for c in one_caches], 2)
        seen = whole > -1e8
        assert torch.equal(seen, steps > -1e8), name
        torch.testing.assert_close(whole[seen], steps[seen], atol=1e-9, rtol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
    for part in state.names():
        torch.testing.assert_close(state[part], one_state[part], atol=1e-9, rtol=1e-9)


@given(videos())
@settings(max_examples=15, deadline=None)
def test_nothing_before_the_first_frame_is_seen(video: tuple[torch.Tensor, torch.Tensor, list[int]]) -> None:
    """Later outputs are those of an episode that began there, whatever came before."""
    frames, first, _ = video
    t = frames.shape[1]
    start = t // 2
    first = first.clone()
    first[:, start] = True
    first[:, start + 1:] = False
    whole, _, _ = run_in([t], frames, first)
    alone, _, _ = run_in([t - start], frames[:, start:], torch.zeros_like(first[:, start:]))
    torch.testing.assert_close(whole[0].latent[:, start:], alone[0].latent, atol=1e-9, rtol=1e-9)


@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_memory_comes_back_from_arrays(seed: int) -> None:
    frames = pictures(seed, 2, 8)
    first = torch.zeros(2, 8, dtype=torch.bool)
    first[1, 3] = True
    with torch.inference_mode():
        _, state = tiny_policy()(frames, first, tiny_policy().initial_state(2))
    back = VPTState.from_arrays(state.to_arrays(), TINY)
    for part in state.names():
        assert torch.equal(state[part], back[part])
    with torch.inference_mode():
        one, _ = tiny_policy()(frames[:, :1], first[:, :1], state)
        two, _ = tiny_policy()(frames[:, :1], first[:, :1], back)
    assert torch.equal(one.buttons, two.buttons)


def test_memory_is_never_changed_in_place() -> None:
    policy, frames, first = tiny_policy(), pictures(0, 1, 7), torch.zeros(1, 7, dtype=torch.bool)
    with torch.inference_mode():
        _, state = policy(frames, first, policy.initial_state(1))
        before = {name: array.copy() for name, array in state.to_arrays().items()}
        policy(frames, ~first, state)
    for name, array in state.to_arrays().items():
        assert np.array_equal(array, before[name]), name


def test_listening_changes_no_bit() -> None:
    """Every point listened to, hook_result too: the outputs are the same bytes."""
    policy, frames = golden_policy("vpt_tiny_mem8"), golden_frames()[:, :1]
    first = torch.zeros(2, 1, dtype=torch.bool)
    with torch.inference_mode():
        _, state = policy(golden_frames()[:, 1:2], first, policy.initial_state(2))
        quiet, after = policy(frames, first, state)
        loud, after_loud, cache = policy.run_with_cache(frames, first, state, policy.hook_points)
    assert list(cache) == policy.hook_points
    for name in ("buttons", "camera", "value", "latent"):
        assert torch.equal(getattr(quiet, name), getattr(loud, name)), name
    for part in after.names():
        assert torch.equal(after[part], after_loud[part]), part


def zero(x: torch.Tensor, hook: object) -> torch.Tensor:
    return torch.zeros_like(x)


@given(st.lists(st.sampled_from(["blocks.*.attn.hook_z", "hook_embed", "blocks.1.hook_out", "*hook_rel_bias"]),
                max_size=4))
@settings(max_examples=20, deadline=None)
def test_entering_and_leaving_leaves_the_policy_untouched(globs: list[str]) -> None:
    policy, frames, first = tiny_policy(), pictures(3, 1, 3), torch.zeros(1, 3, dtype=torch.bool)
    weights = copy.deepcopy(policy.state_dict())
    with torch.inference_mode():
        before, _ = policy(frames, first, policy.initial_state(1))
        with contextlib.ExitStack() as stack:
            for glob in globs:
                stack.enter_context(policy.hooks(fwd_hooks=[(glob, zero)]))
            policy(frames, first, policy.initial_state(1))
        after, _ = policy(frames, first, policy.initial_state(1))
    assert torch.equal(before.buttons, after.buttons) and torch.equal(before.value, after.value)
    assert not policy.hook_stack.listeners and policy.hook_stack.depth == 0
    assert all(torch.equal(weights[name], weight) for name, weight in policy.state_dict().items())


def test_hooks_are_left_even_when_the_block_fails() -> None:
    policy = tiny_policy()
    with pytest.raises(RuntimeError, match="stop"), policy.hooks([("hook_embed", zero)]):
        raise RuntimeError("stop")
    assert not policy.hook_stack.listeners


def test_leaving_out_of_order_raises() -> None:
    policy = tiny_policy()
    outer, inner = policy.hooks([("hook_embed", zero)]), policy.hooks([("hook_latent_pre", zero)])
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(HookError, match="another order"):
        outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)
    outer.__exit__(None, None, None)
    assert policy.hook_stack.depth == 0


REPLACEABLE = [name for name, point in tiny_policy().hook_stack.points.items() if not point.derived]


@pytest.mark.parametrize("name", REPLACEABLE)
def test_a_replacement_takes_effect_downstream(name: str) -> None:
    """Random numbers put in at any point change an output, and the points before it stay as they were."""
    policy, frames, first = tiny_policy(), pictures(5, 2, 3), torch.zeros(2, 3, dtype=torch.bool)
    noise: Callable[..., torch.Tensor] = lambda x, hook: x + torch.rand(  # noqa: E731
        x.shape, generator=torch.Generator().manual_seed(1)) * (x.abs().mean() + 1)
    with torch.inference_mode():
        plain, _, clean = policy.run_with_cache(frames, first, policy.initial_state(2))
        with policy.hooks([(name, noise)]):
            out, _, cache = policy.run_with_cache(frames, first, policy.initial_state(2))
    changed = {"value.hook_out": "value", "unembed.camera.hook_out": "camera"}.get(name, "buttons")
    assert (getattr(out, changed) - getattr(plain, changed)).abs().max() > 1e-5, name
    order = policy.hook_points
    for earlier in order[:order.index(name)]:
        if earlier in clean and not earlier.endswith("attn.hook_result"):
            assert torch.equal(clean[earlier], cache[earlier]), earlier


def test_key_and_value_edits_go_into_memory_and_read_side_edits_do_not() -> None:
    policy, frames, first = tiny_policy(), pictures(6, 1, 1), torch.zeros(1, 1, dtype=torch.bool)
    with torch.inference_mode():
        _, clean = policy(frames, first, policy.initial_state(1))
        with policy.hooks([("blocks.0.attn.hook_k", zero), ("blocks.0.attn.hook_v", zero)]):
            _, written = policy(frames, first, policy.initial_state(1))
        with policy.hooks([("blocks.1.attn.hook_k_mem", zero), ("blocks.1.attn.hook_v_mem", zero)]):
            _, read = policy(frames, first, policy.initial_state(1))
    assert clean["state.0.k"][0, -1].abs().max() > 0
    assert not written["state.0.k"][0, -1].any() and not written["state.0.v"][0, -1].any()
    assert all(torch.equal(clean[part], read[part]) for part in clean.names())


def test_identities_of_the_residual_stream() -> None:
    """resid_mid = LN(resid_pre) + attn_out; resid_post = resid_mid + mlp_out; results sum to attn_out."""
    policy, frames, first = tiny_policy(), pictures(7, 2, 4), torch.zeros(2, 4, dtype=torch.bool)
    with torch.inference_mode():
        _, _, cache = policy.run_with_cache(frames, first, policy.initial_state(2), ["*"])
    for i in range(2):
        at = f"blocks.{i}."
        middle = cache[at + "ln1.hook_normalized"] + cache[at + "hook_attn_out"]
        assert torch.equal(cache[at + "hook_resid_mid"], middle)
        assert torch.equal(cache[at + "hook_resid_post"], cache[at + "hook_resid_mid"] + cache[at + "hook_mlp_out"])
        bias = policy.state_dict()[f"net.recurrent_layer.blocks.{i}.r.orc_block.proj_layer.bias"]
        total = cache[at + "attn.hook_result"].sum(2) + bias
        torch.testing.assert_close(total, cache[at + "hook_attn_out"], atol=1e-5, rtol=1e-5)
        x = cache[at + "hook_resid_pre"]
        scale = cache[at + "ln1.hook_scale"]
        torch.testing.assert_close(scale, (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt())
        torch.testing.assert_close(cache[at + "attn.hook_pattern"].sum(-1), torch.ones(2, 2, 4))
