"""STEVE-1 as an agent: goals, guidance, rows by name, memory, and everything a VPT agent must keep to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from golden_policies import TINY
from safetensors.numpy import save_file
from test_vpt_agent import povs, step_through

from harness.agent.ahead import AheadAgent
from harness.agent.load import load_agent
from harness.agent.mineclip import MineCLIP, prompt_tokens, resize_clip
from harness.agent.steve import Prior, StevePolicy
from harness.agent.steve.agent import SteveAgent
from harness.agent.steve.state import SteveState
from harness.agent.vpt.policy import expected_shapes
from harness.agent.vpt.weights import random_weights
from harness.errors import AgentError, HookError, VideoError, WeightsError
from harness.intervention import ZeroAblation

GLOBS = ["blocks.*.attn.hook_pattern", "hook_embed", "hook_goal_embed", "readout.attack.*", "guided.readout.attack.*"]
GOAL = np.random.default_rng(5).standard_normal(512).astype(np.float32)


def make_agent(**more: Any) -> SteveAgent:
    return SteveAgent(policy_kwargs=TINY.policy_kwargs(), pi_head_kwargs=TINY.pi_head_kwargs(), random_seed=3,
                      device="cpu", **more)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Twenty pictures of 320 x 180, each its own shade."""
    path = tmp_path / "goal.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=20)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "bgr0"
        for i in range(20):
            picture = np.full((180, 320, 3), 10 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_prompt_becomes_a_goal() -> None:
    """By hand: text tower, z from the agent's stream, prior, policy with guidance 6."""
    agent, pov = make_agent(prompt="Chop  a tree"), povs(1)[0]
    assert agent.cond_scale == 6.0 and agent.rows == ("cond", "uncond")
    state = agent.initial_state()
    assert state.goals == (None,) and state.batch_size == 2
    row = agent.act({"pov": pov}, state, np.random.default_rng(4))
    rng = np.random.default_rng(4)
    z = torch.from_numpy(rng.standard_normal(512, dtype=np.float32))[None]
    with torch.inference_mode():
        text = MineCLIP.random("nano", 3).encode_text(torch.from_numpy(prompt_tokens("chop a tree")))
        goal = Prior.random(3)(text, z)
    assert torch.equal(row.state.goals[0], goal[0])
    camera, buttons = rng.random(121), rng.random(8641)
    assert row.tokens == {"camera": int((row.log_probs["camera"] - np.log(-np.log(camera))).argmax()),
                          "buttons": int((row.log_probs["buttons"] - np.log(-np.log(buttons))).argmax())}
    with torch.inference_mode():
        frame = torch.from_numpy(resize_clip(pov[None], (16, 16)))[None]
        out, _ = agent.policy(frame, torch.zeros(1, 1, dtype=torch.bool), agent.policy.initial_state(1, guided=True),
                              goal, 6.0)
    mixed = 7 * out.by_row["cond"].buttons - 6 * out.by_row["uncond"].buttons
    assert np.allclose(row.log_probs["buttons"], mixed.log_softmax(-1)[0, 0], atol=1e-4)
    assert np.exp(row.log_probs["buttons"].astype(np.float64)).sum() == pytest.approx(1, abs=1e-4)
    assert row.value == pytest.approx(float(out.by_row["cond"].value))
    assert row.log_prob == pytest.approx(sum(float(row.log_probs[h][row.tokens[h]]) for h in row.tokens))


def test_the_goal_is_drawn_once_an_episode() -> None:
    agent, frames = make_agent(prompt="chop a tree"), povs(3)
    one, two = step_through(agent, frames, [], seed=1), step_through(agent, frames, [], seed=2)
    for rows in (one, two):
        assert all(torch.equal(row.state.goals[0], rows[0].state.goals[0]) for row in rows)
    assert not torch.equal(one[0].state.goals[0], two[0].state.goals[0])
    mean = make_agent(prompt="chop a tree", deterministic_prior=True)
    assert torch.equal(mean.initial_state().goals[0], mean.initial_state().goals[0])
    again = [a.tokens for a in step_through(agent, frames, [], seed=1)]
    assert again == [a.tokens for a in one]


def test_deterministic_draws_nothing() -> None:
    agent, rng = make_agent(prompt="chop a tree", deterministic=True), np.random.default_rng(3)
    before = rng.bit_generator.state
    row = agent.act({"pov": povs(1)[0]}, agent.initial_state(), rng)
    assert rng.bit_generator.state == before
    assert row.tokens == {head: int(row.log_probs[head].argmax()) for head in ("buttons", "camera")}


def test_prompts_make_a_difference_and_scale_0_makes_none() -> None:
    pov, rng = povs(1)[0], np.random.default_rng
    first = {}
    for name, arguments in {"tree": {"prompt": "chop a tree"}, "swim": {"prompt": "swim"},
                            "tree0": {"prompt": "chop a tree", "cond_scale": 0},
                            "tree-none": {"prompt": "chop a tree", "cond_scale": "none"}, "none": {}}.items():
        agent = make_agent(deterministic=True, **arguments)
        first[name] = agent.act({"pov": pov}, agent.initial_state(), rng(0)).log_probs["buttons"]
    assert np.abs(first["tree"] - first["swim"]).max() > 1e-3
    assert np.abs(first["tree"] - first["tree-none"]).max() > 1e-3
    assert np.abs(first["tree0"] - first["tree-none"]).max() < 1e-4
    assert np.abs(first["none"] - first["tree-none"]).max() > 1e-3


def test_rows_by_name() -> None:
    agent = make_agent(prompt="chop a tree")
    names = agent.resolve_hooks(GLOBS)
    assert names == ["hook_embed", "cond.hook_goal_embed", "uncond.hook_goal_embed",
                     "cond.blocks.0.attn.hook_pattern", "uncond.blocks.0.attn.hook_pattern",
                     "cond.blocks.1.attn.hook_pattern", "uncond.blocks.1.attn.hook_pattern",
                     "cond.readout.attack.hook_margin", "uncond.readout.attack.hook_margin",
                     "guided.readout.attack.hook_margin"]
    assert agent.resolve_hooks(["cond.blocks.*.attn.hook_pattern"]) == [n for n in names if n.startswith("cond.b")]
    shapes = agent.hook_shapes()
    rows = step_through(agent, povs(2), ["*"])
    assert list(rows[0].activations) == list(shapes)
    for name, value in rows[1].activations.items():
        assert (np.asarray(value).shape, np.asarray(value).dtype.name) == shapes[name], name
    seen = {name: np.asarray(value) for name, value in rows[1].activations.items()}
    bias = agent.policy.state_dict()["net.mineclip_embed_linear.bias"].numpy()
    assert np.array_equal(seen["uncond.hook_goal_embed"], bias)
    weight = agent.policy.state_dict()["net.mineclip_embed_linear.weight"].numpy()
    assert np.allclose(seen["cond.hook_goal_embed"], weight @ rows[0].state.goals[0].numpy() + bias, atol=1e-4)
    assert np.allclose(seen["cond.hook_full_embed"], seen["hook_embed"] + seen["cond.hook_goal_embed"], atol=1e-5)
    margins = {row: float(seen[f"{row}.readout.attack.hook_margin"]) for row in ("cond", "uncond", "guided")}
    p = np.exp(rows[1].log_probs["buttons"].astype(np.float64))
    attack = sum(p[i] for i in range(8641) if i != 8640 and i // 4 % 2)
    assert margins["guided"] == pytest.approx(np.log(attack / (1 - attack)), abs=1e-3)
    assert len(set(margins.values())) == 3


def test_tracing_changes_no_decision() -> None:
    agent, frames = make_agent(prompt="chop a tree"), povs(4)
    quiet, loud = step_through(agent, frames, []), step_through(agent, frames, ["*"])
    for a, b in zip(quiet, loud, strict=True):
        assert a.tokens == b.tokens and a.value == b.value
        assert np.array_equal(a.log_probs["buttons"], b.log_probs["buttons"])


def test_edits_reach_the_rows_they_name() -> None:
    """Zeroing a point in one row leaves the other row's memory as it is; a plain name edits both."""
    agent, pov = make_agent(goal=GOAL, deterministic=True), povs(1)[0]

    def keys(hook: str | None) -> torch.Tensor:
        pairs = [] if hook is None else [(hook, lambda x, h: torch.zeros_like(x))]
        with agent.hooks(pairs):
            return agent.act({"pov": pov}, agent.initial_state(), np.random.default_rng(0)).state["state.1.k"]

    plain = keys(None)
    for hook, changed in (("cond.blocks.0.hook_mlp_out", (True, False)),
                          ("uncond.blocks.0.hook_mlp_out", (False, True)), ("blocks.0.hook_mlp_out", (True, True)),
                          ("hook_embed", (True, True))):
        new = keys(hook)
        assert tuple(not torch.equal(new[row], plain[row]) for row in (0, 1)) == changed, hook
    assert torch.equal(keys(None), plain)
    ZeroAblation("cond.blocks.0.attn.hook_z", head=1).check(agent)
    with pytest.raises(HookError, match="shared by both rows"):
        agent.hooks([("cond.hook_image", lambda x, h: torch.zeros_like(x))])
    with pytest.raises(HookError, match="is a read-out"), \
            agent.hooks([("uncond.readout.attack.hook_margin", lambda x, h: x + 1)]):
        agent.act({"pov": pov}, agent.initial_state(), np.random.default_rng(0))
    with pytest.raises(HookError, match="expected"), \
            agent.hooks([("uncond.hook_full_embed", lambda x, h: x[..., :3])]):
        agent.act({"pov": pov}, agent.initial_state(), np.random.default_rng(0))


def test_without_guidance_there_are_no_rows() -> None:
    agent = make_agent(goal=GOAL, cond_scale="none")
    assert agent.rows == () and agent.initial_state().batch_size == 1
    assert agent.resolve_hooks(["blocks.1.hook_mlp_out"]) == ["blocks.1.hook_mlp_out"]
    assert list(step_through(agent, povs(1), ["*"])[0].activations) == list(agent.hook_shapes())
    with pytest.raises(HookError, match="runs without guidance"):
        agent.resolve_hooks(["uncond.blocks.*"])
    with pytest.raises(HookError, match="runs without guidance"):
        agent.hooks([("cond.hook_full_embed", zero)])
    first = torch.zeros(1, 1, dtype=torch.bool)
    frame = torch.zeros(1, 1, 16, 16, 3, dtype=torch.uint8)
    with pytest.raises(HookError, match="no row 'uncond'"):
        agent.policy.run_with_cache(frame, first, agent.policy.initial_state(1), "uncond.hook_full_embed")


def zero(x: torch.Tensor, hook: object) -> torch.Tensor:
    return torch.zeros_like(x)


def test_the_policy_caches_rows_by_name() -> None:
    policy = make_agent(goal=GOAL).policy
    frames, first = torch.randint(0, 256, (2, 3, 16, 16, 3), dtype=torch.uint8), torch.zeros(2, 3, dtype=torch.bool)
    goal = torch.randn(2, 512, generator=torch.Generator().manual_seed(0))
    name = "blocks.1.attn.hook_pattern"
    with torch.inference_mode():
        out, _, cache = policy.run_with_cache(frames, first, policy.initial_state(2, guided=True),
                                              [name, f"cond.{name}", f"uncond.{name}"], goal_embed=goal, cond_scale=2.0)
        alone, _ = policy(frames, first, policy.initial_state(2), goal)
        undirected, _ = policy(frames, first, policy.initial_state(2))
    assert cache[name].shape[0] == 4 and out.value.shape == (4, 3) and out.buttons.shape == (2, 3, 8641)
    assert torch.equal(torch.cat((cache[f"cond.{name}"], cache[f"uncond.{name}"])), cache[name])
    assert cache.point(f"uncond.{name}").layer == 1 and cache.by_age(f"uncond.{name}").shape == (2, 2, 3, 5)
    torch.testing.assert_close(out.by_row["cond"].buttons, alone.buttons, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.by_row["uncond"].latent, undirected.latent, atol=1e-5, rtol=1e-5)


def test_memory_through_a_snapshot() -> None:
    """Before and after the goal is drawn; a memory of another number of rows is refused."""
    agent, frames = make_agent(prompt="chop a tree"), povs(5)
    fresh = agent.load_state(agent.save_state(agent.initial_state()))
    assert fresh.goals == (None,)
    state = step_through(agent, frames[:4], [])[-1].state
    arrays = agent.save_state(state)
    assert set(arrays) == {*(f"state.{i}.{part}" for i in range(2) for part in ("k", "v", "mask")), "goal",
                           "goal_drawn"}
    back = agent.load_state(arrays)
    assert isinstance(back, SteveState) and torch.equal(back.goals[0], state.goals[0])
    one = agent.act({"pov": frames[4]}, state, np.random.default_rng(5))
    two = agent.act({"pov": frames[4]}, back, np.random.default_rng(5))
    assert one.tokens == two.tokens and np.array_equal(one.log_probs["buttons"], two.log_probs["buttons"])
    arrays["goal"][:] = 0
    assert state.goals[0].any(), "the snapshot has memory of its own"
    with pytest.raises(AgentError, match="another choice of guidance"):
        make_agent(goal=GOAL, cond_scale="none").load_state(arrays)
    with pytest.raises(AgentError, match="lacks goal"):
        agent.load_state({name: value for name, value in arrays.items() if name != "goal"})
    with pytest.raises(AgentError, match="goal: expected float32"):
        agent.load_state({**arrays, "goal": np.zeros((1, 3), np.float32)})


def test_told_something_else_in_the_middle() -> None:
    agent, frames = make_agent(prompt="chop a tree"), povs(3)
    state = step_through(agent, frames[:2], [])[-1].state
    other = agent.told(state, prompt="swim", rng=np.random.default_rng(0))
    assert other.keys is state.keys and not torch.equal(other.goals[0], state.goals[0])
    one, two = (agent.act({"pov": frames[2]}, s, np.random.default_rng(5)).log_probs["buttons"] for s in (state, other))
    assert np.abs(one - two).max() > 1e-4
    assert np.array_equal(agent.told(state, GOAL).goals[0].numpy(), GOAL)
    assert torch.equal(agent.told(state, prompt="swim").goals[0], agent.told(state, prompt="swim").goals[0])
    with pytest.raises(AgentError, match="one of them"):
        agent.told(state)


def test_many_episodes_together() -> None:
    """Each row is what it would be alone; its goal comes from its own stream, anew where an episode begins."""
    agent, frames = make_agent(prompt="chop a tree"), povs(6)
    rngs = [np.random.default_rng(seed) for seed in (1, 2)]
    state, outs, goals = agent.initial_states(2), [], []
    for i in range(3):
        rows, state = agent.act_together([{"pov": frames[i]}, {"pov": frames[3 + i]}], state, rngs, [i == 0, i != 1])
        outs.append(rows)
        goals.append(state.goals)
    for row, pictures in ((0, frames[:3]), (1, frames[3:5])):
        alone = step_through(agent, pictures, [], seed=row + 1)
        for i, one in enumerate(alone):
            assert torch.equal(goals[i][row], one.state.goals[0])
            assert np.allclose(outs[i][row].log_probs["buttons"], one.log_probs["buttons"], atol=1e-4)
            assert outs[i][row].tokens == one.tokens
    assert torch.equal(goals[0][0], goals[2][0]) and not torch.equal(goals[1][1], goals[2][1])


def test_looking_ahead_equals_stepping() -> None:
    agent, frames = make_agent(prompt="chop a tree"), povs(7)
    stepped = step_through(agent, frames, GLOBS)
    at = iter([frames[:4], frames[4:]])
    ahead = AheadAgent(agent, lambda n: next(at), 4)
    assert ahead.provenance()["batch_shape"] == [2, 4]
    for a, b in zip(stepped, step_through(ahead, frames, GLOBS), strict=True):
        assert a.tokens == b.tokens and np.allclose(a.log_probs["buttons"], b.log_probs["buttons"], atol=2e-4)
        for name in a.activations:
            assert np.allclose(np.asarray(a.activations[name]), np.asarray(b.activations[name]), atol=2e-4, rtol=1e-3)
    rows, state = agent.trace_frames(frames)
    assert len(rows) == 7 and state.goals[0] is not None


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "numbers"])
def test_a_goal_from_a_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"goal.{kind}"
    if kind == "npy":
        np.save(path, GOAL[None])
    elif kind == "npz":
        np.savez(path, chop=GOAL.astype(np.float64))
    elif kind == "safetensors":
        save_file({"chop": GOAL}, path)
    agent = make_agent(goal=GOAL.tolist() if kind == "numbers" else str(path))
    assert agent.cond_scale == 7.0 and np.array_equal(agent.initial_state().goals[0].numpy(), GOAL)


