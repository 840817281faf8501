"""Interventions on the world: blocks, creatures, the player's place and bag, time and weather, by commands.

At every step of its schedule, before the picture of that step, an edit sees to it that the world is as it says. Where
it is so already, nothing is run and nothing is logged: without a schedule an edit is done before the first picture and
then kept up. Where a backend does not report what an edit would have to look at, it is run at the first step of each
unbroken run of steps.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from harness.agent.agent import Agent
from harness.errors import InterventionError, ScenarioError, unknown_name
from harness.intervention.intervention import Intervention, Moment, Site
from harness.intervention.schedule import ALWAYS
from harness.scenario.catalogue import catalogue
from harness.scenario.commands import (
    MAX_COMMAND,
    dress_command,
    fill_commands,
    item_command,
    summon_commands,
    teleport_command,
)
from harness.scenario.fields import (
    BlockName,
    Bool,
    Cell,
    CreatureName,
    Int,
    ItemName,
    Name,
    Pitch,
    Slot,
    Time,
    Yaw,
    known_name,
)
from harness.scenario.fields import Point as PointField
from harness.scenario.schema import EntitySpec, Scenario
from harness.scenario.setup import EntitySetup, Fill, IntPoint, Point
from harness.world.observation import EntityState, WorldState
from harness.world.world import Capabilities

__all__ = [
    "BlockEdit", "BlockFill", "Command", "EntitySwap", "Give", "RemoveBlocks", "Robe", "Teleport", "TimeOfDay",
    "Weather", "WorldEdit",
]

PLAYER = "player"
"""What ``Teleport`` and ``RemoveBlocks`` call the player."""

_GONE_Y = -500  # below everything: a body that dies here is not seen, and drops nothing that could be picked up
_OWN_TAGS = 1000  # summoned creatures are numbered from here on; those of the scenario count from 0
_WEATHER_TICKS = 1_000_000


@dataclass(frozen=True)
class WorldEdit(Intervention):
    """Base of the edits of the world: a subclass says which commands it takes to make the world as it should be."""

    site: ClassVar[Site] = "world"

    @abstractmethod
    def change_world(self, moment: Moment) -> Sequence[str]:
        """The commands of Minecraft 1.16.5 that are still needed, each at most 256 characters; none if all is well."""

    def check(self, agent: Agent, capabilities: Capabilities | None = None) -> None:
        """Refuse a world that takes no commands.

        Raises:
            InterventionError: naming the backend.
        """
        if capabilities is not None and not capabilities.commands:
            raise self.wrong(f"the {capabilities.backend} backend takes no commands, so nothing in its world can be "
                             "changed", hint="play it with --backend blockworld, or change the picture alone")

    def keeps(self) -> Mapping[str, Any]:
        """What it keeps as it is told, by name: two edits that keep one thing differently would undo each other."""
        return {}

    def clashes(self, other: Intervention) -> str | None:
        """Edits that keep the same thing in two ways."""
        theirs = other.keeps() if isinstance(other, WorldEdit) else {}
        return next((f"each would undo what the other does to {what}" for what, value in self.keeps().items()
                     if theirs.get(what, value) != value), None)

    def wrong(self, message: str, hint: str | None = None) -> InterventionError:
        """An error that names the class."""
        return InterventionError(f"{type(self).__name__}: {message}", hint=hint)

    def read(self, name: str, kind: Any) -> None:
        """Check one field as a scenario file checks such a value, and keep it as it is read.

        Raises:
            InterventionError: with the field's name, what was expected and the nearest names.
        """
        try:
            value = TypeAdapter(kind).validate_python(getattr(self, name))
        except ValidationError as problem:
            first = problem.errors()[0]
            context = first.get("ctx") or {}
            message = context.get("message") if first["type"] == "scenario" else None
            message = message or f"{first['msg'].replace('Input should', 'it should')}, got {first['input']!r}"
            raise self.wrong(f"{name}: {message}", hint=context.get("hint")) from None
        object.__setattr__(self, name, value)

    def needs_schedule(self) -> None:
        """Refuse to go on for ever, where nothing tells that it is done.

        Raises:
            InterventionError: when there is no schedule.
        """
        if self.schedule == ALWAYS:
            raise self.wrong("without a schedule it would run at every step",
                             hint="say when: at: 0 for once, before the first picture, or every: 1 if you mean it")

    def begins(self, moment: Moment) -> bool:
        """Whether the step before was none of the schedule's; to be asked once in every step."""
        last, moment.memo["last"] = moment.memo.get("last"), moment.step
        return last != moment.step - 1


