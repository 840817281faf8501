"""MCio's real client, mcio_ctrl, against a stand-in of its game.

    python3.12 -m venv /somewhere && /somewhere/bin/pip install mcio_ctrl "cbor2<6"
    pip install pyzmq "cbor2<6"
    HARNESS_MCIO_PYTHON=/somewhere/bin/python pytest tests/world/test_mcio.py
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from harness.errors import GameError, WorldError
from harness.scenario.dialect import SETTLE
from harness.scenario.load import load_scenario
from harness.scenario.schema import Scenario
from harness.world import conformance
from harness.world.action import KEYS, noop_action
from harness.world.game_process import free_port
from harness.world.mcio import DOMAIN_SHIFT, MCioWorld
from harness.world.world import World, make_world

HERE = Path(__file__).resolve().parent
PYTHON = os.environ.get("HARNESS_MCIO_PYTHON")
real_client = pytest.mark.skipif(PYTHON is None, reason="HARNESS_MCIO_PYTHON names no Python with mcio_ctrl")


class StandIn:
    """A game of its own process."""

    def __init__(self, fault: str, log: Path) -> None:
        self.ports = {"action_port": free_port(), "observation_port": free_port()}
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "standin_mcio.py"), *map(str, self.ports.values()), fault], stdout=file,
                stderr=file)

    def lines(self) -> list[str]:
        return self._log.read_text(encoding="utf-8").splitlines()


@contextlib.contextmanager
def game(tmp_path: Path, fault: str = "@0") -> Iterator[StandIn]:
    pytest.importorskip("zmq")
    standin = StandIn(fault, tmp_path / "log")
    try:
        while "READY" not in standin.lines():
            assert standin.process.poll() is None, standin.lines()
            with contextlib.suppress(subprocess.TimeoutExpired):
                standin.process.wait(0.2)
        yield standin
    finally:
        standin.process.kill()
        standin.process.wait()


def mcio(scenario: Scenario, standin: StandIn, **more: Any) -> MCioWorld:
    return MCioWorld(scenario, python=PYTHON, **{"patience": 60.0, **standin.ports, **more})


def played(world: World, actions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [world.step(action)[4] for action in actions]


def punches(n: int) -> list[dict[str, Any]]:
    """A press, and released until the next one counts."""
    return [{"attack": int(i % 12 == 0)} for i in range(n)]


@real_client
def test_the_villager_dies_as_in_blockworld(tmp_path: Path) -> None:
    """The same keys, and the same outcomes by the game's own counters."""
    told = load_scenario("villager").model_dump(mode="json", by_alias=True)
    told["world"]["entities"][0]["health"] = 2.0
    scenario = Scenario.model_validate(told)
    actions = [{"camera": [0.0, -2.32]}, *[{"forward": 1}] * 18, *punches(30)]
    with make_world(scenario) as here:
        here.reset(seed=1)
        wanted = played(here, actions)[-1]
    with game(tmp_path) as standin, mcio(scenario, standin) as world:
        observation, info = world.reset(seed=1)
        assert observation["pov"].shape == (360, 640, 3) and observation["pov"].std() > 10
        start = info["pose"]
        got = played(world, actions)[-1]
        assert not [line for line in standin.lines() if line.startswith("REFUSED")]
        source, notes = world.source(), world.notes()
    assert wanted["outcomes"]["killed_villager"]["value"] and wanted["outcomes"]["looked_at_villager"]["value"]
    for name, outcome in wanted["outcomes"].items():
        assert got["outcomes"][name]["value"] == outcome["value"], name
        assert abs((got["outcomes"][name]["first_step"] or 0) - (outcome["first_step"] or 0)) <= 1, name
    for name in ("damage_dealt", "kill_entity.villager"):
        assert got["statistics"][name] == wanted["statistics"][name]
    assert -180.0 <= start["yaw"] < 180.0 and source["remote"]["python"] >= "3.12"
    assert source["domain_shift"] == DOMAIN_SHIFT and notes[0] == DOMAIN_SHIFT and "1.21.3" in DOMAIN_SHIFT
    assert len(notes) == 2 and "crosshair" in notes[1]


