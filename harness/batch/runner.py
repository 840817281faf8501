"""Running a suite: what is on disk already is not played again, and the rest does not depend on who plays it."""

from __future__ import annotations

import math
import os
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from harness.agent.agent import Agent
from harness.analysis.words import cast_interventions
from harness.batch.engine import Engine, InlineEngine
from harness.batch.job import Job, Lane, Order
from harness.batch.load import load_suite
from harness.batch.metrics import Measured
from harness.batch.pool import LocalEngine
from harness.batch.report import Failure, Report, Row
from harness.batch.scheduler import Ending, Queue, play
from harness.batch.store import Store, cell_id, cell_key
from harness.batch.suite import Budget, Cell, RecordingPolicy, Suite, Trial
from harness.batch.worker import load_player, work
from harness.errors import HarnessError, SuiteError
from harness.intervention.intervention import Intervention
from harness.intervention.stack import InterventionStack
from harness.provenance import collect_provenance
from harness.rollout import can_share

__all__ = ["BATCH", "MOST_TRIALS", "Progress", "Tally", "cores", "run_suite"]

BATCH = 16
"""Rows of each forward pass, unless asked otherwise."""
MOST_TRIALS = 1_000_000
"""A suite with more is taken for a mistake, unless told otherwise."""


@dataclass
class Tally:
    """How far a cell is: finished and failed trials, of how many; the first metric's sum, and over how many."""

    title: str
    total: int
    finished: int = 0
    failed: int = 0
    sum: float = 0.0
    n: int = 0

    def add(self, status: str, value: float | None) -> None:
        """One more trial, and its first metric."""
        self.finished += status == "finished"
        self.failed += status != "finished"
        if value is not None:
            self.sum, self.n = self.sum + value, self.n + 1


class Progress(Protocol):
    """Shows how far a run is."""

    def start(self, label: str, total: int | None) -> None:
        """So many steps are to be played."""

    def to(self, done: int) -> None:
        """So many are."""

    def tallies(self, metric: str, cells: Sequence[Tally]) -> None:
        """How far each cell is, to begin with; they are kept up to date, and ``to`` says when to look again."""


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_suite(suite: Suite | str | Path, *, out: str | Path | None = None, workers: int = 0, batch: int = BATCH,
              only: Sequence[str] = (), seeds: int | None = None, progress: Progress | None = None,
              engine: Engine | None = None, timeout: float | None = None, retries: int | None = None,
              record: RecordingPolicy | None = None, budget: Budget | None = None, retry_failed: bool = False,
              yes: bool = False, device: str = "cpu") -> Report:
    """Play every trial of a suite that is not finished yet, and tell what came of all of them.

    A trial's numbers depend on its cell, its seed, the agent's weights, the rows of a forward pass, the version of
    PyTorch and the kind of processor; all of these but the seed are in the name of the cell's folder. They do not
    depend on the number of workers, the order, what is recorded, or what was interrupted.

    Args:
        suite: From ``load_suite``, or its name or file.
        out: Folder of the results; else ``batches/<suite>``.
        workers: Processes. 0: this one, where a trial that crashes or hangs takes the run with it. A program that asks
            for processes must be guarded by ``if __name__ == "__main__"``.
        batch: Rows of each forward pass of an agent with a network. Cells with interventions inside the network or on
            its memory, and cells in other worlds, always have 1.
        only: As for ``load_suite``, when ``suite`` is a name or file.
        seeds: At most so many seeds per cell.
        progress: Told of steps and trials.
        engine: Where workers live, instead of ``workers`` processes of this machine.
        timeout: Seconds for a trial, instead of the suite's.
        retries: Of a trial, instead of the suite's.
        record: Which recordings are kept, instead of the suite's.
        budget: How much to play, instead of the suite's.
        retry_failed: Play failed trials of earlier runs again.
        yes: Play more than a million trials, too.
        device: Where the workers' networks compute, for engines that have GPUs (``RayEngine.device``).

    Raises:
        SuiteError: for a mistake in the suite, an output folder that cannot be written, or in which another run is at
            work.
        AgentError: for an agent that cannot be loaded.
        InterventionError: for an intervention that does not fit agent or scenario.
    """
    if workers < 0 or batch < 1 or (seeds is not None and seeds < 1):
        raise SuiteError(f"expected no negative number of workers, and at least one row and seed, got "
                         f"workers={workers}, batch={batch}, seeds={seeds}")
    chosen = _chosen(suite, only, seeds)
    chosen = replace(chosen, timeout=chosen.timeout if timeout is None else timeout,
                     retries=chosen.retries if retries is None else retries, record=record or chosen.record,
                     budget=budget or chosen.budget)
    if chosen.n_trials > MOST_TRIALS and not yes:
        raise SuiteError(f"the suite has more than {MOST_TRIALS:,} trials: {chosen.n_trials:,}",
                         hint="use fewer seeds or cells, or say --yes (yes=True) if you mean it")
    store = Store(Path("batches") / chosen.name if out is None else Path(out))
    with store.locked():
        plan = _Plan(chosen, store, batch, retry_failed, device)
        over = _play(plan, engine or (LocalEngine(workers) if workers else InlineEngine(work)), progress)
        return _report(chosen, plan, "the budget is used up" if over else None)


