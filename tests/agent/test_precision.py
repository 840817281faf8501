"""Half precision: what is computed in it, what stays float32, and how far off it is."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from golden_policies import TINY, filled_weights, golden_frames, golden_policy

from harness.agent.vpt import VPTPolicy
from harness.agent.vpt.agent import VPTAgent
from harness.agent.vpt.weights import EXACT, at_precision
from harness.errors import AgentError, WeightsError

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
HALVES = list(DTYPES)


def halved(policy: VPTPolicy, precision: str) -> VPTPolicy:
    return VPTPolicy.from_config(policy.config, at_precision(policy.state_dict(), precision), precision=precision)


@functools.cache
def outputs(precision: str) -> dict[str, np.ndarray]:
    """Two episodes of 12 frames through the policy of the golden files (width 64, window 128), with a reset each."""
    policy = golden_policy("vpt_tiny_mem128")
    policy = policy if precision == "float32" else halved(policy, precision)
    first = torch.zeros(2, 12, dtype=torch.bool)
    first[0, 4] = first[1, 9] = True
    with torch.inference_mode():
        out, state = policy(golden_frames()[:, :12], first, policy.initial_state(2))
    assert state.keys[0].dtype == next(policy.parameters()).dtype
    return {name: getattr(out, name).double().numpy() for name in ("buttons", "camera", "value", "latent")}


def errors(precision: str) -> dict[str, float]:
    """Of the latent relative to its size; of the action distributions in total variation; of the value absolute."""
    exact, rough = outputs("float32"), outputs(precision)
    found = {"latent": float(np.linalg.norm(rough["latent"] - exact["latent"]) / np.linalg.norm(exact["latent"])),
             "value": float(np.abs(rough["value"] - exact["value"]).max())}
    for head in ("buttons", "camera"):
        distance = 0.5 * np.abs(np.exp(rough[head]) - np.exp(exact[head])).sum(-1)
        found[head] = float(distance.max())
    return found


# Up to twice what was measured (docs/agents.md has the figures).
BOUNDS = {"bfloat16": {"latent": 0.035, "buttons": 0.013, "camera": 0.011, "value": 0.15},
          "float16": {"latent": 0.006, "buttons": 0.002, "camera": 0.002, "value": 0.02}}


@pytest.mark.parametrize("precision", HALVES)
def test_the_error_against_float32(precision: str) -> None:
    found = errors(precision)
    for name, bound in BOUNDS[precision].items():
        assert 0 < found[name] < bound, found


def test_float16_is_nearer_than_bfloat16() -> None:
    fine, coarse = errors("float16"), errors("bfloat16")
    assert all(fine[name] < coarse[name] / 2 for name in fine), (fine, coarse)


@pytest.mark.parametrize("precision", HALVES)
def test_what_stays_float32(precision: str) -> None:
    policy = halved(golden_policy("vpt_tiny_mem128"), precision)
    kinds = {name: weight.dtype for name, weight in policy.state_dict().items()}
    assert {name for name, kind in kinds.items() if kind == torch.float32} == {
        f"{EXACT}{x}" for x in ("running_mean", "running_mean_sq", "debiasing_term")}
    assert set(kinds.values()) == {torch.float32, DTYPES[precision]}
    with torch.inference_mode():
        out, _ = policy(golden_frames()[:, :2], torch.zeros(2, 2, dtype=torch.bool), policy.initial_state(2))
    assert (out.buttons.dtype, out.camera.dtype, out.value.dtype) == (torch.float32,) * 3
    assert out.latent.dtype == DTYPES[precision]
    torch.testing.assert_close(out.buttons.exp().sum(-1), torch.ones(2, 2))


@pytest.mark.parametrize("precision", HALVES)
def test_stepping_equals_the_chunk(precision: str) -> None:
    """Up to rounding, also with a memory that is masked by the finite number nearest to minus infinity."""
    policy = halved(golden_policy("vpt_tiny_mem8"), precision)
    frames, first = golden_frames()[:1, 24:36], torch.zeros(1, 12, dtype=torch.bool)
    first[0, 10] = True
    with torch.inference_mode():
        chunk, _ = policy(frames, first, policy.initial_state(1))
        state = policy.initial_state(1)
        for t in range(12):
            step, state = policy(frames[:, t:t + 1], first[:, t:t + 1], state)
            distance = 0.5 * (step.buttons.exp() - chunk.buttons[:, t:t + 1].exp()).abs().sum()
            assert torch.isfinite(step.latent).all() and distance < 0.1, (t, float(distance))


def make(precision: str, **more: Any) -> VPTAgent:
    return VPTAgent(policy_kwargs=TINY.policy_kwargs(), pi_head_kwargs=TINY.pi_head_kwargs(),
                    weights=filled_weights(TINY), device="cpu", precision=precision, **more)


@pytest.mark.parametrize("precision", HALVES)
def test_an_agent(precision: str) -> None:
    agent, rng = make(precision), np.random.default_rng(0)
    pov = rng.integers(0, 256, (360, 640, 3), dtype=np.uint8)
    state = agent.initial_state()
    for _ in range(7):
        out = agent.act({"pov": pov}, state, rng, hooks=agent.resolve_hooks(["*"]))
        state = out.state
    assert agent.provenance()["precision"] == precision
    shapes = agent.hook_shapes()
    for name, value in out.activations.items():
        array = np.asarray(value)
        assert (array.shape, str(array.dtype)) == shapes[name] and np.isfinite(array).all(), name
    arrays = agent.save_state(state)
    back = agent.load_state(arrays)
    assert {str(x.dtype) for x in arrays.values()} == {"float32", "bool"}
    for name in state.names():
        assert back[name].dtype == state[name].dtype and torch.equal(back[name], state[name]), name
    again = agent.act({"pov": pov}, back, np.random.default_rng(1))
    assert np.array_equal(again.log_probs["buttons"],
                          agent.act({"pov": pov}, state, np.random.default_rng(1)).log_probs["buttons"])
    assert agent.weights_digest() != make("float32").weights_digest()


def test_random_weights_in_half_precision() -> None:
    agent = VPTAgent(size="nano", random_seed=0, device="cpu", precision="float16")
    assert agent.description == "random weights (seed 0)"
    assert agent.policy.state_dict()["net.lastlayer.layer.weight"].dtype == torch.float16


def test_what_is_refused() -> None:
    with pytest.raises(AgentError, match="precision: expected float32, bfloat16, float16, got 'half'"):
        make("half")
    with pytest.raises(WeightsError, match="expected bfloat16"):
        VPTPolicy.from_config(TINY, filled_weights(TINY), precision="bfloat16")
    huge = filled_weights(TINY) | {"net.final_ln.weight": torch.full((16,), 1e6)}
    with pytest.raises(WeightsError, match=r"net.final_ln.weight: expected finite numbers"):
        VPTAgent(policy_kwargs=TINY.policy_kwargs(), pi_head_kwargs=TINY.pi_head_kwargs(), weights=huge, device="cpu",
                 precision="float16")
