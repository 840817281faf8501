"""How fast suites run: the coordinator, what a trial costs beside its steps, workers, and shared forward passes.

    python benchmarks/batch.py coordinator --trials 100000     trials/s scheduled, memory; then resume and report
    python benchmarks/batch.py resume --trials 10000           seconds until a finished suite has its table again
    python benchmarks/batch.py overhead                        milliseconds a trial over the bare loop
    python benchmarks/batch.py workers                         two workers against one, vpt-nano (wants two free cores)
    python benchmarks/batch.py batching                        eight worlds a pass against one, recorded or not
    python benchmarks/batch.py cluster --address HOST:PORT     messages and results through Ray against local ones

Trials of the coordinator are empty: a process that answers at once plays them, and writes a result of the usual size.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness.agent.load import load_agent
from harness.batch.engine import Done, NextLane, NextTrial
from harness.batch.job import Job, Lane, Order
from harness.batch.load import parse_suite
from harness.batch.metrics import Measured
from harness.batch.pool import LocalEngine
from harness.batch.ray_engine import RayEngine
from harness.batch.runner import run_suite
from harness.batch.store import FORMAT
from harness.batch.suite import RecordingPolicy, Suite
from harness.batch.worker import Tell
from harness.rollout import run_episode
from harness.world.world import make_world

EMPTY = """\
name: empty
labels: [part]
defaults: {{scenario: trunk, agent: noop, steps: 1, seeds: {{first: 0, count: {count}}}}}
matrix: {{part: [{parts}]}}
"""
NANO = """\
name: nano
labels: [part]
defaults: {{scenario: villager, agent: vpt-nano, steps: {steps}, seeds: {{first: 0, count: {count}}}, distance: 4}}
matrix: {{part: [all]}}
"""


def result_of(job: Job, order: Order) -> dict[str, Any]:
    """As a trial of one step writes it."""
    return {
        "format": FORMAT, "seed": order.seed, **job.about(order), "status": "finished", "problem": None, "n_steps": 1,
        "seconds": 0.01, "episodes": [{"seed": order.seed, "status": "truncated", "n_steps": 1,
                                       "measured": Measured().as_dict(), "outcomes": {}, "actions": "0" * 16}],
        "metrics": {metric.name: 0.0 for metric in job.metrics}}


def pretend(job: Job, tell: Tell) -> None:
    """A worker that plays nothing, and writes without waiting for the disk."""
    while isinstance(tell(NextLane()), Lane):
        while isinstance(order := tell(NextTrial()), Order):
            folder = job.store.folder(job.ids[order.cell]) / str(order.seed)
            folder.mkdir()
            (folder / "result.json").write_text(json.dumps(result_of(job, order)))
            tell(Done(order, None, {metric.name: 0.0 for metric in job.metrics}))


def ask(job: Job, tell: Tell) -> None:
    """A worker that plays nothing, keeps 200 steps a trial, and notes how long it waited for its order."""
    while isinstance(tell(NextLane()), Lane):
        while True:
            began = time.perf_counter()
            order = tell(NextTrial())
            waited = time.perf_counter() - began
            if not isinstance(order, Order):
                break
            cell = job.ids[order.cell]
            played = job.store.open_trial(cell, order.seed)
            job.store.write_steps(played, played, [json.dumps({"step": i, "keys": ["forward"]}) for i in range(200)])
            job.store.finish(cell, order.seed, {**result_of(job, order), "seconds": waited}, played)
            tell(Done(order, None, {metric.name: 0.0 for metric in job.metrics}))


def empty_suite(n: int) -> Suite:
    return parse_suite(EMPTY.format(count=n // 10, parts=", ".join(f"p{i}" for i in range(10))))


def memory() -> float:
    """Most that this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def timed(suite: Suite, out: Path, **options: Any) -> float:
    began = time.perf_counter()
    report = run_suite(suite, out=out, **options)
    assert not report.missing and not report.failures
    return time.perf_counter() - began


def coordinator(arguments: argparse.Namespace) -> None:
    suite = empty_suite(arguments.trials)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        seconds = timed(suite, Path(folder), engine=LocalEngine(arguments.workers, pretend))
        print(f"{arguments.trials} trials planned, scheduled, written and reported in {seconds:.1f} s: "
              f"{arguments.trials / seconds:.0f} trials/s, {arguments.workers} workers; memory {memory():.0f} MB")
        print(f"planned and reported again, nothing to play: {timed(suite, Path(folder)):.1f} s; "
              f"memory {memory():.0f} MB")


def resume(arguments: argparse.Namespace) -> None:
    suite = empty_suite(arguments.trials)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        timed(suite, Path(folder), engine=LocalEngine(1, pretend))
        print(f"resume of {arguments.trials} finished trials: {timed(suite, Path(folder)):.2f} s")


