"""The recorder: an observer that writes an episode to disk from one background thread.

The loop's thread only puts a step into a queue with a bound in bytes; encoding, waiting for a GPU, and writing happen
in the writer's thread. When the disk cannot keep up the loop waits, so memory stays bounded and no step is lost.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import re
import shutil
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent
from harness.errors import RecordingError
from harness.intervention.stack import Applied
from harness.recording import schema
from harness.recording.store import LineWriter, ShardWriter, write_json, write_snapshot
from harness.recording.video import FrameWriter, count_frames
from harness.rollout import Episode, EpisodeResult, Snapshot, Step

__all__ = ["Recorder", "estimate_activation_bytes", "step_row"]

_MIN_SNAPSHOT_EVERY = schema.SHARD_STEPS
"""Steps between snapshots where the budget allows. Taking one costs some 2 ms, playing a step again 10 or more."""


@dataclass(frozen=True)
class _Entry:
    """What the writer needs of a step; the agent's memory is left behind, it may be large."""

    row: dict[str, Any]
    pov: npt.NDArray[np.uint8]
    agent_pov: npt.NDArray[np.uint8]
    activations: Mapping[str, Any]
    snapshot: Snapshot | None
    applied: tuple[Applied, ...] = ()

    @property
    def nbytes(self) -> int:
        extra = self.agent_pov.nbytes if self.agent_pov is not self.pov else 0
        frozen = 0 if self.snapshot is None else _snapshot_bytes(self.snapshot)
        return self.pov.nbytes + extra + frozen + sum(_nbytes(v) for v in self.activations.values())


def _nbytes(value: Any) -> int:
    # Not by looking inside: an array on its way from a GPU would be waited for.
    known = getattr(value, "nbytes", None)
    return int(known) if known is not None else math.prod(value.shape) * int(value.dtype.itemsize)


def _snapshot_bytes(snapshot: Snapshot) -> int:
    return len(snapshot.world or b"") + sum(a.nbytes for a in snapshot.agent.values())


class _Queue:
    """First in, first out, bounded by bytes (one entry always fits)."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._entries: deque[_Entry] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, entry: _Entry) -> None:
        """Append; waits while the queue is full."""
        size = entry.nbytes
        with self._changed:
            while self._entries and self._held + size > self._limit and not self._closed:
                self._changed.wait(1.0)
            if not self._closed:
                self._entries.append(entry)
                self._held += size
                self._changed.notify_all()

    def get(self) -> _Entry | None:
        """The oldest entry; None when the queue was closed and is empty."""
        with self._changed:
            while not self._entries and not self._closed:
                # A time-out, so that a Ctrl-C between append and notify cannot leave the writer asleep.
                self._changed.wait(0.2)
            if not self._entries:
                return None
            entry = self._entries.popleft()
            self._held -= entry.nbytes
            self._changed.notify_all()
            return entry

    def close(self, *, drop: bool = False) -> None:
        """No more entries; what is queued is still handed out, unless dropped."""
        with self._changed:
            self._closed = True
            if drop:
                self._entries.clear()
            self._changed.notify_all()


class _Writer:
    """The files of one recording and the thread that writes them."""

    def __init__(self, path: Path, header: Mapping[str, Any], *, queue_bytes: int, second_stream: bool,
                 dtypes: Mapping[str, str]) -> None:
        self.path, self.rows = path, 0
        self.failure: BaseException | None = None
        import av  # noqa: F401  # here and not with the first step, which would have to wait a quarter of a second for it

        self._header = header
        self._second = second_stream
        self._queue = _Queue(queue_bytes)
        self._frames: FrameWriter | None = None
        self._agent_frames: FrameWriter | None = None
        self._steps, self._events = LineWriter(path / schema.STEPS), LineWriter(path / schema.EVENTS)
        self._shards = ShardWriter(path / schema.ACTIVATIONS, header["shard_steps"], dtypes)
        self._thread = threading.Thread(target=self._work, name="harness-recorder", daemon=True)
        self._thread.start()

    def put(self, entry: _Entry) -> None:
        self._queue.put(entry)

    def close(self) -> dict[str, Any]:
        """Wait until everything is written; the counts of what is there, and the files' sizes in bytes."""
        self._queue.close()
        self._thread.join()
        if self.failure is not None:
            # A row may have been written whose picture was not: what counts is what can be read.
            with contextlib.suppress(Exception):
                self.rows = min(self.rows, count_frames(self.path / schema.FRAMES))
        sizes = {name: (self.path / name).stat().st_size for name in schema.SIZED if (self.path / name).exists()}
        return {"rows": self.rows, "events": self._events.n_rows, "activation_rows": self._shards.n_rows,
                "bytes": sizes}

    def _work(self) -> None:
        try:
            while (entry := self._queue.get()) is not None:
                self._write(entry)
            self._shards.flush()
        except BaseException as problem:
            self.failure = problem
            self._queue.close(drop=True)
            with contextlib.suppress(Exception):
                self._shards.flush()
        finally:
            self._close_files()

    def _write(self, entry: _Entry) -> None:
        size, fps = entry.pov.shape[:2], self._header["fps"]
        if self._frames is None:
            self._frames = FrameWriter(self.path / schema.FRAMES, fps, (size[0], size[1]))
            if self._second:
                self._agent_frames = FrameWriter(self.path / schema.AGENT_FRAMES, fps, (size[0], size[1]))
        self._frames.write(entry.pov)
        if self._agent_frames is not None:
            self._agent_frames.write(entry.agent_pov)
        row = schema.plain(entry.row)
        self._steps.write(row)
        self.rows += 1
        for event in _events(row, entry):
            self._events.write(event)
        self._shards.write(entry.activations)
        if entry.snapshot is not None:
            write_snapshot(self.path / schema.SNAPSHOTS, entry.snapshot)

    def _close_files(self) -> None:
        for file in (self._frames, self._agent_frames, self._steps, self._events):
            if file is None:
                continue
            try:
                file.close()
            except Exception as problem:
                self.failure = self.failure or problem


