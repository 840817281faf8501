"""Progress of an episode: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from harness.rollout import Episode, EpisodeResult, Step

__all__ = ["Ticker"]

_SECONDS_BETWEEN_LINES = 10.0


class Ticker:
    """Shows how far something is. An observer of episodes, and usable by hand with ``start`` and ``to``.

    Args:
        quiet: Show nothing.
        n_episodes: How many episodes there will be, for the label.
    """

    def __init__(self, *, quiet: bool = False, n_episodes: int = 1) -> None:
        self._quiet, self._n_episodes, self._episode = quiet, n_episodes, 0
        console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if console.is_terminal and not quiet:
            self._bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                                 TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=console,
                                 transient=True)

    def __enter__(self) -> Ticker:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, label: str, total: int | None) -> None:
        """A new thing of ``total`` steps (None: nobody knows)."""
        self._label, self._total, self._done = label, total, 0
        self._began = self._said = time.perf_counter()
        if self._bar is not None:
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._task = self._bar.add_task(label, total=total, rate="")

    def to(self, done: int, total: int | None = None) -> None:
        """``done`` steps are done, of ``total`` where that has become known."""
        self._done, now = done, time.perf_counter()
        self._total = self._total if total is None else total
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self._total, rate=f"{self._rate(now):.0f}/s")
        elif not self._quiet and now - self._said > _SECONDS_BETWEEN_LINES:
            self._said = now
            click.echo(f"{self._label}: {done} of {self._total or '?'} steps, {self._rate(now):.0f}/s"
                       f"{self._left(now)}", err=True)

    def _rate(self, now: float) -> float:
        return self._done / max(now - self._began, 1e-9)

    def _left(self, now: float) -> str:
        if not self._total:
            return ""
        return f", {(self._total - self._done) / max(self._rate(now), 1e-9):.0f} s left"

    def begin(self, episode: Episode) -> None:
        """An episode begins."""
        self._episode += 1
        self._first = episode.first_step
        number = f" {self._episode}/{self._n_episodes}" if self._n_episodes > 1 else ""
        total = episode.max_steps - self._first
        n_frames = getattr(episode.world, "n_frames", None)
        self.start(f"{episode.world.scenario.name}{number} (seed {episode.seed})",
                   min(total, n_frames) if isinstance(n_frames, int) else total)

    def on_step(self, step: Step) -> None:
        """A step is done."""
        self.to(step.index + 1 - self._first)

    def end(self, result: EpisodeResult) -> Any:
        """The episode is over."""
