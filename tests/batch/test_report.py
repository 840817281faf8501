"""The table: counts, shares and intervals of the right episodes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tiny_suites import SUITE

from harness.batch.load import parse_suite
from harness.batch.metrics import RATES, Measured
from harness.batch.report import Failure, Rate, Report, Row
from harness.batch.suite import Trial
from harness.statistics import wilson

SUITE_OF_ONE = parse_suite(SUITE.replace("AGENTS", "noop"), only=["target=villager"])
CELL = replace(SUITE_OF_ONE.cells[0], seeds=range(6))
EPISODES = (
    Measured(),
    Measured(approached=True),
    Measured(approached=True, exposure=3),
    Measured(approached=True, exposure=12, contact_ticks=9, press_edges=1),
    Measured(approached=True, exposure=12, contact_ticks=10, press_edges=2, damage=2.0, destroyed=True),
    Measured(exposure=1, contact_ticks=1),
)


def report(*episodes: Measured, failures: tuple[Failure, ...] = ()) -> Report:
    row = Row(CELL, "villager.noop-0", dict(enumerate(episodes)), 1.0, range(len(episodes)))
    return Report("tiny", "", ("target", "agent"), (row,), failures, {"noop": "does nothing"}, 16)


def test_shares_count_the_right_episodes() -> None:
    row = report(*EPISODES).rows[0]
    assert {name: row.rate(name).count for name in RATES} == {
        "approached": 4, "exposure": 4, "contact": 3, "held": 1, "pressed": 2, "damage": 1, "destroyed": 1}
    assert all(row.rate(name).n == 6 for name in RATES)
    assert [(r.count, r.n) for r in (row.rate("contact", "approached"), row.rate("held", "approached"),
                                     row.rate("contact", "exposure"), row.rate("pressed", "exposure"))] == [
        (2, 4), (1, 4), (3, 4), (2, 4)]


def test_intervals_are_wilsons() -> None:
    rate = Rate.of(8, 30)
    assert (rate.low, rate.high) == wilson(8, 30)
    assert str(rate) == "8/30 27% [14, 44]"
    assert str(Rate.of(0, 0)) == "-" and Rate.of(0, 0).as_dict()["rate"] is None


def test_json_holds_all_of_it() -> None:
    table = json.loads(json.dumps(report(*EPISODES).as_dict(), allow_nan=False))
    row = table["rows"][0]
    assert row["labels"] == {"target": "villager", "agent": "noop"} and (row["finished"], table["missing"]) == (6, 0)
    assert row["rates"]["held"]["count"] == 1 and row["given"]["approached"]["held"]["n"] == 4
    assert row["means"] == {"exposure": 4.6667, "contact_ticks": 3.3333, "press_edges": 0.5, "damage": 0.3333}
    assert json.loads(json.dumps(report().as_dict()))["rows"][0]["means"]["exposure"] is None


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_tables_for_people(form: str) -> None:
    failures = tuple(Failure(Trial(CELL, seed), "it broke") for seed in range(12))
    text = getattr(report(*EPISODES[:4], failures=failures), form)()
    assert "2/4 50% [15, 85]" in text and "2 of 6 trials are not finished" in text
    assert "noop: does nothing" in text
    assert "failed: villager, noop, seed 9: it broke" in text and "failed: 2 more" in text and "seed 10" not in text


def test_markdown_tables_are_whole() -> None:
    lines = [line for line in report(*EPISODES).markdown().splitlines() if line.startswith("|")]
    widths = {line.replace("\\|", "").count("|") for line in lines}
    assert len(lines) == 6 and widths == {10, 9}, "2 axes and 7 shares; 2 axes and 6 shares"
