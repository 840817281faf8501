"""A replay equals its recording; whatever is changed in the recording is found, at its step and by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeAgent, FakeWorld, make_scenario
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from harness.errors import RecordingError
from harness.intervention import ActionOverride, Intervention, PixelMask
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.recording.video import FrameWriter
from harness.replay.divergence import first_difference, first_pixel
from harness.replay.replay import ReplayReport, recorded_moments, recorded_world, replay_recording
from harness.rollout import run_episode

pytestmark = pytest.mark.usefixtures("fake_backend")


def record(folder: Path, n: int = 30, seed: int = 3, interventions: tuple[Intervention, ...] = (),
           hooks: tuple[str, ...] = ()) -> Recording:
    with Recorder(folder) as recorder:
        run_episode(FakeWorld(make_scenario(n)), FakeAgent(), seed=seed, observers=[recorder], hooks=hooks,
                    interventions=interventions)
    return open_recording(recorder.path)


def replay(recording: Recording, **keywords: Any) -> ReplayReport:
    return replay_recording(recording, agent=FakeAgent(), **keywords)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**31), st.integers(1, 25), st.lists(st.sampled_from([
    PixelMask(10, 20, 300, 200, (0, 90, 255)), ActionOverride({"attack": 1}), ActionOverride({"camera": [0.0, 3.0]}),
    PixelMask(0, 0, 640, 360)]), max_size=2))
def test_a_replay_has_no_divergence(tmp_path_factory: pytest.TempPathFactory, seed: int, n: int,
                                    interventions: list[Intervention]) -> None:
    recording = record(tmp_path_factory.mktemp("r"), n, seed, tuple(interventions))
    report = replay(recording)
    assert report.ok, report.divergences
    assert report.n_frames == report.n_actions == report.n_log_probs == n
    assert report.max_log_prob_difference == 0.0 and report.notes == ()


def test_tracing_more_or_less_is_no_divergence(tmp_path: Path) -> None:
    assert replay(record(tmp_path, hooks=("blocks.*",))).ok


def edit_row(step: int, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        lines = (folder / "steps.jsonl").read_text().splitlines()
        row = json.loads(lines[step])
        change(row)
        lines[step] = json.dumps(row)
        (folder / "steps.jsonl").write_text("\n".join(lines) + "\n")
    return edit


def edit_frame(step: int) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        frames = list(open_recording(folder).pov)
        frames[step][200, 300, 1] ^= 1
        (folder / "frames.mkv").unlink()
        writer = FrameWriter(folder / "frames.mkv", 20.0, (360, 640))
        for frame in frames:
            writer.write(frame)
        writer.close()
    return edit


def edit_vector(step: int) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "activations" / "00000000.safetensors"
        arrays = load_file(str(path))
        arrays["log_probs.buttons"][step, 4] += 1e-3
        save_file(arrays, str(path), metadata={"start": "0"})
    return edit


@pytest.mark.parametrize(("edit", "step", "column"), [
    (edit_frame(11), 11, "frame"),
    (edit_frame(0), 0, "frame"),
    (edit_vector(8), 8, "log_probs.buttons[4]"),
    (edit_row(13, lambda r: r.update(log_prob=r["log_prob"] - 1e-3)), 13, "log_prob"),
    (edit_row(29, lambda r: r.update(entropy=None)), 29, "entropy"),
    (edit_row(9, lambda r: r["executed"].update(jump=1)), 9, "executed.jump"),
    (edit_row(9, lambda r: r["chosen"].update(ESC=1)), 9, "chosen.ESC"),
    (edit_row(5, lambda r: r["executed"].update(camera=[0.0, 7.0])), 5, "pose.yaw"),
    (edit_row(21, lambda r: r["statistics"].update(jump=3)), 21, "statistics.jump"),
    (edit_row(2, lambda r: r["pose"].update(position=[9.0, 100.0, 0.5])), 2, "pose.position[0]"),
    (edit_row(2, lambda r: r["tokens"].update(buttons=99)), 2, "tokens.buttons"),
    (edit_row(4, lambda r: r.update(events=[{"type": "made_up"}])), 4, "events"),
    (edit_row(7, lambda r: r.update(terminated=True)), 7, "terminated"),
])
def test_what_was_tampered_with_is_found(tmp_path: Path, edit: Callable[[Path], None], step: int, column: str) -> None:
    recording = record(tmp_path)
    edit(recording.path)
    report = replay(open_recording(recording.path))
    assert not report.ok
    assert (report.divergences[0].step, report.divergences[0].column) in [(step, column), (step, "executed.camera[1]")]
    assert any((d.step, d.column) == (step, column) for d in report.divergences), report.divergences
    assert f"step {step}, " in str(report.divergences[0])
    assert not report.as_dict()["ok"]


def test_another_seed_diverges_at_once(tmp_path: Path) -> None:
    recording = record(tmp_path)
    recording.header["seed"] = 4
    assert replay(recording).divergences[0].step == 0


def test_another_agent_is_noticed(tmp_path: Path) -> None:
    recording = record(tmp_path)
    report = replay_recording(recording, agent=FakeAgent(sharpness=1.0 + 1e-3))
    assert [d.column.partition("[")[0] for d in report.divergences] == ["log_probs.buttons"]
    assert report.max_log_prob_difference is not None and report.max_log_prob_difference > 1e-5
    assert replay_recording(recording, agent=FakeAgent(sharpness=1.0 + 1e-3), tolerance=10.0).n_log_probs > 0


def test_a_killed_run_replays_up_to_its_end(tmp_path: Path) -> None:
    recording = record(tmp_path)
    (recording.path / "result.json").unlink()
    file = recording.path / "frames.mkv"
    file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])
    cut = open_recording(recording.path)
    report = replay(cut)
    assert report.ok and 0 < report.n_frames == len(cut) < 30


def test_the_world_alone(tmp_path: Path) -> None:
    report = replay_recording(record(tmp_path), verify=False)
    assert report.ok and report.n_frames == 30 and report.n_actions == 0


class Privileged(FakeAgent):
    """Reads the world's state, as a scripted teacher does."""

    privileged = True

    def act(self, observation: Any, state: Any, rng: np.random.Generator, *, hooks: Any = ()) -> Any:
        output = super().act(observation, state, rng, hooks=hooks)
        output.action["use"] = int(observation["world_state"].tick % 2)
        return output


