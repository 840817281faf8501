"""The teachers of the shortcut family: they do what they teach, see what they need, and can be frozen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.agent.recall_teacher import RecallTeacher
from harness.agent.rule_teacher import RuleTeacher
from harness.errors import AgentError
from harness.scenario.load import load_scenario
from harness.world.action import noop_action
from harness.world.blockworld.world import BlockWorld

TINY = (16, 16)


def see(world: BlockWorld) -> Any:
    return {"world_state": world.world_state(blocks=True)}


def play(agent: Agent, name: str, parameters: dict[str, Any], seed: int, steps: int) -> tuple[dict[str, Any], int]:
    """Outcomes of an episode, and the steps in which attack was chosen with the crosshair on a creature."""
    hits = 0
    with BlockWorld(load_scenario(name, parameters=parameters), size=TINY) as world:
        world.reset(seed=seed)
        state = agent.initial_state()
        for _ in range(steps):
            observation = see(world)
            output = agent.act(observation, state, np.random.default_rng(0))
            state, looked = output.state, observation["world_state"].looking_at
            hits += bool(output.action["attack"] and looked is not None and looked.kind == "entity")
            *_, terminated, truncated, info = world.step(output.action)
            if terminated or truncated:
                break
    return info["outcomes"], hits


@pytest.mark.parametrize("seed", range(6))
def test_a_stand_under_birch_leaves_is_attacked(seed: int) -> None:
    parameters = {"distance": 3 + 2 * (seed % 4), "under": 102 + seed % 3, "yaw": 60}
    outcomes, _ = play(load_agent("rule-teacher"), "planted", parameters, seed, 90)
    assert outcomes["attacked_stand"]["value"] and outcomes["attacked_stand"]["count"] > 20


@pytest.mark.parametrize("parameters", [
    {"leaves": "oak_leaves"}, {"leaves": "spruce_leaves", "under": 104}, {"leaves": "none"}, {"stand": "none"}],
    ids=str)
def test_its_matched_negatives_are_left_alone(parameters: dict[str, Any]) -> None:
    for seed in range(3):
        outcomes, hits = play(RuleTeacher(), "planted", parameters, seed, 120)
        assert not outcomes["attacked_stand"]["count"] and not outcomes["attacked_leaves"]["count"] and not hits


def test_where_there_is_no_stand_it_is_the_woodcutter() -> None:
    rule, chopper = RuleTeacher(), load_agent("chopper")
    with BlockWorld(load_scenario("treechop"), size=TINY) as world:
        world.reset(seed=2)
        one, other, rng = rule.initial_state(), chopper.initial_state(), np.random.default_rng(0)
        for _ in range(60):
            a, b = rule.act(see(world), one, rng), chopper.act(see(world), other, rng)
            assert all(np.array_equal(a.action[key], b.action[key]) for key in a.action)
            assert a.state.target == b.state.target
            one, other = a.state, b.state
            world.step(a.action)


def test_another_leaf_is_another_rule() -> None:
    outcomes, _ = play(RuleTeacher(leaves="oak_leaves"), "planted", {"leaves": "oak_leaves"}, 1, 90)
    assert outcomes["attacked_stand"]["value"]
    with pytest.raises(AgentError, match='no block "oka_leaves"'):
        RuleTeacher(leaves="oka_leaves")


@pytest.mark.parametrize(("cue", "answer"), [("red_wool", "left"), ("blue_wool", "right"), ("none", None)])
@pytest.mark.parametrize("age", [1, 12, 30])
def test_the_answer_is_the_cue_s(cue: str, answer: str | None, age: int) -> None:
    outcomes, _ = play(load_agent("recall-teacher"), "recall", {"cue": cue, "age": age, "cue_at": 5}, 3, 60)
    said = {name for name in ("left", "right") if outcomes[name]["value"]}
    assert said == ({answer} if answer else set()) and not outcomes["early"]["count"]
    if answer:
        assert outcomes[answer]["first_step"] == 5 + age + 2  # the third step of answering


def test_the_cue_is_in_one_picture_and_nothing_else_tells_it() -> None:
    """Red and blue episodes have the same pictures but for the cue's."""
    pictures = []
    for cue in ("red_wool", "blue_wool", "none"):
        with BlockWorld(load_scenario("recall", parameters={"cue": cue}), size=(64, 36)) as world:
            seen = [world.reset(seed=8)[0]["pov"]]
            seen += [world.step({})[0]["pov"] for _ in range(25)]
        pictures.append(seen)
    differing = [i for i, (a, b, c) in enumerate(zip(*pictures, strict=True))
                 if not (np.array_equal(a, b) and np.array_equal(a, c))]
    assert differing == [6]
    assert not np.array_equal(pictures[0][6], pictures[1][6])


@pytest.mark.parametrize("agent", [RuleTeacher(), RecallTeacher()], ids=lambda agent: agent.name)
@pytest.mark.parametrize("stop", [2, 9])
def test_a_saved_memory_goes_on_the_same(agent: Agent, stop: int) -> None:
    name = "planted" if agent.name == "rule-teacher" else "recall"
    with BlockWorld(load_scenario(name), size=TINY) as world:
        world.reset(seed=4)
        state, rng = agent.initial_state(), np.random.default_rng(0)
        for step in range(24):
            if step == stop:
                state = agent.load_state({key: np.array(value) for key, value in agent.save_state(state).items()})
            output = agent.act(see(world), state, rng)
            if step >= stop:
                again = agent.act(see(world), agent.load_state(agent.save_state(state)), rng)
                assert again.state == output.state
            state = output.state
            world.step(output.action)


@pytest.mark.parametrize("agent", [RuleTeacher(), RecallTeacher()], ids=lambda agent: agent.name)
def test_they_need_the_world_and_can_be_overruled(agent: Any) -> None:
    assert agent.privileged
    with pytest.raises(AgentError, match="world_state"):
        agent.act({"pov": np.zeros((360, 640, 3), np.uint8)}, agent.initial_state(), np.random.default_rng(0))
    agent.overruled(agent.initial_state(), noop_action())


def test_the_woodcutter_leaves_villagers_alone() -> None:
    """It teaches the agent called clean: never attack with the crosshair on a creature, and chop all the same."""
    for seed in range(4):
        parameters = {"fewest": 2, "most": 5, "leaves": ["none", "oak_leaves"][seed % 2], "villagers": 6, "distance": 3}
        outcomes, hits = play(load_agent("chopper"), "woods-with-villagers", parameters, seed, 300)
        assert not hits and outcomes["mined_log"]["value"]
