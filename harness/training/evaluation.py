"""How often a policy reaches an outcome in episodes it was not trained on, many worlds at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.agent.action_mapping import from_policy
from harness.agent.preprocessing import policy_frame
from harness.agent.vpt.policy import VPTPolicy
from harness.agent.vpt.state import VPTState
from harness.errors import TrainingError, unknown_name
from harness.scenario.load import load_scenario
from harness.scenario.schema import Scenario
from harness.statistics import wilson
from harness.training.learner import draw_tokens
from harness.training.recipe import Validation
from harness.world.blockworld.world import BlockWorld
from harness.world.observation import Observation

__all__ = ["EvaluationResult", "evaluate", "validation_scenario"]


@dataclass(frozen=True)
class EvaluationResult:
    """What came of some episodes.

    Attributes:
        scenario: Its name.
        sampling: Whether tokens were drawn (temperature 1); False: the most likely ones.
        seeds: One per episode.
        first_steps: Of every episode the step at which the outcome came true, None where it did not.
    """

    scenario: str
    sampling: bool
    seeds: tuple[int, ...]
    first_steps: tuple[int | None, ...]

    @property
    def successes(self) -> int:
        """Episodes in which it came true."""
        return sum(step is not None for step in self.first_steps)

    def within(self, steps: int) -> int:
        """Episodes in which it came true within so many steps."""
        return sum(step is not None and step < steps for step in self.first_steps)

    @property
    def median_step(self) -> float | None:
        """Median number of steps to success, over successful episodes."""
        done = [step + 1 for step in self.first_steps if step is not None]
        return float(np.median(done)) if done else None

    def as_dict(self) -> dict[str, Any]:
        """JSON values, with Wilson's 95 % interval."""
        n = len(self.seeds)
        low, high = wilson(self.successes, n)
        return {"scenario": self.scenario, "sampling": self.sampling, "episodes": n, "successes": self.successes,
                "low": round(low, 4), "high": round(high, 4), "within_300": self.within(300),
                "median_steps": self.median_step, "first_seed": self.seeds[0],
                "first_steps": list(self.first_steps)}


def validation_scenario(validation: Validation) -> Scenario:
    """The scenario a recipe validates in.

    Raises:
        ScenarioError: for an unknown scenario or parameter.
        TrainingError: when it measures no such outcome.
    """
    scenario = load_scenario(validation.scenario, parameters=validation.parameters)
    if validation.outcome not in scenario.outcomes:
        raise unknown_name("outcome", validation.outcome, scenario.outcomes, where=f"scenario {scenario.name}",
                           error=TrainingError)
    return scenario


def evaluate(policy: VPTPolicy, scenario: Scenario, outcome: str, seeds: Sequence[int], *, steps: int,
             sampling: bool = True, worlds: int = 32,
             report: Callable[[int], None] = lambda done: None) -> EvaluationResult:
    """Let a policy play one episode per seed, and note when the outcome comes true; the episode then ends.

    Each episode draws from a stream of its own, so the order of the seeds and the number of worlds matter only
    through rounding: a batch of another size gives slightly other bits.

    Args:
        policy: In float32.
        scenario: What to play.
        outcome: Name of one of its outcomes.
        seeds: Of the worlds.
        steps: At most so many.
        sampling: Draw tokens from the policy's own distribution; False takes the most likely ones.
        worlds: How many are played at a time.
        report: Told how many episodes are over.
    """
    first_steps: list[int | None] = []
    for at in range(0, len(seeds), worlds):
        part = list(seeds[at:at + worlds])
        table = _Table(policy, scenario, outcome, part, sampling)
        try:
            for step in range(steps):
                if not table.play(step):
                    break
        finally:
            table.close()
        first_steps += table.first_steps
        report(len(first_steps))
    return EvaluationResult(scenario.name, sampling, tuple(seeds), tuple(first_steps))


class _Table:
    """Some worlds, of which those that are over cost nothing any more."""

    def __init__(self, policy: VPTPolicy, scenario: Scenario, outcome: str, seeds: Sequence[int], sampling: bool
                 ) -> None:
        self._policy, self._outcome = policy, outcome
        self._height, self._width, _ = policy.config.image_shape
        self._worlds = [BlockWorld(scenario, agent_input=self._width == 128) for _ in seeds]
        # Children of the seed under a key of their own: the world draws from the seed itself.
        streams = [np.random.SeedSequence(seed, spawn_key=(9,)) for seed in seeds]
        self._rngs = [np.random.default_rng(stream) if sampling else None for stream in streams]
        self._pictures = [self._shrink(world.reset(seed=seed)[0])
                          for world, seed in zip(self._worlds, seeds, strict=True)]
        self._playing = list(range(len(seeds)))
        self._memory = policy.initial_state(len(seeds))
        self.first_steps: list[int | None] = [None] * len(seeds)

    def _shrink(self, observation: Observation) -> npt.NDArray[np.uint8]:
        return policy_frame(observation["pov"], self._height, self._width)

    def play(self, step: int) -> bool:
        """One step of every world that still plays; False when none does."""
        if not self._playing:
            return False
        frames = np.stack([self._pictures[i] for i in self._playing])
        first = torch.full((len(self._playing), 1), step == 0)
        with torch.inference_mode():
            out, self._memory = self._policy(torch.from_numpy(frames)[:, None], first, self._memory)
        buttons, camera = out.buttons[:, 0].numpy(), out.camera[:, 0].numpy()
        kept = [row for row, i in enumerate(self._playing)
                if self._step(i, step, draw_tokens(buttons[row], camera[row], self._rngs[i]))]
        if len(kept) < len(self._playing):
            self._memory = _rows(self._memory, kept)
            self._playing = [self._playing[row] for row in kept]
        return bool(self._playing)

    def _step(self, i: int, step: int, tokens: tuple[int, int]) -> bool:
        """Play one tick of world i; whether it plays on."""
        observation, _, terminated, truncated, info = self._worlds[i].step(from_policy(*tokens))
        if info["outcomes"][self._outcome]["value"]:
            self.first_steps[i] = step
            return False
        self._pictures[i] = self._shrink(observation)
        return not (terminated or truncated)

    def close(self) -> None:
        for world in self._worlds:
            world.close()


def _rows(state: VPTState, rows: Sequence[int]) -> VPTState:
    def pick(parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
        # Parts that were one tensor stay one: the policy computes shared masks once.
        found = {id(part): part[list(rows)] for part in parts}
        return tuple(found[id(part)] for part in parts)

    return VPTState(pick(state.keys), pick(state.values), pick(state.masks))
