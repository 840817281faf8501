"""Running a suite: what is on disk already is not played again, and the rest does not depend on who plays it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from harness.batch.load import load_suite
from harness.batch.pool import play_in_processes
from harness.batch.report import Report
from harness.batch.results import read_report
from harness.batch.store import Store, cell_id, cell_key
from harness.batch.suite import Suite, play_command
from harness.batch.worker import Job, Order, load_player, play_orders
from harness.errors import SuiteError
from harness.provenance import collect_provenance

__all__ = ["BATCH", "Progress", "run_suite"]

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
              command: str = "") -> Report:
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
        command: Words of the command line, for the report.

    Raises:
        SuiteError: for a mistake in the suite, or an output folder that cannot be written.
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
    job = Job(chosen.cells, tuple(cell_id(cell, key) for cell, key in zip(chosen.cells, keys, strict=True)), store,
              batch)
    store.announce({
        "suite": chosen.name, "description": chosen.description, "axes": list(chosen.axes), "batch": batch,
        "file": "" if isinstance(suite, Suite) else str(suite), "metrics": [metric.name for metric in chosen.metrics],
        "cells": [{"id": name, "labels": dict(cell.labels), "seeds": list(cell.seeds)}
                  for cell, name in zip(chosen.cells, job.ids, strict=True)],
        "provenance": collect_provenance().as_dict(), "command": command})
    for cell, name, key in zip(chosen.cells, job.ids, keys, strict=True):
        store.begin(name, {"suite": chosen.name, "labels": dict(cell.labels), "key": key,
                           "agent": {"name": Path(cell.agent).stem, **agents[cell.agent]},
                           "play": play_command(cell), "provenance": collect_provenance().as_dict()})
    done = [store.finished(name) for name in job.ids]
    orders = [Order(number, seed) for number, cell in enumerate(chosen.cells) for seed in cell.seeds
              if seed not in done[number]]
    for order, problem in _play(job, orders, min(workers, len(orders)), _Counter(job, orders, progress)):
        if problem is not None:
            store.write(job.ids[order.cell], order.seed, {
                "labels": dict(chosen.cells[order.cell].labels), "status": "failed", "problem": problem, "n_steps": 0,
                "seconds": 0.0, "episodes": [], "metrics": {}})
    return read_report(store.root, {name: cell.seeds for cell, name in zip(chosen.cells, job.ids, strict=True)})


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
