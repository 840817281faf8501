"""What a suite's trials came to when somebody approved it, kept beside the suite: read, written, held against a run.

What a trial depends on falls into three parts. The *question* (scenario, steps, episodes, interventions, backend, and
everything not named here) must be the same, or nothing can be compared. What is *under test* (the agent, and Harness
itself) may differ when the user says so: otherwise a run against it is refused, with the words of what changed. The
*environment* (PyTorch, the kind of processor, rows of a forward pass, threads) moves the last bits of a sum; it is
noted, and the statistics of all seeds decide.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.batch.claims import Claim
from harness.batch.judging import Samples
from harness.errors import SuiteError, nearest_names
from harness.provenance import collect_provenance, digest

__all__ = ["FORMAT", "UNDER_TEST", "Baseline", "ChangedError", "baseline_path", "make_baseline", "read_baseline",
           "write_baseline"]

FORMAT = 1
UNDER_TEST = {"agent": "agent", "version": "harness"}
"""What ``across`` may name, and the part of a cell's key that it lets differ."""
_AROUND_THE_AGENT = ("device", "device_name", "torch_threads")
_NO_PART_OF_THE_AGENT = (*_AROUND_THE_AGENT, "description", "batch_shape", "weights")
"""Of its provenance. Where its weights were read from says nothing; their digest does."""
ENVIRONMENT = ("torch", "cpu_capability", "batch", "threads", *_AROUND_THE_AGENT)
_MOST_BYTES = 500_000_000


class ChangedError(SuiteError):
    """What is under test is another than was approved. That is no bad input, but a change somebody must look at."""

    exit_code = 1


@dataclass(frozen=True)
class Baseline:
    """Approved results.

    Attributes:
        suite: Its name.
        cells: Cell name to {"key": part to value or digest, "agent": what it is}.
        samples: Metric to cell name to seed to number.
        about: Who approved it, when, with which command; the suite's digest; provenance.
        path: Its file.
    """

    suite: str
    cells: Mapping[str, Mapping[str, Any]]
    samples: Samples
    about: Mapping[str, Any]
    path: Path | None = None

    def means(self) -> dict[str, dict[str, float]]:
        """Cell name to metric to its mean."""
        return {cell: {metric: sum(of[cell].values()) / len(of[cell]) for metric, of in self.samples.items()
                       if of.get(cell)} for cell in self.cells}

    def check(self, suite: str, claims: Sequence[Claim], keys: Mapping[str, Mapping[str, Any]], *,
              across: Collection[str] = ()) -> str:
        """Refuse what cannot be compared.

        Args:
            suite: Name of the suite that is run.
            claims: Those about the baseline count.
            keys: Cell name to all that its numbers depend on, as ``store.cell_key`` gives it.
            across: Of ``UNDER_TEST``: what may differ.

        Returns:
            What the reader of a verdict should keep in mind; empty if nothing.

        Raises:
            ChangedError: when what is under test differs, and ``across`` does not name it.
            SuiteError: when the baseline is of another suite, cell, scenario or metric.
        """
        where = str(self.path) if self.path else None
        if self.suite != suite:
            raise SuiteError(f"this is a baseline of the suite {self.suite!r}, not of {suite!r}", where=where,
                             hint="name another file with --baseline, or approve this suite with --approve")
        changed: dict[str, list[str]] = {}
        notes: dict[str, None] = {}
        for claim in claims:
            if not claim.against_baseline:
                continue
            if claim.cell not in self.cells:
                near = nearest_names(claim.cell, self.cells, 1)
                raise self._stale(f"the baseline has no cell [{claim.cell}]{f'; it has [{near[0]}]' if near else ''}")
            if claim.cell not in self.samples.get(claim.metric, {}):
                raise self._stale(f"the baseline has no {claim.metric} of the cell [{claim.cell}]")
            then, now = self.cells[claim.cell], _parts(keys[claim.cell])
            for part in sorted(then["key"].keys() | now.keys()):
                before, after = then["key"].get(part), now.get(part)
                if before == after:
                    continue
                if part in ENVIRONMENT:
                    notes[f"{part} was {before} when the baseline was approved and is {after} now"] = None
                elif part in UNDER_TEST.values():
                    kind = next(name for name, of in UNDER_TEST.items() if of == part)
                    changed.setdefault(kind, []).append(_what_changed(part, then, keys[claim.cell]))
                else:
                    raise self._stale(f"the {part} of the cell [{claim.cell}] is not what it was ({_short(before)} in "
                                      f"the baseline, {_short(after)} now)")
        refused = {kind: words for kind, words in changed.items() if kind not in across}
        if refused:
            raise self._changed(refused)
        notes |= dict.fromkeys(word for words in changed.values() for word in words)
        if not notes:
            return ""
        return ("; ".join(notes) + ". Sums round otherwise then, and single seeds may flip without a change of "
                "behaviour: what counts is how many")

    def _stale(self, message: str) -> SuiteError:
        return SuiteError(f"the baseline answers another question than this suite asks: {message}",
                          where=str(self.path) if self.path else None,
                          hint="nothing was compared; look at the suite's results, then write a new baseline with "
                               "--approve")

    def _changed(self, refused: Mapping[str, Sequence[str]]) -> ChangedError:
        lines = dict.fromkeys(word for words in refused.values() for word in words)
        flags = " ".join(f"--across {kind}" for kind in refused)
        return ChangedError(
            "what is tested is not what was approved, so nothing was compared:\n"
            + "\n".join(f"  {line}" for line in lines), where=str(self.path) if self.path else None,
            hint=f"if the change is not meant, undo it; to see what it did to the behaviour, run again with {flags}; "
                 "if it is meant and you have looked, approve it with --approve")


