"""Effects: known numbers, nothing from nothing, and the cause that was planted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.agent.scripted import NoopAgent
from harness.analysis import difference_of_means, effect, mean_activation
from harness.analysis.open_loop import kl_divergence, log_odds
from harness.cli import cli
from harness.errors import AgentError, HarnessError, RecordingError
from harness.intervention import (
    Inpaint,
    Intervention,
    InterventionStack,
    KeyBlock,
    MemoryKnockout,
    PixelMask,
    RemoveBlocks,
    Schedule,
    Steering,
    ZeroAblation,
)
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

torch = pytest.importorskip("torch")

STEPS = 14


def play(folder: Path, scenario: str, agent: Agent, seed: int, steps: int = STEPS, hooks: tuple[str, ...] = (),
         interventions: tuple[Intervention, ...] = (), **parameters: Any) -> Recording:
    loaded = load_scenario(scenario, parameters=parameters)
    with make_world(loaded) as world, Recorder(folder) as recorder:
        run_episode(world, agent, seed=seed, max_steps=steps, observers=[recorder], hooks=list(hooks),
                    interventions=interventions)
    return open_recording(recorder.path)


GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def test_the_divergence_is_the_originals() -> None:
    """Between each frame's distributions and those of the frame that mirrors it in time, over both heads."""
    theirs = json.loads((GOLDEN / "golden_sampling.json").read_text())["kl_to_time_flipped"]
    with np.load(GOLDEN / "golden_vpt_tiny_mem8.npz", allow_pickle=False) as arrays:
        rows = [arrays[f"step_{head}"][:, :20, 0] for head in ("camera", "buttons")]
    for b in range(2):
        ours = sum(kl_divergence(row[b], row[b][::-1]) for row in rows)
        np.testing.assert_allclose(ours, theirs[b], atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def agent() -> Agent:
    return load_agent("vpt-nano", device="cpu")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, agent: Agent) -> Recording:
    names = ("hook_embed", "readout.attack.hook_margin", "ln_final.hook_normalized")
    return play(tmp_path_factory.mktemp("villager"), "villager", agent, 1, hooks=names)


def test_log_odds_are_the_policys_margin(recorded: Recording, agent: Agent) -> None:
    """The policy has a read-out of its own: the same number, made elsewhere."""
    outputs, _ = agent.trace_frames(recorded.pov[:3])  # type: ignore[attr-defined]
    for step in range(3):
        assert log_odds(outputs[step].log_probs["buttons"], "attack") == pytest.approx(
            float(recorded.activations["readout.attack.hook_margin"][step]), abs=1e-4)


def test_the_numbers_are_those_of_two_runs_by_hand(recorded: Recording, agent: Agent) -> None:
    edit = ZeroAblation("blocks.2.attn.hook_z", head=1, schedule=Schedule(between=(4, 9)))
    found = effect(recorded, agent, [edit], keys=["attack", "forward"], controls=2)
    plain, _ = agent.trace_frames(recorded.pov[:])  # type: ignore[attr-defined]
    with InterventionStack([edit], agent=agent, seed=recorded.seed) as stack, stack.looking(range(STEPS)):
        treated = [choose(None) for choose in
                   agent.look_ahead(recorded.pov[:], agent.initial_state())[0]]  # type: ignore[attr-defined]
    for key in ("attack", "forward"):
        by_hand = [log_odds(b.log_probs["buttons"], key) - log_odds(a.log_probs["buttons"], key)
                   for a, b in zip(plain, treated, strict=True)]
        np.testing.assert_allclose(found.series[key][0], by_hand, atol=1e-4)
    kl = []
    for a, b in zip(plain, treated, strict=True):
        kl.append(sum(float((np.exp(p) * (p - q)).sum()) for p, q in (
            (np.asarray(a.log_probs[head], np.float64), np.asarray(b.log_probs[head], np.float64))
            for head in ("buttons", "camera"))))
    np.testing.assert_allclose(found.series["kl"][0], kl, atol=1e-4)
    assert not found.series["attack"][0][:4].any(), "nothing before the schedule"
    assert found.series["kl"][0][10:].any(), "what was written into the memory stays"
    assert found.applied == 6 / STEPS and found.uncontrolled == ()
    change = found.changes["attack"]
    assert len(change.controls) == 2 and change.p is not None and change.interval.low <= change.mean
    assert change.mean == pytest.approx(found.series["attack"][0].mean())


