"""A world in a process of its own: the same as here, and no engine's end is ours."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes import make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.scripted import NoopAgent
from harness.errors import WorldError
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world import conformance, serve
from harness.world.remote import Remote, RemoteWorld
from harness.world.world import World, make_world

HERE = Path(__file__).resolve().parent
FAR_SIDE = ("serve.py", "gymnasium_driver.py", "mcio_driver.py", "../errors.py")


def remote(python: str | None = sys.executable, **keywords: object) -> Remote:
    """By its path, our own Python counts as another one: as little comes along as for a stranger."""
    return Remote("remote_engines:Engine", python=python, path=[HERE], **keywords)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def engine() -> Iterator[Remote]:
    made = remote()
    made.start()
    yield made
    made.close()


def gone(pid: int, within: float = 10.0) -> bool:
    """Whether a process ends: it does not run, or waits for its parent to notice."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


# ---- what goes over


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["u1", "<i2", "<i8", "<f4", "?"]), st.lists(st.integers(0, 5), max_size=3))),
       st.binary(max_size=100))
def test_arrays_and_bytes_come_back_as_they_went(engine: Remote, shapes: list[tuple[str, list[int]]], some: bytes
                                                 ) -> None:
    rng = np.random.default_rng(0)
    sent = [np.asarray(rng.random(shape) * 100).astype(dtype) for dtype, shape in shapes]
    *arrays, named = engine.call("echo", *sent, some=some, nothing=None, deep={"a": [1, [some]]})
    for before, after in zip(sent, arrays, strict=True):
        assert before.dtype == after.dtype and before.shape == after.shape and before.tobytes() == after.tobytes()
    assert named == {"some": some, "nothing": None, "deep": {"a": [1, [some]]}}


def test_an_array_is_a_copy(engine: Remote) -> None:
    first = engine.call("picture", 2, 3, 7)
    engine.call("picture", 2, 3, 9)
    assert (first == 7).all()
    big = engine.call("picture", 1000, 1000, 1)  # the memory grows
    assert big.shape == (1000, 1000, 3) and (big == 1).all()


def test_the_far_side_needs_numpy_alone(engine: Remote) -> None:
    loaded = set(engine.call("loaded", "harness.world.gymnasium_driver", "harness.world.mcio_driver"))
    strangers = loaded - set(sys.stdlib_module_names) - {"numpy", "harness", "remote_engines", "__mp_main__"}
    assert not {name for name in strangers if not name.startswith("_")}, "imported over there without need"
    assert "numpy" in loaded and engine.call("own") == [
        "harness", "harness.errors", "harness.world", "harness.world.gymnasium_driver", "harness.world.mcio_driver"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    bare = subprocess.run([sys.executable, "-c", "import sys; print(*sys.path, sep=chr(10))"], cwd=HERE, env=environment,
                          capture_output=True, text=True, check=True).stdout.splitlines()
    assert set(engine.call("path")) <= {*bare, str(HERE)}, "a foreign Python gets none of our folders"


@pytest.mark.parametrize("name", FAR_SIDE)
def test_the_far_side_runs_in_an_old_python(name: str) -> None:
    source = (Path(serve.__file__).parent / name).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    assert any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)


# ---- what goes wrong


def test_a_death_is_told_with_the_last_lines() -> None:
    engine = remote()
    engine.start()
    with pytest.raises(WorldError, match=r"(?s)died while it was asked to die.*exit status 3.*OutOfMemory.*last line"):
        engine.call("die", 3)
    with pytest.raises(WorldError, match="does not run"):
        engine.call("count")
    engine.start()
    assert engine.call("count") == 1
    with pytest.raises(WorldError, match="signal 6"):
        engine.call("abort")
    assert engine.pid is None


def test_a_hang_is_ended() -> None:
    engine = remote(patience=0.5)
    engine.start()
    pid, began = engine.pid, time.monotonic()
    with pytest.raises(WorldError, match=r"(?s)did not answer within 0.5 s.*hanging"):
        engine.call("hang", 60)
    assert time.monotonic() - began < 10 and pid is not None and gone(pid)


@pytest.mark.parametrize("text", [
    b"\xff\xff\xff\xff", b"\0\0\0\4junk", b"\0\0\0\2[]", b'\0\0\0\x2e{"value": {"__array__": ["|u1", [9999], 0]}} ',
    b'\0\0\0\x2c{"value": {"__array__": ["|O", [1], 0]}}    ', b'\0\0\0\x26{"value": {"__bytes__": [-1, 400]}}  ',
    b"\0\0\0\4\xff\xfe\xfd\xfc",
])
def test_garbage_is_refused(text: bytes) -> None:
    engine = remote()
    engine.start()
    pid = engine.pid
    with pytest.raises(WorldError, match="answered nonsense"):
        engine.call("garbage", text)
    assert pid is not None and gone(pid) and engine.pid is None


