"""The embedded world as a whole: contract, laws, determinism, Gymnasium."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import WorldError
from harness.scenario.load import load_scenario
from harness.world import conformance
from harness.world.action import BUTTONS
from harness.world.blockworld.world import BlockWorld
from harness.world.world import make_world

SMALL = {"size": (64, 36)}


def make(name="villager", **keywords):
    return make_world(load_scenario(name), **{**SMALL, **keywords})


@pytest.mark.parametrize("name", ["villager", "meadow"])
@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_conformance(check, name):
    check(lambda: make(name))


def test_conformance_finds_what_is_broken():
    class Forgetful(BlockWorld):
        def restore(self, snapshot):
            super().restore(snapshot)
            self._simulation.arrays.clock["rng_count"] += 1
            self._simulation.arrays.player["x"] += 0.01

    class Restless(BlockWorld):
        def render(self):
            self._simulation.tick(dict.fromkeys(BUTTONS, 0) | {"camera": [0.0, 1.0]})
            return super().render()

    with pytest.raises(AssertionError, match="snapshot of a restored world differs"):
        conformance.check_snapshots(lambda: Forgetful(load_scenario("villager"), size=(64, 36)))
    with pytest.raises(AssertionError, match="drawn again differs|looking changed"):
        conformance.check_looking(lambda: Restless(load_scenario("villager"), size=(64, 36)))


ACTIONS = st.lists(
    st.tuples(st.sets(st.sampled_from(BUTTONS), max_size=6), st.floats(-20, 20), st.floats(-20, 20),
              st.integers(1, 12)),
    min_size=1, max_size=6)


def spell(drawn):
    for keys, pitch, yaw, n in drawn:
        for _ in range(n):
            yield {**dict.fromkeys(keys, 1), "camera": np.array([pitch, yaw], dtype=np.float32)}


@pytest.fixture(scope="module")
def meadow():
    with make("meadow") as world:
        yield world


def future(world, actions):
    digest = hashlib.sha256()
    for action in actions:
        observation, *_, info = world.step(action)
        digest.update(observation["pov"].tobytes())
        digest.update(repr(info).encode())
    return digest.hexdigest(), world.snapshot()


@settings(max_examples=25, deadline=None)
@given(before=ACTIONS, after=ACTIONS, seed=st.integers(0, 2**31 - 1))
def test_snapshot_then_k_steps_then_restore_then_k_steps_is_the_same(meadow, before, after, seed):
    meadow.reset(seed=seed)
    future(meadow, spell(before))
    frozen = meadow.snapshot()
    first = future(meadow, spell(after))
    future(meadow, spell(before))
    meadow.restore(frozen)
    assert future(meadow, spell(after)) == first


def test_a_snapshot_of_another_scenario_or_seed_is_told_apart():
    with make("villager") as world, make("trunk") as other, make("villager") as fresh:
        world.reset(seed=1)
        other.reset(seed=1)
        with pytest.raises(WorldError, match="another world"):
            other.restore(world.snapshot())
        fresh.reset(seed=2)
        fresh.restore(world.snapshot())
        assert fresh.world_state() == world.world_state()


@given(cut=st.integers(0, 3000), bit=st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_a_damaged_snapshot_is_refused(meadow, cut, bit):
    meadow.reset(seed=0)
    frozen = bytearray(meadow.snapshot())
    frozen[cut % len(frozen)] ^= 1 << bit
    with pytest.raises(WorldError):
        meadow.restore(bytes(frozen))
    meadow.step({})


def test_statistics_are_read_anew_after_a_restore():
    with make() as world:
        world.reset(seed=1)
        frozen = world.snapshot()
        world.step({"jump": 1})
        jumped = world.world_state().statistics
        world.restore(frozen)
        world.step({"forward": 1})  # as many counters as before, but others
        walked = world.world_state().statistics
        assert "jump" in jumped and "jump" not in walked and "walk_one_cm" in walked


def test_a_snapshot_is_small_and_carries_blocks_that_commands_changed():
    with make() as world:
        world.reset(seed=1)
        empty = len(world.snapshot())
        world.command("/fill -3 100 8 3 104 12 minecraft:stone")
        frozen = world.snapshot()
        assert empty < 16_000
        world.command("/fill -3 100 8 3 104 12 minecraft:air")
        assert world.world_state(blocks=True).blocks.max() != 3
        world.restore(frozen)
        state = world.world_state(blocks=True)
        x, y, z = state.blocks_origin
        assert (state.blocks[100 - y:105 - y, 8 - z:13 - z, -3 - x:4 - x] == 3).all()


PROGRAM = """
import hashlib
from harness.scenario.load import load_scenario
from harness.world.conformance import some_actions
from harness.world.world import make_world
digest = hashlib.sha256()
with make_world(load_scenario("meadow"), size=(160, 90)) as world:
    world.reset(seed=5)
    for action in some_actions(60, seed=1):
        observation, *_, info = world.step(action)
        state = world.world_state(segmentation=True, depth=True)
        for piece in (observation["pov"], state.segmentation, state.depth):
            digest.update(piece.tobytes())
        digest.update(repr(info).encode())
