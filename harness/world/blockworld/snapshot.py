"""A block world as bytes: a JSON header and packed arrays. Reading runs no code."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import WorldError
from harness.scenario.catalogue import catalogue
from harness.world.blockworld.grid import CHUNK, Grid
from harness.world.blockworld.simulation import Simulation
from harness.world.blockworld.state import (
    BAG,
    CLOCK,
    EVENT_KINDS,
    FIRST_ENTITY,
    ITEM,
    LAST_ENTITY,
    MAX_EVENTS,
    MAX_ITEMS,
    MAX_MOBS,
    MOB,
    PLAYER,
    STATISTICS,
    empty_arrays,
)
from harness.world.blockworld.tables import tables

__all__ = ["freeze", "read_header", "thaw"]

_MAGIC = b"HBW1"
_LARGEST = 1 << 28  # bytes a snapshot may unpack to
_SIDE = 512         # blocks
_FAR, _FAST, _MUCH = 3e7, 1e3, 2.0**53

_WITHIN: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("x", "y", "z", "goal_x", "goal_z", "dig_x", "dig_y", "dig_z"), (-_FAR, _FAR)),
    **dict.fromkeys(("vx", "vy", "vz"), (-_FAST, _FAST)),
    **dict.fromkeys(("health", "bob"), (-_FAR, _FAR)), "pitch": (-90.0, 90.0), "dig": (0.0, 2.0), "swing": (-2, 64),
    "selected": (0, 8), "gui": (0, 1), "variant": (0, 255), "colour": (0, 1 << 24), "time": (0, 23999),
}
"""Field to its least and greatest value, wherever a row has it; compiled code counts and indexes with these numbers
unchecked. Fields without a line may hold any number of at most 2^53."""


def freeze(simulation: Simulation, header: dict[str, Any]) -> bytes:
    """Everything that decides the future of a simulation.

    Args:
        simulation: Left as it is.
        header: JSON values of the caller's own, given back by ``read_header``.

    Returns:
        magic, length and CRC-32 of the rest, length of the header, header (JSON), zlib of the arrays.
    """
    arrays, grid = simulation.arrays, simulation.grid
    clock = arrays.clock[0]
    n_mobs, n_items = int(clock["n_mobs"]), int(clock["n_items"])
    parts = [arrays.player, arrays.clock, arrays.mobs[:n_mobs], arrays.items[:n_items], arrays.bag,
             arrays.statistics, arrays.events[:int(clock["n_events"])], grid.voxels]
    payload = zlib.compress(b"".join(part.tobytes() for part in parts), 1)
    full = {
        **header, "layout": _layout(), "n_mobs": n_mobs, "n_items": n_items, "n_events": int(clock["n_events"]),
        "voxels": list(grid.voxels.shape), "origin": grid.origin.tolist(), "ground": [grid.ground, grid.ground_y],
        "labels": simulation.labels, "rules": simulation.rules, "weather": simulation.weather,
        "difficulty": simulation.difficulty, "biome": simulation.biome,
    }
    text = json.dumps(full, separators=(",", ":")).encode()
    body = struct.pack("<I", len(text)) + text + payload
    return _MAGIC + struct.pack("<QI", len(body), zlib.crc32(body)) + body


def _layout() -> str:
    """A digest of every field: a snapshot of other rules is refused, not misread."""
    return f"{zlib.crc32(repr((PLAYER, CLOCK, MOB, ITEM, BAG, STATISTICS)).encode()):08x}"


def _refuse(why: str) -> WorldError:
    return WorldError(f"this is not a snapshot that blockworld can restore: {why}",
                      hint="restore a snapshot made by the same version, for the same scenario")


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise _refuse(f"expected bytes, got {type(data).__name__}")
    data = bytes(data)
    if len(data) < 20 or data[:4] != _MAGIC:
        raise _refuse("it does not begin with a block world's mark")
    length, check = struct.unpack("<QI", data[4:16])
    body = data[16:]
    if len(body) != length or zlib.crc32(body) != check:
        raise _refuse(f"it is cut off or damaged ({len(body)} bytes where {length} were written)")
    size = struct.unpack("<I", body[:4])[0]
    try:
        header = json.loads(body[4:4 + size])
    except ValueError as problem:
        raise _refuse("its header is not JSON") from problem
    if not isinstance(header, dict) or header.get("layout") != _layout():
        raise _refuse("it was made by another version of the rules")
    return header, body[4 + size:]


def read_header(data: bytes) -> dict[str, Any]:
    """The header of a snapshot, checked for damage.

    Raises:
        WorldError: for bytes that are none.
    """
    return _split(data)[0]


def thaw(simulation: Simulation, data: bytes) -> None:
    """Put a simulation back into the state of a snapshot.

    Raises:
        WorldError: for bytes that are no snapshot, are damaged or come from another version.
    """
    header, payload = _split(data)
    shape = _checked_shape(header)
    counts = [1, 1, header["n_mobs"], header["n_items"], BAG * 2, STATISTICS, header["n_events"],
              int(np.prod(shape))]
    arrays = empty_arrays()
    kinds = [PLAYER, CLOCK, MOB, ITEM, np.dtype(np.int64), np.dtype(np.int64), arrays.events.dtype, np.dtype(np.uint8)]
    wanted = sum(kind.itemsize * n for kind, n in zip(kinds, counts, strict=True))
    if wanted > _LARGEST:
        raise _refuse(f"it claims to hold {wanted} bytes")
    raw = zlib.decompressobj().decompress(payload, wanted + 1)
    if len(raw) != wanted:
        raise _refuse(f"it holds {len(raw)} bytes where {wanted} were expected")
    pieces, at = [], 0
    for kind, n in zip(kinds, counts, strict=True):
        pieces.append(np.frombuffer(raw, kind, n, at))
        at += kind.itemsize * n
    *rows, voxels = pieces
    _check(rows, voxels, header)
    for target, piece in zip((arrays.player, arrays.clock, arrays.mobs, arrays.items, arrays.bag.reshape(-1),
                              arrays.statistics, arrays.events), rows, strict=True):
        target[:len(piece)] = piece
    simulation.arrays = arrays
    simulation.forget()
    simulation.labels = [tuple(label) for label in header["labels"]]
    simulation.rules, simulation.weather = header["rules"], header["weather"]
    simulation.difficulty, simulation.biome = header["difficulty"], header["biome"]
    _put_blocks(simulation, voxels.reshape(shape), header)
    simulation.look()


def _checked_shape(header: dict[str, Any]) -> tuple[int, int, int]:
    """The grid's shape, when it, the counts and the words beside it are those of a world."""
    known = catalogue()
    for key, words in (("weather", known.weathers), ("biome", known.biomes), ("difficulty", known.difficulties)):
        if header[key] not in words:
            raise _refuse(f"its {key} is {header[key]!r}")
    cells = [*header["origin"], *header["ground"], header["steps"]]
    whole = len(cells) == 6 and all(type(n) is int and abs(n) <= _FAR for n in cells)
    tagged = all(tags and all(isinstance(tag, str) for tag in tags) for tags in header["labels"])
    if not whole or not tagged or not isinstance(header["rules"], dict):
        raise _refuse("its header holds something else than it should")
    shape, limits = header["voxels"], {"n_mobs": MAX_MOBS, "n_items": MAX_ITEMS, "n_events": MAX_EVENTS}
    fits = len(shape) == 3 and all(type(n) is int and 0 < n <= _SIDE for n in shape) and not (
        shape[1] % CHUNK or shape[2] % CHUNK)
    if not fits or any(type(header[key]) is not int or not 0 <= header[key] <= most for key, most in limits.items()):
        raise _refuse(f"a grid of {shape} blocks with {[header[key] for key in limits]} creatures, items and events")
    return shape[0], shape[1], shape[2]


