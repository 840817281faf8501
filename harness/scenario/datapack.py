"""A scenario as a datapack: for a game that takes no commands but loads a saved world (stock MineRL).

Functions of a datapack run at permission level 2, without cheats. Pure data: whoever makes the world file writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from harness.scenario.commands import game_script
from harness.scenario.dialect import Dialect
from harness.scenario.setup import WorldSetup

__all__ = ["NAMESPACE", "datapack"]

NAMESPACE = "harness"
_READY = "harness_ready"
_FORMATS = {"1.16.5": (6, "functions"), "1.21": (48, "function")}
"""Number of the pack's format, and how its folders of functions are called."""


def datapack(setup: WorldSetup, dialect: Dialect = "1.16.5") -> Mapping[str, str]:
    """Path within the datapack to text.

    The world is built when the player is first seen in it, from a function that runs every tick; events follow it by
    as many ticks as the world settles and their step says.

    Args:
        setup: From ``compile_scenario``.
        dialect: The version of the game.

    Returns:
        ``pack.mcmeta``, the two lists of functions that the game runs by itself, and the functions ``session``,
        ``begin``, ``episode`` and, for each step with events, ``event_<step>``.

    Raises:
        ScenarioError: as ``to_commands`` does.
    """
    script = game_script(setup, dialect)
    number, folder = _FORMATS[dialect]
    tick = [f"execute as @a[tag=!{_READY}] at @s run function {NAMESPACE}:begin"]
    begin = [f"tag @s add {_READY}", f"function {NAMESPACE}:session", f"function {NAMESPACE}:episode"]
    begin += [f"schedule function {NAMESPACE}:event_{step} {script.settle_ticks + step + 1}t" for step in script.events]
    functions: dict[str, Sequence[str]] = {"session": script.session, "episode": script.episode, "tick": tick,
                                           "begin": begin}
    functions |= {f"event_{step}": lines for step, lines in script.events.items()}
    return {
        "pack.mcmeta": _json({"pack": {"pack_format": number, "description": f"scenario {setup.name}"}}),
        f"data/minecraft/tags/{folder}/tick.json": _json({"values": [f"{NAMESPACE}:tick"]}),
        **{f"data/{NAMESPACE}/{folder}/{name}.mcfunction": "".join(f"{line.removeprefix('/')}\n" for line in lines)
           for name, lines in functions.items()},
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
