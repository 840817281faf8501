"""A page as one file that can be mailed: everything it shows is inside, and it asks nobody for anything."""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from harness.analysis.result import Result
from harness.errors import HarnessError
from harness.recording.recording import Recording
from harness.viewer.heat import HasHeat, HeatLayer, check_provenance, heat_layers
from harness.viewer.page import difference, html_pieces, page_facts
from harness.viewer.shelf import PICTURES, Shelf

__all__ = ["LIMIT", "export_page"]

LIMIT = 25_000_000
"""Bytes that a file should not exceed; what most mail servers take."""
_QUALITIES = (90, 80, 70, 60, 50, 40, 30)
_SAMPLES = 24
_BATCH = 32


def export_page(recording: Recording, path: str | Path, *, other: Recording | None = None,
                results: Sequence[Result] = (), heats: Sequence[HeatLayer] = (),
                tables: Sequence[dict[str, Any]] = (), on_frame: Callable[[int], None] | None = None) -> int:
    """Write the page of a recording, or of two side by side, as a single HTML file.

    Its pictures are WebP, of the best quality (90 to 30) with which the file stays below 25 MB; where even 30 is too
    much, which begins at some 1,500 steps, it becomes larger.

    Args:
        recording: Which.
        path: The file, ``.html``. An existing one is replaced once the new one is whole.
        other: Shown beside it in lock-step, with the first difference marked.
        results: Results of analyses of these recordings: tables are shown, and those with ``heat(step)`` can be laid
            over the pictures.
        heats: More maps to lay over the pictures of ``recording``.
        tables: More tables, ``{"title": ..., "tables": [...]}`` each.
        on_frame: Called with the number of pictures done.

    Returns:
        The size of the file in bytes.

    Raises:
        HarnessError: for another suffix, a file that cannot be written, an empty recording, or a result that is not
            of these recordings.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise HarnessError(f'cannot write "{path.name}": expected a name that ends in .html', where=str(path))
    recordings = [recording] if other is None else [recording, other]
    shelves, told = _shelves(recordings, results, heats, tables)
    facts = page_facts(shelves, told)
    facts["difference"] = None if other is None else difference(recording, other)
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = [list(_numbers(shelf, i)) for i, shelf in enumerate(shelves)]
        quality = _quality(shelves, sum(len(block) for blocks in numbers for block in blocks))
        facts["quality"] = quality
        blocks = (block for i, shelf in enumerate(shelves)
                  for block in itertools.chain(numbers[i], _pictures(shelf, i, quality, on_frame)))
        with part.open("w", encoding="utf-8") as file:
            file.writelines(html_pieces(facts, blocks, served=False))
        part.replace(path)
    except OSError as problem:
        raise HarnessError(f"cannot write the page: {problem.strerror or problem}", where=str(path)) from problem
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return path.stat().st_size


def _shelves(recordings: Sequence[Recording], results: Sequence[Result] = (), heats: Sequence[HeatLayer] = (),
               tables: Sequence[dict[str, Any]] = ()) -> tuple[list[Shelf], list[dict[str, Any]]]:
    """The recordings with their results laid on them, and the tables of those.

    Raises:
        HarnessError: for a result that is of none of the recordings, or an empty recording.
    """
    laid: list[list[HeatLayer]] = [list(heats) if i == 0 else [] for i in range(len(recordings))]
    told = list(tables)
    for result in results:
        whose = check_provenance(result.provenance, recordings)
        if isinstance(result, HasHeat):
            laid[recordings.index(whose)] += heat_layers(result, whose)
        shown = result.as_dict()
        if shown["tables"]:
            told.append({"title": str(result.provenance.get("analysis", type(result).__name__)), **shown})
    return [Shelf(recording, layers) for recording, layers in zip(recordings, laid, strict=True)], told


def _block(index: int, stream: str, lines: Iterator[str]) -> Iterator[str]:
    """A data block: a line of base64 for every piece of a stream."""
    yield f'<script type="text/plain" id="{index}/{stream}">'
    for number, line in enumerate(lines):
        yield f"\n{line}" if number else line
    yield "</script>\n"


def _numbers(shelf: Shelf, index: int) -> Iterator[str]:
    for stream, n in shelf.streams.items():
        if stream not in PICTURES:
            yield from _block(index, stream, (base64.b64encode(shelf.piece(stream, i)).decode() for i in range(n)))


def _pictures(shelf: Shelf, index: int, quality: int, on_frame: Callable[[int], None] | None) -> Iterator[str]:
    for stream in PICTURES:
        if stream in shelf.streams:
            yield from _block(index, stream, _webps(shelf, stream, quality, on_frame))


def _webps(shelf: Shelf, stream: str, quality: int, on_frame: Callable[[int], None] | None) -> Iterator[str]:
    n = shelf.streams[stream]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # encoding lets go of the interpreter
        for start in range(0, n, _BATCH):
            batch = [shelf.picture(stream, number) for number in range(start, min(n, start + _BATCH))]
            for number, image in enumerate(pool.map(lambda picture: _webp(picture, quality), batch), start + 1):
                yield base64.b64encode(image).decode()
                if on_frame is not None:
                    on_frame(number)


def _webp(picture: npt.NDArray[np.uint8], quality: int) -> bytes:
    done, image = cv2.imencode(".webp", picture[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise HarnessError("this OpenCV cannot write WebP pictures", hint="pip install opencv-python-headless")
    return bytes(image)


def _quality(shelves: Sequence[Shelf], others: int) -> int:
    """The best quality that keeps the file below the limit, by a sample of the pictures.

    Args:
        shelves: Whose pictures.
        others: Bytes of everything else.
    """
    streams = [(shelf, stream) for shelf in shelves for stream in PICTURES if stream in shelf.streams]
    n = sum(shelf.streams[stream] for shelf, stream in streams)
    sample = [shelf.picture(stream, number) for shelf, stream in streams
              for number in np.linspace(0, shelf.streams[stream] - 1, max(2, _SAMPLES // len(streams))).astype(int)]
    # Four letters of base64 for three bytes; a twentieth in reserve, since it is a sample; the page is small.
    room = (LIMIT - others - 200_000) * 0.75 * 0.95 / n
    for quality in _QUALITIES:
        if sum(len(_webp(picture, quality)) for picture in sample) / len(sample) <= room:
            return quality
    return _QUALITIES[-1]
