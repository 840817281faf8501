"""An agent whose attention is written down, and its recordings: for analyses that must find what was planted."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fakes import FakeWorld, make_scenario

from harness.agent.agent import Agent, AgentOutput
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode
from harness.world.action import noop_action

WINDOW = 32
Scores = Callable[[int, int], float]
"""(step, age) to content or bias."""


class PlantedAttention(Agent):
    """One layer whose heads score frames by functions; attacks at some steps."""

    name = "planted-attention"
    description = "written attention"

    def __init__(self, content: Sequence[Scores], bias: Sequence[Scores] | None = None,
                 attacks: Sequence[int] = ()) -> None:
        self.content, self.bias = content, bias or [lambda step, age: 0.0] * len(content)
        self.attacks = set(attacks)

    def initial_state(self) -> int:
        return 0

    def act(self, observation: Mapping[str, Any], state: int, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        ages = range(WINDOW, -1, -1)  # the oldest key is always masked
        content, bias = (np.array([[one(state, age) for age in ages] for one in side]) for side in
                         (self.content, self.bias))
        seen = np.array([age <= state and age < WINDOW for age in ages])
        scores = np.where(seen, content + bias, -1e9)
        pattern = np.exp(scores - scores.max(-1, keepdims=True))
        pattern /= pattern.sum(-1, keepdims=True)
        cache = {"pattern": pattern, "attn_scores": scores, "rel_bias": bias}
        action = noop_action()
        action["attack"] = int(state in self.attacks)
        return AgentOutput(action, state + 1, activations={
            hook: cache[hook.partition("hook_")[2]].astype(np.float32) for hook in hooks})

    def hook_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {f"blocks.0.attn.hook_{kind}": ((len(self.content), WINDOW + 1), "float32")
                for kind in ("rel_bias", "attn_scores", "pattern")}

    def resolve_hooks(self, globs: Sequence[str]) -> list[str]:
        return [name for name in self.hook_shapes() if any(fnmatch.fnmatch(name, glob) for glob in globs)]


def record(folder: Path, agent: Agent, n: int, hooks: Sequence[str] = ("blocks.*",), seed: int = 0) -> Recording:
    with Recorder(folder) as recorder:
        run_episode(FakeWorld(make_scenario(n)), agent, seed=seed, observers=[recorder], hooks=list(hooks))
    return open_recording(recorder.path)
