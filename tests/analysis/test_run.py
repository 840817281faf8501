"""Analyses by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from harness.agent.agent import Agent
from harness.analysis.open_loop import Progress
from harness.analysis.result import Result, Table
from harness.analysis.run import find_analysis
from harness.errors import HarnessError
from harness.recording.recording import Recording
from harness.registry import TABLES, names
from harness.statistics import Interval


@dataclass(frozen=True)
class Said(Result):
    """What came in."""

    got: Any

    def tables(self) -> Sequence[Table]:
        return (Table("a title", ("n", "95 %"), ((1, Interval(0.0, 1.0)), (float("nan"), None))),)


def one(recording: Recording, *, agent: Agent, keys: tuple[str, ...] = ("attack",),
        between: tuple[int, int] | None = None,
        how: Literal["fast", "slow"] = "fast", progress: Progress | None = None) -> Said:
    """One recording."""
    return Said({}, (recording, agent, keys, between, how))


def pair(clean: Recording, corrupted: Recording, layer: int) -> Said:
    """Two recordings."""
    return Said({}, (clean, corrupted, layer))


def many(recordings: Sequence[Recording]) -> Said:
    """Any number."""
    return Said({}, list(recordings))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (one, pair, many):
        monkeypatch.setitem(TABLES["harness.analyses"], function.__name__, f"{__name__}:{function.__name__}")


A, B = object(), object()


def test_options_are_checked_against_annotations() -> None:
    found = find_analysis("one")
    got = found([A], {"keys": ["use"], "between": [2, 5], "how": "slow"}, agent=lambda: "the agent").got  # type: ignore
    assert got == (A, "the agent", ("use",), (2, 5), "slow")
    for options, word in (({"kexs": []}, "keys"), ({"between": [1]}, "between"), ({"how": "quick"}, "fast"),
                          ({"keys": 3}, "keys")):
        with pytest.raises(HarnessError, match=word):
            found([A], options, agent=lambda: "the agent")  # type: ignore[arg-type,list-item]


def test_recordings_are_counted() -> None:
    assert find_analysis("pair")([A, B], {"layer": 2}).got == (A, B, 2)  # type: ignore[attr-defined,list-item]
    assert find_analysis("many")([A, B, A], {}).got == [A, B, A]  # type: ignore[attr-defined,list-item]
    for name, given in (("pair", [A]), ("one", [A, B]), ("many", [])):
        with pytest.raises(HarnessError, match="reads"):
            find_analysis(name)(given, {})  # type: ignore[arg-type]


def test_an_option_without_a_default_is_asked_for() -> None:
    with pytest.raises(HarnessError, match="needs layer"):
        find_analysis("pair")([A, B], {})  # type: ignore[list-item]


def test_results_print_as_json() -> None:
    table = find_analysis("many")([A], {}).as_dict()["tables"][0]  # type: ignore[list-item]
    assert table["rows"] == [[1, [0.0, 1.0]], [None, None]]


def test_every_registered_analysis_keeps_the_contract() -> None:
    for name in names("harness.analyses"):
        assert find_analysis(name).summary.endswith((".", "?", ":")), name
