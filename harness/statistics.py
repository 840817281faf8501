"""The field's names for calls of ``scipy.stats``. scipy is imported late: it takes a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "auroc", "benjamini_hochberg", "block_bootstrap", "block_means", "bootstrap", "holm",
           "mcnemar_exact", "mutual_information", "newcombe", "percentile_interval", "rank_p", "signed_rank_p",
           "spearman", "wilson"]


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


def newcombe(both: int, only_first: int, only_second: int, neither: int, confidence: float = 0.95) -> Interval:
    """Interval of the second share less the first in paired yes-no data (R. Newcombe, 1998, method 10).

    Improved confidence intervals for the difference between binomial proportions based on paired data, Statistics in
    Medicine 17:2635. Wilson's intervals of the two shares, put together with their correlation phi, which is corrected
    for continuity where it is positive.

    Args:
        both: Pairs in which it happened in both.
        only_first: Pairs in which it happened in the first alone.
        only_second: Pairs in which it happened in the second alone.
        neither: Pairs in which it happened in neither.
        confidence: Coverage, between 0 and 1.

    Raises:
        ValueError: for a negative count.
    """
    n = both + only_first + only_second + neither
    if n == 0:
        return Interval(-1.0, 1.0)
    one, two = both + only_first, both + only_second
    first, second = wilson(one, n, confidence), wilson(two, n, confidence)
    rest = one * (n - one) * two * (n - two)
    product = both * neither - only_first * only_second
    phi = 0.0 if rest == 0 else (max(product - n / 2, 0.0) if product > 0 else product) / rest**0.5
    p, q = one / n, two / n
    down = ((q - second.low) ** 2 + (first.high - p) ** 2 - 2 * phi * (q - second.low) * (first.high - p)) ** 0.5
    up = ((second.high - q) ** 2 + (p - first.low) ** 2 - 2 * phi * (second.high - q) * (p - first.low)) ** 0.5
    return Interval(q - p - down, q - p + up)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (S. Holm, 1979), in the order given: below alpha together with error alpha or less."""
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def benjamini_hochberg(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Adjusted p-values, "q" (Y. Benjamini and Y. Hochberg, 1995): of those below q, a share of q is false on average.

    Args:
        p_values: Any shape, all of one family.

    Returns:
        float64 of that shape.
    """
    from scipy.stats import false_discovery_control

    p = np.asarray(p_values, np.float64)
    return np.asarray(false_discovery_control(p, axis=None)).reshape(p.shape)


def auroc(values: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Area under the ROC curve: the chance that a value with the label exceeds one without, ties counting half.

    Args:
        values: Numbers [n].
        labels: Yes or no [n].

    Returns:
        NaN where all labels are the same.
    """
    from scipy.stats import rankdata

    yes = np.asarray(labels, bool)
    n, n_yes = yes.size, int(yes.sum())
    if n_yes in (0, n):
        return float("nan")
    return float((rankdata(np.asarray(values))[yes].sum() - n_yes * (n_yes + 1) / 2) / (n_yes * (n - n_yes)))


def mutual_information(one: npt.ArrayLike, two: npt.ArrayLike) -> float:
    """Mutual information of two yes-or-no series [n] in bits, from their counts as they are."""
    a, b = np.asarray(one, bool), np.asarray(two, bool)
    joint = np.array([[np.mean((a == x) & (b == y)) for y in (False, True)] for x in (False, True)])
    alone = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log2(joint[there] / alone[there])).sum())


def rank_p(value: float, null: Sequence[float]) -> float:
    """How far out a value lies among draws from a null: (1 + draws at least as far from 0) / (1 + draws).

    The Monte Carlo p-value of Davison and Hinkley (1997), 4.2.
    """
    return (1 + sum(abs(draw) >= abs(value) for draw in null)) / (1 + len(null))


def signed_rank_p(differences: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test (F. Wilcoxon, 1945): do differences lie about 0?

    Args:
        differences: One for each pair; those of 0 are left out, and if all are, p is 1.
    """
    moved = [each for each in differences if each != 0]
    if not moved:
        return 1.0
    from scipy.stats import wilcoxon

    return float(wilcoxon(moved).pvalue)


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

    Args:
        series: Values in order of time, each [t].
        length: Of a block; see ``block_means``.
        confidence: Coverage, between 0 and 1.
        resamples: How many.
        seed: Of the draws.

    Raises:
        ValueError: when there are no values.
    """
    return percentile_interval(block_means(series, length, resamples, seed), confidence)


def block_means(series: Sequence[npt.NDArray[Any]], length: int, resamples: int = 2000,
                seed: int = 0) -> npt.NDArray[np.float64]:
    """Means over resampled time series: for the interval of anything that is made of means, such as their ratio.

    Of one series, blocks of ``length`` that begin anywhere are drawn with repetition, around the end to the start
    (circular block bootstrap, D. Politis and J. Romano, 1992). Of several, whole series are drawn.

    Args:
        series: Values in order of time, each [t] or [t, quantity]; in one draw all quantities see the same blocks.
        length: Of a block.
        resamples: How many.
        seed: Of the draws.

    Returns:
        float64 [resamples] or [resamples, quantity].

    Raises:
        ValueError: when there are no values.
    """
    kept = [np.asarray(one, np.float64) for one in series if len(one)]
    if not kept:
        raise ValueError("no values to draw from")
    rng = np.random.default_rng(seed)
    if len(kept) > 1:
        sums, sizes = np.array([one.sum(0) for one in kept]), np.array([len(one) for one in kept])
        picks = rng.integers(0, len(kept), (resamples, len(kept)))
        drawn = sizes[picks].sum(1)
        return np.asarray(sums[picks].sum(1) / drawn.reshape(-1, *[1] * (sums.ndim - 1)))
    (one,) = kept
    n, length = len(one), max(1, min(length, len(one)))
    n_blocks = -(-n // length)
    sums = np.concatenate([np.zeros_like(one[:1]), np.cumsum(np.concatenate([one, one]), 0)])
    starts = rng.integers(0, n, (resamples, n_blocks))
    last = n - (n_blocks - 1) * length  # the last block is cut, so that as many values as there are are drawn
    total = sums[starts[:, -1] + last] - sums[starts[:, -1]]
    blocks = sums[length:length + n] - sums[:n]
    for number in range(n_blocks - 1):
        total += blocks[starts[:, number]]
    return np.asarray(total / n)


def percentile_interval(draws: npt.NDArray[np.float64], confidence: float = 0.95) -> Interval:
    """The interval that leaves equal shares of bootstrap draws [resamples] on both sides."""
    low, high = np.percentile(draws, [50 * (1 - confidence), 50 * (1 + confidence)])
    return Interval(float(low), float(high))
