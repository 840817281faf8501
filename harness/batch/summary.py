"""What lies in a suite's folder, told: shares, means and verdicts, for the terminal, for Markdown and as JSON.

``report.Report`` is what a run has at hand of its own cells; a summary is made from files alone, whoever wrote them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.batch.labels import cell_name, label_text
from harness.batch.metrics import COUNTS
from harness.batch.report import Rate
from harness.batch.verdicts import Verdict, claims_table, told, verdict_notes
from harness.statistics import bootstrap

__all__ = ["CONDITIONAL", "GIVEN", "CellSummary", "Mean", "Outcome", "Summary", "Table", "Unplayed"]

CONDITIONAL = ("contact", "held", "pressed")
"""Shares that are also given of the trials that meet a condition."""
GIVEN = ("approached", "exposure")
"""The conditions: metrics that are above 0."""
_FEW = 10


@dataclass(frozen=True)
class Mean:
    """A mean over trials, and its 95 % bootstrap interval (None below two values)."""

    value: float | None
    n: int
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """With its interval."""
        if len(values) < 2:
            return cls(values[0] if values else None, len(values), None, None)
        return cls(sum(values) / len(values), len(values), *bootstrap(values))

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        return f"{self.value:.3g}" + ("" if self.low is None else f" [{self.low:.3g}, {self.high:.3g}]")

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"mean": _rounded(self.value), "n": self.n, "low": _rounded(self.low), "high": _rounded(self.high)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one trial came to.

    Attributes:
        seed: Of the trial.
        status: "finished", "failed", "timeout" or "lost".
        problem: What went wrong, of a trial that is not finished.
        n_steps: Played.
        seconds: Of wall-clock time.
        metrics: Name to number; a metric that says nothing of this trial is not there.
        actions: Digest of what was played, of its first episode.
        recorded: Whether its recording was kept.
        notes: What its world says must be said with it.
    """

    seed: int
    status: str
    problem: str = ""
    n_steps: int = 0
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    actions: str = ""
    recorded: bool = False
    notes: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether it counts."""
        return self.status == "finished"


@dataclass(frozen=True)
class Unplayed:
    """A trial that could not be played to its end, and what was said."""

    title: str
    outcome: Outcome

    def __str__(self) -> str:
        how = "" if self.outcome.status == "failed" else f" ({self.outcome.status})"
        return f"{self.title}, seed {self.outcome.seed}{how}: {self.outcome.problem}"


@dataclass(frozen=True)
class CellSummary:
    """One cell's results.

    Attributes:
        id: Its folder in the store.
        labels: Axis to value: what tells it from the other cells.
        seeds: That were asked for.
        outcomes: Of the trials that were played, by seed.
        agent: The name of who played.
        description: What the agent says of itself, random weights and all.
    """

    id: str
    labels: Mapping[str, Any]
    seeds: Collection[int]
    outcomes: Mapping[int, Outcome]
    agent: str = ""
    description: str = ""

    @property
    def title(self) -> str:
        """Its labels in one line."""
        return ", ".join(self.words.values())

    @property
    def words(self) -> dict[str, str]:
        """Axis to value, as people read it: an agent's file by its name."""
        marked = " (random weights)" if self.random else ""
        return {axis: f"{Path(str(value)).stem}{marked}" if axis == "agent" else label_text(value)
                for axis, value in self.labels.items()}

    @property
    def random(self) -> bool:
        """Whether its agent has random weights."""
        return "random weights" in self.description

    @property
    def name(self) -> str:
        """What claims and baselines call it."""
        return cell_name(self.labels)

    @cached_property
    def finished(self) -> dict[int, Outcome]:
        """The outcomes that count, by seed."""
        return {seed: outcome for seed, outcome in sorted(self.outcomes.items()) if outcome.finished}

    def values(self, name: str, given: str | None = None) -> list[float]:
        """A metric of all finished trials, or of those for which another one is above 0."""
        return [outcome.metrics[name] for outcome in self.finished.values() if name in outcome.metrics
                and (given is None or outcome.metrics.get(given, 0.0) > 0)]

    def rate(self, name: str, given: str | None = None) -> Rate:
        """Share of trials for which a metric is above 0, of all or of those that meet a condition."""
        values = self.values(name, given)
        return Rate.of(sum(value > 0 for value in values), len(values))

    def mean(self, name: str) -> Mean:
        """Of a metric over the finished trials."""
        return Mean.of(self.values(name))


