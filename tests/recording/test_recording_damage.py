"""Recordings whose files were changed after they were closed say so, everywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import FakeAgent, FakeWorld, make_scenario

from harness.analysis.attention import attention_maps
from harness.cli import cli
from harness.errors import RecordingError
from harness.recording.recorder import Recorder
from harness.recording.recording import open_recording
from harness.replay.replay import replay_recording
from harness.rollout import run_episode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with FakeWorld(make_scenario(40)) as world, Recorder(tmp_path) as recorder:
        run_episode(world, FakeAgent(), seed=1, max_steps=40, observers=[recorder],
                    hooks=["blocks.*.attn.hook_pattern"])
    whole = open_recording(recorder.path)
    assert whole.complete and whole.damage is None and len(whole) == 40
    return recorder.path


@pytest.mark.parametrize("name", ["frames.mkv", "steps.jsonl"])
def test_a_file_that_is_gone(folder: Path, name: str) -> None:
    (folder / name).unlink()
    damaged = open_recording(folder)
    assert not damaged.complete and len(damaged) == 0
    assert f"{name} is missing" in damaged.summary
    with pytest.raises(RecordingError, match="no steps to replay"):
        replay_recording(damaged, agent=FakeAgent(), world=FakeWorld(make_scenario(40)))
    with pytest.raises(RecordingError, match="has no steps"):
        attention_maps(damaged)
    result = CliRunner().invoke(cli, ["replay", str(folder), "--verify", "--agent", "noop"])
    assert result.exit_code == 2, result.output


@pytest.mark.parametrize("name", ["frames.mkv", "steps.jsonl"])
def test_a_file_that_was_cut_off(folder: Path, name: str) -> None:
    file = folder / name
    os.truncate(file, file.stat().st_size // 2)
    damaged = open_recording(folder)
    assert not damaged.complete and 0 < len(damaged) < 40
    assert "damaged" in damaged.summary and name in damaged.summary
    assert damaged.pov[len(damaged) - 1].shape == (360, 640, 3)
    report = replay_recording(damaged, agent=FakeAgent(), world=FakeWorld(make_scenario(40)))
    assert report.ok and report.n_steps == len(damaged) and any("damaged" in note for note in report.notes)


def test_a_pipe_in_place_of_a_file_does_not_hang(folder: Path) -> None:
    (folder / "steps.jsonl").unlink()
    os.mkfifo(folder / "steps.jsonl")
    with pytest.raises(RecordingError, match="no regular file"):
        len(open_recording(folder))
