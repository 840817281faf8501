"""A recorded video as a world: its pictures come one after another, whatever the agent does."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from harness.errors import VideoError
from harness.provenance import file_digest
from harness.scenario.schema import Scenario
from harness.scenario.setup import WorldSetup
from harness.world.observation import POV_SHAPE, Observation, PlayerState, WorldState
from harness.world.pointer import draw_pointer
from harness.world.world import Capabilities, World

__all__ = ["VideoWorld", "count_pictures", "read_frames"]

Frame = npt.NDArray[np.uint8]

_CLOSED = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,nut,gif,asf,ivf,h264,hevc",
}
"""A stranger's file may be a playlist that names other files or addresses; only files that hold pictures are opened."""


def read_frames(path: str | Path) -> Generator[Frame, None, None]:
    """The pictures of any video, uint8 [H, W, 3] RGB, in order.

    Raises:
        VideoError: when it cannot be read, or holds no picture.
    """
    n = 0
    try:
        with av.open(str(path), options=_CLOSED) as container:
            if not container.streams.video:
                raise VideoError("the file holds no video, only other streams", where=str(path))
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                n += 1
                yield np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    except (av.FFmpegError, OSError) as problem:
        at = f" after frame {n - 1}" if n else ""
        raise VideoError(f"cannot read the video{at}: {problem.strerror or problem}", where=str(path),
                         hint="expected a video file such as .mp4, .webm or .mkv") from problem
    if n == 0:
        raise VideoError("the video has no frames", where=str(path))


def count_pictures(path: str | Path) -> int:
    """How many pictures a video holds, without decoding them.

    Raises:
        VideoError: when it cannot be read.
    """
    if not Path(path).is_file():
        raise VideoError("there is no such video", where=str(path))
    n = 0
    try:
        with av.open(str(path), options=_CLOSED) as container:
            if not container.streams.video:
                raise VideoError("the file holds no video, only other streams", where=str(path))
            for packet in container.demux(video=0):
                n += packet.size > 0 and not packet.is_discard
    except (av.FFmpegError, OSError) as problem:
        at = f" after picture {n - 1}" if n else ""
        raise VideoError(f"cannot read the video{at}: {problem.strerror or problem}", where=str(path),
                         hint="expected a video file such as .mp4, .webm or .mkv") from problem
    return n


