"""Taking information out of the picture: a mask, blur, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from harness.intervention.input.edit import PictureEdit, plain, read_colour
from harness.intervention.input.region import Area, Region, check_rectangle
from harness.intervention.intervention import Moment

__all__ = ["PixelBlur", "PixelMask", "PixelNoise"]

Picture = npt.NDArray[np.uint8]

_WIDEST_BLUR = 100.0


@dataclass(frozen=True)
class PixelMask(PictureEdit):
    """Cover a rectangle, or another region, with one colour.

    Attributes:
        x0: Left edge in pixels, 0 at the left of the 640 x 360 picture; the four edges are a region's, for short.
        y0: Upper edge, 0 at the top.
        x1: Right edge, not included.
        y1: Lower edge, not included.
        colour: Red, green, blue, 0 to 255, or ``#rrggbb``.

    Raises:
        InterventionError: for an empty rectangle, a rectangle beside a region, or a colour that is not one.
    """

    x0: int | None = None
    y0: int | None = None
    x1: int | None = None
    y1: int | None = None
    colour: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "colour", read_colour(self.colour, "PixelMask"))
        edges = (self.x0, self.y0, self.x1, self.y1)
        if any(edge is not None for edge in edges):
            if self.region is not None:
                raise self.wrong("x0, y0, x1, y1 and region both say where", hint="leave one of them out")
            check_rectangle(*edges, what="PixelMask")

    @property
    def place(self) -> Region | None:
        """``region``, or the rectangle."""
        return self.region if self.x0 is None else Region(self.x0, self.y0, self.x1, self.y1)

    def describe(self) -> dict[str, Any]:
        """As of every intervention, with the edges or the region, whichever is given."""
        return {key: value for key, value in super().describe().items() if value is not None}

    def paint(self, pov: Picture, area: Area, moment: Moment) -> Picture:
        """One colour."""
        return plain(self.colour, area.cut(pov).shape)


@dataclass(frozen=True)
class PixelBlur(PictureEdit):
    """Take the fine detail out: every pixel of the region becomes a Gaussian mean of those around it.

    Those around it may lie outside the region; at the picture's edge it is mirrored.

    Attributes:
        sigma: Standard deviation in pixels of the 640 x 360 picture, up to 100.

    Raises:
        InterventionError: for a width that is not one.
    """

    sigma: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.sigma, bool) or not isinstance(self.sigma, int | float) or not (
                0 < self.sigma <= _WIDEST_BLUR):
            raise self.wrong(f"expected sigma from above 0 to {_WIDEST_BLUR:g} pixels, got {self.sigma!r}")

    def paint(self, pov: Picture, area: Area, moment: Moment) -> Picture:
        """The mean, from the region and as much around it as the kernel reaches."""
        reach = math.ceil(4 * self.sigma)
        y0, x0 = max(0, area.rows.start - reach), max(0, area.columns.start - reach)
        around = pov[y0:area.rows.stop + reach, x0:area.columns.stop + reach]
        blurred = cv2.GaussianBlur(around, (2 * reach + 1, 2 * reach + 1), self.sigma)
        top, left = area.rows.start - y0, area.columns.start - x0
        height, width = area.rows.stop - area.rows.start, area.columns.stop - area.columns.start
        return np.asarray(blurred[top:top + height, left:left + width], np.uint8)


@dataclass(frozen=True)
class PixelNoise(PictureEdit):
    """Add Gaussian noise to every channel of every pixel, drawn anew for every step.

    Attributes:
        std: Standard deviation, in steps of 0 to 255; the result ends at 0 and 255.

    Raises:
        InterventionError: for a standard deviation that is not one.
    """

    std: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.std, bool) or not isinstance(self.std, int | float) or not 0 < self.std <= 255:
            raise self.wrong(f"expected std from above 0 to 255, got {self.std!r}")

    def paint(self, pov: Picture, area: Area, moment: Moment) -> Picture:
        """The pixels with noise that depends on seed, intervention and step."""
        old = area.cut(pov)
        noise = moment.rng.standard_normal(old.shape, np.float32)
        noise *= np.float32(self.std)
        noise += old
        return np.clip(np.rint(noise, out=noise), 0, 255, out=noise).astype(np.uint8)
