"""The catalogue's tables and the figures of the rules, as arrays that compiled code reads.

Compiled code never holds a figure of its own: it is handed one record, ``figures()``, so that an edit of figures.yaml
needs no new compilation.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from harness.scenario.catalogue import Catalogue, catalogue

__all__ = ["BLOCK_ROW", "CREATURE_ROW", "FIRST_ITEM", "ITEM_ROW", "TOOLS", "Tables", "figures", "tables"]

FIRST_ITEM = 256
"""Number of the first item that is no block; a block's item has the block's id."""

TOOLS = ("none", "axe", "pickaxe", "shovel", "shears")

BLOCK_ROW = np.dtype([
    ("solid", "i8"), ("target", "i8"), ("liquid", "i8"), ("hardness", "f8"), ("tool", "i8"), ("needs_tool", "i8"),
    ("drop", "i8"), ("opens", "i8"),
])
"""A block: whether bodies collide, whether the crosshair meets it, hardness (-1: never breaks), the item dropped or
-1, and whether using it opens something instead of placing."""

ITEM_ROW = np.dtype([
    ("tool", "i8"), ("speed", "f8"), ("damage", "f8"), ("recharge", "f8"), ("stack", "i8"), ("block", "i8"),
])
"""An item: ``recharge`` ticks to full strength, ``stack`` how many share a slot, ``block`` what it places or -1."""

CREATURE_ROW = np.dtype([
    ("width", "f8"), ("height", "f8"), ("eye", "f8"), ("health", "f8"), ("speed", "f8"), ("armour", "f8"),
    ("panic", "i8"), ("hostile", "i8"), ("bite", "f8"), ("drop", "i8"), ("alive", "i8"), ("walk", "f8"),
    ("flee", "f8"),
])
"""A creature: ``walk`` and ``flee`` multiply its speed, ``alive`` is 0 for an armour stand."""


@dataclass(frozen=True)
class Tables:
    """Rows by number, and the names both ways.

    Attributes:
        rows: One record [1] that compiled code reads: ``blocks`` (``BLOCK_ROW`` [256]), ``items`` (``ITEM_ROW``; see
            ``FIRST_ITEM``), ``creatures`` (``CREATURE_ROW``), ``sine`` (float64 [65536], one turn; the rules take every
            sine and cosine from it, so that they agree on every machine) and ``figures`` ([1]).
        figures: One record, a field per row of figures.yaml.
    """

    rows: npt.NDArray[np.void]
    figures: Any
    block_names: tuple[str, ...]
    item_names: tuple[str, ...]
    creature_names: tuple[str, ...]
    item_ids: dict[str, int]


@functools.cache
def figures() -> Any:
    """One record with a field per row of ``figures.yaml``: ``figures()["gravity"]``."""
    rows = yaml.safe_load(resources.files(__package__).joinpath("figures.yaml").read_text(encoding="utf-8"))
    record = np.zeros(1, dtype=[(name, "f8") for name in rows])
    for name, (value, _unit, _source) in rows.items():
        record[name] = value
    return record[0]


def _block_rows(known: Catalogue, ids: dict[str, int]) -> npt.NDArray[np.void]:
    rows = np.zeros(256, BLOCK_ROW)
    rows["hardness"], rows["drop"] = -1.0, -1
    for block in known.blocks.values():
        liquid = block.name == "water"
        rows[block.id] = (
            block.solid, block.name != "air" and not liquid, liquid, -1.0 if block.hardness is None else block.hardness,
            TOOLS.index(block.tool), block.needs_tool, -1 if block.drop is None else ids[block.drop],
            block.name == "crafting_table")
    return rows


def _item_rows(known: Catalogue, ids: dict[str, int]) -> npt.NDArray[np.void]:
    figure = figures()
    rows = np.zeros(max(ids.values()) + 1, ITEM_ROW)
    rows["speed"], rows["damage"], rows["stack"], rows["block"] = 1.0, 1.0, 64, -1
    rows["recharge"] = 20.0 / figure["attack_speed"]
    for block in known.blocks.values():
        rows[block.id]["block"] = block.id if block.name != "air" else -1
    for item in known.items.values():
        kind = "sword" if item.name.endswith("_sword") else item.tool
        name = f"attack_speed_{kind}"
        rate = figure[name] if name in figure.dtype.names else figure["attack_speed"]
        single = item.tool != "none" or kind == "sword"
        rows[ids[item.name]] = (TOOLS.index(item.tool), item.speed, item.damage, 20.0 / rate, 1 if single else 64, -1)
    return rows


def _creature_rows(known: Catalogue, ids: dict[str, int]) -> npt.NDArray[np.void]:
    figure = figures()

    def factor(kind: str, name: str) -> float:
        own = f"{kind}_{name}"
        return float(figure[own] if own in figure.dtype.names else figure[kind])

    rows = np.zeros(max(c.id for c in known.creatures.values()) + 1, CREATURE_ROW)
    for c in known.creatures.values():
        rows[c.id] = (*c.box, c.eye, c.health, c.speed, c.armour, c.panic, c.hostile, c.attack,
                      -1 if c.drops is None else ids[c.drops], c.stat,
                      factor("walk_factor", c.name), factor("panic_factor", c.name))
    return rows


@functools.cache
def tables() -> Tables:
    """All tables, made once."""
    known = catalogue()
    ids = {block.name: block.id for block in known.blocks.values()}
    ids |= {name: FIRST_ITEM + i for i, name in enumerate(known.items)}
    block_names = [""] * 256
    for block in known.blocks.values():
        block_names[block.id] = block.name
    item_names = [""] * (max(ids.values()) + 1)
    for name, number in ids.items():
        item_names[number] = name
    creature_names = [""] * (max(c.id for c in known.creatures.values()) + 1)
    for creature in known.creatures.values():
        creature_names[creature.id] = creature.name
    sine = np.sin(np.arange(65536) * (2.0 * np.pi / 65536.0)).astype(np.float32).astype(np.float64)
    parts = {"blocks": _block_rows(known, ids), "items": _item_rows(known, ids),
             "creatures": _creature_rows(known, ids), "sine": sine, "figures": np.array([figures()])}
    rows = np.zeros(1, np.dtype([(name, part.dtype, part.shape) for name, part in parts.items()]))
    for name, part in parts.items():
        rows[name][0] = part
    return Tables(rows, figures(), tuple(block_names), tuple(item_names), tuple(creature_names), ids)
