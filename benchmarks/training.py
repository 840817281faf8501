"""How fast training goes on this machine.

    python benchmarks/training.py [--threads 1] [--steps 5] [--precision auto|float32|bfloat16]

Prints milliseconds per trained frame (forward, backward, optimiser) and noisy demonstrations in frames per second, each
as the median with its spread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from harness.training.classroom import N_HINTS, Classroom, load_teacher
from harness.training.demonstrations import collect_demonstrations
from harness.training.learner import Learner
from harness.training.recipe import Recipe, read_recipe
from harness.training.replay_buffer import Chunk
from harness.training.scenes import Scenes
from harness.training.trainer import config_of

RECIPE = Path(__file__).parents[1] / "agents" / "recipes" / "vpt-nano.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    definition, recipe = read_recipe(RECIPE)
    recipe = recipe.model_copy(update={"precision": options.precision})
    learner = Learner(config_of(definition), recipe)
    show(f"training, {learner.precision}, {options.threads} thread(s), ms per frame", steps(learner, options.steps))
    show("noisy demonstrations, frames per second", demonstrations(recipe, options.threads, options.steps))


def show(what: str, found: list[float]) -> None:
    print(f"{what}: median {statistics.median(found):.2f}, from {min(found):.2f} to {max(found):.2f}, n={len(found)}")


def steps(learner: Learner, n: int) -> list[float]:
    b, t = learner.recipe.streams, learner.recipe.chunk
    rng = np.random.default_rng(0)
    chunk = Chunk(rng.integers(0, 256, (b, t, *learner.policy.config.image_shape), dtype=np.uint8),
                  np.zeros((b, t), np.bool_), rng.integers(0, 121, (b, t, 2)), np.ones((b, t, N_HINTS), np.float32))
    learner.learn(chunk, 0.0)
    found = []
    for _ in range(n):
        start = time.perf_counter()
        learner.learn(chunk, 0.0)
        found.append(1e3 * (time.perf_counter() - start) / (b * t))
    return found


def demonstrations(recipe: Recipe, threads: int, n: int) -> list[float]:
    scenes = Scenes(recipe.scenes)
    room = Classroom(scenes, load_teacher(recipe.teacher.agent), 8, (128, 128, 3), threads=threads)
    rng = np.random.default_rng(0)
    found = []
    for number in range(n + 1):
        start = time.perf_counter()
        episodes = collect_demonstrations(room, [scenes.draw_seed(rng) for _ in range(8)], 64, recipe.noise)
        if number:  # the first compiles
            found.append(sum(map(len, episodes)) / (time.perf_counter() - start))
    room.close()
    return found


if __name__ == "__main__":
    main()
