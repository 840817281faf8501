"""Running suites: the same numbers whoever plays, nothing twice, nothing by halves."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mortal
import pytest
from tiny_suites import write_tiny

from harness.agent.scripted import RandomAgent
from harness.batch.engine import Engine
from harness.batch.job import Job, Order
from harness.batch.load import load_suite
from harness.batch.pool import LocalEngine
from harness.batch.results import read_summary
from harness.batch.runner import Tally, run_suite
from harness.batch.scheduler import Ending, Queue, play
from harness.batch.store import Store, cell_id, cell_key
from harness.batch.suite import Budget, RecordingPolicy
from harness.batch.worker import load_player
from harness.errors import HarnessError, SuiteError, WorldError
from harness.recording.recording import open_recording

BATCH = 4


def results(out: Path) -> dict[str, Any]:
    """What was measured, by cell and seed, without what depends on the clock."""
    found = {}
    for path in sorted(out.glob("trials/*/*/result.json")):
        result = json.loads(path.read_text())
        del result["seconds"]
        found[f"{path.parent.parent.name}/{path.parent.name}"] = result
    return found


class Count:
    """Progress, remembered."""

    def __init__(self) -> None:
        self.started: list[tuple[str, int | None]] = []
        self.last = 0

    def start(self, label: str, total: int | None) -> None:
        self.started.append((label, total))

    def to(self, done: int) -> None:
        assert done >= self.last
        self.last = done

    def tallies(self, metric: str, cells: Sequence[Tally]) -> None:
        self.metric, self.cells = metric, cells


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The tiny suite, and its results played in one go in this process."""
    folder = tmp_path_factory.mktemp("reference")
    suite, progress = write_tiny(folder), Count()
    report = run_suite(suite, out=folder / "out", batch=BATCH, progress=progress)
    assert not report.failures and not report.missing
    assert progress.started == [("10 trials", 65)] and progress.last == 65
    found = results(folder / "out")
    assert len(found) == 10 and len({r["episodes"][0]["actions"] for r in found.values()}) == 10
    assert (progress.metric, [cell.finished for cell in progress.cells]) == ("approached", [5, 5])
    return suite, found


def test_results_do_not_depend_on_workers_or_order(reference: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    suite, wanted = reference
    report = run_suite(suite, out=tmp_path, workers=2, batch=BATCH)
    assert not report.failures and results(tmp_path) == wanted
    loaded = load_suite(suite)
    for number, seed in ((1, 43), (0, 40), (1, 41)):
        cell = loaded.cells[number]
        one = replace(loaded, cells=(replace(cell, seeds=range(seed, seed + 1)),))
        run_suite(one, out=tmp_path / "single", batch=BATCH)
    single = results(tmp_path / "single")
    assert len(single) == 3 and all(wanted[key] == result for key, result in single.items())


def test_finished_trials_are_not_played_again(reference: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    suite, wanted = reference
    run_suite(suite, out=tmp_path, batch=BATCH, seeds=2)
    first = {path: path.stat().st_mtime_ns for path in tmp_path.glob("trials/*/4*/result.json")}
    assert len(first) == 4
    # Half a file, a foreign one, one that lies about its seed, and the rest of a write that was cut off.
    whole, *others = sorted(first)
    others[0].write_text(whole.read_text()[:50])
    others[1].write_text("[]")
    others[2].write_text(whole.read_text())
    left = whole.parent.parent / ".44.1.part"
    left.mkdir()
    (left / "result.json").write_text(whole.read_text())
    progress = Count()
    report = run_suite(suite, out=tmp_path, batch=BATCH, progress=progress)
    assert progress.started[0][0] == "9 trials, 1 finished before"
    assert whole.stat().st_mtime_ns == first[whole] and report.missing == 0
    assert results(tmp_path) == wanted and not left.exists()
    again = Count()
    assert run_suite(suite, out=tmp_path, batch=BATCH, progress=again).as_dict() == report.as_dict()
    assert again.started == [], "there was nothing left to play"


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_killed_at_random_nothing_is_lost_and_nothing_repeated(tmp_path: Path, kills: int) -> None:
    """kill -9 of the whole command, workers and all, when some more trials are there; then the same command."""
    rng = random.Random(kills)
    suite = write_tiny(tmp_path, agents="random", edit=("count: 5", f"count: {10 * kills}"))
    run_suite(suite, out=tmp_path / "whole")
    wanted, out = results(tmp_path / "whole"), tmp_path / "out"
    script = tmp_path / "program.py"
    script.write_text("from harness.batch.runner import run_suite\nif __name__ == '__main__':\n"
                      f"    run_suite({str(suite)!r}, out={str(out)!r}, workers=2)")
    born: dict[Path, int] = {}
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, str(script)])
        try:
            enough, deadline = len(born) + rng.randint(1, 8), time.monotonic() + 250
            while len(list(out.glob("trials/*/*/result.json"))) < enough and process.poll() is None \
                    and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(rng.random() / 20)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        there = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/*/result.json")}
        assert len(there) > len(born) and all(there[path] == time for path, time in born.items())
        born = there
        before = results(out)
        assert all(wanted[key] == result for key, result in before.items())
    assert len(born) < len(wanted) == 20 * kills
    assert not run_suite(suite, out=out).missing
    assert results(out) == wanted and all(path.stat().st_mtime_ns == time for path, time in born.items())
    assert not list(out.glob("trials/*/.*")), "nothing half played is left"