def baseline_path(suite_file: Path) -> Path:
    """Where a suite's baseline lies: beside it."""
    return suite_file.with_name(f"{suite_file.stem}.baseline.json")


def make_baseline(suite: str, keys: Mapping[str, Mapping[str, Any]], samples: Samples, *, command: str
                  ) -> Baseline:
    """Approve results.

    Args:
        suite: Its name.
        keys: As for ``Baseline.check``.
        samples: All results.
        command: That approves.
    """
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        who = None
    cells = {name: {"key": _parts(key), "agent": _identity(key["agent"])} for name, key in keys.items()}
    about = {"who": who, "when": datetime.now(UTC).isoformat(timespec="seconds"), "command": command,
             "suite_digest": digest(cells), "provenance": collect_provenance().as_dict()}
    return Baseline(suite, cells, samples, about)


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write it, all of it or nothing.

    Raises:
        SuiteError: when it cannot be written.
    """
    values = {metric: {cell: {str(seed): number for seed, number in sorted(of.items())} for cell, of in cells.items()}
              for metric, cells in baseline.samples.items()}
    content = {"format": FORMAT, "suite": baseline.suite, "approved": dict(baseline.about),
               "cells": dict(baseline.cells), "samples": values}
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as problem:
        with contextlib.suppress(OSError):
            part.unlink()
        raise SuiteError(f"cannot write the baseline: {problem.strerror}", where=str(path)) from problem


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        SuiteError: for a file that is missing, damaged, or of another version's format.
    """
    where = str(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise SuiteError(f"it has more than {_MOST_BYTES:,} bytes; that is no baseline", where=where)
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise SuiteError(f"cannot read the baseline: {problem.strerror}", where=where,
                         hint="write one with --approve") from None
    except ValueError:
        raise SuiteError("the baseline is damaged: it is no JSON", where=where,
                         hint="take it back from version control, or write a new one with --approve") from None
    if not isinstance(content, dict) or "format" not in content:
        raise SuiteError("this is no baseline: expected a JSON object with the key format", where=where)
    if content["format"] != FORMAT:
        raise SuiteError(f"the baseline has format {content['format']!r}, and this version of Harness reads {FORMAT}",
                         where=where, hint="use the version that wrote it, or write a new one with --approve")
    try:
        return _parsed(content, path)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise SuiteError(f"the baseline is damaged: {type(problem).__name__}: {problem}", where=where,
                         hint="take it back from version control, or write a new one with --approve") from None


def _parsed(content: Mapping[str, Any], path: Path) -> Baseline:
    samples = {metric: {cell: {int(seed): float(number) for seed, number in of.items()}
                        for cell, of in cells.items()} for metric, cells in content["samples"].items()}
    cells = {name: {"key": dict(cell["key"]), "agent": dict(cell["agent"])} for name, cell in content["cells"].items()}
    unknown = {cell for of in samples.values() for cell in of} - cells.keys()
    if unknown:
        raise ValueError(f"numbers of the unknown cell {sorted(unknown)[0]}")
    return Baseline(str(content["suite"]), cells, samples, dict(content["approved"]), path)


def _identity(agent: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in agent.items() if field not in _NO_PART_OF_THE_AGENT}


def _parts(key: Mapping[str, Any]) -> dict[str, Any]:
    """A cell's key with a digest for whatever is no plain value; what is around the agent is a part of its own."""
    split = {**{part: value for part, value in key.items() if part != "format"}, "agent": _identity(key["agent"]),
             **{field: key["agent"][field] for field in _AROUND_THE_AGENT if field in key["agent"]}}
    return {part: value if isinstance(value, str | int | float | bool | None) else digest(value)
            for part, value in split.items()}


def _what_changed(part: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if part != "agent":
        return f"{part} {then['key'].get(part)} was approved, and this is {now.get(part)}"
    before, after = then["agent"], _identity(now["agent"])
    odd = [field for field in sorted(before.keys() | after.keys()) if before.get(field) != after.get(field)]
    words = [f"{'weights' if field == 'weights_digest' else field} ({_short(before.get(field))} approved, "
             f"{_short(after.get(field))} now)" for field in odd]
    return f"the agent {after.get('name', '?')} has other {' and '.join(words)}"


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) > 40 else text
