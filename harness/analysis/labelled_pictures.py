"""A folder of pictures and a table of what is in them: CelebA, Waterbirds, typographic attacks, or one's own."""

from __future__ import annotations

import csv
import io
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import numpy.typing as npt

from harness.errors import LabelsError, nearest_names

__all__ = ["LabelledPictures", "read_labels", "read_picture"]

Int = npt.NDArray[np.int64]
COLUMNS = ("file", "label", "group", "split")
"""What a row says: a path in the folder, its class, a spurious attribute, and ``train`` or ``test``."""
_SPLITS = {"train": "train", "0": "train", "val": "val", "valid": "val", "validation": "val", "1": "val",
           "test": "test", "2": "test"}
"""The words of the published tables; 0, 1, 2 are those of CelebA and Waterbirds."""
_MOST_TABLE = 64 << 20
_MOST_FILE = 64 << 20
_MOST_PIXELS = 50_000_000
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures that are read when they are asked for, and what is in them.

    Attributes:
        folder: Where they lie.
        files: Paths in it, in the order of the table.
        classes: Names of the classes, sorted.
        label: Which class, int64 [picture].
        attributes: Names of the values of the spurious attribute, sorted; one empty name where there is none.
        attribute: Which value, int64 [picture].
        split: ``train``, ``val`` or ``test`` of each; None where the table does not say.
        unlabelled: How many pictures in the folder the table leaves out.
    """

    folder: Path
    files: tuple[str, ...]
    classes: tuple[str, ...]
    label: Int
    attributes: tuple[str, ...]
    attribute: Int
    split: tuple[str, ...] | None
    unlabelled: int

    def __len__(self) -> int:
        return len(self.files)

    @property
    def group(self) -> Int:
        """Class and attribute as one number, int64 [picture]: ``group_names`` says what it is."""
        return self.label * len(self.attributes) + self.attribute

    @property
    def group_names(self) -> tuple[str, ...]:
        """``class, attribute`` of each group; the class alone where there is no attribute."""
        return tuple(", ".join(filter(None, (c, a))) for c in self.classes for a in self.attributes)

    def pictures(self, rows: Int, size: int = 32) -> Iterator[list[npt.NDArray[np.uint8]]]:
        """Batches of pictures uint8 [H, W, 3], each of its own size.

        Args:
            rows: Which.
            size: How many at a time.

        Raises:
            LabelsError: as ``read_picture`` does.
        """
        for start in range(0, len(rows), size):
            yield [read_picture(self.folder, self.files[row]) for row in rows[start:start + size]]


def read_labels(folder: str | Path, table: str | Path, columns: Mapping[str, str] | None = None) -> LabelledPictures:
    """The pictures of a folder that a table names.

    Args:
        folder: Where the pictures lie (PNG or JPEG), in folders of their own if need be.
        table: CSV with a heading: ``file``, ``label``, and perhaps ``group`` (the spurious attribute: the background,
            the written word) and ``split`` (train, val, test, or 0, 1, 2).
        columns: Other names of these columns, such as ``{"file": "img_filename", "label": "y", "group": "place"}`` for
            Waterbirds.

    Raises:
        LabelsError: for a table that is missing, empty or no CSV, lacks a column, has an empty cell, names a picture
            twice, one that is not there or one outside of the folder; for fewer than two classes.
    """
    folder, path = Path(folder), Path(table)
    if not folder.is_dir():
        raise LabelsError(f"there is no folder {folder}")
    rows, wanted = _rows(path, dict(columns or {}))
    files = [row[wanted["file"]] for row in rows]
    _check_files(folder, files, path)
    classes, label = _numbered([row[wanted["label"]] for row in rows])
    if not 2 <= len(classes) <= _MOST_CLASSES:
        raise LabelsError(f"expected 2 to {_MOST_CLASSES:,} classes, got {len(classes)}: {', '.join(classes[:5])}",
                          where=f"{path}, column {wanted['label']}", hint="is it the column of the classes?")
    attributes, attribute = _numbered([row[wanted["group"]] if "group" in wanted else "" for row in rows])
    split = tuple(_split(row[wanted["split"]], path) for row in rows) if "split" in wanted else None
    here = sum(each.suffix.lower() in (".png", ".jpg", ".jpeg") for each in folder.rglob("*"))
    return LabelledPictures(folder, tuple(files), classes, label, attributes, attribute, split,
                            max(0, here - len(files)))


def _rows(path: Path, columns: dict[str, str]) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The table's rows, and which of its columns is which of ours."""
    for ours in columns:
        if ours not in COLUMNS:
            raise LabelsError(f'unknown column "{ours}": expected {", ".join(COLUMNS)}')
    try:
        if path.stat().st_size > _MOST_TABLE:
            raise ValueError(f"it has more than {_MOST_TABLE >> 20} MB")
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")), strict=True)
        heading = list(reader.fieldnames or [])
        rows = list(reader)
    except (OSError, ValueError, csv.Error) as problem:
        raise LabelsError(f"cannot read the table of labels: {problem}", where=str(path)) from problem
    wanted = {}
    for ours in COLUMNS:
        theirs = columns.get(ours, ours)
        if theirs in heading:
            wanted[ours] = theirs
        elif ours in columns or ours in ("file", "label"):
            near = nearest_names(theirs, heading)
            raise LabelsError(f'the table has no column "{theirs}": it has {", ".join(heading[:12])[:300] or "none"}',
                              where=str(path), hint=(f"did you mean {near[0]}? " if near else "") +
                              f"say which is which: {ours}=NAME")
    if not rows:
        raise LabelsError("the table of labels has no rows", where=str(path))
    for number, row in enumerate(rows, 2):
        empty = [name for name in wanted.values() if not (row.get(name) or "").strip()]
        if empty or None in row:
            what = f"nothing under {empty[0]}" if empty else "more cells than the heading"
            raise LabelsError(f"row {number} of the table has {what}", where=f"{path}:{number}")
    return [{name: row[name].strip() for name in wanted.values()} for row in rows], wanted


