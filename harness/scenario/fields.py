"""The values a scenario is made of: numbers with ranges, names out of the catalogue, points in space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from harness.errors import unknown_name
from harness.scenario.catalogue import catalogue

__all__ = [
    "COMPASS", "MAX_SPAN", "REACH", "BlockName", "BlockOrNone", "Bool", "Cell", "Colour", "Column", "Count",
    "CreatureName", "CreatureOrNone", "Float", "Int", "ItemName", "ItemShort", "Name", "OneOrMany", "Pitch",
    "Point", "Rules", "Scalar", "Slot", "Slots", "Species", "SpeciesOrNone", "Time", "Yaw", "complain", "known_name",
    "shown",
]

REACH = 64
"""Blocks lie within x, z in [-REACH, REACH): a square of 128 blocks around the origin."""

MAX_SPAN = 128
"""Longest edge of one fill, in blocks."""

COMPASS = {"south": 0.0, "west": 90.0, "north": 180.0, "east": -90.0}
"""Yaw in degrees of the four directions; 0 faces +z."""


def complain(message: str, hint: str | None = None, kind: str = "scenario") -> NoReturn:
    """Refuse a value from inside a validator, with what to do about it."""
    # PydanticCustomError formats its template: the text goes in as a value, so braces in it are harmless.
    raise PydanticCustomError(kind, "{message}", {"message": message, "hint": hint})


@dataclass(frozen=True)
class KnownName:
    """Marks a text as a name out of a table; ``minecraft:`` may stand before it, and is taken off.

    Attributes:
        kind: What the table holds, for messages: "block".
        table: The names.
        none: Whether the word ``none`` is allowed, too.
    """

    kind: str
    table: frozenset[str]
    none: bool = False

    def check(self, name: str) -> str:
        """The bare name, refused when it is not in the table."""
        known = self.table | {"none"} if self.none else self.table
        bare = name.removeprefix("minecraft:")
        if bare not in known:
            problem = unknown_name(self.kind, bare, known)
            complain(problem.message, problem.hint)
        return bare

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        known = self.table | {"none"} if self.none else self.table
        return {"anyOf": [{"enum": sorted(known)}, {"type": "string", "pattern": "^minecraft:"}]}


def known_name(kind: str, table: Iterable[str], *, none: bool = False) -> KnownName:
    """A ``KnownName`` over any collection of names."""
    return KnownName(kind, frozenset(table), none)


def _cell(value: list[int]) -> tuple[int, ...]:
    for axis, number in zip("xyz" if len(value) == 3 else "xz", value, strict=True):
        low, high = (0, 255) if axis == "y" else (-REACH, REACH - 1)
        if not low <= number <= high:
            complain(f"{axis} must be between {low} and {high} (got {number})",
                      "blocks outside this box are neither stored nor drawn")
    return tuple(value)


def _point(value: list[float]) -> tuple[float, ...]:
    for axis, number in zip("xyz", value, strict=True):
        low, high = (0, 255) if axis == "y" else (-REACH, REACH)
        if not low <= number <= high:
            complain(f"{axis} must be between {low} and {high} (got {number:g})")
    return tuple(float(number) for number in value)


def _numbers(kind: type, n: int) -> BeforeValidator:
    what = "whole numbers" if kind is int else "numbers"
    axes = {2: "[x, z]", 3: "[x, y, z]"}[n]

    def check(value: Any) -> Any:
        allowed = (int,) if kind is int else (int, float)
        good = (isinstance(value, list | tuple) and len(value) == n
                and all(isinstance(v, allowed) and not isinstance(v, bool) and v - v == 0 for v in value))
        if not good:
            complain(f"expected {n} {what} {axes} (got {shown(value)})")
        return list(value)
    return BeforeValidator(check)


def shown(value: Any) -> str:
    """A value for a message, cut short."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _pair_or_number(value: Any) -> Any:
    pair = [value, value] if isinstance(value, int) and not isinstance(value, bool) else value
    good = (isinstance(pair, list | tuple) and len(pair) == 2
            and all(isinstance(v, int) and not isinstance(v, bool) for v in pair) and 0 <= pair[0] <= pair[1] <= 64)
    if not good:
        complain(f"expected a number from 0 to 64, or [fewest, most] (got {shown(value)})")
    return tuple(pair)


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _time(value: Any) -> Any:
    times = catalogue().times
    if isinstance(value, str):
        if value not in times:
            problem = unknown_name("time", value, times)
            complain(problem.message, f"{problem.hint}; or a number of ticks from 0 to 23999")
        return times[value]
    return value


