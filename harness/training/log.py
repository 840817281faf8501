"""The log of a training run: one JSON object a line, and a picture of its curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import TrainingError

__all__ = ["append_row", "chart_svg", "curves_svg", "cut_log", "read_log"]

Row = dict[str, Any]


def append_row(path: Path, row: Row) -> None:
    """Add a row. ``step`` is the number of optimiser steps done."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")


def read_log(path: Path) -> list[Row]:
    """All rows; a last line that was cut off by a crash is left out.

    Raises:
        TrainingError: when there is no log, or another line is no JSON object.
    """
    if not path.is_file():
        raise TrainingError(f"there is no training log at {path}", hint="give the folder of a training run")
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            if number == len(lines):
                break
            raise TrainingError("expected one JSON object a line", where=f"{path}:{number}")
        rows.append(row)
    return rows


def cut_log(path: Path, step: int) -> None:
    """Forget the rows after a step: a run that goes on from a checkpoint writes them again."""
    rows = [row for row in read_log(path) if row.get("step", 0) <= step] if path.is_file() else []
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


_WIDTH, _HEIGHT, _MARGIN = 360, 150, 40
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e")


def curves_svg(rows: Sequence[Row]) -> str:
    """The curves as an SVG picture: losses, agreement by key, held attack, held-out success."""
    train = [row for row in rows if row.get("kind") == "train"]
    tests = [row for row in rows if row.get("kind") == "validation"]
    keys = ("attack", "forward", "jump", "camera")
    panels = [
        ("loss (nats)", {name: [(r["step"], r[name]) for r in train] for name in ("buttons", "camera")}),
        ("agreement with the teacher", {k: [(r["step"], r["agreement"][k]) for r in train] for k in keys}),
        ("P(attack | teacher attacks)", {"median": [(r["step"], r["attack_median"]) for r in train
                                                    if r["attack_median"] is not None]}),
        ("held-out success", {name: [(r["step"], r["successes"] / r["episodes"]) for r in tests
                                     if r["sampling"] is sampling]
                              for name, sampling in (("temperature 1", True), ("most likely", False))}),
    ]
    return chart_svg([(title, series, 1.0 if i else None) for i, (title, series) in enumerate(panels)], "steps")


def chart_svg(panels: Sequence[tuple[str, dict[str, list[tuple[float, float]]], float | None]], unit: str) -> str:
    """Curves side by side as an SVG picture, all from 0.

    Args:
        panels: Title, name of each curve to its points, and the upper end of the scale (None: the largest value).
        unit: Of what runs from left to right.
    """
    parts = [_panel(title, series, i * (_WIDTH + _MARGIN), top, unit) for i, (title, series, top) in enumerate(panels)]
    width, height = len(panels) * (_WIDTH + _MARGIN) + _MARGIN, _HEIGHT + 2 * _MARGIN
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
            f'font-size="11"><rect width="{width}" height="{height}" fill="white"/>{"".join(parts)}</svg>\n')


def _panel(title: str, series: dict[str, list[tuple[float, float]]], left: int, top: float | None, unit: str) -> str:
    points = [point for line in series.values() for point in line]
    x_end = max((x for x, _ in points), default=1) or 1
    y_end = top or max((y for _, y in points), default=1.0) or 1.0
    x0, y0 = left + _MARGIN, _MARGIN + _HEIGHT
    parts = [f'<text x="{x0}" y="{_MARGIN - 20}" font-weight="bold">{title}</text>',
             f'<path d="M{x0},{_MARGIN}V{y0}H{x0 + _WIDTH}" fill="none" stroke="#888"/>',
             f'<text x="{x0 - 4}" y="{_MARGIN + 8}" text-anchor="end">{y_end:.3g}</text>',
             f'<text x="{x0 - 4}" y="{y0}" text-anchor="end">0</text>',
             f'<text x="{x0 + _WIDTH}" y="{y0 + 14}" text-anchor="end">{x_end:g} {unit}</text>']
    for i, (name, line) in enumerate(series.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        path = " ".join(f"{x0 + _WIDTH * x / x_end:.1f},{y0 - _HEIGHT * y / y_end:.1f}" for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{x0 + 90 * i}" y="{_MARGIN - 6}" fill="{colour}">{name}</text>')
    return "".join(parts)
