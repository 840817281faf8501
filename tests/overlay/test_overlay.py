"""The overlay video: every step drawn, readable, and honest about who plays."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from fakes import FakeAgent, FakeWorld, make_scenario

from harness import analysis, overlay
from harness.errors import HarnessError, VideoError
from harness.overlay import layers as draw
from harness.overlay.compose import HEIGHT, WIDTH, Scene, compose_frame
from harness.overlay.video import overlay_frames
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode

AMBER = np.array(draw.AMBER)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    with Recorder(tmp_path_factory.mktemp("r")) as recorder:
        run_episode(FakeWorld(make_scenario(30)), FakeAgent(), seed=3, observers=[recorder], hooks=["blocks.*"])
    return open_recording(recorder.path)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_frame_for_every_step(recording: Recording, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"o{suffix}"
    done: list[int] = []
    n = overlay.render_video(recording, [analysis.attention_maps(recording)], path, on_frame=done.append)
    assert n == 30 and done == list(range(1, 31))
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(frames) == 30 and frames[0].shape == (HEIGHT, WIDTH, 3)
    composed = next(overlay_frames(recording, [analysis.attention_maps(recording)]))
    assert np.abs(frames[0].astype(int) - composed).mean() < 12, "what is played is what was drawn"
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_the_picture_and_the_thumbnails_are_the_recordings(recording: Recording) -> None:
    maps = analysis.attention_maps(recording)
    frames = list(overlay_frames(recording, [maps]))
    for step in (0, 12, 29):
        assert np.array_equal(frames[step][60:420, 24:664], recording.agent_pov[step])
    age, _ = maps.most_attended(29)[0]
    small = cv2.resize(recording.agent_pov[29 - age], (180, 101), interpolation=cv2.INTER_AREA)
    assert np.array_equal(frames[29][84:185, 688:868], small)


def test_random_weights_are_marked_on_the_picture(recording: Recording) -> None:
    frame = next(overlay_frames(recording, []))
    badge = (frame[:58] == AMBER).all(axis=-1)
    assert badge.sum() > 3000
    width = draw.text_width(recording.agent_description, 15, 600)
    assert badge.any(axis=0).sum() == pytest.approx(width + 20, abs=2), "the whole description stands in the badge"


def test_a_trained_agent_has_no_warning() -> None:
    scene = Scene("x", "trained", False, 0, 1, np.zeros((360, 640, 3), np.uint8), None, True, None, [], draw.Shade(1.0))
    assert not (compose_frame(scene)[:58] == AMBER).all(axis=-1).any()


def test_pressed_keys_are_lit() -> None:
    def lit(action: dict[str, object]) -> int:
        canvas = np.zeros((40, 640, 3), np.uint8)
        draw.keys(canvas, action, 0, 5, 640)
        return int((canvas == np.array(draw.FLAME)).all(axis=-1).sum())
    assert lit({}) == 0 and 0 < lit({"forward": 1}) < lit({"forward": 1, "attack": 1}) < lit(
        {"forward": 1, "attack": 1, "hotbar.3": 1})


def test_the_row_of_keys_never_runs_into_the_camera() -> None:
    """The widest case: every cap lit, the longest numbers."""
    action = {"hotbar.9": 1, "camera": [-180.0, -180.0]}
    canvas = np.zeros((40, 640, 3), np.uint8)
    draw.keys(canvas, action, 0, 5, 640)
    caps = (canvas == np.array(draw.FLAME)).all(axis=-1).any(axis=0)
    camera = draw.text_width("yaw -180.0  pitch -180.0", 12)
    assert np.flatnonzero(caps).max() < 640 - camera


def test_heat_is_in_its_place(recording: Recording) -> None:
    """A weight on one age of one head lights one cell, at the right column."""
    maps = analysis.attention_maps(recording)
    weights = np.zeros_like(maps.weights)
    weights[20, 1, 0, 15] = 1.0
    planted = analysis.AttentionMaps(maps.provenance, weights, maps.layers)
    frame = list(overlay_frames(recording, [planted]))[20]
    brightness = frame[500:676].astype(int).sum(axis=-1)
    brightness[:, :95] = 0
    rows, columns = np.nonzero(brightness > 600)
    cell = (WIDTH - 48 - 44) // 129
    left = WIDTH - 24 - 16 * cell
    assert columns.min() >= left and columns.max() < left + cell
    assert rows.min() >= 88 and rows.max() < 132, "third of four rows: layer 1, head 0"


def test_wide_models_fit(recording: Recording) -> None:
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(128), (30, 4, 16)).astype(np.float32)
    maps = analysis.AttentionMaps({"recording": recording.path.name}, weights, (0, 1, 2, 3))
    assert list(overlay_frames(recording, [maps]))[29].shape == (HEIGHT, WIDTH, 3)


def test_text_without_the_new_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV 4 has stroke fonts only; the picture still carries its words."""
    monkeypatch.setattr(draw, "_FACE", None)
    canvas = np.zeros((40, 400, 3), np.uint8)
    draw.text(canvas, "random weights (seed 0)", 10, 30)
    columns = np.flatnonzero(canvas.any(axis=(0, 2)))
    assert columns.min() >= 10 and columns.max() <= 14 + draw.text_width("random weights (seed 0)")


def test_what_cannot_be_drawn_is_refused(recording: Recording, tmp_path: Path) -> None:
    maps = analysis.attention_maps(recording)
    with pytest.raises(VideoError, match="ends in .mp4 or .webm"):
        overlay.render_video(recording, [maps], tmp_path / "x.gif")
    with pytest.raises(VideoError, match="cannot write the video"):
        (tmp_path / "file").write_text("")
        overlay.render_video(recording, [maps], tmp_path / "file" / "x.mp4")
    with pytest.raises(HarnessError, match="one attention map"):
        overlay.render_video(recording, [maps, maps], tmp_path / "x.mp4")
    with pytest.raises(HarnessError, match="maps are of the recording other"):
        other = analysis.AttentionMaps({"recording": "other"}, maps.weights, maps.layers)
        overlay.render_video(recording, [other], tmp_path / "x.mp4")
    assert not (tmp_path / "x.mp4").exists()


def test_attention_that_ends_early_is_said(recording: Recording) -> None:
    maps = analysis.attention_maps(recording)
    short = analysis.AttentionMaps(maps.provenance, maps.weights[:10], maps.layers)
    assert len(list(overlay_frames(recording, [short]))) == 30
