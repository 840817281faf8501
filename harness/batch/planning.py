"""What a suite can see, said before it is played: the smallest differences, after the correction for all its claims."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from harness.batch.claims import Claim, Statistics
from harness.batch.judging import look_sizes
from harness.statistics import (
    minimum_detectable_mean,
    minimum_detectable_paired_difference,
    minimum_detectable_rate,
    spending,
)

__all__ = ["error_per_claim", "plan_lines"]


def error_per_claim(n_claims: int, n_seeds: int, statistics: Statistics) -> float:
    """The level at which each claim is tested at the least: its share of the family error, and its last look's."""
    return statistics.family_error / n_claims * spending(len(look_sizes(n_seeds, statistics)))[-1]


def plan_lines(claims: Sequence[Claim], seeds: Mapping[str, Sequence[int]], statistics: Statistics,
               rates: Collection[str]) -> list[str]:
    """The smallest difference that each sort of claim will find, in words; nothing without claims.

    What is stated is found in ``statistics.power`` of runs. The tests of other claims are taken to find nothing, and of
    two rates, the sides are taken to be unrelated and around one half: all of it the worst case.

    Args:
        claims: The suite's.
        seeds: Cell to its seeds.
        statistics: The suite's.
        rates: Metrics that are 0 or 1 in every trial.
    """
    if not claims:
        return []
    groups: dict[tuple[str, str, bool, float, int, float | None], int] = {}
    for claim in claims:
        own = set(seeds[claim.cell])
        n = len(own & set(seeds[claim.other])) if claim.other else len(own)
        number = None if isinstance(claim.reference, str) else claim.reference
        key = (claim.metric, claim.relation, claim.against_baseline, claim.margin, n, number)
        groups[key] = groups.get(key, 0) + 1
    method = ("Holm, family error" if statistics.correction == "holm"
              else "Benjamini-Hochberg, false discovery rate")
    lines = [f"{len(claims)} claims, tested together ({method} {statistics.family_error:.2%}). "
             f"What will be found in {statistics.power:.0%} of runs:"]
    for (metric, relation, baseline, margin, n, number), count in groups.items():
        alpha = error_per_claim(len(claims), n, statistics)
        to = f"{number:g}" if number is not None else "the baseline" if baseline else "another cell"
        to += f" by {margin:g}" if margin and not baseline and number is None else ""
        sees = _seen(relation, margin, baseline, n, number, alpha, statistics.power, metric in rates)
        lines.append(f"  {metric}, {relation.replace('_', ' ')} {to} ({count} {'claim' if count == 1 else 'claims'}): "
                     f"with {n} seeds {sees}")
    return lines


def _seen(relation: str, margin: float, baseline: bool, n: int, number: float | None, alpha: float, power: float,
          rate: bool) -> str:
    two_sided = relation in ("equal", "different")
    alpha, beyond = alpha / 2 if two_sided else alpha, f" beyond {abs(margin):g}" if margin else ""
    if not n:
        return "you will see nothing: no seed is played on both sides"
    if not rate:
        least = minimum_detectable_mean(n, alpha, power)
        return _sees(least, f" standard deviations of the paired differences{beyond}")
    if number is not None:
        # A rate can move away from a number both ways; the farther one is stated, unless there is no room for it.
        ways = [minimum_detectable_rate(n, at, alpha, power) for at in (number, 1 - number) if 0 <= at < 1]
        return _sees(max((way for way in ways if not math.isnan(way)), default=math.nan), beyond)
    if relation in ("at_least", "at_most") and not baseline:
        sign = 1 if relation == "at_least" else -1
        shown, refuted = (minimum_detectable_paired_difference(n, alpha, power, m) for m in (margin, -margin))
        return (f"you will see it shown by {_side(sign, margin + shown)}, "
                f"and refuted by {_side(-sign, refuted - margin)}")
    limit = margin if two_sided else -margin
    least, one_way = (minimum_detectable_paired_difference(n, alpha, power, limit, one_way=way)
                      for way in (False, True))
    if math.isnan(least):
        return _sees(one_way, f"{beyond}, if seeds change in one direction only")
    extra = f" (>= {_up(one_way):.2f} if seeds change in one direction only)" if one_way < least else ""
    return _sees(least, beyond + extra)


def _up(least: float) -> float:
    """To two digits, and never below."""
    return math.ceil(least * 100 - 1e-6) / 100


def _sees(least: float, more: str) -> str:
    return ("you will see no difference: more seeds are needed" if math.isnan(least)
            else f"you will see differences >= {_up(least):.2f}{more}")


def _side(sign: int, least: float) -> str:
    if math.isnan(least):
        return "no difference (more seeds are needed)"
    return f"differences {'>=' if sign > 0 else '<='} {sign * _up(least):+.2f}"
