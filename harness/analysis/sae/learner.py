"""One sparse autoencoder while it learns: losses, gradients, dead latents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.agent.sae import Sae
from harness.analysis.sae.recipe import SaeRecipe
from harness.analysis.sae.sparse import decode_chosen, encode_chosen
from harness.errors import TrainingError

__all__ = ["SaeLearner"]

Float = npt.NDArray[np.float32]


class _Jump(torch.autograd.Function):
    """JumpReLU z H(z - theta), and the gate H(z - theta) itself.

    Gradients by the straight-through estimators of Rajamanoharan et al. (2024), equations 11 and 12, with a rectangle K
    of width eps: dJ/dz = H(z - theta), dJ/dtheta = -theta/eps K((z - theta)/eps), dH/dtheta = -1/eps K(...), dH/dz = 0.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, theta: Tensor, width: float) -> tuple[Tensor, Tensor]:
        gate = (z > theta).to(z)
        ctx.save_for_backward(z, theta, gate)
        ctx.width = width
        return z * gate, gate

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        z, theta, gate = ctx.saved_tensors
        near = ((z - theta).abs() < ctx.width / 2).to(z) / ctx.width
        return gradients[0] * gate, -(near * (theta * gradients[0] + gradients[1])).sum(0), None


class SaeLearner:
    """An SAE and its optimiser.

    Activations are scaled by one factor so that the mean of their squared norm is d; the trained SAE takes and gives
    them as they are. With e = x - x̂, and sums over the d numbers of a token:

    * TopK and BatchTopK minimise FVU + aux * AuxK, FVU = sum|e|^2 / sum|x - mean|^2 over the batch, and AuxK the same
      share of e that the ``aux_k`` dead latents of largest pre-activation leave unexplained (Gao et al. 2024, appendix
      A.2; without a ReLU, as EleutherAI's sparsify and SAELens have it, so that the most dead of latents learns).
    * ReLU: mean(|e|^2 / d + sparsity * sum_j f_j |W_dec,j|) (Bricken et al. 2023; the norm: Conerly et al. 2024).
    * JumpReLU: mean(|e|^2 / d + sparsity * L0) (Rajamanoharan et al. 2024, equation 9).

    The last two have AuxK too unless ``aux`` is 0. Directions keep norm 1: the part of a gradient along its direction
    is taken away before a step, and the norm is put right after it (Bricken et al. 2023).

    Args:
        recipe: How.
        sample: Activations [n, d] that set scale, bias and first weights: the decoder's bias is their geometric median
            (Weiszfeld's iteration), its directions are random, the encoder its transpose.
        n_steps: Steps in all, for the learning rate.
    """

    def __init__(self, recipe: SaeRecipe, sample: Float, n_steps: int) -> None:
        d = sample.shape[1]
        m = recipe.n_latents(d)
        x = torch.from_numpy(np.ascontiguousarray(sample, np.float32))
        square = float(x.double().square().sum(1).mean())
        if not square > 0:
            raise TrainingError("all activations are 0, so there is nothing to learn")
        self.recipe, self.n_steps = recipe, n_steps
        self.scale = math.sqrt(d / square)
        generator = torch.Generator().manual_seed(recipe.seed)
        directions = torch.randn(m, d, generator=generator)
        directions /= directions.norm(dim=1, keepdim=True)
        self.decoder = directions.requires_grad_()
        self.encoder = self.decoder if recipe.tied else directions.detach().clone().requires_grad_()
        self.b_enc = torch.zeros(m, requires_grad=True)
        self.b_dec = geometric_median(x * self.scale).requires_grad_()
        self.log_threshold = torch.full((m,), math.log(recipe.threshold), requires_grad=recipe.kind == "jumprelu")
        self.idle = torch.zeros(m, dtype=torch.long)
        self.cut = torch.zeros(2, dtype=torch.float64)
        self.step_number, self.n_tokens = 0, 0
        self._optimiser = torch.optim.Adam(self._parameters().values(), lr=recipe.learning_rate, betas=(0.9, 0.999),
                                           fused=True)

    @property
    def n_dead(self) -> int:
        """Latents that have not fired within the window."""
        return int(self._dead().sum())

    def step(self, batch: Float) -> dict[str, float]:
        """One optimiser step on activations [b, d]; what it measured, before the step.

        Raises:
            TrainingError: when the loss is no longer finite.
        """
        x = torch.from_numpy(batch) * self.scale
        dead = self._dead()
        out, fired, l0, penalty = self._forward(x)
        error = x - out
        total = (x - x.mean(0)).square().sum().clamp(min=1e-12)
        fvu = error.square().sum() / total
        loss = fvu if self.recipe.kind in ("topk", "batchtopk") else error.square().mean() + penalty
        aux = self._auxiliary(x, error.detach(), dead) if self.recipe.aux and bool(dead.any()) else None
        if aux is not None:
            loss = loss + self.recipe.aux * aux
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"the loss is {value} at step {self.step_number + 1}",
                                hint="lower --learning-rate")
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._update()
        self.idle = torch.where(fired, 0, self.idle + len(x))
        self.step_number, self.n_tokens = self.step_number + 1, self.n_tokens + len(x)
        return {"loss": value, "fvu": float(fvu.detach()), "l0": l0, "aux": 0.0 if aux is None else float(aux.detach()),
                "dead": int(dead.sum())}

    def sae(self, metadata: Mapping[str, Any]) -> Sae:
        """What was learned, for activations as they are (the scale is folded into biases and thresholds)."""
        kind, threshold = self.recipe.kind, None
        if kind == "jumprelu":
            threshold = self.log_threshold.detach().exp() / self.scale
        elif kind == "batchtopk":
            threshold = torch.full_like(self.b_enc.detach(), self._cut() / self.scale)
        return Sae("jumprelu" if kind == "batchtopk" else kind, W_enc=self.encoder.detach().T.clone(),
                   b_enc=self.b_enc.detach() / self.scale, W_dec=self.decoder.detach().clone(),
                   b_dec=self.b_dec.detach() / self.scale, k=self.recipe.k if kind == "topk" else None,
                   threshold=threshold, metadata=metadata)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that decides how it goes on, by name."""
        kept = {**self._parameters(), "idle": self.idle, "cut": self.cut,
                "count": torch.tensor([self.step_number, self.n_tokens]),
                "scale": torch.tensor([self.scale], dtype=torch.float64)}
        names = list(self._parameters())
        for i, state in self._optimiser.state_dict()["state"].items():
            kept.update({f"adam.{names[i]}.{key}": value for key, value in state.items()})
        return {name: tensor.detach() for name, tensor in kept.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from ``tensors``."""
        with torch.no_grad():
            for name, parameter in self._parameters().items():
                parameter.copy_(tensors[name])
        self.idle, self.cut = tensors["idle"].clone(), tensors["cut"].clone()
        self.step_number, self.n_tokens = (int(n) for n in tensors["count"])
        self.scale = float(tensors["scale"])
        state = {i: {key: tensors[f"adam.{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
                 for i, name in enumerate(self._parameters()) if f"adam.{name}.step" in tensors}
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": state})

    def _parameters(self) -> dict[str, Tensor]:
        found = {"decoder": self.decoder, "b_enc": self.b_enc, "b_dec": self.b_dec}
        if not self.recipe.tied:
            found["encoder"] = self.encoder
        if self.recipe.kind == "jumprelu":
            found["log_threshold"] = self.log_threshold
        return found

    def _dead(self) -> Tensor:
        return self.idle >= self.recipe.dead_window

    def _cut(self) -> float:
        """BatchTopK's threshold: the mean over batches of the least latent that was kept (Bussmann et al. 2024)."""
        return float(self.cut[0] / self.cut[1]) if self.cut[1] else 0.0

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor, float, Tensor]:
        """Reconstruction [b, d], which latents fired [m], L0, and the penalty."""
        centred, kind, none = x - self.b_dec, self.recipe.kind, x.new_zeros(())
        if kind == "topk":
            values, places = encode_chosen(centred, self.encoder, self.b_enc, self.recipe.k)
            values = values.relu()
            fired = torch.zeros(len(self.b_enc), dtype=torch.bool)
            fired[places[values > 0]] = True
            out = decode_chosen(values, places, self.decoder) + self.b_dec
            return out, fired, float((values > 0).sum(1).float().mean()), none
        pre, penalty = torch.addmm(self.b_enc, centred, self.encoder.T), none
        if kind == "batchtopk":
            latents = self._batch_topk(pre)
        elif kind == "relu":
            latents = pre.relu()
            penalty = self.recipe.sparsity * (latents * self.decoder.norm(dim=1)).sum(1).mean()
        else:
            latents, gate = _Jump.apply(pre.relu(), self.log_threshold.exp(), self.recipe.bandwidth)  # type: ignore[no-untyped-call]
            penalty = self.recipe.sparsity * gate.sum(1).mean()
        on = latents.detach() > 0
        return latents @ self.decoder + self.b_dec, on.any(0), float(on.sum(1).float().mean()), penalty

    def _batch_topk(self, pre: Tensor) -> Tensor:
        n = min(self.recipe.k * len(pre), pre.numel())
        least = pre.detach().flatten().kthvalue(pre.numel() - n + 1).values.clamp(min=0)
        latents = pre * ((pre >= least) & (pre > 0))
        kept = latents.detach()[latents.detach() > 0]
        if len(kept):  # forgets slowly, so that the last batches count
            self.cut = 0.99 * self.cut + torch.tensor([float(kept.min()), 1.0], dtype=torch.float64)
        return latents

    def _auxiliary(self, x: Tensor, error: Tensor, dead: Tensor) -> Tensor:
        """The share of the error [b, d] that dead latents leave unexplained."""
        which = dead.nonzero().flatten()
        k = min(self.recipe.aux_k or max(1, x.shape[1] // 2), len(which))
        values, places = encode_chosen(x - self.b_dec.detach(), self.encoder[which], self.b_enc[which], k)
        guess = decode_chosen(values, places, self.decoder[which])
        return (error - guess).square().sum() / error.square().sum().clamp(min=1e-12)

    def _update(self) -> None:
        warm, fall = max(1, self.n_steps // 20), max(1, self.n_steps // 5)
        share = min(1.0, (self.step_number + 1) / warm, max(self.n_steps - self.step_number, 1) / fall)
        for group in self._optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * share
        with torch.no_grad():
            gradient = self.decoder.grad
            assert gradient is not None
            gradient -= (gradient * self.decoder).sum(1, keepdim=True) * self.decoder
            self._optimiser.step()
            self.decoder /= self.decoder.norm(dim=1, keepdim=True).clamp(min=1e-12)


def geometric_median(x: Tensor, rounds: int = 50) -> Tensor:
    """The point [d] whose distances to points [n, d] have the least sum (E. Weiszfeld, 1937)."""
    at = x.mean(0)
    for _ in range(rounds):
        weights = 1 / (x - at).norm(dim=1).clamp(min=1e-6)
        at = (weights[:, None] * x).sum(0) / weights.sum()
    return at
