"""A user's own Minecraft resource pack: pictures for blocks, creatures and items, read from a folder or a zip.

Nothing of a pack is written to disk, no program in it is run, and only files that ``resource_pack.yaml`` or the
catalogue name are opened. A pack comes from strangers: paths that leave it, files that swell, and pictures that are
none are refused by name. What a pack lacks is drawn as without it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from harness.errors import WorldError
from harness.scenario.catalogue import catalogue

__all__ = ["ResourcePack", "announce_missing", "layout", "open_resource_pack", "unfolded"]

U8 = npt.NDArray[np.uint8]
Read = Callable[[str], bytes | None]

_ROOT = "assets/minecraft/textures"
_TILE = 16
_LARGEST_FILE = 8 << 20
_LARGEST_TOTAL = 256 << 20
_MOST_ENTRIES = 100_000
_SWELLS = 200  # times that a compressed file may grow; a picture is compressed already
_LONGEST_SIDE = 16384
_MOST_PIXELS = 1 << 24
_LARGEST_TILE = 1024
_SEEN_FROM = 26  # of 255: the alpha from which the game shows a texel of a creature
_PNG = b"\x89PNG\r\n\x1a\n"


@functools.cache
def layout() -> Mapping[str, Any]:
    """``resource_pack.yaml``."""
    text = resources.files(__package__).joinpath("resource_pack.yaml").read_text(encoding="utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    return table


@dataclass(frozen=True)
class ResourcePack:
    """The pictures of a pack. Two packs with the same pictures are equal, wherever they lie.

    Attributes:
        digest: SHA-256 over the names and bytes of the files that were read.
        path: Where it was read from.
        pictures: File name below ``textures/``, without its ending, to uint8 [H, W, 4]; of animations the first frame.
        missing: Names that blockworld could wear and the pack does not have.
    """

    digest: str
    path: Path = field(compare=False)
    pictures: Mapping[str, U8] = field(compare=False, repr=False)
    missing: tuple[str, ...] = field(compare=False, repr=False)

    def tile(self, name: str, shape: str) -> U8 | None:
        """A block's face by its name in ``textures.py``, uint8 [16, 16, 4], as a block of a shape shows it.

        The biome's colour is not in it; where only parts take that colour (grass over a side), their alpha is 254.
        """
        picture = self.pictures.get(layout()["blocks"].get(name, ""))
        if picture is None:
            return None
        tile = _resampled(picture)
        if shape == "opaque":
            tile[..., 3] = 255
        elif shape == "cutout":
            tile[..., 3] = np.where(tile[..., 3] >= 128, 255, 0)
        over = self.pictures.get(layout()["overlays"].get(name, ""))
        if over is not None:
            grass = _resampled(over)
            marked = grass[..., 3] >= 128
            tile[marked, :3], tile[marked, 3] = grass[marked, :3], 254
        return tile

    def sprite(self, name: str) -> U8 | None:
        """The flat picture of an item that is no block, uint8 [16, 16, 4]."""
        picture = self.pictures.get(f"item/{name}")
        if picture is None:
            return None
        tile = _resampled(picture)
        tile[..., 3] = np.where(tile[..., 3] >= 128, 255, 0)
        return tile

    def skin(self, creature: str, name: str, dye: tuple[int, int, int] | None = None, **words: str) -> U8 | None:
        """A creature's unfolded skin, all layers on each other, uint8 [H, W, 4]; None where the pack lacks one.

        Args:
            creature: A row of ``creatures`` in ``resource_pack.yaml``.
            name: One of its skins.
            dye: The colour that it is multiplied with.
            words: What ``{type}`` and ``{profession}`` stand for; profession ``none`` has no layer.
        """
        layers = [self.pictures.get(layer) for layer in _layers(creature, name, **words)]
        found = [layer for layer in layers if layer is not None]
        if len(found) != len(layers):
            return None
        height = max(layer.shape[0] for layer in found)
        out: U8 | None = None
        for layer in found:
            times = height // layer.shape[0]
            layer = np.repeat(np.repeat(layer, times, axis=0), times, axis=1)
            seen = layer[..., 3:] >= _SEEN_FROM
            out = np.where(seen, layer, 0 if out is None else out).astype(np.uint8)
        assert out is not None
        if dye is not None:
            out[..., :3] = np.round(out[..., :3] * (np.array(dye) / 255.0))
        out[..., 3] = np.where(out[..., 3] >= _SEEN_FROM, 255, 0)
        return out


def _layers(creature: str, name: str, **words: str) -> list[str]:
    layers = layout()["creatures"][creature]["skins"][name]["layers"]
    return [layer.format(**words) for layer in layers
            if not ("{profession}" in layer and words.get("profession", "none") == "none")]


def _resampled(picture: U8) -> U8:
    """A square picture at 16 x 16: means of what shows over squares of texels, or each texel several times."""
    side = picture.shape[0]
    if side <= _TILE:
        return np.repeat(np.repeat(picture, _TILE // side, axis=0), _TILE // side, axis=1).copy()
    times = side // _TILE
    parts = picture.reshape(_TILE, times, _TILE, times, 4).astype(np.float64)
    alpha = parts[..., 3:]
    weight = np.where(alpha.sum(axis=(1, 3), keepdims=True) > 0, alpha, 1.0)
    out = np.empty((_TILE, _TILE, 4), dtype=np.uint8)
    out[..., :3] = np.round((parts[..., :3] * weight).sum(axis=(1, 3)) / weight.sum(axis=(1, 3)))
    out[..., 3] = np.round(alpha.mean(axis=(1, 3))[..., 0])
    return out


def unfolded(skin: U8, box: Sequence[Any], width: int) -> list[U8]:
    """The six faces (-x +x -y +y -z +z) of a box, cut out of an unfolded skin.

    The unfolding is Minecraft's: from the left the right side, front, left side and back, above the front the top, and
    beside that the bottom. A creature looks towards +z, its right hand is at -x.

    Args:
        skin: uint8 [H, W, 4].
        box: A row of ``boxes`` without its skin: u, v, width, height, depth, and perhaps a word.
        width: Of the skin at 16 texels a block.
    """
    k = skin.shape[1] // width
    u, v, x, y, z = (int(n) for n in box[:5])

    def cut(left: int, top: int, w: int, h: int) -> U8:
        return skin[k * (v + top):k * (v + top + h), k * (u + left):k * (u + left + w)]

    right, front = cut(0, z, z, y), cut(z, z, x, y)
    left, back = cut(z + x, z, z, y), cut(2 * z + x, z, x, y)
    top, bottom = cut(z, 0, x, z), cut(z + x, 0, x, z)
    faces = [right, left, bottom, top, back, front]
    match box[5] if len(box) > 5 else "":
        case "mirrored":
            faces = [face[:, ::-1] for face in (left, right, bottom, top, back, front)]
        case "turned":  # tipped forward by a quarter: the back is on top, the top in front
            faces = [np.rot90(right, -1), np.rot90(left), front[::-1], np.rot90(back, 2), bottom[:, ::-1], top]
        case "upside-down":  # the arm in the game's own coordinates, whose y points down
            faces = [right[::-1, ::-1], left[::-1, ::-1], top[::-1], bottom[::-1], front[::-1, ::-1],
                     back[::-1, ::-1]]
    return [np.ascontiguousarray(face) for face in faces]


# ---- reading


def _wanted() -> dict[str, tuple[int, int] | None]:
    """Every file that can be worn -> its width and height at 16 texels a block; None for a tile."""
    names: dict[str, tuple[int, int] | None] = dict.fromkeys((*layout()["blocks"].values(),
                                                              *layout()["overlays"].values()))
    names |= {f"item/{name}": None for name in catalogue().items}
    for row in layout()["creatures"].values():
        for skin in row["skins"].values():
            for layer in skin["layers"]:
                words = catalogue().villager_types if "{type}" in layer else catalogue().professions
                for word in words if "{" in layer else ("",):
                    if word != "none":
                        names[layer.format(type=word, profession=word)] = tuple(skin["size"])
    return names


def open_resource_pack(path: str | Path) -> ResourcePack:
    """Read a resource pack for Minecraft 1.13 or newer: a folder, or a zip file, with ``pack.mcmeta`` at its top.

    Raises:
        WorldError: for a pack that is missing, broken, hostile or of another kind, and for a picture in it that is
            none or has a wrong size, naming the file.
    """
    place = Path(path).expanduser()
    if not (place.is_dir() or place.is_file()):
        raise WorldError("there is no resource pack here", where=str(place),
                         hint="expected a .zip file or a folder with pack.mcmeta in it")
    pictures: dict[str, U8] = {}
    digest, total = hashlib.sha256(), 0
    opened = _folder if place.is_dir() else _zip
    with opened(place) as read:
        if read("pack.mcmeta") is None:
            raise WorldError("this is no resource pack: it has no pack.mcmeta at its top", where=str(place),
                             hint="give the folder or zip file that holds pack.mcmeta and assets/ itself")
        for name, size in sorted(_wanted().items()):
            where = f"{_ROOT}/{name}.png"
            data = read(where)
            if data is None:
                continue
            motion = (read(f"{where}.mcmeta") or b"") if size is None else b""
            total += len(data) + len(motion)
            if total > _LARGEST_TOTAL:
                raise WorldError(f"the pack's pictures take more than {_LARGEST_TOTAL >> 20} MB", where=str(place))
            digest.update(f"{name} {len(data)} {len(motion)}\n".encode() + data + motion)
            pictures[name] = _picture(data, motion, size, f"{place}: {where}")
    if not pictures:
        raise WorldError("the pack has no picture that blockworld could wear", where=str(place),
                         hint="packs before Minecraft 1.13 name their files otherwise (textures/blocks)")
    missing = tuple(name for name in _wanted() if name not in pictures and name not in layout()["overlays"].values())
    return ResourcePack(digest.hexdigest(), place.resolve(), pictures, missing)


_announced: set[str] = set()


def announce_missing(pack: ResourcePack) -> None:
    """Say on stderr, once a process, which pictures a pack lacks."""
    if pack.missing and pack.digest not in _announced:
        _announced.add(pack.digest)
        some = ", ".join(pack.missing[:6]) + (" ..." if len(pack.missing) > 6 else "")
        sys.stderr.write(f"{pack.path.name} lacks {len(pack.missing)} of {len(_wanted())} pictures, which are drawn as "
                         f"without it: {some}\n")


@contextmanager
def _folder(root: Path) -> Iterator[Read]:
    top = root.resolve()

    def read(name: str) -> bytes | None:
        path = root / name
        try:
            if not path.exists():
                return None
            if not path.resolve().is_relative_to(top):
                raise WorldError(f"{name} leads out of the resource pack", where=str(path))
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise WorldError(f"{name} is no file", where=str(path))
            _check_size(status.st_size, str(path))
            return path.read_bytes()
        except OSError as problem:
            raise WorldError(f"the resource pack cannot be read: {problem.strerror}", where=str(path)) from problem

    yield read


@contextmanager
def _zip(path: Path) -> Iterator[Read]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _entries(archive, path)

            def read(name: str) -> bytes | None:
                entry = entries.get(name)
                if entry is None:
                    return None
                where = f"{path}: {name}"
                _check_size(entry.file_size, where)
                if entry.file_size > _SWELLS * max(entry.compress_size, 1):
                    raise WorldError(f"{entry.compress_size} bytes would become {entry.file_size}: no picture packs so "
                                     "well", where=where, hint="is this file from whom you think?")
                with archive.open(entry) as file:
                    data = file.read(_LARGEST_FILE + 1)  # whatever its entry says
                _check_size(len(data), where)
                return data

            yield read
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as problem:
        raise WorldError(f"the resource pack cannot be read: {problem}", where=str(path),
                         hint="expected a zip file or a folder, not encrypted") from problem


def _entries(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > _MOST_ENTRIES:
        raise WorldError(f"the resource pack has {len(infos)} entries, more than {_MOST_ENTRIES}", where=str(path))
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename
        if name.startswith("/") or "\\" in name or ":" in name or ".." in PurePosixPath(name).parts:
            raise WorldError(f"the resource pack has an entry that leads out of it: {name!r}", where=str(path),
                             hint="such a file was made to overwrite others; nothing was written")
        if name in entries:
            raise WorldError(f"the resource pack has {name!r} twice", where=str(path))
        entries[name] = info
    return entries


def _check_size(n_bytes: int, where: str) -> None:
    if n_bytes > _LARGEST_FILE:
        raise WorldError(f"a file of {n_bytes} bytes is larger than the {_LARGEST_FILE >> 20} MB that a picture may "
                         "have", where=where)


def _picture(data: bytes, motion: bytes, size: tuple[int, int] | None, where: str) -> U8:
    """Decode a PNG, uint8 [H, W, 4]: a tile's first frame, or a skin of ``size`` times a whole number."""
    width, height = _png_size(data, where)
    if size is None:
        side, first = _frame(width, height, motion, where)
        if side & (side - 1) or side > _LARGEST_TILE:
            raise WorldError(f"{width} x {height} pixels: expected a square of 16, 32, 64, 128 ... pixels, at most "
                             f"{_LARGEST_TILE}", where=where)
        return _decoded(data, width, height, where)[first * side:(first + 1) * side].copy()
    times = width // size[0]
    if times < 1 or times & (times - 1) or (width, height) != (times * size[0], times * size[1]):
        raise WorldError(f"{width} x {height} pixels: expected {size[0]} x {size[1]}, or that times 2, 4, 8 ...",
                         where=where)
    return _decoded(data, width, height, where)


