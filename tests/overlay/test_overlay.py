"""The overlay video: every step drawn, readable, and honest about who plays."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from fakes import FakeAgent, FakeWorld, make_scenario

from harness import analysis, overlay
from harness.agent.agent import AgentOutput
from harness.errors import HarnessError, VideoError
from harness.overlay import layers as draw
from harness.overlay.compose import HEIGHT, THUMB, WIDTH, Layout, Scene, compose_frame
from harness.overlay.panels import (
    TIMELINE_HEIGHT,
    Timeline,
    choices_at,
    draw_heat,
    draw_outlines,
    outlines_of,
)
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
    small = cv2.resize(recording.agent_pov[29 - age], THUMB, interpolation=cv2.INTER_AREA)
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
    camera = draw.text_width("-180.0 right", 11) + 32
    assert np.flatnonzero(caps[:600]).max() < 640 - camera, "behind pixel 600 there is the arrow alone"


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
        overlay.render_video(recording, [maps], tmp_path / "x.avi")
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


def test_layers_are_drawn_where_they_belong(recording: Recording) -> None:
    """Each layer changes the picture somewhere; actions and timeline leave the agent's picture as it was."""
    maps = analysis.attention_maps(recording)
    plain = list(overlay_frames(recording, [maps]))[20]
    taller = HEIGHT + 156
    for layers, height in ((["actions"], HEIGHT), (["timeline"], taller), (["actions", "timeline"], taller)):
        frame = list(overlay_frames(recording, [maps], layers=layers))[20]
        assert frame.shape == (height, WIDTH, 3)
        assert np.array_equal(frame[60:420, 24:664], recording.agent_pov[20])
        assert not np.array_equal(frame[:HEIGHT], plain) or height > HEIGHT
    assert list(overlay_frames(recording, [], layers=["actions"]))[0].shape[0] < HEIGHT, "no place is kept for nothing"


class Chooser(FakeAgent):
    """Tells probabilities of VPT's two heads."""

    def act(self, *given: Any, **named: Any) -> AgentOutput:
        output, rng = super().act(*given, **named), np.random.default_rng(0)
        heads = {"buttons": rng.normal(size=8641) * 3, "camera": rng.normal(size=121)}
        return dataclasses.replace(output, log_probs={
            name: (x - np.logaddexp.reduce(x)).astype(np.float32) for name, x in heads.items()})


def test_the_likeliest_actions_are_told(tmp_path: Path, recording: Recording) -> None:
    assert choices_at(recording, 12) is None, "other heads than VPT's are not put into words"
    with Recorder(tmp_path) as recorder:
        run_episode(FakeWorld(make_scenario(15)), Chooser(), seed=3, observers=[recorder])
    recording = open_recording(recorder.path)
    choices = choices_at(recording, 12)
    assert choices is not None and len(choices.actions) == len(choices.turns) == 4
    shares = [share for _, share in choices.actions]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1 + 1e-6
    assert choices.entropy == recording.steps[12]["entropy"]


def test_now_moves_along_the_timeline(recording: Recording) -> None:
    line = Timeline(recording, 600)
    places = []
    for number in (0, 10, 29):
        canvas = np.zeros((TIMELINE_HEIGHT + 10, 640, 3), np.uint8)
        before = canvas.copy()
        line.draw(before, 0, 10, 0)
        line.draw(canvas, number, 10, 0)
        column = (canvas[30:90] == np.array(draw.INK)).all(axis=(0, 2))
        places.append(int(np.flatnonzero(column)[0]) - 10)
    assert places == [0, round(10 * 599 / 29 - 0.5), 599]


def test_outlines_lie_around_their_object() -> None:
    ids = np.zeros((360, 640), np.int16)
    ids[100:200, 300:340] = 1000
    ids[:50] = 17
    ids[250:253, 10:13] = 1001
    found = outlines_of(ids, {1000: "villager", 17: "oak_leaves", 1001: "cow", 0: "sky"}, {1000: "target", 1001: None})
    assert {each.name for each in found} == {"target", "leaves"}, "what is too small is left out"
    (target,) = [each for each in found if each.name == "target"]
    canvas = np.zeros((360, 640, 3), np.uint8)
    draw_outlines(canvas, [target], 0, 0)
    ys, xs = np.nonzero(canvas[97:].any(axis=-1))
    assert (xs.min(), xs.max()) == pytest.approx((300, 339), abs=1) and ys.max() + 97 == pytest.approx(199, abs=1)


def test_heat_lies_on_the_picture() -> None:
    canvas = np.full((400, 700, 3), 100, np.uint8)
    heat = np.zeros((360, 640), np.float32)
    draw_heat(canvas, heat, 24, 20)
    assert (canvas == 100).all(), "nothing leaves nothing"
    heat[40:60, 100:120] = 2.0
    draw_heat(canvas, heat, 24, 20)
    changed = (canvas != 100).any(axis=-1)
    assert changed[60:80, 124:144].all() and changed.sum() == 400


class Hot(analysis.Result):
    """A result that can be laid over the picture."""

    def heat(self, step: int) -> np.ndarray | None:  # type: ignore[type-arg]
        return np.ones((360, 640), np.float32) if step == 3 else None


def test_a_result_with_heat_is_laid_over_its_step(recording: Recording) -> None:
    hot = Hot({"recording": recording.path.name})
    frames = list(overlay_frames(recording, [hot]))
    for step in (2, 3, 4):
        same = np.array_equal(frames[step][60:420, 24:664], recording.agent_pov[step])
        assert same == (step != 3)


@dataclasses.dataclass(frozen=True)
class Keys(analysis.Result):
    """Key-frames."""

    keyframes: dict[int, float]


def test_key_frames_take_the_thumbnails_place(recording: Recording) -> None:
    keys = Keys({"recording": recording.path.name}, {4: 1.5, 9: 0.5})
    frames = list(overlay_frames(recording, [keys]))
    small = cv2.resize(recording.agent_pov[9], THUMB, interpolation=cv2.INTER_AREA)
    assert np.array_equal(frames[29][84:185, 688:868], small), "the latest one first"


def test_side_by_side_in_lock_step(recording: Recording, tmp_path: Path) -> None:
    n = overlay.render_video(recording, [], tmp_path / "x.mp4", layers=["actions"], beside=[(recording, [])])
    assert n == 30
    layout = Layout(["actions"], narrow=True)
    with av.open(str(tmp_path / "x.mp4")) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert frame.shape == (layout.height, 2 * layout.width, 3)
    assert np.abs(frame[:, :layout.width].astype(int) - frame[:, layout.width:]).mean() < 3


def test_stills(recording: Recording, tmp_path: Path) -> None:
    assert overlay.render_video(recording, [], tmp_path / "x.png", layers=["actions"]) == 12
    sheet = cv2.imread(str(tmp_path / "x.png"))
    height = Layout(["actions"]).height // 2
    assert sheet.shape == (4 * (height + 8) - 8, 3 * 648 - 8, 3)
    assert overlay.render_video(recording, [], tmp_path / "x.gif", layers=["actions"]) == 30
    with av.open(str(tmp_path / "x.gif")) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(frames) == 15 and frames[0].shape == (height, 640, 3)
    composed = cv2.resize(next(overlay_frames(recording, [], layers=["actions"])), None, fx=0.5, fy=0.5,
                          interpolation=cv2.INTER_AREA)
    assert np.abs(frames[0].astype(int) - composed).mean() < 12


def test_an_unknown_layer_is_refused(recording: Recording) -> None:
    with pytest.raises(HarnessError, match='unknown layer "acton"'):
        overlay_frames(recording, [], layers=["acton"])
