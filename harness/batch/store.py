"""Trials on disk: one folder each, there as a whole or not at all.

    <root>/.lock                                    held while a run writes here
    <root>/suite.json                               what was asked
    <root>/trials/<cell>/cell.json                  what the cell's results are of
    <root>/trials/<cell>/<seed>/result.json         the truth
    <root>/trials/<cell>/<seed>/steps.jsonl         a line per step (of several episodes: episode-<k>/steps.jsonl)
    <root>/trials/<cell>/<seed>/recording/          where it is kept (episode-<k>/recording/)
    <root>/trials/<cell>/.<seed>.<process>.part/    a trial that is being played

A trial is played in a folder of its own, and that is renamed when its result is in it. What a kill leaves behind is
swept away by the next run. Files are handed to the disk (fsync) before the rename; a result that cannot be read, as
after a power cut, counts as none, and is played again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.batch.labels import label_text
from harness.batch.suite import Cell
from harness.errors import SuiteError
from harness.intervention.intervention import Intervention
from harness.provenance import collect_provenance, digest
from harness.recording.schema import plain

__all__ = ["FORMAT", "Store", "cell_id", "cell_key", "disk_full"]

FORMAT = 2
THREADS = 1
"""Of a worker's arithmetic."""
_SILENT = {"description", "parameters", "hooks", "interventions", "agent"}
"""Of a scenario: what cannot change a trial. The values of parameters are filled in elsewhere."""
_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up",
         errno.EFBIG: "the file size limit is reached"}
_GOES_ON = "what is finished is kept; the same command goes on"


def cell_key(cell: Cell, agent: Mapping[str, Any], batch: int, interventions: Sequence[Intervention] = ()
             ) -> dict[str, Any]:
    """Everything that a trial's numbers depend on beside its seed, as JSON values.

    Args:
        cell: Of the suite.
        agent: Its provenance, with the digest of its weights.
        batch: Rows of each forward pass.
        interventions: Of the cell, built.
    """
    here = collect_provenance()
    edits = [{key: value for key, value in plain(each.describe()).items() if key != "name"} for each in interventions]
    return {
        "format": FORMAT,
        "scenario": cell.scenario.model_dump(mode="json", by_alias=True, exclude=_SILENT),
        "agent": {key: value for key, value in agent.items() if key != "description"},
        "steps": cell.steps,
        "episodes": cell.episodes,
        "interventions": edits,
        "backend": cell.backend,
        "batch": batch,
        "threads": THREADS,
        "harness": here.harness,
        "torch": here.packages["torch"],
        "cpu_capability": here.cpu_capability,
    }


def cell_id(cell: Cell, key: Mapping[str, Any]) -> str:
    """A folder's name: the labels for people, and a digest of the key."""
    words = ".".join(re.sub(r"[^A-Za-z0-9_-]+", "_", Path(label_text(value)).stem) for value in cell.labels.values())
    return f"{words[:80].lstrip('.-')}-{digest(key)[:12]}"


def disk_full(problem: BaseException | None) -> str | None:
    """What to say when it, or what it came of, is a disk that takes no more; None for anything else."""
    while problem is not None:
        if isinstance(problem, OSError) and problem.errno in _FULL:
            return _FULL[problem.errno]
        problem = problem.__cause__
    return None


