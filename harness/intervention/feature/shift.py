"""Replacing a whole activation, and its control: a random displacement that is as long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.agent.agent import Agent
from harness.intervention.build import build_intervention
from harness.intervention.feature.edit import FeatureEdit
from harness.intervention.intervention import Span

__all__ = ["RandomShift", "Replacement"]

_ATTENTION = ("hook_pattern", "hook_attn_scores")


@dataclass(frozen=True)
class RandomShift(FeatureEdit):
    """Move an activation as far as another edit would, but in a random direction.

    Attributes:
        like: The other edit, of the same hook, or its mapping. Only how long its change is counts, step by step.
        seed: Which direction; the same at every step.
    """

    like: Any = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        like = build_intervention(self.like) if isinstance(self.like, Mapping) else self.like
        if not isinstance(like, FeatureEdit) or like.hook != self.hook:
            raise self.wrong(f"like: expected an edit of {self.hook}, got {self.like!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise self.wrong(f"seed: expected a whole number from 0 on, got {self.seed!r}")
        object.__setattr__(self, "like", like)

    def fits(self, name: str, shape: tuple[int, ...]) -> None:
        """As the other edit."""
        self.like.fits(name, shape)

    def change(self, x: Any, step: int, span: Span) -> Any:
        """``x + |change| v``, with a random unit vector ``v``, the norm over all of a step's axes."""
        v = np.random.default_rng(self.seed).standard_normal(tuple(x.shape[1:]), dtype=np.float32)
        far = (self.like.change(x, step, span) - x).flatten(1).norm(dim=1)
        return x + x.new_tensor(v / np.linalg.norm(v)) * far.view(-1, *[1] * (x.ndim - 1))

    def control(self, seed: int, agent: Agent) -> FeatureEdit | None:
        """It is one itself."""
        return None


@dataclass(frozen=True)
class Replacement(FeatureEdit):
    """Base of those that put something else in an activation's place."""

    def control(self, seed: int, agent: Agent) -> FeatureEdit | None:
        """Other heads or units; where all are meant, a random displacement as long. None for all of attention."""
        if self.heads is not None or self.units is not None or self.hook.rpartition(".")[2] in _ATTENTION:
            return super().control(seed, agent)
        return RandomShift(self.hook, like=self, seed=seed, schedule=self.schedule, name=self.name)