def _state(moment: Moment, **what: bool) -> WorldState:
    assert moment.world_state is not None, "a world edit runs only where there is a world"
    return moment.world_state(**what)


# ---- blocks


def _box(first: IntPoint, last: IntPoint) -> tuple[IntPoint, IntPoint]:
    (x0, x1), (y0, y1), (z0, z1) = (sorted(pair) for pair in zip(first, last, strict=True))
    return (x0, y0, z0), (x1, y1, z1)


def _cells(state: WorldState, low: IntPoint, high: IntPoint) -> npt.NDArray[np.uint8] | None:
    """Block ids [y, z, x] of a box of cells, corners included; None where the backend does not hold all of them."""
    if state.blocks is None:
        return None
    x, y, z = (a - b for a, b in zip(low, state.blocks_origin, strict=True))
    nx, ny, nz = (b - a + 1 for a, b in zip(low, high, strict=True))
    height, depth, width = state.blocks.shape
    if min(x, y, z) < 0 or x + nx > width or y + ny > height or z + nz > depth:
        return None
    return state.blocks[y:y + ny, z:z + nz, x:x + nx]


@dataclass(frozen=True)
class BlockFill(WorldEdit):
    """Fill a box with one block.

    Attributes:
        block: The block's name; ``air`` empties the box.
        first: One corner [x, y, z], included; a file may call it ``from``, as scenarios do.
        last: The opposite corner, included; a file may call it ``to``.
        replace: Change only cells that hold this block.

    Raises:
        InterventionError: for an unknown block, or a corner where no block can be.
    """

    block: str
    first: tuple[int, int, int]
    last: tuple[int, int, int]
    replace: str | None = None

    def __post_init__(self) -> None:
        self.read("block", BlockName)
        self.read("first", Cell)
        self.read("last", Cell)
        if self.replace is not None:
            self.read("replace", BlockName)
        if self.replace == self.block:
            raise self.wrong(f"replacing {self.block} with {self.block} changes nothing")

    def change_world(self, moment: Moment) -> Sequence[str]:
        """A ``/setblock``, or as many ``/fill`` as the box takes; none where the blocks are there."""
        fill = Fill(self.first, self.last, self.block, self.replace)
        return fill_commands(fill) if _is_due(self, fill, moment) else ()


@dataclass(frozen=True)
class BlockEdit(WorldEdit):
    """Set one block.

    Attributes:
        block: The block's name; ``air`` takes away what is there.
        cell: Where, [x, y, z].

    Raises:
        InterventionError: for an unknown block, or a place where no block can be.
    """

    block: str
    cell: tuple[int, int, int]

    def __post_init__(self) -> None:
        self.read("block", BlockName)
        self.read("cell", Cell)

    def keeps(self) -> Mapping[str, Any]:
        """The block."""
        return {f"the block at {list(self.cell)}": self.block}

    def change_world(self, moment: Moment) -> Sequence[str]:
        """A ``/setblock``; none where the block is there."""
        fill = Fill(self.cell, self.cell, self.block)
        return fill_commands(fill) if _is_due(self, fill, moment) else ()


def _is_due(edit: WorldEdit, fill: Fill, moment: Moment) -> bool:
    """Whether a fill would change anything; where that is not known, whether a run of steps begins."""
    begins = edit.begins(moment)
    there = _cells(_state(moment, blocks=True), *_box(fill.first, fill.last))
    if there is None:
        return begins
    block = catalogue().block(fill.block).id
    return bool((there != block if fill.replace is None else there == catalogue().block(fill.replace).id).any())


