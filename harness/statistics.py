"""The field's names for calls of ``scipy.stats``. scipy is imported late: it takes a second."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "Alternative", "Interval", "auroc", "benjamini_hochberg", "binomial_p", "block_bootstrap", "block_means",
    "bootstrap", "cohens_h", "holm", "mcnemar_exact", "minimum_detectable_mean", "minimum_detectable_paired_difference",
    "minimum_detectable_rate", "mutual_information", "newcombe", "paired_d", "paired_risk_p", "paired_risk_power",
    "percentile_interval", "rank_p", "sequential_p", "sign_flip", "spearman", "spending", "wilson",
]

Alternative = Literal["two-sided", "greater", "less"]


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


@functools.lru_cache(maxsize=8192)
def binomial_p(successes: int, trials: int, rate: float, alternative: Alternative = "two-sided") -> float:
    """p-value of the exact binomial test: does it happen at another ("greater", "less") rate than this one?

    Args:
        successes: How often it happened.
        trials: Of how many; of none, 1.
        rate: Under the null; one that no proportion can have is taken as the nearest of 0 and 1.
        alternative: What the test looks for.

    Raises:
        ValueError: for a negative count, or more successes than trials.
    """
    if not trials:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(successes, trials, min(1.0, max(0.0, rate)), alternative).pvalue)


def mcnemar_exact(only_first: int, only_second: int, alternative: Alternative = "two-sided") -> float:
    """p-value of McNemar's exact test (Q. McNemar, 1947): are the two kinds of discordant pairs as frequent?

    Args:
        only_first: Pairs in which it happened in the first alone.
        only_second: Pairs in which it happened in the second alone.
        alternative: "greater" looks for more of the first kind, "less" for fewer.

    Raises:
        ValueError: for a negative count.
    """
    return binomial_p(only_first, only_first + only_second, 0.5, alternative)


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
    # Rounding may leave a little less than nothing under the root.
    down, up = (math.sqrt(max(0.0, a * a + b * b - 2 * phi * a * b))
                for a, b in ((q - second.low, first.high - p), (second.high - q, p - first.low)))
    return Interval(max(-1.0, q - p - down), min(1.0, q - p + up))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (S. Holm, 1979), in the order given: below alpha together with error alpha or less."""
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


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


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's adjusted p-values (1995), in the order given: below q, a share q of them is false.

    That share holds on average, for independent or positively dependent tests.
    """
    from scipy.stats import false_discovery_control

    return [float(p) for p in false_discovery_control(p_values)] if len(p_values) else []


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


def cohens_h(first: float, second: float) -> float:
    """Cohen's h of two proportions (J. Cohen, 1988, ch. 6): 0.2 is called small, 0.5 medium, 0.8 large."""
    return 2 * (math.asin(math.sqrt(first)) - math.asin(math.sqrt(second)))


def paired_d(differences: Sequence[float]) -> float:
    """Cohen's d of paired differences [n], their mean over their standard deviation (J. Cohen, 1988, 2.3.5).

    0 where all of them are 0, infinite where all of them are the same other number, NaN of fewer than two.
    """
    if len(differences) < 2:
        return math.nan
    values = np.asarray(differences, np.float64)
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    if np.ptp(values) == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / spread


