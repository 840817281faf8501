"""Where in the picture an input intervention acts: a rectangle, or the pixels of an object."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from harness.errors import InterventionError, unknown_name
from harness.intervention.intervention import Moment
from harness.scenario.catalogue import catalogue
from harness.scenario.schema import Scenario
from harness.world.observation import HAND_ID, HUD_PART, SKY_ID, WorldState
from harness.world.world import Capabilities

__all__ = ["Area", "Region"]

Picture = npt.NDArray[np.uint8]

_EDGES = ("x0", "y0", "x1", "y1")
_PLACES = {"sky": SKY_ID, "hand": HAND_ID}
_WIDEST = 100
_FIRST_ENTITY = 1000


@dataclass(frozen=True)
class Area:
    """A region of one picture.

    Attributes:
        rows: Those of the smallest rectangle around it.
        columns: Likewise.
        mask: uint8 [h, w] over that rectangle, not 0 inside the region; None where all of it is inside.
    """

    rows: slice
    columns: slice
    mask: Picture | None = None

    def cut(self, pov: Picture) -> Picture:
        """The rectangle of a picture, [h, w, ...], as a view."""
        return pov[self.rows, self.columns]

    def put(self, pov: Picture, new: Picture) -> Picture:
        """A copy of the picture with ``new`` [h, w, 3] inside the region and everything else as it was."""
        changed = pov.copy()
        place = self.cut(changed)
        if self.mask is None:
            place[...] = new
        else:
            cv2.copyTo(new, self.mask, place)  # in place: OpenCV refuses an output that it would have to copy
        return changed


@dataclass(frozen=True)
class Region:
    """A rectangle of the picture, or the pixels that show an object.

    Attributes:
        x0: Left edge in pixels, 0 at the left of the 640 x 360 picture.
        y0: Upper edge, 0 at the top.
        x1: Right edge, not included.
        y1: Lower edge, not included.
        object: A tag, a creature, a block, a glob such as ``"*_log"``, ``leaves`` or ``logs`` (of every species),
            ``item`` (dropped ones), ``sky``, ``hand``, ``hud``; or several of these.
        part: Only this part of the creature, or these: a villager has head, hat, robe, apron, hands and legs.
        grow: So many pixels more on every side; negative takes them away.
        invert: Everything else instead.

    The heads-up display lies over the picture and belongs to no object, unless ``hud`` is named.

    Raises:
        InterventionError: for a rectangle without pixels, both kinds at once or neither, or an unknown part.
    """

    x0: int | None = None
    y0: int | None = None
    x1: int | None = None
    y1: int | None = None
    object: str | tuple[str, ...] | None = None
    part: str | tuple[str, ...] | None = None
    grow: int = 0
    invert: bool = False

    def __post_init__(self) -> None:
        edges = [getattr(self, name) for name in _EDGES]
        given = [edge for edge in edges if edge is not None]
        if (self.object is None) == (not given):
            raise InterventionError("region: expected either x0, y0, x1 and y1 or object, got "
                                    f"{'both' if given else 'neither'}")
        if given:
            check_rectangle(*edges, what="region")
        for name in ("object", "part"):
            value: Any = getattr(self, name)
            listed = [value] if isinstance(value, str) else value
            if value is not None and (not isinstance(listed, list | tuple) or not listed or not all(
                    isinstance(each, str) and each for each in listed)):
                raise InterventionError(f"region: {name}: expected a name, or a list of them, got {value!r}")
            if isinstance(value, list | tuple):
                object.__setattr__(self, name, tuple(value))
        if isinstance(self.grow, bool) or not isinstance(self.grow, int) or abs(self.grow) > _WIDEST:
            raise InterventionError(f"region: grow: expected from -{_WIDEST} to {_WIDEST} pixels, got {self.grow!r}")
        if not isinstance(self.invert, bool):
            raise InterventionError(f"region: invert: expected true or false, got {self.invert!r}")
        if self.part is not None:
            self._check_parts()

    @classmethod
    def read(cls, value: Any) -> Region | None:
        """From a mapping, as ``describe`` gives it; None, the whole picture, and regions pass through.

        Raises:
            InterventionError: for anything else, or an unknown key.
        """
        if value is None or isinstance(value, Region):
            return value
        if not isinstance(value, Mapping):
            raise InterventionError("region: expected {x0, y0, x1, y1} in pixels, or {object: villager}, got "
                                    f"{value!r}")
        known = [field.name for field in dataclasses.fields(cls)]
        for key in value:
            if key not in known:
                raise unknown_name("key of region", str(key), known, error=InterventionError)
        return cls(**value)

    def describe(self) -> dict[str, Any]:
        """Only what is given, as plain values."""
        plain = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                plain[field.name] = list(value) if isinstance(value, tuple) else value
        return plain

    @property
    def objects(self) -> tuple[str, ...]:
        """``object`` as a tuple; empty for a rectangle."""
        return (self.object,) if isinstance(self.object, str) else self.object or ()

    @property
    def parts(self) -> tuple[str, ...]:
        """``part`` as a tuple; empty when whole creatures are meant."""
        return (self.part,) if isinstance(self.part, str) else self.part or ()

    def _check_parts(self) -> None:
        creatures = catalogue().creatures
        named = [creatures[name].parts for name in self.objects if name in creatures]
        # A tag says nothing of the creature that bears it.
        every = [creature.parts for creature in creatures.values()]
        known = {part for parts in (named if len(named) == len(self.objects) else every) for part in parts}
        for part in self.parts:
            if self.object is None:
                raise InterventionError(f'region: part "{part}" needs an object whose part it is')
            if part not in known:
                raise unknown_name(f"part of {' and '.join(self.objects)}", part, known, error=InterventionError)

    # --- before anything is played ---------------------------------------------------------------------------------

    def check(self, capabilities: Capabilities | None) -> None:
        """Refuse a world that cannot say where objects are, or whose picture the rectangle misses.

        Raises:
            InterventionError: saying so.
        """
        if capabilities is None:
            return
        backend = capabilities.backend
        if self.objects and not capabilities.segmentation:
            raise InterventionError(f"{self} needs a world that tells which pixels show what, and the {backend} "
                                    "backend does not",
                                    hint="play it with blockworld, or name a rectangle {x0, y0, x1, y1}")
        if self.parts and not capabilities.parts:
            raise InterventionError(f"{self} needs a world that knows the parts of its creatures, and the {backend} "
                                    "backend does not", hint="leave the part out")
        if not self.objects:
            self._check_corner(capabilities.picture)

    def check_scenario(self, scenario: Scenario) -> None:
        """Refuse names that are neither a block, a creature nor a tag of the scenario.

        Raises:
            InterventionError: with the nearest names.
        """
        tags = {entity.tag for entity in scenario.world.entities if entity.tag}
        known = {*tags, *_words(), *catalogue().blocks}
        for name in self.objects:
            if not fnmatch.filter(known, name):
                raise unknown_name("tag, creature or block", name, known - {"air"}, error=InterventionError)

    # --- in a picture ----------------------------------------------------------------------------------------------

    def area(self, shape: tuple[int, ...], moment: Moment, *, hud: bool = False) -> Area | None:
        """The region of a picture of this shape; None where no pixel of it is to be seen.

        Args:
            shape: Of the picture, rows first.
            moment: Knows the world.
            hud: Whether pixels of an object that lie under the heads-up display count too.

        Raises:
            InterventionError: for an object where there is no world to say where it is, or a rectangle outside.
        """
        height, width = shape[:2]
        if self.objects:
            mask = self._seen(height, width, moment, hud)
        else:
            self._check_corner((height, width))
            x0, y0, x1, y1 = (int(getattr(self, name)) for name in _EDGES)
            x0, y0 = max(0, x0 - self.grow), max(0, y0 - self.grow)
            x1, y1 = max(x0, min(width, x1 + self.grow)), max(y0, min(height, y1 + self.grow))
            if not self.invert:
                return Area(slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None
            mask = np.zeros((height, width), np.uint8)
            mask[y0:y1, x0:x1] = 255
        if self.invert:
            mask = np.asarray(cv2.bitwise_not(mask), np.uint8)
        x, y, w, h = cv2.boundingRect(mask)
        if not w or not h:
            return None
        return Area(slice(y, y + h), slice(x, x + w), mask[y:y + h, x:x + w])

    def _check_corner(self, picture: tuple[int, int]) -> None:
        height, width = picture
        if self.x0 is not None and self.y0 is not None and (self.x0 >= width or self.y0 >= height):
            raise InterventionError(f"{self}: its corner ({self.x0}, {self.y0}) lies outside the picture of "
                                    f"{width} x {height} pixels")

    def _seen(self, height: int, width: int, moment: Moment, hud: bool) -> Picture:
        """uint8 [H, W]: 255 where an object is seen, 0 elsewhere."""
        if moment.world_state is None:
            raise InterventionError(f"{self} needs the world, to know which pixels show what, and there is none here",
                                    hint="name a rectangle {x0, y0, x1, y1}")
        state = moment.world_state(segmentation=True)
        ids = state.segmentation
        if ids is None or ids.shape != (height, width):
            raise InterventionError(f"{self} needs the world's segmentation of a picture of {width} x {height} pixels, "
                                    f"got {'none' if ids is None else f'{ids.shape[1]} x {ids.shape[0]}'}")
        mask = _equal(ids, self.numbers(state))
        if self.parts and state.parts is not None:
            mask &= _equal(state.parts, [number for number, name in state.part_names.items() if name in self.parts])
        if self.grow:
            side = 2 * abs(self.grow) + 1
            change = cv2.dilate if self.grow > 0 else cv2.erode
            mask = np.asarray(change(mask, np.ones((side, side), np.uint8)), np.uint8)
        if state.parts is not None and not hud:
            over = _equal(state.parts, [HUD_PART])
            mask = mask | over if "hud" in self.objects else mask & ~over
        return mask

    def numbers(self, state: WorldState) -> list[int]:
        """The numbers that the segmentation has for the objects now, ascending."""
        found = {_PLACES[name] for name in self.objects if name in _PLACES}
        blocks, beings = self._blocks, self._beings
        found |= {number for number, name in state.names.items() if number < _FIRST_ENTITY and name in blocks}
        found |= {entity.id for entity in state.entities if beings(entity.type) or (entity.tag and beings(entity.tag))}
        return sorted(found)

    @cached_property
    def _blocks(self) -> frozenset[str]:
        found: set[str] = set()
        for name in self.objects:
            found |= _groups().get(name) or set(fnmatch.filter(catalogue().blocks, name))
        return frozenset(found)

    def _beings(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.objects)

    def __str__(self) -> str:
        if not self.objects:
            return f"region [{self.x0}, {self.y0}] to [{self.x1}, {self.y1}]"
        return f"region {' '.join(self.parts + ('of',) if self.parts else ())} {', '.join(self.objects)}".replace(
            "  ", " ")


def check_rectangle(x0: Any, y0: Any, x1: Any, y1: Any, *, what: str) -> None:
    """Refuse four numbers that are no rectangle of pixels.

    Raises:
        InterventionError: saying so.
    """
    whole = all(isinstance(edge, int) and not isinstance(edge, bool) for edge in (x0, y0, x1, y1))
    if not whole or not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise InterventionError(f"{what}: expected whole numbers 0 <= x0 < x1 and 0 <= y0 < y1, got x {x0} to {x1}, "
                                f"y {y0} to {y1}")


def _groups() -> dict[str, set[str]]:
    trees = catalogue().trees.values()
    return {"leaves": {tree.leaves for tree in trees}, "logs": {tree.log for tree in trees}}


def _words() -> Collection[str]:
    """What may be named in every world, beside blocks."""
    return {*catalogue().creatures, *_groups(), *_PLACES, "item", "hud"}


def _equal(values: npt.NDArray[Any], numbers: Collection[int]) -> Picture:
    """uint8: 255 where a value is one of the numbers, else 0. Neighbouring numbers are looked for together."""
    mask = np.zeros(values.shape, np.uint8)
    ordered, start = sorted(numbers), 0
    for end in range(1, len(ordered) + 1):
        if end == len(ordered) or ordered[end] != ordered[end - 1] + 1:
            mask |= np.asarray(cv2.inRange(values, ordered[start], ordered[end - 1]), np.uint8)
            start = end
    return mask
