"""A fork is its recording up to the step, and from there on what was changed; a null twin is its recording."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeAgent, FakeWorld, make_scenario
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import harness
from harness.errors import AgentError, HarnessError, InterventionError, RecordingError, WorldError
from harness.intervention import ActionOverride, Intervention, MemoryKnockout, PixelMask, Schedule, ZeroAblation
from harness.intervention.intervention import History, Moment
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.replay import fork as fork_module
from harness.replay.fork import ForkReport, fork_recording
from harness.replay.history import RecordedHistory
from harness.replay.replay import replay_recording
from harness.replay.twin import COLUMNS
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.scenario.schema import Scenario
from harness.world.video import VideoWorld
from harness.world.world import make_world

pytestmark = pytest.mark.usefixtures("fake_backend")

MASK, CALM = PixelMask(10, 20, 300, 200, (0, 90, 255)), ActionOverride({"attack": 0})


def record(folder: Path, n: int = 40, seed: int = 3, interventions: Sequence[Intervention] = (),
           hooks: Sequence[str] = (), every: int = 10, max_steps: int | None = None,
           world: type[FakeWorld] = FakeWorld, scenario: Scenario | None = None) -> Recording:
    with pytest.MonkeyPatch.context() as patch, Recorder(folder) as recorder:
        patch.setattr("harness.recording.recorder._MIN_SNAPSHOT_EVERY", every)
        run_episode(world(scenario or make_scenario(n)), FakeAgent(), seed=seed, observers=[recorder], hooks=hooks,
                    interventions=interventions, max_steps=max_steps)
    return open_recording(recorder.path)


def fork(recording: Recording, at: int, **keywords: Any) -> ForkReport:
    return fork_recording(recording, at=at, agent=FakeAgent(), **keywords)


def same_rest(recording: Recording, forked: Recording) -> None:
    """Every byte that a fork recorded stands in its recording, too."""
    skip = forked.first_step - recording.first_step
    assert len(forked) == len(recording) - skip
    assert forked.steps[:] == recording.steps[skip:]
    assert forked.events == [event for event in recording.events if event["step"] >= forked.first_step]
    for mine, theirs in ((forked.pov, recording.pov), (forked.agent_pov, recording.agent_pov)):
        assert all(np.array_equal(a, b) for a, b in zip(mine, itertools.islice(theirs, skip, None), strict=True))
    assert list(forked.activations) == list(recording.activations)
    for name, series in forked.activations.items():
        assert series[:].tobytes() == recording.activations[name][skip:].tobytes(), name
    assert forked.result is not None and recording.result is not None
    assert forked.result["outcomes"] == recording.result["outcomes"] and forked.status == recording.status


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), seed=st.integers(0, 2**31), n=st.integers(1, 34), every=st.sampled_from([4, 10, 100]),
       own=st.lists(st.sampled_from([
           MASK, CALM, dataclasses.replace(CALM, schedule=Schedule(since="walked")),
           ActionOverride({"forward": 1}, schedule=Schedule(when="damage_entity")),
           dataclasses.replace(MASK, schedule=Schedule(at=(0,))),
           ActionOverride({"jump": 1}, schedule=Schedule(since={"pressed": ["attack"], "at_least": 3}))]), max_size=2))
def test_a_fork_with_nothing_changed_is_the_rest_of_its_recording(
        tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, seed: int, n: int, every: int,
        own: list[Intervention]) -> None:
    folder = tmp_path_factory.mktemp("fork")
    recording = record(folder, n, seed, own, hooks=("blocks.1.*",), every=every)
    at = data.draw(st.integers(0, n - 1))
    report = fork(recording, at, out=folder)
    assert report.first is None and report.notes == () and list(report.columns) == list(COLUMNS)
    assert (report.n_steps, report.n_compared, report.changed_outcomes) == (n - at, n - at, [])
    assert report.path is not None
    forked = open_recording(report.path)
    same_rest(recording, forked)
    again = fork(forked, data.draw(st.integers(at, n - 1)))
    assert again.first is None, "a fork of a fork is no other"
    verified = replay_recording(forked, agent=FakeAgent())
    assert verified.ok and verified.n_frames == verified.n_actions == n - at and verified.notes == ()


class NoSnapshots(FakeWorld):
    """An engine that cannot be frozen."""

    capabilities = dataclasses.replace(FakeWorld.capabilities, snapshots=False)

    def snapshot(self) -> bytes:
        raise WorldError("no snapshots")


def test_without_snapshots_everything_is_played_again(tmp_path: Path) -> None:
    recording = record(tmp_path, world=NoSnapshots, interventions=[dataclasses.replace(
        CALM, schedule=Schedule(since="walked"))])
    assert recording.snapshots[0].world is None
    report = fork(recording, 33, out=tmp_path, world=NoSnapshots(make_scenario(40)))
    assert report.first is None and report.n_compared == 7
    assert report.restored == ("world, memory and random streams from step 0, its beginning (the fake backend has no "
                               "snapshots); steps 0 to 32 played again")
    assert report.path is not None
    forked = open_recording(report.path)
    same_rest(recording, forked)
    assert forked.header["fork"] == {
        "recording": recording.id, "name": recording.path.name, "at": 33, "kept": 1, "restored_at": 0,
        "from_snapshot": False, "n_rerun": 33, "words": report.restored}
    verified = replay_recording(forked, agent=FakeAgent(), world=NoSnapshots(make_scenario(40)))
    assert verified.ok and verified.n_frames == 0 and verified.n_actions == 7 and "no snapshot" in verified.notes[0]
    with pytest.raises(RecordingError, match="fork and holds no snapshot") as found:
        fork(forked, 35, world=NoSnapshots(make_scenario(40)))
    assert found.value.hint is not None and "made from" in found.value.hint


def test_the_header_says_where_a_fork_comes_from(tmp_path: Path) -> None:
    recording = record(tmp_path)
    report = fork(recording, 23, out=tmp_path, interventions=[CALM], steps=5)
    assert report.path == tmp_path / "stripes-fake-s3-fork23"
    forked = open_recording(report.path)
    assert forked.header["fork"]["recording"] == recording.id == open_recording(recording.path).id != forked.id
    assert forked.header["fork"]["name"] == "stripes-fake-s3" and "/" not in json.dumps(forked.header["fork"])
    assert forked.first_step == 23 and forked.steps["step"].tolist() == list(range(23, 28))
    assert forked.header["fork"]["restored_at"] == 20 and forked.header["fork"]["n_rerun"] == 3
    assert "snapshot at step 20; steps 20 to 22 played again" in report.restored
    assert [each["kind"] for each in forked.header["interventions"]] == ["ActionOverride"]
    assert list(forked.snapshots) == [23] and "5 steps, from step 23 on" in forked.summary
    assert forked.header["max_steps"] == 28 and recording.first_step == 0
    assert "step 20 played again" in fork(recording, 21, steps=1).restored
    assert fork(recording, 20, steps=1).restored.endswith("from the snapshot at step 20")


# --- what differs -----------------------------------------------------------------------------------------------------


def first_differences(report: ForkReport) -> dict[str, int]:
    return {name: found.step for name, found in report.columns.items() if found is not None}


def truth(recording: Recording, other: Recording) -> dict[str, int]:
    """First step that differs, column by column, read from two recordings with other means."""
    found: dict[str, int] = {}
    for i in range(len(other)):
        k = i + other.first_step - recording.first_step
        a, b = recording.steps[k], other.steps[i]
        differs = {name: a[name] != b[name] for name in COLUMNS if name in a}
        differs["frame"] = not np.array_equal(recording.pov[k], other.pov[i])
        differs["agent_frame"] = not np.array_equal(recording.agent_pov[k], other.agent_pov[i])
        differs["log_probs"] = not np.array_equal(recording.activations["log_probs.buttons"][k],
                                                  other.activations["log_probs.buttons"][i])
        for name, differ in differs.items():
            if differ:
                found.setdefault(name, b["step"])
    return found


@pytest.mark.parametrize("change", [
    [CALM], [MASK], [ActionOverride({"camera": [0.0, 4.0]}, schedule=Schedule(at=(19,)))],
    [dataclasses.replace(MASK, schedule=Schedule(between=(20, 21))), ActionOverride({"forward": 1})]])
def test_each_column_parts_where_the_recordings_do(tmp_path: Path, change: list[Intervention]) -> None:
    recording = record(tmp_path, n=45)
    report = fork(recording, 15, interventions=change, out=tmp_path)
    assert report.path is not None
    assert first_differences(report) == truth(recording, open_recording(report.path)) != {}
    assert report.first is not None and report.first.step == min(first_differences(report).values()) >= 15
    assert report.as_dict()["first"]["step"] == report.first.step and json.dumps(report.as_dict())
    assert [each["kind"] for each in report.added] == [type(each).__name__ for each in change] and report.kept == ()


def test_a_changed_action_parts_first_where_it_is_played(tmp_path: Path) -> None:
    recording = record(tmp_path)
    hits = [event["step"] for event in recording.events]
    report = fork(recording, hits[0], interventions=[CALM])
    assert report.first is not None and (report.first.step, report.first.column) == (hits[0], "executed.attack")
    assert report.columns["events"] is not None and report.columns["events"].step == hits[0]
    assert report.columns["agent_frame"] is not None or report.columns["frame"] is None
    assert "hit" in report.changed_outcomes
    then, now = report.outcomes["hit"]
    assert then["value"] and then["count"] == len(hits) and not now["value"] and now["count"] == 0


def test_a_masked_picture_parts_before_the_world_does(tmp_path: Path) -> None:
    report = fork(record(tmp_path), 12, interventions=[MASK])
    assert report.first is not None and report.first.column == "agent_frame" and report.first.step == 12
    assert report.columns["log_probs"] is not None and report.columns["log_probs"].step == 12
    assert report.columns["frame"] is None or report.columns["frame"].step > 12


def test_an_intervention_of_the_recording_goes_on_unless_it_is_dropped(tmp_path: Path) -> None:
    recording = record(tmp_path, interventions=[CALM], n=45)
    assert not recording.events or all(event["type"] == "intervention" for event in recording.events)
    kept = fork(recording, 21)
    assert kept.first is None and [each["kind"] for each in kept.kept] == ["ActionOverride"]
    dropped = fork(recording, 21, keep=False, out=tmp_path)
    assert dropped.kept == () and dropped.first is not None and dropped.first.column == "executed.attack"
    assert dropped.path is not None
    assert open_recording(dropped.path).header["interventions"] == []


def test_an_intervention_of_the_past_may_be_over(tmp_path: Path) -> None:
    recording = record(tmp_path, interventions=[dataclasses.replace(MASK, schedule=Schedule(at=(3,)))])
    assert fork(recording, 25).first is None


def test_what_a_new_intervention_waits_for_counts_from_the_fork(tmp_path: Path) -> None:
    recording = record(tmp_path, n=60)
    hits = [event["step"] for event in recording.events]
    assert len(hits) >= 3
    at = hits[1] + 1
    for waits in ({"when": "damage_entity"}, {"when": "hit"}, {"since": "hit"}, {"since": {"damaged": "any"}}):
        report = fork(recording, at, interventions=[
            ActionOverride({"use": 1}, schedule=Schedule(**waits))], out=tmp_path)  # type: ignore[arg-type]
        assert report.path is not None
        applied = [e["step"] for e in open_recording(report.path).events if e["type"] == "intervention"]
        assert applied and applied[0] == hits[2] + 1, waits


def test_where_one_ends_earlier_only_what_both_have_is_compared(tmp_path: Path) -> None:
    recording = record(tmp_path, n=60, max_steps=30)
    longer = fork(recording, 20, steps=40)
    assert (longer.n_steps, longer.n_compared, longer.outcomes_at) == (40, 10, 29) and longer.first is None
    assert longer.changed_outcomes == [], "what happens after the recording's end is no difference"
    assert fork(recording, 20).n_steps == 10 and fork(recording, 20, steps=1000).n_steps == 40
    shorter = fork(recording, 20, steps=3)
    assert (shorter.n_compared, shorter.outcomes_at) == (3, 22) and shorter.changed_outcomes == []


def test_an_episode_that_ended_of_itself_keeps_its_outcomes(tmp_path: Path) -> None:
    scenario = make_scenario(200, episode={"max_steps": 200, "terminate_when": ["hit"]})
    recording = record(tmp_path, scenario=scenario)
    assert recording.status == "terminated"
    report = fork(recording, len(recording) - 2, interventions=[CALM], steps=30)
    assert report.ends == ("terminated", "truncated") and report.n_compared == 2 and report.n_steps == 30
    then, now = report.outcomes["hit"]
    assert then["value"] and not now["value"] and report.outcomes_at == len(recording) + 27
    assert report.columns["terminated"] is not None


class Counting(Intervention):
    """Notes how often it was asked, and turns by that: a member with a memory of its own."""

    site = "action"

    def change_action(self, action: Any, moment: Moment) -> Any:
        moment.memo["n"] = moment.memo.get("n", 0) + 1
        return {**action, "camera": np.array([0.0, moment.memo["n"] % 5 + moment.rng.random()], np.float32)}


def test_notes_and_noise_of_interventions_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(harness.registry.TABLES["harness.interventions"], "Counting", f"{__name__}:Counting")
    recording = record(tmp_path, interventions=[Counting()])
    for at in (0, 10, 27):
        assert fork(recording, at).first is None
    assert fork(recording, 27, keep=False).first is not None


# --- what an intervention may look back at ----------------------------------------------------------------------------


def test_history(tmp_path: Path) -> None:
    recording = record(tmp_path, hooks=("blocks.0.*",), interventions=[MASK])
    history: History = RecordedHistory(recording, 25)
    for step, start in ((25, 20), (20, 20), (19, 10), (3, 0), (99, 20)):
        found, arrays = history.state_before(step)
        assert found == start and len(arrays["memory"]) == start
    assert np.array_equal(history.frames(3, 6), recording.agent_pov[3:6])
    assert history.embeds(3, 6) is None, "this agent has no such hook"
    for first, last in ((20, 26), (-1, 3), (6, 3)):
        with pytest.raises(RecordingError, match="before the fork are 0 to 24"):
            history.frames(first, last)
    seen: list[Any] = []

    @dataclasses.dataclass(frozen=True)
    class Looking(Intervention):
        site = "action"

        def change_action(self, action: Any, moment: Moment) -> Any:
            seen.append(moment.history)
            return action

    fork(recording, 25, interventions=[Looking()], steps=2)
    assert seen == [history, history]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Forty steps, a snapshot every ten; under one intervention that waits."""
    return record(tmp_path_factory.mktemp("plain"),
                  interventions=[dataclasses.replace(CALM, schedule=Schedule(since="walked"))])


