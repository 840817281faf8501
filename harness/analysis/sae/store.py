"""Activation stores: shards of activations on disk, with what the world knew at each step beside them.

A store is a folder: ``store.json`` (agent, hooks, episodes, and each finished shard with its size) and
``shard-00000.safetensors`` and so on. A shard holds some steps: per hook float32 [steps * tokens, d], tokens of a step
together, and per step ``episode``, ``step``, ``state`` [steps, variable] and the ``buttons`` and ``camera`` tokens that
were taken (-1: none). A shard is there whole or not at all, and ``store.json`` names only those that are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from harness.analysis.sae.tokens import Tokens
from harness.errors import StoreError, unknown_name
from harness.recording.store import write_json

__all__ = ["MANIFEST", "ActivationStore", "Columns", "StoreWriter", "StoredStep"]

MANIFEST = "store.json"
FORMAT = 1
SHARD_BYTES = 64 << 20
"""Activations in a shard, about."""
BUFFER_BYTES = 128 << 20
"""Activations that wait in memory while they are shuffled."""


@dataclass(frozen=True)
class StoredStep:
    """One step on its way into a store.

    Attributes:
        episode: Which of the store's episodes.
        step: Index in it.
        activations: Hook to what it had, without batch and time axes.
        state: State variables, one per name.
        tokens: The tokens taken, (buttons, camera); -1 where there are none.
    """

    episode: int
    step: int
    activations: Mapping[str, Any]
    state: Sequence[float]
    tokens: tuple[int, int] = (-1, -1)


@dataclass(frozen=True)
class Columns:
    """What a shard knows of its steps, each [n]; ``state`` is float32 [n, variable]."""

    episode: npt.NDArray[np.int32]
    step: npt.NDArray[np.int32]
    state: npt.NDArray[np.float32]
    buttons: npt.NDArray[np.int32]
    camera: npt.NDArray[np.int32]


_COLUMNS = tuple(field.name for field in fields(Columns))


class StoreWriter:
    """Writes a store, unit by unit: a unit is what is played together, and can be made again as it was.

    Args:
        folder: The store's.
        plan: What the store is of, JSON values: agent, episodes, variables. The same plan goes on with a store.
        hooks: Hook to its tokens.
        resume: Go on with what is in the folder.
        shard_bytes: Activations per shard, about.

    Raises:
        StoreError: when the folder holds a store and ``resume`` is not given, or holds another one.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any], hooks: Mapping[str, Tokens], *, resume: bool = False,
                 shard_bytes: int = SHARD_BYTES) -> None:
        self._folder, self._hooks, self._most = folder, dict(hooks), shard_bytes
        planned = {**json.loads(json.dumps(plan)), "format": FORMAT, "shard_bytes": shard_bytes,
                   "hooks": {name: {**asdict(each), "axes": list(each.axes), "shape": list(each.shape)}
                             for name, each in hooks.items()}}
        there = folder / MANIFEST
        self._shards: list[dict[str, Any]] = []
        self._units: list[int] = []
        if there.is_file():
            if not resume:
                raise StoreError("there is a store already", where=str(folder),
                                 hint="give --resume to go on with it, or another --out")
            old = _read_manifest(there)
            different = [key for key, value in planned.items() if old.get(key) != value]
            if different:
                raise StoreError(f"the store was begun with other {', '.join(different)}", where=str(folder),
                                 hint="give the command that began it, or another --out")
            self._shards, self._units = old["shards"], old["units"]
        elif resume and folder.is_dir() and any(folder.iterdir()):
            raise StoreError("there is no store to go on with", where=str(folder))
        self._plan = planned  # nothing is written before the first shard is there

    @property
    def n_steps(self) -> int:
        """Steps in finished shards."""
        return sum(int(shard["steps"]) for shard in self._shards)

    def finished(self, unit: int) -> bool:
        """Whether a unit is stored whole."""
        return unit in self._units

    def begin(self, unit: int) -> None:
        """A unit begins. Shards of it that are there are kept, and its steps up to them passed over."""
        self._unit, self._part = unit, 0
        self._there = {shard["part"] for shard in self._shards if shard["unit"] == unit}
        self._clear()

    def add(self, step: StoredStep) -> None:
        """A step of the unit.

        Raises:
            StoreError: for an activation of another shape than its hook has, or one that is not finite.
        """
        keep = self._part not in self._there
        for name, tokens in self._hooks.items():
            values = np.asarray(step.activations[name])
            if values.size != tokens.per_step * tokens.width:
                raise StoreError(f"{name} has the shape {list(values.shape)}, expected {tokens.per_step} x "
                                 f"{tokens.width} numbers a step", where=str(self._folder))
            if keep:
                self._values[name].append(tokens.split(values[None]))
            self._size += values.size * 4
        if keep:
            self._rows.append(step)
        if self._size >= self._most:
            self._flush()

    def end(self) -> None:
        """The unit is over."""
        if self._size:
            self._flush()
        self._units.append(self._unit)
        self._write(complete=False)

    def close(self) -> None:
        """Everything is there."""
        self._write(complete=True)

    def _clear(self) -> None:
        self._values: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in self._hooks}
        self._rows: list[StoredStep] = []
        self._size = 0

    def _flush(self) -> None:
        if self._part not in self._there:
            name = f"shard-{len(self._shards):05d}.safetensors"
            tensors: dict[str, npt.NDArray[Any]] = {
                "episode": np.array([row.episode for row in self._rows], np.int32),
                "step": np.array([row.step for row in self._rows], np.int32),
                "buttons": np.array([row.tokens[0] for row in self._rows], np.int32),
                "camera": np.array([row.tokens[1] for row in self._rows], np.int32),
                "state": np.array([row.state for row in self._rows], np.float32).reshape(len(self._rows), -1),
            }
            for hook, parts in self._values.items():
                tensors[f"hook.{hook}"] = values = np.concatenate(parts)
                _check_finite(values, hook, str(self._folder / name))
            self._folder.mkdir(parents=True, exist_ok=True)
            part = self._folder / f".{name}.part"
            save_file(tensors, part)
            size = part.stat().st_size
            part.replace(self._folder / name)
            self._shards.append({"file": name, "unit": self._unit, "part": self._part, "steps": len(self._rows),
                                 "bytes": size})
            self._write(complete=False)
        self._part += 1
        self._clear()

    def _write(self, *, complete: bool) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._folder / MANIFEST, {**self._plan, "complete": complete, "units": self._units,
                                             "shards": self._shards})