def test_a_privileged_agent_gets_the_replayed_state(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        run_episode(FakeWorld(make_scenario(12)), Privileged(), seed=1, observers=[recorder])
    recording = open_recording(recorder.path)
    assert replay_recording(recording, agent=Privileged()).n_actions == 12
    edit_frame(6)(recording.path)
    report = replay_recording(open_recording(recording.path), agent=Privileged())
    assert report.divergences[0].step == 6


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3), max_leaves=8))
@settings(max_examples=50, deadline=None)
def test_a_value_does_not_differ_from_itself(value: Any) -> None:
    assert first_difference("x", value, json.loads(json.dumps(value))) is None


def test_differences_have_an_address() -> None:
    assert first_difference("a", {"b": [1, {"c": 2}]}, {"b": [1, {"c": 3}]}) == ("a.b[1].c", 2, 3)
    assert first_difference("a", {"b": 1}, {}) == ("a.b", 1, None)
    assert first_difference("a", 1.0, 1.0 + 1e-7, 1e-6) is None
    assert first_difference("a", 1.0, 1.0 + 1e-7) == ("a", 1.0, 1.0 + 1e-7)
    assert first_difference("a", True, 1) is not None
    picture = np.zeros((4, 5, 3), np.uint8)
    other = picture.copy()
    other[2, 3] = 9
    assert first_pixel(picture, picture) is None
    assert first_pixel(picture, other) == ("rgb [0, 0, 0] at (x 3, y 2)", "rgb [9, 9, 9] (1 pixels differ)")
    assert first_pixel(picture, picture[:2]) == ("[4, 5, 3]", "[2, 5, 3]")


def test_moments_are_the_recorded_ones(tmp_path: Path) -> None:
    recording = record(tmp_path / "a", 12)
    seen = [(world.world_state().player.position, world.render()) for world in recorded_moments(recording)]
    assert len(seen) == 12
    for number, (_, pov) in enumerate(seen):
        assert np.array_equal(pov, recording.pov[number])
    assert len({position for position, _ in seen}) > 1, "the world moved on in between"


def test_moments_of_another_world_are_refused(tmp_path: Path) -> None:
    recording = record(tmp_path / "a", 12)
    recording.header["seed"] = 4
    with pytest.raises(RecordingError, match="not the recorded one"):
        list(recorded_moments(recording))


@pytest.mark.parametrize(("backend", "words"), [
    ("gymnasium", 'was "gymnasium" with environment Mine-v0, and the gymnasium backend needs an environment'),
    ("nowhere", 'unknown world "nowhere"'),
])
def test_a_world_that_cannot_be_made_from_a_recording_is_named(tmp_path: Path, backend: str, words: str) -> None:
    folder = record(tmp_path, n=5).path
    header = json.loads((folder / "header.json").read_text(encoding="utf-8"))
    header["world"] |= {"backend": backend, "deterministic": False, "source": {"environment": "Mine-v0"}}
    (folder / "header.json").write_text(json.dumps(header), encoding="utf-8")
    report = replay(open_recording(folder))
    assert report.n_actions == 5 and report.n_frames == 0 and not report.divergences
    assert report.notes[0] == f"the {backend} backend promises no equal frames, so none were made again"
    with pytest.raises(RecordingError, match=words):
        recorded_world(open_recording(folder))
