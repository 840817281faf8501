"""The network that learns: losses, optimiser, memory carried from chunk to chunk."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.agent.action_mapping import BUTTON_NAMES, NULL_CAMERA, button_table, camera_off
from harness.agent.mineclip.config import EMBED
from harness.agent.steve.goals import invented_goal
from harness.agent.steve.policy import StevePolicy
from harness.agent.vpt.config import VPTConfig
from harness.agent.vpt.policy import VPTOutput, VPTPolicy
from harness.agent.vpt.state import VPTState
from harness.training.recipe import Recipe
from harness.training.replay_buffer import Chunk

__all__ = ["Learner", "Measured", "draw_tokens", "image_precision"]

CROSSHAIR = 4
"""Classes of the auxiliary head for what is under the crosshair; three more outputs: in view, bearing, distance."""
_ATTACK = BUTTON_NAMES.index("attack")


@dataclass(frozen=True)
class Measured:
    """One optimiser step, frame by frame: float32 [n] unless said otherwise.

    Attributes:
        loss: What was minimised (mean).
        buttons: Cross-entropy of the buttons (nats).
        camera: Cross-entropy of the camera.
        auxiliary: Auxiliary loss (mean).
        attack: Probability of attack on the frames where the teacher attacks.
        keys: bool [n, 20]: whether the most likely combination agrees with the teacher on each key.
        turns: bool [n]: whether the most likely camera bin is the teacher's.
        labels: int64 [n, 2].
        gradient_norm: Before clipping.
    """

    loss: float
    buttons: npt.NDArray[np.float32]
    camera: npt.NDArray[np.float32]
    auxiliary: float
    attack: npt.NDArray[np.float32]
    keys: npt.NDArray[np.bool_]
    turns: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.int64]
    gradient_norm: float

    @property
    def finite(self) -> bool:
        """Whether weights may follow this step."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


def image_precision(asked: str) -> str:
    """``float32`` or ``bfloat16`` for a recipe's ``precision``.

    A CPU without instructions for bfloat16 computes it by emulation, more than ten times slower than float32.
    """
    if asked != "auto":
        return asked
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "float32"
    return "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


