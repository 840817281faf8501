"""Ground truth: an agent with a planted rule loses what it is cut off from and keeps the rest; random cuts do nothing.

The cuts are those of ``benchmarks/causes.py``, whose table docs/interventions.md prints.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from harness.agent.load import load_agent
from harness.statistics import wilson

pytest.importorskip("torch")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FIRST = 700_000


@pytest.fixture(scope="module")
def causes() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("causes")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("cut", ["memory: cue's frame out, full", "feature: head 1.2 cut", "input: the cue's picture"])
def test_recall_loses_its_cue_and_nothing_else(causes: ModuleType, cut: str) -> None:
    """Half of the cues are red: without them it answers every time, and the same side."""
    (name, without), (_, control) = causes.rows("recall", range(FIRST, FIRST + 4), only=cut)
    assert name.startswith(cut)
    assert (without.caused, without.kept) == (2, 4) and (control.caused, control.kept) == (4, 4)


def test_planted_without_leaves_in_its_picture_spares_the_stand(causes: ModuleType) -> None:
    agent, seeds = load_agent("planted", device="cpu"), range(500_000, 500_004)
    painted = next(cut for cut in causes.planted_cuts(agent) if cut.site == "input")
    assert causes.attacked(agent, lambda seed: (painted.edit,), seeds) <= 1
    assert causes.attacked(agent, lambda seed: (painted.control(seed),), seeds) >= 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("agent", "at_most"), [("recall", 0.8), ("planted", 0.4)])
def test_every_cut_with_intervals(causes: ModuleType, agent: str, at_most: float) -> None:
    """What is left of a lost rule: chance for recall, little for planted; all else stays above 0.6."""
    (_, plain), *rest = causes.rows(agent, range(FIRST, FIRST + 20))
    assert wilson(plain.caused, 20)[0] > 0.75
    for name, counts in rest:
        if name.endswith("control"):
            assert wilson(counts.caused, 20)[0] > 0.6, rest
        else:
            assert wilson(counts.caused, 20)[1] < at_most, name
        assert wilson(counts.kept, 20)[0] > 0.6, name
