"""Outcomes: value, first step and count, from statistics and from events."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ScenarioError
from harness.scenario.load import parse_scenario
from harness.scenario.outcomes import OutcomeTracker

HERE = (0.5, 100.0, 0.5)


@dataclass
class Sight:
    name: str
    tag: str | None = None
    distance: float = 2.0
    reachable: bool = True
    kind: str = "entity"


def tracker(outcome: str, **statistics: int) -> OutcomeTracker:
    world = "world: {entities: [{type: cow, tag: t, at: [0, 100, 0]}]}"
    scenario = parse_scenario(f"{world}\noutcomes: {{o: {outcome}}}")
    made = OutcomeTracker(scenario.outcomes)
    made.start(statistics, HERE)
    return made


def after(made: OutcomeTracker, *steps: dict[str, Any]) -> tuple[bool, int | None, int]:
    for i, step in enumerate(steps):
        made.update(i, step.get("statistics", {}), step.get("events", ()), step.get("looking_at"), step.get("position",
            HERE), step.get("pressed", ()), step.get("yaw", 0.0))
    result = made.results()["o"]
    assert set(result) == {"value", "first_step", "count"}
    assert made.met(["o"]) == result["value"] == (result["first_step"] is not None)
    return result["value"], result["first_step"], result["count"]


def hit(tag: str | None = "t", entity: str = "cow", type: str = "damage_entity") -> dict[str, Any]:
    return {"events": [{"type": type, "tag": tag, "entity": entity, "amount": 1.0}]}


@pytest.mark.parametrize(("outcome", "steps", "expected"), [
    ("{damaged: t}", [{}, hit(), hit()], (True, 1, 2)),
    ("{damaged: t}", [hit("other"), hit(None)], (False, None, 0)),
    ("{damaged: t}", [hit(type="kill_entity")], (False, None, 0)),
    ("{damaged: cow}", [hit(None)], (True, 0, 1)),
    ("{damaged: cow}", [hit(None, "pig")], (False, None, 0)),
    ("{damaged: any}", [hit(None, "pig")], (True, 0, 1)),
    ("{damaged: t, at_least: 3}", [hit(), hit(), {}, hit(), hit()], (True, 3, 4)),
    ("{killed: t}", [hit(), hit(type="kill_entity")], (True, 1, 1)),
    ("{killed: cow}", [{"statistics": {"kill_entity.cow": 1}}], (True, 0, 1)),
    ("{killed: cow}", [{"statistics": {"kill_entity.pig": 1, "mine_block.cow": 3}}], (False, None, 0)),
    ("{killed: c*}", [{"statistics": {"kill_entity.cow": 2}}], (True, 0, 2)),
    ("{mined: '*_log'}", [{"statistics": {"mine_block.stone": 4}}, {"statistics": {"mine_block.oak_log": 1}}], (True,
        1, 1)),
    ("{mined: '*_log'}", [{"statistics": {"mine_block.minecraft:oak_log": 1, "mine_block.birch_log": 2}}], (True, 0,
        3)),
    ("{mined: stone}", [{"events": [{"type": "mine_block", "block": "minecraft:stone"}]}], (True, 0, 1)),
    ("{collected: '*_log'}", [{"events": [{"type": "pickup", "item": "oak_log", "count": 3}]}], (True, 0, 3)),
    ("{collected: oak_log}", [{"statistics": {"pickup.oak_log": 1}}, {"statistics": {"pickup.oak_log": 5}}], (True, 0,
        5)),
    ("{looked_at: t}", [{"looking_at": Sight("cow", "t")}] * 3 + [{}], (True, 0, 3)),
    ("{looked_at: cow}", [{"looking_at": Sight("cow")}], (True, 0, 1)),
    ("{looked_at: '*_leaves', at_least: 2}", [{"looking_at": Sight("oak_leaves")}, {}] * 2, (True, 2, 2)),
    ("{looked_at: t, reachable: true}", [{"looking_at": Sight("cow", "t", reachable=False)}], (False, None, 0)),
    ("{looked_at: t, within: 1.5}", [{"looking_at": Sight("cow", "t", 1.6)}, {"looking_at": Sight("cow", "t", 1.5)}],
     (True, 1, 1)),
    ("{pressed: left, at_least: 2}", [{"pressed": ["left"]}, {}, {"pressed": ["jump", "left"]}], (True, 2, 2)),
    ("{pressed: [left, right]}", [{"pressed": ["right", "left"]}, {"pressed": ["right"]}], (True, 0, 2)),
    ("{pressed: left, since: 1, until: 2}", [{"pressed": ["left"]}] * 5, (True, 1, 2)),
    ("{pressed: left, until: 0}", [{}, {"pressed": ["left"]}], (False, None, 0)),
    ("{looked_at: t, pressing: attack}", [
        {"looking_at": Sight("cow", "t"), "pressed": ["use"]}, {"looking_at": Sight("pig"), "pressed": ["attack"]},
        {"looking_at": Sight("cow", "t"), "pressed": ["attack"]}], (True, 2, 1)),
    ("{moved: 5}", [{"position": (3.5, 103.9, 0.5)}, {}], (False, None, 0)),
    ("{moved: 5}", [{}, {"position": (3.5, 104.0, 0.5)}, {"position": HERE}], (True, 1, 1)),
], ids=lambda x: str(x)[:40])
def test_outcomes(outcome: str, steps: list[dict[str, Any]], expected: tuple[bool, int | None, int]) -> None:
    assert after(tracker(outcome), *steps) == expected


def test_statistics_count_from_the_start() -> None:
    """Counters are cumulative in a world; what was there before the episode is not the agent's doing."""
    before = {"mine_block.oak_log": 7}
    made = tracker("{mined: '*_log'}", **before)
    assert after(made, {"statistics": before}) == (False, None, 0)
    assert after(made, {"statistics": {"mine_block.oak_log": 8}})[2] == 1


