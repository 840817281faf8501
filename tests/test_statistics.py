"""The field's names: known values, scipy as the reference, and the size of every test."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.statistics import (
    benjamini_hochberg,
    binomial_p,
    bootstrap,
    cohens_h,
    mcnemar_exact,
    minimum_detectable_mean,
    minimum_detectable_paired_difference,
    minimum_detectable_rate,
    newcombe,
    paired_d,
    paired_risk_p,
    paired_risk_power,
    sequential_p,
    sign_flip,
    spending,
)

few = settings(max_examples=30, deadline=None)


def test_one_sided_mcnemar_is_a_binomial_tail() -> None:
    assert mcnemar_exact(8, 2, "greater") == pytest.approx((1 + 10 + 45) / 2**10)
    assert mcnemar_exact(8, 2, "less") == pytest.approx(1 - (1 + 10) / 2**10)
    assert mcnemar_exact(8, 2, "greater") == paired_risk_p(8, 2, 30) and paired_risk_p(0, 0, 30) == 1.0
    assert binomial_p(0, 0, 0.3) == 1.0 and binomial_p(9, 10, 1.2, "less") < 1e-9


def test_newcombes_paired_interval_is_the_published_one() -> None:
    """36, 12, 2, 0: method 10 in the table of the paper."""
    assert newcombe(36, 2, 12, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert newcombe(0, 0, 0, 0) == (-1.0, 1.0)


@few
@given(st.tuples(*[st.integers(0, 25)] * 4).filter(lambda t: sum(t) > 0))
def test_the_interval_holds_the_estimate_and_turns_with_the_sides(counts: tuple[int, int, int, int]) -> None:
    both, first, second, neither = counts
    estimate = (second - first) / sum(counts)
    low, high = newcombe(both, first, second, neither)
    assert -1 <= low <= estimate + 1e-12 and estimate - 1e-12 <= high <= 1
    assert newcombe(both, second, first, neither) == pytest.approx((-high, -low), abs=1e-12)


def test_the_paired_interval_covers() -> None:
    """95 % of intervals hold the true difference, by exact sums over all outcomes of 25 pairs."""
    n, (p11, p10, p01) = 25, (0.4, 0.3, 0.1)
    covered = total = 0.0
    for b, c in product(range(n + 1), repeat=2):
        for a in range(n + 1 - b - c):
            chance = float(stats.multinomial.pmf([a, b, c, n - a - b - c], n, [p11, p10, p01, 1 - p11 - p10 - p01]))
            if chance > 1e-5:
                low, high = newcombe(a, c, b, n - a - b - c)
                covered, total = covered + chance * (low <= p10 - p01 <= high), total + chance
    assert 0.93 < covered / total < 0.98


def test_effect_sizes() -> None:
    assert cohens_h(0.5, 0.5) == 0 and cohens_h(1, 0) == pytest.approx(math.pi)
    assert cohens_h(0.7, 0.5) == pytest.approx(0.4115, abs=1e-4)
    assert paired_d([1, 2, 3]) == pytest.approx(2.0) and paired_d([0, 0]) == 0.0
    assert paired_d([2, 2]) == math.inf and math.isnan(paired_d([1]))


@few
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_benjamini_hochberg_is_scipys_and_weaker_than_bonferroni(p_values: list[float]) -> None:
    adjusted = benjamini_hochberg(p_values)
    assert adjusted == pytest.approx(list(stats.false_discovery_control(p_values)))
    assert all(p - 1e-12 <= q <= min(1.0, len(p_values) * p) + 1e-12
               for p, q in zip(p_values, adjusted, strict=True))
    assert benjamini_hochberg([]) == []


def test_the_bootstrap_of_differences_is_the_paired_one() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(1, 1, 40)
    other = one - 0.5 + rng.normal(0, 0.1, 40)
    low, high = bootstrap(list(one - other))
    assert low < 0.5 < high and high - low < 0.12, "the partners' common spread cancels"
    reference = stats.bootstrap((one, other), lambda a, b, axis=-1: np.mean(a - b, axis=axis), paired=True,
                                method="percentile", rng=1).confidence_interval
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=0.01)


@few
@given(st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=9))
def test_sign_flips_are_the_exact_randomisation_test(differences: list[float]) -> None:
    """Against all 2^n signs; the drawn p-value is within its own chance error."""
    values = np.array(differences)
    sums = np.array([np.dot(signs, values) for signs in product((-1, 1), repeat=len(values))])
    exact = float(np.mean(sums >= values.sum() - 1e-9))
    assert sign_flip(differences, "greater", 20_000) == pytest.approx(exact, abs=0.6 * exact + 0.001)
    assert sign_flip(differences, "less", 500, seed=3) == sign_flip([-d for d in differences], "greater", 500, seed=3)


def test_sign_flips_of_ones_are_mcnemars() -> None:
    found = sign_flip([1.0] * 16 + [-1.0] * 2 + [0.0] * 20, "greater", 100_000)
    assert found == pytest.approx(mcnemar_exact(16, 2, "greater"), rel=0.25)
    assert sign_flip([0.0, 0.0]) == 1.0 and sign_flip([5.0] * 60, resamples=99) == 0.02


def test_the_randomisation_test_keeps_its_level() -> None:
    """Under the null, p <= a in a share of at most a (+ chance) of samples; early stopping included."""
    rng = np.random.default_rng(5)
    p_values = np.array([sign_flip(list(rng.geometric(0.3, 15) - rng.geometric(0.3, 15) + 0.0), "greater", 2000)
                         for _ in range(1000)])
    for level in (0.01, 0.05, 0.2):
        assert np.mean(p_values <= level) <= level + 3 * math.sqrt(level / 1000)


@few
@given(st.floats(-0.5, 0.6), st.floats(0, 1), st.integers(4, 14))
def test_the_margin_test_keeps_its_level_everywhere_on_its_null(margin: float, share: float, n: int) -> None:
    """Exact size: chance of p <= 0.05 over all outcomes, at and below the margin."""
    margin = round(margin, 2)
    for difference in (margin, margin - 0.15):
        least = max(0.0, -difference)
        second = least + share * max(0.0, (1 - difference) / 2 - least)
        chances = [second + difference, second, max(0.0, 1 - 2 * second - difference)]
        if difference < -1 or min(chances) < 0:
            continue
        size = sum(float(stats.multinomial.pmf([b, c, n - b - c], n, chances))
                   for b in range(n + 1) for c in range(n + 1 - b) if paired_risk_p(b, c, n, margin) <= 0.05)
        assert size <= 0.0505


def test_a_margin_makes_it_harder() -> None:
    found = [paired_risk_p(14, 2, 30, margin) for margin in (-0.3, -0.1, 0.1, 0.3)]
    assert found == sorted(found) and found[0] < 0.001 and found[-1] > 0.2
    assert paired_risk_p(14, 2, 30, 1.5) == 1.0 and paired_risk_p(14, 2, 30, -1.0) == 0.0
    with pytest.raises(ValueError, match="no part of 10"):
        paired_risk_p(8, 4, 10)


@pytest.mark.parametrize("margin", [0.0, 0.3, -0.2])
def test_the_stated_power_is_the_share_of_draws_that_are_found(margin: float) -> None:
    n, level, difference = 25, 0.01, margin + 0.4
    chances = ((1 + difference) / 2) ** 2, ((1 - difference) / 2) ** 2
    draws = np.random.default_rng(1).multinomial(n, [*chances, 1 - sum(chances)], 600)
    found = np.mean([paired_risk_p(int(b), int(c), n, margin) <= level for b, c, _ in draws])
    assert paired_risk_power(n, level, *chances, margin) == pytest.approx(found, abs=0.07)


def test_the_minimum_detectable_difference_has_its_power_and_falls_with_n() -> None:
    sizes = [minimum_detectable_paired_difference(n, 0.001, 0.85) for n in (15, 20, 50, 200)]
    assert sizes == sorted(sizes, reverse=True)
    size = sizes[1]
    assert paired_risk_power(20, 0.001, ((1 + size) / 2) ** 2, ((1 - size) / 2) ** 2) == pytest.approx(0.85, abs=1e-6)
    assert minimum_detectable_paired_difference(20, 0.001, 0.85, one_way=True) < size
    assert math.isnan(minimum_detectable_paired_difference(5, 0.001, 0.85)), "five pairs never reach one in a thousand"


def test_the_other_minimum_detectable_effects() -> None:
    size = minimum_detectable_rate(40, 0.5, 0.01, 0.85)
    least = next(k for k in range(41) if binomial_p(k, 40, 0.5, "greater") <= 0.01)
    assert stats.binom.sf(least - 1, 40, 0.5 + size) == pytest.approx(0.85, abs=1e-6)
    assert math.isnan(minimum_detectable_rate(3, 0.5, 0.01, 0.85))
    # 34 pairs find d = 0.5 in 80 % at a two-sided 0.05 (Cohen's table; G*Power).
    assert minimum_detectable_mean(34, 0.025, 0.8) == pytest.approx(0.5, abs=0.01)
    assert math.isnan(minimum_detectable_mean(1, 0.05, 0.8))


@few
@given(st.integers(1, 12), st.data())
def test_a_sequential_p_value_spends_all_and_only_falls(looks: int, data: st.DataObject) -> None:
    shares = spending(looks)
    assert sum(shares) == pytest.approx(1.0) and len(shares) == looks and shares[-1] >= 0.5
    p_values = data.draw(st.lists(st.floats(0, 1), min_size=looks, max_size=looks))
    found = [sequential_p(p_values[:k], shares) for k in range(looks + 1)]
    assert found[0] == 1.0 and found == sorted(found, reverse=True)
    assert found[-1] <= 2 * p_values[-1]
