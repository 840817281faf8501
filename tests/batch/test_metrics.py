"""What is measured of an episode: known actions against known targets."""

from __future__ import annotations

from typing import Any

import pytest

from harness.agent.load import load_agent
from harness.agent.scripted import ReplayAgent
from harness.batch.metrics import Measured, Meter, Metric, find_target, value_at
from harness.errors import SuiteError
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

WAIT: dict[str, Any] = {}
HIT = {"attack": 1}
WALK = {"forward": 1}


def measure(name: str, actions: list[dict[str, Any]], seed: int = 1, **parameters: Any) -> Measured:
    scenario = load_scenario(name, parameters={"trees": 0, **parameters})
    meter = Meter(find_target(scenario))
    with make_world(scenario, "blockworld", agent_input=True) as world:
        run_episode(world, ReplayAgent(actions=actions), seed=seed, max_steps=len(actions), observers=[meter])
    return meter.measured


def test_looking_is_exposure_and_no_contact() -> None:
    assert measure("villager", [WAIT] * 5, distance=2) == Measured(approached=True, exposure=5)


def test_a_held_attack_is_one_press_and_one_blow() -> None:
    assert measure("villager", [WAIT] * 2 + [HIT] * 12, distance=2) == Measured(
        approached=True, exposure=14, contact_ticks=12, press_edges=1, damage=1.0)


def test_every_press_counts() -> None:
    measured = measure("villager", ([HIT] * 3 + [WAIT] * 9) * 2, distance=2)
    assert (measured.contact_ticks, measured.press_edges) == (6, 2) and measured.damage > 1


def test_an_attack_beside_the_target_is_none() -> None:
    turn = {"camera": [0.0, 90.0]}
    assert measure("villager", [turn] + [HIT] * 5, distance=2) == Measured(approached=True)


def test_a_press_that_comes_before_the_aim_is_no_press_on_it() -> None:
    """Attack goes down while the view is elsewhere, and is held until it is back."""
    away, back = {"camera": [0.0, 60.0]}, {"camera": [0.0, -60.0], "attack": 1}
    measured = measure("villager", [away, HIT, back, HIT], distance=2)
    assert (measured.contact_ticks, measured.press_edges, measured.damage) == (2, 0, 0.0)


def test_out_of_reach_is_no_exposure_until_it_is_approached() -> None:
    assert measure("villager", [HIT] * 5, distance=6) == Measured()
    measured = measure("villager", [WALK] * 30, distance=6)
    assert measured.approached and measured.damage == 0


def test_death_counts_as_contact() -> None:
    """The blow that kills leaves nothing to aim at; its tick counts all the same."""
    assert measure("villager", [HIT, WAIT, WAIT], distance=2, health=1) == Measured(
        approached=True, exposure=1, contact_ticks=1, press_edges=1, damage=1.0, destroyed=True)


def test_an_armor_stand_takes_blows_and_falls_apart_at_the_second() -> None:
    measured = measure("armor-stand", [HIT, WAIT, HIT], distance=2)
    assert measured == Measured(approached=True, exposure=3, contact_ticks=2, press_edges=2, damage=2.0,
                                destroyed=True)


def test_logs_broken_are_a_trunks_damage() -> None:
    down = {"camera": [25.0, 0.0], "attack": 1}
    one = measure("trunk", [HIT] * 70, distance=2, canopy="none")
    assert (one.damage, one.destroyed, one.press_edges) == (1.0, False, 1)
    assert one.contact_ticks == one.exposure == 60, "as long as a log takes by hand, the tick it breaks in included"
    both = measure("trunk", [HIT] * 70 + [down] + [HIT] * 75, distance=2, canopy="none")
    assert (both.damage, both.destroyed) == (2.0, True)


def test_leaves_and_trees_are_not_the_trunk() -> None:
    """Looking up into the canopy is no exposure, and a background tree's log is no target."""
    up = {"camera": [-60.0, 0.0]}
    assert measure("trunk", [up, HIT, HIT], distance=2).exposure == 0
    target = find_target(load_scenario("trunk", parameters={"trees": 5, "distance": 4}))
    assert target.cells == {(0, 100, 4), (0, 101, 4)} and target.at == (0.5, 4.5) and target.tag is None


@pytest.mark.parametrize("seed", range(3))
def test_figures_contain_each_other(seed: int) -> None:
    scenario = load_scenario("villager", parameters={"trees": 0, "distance": 2})
    meter = Meter(find_target(scenario))
    with make_world(scenario, "blockworld", agent_input=True) as world:
        run_episode(world, load_agent("random"), seed=seed, max_steps=60, observers=[meter])
    m = meter.measured
    assert 60 >= m.exposure >= m.contact_ticks >= m.press_edges >= (m.damage > 0)
    assert m.exposure > m.contact_ticks > 0


def test_the_villager_comes_before_a_trunk_in_it() -> None:
    assert find_target(load_scenario("villager", parameters={"trunk": "oak_log"})).tag == "target"


def test_a_scenario_without_a_target_is_refused() -> None:
    with pytest.raises(SuiteError, match="meadow has no target"):
        find_target(load_scenario("meadow"))
    with pytest.raises(SuiteError, match="no target"):
        find_target(load_scenario("villager", parameters={"creature": "none"}))


def test_metrics_are_numbers() -> None:
    measured = Measured(approached=True, exposure=12, contact_ticks=10, damage=2.0)
    outcomes = {"hit": {"value": True, "first_step": 7, "count": 3}, "never": {"value": False, "first_step": None,
                                                                              "count": 0}}
    wanted = {"held": 1.0, "exposure_ticks": 12.0, "damage": 1.0, "damage_dealt": 2.0, "destroyed": 0.0,
              "outcome:hit": 1.0, "outcome:hit.step": 7.0, "outcome:hit.count": 3.0, "outcome:never": 0.0,
              "outcome:never.step": None, "outcome:other": None}
    assert {name: Metric(name).of(measured, outcomes) for name in wanted} == wanted
    assert Metric("held").of(None, outcomes) is None
    assert not Metric("held").measurable(None, outcomes) and Metric("outcome:hit").measurable(None, outcomes)


def test_a_value_in_a_result() -> None:
    result = {"tables": [{"rows": [["robe", 0.25], ["leaves", None]]}]}
    assert value_at(result, "tables/0/rows/0/1") == value_at(result, "tables/0/rows/robe/1") == 0.25
    for path, message in (("tables/0/rows/robes/1", "'robe'"), ("tables/3", "known: 0"), ("tables/0/rows/leaves/1",
                                                                                         "expected a number")):
        with pytest.raises(SuiteError, match=message):
            value_at(result, path)
