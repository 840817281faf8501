"""What a world knows and its picture only shows: state variables at every picture of a recording, by name."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import HarnessError, RecordingError, unknown_name
from harness.intervention.input.region import Region
from harness.recording.recording import Recording
from harness.replay.replay import recorded_action, recorded_moments, recorded_scenario
from harness.scenario.schema import Scenario
from harness.world.observation import HUD_PART, POV_SHAPE, WorldState
from harness.world.world import World

__all__ = ["VARIABLES", "StateReader", "Variable", "find_variable", "privileged_state"]

Float = npt.NDArray[np.float64]
SECOND = 20
"""Ticks."""
SEEN = 64
"""Pixels from which on an object is in view: 8 x 8 of the 640 x 360."""
_FIRST_ENTITY = 1000
_TALL = 2
"""Blocks that the player's body fills."""


@dataclass(frozen=True)
class _Sight:
    """A moment: the state, the segmentation's numbers of the object in question, and what happened lately."""

    state: WorldState
    numbers: Collection[int]
    hurt: bool
    attacked: bool


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
    # A world that draws only the columns that an agent reads shows a sample of the picture.
    there = int((seen if parts is None else seen & (parts != HUD_PART)).sum())
    return there * POV_SHAPE[1] // int(ids.shape[1])


def _share(sight: _Sight) -> float:
    return 100 * _pixels(sight) / (POV_SHAPE[0] * POV_SHAPE[1])


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


def _breaking(sight: _Sight) -> float:
    return _reach(sight) if sight.attacked else 0.0


def _overhead(sight: _Sight) -> float:
    state = sight.state
    assert state.blocks is not None
    x, y, z = (math.floor(at - low) for at, low in zip(state.player.position, state.blocks_origin, strict=True))
    height, depth, width = state.blocks.shape
    if not (0 <= x < width and 0 <= z < depth):
        return 0.0
    column = state.blocks[min(max(y + _TALL, 0), height):, z, x]
    return float(np.isin(column, [n for n in sight.numbers if 0 < n < _FIRST_ENTITY]).any())


def _speed(sight: _Sight) -> float:
    x, _, z = sight.state.player.velocity
    return SECOND * math.hypot(x, z)


VARIABLES: Mapping[str, Variable] = {
    "in_view": Variable(f"{SEEN} pixels or more show {{}}", "", lambda s: float(_pixels(s) >= SEEN)),
    "crosshair": Variable("the crosshair's ray meets {} first", "", _crosshair),
    "reach": Variable("the crosshair is on {}, and an attack would land", "", _reach),
    "breaking": Variable("{} is in reach under the crosshair, and the last action held attack", "", _breaking),
    "overhead": Variable("{} is somewhere above the player's head", "", _overhead),
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
    reader = StateReader(names, [recorded_scenario(recording)])
    rows, attacked = [], False
    for number, world in enumerate(recorded_moments(recording)):
        if not world.capabilities.segmentation:
            raise RecordingError(f"the {world.capabilities.backend} backend does not tell which pixels show what",
                                 where=str(recording.path))
        row = reader.read(world, attacked, skip=number % every != 0)
        if row is not None:
            rows.append(row)
        attacked = bool(recorded_action(recording.steps[number], "executed", recording)["attack"])
        tick(1)
    return np.array(rows, np.float64).reshape(len(rows), len(names))


class StateReader:
    """Reads state variables of a world, moment by moment of one episode.

    Args:
        names: Such as ``in_view:logs``; see ``VARIABLES``.
        scenarios: Those it will be used in. An object must be possible in one of them at least.

    Raises:
        HarnessError: for a name that is no variable, or an object that no scenario can have.
    """

    def __init__(self, names: Sequence[str], scenarios: Sequence[Scenario]) -> None:
        found = [find_variable(name) for name in names]
        self._variables = [variable for variable, _ in found]
        self._regions = [None if thing is None else Region(object=thing) for _, thing in found]
        for region in self._regions:
            problems = [problem for each in scenarios if region is not None
                        and (problem := _refused(region, each)) is not None]
            if problems and len(problems) == len(scenarios):
                raise problems[0]
        self.begin()

    def begin(self) -> None:
        """A new episode."""
        self._hurt = deque[bool](maxlen=SECOND)

    def read(self, world: World, attacked: bool, *, skip: bool = False) -> list[float] | None:
        """The variables now; to be called at every picture.

        Args:
            world: One that tells which pixels show what.
            attacked: Whether the last action held attack.
            skip: Only take note of what lasts, and give None.
        """
        self._hurt.append(any(event["type"] == "player_hurt" for event in world.world_state().events))
        if skip:
            return None
        state = world.world_state(segmentation=True, blocks=True)
        return [variable.of(_Sight(state, () if region is None else region.numbers(state), any(self._hurt), attacked))
                for variable, region in zip(self._variables, self._regions, strict=True)]


def _refused(region: Region, scenario: Scenario) -> HarnessError | None:
    try:
        region.check_scenario(scenario)
    except HarnessError as problem:
        return problem
    return None
