"""Kill -9, a full disk, Ctrl-C, a folder that cannot be written: what was flushed stays readable and says so."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeAgent, FakeWorld, make_scenario

from harness.errors import RecordingError
from harness.recording import recorder as recorder_module
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode

TESTS = Path(__file__).resolve().parent.parent
PROGRAM = f"""
import sys, time
sys.path.insert(0, {str(TESTS)!r})
from fakes import FakeAgent, FakeWorld, make_scenario
from harness.recording.recorder import Recorder
from harness.rollout import run_episode

class Say:
    def begin(self, episode): print("begin", flush=True)
    def on_step(self, step):
        print(step.index, flush=True)
        time.sleep(0.004)
    def end(self, result): print("end", flush=True)

run_episode(FakeWorld(make_scenario(100000)), FakeAgent(), seed=5, hooks=["blocks.*"],
            observers=[Recorder(sys.argv[1]), Say()])
"""


def start(out: Path, limit: int | None = None) -> subprocess.Popen[str]:
    def prepare() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, preexec_fn=prepare)


def wait_for_step(process: subprocess.Popen[str], step: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == str(step):
            return
    raise AssertionError("the run ended early")


def check_against_the_truth(recording: Recording) -> None:
    """Every readable step equals the same step of an undisturbed run."""
    class Compare:
        def begin(self, episode: object) -> None: ...
        def end(self, result: object) -> None: ...
        def on_step(self, step: object) -> None:
            i = step.index  # type: ignore[attr-defined]
            assert np.array_equal(recording.pov[i], step.observation["pov"])  # type: ignore[attr-defined]
            assert recording.steps[i]["log_prob"] == step.output.log_prob  # type: ignore[attr-defined]
            if i < recording.activations.n_steps:
                for name, value in step.output.activations.items():  # type: ignore[attr-defined]
                    assert np.array_equal(recording.activations[name][i], value)
    run_episode(FakeWorld(make_scenario(100000)), FakeAgent(), seed=5, hooks=["blocks.*"], max_steps=len(recording),
                observers=[Compare()])


@pytest.mark.parametrize(("step", "delay"), [(0, 0.0), (9, 0.013), (40, 0.002), (75, 0.021), (131, 0.007)])
def test_killed_at_any_moment_it_opens_up_to_the_last_flush(tmp_path: Path, step: int, delay: float) -> None:
    process = start(tmp_path)
    wait_for_step(process, step)
    time.sleep(delay)
    process.kill()
    process.communicate()
    (folder,) = tmp_path.iterdir()
    recording = open_recording(folder)
    assert not recording.complete and recording.status == "unfinished" and recording.result is None
    assert len(recording) >= step - 15, "at most a cluster of frames and the queue are lost"
    assert recording.activations.n_steps in range((len(recording) // 32 - 1) * 32, len(recording) + 1)
    assert 0 in recording.snapshots
    if len(recording):
        check_against_the_truth(recording)


def test_ctrl_c_finishes_the_chunk(tmp_path: Path) -> None:
    process = start(tmp_path)
    wait_for_step(process, 50)
    process.send_signal(signal.SIGINT)
    _, problem = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in problem, "run_episode raises it again"
    (folder,) = tmp_path.iterdir()
    recording = open_recording(folder)
    assert recording.status == "interrupted" and not recording.complete
    assert len(recording) >= 50 and recording.activations.n_steps == len(recording)
    check_against_the_truth(recording)


def test_a_full_disk_is_one_clear_error_and_what_was_written_stays(tmp_path: Path) -> None:
    process = start(tmp_path, limit=300_000)
    output, problem = process.communicate(timeout=120)
    assert process.returncode == 1, "an exception of the program"
    assert "RecordingError: cannot write the recording: the file size limit is reached" in problem, problem
    (folder,) = tmp_path.iterdir()
    recording = open_recording(folder)
    assert not recording.complete and recording.status == "failed"
    assert 0 < len(recording) < len(output.split())
    check_against_the_truth(recording)


class Full:
    """A writer's file on a full disk."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, *arguments: object) -> None:
        self.after -= 1
        if self.after < 0:
            raise OSError(28, os.strerror(28))


def test_no_space_left_surfaces_on_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "write_snapshot", Full(after=1))
    with Recorder(tmp_path) as recorder, pytest.raises(RecordingError, match="the disk is full; the first") as found:
        run_episode(FakeWorld(make_scenario(400)), FakeAgent(), seed=5, observers=[recorder])
    assert found.value.hint is not None and found.value.exit_code == 2
    recording = open_recording(recorder.path)
    assert recording.status == "failed" and not recording.complete and 32 <= len(recording) < 400
    assert json.loads((recorder.path / "result.json").read_text())["error"] is not None


def test_a_failure_at_the_very_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module._Writer, "_write", Full(after=0))
    with Recorder(tmp_path) as recorder, pytest.raises(RecordingError, match="the disk is full"):
        run_episode(FakeWorld(make_scenario(1)), FakeAgent(), seed=5, observers=[recorder])


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with Recorder(tmp_path / "file" / "out") as recorder, pytest.raises(RecordingError, match="cannot write") as found:
        run_episode(FakeWorld(make_scenario(5)), FakeAgent(), seed=5, observers=[recorder])
    assert "--out" in str(found.value)


def test_an_error_in_the_world_leaves_a_failed_recording(tmp_path: Path) -> None:
    class Broken(FakeWorld):
        def _tick(self, action: dict) -> None:  # type: ignore[type-arg]
            super()._tick(action)
            if self._tick_number == 7:
                raise ValueError("the engine broke")
    with Recorder(tmp_path) as recorder, pytest.raises(ValueError, match="engine broke"):
        run_episode(Broken(make_scenario(20)), FakeAgent(), seed=5, observers=[recorder])
    recording = open_recording(recorder.path)
    assert recording.status == "failed" and len(recording) == 6 and "engine broke" in recording.summary


def test_a_slow_writer_bounds_memory_by_making_the_loop_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    original = recorder_module._Writer._write

    def slow(self: recorder_module._Writer, entry: object) -> None:
        time.sleep(0.01)
        held.append(self._queue._held)
        original(self, entry)  # type: ignore[arg-type]

    monkeypatch.setattr(recorder_module._Writer, "_write", slow)
    with Recorder(tmp_path, queue_bytes=3_000_000) as recorder:
        run_episode(FakeWorld(make_scenario(40)), FakeAgent(), seed=5, observers=[recorder])
    assert max(held) <= 3_000_000 and len(open_recording(recorder.path)) == 40
