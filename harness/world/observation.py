"""What a world shows: the observation an agent may see, and the state that never reaches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

__all__ = [
    "EVENT_TYPES", "HAND_ID", "HUD_PART", "POV_SHAPE", "SKY_ID", "EntityState", "Event", "LookedAt", "Observation",
    "PlayerState", "WorldState", "observation_space",
]

POV_SHAPE = (360, 640, 3)

SKY_ID, HAND_ID, HUD_PART = 0, 999, 255
"""Numbers with a fixed meaning: two of the segmentation, one of its parts."""

Observation = dict[str, Any]
"""``{"pov": uint8 [360, 640, 3] RGB}``."""

EVENT_TYPES = (
    "damage_entity", "kill_entity", "mine_block", "place_block", "pickup", "drop", "player_hurt", "player_died",
)
"""What a backend may report; none reports others."""

Event = dict[str, Any]
"""One thing that happened in a tick: ``type`` (one of ``EVENT_TYPES``) and its particulars
(tag, entity, block, item, amount, position), all JSON values."""


def observation_space(shape: tuple[int, int, int] = POV_SHAPE) -> spaces.Dict:
    """The agent's picture: ``pov`` uint8 [360, 640, 3] RGB, or of another shape where a backend was asked for one."""
    return spaces.Dict({"pov": spaces.Box(0, 255, shape, np.uint8)})


@dataclass(frozen=True)
class PlayerState:
    """The player's body: feet position in blocks, degrees, half hearts. ``hotbar`` holds (item, count) or None."""

    position: tuple[float, float, float]
    yaw: float
    pitch: float
    velocity: tuple[float, float, float]
    on_ground: bool
    health: float
    selected: int
    hotbar: tuple[tuple[str, int] | None, ...]
    sneaking: bool = False
    sprinting: bool = False


@dataclass(frozen=True)
class EntityState:
    """A creature or a dropped item. ``box`` is (x0, y0, z0, x1, y1, z1) in blocks, ``id`` its segmentation number."""

    id: int
    type: str
    tag: str | None
    position: tuple[float, float, float]
    yaw: float
    box: tuple[float, float, float, float, float, float]
    health: float
    alive: bool
    variant: str = ""


@dataclass(frozen=True)
class LookedAt:
    """What the crosshair ray meets first: ``kind`` is "block" or "entity", ``distance`` in blocks from the eye.

    ``reachable`` says whether an attack would land (4.5 blocks for blocks, 3.0 for entities).
    """

    kind: str
    name: str
    distance: float
    reachable: bool
    position: tuple[float, float, float]
    tag: str | None = None
    entity_id: int | None = None


@dataclass(frozen=True)
class WorldState:
    """The privileged state after a tick. Never handed to an agent, unless the agent is declared privileged.

    ``statistics`` are cumulative since the reset, named as in Minecraft: ``mine_block.oak_log``,
    ``kill_entity.villager``, ``damage_dealt`` (tenths of a half heart), ``pickup.oak_log``, ``walk_one_cm``, ``jump``.
    ``blocks`` is uint8 [Y, Z, X] of block ids with ``blocks_origin`` the (x, y, z) of its first cell.
    ``segmentation`` int16 [H, W] (0 sky, 1..255 block id, >= 1000 entity ids, 999 own hand) and ``depth``
    float32 [H, W] (blocks along the view axis, 1e9 sky) are there when asked for. With the segmentation come, where the
    backend knows them, ``parts`` uint8 [H, W]: which part of a creature a pixel shows (0 none), named by
    ``part_names``, and ``HUD_PART`` wherever the heads-up display lies over the picture.
    """

    tick: int
    time: int
    player: PlayerState
    entities: tuple[EntityState, ...]
    statistics: Mapping[str, int]
    events: tuple[Event, ...]
    looking_at: LookedAt | None
    blocks: npt.NDArray[np.uint8] | None = None
    blocks_origin: tuple[int, int, int] = (0, 0, 0)
    segmentation: npt.NDArray[np.int16] | None = None
    depth: npt.NDArray[np.float32] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    parts: npt.NDArray[np.uint8] | None = None
    part_names: Mapping[int, str] = field(default_factory=dict)
