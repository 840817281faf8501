"""What guidance costs: one step of STEVE-1 at full size, random weights, one thread, in one interleaved run.

    python benchmarks/guidance.py [--size 2x] [--rounds 6]

``plain`` runs one row, ``guided`` both rows behind one look of the image network, ``doubled`` both rows through
everything, as the published code does. Times are processor time, so that other programs count less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from harness.agent.steve import StevePolicy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="2x")
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    policy = StevePolicy.random(arguments.size, seed=0)
    frames, first = torch.randint(0, 256, (1, 1, 128, 128, 3), dtype=torch.uint8), torch.zeros(1, 1, dtype=torch.bool)
    goal = torch.randn(1, 512)
    both, null = (frames.repeat(2, 1, 1, 1, 1), first.repeat(2, 1)), torch.cat((goal, torch.zeros_like(goal)))
    one, two = policy.initial_state(1), policy.initial_state(1, guided=True)
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: policy(frames, first, one, goal),
        "guided": lambda: policy(frames, first, two, goal, 6.0),
        "doubled": lambda: policy(*both, two, null),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for number in range(arguments.rounds + 1):
            for name, way in ways.items():
                began = time.process_time()
                way()
                if number:
                    times[name].append(1000 * (time.process_time() - began))
    base = min(times["plain"])
    for name, values in times.items():
        print(f"{name:8} min {min(values):6.0f} ms  median {statistics.median(values):6.0f} ms  "
              f"{min(values) / base:.2f} x plain")


if __name__ == "__main__":
    main()
