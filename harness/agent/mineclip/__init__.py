"""MineCLIP: what STEVE-1's goals are made with, from sixteen frames or from a sentence."""

from __future__ import annotations

from harness.agent.clip.tokenizer import prompt_tokens
from harness.agent.mineclip.config import CLIP_FRAMES, EMBED, MINECLIP_SIZES, MineCLIPConfig
from harness.agent.mineclip.model import MineCLIP, MineCLIPOutput, resize_clip, spatial_attention

__all__ = [
    "CLIP_FRAMES", "EMBED", "MINECLIP_SIZES", "MineCLIP", "MineCLIPConfig", "MineCLIPOutput", "prompt_tokens",
    "resize_clip", "spatial_attention",
]
