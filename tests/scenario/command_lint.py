"""A linter for Minecraft 1.16.5 commands: the game's own command tree, walked with a parser per kind of argument.

Tree, blocks, items and entities are those of PyPI's ``minecraft_data`` (1.16.2, the data set it gives for 1.16.5), NBT
is parsed by ``nbtlib``. Kinds of argument without a parser here are refused, so that nothing passes unread.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbtlib

Node = dict[str, Any]
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)"
_NAME = re.compile(r"(?:[a-z0-9_.-]+:)?[a-z0-9_./-]+")
_SELECTOR_KEYS = frozenset({
    "x", "y", "z", "dx", "dy", "dz", "distance", "level", "limit", "sort", "gamemode", "name", "type", "tag", "team", "nbt",
    "scores", "advancements", "predicate", "x_rotation", "y_rotation"})
_EFFECTS = frozenset({
    "speed", "slowness", "haste", "mining_fatigue", "strength", "instant_health", "instant_damage", "jump_boost", "nausea",
    "regeneration", "resistance", "fire_resistance", "water_breathing", "invisibility", "blindness", "night_vision",
    "hunger", "weakness", "poison", "wither", "health_boost", "absorption", "saturation", "glowing", "levitation", "luck",
    "unluck", "slow_falling", "conduit_power", "dolphins_grace", "bad_omen", "hero_of_the_village"})
_SLOT = re.compile(r"(?:hotbar\.[0-8]|inventory\.(?:\d|1\d|2[0-6])|weapon(?:\.(?:mainhand|offhand))?|"
                   r"armor\.(?:head|chest|legs|feet)|container\.\d+|enderchest\.\d+|\d+)(?= |$)")


class LintError(Exception):
    """What is wrong, and from which character on."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(f"{message} (at character {at})")
        self.at = at


@functools.cache
def _data() -> dict[str, Any]:
    spec = importlib.util.find_spec("minecraft_data")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "data" / "data" / "pc" / "1.16.2"
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            for name in ("commands", "blocks", "items", "entities")}


@functools.cache
def names(table: str) -> frozenset[str]:
    # The data set leaves out the item air, which the game has.
    return frozenset(row["name"] for row in _data()[table]) | ({"air"} if table == "items" else set())


@functools.cache
def _states() -> dict[str, dict[str, frozenset[str]]]:
    return {block["name"]: {state["name"]: _values(state) for state in block["states"]} for block in _data()["blocks"]}


def _values(state: Node) -> frozenset[str]:
    if state["type"] == "bool":
        return frozenset({"true", "false"})
    return frozenset(state.get("values") or map(str, range(state["num_values"])))


def tree() -> Node:
    root: Node = _data()["commands"]["root"]
    return root


def lint(command: str) -> None:
    """Raise ``LintError`` unless Minecraft 1.16.5 would accept the line in its chat."""
    if len(command) > 256:
        raise LintError(f"{len(command)} characters", 256)
    if not command.startswith("/"):
        raise LintError("no slash", 0)
    if "\n" in command or "\r" in command:
        raise LintError("more than one line", command.find("\n"))
    _walk(tree(), command, 1)


def _walk(node: Node, text: str, at: int) -> None:
    """Parse the rest of a command from the children of a node; the error that got furthest is the one raised."""
    errors = []
    for child in sorted(_children(node), key=lambda child: child["type"] == "argument"):
        try:
            end = _one(child, text, at)
            if end == len(text):
                if not child["executable"]:
                    raise LintError(f"the command ends after {child['name']}", end)
                return
            if text[end] != " ":
                raise LintError(f"expected a space after {child['name']}", end)
            if not _children(child):
                raise LintError(f"nothing may follow {child['name']}", end)
            _walk(child, text, end + 1)
            return
        except LintError as error:
            errors.append(error)
    raise max(errors, key=lambda error: error.at, default=LintError("nothing may follow", at))


def _children(node: Node) -> list[Node]:
    if node["name"] == "run" and not node["children"]:
        return list(tree()["children"])
    found = list(node["children"])
    for name in node["redirects"]:
        found += next(child for child in tree()["children"] if child["name"] == name)["children"]
    return found


