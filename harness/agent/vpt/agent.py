"""The VPT policy as an agent: one observation in, one action of MineRL's 24 keys out."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.agent.action_mapping import from_policy
from harness.agent.agent import AgentOutput, BatchAgent
from harness.agent.hooks import HookPoint
from harness.agent.preprocessing import policy_frame, policy_frames
from harness.agent.vpt.config import VPTConfig, size_config
from harness.agent.vpt.policy import VPTOutput, VPTPolicy, expected_shapes
from harness.agent.vpt.state import VPTState
from harness.agent.vpt.weights import at_precision, random_weights
from harness.agent.weights_file import PRECISIONS
from harness.errors import AgentError
from harness.world.observation import Observation

__all__ = ["PendingArray", "VPTAgent"]

HEADS = ("camera", "buttons")
"""In the order in which they are drawn, that of the released code."""
SMALL = 256
"""Up to this width a step is a few milliseconds and a second thread costs more than it brings."""
MOST_THREADS = 256
"""More than any machine has use for; PyTorch starts as many as it is told and falls over."""
TRACE_CHUNK = 16
"""Frames per forward pass of ``trace_frames``."""


class PendingArray:
    """An activation on its way from a GPU; ``numpy.asarray`` waits for it.

    The copy goes into pinned memory on the stream of the computation, so starting it costs the loop nothing.

    Args:
        tensor: On a CUDA device.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._host.copy_(tensor, non_blocking=True)
        self._arrived: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._arrived.record(torch.cuda.current_stream(tensor.device))

    @property
    def shape(self) -> tuple[int, ...]:
        """Known before it arrives."""
        return tuple(self._host.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Known before it arrives."""
        return np.dtype(str(self._host.dtype).removeprefix("torch."))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        self._arrived.synchronize()
        return np.array(self._host.numpy(), dtype=dtype, copy=copy)


class VPTAgent(BatchAgent):
    """A VPT policy that acts.

    Args:
        size: ``nano``, ``1x``, ``2x`` or ``3x``; or give ``policy_kwargs`` and ``pi_head_kwargs`` instead.
        policy_kwargs: As in a released ``.model`` file.
        pi_head_kwargs: As in a released ``.model`` file; holds the temperature.
        weights: The state dict of the policy, taken over without copying; None for random weights.
        random_seed: Seed of random weights; needed exactly when there are no ``weights``.
        weights_note: What provenance says of ``weights``, such as file name and digest.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``float32`` (TF32 is off on CUDA), ``bfloat16`` or ``float16``, for weights, activations and memory.
            Log-probabilities and value are float32 in any case; activations are handed out as float32.
        deterministic: Take the most likely token of each head instead of drawing one.
        torch_threads: CPU threads of the arithmetic; bits depend on it. None: 1 for small policies, else one per core.
            The number is set for the time of each ``act`` and put back after it.

    Raises:
        AgentError: for a contradiction among the arguments, or CUDA where there is none.
        WeightsError: for weights that do not fit.
    """

    policy_class: ClassVar[type[VPTPolicy]] = VPTPolicy

    def __init__(self, *, size: str | None = None, policy_kwargs: Mapping[str, Any] | None = None,
                 pi_head_kwargs: Mapping[str, Any] | None = None, weights: Mapping[str, Tensor] | None = None,
                 random_seed: int | None = None, weights_note: Mapping[str, Any] | None = None, device: str = "auto",
                 precision: str = "float32", deterministic: bool = False, torch_threads: int | None = None) -> None:
        config = _config(size, policy_kwargs, pi_head_kwargs)
        if (weights is None) == (random_seed is None):
            raise AgentError("expected either a weights file or a random_seed, got "
                             + ("neither" if weights is None else "both"),
                             hint="random_seed: 0 asks for untrained weights and says so wherever the agent shows")
        if not isinstance(deterministic, bool):
            raise AgentError(f"deterministic: expected true or false, got {deterministic!r}")
        if precision not in PRECISIONS:
            raise AgentError(f"precision: expected {', '.join(PRECISIONS)}, got {precision!r}")
        threads = _default_threads(config) if torch_threads is None else torch_threads
        if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MOST_THREADS:
            raise AgentError(f"torch_threads: expected a whole number from 1 to {MOST_THREADS}, got {torch_threads!r}")
        if random_seed is not None and (isinstance(random_seed, bool) or not isinstance(random_seed, int)
                                        or not 0 <= random_seed < 2**63):
            raise AgentError(f"random_seed: expected a whole number from 0 to 2^63 - 1, got {random_seed!r}")
        self.torch_threads = threads
        self._device = _device(device)
        self.deterministic = deterministic
        if weights is None:
            assert random_seed is not None
            weights = random_weights(expected_shapes(config, self.policy_class), random_seed)
            self._weights: Any = f"random weights (seed {random_seed})"
            self.description = self._weights
        else:
            self._weights = dict(weights_note or {})
        self.policy = self.policy_class.from_config(config, at_precision(weights, precision) if precision != "float32"
                                            else weights, precision=precision, adopt=True)
        self.precision = precision
        self.policy.requires_grad_(False)
        self.policy.to(self._device)
        self._size = size
        self._not_first = torch.zeros(1, 1, dtype=torch.bool, device=self._device)
        self._digest: str | None = None
        self.narrow = config.image_shape[1] == 128

    # --- acting ----------------------------------------------------------------------------------------------------

    def initial_state(self) -> VPTState:
        """The empty memory."""
        return self.policy.initial_state(1)

    def act(self, observation: Observation, state: VPTState, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        """Look once and choose.

        Tokens are drawn as ``argmax(logp - log(-log u))`` with ``u`` from ``rng``, camera first; deterministic
        agents draw nothing. ``log_prob`` and ``entropy`` are sums over both heads, which are independent.

        Args:
            observation: Its ``pov``: uint8 [360, 640, 3], or the columns that matter [360, 128, 3].
            state: From ``initial_state`` or the last output.
            rng: The agent's stream.
            hooks: Hook names whose activations to return, batch and time axes taken away; globs work too.
        """
        height, width, _ = self.policy.config.image_shape
        frame = torch.from_numpy(policy_frame(observation["pov"], height, width))[None, None]
        names = self.policy.hook_stack.resolve(hooks)
        out, after, kept = self._look(frame, state, names)
        return self._decide(out, 0, after, None if self.deterministic else rng,
                            {name: self._bring(name, x, 0) for name, x in kept.items()})

    def initial_states(self, n: int) -> VPTState:
        """The empty memory of ``n`` episodes."""
        return self.policy.initial_state(n)

    def memory_of(self, state: VPTState, row: int) -> VPTState:
        """The memory of one episode; its tensors are views."""
        return state.episode(row)

    def act_together(self, observations: Sequence[Observation | None], state: VPTState,
                     rngs: Sequence[np.random.Generator | None], first: Sequence[bool], *, hooks: Sequence[str] = ()
                     ) -> tuple[list[AgentOutput | None], VPTState]:
        """Look once in every episode and choose: one forward pass over as many rows as ``state`` holds.

        Args:
            observations: As in ``act``, one per row; None where nobody plays, which is computed as a black picture.
            state: From ``initial_states`` or the last call.
            rngs: One stream per row, used as in ``act``.
            first: Per row, True at the first frame of an episode.
            hooks: As in ``act``.
        """
        height, width, _ = self.policy.config.image_shape
        frames = np.zeros((len(observations), 1, height, width, 3), dtype=np.uint8)
        for row, observation in enumerate(observations):
            if observation is not None:
                frames[row, 0] = policy_frame(observation["pov"], height, width)
        new = torch.tensor(first, dtype=torch.bool, device=self._device)[:, None]
        with torch.inference_mode(), self._settings():
            out, after, kept = self._traced(torch.from_numpy(frames), new, state, self.policy.hook_stack.resolve(hooks))
            rows = {name: getattr(out, name)[:, 0].cpu().numpy() for name in ("buttons", "camera", "value")}
        return [None if observation is None else self._decide(
                    rows, row, None, None if self.deterministic else rng,
                    {name: self._bring(name, x, 0, row) for name, x in kept.items()})
                for row, (observation, rng) in enumerate(zip(observations, rngs, strict=True))], after

    def trace_frames(self, frames: npt.NDArray[np.uint8], state: VPTState | None = None,
                     hooks: Sequence[str] = ()) -> tuple[list[AgentOutput], VPTState]:
        """The agent's view of a given video: what it would most likely do at each frame, without doing it.

        Equals stepping over the frames to about 1e-6; frames go through the network 16 at a time.

        Args:
            frames: uint8 [t, 360, 640, 3].
            state: From an earlier part of the video; None at its start.
            hooks: As in ``act``.

        Returns:
            One output per frame (action, tokens and ``log_prob`` of the most likely tokens; ``state`` is None but in
            the last), and the memory after the last frame.

        Raises:
            AgentError: for anything but pictures.
        """
        memory = self.initial_state() if state is None else state
        rows: list[AgentOutput] = []
        for start in range(0, len(frames), TRACE_CHUNK) or (0,):
            chosen, memory = self.look_ahead(frames[start:start + TRACE_CHUNK], memory, hooks)
            rows += [choose(None) for choose in chosen]
        return [*rows[:-1], replace(rows[-1], state=memory)], memory

    def look_ahead(self, frames: npt.NDArray[np.uint8], state: VPTState, hooks: Sequence[str] = ()
                   ) -> tuple[list[Callable[[np.random.Generator | None], AgentOutput]], VPTState]:
        """Look at several frames at once, and choose later: one forward pass.

        Args:
            frames: uint8 [t, 360, 640, 3].
            state: The memory before the first of them.
            hooks: As in ``act``.

        Returns:
            One function per frame, to be called in order with the agent's stream (None takes the most likely tokens),
            each giving what ``act`` would have given to about 1e-6, with ``state`` None; and the memory after the
            last.

        Raises:
            AgentError: for anything but pictures.
        """
        height, width, _ = self.policy.config.image_shape
        pictures = torch.from_numpy(policy_frames(frames, height, width))
        out, after, kept = self._look(pictures[None], state, self.policy.hook_stack.resolve(hooks))

        def choose(i: int, rng: np.random.Generator | None) -> AgentOutput:
            activations = {name: self._bring(name, x, i) for name, x in kept.items()}
            return self._decide(out, i, None, None if self.deterministic else rng, activations)

        return [functools.partial(choose, i) for i in range(len(frames))], after

    def _forward(self, frames: Tensor, first: Tensor, state: VPTState) -> tuple[VPTOutput, VPTState]:
        """One pass of the policy over uint8 [b, t, H, W, 3]; what a subclass tells its policy besides, it adds here."""
        out, after = self.policy(frames, first, state)
        return out, after

    def look_at(self, pictures: Tensor, state: VPTState) -> VPTOutput:
        """What the policy says of several pictures, each as the next one after the same memory; nothing is remembered.

        Gradients flow back to the pictures, and to activations that a hook keeps, unless the caller switched them off.

        Args:
            pictures: Float [n, H, W, 3] at the policy's size, 0 to 1.
            state: The memory of one episode; it is left as it is.

        Returns:
            With b = n and t = 1.

        Raises:
            AgentError: for pictures of another shape.
        """
        shape = self.policy.config.image_shape
        if pictures.ndim != 4 or tuple(pictures.shape[1:]) != shape or not len(pictures):
            raise AgentError(f"pictures: expected float {['n', *shape]}, got {list(pictures.shape)}")
        given = pictures[:, None].to(self._device, next(self.policy.parameters()).dtype)

        def show(x: Tensor, hook: HookPoint) -> Tensor:
            return given

        blank = torch.zeros(given.shape, dtype=torch.uint8, device=self._device)
        first = self._not_first.expand(len(pictures), 1)
        with self._settings(), self.policy.hooks([("hook_image", show)]):
            return self._forward(blank, first, state.repeated(len(pictures)))[0]

    def embed_pictures(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The image network alone: pictures uint8 [t, 360, 640, 3] to ``hook_embed`` float32 [t, d]."""
        height, width, _ = self.policy.config.image_shape
        parts = []
        with torch.inference_mode(), self._settings():
            for start in range(0, len(frames), TRACE_CHUNK):
                pictures = torch.from_numpy(policy_frames(frames[start:start + TRACE_CHUNK], height, width))
                parts.append(self.policy.embed(pictures[None].to(self._device))[0].float().cpu().numpy())
        return np.concatenate(parts) if parts else np.zeros((0, self.policy.config.hidsize), np.float32)

    def remember(self, embeds: npt.NDArray[np.float32], state: VPTState) -> VPTState:
        """The transformer alone: the memory after frames that are given as ``hook_embed``.

        Args:
            embeds: float32 [t, d], as the image network gave them.
            state: The memory before the first of them.

        Returns:
            What stepping over the frames would leave, to about 1e-6.
        """
        with torch.inference_mode():
            for start in range(0, len(embeds), self.policy.config.window):
                part = torch.from_numpy(embeds[start:start + self.policy.config.window])[None]
                state = self.look_embedded(part, state)[1]
        return state

    def look_embedded(self, embeds: Tensor, state: VPTState, start: int = 0) -> tuple[VPTOutput, VPTState]:
        """The transformer alone, over frames of several episodes side by side that are given as ``hook_embed``.

        Gradients flow back to the embeddings, and to activations that a hook keeps, unless the caller switches them
        off.

        Args:
            embeds: Float [n, t, d], as the image network gave them.
            state: The memory of n episodes (``repeated`` makes it of one); it is left as it is.
            start: Begin at this block, ``embeds`` being what goes into it (behind the last, what comes out of it).

        Returns:
            What the policy says, with b = n (under guidance, of the mixture), and the memory after the last frames.
        """
        given = embeds.to(self._device, next(self.policy.parameters()).dtype)
        with self._settings():
            return self._forward_embedded(given, self._not_first.expand(*given.shape[:2]), state, start)

    def _forward_embedded(self, embeds: Tensor, first: Tensor, state: VPTState, start: int
                          ) -> tuple[VPTOutput, VPTState]:
        """The rest of ``_forward``, from embeddings [b, t, d], or what goes into a block."""
        return self.policy.forward_embedded(embeds, first, state, start)

    def _look(self, frames: Tensor, state: VPTState, names: Sequence[str]
              ) -> tuple[dict[str, npt.NDArray[np.float32]], VPTState, dict[str, Tensor]]:
        """Forward over uint8 [1, t, H, W, 3]; the outputs come back as arrays without the batch axis."""
        first = self._not_first.expand(1, frames.shape[1])
        with torch.inference_mode(), self._settings():
            out, after, kept = self._traced(frames, first, state, names)
            return _to_arrays(out), after, kept

    def _traced(self, frames: Tensor, first: Tensor, state: VPTState, names: Sequence[str]
                ) -> tuple[VPTOutput, VPTState, dict[str, Tensor]]:
        """One pass, and the activations that are asked for."""
        kept: dict[str, Tensor] = {}

        def keep(x: Tensor, hook: HookPoint) -> None:
            kept[hook.name] = x

        if names:
            with self.policy.hooks([(name, keep) for name in names]):
                out, after = self._forward(frames.to(self._device), first, state)
        else:
            out, after = self._forward(frames.to(self._device), first, state)
        return out, after, {name: kept[name] for name in names}

    def _decide(self, out: Mapping[str, npt.NDArray[np.float32]], i: int, state: VPTState | None,
                rng: np.random.Generator | None, activations: Mapping[str, Any]) -> AgentOutput:
        tokens = {head: _draw(out[head][i], rng) for head in HEADS}
        log_probs = {head: out[head][i] for head in ("buttons", "camera")}
        log_prob = float(sum(float(log_probs[head][tokens[head]]) for head in HEADS))
        if not math.isfinite(log_prob):
            raise AgentError(f"the policy's numbers are not finite, so no action can be drawn (computed in "
                             f"{self.precision})", hint="look for an edit or a goal with NaN or infinity"
                             if self.precision == "float32" else "float16 ends at 65,504: try bfloat16 or float32")
        return AgentOutput(
            action=from_policy(tokens["buttons"], tokens["camera"]),
            state=state,
            log_prob=log_prob,
            entropy=float(sum(_entropy(log_probs[head]) for head in HEADS)),
            value=float(out["value"][i]),
            tokens={head: tokens[head] for head in ("buttons", "camera")},
            log_probs=log_probs,
            activations=activations,
        )

    def _bring(self, name: str, x: Tensor, i: int, row: int = 0) -> Any:
        """Frame i of an episode's activation, as if looked at alone, as an array (or one that is on its way)."""
        keys = slice(i, i + self.policy.config.window + 1)
        index: dict[str, Any] = {"b": row, "t": i, "T": keys}
        axes = self.policy.hook_stack.point(name).axes
        part = x[tuple(index.get(axis, slice(None)) for axis in axes)]
        if part.dtype in (torch.bfloat16, torch.float16):
            part = part.float()  # exact, and NumPy has no bfloat16
        if part.device.type != "cpu":
            return PendingArray(part)
        array = part.numpy()
        # It may be a view of the memory itself (hook_k_mem): whoever watches must not be able to write there.
        array.flags.writeable = False
        return array

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """Thread count and, on CUDA, full float32; put back afterwards, since both are global to the process."""
        before = torch.get_num_threads()
        if before != self.torch_threads:
            torch.set_num_threads(self.torch_threads)
        try:
            if self._device.type == "cuda":
                matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
                torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
                try:
                    yield
                finally:
                    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
            else:
                yield
        finally:
            if before != self.torch_threads:
                torch.set_num_threads(before)

    # --- hooks, memory, provenance ---------------------------------------------------------------------------------

    def hook_shapes(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """Hook name to (shape of one step's activation, ``float32``), in the order of the forward pass."""
        return {name: (point.shape, "float32") for name, point in self.policy.hook_stack.points.items()}

    def hook_axes(self) -> Mapping[str, tuple[str, ...]]:
        """Hook name to what each axis counts, in the order of the forward pass."""
        return {name: point.axes for name, point in self.policy.hook_stack.points.items()}

    def resolve_hooks(self, globs: Sequence[str]) -> list[str]:
        """Hook names that match, in the order of the forward pass; aliases give the canonical name.

        Raises:
            HookError: when a glob matches nothing, with the nearest names.
        """
        return self.policy.hook_stack.resolve(globs)

    def hooks(self, fwd_hooks: Sequence[tuple[str, Callable[..., Any]]]) -> AbstractContextManager[Any]:
        """Enter to have functions edit activations: ``fn(activation, hook) -> activation or None``."""
        return self.policy.hooks(fwd_hooks)

    def save_state(self, state: VPTState) -> dict[str, npt.NDArray[Any]]:
        """``state.{i}.k``, ``.v`` float32 [1, window, d] and ``.mask`` bool [1, window] for every block."""
        return state.to_arrays()

    def load_state(self, arrays: Mapping[str, npt.NDArray[Any]]) -> VPTState:
        """Back from ``save_state``.

        Raises:
            AgentError: for arrays that are not a memory of this policy, or of several episodes.
        """
        dtype = next(self.policy.parameters()).dtype
        state = VPTState.from_arrays(arrays, self.policy.config, self._device, dtype)
        if state.batch_size != 1:
            raise AgentError(f"the memory has {state.batch_size} rows, expected 1: an agent acts in one episode")
        return state

    def provenance(self) -> dict[str, Any]:
        """Class, size, keyword arguments, weights and their digest, device, precision and thread count."""
        config = self.policy.config
        return {
            **super().provenance(),
            "arguments": {"size": self._size, "policy_kwargs": config.policy_kwargs(),
                          "pi_head_kwargs": config.pi_head_kwargs(), "deterministic": self.deterministic},
            "weights": self._weights,
            "weights_digest": self.weights_digest(),
            "device": str(self._device),
            "device_name": None if self._device.type == "cpu" else torch.cuda.get_device_name(self._device),
            "precision": self.precision,
            "torch_threads": self.torch_threads,
            "batch_shape": [1, 1],
        }

    def weights_digest(self) -> str:
        """SHA-256 over names and values of all weights, whatever file or seed they came from."""
        if self._digest is None:
            digest = hashlib.sha256()
            for name, weight in sorted(self.policy.state_dict().items()):
                digest.update(f"{name} {list(weight.shape)} {weight.dtype};".encode())
                digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
            self._digest = digest.hexdigest()
        return self._digest


def _config(size: str | None, policy_kwargs: Mapping[str, Any] | None,
            pi_head_kwargs: Mapping[str, Any] | None) -> VPTConfig:
    if size is not None:
        if policy_kwargs is not None or pi_head_kwargs is not None:
            raise AgentError("expected a size or policy_kwargs with pi_head_kwargs, got both")
        return size_config(size)
    if policy_kwargs is None or pi_head_kwargs is None:
        raise AgentError("expected a size, or policy_kwargs and pi_head_kwargs", hint="for instance size: nano")
    return VPTConfig.from_released(policy_kwargs, pi_head_kwargs)


def _default_threads(config: VPTConfig) -> int:
    return 1 if config.hidsize <= SMALL else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") \
        else os.cpu_count() or 1


def _device(name: str) -> torch.device:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise AgentError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    number = int(name.partition(":")[2] or 0)
    if name.startswith("cuda") and number >= count:
        raise AgentError(f"device {name} was asked for, but this PyTorch ({torch.__version__}) sees "
                         f"{count or 'no'} CUDA device{'' if count == 1 else 's'}",
                         hint="use --device cpu, or install a CUDA build of PyTorch and check nvidia-smi")
    if name == "auto":
        return torch.device("cuda:0" if count else "cpu")
    return torch.device("cpu" if name == "cpu" else f"cuda:{number}")


def _to_arrays(out: VPTOutput) -> dict[str, npt.NDArray[np.float32]]:
    return {name: getattr(out, name)[0].cpu().numpy() for name in ("buttons", "camera", "value")}


def _draw(log_probs: npt.NDArray[np.float32], rng: np.random.Generator | None) -> int:
    """A token: the most likely one, or one drawn by the Gumbel trick."""
    if rng is None:
        return int(log_probs.argmax())
    u = np.maximum(rng.random(log_probs.shape), np.finfo(np.float64).tiny)
    return int((log_probs - np.log(-np.log(u))).argmax())


def _entropy(log_probs: npt.NDArray[np.float32]) -> float:
    return float(-(np.exp(log_probs) * log_probs).sum())


