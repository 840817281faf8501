"""One episode in a forward pass of several rows: what was played beside others, played again to the same bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent, AgentOutput, AgentState, BatchAgent
from harness.world.observation import Observation

__all__ = ["MOST_ROWS", "PaddedAgent"]

MOST_ROWS = 1024
"""A header that asks for more is not believed."""


class PaddedAgent(Agent):
    """An agent that plays in the first of several rows; the others are empty.

    Bits depend on the number of rows and not on what is in the others, so this is what a suite's worker plays.

    Args:
        agent: Who plays.
        rows: Of its forward passes.
    """

    def __init__(self, agent: BatchAgent, rows: int) -> None:
        self._agent, self._rows = agent, rows
        self.name, self.description, self.torch_threads = agent.name, agent.description, agent.torch_threads

    def initial_state(self) -> AgentState:
        """The agent's, of one episode."""
        return self._agent.initial_state()

    def act(self, observation: Observation, state: AgentState, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        """Choose, with all rows computed."""
        empty = [None] * (self._rows - 1)
        outputs, after = self._agent.act_together([observation, *empty], state.repeated(self._rows), [rng, *empty],
                                                  [False] * self._rows, hooks=hooks)
        assert outputs[0] is not None
        return replace(outputs[0], state=self._agent.memory_of(after, 0))

    def hook_shapes(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """The agent's."""
        return self._agent.hook_shapes()

    def resolve_hooks(self, globs: Sequence[str]) -> list[str]:
        """As the agent does."""
        return list(self._agent.resolve_hooks(globs))

    def hooks(self, fwd_hooks: Sequence[tuple[str, Callable[..., Any]]]) -> AbstractContextManager[Any]:
        """The agent's: an edit sees all rows."""
        return self._agent.hooks(fwd_hooks)

    def save_state(self, state: AgentState) -> dict[str, npt.NDArray[Any]]:
        """The agent's, of one episode."""
        return self._agent.save_state(state)

    def load_state(self, arrays: Mapping[str, npt.NDArray[Any]]) -> AgentState:
        """Back from ``save_state``."""
        return self._agent.load_state(arrays)

    def provenance(self) -> dict[str, Any]:
        """The agent's, with the shape of its forward pass."""
        said = self._agent.provenance()
        rows, *times = said.get("batch_shape", [1, 1])
        return {**said, "batch_shape": [rows * self._rows, *times]}
