"""Reading a recording: lazy, bounded in memory, and honest about what is missing."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError

from harness.errors import RecordingError, unknown_name
from harness.provenance import digest
from harness.recording import schema
from harness.recording.store import list_shards, open_tensors, read_json, read_lines, read_snapshot
from harness.recording.video import FrameSequence, count_frames
from harness.rollout import Snapshot
from harness.world.observation import POV_SHAPE

__all__ = ["ActivationSeries", "Activations", "Recording", "Snapshots", "StepTable", "open_recording"]

Array = npt.NDArray[Any]
_OPEN_SHARDS = 16


class StepTable(Sequence[dict[str, Any]]):
    """One row per step. ``steps[3]`` is a row; ``steps["log_prob"]`` a column; ``steps["pose.yaw"]`` reaches inside."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._rows[0]) if self._rows else []

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice) -> list[dict[str, Any]]: ...
    @overload
    def __getitem__(self, key: str) -> Array: ...
    def __getitem__(self, key: int | slice | str) -> Any:
        return self.column(key) if isinstance(key, str) else self._rows[key]

    def column(self, name: str) -> Array:
        """A column as an array [t]: numbers as numbers (None as NaN), anything else as objects.

        Raises:
            RecordingError: for a column that is not there.
        """
        values = [self._value(row, name) for row in self._rows]
        if values and all(isinstance(v, bool) for v in values):
            return np.array(values, dtype=bool)
        if values and all(isinstance(v, int) and not isinstance(v, bool) for v in values):
            return np.array(values, dtype=np.int64)
        if all(v is None or isinstance(v, int | float) for v in values):
            return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
        column = np.empty(len(values), dtype=object)
        column[:] = values
        return column

    def _value(self, row: dict[str, Any], name: str) -> Any:
        if name in row:
            return row[name]
        head, _, rest = name.partition(".")
        if head not in row or not rest:
            raise unknown_name("column", name, self.columns, error=RecordingError)
        value = row[head]
        # Statistics carry dots in their names, so the rest is tried whole before it is taken apart.
        while isinstance(value, Mapping) and rest:
            if rest in value:
                return value[rest]
            step, _, rest = rest.partition(".")
            value = value.get(step)
        return None if rest else value


