"""How much of a map lies on an object: against the world's segmentation, and against what removing the object does.

A map is scored by its magnitude at the policy's own size. The world's picture of 640 x 360 pixels reaches the policy
through one linear resize; an object's mask goes through the same, so that ``cover`` [H, W] is exactly the share that
the object has in each pixel the policy sees.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from harness.statistics import rank_p, spearman

__all__ = ["cover_of", "hit", "label_p", "mass_share", "mean_of", "rank_correlations", "shifted_ratios"]

Float = npt.NDArray[np.float64]
Map = npt.NDArray[np.float32]
FEWEST = 3
"""Objects that a rank correlation needs."""


def cover_of(mask: npt.NDArray[np.uint8], size: tuple[int, int]) -> Map:
    """A mask uint8 [360, 640], not 0 on the object, as the share of it in each of the policy's pixels [H, W]."""
    # OpenCV's names of the sides are the other way round. This is preprocessing.policy_frame's resize, in floats.
    shown = cv2.resize((mask > 0).astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(shown, np.float32)


def mass_share(heat: Map, cover: Map) -> float:
    """The share of a map's magnitude that lies on an object: sum |m| c / sum |m|; NaN for a map of zeros."""
    size = np.abs(heat, dtype=np.float64)
    total = size.sum()
    return float((size * cover).sum() / total) if total > 0 else float("nan")


def hit(heat: Map, cover: Map) -> bool:
    """The pointing game (Zhang et al., arXiv 1608.00507) without its tolerance: is the map's top on the object?

    On it means that the object has at least half of that pixel. Of several tops, the one nearest to their middle
    counts.
    """
    size = np.abs(heat)
    tops = np.argwhere(size == size.max())
    y, x = tops[np.argmin(np.square(tops - tops.mean(0)).sum(1))]
    return bool(cover[y, x] >= 0.5)


def shifted_ratios(heat: Map, cover: Map) -> Map:
    """Mass share over area share for every shift of the map against the object, around the edges.

    The cross-correlation of both, by Fourier transforms. Its mean over all shifts is 1: what a map gets that knows
    nothing of where the object is, however it is spread.

    Returns:
        float32 [H, W]; [0, 0] is the map where it belongs.
    """
    size = np.abs(heat, dtype=np.float64)
    joint = np.fft.irfft2(np.fft.rfft2(size) * np.conj(np.fft.rfft2(cover.astype(np.float64))), s=size.shape)
    return np.asarray(joint / (size.sum() * cover.mean(dtype=np.float64)), np.float32)


def rank_correlations(mass: Float, effect: Float) -> Float:
    """Spearman's rank correlation over objects between mass and absolute effect, in each step.

    Args:
        mass: Shares [t, object]; NaN where an object is not to be seen.
        effect: Absolute effects of removing it [t, object]; NaN where it was not.

    Returns:
        [t]; NaN in a step with fewer than three objects that have both, or where all are the same.
    """
    found = np.full(len(mass), np.nan)
    for step, (one, two) in enumerate(zip(mass, effect, strict=True)):
        both = np.isfinite(one) & np.isfinite(two)
        if both.sum() >= FEWEST:
            found[step] = spearman(one[both], two[both])
    return found


def label_p(mass: Float, effect: Float, draws: int = 199, seed: int = 0) -> float | None:
    """How far out the mean rank correlation lies when the objects' names are shuffled, the same way in every step.

    Args:
        mass: As in ``rank_correlations``.
        effect: Likewise.
        draws: Shuffles.
        seed: Of the shuffles.

    Returns:
        The share of shuffles, the real order counted in, that are at least as far from 0; None without correlations.
    """
    rng, null = np.random.default_rng(seed), list[float]()
    both = np.isfinite(mass) & np.isfinite(effect)
    observed = rank_correlations(mass, effect)
    if not np.isfinite(observed).any():
        return None
    for _ in range(draws):
        shuffled = _permuted(mass, both, np.asarray(rng.random(mass.shape[1])))
        null.append(mean_of(rank_correlations(shuffled, effect)))
    return rank_p(mean_of(observed), [each for each in null if np.isfinite(each)])


def _permuted(mass: Float, both: npt.NDArray[np.bool_], keys: Float) -> Float:
    """Each step's masses among those objects that have both numbers, in the order of the keys."""
    shuffled = mass.copy()
    for step, there in enumerate(both):
        places = np.flatnonzero(there)
        shuffled[step, places] = mass[step, places[np.argsort(keys[places])]]
    return shuffled


def mean_of(values: npt.ArrayLike) -> float:
    """The mean of what is there; NaN of nothing."""
    given = np.asarray(values, np.float64)
    kept = given[np.isfinite(given)]
    return float(kept.mean()) if len(kept) else float("nan")
