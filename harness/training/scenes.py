"""Where training happens: a mixture of scenarios, one drawn for every episode from the episode's seed alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.errors import TrainingError
from harness.scenario.compile import compile_scenario
from harness.scenario.load import load_scenario
from harness.scenario.schema import Scenario
from harness.training.recipe import SceneChoice

__all__ = ["FIRST_TRAINING_SEED", "Scenes"]

FIRST_TRAINING_SEED = 1_000_000_000
"""Training episodes have seeds from here to 2**31; everything below is held out."""


class Scenes:
    """A mixture of scenarios.

    Args:
        choices: What to mix, by share.
        dropout: Share of the episodes with a goal in which it is left out.

    Attributes:
        goals: Names of the goals, each once; in episodes they are numbers from 1 on, and 0 is no goal.

    Raises:
        ScenarioError: for an unknown scenario or parameter.
        TrainingError: for an empty list of values.
    """

    def __init__(self, choices: Sequence[SceneChoice], dropout: float = 0.0) -> None:
        self._choices, self._dropout = tuple(choices), dropout
        self.goals = tuple(dict.fromkeys(choice.goal for choice in choices if choice.goal is not None))
        self._loaded: dict[str, Scenario] = {}
        shares = np.array([choice.share for choice in choices], dtype=np.float64)
        self._shares = shares / shares.sum()
        for choice in self._choices:
            for name, values in choice.parameters.items():
                if values == []:
                    raise TrainingError(f"scenes: {choice.scenario}: {name}: expected at least one value")
            # Each value is tried once, so that a mistake shows now and not in the middle of the night.
            for i in range(max((len(v) for v in choice.parameters.values() if isinstance(v, list)), default=1)):
                picked = {name: v[i % len(v)] if isinstance(v, list) else v for name, v in choice.parameters.items()}
                compile_scenario(self._load(choice.scenario, picked), seed=0)

    def _load(self, name: str, parameters: dict[str, Any]) -> Scenario:
        key = json.dumps([name, parameters])
        if key not in self._loaded:
            self._loaded[key] = load_scenario(name, parameters=parameters)
        return self._loaded[key]

    def scenario(self, seed: int) -> Scenario:
        """The scenario of the episode with this seed; the seed also decides its world."""
        choice, rng = self._choice(seed)
        values = {name: v[int(rng.integers(len(v)))] if isinstance(v, list) else v
                  for name, v in choice.parameters.items()}
        return self._load(choice.scenario, values)

    def _choice(self, seed: int) -> tuple[SceneChoice, np.random.Generator]:
        # A stream of its own: the world draws from SeedSequence(seed) without a key.
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(7,)))
        return self._choices[int(rng.choice(len(self._choices), p=self._shares))], rng

    def teacher(self, seed: int) -> str | None:
        """Who demonstrates in the episode with this seed; None for the recipe's teacher."""
        return self._choice(seed)[0].teacher

    def goal(self, seed: int) -> int:
        """The number of what the learner is told in the episode with this seed; 0 for nothing."""
        goal = self._choice(seed)[0].goal
        if goal is None:
            return 0
        dropped = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(9,))).random() < self._dropout
        return 0 if dropped else 1 + self.goals.index(goal)

    @staticmethod
    def draw_seed(rng: np.random.Generator) -> int:
        """A seed for a training episode."""
        return int(rng.integers(FIRST_TRAINING_SEED, 2**31))
