"""Activation patching: what another run had at this place is put here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.intervention.feature.edit import read_values, whole_numbers
from harness.intervention.feature.shift import Replacement
from harness.intervention.intervention import Span

__all__ = ["ActivationPatch"]


@dataclass(frozen=True)
class ActivationPatch(Replacement):
    """Put an activation of another run, another time or another episode in place of this one.

    Attributes:
        values: Of the hook's shape for one step, put into every step that the schedule allows; or [n, ...] with
            ``steps``.
        steps: The steps that the ``n`` values belong to, in their order; at other steps nothing is put.
    """

    values: Any = None
    steps: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.values is None:
            raise self.wrong("needs values: the activation of the other run")
        object.__setattr__(self, "values", read_values(self.values, type(self).__name__, "values"))
        if self.steps is not None:
            given: Any = self.steps
            steps = whole_numbers(given, "ActivationPatch: steps")
            if list(steps) != ([given] if isinstance(given, int) else list(given)):
                raise self.wrong(f"steps: expected them in ascending order, each once, got {self.steps!r}")
            object.__setattr__(self, "steps", steps)
            if not self.values.shape or self.values.shape[0] != len(steps):
                raise self.wrong(f"{len(steps)} steps need as many values, got the shape {list(self.values.shape)}")

    def fits(self, name: str, shape: tuple[int, ...]) -> None:
        """One step's values must have the hook's shape: they come from an agent of the same size."""
        own = self.values.shape if self.steps is None else self.values.shape[1:]
        if own != shape:
            raise self.wrong(f'"{name}" has the shape {list(shape)} per step, the patch {list(own)}',
                             hint="a patch comes from the same hook of an agent of the same size")

    def change(self, x: Any, step: int, span: Span) -> Any:
        """The other run's activation, in every row."""
        if self.steps is None:
            return x.new_tensor(self.values.array).expand(x.shape)
        if step not in self.steps:
            return x
        return x.new_tensor(self.values.array[self.steps.index(step)]).expand(x.shape)
