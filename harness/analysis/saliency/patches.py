"""Where MineCLIP looks in a picture: the attention of its class token over patches, of one block or through all.

Of a STEVE-1 agent, this is the network that its goal was made with. It is not the policy, so these maps say nothing of
what the policy's choice depends on, and have no target.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.agent.mineclip import MineCLIP, spatial_attention
from harness.errors import AgentError

__all__ = ["PATCH_METHODS", "attention_rollout", "patch_attention"]

PATCH_METHODS = ("mineclip-attention", "mineclip-rollout")
"""Names of the two maps; they need an agent with MineCLIP."""


def patch_attention(model: MineCLIP, picture: npt.NDArray[np.uint8], block: int = -1) -> npt.NDArray[np.float32]:
    """The attention of the class token over patches in one block of the image tower, mean over heads.

    Args:
        model: MineCLIP.
        picture: uint8 [H, W, 3] RGB.
        block: Which; -1 is the last.

    Returns:
        float32 [rows, columns] of patches (10 x 16 in the released model); sums to 1 less what stays on the class
        token.

    Raises:
        AgentError: for a block that there is not.
    """
    n = model.config.image_blocks
    if not -n <= block < n:
        raise AgentError(f"block: expected -{n} to {n - 1}, got {block}")
    pattern = _patterns(model, picture)[block]
    return np.asarray(spatial_attention(pattern, model.config.grid).mean(0).numpy(), np.float32)


def attention_rollout(model: MineCLIP, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Attention rollout (Abnar and Zuidema, arXiv 2005.00928): attention multiplied through all blocks.

    In each block, the mean over heads A becomes (A + I) / 2, which stands for the residual stream; their product from
    the first block to the last says how much of each patch reaches the class token, if values and MLPs mixed nothing.

    Args:
        model: MineCLIP.
        picture: uint8 [H, W, 3] RGB.

    Returns:
        float32 [rows, columns] of patches; sums to 1 less what stays on the class token.
    """
    rolled = rolled_out(_patterns(model, picture))
    return np.asarray(spatial_attention(rolled[None], model.config.grid)[0].numpy(), np.float32)


def rolled_out(patterns: Sequence[Tensor]) -> Tensor:
    """The product [p, P] of patterns [h, p, P], first block first, each with the residual stream."""
    total = torch.eye(patterns[0].shape[-1])
    for pattern in patterns:
        total = (pattern.mean(0) + torch.eye(pattern.shape[-1])) / 2 @ total
    return total


def _patterns(model: MineCLIP, picture: npt.NDArray[np.uint8]) -> list[Tensor]:
    """Each block's attention [h, p, P] in one picture."""
    names = [f"image.blocks.{i}.attn.hook_pattern" for i in range(model.config.image_blocks)]
    with torch.inference_mode():
        _, cache = model.hook_stack.cached(lambda: model.encode_frames(picture[None, None]), names)
    return [cache[name][0, 0].float().cpu() for name in names]
