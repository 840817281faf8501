"""Everything that decides the future of a block world, in flat arrays that compiled code reads and writes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.world.blockworld.tables import Tables
from harness.world.observation import EVENT_TYPES

__all__ = [
    "ACTION", "ACTION_KEYS", "BAG", "CLOCK", "CUSTOM", "DROPPED", "EVENT", "EVENT_KINDS", "FIRST_ENTITY", "ITEM",
    "KILLED", "LAST_ENTITY", "MAX_EVENTS", "MAX_ITEMS", "MAX_MOBS", "MINED", "MOB", "PICKED", "PLAYER", "SIGHT",
    "STATE", "STATISTICS", "USED",
    "Arrays", "Space", "empty_arrays", "statistic_names",
]


def _layout(floats: str, integers: str) -> np.dtype[np.void]:
    return np.dtype([(name, "f8") for name in floats.split()] + [(name, "i8") for name in integers.split()])


PLAYER = _layout(
    "x y z vx vy vz yaw pitch health eye fall last_hurt bob dig",
    "on_ground sneaking sprinting bumped in_water jump_wait miss_wait recharge invulnerable dead "
    "swing attack_held use_held use_wait dig_on dig_x dig_y dig_z dig_wait selected in_hand gui "
    "drop_held pick_held inventory_held regeneration",
)
"""The player: feet, blocks a tick, degrees, half hearts; counters in ticks. ``swing`` -1 at rest, else 0..5."""

MOB = _layout(
    "x y z vx vy vz yaw head_yaw head_pitch health last_hurt phase stride goal_x goal_z",
    "id kind label ai gravity invulnerable_always on_ground invulnerable hurt dying mode wait bite_wait "
    "variant colour age stand_hit bumped",
)
"""A creature. ``mode``: 0 idle, 1 strolling, 2 fleeing, 3 glancing, 4 chasing; ``wait`` its ticks left."""

ITEM = _layout("x y z vx vy vz", "id item count age wait on_ground")
"""Something dropped; ``wait`` ticks before it can be picked up."""

CLOCK = np.dtype([
    *((name, "i8") for name in (
        "tick", "time", "daylight", "loot", "tile_drops", "fall_damage", "regeneration", "peaceful", "next_id",
        "n_mobs", "n_items", "n_events")),
    ("rng_key", "u8"), ("rng_count", "u8"),
])
"""Time, rules, counts, and the counter-based random stream."""

EVENT = _layout("amount health x y z", "kind entity what label count")
"""One thing that happened in a tick; ``what`` is a block, item or creature number by kind."""

EVENT_KINDS = EVENT_TYPES

SIGHT = _layout("distance x y z", "kind what cell_x cell_y cell_z face index reachable")
"""What the crosshair meets: ``kind`` 0 nothing, 1 block, 2 creature (row ``index`` of the creatures)."""

ACTION_KEYS = ("forward", "back", "left", "right", "jump", "sneak", "sprint", "attack", "use", "drop", "inventory",
               "ESC", "pickItem")
"""The buttons that do something here, in the order of ``ACTION``; ``swapHands`` does nothing: there is one hand."""

ACTION = np.dtype([("pitch", "f8"), ("yaw", "f8"), *((name, "i8") for name in (*ACTION_KEYS, "hotbar"))])
"""One tick's input: degrees to turn, buttons 0 or 1, ``hotbar`` 1..9 or 0."""

FIRST_ENTITY, LAST_ENTITY = 1000, 32000
"""Segmentation numbers of creatures and items; a picture of them holds 16 bits."""
BAG = 36
"""Slots a player carries; the first nine are the hotbar."""

MAX_MOBS, MAX_ITEMS, MAX_EVENTS = 128, 256, 1024
"""Room in a world; of more items than this the oldest go."""

MINED, KILLED, PICKED, DROPPED, USED, CUSTOM = 0, 256, 288, 800, 1312, 1824
_CUSTOM_NAMES = (
    "damage_dealt", "damage_taken", "walk_one_cm", "sprint_one_cm", "crouch_one_cm", "swim_one_cm", "jump",
    "play_time", "deaths",
)
STATISTICS = CUSTOM + len(_CUSTOM_NAMES)
"""Number of counters; the offsets above say where each family starts."""


STATE = np.dtype([
    ("player", PLAYER, (1,)), ("clock", CLOCK, (1,)), ("mobs", MOB, (MAX_MOBS,)), ("items", ITEM, (MAX_ITEMS,)),
    ("bag", "i8", (BAG, 2)), ("statistics", "i8", (STATISTICS,)), ("events", EVENT, (MAX_EVENTS,)),
    ("sight", SIGHT, (1,)),
])
"""All that moves, in one record, which compiled functions pass on as a pointer. ``bag``: item numbers, counts."""


class Space(NamedTuple):
    """The blocks and the tables, as compiled functions pass them on.

    ``bounds`` is int64 [5]: the origin x, y, z, the ground block outside, and the height of its top layer. ``rows`` is
    one ``ROWS`` record.
    """

    voxels: npt.NDArray[np.uint8]
    dirty: npt.NDArray[np.bool_]
    bounds: npt.NDArray[np.int64]
    rows: Any


class Arrays(NamedTuple):
    """A ``STATE`` [1] and views of its parts."""

    state: npt.NDArray[np.void]
    player: npt.NDArray[np.void]
    clock: npt.NDArray[np.void]
    mobs: npt.NDArray[np.void]
    items: npt.NDArray[np.void]
    bag: npt.NDArray[np.int64]
    statistics: npt.NDArray[np.int64]
    events: npt.NDArray[np.void]
    sight: npt.NDArray[np.void]


def empty_arrays() -> Arrays:
    """Nobody anywhere."""
    state = np.zeros(1, STATE)
    arrays = Arrays(state, *(state[name][0] for name in STATE.names or ()))
    arrays.player["swing"] = -1
    arrays.clock["next_id"] = FIRST_ENTITY
    return arrays


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