def test_an_event_and_a_statistic_for_the_same_thing_count_once() -> None:
    step = {"statistics": {"mine_block.oak_log": 1}, "events": [{"type": "mine_block", "block": "oak_log"}]}
    assert after(tracker("{mined: oak_log}"), step) == (True, 0, 1)


def test_start_begins_anew() -> None:
    made = tracker("{damaged: t}")
    assert after(made, hit())[0]
    made.start({}, HERE)
    assert after(made, {}) == (False, None, 0)


def turning(*degrees: float, far: float = 0.0) -> list[dict[str, Any]]:
    x, y, z = HERE
    return [{"yaw": (sum(degrees[:i + 1]) + 180) % 360 - 180, "position": (x + far, y, z)} for i in range(len(degrees))]


@pytest.mark.parametrize(("outcome", "steps", "expected"), [
    ("{turned: 360}", turning(100, 100, 100, 60, 10), (True, 3, 2)),
    ("{turned: 360}", turning(-170, -170, -20), (True, 2, 1)),
    ("{turned: 360}", turning(170, 170, -170, 170, -170), (False, None, 0)),
    ("{turned: 90, staying: 1.5}", turning(50, 50, far=1.4), (True, 1, 1)),
    ("{turned: 90, staying: 1.5}", turning(50, far=1.6) + turning(0, 50, 50)[1:], (False, None, 0)),
    ("{turned: 90}", turning(50, 50, far=9), (True, 1, 1)),
])
def test_turns_are_counted_net(outcome: str, steps: list[dict[str, Any]], expected: tuple[Any, ...]) -> None:
    assert after(tracker(outcome), *steps) == expected


def test_what_is_saved_without_turns_is_as_it_was() -> None:
    assert set(tracker("{moved: 6}").save()) == {"start", "first", "counts", "counters"}


def test_met_is_any_of_the_names() -> None:
    scenario = parse_scenario("outcomes: {a: {killed: cow}, b: {killed: pig}}")
    made = OutcomeTracker(scenario.outcomes)
    made.start({}, HERE)
    made.update(0, {"kill_entity.pig": 1}, (), None, HERE)
    assert made.met(["a", "b"])
    assert not made.met(["a"])
    assert not made.met([])
    with pytest.raises(ScenarioError, match='unknown outcome "c"'):
        made.met(["c"])


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(1, 8))
def test_the_first_step_is_where_the_count_arrives(hits: list[int], at_least: int) -> None:
    made = tracker(f"{{damaged: t, at_least: {at_least}}}")
    total, first = 0, None
    for i, n in enumerate(hits):
        total += n
        if first is None and total >= at_least:
            first = i
        made.update(i, {}, hit()["events"] * n, None, HERE)
    assert made.results()["o"] == {"value": first is not None, "first_step": first, "count": total}


_STEP = st.fixed_dictionaries({
    "statistics": st.dictionaries(st.sampled_from(["mine_block.oak_log", "kill_entity.cow"]), st.integers(0, 9)),
    "events": st.lists(st.just(hit()["events"][0]), max_size=2),
    "looking_at": st.none() | st.just(Sight("cow", "t")),
    "position": st.tuples(st.floats(-9, 9), st.just(100.0), st.floats(-9, 9)),
    "pressed": st.lists(st.sampled_from(["attack", "left"]), max_size=2),
    "yaw": st.floats(-180, 180),
})


@given(st.lists(_STEP, max_size=6), st.lists(_STEP, max_size=6))
def test_saved_and_loaded_counts_as_if_nothing_had_been(before: list[dict[str, Any]],
                                                        after_: list[dict[str, Any]]) -> None:
    outcomes = parse_scenario(
        "world: {entities: [{type: cow, tag: t, at: [0, 100, 0]}]}\noutcomes: {a: {damaged: t, at_least: 2}, "
        "b: {mined: '*_log', at_least: 3}, c: {killed: cow}, d: {looked_at: t}, e: {moved: 6}, "
        "f: {pressed: left, since: 2}, g: {looked_at: t, pressing: attack}, h: {turned: 100, staying: 5}}").outcomes
    one, two = OutcomeTracker(outcomes), OutcomeTracker(outcomes)
    one.start({"mine_block.oak_log": 1}, HERE)
    for i, step in enumerate(before):
        one.update(i, **step)
    two.load(json.loads(json.dumps(one.save())))
    assert two.results() == one.results()
    for i, step in enumerate(after_, start=len(before)):
        one.update(i, **step)
        two.update(i, **step)
        assert two.results() == one.results()


def test_other_outcomes_saved_state_is_refused() -> None:
    with pytest.raises(ScenarioError, match="the saved outcomes are"):
        tracker("{killed: cow}").load(OutcomeTracker({}).save())
