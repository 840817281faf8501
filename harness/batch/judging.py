"""Whether a suite's claims hold: exact tests on paired seeds, all of them together at one family error.

Each claim has two p-values: one of what was seen were the claim true, one were it false. The first ones are adjusted
together, and so are the second ones. A claim is *refuted* when the first is at most the family error, and *shown* when
the second is. So the chance that any true claim of the suite is called refuted is at most the family error, however the
claims depend on each other (Holm), and so is the chance that any false one is called shown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.batch.claims import Claim, Statistics
from harness.batch.verdicts import Verdict
from harness.statistics import (
    Interval,
    benjamini_hochberg,
    binomial_p,
    bootstrap,
    cohens_h,
    holm,
    newcombe,
    paired_d,
    paired_risk_p,
    sequential_p,
    sign_flip,
    spending,
    wilson,
)

__all__ = ["Decision", "Samples", "decide", "judge", "look_sizes"]

Samples = Mapping[str, Mapping[str, Mapping[int, float]]]
"""Metric to cell name to seed to number. What is 0 or 1 in every trial is a rate, anything else a mean."""

Replay = Callable[[str, int], str | None]
"""Cell and seed to the command that plays that trial again."""

_CONFIDENCE = 0.95
_MOST_RESAMPLES = 1_000_000


@dataclass(frozen=True)
class _Evidence:
    """What the trials say of a claim: numbers by seed, of the cell [n] and of the other side [n], or a number."""

    seeds: tuple[int, ...]
    one: tuple[float, ...]
    other: tuple[float, ...] | float
    resamples: int

    @property
    def differences(self) -> list[float]:
        others = (self.other,) * len(self.one) if isinstance(self.other, float) else self.other
        return [a - b for a, b in zip(self.one, others, strict=True)]

    @property
    def rates(self) -> bool:
        """Whether everything is 0 or 1."""
        return {*self.one, *(() if isinstance(self.other, float) else self.other)} <= {0.0, 1.0}

    def of(self, seeds: Collection[int]) -> _Evidence:
        """The part of these seeds."""
        kept = [i for i, seed in enumerate(self.seeds) if seed in seeds]
        other = self.other if isinstance(self.other, float) else tuple(self.other[i] for i in kept)
        return replace(self, seeds=tuple(self.seeds[i] for i in kept), one=tuple(self.one[i] for i in kept),
                       other=other)

    def _pairs(self) -> tuple[int, int, int, int]:
        """Both, the cell only, the other only, neither."""
        assert isinstance(self.other, tuple)
        found = [(bool(a), bool(b)) for a, b in zip(self.one, self.other, strict=True)]
        first, second = found.count((True, False)), found.count((False, True))
        both = found.count((True, True))
        return both, first, second, len(found) - both - first - second

    def above(self, margin: float) -> float:
        """p-value of the difference being at most the margin: small when it is above."""
        if not self.one:
            return 1.0
        if self.rates and isinstance(self.other, float):
            return binomial_p(int(sum(self.one)), len(self.one), self.other + margin, "greater")
        if self.rates:
            _, first, second, _ = self._pairs()
            return paired_risk_p(first, second, len(self.one), margin)
        return sign_flip([d - margin for d in self.differences], "greater", self.resamples)

    def below(self, margin: float) -> float:
        """p-value of the difference being at least the margin: small when it is below."""
        if not self.one:
            return 1.0
        if self.rates and isinstance(self.other, float):
            return binomial_p(int(sum(self.one)), len(self.one), self.other + margin, "less")
        if self.rates:
            _, first, second, _ = self._pairs()
            return paired_risk_p(second, first, len(self.one), -margin)
        return sign_flip([d - margin for d in self.differences], "less", self.resamples)

    def interval(self, confidence: float) -> Interval:
        if not self.rates:
            return bootstrap(self.differences, confidence)
        if isinstance(self.other, float):
            low, high = wilson(int(sum(self.one)), len(self.one), confidence)
            return Interval(low - self.other, high - self.other)
        both, first, second, neither = self._pairs()
        return newcombe(both, second, first, neither, confidence)

    def means(self) -> tuple[float, float]:
        return float(np.mean(self.one)), self.other if isinstance(self.other, float) else float(np.mean(self.other))

    def effect(self) -> float:
        one, other = self.means()
        return cohens_h(one, other) if self.rates and 0 <= other <= 1 else paired_d(self.differences)


@dataclass(frozen=True)
class Decision:
    """What the tests say of a claim, before it is put in words.

    Attributes:
        evidence: What they saw.
        p_true: Of what was seen, were the claim true.
        p_false: Were it false.
        p_true_adjusted: For all claims of the suite.
        p_false_adjusted: Likewise.
        shown: True when the claim is shown, False when refuted, None when neither.
        confidence: Of its interval.
    """

    evidence: _Evidence
    p_true: float
    p_false: float
    p_true_adjusted: float
    p_false_adjusted: float
    shown: bool | None
    confidence: float


def look_sizes(n: int, statistics: Statistics) -> list[int]:
    """After how many of n seeds the data are looked at: once, or after every block."""
    if not statistics.sequential:
        return [n]
    return [*range(statistics.block, n, statistics.block), n]


def decide(claims: Sequence[Claim], samples: Samples, statistics: Statistics, *, baseline: Samples | None = None,
           seeds: Mapping[str, Sequence[int]] | None = None, interim: bool = False) -> list[Decision]:
    """Test all claims together.

    Args:
        claims: The suite's; all of them, since their number counts.
        samples: What came out, as far as it is known.
        statistics: The suite's.
        baseline: What came out when it was approved; None when nothing is approved.
        seeds: Cell to all its seeds in the order of playing; needed when trials may end early.
        interim: More trials are to come: a block of seeds that is not whole is not looked at.

    Raises:
        ValueError: for sequential statistics without seeds.
    """
    if statistics.sequential and seeds is None:
        raise ValueError("sequential statistics need the planned seeds")
    least_p = statistics.family_error / max(1, len(claims))
    if statistics.sequential:
        least_p /= 2 * max([1, *(len(look_sizes(len(of), statistics)) for of in (seeds or {}).values())])
    resamples = int(min(_MOST_RESAMPLES, max(10_000, 20 / least_p)))
    found = [_looks(claim, _evidence(claim, samples, baseline or {}, resamples), statistics, seeds or {}, interim)
             for claim in claims]
    adjust = holm if statistics.correction == "holm" else benjamini_hochberg
    if_true, if_false = adjust([each[1] for each in found]), adjust([each[2] for each in found])
    decisions = []
    for (evidence, p_true, p_false, confidence), true, false in zip(found, if_true, if_false, strict=True):
        shown = False if true <= statistics.family_error else True if false <= statistics.family_error else None
        decisions.append(Decision(evidence, p_true, p_false, true, false, shown, confidence))
    return decisions


def _looks(claim: Claim, whole: _Evidence, statistics: Statistics, planned: Mapping[str, Sequence[int]],
           interim: bool) -> tuple[_Evidence, float, float, float]:
    """All evidence, its two p-values over the looks that were had, and the confidence of an interval."""
    if not statistics.sequential:
        return whole, *_p_values(claim, whole), _CONFIDENCE
    other = set(planned[claim.other or claim.cell])
    order = [seed for seed in planned[claim.cell] if seed in other]
    sizes = look_sizes(len(order), statistics)
    shares, p_values, had = spending(len(sizes)), [], 0
    for size in sizes:
        part = whole.of(set(order[:size]))
        if len(part.seeds) == had or (interim and len(part.seeds) < size):
            break
        had = len(part.seeds)
        p_values.append(_p_values(claim, part))
    p_true, p_false = (sequential_p([p[side] for p in p_values], shares) for side in (0, 1))
    return whole, p_true, p_false, 1 - (1 - _CONFIDENCE) * (shares[len(p_values) - 1] if p_values else 1)


def _evidence(claim: Claim, samples: Samples, baseline: Samples, resamples: int) -> _Evidence:
    here = samples.get(claim.metric, {})
    one = here.get(claim.cell, {})
    if not isinstance(claim.reference, str):
        seeds = tuple(sorted(one))
        return _Evidence(seeds, tuple(float(one[s]) for s in seeds), float(claim.reference), resamples)
    other = (baseline.get(claim.metric, {}).get(claim.cell, {}) if claim.other is None
             else here.get(claim.other, {}))
    seeds = tuple(sorted(one.keys() & other.keys()))
    return _Evidence(seeds, tuple(float(one[s]) for s in seeds), tuple(float(other[s]) for s in seeds), resamples)


def _p_values(claim: Claim, evidence: _Evidence) -> tuple[float, float]:
    """Of what was seen, were the claim true; and were it false."""
    margin, above, below = claim.margin, evidence.above, evidence.below
    if claim.relation == "at_least":
        return below(margin), above(margin)
    if claim.relation == "at_most":
        return above(-margin), below(-margin)
    # Two-sided by doubling; and of the two one-sided tests of equivalence, the worse (D. Schuirmann, 1987).
    apart = min(1.0, 2 * min(above(margin), below(-margin)))
    together = max(above(-margin), below(margin)) if margin else 1.0
    return (apart, together) if claim.relation == "equal" else (together, apart)


def judge(claims: Sequence[Claim], samples: Samples, statistics: Statistics, *, baseline: Samples | None = None,
          seeds: Mapping[str, Sequence[int]] | None = None, replay: Replay | None = None, note: str = ""
          ) -> tuple[Verdict, ...]:
    """Test all claims together, and say what came of each.

    A claim that the baseline holds without any tolerance cannot be shown by any number of trials: it passes as long as
    it is not refuted. Every other claim passes when shown, fails when refuted, and is undecided otherwise.

    Args:
        claims: As for ``decide``.
        samples: Likewise.
        statistics: Likewise.
        baseline: Likewise.
        seeds: Likewise.
        replay: Gives the command that plays a trial again.
        note: Goes with every claim about the baseline.

    Raises:
        ValueError: as for ``decide``.
    """
    decisions = decide(claims, samples, statistics, baseline=baseline, seeds=seeds)
    return tuple(_verdict(claim, decision, statistics, len(claims), baseline is not None, replay,
                          note if claim.against_baseline else "")
                 for claim, decision in zip(claims, decisions, strict=True))


def _verdict(claim: Claim, decision: Decision, statistics: Statistics, n_claims: int, approved: bool,
             replay: Replay | None, note: str) -> Verdict:
    evidence, cells = decision.evidence, (claim.cell, *([claim.other] if claim.other else []))
    if not evidence.seeds:
        why = ("no baseline is approved yet" if claim.against_baseline and not approved
               else "no seed was played" + (" on both sides" if isinstance(claim.reference, str) else ""))
        return Verdict(str(claim), claim.metric, cells, reason=why, note=note)
    value, reference = evidence.means()
    lenient = claim.against_baseline and not claim.margin and claim.relation != "different"
    passed = True if lenient and decision.shown is None else decision.shown
    against = decision.shown is False or lenient or (
        decision.shown is None and decision.p_true < decision.p_false)
    p, adjusted = ((decision.p_true, decision.p_true_adjusted) if against
                   else (decision.p_false, decision.p_false_adjusted))
    interval = evidence.interval(decision.confidence)
    changed = _by_change(evidence, value - reference)
    worst = changed[0] if passed is False and changed else None
    return Verdict(
        str(claim), claim.metric, cells, len(evidence.seeds), value, reference, value - reference, interval,
        evidence.effect(), p, adjusted, passed, tuple(changed) if claim.against_baseline else (),
        f"{_numbers(claim, evidence, interval)}; {_outcome(decision, lenient)}: "
        f"{_p_in_words(p, adjusted, against, statistics, n_claims)}",
        note, None if worst is None or replay is None else replay(claim.cell, worst))


def _by_change(evidence: _Evidence, estimate: float) -> list[int]:
    """Seeds whose two numbers differ, those that differ most in the direction of the mean first."""
    sign = -1.0 if estimate < 0 else 1.0
    pairs = sorted(zip(evidence.differences, evidence.seeds, strict=True), key=lambda d: (-sign * d[0], d[1]))
    return [seed for difference, seed in pairs if difference]


def _numbers(claim: Claim, evidence: _Evidence, interval: Interval) -> str:
    value, reference = evidence.means()
    n = len(evidence.seeds)

    def told(mean: float) -> str:
        return f"{mean:.3g} ({round(mean * n)}/{n})" if evidence.rates else f"{mean:.4g}"

    if isinstance(claim.reference, str):
        where = "in the baseline" if claim.against_baseline else "there"
        text = f"{told(value)} here, {told(reference)} {where}"
    else:
        text = f"{told(value)}, to be compared with {reference:g}"
    return (f"{text}: a difference of {value - reference:+.3g} [{interval.low:+.3g}, {interval.high:+.3g}] "
            f"over {n} seeds")


def _outcome(decision: Decision, lenient: bool) -> str:
    if decision.shown is None:
        return "no change is shown" if lenient else "these seeds do not decide it"
    return "the claim is shown" if decision.shown else "the claim is refuted"


def _p_in_words(p: float, adjusted: float, against: bool, statistics: Statistics, n_claims: int) -> str:
    method = "Holm" if statistics.correction == "holm" else "Benjamini-Hochberg"
    corrected = f", {adjusted:.2g} after {method} over {n_claims} claims" if n_claims > 1 else ""
    return (f"were it {'true' if against else 'false'}, p = {p:.2g}{corrected} "
            f"(the limit is {statistics.family_error:g})")
