"""``WorldSetup`` to Minecraft slash commands, in two dialects.

Order: once per session (game rules, the one that silences feedback first), clean slate, blocks, creatures, player,
time and weather. Ids and block states come from the catalogue. Not expressible as commands, and left to a world's
adapter: the selected hotbar slot and the biome.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.scenario.catalogue import catalogue
from harness.scenario.dialect import MAX_COMMAND, SETTLE, Dialect, check_command
from harness.scenario.geometry import split_box
from harness.scenario.setup import EntitySetup, Fill, IntPoint, Point, WorldSetup

__all__ = [
    "MAX_COMMAND", "MAX_FILL", "Dialect", "GameScript", "dress_command", "episode_commands", "event_commands",
    "fill_commands", "game_script", "item_command", "session_commands", "summon_commands", "teleport_command",
    "to_commands",
]

MAX_FILL = 32768
"""Blocks one /fill may change."""

_MAX_FORCED = 256  # chunks one /forceload may keep
_CHUNK = 16

_MARGIN = 12  # blocks of cleared, even ground around everything that stands
_REACH = 32  # and at least so far from the player
_HEADROOM = 10  # blocks of air above the ground, at least
_DEPTH = 4  # layers of ground


@dataclass(frozen=True)
class GameScript:
    """A world as a real game is told of it, in the order in which it has to be told.

    Attributes:
        dialect: The version that the commands are for.
        session: Once per world.
        episode: Before every episode; said twice, they build the same.
        settle_ticks: Ticks without a key that follow, before step 0.
        events: Step to what is said before the picture of that step is taken.
    """

    dialect: Dialect
    session: tuple[str, ...]
    episode: tuple[str, ...]
    settle_ticks: int
    events: Mapping[int, tuple[str, ...]]


def game_script(setup: WorldSetup, dialect: Dialect = "1.16.5") -> GameScript:
    """Everything that a backend says to build and keep a world.

    Args:
        setup: From ``compile_scenario``.
        dialect: As for ``to_commands``.

    Raises:
        ScenarioError: as ``to_commands`` does.
    """
    events = {step: tuple(lines) for step, lines in event_commands(setup, dialect).items()}
    return GameScript(dialect, tuple(session_commands(setup, dialect)), tuple(episode_commands(setup, dialect)),
                      max(setup.settle_steps, SETTLE[dialect]), events)


def to_commands(setup: WorldSetup, dialect: Dialect = "1.16.5") -> list[str]:
    """Every command that builds the world, in order: ``session_commands`` and then ``episode_commands``.

    Args:
        setup: From ``compile_scenario``.
        dialect: "1.16.5" (with a leading slash) or "1.21" (without).

    Returns:
        Commands of at most 256 characters; no fill is larger than 32,768 blocks.

    Raises:
        ScenarioError: for an unknown dialect, and for what ``check_command`` refuses: a line that is too long, a block,
            creature or item that the version does not have.
    """
    return [*session_commands(setup, dialect), *episode_commands(setup, dialect)]


def session_commands(setup: WorldSetup, dialect: Dialect = "1.16.5") -> list[str]:
    """What has to be said once per world: game rules and difficulty."""
    rules = {**catalogue().rules, **setup.rules}
    lines = [f"gamerule {name} {str(value).lower()}" for name, value in rules.items()]
    return _finished([*lines, f"difficulty {setup.difficulty}"], dialect)


def episode_commands(setup: WorldSetup, dialect: Dialect = "1.16.5") -> list[str]:
    """What has to be said before every episode."""
    lines: list[str] = []
    lines += _clean_slate(setup, dialect)
    for fill in setup.fills:
        lines += _fill(fill, dialect)
    for index, entity in enumerate(setup.entities):
        lines += _summon(entity, index, dialect)
    lines += _player(setup, dialect)
    lines += [f"time set {setup.time}", f"weather {setup.weather} 1000000"]
    return _finished(lines, dialect)


def event_commands(setup: WorldSetup, dialect: Dialect = "1.16.5") -> dict[int, list[str]]:
    """What has to be said in mid-episode: step to commands, to be run before the picture of that step is taken."""
    lines: dict[int, list[str]] = {}
    for event in setup.events:
        lines.setdefault(event.step, []).extend(_fill(event.fill, dialect))
    return {step: _finished(commands, dialect) for step, commands in lines.items()}


def fill_commands(fill: Fill, dialect: Dialect = "1.16.5") -> list[str]:
    """One cuboid of blocks: a /setblock, or as many /fill as it takes."""
    return _finished(_fill(fill, dialect), dialect)


def summon_commands(entity: EntitySetup, number: int, dialect: Dialect = "1.16.5") -> list[str]:
    """One creature.

    Args:
        entity: Which, where, and how it is dressed.
        number: Tells it from others, where its traits do not fit into one line.
        dialect: As for ``to_commands``.
    """
    return _finished(_summon(entity, number, dialect), dialect)


def teleport_command(selector: str, position: Point, yaw: float | None = None, pitch: float | None = None,
                     dialect: Dialect = "1.16.5") -> str:
    """Set the player or creatures down somewhere; with yaw and pitch, both in degrees, also turned."""
    turn = () if yaw is None or pitch is None else (yaw, pitch)
    return _finished([_tp(selector, *position, *turn)], dialect)[0]


def item_command(slot: int, item: str, count: int, dialect: Dialect = "1.16.5") -> str:
    """Put items into a slot of the player's hotbar, in place of what is there."""
    return _finished([_replace(slot, item, count, dialect)], dialect)[0]


