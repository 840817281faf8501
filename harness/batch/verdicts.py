"""What a suite's claims came to: one verdict each, told as a table, and kept beside the results."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import SuiteError
from harness.statistics import Interval

__all__ = ["VERDICTS", "Verdict", "claims_table", "keep_verdicts", "shortened", "told", "verdict_notes"]

VERDICTS = "verdicts.json"
"""In a suite's output folder: ``{"format": 1, "verdicts": [...], "baseline": {cell: {metric: value}},
"spared": n}``."""

_FEW = 10


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim: In words.
        metric: Its metric.
        cells: Names of the cell it is about, and of the one it is compared with, if there is one.
        n: Seeds that were compared, or counted.
        value: The cell's mean over them; None without any.
        reference: What it is compared with: the other's mean, or the number.
        estimate: Their difference.
        interval: Of the difference, 95 %: Newcombe's of paired rates, Wilson's of a rate less a number, else the
            bootstrap's. For this claim alone. Where trials may end early, it covers all looks.
        effect: Cohen's h of rates, or d of paired differences.
        p: How likely it is to be as far off: were the claim true if it was refuted, were it false otherwise.
        p_adjusted: The same, adjusted for all claims of the suite.
        passed: True, False, or None where it is not decided.
        flipped: Against the baseline: seeds whose number changed, those that changed most as the mean did first.
        reason: Why, in plain words.
        note: What to keep in mind; empty if nothing.
        replay: The command that plays the most telling seed of a claim that failed; None otherwise.
    """

    claim: str
    metric: str = ""
    cells: tuple[str, ...] = ()
    n: int = 0
    value: float | None = None
    reference: float | None = None
    estimate: float | None = None
    interval: Interval | None = None
    effect: float | None = None
    p: float = 1.0
    p_adjusted: float = 1.0
    passed: bool | None = None
    flipped: tuple[int, ...] = ()
    reason: str = ""
    note: str = ""
    replay: str | None = None

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Verdict:
        """From JSON values.

        Raises:
            KeyError, TypeError, ValueError: for anything else.
        """
        numbers = {key: None if told[key] is None else float(told[key])
                   for key in ("value", "reference", "estimate", "effect")}
        passed, replay = told["passed"], told["replay"]
        return cls(
            claim=str(told["claim"]), metric=str(told["metric"]), cells=tuple(map(str, told["cells"])),
            n=int(told["n"]), interval=None if told["interval"] is None else Interval(*map(float, told["interval"])),
            p=float(told["p"]), p_adjusted=float(told["p_adjusted"]), passed=None if passed is None else bool(passed),
            flipped=tuple(map(int, told["flipped"])), reason=str(told["reason"]), note=str(told["note"]),
            replay=None if replay is None else str(replay), **numbers)

    def as_dict(self) -> dict[str, Any]:
        """JSON values; a number that is not finite is None."""
        plain = {**asdict(self), "interval": None if self.interval is None else list(self.interval)}
        return {key: None if isinstance(value, float) and not math.isfinite(value) else value
                for key, value in plain.items()}

    @property
    def word(self) -> str:
        """``passed``, ``failed`` or ``undecided``."""
        return "undecided" if self.passed is None else "passed" if self.passed else "failed"

    @property
    def numbers(self) -> str:
        """The figures in one line: ``-0.70 [-0.84, -0.41], n = 20, effect size -1.64, p = 0.0024 after correction``."""
        if self.estimate is None or self.interval is None:
            return ""
        effect = "" if self.effect is None else f", effect size {self.effect:.2f}"
        return f"{self._difference()}, n = {self.n}{effect}, p {_p(self.p_adjusted)} after correction"

    def _difference(self) -> str:
        if self.estimate is None or self.interval is None:
            return "-"
        return f"{self.estimate:+.2f} [{self.interval.low:+.2f}, {self.interval.high:+.2f}]"

    def row(self) -> list[str]:
        """Its line in ``claims_table``."""
        value, reference = ("-" if number is None else f"{number:.3g}" for number in (self.value, self.reference))
        p = "-" if self.estimate is None else _p(self.p_adjusted).removeprefix("= ")
        return [self.word if self.passed is not False else "FAILED", self.claim, str(self.n), value, reference,
                self._difference(), p]

    def __str__(self) -> str:
        lines = [f"{'FAILED' if self.passed is False else self.word}: {self.claim}", f"  {self.reason}"]
        if self.flipped:
            lines.append(f"  seeds that changed ({len(self.flipped)}): {shortened(self.flipped)}")
        lines += [f"  look at one: {self.replay}"] if self.replay else []
        return "\n".join(lines)


def shortened(seeds: Sequence[int]) -> str:
    """The first ten, and how many more."""
    more = f" and {len(seeds) - _FEW} more" if len(seeds) > _FEW else ""
    return ", ".join(map(str, seeds[:_FEW])) + more


def _p(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"= {p:.2g}"


def claims_table(verdicts: Sequence[Verdict]) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and rows of the table of all verdicts, those that failed first."""
    order = sorted(verdicts, key=lambda verdict: (verdict.passed is not False, verdict.passed is not None))
    return ("What was claimed; differences with their 95 % intervals, p after the correction for all claims",
            ["verdict", "claim", "seeds", "here", "against", "difference", "p"], [each.row() for each in order])


def told(verdicts: Sequence[Verdict]) -> list[str]:
    """Every claim that failed, in words, and the first of those that are undecided; the table has all."""
    undecided = [str(verdict) for verdict in verdicts if verdict.passed is None]
    more = [f"undecided: {len(undecided) - _FEW} more"] if len(undecided) > _FEW else []
    return [str(verdict) for verdict in verdicts if verdict.passed is False] + undecided[:_FEW] + more


def verdict_notes(verdicts: Sequence[Verdict]) -> list[str]:
    """What is to be kept in mind, once each."""
    return [f"note: {note}" for note in dict.fromkeys(verdict.note for verdict in verdicts) if note]


def keep_verdicts(folder: Path, verdicts: Sequence[Verdict], baseline: Mapping[str, Mapping[str, float]],
                  spared: int = 0) -> None:
    """Write down what a run's claims came to, none as well, all of it or nothing.

    Args:
        folder: The suite's output folder.
        verdicts: Of the run.
        baseline: Cell name to metric to its approved mean.
        spared: Trials that were not needed.

    Raises:
        SuiteError: when it cannot be written.
    """
    path = folder / VERDICTS
    part = path.with_name(f".{VERDICTS}.{os.getpid()}.part")
    content = {"format": 1, "verdicts": [verdict.as_dict() for verdict in verdicts], "baseline": dict(baseline),
               "spared": spared}
    try:
        part.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as problem:
        part.unlink(missing_ok=True)
        raise SuiteError(f"cannot write the verdicts: {problem.strerror}", where=str(path)) from problem