class VideoWorld(World):
    """Plays a video. Actions are taken and change nothing; the episode is truncated with the last picture.

    Args:
        scenario: Names the episode and bounds its length; its world is not built.
        path: The video. Pictures of another size than 640 x 360 are resized to it (``notice`` says so).
        pictures: Numbers of those to play, ascending; None plays all.
        pointers: Picture to the (x, y) of a mouse pointer to paint into it, in pixels of 640 x 360.
        notes: What ``source`` says beside file and size, as JSON values.

    Raises:
        VideoError: when the video cannot be read or has no frames.
    """

    capabilities = Capabilities("video", actions_matter=False, deterministic=True, statistics=False,
                                raycast=False)

    def __init__(self, scenario: Scenario, *, path: str | Path | None = None, render_mode: str | None = "rgb_array",
                 pictures: Sequence[int] | None = None, pointers: Mapping[int, tuple[int, int]] | None = None,
                 notes: Mapping[str, Any] | None = None) -> None:
        super().__init__(scenario, render_mode=render_mode)
        if path is None:
            raise VideoError("the video backend plays a video and got none",
                             hint="use harness trace VIDEO, or make_world(..., backend='video', path=...)")
        self.path = Path(path)
        self._frames: Iterator[Frame] = iter(())
        self._queue: deque[Frame] = deque()
        self.size, self.n_frames, rate = _probe(self.path)
        self._chosen, self._pointers, self._notes = pictures, dict(pointers or {}), dict(notes or {})
        if pictures is not None:
            self.n_frames = len(pictures) if self.n_frames is None else min(len(pictures), self.n_frames)
        self.metadata = {**self.metadata, "render_fps": rate}

    @property
    def notice(self) -> str | None:
        """What was done to the pictures before the agent saw them, None when nothing was."""
        width, height = self.size
        if (height, width, 3) == POV_SHAPE:
            return None
        stretched = "" if width * POV_SHAPE[0] == height * POV_SHAPE[1] else ", which changes its proportions"
        return f"the video is {width}x{height}; it is resized to {POV_SHAPE[1]}x{POV_SHAPE[0]}{stretched}"

    def source(self) -> Mapping[str, Any]:
        """What a recording's header says of the video."""
        return {"file": self.path.name, "sha256": file_digest(self.path), "width": self.size[0],
                "height": self.size[1], "resized": self.notice is not None, **self._notes}

    def upcoming(self, n: int) -> list[Frame]:
        """The picture of now and those that follow, at most ``n`` together; looking ahead changes nothing."""
        while len(self._queue) < n - 1 and (frame := next(self._frames, None)) is not None:
            self._queue.append(frame)
        return [self._now, *itertools.islice(self._queue, n - 1)]

    def close(self) -> None:
        """Let go of the file."""
        close = getattr(self._frames, "close", None)
        if close is not None:
            close()
        self._frames = iter(())
        self._queue.clear()

    def step(self, action: Mapping[str, Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Go on to the next picture; truncated when there is none."""
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated or self._over, info

    def _reset(self, setup: WorldSetup, seed: int) -> None:
        self.close()
        self._tick_number, self._over = 0, False
        self._frames = self._pictures()
        self._now = next(self._frames)

    def _tick(self, action: dict[str, Any]) -> None:
        self._tick_number += 1
        following = self._queue.popleft() if self._queue else next(self._frames, None)
        self._over = following is None
        if following is not None:
            self._now = following

    def _pictures(self) -> Iterator[Frame]:
        """What is played, uint8 [360, 640, 3]."""
        chosen = itertools.count() if self._chosen is None else iter(self._chosen)
        with contextlib.closing(read_frames(self.path)) as frames:
            pictures = enumerate(frames)
            for wanted in chosen:
                frame = next((frame for number, frame in pictures if number == wanted), None)
                if frame is None:
                    return
                fitted = self._fit(frame)
                yield draw_pointer(fitted, *self._pointers[wanted]) if wanted in self._pointers else fitted

    def _fit(self, frame: Frame) -> Frame:
        if frame.shape == POV_SHAPE:
            return frame
        smaller = frame.shape[0] >= POV_SHAPE[0] and frame.shape[1] >= POV_SHAPE[1]
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        resized = cv2.resize(frame, (POV_SHAPE[1], POV_SHAPE[0]), interpolation=how)
        return np.asarray(resized, dtype=np.uint8)

    def _pov(self) -> Frame:
        return self._now.copy()

    def world_state(self, *, segmentation: bool = False, depth: bool = False, blocks: bool = False) -> WorldState:
        """Nothing is known of a video's world: a player at the origin stands in, and no recording keeps its pose."""
        player = PlayerState((0.0, 0.0, 0.0), 0.0, 0.0, (0.0, 0.0, 0.0), True, 20.0, 0, (None,) * 9)
        return WorldState(self._tick_number, 0, player, (), {}, (), None)


def _probe(path: Path) -> tuple[tuple[int, int], int | None, float]:
    """((width, height), about how many frames the file announces, frames per second)."""
    if not path.is_file():
        raise VideoError("there is no such video", where=str(path))
    with contextlib.closing(read_frames(path)) as frames:
        first = next(frames)
    with av.open(str(path), options=_CLOSED) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or 20)
        rate = rate if 0 < rate < 1000 else 20.0
        # Matroska counts no frames, but a file that was closed says how long it is.
        announced = stream.frames or round((container.duration or 0) / av.time_base * rate)
        return (first.shape[1], first.shape[0]), announced or None, rate