def test_what_changes_nothing_has_no_effect(recorded: Recording, agent: Agent) -> None:
    nothing = Steering("hook_embed", direction=np.ones(128, np.float32), strength=0)
    found = effect(recorded, agent, [nothing], controls=3)
    assert not any(each.any() for series in found.series.values() for each in series)
    assert found.changes["attack"].p == 1.0, "as far out as every control"


def test_world_edits_see_the_world_again_and_counts_keep_to_the_steps(recorded: Recording, agent: Agent) -> None:
    bare = effect(recorded, agent, [RemoveBlocks("leaves")], between=(6, 9))
    painted = effect(recorded, agent, [Inpaint(region={"object": "leaves"})], between=(6, 9))
    assert list(bare.steps[0]) == [6, 7, 8, 9] and bare.uncontrolled == ("RemoveBlocks",)
    assert bare.changes["kl"].mean > 0.01 and bare.changes["attack"].p is None
    # Painting the leaves out shows the sky behind them: the same picture but for their shade, nearly the same effect.
    assert painted.changes["kl"].mean == pytest.approx(bare.changes["kl"].mean, rel=0.5)
    assert np.corrcoef(painted.series["attack"][0], bare.series["attack"][0])[0, 1] > 0.8
    waiting = effect(recorded, agent, [RemoveBlocks("leaves", schedule=Schedule(when={"looked_at": "villager"}))])
    assert waiting.applied < 1 / 2


def test_memory_knockouts_have_controls_of_their_own(recorded: Recording, agent: Agent) -> None:
    found = effect(recorded, agent, [MemoryKnockout(ages=[1, 2])], controls=3)
    assert len(set(found.changes["kl"].controls)) > 1 and found.changes["kl"].mean > 0
    full = effect(recorded, agent, [MemoryKnockout(steps=[3], mode="full", schedule=Schedule(at=5))], controls=0)
    assert not full.series["kl"][0][:5].any() and full.series["kl"][0][5:].all()


def test_several_recordings_are_resampled_whole(recorded: Recording, agent: Agent, tmp_path: Path) -> None:
    second = play(tmp_path, "villager", agent, 2, steps=6)
    found = effect([recorded, second], agent, [ZeroAblation("blocks.1.hook_attn_out")], controls=0)
    one, two = found.series["kl"]
    assert (len(one), len(two)) == (STEPS, 6)
    low, high = found.changes["kl"].interval
    assert low >= min(one.mean(), two.mean()) - 1e-9 and high <= max(one.mean(), two.mean()) + 1e-9