class ActivationSeries:
    """One hook over the steps, [t, ...], read from shards when it is sliced.

    Attributes:
        name: Hook name.
        shape: (steps, ...); may have fewer steps than the recording when the run was killed.
        dtype: As stored.
    """

    def __init__(self, name: str, shards: _Shards, n_rows: int) -> None:
        self.name, self._shards = name, shards
        row, self.dtype = shards.layout(name)
        self.shape: tuple[int, ...] = (n_rows, *row)

    @property
    def ndim(self) -> int:
        """Number of axes, time included."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{self.name} {self.dtype} {list(self.shape)}>"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        whole: Array = self[:]
        return whole if dtype is None else whole.astype(dtype)

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, ())
        if first is Ellipsis:
            first, rest = slice(None), (Ellipsis, *rest)
        if isinstance(first, slice):
            start, stop, stride = first.indices(len(self))
            numbers = range(start, stop, stride)
            if stride == 1:
                return self._between(start, max(start, stop))[(slice(None), *rest)]
        elif isinstance(first, int | np.integer):
            row = range(len(self))[int(first)]
            return self._between(row, row + 1)[(0, *rest)]
        else:
            chosen = np.asarray(first)
            if chosen.dtype == bool:
                chosen = np.flatnonzero(chosen)
            numbers = [range(len(self))[int(i)] for i in chosen.reshape(-1)]  # type: ignore[assignment]
        rows = [self._between(i, i + 1) for i in numbers]
        out = np.concatenate(rows) if rows else np.empty((0, *self.shape[1:]), self.dtype)
        return out[(slice(None), *rest)]

    def _between(self, start: int, stop: int) -> Array:
        out = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for first, n_rows, path in self._shards.table:
            low, high = max(start, first), min(stop, first + n_rows)
            if low < high:
                out[low - start:high - start] = self._shards.read(path, self.name, low - first, high - first)
        return out


class _Shards:
    """The shards of a folder: which steps each holds, checked to follow one another."""

    def __init__(self, folder: Path) -> None:
        self._open: OrderedDict[Path, Any] = OrderedDict()
        self._layouts: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self.table: list[tuple[int, int, Path]] = []
        expected = 0
        for start, path in list_shards(folder):
            if start != expected:
                raise RecordingError(f"the activations of steps {expected} to {start - 1} are missing",
                                     where=str(path), hint="a shard was removed, or renamed")
            n_rows = self._check(path)
            self.table.append((start, n_rows, path))
            expected += n_rows
        self.n_rows = expected

    def _check(self, path: Path) -> int:
        tensors = self._file(path)
        shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
        rows = {shape[0] for shape in shapes.values() if shape}
        if len(rows) != 1 or not all(shapes.values()):
            raise RecordingError(f"{path.name}: the arrays of a shard must have one length", where=str(path))
        if not self._layouts:
            self._layouts = {name: (shape[1:], self._dtype(path, name)) for name, shape in shapes.items()}
        found = {name: shape[1:] for name, shape in shapes.items()}
        if found != {name: layout[0] for name, layout in self._layouts.items()}:
            raise RecordingError(f"{path.name} holds other arrays than the first shard", where=str(path))
        return int(rows.pop())

    def _dtype(self, path: Path, name: str) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.read(path, name, 0, 0).dtype
        return dtype

    def _file(self, path: Path) -> Any:
        if path in self._open:
            self._open.move_to_end(path)
        else:
            self._open[path] = open_tensors(path)
            if len(self._open) > _OPEN_SHARDS:
                self._open.popitem(last=False)
        return self._open[path]

    def read(self, path: Path, name: str, start: int, stop: int) -> Array:
        try:
            part: Array = self._file(path).get_slice(name)[start:stop]
        except (SafetensorError, ValueError, TypeError) as problem:
            raise RecordingError(f'cannot read "{name}": {problem}', where=str(path)) from problem
        return part

    def names(self) -> list[str]:
        return list(self._layouts)

    def layout(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        return self._layouts[name]


class Activations(Mapping[str, ActivationSeries]):
    """Hook name to its series. ``log_probs.*`` hold the log-probabilities of every action, where recorded."""

    def __init__(self, folder: Path, hooks: Sequence[str], n_rows: int) -> None:
        self._shards = _Shards(folder)
        self._n = min(n_rows, self._shards.n_rows)
        stored = self._shards.names()
        self._names = [*(h for h in hooks if h in stored), *sorted(n for n in stored if n not in hooks)]

    @property
    def n_steps(self) -> int:
        """Steps for which activations are there."""
        return self._n

    def __getitem__(self, name: str) -> ActivationSeries:
        if name not in self._names:
            raise unknown_name("recorded activation", name, self._names, error=RecordingError)
        return ActivationSeries(name, self._shards, self._n)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Snapshots(Mapping[int, Snapshot]):
    """Step to the snapshot taken at its start, read when asked for."""

    def __init__(self, folder: Path) -> None:
        self._files = dict(list_shards(folder))

    def __getitem__(self, step: int) -> Snapshot:
        if step not in self._files:
            raise RecordingError(f"there is no snapshot at step {step}",
                                 hint=f"there are snapshots at {', '.join(map(str, self._files)) or '(none)'}")
        return read_snapshot(self._files[step])

    def __contains__(self, step: object) -> bool:
        return step in self._files

    def __iter__(self) -> Iterator[int]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


class Recording:
    """One recorded episode. ``len(recording)`` counts the steps that have both a frame and a row.

    A fork's recording begins in the middle: ``steps[i]``, ``pov[i]`` and ``activations[name][i]`` are those of step
    ``first_step + i``.

    Attributes:
        path: Its folder.
        header: What was known before the first step.
        result: How it ended, None when the run was killed (or is still going on).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = schema.check_header(read_json(path / schema.HEADER), str(path / schema.HEADER))
        self.result: dict[str, Any] | None = None
        if (path / schema.RESULT).exists():
            self.result = read_json(path / schema.RESULT)
            if not isinstance(self.result, dict):
                raise RecordingError("expected an object", where=str(path / schema.RESULT))

    @property
    def complete(self) -> bool:
        """Whether the episode was played to its end and all of it was written, and is still there."""
        return bool(self.result is not None and self.result.get("complete") is True) and self.damage is None

    @functools.cached_property
    def damage(self) -> str | None:
        """What has happened to the files since the recording was closed: None, or one is gone or has another size."""
        written = (self.result or {}).get("bytes")
        for name, size in written.items() if isinstance(written, dict) else ():
            path = self.path / str(name)
            if name not in schema.SIZED or not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes, {size} were written"
        return None

    @property
    def status(self) -> str:
        """"terminated", "truncated", "interrupted", "failed", or "unfinished" (killed, or still being written)."""
        return "unfinished" if self.result is None else str(self.result.get("status", "failed"))

    @property
    def seed(self) -> int:
        """The episode's seed."""
        return int(self.header["seed"])

    @functools.cached_property
    def id(self) -> str:
        """Sixteen hex digits that tell this recording from others, wherever its folder lies: a digest of its header."""
        return digest(schema.plain(self.header))[:16]

    @property
    def first_step(self) -> int:
        """The first recorded step: 0, or where a fork took up another recording."""
        return int(self.header.get("first_step", 0))

    @property
    def fps(self) -> float:
        """Steps per second of game time."""
        return float(self.header["fps"])

    @property
    def agent_description(self) -> str:
        """The agent's name and what it is, such as "vpt-nano, random weights (seed 0)"."""
        agent = self.header["agent"]
        goal = agent.get("goal")
        told = f'told "{goal["words"]}"' if isinstance(goal, dict) and goal.get("words") else None
        return ", ".join(str(part) for part in (agent.get("name"), told, agent.get("description")) if part)

    @property
    def guidance_rows(self) -> tuple[str, ...]:
        """The rows that a guided agent computed every step in, ``("cond", "uncond")``; empty without guidance.

        Each has activations of its own, named with the row in front: ``cond.blocks.0.attn.hook_pattern``.
        """
        rows = self.header["agent"].get("rows")
        return tuple(str(row) for row in rows) if isinstance(rows, list) else ()

    @functools.cached_property
    def _rows(self) -> list[dict[str, Any]]:
        rows = list(read_lines(self.path / schema.STEPS))
        for line, row in enumerate(rows, 1):
            number = self.first_step + line - 1
            if row.get("step") != number:
                raise RecordingError(f"expected step {number}, got {row.get('step')!r}",
                                     where=f"{self.path / schema.STEPS}:{line}",
                                     hint="rows were removed, or changed")
        return rows

    @functools.cached_property
    def _n(self) -> int:
        if self.complete and self.result is not None and self.result.get("rows") == len(self._rows):
            return len(self._rows)  # the files are as they were closed; counting the pictures would read gigabytes
        videos = [self.path / schema.FRAMES, *([self._second] if self._second.exists() else [])]
        return min(len(self._rows), *(count_frames(v) if v.is_file() else 0 for v in videos))

    @property
    def _second(self) -> Path:
        return self.path / schema.AGENT_FRAMES

    def __len__(self) -> int:
        return self._n

    def __repr__(self) -> str:
        return f"<Recording {self.path.name}: {self.summary}>"

    @property
    def summary(self) -> str:
        """One line: how it ended and what is there."""
        n = len(self)
        text = f"{self.status}, {n} steps"
        if self.result is None:
            text = f"unfinished (killed, or still being written), {n} steps readable"
        elif self.result.get("error"):
            text += f" ({self.result['error']})"
        if self.first_step:
            text += f", from step {self.first_step} on"
        if self.damage is not None:
            text += f"; damaged: {self.damage}"
        if self.hooks and self.activations.n_steps < n:
            text += f", activations of the first {self.activations.n_steps}"
        return text

    @functools.cached_property
    def steps(self) -> StepTable:
        """The step table."""
        return StepTable(self._rows[:len(self)])

    @functools.cached_property
    def events(self) -> list[dict[str, Any]]:
        """What happened, each with its ``step``: the world's events, and interventions that changed something."""
        found, steps = read_lines(self.path / schema.EVENTS), range(self.first_step, self.first_step + len(self))
        return [event for event in found if isinstance(event.get("step"), int) and event["step"] in steps]

    @functools.cached_property
    def pov(self) -> FrameSequence:
        """The world's pictures, uint8 [360, 640, 3] each, before any intervention."""
        return FrameSequence(self.path / schema.FRAMES, len(self), self.fps, POV_SHAPE[:2])

    @functools.cached_property
    def agent_pov(self) -> FrameSequence:
        """The agent's pictures, after input interventions; the world's where none ran."""
        if not self._second.exists():
            return self.pov
        return FrameSequence(self._second, len(self), self.fps, POV_SHAPE[:2])

    @property
    def interventions(self) -> list[str]:
        """What ran, in order: the name that the scenario gave it, or else its kind."""
        return [str(each.get("name") or each.get("kind")) for each in self.header["interventions"]
                if isinstance(each, dict)]

    @property
    def hooks(self) -> list[str]:
        """Names of the traced hooks."""
        return list(self.header["hooks"])

    @functools.cached_property
    def activations(self) -> Activations:
        """Hook name to its activations over the steps."""
        return Activations(self.path / schema.ACTIVATIONS, self.hooks, len(self))

    @functools.cached_property
    def snapshots(self) -> Snapshots:
        """Step to the snapshot of world, agent and random streams at its start."""
        return Snapshots(self.path / schema.SNAPSHOTS)

    def close(self) -> None:
        """Let go of the files; reading opens them again."""
        for name in ("pov", "agent_pov"):
            if name in self.__dict__:
                self.__dict__[name].close()
        self.__dict__.pop("activations", None)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def open_recording(path: str | Path) -> Recording:
    """Open a recording's folder. Nothing but the header is read until it is asked for.

    Raises:
        RecordingError: when there is none, or it cannot be read.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise RecordingError(f"there is no recording at {folder}", where=str(path),
                             hint="a recording is the folder that `harness run` names at its end")
    if not (folder / schema.HEADER).is_file():
        raise RecordingError(f"{folder} is no recording: it has no {schema.HEADER}", where=str(path),
                             hint="give the folder of one episode, not the folder of all recordings")
    return Recording(folder)
