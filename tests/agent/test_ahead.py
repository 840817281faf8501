"""Looking ahead equals stepping: outputs, draws, memory at any step, and what a trace records."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from harness.agent.ahead import CHUNK, AheadAgent, chunk_length
from harness.agent.load import load_agent
from harness.agent.vpt.agent import VPTAgent
from harness.agent.vpt.config import size_config
from harness.cli import cli
from harness.errors import AgentError
from harness.recording.recording import open_recording
from harness.recording.video import write_share_video
from harness.replay.replay import replay_recording

HOOKS = ["blocks.1.attn.hook_pattern", "blocks.0.hook_resid_post"]


@pytest.fixture(scope="module")
def agent() -> VPTAgent:
    torch.manual_seed(0)
    return VPTAgent(size="nano", random_seed=0, torch_threads=1, device="cpu")


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:  # type: ignore[type-arg]
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (21, 9, 16, 3), dtype=np.uint8).repeat(40, axis=1).repeat(40, axis=2)


class Film:
    """Pictures that an agent may look ahead at."""

    def __init__(self, pictures: np.ndarray) -> None:  # type: ignore[type-arg]
        self.pictures, self.now = pictures, 0

    def upcoming(self, n: int) -> list[np.ndarray]:  # type: ignore[type-arg]
        return list(self.pictures[self.now:self.now + n])


def go(agent: Any, film: Film, state: Any, rng: np.random.Generator, until: int) -> tuple[list[Any], Any]:
    outputs = []
    while film.now < until:
        outputs.append(agent.act({"pov": film.pictures[film.now]}, state, rng, hooks=HOOKS))
        state, film.now = outputs[-1].state, film.now + 1
    return outputs, state


@pytest.mark.parametrize("chunk", [1, 7, 16])
def test_looking_ahead_equals_stepping(agent: VPTAgent, pictures: np.ndarray, chunk: int) -> None:  # type: ignore[type-arg]
    film = Film(pictures)
    ahead = AheadAgent(agent, film.upcoming, chunk)
    first, second = np.random.default_rng(5), np.random.default_rng(5)
    seen, state = go(ahead, film, ahead.initial_state(), first, 21)
    stepped, memory = go(agent, Film(pictures), agent.initial_state(), second, 21)
    for a, b in zip(seen, stepped, strict=True):
        assert a.tokens == b.tokens and a.action["forward"] == b.action["forward"]
        assert a.log_prob == pytest.approx(b.log_prob, abs=1e-4) and a.value == pytest.approx(b.value, abs=1e-4)
        for name in HOOKS:
            assert np.asarray(a.activations[name]).shape == np.asarray(b.activations[name]).shape
            np.testing.assert_allclose(a.activations[name], b.activations[name], atol=1e-4)
    assert first.bit_generator.state == second.bit_generator.state, "the same draws, at the same steps"
    for name, array in agent.save_state(memory).items():
        np.testing.assert_allclose(ahead.save_state(state)[name], array, atol=1e-4)


@pytest.mark.parametrize("stop", [0, 3, 8, 13])
def test_memory_amid_what_was_seen_is_the_memory_there(agent: VPTAgent, pictures: np.ndarray, stop: int) -> None:  # type: ignore[type-arg]
    film = Film(pictures)
    ahead = AheadAgent(agent, film.upcoming, 8)
    rng = np.random.default_rng(1)
    _, state = go(ahead, film, ahead.initial_state(), rng, stop)
    frozen = ahead.save_state(state)
    _, memory = go(agent, Film(pictures), agent.initial_state(), np.random.default_rng(1), stop)
    for name, array in agent.save_state(memory).items():
        np.testing.assert_allclose(frozen[name], array, atol=1e-4)
    was = dataclasses.replace(state)
    onwards, _ = go(ahead, film, state, np.random.default_rng(2), 21)
    film.now = stop
    again, _ = go(ahead, film, ahead.load_state(frozen), np.random.default_rng(2), 21)
    assert [o.tokens for o in onwards] == [o.tokens for o in again] and was == state, "states are not changed in place"


def test_another_picture_than_announced_is_refused(agent: VPTAgent, pictures: np.ndarray) -> None:  # type: ignore[type-arg]
    film = Film(pictures)
    ahead = AheadAgent(agent, film.upcoming, 4)
    with pytest.raises(AgentError, match="another picture"):
        ahead.act({"pov": pictures[1]}, ahead.initial_state(), np.random.default_rng(0))
    with pytest.raises(AgentError, match="no edits"):
        ahead.hooks([])


def test_what_is_kept_stays_within_its_budget(agent: VPTAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    width = size_config("nano").hidsize
    assert chunk_length(agent, HOOKS) == CHUNK == chunk_length(agent, [])
    monkeypatch.setattr("harness.agent.ahead._BUDGET", width * 4 * 5)
    assert chunk_length(agent, ["blocks.0.hook_resid_post"]) == 5
    monkeypatch.setattr("harness.agent.ahead._BUDGET", 1)
    assert chunk_length(agent, HOOKS) == 1


def test_a_trace_looks_ahead_says_so_and_verifies_to_the_bit(tmp_path: Path, pictures: np.ndarray) -> None:  # type: ignore[type-arg]
    write_share_video(pictures, tmp_path / "v.mp4", 20.0)
    for steps in ([], ["--steps", "18"]):
        result = CliRunner().invoke(cli, ["trace", str(tmp_path / "v.mp4"), "--agent", "vpt-nano", "--device", "cpu",
                                          "--out", str(tmp_path / "out"), "--json", *steps])
        assert result.exit_code == 0, result.output
        recording = open_recording(json.loads(result.stdout)["recording"])
        assert len(recording) == (18 if steps else 21) and recording.complete
        assert recording.header["agent"]["batch_shape"] == [1, CHUNK]
        report = replay_recording(recording)
        assert report.ok and report.n_actions == len(recording) and report.max_log_prob_difference == 0.0
        assert not any("changed" in note for note in report.notes)
    stepped = replay_recording(recording, agent=load_agent("vpt-nano", device="cpu"))
    assert stepped.ok and len(recording.snapshots) == 1
