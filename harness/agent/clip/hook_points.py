"""The table of CLIP's hook points: names, axes and sizes, in the order of the forward pass.

Names are those of a policy behind a prefix for the tower: ``image.``, ``text.``. Axes: ``b`` picture or prompt, ``p``
query and ``P`` key among the image tokens (0 is the class token, then the patches row by row), ``s`` query and ``S``
key among the tokens of a prompt.
"""

from __future__ import annotations

from harness.agent.clip.config import CLIPConfig
from harness.agent.hooks import HookPoint

__all__ = ["block_points", "hook_points", "image_points", "text_points"]

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


def block_points(part: str, n_blocks: int, lead: tuple[str, ...], axes: tuple[str, str], sizes: dict[str, int],
                 *, gated: bool = False) -> list[HookPoint]:
    """The points of a part's blocks.

    Args:
        part: The prefix, without its dot.
        n_blocks: How many.
        lead: Axes that stand first, such as b.
        axes: Names of the axes of queries and keys.
        sizes: Of the axes ``q``, ``k``, ``h``, ``d_head``, ``d`` and ``d_mlp``.
        gated: Whether the MLPs are, so that they have ``mlp.hook_pre_linear``.
    """
    names = {"q": axes[0], "k": axes[1]}
    points = []
    for i in range(n_blocks):
        for short, kinds in _BLOCK.items():
            if short == "mlp.hook_pre_linear" and not gated:
                continue
            # A frame axis has the shape of the moment and is left out of the sizes, like in a policy.
            shape = tuple(sizes[kind] for kind in kinds if names.get(kind) != "t")
            points.append(HookPoint(f"{part}.blocks.{i}.{short}", (*lead, *(names.get(k, k) for k in kinds)), shape))
    return points


def image_points(config: CLIPConfig, lead: tuple[str, ...] = ("b",)) -> list[HookPoint]:
    """Those of the image tower; ``lead``: axes that stand first."""
    tower, n, (height, width) = config.image, config.n_image_tokens, config.image_size
    d = tower.width
    return [
        HookPoint("image.hook_image", (*lead, "rgb", "H", "W"), (3, height, width)),
        HookPoint("image.hook_embed", (*lead, "p", "d"), (n - 1, d)),
        HookPoint("image.hook_full_embed", (*lead, "p", "d"), (n, d)),
        *block_points("image", tower.n_blocks, lead, ("p", "P"),
                      {"q": n, "k": n, "h": tower.n_heads, "d_head": tower.d_head, "d": d, "d_mlp": tower.d_mlp}),
        HookPoint("image.ln_final.hook_normalized", (*lead, "d"), (d,)),
        HookPoint("image.hook_out", (*lead, "d_embed"), (config.d_embed,)),
    ]


def text_points(config: CLIPConfig) -> list[HookPoint]:
    """Those of the text tower."""
    tower, n = config.text, config.context
    d = tower.width
    return [
        HookPoint("text.hook_embed", ("b", "s", "d"), (n, d)),
        HookPoint("text.hook_full_embed", ("b", "s", "d"), (n, d)),
        *block_points("text", tower.n_blocks, ("b",), ("s", "S"),
                      {"q": n, "k": n, "h": tower.n_heads, "d_head": tower.d_head, "d": d, "d_mlp": tower.d_mlp}),
        HookPoint("text.ln_final.hook_normalized", ("b", "s", "d"), (n, d)),
        HookPoint("text.hook_out", ("b", "d_embed"), (config.d_embed,)),
    ]


def hook_points(config: CLIPConfig) -> list[HookPoint]:
    """Every hook point, image tower first."""
    return [*image_points(config), *text_points(config)]
