"""What a step costs more when the world runs in another process: 640 x 360 pixels through shared memory.

    python benchmarks/remote.py [--steps 100] [--rounds 7]

Two worlds of the same scenario, seed and actions, one here and one in a child of the same Python, are stepped in turns.
Prints the median, the quartiles and the least of a step's milliseconds, and of the difference between the two in the
same step; then the same for a call that does nothing but bring a picture of that size over. Where other work waits for
the cores, the least and the lower quartile say more than the median: a call changes the process twice.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.scenario.load import load_scenario
from harness.world.conformance import some_actions
from harness.world.remote import Remote
from harness.world.world import make_world


class Pictures:
    """Served: one picture, again and again."""

    def __init__(self) -> None:
        self._picture = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)

    def look(self) -> Any:
        """uint8 [360, 640, 3]."""
        return self._picture

    def close(self) -> None:
        """Nothing to let go of."""


def milliseconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000.0


def told(what: str, values: list[float]) -> None:
    low, middle, high = statistics.quantiles(values, n=4)
    print(f"{what:<28} median {middle:6.3f} ms, quartiles {low:6.3f} to {high:6.3f}, least {min(values):6.3f}, "
          f"n = {len(values)}")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--steps", type=int, default=100)
    words.add_argument("--rounds", type=int, default=7)
    chosen = words.parse_args()
    scenario, actions = load_scenario("villager"), some_actions(chosen.steps)
    here_ms, there_ms, call_ms = list[float](), list[float](), list[float]()
    with make_world(scenario) as here, make_world(scenario, backend="remote") as there:
        pictures = Remote("remote:Pictures", path=["benchmarks"])
        pictures.start()
        for _ in range(chosen.rounds):
            for world in (here, there):
                world.reset(seed=0)
            for number, action in enumerate(actions):
                pair = [(here, here_ms), (there, there_ms)]
                for world, kept in pair if number % 2 else reversed(pair):
                    kept.append(milliseconds(lambda world=world, action=action: world.step(action)))  # type: ignore[misc]
                call_ms.append(milliseconds(lambda: pictures.call("look")))
        pictures.close()
    told("a step in this process", here_ms)
    told("a step in another process", there_ms)
    told("difference of the same step", [b - a for a, b in zip(here_ms, there_ms, strict=True)])
    told("a picture brought over", call_ms)


if __name__ == "__main__":
    main()
