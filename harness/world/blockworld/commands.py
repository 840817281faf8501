"""Slash commands on a block world: those that the scenario compiler writes, and their nearest relatives.

A command that would change something that this world does not have is refused; one that changes nothing here
(``experience``, ``forceload``) is accepted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from harness.errors import ScenarioError, WorldError, unknown_name
from harness.scenario.catalogue import catalogue
from harness.scenario.setup import EntitySetup, Fill, IntPoint, Point
from harness.world.blockworld.simulation import Simulation

__all__ = ["COMMANDS", "read_nbt", "run_command"]

_MAX_FILL = 32768
_FAR = 3e7  # blocks; the game's own border, and plenty for angles and counts
_PLAYERS = ("@p", "@s", "@a")
_SORTS = {"arbitrary": 0, "nearest": 1, "furthest": -1}


def run_command(simulation: Simulation, text: str) -> None:
    """Run one command, with or without its slash.

    Raises:
        WorldError: for an unknown command, block, creature, item or tag, or a malformed argument; nothing is changed
            then.
    """
    words = _words(text.strip().removeprefix("/"))
    if not words:
        raise WorldError("an empty command", hint=f"known: {', '.join(sorted(COMMANDS))}")
    if words[0] not in COMMANDS:
        raise unknown_name("command", words[0], COMMANDS, where=text, error=WorldError)
    try:
        COMMANDS[words[0]](simulation, words[1:])
    except ScenarioError as problem:  # a name that the catalogue does not know
        raise WorldError(problem.message, where=text, hint=problem.hint) from problem
    except WorldError as problem:
        raise WorldError(problem.message, where=text, hint=problem.hint) from problem
    simulation.look()


def _words(text: str) -> list[str]:
    """Split at spaces, but not inside brackets or quotes."""
    words, depth, quote, word = [], 0, "", ""
    for mark in text:
        if quote:
            quote = "" if mark == quote else quote
        elif mark in "\"'":
            quote = mark
        elif mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
        if mark == " " and depth == 0 and not quote:
            words.append(word)
            word = ""
        else:
            word += mark
    if depth or quote:
        raise WorldError("brackets or quotes do not match", where=text)
    return [w for w in [*words, word] if w]


# ---- arguments


def _need(words: Sequence[str], least: int, usage: str) -> None:
    if len(words) < least:
        raise WorldError(f"too few arguments (got {len(words)})", hint=f"usage: /{usage}")


def _number(word: str, what: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise WorldError(f'{what}: expected a number, got "{word}"') from None
    if not abs(value) <= _FAR:  # nor a NaN
        raise WorldError(f'{what}: expected a number within +-{_FAR:.0f}, got "{word}"')
    return value


def _whole(word: str, what: str) -> int:
    if not re.fullmatch(r"-?\d{1,9}", word):
        raise WorldError(f'{what}: expected a whole number, got "{word}"')
    return int(word)


def _point(simulation: Simulation, words: Sequence[str], whole: bool = False) -> Point:
    """Three coordinates; ``~`` counts from the player's feet."""
    player = simulation.player()
    values = []
    for word, axis, base in zip(words, "xyz", (player.x, player.y, player.z), strict=True):
        if word.startswith("^"):
            raise WorldError("coordinates with ^ are not known here", hint="use numbers, or ~ from the player's feet")
        if word.startswith("~"):
            start = math.floor(base) if whole else base
            values.append(start + (_number(word[1:], axis) if len(word) > 1 else 0.0))
        else:
            values.append(float(_whole(word, axis)) if whole else _number(word, axis))
    return values[0], values[1], values[2]


def _cell(simulation: Simulation, words: Sequence[str]) -> IntPoint:
    x, y, z = _point(simulation, words, whole=True)
    return math.floor(x), math.floor(y), math.floor(z)


def _block(word: str) -> str:
    """A block's name; its state, if one is written, must be the one that the catalogue stands for."""
    bare, _, state = word.removeprefix("minecraft:").partition("[")
    renamed = {new: b.name for b in catalogue().blocks.values() for new in (b.named_in or {}).values()}
    block = catalogue().block(renamed.get(bare, bare))
    if state and f"{bare}[{state}" != block.minecraft:
        raise WorldError(f'blocks have no state "[{state}" here', hint=f'write "{block.minecraft}"')
    return block.name


