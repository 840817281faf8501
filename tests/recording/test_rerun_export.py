"""The export for rerun. With rerun itself where it is installed (the extra "rerun", which the tests do not bring)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import FakeAgent, FakeWorld, make_scenario

from harness.cli import cli
from harness.errors import HarnessError
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.recording.rerun_export import write_rerun
from harness.rollout import run_episode


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    with Recorder(tmp_path / "r") as recorder:
        run_episode(FakeWorld(make_scenario(12)), FakeAgent(), seed=3, observers=[recorder], hooks=["blocks.*"])
    return open_recording(recorder.path)


def test_without_rerun_the_extra_is_named(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(HarnessError, match="not installed") as problem:
        write_rerun(recording, recording.path / "x.rrd")
    assert "[rerun]" in str(problem.value)
    assert not list(recording.path.glob("*.rrd*")) and not list(recording.path.glob(".*part"))


def test_the_suffix_is_checked_first(recording: Recording) -> None:
    result = CliRunner().invoke(cli, ["export", str(recording.path), "--to", "rerun", "--out", "x.mp4"])
    assert result.exit_code == 2 and "does not end in .rrd" in result.output


def test_every_step_is_in_the_file(recording: Recording, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="the extra rerun is not installed")
    path = tmp_path / "x.rrd"
    done: list[int] = []
    assert write_rerun(recording, path, done.append) == 12 and done[-1] == 12
    for command in ("verify", "print"):
        told = subprocess.run([sys.executable, "-m", "rerun_cli", "rrd", command, str(path)], check=True, timeout=120,
                              capture_output=True, text=True).stdout
    for entity in ("/pov", "/policy/entropy", "/camera/yaw", "/provenance", "hook_pattern"):
        assert entity in told, entity