@dataclass(frozen=True)
class RemoveBlocks(WorldEdit):
    """Take every block of a kind away: in a box, around something, or wherever the world holds it.

    Attributes:
        blocks: Names, globs such as ``"*_wool"``, or the groups ``leaves``, ``logs``, ``wool``; one, or several.
        first: One corner [x, y, z] of the box, included.
        last: The opposite corner, included.
        around: The tag or the name of a creature, or ``player``, instead of a box: what is near it is taken.
        within: With ``around``: so many blocks in every direction.

    Raises:
        InterventionError: for an unknown block, half a box, or a box and ``around`` together.
    """

    blocks: tuple[str, ...]
    first: tuple[int, int, int] | None = None
    last: tuple[int, int, int] | None = None
    around: str | None = None
    within: int = 4

    def __post_init__(self) -> None:
        given: Any = self.blocks
        given = (given,) if isinstance(given, str) else given
        if not isinstance(given, list | tuple) or not given or not all(isinstance(each, str) for each in given):
            raise self.wrong(f"blocks: expected a block, a group such as leaves, or a list of them, got {given!r}")
        object.__setattr__(self, "blocks", tuple(given))
        self._names()
        if (self.first is None) != (self.last is None):
            raise self.wrong("half a box is none: give both first and last, or neither")
        if self.first is not None:
            if self.around is not None:
                raise self.wrong("a box and around both say where", hint="leave one of them out")
            self.read("first", Cell)
            self.read("last", Cell)
        if self.around is not None:
            self.read("around", Name)
        self.read("within", Int)
        if not 0 <= self.within <= 64:
            raise self.wrong(f"within: expected blocks from 0 to 64, got {self.within}")

    def _names(self) -> list[str]:
        known = catalogue()
        try:
            return list(dict.fromkeys(name for word in self.blocks for name in known.blocks_called(word)))
        except ScenarioError as problem:
            raise self.wrong(f"blocks: {problem.message}", hint=problem.hint) from problem

    def check_scenario(self, scenario: Scenario) -> None:
        """Refuse a tag that the scenario does not know."""
        super().check_scenario(scenario)
        if self.around is not None and self.around != PLAYER:
            _check_target(self.around, scenario, PLAYER)

    def change_world(self, moment: Moment) -> Sequence[str]:
        """``/fill ... air replace`` over the smallest box that holds each kind of block; none where there is none."""
        begins, state = self.begins(moment), _state(moment, blocks=True)
        boxes = list(self._boxes(state))
        fills: list[Fill] = []
        for low, high in boxes:
            if state.blocks is None:
                fills += [Fill(low, high, "air", name) for name in self._names() if begins]
            else:
                fills += _found(state, low, high, self._names())
        return [command for fill in fills for command in fill_commands(fill)]

    def _boxes(self, state: WorldState) -> Iterator[tuple[IntPoint, IntPoint]]:
        if self.first is not None and self.last is not None:
            yield _box(self.first, self.last)
        elif self.around is not None:
            bodies = [state.player.position] if self.around == PLAYER else [
                entity.position for entity in _meant(state, self.around)]
            for x, y, z in bodies:
                middle = (math.floor(x), math.floor(y), math.floor(z))
                yield ((middle[0] - self.within, max(0, middle[1] - self.within), middle[2] - self.within),
                       (middle[0] + self.within, min(255, middle[1] + self.within), middle[2] + self.within))
        elif state.blocks is not None:
            height, depth, width = state.blocks.shape
            x, y, z = state.blocks_origin
            yield (x, y, z), (x + width - 1, y + height - 1, z + depth - 1)
        else:
            raise self.wrong("this world does not tell which blocks it holds",
                             hint="say where to look: first and last, or around")


