"""A suite's output folder, read: what was asked for, what is finished, what was judged.

What lies there may be half written, damaged or from a stranger: what is no result does not count, and nothing in it can
lead out of the folder.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.batch.store import FORMAT
from harness.batch.summary import CellSummary, Outcome, Summary
from harness.batch.verdicts import VERDICTS, Verdict
from harness.errors import SuiteError
from harness.recording.schema import HEADER

__all__ = ["cell_folders", "read_json", "read_summary", "read_results", "recording_of"]

_MOST_BYTES = 4_000_000
"""Of a file that is read as a whole."""
_STATES = ("finished", "failed", "timeout", "lost")


def read_summary(folder: str | Path) -> Summary:
    """Tell what lies in a suite's output folder.

    Args:
        folder: Of the suite. Its latest run says which cells and seeds count.

    Raises:
        SuiteError: when it is no such folder, or there is no result in it.
    """
    folder = Path(folder)
    about = read_json(folder / "suite.json") or {}
    folders = {path.name: path for path in cell_folders(folder)}
    if not folders:
        raise SuiteError("there are no results of a suite here", where=str(folder),
                         hint="give the folder that `harness batch SUITE` wrote: batches/SUITE, or its --out")
    asked = _asked(about)
    rows, damaged = [], 0
    players = {cell.get("id"): str(cell.get("agent") or "") for cell in _cells(about)}
    for name in asked or sorted(folders):
        path = folders.get(name, folder / "trials" / name)
        found, torn = _row(name, path, (asked or {}).get(name), players.get(name, ""))
        rows.append(found)
        damaged += torn
    judged = read_json(folder / VERDICTS) or {}
    metrics = tuple(dict.fromkeys([*_texts(about.get("metrics")), *(
        metric for row in rows for outcome in row.finished.values() for metric in outcome.metrics)]))
    axes = tuple(_texts(about.get("axes")) or dict.fromkeys(axis for row in rows for axis in row.labels))
    return Summary(
        suite=str(about.get("suite") or folder.name), description=str(about.get("description") or ""), axes=axes,
        rows=tuple(rows), metrics=metrics, verdicts=_verdicts(judged), baseline=_baseline(judged),
        spared=judged["spared"] if isinstance(judged.get("spared"), int) else 0,
        batch=about["batch"] if isinstance(about.get("batch"), int) else 1, digest=str(about.get("digest") or ""),
        command=tuple(_texts(about.get("command"))), provenance=_mapping(about.get("provenance")), folder=folder,
        damaged=damaged)


def cell_folders(folder: Path) -> list[Path]:
    """The folders of cells in a suite's output folder; links are not followed."""
    trials = folder / "trials"
    if not trials.is_dir():
        return []
    return sorted(Path(entry.path) for entry in os.scandir(trials) if entry.is_dir(follow_symlinks=False))


def read_results(cell: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Every trial's folder of a cell and its result, by seed; None: it is damaged or of another format.

    A trial without a result has not ended, and is left out.
    """
    seeds = sorted(int(entry.name) for entry in os.scandir(cell)
                   if entry.name.isascii() and entry.name.isdigit() and entry.is_dir(follow_symlinks=False))
    for seed in seeds:
        path = cell / str(seed)
        if (path / "result.json").is_file():
            result = read_json(path / "result.json")
            whole = result is not None and result.get("format") == FORMAT and result.get("seed") == seed \
                and result.get("status") in _STATES
            yield path, result if whole else None


def recording_of(trial: Path) -> Path | None:
    """A trial's recording, when it was kept; of several episodes, that of the first."""
    places = [trial / "recording", trial / "episode-0" / "recording"]
    return next((place for place in places if (place / HEADER).is_file()
                 and not place.is_symlink() and not place.parent.is_symlink()), None)


def read_json(path: Path) -> dict[str, Any] | None:
    """An object in a file; None for anything else."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _row(name: str, path: Path, seeds: Collection[int] | None, player: str) -> tuple[CellSummary, int]:
    about = read_json(path / "cell.json") or {}
    outcomes, damaged = dict[int, Outcome](), 0
    for trial, result in read_results(path) if path.is_dir() else ():
        seed = int(trial.name)
        if seeds is not None and seed not in seeds:
            continue
        if result is None:
            damaged += 1
        else:
            outcomes[seed] = _outcome(seed, result, trial)
    labels = _mapping(about.get("labels"))
    agent = _mapping(about.get("agent"))
    row = CellSummary(name, labels, tuple(outcomes) if seeds is None else seeds, outcomes,
              player or str(agent.get("name") or Path(str(labels.get("agent", ""))).stem),
              str(agent.get("description") or ""))
    return row, damaged


def _outcome(seed: int, result: Mapping[str, Any], trial: Path) -> Outcome:
    # The same few names in every trial: kept once.
    metrics = {sys.intern(name): float(value) for name, value in _mapping(result.get("metrics")).items()
               if _is_number(value)}
    episodes = result.get("episodes")
    first = _mapping(episodes[0]) if isinstance(episodes, list) and episodes else {}
    return Outcome(
        seed, str(result["status"]), str(result.get("problem") or ""),
        int(result["n_steps"]) if _is_number(result.get("n_steps")) else 0,
        float(result["seconds"]) if _is_number(result.get("seconds")) else 0.0,
        metrics, str(first.get("actions") or ""), recording_of(trial) is not None,
        tuple(map(sys.intern, _texts(result.get("notes")))))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | dict) else []


def _asked(about: Mapping[str, Any]) -> dict[str, Collection[int]] | None:
    """Cell to seeds, as the suite's latest run asked for them."""
    found: dict[str, Collection[int]] = {}
    for cell in _cells(about):
        seeds, name = _seeds(cell.get("seeds")), cell.get("id")
        if isinstance(name, str) and name not in (".", "..") and not set(name) & {"/", "\\", "\0"} \
                and seeds is not None:
            found[name] = seeds
    return found or None


def _cells(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    cells = about.get("cells")
    return [cell for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else []


def _seeds(value: Any) -> Sequence[int] | None:
    if isinstance(value, dict) and isinstance(value.get("first"), int) and isinstance(value.get("count"), int):
        return range(value["first"], value["first"] + value["count"])
    return value if isinstance(value, list) and all(isinstance(seed, int) for seed in value) else None


def _verdicts(judged: Mapping[str, Any]) -> tuple[Verdict, ...]:
    found = judged.get("verdicts")
    try:
        return tuple(Verdict.from_dict(one) for one in (found if isinstance(found, list) else ()))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as problem:
        raise SuiteError(f"{VERDICTS} is damaged: {type(problem).__name__}: {problem}",
                         hint="run the suite again: it judges anew what is finished") from problem


def _baseline(judged: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {cell: {name: float(value) for name, value in _mapping(metrics).items() if _is_number(value)}
            for cell, metrics in _mapping(judged.get("baseline")).items()}
