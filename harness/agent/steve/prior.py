"""The prior: from the embedding of a sentence to the embedding of a video that would show it.

A conditional variational autoencoder; acting needs its decoder alone. Its source is the released STEVE-1 code
(steve1/data/text_alignment/vae.py), read and written anew.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.agent.mineclip.config import EMBED
from harness.agent.vpt.weights import load_weights
from harness.errors import AgentError

__all__ = ["Prior"]

EPS = 1e-5


class Prior(nn.Module):
    """STEVE-1's prior. Its parameters have the names of the released file (20 tensors).

    Build it with ``from_released`` or ``random``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _layers(2 * EMBED)
        self.decoder = _layers(EMBED)

    @classmethod
    def from_released(cls, state_dict: Mapping[str, Tensor]) -> Prior:
        """A prior with given weights; nothing may be missing, foreign or misshapen.

        Raises:
            WeightsError: naming every weight that is missing, unexpected or misshapen.
        """
        with torch.device("meta"):
            prior = cls()
        load_weights(prior, state_dict)
        return prior.eval()

    @classmethod
    def random(cls, seed: int = 0) -> Prior:
        """An untrained prior; the same seed gives the same weights in every process."""
        with torch.device("meta"):
            shapes = {name: weight.shape for name, weight in cls().state_dict().items()}
        generator = torch.Generator().manual_seed(seed)
        weights = {}
        for name, shape in shapes.items():
            if len(shape) == 2:
                weights[name] = torch.randn(shape, generator=generator) / float(np.sqrt(shape[1]))
            else:
                weights[name] = torch.ones(shape) if name.endswith(("1.weight", "4.weight")) else torch.zeros(shape)
        return cls.from_released(weights)

    def forward(self, text: Tensor, z: Tensor | None = None) -> Tensor:
        """Goal embeddings [n, 512] for text embeddings [n, 512].

        Args:
            text: From MineCLIP's text tower, not brought to unit length.
            z: Normal numbers [n, 512]: the released code draws them anew for every episode. None takes their mean, 0.

        Raises:
            AgentError: for other shapes.
        """
        z = torch.zeros_like(text) if z is None else z
        if text.ndim != 2 or text.shape[1] != EMBED or z.shape != text.shape:
            raise AgentError(f"the prior: expected text and z of [n, {EMBED}], got {list(text.shape)} and "
                             f"{list(z.shape)}")
        return _run(self.decoder, torch.cat((z, text), -1))

    def encode(self, video: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance [n, 512] of z for pairs of embeddings; only training used it."""
        mean, log_variance = _run(self.encoder, torch.cat((video, text), -1)).chunk(2, -1)
        return mean, log_variance


def _layers(n_out: int) -> nn.ModuleDict:
    """Linear, LayerNorm, (ReLU), Linear, LayerNorm, (ReLU), Linear, numbered as in the released file."""
    return nn.ModuleDict({"0": nn.Linear(2 * EMBED, EMBED), "1": nn.LayerNorm(EMBED, eps=EPS),
                          "3": nn.Linear(EMBED, EMBED), "4": nn.LayerNorm(EMBED, eps=EPS),
                          "6": nn.Linear(EMBED, n_out)})


def _run(layers: nn.ModuleDict, x: Tensor) -> Tensor:
    for linear, norm in (("0", "1"), ("3", "4")):
        x = F.relu(layers[norm](layers[linear](x)))
    out: Tensor = layers["6"](x)
    return out
