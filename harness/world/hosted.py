"""A world as ``serve.py`` serves it to ``remote.py``: JSON values and arrays in, JSON values and arrays out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from harness.scenario.schema import Scenario
from harness.world.world import make_world

__all__ = ["HostedWorld"]


class HostedWorld:
    """One world of this process.

    Args:
        scenario: ``Scenario`` as JSON values.
        backend: As for ``make_world``.
        keywords: For the backend.
    """

    def __init__(self, scenario: Mapping[str, Any], backend: str, keywords: Mapping[str, Any]) -> None:
        self._world = make_world(Scenario.model_validate(scenario), backend, **keywords)

    def capabilities(self) -> Mapping[str, Any]:
        """The fields of ``Capabilities``."""
        return dataclasses.asdict(self._world.capabilities)

    def notes(self) -> Sequence[str]:
        """As ``World.notes``."""
        return self._world.notes()

    def reset(self, seed: int | None, options: dict[str, Any] | None) -> tuple[Any, Mapping[str, Any]]:
        """Picture and info."""
        observation, info = self._world.reset(seed=seed, options=options)
        return observation["pov"], info

    def step(self, action: Mapping[str, Any]) -> tuple[Any, bool, bool, Mapping[str, Any]]:
        """Picture, terminated, truncated, info."""
        observation, _, terminated, truncated, info = self._world.step(action)
        return observation["pov"], terminated, truncated, info

    def observe(self) -> tuple[Any, Mapping[str, Any]]:
        """Picture and info."""
        observation, info = self._world.observe()
        return observation["pov"], info

    def render(self) -> Any:
        """The picture."""
        return self._world.render()

    def world_state(self, segmentation: bool, depth: bool, blocks: bool) -> Mapping[str, Any]:
        """The fields of ``WorldState``."""
        state = self._world.world_state(segmentation=segmentation, depth=depth, blocks=blocks)
        # Not asdict: it would copy the arrays.
        fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
        sight, entities = state.looking_at, [dataclasses.asdict(entity) for entity in state.entities]
        records = {"player": dataclasses.asdict(state.player), "entities": entities,
                   "looking_at": None if sight is None else dataclasses.asdict(sight)}
        return {**fields, **records, "statistics": dict(state.statistics), "names": dict(state.names),
                "part_names": dict(state.part_names)}

    def picture_without(self, numbers: Sequence[int]) -> Any:
        """The picture."""
        return self._world.picture_without(numbers)

    def command(self, text: str) -> None:
        """As ``World.command``."""
        self._world.command(text)

    def snapshot(self) -> bytes:
        """As ``World.snapshot``."""
        return self._world.snapshot()

    def restore(self, snapshot: bytes) -> None:
        """As ``World.restore``."""
        self._world.restore(snapshot)

    def close(self) -> None:
        """As ``World.close``."""
        self._world.close()