def test_what_an_engine_raises_is_told_and_it_goes_on(engine: Remote) -> None:
    with pytest.raises(WorldError, match=r"(?s)while it was asked to fail: ValueError: bad mood.*remote_engines"):
        engine.call("fail")
    with pytest.raises(WorldError, match="cannot send a object"):
        engine.call("unspeakable")
    for hidden in ("__init__", "_private", "nothing"):
        with pytest.raises(WorldError, match=hidden):
            engine.call(hidden)
    assert engine.call("echo", 1) == [1]


def test_starting_goes_wrong() -> None:
    with pytest.raises(WorldError, match="there is no Python"):
        remote(python="/nowhere/python")
    with pytest.raises(WorldError, match="died while starting"):
        remote(python="false").start()
    with pytest.raises(WorldError, match=r"(?s)died while starting.*exit status 5.*the engine starts"):
        remote(keywords={"fail": "die"}).start()
    with pytest.raises(WorldError, match="RuntimeError: no display"):
        remote(keywords={"fail": "raise"}).start()
    with pytest.raises(WorldError, match="no_such_module"):
        Remote("no_such_module:Engine").start()


def test_ctrl_c_in_a_call_ends_the_engine() -> None:
    engine = remote()
    engine.start()
    pid = engine.pid
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        engine.call("hang", 60)
    timer.join()
    assert engine.pid is None and pid is not None and gone(pid)


def test_nothing_is_left(engine: Remote) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    threads = threading.active_count()
    for _ in range(2):
        other = remote()
        other.start()
        pids = other.call("grandchild")
        other.close()
        other.close()
        assert all(map(gone, pids)), "the engine's own child stayed"
    assert sorted(os.listdir("/proc/self/fd")) == before and threading.active_count() == threads


@pytest.mark.parametrize("busy", [False, True])
def test_a_killed_parent_leaves_nobody(busy: bool) -> None:
    program = f"""
import sys
from harness.world.remote import Remote
engine = Remote("remote_engines:Engine", path=[{str(HERE)!r}])
engine.start()
print(*engine.call("grandchild"), flush=True)
engine.call("hang", 60) if {busy} else sys.stdin.read()
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdin and parent.stdout
    with parent.stdin, parent.stdout:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
        parent.wait()
        assert all(gone(pid, serve.GRACE + 10) for pid in pids)


# ---- a world over there


class FakeRemote(RemoteWorld):
    """Serves ``fakes.FakeWorld``, which no registry of a fresh process knows."""

    _factory = "hosted_fake:HostedFake"


def fake_world(trick: str = "", **keywords: object) -> World:
    return FakeRemote(make_scenario(40), path=[HERE, HERE.parent], engine="fake", options={"trick": trick},
                      **keywords)  # type: ignore[arg-type]


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_conformance(check) -> None:  # type: ignore[no-untyped-def]
    check(fake_world)


def test_a_picture_of_another_size_is_refused() -> None:
    with fake_world(trick="size") as world:
        world.reset(seed=1)
        world.step({})
        with pytest.raises(WorldError, match=r"expected uint8 \[360, 640, 3\], got uint8 \[36, 64, 3\]"):
            world.step({"jump": 1})
        world.reset(seed=1)
        world.step({})


def test_an_episode_fails_and_the_next_is_played() -> None:
    with fake_world(trick="die") as world:
        agent = NoopAgent()
        with pytest.raises(WorldError, match="died"):
            run_episode(world, agent, seed=0)
        world.reset(seed=1)
        assert world.step({})[4]["tick"] == 1


def test_a_fresh_process_every_so_many_episodes() -> None:
    with fake_world(restart_every=2) as world:
        pids = []
        for _ in range(4):
            world.reset(seed=1)
            pids.append(world._remote.pid)  # type: ignore[attr-defined]
        assert pids[0] == pids[1] != pids[2] == pids[3]
    with pytest.raises(WorldError, match="restart_every"):
        fake_world(restart_every=0)


def test_blockworld_over_there_is_blockworld_here() -> None:
    scenario = load_scenario("villager")
    actions = conformance.some_actions(6)
    with make_world(scenario) as here, make_world(scenario, backend="remote") as there:
        assert there.capabilities == here.capabilities
        for world in (here, there):
            world.reset(seed=3)
        for action in actions:
            mine, theirs = here.step(action), there.step(action)
            assert mine[0]["pov"].tobytes() == theirs[0]["pov"].tobytes() and mine[4]["pose"] == theirs[4]["pose"]
        assert there.snapshot() == here.snapshot()
        all_of_it = {"segmentation": True, "depth": True, "blocks": True}
        assert repr(there.world_state(**all_of_it)) == repr(here.world_state(**all_of_it))
    with pytest.raises(WorldError, match="unknown world"):
        make_world(scenario, backend="remote", engine="blockwrld")
    with pytest.raises(WorldError, match="unknown option of the blockworld backend \"python\""):
        make_world(scenario, python="python3")
