"""Pydantic's errors, told as problems of the file: which key, on which line, and what was meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import ErrorDetails

from harness.errors import nearest_names, unknown_name
from harness.scenario.fields import shown
from harness.scenario.problem import Problem
from harness.scenario.schema import Scenario
from harness.scenario.source import Node, Place

__all__ = ["located", "place_of", "spelled"]


def spelled(path: Iterable[str | int]) -> str:
    """A path as it is written in messages: ``world.blocks[1].fill``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def place_of(tree: Node, path: Iterable[str | int], *, key: bool = False) -> Place:
    """Where the value at a path stands (or its key); the nearest enclosing value when it is not there."""
    node, place = tree, tree.place
    parts = list(path)
    for i, part in enumerate(parts):
        if isinstance(node.value, dict) and str(part) in node.value:
            entry = node.value[str(part)]
            node, place = entry.node, entry.node.place
            block_list = isinstance(node.value, list) and not node.place.width
            if (key and i == len(parts) - 1) or isinstance(node.value, dict) or block_list:
                place = entry.key
        elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            place = node.place
        else:
            break
    return place


_BRANCH_AT = {"world": 3, "outcomes": 2, "events": 2}


def located(tree: Node, error: ErrorDetails) -> Problem:
    """One of pydantic's errors in our words, with the place it points to.

    Args:
        tree: The scenario that was validated, with its places.
        error: From ``ValidationError.errors()``.
    """
    loc = list(error["loc"])
    # Where a mapping is one of several kinds, pydantic puts the kind's tag into the path.
    branch = _BRANCH_AT.get(str(loc[0])) if loc else None
    if branch is not None and len(loc) > branch and str(loc[branch]).startswith("<"):
        del loc[branch]
    in_key = bool(loc) and loc[-1] == "[key]"
    if in_key:
        loc.pop()
    message, hint, on_key = _worded(tree, loc, error)
    place = place_of(tree, loc, key=on_key or in_key)
    return Problem(spelled(loc), message, place, hint)


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
    if error["type"] == "string_pattern_mismatch":
        wanted = "a colour such as #674c46" if "#" in context["pattern"] else "a name of letters, digits and _ . -"
        return f"expected {wanted} (got {_got(error['input'])})", None, False
    message = _EXPECTED.get(error["type"]) or error["msg"].replace("Input should", "it should")
    return f"{message} (got {_got(error['input'])})", None, False


_EXPECTED = {
    "bool_type": "expected true or false", "dict_type": "expected a mapping", "float_type": "expected a number",
    "int_type": "expected a whole number", "list_type": "expected a list", "model_type": "expected a mapping",
    "string_type": "expected text", "tuple_type": "expected a list",
}


def _got(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return "nothing" if value is None else shown(value)


def _known_keys(error: ErrorDetails) -> list[str]:
    """The keys allowed where an unknown one stood: found by walking the JSON schema along the error's path."""
    schema = Scenario.model_json_schema()
    node: dict[str, Any] = schema
    for part in error["loc"][:-1]:
        node = _schema_child(schema, node, part)
    node = _resolved(schema, node)
    branches = [node, *(_resolved(schema, b) for b in node.get("anyOf", []))]
    known = list(next((b["properties"] for b in branches if "properties" in b), {}))
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
    children = [node.get("properties", {}).get(text), node.get("items"), *node.get("patternProperties", {}).values(),
                node.get("additionalProperties")]
    return next((child for child in children if isinstance(child, dict)), {})