def job_of(suite_path: Path, out: Path, *, agent: str | None = None) -> tuple[Job, list[Order]]:
    suite = load_suite(suite_path, only=[] if agent is None else [f"agent={agent}"])
    about = {name: load_player(name).provenance() for name in {cell.agent for cell in suite.cells}}
    ids = tuple(cell_id(cell, cell_key(cell, about[cell.agent], BATCH)) for cell in suite.cells)
    store = Store(out)
    for name in ids:
        store.begin(name, {})
    n = len(suite.cells)
    job = Job(suite.name, suite.cells, ids, (BATCH,) * n, ((),) * n, store, suite.metrics, suite.record)
    return job, [Order(number, seed) for number, cell in enumerate(suite.cells) for seed in cell.seeds]


def play_all(engine: Engine, job: Job, orders: list[Order], **options: Any) -> dict[Order, Ending]:
    ended: list[Ending] = []
    (lane,) = {job.lane(order) for order in orders}
    assert not play(engine, job, {lane: Queue(iter(orders), len(orders))}, ended=ended.append, **options)
    assert len({ending.order for ending in ended}) == len(ended)
    return {ending.order: ending for ending in ended}


def test_a_worker_that_dies_costs_its_own_trial_only(reference: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    suite, wanted = reference
    job, every = job_of(suite, tmp_path)
    orders = [order for order in every if order.cell == 0]
    ended = play_all(LocalEngine(1, mortal.work_until_it_dies), job, orders)
    assert set(ended) == set(orders)
    problems = {order: (ending.status, ending.problem) for order, ending in ended.items() if ending.problem is not None}
    assert problems == {Order(0, mortal.DEADLY): ("lost", f"the worker process ended with exit code {mortal.CODE}")}
    found = results(tmp_path)
    assert len(found) == 4 and all(wanted[key] == result for key, result in found.items())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_trial_that_hangs_is_killed_and_its_neighbours_are_played(reference: tuple[Path, dict[str, Any]],
                                                                    tmp_path: Path) -> None:
    suite, wanted = reference
    job, every = job_of(suite, tmp_path)
    orders = [order for order in every if order.cell == 0]
    ended = play_all(LocalEngine(1, mortal.work_until_it_hangs), job, orders, timeout=60)
    assert {order.seed for order, ending in ended.items() if ending.status == "timeout"} == {mortal.DEADLY}
    found = results(tmp_path)
    assert len(found) == 4 and all(wanted[key] == result for key, result in found.items())


def test_workers_that_never_play_are_given_up(tmp_path: Path) -> None:
    job, orders = job_of(write_tiny(tmp_path, agents="noop"), tmp_path / "out")
    with pytest.raises(SuiteError, match=f"end before they play: .* exit code {mortal.CODE}"):
        play_all(LocalEngine(1, mortal.die_at_birth), job, orders)
    with pytest.raises(SuiteError, match="MemoryError: too small"):
        play_all(LocalEngine(1, mortal.break_down), job, orders)


def test_a_trial_that_fails_is_a_result_and_tried_again_only_when_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                                       ) -> None:
    suite = write_tiny(tmp_path, agents="random, noop")
    with monkeypatch.context() as patch:
        patch.setattr(RandomAgent, "act", lambda *_, **__: 1 / 0)
        report = run_suite(suite, out=tmp_path / "out", seeds=2)
    assert [str(f) for f in report.failures] == [
        f"{target}, random, seed {seed}: ZeroDivisionError: division by zero"
        for target in ("villager", "trunk") for seed in (40, 41)]
    assert report.missing == 4 and "4 of 8 trials are not finished" in report.text()
    assert [len(row.measured) for row in report.rows] == [0, 2, 0, 2]
    (failed,) = (tmp_path / "out").glob("trials/villager.random-*/40/result.json")
    assert json.loads(failed.read_text())["status"] == "failed"
    again = run_suite(suite, out=tmp_path / "out", seeds=2)
    assert (again.missing, [str(f) for f in again.failures]) == (4, [str(f) for f in report.failures])
    assert run_suite(suite, out=tmp_path / "out", seeds=2, retry_failed=True).missing == 0
    assert not run_suite(suite, out=tmp_path / "out", seeds=2).failures


