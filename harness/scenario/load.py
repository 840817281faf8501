"""Scenario files: find, read, extend, fill in parameters, check, and write back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.errors import nearest_names, unknown_name
from harness.registry import data_dir
from harness.scenario.diagnose import located, place_of, spelled
from harness.scenario.dump import dump_scenario, json_schema
from harness.scenario.expression import ExpressionError, Scalar, names_in, substitute
from harness.scenario.problem import Problem, ScenarioFileError
from harness.scenario.schema import Parameter, Scenario, mistakes_between_parts
from harness.scenario.source import MAX_BYTES, Entry, Node, Place, Source, SourceProblem, read_tree

__all__ = [
    "dump_scenario", "json_schema", "load_scenario", "parse_scenario", "parse_value", "scenario_names", "scenario_path",
    "where_in_file",
]

_MAX_EXTENDS = 16


def scenario_names() -> list[str]:
    """The bundled scenarios."""
    return sorted(path.stem for path in data_dir("scenarios").glob("*.yaml"))


def scenario_path(name: str) -> Path:
    """The file of a bundled scenario.

    Raises:
        ScenarioError: when there is none of that name, with the nearest names.
    """
    names = scenario_names()
    if name not in names:
        problem = unknown_name("scenario", name, names)
        raise ScenarioFileError([Problem("", problem.message, hint=problem.hint)], name)
    return data_dir("scenarios") / f"{name}.yaml"


def load_scenario(path_or_name: str | Path, *, parameters: Mapping[str, Any] | None = None) -> Scenario:
    """Read a scenario.

    Args:
        path_or_name: A bundled scenario's name, or the path of a YAML file.
        parameters: Values for the file's ``parameters``, instead of their defaults.

    Returns:
        The scenario with ``extends`` merged and parameters filled in.

    Raises:
        ScenarioError: listing every problem in the file, each with file, line and column.
    """
    path = _locate(path_or_name)
    reader = _Reader(str(path_or_name))
    return reader.scenario(reader.read_file(path, None), parameters or {}, path.stem)


def parse_scenario(text: str, *, name: str = "<text>", parameters: Mapping[str, Any] | None = None) -> Scenario:
    """Read a scenario from text; it may extend bundled scenarios by name.

    Args:
        text: YAML.
        name: What error messages call the text.
        parameters: As for ``load_scenario``.

    Raises:
        ScenarioError: as for ``load_scenario``.
    """
    reader = _Reader(name)
    return reader.scenario(reader.read_text(text, name, None), parameters or {}, "unnamed")


def where_in_file(path_or_name: str | Path, path: Sequence[str | int]) -> str | None:
    """``file:line:column`` of a value in a scenario, for a mistake that shows only later (an agent nobody has).

    Args:
        path_or_name: As for ``load_scenario``.
        path: Keys and list positions that lead to the value, such as ``("agent", "name")``.

    Returns:
        None when the file cannot be read, or holds nothing of it.
    """
    try:
        tree = _Reader(str(path_or_name)).read_file(_locate(path_or_name), None)
    except ScenarioFileError:
        return None
    if not isinstance(tree.value, dict) or not path or path[0] not in tree.value:
        return None
    return Problem("", "", place_of(tree, path)).where


def parse_value(text: str) -> Any:
    """One value as a scenario file would read it: ``3`` is a number, ``true`` a boolean, ``none`` a text."""
    try:
        return read_tree(Source("<value>", text))[0].plain() if text.strip() else text
    except SourceProblem:
        return text


def _locate(path_or_name: str | Path) -> Path:
    text = str(path_or_name)
    if "\0" in text:
        raise ScenarioFileError([Problem("", "a path cannot hold a zero byte")], repr(text))
    if isinstance(path_or_name, str) and text in scenario_names():
        return scenario_path(text)
    path = Path(path_or_name)
    try:
        found, folder = path.is_file(), path.is_dir()
    except OSError as error:
        raise ScenarioFileError([Problem("", f"cannot open {text}: {error.strerror}")], text) from None
    if found:
        return path
    if folder:
        raise ScenarioFileError([Problem("", f"{text} is a folder; expected a scenario file or name",
                                         hint=f"known scenarios: {', '.join(scenario_names())}")], text)
    names = scenario_names()
    near = nearest_names(path.stem, names)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    raise ScenarioFileError([Problem("", f"no scenario file or name {text!r}",
                                     hint=f"{hint}known scenarios: {', '.join(names)}")], text)


class _Reader:
    """One load: reads the file and all it extends, and collects problems on the way."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.problems: list[Problem] = []

    def stop(self, problem: Problem | None = None) -> ScenarioFileError:
        return ScenarioFileError([*self.problems, *([problem] if problem else [])], self.label)

    # Reading ----------------------------------------------------------------------------------------------------

    def read_file(self, path: Path, asked_at: Place | None, chain: tuple[Path, ...] = ()) -> Node:
        try:
            data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
        except OSError as error:
            raise self.stop(Problem("", f"cannot read {path}: {error.strerror}", asked_at)) from None
        if data is None:
            raise self.stop(Problem("", f"{path} has more than {MAX_BYTES} bytes; that is no scenario", asked_at))
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self.stop(Problem("", f"{path} is not a text file (byte {error.start} is not UTF-8)", asked_at,
                                    "a scenario is YAML text in UTF-8")) from None
        return self.read_text(text, str(path), path, chain)

    def read_text(self, text: str, name: str, path: Path | None, chain: tuple[Path, ...] = ()) -> Node:
        try:
            root, found = read_tree(Source(name, text))
        except SourceProblem as problem:
            place = problem.place or Place(Source(name, text), 0, 0, 0)
            raise self.stop(Problem("", problem.message, place, problem.hint)) from None
        self.problems += [Problem("", p.message, p.place, p.hint) for p in found]
        if not isinstance(root.value, dict):
            raise self.stop(Problem("", f"expected a mapping such as name: my-scenario (got {_sort_of(root)})",
                                    root.place))
        return self.extended(root, root.value, path, chain)

    def extended(self, root: Node, entries: dict[str, Entry], path: Path | None, chain: tuple[Path, ...]) -> Node:
        entry = entries.get("extends")
        if entry is None:
            return root
        own = {key: value for key, value in entries.items() if key != "extends"}
        here = chain if path is None else (*chain, path.resolve())
        base_path = self.base_path(entry.node, path)
        if base_path.resolve() in here or len(here) > _MAX_EXTENDS:
            way = " -> ".join(p.stem for p in (*here, base_path))
            raise self.stop(Problem("extends", f"scenarios extend each other in a circle: {way}", entry.node.place,
                                    "let one of them stand alone"))
        base = self.read_file(base_path, entry.node.place, here)
        assert isinstance(base.value, dict)
        inherited = {key: value for key, value in base.value.items() if key != "name"}
        own = {key: _own_parameters(value) if key == "parameters" else value for key, value in own.items()}
        return _merged(replace(root, value=inherited), replace(root, value=own))

    def base_path(self, node: Node, path: Path | None) -> Path:
        name = node.value
        if not isinstance(name, str) or not name or "\0" in name:
            raise self.stop(Problem("extends", f"expected a scenario's name or file (got {_sort_of(node)})",
                                    node.place))
        folders = [] if path is None else [path.parent]
        folders.append(data_dir("scenarios"))
        file = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
        refusal = Problem("extends", f"{name!r} leads out of the scenario's folder", node.place,
                          "extend a file beside this one, or a bundled scenario by its name")
        if Path(file).is_absolute() or "\\" in file:
            raise self.stop(refusal)
        for folder in folders:
            candidate = folder / file
            inside = any(candidate.resolve().is_relative_to(f.resolve()) for f in folders)
            if not inside:
                raise self.stop(refusal)
            if candidate.is_file():
                return candidate
        known = {p.stem for folder in folders for p in folder.glob("*.yaml")} - ({path.stem} if path else set())
        problem = unknown_name("scenario", name, known)
        raise self.stop(Problem("extends", problem.message, node.place, problem.hint))

    # Resolving --------------------------------------------------------------------------------------------------

    def scenario(self, root: Node, overrides: Mapping[str, Any], stem: str) -> Scenario:
        assert isinstance(root.value, dict)
        declared = self.declared(root.value.get("parameters"))
        values = self.values(declared, overrides, root)
        tree = self.filled(root, values, ())
        data = tree.plain()
        if isinstance(data.get("parameters"), dict):
            data["parameters"] = {
                key: {**(value if isinstance(value, dict) else {}), "default": values[key]} if key in values else value
                for key, value in data["parameters"].items()}
        data.setdefault("name", stem)
        return self.checked(tree, data)

    def declared(self, entry: Entry | None) -> dict[str, Parameter]:
        declared: dict[str, Parameter] = {}
        if entry is None or not isinstance(entry.node.value, dict):
            return declared
        for key, parameter in entry.node.value.items():
            plain = parameter.node.plain()
            try:
                declared[key] = Parameter.model_validate(plain if isinstance(plain, dict) else {"default": plain})
            except ValidationError:
                continue  # the check of the whole scenario reports it, with its place
        return declared

    def values(self, declared: Mapping[str, Parameter], overrides: Mapping[str, Any], root: Node) -> dict[str, Scalar]:
        values: dict[str, Scalar] = {name: parameter.default for name, parameter in declared.items()}
        used = set().union(*(names_in(text, set(declared)) for text in _texts(root)))
        for name, value in overrides.items():
            path = f"parameters.{name}"
            if name not in declared:
                problem = unknown_name("parameter", str(name), declared)
                self.problems.append(Problem(path, problem.message, hint=problem.hint))
            elif refusal := declared[name].refusal(value):
                self.problems.append(Problem(path, refusal[0], hint=refusal[1]))
            elif name not in used and value != values[name]:
                self.problems.append(Problem(
                    path, f"${{{name}}} is used nowhere in this scenario, so the value {value!r} would change nothing",
                    hint="a scenario that was saved with its values filled in takes none; load the original"))
            else:
                values[name] = value
        return values

    def filled(self, node: Node, values: Mapping[str, Scalar], path: tuple[str | int, ...]) -> Node:
        """The tree with every ``${...}`` replaced, except where parameters are declared."""
        if isinstance(node.value, dict):
            entries = {key: entry if path == () and key == "parameters"
                       else Entry(entry.key, self.filled(entry.node, values, (*path, key)))
                       for key, entry in node.value.items()}
            return replace(node, value=entries)
        if isinstance(node.value, list):
            return replace(node, value=[self.filled(child, values, (*path, i)) for i, child in enumerate(node.value)])
        if isinstance(node.value, str) and "${" in node.value:
            try:
                return replace(node, value=substitute(node.value, values))
            except ExpressionError as error:
                self.problems.append(Problem(spelled(path), error.message, node.place, error.hint))
        return node

    def checked(self, tree: Node, data: dict[str, Any]) -> Scenario:
        scenario = None
        # What could not be read or filled in has been reported already: neither it nor the list it is in counts twice.
        seen = tuple(problem.path for problem in self.problems if problem.place and problem.path)
        places = {problem.place for problem in self.problems if problem.place}
        try:
            scenario = Scenario.model_validate(data, context={"located": True})
        except ValidationError as error:
            found = [located(tree, details) for details in error.errors()]
            self.problems += [p for p in found if p.place not in places
                              and not any(path.startswith(p.path) for path in seen)]
        for mistake in mistakes_between_parts(data):
            place = place_of(tree, mistake.path)
            self.problems.append(Problem(spelled(mistake.path), mistake.message, place, mistake.hint))
        if self.problems or scenario is None:
            self.problems.sort(key=lambda p: (p.place.source.name, p.place.line, p.place.column) if p.place
                               else ("", -1, -1))
            raise self.stop()
        return scenario