def sign_flip(differences: Sequence[float], alternative: Alternative = "two-sided", resamples: int = 10_000,
              seed: int = 0) -> float:
    """p-value of the paired randomisation test (R. A. Fisher, 1935): is the mean of differences another than 0?

    Exact when a difference d is as likely as -d: always where the two sides of a pair could be exchanged. For the
    mean of skewed differences it is approximate, as Student's t is (J. Romano, 1990). Signs are drawn at random until
    50 sums lie as far out (J. Besag and P. Clifford, "Sequential Monte Carlo p-values", Biometrika 78, 1991), so that
    only small p-values take all draws.

    Args:
        differences: [n].
        alternative: "greater" looks for a mean above 0.
        resamples: Draws at most; no p-value is below 1 / (resamples + 1).
        seed: Of the draws.
    """
    if alternative == "two-sided":
        return min(1.0, 2 * min(sign_flip(differences, "greater", resamples, seed),
                                sign_flip(differences, "less", resamples, seed)))
    values = np.asarray(differences, np.float64) * (1 if alternative == "greater" else -1)
    values = values[values != 0]
    enough, seen, drawn = 50, 0, 0
    if not len(values):
        return 1.0
    rng = np.random.default_rng(seed)
    least = values.sum() - 1e-9 * np.abs(values).sum()  # sums that differ by rounding only are the same
    while drawn < resamples:
        n = min(resamples - drawn, max(200, drawn), max(500, 20_000_000 // len(values)))
        signs = rng.integers(0, 2, (n, len(values)), np.int8)
        above = 2 * (signs @ values) - values.sum() >= least
        seen_at = seen + np.cumsum(above)
        if seen_at[-1] >= enough:
            return float(enough / (drawn + 1 + int(np.searchsorted(seen_at, enough))))
        seen, drawn = int(seen_at[-1]), drawn + n
    return (seen + 1) / (resamples + 1)


def paired_risk_p(only_first: int, only_second: int, pairs: int, margin: float = 0.0) -> float:
    """p-value of: the first's proportion is above the second's by no more than ``margin`` (paired, exact).

    Small when the difference first - second is above the margin. Without a margin this is McNemar's exact test. With
    one, pairs are ordered by the score statistic of T. Tango (Statistics in Medicine 17, 1998), and the p-value is the
    largest chance of as extreme a result over the nuisance parameter (H. Hsueh, J. Liu and J. Chen, "Unconditional
    exact tests for equivalence or noninferiority for paired binary endpoints", Biometrics 57, 2001). For "below", swap
    the two counts and the sign of the margin.

    Args:
        only_first: Pairs in which it happened in the first alone.
        only_second: In the second alone.
        pairs: All pairs.
        margin: Difference of proportions.

    Raises:
        ValueError: for counts that do not fit.
    """
    if min(only_first, only_second) < 0 or only_first + only_second > pairs:
        raise ValueError(f"{only_first} and {only_second} discordant pairs are no part of {pairs}")
    if abs(margin) < 1e-9 or not pairs:
        return mcnemar_exact(only_first, only_second, "greater")
    if abs(margin) >= 1:
        return 1.0 if margin > 0 or only_second == pairs else 0.0
    return _largest_tail(only_first, only_second, pairs, margin)


@functools.lru_cache(maxsize=4096)
def _largest_tail(only_first: int, only_second: int, pairs: int, margin: float) -> float:
    threshold = float(_score(np.array(only_first), np.array(only_second), pairs, margin))
    return min(1.0, float(_tails(pairs, _from_score(pairs, margin, threshold), *_nuisance(margin)).max()))


def _score(only_first: npt.NDArray[Any], only_second: npt.NDArray[Any], pairs: int, margin: float
           ) -> npt.NDArray[np.float64]:
    """Tango's statistic: how far the difference is above the margin, in its standard errors under the margin."""
    b, c, n = only_first, only_second, pairs
    half = -b - c + (2 * n - b + c) * margin
    q = (np.sqrt(np.maximum(0, half * half + 8 * n * c * margin * (1 - margin))) - half) / (4 * n)
    return np.asarray((b - c - n * margin) / np.sqrt(n * (2 * q + margin * (1 - margin))))


def _nuisance(margin: float, points: int = 200) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Chances of the two kinds of discordant pairs that differ by the margin: two arrays [points]."""
    least = max(0.0, -margin)
    second = np.linspace(least, (1 - margin) / 2, points)
    return second + margin, second


def _from_score(pairs: int, margin: float, threshold: float) -> npt.NDArray[np.int64]:
    """Rejection by score: for each number of pairs of the second kind [pairs + 1], the least of the first kind."""
    counts = np.arange(pairs + 1)
    first, second = counts[:, None], counts[None, :]
    enough = _score(first, second, pairs, margin) >= threshold - 1e-9
    return np.where(enough.any(0), enough.argmax(0), pairs + 1)


def _tails(pairs: int, least: npt.NDArray[np.int64], first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
           ) -> npt.NDArray[np.float64]:
    """Chance of rejection for each pair of chances [points]: ``least[c]`` or more of the first kind beside c others."""
    from scipy.stats import binom

    c = np.arange(pairs + 1)[:, None]
    share = np.clip(first / np.maximum(1 - second, 1e-300), 0.0, 1.0)
    return np.asarray((binom.pmf(c, pairs, second) * binom.sf(least[:, None] - 1, pairs - c, share)).sum(0))


@functools.lru_cache(maxsize=256)
def _rejection(pairs: int, alpha: float, margin: float) -> npt.NDArray[np.int64]:
    """Of ``paired_risk_p``: for each count of the second kind [pairs + 1], the least of the first with p <= alpha."""
    if abs(margin) < 1e-9:
        from scipy.stats import binom

        first, second = np.arange(pairs + 1)[:, None], np.arange(pairs + 1)[None, :]
        enough = binom.sf(first - 1, first + second, 0.5) <= alpha
        return np.where(enough.any(0), enough.argmax(0), pairs + 1)
    low, high, chances = -50.0, 50.0, _nuisance(margin)
    for _ in range(40):
        middle = (low + high) / 2
        small = _tails(pairs, _from_score(pairs, margin, middle), *chances).max() <= alpha
        low, high = (low, middle) if small else (middle, high)
    return _from_score(pairs, margin, high)


def paired_risk_power(pairs: int, alpha: float, only_first: float, only_second: float, margin: float = 0.0) -> float:
    """How often ``paired_risk_p`` is at most ``alpha``.

    Args:
        pairs: How many.
        alpha: Level of the test.
        only_first: Chance that it happens in the first alone.
        only_second: In the second alone.
        margin: Of the test.
    """
    return float(_tails(pairs, _rejection(pairs, alpha, margin), np.array([only_first]), np.array([only_second]))[0])


def minimum_detectable_paired_difference(pairs: int, alpha: float, power: float, margin: float = 0.0, *,
                                         one_way: bool = False) -> float:
    """The least difference of paired proportions beyond ``margin`` that a one-sided exact test finds.

    Args:
        pairs: How many.
        alpha: Level of the one-sided test; half of a two-sided one's.
        power: How often it is to be found.
        margin: Of the test.
        one_way: Pairs differ in one direction only, which is the best that pairing can do. Else the two sides are
            unrelated and around one half, where chance is largest.

    Returns:
        What is to be added to the margin; NaN when no difference is large enough.
    """
    def chances(difference: float) -> tuple[float, float]:
        if one_way:
            return max(0.0, difference), max(0.0, -difference)
        return ((1 + difference) / 2) ** 2, ((1 - difference) / 2) ** 2

    return _least(lambda x: paired_risk_power(pairs, alpha, *chances(margin + x), margin), 1 - margin, power)


def minimum_detectable_rate(trials: int, rate: float, alpha: float, power: float) -> float:
    """The least distance above ``rate`` that the one-sided exact binomial test finds; NaN when none is large enough.

    For "below", give 1 - rate.

    Args:
        trials: How many.
        rate: Under the null.
        alpha: Level of the one-sided test.
        power: How often it is to be found.
    """
    from scipy.stats import binom

    counts = np.arange(trials + 2)
    least = int(np.argmax(binom.sf(counts - 1, trials, rate) <= alpha))  # one more than there are is never reached
    return _least(lambda x: float(binom.sf(least - 1, trials, min(1.0, rate + x))), 1 - rate, power)


def minimum_detectable_mean(n: int, alpha: float, power: float) -> float:
    """The least mean of n differences that is found, in their standard deviations; NaN of fewer than two.

    By the noncentral t distribution, which holds for the bootstrap and the randomisation test of a mean as well, as far
    as the mean of n differences is near normal.

    Args:
        n: How many.
        alpha: Level of the one-sided test; half of a two-sided one's.
        power: How often it is to be found.
    """
    if n < 2:
        return math.nan
    from scipy.stats import nct, t

    least = t.isf(alpha, n - 1)
    return _least(lambda x: float(nct.sf(least, n - 1, x * math.sqrt(n))), (least + 8) / math.sqrt(n), power)


def _least(power_at: Callable[[float], float], most: float, power: float) -> float:
    """Where a rising curve reaches a height, between 0 and ``most``; NaN where it does not."""
    if not most > 0 or not power_at(most) >= power:
        return math.nan
    low, high = 0.0, most
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if power_at(middle) >= power else (middle, high)
    return high


def spending(looks: int) -> list[float]:
    """How much of the error each look at growing data may spend: half of it the last one, the others share the rest."""
    return [1.0] if looks == 1 else [0.5 / (looks - 1)] * (looks - 1) + [0.5]


def sequential_p(p_values: Sequence[float], shares: Sequence[float]) -> float:
    """A p-value that may be looked at again and again: the least p / share over the looks so far.

    Valid whatever the tests and however they depend on each other, since the shares add up to 1 (Bonferroni over the
    looks; alpha spending, K. Lan and D. DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70,
    1983). It only falls from look to look.

    Args:
        p_values: Of the looks so far, each of all the data until then.
        shares: From ``spending``, for all the looks there may be; fixed beforehand.
    """
    return min([1.0, *(p / share for p, share in zip(p_values, shares, strict=False))])
