"""Ablations: an activation is replaced by one that carries less, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.intervention.feature.edit import FeatureEdit, read_values
from harness.intervention.feature.shift import Replacement
from harness.intervention.intervention import Span

__all__ = ["MeanAblation", "NoiseAblation", "ResampleAblation", "ZeroAblation"]


@dataclass(frozen=True)
class ZeroAblation(Replacement):
    """Set an activation to zero."""

    def change(self, x: Any, step: int, span: Span) -> Any:
        """Zeros; a product with 0 would keep NaN and -0."""
        return x.new_zeros(x.shape)


@dataclass(frozen=True)
class MeanAblation(Replacement):
    """Set an activation to a fixed value, usually its mean over some recording.

    Attributes:
        values: The value, of the hook's shape for one step ([d], or [h, d_head]).
    """

    values: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.values is None:
            raise self.wrong("needs values: the mean activation", hint="harness.analysis.mean_activation gives it")
        object.__setattr__(self, "values", read_values(self.values, type(self).__name__, "values"))

    def fits(self, name: str, shape: tuple[int, ...]) -> None:
        """The values must have the hook's shape."""
        if self.values.shape != shape:
            raise self.wrong(f'"{name}" has the shape {list(shape)} per step, the values {list(self.values.shape)}')

    def change(self, x: Any, step: int, span: Span) -> Any:
        """The values, in every row."""
        return x.new_tensor(self.values.array).expand(x.shape)


@dataclass(frozen=True)
class ResampleAblation(Replacement):
    """Replace an activation by one drawn from a pool, anew in every step.

    Attributes:
        values: The pool [n, ...], each of the hook's shape for one step: activations of other moments or episodes.
    """

    values: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.values is None:
            raise self.wrong("needs values: a pool of activations to draw from")
        object.__setattr__(self, "values", read_values(self.values, type(self).__name__, "values"))
        if not self.values.shape or not self.values.shape[0]:
            raise self.wrong("the pool is empty")

    def fits(self, name: str, shape: tuple[int, ...]) -> None:
        """Every one in the pool must have the hook's shape."""
        if self.values.shape[1:] != shape:
            raise self.wrong(f'"{name}" has the shape {list(shape)} per step, the pool\'s entries '
                             f"{list(self.values.shape[1:])}")

    def change(self, x: Any, step: int, span: Span) -> Any:
        """The one drawn for the step, in every row."""
        drawn = self.values.array[int(span.rng_at(step).integers(len(self.values.array)))]
        return x.new_tensor(drawn).expand(x.shape)


@dataclass(frozen=True)
class NoiseAblation(FeatureEdit):
    """Add Gaussian noise, the same in every row of a batch.

    Attributes:
        scale: Standard deviation, in units of the activation's own over the step (its root mean square about its mean),
            or in its own units with ``relative: false``.
        relative: Which of the two.
    """

    scale: float = 1.0
    relative: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.scale, bool) or not isinstance(self.scale, int | float) or not 0 < self.scale < 1e6:
            raise self.wrong(f"expected a scale above 0, got {self.scale!r}")
        if not isinstance(self.relative, bool):
            raise self.wrong(f"relative: expected true or false, got {self.relative!r}")

    def change(self, x: Any, step: int, span: Span) -> Any:
        """With noise drawn for the step."""
        noise = span.rng_at(step).standard_normal(tuple(x.shape[1:]), dtype=np.float32) * np.float32(self.scale)
        added = x.new_tensor(noise)
        if not self.relative:
            return x + added
        spread = x.float().flatten(1).std(1, correction=0).to(x.dtype)
        return x + added * spread.view(-1, *[1] * (x.ndim - 1))
