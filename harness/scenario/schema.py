"""What a scenario file may say: one frozen model per mapping, checked against the catalogue.

The models hold a *resolved* scenario: ``extends`` merged, parameters filled in. Reading files is ``load.py``'s work.
Several mappings are told apart by their first key, which also carries the value that matters most:
``{fill: oak_leaves, from: ..., to: ...}``, ``{damaged: target}``.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    StringConstraints,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from harness.errors import nearest_names, unknown_name
from harness.scenario.catalogue import catalogue

__all__ = [
    "COMPASS", "MAX_SPAN", "REACH", "AgentChoice", "BlockStep", "Collected", "Damaged", "EntitySpec", "EntityStep",
    "Episode", "FillBlocks", "HotbarItem", "Jitter", "Killed", "LineBlocks", "LookedAtTarget", "Mined", "Moved",
    "Mistake", "Outcome", "Parameter", "PlantTree", "PlayerSpec", "ScatterCreatures", "ScatterTrees", "Scenario",
    "SetBlock", "VillagerDress", "WorldSpec", "mistakes_between_parts",
]

REACH = 64
"""Blocks lie within x, z in [-REACH, REACH): a square of 128 blocks around the origin."""

MAX_SPAN = 128
"""Longest edge of one fill, in blocks."""

COMPASS = {"south": 0.0, "west": 90.0, "north": 180.0, "east": -90.0}
"""Yaw in degrees of the four directions; 0 faces +z."""


def _complain(message: str, hint: str | None = None, kind: str = "scenario") -> NoReturn:
    # PydanticCustomError formats its template: the text goes in as a value, so braces in it are harmless.
    raise PydanticCustomError(kind, "{message}", {"message": message, "hint": hint})  # type: ignore[misc]


def _known(kind: str, table: Callable[[], Collection[str]], *, none: bool = False) -> AfterValidator:
    def check(name: str) -> str:
        bare = name.removeprefix("minecraft:")
        if bare in table() or (none and bare == "none"):
            return bare
        problem = unknown_name(kind, bare, {*table(), "none"} if none else table())
        _complain(problem.message, problem.hint)
    return AfterValidator(check)


def _cell(value: list[int]) -> tuple[int, ...]:
    for axis, number in zip("xyz" if len(value) == 3 else "xz", value, strict=True):
        low, high = (0, 255) if axis == "y" else (-REACH, REACH - 1)
        if not low <= number <= high:
            _complain(f"{axis} must be between {low} and {high} (got {number})",
                      "blocks outside this box are neither stored nor drawn")
    return tuple(value)


def _point(value: list[float]) -> tuple[float, ...]:
    for axis, number in zip("xyz", value, strict=True):
        low, high = (0, 255) if axis == "y" else (-REACH, REACH)
        if not low <= number <= high:
            _complain(f"{axis} must be between {low} and {high} (got {number:g})")
    return tuple(float(number) for number in value)


def _numbers(kind: type, n: int) -> BeforeValidator:
    what = "whole numbers" if kind is int else "numbers"
    axes = {2: "[x, z]", 3: "[x, y, z]"}[n]

    def check(value: Any) -> Any:
        allowed = (int,) if kind is int else (int, float)
        good = (isinstance(value, list | tuple) and len(value) == n
                and all(isinstance(v, allowed) and not isinstance(v, bool) and v - v == 0 for v in value))
        if not good:
            _complain(f"expected {n} {what} {axes} (got {_shown(value)})")
        return list(value)
    return BeforeValidator(check)


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _pair_or_number(value: Any) -> Any:
    pair = [value, value] if isinstance(value, int) and not isinstance(value, bool) else value
    good = (isinstance(pair, list | tuple) and len(pair) == 2
            and all(isinstance(v, int) and not isinstance(v, bool) for v in pair) and 0 <= pair[0] <= pair[1] <= 64)
    if not good:
        _complain(f"expected a number from 0 to 64, or [fewest, most] (got {_shown(value)})")
    return tuple(pair)


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _time(value: Any) -> Any:
    times = catalogue().times
    if isinstance(value, str):
        if value not in times:
            problem = unknown_name("time", value, times)
            _complain(problem.message, f"{problem.hint}; or a number of ticks from 0 to 23999")
        return times[value]
    return value


def _item_of(value: Any) -> Any:
    return {"item": value} if isinstance(value, str) else value


def _slots(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    slots = {}
    for key, item in value.items():
        if str(key) not in "012345678" or len(str(key)) != 1:
            _complain(f"a hotbar slot is a number from 0 to 8 (got {_shown(key)})")
        slots[int(key)] = item
    return slots


def _rules(value: dict[str, bool | int]) -> dict[str, bool | int]:
    for name, setting in value.items():
        default = catalogue().rules[name]
        if type(setting) is not type(default):
            wanted = "true or false" if isinstance(default, bool) else "a whole number"
            _complain(f"rule {name} takes {wanted} (got {_shown(setting)})")
    return value


Int = Annotated[int, Strict()]
Bool = Annotated[bool, Strict()]
Float = Annotated[float, Strict(), AllowInfNan(False)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
BlockName = Annotated[str, _known("block", lambda: catalogue().blocks)]
BlockOrNone = Annotated[str, _known("block", lambda: catalogue().blocks, none=True)]
CreatureName = Annotated[str, _known("creature", lambda: catalogue().creatures)]
CreatureOrNone = Annotated[str, _known("creature", lambda: catalogue().creatures, none=True)]
ItemName = Annotated[str, _known("item", lambda: {*catalogue().items, *catalogue().blocks} - {"air"})]
Species = Annotated[str, _known("tree", lambda: catalogue().trees)]
SpeciesOrNone = Annotated[str, _known("tree", lambda: catalogue().trees, none=True)]
RuleName = Annotated[str, _known("rule", lambda: catalogue().rules)]
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


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Cuboid(_Model):
    first: Cell = Field(alias="from", description="One corner [x, y, z], included.")
    last: Cell = Field(alias="to", description="The opposite corner, included.")

    @model_validator(mode="after")
    def _not_too_long(self) -> _Cuboid:
        for axis, a, b in zip("xyz", self.first, self.last, strict=True):
            if abs(a - b) >= MAX_SPAN:
                _complain(f"it spans {abs(a - b) + 1} blocks along {axis}; at most {MAX_SPAN} are allowed",
                          "use a smaller box, or split it")
        return self


class FillBlocks(_Cuboid):
    """A solid box of one block."""

    fill: BlockOrNone = Field(description="The block; none leaves the step out.")
    replace: BlockName | None = Field(None, description="Change only cells that hold this block.")


class SetBlock(_Model):
    """One block."""

    set: BlockOrNone = Field(description="The block; none leaves the step out.")
    at: Cell


class LineBlocks(_Cuboid):
    """A straight line of blocks between two cells, one block thick."""

    line: BlockOrNone = Field(description="The block; none leaves the step out.")


class PlantTree(_Model):
    """A tree; its shape is drawn from the seed."""

    tree: SpeciesOrNone = Field(description="The species; none leaves the step out.")
    at: Cell = Field(description="The lowest block of the trunk.")
    height: Annotated[Int, Field(ge=2, le=16)] | None = Field(None, description="Blocks of trunk; else from the seed.")


class _Scatter(_Model):
    count: Count = Field(description="How many, or [fewest, most].")
    first: Column = Field(alias="from", description="One corner [x, z] of the rectangle, included.")
    last: Column = Field(alias="to", description="The opposite corner [x, z], included.")
    min_distance: Annotated[Float, Field(ge=0, le=MAX_SPAN)] = Field(
        3.0, description="Blocks between any two things planted or scattered.")
    keep_clear: Annotated[Float, Field(ge=0, le=MAX_SPAN)] = Field(
        3.0, description="Blocks around the player and around placed creatures that stay free.")


class ScatterTrees(_Scatter):
    """Trees at places drawn from the seed."""

    scatter: Annotated[tuple[Species, ...], BeforeValidator(_one_or_many)] = Field(
        min_length=1, description="Species to draw from.")


class VillagerDress(_Model):
    """What a villager wears. Other creatures have no use for it, so that one line can swap the creature."""

    type: Annotated[str, _known("villager type", lambda: catalogue().villager_types)] = "plains"
    profession: Annotated[str, _known("profession", lambda: catalogue().professions)] = "none"


class Jitter(_Model):
    """Half-widths of uniform offsets drawn from the seed: blocks (x and z) and degrees."""

    position: Annotated[Float, Field(ge=0, le=16)] = 0.0
    yaw: Annotated[Float, Field(ge=0, le=180)] = 0.0
    pitch: Annotated[Float, Field(ge=0, le=90)] = 0.0


class _Creature(_Model):
    tag: Name | None = Field(None, description="A name for outcomes and interventions; several may share one.")
    facing: Literal["player", "north", "east", "south", "west"] | None = None
    yaw: Yaw | None = Field(None, description="Degrees; 0 faces +z (south), 90 faces -x (west).")
    pitch: Pitch = 0.0
    ai: Bool = Field(True, description="false: stands still.")
    health: Annotated[Float, Field(gt=0, le=1024)] | None = Field(None, description="Half hearts; else the creature's.")
    villager: VillagerDress = VillagerDress()
    colour: Colour | None = Field(None, description="Chest plate of an armor stand or zombie, #rrggbb.")
    invulnerable: Bool = False

    @model_validator(mode="after")
    def _one_direction(self) -> _Creature:
        if self.facing is not None and self.yaw is not None:
            _complain("facing and yaw both say where it looks", "leave one of them out")
        return self


class EntitySpec(_Creature):
    """One creature at a place."""

    type: CreatureOrNone = Field(description="The creature; none leaves it out.")
    at: Point = Field(description="Where its feet stand [x, y, z]; the middle of a block ends in .5.")
    jitter: Jitter = Jitter()

    @model_validator(mode="after")
    def _can_wear(self) -> EntitySpec:
        if self.colour is not None and self.type not in ("armor_stand", "zombie", "none"):
            _complain(f"a {self.type} wears no chest plate, so colour has no effect",
                      "for a villager choose villager: {type: ...}; a colour fits an armor_stand or a zombie")
        return self


class ScatterCreatures(_Creature, _Scatter):
    """Creatures at places drawn from the seed; they face anywhere unless told."""

    scatter: Annotated[tuple[CreatureName, ...], BeforeValidator(_one_or_many)] = Field(
        min_length=1, description="Creatures to draw from.")


def _by_key(*pairs: tuple[str, type[_Model]]) -> Discriminator:
    def choose(value: Any) -> str | None:
        for key, model in pairs:
            if isinstance(value, model) or (isinstance(value, Mapping) and key in value):
                return f"<{key}>"
        return None
    keys = ", ".join(key for key, _ in pairs)
    return Discriminator(choose, custom_error_type="no_first_key",
                         custom_error_message=f"expected a mapping with one of the keys {keys}",
                         custom_error_context={"keys": [key for key, _ in pairs]})


BlockStep = Annotated[
    Annotated[FillBlocks, Tag("<fill>")] | Annotated[SetBlock, Tag("<set>")] | Annotated[LineBlocks, Tag("<line>")]
    | Annotated[PlantTree, Tag("<tree>")] | Annotated[ScatterTrees, Tag("<scatter>")],
    _by_key(("fill", FillBlocks), ("set", SetBlock), ("line", LineBlocks), ("tree", PlantTree),
            ("scatter", ScatterTrees))]
EntityStep = Annotated[
    Annotated[EntitySpec, Tag("<type>")] | Annotated[ScatterCreatures, Tag("<scatter>")],
    _by_key(("type", EntitySpec), ("scatter", ScatterCreatures))]


class WorldSpec(_Model):
    """The world before the first tick."""

    seed: Annotated[Int, Field(ge=0, lt=2**63)] | None = Field(
        None, description="Fixes trees, scattering and creature jitter; else they follow the episode's seed.")
    ground: BlockName = "grass_block"
    ground_y: Annotated[Int, Field(ge=1, le=200)] = Field(99, description="Height of the topmost ground block.")
    biome: Annotated[str, _known("biome", lambda: catalogue().biomes)] = "plains"
    time: Annotated[
        Annotated[Int, Field(ge=0, lt=24000)], BeforeValidator(_time),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 23999},
                                  {"enum": list(catalogue().times)}]})] = Field(
        6000, description="Ticks after sunrise, or noon, midnight, ...")
    weather: Annotated[str, _known("weather", lambda: catalogue().weathers)] = "clear"
    difficulty: Annotated[str, _known("difficulty", lambda: catalogue().difficulties)] = "easy"
    rules: Annotated[
        dict[RuleName, Any], AfterValidator(_rules),
        WithJsonSchema({"type": "object", "additionalProperties": False,
                        "properties": {n: {"type": "boolean" if isinstance(v, bool) else "integer"}
                                       for n, v in catalogue().rules.items()}})] = Field(
        default_factory=dict, description="Minecraft game rules; all that happens by itself is off to begin with.")
    blocks: tuple[BlockStep, ...] = Field((), description="Steps in order; a later one overwrites an earlier one.")
    entities: tuple[EntityStep, ...] = ()


class HotbarItem(_Model):
    """What lies in one hotbar slot."""

    item: ItemName
    count: Annotated[Int, Field(ge=1, le=64)] = 1


class PlayerSpec(_Model):
    """Where the agent starts and what it holds."""

    at: Point = (0.5, 100.0, 0.5)
    yaw: Yaw | None = Field(None, description="Degrees; 0 faces +z (south). Not together with facing.")
    pitch: Pitch = Field(0.0, description="Degrees; positive looks down.")
    facing: str | None = Field(None, description="north, east, south, west, or the tag of a creature.")
    hotbar: Annotated[
        dict[Int, Annotated[HotbarItem, BeforeValidator(_item_of)]], BeforeValidator(_slots),
        WithJsonSchema({"type": "object", "additionalProperties": False, "patternProperties": {"^[0-8]$": {"anyOf": [
            {"type": "string"},
            {"type": "object", "additionalProperties": False, "required": ["item"], "properties": {
                "item": {"type": "string"}, "count": {"type": "integer", "minimum": 1, "maximum": 64}}}]}}})] = Field(
        default_factory=dict, description="Slot 0 to 8 to an item, or to {item, count}.")
    selected: Annotated[Int, Field(ge=0, le=8)] = 0
    jitter: Jitter = Jitter()

    @model_validator(mode="after")
    def _one_direction(self) -> PlayerSpec:
        if self.facing is not None and self.yaw is not None:
            _complain("facing and yaw both say where the player looks", "leave one of them out")
        return self


class Episode(_Model):
    """How long an episode lasts. 20 steps are one second."""

    max_steps: Annotated[Int, Field(ge=1, le=10_000_000)] = 600
    settle_steps: Annotated[Int, Field(ge=0, le=2000)] = Field(
        20, description="Steps without input before step 0, while light and creatures settle.")
    terminate_when: tuple[str, ...] = Field((), description="Outcomes; the first that comes true ends the episode.")


class AgentChoice(_Model):
    """The agent that plays unless another is asked for."""

    name: str = "vpt-nano"
    options: dict[str, Any] = Field(default_factory=dict, description="Arguments for the agent's class.")


class _Counted(_Model):
    at_least: Annotated[Int, Field(ge=1)] = Field(1, description="How often before the outcome is true.")


class Damaged(_Counted):
    """Hits on a creature; ``any`` counts every hit."""

    damaged: str = Field(description="A tag, a creature, a glob such as *, or any.")


class Killed(_Counted):
    """Deaths of a creature."""

    killed: str = Field(description="A tag, a creature, or a glob.")


class Mined(_Counted):
    """Blocks broken by the player."""

    mined: str = Field(description="A block, or a glob such as *_log.")


class Collected(_Counted):
    """Items picked up."""

    collected: str = Field(description="An item, or a glob such as *_log.")


class LookedAtTarget(_Counted):
    """Steps in which the crosshair rests on something."""

    looked_at: str = Field(description="A tag, a creature, a block, or a glob.")
    within: Annotated[Float, Field(gt=0)] | None = Field(None, description="Blocks from the eye, at most.")
    reachable: Bool = Field(False, description="true: only where an attack would land.")


class Moved(_Counted):
    """Steps spent at least so far from the start, in blocks."""

    moved: Annotated[Float, Field(gt=0)]


Outcome = Annotated[
    Annotated[Damaged, Tag("<damaged>")] | Annotated[Killed, Tag("<killed>")] | Annotated[Mined, Tag("<mined>")]
    | Annotated[Collected, Tag("<collected>")] | Annotated[LookedAtTarget, Tag("<looked_at>")]
    | Annotated[Moved, Tag("<moved>")],
    _by_key(("damaged", Damaged), ("killed", Killed), ("mined", Mined), ("collected", Collected),
            ("looked_at", LookedAtTarget), ("moved", Moved))]

Scalar = str | int | float | bool


def _scalar(value: Any) -> Any:
    if not isinstance(value, Scalar) or value != value or value in (float("inf"), float("-inf")):
        _complain(f"a parameter is a text, a finite number, true or false (got {_shown(value)})")
    return value


def _parameter(value: Any) -> Any:
    return value if isinstance(value, Mapping | Parameter) else {"default": value}


class Parameter(_Model):
    """A knob of the file, written ``${name}`` where it is used. In a loaded scenario ``default`` is the value used."""

    default: Annotated[Any, BeforeValidator(_scalar)]
    choices: tuple[Annotated[Any, BeforeValidator(_scalar)], ...] | None = None
    range: tuple[Float, Float] | None = Field(None, description="[least, most], both allowed.")
    description: str = ""

    def refusal(self, value: Any) -> tuple[str, str | None] | None:
        """Why ``value`` cannot be used, as (message, hint), or None when it can."""
        if _sort(value) != _sort(self.default):
            return f"expected a {_sort(self.default)} (got {_shown(value)})", None
        if self.choices is not None and value not in self.choices:
            known = [str(c) for c in self.choices]
            near = nearest_names(str(value), known)
            hint = f'did you mean "{near[0]}"? ' if near else ""
            return f"{_shown(value)} is not one of the choices", f"{hint}choices: {', '.join(known)}"
        if self.range is not None and not (_sort(value) == "number" and self.range[0] <= value <= self.range[1]):
            return f"expected a number from {self.range[0]:g} to {self.range[1]:g} (got {_shown(value)})", None
        return None

    @model_validator(mode="after")
    def _default_fits(self) -> Parameter:
        refusal = self.refusal(self.default)
        if refusal:
            _complain(*refusal)
        return self


def _sort(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "number" if isinstance(value, int | float) else "text"


def _intervention(value: Any) -> Any:
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        _complain(f"expected a mapping with kind: <name> (got {_shown(value)})")
    return value


class Scenario(_Model):
    """A resolved scenario: what to build, who plays, how long, what to measure.

    ``interventions`` are only named here: each is a mapping with ``kind``, understood where they are run.
    """

    name: Name
    description: str = ""
    parameters: dict[Name, Annotated[Parameter, BeforeValidator(_parameter)]] = Field(default_factory=dict)
    world: WorldSpec = Field(default_factory=WorldSpec)
    player: PlayerSpec = Field(default_factory=PlayerSpec)
    episode: Episode = Field(default_factory=Episode)
    agent: AgentChoice = Field(default_factory=AgentChoice)
    hooks: tuple[str, ...] = Field((), description="Globs of hook names to trace.")
    outcomes: dict[Name, Outcome] = Field(default_factory=dict)
    interventions: dict[Name, Annotated[dict[str, Any], BeforeValidator(_intervention)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _parts_fit(self, info: ValidationInfo) -> Scenario:
        # A loader looks for these itself, so that it can name the line of each.
        if not (info.context or {}).get("located"):
            for mistake in mistakes_between_parts(self.model_dump(by_alias=True)):
                _complain(f"{'.'.join(map(str, mistake.path))}: {mistake.message}", mistake.hint)
        return self


@dataclass(frozen=True)
class Mistake:
    """One thing wrong in a scenario: the path of keys and indices to it, what, and what to do."""

    path: tuple[str | int, ...]
    message: str
    hint: str | None = None


def mistakes_between_parts(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """What is wrong between parts that are each well formed: names of outcomes and tags that do not exist.

    Args:
        data: A scenario as plain mappings and sequences; parts of the wrong type are passed over (others report them).
    """
    outcomes = _mapping(data.get("outcomes"))
    tags = {e["tag"] for e in _entities(data) if isinstance(e.get("tag"), str)}
    for i, name in enumerate(_sequence(_mapping(data.get("episode")).get("terminate_when"))):
        if isinstance(name, str) and name not in outcomes:
            yield _unknown(("episode", "terminate_when", i), "outcome", name, outcomes)
    facing = _mapping(data.get("player")).get("facing")
    if isinstance(facing, str) and facing not in COMPASS:
        placed = {e["tag"] for e in _entities(data) if isinstance(e.get("tag"), str) and "scatter" not in e}
        if facing not in placed:
            yield _unknown(("player", "facing"), "direction or tag", facing, {*COMPASS, *placed})
    for key, outcome in outcomes.items():
        for word, pattern in _mapping(outcome).items():
            table = _targets(word, tags)
            if table is not None and isinstance(pattern, str) and not fnmatch.filter(table, pattern):
                yield _unknown(("outcomes", key, word), _TARGETS[word], pattern, table)


_TARGETS = {"damaged": "tag or creature", "killed": "tag or creature", "mined": "block", "collected": "item",
            "looked_at": "tag, creature or block"}


def _targets(word: str, tags: set[str]) -> list[str] | None:
    known = catalogue()
    beings = [*tags, *known.creatures]
    blocks = [b for b in known.blocks if b != "air"]
    return {"damaged": [*beings, "any"], "killed": beings, "mined": blocks, "collected": [*known.items, *blocks],
            "looked_at": [*beings, *blocks]}.get(word)


def _unknown(path: tuple[str | int, ...], kind: str, name: str, known: Collection[str]) -> Mistake:
    problem = unknown_name(kind, name, known)
    return Mistake(path, problem.message, problem.hint)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: Any) -> list[Any] | tuple[Any, ...]:
    return value if isinstance(value, list | tuple) else ()


def _entities(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [_mapping(e) for e in _sequence(_mapping(data.get("world")).get("entities"))]
