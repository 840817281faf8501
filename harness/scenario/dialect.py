"""What a slash command may say in a version of Minecraft: its length, its words, its names.

The names of 1.16.5 lie in ``minecraft_1_16_5.json``; they are those of PyPI's ``minecraft_data`` 3.20.0 (MIT), which a
test compares. Of 1.21 what was renamed since is known here, and which commands and creatures are new; of
blocks, items and game rules an unknown name passes there.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Literal, get_args

from harness.errors import ScenarioError, nearest_names

__all__ = ["DIALECTS", "MAX_COMMAND", "SETTLE", "Dialect", "check_command", "game_names"]

Dialect = Literal["1.16.5", "1.21"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)

MAX_COMMAND = 256
"""Characters a chat line carries, the slash included."""

SETTLE: Mapping[str, int] = {"1.16.5": 20, "1.21": 25}
"""Ticks, at least, until what commands built is meshed, lit and free of chat."""

_WOODS = ("acacia", "birch", "cherry", "dark_oak", "jungle", "mangrove", "oak", "spruce")
_NEW = {
    "command": ("damage", "fillbiome", "item", "jfr", "perf", "place", "random", "return", "ride", "rotate", "tick",
                "transfer"),
    "entity": ("allay", "armadillo", "axolotl", "bamboo_chest_raft", "bamboo_raft", "block_display", "bogged", "breeze",
               "breeze_wind_charge", "camel", "creaking", "frog", "glow_item_frame", "glow_squid", "goat",
               "interaction", "item_display", "marker", "ominous_item_spawner", "sniffer", "tadpole", "text_display",
               "warden", "wind_charge", *(f"{wood}_{kind}" for wood in _WOODS for kind in ("boat", "chest_boat"))),
}
"""What came from 1.17 to 1.21.3. New blocks, items and game rules are not listed: an unknown name of those passes."""
_SINCE_1_21 = {
    "block": {"grass": "short_grass", "grass_path": "dirt_path"},
    "item": {"grass": "short_grass", "grass_path": "dirt_path"},
    "entity": {"zombie_pigman": "zombified_piglin"},
    "command": {"replaceitem": "item replace", "locatebiome": "locate biome"},
    "game rule": {},
}
"""What 1.21 has under another name, by kind."""
_TABLES = {"command": "commands", "game rule": "rules", "entity": "entities", "block": "blocks", "item": "items"}
_PLACES: Mapping[str, tuple[tuple[str, int], ...]] = {
    "summon": (("entity", 1),), "setblock": (("block", 4),), "fill": (("block", 7), ("block", 9)),
    "give": (("item", 2),), "replaceitem entity": (("item", 4),), "replaceitem block": (("item", 6),),
    "gamerule": (("game rule", 1),),
}
"""Which word of a command is the name of what."""
_LEAST: Mapping[str, int] = {
    "data": 4, "difficulty": 2, "effect": 2, "fill": 8, "gamemode": 2, "gamerule": 2, "give": 3, "setblock": 5,
    "summon": 2, "teleport": 2, "time": 3, "tp": 2, "weather": 2,
}
"""How many words a command has at least, its name included."""
_OPEN, _CLOSE = "[{(", "]})"


@functools.cache
def game_names(kind: str) -> frozenset[str]:
    """Every name of a kind in Minecraft 1.16.5: "command", "game rule", "entity", "block" or "item"."""
    text = resources.files(__package__).joinpath("minecraft_1_16_5.json").read_text(encoding="utf-8")
    return frozenset(json.loads(text)[_TABLES[kind]].split())


def check_command(text: str, dialect: Dialect = "1.16.5") -> str:
    """A command that a backend may send, as it was given.

    Checked are length, control characters, the least number of arguments, and the names that ``summon``, ``setblock``,
    ``fill``, ``give``, ``replaceitem``, ``item replace`` and ``gamerule`` begin with, also after ``execute ... run``.
    Grammar and data are the game's to judge.

    Args:
        text: With or without a leading slash.
        dialect: The version that is to understand it.

    Raises:
        ScenarioError: for an unknown dialect, a command that is empty, too long, cut off or of several lines, and for a
            command, game rule, entity, block or item that the version does not have, naming the nearest.
    """
    if dialect not in DIALECTS:
        raise ScenarioError(f'unknown dialect "{dialect}"', hint=f"known: {', '.join(DIALECTS)}")
    if not text.isprintable():
        raise ScenarioError(f"a command is one line without control characters, got {text[:80]!r}",
                            hint="give one command a line: the game would drop what follows")
    if not text.strip().removeprefix("/"):
        raise ScenarioError("expected a command such as /time set noon, got nothing")
    if len(text) > MAX_COMMAND:
        raise ScenarioError(f"a command has {len(text)} characters, and a chat line carries {MAX_COMMAND}",
                            where=f"{text[:60]}...",
                            hint="shorten its tags, or say it in two: /summon, then /data merge")
    words = _words(text.strip().removeprefix("/"))
    for kind, name in _named(words):
        _check_name(kind, name, dialect, text)
    n, least = sum(map(bool, words)), _LEAST.get(words[0], 1)
    if n < least:
        raise ScenarioError(f"/{words[0]} takes at least {least - 1} arguments, got {n - 1}", where=text)
    return text


def _check_name(kind: str, name: str, dialect: str, text: str) -> None:
    known = game_names(kind)
    if dialect == "1.21":
        now = _SINCE_1_21[kind].get(name)
        if now is not None:
            raise ScenarioError(f'Minecraft 1.21 has no {kind} "{name}"', where=text,
                                hint=f"it is called {now!r} there")
        if kind not in _NEW:
            return
        known |= {*_SINCE_1_21[kind].values(), *_NEW[kind]}
    if name not in known:
        close = nearest_names(name, known)
        raise ScenarioError(f'Minecraft {dialect} has no {kind} "{name}"', where=text,
                            hint=f"did you mean {' or '.join(map(repr, close))}?" if close else None)


def _words(text: str) -> list[str]:
    """Split at spaces outside of brackets and quotes."""
    words, word, depth, quote = list[str](), "", 0, ""
    for letter, before in zip(text, " " + text, strict=False):
        if quote:
            quote = "" if letter == quote and before != "\\" else quote
        elif letter in "\"'":
            quote = letter
        depth += 0 if quote else (letter in _OPEN) - (letter in _CLOSE)
        if letter == " " and not quote and depth <= 0:
            words, word = [*words, word], ""
        else:
            word += letter
    return [*words, word]


def _named(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The (kind, bare name) that the words of a command speak of."""
    yield "command", words[0]
    head = " ".join(words[:2]) if words[0] in ("replaceitem", "item") else words[0]
    places = _PLACES.get(head, ())
    if head == "item replace" and "with" in words:
        places = (("item", words.index("with") + 1),)
    for kind, place in places:
        if place < len(words) and not words[place].startswith("#"):
            yield kind, _bare(words[place])
    if words[0] == "execute" and "run" in words[:-1]:
        yield from _named(words[words.index("run") + 1:])


def _bare(word: str) -> str:
    for mark in _OPEN:
        word = word.partition(mark)[0]
    return word.removeprefix("minecraft:")
