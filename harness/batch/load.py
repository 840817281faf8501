"""Suite files: find, read, combine and check them; every mistake has its line.

The matrix is that of GitHub Actions: every combination of the axes, less those that an ``exclude`` row matches; each
``include`` row adds its other keys to the combinations it matches, or is a combination of its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.agent.load import read_agent_definition
from harness.batch.claims import CLAIM_KEYS, Claim, Statistics, read_claims
from harness.batch.metrics import USUAL, Metric, Target, find_target
from harness.batch.options import Options
from harness.batch.suite import Cell, Suite
from harness.errors import AgentError, HarnessError, SuiteError, nearest_names, unknown_name
from harness.intervention.build import named_spec
from harness.provenance import digest
from harness.registry import data_dir, names
from harness.scenario.load import load_scenario, parse_value, scenario_names
from harness.scenario.problem import Problem, ScenarioFileError
from harness.scenario.schema import Scenario
from harness.scenario.source import MAX_BYTES, Entry, Node, Place, Source, SourceProblem, read_tree

__all__ = ["CELL_KEYS", "TOP_KEYS", "SuiteFileError", "find_suite", "load_suite", "parse_suite", "suite_names"]

TOP_KEYS = ("name", "description", "labels", "defaults", "matrix", "include", "exclude", "metrics", "budget", "timeout",
            "retries", "record", *CLAIM_KEYS)
CELL_KEYS = ("scenario", "agent", "steps", "seeds", "episodes", "intervene", "backend")
MOST_CELLS = 10_000
MOST_SEEDS = 1_000_000_000
MOST_EPISODES = 10_000
_SHAPED = ("seeds", "intervene")
"""Keys of a cell whose value may be more than a single one."""


class SuiteFileError(SuiteError):
    """A suite that cannot be loaded, with every problem found in one pass (``problems``)."""

    def __init__(self, problems: Sequence[Problem], name: str) -> None:
        self.problems = tuple(problems)
        total = [f"{len(problems)} problems in {name}"] if len(problems) > 1 else []
        super().__init__("\n".join([*(str(problem) for problem in problems), *total]))


def suite_names() -> list[str]:
    """The bundled suites."""
    return sorted(path.stem for path in (data_dir("scenarios") / "suites").glob("*.yaml"))


def load_suite(path_or_name: str | Path, *, only: Sequence[str] = ()) -> Suite:
    """Read a suite.

    Args:
        path_or_name: A bundled suite's name, or the path of a YAML file.
        only: ``AXIS=VALUE`` texts: keep the cells that have one of the values given for an axis, for every axis named.
            Agents of cells that are left out need not exist.

    Raises:
        SuiteError: listing every problem in the file, each with file, line and column.
    """
    path = find_suite(path_or_name)
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError as problem:
        raise SuiteError(f"cannot read the suite: {problem.strerror}", where=str(path)) from None
    if data is None:
        raise SuiteError(f"it has more than {MAX_BYTES} bytes; that is no suite", where=str(path))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise SuiteError(f"it is not a text file (byte {problem.start} is not UTF-8)", where=str(path)) from None
    return _Reader(Source(str(path), text), path.stem, path.parent).suite(only)


def parse_suite(text: str, *, name: str = "<text>", only: Sequence[str] = ()) -> Suite:
    """Read a suite from text; it may name bundled scenarios and agents only.

    Raises:
        SuiteError: as for ``load_suite``.
    """
    return _Reader(Source(name, text), "unnamed", None).suite(only)


def find_suite(path_or_name: str | Path) -> Path:
    """The file of a suite.

    Raises:
        SuiteError: when there is none.
    """
    text = str(path_or_name)
    if isinstance(path_or_name, str) and text in suite_names():
        return data_dir("scenarios") / "suites" / f"{text}.yaml"
    path = Path(path_or_name)
    if "\0" not in text and path.is_file():
        return path
    if "\0" not in text and path.is_dir():
        raise SuiteError(f"{text} is a folder; expected a suite's file or name",
                         hint=f"known suites: {', '.join(suite_names())}")
    problem = unknown_name("suite", text, suite_names())
    raise SuiteError(f"no suite file or name {text!r}", hint=problem.hint)


@dataclass(frozen=True)
class _Value:
    """A cell's value and where it comes from."""

    plain: Any
    node: Node
    key: Place


