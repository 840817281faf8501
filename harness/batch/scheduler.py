"""Who plays what next, what is tried again, and whose fault it was: the same for every engine."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from harness.batch.engine import Broken, Done, Ended, Engine, Message, NextLane, NextTrial, Reply, Stopped, Ticks
from harness.batch.job import Job, Lane, Order
from harness.batch.suite import Budget
from harness.errors import SuiteError

__all__ = ["Ending", "Queue", "Status", "play"]

Status = Literal["finished", "failed", "timeout", "lost"]

_MOST_STILLBORN = 3
"""Workers that end one after the other without having asked for a trial, before the run gives up."""
_SILENT = 900.0
"""Seconds in which a worker must have begun something: it builds an agent, and compiles, before its first trial."""
_LOOK = 1.0  # seconds between two looks at the clock


@dataclass(frozen=True)
class Ending:
    """A trial is over, for this run.

    Attributes:
        order: Which.
        status: ``finished``; ``failed`` by an exception of its own; ``timeout``; ``lost`` with its worker.
        problem: What went wrong.
        metrics: Its numbers, when it is finished.
    """

    order: Order
    status: Status
    problem: str | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)


class Queue:
    """Orders that are made as they are taken, so that a hundred thousand take no room.

    Args:
        orders: In order.
        n: How many.
    """

    def __init__(self, orders: Iterator[Order], n: int) -> None:
        self._orders, self.n = orders, n

    def take(self) -> Order:
        """The next one."""
        self.n -= 1
        return next(self._orders)


def play(engine: Engine, job: Job, queues: Mapping[Lane, Queue], *, ended: Callable[[Ending], None],
         ticked: Callable[[int], None] = lambda n: None, timeout: float | None = None, retries: int = 0,
         budget: Budget | None = None) -> bool:
    """Play trials with the workers of an engine.

    A worker that dies, or is killed because one of its trials has taken too long, may have had several in its hands.
    Each of them is played again, alone in a worker: the forward pass has the same shape with one row in use, so the
    result is the same, and the trial whose fault it is is known. Only that one counts as ``lost`` or ``timeout``.
    A trial that fails is tried again, alone, as often as ``retries`` says.

    Args:
        engine: Closed at the end.
        job: Cells and store.
        queues: The trials, by lane.
        ended: Told of each trial once.
        ticked: Told of steps played.
        timeout: Seconds for a trial; those that its neighbours take in the same forward passes count, too.
        retries: Of a trial.
        budget: How much to begin.

    Returns:
        Whether the budget has ended it, with trials left.

    Raises:
        SuiteError: when results cannot be kept, or workers die before they play anything.
    """
    scheduler = _Scheduler(engine, job, dict(queues), ended, ticked, timeout if engine.can_kill else None, retries,
                           budget or Budget())
    try:
        scheduler.run()
    finally:
        engine.close()
    return scheduler.waiting > 0


@dataclass
class _Worker:
    """What one is at; ``begun`` has the time, or None for a trial that it has not been told of yet."""

    since: float
    lane: Lane | None = None
    alone: Order | None = None
    asked: bool = False
    begun: dict[Order, float | None] = field(default_factory=dict)
    last_words: str = ""
    late: bool = False


class _Scheduler:
    def __init__(self, engine: Engine, job: Job, queues: dict[Lane, Queue], ended: Callable[[Ending], None],
                 ticked: Callable[[int], None], timeout: float | None, retries: int, budget: Budget) -> None:
        self._engine, self._job, self._queues, self._ended, self._ticked = engine, job, queues, ended, ticked
        self._timeout, self._retries, self._budget = timeout, retries, budget
        self._suspects: deque[Order] = deque()
        self._workers: dict[int, _Worker] = {}
        self._n_started = self._n_begun = self._stillborn = 0
        self._began = time.monotonic()

    @property
    def waiting(self) -> int:
        """Trials that nobody has begun."""
        return len(self._suspects) + sum(queue.n for queue in self._queues.values())

    def run(self) -> None:
        while self._workers or (self.waiting and not self._over()):
            idle = sum(not worker.asked for worker in self._workers.values())
            while len(self._workers) < self._engine.capacity and self.waiting > idle and not self._over():
                self._workers[self._n_started] = _Worker(time.monotonic())
                self._engine.start(self._n_started, self._job)
                self._n_started, idle = self._n_started + 1, idle + 1
            self._engine.serve(self._answer, _LOOK if self._timeout is None else min(_LOOK, self._timeout / 4))
            self._watch()

    def _over(self) -> bool:
        most, minutes = self._budget.trials, self._budget.minutes
        return (most is not None and self._n_begun >= most) or (
            minutes is not None and time.monotonic() - self._began >= 60 * minutes)

    def _watch(self) -> None:
        """Kill workers that are late with a trial, or with their first word."""
        now = time.monotonic()
        for number, worker in self._workers.items():
            times = [began for began in worker.begun.values() if began is not None]
            late = self._timeout is not None and any(now - began > self._timeout for began in times)
            silent = not times and now - worker.since > _SILENT and self._engine.can_kill
            if (late or silent) and not worker.late:
                worker.late = True
                self._engine.kill(number)

    # --- what workers say ------------------------------------------------------------------------------------------

    def _answer(self, number: int, message: Message) -> Reply:
        worker = self._workers[number]
        worker.since = time.monotonic()
        match message:
            case NextLane():
                return self._lane_for(worker)
            case NextTrial():
                return self._trial_for(worker)
            case Ticks(n):
                self._ticked(n)
            case Done():
                del worker.begun[message.order]
                self._done(message)
            case Broken(words):
                worker.last_words = words
            case Stopped(words, where, hint):
                raise SuiteError(words, where=where, hint=hint)
            case Ended():
                self._bury(number, worker, message)
        return None

    def _lane_for(self, worker: _Worker) -> Lane | None:
        worker.asked, worker.alone, worker.lane = True, None, None
        if self._over():
            return None
        for lane, queue in self._queues.items():
            if queue.n:
                worker.lane = lane
                return lane
        if not self._suspects:
            return None
        worker.alone = self._suspects.popleft()
        worker.begun[worker.alone] = None
        return self._job.lane(worker.alone, alone=True)

    def _trial_for(self, worker: _Worker) -> Order | None:
        self._stillborn = 0
        now = time.monotonic()
        if worker.alone is not None:
            if worker.begun.get(worker.alone, now) is not None:  # it has been told before
                return None
            worker.begun[worker.alone] = now
            return worker.alone
        assert worker.lane is not None, "it asks for a lane first"
        queue = self._queues[worker.lane]
        if not queue.n or self._over() or len(worker.begun) >= self._share(worker.lane):
            return None
        order = queue.take()
        worker.begun[order] = now
        self._n_begun += 1
        return order

    def _share(self, lane: Lane) -> int:
        """How many trials of a lane one worker may have in its hands, so that the last ones are spread over all."""
        held = sum(len(worker.begun) for worker in self._workers.values() if worker.lane == lane)
        return -(-(held + self._queues[lane].n) // self._engine.capacity)

    def _done(self, done: Done) -> None:
        if done.problem is None:
            self._ended(Ending(done.order, "finished", None, done.metrics))
        else:
            self._failed(done.order, "failed", done.problem)

    def _failed(self, order: Order, status: Status, problem: str) -> None:
        if order.attempt <= self._retries:
            self._suspects.append(replace(order, attempt=order.attempt + 1))
        else:
            self._ended(Ending(order, status, problem))

    def _bury(self, number: int, worker: _Worker, ended: Ended) -> None:
        """A worker is gone: by itself, or with trials in its hands."""
        del self._workers[number]
        words = worker.last_words or ended.words
        if worker.alone is not None and worker.begun:
            if worker.late:
                self._failed(worker.alone, "timeout", f"it was not over after {self._timeout:g} s"
                             if self._timeout is not None else "its worker never answered")
            else:
                self._failed(worker.alone, "lost", words)
        elif worker.begun:
            self._suspects.extend(worker.begun)
        elif worker.late or worker.last_words or not ended.clean:
            self._stillborn += 1
            if self._stillborn >= _MOST_STILLBORN:
                raise SuiteError(f"worker processes end before they play: {words}",
                                 hint="--workers 0 plays in this process, and shows more")
