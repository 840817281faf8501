"""TopK's arithmetic at the latents that are kept, and at no others.

A dense pass multiplies by all latents six times (encoder, decoder, and two gradients each). Only the pre-activations
need all of them; the rest touches k latents a token. Sums over the tokens of a latent are taken as bags, after sorting
the chosen latents.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["decode_chosen", "encode_chosen"]


class _Encode(torch.autograd.Function):
    """The pre-activations at chosen latents, [b, k]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, encoder: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
        values, places = torch.addmm(bias, x, encoder.T).topk(k, dim=1, sorted=False)
        ctx.save_for_backward(x, encoder, places)
        ctx.mark_non_differentiable(places)
        return values, places

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, encoder, places = ctx.saved_tensors
        g = gradients[0]
        bias = torch.zeros(len(encoder), dtype=g.dtype, device=g.device).index_add_(0, places.flatten(), g.flatten())
        into = _weighed(places, encoder, g) if ctx.needs_input_grad[0] else None
        return into, _by_latent(places, g, x, len(encoder)), bias, None


class _Decode(torch.autograd.Function):
    """The sum of chosen directions, [b, d]."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, places: Tensor, decoder: Tensor) -> Tensor:
        ctx.save_for_backward(values, places, decoder)
        return _weighed(places, decoder, values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor]:
        values, places, decoder = ctx.saved_tensors
        g = gradients[0].contiguous()
        # The scalar products of g with the chosen directions: what PyTorch's own kernel gives for the bags' weights.
        with torch.enable_grad():
            weights = values.detach().requires_grad_()
            (into,) = torch.autograd.grad(_weighed(places, decoder.detach(), weights), weights, g)
        return into, None, _by_latent(places, values, g, len(decoder))


def encode_chosen(x: Tensor, encoder: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest pre-activations of each token and the latents that have them.

    Args:
        x: [b, d].
        encoder: [m, d].
        bias: [m].
        k: How many.

    Returns:
        Values [b, k], with gradients, and latents [b, k].
    """
    values, places = _Encode.apply(x, encoder, bias, k)  # type: ignore[no-untyped-call]
    return values, places


def decode_chosen(values: Tensor, places: Tensor, decoder: Tensor) -> Tensor:
    """Values [b, k] of latents [b, k] along the directions of a decoder [m, d]: [b, d]."""
    out: Tensor = _Decode.apply(values, places, decoder)  # type: ignore[no-untyped-call]
    return out


def _weighed(places: Tensor, table: Tensor, weights: Tensor) -> Tensor:
    return F.embedding_bag(places, table, per_sample_weights=weights, mode="sum")


def _by_latent(places: Tensor, weights: Tensor, rows: Tensor, n: int) -> Tensor:
    """For each latent the sum of the rows [b, d] of those tokens that chose it, weighed by [b, k]: [n, d]."""
    flat = places.flatten()
    # Stable, so that the order of a sum is the same every time; of 16 bits NumPy sorts by digits, ten times as fast.
    small = flat.cpu().numpy().astype(np.uint16 if n <= 1 << 16 else np.int64)
    order = torch.from_numpy(np.argsort(small, kind="stable")).to(flat.device)
    starts = torch.zeros(n, dtype=torch.long, device=flat.device)
    starts[1:] = torch.bincount(flat, minlength=n).cumsum(0)[:-1]
    return F.embedding_bag(order // places.shape[1], rows, offsets=starts,
                           per_sample_weights=weights.flatten()[order], mode="sum")
