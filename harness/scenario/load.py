"""Scenario files: find, read, extend, fill in parameters, check, and write back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from harness.errors import nearest_names, unknown_name
from harness.registry import data_dir
from harness.scenario.expression import ExpressionError, Scalar, escape, names_in, substitute
from harness.scenario.problem import Problem, ScenarioFileError
from harness.scenario.schema import Parameter, Scenario, mistakes_between_parts
from harness.scenario.source import (
    MAX_BYTES,
    Entry,
    Node,
    Place,
    Source,
    SourceProblem,
    quoted_scalar_words,
    read_tree,
)

__all__ = [
    "dump_scenario", "json_schema", "load_scenario", "parse_scenario", "parse_value", "scenario_names", "scenario_path",
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


def parse_value(text: str) -> Any:
    """One value as a scenario file would read it: ``3`` is a number, ``true`` a boolean, ``none`` a text."""
    try:
        return read_tree(Source("<value>", text)).plain() if text.strip() else text
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
            root = read_tree(Source(name, text))
        except SourceProblem as problem:
            place = problem.place or Place(Source(name, text), 0, 0, 0)
            raise self.stop(Problem("", problem.message, place, problem.hint)) from None
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
            raise self.stop(Problem("extends", f"expected a scenario's name or file (got {_sort_of(node)})", node.place))
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
                self.problems.append(Problem(_spelled(path), error.message, node.place, error.hint))
        return node

    def checked(self, tree: Node, data: dict[str, Any]) -> Scenario:
        scenario = None
        # What could not be filled in has been reported already, and is wrong in itself and as a part of its list.
        seen = tuple(problem.path for problem in self.problems if problem.place)
        try:
            scenario = Scenario.model_validate(data, context={"located": True})
        except ValidationError as error:
            self.problems += [p for p in (_located(tree, e) for e in error.errors()) if not any(s.startswith(p.path) for s in seen)]
        for mistake in mistakes_between_parts(data):
            place = _place_of(tree, mistake.path)
            self.problems.append(Problem(_spelled(mistake.path), mistake.message, place, mistake.hint))
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


_FIRST_KEYS = ("damaged", "killed", "mined", "collected", "looked_at", "moved")


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


# Problems ---------------------------------------------------------------------------------------------------------


def _spelled(path: Iterable[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _place_of(tree: Node, path: Iterable[str | int], *, key: bool = False) -> Place:
    """Where the value at a path stands (or its key); the nearest enclosing value when it is not there."""
    node, place = tree, tree.place
    parts = list(path)
    for i, part in enumerate(parts):
        if isinstance(node.value, dict) and str(part) in node.value:
            entry = node.value[str(part)]
            node, place = entry.node, entry.node.place
            if (key and i == len(parts) - 1) or isinstance(node.value, dict | list):
                place = entry.key
        elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            place = node.place
        else:
            break
    return place


def _located(tree: Node, error: ErrorDetails) -> Problem:
    loc = [part for part in error["loc"] if not str(part).startswith("<")]
    in_key = bool(loc) and loc[-1] == "[key]"
    if in_key:
        loc.pop()
    message, hint, on_key = _worded(tree, loc, error)
    place = _place_of(tree, loc, key=on_key or in_key)
    return Problem(_spelled(loc), message, place, hint)


def _worded(tree: Node, loc: list[Any], error: ErrorDetails) -> tuple[str, str | None, bool]:
    """Message, hint, and whether it is about the key."""
    context = error.get("ctx") or {}
    match error["type"]:
        case "scenario":
            return context["message"], context.get("hint"), False
        case "extra_forbidden":
            known = _known_keys(error)
            problem = unknown_name("key", str(loc[-1]), known)
            return problem.message, problem.hint, True
        case "missing":
            return f'the key "{loc[-1]}" is missing', None, False
        case "no_first_key":
            given = error["input"] if isinstance(error["input"], Mapping) else {}
            near = [n for key in given for n in nearest_names(str(key), context["keys"], 1)]
            return error["msg"], f"did you mean {near[0]!r}?" if near else None, False
    message = error["msg"][0].lower() + error["msg"][1:]
    value = error["input"]
    got = _shown(value)
    return f"{message} (got {got})", None, False


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return repr(value)[:60] if isinstance(value, str) else "nothing" if value is None else str(value)[:60]


def _known_keys(error: ErrorDetails) -> list[str]:
    """The keys allowed where an unknown one stood: found by walking the JSON schema along the error's path."""
    schema = Scenario.model_json_schema()
    node: dict[str, Any] = schema
    for part in error["loc"][:-1]:
        node = _schema_child(schema, node, part)
    known = list(_resolved(schema, node).get("properties", {}))
    return [*known, "extends"] if len(error["loc"]) == 1 else known


def _resolved(schema: Mapping[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return node


def _schema_child(schema: Mapping[str, Any], node: dict[str, Any], part: Any) -> dict[str, Any]:
    node = _resolved(schema, node)
    text = str(part)
    if text.startswith("<"):
        branches = [_resolved(schema, b) for b in [*node.get("anyOf", []), *node.get("oneOf", [])]]
        return next((b for b in branches if text[1:-1] in b.get("properties", {})), {})
    if text in node.get("properties", {}):
        child: dict[str, Any] = node["properties"][text]
        return child
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            child = node[key]
            return child
    patterns = list(node.get("patternProperties", {}).values())
    branches = [_resolved(schema, b) for b in (patterns[0].get("anyOf", [patterns[0]]) if patterns else [])]
    return next((b for b in branches if "properties" in b), {})


# Writing ----------------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Quotes whatever YAML 1.1 or 1.2 would not read back as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = '"' if quoted_scalar_words(value) or "\n" in value or not value.isprintable() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def dump_scenario(scenario: Scenario) -> str:
    """The scenario as YAML, values filled in. ``load_scenario`` reads it back as an equal value."""
    data = _escaped(scenario.model_dump(mode="json", by_alias=True, exclude_none=True))
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)
    return text


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: item if key == "parameters" else _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return escape(value) if isinstance(value, str) else value


def json_schema() -> dict[str, Any]:
    """The JSON schema of a scenario file, for editors: also ``extends``, and ``${...}`` wherever a value may stand."""
    schema = Scenario.model_json_schema()
    schema["required"] = []
    schema["properties"]["extends"] = {
        "type": "string", "description": "A bundled scenario's name, or a file beside this one, to start from."}
    schema["title"] = "Harness scenario"
    parameters = schema["$defs"].pop("Parameter")
    opened = _open(schema)
    assert isinstance(opened, dict)
    parameters["required"] = []
    opened["$defs"]["Parameter"] = {"anyOf": [{"type": ["string", "number", "boolean", "null"]}, parameters]}
    return opened


_REFERENCE = {"type": "string", "pattern": r"\$\{.*\}"}


def _open(node: Any) -> Any:
    """Let every value that is not free text be written as a reference to a parameter, too."""
    if isinstance(node, list):
        return [_open(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _open(value) for key, value in node.items()}
    closed = node.get("type") in ("integer", "number", "boolean") or "enum" in node or (
        node.get("type") == "string" and "pattern" in node)
    if not closed:
        return node
    outer = {key: node.pop(key) for key in ("description", "default", "title") if key in node}
    return {**outer, "anyOf": [node, dict(_REFERENCE)]}