@real_client
def test_commands_are_carried_out_in_the_order_they_were_written(tmp_path: Path) -> None:
    scenario = load_scenario("villager")
    with game(tmp_path) as standin, mcio(scenario, standin) as world:
        world.reset(seed=1)
        kinds = [line.split()[2] for line in standin.lines() if line.startswith("TICK")]
    from harness.scenario.compile import compile_scenario, to_commands
    setup = compile_scenario(scenario, seed=1)
    assert kinds == [line.removeprefix("/").split()[0] for line in to_commands(setup, "1.21")]


@real_client
def test_every_key_alone_and_the_camera(tmp_path: Path) -> None:
    with game(tmp_path) as standin, mcio(load_scenario("meadow"), standin) as world:
        world.reset(seed=1)
        yaw, pitch = (world.world_state().player.yaw, world.world_state().player.pitch)
        info = world.step({"camera": np.array([3.0, -6.0], np.float32)})[4]
        assert abs(info["pose"]["pitch"] - pitch - 3.0) < 0.01 and abs(info["pose"]["yaw"] - yaw + 6.0) < 0.01
        for key in KEYS:
            if key != "camera":
                world.step(noop_action() | {key: 1})
        assert dict(world.ignored) == {"ESC": 1}, "ESC would end the client's episode, so it is not sent"
        world.step({})


@real_client
@pytest.mark.parametrize(("fault", "words"), [
    ("drop", "did not answer within"), ("size", r"got uint8 \[180, 320, 3\]"), ("garbage", "got uint8"),
    ("version", "got uint8"), ("exit", "did not answer within"),
])
def test_a_game_that_misbehaves_ends_the_episode(tmp_path: Path, fault: str, words: str) -> None:
    scenario = Scenario.model_validate({"name": "empty"})
    with game(tmp_path, f"{fault}@500") as standin, mcio(scenario, standin, patience=20.0) as world:
        world.reset(seed=1)
        with pytest.raises(GameError, match=words):
            for _ in range(1000):
                world.step({})
        assert not world._processes()


@real_client
def test_a_slow_game_is_waited_for_and_a_death_is_an_end(tmp_path: Path) -> None:
    scenario = Scenario.model_validate({"name": "empty", "episode": {"max_steps": 600}})
    with game(tmp_path, "slow@430") as standin, mcio(scenario, standin) as world:
        world.reset(seed=1)
        assert not any(world.step({})[2] for _ in range(3))
        world.command("/kill @p")
        assert world.world_state().player.health == 0.0


@real_client
@pytest.mark.parametrize("check", conformance.CHECKS)
def test_conformance(check: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a game that carries commands out at once, so that a world is built in some ticks instead of hundreds."""
    monkeypatch.setenv("STANDIN_PROMPT", "1")
    monkeypatch.setitem(cast(dict[str, int], SETTLE), "1.21", 2)
    scenario = load_scenario("meadow")
    scenario = scenario.model_copy(update={"episode": scenario.episode.model_copy(update={"max_steps": 20})})
    with contextlib.ExitStack() as games:
        def make() -> World:
            (folder := tmp_path / str(next(numbers))).mkdir()
            return mcio(scenario, games.enter_context(game(folder)))
        numbers = itertools.count()
        check(make)


# ---- without the client


def test_bad_input() -> None:
    scenario = load_scenario("meadow")
    with pytest.raises(WorldError, match="opens its menu unless a save is named"):
        MCioWorld(scenario, instance="main")
    with pytest.raises(WorldError, match="action_port: expected a port"):
        MCioWorld(scenario, action_port=0)
    with pytest.raises(WorldError, match="patience: expected a number above 0, got 'abc'"):
        MCioWorld(scenario, patience="abc")
    with pytest.raises(WorldError, match="there is no Python"):
        make_world(scenario, "mcio", python="/nowhere")


@pytest.mark.skipif(sys.platform != "linux", reason="X")
def test_a_game_of_ours_needs_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    with MCioWorld(load_scenario("meadow"), instance="main", save="harness") as world, pytest.raises(
            WorldError, match="the game of mcio needs an X display, and DISPLAY is not set"):
        world.reset(seed=1)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python could run it")
def test_an_older_python_is_named() -> None:
    with MCioWorld(load_scenario("meadow")) as world, pytest.raises(WorldError, match=r"3.12 or newer, and this is 3"):
        world.reset(seed=1)


@real_client
def test_no_game_is_named() -> None:
    port = free_port()
    with MCioWorld(load_scenario("meadow"), python=PYTHON, action_port=port) as world, pytest.raises(
            WorldError, match=f"no game answers at port {port}"):
        world.reset(seed=1)
