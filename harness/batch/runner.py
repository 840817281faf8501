"""Running a suite: what is on disk already is not played again, and the rest does not depend on who plays it."""

from __future__ import annotations

import math
import os
import sys
import time
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from harness.agent.agent import Agent
from harness.analysis.words import cast_interventions
from harness.batch.baseline import Baseline
from harness.batch.engine import Engine, InlineEngine
from harness.batch.job import Job, Lane, Order
from harness.batch.judging import Samples, judge
from harness.batch.load import load_suite
from harness.batch.metrics import Measured
from harness.batch.planning import plan_lines
from harness.batch.pool import LocalEngine
from harness.batch.replay import replay_command
from harness.batch.report import Failure, Report, Row, samples_of
from harness.batch.scheduler import Ending, Queue, play
from harness.batch.sequential import settled
from harness.batch.store import Store, cell_id, cell_key
from harness.batch.suite import Budget, Cell, RecordingPolicy, Suite, Trial
from harness.batch.verdicts import keep_verdicts
from harness.batch.worker import load_player, work
from harness.errors import HarnessError, SuiteError
from harness.intervention.intervention import Intervention
from harness.intervention.stack import InterventionStack
from harness.provenance import collect_provenance
from harness.rollout import can_share
from harness.world.world import make_world

__all__ = ["BATCH", "MOST_TRIALS", "Progress", "Tally", "cores", "run_suite", "sight"]

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
              yes: bool = False, baseline: Baseline | None = None, across: Collection[str] = (), device: str = "cpu"
              ) -> Report:
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
        engine: Where workers live, instead of ``workers`` processes of this machine; it is closed, and started again,
            between blocks of seeds where trials may end early.
        timeout: Seconds for a trial, instead of the suite's.
        retries: Of a trial, instead of the suite's.
        record: Which recordings are kept, instead of the suite's.
        budget: How much to play, instead of the suite's.
        retry_failed: Play failed trials of earlier runs again.
        yes: Play more than a million trials, too.
        baseline: Approved results, which the suite's expectations are held against.
        across: Of ``baseline.UNDER_TEST``: what may differ from the baseline's.
        device: Where the workers' networks compute, for engines that have GPUs (``RayEngine.device``).

    Raises:
        ChangedError: when the baseline is of another agent or version, and ``across`` does not allow it.
        SuiteError: for a mistake in the suite, an output folder that cannot be written, or in which another run is at
            work, or a baseline that answers another question.
        AgentError: for an agent that cannot be loaded.
        InterventionError: for an intervention that does not fit agent or scenario.
        WorldError: for a backend that cannot be built here.
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
    if engine is None:  # a cluster's nodes may have what this machine has not
        _check_backends(chosen)
    store = Store(Path("batches") / chosen.name if out is None else Path(out))
    with store.locked():
        plan = _Plan(chosen, store, batch, retry_failed, device)
        note = "" if baseline is None else baseline.check(
            chosen.name, chosen.claims, {cell.name: key for cell, key in zip(chosen.cells, plan.keys, strict=True)},
            across=across)
        plan.begin()
        approved = None if baseline is None else baseline.samples
        over = _play_blocks(plan, engine or (LocalEngine(workers) if workers else InlineEngine(work)), progress,
                            approved)
        report = _report(plan, "the budget is used up" if over else None, approved, note)
        keep_verdicts(store.root, report.verdicts, {} if baseline is None else baseline.means(), report.spared)
        return report


def _check_backends(suite: Suite) -> None:
    """Build a world of each other backend: what is not installed is said once, and before anything is played."""
    for backend, cell in {cell.backend: cell for cell in suite.cells if cell.backend != "blockworld"}.items():
        make_world(cell.scenario, backend).close()


def sight(suite: Suite) -> list[str]:
    """The smallest differences that a suite's claims will find, in words, before it is played."""
    once = all(cell.episodes == 1 for cell in suite.cells)  # the mean of several is no rate
    return plan_lines(suite.claims, _seeds(suite), suite.statistics,
                      [metric.name for metric in suite.metrics if metric.is_rate and once])


