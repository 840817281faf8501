"""Scripted agents: nothing, chance, a list; and the woodcutter against a hand-made world state."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.action_mapping import dequantise, from_policy, to_policy
from harness.agent.chopper import ChopperAgent, ChopperState
from harness.agent.load import load_agent
from harness.agent.scripted import NoopAgent, RandomAgent, ReplayAgent
from harness.errors import AgentError, WorldError
from harness.rollout import run_episode
from harness.scenario.catalogue import catalogue
from harness.scenario.load import load_scenario
from harness.world.action import KEYS, check_action, noop_action
from harness.world.observation import LookedAt, PlayerState, WorldState
from harness.world.world import make_world

POV = {"pov": np.zeros((360, 640, 3), np.uint8)}
RNG = np.random.default_rng(0)
BINS = {float(np.float32(x)) for x in dequantise(np.arange(11))}


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return set(a) == set(b) and all(np.array_equal(a[key], b[key]) for key in a)


def test_noop() -> None:
    agent = NoopAgent()
    assert equal(agent.act(POV, agent.initial_state(), RNG).action, noop_action())


def test_random_is_on_the_policy_grid_and_repeats_with_its_seed() -> None:
    agent = RandomAgent()
    one = [agent.act(POV, None, rng) for rng in [np.random.default_rng(4)] for _ in range(50)]
    two = [agent.act(POV, None, rng) for rng in [np.random.default_rng(4)] for _ in range(50)]
    for a, b in zip(one, two, strict=True):
        assert equal(a.action, b.action)
        assert equal(a.action, from_policy(a.tokens["buttons"], a.tokens["camera"]))
        assert set(a.action) == set(KEYS) and not a.action["ESC"] and not a.action["inventory"]
        assert a.log_prob == pytest.approx(-math.log(8640 * 121)) and a.entropy == -a.log_prob
    assert len({a.tokens["buttons"] for a in one}) > 40
    some = RandomAgent(inventory=True)
    rng = np.random.default_rng(0)
    assert any(some.act(POV, None, rng).action["inventory"] for _ in range(60_000))


def play(agent: ReplayAgent, n: int) -> list[dict[str, Any]]:
    state, actions = agent.initial_state(), []
    for _ in range(n):
        out = agent.act(POV, state, RNG)
        state = agent.load_state(agent.save_state(out.state))
        actions.append(out.action)
    return actions


def test_replay_of_a_list() -> None:
    rows = [{"forward": 1}, {"attack": 1, "camera": [1.5, -3]}]
    played = play(ReplayAgent(actions=rows, after="noop"), 3)
    assert all(equal(a, b) for a, b in zip(played, [check_action(row) for row in [*rows, {}]], strict=True))
    with pytest.raises(AgentError, match="holds 2 actions"):
        play(ReplayAgent(actions=rows), 3)


def test_replay_of_a_recording(tmp_path: Path) -> None:
    rows = [{"step": i, "executed": {"forward": 1, "camera": [0.0, i]}, "chosen": {"back": 1}} for i in range(3)]
    (tmp_path / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [a["camera"][1] for a in play(ReplayAgent(path=tmp_path), 3)] == [0, 1, 2]
    assert all(a["back"] for a in play(ReplayAgent(path=tmp_path / "steps.jsonl", column="chosen"), 3))


@pytest.mark.parametrize(("text", "words"), [
    ("", "holds no steps"), ('{"step": 0}\n', "steps.jsonl:1"), ('{"executed": {}}\n{"exec', "steps.jsonl:2"),
    ('{"executed": null}\n', "no executed action"), ("[1]\n", "steps.jsonl:1"),
])
def test_replay_of_what_is_no_recording(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "steps.jsonl").write_text(text)
    with pytest.raises(AgentError) as caught:
        ReplayAgent(path=tmp_path)
    assert words in str(caught.value)


def test_replay_arguments(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="either actions or the path"):
        ReplayAgent()
    with pytest.raises(AgentError, match="cannot read"):
        ReplayAgent(path=tmp_path / "none.jsonl")
    with pytest.raises(AgentError, match="executed or chosen"):
        ReplayAgent(actions=[], column="exec")  # type: ignore[arg-type]
    with pytest.raises(WorldError, match="atack"):
        ReplayAgent(actions=[{"atack": 1}])


# --- the woodcutter --------------------------------------------------------------------------------------------------

ORIGIN, SIZE = (-16, 96, -16), (12, 32, 32)
FLOOR = 100


def scene(*blocks: tuple[str, int, int, int]) -> np.ndarray:
    """Grass up to y = 99, and single blocks."""
    grid = np.zeros(SIZE, np.uint8)
    table = catalogue().blocks
    grid[:FLOOR - ORIGIN[1]] = table["grass_block"].id
    for name, x, y, z in blocks:
        grid[y - ORIGIN[1], z - ORIGIN[2], x - ORIGIN[0]] = table[name].id
    return grid


def trunk(x: int, z: int, height: int = 4, name: str = "oak_log") -> list[tuple[str, int, int, int]]:
    return [(name, x, FLOOR + i, z) for i in range(height)]


def world(grid: np.ndarray | None, position: tuple[float, float, float] = (0.5, FLOOR, 0.5), yaw: float = 0.0,
          pitch: float = 0.0, looked: LookedAt | None = None) -> WorldState:
    player = PlayerState(position, yaw, pitch, (0.0, 0.0, 0.0), True, 20.0, 0, (None,) * 9)
    return WorldState(0, 6000, player, (), {}, (), looked, blocks=grid, blocks_origin=ORIGIN)


def decide(state: WorldState, memory: ChopperState | None = None) -> tuple[dict[str, Any], ChopperState]:
    agent = ChopperAgent()
    out = agent.act({**POV, "world_state": state}, memory or agent.initial_state(), RNG)
    return out.action, out.state


def looking_at(name: str, distance: float, *, reachable: bool = True) -> LookedAt:
    return LookedAt("block", name, distance, reachable, (0, 0, 0))


def test_it_walks_straight_to_a_tree_ahead() -> None:
    action, memory = decide(world(scene(*trunk(0, 6))))
    assert action["forward"] == 1 and not action["camera"].any() and not action["attack"]
    assert memory.target == (0, 6)


@pytest.mark.parametrize(("x", "sign"), [(4, -1), (-5, 1)])
def test_it_turns_to_the_side_the_tree_is_on(x: int, sign: int) -> None:
    """Yaw 0 faces +z and grows to the right, which is -x."""
    action, _ = decide(world(scene(*trunk(x, 6))))
    assert np.sign(action["camera"][1]) == sign


def test_it_holds_attack_and_keeps_still_at_a_log() -> None:
    state = world(scene(*trunk(0, 2)), looked=looking_at("oak_log", 1.6))
    action, _ = decide(state)
    assert action["attack"] == 1 and not action["forward"] and not action["camera"].any()


def test_it_aims_lower_when_the_log_at_eye_height_is_gone() -> None:
    lower = [log for log in trunk(0, 2) if log[2] != FLOOR + 1]
    action, _ = decide(world(scene(*lower), looked=looking_at("grass_block", 9.0, reachable=False)))
    assert action["camera"][0] > 0 and not action["forward"]


def test_it_searches_to_the_right_when_no_tree_is_in_view() -> None:
    behind = world(scene(*trunk(0, -6)))
    action, memory = decide(behind)
    assert action["camera"][1] == 10 and not action["forward"] and memory.target is None
    walked = False
    for _ in range(60):
        action, memory = decide(world(scene()), memory)
        walked = walked or bool(action["forward"])
    assert walked, "after a turn around it walks on"


def test_a_wall_hides_a_tree() -> None:
    wall = [("stone", x, y, 3) for x in range(-4, 5) for y in range(FLOOR, FLOOR + 4)]
    _, memory = decide(world(scene(*trunk(0, 6), *wall)))
    assert memory.target is None


def test_it_keeps_to_its_tree_between_two() -> None:
    grid = scene(*trunk(2, 8), *trunk(-2, 8))
    _, memory = decide(world(grid))
    first = memory.target
    for yaw in (1.0, -1.0, 3.0, -3.0):
        _, memory = decide(world(grid, yaw=yaw), memory)
        assert memory.target == first


def test_leaves_before_the_trunk_are_cut() -> None:
    grid = scene(*trunk(0, 3), ("oak_leaves", 0, FLOOR + 1, 2))
    action, _ = decide(world(grid, looked=looking_at("oak_leaves", 1.4)))
    assert action["attack"] == 1


def test_it_steps_aside_when_it_does_not_move() -> None:
    state, memory, keys = world(scene(*trunk(0, 8))), None, set()
    for _ in range(30):
        action, memory = decide(state, memory)
        keys |= {key for key in KEYS if key != "camera" and action[key]}
    assert {"forward", "jump"} <= keys and keys & {"left", "right"}


def test_a_steep_view_is_levelled_first() -> None:
    action, _ = decide(world(scene(*trunk(0, 9)), pitch=60.0))
    assert action["camera"][0] < 0 and not action["forward"]


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(-180, 180), st.floats(-90, 90),
       st.lists(st.tuples(st.integers(-15, 14), st.integers(-15, 14)), max_size=5),
       st.sampled_from([None, "oak_log", "oak_leaves", "grass_block"]))
@settings(max_examples=60, deadline=None)
def test_every_action_is_one_the_policy_could_take(x: float, z: float, yaw: float, pitch: float,
                                                  trees: list[tuple[int, int]], looked: str | None) -> None:
    grid = scene(*(log for tree in trees for log in trunk(*tree)))
    seen = None if looked is None else looking_at(looked, 2.0)
    memory = None
    for _ in range(8):
        action, memory = decide(world(grid, (x, FLOOR, z), yaw, pitch, seen), memory)
        assert equal(from_policy(*to_policy(action)), action)
        assert {float(v) for v in action["camera"]} <= BINS
        assert ChopperAgent().load_state(ChopperAgent().save_state(memory)) == memory


def test_it_says_what_it_needs() -> None:
    agent = load_agent("chopper")
    assert agent.privileged
    with pytest.raises(AgentError, match="world_state"):
        agent.act(POV, agent.initial_state(), RNG)
    with pytest.raises(AgentError, match="with blocks"):
        agent.act({**POV, "world_state": world(None)}, agent.initial_state(), RNG)
    with pytest.raises(AgentError, match="reach_up"):
        ChopperAgent(reach_up=9)


def test_it_breaks_a_log_in_the_real_thing() -> None:
    """Two scenes of treechop; in eighty (seeds 0 to 79) it needed 39 to 147 steps."""
    scenario = load_scenario("treechop")
    with make_world(scenario) as woods:
        for seed in range(2):
            result = run_episode(woods, load_agent("chopper"), seed=seed, max_steps=250)
            assert result.outcomes["mined_log"]["value"], f"seed {seed}: {result}"
