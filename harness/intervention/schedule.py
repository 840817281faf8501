"""When an intervention applies: at steps, between steps, every so many, or when something happened."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import InterventionError

__all__ = ["ALWAYS", "SCHEDULE_KEYS", "Schedule"]

SCHEDULE_KEYS = ("at", "between", "every", "when", "since")


@dataclass(frozen=True)
class Schedule:
    """The steps at which an intervention applies; what is given must all hold. Steps count from 0.

    Attributes:
        at: A step, or several.
        between: First and last step, both included.
        every: Every so many steps, from the first of ``between`` on (else from 0).
        when: In the step after it happened: the name of one of the scenario's outcomes (each time its count rises), the
            type of an event of the world, or an outcome of its own, in a scenario's words: ``{hit: villager}``.
        since: As ``when``, and in every step from then on.

    Raises:
        InterventionError: for values that are no schedule, or one that holds at no step.
    """

    at: tuple[int, ...] | None = None
    between: tuple[int, int] | None = None
    every: int | None = None
    when: str | Mapping[str, Any] | None = None
    since: str | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.at is not None:
            given: Any = self.at
            given = [given] if isinstance(given, int) else given
            if not _steps(given) or not given:
                raise InterventionError(f"at: expected a step from 0 on, or a list of them, got {self.at!r}")
            object.__setattr__(self, "at", tuple(sorted(set(given))))
        if self.between is not None:
            if not _steps(self.between) or len(self.between) != 2 or self.between[0] > self.between[1]:
                raise InterventionError(f"between: expected [first step, last step], got {self.between!r}")
            object.__setattr__(self, "between", tuple(self.between))
        if self.every is not None and (isinstance(self.every, bool) or not isinstance(self.every, int)
                                       or self.every < 1):
            raise InterventionError(f"every: expected a number of steps from 1 on, got {self.every!r}")
        for key in ("when", "since"):
            value = getattr(self, key)
            if value is not None and not (isinstance(value, str) and value) and not isinstance(value, Mapping):
                raise InterventionError(f"{key}: expected an outcome's name, an event's type, or a mapping such as "
                                        f"{{hit: villager}}, got {value!r}")
        if self.at is not None and not any(self.fits(step) for step in self.at):
            raise InterventionError(f"the schedule holds at no step: at {list(self.at)}, between {self.between}, "
                                    f"every {self.every}")

    def fits(self, step: int) -> bool:
        """Whether ``at``, ``between`` and ``every`` allow the step; what happened is not asked."""
        first, last = self.between or (0, step)
        return (self.at is None or step in self.at) and first <= step <= last and (
            self.every is None or (step - first) % self.every == 0)

    def holds(self, step: int, happened: Collection[str] = (), ever: Collection[str] = ()) -> bool:
        """Whether the intervention applies.

        Args:
            step: Which.
            happened: ``"when"`` if that happened in the step before.
            ever: ``"since"`` if that happened in any step before.
        """
        return self.fits(step) and (self.when is None or "when" in happened) and (
            self.since is None or "since" in ever)

    @property
    def waits(self) -> bool:
        """Whether it depends on what happens."""
        return self.when is not None or self.since is not None

    @property
    def first(self) -> int:
        """No step before this one can hold."""
        return max(self.at[0] if self.at else 0, self.between[0] if self.between else 0)

    def meets(self, first: int, end: int) -> bool:
        """Whether some step from ``first`` on, and before ``end``, may hold."""
        steps = self.at or range(max(self.first, first), end)
        return any(self.fits(step) for step in steps if first <= step < end)

    def describe(self) -> dict[str, Any]:
        """Only what is given, as plain values."""
        plain: dict[str, Any] = {}
        for key in SCHEDULE_KEYS:
            value = getattr(self, key)
            if value is not None:
                plain[key] = list(value) if isinstance(value, tuple) else \
                    dict(value) if isinstance(value, Mapping) else value
        return plain

    def __str__(self) -> str:
        given = self.describe()
        return ", ".join(f"{key} {value}" for key, value in given.items()) if given else "at every step"


def _steps(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(
        isinstance(x, int) and not isinstance(x, bool) and x >= 0 for x in values)


ALWAYS = Schedule()