@pytest.mark.parametrize(("stack", "more", "message"), [
    ([], {}, "expected recordings and interventions"),
    ([KeyBlock(["attack"])], {}, "changes what is played, not what is chosen"),
    ([PixelMask(0, 0, 9, 9)], {"keys": ["atack"]}, 'unknown key "atack"'),
    ([PixelMask(0, 0, 9, 9)], {"between": (STEPS, 99)}, "no step lies between 14 and 99: it has 0 to 13"),
    ([PixelMask(0, 0, 9, 9, schedule=Schedule(at=STEPS))], {}, "14"),
    ([ZeroAblation("blocks.9.hook_attn_out")], {}, "matches none"),
])
def test_what_does_not_fit_is_refused(recorded: Recording, agent: Agent, stack: Any, more: Any, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        effect(recorded, agent, stack, **more)


def test_recordings_and_agents_that_do_not_fit_are_refused(recorded: Recording, agent: Agent, tmp_path: Path) -> None:
    treated = play(tmp_path, "villager", agent, 3, steps=3, interventions=(PixelMask(0, 0, 9, 9),))
    with pytest.raises(RecordingError, match="made under interventions"):
        effect(treated, agent, [PixelMask(0, 0, 9, 9)])
    with pytest.raises(AgentError, match="tells no log-probabilities"):
        effect(recorded, NoopAgent(), [PixelMask(0, 0, 9, 9)])


def test_means_and_their_difference(recorded: Recording, agent: Agent, tmp_path: Path) -> None:
    series = np.asarray(recorded.activations["hook_embed"], np.float64)
    np.testing.assert_allclose(mean_activation(recorded, "hook_embed"), series.mean(0), rtol=1e-5, atol=1e-6)
    some = mean_activation(recorded, "hook_embed", (3, 5))
    np.testing.assert_allclose(some, series[3:6].mean(0), rtol=1e-5, atol=1e-6)
    other = play(tmp_path, "trunk", agent, 1, steps=4, hooks=("hook_embed",))
    direction = difference_of_means(recorded, other, "hook_embed", steps=(0, 3))
    there = np.asarray(other.activations["hook_embed"], np.float64).mean(0)
    np.testing.assert_allclose(direction, series[:4].mean(0) - there, rtol=1e-4, atol=1e-5)
    with pytest.raises(RecordingError, match="--hooks 'hook_embd'|holds no"):
        mean_activation(recorded, "hook_embd")
    with pytest.raises(RecordingError, match="steps among 0 to 13"):
        mean_activation(recorded, "hook_embed", (5, 20))


# --- the command ---------------------------------------------------------------------------------------------------


def call(*words: str | Path) -> Result:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_command_prints_both_the_effect_and_its_controls(recorded: Recording) -> None:
    result = call("effect", recorded.path, "--intervene", "ablate-head", "--controls", "3", "--key", "attack",
                  "--between", "2-12")
    assert result.exit_code == 0, result.output
    for words in ("ablate-head over 1 recording, 11 steps", "log-odds of attack", "rank among 3 random controls",
                  "blocks of 20 steps"):
        assert words in result.stdout
    told = json.loads(call("effect", recorded.path, "--intervene", "no-leaves", "--json").stdout)
    assert told["changes"]["kl"]["mean"] > 0 and told["uncontrolled"] == ["no-leaves"] and told["n_steps"] == STEPS


@pytest.mark.parametrize(("words", "said"), [
    ((), "expected an intervention"),
    (("--intervene", "no-leafs"), "no-leaves"),
    (("--intervene", "no-leaves", "--between", "9-2"), "expected FIRST-LAST"),
    (("--intervene", "no-leaves", "--key", "atack"), "attack"),
])
def test_the_command_refuses_in_one_message(recorded: Recording, words: tuple[str, ...], said: str) -> None:
    result = call("effect", recorded.path, *words)
    assert result.exit_code == 2 and result.stderr.count("error:") == 1 and said in result.stderr


# --- statistics ----------------------------------------------------------------------------------------------------


def test_known_values() -> None:
    from harness.statistics import block_bootstrap, holm, mcnemar_exact, rank_p

    assert mcnemar_exact(0, 0) == 1.0 and mcnemar_exact(6, 0) == pytest.approx(2 / 2**6)
    assert mcnemar_exact(8, 2) == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06]) and holm([0.9, 0.8]) == [1.0, 1.0]
    assert rank_p(-3, [1, 2, -4]) == 2 / 4 and rank_p(1, []) == 1.0
    # Blocks as long as the series: every resample is the series, turned.
    low, high = block_bootstrap([np.arange(10.0)], 10)
    assert low == high == pytest.approx(4.5)
    with pytest.raises(ValueError, match="no values"):
        block_bootstrap([], 3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_blocks_widen_the_interval_of_what_hangs_together(seed: int) -> None:
    from harness.statistics import block_bootstrap

    rng = np.random.default_rng(seed)
    steps = np.repeat(rng.standard_normal(30), 20)  # 600 values of which 30 are independent
    narrow, wide = (np.diff(block_bootstrap([steps], length))[0] for length in (1, 20))
    assert wide > 2 * narrow

