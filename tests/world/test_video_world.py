"""A video as a world: the same pictures every time, whatever is done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import make_scenario

from harness.errors import VideoError, WorldError
from harness.recording.video import FrameWriter, write_share_video
from harness.world.video import read_frames
from harness.world.world import World, make_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (6, 18, 32, 3), dtype=np.uint8)
    write_share_video([f.repeat(20, axis=0).repeat(20, axis=1) for f in small], tmp_path / "v.mp4", 30.0)
    return make_world(make_scenario(100), backend="video", path=tmp_path / "v.mp4")


def play(world: World, action: dict[str, object]) -> list[bytes]:
    observation, _ = world.reset(seed=1)
    pictures, truncated = [observation["pov"].tobytes()], False
    while not truncated:
        observation, reward, terminated, truncated, info = world.step(action)
        assert not terminated and reward == 0.0 and info["statistics"] == {}
        pictures.append(observation["pov"].tobytes())
    return pictures


def test_actions_do_not_matter(world: World) -> None:
    with world:
        still, busy = play(world, {}), play(world, {"attack": 1, "camera": [5.0, 5.0]})
        assert still == busy and len(still) == 7
        truth = [f.tobytes() for f in read_frames(world.path)]  # type: ignore[attr-defined]
        assert still[:6] == truth and still[6] == truth[5], "the last step has no next picture"
        assert world.metadata["render_fps"] == 30.0 and not world.capabilities.actions_matter


def test_what_is_handed_out_is_a_copy(world: World) -> None:
    with world:
        observation, _ = world.reset(seed=0)
        observation["pov"][:] = 0
        assert world.render().any()


def test_refusals(world: World, tmp_path: Path) -> None:
    with world, pytest.raises(WorldError, match="unknown action key"):
        world.reset(seed=0)
        world.step({"fly": 1})
    with pytest.raises(VideoError, match="no such video"):
        make_world(make_scenario(), backend="video", path=tmp_path / "none.mp4")
    with pytest.raises(WorldError, match="takes no commands"):
        world.command("/time set day")


@pytest.mark.parametrize("text", [
    "ffconcat version 1.0\nfile real.mkv\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nreal.mkv\n#EXT-X-ENDLIST\n",
])
def test_a_playlist_is_not_followed(tmp_path: Path, text: str) -> None:
    writer = FrameWriter(tmp_path / "real.mkv", 20, (32, 32))
    writer.write(np.zeros((32, 32, 3), np.uint8))
    writer.close()
    assert sum(1 for _ in read_frames(tmp_path / "real.mkv")) == 1
    (tmp_path / "list.mp4").write_text(text)
    with pytest.raises(VideoError, match="cannot read the video"):
        list(read_frames(tmp_path / "list.mp4"))