def test_a_goal_from_a_video(video: Path) -> None:
    """The last sixteen frames, or those that end at goal_frame, through MineCLIP's image and temporal parts."""
    model = MineCLIP.random("nano", 3)
    for frame, stop in ((None, 20), (17, 18)):
        clip = np.stack([np.full((160, 256, 3), 10 * i, np.uint8) for i in range(stop - 16, stop)])
        with torch.inference_mode():
            wanted = model.encode_video(clip[None])[0]
        agent = make_agent(goal=str(video), goal_frame=frame)
        assert agent.cond_scale == 7.0
        torch.testing.assert_close(agent.initial_state().goals[0], wanted, atol=1e-5, rtol=1e-5)


def test_named_goals_need_no_mineclip() -> None:
    weights = random_weights(expected_shapes(TINY, StevePolicy), 0)
    agent = SteveAgent(policy_kwargs=TINY.policy_kwargs(), pi_head_kwargs=TINY.pi_head_kwargs(), weights=weights,
                       device="cpu", prompt="Chop a tree", goals={"chop a tree": GOAL.tolist(), "swim": GOAL})
    assert np.array_equal(agent.initial_state().goals[0].numpy(), GOAL) and agent.cond_scale == 6.0
    with pytest.raises(AgentError, match='unknown goal "chop a tre"'):
        make_agent(prompt="chop a tre", goals={"chop a tree": GOAL})