def _seeds(suite: Suite) -> dict[str, Sequence[int]]:
    return {cell.name: cell.seeds for cell in suite.cells}


def _play_blocks(plan: _Plan, engine: Engine, progress: Progress | None, approved: Samples | None) -> bool:
    """Play what is not there: at once, or block by block while anything is open; whether the budget has ended it."""
    suite, statistics, began = plan.suite, plan.suite.statistics, time.monotonic()
    longest = max(len(cell.seeds) for cell in suite.cells)
    block = statistics.block if statistics.sequential else longest
    n_begun = 0
    try:
        for first in range(0, longest, block):
            done = frozenset[str]() if not first else settled(
                suite.claims, samples_of(plan.rows()[0], plan.claimed), statistics, _seeds(suite), baseline=approved)
            n = plan.take_stock(first, first + block, done)
            left = _left(suite.budget, n_begun, time.monotonic() - began)
            if n and (left is None or _play(plan, engine, progress, n, left)):
                return True
            n_begun += n
    finally:
        engine.close()
    return False


def _left(budget: Budget, n_begun: int, seconds: float) -> Budget | None:
    """What is left of a budget; None when it is used up."""
    trials = None if budget.trials is None else budget.trials - n_begun
    minutes = None if budget.minutes is None else budget.minutes - seconds / 60
    return None if (trials is not None and trials <= 0) or (minutes is not None and minutes <= 0) else Budget(
        trials, minutes)


def _play(plan: _Plan, engine: Engine, progress: Progress | None, n: int, budget: Budget) -> bool:
    """Play what is queued; whether the budget has ended it."""
    counter = _Counter(plan, progress, n)
    try:
        return play(engine, plan.job, plan.queues, ended=counter.ended, ticked=counter.ticked,
                    timeout=plan.suite.timeout, retries=plan.suite.retries, budget=budget)
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
        self.suite, self.batch, self._retry_failed = suite, batch, retry_failed
        players = {name: load_player(name) for name in dict.fromkeys(cell.agent for cell in suite.cells)}
        self.agents = {name: player.provenance() for name, player in players.items()}
        for player in [each for each in players.values() if each.hook_shapes()] or players.values():
            player.resolve_hooks(suite.record.hooks)
        edits = [_interventions(cell, players[cell.agent]) for cell in suite.cells]
        rows = [batch if can_share(each, cell.backend) else 1 for cell, each in zip(suite.cells, edits, strict=True)]
        self.keys = [cell_key(cell, self.agents[cell.agent], n, each, device)
                     for cell, n, each in zip(suite.cells, rows, edits, strict=True)]
        ids = tuple(cell_id(cell, key) for cell, key in zip(suite.cells, self.keys, strict=True))
        self.job = Job(suite.name, suite.cells, ids, tuple(rows), tuple(edits), store, suite.metrics, suite.record,
                       device)
        self.claimed = sorted({claim.metric for claim in suite.claims})
        self.tallies = [Tally(cell.title, len(cell.seeds)) for cell in suite.cells]
        self.queues: dict[Lane, Queue] = {}
        self.steps = self.spared = 0

    def begin(self) -> None:
        """Write down what is asked."""
        store = self.job.store
        for cell, name, key in zip(self.suite.cells, self.job.ids, self.keys, strict=True):
            store.begin(name, {"suite": self.suite.name, "labels": dict(cell.labels), "key": key,
                               "agent": dict(self.agents[cell.agent]),
                               "provenance": collect_provenance().as_dict()})
        store.ask(self._asked())

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

    def take_stock(self, first: int, last: int, done: Collection[str] = ()) -> int:
        """Count what is there, and queue what is not of the seeds in these places, but for cells that need no more.

        Returns:
            How many trials are queued.
        """
        metric = self.suite.metrics[0].name
        self.tallies = [Tally(cell.title, len(cell.seeds)) for cell in self.suite.cells]
        todo: dict[Lane, list[tuple[int, Sequence[int], set[int], int]]] = {}
        self.steps = 0
        for number, (cell, name, tally) in enumerate(zip(self.suite.cells, self.job.ids, self.tallies, strict=True)):
            seeds, there = cell.seeds[first:last], set[int]()
            wanted, block = set(cell.seeds), set(seeds)
            for result in self.job.store.results(name):
                if result["seed"] in wanted and (result["status"] == "finished" or not self._retry_failed):
                    there.add(result["seed"])
                    tally.add(result["status"], result["metrics"].get(metric))
            if left := len(block - there):
                if cell.name in done:
                    self.spared += left
                else:
                    self.steps += left * cell.steps * cell.episodes
                    todo.setdefault(self.job.lane(Order(number, 0)), []).append((number, seeds, there, left))
        self.queues = {lane: Queue(self._orders(first, cells), sum(left for *_, left in cells))
                       for lane, cells in todo.items()}
        return sum(queue.n for queue in self.queues.values())

    def _orders(self, first: int, cells: Sequence[tuple[int, Sequence[int], set[int], int]]) -> Iterator[Order]:
        for number, seeds, there, _ in cells:
            for place, seed in enumerate(seeds, first):
                if seed not in there:
                    yield Order(number, seed, self.suite.record.records(place))

    def rows(self) -> tuple[tuple[Row, ...], tuple[Failure, ...]]:
        """What has come of every cell so far."""
        found = [_row(self.job, cell, name, key)
                 for cell, name, key in zip(self.suite.cells, self.job.ids, self.keys, strict=True)]
        return tuple(row for row, _ in found), tuple(failure for _, failed in found for failure in failed)


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
        self._total = plan.steps
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


