"""What every backend must do, as checks that a backend's own test calls.

    @pytest.mark.parametrize("check", conformance.CHECKS)
    def test_conformance(check):
        check(lambda: make_world(scenario, backend="mine"))

Each check makes worlds, closes them, and raises ``AssertionError`` with a sentence where the contract is broken. What a
backend says it cannot do (``World.capabilities``) must be refused with a ``WorldError``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
from gymnasium import spaces

from harness.errors import WorldError
from harness.scenario.load import load_scenario
from harness.world.action import KEYS, Action, action_space
from harness.world.world import World, make_world

__all__ = [
    "CHECKS", "bench_world", "check_actions", "check_closing", "check_commands", "check_episode", "check_looking",
    "check_seeds", "check_snapshots", "check_spaces", "check_world", "some_actions",
]

Make = Callable[[], World]
_INFO = ("tick", "statistics", "events", "outcomes", "pose", "health")


def check_world(make: Make) -> None:
    """Every check, one after the other.

    Args:
        make: Builds a new world each time it is called; its scenario lasts at least 20 steps.
    """
    for check in CHECKS:
        check(make)


def bench_world() -> World:
    """The world that agents and interventions are tried in: the bundled scenario ``villager`` in blockworld."""
    return make_world(load_scenario("villager"))


def some_actions(n: int, seed: int = 0) -> list[Action]:
    """Random actions with moderate turns, the same for the same seed."""
    space = action_space()
    space.seed(seed)
    actions = []
    for _ in range(n):
        action = space.sample()
        action["camera"] = (action["camera"] / 18.0).astype(np.float32)
        action["ESC"] = action["inventory"] = 0  # a screen that stays open would hide the rest
        actions.append(action)
    return actions


def _refused(call: Callable[[], Any], what: str) -> None:
    try:
        call()
    except WorldError as problem:
        assert str(problem), f"{what}: the refusal says nothing"
    else:
        raise AssertionError(f"{what} must be refused with a WorldError")


def check_spaces(make: Make) -> None:
    """24 keys, a picture of bytes, and observations that lie in the space."""
    with closing(make()) as world:
        assert isinstance(world, World), "a backend's class is a World"
        assert isinstance(world.action_space, spaces.Dict), "the action space is a Dict"
        assert set(world.action_space.keys()) == set(KEYS), "the action has MineRL's 24 keys"
        observation, _ = world.reset(seed=1)
        pov = observation["pov"]
        assert set(observation) == {"pov"}, "the observation holds the picture and nothing else"
        assert pov.dtype == np.uint8 and pov.ndim == 3 and pov.shape[2] == 3, "pov is uint8 [H, W, 3]"
        assert world.observation_space.contains(observation), "the observation lies in its space"


def check_seeds(make: Make) -> None:
    """The same seed and actions give the same episode, in one world and in two."""
    actions = some_actions(12)
    with closing(make()) as world, closing(make()) as other:
        if not world.capabilities.deterministic:
            return
        first = _played(world, actions, seed=11)
        assert _played(world, actions, seed=11) == first, "a second episode from the same seed differs"
        assert _played(other, actions, seed=11) == first, "the same seed in another world differs"


def _played(world: World, actions: list[Action], seed: int | None = None) -> list[Any]:
    """Pictures and infos of an episode, from a reset if there is a seed, else from where the world stands."""
    seen: list[Any] = []
    if seed is not None:
        observation, info = world.reset(seed=seed)
        seen.append((observation["pov"].tobytes(), repr(info)))
    for action in actions:
        observation, reward, terminated, truncated, info = world.step(action)
        seen.append((observation["pov"].tobytes(), reward, terminated, truncated, repr(info)))
    return seen


def check_episode(make: Make) -> None:
    """Five values a step, info with all its keys, statistics that never fall, the end at ``max_steps``."""
    with closing(make()) as world:
        _refused(lambda: world.step({}), "a step before the first reset")
        _, info = world.reset(seed=2)
        assert set(_INFO) <= set(info), f"info lacks {sorted(set(_INFO) - set(info))}"
        counted: dict[str, int] = dict(info["statistics"])
        limit = min(world.scenario.episode.max_steps, 60)
        for index, action in enumerate(some_actions(limit)):
            observation, reward, terminated, truncated, info = world.step(action)
            assert world.observation_space.contains(observation), "the observation lies in its space"
            assert isinstance(reward, float), "the reward is a float"
            assert isinstance(terminated, bool) and isinstance(truncated, bool), "terminated and truncated are bools"
            assert set(_INFO) <= set(info), f"info lacks {sorted(set(_INFO) - set(info))}"
            for name, value in counted.items():
                assert info["statistics"].get(name, 0) >= value, f"the statistic {name} fell"
            counted = dict(info["statistics"])
            if terminated or truncated:
                assert terminated or index + 1 == world.scenario.episode.max_steps, "cut off before max_steps"
                return
        assert limit < world.scenario.episode.max_steps, "the episode outlasted max_steps"


def check_actions(make: Make) -> None:
    """Missing keys are released; unknown keys and values out of range are refused."""
    with closing(make()) as world:
        world.reset(seed=3)
        world.step({})
        world.step({"camera": [1.0, -1.0], "forward": 1})
        _refused(lambda: world.step({"fly": 1}), "an unknown action key")
        _refused(lambda: world.step({"forward": 2}), "a button pressed twice as much")
        _refused(lambda: world.step({"camera": [float("nan"), 0.0]}), "a camera that is no number")
        _refused(lambda: world.step({"camera": [0.0]}), "a camera of one number")
        _refused(lambda: world.reset(options={"unknown": 1}), "an unknown option of reset")


def check_looking(make: Make) -> None:
    """Rendering and reading more changes nothing; what is read fits together."""
    actions = some_actions(8)
    with closing(make()) as world, closing(make()) as watched:
        able = world.capabilities
        plain = _played(world, actions, seed=4)
        seen = _played(watched, [], seed=4)
        for action in actions:
            seen += _played(watched, [action])
            state = watched.world_state(segmentation=able.segmentation, depth=able.depth, blocks=able.entities)
            assert (state.segmentation is not None) == able.segmentation, "segmentation is there where promised"
            assert (state.depth is not None) == able.depth, "depth is there where promised"
            assert (state.parts is not None) == able.parts, "parts are there where promised"
            picture = watched.render()
            if not able.without:
                _refused(lambda: watched.picture_without([1]), "a picture without something")
            elif able.deterministic:
                assert watched.picture_without([]).tobytes() == picture.tobytes(), "a picture without nothing differs"
            if able.deterministic:
                assert picture.tobytes() == seen[-1][0], "a picture drawn again differs"
            for image in (state.segmentation, state.depth, state.parts):
                assert image is None or image.shape == picture.shape[:2], "segmentation, depth, parts fit the picture"
            assert picture.shape[:2] == able.picture, "the picture has the size that is told"
        if able.deterministic:
            assert seen == plain, "looking changed the episode"


def check_snapshots(make: Make) -> None:
    """snapshot, k steps, restore, k steps = the same; also in another world; foreign bytes are refused."""
    actions = some_actions(16)
    with closing(make()) as world, closing(make()) as other:
        if not world.capabilities.snapshots:
            world.reset(seed=5)
            _refused(world.snapshot, "a snapshot of a backend without them")
            return
        past = _played(world, actions[:8], seed=5)
        frozen = world.snapshot()
        assert isinstance(frozen, bytes), "a snapshot is bytes"
        first = _played(world, actions[8:])
        world.restore(frozen)
        assert world.snapshot() == frozen, "a snapshot of a restored world differs from the one restored"
        observation, info = world.observe()
        assert (observation["pov"].tobytes(), repr(info)) == (past[-1][0], past[-1][-1]), \
            "a restored world shows or tells something else than it did"
        assert _played(world, actions[8:]) == first, "the future after a restore differs"
        other.restore(frozen)
        assert _played(other, actions[8:]) == first, "the future in another world differs"
        _refused(lambda: world.restore(b"not a snapshot"), "foreign bytes")
        _refused(lambda: world.restore(frozen[:-1]), "a snapshot that is cut off")


def check_commands(make: Make) -> None:
    """Commands work between steps where promised; a wrong one is refused by name and changes nothing."""
    with closing(make()) as world:
        world.reset(seed=6)
        if not world.capabilities.commands:
            _refused(lambda: world.command("/time set 6000"), "a command to a backend without them")
            return
        world.command("/time set 18000")
        assert world.world_state().time == 18000, "/time set changes the time"
        before = world.world_state()
        for wrong in ("/fly", "/time set", "/summon minecraft:vilager 0 100 0", "/setblock 0 100 3 minecraft:oak_lo"):
            _refused(lambda wrong=wrong: world.command(wrong), f"the command {wrong!r}")  # type: ignore[misc]
        assert repr(world.world_state()) == repr(before), "a refused command changed something"
        world.step({})


def check_closing(make: Make) -> None:
    """A world is closed twice without complaint, also one that was never reset."""
    world = make()
    world.close()
    world.close()
    with make() as entered:
        entered.reset(seed=7)
    entered.close()


CHECKS: tuple[Callable[[Make], None], ...] = (
    check_spaces, check_seeds, check_episode, check_actions, check_looking, check_snapshots, check_commands,
    check_closing,
)
"""The checks, for ``pytest.mark.parametrize``."""
