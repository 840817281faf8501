"""The agent around the policy: sampling, tracing, memory, provenance."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from golden_policies import GOLDEN, TINY, filled_weights, golden

from harness.agent.action_mapping import from_policy
from harness.agent.agent import Agent
from harness.agent.vpt.agent import VPTAgent, _draw, _entropy
from harness.errors import AgentError, HookError

GLOBS = ["blocks.*.attn.hook_pattern", "blocks.1.attn.hook_k_mem", "blocks.0.hook_resid_post", "readout.attack.*",
         "hook_image", "cnn.stacks.1.hook_pool"]


def make_agent(**more: object) -> VPTAgent:
    return VPTAgent(policy_kwargs=TINY.policy_kwargs(), pi_head_kwargs=TINY.pi_head_kwargs(),
                    weights=filled_weights(TINY), weights_note={"file": "tiny"}, device="cpu", **more)  # type: ignore


def povs(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 360, 640, 3), dtype=np.uint8)


def step_through(agent: VPTAgent, frames: np.ndarray, hooks: list[str], seed: int = 1) -> list:
    state, rng, rows = agent.initial_state(), np.random.default_rng(seed), []
    for pov in frames:
        rows.append(agent.act({"pov": pov}, state, rng, hooks=agent.resolve_hooks(hooks)))
        state = rows[-1].state
    return rows


def test_one_decision() -> None:
    agent = make_agent()
    row = step_through(agent, povs(1), GLOBS)[0]
    assert isinstance(agent, Agent) and agent.torch_threads == 1
    assert row.action["camera"].dtype == np.float32 and len(row.action) == 24
    expected = from_policy(row.tokens["buttons"], row.tokens["camera"])
    assert all(np.array_equal(row.action[key], expected[key]) for key in expected)
    for head, n in (("buttons", 8641), ("camera", 121)):
        assert row.log_probs[head].shape == (n,) and row.log_probs[head].dtype == np.float32
        assert np.exp(row.log_probs[head]).sum() == pytest.approx(1, abs=1e-4)
    assert row.log_prob == pytest.approx(sum(float(row.log_probs[h][row.tokens[h]]) for h in row.tokens))
    shapes = agent.hook_shapes()
    assert list(row.activations) == agent.resolve_hooks(GLOBS)
    for name, value in row.activations.items():
        assert (np.asarray(value).shape, np.asarray(value).dtype.name) == shapes[name], name
    assert shapes["blocks.0.attn.hook_pattern"] == ((2, 6), "float32")
    assert list(shapes) == agent.policy.hook_points


def test_tracing_changes_no_decision() -> None:
    agent, frames = make_agent(), povs(4)
    quiet, loud = step_through(agent, frames, []), step_through(agent, frames, ["*"])
    for a, b in zip(quiet, loud, strict=True):
        assert a.tokens == b.tokens and a.value == b.value
        assert np.array_equal(a.log_probs["buttons"], b.log_probs["buttons"])


def test_what_was_handed_out_is_never_overwritten() -> None:
    agent, frames = make_agent(), povs(3)
    state, rng = agent.initial_state(), np.random.default_rng(0)
    first = agent.act({"pov": frames[0]}, state, rng, hooks=agent.resolve_hooks(["*"]))
    copies = {name: np.array(value) for name, value in first.activations.items()}
    state = first.state
    for pov in frames[1:]:
        state = agent.act({"pov": pov}, state, rng, hooks=agent.resolve_hooks(["*"])).state
    assert all(np.array_equal(copies[name], value) for name, value in first.activations.items())
    with pytest.raises(ValueError, match="read-only"):
        first.activations["blocks.0.attn.hook_k_mem"][:] = 0


def test_deterministic_takes_the_most_likely_and_draws_nothing() -> None:
    agent, rng = make_agent(deterministic=True), np.random.default_rng(3)
    before = rng.bit_generator.state
    row = agent.act({"pov": povs(1)[0]}, agent.initial_state(), rng)
    assert rng.bit_generator.state == before
    assert row.tokens == {head: int(row.log_probs[head].argmax()) for head in ("buttons", "camera")}


def test_the_camera_is_drawn_first() -> None:
    agent = make_agent()
    row = agent.act({"pov": povs(1)[0]}, agent.initial_state(), np.random.default_rng(8))
    rng = np.random.default_rng(8)
    camera, buttons = rng.random(121), rng.random(8641)
    assert row.tokens["camera"] == int((row.log_probs["camera"] - np.log(-np.log(camera))).argmax())
    assert row.tokens["buttons"] == int((row.log_probs["buttons"] - np.log(-np.log(buttons))).argmax())


def test_draws_follow_the_probabilities() -> None:
    log_probs = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    rng = np.random.default_rng(0)
    counts = np.bincount([_draw(log_probs, rng) for _ in range(4000)], minlength=4) / 4000
    # Four standard errors of a proportion at n = 4000 are at most 0.032.
    assert np.abs(counts - np.exp(log_probs)).max() < 0.032


def test_golden_sampling_figures() -> None:
    """Most likely tokens, log-probability of the original's draws, and entropy, from the golden log-probs."""
    figures = json.loads((GOLDEN / "golden_sampling.json").read_text())
    _, arrays = golden("vpt_tiny_mem8")
    heads = {head: arrays[f"step_{head}"][:, :20, 0] for head in ("camera", "buttons")}
    for b in range(2):
        for t in range(20):
            rows = {head: values[b, t] for head, values in heads.items()}
            assert all(_draw(rows[h], None) == figures["argmax"][h][b][t] for h in rows)
            drawn = sum(float(rows[h][figures["sample"][h][b][t]]) for h in rows)
            assert drawn == pytest.approx(figures["logprob"][b][t], abs=1e-4)
            assert sum(_entropy(row) for row in rows.values()) == pytest.approx(figures["entropy"][b][t], abs=1e-3)


