"""Teacher forcing: what is scored, against what, and what the summary says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from harness.agent.action_mapping import to_policy
from harness.agent.load import load_agent
from harness.cli import cli
from harness.errors import RecordingError
from harness.recording.human_play import import_human_play
from harness.recording.recorder import Recorder
from harness.recording.recording import open_recording
from harness.recording.video import write_share_video
from harness.replay.teacher import TeacherForcing
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

N = 20


def call(*words: str | Path) -> Result:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person who walks, looks around, rests and opens the inventory."""
    folder = tmp_path_factory.mktemp("play")
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (N, 9, 16, 3), dtype=np.uint8)
    write_share_video(small.repeat(40, axis=1).repeat(40, axis=2), folder / "v.mp4", 20.0)
    with (folder / "a.jsonl").open("w") as file:
        for i in range(N):
            keys = [["key.keyboard.w"], [], ["key.keyboard.e"], ["key.keyboard.w", "key.keyboard.space"]][i % 4]
            file.write(json.dumps({
                "mouse": {"x": 300.0, "y": 200.0, "dx": 20.0 * (i % 4 == 3), "dy": 0.0, "buttons": [],
                          "newButtons": []},
                "keyboard": {"keys": keys}, "isGuiOpen": i % 4 == 2, "hotbar": 0}) + "\n")
    return import_human_play(folder / "v.mp4", folder / "a.jsonl", folder / "out").path


def test_every_step_holds_the_persons_action_and_what_the_agent_gave_it(play: Path, tmp_path: Path) -> None:
    result = call("trace", play, "--agent", "vpt-nano", "--device", "cpu", "--out", tmp_path, "--json")
    report = json.loads(result.stdout)
    human, traced = open_recording(play), open_recording(report["recording"])
    assert len(traced) == N and traced.complete and traced.hooks
    scores: dict[str, list[float]] = {"buttons": [], "camera": []}
    for i, (then, now) in enumerate(zip(human.steps, traced.steps, strict=True)):
        assert now["teacher"]["action"] == then["executed"] and now["teacher"]["tokens"] == then["tokens"]
        assert now["teacher"]["null"] == (i % 4 == 1) and now["executed"] is None
        assert np.array_equal(traced.pov[i], human.pov[i]), "the agent saw what the person saw"
        for head, values in scores.items():
            told = float(traced.activations[f"log_probs.{head}"][i][then["tokens"][head]])
            assert now["teacher"]["log_prob"][head] == told < 0
            if i % 4 != 1:
                values.append(told)
    summary = report["teacher"]
    assert (summary["n_steps"], summary["n_null"], summary["n_scored"]) == (N, N // 4, N - N // 4)
    for head, values in scores.items():
        assert summary["cross_entropy"][head] == pytest.approx(-np.mean(values), abs=1e-9)
    assert summary["uniform"] == pytest.approx({"buttons": np.log(8641), "camera": np.log(121)})
    column = traced.steps["teacher.log_prob.buttons"]
    assert column.dtype == np.float64 and column.shape == (N,)
    assert traced.header["world"]["source"]["played_by"] == "human, a person's play, imported"


def test_the_summary_is_printed(play: Path, tmp_path: Path) -> None:
    said = call("trace", play, "--agent", "vpt-nano", "--device", "cpu", "--out", tmp_path, "--steps", "8").stdout
    assert "8 frames" in said and "cross-entropy against human: buttons" in said
    assert "mean over 6 steps, without 2 that do nothing" in said
    said = call("trace", play, "--agent", "noop", "--out", tmp_path).stdout
    assert "no cross-entropy against human: the agent tells no probabilities" in said
    said = call("trace", play, "--agent", "random", "--out", tmp_path).stdout
    assert "the agent tells no probabilities" in said


def test_an_agent_is_its_own_teacher(tmp_path: Path) -> None:
    """Over its own play an agent gives every action the log-probability that was recorded then."""
    recorder = Recorder(tmp_path)
    with make_world(load_scenario("trunk")) as world:
        agent = load_agent("vpt-nano", device="cpu")
        run_episode(world, agent, seed=1, max_steps=20, observers=[recorder])
    report = json.loads(call("trace", recorder.path, "--agent", "vpt-nano", "--device", "cpu", "--out", tmp_path,
                             "--json").stdout)
    played, traced = open_recording(recorder.path), open_recording(report["recording"])
    both = traced.steps["teacher.log_prob.buttons"] + traced.steps["teacher.log_prob.camera"]
    np.testing.assert_allclose(both, played.steps["log_prob"], atol=1e-4)


class Rows:
    """Of a recording, as much as is looked at."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.steps, self.path = rows, Path("somewhere")


def action(**keys: int) -> dict[str, Any]:
    return {"forward": 0, "attack": 0, "camera": [0.0, 0.0], **keys}


def test_whose_action_counts(tmp_path: Path) -> None:
    tokens = {"buttons": 4, "camera": 13}
    cases = [
        ({"chosen": action(attack=1), "executed": action(attack=1), "tokens": tokens}, tokens),  # as drawn
        ({"chosen": action(attack=1), "executed": None, "tokens": tokens}, tokens),  # a traced video
        ({"chosen": action(attack=1), "executed": action(forward=1), "tokens": tokens}, None),  # overruled
        ({"chosen": action(forward=1), "executed": action(forward=1), "tokens": {}}, None),
        ({"chosen": action(forward=1), "executed": action(forward=1), "tokens": {"buttons": 10**9, "camera": 1}}, None),
        ({"chosen": action(forward=1), "executed": action(forward=1), "tokens": {"buttons": True, "camera": 1}}, None),
    ]
    for row, expected in cases:
        teacher = TeacherForcing(Rows(row))  # type: ignore[arg-type]
        output = type("Output", (), {"log_probs": {}})()
        step = type("Step", (), {"index": 0, "output": output})()
        found = teacher.columns(step)["teacher"]  # type: ignore[arg-type]
        mapped = dict(zip(("buttons", "camera"), to_policy(action(forward=1)), strict=True))
        assert found["tokens"] == (expected or mapped) and found["log_prob"] is None
    with pytest.raises(RecordingError, match="no action to compare with"):
        TeacherForcing(Rows({"chosen": None, "executed": None}))  # type: ignore[arg-type]


def test_who_goes_by_the_worlds_state_cannot_watch(play: Path, tmp_path: Path) -> None:
    result = call("trace", play, "--agent", "chopper", "--out", tmp_path / "out")
    assert result.exit_code == 2 and "pictures have none" in result.stderr and not (tmp_path / "out").exists()


def test_what_cannot_be_traced(play: Path, tmp_path: Path) -> None:
    result = call("trace", tmp_path, "--agent", "noop", "--out", tmp_path / "out")
    assert result.exit_code == 2 and "no header.json" in result.stderr
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("header.json", "steps.jsonl", "result.json"):
        (copy / name).write_bytes((play / name).read_bytes())
    result = call("trace", copy, "--agent", "noop", "--out", tmp_path / "out")
    assert result.exit_code == 2 and "no steps to trace" in result.stderr and not (tmp_path / "out").exists()
