"""An agent: walks on and now and then takes another turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent, AgentOutput
from harness.errors import AgentError
from harness.world.action import noop_action
from harness.world.observation import Observation

State = tuple[int, float]
"""Steps left on this turn, and its degrees a step."""


class WandererAgent(Agent):
    """Holds forward, and every so many steps draws how far to turn in each of the next.

    Args:
        every: Steps between two draws.

    Raises:
        AgentError: for a number of steps that is none.
    """

    name = "wanderer"
    description = "scripted: walks on and turns now and then, at random"

    def __init__(self, *, every: int = 20) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise AgentError(f"every: expected a number of steps from 1 on, got {every!r}")
        self._every = every

    def initial_state(self) -> State:
        """A turn is due."""
        return 0, 0.0

    def act(self, observation: Observation, state: State, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        """Forward and the turn; what it remembers goes back in the output, never into ``self``."""
        self.resolve_hooks(hooks)
        left, turn = state
        if left == 0:
            left, turn = self._every, float(rng.uniform(-5.0, 5.0))
        action = noop_action()
        action["forward"] = 1
        action["camera"] = np.array([0.0, turn], np.float32)
        return AgentOutput(action, (left - 1, turn))

    def save_state(self, state: State) -> dict[str, npt.NDArray[Any]]:
        """Both numbers."""
        return {"left": np.array(state[0], np.int64), "turn": np.array(state[1], np.float64)}

    def load_state(self, arrays: Mapping[str, npt.NDArray[Any]]) -> State:
        """Back from ``save_state``."""
        return int(arrays["left"]), float(arrays["turn"])

    def provenance(self) -> dict[str, Any]:
        """With its one argument."""
        return {**super().provenance(), "every": self._every}