def _play(plan: _Plan, engine: Engine, progress: Progress | None) -> bool:
    """Play what is not there; whether the budget has ended it."""
    suite, n = plan.suite, sum(queue.n for queue in plan.queues.values())
    if not n:
        engine.close()
        return False
    counter = _Counter(plan, progress, n)
    try:
        return play(engine, plan.job, plan.queues, ended=counter.ended, ticked=counter.ticked, timeout=suite.timeout,
                    retries=suite.retries, budget=suite.budget)
    finally:
        for name in plan.job.ids:
            plan.job.store.sweep(name)


def _chosen(suite: Suite | str | Path, only: Sequence[str], seeds: int | None) -> Suite:
    if isinstance(suite, Suite):
        if only:
            raise SuiteError("only selects cells of a suite's name or file, and this suite is loaded already",
                             hint="give only to load_suite")
        chosen = suite
    else:
        chosen = load_suite(suite, only=only)
    return chosen if seeds is None else chosen.fewer(seeds)


class _Plan:
    """What is there, and what is to be played."""

    def __init__(self, suite: Suite, store: Store, batch: int, retry_failed: bool, device: str) -> None:
        self.suite, self.batch = suite, batch
        players = {name: load_player(name) for name in dict.fromkeys(cell.agent for cell in suite.cells)}
        self.agents = {name: player.provenance() for name, player in players.items()}
        for player in [each for each in players.values() if each.hook_shapes()] or players.values():
            player.resolve_hooks(suite.record.hooks)
        edits = [_interventions(cell, players[cell.agent]) for cell in suite.cells]
        rows = [batch if can_share(each, cell.backend) else 1 for cell, each in zip(suite.cells, edits, strict=True)]
        keys = [cell_key(cell, self.agents[cell.agent], n, each, device)
                for cell, n, each in zip(suite.cells, rows, edits, strict=True)]
        ids = tuple(cell_id(cell, key) for cell, key in zip(suite.cells, keys, strict=True))
        self.job = Job(suite.name, suite.cells, ids, tuple(rows), tuple(edits), store, suite.metrics, suite.record,
                       device)
        for cell, name, key in zip(suite.cells, ids, keys, strict=True):
            store.begin(name, {"suite": suite.name, "labels": dict(cell.labels), "key": key,
                               "agent": dict(self.agents[cell.agent]),
                               "provenance": collect_provenance().as_dict()})
        store.ask(self._asked())
        self.tallies = [Tally(cell.title, len(cell.seeds)) for cell in suite.cells]
        self.queues: dict[Lane, Queue] = {}
        self._take_stock(retry_failed)

    def _asked(self) -> dict[str, Any]:
        suite = self.suite
        return {
            "suite": suite.name, "description": suite.description, "digest": suite.digest, "axes": list(suite.axes),
            "metrics": [metric.name for metric in suite.metrics], "batch": self.batch,
            "cells": [{"id": name, "labels": dict(cell.labels), "scenario": cell.scenario.name,
                       "agent": Path(cell.agent).stem, "steps": cell.steps, "episodes": cell.episodes, "rows": rows,
                       "seeds": {"first": cell.seeds[0], "count": len(cell.seeds)} if isinstance(cell.seeds, range)
                       else list(cell.seeds)}
                      for name, cell, rows in zip(self.job.ids, suite.cells, self.job.rows, strict=True)],
            "provenance": collect_provenance().as_dict(), "command": sys.argv}

    def _take_stock(self, retry_failed: bool) -> None:
        """Count what is there, and queue what is not."""
        first = self.suite.metrics[0].name
        todo: dict[Lane, list[tuple[int, set[int], int]]] = {}
        for number, (cell, name, tally) in enumerate(zip(self.suite.cells, self.job.ids, self.tallies, strict=True)):
            wanted, there = set(cell.seeds), set[int]()
            for result in self.job.store.results(name):
                if result["seed"] in wanted and (result["status"] == "finished" or not retry_failed):
                    there.add(result["seed"])
                    tally.add(result["status"], result["metrics"].get(first))
            if left := len(wanted) - len(there):
                todo.setdefault(self.job.lane(Order(number, 0)), []).append((number, there, left))
        for lane, cells in todo.items():
            self.queues[lane] = Queue(self._orders(cells), sum(left for _, _, left in cells))

    def _orders(self, cells: Sequence[tuple[int, set[int], int]]) -> Iterator[Order]:
        for number, there, _ in cells:
            for place, seed in enumerate(self.suite.cells[number].seeds):
                if seed not in there:
                    yield Order(number, seed, self.suite.record.records(place))