def _found(state: WorldState, low: IntPoint, high: IntPoint, names: Sequence[str]) -> Iterator[Fill]:
    """For each block that is in the box and stored: the smallest box around all of its cells, to be emptied of it."""
    assert state.blocks is not None
    origin, (height, depth, width) = state.blocks_origin, state.blocks.shape
    ends = (origin[0] + width - 1, origin[1] + height - 1, origin[2] + depth - 1)
    (x0, y0, z0), (x1, y1, z1) = tuple(map(max, low, origin)), tuple(map(min, high, ends))
    if x0 > x1 or y0 > y1 or z0 > z1:
        return
    part = _cells(state, (x0, y0, z0), (x1, y1, z1))
    assert part is not None
    for name in names:
        there = np.equal(part, catalogue().block(name).id)
        if there.any():
            places = np.argwhere(there)
            (ya, za, xa), (yb, zb, xb) = places.min(0).tolist(), places.max(0).tolist()
            yield Fill((x0 + xa, y0 + ya, z0 + za), (x0 + xb, y0 + yb, z0 + zb), "air", name)


# ---- creatures


def _meant(state: WorldState, target: str) -> list[EntityState]:
    """The living creatures with a tag; without one, those of that kind."""
    tagged = [entity for entity in state.entities if entity.tag == target and entity.alive]
    return tagged or [entity for entity in state.entities if entity.type == target and entity.alive]


def _selector(entity: EntityState, target: str, *more: str) -> str:
    """``@e[...]`` for all creatures that are meant where this one is."""
    own = f"tag={target}" if entity.tag == target else f"type=minecraft:{target}"
    return f"@e[{','.join((own, *more))}]"


def _check_target(target: str, scenario: Scenario, *others: str) -> list[str]:
    """The kinds of creature in the scenario that a target may mean.

    Raises:
        InterventionError: for a target that is neither a tag of the scenario nor a creature.
    """
    steps = scenario.world.entities
    tags = {step.tag for step in steps if step.tag is not None}
    if target in tags:
        found = [step for step in steps if step.tag == target]
        return [kind for step in found for kind in ((step.type,) if isinstance(step, EntitySpec) else step.scatter)
                if kind != "none"]
    known = catalogue().creatures
    if target not in known:
        raise unknown_name("tag or creature", target, [*tags, *known, *others], error=InterventionError)
    return [target]


@dataclass(frozen=True)
class _CreatureEdit(WorldEdit):
    """Base of the edits of creatures."""

    target: str

    def __post_init__(self) -> None:
        self.read("target", Name)

    def check(self, agent: Agent, capabilities: Capabilities | None = None) -> None:
        """Refuse a world without commands, or one that does not report its creatures."""
        super().check(agent, capabilities)
        if capabilities is not None and not capabilities.entities:
            raise self.wrong(f"the {capabilities.backend} backend does not report its creatures")

    def check_scenario(self, scenario: Scenario) -> None:
        """Refuse a target that is neither a tag of the scenario nor a creature."""
        super().check_scenario(scenario)
        _check_target(self.target, scenario)


@dataclass(frozen=True)
class EntitySwap(_CreatureEdit):
    """Put another creature where one stands; place, facing and tag stay. It comes in full health.

    Attributes:
        target: The tag of the creatures to swap, or their kind.
        creature: What takes their place.
        ai: Whether it moves by itself; a world does not tell whether the one before did.

    Raises:
        InterventionError: for an unknown creature.
    """

    creature: str
    ai: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.read("creature", CreatureName)
        self.read("ai", Bool)
        if self.target == self.creature:
            raise self.wrong(f"a {self.target} in place of a {self.target} changes nothing")

    def keeps(self) -> Mapping[str, Any]:
        """The kind of creature."""
        return {f'the kind of "{self.target}"': self.creature}

    def change_world(self, moment: Moment) -> Sequence[str]:
        """Take away, far below the ground so that nothing is seen of it, and summon."""
        found = [entity for entity in _meant(_state(moment), self.target) if entity.type != self.creature]
        if not found:
            return ()
        # Those that were swapped already bear the tag, too.
        others = (f"type=!minecraft:{self.creature}",) if found[0].tag == self.target else ()
        selector = _selector(found[0], self.target, *others)
        commands = [f"/tp {selector} ~ {_GONE_Y} ~", f"/kill {selector}"]
        for entity in found:
            setup = EntitySetup(self.creature, entity.position, entity.tag, yaw=entity.yaw, ai=self.ai)
            commands += summon_commands(setup, max(_OWN_TAGS, entity.id))
        return commands


