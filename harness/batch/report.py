"""What came of a suite: shares with counts and intervals, for the terminal, for Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.batch.judging import Samples
from harness.batch.labels import label_text
from harness.batch.metrics import CONDITIONS, RATES, USUAL, Measured, Metric
from harness.batch.suite import Cell, Trial
from harness.batch.verdicts import Verdict, claims_table, told, verdict_notes
from harness.provenance import collect_provenance
from harness.statistics import wilson

__all__ = ["Failure", "Rate", "Report", "Row", "samples_of"]

CONDITIONAL = ("contact", "held", "pressed")
"""Shares that are also given of the episodes that meet a condition."""


@dataclass(frozen=True)
class Rate:
    """A count, out of how many, and Wilson's 95 % interval."""

    count: int
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, count: int, n: int) -> Rate:
        """With its interval."""
        return cls(count, n, *wilson(count, n))

    @property
    def value(self) -> float | None:
        """The share."""
        return self.count / self.n if self.n else None

    def __str__(self) -> str:
        if not self.n:
            return "-"
        return f"{self.count}/{self.n} {self.count / self.n:.0%} [{100 * self.low:.0f}, {100 * self.high:.0f}]"

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"count": self.count, "n": self.n, "rate": round(self.count / self.n, 4) if self.n else None,
                "low": round(self.low, 4), "high": round(self.high, 4)}


@dataclass(frozen=True)
class Failure:
    """A trial that could not be played to its end, and what was said; ``status`` as in its result."""

    trial: Trial
    problem: str
    status: str = "failed"

    def __str__(self) -> str:
        return f"{self.trial.cell.title}, seed {self.trial.seed}: {self.problem}"


@dataclass(frozen=True)
class Row:
    """One cell's results.

    Attributes:
        cell: Of the suite.
        id: Its folder in the store.
        measured: An episode's seed to its figures, of the finished trials; empty where there is no target.
        seconds: Wall-clock time of all its episodes; those that share a forward pass count it in full.
        seeds: Of the finished trials.
        values: Metric to its numbers, in the order of ``seeds``; NaN where there is none.
        key: All that its numbers depend on beside the seed.
        notes: What its world says must be said with its results.
    """

    cell: Cell
    id: str
    measured: Mapping[int, Measured]
    seconds: float
    seeds: Sequence[int] = ()
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    key: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def finished(self) -> int:
        """Trials."""
        return len(self.seeds)

    def sample(self, metric: str) -> dict[int, float]:
        """A metric's number by seed, of the finished trials that have one."""
        return {seed: value for seed, value in zip(self.seeds, self.values[metric], strict=True) if value == value}

    def rate(self, name: str, given: str | None = None) -> Rate:
        """Share of episodes for which one of ``metrics.RATES`` holds, of all or of those that meet a condition."""
        of = [m for m in self.measured.values() if given is None or CONDITIONS[given](m)]
        return Rate.of(sum(RATES[name](m) for m in of), len(of))

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        figures = list(self.measured.values())
        means = {key: round(float(np.mean([getattr(m, key) for m in figures])), 4) if figures else None
                 for key in ("exposure", "contact_ticks", "press_edges", "damage")}
        return {
            "labels": dict(self.cell.labels), "id": self.id, "scenario": self.cell.scenario.name,
            "agent": Path(self.cell.agent).stem, "steps": self.cell.steps,
            "seeds": {"first": min(self.cell.seeds), "count": len(self.cell.seeds)}, "finished": self.finished,
            "episodes": self.cell.episodes, "notes": list(self.notes),
            "metrics": {name: {"n": len(found := self.sample(name)),
                               "mean": round(sum(found.values()) / len(found), 6) if found else None}
                        for name in self.values},
            "rates": {name: self.rate(name).as_dict() for name in RATES},
            "given": {given: {name: self.rate(name, given).as_dict() for name in CONDITIONAL} for given in CONDITIONS},
            "means": means,
        }


def samples_of(rows: Sequence[Row], metrics: Iterable[str]) -> Samples:
    """Metric to cell name to seed to number."""
    return {metric: {row.cell.name: row.sample(metric) for row in rows} for metric in metrics}