def test_a_video_means_nothing_to_goals_of_ones_own(video: Path) -> None:
    weights = random_weights(expected_shapes(TINY, StevePolicy), 0)
    arguments = {"policy_kwargs": TINY.policy_kwargs(), "pi_head_kwargs": TINY.pi_head_kwargs(), "weights": weights,
                 "device": "cpu", "goals": {"chop a tree": GOAL}}
    with pytest.raises(AgentError, match="has goals of its own instead(.|\n)*: chop a tree"):
        SteveAgent(**arguments, goal=str(video))
    with pytest.raises(AgentError, match="there is no goal file at"):
        SteveAgent(**arguments, goal=str(video.with_name("other.mp4")))


def test_a_weights_file_may_hold_named_goals(tmp_path: Path) -> None:
    weights = random_weights(expected_shapes(TINY, StevePolicy), 0)
    tensors = {name: weight.numpy() for name, weight in weights.items()}
    save_file({**tensors, "goals.chop a tree": GOAL, "goals.look around": -GOAL}, tmp_path / "own.safetensors")
    path = tmp_path / "own.yaml"
    path.write_text(json.dumps({"kind": "steve", "description": "ours", "weights": {"file": "own.safetensors"},
                                "arguments": {"policy_kwargs": TINY.policy_kwargs(), "pi_head_kwargs":
                                              TINY.pi_head_kwargs(), "prompt": "look around"}}))
    for prompt, goal in (({}, -GOAL), ({"prompt": "Chop a tree"}, GOAL)):
        agent = load_agent(path, device="cpu", **prompt)
        assert np.array_equal(agent.initial_state().goals[0].numpy(), goal)
        assert agent.provenance()["options"]["prompt"] == prompt.get("prompt", "look around")
    with pytest.raises(AgentError, match=r"unknown goal .look aruond.(.|\n)*look around"):
        load_agent(path, device="cpu", prompt="look aruond")
    save_file({**tensors, "goals.chop a tree": GOAL[:7]}, tmp_path / "own.safetensors")
    with pytest.raises(AgentError, match="goals.chop a tree: expected 512 numbers"):
        load_agent(path, device="cpu")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision(precision: str) -> None:
    """Outputs, goal and activations are float32; what is said is near what float32 says."""
    exact, half = make_agent(goal=GOAL, cond_scale=1), make_agent(goal=GOAL, cond_scale=1, precision=precision)
    one, two = (step_through(agent, povs(3), ["cond.hook_goal_embed"])[-1] for agent in (exact, half))
    assert two.log_probs["buttons"].dtype == np.float32 and half.policy.config == exact.policy.config
    assert np.abs(one.log_probs["camera"] - two.log_probs["camera"]).max() < 0.5
    assert np.asarray(two.activations["cond.hook_goal_embed"]).dtype == np.float32
    back = half.load_state(half.save_state(two.state))
    assert back.keys[0].dtype == two.state.keys[0].dtype == getattr(torch, precision)
    assert torch.equal(back.keys[0], two.state.keys[0]) and np.array_equal(back.goals[0].numpy(), GOAL)