def _item_of(value: Any) -> Any:
    return {"item": value} if isinstance(value, str) else value


def _slots(value: Any) -> Any:
    # A YAML key is text; whatever is not a digit stays and is refused by the type of the key.
    if not isinstance(value, Mapping):
        return value
    return {int(key) if isinstance(key, str) and key in list("0123456789") else key: v for key, v in value.items()}


def _scalar(value: Any) -> Any:
    if not isinstance(value, str | int | float | bool) or value != value or value in (float("inf"), float("-inf")):
        complain(f"a parameter is a text, a finite number, true or false (got {shown(value)})")
    return value


Int = Annotated[int, Strict()]
Bool = Annotated[bool, Strict()]
Float = Annotated[float, Strict(), AllowInfNan(False)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
BlockName = Annotated[str, known_name("block", catalogue().blocks)]
BlockOrNone = Annotated[str, known_name("block", catalogue().blocks, none=True)]
CreatureName = Annotated[str, known_name("creature", catalogue().creatures)]
CreatureOrNone = Annotated[str, known_name("creature", catalogue().creatures, none=True)]
ItemName = Annotated[str, known_name("item", {*catalogue().items, *catalogue().blocks} - {"air"})]
Species = Annotated[str, known_name("tree", catalogue().trees)]
SpeciesOrNone = Annotated[str, known_name("tree", catalogue().trees, none=True)]
RuleName = Annotated[str, known_name("rule", catalogue().rules)]
_NUMBER = {"type": "number"}
Cell = Annotated[
    tuple[int, int, int], AfterValidator(_cell), _numbers(int, 3),
    WithJsonSchema({"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3})]
Column = Annotated[
    tuple[int, int], AfterValidator(_cell), _numbers(int, 2),
    WithJsonSchema({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2})]
Point = Annotated[
    tuple[float, float, float], AfterValidator(_point), _numbers(float, 3),
    WithJsonSchema({"type": "array", "items": _NUMBER, "minItems": 3, "maxItems": 3})]
Count = Annotated[tuple[int, int], BeforeValidator(_pair_or_number), WithJsonSchema(
    {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 64},
               {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}]})]
Yaw = Annotated[Float, Field(ge=-360, le=360)]
Pitch = Annotated[Float, Field(ge=-90, le=90)]
Colour = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]
OneOrMany = BeforeValidator(_one_or_many)
Scalar = Annotated[Any, BeforeValidator(_scalar)]
Time = Annotated[
    int, Strict(), Field(ge=0, lt=24000), BeforeValidator(_time),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 23999}, {"enum": list(catalogue().times)}]})]
Rules = Annotated[
    dict[RuleName, Any],
    WithJsonSchema({"type": "object", "additionalProperties": False, "properties": {
        name: {"type": "boolean" if isinstance(value, bool) else "integer"}
        for name, value in catalogue().rules.items()}})]
Slot = Annotated[int, Strict(), Field(ge=0, le=8)]
ItemShort = BeforeValidator(_item_of)
_ITEM = {"anyOf": [{"type": "string"}, {
    "type": "object", "additionalProperties": False, "required": ["item"],
    "properties": {"item": {"type": "string"}, "count": {"type": "integer", "minimum": 1, "maximum": 64}}}]}
Slots = (BeforeValidator(_slots), WithJsonSchema(
    {"type": "object", "additionalProperties": False, "patternProperties": {"^[0-8]$": _ITEM}}))
