"""How often a suite cries wolf, and how often it finds a planted change: simulated suites, judged as real ones are.

    python benchmarks/suite_error.py [--suites 1000] [--seeds 20] [--random-seed 0] [--quick] [--json FILE]

A simulated suite has six cells and three metrics: two rates (one common, one rare) and a skewed count. Trials with the
same seed are correlated, within a suite and with the baseline. Each cell and metric claims to be equal to the baseline,
one claims to be at least as much as another cell, less 0.2, and one to be at least a number. In a *null* suite all of
that is just true: the baseline is drawn as the run is, and the margins are the true differences. A suite raises a false
alarm when any of its claims is called refuted. In a *planted* suite one cell's rate is moved by the size that
``harness batch`` states before a run, once from 1/2 - size/2 to 1/2 + size/2 with unrelated trials, the worst case;
it is found when the claim about it is refuted. Both are done for trials that are played at once, and for trials that
end early (four looks), where the simulated driver really stops playing cells that are settled.

The last line tells of a mean with a margin, the one test that is not exact: claims that a count is at least its true
mean, one a suite, refuted at the same 0.5 %. Prints counts and Wilson's 95 % intervals, and exits with 1 where the
design (at most 10 false alarms in 1,000 suites, 80 % found) is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from harness.batch.claims import BASELINE, Claim, Statistics
from harness.batch.judging import Samples, decide
from harness.batch.planning import error_per_claim
from harness.batch.sequential import settled
from harness.statistics import minimum_detectable_paired_difference, wilson

CELLS = tuple(f"cell={number}" for number in range(6))
RATES = {"common": 0.5, "rare": 0.1}
COUNT, MEAN = "count", 3.0
"""A count that is geometric: as skewed as ticks of contact."""
CORRELATION = 0.5
"""Between trials of the same seed, of the normal values that they are cut from."""
PLANTED = Claim("common", CELLS[0], "equal", BASELINE)
CLAIMS = (*(Claim(metric, cell, "equal", BASELINE) for metric in (*RATES, COUNT) for cell in CELLS),
          Claim("common", CELLS[1], "at_least", CELLS[2], -0.2), Claim("common", CELLS[3], "at_least", 0.5))
_LOWERED = 0.2
"""What the true rate of the cell in the claim with a margin is below the other's."""


