"""What a step of MineStudio's client costs in this process, in front of the stand-in for the game.

    HARNESS_ENGINES=DIR python benchmarks/minerl_step.py [--steps 200]

Prints processor milliseconds of this process per step (the stand-in draws in another): of the package's own survival
world, and of ours. DIR holds the package, installed as docs/minecraft.md says.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from harness.scenario.load import load_scenario
from harness.world.world import make_world

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "world"))
import standin_minerl  # noqa: E402


def measure(step: Callable[[], object], n: int) -> float:
    """Processor milliseconds of one call, the mean of ``n`` after five that are not counted."""
    for _ in range(5):
        step()
    began = time.process_time()
    for _ in range(n):
        step()
    return (time.process_time() - began) / n * 1e3


def main() -> None:
    """Measure both, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    n = parser.parse_args().steps
    warnings.simplefilter("ignore")
    engines = os.environ["HARNESS_ENGINES"]
    sys.path.append(engines)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(standin_minerl.install(Path(folder)))
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), engines])
        scenario = load_scenario("villager", parameters={"trees": 0})
        with make_world(scenario, "minestudio") as world:
            world.reset(seed=0)
            ours = measure(lambda: world.step({}), n)
            client = world._client  # type: ignore[attr-defined]
            stock = client.survival(resolution=(640, 360)).make()
            stock.reset()
            action = stock.action_space.no_op()
            theirs = measure(lambda: stock.step(action), n)
            stock.close()
    sys.stdout.write(f"MineStudio's own survival world: {theirs:.2f} ms; ours, outcomes included: {ours:.2f} ms\n")


if __name__ == "__main__":
    main()
