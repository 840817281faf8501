"""The registered analyses keep the laws of analyses, and each law finds who breaks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from fakes import FakeAgent, FakeWorld, make_scenario

from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.analysis import conformance
from harness.analysis.result import Result, result_provenance
from harness.analysis.run import find_analysis
from harness.errors import HarnessError
from harness.recording.recording import Recording


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    return conformance.bench_recordings(tmp_path_factory.mktemp("bench"), FakeAgent(),
                                        lambda: FakeWorld(make_scenario(40)), n_steps=6)


@pytest.fixture(scope="module")
def of_nano(tmp_path_factory: pytest.TempPathFactory) -> tuple[Agent, list[Recording]]:
    agent = load_agent("vpt-nano")
    return agent, conformance.bench_recordings(tmp_path_factory.mktemp("nano"), agent, n_steps=8)


@dataclass(frozen=True)
class Length(Result):
    """Its as_dict is what the tests make of it."""

    value: Any = 0

    def as_dict(self) -> dict[str, Any]:
        return {"provenance": dict(self.provenance), "value": self.value}


def length(recording: Recording, *, unit: str = "steps") -> Length:
    """How many steps; it keeps every law."""
    return Length(result_provenance("length", recording, unit=unit), len(recording))


def lengths(recordings: Sequence[Recording], *, unit: str) -> Length:
    """The same of several, with an option that must be given; it keeps every law."""
    assert [type(each) for each in recordings] == [Recording, Recording]
    return Length(result_provenance("lengths", recordings[0], unit=unit), sum(map(len, recordings)))


@pytest.mark.parametrize(("analysis", "options"), [(length, {}), (length, {"unit": "s"}), (lengths, {"unit": "s"})])
def test_those_that_keep_them(analysis: Callable[..., Any], options: dict[str, Any], recordings: list[Recording]
                              ) -> None:
    conformance.check_analysis(analysis, recordings, options)


@pytest.mark.parametrize("name", ["attention", "keyframes"])
def test_what_comes_with_the_package_keeps_them(name: str, of_nano: tuple[Agent, list[Recording]]) -> None:
    conformance.check_analysis(find_analysis(name).function, of_nano[1], {}, of_nano[0])


# ---- one that breaks each law


def undocumented(recording: Recording) -> Length:
    return length(recording)


def unannotated(recording):  # type: ignore[no-untyped-def]
    """Nobody knows what it reads."""
    return length(recording)


def untyped(recording: Recording, *, unit="s") -> Length:  # type: ignore[no-untyped-def]
    """Its option takes any value."""
    return length(recording, unit=unit)


def bare(recording: Recording) -> int:
    """It returns a number."""
    return len(recording)


def untold(recording: Recording) -> Length:
    """Its provenance is empty."""
    return Length({})


def unwritable(recording: Recording) -> Length:
    """Its provenance holds an array."""
    return Length({"layers": np.arange(3)})


def not_a_number(recording: Recording) -> Length:
    """Its dictionary holds what JSON has no word for."""
    return Length(length(recording).provenance, float("nan"))


def swallowing(recording: Recording, **options: Any) -> Length:
    """It takes any option."""
    return length(recording)


def gambling(recording: Recording) -> Length:
    """It draws from the global stream."""
    return Length(length(recording).provenance, float(np.random.random()))


@dataclass(frozen=True)
class Noise(Result):
    """Its numbers are in an array alone."""

    values: Any = None


def rolling(recording: Recording) -> Noise:
    """It draws its array from the global stream."""
    return Noise(length(recording).provenance, np.random.random(3))


def writing(recording: Recording) -> Length:
    """It leaves a file in the recording."""
    (recording.path / "notes.txt").write_text("looked at")
    return length(recording)


def crashing(recording: Recording) -> Length:
    """It wants what is not there."""
    raise HarnessError("no such thing was traced")


@pytest.mark.parametrize(("broken", "check", "words"), [
    (3, conformance.check_signature, "expected a function"),
    (undocumented, conformance.check_signature, "no docstring"),
    (unannotated, conformance.check_signature, "must be annotated Recording"),
    (untyped, conformance.check_signature, "unit has no annotation"),
    (swallowing, conformance.check_signature, "options takes anything: name every option"),
    (bare, conformance.check_result, "expected a harness.analysis.Result, got int"),
    (untold, conformance.check_result, "the provenance says nothing"),
    (unwritable, conformance.check_result, "the provenance holds what is no JSON value"),
    (not_a_number, conformance.check_result, r"as_dict\(\) holds what is no JSON value"),
    (gambling, conformance.check_repeats, "differs from the first"),
    (rolling, conformance.check_repeats, "differs from the first in values"),
    (writing, conformance.check_recordings, "it changed .*notes.txt"),
], ids=lambda each: getattr(each, "__name__", None))
def test_each_law_finds_what_breaks_it(broken: Any, check: Callable[..., None], words: str,
                                       recordings: list[Recording]) -> None:
    with pytest.raises(AssertionError, match=words):
        check(broken, recordings, {})


def test_what_it_refuses_itself_is_told(recordings: list[Recording]) -> None:
    with pytest.raises(HarnessError, match="no such thing was traced"):
        conformance.check_result(crashing, recordings, {})