def _sort_of(node: Node) -> str:
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    return "nothing" if node.value is None else f"{str(node.value)[:40]!r}"


def _own_parameters(entry: Entry) -> Entry:
    """An extending file's ``robe: desert`` is short for ``robe: {default: desert}``."""
    if not isinstance(entry.node.value, dict):
        return entry
    spelled = {}
    for key, value in entry.node.value.items():
        node = value.node
        if not isinstance(node.value, dict) and node.value is not None:
            node = replace(node, value={"default": Entry(value.key, node)})
        spelled[key] = Entry(value.key, node)
    return Entry(entry.key, replace(entry.node, value=spelled))


def _merged(base: Node, own: Node, depth: int = 0) -> Node:
    """Mappings merge key by key; everything else is replaced; null takes an inherited key away."""
    if not isinstance(base.value, dict) or not isinstance(own.value, dict):
        return own
    entries = dict(base.value)
    for key, entry in own.value.items():
        inherited = entries.get(key)
        if inherited is None:
            entries[key] = entry
        elif entry.node.value is None:
            del entries[key]
        elif depth == 1 and _first_key(entry.node) not in (None, _first_key(inherited.node)):
            entries[key] = entry  # another kind of outcome or intervention: nothing of the old one fits
        else:
            entries[key] = Entry(entry.key, _merged(inherited.node, entry.node, depth + 1))
    return replace(own, value=entries)


_FIRST_KEYS = ("damaged", "killed", "mined", "collected", "looked_at", "moved", "pressed")


def _first_key(node: Node) -> str | None:
    if not isinstance(node.value, dict):
        return None
    kind = node.value.get("kind")
    if kind is not None:
        return f"kind {kind.node.value}"
    return next((key for key in _FIRST_KEYS if key in node.value), None)


def _texts(root: Node) -> Iterator[str]:
    """Every text of a tree, outside the declaration of parameters."""
    if isinstance(root.value, dict):
        for key, entry in root.value.items():
            if key != "parameters":
                yield from _texts(entry.node)
    elif isinstance(root.value, list):
        for node in root.value:
            yield from _texts(node)
    elif isinstance(root.value, str):
        yield root.value
