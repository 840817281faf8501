"""What one picture depends on besides the grid: the contract between the world's rules and its renderer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from harness.world.observation import HAND_ID

__all__ = [
    "ENTITY_COLUMNS", "E_AGE", "E_COLOUR", "E_HEAD_PITCH", "E_HEAD_YAW", "E_HURT", "E_ID", "E_KIND", "E_SWING",
    "E_VARIANT", "E_X", "E_Y", "E_YAW", "E_Z", "HAND_ID", "SKY_DEPTH", "View",
]

# Columns of `View.entities`, one row per visible creature or dropped item.
E_KIND = 0        # creature id of creatures.yaml; 100 = a dropped item
E_ID = 1          # segmentation number, >= 1000, unique and stable during an episode
E_X, E_Y, E_Z = 2, 3, 4   # feet position, blocks
E_YAW = 5         # body yaw, degrees
E_HEAD_YAW = 6    # head yaw, degrees (absolute)
E_HEAD_PITCH = 7  # degrees
E_SWING = 8       # walking phase: legs swing by sin(E_SWING) * amplitude already folded in, radians
E_HURT = 9        # > 0 while the red hurt flash shows; death topples: 10 + degrees/90 (10..11)
E_VARIANT = 10    # villager: 16 * type id + profession id; dropped item: item index (see textures.item_index)
E_COLOUR = 11     # armour colour 0xRRGGBB + 1, or 0 for none
E_AGE = 12        # ticks since it appeared (items bob and turn by it)
ENTITY_COLUMNS = 13

SKY_DEPTH = 1e9


@dataclass
class View:
    """One moment as the eye sees it.

    Attributes:
        eye: (x, y, z) of the eye in blocks.
        yaw: degrees, 0 faces +z, 90 faces -x.
        pitch: degrees, positive looks down, within [-90, 90].
        time: ticks of the day, 0..23999 (6000 noon).
        weather: "clear", "rain" or "thunder".
        biome: decides grass and foliage tint.
        entities: float64 [M, ENTITY_COLUMNS]; rows beyond the visible ones are absent, not blank.
        crack: (x, y, z, stage 0..9) of the block being broken, or None.
        target: (x, y, z) of the block under the crosshair within reach, which gets an outline, or None.
        swing: 0..1 through the hand's swing, 0 at rest.
        held: name of the held item, "" for the bare hand.
        bob: walking phase of the hand, radians (0 standing).
        hotbar: nine (item name, count) or None.
        selected: hotbar slot 0..8.
        health: half hearts, 0..20.
        gui: "" or "inventory": a plain overlay over the picture.
    """

    eye: tuple[float, float, float] = (0.5, 101.62, 0.5)
    yaw: float = 0.0
    pitch: float = 0.0
    time: int = 6000
    weather: str = "clear"
    biome: str = "plains"
    entities: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, ENTITY_COLUMNS)))
    crack: tuple[int, int, int, int] | None = None
    target: tuple[int, int, int] | None = None
    swing: float = 0.0
    held: str = ""
    bob: float = 0.0
    hotbar: tuple[tuple[str, int] | None, ...] = (None,) * 9
    selected: int = 0
    health: float = 20.0
    gui: str = ""
