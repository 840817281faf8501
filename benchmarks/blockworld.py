"""Steps per second of the block world: rules, picture, segmentation, depth, outcomes and info, all of ``World.step``.

    python benchmarks/blockworld.py [--rounds 7] [--steps 240]     the table; --start adds the times of a fresh process

Scene: flat grass, 20 trees, a hut, stones and a villager; the player runs in a circle, looks about and chops what it
meets. Rows are measured in turn, round after round, and given as the median over rounds with the lowest and highest;
beside it the processor time per step of one world, which moves less when other programs are running.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
from numba import njit

from harness.scenario.schema import Scenario
from harness.world.blockworld.vector import BlockWorldVector
from harness.world.blockworld.world import BlockWorld

START = """
import time
import harness.world.blockworld.world
from harness.scenario.load import load_scenario
start = time.perf_counter()
harness.world.blockworld.world.BlockWorld(load_scenario("villager")).reset(seed=0)
print(time.perf_counter() - start)
"""


def scene() -> Scenario:
    blocks: list[dict[str, Any]] = [
        {"scatter": ["oak"], "count": 20, "from": [-28, -28], "to": [28, 28], "min_distance": 4},
        {"fill": "oak_planks", "from": [-12, 100, 8], "to": [-6, 103, 14]},
        {"fill": "air", "from": [-11, 100, 9], "to": [-7, 102, 13]},
        {"fill": "air", "from": [-9, 100, 8], "to": [-9, 101, 8]},
        *({"set": "cobblestone", "at": [x, 100, z]} for x, z in ((5, 9), (-4, -8), (14, 2), (9, -13), (-16, -3))),
    ]
    return Scenario.model_validate({
        "name": "benchmark", "world": {"seed": 1, "blocks": blocks, "entities": [
            {"type": "villager", "at": [0.5, 100, 4.5], "ai": False, "tag": "target"}]},
        "episode": {"max_steps": 10_000_000, "settle_steps": 5},
        "outcomes": {"damaged": {"damaged": "target"}, "mined": {"mined": "*_log"}, "seen": {"looked_at": "target"}}})


def actions(n: int) -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    return [{"forward": 1, "sprint": int(i % 50 < 25), "jump": int(draw.random() < 0.1),
             "attack": int(i % 40 < 20), "camera": np.array([4 * np.sin(i / 9), 3.0], dtype=np.float32)}
            for i in range(n)]


Round = tuple[float, float]
"""Steps per second of wall-clock time, and milliseconds of processor time per step."""


class Clock:
    """Times a round."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def round(self, steps: int) -> Round:
        """What so many steps took since the clock was made."""
        return (steps / (time.perf_counter() - self.wall), 1e3 * (time.process_time() - self.cpu) / steps)


def single(script: list[dict[str, Any]], *, resize: bool = False, **keywords: Any) -> Callable[[], Round]:
    world = BlockWorld(scene(), **keywords)
    world.reset(seed=0)

    def play() -> Round:
        clock = Clock()
        for action in script:
            observation, *_ = world.step(action)
            if resize:
                cv2.resize(observation["pov"], (128, 128), interpolation=cv2.INTER_LINEAR)
        return clock.round(len(script))
    return play


def many(script: list[dict[str, Any]], threads: int, **keywords: Any) -> Callable[[], Round]:
    n = 8
    env = BlockWorldVector(scene(), n, threads=threads, **keywords)
    env.reset(seed=0)
    keys = script[0].keys()
    batches = [{key: np.array([script[(i + 17 * k) % len(script)][key] for k in range(n)]) for key in keys}
               for i in range(max(10, len(script) // n))]

    def play() -> Round:
        clock = Clock()
        for batch in batches:
            env.step(batch)
        return clock.round(n * len(batches))
    return play


@njit(nogil=True)
def count(n, out):
    """A loop that shares nothing with anybody."""
    value = np.uint64(n)
    for _ in range(n):
        value = value * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        value ^= value >> np.uint64(13)
    out[0] = value


def control() -> float:
    """How much two threads of pure counting gain over one: what the machine has to give at the moment."""
    out = np.zeros((2, 1), dtype=np.uint64)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(count, (10, 10), out))
        start = time.perf_counter()
        for row in out:
            count(40_000_000, row)
        between = time.perf_counter()
        list(pool.map(count, (40_000_000, 40_000_000), out))
        return (between - start) / (time.perf_counter() - between)


def started(cache: str) -> float:
    """Seconds from the imports' end to the first picture, in a fresh process."""
    done = subprocess.run([sys.executable, "-c", START], check=True, capture_output=True, text=True,
                          env={**os.environ, "NUMBA_CACHE_DIR": cache})
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--start", action="store_true", help="measure the first picture of a fresh process, too")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    script = actions(options.steps)
    rows = {
        "one world, 640 x 360": single(script),
        "one world, 128 x 128": single(script, size=(128, 128)),
        "agent input (128 x 360, resized)": single(script, resize=True, agent_input=True),
        "8 worlds, 640 x 360, 1 thread": many(script, 1),
        "8 worlds, 640 x 360, 2 threads": many(script, 2),
        "8 worlds, 128 x 128, 1 thread": many(script, 1, size=(128, 128)),
        "8 worlds, 128 x 128, 2 threads": many(script, 2, size=(128, 128)),
        "8 worlds, agent input, 1 thread": many(script, 1, agent_input=True),
        "8 worlds, agent input, 2 threads": many(script, 2, agent_input=True),
    }
    found: dict[str, list[Round]] = {name: [] for name in rows}
    gains = []
    for _ in range(options.rounds):
        for name, play in rows.items():
            found[name].append(play())
        gains.append(control())
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, "
          f"Python {platform.python_version()}; steps/s, and processor time per step: median (lowest .. highest) "
          f"of {options.rounds} rounds")
    for name, rounds in found.items():
        rates, costs = zip(*rounds, strict=True)
        print(f"{name:34} {statistics.median(rates):8.0f}   ({min(rates):.0f} .. {max(rates):.0f})   "
              f"{statistics.median(costs):.2f} ms ({min(costs):.2f} .. {max(costs):.2f})")
    for size in ("640 x 360", "128 x 128", "agent input"):
        one, two = found[f"8 worlds, {size}, 1 thread"], found[f"8 worlds, {size}, 2 threads"]
        ratios = [b[0] / a[0] for a, b in zip(one, two, strict=True)]
        print(f"two threads over one, {size:12} {statistics.median(ratios):.2f}   "
              f"({min(ratios):.2f} .. {max(ratios):.2f})")
    print(f"two threads over one, {'counting':12} {statistics.median(gains):.2f}   "
          f"({min(gains):.2f} .. {max(gains):.2f})"
          "   what the machine had to give")
    if options.start:
        with tempfile.TemporaryDirectory() as cache:
            print(f"first picture after the imports: {started(cache):.1f} s cold, ", end="")
            print(f"{statistics.median(started(cache) for _ in range(3)):.2f} s from numba's cache")


if __name__ == "__main__":
    main()
