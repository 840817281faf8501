"""The table of blocks, items, trees and creatures: one owner for the compiler and the embedded world."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import yaml

from harness.errors import ScenarioError, unknown_name

__all__ = ["Block", "Catalogue", "Creature", "Item", "Profession", "Tree", "VillagerType", "catalogue"]


@dataclass(frozen=True)
class Block:
    """One row of ``blocks.yaml``. ``hardness`` None means it cannot be broken; see the file for the fields."""

    name: str
    id: int
    shape: Literal["opaque", "cutout", "translucent", "none"] = "opaque"
    solid: bool = True
    texture: str | Mapping[str, str] = ""
    tint: str | None = None
    hardness: float | None = 0.0
    tool: str = "none"
    needs_tool: bool = False
    drop: str | None = None
    minecraft: str = ""
    named_in: Mapping[str, str] | None = None

    def face_texture(self, face: Literal["top", "bottom", "side", "front"]) -> str:
        """The name of the texture on one face (``front`` falls back to ``side``)."""
        if isinstance(self.texture, str):
            return self.texture
        return self.texture.get(face) or self.texture["side"]


@dataclass(frozen=True)
class Item:
    """Something held: a tool, a weapon or a thing. ``damage`` in half hearts per full-strength hit."""

    name: str
    tool: str = "none"
    speed: float = 1.0
    damage: float = 1.0


@dataclass(frozen=True)
class Tree:
    """A species: its trunk and leaf blocks and the inclusive range of trunk heights in blocks."""

    name: str
    log: str
    leaves: str
    height: tuple[int, int]


@dataclass(frozen=True)
class Creature:
    """One row of ``creatures.yaml``; ``box`` is (width, height) in blocks, ``parts`` what its picture consists of."""

    name: str
    id: int
    box: tuple[float, float]
    eye: float
    health: float
    speed: float
    armour: float = 0.0
    panic: bool = False
    hostile: bool = False
    attack: float = 0.0
    drops: str | None = None
    stat: bool = True
    minecraft: Mapping[str, Any] | None = None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class VillagerType:
    """A villager's biome dress: robe and sleeve colour as ``#rrggbb``."""

    name: str
    id: int
    robe: str
    sleeves: str


@dataclass(frozen=True)
class Profession:
    """An overlay over the robe: colour, covered share of the front, hat."""

    name: str
    id: int
    overlay: str | None
    cover: float
    hat: str | None = None
    sleeves: bool = False


@dataclass(frozen=True)
class Catalogue:
    """All tables, by name."""

    blocks: Mapping[str, Block]
    items: Mapping[str, Item]
    trees: Mapping[str, Tree]
    creatures: Mapping[str, Creature]
    villager_types: Mapping[str, VillagerType]
    professions: Mapping[str, Profession]
    rules: Mapping[str, bool | int]
    biomes: tuple[str, ...]
    weathers: tuple[str, ...]
    difficulties: tuple[str, ...]
    times: Mapping[str, int]
    groups: Mapping[str, str]

    def block(self, name: str) -> Block:
        """The block called ``name``, with or without ``minecraft:``.

        Raises:
            ScenarioError: when there is none, naming the nearest.
        """
        bare = name.removeprefix("minecraft:")
        if bare not in self.blocks:
            raise unknown_name("block", bare, self.blocks, error=ScenarioError)
        return self.blocks[bare]

    def blocks_called(self, word: str) -> tuple[str, ...]:
        """The blocks that a name, a group (``leaves``) or a glob (``*_wool``) means; never air.

        Raises:
            ScenarioError: when it means none, naming the nearest.
        """
        bare = word.removeprefix("minecraft:")
        solid = [name for name in self.blocks if name != "air"]
        found = fnmatch.filter(solid, self.groups.get(bare, bare))
        if not found:
            raise unknown_name("block or group", bare, [*solid, *self.groups], error=ScenarioError)
        return tuple(found)

    def item(self, name: str) -> Item:
        """The item called ``name`` (blocks are items too).

        Raises:
            ScenarioError: when there is none, naming the nearest.
        """
        bare = name.removeprefix("minecraft:")
        if bare in self.items:
            return self.items[bare]
        if bare in self.blocks and bare != "air":
            return Item(name=bare)
        raise unknown_name("item", bare, {*self.items, *self.blocks} - {"air"}, error=ScenarioError)

    def creature(self, name: str) -> Creature:
        """The creature called ``name``.

        Raises:
            ScenarioError: when there is none, naming the nearest.
        """
        bare = name.removeprefix("minecraft:")
        if bare not in self.creatures:
            raise unknown_name("creature", bare, self.creatures, error=ScenarioError)
        return self.creatures[bare]


def _read(name: str) -> dict[str, Any]:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    table = yaml.safe_load(text)
    assert isinstance(table, dict)
    return table


@functools.cache
def catalogue() -> Catalogue:
    """The tables, read once."""
    blocks, creatures, words = _read("blocks.yaml"), _read("creatures.yaml"), _read("vocabulary.yaml")
    return Catalogue(
        blocks={n: Block(**{"name": n, "drop": n, "minecraft": n, **row}) for n, row in blocks["blocks"].items()},
        items={n: Item(name=n, **row) for n, row in blocks["items"].items()},
        trees={n: Tree(n, row["log"], row["leaves"], tuple(row["height"])) for n, row in blocks["trees"].items()},
        creatures={n: Creature(name=n, **{**row, "box": tuple(row["box"]), "parts": tuple(row["parts"])})
                   for n, row in creatures["creatures"].items()},
        villager_types={n: VillagerType(name=n, **row) for n, row in creatures["villager_types"].items()},
        professions={n: Profession(name=n, **row) for n, row in creatures["professions"].items()},
        rules=words["rules"],
        biomes=tuple(words["biomes"]),
        weathers=tuple(words["weathers"]),
        difficulties=tuple(words["difficulties"]),
        times=words["times"],
        groups=words["groups"],
    )
