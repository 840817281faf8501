"""Worker processes: each asks for trials, and none takes another down with it."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from harness.batch.worker import Job, Order, work
from harness.errors import SuiteError

__all__ = ["play_in_processes"]

_MOST_STILLBORN = 3
"""Workers that end one after the other without having asked for a trial, before the run gives up."""
_GRACE = 5.0  # seconds a worker has to end by itself

Entry = Callable[[Connection, Job], None]


def play_in_processes(job: Job, orders: Sequence[Order], workers: int, *, ticked: Callable[[int], None],
                      entry: Entry = work) -> Iterator[tuple[Order, str | None]]:
    """Play trials in worker processes.

    When a worker dies, every trial it had begun is played again, each alone in a worker of its own: the forward pass
    has the same shape with one row in use, so the result is the same, and the trial that kills its worker is known.

    Args:
        job: Cells and store.
        orders: The trials.
        workers: How many processes.
        ticked: Told of steps played.
        entry: What a process runs.

    Yields:
        Each trial, and what went wrong in it (None: it is finished and in the store).

    Raises:
        SuiteError: when workers die before they play anything.
    """
    pool = _Pool(job, orders, workers, ticked, entry)
    try:
        yield from pool.run()
    finally:
        pool.close()


@dataclass
class _Worker:
    """A process, what it plays, and what it has begun; ``alone`` is the one trial of a second try, once ``told``."""

    process: SpawnProcess
    connection: Connection
    agent: str = ""
    alone: Order | None = None
    told: bool = False
    asked: bool = False
    begun: list[Order] = field(default_factory=list)
    last_words: str = ""


class _Pool:
    def __init__(self, job: Job, orders: Sequence[Order], workers: int, ticked: Callable[[int], None],
                 entry: Entry) -> None:
        self._job, self._n, self._ticked, self._entry = job, workers, ticked, entry
        self._queues: dict[str, deque[Order]] = {}
        for order in orders:
            self._queues.setdefault(job.cells[order.cell].agent, deque()).append(order)
        self._suspects: deque[Order] = deque()
        self._workers: list[_Worker] = []
        self._stillborn = 0

    @property
    def _waiting(self) -> int:
        return len(self._suspects) + sum(map(len, self._queues.values()))

    def run(self) -> Iterator[tuple[Order, str | None]]:
        while self._waiting or self._workers:
            while len(self._workers) < self._n and self._waiting > sum(not w.asked for w in self._workers):
                self._workers.append(self._start())
            ready = wait([w.connection for w in self._workers])
            for worker in [w for w in self._workers if w.connection in ready]:
                yield from self._hear(worker)

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=self._entry, args=(theirs, self._job), daemon=True)
        with _deaf():
            process.start()
        theirs.close()  # else the end of the process would not show
        return _Worker(process, ours)

    def _hear(self, worker: _Worker) -> Iterator[tuple[Order, str | None]]:
        try:
            message = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            yield from self._bury(worker)
            return
        # A worker that died before the answer came is buried when its pipe is read next.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            match message:
                case ("agent",):
                    worker.connection.send(self._agent_for(worker))
                case ("trial",):
                    worker.connection.send(self._trial_for(worker))
                case ("ticks", n):
                    self._ticked(n)
                case ("done", order, problem):
                    worker.begun.remove(order)
                    yield order, problem
                case ("broken", words):
                    worker.last_words = words

    def _agent_for(self, worker: _Worker) -> str | None:
        worker.asked, worker.alone, worker.told = True, None, False
        for agent, queue in self._queues.items():
            if queue:
                worker.agent = agent
                return agent
        if not self._suspects:
            return None
        worker.alone = self._suspects.popleft()
        worker.begun.append(worker.alone)
        return self._job.cells[worker.alone.cell].agent

    def _trial_for(self, worker: _Worker) -> Order | None:
        self._stillborn = 0
        if worker.alone is not None:
            first, worker.told = not worker.told, True
            return worker.alone if first else None
        queue = self._queues[worker.agent]
        if not queue:
            return None
        worker.begun.append(queue.popleft())
        return worker.begun[-1]

    def _bury(self, worker: _Worker) -> Iterator[tuple[Order, str | None]]:
        """A worker has ended: by itself, or with trials in its hands."""
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.join(_GRACE)
        words = worker.last_words or f"the worker process ended with exit code {worker.process.exitcode}"
        if not worker.begun and (worker.last_words or worker.process.exitcode):
            self._stillborn += 1
            if self._stillborn >= _MOST_STILLBORN:
                raise SuiteError(f"worker processes end before they play: {words}",
                                 hint="--workers 1 plays in this process, and shows more")
        elif worker.begun == [worker.alone]:
            yield worker.begun[0], words
        else:
            self._suspects.extend(worker.begun)

    def close(self) -> None:
        """End all workers, at once: what they finished is on disk."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_GRACE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []


class _deaf:
    """A process started within begins without ears for Ctrl-C, which the terminal sends to parent and children."""

    def __enter__(self) -> None:
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, signal.SIG_IGN)

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
