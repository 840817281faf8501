"""Whether a game built what a scenario says: the list of what to check after settling, and the check.

A backend fills in a ``Seen`` with what it can tell, and leaves the rest None. What it cannot tell is named, never taken
for granted: a person looks at ``harness scenario preview`` for that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.scenario.setup import EntitySetup, Point, WorldSetup

__all__ = ["Expected", "Mob", "Seen", "Verification", "expectations", "verify"]

_STILL = 0.35  # blocks by which a body may be off: it is pushed out of blocks and by its neighbours
_WALK = 0.25  # blocks a tick that a creature with a mind of its own may have walked
_TURN = 1.0  # degrees


@dataclass(frozen=True)
class Mob:
    """A creature that a backend lists: its type, and where its feet are."""

    type: str
    position: Point


@dataclass(frozen=True)
class Seen:
    """What a backend can tell of its world after settling; None where it cannot.

    Attributes:
        position: The player's feet, in blocks.
        yaw: Degrees, 0 faces +z, 90 faces -x.
        pitch: Degrees, positive looks down.
        health: Half hearts.
        inventory: Item to count, of everything that the player carries.
        mobs: Every creature near the player.
    """

    position: Point | None = None
    yaw: float | None = None
    pitch: float | None = None
    health: float | None = None
    inventory: Mapping[str, int] | None = None
    mobs: tuple[Mob, ...] | None = None


@dataclass(frozen=True)
class Expected:
    """One thing that must be so after settling.

    Attributes:
        kind: What a backend has to tell for it: "position", "yaw", "pitch", "health", "item", "no other item" or "mob".
        name: The item or the type of creature; "" for the player.
        value: A point, degrees, half hearts or a count.
        tolerance: How far it may be off: blocks, degrees, half hearts.
    """

    kind: str
    name: str
    value: Point | float
    tolerance: float = 0.0

    def __str__(self) -> str:
        value = self.value if isinstance(self.value, tuple) else (self.value,)
        within = f" within {self.tolerance:g}" if self.tolerance else ""
        return f"{self.kind} {self.name}".strip() + f" {' '.join(f'{v:g}' for v in value)}{within}"


@dataclass(frozen=True)
class Verification:
    """What came of it.

    Attributes:
        wrong: One sentence for each expectation that is not met.
        unknown: The kinds of expectation that the backend cannot tell anything about.
        n_met: How many are met.
    """

    wrong: tuple[str, ...]
    unknown: tuple[str, ...]
    n_met: int


def expectations(setup: WorldSetup, settle_ticks: int | None = None) -> tuple[Expected, ...]:
    """What can be checked of a world after it has settled.

    Args:
        setup: From ``compile_scenario``.
        settle_ticks: Ticks that were waited, by which creatures with ``ai`` may have walked; the setup's own if None.

    Returns:
        The player's pose, health and items, then one "mob" for every creature. An armour stand is no mob that a
        backend lists, and is left out. What happens in events of step 0 has happened.
    """
    ticks = setup.settle_steps if settle_ticks is None else settle_ticks
    player = setup.player
    counts: dict[str, int] = {}
    for item, count in player.hotbar.values():
        bare = item.removeprefix("minecraft:")
        counts[bare] = counts.get(bare, 0) + count
    found = [Expected("position", "", player.position, _STILL), Expected("yaw", "", player.yaw, _TURN),
             Expected("pitch", "", player.pitch, _TURN), Expected("health", "", player.health)]
    found += [Expected("item", item, float(count)) for item, count in sorted(counts.items())]
    found += [Expected("no other item", "", 0.0)]
    found += [Expected("mob", entity.type, entity.position, _slack(entity, ticks))
              for entity in setup.entities if entity.type != "armor_stand"]
    return tuple(found)


def _slack(entity: EntitySetup, ticks: int) -> float:
    return _STILL + (_WALK * ticks if entity.ai else 0.0)


def verify(expected: tuple[Expected, ...], seen: Seen) -> Verification:
    """Hold what a backend tells against what must be so.

    Each listed creature stands for one expected one only, the nearest of its type. A position may be lower than
    expected by as much as the tolerance allows, like the other directions; more creatures than expected are wrong too,
    because a clean slate has none.

    Returns:
        What is wrong, what nothing is known about, and how much is right.
    """
    wrong, unknown, n_met = list[str](), dict[str, None](), 0
    for what, problem in (*_player(expected, seen), *_mobs(expected, seen)):
        if problem is None:
            n_met += 1
        elif problem:
            wrong.append(problem)
        else:
            unknown[what] = None
    return Verification(tuple(wrong), tuple(unknown), n_met)


def _player(expected: tuple[Expected, ...], seen: Seen) -> Iterator[tuple[str, str | None]]:
    """(kind, None if met, "" if unknown, else what is wrong)."""
    items = {e.name: e.value for e in expected if e.kind == "item"}
    for one in expected:
        match one.kind:
            case "position" if seen.position is not None:
                assert isinstance(one.value, tuple)
                yield "position", _off(one, f"{_point(seen.position)}", math.dist(one.value, seen.position))
            case "yaw" if seen.yaw is not None:
                assert not isinstance(one.value, tuple)
                yield "yaw", _off(one, f"{seen.yaw:g}", abs((seen.yaw - one.value + 180.0) % 360.0 - 180.0))
            case "pitch" | "health" if getattr(seen, one.kind) is not None:
                assert not isinstance(one.value, tuple)
                value = float(getattr(seen, one.kind))
                yield one.kind, _off(one, f"{value:g}", abs(value - one.value))
            case "item" if seen.inventory is not None:
                count = seen.inventory.get(one.name, 0)
                yield "item", _off(one, str(count), abs(count - float(items[one.name])))  # type: ignore[arg-type]
            case "no other item" if seen.inventory is not None:
                others = sorted(name for name, count in seen.inventory.items()
                                if count and name not in items and name not in ("air", "none"))
                yield one.kind, f"expected no other item, got {', '.join(others)}" if others else None
            case "mob":
                pass
            case kind:
                yield kind, ""


def _mobs(expected: tuple[Expected, ...], seen: Seen) -> Iterator[tuple[str, str | None]]:
    wanted = [one for one in expected if one.kind == "mob"]
    if seen.mobs is None:
        yield from (("mob", "") for _ in wanted)
        return
    left = list(seen.mobs)
    for one in wanted:
        assert isinstance(one.value, tuple)
        value = one.value
        same = [mob for mob in left if mob.type.removeprefix("minecraft:") == one.name]
        if not same:
            yield "mob", f"expected {one}, got none"
            continue
        nearest = min(same, key=lambda mob: math.dist(mob.position, value))
        left.remove(nearest)
        yield "mob", _off(one, _point(nearest.position), math.dist(nearest.position, value))
    for mob in left:
        yield "mob", f"expected no other creature, got {mob.type} at {_point(mob.position)}"


def _off(one: Expected, got: str, distance: float) -> str | None:
    return None if distance <= one.tolerance + 1e-6 else f"expected {one}, got {got}"


def _point(point: Point) -> str:
    return " ".join(f"{v:g}" for v in point)
