"""Playing trials: what a worker does, wherever it runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.analysis.run import find_analysis
from harness.batch.engine import Broken, Done, Message, NextLane, NextTrial, Reply, Stopped, Ticks
from harness.batch.job import Job, Lane, Order
from harness.batch.metrics import Meter, Metric, value_at
from harness.batch.store import disk_full
from harness.batch.suite import Cell
from harness.errors import HarnessError, SuiteError
from harness.recording.recorder import Recorder
from harness.recording.recording import open_recording
from harness.recording.schema import plain
from harness.rollout import Episode, EpisodeResult, Play, Step, play_many
from harness.world.action import BUTTONS
from harness.world.world import make_world

__all__ = ["load_player", "play_lane", "work"]

_SECONDS_BETWEEN_REPORTS = 1.0

Tell = Callable[[Message], Reply]


def load_player(name: str, device: str = "cpu") -> Agent:
    """An agent on one torch thread: workers share the cores, and bits depend on the threads.

    Args:
        name: Of the agent, or its file.
        device: As a ``Job`` has it; for agents with a network.
    """
    agent = load_agent(name, device="cpu")
    if device != "cpu" and agent.hook_shapes():
        return load_agent(name, device=device.partition(" ")[0])
    return agent if agent.torch_threads <= 1 else load_agent(name, device="cpu", torch_threads=1)


def work(job: Job, tell: Tell) -> None:
    """A worker's life: it asks for a lane, then for trials of it, until there are none.

    An exception that is no trial's own ends it as ``Broken``; one that means that nothing can be kept, as ``Stopped``.

    Args:
        job: What there is to play.
        tell: Says something to the scheduler, and returns its reply.
    """
    try:
        _warm_up(job)
        while isinstance(lane := tell(NextLane()), Lane):
            ticks = _Ticks(tell)
            for done in play_lane(job, load_player(lane.agent, job.device), lane, _orders(tell), ticks):
                tell(done)
            ticks.flush()
    except (EOFError, ConnectionError):  # whoever listened is gone: there is nobody to tell
        raise
    except SuiteError as problem:
        tell(Stopped(problem.message, problem.where, problem.hint))
    except Exception as problem:  # nothing of this process can be trusted any more; the scheduler decides what next
        tell(Broken(f"{type(problem).__name__}: {problem}"))


def _warm_up(job: Job) -> None:
    """Compile, where that has not happened yet, before any trial's time runs."""
    with contextlib.suppress(HarnessError), make_world(job.cells[0].scenario, job.cells[0].backend) as world:
        world.reset(seed=0)


def _orders(tell: Tell) -> Iterator[Order]:
    while isinstance(order := tell(NextTrial()), Order):
        yield order


def play_lane(job: Job, agent: Agent, lane: Lane, orders: Iterable[Order],
              ticked: Callable[[int], None] = lambda n: None) -> Iterator[Done]:
    """Play trials of one agent, and keep each that comes to its end.

    Args:
        job: What is played, and where it goes.
        agent: Of all these trials.
        lane: How many rows play at a time.
        orders: Asked for the next trial whenever there is room.
        ticked: Told of steps played.

    Yields:
        Each trial as it ends.

    Raises:
        SuiteError: when a result cannot be kept.
    """
    def plays() -> Iterator[Play]:
        for order in orders:
            trial = _Trial(job, agent, order)
            yield from trial.plays()

    for play, result in play_many(agent, plays(), slots=lane.rows, ticked=ticked):
        trial, episode = play.label
        if (done := trial.ended(episode, result)) is not None:
            yield done


@dataclass
class _EpisodeLog:
    """What is kept of one episode. An observer.

    A line of ``steps.jsonl`` is short, unlike a recording's: it is there for questions over many trials.
    """

    meter: Meter | None
    lines: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    _digest: Any = field(default_factory=hashlib.sha256)
    _exposure: int = 0

    def begin(self, episode: Episode) -> None:
        """Ask the world what must be said with its results."""
        self.notes = episode.world.notes()

    def on_step(self, step: Step) -> None:
        """Take in an action: two trials with the same digest went the same way."""
        action, info = step.executed, step.info
        self._digest.update(bytes(int(action[key]) for key in BUTTONS))
        self._digest.update(np.asarray(action["camera"], dtype=np.float32).tobytes())
        exposure = self.meter.measured.exposure if self.meter is not None else 0
        row = {
            "step": step.index, "keys": [key for key in BUTTONS if action[key]],
            "camera": [round(float(each), 4) for each in action["camera"]],
            "on_target": exposure > self._exposure if self.meter is not None else None,
            "pose": info.get("pose"), "health": info.get("health"),
            "events": [event["type"] for event in info.get("events", ())],
            "log_prob": step.output.log_prob, "entropy": step.output.entropy, "value": step.output.value,
        }
        self._exposure = exposure
        self.lines.append(json.dumps(plain(row), separators=(",", ":")))

    def end(self, result: EpisodeResult) -> None:
        """After the last step."""

    def actions(self) -> str:
        """Sixteen hexadecimal digits."""
        return str(self._digest.hexdigest()[:16])


