"""What an attention score is made of: content, and a bias by frame age.

VPT's score of a query for the frame of age a is ``s(a) = q·k(a) / d_head + b(a)`` (Baker et al. 2022, ``lib/xf.py`` of
the released code): the second term, ``hook_rel_bias``, is made of the query alone and knows nothing of the frame, the
first, the content, is what is left. The split is exact. The softmax of the bias alone is where the head would look if
all frames were alike: the *age prior*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ScoreSplit", "age_prior", "in_view", "split_scores"]

Float = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_UNSEEN = -3e4
"""Scores below were masked: -1e9 as they are computed, -6e4 or minus infinity in half precision."""


@dataclass(frozen=True)
class ScoreSplit:
    """Scores taken apart, over the ages in view; elsewhere all arrays hold 0.

    Attributes:
        content: s - b, float64 [..., age].
        bias: b, float64 [..., age].
        pattern: Softmax of both, float64 [..., age].
        prior: Softmax of the bias alone, float64 [..., age].
        variance: Var(s) over the ages in view, float64 [...].
        covariance: Cov(b, s) over them, float64 [...]; Cov(b, s) + Cov(s - b, s) = Var(s).
        from_uniform: KL(pattern || uniform over the ages in view), in nats, float64 [...].
        from_prior: KL(pattern || prior): what the bias alone leaves unexplained.
        from_content: KL(pattern || softmax of the content): what the content alone leaves unexplained.
    """

    content: Float
    bias: Float
    pattern: Float
    prior: Float
    variance: Float
    covariance: Float
    from_uniform: Float
    from_prior: Float
    from_content: Float


def in_view(n_visible: npt.NDArray[np.int64], window: int) -> Mask:
    """Which ages exist at some steps, bool [t, 1, age]."""
    return np.asarray(np.arange(window) < n_visible[:, None])[:, None]


def age_prior(bias: npt.NDArray[Any], seen: Mask) -> Float:
    """Where a head would look if all frames were alike: softmax of the bias over the ages in view.

    Args:
        bias: float [..., age].
        seen: Which ages are in view, broadcast to it; at least one.

    Returns:
        float64 [..., age], each row sums to 1.
    """
    return np.asarray(np.exp(_log_softmax(np.asarray(bias, np.float64), seen)))


def split_scores(scores: npt.NDArray[Any], bias: npt.NDArray[Any], seen: Mask) -> ScoreSplit:
    """Take scores apart.

    Args:
        scores: float [..., age], as ``hook_attn_scores`` has them.
        bias: float [..., age], as ``hook_rel_bias`` has it.
        seen: Which ages exist, broadcast to them; an age whose score was masked is not in view either.
    """
    seen = np.broadcast_to(seen, scores.shape) & (scores > _UNSEEN)
    whole, age = (np.where(seen, np.asarray(x, np.float64), 0.0) for x in (scores, bias))
    content = whole - age
    n = np.maximum(seen.sum(-1, keepdims=True), 1)
    s, b = (np.where(seen, x - x.sum(-1, keepdims=True) / n, 0.0) for x in (whole, age))
    logs = [_log_softmax(x, seen) for x in (whole, age, content)]
    pattern = np.exp(logs[0])

    def divergence(other: Float) -> Float:
        gap = np.where(seen, logs[0] - np.where(seen, other, 0.0), 0.0)
        return np.asarray(np.maximum((pattern * gap).sum(-1), 0.0))

    return ScoreSplit(content, age, pattern, np.exp(logs[1]), (s * s).sum(-1) / n[..., 0], (b * s).sum(-1) / n[..., 0],
                      divergence(-np.log(n)), divergence(logs[1]), divergence(logs[2]))


def _log_softmax(x: Float, seen: Mask) -> Float:
    """Over the last axis, minus infinity where not in view."""
    x = np.where(seen, x, -np.inf)
    x = x - x.max(-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(-1, keepdims=True)))