class Learner:
    """A policy in training.

    Args:
        config: Its sizes.
        recipe: How it learns.
        weights: To start from; None starts from random weights with the recipe's seed.

    Attributes:
        policy: In training; the names of its parameters are the released ones.
        precision: Of the image network: ``float32`` or ``bfloat16``.
        auxiliary: A linear head on the image network's ``dense`` output; no part of the deployed policy.
        optimiser: AdamW over both.
        memory: Of the streams, detached.
    """

    def __init__(self, config: VPTConfig, recipe: Recipe, weights: dict[str, Tensor] | None = None) -> None:
        self.recipe, self.precision = recipe, image_precision(recipe.precision)
        kind = StevePolicy if recipe.goals else VPTPolicy
        self.policy = kind.random(config, recipe.seed) if weights is None else kind.from_config(config, weights)
        self._goals = torch.from_numpy(np.stack([np.zeros(EMBED, np.float32), *map(invented_goal, recipe.goals)]))
        width = self.policy.state_dict()["net.img_process.cnn.dense.layer.weight"].shape[0]
        self.auxiliary = nn.Linear(width, CROSSHAIR + 3)
        nn.init.zeros_(self.auxiliary.weight)
        nn.init.zeros_(self.auxiliary.bias)
        self.optimiser = self._make_optimiser()
        self.memory = self.policy.initial_state(recipe.streams)
        self._attacking = torch.from_numpy(button_table()[:, _ATTACK] != 0)
        self._table = button_table()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What is trained, by name. The value head is not: nothing here has rewards."""
        for name, parameter in self.policy.named_parameters():
            if parameter.requires_grad and not name.startswith("value_head."):
                yield name, parameter
        for name, parameter in self.auxiliary.named_parameters():
            yield f"auxiliary.{name}", parameter

    def _make_optimiser(self) -> torch.optim.AdamW:
        settings = self.recipe.optimiser
        dense = [p for n, p in self.named_parameters() if ".cnn.dense." in n]
        rest = [p for n, p in self.named_parameters() if ".cnn.dense." not in n]
        groups = [{"params": rest, "factor": 1.0}, {"params": dense, "factor": settings.dense_factor}]
        return torch.optim.AdamW(groups, lr=0.0, betas=settings.betas, eps=settings.epsilon,
                                 weight_decay=settings.weight_decay)

    def learn(self, chunk: Chunk, rate: float) -> Measured:
        """One optimiser step, unless the loss is not finite: then nothing has changed but the gradients."""
        out, dense, after = self._look(chunk)
        labels = torch.from_numpy(chunk.labels).flatten(0, 1)
        buttons = F.nll_loss(out.buttons.flatten(0, 1), labels[:, 0], reduction="none")
        camera = F.nll_loss(out.camera.flatten(0, 1), labels[:, 1], reduction="none")
        auxiliary = self._auxiliary_loss(dense.flatten(0, 1), torch.from_numpy(chunk.hints).flatten(0, 1))
        loss = buttons.mean() + camera.mean() + self.recipe.auxiliary * auxiliary
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_([p for _, p in self.named_parameters()], self.recipe.optimiser.clip)
        measured = self._measure(out, labels, loss, buttons, camera, auxiliary, float(norm))
        if measured.finite:
            for group in self.optimiser.param_groups:
                group["lr"] = rate * group["factor"]
            self.optimiser.step()
            self.memory = _detached(after)
        return measured

    def _look(self, chunk: Chunk) -> tuple[VPTOutput, Tensor, VPTState]:
        kept: list[Tensor] = []

        def keep(x: Tensor, hook: Any) -> None:
            kept.append(x)

        low = self.precision == "bfloat16"
        seen = torch.from_numpy(chunk.frames)
        with self.policy.hooks([("cnn.hook_dense", keep)]):
            # Only the image network gains from half the bits; the rest is small and stays exact.
            with torch.autocast("cpu", torch.bfloat16) if low else contextlib.nullcontext():
                frozen = seen.dtype == torch.float16
                embedded = self.policy.embed_maps(seen.float()) if frozen else self.policy.embed(seen)
            embedded = embedded.float()
            if isinstance(self.policy, StevePolicy):
                numbers = torch.zeros(chunk.first.shape, dtype=torch.int64) if chunk.goals is None else \
                    torch.from_numpy(chunk.goals)
                embedded = self.policy.with_goal(embedded, self._goals[numbers])
            out, after = self.policy.forward_embedded(embedded, torch.from_numpy(chunk.first), self.memory)
        return out, kept[0].float(), after

    @torch.inference_mode()
    def see(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """What the convolution stacks see: frames uint8 [t, H, W, 3] to float16 [t, n_flat]."""
        return self.policy.maps(torch.from_numpy(frames)[None])[0].half().numpy()

    def _auxiliary_loss(self, dense: Tensor, hints: Tensor) -> Tensor:
        """What is under the crosshair, and where the teacher's target is: it gives the image network a start."""
        said = self.auxiliary(dense)
        seen = hints[:, 1]
        crosshair = F.cross_entropy(said[:, :CROSSHAIR], hints[:, 0].long())
        in_view = F.binary_cross_entropy_with_logits(said[:, CROSSHAIR], seen)
        off = (said[:, CROSSHAIR + 1:] - hints[:, 2:]).square().mean(1)
        total: Tensor = crosshair + in_view + (off * seen).sum() / seen.sum().clamp(min=1.0)
        return total

    @torch.no_grad()
    def _measure(self, out: VPTOutput, labels: Tensor, loss: Tensor, buttons: Tensor, camera: Tensor,
                 auxiliary: Tensor, norm: float) -> Measured:
        log_probs = out.buttons.flatten(0, 1)
        attacked = self._attacking[labels[:, 0]]
        chance = log_probs[attacked][:, self._attacking].exp().sum(1)
        likely = log_probs.argmax(-1).numpy()
        keys = self._table[likely] == self._table[labels[:, 0].numpy()]
        turns = (out.camera.flatten(0, 1).argmax(-1) == labels[:, 1]).numpy()
        return Measured(float(loss), buttons.numpy(), camera.numpy(), float(auxiliary), chance.numpy(), keys, turns,
                        labels.numpy(), norm)

    @torch.inference_mode()
    def act(self, frames: npt.NDArray[np.uint8], first: npt.NDArray[np.bool_], memory: VPTState,
            goals: npt.NDArray[np.int64] | None = None
            ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], VPTState]:
        """One step of several worlds: frames uint8 [b, H, W, 3], first [b], numbers of goals [b].

        Returns:
            Log-probabilities of buttons [b, 8641] and camera [b, 121], and the memory after it.
        """
        told = () if goals is None or not isinstance(self.policy, StevePolicy) else \
            (self._goals[torch.from_numpy(goals)],)
        out, after = self.policy(torch.from_numpy(frames)[:, None], torch.from_numpy(first)[:, None], memory, *told)
        return out.buttons[:, 0].numpy(), out.camera[:, 0].numpy(), after


def draw_tokens(buttons: npt.NDArray[np.float32], camera: npt.NDArray[np.float32],
                rng: np.random.Generator | None) -> tuple[int, int]:
    """One (buttons, camera) pair from log-probabilities [8641] and [121]; the most likely one without ``rng``.

    Drawn as the agent draws: ``argmax(logp - log(-log u))``, camera first. A camera that the button combination
    switches off is reported as no turn.
    """
    drawn = []
    for log_probs in (camera, buttons):
        if rng is None:
            drawn.append(int(log_probs.argmax()))
        else:
            u = rng.random(len(log_probs))
            drawn.append(int((log_probs - np.log(-np.log(np.maximum(u, 1e-300)))).argmax()))
    turn = NULL_CAMERA if camera_off()[drawn[1]] else drawn[0]
    return drawn[1], turn


def _detached(state: VPTState) -> VPTState:
    return replace(state, keys=tuple(k.detach() for k in state.keys), values=tuple(v.detach() for v in state.values))
