"""What all workers of a run know: cells, where their results go, and what is measured and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.batch.metrics import Metric
from harness.batch.store import Store
from harness.batch.suite import Cell, RecordingPolicy
from harness.intervention.intervention import Intervention
from harness.recording.schema import plain

__all__ = ["Job", "Lane", "Order"]


@dataclass(frozen=True, slots=True)
class Order:
    """One trial to play.

    Attributes:
        cell: The number of its cell.
        seed: Its seed.
        record: Whether it is recorded.
        attempt: 1 the first time.
    """

    cell: int
    seed: int
    record: bool = False
    attempt: int = 1


@dataclass(frozen=True)
class Lane:
    """What a worker plays at a time: trials of one agent, side by side in so many rows.

    Attributes:
        agent: A bundled name, or the path of an agent file.
        rows: Of each forward pass, used or not; 1 plays one trial after the other.
        alone: At most one trial at a time, though the pass has all its rows: whose fault it is must be known.
    """

    agent: str
    rows: int
    alone: bool = False


@dataclass(frozen=True)
class Job:
    """The same for all workers of a run; picklable.

    Attributes:
        suite: Its name.
        cells: Of the suite.
        ids: Of each cell, in the store.
        rows: Of each cell's forward passes.
        interventions: Of each cell, built.
        store: Where results go.
        metrics: What each trial is asked.
        record: Which recordings are kept, and with which hooks.
        device: Where networks compute: ``cpu``, or ``cuda`` with the kind of GPU after it.
    """

    suite: str
    cells: tuple[Cell, ...]
    ids: tuple[str, ...]
    rows: tuple[int, ...]
    interventions: tuple[Sequence[Intervention], ...]
    store: Store
    metrics: tuple[Metric, ...]
    record: RecordingPolicy
    device: str = "cpu"

    def about(self, order: Order) -> dict[str, Any]:
        """How a result begins, as JSON values."""
        return {"suite": self.suite, "cell": self.ids[order.cell],
                "labels": plain(dict(self.cells[order.cell].labels)), "attempts": order.attempt}

    def lane(self, order: Order, *, alone: bool = False) -> Lane:
        """The lane of a trial."""
        return Lane(self.cells[order.cell].agent, self.rows[order.cell], alone)
