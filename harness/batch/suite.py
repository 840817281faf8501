"""What a suite is: cells of a matrix, and a trial for every seed of a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.batch.claims import Claim, Statistics
from harness.batch.labels import cell_name, label_text
from harness.batch.metrics import USUAL, Metric, Target
from harness.scenario.schema import Scenario

__all__ = ["Budget", "Cell", "RecordingPolicy", "Suite", "Trial"]


@dataclass(frozen=True)
class RecordingPolicy:
    """Which trials' recordings are kept.

    Attributes:
        keep: ``all``; ``failures``, of trials that did not come to their end; ``first``, of the first seeds of each
            cell; ``none``.
        first: How many seeds.
        hooks: Globs of hook names to trace.
    """

    keep: Literal["all", "failures", "first", "none"] = "none"
    first: int = 0
    hooks: tuple[str, ...] = ()

    def records(self, place: int) -> bool:
        """Whether the seed at this place of its cell is recorded."""
        return self.keep in ("all", "failures") or (self.keep == "first" and place < self.first)


@dataclass(frozen=True)
class Budget:
    """How much one run may play; None for no end.

    Attributes:
        trials: That are begun.
        minutes: After which no more trials are begun.
    """

    trials: int | None = None
    minutes: float | None = None


@dataclass(frozen=True)
class Cell:
    """One combination of the matrix.

    Attributes:
        labels: Axis to value: what tells it from the other cells.
        scenario: With its parameters filled in.
        agent: A bundled name, or the path of an agent file.
        steps: Of each episode, at most.
        seeds: One trial each.
        target: What is measured; None where the scenario has nothing of that kind.
        episodes: Of each trial.
        intervene: Names, files and mappings, in order; see ``analysis.words.cast_interventions``.
        backend: Which engine builds the world.
        source: The scenario's name or path.
        folder: Where the suite's file lies.
    """

    labels: Mapping[str, Any]
    scenario: Scenario
    agent: str
    steps: int
    seeds: Sequence[int]
    target: Target | None
    episodes: int = 1
    intervene: tuple[str | Mapping[str, Any], ...] = ()
    backend: str = "blockworld"
    source: str = ""
    folder: Path | None = None

    @property
    def name(self) -> str:
        """Its axes and their values: what claims and baselines call it."""
        return cell_name(self.labels)

    @property
    def title(self) -> str:
        """Its labels in one line."""
        return ", ".join(label_text(value) for value in self.labels.values())

    def episode_seeds(self, seed: int) -> list[int]:
        """The seeds of a trial's episodes: the trial's own, then some that are spawned from it.

        Not the next ones: those belong to other trials, which would then share episodes with this one.
        """
        more = np.random.SeedSequence([seed, 1]).generate_state(self.episodes - 1, np.uint32)
        return [seed, *(int(each) for each in more)]


@dataclass(frozen=True)
class Trial:
    """One cell with one seed."""

    cell: Cell
    seed: int


@dataclass(frozen=True)
class Suite:
    """What a suite file asks for.

    Attributes:
        name: Letters, digits and ``_ . -``.
        description: Free text.
        axes: Names of the matrix' axes.
        cells: In the order of the file: the last axis changes quickest, cells of their own come last.
        metrics: What each trial is asked.
        budget: How much one run plays.
        timeout: Seconds that a trial may take; None for no limit.
        retries: How often a trial that does not come to its end is tried again.
        record: Which recordings are kept.
        digest: Of the file's text.
        claims: What is claimed of the cells.
        statistics: How the claims are decided.
    """

    name: str
    description: str
    axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    metrics: tuple[Metric, ...] = USUAL
    budget: Budget = field(default_factory=Budget)
    timeout: float | None = None
    retries: int = 0
    record: RecordingPolicy = field(default_factory=RecordingPolicy)
    digest: str = ""
    claims: tuple[Claim, ...] = ()
    statistics: Statistics = Statistics()

    @property
    def n_trials(self) -> int:
        """How many there are."""
        return sum(len(cell.seeds) for cell in self.cells)

    def fewer(self, seeds: int) -> Suite:
        """The same with at most so many seeds per cell, the first ones: for a look."""
        return replace(self, cells=tuple(replace(cell, seeds=cell.seeds[:seeds]) for cell in self.cells))