def _report(plan: _Plan, stopped: str | None, approved: Samples | None, note: str) -> Report:
    suite = plan.suite
    rows, failures = plan.rows()
    cells = {cell.name: cell for cell in suite.cells}
    verdicts = judge(suite.claims, samples_of(rows, plan.claimed), suite.statistics, baseline=approved, note=note,
                     seeds=_seeds(suite), replay=lambda name, seed: replay_command(cells[name], seed))
    descriptions = {name: str(about.get("description", "")) for name, about in plan.agents.items()}
    return Report(suite.name, suite.description, suite.axes, rows, failures, descriptions, plan.batch,
                  suite.metrics, stopped, verdicts, plan.spared)


def _row(job: Job, cell: Cell, name: str, key: Mapping[str, Any]) -> tuple[Row, list[Failure]]:
    """A cell's results, packed: of a hundred thousand trials there is no room for the files."""
    place = {seed: number for number, seed in enumerate(cell.seeds)}
    figures: dict[int, list[tuple[int, Measured]]] = {}
    numbers: dict[int, array[float]] = {}
    failures, seconds, notes = list[Failure](), 0.0, dict[str, None]()
    for result in job.store.results(name):
        seed = result["seed"]
        if seed not in place:
            continue
        if result["status"] != "finished":
            failures.append(Failure(Trial(cell, seed), str(result["problem"]), result["status"]))
            continue
        seconds += result["seconds"]
        notes |= dict.fromkeys(map(str, result.get("notes") or ()))
        found = [result["metrics"].get(metric.name) for metric in job.metrics]
        numbers[seed] = array("d", (math.nan if value is None else value for value in found))
        figures[seed] = [(each["seed"], Measured(**each["measured"])) for each in result["episodes"]
                         if each["measured"] is not None]
    order = sorted(numbers, key=place.__getitem__)
    measured = {episode: figure for seed in order for episode, figure in figures[seed]}
    values = {metric.name: array("d", (numbers[seed][i] for seed in order)) for i, metric in enumerate(job.metrics)}
    failures.sort(key=lambda failure: place[failure.trial.seed])
    return Row(cell, name, measured, seconds, array("q", order), values, key, tuple(notes)), failures
