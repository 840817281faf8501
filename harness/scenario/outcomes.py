"""Outcomes: what an episode is scored by, counted from statistics and events while it runs."""

from __future__ import annotations

import fnmatch
import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from harness.errors import ScenarioError, unknown_name
from harness.scenario.schema import Collected, Damaged, Killed, LookedAtTarget, Mined, Moved, Outcome, Pressed, Turned

__all__ = ["OutcomeTracker"]

Position = tuple[float, float, float]
Statistics = Mapping[str, int]
Events = Sequence[Mapping[str, Any]]
Keys = tuple[int, Collection[str]]
"""A step, and the keys held in it."""
Course = tuple[float, float]
"""Degrees turned from the first heading, right less left; and the farthest from the start so far, in blocks."""


class _Sight(Protocol):
    """The part of a crosshair hit that outcomes read."""

    name: str
    tag: str | None
    distance: float
    reachable: bool


class OutcomeTracker:
    """Counts every outcome of a scenario, step by step.

    An outcome's *count* is the number of hits, kills, blocks, items or steps that match it. It becomes true at the
    first step where the count reaches ``at_least``, and stays true.

    Statistics are cumulative in a world, so what counts is the difference to ``start``. Where a world reports both
    statistics and events for the same thing, the larger count is taken, so that nothing counts twice.
    """

    def __init__(self, outcomes: Mapping[str, Outcome]) -> None:
        self._outcomes = dict(outcomes)
        self._reset(None)
        self.counts_keys = any(isinstance(outcome, Pressed) or getattr(outcome, "pressing", None) is not None
                               for outcome in self._outcomes.values())
        """Whether ``update`` must be told which keys were held."""
        self._counts_turns = any(isinstance(outcome, Turned) for outcome in self._outcomes.values())

    def _reset(self, position: Position | None, yaw: float = 0.0) -> None:
        self._start = position
        self._yaw, self._turned, self._farthest = yaw, 0.0, 0.0
        self._counters = {name: _counter(outcome, position) for name, outcome in self._outcomes.items()}
        self._counts = dict.fromkeys(self._outcomes, 0)
        self._first: dict[str, int | None] = dict.fromkeys(self._outcomes)

    def start(self, statistics: Statistics, position: Position, yaw: float = 0.0) -> None:
        """Begin an episode.

        Args:
            statistics: The world's counters now, after it was built; later values count from here.
            position: The player's feet (x, y, z), in blocks.
            yaw: Where the player looks, in degrees.
        """
        self._reset(position, yaw)
        for counter in self._counters.values():
            counter.start(statistics)

    def update(self, step: int, statistics: Statistics, events: Events, looking_at: Any | None,
               position: Position, pressed: Collection[str] = (), yaw: float = 0.0) -> None:
        """Take in one step.

        Args:
            step: Its index, 0 for the first.
            statistics: Counters after the step, named as in Minecraft (``mine_block.oak_log``).
            events: What happened in the step: mappings with ``type`` and particulars.
            looking_at: What the crosshair meets (``name``, ``tag``, ``distance``, ``reachable``), or None.
            position: The player's feet (x, y, z), in blocks.
            pressed: The keys held in the step; needed only where ``counts_keys``.
            yaw: Where the player looks after it, in degrees, wrapped or not.
        """
        keys, course = (step, pressed), self._went(position, yaw)
        for name, counter in self._counters.items():
            count = counter.count(statistics, events, looking_at, position, keys, course)
            self._counts[name] = count
            if self._first[name] is None and count >= self._outcomes[name].at_least:
                self._first[name] = step

    def _went(self, position: Position, yaw: float) -> Course:
        # The world may count degrees on or begin anew after 180; a step turns by less than half a circle.
        self._turned += (yaw - self._yaw + 180.0) % 360.0 - 180.0
        self._yaw = yaw
        if self._start is not None:
            self._farthest = max(self._farthest, math.dist(position, self._start))
        return self._turned, self._farthest

    def met(self, names: Sequence[str]) -> bool:
        """Whether any of the named outcomes has come true.

        Raises:
            ScenarioError: for a name that is no outcome of the scenario.
        """
        for name in names:
            if name not in self._first:
                raise unknown_name("outcome", name, self._first, error=ScenarioError)
        return any(self._first[name] is not None for name in names)

    def results(self) -> dict[str, dict[str, Any]]:
        """Outcome name to ``value`` (bool: has it come true), ``first_step`` (int or None) and ``count`` (int)."""
        return {name: {"value": first is not None, "first_step": first, "count": self._counts[name]}
                for name, first in self._first.items()}

    def save(self) -> dict[str, Any]:
        """Where the counting stands, as JSON values: for a world's snapshot."""
        saved = {"start": None if self._start is None else list(self._start), "first": dict(self._first),
                 "counts": dict(self._counts), "counters": {name: [c.before, c.events]
                                                            for name, c in self._counters.items()}}
        # Nothing else reads it: what is saved of other scenarios is what it always was.
        return {**saved, "course": [self._yaw, self._turned, self._farthest]} if self._counts_turns else saved

    def load(self, saved: Mapping[str, Any]) -> None:
        """Go on from what ``save`` gave, for the same outcomes.

        Raises:
            ScenarioError: when the outcomes are others.
        """
        if set(saved["counters"]) != set(self._outcomes):
            raise ScenarioError(f"the saved outcomes are {sorted(saved['counters'])}, "
                                f"here are {sorted(self._outcomes)}")
        self._reset(None if saved["start"] is None else tuple(saved["start"]))
        self._yaw, self._turned, self._farthest = saved.get("course", (0.0, 0.0, 0.0))
        self._first, self._counts = dict(saved["first"]), dict(saved["counts"])
        for name, (before, events) in saved["counters"].items():
            self._counters[name].before, self._counters[name].events = before, events


