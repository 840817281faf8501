"""Ending early: after every block of seeds, the cells about which everything is decided need no more trials.

Each look spends a share of the error that was fixed beforehand (``harness.statistics.spending``), so that looking often
does not make false alarms more frequent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.batch.claims import Claim, Statistics
from harness.batch.judging import Samples, decide

__all__ = ["settled"]


def settled(claims: Sequence[Claim], samples: Samples, statistics: Statistics, seeds: Mapping[str, Sequence[int]], *,
            baseline: Samples | None = None) -> frozenset[str]:
    """Cells with claims, all of which are shown or refuted for good: what else is played does not change that.

    A cell that no claim is about is never among them: its figures are wanted for themselves.

    Args:
        claims: The suite's; all of them.
        samples: What came out so far.
        statistics: The suite's.
        seeds: Cell to all its seeds in the order of playing.
        baseline: What came out when it was approved.
    """
    if not statistics.sequential:
        return frozenset()
    open_cells, named = set[str](), set[str]()
    decisions = decide(claims, samples, statistics, baseline=baseline, seeds=seeds, interim=True)
    for claim, decision in zip(claims, decisions, strict=True):
        cells = {claim.cell, *([claim.other] if claim.other else [])}
        named |= cells
        if decision.shown is None:
            open_cells |= cells
    return frozenset(named - open_cells)
