"""Key-frames: planted ones are found, and nothing where nothing was planted; scores against brute force and chance."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fakes import FakeAgent
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_attention import PlantedAttention, Scores, record

from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.analysis import key_frames
from harness.analysis.event_log import agreements, event_frames, n_matched, random_frames
from harness.analysis.keyframes import find_streaks, pick_frames
from harness.cli import cli
from harness.errors import HarnessError, RecordingError
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

ATTACKS = (3, 4, 5, 20, 21, 22)
SHOWN = (6, 23)
"""Every third attack is a hit; the next picture is the first to show it."""


def after_events(step: int, age: int) -> float:
    """Content: the newest frame that first showed a hit."""
    shown = [frame for frame in SHOWN if frame <= step]
    return 60.0 if shown and step - age == shown[-1] else 0.0


def four_back(step: int, age: int) -> float:
    return 60.0 if age == 4 else 0.0


def old(step: int, age: int) -> float:
    """Bias: the older the better."""
    return 0.5 * age


def nothing(step: int, age: int) -> float:
    return 0.0


def test_the_frame_after_each_event_is_found_and_nothing_else(tmp_path: Path) -> None:
    agent = PlantedAttention([four_back, after_events], [nothing, old], ATTACKS)
    found = key_frames([record(tmp_path, agent, 45)], draws=199)
    assert [each.step for each in found.frames] == list(SHOWN)
    first, second = found.frames
    assert first.head == "0.1" and first.queries == (10, 22) and second.queries == (27, 44)
    assert first.weight == pytest.approx(1, abs=0.2) and first.n_heads == 1
    assert (first.event, first.distance) == ("damage_entity", 0)
    everything, hits = found.agreements
    assert everything.kind == "all" and hits.kind == "damage_entity" and hits.n_events == hits.n_matched == 2
    assert hits.precision == hits.recall == hits.f1 == 1 and hits.p < 0.05 and hits.null_interval.high < 1
    assert found.keyframes == {each.step: each.mass for each in found.frames}
    assert found.arrays()["step"].tolist() == list(SHOWN) and np.isnan(found.arrays()["received"][-1])
    received = found.series[0].received
    assert np.nanargmax(received) in SHOWN, "what a streak finds has received the most, too"


@pytest.mark.parametrize(("content", "bias"), [(four_back, nothing), (nothing, old), (nothing, nothing)])
def test_ages_make_no_key_frames(tmp_path: Path, content: Scores, bias: Scores) -> None:
    """Neither a head that always looks four frames back, nor one whose bias alone favours old frames."""
    found = key_frames([record(tmp_path, PlantedAttention([content], [bias], ATTACKS), 45)], draws=49)
    assert found.frames == () and found.agreements[0].f1 == 0 and found.agreements[0].p == 1
    assert found.agreements[0].precision is None


def test_several_recordings_count_together(tmp_path: Path) -> None:
    agent = PlantedAttention([after_events], attacks=ATTACKS)
    recordings = [record(tmp_path / str(seed), agent, 40, seed=seed) for seed in range(2)]
    found = key_frames(recordings, draws=99)
    assert [(each.recording, each.step) for each in found.frames] == [(0, 6), (0, 23), (1, 6), (1, 23)]
    assert found.agreements[0].n_events == 4 and found.agreements[0].f1 == 1 and len(found.keyframes) == 2


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    agent = PlantedAttention([after_events], attacks=ATTACKS)
    recording = record(tmp_path, agent, 40)
    for options, words in (({"excess": 1.5}, "excess between 0 and 1"), ({"streak": 0}, "streak: expected a number"),
                           ({"heads": ("1.0",)}, 'unknown head "1.0"'), ({"causal": True}, "causal needs the agent"),
                           ({"events": ("mine_*",)}, 'unknown kind of event .* "mine_\\*"')):
        with pytest.raises(HarnessError, match=words):
            key_frames([recording], draws=9, **options)  # type: ignore[arg-type]
    with pytest.raises(RecordingError, match="has 6 steps; a streak of 3 at age 4 needs 7"):
        key_frames([record(tmp_path, agent, 6)])
    with pytest.raises(RecordingError, match="no attention pattern and rel_bias") as bare:
        key_frames([record(tmp_path, FakeAgent(), 9, ("*pattern",))])
    assert '--hooks "blocks.*.attn.hook_rel_bias"' in str(bare.value)
    with pytest.raises(RecordingError, match="fake has none"):
        key_frames([record(tmp_path, FakeAgent(), 9, ("*pattern",))], agent=FakeAgent())


# --- the parts ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.integers(2, 9), st.integers(1, 4), st.integers(1, 3))
def test_streaks_against_counting_by_hand(seed: int, n: int, window: int, streak: int, min_age: int) -> None:
    beyond = np.random.default_rng(seed).choice([0.0, 0.5], (n, 2, window), p=[0.4, 0.6])
    found = find_streaks(beyond, min_age, 0.3, streak)
    for frame in range(n):
        mass, holding = 0.0, 0
        for head in range(2):
            held = [bool(beyond[frame + age, head, age]) if frame + age < n and age >= min_age else False
                    for age in range(window)]
            runs = [len(list(run)) for key, run in itertools.groupby(held) if key]
            mine = sum(run for run in runs if run >= streak) * 0.5
            mass, holding = mass + mine, holding + (mine > 0)
            if head == found.head[frame]:
                assert found.last[frame] - found.first[frame] + 1 == max(runs)
                assert all(held[found.first[frame]:found.last[frame] + 1])
        assert found.mass[frame] == pytest.approx(mass) and found.n_heads[frame] == holding
        assert (found.head[frame] < 0) == (mass == 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 15), max_size=5, unique=True), st.lists(st.integers(0, 15), max_size=5, unique=True),
       st.integers(0, 4))
def test_matching_is_the_largest_there_is(frames: list[int], events: list[int], tolerance: int) -> None:
    small, large = sorted((frames, events), key=len)
    best = max((sum(abs(a - b) <= tolerance for a, b in zip(small, order, strict=False))
                for order in itertools.permutations(large, len(small))), default=0)
    assert n_matched(sorted(frames), sorted(events), tolerance) == best


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(0, 4), st.integers(0, 30))
def test_random_frames_keep_apart(seed: int, k: int, apart: int, more: int) -> None:
    n = (k - 1) * (apart + 1) + 1 + more
    drawn = random_frames(np.random.default_rng(seed), n, k, apart)
    assert len(drawn) == k and drawn[0] >= 0 and drawn[-1] < n and (np.diff(drawn) > apart).all()


def test_of_crowded_frames_the_one_with_most_mass_is_kept() -> None:
    assert pick_frames(np.array([0, 3, 5, 4, 0, 1, 0, 2.0]), 2) == [2, 7] and pick_frames(np.zeros(4), 2) == []


def test_random_picks_are_within_the_null() -> None:
    """Frames that know nothing of the events: p is as uniform as ranks can be."""
    rng, p = np.random.default_rng(0), []
    for seed in range(60):
        events = {"hit": random_frames(rng, 100, 6, 2).tolist()}
        p.append(agreements([random_frames(rng, 100, 6, 2).tolist()], [events], [100], draws=99, seed=seed)[0].p)
    assert np.mean(np.array(p) <= 0.05) <= 0.12 and 0.4 < np.mean(p) < 0.8


# --- agents of which something is known ----------------------------------------------------------------------------

HOOKS = ("blocks.*.attn.hook_pattern", "blocks.*.attn.hook_rel_bias")


def play(folder: Path, scenario: str, agent: str, hooks: tuple[str, ...], seed: int = 1, steps: int | None = None
         ) -> Recording:
    pytest.importorskip("torch")
    with make_world(load_scenario(scenario)) as world, Recorder(folder) as recorder:
        run_episode(world, load_agent(agent, device="cpu"), seed=seed, max_steps=steps, observers=[recorder],
                    hooks=list(hooks))
    return open_recording(recorder.path)


@pytest.fixture(scope="module")
def recalled(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return play(tmp_path_factory.mktemp("recall"), "recall", "recall", HOOKS)


@pytest.fixture(scope="module")
def recall() -> Agent:
    return load_agent("recall", device="cpu")


def test_recall_looks_at_its_cue_when_it_is_asked_and_needs_it(recalled: Recording, recall: Agent) -> None:
    """The red wall stands in picture 6; the answer is due from 18 on."""
    found = key_frames([recalled], agent=recall, draws=99, causal=True, n_controls=4)
    (cue,) = found.frames
    assert abs(cue.step - 6) <= 1 and cue.queries[0] >= 18 and cue.weight > 0.9 and cue.event == "scenario"
    assert event_frames(recalled)["scenario"] == [6, 7, 18]
    assert found.effects is not None and found.effects.lift is not None
    (hidden,) = found.effects.each
    assert hidden.effect > 100 * max(hidden.controls.values()) and hidden.p == 1 / 5
    assert found.effects.lift > 100 and found.effects.interval is None, "one key-frame has no interval"
    assert not {6, 7} & set(hidden.controls) and len(hidden.controls) == 4


def test_the_agent_looks_again_where_its_attention_was_not_recorded(recalled: Recording, recall: Agent,
                                                                    tmp_path: Path) -> None:
    whole, bare = (key_frames([recording], agent=recall, draws=9)
                   for recording in (recalled, play(tmp_path, "recall", "recall", HOOKS[:1])))
    np.testing.assert_allclose(whole.series[0].mass, bare.series[0].mass, atol=1e-4)
    assert [each.step for each in whole.frames] == [each.step for each in bare.frames]


def test_random_weights_score_as_random_frames_do(tmp_path: Path) -> None:
    """Over the same pictures: the trained agent's heads find every hit, those of random weights no more than chance."""
    recording = play(tmp_path, "villager", "vpt-nano", HOOKS, seed=24, steps=64)
    trained = key_frames([recording], events=("damage_entity",), draws=499)
    untrained = load_agent("untrained", device="cpu")
    assert key_frames([recording], agent=untrained, draws=49).frames == (), "nothing stands out as much to it"
    loose = key_frames([recording], agent=untrained, events=("damage_entity",), excess=0.02, draws=499)
    assert trained.agreements[0].recall == 1 and {18, 45} <= set(trained.keyframes)
    assert loose.frames and loose.agreements[0].f1 <= loose.agreements[0].null_interval.high
    assert loose.provenance["agent"].startswith("untrained, ") and "Random weights" in loose.tables()[0].note


def test_the_command_prints_all_three_tables(recalled: Recording) -> None:
    result = CliRunner().invoke(cli, ["analyse", str(recalled.path), "keyframes", "--quiet", "--set", "causal=true",
                                      "--set", "n_controls=1", "--set", "draws=9"])
    assert result.exit_code == 0, result.output
    for words in ("1 key-frames: recall", "against events, within 2 frames", "hidden during their longest streak"):
        assert words in result.stdout
