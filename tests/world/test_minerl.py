"""MineRL's family of backends through the real client of MineStudio, in front of a stand-in for the game.

    pip install --no-deps --target ENGINES ...     docs/minecraft.md has the whole line
    HARNESS_ENGINES=ENGINES pytest -m engines tests/world/test_minerl.py
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
import minerl_stub
import standin_minerl

from harness.cli import cli
from harness.errors import GameError, WorldError
from harness.recording.recording import open_recording
from harness.scenario.load import load_scenario
from harness.scenario.schema import Scenario
from harness.world import conformance
from harness.world.game_process import GameProcess
from harness.world.world import World, make_world

ENGINES = os.environ.get("HARNESS_ENGINES", "")
pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(not ENGINES, reason="HARNESS_ENGINES names no folder with MineStudio's package"),
    pytest.mark.filterwarnings("ignore"),  # those of the engines' own packages
]

FAULTS = {
    "drop": "the connection to the game broke", "cut": "the connection to the game broke",
    "exit": "the connection to the game broke", "size": "the game sent 12288 bytes for a picture",
    "empty": "the game sent 0 bytes for a picture", "garbage": "a step failed: JSONDecodeError",
    "hang": "a step took longer than 2 s",
}


@pytest.fixture(scope="module", autouse=True)
def _engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The client's package to import, and the stand-in where it looks for the game."""
    if not ENGINES:
        yield
        return
    folder = tmp_path_factory.mktemp("engine")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in standin_minerl.install(folder).items():
            patch.setenv(name, value)
        root = Path(standin_minerl.__file__).parents[2]
        patch.setenv("PYTHONPATH", os.pathsep.join([str(root), ENGINES, str(minerl_stub.write(folder / "stub"))]))
        patch.chdir(folder)
        sys.path += [ENGINES, str(folder / "stub")]
        with socket.socket(socket.AF_UNIX) as display:
            display.bind("\0/tmp/.X11-unix/X4711")
            display.listen()
            patch.setenv("DISPLAY", ":4711")
            yield
        for entry in (ENGINES, str(folder / "stub")):
            sys.path.remove(entry)


def short(n: int = 40, **parameters: object) -> Scenario:
    """The bundled scenario, near and weak enough to end soon."""
    scenario = load_scenario("villager", parameters={"distance": 3, "health": 2, "trees": 0, **parameters})
    return scenario.model_copy(update={"episode": scenario.episode.model_copy(update={"max_steps": n})})


def fight(world: World, n: int = 40) -> tuple[dict, dict]:
    """Walk up, turn to the villager and strike until it is dead: the last outcomes and pose."""
    _, info = world.reset(seed=5)
    for index in range(n):
        turn = [0.0, 7.5] if index == 5 else [0.0, 0.0]
        _, _, terminated, truncated, info = world.step(
            {"forward": index < 4, "camera": turn, "attack": index >= 8 and index % 10 == 8})
        assert (terminated, truncated) == (False, index == n - 1)
    return info["outcomes"], info["pose"]


@contextlib.contextmanager
def entered(backend: str, scenario: Scenario | None = None, **keywords: object) -> Iterator[World]:
    """A world that leaves nothing behind."""
    world = make_world(scenario or short(), backend, **keywords)
    try:
        yield world
    finally:
        family = [member for process in world._processes() for member in process.family()]
        world.close()
        assert not any(process.alive for process in family), "a process is left"


@pytest.mark.parametrize("backend", ["minestudio", "minerl"])
@pytest.mark.parametrize("check", conformance.CHECKS)
def test_conformance(backend: str, check) -> None:
    check(lambda: make_world(short(), backend))


@pytest.mark.parametrize("backend", ["minestudio", "minerl"])
def test_the_villager_dies_as_in_blockworld(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(make_world(short())) as world:
        wanted, pose = fight(world)
    assert wanted["killed_villager"]["value"] and wanted["damaged_villager"]["count"] == 2, "nothing was shown"
    monkeypatch.setenv("STANDIN_PROMPT", "1")
    with entered(backend) as world:
        assert fight(world) == (wanted, pose)
        assert world.verification.wrong == () and not world.ignored
        assert ("mob" in world.verification.unknown) == (backend == "minerl")


def test_the_command_line_plays_and_records(tmp_path: Path) -> None:
    words = ["run", "villager", "--backend", "minestudio", "--agent", "random", "--steps", "5", "--set", "trees=0",
             "--no-hooks", "--out", str(tmp_path)]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    (folder,) = tmp_path.iterdir()
    world = json.loads((folder / "header.json").read_text())["world"]
    assert (world["backend"], world["game"], world["source"]["unverified"]) == ("minestudio", "Minecraft 1.16.5", [])
    assert world["missing_keys"] == ["ESC", "drop", "swapHands"] and world["unknown"]
    assert len(open_recording(folder)) == 5


def test_no_display_is_named_before_the_game_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":4712")
    with entered("minerl") as world, pytest.raises(WorldError, match="DISPLAY=:4712 does not answer"):
        world.reset(seed=1)
    for program, words in (("xvfb-run", "MineStudio starts the game with xvfb-run"), ("java", "no java on PATH")):
        with monkeypatch.context() as patch, entered("minestudio") as world:
            patch.setattr("shutil.which", lambda name, program=program: None if name == program else f"/bin/{name}")
            with pytest.raises(WorldError, match=words):
                world.reset(seed=1)
            assert not world._processes()


