"""What the agent sees is changed where it was meant, by rectangle and by object, and nowhere else; the world is not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from fakes import FakeAgent, FakeWorld, make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.scripted import NoopAgent
from harness.errors import InterventionError, WorldError
from harness.intervention import (
    FramePatch,
    HueShift,
    Inpaint,
    InterventionStack,
    Paste,
    PixelBlur,
    PixelMask,
    PixelNoise,
    Recolour,
    Region,
    Schedule,
)
from harness.intervention.build import build_intervention
from harness.intervention.input.edit import PictureEdit
from harness.intervention.intervention import Intervention, Moment
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.recording.store import read_snapshot, write_snapshot
from harness.registry import TABLES
from harness.replay.replay import replay_recording
from harness.rollout import Snapshot, run_episode
from harness.scenario.catalogue import catalogue
from harness.scenario.load import load_scenario
from harness.scenario.schema import Scenario
from harness.world.action import noop_action
from harness.world.observation import HUD_PART
from harness.world.world import Capabilities, World, make_world

SEED = 24
ROBE = {"object": "villager", "part": "robe"}
SMALL = np.random.default_rng(1).integers(0, 256, (36, 64, 3), dtype=np.uint8)


def villager(**parameters: Any) -> Scenario:
    return load_scenario("villager", parameters=parameters) if parameters else load_scenario("villager")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with make_world(villager()) as made:
        yield made


@pytest.fixture
def pov(world: World) -> np.ndarray[Any, Any]:
    return np.asarray(world.reset(seed=SEED)[0]["pov"])


def at(world: World | None = None, step: int = 0, memo: dict[str, Any] | None = None, **more: Any) -> Moment:
    """A moment of a world, or of none."""
    about = {} if world is None else {"world_state": world.world_state, "capabilities": world.capabilities,
                                      "picture_without": world.picture_without}
    return Moment(step, np.random.default_rng(step), {} if memo is None else memo, NoopAgent(), {}, **about, **more)


def differ(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray((one != other).any(axis=-1))


# --- only the region changes ------------------------------------------------------------------------------------------

regions = st.builds(
    lambda x, y, w, h, grow, invert: Region(x, y, x + w, y + h, grow=grow, invert=invert),
    st.integers(0, 63), st.integers(0, 35), st.integers(1, 70), st.integers(1, 40), st.integers(-3, 6), st.booleans())
edits: st.SearchStrategy[Callable[[Region | None], PictureEdit]] = st.sampled_from([
    lambda r: PixelMask(colour=(255, 0, 255), region=r), lambda r: PixelBlur(1.5, region=r),
    lambda r: PixelNoise(60, region=r), lambda r: Recolour((10, 200, 30), region=r),
    lambda r: Recolour("#ff0000", region=r, shading=False), lambda r: HueShift(90, 0.5, 1.2, region=r),
    lambda r: FramePatch(values=255 - SMALL, region=r), lambda r: Paste(SMALL[:9, :20, ::-1], x=5, y=30, region=r),
    lambda r: Inpaint(region=r or Region(0, 0, 9, 9), method="telea"),
])


def inside(region: Region | None) -> np.ndarray[Any, Any]:
    """The region of the small picture, made another way."""
    if region is None:
        return np.ones(SMALL.shape[:2], bool)
    y, x = np.mgrid[:36, :64]
    grow = region.grow
    within = (x >= region.x0 - grow) & (x < region.x1 + grow) & (y >= region.y0 - grow) & (y < region.y1 + grow)
    return np.asarray(within != region.invert)


@settings(max_examples=150, deadline=None)
@given(edits, st.none() | regions, st.integers(0, 5))
def test_only_the_region_changes(make: Callable[[Region | None], PictureEdit], region: Region | None,
                                 step: int) -> None:
    made, before = make(region), SMALL.copy()
    changed = made.change_input(SMALL, at(step=step))
    assert np.array_equal(SMALL, before), "the picture that was given has changed"
    assert changed.dtype == np.uint8 and changed.shape == SMALL.shape
    assert not differ(changed, SMALL)[~inside(made.region)].any()
    assert (changed is SMALL) or not np.shares_memory(changed, SMALL)
    again = made.change_input(SMALL, at(step=step))
    assert np.array_equal(changed, again)


@settings(max_examples=25, deadline=None)
@given(regions, st.sampled_from([0.4, 1.0, 2.5, 7.0]))
def test_blurring_a_region_is_blurring_the_picture_there(region: Region, sigma: float) -> None:
    whole = PixelBlur(sigma).change_input(SMALL, at())
    part = PixelBlur(sigma, region=region).change_input(SMALL, at())
    assert np.array_equal(part, np.where(inside(region)[..., None], whole, SMALL))


def test_a_rectangle_that_shrinks_away_is_empty() -> None:
    gone = Region(0, 0, 1, 1, grow=-2)
    assert PixelMask(region=gone).change_input(SMALL, at()) is SMALL
    assert not PixelMask(region=Region(0, 0, 1, 1, grow=-2, invert=True)).change_input(SMALL, at()).any()


def test_a_mask_and_flat_colour_agree() -> None:
    place = Region(3, 4, 50, 20)
    assert np.array_equal(PixelMask(3, 4, 50, 20, (9, 8, 7)).change_input(SMALL, at()),
                          Recolour((9, 8, 7), shading=False, region=place).change_input(SMALL, at()))


def test_recolouring_keeps_every_pixels_luminance() -> None:
    def luminance(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.asarray(picture.astype(float) @ (0.299, 0.587, 0.114))

    dark = SMALL // 3  # so that no channel ends at 255
    for colour in ((200, 150, 100), "#808080", (0, 0, 0)):
        painted = Recolour(colour).change_input(dark, at())
        assert np.abs(luminance(painted) - luminance(dark)).max() <= 1.0
    painted = Recolour((200, 150, 100)).change_input(dark, at()).astype(float)
    lit = painted[painted[..., 2] > 20]
    assert np.allclose(lit / lit[:, :1], (1.0, 0.75, 0.5), atol=0.06)


def test_dyeing_says_what_the_colour_was() -> None:
    cloth = np.array([[[100, 60, 40], [50, 30, 20], [0, 0, 0]]], np.uint8)
    painted = Recolour((40, 120, 200), instead_of=(100, 60, 40)).change_input(cloth, at())
    assert np.abs(painted[0].astype(int) - [(40, 120, 200), (20, 60, 100), (0, 0, 0)]).max() <= 2


def test_hue_saturation_and_brightness() -> None:
    grey = np.full((4, 4, 3), 77, np.uint8)
    assert np.array_equal(HueShift(123).change_input(grey, at()), grey)
    assert np.array_equal(HueShift(brightness=2).change_input(grey, at()), grey * 2)
    colourless = HueShift(saturation=0).change_input(SMALL, at())
    assert (np.ptp(colourless, axis=-1) <= 1).all()
    red = np.full((1, 1, 3), (120, 0, 0), np.uint8)
    assert HueShift(120).change_input(red, at())[0, 0].argmax() == 1, "120 degrees on, red is green"
    assert np.array_equal(HueShift(360, 0.5).change_input(SMALL, at()), HueShift(0, 0.5).change_input(SMALL, at()))
    assert np.allclose(HueShift(50).matrix() @ HueShift(70).matrix(), HueShift(120).matrix(), atol=0.01)


def test_a_picture_is_pasted_where_it_says() -> None:
    small = np.full((4, 6, 3), 200, np.uint8)
    pasted = Paste(small, x=60, y=-2).change_input(SMALL, at())
    assert (pasted[:2, 60:] == 200).all() and not differ(pasted, SMALL)[2:].any()
    glass = np.concatenate([small, np.full((4, 6, 1), 51, np.uint8)], axis=2)
    pasted = Paste(glass, x=1, y=1).change_input(SMALL, at())
    mixed = SMALL[1:5, 1:7] * 0.8 + 200 * 0.2
    assert np.abs(pasted[1:5, 1:7] - mixed).max() <= 1


# --- noise, and earlier pictures --------------------------------------------------------------------------------------


def through(interventions: Sequence[Intervention], frames: np.ndarray[Any, Any], *, seed: int = 3, first: int = 0,
            saved: dict[str, Any] | None = None, history: Any = None) -> tuple[list[Any], InterventionStack]:
    """What an agent would see of some pictures."""
    stack = InterventionStack(interventions, agent=FakeAgent(), seed=seed, first_step=first, history=history)
    if saved is not None:
        stack.load(saved)
    return [stack.change_input({"pov": frame}, first + n, {})["pov"] for n, frame in enumerate(frames)], stack


def pictures(n: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(2).integers(0, 256, (n, 12, 16, 3), dtype=np.uint8)


def test_noise_depends_on_seed_and_step_only() -> None:
    frames = np.repeat(np.full((1, 90, 160, 3), 128, np.uint8), 3, axis=0)
    noise = [through([PixelNoise(20)], frames, seed=seed)[0] for seed in (3, 3, 4)]
    assert all(np.array_equal(a, b) for a, b in zip(*noise[:2], strict=True))
    assert not np.array_equal(noise[0][0], noise[2][0]) and not np.array_equal(noise[0][0], noise[0][1])
    late, _ = through([PixelMask(0, 0, 1, 1), PixelNoise(20)], frames[2:], seed=3, first=2)
    assert np.array_equal(late[0][1:], noise[0][2][1:]), "neither earlier steps nor neighbours in the stack count"
    drawn = noise[0][0].astype(float) - 128
    assert abs(drawn.mean()) < 0.5 and abs(drawn.std() - 20) < 0.5


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(0, 12))
def test_the_picture_of_some_steps_ago(age: int, cut: int) -> None:
    frames = pictures(12)
    seen, _ = through([FramePatch(age=age)], frames)
    for step, picture in enumerate(seen):
        assert np.array_equal(picture, frames[step - age] if step >= age else frames[step])
    # Taken up again from a snapshot, as JSON and arrays would carry it, nothing is missing.
    _, stack = through([FramePatch(age=age)], frames[:cut])
    rest, _ = through([FramePatch(age=age)], frames[cut:], first=cut, saved=stack.save())
    assert all(np.array_equal(a, b) for a, b in zip(rest, seen[cut:], strict=True))


def test_an_earlier_picture_is_known_though_the_schedule_slept() -> None:
    frames = pictures(10)
    seen, _ = through([FramePatch(age=3, schedule=Schedule(at=8))], frames)
    assert [np.array_equal(a, b) for a, b in zip(seen, frames, strict=True)] == [True] * 8 + [False, True]
    assert np.array_equal(seen[8], frames[5])
    still, _ = through([FramePatch(step=4, region=Region(0, 0, 8, 12))], frames)
    for step, picture in enumerate(still):
        assert np.array_equal(picture[:, :8], frames[min(step, 4)][:, :8])
        assert np.array_equal(picture[:, 8:], frames[step][:, 8:])


def test_it_gets_the_picture_as_it_comes_to_it() -> None:
    frames = pictures(4)
    dark = PixelMask(0, 0, 4, 4)
    behind, _ = through([dark, FramePatch(age=1)], frames)
    before, _ = through([FramePatch(age=1), dark], frames)
    assert np.array_equal(behind[2], before[2]) and np.array_equal(behind[2][4:], frames[1][4:])
    only_late = PixelMask(0, 0, 4, 4, schedule=Schedule(at=1))
    seen, _ = through([only_late, FramePatch(age=1)], frames)
    assert not seen[2][:4, :4].any() and seen[1][:4, :4].any()


def test_a_fork_remembers_through_its_history() -> None:
    frames = pictures(8)

    class Kept:
        def frames(self, first: int, last: int) -> np.ndarray[Any, Any]:
            return frames[first:last]

    seen, _ = through([FramePatch(age=3)], frames[5:], first=5, history=Kept())
    assert [np.array_equal(a, b) for a, b in zip(seen, frames[2:5], strict=True)] == [True] * 3
    unknown, _ = through([FramePatch(age=3)], frames[5:], first=5)
    assert np.array_equal(unknown[0], frames[5])


# --- objects ----------------------------------------------------------------------------------------------------------


def test_only_the_robe_is_painted(world: World, pov: np.ndarray[Any, Any]) -> None:
    state = world.world_state(segmentation=True)
    assert state.parts is not None and state.segmentation is not None
    (robe,) = [number for number, name in state.part_names.items() if name == "robe"]
    painted = Recolour("#00ffff", region=ROBE).change_input(pov, at(world))
    changed = differ(painted, pov)
    assert changed.any() and np.array_equal(changed, state.parts == robe)
    (number,) = [entity.id for entity in state.entities if entity.type == "villager"]
    assert (state.segmentation[changed] == number).all()
    by_tag = Recolour("#00ffff", region={"object": "target", "part": "robe"}).change_input(pov, at(world))
    assert np.array_equal(painted, by_tag)


def test_the_robe_is_what_another_robe_would_change(world: World, pov: np.ndarray[Any, Any]) -> None:
    """The world with a desert villager is the measure: the same pixels, and with ``instead_of`` nearly the colours."""
    with make_world(villager(robe="desert")) as other:
        desert = other.reset(seed=SEED)[0]["pov"]
    painted = Recolour("#db9049", instead_of="#674c46", region=ROBE).change_input(pov, at(world))
    real, ours = differ(desert, pov), differ(painted, pov)
    assert np.array_equal(real, ours)
    # Sleeves have a colour of their own in that world; the rest is as if dyed.
    gap = np.abs(desert[real].astype(int) - painted[real]).mean(axis=1)
    assert np.median(gap) < 3 and gap.max() < 40


def test_parts_of_a_creature_make_up_the_whole(world: World, pov: np.ndarray[Any, Any]) -> None:
    def pixels(**region: Any) -> np.ndarray[Any, Any]:
        return differ(PixelMask(region={"object": "villager", **region}, colour="#ff00ff").change_input(pov, at(world)),
                      pov)

    parts = [pixels(part=part) for part in ("head", "robe", "hands", "legs")]
    assert all(part.any() for part in parts) and np.array_equal(np.sum(parts, axis=0), pixels().astype(int))
    assert np.array_equal(pixels(part=["head", "legs"]), parts[0] | parts[3])
    assert not pixels(part=["hat", "apron"]).any()
    assert np.array_equal(pixels(invert=True), ~pixels())
    kernel = np.ones((5, 5), np.uint8)
    hud = world.world_state(segmentation=True).parts == HUD_PART
    assert np.array_equal(pixels(grow=2), (cv2.dilate(pixels().astype(np.uint8), kernel) > 0) & ~hud)


def test_the_display_belongs_to_no_object(world: World, pov: np.ndarray[Any, Any]) -> None:
    hud = world.world_state(segmentation=True).parts == HUD_PART
    grass = differ(PixelMask(region={"object": "grass_block"}, colour="#ff00ff").change_input(pov, at(world)), pov)
    assert hud.any() and not (grass & hud).any()
    shown = differ(PixelMask(region={"object": "hud"}, colour="#ff00ff").change_input(pov, at(world)), pov)
    assert np.array_equal(shown, hud)


@pytest.mark.parametrize("name", ["leaves", "*_leaves", ["oak_leaves", "birch_leaves", "spruce_leaves"]])
def test_several_blocks_by_one_name(world: World, pov: np.ndarray[Any, Any], name: Any) -> None:
    state = world.world_state(segmentation=True)
    assert state.segmentation is not None and state.parts is not None
    leaves = [number for number, name in state.names.items() if name.endswith("_leaves")]
    expected = np.isin(state.segmentation, leaves) & (state.parts != HUD_PART)
    changed = PixelMask(region={"object": name}, colour="#ff00ff").change_input(pov, at(world))
    assert expected.any() and np.array_equal(differ(changed, pov), expected)


def test_what_is_not_in_sight_changes_nothing(world: World, pov: np.ndarray[Any, Any]) -> None:
    assert PixelMask(region={"object": "cow"}).change_input(pov, at(world)) is pov
    assert Inpaint(region={"object": "cow"}).change_input(pov, at(world)) is pov
    everything = PixelMask(region={"object": "cow", "invert": True}).change_input(pov, at(world))
    assert not everything.any()


# --- taken out of the picture, left in the world ----------------------------------------------------------------------


def clear(world: World, *blocks: str) -> None:
    """Really remove all blocks of these kinds, without making the stored box larger: its chunks decide last bits."""
    state = world.world_state(blocks=True)
    assert state.blocks is not None
    for block in blocks:
        cells = np.argwhere(state.blocks == catalogue().blocks[block].id)
        for y, z, x in cells + np.array(state.blocks_origin)[[1, 2, 0]]:
            world.command(f"/setblock {x} {y} {z} minecraft:air")


def test_leaves_leave_the_picture_and_stay_in_the_world(world: World, pov: np.ndarray[Any, Any]) -> None:
    """Against the same world really without leaves: the leaves' pixels are equal, bytes and all.

    The others differ from it where leaves dim or shade what is beside them; with ``relight`` none does.
    """
    frozen = world.snapshot()
    state = world.world_state(segmentation=True, blocks=True)
    assert state.segmentation is not None and state.blocks is not None
    leaves = [number for number, name in state.names.items() if name.endswith("_leaves")]
    with make_world(villager()) as other:
        other.reset(seed=SEED)
        clear(other, "oak_leaves", "birch_leaves")
        bare, blocks = other.render(), other.world_state(blocks=True).blocks
    assert not np.isin(blocks, leaves).any() and np.isin(state.blocks, leaves).any()

    painted = Inpaint(region={"object": "leaves"}).change_input(pov, at(world))
    were = np.isin(state.segmentation, leaves)
    assert np.array_equal(painted[were], bare[were]), "behind the leaves is what a world without them shows"
    assert np.array_equal(painted[~were], pov[~were]), "all else stays"
    beside = differ(bare, pov) & ~were
    assert 0 < beside.sum() < 0.01 * were.sum(), "light and shade on what is beside them"
    relit = Inpaint(region={"object": "leaves"}, relight=True).change_input(pov, at(world))
    assert np.array_equal(relit, bare)

    assert world.snapshot() == frozen
    assert np.array_equal(world.render(), pov)


def test_a_villager_leaves_the_picture(world: World, pov: np.ndarray[Any, Any]) -> None:
    with make_world(villager(creature="none")) as empty:
        alone = empty.reset(seed=SEED)[0]["pov"]
    relit = Inpaint(region={"object": "target"}, relight=True).change_input(pov, at(world))
    assert np.array_equal(relit, alone)
    painted = Inpaint(region={"object": "target"}).change_input(pov, at(world))
    changed = differ(painted, pov)
    assert np.array_equal(painted[changed], alone[changed])
    shadow = differ(painted, alone)
    assert shadow.any(), "its shadow stays"
    guessed = Inpaint(region={"object": "target"}, method="telea").change_input(pov, at(world))
    assert not np.array_equal(guessed, painted)
    assert (differ(guessed, pov) <= (changed | differ(guessed, painted))).all()


def test_the_aimed_blocks_outline_is_that_of_the_barer_world() -> None:
    """Under leaves, close enough to reach them: the outline goes with them, and what is behind gets its own."""
    scenario = Scenario.model_validate({
        "name": "hedge", "world": {"blocks": [
            {"fill": "oak_leaves", "from": [-1, 100, 2], "to": [1, 102, 2]},
            {"fill": "oak_log", "from": [0, 101, 3], "to": [0, 101, 3]}]},
        "player": {"at": [0.5, 100, 0.5], "yaw": 0}, "episode": {"max_steps": 10}})
    with make_world(scenario) as hedge:
        seen = hedge.reset(seed=SEED)[0]["pov"]
        looking = hedge.world_state().looking_at
        assert looking is not None and looking.name == "oak_leaves" and looking.reachable
        relit = Inpaint(region={"object": "leaves"}, relight=True).change_input(seen, at(hedge))
        hedge.command("/fill -1 100 2 1 102 2 minecraft:air")
        assert np.array_equal(relit, hedge.render())


def test_the_episode_goes_on_as_if_nobody_had_looked(world: World) -> None:
    """An agent that does not look plays the same world, byte for byte, whatever it is shown."""
    class Blind(NoopAgent):
        def act(self, observation: Any, state: Any, rng: Any, *, hooks: Any = ()) -> Any:
            output = super().act(observation, state, rng, hooks=hooks)
            camera, attack = np.array([rng.normal(0, 3), rng.normal(0, 9)], np.float32), rng.integers(0, 2)
            return type(output)(action=noop_action() | {"camera": camera, "attack": attack, "forward": 1},
                                state=output.state)

    @dataclass
    class Seen:
        rows: list[Any]

        def begin(self, episode: Any) -> None: ...
        def end(self, result: Any) -> None: ...
        def on_step(self, step: Any) -> None:
            self.rows.append((step.observation["pov"].tobytes(), repr(step.info), world.snapshot()))

    shown: list[list[Any]] = []
    for stack in ([], [Inpaint(region={"object": "leaves"}), Recolour("#ff0000", region=ROBE),
                       PixelNoise(30, region={"object": "sky"}), Inpaint(region={"object": "target"}, relight=True)]):
        watcher = Seen([])
        run_episode(world, Blind(), seed=5, max_steps=12, observers=[watcher], interventions=stack)
        shown.append(watcher.rows)
    assert shown[0] == shown[1]


def test_changes_of_the_world_are_seen_at_once(world: World) -> None:
    """What is left out is that of this moment, also after blocks and creatures came, went and grew the grid."""
    edit = Inpaint(region={"object": "oak_log"}, relight=True)
    world.reset(seed=SEED)
    for commands in (["/setblock 1 101 3 minecraft:oak_log"], ["/fill -1 100 4 -1 103 4 minecraft:oak_log"],
                     ["/setblock 60 101 90 minecraft:oak_log", "/setblock 1 102 3 minecraft:glass"],
                     ["/time set 18000", "/kill @e[type=villager]"]):
        for command in commands:
            world.command(command)
        picture = edit.change_input(world.render(), at(world))
        frozen = world.snapshot()
        clear(world, "oak_log")
        assert np.array_equal(picture, world.render())
        world.restore(frozen)
    with pytest.raises(WorldError, match="numbers of blocks"):
        world.picture_without([0])


# --- recordings -------------------------------------------------------------------------------------------------------

SEEN = (Recolour("#ff0000", region=ROBE, name="painted"), Inpaint(region={"object": "leaves"}),
        PixelNoise(25, region={"object": "grass_block"}, schedule=Schedule(between=(2, 6))),
        FramePatch(age=3, region=Region(0, 0, 200, 100)), PixelBlur(4, region={"object": "target", "invert": True}))


@dataclass(frozen=True)
class Gold(Intervention):
    """A change of the world right before the picture."""

    site = "world"

    def change_world(self, moment: Moment) -> Sequence[str]:
        return [f"/setblock {moment.step - 3} 100 5 minecraft:oak_log"]


def record(folder: Path, interventions: Sequence[Intervention], n: int = 8) -> Recording:
    with Recorder(folder) as recorder, make_world(villager()) as world:
        run_episode(world, FakeAgent(), seed=3, max_steps=n, observers=[recorder], interventions=interventions)
    return open_recording(recorder.path)


def test_a_replay_sees_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES["harness.interventions"], "Gold", f"{__name__}:Gold")
    logs = PixelMask(region={"object": "oak_log"}, colour="#ffff00")
    recording = record(tmp_path, [*SEEN, Gold(schedule=Schedule(at=(2, 5))), logs])
    assert differ(recording.agent_pov[5], recording.pov[5]).any()
    report = replay_recording(recording, agent=FakeAgent())
    assert report.ok and not report.notes, report.divergences
    assert report.n_frames == report.n_actions == len(recording)


def test_a_replay_finds_another_edit(tmp_path: Path) -> None:
    recording = record(tmp_path, [Recolour("#ff0000", region=ROBE)])
    header = json.loads((recording.path / "header.json").read_text())
    header["interventions"][0]["colour"] = [255, 0, 1]
    (recording.path / "header.json").write_text(json.dumps(header))
    report = replay_recording(open_recording(recording.path), agent=FakeAgent())
    assert [d.column.split("[")[0] for d in report.divergences] == ["agent_frame"]


def test_where_the_world_is_another_one_the_recording_says_what_was_seen(tmp_path: Path) -> None:
    recording = record(tmp_path, SEEN)
    with make_world(villager(robe="desert")) as other:
        report = replay_recording(recording, agent=FakeAgent(), world=other)
    assert [d.column.split("[")[0] for d in report.divergences] == ["frame"]
    assert report.n_actions == len(recording)
    (note,) = [note for note in report.notes if "taken from the recording" in note]
    assert "from step 0 on" in note and "Recolour and Inpaint" in note
    header = json.loads((recording.path / "header.json").read_text())
    header["world"]["actions_matter"] = False  # as of a world that nobody can play again
    (recording.path / "header.json").write_text(json.dumps(header))
    report = replay_recording(open_recording(recording.path), agent=FakeAgent())
    assert report.ok and report.n_actions == len(recording)
    assert any("taken from the recording" in note for note in report.notes)


def test_a_snapshot_keeps_the_pictures_that_are_needed(tmp_path: Path) -> None:
    frames = np.random.default_rng(5).integers(0, 256, (6, 36, 64, 3), dtype=np.uint8)
    _, stack = through([FramePatch(age=2)], frames)
    write_snapshot(tmp_path, Snapshot(6, None, {}, {}, stack.save()))
    (path,) = tmp_path.iterdir()
    memo = read_snapshot(path).interventions["0"]["memo"]
    assert set(memo) == {"3", "4", "5"}
    assert all(np.array_equal(picture, frames[int(step)]) for step, picture in memo.items())
    assert path.stat().st_size < 1.5 * frames[3:].nbytes, "pictures are packed, not written out as numbers"


# --- descriptions and errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [
    PixelMask(1, 2, 3, 4, (5, 6, 7)), PixelMask(region=Region(1, 2, 3, 4, grow=2)), PixelMask(region=ROBE),
    PixelBlur(2.5, region={"object": "sky", "invert": True}), PixelNoise(3, schedule=Schedule(at=4)),
    Recolour("#102030", instead_of=(1, 2, 3), region={"object": ["cow", "pig"], "part": ["head", "legs"]}),
    Recolour((1, 2, 3), shading=False), HueShift(90, 0.5, 2), FramePatch(age=7), FramePatch(step=0),
    FramePatch(values=SMALL, region={"x0": 1, "y0": 1, "x1": 9, "y1": 9}), Paste(SMALL[:3, :3], x=-1, y=4),
    Inpaint(region={"object": "leaves"}, relight=True), Inpaint(region=Region(0, 0, 9, 9), method="telea", radius=5),
], ids=lambda made: type(made).__name__)
def test_a_description_builds_the_same_again(made: Intervention) -> None:
    told = json.loads(json.dumps(made.describe()))
    assert build_intervention(told) == made and told["site"] == "input"
    assert hash(build_intervention(told)) == hash(made)


@pytest.mark.parametrize(("spec", "message"), [
    ({"kind": "PixelMask", "region": {"x0": 0, "y0": 0, "x1": 0, "y1": 4}}, "PixelMask: region: expected whole"),
    ({"kind": "PixelMask", "x0": 0, "y0": 0, "x1": 3}, "PixelMask: expected whole numbers"),
    ({"kind": "PixelMask", "x0": 0, "y0": 0, "x1": 3, "y1": 3, "region": ROBE}, "both say where"),
    ({"kind": "PixelMask", "region": {"obect": "cow"}}, 'unknown key of region "obect"'),
    ({"kind": "PixelMask", "region": {}}, "either x0, y0, x1 and y1 or object"),
    ({"kind": "PixelMask", "region": {**ROBE, "x0": 1}}, "got both"),
    ({"kind": "PixelMask", "region": "villager"}, "expected {x0, y0, x1, y1}"),
    ({"kind": "PixelMask", "region": {"object": ["cow", 3]}}, "object: expected a name"),
    ({"kind": "PixelMask", "region": {"object": "villager", "part": "rob"}}, 'unknown part of villager "rob"'),
    ({"kind": "PixelMask", "region": {"object": "cow", "part": "robe"}}, 'unknown part of cow "robe"'),
    ({"kind": "PixelMask", "region": {"x0": 0, "y0": 0, "x1": 4, "y1": 4, "part": "robe"}}, "needs an object"),
    ({"kind": "PixelMask", "region": {"object": "cow", "grow": 101}}, "from -100 to 100 pixels"),
    ({"kind": "PixelMask", "region": {"object": "cow", "invert": 1}}, "expected true or false"),
    ({"kind": "PixelMask", "colour": "blue"}, "expected a colour"),
    ({"kind": "PixelBlur", "sigma": 0}, "expected sigma from above 0"),
    ({"kind": "PixelBlur"}, "PixelBlur needs sigma"),
    ({"kind": "PixelNoise", "std": float("nan")}, "expected std"),
    ({"kind": "Recolour", "colour": [1, 2]}, "expected a colour"),
    ({"kind": "Recolour", "colour": [1, 2, 3], "instead_of": [0, 0, 0]}, "black has no luminance"),
    ({"kind": "Recolour", "colour": [1, 2, 3], "instead_of": [1, 0, 0], "shading": False}, "shading is off"),
    ({"kind": "HueShift"}, "changes nothing"),
    ({"kind": "HueShift", "degrees": 360}, "changes nothing"),
    ({"kind": "HueShift", "saturation": -1}, "expected a number from 0 on"),
    ({"kind": "FramePatch"}, "one of values, age and step, got none"),
    ({"kind": "FramePatch", "age": 1, "step": 2}, "got age and step"),
    ({"kind": "FramePatch", "age": 129}, "from 1 to 128"),
    ({"kind": "FramePatch", "step": -1}, "from 0 on"),
    ({"kind": "FramePatch", "age": 5, "at": [1, 4]}, "has a picture from step 5 on"),
    ({"kind": "FramePatch", "step": 5, "between": [0, 5]}, "has a picture from step 6 on"),
    ({"kind": "FramePatch", "values": [[1, 2], [3, 4]]}, "expected a picture"),
    ({"kind": "FramePatch", "values": [[[1, 2, 300]]]}, "expected a picture"),
    ({"kind": "FramePatch", "values": {"recording": "x"}}, "in Python give the array"),
    ({"kind": "Paste", "picture": [[[0.5, 0.5, 0.5]]]}, "expected a picture"),
    ({"kind": "Paste", "x": 3}, "needs picture"),
    ({"kind": "Inpaint"}, "needs a region"),
    ({"kind": "Inpaint", "region": ROBE}, "not a part"),
    ({"kind": "Inpaint", "region": {"object": "sky"}}, "whole blocks and creatures"),
    ({"kind": "Inpaint", "region": {"x0": 0, "y0": 0, "x1": 4, "y1": 4}}, "the region names none"),
    ({"kind": "Inpaint", "region": {"object": "cow"}, "method": "tela"}, 'unknown method of Inpaint "tela"'),
    ({"kind": "Inpaint", "region": {"object": "cow"}, "method": "telea", "relight": True}, "relight needs"),
    ({"kind": "Inpaint", "region": {"object": "cow"}, "radius": 0}, "1 to 32 pixels"),
])
def test_what_does_not_fit_is_named(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InterventionError, match=message.replace("{", r"\{")) as found:
        build_intervention(spec, where="scenario x")
    assert "(" not in type(found.value).__name__ and found.value.where == "scenario x"


@pytest.mark.parametrize(("made", "able", "message"), [
    (PixelMask(region=ROBE), Capabilities("fake"), "which pixels show what, and the fake backend does not"),
    (PixelMask(region=ROBE), Capabilities("fake", segmentation=True), "parts of its creatures"),
    (Inpaint(region={"object": "cow"}), Capabilities("fake", segmentation=True), "cannot draw its world without"),
    (PixelBlur(2), Capabilities("fake", narrow=True), "acts on the whole picture"),
    (PixelMask(640, 0, 641, 9), Capabilities("fake"), "lies outside the picture of 640 x 360"),
    (FramePatch(values=SMALL), Capabilities("fake"), "a picture of 640 x 360 pixels, got 64 x 36"),
    (Paste(SMALL, x=640), Capabilities("fake"), "lies outside the 640 x 360"),
])
def test_a_world_that_does_not_fit_is_refused_before_anything_is_played(made: PictureEdit, able: Capabilities,
                                                                         message: str) -> None:
    with pytest.raises(InterventionError, match=message):
        made.check(NoopAgent(), able)


def test_object_edits_need_a_world_that_knows_objects() -> None:
    with FakeWorld(make_scenario()) as stripes, pytest.raises(InterventionError, match="the fake backend does not"):
        run_episode(stripes, FakeAgent(), interventions=[Recolour("#ff0000", region={"object": "cow"})])
    with pytest.raises(InterventionError, match="there is none here"):
        through([PixelMask(region={"object": "cow"})], pictures(1))
    with pytest.raises(InterventionError, match="there is none here"):
        through([Inpaint(region={"object": "cow"}, relight=True)], pictures(1))


def test_narrow_pictures_are_refused() -> None:
    with make_world(villager(), agent_input=True) as narrow, \
            pytest.raises(InterventionError, match="only the columns that its agent reads"):
        run_episode(narrow, NoopAgent(), interventions=[PixelMask(0, 0, 9, 9)])


def test_unknown_objects_are_named(world: World) -> None:
    for name, near in (("vilager", "villager"), ("oak_leafs", "oak_leaves"), ("targt", "target"), ("*_leavs", "")):
        with pytest.raises(InterventionError, match=f'PixelMask: unknown tag, creature or block "{name}"'.replace(
                "*", r"\*")) as found:
            InterventionStack([PixelMask(region={"object": name})], agent=NoopAgent(), seed=0, world=world)
        assert near in str(found.value)


def test_the_documented_example_runs_and_its_yaml_builds(world: World) -> None:
    (page,) = [path for path in (Path(__file__).parents[2] / "docs").glob("interventions*.md")
               if "leaves-painted-out" in path.read_text(encoding="utf-8")]
    text = page.read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "import Inpaint" in block]
    names: dict[str, Any] = {}
    exec(compile(code, str(page), "exec"), names)
    (block,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "leaves-painted-out" in block]
    built = {name: build_intervention(spec) for name, spec in yaml.safe_load(block)["interventions"].items()}
    assert built["robe-painted"] == names["painted"] and built["leaves-painted-out"] == names["leafless"]
    InterventionStack(list(built.values()), agent=NoopAgent(), seed=0, world=world)