class _Counter:
    """One outcome's count: a total over statistics, a sum over events, whichever is larger."""

    def __init__(self, prefix: str | None, pattern: str, event: Callable[[Mapping[str, Any]], int] | None) -> None:
        self._prefix, self._pattern, self._event = prefix, pattern, event
        self.before, self.events = 0, 0
        # A world has some fifty statistics and an episode thousands of steps: each name is matched once.
        self._matches = functools.cache(self._match)

    def _match(self, statistic: str) -> bool:
        prefix, _, name = statistic.partition(".")
        return prefix == self._prefix and fnmatch.fnmatchcase(name.removeprefix("minecraft:"), self._pattern)

    def _total(self, statistics: Statistics) -> int:
        if self._prefix is None:
            return 0
        return sum(int(value) for name, value in statistics.items() if self._matches(name))

    def start(self, statistics: Statistics) -> None:
        self.before = self._total(statistics)

    def count(self, statistics: Statistics, events: Events, looking_at: _Sight | None, position: Position,
              keys: Keys, course: Course) -> int:
        if self._event is not None:
            self.events += sum(self._event(event) for event in events)
        return max(self.events, self._total(statistics) - self.before)


class _StepCounter(_Counter):
    """Counts the steps in which a condition holds."""

    def __init__(self, holds: Callable[[_Sight | None, Position, Keys, Course], bool]) -> None:
        super().__init__(None, "", None)
        self._holds = holds

    def count(self, statistics: Statistics, events: Events, looking_at: _Sight | None, position: Position,
              keys: Keys, course: Course) -> int:
        self.events += self._holds(looking_at, position, keys, course)
        return self.events


def _counter(outcome: Outcome, start: Position | None) -> _Counter:
    match outcome:
        case Damaged():
            return _Counter(None, "", _on_being("damage_entity", outcome.damaged))
        case Killed():
            return _Counter("kill_entity", outcome.killed, _on_being("kill_entity", outcome.killed))
        case Mined():
            return _Counter("mine_block", outcome.mined, _on("mine_block", "block", outcome.mined))
        case Collected():
            return _Counter("pickup", outcome.collected, _on("pickup", "item", outcome.collected))
        case LookedAtTarget():
            return _StepCounter(lambda sight, _, keys, __: _sees(outcome, sight) and (
                outcome.pressing is None or outcome.pressing in keys[1]))
        case Moved():
            return _StepCounter(lambda _, position, *__: (
                start is not None and math.dist(position, start) >= outcome.moved))
        case Pressed():
            return _StepCounter(lambda _, __, keys, ___: _holds_down(outcome, *keys))
        case Turned():
            return _StepCounter(lambda _, __, ___, course: abs(course[0]) >= outcome.turned and (
                outcome.staying is None or course[1] < outcome.staying))


def _fits(name: Any, pattern: str) -> bool:
    return isinstance(name, str) and fnmatch.fnmatchcase(name.removeprefix("minecraft:"), pattern)


def _on_being(kind: str, pattern: str) -> Callable[[Mapping[str, Any]], int]:
    def count(event: Mapping[str, Any]) -> int:
        return int(event.get("type") == kind and (
            pattern == "any" or _fits(event.get("tag"), pattern) or _fits(event.get("entity"), pattern)))
    return count


def _on(kind: str, key: str, pattern: str) -> Callable[[Mapping[str, Any]], int]:
    def count(event: Mapping[str, Any]) -> int:
        return int(event.get("count", 1)) if event.get("type") == kind and _fits(event.get(key), pattern) else 0
    return count


def _holds_down(outcome: Pressed, step: int, pressed: Collection[str]) -> bool:
    return outcome.since <= step and (outcome.until is None or step <= outcome.until) and any(
        key in pressed for key in outcome.pressed)


def _sees(outcome: LookedAtTarget, sight: _Sight | None) -> bool:
    if sight is None or (outcome.reachable and not sight.reachable):
        return False
    if outcome.within is not None and sight.distance > outcome.within:
        return False
    return _fits(sight.tag, outcome.looked_at) or _fits(sight.name, outcome.looked_at)