def _filters(word: str) -> list[str]:
    if not word.startswith("#"):
        return [_block(word)]
    tags = {f"#minecraft:{group}": group for group in catalogue().groups}
    if word not in tags:
        raise unknown_name("block tag", word, tags, error=WorldError)
    return list(catalogue().blocks_called(tags[word]))


def _selected(simulation: Simulation, selector: str) -> list[int]:
    """Rows of the creatures that an ``@e[...]`` means."""
    match = re.fullmatch(r"@e(?:\[(.*)\])?", selector)
    if not match:
        raise WorldError(f'expected a selector such as @e[tag=target], got "{selector}"')
    limit, sort, origin = None, "arbitrary", list(_point(simulation, ["~", "~", "~"]))
    rows = list(range(int(simulation.arrays.clock["n_mobs"][0])))
    for part in filter(None, (match[1] or "").split(",")):
        key, _, value = part.partition("=")
        wanted = value.removeprefix("!").removeprefix("minecraft:")
        flip = value.startswith("!")
        if key == "limit":
            limit = _whole(value, "limit")
        elif key == "sort":
            sort = value
        elif key in ("x", "y", "z"):
            origin["xyz".index(key)] = _number(value, key)
        elif key == "tag":
            rows = [row for row in rows if (wanted in simulation.tags_of(row)) != flip]
        elif key == "type":
            if wanted not in ("player", "item", "experience_orb"):
                catalogue().creature(wanted)
            names = simulation.tables.creature_names
            rows = [r for r in rows if (names[int(simulation.arrays.mobs["kind"][r])] == wanted) != flip]
        else:
            raise unknown_name("selector argument", key, ("limit", "sort", "tag", "type", "x", "y", "z"),
                               error=WorldError)
    if sort not in _SORTS:
        raise unknown_name("order", sort, _SORTS, error=WorldError)
    if _SORTS[sort]:
        bodies = simulation.arrays.mobs
        rows.sort(key=lambda row: _SORTS[sort] * math.dist(origin, [float(bodies[axis][row]) for axis in "xyz"]))
    return rows if limit is None else rows[:limit]


def _player_only(selector: str) -> None:
    if selector not in _PLAYERS:
        raise WorldError(f'expected the player, @p, got "{selector}"')


# ---- commands


def _gamerule(simulation: Simulation, words: list[str]) -> None:
    _need(words, 2, "gamerule <name> <value>")
    rules = catalogue().rules
    if words[0] not in rules:
        raise unknown_name("game rule", words[0], rules, error=WorldError)
    if isinstance(rules[words[0]], bool):
        if words[1] not in ("true", "false"):
            raise WorldError(f'{words[0]}: expected true or false, got "{words[1]}"')
        simulation.set_rule(words[0], words[1] == "true")
    else:
        simulation.set_rule(words[0], _whole(words[1], words[0]))


def _difficulty(simulation: Simulation, words: list[str]) -> None:
    _need(words, 1, "difficulty <name>")
    if words[0] not in catalogue().difficulties:
        raise unknown_name("difficulty", words[0], catalogue().difficulties, error=WorldError)
    simulation.set_difficulty(words[0])


def _kill(simulation: Simulation, words: list[str]) -> None:
    """Takes creatures away at once: no fall, no loot, no count."""
    _need(words, 1, "kill <selector>")
    if words[0] in _PLAYERS:
        simulation.arrays.player["health"], simulation.arrays.player["dead"] = 0.0, 1
        return
    simulation.remove(_selected(simulation, words[0]))
    kinds = re.findall(r"type=(!?)(?:minecraft:)?(\w+)", words[0])
    if all((name == "item") != bool(flip) for flip, name in kinds) and "tag=" not in words[0]:
        simulation.arrays.clock["n_items"] = 0


def _clear(simulation: Simulation, words: list[str]) -> None:
    _player_only(words[0] if words else "@p")
    simulation.arrays.bag[:] = 0


def _gamemode(simulation: Simulation, words: list[str]) -> None:
    _need(words, 1, "gamemode survival [@p]")
    if words[0] != "survival":
        raise WorldError(f'there is no game mode "{words[0]}" here', hint="the player always plays in survival")


