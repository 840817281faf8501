"""What a scenario compiles to: one value that every world can build from.

Coordinates are Minecraft's, everywhere in Harness: x east, y up, z south, in blocks; a block covers [x, x+1).
Yaw in degrees, 0 faces +z, 90 faces -x, positive turns right; pitch in degrees, positive looks down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["EntitySetup", "Fill", "IntPoint", "PlayerSetup", "Point", "TimedFill", "WorldSetup"]

IntPoint = tuple[int, int, int]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Fill:
    """One cuboid of one block, corners inclusive. A later fill overwrites an earlier one.

    ``replace`` limits it to cells that hold this block (None: all cells).
    """

    first: IntPoint
    last: IntPoint
    block: str
    replace: str | None = None


@dataclass(frozen=True)
class TimedFill:
    """A fill inside an episode: done before the picture that the agent sees at a step is drawn (0 is the first)."""

    step: int
    fill: Fill


@dataclass(frozen=True)
class EntitySetup:
    """One creature: position of its feet, facing, and the few things a scenario may say about it.

    ``colour`` is the robe or armour colour of an armor stand's chest plate as ``#rrggbb``; ``villager_type`` and
    ``profession`` matter for villagers alone. ``invulnerable`` keeps the stimulus constant.
    """

    type: str
    position: Point
    tag: str | None = None
    yaw: float = 0.0
    pitch: float = 0.0
    ai: bool = True
    health: float | None = None
    villager_type: str = "plains"
    profession: str = "none"
    colour: str | None = None
    invulnerable: bool = False


@dataclass(frozen=True)
class PlayerSetup:
    """Where the agent starts, and what it holds: ``hotbar`` maps slot 0..8 to (item, count)."""

    position: Point = (0.5, 100.0, 0.5)
    yaw: float = 0.0
    pitch: float = 0.0
    hotbar: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    selected: int = 0
    health: float = 20.0


@dataclass(frozen=True)
class WorldSetup:
    """A world before its first tick, and what happens to it later whatever the player does.

    Everything outside the fills is air above ``ground_y`` and ``ground`` up to and including it, without end.
    ``time`` in ticks (0 sunrise, 6000 noon, 18000 midnight). ``rules`` holds Minecraft game rules by name.
    ``events`` are in the order of their steps.
    """

    name: str
    seed: int
    ground: str = "grass_block"
    ground_y: int = 99
    biome: str = "plains"
    time: int = 6000
    weather: str = "clear"
    rules: Mapping[str, bool | int] = field(default_factory=dict)
    difficulty: str = "easy"
    fills: tuple[Fill, ...] = ()
    entities: tuple[EntitySetup, ...] = ()
    player: PlayerSetup = field(default_factory=PlayerSetup)
    settle_steps: int = 0
    # Not in repr: without events a setup is written, and digested, as it was before there were any.
    events: tuple[TimedFill, ...] = field(default=(), repr=False)