# --- what is refused --------------------------------------------------------------------------------------------------


def header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        read = json.loads((folder / "header.json").read_text())
        change(read)
        (folder / "header.json").write_text(json.dumps(read))
    return edit


def snapshot(step: int, change: Callable[[dict[str, Any], dict[str, str]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "snapshots" / f"{step:08d}.safetensors"
        arrays = load_file(str(path))
        with safe_open(str(path), framework="np") as file:
            notes = dict(file.metadata())
        change(arrays, notes)
        save_file(arrays, str(path), metadata=notes)
    return edit


def row(step: int, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        lines = (folder / "steps.jsonl").read_text().splitlines()
        read = json.loads(lines[step])
        change(read)
        lines[step] = json.dumps(read)
        (folder / "steps.jsonl").write_text("\n".join(lines) + "\n")
    return edit


@pytest.mark.parametrize(("edit", "words"), [
    (header(lambda h: h.update(first_step=-1)), "begins at step -1"),
    (header(lambda h: h.update(first_step=99)), "begins at step 99"),
    (header(lambda h: h.update(first_step=True)), 'no usable "first_step"'),
    (header(lambda h: h.update(first_step="7")), 'no usable "first_step"'),
    (header(lambda h: h.update(fork=[1])), 'no usable "fork"'),
    (header(lambda h: h.update(first_step=5)), "expected step 5, got 0"),
    (header(lambda h: h.update(scenario={"name": 3})), "no usable scenario"),
    (header(lambda h: h["world"].update(backend="nowhere")), "nowhere"),
    (header(lambda h: h.update(interventions=[{"kind": "os.system"}])), "unknown intervention"),
    (header(lambda h: h.update(interventions=[[]])), "expected an intervention"),
    (header(lambda h: h.update(hooks={"blocks.9.*": {}})), "blocks.9"),
    (header(lambda h: h["agent"].update(**{"class": "Other"})), "agent is another"),
    (header(lambda h: h["agent"].update(weights_digest="00ff")), "weights have changed"),
    (snapshot(20, lambda a, n: n.update(index="10")), "says that it is of step 10"),
    (snapshot(20, lambda a, n: n.update(index="x")), "cannot read the snapshot"),
    (snapshot(20, lambda a, n: n.update(streams="{}")), "not one of the agent"),
    (snapshot(20, lambda a, n: n.update(streams='{"agent": {"bit_generator": "MT19937"}}')), "not one of the agent"),
    (snapshot(20, lambda a, n: n.update(streams="[1]")), "not one of the agent"),
    (snapshot(20, lambda a, n: n.update(interventions='{"7": {"memo": {}}}')), "not those of these"),
    (snapshot(20, lambda a, n: n.update(interventions='{"x": 3}')), "not those of these"),
    (snapshot(20, lambda a, n: n.update(interventions='[3]')), "not those of these"),
    (snapshot(20, lambda a, n: a.pop("agent/memory")), "not one of the agent"),
    (snapshot(20, lambda a, n: a.update(world=np.zeros(9, np.uint8))), "no snapshot of stripes"),
    (snapshot(20, lambda a, n: a.pop("world")), None),
    (row(39, lambda r: r.update(outcomes=[1])), None),
    (row(39, lambda r: r.update(outcomes={"hit": 3})), None),
    (header(lambda h: h.update(provenance=3)), None),
    (row(22, lambda r: r.update(outcomes=[1])), "step 22, outcomes"),
    (row(22, lambda r: r.update(executed=None)), 'step 22 has no usable "executed" action'),
    (row(22, lambda r: r["executed"].update(attack=7)), "attack"),
    (row(22, lambda r: r["pose"].update(yaw=9.5)), "does not come out as recorded: step 22, pose.yaw"),
    (row(22, lambda r: r["statistics"].update(jump=3)), "does not come out as recorded: step 22, statistics.jump"),
    (lambda folder: (folder / "snapshots" / "00000020.safetensors").write_bytes(b"\x08" * 64), "cannot read"),
])
def test_a_changed_recording_is_refused_or_does_not_matter(plain: Recording, tmp_path: Path, words: str | None,
                                                           edit: Callable[[Path], Any]) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(plain.path, folder)
    edit(folder)
    if words is None:
        assert json.dumps(fork(open_recording(folder), 25).as_dict())
        return
    with pytest.raises(HarnessError) as found:
        fork(open_recording(folder), 25, out=tmp_path / "out")
    assert words in str(found.value)
    assert not (tmp_path / "out").exists(), "nothing is written before a fork can begin"


def test_a_world_that_looks_otherwise_now_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = record(tmp_path)
    monkeypatch.setattr("fakes.FakeWorld._pov", lambda self: np.full((360, 640, 3), 7, np.uint8))
    with pytest.raises(RecordingError, match="does not come out as recorded: step 20, frame") as found:
        fork(recording, 20)
    assert "harness replay --verify" in str(found.value.hint)
    monkeypatch.setattr("fakes.FakeWorld.capabilities", dataclasses.replace(FakeWorld.capabilities,
                                                                            deterministic=False))
    report = fork(recording, 20)
    assert report.columns["frame"] is not None and "promises no equal frames" in report.notes[0]


def test_an_agent_that_decides_otherwise_now_is_told(tmp_path: Path) -> None:
    recording = record(tmp_path)
    report = fork_recording(recording, at=25, agent=FakeAgent(sharpness=1.0 + 1e-3))
    assert "do not come out quite as recorded (step 20, log_probs" in report.notes[0]
    assert report.columns["log_probs"] is not None
    close = fork_recording(recording, at=20, agent=FakeAgent(sharpness=1.0 + 1e-7), tolerance=1e-3)
    assert close.first is None


@pytest.mark.parametrize(("at", "more", "error", "words"), [
    (40, {}, RecordingError, "no step 40 to fork at: it has steps 0 to 39"),
    (-1, {}, RecordingError, "no step -1"),
    (True, {}, RecordingError, "no step True"),
    (5, {"steps": 0}, HarnessError, "at least one step"),
    (20, {"interventions": [dataclasses.replace(MASK, schedule=Schedule(between=(3, 19)))]}, InterventionError,
     "of which the fork plays those from 20 on"),
    (20, {"interventions": [dataclasses.replace(MASK, schedule=Schedule(at=(25,)))], "steps": 5}, InterventionError,
     "outside the episode of 25 steps"),
    (20, {"interventions": [ZeroAblation("blocks.7.hook_resid_post")]}, HarnessError, "blocks.7"),
    (20, {"interventions": [dataclasses.replace(MASK, schedule=Schedule(when="wlked"))]}, InterventionError, "walked"),
    (20, {"hooks": ["nothing"]}, HarnessError, "nothing"),
    (20, {"world": FakeWorld(make_scenario(41))}, WorldError, "another scenario"),
])
def test_bad_requests_are_refused(plain: Recording, tmp_path: Path, at: Any, more: dict[str, Any],
                                  error: type[HarnessError], words: str) -> None:
    with pytest.raises(error) as found:
        fork(plain, at, out=tmp_path / "out", **more)
    assert words in str(found.value) and not (tmp_path / "out").exists()


def test_a_video_and_an_empty_recording_cannot_be_forked(tmp_path: Path) -> None:
    source = record(tmp_path, n=5)
    with VideoWorld(make_scenario(5), path=source.path / "frames.mkv") as world, Recorder(tmp_path / "v") as recorder:
        run_episode(world, FakeAgent(), seed=1, observers=[recorder])
    with pytest.raises(RecordingError, match="of a video: there is no world to play on in"):
        fork(open_recording(recorder.path), 2)
    (source.path / "steps.jsonl").write_text("")
    (source.path / "result.json").unlink()
    with pytest.raises(RecordingError, match="no steps to fork at"):
        fork(open_recording(source.path), 0)


def test_a_killed_run_is_forked_up_to_its_last_readable_step(tmp_path: Path) -> None:
    recording = record(tmp_path)
    (recording.path / "result.json").unlink()
    file = recording.path / "frames.mkv"
    file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])
    cut = open_recording(recording.path)
    n = len(cut)
    assert 5 < n < 40
    report = fork(cut, n - 1)
    assert report.first is None and (report.n_steps, report.n_compared) == (40 - n + 1, 1)
    assert report.ends == ("unfinished", "truncated") and report.changed_outcomes == []
    with pytest.raises(RecordingError, match=rf"it has steps 0 to {n - 1} \(unfinished"):
        fork(cut, n)


def test_without_any_snapshot_file_the_beginning_will_do(tmp_path: Path) -> None:
    recording = record(tmp_path)
    snapshot(20, lambda arrays, _: arrays.pop("world"))(recording.path)
    assert "from the snapshot at step 10; steps 10 to 24" in fork(recording, 25).restored, "an earlier one will do"
    for file in (recording.path / "snapshots").iterdir():
        file.unlink()
    report = fork(open_recording(recording.path), 12)
    assert report.first is None and "from step 0, its beginning; steps 0 to 11 played again" in report.restored


def test_an_interrupted_fork_keeps_what_it_played(tmp_path: Path) -> None:
    class Impatient(fork_module._Standing):
        def on_step(self, step: Any) -> None:
            if step.index == 30:
                raise KeyboardInterrupt

    recording = record(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fork(recording, 25, out=tmp_path, observers=[Impatient()])
    forked = open_recording(tmp_path / "stripes-fake-s3-fork25")
    assert forked.status == "interrupted" and len(forked) == 6 and forked.steps[:] == recording.steps[25:31]


def test_an_episode_must_have_steps_left(tmp_path: Path) -> None:
    recording = record(tmp_path)
    with pytest.raises(HarnessError, match="nothing to play from step 20 on"):
        run_episode(FakeWorld(make_scenario(40)), FakeAgent(), seed=3, start=recording.snapshots[20], max_steps=20)


# --- the real thing ---------------------------------------------------------------------------------------------------


def played(folder: Path, scenario: Scenario, agent: str, n: int, **keywords: Any) -> Recording:
    with make_world(scenario) as world, Recorder(folder) as recorder:
        run_episode(world, harness.load_agent(agent), seed=2, max_steps=n, observers=[recorder], **keywords)
    return open_recording(recorder.path)


def test_vpt_nano_in_blockworld(tmp_path: Path) -> None:
    """World, memory, streams and an ablation inside the network: a fork is the rest; an edit of the past is over."""
    own = [ZeroAblation("blocks.1.attn.hook_z", head=0, schedule=Schedule(between=(4, 30)))]
    recording = played(tmp_path, load_scenario("villager"), "vpt-nano", 52, interventions=own,
                       hooks=["blocks.0.hook_resid_post", "hook_embed"])
    report = harness.fork_recording(recording, at=37, out=tmp_path)
    assert report.first is None and report.n_compared == 15 and "snapshot at step 32" in report.restored
    assert report.path is not None
    same_rest(recording, open_recording(report.path))
    assert replay_recording(open_recording(report.path)).ok
    embeds = RecordedHistory(recording, 37).embeds(30, 34)
    assert embeds is not None and np.array_equal(embeds, recording.activations["hook_embed"][30:34])
    changed = harness.fork_recording(recording, at=37, steps=4,
                                     interventions=[ZeroAblation("blocks.2.hook_resid_post", schedule=Schedule(at=39))])
    assert changed.first is not None and changed.first.column.startswith("log_probs.") and changed.first.step == 39


def test_a_full_removal_reaches_back_into_the_recording(tmp_path: Path) -> None:
    """From embeddings, from pictures, or in an episode that knew from its start: the same memory, and a true replay."""
    edit = MemoryKnockout(ages=[10], mode="full", schedule=Schedule(at=38))
    known = played(tmp_path / "known", load_scenario("villager"), "vpt-nano", 42, interventions=[edit])
    told: list[str] = []
    for name, hooks in (("with", ["hook_embed"]), ("without", [])):
        recording = played(tmp_path / name, load_scenario("villager"), "vpt-nano", 42, hooks=hooks)
        report = harness.fork_recording(recording, at=36, out=tmp_path / name, interventions=[edit],
                                        announce=told.append)
        assert report.path is not None and report.first is not None and report.first.step == 38
        forked = open_recording(report.path)
        for step in (38, 39):
            assert forked.steps[step - 36]["log_prob"] == pytest.approx(known.steps[step]["log_prob"], abs=1e-5)
        assert replay_recording(forked).ok
    assert told == ["MemoryKnockout: the recording holds no hook_embed, so the 36 pictures since the memory kept at "
                    "step 0 are looked at again; record with --hooks hook_embed to spare that"]
    shutil.move(report.path, tmp_path / "alone")
    with pytest.raises(InterventionError, match="frames since step 28 are needed"):
        replay_recording(open_recording(tmp_path / "alone"))


def test_an_agent_that_reads_the_worlds_state_is_forked_too(tmp_path: Path) -> None:
    recording = played(tmp_path, load_scenario("trunk"), "chopper", 45)
    assert harness.fork_recording(recording, at=38).first is None


def test_weights_that_changed_are_named(tmp_path: Path) -> None:
    recording = played(tmp_path, load_scenario("trunk"), "vpt-nano", 3)
    with pytest.raises(AgentError, match="weights have changed") as found:
        harness.fork_recording(recording, at=1, agent=harness.load_agent("untrained"))
    assert "--agent FILE.yaml" in str(found.value.hint)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_null_twin_never_parts(tmp_path: Path) -> None:
    """Ten thousand frames of the trained agent in the villager's world, from one fork and from a fork of it."""
    plain = load_scenario("villager")
    episode = plain.episode.model_copy(update={"max_steps": 10_200, "terminate_when": ()})
    recording = played(tmp_path, plain.model_copy(update={"episode": episode}), "vpt-nano", 10_200)
    report = harness.fork_recording(recording, at=117, steps=10_050, out=tmp_path)
    assert report.first is None and report.n_compared == 10_050
    assert report.path is not None
    again = harness.fork_recording(open_recording(report.path), at=9_000)
    assert again.first is None and again.n_compared == 117 + 10_050 - 9_000