def _one(node: Node, text: str, at: int) -> int:
    if node["type"] == "literal":
        word = re.compile(r"[^ ]*").match(text, at)
        assert word is not None
        if word[0] != node["name"]:
            raise LintError(f"expected {node['name']}, got {word[0]!r}", at)
        return word.end()
    kind = node["parser"]["parser"]
    if kind not in _PARSERS:
        raise LintError(f"no parser for {kind}", at)
    end = _PARSERS[kind](text, at, node["parser"]["modifier"] or {})
    if end == at:
        raise LintError(f"expected {node['name']}", at)
    return end


def _pattern(pattern: str) -> Callable[[str, int, Node], int]:
    compiled = re.compile(pattern)

    def parse(text: str, at: int, _: Node) -> int:
        found = compiled.match(text, at)
        if found is None:
            raise LintError(f"expected {pattern}", at)
        return found.end()

    return parse


def _bounded(pattern: str, number: Callable[[str], float]) -> Callable[[str, int, Node], int]:
    compiled = re.compile(pattern)

    def parse(text: str, at: int, limits: Node) -> int:
        found = compiled.match(text, at)
        if found is None:
            raise LintError("expected a number", at)
        value = number(found[0])
        if not limits.get("min", value) <= value <= limits.get("max", value):
            raise LintError(f"{value} is not from {limits.get('min')} to {limits.get('max')}", at)
        return found.end()

    return parse


def _coordinates(n: int, whole: bool) -> Callable[[str, int, Node], int]:
    number = r"-?\d+" if whole else _NUMBER
    word = re.compile(rf"(?:~(?:{_NUMBER})?|\^(?:{_NUMBER})?|{number})(?= |$)")

    def parse(text: str, at: int, _: Node) -> int:
        marks, end = [], at
        for k in range(n):
            if k:
                if text[end:end + 1] != " ":
                    raise LintError(f"expected {n} coordinates", end)
                end += 1
            found = word.match(text, end)
            if found is None:
                raise LintError("expected a coordinate", end)
            marks.append(found[0][0] == "^")
            end = found.end()
        if any(marks) and not all(marks):
            raise LintError("^ goes with ^ only", at)
        return end

    return parse


def _name(text: str, at: int, known: frozenset[str] | None) -> tuple[str, int]:
    found = _NAME.match(text, at)
    if found is None:
        raise LintError("expected a name", at)
    bare = found[0].removeprefix("minecraft:")
    if known is not None and bare not in known:
        raise LintError(f"unknown name {found[0]}", at)
    return bare, found.end()


def _nbt(text: str, at: int) -> tuple[Any, int]:
    """SNBT up to where its brackets close."""
    depth, quote, end = 0, "", at
    while end < len(text):
        letter = text[end]
        if quote:
            quote = "" if letter == quote and text[end - 1] != "\\" else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "{[":
            depth += 1
        elif letter in "}]":
            depth -= 1
        elif letter == " " and depth == 0:
            break
        end += 1
        if depth == 0 and not quote and letter in "}]":
            break
    try:
        return nbtlib.parse_nbt(text[at:end]), end
    except Exception as problem:
        raise LintError(f"bad SNBT: {problem}", at) from problem


def _compound(text: str, at: int, _: Node) -> int:
    value, end = _nbt(text, at)
    if not isinstance(value, nbtlib.Compound):
        raise LintError("expected {...}", at)
    return end


def _block(text: str, at: int, *, tags: bool) -> int:
    if tags and text[at:at + 1] == "#":
        return _name(text, at + 1, None)[1]
    block, end = _name(text, at, names("blocks"))
    if text[end:end + 1] == "[":
        close = text.find("]", end)
        if close < 0:
            raise LintError("[ is not closed", end)
        for pair in filter(None, text[end + 1:close].split(",")):
            key, equals, value = (part.strip() for part in pair.partition("="))
            if key not in _states()[block]:
                raise LintError(f"{block} has no property {key}", end)
            if not equals or value not in _states()[block][key]:
                raise LintError(f"{key} of {block} is not {value!r}", end)
        end = close + 1
    return _compound(text, end, {}) if text[end:end + 1] == "{" else end


def _item(text: str, at: int, *, tags: bool) -> int:
    tag = tags and text[at:at + 1] == "#"
    end = _name(text, at + tag, None if tag else names("items"))[1]
    return _compound(text, end, {}) if text[end:end + 1] == "{" else end


