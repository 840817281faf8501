"""Edits along a direction of activation space: project it out, steer along it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.agent.agent import Agent
from harness.intervention.arrays import ArrayValue
from harness.intervention.feature.edit import FeatureEdit, read_values
from harness.intervention.intervention import Span

__all__ = ["ProjectOut", "Steering"]

_MODES = ("add", "clamp", "rotate")


@dataclass(frozen=True)
class _Along(FeatureEdit):
    direction: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.direction is None:
            raise self.wrong("needs a direction", hint="harness.analysis.difference_of_means gives one")
        direction = read_values(self.direction, type(self).__name__, "direction")
        if direction.array.ndim != 1 or not np.linalg.norm(direction.array) > 0:
            raise self.wrong(f"expected a direction as a list of numbers, not all 0, got {list(direction.shape)}")
        object.__setattr__(self, "direction", direction)
        if self.units is not None:
            raise self.wrong("a direction is over all units; leave units out, and set the others to 0 in it")

    def fits(self, name: str, shape: tuple[int, ...]) -> None:
        """The direction must be as long as the hook's last axis."""
        if not shape or self.direction.shape[0] != shape[-1]:
            raise self.wrong(f'"{name}" has {shape[-1] if shape else 0} units, the direction {self.direction.shape[0]}')

    def unit(self, x: Any) -> Any:
        """The direction at length 1, as a tensor like ``x``."""
        v = self.direction.array.astype(np.float64)
        return x.new_tensor((v / np.linalg.norm(v)).astype(np.float32))

    def control(self, seed: int, agent: Agent) -> FeatureEdit | None:
        """The same edit along a random direction of equal norm."""
        v = np.random.default_rng(seed).standard_normal(self.direction.shape[0])
        v *= np.linalg.norm(self.direction.array) / np.linalg.norm(v)
        return replace(self, direction=ArrayValue(v.astype(np.float32)))


@dataclass(frozen=True)
class ProjectOut(_Along):
    """Take the component along a direction away.

    Attributes:
        direction: As many numbers as the hook's last axis has units; its length does not matter.
    """

    def change(self, x: Any, step: int, span: Span) -> Any:
        """``x - (x . u) u``."""
        u = self.unit(x)
        return x - (x * u).sum(-1, keepdim=True) * u


@dataclass(frozen=True)
class Steering(_Along):
    """Steer along a direction.

    Attributes:
        direction: As many numbers as the hook's last axis has units.
        strength: For ``add`` the factor of the direction as it is (contrastive activation addition, Rimsky et al.
            2024); for ``clamp`` the component along it that the activation is given; for ``rotate`` degrees, from 0 to
            180.
        mode: ``add``, ``clamp``, or ``rotate``: turn the activation towards the direction, at most until it points
            there, its norm as it was.
    """

    strength: float = 1.0
    mode: str = "add"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in _MODES:
            raise self.wrong(f"mode: expected {', '.join(_MODES)}, got {self.mode!r}")
        if isinstance(self.strength, bool) or not isinstance(self.strength, int | float) or not \
                math.isfinite(self.strength):
            raise self.wrong(f"strength: expected a number, got {self.strength!r}")
        if self.mode == "rotate" and not 0 <= self.strength <= 180:
            raise self.wrong(f"strength: to rotate, expected degrees from 0 to 180, got {self.strength!r}")

    def change(self, x: Any, step: int, span: Span) -> Any:
        """As the mode says."""
        if self.mode == "add":
            return x + x.new_tensor(self.direction.array) * self.strength
        u = self.unit(x)
        along = (x * u).sum(-1, keepdim=True)
        if self.mode == "clamp":
            return x + (self.strength - along) * u
        across = x - along * u
        norm, rest = x.norm(dim=-1, keepdim=True), across.norm(dim=-1, keepdim=True)
        angle = (rest.atan2(along) - math.radians(self.strength)).clamp(min=0)
        # Where the activation already lies on the line there is no plane to turn in: it stays.
        turned = norm * (angle.cos() * u + angle.sin() * across / rest.clamp(min=1e-12))
        return turned.where(rest > 0, x)
