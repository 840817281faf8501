"""What is measured of an episode: of its target (was it looked at, attacked, harmed), its outcomes, by analyses.

*On target* is a tick after which the crosshair ray meets the target where an attack would land (3 blocks from the eye
for a creature, 4.5 for a block), or in which a blow landed on it. *Attack* is the attack key in the action that the
world executed, pressed or held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from harness.errors import SuiteError, unknown_name
from harness.rollout import Episode, EpisodeResult, Step
from harness.scenario.schema import EntitySpec, FillBlocks, LineBlocks, Scenario, SetBlock
from harness.world.observation import Event, LookedAt, WorldState
from harness.world.world import World

__all__ = ["APPROACHED", "CONDITIONS", "COUNTS", "HELD", "OUTCOME", "RATES", "USUAL", "Measured", "Meter", "Metric",
           "Target", "find_target", "value_at"]

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


@dataclass(frozen=True, slots=True)
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

COUNTS: Mapping[str, Callable[[Measured], float]] = {
    "exposure_ticks": lambda m: m.exposure,
    "contact_ticks": lambda m: m.contact_ticks,
    "press_edges": lambda m: m.press_edges,
    "damage_dealt": lambda m: m.damage,
}
"""Figures of the target that may be asked for as metrics, beside the shares."""

OUTCOME = "outcome:"


@dataclass(frozen=True)
class Metric:
    """One number a trial. What happened or not counts 1 or 0.

    Attributes:
        name: One of ``RATES`` or ``COUNTS``; ``outcome:NAME``, with ``.step`` or ``.count`` behind it; or, for an
            analysis, any.
        analysis: A registered analysis of one recording; None for the others.
        options: Its options.
        value: Where in its result the number stands, as ``value_at`` reads it.
    """

    name: str
    analysis: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    value: str = ""

    @property
    def outcome(self) -> tuple[str, str] | None:
        """The outcome's name, and which of its numbers: ``value``, ``first_step`` or ``count``."""
        if self.analysis is not None or not self.name.startswith(OUTCOME):
            return None
        name, _, part = self.name.removeprefix(OUTCOME).partition(".")
        return name, {"": "value", "step": "first_step"}.get(part, part)

    @property
    def of_target(self) -> bool:
        """Whether it measures a target, so that a scenario must have one."""
        return self.analysis is None and self.outcome is None

    @property
    def is_rate(self) -> bool:
        """Whether it says of an episode what happened or not, so that it is 0 or 1."""
        return self.analysis is None and (self.name in RATES or (self.outcome or ("", ""))[1] == "value")

    def measurable(self, target: Target | None, outcomes: Collection[str]) -> bool:
        """Whether an episode with this target and these outcomes has such a number."""
        if self.outcome is not None:
            return self.outcome[0] in outcomes
        return not self.of_target or target is not None

    def of(self, measured: Measured | None, outcomes: Mapping[str, Any]) -> float | None:
        """Its number in one episode, for all but analyses; None where there is none.

        Args:
            measured: None for an episode without a target.
            outcomes: As ``EpisodeResult`` has them.
        """
        if self.outcome is not None:
            name, part = self.outcome
            found = outcomes.get(name, {}).get(part)
            return None if found is None else float(found)
        if measured is None:
            return None
        return float({**RATES, **COUNTS}[self.name](measured))


USUAL = tuple(Metric(name) for name in (*RATES, *COUNTS))
"""What is measured where a suite names no metrics."""


def value_at(result: Any, path: str) -> float:
    """A number in nested JSON values.

    Args:
        result: Such as ``Result.as_dict()``.
        path: Keys and places, parted by ``/``: ``tables/0/rows/2/1``. In a list whose members begin with a text, as the
            rows of a table do, that text is as good as the place.

    Raises:
        SuiteError: where the path ends early, or at something that is no number.
    """
    at = result
    for word in path.split("/"):
        named = [each for each in at if isinstance(each, list) and each and str(each[0]) == word] \
            if isinstance(at, list) else []
        try:
            at = named[0] if named else at[int(word)] if isinstance(at, list) else at[word]
        except (IndexError, KeyError, TypeError, ValueError):
            known = at if isinstance(at, Mapping) else [each[0] if isinstance(each, list) and each else i
                                                        for i, each in enumerate(at)] if isinstance(at, list) else []
            raise unknown_name(f"place in {path}", word, map(str, known), error=SuiteError) from None
    if not isinstance(at, int | float):
        raise SuiteError(f"{path}: expected a number there, found {at!r}")
    return float(at)


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