@dataclass(frozen=True)
class Robe(_CreatureEdit):
    """Dress villagers differently; all else about them stays.

    Attributes:
        target: Their tag, or ``villager`` for all.
        type: The biome whose dress they wear: ``plains``, ``desert``, ...; None leaves it.
        profession: The apron or hat over it; None leaves it.

    Raises:
        InterventionError: for an unknown type or profession, or neither.
    """

    target: str = "villager"
    type: str | None = None
    profession: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.type is None and self.profession is None:
            raise self.wrong("expected a type or a profession")
        known = catalogue()
        if self.type is not None:
            self.read("type", Annotated[str, known_name("villager type", known.villager_types)])
        if self.profession is not None:
            self.read("profession", Annotated[str, known_name("profession", known.professions)])

    def keeps(self) -> Mapping[str, Any]:
        """What is not left out."""
        return {f'the {name} of "{self.target}"': worn for name, worn in (
            ("type", self.type), ("profession", self.profession)) if worn is not None}

    def check_scenario(self, scenario: Scenario) -> None:
        """Refuse a target that is unknown, or that is no villager."""
        super().check_scenario(scenario)
        kinds = _check_target(self.target, scenario)
        if kinds and "villager" not in kinds:
            raise self.wrong(f'"{self.target}" is of the kind {kinds[0]}, and only villagers wear robes',
                             hint='in a file that extends another, "NAME: null" leaves an inherited intervention out')

    def change_world(self, moment: Moment) -> Sequence[str]:
        """A ``/data merge`` for each that is dressed otherwise."""
        commands = []
        for entity in _meant(_state(moment), self.target):
            worn = entity.variant.split("/")
            if entity.type != "villager" or (len(worn) == 2 and all(
                    wanted in (None, now) for wanted, now in zip((self.type, self.profession), worn, strict=True))):
                continue
            x, y, z = (f"{v:.3f}" for v in entity.position)
            nearest = _selector(entity, self.target, f"x={x}", f"y={y}", f"z={z}", "sort=nearest", "limit=1")
            commands.append(dress_command(nearest, self.type, self.profession))
        return commands


# ---- player, time, weather, and anything else


@dataclass(frozen=True)
class Teleport(WorldEdit):
    """Set the player down somewhere, at rest; without a schedule it is held there. Or creatures.

    Attributes:
        position: Where the feet stand, [x, y, z]; the middle of a block ends in .5.
        yaw: Degrees, 0 faces +z (south), 90 faces -x (west); None keeps it.
        pitch: Degrees, positive looks down; None keeps the player's, and lets a creature look straight ahead.
        target: ``player``, or the tag or kind of creatures.

    Raises:
        InterventionError: for a place outside the world, or angles that are none.
    """

    position: Point
    yaw: float | None = None
    pitch: float | None = None
    target: str = PLAYER

    def __post_init__(self) -> None:
        self.read("position", PointField)
        self.read("target", Name)
        if self.yaw is not None:
            self.read("yaw", Yaw)
        if self.pitch is not None:
            self.read("pitch", Pitch)

    def keeps(self) -> Mapping[str, Any]:
        """The place."""
        return {f'the place of "{self.target}"': (self.position, self.yaw, self.pitch)}

    def check_scenario(self, scenario: Scenario) -> None:
        """Refuse a tag that the scenario does not know."""
        super().check_scenario(scenario)
        if self.target != PLAYER:
            _check_target(self.target, scenario, PLAYER)

    def change_world(self, moment: Moment) -> Sequence[str]:
        """One ``/tp``; none where no such creature is alive."""
        state = _state(moment)
        if self.target == PLAYER:
            selector, yaw, pitch = "@p", state.player.yaw, state.player.pitch
        else:
            found = _meant(state, self.target)
            if not found:
                return ()
            selector, yaw, pitch = _selector(found[0], self.target), found[0].yaw, 0.0
        if self.yaw is None and self.pitch is None:
            return [teleport_command(selector, self.position)]
        return [teleport_command(selector, self.position, yaw if self.yaw is None else self.yaw,
                                 pitch if self.pitch is None else self.pitch)]


