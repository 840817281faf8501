"""Attention by frame age, from a recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import FakeAgent, FakeWorld, make_scenario

import harness
from harness import analysis
from harness.errors import RecordingError
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode


def record(folder: Path, n: int = 40, hooks: tuple[str, ...] = ("blocks.*.attn.hook_pattern",)) -> Recording:
    with Recorder(folder) as recorder:
        run_episode(FakeWorld(make_scenario(n)), FakeAgent(), seed=3, observers=[recorder], hooks=hooks)
    return open_recording(recorder.path)


def test_ages_count_back_from_the_current_frame(tmp_path: Path) -> None:
    recording = record(tmp_path)
    maps = analysis.attention_maps(recording)
    assert maps.weights.shape == (40, 2, 2, 128) and maps.weights.dtype == np.float32
    assert maps.layers == (0, 1) and maps.names == ["0.0", "0.1", "1.0", "1.1"]
    np.testing.assert_allclose(maps.weights.sum(axis=-1), 1, atol=1e-5)
    for t in (0, 7, 39):
        pattern = recording.activations["blocks.1.attn.hook_pattern"][t]
        assert np.array_equal(maps.weights[t, 1, :, 0], pattern[:, -1]), "the last key is the current frame"
        assert np.array_equal(maps.weights[t, 1, :, 5], pattern[:, -6])
        assert not maps.weights[t, :, :, t + 1:].any(), "nothing from before the episode"


def test_the_most_attended_frames(tmp_path: Path) -> None:
    maps = analysis.attention_maps(record(tmp_path))
    assert maps.most_attended(0) == []
    assert [age for age, _ in maps.most_attended(1)] == [1]
    found = maps.most_attended(30, 3)
    mean = maps.weights[30].mean(axis=(0, 1))
    assert len(found) == 3 and found[0][1] == pytest.approx(float(mean[1:31].max()))
    assert all(1 <= age <= 30 and weight == pytest.approx(float(mean[age])) for age, weight in found)
    assert [w for _, w in found] == sorted((w for _, w in found), reverse=True)


def test_one_layer_equals_its_part_of_all(tmp_path: Path) -> None:
    recording = record(tmp_path)
    one, whole = analysis.attention_maps(recording, layer=1), analysis.attention_maps(recording)
    assert np.array_equal(one.weights[:, 0], whole.weights[:, 1]) and one.layers == (1,)
    assert one.provenance["arguments"] == {"layer": 1} and one.provenance["recording"] == recording.path.name
    assert "random weights (seed 0)" in one.provenance["agent"]


def test_what_was_not_traced_is_named(tmp_path: Path) -> None:
    recording = record(tmp_path)
    with pytest.raises(RecordingError, match="layer 7 was not traced") as found:
        harness.analysis.attention_maps(recording, layer=7)
    assert found.value.hint == "traced layers: 0, 1"
    with pytest.raises(RecordingError, match="no attention patterns") as missing:
        analysis.attention_maps(record(tmp_path, hooks=()))
    assert "--hooks" in str(missing.value)
