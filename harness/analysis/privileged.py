"""What a world knows and its picture only shows: state variables at every picture of a recording, by name."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import RecordingError, unknown_name
from harness.intervention.input.region import Region
from harness.recording.recording import Recording
from harness.replay.replay import recorded_moments, recorded_scenario
from harness.world.observation import HUD_PART, WorldState

__all__ = ["VARIABLES", "Variable", "find_variable", "privileged_state"]

Float = npt.NDArray[np.float64]
SECOND = 20
"""Ticks."""
SEEN = 64
"""Pixels from which on an object is in view: 8 x 8 of the 640 x 360."""
_FIRST_ENTITY = 1000


@dataclass(frozen=True)
class _Sight:
    """A moment: the state, the segmentation's numbers of the object in question, and whether one was hurt lately."""

    state: WorldState
    numbers: Collection[int]
    hurt: bool


@dataclass(frozen=True)
class Variable:
    """A variable of the world's state.

    Attributes:
        meaning: In words; {} stands for the object.
        unit: Of the value; empty for yes and no.
        of: Its value at a moment: a number, 0 or 1, NaN where it has none.
        of_object: Whether it needs an object: ``in_view:logs``.
    """

    meaning: str
    unit: str
    of: Callable[[_Sight], float]
    of_object: bool = True

    @property
    def yes_no(self) -> bool:
        """Whether it is 0 or 1."""
        return not self.unit


def _pixels(sight: _Sight) -> int:
    ids, parts = sight.state.segmentation, sight.state.parts
    assert ids is not None
    seen = np.isin(ids, list(sight.numbers))
    return int((seen if parts is None else seen & (parts != HUD_PART)).sum())


def _share(sight: _Sight) -> float:
    assert sight.state.segmentation is not None
    return 100 * _pixels(sight) / sight.state.segmentation.size


def _distance(sight: _Sight) -> float:
    state = sight.state
    assert state.blocks is not None
    _, z, x = np.nonzero(np.isin(state.blocks, [n for n in sight.numbers if 0 < n < _FIRST_ENTITY]))
    places = [(x + state.blocks_origin[0] + 0.5, z + state.blocks_origin[2] + 0.5)]
    places += [(np.array([e.position[0]]), np.array([e.position[2]])) for e in state.entities if e.id in sight.numbers]
    me = state.player.position
    away = np.concatenate([np.hypot(x - me[0], z - me[2]) for x, z in places])
    return float(away.min()) if len(away) else math.nan


def _crosshair(sight: _Sight) -> float:
    at = sight.state.looking_at
    if at is None:
        return 0.0
    if at.kind == "entity":
        return float(at.entity_id in sight.numbers)
    return float(at.name in {sight.state.names.get(n) for n in sight.numbers if n < _FIRST_ENTITY})


def _reach(sight: _Sight) -> float:
    at = sight.state.looking_at
    return _crosshair(sight) if at is not None and at.reachable else 0.0


def _speed(sight: _Sight) -> float:
    x, _, z = sight.state.player.velocity
    return SECOND * math.hypot(x, z)


VARIABLES: Mapping[str, Variable] = {
    "in_view": Variable(f"{SEEN} pixels or more show {{}}", "", lambda s: float(_pixels(s) >= SEEN)),
    "crosshair": Variable("the crosshair's ray meets {} first", "", _crosshair),
    "reach": Variable("the crosshair is on {}, and an attack would land", "", _reach),
    "hurt": Variable("the player was hurt within the last second", "", lambda s: float(s.hurt), of_object=False),
    "on_ground": Variable("the player stands on something", "", lambda s: float(s.state.player.on_ground), False),
    "distance": Variable("from the player to the middle of the nearest {}, seen or not, without height", "blocks",
                         _distance),
    "share": Variable("share of the picture that shows {}", "%", _share),
    "pitch": Variable("the player's pitch, positive downwards", "degrees", lambda s: s.state.player.pitch, False),
    "speed": Variable("the player's speed over ground", "blocks/s", _speed, False),
    "health": Variable("the player's health", "half hearts", lambda s: s.state.player.health, False),
}
"""By name. Objects are those of ``Region``: ``logs``, ``leaves``, a creature, a block, a tag, or a glob of them."""


def find_variable(name: str) -> tuple[Variable, str | None]:
    """The variable of a name such as ``in_view:logs`` or ``pitch``, and its object.

    Raises:
        HarnessError: for a name that is none, or an object that is missing or one too many.
    """
    kind, colon, thing = name.partition(":")
    known = [f"{each}:OBJECT" if v.of_object else each for each, v in VARIABLES.items()]
    if kind not in VARIABLES or VARIABLES[kind].of_object != bool(colon and thing):
        raise unknown_name("state variable", name, known)
    return VARIABLES[kind], thing or None


def privileged_state(recording: Recording, names: Sequence[str], every: int = 1,
                     tick: Callable[[int], None] = lambda n: None) -> Float:
    """State variables at the moments of a recording's pictures; the world plays the recorded actions again.

    Args:
        recording: Of a world that can be made again and tells which pixels show what.
        names: Such as ``in_view:logs``; see ``VARIABLES``.
        every: Take every so many-th picture, from the first on.
        tick: Called with the number of steps done.

    Returns:
        float64 [t, name]; NaN where a variable has no value.

    Raises:
        HarnessError: for a name that is no variable, or an object that the scenario cannot have.
        RecordingError: for a world that cannot be made again.
    """
    found = [find_variable(name) for name in names]
    regions = [None if thing is None else Region(object=thing) for _, thing in found]
    for region in regions:
        if region is not None:
            region.check_scenario(recorded_scenario(recording))
    rows, hurt = [], deque[bool](maxlen=SECOND)
    for number, world in enumerate(recorded_moments(recording)):
        if not world.capabilities.segmentation:
            raise RecordingError(f"the {world.capabilities.backend} backend does not tell which pixels show what",
                                 where=str(recording.path))
        hurt.append(any(event["type"] == "player_hurt" for event in world.world_state().events))
        if number % every == 0:
            state = world.world_state(segmentation=True, blocks=True)
            rows.append([variable.of(_Sight(state, () if region is None else region.numbers(state), any(hurt)))
                         for (variable, _), region in zip(found, regions, strict=True)])
        tick(1)
    return np.array(rows, np.float64).reshape(len(rows), len(names))
