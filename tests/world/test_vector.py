"""Many worlds at once equal single ones, whatever the number of threads."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from harness.errors import WorldError
from harness.scenario.load import load_scenario
from harness.world.blockworld.vector import BlockWorldVector
from harness.world.blockworld.world import BlockWorld
from harness.world.conformance import some_actions


def short(name="meadow", steps=15):
    scenario = load_scenario(name)
    return scenario.model_copy(update={"episode": scenario.episode.model_copy(
        update={"max_steps": steps, "terminate_when": (), "settle_steps": 2})})


def batches(n_worlds, n, seed=0):
    table = [some_actions(n, seed=seed + i) for i in range(n_worlds)]
    for step in range(n):
        rows = [table[i][step] for i in range(n_worlds)]
        yield {key: np.array([row[key] for row in rows]) for key in rows[0]}, rows


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_it_equals_single_worlds(threads, mode):
    size, n = (64, 36), 3
    singles = [BlockWorld(short(), size=size) for _ in range(n)]
    with_threads = BlockWorldVector(short(), n, size=size, threads=threads, autoreset_mode=mode)
    first, infos = with_threads.reset(seed=20)
    expected = [world.reset(seed=20 + i) for i, world in enumerate(singles)]
    assert all(np.array_equal(first["pov"][i], expected[i][0]["pov"]) for i in range(n))
    assert [infos["outcomes"][i] for i in range(n)] == [info["outcomes"] for _, info in expected]
    over = [False] * n
    for batch, rows in batches(n, 34):
        observation, reward, terminated, truncated, infos = with_threads.step(batch)
        assert with_threads.observation_space.contains(observation)
        for i, world in enumerate(singles):
            if over[i]:  # NEXT_STEP: this step is the reset
                (seen, info), ended = world.reset(), (False, False)
            else:
                seen, _, *ended, info = world.step(rows[i])
                if any(ended) and mode == AutoresetMode.SAME_STEP:
                    assert np.array_equal(infos["final_obs"][i]["pov"], seen["pov"])
                    assert infos["final_info"][i] == info
                    seen, info = world.reset()
            over[i] = any(ended) and mode == AutoresetMode.NEXT_STEP
            assert np.array_equal(observation["pov"][i], seen["pov"])
            assert (terminated[i], truncated[i], reward[i]) == (*ended, 0.0)
            assert {key: infos[key][i] for key in info} == info
    assert infos["_tick"].all()
    with_threads.close()
    for world in singles:
        world.close()


def test_a_finished_world_must_be_reset_where_nothing_resets_itself():
    env = BlockWorldVector(short(steps=2), 2, size=(64, 36), autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=1)
    for batch, _ in batches(2, 2):
        truncated = env.step(batch)[3]
    assert truncated.all()
    with pytest.raises(WorldError, match="over"):
        env.step(batch)
    before = env.worlds[1].snapshot()
    _, infos = env.reset(seed=5, options={"reset_mask": np.array([True, False])})
    assert infos["_tick"].tolist() == [True, False]
    assert env.worlds[1].snapshot() == before
    env.close()
    env.close()


def test_wrong_batches_are_refused():
    env = BlockWorldVector(short(), 2, size=(64, 36), threads=1)
    with pytest.raises(WorldError, match="before reset"):
        env.step({})
    env.reset(seed=[4, None])
    env.step({})
    env.step([{"forward": 1}, {}])
    for wrong in ({"fly": [0, 1]}, {"forward": [1]}, {"forward": [2, 0]}, {"camera": [0.0, 0.0]}, [{}],
                  {"camera": [[0.0, np.nan], [0.0, 0.0]]}):
        with pytest.raises(WorldError):
            env.step(wrong)
    with pytest.raises(WorldError, match="seeds"):
        env.reset(seed=[1, 2, 3])
    with pytest.raises(WorldError, match="reset_mask"):
        env.reset(options={"mask": 1})
    with pytest.raises(WorldError, match="at least one"):
        BlockWorldVector(short(), 0)
    env.close()


def test_gymnasium_makes_it():
    env = gymnasium.make_vec("harness/Trunk-v0", num_envs=2, size=(64, 36))
    assert isinstance(env, BlockWorldVector)
    env.reset(seed=0)
    observation, *_ = env.step(env.action_space.sample())
    assert observation["pov"].shape == (2, 36, 64, 3)
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    assert len(env.render()) == 2
    env.close()
