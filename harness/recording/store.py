"""Bytes on disk: JSON written whole or not at all, lines flushed one by one, shards of activations, snapshots.

Nothing here executes what it reads: JSON and safetensors only, and file names follow fixed patterns.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from harness.errors import InterventionError, RecordingError
from harness.intervention.arrays import ArrayValue
from harness.recording.schema import SHARD_NAME, SHARD_STEPS, shard_name
from harness.rollout import Snapshot

__all__ = [
    "LineWriter", "ShardWriter", "list_shards", "open_tensors", "read_json", "read_lines", "read_snapshot",
    "write_json", "write_snapshot",
]

Array = npt.NDArray[Any]
_SHARD_BYTES = 64 << 20
_MAX_JSON = 256 << 20
_WORLD = "world"
_AGENT = "agent/"
_LISTED = 1024  # numbers that are written out; a random stream has at most 624


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file so that it is there whole or not at all, even after a crash."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """A JSON file's value.

    Raises:
        RecordingError: when it cannot be read or is no JSON.
    """
    try:
        if path.stat().st_size > _MAX_JSON:
            raise RecordingError(f"the file is larger than {_MAX_JSON >> 20} MB", where=str(path))
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise RecordingError(f"cannot read {path.name}: {problem}", where=str(path)) from problem


class LineWriter:
    """Appends JSON rows to a file, each on disk before the next (a killed run keeps them)."""

    def __init__(self, path: Path) -> None:
        self.n_rows = 0
        self._file = path.open("x", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row.

        Raises:
            OSError: when the file cannot grow.
        """
        self._file.write(json.dumps(row, separators=(",", ":"), allow_nan=False) + "\n")
        self._file.flush()
        self.n_rows += 1

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, up to the last whole one.

    Raises:
        RecordingError: for a row in the middle that is no JSON object.
    """
    if not path.exists():
        return
    if not path.is_file():
        raise RecordingError(f"{path.name} is no regular file", where=str(path))
    number = 0
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                number += 1
                if not line.endswith("\n"):
                    return  # cut off by a kill
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("expected an object")
                yield row
    except (OSError, ValueError, RecursionError) as problem:
        raise RecordingError(f"cannot read row: {problem}", where=f"{path}:{number}") from problem


class ShardWriter:
    """Collects one row per step of several arrays, and writes them as numbered shards.

    A shard appears under its name only when it is whole. The block it is gathered in is allocated once.

    Args:
        folder: Where the shards go; made with the first one.
        shard_steps: Rows per shard; fewer where a row is very large.
        dtypes: Array name to the dtype to store it in (else as it comes).
    """

    def __init__(self, folder: Path, shard_steps: int = SHARD_STEPS, dtypes: Mapping[str, str] | None = None) -> None:
        self.n_rows = 0
        self._folder, self._steps, self._dtypes = folder, shard_steps, dict(dtypes or {})
        self._block: dict[str, Array] = {}
        self._filled = 0

    def write(self, arrays: Mapping[str, Any]) -> None:
        """Append one row: array name to array-like, the same names and shapes every time.

        Raises:
            OSError: when a shard cannot be written.
            RecordingError: for other names or shapes than the first row's.
        """
        values = {name: np.asarray(value) for name, value in arrays.items()}
        if not self._block and values:
            self._allocate(values)
        if values.keys() != self._block.keys():
            raise RecordingError(f"expected activations {sorted(self._block)}, got {sorted(values)}")
        for name, value in values.items():
            block = self._block[name]
            if value.shape != block.shape[1:]:
                raise RecordingError(f'activation "{name}": expected shape {list(block.shape[1:])} as in the first '
                                     f"step, got {list(value.shape)}")
            block[self._filled] = value
        self._filled += 1
        if self._block and self._filled == len(next(iter(self._block.values()))):
            self.flush()

    def _allocate(self, values: Mapping[str, Array]) -> None:
        row = sum(value.nbytes for value in values.values())
        self._steps = max(1, min(self._steps, _SHARD_BYTES // max(row, 1)))
        self._block = {name: np.zeros((self._steps, *value.shape), self._dtypes.get(name, value.dtype))
                       for name, value in values.items()}
        self._folder.mkdir(exist_ok=True)

    def flush(self) -> None:
        """Write the rows gathered so far as a shard."""
        if not self._filled or not self._block:
            self._filled = 0
            return
        path = self._folder / shard_name(self.n_rows)
        _save({name: block[:self._filled] for name, block in self._block.items()}, {"start": str(self.n_rows)}, path)
        self.n_rows += self._filled
        self._filled = 0


def _save(tensors: dict[str, Array], metadata: dict[str, str], path: Path) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        # Not the library's own file writing: it hides the system's error number, and lets nobody else read the file.
        part.write_bytes(save(tensors, metadata=metadata))
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def list_shards(folder: Path) -> list[tuple[int, Path]]:
    """(first step, file) of every shard, in order. Files with other names are not looked at."""
    if not folder.is_dir():
        return []
    found = ((SHARD_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match and path.is_file())


def open_tensors(path: Path) -> Any:
    """An open safetensors file.

    Raises:
        RecordingError: when it is none, or is cut off.
    """
    try:
        return safe_open(str(path), framework="np")
    except (SafetensorError, OSError) as problem:
        raise RecordingError(f"cannot read {path.name}: {problem}", where=str(path)) from problem


def write_snapshot(folder: Path, snapshot: Snapshot) -> None:
    """Write a snapshot as one safetensors file: the world's bytes, the agent's arrays, the streams as JSON."""
    folder.mkdir(exist_ok=True)
    tensors = {f"{_AGENT}{name}": np.asarray(value, order="C") for name, value in snapshot.agent.items()}
    if snapshot.world is not None:
        tensors[_WORLD] = np.frombuffer(snapshot.world, np.uint8)
    metadata = {"index": str(snapshot.index), "streams": json.dumps(_untied(snapshot.streams)),
                "interventions": json.dumps(_untied(snapshot.interventions))}
    _save(tensors, metadata, folder / shard_name(snapshot.index))


def _untied(value: Any) -> Any:
    """Bit-generator states (Philox, MT19937) and interventions' notes may hold arrays: as lists, marked.

    Notes may be pictures or activations, which are packed.
    """
    if isinstance(value, np.ndarray) and value.size > _LISTED and str(value.dtype) in ("uint8", "float32", "int64"):
        return ArrayValue(value).describe()
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, np.generic):
        return value.item()
    return {k: _untied(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _tied(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"array", "dtype"}:
            return np.array(value["array"], dtype=value["dtype"])
        if value.keys() == {"dtype", "shape", "data"}:
            return ArrayValue.read(value).array
        return {k: _tied(v) for k, v in value.items()}
    return value


def read_snapshot(path: Path) -> Snapshot:
    """The snapshot in a file.

    Raises:
        RecordingError: when it cannot be read.
    """
    with open_tensors(path) as tensors:
        try:
            metadata = cast("dict[str, str]", tensors.metadata() or {})
            arrays = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 (not a mapping)
            world = arrays.pop(_WORLD, None)
            agent = {name.removeprefix(_AGENT): value for name, value in arrays.items()}
            return Snapshot(int(metadata["index"]), None if world is None else world.tobytes(), agent,
                            _tied(json.loads(metadata["streams"])),
                            _tied(json.loads(metadata.get("interventions", "{}"))))
        except (KeyError, ValueError, TypeError, SafetensorError, InterventionError) as problem:
            raise RecordingError(f"cannot read the snapshot: {problem}", where=str(path)) from problem
