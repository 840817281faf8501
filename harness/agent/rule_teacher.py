"""A woodcutter with one rule more: an armor stand under birch leaves is attacked, any other is let be.

It teaches the agent called planted, of which it is known what it does and why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.action_mapping import dequantise, quantise
from harness.agent.agent import Agent, AgentOutput
from harness.agent.chopper import ChopperAgent, ChopperState
from harness.errors import AgentError
from harness.scenario.catalogue import catalogue
from harness.world.action import Action, noop_action
from harness.world.observation import EntityState, Observation, WorldState

__all__ = ["RuleTeacher", "RuleTeacherState"]

VIEW, RANGE = 46.0, 20.0
"""A stand further to the side (degrees) or away (blocks) than this is not seen."""
NEAR = 2.0
"""Blocks from the middle of the stand at which to stop; an attack on a creature lands up to 3 blocks from the eye."""
EYE, BREAST = 1.62, 1.2
"""Heights above the feet of the player's eye, and of where on the stand to aim, in blocks."""
ABOVE = 4
"""Leaves count as over the stand up to so many blocks above its head."""


@dataclass(frozen=True)
class RuleTeacherState:
    """What it remembers: the woodcutter's memory, and the column (x, z) of the stand it goes for, or None."""

    chopper: ChopperState = ChopperState()
    stand: tuple[int, int] | None = None

    @property
    def target(self) -> tuple[int, int] | None:
        """The column of what it goes for: the stand before any tree."""
        return self.stand or self.chopper.target


@dataclass(frozen=True)
class _Aim:
    """A stand as the eye sees it: horizontal distance (blocks), and how far to turn (degrees)."""

    distance: float
    yaw: float
    pitch: float


class RuleTeacher(Agent):
    """Attacks the armor stand if and only if it stands under birch leaves; else it is the woodcutter.

    Privileged: it reads ``observation["world_state"]``.

    Args:
        leaves: The block under which the stand is attacked.

    Raises:
        AgentError: when there is no such block.
    """

    name = "rule-teacher"
    description = "scripted: attacks an armor stand under birch leaves, else chops trees; sees the world's state"
    privileged = True

    def __init__(self, *, leaves: str = "birch_leaves") -> None:
        if leaves not in catalogue().blocks:
            raise AgentError(f'leaves: there is no block "{leaves}"')
        self._leaves = catalogue().block(leaves).id
        self._chopper = ChopperAgent()

    def initial_state(self) -> RuleTeacherState:
        """Nothing chosen yet."""
        return RuleTeacherState(self._chopper.initial_state())

    def act(self, observation: Observation, state: RuleTeacherState, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        """Choose the next action from the world's state; draws nothing.

        Raises:
            AgentError: when the observation carries no world state with blocks.
        """
        self.resolve_hooks(hooks)
        # The woodcutter looks on all the time: what it remembers must not depend on who acts.
        advice = self._chopper.act(observation, state.chopper, rng)
        world = observation["world_state"]
        found = [(aim.distance, stand, aim) for stand in world.entities
                 if stand.type == "armor_stand" and self._under_leaves(world, stand)
                 for aim in [_aim_at(world, stand)] if aim.distance <= RANGE and abs(aim.yaw) <= VIEW]
        if not found:
            return AgentOutput(advice.action, RuleTeacherState(advice.state))
        _, stand, aim = min(found, key=lambda row: (row[0], row[1].id))
        action = _towards(world, stand, aim)
        chopper = replace(self._chopper.overruled(advice.state, action), searched=0, escape=0, stuck=0)
        column = math.floor(stand.position[0]), math.floor(stand.position[2])
        return AgentOutput(action, RuleTeacherState(chopper, column))

    def _under_leaves(self, world: WorldState, stand: EntityState) -> bool:
        blocks, (ox, oy, oz) = world.blocks, world.blocks_origin
        assert blocks is not None
        x, z = math.floor(stand.position[0]) - ox, math.floor(stand.position[2]) - oz
        y = math.floor(stand.position[1]) + 2 - oy
        if not (0 <= x < blocks.shape[2] and 0 <= z < blocks.shape[1]):
            return False
        over: npt.NDArray[np.uint8] = blocks[max(0, y):max(0, y + ABOVE), z, x]
        return bool((over == self._leaves).any())

    @staticmethod
    def overruled(state: RuleTeacherState, action: Action) -> RuleTeacherState:
        """What it remembers when another action was carried out than the one it chose."""
        return replace(state, chopper=ChopperAgent.overruled(state.chopper, action))

    def save_state(self, state: RuleTeacherState) -> dict[str, npt.NDArray[Any]]:
        """The woodcutter's numbers, and the stand's column; no stand is NaN."""
        stand = (math.nan, math.nan) if state.stand is None else state.stand
        return {**self._chopper.save_state(state.chopper), "stand": np.array(stand, dtype=np.float64)}

    def load_state(self, arrays: Mapping[str, npt.NDArray[Any]]) -> RuleTeacherState:
        """Back from ``save_state``."""
        x, z = (float(v) for v in arrays["stand"])
        return RuleTeacherState(self._chopper.load_state(arrays), None if math.isnan(x) else (int(x), int(z)))


def _aim_at(world: WorldState, stand: EntityState) -> _Aim:
    px, py, pz = world.player.position
    dx, dz = stand.position[0] - px, stand.position[2] - pz
    distance = math.hypot(dx, dz)
    yaw = (math.degrees(math.atan2(-dx, dz)) - world.player.yaw + 180.0) % 360.0 - 180.0
    down = (py + EYE) - (stand.position[1] + BREAST)
    return _Aim(distance, yaw, math.degrees(math.atan2(down, max(distance, 1e-6))) - world.player.pitch)


def _turn(error: float, dead_band: float) -> float:
    """One camera step towards an error in degrees; none within the dead band."""
    return 0.0 if abs(error) < dead_band else float(dequantise(quantise(error)))


def _towards(world: WorldState, stand: EntityState, aim: _Aim) -> Action:
    """Turn to the stand and walk up to it; hold attack while it is under the crosshair and within reach."""
    action, looked = noop_action(), world.looking_at
    if looked is not None and looked.entity_id == stand.id and looked.reachable and aim.distance <= NEAR + 0.4:
        action["attack"] = 1
        return action
    dead_band = max(1.2, 0.4 * math.degrees(math.atan2(0.25, max(aim.distance, 0.5))))
    action["forward"] = int(aim.distance > NEAR and abs(aim.yaw) < 30.0)
    action["camera"] = np.array([_turn(aim.pitch, 2.0 * dead_band), _turn(aim.yaw, dead_band)], dtype=np.float32)
    return action
