"""Pictures in video files: the lossless master, and copies for sharing.

The master is H.264 RGB, quantiser 0, in Matroska: bit-exact, a key frame every ten pictures for quick seeking, and
every picture on disk soon after it was written, so that a killed run leaves a readable file. The colour tags (GBR, full
range) are what makes browsers show the right colours.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from harness.errors import RecordingError, VideoError

__all__ = ["FrameSequence", "FrameWriter", "count_frames", "write_share_video"]

Frame = npt.NDArray[np.uint8]
_GOP = 10
_CACHED = 32
_BT709, _LIMITED = 1, 1
_MASTER = {
    "qp": "0", "preset": "ultrafast", "tune": "zerolatency",
    "x264-params": "colormatrix=GBR:fullrange=on:colorprim=bt709:transfer=iec61966-2-1",
}
_SHARE: dict[str, tuple[str, str, dict[str, str], dict[str, str]]] = {
    # suffix: codec, container, codec options, container options
    ".mp4": ("libx264", "mp4", {"crf": "20", "preset": "veryfast"}, {"movflags": "+faststart"}),
    ".webm": ("libvpx-vp9", "webm",
              {"crf": "30", "b": "0", "deadline": "realtime", "cpu-used": "8", "row-mt": "1"}, {}),
}


def _rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(1001)


class FrameWriter:
    """Appends pictures to a lossless video. One writer per file; close it.

    Args:
        path: A new file.
        fps: Frames per second.
        shape: (height, width) in pixels.
    """

    def __init__(self, path: Path, fps: float, shape: tuple[int, int]) -> None:
        import av

        self.n_frames = 0
        self._shape = (*shape, 3)
        self._picture = av.VideoFrame
        self._container = av.open(str(path), "w", format="matroska",
                                  options={"flush_packets": "1", "cluster_time_limit": "500"})
        self._stream: Any = self._container.add_stream("libx264rgb", rate=_rate(fps), options=_MASTER)
        self._stream.height, self._stream.width = shape
        self._stream.pix_fmt = "rgb24"
        self._stream.codec_context.gop_size = _GOP

    def write(self, frame: Frame) -> None:
        """Append a picture, uint8 [H, W, 3].

        Raises:
            OSError: when the file cannot grow.
            RecordingError: for another shape than the first picture's.
        """
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise RecordingError(f"expected a picture uint8 {list(self._shape)}, got {frame.dtype} {list(frame.shape)}")
        picture = self._picture.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts = self.n_frames
        self._container.mux(self._stream.encode(picture))
        self.n_frames += 1

    def close(self) -> None:
        """Write what the encoder holds and the index."""
        self._container.mux(self._stream.encode(None))
        self._container.close()


def count_frames(path: Path) -> int:
    """How many pictures a (perhaps cut off) master holds, without decoding more than the last.

    Raises:
        RecordingError: when the file is no video at all.
    """
    import av

    n = 0
    try:
        with av.open(str(path)) as container:
            for packet in container.demux(video=0):
                n += packet.pts is not None
    except (av.FFmpegError, IndexError) as problem:
        # A cut-off last packet ends the reading with an error; what came before it counts.
        if n == 0:
            return _nothing_readable(path, problem)
    return n


def _nothing_readable(path: Path, problem: Exception) -> int:
    # A run killed in its first moments leaves a file without a picture, which is no error of the reader's.
    if path.stat().st_size < 4096:
        return 0
    raise RecordingError(f"cannot read the video: {problem}", where=str(path)) from problem


class FrameSequence(Sequence[Frame]):
    """The pictures of a master by number: ``frames[7]`` uint8 [H, W, 3], ``frames[3:9]`` uint8 [n, H, W, 3].

    Reading forwards decodes each picture once; a jump costs some twenty milliseconds.

    Args:
        path: The video.
        n_frames: How many pictures to show.
        fps: Frames per second it was written with.
        shape: (height, width) in pixels.
    """

    def __init__(self, path: Path, n_frames: int, fps: float, shape: tuple[int, int]) -> None:
        self._path, self._n, self._rate, self._shape = path, n_frames, _rate(fps), (*shape, 3)
        self._container: Any = None
        self._decoder: Iterator[Any] = iter(())
        self._next = 0
        self._cache: OrderedDict[int, Frame] = OrderedDict()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, height, width, 3)."""
        return (self._n, *self._shape)

    def __len__(self) -> int:
        return self._n

    def __repr__(self) -> str:
        return f"<{self._n} frames {self._shape[1]}x{self._shape[0]} of {self._path.name}>"

    @overload  # type: ignore[override]  # a slice is an array [n, H, W, 3], not a sequence
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Frame: ...
    def __getitem__(self, index: int | slice) -> Frame:
        if isinstance(index, slice):
            numbers = range(self._n)[index]
            out = np.empty((len(numbers), *self._shape), np.uint8)
            for row, number in enumerate(numbers):
                out[row] = self._frame(number)
            return out
        return self._frame(range(self._n)[index]).copy()

    def __iter__(self) -> Iterator[Frame]:
        return (self._frame(number).copy() for number in range(self._n))

    def close(self) -> None:
        """Let go of the file; reading opens it again."""
        if self._container is not None:
            self._container.close()
        self._container, self._decoder = None, iter(())

    def _frame(self, number: int) -> Frame:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        frame = self._decode(number)
        self._cache[number] = frame
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return frame

    def _decode(self, number: int) -> Frame:
        import av

        try:
            if self._container is None or not self._next <= number < self._next + 2 * _GOP:
                self._seek(number)
            for picture in self._decoder:
                found = round(float(picture.pts * picture.time_base * self._rate))
                self._next = found + 1
                if found >= number:
                    break
            else:
                found, self._next = -1, self._n + 1
        except (av.FFmpegError, OSError, IndexError) as problem:
            raise RecordingError(f"cannot read frame {number}: {problem}", where=str(self._path)) from problem
        if found != number:
            raise RecordingError(f"frame {number} is not in the video", where=str(self._path),
                                 hint="the file was cut off or changed")
        pixels: Frame = picture.to_ndarray(format="rgb24")
        if pixels.shape != self._shape:
            raise RecordingError(f"frame {number} is {pixels.shape[1]}x{pixels.shape[0]}, expected "
                                 f"{self._shape[1]}x{self._shape[0]}", where=str(self._path))
        return pixels

    def _seek(self, number: int) -> None:
        import av

        if self._container is None:
            self._container = av.open(str(self._path))
        stream = self._container.streams.video[0]
        # Half a frame on, so that rounding of times in milliseconds cannot land one frame early.
        when = (number + Fraction(1, 2)) / self._rate / stream.time_base
        self._container.seek(int(when) if number else 0, stream=stream, backward=True)
        self._decoder = self._container.decode(stream)
        self._next = number


