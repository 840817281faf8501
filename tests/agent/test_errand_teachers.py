"""The teachers of errands: they do what they teach and nothing else, and can be frozen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.agent.agent import Agent
from harness.agent.goer import GoerAgent, GoerState
from harness.agent.load import load_agent
from harness.agent.looker import LookerAgent
from harness.errors import AgentError
from harness.scenario.load import load_scenario
from harness.world.action import noop_action
from harness.world.blockworld.world import BlockWorld

TINY = (16, 16)
NO_CHANCE: Any = None


def play(agent: Agent, seed: int, steps: int, name: str = "errands") -> dict[str, Any]:
    with BlockWorld(load_scenario(name), size=TINY) as world:
        world.reset(seed=seed)
        state = agent.initial_state()
        for _ in range(steps):
            output = agent.act({"world_state": world.world_state(blocks=True)}, state, NO_CHANCE)
            state = output.state
            *_, terminated, truncated, info = world.step(output.action)
            if terminated or truncated:
                break
    outcomes: dict[str, Any] = info["outcomes"]
    return outcomes


@pytest.mark.parametrize("seed", range(4))
def test_the_goer_meets_an_animal_and_leaves_the_rest(seed: int) -> None:
    outcomes = play(load_agent("goer"), seed, 150)
    assert outcomes["met_animal"]["value"]
    assert not any(outcomes[name]["value"] for name in ("mined_log", "damaged_animal", "looked_around"))


@pytest.mark.parametrize("seed", range(2))
def test_the_looker_turns_where_it_stands(seed: int) -> None:
    outcomes = play(load_agent("looker"), seed, 90)
    assert outcomes["looked_around"]["first_step"] in range(70, 90)
    assert not any(outcomes[name]["value"] for name in ("mined_log", "damaged_animal", "walked"))


def test_where_there_is_no_animal_the_goer_searches() -> None:
    with BlockWorld(load_scenario("treechop"), size=TINY) as world:
        world.reset(seed=0)
        output = GoerAgent().act({"world_state": world.world_state(blocks=True)}, GoerState(), NO_CHANCE)
        assert output.action["camera"][1] > 5 and output.state.target is None


def test_the_goer_can_be_frozen_and_overruled() -> None:
    agent = GoerAgent()
    with BlockWorld(load_scenario("meadow"), size=TINY) as world:
        world.reset(seed=1)
        state = agent.initial_state()
        for tick in range(60):
            seen = {"world_state": world.world_state(blocks=True)}
            assert agent.load_state(agent.save_state(state)) == state
            output = agent.act(seen, state, NO_CHANCE)
            state = output.state
            if tick % 3 == 2:
                state = agent.overruled(state, noop_action())
                assert not state.legs.pushing
                world.step(noop_action())
            else:
                world.step(output.action)
    assert state.animal is not None and state.target is not None


def test_what_they_need_is_said() -> None:
    for agent in (GoerAgent(), LookerAgent()):
        with pytest.raises(AgentError, match="world_state"):
            agent.act({"pov": np.zeros((360, 640, 3), np.uint8)}, agent.initial_state(), NO_CHANCE)
    with pytest.raises(AgentError, match='no creature "crow"'):
        GoerAgent(animals=["crow"])