def _effect(simulation: Simulation, words: list[str]) -> None:
    _need(words, 1, "effect clear @p")
    if words[0] != "clear":
        raise WorldError("there are no effects here, so none can be given", hint="only /effect clear is accepted")


def _nothing(simulation: Simulation, words: list[str]) -> None:
    """Accepted: it changes nothing that this world has."""


def _time(simulation: Simulation, words: list[str]) -> None:
    _need(words, 2, "time set|add <ticks>")
    times, length = catalogue().times, int(simulation.tables.figures["day_length"])
    if words[0] == "set":
        ticks = times[words[1]] if words[1] in times else _whole(words[1], "time")
    elif words[0] == "add":
        ticks = int(simulation.arrays.clock["time"][0]) + _whole(words[1], "time")
    else:
        raise unknown_name("time command", words[0], ("set", "add"), error=WorldError)
    simulation.arrays.clock["time"] = ticks % length


def _weather(simulation: Simulation, words: list[str]) -> None:
    _need(words, 1, "weather clear|rain|thunder [ticks]")
    if words[0] not in catalogue().weathers:
        raise unknown_name("weather", words[0], catalogue().weathers, error=WorldError)
    simulation.weather = words[0]


def _tp(simulation: Simulation, words: list[str]) -> None:
    _need(words, 4, "tp <selector> <x> <y> <z> [<yaw> <pitch>]")
    position = _point(simulation, words[1:4])
    if len(words) not in (4, 6):
        raise WorldError("expected a position, or a position with yaw and pitch",
                         hint="usage: /tp <selector> <x> <y> <z> [<yaw> <pitch>]")
    turns = [_turn(simulation, word, i) for i, word in enumerate(words[4:])]
    yaw, pitch = turns if turns else (None, None)
    if words[0] in _PLAYERS:
        simulation.teleport(position, yaw, pitch)
        return
    for row in _selected(simulation, words[0]):
        mob = simulation.arrays.mobs[row]
        mob["x"], mob["y"], mob["z"] = position
        mob["goal_x"], mob["goal_z"] = mob["x"], mob["z"]
        mob["vx"] = mob["vy"] = mob["vz"] = 0.0
        if yaw is not None:
            mob["yaw"] = mob["head_yaw"] = yaw
            mob["head_pitch"] = pitch


def _turn(simulation: Simulation, word: str, index: int) -> float:
    name = ("yaw", "pitch")[index]
    if not word.startswith("~"):
        return _number(word, name)
    base = float(getattr(simulation.player(), name))
    return base + (_number(word[1:], name) if len(word) > 1 else 0.0)


def _fill(simulation: Simulation, words: list[str]) -> None:
    usage = "fill <x y z> <x y z> <block> [replace [<block>] | outline | hollow | keep | destroy]"
    _need(words, 7, usage)
    first, last, block = _cell(simulation, words[:3]), _cell(simulation, words[3:6]), _block(words[6])
    low = tuple(map(min, first, last))
    high = tuple(map(max, first, last))
    volume = math.prod(b - a + 1 for a, b in zip(low, high, strict=True))
    if volume > _MAX_FILL:
        raise WorldError(f"too many blocks in one fill ({volume}; at most {_MAX_FILL})", hint="split it")
    mode = words[7] if len(words) > 7 else "replace"
    if mode == "replace" and len(words) > 8:
        for name in _filters(words[8]):
            simulation.fill(Fill(first, last, block, replace=name))
    elif mode in ("replace", "destroy"):
        simulation.fill(Fill(first, last, block))
    elif mode == "keep":
        simulation.fill(Fill(first, last, block, replace="air"))
    elif mode in ("outline", "hollow"):
        if mode == "hollow":
            simulation.fill(Fill(first, last, "air"))
        for axis in range(3):
            for side in (low[axis], high[axis]):
                a, b = list(low), list(high)
                a[axis] = b[axis] = side
                simulation.fill(Fill((a[0], a[1], a[2]), (b[0], b[1], b[2]), block))
    else:
        raise unknown_name("fill mode", mode, ("replace", "outline", "hollow", "keep", "destroy"), error=WorldError)


def _setblock(simulation: Simulation, words: list[str]) -> None:
    _need(words, 4, "setblock <x y z> <block> [replace | keep | destroy]")
    cell, block = _cell(simulation, words[:3]), _block(words[3])
    mode = words[4] if len(words) > 4 else "replace"
    if mode not in ("replace", "keep", "destroy"):
        raise unknown_name("setblock mode", mode, ("replace", "keep", "destroy"), error=WorldError)
    simulation.fill(Fill(cell, cell, block, replace="air" if mode == "keep" else None))


