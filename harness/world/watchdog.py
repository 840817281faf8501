"""A time limit for calls that may never return: those into a game's process."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from harness.errors import GameError

__all__ = ["Watchdog"]

_T = TypeVar("_T")
_Call = tuple[Callable[..., Any], tuple[Any, ...], "queue.SimpleQueue[tuple[bool, Any]]"]


class Watchdog:
    """Runs calls one after another on a thread of their own, each with a time limit.

    A call that is overdue, or that Ctrl-C interrupts, cannot be stopped from outside. What it waits for can:
    ``on_overdue`` ends the game's process, on which the call fails by itself. Its thread is left to do so, and the next
    call gets another.

    Args:
        name: Of the thread, for who looks at a hung program.
        on_overdue: Ends what the call waits for.
    """

    def __init__(self, name: str, on_overdue: Callable[[], None]) -> None:
        self._name, self._on_overdue = name, on_overdue
        self._calls: queue.SimpleQueue[_Call | None] | None = None

    def run(self, what: str, seconds: float, call: Callable[..., _T], *arguments: Any) -> _T:
        """The value of ``call(*arguments)``, or its exception.

        Args:
            what: For the error, such as "a step".
            seconds: How long it may take.
            call: What to run.
            arguments: For ``call``.

        Raises:
            GameError: when it takes longer.
        """
        if self._calls is None:
            self._calls = queue.SimpleQueue()
            threading.Thread(target=_serve, args=(self._calls,), name=self._name, daemon=True).start()
        answer: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        self._calls.put((call, arguments, answer))
        try:
            good, value = answer.get(timeout=seconds)
        except queue.Empty:
            self._give_up()
            raise GameError(f"{what} took longer than {seconds:g} s") from None
        except BaseException:
            self._give_up()
            raise
        if good:
            result: _T = value
            return result
        raise value

    def _give_up(self) -> None:
        self.close()
        self._on_overdue()

    def close(self) -> None:
        """Let the thread end, as soon as its call returns."""
        if self._calls is not None:
            self._calls.put(None)
            self._calls = None


def _serve(calls: queue.SimpleQueue[_Call | None]) -> None:
    while (job := calls.get()) is not None:
        call, arguments, answer = job
        try:
            answer.put((True, call(*arguments)))
        except BaseException as problem:  # goes on where the answer is awaited
            answer.put((False, problem))
        del job, call, arguments, answer
