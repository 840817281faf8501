"""What every analysis gives back: numbers, tables to show, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.provenance import digest
from harness.recording.recording import Recording
from harness.recording.schema import plain
from harness.statistics import Interval

__all__ = ["Cell", "Result", "Table", "agent_title", "result_provenance"]

Cell = str | int | float | Interval | None
"""What stands in a table: an ``Interval`` is shown as [low, high], None as nothing."""


@dataclass(frozen=True)
class Table:
    """A small table for people; terminal, pages and reports draw the same one.

    Attributes:
        title: One line.
        columns: Headings, units included.
        rows: One cell per column.
        note: How to read it, and where the method fails; printed below.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"title": self.title, "columns": list(self.columns), "note": self.note,
                "rows": [[list(c) if isinstance(c, Interval) else plain(c) for c in row] for row in self.rows]}


@dataclass(frozen=True)
class Result:
    """A result of an analysis.

    Attributes:
        provenance: Recording, digest of its header, agent, analysis and its arguments. JSON values.
    """

    provenance: Mapping[str, Any]

    def tables(self) -> Sequence[Table]:
        """What to show a person, most important first."""
        return ()

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """The numbers behind the tables, by name, for further work."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def as_dict(self) -> dict[str, Any]:
        """JSON values: provenance and tables, without the arrays."""
        return {"provenance": plain(self.provenance), "tables": [table.as_dict() for table in self.tables()]}


def result_provenance(analysis: str, recording: Recording, **arguments: Any) -> dict[str, Any]:
    """The provenance of a result made from one recording."""
    return {"analysis": analysis, "arguments": arguments, "recording": recording.path.name,
            "header_digest": digest(recording.header), "status": recording.status,
            "agent": recording.agent_description}


def agent_title(name: object, description: object) -> str:
    """An agent in a title: its name, and that its weights are random where they are.

    Args:
        name: Its name.
        description: Its own description, which says so.
    """
    return f"{name} (random weights)" if "random weights" in str(description) else str(name)