@dataclass(frozen=True)
class Table:
    """A table for people.

    Attributes:
        title: What it shows.
        axes: Names of the leading columns.
        columns: Names of the others.
        rows: The labels, and the figures.
    """

    title: str
    axes: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Rate | Mean, ...]], ...]

    def lines(self) -> list[list[str]]:
        """Header and rows, as texts."""
        return [[*self.axes, *self.columns], *([*labels, *map(str, figures)] for labels, figures in self.rows)]


@dataclass(frozen=True)
class Summary:
    """All cells' results; ``results.read_summary`` makes it.

    Attributes:
        suite: Its name.
        description: What the suite says of itself.
        axes: What tells the rows apart.
        rows: One per cell, in the suite's order.
        metrics: Names, in the order in which they are shown.
        verdicts: Of the suite's claims.
        baseline: Cell name to metric to its approved mean.
        spared: Trials that were not needed, since all was decided without them.
        batch: Rows of each forward pass.
        digest: Of the suite's file.
        command: That made the results, word for word.
        provenance: Of the machine that began them.
        folder: Where they lie.
        damaged: Result files that could not be read.
    """

    suite: str
    description: str
    axes: tuple[str, ...]
    rows: tuple[CellSummary, ...]
    metrics: tuple[str, ...]
    verdicts: tuple[Verdict, ...] = ()
    baseline: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    spared: int = 0
    batch: int = 1
    digest: str = ""
    command: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = Path(".")
    damaged: int = 0

    @cached_property
    def shares(self) -> frozenset[str]:
        """The metrics that are 0 or 1 in every trial: shares of them are shown. Of the others, means."""
        found = set(self.metrics) - set(COUNTS)
        for row in self.rows:
            for outcome in row.finished.values():
                found -= {name for name, value in outcome.metrics.items() if value not in (0.0, 1.0)}
        return frozenset(found)

    def figure(self, row: CellSummary, name: str) -> Rate | Mean:
        """A metric of a cell with its interval."""
        return row.rate(name) if name in self.shares else row.mean(name)

    @property
    def n_trials(self) -> int:
        """How many were asked for."""
        return sum(len(row.seeds) for row in self.rows)

    @property
    def n_finished(self) -> int:
        """How many of them are finished."""
        return sum(len(row.finished) for row in self.rows)

    @property
    def missing(self) -> int:
        """Trials that are not finished, and were to be."""
        return self.n_trials - self.n_finished - self.spared

    @property
    def failures(self) -> tuple[Unplayed, ...]:
        """Trials that could not be played to their end."""
        return tuple(Unplayed(row.title, outcome) for row in self.rows for outcome in row.outcomes.values()
                     if not outcome.finished)

    @property
    def agents(self) -> dict[str, str]:
        """Agent to its description."""
        return {row.agent: row.description for row in self.rows if row.agent}

    @property
    def world_notes(self) -> tuple[str, ...]:
        """What the cells' worlds say must be said with their results."""
        return tuple(dict.fromkeys(
            note for row in self.rows for outcome in row.finished.values() for note in outcome.notes))

    @property
    def headline(self) -> str:
        """The whole in one sentence."""
        failed, open_ = (sum(verdict.passed is state for verdict in self.verdicts) for state in (False, None))
        n = len(self.verdicts)
        if failed:
            return f"{failed} of {n} claim{'s' * (n != 1)} fail{'s' * (failed == 1)}"
        if self.failures:
            n_failed = len(self.failures)
            return f"{n_failed} trial{'s' * (n_failed != 1)} could not be played"
        if self.missing:
            return f"{self.n_finished:,} of {self.n_trials:,} trials are finished"
        if open_:
            return f"{open_} of {n} claim{'s' * (n != 1)} {'is' if open_ == 1 else 'are'} undecided"
        if n:
            return "The claim holds" if n == 1 else f"All {n} claims hold"
        return f"All {self.n_trials:,} trials are finished"

    @property
    def state(self) -> str:
        """``fails``, ``open`` or ``holds``: what the headline is coloured by."""
        if self.failures or any(verdict.passed is False for verdict in self.verdicts):
            return "fails"
        return "open" if self.missing or any(verdict.passed is None for verdict in self.verdicts) else "holds"

    def tables(self) -> list[Table]:
        """Shares of all trials, shares of those that meet a condition, and means."""
        shares = [name for name in self.metrics if name in self.shares]
        means = [name for name in self.metrics if name not in self.shares]
        some = [(name, given) for given in GIVEN for name in CONDITIONAL
                if name in shares and given in self.metrics]
        found = []
        if shares:
            found.append(self._table("Trials in which it happened: count, share, 95 % interval", shares,
                                     [[row.rate(name) for name in shares] for row in self.rows]))
        if some:
            found.append(self._table(
                "The same, of the trials with an approach, or with any exposure",
                [f"{name} | {'approach' if given == 'approached' else given}" for name, given in some],
                [[row.rate(*column) for column in some] for row in self.rows]))
        if means:
            found.append(self._table("Means over trials, 95 % interval", means,
                                     [[row.mean(name) for name in means] for row in self.rows]))
        return found

    def _table(self, title: str, columns: Sequence[str], figures: Sequence[Sequence[Rate | Mean]]) -> Table:
        rows = tuple((tuple(row.words.get(axis, "") for axis in self.axes), tuple(one))
                     for row, one in zip(self.rows, figures, strict=True))
        return Table(title, self.axes, tuple(columns), rows)

    def notes(self) -> list[str]:
        """What has to be said beside the tables."""
        notes = [f"{name}: {description}" for name, description in self.agents.items() if description]
        notes += self.world_notes
        if self.spared:
            notes.append(f"{self.spared} trials were not needed: all that is claimed of their cells is decided")
        if self.missing:
            notes.append(f"{self.missing} of {self.n_trials} trials are not finished")
        if self.damaged:
            notes.append(f"{self.damaged} result files cannot be read and do not count")
        failures = self.failures
        notes += [f"failed: {failure}" for failure in failures[:_FEW]]
        if len(failures) > _FEW:
            notes.append(f"failed: {len(failures) - _FEW} more")
        return notes + verdict_notes(self.verdicts)

    def _grids(self) -> list[tuple[str, list[list[str]]]]:
        """Title, header and rows of every table, that of the verdicts last."""
        found = [(table.title, table.lines()) for table in self.tables()]
        if self.verdicts:
            title, header, rows = claims_table(self.verdicts)
            found.append((title, [header, *rows]))
        return found

    def text(self) -> str:
        """For the terminal."""
        parts = [self.suite]
        for title, grid in self._grids():
            widths = [max(len(line[i]) for line in grid) for i in range(len(grid[0]))]
            lines = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
                     for line in grid]
            parts.append("\n".join([title, "", lines[0], "  ".join("-" * width for width in widths), *lines[1:]]))
        parts += ["\n".join(lines) for lines in (told(self.verdicts), self.notes()) if lines]
        return "\n\n".join(parts)

    def markdown(self) -> str:
        """Tables for a README."""
        parts = []
        for title, grid in self._grids():
            header, *rows = ["| " + " | ".join(word.replace("|", "\\|") for word in line) + " |"
                             for line in grid]
            parts.append("\n".join([f"{title}:", "", header, "|" + " --- |" * len(grid[0]), *rows]))
        parts += ["\n".join(f"- {line}" for line in self.notes())] if self.notes() else []
        return "\n\n".join(parts) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "suite": self.suite, "description": self.description, "headline": self.headline, "state": self.state,
            "axes": list(self.axes), "batch": self.batch, "agents": self.agents, "command": list(self.command),
            "provenance": dict(self.provenance), "trials": self.n_trials, "missing": self.missing,
            "spared": self.spared,
            "rows": [self._row_as_dict(row) for row in self.rows],
            "verdicts": [verdict.as_dict() for verdict in self.verdicts],
            "failures": [{"cell": row.id, "labels": dict(row.labels), "seed": outcome.seed, "status": outcome.status,
                          "problem": outcome.problem}
                         for row in self.rows for outcome in row.outcomes.values() if not outcome.finished],
        }

    def _row_as_dict(self, row: CellSummary) -> dict[str, Any]:
        shares = [name for name in self.metrics if name in self.shares]
        return {
            "labels": dict(row.labels), "id": row.id, "agent": row.agent, "trials": len(row.seeds),
            "finished": len(row.finished), "rates": {name: row.rate(name).as_dict() for name in shares},
            "given": {given: {name: row.rate(name, given).as_dict() for name in CONDITIONAL if name in shares}
                      for given in GIVEN if given in self.metrics},
            "means": {name: row.mean(name).as_dict() for name in self.metrics if name not in self.shares},
        }
