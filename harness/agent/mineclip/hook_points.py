"""The table of MineCLIP's hook points: names, axes and sizes, in the order of the forward pass.

Names and axes are CLIP's (``harness.agent.clip.hook_points``), and ``temporal.`` stands before those of the third part.
``t`` is the frame of a clip, ``T`` the key among the frames.
"""

from __future__ import annotations

from harness.agent.clip.hook_points import block_points, image_points, text_points
from harness.agent.hooks import HookPoint
from harness.agent.mineclip.config import CLIP_FRAMES, EMBED, MineCLIPConfig

__all__ = ["hook_points"]


def hook_points(config: MineCLIPConfig) -> list[HookPoint]:
    """Every hook point, image tower first, then the temporal encoder, then the text tower."""
    frame = ("b", "t")
    return [
        *image_points(config.clip, frame),
        HookPoint("temporal.hook_full_embed", (*frame, "d"), (EMBED,)),
        *block_points("temporal", config.temporal_blocks, ("b",), ("t", "T"),
                      {"k": CLIP_FRAMES, "h": EMBED // config.d_head, "d_head": config.d_head, "d": EMBED,
                       "d_mlp": config.d_temporal_mlp}, gated=True),
        HookPoint("temporal.ln_final.hook_normalized", (*frame, "d"), (EMBED,)),
        HookPoint("temporal.hook_out", ("b", "d_embed"), (EMBED,)),
        *text_points(config.clip),
    ]
