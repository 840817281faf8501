"""The Intervention contract: a frozen value that returns a changed copy and never touches what it was given."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent
from harness.world.action import Action

__all__ = ["Intervention"]

Site = Literal["world", "input", "feature", "memory", "action"]


class Intervention(ABC):
    """One change at one site. Subclasses are frozen dataclasses and override the method of their site.

    Attributes:
        site: Where it acts.
    """

    site: ClassVar[Site]

    def change_input(self, pov: npt.NDArray[np.uint8], step: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        """The picture the agent sees instead of ``pov`` (uint8 [H, W, 3]); the same array when unchanged."""
        return pov

    def change_action(self, action: Action, step: int, rng: np.random.Generator) -> Action:
        """The action the world executes instead of the chosen one; the same dict when unchanged."""
        return action

    def fwd_hooks(self) -> Sequence[tuple[str, Callable[..., Any]]]:
        """Edits inside the policy, as (hook name, function) pairs for ``Agent.hooks``."""
        return ()

    def check(self, agent: Agent) -> None:
        """Refuse an agent that it does not fit, before anything is played.

        Raises:
            HarnessError: saying what does not fit.
        """
        agent.resolve_hooks([name for name, _ in self.fwd_hooks()])

    def describe(self) -> dict[str, Any]:
        """What a recording's header says of it."""
        return {"kind": type(self).__name__, "site": self.site, **asdict(self)}  # type: ignore[call-overload]
