"""Guided episodes on disk: both rows by name, the same agent again from the header, and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from golden_policies import TINY
from test_vpt_agent import povs

from harness import analysis
from harness.agent.load import load_agent
from harness.cli import cli
from harness.errors import AgentError, HookError, RecordingError
from harness.intervention import ZeroAblation
from harness.overlay import layers
from harness.overlay.compose import _shortened
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.recording.video import write_share_video
from harness.replay.fork import fork_recording
from harness.replay.replay import recorded_agent
from harness.rollout import run_episode, spawn_streams
from harness.scenario.load import load_scenario
from harness.world.world import make_world

PATTERN = "blocks.1.attn.hook_pattern"
FILE = {"kind": "steve", "description": "a tiny STEVE-1", "arguments": {
    "policy_kwargs": TINY.policy_kwargs(), "pi_head_kwargs": TINY.pi_head_kwargs(), "random_seed": 3}}


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    path = tmp_path / "tiny-steve.yaml"
    path.write_text(json.dumps(FILE))  # JSON is YAML
    return str(path)


def record(agent: str, folder: Path, *, hooks: tuple[str, ...] = ("blocks.*.attn.hook_pattern",), steps: int = 4,
           interventions: tuple[Any, ...] = (), **told: Any) -> Recording:
    with make_world(load_scenario("trunk")) as world, Recorder(folder) as recorder:
        run_episode(world, load_agent(agent, device="cpu", **told), seed=5, max_steps=steps, observers=[recorder],
                    hooks=hooks, interventions=interventions)
    return open_recording(recorder.path)


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_both_rows_are_recorded_and_read_by_name(tiny: str, tmp_path: Path) -> None:
    recording = record(tiny, tmp_path / "r", hooks=("blocks.*.attn.hook_pattern", "hook_embed"), prompt="chop a tree")
    assert recording.guidance_rows == ("cond", "uncond")
    assert list(recording.header["hooks"]) == ["hook_embed", *(f"{row}.blocks.{i}.attn.hook_pattern"
                                                               for i in range(2) for row in ("cond", "uncond"))]
    assert recording.header["agent"]["batch_shape"] == [2, 1]
    assert 'told "chop a tree"' in recording.agent_description
    agent = load_agent(tiny, device="cpu", prompt="chop a tree")
    state, rng = agent.initial_state(), spawn_streams(recording.seed)[1]
    for step in range(len(recording)):
        out = agent.act({"pov": recording.pov[step]}, state, rng, hooks=agent.resolve_hooks([PATTERN, "hook_embed"]))
        state = out.state
        for row in recording.guidance_rows:
            name = f"{row}.{PATTERN}"
            assert np.array_equal(recording.activations[name][step], np.asarray(out.activations[name])), (step, name)
    both = [recording.activations[f"{row}.{PATTERN}"][:] for row in recording.guidance_rows]
    assert not np.array_equal(*both)
    with pytest.raises(RecordingError, match=r"cond\.blocks\.1\.attn\.hook_pattern"):
        recording.activations[PATTERN]


def test_attention_maps_of_a_row(tiny: str, tmp_path: Path) -> None:
    recording = record(tiny, tmp_path / "r", prompt="chop a tree")
    cond, uncond = (analysis.attention_maps(recording, row=row) for row in ("cond", "uncond"))
    assert cond.row == "cond" and cond.layers == (0, 1) and not np.array_equal(cond.weights, uncond.weights)
    assert np.array_equal(analysis.attention_maps(recording).weights, cond.weights)
    assert np.array_equal(uncond.weights[2, 1, 0, 0], recording.activations[f"uncond.{PATTERN}"][2][0, -1])
    with pytest.raises(RecordingError, match='unknown row of guidance "conds"'):
        analysis.attention_maps(recording, row="conds")
    only = record(tiny, tmp_path / "u", prompt="chop a tree", hooks=("uncond.blocks.1.*pattern",))
    assert analysis.attention_maps(only).row == "uncond" and analysis.attention_maps(only).layers == (1,)


def test_an_intervention_on_one_row_stands_in_the_header_and_acts(tiny: str, tmp_path: Path) -> None:
    edit = ZeroAblation("cond.blocks.0.attn.hook_z", head=1)
    recording = record(tiny, tmp_path / "r", prompt="swim", interventions=(edit,), hooks=("blocks.0.attn.hook_z",))
    assert recording.header["interventions"][0]["hook"] == "cond.blocks.0.attn.hook_z"
    assert not recording.activations["cond.blocks.0.attn.hook_z"][:, 1].any()
    assert recording.activations["uncond.blocks.0.attn.hook_z"][:, 1].any()
    with pytest.raises(HookError, match="blocks.7.attn.hook_z"):
        record(tiny, tmp_path / "s", prompt="swim", interventions=(ZeroAblation("cond.blocks.7.attn.hook_z"),))


@pytest.mark.parametrize("told", [{"prompt": "chop a tree", "cond_scale": 3}, {"goal": [0.25] * 512},
                                  {"prompt": "swim", "cond_scale": "none"}, {}])
def test_a_replay_tells_the_agent_the_same(tiny: str, tmp_path: Path, told: dict[str, Any]) -> None:
    """The header alone says what it was told; nothing diverges."""
    recording = record(tiny, tmp_path / "r", steps=6, **told)
    result = call("replay", recording.path, "--verify", "--agent", tiny)
    assert result.exit_code == 0, result.output
    if told.get("prompt"):
        header = json.loads((recording.path / "header.json").read_text())
        header["agent"]["options"]["prompt"] = "dig down"
        (recording.path / "header.json").write_text(json.dumps(header))
        assert call("replay", recording.path, "--verify", "--agent", tiny).exit_code == 1


@pytest.mark.parametrize("at", [0, 2])
def test_a_fork_keeps_what_the_agent_was_told(tiny: str, tmp_path: Path, at: int) -> None:
    """Also where it begins before the first frame, which draws the goal."""
    recording = record(tiny, tmp_path / "r", prompt="chop a tree")
    report = fork_recording(recording, at=at, agent=recorded_agent(recording, tiny), out=tmp_path / "f")
    assert report.first is None and report.n_compared == 4 - at and report.path is not None
    assert open_recording(report.path).guidance_rows == ("cond", "uncond")


def test_a_goal_from_a_file_is_the_same_goal_as_numbers(tiny: str, tmp_path: Path) -> None:
    np.save(tmp_path / "goal.npy", np.full(512, 0.25, np.float32))
    recording = record(tiny, tmp_path / "r", steps=3, goal=str(tmp_path / "goal.npy"))
    (tmp_path / "goal.npy").unlink()
    result = call("replay", recording.path, "--verify", "--agent", tiny)
    assert result.exit_code == 0 and "changed" not in result.output, result.output


def test_the_command_line(tiny: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call("run", "trunk", "--agent", tiny, "--prompt", "chop a tree", "--cond-scale", "6", "--steps", "3",
                  "--out", out, "--hooks", "blocks.*.attn.hook_pattern", "--json")
    assert result.exit_code == 0, result.output
    recording = open_recording(json.loads(result.stdout)["episodes"][0]["recording"])
    assert recording.header["agent"]["options"] == {"cond_scale": 6.0, "deterministic_prior": False,
                                                    "prompt": "chop a tree"}
    for words, said in (
        (("--agent", "vpt-nano", "--prompt", "chop"), "takes no prompt and no goal"),
        (("--agent", "noop", "--cond-scale", "6"), "takes no prompt and no goal"),
        (("--agent", tiny, "--cond-scale", "6"), "there is none"),
        (("--agent", tiny, "--prompt", "a", "--cond-scale", "strong"), "a number, auto or none"),
        (("--agent", tiny, "--goal", str(tmp_path / "no.npy")), "no goal file"),
    ):
        result = call("run", "trunk", "--steps", "1", "--no-record", *words)
        assert result.exit_code == 2 and said in result.output, (words, result.output)
        assert "villager.yaml" not in result.output, "the mistake is in the command, not in the file"
    with pytest.raises(AgentError, match="takes no prompt"):
        load_agent("vpt-nano", prompt="chop a tree")


def test_tracing_a_video_with_a_prompt(tiny: str, tmp_path: Path) -> None:
    path = tmp_path / "play.mp4"
    write_share_video(list(povs(20)), path, 20.0)
    result = call("trace", path, "--agent", tiny, "--prompt", "chop a tree", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    recording = open_recording(json.loads(result.stdout)["recording"])
    assert recording.guidance_rows == ("cond", "uncond") and f"uncond.{PATTERN}" in recording.activations
    result = call("run", "trunk", "--agent", tiny, "--goal", path, "--steps", "2", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    told = open_recording(json.loads(result.stdout)["episodes"][0]["recording"]).header["agent"]
    assert told["goal"] == {"kind": "video", "words": "play.mp4"} and told["options"]["cond_scale"] == 7.0
    assert len(told["options"]["goal"]) == 512


def test_a_long_description_fits_and_keeps_both_ends() -> None:
    words = 'steve-1, told "chop a tree", ' + "following instructions " * 20 + "; random weights (seed 0)"
    short = _shortened(words, 700)
    assert layers.text_width(short, 15, 600) <= 700 < layers.text_width(words, 15, 600)
    assert short.startswith('steve-1, told "chop a tree"') and short.endswith("random weights (seed 0)")
    assert _shortened("vpt-nano", 700) == "vpt-nano"
