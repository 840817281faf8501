"""Results of a worker that cannot reach the output folder: they are sent, and recordings go to an object store.

    <out>/trials/<cell>/<seed>/result.json, steps.jsonl      on the machine that runs the command
    <url>/trials/<cell>/<seed>/recording/...                 in the store, where fsspec opens it

A trial is played in a folder of its worker's machine. Its recordings are put first, then its result is sent: where a
result is, its recordings are.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.batch.store import Store
from harness.errors import SuiteError

__all__ = ["Kept", "RecordingStore", "RemoteStore"]


@dataclass(frozen=True)
class Kept:
    """A finished trial on its way to the output folder.

    Attributes:
        cell: Its cell's folder.
        seed: Its seed.
        result: What ``result.json`` will say.
        steps: Place in the trial's folder to the lines of its ``steps.jsonl``.
    """

    cell: str
    seed: int
    result: Mapping[str, Any]
    steps: Mapping[str, list[str]]

    def put(self, store: Store) -> None:
        """Keep it, as if it had been played there.

        Raises:
            SuiteError: when it cannot be written.
        """
        played = store.open_trial(self.cell, self.seed)
        for place, lines in self.steps.items():
            store.write_steps(played, played / place, lines)
        store.finish(self.cell, self.seed, self.result, played)


class RecordingStore:
    """Recordings of a suite's trials under a URL; each file is put as a whole.

    Args:
        url: Such as ``s3://bucket/folder`` or ``file:///shared/folder``.

    Raises:
        SuiteError: for a URL that fsspec, with what is installed, cannot open.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        with self._told(url):
            import fsspec.core

            self._files, self._root = fsspec.core.url_to_fs(url)

    def mark(self) -> None:
        """Write a file that ``marked`` finds from every machine that reaches the same place."""
        with self._told(self.url):
            self._files.makedirs(self._root, exist_ok=True)
            self._files.pipe(f"{self._root}/.harness", b"recordings of a suite's trials\n")

    def marked(self) -> bool:
        """Whether ``mark`` was called, on whatever machine."""
        with self._told(self.url):
            return bool(self._files.exists(f"{self._root}/.harness"))

    def put(self, cell: str, seed: int, played: Path) -> None:
        """Put a trial's recordings, in place of those of an earlier try."""
        trial = f"trials/{cell}/{seed}"
        with self._told(f"{self.url}/{trial}"):
            if self._files.exists(f"{self._root}/{trial}"):
                self._files.rm(f"{self._root}/{trial}", recursive=True)
            for folder in (*played.glob("recording"), *played.glob("episode-*/recording")):
                for path in sorted(each for each in folder.rglob("*") if each.is_file()):
                    to = f"{self._root}/{trial}/{path.relative_to(played).as_posix()}"
                    self._files.makedirs(to.rpartition("/")[0], exist_ok=True)
                    self._files.put_file(str(path), to)

    @contextlib.contextmanager
    def _told(self, where: str) -> Iterator[None]:
        try:
            yield
        except Exception as problem:  # each kind of store has errors of its own
            words = f"{type(problem).__name__}: {problem}"
            raise SuiteError(f"cannot use this place for recordings: {words}", where=where,
                             hint="any URL that fsspec opens, on every node; s3:// needs  pip install s3fs"
                             ) from problem


class RemoteStore(Store):
    """A worker's, on its own machine.

    Args:
        root: A folder there.
        recordings: Where recordings go.
        send: Takes a finished trial to the output folder.
    """

    def __init__(self, root: Path, recordings: RecordingStore, send: Callable[[Kept], None]) -> None:
        super().__init__(root)
        self._recordings, self._send = recordings, send

    def finish(self, cell: str, seed: int, result: Mapping[str, Any], played: Path) -> None:
        """Put a trial's recordings, send its result, and take its folder away.

        Raises:
            SuiteError: when a recording cannot be put.
        """
        try:
            self._recordings.put(cell, seed, played)
            steps = {path.parent.relative_to(played).as_posix(): path.read_text(encoding="utf-8").splitlines()
                     for path in (*played.glob("steps.jsonl"), *played.glob("episode-*/steps.jsonl"))}
            self._send(Kept(cell, seed, dict(result), steps))
        finally:
            shutil.rmtree(played, ignore_errors=True)

    def give_up(self, cell: str, seed: int, *, keep: bool) -> None:
        """A trial has failed: put what was recorded of it where it is to be kept, and take its folder away."""
        for played in self.folder(cell).glob(f".{seed}.*.part"):
            if keep:
                self.settle(played)
                self._recordings.put(cell, seed, played)
            shutil.rmtree(played, ignore_errors=True)
