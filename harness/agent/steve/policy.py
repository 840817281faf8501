"""STEVE-1's policy: VPT with a goal added to every frame's embedding, and classifier-free guidance.

Source of the formulas: STEVE-1 (Lifshitz et al. 2023, arXiv 2306.00937) and its released code
(steve1/embed_conditioned_policy.py), read and written anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.agent.hooks import ActivationCache, HookFunction, HookPoint
from harness.agent.mineclip.config import EMBED
from harness.agent.steve.rows import ROWS, RowHookStack
from harness.agent.vpt.config import VPTConfig
from harness.agent.vpt.policy import VPTOutput, VPTPolicy
from harness.agent.vpt.state import VPTState
from harness.errors import AgentError

__all__ = ["SteveOutput", "StevePolicy"]


@dataclass(frozen=True)
class SteveOutput(VPTOutput):
    """What the policy says about each frame; ``r`` counts rows: ``b`` without guidance, ``2 b`` with it.

    Attributes:
        buttons: [b, t, 8641]. Log-probabilities without guidance; with it ``(1 + s) cond - s uncond``, which is not
            normalised (the action is drawn from its softmax).
        camera: [b, t, 121], likewise.
        value: Value estimate of each row [r, t], ``cond`` rows first, denormalised.
        latent: What the heads read in each row [r, t, d].
        by_row: ``cond`` and, under guidance, ``uncond``: each row alone, log-probabilities normalised.
    """

    by_row: Mapping[str, VPTOutput] = field(default_factory=dict)


class StevePolicy(VPTPolicy):
    """A VPT policy that is told what to do.

    ``net.mineclip_embed_linear`` (512 to d) turns a goal embedding into what is added to each frame's embedding before
    the first block. Under guidance every frame runs in two rows, one with the goal and one with a zero embedding (to
    which the layer's bias still applies), each with its own memory; the image network looks once for both.

    Attributes:
        rows: Names of the two rows under guidance.
    """

    rows = ROWS
    hook_stack: RowHookStack

    def __init__(self, config: VPTConfig) -> None:
        super().__init__(config)
        net: Any = self.net
        net.add_module("mineclip_embed_linear", nn.Linear(EMBED, config.hidsize))
        points, shared = [], []
        for point in self.hook_stack.points.values():
            points.append(point)
            if not any(p.name == "hook_goal_embed" for p in points):
                shared.append(point.name)
            if point.name == "hook_embed":
                points += [HookPoint(name, point.axes, point.shape) for name in ("hook_goal_embed", "hook_full_embed")]
        guided = [replace(point, name=f"guided.{point.name}") for point in points if point.derived]
        shared += [point.name for point in guided]
        self.hook_stack = RowHookStack([*points, *guided], self.hook_stack.aliases, shared)

    @classmethod
    def from_released(cls, policy_kwargs: Mapping[str, Any], pi_head_kwargs: Mapping[str, Any],
                      state_dict: Mapping[str, Tensor]) -> StevePolicy:
        """A policy from released keyword arguments and weights (136 tensors); strict, as for VPT.

        Raises:
            AgentError: for an unknown or missing keyword.
            WeightsError: for a missing or unexpected weight, a wrong shape or dtype, each by name.
        """
        policy = super().from_released(policy_kwargs, pi_head_kwargs, state_dict)
        assert isinstance(policy, StevePolicy)
        return policy

    def initial_state(self, batch_size: int = 1, *, guided: bool = False) -> VPTState:
        """The memory before the first frame: one row an episode, or two under guidance (``cond`` rows first)."""
        return super().initial_state(batch_size * (len(ROWS) if guided else 1))

    def forward(self, frames: Tensor, first: Tensor, state: VPTState, goal_embed: Tensor | None = None,
                cond_scale: float | None = None) -> tuple[SteveOutput, VPTState]:
        """Look at a chunk of frames with a goal in mind.

        Args:
            frames: uint8 [b, t, 128, 128, 3] RGB.
            first: bool [b, t], True at the first frame of an episode.
            state: From ``initial_state`` (``guided=True`` when there is a ``cond_scale``) or the last call.
            goal_embed: float [b, 512], or [b, t, 512] for goals that change within the chunk; not brought to unit
                length. None is a zero embedding: no goal.
            cond_scale: Strength s of guidance: log-probabilities are ``(1 + s) cond - s uncond``. None runs one row
                and guides nothing; 0 gives the same actions as None and runs two.

        Returns:
            The output, and the memory for the next call.

        Raises:
            AgentError: for a wrong shape or dtype, or a scale that is no finite number.
        """
        self._check(frames, first, state, 1 if cond_scale is None else len(ROWS))
        if cond_scale is not None and not -1e6 < cond_scale < 1e6:
            raise AgentError(f"cond_scale: expected a finite number, got {cond_scale!r}")
        return self.forward_told(self.embed(frames), first, state, goal_embed, cond_scale)

    def forward_told(self, x: Tensor, first: Tensor, state: VPTState, goal_embed: Tensor | None,
                     cond_scale: float | None) -> tuple[SteveOutput, VPTState]:
        """The rest of ``forward``, from the embeddings [b, t, d] that ``embed`` gave."""
        self.hook_stack.rows = rows = ROWS[:1] if cond_scale is None else ROWS
        goal = self._checked_goal(goal_embed, *x.shape[:2])
        if cond_scale is not None:
            x, first = torch.cat((x, x)), torch.cat((first, first))
            goal = torch.cat((goal, torch.zeros_like(goal)))
        out, after = self.forward_embedded(self.with_goal(x, goal), first, state)
        steered = _guide(out, rows, cond_scale)
        if self.hook_stack.listeners:
            self._margins(steered.buttons, "guided.")
        return steered, after

    def with_goal(self, x: Tensor, goal: Tensor) -> Tensor:
        """What enters the first block: embeddings [b, t, d] from ``embed``, and goals [b, 1 or t, 512]."""
        net: Any = self.net
        linear = net.mineclip_embed_linear
        told = F.linear(goal, linear.weight, linear.bias).expand(x.shape)
        return self._see("hook_full_embed", x + self._see("hook_goal_embed", told))

    def _checked_goal(self, goal: Tensor | None, b: int, t: int) -> Tensor:
        """The goal as [b, 1 or t, 512] in the policy's own dtype."""
        net: Any = self.net
        weight: Tensor = net.mineclip_embed_linear.weight
        if goal is None:
            return weight.new_zeros(b, 1, EMBED)
        if not goal.is_floating_point() or tuple(goal.shape) not in ((b, EMBED), (b, t, EMBED)):
            raise AgentError(f"goal_embed: expected float [{b}, {EMBED}] or [{b}, {t}, {EMBED}], got "
                             f"{str(goal.dtype).removeprefix('torch.')} {list(goal.shape)}")
        goal = goal.to(weight)
        return goal[:, None] if goal.ndim == 2 else goal

    def run_with_hooks(self, frames: Tensor, first: Tensor, state: VPTState,
                       fwd_hooks: Iterable[tuple[str, HookFunction]], goal_embed: Tensor | None = None,
                       cond_scale: float | None = None) -> tuple[SteveOutput, VPTState]:
        """``forward`` with functions listening for this call only."""
        with self.hooks(fwd_hooks):
            out, after = self(frames, first, state, goal_embed, cond_scale)
        return out, after

    def run_with_cache(self, frames: Tensor, first: Tensor, state: VPTState,
                       names_filter: str | Sequence[str] | None = None, goal_embed: Tensor | None = None,
                       cond_scale: float | None = None) -> tuple[SteveOutput, VPTState, ActivationCache]:
        """``forward``, keeping activations; names may have a row in front (``cond.blocks.0.attn.hook_pattern``).

        Args:
            frames: As in ``forward``.
            first: As in ``forward``.
            state: As in ``forward``.
            names_filter: As for VPT. A plain name keeps both rows in one tensor, ``cond`` first.
            goal_embed: As in ``forward``.
            cond_scale: As in ``forward``.

        Raises:
            HookError: when a name or glob matches nothing, or a row is named that the pass has not.
        """
        (out, after), cache = self.hook_stack.cached(lambda: self(frames, first, state, goal_embed, cond_scale),
                                                     names_filter)
        return out, after, cache


def _guide(out: VPTOutput, rows: Sequence[str], scale: float | None) -> SteveOutput:
    """Split a pass by row and mix the rows' log-probabilities."""
    parts = zip(*(x.chunk(len(rows)) for x in (out.buttons, out.camera, out.value, out.latent)), strict=True)
    by_row = {row: VPTOutput(*part) for row, part in zip(rows, parts, strict=True)}
    cond, uncond = by_row["cond"], by_row.get("uncond")
    if scale is None or uncond is None:
        return SteveOutput(out.buttons, out.camera, out.value, out.latent, by_row)
    buttons = (1 + scale) * cond.buttons - scale * uncond.buttons
    camera = (1 + scale) * cond.camera - scale * uncond.camera
    return SteveOutput(buttons, camera, out.value, out.latent, by_row)
