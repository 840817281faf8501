"""Workers that one seed kills, as a crash of the machine code under it would; that hang on it; that never play."""

from __future__ import annotations

import os
import time

from harness.batch import worker
from harness.batch.engine import Broken, NextLane
from harness.batch.job import Job
from harness.batch.metrics import Meter
from harness.batch.worker import Tell, work
from harness.rollout import Episode

DEADLY = 42
CODE = 77


class _Mortal(Meter):
    def begin(self, episode: Episode) -> None:
        super().begin(episode)
        if episode.seed == DEADLY:
            os._exit(CODE)


class _Sleeper(Meter):
    def begin(self, episode: Episode) -> None:
        super().begin(episode)
        if episode.seed == DEADLY:
            time.sleep(1e6)


class _Slow(Meter):
    def begin(self, episode: Episode) -> None:
        super().begin(episode)
        time.sleep(0.3)


def work_slowly(job: Job, tell: Tell) -> None:
    worker.Meter = _Slow  # type: ignore[misc]
    work(job, tell)


def work_until_it_dies(job: Job, tell: Tell) -> None:
    worker.Meter = _Mortal  # type: ignore[misc]
    work(job, tell)


def work_until_it_hangs(job: Job, tell: Tell) -> None:
    worker.Meter = _Sleeper  # type: ignore[misc]
    work(job, tell)


def die_at_birth(job: Job, tell: Tell) -> None:
    os._exit(CODE)


def break_down(job: Job, tell: Tell) -> None:
    tell(NextLane())
    tell(Broken("MemoryError: too small"))
