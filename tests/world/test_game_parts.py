"""What every game backend shares: time limits, processes, counters, and the crosshair from a pose."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import GameError, ScenarioError
from harness.scenario.dialect import check_command
from harness.scenario.setup import EntitySetup, Fill, WorldSetup
from harness.world.game_process import GameProcess, free_port, kill, last_lines
from harness.world.game_statistics import flat_statistics, risen
from harness.world.sight import Scene, direction
from harness.world.watchdog import Watchdog

# ---- the watchdog


def test_watchdog_returns_values_and_exceptions() -> None:
    dog = Watchdog("test", lambda: pytest.fail("nothing was overdue"))
    assert dog.run("a call", 5.0, lambda a, b: a + b, 2, 3) == 5
    with pytest.raises(ZeroDivisionError):
        dog.run("a call", 5.0, lambda: 1 // 0)
    assert dog.run("a call", 5.0, threading.current_thread) is not threading.current_thread()
    dog.close()


def test_watchdog_ends_what_an_overdue_call_waits_for() -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        ended = []
        dog = Watchdog("test", lambda: (sleeper.kill(), ended.append(True)))
        with pytest.raises(GameError, match=r"a step took longer than 0\.1 s"):
            dog.run("a step", 0.1, sleeper.wait)
        assert ended and sleeper.wait(5) < 0
        assert dog.run("a call", 5.0, lambda: 7) == 7, "the watchdog is of no more use after a call was overdue"
        dog.close()
        until = time.monotonic() + 5
        while any(thread.name == "test" for thread in threading.enumerate()) and time.monotonic() < until:
            time.sleep(0.01)
        assert not any(thread.name == "test" for thread in threading.enumerate()), "a thread is left"
    finally:
        sleeper.kill()
        sleeper.wait()


# ---- processes


def test_a_process_ends_with_all_that_it_started() -> None:
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True); sys.stdin.read()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None and parent.stdin is not None
    try:
        child = GameProcess.of(int(parent.stdout.readline()))
        own = GameProcess.of(parent.pid)
        assert child is not None and own is not None and child.alive
        assert own.family() == [child, own]
        kill([own])
        assert not child.alive and not own.alive
        assert own.family() == []
    finally:
        parent.kill()
        parent.communicate()


def test_a_number_that_another_process_got_is_left_alone() -> None:
    own = GameProcess.of(subprocess.os.getpid())
    assert own is not None
    stranger = GameProcess(own.pid, "1")
    assert not stranger.alive
    kill([stranger])  # this very process, were it not for the start time


def test_the_last_lines_of_the_youngest_log(tmp_path) -> None:
    assert last_lines(tmp_path) == [] and last_lines(tmp_path / "none.log") == []
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mc.log").write_text("\n".join(f"line {i}" for i in range(1000)), encoding="utf-8")
    assert last_lines(tmp_path, 2) == ["line 998", "line 999"]


def test_a_free_port_can_be_listened_on() -> None:
    first = free_port()
    assert 1024 <= first < 65536 and free_port(first) >= first


# ---- counters


def test_counters_of_every_backend_get_one_name() -> None:
    minerl = {"kill_entity": {"villager": 1}, "damage_dealt": {"damage_dealt": 210}, "pov": b"", "life": 20.0}
    minestudio = {"kill_entity": {"villager": 1}, "custom": {"damage_dealt": 210}}
    game = {"minecraft:killed": {"minecraft:villager": 1}, "minecraft:custom": {"minecraft:damage_dealt": 210}}
    wanted = {"kill_entity.villager": 1, "damage_dealt": 210}
    assert flat_statistics(minerl) == flat_statistics(minestudio) == flat_statistics(game) == wanted
    assert flat_statistics({"mined": {"oak_log": 0}, "xpos": 3.0}) == {}


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 9)), st.dictionaries(st.text(max_size=3), st.integers(0, 9)))
def test_deltas_are_what_was_added(before: dict[str, int], added: dict[str, int]) -> None:
    now = {name: before.get(name, 0) + added.get(name, 0) for name in {*before, *added}}
    assert risen(now, before) == {name: n for name, n in added.items() if n}


# ---- the crosshair


def _scene(**keywords) -> Scene:
    villager = EntitySetup("villager", (0.5, 100.0, 3.5), tag="target", ai=False)
    return Scene(WorldSetup("scene", 0, entities=(villager,), **keywords))


def test_the_crosshair_meets_the_creature_in_front() -> None:
    sight = _scene().look((0.5, 100.0, 0.5), 0.0, 0.0)
    assert sight is not None and (sight.kind, sight.name, sight.tag) == ("entity", "villager", "target")
    assert sight.distance == pytest.approx(2.7) and sight.reachable
    assert _scene().look((0.5, 100.0, 0.0), 0.0, 0.0).reachable is False  # 3.2 blocks
    assert _scene().look((0.5, 100.0, 0.5), 180.0, 0.0) is None


def test_a_block_between_hides_it_until_it_is_mined() -> None:
    scene = _scene(fills=(Fill((0, 101, 2), (0, 101, 2), "oak_log"),))
    sight = scene.look((0.5, 100.0, 0.5), 0.0, 0.0)
    assert sight is not None and (sight.name, sight.position, sight.distance) == ("oak_log", (0.0, 101.0, 2.0), 1.5)
    scene.dig("oak_log", [sight])
    assert scene.look((0.5, 100.0, 0.5), 0.0, 0.0).name == "villager"


def test_ground_fills_and_commands() -> None:
    scene = _scene()
    down = scene.look((0.5, 100.0, 0.5), 0.0, 90.0)
    assert down is not None and (down.name, down.position) == ("grass_block", (0.0, 99.0, 0.0))
    assert scene.command("/setblock 0 99 0 minecraft:stone")
    assert scene.look((0.5, 100.0, 0.5), 0.0, 90.0).name == "stone"
    assert scene.command("/fill 0 99 0 3 99 3 minecraft:air replace minecraft:stone")
    assert scene.block((0, 99, 0)) == "air" and scene.block((1, 99, 1)) == "grass_block"
    assert not scene.command("/fill ~ ~ ~ 3 99 3 minecraft:air"), "a fill that counts from the player is not known"
    assert not scene.command("/kill @e[tag=target]") and scene.targets == ()


@given(st.floats(-180, 180), st.floats(-90, 90))
def test_a_view_is_a_unit_vector(yaw: float, pitch: float) -> None:
    x, y, z = direction(yaw, pitch)
    assert x * x + y * y + z * z == pytest.approx(1.0)
    assert (y <= 0) == (pitch >= 0) or abs(pitch) < 1e-9


# ---- commands


@pytest.mark.parametrize("text", ["/time set", "/time set ", "/setblock 0 100 3", "/summon", "/tp"])
def test_a_command_that_is_cut_off_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError, match=r"takes at least \d arguments?"):
        check_command(text)


@pytest.mark.parametrize("text", ["/time set 18000", "/time query daytime", "/tp @p", "/summon minecraft:cow", "/help"])
def test_a_whole_command_passes(text: str) -> None:
    assert check_command(text) == text
