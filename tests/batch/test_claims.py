"""The keys of a suite file that claim something: what they select, and every mistake with its line."""

from __future__ import annotations

import pytest
from tiny_suites import SUITE

from harness.batch.claims import BASELINE, Claim, Statistics
from harness.batch.load import SuiteFileError, parse_suite

TEXT = SUITE.replace("AGENTS", "noop, random")


def claims(rows: str) -> list[str]:
    return [str(claim) for claim in parse_suite(TEXT + rows).claims]


def test_a_hypothesis_compares_each_cell_with_the_same_cell_changed() -> None:
    found = parse_suite(TEXT + "hypotheses:\n  - {metric: held, in: {target: villager}, at_least: {target: trunk}, "
                               "by: 0.3}\n").claims
    assert found == tuple(Claim("held", f"target=villager, agent={agent}", "at_least", f"target=trunk, agent={agent}",
                                0.3) for agent in ("noop", "random"))
    assert str(found[0]) == ("held of [target=villager, agent=noop] is at least that of [target=trunk, agent=noop] "
                             "plus 0.3")


def test_without_in_every_cell_is_meant_but_not_against_itself() -> None:
    assert claims("hypotheses:\n  - {metric: held, at_most: {agent: noop}, by: 0.1}\n") == [
        f"held of [target={target}, agent=random] is at most that of [target={target}, agent=noop] less 0.1"
        for target in ("villager", "trunk")]


def test_expectations_and_tolerances() -> None:
    found = parse_suite(TEXT + """\
tolerance: {contact_ticks: 5, held: 0.1}
expect:
  - {metric: [held, contact], in: {target: trunk, agent: [noop]}, equal: baseline}
  - {metric: held, in: {agent: noop, target: villager}, at_least: baseline}
  - {metric: held, in: {agent: random, target: villager}, at_most: 0.25}
  - {metric: contact_ticks, in: {agent: random, target: trunk}, different: baseline, tolerance: 2}
  - {metric: contact, in: {agent: random, target: trunk}, equal: 0.5, tolerance: 0.2}
""").claims
    assert [(c.metric, c.relation, c.reference, c.margin) for c in found] == [
        ("held", "equal", BASELINE, 0.1), ("contact", "equal", BASELINE, 0.0), ("held", "at_least", BASELINE, -0.1),
        ("held", "at_most", 0.25, 0.0), ("contact_ticks", "different", BASELINE, 2.0), ("contact", "equal", 0.5, 0.2)]
    assert [str(c).partition("] is ")[2] for c in found[:1] + found[2:5]] == [
        "equal to the baseline, give or take 0.1", "at least the baseline less 0.1", "at most 0.25",
        "different from the baseline by more than 2"]
    everywhere = claims("tolerance: 0.2\nexpect:\n  - {metric: held, in: {agent: noop}, equal: baseline}\n")
    assert everywhere[0].endswith("give or take 0.2")


def test_rules() -> None:
    assert parse_suite(TEXT).statistics == Statistics() and parse_suite(TEXT).claims == ()
    found = parse_suite(TEXT + "statistics: {family_error: 0.05, power: 0.8, correction: bh, sequential: true, "
                               "block: 5}\n").statistics
    assert found == Statistics(0.05, 0.8, "bh", True, 5)


def test_claims_of_cells_that_are_not_played_are_left_out() -> None:
    text = TEXT + ("hypotheses:\n  - {metric: held, in: {target: villager}, at_least: {target: trunk}}\n"
                   "expect:\n  - {metric: held, equal: baseline}\n")
    assert len(parse_suite(text).claims) == 6
    assert [c.cell for c in parse_suite(text, only=["target=trunk"]).claims] == [
        "target=trunk, agent=noop", "target=trunk, agent=random"]


