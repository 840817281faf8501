"""The part of a policy below a hook, for many edits of one activation side by side.

What a hook holds at a step does not depend on what was edited in the same hook at earlier steps: memory carries from
each block to later blocks alone. So a recording's activations are listened to once, and each edit is a row of a batch
that begins at the hook's own block, with a memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.agent.action_mapping import BUTTON_NAMES, button_table
from harness.agent.agent import Agent, AgentOutput
from harness.agent.hooks import HookPoint
from harness.agent.steve.agent import SteveAgent
from harness.agent.vpt.agent import VPTAgent
from harness.agent.vpt.policy import VPTOutput
from harness.agent.vpt.state import VPTState
from harness.analysis.open_loop import listen
from harness.analysis.sae.tokens import Tokens, token_layout
from harness.errors import AgentError
from harness.recording.recording import Recording
from harness.rollout import spawn_streams

__all__ = ["Downstream", "Edit", "Heard", "beginning", "unedited"]

Edit = Callable[[Tensor, slice], Tensor]
"""From tokens and the pictures that they are of to the tokens of each row."""

CHUNK = 16
"""Pictures per pass."""
_NUMBERS = 1 << 25
"""Numbers of memory, and of button classes, that the rows of a batch may have together."""


@dataclass(frozen=True)
class Heard:
    """A recording's activations.

    Attributes:
        tokens: At the hook, float32 [t, token, d].
        entry: What goes into the hook's block, float32 [t, width]; None where that is the hook itself.
        state: The memory before the first picture.
    """

    tokens: npt.NDArray[np.float32]
    entry: npt.NDArray[np.float32] | None
    state: VPTState


class Downstream:
    """What an agent's policy does from a hook on.

    Args:
        agent: With a VPT policy.
        hook: A hook that holds vectors.
        keys: Buttons whose probabilities are wanted.

    Attributes:
        layout: The hook's tokens.
        rows: Edits that fit one batch.

    Raises:
        AgentError: for an agent without such a policy, or a guided one.
        HookError: for a hook that it has not, or that holds no vectors.
    """

    def __init__(self, agent: Agent, hook: str, keys: tuple[str, ...]) -> None:
        if not isinstance(agent, VPTAgent):
            raise AgentError(f"{agent.name} has no network to look into",
                             hint="use an agent with one, such as vpt-nano")
        if isinstance(agent, SteveAgent) and agent.rows:
            raise AgentError(f"{agent.name} is guided: it looks twice at each picture",
                             hint="load it without cond_scale")
        (self.hook,) = agent.resolve_hooks([hook])
        self.agent, config = agent, agent.policy.config
        self.layout: Tokens = token_layout(self.hook, agent.hook_axes()[self.hook], agent.hook_shapes()[self.hook][0])
        self._start, self._entry = _begins(self.hook, config.blocks, told=isinstance(agent, SteveAgent))
        table = button_table()[:, [BUTTON_NAMES.index(key) for key in keys]] != 0
        self._held = torch.from_numpy(table).float().to(agent.policy.device)
        memory = 2 * config.blocks * config.window * config.hidsize
        self.rows = max(1, min(256, _NUMBERS // max(memory, CHUNK * len(table))))

    def listen(self, recording: Recording, tick: Callable[[int], None]) -> Heard:
        """The agent over a recording's pictures, once."""
        return self._heard((each for outputs in listen(recording, self.agent, self._names, tick) for each in outputs),
                           beginning(self.agent, recording))

    def look(self, pictures: npt.NDArray[np.uint8]) -> Heard:
        """The agent over pictures [t, H, W, 3], from its first memory on."""
        state = self.agent.initial_state()
        outputs, _ = self.agent.trace_frames(pictures, state, self._names)
        return self._heard(iter(outputs), state)

    @property
    def _names(self) -> list[str]:
        return [self.hook] if self._entry in (None, self.hook) else [self.hook, str(self._entry)]

    def _heard(self, outputs: Iterator[AgentOutput], state: VPTState) -> Heard:
        found: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in self._names}
        for output in outputs:
            for name, parts in found.items():
                parts.append(np.asarray(output.activations[name], np.float32))
        values = [np.stack(parts) for parts in found.values()]
        tokens = self.layout.split(values[0]).reshape(len(values[0]), -1, self.layout.width)
        return Heard(tokens, values[1] if len(values) > 1 else None, state)

    def probabilities(self, heard: Heard, n: int, edit: Edit) -> Iterator[tuple[slice, Tensor]]:
        """P(key) under n edits.

        Args:
            heard: Of a recording.
            n: Edits, at most ``rows``.
            edit: From tokens [t, token, d], and which pictures they are of, to those of each row, [n, t, token, d].

        Yields:
            Which pictures, and the probability that each key is held down, [n, t, key].
        """
        state = heard.state.repeated(n)
        for start in range(0, len(heard.tokens), CHUNK):
            cut = slice(start, min(start + CHUNK, len(heard.tokens)))
            with torch.inference_mode():
                edited = edit(torch.from_numpy(heard.tokens[cut]), cut)
                out, state = self._run(edited, None if heard.entry is None else heard.entry[cut], state)
                yield cut, out.buttons.exp() @ self._held

    def _run(self, edited: Tensor, entry: npt.NDArray[np.float32] | None, state: VPTState
             ) -> tuple[VPTOutput, VPTState]:
        n, t = edited.shape[:2]
        own = edited.view(n, t, *self.layout.shape, self.layout.width)
        own = own.movedim(-1, 2) if self.layout.moved else own
        if self._entry == self.hook:
            return self.agent.look_embedded(own, state, self._start)

        def put(x: Tensor, hook: HookPoint) -> Tensor:
            return own.to(x).reshape(x.shape)

        if entry is None:  # in the image network, which looks at pictures one by one, so rows lie on the time axis
            height, width, _ = self.agent.policy.config.image_shape
            blank = torch.zeros((1, n * t, height, width, 3), dtype=torch.uint8, device=self.agent.policy.device)
            with self.agent.hooks([(self.hook, put)]):
                embeds = self.agent.policy.embed(blank)
            return self.agent.look_embedded(embeds.view(n, t, -1), state)
        with self.agent.hooks([(self.hook, put)]):
            return self.agent.look_embedded(torch.from_numpy(entry).expand(n, -1, -1), state, self._start)


def beginning(agent: VPTAgent, recording: Recording) -> VPTState:
    """The memory before a recording's first picture, with the goal that the episode drew."""
    if isinstance(agent, SteveAgent):
        return agent.begin(agent.initial_state(), spawn_streams(recording.seed)[1])
    return agent.initial_state()


def unedited(x: Tensor, cut: slice) -> Tensor:
    """One row of nothing."""
    return x[None]


def _begins(hook: str, blocks: int, *, told: bool) -> tuple[int, str | None]:
    """The block to begin at, and the hook whose value goes into it; None: the image network runs."""
    if hook.startswith("cnn."):
        return 0, None
    if told or hook == "hook_embed":  # a goal is added to the embedding
        return 0, "hook_embed"
    words = hook.split(".")
    if words[0] != "blocks":
        return blocks, f"blocks.{blocks - 1}.hook_resid_post"
    block = int(words[1])
    if words[2:] == ["hook_resid_post"]:
        return block + 1, hook
    return block, f"blocks.{block}.hook_resid_pre"
