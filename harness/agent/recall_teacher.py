"""Answers a cue that is gone: steps left or right when a white wall asks, by the colour of a wall seen earlier.

It teaches the agent called recall, of which it is known what it must remember.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent, AgentOutput
from harness.errors import AgentError
from harness.scenario.catalogue import catalogue
from harness.world.action import Action, noop_action
from harness.world.observation import Observation, WorldState

__all__ = ["ANSWERS", "GO", "RecallTeacher"]

ANSWERS = {"red_wool": "left", "blue_wool": "right"}
"""Cue to key."""
GO = "white_wool"
"""While this is there, it answers."""


@dataclass(frozen=True)
class RecallState:
    """What it remembers: the block of the cue it saw last, or None."""

    cue: str | None = None


class RecallTeacher(Agent):
    """Does nothing until white wool asks; then it steps left if red wool was seen last, right after blue wool.

    Privileged: it reads ``observation["world_state"]``.
    """

    name = "recall-teacher"
    description = "scripted: steps to the side that an earlier cue meant, sees the world's state"
    privileged = True

    def initial_state(self) -> RecallState:
        """No cue seen."""
        return RecallState()

    def act(self, observation: Observation, state: RecallState, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        """Choose the next action from the world's state; draws nothing.

        Raises:
            AgentError: when the observation carries no world state with blocks.
        """
        self.resolve_hooks(hooks)
        world = observation.get("world_state")
        if not isinstance(world, WorldState) or world.blocks is None:
            raise AgentError("the recall teacher needs observation[\"world_state\"] with blocks, and got none",
                             hint="run it with run_episode on a world that reports blocks, such as blockworld")
        for cue in ANSWERS:
            if (world.blocks == catalogue().block(cue).id).any():
                state = RecallState(cue)
        action = noop_action()
        if state.cue is not None and (world.blocks == catalogue().block(GO).id).any():
            action[ANSWERS[state.cue]] = 1
        return AgentOutput(action, state)

    @staticmethod
    def overruled(state: RecallState, action: Action) -> RecallState:
        """What was seen stays seen, whatever was done."""
        return state

    def save_state(self, state: RecallState) -> dict[str, npt.NDArray[Any]]:
        """The cue's place among ``ANSWERS``; -1 for none."""
        return {"cue": np.array(-1 if state.cue is None else list(ANSWERS).index(state.cue), dtype=np.int64)}

    def load_state(self, arrays: Mapping[str, npt.NDArray[Any]]) -> RecallState:
        """Back from ``save_state``."""
        place = int(arrays["cue"])
        return RecallState(None if place < 0 else list(ANSWERS)[place])
