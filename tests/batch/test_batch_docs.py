"""docs/batch.md: its example loads and runs, and every key, figure and share is on the page."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from harness.batch.load import CELL_KEYS, TOP_KEYS, parse_suite
from harness.batch.metrics import APPROACHED, COUNTS, HELD, RATES, Measured
from harness.batch.runner import BATCH

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "batch.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    return str(re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0])


def test_the_example_loads() -> None:
    suite = parse_suite(block("yaml"))
    assert [cell.title for cell in suite.cells] == ["villager, oak_leaves", "villager, none", "trunk, oak_leaves"]


def test_the_example_with_interventions_loads() -> None:
    suite = parse_suite(re.findall(r"^```yaml\n(# cuts.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0])
    assert len(suite.cells) == 6 and suite.budget.minutes == 30 and suite.record.first == 2
    assert all(cell.intervene for cell in suite.cells if cell.labels["cut"] != "whole")


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
                                ) -> None:
    monkeypatch.chdir(tmp_path)
    text = block("yaml").replace("agent: vpt-nano", "agent: noop").replace("steps: 200", "steps: 4")
    (tmp_path / "leaves.yaml").write_text(text)
    exec(compile(block("python"), "docs/batch.md", "exec"), {})
    assert "villager, oak_leaves 0/2 0% [0, 66]" in capsys.readouterr().out


def test_everything_is_documented() -> None:
    words = {*TOP_KEYS, *CELL_KEYS, *RATES, *COUNTS, *(field.name for field in fields(Measured))}
    assert not [word for word in words if f"`{word}`" not in PAGE]
    assert f"within {APPROACHED:.0f} blocks" in PAGE and f"at least {HELD} contact ticks" in PAGE
    assert f"plays {BATCH} episodes at a time" in PAGE