def test_late_statistics_count_in_the_end() -> None:
    """The game's counters come a tick late: what they say is the same, and comes one step later."""
    with contextlib.closing(make_world(short(19))) as world:
        wanted, _ = fight(world, 19)
    assert wanted["killed_villager"]["first_step"] == 18, "the villager must die in the very last step"
    with entered("minestudio", short(19)) as world:
        outcomes, _ = fight(world, 19)
    assert {name: outcome["value"] for name, outcome in outcomes.items()} == {
        name: outcome["value"] for name, outcome in wanted.items()}
    assert outcomes["damaged_villager"] == {"value": True, "first_step": 9, "count": 2}
    assert outcomes["killed_villager"] == {"value": True, "first_step": 18, "count": 1}


def test_seeds_commands_and_missing_keys() -> None:
    with entered("minestudio") as world:
        for seed in (11, 12, 11):
            world.reset(seed=seed)
        log = "".join(path.read_text() for path in sorted(world._log().rglob("*.log")))
        seeds = [line.rpartition(":")[2] for line in log.splitlines() if line.startswith("TOKEN")]
        assert seeds == ["11", "12", "11"], "the game was not told the seed of every episode"
        world.step({"drop": 1, "forward": 1})
        world.step({"drop": 1, "swapHands": 1})
        assert world.ignored == {"drop": 2, "swapHands": 1}
        world.command("/setblock 0 101 2 minecraft:oak_log")
        assert world.world_state().looking_at.name in ("oak_log", "villager", "grass_block")
        with pytest.raises(WorldError, match='no entity "vilager"'):
            world.command("/summon minecraft:vilager 0 100 0")
        with pytest.raises(WorldError, match="one line"):
            world.command("/time set 0\n/kill @p")
        with pytest.raises(WorldError, match="257 characters"):
            world.command("/" + 256 * "x")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_game_that_misbehaves_ends_the_episode_and_is_replaced(
        fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STANDIN_ONCE", str(tmp_path / "once"))
    monkeypatch.setenv("STANDIN_FAULT", f"{fault}@110")
    with entered("minestudio", patience=2.0) as world:
        world.reset(seed=1)
        (process,) = world._processes()
        family = process.family()
        with pytest.raises(GameError, match=FAULTS[fault]) as problem:
            for _ in range(80):
                world.step({})
        assert "CLIENT enter state: DORMANT" in str(problem.value) or "fatal error" in str(problem.value)
        assert not any(member.alive for member in family), "the broken game still runs"
        with pytest.raises(WorldError, match="no world yet"):
            world.step({})
        world.reset(seed=2)
        world.step({"forward": 1})
        assert world._processes() != [process]


def test_a_slow_game_and_one_that_is_busy_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_FAULT", "busy@2")
    with entered("minestudio", patience=30.0) as world:
        world.reset(seed=1)
        world.step({})


def test_death_ends_the_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_FAULT", "death@110")
    with entered("minestudio", short(200)) as world:
        world.reset(seed=1)
        ended = next(step for step in (world.step({}) for _ in range(150)) if step[2] or step[3])
        assert ended[2] and not ended[3] and {"type": "player_died"} in ended[4]["events"]
        with pytest.raises(WorldError, match="the player is dead"):
            world.step({})


def test_the_game_is_started_again_after_so_many_episodes() -> None:
    with entered("minestudio", restart_every=2) as world:
        seen = []
        for seed in range(3):
            world.reset(seed=seed)
            seen += world._processes()
        assert seen[0] == seen[1] != seen[2] and not seen[0].alive


def test_a_game_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_FAULT", "start")
    with entered("minestudio") as world, pytest.raises(GameError, match="the stand-in does not start"):
        world.reset(seed=1)


def test_an_episode_too_long_for_one_world() -> None:
    with entered("minestudio", short(6000)) as world, pytest.raises(WorldError, match="plays 6000 in one world"):
        world.reset(seed=1)


def test_stock_minerl_needs_a_saved_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_STOCK", "1")
    monkeypatch.setenv("STANDIN_PROMPT", "1")
    with pytest.raises(WorldError, match="takes no commands"):
        make_world(short(), "minerl")
    with contextlib.closing(make_world(short())) as world:
        wanted, pose = fight(world)
    with entered("minerl", saved_world=True) as world:
        assert fight(world) == (wanted, pose)
        with pytest.raises(WorldError, match="takes no commands"):
            world.command("/time set 0")


def test_nothing_is_left_after_close() -> None:
    threads = threading.active_count()
    with entered("minestudio") as world:
        world.reset(seed=1)
        folder = world._log()
        assert folder.is_dir()
    time.sleep(0.5)
    assert threading.active_count() <= threads + 1 and not folder.exists()
    links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert sum(link.startswith("socket:") for link in links) <= 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_orphan_after_ctrl_c_or_a_crash(number: signal.Signals, tmp_path: Path) -> None:
    code = """
import sys, warnings
warnings.simplefilter("ignore")
from harness.scenario.load import load_scenario
from harness.world.world import make_world
with make_world(load_scenario("villager", parameters={"trees": 0}), "minestudio") as world:
    world.reset(seed=1)
    print("PIDS", *(member.pid for process in world._processes() for member in process.family()), flush=True)
    while True:
        world.step({})
"""
    played = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True)
    assert played.stdout is not None
    line = next(line for line in played.stdout if line.startswith("PIDS"))
    family = [GameProcess.of(int(pid)) for pid in line.split()[1:]]
    assert family and all(family)
    time.sleep(1.0)
    played.send_signal(number)
    played.communicate(timeout=60)
    until = time.monotonic() + 30  # after a crash MineStudio's own watcher looks every ten seconds
    while any(member.alive for member in family if member) and time.monotonic() < until:
        time.sleep(0.5)
    assert not any(member.alive for member in family if member), "a process is left"