class Store:
    """The results of a suite's trials.

    Args:
        root: The suite's output folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the folder. The system lets go of the lock when the process ends, however it ends.

        Raises:
            SuiteError: when another run holds it, with its process id; or when the folder cannot be written.
        """
        path = self.root / ".lock"
        with _told(path):
            self.root.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                with contextlib.suppress(ImportError):  # not on Windows
                    import fcntl

                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.pread(file, 20, 0).decode("ascii", "replace").strip() or "unknown"
                raise SuiteError(f"another run is at work in this folder (process {pid})", where=str(self.root),
                                 hint="wait for it, or give this one another folder with --out") from None
            with _told(path):
                os.ftruncate(file, 0)
                os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(file)

    def folder(self, cell: str) -> Path:
        """Where a cell's results lie."""
        return self.root / "trials" / cell

    def ask(self, about: Mapping[str, Any]) -> None:
        """Write ``suite.json``.

        Raises:
            SuiteError: when it cannot be written.
        """
        path = self.root / "suite.json"
        with _told(path):
            _write(path, about)

    def begin(self, cell: str, about: Mapping[str, Any]) -> None:
        """Make a cell's folder, with ``cell.json`` that says what its results are of, and sweep it.

        Raises:
            SuiteError: when it cannot be written.
        """
        path = self.folder(cell) / "cell.json"
        with _told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.sweep(cell)
            if not path.is_file():
                _write(path, about)

    def sweep(self, cell: str) -> None:
        """Take away what was begun and is nobody's any more. Only while no worker is alive."""
        for name in os.listdir(self.folder(cell)):
            if name.endswith(".part"):
                shutil.rmtree(self.folder(cell) / name, ignore_errors=True)

    def open_trial(self, cell: str, seed: int) -> Path:
        """An empty folder to play a trial in; ``finish`` or ``fail`` makes it the trial's.

        Raises:
            SuiteError: when it cannot be made.
        """
        path = self.folder(cell) / f".{seed}.{os.getpid()}.part"
        with _told(path):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
        return path

    def write_steps(self, played: Path, place: Path, lines: Sequence[str]) -> None:
        """Write ``steps.jsonl``.

        Args:
            played: From ``open_trial``.
            place: Where in it.
            lines: JSON, without their ends.

        Raises:
            SuiteError: when it cannot be written; nothing is left of the trial then.
        """
        try:
            with _told(place / "steps.jsonl"):
                place.mkdir(exist_ok=True)
                with (place / "steps.jsonl").open("w", encoding="utf-8") as file:
                    file.writelines(f"{line}\n" for line in lines)
                    file.flush()
                    os.fsync(file.fileno())
        except SuiteError:
            shutil.rmtree(played, ignore_errors=True)
            raise

    def finish(self, cell: str, seed: int, result: Mapping[str, Any], played: Path) -> None:
        """Keep a trial: write its result into the folder it was played in, and give that its name.

        Raises:
            SuiteError: when it cannot be written; nothing is left of the trial then.
        """
        path = self.folder(cell) / str(seed)
        try:
            with _told(path):
                _write(played / "result.json", {"format": FORMAT, "seed": seed, **result})
                if path.exists():  # a trial that failed, and was tried again
                    os.replace(path, old := path.with_name(f".{seed}.{os.getpid()}.old.part"))
                    shutil.rmtree(old, ignore_errors=True)
                os.rename(played, path)
        except SuiteError:
            shutil.rmtree(played, ignore_errors=True)
            raise

    def fail(self, cell: str, seed: int, result: Mapping[str, Any], *, keep: bool) -> None:
        """Keep that a trial did not come to its end.

        Args:
            cell: Its cell.
            seed: Its seed.
            result: What is known.
            keep: Whether what was recorded until then is kept, too.

        Raises:
            SuiteError: when it cannot be written.
        """
        left = list(self.folder(cell).glob(f".{seed}.*.part")) if keep else []
        played = max(left, key=lambda path: path.stat().st_mtime_ns) if left else self.open_trial(cell, seed)
        self.settle(played)
        self.finish(cell, seed, result, played)

    def settle(self, played: Path) -> None:
        """Give the recordings in a trial's folder, each of which lies in a folder ``recorded``, their name."""
        for recorded in [*played.glob("recorded"), *played.glob("episode-*/recorded")]:
            for recording in recorded.iterdir():
                recording.rename(recorded.with_name("recording"))
            recorded.rmdir()

    def results(self, cell: str) -> Iterator[dict[str, Any]]:
        """Results one after the other, in no order. One that is damaged or of another format is as good as none."""
        try:
            with os.scandir(self.folder(cell)) as entries:
                for entry in entries:
                    if entry.name.isdecimal() and (found := _read(entry.path, entry.name)) is not None:
                        yield found
        except FileNotFoundError:
            return


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the system refuses, as one clear error."""
    try:
        yield
    except OSError as problem:
        reason = disk_full(problem) or problem.strerror
        hint = f"free some space there: {_GOES_ON}" if disk_full(problem) else _GOES_ON
        raise SuiteError(f"cannot write results: {reason}", where=str(path), hint=hint) from problem


def _write(path: Path, value: Mapping[str, Any]) -> None:
    """Under another name first: a reader, or the next run after a crash, finds all of it or nothing."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(value, file, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _read(folder: str, seed: str) -> dict[str, Any] | None:
    try:
        with open(f"{folder}/result.json", encoding="utf-8") as file:
            result = json.load(file)
    except (OSError, ValueError):
        return None
    whole = isinstance(result, dict) and result.get("format") == FORMAT and isinstance(result.get("episodes"), list) \
        and isinstance(result.get("metrics"), dict)
    return result if whole and str(result.get("seed")) == seed else None
