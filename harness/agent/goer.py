"""One who walks up to animals: a scripted teacher that goes to the nearest it can see, and stays there looking at it.

Like the woodcutter it is written to be imitated: it uses what the picture shows, keeps the camera still unless the aim
is off by a good part of the animal, and every turn is one of the policy's 11 camera steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent, AgentOutput
from harness.agent.chopper import (
    EYE,
    LEVEL,
    STUCK_TICKS,
    VIEW,
    ChopperAgent,
    ChopperState,
    act,
    escape,
    hidden,
    notice,
    search,
    turn,
    wrapped,
)
from harness.errors import AgentError
from harness.scenario.catalogue import catalogue
from harness.world.action import Action
from harness.world.observation import EntityState, Observation, WorldState

__all__ = ["GoerAgent", "GoerState"]

ANIMALS = ("cow", "pig", "sheep")
RANGE = 20.0
"""Farther animals (blocks) are too small to be seen well."""
NEAR, NEAREST = 2.2, 1.4
"""Walk until the animal's middle is ``NEAR`` blocks away; ``NEAREST`` where something hangs before it."""


@dataclass(frozen=True)
class GoerState:
    """What it remembers: how its legs are doing, and the animal it goes for.

    Attributes:
        legs: The woodcutter's memory of walking, searching and being stuck.
        animal: Its number in the world, or None.
        target: The column (x, z) it stands in, or None.
    """

    legs: ChopperState = ChopperState()
    animal: int | None = None
    target: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Aim:
    """An animal as the eye sees it: horizontal distance (blocks), degrees to turn, and half its size in degrees."""

    animal: EntityState
    distance: float
    yaw: float
    pitch: float
    half_width: float
    half_height: float

    @property
    def cost(self) -> float:
        """Bearing counts more than distance, as for the woodcutter."""
        return self.distance / 3 + abs(self.yaw) / 5


class GoerAgent(Agent):
    """Walks up to the nearest animal in view, stops two blocks before it and keeps it in view; it never hits.

    Privileged: it reads ``observation["world_state"]``.

    Args:
        animals: Which creatures it goes to.

    Raises:
        AgentError: when there is no such creature.
    """

    name = "goer"
    description = "scripted: walks up to an animal and looks at it, sees the world's state"
    privileged = True

    def __init__(self, *, animals: Sequence[str] = ANIMALS) -> None:
        for animal in animals:
            if animal not in catalogue().creatures:
                raise AgentError(f'animals: there is no creature "{animal}"')
        self._animals = tuple(animals)

    def initial_state(self) -> GoerState:
        """No animal chosen yet."""
        return GoerState()

    def act(self, observation: Observation, state: GoerState, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        """Choose the next action from the world's state; draws nothing.

        Raises:
            AgentError: when the observation carries no world state with blocks.
        """
        self.resolve_hooks(hooks)
        world = observation.get("world_state")
        if not isinstance(world, WorldState) or world.blocks is None:
            raise AgentError("the goer needs observation[\"world_state\"] with blocks, and got none",
                             hint="run it with run_episode on a world that reports blocks, such as blockworld")
        legs, aim = notice(state.legs, world), self._choose(world, state.animal)
        action, legs = _decide(world, legs, aim)
        x, _, z = world.player.position
        legs = replace(legs, x=x, z=z, pushing=bool(action["forward"]))
        if aim is None:
            return AgentOutput(action, GoerState(legs))
        there = aim.animal.position
        return AgentOutput(action, GoerState(legs, aim.animal.id, (math.floor(there[0]), math.floor(there[2]))))

    def _choose(self, world: WorldState, old: int | None) -> _Aim | None:
        """Of the animals in view the cheapest, but the old one unless another is clearly cheaper."""
        aims = [aim for animal in world.entities if animal.type in self._animals and animal.alive
                for aim in [_aim_at(world, animal)] if aim.distance <= RANGE and abs(aim.yaw) <= VIEW
                and not hidden(world, _middle(animal))]
        if not aims:
            return None
        best = min(aims, key=lambda aim: (aim.cost, aim.animal.id))
        same = [aim for aim in aims if aim.animal.id == old]
        return same[0] if same and same[0].cost < 1.5 * best.cost + 0.5 else best

    @staticmethod
    def overruled(state: GoerState, action: Action) -> GoerState:
        """What it remembers when another action was carried out than the one it chose."""
        return replace(state, legs=ChopperAgent.overruled(state.legs, action))

    def save_state(self, state: GoerState) -> dict[str, npt.NDArray[Any]]:
        """Every field as a number; None is NaN."""
        animal = math.nan if state.animal is None else state.animal
        column = (math.nan, math.nan) if state.target is None else state.target
        return {**ChopperAgent().save_state(state.legs), "animal": np.array([animal, *column], dtype=np.float64)}

    def load_state(self, arrays: Mapping[str, npt.NDArray[Any]]) -> GoerState:
        """Back from ``save_state``."""
        animal, x, z = (None if math.isnan(v) else int(v) for v in arrays["animal"])
        return GoerState(ChopperAgent().load_state(arrays), animal, None if x is None or z is None else (x, z))


def _middle(animal: EntityState) -> tuple[float, float, float]:
    x0, y0, z0, x1, y1, z1 = animal.box
    return (x0 + x1) / 2, (y0 + y1) / 2, (z0 + z1) / 2


def _aim_at(world: WorldState, animal: EntityState) -> _Aim:
    px, py, pz = world.player.position
    x, y, z = _middle(animal)
    dx, dz = x - px, z - pz
    distance = math.hypot(dx, dz)
    far = max(distance, 0.5)
    yaw = wrapped(math.degrees(math.atan2(-dx, dz)) - world.player.yaw)
    pitch = math.degrees(math.atan2(py + EYE - y, far)) - world.player.pitch
    sizes = [math.degrees(math.atan2(size / 2, far)) for size in (animal.box[3] - animal.box[0],
                                                                 animal.box[4] - animal.box[1])]
    return _Aim(animal, distance, yaw, pitch, *sizes)


def _decide(world: WorldState, legs: ChopperState, aim: _Aim | None) -> tuple[Action, ChopperState]:
    near = aim is not None and aim.distance <= NEAR + 1.0
    if abs(world.player.pitch) > LEVEL and not near:
        return act(pitch=turn(-world.player.pitch, 1.2)), legs
    if aim is None:
        return search(world, legs)
    legs = replace(legs, searched=0)
    if not near and (legs.escape or legs.stuck >= STUCK_TICKS):
        return escape(legs, aim.yaw)
    looked = world.looking_at
    # Leaves or grass before the crosshair, though the animal's middle can be seen: aim at that, and come nearer.
    covered = near and looked is not None and looked.entity_id != aim.animal.id
    walks = aim.distance > (NEAREST if covered else NEAR) and abs(aim.yaw) < 30.0
    pitch, yaw = (1.2, 1.2) if covered else (max(1.2, 0.5 * aim.half_height), max(1.2, 0.45 * aim.half_width))
    return act(*(("forward",) if walks else ()), pitch=turn(aim.pitch, pitch), yaw=turn(aim.yaw, yaw)), legs