@pytest.mark.parametrize("n", [1, 16, 21])
def test_trace_frames_equals_stepping(n: int) -> None:
    agent, frames = make_agent(deterministic=True), povs(n)
    hooks = agent.resolve_hooks(GLOBS)
    stepped = step_through(agent, frames, GLOBS)
    rows, state = agent.trace_frames(frames, None, hooks)
    assert len(rows) == n and rows[-1].state is state
    for a, b in zip(stepped, rows, strict=True):
        assert a.tokens == b.tokens
        assert b.value == pytest.approx(a.value, abs=1e-4) and b.entropy == pytest.approx(a.entropy, abs=1e-3)
        for head in a.log_probs:
            assert np.allclose(a.log_probs[head], b.log_probs[head], atol=2e-4, rtol=1e-4)
        for name in hooks:
            one, other = np.asarray(a.activations[name]), np.asarray(b.activations[name])
            assert one.shape == other.shape, name
            # Compare what is visible: under the mask lie keys of frames that are not there.
            assert np.allclose(one, other, atol=2e-4, rtol=1e-3), name
    for part in state.names():
        assert torch.allclose(state[part].float(), stepped[-1].state[part].float(), atol=2e-4, rtol=1e-3)


def test_trace_frames_goes_on_where_it_stopped() -> None:
    agent, frames = make_agent(), povs(7)
    whole, _ = agent.trace_frames(frames)
    head, state = agent.trace_frames(frames[:3])
    tail, _ = agent.trace_frames(frames[3:], state)
    for a, b in zip(whole, [*head, *tail], strict=True):
        assert np.allclose(a.log_probs["buttons"], b.log_probs["buttons"], atol=2e-4, rtol=1e-4)


def test_memory_through_a_snapshot() -> None:
    agent, frames = make_agent(), povs(9)
    state = step_through(agent, frames[:6], [])[-1].state
    arrays = agent.save_state(state)
    assert set(arrays) == {f"state.{i}.{part}" for i in range(2) for part in ("k", "v", "mask")}
    back = agent.load_state(arrays)
    one = agent.act({"pov": frames[7]}, state, np.random.default_rng(5))
    two = agent.act({"pov": frames[7]}, back, np.random.default_rng(5))
    assert one.tokens == two.tokens and np.array_equal(one.log_probs["buttons"], two.log_probs["buttons"])
    arrays["state.0.k"][:] = 0
    assert state["state.0.k"].any(), "the snapshot has memory of its own"


@pytest.mark.parametrize(("change", "words"), [
    ({"state.9.k": np.zeros(1)}, "state.9.k"), ({"state.0.k": None}, "lacks state.0.k"),
    ({"state.1.v": np.zeros((1, 4, 16), np.float32)}, "state.1.v: expected"),
    ({"state.1.mask": np.zeros((1, 5), np.float32)}, "state.1.mask: expected"),
])
def test_foreign_memory(change: dict, words: str) -> None:
    agent = make_agent()
    arrays = agent.save_state(agent.initial_state())
    for name, value in change.items():
        if value is None:
            del arrays[name]
        else:
            arrays[name] = value
    with pytest.raises(AgentError, match=words):
        agent.load_state(arrays)


def test_parts_of_the_memory() -> None:
    agent = make_agent()
    state = step_through(agent, povs(3), [])[-1].state
    assert state["state.0.mask"].tolist() == [[False, False, True, True, True]]
    assert state["state.0.age"].tolist() == [[5, 4, 3, 2, 1]]
    edited = state.with_parts({"state.0.mask": torch.zeros(1, 5, dtype=torch.bool)})
    assert state["state.0.mask"].any() and not edited["state.0.mask"].any() and edited["state.1.mask"].any()
    pov, rng = povs(1, 9)[0], np.random.default_rng(0)
    assert not np.array_equal(agent.act({"pov": pov}, state, rng).log_probs["buttons"],
                              agent.act({"pov": pov}, edited, rng).log_probs["buttons"])
    for name, words in (("state.0.q", "state.0"), ("state.0.age", "cannot be set")):
        with pytest.raises(AgentError, match=words):
            state.with_parts({name: torch.zeros(1, 5)})


