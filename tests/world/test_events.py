"""What a scenario changes in mid-episode: when it is seen, and that nothing else knows of it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import WorldError
from harness.scenario.commands import event_commands
from harness.scenario.compile import compile_scenario
from harness.scenario.load import parse_scenario
from harness.scenario.setup import WorldSetup
from harness.world.action import noop_action
from harness.world.blockworld.simulation import Simulation
from harness.world.blockworld.vector import BlockWorldVector
from harness.world.blockworld.world import BlockWorld
from harness.world.conformance import some_actions
from harness.world.world import Capabilities, World

SIZE = (64, 36)
WALL = "from: [-7, 100, 4], to: [7, 106, 4]"
TEXT = f"""
parameters: {{at: 3}}
world: {{entities: [{{type: cow, at: [2.5, 100, 3.5]}}]}}
player: {{jitter: {{yaw: 5}}}}
episode: {{max_steps: 20, settle_steps: 6}}
events:
  - {{step: "${{at + 1}}", fill: air, {WALL}}}
  - {{step: "${{at}}", fill: red_wool, {WALL}}}
  - {{step: 0, set: oak_planks, at: [0, 101, 6]}}
outcomes:
  cue: {{looked_at: red_wool}}
  strafed: {{pressed: left, since: 2, until: 4}}
  hit: {{looked_at: red_wool, pressing: attack}}
