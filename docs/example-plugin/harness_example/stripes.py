"""A world: a wall of coloured stripes to walk along."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import HarnessError, WorldError
from harness.scenario.compile import compile_scenario
from harness.scenario.setup import WorldSetup
from harness.world.observation import POV_SHAPE, PlayerState, WorldState
from harness.world.world import Capabilities, World

WIDTH = 8
"""Pixels of a stripe."""


class StripesWorld(World):
    """Stripes whose colours come from the seed; ``forward`` and ``back`` walk along them, turning moves them by.

    It builds nothing of its scenario, so blocks and creatures are not there; ``moved``, ``turned`` and ``pressed`` are
    outcomes that it can count.
    """

    capabilities = Capabilities("stripes", snapshots=True, deterministic=True)

    def _reset(self, setup: WorldSetup, seed: int) -> None:
        self._seed, self._ticks, self._x, self._yaw = seed, 0, 0.0, 0.0

    def _tick(self, action: dict[str, Any]) -> None:
        self._ticks += 1
        self._x += 0.25 * (action["forward"] - action["back"])
        self._yaw += float(action["camera"][1])

    def _pov(self) -> npt.NDArray[np.uint8]:
        """uint8 [360, 640, 3]; a fresh array, since those who get it may keep it."""
        height, width, _ = POV_SHAPE
        colours = np.random.default_rng(self._seed).integers(0, 256, (100, 3), dtype=np.uint8)
        shift = round(WIDTH * self._x + self._yaw)
        row = colours[(np.arange(width) + shift) // WIDTH % len(colours)]
        return np.tile(row, (height, 1, 1))

    def world_state(self, *, segmentation: bool = False, depth: bool = False, blocks: bool = False) -> WorldState:
        """Where the player is; there is nobody else."""
        player = PlayerState((self._x, 100.0, 0.5), self._yaw, 0.0, (0.0, 0.0, 0.0), True, 20.0, 0, (None,) * 9)
        return WorldState(self._ticks, 6000, player, (), {}, (), None)

    def snapshot(self) -> bytes:
        """Its own numbers, and those that the base class counts with."""
        return json.dumps([self._seed, self._ticks, self._x, self._yaw, self._steps, self._outcomes.save()]).encode()

    def restore(self, snapshot: bytes) -> None:
        """Back from ``snapshot``.

        Raises:
            WorldError: for bytes that are none of its own; nothing is changed then.
        """
        try:
            seed, ticks, x, yaw, steps, outcomes = json.loads(snapshot)
            self._outcomes.load(outcomes)
        except (ValueError, TypeError, KeyError, AttributeError, HarnessError) as problem:
            raise WorldError(f"these bytes are no snapshot of stripes: {problem}") from problem
        self.setup = self.setup or compile_scenario(self.scenario, seed=seed)
        self._seed, self._ticks, self._x, self._yaw, self._steps = seed, ticks, x, yaw, steps
