"""What every game backend does alike, with the embedded world as the engine, in this process."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from harness.errors import GameError, WorldError
from harness.scenario.load import load_scenario
from harness.scenario.schema import Scenario
from harness.scenario.setup import WorldSetup
from harness.world import conformance
from harness.world.action import Action
from harness.world.blockworld.world import BlockWorld
from harness.world.game_process import GameProcess
from harness.world.game_world import GameFrame, GameWorld, whole_picture
from harness.world.world import Capabilities, make_world


class Game(GameWorld):
    """Blockworld that tells as little as MineRL does, and as late."""

    capabilities = Capabilities("game", commands=True, raycast=False, missing_keys=("drop",))
    session_ticks = 400
    lag = 1
    wrong = ""

    def _start(self, setup: WorldSetup, seed: int) -> GameFrame:
        self.engine = BlockWorld(Scenario.model_validate({"name": "engine"}))
        self.engine.reset(seed=seed)
        self.counted = [{}] * (self.lag + 1)
        return self._tell()

    def _play(self, action: Action) -> GameFrame:
        if self.wrong == "hang":
            time.sleep(1.0)
        if self.wrong == "crash":
            raise ConnectionResetError("gone")
        assert not action["drop"], "a key that does nothing here got through"
        self.engine.step(action)
        return self._tell()

    def _send(self, commands: Sequence[str]) -> GameFrame:
        for text in commands:
            self.engine.command(text)
        return self._play(dict.fromkeys(("drop",), 0))

    def _tell(self) -> GameFrame:
        state = self.engine.world_state()
        player = state.player
        self.counted = [*self.counted[1:], dict(state.statistics)]
        held = tuple((slot, *item) for slot, item in enumerate(player.hotbar) if item)
        return GameFrame(self.engine.render(), self.counted[0], player.position, player.yaw, player.pitch,
                         player.health, dead=player.health <= 0, inventory=held)

    def _stop(self) -> None:
        self.engine.close()

    def _processes(self) -> list[GameProcess]:
        return []


class Prompt(Game):
    """Its counters come at once."""

    lag = 0


def short(n: int = 40, **parameters: object) -> Scenario:
    scenario = load_scenario("villager", parameters={"distance": 3, "health": 2, "trees": 0, **parameters})
    return scenario.model_copy(update={"episode": scenario.episode.model_copy(update={"max_steps": n})})


def fight(world, n: int = 40) -> dict:
    """Walk up, turn to the villager and strike until it is dead."""
    _, info = world.reset(seed=5)
    for index in range(n):
        turn = [0.0, 7.5] if index == 5 else [0.0, 0.0]
        _, _, _, _, info = world.step({"forward": index < 4, "camera": turn, "attack": index >= 8 and index % 10 == 8})
    return info["outcomes"]


@pytest.mark.parametrize("check", conformance.CHECKS)
def test_conformance(check) -> None:
    check(lambda: Game(short()))


def test_outcomes_are_blockworlds_own() -> None:
    with contextlib.closing(make_world(short())) as world:
        wanted = fight(world)
    assert wanted["killed_villager"]["value"] and wanted["damaged_villager"]["count"] == 2, "nothing was shown"
    with contextlib.closing(Prompt(short())) as world:
        assert fight(world) == wanted


def test_counters_that_come_late_are_waited_for() -> None:
    with contextlib.closing(Game(short(19))) as world:
        outcomes = fight(world, 19)
    assert outcomes["damaged_villager"] == {"value": True, "first_step": 9, "count": 2}
    assert outcomes["killed_villager"] == {"value": True, "first_step": 18, "count": 1}


def test_a_log_is_mined_and_what_was_behind_it_is_seen() -> None:
    scenario = short(120, trunk="oak_log", creature="none", canopy="none")
    with contextlib.closing(Prompt(scenario)) as world:
        world.reset(seed=5)
        world.command("/tp @p 0.5 100 1.5 0 0")
        seen = [world.step({"attack": 1}) and world.world_state().looking_at for _ in range(100)]
        assert seen[0] is not None and (seen[0].name, seen[0].reachable) == ("oak_log", True)
        state = world.world_state()
        assert state.statistics["mine_block.oak_log"] == 1
        assert seen[-1] is None or seen[-1].position != seen[0].position, "the mined block is still seen"


def test_a_key_that_does_nothing_here_is_counted() -> None:
    with contextlib.closing(Game(short())) as world:
        world.reset(seed=1)
        info = world.step({"drop": 1, "forward": 1})[-1]
        assert info["ignored"] == {"drop": 1} and info["creatures_known"]
        world.command("/kill @e[tag=target]")
        assert not world.step({})[-1]["creatures_known"] and world.world_state().looking_at is None


@pytest.mark.parametrize("wrong, said", [("crash", "a step failed: ConnectionResetError: gone"),
                                         ("hang", "a step took longer than 0.3 s")])
def test_a_game_that_breaks_ends_the_episode_and_the_next_one_begins(wrong: str, said: str) -> None:
    with contextlib.closing(Game(short(), patience=5.0)) as world:
        world.reset(seed=1)
        world.wrong, world._patience = wrong, 0.3
        with pytest.raises(GameError, match=said):
            world.step({})
        with pytest.raises(WorldError, match="no world yet"):
            world.step({})
        world.wrong, world._patience = "", 30.0
        world.reset(seed=2)
        world.step({})


def test_a_world_that_is_not_the_scenarios_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Game._tell
    monkeypatch.setattr(Game, "_tell", lambda self: replace(told(self), health=7.0))
    wanted = pytest.raises(WorldError, match="did not build .* health 20, got 7")
    with contextlib.closing(Game(short())) as world, wanted:
        world.reset(seed=1)
    with contextlib.closing(Game(short(), strict=False)) as world:
        world.reset(seed=1)
        assert world.verification.wrong and "mob" in world.verification.unknown


def test_what_is_refused_before_anything_starts() -> None:
    with contextlib.closing(Game(short(6000))) as world, pytest.raises(WorldError, match="set episode.max_steps to"):
        world.reset(seed=1)
    with pytest.raises(WorldError, match="patience: expected a number above 0, got 0"):
        Game(short(), patience=0)


@pytest.mark.parametrize("picture", [None, np.zeros((64, 64, 3), np.uint8), np.zeros((360, 640, 3), np.float32)])
def test_what_is_no_picture_is_refused(picture: object) -> None:
    with pytest.raises(GameError, match="expected a picture"):
        whole_picture(picture)


def test_a_picture_is_contiguous_whatever_came() -> None:
    upside_down = np.arange(360 * 640 * 3, dtype=np.uint8).reshape(360, 640, 3)[::-1]
    assert whole_picture(upside_down).flags.c_contiguous and (whole_picture(upside_down) == upside_down).all()


@pytest.mark.parametrize("backend, what", [("minestudio", "MineStudio is not installed"),
                                           ("minerl", "MineRL is not installed")])
def test_an_engine_that_is_not_installed_is_named(backend: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(WorldError, match=what) as problem:
        make_world(short(), backend)
    assert "docs/minecraft.md" in str(problem.value)
