"""Small worlds for tests, without a picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.scenario.catalogue import catalogue
from harness.scenario.setup import EntitySetup, Fill, PlayerSetup, WorldSetup
from harness.world.action import noop_action
from harness.world.blockworld.simulation import Simulation


def world(*parts: Fill | EntitySetup, seed: int = 1, settle: int = 2,
          at: tuple[float, float, float] = (0.5, 100.0, 0.5), yaw: float = 0.0, pitch: float = 0.0,
          hotbar: dict[int, tuple[str, int]] | None = None, health: float = 20.0, **rules: bool | int) -> Simulation:
    fills = tuple(part for part in parts if isinstance(part, Fill))
    entities = tuple(part for part in parts if isinstance(part, EntitySetup))
    setup = WorldSetup(
        name="test", seed=seed, fills=fills, entities=entities, rules={**catalogue().rules, **rules},
        player=PlayerSetup(position=at, yaw=yaw, pitch=pitch, hotbar=hotbar or {}, health=health))
    simulation = Simulation(setup, seed)
    play(simulation, settle)
    return simulation


def action(pitch: float = 0.0, yaw: float = 0.0, **keys: int) -> dict[str, Any]:
    full = noop_action()
    full["camera"] = np.array([pitch, yaw], dtype=np.float32)
    names = {f"hotbar_{i}": f"hotbar.{i}" for i in range(1, 10)}
    for key, value in keys.items():
        assert names.get(key, key) in full
        full[names.get(key, key)] = value
    return full


def play(simulation: Simulation, n: int = 1, **keys: Any) -> list[dict[str, Any]]:
    """Play n ticks with the same keys; every event on the way."""
    events = []
    for _ in range(n):
        simulation.tick(action(**keys))
        events += simulation.events()
    return events


def block(x: int, y: int, z: int, name: str) -> Fill:
    return Fill((x, y, z), (x, y, z), name)


def creature(kind: str = "villager", at: tuple[float, float, float] = (0.5, 100.0, 2.5), **more: Any) -> EntitySetup:
    return EntitySetup(type=kind, position=at, **{"tag": "target", "yaw": 180.0, "ai": False, **more})
