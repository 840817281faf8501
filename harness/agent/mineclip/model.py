"""MineCLIP: sixteen frames, or a sentence, to an embedding of 512 numbers, with a hook point at every step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from harness.agent.clip.model import checked_tokens, plain_random_weights
from harness.agent.clip.network import image_tower, text_tower, unit_length
from harness.agent.clip.tokens import ImageTokens
from harness.agent.hooks import ActivationCache, HookFunction, HookScope, HookStack
from harness.agent.mineclip.config import CLIP_FRAMES, MineCLIPConfig, mineclip_size
from harness.agent.mineclip.hook_points import hook_points
from harness.agent.mineclip.network import adapt_video, build_tree, temporal_encoder
from harness.agent.vpt.weights import load_weights
from harness.errors import AgentError

__all__ = ["MineCLIP", "MineCLIPOutput", "expected_shapes", "resize_clip", "spatial_attention"]


@dataclass(frozen=True)
class MineCLIPOutput:
    """What MineCLIP says; None for what was not asked.

    Attributes:
        video: Embeddings of the clips [b, 512].
        text: Embeddings of the prompts [n, 512].
        frames: Features of single frames [b, t, 512].
        logits: How well each prompt fits each clip [b, n], as the released reward head scores it.
    """

    video: Tensor | None = None
    text: Tensor | None = None
    frames: Tensor | None = None
    logits: Tensor | None = None


class MineCLIP(nn.Module):
    """MineCLIP (the ``attn`` variant) whose parameters have the names of the released file, each tower once.

    Build it with ``from_released`` or ``random``.

    Attributes:
        config: Its sizes.
        hook_stack: Its hook points, prefixed ``image.``, ``temporal.`` and ``text.``, and who listens.
    """

    def __init__(self, config: MineCLIPConfig | None = None) -> None:
        super().__init__()
        self.config = config or MineCLIPConfig()
        for name, child in build_tree(self.config).items():
            self.add_module(name, child)
        self.hook_stack = HookStack(hook_points(self.config), {})

    @classmethod
    def from_released(cls, state_dict: Mapping[str, Tensor], config: MineCLIPConfig | str = "released", *,
                      adopt: bool = False) -> MineCLIP:
        """A model with given weights; nothing may be missing, foreign or misshapen.

        Args:
            state_dict: The 334 tensors of the released file, its towers under their ``clip_model.`` names.
            config: Another size.
            adopt: Take the tensors over instead of copying them.

        Raises:
            WeightsError: for a missing or unexpected weight, a wrong shape or dtype, each by name.
        """
        with torch.device("meta"):
            model = cls(mineclip_size(config) if isinstance(config, str) else config)
        load_weights(model, state_dict, adopt=adopt)
        return model.eval()

    @classmethod
    def random(cls, config: MineCLIPConfig | str = "nano", seed: int = 0) -> MineCLIP:
        """An untrained model; the same seed gives the same weights in every process."""
        sizes = mineclip_size(config) if isinstance(config, str) else config
        return cls.from_released(plain_random_weights(expected_shapes(sizes), seed), sizes)

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.parameters()).device

    @property
    def hook_points(self) -> list[str]:
        """Every hook name, in the order of the forward pass."""
        return list(self.hook_stack.points)

    @property
    def image_tokens(self) -> ImageTokens:
        """What stands where on the token axis ``p`` of the image tower."""
        return ImageTokens(self.config.grid)

    def forward(self, frames: Tensor | npt.NDArray[np.uint8] | None = None,
                tokens: Tensor | Sequence[str] | None = None) -> MineCLIPOutput:
        """Embed clips, prompts, or both (then they are compared too).

        Args:
            frames: As in ``encode_video``.
            tokens: As in ``encode_text``.
        """
        video = features = text = logits = None
        if frames is not None:
            features = self.encode_frames(frames)
            video = self._pool(features)
        if tokens is not None:
            text = self.encode_text(tokens)
        if video is not None and text is not None:
            logits = self.similarity(video, text)
        return MineCLIPOutput(video, text, features, logits)

    def encode_video(self, frames: Tensor | npt.NDArray[np.uint8]) -> Tensor:
        """Embeddings [b, 512] of clips, not brought to unit length.

        Args:
            frames: uint8 [b, 16, H, W, 3] RGB, consecutive frames; other sizes than 160 x 256 are stretched to it.

        Raises:
            AgentError: for a clip that has not sixteen frames, or anything but pictures.
        """
        return self._pool(self.encode_frames(frames))

    def encode_frames(self, frames: Tensor | npt.NDArray[np.uint8]) -> Tensor:
        """The image tower alone: uint8 [b, t, H, W, 3], any t, to features [b, t, 512]."""
        frames = torch.from_numpy(frames) if isinstance(frames, np.ndarray) else frames
        if frames.dtype != torch.uint8 or frames.ndim != 5 or frames.shape[-1] != 3 or 0 in frames.shape:
            raise AgentError(f"frames: expected uint8 [b, {CLIP_FRAMES}, H, W, 3], got "
                             f"{str(frames.dtype).removeprefix('torch.')} {list(frames.shape)}")
        if tuple(frames.shape[2:4]) != self.config.image_size:
            flat = resize_clip(frames.cpu().flatten(0, 1).numpy(), self.config.image_size)
            frames = torch.from_numpy(flat).view(*frames.shape[:2], *flat.shape[1:])
        return image_tower(self.clip_model, frames.to(self.device), self.config.clip, self.hook_stack)

    def _pool(self, features: Tensor) -> Tensor:
        if features.shape[1] != CLIP_FRAMES:
            few = features.shape[1] < CLIP_FRAMES
            raise AgentError(f"a clip has {CLIP_FRAMES} consecutive frames, got {features.shape[1]}",
                             hint="record a longer video" if few else f"choose {CLIP_FRAMES} of them")
        return temporal_encoder(self.temporal_encoder, features, self.config, self.hook_stack)

    def encode_text(self, tokens: Tensor | npt.NDArray[np.int64] | str | Sequence[str]) -> Tensor:
        """Embeddings [n, 512] of prompts, not brought to unit length.

        Args:
            tokens: int64 [n, 77] from ``prompt_tokens``, or the prompts themselves.

        Raises:
            AgentError: for tokens of another kind or shape, or a prompt that is too long.
        """
        clip = self.config.clip
        return text_tower(self.clip_model, checked_tokens(tokens, clip).to(self.device), clip, self.hook_stack)

    def similarity(self, video: Tensor, text: Tensor) -> Tensor:
        """How well each prompt [n, 512] fits each clip [b, 512]: logits [b, n] of the released reward head.

        The clip's embedding goes through the head's adapter; then it is the cosine times the learnt scale.
        """
        adapted = adapt_video(self.reward_head, video)
        scale = self.clip_model.logit_scale.exp()  # type: ignore[union-attr,operator]
        logits: Tensor = scale * unit_length(adapted) @ unit_length(text).T
        return logits

    def hooks(self, fwd_hooks: Iterable[tuple[str, HookFunction]]) -> HookScope:
        """A context in which functions listen at hook points, as in a policy.

        Raises:
            HookError: when a glob matches nothing; on leaving, when scopes are left out of order.
        """
        return self.hook_stack.scope(fwd_hooks)

    def run_with_cache(self, frames: Tensor | npt.NDArray[np.uint8] | None = None,
                       tokens: Tensor | Sequence[str] | None = None,
                       names_filter: str | Sequence[str] | None = None) -> tuple[MineCLIPOutput, ActivationCache]:
        """``forward``, keeping activations.

        Args:
            frames: As in ``forward``.
            tokens: As in ``forward``.
            names_filter: A name, or names and globs; None for every point of the parts that run.

        Raises:
            HookError: when a name or glob matches nothing, or only points of parts that did not run.
        """
        return self.hook_stack.cached(lambda: self(frames, tokens), names_filter)


def resize_clip(frames: npt.NDArray[np.uint8], size: tuple[int, int] = (160, 256)) -> npt.NDArray[np.uint8]:
    """Frames uint8 [t, H, W, 3] stretched bilinearly to [t, height, width, 3], as MineCLIP was trained."""
    height, width = size
    return np.stack([np.asarray(cv2.resize(np.ascontiguousarray(frame), (width, height),
                                           interpolation=cv2.INTER_LINEAR), np.uint8) for frame in frames])


def spatial_attention(pattern: Tensor, grid: tuple[int, int] = (10, 16)) -> Tensor:
    """Where the image tower looks from its class token, as a picture of patches.

    Args:
        pattern: A cached ``image.blocks.{i}.attn.hook_pattern`` [..., h, p, P].
        grid: Patches (rows, columns); 10 x 16 patches of 16 x 16 pixels in the released model.

    Returns:
        [..., h, rows, columns]; sums to 1 less the weight that stays on the class token.
    """
    tokens = ImageTokens(grid)
    if pattern.ndim < 3 or pattern.shape[-2:] != (tokens.n, tokens.n):
        raise AgentError(f"pattern: expected [..., h, {tokens.n}, {tokens.n}] of the image tower, got "
                         f"{list(pattern.shape)}")
    return tokens.picture(pattern[..., 0, :])


def expected_shapes(config: MineCLIPConfig | str = "released") -> dict[str, tuple[int, ...]]:
    """Every weight's name and shape for a size, without allocating any."""
    with torch.device("meta"):
        model = MineCLIP(mineclip_size(config) if isinstance(config, str) else config)
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