@dataclass(frozen=True)
class Report:
    """All cells' results.

    Attributes:
        suite: Its name.
        description: What the suite says of itself.
        axes: What tells the rows apart.
        rows: One per cell, in the suite's order.
        failures: Trials that could not be played to their end, in this run or before.
        agents: Agent to its description.
        batch: Rows of each forward pass.
        metrics: What each trial was asked.
        stopped: Why the run ended before everything was played; None when it did not.
        verdicts: What became of the suite's claims.
        spared: Trials that were not needed, since all was decided without them.
    """

    suite: str
    description: str
    axes: tuple[str, ...]
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    agents: Mapping[str, str]
    batch: int
    metrics: tuple[Metric, ...] = USUAL
    stopped: str | None = None
    verdicts: tuple[Verdict, ...] = ()
    spared: int = 0

    @property
    def missing(self) -> int:
        """Trials that are not finished, and were to be."""
        return sum(len(row.cell.seeds) - row.finished for row in self.rows) - self.spared

    @property
    def refuted(self) -> tuple[Verdict, ...]:
        """The claims that do not hold."""
        return tuple(verdict for verdict in self.verdicts if verdict.passed is False)

    def samples(self) -> Samples:
        """Metric to cell name to seed to number, of the finished trials."""
        return samples_of(self.rows, [metric.name for metric in self.metrics])

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Title, header and rows of each table: shares of all episodes, of those that meet a condition, and verdicts.

        A suite that names its metrics has one table of these instead of the shares.
        """
        return [*self._figures(), *([claims_table(self.verdicts)] if self.verdicts else [])]

    def _figures(self) -> list[tuple[str, list[str], list[list[str]]]]:
        if self.metrics != USUAL:
            return [("Metrics: what happened or not as count, share, 95 % interval; else the mean of n trials",
                     *self._metrics())]
        every = self._table(list(RATES), [(name, None) for name in RATES])
        columns = [(name, given) for given in CONDITIONS for name in CONDITIONAL]
        titles = [f"{name} | {'approach' if given == 'approached' else given}" for name, given in columns]
        some = self._table(titles, columns)
        return [("Episodes in which it happened: count, share, 95 % interval", *every),
                ("The same, of the episodes with an approach, or with any exposure", *some)]

    def _metrics(self) -> tuple[list[str], list[list[str]]]:
        names = [metric.name for metric in self.metrics]
        rows = [[*self._labels(row), *(_shown(list(row.sample(name).values()), row.cell.episodes) for name in names)]
                for row in self.rows]
        return [*self.axes, *names], rows

    @staticmethod
    def _labels(row: Row) -> list[str]:
        return [Path(str(value)).stem if axis == "agent" else label_text(value)
                for axis, value in row.cell.labels.items()]

    def _table(self, titles: Sequence[str], columns: Sequence[tuple[str, str | None]]
               ) -> tuple[list[str], list[list[str]]]:
        rows = [[*self._labels(row), *(str(row.rate(*column)) for column in columns)] for row in self.rows]
        return [*self.axes, *titles], rows

    def _notes(self) -> list[str]:
        notes = [f"{Path(name).stem}: {description}" for name, description in self.agents.items() if description]
        notes += dict.fromkeys(note for row in self.rows for note in row.notes)
        lacking = sorted({row.cell.scenario.name for row in self.rows if row.cell.target is None})
        if lacking and any(metric.of_target for metric in self.metrics):
            notes.append(f"no target in {', '.join(lacking)}: "
                         f"{', '.join(m.name for m in self.metrics if m.of_target)} are not measured there")
        if self.spared:
            notes.append(f"{self.spared} trials were not needed: all that is claimed of their cells is decided")
        if self.stopped:
            notes.append(f"stopped: {self.stopped}; the same command goes on")
        if self.missing:
            notes.append(f"{self.missing} of {sum(len(row.cell.seeds) for row in self.rows)} trials are not finished")
        notes += [f"failed: {failure}" for failure in self.failures[:10]]
        if len(self.failures) > 10:
            notes.append(f"failed: {len(self.failures) - 10} more")
        return notes + verdict_notes(self.verdicts)

    def text(self) -> str:
        """For the terminal."""
        parts = [self.suite]
        for title, header, rows in self.tables():
            widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
            lines = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
                     for line in [header, *rows]]
            parts.append("\n".join([title, "", lines[0], "  ".join("-" * width for width in widths), *lines[1:]]))
        if words := told(self.verdicts):
            parts.append("\n".join(words))
        notes = "\n".join(self._notes())
        return "\n\n".join([*parts, notes] if notes else parts)

    def markdown(self) -> str:
        """Tables for a README."""
        parts = []
        for title, header, rows in self.tables():
            lines = ["| " + " | ".join(word.replace("|", "\\|") for word in line) + " |" for line in [header, *rows]]
            parts.append("\n".join([f"{title}:", "", lines[0], "|" + " --- |" * len(header), *lines[1:]]))
        notes = "\n".join(f"- {note}" for note in self._notes())
        return "\n\n".join([*parts, notes] if notes else parts) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "suite": self.suite, "description": self.description, "axes": list(self.axes), "batch": self.batch,
            "agents": dict(self.agents), "provenance": collect_provenance().as_dict(),
            "missing": self.missing, "stopped": self.stopped, "spared": self.spared,
            "verdicts": [verdict.as_dict() for verdict in self.verdicts], "rows": [row.as_dict() for row in self.rows],
            "failures": [{"labels": dict(f.trial.cell.labels), "seed": f.trial.seed, "problem": f.problem,
                          "status": f.status}
                         for f in self.failures],
        }


def _shown(values: Sequence[float], episodes: int) -> str:
    """A metric's cell: a share where every trial says yes or no, else a mean."""
    if not values:
        return "-"
    if episodes == 1 and all(value in (0.0, 1.0) for value in values):
        return str(Rate.of(int(sum(values)), len(values)))
    return f"{sum(values) / len(values):.4g} (n {len(values)})"
