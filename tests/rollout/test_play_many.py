"""Episodes that share a forward pass: each is what it would be alone."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.load import load_agent
from harness.agent.vpt.agent import VPTAgent
from harness.agent.vpt.config import VPTConfig
from harness.errors import HarnessError
from harness.intervention import KeyBlock, MemoryReset, PixelMask, RemoveBlocks, Schedule, ZeroAblation
from harness.intervention.intervention import Intervention
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.replay.replay import replay_recording
from harness.rollout import Episode, EpisodeResult, Play, Step, can_share, play_many, run_episode
from harness.scenario.load import load_scenario
from harness.scenario.schema import Scenario
from harness.world.world import make_world

TINY = VPTConfig(hidsize=16, heads=2, impala_width=1, blocks=2, window=5, channels=(4, 4, 4))
STEPS = 9


@functools.cache
def tiny_agent() -> VPTAgent:
    return VPTAgent(policy_kwargs=TINY.policy_kwargs(), pi_head_kwargs=TINY.pi_head_kwargs(), random_seed=0,
                    device="cpu")


@functools.cache
def meadow() -> Scenario:
    return load_scenario("villager", parameters={"trees": 0})


@functools.cache
def woods() -> Scenario:
    return load_scenario("trunk", parameters={"trees": 3})


class Log:
    """Everything an observer can see of an episode."""

    def __init__(self, deadly: int | None = None) -> None:
        self.rows: list[Any] = []
        self.result: EpisodeResult | None = None
        self._deadly = deadly

    def begin(self, episode: Episode) -> None:
        self.rows = [("begin", episode.seed, episode.max_steps)]

    def on_step(self, step: Step) -> None:
        if step.index == self._deadly:
            raise ValueError("a broken observer")
        probabilities = [step.output.log_probs[head].tobytes() for head in sorted(step.output.log_probs)]
        action = {key: np.asarray(value).tolist() for key, value in step.executed.items()}
        self.rows.append((step.index, probabilities, step.output.tokens, action, step.info["pose"],
                          step.terminated, step.truncated))

    def end(self, result: EpisodeResult) -> None:
        self.result = result


def together(wanted: list[tuple[Scenario, int, int]], slots: int) -> list[list[Any]]:
    logs = [Log() for _ in wanted]
    plays = [Play(scenario, seed, steps, (log,), number)
             for number, ((scenario, seed, steps), log) in enumerate(zip(wanted, logs, strict=True))]
    ended = [play.label for play, result in play_many(tiny_agent(), plays, slots=slots) if result.error is None]
    assert sorted(ended) == list(range(len(wanted)))
    return [log.rows for log in logs]


def test_one_slot_plays_what_run_episode_plays() -> None:
    for scenario in (meadow(), woods()):
        log = Log()
        with make_world(scenario) as world:
            result = run_episode(world, tiny_agent(), seed=5, max_steps=STEPS, observers=[log])
        (rows,) = together([(scenario, 5, STEPS)], 1)
        assert rows == log.rows and len(rows) == STEPS + 1
        assert result.status == "truncated"


@functools.cache
def alone(seed: int, steps: int, wooded: bool) -> list[Any]:
    return together([(woods() if wooded else meadow(), seed, steps)], 4)[0]


episodes = st.tuples(st.integers(0, 3), st.integers(1, STEPS), st.booleans())


@settings(max_examples=12, deadline=None)
@given(st.lists(episodes, min_size=2, max_size=9))
def test_an_episode_depends_on_neither_neighbours_nor_row(wanted: list[tuple[int, int, bool]]) -> None:
    """Bit for bit, rows that were used before and rows that stay empty included."""
    played = together([(woods() if wooded else meadow(), seed, steps) for seed, steps, wooded in wanted], 4)
    for episode, rows in zip(wanted, played, strict=True):
        assert rows == alone(*episode)


def test_the_small_network_as_shipped_does_not_depend_on_its_row_either() -> None:
    """The sizes that are really used: 16 rows of vpt-nano, each in its place and in another."""
    agent, rng = load_agent("vpt-nano", device="cpu"), np.random.default_rng(0)
    assert isinstance(agent, VPTAgent)
    frames = rng.integers(0, 256, (16, 2, 360, 128, 3), dtype=np.uint8)

    def look(rows: list[int | None]) -> dict[int, list[bytes]]:
        state, seen = agent.initial_states(16), {row: list[bytes]() for row in rows if row is not None}
        for t in range(2):
            outputs, state = agent.act_together(
                [None if row is None else {"pov": frames[row, t]} for row in rows], state,
                [np.random.default_rng(0)] * 16, [t == 0 or row is None for row in rows])
            for row, output in zip(rows, outputs, strict=True):
                if row is not None:
                    assert output is not None
                    seen[row] += [output.log_probs["buttons"].tobytes(), output.log_probs["camera"].tobytes()]
        return seen

    full = look(list(range(16)))
    assert look([int(row) for row in rng.permutation(16)]) == full
    assert look([None] * 9 + [3] + [None] * 6)[3] == full[3]
    assert full[0] != full[1]


def test_a_broken_episode_ends_alone() -> None:
    logs = [Log(), Log(deadly=2), Log()]
    plays = [Play(meadow(), seed, 5, (log,), seed) for seed, log in enumerate(logs)]
    ended = {play.label: result for play, result in play_many(tiny_agent(), plays, slots=2)}
    assert {label: result.status for label, result in ended.items()} == {0: "truncated", 1: "failed", 2: "truncated"}
    assert ended[1].error == "ValueError: a broken observer" and logs[1].result == ended[1]
    assert logs[0].rows == together([(meadow(), 0, 5)], 2)[0], "its neighbour did not notice"


@pytest.mark.parametrize("name", ["noop", "tiny"])
def test_a_world_that_cannot_be_built_is_that_episodes_result(name: str) -> None:
    agent = tiny_agent() if name == "tiny" else load_agent("noop")
    broken = make_scenario(world={"blocks": [{"scatter": ["oak"], "count": 64, "from": [5, 5], "to": [6, 6]}]})
    plays = [Play(broken, 1, 2), Play(meadow(), 1, 2)]
    results = {play.scenario.name: result for play, result in play_many(agent, plays, slots=2)}
    assert results["stripes"].status == "failed" and "ScenarioError" in (results["stripes"].error or "")
    assert results["villager"].status == "truncated" and results["villager"].n_steps == 2


def test_scripted_agents_play_one_after_the_other() -> None:
    log, ticks = Log(), list[int]()
    scenario = load_scenario("trunk", parameters={"trees": 0})
    plays = (Play(scenario, seed, 4, (log,)) for seed in (1, 2))
    ended = [(play.seed, result.n_steps) for play, result in play_many(load_agent("random"), plays,
                                                                      ticked=ticks.append)]
    assert ended == [(1, 4), (2, 4)] and ticks == [4, 4]
    reference = Log()
    with make_world(scenario) as world:
        run_episode(world, load_agent("random"), seed=2, max_steps=4, observers=[reference])
    assert log.rows == reference.rows


EDITS: dict[str, tuple[Intervention, ...]] = {
    "whole": (),
    "calm": (KeyBlock(["attack"]),),
    "blind": (PixelMask(0, 0, 320, 360),),
    "bare": (RemoveBlocks("leaves"), KeyBlock(["forward"], schedule=Schedule(since="looked_at_villager"))),
}


def edited(names: list[str], slots: int) -> dict[str, tuple[list[Any], int]]:
    """What each play logs, and in how many steps something applied."""
    logs, counts = {name: Log() for name in names}, {name: Applied() for name in names}
    plays = [Play(meadow(), 3, 6, (logs[name], counts[name]), name, interventions=EDITS[name]) for name in names]
    for play, result in play_many(tiny_agent(), plays, slots=slots):
        assert result.error is None, (play.label, result.error)
    return {name: (logs[name].rows, counts[name].n) for name in names}


class Applied(Log):
    n = 0

    def on_step(self, step: Step) -> None:
        self.n += len(step.applied)


def test_interventions_act_on_their_own_row() -> None:
    """Bit for bit what they do with no neighbour; with one slot, what run_episode does."""
    played = edited(list(EDITS), 4)
    assert len({str(rows) for rows, _ in played.values()}) >= 3
    assert played["whole"][1] == 0 and played["calm"][1] == 6 == played["blind"][1] and played["bare"][1] > 0
    for name, what in played.items():
        assert edited([name], 4)[name] == what
    log = Log()
    with make_world(meadow()) as world:
        run_episode(world, tiny_agent(), seed=3, max_steps=6, observers=[log], interventions=EDITS["bare"])
    assert edited(["bare"], 1)["bare"][0] == log.rows


def test_what_acts_inside_the_network_has_no_neighbours() -> None:
    inside = (ZeroAblation("blocks.0.attn.hook_z"),)
    assert not can_share(inside) and can_share(EDITS["bare"]) and not can_share((), "elsewhere")
    assert not can_share((MemoryReset(schedule=Schedule(every=5)),))
    with pytest.raises(HarnessError, match="slots=1"):
        list(play_many(tiny_agent(), [Play(meadow(), 1, 3, interventions=inside)], slots=2))
    ((_, result),) = play_many(tiny_agent(), [Play(meadow(), 1, 3, interventions=inside)], slots=1)
    assert result.status == "truncated"


def test_rows_are_recorded_as_if_alone(tmp_path: Path) -> None:
    """Activations, pictures and snapshots of a row are its own, whoever plays beside it."""
    hooks = tuple(tiny_agent().resolve_hooks(["blocks.1.attn.hook_pattern", "hook_embed"]))

    def record(seeds: list[int], folder: Path) -> dict[int, Recording]:
        recorders = {seed: Recorder(folder / str(seed)) for seed in seeds}
        plays = [Play(meadow(), seed, 5, (recorders[seed],), hooks=hooks if seed != 9 else (), whole=seed != 8)
                 for seed in seeds]
        for _, result in play_many(tiny_agent(), plays, slots=3):
            assert result.error is None
        return {seed: open_recording(recorder.path) for seed, recorder in recorders.items()}

    full, alone = record([9, 5, 6], tmp_path / "full"), record([5], tmp_path / "alone")[5]
    one = full[5]
    assert one.complete and one.header["agent"]["batch_shape"] == [3, 1] and not full[9].activations.keys() & set(hooks)
    assert np.array_equal(np.stack([one.pov[i] for i in range(5)]), np.stack([alone.pov[i] for i in range(5)]))
    for name in hooks:
        assert np.array_equal(one.activations[name][:], alone.activations[name][:])
    with make_world(meadow()) as world, Recorder(tmp_path / "single") as recorder:
        run_episode(world, tiny_agent(), seed=5, max_steps=5, observers=[recorder], hooks=hooks)
    single = open_recording(recorder.path)
    assert np.array_equal(one.pov[0], single.pov[0])
    for name in hooks:
        assert np.allclose(one.activations[name][0], single.activations[name][0], atol=1e-5)
    first = one.snapshots[0]
    assert first.agent.keys() == single.snapshots[0].agent.keys() and first.world == single.snapshots[0].world


def test_the_memory_of_a_row() -> None:
    agent, rng = tiny_agent(), np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 360, 640, 3), dtype=np.uint8)
    state = agent.initial_states(3)
    streams = [np.random.default_rng(0) for _ in frames]
    _, state = agent.act_together([{"pov": frame} for frame in frames], state, streams, [True] * 3)
    own = agent.save_state(agent.memory_of(state, 1))
    single = agent.save_state(agent.act({"pov": frames[1]}, agent.initial_state(), np.random.default_rng(0)).state)
    assert own.keys() == single.keys()
    assert all(np.allclose(own[name], single[name], atol=1e-5) for name in own)
    assert agent.load_state(own).batch_size == 1


def test_what_cannot_be_played_is_said() -> None:
    with pytest.raises(HarnessError, match="slot"):
        list(play_many(tiny_agent(), [], slots=0))
    for play in (Play(meadow(), -1), Play(meadow(), 1, 0)):
        with pytest.raises(HarnessError, match="seed"):
            list(play_many(tiny_agent(), [play]))


def test_a_recorded_row_replays_to_the_same_bits(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    plays = [Play(meadow(), 4, 5, (recorder,), whole=True), Play(meadow(), 9, 3)]
    assert all(result.error is None for _, result in play_many(tiny_agent(), plays, slots=3))
    report = replay_recording(open_recording(recorder.path), agent=tiny_agent())
    assert report.ok and report.n_log_probs == 5 and report.max_log_prob_difference == 0.0
