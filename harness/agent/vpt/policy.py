"""The VPT policy: frames in, action log-probabilities, value and memory out, with a hook point at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.agent.action_mapping import BUTTON_NAMES, button_table
from harness.agent.hooks import ActivationCache, HookFunction, HookScope, HookStack
from harness.agent.vpt.config import SIZES, VPTConfig, size_config
from harness.agent.vpt.hook_points import BLOCK_HOOKS, block_aliases, hook_points
from harness.agent.vpt.network import block_forward, build_tree, image_maps, image_readout, normalise
from harness.agent.vpt.state import VPTState
from harness.agent.vpt.weights import load_weights, random_weights
from harness.errors import AgentError, WeightsError

__all__ = ["SIZES", "VPTOutput", "VPTPolicy"]

MASKED = -1e9
"""Added to the score of a key that must not be seen (the released value; e^-1e9 is 0 in float32)."""


@dataclass(frozen=True)
class VPTOutput:
    """What the policy says about each frame.

    Attributes:
        buttons: Log-probabilities [b, t, 8641] after the temperature (nats).
        camera: Log-probabilities [b, t, 121] after the temperature.
        value: Value estimate [b, t], denormalised.
        latent: What both heads read [b, t, d].
    """

    buttons: Tensor
    camera: Tensor
    value: Tensor
    latent: Tensor


class VPTPolicy(nn.Module):
    """A VPT policy whose parameters have the names of the released files.

    Build it with ``from_released`` or ``random``. Axes: ``b`` batch, ``t`` query time, ``T`` = window + t key time,
    ``h`` head, ``d`` width.

    Attributes:
        config: Its sizes.
        hook_stack: Its hook points, in the order of the forward pass, and who listens.
    """

    def __init__(self, config: VPTConfig) -> None:
        super().__init__()
        self.config = config
        for name, child in build_tree(config).items():
            self.add_module(name, child)
        aliases = {alias: name for i in range(config.blocks) for alias, name in block_aliases(i).items()}
        self.hook_stack = HookStack(hook_points(config), aliases)
        self._names = [{short: f"blocks.{i}.{short}" for short in BLOCK_HOOKS} for i in range(config.blocks)]

    @classmethod
    def from_released(cls, policy_kwargs: Mapping[str, Any], pi_head_kwargs: Mapping[str, Any],
                      state_dict: Mapping[str, Tensor]) -> VPTPolicy:
        """A policy from released keyword arguments and weights; nothing may be missing, foreign or misshapen.

        Args:
            policy_kwargs: As in the ``.model`` file.
            pi_head_kwargs: ``{"temperature": ...}``.
            state_dict: As in the ``.weights`` file (134 tensors).

        Raises:
            AgentError: for an unknown or missing keyword.
            WeightsError: for a missing or unexpected weight, a wrong shape or dtype, each by name.
        """
        return cls.from_config(VPTConfig.from_released(policy_kwargs, pi_head_kwargs), state_dict)

    @classmethod
    def from_config(cls, config: VPTConfig | str, state_dict: Mapping[str, Tensor], *, precision: str = "float32",
                    adopt: bool = False) -> VPTPolicy:
        """A policy of a given size (``nano``, ``1x``, ``2x``, ``3x`` or a ``VPTConfig``) with given weights.

        Args:
            config: The size.
            state_dict: Name to tensor, of this precision.
            precision: ``float32``, ``bfloat16`` or ``float16``: of weights, activations and memory. The heads'
                log-probabilities and the value are float32 in any case.
            adopt: Take the tensors over instead of copying them.

        Raises:
            WeightsError: as in ``from_released``.
        """
        with torch.device("meta"):
            policy = cls(size_config(config) if isinstance(config, str) else config)
        if precision != "float32":
            policy.to(getattr(torch, precision)).value_head.normalizer.float()  # type: ignore[union-attr]
        try:
            load_weights(policy, state_dict, adopt=adopt)
        except WeightsError as problem:
            given = {name: tuple(getattr(weight, "shape", ())) for name, weight in state_dict.items()}
            size = next((name for name in SIZES if SIZES[name] != policy.config
                         and given == expected_shapes(name, cls)), None)
            problem.hint = problem.hint if size is None else f"these are the weights of a {size} model"
            raise
        return policy.eval()

    @classmethod
    def random(cls, config: VPTConfig | str, seed: int = 0) -> VPTPolicy:
        """An untrained policy; the same seed gives the same weights in every process."""
        with torch.device("meta"):
            policy = cls(size_config(config) if isinstance(config, str) else config)
        shapes = {name: tuple(weight.shape) for name, weight in policy.state_dict().items()}
        load_weights(policy, random_weights(shapes, seed), adopt=True)
        return policy.eval()

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.parameters()).device

    @property
    def hook_points(self) -> list[str]:
        """Every hook name, in the order of the forward pass."""
        return list(self.hook_stack.points)

    def initial_state(self, batch_size: int = 1) -> VPTState:
        """The memory before the first frame."""
        parameter = next(self.parameters())
        return VPTState.empty(self.config, batch_size, parameter.device, parameter.dtype)

    def forward(self, frames: Tensor, first: Tensor, state: VPTState) -> tuple[VPTOutput, VPTState]:
        """Look at a chunk of frames.

        A chunk gives what one frame at a time gives, up to rounding. Episodes may start anywhere in it.

        Args:
            frames: uint8 [b, t, 128, 128, 3] RGB.
            first: bool [b, t], True at the first frame of an episode: nothing before it is seen from there on.
            state: From ``initial_state`` or the last call.

        Returns:
            The output, and the memory for the next call. ``state`` itself is untouched.

        Raises:
            AgentError: for a wrong shape or dtype.
        """
        self._check(frames, first, state)
        return self.forward_embedded(self.embed(frames), first, state)

    def embed(self, frames: Tensor) -> Tensor:
        """The image network alone: frames uint8 [b, t, H, W, 3] to embeddings [b, t, d]."""
        return self.embed_maps(self.maps(frames))

    def maps(self, frames: Tensor) -> Tensor:
        """The convolution stacks alone: frames uint8 [b, t, H, W, 3] to their flattened output [b, t, n_flat]."""
        return image_maps(self.net, frames, self.hook_stack)

    def embed_maps(self, maps: Tensor) -> Tensor:
        """The rest of the image network: from ``maps`` [b, t, n_flat] to embeddings [b, t, d]."""
        return image_readout(self.net, maps, self.hook_stack)

    def forward_embedded(self, x: Tensor, first: Tensor, state: VPTState, start: int = 0
                         ) -> tuple[VPTOutput, VPTState]:
        """The rest of ``forward``, from the embeddings [b, t, d] that ``embed`` gave.

        With a ``start``, x is what goes into that block (``hook_resid_pre``; behind the last block, what comes out of
        it), and the blocks before it neither run nor remember.
        """
        hooks, net = self.hook_stack, self.net
        biases = _Visibility(first, self.config.window, x.dtype)
        keys, values = list(state.keys[:start]), list(state.values[:start])
        for i, block in list(enumerate(net.recurrent_layer.blocks))[start:]:  # type: ignore[union-attr,arg-type]
            x, k, v = block_forward(block, x, (state.keys[i], state.values[i]), biases.bias(state.masks[i]),
                                    self.config.heads, self._names[i], hooks)
            keys.append(k[:, -self.config.window:])
            values.append(v[:, -self.config.window:])
        masks = tuple(biases.after(mask) for mask in state.masks)
        return self._read_out(x), VPTState(tuple(keys), tuple(values), masks)

    def _read_out(self, x: Tensor) -> VPTOutput:
        net: Any = self.net
        see = self._see
        x = see("hook_latent_pre", F.relu(x))
        x = see("lastlayer.hook_out", F.relu(F.linear(normalise(x, net.lastlayer.norm), net.lastlayer.layer.weight)))
        latent = see("ln_final.hook_normalized", normalise(x, net.final_ln))
        logits = {}
        for name in ("camera", "buttons"):
            head = getattr(self.pi_head, name).linear_layer
            logits[name] = see(f"unembed.{name}.hook_out", F.linear(latent, head.weight, head.bias))
        temperature = self.config.temperature
        log_probs = {name: F.log_softmax(_tempered(_single(x), temperature), -1) for name, x in logits.items()}
        if self.hook_stack.listeners:
            self._margins(log_probs["buttons"])
        head = self.value_head.linear  # type: ignore[union-attr]
        raw = see("value.hook_out", F.linear(latent, head.weight, head.bias))  # type: ignore[union-attr,arg-type]
        return VPTOutput(log_probs["buttons"], log_probs["camera"], self._denormalise(raw).squeeze(-1), latent)

    def _see(self, name: str, x: Tensor) -> Tensor:
        hooks = self.hook_stack
        return hooks.apply(name, x) if name in hooks.listeners else x

    def _margins(self, log_probs: Tensor, prefix: str = "") -> None:
        """Log-odds of each button: log-sum-exp over the combinations with it minus those without it."""
        hooks, table = self.hook_stack, button_table()
        for column, key in enumerate(BUTTON_NAMES):
            name = f"{prefix}readout.{key}.hook_margin"
            if name in hooks.listeners:
                held = torch.from_numpy(table[:, column] != 0).to(log_probs.device)
                hooks.apply(name, log_probs[..., held].logsumexp(-1) - log_probs[..., ~held].logsumexp(-1))

    def _denormalise(self, raw: Tensor) -> Tensor:
        """Normalised value [b, t, 1] to returns (lib/normalize_ewma.py of the released code)."""
        n: Any = self.value_head.normalizer  # type: ignore[union-attr]
        debias = n.debiasing_term.clamp(min=1e-5)
        mean = n.running_mean / debias
        variance = (n.running_mean_sq / debias - mean.square()).clamp(min=1e-2)
        value: Tensor = _single(raw) * variance.sqrt() + mean
        return value

    def _check(self, frames: Tensor, first: Tensor, state: VPTState, copies: int = 1) -> None:
        height, width, _ = self.config.image_shape
        if frames.dtype != torch.uint8 or frames.ndim != 5 or tuple(frames.shape[2:]) != (height, width, 3):
            raise AgentError(f"frames: expected uint8 [b, t, {height}, {width}, 3], got "
                             f"{str(frames.dtype).removeprefix('torch.')} {list(frames.shape)}",
                             hint="harness.agent.preprocessing makes the policy's picture of a 640x360 one")
        if 0 in frames.shape[:2]:
            raise AgentError(f"frames: expected at least one, got {list(frames.shape)}")
        if first.dtype != torch.bool or first.shape != frames.shape[:2]:
            raise AgentError(f"first: expected bool {list(frames.shape[:2])}, got "
                             f"{str(first.dtype).removeprefix('torch.')} {list(first.shape)}")
        wanted = (copies * frames.shape[0], self.config.window, self.config.hidsize)
        if len(state.keys) != self.config.blocks or state.keys[0].shape != wanted:
            raise AgentError(f"state: expected {self.config.blocks} blocks of {list(wanted)}, got {len(state.keys)} of "
                             f"{list(state.keys[0].shape)}", hint="make it with policy.initial_state(batch_size"
                                                                  f"{', guided=True' if copies > 1 else ''})")

    def hooks(self, fwd_hooks: Iterable[tuple[str, HookFunction]]) -> HookScope:
        """A context in which functions listen at hook points; scopes nest and leave last-in first-out.

        Args:
            fwd_hooks: (name or glob, ``fn(activation, hook) -> activation or None``).

        Raises:
            HookError: when a glob matches nothing; on leaving, when scopes are left out of order.
        """
        return self.hook_stack.scope(fwd_hooks)

    def run_with_hooks(self, frames: Tensor, first: Tensor, state: VPTState,
                       fwd_hooks: Iterable[tuple[str, HookFunction]]) -> tuple[VPTOutput, VPTState]:
        """``forward`` with functions listening for this call only."""
        with self.hooks(fwd_hooks):
            out, after = self(frames, first, state)
        return out, after

    def run_with_cache(self, frames: Tensor, first: Tensor, state: VPTState,
                       names_filter: str | Sequence[str] | None = None,
                       ) -> tuple[VPTOutput, VPTState, ActivationCache]:
        """``forward``, keeping activations. Hooks already entered come first; the cache holds what they left.

        Args:
            frames: As in ``forward``.
            first: As in ``forward``.
            state: As in ``forward``.
            names_filter: A name, or names and globs; None for every point except the per-head
                ``blocks.*.attn.hook_result``, which is large and costs extra arithmetic.

        Raises:
            HookError: when a name or glob matches nothing, with the nearest names.
        """
        (out, after), cache = self.hook_stack.cached(lambda: self(frames, first, state), names_filter)
        return out, after, cache


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    return logits if temperature == 1.0 else logits / temperature


def _single(x: Tensor) -> Tensor:
    """At least float32: what is exponentiated, or added to a running mean, must not be rounded to 8 bits first."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _Visibility:
    """Which keys each query of one chunk may see; the same for all blocks that share a memory mask."""

    def __init__(self, first: Tensor, window: int, dtype: torch.dtype = torch.float32) -> None:
        self._window = window
        self._first = first
        self._dtype = dtype
        # float16 ends at 65504, which is enough: e^-65504 is 0 as well.
        self._masked = max(MASKED, torch.finfo(dtype).min)
        self._biases: list[tuple[Tensor, Tensor]] = []
        self._afters: list[tuple[Tensor, Tensor]] = []

    def bias(self, mask: Tensor) -> Tensor:
        """[b, 1, t, T]: 0 where query i may see key j, ``MASKED`` elsewhere.

        Row i sees columns i+1 .. i+window (``window`` frames, itself included), of them those of its own episode.
        """
        return _once(self._biases, mask, self._bias)

    def _bias(self, mask: Tensor) -> Tensor:
        b, t = self._first.shape
        if t == 1:
            seen = torch.cat((mask & ~self._first, torch.ones_like(self._first)), 1)
            hidden = ~seen
            hidden = torch.cat((torch.ones_like(self._first), hidden[:, 1:]), 1)[:, None, None]
        else:
            episode = self._first.cumsum(1)
            query = torch.arange(t, device=mask.device)[:, None]
            column = torch.arange(self._window + t, device=mask.device)
            in_window = (column > query) & (column <= query + self._window)
            old = mask[:, None, :] & (episode == 0)[:, :, None]
            new = episode[:, :, None] == episode[:, None, :]
            hidden = ~(in_window & torch.cat((old, new), 2))[:, None]
        return torch.zeros(hidden.shape, device=mask.device, dtype=self._dtype).masked_fill(hidden, self._masked)

    def after(self, mask: Tensor) -> Tensor:
        """The memory mask after the chunk: bool [b, window], True for remembered frames of the episode at its end."""
        return _once(self._afters, mask, self._after)

    def _after(self, mask: Tensor) -> Tensor:
        episode = self._first.cumsum(1)
        old = mask & (episode[:, -1:] == 0)
        new = episode == episode[:, -1:]
        return torch.cat((old, new), 1)[:, -self._window:]


def _once(known: list[tuple[Tensor, Tensor]], mask: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """What was computed of this very tensor, else compute it."""
    # By "is", not by id(): a compiled pass would hold the address to be part of the program, and compile at each step.
    for each, value in known:
        if each is mask:
            return value
    known.append((mask, compute(mask)))
    return known[-1][1]


def expected_shapes(config: VPTConfig | str, policy_class: type[VPTPolicy] = VPTPolicy) -> dict[str, tuple[int, ...]]:
    """Every weight's name and shape for a size, without allocating any."""
    with torch.device("meta"):
        policy = policy_class(size_config(config) if isinstance(config, str) else config)
    return {name: tuple(weight.shape) for name, weight in policy.state_dict().items()}
