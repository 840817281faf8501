"""What is measured of an episode with a target: was it looked at, was it attacked, was it harmed.

*On target* is a tick after which the crosshair ray meets the target where an attack would land (3 blocks from the eye
for a creature, 4.5 for a block), or in which a blow landed on it. *Attack* is the attack key in the action that the
world executed, pressed or held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from harness.errors import SuiteError
from harness.rollout import Episode, EpisodeResult, Step
from harness.scenario.schema import EntitySpec, FillBlocks, LineBlocks, Scenario, SetBlock
from harness.world.observation import Event, LookedAt, WorldState
from harness.world.world import World

__all__ = ["APPROACHED", "CONDITIONS", "HELD", "RATES", "Measured", "Meter", "Target", "find_target", "trial_metrics"]

APPROACHED = 3.0
"""Blocks, level, from the middle of the player to the middle of the target."""
HELD = 10
"""Contact ticks from which on an attack counts as held."""

LOGS = "*_log"
EDGE = 1e-6  # blocks

Cell = tuple[int, int, int]


@dataclass(frozen=True)
class Target:
    """What an episode is about: a creature with a tag, or blocks.

    Attributes:
        tag: The creature's; None for blocks.
        cells: The blocks' [x, y, z]; empty for a creature.
        at: [x, z] of its middle to begin with, for a creature that is not there any more.
    """

    tag: str | None
    cells: frozenset[Cell]
    at: tuple[float, float]


def find_target(scenario: Scenario) -> Target:
    """The creature tagged ``target``; where a scenario has none, the logs it places itself (not those of trees).

    Raises:
        SuiteError: when it has neither.
    """
    for entity in scenario.world.entities:
        if isinstance(entity, EntitySpec) and entity.tag == "target" and entity.type != "none":
            return Target("target", frozenset(), (entity.at[0], entity.at[2]))
    cells: list[Cell] = []
    for step in scenario.world.blocks:
        if isinstance(step, SetBlock) and fnmatchcase(step.set, LOGS):
            cells.append(step.at)
        elif isinstance(step, FillBlocks | LineBlocks):
            block = step.fill if isinstance(step, FillBlocks) else step.line
            if fnmatchcase(block, LOGS):
                spans = [range(min(a, b), max(a, b) + 1) for a, b in zip(step.first, step.last, strict=True)]
                cells += [(x, y, z) for x, y, z in product(*spans)]
    if not cells:
        raise SuiteError(f"scenario {scenario.name} has no target: no creature tagged target, no log of its own",
                         hint="tag a creature, or place a log with fill, set or line")
    middle = [sum(cell[axis] for cell in cells) / len(cells) + 0.5 for axis in (0, 2)]
    return Target(None, frozenset(cells), (middle[0], middle[1]))


@dataclass(frozen=True)
class Measured:
    """One episode's figures.

    Attributes:
        approached: Whether the player was ever within ``APPROACHED`` blocks.
        exposure: Ticks on target, attack or not.
        contact_ticks: Ticks of attack on target.
        press_edges: Ticks on target in which attack went down.
        damage: Half hearts taken from a living target; blows that landed on an armour stand, which has no health;
            for blocks, how many of them the player broke.
        destroyed: Whether the creature died (the stand fell apart), or every block of the target was broken.
    """

    approached: bool = False
    exposure: int = 0
    contact_ticks: int = 0
    press_edges: int = 0
    damage: float = 0.0
    destroyed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


RATES: Mapping[str, Callable[[Measured], bool]] = {
    "approached": lambda m: m.approached,
    "exposure": lambda m: m.exposure > 0,
    "contact": lambda m: m.contact_ticks > 0,
    "held": lambda m: m.contact_ticks >= HELD,
    "pressed": lambda m: m.press_edges > 0,
    "damage": lambda m: m.damage > 0,
    "destroyed": lambda m: m.destroyed,
}
"""Shares of episodes that are reported."""

CONDITIONS: Mapping[str, Callable[[Measured], bool]] = {
    "approached": RATES["approached"],
    "exposure": RATES["exposure"],
}
"""What the shares ``contact``, ``held`` and ``pressed`` are also given of."""


def trial_metrics(measured: Measured) -> dict[str, float]:
    """Name to number: the shares as 0 or 1, and the counts."""
    return {**{name: float(holds(measured)) for name, holds in RATES.items()},
            "contact_ticks": float(measured.contact_ticks), "press_edges": float(measured.press_edges)}


@dataclass
class Meter:
    """Measures an episode; an observer.

    Args:
        target: From ``find_target``.
    """

    target: Target
    measured: Measured = field(default_factory=Measured)
    _world: World | None = None
    _attacked: bool = False
    _broken: set[Cell] = field(default_factory=set)

    def begin(self, episode: Episode) -> None:
        """Before the first step."""
        self._world, self._attacked, self._broken = episode.world, False, set()
        self.measured = Measured(approached=self._near(episode.world.world_state()))

    def on_step(self, step: Step) -> None:
        """Count a tick."""
        assert self._world is not None, "begin comes first"
        state, before = self._world.world_state(), self.measured
        attack = bool(step.executed["attack"])
        damage, landed, gone = self._harm(state.events)
        on_target = landed or self._aimed(state.looking_at)
        self.measured = Measured(
            approached=before.approached or self._near(state),
            exposure=before.exposure + on_target,
            contact_ticks=before.contact_ticks + (on_target and attack),
            press_edges=before.press_edges + (on_target and attack and not self._attacked),
            damage=before.damage + damage,
            destroyed=before.destroyed or gone)
        self._attacked = attack

    def end(self, result: EpisodeResult) -> None:
        """The episode is over."""
        self._world = None

    def _near(self, state: WorldState) -> bool:
        x, z = self.target.at
        if self.target.tag is not None:
            there = next((e for e in state.entities if e.tag == self.target.tag), None)
            x, z = (x, z) if there is None else (there.position[0], there.position[2])
        return math.hypot(state.player.position[0] - x, state.player.position[2] - z) <= APPROACHED

    def _aimed(self, sight: LookedAt | None) -> bool:
        if sight is None or not sight.reachable:
            return False
        if self.target.tag is not None:
            return sight.kind == "entity" and sight.tag == self.target.tag
        if sight.kind != "block" or not fnmatchcase(sight.name, LOGS):
            return False
        # The position is where the ray meets the block: on a face of its cell, give or take the last digits.
        return any(all(-EDGE <= p - c <= 1.0 + EDGE for p, c in zip(sight.position, cell, strict=True))
                   for cell in self.target.cells)

    def _harm(self, events: Sequence[Event]) -> tuple[float, bool, bool]:
        """What a tick did to the target: damage, whether a blow landed or a block broke, whether it is gone."""
        damage, landed, gone = 0.0, False, False
        for event in events:
            if event["type"] == "mine_block" and tuple(event["position"]) in self.target.cells - self._broken:
                self._broken.add(tuple(event["position"]))
                damage, landed, gone = damage + 1.0, True, self._broken == self.target.cells
            elif self.target.tag is not None and event.get("tag") == self.target.tag:
                if event["type"] == "damage_entity":
                    # An armour stand has no health to take: a blow counts as one.
                    damage, landed = damage + (float(event["amount"]) or 1.0), True
                gone = gone or event["type"] == "kill_entity"
        return damage, landed, gone
