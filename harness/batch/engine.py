"""Where workers live: the contract between the scheduler, which decides, and whatever starts and ends processes.

A worker (``worker.work``) talks first and is answered: ``NextLane`` and ``NextTrial`` ask, all other messages tell.
What is played again, what has taken too long and whose fault a dead worker is, decides ``scheduler.play`` for every
engine alike; an engine carries messages and ends what it is told to end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from harness.batch.job import Job, Lane, Order

__all__ = ["Answer", "Broken", "Done", "Ended", "Engine", "InlineEngine", "Message", "NextLane", "NextTrial", "Reply",
           "Stopped", "Ticks"]


@dataclass(frozen=True)
class NextLane:
    """Asks for a lane: an agent and a number of rows. The answer None ends the worker."""


@dataclass(frozen=True)
class NextTrial:
    """Asks for a trial of the lane. After the answer None the worker plays what it has begun, and asks for a lane."""


@dataclass(frozen=True)
class Done:
    """A trial has ended inside its worker.

    Attributes:
        order: Which.
        problem: What went wrong; None when it is finished and in the store.
        metrics: Metric to number, as in its ``result.json``.
    """

    order: Order
    problem: str | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Ticks:
    """So many steps more were played."""

    n: int


@dataclass(frozen=True)
class Broken:
    """A worker's last words: an exception that is no trial's own. ``Ended`` follows."""

    words: str


@dataclass(frozen=True)
class Stopped:
    """A worker's last words: nothing can be kept any more, such as on a full disk, so the whole run must stop."""

    message: str
    where: str | None = None
    hint: str | None = None


@dataclass(frozen=True)
class Ended:
    """From the engine, not from the worker: it is gone, and nothing comes from it any more.

    Attributes:
        words: How, for people, such as "the worker process ended with exit code 77".
        clean: It ended by itself, after the answer None.
    """

    words: str
    clean: bool


Message = NextLane | NextTrial | Done | Ticks | Broken | Stopped | Ended
Reply = Lane | Order | None
Answer = Callable[[int, Message], Reply]
"""The scheduler's: takes the number of a worker and what it said. Its value is the reply where the message asks
(``NextLane``, ``NextTrial``) and means nothing otherwise."""


class Engine(Protocol):
    """Starts workers, carries their messages, ends them. It knows nothing of retries, time limits and results.

    The life of a run: ``start`` as often as the scheduler wants workers (never more than ``capacity`` alive), then
    ``serve`` again and again until every worker has ``Ended``; ``close`` at the end in any case, also after an
    exception. One thread calls all of it.

    What an engine must hold to:

    * a worker runs ``harness.batch.worker.work(job, tell)``, where ``tell(message)`` delivers a message and returns the
      reply; it may be in another process or on another machine, which reaches ``job.store`` under the same path;
    * messages of one worker arrive in the order in which they were said, none twice;
    * every worker that was started is reported ``Ended`` exactly once, whatever ended it (its return, an exception, a
      signal, a node that is gone, ``kill``), and nothing of it arrives after that;
    * the end of one worker leaves the others alone.

    Attributes:
        capacity: How many workers may be alive at once.
        can_kill: Whether ``kill`` works. Without it there are no time limits, and a crash takes the run with it.
    """

    @property
    def capacity(self) -> int:
        """How many workers may be alive at once."""

    @property
    def can_kill(self) -> bool:
        """Whether a worker can be ended by force."""

    def start(self, worker: int, job: Job) -> None:
        """Begin a worker.

        Args:
            worker: A number that was not used before.
            job: What it plays from; the same for all workers of a run, and picklable.
        """

    def serve(self, answer: Answer, timeout: float) -> None:
        """Wait for messages, at most so many seconds for the first, and hand each to ``answer``.

        The reply to a message that asks goes back to its worker; that the worker is gone by then is no error here: it
        is reported by ``Ended``. Exceptions of ``answer`` pass through.
        """

    def kill(self, worker: int) -> None:
        """End a worker by force, and only it; ``Ended`` follows. One that is gone already is no error."""

    def close(self) -> None:
        """End all workers at once, with nobody told. What they finished is on disk. ``start`` may follow."""


class InlineEngine:
    """Plays in this process, one worker after the other: for a debugger, and where a process costs too much."""

    capacity = 1
    can_kill = False

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._started: list[tuple[int, Job]] = []

    def start(self, worker: int, job: Job) -> None:
        """Note it; it plays in ``serve``."""
        self._started.append((worker, job))

    def serve(self, answer: Answer, timeout: float) -> None:
        """Play from beginning to end."""
        while self._started:
            worker, job = self._started.pop(0)
            self._entry(job, lambda message, worker=worker: answer(worker, message))  # type: ignore[misc]
            answer(worker, Ended("it ended", clean=True))

    def kill(self, worker: int) -> None:
        """Nothing: who would do it is what should be killed."""

    def close(self) -> None:
        """Nothing is left."""
        self._started.clear()


Entry = Callable[[Job, Callable[[Message], Reply]], None]
"""What a worker runs: ``worker.work``, or another in tests."""
