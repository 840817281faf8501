"""Workers as processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from harness.batch.engine import Answer, Ended, Entry, Message, NextLane, NextTrial, Reply
from harness.batch.job import Job
from harness.batch.worker import work

__all__ = ["LocalEngine"]

_GRACE = 5.0  # seconds a process has to end by itself
_ORPHANED = 70


@dataclass
class _Process:
    process: SpawnProcess
    connection: Connection


class LocalEngine:
    """Worker processes; see ``engine.Engine``.

    Args:
        workers: How many at once.
        entry: What a process runs.
    """

    can_kill = True

    def __init__(self, workers: int, entry: Entry = work) -> None:
        self.capacity = workers
        self._entry = entry
        self._processes: dict[int, _Process] = {}

    def start(self, worker: int, job: Job) -> None:
        """Begin a process; it takes a second or two to say something."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_live, args=(theirs, job, self._entry), daemon=True)
        with _deaf():
            process.start()
        theirs.close()  # else the end of the process would not show
        self._processes[worker] = _Process(process, ours)

    def serve(self, answer: Answer, timeout: float) -> None:
        """Wait, and take from every process what it has said."""
        ready = wait([each.connection for each in self._processes.values()], timeout)
        for number, each in list(self._processes.items()):
            if each.connection in ready:
                self._hear(number, each, answer)

    def _hear(self, number: int, each: _Process, answer: Answer) -> None:
        while True:
            try:
                message = each.connection.recv()
            except (EOFError, OSError):
                answer(number, self._bury(number))
                return
            reply = answer(number, message)
            if isinstance(message, NextLane | NextTrial):
                # A process that died before the answer came is buried when its pipe is read next.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    each.connection.send(reply)
            if not each.connection.poll():
                return

    def _bury(self, number: int) -> Ended:
        each = self._processes.pop(number)
        each.connection.close()
        _end(each.process)
        code = each.process.exitcode
        return Ended(_words(code), clean=code == 0)

    def kill(self, worker: int) -> None:
        """End a process; its pipe then says so."""
        if worker in self._processes:
            self._processes[worker].process.kill()

    def close(self) -> None:
        """End all of them."""
        for each in self._processes.values():
            each.connection.close()
            each.process.terminate()
        for each in self._processes.values():
            _end(each.process)
        self._processes = {}


def _end(process: SpawnProcess) -> None:
    process.join(_GRACE)
    if process.is_alive():
        process.kill()
        process.join()


def _words(code: int | None) -> str:
    if code is None or code >= 0:
        return f"the worker process ended with exit code {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else str(-code)
    memory = ", as the system does when memory runs out" if -code == getattr(signal, "SIGKILL", 9) else ""
    return f"the worker process was ended by {name}{memory}"


def _live(connection: Connection, job: Job, entry: Entry) -> None:
    """A process' life: what its worker says goes through the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends its workers itself
    os.environ["OMP_NUM_THREADS"] = "1"
    threading.Thread(target=_follow, daemon=True).start()

    def tell(message: Message) -> Reply:
        connection.send(message)
        return connection.recv() if isinstance(message, NextLane | NextTrial) else None

    # The parent went away, or ends this worker: there is nobody to tell.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        entry(job, tell)


def _follow() -> None:
    """End with the parent, also when that was killed: the next run must find nobody at work in its folder."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(_ORPHANED)


class _deaf:
    """A process started within begins without ears for Ctrl-C, which the terminal sends to parent and children."""

    def __enter__(self) -> None:
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, signal.SIG_IGN)

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