_Row = dict[str, _Value]


@dataclass
class _Combination:
    axes: _Row
    added: _Row = field(default_factory=dict)

    def all(self, defaults: _Row) -> _Row:
        return {**defaults, **self.axes, **self.added}


class _Reader:
    """One load: collects problems on the way."""

    def __init__(self, source: Source, stem: str, folder: Path | None) -> None:
        self.source, self.stem, self.folder = source, stem, folder
        self.problems: list[Problem] = []
        self.metrics: tuple[Metric, ...] = USUAL
        self._scenarios: dict[tuple[str, str], Scenario | None] = {}

    def complain(self, message: str, place: Place | None, hint: str | None = None) -> None:
        """Note a problem, once per place."""
        if not any(place is not None and known.place == place and known.message == message
                   for known in self.problems):
            self.problems.append(Problem("", message, place, hint))

    def stop(self) -> None:
        if self.problems:
            self.problems.sort(key=lambda p: (p.place.line, p.place.column) if p.place else (-1, -1))
            raise SuiteFileError(self.problems, self.source.name)

    def suite(self, only: Sequence[str]) -> Suite:
        top = self.top()
        name, description = self.text(top, "name", self.stem), self.text(top, "description", "")
        if not name or any(not (c.isascii() and (c.isalnum() or c in "_.-")) for c in name) or name[0] in ".-":
            self.complain("name: expected letters, digits and _ . -", top["name"].node.place if "name" in top else None)
        labels = self.labels(top.get("labels"))
        defaults = self.row(top["defaults"].node, "defaults") if "defaults" in top else {}
        axes = self.matrix(top)
        options = Options(self.complain).read(top)
        self.stop()
        combinations = self.combine(axes, self.rows(top, "exclude"), self.rows(top, "include"))
        self.stop()
        kept = _Selection(only, axes, combinations)
        self.metrics = options.get("metrics", USUAL)
        cells = [cell for combination in combinations
                 if (cell := self.cell(combination, list(axes), labels, defaults, kept(combination))) is not None]
        if not self.problems and "metrics" in top and not only:  # what is left out may have it
            self.unmeasured(cells, top["metrics"].node.place)
        claims, statistics = self.claims(top, combinations, cells)
        self.stop()
        return Suite(name, " ".join(description.split()), tuple(axes), tuple(cells), digest=digest(self.source.text),
                     claims=claims, statistics=statistics, **options)

    def claims(self, top: Mapping[str, Entry], combinations: Sequence[_Combination], cells: Sequence[Cell]
               ) -> tuple[tuple[Claim, ...], Statistics]:
        """The claims whose cells are played; two that are compared have seeds in common."""
        lacking = {(cell.name, metric.name) for cell in cells for metric in self.metrics
                   if not metric.measurable(cell.target, cell.scenario.outcomes)}
        every = [{axis: value.plain for axis, value in each.axes.items()} for each in combinations]
        claims, statistics = read_claims(top, every, [metric.name for metric in self.metrics], self.complain, lacking)
        seeds = {cell.name: set(cell.seeds) for cell in cells if claims}
        kept = tuple(claim for claim in claims if claim.cell in seeds and (claim.other or claim.cell) in seeds)
        for claim in kept:
            if claim.other and not seeds[claim.cell] & seeds[claim.other]:
                self.complain(f"hypotheses: [{claim.cell}] and [{claim.other}] have no seed in common", None,
                              "cells are compared seed by seed: give both the same")
        return kept, statistics

    def unmeasured(self, cells: Sequence[Cell], place: Place) -> None:
        """A metric that no cell has is a mistake; one that some lack is told in the report."""
        for metric in self.metrics:
            if any(metric.measurable(cell.target, cell.scenario.outcomes) for cell in cells):
                continue
            if metric.outcome is not None:
                self.unknown("outcome in metrics:", metric.outcome[0],
                             sorted({name for cell in cells for name in cell.scenario.outcomes}), place)
            else:
                self.complain(f"metrics: no scenario here has a target, so there is no {metric.name}", place,
                              "tag a creature, place a log, or name outcomes: outcome:NAME")

    # The file ------------------------------------------------------------------------------------------------------

    def top(self) -> dict[str, Entry]:
        try:
            root, found = read_tree(self.source)
        except SourceProblem as problem:
            place = problem.place or Place(self.source, 0, 0)
            raise SuiteFileError([Problem("", problem.message, place, problem.hint)], self.source.name) from None
        for flaw in found:
            self.complain(flaw.message, flaw.place, flaw.hint)
        if not isinstance(root.value, dict):
            self.complain("expected a mapping with the key matrix", root.place)
            self.stop()
        assert isinstance(root.value, dict)
        for key, entry in root.value.items():
            if key not in TOP_KEYS:
                self.unknown("key in a suite", key, TOP_KEYS, entry.key)
        return root.value

    def unknown(self, kind: str, name: str, known: Sequence[str], place: Place, hint: str = "") -> None:
        problem = unknown_name(kind, name, known)
        self.complain(problem.message, place, "; ".join(part for part in (problem.hint, hint) if part))

    def text(self, top: Mapping[str, Entry], key: str, otherwise: str) -> str:
        value = top[key].node.value if key in top else otherwise
        if not isinstance(value, str):
            self.complain(f"{key}: expected text", top[key].node.place)
            return otherwise
        return value

    def labels(self, entry: Entry | None) -> list[str]:
        if entry is None:
            return []
        found = entry.node.plain()
        if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
            self.complain("labels: expected a list of names", entry.node.place)
            return []
        for label in found:
            if label in CELL_KEYS:
                self.complain(f"labels: {label} has a meaning of its own", entry.node.place, "leave it out")
        return found

    def row(self, node: Node, what: str) -> _Row:
        if not isinstance(node.value, dict):
            self.complain(f"{what}: expected keys and values", node.place)
            return {}
        found = {}
        for key, entry in node.value.items():
            plain = entry.node.plain()
            if key in _SHAPED or isinstance(plain, str | int | float | bool):
                found[key] = _Value(plain, entry.node, entry.key)
            else:
                self.complain(f"{what}: {key}: expected a single value", entry.node.place)
        return found

    def rows(self, top: Mapping[str, Entry], key: str) -> list[tuple[Place, _Row]]:
        if key not in top:
            return []
        node = top[key].node
        if not isinstance(node.value, list):
            self.complain(f"{key}: expected a list of rows", node.place)
            return []
        found = []
        for child in node.value:
            row = self.row(child, key)
            if not row and isinstance(child.value, dict):
                self.complain(f"{key}: this row is empty", child.place)
            found.append((child.place, row))
        return found

    def matrix(self, top: Mapping[str, Entry]) -> dict[str, list[_Value]]:
        entry = top.get("matrix")
        if entry is None or not isinstance(entry.node.value, dict) or not entry.node.value:
            self.complain("the matrix is empty: expected axes, each with a list of values",
                          entry.key if entry else Place(self.source, 0, 0),
                          "for instance  matrix: {canopy: [oak_leaves, none]}")
            return {}
        axes: dict[str, list[_Value]] = {}
        for key, axis in entry.node.value.items():
            children = axis.node.value
            if not isinstance(children, list) or not children:
                self.complain(f"matrix: {key}: the axis is empty: expected a list of values", axis.key)
                continue
            axes[key] = []
            for child in children:
                plain = child.plain()
                if key not in _SHAPED and not isinstance(plain, str | int | float | bool):
                    self.complain(f"matrix: {key}: expected single values", child.place)
                elif any(_same(plain, known.plain) for known in axes[key]):
                    self.complain(f"matrix: {key}: {plain!r} stands there twice", child.place)
                axes[key].append(_Value(plain, child, axis.key))
        if math.prod(len(axis) for axis in axes.values()) > MOST_CELLS:
            self.complain(f"the matrix has more than {MOST_CELLS:,} combinations", entry.key)
            return {}
        return axes

    # The matrix ----------------------------------------------------------------------------------------------------

    def combine(self, axes: Mapping[str, list[_Value]], exclude: list[tuple[Place, _Row]],
                include: list[tuple[Place, _Row]]) -> list[_Combination]:
        every = [_Combination(dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]
        left = list(every)
        for place, row in exclude:
            if not self.known_axes("exclude", row, axes):
                continue
            matched = {id(c) for c in every if _matches(row, c.axes)}
            if not matched:
                self.complain("exclude: this row matches no combination", place, _odd_one(row, axes))
            left = [c for c in left if id(c) not in matched]
        own: list[_Combination] = []
        for place, row in include:
            if not row:
                continue
            given = {key: value for key, value in row.items() if key in axes}
            more = {key: value for key, value in row.items() if key not in axes}
            matched_here = [c for c in left if _matches(given, c.axes)]
            for combination in matched_here:
                combination.added |= more
            if not matched_here and len(given) == len(axes):
                own.append(_Combination({axis: given[axis] for axis in axes}, more))
            elif not matched_here:
                self.complain("include: this row matches no combination", place, "; ".join(filter(None, (
                    _odd_one(given, axes), f"a row that adds a combination names every axis: {', '.join(axes)}"))))
        if not left and not own:
            self.complain("the matrix is empty: everything is excluded", exclude[0][0] if exclude else None)
        return [*left, *own]

    def known_axes(self, what: str, row: _Row, axes: Mapping[str, Any]) -> bool:
        for key, value in row.items():
            if key not in axes:
                self.unknown(f"axis in {what}:", key, list(axes), value.key)
        return bool(row) and all(key in axes for key in row)

    # Cells ---------------------------------------------------------------------------------------------------------

    def cell(self, combination: _Combination, axes: list[str], labels: list[str], defaults: _Row, kept: bool
             ) -> Cell | None:
        row = combination.all(defaults)
        before = len(self.problems)
        scenario = self.scenario(row, labels)
        agent, steps, seeds = self.agent(row, kept), self.steps(row, scenario), self.seeds(row)
        episodes, intervene, backend = self.episodes(row), self.intervene(row, scenario), self.backend(row)
        target = None if scenario is None else self.target(row, scenario)
        if not kept or len(self.problems) > before or scenario is None or agent is None or steps is None \
                or seeds is None:
            return None
        source = str(self.path(row["scenario"], scenario_names()))
        return Cell({axis: row[axis].plain for axis in axes}, scenario, agent, steps, seeds, target, episodes,
                    intervene, backend, source, self.folder)

    def needed(self, row: _Row, key: str) -> _Value | None:
        if key not in row:
            self.complain(f'no "{key}" is given for the cell {_shown(row)}', Place(self.source, 0, 0),
                          f"give it under defaults, in the matrix, or in an include row ({key}: ...)")
        return row.get(key)

    def scenario(self, row: _Row, labels: list[str]) -> Scenario | None:
        value = self.needed(row, "scenario")
        if value is None:
            return None
        if not isinstance(value.plain, str):
            self.complain("scenario: expected a name", value.node.place)
            return None
        base = self.load(value, {})
        if base is None:
            return None
        given = {key: v for key, v in row.items() if key not in CELL_KEYS and key not in labels}
        for key, v in given.items():
            if key not in base.parameters:
                self.unknown(f"key for a cell of scenario {base.name}:", key,
                             [*CELL_KEYS, *labels, *base.parameters], v.key,
                             "a name that only tells cells apart is declared under labels")
        known = {key: v for key, v in given.items() if key in base.parameters}
        return self.load(value, known) if len(known) == len(given) else None

    def load(self, value: _Value, parameters: _Row) -> Scenario | None:
        settings = {key: v.plain for key, v in parameters.items()}
        key = (str(value.plain), repr(sorted(settings.items())))
        if key not in self._scenarios:
            self._scenarios[key] = self._load(value, settings, parameters)
        return self._scenarios[key]

    def _load(self, value: _Value, settings: dict[str, Any], parameters: _Row) -> Scenario | None:
        try:
            return load_scenario(self.path(value, scenario_names()), parameters=settings)
        except ScenarioFileError as refusal:
            for problem in refusal.problems:
                name = problem.path.removeprefix("parameters.")
                if problem.place is None and name in parameters:
                    self.complain(f"{name}: {problem.message}", parameters[name].node.place, problem.hint)
                elif problem.place is None:
                    self.complain(problem.message, value.node.place, problem.hint)
                else:
                    self.complain(f"{problem.message} ({problem.where})", value.node.place, problem.hint)
        except SuiteError as refusal:
            self.complain(refusal.message, value.node.place, refusal.hint)
        return None

    def path(self, value: _Value, bundled: Sequence[str]) -> str | Path:
        """A bundled name as it is; a file as a path inside the suite's folder."""
        text = str(value.plain)
        if text in bundled or not text.endswith((".yaml", ".yml")):
            return text
        if self.folder is None or not (self.folder / text).resolve().is_relative_to(self.folder.resolve()):
            raise SuiteError(f"{text!r} leads out of the suite's folder",
                             hint="name a file beside the suite or below it, or a bundled one by its name")
        return self.folder / text

    def agent(self, row: _Row, kept: bool) -> str | None:
        value = self.needed(row, "agent")
        if value is None:
            return None
        if not isinstance(value.plain, str):
            self.complain("agent: expected a name", value.node.place)
            return None
        try:
            name = str(self.path(value, ()))
            if kept:
                read_agent_definition(name)
        except AgentError as problem:
            where = f" ({problem.where})" if problem.where else ""
            self.complain(f"agent: {problem.message}{where}", value.node.place, "; ".join(filter(None, (
                problem.hint, "to run the other cells, select them with --only agent=NAME"))))
            return None
        except SuiteError as refusal:
            self.complain(refusal.message, value.node.place, refusal.hint)
            return None
        return name

    def steps(self, row: _Row, scenario: Scenario | None) -> int | None:
        longest = None if scenario is None else scenario.episode.max_steps
        value = row.get("steps")
        if value is None:
            return longest
        n = value.plain
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= (n if longest is None else longest):
            most = "upwards" if longest is None else f"to {longest}, the scenario's max_steps"
            self.complain(f"steps: expected a whole number from 1 {most} (got {n!r})", value.node.place)
            return None
        return n

    def seeds(self, row: _Row) -> Sequence[int] | None:
        value = self.needed(row, "seeds")
        if value is None:
            return None
        found = value.plain
        if isinstance(found, list) and found and all(type(n) is int and n >= 0 for n in found):
            if len(set(found)) < len(found):
                self.complain("seeds: the list holds one twice", value.node.place)
                return None
            return tuple(found)
        found = {"first": 0, "count": found} if type(found) is int else found
        if not isinstance(found, dict) or set(found) != {"first", "count"} or not all(
                type(n) is int for n in found.values()):
            self.complain("seeds: expected a count, a list of whole numbers from 0, or {first: N, count: N}",
                          value.node.place)
            return None
        if found["first"] < 0 or not 1 <= found["count"] <= MOST_SEEDS:
            self.complain(f"seeds: expected a first of at least 0 and a count from 1 to {MOST_SEEDS:,}",
                          value.node.place)
            return None
        return range(found["first"], found["first"] + found["count"])

    def episodes(self, row: _Row) -> int:
        value = row.get("episodes")
        if value is None:
            return 1
        if type(value.plain) is not int or not 1 <= value.plain <= MOST_EPISODES:
            self.complain(f"episodes: expected a whole number from 1 to {MOST_EPISODES:,} (got {value.plain!r})",
                          value.node.place)
            return 1
        return value.plain

    def backend(self, row: _Row) -> str:
        value = row.get("backend")
        if value is None:
            return "blockworld"
        known = [name for name in names("harness.worlds") if name != "video"]
        if value.plain not in known:
            self.unknown("backend", str(value.plain), known, value.node.place)
        return str(value.plain)

    def intervene(self, row: _Row, scenario: Scenario | None) -> tuple[str | Mapping[str, Any], ...]:
        """Names, mappings and files; what they hold is checked when the agent is there."""
        value = row.get("intervene")
        if value is None:
            return ()
        found: list[str | Mapping[str, Any]] = []
        for word in value.plain if isinstance(value.plain, list) else [value.plain]:
            try:
                if isinstance(word, str) and word.lstrip().startswith("{"):
                    word = parse_value(word)
                if isinstance(word, dict) and isinstance(word.get("kind"), str):
                    found.append(word)
                elif not isinstance(word, str):
                    self.complain("intervene: expected a name, a mapping with its kind, a list of them, or none",
                                  value.node.place, "for instance  intervene: {kind: KeyBlock, keys: [attack]}")
                elif word.endswith((".yaml", ".yml")):
                    found.append(str(self.path(replace(value, plain=word), ())))
                elif word != "none":
                    found.append(word)
                    if scenario is not None:
                        named_spec(scenario, word)
            except HarnessError as problem:
                self.complain(f"intervene: {problem.message}", value.node.place, problem.hint)
        return tuple(found)

    def target(self, row: _Row, scenario: Scenario) -> Target | None:
        """None where there is none, and something else is measured."""
        try:
            return find_target(scenario)
        except SuiteError as problem:
            if not any(metric.measurable(None, scenario.outcomes) for metric in self.metrics):
                self.complain(f"{problem.message} (cell {_shown(row)})", row["scenario"].node.place,
                              f"{problem.hint}, or name outcomes under metrics: outcome:NAME")
            return None


def _same(a: Any, b: Any) -> bool:
    """Equal, and not as 1 equals true."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _matches(row: Mapping[str, _Value], axes: Mapping[str, _Value]) -> bool:
    return all(_same(value.plain, axes[key].plain) for key, value in row.items())


def _odd_one(row: Mapping[str, _Value], axes: Mapping[str, list[_Value]]) -> str | None:
    """The first value of a row that its axis has not, with the nearest one."""
    for key, value in row.items():
        known = [str(v.plain) for v in axes[key]]
        if not any(_same(value.plain, v.plain) for v in axes[key]):
            near = nearest_names(str(value.plain), known, 1)
            return f"{key} has no {value.plain!r}" + (f", did you mean {near[0]!r}?" if near
                                                      else f": {', '.join(known)}")
    return None


def _shown(row: _Row) -> str:
    return ", ".join(f"{key}={value.plain}" for key, value in row.items() if key != "seeds")


class _Selection:
    """Which combinations ``--only`` keeps."""

    def __init__(self, only: Sequence[str], axes: Mapping[str, list[_Value]],
                 combinations: Sequence[_Combination]) -> None:
        self._wanted: dict[str, set[str]] = {}
        for text in only:
            axis, equals, value = text.partition("=")
            if not equals:
                raise SuiteError(f"--only: expected AXIS=VALUE, got {text!r}")
            if axis not in axes:
                raise unknown_name("axis in --only:", axis, axes, error=SuiteError)
            known = {str(c.axes[axis].plain) for c in combinations}
            if value not in known:
                raise unknown_name(f"value of {axis} in --only:", value, known, error=SuiteError)
            self._wanted.setdefault(axis, set()).add(value)
        if not any(self(combination) for combination in combinations):
            raise HarnessError(f"--only {' --only '.join(only)} leaves no cell",
                               hint="the combinations that are excluded in the file do not come back")

    def __call__(self, combination: _Combination) -> bool:
        return all(str(combination.axes[axis].plain) in values for axis, values in self._wanted.items())
