"""Stacks over all five sites: what they leave behind is nothing, what they did is written down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_action_site import edits as action_edits
from test_feature_site import edits as feature_edits
from test_memory_site import edits as memory_edits
from test_world_site import FARM
from test_world_site import edits as world_edits
from tiny import tiny_agent

from harness.intervention import (
    FramePatch,
    HueShift,
    Inpaint,
    Intervention,
    KeyBlock,
    MemoryReset,
    PixelMask,
    PixelNoise,
    Recolour,
    RemoveBlocks,
    Schedule,
    ZeroAblation,
)
from harness.intervention.build import build_intervention
from harness.intervention.stack import digest_of
from harness.recording.recorder import Recorder
from harness.recording.recording import open_recording
from harness.replay.replay import replay_recording
from harness.rollout import Episode, EpisodeResult, Step, run_episode
from harness.world.world import World, make_world

pytest.importorskip("torch")

N, SEED = 6, 5
LEAVES, COW = {"object": "leaves"}, {"object": "cow", "grow": 2}
input_edits = st.sampled_from([
    PixelMask(colour=(9, 9, 99), region=COW), PixelNoise(40), Recolour("#ff0000", region=LEAVES),
    HueShift(90, region=LEAVES), FramePatch(age=2), Inpaint(region=LEAVES), Inpaint(region=COW, relight=True)])


@st.composite
def stacks(draw: st.DrawFn) -> list[Intervention]:
    """Up to five that can run together, from any sites, each at some steps of the episode."""
    chosen: list[Intervention] = []
    for _ in range(draw(st.integers(1, 5))):
        edit = draw(st.one_of(world_edits, input_edits, memory_edits(), feature_edits(), action_edits))
        steps = draw(st.sets(st.integers(0, N - 1), min_size=max(1, len(getattr(edit, "actions", ())))))
        edit = replace(edit, schedule=Schedule(at=tuple(sorted(steps))))
        if not any(edit.clashes(other) or other.clashes(edit) for other in chosen):
            chosen.append(edit)
    return chosen


class Trace:
    """All that a step has, as digests; raises after a step if told. An observer."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.rows: list[Any] = []
        self._stop_after = stop_after

    def begin(self, episode: Episode) -> None:
        self._agent = episode.agent

    def on_step(self, step: Step) -> None:
        out = step.output
        self.rows.append([digest_of(value) for value in (
            step.observation["pov"], step.agent_observation["pov"], dict(out.action), dict(step.executed),
            dict(out.log_probs), self._agent.save_state(out.state), dict(step.info["outcomes"]))])
        if step.index == self._stop_after:
            raise KeyboardInterrupt

    def end(self, result: EpisodeResult) -> None:
        pass


@pytest.fixture(scope="module")
def farm() -> Any:
    with make_world(FARM) as world:
        yield world


def played(world: World, interventions: Sequence[Intervention], stop_after: int | None = None) -> list[Any]:
    trace = Trace(stop_after)
    run_episode(world, tiny_agent(), seed=SEED, max_steps=N, observers=[trace], interventions=interventions)
    return trace.rows


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(stacks(), st.integers(0, N - 1))
def test_any_stack_leaves_nothing_behind_and_can_be_written_down(farm: World, stack: list[Intervention], at: int
                                                                ) -> None:
    """Neither at its end nor where it broke off: weights, hooks, memory, world, and every byte of the next episode."""
    agent = tiny_agent()
    weights, plain = agent.weights_digest(), played(farm, [])
    under = played(farm, stack)
    with pytest.raises(KeyboardInterrupt):
        played(farm, stack, stop_after=at)
    assert not agent.policy.hook_stack.listeners and not agent.policy.hook_stack.depth
    agent._digest = None
    assert agent.weights_digest() == weights
    assert played(farm, []) == plain
    again = [build_intervention(json.loads(json.dumps(edit.describe()))) for edit in stack]
    assert again == stack
    # Across sites the order of the list means nothing; within one it is kept here.
    assert played(farm, sorted(again, key=lambda edit: edit.site)) == under


def test_every_site_writes_down_each_step_in_which_it_applied(tmp_path: Path) -> None:
    edits = [RemoveBlocks("leaves"), HueShift(90), MemoryReset(schedule=Schedule(at=(2, 4))),
             ZeroAblation("blocks.1.attn.hook_z", head=0, schedule=Schedule(between=(3, 4))),
             KeyBlock(["attack"], schedule=Schedule(at=5))]
    with make_world(FARM) as world, Recorder(tmp_path) as recorder:
        run_episode(world, tiny_agent(), seed=SEED, max_steps=N, observers=[recorder], interventions=edits)
    recording = open_recording(recorder.path)
    rows = [event for event in recording.events if event["type"] == "intervention"]
    assert {(row["site"], row["kind"], row["index"]): [r["step"] for r in rows if r["index"] == row["index"]]
            for row in rows} == {
        ("world", "RemoveBlocks", 0): [0], ("input", "HueShift", 1): [0, 1, 2, 3, 4, 5],
        ("memory", "MemoryReset", 2): [2, 4], ("feature", "ZeroAblation", 3): [3, 4], ("action", "KeyBlock", 4): [5]}
    parts = {"world": "world", "input": "pov", "memory": "memory", "feature": "blocks.1.attn.hook_z",
             "action": "action"}
    for row in rows:
        ((part, (before, after)),) = row["changed"].items()
        assert part == parts[row["site"]] and len(before) == len(after) == 16
        assert before != after or row["site"] == "action"
    seen = [digest_of(picture) for picture in recording.pov]
    assert [row["changed"]["pov"][0] for row in rows if row["site"] == "input"] == seen
    assert [row["changed"]["pov"][1] for row in rows if row["site"] == "input"] == [
        digest_of(np.asarray(picture)) for picture in recording.agent_pov]
    assert replay_recording(recording, agent=tiny_agent()).ok
