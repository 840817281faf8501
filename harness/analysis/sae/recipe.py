"""What a sparse autoencoder is trained with."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from harness.errors import TrainingError, unknown_name

__all__ = ["KINDS", "SaeRecipe"]

KINDS = ("topk", "batchtopk", "relu", "jumprelu")


@dataclass(frozen=True)
class SaeRecipe:
    """How to train an SAE.

    Attributes:
        kind: ``topk``, ``batchtopk``, ``relu`` (with an L1 penalty) or ``jumprelu`` (with an L0 penalty).
        expansion: Latents per number of the activation.
        k: Latents kept per token (``topk``), or on average (``batchtopk``).
        sparsity: Factor of the penalty (``relu``, ``jumprelu``).
        bandwidth: Width of the window in which a threshold feels what crosses it (``jumprelu``).
        threshold: Of every latent at the start (``jumprelu``).
        tied: Whether the encoder is the decoder transposed.
        aux: Factor of the auxiliary loss for dead latents; 0 leaves it out.
        aux_k: Dead latents that it uses per token; None: half the width.
        dead_window: A latent that has not fired for so many tokens is dead.
        learning_rate: Of Adam, after a warm-up over the first twentieth; it falls to 0 over the last fifth.
        batch: Tokens per step.
        epochs: Passes over the training episodes.
        held_out: Share of the episodes that are not trained on.
        seed: Of weights and order.

    Raises:
        TrainingError: for a value out of range.
    """

    kind: str = "topk"
    expansion: float = 16.0
    k: int = 32
    sparsity: float = 1e-3
    bandwidth: float = 0.1
    threshold: float = 0.1
    tied: bool = False
    aux: float = 1 / 32
    aux_k: int | None = None
    dead_window: int = 100_000
    learning_rate: float = 1e-3
    batch: int = 4096
    epochs: float = 1.0
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("kind of SAE", self.kind, KINDS, error=TrainingError)
        for name in ("expansion", "k", "bandwidth", "threshold", "dead_window", "learning_rate", "batch", "epochs"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise TrainingError(f"{name}: expected a number above 0, got {value!r}")
        for name in ("sparsity", "aux", "seed"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise TrainingError(f"{name}: expected a number from 0 on, got {value!r}")
        if self.aux_k is not None and self.aux_k < 1:
            raise TrainingError(f"aux_k: expected 1 or more, got {self.aux_k}")

    def n_latents(self, width: int) -> int:
        """For an activation of ``width`` numbers.

        Raises:
            TrainingError: when it is fewer than ``k``.
        """
        n = round(self.expansion * width)
        if n < 1 or (self.kind in ("topk", "batchtopk") and n < self.k):
            raise TrainingError(f"{n} latents (expansion {self.expansion:g} of {width}) are fewer than k = {self.k}")
        return n

    def describe(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def read(cls, values: dict[str, Any]) -> SaeRecipe:
        """Back from ``describe``; keys that are none of its own are passed over."""
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})