def _check(rows: Sequence[npt.NDArray[Any]], voxels: npt.NDArray[np.uint8], header: dict[str, Any]) -> None:
    """Refuse numbers that no world holds: compiled code would read and write elsewhere with them."""
    player, clock, mobs, items, bag, _, events = rows
    known = tables()
    things = (0, len(known.item_names) - 1)
    most = {"n_mobs": MAX_MOBS, "n_items": MAX_ITEMS, "n_events": MAX_EVENTS}
    own: list[tuple[npt.NDArray[Any], dict[str, tuple[float, float]]]] = [
        (player, {"in_hand": things}),
        (clock, {"next_id": (FIRST_ENTITY, LAST_ENTITY), **{key: (header[key], header[key]) for key in most}}),
        (mobs, {"id": (FIRST_ENTITY, LAST_ENTITY), "kind": (0, len(known.creature_names) - 1),
                "label": (-1, len(header["labels"]) - 1)}),
        (items, {"id": (FIRST_ENTITY, LAST_ENTITY), "item": things}),
        (events, {"kind": (0, len(EVENT_KINDS) - 1), "label": (-1, len(header["labels"]) - 1)})]
    for array, limits in own:
        for name in array.dtype.names or ():
            low, high = limits.get(name) or _WITHIN.get(name, (-_MUCH, _MUCH))
            # A NaN is not within anything.
            if array.dtype[name] != np.uint64 and not ((array[name] >= low) & (array[name] <= high)).all():
                raise _refuse(f"{name} is {array[name].tolist()}, expected {low:g} to {high:g}")
    number, count = bag.reshape(BAG, 2).T
    if not ((number >= 0) & (number <= things[1]) & (count >= 0) & (count <= _FAR)).all():
        raise _refuse("the player carries items that do not exist")
    blocks = [i for i, n in enumerate(np.bincount(voxels, minlength=256)) if n]
    ground = header["ground"][0]
    if ground not in range(256) or not all(known.block_names[i] for i in (*blocks, ground)):
        raise _refuse("it holds blocks that do not exist")


def _put_blocks(simulation: Simulation, voxels: npt.NDArray[np.uint8], header: dict[str, Any]) -> None:
    """Copy blocks into the grid that is there if it fits, so that only changed chunks are meshed anew."""
    grid = simulation.grid
    if grid.voxels.shape != voxels.shape or grid.origin.tolist() != header["origin"]:
        simulation.attach(Grid(voxels.copy(), tuple(header["origin"]), *header["ground"]))
        return
    grid.replace(voxels)
