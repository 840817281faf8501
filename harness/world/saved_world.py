"""A saved world of Minecraft 1.16.5 that builds a scenario as it loads: for a game that takes no commands.

``level.dat`` is NBT, Minecraft's binary tree (https://minecraft.wiki/w/NBT_format, /w/Java_Edition_level_format); the
scenario lies in a datapack, whose functions need no cheats. The folders are as MineRL's loader wants them.
"""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.scenario.catalogue import catalogue
from harness.scenario.datapack import NAMESPACE, datapack
from harness.scenario.setup import WorldSetup

__all__ = ["level_dat", "write_saved_world"]

_DATA_VERSION = 2586  # of 1.16.5
_DIFFICULTIES = ("peaceful", "easy", "normal", "hard")
_TAGS = {"byte": (1, ">b"), "int": (3, ">i"), "long": (4, ">q"), "float": (5, ">f"), "double": (6, ">d")}
_STRING, _LIST, _COMPOUND = 8, 9, 10


def write_saved_world(setup: WorldSetup, path: Path) -> Path:
    """Write a saved world as a zip file.

    Args:
        setup: From ``compile_scenario``.
        path: Of the zip file.

    Returns:
        ``path``.
    """
    root = f"./saves/{NAMESPACE}/"
    pack = {f"{root}datapacks/{NAMESPACE}/{name}": text for name, text in datapack(setup).items()}
    folders = {root}
    for name in pack:
        parts = name.split("/")
        folders.update("/".join(parts[:n]) + "/" for n in range(3, len(parts)))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for folder in sorted(folders):  # the first entry names the world, and folders come before what is in them
            file.writestr(folder, "")
        file.writestr(f"{root}level.dat", gzip.compress(level_dat(setup), mtime=0))
        for name, text in sorted(pack.items()):
            file.writestr(name, text)
    return path


def level_dat(setup: WorldSetup) -> bytes:
    """``level.dat``, not yet compressed: even ground of the scenario's block, its rules, its time, its spawn point."""
    x, y, z = (math.floor(v) for v in setup.player.position)
    rules = {**catalogue().rules, **setup.rules}
    data = {
        "DataVersion": ("int", _DATA_VERSION), "version": ("int", 19133), "LevelName": NAMESPACE,
        "Version": {"Id": ("int", _DATA_VERSION), "Name": "1.16.5", "Snapshot": ("byte", 0)},
        "initialized": ("byte", 1), "GameType": ("int", 0), "hardcore": ("byte", 0), "allowCommands": ("byte", 0),
        "Difficulty": ("byte", _DIFFICULTIES.index(setup.difficulty)), "DifficultyLocked": ("byte", 0),
        "SpawnX": ("int", x), "SpawnY": ("int", y), "SpawnZ": ("int", z), "SpawnAngle": ("float", setup.player.yaw),
        "Time": ("long", 0), "DayTime": ("long", setup.time), "LastPlayed": ("long", 0),
        "raining": ("byte", setup.weather != "clear"), "thundering": ("byte", setup.weather == "thunder"),
        "clearWeatherTime": ("int", 1000000 if setup.weather == "clear" else 0), "rainTime": ("int", 1000000),
        "thunderTime": ("int", 1000000), "WanderingTraderSpawnChance": ("int", 0),
        "GameRules": {name: str(value).lower() for name, value in rules.items()},
        "DataPacks": {"Enabled": ["vanilla", f"file/{NAMESPACE}"], "Disabled": []},
        "WorldGenSettings": _generator(setup),
    }
    return bytes([_COMPOUND]) + _text("") + _compound({"Data": data})


def _generator(setup: WorldSetup) -> dict[str, Any]:
    seed = ("long", setup.seed)
    layers = [("bedrock", 1), ("dirt", max(1, setup.ground_y - 1)), (setup.ground, 1)]
    flat = {"biome": f"minecraft:{setup.biome}", "lakes": ("byte", 0), "features": ("byte", 0),
            "structures": {"structures": {}},
            "layers": [{"block": f"minecraft:{block}", "height": ("int", height)} for block, height in layers]}

    def noise(settings: str, biomes: dict[str, Any]) -> dict[str, Any]:
        return {"type": "minecraft:noise", "seed": seed, "settings": f"minecraft:{settings}",
                "biome_source": {**biomes, "seed": seed}}

    nether = noise("nether", {"type": "minecraft:multi_noise", "preset": "minecraft:nether"})
    # Nether and End are the game's own: with others it asks whether to go on, and nobody would answer.
    return {"seed": seed, "generate_features": ("byte", 0), "bonus_chest": ("byte", 0), "dimensions": {
        "minecraft:overworld": {"type": "minecraft:overworld",
                                "generator": {"type": "minecraft:flat", "settings": flat}},
        "minecraft:the_nether": {"type": "minecraft:the_nether", "generator": nether},
        "minecraft:the_end": {"type": "minecraft:the_end",
                              "generator": noise("end", {"type": "minecraft:the_end"})}}}


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def _compound(values: Mapping[str, Any]) -> bytes:
    return b"".join(bytes([_tag(value)]) + _text(name) + _payload(value) for name, value in values.items()) + b"\0"


def _tag(value: Any) -> int:
    if isinstance(value, tuple):
        return _TAGS[value[0]][0]
    return _STRING if isinstance(value, str) else _COMPOUND if isinstance(value, Mapping) else _LIST


def _payload(value: Any) -> bytes:
    if isinstance(value, tuple):
        return struct.pack(_TAGS[value[0]][1], value[1])
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return _compound(value)
    assert isinstance(value, Sequence)
    kind = _tag(value[0]) if value else 0
    return bytes([kind]) + struct.pack(">i", len(value)) + b"".join(map(_payload, value))