def _selector(text: str, at: int, limits: Node) -> int:
    if text[at:at + 1] != "@":
        return _pattern(r"[A-Za-z0-9_-]{1,40}")(text, at, {})
    if text[at + 1:at + 2] not in tuple("parse"):
        raise LintError(f"unknown selector {text[at:at + 2]}", at)
    end, options = at + 2, dict[str, str]()
    if text[end:end + 1] == "[":
        end += 1
        while text[end:end + 1] != "]":
            found = re.compile(r"([a-z_]+)=(!?)").match(text, end)
            if found is None or found[1] not in _SELECTOR_KEYS:
                raise LintError("unknown selector option", end)
            key, end = found[1], found.end()
            start = end
            if key == "nbt":
                end = _compound(text, end, {})
            elif key == "type":
                end = _name(text, end, names("entities"))[1]
            else:
                end = _pattern(r'(?:"[^"]*"|[A-Za-z0-9_.+-]*)')(text, end, {})
            options[key] = text[start:end]
            if text[end:end + 1] == ",":
                end += 1
            elif text[end:end + 1] != "]":
                raise LintError("a selector is not closed", end)
        end += 1
    many = text[at + 1] in "ae" and options.get("limit") != "1"
    if limits.get("amount") == "single" and many:
        raise LintError("one entity is wanted, and the selector may find many", at)
    if limits.get("type") == "players" and text[at + 1] == "e" and options.get("type") != "minecraft:player":
        raise LintError("players are wanted", at)
    return end


def _registry(table: str) -> Callable[[str, int, Node], int]:
    return lambda text, at, _: _name(text, at, names(table))[1]


def _score_holder(text: str, at: int, limits: Node) -> int:
    return at + 1 if text[at:at + 1] == "*" else _selector(text, at, limits)


_PARSERS: dict[str, Callable[[str, int, Node], int]] = {
    "brigadier:bool": _pattern(r"(?:true|false)(?= |$)"),
    "brigadier:integer": _bounded(r"-?\d+(?= |$)", int),
    "brigadier:float": _bounded(rf"{_NUMBER}(?= |$)", float),
    "brigadier:double": _bounded(rf"{_NUMBER}(?= |$)", float),
    "brigadier:string": _pattern(r'(?:"[^"]*"|[A-Za-z0-9_.+-]+)'),
    "minecraft:message": _pattern(r".+"),
    "minecraft:entity": _selector,
    "minecraft:score_holder": _score_holder,
    "minecraft:entity_summon": _registry("entities"),
    "minecraft:block_pos": _coordinates(3, True),
    "minecraft:vec3": _coordinates(3, False),
    "minecraft:vec2": _coordinates(2, False),
    "minecraft:column_pos": _coordinates(2, True),
    "minecraft:rotation": _coordinates(2, False),
    "minecraft:angle": _coordinates(1, False),
    "minecraft:block_state": lambda text, at, _: _block(text, at, tags=False),
    "minecraft:block_predicate": lambda text, at, _: _block(text, at, tags=True),
    "minecraft:item_stack": lambda text, at, _: _item(text, at, tags=False),
    "minecraft:item_predicate": lambda text, at, _: _item(text, at, tags=True),
    "minecraft:item_slot": lambda text, at, _: _pattern(_SLOT.pattern)(text, at, {}),
    "minecraft:nbt_compound_tag": _compound,
    "minecraft:nbt_tag": lambda text, at, _: _nbt(text, at)[1],
    "minecraft:nbt_path": _pattern(r"[^ ]+"),
    "minecraft:mob_effect": lambda text, at, _: _name(text, at, _EFFECTS)[1],
    "minecraft:objective": _pattern(r"[A-Za-z0-9_.+-]{1,16}(?= |$)"),
    "minecraft:objective_criteria": _pattern(r"[A-Za-z0-9_.:]+(?= |$)"),
    "minecraft:resource_location": lambda text, at, _: _name(text, at, None)[1],
    "minecraft:function": lambda text, at, _: _name(text, at + (text[at:at + 1] == "#"), None)[1],
    "minecraft:entity_anchor": _pattern(r"(?:eyes|feet)(?= |$)"),
    "minecraft:time": _pattern(r"\d+(?:\.\d+)?[tsd]?(?= |$)"),
    "minecraft:int_range": _pattern(r"-?\d*(?:\.\.-?\d*)?(?= |$)"),
}