def _events(row: Mapping[str, Any], entry: _Entry) -> list[dict[str, Any]]:
    """The world's events, and one for each intervention that applied in this step."""
    applied = [{"step": row["step"], **each.describe()} for each in entry.applied]
    return [*applied, *({"step": row["step"], **event} for event in row["events"])]


def step_row(step: Step, *, executes: bool = True) -> dict[str, Any]:
    """A step as a row of the table.

    Args:
        step: From the loop.
        executes: False for a world that plays no actions (a recorded video): ``executed`` is then None, and so is
            what only a played world knows (reward, pose, health).
    """
    output, info = step.output, step.info
    row = {
        "step": step.index, "chosen": output.action, "executed": step.executed if executes else None,
        "log_prob": output.log_prob, "entropy": output.entropy, "value": output.value, "tokens": output.tokens,
        "reward": step.reward, "terminated": step.terminated, "truncated": step.truncated,
        "events": info.get("events", []), "outcomes": info.get("outcomes", {}), "pose": info.get("pose"),
        "health": info.get("health"), "statistics": info.get("statistics", {}),
    }
    return row if executes else {**row, "reward": None, "pose": None, "health": None}


def estimate_activation_bytes(agent: Agent, hooks: Sequence[str], n_steps: int,
                              activation_dtype: str | None = None) -> int:
    """Bytes that the activations of an episode will take on disk.

    Args:
        agent: Tells the shapes.
        hooks: Resolved hook names.
        n_steps: Steps of the episode.
        activation_dtype: The recorder's ``activation_dtype``.
    """
    shapes = agent.hook_shapes()
    sizes = (shapes[name] for name in hooks if name in shapes)
    return n_steps * sum(int(np.prod(shape)) * _itemsize(activation_dtype or dtype) for shape, dtype in sizes)


