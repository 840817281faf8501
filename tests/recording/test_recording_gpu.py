"""Recording an agent that computes on a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import FakeWorld, make_scenario

from harness.agent.load import load_agent
from harness.recording.recorder import Recorder
from harness.recording.recording import open_recording
from harness.replay.replay import replay_recording
from harness.rollout import run_episode


@pytest.mark.gpu
@pytest.mark.usefixtures("fake_backend")
def test_a_run_on_a_gpu_is_recorded_whole_and_replays(tmp_path: Path) -> None:
    hooks = ["blocks.*.attn.hook_pattern", "blocks.*.hook_resid_*"]
    with Recorder(tmp_path) as recorder:
        run_episode(FakeWorld(make_scenario(70)), load_agent("vpt-nano", device="cuda"), seed=3, observers=[recorder],
                    hooks=hooks)
    recording = open_recording(recorder.path)
    assert recording.complete and recording.activations.n_steps == 70
    for name in recording.hooks:
        values = np.asarray(recording.activations[name])
        assert np.isfinite(values).all() and values.any(), name
    pattern = np.asarray(recording.activations["blocks.0.attn.hook_pattern"])
    np.testing.assert_allclose(pattern.sum(axis=-1), 1, atol=1e-5)
    assert str(recording.header["agent"]["device"]).startswith("cuda")
    report = replay_recording(recording)
    assert report.ok, report.divergences
    assert report.n_log_probs == 70
