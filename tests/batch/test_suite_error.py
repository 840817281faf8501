"""The committed simulation, in small: suites that change nothing and suites with a planted change."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "suite_error.py"


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("suite_error", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["suite_error"] = module
    spec.loader.exec_module(module)
    return module


def test_few_false_alarms_and_most_changes_found(simulation: ModuleType) -> None:
    shares = list(simulation.simulate(40, 20, 1))
    assert [share.at_most for share in shares] == [True, False, True, False]
    assert all(share.count <= 1 for share in shares[::2]), "0.2 are expected of 40; two or more come in 2 %"
    assert all(share.count >= 27 for share in shares[1::2]), "34 are expected of 40; 26 or fewer come in 0.2 %"
    assert [share.count for share in simulation.simulate(5, 20, 1)] == [
        share.count for share in simulation.simulate(5, 20, 1)]


def test_a_careless_judge_would_be_caught(simulation: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the correction for many claims, and at the usual 5 %, null suites raise alarms."""
    monkeypatch.setattr("harness.batch.judging.holm", lambda p_values: [p / 10 for p in p_values])
    alarms = next(simulation.simulate(12, 20, 1))
    assert alarms.count >= 3 and not alarms.kept
