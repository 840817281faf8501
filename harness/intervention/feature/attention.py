"""Edits of attention: force it, flatten it, cut edges to frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.agent.agent import Agent
from harness.intervention.feature.edit import FeatureEdit, whole_numbers
from harness.intervention.intervention import Span

__all__ = ["AttentionEdit", "cut_scores", "key_ages", "other_frames"]

_MODES = ("force", "uniform", "knock-out")


def key_ages(n_keys: int) -> range:
    """Ages of one query's keys, oldest first: the last is the query's own frame, age 0."""
    return range(n_keys - 1, -1, -1)


def cut_scores(scores: Any, columns: Sequence[int]) -> Any:
    """Scores [b, h, T] (or [b, T]) with some keys out of sight, as far down as the mask of unseen keys puts them."""
    lowest = -1e9 if scores.element_size() > 2 else -6e4
    new = scores.clone()
    new[..., list(columns)] = lowest
    return new


def other_frames(ages: Sequence[int] | None, steps: Sequence[int] | None, window: int | None, seed: int
                 ) -> dict[str, Any] | None:
    """As many other frames of about the same age, at random: the control of an edit that names frames.

    Args:
        ages: Frames by age, ascending; or
        steps: by absolute step.
        window: Frames that a query sees, its own included; None where older ones count, too.
        seed: Which of many.

    Returns:
        ``{"ages": ...}`` or ``{"steps": ...}``; None where neither is given, or too few others are left.
    """
    if ages is not None:
        end = ages[-1] + 9 if window is None else min(ages[-1] + 9, window)
        field, given, near = "ages", ages, range(max(1, ages[0] - 8), end)
    elif steps is not None:
        field, given, near = "steps", steps, range(max(0, steps[0] - 8), steps[-1] + 9)
    else:
        return None
    others = [n for n in near if n not in given]
    if len(others) < len(given):
        return None
    chosen = np.random.default_rng(seed).choice(others, len(given), replace=False)
    return {field: tuple(sorted(int(n) for n in chosen))}


@dataclass(frozen=True)
class AttentionEdit(FeatureEdit):
    """Change where heads look, by frame age (0 is the current frame) or by absolute step.

    Attributes:
        hook: ``blocks.{i}.attn.hook_attn_scores``, where the softmax comes after the edit and weights sum to 1 again;
            or ``blocks.{i}.attn.hook_pattern``, where cut edges leave the row's sum smaller and other weights as they
            were.
        mode: ``knock-out`` cuts the edges to the frames named, ``force`` leaves no other and weighs these equally,
            ``uniform`` weighs everything visible equally (frames need not be named; if they are, only these of it).
        ages: Frames by age, as seen from each query.
        steps: Frames by absolute step. Frames that are not in a query's memory are passed over.

    A knock-out that would leave a query nothing to look at is not made at that query, on scores; the pattern can be 0.
    """

    mode: str = "knock-out"
    ages: tuple[int, ...] | None = None
    steps: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hook.rpartition(".")[2] not in ("hook_attn_scores", "hook_pattern"):
            raise self.wrong(f'"{self.hook}" is no attention',
                             hint="use blocks.N.attn.hook_attn_scores or hook_pattern")
        if self.mode not in _MODES:
            raise self.wrong(f"mode: expected {', '.join(_MODES)}, got {self.mode!r}")
        if self.units is not None:
            raise self.wrong("the last axis is frames; name them by ages or steps instead of units")
        for field in ("ages", "steps"):
            if getattr(self, field) is not None:
                object.__setattr__(self, field, whole_numbers(getattr(self, field), f"AttentionEdit: {field}"))
        if self.ages is None and self.steps is None and self.mode != "uniform":
            raise self.wrong(f"{self.mode} needs ages or steps")

    def fits(self, name: str, shape: tuple[int, ...]) -> None:
        """Ages must lie in the window."""
        window = shape[-1] - 1
        if self.ages is not None and self.ages[-1] >= window:
            raise self.wrong(f'"{name}" has ages 0 to {window - 1}, got age {self.ages[-1]}')

    def control(self, seed: int, agent: Agent) -> FeatureEdit | None:
        """The same in another head, or for other frames where it is in all heads."""
        if self.head is not None:
            return super().control(seed, agent)
        window = agent.hook_shapes()[agent.resolve_hooks([self.hook])[0]][0][-1] - 1
        others = other_frames(self.ages, self.steps, window, seed)
        return replace(self, **others) if others else None

    def change(self, x: Any, step: int, span: Span) -> Any:
        """One query's row of every head [b, h, T], oldest key first."""
        ages = key_ages(x.shape[-1])
        chosen = [column for column, age in enumerate(ages)
                  if (self.ages is not None and age in self.ages)
                  or (self.steps is not None and step - age in self.steps)
                  or (self.ages is None and self.steps is None)]
        scores = self.hook.rpartition(".")[2] == "hook_attn_scores"
        if self.mode == "knock-out":
            if not scores:
                new = x.clone()
                new[..., chosen] = 0
                return new
            cut = cut_scores(x, chosen)
            return cut.where((cut > _unseen(x)).any(-1, keepdim=True), x)
        visible = (x > _unseen(x)) if scores else (x > 0)
        wanted = visible.new_zeros(x.shape)
        wanted[..., chosen] = True
        wanted = wanted & visible
        if scores:
            # Equal scores weigh equally; the first frame of an episode sees itself alone.
            new = cut_scores(x, range(x.shape[-1])).masked_fill(wanted, 0.0)
        else:
            new = wanted.to(x.dtype) / wanted.sum(-1, keepdim=True).clamp(min=1).to(x.dtype)
        return new.where(wanted.any(-1, keepdim=True), x)


def _unseen(x: Any) -> float:
    """Scores at or below this are those of keys that a query does not see."""
    return -1e8 if x.element_size() > 2 else -5e4