def _summon(simulation: Simulation, words: list[str]) -> None:
    _need(words, 1, "summon <creature> [<x> <y> <z>] [{...}]")
    name = catalogue().creature(words[0]).name
    position = _point(simulation, words[1:4] if len(words) >= 4 else ["~", "~", "~"])
    nbt = read_nbt(words[4]) if len(words) > 4 else {}
    entity, tags = _described(name, position, nbt)
    simulation.summon(entity, tags)


_IGNORED = ("Silent", "PersistenceRequired", "Xp", "Age", "Color", "IsBaby", "CanPickUpLoot", "DeathLootTable", "UUID",
            "NoGravity", "ShowArms", "NoBasePlate")
_READ = ("Tags", "NoAI", "Invulnerable", "Rotation", "Health", "VillagerData", "ArmorItems")


def _described(name: str, position: Point, nbt: dict[str, Any]) -> tuple[EntitySetup, tuple[str, ...]]:
    for key in nbt:
        if key not in _READ and key not in _IGNORED:
            raise unknown_name("NBT key", key, (*_READ, *_IGNORED), error=WorldError)
    if nbt.get("IsBaby") or nbt.get("Age", 0) < 0:
        raise WorldError("there are no young creatures here", hint="leave IsBaby and a negative Age out")
    yaw, pitch = nbt.get("Rotation", [0.0, 0.0])
    dress = nbt.get("VillagerData", {})
    tags = tuple(str(tag) for tag in nbt.get("Tags", []))
    setup = EntitySetup(
        type=name, position=position, tag=tags[0] if tags else None, yaw=float(yaw), pitch=float(pitch),
        ai=not nbt.get("NoAI", False), health=float(nbt["Health"]) if "Health" in nbt else None,
        villager_type=str(dress.get("type", "plains")).removeprefix("minecraft:"),
        profession=str(dress.get("profession", "none")).removeprefix("minecraft:"),
        colour=_chest_colour(nbt.get("ArmorItems", [])), invulnerable=bool(nbt.get("Invulnerable", False)))
    return setup, tags


def _chest_colour(armour: list[Any]) -> str | None:
    """The dye of the third armour item (boots, leggings, chest plate, helmet), in either dialect."""
    chest = armour[2] if len(armour) > 2 else {}
    colour = chest.get("tag", {}).get("display", {}).get("color")
    if colour is None:
        colour = chest.get("components", {}).get("minecraft:dyed_color", {}).get("rgb")
    return None if colour is None else f"#{int(colour):06x}"


def _data(simulation: Simulation, words: list[str]) -> None:
    _need(words, 4, "data merge entity <selector> {...}")
    if words[:2] != ["merge", "entity"]:
        raise WorldError(f'only "data merge entity" is known, got "data {words[0]} {words[1]}"')
    nbt = read_nbt(words[3])
    for row in _selected(simulation, words[2]):
        mob = simulation.arrays.mobs[row]
        name = simulation.tables.creature_names[int(mob["kind"])]
        told = dict(nbt)
        if isinstance(told.get("VillagerData"), dict):  # a compound is merged, too: what it leaves out stays
            told["VillagerData"] = {**simulation.dress(row), **told["VillagerData"]}
        entity, tags = _described(name, (0.0, 0.0, 0.0), told)
        simulation.change(row, entity, tags, set(nbt))


def _slot(word: str) -> int:
    match = re.fullmatch(r"hotbar\.([0-8])", word)
    if not match:
        raise WorldError(f'expected a slot from hotbar.0 to hotbar.8, got "{word}"')
    return int(match[1])


def _replaceitem(simulation: Simulation, words: list[str]) -> None:
    _need(words, 4, "replaceitem entity @p hotbar.<0-8> <item> [count]")
    _player_only(words[1])
    _put(simulation, _slot(words[2]), words[3], words[4:])


def _item(simulation: Simulation, words: list[str]) -> None:
    _need(words, 6, "item replace entity @p hotbar.<0-8> with <item> [count]")
    if words[0] != "replace" or words[1] != "entity" or words[4] != "with":
        raise WorldError('only "item replace entity @p <slot> with <item>" is known')
    _player_only(words[2])
    _put(simulation, _slot(words[3]), words[5], words[6:])


