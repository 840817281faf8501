"""Which latents truly carry a cause that is known: the world is played twice, with and without it.

An agent plays with the cause in the world. A second world of the same seed, without it, takes the same actions; a copy
of the agent looks on. Whatever differs between the two lines of activations comes from the cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from harness.agent.agent import Agent
from harness.agent.sae import Sae
from harness.analysis.privileged import StateReader
from harness.analysis.sae.conduct import Scene
from harness.errors import HarnessError
from harness.rollout import spawn_streams
from harness.scenario.schema import Scenario
from harness.statistics import holm, sign_flip
from harness.world.world import make_world

__all__ = ["CARRIES", "Carriers", "carriers"]

_DRAWS = 100_000
CARRIES = 0.75
"""Share of the steps in which a latent differs between the two worlds that it is larger in with the cause."""
DIFFERS = 0.05
"""Share of steps in which it differs, at least."""


@dataclass(frozen=True)
class Carriers:
    """Latents that carry a cause.

    Attributes:
        latents: Their numbers.
        effects: Mean of each latent with the cause less without it, over steps with the object in view [m].
        note: How many were looked at, and how they were told.
    """

    latents: tuple[int, ...]
    effects: npt.NDArray[np.float64]
    note: str


def carriers(agent: Agent, sae: Sae, hook: str, scene: Scene, without: Scenario, seeds: Sequence[int]) -> Carriers:
    """Latents that are larger because of the cause, in steps that show the scene's object in view.

    A latent carries the cause if it differs between the worlds in ``DIFFERS`` of the steps, is larger with the cause in
    ``CARRIES`` of these (latents are sparse: in most steps both are 0), and the paired randomisation test over the
    episodes' mean differences gives p below 0.05 after Holm's correction over the latents that fire.

    Args:
        agent: Who plays.
        sae: Whose latents.
        hook: Where they are.
        scene: With the cause.
        without: The same scenario without it.
        seeds: One pair of worlds each.

    Raises:
        HarnessError: when the object is in view in fewer than six of the pairs.
    """
    pairs = [pair for seed in seeds if len((pair := _twins(agent, hook, scene, without, seed))[0])]
    if len(pairs) < 6:
        raise HarnessError(f"{scene.object} is in view in {len(pairs)} of {len(seeds)} pairs of worlds, expected 6 at "
                           "least", hint="more training seeds")
    coded = [[sae.encode(torch.from_numpy(side)).numpy().astype(np.float64) for side in pair] for pair in pairs]
    means = np.stack([one.mean(0) - two.mean(0) for one, two in coded])
    signs = np.concatenate([np.sign(one - two) for one, two in coded])
    fires = np.flatnonzero(np.concatenate([side for pair in coded for side in pair]).any(0))
    adjusted = holm([sign_flip(means[:, j].tolist(), resamples=_DRAWS) for j in fires])
    differs = (signs != 0).mean(0)
    larger = (signs > 0).mean(0) / np.maximum(differs, 1e-12)
    found = tuple(int(j) for j, p in zip(fires, adjusted, strict=True)
                  if p < 0.05 and differs[j] >= DIFFERS and larger[j] >= CARRIES)
    return Carriers(found, means.mean(0),
                    f"{len(found)} of {len(fires)} latents that fire carry the cause: different in {DIFFERS:.0%} of "
                    f"the steps at least, larger with it in {CARRIES:.0%} of these, paired randomisation p below 0.05 "
                    f"after Holm's correction, over {len(pairs)} pairs of worlds that differ in nothing else. recall: "
                    "of these, how many were selected; false discoveries: selected ones that are none of these.")


def _twins(agent: Agent, hook: str, scene: Scene, without: Scenario, seed: int
           ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Activations [t, d] with the cause and without it, in steps with the object in view."""
    limit = scene.steps or scene.scenario.episode.max_steps
    sides: tuple[list[npt.NDArray[np.float32]], list[npt.NDArray[np.float32]]] = ([], [])
    reader = StateReader([f"in_view:{scene.object}"], [scene.scenario])
    with make_world(scene.scenario) as one, make_world(without) as two:
        world_seed, rng = spawn_streams(seed)
        seen = [world.reset(seed=world_seed)[0] for world in (one, two)]
        states, attacked = [agent.initial_state(), agent.initial_state()], False
        for _ in range(limit):
            view = reader.read(one, attacked)
            chosen = agent.act(seen[0], states[0], rng, hooks=[hook])
            beside = agent.act(seen[1], states[1], np.random.default_rng(0), hooks=[hook])
            states, attacked = [chosen.state, beside.state], bool(chosen.action["attack"])
            if view is not None and view[0]:
                for side, output in zip(sides, (chosen, beside), strict=True):
                    side.append(np.array(output.activations[hook], np.float32))
            steps = [world.step(chosen.action) for world in (one, two)]
            seen = [step[0] for step in steps]
            if any(step[2] or step[3] for step in steps):
                break
    d = int(agent.hook_shapes()[hook][0][0])
    return np.array(sides[0], np.float32).reshape(-1, d), np.array(sides[1], np.float32).reshape(-1, d)
