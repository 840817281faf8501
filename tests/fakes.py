"""A world and an agent without an engine and without a network, for tests of everything around them.

The world is a square of stripes that shifts with the player; the agent remembers the mean colour of the last 128
pictures, attends to them, and draws from a small distribution. Both keep every promise of their contracts: snapshots,
streams, hooks and byte-equal repetition.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from harness.agent.agent import Agent, AgentOutput
from harness.errors import HookError, WorldError
from harness.scenario.compile import compile_scenario
from harness.scenario.schema import Scenario
from harness.scenario.setup import WorldSetup
from harness.world.action import noop_action
from harness.world.observation import POV_SHAPE, PlayerState, WorldState
from harness.world.world import Capabilities, World

WINDOW, HEADS, LAYERS, WIDTH = 128, 2, 2, 8


def make_scenario(max_steps: int = 40, **more: Any) -> Scenario:
    return Scenario.model_validate({
        "name": "stripes", "episode": {"max_steps": max_steps},
        "outcomes": {"walked": {"moved": 1.5}, "hit": {"damaged": "any", "at_least": 2}}, **more})


class FakeWorld(World):
    """Walk along x with ``forward``; ``attack`` every third time leaves a damage event."""

    capabilities = Capabilities("fake", snapshots=True, deterministic=True)

    def _reset(self, setup: WorldSetup, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._pattern = rng.integers(0, 255, (POV_SHAPE[0] // 8, 200, 3), dtype=np.uint8)
        self._x, self._yaw, self._tick_number, self._hits = 0.0, 0.0, 0, 0
        self._statistics: dict[str, int] = {}
        self._events: tuple[dict[str, Any], ...] = ()

    def _tick(self, action: dict[str, Any]) -> None:
        self._tick_number += 1
        self._x += 0.25 * action["forward"] - 0.25 * action["back"]
        self._yaw += float(action["camera"][1])
        self._events = ()
        if action["attack"]:
            self._hits += 1
            if self._hits % 3 == 0:
                self._events = ({"type": "damage_entity", "tag": "target", "entity": "villager", "amount": 1.0},)
                self._statistics["damage_dealt"] = self._statistics.get("damage_dealt", 0) + 10

    def _pov(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        shift = int(round(self._x * 8 + self._yaw)) % 100
        small = self._pattern[:, shift:shift + 80].copy()
        small[0, :] = self._tick_number % 256
        return np.ascontiguousarray(small.repeat(8, axis=0).repeat(8, axis=1))

    def world_state(self, *, segmentation: bool = False, depth: bool = False, blocks: bool = False) -> WorldState:
        player = PlayerState((self._x, 100.0, 0.5), self._yaw, 0.0, (0.0, 0.0, 0.0), True, 20.0, 0, (None,) * 9)
        return WorldState(self._tick_number, 6000, player, (), dict(self._statistics), self._events, None)

    def snapshot(self) -> bytes:
        state = [self._x, self._yaw, self._tick_number, self._hits, self._statistics, self._events,
                 self._pattern.tolist(), self._steps, self._outcomes.save()]
        return json.dumps(state).encode()

    def restore(self, snapshot: bytes) -> None:
        try:
            (self._x, self._yaw, self._tick_number, self._hits, self._statistics, events, pattern, self._steps,
             outcomes) = json.loads(snapshot)
        except ValueError as problem:
            raise WorldError("no snapshot of stripes") from problem
        self.setup = self.setup or compile_scenario(self.scenario, seed=0)
        self._events, self._pattern = tuple(events), np.array(pattern, dtype=np.uint8)
        self._outcomes.load(outcomes)


class FakeAgent(Agent):
    """A softmax over nine actions, read from an attention over remembered colours."""

    name = "fake"
    description = "random weights (seed 0)"

    def __init__(self, sharpness: float = 1.0) -> None:
        rng = np.random.default_rng(0)
        self._embed = rng.normal(size=(3, WIDTH)).astype(np.float32)
        self._queries = rng.normal(size=(LAYERS, HEADS, WIDTH, WIDTH)).astype(np.float32)
        self._out = rng.normal(size=(WIDTH, 9)).astype(np.float32) * np.float32(sharpness)
        self._edits: list[tuple[str, Callable[..., Any]]] = []

    def initial_state(self) -> Any:
        return np.zeros((0, WIDTH), np.float32)

    def act(self, observation: Mapping[str, Any], state: Any, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        colour = observation["pov"][::16, ::16].reshape(-1, 3).mean(axis=0, dtype=np.float32) / np.float32(255)
        memory = np.concatenate([state, (colour @ self._embed)[None]])[-(WINDOW + 1):]
        hidden, cache = memory[-1], {}
        for layer in range(LAYERS):
            pattern = np.zeros((HEADS, WINDOW + 1), np.float32)
            for head in range(HEADS):
                scores = memory @ (self._queries[layer, head] @ hidden)
                weights = np.exp(scores - scores.max())
                pattern[head, -len(memory):] = weights / weights.sum()
            pattern = self._edit(f"blocks.{layer}.attn.hook_pattern", pattern)
            hidden = hidden + (pattern[:, -len(memory):] @ memory).mean(axis=0)
            cache[f"blocks.{layer}.attn.hook_pattern"] = pattern
            cache[f"blocks.{layer}.hook_resid_post"] = hidden.copy()
        logits = hidden @ self._out
        log_probs = (logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())).astype(np.float32)
        token = int(np.searchsorted(np.cumsum(np.exp(log_probs)), rng.random()).clip(0, 8))
        action = noop_action()
        action["forward"], action["attack"] = token % 3 == 1, token % 3 == 2
        action = {**action, "forward": int(action["forward"]), "attack": int(action["attack"])}
        action["camera"] = np.array([0.0, (token // 3 - 1) * 2.0], np.float32)
        return AgentOutput(
            action, memory[-WINDOW:], log_prob=float(log_probs[token]),
            entropy=float(-(np.exp(log_probs) * log_probs).sum()), value=float(hidden.sum()),
            tokens={"buttons": token}, log_probs={"buttons": log_probs}, activations={h: cache[h] for h in hooks})

    def _edit(self, name: str, value: Any) -> Any:
        for hook, edit in self._edits:
            if hook == name:
                changed = edit(value, name)
                value = value if changed is None else changed
        return value

    def hook_shapes(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        shapes: dict[str, tuple[tuple[int, ...], str]] = {}
        for layer in range(LAYERS):
            shapes[f"blocks.{layer}.attn.hook_pattern"] = ((HEADS, WINDOW + 1), "float32")
            shapes[f"blocks.{layer}.hook_resid_post"] = ((WIDTH,), "float32")
        return shapes

    def resolve_hooks(self, globs: Sequence[str]) -> list[str]:
        import fnmatch

        for glob in globs:
            if not fnmatch.filter(self.hook_shapes(), glob):
                raise HookError(f"no hook matches {glob!r}")
        return [name for name in self.hook_shapes() if any(fnmatch.fnmatch(name, g) for g in globs)]

    @contextlib.contextmanager
    def hooks(self, fwd_hooks: Sequence[tuple[str, Callable[..., Any]]]) -> Iterator[Any]:  # type: ignore[override]
        self._edits = list(fwd_hooks)
        try:
            yield self
        finally:
            self._edits = []

    def save_state(self, state: Any) -> dict[str, np.ndarray[Any, Any]]:
        return {"memory": state}

    def load_state(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        return arrays["memory"]
