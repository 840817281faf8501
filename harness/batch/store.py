"""Trials on disk: one result file each, there as a whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.batch.suite import Cell
from harness.errors import SuiteError
from harness.provenance import collect_provenance, digest

__all__ = ["FORMAT", "SUITE", "Store", "cell_id", "cell_key"]

FORMAT = 2
SUITE = "suite.json"
"""In a suite's output folder: what the latest run asked for."""
_SILENT = {"description", "parameters", "hooks", "interventions", "agent"}
"""Of a scenario: what cannot change a trial. The values of parameters are filled in elsewhere."""


def cell_key(cell: Cell, agent: Mapping[str, Any], batch: int) -> dict[str, Any]:
    """Everything that a trial's numbers depend on beside its seed, as JSON values.

    Args:
        cell: Of the suite.
        agent: Its provenance, with the digest of its weights.
        batch: Rows of each forward pass.
    """
    here = collect_provenance()
    return {
        "format": FORMAT,
        "scenario": cell.scenario.model_dump(mode="json", by_alias=True, exclude=_SILENT),
        "agent": {key: value for key, value in agent.items() if key != "description"},
        "steps": cell.steps,
        "batch": batch,
        "harness": here.harness,
        "torch": here.packages["torch"],
        "cpu_capability": here.cpu_capability,
    }


def cell_id(cell: Cell, key: Mapping[str, Any]) -> str:
    """A folder's name: the labels for people, and a digest of the key."""
    words = ".".join(re.sub(r"[^A-Za-z0-9_-]+", "_", Path(str(value)).stem) for value in cell.labels.values())
    return f"{words[:80].lstrip('.-')}-{digest(key)[:12]}"


class Store:
    """The results of a suite's trials, under ``trials/<cell>/<seed>/result.json``.

    Args:
        root: The suite's output folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, cell: str) -> Path:
        """Where a cell's results lie."""
        return self.root / "trials" / cell

    def announce(self, about: Mapping[str, Any]) -> None:
        """Say what is asked for, in ``suite.json``.

        Raises:
            SuiteError: when it cannot be written.
        """
        path = self.root / SUITE
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            _write(path, {"format": FORMAT, **about})
        except OSError as problem:
            raise SuiteError(f"cannot write results: {problem.strerror}", where=str(path)) from problem

    def begin(self, cell: str, about: Mapping[str, Any]) -> None:
        """Make a cell's folder, with ``cell.json`` that says what its results are of.

        Raises:
            SuiteError: when it cannot be written.
        """
        path = self.folder(cell) / "cell.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_file():
                _write(path, about)
        except OSError as problem:
            raise SuiteError(f"cannot write results: {problem.strerror}", where=str(path)) from problem

    def write(self, cell: str, seed: int, result: Mapping[str, Any]) -> None:
        """Keep a finished trial.

        Raises:
            SuiteError: when it cannot be written.
        """
        path = self.folder(cell) / str(seed) / "result.json"
        try:
            path.parent.mkdir(exist_ok=True)
            _write(path, {"format": FORMAT, "seed": seed, **result})
        except OSError as problem:
            raise SuiteError(f"cannot write a result: {problem.strerror}", where=str(path),
                             hint="what is finished is kept; the same command goes on") from problem

    def finished(self, cell: str) -> dict[int, dict[str, Any]]:
        """Results by seed. A file that is damaged, or of another format, is as good as none: it is played again."""
        found = {}
        folder = self.folder(cell)
        names = os.listdir(folder) if folder.is_dir() else []
        for name in names:
            if re.fullmatch(r"\d+", name) and (result := _read(folder / name / "result.json")) is not None:
                found[int(name)] = result
        return found


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


def _read(path: Path) -> dict[str, Any] | None:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(result, dict) and result.get("format") == FORMAT and result.get("status") == "finished"
    return result if whole and path.parent.name == str(result.get("seed")) else None
