"""Changing the colour of things and leaving their shape, shading and everything else."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from harness.intervention.input.edit import PictureEdit, plain, read_colour
from harness.intervention.input.region import Area
from harness.intervention.intervention import Moment

__all__ = ["HueShift", "Recolour"]

Picture = npt.NDArray[np.uint8]

_REC601 = (0.299, 0.587, 0.114)
_LUMA = np.array([0.213, 0.715, 0.072])


@dataclass(frozen=True)
class Recolour(PictureEdit):
    """Paint the region in a colour and keep its light and shade.

    A pixel keeps its luminance (0.299 R + 0.587 G + 0.114 B, Rec. 601) and takes on the hue and saturation of the
    colour. With ``instead_of`` the colour replaces one of another brightness: a pixel of luminance Y becomes colour x
    Y / Y(instead_of), as if the thing had been dyed so. Channels end at 255.

    Attributes:
        colour: Red, green, blue, 0 to 255, or ``#rrggbb``.
        instead_of: The colour that the thing has in full light; None keeps every pixel's luminance.
        shading: False paints every pixel in the very colour.

    Raises:
        InterventionError: for a colour that is not one, a black ``instead_of``, or one without shading.
    """

    colour: tuple[int, int, int]
    instead_of: tuple[int, int, int] | None = None
    shading: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "colour", read_colour(self.colour, "Recolour"))
        if not isinstance(self.shading, bool):
            raise self.wrong(f"shading: expected true or false, got {self.shading!r}")
        if self.instead_of is None:
            return
        object.__setattr__(self, "instead_of", read_colour(self.instead_of, "Recolour", "colour instead_of"))
        if not any(self.instead_of):
            raise self.wrong("instead_of: black has no luminance to compare with")
        if not self.shading:
            raise self.wrong("instead_of says how to keep the shading, and shading is off")

    def paint(self, pov: Picture, area: Area, moment: Moment) -> Picture:
        """The colour, as light as each pixel is."""
        old = np.ascontiguousarray(area.cut(pov))
        if not self.shading:
            return plain(self.colour, old.shape)
        return np.asarray(cv2.LUT(cv2.merge([cv2.cvtColor(old, cv2.COLOR_RGB2GRAY)] * 3), self._table()), np.uint8)

    def _table(self) -> Picture:
        """uint8 [1, 256, 3]: the colour at every luminance. Black has no hue: with it, things turn grey."""
        colour = np.array(self.colour if any(self.colour) or self.instead_of else (255, 255, 255), np.float64)
        whole = float(np.dot(self.instead_of or colour, _REC601))
        return np.clip(np.rint(np.arange(256)[None, :, None] * (colour / whole)), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class HueShift(PictureEdit):
    """Turn the hue, and scale saturation and brightness.

    Linear in the channels, as the hueRotate and saturate matrices of SVG's feColorMatrix (W3C, Filter Effects), with
    which greys stay grey; channels end at 0 and 255.

    Attributes:
        degrees: How far around the colour circle: 120 turns red towards green.
        saturation: 0 is grey, 1 as it was.
        brightness: 0 is black, 1 as it was.

    Raises:
        InterventionError: for numbers that are none, a negative scale, or values that change nothing.
    """

    degrees: float = 0.0
    saturation: float = 1.0
    brightness: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low in (("degrees", -math.inf), ("saturation", 0.0), ("brightness", 0.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < low:
                raise self.wrong(f"{name}: expected a number{' from 0 on' if low == 0 else ''}, got {value!r}")
        if (self.degrees % 360, self.saturation, self.brightness) == (0, 1, 1):
            raise self.wrong("changes nothing", hint="give degrees, saturation or brightness")

    def paint(self, pov: Picture, area: Area, moment: Moment) -> Picture:
        """The pixels through one 3 x 3 matrix."""
        return np.asarray(cv2.transform(np.ascontiguousarray(area.cut(pov)), self.matrix()), np.uint8)

    def matrix(self) -> npt.NDArray[np.float64]:
        """New red, green and blue as rows of weights of the old, float64 [3, 3]."""
        grey = np.tile(_LUMA, (3, 1))
        one = np.eye(3)
        turn = np.array([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])
        angle = math.radians(self.degrees)
        hue = grey + math.cos(angle) * (one - grey) + math.sin(angle) * turn
        return np.asarray(self.brightness * ((grey + self.saturation * (one - grey)) @ hue))
