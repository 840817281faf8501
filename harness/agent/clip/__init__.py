"""CLIP: pictures and sentences in one space, its towers open to hooks."""

from __future__ import annotations

from harness.agent.clip.config import CLIP_SIZES, CLIPConfig, Tower
from harness.agent.clip.files import load_clip
from harness.agent.clip.model import CLIP, CLIPOutput
from harness.agent.clip.pictures import fit_picture, fit_pictures
from harness.agent.clip.tokenizer import prompt_tokens
from harness.agent.clip.tokens import ImageTokens

__all__ = [
    "CLIP", "CLIP_SIZES", "CLIPConfig", "CLIPOutput", "ImageTokens", "Tower", "fit_picture", "fit_pictures",
    "load_clip", "prompt_tokens",
]
