"""What the crosshair meets, worked out from the player's pose: for engines that do not say it.

A ``Scene`` knows what the scenario built and what the game's statistics tell of since. Creatures stand where they were
summoned; those with a mind of their own do not, and are left out unless the backend says where they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.errors import ScenarioError
from harness.scenario.catalogue import catalogue
from harness.scenario.setup import EntitySetup, Fill, IntPoint, Point, WorldSetup
from harness.world.observation import LookedAt

__all__ = ["BLOCK_REACH", "ENTITY_REACH", "EYE", "SNEAKING_EYE", "Scene", "Target", "box_of", "direction"]

EYE, SNEAKING_EYE = 1.62, 1.27
"""Height of the eye above the feet, in blocks."""

BLOCK_REACH, ENTITY_REACH = 4.5, 3.0
"""How far a survival player's hand reaches, in blocks from the eye."""

_SIGHT = 64.0  # blocks
_NOT_AIMED_AT = ("air", "water")


@dataclass(frozen=True)
class Target:
    """A creature to be looked at: its type, tag, and box (x0, y0, z0, x1, y1, z1) in blocks."""

    type: str
    tag: str | None
    box: tuple[float, float, float, float, float, float]


def direction(yaw: float, pitch: float) -> Point:
    """The unit vector of a view; degrees, yaw 0 faces +z and 90 faces -x, pitch is positive downwards."""
    y, p = math.radians(yaw), math.radians(pitch)
    return -math.sin(y) * math.cos(p), -math.sin(p), math.cos(y) * math.cos(p)


class Scene:
    """The blocks and creatures of a scenario, as a ray meets them.

    Args:
        setup: From ``compile_scenario``.
    """

    def __init__(self, setup: WorldSetup) -> None:
        self._ground, self._ground_y = setup.ground, setup.ground_y
        self._fills = list(setup.fills)
        self._cells: dict[IntPoint, str] = {}  # those that were asked for
        self.targets: tuple[Target, ...] = tuple(_target(entity) for entity in setup.entities if not entity.ai)
        """Where creatures stand."""

    def fill(self, fill: Fill) -> None:
        """Blocks change."""
        self._fills.append(fill)
        self._cells.clear()

    def dig(self, block: str, sights: Iterable[LookedAt]) -> None:
        """A block of this name was mined: the first of the sights that shows one is air from now on."""
        for sight in sights:
            if sight.kind == "block" and sight.name == block:
                x, y, z = (math.floor(v) for v in sight.position)
                self.fill(Fill((x, y, z), (x, y, z), "air"))
                return

    def forget(self, target: Target) -> None:
        """A creature is gone."""
        self.targets = tuple(other for other in self.targets if other is not target)

    def command(self, text: str) -> bool:
        """Take in a slash command; whether all that it may have changed here is known."""
        words = text.strip().removeprefix("/").split()
        if words and words[0] in ("setblock", "fill"):
            fill = _fill_of(words)
            if fill is not None:
                self.fill(fill)
            return fill is not None
        moved = bool(words) and words[0] in ("summon", "kill", "tp", "teleport", "data", "execute", "clone", "function")
        if moved and "@e" in text or words[:1] in (["summon"], ["execute"], ["clone"], ["function"]):
            self.targets = ()
            return False
        return True

    def block(self, cell: IntPoint) -> str:
        """What stands in a cell."""
        known = self._cells.get(cell)
        if known is None:
            known = self._cells[cell] = self._built(cell, len(self._fills))
        return known

    def _built(self, cell: IntPoint, n: int) -> str:
        for index in range(n - 1, -1, -1):
            fill = self._fills[index]
            if all(min(a, b) <= v <= max(a, b) for a, v, b in zip(fill.first, cell, fill.last, strict=True)) and (
                    fill.replace is None or self._built(cell, index) == fill.replace):
                return fill.block
        return self._ground if cell[1] <= self._ground_y else "air"

    def look(self, position: Point, yaw: float, pitch: float, sneaking: bool = False,
             targets: Sequence[Target] | None = None) -> LookedAt | None:
        """What the crosshair meets first, up to 64 blocks away.

        Args:
            position: The player's feet, in blocks.
            yaw: Degrees.
            pitch: Degrees.
            sneaking: Whether the eye is lower.
            targets: Where the creatures are; None: where they were summoned.
        """
        eye = (position[0], position[1] + (SNEAKING_EYE if sneaking else EYE), position[2])
        ray = direction(yaw, pitch)
        hit = self._block_hit(eye, ray)
        nearest, found = (hit[0] if hit else _SIGHT), None
        for target in self.targets if targets is None else targets:
            distance = _box_hit(eye, ray, target.box)
            if distance is not None and distance < nearest:
                nearest, found = distance, target
        if found is not None:
            end = (eye[0] + ray[0] * nearest, eye[1] + ray[1] * nearest, eye[2] + ray[2] * nearest)
            return LookedAt("entity", found.type, nearest, nearest <= ENTITY_REACH, end, found.tag)
        if hit is None:
            return None
        x, y, z = hit[1]
        return LookedAt("block", self.block(hit[1]), hit[0], hit[0] <= BLOCK_REACH, (float(x), float(y), float(z)))

    def _block_hit(self, eye: Point, ray: Point) -> tuple[float, IntPoint] | None:
        """Distance and cell of the first block on a ray, cell by cell (Amanatides and Woo)."""
        cell = [math.floor(v) for v in eye]
        step = [1 if d > 0 else -1 for d in ray]
        width = [abs(1.0 / d) if d else math.inf for d in ray]
        edge = [((c + 1 - o) if d > 0 else (o - c)) * w if d else math.inf
                for c, o, d, w in zip(cell, eye, ray, width, strict=True)]
        distance = 0.0
        while distance <= _SIGHT:
            at = (cell[0], cell[1], cell[2])
            if self.block(at) not in _NOT_AIMED_AT:
                return distance, at
            axis = edge.index(min(edge))
            distance = edge[axis]
            cell[axis] += step[axis]
            edge[axis] += width[axis]
        return None


