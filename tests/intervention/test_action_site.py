"""Edits of the action: keys blocked, noise, a forced sequence, a delay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeAgent, FakeWorld, make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.scripted import NoopAgent
from harness.errors import InterventionError
from harness.intervention import (
    ActionDelay,
    ActionNoise,
    ActionOverride,
    ActionSequence,
    Intervention,
    InterventionStack,
    KeyBlock,
    Schedule,
)
from harness.intervention.build import build_intervention
from harness.recording.recorder import Recorder
from harness.recording.recording import open_recording
from harness.replay.replay import replay_recording
from harness.rollout import run_episode
from harness.world.action import BUTTONS, KEYS, Action, action_space, noop_action

SPACE = action_space()
NOBODY = NoopAgent()
bits = st.integers(0, 1)
angles = st.floats(-180, 180, width=32)
actions = st.builds(lambda held, camera: {**dict.fromkeys(BUTTONS, 0), **held, "camera": np.array(camera, np.float32)},
                    st.dictionaries(st.sampled_from(BUTTONS), bits), st.tuples(angles, angles))
partial = st.dictionaries(st.sampled_from(BUTTONS), bits) | st.builds(lambda c: {"camera": list(c)},
                                                                      st.tuples(angles, angles))
schedules = st.one_of(st.just(Schedule()), st.builds(lambda n: Schedule(every=n), st.integers(1, 4)),
                      st.builds(lambda a, n: Schedule(between=(a, a + n)), st.integers(0, 6), st.integers(9, 12)))
edits = st.one_of(
    st.builds(KeyBlock, st.lists(st.sampled_from(KEYS), min_size=1, max_size=4), schedule=schedules),
    st.builds(ActionNoise, st.floats(0.01, 1), st.floats(0, 20), schedule=schedules),
    st.builds(ActionNoise, camera=st.floats(0.1, 20), keys=st.lists(st.sampled_from(BUTTONS), min_size=1)),
    st.builds(ActionSequence, st.lists(partial, min_size=1, max_size=3), schedule=schedules),
    st.builds(ActionDelay, st.integers(1, 5), schedule=schedules))


def play(stack: InterventionStack, chosen: list[Action], start: int = 0) -> list[Action]:
    return [stack.change_action(action, start + i, {}) for i, action in enumerate(chosen)]


def plain(action: Action) -> dict[str, Any]:
    return {key: np.asarray(value).tolist() for key, value in action.items()}


def stack_of(*interventions: Intervention, seed: int = 1) -> InterventionStack:
    return InterventionStack(interventions, agent=NOBODY, seed=seed)


@settings(max_examples=60, deadline=None)
@given(st.lists(edits, min_size=1, max_size=3), st.lists(actions, min_size=1, max_size=12), st.integers(0, 12))
def test_any_stack_gives_actions_leaves_what_it_was_given_and_goes_on_from_a_snapshot(
        stack: list[Intervention], chosen: list[Action], cut: int) -> None:
    before = [plain(action) for action in chosen]
    whole = stack_of(*stack)
    executed = play(whole, chosen)
    assert all(SPACE.contains(action) for action in executed)
    assert [plain(action) for action in chosen] == before
    first = stack_of(*stack)
    half = play(first, chosen[:cut])
    saved = json.dumps(first.save())
    play(first, chosen[cut:], cut)
    second = stack_of(*stack)
    second.load(json.loads(saved))
    again = half + play(second, chosen[cut:], cut)
    assert [plain(action) for action in again] == [plain(action) for action in executed]
    for edit in stack:
        assert build_intervention(json.loads(json.dumps(edit.describe()))) == edit


@settings(max_examples=40, deadline=None)
@given(st.sets(st.sampled_from(KEYS), min_size=1), actions)
def test_a_blocked_key_is_never_pressed_and_no_other_is_touched(keys: set[str], action: Action) -> None:
    (changed,) = play(stack_of(KeyBlock(sorted(keys))), [action])
    for key in KEYS:
        assert not np.any(changed[key]) if key in keys else np.array_equal(changed[key], action[key])


@settings(max_examples=40, deadline=None)
@given(st.lists(actions, min_size=1, max_size=12), st.integers(1, 6))
def test_a_delay_is_the_action_chosen_so_many_steps_ago(chosen: list[Action], steps: int) -> None:
    executed = play(stack_of(ActionDelay(steps)), chosen)
    wanted = ([noop_action()] * steps + chosen)[:len(chosen)]
    assert [plain(action) for action in executed] == [plain(action) for action in wanted]


def test_a_delay_starts_anew_where_its_schedule_does() -> None:
    chosen = [{**noop_action(), "camera": np.array([i, 0], np.float32)} for i in range(10)]
    two = [Schedule(at=list(range(0, 4)) + list(range(6, 10)))]
    executed = play(stack_of(ActionDelay(2, schedule=two[0])), chosen)
    assert [float(a["camera"][0]) for a in executed] == [0, 0, 0, 1, 4, 5, 0, 0, 6, 7]


@settings(max_examples=30, deadline=None)
@given(st.lists(partial, min_size=1, max_size=4), st.integers(0, 4), actions)
def test_a_sequence_is_played_from_its_first_step_and_then_lets_go(given: list[Any], start: int, own: Action) -> None:
    edit = ActionSequence(given, schedule=Schedule(between=(start, start + len(given) + 3)))
    executed = play(stack_of(edit), [own] * (start + len(given) + 2))
    wanted = [plain(own)] * start + [plain({**noop_action(), **each}) for each in given] + [plain(own)] * 2
    assert [{**w, "camera": [*map(float, w["camera"])]} for w in wanted] == [plain(action) for action in executed]


def test_a_sequence_takes_one_action_at_each_step_of_its_schedule() -> None:
    forced = ActionSequence([{"jump": 1}, {"use": 1}], schedule=Schedule(every=3))
    executed = play(stack_of(forced), [noop_action()] * 8)
    pressed = [(i, key) for i, action in enumerate(executed) for key in BUTTONS if action[key]]
    assert pressed == [(0, "jump"), (3, "use")]


def test_noise_has_its_rates_and_belongs_to_seed_and_step() -> None:
    noise = ActionNoise(flip=0.2, camera=3.0)
    n = 2000
    chosen = [{**noop_action(), "forward": 1} for _ in range(n)]
    executed = play(stack_of(noise), chosen)
    flips = np.array([[a[key] != c[key] for key in BUTTONS] for a, c in zip(executed, chosen, strict=True)])
    touched = [BUTTONS.index(key) for key in noise.keys]
    # Five standard errors of a share of 0.2 over n draws; the seed is fixed.
    assert np.abs(flips[:, touched].mean(0) - 0.2).max() < 5 * np.sqrt(0.16 / n)
    assert not np.delete(flips, touched, 1).any(), "keys that open screens are left alone"
    turns = np.array([a["camera"] for a in executed])
    assert np.abs(turns.std(0) - 3.0).max() < 0.25 and np.abs(turns.mean(0)).max() < 0.35
    assert [plain(a) for a in play(stack_of(noise), chosen[:20], 50)] == [plain(a) for a in executed[50:70]]
    assert [plain(a) for a in play(stack_of(noise, seed=2), chosen[:20])] != [plain(a) for a in executed[:20]]


def test_the_order_of_a_stack_matters_as_documented() -> None:
    press, block = ActionOverride({"attack": 1}), KeyBlock("attack")
    assert play(stack_of(press, block), [noop_action()])[0]["attack"] == 0
    assert play(stack_of(block, press), [noop_action()])[0]["attack"] == 1


def test_an_episode_under_noise_and_delay_is_replayed_to_the_byte(tmp_path: Path) -> None:
    """Chosen and executed actions are both recorded, and a replay gives both again."""
    edits = [ActionNoise(0.3, 2.0, schedule=Schedule(between=(2, 20))), ActionDelay(3), KeyBlock(["back"]),
             ActionSequence([{"forward": 1}] * 4, schedule=Schedule(since="walked"))]
    agent = FakeAgent()
    with Recorder(tmp_path) as recorder:
        run_episode(FakeWorld(make_scenario(30)), agent, seed=3, observers=[recorder], interventions=edits)
    recording = open_recording(recorder.path)
    assert any(row["chosen"] != row["executed"] for row in recording.steps)
    log = [event for event in recording.events if event["type"] == "intervention"]
    assert {event["kind"] for event in log} >= {"ActionNoise", "ActionDelay", "KeyBlock"}
    assert all(len(event["changed"]["action"]) == 2 for event in log)
    assert replay_recording(recording, agent=agent, world=FakeWorld(make_scenario(30))).ok


@pytest.mark.parametrize(("spec", "words"), [
    ({"kind": "KeyBlock", "keys": ["atack"]}, ['unknown key "atack"', "attack"]),
    ({"kind": "KeyBlock", "keys": []}, ["expected keys"]),
    ({"kind": "KeyBlock", "keys": {"attack": 0}}, ["expected keys"]),
    ({"kind": "ActionNoise"}, ["both 0"]),
    ({"kind": "ActionNoise", "flip": 1.5}, ["flip: expected a number from 0 to 1"]),
    ({"kind": "ActionNoise", "camera": -1}, ["camera: expected"]),
    ({"kind": "ActionNoise", "flip": float("nan")}, ["flip: expected"]),
    ({"kind": "ActionNoise", "flip": 0.1, "keys": ["camera"]}, ['unknown key "camera"']),
    ({"kind": "ActionSequence", "actions": []}, ["expected actions"]),
    ({"kind": "ActionSequence", "actions": [{"forward": 1}, {"fly": 1}]}, ["action 1", '"fly"']),
    ({"kind": "ActionSequence", "actions": [{"forward": 1}] * 3, "at": 4}, ["1 steps for 3", "between: [4, 6]"]),
    ({"kind": "ActionSequence", "actions": [{}] * 3, "between": [4, 7], "every": 2}, ["2 steps for 3 actions"]),
    ({"kind": "ActionDelay", "steps": 0}, ["from 1 to 10000"]),
    ({"kind": "ActionDelay", "steps": True}, ["from 1 to 10000"])])
def test_what_cannot_be_is_refused_when_it_is_built(spec: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InterventionError) as found:
        build_intervention(spec)
    assert all(word in str(found.value) for word in words), str(found.value)