@pytest.mark.parametrize(("arguments", "words"), [
    ({"prompt": "x", "goal": GOAL}, "got both"), ({"prompt": "  "}, "expected a text"),
    ({"prompt": 5}, "expected a text"), ({"prompt": "tree " * 80}, "80 tokens"),
    ({"goal": GOAL[:5]}, r"512 numbers, got float32 \[5\]"),
    ({"goal": np.full(512, np.nan)}, "finite"), ({"goal": ["a"] * 512}, "512 numbers"),
    ({"goal": "none.npy"}, "no goal file"), ({"goal": GOAL, "goal_frame": 20}, "frames of a video"),
    ({"prompt": "x", "cond_scale": "strong"}, "a number, .auto. or .none."), ({"cond_scale": 3.0}, "there is none"),
    ({"prompt": "x", "cond_scale": float("nan")}, "cond_scale"), ({"prompt": "x", "cond_scale": True}, "cond_scale"),
])
def test_contradictions(arguments: dict, words: str) -> None:
    with pytest.raises(AgentError, match=words):
        make_agent(**arguments)


@pytest.mark.parametrize(("frame", "words"), [
    (20, "has 20 frames, and frame 20"), (14, "15 or more"), (2.5, "15 or more"),
])
def test_videos_that_are_refused(video: Path, frame: Any, words: str) -> None:
    with pytest.raises(AgentError, match=words):
        make_agent(goal=str(video), goal_frame=frame)


