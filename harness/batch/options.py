"""The keys of a suite that hold for the whole run: metrics, budget, time limit, retries, recordings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from harness.analysis.run import find_analysis
from harness.batch.metrics import COUNTS, OUTCOME, RATES, Metric
from harness.batch.suite import Budget, RecordingPolicy
from harness.errors import HarnessError, SuiteError, unknown_name
from harness.scenario.source import Entry, Place

__all__ = ["Options", "read_record"]

MOST_RETRIES = 100
_KEEP = ("all", "failures", "none")
_PARTS = ("step", "count")
_FORM = "for instance  {analysis: memory, options: {step: 40}, value: tables/0/rows/2/1, name: reach}"

Complain = Callable[[str, Place | None, str | None], None]


class Options:
    """Reads them; problems go to ``complain`` with their places."""

    def __init__(self, complain: Complain) -> None:
        self._complain = complain

    def read(self, top: Mapping[str, Entry]) -> dict[str, Any]:
        """The fields of a ``Suite`` that the file sets."""
        readers: dict[str, Callable[[Any], Any]] = {"metrics": _metrics, "budget": _budget, "timeout": _timeout,
                                                    "retries": _retries, "record": read_record}
        found = {}
        for key, reader in readers.items():
            if key in top:
                try:
                    found[key] = reader(top[key].node.plain())
                except HarnessError as problem:
                    self._complain(f"{key}: {problem.message}", top[key].node.place, problem.hint)
        return found


def _number(value: Any, what: str, least: float, most: float, *, whole: bool) -> Any:
    good = type(value) is int or (not whole and type(value) is float)
    if not good or not least <= value <= most:
        raise SuiteError(f"{what}expected a {'whole ' if whole else ''}number from {least:g} to {most:,g}, "
                         f"got {value!r}")
    return value


def _timeout(value: Any) -> float:
    return float(_number(value, "", 0.001, 1e9, whole=False))


def _retries(value: Any) -> int:
    return int(_number(value, "", 0, MOST_RETRIES, whole=True))


def _budget(value: Any) -> Budget:
    if not isinstance(value, dict) or not value:
        raise SuiteError("expected {trials: N}, {minutes: N} or both", hint="for instance  budget: {minutes: 30}")
    for key in value:
        if key not in ("trials", "minutes"):
            raise unknown_name("key", str(key), ("trials", "minutes"), error=SuiteError)
    trials, minutes = value.get("trials"), value.get("minutes")
    return Budget(None if trials is None else _number(trials, "trials: ", 1, 1e12, whole=True),
                  None if minutes is None else float(_number(minutes, "minutes: ", 0.001, 1e9, whole=False)))


def read_record(value: Any) -> RecordingPolicy:
    """Which recordings are kept, from ``all``, ``failures``, ``none``, or a mapping of ``keep``, ``first``, ``hooks``.

    Raises:
        SuiteError: for anything else.
    """
    given = value if isinstance(value, dict) else {"keep": value}
    for key in given:
        if key not in ("keep", "first", "hooks"):
            raise unknown_name("key", str(key), ("keep", "first", "hooks"), error=SuiteError)
    first, hooks = given.get("first"), given.get("hooks", [])
    hooks = [hooks] if isinstance(hooks, str) else hooks
    if not isinstance(hooks, list) or not all(isinstance(glob, str) for glob in hooks):
        raise SuiteError(f"hooks: expected a list of hook names or globs, got {hooks!r}")
    if first is not None:
        if "keep" in given:
            raise SuiteError("expected either keep or first, got both")
        return RecordingPolicy("first", _number(first, "first: ", 1, 1e9, whole=True), tuple(hooks))
    keep = given.get("keep")
    if keep not in _KEEP:
        raise SuiteError(f"expected all, failures, none or {{first: N}}, got {keep!r}",
                         hint="with hooks:  record: {keep: all, hooks: [\"blocks.*.attn.hook_pattern\"]}")
    return RecordingPolicy(keep, 0, tuple(hooks))


def _metrics(value: Any) -> tuple[Metric, ...]:
    if not isinstance(value, list) or not value:
        raise SuiteError("expected a list", hint=f"known: {', '.join((*RATES, *COUNTS))}, outcome:NAME, "
                                                 "outcome:NAME.step, outcome:NAME.count, or an analysis")
    found = [_metric(each) for each in value]
    for metric in found:
        if sum(metric.name == other.name for other in found) > 1:
            raise SuiteError(f"{metric.name} stands there twice", hint="give it another name: ...")
    return tuple(found)


def _metric(value: Any) -> Metric:
    if isinstance(value, dict):
        return _analysis(value)
    if not isinstance(value, str):
        raise SuiteError(f"expected a name, or a mapping with an analysis, got {value!r}", hint=_FORM)
    if value.startswith(OUTCOME):
        name, _, part = value.removeprefix(OUTCOME).partition(".")
        if not name or (part and part not in _PARTS):
            raise SuiteError(f"expected outcome:NAME, outcome:NAME.step or outcome:NAME.count, got {value}")
    elif value not in RATES and value not in COUNTS:
        raise unknown_name("metric", value, [*RATES, *COUNTS, OUTCOME + "NAME"], error=SuiteError)
    return Metric(value)


def _analysis(value: Mapping[str, Any]) -> Metric:
    keys = ("analysis", "options", "value", "name")
    for key in value:
        if key not in keys:
            raise unknown_name("key", str(key), keys, error=SuiteError)
    name, options, place = value.get("analysis"), value.get("options", {}), value.get("value")
    if not isinstance(name, str) or not isinstance(options, dict) or not isinstance(place, str) or not place:
        raise SuiteError("expected an analysis, its options, and the place of a value in its result", hint=_FORM)
    analysis = find_analysis(name)
    if analysis.n_recordings not in (1, None):
        raise SuiteError(f"the analysis {name} reads {analysis.n_recordings} recordings; a trial has one")
    for option in options:
        if option not in analysis.options:
            raise unknown_name(f"option of {name}", str(option), analysis.options, error=SuiteError)
    called = value.get("name", name)
    if not isinstance(called, str) or not re.fullmatch(r"[A-Za-z][\w.-]*", called):
        raise SuiteError(f"name: expected letters, digits and _ . -, got {called!r}")
    if called in RATES or called in COUNTS:
        raise SuiteError(f"name: {called} has a meaning of its own")
    return Metric(called, name, options, place)
