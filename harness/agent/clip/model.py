"""CLIP: a picture, or a sentence, to an embedding, with a hook point at every step."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from harness.agent.clip.config import CLIP_SIZES, CLIPConfig, clip_size
from harness.agent.clip.hook_points import hook_points
from harness.agent.clip.network import clip_tree, image_tower, text_tower, unit_length
from harness.agent.clip.pictures import fit_pictures
from harness.agent.clip.tokenizer import prompt_tokens
from harness.agent.clip.tokens import ImageTokens
from harness.agent.hooks import ActivationCache, HookFunction, HookScope, HookStack
from harness.agent.vpt.weights import load_weights
from harness.errors import AgentError

__all__ = ["CLIP", "CLIPOutput", "checked_tokens", "plain_random_weights", "weight_shapes"]


@dataclass(frozen=True)
class CLIPOutput:
    """What CLIP says; None for what was not asked.

    Attributes:
        image: Embeddings of the pictures [b, d_embed], not brought to unit length.
        text: Embeddings of the prompts [n, d_embed], likewise.
        logits: How well each prompt fits each picture [b, n]: the cosine times the learnt scale.
    """

    image: Tensor | None = None
    text: Tensor | None = None
    logits: Tensor | None = None


class CLIP(nn.Module):
    """CLIP with a vision transformer. Build it with ``load_clip``, ``from_weights`` or ``random``.

    Attributes:
        config: Its sizes.
        hook_stack: Its hook points, prefixed ``image.`` and ``text.``, and who listens.
        description: What it is, for results; says so where its weights are random.
    """

    def __init__(self, config: CLIPConfig | None = None) -> None:
        super().__init__()
        self.config = config or CLIPConfig()
        tree = clip_tree(self.config)
        self.logit_scale: Any = tree.logit_scale
        for name, child in tree.named_children():
            self.add_module(name, child)
        self.hook_stack = HookStack(hook_points(self.config), {})
        self.description = _called(self.config)

    @classmethod
    def from_weights(cls, state_dict: Mapping[str, Tensor], config: CLIPConfig | str = "ViT-B/32", *,
                     adopt: bool = False) -> CLIP:
        """A model with given weights under our names; nothing may be missing, foreign or misshapen.

        Args:
            state_dict: As ``weight_shapes`` names them; ``load_clip`` reads files that name them otherwise.
            config: Its size.
            adopt: Take the tensors over instead of copying them.

        Raises:
            WeightsError: for a missing or unexpected weight, a wrong shape or dtype, each by name.
        """
        with torch.device("meta"):
            model = cls(clip_size(config) if isinstance(config, str) else config)
        load_weights(model, state_dict, adopt=adopt)
        return model.eval()

    @classmethod
    def random(cls, config: CLIPConfig | str = "nano", seed: int = 0) -> CLIP:
        """An untrained model; the same seed gives the same weights in every process."""
        sizes = clip_size(config) if isinstance(config, str) else config
        weights = plain_random_weights(weight_shapes(sizes), seed)
        weights["logit_scale"] = torch.tensor(math.log(100.0))
        model = cls.from_weights(weights, sizes, adopt=True)
        model.description = f"{_called(sizes)}, random weights (seed {seed})"
        return model.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.parameters()).device

    def digest(self) -> str:
        """SHA-256 over its weights: what an SAE of it is known by."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            found.update(f"{name} {list(tensor.shape)};".encode())
            found.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()

    @property
    def hook_points(self) -> list[str]:
        """Every hook name, in the order of the forward pass."""
        return list(self.hook_stack.points)

    @property
    def image_tokens(self) -> ImageTokens:
        """What stands where on the token axis ``p`` of the image tower."""
        return ImageTokens(self.config.grid)

    def forward(self, pictures: Tensor | npt.NDArray[np.uint8] | None = None,
                tokens: Tensor | npt.NDArray[np.int64] | str | Sequence[str] | None = None) -> CLIPOutput:
        """Embed pictures, prompts, or both (then they are compared too).

        Args:
            pictures: As in ``encode_image``.
            tokens: As in ``encode_text``.
        """
        image = None if pictures is None else self.encode_image(pictures)
        text = None if tokens is None else self.encode_text(tokens)
        both = image is not None and text is not None
        return CLIPOutput(image, text, self.similarity(image, text) if both else None)  # type: ignore[arg-type]

    def encode_image(self, pictures: Tensor | npt.NDArray[np.uint8]) -> Tensor:
        """Embeddings [b, d_embed] of pictures, not brought to unit length.

        Args:
            pictures: uint8 [b, H, W, 3] RGB; other sizes than the tower's go through ``fit_picture``.

        Raises:
            AgentError: for anything but pictures.
        """
        pictures = torch.from_numpy(pictures) if isinstance(pictures, np.ndarray) else pictures
        if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3 or 0 in pictures.shape:
            raise AgentError(f"pictures: expected uint8 [b, H, W, 3], got {_brief(pictures)}")
        if tuple(pictures.shape[1:3]) != self.config.image_size:
            pictures = torch.from_numpy(fit_pictures(pictures.cpu().numpy(), self.config.image_size))
        return image_tower(self, pictures.to(self.device), self.config, self.hook_stack)

    def encode_text(self, tokens: Tensor | npt.NDArray[np.int64] | str | Sequence[str]) -> Tensor:
        """Embeddings [n, d_embed] of prompts, not brought to unit length.

        Args:
            tokens: int64 [n, 77] from ``prompt_tokens``, or the prompts themselves.

        Raises:
            AgentError: for tokens of another kind or shape, or a prompt that is too long.
        """
        return text_tower(self, checked_tokens(tokens, self.config).to(self.device), self.config, self.hook_stack)

    def similarity(self, image: Tensor, text: Tensor) -> Tensor:
        """Logits [b, n] of pictures [b, d_embed] and prompts [n, d_embed]: the cosine times the learnt scale."""
        logits: Tensor = self.logit_scale.exp() * unit_length(image) @ unit_length(text).T
        return logits

    def class_embeddings(self, prompts: Sequence[Sequence[str]]) -> Tensor:
        """One embedding [class, d_embed] for each class, of several prompts that say the same.

        The prompts' embeddings are brought to unit length, their mean is taken and brought there again (Radford et al.
        2021, 3.1.4).

        Args:
            prompts: For each class its prompts.

        Raises:
            AgentError: for a class without prompts, or as ``encode_text`` does.
        """
        if not prompts or not all(prompts):
            raise AgentError("expected a prompt or more for each class")
        return torch.stack([unit_length(unit_length(self.encode_text(list(each))).mean(0)) for each in prompts])

    def hooks(self, fwd_hooks: Iterable[tuple[str, HookFunction]]) -> HookScope:
        """A context in which functions listen at hook points, as in a policy.

        Raises:
            HookError: when a glob matches nothing; on leaving, when scopes are left out of order.
        """
        return self.hook_stack.scope(fwd_hooks)

    def run_with_cache(self, pictures: Tensor | npt.NDArray[np.uint8] | None = None,
                       tokens: Tensor | npt.NDArray[np.int64] | str | Sequence[str] | None = None,
                       names_filter: str | Sequence[str] | None = None) -> tuple[CLIPOutput, ActivationCache]:
        """``forward``, keeping activations.

        Args:
            pictures: As in ``forward``.
            tokens: As in ``forward``.
            names_filter: A name, or names and globs; None for every point of the towers that run.

        Raises:
            HookError: when a name or glob matches nothing, or only points of a tower that did not run.
        """
        return self.hook_stack.cached(lambda: self(pictures, tokens), names_filter)


