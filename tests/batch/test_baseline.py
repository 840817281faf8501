"""Baselines: what is compared, what is refused and with which words, and files that are no baseline."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.batch.baseline import (
    Baseline,
    ChangedError,
    baseline_path,
    make_baseline,
    read_baseline,
    write_baseline,
)
from harness.batch.claims import BASELINE, Claim
from harness.errors import SuiteError

CELL = "target=villager, agent=tiny"
CLAIMS = [Claim("held", CELL, "equal", BASELINE)]
AGENT = {"name": "tiny", "class": "VPTAgent", "weights": "/here/w", "weights_digest": "a" * 64, "torch_threads": 1}
KEY = {"format": 1, "scenario": {"world": 1}, "agent": AGENT, "steps": 8, "batch": 16, "harness": "0.1.0",
       "torch": "2.6", "cpu_capability": "AVX2"}


def approved(folder: Path) -> Baseline:
    path = baseline_path(folder / "tiny.yaml")
    write_baseline(make_baseline("tiny", {CELL: KEY}, {"held": {CELL: {41: 1.0, 40: 0.5}}}, command="harness batch x"),
                   path)
    return read_baseline(path)


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    found = approved(tmp_path)
    assert found.path == tmp_path / "tiny.baseline.json" and found.suite == "tiny"
    assert found.samples == {"held": {CELL: {40: 0.5, 41: 1.0}}}
    assert found.about["command"] == "harness batch x" and found.about["provenance"]["packages"]["torch"]
    assert len(found.about["suite_digest"]) == 64 and found.about["when"].endswith("+00:00")
    assert found.check("tiny", CLAIMS, {CELL: KEY}) == ""
    assert "/here" not in found.path.read_text() and [p.name for p in tmp_path.iterdir()] == ["tiny.baseline.json"]


def test_another_environment_is_noted_and_compared(tmp_path: Path) -> None:
    note = approved(tmp_path).check("tiny", CLAIMS, {CELL: {**KEY, "torch": "2.7", "batch": 8, "agent": {
        **AGENT, "weights": "/there/w", "torch_threads": 2}}})
    assert "torch was 2.6 when the baseline was approved and is 2.7 now" in note
    assert "batch was 16" in note and "torch_threads was 1" in note and "may flip" in note and "weights" not in note


def test_other_weights_are_refused_until_the_user_says_so(tmp_path: Path) -> None:
    found = approved(tmp_path)
    keys = {CELL: {**KEY, "agent": {**AGENT, "weights_digest": "b" * 64}}}
    with pytest.raises(ChangedError) as caught:
        found.check("tiny", CLAIMS, keys)
    assert caught.value.exit_code == 1
    for part in ("nothing was compared", "the agent tiny has other weights (aaaaaaaaaaaa... approved, bbbbbbbbbbbb...",
                 "--across agent", "--approve"):
        assert part in str(caught.value)
    assert "other weights" in found.check("tiny", CLAIMS, keys, across=["agent"])
    with pytest.raises(ChangedError, match=r"harness 0\.1\.0 was approved, and this is 0\.2\.0[\s\S]*--across version"):
        found.check("tiny", CLAIMS, {CELL: {**KEY, "harness": "0.2.0"}}, across=["agent"])


@pytest.mark.parametrize(("change", "message"), [
    ({"scenario": {"world": 2}}, "the scenario of the cell"), ({"steps": 9}, r"the steps of the cell .* \(8 in the ba"),
    ({"episodes": 2}, "the episodes of the cell")])
def test_another_question_is_refused(tmp_path: Path, change: Mapping[str, Any], message: str) -> None:
    with pytest.raises(SuiteError, match=f"answers another question[\\s\\S]*{message}") as caught:
        approved(tmp_path).check("tiny", CLAIMS, {CELL: {**KEY, **change}}, across=["agent", "version"])
    assert caught.value.exit_code == 2 and "tiny.baseline.json" in str(caught.value)


def test_a_foreign_baseline_is_refused(tmp_path: Path) -> None:
    found = approved(tmp_path)
    with pytest.raises(SuiteError, match="a baseline of the suite 'tiny', not of 'other'"):
        found.check("other", CLAIMS, {CELL: KEY})
    with pytest.raises(SuiteError, match=r"no cell \[target=trunk, agent=tiny\]; it has \[target=villager"):
        found.check("tiny", [Claim("held", "target=trunk, agent=tiny", "equal", BASELINE)], {})
    with pytest.raises(SuiteError, match="has no damage of the cell"):
        found.check("tiny", [Claim("damage", CELL, "equal", BASELINE)], {CELL: KEY})
    assert found.check("tiny", [Claim("damage", "target=trunk, agent=tiny", "at_most", 1.0)], {}) == ""


def edited(**change: Any) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), **change})


@pytest.mark.parametrize(("damage", "message"), [
    (lambda text: text[:-9], "damaged: it is no JSON"), (lambda text: "[]", "this is no baseline"),
    (edited(format=99), "has format 99, and this version of Harness reads 1"),
    (edited(samples={"held": {CELL: {"x": 1}}}), "damaged: ValueError"), (edited(cells=[]), "damaged: AttributeError"),
    (edited(samples={"held": {"target=x": {"1": 1}}}), "the unknown cell target=x"),
    (lambda text: json.dumps({"format": 1}), "damaged: KeyError")])
def test_damaged_files_are_told(tmp_path: Path, damage: Callable[[str], str], message: str) -> None:
    path = approved(tmp_path).path
    assert path is not None
    path.write_text(damage(path.read_text()))
    with pytest.raises(SuiteError, match=message) as caught:
        read_baseline(path)
    assert "tiny.baseline.json" in str(caught.value)


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="cannot read the baseline: No such file"):
        read_baseline(tmp_path / "none.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(SuiteError, match="cannot write the baseline"):
        write_baseline(Baseline("tiny", {}, {}, {}), tmp_path / "file" / "x.json")
