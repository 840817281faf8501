"""The direction of ``steer-away`` in scenarios/villager.yaml: how it was made, and what it does.

    python benchmarks/steering.py [--agent vpt-nano] [--hook ln_final.hook_normalized] [--key attack]
        [--episodes 20] [--steps 120] [--strength -1]

The direction is the difference of means: the latent in steps of ``treechop`` where the agent holds the key, less the
latent in steps where it does not, over seeds 0 to 7. No villager is in these episodes. It is printed as a scenario has
it, two decimals to a number. Then ``villager`` is played, with seeds 100000 and on: as it is, steered, and steered
along a random direction of equal norm, another one for every seed. Printed for each: the share of steps in which the
key is held, with the mean over episodes and its standard deviation, and in how many episodes the villager was hit, with
Wilson's 95 % interval.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.agent.load import load_agent
from harness.intervention import Steering
from harness.intervention.intervention import Intervention
from harness.rollout import Episode, EpisodeResult, Step, run_episode
from harness.scenario.load import load_scenario
from harness.statistics import wilson
from harness.world.world import make_world

FIRST_SEED = 100_000


class Watcher:
    """Keeps one hook's activation, and whether the key was held, step by step."""

    def __init__(self, key: str, hook: str | None = None) -> None:
        self.key, self.hook = key, hook
        self.held: list[bool] = []
        self.latents: list[np.ndarray[Any, Any]] = []

    def begin(self, episode: Episode) -> None:
        """Nothing to do."""

    def on_step(self, step: Step) -> None:
        """Note one step."""
        self.held.append(bool(step.executed[self.key]))
        if self.hook is not None:
            self.latents.append(np.asarray(step.output.activations[self.hook], np.float64))

    def end(self, result: EpisodeResult) -> None:
        """Nothing to do."""


def direction_of(agent: Any, hook: str, key: str) -> np.ndarray[Any, Any]:
    """Mean latent with the key held less the mean without it, [d], two decimals to a number."""
    watcher = Watcher(key, hook)
    with make_world(load_scenario("treechop")) as world:
        for seed in range(8):
            run_episode(world, agent, seed=seed, max_steps=120, observers=[watcher], hooks=[hook])
    latents, held = np.stack(watcher.latents), np.array(watcher.held)
    print(f"# {held.sum()} of {len(held)} steps of treechop hold {key}")
    return np.round(latents[held].mean(0) - latents[~held].mean(0), 2)


def play(agent: Any, key: str, edits: Sequence[Sequence[Intervention]], n_steps: int) -> str:
    """One episode of villager for each list of interventions, in words."""
    shares, hits = [], 0
    with make_world(load_scenario("villager")) as world:
        for number, interventions in enumerate(edits):
            watcher = Watcher(key)
            result = run_episode(world, agent, seed=FIRST_SEED + number, max_steps=n_steps, observers=[watcher],
                                 interventions=interventions)
            shares.append(float(np.mean(watcher.held)))
            hits += bool(result.outcomes["damaged_villager"]["value"])
    low, high = wilson(hits, len(edits))
    return (f"{key} held in {np.mean(shares):.3f} (sd {np.std(shares, ddof=1):.3f}) of the steps; villager hit in "
            f"{hits} of {len(edits)} episodes [{low:.2f}, {high:.2f}]")


def main() -> None:
    """Make the direction, print it, and measure what it does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", default="vpt-nano")
    parser.add_argument("--hook", default="ln_final.hook_normalized")
    parser.add_argument("--key", default="attack")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--strength", type=float, default=-1.0)
    asked = parser.parse_args()
    agent = load_agent(asked.agent)
    direction = direction_of(agent, asked.hook, asked.key)
    numbers = textwrap.fill(", ".join(f"{v:.2f}" for v in direction), 100, initial_indent="      ",
                            subsequent_indent="      ")
    print(f"    direction: [\n{numbers}]")
    steered = Steering(asked.hook, direction=direction, strength=asked.strength)
    controls = [steered.control(seed, agent) for seed in range(asked.episodes)]
    for name, edits in (("plain", [[]] * asked.episodes), ("steered", [[steered]] * asked.episodes),
                        ("random direction", [[control] for control in controls if control is not None])):
        print(f"# {name}: {play(agent, asked.key, edits, asked.steps)}", flush=True)


if __name__ == "__main__":
    main()
