"""Verdicts: three outcomes with their reasons, all tests together, looks that cost no error, what a suite can see."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.batch.claims import BASELINE, Claim, Statistics
from harness.batch.judging import decide, judge, look_sizes
from harness.batch.planning import error_per_claim, plan_lines
from harness.batch.sequential import settled
from harness.batch.verdicts import Verdict, verdict_notes
from harness.statistics import holm, mcnemar_exact, newcombe, paired_risk_p

HERE, THERE = "target=villager", "target=trunk"
EQUAL = Claim("held", HERE, "equal", BASELINE)
USUAL = Statistics()


def of(values: Sequence[float], first: int = 40) -> dict[int, float]:
    return {first + i: float(value) for i, value in enumerate(values)}


def verdict(claim: Claim, one: Sequence[float], other: Sequence[float] = (), statistics: Statistics = USUAL,
            **more: object) -> Verdict:
    baseline = {claim.metric: {claim.cell: of(other)}} if claim.against_baseline else None
    samples = {claim.metric: {claim.cell: of(one), **({claim.other: of(other)} if claim.other else {})}}
    (found,) = judge([claim], samples, statistics, baseline=baseline, **more)  # type: ignore[arg-type]
    return found


def test_a_regression_says_its_numbers_its_seeds_and_how_to_look() -> None:
    found = verdict(EQUAL, [0] * 15 + [1] * 5, [1] * 14 + [0] + [1] * 5, note="torch was 1 and is 2",
                    replay=lambda cell, seed: f"play {cell} {seed}")
    assert found.passed is False and found.n == 20 and found.p == found.p_adjusted == mcnemar_exact(0, 14)
    assert (found.value, found.reference, found.estimate) == (0.25, 0.95, -0.7)
    assert found.interval == newcombe(5, 14, 0, 1) and found.effect is not None and found.effect < -1.5
    assert found.flipped == tuple(range(40, 54)) and found.replay == f"play {HERE} 40"
    for part in ("0.25 (5/20) here, 0.95 (19/20) in the baseline", "-0.7 [-0.8", "the claim is refuted",
                 "were it true, p = 0.00012 (the limit is 0.005)"):
        assert part in found.reason
    text = str(found)
    assert text.startswith("FAILED: held of [target=villager] is equal to the baseline") and "(14): 40, 41" in text
    assert "look at one: play" in text and json.dumps(found.as_dict())
    assert verdict_notes([found, found]) == ["note: torch was 1 and is 2"]


def test_no_change_passes_and_does_not_claim_to_be_shown() -> None:
    found = verdict(EQUAL, [1, 0, 1, 1], [1, 0, 1, 0])
    assert found.passed is True and found.flipped == (43,) and "no change is shown" in found.reason
    assert found.replay is None and found.p == 1.0


def test_with_a_tolerance_equality_must_be_shown() -> None:
    claim = Claim("held", HERE, "equal", BASELINE, 0.3)
    assert verdict(claim, [1, 0] * 4, [1, 0] * 4).passed is None
    assert verdict(claim, [1, 0] * 40, [1, 0] * 40).passed is True
    assert verdict(claim, [0] * 80, [1] * 80).passed is False
    assert verdict(claim, [0] * 16 + [1, 0] * 32, [1] * 16 + [1, 0] * 32).passed is not False


def test_a_hypothesis_with_a_margin() -> None:
    claim = Claim("held", HERE, "at_least", THERE, 0.3)
    shown, open_, refuted = (verdict(claim, [1] * k + [0] * (40 - k), [0] * 40) for k in (30, 14, 0))
    assert (shown.passed, open_.passed, refuted.passed) == (True, None, False)
    assert shown.p == paired_risk_p(30, 0, 40, 0.3) and shown.flipped == ()
    assert "the claim is shown: were it false" in shown.reason and "do not decide" in open_.reason
    assert refuted.p == paired_risk_p(0, 0, 40, -0.3)
    mirrored = verdict(Claim("held", HERE, "at_most", THERE, 0.3), [0] * 40, [1] * 30 + [0] * 10)
    assert mirrored.passed is True and mirrored.p == pytest.approx(shown.p)


def test_numbers() -> None:
    at_most = Claim("held", HERE, "at_most", 0.1)
    assert [verdict(at_most, [1] * k + [0] * (60 - k)).passed for k in (0, 2, 30)] == [True, None, False]
    assert verdict(Claim("held", HERE, "at_least", 0.5), [1] * 20).passed is True
    ticks = verdict(Claim("contact_ticks", HERE, "at_least", 10.0), list(range(20, 50)))
    assert ticks.passed is True and ticks.effect == pytest.approx(24.5 / np.std(range(20, 50), ddof=1))
    assert verdict(Claim("contact_ticks", HERE, "different", 10.0), list(range(20, 50))).passed is True
    assert verdict(Claim("contact_ticks", HERE, "different", BASELINE), [3.0] * 9, [3.0] * 9).passed is None


def test_nothing_played_and_nothing_approved_are_told_apart() -> None:
    assert judge([EQUAL], {"held": {HERE: of([1])}}, USUAL)[0].reason == "no baseline is approved yet"
    (found,) = judge([Claim("held", HERE, "at_least", THERE)], {"held": {HERE: of([1]), THERE: of([1], 99)}}, USUAL)
    assert (found.passed, found.n, found.estimate, found.reason) == (None, 0, None, "no seed was played on both sides")


def test_only_seeds_of_both_sides_are_paired() -> None:
    samples, baseline = {"held": {HERE: of([1] * 20)}}, {"held": {HERE: of([0] * 20, 45)}}
    assert judge([EQUAL], samples, USUAL, baseline=baseline)[0].n == 15


def test_all_claims_are_adjusted_together() -> None:
    claims = [Claim("held", f"target={i}", "equal", BASELINE) for i in range(4)]
    lost = (9, 14, 2, 0)
    samples = {"held": {c.cell: of([0] * k + [1] * (20 - k)) for c, k in zip(claims, lost, strict=True)}}
    baseline = {"held": {c.cell: of([1] * 20) for c in claims}}
    found = judge(claims, samples, USUAL, baseline=baseline)
    assert [v.p_adjusted for v in found] == holm([mcnemar_exact(0, k) for k in lost])
    assert [v.passed for v in found] == [True, False, True, True], "nine alone would be enough: 0.0039"
    assert "after Holm over 4 claims" in found[0].reason
    weaker = judge(claims, samples, Statistics(correction="bh", family_error=0.008), baseline=baseline)
    assert [v.passed for v in weaker] == [False, False, True, True] and "Benjamini-Hochberg" in weaker[0].reason


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30), st.floats(-0.5, 0.5),
       st.sampled_from(["at_least", "at_most", "equal", "different"]))
def test_no_claim_is_shown_and_refuted(pairs: list[tuple[bool, bool]], margin: float, relation: str) -> None:
    margin = abs(margin) if relation in ("equal", "different") else margin
    claim = Claim("held", HERE, relation, THERE, margin)  # type: ignore[arg-type]
    one, other = zip(*pairs, strict=True)
    (found,) = decide([claim], {"held": {HERE: of(one), THERE: of(other)}}, USUAL)
    assert found.p_true + found.p_false >= 1 - 1e-9 or found.p_true > 0.005 or found.p_false > 0.005
    assert min(found.p_true, found.p_false) >= 0 and max(found.p_true, found.p_false) <= 1


EARLY = Statistics(sequential=True, block=10)
PLAN = {HERE: range(40, 80), THERE: range(40, 80)}


def test_a_settled_claim_needs_no_more_trials() -> None:
    claim = Claim("held", HERE, "at_least", THERE)
    assert look_sizes(40, EARLY) == [10, 20, 30, 40] and look_sizes(45, EARLY)[-2:] == [40, 45]
    parts = [{"held": {HERE: of([0] * n), THERE: of([1] * n)}} for n in (10, 15, 20)]
    assert [settled([claim], part, EARLY, PLAN) for part in parts] == [frozenset(), frozenset(), {HERE, THERE}]
    assert settled([claim], parts[2], USUAL, PLAN) == frozenset(), "only where the suite says so"
    # At 20 seeds this is the second of four looks, which may spend a sixth of the error.
    (found,) = decide([claim], parts[2], EARLY, seeds=PLAN)
    assert found.p_true == pytest.approx(6 * 2**-20) and found.confidence == pytest.approx(1 - 0.05 / 6)
    other = Claim("held", HERE, "at_most", 0.5)
    assert settled([claim, other], parts[2], EARLY, PLAN) == {HERE, THERE}
    assert settled([claim, Claim("pressed", HERE, "at_most", 0.5)], parts[2], EARLY, PLAN) == {THERE}


def test_what_was_settled_stays_so() -> None:
    claim = Claim("held", HERE, "at_least", THERE)
    one, other = [0] * 20 + [1] * 20, [1] * 20 + [0] * 20
    early = decide([claim], {"held": {HERE: of(one[:20]), THERE: of(other[:20])}}, EARLY, seeds=PLAN)
    late = decide([claim], {"held": {HERE: of(one), THERE: of(other)}}, EARLY, seeds=PLAN)
    assert early[0].shown is False and late[0].shown is False
    with pytest.raises(ValueError, match="planned seeds"):
        decide([claim], {}, EARLY)


def test_what_a_suite_can_see() -> None:
    claims = [EQUAL, Claim("held", THERE, "equal", BASELINE), Claim("held", HERE, "at_least", THERE, 0.3),
              Claim("contact_ticks", HERE, "equal", BASELINE), Claim("held", THERE, "at_most", 0.1)]
    assert plan_lines([], PLAN, USUAL, {"held"}) == []
    lines = plan_lines(claims, PLAN, USUAL, {"held"})
    assert lines[0] == ("5 claims, tested together (Holm, family error 0.50%). What will be found in 85% of runs:")
    assert lines[1].startswith("  held, equal the baseline (2 claims): with 40 seeds you will see differences >= 0.5")
    assert "if seeds change in one direction only" in lines[1]
    assert "by 0.3 (1 claim): with 40 seeds you will see it shown by differences >= +0." in lines[2]
    assert "standard deviations" in lines[3] and "at most 0.1 (1 claim)" in lines[4]
    few = plan_lines(claims[:1], {HERE: range(4)}, USUAL, {"held"})
    assert few[1].endswith("with 4 seeds you will see no difference: more seeds are needed")
    assert error_per_claim(5, 40, EARLY) == pytest.approx(0.005 / 5 / 2)