def _check_files(folder: Path, files: Sequence[str], table: Path) -> None:
    twice = [name for name, n in Counter(files).items() if n > 1]
    if twice:
        raise LabelsError(f"{len(twice)} pictures have more than one row, such as {twice[0][:200]}", where=str(table))
    missing = [name for name in files if not _inside(folder, name).is_file()]
    if missing:
        near = nearest_names(PurePosixPath(missing[0]).name, [p.name for p in list(folder.rglob("*"))[:1000]], 1)
        raise LabelsError(f"{len(missing)} of the {len(files)} pictures in the table are not in {folder}, such as "
                          f"{missing[0][:200]}" + (f" (nearest: {near[0]})" if near else ""), where=str(table),
                          hint="does the table belong to this folder? Its paths are taken from the folder on")


def _inside(folder: Path, name: str) -> Path:
    """A picture's path, which must not leave the folder, neither by its name nor through a link."""
    path, root = folder / name, folder.resolve()
    try:
        if not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts and "\\" not in name and \
                path.resolve().is_relative_to(root):
            return path
    except (OSError, ValueError, RuntimeError):
        pass
    raise LabelsError(f"{name[:200]!r} in the table leads out of the folder {folder}",
                      hint="paths are relative to the folder, without ..")


def _numbered(words: Sequence[str]) -> tuple[tuple[str, ...], Int]:
    names, places = np.unique(np.array(words), return_inverse=True)
    return tuple(map(str, names)), np.asarray(places, np.int64)


def _split(word: str, table: Path) -> str:
    if word.lower() not in _SPLITS:
        raise LabelsError(f"split: expected train, val or test (or 0, 1, 2), got {word[:40]!r}", where=str(table))
    return _SPLITS[word.lower()]


def read_picture(folder: Path, name: str) -> npt.NDArray[np.uint8]:
    """One picture, uint8 [H, W, 3] RGB, as it is stored: no turning by what a camera noted.

    Args:
        folder: Where it lies.
        name: Its path in there.

    Raises:
        LabelsError: for a name that leaves the folder, what is no PNG or JPEG, a damaged picture, and one of more than
            50 million pixels, which is not unpacked.
    """
    path = _inside(folder, name)
    try:
        if path.stat().st_size > _MOST_FILE:
            raise LabelsError(f"a picture of more than {_MOST_FILE >> 20} MB", where=str(path))
        raw = path.read_bytes()
    except OSError as problem:
        raise LabelsError(f"cannot read the picture: {problem.strerror or problem}", where=str(path)) from problem
    height, width = _announced(raw)
    if not height or not width:
        raise LabelsError("expected a picture in PNG or JPEG, and it is none", where=str(path))
    if height * width > _MOST_PIXELS:
        raise LabelsError(f"a picture of {height:,} x {width:,}, more than {_MOST_PIXELS:,} pixels", where=str(path),
                          hint="make it smaller")
    try:
        found = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        found = None
    if found is None or found.shape[:2] != (height, width):
        raise LabelsError("the picture is damaged or cut off", where=str(path))
    return np.asarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB), np.uint8)


def _announced(raw: bytes) -> tuple[int, int]:
    """(height, width) as a PNG's or JPEG's header has them; 0 and 0 for anything else."""
    if raw[:8] == b"\x89PNG\r\n\x1a\n" and raw[12:16] == b"IHDR" and len(raw) >= 24:
        width, height = struct.unpack(">II", raw[16:24])
        return height, width
    at = 2
    while raw[:2] == b"\xff\xd8" and at + 9 <= len(raw) and raw[at] == 0xFF:
        mark = raw[at + 1]
        if 0xC0 <= mark <= 0xCF and mark not in (0xC4, 0xC8, 0xCC):  # the frame's header; C4, C8, CC are tables
            height, width = struct.unpack(">HH", raw[at + 5:at + 9])
            return height, width
        # Padding, and marks without a length.
        at += 1 if mark == 0xFF else 2 if mark == 1 or 0xD0 <= mark <= 0xD8 else \
            2 + max(2, struct.unpack(">H", raw[at + 2:at + 4])[0])
    return 0, 0