ROW = "hypotheses:\n  - {metric: held, in: {target: villager}, at_least: {target: trunk}, by: 0.3}\n"
MISTAKES = {
    "unknown metric": (("metric: held", "metric: hled"), 'unknown metric in hypotheses: "hled"', "15:14", "'held'"),
    "unknown key": (("by: 0.3", "bey: 0.3"), 'unknown key in hypotheses: "bey"', "15:71", "by"),
    "unknown axis": (("in: {target", "in: {tarjet"), 'unknown axis in hypotheses: in: "tarjet"', "15:25", "target"),
    "unknown value": (("villager}, at", "vilager}, at"), "target has no 'vilager'", "15:33", "did you mean 'villager'"),
    "no relation": (("at_least: {target: trunk}, ", ""), "a row needs a metric and one of at_least", "15:5", "metric"),
    "a word for a number": (("by: 0.3", "by: much"), "hypotheses: by: expected a number", "15:75", ""),
    "a cell that is not there": (("at_least: {target: trunk}", "at_least: {agent: absent}"), "agent has no 'absent'",
                                 "15:62", "known: noop, random"),
    "itself": (("target: trunk}, by", "target: villager}, by"), "compares every cell with itself", "15:5", "in:"),
    "a number": (("at_least: {target: trunk}", "at_least: 0.5"), "at_least: expected axes and their values", "15:54",
                 "target: villager"),
    "no list": (("  - {metric", "  {metric"), "hypotheses: expected a list of rows", "15:3", "for instance"),
    "nothing is equal": (("at_least: {target: trunk}, by: 0.3", "equal: {target: trunk}"), "equal needs a tolerance",
                         "15:44", "tolerance: 0.1"),
    "by of an equality": (("at_least", "equal"), "by goes with at_least", "15:68", "tolerance"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_every_mistake_has_its_line(case: str) -> None:
    change, message, where, hint = MISTAKES[case]
    with pytest.raises(SuiteFileError) as caught:
        parse_suite(TEXT + ROW.replace(*change), name="mine.yaml")
    (problem,) = caught.value.problems
    assert message in problem.message and problem.where == f"mine.yaml:{where}" and hint in (problem.hint or "")


@pytest.mark.parametrize(("rows", "message"), [
    ("expect:\n  - {metric: held, equal: basline}\n", "expected a number or the word baseline"),
    ("expect:\n  - {metric: held, at_least: {target: trunk}}\n", "compares two cells stands under hypotheses"),
    ("expect:\n  - {metric: held, equal: baseline}\n  - {metric: held, equal: baseline}\n", "claimed twice"),
    ("tolerance: {hled: 1}\n", 'unknown key in tolerance: "hled"'),
    ("tolerance: -1\n", "tolerance: expected a number of at least 0"),
    ("statistics: {family_error: 0}\n", "family_error: expected a number between 0 and 0.5"),
    ("statistics: {correction: none}\n", "correction: expected holm or bh"),
    ("statistics: {sequential: 1}\n", "sequential: expected true or false"),
    ("statistics: {blok: 1}\n", 'unknown key in statistics: "blok"'),
    ("exclude:\n  - {target: trunk, agent: noop}\nexpect:\n"
     "  - {metric: held, in: {target: trunk, agent: noop}, equal: baseline}\n", "no cell has these values together"),
    ("exclude:\n  - {target: trunk, agent: noop}\nhypotheses:\n"
     "  - {metric: held, in: {target: villager}, at_least: {target: trunk}}\n",
     r"there is no cell \[target=trunk, agent=noop\]"),
])
def test_other_mistakes(rows: str, message: str) -> None:
    with pytest.raises(SuiteFileError, match=message):
        parse_suite(TEXT + rows)


SCENES = """\
labels: [scene]
defaults: {agent: noop, seeds: 3, steps: 4}
matrix: {scene: [villager, treechop]}
include:
  - {scene: villager, scenario: villager}
  - {scene: treechop, scenario: treechop}
metrics: [held, "outcome:mined_log", "outcome:collected_log"]
"""


def test_outcomes_are_claimed_of_cells_without_a_target() -> None:
    found = parse_suite(SCENES + "expect:\n  - {metric: [held, \"outcome:mined_log\"], equal: baseline}\n").claims
    assert [(claim.metric, claim.cell) for claim in found] == [
        ("held", "scene=villager"), ("outcome:mined_log", "scene=villager"), ("outcome:mined_log", "scene=treechop")]


@pytest.mark.parametrize(("rows", "message"), [
    ("expect:\n  - {metric: held, in: {scene: treechop}, equal: baseline}\n", "none of these cells has a held"),
    ("expect:\n  - {metric: contact, equal: baseline}\n", 'unknown metric in expect: "contact"'),
    ("hypotheses:\n  - {metric: \"outcome:collected_log\", in: {scene: treechop}, at_least: {scene: villager}}\n",
     r"\[scene=villager\] has no outcome:collected_log to compare \[scene=treechop\] with"),
])
def test_what_a_cell_lacks_is_not_claimed(rows: str, message: str) -> None:
    with pytest.raises(SuiteFileError, match=message):
        parse_suite(SCENES + rows)


def test_cells_without_a_common_seed_are_not_compared() -> None:
    text = TEXT.replace("steps: 5}", "steps: 5, seeds: {first: 90, count: 5}}") + ROW
    with pytest.raises(SuiteFileError, match="have no seed in common"):
        parse_suite(text)
