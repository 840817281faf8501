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

    Raises:
        ScenarioError: for an unknown scenario or parameter.
        TrainingError: for an empty list of values.
    """

    def __init__(self, choices: Sequence[SceneChoice]) -> None:
        self._choices = tuple(choices)
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
        # A stream of its own: the world draws from SeedSequence(seed) without a key.
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(7,)))
        choice = self._choices[int(rng.choice(len(self._choices), p=self._shares))]
        values = {name: v[int(rng.integers(len(v)))] if isinstance(v, list) else v
                  for name, v in choice.parameters.items()}
        return self._load(choice.scenario, values)

    @staticmethod
    def draw_seed(rng: np.random.Generator) -> int:
        """A seed for a training episode."""
        return int(rng.integers(FIRST_TRAINING_SEED, 2**31))
