"""What a scenario file may say: one frozen model per mapping, checked against the catalogue.

The models hold a *resolved* scenario: ``extends`` merged, parameters filled in. Reading files is ``load.py``'s work.
Several mappings are told apart by their first key, which also carries the value that matters most:
``{fill: oak_leaves, from: ..., to: ...}``, ``{damaged: target}``.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from harness.errors import ScenarioError, nearest_names, unknown_name
from harness.scenario.catalogue import catalogue
from harness.scenario.fields import (
    COMPASS,
    MAX_SPAN,
    BlockName,
    BlockOrNone,
    Bool,
    Cell,
    Colour,
    Column,
    Count,
    CreatureName,
    CreatureOrNone,
    Float,
    Int,
    ItemName,
    ItemShort,
    Name,
    OneOrMany,
    Pitch,
    Point,
    Rules,
    Scalar,
    Slot,
    Slots,
    Species,
    SpeciesOrNone,
    Time,
    Yaw,
    complain,
    known_name,
    shown,
)

__all__ = [
    "AgentChoice", "BlockStep", "Collected", "Damaged", "EntitySpec", "EntityStep", "Episode", "Event", "FillBlocks",
    "FillEvent", "HotbarItem", "Jitter", "Killed", "LineBlocks", "LineEvent", "LookedAtTarget", "Mined", "Mistake",
    "Moved", "Outcome", "Parameter", "PlantTree", "PlayerSpec", "Pressed", "ScatterCreatures", "ScatterTrees",
    "Scenario", "SetBlock", "SetEvent", "Turned", "VillagerDress", "WorldSpec", "mistakes_between_parts",
]

class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Cuboid(_Model):
    first: Cell = Field(alias="from", description="One corner [x, y, z], included.")
    last: Cell = Field(alias="to", description="The opposite corner, included.")

    @model_validator(mode="after")
    def _not_too_long(self) -> _Cuboid:
        for axis, a, b in zip("xyz", self.first, self.last, strict=True):
            if abs(a - b) >= MAX_SPAN:
                complain(f"it spans {abs(a - b) + 1} blocks along {axis}; at most {MAX_SPAN} are allowed",
                          "use a smaller box, or split it")
        return self


class FillBlocks(_Cuboid):
    """A solid box of one block."""

    fill: BlockOrNone = Field(description="The block; none leaves the step out.")
    replace: BlockName | None = Field(default=None, description="Change only cells that hold this block.")


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
    height: Annotated[Int, Field(ge=2, le=16)] | None = Field(
        default=None, description="Blocks of trunk; else from the seed.")


class _Scatter(_Model):
    count: Count = Field(description="How many, or [fewest, most].")
    first: Column = Field(alias="from", description="One corner [x, z] of the rectangle, included.")
    last: Column = Field(alias="to", description="The opposite corner [x, z], included.")
    min_distance: Annotated[Float, Field(ge=0, le=MAX_SPAN)] = Field(
        default=3.0, description="Blocks between any two things planted or scattered.")
    keep_clear: Annotated[Float, Field(ge=0, le=MAX_SPAN)] = Field(
        default=3.0, description="Blocks around the player and around placed creatures that stay free.")


class ScatterTrees(_Scatter):
    """Trees at places drawn from the seed."""

    scatter: Annotated[tuple[Species, ...], OneOrMany] = Field(
        min_length=1, description="Species to draw from.")


class VillagerDress(_Model):
    """What a villager wears. Other creatures have no use for it, so that one line can swap the creature."""

    type: Annotated[str, known_name("villager type", catalogue().villager_types)] = "plains"
    profession: Annotated[str, known_name("profession", catalogue().professions)] = "none"


class Jitter(_Model):
    """Half-widths of uniform offsets drawn from the seed: blocks (x and z) and degrees."""

    position: Annotated[Float, Field(ge=0, le=16)] = 0.0
    yaw: Annotated[Float, Field(ge=0, le=180)] = 0.0
    pitch: Annotated[Float, Field(ge=0, le=90)] = 0.0


class _Creature(_Model):
    tag: Name | None = Field(default=None, description="A name for outcomes and interventions; several may share one.")
    facing: Literal["player", "north", "east", "south", "west"] | None = None
    yaw: Yaw | None = Field(default=None, description="Degrees; 0 faces +z (south), 90 faces -x (west).")
    pitch: Pitch = 0.0
    ai: Bool = Field(default=True, description="false: stands still.")
    health: Annotated[Float, Field(gt=0, le=1024)] | None = Field(
        default=None, description="Half hearts; else the creature's.")
    villager: VillagerDress = VillagerDress()
    colour: Colour | None = Field(default=None, description="Chest plate of an armor stand or zombie, #rrggbb.")
    invulnerable: Bool = False

    @model_validator(mode="after")
    def _one_direction(self) -> _Creature:
        if self.facing is not None and self.yaw is not None:
            complain("facing and yaw both say where it looks", "leave one of them out")
        return self


class EntitySpec(_Creature):
    """One creature at a place."""

    type: CreatureOrNone = Field(description="The creature; none leaves it out.")
    at: Point = Field(description="Where its feet stand [x, y, z]; the middle of a block ends in .5.")
    jitter: Jitter = Jitter()

    @model_validator(mode="after")
    def _can_wear(self) -> EntitySpec:
        if self.colour is not None and self.type not in ("armor_stand", "zombie", "none"):
            complain(f"a {self.type} wears no chest plate, so colour has no effect",
                      "for a villager choose villager: {type: ...}; a colour fits an armor_stand or a zombie")
        return self


class ScatterCreatures(_Creature, _Scatter):
    """Creatures at places drawn from the seed; they face anywhere unless told."""

    scatter: Annotated[tuple[CreatureName, ...], OneOrMany] = Field(
        min_length=1, description="Creatures to draw from.")


def _by_key(*pairs: tuple[str, type[_Model]]) -> Discriminator:
    def choose(value: Any) -> str | None:
        for key, model in pairs:
            if isinstance(value, model) or (isinstance(value, Mapping) and key in value):
                return f"<{key}>"
        return None
    keys = [key for key, _ in pairs]
    context: dict[str, Any] = {"keys": keys}
    return Discriminator(choose, custom_error_type="no_first_key",
                         custom_error_message=f"expected a mapping with one of the keys {', '.join(keys)}",
                         custom_error_context=context)


BlockStep = Annotated[
    Annotated[FillBlocks, Tag("<fill>")] | Annotated[SetBlock, Tag("<set>")] | Annotated[LineBlocks, Tag("<line>")]
    | Annotated[PlantTree, Tag("<tree>")] | Annotated[ScatterTrees, Tag("<scatter>")],
    _by_key(("fill", FillBlocks), ("set", SetBlock), ("line", LineBlocks), ("tree", PlantTree),
            ("scatter", ScatterTrees))]


class _Timed(_Model):
    step: Annotated[Int, Field(ge=0, le=10_000_000)] = Field(
        description="It is done before the picture that the agent sees at this step; 0 is the first picture.")


class FillEvent(_Timed, FillBlocks):
    """A box of one block, in mid-episode."""


class SetEvent(_Timed, SetBlock):
    """One block, in mid-episode."""


class LineEvent(_Timed, LineBlocks):
    """A line of blocks, in mid-episode."""


Event = Annotated[
    Annotated[FillEvent, Tag("<fill>")] | Annotated[SetEvent, Tag("<set>")] | Annotated[LineEvent, Tag("<line>")],
    _by_key(("fill", FillEvent), ("set", SetEvent), ("line", LineEvent))]
EntityStep = Annotated[
    Annotated[EntitySpec, Tag("<type>")] | Annotated[ScatterCreatures, Tag("<scatter>")],
    _by_key(("type", EntitySpec), ("scatter", ScatterCreatures))]


class WorldSpec(_Model):
    """The world before the first tick."""

    seed: Annotated[Int, Field(ge=0, lt=2**63)] | None = Field(
        default=None, description="Fixes trees, scattering and creature jitter; else they follow the episode's seed.")
    ground: BlockName = "grass_block"
    ground_y: Annotated[Int, Field(ge=1, le=200)] = Field(default=99, description="Height of the topmost ground block.")
    biome: Annotated[str, known_name("biome", catalogue().biomes)] = "plains"
    time: Time = Field(default=6000, description="Ticks after sunrise, or noon, midnight, ...")
    weather: Annotated[str, known_name("weather", catalogue().weathers)] = "clear"
    difficulty: Annotated[str, known_name("difficulty", catalogue().difficulties)] = "easy"
    rules: Rules = Field(
        default_factory=dict, description="Minecraft game rules; all that happens by itself is off to begin with.")
    blocks: tuple[BlockStep, ...] = Field(
        default=(), description="Steps in order; a later one overwrites an earlier one.")
    entities: tuple[EntityStep, ...] = ()


class HotbarItem(_Model):
    """What lies in one hotbar slot."""

    item: ItemName
    count: Annotated[Int, Field(ge=1, le=64)] = 1


class PlayerSpec(_Model):
    """Where the agent starts and what it holds."""

    at: Point = (0.5, 100.0, 0.5)
    yaw: Yaw | None = Field(default=None, description="Degrees; 0 faces +z (south). Not together with facing.")
    pitch: Pitch = Field(default=0.0, description="Degrees; positive looks down.")
    facing: str | None = Field(default=None, description="north, east, south, west, or the tag of a creature.")
    hotbar: Annotated[dict[Slot, Annotated[HotbarItem, ItemShort]], *Slots] = Field(
        default_factory=dict, description="Slot 0 to 8 to an item, or to {item, count}.")
    selected: Annotated[Int, Field(ge=0, le=8)] = 0
    jitter: Jitter = Jitter()

    @model_validator(mode="after")
    def _one_direction(self) -> PlayerSpec:
        if self.facing is not None and self.yaw is not None:
            complain("facing and yaw both say where the player looks", "leave one of them out")
        return self


class Episode(_Model):
    """How long an episode lasts. 20 steps are one second."""

    max_steps: Annotated[Int, Field(ge=1, le=10_000_000)] = 600
    settle_steps: Annotated[Int, Field(ge=0, le=2000)] = Field(
        default=20, description="Steps without input before step 0, while light and creatures settle.")
    terminate_when: tuple[str, ...] = Field(
        default=(), description="Outcomes; the first that comes true ends the episode.")


class AgentChoice(_Model):
    """The agent that plays unless another is asked for."""

    name: str = "vpt-nano"
    options: dict[str, Any] = Field(default_factory=dict, description="Arguments for the agent's class.")


_KEYS = ("attack", "back", "drop", "forward", "inventory", "jump", "left", "right", "sneak", "sprint", "use")


def _key(name: str) -> str:
    if name not in _KEYS:
        problem = unknown_name("key", name, _KEYS)
        complain(problem.message, problem.hint)
    return name


Key = Annotated[str, AfterValidator(_key), WithJsonSchema({"enum": list(_KEYS)})]
"""A key that outcomes can count."""


class _Counted(_Model):
    at_least: Annotated[Int, Field(ge=1)] = Field(default=1, description="How often before the outcome is true.")


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
    within: Annotated[Float, Field(gt=0)] | None = Field(default=None, description="Blocks from the eye, at most.")
    reachable: Bool = Field(default=False, description="true: only where an attack would land.")
    pressing: Key | None = Field(default=None, description="Count only steps in which this key is held.")


class Pressed(_Counted):
    """Steps in which a key is held, or one of several."""

    pressed: Annotated[tuple[Key, ...], OneOrMany] = Field(description="A key, or a list of keys.")
    since: Annotated[Int, Field(ge=0)] = Field(default=0, description="The first step that counts.")
    until: Annotated[Int, Field(ge=0)] | None = Field(default=None, description="The last step that counts.")

    @model_validator(mode="after")
    def _not_empty(self) -> Pressed:
        if not self.pressed:
            complain("pressed: expected at least one key", f"known: {', '.join(_KEYS)}")
        if self.until is not None and self.until < self.since:
            complain(f"no step lies between since: {self.since} and until: {self.until}",
                     "let until be the later of the two")
        return self


class Moved(_Counted):
    """Steps spent at least so far from the start, in blocks."""

    moved: Annotated[Float, Field(gt=0)]


class Turned(_Counted):
    """Steps after the view has turned so far from its first heading, in degrees; left and right cancel out."""

    turned: Annotated[Float, Field(gt=0)]
    staying: Annotated[Float, Field(gt=0)] | None = Field(
        default=None, description="Count only while the player has never been so many blocks from the start.")


Outcome = Annotated[
    Annotated[Damaged, Tag("<damaged>")] | Annotated[Killed, Tag("<killed>")] | Annotated[Mined, Tag("<mined>")]
    | Annotated[Collected, Tag("<collected>")] | Annotated[LookedAtTarget, Tag("<looked_at>")]
    | Annotated[Moved, Tag("<moved>")] | Annotated[Turned, Tag("<turned>")] | Annotated[Pressed, Tag("<pressed>")],
    _by_key(("damaged", Damaged), ("killed", Killed), ("mined", Mined), ("collected", Collected),
            ("looked_at", LookedAtTarget), ("moved", Moved), ("turned", Turned), ("pressed", Pressed))]


def read_outcome(value: Any) -> Outcome:
    """An outcome from a mapping in a scenario's words, such as ``{damaged: villager}``.

    Raises:
        ScenarioError: saying what is wrong with it.
    """
    try:
        outcome: Outcome = TypeAdapter(Outcome).validate_python(value)
    except ValidationError as problem:
        first = problem.errors()[0]
        raise ScenarioError(f"{value!r} is no outcome: {first['msg']}",
                            hint="docs/scenarios.md lists them") from problem
    return outcome


def _parameter(value: Any) -> Any:
    return value if isinstance(value, Mapping | Parameter) else {"default": value}


class Parameter(_Model):
    """A knob of the file, written ``${name}`` where it is used. In a loaded scenario ``default`` is the value used."""

    default: Scalar
    choices: tuple[Scalar, ...] | None = None
    range: tuple[Float, Float] | None = Field(default=None, description="[least, most], both allowed.")
    description: str = ""

    def refusal(self, value: Any) -> tuple[str, str | None] | None:
        """Why ``value`` cannot be used, as (message, hint), or None when it can."""
        if _sort(value) != _sort(self.default):
            return f"expected {_sort(self.default)} (got {shown(value)})", None
        if self.choices is not None and value not in self.choices:
            known = [str(c) for c in self.choices]
            near = nearest_names(str(value), known)
            hint = f'did you mean "{near[0]}"? ' if near else ""
            return f"{shown(value)} is not one of the choices", f"{hint}choices: {', '.join(known)}"
        if self.range is not None and not (_sort(value) == "a number" and self.range[0] <= value <= self.range[1]):
            return f"expected a number from {self.range[0]:g} to {self.range[1]:g} (got {shown(value)})", None
        return None

    @model_validator(mode="after")
    def _default_fits(self) -> Parameter:
        refusal = self.refusal(self.default)
        if refusal:
            complain(*refusal)
        return self


def _sort(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "text" if isinstance(value, str) else "something else"


def _intervention(value: Any) -> Any:
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        complain(f"expected a mapping with kind: <name> (got {shown(value)})")
    return value


Intervention = Annotated[dict[str, Any], BeforeValidator(_intervention), WithJsonSchema(
    {"type": "object", "properties": {"kind": {"type": "string"}}})]
"""A mapping with ``kind``; what stands beside it is understood where it is run."""


class Scenario(_Model):
    """A resolved scenario: what to build, who plays, how long, what to measure.

    ``interventions`` are only named here: each is a mapping with ``kind``, understood where they are run.
    """

    name: Name
    description: str = ""
    parameters: dict[Name, Annotated[Parameter, BeforeValidator(_parameter)]] = Field(default_factory=dict)
    world: WorldSpec = WorldSpec()
    player: PlayerSpec = PlayerSpec()
    episode: Episode = Episode()
    events: tuple[Event, ...] = Field(default=(), description="What changes in mid-episode, whatever the agent does.")
    agent: AgentChoice = AgentChoice()
    hooks: tuple[str, ...] = Field(default=(), description="Globs of hook names to trace.")
    outcomes: dict[Name, Outcome] = Field(default_factory=dict)
    interventions: dict[Name, Intervention] = Field(
        default_factory=dict, description="Named changes, each of one thing; they act when a run asks for them.")

    @model_validator(mode="after")
    def _parts_fit(self, info: ValidationInfo) -> Scenario:
        # A loader looks for these itself, so that it can name the line of each.
        if not (info.context or {}).get("located"):
            for mistake in mistakes_between_parts(self.model_dump(by_alias=True)):
                complain(f"{'.'.join(map(str, mistake.path))}: {mistake.message}", mistake.hint)
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
    length = _mapping(data.get("episode")).get("max_steps", Episode().max_steps)
    for i, event in enumerate(_sequence(data.get("events"))):
        step = _mapping(event).get("step")
        if type(step) is int and type(length) is int and 0 < length <= step:
            yield Mistake(("events", i, "step"), f"step {step} never comes: the episode has steps 0 to {length - 1}",
                          "let it happen earlier, or raise episode.max_steps")
    facing = _mapping(data.get("player")).get("facing")
    if isinstance(facing, str) and facing not in COMPASS:
        placed = {e["tag"] for e in _entities(data) if isinstance(e.get("tag"), str) and "scatter" not in e}
        if facing not in placed:
            yield _unknown(("player", "facing"), "direction or tag", facing, {*COMPASS, *placed})
    for rule, setting in _mapping(_mapping(data.get("world")).get("rules")).items():
        default = catalogue().rules.get(str(rule))
        if default is not None and type(setting) is not type(default):
            wanted = "true or false" if isinstance(default, bool) else "a whole number"
            yield Mistake(("world", "rules", rule), f"rule {rule} takes {wanted} (got {shown(setting)})")
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
