"""Interventions on what the agent sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from harness.errors import InterventionError
from harness.intervention.intervention import Intervention, Moment, Site

__all__ = ["PixelMask"]


@dataclass(frozen=True)
class PixelMask(Intervention):
    """Cover a rectangle of the picture with one colour.

    Attributes:
        x0: Left edge in pixels, 0 at the left of the 640 x 360 picture.
        y0: Upper edge, 0 at the top.
        x1: Right edge, not included.
        y1: Lower edge, not included.
        colour: Red, green, blue, 0 to 255.

    Raises:
        InterventionError: for an empty rectangle, or a colour that is not one.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    colour: tuple[int, int, int] = (0, 0, 0)
    site: ClassVar[Site] = "input"

    def __post_init__(self) -> None:
        object.__setattr__(self, "colour", tuple(self.colour))
        if not (0 <= self.x0 < self.x1 and 0 <= self.y0 < self.y1):
            raise InterventionError(
                f"PixelMask: expected 0 <= x0 < x1 and 0 <= y0 < y1, got x {self.x0} to {self.x1}, "
                f"y {self.y0} to {self.y1}")
        if len(self.colour) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in self.colour):
            raise InterventionError(f"PixelMask: expected a colour [red, green, blue] from 0 to 255, "
                                    f"got {self.colour!r}")

    def change_input(self, pov: npt.NDArray[np.uint8], moment: Moment) -> npt.NDArray[np.uint8]:
        """The picture with the rectangle covered; a copy."""
        height, width = pov.shape[:2]
        if self.x0 >= width or self.y0 >= height:
            raise InterventionError(f"PixelMask: its corner ({self.x0}, {self.y0}) lies outside the picture of "
                                    f"{width} x {height} pixels")
        covered = pov.copy()
        covered[self.y0:self.y1, self.x0:self.x1] = self.colour
        return covered
