"""What a suite is: cells of a matrix, and a trial for every seed of a cell."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.batch.metrics import Target
from harness.scenario.schema import Scenario

__all__ = ["Cell", "Suite", "Trial", "play_command"]


@dataclass(frozen=True)
class Cell:
    """One combination of the matrix.

    Attributes:
        labels: Axis to value: what tells it from the other cells.
        scenario: With its parameters filled in.
        agent: A bundled name, or the path of an agent file.
        steps: Of each trial, at most.
        seeds: One trial each.
        target: What is measured.
    """

    labels: Mapping[str, Any]
    scenario: Scenario
    agent: str
    steps: int
    seeds: range
    target: Target

    @property
    def title(self) -> str:
        """Its labels in one line."""
        return ", ".join(str(value) for value in self.labels.values())


@dataclass(frozen=True)
class Trial:
    """One cell with one seed."""

    cell: Cell
    seed: int


def play_command(cell: Cell) -> str:
    """The ``harness run`` that plays a cell by itself and records it; ``--seed`` is still to come."""
    settings = [word for name, parameter in cell.scenario.parameters.items()
                for word in ("--set", f"{name}={json.dumps(parameter.default)}")]
    return shlex.join(["harness", "run", cell.scenario.name, "--agent", cell.agent, "--steps", str(cell.steps),
                       *settings])


@dataclass(frozen=True)
class Suite:
    """What a suite file asks for.

    Attributes:
        name: Letters, digits and ``_ . -``.
        description: Free text.
        axes: Names of the matrix' axes.
        cells: In the order of the file: the last axis changes quickest, cells of their own come last.
    """

    name: str
    description: str
    axes: tuple[str, ...]
    cells: tuple[Cell, ...]

    def trials(self) -> Iterator[Trial]:
        """Every cell with every seed of it."""
        return (Trial(cell, seed) for cell in self.cells for seed in cell.seeds)

    @property
    def n_trials(self) -> int:
        """How many there are."""
        return sum(len(cell.seeds) for cell in self.cells)

    def fewer(self, seeds: int) -> Suite:
        """The same with at most so many seeds per cell, the first ones: for a look."""
        return replace(self, cells=tuple(replace(cell, seeds=cell.seeds[:seeds]) for cell in self.cells))