def _itemsize(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


class Recorder:
    """Records episodes, each into a new folder ``<out>/<scenario>-<agent>-s<seed>[-fork<step>][-n]``.

    Use it in a ``with`` block and hand it to ``run_episode`` as an observer; ``path`` is the latest folder.

    Args:
        out: The folder of recordings; made when missing. Nothing in it is ever overwritten.
        activation_dtype: Store activations in this dtype ("float16" halves them); None keeps each hook's own.
        log_probs: Whether to store the log-probability of every action in every step (35 KB a step for VPT).
        queue_bytes: How much may wait for the writer before the loop has to.
        snapshot_bytes: What the snapshots of an episode may take; decides how many steps lie between two.
        columns: Called with each step; what it returns (JSON values) is added to the step's row, or takes the place
            of what is there.

    Raises:
        RecordingError: when the folder cannot be written, or the disk is full; then what was written stays readable.
    """

    def __init__(self, out: str | Path, *, activation_dtype: str | None = None, log_probs: bool = True,
                 queue_bytes: int = 128 << 20, snapshot_bytes: int = 128 << 20,
                 columns: Callable[[Step], Mapping[str, Any]] | None = None) -> None:
        if activation_dtype is not None and activation_dtype not in ("float16", "float32"):
            raise RecordingError(f'activation_dtype: expected "float16", "float32" or None, got {activation_dtype!r}')
        self.out = Path(out)
        self.paths: list[Path] = []
        self._dtype, self._log_probs = activation_dtype, log_probs
        self._queue_bytes, self._snapshot_bytes = queue_bytes, snapshot_bytes
        self._columns = columns
        self._writer: _Writer | None = None
        self._told = False

    @property
    def path(self) -> Path:
        """The folder of the latest recording.

        Raises:
            RecordingError: before the first episode.
        """
        if not self.paths:
            raise RecordingError("nothing has been recorded yet",
                                 hint="hand the recorder to run_episode(..., observers=[recorder])")
        return self.paths[-1]

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._writer is not None:  # the loop never got to its end
            self._finish({"status": "failed", "error": None if problem is None else repr(problem)}, tell=kind is None)

    def begin(self, episode: Episode) -> None:
        """Make the folder, write the header and the first snapshot."""
        if self._writer is not None:
            raise RecordingError("a recorder records one episode at a time", where=str(self.path))
        self._told = False
        first = episode.snapshot()
        self._every = _snapshot_every(_snapshot_bytes(first), episode.max_steps - episode.first_step,
                                      self._snapshot_bytes)
        self._executes = episode.world.capabilities.actions_matter
        self._max_steps = episode.max_steps
        header = schema.plain(schema.make_header(
            episode, fps=float(episode.world.metadata.get("render_fps", 20)), shard_steps=schema.SHARD_STEPS,
            snapshot_every=self._every))
        dtypes = dict.fromkeys(header["hooks"], self._dtype) if self._dtype else {}
        for name, dtype in dtypes.items():
            header["hooks"][name]["dtype"] = dtype
        name = f"{episode.world.scenario.name}-{episode.agent.name}-s{episode.seed}"
        if episode.origin is not None:
            name += f"-fork{episode.first_step}"
        try:
            folder = _new_folder(self.out, name)
            self.paths.append(folder)
            write_json(folder / schema.HEADER, header)
            write_snapshot(folder / schema.SNAPSHOTS, first)
            self._writer = _Writer(folder, header, queue_bytes=self._queue_bytes, dtypes=dtypes, second_stream=any(
                intervention.site == "input" for intervention in episode.interventions))
        except OSError as problem:
            raise _refusal(problem, self.out, 0) from problem
        except KeyboardInterrupt:
            self._forget()
            raise

    def _forget(self) -> None:
        """Take back a folder in which nothing has been recorded yet."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self.paths:
            shutil.rmtree(self.paths.pop(), ignore_errors=True)

    def on_step(self, step: Step) -> None:
        """Hand a step to the writer; waits only while the queue is full.

        Raises:
            RecordingError: when the writer has failed.
        """
        assert self._writer is not None, "begin comes first"
        self._tell()
        due = (step.index + 1) % self._every == 0 and step.index + 1 < self._max_steps
        activations = dict(step.output.activations)
        if self._log_probs:
            activations |= {f"log_probs.{head}": values for head, values in step.output.log_probs.items()}
        row = step_row(step, executes=self._executes)
        if self._columns is not None:
            row |= self._columns(step)
        self._writer.put(_Entry(
            row, step.observation["pov"], step.agent_observation["pov"],
            activations, step.snapshot() if due else None, step.applied))

    def end(self, result: EpisodeResult) -> None:
        """Write what is queued, then ``result.json``.

        Raises:
            RecordingError: when the writer failed and nobody was told yet.
        """
        self._finish({"status": result.status, "n_steps": result.n_steps, "outcomes": schema.plain(result.outcomes),
                      "seed": result.seed, "seconds": round(result.seconds, 3), "error": result.error}, tell=True)

    def _finish(self, result: dict[str, Any], *, tell: bool) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        counts = writer.close()
        failed = writer.failure is not None
        if failed:
            result |= {"status": "failed", "error": result.get("error") or _reason(writer.failure)}
        whole = not failed and result["status"] in ("terminated", "truncated")
        try:
            write_json(writer.path / schema.RESULT, {**result, **counts, "complete": whole})
        except OSError as problem:
            writer.failure = writer.failure or problem
        if tell and writer.failure is not None and not self._told:
            self._told = True
            raise _refusal(writer.failure, writer.path, counts["rows"]) from writer.failure

    def _tell(self) -> None:
        writer = self._writer
        if writer is not None and writer.failure is not None:
            self._told = True
            writer.close()
            raise _refusal(writer.failure, writer.path, writer.rows) from writer.failure


def _snapshot_every(size: int, n_steps: int, budget: int) -> int:
    return max(_MIN_SNAPSHOT_EVERY, -(-n_steps * size // max(budget, 1)))


def _new_folder(out: Path, name: str) -> Path:
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).lstrip(".")[:120] or "recording"
    out.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = out / (stem if number == 1 else f"{stem}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError


_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up",
         errno.EFBIG: "the file size limit is reached"}


def _reason(problem: BaseException | None) -> str:
    if isinstance(problem, OSError) and problem.errno is not None:
        return _FULL.get(problem.errno, problem.strerror or str(problem))
    return f"{problem}" or type(problem).__name__


def _refusal(problem: BaseException, path: Path, rows: int) -> RecordingError:
    if isinstance(problem, RecordingError):
        return problem
    written = f"; the first {rows} steps are readable" if rows else ""
    full = getattr(problem, "errno", None) in _FULL
    hint = "free some space there, or choose another folder" if full else "choose a folder that can be written"
    return RecordingError(f"cannot write the recording: {_reason(problem)}{written}", where=str(path),
                          hint=f"{hint} with --out")
