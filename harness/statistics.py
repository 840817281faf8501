"""The field's names for calls of ``scipy.stats``. scipy is imported late: it takes a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "block_bootstrap", "bootstrap", "holm", "mcnemar_exact", "rank_p", "spearman", "wilson"]


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


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's exact test (Q. McNemar, 1947): are the two kinds of discordant pairs as frequent?

    Args:
        only_first: Pairs in which it happened in the first alone.
        only_second: Pairs in which it happened in the second alone.

    Raises:
        ValueError: for a negative count.
    """
    if not only_first + only_second:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_first, only_first + only_second).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (S. Holm, 1979), in the order given: below alpha together with error alpha or less."""
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def rank_p(value: float, null: Sequence[float]) -> float:
    """How far out a value lies among draws from a null: (1 + draws at least as far from 0) / (1 + draws).

    The Monte Carlo p-value of Davison and Hinkley (1997), 4.2.
    """
    return (1 + sum(abs(draw) >= abs(value) for draw in null)) / (1 + len(null))


def spearman(one: npt.ArrayLike, two: npt.ArrayLike) -> float:
    """Spearman's rank correlation (C. Spearman, 1904), ties at their mean rank; NaN where one side is all the same.

    Args:
        one: Numbers [n].
        two: Likewise.
    """
    from scipy.stats import rankdata

    first, second = (rankdata(np.asarray(side)) - (np.size(side) + 1) / 2 for side in (one, two))
    spread = np.sqrt(np.square(first).sum() * np.square(second).sum())
    return float(first @ second / spread) if spread > 0 else float("nan")


def bootstrap(values: Sequence[float], confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Percentile interval of the mean of independent values (B. Efron, 1979)."""
    return block_bootstrap([np.atleast_1d(np.asarray(value, np.float64)) for value in values], 1, confidence, resamples,
                           seed)


def block_bootstrap(series: Sequence[npt.NDArray[np.float64]], length: int, confidence: float = 0.95,
                    resamples: int = 2000, seed: int = 0) -> Interval:
    """Percentile interval of a mean over time series whose neighbouring values depend on each other.

    Of one series, blocks of ``length`` that begin anywhere are drawn with repetition, around the end to the start
    (circular block bootstrap, D. Politis and J. Romano, 1992). Of several, whole series are drawn.

    Args:
        series: Values in order of time, each [t].
        length: Of a block.
        confidence: Coverage, between 0 and 1.
        resamples: How many.
        seed: Of the draws.

    Raises:
        ValueError: when there are no values.
    """
    kept = [one for one in series if len(one)]
    if not kept:
        raise ValueError("no values to draw from")
    rng = np.random.default_rng(seed)
    if len(kept) > 1:
        sums, sizes = np.array([one.sum() for one in kept]), np.array([len(one) for one in kept])
        picks = rng.integers(0, len(kept), (resamples, len(kept)))
        means = sums[picks].sum(1) / sizes[picks].sum(1)
    else:
        (one,) = kept
        n, length = len(one), max(1, min(length, len(one)))
        n_blocks = -(-n // length)
        sums = np.concatenate([[0.0], np.cumsum(np.concatenate([one, one]))])
        starts = rng.integers(0, n, (resamples, n_blocks))
        last = n - (n_blocks - 1) * length  # the last block is cut, so that as many values as there are are drawn
        ends = starts + np.where(np.arange(n_blocks) == n_blocks - 1, last, length)
        means = (sums[ends] - sums[starts]).sum(1) / n
    low, high = np.percentile(means, [50 * (1 - confidence), 50 * (1 + confidence)])
    return Interval(float(low), float(high))
