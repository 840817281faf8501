"""What every edit of the picture shares: where, and that nothing else changes."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent
from harness.errors import InterventionError
from harness.intervention.arrays import ArrayValue
from harness.intervention.feature.edit import read_values
from harness.intervention.input.region import Area, Region
from harness.intervention.intervention import Intervention, Moment, Site
from harness.scenario.schema import Scenario
from harness.world.world import Capabilities

__all__ = ["PictureEdit", "plain", "read_colour", "read_picture"]

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PictureEdit(Intervention):
    """Base of the edits of what the agent sees. The world, and the world's picture in a recording, stay as they are.

    Attributes:
        region: Where: a ``Region`` or its mapping, ``{x0, y0, x1, y1}`` in pixels or ``{object: villager, part:
            robe}``; None for the whole picture.

    Raises:
        InterventionError: for a region that is none, when built; for a world that cannot tell where an object is, when
            checked against one.
    """

    region: Region | None = field(default=None, kw_only=True)
    site: ClassVar[Site] = "input"

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "region", Region.read(self.region))
        except InterventionError as problem:
            raise self.wrong(problem.message, problem.hint) from problem

    def wrong(self, message: str, hint: str | None = None) -> InterventionError:
        """An error that names the class."""
        return InterventionError(f"{type(self).__name__}: {message}", hint=hint)

    @property
    def place(self) -> Region | None:
        """The region that counts."""
        return self.region

    @property
    def needs_world(self) -> bool:
        """Whether it acts on an object, so that only the world knows where."""
        return self.place is not None and bool(self.place.objects)

    def check(self, agent: Agent, capabilities: Capabilities | None = None) -> None:
        """Refuse worlds without segmentation for an object, and narrow pictures.

        Raises:
            InterventionError: saying so.
        """
        super().check(agent, capabilities)
        if capabilities is not None and capabilities.narrow:
            raise self.wrong("acts on the whole picture, and this world draws only the columns that its agent reads",
                             hint="leave agent_input out where the world is made")
        if self.place is not None:
            try:
                self.place.check(capabilities)
            except InterventionError as problem:
                raise self.wrong(problem.message, problem.hint) from problem

    def check_scenario(self, scenario: Scenario) -> None:
        """Refuse an object that the scenario has not.

        Raises:
            InterventionError: with the nearest names.
        """
        super().check_scenario(scenario)
        if self.place is not None:
            try:
                self.place.check_scenario(scenario)
            except InterventionError as problem:
                raise self.wrong(problem.message, problem.hint) from problem

    def change_input(self, pov: Picture, moment: Moment) -> Picture:
        """A copy that differs in the region only; the same array where no pixel of the region is to be seen."""
        try:
            area = self.find(pov, moment)
        except InterventionError as problem:
            raise self.wrong(problem.message, problem.hint) from problem
        if area is None:
            return pov
        new = self.paint(pov, area, moment)
        return pov if new is None else area.put(pov, new)

    def find(self, pov: Picture, moment: Moment) -> Area | None:
        """The region in this picture."""
        if self.place is None:
            return Area(slice(0, pov.shape[0]), slice(0, pov.shape[1]))
        return self.place.area(pov.shape, moment)

    @abstractmethod
    def paint(self, pov: Picture, area: Area, moment: Moment) -> Picture | None:
        """The area's rectangle drawn anew, uint8 [h, w, 3]; outside the region it does not count. None: no change."""


def plain(colour: tuple[int, int, int], shape: tuple[int, ...]) -> Picture:
    """A picture of one colour, row by row: ten times quicker than pixel by pixel."""
    height, width = shape[:2]
    row = np.tile(np.array(colour, np.uint8), width)
    return np.ascontiguousarray(np.broadcast_to(row, (height, 3 * width))).reshape(height, width, 3)


def read_colour(value: Any, kind: str, name: str = "colour") -> tuple[int, int, int]:
    """A colour: red, green and blue from 0 to 255, or ``#rrggbb``.

    Raises:
        InterventionError: for anything else.
    """
    if isinstance(value, str) and len(value) == 7 and value[0] == "#":
        with contextlib.suppress(ValueError):
            value = tuple(bytes.fromhex(value[1:]))
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(
            isinstance(c, int) and not isinstance(c, bool) and 0 <= c <= 255 for c in value):
        raise InterventionError(f"{kind}: expected a {name} [red, green, blue] from 0 to 255 or \"#rrggbb\", "
                                f"got {value!r}")
    return tuple(value)


def read_picture(value: Any, kind: str, name: str, channels: tuple[int, ...] = (3,)) -> ArrayValue:
    """A picture: uint8 [h, w, channels].

    Raises:
        InterventionError: for an array of another kind.
    """
    array = read_values(value, kind, name).array
    if array.dtype == np.int64 and array.size and array.min() >= 0 and array.max() <= 255:
        array = array.astype(np.uint8)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in channels or not array.size:
        wanted = " or ".join(map(str, channels))
        raise InterventionError(f"{kind}: {name}: expected a picture of whole numbers 0 to 255 [height, width, "
                                f"{wanted}], got {array.dtype} {list(array.shape)}")
    return ArrayValue(array)