def test_a_video_that_is_too_short_or_none(tmp_path: Path) -> None:
    path = tmp_path / "short.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for _ in range(15):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    with pytest.raises(AgentError, match="has 15 frames, and a goal has 16"):
        make_agent(goal=str(path))
    (tmp_path / "no.mp4").write_bytes(b"not a video")
    with pytest.raises(VideoError):
        make_agent(goal=str(tmp_path / "no.mp4"))


@pytest.mark.parametrize("kind", ["pickle", "damaged", "several", "shape", "empty", "bomb"])
def test_goal_files_that_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("goal.npy" if kind == "pickle" else "goal.npz")
    if kind == "pickle":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif kind == "damaged":
        np.savez(path, goal=GOAL)
        path.write_bytes(path.read_bytes()[:900])
    elif kind == "several":
        np.savez(path, a=GOAL, b=GOAL)
    elif kind == "shape":
        np.savez(path, a=GOAL[:100])
    elif kind == "bomb":
        np.savez_compressed(path, goal=np.zeros(20_000_000, np.float32))
        assert path.stat().st_size < 200_000
    else:
        np.savez(path)
    words = {"pickle": "cannot read", "damaged": "cannot read", "several": "2 embeddings", "shape": "512 numbers",
             "bomb": "cannot read.*it has 80,000,128 bytes", "empty": "no embedding"}
    with pytest.raises(AgentError, match=words[kind]):
        make_agent(goal=str(path))