def dress_command(selector: str, villager_type: str | None = None, profession: str | None = None,
                  dialect: Dialect = "1.16.5") -> str:
    """Dress one villager; what is None stays as it is. ``selector`` must mean one villager alone."""
    return _finished([f"data merge entity {selector} {_compound(_dress(villager_type, profession))}"], dialect)[0]


def _finished(lines: Iterable[str], dialect: Dialect) -> list[str]:
    slash = "" if dialect == "1.21" else "/"
    return [check_command(slash + line, dialect) for line in lines]


def _number(value: float) -> str:
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _cells(*cells: tuple[int, int, int]) -> str:
    return " ".join(str(number) for cell in cells for number in cell)


def _block(name: str, dialect: Dialect) -> str:
    block = catalogue().block(name)
    return "minecraft:" + (block.named_in or {}).get(dialect, block.minecraft)


def _item(name: str) -> str:
    return f"minecraft:{catalogue().item(name).name}"


def _bare(name: str, dialect: Dialect) -> str:
    # In a filter the states are left out: any state of the block matches.
    return _block(name, dialect).partition("[")[0]


def _boxes(first: tuple[int, int, int], last: tuple[int, int, int], block: str, suffix: str = "") -> Iterator[str]:
    for low, high in split_box(first, last, MAX_FILL):
        yield f"fill {_cells(low, high)} {block}{suffix}"


def _fill(fill: Fill, dialect: Dialect) -> Iterator[str]:
    if fill.first == fill.last and fill.replace is None:
        yield f"setblock {_cells(fill.first)} {_block(fill.block, dialect)}"
        return
    suffix = "" if fill.replace is None else f" replace {_bare(fill.replace, dialect)}"
    yield from _boxes(fill.first, fill.last, _block(fill.block, dialect), suffix)


def _clean_slate(setup: WorldSetup, dialect: Dialect) -> Iterator[str]:
    low, high = _extent(setup)
    ground = _block(setup.ground, dialect)
    yield "kill @e[type=!minecraft:player]"
    yield "kill @e[type=minecraft:item]"  # what the first kill dropped
    yield "gamemode survival @p"
    yield "clear @p"
    yield "effect clear @p"
    yield "experience set @p 0 levels"
    yield "experience set @p 0 points"
    # A fill needs its chunks loaded: bring the player and keep the area.
    yield _teleport(setup)
    yield "forceload remove all"  # of an episode before
    yield from _forced(low, high)
    bottom = max(0, setup.ground_y - _DEPTH + 1)
    yield from _boxes((low[0], bottom, low[2]), (high[0], setup.ground_y, high[2]), ground)
    yield from _boxes((low[0], setup.ground_y + 1, low[2]), high, "minecraft:air")


