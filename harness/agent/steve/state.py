"""What a STEVE-1 agent carries from step to step: the policy's memory, and what it was told to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.agent.mineclip.config import EMBED
from harness.agent.vpt.config import VPTConfig
from harness.agent.vpt.state import VPTState
from harness.errors import AgentError

__all__ = ["SteveState"]


@dataclass(frozen=True)
class SteveState(VPTState):
    """A policy's memory with the goals of its episodes. Frozen, like every memory.

    Under guidance the memory has two rows an episode: those with the goal first, then those without.

    Attributes:
        goals: Per episode its goal embedding float32 [512]; None while it has yet to be drawn, which the first frame
            does.
    """

    goals: tuple[Tensor | None, ...] = (None,)

    @classmethod
    def around(cls, memory: VPTState, goals: tuple[Tensor | None, ...]) -> SteveState:
        """The memory a policy gave, with these goals."""
        return cls(memory.keys, memory.values, memory.masks, goals)

    @property
    def n_episodes(self) -> int:
        """One for each goal."""
        return len(self.goals)

    def episode(self, number: int) -> SteveState:
        """The memory of one of the episodes, its goal too; under guidance both rows."""
        return SteveState.around(super().episode(number), (self.goals[number],))

    def repeated(self, n: int) -> SteveState:
        """The memory of every episode n times over, its goal too; under guidance in both rows."""
        return SteveState.around(super().repeated(n), tuple(goal for goal in self.goals for _ in range(n)))

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The memory's arrays, ``goal`` float32 [n, 512] and ``goal_drawn`` bool [n]."""
        goals = [np.zeros(EMBED, np.float32) if goal is None else goal.cpu().numpy() for goal in self.goals]
        return {**super().to_arrays(), "goal": np.stack(goals).astype(np.float32),
                "goal_drawn": np.array([goal is not None for goal in self.goals])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], config: VPTConfig,
                    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> SteveState:
        """Back from ``to_arrays``.

        Raises:
            AgentError: for arrays that are not such a memory.
        """
        rest = {name: value for name, value in arrays.items() if name not in ("goal", "goal_drawn")}
        missing = [name for name in ("goal", "goal_drawn") if name not in arrays]
        if missing:
            raise AgentError(f"the memory lacks {', '.join(missing)}",
                             hint="it was saved by an agent that has no goal" if len(missing) > 1 else None)
        goal, drawn = np.asarray(arrays["goal"]), np.asarray(arrays["goal_drawn"])
        fits = goal.dtype == np.float32 and goal.shape[1:] == (EMBED,)
        if not fits or drawn.dtype != bool or drawn.shape != goal.shape[:1]:
            raise AgentError(f"goal: expected float32 [n, {EMBED}] and bool [n], got {goal.dtype} {list(goal.shape)} "
                             f"and {drawn.dtype} {list(drawn.shape)}")
        goals = tuple(torch.from_numpy(np.array(row)).to(device) if there else None
                      for row, there in zip(goal, drawn, strict=True))
        return cls.around(VPTState.from_arrays(rest, config, device, dtype), goals)
