"""A worker process that one seed kills, as a crash of the machine code under it would."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection

from harness.batch import worker
from harness.batch.metrics import Meter
from harness.batch.worker import Job, work
from harness.rollout import Episode

DEADLY = 42
CODE = 77


class _Mortal(Meter):
    def begin(self, episode: Episode) -> None:
        super().begin(episode)
        if episode.seed == DEADLY:
            os._exit(CODE)


def work_until_it_dies(connection: Connection, job: Job) -> None:
    worker.Meter = _Mortal  # type: ignore[misc]
    work(connection, job)


def die_at_birth(connection: Connection, job: Job) -> None:
    os._exit(CODE)


def break_down(connection: Connection, job: Job) -> None:
    connection.send(("agent",))
    connection.recv()
    connection.send(("broken", "MemoryError: too small"))
