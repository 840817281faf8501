"""One who looks around: a scripted teacher that turns right where it stands, with a level view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.agent.agent import Agent, AgentOutput
from harness.agent.chopper import act, turn
from harness.errors import AgentError
from harness.world.action import Action
from harness.world.observation import Observation, WorldState

__all__ = ["LookerAgent", "LookerState"]

STEP = 10.0
"""Degrees a tick: the largest of the policy's camera steps."""


@dataclass(frozen=True)
class LookerState:
    """It remembers nothing."""


class LookerAgent(Agent):
    """Turns right steadily and keeps the view level. Privileged: it reads ``observation["world_state"]``."""

    name = "looker"
    description = "scripted: turns around where it stands, sees the world's state"
    privileged = True

    def initial_state(self) -> LookerState:
        """Nothing to remember."""
        return LookerState()

    def act(self, observation: Observation, state: LookerState, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        """Turn; draws nothing.

        Raises:
            AgentError: when the observation carries no world state.
        """
        self.resolve_hooks(hooks)
        world = observation.get("world_state")
        if not isinstance(world, WorldState):
            raise AgentError("the looker needs observation[\"world_state\"], and got none",
                             hint="run it with run_episode, which gives privileged agents what they need")
        return AgentOutput(act(pitch=turn(-world.player.pitch, 1.2), yaw=STEP), state)

    @staticmethod
    def overruled(state: LookerState, action: Action) -> LookerState:
        """Whatever was done instead, it goes on turning."""
        return state
