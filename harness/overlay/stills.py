"""Pictures for places where no video plays: an animated GIF, and a sheet of stills."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from harness.errors import VideoError
from harness.overlay.layers import PAPER, Picture

__all__ = ["write_gif", "write_sheet"]

_EVERY, _COLUMNS, _GAP = 2, 3, 8
# Each picture has a palette of its own, and no dither: dots would dance, and make the file several times as large.
_GRAPH = (("scale", "iw/2:-2:flags=area"), ("split", ""), ("palettegen", "stats_mode=single"), ("paletteuse",
                                                                                            "new=1:dither=none"))


def write_gif(pictures: Iterable[Picture], path: Path, fps: float) -> int:
    """An animated GIF: half as wide, every other picture.

    Args:
        pictures: uint8 [H, W, 3], all of one shape.
        path: Replaced once the new file is whole.
        fps: Pictures per second, of which half are kept.

    Returns:
        How many pictures came.

    Raises:
        VideoError: for no pictures, or a file that cannot be written.
    """
    part, n = path.with_name(f".{path.name}.part"), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(part), "w", format="gif") as container:
            stream, graph = None, None
            for picture in pictures:
                if stream is None or graph is None:
                    height, width = picture.shape[:2]
                    rate = Fraction(fps / _EVERY).limit_denominator(1000)
                    stream = container.add_stream("gif", rate=rate)
                    stream.width, stream.height, stream.pix_fmt = width // 2, height // 2, "pal8"
                    graph = _palettes(width, height)
                if n % _EVERY == 0:
                    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                    frame.pts = n // _EVERY
                    graph.push(frame)
                    drawn = graph.pull()
                    assert isinstance(drawn, av.VideoFrame)
                    drawn.pts, drawn.time_base = n // _EVERY, 1 / rate
                    container.mux(stream.encode(drawn))
                n += 1
            if stream is not None:
                container.mux(stream.encode(None))
        if n == 0:
            raise VideoError("there are no pictures to write", where=str(path))
        part.replace(path)
    except OSError as problem:
        raise VideoError(f"cannot write the GIF: {problem.strerror or problem}", where=str(path)) from problem
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return n


def _palettes(width: int, height: int) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=Fraction(1, 100))
    scale, split, palette, use = (graph.add(name, words or None) for name, words in _GRAPH)
    sink = graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph


def write_sheet(pictures: Sequence[Picture], path: Path) -> None:
    """A PNG with stills in rows of three, each half as wide, in order of time.

    Args:
        pictures: uint8 [H, W, 3], all of one shape.
        path: Replaced once the new file is whole.

    Raises:
        VideoError: for a file that cannot be written.
    """
    small = [np.asarray(cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8) for p in pictures]
    height, width = small[0].shape[:2]
    columns = min(_COLUMNS, len(small))
    rows = -(-len(small) // columns)
    sheet = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), PAPER, np.uint8)
    for place, picture in enumerate(small):
        y, x = (place // columns) * (height + _GAP), (place % columns) * (width + _GAP)
        sheet[y:y + height, x:x + width] = picture
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())
        part.replace(path)
    except OSError as problem:
        raise VideoError(f"cannot write the sheet: {problem.strerror or problem}", where=str(path)) from problem
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