def test_a_trial_that_fails_once_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, calls, act = write_tiny(tmp_path, agents="random"), list[int](), RandomAgent.act

    def first_breaks(self: RandomAgent, *arguments: Any, **more: Any) -> Any:
        calls.append(1)
        return 1 / 0 if len(calls) == 1 else act(self, *arguments, **more)

    monkeypatch.setattr(RandomAgent, "act", first_breaks)
    report = run_suite(suite, out=tmp_path / "out", seeds=1, retries=1)
    assert not report.failures and not report.missing
    assert sorted(result["attempts"] for result in results(tmp_path / "out").values()) == [1, 2]


def test_a_budget_stops_it_and_the_same_command_goes_on(tmp_path: Path) -> None:
    suite = write_tiny(tmp_path, agents="noop")
    report = run_suite(suite, out=tmp_path / "out", seeds=2, budget=Budget(trials=3))
    assert report.missing == 1 and "stopped: the budget is used up; the same command goes on" in report.text()
    report = run_suite(suite, out=tmp_path / "out", seeds=2, budget=Budget(trials=3))
    assert report.missing == 0 and report.stopped is None


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    suite = write_tiny(tmp_path, agents="noop")
    with Store(tmp_path / "out").locked(), pytest.raises(SuiteError, match=rf"another run .*process {os.getpid()}"):
        run_suite(suite, out=tmp_path / "out")
    assert run_suite(suite, out=tmp_path / "out", seeds=1).missing == 0


def test_a_full_disk_stops_the_run_with_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, fsync, calls = write_tiny(tmp_path, agents="noop"), os.fsync, list[int]()

    def full(file: int) -> None:
        calls.append(1)
        if len(calls) > 7:  # suite.json, two cells, and two files of each trial
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SuiteError, match="the disk is full") as caught:
            run_suite(suite, out=tmp_path / "out")
    assert "the same command goes on" in str(caught.value)
    assert len(results(tmp_path / "out")) == 2 and not list((tmp_path / "out").glob("**/*.part"))
    assert run_suite(suite, out=tmp_path / "out").missing == 0


@pytest.mark.parametrize("keep", ["all", "failures", "first", "none"])
def test_recordings_are_kept_by_policy_and_change_nothing(reference: tuple[Path, dict[str, Any]], tmp_path: Path,
                                                          keep: Any) -> None:
    suite, wanted = reference
    policy = RecordingPolicy(keep, 1 if keep == "first" else 0, ("blocks.0.attn.hook_pattern",))
    report = run_suite(suite, out=tmp_path, batch=BATCH, seeds=2, only=["target=trunk"], record=policy)
    assert not report.failures and all(wanted[key] == result for key, result in results(tmp_path).items())
    kept = sorted(tmp_path.glob("trials/*/*/recording"))
    assert len(kept) == {"all": 2, "failures": 0, "first": 1, "none": 0}[keep]
    assert not list(tmp_path.glob("trials/*/*/recorded"))
    if keep == "all":
        recording = open_recording(kept[0])
        assert recording.complete and len(recording) == 5 and recording.header["agent"]["batch_shape"] == [BATCH, 1]
        assert recording.activations["blocks.0.attn.hook_pattern"][4].shape[0] == 2
        assert len(recording.pov[0][0]) == 640, "the whole picture, though the agent reads part of it"