def _target(entity: EntitySetup) -> Target:
    return Target(entity.type, entity.tag, box_of(entity.type, entity.position))


def box_of(kind: str, feet: Point) -> tuple[float, float, float, float, float, float]:
    """The box of a creature that stands somewhere; of one that the catalogue does not know, a villager's."""
    try:
        width, height = catalogue().creature(kind).box
    except ScenarioError:
        width, height = catalogue().creature("villager").box
    half = width / 2.0
    x, y, z = feet
    return x - half, y, z - half, x + half, y + height, z + half


def _box_hit(eye: Point, ray: Point, box: tuple[float, float, float, float, float, float]) -> float | None:
    """Where a ray enters a box (slabs), 0 from inside; None when it misses."""
    near, far = 0.0, math.inf
    for o, d, low, high in zip(eye, ray, box[:3], box[3:], strict=True):
        if d == 0.0:
            if not low <= o <= high:
                return None
            continue
        a, b = sorted(((low - o) / d, (high - o) / d))
        near, far = max(near, a), min(far, b)
    return near if near <= far else None


def _fill_of(words: Sequence[str]) -> Fill | None:
    """The fill that a /setblock or /fill with plain numbers is; None for one that counts from the player or else."""
    n = 3 if words[0] == "setblock" else 6
    numbers, rest = words[1:n + 1], words[n + 1:]
    if not rest or not all(re.fullmatch(r"-?\d+", number) for number in numbers):
        return None
    names = [_plain(word) for word in (rest[0], *rest[2:3])]
    mode = rest[1] if len(rest) > 1 else "replace"
    if mode not in ("replace", "keep", "destroy") or None in names:
        return None
    cells = [int(number) for number in numbers]
    filled, other = names[0], names[1] if len(names) > 1 else "air" if mode == "keep" else None
    assert filled is not None
    return Fill((cells[0], cells[1], cells[2]), (cells[-3], cells[-2], cells[-1]), filled, other)


def _plain(word: str) -> str | None:
    """A block's name in the catalogue, which need not know it; None for a tag, which means many."""
    return None if word.startswith("#") else word.removeprefix("minecraft:").partition("[")[0]
