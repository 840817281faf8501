"""What a suite's claims came to: one verdict each, as it is kept beside the results."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import SuiteError

__all__ = ["VERDICTS", "Verdict", "keep_verdicts"]

VERDICTS = "verdicts.json"
"""In a suite's output folder: ``{"format": 1, "verdicts": [...], "baseline": {cell: {metric: value}}}``."""


@dataclass(frozen=True)
class Verdict:
    """One claim, judged.

    Attributes:
        claim: In the words of the suite's file.
        metric: What it is about.
        cells: Names of the cells it compares (``CellSummary.name``).
        n: Pairs, or trials.
        estimate: Of the difference, or the share.
        interval: Of the estimate.
        effect: Its size in units of the field (Cohen's h, d).
        p: Of the test.
        p_adjusted: After the correction for all of the suite's tests.
        passed: None: undecided.
        flipped: Seeds that came out differently than in what it is compared with.
        reason: In a sentence.
        note: What to keep in mind.
        replay: The command that plays the most telling seed again.
    """

    claim: str
    metric: str = ""
    cells: tuple[str, ...] = ()
    n: int = 0
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    effect: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    passed: bool | None = None
    flipped: tuple[int, ...] = ()
    reason: str = ""
    note: str = ""
    replay: str = ""

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Verdict:
        """From JSON values.

        Raises:
            KeyError, TypeError, ValueError: for anything else.
        """
        interval = told.get("interval")
        return cls(
            claim=str(told["claim"]), metric=str(told.get("metric", "")), cells=tuple(map(str, told.get("cells", ()))),
            n=int(told.get("n", 0)), interval=None if interval is None else (float(interval[0]), float(interval[1])),
            passed=None if told.get("passed") is None else bool(told["passed"]),
            flipped=tuple(map(int, told.get("flipped", ()))), reason=str(told.get("reason", "")),
            note=str(told.get("note") or ""), replay=str(told.get("replay") or ""),
            **{key: None if told.get(key) is None else float(told[key])
               for key in ("estimate", "effect", "p", "p_adjusted")})

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @property
    def word(self) -> str:
        """``holds``, ``fails`` or ``undecided``."""
        return "undecided" if self.passed is None else "holds" if self.passed else "fails"

    @property
    def numbers(self) -> str:
        """The figures in one line: ``0.41 [0.30, 0.51], n = 200, p = 0.0003 after correction``."""
        found = []
        if self.estimate is not None:
            spread = "" if self.interval is None else f" [{self.interval[0]:.2f}, {self.interval[1]:.2f}]"
            found.append(f"{self.estimate:.2f}{spread}")
        found += [f"n = {self.n}"] if self.n else []
        found += [f"effect size {self.effect:.2f}"] if self.effect is not None else []
        if self.p_adjusted is not None:
            found.append(f"p {_small(self.p_adjusted)} after correction")
        elif self.p is not None:
            found.append(f"p {_small(self.p)}")
        return ", ".join(found)


def keep_verdicts(folder: Path, verdicts: Sequence[Mapping[str, Any]],
                  baseline: Mapping[str, Mapping[str, float]]) -> None:
    """Write down what a run's claims came to, none as well, all of it or nothing.

    Args:
        folder: The suite's output folder.
        verdicts: As JSON values.
        baseline: Cell name to metric to its approved mean.

    Raises:
        SuiteError: when it cannot be written.
    """
    path = folder / VERDICTS
    part = path.with_name(f".{VERDICTS}.{os.getpid()}.part")
    told = {"format": 1, "verdicts": list(verdicts), "baseline": dict(baseline)}
    try:
        part.write_text(json.dumps(told, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as problem:
        part.unlink(missing_ok=True)
        raise SuiteError(f"cannot write the verdicts: {problem.strerror}", where=str(path)) from problem


def _small(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"= {p:.2g}"