class _Keeper(Recorder):
    """A recorder that knows whether it was the disk's fault."""

    full: str | None = None

    def begin(self, episode: Episode) -> None:
        """Make the folder."""
        with self._watched():
            super().begin(episode)

    def on_step(self, step: Step) -> None:
        """Hand a step to the writer."""
        with self._watched():
            super().on_step(step)

    def end(self, result: EpisodeResult) -> None:
        """Write what is queued."""
        with self._watched():
            super().end(result)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except Exception as problem:
            self.full = self.full or disk_full(problem)
            raise


class _Trial:
    """A trial while its episodes are played."""

    def __init__(self, job: Job, agent: Agent, order: Order) -> None:
        self._job, self._agent, self._order = job, agent, order
        self._cell: Cell = job.cells[order.cell]
        self._id = job.ids[order.cell]
        self._folder = job.store.open_trial(self._id, order.seed)
        self._analyses = [metric for metric in job.metrics if metric.analysis is not None]
        self._records = order.record or bool(self._analyses)
        traced = self._records and bool(agent.hook_shapes())  # another agent of the suite may have hooks, and this none
        self._hooks = tuple(agent.resolve_hooks(job.record.hooks)) if traced else ()
        self._logs: list[_EpisodeLog] = []
        self._keepers: list[_Keeper | None] = []
        self._episodes: dict[int, dict[str, Any]] = {}
        self._figures: dict[int, dict[str, float | None]] = {}
        self._seconds, self._over = 0.0, False

    def plays(self) -> Iterator[Play]:
        """Its episodes, one after the other."""
        cell = self._cell
        for number, seed in enumerate(cell.episode_seeds(self._order.seed)):
            if self._over:
                return
            meter = None if cell.target is None else Meter(cell.target)
            log, keeper = _EpisodeLog(meter), _Keeper(self._place(number) / "recorded") if self._records else None
            self._logs.append(log)
            self._keepers.append(keeper)
            observers = [each for each in (meter, log, keeper) if each is not None]
            yield Play(cell.scenario, seed, cell.steps, tuple(observers), (self, number), self._hooks,
                       self._job.interventions[self._order.cell], cell.backend, whole=self._records)

    def _place(self, number: int) -> Path:
        return self._folder if self._cell.episodes == 1 else self._folder / f"episode-{number}"

    def ended(self, number: int, result: EpisodeResult) -> Done | None:
        """An episode is over; what to say when the trial is with it."""
        log, keeper = self._logs[number], self._keepers[number]
        if keeper is not None and keeper.full is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise SuiteError(f"cannot write a recording: {keeper.full}", where=str(self._folder),
                             hint="free some space there: what is finished is kept; the same command goes on")
        if self._over:  # another of its episodes has failed: what comes after is not counted
            return None
        if result.error is not None:
            self._over = True
            return Done(self._order, result.error)
        self._seconds += result.seconds
        measured = None if log.meter is None else log.meter.measured
        try:
            self._figures[number] = {metric.name: metric.of(measured, result.outcomes) for metric in self._job.metrics
                                     if metric.analysis is None} | self._analysed(keeper)
        except Exception as problem:  # an analysis that breaks is this trial's result, too
            self._over = True
            return Done(self._order, f"{type(problem).__name__}: {problem}")
        self._episodes[number] = {
            "seed": result.seed, "status": result.status, "n_steps": result.n_steps,
            "measured": None if measured is None else measured.as_dict(), "outcomes": plain(result.outcomes),
            "actions": log.actions()}
        self._job.store.write_steps(self._folder, self._place(number), log.lines)
        log.lines.clear()
        if len(self._episodes) < self._cell.episodes:
            return None
        return self._keep()

    def _analysed(self, keeper: _Keeper | None) -> dict[str, float | None]:
        if not self._analyses:
            return {}
        assert keeper is not None
        recording = open_recording(keeper.path)
        return {metric.name: self._analyse(metric, recording) for metric in self._analyses}

    def _analyse(self, metric: Metric, recording: Any) -> float:
        result = find_analysis(str(metric.analysis))([recording], metric.options, agent=lambda: self._agent)
        return value_at(result.as_dict(), metric.value)

    def _keep(self) -> Done:
        """All episodes have come to their end."""
        order = self._order
        if order.record and self._job.record.keep != "failures":
            self._job.store.settle(self._folder)
        elif self._records:
            for number in self._episodes:
                shutil.rmtree(self._place(number) / "recorded", ignore_errors=True)
        episodes = [self._episodes[number] for number in sorted(self._episodes)]
        metrics = {metric.name: _mean([self._figures[n][metric.name] for n in sorted(self._figures)])
                   for metric in self._job.metrics}
        self._job.store.finish(self._id, order.seed, {
            **self._job.about(order), "status": "finished", "problem": None,
            "n_steps": sum(each["n_steps"] for each in episodes), "seconds": round(self._seconds, 3),
            "episodes": episodes, "metrics": metrics,
            "notes": list(dict.fromkeys(note for log in self._logs for note in log.notes))}, self._folder)
        return Done(order, None, metrics)


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


class _Ticks:
    """Tells of steps played, once a second."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._n, self._told = tell, 0, time.monotonic()

    def __call__(self, n: int) -> None:
        self._n += n
        if time.monotonic() - self._told > _SECONDS_BETWEEN_REPORTS:
            self.flush()

    def flush(self) -> None:
        self._tell(Ticks(self._n))
        self._n, self._told = 0, time.monotonic()
