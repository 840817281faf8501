"""Running suites: the same numbers whoever plays, nothing twice, nothing by halves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import mortal
import pytest
from tiny_suites import write_tiny

from harness.agent.scripted import RandomAgent
from harness.batch.load import load_suite
from harness.batch.pool import play_in_processes
from harness.batch.runner import run_suite
from harness.batch.store import Store, cell_id, cell_key
from harness.batch.worker import Job, Order, load_player
from harness.errors import SuiteError

BATCH = 4


def results(out: Path) -> dict[str, Any]:
    """What was measured, by cell and seed, without what depends on the clock."""
    found = {}
    for path in sorted(out.glob("trials/*/[0-9]*.json")):
        result = json.loads(path.read_text())
        del result["seconds"]
        found[f"{path.parent.name}/{path.stem}"] = result
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


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The tiny suite, and its results played in one go in this process."""
    folder = tmp_path_factory.mktemp("reference")
    suite, progress = write_tiny(folder), Count()
    report = run_suite(suite, out=folder / "out", batch=BATCH, progress=progress)
    assert not report.failures and not report.missing
    assert progress.started == [("10 trials", 65)] and progress.last == 65
    found = results(folder / "out")
    assert len(found) == 10 and len({r["actions"] for r in found.values()}) == 10
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
    first = {path: path.stat().st_mtime_ns for path in tmp_path.glob("trials/*/4*.json")}
    assert len(first) == 4
    # Half a file, a foreign one, one that lies about its seed, and the rest of a write that was cut off.
    whole, *others = sorted(first)
    others[0].write_text(whole.read_text()[:50])
    others[1].write_text("[]")
    others[2].write_text(whole.read_text())
    (whole.parent / ".44.json.1.part").write_text("{")
    progress = Count()
    report = run_suite(suite, out=tmp_path, batch=BATCH, progress=progress)
    assert progress.started[0][0] == "9 trials, 1 finished before"
    assert whole.stat().st_mtime_ns == first[whole] and report.missing == 0
    assert results(tmp_path) == wanted
    again = Count()
    assert run_suite(suite, out=tmp_path, batch=BATCH, progress=again).as_dict() == report.as_dict()
    assert again.started == [], "there was nothing left to play"


def test_killed_at_any_moment_nothing_is_lost_and_nothing_counted_twice(tmp_path: Path) -> None:
    """kill -9 of the whole command, workers and all; then the same command."""
    suite = write_tiny(tmp_path, agents="random", edit=("count: 5", "count: 20"))
    run_suite(suite, out=tmp_path / "whole")
    wanted, out = results(tmp_path / "whole"), tmp_path / "out"
    script = tmp_path / "program.py"
    script.write_text("from harness.batch.runner import run_suite\nif __name__ == '__main__':\n"
                      f"    run_suite({str(suite)!r}, out={str(out)!r}, workers=2)")
    process = subprocess.Popen([sys.executable, str(script)])
    try:
        deadline = time.monotonic() + 120
        while not any(out.glob("trials/*/[0-9]*.json")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    before = results(out)
    assert 1 <= len(before) < 40 == len(wanted) and all(wanted[key] == result for key, result in before.items())
    assert not run_suite(suite, out=out).missing
    assert results(out) == wanted


def job_of(suite_path: Path, out: Path, *, agent: str | None = None) -> tuple[Job, list[Order]]:
    suite = load_suite(suite_path, only=[] if agent is None else [f"agent={agent}"])
    about = {name: load_player(name).provenance() for name in {cell.agent for cell in suite.cells}}
    ids = tuple(cell_id(cell, cell_key(cell, about[cell.agent], BATCH)) for cell in suite.cells)
    store = Store(out)
    for name in ids:
        store.begin(name, {})
    job = Job(suite.cells, ids, store, BATCH)
    return job, [Order(number, seed) for number, cell in enumerate(suite.cells) for seed in cell.seeds]


def test_a_worker_that_dies_costs_its_own_trial_only(reference: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    suite, wanted = reference
    job, every = job_of(suite, tmp_path)
    orders = [order for order in every if order.cell == 0]
    ended = dict(play_in_processes(job, orders, 1, ticked=lambda n: None, entry=mortal.work_until_it_dies))
    assert set(ended) == set(orders)
    problems = {order: problem for order, problem in ended.items() if problem is not None}
    assert problems == {Order(0, mortal.DEADLY): f"the worker process ended with exit code {mortal.CODE}"}
    found = results(tmp_path)
    assert len(found) == 4 and all(wanted[key] == result for key, result in found.items())


def test_workers_that_never_play_are_given_up(tmp_path: Path) -> None:
    job, orders = job_of(write_tiny(tmp_path, agents="noop"), tmp_path / "out")
    with pytest.raises(SuiteError, match=f"end before they play: .* exit code {mortal.CODE}"):
        list(play_in_processes(job, orders, 1, ticked=lambda n: None, entry=mortal.die_at_birth))
    with pytest.raises(SuiteError, match="MemoryError: too small"):
        list(play_in_processes(job, orders, 1, ticked=lambda n: None, entry=mortal.break_down))


def test_a_trial_that_fails_is_told_and_tried_again_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = write_tiny(tmp_path, agents="random, noop")
    with monkeypatch.context() as patch:
        patch.setattr(RandomAgent, "act", lambda *_, **__: 1 / 0)
        report = run_suite(suite, out=tmp_path / "out", seeds=2)
    assert [str(f) for f in report.failures] == [
        f"{target}, random, seed {seed}: ZeroDivisionError: division by zero"
        for target in ("villager", "trunk") for seed in (40, 41)]
    assert report.missing == 4 and "4 of 8 trials are not finished" in report.text()
    assert [len(row.measured) for row in report.rows] == [0, 2, 0, 2]
    assert run_suite(suite, out=tmp_path / "out", seeds=2).missing == 0


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
    assert len(list((tmp_path / "out" / "trials").glob("*/0.json"))) == 3


def test_what_cannot_be_run_is_said(tmp_path: Path) -> None:
    suite = write_tiny(tmp_path, agents="noop")
    with pytest.raises(SuiteError, match="at least one worker"):
        run_suite(suite, workers=0)
    with pytest.raises(SuiteError, match="loaded already"):
        run_suite(load_suite(suite), only=["agent=noop"])
    (tmp_path / "file").write_text("")
    with pytest.raises(SuiteError, match="cannot write results"):
        run_suite(suite, out=tmp_path / "file")
