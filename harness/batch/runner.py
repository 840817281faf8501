"""Running a suite: what is on disk already is not played again, and the rest does not depend on who plays it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from harness.batch.baseline import Baseline
from harness.batch.judging import judge
from harness.batch.load import load_suite
from harness.batch.metrics import RATES, Measured
from harness.batch.planning import plan_lines
from harness.batch.pool import play_in_processes
from harness.batch.report import Failure, Report, Row, samples_of
from harness.batch.sequential import settled
from harness.batch.store import Store, cell_id, cell_key
from harness.batch.suite import Cell, Suite, Trial
from harness.batch.worker import Job, Order, load_player, play_orders
from harness.errors import SuiteError
from harness.provenance import collect_provenance
from harness.scenario.load import load_scenario

__all__ = ["BATCH", "Progress", "replay_command", "run_suite", "sight"]

BATCH = 16
"""Rows of each forward pass, unless asked otherwise."""


class Progress(Protocol):
    """Shows how far a run is."""

    def start(self, label: str, total: int | None) -> None:
        """So many steps are to be played."""

    def to(self, done: int) -> None:
        """So many are."""


def run_suite(suite: Suite | str | Path, *, out: str | Path | None = None, workers: int = 1, batch: int = BATCH,
              only: Sequence[str] = (), seeds: int | None = None, progress: Progress | None = None,
              baseline: Baseline | None = None, across: Collection[str] = ()) -> Report:
    """Play every trial of a suite that is not finished yet, and tell what came of all of them.

    A trial's numbers depend on its cell, its seed, the agent's weights, ``batch``, the version of PyTorch and the kind
    of processor; all of these but the seed are in the name of the cell's folder. They do not depend on the number of
    workers, the order, or what was interrupted. Nothing is recorded.

    Args:
        suite: From ``load_suite``, or its name or file.
        out: Folder of the results; else ``batches/<suite>``.
        workers: Processes. One: this one.
        batch: Rows of each forward pass of an agent with a network.
        only: As for ``load_suite``, when ``suite`` is a name or file.
        seeds: At most so many seeds per cell.
        progress: Told of steps.
        baseline: Approved results, which the suite's expectations are held against.
        across: Of ``baseline.UNDER_TEST``: what may differ from the baseline's.

    Raises:
        ChangedError: when the baseline is of another agent or version, and ``across`` does not allow it.
        SuiteError: for a mistake in the suite, an output folder that cannot be written, or a baseline that answers
            another question.
        AgentError: for an agent that cannot be loaded.
    """
    if workers < 1 or batch < 1 or (seeds is not None and seeds < 1):
        raise SuiteError(f"expected at least one worker, row and seed, got workers={workers}, batch={batch}, "
                         f"seeds={seeds}")
    if isinstance(suite, Suite):
        if only:
            raise SuiteError("only selects cells of a suite's name or file, and this suite is loaded already",
                             hint="give only to load_suite")
        chosen = suite
    else:
        chosen = load_suite(suite, only=only)
    chosen = chosen if seeds is None else chosen.fewer(seeds)
    store = Store(Path("batches") / chosen.name if out is None else Path(out))
    agents = {name: load_player(name).provenance() for name in dict.fromkeys(cell.agent for cell in chosen.cells)}
    keys = [cell_key(cell, agents[cell.agent], batch) for cell in chosen.cells]
    note = "" if baseline is None else baseline.check(
        chosen.name, chosen.claims, {cell.name: key for cell, key in zip(chosen.cells, keys, strict=True)},
        across=across)
    job = Job(chosen.cells, tuple(cell_id(cell, key) for cell, key in zip(chosen.cells, keys, strict=True)), store,
              batch)
    for cell, name, key in zip(chosen.cells, job.ids, keys, strict=True):
        store.begin(name, {"suite": chosen.name, "labels": dict(cell.labels), "key": key,
                           "agent": dict(agents[cell.agent]), "provenance": collect_provenance().as_dict()})
    failures, spared = [], 0
    for orders, left_out in _rounds(chosen, job, baseline):
        spared += left_out
        played = _play(job, orders, min(workers, len(orders)), _Counter(job, orders, progress))
        failures += [Failure(Trial(chosen.cells[order.cell], order.seed), problem)
                     for order, problem in played if problem is not None]
    rows = _rows(job, keys)
    by_name = {cell.name: cell for cell in chosen.cells}
    verdicts = judge(chosen.claims, samples_of(rows), chosen.statistics, note=note, seeds=_seeds(chosen),
                     baseline=None if baseline is None else baseline.samples,
                     replay=lambda name, seed: replay_command(by_name[name], seed))
    descriptions = {name: str(about.get("description", "")) for name, about in agents.items()}
    return Report(chosen.name, chosen.description, chosen.axes, rows, tuple(failures), descriptions, job.batch,
                  verdicts, spared)


def sight(suite: Suite) -> list[str]:
    """The smallest differences that a suite's claims will find, in words, before it is played."""
    return plan_lines(suite.claims, _seeds(suite), suite.statistics, RATES)