def _interventions(cell: Cell, agent: Agent) -> tuple[Intervention, ...]:
    """A cell's, built and checked, so that a mistake shows before anything is played."""
    try:
        built = cast_interventions(cell.source, cell.scenario, agent, cell.intervene, folder=cell.folder)
        for each in built:
            each.check_length(cell.steps)
        InterventionStack([each for each in built if not each.schedule.waits], agent=agent, seed=0)
    except HarnessError as problem:
        problem.message = f"cell {cell.title}: {problem.message}"
        raise
    return tuple(built)


class _Counter:
    """What is played, for whoever shows it; and failures, which it writes down."""

    def __init__(self, plan: _Plan, progress: Progress | None, n: int) -> None:
        self._plan, self._progress, self._n = plan, progress, 0
        job = plan.job
        self._total = sum((tally.total - tally.finished - tally.failed) * cell.steps * cell.episodes
                          for cell, tally in zip(plan.suite.cells, plan.tallies, strict=True))
        if progress is not None:
            finished = sum(tally.finished for tally in plan.tallies)
            already = f", {finished} finished before" if finished else ""
            progress.start(f"{n} trials{already}", self._total)
            progress.tallies(job.metrics[0].name, plan.tallies)

    def ticked(self, n: int) -> None:
        # A trial that is played a second time counts twice; more than all is never shown.
        self._n = min(self._n + n, self._total)
        if self._progress is not None:
            self._progress.to(self._n)

    def ended(self, ending: Ending) -> None:
        job, order = self._plan.job, ending.order
        value = ending.metrics.get(job.metrics[0].name)
        if ending.status != "finished":
            job.store.fail(job.ids[order.cell], order.seed, {
                **job.about(order), "status": ending.status, "problem": ending.problem, "n_steps": 0, "seconds": 0.0,
                "episodes": [], "metrics": dict.fromkeys((metric.name for metric in job.metrics), None)},
                keep=order.record)
        self._plan.tallies[order.cell].add(ending.status, value)
        if self._progress is not None:
            self._progress.to(self._n)


def _report(suite: Suite, plan: _Plan, stopped: str | None) -> Report:
    rows, failures = [], list[Failure]()
    for cell, name in zip(suite.cells, plan.job.ids, strict=True):
        row, failed = _row(plan.job, cell, name)
        rows.append(row)
        failures += failed
    descriptions = {name: str(about.get("description", "")) for name, about in plan.agents.items()}
    return Report(suite.name, suite.description, suite.axes, tuple(rows), tuple(failures), descriptions, plan.batch,
                  suite.metrics, stopped)


def _row(job: Job, cell: Cell, name: str) -> tuple[Row, list[Failure]]:
    """A cell's results, packed: of a hundred thousand trials there is no room for the files."""
    place = {seed: number for number, seed in enumerate(cell.seeds)}
    figures: dict[int, list[tuple[int, Measured]]] = {}
    numbers: dict[int, array[float]] = {}
    failures, seconds = list[Failure](), 0.0
    for result in job.store.results(name):
        seed = result["seed"]
        if seed not in place:
            continue
        if result["status"] != "finished":
            failures.append(Failure(Trial(cell, seed), str(result["problem"]), result["status"]))
            continue
        seconds += result["seconds"]
        found = [result["metrics"].get(metric.name) for metric in job.metrics]
        numbers[seed] = array("d", (math.nan if value is None else value for value in found))
        figures[seed] = [(each["seed"], Measured(**each["measured"])) for each in result["episodes"]
                         if each["measured"] is not None]
    order = sorted(numbers, key=place.__getitem__)
    measured = {episode: figure for seed in order for episode, figure in figures[seed]}
    values = {metric.name: array("d", (numbers[seed][i] for seed in order)) for i, metric in enumerate(job.metrics)}
    failures.sort(key=lambda failure: place[failure.trial.seed])
    return Row(cell, name, measured, seconds, array("q", order), values), failures
