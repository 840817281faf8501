"""Taking an object out of the picture while the world keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent
from harness.errors import InterventionError, unknown_name
from harness.intervention.input.edit import PictureEdit
from harness.intervention.input.region import Area
from harness.intervention.intervention import Moment
from harness.world.world import Capabilities

__all__ = ["Inpaint"]

Picture = npt.NDArray[np.uint8]

_GUESSES = {"telea": cv2.INPAINT_TELEA, "navier-stokes": cv2.INPAINT_NS}
_NO_THINGS = {"sky", "hand", "hud"}


@dataclass(frozen=True)
class Inpaint(PictureEdit):
    """Fill the region with what would be behind it.

    ``render`` lets the world draw this moment once more without the object, and takes from that picture the pixels that
    showed it: they are exactly those of the same world without the object, in that world's light. All other pixels
    stay: the object's shadow and shading on its surroundings, and the pixels of the aimed block's outline beside it
    (``grow: 2`` takes those too). ``telea`` (Telea, 2004) and ``navier-stokes`` (Bertalmio et al., 2001) guess from the
    region's rim, on any region and any backend.

    Attributes:
        method: ``render``, ``telea`` or ``navier-stokes``.
        relight: With ``render``: take the whole picture from that world, so that light and shadow too are as if the
            object were not there. What earlier interventions did to the picture is lost then.
        radius: For the two that guess: how far around a pixel they look, 1 to 32 pixels.

    Raises:
        InterventionError: for ``render`` without an object, or with a part or the inverse of one, which no world can
            leave out; for a backend that cannot draw so.
    """

    method: Literal["render", "telea", "navier-stokes"] = "render"
    relight: bool = False
    radius: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in ("render", *_GUESSES):
            raise unknown_name("method of Inpaint", str(self.method), ["render", *_GUESSES], error=InterventionError)
        if isinstance(self.radius, bool) or not isinstance(self.radius, int) or not 1 <= self.radius <= 32:
            raise self.wrong(f"radius: expected 1 to 32 pixels, got {self.radius!r}")
        if not isinstance(self.relight, bool):
            raise self.wrong(f"relight: expected true or false, got {self.relight!r}")
        if self.region is None:
            raise self.wrong("needs a region: what is to be painted over")
        if self.method != "render":
            if self.relight:
                raise self.wrong(f"relight needs the method render, got {self.method}")
            return
        other = "method: telea fills any region, by guessing"
        if not self.region.objects:
            raise self.wrong("render draws the world without an object, and the region names none", other)
        if self.region.parts or self.region.invert or _NO_THINGS & {*self.region.objects}:
            raise self.wrong("render leaves out whole blocks and creatures, not a part, the inverse of a region, the "
                             "sky, the hand or the display", other)

    def check(self, agent: Agent, capabilities: Capabilities | None = None) -> None:
        """Refuse, beside what every edit refuses, a backend that cannot draw without an object.

        Raises:
            InterventionError: saying so.
        """
        super().check(agent, capabilities)
        if capabilities is not None and self.method == "render" and not capabilities.without:
            raise self.wrong(f"the {capabilities.backend} backend cannot draw its world without an object",
                             hint="method: telea guesses what is behind it")

    def find(self, pov: Picture, moment: Moment) -> Area | None:
        """The region; for ``render`` also under the heads-up display, which that picture has too."""
        assert self.region is not None
        return self.region.area(pov.shape, moment, hud=self.method == "render")

    def change_input(self, pov: Picture, moment: Moment) -> Picture:
        """The picture without the object; the same array where it is not to be seen and nothing is relit."""
        if not self.relight:
            return super().change_input(pov, moment)
        return self._behind(moment)

    def paint(self, pov: Picture, area: Area, moment: Moment) -> Picture:
        """What is behind."""
        if self.method == "render":
            return area.cut(self._behind(moment))
        # Both methods look no further than the radius: a rim of it is all they need of the picture.
        rim = 2 * self.radius + 2
        y0, x0 = max(0, area.rows.start - rim), max(0, area.columns.start - rim)
        around = np.ascontiguousarray(pov[y0:area.rows.stop + rim, x0:area.columns.stop + rim])
        unknown = np.zeros(around.shape[:2], np.uint8)
        top, left = area.rows.start - y0, area.columns.start - x0
        height, width = area.rows.stop - area.rows.start, area.columns.stop - area.columns.start
        unknown[top:top + height, left:left + width] = 255 if area.mask is None else area.mask
        filled = cv2.inpaint(around, unknown, self.radius, _GUESSES[self.method])
        return np.asarray(filled[top:top + height, left:left + width], np.uint8)

    def _behind(self, moment: Moment) -> Picture:
        assert self.region is not None
        if moment.world_state is None or moment.picture_without is None:
            raise self.wrong(f"{self.region} needs the world, to draw it without, and there is none here",
                             hint="method: telea on a rectangle needs no world")
        return moment.picture_without(self.region.numbers(moment.world_state(segmentation=True)))
