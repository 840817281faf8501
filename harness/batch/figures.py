"""Small multiples: a metric over the whole matrix, as dots with intervals in panels of one scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.batch.report import Rate
from harness.batch.summary import CellSummary, Mean, Summary

__all__ = ["SERIES", "Dot", "Figure", "Panel", "figure_of", "nice_scale"]

SERIES = 4
"""Values of an axis that are told apart by colour and shape."""
LEFT, WIDTH, ROW = 118, 236, 26
"""Pixels of a panel's drawing: its labels, its scale, and a line."""
_TOP = 8
_APART = 4.5


@dataclass(frozen=True)
class Dot:
    """One cell: where its figure and its interval stand in the drawing, in pixels; None where there is none."""

    x: float
    y: float
    low: float | None
    high: float | None
    series: int
    words: str
    baseline: float | None = None


@dataclass(frozen=True)
class Panel:
    """The cells that share all but two axes.

    Attributes:
        title: What they share.
        lines: Label and y of each.
        dots: The cells.
        height: Of the drawing, without the scale below it.
    """

    title: str
    lines: tuple[tuple[str, float], ...]
    dots: tuple[Dot, ...]
    height: float

    @property
    def words(self) -> str:
        """For those who do not see it."""
        return "; ".join(dot.words for dot in self.dots)


@dataclass(frozen=True)
class Figure:
    """A metric over the matrix.

    Attributes:
        metric: Its name.
        axis: What the lines are.
        series: Name of the axis that is told by colour ("" for none), and its values.
        panels: In the suite's order.
        ticks: x and label.
    """

    metric: str
    axis: str
    series: tuple[str, tuple[str, ...]]
    panels: tuple[Panel, ...]
    ticks: tuple[tuple[float, str], ...]

    @property
    def has_baseline(self) -> bool:
        """Whether an approved value is marked anywhere."""
        return any(dot.baseline is not None for panel in self.panels for dot in panel.dots)


def figure_of(report: Summary, metric: str, figures: Mapping[str, Rate | Mean]) -> Figure:
    """Lay a metric out: the longest axis down, a short one in colours, the rest from panel to panel.

    Args:
        report: Of the suite.
        metric: One of its metrics.
        figures: Cell id to the metric's value with its interval.
    """
    values = {axis: tuple(dict.fromkeys(row.words.get(axis, "") for row in report.rows)) for axis in report.axes}
    axes = [axis for axis in report.axes if len(values[axis]) > 1] or list(report.axes[:1])
    down = max(axes, key=lambda axis: len(values[axis]), default="")
    coloured = next((axis for axis in axes if axis != down and len(values[axis]) <= SERIES), "")
    rest = [axis for axis in axes if axis not in (down, coloured)]
    share = metric in report.shares
    ends = [end for one in figures.values() for end in (one.low, one.high, one.value) if end is not None]
    least, most, step = (0.0, 1.0, 0.5) if share else nice_scale(min(ends, default=0.0), max(ends, default=1.0))

    def x(value: float) -> float:
        return round(LEFT + (value - least) / (most - least) * WIDTH, 1)

    panels: dict[tuple[str, ...], list[CellSummary]] = {}
    for row in report.rows:
        panels.setdefault(tuple(row.words.get(axis, "") for axis in rest), []).append(row)
    series = values.get(coloured, ("",))
    drawn = []
    for shared, rows in panels.items():
        labels = list(dict.fromkeys(row.words.get(down, row.title) for row in rows))
        heights = {label: _TOP + ROW * (number + 0.5) for number, label in enumerate(labels)}
        dots = []
        for row in rows:
            found, number = figures[row.id], series.index(row.words.get(coloured, ""))
            if found.value is None:
                continue
            y = heights[row.words.get(down, row.title)] + 2 * _APART * (number - (len(series) - 1) / 2)
            approved = report.baseline.get(row.name, {}).get(metric)
            dots.append(Dot(x(found.value), round(y, 1), None if found.low is None else x(found.low),
                            None if found.high is None else x(found.high), number, f"{row.title}: {found}",
                            None if approved is None else x(min(max(approved, least), most))))
        drawn.append(Panel(", ".join(shared), tuple(heights.items()), tuple(dots), 2 * _TOP + ROW * len(labels)))
    ticks = tuple((x(at), f"{at:.0%}" if share else f"{at:g}") for at in _ticks(least, most, step))
    return Figure(metric, down, (coloured, series if coloured else ()), tuple(drawn), ticks)


def nice_scale(least: float, most: float) -> tuple[float, float, float]:
    """Round ends around two values, with zero among them, and a round step: 1, 2 or 5 times a power of ten."""
    least, most = min(least, 0.0), max(most, 0.0)
    most = 1.0 if least == most else most
    span = most - least
    power = 10.0 ** math.floor(math.log10(span / 2))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= 4)
    return math.floor(least / step) * step, math.ceil(most / step) * step, step


def _ticks(least: float, most: float, step: float) -> Sequence[float]:
    return [round(least + step * number, 10) for number in range(round((most - least) / step) + 1)]