@dataclass(frozen=True)
class Share:
    """How many suites of all."""

    what: str
    count: int
    n: int
    limit: float
    at_most: bool

    @property
    def kept(self) -> bool:
        """Whether the design is met."""
        return self.count <= self.limit * self.n if self.at_most else self.count >= self.limit * self.n

    def __str__(self) -> str:
        low, high = wilson(self.count, self.n)
        return (f"{self.what}: {self.count}/{self.n} {self.count / self.n:.1%} [{low:.1%}, {high:.1%}], "
                f"designed to be {'at most' if self.at_most else 'at least'} {self.limit:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--random-seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="60 suites of each sort")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    shares = []
    for share in simulate(60 if options.quick else options.suites, options.seeds, options.random_seed):
        print(share, flush=True)
        shares.append(share)
    print(approximate(60 if options.quick else options.suites, options.seeds, options.random_seed))
    if options.json:
        options.json.write_text(json.dumps([vars(share) for share in shares]) + "\n", encoding="utf-8")
    sys.exit(0 if all(share.kept for share in shares) else 1)


def simulate(n_suites: int, n_seeds: int, random_seed: int) -> Iterator[Share]:
    """False alarms and planted changes found, with trials at once and with trials that end early."""
    at_once = Statistics()
    early = Statistics(sequential=True, block=max(1, n_seeds // 4))
    for how, statistics in (("at once", at_once), ("ending early", early)):
        size = stated_size(n_seeds, statistics)
        for planted in (0.0, size):
            count = 0
            for number in range(n_suites):
                rng = np.random.default_rng([random_seed, number, int(planted > 0), int(statistics.sequential)])
                samples, baseline = draw(rng, n_seeds, planted)
                refuted = play(samples, baseline, n_seeds, statistics)
                count += PLANTED in refuted if planted else bool(refuted)
            yield (Share(f"a planted change of {size:.2f} was found, {how}", count, n_suites, 0.80, False)
                   if planted else Share(f"suites with a false alarm, {how}", count, n_suites, 0.01, True))


def stated_size(n_seeds: int, statistics: Statistics) -> float:
    """What ``harness batch`` states for the planted claim: the smallest change it finds in 85 % of runs."""
    level = error_per_claim(len(CLAIMS), n_seeds, statistics) / 2
    return minimum_detectable_paired_difference(n_seeds, level, statistics.power)


def draw(rng: np.random.Generator, n_seeds: int, planted: float) -> tuple[Samples, Samples]:
    """A run and its baseline; with a planted change, that cell's trials are unrelated to the baseline's."""
    shared = rng.standard_normal(n_seeds)

    def normal(side: float) -> npt.NDArray[np.float64]:
        return np.sqrt(side) * shared + np.sqrt(1 - side) * rng.standard_normal(n_seeds)

    run: dict[str, dict[str, Mapping[int, float]]] = {metric: {} for metric in (*RATES, COUNT)}
    approved: dict[str, dict[str, Mapping[int, float]]] = {metric: {} for metric in (*RATES, COUNT)}
    for cell in CELLS:
        for metric, usual in RATES.items():
            moved = planted if (metric, cell) == (PLANTED.metric, PLANTED.cell) else 0.0
            rate = usual - _LOWERED if (metric, cell) == ("common", CELLS[1]) else usual
            for samples, way in ((run, 0.5), (approved, -0.5)):
                cut = norm.ppf(rate + way * moved)
                samples[metric][cell] = _by_seed((normal(0 if moved else CORRELATION) < cut).astype(float))
        for samples in (run, approved):
            samples[COUNT][cell] = _by_seed(_counts(normal(CORRELATION)))
    return run, approved


def _counts(normal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Geometric, from 0, with the mean ``MEAN``."""
    return np.floor(np.log(norm.sf(normal)) / np.log(MEAN / (MEAN + 1)))


def _by_seed(values: Sequence[float] | npt.NDArray[np.float64]) -> dict[int, float]:
    return {seed: float(value) for seed, value in enumerate(values)}


def play(samples: Samples, baseline: Samples, n_seeds: int, statistics: Statistics) -> set[Claim]:
    """The claims that are refuted; cells that are settled are played no further."""
    planned = dict.fromkeys(CELLS, range(n_seeds))
    seen = samples
    if statistics.sequential:
        upto = dict.fromkeys(CELLS, 0)
        for first in range(0, n_seeds, statistics.block):
            done = settled(CLAIMS, seen, statistics, planned, baseline=baseline) if first else frozenset()
            upto |= {cell: min(n_seeds, first + statistics.block) for cell in CELLS if cell not in done}
            seen = {metric: {cell: {seed: of[seed] for seed in range(upto[cell])} for cell, of in cells.items()}
                    for metric, cells in samples.items()}
    decisions = decide(CLAIMS, seen, statistics, baseline=baseline, seeds=planned)
    return {claim for claim, decision in zip(CLAIMS, decisions, strict=True) if decision.shown is False}


def approximate(n_suites: int, n_seeds: int, random_seed: int) -> str:
    """How often a true claim about the mean of a skewed count is refuted: what is not exact."""
    claims, count = [Claim(COUNT, CELLS[0], "at_least", MEAN)], 0
    for number in range(n_suites):
        rng = np.random.default_rng([random_seed, number, 9])
        values = _counts(rng.standard_normal(n_seeds))
        count += decide(claims, {COUNT: {CELLS[0]: _by_seed(values)}}, Statistics())[0].shown is False
    low, high = wilson(count, n_suites)
    return (f"for comparison, a skewed mean held against its true value, one claim: refuted {count}/{n_suites} "
            f"[{low:.1%}, {high:.1%}] where 0.5% are meant")


if __name__ == "__main__":
    main()
