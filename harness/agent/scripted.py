"""Agents without a network: nothing, chance, a list of actions, and a woodcutter who sees the world's state."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.agent.action_mapping import N_BUTTONS, N_CAMERA, from_policy
from harness.agent.agent import Agent, AgentOutput
from harness.agent.chopper import ChopperAgent
from harness.errors import AgentError
from harness.world.action import Action, check_action, noop_action
from harness.world.observation import Observation

__all__ = ["ChopperAgent", "NoopAgent", "RandomAgent", "ReplayAgent"]


class NoopAgent(Agent):
    """Does nothing."""

    name = "noop"
    description = "does nothing"

    def initial_state(self) -> None:
        """There is none."""
        return

    def act(self, observation: Observation, state: Any, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        """Release everything."""
        self.resolve_hooks(hooks)
        return AgentOutput(noop_action(), None)


class RandomAgent(Agent):
    """Draws uniformly from what a VPT policy can say: 8,641 button combinations times 121 turns.

    Args:
        inventory: Whether the inventory key is among them; it opens a screen and stays there until pressed again.
    """

    name = "random"
    description = "uniform over VPT's actions"

    def __init__(self, *, inventory: bool = False) -> None:
        # The inventory key is the last combination.
        self._n_buttons = N_BUTTONS if inventory else N_BUTTONS - 1

    def initial_state(self) -> None:
        """There is none."""
        return

    def act(self, observation: Observation, state: Any, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        """Draw camera and buttons from ``rng``."""
        self.resolve_hooks(hooks)
        camera, buttons = int(rng.integers(N_CAMERA)), int(rng.integers(self._n_buttons))
        entropy = math.log(N_CAMERA) + math.log(self._n_buttons)
        return AgentOutput(from_policy(buttons, camera), None, log_prob=-entropy, entropy=entropy,
                           tokens={"buttons": buttons, "camera": camera})


class ReplayAgent(Agent):
    """Plays a list of actions.

    Args:
        actions: MineRL actions in order; missing keys are released.
        path: Instead, the ``steps.jsonl`` of a recording, or the recording's folder.
        column: Which of a recorded step's actions to play: ``executed`` by the world, or ``chosen`` by the agent.
        after: What to do when the list is over: ``stop`` with an error, or play on with ``noop``.

    Raises:
        AgentError: for a file that holds no steps, or neither or both of ``actions`` and ``path``.
        WorldError: for an action that is not one.
    """

    name = "replay"
    description = "plays a list of actions"

    def __init__(self, *, actions: Sequence[Mapping[str, Any]] | None = None, path: str | Path | None = None,
                 column: Literal["executed", "chosen"] = "executed", after: Literal["stop", "noop"] = "stop") -> None:
        if (actions is None) == (path is None):
            raise AgentError("a replay agent needs either actions or the path of a recording's steps.jsonl")
        for name, value, known in (("column", column, ("executed", "chosen")), ("after", after, ("stop", "noop"))):
            if value not in known:
                raise AgentError(f"{name}: expected {' or '.join(known)}, got {value!r}")
        rows = _read_actions(Path(path), column) if path is not None else list(actions or ())
        self.actions: tuple[Action, ...] = tuple(check_action(row) for row in rows)
        self._after = after

    def initial_state(self) -> int:
        """The number of the next action."""
        return 0

    def act(self, observation: Observation, state: int, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        """The next action.

        Raises:
            AgentError: when the list is over and ``after`` is ``stop``.
        """
        self.resolve_hooks(hooks)
        if state < len(self.actions):
            action = dict(self.actions[state])
            action["camera"] = action["camera"].copy()
            return AgentOutput(action, state + 1)
        if self._after == "stop":
            raise AgentError(f"the list holds {len(self.actions)} actions, and step {state} asks for another",
                             hint="play fewer steps, or build the agent with after: noop")
        return AgentOutput(noop_action(), state + 1)

    def save_state(self, state: int) -> dict[str, npt.NDArray[Any]]:
        """The number of the next action."""
        return {"next": np.array(state, dtype=np.int64)}

    def load_state(self, arrays: Mapping[str, npt.NDArray[Any]]) -> int:
        """Back from ``save_state``."""
        return int(arrays["next"])


def _read_actions(path: Path, column: str) -> list[Mapping[str, Any]]:
    file = path / "steps.jsonl" if path.is_dir() else path
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise AgentError(f"cannot read the steps: {problem}", where=str(file)) from problem
    actions: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            action = json.loads(line)[column]
        except (ValueError, KeyError, TypeError) as problem:
            raise AgentError(f'expected a step with "{column}", one JSON object per line', where=f"{file}:{number}",
                             hint="a row that was being written when the run died can be deleted") from problem
        if not isinstance(action, dict):
            raise AgentError(f'this step has no {column} action', where=f"{file}:{number}",
                             hint="a trace over a video executes nothing: use column: chosen")
        actions.append(action)
    if not actions:
        raise AgentError("the file holds no steps", where=str(file))
    return actions
