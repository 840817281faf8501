"""Sizes of CLIP's vision transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from harness.agent.clip.tokenizer import CONTEXT, N_TOKENS
from harness.errors import AgentError, unknown_name

__all__ = ["ACTIVATIONS", "CLIP_SIZES", "Activation", "CLIPConfig", "Tower", "clip_size"]

Activation = Literal["quick_gelu", "gelu"]
"""Of the MLPs: ``x sigmoid(1.702 x)``, as OpenAI trained, or ``x Phi(x)`` (Hendrycks and Gimpel 2016)."""
ACTIVATIONS: tuple[str, ...] = get_args(Activation)


@dataclass(frozen=True)
class Tower:
    """Sizes of one transformer.

    Attributes:
        width: Of the residual stream.
        n_blocks: How many blocks.
        d_head: Width of a head; ``width`` is a multiple of it.
    """

    width: int
    n_blocks: int
    d_head: int = 64

    def __post_init__(self) -> None:
        if min(self.width, self.n_blocks, self.d_head) < 1 or self.width % self.d_head:
            raise AgentError(f"a tower of {self.n_blocks} blocks and width {self.width} does not divide into heads of "
                             f"{self.d_head}")

    @property
    def n_heads(self) -> int:
        """Heads of a block."""
        return self.width // self.d_head

    @property
    def d_mlp(self) -> int:
        """Width of an MLP: four times the stream's."""
        return 4 * self.width


@dataclass(frozen=True)
class CLIPConfig:
    """What decides every shape and every number but the weights. The defaults are those of OpenAI's ViT-B/32.

    Attributes:
        image: The image tower.
        text: The text tower.
        patch: Side of a square patch in pixels; the grid is ``image_size / patch``.
        image_size: (height, width) of a picture as the image tower sees it.
        d_embed: Width of the embeddings.
        activation: Of the MLPs, in both towers.
        context: Tokens of a prompt.
        n_tokens: Size of the vocabulary.
        pixel_mean: Of each colour, which is taken from pixels between 0 and 1.
        pixel_std: By which they are then divided.
    """

    image: Tower = Tower(768, 12)
    text: Tower = Tower(512, 12)
    patch: int = 32
    image_size: tuple[int, int] = (224, 224)
    d_embed: int = 512
    activation: Activation = "quick_gelu"
    context: int = CONTEXT
    n_tokens: int = N_TOKENS
    pixel_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    pixel_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self) -> None:
        height, width = self.image_size
        if self.patch < 1 or height < 1 or width < 1 or height % self.patch or width % self.patch:
            raise AgentError(f"pictures of {height} x {width} do not divide into patches of {self.patch}")
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation", str(self.activation), ACTIVATIONS, error=AgentError)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (rows, columns): (7, 7) for ViT-B/32, (14, 14) for ViT-B/16."""
        return self.image_size[0] // self.patch, self.image_size[1] // self.patch

    @property
    def n_image_tokens(self) -> int:
        """The class token and every patch: 50 and 197."""
        return 1 + self.grid[0] * self.grid[1]


# Radford et al. 2021, table 20. nano is ours: for tests, and for trying things out with random weights.
CLIP_SIZES: dict[str, CLIPConfig] = {
    "ViT-B/32": CLIPConfig(),
    "ViT-B/16": CLIPConfig(patch=16),
    "nano": CLIPConfig(Tower(64, 2, 32), Tower(32, 2, 16), 8, (32, 32), 32),
}


def clip_size(name: str) -> CLIPConfig:
    """The preset called ``name``: ViT-B/32, ViT-B/16 or nano.

    Raises:
        AgentError: for another name.
    """
    if name not in CLIP_SIZES:
        raise unknown_name("CLIP size", str(name), CLIP_SIZES, error=AgentError)
    return CLIP_SIZES[name]