class ActivationStore:
    """A finished store. Reading takes one shard into memory at a time.

    Args:
        folder: With a ``store.json``.

    Attributes:
        hooks: Hook to its tokens.
        agent: Name, description and digest of who played or looked.
        episodes: A mapping each: ``scenario`` and ``seed``, or ``recording``, or ``video``.
        variables: Names of the state's columns.

    Raises:
        StoreError: for a store that is missing, damaged, of another format, unfinished, or cut short.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        manifest = _read_manifest(self.folder / MANIFEST)
        if not manifest["complete"]:
            raise StoreError("the store is not finished", where=str(folder),
                             hint="run the command that began it again, with --resume")
        self.hooks = {str(name): Tokens(tuple(each["axes"]), tuple(each["shape"]), each["width"], each["moved"])
                      for name, each in manifest["hooks"].items()}
        self.agent: Mapping[str, Any] = manifest["agent"]
        self.episodes: list[Mapping[str, Any]] = manifest["episodes"]
        self.variables: tuple[str, ...] = tuple(manifest["variables"])
        self._shards = manifest["shards"]
        for shard in self._shards:
            path = self._path(shard)
            if not path.is_file() or path.stat().st_size != shard["bytes"]:
                there = f"has {path.stat().st_size} bytes" if path.is_file() else "is missing"
                raise StoreError(f"the store is cut short: {shard['file']} {there}, expected {shard['bytes']}",
                                 where=str(path), hint="copy it again, or collect it anew")

    @property
    def n_steps(self) -> int:
        """In all shards."""
        return sum(int(shard["steps"]) for shard in self._shards)

    @property
    def n_shards(self) -> int:
        """How many there are."""
        return len(self._shards)

    def n_tokens(self, hook: str) -> int:
        """Tokens of a hook."""
        return self.n_steps * self.tokens(hook).per_step

    def tokens(self, hook: str) -> Tokens:
        """The tokens of a hook.

        Raises:
            StoreError: when the store does not hold it, with the nearest names.
        """
        if hook not in self.hooks:
            raise unknown_name("hook of the store", hook, self.hooks, where=str(self.folder), error=StoreError)
        return self.hooks[hook]

    def columns(self, shard: int) -> Columns:
        """What a shard knows of its steps."""
        found = self._read(shard, _COLUMNS)
        return Columns(**found)

    def values(self, shard: int, hook: str) -> npt.NDArray[np.float32]:
        """Activations of a shard, float32 [steps * tokens, d].

        Raises:
            StoreError: for a shard that cannot be read, or holds NaN or infinities.
        """
        tokens, name = self.tokens(hook), f"hook.{hook}"
        values = self._read(shard, [name])[name]
        if values.shape != (self._shards[shard]["steps"] * tokens.per_step, tokens.width):
            raise StoreError(f"{hook} has the shape {list(values.shape)} there, store.json says "
                             f"{self._shards[shard]['steps']} steps of {tokens.per_step} x {tokens.width}",
                             where=str(self._path(self._shards[shard])))
        _check_finite(values, hook, str(self._path(self._shards[shard])))
        return values

    def split(self, held_out: float = 0.1, seed: int = 0) -> tuple[list[int], list[int]]:
        """Episodes for training and episodes held out: numbers of ``episodes``.

        Those of one scenario and seed begin in the same world and stay together.

        Args:
            held_out: Share of worlds to hold out; at least one.
            seed: Of the draw.

        Raises:
            StoreError: for a store of a single world, or a share that is not between 0 and 1.
        """
        if not 0 < held_out < 1:
            raise StoreError(f"held out: expected a share between 0 and 1, got {held_out}")
        worlds: dict[str, list[int]] = {}
        for number, episode in enumerate(self.episodes):
            world = {key: episode[key] for key in ("scenario", "seed") if key in episode} or dict(episode)
            worlds.setdefault(json.dumps(world, sort_keys=True), []).append(number)
        if len(worlds) < 2:
            raise StoreError("the store is of one episode, so none can be held out", where=str(self.folder),
                             hint="collect more: harness sae collect ... --episodes 50")
        names = sorted(worlds)
        order = np.random.default_rng(seed).permutation(len(names))
        n = min(max(1, round(held_out * len(names))), len(names) - 1)
        test = sorted(e for i in order[:n] for e in worlds[names[i]])
        return [e for e in range(len(self.episodes)) if e not in set(test)], test

    def rows(self, hooks: Sequence[str], episodes: Sequence[int] | None = None, order: Sequence[int] | None = None
             ) -> Iterator[tuple[Columns, dict[str, npt.NDArray[np.float32]]]]:
        """Shard by shard: columns and activations (hook to [steps * tokens, d]) of the steps of some episodes."""
        for shard in range(self.n_shards) if order is None else order:
            columns = self.columns(shard)
            chosen = np.ones(len(columns.step), bool) if episodes is None else np.isin(columns.episode, episodes)
            if not chosen.any():
                continue
            values = {hook: self.values(shard, hook) for hook in hooks}
            if not chosen.all():
                columns = Columns(**{name: getattr(columns, name)[chosen] for name in _COLUMNS})
                values = {hook: x[np.repeat(chosen, self.hooks[hook].per_step)] for hook, x in values.items()}
            yield columns, values

    def batches(self, hooks: Sequence[str], size: int, *, episodes: Sequence[int] | None = None, seed: int = 0,
                epochs: float = 1.0, buffer_bytes: int = BUFFER_BYTES) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """Batches in random order, of several hooks from one pass over the shards.

        Shards come in a random order, and each hook's tokens pass through a buffer from which batches are drawn without
        replacement: what comes together was up to a buffer apart. The order depends on the arguments alone. Tokens that
        fill no batch at the end of an epoch open the next one.

        Args:
            hooks: Names.
            size: Tokens per batch.
            episodes: Only of these; None for all.
            seed: Of the order.
            epochs: Passes over the store; a broken number ends within one.
            buffer_bytes: Of all hooks together.

        Yields:
            Hook, and its next batch, float32 [size, d].
        """
        rng = np.random.default_rng(seed)
        share = buffer_bytes // max(len(hooks), 1)
        pools = {hook: _Pool(size, max(2 * size, share // (4 * self.tokens(hook).width)), rng) for hook in hooks}
        whole, part = divmod(epochs, 1)
        for epoch in range(int(whole) + (part > 0)):
            order = rng.permutation(self.n_shards).tolist()
            if epoch == whole:
                order = order[:max(1, round(part * len(order)))]
            for _, values in self.rows(hooks, episodes, order):
                for hook in hooks:
                    yield from ((hook, batch) for batch in pools[hook].add(values[hook]))
            for hook in hooks:
                yield from ((hook, batch) for batch in pools[hook].drain())

    def _path(self, shard: Mapping[str, Any]) -> Path:
        return self.folder / Path(str(shard["file"])).name

    def _read(self, shard: int, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        path = self._path(self._shards[shard])
        try:
            with safe_open(path, framework="np") as file:
                return {name: file.get_tensor(name) for name in names}
        except (OSError, SafetensorError, ValueError) as problem:
            raise StoreError(f"the shard cannot be read: {problem}", where=str(path),
                             hint="copy it again, or collect it anew") from problem


class _Pool:
    """Tokens of one hook waiting to be drawn: half of it is kept whenever it is full, so that neighbours part."""

    def __init__(self, size: int, most: int, rng: np.random.Generator) -> None:
        self._size, self._most, self._rng = size, most, rng
        self._waiting: list[npt.NDArray[np.float32]] = []
        self._n = 0

    def add(self, values: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
        self._waiting.append(values)
        self._n += len(values)
        if self._n >= self._most:
            yield from self._draw(self._most // 2)

    def drain(self) -> Iterator[npt.NDArray[np.float32]]:
        yield from self._draw(0)

    def _draw(self, keep: int) -> Iterator[npt.NDArray[np.float32]]:
        if self._n < self._size:
            return
        pool = np.concatenate(self._waiting)
        pool = pool[self._rng.permutation(len(pool))]
        n = (len(pool) - keep) // self._size
        for i in range(n):
            yield pool[i * self._size:(i + 1) * self._size]
        self._waiting, self._n = [pool[n * self._size:]], len(pool) - n * self._size


def _check_finite(values: npt.NDArray[np.float32], hook: str, where: str) -> None:
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).any(-1).sum())
        raise StoreError(f"{hook} holds NaN or infinities in {bad} of {len(values)} tokens", where=where,
                         hint="look for an edit, a goal or a precision that leaves the finite numbers")


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise StoreError("there is no activation store here: store.json is missing", where=str(path.parent),
                         hint="harness sae collect makes one")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in ("format", "hooks", "agent", "episodes", "variables", "shards", "units", "complete")
                   if key not in manifest]
    except (OSError, ValueError, TypeError) as problem:
        raise StoreError(f"the store cannot be read: {problem}", where=str(path)) from problem
    if missing or manifest["format"] != FORMAT:
        raise StoreError(f"store of format {manifest.get('format')}, expected {FORMAT}"
                         + (f"; {', '.join(missing)} missing" if missing else ""), where=str(path))
    return dict(manifest)
