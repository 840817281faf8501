"""An agent of six numbers whose attack is wired by hand, and the SAE that names them."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from harness.agent.action_mapping import BUTTON_NAMES, button_table, from_policy
from harness.agent.agent import AgentOutput, BatchAgent
from harness.agent.sae import Sae
from harness.errors import HookError

STREAM, HEADS, EMBED = "blocks.0.hook_resid_post", "blocks.0.attn.hook_z", "hook_embed"
AXES = {EMBED: ("b", "t", "d"), HEADS: ("b", "t", "h", "d_head"), STREAM: ("b", "t", "d")}
SKY, ROOF = 1, 2
ATTACK = int(np.flatnonzero((button_table().sum(1) == 1) & (button_table()[:, BUTTON_NAMES.index("attack")] == 1))[0])
NOTHING = int(np.flatnonzero(button_table().sum(1) == 0)[0])


class WiredAgent(BatchAgent):
    """It stands still, and holds attack while latent SKY (the top of the picture is sky) or ROOF (it is not) is on.

    Numbers 0 and 3 to 5 are always on, in strengths that the picture decides, and wired to nothing.
    """

    name, description, narrow = "wired", "wired by hand", True

    def __init__(self) -> None:
        self._active: list[tuple[str, Callable[[Any, Any], Any]]] = []
        self.policy = SimpleNamespace(hook_stack=SimpleNamespace(point=self._point))

    def initial_state(self) -> int:
        return 0

    def initial_states(self, n: int) -> int:
        return 0

    def memory_of(self, state: Any, row: int) -> int:
        return 0

    def act(self, observation: Any, state: Any, rng: Any, *, hooks: Sequence[str] = ()) -> AgentOutput:
        (found,), _ = self.act_together([observation], 0, [rng], [False], hooks=hooks)
        assert found is not None
        return found

    def act_together(self, observations: Any, state: Any, rngs: Any, first: Any, *, hooks: Sequence[str] = ()
                     ) -> tuple[list[AgentOutput | None], Any]:
        embeds = torch.tensor(np.stack([np.zeros(6, np.float32) if seen is None else _numbers(seen["pov"])
                                        for seen in observations]))[:, None]
        kept, margins = self._forward(embeds)
        found: list[AgentOutput | None] = []
        for row, seen in enumerate(observations):
            token = ATTACK if margins[row, 0] > 0 else NOTHING
            found.append(None if seen is None else AgentOutput(
                from_policy(token, 60), None, 0.0, 0.0, 0.0, {"buttons": token, "camera": 60}, {},
                {name: kept[name][row, 0].numpy() for name in hooks}))
        return found, 0

    def look_embedded(self, embeds: Any, state: Any) -> tuple[Any, Any]:
        _, margins = self._forward(embeds)
        buttons = torch.full((*margins.shape, len(button_table())), -30.0)
        buttons[..., NOTHING], buttons[..., ATTACK] = 0.0, margins
        return SimpleNamespace(buttons=buttons), 0

    def _forward(self, embeds: Any) -> tuple[dict[str, Any], Any]:
        x = self._through(EMBED, embeds)
        z = self._through(HEADS, x.reshape(*x.shape[:-1], 2, 3))
        stream = self._through(STREAM, z.reshape(*x.shape))
        return {EMBED: x, HEADS: z, STREAM: stream}, 10 * (stream[..., SKY] + stream[..., ROOF]) - 5

    def _through(self, name: str, x: Any) -> Any:
        for glob, fn in self._active:
            if fnmatch.fnmatch(name, glob):
                x = fn(x, self._point(name))
        return x

    def _point(self, name: str) -> Any:
        return SimpleNamespace(name=name, axes=AXES[name])

    @contextmanager
    def hooks(self, fwd_hooks: Sequence[tuple[str, Callable[..., Any]]]) -> Iterator[None]:  # type: ignore[override]
        before = self._active
        self._active = [*before, *fwd_hooks]
        try:
            yield
        finally:
            self._active = before

    def hook_shapes(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        return {EMBED: ((6,), "float32"), HEADS: ((2, 3), "float32"), STREAM: ((6,), "float32")}

    def hook_axes(self) -> Mapping[str, tuple[str, ...]]:
        return AXES

    def resolve_hooks(self, globs: Sequence[str]) -> list[str]:
        for glob in globs:
            if not fnmatch.filter(AXES, glob):
                raise HookError(f"no hook {glob}")
        return [name for name in AXES if any(fnmatch.fnmatch(name, glob) for glob in globs)]


def _numbers(pov: np.ndarray) -> np.ndarray:
    top = pov[:40].reshape(-1, 3).mean(0)
    sky = float(top[2] > 150 and top[2] > top[1])
    shades = pov[180:].mean() / 255 + 0.5, pov[..., 0].mean() / 255 + 0.5
    return np.array([1.0, sky, 1.0 - sky, *shades, 1.0], np.float32)


def wired_sae() -> Sae:
    """A latent for each of the six numbers."""
    return Sae("relu", torch.eye(6), torch.zeros(6), torch.eye(6), torch.zeros(6), metadata={"hook_name": STREAM})
