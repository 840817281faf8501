"""Scenarios written back: as YAML, and their form as a JSON schema."""

from __future__ import annotations

import math
from typing import Any

import yaml

from harness.scenario.expression import escape
from harness.scenario.schema import Scenario
from harness.scenario.source import quoted_scalar_words

__all__ = ["dump_scenario", "json_schema"]


class _Dumper(yaml.SafeDumper):
    """Quotes whatever YAML 1.1 or 1.2 would not read back as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = '"' if quoted_scalar_words(value) or "\n" in value or not value.isprintable() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _flat(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.SequenceNode:
    short = not any(isinstance(item, dict | list) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=short)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _flat)

_FIRST = ("fill", "set", "line", "tree", "scatter", "type", "damaged", "killed", "mined", "collected", "looked_at",
          "moved", "pressed")


def _ordered(value: Any) -> Any:
    """The key that tells what a mapping is comes first, as one writes it."""
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    if not isinstance(value, dict):
        return value
    first = next((key for key in _FIRST if key in value), None)
    keys = [first, *(key for key in value if key != first)] if first else list(value)
    return {key: _ordered(value[key]) for key in keys}


def dump_scenario(scenario: Scenario) -> str:
    """The scenario as YAML, values filled in. ``load_scenario`` reads it back as an equal value."""
    data = _escaped(scenario.model_dump(mode="json", by_alias=True, exclude_none=True))
    if not data["events"]:
        del data["events"]
    for part in {"world", "outcomes", "events"} & set(data):
        data[part] = _ordered(data[part])
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
    for part in ("outcomes", "interventions"):
        # null takes an inherited one away.
        named = opened["properties"][part]["patternProperties"]
        opened["properties"][part]["patternProperties"] = {
            pattern: {"anyOf": [value, {"type": "null"}]} for pattern, value in named.items()}
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