def replay_command(cell: Cell, seed: int) -> str:
    """The command that plays a trial again, alone and recorded."""
    usual = load_scenario(cell.file).parameters
    settings = [f"{name}={parameter.default}" for name, parameter in cell.scenario.parameters.items()
                if parameter.default != usual[name].default]
    words = ["harness", "run", cell.file, "--agent", cell.agent, "--seed", str(seed), "--steps", str(cell.steps)]
    return shlex.join(words + [word for setting in settings for word in ("--set", setting)])


def _seeds(suite: Suite) -> dict[str, Sequence[int]]:
    return {cell.name: cell.seeds for cell in suite.cells}


def _rounds(suite: Suite, job: Job, baseline: Baseline | None) -> Iterator[tuple[list[Order], int]]:
    """What is to be played, at once or block by block, and how many trials of each block are not needed."""
    longest = max(len(cell.seeds) for cell in suite.cells)
    block = suite.statistics.block if suite.statistics.sequential else longest
    for first in range(0, longest, block):
        known = [job.store.finished(name) for name in job.ids]
        done: frozenset[str] = frozenset()
        if first:
            done = settled(suite.claims, samples_of(_rows(job)), suite.statistics, _seeds(suite),
                           baseline=None if baseline is None else baseline.samples)
        orders, spared = [], 0
        for number, cell in enumerate(suite.cells):
            open_seeds = [seed for seed in cell.seeds[first:first + block] if seed not in known[number]]
            if cell.name in done:
                spared += len(open_seeds)
            else:
                orders += [Order(number, seed) for seed in open_seeds]
        yield orders, spared


def _play(job: Job, orders: Sequence[Order], workers: int, ticked: Callable[[int], None]
          ) -> Iterator[tuple[Order, str | None]]:
    if workers > 1:
        yield from play_in_processes(job, orders, workers, ticked=ticked)
        return
    for name in dict.fromkeys(job.cells[order.cell].agent for order in orders):
        own = (order for order in orders if job.cells[order.cell].agent == name)
        yield from play_orders(job, load_player(name), own, ticked)


class _Counter:
    """Steps played, for whoever shows them."""

    def __init__(self, job: Job, orders: Sequence[Order], progress: Progress | None) -> None:
        self._progress, self._n = progress, 0
        self._total = sum(job.cells[order.cell].steps for order in orders)
        if progress is not None and orders:
            finished = sum(len(cell.seeds) for cell in job.cells) - len(orders)
            already = f", {finished} finished before" if finished else ""
            progress.start(f"{len(orders)} trials{already}", self._total)

    def __call__(self, n: int) -> None:
        # A trial that is played a second time counts twice; more than all is never shown.
        self._n = min(self._n + n, self._total)
        if self._progress is not None:
            self._progress.to(self._n)


def _rows(job: Job, keys: Sequence[Mapping[str, Any]] = ()) -> tuple[Row, ...]:
    rows = []
    for number, (cell, name) in enumerate(zip(job.cells, job.ids, strict=True)):
        results = job.store.finished(name)
        kept = {seed: results[seed] for seed in cell.seeds if seed in results}
        rows.append(Row(cell, name, {seed: Measured(**result["measured"]) for seed, result in kept.items()},
                        sum(result["seconds"] for result in kept.values()), keys[number] if keys else {}))
    return tuple(rows)
