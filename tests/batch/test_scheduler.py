"""Who plays what next and whose fault it was: the scheduler against an engine on a stage, where nothing is real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.batch import scheduler
from harness.batch.engine import Answer, Broken, Done, Ended, Message, NextLane, NextTrial, Reply, Stopped, Ticks
from harness.batch.job import Job, Lane, Order
from harness.batch.scheduler import Ending, Queue, play
from harness.batch.suite import Budget
from harness.errors import SuiteError

LANE = Lane("agent", 4)
Actor = Iterator[Message]


class Clock:
    """Time that passes when the stage says so."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class StageJob:
    """As much of a job as the scheduler asks."""

    def lane(self, order: Order, *, alone: bool = False) -> Lane:
        return Lane("agent", 4, alone)


class Stage:
    """An engine whose workers hold ``rows`` trials at a time and end one of them per turn.

    ``fate`` says what a trial does: "fine", "fails", "dies" (with its worker) or "hangs" (with its worker).
    """

    can_kill = True

    def __init__(self, capacity: int, fate: Callable[[Order], str], clock: Clock, rows: int = 4) -> None:
        self.capacity, self.fate, self.clock, self.rows = capacity, fate, clock, rows
        self.actors: dict[int, Any] = {}
        self.replies: dict[int, Reply] = {}
        self.ended: list[int] = []
        self.most, self.plays, self.closed = 0, list[Order](), False

    def start(self, worker: int, job: Job) -> None:
        self.actors[worker] = self.act()
        self.most = max(self.most, len(self.actors))

    def act(self) -> Any:
        while isinstance(lane := (yield NextLane()), Lane):
            held: list[Order] = []
            more = True
            while True:
                while more and len(held) < self.rows:
                    order = yield NextTrial()
                    more = isinstance(order, Order)
                    if more:
                        held.append(order)
                        self.plays.append(order)
                        if self.fate(order) == "dies":
                            return "died"
                if not held:
                    break
                if any(self.fate(order) == "hangs" for order in held):
                    while True:
                        yield None
                order = held.pop(0)
                yield Ticks(3)
                yield Done(order, "broke" if self.fate(order) == "fails" else None, {"held": 1.0})
            assert not lane.alone or not more

    def serve(self, answer: Answer, timeout: float) -> None:
        self.clock.now += 1.0
        for worker in self.ended:
            answer(worker, Ended("it was killed", clean=False))
        self.ended = []
        for worker, actor in list(self.actors.items()):
            try:
                message = actor.send(self.replies.pop(worker, None))
            except StopIteration as end:
                del self.actors[worker]
                answer(worker, Ended("exit code 77" if end.value else "it ended", clean=not end.value))
                continue
            if message is not None:
                self.replies[worker] = answer(worker, message)

    def kill(self, worker: int) -> None:
        del self.actors[worker]
        self.replies.pop(worker, None)
        self.ended.append(worker)

    def close(self) -> None:
        self.closed = True


def run(monkeypatch: pytest.MonkeyPatch, n: int, capacity: int, fate: Callable[[Order], str], **options: Any
        ) -> tuple[dict[int, Ending], Stage]:
    clock = Clock()
    monkeypatch.setattr(scheduler, "time", clock)
    stage, ended = Stage(capacity, fate, clock), list[Ending]()
    job: Any = StageJob()
    play(stage, job, {LANE: Queue((Order(0, seed) for seed in range(n)), n)}, ended=ended.append, **options)
    assert stage.closed and stage.most <= capacity
    assert len({ending.order.seed for ending in ended}) == len(ended), "each once"
    return {ending.order.seed: ending for ending in ended}, stage


FATES = st.dictionaries(st.integers(0, 19), st.sampled_from(["fails", "dies", "hangs"]), max_size=6)


@settings(max_examples=60, deadline=None)
@given(FATES, st.integers(1, 5), st.integers(0, 2))
def test_every_trial_gets_its_own_end_and_nobody_elses(fates: dict[int, str], capacity: int, retries: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        ended, stage = run(monkeypatch, 20, capacity, lambda order: fates.get(order.seed, "fine"), timeout=100.0,
                           retries=retries)
    words = {"fails": "failed", "dies": "lost", "hangs": "timeout"}
    assert {seed: ending.status for seed, ending in ended.items()} == {
        seed: words.get(fates.get(seed, ""), "finished") for seed in range(20)}
    assert {ended[seed].order.attempt for seed in fates} <= {retries + 1}
    for seed, fate in fates.items():
        if fate == "fails":
            assert sum(order.seed == seed for order in stage.plays) >= retries + 1


def test_a_trial_that_breaks_at_first_comes_through_by_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, _ = run(monkeypatch, 3, 1, lambda order: "fails" if order == Order(0, 1) else "fine", retries=1)
    assert {ending.status for ending in ended.values()} == {"finished"} and ended[1].order.attempt == 2
    ended, _ = run(monkeypatch, 3, 1, lambda order: "fails" if order == Order(0, 1) else "fine")
    assert (ended[1].status, ended[1].problem) == ("failed", "broke")


def test_without_a_time_limit_a_worker_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it never even began: a worker that is silent from birth is killed."""
    clock = Clock()
    monkeypatch.setattr(scheduler, "time", clock)

    class Silent(Stage):
        def act(self) -> Any:
            while True:
                yield None

    job: Any = StageJob()
    with pytest.raises(SuiteError, match="end before they play"):
        play(Silent(1, lambda order: "fine", clock), job, {LANE: Queue(iter([Order(0, 1)]), 1)}, ended=lambda e: None)
    assert clock.now > 3 * 900


@pytest.mark.parametrize("budget", [Budget(trials=6), Budget(minutes=0.5)])
def test_a_budget_lets_what_has_begun_come_to_its_end(monkeypatch: pytest.MonkeyPatch, budget: Budget) -> None:
    ended, stage = run(monkeypatch, 1000, 2, lambda order: "fine", budget=budget)
    assert len(ended) == len(stage.plays) < 1000 and {ending.status for ending in ended.values()} == {"finished"}
    assert budget.trials is None or len(ended) == 6


def test_the_last_trials_are_spread_over_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    _, stage = run(monkeypatch, 4, 2, lambda order: "fine")
    assert stage.most == 2 and stage.clock.now < 18, "two each: one worker with all four takes longer"


def test_what_stops_a_worker_for_good_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(Stage):
        def act(self) -> Any:
            yield NextLane()
            yield Stopped("the disk is full", "here", "free some")

    class Ill(Stage):
        def act(self) -> Any:
            yield NextLane()
            yield Broken("MemoryError: too small")

    job: Any = StageJob()
    for stage, message in ((Full, "the disk is full"), (Ill, "MemoryError: too small")):
        with pytest.raises(SuiteError, match=message):
            play(stage(1, lambda order: "fine", Clock()), job, {LANE: Queue(iter([Order(0, 1)]), 1)},
                 ended=lambda ending: None)