"""


def make(**parameters: int) -> BlockWorld:
    return BlockWorld(parse_scenario(TEXT, parameters=parameters), size=SIZE)


def reds(world: BlockWorld) -> bool:
    """Whether the picture of this moment shows red wool."""
    state = world.world_state(segmentation=True)
    number = next(n for n, name in state.names.items() if name == "red_wool")
    return bool((state.segmentation == number).any())


@pytest.mark.parametrize("at", [0, 1, 3, 18])
def test_a_step_is_the_picture_seen_at_it(at: int) -> None:
    with make(at=at) as world:
        world.reset(seed=1)
        seen = [reds(world)]
        for _ in range(19):
            world.step({})
            seen.append(reds(world))
    assert [step for step, red in enumerate(seen) if red] == [at]


def test_step_0_comes_after_the_settling_and_before_the_first_picture() -> None:
    with make() as world:
        first, _ = world.reset(seed=1)
        with BlockWorld(parse_scenario(TEXT.replace("step: 0, set: oak_planks", "step: 19, set: oak_planks")),
                        size=SIZE) as later:
            assert not np.array_equal(first["pov"], later.reset(seed=1)[0]["pov"])


def test_events_of_one_step_keep_the_order_of_the_file() -> None:
    text = "events: [{step: 1, set: stone, at: [0, 101, 3]}, {step: 0, set: dirt, at: [0, 101, 3]}, " \
           "{step: 1, set: oak_planks, at: [0, 101, 3]}]"
    events = compile_scenario(parse_scenario(text), seed=0).events
    assert [(e.step, e.fill.block) for e in events] == [(0, "dirt"), (1, "stone"), (1, "oak_planks")]
    with BlockWorld(parse_scenario(text), size=SIZE) as world:
        world.reset(seed=0)
        world.step({})
        looked = world.world_state().looking_at
        assert looked is not None and looked.name == "oak_planks"


def test_outcomes_count_what_was_met_before_the_change() -> None:
    """The wall is there for the whole step 3, and only then."""
    with make() as world:
        world.reset(seed=1)
        for _ in range(6):
            *_, info = world.step({"left": 1, "attack": 1})
    assert info["outcomes"]["cue"] == {"value": True, "first_step": 3, "count": 1}
    assert info["outcomes"]["hit"] == {"value": True, "first_step": 3, "count": 1}
    assert info["outcomes"]["strafed"] == {"value": True, "first_step": 2, "count": 3}


@pytest.fixture(scope="module")
def changing():
    with make() as world:
        yield world


def future(world: BlockWorld, actions: list) -> tuple[str, bytes]:
    digest = hashlib.sha256()
    for action in actions:
        observation, *_, info = world.step(action)
        digest.update(observation["pov"].tobytes() + repr(info).encode())
    return digest.hexdigest(), world.snapshot()


@settings(max_examples=25, deadline=None)
@given(before=st.integers(0, 8), after=st.integers(1, 8), seed=st.integers(0, 99))
def test_snapshot_then_k_steps_then_restore_then_k_steps_is_the_same(changing, before, after, seed):
    actions = some_actions(16, seed)
    changing.reset(seed=seed)
    future(changing, actions[:before])
    frozen = changing.snapshot()
    first = future(changing, actions[before:before + after])
    changing.reset(seed=seed + 1)
    changing.restore(frozen)
    assert future(changing, actions[before:before + after]) == first
    with make() as fresh:  # as another process would
        fresh.reset(seed=0)
        fresh.restore(frozen)
        assert future(fresh, actions[before:before + after]) == first


def test_a_snapshot_of_other_events_is_told_apart() -> None:
    with make() as world, make(at=5) as other:
        world.reset(seed=1)
        other.reset(seed=1)
        with pytest.raises(WorldError, match="another world"):
            other.restore(world.snapshot())


def test_many_worlds_equal_single_ones() -> None:
    scenario = parse_scenario(TEXT, parameters={"at": 2})
    many = BlockWorldVector(scenario, 2, size=SIZE, threads=1, autoreset_mode=AutoresetMode.DISABLED)
    singles = [BlockWorld(scenario, size=SIZE) for _ in range(2)]
    pictures, _ = many.reset(seed=7)
    for i, world in enumerate(singles):
        assert np.array_equal(pictures["pov"][i], world.reset(seed=7 + i)[0]["pov"])
    for action in some_actions(12):
        pictures, *_, infos = many.step([action, action])
        for i, world in enumerate(singles):
            observation, *_, info = world.step(action)
            assert np.array_equal(pictures["pov"][i], observation["pov"])
            assert infos["outcomes"][i] == info["outcomes"]
    many.close()


def test_without_events_nothing_is_written_anew() -> None:
    """Snapshots made before there were events carry a digest of this text."""
    assert "events" not in repr(WorldSetup(name="a", seed=0))
    setup = compile_scenario(parse_scenario(TEXT), seed=1)
    assert len(setup.events) == 3 and "red_wool" not in repr(setup)


def test_a_wall_far_away_is_stored_from_the_start() -> None:
    text = "events: [{step: 2, set: stone, at: [60, 101, 60]}]"
    setup = compile_scenario(parse_scenario(text), seed=0)
    assert Simulation(setup, 0).grid.inside(60, 101, 60)


def test_events_as_commands() -> None:
    setup = compile_scenario(parse_scenario(TEXT), seed=1)
    assert event_commands(setup) == {
        0: ["/setblock 0 101 6 minecraft:oak_planks"],
        3: ["/fill -7 100 4 7 106 4 minecraft:red_wool"],
        4: ["/fill -7 100 4 7 106 4 minecraft:air"]}
    assert event_commands(setup, "1.21")[3] == ["fill -7 100 4 7 106 4 minecraft:red_wool"]


def test_a_backend_with_commands_is_told_them(changing) -> None:
    said: list[tuple[int, str]] = []

    class Told(BlockWorld):
        _change = World._change

        def command(self, text: str) -> None:
            said.append((self._steps, text))
            super().command(text)

    with Told(parse_scenario(TEXT), size=SIZE) as world:
        first = world.reset(seed=1)[0]["pov"]
        assert np.array_equal(first, changing.reset(seed=1)[0]["pov"])
        for _ in range(6):
            assert np.array_equal(world.step(noop_action())[0]["pov"], changing.step(noop_action())[0]["pov"])
    assert [step for step, _ in said] == [0, 3, 4] and said[1][1].startswith("/fill")


def test_a_backend_without_commands_refuses() -> None:
    class Mute(BlockWorld):
        capabilities = Capabilities(backend="mute")

    with Mute(parse_scenario(TEXT), size=SIZE) as world, pytest.raises(WorldError, match="has events, and the mute"):
        world.reset(seed=1)
