"""Playing trials: in this process, or in one that is told over a pipe what to play next."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.batch.metrics import USUAL, Meter
from harness.batch.store import Store
from harness.batch.suite import Cell
from harness.rollout import Episode, EpisodeResult, Play, Step, play_many
from harness.world.action import BUTTONS

__all__ = ["Fingerprint", "Job", "Order", "load_player", "play_orders", "work"]

_SECONDS_BETWEEN_REPORTS = 1.0


@dataclass(frozen=True)
class Order:
    """One trial to play: the number of its cell, and its seed."""

    cell: int
    seed: int


@dataclass(frozen=True)
class Job:
    """What every worker knows.

    Attributes:
        cells: Of the suite.
        ids: Of each cell, in the store.
        store: Where results go.
        batch: Rows of each forward pass.
    """

    cells: tuple[Cell, ...]
    ids: tuple[str, ...]
    store: Store
    batch: int


def load_player(name: str) -> Agent:
    """An agent on the CPU and one torch thread: workers share the cores, and bits depend on the threads."""
    agent = load_agent(name, device="cpu")
    return agent if agent.torch_threads <= 1 else load_agent(name, device="cpu", torch_threads=1)


@dataclass
class Fingerprint:
    """A digest of every action that was played: two trials with the same one went the same way. An observer."""

    _digest: Any = field(default_factory=hashlib.sha256)

    def begin(self, episode: Episode) -> None:
        """Before the first step."""

    def on_step(self, step: Step) -> None:
        """Take in an action."""
        action = step.executed
        self._digest.update(bytes(int(action[key]) for key in BUTTONS))
        self._digest.update(np.asarray(action["camera"], dtype=np.float32).tobytes())

    def end(self, result: EpisodeResult) -> None:
        """After the last step."""

    def text(self) -> str:
        """Sixteen hexadecimal digits."""
        return str(self._digest.hexdigest()[:16])


def play_orders(job: Job, agent: Agent, orders: Iterable[Order], ticked: Callable[[int], None] = lambda n: None
                ) -> Iterator[tuple[Order, str | None]]:
    """Play trials of one agent, and keep each that ends.

    Args:
        job: Cells and store.
        agent: Of all these trials.
        orders: Asked for the next trial whenever there is room.
        ticked: Told of steps played.

    Yields:
        Each trial, and what went wrong in it (None: it is finished and in the store).
    """
    def plays() -> Iterator[Play]:
        for order in orders:
            cell = job.cells[order.cell]
            meter, fingerprint = Meter(cell.target), Fingerprint()
            yield Play(cell.scenario, order.seed, cell.steps, (meter, fingerprint), (order, meter, fingerprint))

    for play, result in play_many(agent, plays(), slots=job.batch, ticked=ticked):
        order, meter, fingerprint = play.label
        episode = {"seed": order.seed, "status": result.status, "n_steps": result.n_steps,
                   "measured": meter.measured.as_dict(), "outcomes": dict(result.outcomes),
                   "actions": fingerprint.text()}
        if result.error is None:
            job.store.write(job.ids[order.cell], order.seed, {
                "labels": dict(job.cells[order.cell].labels), "status": "finished", "problem": None,
                "n_steps": result.n_steps, "seconds": round(result.seconds, 3), "episodes": [episode],
                "metrics": {metric.name: metric.of(meter.measured, result.outcomes) for metric in USUAL}})
        yield order, result.error


def work(connection: Connection, job: Job) -> None:
    """A worker process: asks for an agent, then for trials of it, until there are none.

    It says ``("agent",)`` and ``("trial",)`` and waits for an answer (None: no more); ``("done", order, problem)`` and
    ``("ticks", n)`` are only said; ``("broken", message)`` is its last word.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends its workers itself
    os.environ["OMP_NUM_THREADS"] = "1"
    # The parent went away, or ends this worker: there is nobody to tell.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        try:
            while (name := _ask(connection, "agent")) is not None:
                ticker = _Ticks(connection)
                orders = iter(lambda: _ask(connection, "trial"), None)
                for order, problem in play_orders(job, load_player(name), orders, ticker):
                    connection.send(("done", order, problem))
                ticker.flush()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as problem:  # nothing of this process can be trusted any more; the parent decides what next
            connection.send(("broken", f"{type(problem).__name__}: {problem}"))


def _ask(connection: Connection, what: str) -> Any:
    connection.send((what,))
    return connection.recv()


class _Ticks:
    """Tells of steps played, once a second."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._n, self._told = connection, 0, time.monotonic()

    def __call__(self, n: int) -> None:
        self._n += n
        if time.monotonic() - self._told > _SECONDS_BETWEEN_REPORTS:
            self.flush()

    def flush(self) -> None:
        self._connection.send(("ticks", self._n))
        self._n, self._told = 0, time.monotonic()