def checked_tokens(tokens: Tensor | npt.NDArray[np.int64] | str | Sequence[str], config: CLIPConfig) -> Tensor:
    """Tokens int64 [n, 77] that a text tower of these sizes reads; prompts are encoded.

    Raises:
        AgentError: for tokens of another kind or shape, or a prompt that is too long.
    """
    if isinstance(tokens, np.ndarray):
        tokens = torch.from_numpy(tokens)
    elif not isinstance(tokens, Tensor):
        tokens = torch.from_numpy(prompt_tokens(tokens))
    context, n = config.context, config.n_tokens
    if tokens.dtype != torch.int64 or tokens.ndim != 2 or tokens.shape[1] != context or not len(tokens):
        raise AgentError(f"tokens: expected int64 [n, {context}], got {_brief(tokens)}",
                         hint="prompt_tokens makes them of a text")
    if not bool(((tokens >= 0) & (tokens < n)).all()):
        raise AgentError(f"tokens: expected numbers from 0 to {n - 1}")
    return tokens


def weight_shapes(config: CLIPConfig | str = "ViT-B/32") -> dict[str, tuple[int, ...]]:
    """Every weight's name and shape for a size, without allocating any."""
    with torch.device("meta"):
        model = CLIP(clip_size(config) if isinstance(config, str) else config)
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}


def plain_random_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Untrained weights: normal numbers over the root of each unit's inputs; norms 1 and 0, biases 0."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Any] = {}
    for name in sorted(shapes):
        shape = shapes[name]
        if len(shape) >= 2:
            weights[name] = torch.randn(shape, generator=generator) / np.sqrt(np.prod(shape[1:]))
        else:
            weights[name] = torch.ones(shape) if name.endswith("weight") and shape else torch.zeros(shape)
    return weights


def _called(config: CLIPConfig) -> str:
    """The size's name where it is a preset's but for activation and colours, else its sizes."""
    own = CLIPConfig()
    plain = replace(config, activation=own.activation, pixel_mean=own.pixel_mean, pixel_std=own.pixel_std)
    name = next((name for name, size in CLIP_SIZES.items() if size == plain), None)
    sizes = f"{config.image.n_blocks} blocks of {config.image.width}, patches of {config.patch}"
    return f"CLIP {name or sizes} ({config.activation})"


def _brief(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
