"""Attention in numbers: heads that were written down give what was written, and the split is exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fakes import FakeAgent
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_attention import WINDOW, PlantedAttention, record

from harness import analysis
from harness.agent.load import load_agent
from harness.analysis.attention import chosen_heads
from harness.analysis.attention_profiles import entropy, horizon
from harness.analysis.attention_split import age_prior, in_view, split_scores
from harness.cli import cli
from harness.errors import HarnessError, RecordingError
from harness.statistics import block_bootstrap, block_means

K = 5


def back(step: int, age: int) -> float:
    """Content: the frame of exactly K steps ago."""
    return 60.0 if age == K else 0.0


def lately(step: int, age: int) -> float:
    """Bias: the younger the better, the same at every step."""
    return -0.5 * age


def nothing(step: int, age: int) -> float:
    return 0.0


def test_a_head_that_looks_k_frames_back_gives_exactly_that(tmp_path: Path) -> None:
    recording = record(tmp_path, PlantedAttention([back, nothing, nothing], [nothing, lately, nothing]), 70)
    found = analysis.attention_profile([recording], between=(K, 69))
    content, bias, uniform = found.heads
    assert [head.name for head in found.heads] == ["0.0", "0.1", "0.2"] and found.n_steps == 70 - K
    assert content.weights.argmax() == K and content.weights[K] == pytest.approx(1)
    assert content.entropy.value == pytest.approx(0, abs=1e-6) and content.horizon.value == K
    assert content.ages[4].value == pytest.approx(1) and content.ages[4].interval == pytest.approx((1, 1))
    n_visible = np.minimum(np.arange(K, 70) + 1, WINDOW)
    for split, share in ((content.split, 0), (bias.split, 1)):
        assert split is not None and split.bias.value == pytest.approx(share, abs=1e-5)
    assert content.split is not None and bias.split is not None and uniform.split is not None
    assert content.split.from_content.value == pytest.approx(0, abs=1e-6)
    assert content.split.from_prior.value == pytest.approx(np.log(n_visible).mean()), "the prior is uniform"
    assert bias.split.from_prior.value == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(bias.split.prior, bias.weights, atol=1e-6)
    np.testing.assert_allclose(uniform.weights, found.uniform, atol=1e-6)
    assert uniform.entropy.value == pytest.approx(found.uniform_entropy, abs=1e-5)
    assert found.uniform_entropy == pytest.approx(np.log(n_visible).mean())


def test_early_steps_see_fewer_frames(tmp_path: Path) -> None:
    found = analysis.attention_profile([record(tmp_path, PlantedAttention([nothing]), 4)])
    assert found.uniform[:4] == pytest.approx([(1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, (1 / 2 + 1 / 3 + 1 / 4) / 4,
                                               (1 / 3 + 1 / 4) / 4, 1 / 16])
    assert found.heads[0].weights == pytest.approx(found.uniform, abs=1e-6) and not found.uniform[4:].any()


def test_intervals_need_three_blocks_or_two_recordings(tmp_path: Path) -> None:
    short = record(tmp_path, FakeAgent(), 40, ("*pattern",))
    assert analysis.attention_profile([short]).heads[0].entropy.interval is None
    assert np.isnan(analysis.attention_profile([short]).arrays()["low"]).all()
    whole = record(tmp_path, FakeAgent(), 70, ("*pattern",), seed=1)
    maps = analysis.attention_maps(whole).weights
    head = analysis.attention_profile([whole], heads=("1.0",)).heads[0]
    np.testing.assert_allclose(head.weights, maps[:, 1, 0].mean(0), atol=1e-6)
    assert head.entropy.value == pytest.approx(float(entropy(maps[:, 1, 0]).mean()), abs=1e-5)
    assert head.ages[1].interval == pytest.approx(
        block_bootstrap([maps[:, 1, 0, 1].astype(float)], 20, resamples=1000), abs=1e-6)
    assert head.horizon.interval is not None and head.horizon.interval[0] <= head.horizon.value
    both = analysis.attention_profile([short, whole])
    assert both.heads[0].entropy.interval is not None and both.n_steps == 110
    assert "random weights (seed 0)" in both.tables()[0].title and "nothing here was learned" in both.tables()[0].note
    assert both.heads[0].split is None and "hook_rel_bias" in both.tables()[2].note


def test_what_is_there_of_an_unfinished_recording_is_read(tmp_path: Path) -> None:
    recording = record(tmp_path, FakeAgent(), 70, ("*pattern",))
    (recording.path / "result.json").unlink()
    for shard in sorted((recording.path / "activations").iterdir())[1:]:
        shard.unlink()
    assert analysis.attention_profile([type(recording)(recording.path)]).n_steps == 32


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    recording = record(tmp_path, FakeAgent(), 8, ("*pattern",))
    with pytest.raises(RecordingError, match='unknown head "2.1"') as found:
        analysis.attention_profile([recording], heads=("2.1",))
    assert "1.1" in str(found.value)
    with pytest.raises(RecordingError, match="no step lies between 8 and 9: it has 0 to 7"):
        analysis.attention_profile([recording], between=(8, 9))
    with pytest.raises(HarnessError, match="epsilon"):
        analysis.attention_profile([recording], epsilon=1.0)
    with pytest.raises(RecordingError, match="two agents, fake, .* and planted-attention"):
        analysis.attention_profile([recording, record(tmp_path, PlantedAttention([back]), 8)])
    bare = record(tmp_path, FakeAgent(), 8, ())
    result = CliRunner().invoke(cli, ["analyse", str(bare.path), "attention"])
    assert result.exit_code == 2 and '--hooks "blocks.*.attn.hook_pattern"' in result.stderr
    result = CliRunner().invoke(cli, ["analyse", str(recording.path), "attention", "--set", 'heads=["1.*"]'])
    assert result.exit_code == 0 and "│ 1.1 " in result.stdout and "│ 0.1 " not in result.stdout.split("uniform")[0]


def test_heads_go_by_name_or_glob() -> None:
    names = ["0.0", "0.1", "1.0", "1.1"]
    assert chosen_heads(names, ()) == [0, 1, 2, 3] and chosen_heads(names, ("1.*", "0.1")) == [1, 2, 3]


def test_the_horizon_by_hand() -> None:
    profile = np.array([0.5, 0.3, 0.15, 0.05])
    assert [horizon(profile, epsilon) for epsilon in (0.6, 0.5, 0.2, 0.1, 0.01)] == [0, 0, 1, 2, 3]


def test_draws_of_several_quantities_are_draws_of_the_same_blocks() -> None:
    rng = np.random.default_rng(0)
    one = rng.standard_normal((50, 2))
    draws = block_means([np.column_stack([one, one.sum(1)])], 20, 200)
    np.testing.assert_allclose(draws[:, 2], draws[:, :2].sum(1))
    np.testing.assert_allclose(draws[:, 0], block_means([one[:, 0]], 20, 200))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(0, 30))
def test_the_split_adds_up(seed: int, n: int, sharp: float) -> None:
    """Content and bias sum to the score, shares of variance to 1, patterns to 1; a masked age is not in view."""
    rng, window = np.random.default_rng(seed), 40
    bias = rng.normal(size=(1, 2, window)).astype(np.float32)
    scores = (bias + sharp * rng.normal(size=bias.shape)).astype(np.float32)
    if n > 1:
        scores[..., 0] = -1e9
    seen = np.broadcast_to(in_view(np.array([n]), window) & (scores > -1e8), scores.shape)
    found = split_scores(scores, bias, in_view(np.array([n]), window))
    np.testing.assert_allclose((found.content + found.bias)[seen], scores[seen], atol=1e-5)
    assert not found.content[~seen].any() and not found.pattern[~seen].any()
    for pattern in (found.pattern, found.prior, age_prior(bias, seen)):
        np.testing.assert_allclose(pattern.sum(-1), 1, atol=1e-12)
    s, b = (np.where(seen, x.astype(np.float64), np.nan) for x in (scores, bias))
    np.testing.assert_allclose(found.variance, np.nanvar(s, -1), atol=1e-6)
    rest = np.nanmean((s - b - np.nanmean(s - b, -1, keepdims=True)) * (s - np.nanmean(s, -1, keepdims=True)), -1)
    np.testing.assert_allclose(found.covariance + rest, found.variance, atol=1e-4)
    assert (found.from_prior >= 0).all() and (found.from_content >= 0).all()
    assert (found.from_uniform <= np.log(seen.sum(-1)) + 1e-9).all()


def test_content_is_query_times_key_in_a_real_network() -> None:
    """The split's content against q·k / d_head, computed from the other hooks."""
    pytest.importorskip("torch")
    agent = load_agent("vpt-nano", device="cpu")
    frames = np.random.default_rng(0).integers(0, 256, (3, 360, 640, 3), dtype=np.uint8)
    names = [f"blocks.2.attn.hook_{kind}" for kind in ("q", "k_mem", "rel_bias", "attn_scores", "pattern")]
    state = agent.initial_state()
    for step, frame in enumerate(frames):
        output = agent.act({"pov": frame}, state, np.random.default_rng(0), hooks=names)
        state = output.state
        q, k, bias, scores, pattern = (np.asarray(output.activations[name]) for name in names)
        seen = in_view(np.array([step + 1]), scores.shape[-1] - 1)
        found = split_scores(scores[None, :, :0:-1], bias[None, :, :0:-1], seen)
        by_hand = np.einsum("hd,Thd->hT", q, k)[:, :0:-1] / q.shape[-1]
        np.testing.assert_allclose(found.content[0, :, :step + 1], by_hand[:, :step + 1], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.pattern[0], pattern[:, :0:-1], atol=1e-6)
