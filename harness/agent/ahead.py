"""Looking ahead: over pictures that are known beforehand an agent sees several at once, and decides one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent, AgentOutput, AgentState
from harness.errors import AgentError
from harness.world.observation import Observation

__all__ = ["CHUNK", "AheadAgent", "chunk_length"]

CHUNK = 16
"""Pictures per forward pass: more bring the image network no speed, only memory."""
_BUDGET = 256 << 20
"""Bytes of activations that may wait to be handed out."""

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Ahead:
    """Where an agent stands within the pictures it has seen ahead."""

    before: AgentState
    frames: tuple[Frame, ...]
    choices: tuple[Callable[[np.random.Generator], AgentOutput], ...]
    after: AgentState
    n_done: int = 0


def chunk_length(agent: Agent, hooks: Sequence[str]) -> int:
    """How many pictures to look at together so that the activations of these hooks stay within a quarter of a GB."""
    shapes = agent.hook_shapes()
    size = sum(math.prod(shapes[name][0]) * 4 for name in hooks if name in shapes)
    return max(1, min(CHUNK, _BUDGET // max(size, 1)))


class AheadAgent(Agent):
    """An agent that has ``look_ahead``, over pictures that do not depend on what it does.

    It acts as the agent itself does, but for rounding (its forward pass has another shape, which ``provenance`` says).

    Args:
        agent: Looks at several pictures at once with ``look_ahead``.
        upcoming: Gives the picture of now and those that follow, at most as many as asked for.
        chunk: How many at a time.
    """

    def __init__(self, agent: Any, upcoming: Callable[[int], Sequence[Frame]], chunk: int) -> None:
        self._agent, self._upcoming, self._chunk = agent, upcoming, chunk
        self.name, self.description, self.torch_threads = agent.name, agent.description, agent.torch_threads

    def initial_state(self) -> AgentState:
        """The agent's, with nothing seen ahead."""
        return self._at(self._agent.initial_state())

    def act(self, observation: Observation, state: AgentState, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        """Choose for one picture; every so many of them the agent looks at the next ones.

        Raises:
            AgentError: for another picture than was announced.
        """
        if state.n_done == len(state.choices):
            frames = tuple(self._upcoming(self._chunk))
            # An agent may have something to draw once an episode; looking ahead comes without the stream.
            begin = getattr(self._agent, "begin", None)
            before = state.after if begin is None else begin(state.after, rng)
            choices, after = self._agent.look_ahead(np.stack(frames), before, hooks)
            state = _Ahead(before, frames, tuple(choices), after)
        if not np.array_equal(state.frames[state.n_done], observation["pov"]):
            raise AgentError("the agent looked ahead, and another picture came than was announced")
        output: AgentOutput = state.choices[state.n_done](rng)
        return replace(output, state=replace(state, n_done=state.n_done + 1))

    def _at(self, memory: AgentState) -> _Ahead:
        return _Ahead(memory, (), (), memory)

    def hook_shapes(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """The agent's."""
        shapes: Mapping[str, tuple[tuple[int, ...], str]] = self._agent.hook_shapes()
        return shapes

    def resolve_hooks(self, globs: Sequence[str]) -> list[str]:
        """As the agent does."""
        return list(self._agent.resolve_hooks(globs))

    def hooks(self, fwd_hooks: Sequence[tuple[str, Callable[..., Any]]]) -> AbstractContextManager[Any]:
        """Edits act on several pictures at once, for which they are not made.

        Raises:
            AgentError: always.
        """
        raise AgentError("an agent that looks ahead takes no edits")

    def save_state(self, state: AgentState) -> dict[str, npt.NDArray[Any]]:
        """The agent's memory after the pictures decided on; computed again where that is amid those seen."""
        memory = state.before if state.n_done == 0 else state.after
        if 0 < state.n_done < len(state.choices):
            _, memory = self._agent.look_ahead(np.stack(state.frames[:state.n_done]), state.before, ())
        saved: dict[str, npt.NDArray[Any]] = self._agent.save_state(memory)
        return saved

    def load_state(self, arrays: Mapping[str, npt.NDArray[Any]]) -> AgentState:
        """Back from ``save_state``."""
        return self._at(self._agent.load_state(arrays))

    def provenance(self) -> dict[str, Any]:
        """The agent's, with the shape of its forward pass."""
        said = self._agent.provenance()
        return {**said, "batch_shape": [said.get("batch_shape", [1])[0], self._chunk]}