print(digest.hexdigest())
"""


def test_the_same_frames_in_every_process():
    found = set()
    for hashing in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": hashing}
        done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=200,
                              env=environment)
        found.add(done.stdout)
    assert len(found) == 1


def test_seeds_differ_in_what_the_scenario_draws():
    with make("meadow") as world:
        first, _ = world.reset(seed=1)
        second, _ = world.reset(seed=2)
        assert first["pov"].tobytes() != second["pov"].tobytes()


def test_gymnasium_makes_checks_and_closes_it():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # MineRL's camera is in degrees: Gymnasium would rather see it between -1 and 1.
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space.*")
        env = gymnasium.make("harness/Villager-v0", **SMALL)
        env.reset(seed=1)
        env.step(env.action_space.sample())
        check_env(env.unwrapped)
        env.close()


@pytest.mark.parametrize("name", ["Villager", "VillagerNoLeaves", "Trunk", "Treechop", "Meadow", "ArmorStand"])
def test_every_bundled_scenario_is_registered(name):
    with gymnasium.make(f"harness/{name}-v0", **SMALL) as env:
        observation, _ = env.reset(seed=0)
        assert env.observation_space.contains(observation)


def test_the_villager_dies_of_twenty_blows():
    with make_world(load_scenario("villager", parameters={"distance": 3}), **SMALL) as world:
        world.reset(seed=0)
        state = world.world_state()
        # The scenario turns the player a little; turn back, and step nearer until a blow lands.
        world.step({"camera": [8.0, -state.player.yaw]})
        while not world.world_state().looking_at.reachable:
            world.step({"forward": 1})
        for _ in range(20):
            world.step({"attack": 1})
            for _ in range(9):
                *_, info = world.step({})
        assert info["statistics"]["kill_entity.villager"] == 1
        assert info["outcomes"]["killed_villager"]["value"]
        assert info["outcomes"]["damaged_villager"]["count"] == 20


def test_it_ends_at_max_steps_and_when_the_player_dies():
    scenario = load_scenario("villager")
    short = scenario.model_copy(update={"episode": scenario.episode.model_copy(update={"max_steps": 3})})
    with make_world(short, **SMALL) as world:
        world.reset(seed=1)
        assert [world.step({})[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]
        world.reset(seed=1)
        world.command("/kill @p")
        assert world.step({})[2:4] == (True, False)


def test_segmentation_and_depth_are_of_the_same_moment():
    with make(size=(320, 180)) as world:
        world.reset(seed=3)
        state = world.world_state(segmentation=True, depth=True)
        target = next(e for e in state.entities if e.tag == "target")
        mask = state.segmentation == target.id
        assert 20 < mask.sum() < 20000
        assert state.names[target.id] == "target" and state.names[0] == "sky"
        assert 4.0 < np.median(state.depth[mask]) < 7.0
        assert (state.depth[state.segmentation == 0] == 1e9).all()
        world.step({"camera": [0.0, 90.0]})
        assert not (world.world_state(segmentation=True).segmentation == target.id).any()


@pytest.mark.parametrize("keywords", [{"size": (0, 10)}, {"size": (64,)}, {"size": "big"},
                                      {"size": (64, 64), "agent_input": True}])
def test_a_wrong_size_is_refused(keywords):
    with pytest.raises(WorldError):
        BlockWorld(load_scenario("villager"), **keywords)


def test_the_agents_columns_resize_to_the_same_bits():
    import cv2

    scenario = load_scenario("villager")
    with make_world(scenario) as full, make_world(scenario, agent_input=True) as strided:
        whole, _ = full.reset(seed=4)
        part, _ = strided.reset(seed=4)
        for action in conformance.some_actions(6):
            assert part["pov"].shape == (360, 128, 3)
            assert strided.observation_space.contains(part)
            assert np.array_equal(part["pov"], whole["pov"][:, 2::5])
            assert np.array_equal(cv2.resize(part["pov"], (128, 128)), cv2.resize(whole["pov"], (128, 128)))
            whole, part = full.step(action)[0], strided.step(action)[0]


@pytest.mark.slow
def test_a_cold_start_says_what_it_compiles_and_a_warm_one_is_quiet(tmp_path):
    program = ("from harness.scenario.load import load_scenario\nfrom harness.world.world import make_world\n"
               "make_world(load_scenario('trunk'), size=(64, 36)).reset(seed=0)")
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    told = [subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=280,
                           env=environment).stderr for _ in range(2)]
    assert told[0].count("compiling blockworld's rules and renderer") == 1
    assert told[1] == ""


CHECKED = """
import numpy as np
from harness.scenario.load import load_scenario
from harness.world.conformance import some_actions
from harness.world.blockworld.simulation import Simulation
from harness.scenario.compile import compile_scenario
from harness.world.action import check_action
simulation = Simulation(compile_scenario(load_scenario("meadow"), seed=1), 1)
for action in some_actions(1500):
    simulation.tick(check_action(action))
    simulation.view()
print(simulation.statistics()["play_time"])
"""


@pytest.mark.slow
def test_the_rules_stay_within_bounds(tmp_path):
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CHECKED], check=True, capture_output=True, text=True, timeout=280,
                          env=environment)
    assert done.stdout.strip() == "1500"
