"""What learners see is what agents see; noise; episodes that come back from their tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agent.action_mapping import BUTTON_NAMES, N_BUTTONS, N_CAMERA, NULL_CAMERA, button_table, from_policy
from harness.agent.preprocessing import policy_frame
from harness.errors import TrainingError
from harness.training.classroom import Classroom, load_teacher
from harness.training.demonstrations import Bursts, collect_demonstrations, play_again
from harness.training.recipe import Noise, SceneChoice
from harness.training.scenes import Scenes
from harness.world.blockworld.world import BlockWorld

SEEDS = [1_500_000_000, 1_500_000_001, 1_500_000_002]
SHAPE = (128, 128, 3)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes([SceneChoice(scenario="woods", parameters={"slot": [0, 1]}), SceneChoice(scenario="lone-trunk")])


@pytest.fixture
def room(scenes: Scenes) -> Classroom:
    return Classroom(scenes, load_teacher("chopper"), 2, SHAPE)


def test_frames_equal_the_preprocessing_of_full_pictures(room: Classroom, scenes: Scenes) -> None:
    """Byte for byte what the deployed agent makes of the 640 x 360 picture."""
    for episode in collect_demonstrations(room, SEEDS, 12, Noise(start=0.3)):
        world = BlockWorld(scenes.scenario(episode.seed))
        observation, _ = world.reset(seed=episode.seed)
        assert observation["pov"].shape == (360, 640, 3)
        for frame, tokens in zip(episode.frames, episode.tokens, strict=True):
            assert np.array_equal(frame, policy_frame(observation["pov"]))
            observation, *_ = world.step(from_policy(*map(int, tokens)))


def test_an_episode_is_its_seed_and_tokens(room: Classroom, scenes: Scenes) -> None:
    episodes = collect_demonstrations(room, SEEDS, 20, Noise(start=0.3))
    other = Classroom(scenes, load_teacher("chopper"), 3, SHAPE)
    again = play_again(other, [(e.seed, e.noisy, e.tokens) for e in reversed(episodes)])
    for one, two in zip(episodes, reversed(again), strict=True):
        assert (one.seed, one.noisy) == (two.seed, two.noisy)
        for name in ("tokens", "frames", "labels", "hints"):
            assert np.array_equal(getattr(one, name), getattr(two, name)), name


def test_a_changed_world_is_noticed(room: Classroom) -> None:
    """A trunk within reach is chopped and the episode ends: more tokens than that cannot be played."""
    seeds = [seed for seed in range(SEEDS[0], SEEDS[0] + 40)][:1]
    near = Scenes([SceneChoice(scenario="lone-trunk", parameters={"distance": 2, "yaw": 0})])
    room = Classroom(near, load_teacher("chopper"), 1, SHAPE)
    (episode,) = collect_demonstrations(room, seeds, 200, Noise(start=0.0))
    assert len(episode) < 100
    longer = np.concatenate([episode.tokens, np.zeros((5, 2), np.int16)])
    with pytest.raises(TrainingError, match="now ends after"):
        play_again(room, [(episode.seed, True, longer)])


def test_without_noise_the_teacher_is_followed(room: Classroom) -> None:
    for episode in collect_demonstrations(room, SEEDS[:2], 30, Noise(start=0.0)):
        assert np.array_equal(episode.tokens, episode.labels)
        assert not (episode.labels == [0, NULL_CAMERA]).all(), "it does something"


def test_a_teacher_who_is_not_obeyed_does_not_believe_itself_stuck(room: Classroom) -> None:
    """Standing still is not pushing against a wall: no hops are advised."""
    jump = button_table()[:, BUTTON_NAMES.index("jump")]
    room.begin(0, SEEDS[0], 60, noisy=False)
    room.begin(1, SEEDS[1], 60, noisy=False)
    for _ in range(30):
        for moment in room.moments():
            assert moment is not None and not jump[moment.label[0]]
        room.play([(0, NULL_CAMERA)] * 2)


def test_only_privileged_agents_teach() -> None:
    with pytest.raises(TrainingError, match='"random" cannot teach'):
        load_teacher("random")


@given(st.integers(0, 2**32), st.floats(0, 1), st.integers(1, 20), st.integers(0, N_BUTTONS - 1))
def test_bursts(seed: int, start: float, longest: int, buttons: int) -> None:
    """Whatever is carried out is an action; no noise changes nothing, and the same stream gives the same noise."""
    noise = Noise(start=start, longest=longest)
    first, second = (Bursts(noise, np.random.default_rng(seed)) for _ in range(2))
    for _ in range(20):
        pair = first.disturb((buttons, NULL_CAMERA))
        assert pair == second.disturb((buttons, NULL_CAMERA))
        assert 0 <= pair[0] < N_BUTTONS and 0 <= pair[1] < N_CAMERA
        if start == 0.0:
            assert pair == (buttons, NULL_CAMERA)


def test_bursts_take_their_share() -> None:
    """With rate p per quiet tick and mean length m, a share of about p m / (1 + p m) of the ticks is disturbed."""
    noise = Noise(start=0.04, longest=8)
    bursts = Bursts(noise, np.random.default_rng(0))
    marked = (8639, 0)
    share = np.mean([bursts.disturb(marked) != marked for _ in range(20_000)])
    assert share == pytest.approx(0.04 * 4.5 / (1 + 0.04 * 3.5), abs=0.02)
