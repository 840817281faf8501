"""Putting another picture, or a piece of one, into the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent
from harness.intervention.input.edit import PictureEdit, read_picture
from harness.intervention.input.region import Area
from harness.intervention.intervention import Moment
from harness.world.world import Capabilities

__all__ = ["LONGEST_AGE", "FramePatch", "Paste"]

Picture = npt.NDArray[np.uint8]

LONGEST_AGE = 128
"""Steps; so many pictures are kept, at most 88 MB, and they are part of every snapshot."""


@dataclass(frozen=True)
class FramePatch(PictureEdit):
    """Put the same region of another picture in its place: of an earlier step of this episode, or a given one.

    An earlier picture is the one that reached this intervention then, before it changed anything. In a fork, pictures
    from before it are those that the agent saw. A step for which there is no earlier picture yet stays as it is.

    Attributes:
        values: The other picture, uint8 [height, width, 3], as large as this one.
        age: Or the picture so many steps before, 1 to 128: what the agent sees lags behind.
        step: Or the picture of this step: from the next on, what the agent sees stands still.

    Raises:
        InterventionError: for none or several of the three, or a schedule that holds only before there is a picture.
    """

    values: Any = None
    age: int | None = None
    step: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in ("values", "age", "step") if getattr(self, name) is not None]
        if len(given) != 1:
            raise self.wrong(f"expected one of values, age and step, got {' and '.join(given) or 'none'}")
        if self.values is not None:
            object.__setattr__(self, "values", read_picture(self.values, "FramePatch", "values"))
            return
        low, high = (1, LONGEST_AGE) if self.age is not None else (0, None)
        number: Any = getattr(self, given[0])
        if isinstance(number, bool) or not isinstance(number, int) or number < low or (
                high is not None and number > high):
            raise self.wrong(f"{given[0]}: expected a whole number from {low} {f'to {high}' if high else 'on'}, "
                             f"got {number!r}", hint="step: N keeps one picture for as long as you like" if high and
                             isinstance(number, int) and number > high else None)
        first = number if self.age is not None else number + 1
        last = self.schedule.between[1] if self.schedule.between else None
        last = self.schedule.at[-1] if self.schedule.at else last
        if last is not None and last < first:
            raise self.wrong(f"{given[0]} {number} has a picture from step {first} on, and the schedule holds only "
                             f"until step {last}")

    def check(self, agent: Agent, capabilities: Capabilities | None = None) -> None:
        """Refuse, beside what every edit refuses, a picture of another size.

        Raises:
            InterventionError: saying so.
        """
        super().check(agent, capabilities)
        if self.values is not None and capabilities is not None:
            self._check_size(capabilities.picture)

    def _check_size(self, picture: tuple[int, ...]) -> None:
        if self.values.shape[:2] != tuple(picture[:2]):
            raise self.wrong(f"values: expected a picture of {picture[1]} x {picture[0]} pixels, got "
                             f"{self.values.shape[1]} x {self.values.shape[0]}",
                             hint="Paste puts smaller ones somewhere")

    def watch_input(self, pov: Picture, moment: Moment) -> None:
        """Keep the pictures that will be needed."""
        if self.age is not None:
            moment.memo[str(moment.step)] = pov
            moment.memo.pop(str(moment.step - self.age - 1), None)
        elif moment.step == self.step:
            moment.memo[str(moment.step)] = pov

    def paint(self, pov: Picture, area: Area, moment: Moment) -> Picture | None:
        """The other picture's pixels."""
        if self.values is not None:
            self._check_size(pov.shape)
            return np.asarray(area.cut(self.values.array), np.uint8)
        step = moment.step - self.age if self.age is not None else self.step
        assert step is not None
        if not 0 <= step < moment.step:
            return None
        kept = moment.memo.get(str(step))
        if kept is None and moment.history is not None:
            kept = moment.memo[str(step)] = moment.history.frames(step, step + 1)[0]
        return None if kept is None else np.asarray(area.cut(kept), np.uint8)


@dataclass(frozen=True)
class Paste(PictureEdit):
    """Lay a small picture over the picture; with a region, only where the region is.

    Attributes:
        picture: uint8 [h, w, 3], or [h, w, 4] whose fourth channel says how opaque it is, 0 to 255.
        x: Where its left edge comes to lie, in pixels of the 640 x 360 picture; what hangs over the edge is cut off.
        y: Where its upper edge comes to lie.

    Raises:
        InterventionError: for what is no picture, or a place outside.
    """

    picture: Any = None
    x: int = 0
    y: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.picture is None:
            raise self.wrong("needs picture: uint8 [h, w, 3] or [h, w, 4]")
        object.__setattr__(self, "picture", read_picture(self.picture, "Paste", "picture", (3, 4)))
        for name in ("x", "y"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise self.wrong(f"{name}: expected a whole number of pixels, got {value!r}")

    def check(self, agent: Agent, capabilities: Capabilities | None = None) -> None:
        """Refuse, beside what every edit refuses, a place where none of it is seen.

        Raises:
            InterventionError: saying so.
        """
        super().check(agent, capabilities)
        if capabilities is not None:
            self._check_place(capabilities.picture)

    def _check_place(self, picture: tuple[int, ...]) -> None:
        height, width = self.picture.shape[:2]
        if not (-width < self.x < picture[1] and -height < self.y < picture[0]):
            raise self.wrong(f"a picture of {width} x {height} pixels at ({self.x}, {self.y}) lies outside the "
                             f"{picture[1]} x {picture[0]} that are seen")

    def paint(self, pov: Picture, area: Area, moment: Moment) -> Picture | None:
        """The picture over the picture, as far as both reach."""
        self._check_place(pov.shape)
        new = area.cut(pov).copy()
        height, width = self.picture.shape[:2]
        top, left = area.rows.start - self.y, area.columns.start - self.x  # of the area, in the small picture
        y0, y1 = max(0, top), min(height, top + new.shape[0])
        x0, x1 = max(0, left), min(width, left + new.shape[1])
        if y0 >= y1 or x0 >= x1:
            return None
        laid = self.picture.array[y0:y1, x0:x1]
        under = new[y0 - top:y1 - top, x0 - left:x1 - left]
        if laid.shape[2] == 3:
            under[...] = laid
        else:
            alpha = laid[..., 3:].astype(np.float32) / 255.0
            under[...] = np.rint(under + (laid[..., :3].astype(np.float32) - under) * alpha).astype(np.uint8)
        return new