def test_editing_hooks_reach_the_decision() -> None:
    agent, pov = make_agent(deterministic=True), povs(1)[0]
    plain = agent.act({"pov": pov}, agent.initial_state(), np.random.default_rng(0))
    with agent.hooks([("blocks.*.attn.hook_z", lambda z, hook: z * 0)]):
        changed = agent.act({"pov": pov}, agent.initial_state(), np.random.default_rng(0))
    again = agent.act({"pov": pov}, agent.initial_state(), np.random.default_rng(0))
    assert not np.array_equal(plain.log_probs["buttons"], changed.log_probs["buttons"])
    assert np.array_equal(plain.log_probs["buttons"], again.log_probs["buttons"])
    with pytest.raises(HookError, match="hook_zz"):
        agent.hooks([("hook_zz", lambda z, hook: z)])


def test_the_thread_count_is_put_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        agent, seen = make_agent(torch_threads=1), []
        with agent.hooks([("hook_embed", lambda x, h: seen.append(torch.get_num_threads()))]):
            agent.act({"pov": povs(1)[0]}, agent.initial_state(), np.random.default_rng(0))
        assert seen == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_columns_that_matter_are_enough() -> None:
    agent = VPTAgent(size="nano", random_seed=0, device="cpu")
    pov = povs(1)[0]
    full = agent.act({"pov": pov}, agent.initial_state(), np.random.default_rng(0))
    strided = agent.act({"pov": pov[:, 2::5]}, agent.initial_state(), np.random.default_rng(0))
    assert np.array_equal(full.log_probs["buttons"], strided.log_probs["buttons"])


def test_provenance() -> None:
    random = VPTAgent(size="nano", random_seed=0, device="cpu")
    said = random.provenance()
    assert said["weights"] == "random weights (seed 0)" == random.description
    assert (said["device"], said["precision"], said["torch_threads"]) == ("cpu", "float32", 1)
    assert len(said["weights_digest"]) == 64 and said["arguments"]["size"] == "nano"
    assert make_agent().provenance()["weights"] == {"file": "tiny"}
    json.dumps(said)


@pytest.mark.parametrize(("arguments", "words"), [
    ({}, "expected a size"), ({"size": "nano"}, "weights file or a random_seed, got neither"),
    ({"size": "nano", "random_seed": 0, "weights": {}}, "got both"), ({"size": "nanno", "random_seed": 0}, "nano"),
    ({"size": "nano", "random_seed": 0, "precision": "bf16"}, "bfloat16"),
    ({"size": "nano", "random_seed": 0, "torch_threads": 0}, "from 1 to 256"),
    ({"size": "nano", "random_seed": 0, "device": "gpu"}, "auto, cpu, cuda"),
    ({"size": "nano", "random_seed": 0, "policy_kwargs": {}}, "got both"),
])
def test_contradictions(arguments: dict, words: str) -> None:
    with pytest.raises(AgentError, match=words):
        VPTAgent(**arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none() -> None:
    with pytest.raises(AgentError, match="sees no CUDA device"):
        VPTAgent(size="nano", random_seed=0, device="cuda")


def test_numbers_that_are_not_finite_choose_no_action() -> None:
    agent = VPTAgent(size="nano", random_seed=0)
    with agent.hooks([("hook_embed", lambda x, hook: x + float("inf"))]), pytest.raises(AgentError, match="not finite"):
        agent.act({"pov": povs(1)[0]}, agent.initial_state(), np.random.default_rng(0))
    with pytest.raises(AgentError, match="deterministic: expected true or false, got 'no'"):
        VPTAgent(size="nano", random_seed=0, deterministic="no")  # type: ignore[arg-type]


@pytest.mark.gpu
def test_cpu_and_cuda_agree() -> None:
    """Log-probabilities, value and memory within 1e-3 over 12 steps; TF32 is off."""
    frames = povs(12)
    cpu, gpu = (VPTAgent(size="nano", random_seed=0, device=d, deterministic=True) for d in ("cpu", "cuda"))
    for a, b in zip(step_through(cpu, frames, []), step_through(gpu, frames, []), strict=True):
        assert np.abs(a.log_probs["buttons"] - b.log_probs["buttons"]).max() < 1e-3
        assert abs(a.value - b.value) < 1e-3
        for part in a.state.names():
            assert (a.state[part].float() - b.state[part].cpu().float()).abs().max() < 1e-3


@pytest.mark.gpu
def test_copies_on_their_way_are_the_activations() -> None:
    """What arrives later equals what a waiting copy brings, though the loop went on meanwhile."""
    agent, frames = VPTAgent(size="nano", random_seed=0, device="cuda"), povs(6)
    waited: list[dict[str, np.ndarray]] = []

    def wait(x: torch.Tensor, hook: object) -> None:
        waited[-1][hook.name] = x.cpu().numpy()  # type: ignore[attr-defined]

    hooks = agent.resolve_hooks(GLOBS)
    state, rng, rows = agent.initial_state(), np.random.default_rng(0), []
    for pov in frames:
        waited.append({})
        with agent.hooks([(name, wait) for name in hooks]):
            rows.append(agent.act({"pov": pov}, state, rng, hooks=hooks))
        state = rows[-1].state
    for now, row in zip(waited, rows, strict=True):
        for name, value in row.activations.items():
            assert np.array_equal(np.asarray(value).reshape(-1), now[name].reshape(-1)), name