def test_several_episodes_a_trial(tmp_path: Path) -> None:
    suite = write_tiny(tmp_path, agents="random", edit=("  steps: 8", "  steps: 8\n  episodes: 3"))
    report = run_suite(suite, out=tmp_path / "out", seeds=2)
    (path,) = (tmp_path / "out").glob("trials/villager*/40/result.json")
    result = json.loads(path.read_text())
    assert len(result["episodes"]) == 3 and result["episodes"][0]["seed"] == 40 and result["n_steps"] == 24
    assert len({each["actions"] for each in result["episodes"]}) == 3
    ticks = [each["measured"]["exposure"] for each in result["episodes"]]
    assert result["metrics"]["exposure_ticks"] == sum(ticks) / 3
    assert sorted(p.name for p in path.parent.iterdir()) == ["episode-0", "episode-1", "episode-2", "result.json"]
    assert (path.parent / "episode-2" / "steps.jsonl").read_text().count("\n") == 8
    assert report.rows[0].finished == 2 and report.rows[0].rate("exposure").n == 6
    assert len(set(report.rows[0].measured)) == 6, "no two trials share an episode"


def test_a_scenario_without_a_target_is_measured_by_outcomes(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text("name: chop\nmetrics: [held, 'outcome:walked', 'outcome:walked.step']\nlabels: [place]\n"
                    "defaults: {scenario: trunk, agent: noop, steps: 2, seeds: [7, 3], trees: 0}\n"
                    "matrix: {place: [trunk, treechop]}\n"
                    "include: [{place: treechop, scenario: treechop, most: 1, fewest: 1}]\n")
    text = path.read_text().replace(", trees: 0", "")
    path.write_text(text)
    report = run_suite(path, out=tmp_path / "out")
    trunk, treechop = report.rows
    assert treechop.sample("held") == {} and trunk.sample("held") == {7: 0.0, 3: 0.0}
    assert treechop.sample("outcome:walked") == {7: 0.0, 3: 0.0} and treechop.sample("outcome:walked.step") == {}
    assert "no target in treechop: held are not measured there" in report.text()
    assert report.samples()["held"][trunk.cell.name] == {7: 0.0, 3: 0.0}
    assert len(load_suite(path, only=["place=treechop"]).cells) == 1, "the others have what it lacks"


def test_an_analysis_as_a_metric(tmp_path: Path) -> None:
    more = ("name: tiny\nmetrics: [{analysis: attention, name: newest, value: tables/0/rows/0/1}]\n"
            "record: {first: 1, hooks: ['blocks.*.attn.hook_pattern']}")
    suite = write_tiny(tmp_path, edit=("name: tiny", more))
    report = run_suite(suite, out=tmp_path / "out", batch=BATCH, seeds=2, only=["target=trunk"])
    weights = report.rows[0].sample("newest")
    assert not report.failures and len(weights) == 2 and all(0 < weight <= 1 for weight in weights.values())
    assert len(list((tmp_path / "out").glob("trials/*/*/recording"))) == 1, "the other was for the analysis alone"


CUTS = """\
name: cuts
labels: [cut]
defaults: {scenario: villager, agent: AGENT, steps: 6, seeds: 2, trees: 0, distance: 3}
matrix: {cut: [whole, picture, head, calm]}
include:
  - {cut: picture, intervene: {kind: PixelMask}}
  - {cut: head, intervene: [{kind: ZeroAblation, hook: blocks.0.attn.hook_z, head: 1}]}
  - {cut: calm, intervene: [{kind: KeyBlock, keys: [attack]}, no-leaves]}
"""


def test_interventions_of_cells(reference: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "cuts.yaml"
    path.write_text(CUTS.replace("AGENT", str(reference[0].parent / "tiny.yaml")))
    (tmp_path / "tiny.yaml").write_text((reference[0].parent / "tiny.yaml").read_text())
    path.write_text(CUTS.replace("AGENT", "tiny.yaml"))
    report = run_suite(path, out=tmp_path / "out", batch=BATCH)
    assert not report.failures and not report.missing
    rows = [cell["rows"] for cell in json.loads((tmp_path / "out" / "suite.json").read_text())["cells"]]
    assert rows == [BATCH, BATCH, 1, BATCH], "inside the network each plays alone"
    ways = {row.cell.labels["cut"]: [result["episodes"][0]["actions"] for result in
                                     sorted(Store(tmp_path / "out").results(row.id), key=lambda r: r["seed"])]
            for row in report.rows}
    assert len({tuple(way) for way in ways.values()}) == 4
    assert report.rows[3].rate("contact").count == 0


def test_an_intervention_that_does_not_fit_is_refused_before_anything_is_played(tmp_path: Path) -> None:
    path = tmp_path / "cuts.yaml"
    path.write_text(CUTS.replace("AGENT", "noop"))
    with pytest.raises(HarnessError, match="cell head: "):
        run_suite(path, out=tmp_path / "out")
    assert not list((tmp_path / "out").glob("trials"))


def test_a_cells_folder_names_all_that_its_numbers_depend_on(tmp_path: Path) -> None:
    cell = load_suite(write_tiny(tmp_path)).cells[0]
    about = load_player(cell.agent).provenance()
    assert len(about["weights_digest"]) == 64
    here = cell_id(cell, cell_key(cell, about, BATCH))
    assert here.startswith("villager.tiny-")

    def changed(edit: tuple[str, str]) -> str:
        other = load_suite(write_tiny(tmp_path, edit=edit)).cells[0]
        return cell_id(other, cell_key(other, about, BATCH))

    assert changed(("count: 5", "count: 6")) == here, "more seeds go on with the same results"
    assert changed(("name: tiny", "name: other")) == here
    others = {changed(("steps: 8", "steps: 7")), changed(("trees: 0", "trees: 1")),
              cell_id(cell, cell_key(cell, about, BATCH + 1)),
              cell_id(cell, cell_key(cell, {**about, "weights_digest": "0" * 64}, BATCH))}
    assert len(others) == 4 and here not in others


def test_names_cannot_leave_the_output_folder(tmp_path: Path) -> None:
    text = ('labels: [target]\ndefaults: {scenario: trunk, agent: noop, steps: 1, seeds: {first: 0, count: 1}}\n'
            'matrix: {target: ["../../up", ".", "/etc"]}\n')
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    run_suite(path, out=tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"suite.yaml", "out"}
    assert len(list((tmp_path / "out" / "trials").glob("*/0/result.json"))) == 3


def test_what_cannot_be_run_is_said(tmp_path: Path) -> None:
    suite = write_tiny(tmp_path, agents="noop")
    with pytest.raises(SuiteError, match="no negative number of workers"):
        run_suite(suite, workers=-1)
    with pytest.raises(SuiteError, match="loaded already"):
        run_suite(load_suite(suite), only=["agent=noop"])
    (tmp_path / "file").write_text("")
    with pytest.raises(SuiteError, match="cannot write results"):
        run_suite(suite, out=tmp_path / "file")
    many = write_tiny(tmp_path, agents="noop", edit=("count: 5", "count: 900000"))
    with pytest.raises(SuiteError, match=r"more than 1,000,000 trials: 1,800,000[\s\S]*--yes"):
        run_suite(many, out=tmp_path / "out")


def test_what_a_world_cannot_tell_is_in_results_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.world.blockworld.world.BlockWorld.notes", lambda self: ("another game",))
    path = tmp_path / "suite.yaml"
    path.write_text("name: noted\n"
                    "defaults: {scenario: villager, steps: 2, seeds: {first: 0, count: 2}, agent: noop}\n"
                    "matrix: {backend: [blockworld]}\n", encoding="utf-8")
    report = run_suite(load_suite(path), out=tmp_path / "out")
    notes = [json.loads(one.read_text(encoding="utf-8"))["notes"] for one in (tmp_path / "out").rglob("result.json")]
    assert notes == [["another game"]] * 2 and report.rows[0].notes == ("another game",)
    assert report.text().count("another game") == 1
    assert read_summary(tmp_path / "out").world_notes == ("another game",)


def test_a_backend_that_cannot_be_built_is_said_before_anything_is_played(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text("name: elsewhere\n"
                    "defaults: {scenario: villager, steps: 2, seeds: {first: 0, count: 2}, agent: noop}\n"
                    "matrix: {backend: [blockworld, gymnasium]}\n", encoding="utf-8")
    with pytest.raises(WorldError, match="needs an environment"):
        run_suite(load_suite(path), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
