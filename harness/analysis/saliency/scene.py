"""The pictures of some steps, which object each pixel shows, and the pictures without one object each.

The world is made again from the recording and plays the recorded actions; it must show the recorded pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent
from harness.analysis.open_loop import Shown
from harness.analysis.saliency.scoring import cover_of
from harness.errors import RecordingError
from harness.intervention.input.inpaint import Inpaint
from harness.intervention.input.region import Region
from harness.intervention.intervention import Moment
from harness.intervention.stack import InterventionStack
from harness.recording.recording import Recording
from harness.world.observation import HAND_ID, HUD_PART, WorldState
from harness.world.world import World

__all__ = ["Scene", "scenes", "why_unscored"]

Picture = npt.NDArray[np.uint8]

SMALLEST = 0.001
"""Share of the picture that an object must have to be scored: 16 of the policy's pixels."""
_GUESSED = ("hand", "hud")
"""What no world can leave out: it is painted over from its surroundings (Telea, 2004)."""


@dataclass(frozen=True)
class Scene:
    """One step.

    Attributes:
        step: Which.
        picture: uint8 [360, 640, 3].
        covers: Object to its share in each of the policy's pixels, float32 [H, W]; empty without a world.
        without: Object to the picture with nothing but its pixels replaced by what is behind it, uint8 [360, 640, 3];
            the sky has nothing behind it and is not there.
    """

    step: int
    picture: Picture
    covers: Mapping[str, npt.NDArray[np.float32]]
    without: Mapping[str, Picture]


def why_unscored(recording: Recording) -> str | None:
    """Why nothing can be said of objects in a recording, in words; None where something can."""
    world = recording.header["world"]
    backend = world.get("backend")
    if not world.get("actions_matter", True):
        return f"{recording.path.name} is a video: no world says what its pixels show"
    if not world.get("deterministic", False):
        return f"the {backend} backend promises no equal frames, so the world of {recording.path.name} cannot be asked"
    return None


def scenes(recording: Recording, agent: Agent, steps: Sequence[int], objects: Sequence[str] | None,
           size: tuple[int, int]) -> Iterator[Scene]:
    """The scenes of some steps, in order.

    Args:
        recording: Whose.
        agent: Its agent; nothing is asked of it.
        steps: Ascending.
        objects: As a ``Region`` names them; None for everything that is seen.
        size: The policy's picture, (H, W).

    Raises:
        RecordingError: when the world made again shows another picture than was recorded.
        InterventionError: for an object that is unknown in the scenario.
    """
    with Shown(recording, why_unscored(recording) is None) as shown, InterventionStack(
            (), agent=agent, seed=recording.seed, world=shown.world) as nothing:
        world = shown.world
        told = world is not None and world.capabilities.segmentation
        for name in objects or ():
            if world is not None:
                Region(object=name).check_scenario(world.scenario)
        for step in range(steps[-1] + 1):
            if step in steps:
                picture = recording.pov[step]
                if world is None or not told:
                    yield Scene(step, picture, {}, {})
                else:
                    _check_equal(world, picture, recording, step)
                    moment = Moment(step, np.random.default_rng(0), {}, agent, shown.info, world.world_state,
                                    world.capabilities, None, world.picture_without)
                    yield _scene(picture, moment, objects, size)
            if step < steps[-1]:
                shown.next(step, nothing)


def _check_equal(world: World, picture: Picture, recording: Recording, step: int) -> None:
    if not np.array_equal(world.render(), picture):
        raise RecordingError(f"the world made again shows another picture at step {step} than was recorded",
                             where=str(recording.path), hint="harness replay --verify says where they part")


def _scene(picture: Picture, moment: Moment, objects: Sequence[str] | None, size: tuple[int, int]) -> Scene:
    assert moment.world_state is not None and moment.capabilities is not None
    names = _seen(moment.world_state(segmentation=True)) if objects is None else objects
    covers, without = {}, {}
    for name in names:
        area = Region(object=name).area(picture.shape, moment)
        if area is None:
            continue
        mask = np.zeros(picture.shape[:2], np.uint8)
        area.cut(mask)[...] = 1 if area.mask is None else area.mask
        cover = cover_of(mask, size)
        if cover.mean() < SMALLEST:
            continue
        covers[name] = cover
        if name != "sky":
            behind = moment.capabilities.without and name not in _GUESSED
            edit = Inpaint(region=Region(object=name), method="render" if behind else "telea")
            without[name] = edit.change_input(picture, moment)
    return Scene(moment.step, picture, covers, without)


def _seen(state: WorldState) -> list[str]:
    """Everything in the picture: tags, or else kinds, of creatures; blocks; the sky, the hand, the display."""
    assert state.segmentation is not None
    shown, hud = state.segmentation, np.zeros(0, bool)
    if state.parts is not None:
        hud = state.parts == HUD_PART
        shown = shown[~hud]
    names = {"hand" if number == HAND_ID else state.names[int(number)] for number in np.unique(shown)}
    return sorted(names | ({"hud"} if hud.any() else set()))
