"""An intervention: the agent sees the picture in a mirror."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from harness.errors import InterventionError
from harness.intervention.intervention import Intervention, Moment, Site

AXES = {"left-right": 1, "top-bottom": 0}


@dataclass(frozen=True)
class Mirror(Intervention):
    """Turn the picture that the agent sees around; the world stays as it is, so left in the picture is right in it.

    Attributes:
        axis: ``left-right`` or ``top-bottom``.

    Raises:
        InterventionError: for another axis.
    """

    axis: str = "left-right"
    site: ClassVar[Site] = "input"

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise InterventionError(f"Mirror: axis: expected {' or '.join(AXES)}, got {self.axis!r}")

    def change_input(self, pov: npt.NDArray[np.uint8], moment: Moment) -> npt.NDArray[np.uint8]:
        """A turned copy of ``pov`` (uint8 [H, W, 3]); ``np.flip`` alone would be a view of it."""
        return np.flip(pov, AXES[self.axis]).copy()