def _put(simulation: Simulation, slot: int, item: str, count: list[str]) -> None:
    name = item.removeprefix("minecraft:")
    simulation.put(slot, name, _whole(count[0], "count") if count else 1)


def _give(simulation: Simulation, words: list[str]) -> None:
    _need(words, 2, "give @p <item> [count]")
    _player_only(words[0])
    simulation.give(words[1].removeprefix("minecraft:"), _whole(words[2], "count") if len(words) > 2 else 1)


COMMANDS: dict[str, Callable[[Simulation, list[str]], None]] = {
    "advancement": _nothing, "clear": _clear, "data": _data, "difficulty": _difficulty, "effect": _effect,
    "experience": _nothing, "fill": _fill, "forceload": _nothing, "gamemode": _gamemode, "gamerule": _gamerule,
    "give": _give, "item": _item, "kill": _kill, "recipe": _nothing, "replaceitem": _replaceitem,
    "scoreboard": _nothing, "setblock": _setblock, "setworldspawn": _nothing, "spawnpoint": _nothing,
    "summon": _summon, "time": _time, "tp": _tp, "teleport": _tp, "weather": _weather, "xp": _nothing,
}
"""Every command that is understood."""


# ---- NBT as text


_TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\')|([A-Za-z0-9_.+-]+)|([{}\[\]:,;]))')


def read_nbt(text: str) -> dict[str, Any]:
    """A compound in Minecraft's text form: ``{NoAI:1b,Rotation:[180f,0f]}``. Bytes 0 and 1 become booleans.

    Raises:
        WorldError: when it is not one.
    """
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if not match:
            raise WorldError(f"NBT: cannot read {text[at:at + 20]!r}")
        quoted, word, mark = match.groups()
        tokens.append(("text", quoted[1:-1]) if quoted else ("word", word) if word else ("mark", mark))
        at = match.end()
    tokens.append(("end", ""))
    value, rest = _nbt_value(tokens, 0)
    if not isinstance(value, dict) or tokens[rest][0] != "end":
        raise WorldError(f"NBT: expected one compound {{...}}, got {text[:40]!r}")
    return value


def _nbt_value(tokens: list[tuple[str, str]], at: int) -> tuple[Any, int]:
    kind, text = tokens[at]
    if kind == "text":
        return text, at + 1
    if kind == "word":
        return _scalar(text), at + 1
    if text == "{":
        return _nbt_compound(tokens, at + 1)
    if text == "[":
        return _nbt_list(tokens, at + 1)
    raise WorldError(f"NBT: expected a value, got {text or 'the end'!r}")


def _nbt_compound(tokens: list[tuple[str, str]], at: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while tokens[at] != ("mark", "}"):
        kind, key = tokens[at]
        if kind not in ("word", "text") or tokens[at + 1] != ("mark", ":"):
            raise WorldError(f"NBT: expected key:value, got {key or 'the end'!r}")
        found[key], at = _nbt_value(tokens, at + 2)
        at = _comma(tokens, at, "}")
    return found, at + 1


def _nbt_list(tokens: list[tuple[str, str]], at: int) -> tuple[list[Any], int]:
    found = []
    if tokens[at][0] == "word" and tokens[at + 1] == ("mark", ";"):  # [I;1,2,3,4]
        at += 2
    while tokens[at] != ("mark", "]"):
        value, at = _nbt_value(tokens, at)
        found.append(value)
        at = _comma(tokens, at, "]")
    return found, at + 1


def _comma(tokens: list[tuple[str, str]], at: int, end: str) -> int:
    if tokens[at] == ("mark", ","):
        return at + 1
    if tokens[at] != ("mark", end):
        raise WorldError(f"NBT: expected , or {end}, got {tokens[at][1] or 'the end'!r}")
    return at


def _scalar(word: str) -> Any:
    if word in ("true", "1b"):
        return True
    if word in ("false", "0b"):
        return False
    if re.fullmatch(r"[+-]?\d+[bslBSL]?", word):
        return int(word.rstrip("bslBSL"))
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[fdFD]?", word):
        return float(word.rstrip("fdFD"))
    return word
