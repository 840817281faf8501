"""Interventions on activations inside the policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.agent.agent import Agent
from harness.errors import InterventionError
from harness.intervention.intervention import Edit, Intervention, Site, Span
from harness.world.world import Capabilities

__all__ = ["ZeroAblation"]

_HEAD_AXES = {
    "hook_pattern": -3, "hook_attn_scores": -3, "hook_rel_bias": -3,
    "hook_z": -2, "hook_q": -2, "hook_k": -2, "hook_v": -2, "hook_result": -2, "hook_k_mem": -2, "hook_v_mem": -2,
}
"""Where the heads are, counted from the end: patterns are [b, h, t, T], per-head vectors [b, t, h, d]."""


@dataclass(frozen=True)
class ZeroAblation(Intervention):
    """Set an activation to zero.

    Attributes:
        hook: Hook name or glob, such as ``"blocks.2.attn.hook_z"``.
        head: Only this head (0 for the first); None for the whole activation.

    Raises:
        InterventionError: for a head where the hook has none, when built; for a head beyond the last, when run.
    """

    hook: str
    head: int | None = None
    site: ClassVar[Site] = "feature"

    def __post_init__(self) -> None:
        if not isinstance(self.hook, str) or not self.hook:
            raise InterventionError(f"ZeroAblation: expected the name of a hook, got {self.hook!r}")
        if self.head is None:
            return
        if isinstance(self.head, bool) or not isinstance(self.head, int) or self.head < 0:
            raise InterventionError(f"ZeroAblation: expected a head from 0 on, got {self.head!r}")
        if self.hook.rpartition(".")[2] not in _HEAD_AXES:
            raise InterventionError(f'ZeroAblation: "{self.hook}" has no heads, so head={self.head} means nothing',
                                    hint=f"leave the head out, or use one of {', '.join(sorted(_HEAD_AXES))}")

    def check(self, agent: Agent, capabilities: Capabilities | None = None) -> None:
        """Refuse hooks that the agent has not, and a head beyond the last.

        Raises:
            HookError: when no hook has the name.
            InterventionError: when one has fewer heads.
        """
        shapes = agent.hook_shapes()
        for name in agent.resolve_hooks([self.hook]):
            n_heads = shapes[name][0][-2] if self.head is not None else 0
            if self.head is not None and self.head >= n_heads:
                raise InterventionError(f'ZeroAblation: "{name}" has heads 0 to {n_heads - 1}, got head {self.head}')

    def edits(self) -> Sequence[tuple[str, Edit]]:
        """One edit at ``hook``."""
        return [(self.hook, self._edit)]

    def _edit(self, activation: Any, point: Any, span: Span) -> Any:
        # Tensor methods only: this module needs no torch of its own. A product with 0 would keep NaN and -0.
        if self.head is None:
            return activation.new_zeros(activation.shape)
        axis = _HEAD_AXES[self.hook.rpartition(".")[2]]
        if self.head >= activation.shape[axis]:
            raise InterventionError(f'ZeroAblation: "{self.hook}" has heads 0 to {activation.shape[axis] - 1}, '
                                    f"got head {self.head}")
        changed = activation.clone()
        changed.select(axis, self.head).zero_()
        return changed
