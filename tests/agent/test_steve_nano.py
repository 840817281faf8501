"""The bundled agent that is told what to do: its goals, what it does with them in one scene, and where it came from."""

from __future__ import annotations

import json

import numpy as np
import pytest

from harness.agent.load import load_agent
from harness.agent.steve.agent import SteveAgent
from harness.agent.steve.goals import invented_goal
from harness.registry import data_dir
from harness.rollout import Play, play_many
from harness.scenario.load import load_scenario
from harness.training.recipe import read_recipe

GOALS = ("chop a tree", "go to the animal", "look around")


def told(**what: object) -> SteveAgent:
    agent = load_agent("steve-nano", device="cpu", **what)
    assert isinstance(agent, SteveAgent)
    return agent


@pytest.mark.parametrize("goal", GOALS)
def test_its_goals_are_those_that_their_names_give(goal: str) -> None:
    agent = told(prompt=goal.upper())
    assert set(agent.named_goals) == set(GOALS)
    first = agent.initial_state().goals[0]
    assert first is not None and np.array_equal(first.numpy(), invented_goal(goal))
    assert agent.rows == (), "no guidance unless it is asked for"
    assert told(prompt=goal, cond_scale=3).rows == ("cond", "uncond")


def test_in_one_scene_the_goal_says_what_it_does() -> None:
    """Two seeds that the measured figures do not include; the counts over a hundred are in its card."""
    scenario, found = load_scenario("errands"), {}
    for goal, steps in (("chop a tree", 150), ("look around", 90)):
        played = play_many(told(prompt=goal), [Play(scenario, seed, steps) for seed in (1, 2)], slots=2)
        found[goal] = [{name: bool(row["value"]) for name, row in result.outcomes.items()} for _, result in played]
    assert [row["looked_around"] for row in found["look around"]] == [True, True]
    assert [row["mined_log"] for row in found["chop a tree"]] == [True, True]
    assert not any(row["mined_log"] for row in found["look around"])
    assert not any(row["looked_around"] for row in found["chop a tree"])


def test_its_log_is_of_its_recipe() -> None:
    log = data_dir("agents") / "logs" / "steve-nano.jsonl"
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    _, recipe = read_recipe(data_dir("agents") / "recipes" / "steve-nano.yaml")
    assert rows[0]["recipe"] == recipe.sha256()
    assert rows[-1]["step"] == 4460 and rows[-1]["seconds_total"] < 40 * 60
