"""STEVE-1 as an agent: VPT's acting, with a goal and guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.agent.agent import AgentOutput
from harness.agent.mineclip import MineCLIP
from harness.agent.mineclip.config import EMBED
from harness.agent.steve.goals import EMBEDDING_FILES, Embedding, Goal, embedding, given_goal, named_goal, read_clip
from harness.agent.steve.policy import StevePolicy
from harness.agent.steve.prior import Prior
from harness.agent.steve.rows import ROWS, split_row
from harness.agent.steve.state import SteveState
from harness.agent.vpt.agent import VPTAgent
from harness.agent.vpt.policy import VPTOutput, VPTPolicy
from harness.agent.vpt.state import VPTState
from harness.errors import AgentError, HookError, WeightsError, unknown_name
from harness.world.observation import Observation

__all__ = ["TEXT_SCALE", "VISUAL_SCALE", "SteveAgent"]

TEXT_SCALE, VISUAL_SCALE = 6.0, 7.0
"""Strength of guidance for goals that are sentences, and for others, as published."""
_GOALS = "goals."

Weights = Mapping[str, Tensor] | Callable[[], Mapping[str, Tensor]]


class SteveAgent(VPTAgent):
    """A STEVE-1 policy that acts on a goal: a prompt, a video, or an embedding; without one it plays undirected.

    A prompt goes through MineCLIP's text tower and the prior, which draws normal numbers from the agent's own stream
    at an episode's first frame (so one prompt gives another embedding in every episode, as published); the goal is
    then part of the memory. Everything else is as for ``VPTAgent``, whose arguments are not repeated here.

    Args:
        prompt: What to do, in plain English.
        goal: A file with an embedding of 512 numbers (``.npy``, ``.npz``, ``.safetensors``), a video (any other file)
            whose last sixteen frames show what to do, or the 512 numbers.
        goal_frame: The last of those sixteen frames instead, counted from 0.
        goals: Embeddings by name; a prompt is then looked up here and needs neither MineCLIP nor prior. A weights file
            of our own may hold some as tensors called ``goals.<name>``.
        cond_scale: Strength of guidance; ``auto`` is 6 for prompts and 7 for other goals, ``none`` runs one row.
        auto_scale: What ``auto`` is for this agent instead, whatever the goal: a number, or ``none``.
        deterministic_prior: Take the mean of what the prior draws. A ``deterministic`` agent does so in any case.
        prior: The prior's weights, or a function that reads them; needed for a prompt.
        mineclip: MineCLIP's weights, or a function that reads them; needed for a prompt or a video.

    Raises:
        AgentError: for a contradiction among the arguments, or a goal that cannot be used.
        WeightsError: for weights that do not fit, or are missing for this kind of goal.
    """

    policy_class: ClassVar[type[VPTPolicy]] = StevePolicy
    policy: StevePolicy

    def __init__(self, *, size: str | None = None, policy_kwargs: Mapping[str, Any] | None = None,
                 pi_head_kwargs: Mapping[str, Any] | None = None, weights: Mapping[str, Tensor] | None = None,
                 random_seed: int | None = None, weights_note: Mapping[str, Any] | None = None, device: str = "auto",
                 precision: str = "float32", deterministic: bool = False, torch_threads: int | None = None,
                 prompt: str | None = None, goal: str | Path | Sequence[float] | None = None,
                 goal_frame: int | None = None, goals: Mapping[str, Any] | None = None,
                 cond_scale: float | str | None = "auto", auto_scale: float | str | None = None,
                 deterministic_prior: bool = False,
                 prior: Weights | None = None, mineclip: Weights | None = None) -> None:
        weights, shipped = _apart(weights)
        super().__init__(size=size, policy_kwargs=policy_kwargs, pi_head_kwargs=pi_head_kwargs, weights=weights,
                         random_seed=random_seed, weights_note=weights_note, device=device, precision=precision,
                         deterministic=deterministic, torch_threads=torch_threads)
        if prompt is not None and goal is not None:
            raise AgentError("expected a prompt or a goal, got both", hint="leave one of them out")
        if goal_frame is not None and not _is_video(goal):
            raise AgentError("goal_frame chooses the frames of a video, and the goal is none",
                             hint="leave it out, or give a video as goal")
        self._prior_weights, self._mineclip_weights, self._seed = prior, mineclip, random_seed
        self._named = {**shipped, **goals} if goals is not None else shipped or None
        self.deterministic_prior = deterministic or deterministic_prior
        self._prior: Prior | None = None
        self.goal = self._understood(prompt, goal, goal_frame)
        self.cond_scale = _scale(cond_scale, self.goal.kind, auto_scale)

    # --- goals -----------------------------------------------------------------------------------------------------

    def _understood(self, prompt: str | None, goal: str | Path | Sequence[float] | None, frame: int | None) -> Goal:
        if prompt is not None:
            return self._prompted(prompt)
        if goal is None:
            return Goal()
        if _is_video(goal):
            if not Path(str(goal)).is_file():
                raise AgentError(f"there is no goal file at {goal}")
            model = self.mineclip(f"the video {Path(str(goal)).name}")
            clip = read_clip(str(goal), frame, model.config.image_size)
            with torch.inference_mode(), self._settings():
                return Goal("video", Path(str(goal)).name, embed=_array(model.encode_video(clip[None])))
        name, embed = given_goal(goal)
        return Goal("embedding", name, embed=embed)

    def _prompted(self, prompt: Any) -> Goal:
        if not isinstance(prompt, str) or not prompt.strip():
            raise AgentError(f"prompt: expected a text such as chop a tree, got {prompt!r}",
                             hint="leave the prompt out to let the agent play undirected")
        if self._named is not None:
            embed = named_goal(prompt, self._named)
            if embed is None:
                raise unknown_name("goal", prompt, self._named, error=AgentError)
            return Goal("prompt", prompt, embed=embed)
        model = self.mineclip(f'the prompt "{prompt}"')
        with torch.inference_mode(), self._settings():
            text = _array(model.encode_text(prompt))
            embed = _array(self._loaded_prior()(torch.from_numpy(text)[None].to(self._device)))
        return Goal("prompt", prompt, text, embed if self.deterministic_prior else None)

    def mineclip(self, purpose: str) -> MineCLIP:
        """This agent's MineCLIP, read anew: it is larger than all the rest, so nobody keeps it.

        Args:
            purpose: What it is for, to be said where it is missing.

        Raises:
            WeightsError: when the agent came without its weights.
        """
        if self._mineclip_weights is not None:
            model = MineCLIP.from_released(_read(self._mineclip_weights), adopt=True)
        elif self._seed is not None:
            model = MineCLIP.random("nano", self._seed)
        elif self._named:
            raise AgentError(f"{purpose} needs MineCLIP, and this agent has goals of its own instead",
                             hint=f"give one of them as prompt: {', '.join(self._named)}")
        else:
            raise WeightsError(f"{purpose} needs MineCLIP, and this agent came without its weights (attn.pth)",
                               hint="harness agent fetch steve-1 gets them or says where they are; or give an "
                                    "embedding from a file as goal")
        return model.requires_grad_(False).to(self._device)

    def _loaded_prior(self) -> Prior:
        if self._prior is None:
            if self._prior_weights is not None:
                self._prior = Prior.from_released(_read(self._prior_weights))
            elif self._seed is not None:
                self._prior = Prior.random(self._seed)
            else:
                raise WeightsError("a prompt needs the prior, and this agent came without its weights "
                                   "(steve1_prior.pt)", hint="harness agent fetch steve-1 gets them or says where "
                                   "they are; or give an embedding from a file as goal")
            self._prior.requires_grad_(False).to(self._device)
        return self._prior

    def _drawn(self, goal: Goal, rng: np.random.Generator | None) -> Tensor:
        """The goal's embedding float32 [512]; the prior draws from ``rng``, or takes its mean without one."""
        if goal.text is None or goal.embed is not None:
            embed = np.zeros(EMBED, np.float32) if goal.embed is None else goal.embed
            return torch.from_numpy(np.array(embed)).to(self._device)
        z = np.zeros(EMBED, np.float32) if rng is None else rng.standard_normal(EMBED, dtype=np.float32)
        text, z_nd = (torch.from_numpy(np.array(x))[None].to(self._device) for x in (goal.text, z))
        with torch.inference_mode(), self._settings():
            embed_nd: Tensor = self._loaded_prior()(text, z_nd)
        return embed_nd[0]

    def _first_goal(self) -> Tensor | None:
        """The goal that every episode begins with; None when each draws its own."""
        fixed = self.goal.text is None or self.goal.embed is not None
        return self._drawn(self.goal, None) if fixed else None

    def begin(self, state: SteveState, rng: np.random.Generator | None) -> SteveState:
        """Draw the goals that have yet to be drawn (``act`` does so by itself); None takes the prior's mean."""
        if None not in state.goals:
            return state
        return replace(state, goals=tuple(self._drawn(self.goal, rng) if goal is None else goal
                                          for goal in state.goals))

    def told(self, state: SteveState, goal: str | Path | Sequence[float] | None = None, *, prompt: str | None = None,
             rng: np.random.Generator | None = None) -> SteveState:
        """The memory of an agent that is told something else in the middle of an episode.

        Args:
            state: The memory; it is left as it is.
            goal: As for the agent.
            prompt: As for the agent.
            rng: What the prior draws from; None takes its mean.
        """
        if (prompt is None) == (goal is None):
            raise AgentError("expected a prompt or a goal, and one of them")
        new = self._drawn(self._understood(prompt, goal, None), None if self.deterministic_prior else rng)
        return replace(state, goals=(new,) * len(state.goals))

    # --- acting ----------------------------------------------------------------------------------------------------

    def initial_state(self) -> SteveState:
        """The empty memory; the goal is in it already, unless the first frame draws it."""
        return self.initial_states(1)

    def initial_states(self, n: int) -> SteveState:
        """The empty memory of ``n`` episodes."""
        memory = self.policy.initial_state(n, guided=self.cond_scale is not None)
        return SteveState.around(memory, (self._first_goal(),) * n)

    def act(self, observation: Observation, state: VPTState, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        """Look once and choose, as ``VPTAgent`` does; the prior draws first, at an episode's first frame.

        ``log_prob``, ``entropy`` and ``log_probs`` are those of what is really drawn from: the guided mixture,
        normalised. ``value`` is that of the row with the goal.
        """
        return super().act(observation, self.begin(_own(state), rng), rng, hooks=hooks)

    def act_together(self, observations: Sequence[Observation | None], state: VPTState,
                     rngs: Sequence[np.random.Generator | None], first: Sequence[bool], *, hooks: Sequence[str] = ()
                     ) -> tuple[list[AgentOutput | None], VPTState]:
        """Look once in every episode and choose; where an episode begins, its goal is drawn from its own stream."""
        begun, fixed = _own(state), self._first_goal()
        goals = tuple((self._drawn(self.goal, rng) if fixed is None else fixed) if goal is None or new else goal
                      for goal, rng, new in zip(begun.goals, rngs, first, strict=True))
        return super().act_together(observations, replace(begun, goals=goals), rngs, first, hooks=hooks)

    def look_ahead(self, frames: npt.NDArray[np.uint8], state: VPTState, hooks: Sequence[str] = ()
                   ) -> tuple[list[Callable[[np.random.Generator | None], AgentOutput]], VPTState]:
        """As for ``VPTAgent``; a goal that has yet to be drawn (``begin``) is the prior's mean."""
        return super().look_ahead(frames, self.begin(_own(state), None), hooks)

    def look_embedded(self, embeds: Tensor, state: VPTState, start: int = 0) -> tuple[VPTOutput, VPTState]:
        """As for ``VPTAgent``; a goal that has yet to be drawn (``begin``) is the prior's mean.

        Raises:
            AgentError: for a ``start``: the goal is added to the embedding.
        """
        if start:
            raise AgentError("a goal is added to the embedding, so the blocks run from the first on")
        return super().look_embedded(embeds, self.begin(_own(state), None))

    def _forward(self, frames: Tensor, first: Tensor, state: VPTState) -> tuple[VPTOutput, VPTState]:
        out, after = self.policy(frames, first, state, self._goals_of(state), self.cond_scale)
        return self._said(out), SteveState.around(after, _own(state).goals)

    def _forward_embedded(self, embeds: Tensor, first: Tensor, state: VPTState, start: int
                          ) -> tuple[VPTOutput, VPTState]:
        out, after = self.policy.forward_told(embeds, first, state, self._goals_of(state), self.cond_scale)
        return self._said(out), SteveState.around(after, _own(state).goals)

    @staticmethod
    def _goals_of(state: VPTState) -> Tensor:
        return torch.stack([goal for goal in _own(state).goals if goal is not None])

    def _said(self, out: VPTOutput) -> VPTOutput:
        """What is really drawn from: under guidance the mixture, normalised."""
        if self.cond_scale is None:
            return out
        return replace(out, buttons=F.log_softmax(out.buttons, -1), camera=F.log_softmax(out.camera, -1))

    # --- hooks, memory, provenance ---------------------------------------------------------------------------------

    def keep_goal(self, state: VPTState, like: VPTState) -> SteveState:
        """The first memory, with the second's goals: one that was drawn stays drawn."""
        return SteveState.around(state, _own(like).goals)

    @property
    def named_goals(self) -> tuple[str, ...]:
        """Names of the goals of its own that a prompt may be; empty where prompts are plain English."""
        return tuple(self._named or ())

    @property
    def rows(self) -> tuple[str, ...]:
        """``cond`` and ``uncond`` under guidance; else nothing."""
        return () if self.cond_scale is None else ROWS

    def hook_shapes(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """Hook name to (shape, ``float32``); under guidance each row has a name of its own, ``cond.blocks.0...``."""
        stack = self.policy.hook_stack
        return {name: (stack.point(name).shape, "float32") for name in self.resolve_hooks(list(stack.points))}

    def resolve_hooks(self, globs: Sequence[str]) -> list[str]:
        """Hook names that match; under guidance a name without a row means both, each under its own name.

        Raises:
            HookError: when a glob matches nothing, or names a row and there is no guidance.
        """
        stack = self.policy.hook_stack
        names = stack.resolve(globs)
        if self.rows:
            return stack.by_row(names)
        rowed = [name for name in names if split_row(name)[0]]
        if rowed:
            raise HookError(f"{rowed[0]}: this agent runs without guidance, so it has no rows",
                            hint="give it a cond_scale, or name the hook without a row")
        return names

    def hooks(self, fwd_hooks: Sequence[tuple[str, Callable[..., Any]]]) -> AbstractContextManager[Any]:
        """Enter to have functions edit activations; a name without a row is both rows in one tensor, ``cond`` first.

        Raises:
            HookError: as in ``resolve_hooks``.
        """
        self.resolve_hooks([name for name, _ in fwd_hooks])
        return super().hooks(fwd_hooks)

    def load_state(self, arrays: Mapping[str, npt.NDArray[Any]]) -> SteveState:
        """Back from ``save_state``.

        Raises:
            AgentError: for arrays that are not a memory of this policy, or of one with another number of rows.
        """
        parameter = next(self.policy.parameters())
        state = SteveState.from_arrays(arrays, self.policy.config, self._device, parameter.dtype)
        if state.batch_size != max(1, len(self.rows)) or len(state.goals) != 1:
            raise AgentError(f"the memory has {state.batch_size} rows for {len(state.goals)} goals, expected "
                             f"{max(1, len(self.rows))} for 1",
                             hint="it was saved with another choice of guidance (cond_scale)")
        return state

    def provenance(self) -> dict[str, Any]:
        """As for ``VPTAgent``, with the goal, the guidance, and ``options`` that give this agent again."""
        said = super().provenance()
        options: dict[str, Any] = {"cond_scale": "none" if self.cond_scale is None else self.cond_scale,
                                   "deterministic_prior": self.deterministic_prior}
        if self.goal.kind == "prompt":
            options["prompt"] = self.goal.words
        elif self.goal.embed is not None:
            options["goal"] = [float(x) for x in self.goal.embed]
        return {**said, "goal": {"kind": self.goal.kind, "words": self.goal.words}, "rows": list(self.rows),
                "options": options, "batch_shape": [max(1, len(self.rows)), 1]}


def _own(state: VPTState) -> SteveState:
    if not isinstance(state, SteveState):
        raise AgentError(f"expected the memory of a STEVE-1 agent, got {type(state).__name__}",
                         hint="make it with agent.initial_state()")
    return state


def _apart(weights: Mapping[str, Tensor] | None) -> tuple[Mapping[str, Tensor] | None, dict[str, Embedding]]:
    """The policy's own weights, and the named goals that stand beside them in the file."""
    if weights is None or not any(name.startswith(_GOALS) for name in weights):
        return weights, {}
    goals = {name.removeprefix(_GOALS): embedding(goal.float().cpu().numpy(), name) for name, goal in weights.items()
             if name.startswith(_GOALS)}
    return {name: weight for name, weight in weights.items() if not name.startswith(_GOALS)}, goals


def _is_video(goal: Any) -> bool:
    return isinstance(goal, str | Path) and Path(goal).suffix not in EMBEDDING_FILES


def _read(weights: Weights) -> dict[str, Tensor]:
    found = weights() if callable(weights) else weights
    return {name: weight.float() for name, weight in found.items()}


def _array(embed: Tensor) -> Embedding:
    return np.array(embed[0].cpu().numpy(), np.float32)


def _scale(given: float | str | None, kind: str, usual: float | str | None) -> float | None:
    """The strength of guidance, None for none; ``usual`` is what ``auto`` is, None for the published one."""
    for key, value, words in (("auto_scale", usual, ("none",)), ("cond_scale", given, ("auto", "none"))):
        if value is None or value in words:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1e6 < value < 1e6:
            raise AgentError(f"{key}: expected a number, {' or '.join(map(repr, words))}, got {value!r}")
    if given == "auto" and kind != "none":
        given = usual if usual is not None else TEXT_SCALE if kind == "prompt" else VISUAL_SCALE
    if given in (None, "none", "auto"):
        return None
    if kind == "none":
        raise AgentError(f"cond_scale: {given!r} guides towards a goal, and there is none",
                         hint="give a prompt or a goal, or leave cond_scale out")
    return float(given)