def _png_size(data: bytes, where: str) -> tuple[int, int]:
    """Width and height as a PNG's head says, before anything is unpacked."""
    if not data.startswith(_PNG) or data[12:16] != b"IHDR" or len(data) < 33:
        raise WorldError("this is not a PNG picture", where=where)
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if not (0 < width <= _LONGEST_SIDE and 0 < height <= _LONGEST_SIDE and width * height <= _MOST_PIXELS):
        raise WorldError(f"a picture of {width} x {height} pixels: expected at most {_LONGEST_SIDE} a side and "
                         f"{_MOST_PIXELS} in all", where=where)
    return width, height


def _frame(width: int, height: int, motion: bytes, where: str) -> tuple[int, int]:
    """The side of a frame and the number of the first one, by a tile's .mcmeta."""
    if not motion:
        if width != height:
            raise WorldError(f"{width} x {height} pixels and no .mcmeta: expected a square", where=where)
        return width, 0
    try:
        animation = json.loads(motion).get("animation")
        if animation is None:
            return _frame(width, height, b"", where)
        frames = animation.get("frames") or [0]
        first = frames[0]["index"] if isinstance(frames[0], dict) else frames[0]
        sides = {int(animation.get("width", width)), int(animation.get("height", width))}
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError) as problem:
        raise WorldError(f"the .mcmeta of an animation cannot be read: {type(problem).__name__}: {problem}",
                         where=f"{where}.mcmeta") from problem
    if sides != {width} or not isinstance(first, int) or not 0 <= first < max(height // width, 0):
        raise WorldError(f"an animation of {width} x {height} pixels has no frame {first!r} of {width} x {width}",
                         where=f"{where}.mcmeta")
    return width, first


def _decoded(data: bytes, width: int, height: int, where: str) -> U8:
    import cv2

    found: Any
    try:
        found = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        found = None
    if found is None or found.shape[:2] != (height, width):
        raise WorldError("the PNG picture is broken", where=where)
    if found.dtype == np.uint16:
        found = (found >> 8).astype(np.uint8)
    if found.ndim == 2:
        found = cv2.cvtColor(found, cv2.COLOR_GRAY2BGR)
    if found.shape[2] == 3:
        found = np.dstack([found, np.full((height, width), 255, dtype=np.uint8)])
    return np.ascontiguousarray(found[..., [2, 1, 0, 3]])
