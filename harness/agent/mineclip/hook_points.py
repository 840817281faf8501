"""The table of MineCLIP's hook points: names, axes and sizes, in the order of the forward pass.

Names are those of a policy behind a prefix for the part: ``image.``, ``temporal.``, ``text.``. Axes: ``b`` clip or
prompt, ``t`` frame of the clip, ``p`` query and ``P`` key among the image tokens (0 is the class token, then the
patches row by row), ``s`` query and ``S`` key among the tokens of a prompt, ``T`` key among the frames.
"""

from __future__ import annotations

from harness.agent.hooks import HookPoint
from harness.agent.mineclip.config import CLIP_FRAMES, EMBED, MineCLIPConfig

__all__ = ["hook_points"]

# Short name within `<part>.blocks.{i}.`; "q" and "k" stand for the part's axes of queries and keys.
_BLOCK: dict[str, tuple[str, ...]] = {
    "hook_resid_pre": ("q", "d"),
    "ln1.hook_normalized": ("q", "d"),
    "attn.hook_q": ("q", "h", "d_head"),
    "attn.hook_k": ("q", "h", "d_head"),
    "attn.hook_v": ("q", "h", "d_head"),
    "attn.hook_attn_scores": ("h", "q", "k"),
    "attn.hook_pattern": ("h", "q", "k"),
    "attn.hook_z": ("q", "h", "d_head"),
    "hook_attn_out": ("q", "d"),
    "hook_resid_mid": ("q", "d"),
    "ln2.hook_normalized": ("q", "d"),
    "mlp.hook_pre_linear": ("q", "d_mlp"),
    "mlp.hook_pre": ("q", "d_mlp"),
    "mlp.hook_post": ("q", "d_mlp"),
    "hook_mlp_out": ("q", "d"),
    "hook_resid_post": ("q", "d"),
}


def _block_points(part: str, n_blocks: int, lead: tuple[str, ...], axes: tuple[str, str],
                  sizes: dict[str, int]) -> list[HookPoint]:
    """The points of a part's blocks; only gated MLPs (the temporal ones) have ``mlp.hook_pre_linear``."""
    names = {"q": axes[0], "k": axes[1]}
    points = []
    for i in range(n_blocks):
        for short, kinds in _BLOCK.items():
            if short == "mlp.hook_pre_linear" and part != "temporal":
                continue
            # A frame axis has the shape of the moment and is left out of the sizes, like in a policy.
            shape = tuple(sizes[kind] for kind in kinds if names.get(kind) != "t")
            points.append(HookPoint(f"{part}.blocks.{i}.{short}", (*lead, *(names.get(k, k) for k in kinds)), shape))
    return points


def hook_points(config: MineCLIPConfig) -> list[HookPoint]:
    """Every hook point, image tower first, then the temporal encoder, then the text tower."""
    d, n, (height, width) = config.image_width, config.n_patch_tokens, config.image_size
    frame = ("b", "t")
    points = [
        HookPoint("image.hook_image", (*frame, "rgb", "H", "W"), (3, height, width)),
        HookPoint("image.hook_embed", (*frame, "p", "d"), (n - 1, d)),
        HookPoint("image.hook_full_embed", (*frame, "p", "d"), (n, d)),
        *_block_points("image", config.image_blocks, frame, ("p", "P"),
                       {"q": n, "k": n, "h": d // config.d_head, "d_head": config.d_head, "d": d, "d_mlp": 4 * d}),
        HookPoint("image.ln_final.hook_normalized", (*frame, "d"), (d,)),
        HookPoint("image.hook_out", (*frame, "d_embed"), (EMBED,)),
        HookPoint("temporal.hook_full_embed", (*frame, "d"), (EMBED,)),
        *_block_points("temporal", config.temporal_blocks, ("b",), ("t", "T"),
                       {"k": CLIP_FRAMES, "h": EMBED // config.d_head, "d_head": config.d_head, "d": EMBED,
                        "d_mlp": config.d_temporal_mlp}),
        HookPoint("temporal.ln_final.hook_normalized", (*frame, "d"), (EMBED,)),
        HookPoint("temporal.hook_out", ("b", "d_embed"), (EMBED,)),
    ]
    d, n = config.text_width, config.context
    points += [
        HookPoint("text.hook_embed", ("b", "s", "d"), (n, d)),
        HookPoint("text.hook_full_embed", ("b", "s", "d"), (n, d)),
        *_block_points("text", config.text_blocks, ("b",), ("s", "S"),
                       {"q": n, "k": n, "h": d // config.d_head, "d_head": config.d_head, "d": d, "d_mlp": 4 * d}),
        HookPoint("text.ln_final.hook_normalized", ("b", "s", "d"), (n, d)),
        HookPoint("text.hook_out", ("b", "d_embed"), (EMBED,)),
    ]
    return points
