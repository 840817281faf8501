"""The writer alone, fed synthetic arrays of a 2x model: attention [4, 16, 129] and residuals [4, 3, 2048] a step.

    python benchmarks/recorder.py [--steps 600] [--rounds 3] [--rate 0]

Prints steps per second, and how long a call of the recorder kept its caller waiting (median, 99th percentile, maximum).
``--rate 20`` feeds it at the pace of the game, 0 as fast as it takes them.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from harness.agent.agent import Agent, AgentOutput
from harness.recording.recorder import Recorder
from harness.rollout import Episode, EpisodeResult, Snapshot, Step
from harness.scenario.schema import Scenario
from harness.world.action import noop_action
from harness.world.world import Capabilities

LAYERS, HEADS, WINDOW, WIDTH = 4, 16, 129, 2048
SHAPES = {f"blocks.{i}.attn.hook_pattern": (HEADS, WINDOW) for i in range(LAYERS)} | {
    f"blocks.{i}.hook_resid_{part}": (WIDTH,) for i in range(LAYERS) for part in ("pre", "mid", "post")}


class Synthetic(Agent):
    """Only its shapes are asked for."""

    name = "synthetic-2x"
    description = "synthetic arrays, no policy"

    def initial_state(self) -> None:  # noqa: D102
        return None

    def act(self, observation, state, rng, *, hooks=()):  # noqa: D102
        raise NotImplementedError

    def hook_shapes(self):  # noqa: D102
        return {name: (shape, "float32") for name, shape in SHAPES.items()}


class Nowhere:
    """What a recorder asks of a world."""

    capabilities = Capabilities("synthetic")
    metadata = {"render_fps": 20}
    scenario = Scenario.model_validate({"name": "synthetic"})


def pictures(n: int) -> list[np.ndarray]:
    """Frames that compress like a game's: soft shapes, hard edges, some grain."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (45, 80 + n, 3)).repeat(8, axis=0).repeat(8, axis=1)
    grain = rng.integers(-6, 6, base.shape)
    scene = np.clip(base + grain, 0, 255).astype(np.uint8)
    return [np.ascontiguousarray(scene[:, 4 * i:4 * i + 640]) for i in range(n)]


def play(folder: Path, n_steps: int, rate: float, frames: list[np.ndarray]) -> tuple[float, list[float]]:
    rng = np.random.default_rng(0)
    agent = Synthetic()
    memory = {f"{i}.{part}": rng.random((128, WIDTH), np.float32) for i in range(LAYERS) for part in "kv"}
    log_probs = {"buttons": rng.random(8641, np.float32), "camera": rng.random(121, np.float32)}
    recorder, waits = Recorder(folder), []
    steps_done = 0

    def snapshot() -> Snapshot:
        return Snapshot(steps_done, None, {k: v.copy() for k, v in memory.items()}, {"agent": {}})

    recorder.begin(Episode(Nowhere(), agent, 0, tuple(SHAPES), (), n_steps, snapshot))
    began = time.perf_counter()
    for i in range(n_steps):
        activations = {name: rng.random(shape, np.float32) for name, shape in SHAPES.items()}
        observation = {"pov": frames[i % len(frames)].copy()}
        output = AgentOutput(noop_action(), None, -1.0, 1.0, 0.0, {"buttons": 1}, log_probs, activations)
        steps_done = i + 1
        info = {"events": [], "outcomes": {}, "pose": {"position": [0.0, 0.0, 0.0], "yaw": 0.0, "pitch": 0.0},
                "statistics": {f"statistic.{k}": i for k in range(30)}, "health": 20.0}
        step = Step(i, observation, observation, output, noop_action(), 0.0, False, False, info, snapshot)
        at = time.perf_counter()
        recorder.on_step(step)
        waits.append(time.perf_counter() - at)
        if rate:
            time.sleep(max(0.0, began + (i + 1) / rate - time.perf_counter()))
    recorder.end(EpisodeResult("truncated", n_steps, {}, 0, time.perf_counter() - began))
    return n_steps / (time.perf_counter() - began), waits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=0.0)
    options = parser.parse_args()
    frames = pictures(60)
    rates = []
    for _ in range(options.rounds):
        folder = Path(tempfile.mkdtemp(prefix="harness-benchmark-"))
        try:
            rate, waits = play(folder, options.steps, options.rate, frames)
            size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        finally:
            shutil.rmtree(folder)
        rates.append(rate)
        milliseconds = sorted(1000 * w for w in waits)
        print(f"{rate:7.1f} steps/s   caller waits (ms): median {statistics.median(milliseconds):.2f}   "
              f"p99 {milliseconds[int(0.99 * len(milliseconds))]:.2f}   max {milliseconds[-1]:.2f}   "
              f"{size / options.steps / 1e6:.2f} MB/step")
    print(f"median {statistics.median(rates):.1f} steps/s, from {min(rates):.1f} to {max(rates):.1f}, "
          f"{options.rounds} rounds of {options.steps} steps")


if __name__ == "__main__":
    main()
