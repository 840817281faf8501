"""State variables: those of worlds that are known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import FakeAgent, FakeWorld, make_scenario

from harness.agent.agent import Agent
from harness.agent.scripted import NoopAgent, ReplayAgent
from harness.analysis import privileged as module
from harness.analysis.privileged import SEEN, VARIABLES, find_variable, privileged_state
from harness.errors import HarnessError, RecordingError
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import World, make_world


def play(folder: Path, world: World, agent: Agent, steps: int) -> Recording:
    with world, Recorder(folder) as recorder:
        run_episode(world, agent, seed=1, max_steps=steps, observers=[recorder])
    return open_recording(recorder.path)


def villager(**parameters: Any) -> World:
    return make_world(load_scenario("villager", parameters={"distance": 2, "trees": 0, **parameters}))


NAMES = ("distance:target", "in_view:villager", "share:villager", "crosshair:villager", "reach:target",
         "distance:leaves", "in_view:leaves", "distance:logs", "in_view:logs", "speed", "pitch", "on_ground", "health",
         "hurt")


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, dict[str, np.ndarray]]:
    """Two steps before a villager two blocks ahead, then a turn about, then steps forward."""
    about = [{}, {"camera": [0.0, 180.0]}, *[{"forward": 1}] * 6]
    recording = play(tmp_path_factory.mktemp("v"), villager(), ReplayAgent(actions=about), len(about))
    return recording, dict(zip(NAMES, privileged_state(recording, NAMES).T, strict=True))


def test_they_are_of_the_moment_of_the_picture(turned: tuple[Recording, dict[str, np.ndarray]]) -> None:
    recording, found = turned
    assert found["distance:target"][0] == pytest.approx(2.0, abs=0.01)
    assert found["in_view:villager"].tolist() == [1, 1] + [0] * 6, "row 2 is the first picture after the turn"
    assert found["crosshair:villager"].tolist() == [1, 1] + [0] * 6 and found["reach:target"][0] == 1
    assert found["share:villager"][0] > 2 and not found["share:villager"][2:].any()
    # Row i's pose is the one after its action, so that of picture i + 1.
    z = recording.steps["pose.position"]
    for row in range(3, 8):
        assert found["distance:target"][row] == pytest.approx(math.hypot(z[row - 1][0] - 0.5, z[row - 1][2] - 2.5))
    assert found["speed"][0] == 0 and found["speed"][-1] > 1
    assert found["on_ground"].all() and (found["health"] == 20).all() and not found["hurt"].any()


def test_what_is_not_there_has_no_distance(turned: tuple[Recording, dict[str, np.ndarray]]) -> None:
    _, found = turned
    assert np.isnan(found["distance:logs"]).all() and not found["in_view:logs"].any()
    assert found["distance:leaves"][0] < 1.5


def test_every_so_many_pictures(turned: tuple[Recording, dict[str, np.ndarray]]) -> None:
    recording, found = turned
    some = privileged_state(recording, ["pitch", "distance:target"], every=3)
    assert some.shape == (3, 2)
    np.testing.assert_array_equal(some[:, 1], found["distance:target"][::3])


def test_being_hurt_lasts_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = play(tmp_path, villager(), NoopAgent(), 30)
    real = module.recorded_moments

    class Hit:
        def __init__(self, world: World, now: bool) -> None:
            self.capabilities, self._world, self._now = world.capabilities, world, now

        def world_state(self, **what: bool) -> Any:
            state = self._world.world_state(**what)
            return replace(state, events=({"type": "player_hurt"},)) if self._now else state

    monkeypatch.setattr(module, "recorded_moments", lambda r: (Hit(w, i == 4) for i, w in enumerate(real(r))))
    hurt = privileged_state(recording, ["hurt"])[:, 0]
    assert hurt.tolist() == [0] * 4 + [1] * 20 + [0] * 6


def test_names_are_checked(turned: tuple[Recording, dict[str, np.ndarray]], tmp_path: Path) -> None:
    recording, _ = turned
    assert find_variable("share:*_log") == (VARIABLES["share"], "*_log") and SEEN == 64
    for name in ("in_view", "pitch:logs", "in_veiw:logs", "in_view:"):
        with pytest.raises(HarnessError, match="unknown state variable"):
            find_variable(name)
    with pytest.raises(HarnessError, match="villager"):
        privileged_state(recording, ["in_view:vilager"])
    stripes = play(tmp_path, FakeWorld(make_scenario(6)), FakeAgent(), 6)
    stripes.header["world"]["backend"] = "nowhere"
    with pytest.raises(HarnessError, match="nowhere"):
        privileged_state(stripes, ["pitch"])
    stripes.header["world"]["actions_matter"] = False
    with pytest.raises(RecordingError, match="cannot be played again"):
        privileged_state(stripes, ["pitch"])


def test_what_is_overhead_and_what_is_being_broken() -> None:
    blocks = np.zeros((6, 3, 4), np.uint8)  # [y, z, x] from (10, 100, 20)
    blocks[4, 1, 2] = 7

    def overhead(x: float, y: float, z: float) -> float:
        state = SimpleNamespace(blocks=blocks, blocks_origin=(10, 100, 20), player=SimpleNamespace(position=(x, y, z)))
        return VARIABLES["overhead"].of(SimpleNamespace(state=state, numbers=[7, 1003]))  # type: ignore[arg-type]

    assert overhead(12.9, 100.0, 21.1) == 1.0 == overhead(12.0, 102.0, 21.0)
    assert overhead(12.9, 103.0, 21.1) == 0.0  # the head is in it or beside it, not below
    assert overhead(11.9, 100.0, 21.1) == 0.0 == overhead(99.0, 100.0, 21.0)

    def breaking(*, reachable: bool, attacked: bool) -> float:
        at = SimpleNamespace(kind="block", name="oak_log", reachable=reachable)
        state = SimpleNamespace(looking_at=at, names={7: "oak_log"})
        return VARIABLES["breaking"].of(SimpleNamespace(state=state, numbers=[7], attacked=attacked))  # type: ignore[arg-type]

    assert breaking(reachable=True, attacked=True) == 1.0
    assert breaking(reachable=False, attacked=True) == 0.0 == breaking(reachable=True, attacked=False)
