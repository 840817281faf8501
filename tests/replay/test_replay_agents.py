"""Whose agent a replay may load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes import FakeAgent, FakeWorld, make_scenario

from harness.errors import AgentError, HarnessError
from harness.recording.recorder import Recorder
from harness.recording.recording import open_recording
from harness.replay.replay import recorded_agent
from harness.rollout import run_episode


@pytest.mark.parametrize("name", ["../../evil.yaml", "mine.yaml", "nobody"])
def test_a_header_names_no_file(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("kind: noop\ndescription: a stranger's\n")
    with Recorder(tmp_path / "out") as recorder:
        run_episode(FakeWorld(make_scenario(3)), FakeAgent(), seed=1, observers=[recorder])
    header = json.loads((recorder.path / "header.json").read_text())
    header["agent"]["name"] = name
    (recorder.path / "header.json").write_text(json.dumps(header))
    with pytest.raises(AgentError, match="not a bundled one"):
        recorded_agent(open_recording(recorder.path))
    assert recorded_agent(open_recording(recorder.path), str(tmp_path / "mine.yaml")).description == "a stranger's"


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"max_steps": 0}])
def test_an_episode_needs_a_seed_and_a_step(wrong: dict[str, int]) -> None:
    with pytest.raises(HarnessError, match="at least"):
        run_episode(FakeWorld(make_scenario(3)), FakeAgent(), **wrong)
