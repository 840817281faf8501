"""Everything that decides the future of a block world, in flat arrays that compiled code reads and writes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.world.blockworld.grid import Grid
from harness.world.blockworld.tables import Tables, tables

__all__ = [
    "ACTION", "ACTION_KEYS", "BAG", "CLOCK", "CUSTOM", "DROPPED", "EVENT", "EVENT_KINDS", "FIRST_ENTITY", "ITEM",
    "KILLED", "MINED", "MOB", "PICKED", "PLAYER", "SIGHT", "STATISTICS", "USED", "Arrays", "Space", "empty_arrays",
    "ensure_room", "space_of", "statistic_names",
]


def _layout(floats: str, integers: str) -> np.dtype[np.void]:
    return np.dtype([(name, "f8") for name in floats.split()] + [(name, "i8") for name in integers.split()])


PLAYER = _layout(
    "x y z vx vy vz yaw pitch health eye fall last_hurt bob dig",
    "on_ground sneaking sprinting bumped in_water jump_wait miss_wait recharge invulnerable hurt dead "
    "swing attack_held use_held use_wait dig_on dig_x dig_y dig_z dig_wait selected in_hand gui "
    "drop_held pick_held inventory_held jump_held regeneration",
)
"""The player: feet, velocity (blocks a tick), degrees, half hearts; counters in ticks. ``swing`` -1 at rest, else 0..5."""

MOB = _layout(
    "x y z vx vy vz yaw head_yaw head_pitch health last_hurt phase stride goal_x goal_z",
    "id kind label ai gravity invulnerable_always on_ground invulnerable hurt dying mode wait bite_wait "
    "variant colour age stand_hit bumped",
)
"""A creature. ``mode``: 0 idle, 1 strolling, 2 fleeing, 3 glancing at the player, 4 chasing; ``wait`` its ticks left."""

ITEM = _layout("x y z vx vy vz", "id item count age wait on_ground")
"""Something dropped; ``wait`` ticks before it can be picked up."""

CLOCK = np.dtype([
    *((name, "i8") for name in
      "tick time daylight loot tile_drops fall_damage regeneration peaceful next_id n_mobs n_items n_events".split()),
    ("rng_key", "u8"), ("rng_count", "u8"),
])
"""Time, rules, counts, and the counter-based random stream."""

EVENT = _layout("amount health x y z", "kind entity what label count")
"""One thing that happened in a tick; ``what`` is a block, item or creature number by kind."""

EVENT_KINDS = (
    "damage_entity", "kill_entity", "mine_block", "place_block", "pickup", "drop", "player_hurt", "player_died",
)

SIGHT = _layout("distance x y z", "kind what cell_x cell_y cell_z face index reachable")
"""What the crosshair meets: ``kind`` 0 nothing, 1 block, 2 creature (row ``index`` of the creatures)."""

ACTION_KEYS = ("forward", "back", "left", "right", "jump", "sneak", "sprint", "attack", "use", "drop", "inventory", "ESC",
               "pickItem")
"""The buttons that do something here, in the order of ``ACTION``; ``swapHands`` does nothing: there is one hand."""

ACTION = np.dtype([("pitch", "f8"), ("yaw", "f8"), *((name, "i8") for name in (*ACTION_KEYS, "hotbar"))])
"""One tick's input: degrees to turn, buttons 0 or 1, ``hotbar`` 1..9 or 0."""

FIRST_ENTITY = 1000
BAG = 36
"""Slots a player carries; the first nine are the hotbar."""

MINED, KILLED, PICKED, DROPPED, USED, CUSTOM = 0, 256, 288, 800, 1312, 1824
_CUSTOM_NAMES = (
    "damage_dealt", "damage_taken", "walk_one_cm", "sprint_one_cm", "crouch_one_cm", "swim_one_cm", "jump",
    "play_time", "deaths",
)
STATISTICS = CUSTOM + len(_CUSTOM_NAMES)
"""Number of counters; the offsets above say where each family starts."""


class Space(NamedTuple):
    """The blocks and the tables, as compiled code takes them.

    ``bounds`` is int64 [5]: the origin x, y, z, the ground block outside, and the height of its top layer.
    """

    voxels: npt.NDArray[np.uint8]
    dirty: npt.NDArray[np.bool_]
    bounds: npt.NDArray[np.int64]
    blocks: npt.NDArray[np.void]
    items: npt.NDArray[np.void]
    creatures: npt.NDArray[np.void]
    sine: npt.NDArray[np.float64]
    figures: npt.NDArray[np.void]


class Arrays(NamedTuple):
    """All that moves. ``bag`` is int64 [36, 2]: item number and count (0 for an empty slot)."""

    player: npt.NDArray[np.void]
    clock: npt.NDArray[np.void]
    mobs: npt.NDArray[np.void]
    items: npt.NDArray[np.void]
    bag: npt.NDArray[np.int64]
    statistics: npt.NDArray[np.int64]
    events: npt.NDArray[np.void]
    sight: npt.NDArray[np.void]


def space_of(grid: Grid, rows: Tables | None = None) -> Space:
    """The grid's own arrays, not copies, with the tables."""
    rows = rows or tables()
    bounds = np.array([*grid.origin, grid.ground, grid.ground_y], dtype=np.int64)
    return Space(grid.voxels, grid.dirty, bounds, rows.blocks, rows.items, rows.creatures, rows.sine,
                 np.array([rows.figures], dtype=rows.figures.dtype))


def empty_arrays(n_mobs: int = 16, n_items: int = 32) -> Arrays:
    """Room for some creatures and items; nothing in it yet."""
    arrays = Arrays(
        np.zeros(1, PLAYER), np.zeros(1, CLOCK), np.zeros(n_mobs, MOB), np.zeros(n_items, ITEM),
        np.zeros((BAG, 2), np.int64), np.zeros(STATISTICS, np.int64), np.zeros(64 + 4 * n_mobs + n_items, EVENT),
        np.zeros(1, SIGHT))
    arrays.player["swing"] = -1
    arrays.clock["next_id"] = FIRST_ENTITY
    return arrays


def ensure_room(arrays: Arrays, mobs: int = 0, items: int = 0) -> Arrays:
    """The same arrays, or larger copies, with room for so many more creatures and items.

    A tick can drop one item per creature and a few by the player's hands, and must never meet a full array:
    compiled code does not check bounds.
    """
    clock = arrays.clock[0]
    need_mobs = int(clock["n_mobs"]) + mobs
    need_items = int(clock["n_items"]) + items + need_mobs + 8
    if need_mobs <= len(arrays.mobs) and need_items <= len(arrays.items):
        return arrays
    grown = empty_arrays(max(len(arrays.mobs), 2 * need_mobs), max(len(arrays.items), 2 * need_items))
    for name in ("mobs", "items", "events"):
        old = getattr(arrays, name)
        getattr(grown, name)[:len(old)] = old
    return arrays._replace(mobs=grown.mobs, items=grown.items, events=grown.events)


def statistic_names(rows: Tables) -> list[str]:
    """Minecraft's name of every counter, by number; empty where there is none."""
    names = [""] * STATISTICS
    for start, family, words in ((MINED, "mine_block", rows.block_names), (KILLED, "kill_entity", rows.creature_names),
                                 (PICKED, "pickup", rows.item_names), (DROPPED, "drop", rows.item_names),
                                 (USED, "use_item", rows.item_names)):
        for number, word in enumerate(words):
            names[start + number] = f"{family}.{word}"
    names[CUSTOM:] = _CUSTOM_NAMES
    return names
