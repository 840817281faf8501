"""The field's names for calls of ``scipy.stats``. scipy is imported late: it takes a second."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Interval", "wilson"]


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (E. B. Wilson, 1927).

    Args:
        successes: How often it happened.
        trials: Of how many; 0 gives (0, 1), since nothing is known.
        confidence: Coverage, between 0 and 1.

    Raises:
        ValueError: for a negative count, or more successes than trials.
    """
    if trials == 0 and successes == 0:
        return Interval(0.0, 1.0)
    from scipy.stats import binomtest

    found = binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(float(found.low), float(found.high))
