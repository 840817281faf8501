"""Attribution methods: which pixels of a picture a number depends on.

Each takes a function of pictures (memory held fixed inside it) and one picture, and gives a map [H, W] at the policy's
own size. They are a few lines each, so they need no library; ``tests/analysis/test_saliency.py`` compares them with
captum's where that is installed.

Sign: where a method has one, positive means that the pixels, as they are, raise the target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.analysis.saliency.targets import PictureFunction
from harness.errors import HarnessError

__all__ = ["INTEGRATED", "METHODS", "Baseline", "Settings", "baseline_picture", "saliency_map"]

Baseline = Literal["mean", "black", "blur"]
INTEGRATED = "integrated-gradients"
_BLUR = 10.0
"""Standard deviation of the blurred baseline in pixels of 128."""


@dataclass(frozen=True)
class Settings:
    """The numbers of the methods.

    Attributes:
        baseline: What stands for "nothing there" in integrated gradients, occlusion and RISE: the picture's
            mean colour, black, or the picture blurred (sigma 10 pixels).
        path: Points of integrated gradients.
        samples: Noisy pictures of SmoothGrad.
        noise: Their standard deviation, in shares of the picture's range.
        patch: Side of occlusion's square in pixels.
        stride: How far apart two squares are.
        masks: Random masks of RISE.
        cells: Of the grid that they are drawn on, a side.
        keep: Chance of a cell to stay.
        seed: Of the noise and the masks.

    Raises:
        HarnessError: for a number that is out of range.
    """

    baseline: Baseline = "mean"
    path: int = 64
    samples: int = 16
    noise: float = 0.1
    patch: int = 16
    stride: int = 8
    masks: int = 256
    cells: int = 8
    keep: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {"path": (1, 1000), "samples": (1, 1000), "patch": (1, 128), "stride": (1, self.patch),
                  "masks": (2, 10_000), "cells": (2, 64), "seed": (0, 2**31 - 1)}
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise HarnessError(f"{name}: expected {low} to {high}, got {getattr(self, name)}")
        if not 0 < self.noise <= 1 or not 0 < self.keep < 1:
            raise HarnessError(f"noise and keep: expected above 0 to 1, got {self.noise} and {self.keep}")


def baseline_picture(picture: Tensor, kind: Baseline) -> Tensor:
    """What a picture [H, W, 3] is compared with, of the same shape."""
    if kind == "black":
        return torch.zeros_like(picture)
    if kind == "mean":
        return picture.mean((0, 1), keepdim=True).expand_as(picture)
    blurred = cv2.GaussianBlur(picture.float().cpu().numpy(), (0, 0), _BLUR * picture.shape[0] / 128)
    return torch.from_numpy(blurred).to(picture)


def saliency_map(name: str, function: PictureFunction, picture: Tensor, settings: Settings, draw: int = 0
                 ) -> npt.NDArray[np.float32]:
    """One map.

    Args:
        name: Of ``METHODS``.
        function: What the number is.
        picture: Float [H, W, 3], 0 to 1.
        settings: The methods' numbers.
        draw: Which noise: the step, so that two steps have not the same.

    Returns:
        float32 [H, W].
    """
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + draw)
    with torch.enable_grad():
        found = METHODS[name](function, picture.detach(), settings, generator)
    return np.asarray(found.detach().float().cpu().numpy(), np.float32)


# --- by gradients --------------------------------------------------------------------------------------------------

def _gradients(function: PictureFunction, pictures: Tensor) -> Tensor:
    """The gradient at each of several pictures [n, H, W, 3]."""
    parts = []
    for part in torch.split(pictures, function.batch):
        part = part.detach().requires_grad_()
        parts.append(torch.autograd.grad(function(part).sum(), part)[0])
    return torch.cat(parts)


def _gradient(function: PictureFunction, picture: Tensor, settings: Settings, rng: torch.Generator) -> Tensor:
    """Largest absolute gradient of the three channels (Simonyan, Vedaldi and Zisserman, arXiv 1312.6034)."""
    return _gradients(function, picture[None])[0].abs().amax(-1)


def _input_x_gradient(function: PictureFunction, picture: Tensor, settings: Settings, rng: torch.Generator) -> Tensor:
    """Gradient times pixel, summed over channels (Shrikumar, Greenside and Kundaje, arXiv 1605.01713)."""
    return (_gradients(function, picture[None])[0] * picture).sum(-1)


def _integrated_gradients(function: PictureFunction, picture: Tensor, settings: Settings, rng: torch.Generator
                          ) -> Tensor:
    """Integrated gradients (Sundararajan, Taly and Yan, arXiv 1703.01365).

    (x - b) times the mean gradient along the line from the baseline b to x, summed over channels; the integral by
    Gauss-Legendre quadrature. Completeness: the map sums to f(x) - f(b), up to the quadrature's error. That error is
    not small in VPT: its group norms divide by the contrast that the line takes away, so f leaps near the baseline.
    """
    baseline = baseline_picture(picture, settings.baseline)
    points, weights = np.polynomial.legendre.leggauss(settings.path)
    along, share = ((torch.from_numpy(x).to(picture)[:, None, None, None] / 2) for x in (points + 1, weights))
    total = torch.zeros_like(picture)
    for at, weight in zip(*(torch.split(x, function.batch) for x in (along, share)), strict=True):
        total += (weight * _gradients(function, baseline + at * (picture - baseline))).sum(0)
    return ((picture - baseline) * total).sum(-1)


def _smoothgrad(function: PictureFunction, picture: Tensor, settings: Settings, rng: torch.Generator) -> Tensor:
    """The gradient's mean over noisy pictures (Smilkov et al., arXiv 1706.03825), then as ``gradient``.

    The noise is normal, its standard deviation ``noise`` times the picture's range; noisy pixels may leave 0 to 1.
    """
    spread, total = settings.noise * (picture.max() - picture.min()), torch.zeros_like(picture)
    for n in _parts(settings.samples, function.batch):
        noise = torch.randn((n, *picture.shape), generator=rng).to(picture)
        total += _gradients(function, picture + spread * noise).sum(0)
    return (total / settings.samples).abs().amax(-1)


def _grad_cam(function: PictureFunction, picture: Tensor, settings: Settings, rng: torch.Generator) -> Tensor:
    """Grad-CAM on the last convolution stack (Selvaraju et al., arXiv 1610.02391).

    ReLU of the channels' maps [h, w] (16 x 16 in VPT), each weighted by the mean of its gradient; enlarged bilinearly.
    VPT reads these maps through a dense layer with a weight for every place, not through a mean over places, for which
    the method was made.
    """
    value, maps = function.with_maps(picture[None])
    weights = torch.autograd.grad(value.sum(), maps)[0].mean((2, 3), keepdim=True)
    cam = F.relu((weights * maps).sum(1, keepdim=True))
    return F.interpolate(cam, picture.shape[:2], mode="bilinear", align_corners=False)[0, 0]


# --- by covering ---------------------------------------------------------------------------------------------------

def _parts(n: int, most: int) -> Iterator[int]:
    """Cut n into parts of at most so many."""
    for start in range(0, n, most):
        yield min(most, n - start)


def _covered(function: PictureFunction, picture: Tensor, baseline: Tensor, shown: Tensor) -> Tensor:
    """The numbers float64 [n] of the picture where masks [n, H, W] are 1, and the baseline where they are 0."""
    with torch.no_grad():
        return function(baseline + shown[..., None] * (picture - baseline)).double()


def _occlusion(function: PictureFunction, picture: Tensor, settings: Settings, rng: torch.Generator) -> Tensor:
    """Occlusion by a sliding square (Zeiler and Fergus, arXiv 1311.2901).

    How far the number falls while a square of ``patch`` pixels shows the baseline; a pixel has the mean over the
    squares that cover it.
    """
    height, width = picture.shape[:2]
    baseline = baseline_picture(picture, settings.baseline)
    whole = _covered(function, picture, baseline, torch.ones(1, height, width).to(picture))
    corners = torch.cartesian_prod(_starts(height, settings), _starts(width, settings)).tolist()
    total, count = (torch.zeros(height, width, dtype=torch.float64, device=picture.device) for _ in range(2))
    for n in _parts(len(corners), function.batch):
        hidden = torch.zeros(n, height, width).to(picture)
        for mask, (y, x) in zip(hidden, corners, strict=False):
            mask[y:y + settings.patch, x:x + settings.patch] = 1
        del corners[:n]
        falls = whole - _covered(function, picture, baseline, 1 - hidden)
        total += torch.einsum("n,nhw->hw", falls, hidden.double())
        count += hidden.sum(0)
    return total / count


def _starts(length: int, settings: Settings) -> Tensor:
    """Where squares begin along one side: every pixel is covered, and the last square may reach over the edge."""
    return torch.arange(0, max(1, length - settings.patch + settings.stride), settings.stride)


def _rise(function: PictureFunction, picture: Tensor, settings: Settings, rng: torch.Generator) -> Tensor:
    """Random masks, after RISE (Petsiuk, Das and Saenko, arXiv 1806.07421).

    Masks are drawn on a coarse grid, enlarged bilinearly and shifted at random. A pixel has the sum over masks of the
    number times what the mask shows of it, over ``masks`` times ``keep``. Two things differ from the paper, whose
    number is a probability and never below 0: what is hidden shows the baseline, not black, and the mean of the
    numbers is taken off first, since log-odds far from 0 would drown the map in the masks' own unevenness.
    """
    baseline, size = baseline_picture(picture, settings.baseline), (picture.shape[0], picture.shape[1])
    weighted, plain = (torch.zeros(size, dtype=torch.float64, device=picture.device) for _ in range(2))
    values = []
    for n in _parts(settings.masks, function.batch):
        shown = _random_masks(n, size, settings, rng).to(picture)
        values.append(_covered(function, picture, baseline, shown))
        weighted += torch.einsum("n,nhw->hw", values[-1], shown.double())
        plain += shown.sum(0)
    return (weighted - torch.cat(values).mean() * plain) / (settings.masks * settings.keep)


def _random_masks(n: int, size: tuple[int, int], settings: Settings, rng: torch.Generator) -> Tensor:
    """Smooth masks [n, H, W] between 0 and 1."""
    cell = [-(-side // settings.cells) for side in size]
    grid = torch.rand(n, 1, settings.cells + 1, settings.cells + 1, generator=rng) < settings.keep
    large = F.interpolate(grid.float(), [(settings.cells + 1) * side for side in cell], mode="bilinear",
                          align_corners=False)[:, 0]
    shifts = [torch.randint(0, side, (n,), generator=rng).tolist() for side in cell]
    return torch.stack([mask[y:y + size[0], x:x + size[1]] for mask, y, x in zip(large, *shifts, strict=True)])


METHODS: Mapping[str, Callable[[PictureFunction, Tensor, Settings, torch.Generator], Tensor]] = {
    "gradient": _gradient,
    "input-x-gradient": _input_x_gradient,
    INTEGRATED: _integrated_gradients,
    "smoothgrad": _smoothgrad,
    "grad-cam": _grad_cam,
    "occlusion": _occlusion,
    "rise": _rise,
}
"""Name to method."""
