"""What came of a suite: counts, shares, means and intervals, for the terminal, for Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.batch.metrics import COUNTS
from harness.batch.suite import label_text
from harness.batch.verdicts import Verdict
from harness.statistics import bootstrap, wilson

from harness.batch.metrics import CONDITIONS, RATES, USUAL, Measured, Metric
from harness.batch.suite import Cell, Trial, label_text
from harness.provenance import collect_provenance
from harness.statistics import wilson

__all__ = ["Failure", "Rate", "Report", "Row"]

CONDITIONAL = ("contact", "held", "pressed")
"""Shares that are also given of the trials that meet a condition."""
GIVEN = ("approached", "exposure")
"""The conditions: metrics that are above 0."""
_FEW = 10


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
    """

    seed: int
    status: str
    problem: str = ""
    n_steps: int = 0
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    actions: str = ""
    recorded: bool = False

    @property
    def finished(self) -> bool:
        """Whether it counts."""
        return self.status == "finished"


@dataclass(frozen=True)
class Failure:
    """A trial that could not be played to its end, and what was said; ``status`` as in its result."""

    trial: Trial
    problem: str
    status: str = "failed"

    def __str__(self) -> str:
        how = "" if self.outcome.status == "failed" else f" ({self.outcome.status})"
        return f"{self.title}, seed {self.outcome.seed}{how}: {self.outcome.problem}"


@dataclass(frozen=True)
class Row:
    """One cell's results.

    Attributes:
        id: Its folder in the store.
        measured: An episode's seed to its figures, of the finished trials; empty where there is no target.
        seconds: Wall-clock time of all its episodes; those that share a forward pass count it in full.
        seeds: Of the finished trials.
        values: Metric to its numbers, in the order of ``seeds``; NaN where there is none.
    """

    id: str
    measured: Mapping[int, Measured]
    seconds: float
    seeds: Sequence[int] = ()
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def finished(self) -> int:
        """Trials."""
        return len(self.seeds)

    def sample(self, metric: str) -> dict[int, float]:
        """A metric's number by seed, of the finished trials that have one."""
        return {seed: value for seed, value in zip(self.seeds, self.values[metric], strict=True) if value == value}

    def rate(self, name: str, given: str | None = None) -> Rate:
        """Share of trials for which a metric is above 0, of all or of those that meet a condition."""
        values = self.values(name, given)
        return Rate.of(sum(value > 0 for value in values), len(values))

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        figures = list(self.measured.values())
        means = {key: round(float(np.mean([getattr(m, key) for m in figures])), 4) if figures else None
                 for key in ("exposure", "contact_ticks", "press_edges", "damage")}
        return {
            "labels": dict(self.cell.labels), "id": self.id, "scenario": self.cell.scenario.name,
            "agent": Path(self.cell.agent).stem, "steps": self.cell.steps,
            "seeds": {"first": min(self.cell.seeds), "count": len(self.cell.seeds)}, "finished": self.finished,
            "episodes": self.cell.episodes,
            "metrics": {name: {"n": len(found := self.sample(name)),
                               "mean": round(sum(found.values()) / len(found), 6) if found else None}
                        for name in self.values},
            "rates": {name: self.rate(name).as_dict() for name in RATES},
            "given": {given: {name: self.rate(name, given).as_dict() for name in CONDITIONAL} for given in CONDITIONS},
            "means": means,
        }


@dataclass(frozen=True)
class Report:
    """All cells' results; ``results.read_report`` makes it from what lies on disk.

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

    @property
    def missing(self) -> int:
        """Trials that are not finished."""
        return sum(len(row.cell.seeds) - row.finished for row in self.rows)

    def samples(self) -> dict[str, dict[str, dict[int, float]]]:
        """Metric to cell (``Row.id``) to seed to number, of the finished trials."""
        return {metric.name: {row.id: row.sample(metric.name) for row in self.rows} for metric in self.metrics}

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Title, header and rows of each table: shares of all episodes, and of those that meet a condition.

        A suite that names its metrics has one table, of these.
        """
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
        lacking = sorted({row.cell.scenario.name for row in self.rows if row.cell.target is None})
        if lacking and any(metric.of_target for metric in self.metrics):
            notes.append(f"no target in {', '.join(lacking)}: "
                         f"{', '.join(m.name for m in self.metrics if m.of_target)} are not measured there")
        if self.stopped:
            notes.append(f"stopped: {self.stopped}; the same command goes on")
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
        if self.missing:
            notes.append(f"{self.missing} of {self.n_trials} trials are not finished")
        if self.damaged:
            notes.append(f"{self.damaged} result files cannot be read and do not count")
        failures = self.failures
        notes += [f"failed: {failure}" for failure in failures[:_FEW]]
        if len(failures) > _FEW:
            notes.append(f"failed: {len(failures) - _FEW} more")
        return notes

    def _claims(self) -> list[str]:
        lines = []
        for verdict in self.verdicts:
            words = "; ".join(filter(None, (verdict.numbers, verdict.reason)))
            lines.append(f"{verdict.word}: {verdict.claim}" + (f" ({words})" if words else ""))
            if verdict.flipped:
                lines[-1] += f"; seeds that flipped: {shortened(verdict.flipped)}"
        return lines

    def text(self) -> str:
        """For the terminal."""
        parts = [self.suite]
        for table in self.tables():
            grid = table.lines()
            widths = [max(len(line[i]) for line in grid) for i in range(len(grid[0]))]
            lines = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
                     for line in grid]
            parts.append("\n".join([table.title, "", lines[0], "  ".join("-" * width for width in widths), *lines[1:]]))
        parts += ["\n".join(lines) for lines in (self._claims(), self.notes()) if lines]
        return "\n\n".join(parts)

    def markdown(self) -> str:
        """Tables for a README."""
        parts = []
        for table in self.tables():
            header, *rows = ["| " + " | ".join(word.replace("|", "\\|") for word in line) + " |"
                             for line in table.lines()]
            columns = len(table.axes) + len(table.columns)
            parts.append("\n".join([f"{table.title}:", "", header, "|" + " --- |" * columns, *rows]))
        parts += ["\n".join(f"- {line}" for line in lines) for lines in (self._claims(), self.notes()) if lines]
        return "\n\n".join(parts) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "suite": self.suite, "description": self.description, "axes": list(self.axes), "batch": self.batch,
            "agents": dict(self.agents), "provenance": collect_provenance().as_dict(),
            "missing": self.missing, "stopped": self.stopped, "rows": [row.as_dict() for row in self.rows],
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
