"""A block world as bytes: a JSON header and packed arrays. Reading runs no code."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import WorldError
from harness.world.blockworld.grid import Grid
from harness.world.blockworld.simulation import Simulation
from harness.world.blockworld.state import BAG, CLOCK, ITEM, MOB, PLAYER, STATISTICS, empty_arrays

__all__ = ["freeze", "read_header", "thaw"]

_MAGIC = b"HBW1"
_LARGEST = 1 << 28  # bytes a snapshot may unpack to


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
    shape = tuple(header["voxels"])
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


def _put_blocks(simulation: Simulation, voxels: npt.NDArray[np.uint8], header: dict[str, Any]) -> None:
    """Copy blocks into the grid that is there if it fits, so that only changed chunks are meshed anew."""
    grid = simulation.grid
    if grid.voxels.shape != voxels.shape or grid.origin.tolist() != header["origin"]:
        simulation.attach(Grid(voxels.copy(), tuple(header["origin"]), *header["ground"]))
        return
    grid.replace(voxels)
