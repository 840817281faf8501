"""The Agent contract: memory is an argument, nothing hides on ``self``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import HookError
from harness.world.action import Action
from harness.world.observation import Observation

__all__ = ["Agent", "AgentOutput", "AgentState", "BatchAgent"]

AgentState = Any
"""What an agent carries from step to step. Opaque to everyone but the agent; never mutated in place."""


@dataclass(frozen=True)
class AgentOutput:
    """One decision.

    Attributes:
        action: MineRL's 24 keys.
        state: The memory to hand to the next ``act``.
        log_prob: Log-probability of the drawn action under the policy (nats), None without a policy.
        entropy: Entropy of the action distribution (nats).
        value: The value head's estimate, denormalised.
        tokens: The policy's own indices, such as {"buttons": 8640, "camera": 60}.
        log_probs: float32 vectors per head, {"buttons": [8641], "camera": [121]}, for replay checks.
        activations: Hook name to array-like without the batch and time axes ([h, T] for a pattern). Values may
            still be on their way from a GPU: ``numpy.asarray`` waits for them.
    """

    action: Action
    state: AgentState
    log_prob: float | None = None
    entropy: float | None = None
    value: float | None = None
    tokens: Mapping[str, int] = field(default_factory=dict)
    log_probs: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    activations: Mapping[str, Any] = field(default_factory=dict)


class Agent(ABC):
    """Something that looks and acts.

    Attributes:
        name: The name it was loaded under.
        description: One line shown wherever the agent shows, e.g. "random weights (seed 0)".
        privileged: True when its observation must carry ``world_state`` (scripted teachers only).
        torch_threads: Threads its arithmetic uses (bits depend on it), 0 when it uses none.
    """

    name: str = "agent"
    description: str = ""
    privileged: bool = False
    torch_threads: int = 0

    @abstractmethod
    def initial_state(self) -> AgentState:
        """The memory before the first frame."""

    @abstractmethod
    def act(self, observation: Observation, state: AgentState, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        """Choose an action for one observation.

        Args:
            observation: ``{"pov": uint8 [360, 640, 3]}``.
            state: From ``initial_state`` or the last output.
            rng: The agent's own random stream; all its randomness comes from here.
            hooks: Resolved hook names whose activations to return.
        """

    def hook_shapes(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """Hook name to (shape without batch and time axes, dtype name) for one step."""
        return {}

    def hook_axes(self) -> Mapping[str, tuple[str, ...]]:
        """Hook name to what each axis counts, such as ("b", "t", "h", "d_head"); see docs/hooks.md."""
        return {}

    def resolve_hooks(self, globs: Sequence[str]) -> list[str]:
        """Hook names that match the globs, in the order of the forward pass.

        Raises:
            HookError: when a glob matches nothing, with the nearest names.
        """
        if globs:
            raise HookError(f'agent "{self.name}" has no hook points, so {globs[0]!r} matches nothing',
                            hint="leave the hooks out, or use an agent with a network, such as vpt-nano")
        return []

    def hooks(self, fwd_hooks: Sequence[tuple[str, Callable[..., Any]]]) -> AbstractContextManager[Any]:
        """Enter to have functions edit activations; leave to have the policy as it was.

        Args:
            fwd_hooks: (hook name or glob, ``fn(activation, hook) -> activation or None``).

        Raises:
            HookError: when the agent has no network, or a glob matches nothing.
        """
        self.resolve_hooks([name for name, _ in fwd_hooks])
        return nullcontext()

    def save_state(self, state: AgentState) -> dict[str, npt.NDArray[Any]]:
        """The memory as plain arrays, by name, for a snapshot."""
        return {}

    def load_state(self, arrays: Mapping[str, npt.NDArray[Any]]) -> AgentState:
        """The memory back from ``save_state``'s arrays."""
        return self.initial_state()

    def keep_goal(self, state: AgentState, like: AgentState) -> AgentState:
        """A memory in the place of ``like``: what the agent was told to do is no memory of frames, and stays."""
        return state

    def provenance(self) -> dict[str, Any]:
        """What the recording's header says of this agent (class, arguments, weights digest, device, precision)."""
        return {"name": self.name, "description": self.description, "class": type(self).__name__}


class BatchAgent(Agent):
    """An agent that can decide for many episodes with one forward pass.

    Attributes:
        narrow: True when of a picture of 640 columns it reads only the 128 that a world's ``agent_input`` draws.
    """

    narrow: bool = False

    @abstractmethod
    def initial_states(self, n: int) -> AgentState:
        """The memory of ``n`` episodes before their first frames."""

    @abstractmethod
    def memory_of(self, state: AgentState, row: int) -> AgentState:
        """The memory of one row, as ``act`` and ``save_state`` take it."""

    @abstractmethod
    def act_together(self, observations: Sequence[Observation | None], state: AgentState,
                     rngs: Sequence[np.random.Generator | None], first: Sequence[bool], *, hooks: Sequence[str] = ()
                     ) -> tuple[list[AgentOutput | None], AgentState]:
        """Choose an action in every episode.

        A row depends on its own observations, memory and stream alone, bit for bit, as long as ``n`` is the same.

        Args:
            observations: One per row; None where nobody plays.
            state: From ``initial_states`` or the last call.
            rngs: Each row's own stream.
            first: True at the first frame of an episode: what the row remembered before is forgotten.
            hooks: Hook names whose activations to return, each row its own.

        Returns:
            One decision per row that plays (its ``state`` is None), and the memory for the next call.
        """