def _tag_colours(codec: Any) -> None:
    """Say that the colours are BT.709, limited range; players guess otherwise, and differ."""
    codec.color_primaries = codec.color_trc = codec.colorspace = _BT709
    codec.color_range = _LIMITED


def write_share_video(frames: Iterable[Frame], path: Path, fps: float) -> int:
    """Encode pictures for people: ``.mp4`` (H.264 4:2:0, plays everywhere) or ``.webm`` (VP9, plays in every browser).

    Args:
        frames: uint8 [H, W, 3], all of one shape with even sides.
        path: Where to; the suffix decides the format. An existing file is replaced once the new one is whole.
        fps: Frames per second.

    Returns:
        How many frames were written.

    Raises:
        VideoError: for another suffix, no frames, or a file that cannot be written.
    """
    import av

    if path.suffix.lower() not in _SHARE:
        raise VideoError(f'cannot write "{path.name}": expected a name that ends in {" or ".join(_SHARE)}',
                         where=str(path))
    codec, container_format, options, container_options = _SHARE[path.suffix.lower()]
    part, n = path.with_name(f".{path.name}.part"), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(part), "w", format=container_format, options=container_options) as container:
            stream: Any = container.add_stream(codec, rate=_rate(fps), options=options)
            stream.pix_fmt = "yuv420p"
            _tag_colours(stream.codec_context)
            for frame in frames:
                if n == 0:
                    stream.height, stream.width = frame.shape[:2]
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                container.mux(stream.encode(picture.reformat(format="yuv420p", dst_colorspace="ITU709")))
                n += 1
            if n:
                container.mux(stream.encode(None))
        if n == 0:
            raise VideoError("there are no frames to write", where=str(path))
        part.replace(path)
    except OSError as problem:
        raise VideoError(f"cannot write the video: {problem.strerror or problem}", where=str(path)) from problem
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return n
