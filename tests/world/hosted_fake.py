"""``fakes.FakeWorld`` as ``serve.py`` serves it, with tricks: for ``test_remote.py``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness import registry
from harness.world.hosted import HostedWorld

registry.TABLES["harness.worlds"]["fake"] = "fakes:FakeWorld"


class HostedFake(HostedWorld):
    """``trick``: "size" sends a small picture for a jump, "die" dies in the third step of the first seed's world."""

    def __init__(self, scenario: Mapping[str, Any], backend: str, keywords: Mapping[str, Any]) -> None:
        self._trick, self._n, self._seed = keywords.get("trick"), 0, None
        super().__init__(scenario, backend, {k: v for k, v in keywords.items() if k != "trick"})

    def reset(self, seed: int | None, options: dict[str, Any] | None) -> tuple[Any, Mapping[str, Any]]:
        self._n = 0
        return super().reset(seed, options)

    def step(self, action: Mapping[str, Any]) -> tuple[Any, bool, bool, Mapping[str, Any]]:
        self._n += 1
        if self._trick == "die" and self._n == 3:
            os._exit(9)
        answer = super().step(action)
        if self._trick == "size" and action.get("jump"):
            return (np.zeros((36, 64, 3), np.uint8), *answer[1:])
        return answer