def test_weights_that_are_missing_are_named(video: Path) -> None:
    weights = random_weights(expected_shapes(TINY, StevePolicy), 0)

    def build(**more: Any) -> SteveAgent:
        return SteveAgent(policy_kwargs=TINY.policy_kwargs(), pi_head_kwargs=TINY.pi_head_kwargs(), weights=weights,
                          device="cpu", **more)

    assert build(goal=GOAL).goal.kind == "embedding"
    for arguments in ({"prompt": "chop a tree"}, {"goal": str(video)}):
        with pytest.raises(WeightsError, match=r"attn\.pth"):
            build(**arguments)
    asked = []

    def mineclip() -> Any:
        asked.append(1)
        return {"foreign": torch.zeros(1)}

    with pytest.raises(WeightsError, match='unexpected weight "foreign"'):
        build(prompt="chop a tree", mineclip=mineclip)
    assert asked == [1] and build(goal=GOAL, mineclip=mineclip).goal.words == "numbers" and asked == [1]
    without = {name: weight for name, weight in weights.items() if "mineclip" not in name}
    with pytest.raises(WeightsError, match="missing weight \"net.mineclip_embed_linear.bias\""):
        SteveAgent(policy_kwargs=TINY.policy_kwargs(), pi_head_kwargs=TINY.pi_head_kwargs(), weights=without)


def test_provenance_gives_the_agent_again() -> None:
    for arguments in ({"prompt": "chop a tree", "cond_scale": 4}, {"goal": GOAL}, {},
                      {"goal": GOAL, "cond_scale": None}):
        agent = make_agent(**arguments)
        said = json.loads(json.dumps(agent.provenance()))
        twin = make_agent(**said["options"])
        assert twin.provenance() == {**agent.provenance(), "goal": twin.provenance()["goal"]}
        assert said["rows"] == list(agent.rows) and said["batch_shape"] == [len(agent.rows) or 1, 1]
        assert said["class"] == "SteveAgent" and said["weights"] == "random weights (seed 3)"
        a, b = (step_through(x, povs(2), [], seed=2)[-1] for x in (agent, twin))
        assert a.tokens == b.tokens and np.array_equal(a.log_probs["camera"], b.log_probs["camera"])