def overhead(arguments: argparse.Namespace) -> None:
    """Trials of one step by an agent that does nothing, in this process: all but the loop is overhead."""
    suite = parse_suite(EMPTY.format(count=arguments.trials, parts="all"))
    cell = suite.cells[0]
    gaps = []
    for _ in range(arguments.repeats):
        with make_world(cell.scenario) as world, tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            agent = load_agent("noop")
            run_episode(world, agent, seed=0, max_steps=1)
            began = time.perf_counter()
            for seed in cell.seeds:
                run_episode(world, agent, seed=seed, max_steps=1)
            bare = time.perf_counter() - began
            gaps.append(1000 * (timed(suite, Path(folder)) - bare) / arguments.trials)
    print(f"overhead a trial: {statistics.median(gaps):.1f} ms (median of {arguments.repeats} runs of "
          f"{arguments.trials} trials; {', '.join(f'{gap:.1f}' for gap in gaps)})")


def cluster(arguments: argparse.Namespace) -> None:
    """One worker; what a trial takes is the time between first and last result, without the start."""
    suite = empty_suite(arguments.trials)
    for name in ("processes", "Ray", "Ray, results sent"):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            recordings = f"file://{folder}/recordings" if name == "Ray, results sent" else None
            timed(suite, Path(folder), engine=LocalEngine(1, ask) if name == "processes" else RayEngine(
                arguments.address, workers=1, recordings=recordings, entry=ask))
            paths = list(Path(folder).glob("trials/*/*/result.json"))
            waits = sorted(1000 * json.loads(path.read_text())["seconds"] for path in paths)
            ends = sorted(path.stat().st_mtime for path in paths)
        print(f"{name}: an order comes in {statistics.median(waits):.2f} ms (median of {len(waits)}; 99 % within "
              f"{waits[len(waits) * 99 // 100]:.2f}); {1000 * (ends[-1] - ends[0]) / (len(ends) - 1):.2f} ms a trial")


def nano(arguments: argparse.Namespace) -> Suite:
    return parse_suite(NANO.format(steps=arguments.steps, count=arguments.trials))


def workers(arguments: argparse.Namespace) -> None:
    """Steps per second of the trials themselves: a process' start is not what is asked."""
    suite, ratios = nano(arguments), []
    for _ in range(arguments.repeats):
        rates = {}
        for n in (1, 2):
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                meter = Meter()
                timed(suite, Path(folder), workers=n, progress=meter)
                rates[n] = meter.rate
        ratios.append(rates[2] / rates[1])
        print(f"one worker {rates[1]:.0f} steps/s, two workers {rates[2]:.0f} steps/s: {ratios[-1]:.2f} times")
    print(f"two workers against one: {statistics.median(ratios):.2f} times (median of {arguments.repeats})")


class Meter:
    """Progress that times the steps from the first report to the last."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, int]] = []

    def start(self, label: str, total: int | None) -> None:
        """Nothing is played yet."""

    def tallies(self, metric: str, cells: object) -> None:
        """Not of interest."""

    def to(self, done: int) -> None:
        """Some steps are played."""
        if not self.marks or done > self.marks[-1][1]:
            self.marks.append((time.perf_counter(), done))

    @property
    def rate(self) -> float:
        """Steps a second."""
        (began, first), (ended, last) = self.marks[0], self.marks[-1]
        return (last - first) / max(ended - began, 1e-9)


def batching(arguments: argparse.Namespace) -> None:
    suite = nano(arguments)
    for words, record in (("recordings off", RecordingPolicy()), ("recorded", RecordingPolicy("all"))):
        ratios = []
        for _ in range(arguments.repeats):
            seconds = {}
            for rows in (1, 8):
                with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                    seconds[rows] = timed(suite, Path(folder), batch=rows, record=record)
            ratios.append(seconds[1] / seconds[8])
            steps = arguments.steps * arguments.trials
            print(f"{words}: one at a time {steps / seconds[1]:.0f} steps/s, eight {steps / seconds[8]:.0f} steps/s: "
                  f"{ratios[-1]:.2f} times")
        print(f"{words}: eight worlds a pass against one: {statistics.median(ratios):.2f} times "
              f"(median of {arguments.repeats})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function, trials, steps in ((coordinator, 100_000, 1), (resume, 10_000, 1), (overhead, 100, 1),
                                    (workers, 64, 200), (batching, 16, 200), (cluster, 1000, 1)):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        command.add_argument("--trials", type=int, default=trials)
        command.add_argument("--steps", type=int, default=steps)
        command.add_argument("--repeats", type=int, default=3)
        command.add_argument("--workers", type=int, default=2)
        command.add_argument("--address", default="auto", help="Of the Ray cluster.")
        command.add_argument("--folder", help="Where results are written; else the system's temporary folder.")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    arguments.function(arguments)


if __name__ == "__main__":
    main()
