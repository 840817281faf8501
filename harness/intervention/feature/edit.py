"""What every edit of an activation shares: which hook, which head, which units, at which steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from harness.agent.agent import Agent
from harness.errors import InterventionError
from harness.intervention.arrays import ArrayValue
from harness.intervention.intervention import Edit, Intervention, Site, Span
from harness.intervention.schedule import ALWAYS
from harness.world.world import Capabilities

__all__ = ["HEADED", "FeatureEdit", "shared_hooks", "step_views", "whole_numbers"]

HEADED = frozenset({
    "hook_pattern", "hook_attn_scores", "hook_rel_bias", "hook_z", "hook_q", "hook_k", "hook_v", "hook_result",
    "hook_k_mem", "hook_v_mem",
})
"""Last words of the hooks that have heads."""

_TIMELESS = frozenset({"hook_k_mem", "hook_v_mem"})
"""Hooks that all queries of a pass share: [b, T, h, d_head]."""


def whole_numbers(value: Any, what: str, *, least: int = 0) -> tuple[int, ...]:
    """One whole number or several, as a sorted tuple without repeats.

    Raises:
        InterventionError: for anything else, or a number below ``least``.
    """
    given = [value] if isinstance(value, int) else value
    if not isinstance(given, list | tuple) or not given or not all(
            isinstance(n, int) and not isinstance(n, bool) and n >= least for n in given):
        raise InterventionError(f"{what}: expected a whole number from {least} on, or a list of them, got {value!r}")
    return tuple(sorted(set(given)))


def step_views(x: Any, point: Any) -> Iterator[tuple[int, Any]]:
    """The part of an activation that belongs to each query position, as views without the time axis.

    A row of attention [b, h, T] begins at the oldest key that its own query can have, so that it has as many columns
    in a chunk as it has step by step; a hook without a time axis gives the whole once, as position -1.
    """
    axes = list(point.axes)
    if axes == ["b", "h", "t", "T"]:
        width = x.shape[3] - x.shape[2] + 1
        for n in range(x.shape[2]):
            yield n, x[:, :, n, n:n + width]
    elif "t" in axes:
        for n in range(x.shape[1]):
            yield n, x.select(1, n)
    else:
        yield -1, x


def shared_hooks(interventions: Sequence[Intervention], n_steps: int = 1
                 ) -> list[tuple[str, Callable[[Any, Any], Any]]]:
    """Edits that act alike at every step and in every row of a batch, as pairs for ``Agent.hooks``.

    Args:
        interventions: Inside the network. What they draw is drawn once, as at a first step.
        n_steps: Query positions of one pass at most.

    Raises:
        InterventionError: for one at another site, or with a schedule.
    """
    span = Span(range(n_steps), (True,) * n_steps, np.random.default_rng, {})
    for each in interventions:
        if each.site != "feature" or each.schedule != ALWAYS:
            raise InterventionError(f"{each.called} does not act alike in all episodes of a pass",
                                    hint="take an edit of an activation, without a schedule")

    def function(edit: Edit) -> Callable[[Any, Any], Any]:
        return lambda x, point: edit(x, point, span)
    return [(glob, function(edit)) for each in interventions for glob, edit in each.edits()]


@dataclass(frozen=True)
class FeatureEdit(Intervention):
    """Base of the edits of one activation.

    Attributes:
        hook: Hook name or glob, such as ``"blocks.2.attn.hook_z"``; behind ``cond.`` or ``uncond.`` only that row of a
            guided agent, else both.
        head: Only this head (0 for the first), or these; None for all.
        units: Only these places on the last axis; None for all.

    Raises:
        InterventionError: for a head where the hook has none, when built; for heads or units beyond the last, when
            checked against an agent.
    """

    hook: str
    head: int | tuple[int, ...] | None = None
    units: tuple[int, ...] | None = None
    site: ClassVar[Site] = "feature"

    def __post_init__(self) -> None:
        if not isinstance(self.hook, str) or not self.hook:
            raise self.wrong(f"expected the name of a hook, got {self.hook!r}")
        if self.units is not None:
            object.__setattr__(self, "units", whole_numbers(self.units, f"{type(self).__name__}: units"))
        if self.head is None:
            return
        if isinstance(self.head, list | tuple):
            object.__setattr__(self, "head", whole_numbers(self.head, f"{type(self).__name__}: head"))
        elif isinstance(self.head, bool) or not isinstance(self.head, int) or self.head < 0:
            raise self.wrong(f"expected a head from 0 on, or a list of them, got {self.head!r}")
        if self.hook.rpartition(".")[2] not in HEADED:
            raise self.wrong(f'"{self.hook}" has no heads, so head={self.head} means nothing',
                             hint=f"leave the head out, or use one of {', '.join(sorted(HEADED))}")

    def wrong(self, message: str, hint: str | None = None) -> InterventionError:
        """An error that names the class."""
        return InterventionError(f"{type(self).__name__}: {message}", hint=hint)

    @property
    def heads(self) -> tuple[int, ...] | None:
        """``head`` as a tuple."""
        return (self.head,) if isinstance(self.head, int) else self.head

    @abstractmethod
    def change(self, x: Any, step: int, span: Span) -> Any:
        """One step's activation [b, ...] edited as a whole; the base puts back what head and units leave out."""

    def fits(self, name: str, shape: tuple[int, ...]) -> None:
        """Refuse a hook of this shape (without batch and time); subclasses with values compare theirs.

        Raises:
            InterventionError: saying what does not fit.
        """

    def check(self, agent: Agent, capabilities: Capabilities | None = None) -> None:
        """Refuse hooks that the agent has not, read-outs, and heads, units or values that do not fit.

        Raises:
            HookError: when no hook has the name.
            InterventionError: when it does not fit.
        """
        shapes = agent.hook_shapes()
        for name in agent.resolve_hooks([self.hook]):
            if name.endswith(".hook_margin"):
                raise self.wrong(f"{name} is a read-out: nothing depends on it, so replacing it changes nothing")
            shape = tuple(shapes[name][0])
            if self.heads is not None:
                n_heads = shape[_head_axis(name)]
                if self.heads[-1] >= n_heads:
                    raise self.wrong(f'"{name}" has heads 0 to {n_heads - 1}, got head {self.heads[-1]}')
            if self.units is not None and self.units[-1] >= shape[-1]:
                raise self.wrong(f'"{name}" has units 0 to {shape[-1] - 1}, got unit {self.units[-1]}')
            self.fits(name, shape)

    def edits(self) -> Sequence[tuple[str, Edit]]:
        """One edit at ``hook``."""
        return [(self.hook, self._edit)]

    def _edit(self, x: Any, point: Any, span: Span) -> Any:
        changed = x.clone()
        for n, view in step_views(changed, point):
            if n < 0 or span.active[n]:
                step = span.steps[n] if n >= 0 else span.steps[-1]
                new = self.change(view.clone(), step, span)
                view.copy_(self._selected(new, view, point))
        return changed

    def _selected(self, new: Any, old: Any, point: Any) -> Any:
        """``new`` at the heads and units that are meant, ``old`` elsewhere."""
        if self.heads is None and self.units is None:
            return new
        kept = old.clone()
        # Behind an axis of image tokens or keys, where there is one; the views have no time axis.
        axis = [a for a in point.axes if a != "t"].index("h") if self.heads is not None else 0
        places: list[Any] = [slice(None)] * old.ndim
        for head in (self.heads if self.heads is not None else (None,)):
            if head is not None:
                if head >= old.shape[axis]:
                    raise self.wrong(f'"{point.name}" has heads 0 to {old.shape[axis] - 1}, got head {head}')
                places[axis] = head
            # A head taken away is one axis less; the units stay on the last.
            here = places if self.units is None else [*places[:-1], list(self.units)]
            kept[tuple(here)] = new[tuple(here)]
        return kept

    def control(self, seed: int, agent: Agent) -> FeatureEdit | None:
        """The same edit where nothing is expected of it: at random other heads, or else at as many random other units.

        Args:
            seed: Which of many.
            agent: For the number of heads and units.

        Returns:
            None where the edit means all heads and units, so that no others are left.
        """
        name = agent.resolve_hooks([self.hook])[0]
        shape, rng = agent.hook_shapes()[name][0], np.random.default_rng(seed)
        if self.heads is not None:
            others = [h for h in range(shape[_head_axis(name)]) if h not in self.heads]
            if len(others) >= len(self.heads):
                chosen = tuple(sorted(int(h) for h in rng.choice(others, len(self.heads), replace=False)))
                return replace(self, head=chosen[0] if isinstance(self.head, int) else chosen)
        elif self.units is not None:
            rest = [u for u in range(shape[-1]) if u not in self.units]
            if len(rest) >= len(self.units):
                return replace(self, units=tuple(sorted(int(u) for u in rng.choice(rest, len(self.units),
                                                                                   replace=False))))
        return None


def _head_axis(name: str) -> int:
    """Where the heads are in the shape without batch and time; 0 too where there are none."""
    return 1 if name.rpartition(".")[2] in _TIMELESS else 0


def read_values(value: Any, kind: str, field: str) -> ArrayValue:
    """An array field.

    Raises:
        InterventionError: naming class and field.
    """
    if isinstance(value, Mapping) and "recording" in value:
        raise InterventionError(f"{kind}: {field} names a recording, which is read by the command line; in Python give "
                                "the array")
    try:
        return ArrayValue.read(value)
    except InterventionError as problem:
        raise InterventionError(f"{kind}: {field}: {problem.message}", hint=problem.hint) from problem