def _forced(low: IntPoint, high: IntPoint) -> Iterator[str]:
    """Keep the chunks of an area loaded, in strips along z of as many as one command may keep."""
    n_rows = high[2] // _CHUNK - low[2] // _CHUNK + 1
    width = max(1, _MAX_FORCED // n_rows) * _CHUNK
    for start in range(low[0] // _CHUNK * _CHUNK, high[0] + 1, width):
        yield f"forceload add {max(start, low[0])} {low[2]} {min(start + width - 1, high[0])} {high[2]}"


def _extent(setup: WorldSetup) -> tuple[IntPoint, IntPoint]:
    """The box to clear: all that stands, a margin, and some way around the player."""
    px, _, pz = (math.floor(v) for v in setup.player.position)
    corners = [(px - _REACH + _MARGIN, setup.ground_y, pz - _REACH + _MARGIN),
               (px + _REACH - _MARGIN, setup.ground_y, pz + _REACH - _MARGIN)]
    fills = [*setup.fills, *(event.fill for event in setup.events)]
    corners += [corner for fill in fills for corner in (fill.first, fill.last)]
    for entity in setup.entities:
        x, y, z = (math.floor(v) for v in entity.position)
        corners.append((x, y, z))
    xs, ys, zs = zip(*corners, strict=True)
    top = min(255, max(max(ys) + 1, setup.ground_y + _HEADROOM))
    return ((min(xs) - _MARGIN, setup.ground_y, min(zs) - _MARGIN), (max(xs) + _MARGIN, top, max(zs) + _MARGIN))


def _teleport(setup: WorldSetup) -> str:
    return _tp("@p", *setup.player.position, setup.player.yaw, setup.player.pitch)


def _tp(selector: str, *numbers: float) -> str:
    return f"tp {selector} {' '.join(_number(v) for v in numbers)}"


def _player(setup: WorldSetup, dialect: Dialect) -> Iterator[str]:
    yield _teleport(setup)
    for slot, (name, count) in sorted(setup.player.hotbar.items()):
        yield _replace(slot, name, count, dialect)


def _replace(slot: int, name: str, count: int, dialect: Dialect) -> str:
    if dialect == "1.21":
        return f"item replace entity @p hotbar.{slot} with {_item(name)} {count}"
    return f"replaceitem entity @p hotbar.{slot} {_item(name)} {count}"


def _summon(entity: EntitySetup, index: int, dialect: Dialect) -> Iterator[str]:
    """One /summon, and /data merge lines for what does not fit into it."""
    place = " ".join(_number(v) for v in entity.position)
    head = f"summon minecraft:{catalogue().creature(entity.type).name} {place} "
    parts = _nbt(entity, dialect)
    # One character is kept for the slash.
    if len(head) + len(_compound(parts)) < MAX_COMMAND:
        yield head + _compound(parts)
        return
    own = f"harness{index}"
    tags = [tag for tag in (entity.tag, own) if tag]
    named = {"Tags": _Raw(_list([_text(tag) for tag in tags]))}  # first: the lines that follow find it by its tag
    first, *rest = _packed(named | {key: parts[key] for key in parts if key != "Tags"}, MAX_COMMAND - 1 - len(head))
    yield head + _compound(first)
    for chunk in rest:
        yield f"data merge entity @e[tag={own},limit=1] {_compound(chunk)}"


def _packed(parts: Mapping[str, Any], room: int) -> list[dict[str, Any]]:
    """Split NBT into compounds that each fit: ``room`` for the first, the usual line for the others."""
    chunks: list[dict[str, Any]] = [{}]
    for key, value in parts.items():
        if len(_compound({**chunks[-1], key: value})) > room:
            chunks.append({})
            room = MAX_COMMAND - 60
        chunks[-1][key] = value
    return chunks


class _Raw(str):
    """NBT text that is already written."""


def _nbt(entity: EntitySetup, dialect: Dialect) -> dict[str, Any]:
    creature = catalogue().creature(entity.type)
    extra = dict(creature.minecraft or {})
    parts: dict[str, Any] = {}
    if entity.tag:
        parts["Tags"] = _Raw(_list([_text(entity.tag)]))
    if creature.stat:  # a mob; an armour stand has no mind to switch off
        if not entity.ai:
            parts["NoAI"] = True
        parts |= {"Silent": True, "PersistenceRequired": True}
    if entity.invulnerable:
        parts["Invulnerable"] = True
    parts["Rotation"] = _Raw(f"[{_number(entity.yaw)}f,{_number(entity.pitch)}f]")
    if entity.health is not None:
        parts["Health"] = _Raw(f"{_number(entity.health)}f")
    if entity.type == "villager":
        parts |= _dress(entity.villager_type, entity.profession)
    armour = _armour(extra.pop("head", None), entity.colour, dialect)
    if armour:
        parts["ArmorItems"] = _Raw(armour)
    return {**parts, **extra}


def _dress(villager_type: str | None, profession: str | None) -> dict[str, Any]:
    data, more = dict[str, Any](), dict[str, Any]()
    if profession is not None:
        data["profession"] = f"minecraft:{profession}"
    if villager_type is not None:
        data["type"] = f"minecraft:{villager_type}"
    if profession is not None:
        # A villager of level 1 without experience gives its job up when it has no work place near.
        working = profession not in ("none", "nitwit")
        data["level"], more = (2, {"Xp": 10}) if working else (1, {})
    return {"VillagerData": _Raw(_compound(data)), **more}


def _armour(head: str | None, colour: str | None, dialect: Dialect) -> str | None:
    """Boots, leggings, chest plate, helmet: the order Minecraft lists them in."""
    if head is None and colour is None:
        return None
    count = "count:1" if dialect == "1.21" else "Count:1b"
    chest = "{}"
    if colour is not None:
        number = int(colour.removeprefix("#"), 16)
        dyed = (f'components:{{"minecraft:dyed_color":{{rgb:{number}}}}}' if dialect == "1.21"
                else f"tag:{{display:{{color:{number}}}}}")
        chest = f'{{id:"minecraft:leather_chestplate",{count},{dyed}}}'
    helmet = "{}" if head is None else f'{{id:"minecraft:{head}",{count}}}'
    return _list(["{}", "{}", chest, helmet])


def _text(value: str) -> str:
    return f'"{value}"'


def _list(values: list[str]) -> str:
    return f"[{','.join(values)}]"


def _compound(parts: Mapping[str, Any]) -> str:
    return "{" + ",".join(f"{key}:{_value(value)}" for key, value in parts.items()) + "}"


def _value(value: Any) -> str:
    if isinstance(value, _Raw):
        return str(value)
    if isinstance(value, bool):
        return f"{int(value)}b"
    return str(value) if isinstance(value, int) else _text(str(value))