@dataclass(frozen=True)
class TimeOfDay(WorldEdit):
    """Set the time of day; without a schedule it is held.

    Attributes:
        time: Ticks after sunrise, 0 to 23999, or ``sunrise``, ``day``, ``noon``, ``sunset``, ``night``, ``midnight``.

    Raises:
        InterventionError: for a time that is none.
    """

    time: int

    def __post_init__(self) -> None:
        self.read("time", Time)

    def keeps(self) -> Mapping[str, Any]:
        """The time."""
        return {"the time of day": self.time}

    def change_world(self, moment: Moment) -> Sequence[str]:
        """A ``/time set``; none where it is that time."""
        return () if _state(moment).time == self.time else [f"/time set {self.time}"]


@dataclass(frozen=True)
class Weather(WorldEdit):
    """Set the weather, at the first step of each unbroken run of steps that the schedule names.

    Attributes:
        weather: ``clear``, ``rain`` or ``thunder``.

    Raises:
        InterventionError: for a weather that is none.
    """

    weather: str

    def __post_init__(self) -> None:
        if self.weather not in catalogue().weathers:
            raise unknown_name("weather", str(self.weather), catalogue().weathers, error=InterventionError)

    def keeps(self) -> Mapping[str, Any]:
        """The weather."""
        return {"the weather": self.weather}

    def change_world(self, moment: Moment) -> Sequence[str]:
        """A ``/weather`` for longer than any episode: no world reports its weather, so it is told once."""
        return [f"/weather {self.weather} {_WEATHER_TICKS}"] if self.begins(moment) else ()


@dataclass(frozen=True)
class Give(WorldEdit):
    """Give the player something.

    Attributes:
        item: The item's or block's name.
        count: How many, 1 to 64.
        slot: The slot of the hotbar, 0 to 8, whose content it takes the place of, and which is kept full without a
            schedule; None puts it where there is room, and needs a schedule.

    Raises:
        InterventionError: for an unknown item, or numbers out of range.
    """

    item: str
    count: int = 1
    slot: int | None = None

    def __post_init__(self) -> None:
        self.read("item", ItemName)
        self.read("count", Int)
        if not 1 <= self.count <= 64:
            raise self.wrong(f"count: expected 1 to 64, got {self.count}")
        if self.slot is not None:
            self.read("slot", Slot)
        else:
            self.needs_schedule()

    def keeps(self) -> Mapping[str, Any]:
        """The content of the slot."""
        return {} if self.slot is None else {f"slot {self.slot}": (self.item, self.count)}

    def change_world(self, moment: Moment) -> Sequence[str]:
        """A ``/give``, or a ``/replaceitem`` where the slot holds something else."""
        if self.slot is None:
            return [f"/give @p minecraft:{self.item} {self.count}"]
        if _state(moment).player.hotbar[self.slot] == (self.item, self.count):
            return ()
        return [item_command(self.slot, self.item, self.count)]


@dataclass(frozen=True)
class Command(WorldEdit):
    """Run one command as it is written, at each step of the schedule.

    Attributes:
        text: A slash command, with or without the slash; what is known depends on the backend.

    Raises:
        InterventionError: for no text, more than one line or 256 characters, or no schedule.
    """

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip(" /") or not self.text.isprintable():
            raise self.wrong(f"text: expected one line such as /time set 6000, got {self.text!r}")
        object.__setattr__(self, "text", "/" + self.text.strip().removeprefix("/"))
        if len(self.text) > MAX_COMMAND:
            raise self.wrong(f"text: a command has at most {MAX_COMMAND} characters, this one has {len(self.text)}")
        self.needs_schedule()

    def change_world(self, moment: Moment) -> Sequence[str]:
        """The command."""
        return [self.text]
