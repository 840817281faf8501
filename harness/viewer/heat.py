"""Heat maps that are laid over a recording's pictures, one per step, as the page gets them: eight bits a cell."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from harness.errors import HarnessError
from harness.provenance import digest
from harness.recording.recording import Recording

__all__ = ["HasHeat", "HeatLayer", "check_provenance", "heat_layers", "read_result"]

Array = npt.NDArray[Any]
_MAPS = {"maps", "heat"}
_CELLS = 128, 160
"""Rows and columns of a map at most; what agents see is not larger, and the page draws smoothly between cells."""


@runtime_checkable
class HasHeat(Protocol):
    """A result that can be drawn over pictures, such as saliency.

    One that also has ``methods``, a sequence of names, is asked ``heat(step, method=name)`` for each.
    """

    provenance: Mapping[str, Any]

    def heat(self, step: int) -> Array | None:
        """The map float [y, x] over the whole picture ``recording.pov[step]``; None where there is none."""


@dataclass(frozen=True)
class HeatLayer:
    """Heat maps of one name.

    Attributes:
        title: What the page calls it.
        steps: int64 [n]: which of the recorded steps have a map, rising.
        codes: int8 [n, y, x]: -127 to 127, of ``top``; at most 128 x 160 cells.
        top: The value that 127 stands for, almost the largest; larger ones are drawn like it.
    """

    title: str
    steps: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int8]
    top: float

    @classmethod
    def of(cls, title: str, maps: Array, steps: Sequence[int] | Array | None = None) -> HeatLayer:
        """A layer of maps.

        Args:
            title: What the page calls it.
            maps: float [n, y, x] over the whole picture, negative where something speaks against.
            steps: Which of the recorded steps they are of; None for 0 to n - 1.

        Raises:
            HarnessError: for other shapes, numbers that are not finite, or steps that do not rise.
        """
        numbers = np.arange(len(maps)) if steps is None else np.asarray(steps)
        if maps.ndim != 3 or not maps.size:
            raise HarnessError(f"{title}: expected heat maps [t, y, x], got an array {list(maps.shape)}")
        if numbers.dtype.kind not in "iu" or numbers.shape != (len(maps),) or (np.diff(numbers) <= 0).any():
            raise HarnessError(f"{title}: expected the step of each of the {len(maps)} maps, as rising whole numbers")
        if not all(np.isfinite(each).all() for each in maps):
            raise HarnessError(f"{title}: the maps hold numbers that are not finite")
        maps = np.stack([_shrunk(each) for each in maps])
        # Almost the largest, so that a single cell does not dim all the others; of a sample where there are many.
        sample = np.abs(maps.reshape(-1)[::max(1, maps.size >> 22)])
        top = float(np.quantile(sample, 0.999)) or float(sample.max()) or 1.0
        codes = np.empty(maps.shape, np.int8)
        for made, given in zip(codes, maps, strict=True):
            made[:] = np.clip(np.rint(given / top * 127), -127, 127)
        return cls(title, numbers.astype(np.int64), codes, top)


def _shrunk(made: Array) -> npt.NDArray[np.float32]:
    """A map [y, x] of at most ``_CELLS``, by means over areas."""
    for axis, most in enumerate(_CELLS):
        n = made.shape[axis]
        if n > most:
            edges = np.arange(most) * n // most
            sums = np.add.reduceat(made, edges, axis=axis)
            counts = np.diff(edges, append=n)
            made = sums / (counts[:, None] if axis == 0 else counts)
    return np.asarray(made, np.float32)


def heat_layers(result: HasHeat, recording: Recording) -> list[HeatLayer]:
    """The maps of a result, a layer for each of its methods where it has several.

    Raises:
        HarnessError: when it has no map at all.
    """
    title = str(result.provenance.get("analysis", type(result).__name__))
    layers = []
    for method in getattr(result, "methods", (None,)):
        said = {} if method is None else {"method": method}
        found = {step: _shrunk(made) for step in range(len(recording))
                 if (made := result.heat(step, **said)) is not None}
        if found:
            name = title if method is None else f"{title}: {method}"
            layers.append(HeatLayer.of(name, np.stack(list(found.values())), list(found)))
    if not layers:
        raise HarnessError(f"{title}: the result has no heat map for any step of {recording.path.name}")
    return layers


def read_result(path: Path, recordings: Sequence[Recording]) -> tuple[list[HeatLayer], dict[str, Any] | None]:
    """What ``harness analyse --out`` wrote: the heat maps of an .npz, or the tables of a .json.

    Args:
        path: The file.
        recordings: What is viewed; a table that says which recording it is of must be of one of these.

    Returns:
        Heat layers: of the array ``maps`` or ``heat`` [t, y, x], or one for each first index of [method, t, y, x]
        (``steps`` says which steps, if it is there, and where ``episodes`` says of which recording, the first's are
        taken); and what ``tables`` of ``export_page`` takes.

    Raises:
        HarnessError: for another kind of file, one that cannot be read, or one of another recording.
    """
    try:
        if path.suffix.lower() == ".json":
            return [], _tables(json.loads(path.read_text(encoding="utf-8")), path, recordings)
        if path.suffix.lower() == ".npz":
            return _layers(path, len(recordings[0])), None
    except (OSError, ValueError, RecursionError, zipfile.BadZipFile) as problem:
        raise HarnessError(f"cannot read the result: {problem}", where=str(path)) from problem
    raise HarnessError(f"expected a result ending in .npz or .json, got {path.name}", where=str(path),
                       hint="harness analyse RECORDING ANALYSIS --out FILE.npz")


def _tables(value: Any, path: Path, recordings: Sequence[Recording]) -> dict[str, Any]:
    tables = value.get("tables") if isinstance(value, dict) else None
    if not isinstance(tables, list) or not all(
            isinstance(t, dict) and isinstance(t.get("columns"), list) and isinstance(t.get("rows"), list)
            and all(isinstance(row, list) for row in t["rows"]) for t in tables):
        raise HarnessError("expected the tables of an analysis", where=str(path),
                           hint="harness analyse RECORDING ANALYSIS --out FILE.json")
    provenance = value.get("provenance")
    check_provenance(provenance if isinstance(provenance, dict) else {}, recordings, str(path))
    return {"title": str((provenance or {}).get("analysis", path.stem)), "tables": tables}


def check_provenance(provenance: Mapping[str, Any], recordings: Sequence[Recording], where: str | None = None
                     ) -> Recording:
    """The recording that a result is of.

    Raises:
        HarnessError: when it is none of these.
    """
    said = provenance.get("header_digest")
    for recording in recordings:
        if said is None or said == digest(recording.header):
            return recording
    raise HarnessError(f"the result is of the recording {provenance.get('recording')}, not of "
                       f"{' or '.join(r.path.name for r in recordings)}", where=where)


def _layers(path: Path, n_steps: int) -> list[HeatLayer]:
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    found: dict[str, Array] = {}
    for name in arrays.keys() & _MAPS:
        if arrays[name].ndim == 4:
            found |= {f"{name} {number}": part for number, part in enumerate(arrays[name])}
        else:
            found[name] = arrays[name]
    if not found:
        held = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()) or "nothing"
        raise HarnessError("the result holds no heat maps: no array named maps or heat", where=str(path),
                           hint=f"it holds {held}; to see tables give the .json file")
    steps, episodes = arrays.get("steps"), arrays.get("episodes")
    mine = slice(None) if steps is None or episodes is None or steps.shape != episodes.shape else episodes == 0
    layers = [HeatLayer.of(path.stem if len(found) == 1 else f"{path.stem}: {name}", maps[mine],
                           None if steps is None else steps[mine]) for name, maps in found.items()]
    for layer in layers:
        if layer.steps[-1] >= n_steps or layer.steps[0] < 0:
            raise HarnessError(f"{layer.title} has maps of the steps {layer.steps[0]} to {layer.steps[-1]}, the "
                               f"recording has {n_steps} steps", where=str(path), hint="is it of another recording?")
    return layers
