"""What lies in a suite's folder, read and told, JUnit among it: only what is whole and asked for counts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fake_results import AGENT, result, write_cell, write_json, write_suite

from harness.batch.films import choices
from harness.batch.junit import junit_xml
from harness.batch.results import read_summary
from harness.batch.verdicts import VERDICTS, Verdict, keep_verdicts, told
from harness.errors import SuiteError
from harness.statistics import Interval, wilson

CELLS = {"villager-0a": {"target": "villager"}, "trunk-0b": {"target": "trunk"}}
FAILS = Verdict("held [target=trunk] is as approved", "held", ("target=trunk",), 4, estimate=-0.5,
                interval=Interval(-0.8, -0.1), p_adjusted=0.01, passed=False, flipped=(1, 3),
                reason="2 of 4 where 4 of 4 were", replay="harness run x")


def metrics(held: int, ticks: float = 3.0) -> dict[str, float]:
    return {"approached": 1.0, "held": float(held), "contact_ticks": ticks}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    held = {"villager-0a": (0, 0, 0, 1), "trunk-0b": (1, 0, 1, 0)}
    for cell, labels in CELLS.items():
        write_cell(tmp_path, cell, labels, [result(cell, labels, seed, metrics(one, 3.0 + seed), n_steps=100 - seed)
                                            for seed, one in enumerate(held[cell])])
    write_suite(tmp_path, CELLS, range(4))
    return tmp_path


def test_shares_and_means_with_their_intervals(folder: Path) -> None:
    summary = read_summary(folder)
    villager, trunk = summary.rows
    assert (villager.rate("held").count, trunk.rate("held").count) == (1, 2)
    assert (villager.rate("held").low, villager.rate("held").high) == wilson(1, 4)
    mean = summary.figure(trunk, "contact_ticks")
    assert mean.value == 4.5 and mean.low is not None and 3.0 <= mean.low < 4.5
    assert summary.shares >= {"held", "approached"} and "contact_ticks" not in summary.shares
    assert (summary.headline, summary.state, summary.missing) == ("All 8 trials are finished", "holds", 0)
    assert "2/4 50% [15, 85]" in summary.text() and "| trunk |" in summary.markdown()
    assert json.loads(json.dumps(summary.as_dict(), allow_nan=False))["rows"][1]["rates"]["held"]["count"] == 2


def test_only_what_is_whole_and_asked_for_counts(folder: Path) -> None:
    cell, labels = "trunk-0b", CELLS["trunk-0b"]
    trials = folder / "trials" / cell
    (trials / "0" / "result.json").write_text('{"format": 2, "se')
    write_json(trials / "1" / "result.json", {**result(cell, labels, 1, metrics(1)), "seed": 2})
    write_json(trials / "2" / "result.json", {**result(cell, labels, 2, metrics(1)), "format": 1})
    write_json(trials / "9" / "result.json", result(cell, labels, 9, metrics(1)))
    (trials / "7").symlink_to(trials / "3")
    (trials / "5").mkdir()
    summary = read_summary(folder)
    assert list(summary.rows[1].finished) == [3] and summary.damaged == 3
    assert summary.missing == 3 and summary.state == "open"
    assert "3 result files cannot be read" in summary.text()


def test_names_in_files_lead_nowhere(folder: Path) -> None:
    write_suite(folder, {"../../etc": {"target": "x"}, **CELLS}, range(4))
    assert [row.id for row in read_summary(folder).rows] == list(CELLS)


@pytest.mark.parametrize("text", ["", "[]", '{"cells": 3, "axes": {}, "metrics": 1}', '{"cells": [{"id": 1}, 2]}', "["])
def test_a_damaged_suite_file_costs_only_what_it_says(folder: Path, text: str) -> None:
    (folder / "suite.json").write_text(text)
    assert read_summary(folder).n_finished == 8


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="no results of a suite here"):
        read_summary(tmp_path / "nothing")


def test_a_failed_trial_is_told_and_counts_for_nothing(folder: Path) -> None:
    write_json(folder / "trials" / "trunk-0b" / "0" / "result.json", result(
        "trunk-0b", CELLS["trunk-0b"], 0, metrics(1), status="timeout", problem="no answer"))
    summary = read_summary(folder)
    assert [str(failure) for failure in summary.failures] == ["trunk, seed 0 (timeout): no answer"]
    assert summary.rows[1].rate("held").n == 3 and summary.state == "fails"


def test_random_weights_are_said_wherever_the_agent_is_named(tmp_path: Path) -> None:
    labels = {"agent": "untrained.yaml"}
    write_cell(tmp_path, "u-0", labels, [result("u-0", labels, 0, metrics(0))],
               agent={**AGENT, "name": "untrained", "description": "random weights (seed 0)"})
    write_suite(tmp_path, {"u-0": labels}, [0])
    text = read_summary(tmp_path).text()
    assert "untrained (random weights)" in text


def test_verdicts_are_kept_and_told(folder: Path) -> None:
    keep_verdicts(folder, [FAILS], {"target=trunk": {"held": 1.0}})
    summary = read_summary(folder)
    assert summary.verdicts == (FAILS,) and summary.baseline == {"target=trunk": {"held": 1.0}}
    assert summary.headline == "1 of 1 claim fails"
    assert "-0.50 [-0.80, -0.10]" in summary.text() and "look at one: harness run x" in summary.text()
    assert summary.verdicts[0].numbers == "-0.50 [-0.80, -0.10], n = 4, p = 0.01 after correction"
    assert "| FAILED | held [target=trunk]" in summary.markdown()
    (folder / VERDICTS).write_text('{"verdicts": [{}]}')
    with pytest.raises(SuiteError, match="verdicts.json is damaged"):
        read_summary(folder)


def test_the_most_telling_episode(folder: Path) -> None:
    """Three of four villager episodes went without an attack; 98, 99 and 100 steps long."""
    chosen = choices(read_summary(folder))
    assert [(choice.cell, choice.seed) for choice in chosen] == [("villager-0a", 1), ("trunk-0b", 2)]
    assert "3 of 4 episodes went this way" in chosen[0].why
    keep_verdicts(folder, [FAILS], {})
    assert [(choice.cell, choice.seed) for choice in choices(read_summary(folder))][2:] == [("trunk-0b", 1)]


def test_junit_says_what_failed(folder: Path) -> None:
    undecided = Verdict("who knows", reason="too few \x00 seeds < 5")
    keep_verdicts(folder, [FAILS, undecided, Verdict("so it is", passed=True)], {})
    write_json(folder / "trials" / "trunk-0b" / "0" / "result.json", result(
        "trunk-0b", CELLS["trunk-0b"], 0, {}, status="failed", problem="ValueError: \x1b[31m]]>\nline 2"))
    root = ElementTree.fromstring(junit_xml(read_summary(folder)))
    (suite,) = root
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    cases = list(suite)
    for element in (root, suite):
        assert element.attrib["tests"] == str(len(cases)) == "5"
        assert (element.attrib["failures"], element.attrib["errors"], element.attrib["skipped"]) == ("1", "2", "1")
    assert all(case.tag == "testcase" and case.attrib["name"] and case.attrib["classname"].startswith("fake.")
               and re.fullmatch(r"\d+\.\d{3}", case.attrib["time"]) and len(case) <= 1 for case in cases)
    assert {child.tag for case in cases for child in case} == {"failure", "error", "skipped"}
    assert all(set(child.attrib) == ({"message"} if child.tag == "skipped" else {"message", "type"})
               for case in cases for child in case)
    (failure,) = suite.iter("failure")
    assert failure.attrib["message"] == FAILS.reason
    assert "1, 3" in str(failure.text) and "harness run x" in str(failure.text)
    error = [each for each in suite.iter("error") if each.attrib["type"] == "failed"]
    assert error[0].attrib["message"] == "ValueError: \ufffd[31m]]>"


def test_what_is_undecided_is_told_while_it_is_little() -> None:
    failed, open_ = Verdict("a", passed=False, reason="less"), Verdict("b", reason="too few seeds")
    assert told([open_, failed]) == [str(failed), str(open_)]
    many = told([*[open_] * 32, failed])
    assert many[0] == str(failed) and len(many) == 12 and many[-1] == "undecided: 22 more"
