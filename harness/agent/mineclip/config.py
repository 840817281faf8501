"""Sizes of MineCLIP."""

from __future__ import annotations

from dataclasses import dataclass

from harness.agent.clip.config import CLIPConfig, Tower
from harness.agent.clip.tokenizer import CONTEXT, N_TOKENS
from harness.errors import AgentError, unknown_name

__all__ = ["CLIP_FRAMES", "EMBED", "MINECLIP_SIZES", "MineCLIPConfig", "mineclip_size"]

CLIP_FRAMES = 16
"""Frames of one clip: consecutive frames of the game, 20 a second."""
EMBED = 512
"""Width of every embedding: frame, video, text, goal."""
PIXEL_MEAN = (0.3331, 0.3245, 0.3051)
PIXEL_STD = (0.2439, 0.2493, 0.2873)


@dataclass(frozen=True)
class MineCLIPConfig:
    """What decides every shape. The defaults are those of the released model (``attn``, CLIP ViT-B/16).

    Attributes:
        image_size: (height, width) of a frame as the image tower sees it.
        patch: Side of a square patch; the grid is ``image_size / patch``.
        image_width: Width of the image tower.
        image_blocks: Its blocks.
        text_width: Width of the text tower.
        text_blocks: Its blocks.
        temporal_blocks: Blocks of the temporal encoder (each an attention and a gated MLP).
        d_temporal_mlp: Width of the hidden layer in there.
        d_head: Width of every head, in all three parts.
    """

    image_size: tuple[int, int] = (160, 256)
    patch: int = 16
    image_width: int = 768
    image_blocks: int = 12
    text_width: int = 512
    text_blocks: int = 12
    temporal_blocks: int = 2
    d_temporal_mlp: int = 2048
    d_head: int = 64
    context: int = CONTEXT
    n_tokens: int = N_TOKENS
    positions: int = 32

    def __post_init__(self) -> None:
        _ = self.clip  # whose own checks refuse sizes that do not divide

    @property
    def clip(self) -> CLIPConfig:
        """Its image and text towers, which are CLIP's."""
        return CLIPConfig(Tower(self.image_width, self.image_blocks, self.d_head),
                          Tower(self.text_width, self.text_blocks, self.d_head), self.patch, self.image_size, EMBED,
                          "quick_gelu", self.context, self.n_tokens, PIXEL_MEAN, PIXEL_STD)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (rows, columns): (10, 16) in the released model."""
        return self.clip.grid


# nano is ours: for tests and for agents with random weights.
MINECLIP_SIZES: dict[str, MineCLIPConfig] = {
    "released": MineCLIPConfig(),
    "nano": MineCLIPConfig(image_width=64, image_blocks=2, text_width=64, text_blocks=2, temporal_blocks=1,
                           d_temporal_mlp=64),
}


def mineclip_size(name: str) -> MineCLIPConfig:
    """The preset called ``name``: released or nano.

    Raises:
        AgentError: for another name.
    """
    if name not in MINECLIP_SIZES:
        raise unknown_name("MineCLIP size", str(name), MINECLIP_SIZES, error=AgentError)
    return MINECLIP_SIZES[name]
