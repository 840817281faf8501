"""How far a suite is: a table that follows the run on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from harness.batch.runner import Tally

__all__ = ["BatchTable"]

_SECONDS_BETWEEN_LINES = 10.0
_PER_SECOND = 2.0
_MOST_ROWS = 25


class BatchTable:
    """Shows a run; a ``batch.runner.Progress``.

    Args:
        quiet: Show nothing.
        console: Where; else the standard error output.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._quiet, self._cells, self._metric = quiet, list[Tally](), ""
        self._label, self._total, self._done = "", 0, 0
        self._began = self._said = time.monotonic()
        self._live = None if quiet or not self._console.is_terminal else Live(
            console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> BatchTable:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def start(self, label: str, total: int | None) -> None:
        """So many steps are to be played."""
        self._label, self._total = label, total or 0
        self._began = self._said = time.monotonic()

    def tallies(self, metric: str, cells: Sequence[Tally]) -> None:
        """How far each cell is."""
        self._metric, self._cells = metric, list(cells)
        self._there = sum(cell.finished + cell.failed for cell in cells)

    def to(self, done: int) -> None:
        """So many steps are played; look at the cells again."""
        self._done, now = done, time.monotonic()
        if self._live is not None and now - self._said > 1 / _PER_SECOND:
            self._said = now
            self._live.update(self._table(), refresh=True)
        elif self._live is None and not self._quiet and now - self._said > _SECONDS_BETWEEN_LINES:
            self._said = now
            click.echo(f"{self._label}: {self._caption()}", err=True)

    def _caption(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-9)
        ended = sum(cell.finished + cell.failed for cell in self._cells) - self._there
        left = f", {_span((self._total - self._done) * seconds / self._done)} left" if self._done else ""
        return f"{ended} ended, {ended / seconds:.2g} trials/s, {self._done / seconds:.0f} steps/s{left}"

    def _table(self) -> Table:
        table = Table(title=self._label, caption=self._caption(), title_justify="left", caption_justify="left")
        for heading in ("cell", "finished", "failed", self._metric):
            table.add_column(heading, justify="left" if heading == "cell" else "right")
        busy = [cell for cell in self._cells if cell.finished + cell.failed < cell.total]
        shown = self._cells if len(self._cells) <= _MOST_ROWS else busy[:_MOST_ROWS]
        for cell in shown:
            table.add_row(cell.title, f"{cell.finished}/{cell.total}", str(cell.failed or ""),
                          f"{cell.sum / cell.n:.3g}" if cell.n else "")
        if len(shown) < len(self._cells):
            table.add_row(f"and {len(self._cells) - len(shown)} more", "", "", "")
        return table


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
