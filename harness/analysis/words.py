"""Interventions in words: a scenario's name for one, a mapping, or a YAML file of them; arrays out of recordings.

What ``--intervene`` and a suite's ``intervene`` take.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.agent.agent import Agent
from harness.analysis.arrays import with_arrays
from harness.errors import HarnessError, InterventionError
from harness.intervention.build import build_intervention, named_spec
from harness.intervention.intervention import Intervention
from harness.scenario.load import scenario_names, scenario_path, where_in_file
from harness.scenario.problem import Problem
from harness.scenario.schema import Scenario
from harness.scenario.source import MAX_BYTES, Node, Place, Source, SourceProblem, read_tree

__all__ = ["cast_interventions"]

_FORM = "write it as {kind: KeyBlock, keys: [attack], at: 40}; docs/interventions.md lists the kinds"


@dataclass(frozen=True)
class _Wanted:
    """An intervention as a mapping; where it stands; the folder that its files are looked for in.

    ``folder`` None: nowhere. ``typed``: the user wrote it on the command line, so files may be anywhere.
    """

    spec: Mapping[str, Any]
    where: str | None
    folder: Path | None
    typed: bool = False


def cast_interventions(source: str, scenario: Scenario, agent: Agent, words: Sequence[str | Mapping[str, Any]], *,
                       lenient: bool = False, folder: Path | None = None) -> list[Intervention]:
    """The interventions that are asked for, built and checked, arrays out of recordings read.

    Args:
        source: The scenario's name or path, as it was given; a recording's path, where its header held the scenario.
        scenario: What it holds.
        agent: Who plays.
        words: What ``--intervene`` was given; mappings as they are.
        lenient: Build, but do not check against an agent without a network what acts inside one.
        folder: Where the recordings lie that a mapping names; None where no file may be opened.

    Raises:
        HarnessError: for a name that does not exist, what cannot be read or built, or does not fit agent or scenario.
    """
    built, fits = [], not lenient or bool(agent.hook_shapes())
    for word in words:
        for wanted in _wanted(source, scenario, word) if isinstance(word, str) else [_Wanted(word, None, folder)]:
            try:
                made = build_intervention(with_arrays(wanted.spec, wanted.folder, anywhere=wanted.typed,
                                                      agent=agent if fits else None))
                if fits or made.site in ("world", "input", "action"):
                    made.check(agent)
                made.check_scenario(scenario)
            except HarnessError as problem:
                problem.where = problem.where or wanted.where
                raise
            built.append(made)
    return built


def _wanted(source: str, scenario: Scenario, word: str) -> Iterator[_Wanted]:
    name = word.partition("@")[0]
    if word.lstrip().startswith("{"):
        text = Source("--intervene", word)
        yield _Wanted(_mapping(_tree(text)), f"--intervene {word}", Path(), typed=True)
    elif name not in scenario.interventions and (word.endswith((".yaml", ".yml")) or "/" in word or "\\" in word):
        path = Path(word)
        root = _tree(Source(word, _text(path)))
        for node in root.value if isinstance(root.value, list) else [root]:
            yield _Wanted(_mapping(node), _at(node.place), path.parent)
    else:
        where = where_in_file(source, ("interventions", name))
        yield _Wanted(named_spec(scenario, word, where=where), where, _folder(source))


def _folder(source: str) -> Path | None:
    """Where a scenario's file lies; None for one that is in a recording's header."""
    path = scenario_path(source) if source in scenario_names() else Path(source)
    return path.parent if path.is_file() else None


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InterventionError(f"{path} has more than {MAX_BYTES} bytes; that is no file of interventions")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or "it is no text in UTF-8"
        raise InterventionError(f"cannot read the interventions in {path}: {reason}", hint=_FORM) from problem


def _tree(source: Source) -> Node:
    """The YAML, with its places.

    Raises:
        InterventionError: for the first thing that is wrong in it.
    """
    try:
        root, found = read_tree(source)
    except SourceProblem as problem:
        raise _refusal(problem) from None
    if found:
        raise _refusal(found[0])
    return root


def _refusal(problem: SourceProblem) -> InterventionError:
    return InterventionError(problem.message, where=_at(problem.place), hint=problem.hint or _FORM)


def _mapping(node: Node) -> Mapping[str, Any]:
    value = node.plain()
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        raise InterventionError("expected an intervention, a mapping with its kind", where=_at(node.place), hint=_FORM)
    return value


def _at(place: Place | None) -> str | None:
    return Problem("", "", place).where
