"""Sparse autoencoders: their arithmetic, and files in the format of SAELens.

An activation x [d] is written as ``decode(encode(x)) + error``: latents f = act(W_enc (x - b_dec) + b_enc), of which
few are above 0, and their sum along unit directions, W_dec f + b_dec. ``act`` keeps the k largest pre-activations
(TopK: Gao et al. 2024, arXiv 2406.04093), those above 0 (ReLU: Bricken et al. 2023, "Towards Monosemanticity") or those
above each latent's own threshold (JumpReLU: Rajamanoharan et al. 2024, arXiv 2407.14435). BatchTopK (Bussmann et al.
2024, arXiv 2412.06410) chooses over a batch while it is trained and is a JumpReLU with one threshold afterwards.

Axes: ``...`` any, ``d`` width of the activation, ``m`` latents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from harness.agent.weights_file import read_weights_file
from harness.errors import WeightsError, unknown_name

__all__ = ["ACTIVATIONS", "CONFIG", "FORMAT_VERSION", "WEIGHTS", "Sae", "load_sae", "save_sae"]

ACTIVATIONS = {"topk": "topk", "relu": "standard", "jumprelu": "jumprelu"}
"""How latents are chosen, and what SAELens calls an SAE that does so."""
CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
FORMAT_VERSION = "6.54.12"
"""The version of SAELens whose files these are; any 6.x reads them."""
_LARGEST = 1 << 20
"""Bytes of a configuration."""


@dataclass(frozen=True, eq=False)
class Sae:
    """A trained sparse autoencoder. Frozen; its tensors are not to be written to.

    Attributes:
        activation: ``topk``, ``relu`` or ``jumprelu``.
        W_enc: Encoder [d, m].
        b_enc: Its bias [m].
        W_dec: Decoder [m, d], a direction per latent.
        b_dec: Its bias [d], also taken from what goes in.
        k: Latents kept per activation (``topk``).
        threshold: Per latent [m], what a pre-activation must exceed (``jumprelu``).
        metadata: Where it belongs and how it was made, as JSON values: ``hook_name``, ``model_name``,
            ``weights_digest`` and more; empty where nobody said.

    Raises:
        WeightsError: for shapes that do not fit each other, or numbers that are not finite.
    """

    activation: str
    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    k: int | None = None
    threshold: Tensor | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation", self.activation, ACTIVATIONS, error=WeightsError)
        d, m = self.W_enc.shape if self.W_enc.ndim == 2 else (0, 0)
        shapes = {"W_enc": (d, m), "b_enc": (m,), "W_dec": (m, d), "b_dec": (d,)}
        if (self.threshold is None) == (self.activation == "jumprelu"):
            raise WeightsError(f"a {self.activation} SAE has {'no' if self.threshold is None else 'a'} threshold")
        if (self.k is None) == (self.activation == "topk") or (self.k is not None and not 1 <= self.k <= m):
            raise WeightsError(f"a {self.activation} SAE of {m} latents cannot have k = {self.k}")
        for name, tensor in self._tensors().items():
            wanted = shapes.get(name, (m,))
            if tuple(tensor.shape) != wanted or not d:
                raise WeightsError(f"{name} has the shape {list(tensor.shape)}, expected {list(wanted)}")
            if not bool(torch.isfinite(tensor).all()):
                raise WeightsError(f"{name} holds NaN or infinities")

    @property
    def width(self) -> int:
        """Of the activation, d."""
        return int(self.W_enc.shape[0])

    @property
    def n_latents(self) -> int:
        """How many there are, m."""
        return int(self.W_enc.shape[1])

    @property
    def hook(self) -> str | None:
        """The hook that it was trained on, where known."""
        name = self.metadata.get("hook_name")
        return name if isinstance(name, str) else None

    def digest(self) -> str:
        """SHA-256 over its tensors."""
        found = hashlib.sha256(f"{self.activation} {self.k}".encode())
        for name, tensor in sorted(self._tensors().items()):
            found.update(f"{name} {list(tensor.shape)};".encode())
            found.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()

    def pre_activations(self, x: Tensor) -> Tensor:
        """Before the activation: [..., d] to [..., m]."""
        return (x - self.b_dec) @ self.W_enc + self.b_enc

    def encode(self, x: Tensor) -> Tensor:
        """Latents of activations: [..., d] to [..., m], none below 0."""
        return self._chosen(self.pre_activations(x))

    def decode(self, latents: Tensor) -> Tensor:
        """The reconstruction: [..., m] to [..., d]."""
        return latents @ self.W_dec + self.b_dec

    def run_with_cache(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The reconstruction of [..., d], and everything on the way to it by the names of SAELens and Prisma.

        ``sae.{hook}.hook_sae_in``, ``hook_hidden_pre``, ``hook_hidden_post`` (the latents), ``hook_sae_out`` and
        ``hook_error``: what of the activation the reconstruction lacks.
        """
        pre = self.pre_activations(x)
        latents = self._chosen(pre)
        out = self.decode(latents)
        kept = {"hook_sae_in": x, "hook_hidden_pre": pre, "hook_hidden_post": latents, "hook_sae_out": out,
                "hook_error": x - out}
        return out, {f"sae.{self.hook or 'activation'}.{name}": value for name, value in kept.items()}

    def to(self, like: Tensor) -> Sae:
        """The same with its tensors where another tensor is, in its dtype; itself where they are there already."""
        if self.W_enc.device == like.device and self.W_enc.dtype == like.dtype:
            return self
        moved = {name: tensor.to(like.device, like.dtype) for name, tensor in self._tensors().items()}
        return Sae(self.activation, k=self.k, metadata=self.metadata, **moved)

    def _chosen(self, pre: Tensor) -> Tensor:
        if self.activation == "relu":
            return pre.relu()
        if self.threshold is not None:
            return pre.relu() * (pre > self.threshold)
        assert self.k is not None
        values, places = pre.topk(self.k, dim=-1, sorted=False)
        return torch.zeros_like(pre).scatter_(-1, places, values.relu())

    def _tensors(self) -> dict[str, Tensor]:
        found = {"W_enc": self.W_enc, "b_enc": self.b_enc, "W_dec": self.W_dec, "b_dec": self.b_dec}
        return found if self.threshold is None else {**found, "threshold": self.threshold}


def save_sae(sae: Sae, folder: str | Path) -> Path:
    """Write ``cfg.json`` and ``sae_weights.safetensors`` into a folder, as SAELens does.

    What SAELens has no word for stands under ``metadata``, which it keeps and does not read.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in sae._tensors().items()}
    config = {
        "architecture": ACTIVATIONS[sae.activation], "d_in": sae.width, "d_sae": sae.n_latents, "dtype": "float32",
        "device": "cpu", "apply_b_dec_to_input": True, "normalize_activations": "none",
        "reshape_activations": "none", **({"k": sae.k, "rescale_acts_by_decoder_norm": False} if sae.k else {}),
        "metadata": {"sae_lens_version": FORMAT_VERSION, "sae_lens_training_version": None, **sae.metadata},
    }
    part = {name: folder / f".{name}.part" for name in (WEIGHTS, CONFIG)}
    save_file(tensors, part[WEIGHTS])
    part[CONFIG].write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    for name, path in part.items():
        path.replace(folder / name)
    return folder


def load_sae(folder: str | Path) -> Sae:
    """Read an SAE in SAELens' format: architectures ``standard``, ``topk`` and ``jumprelu`` of its versions 6.x.

    A TopK SAE that weighs its choice by the norms of the decoder is read as the equal one whose decoder has norm 1.

    Args:
        folder: With ``cfg.json`` and ``sae_weights.safetensors``.

    Raises:
        WeightsError: for files that are missing, damaged or do not fit each other, and for what is not read:
            another architecture, activations that are normalised or reshaped, an older format.
    """
    folder = Path(folder)
    config = _read_config(folder / CONFIG)
    activation = next((ours for ours, theirs in ACTIVATIONS.items() if theirs == config["architecture"]), None)
    where = str(folder / CONFIG)
    if activation is None:
        raise unknown_name("SAE architecture", str(config["architecture"]), list(ACTIVATIONS.values()), where=where,
                           error=WeightsError)
    tensors = read_weights_file(folder / WEIGHTS, "float32")
    wanted = {"W_enc", "b_enc", "W_dec", "b_dec", *(("threshold",) if activation == "jumprelu" else ())}
    if set(tensors) != wanted:
        raise WeightsError(f"expected the tensors {', '.join(sorted(wanted))}, got {', '.join(sorted(tensors))}",
                           where=str(folder / WEIGHTS))
    k = config.get("k") if activation == "topk" else None
    if config.get("rescale_acts_by_decoder_norm") and activation == "topk":
        norm = tensors["W_dec"].norm(dim=1)
        tensors = {"W_enc": tensors["W_enc"] * norm, "b_enc": tensors["b_enc"] * norm, "b_dec": tensors["b_dec"],
                   "W_dec": tensors["W_dec"] / norm[:, None].clamp(min=1e-12)}
    if not config.get("apply_b_dec_to_input", True):  # then W_enc x + b_enc = W_enc (x - b_dec) + (b_enc + W_enc b_dec)
        tensors["b_enc"] = tensors["b_enc"] + tensors["b_dec"] @ tensors["W_enc"]
    try:
        sae = Sae(activation, k=None if k is None else int(k), metadata=config.get("metadata") or {}, **tensors)
    except (WeightsError, TypeError, ValueError) as problem:
        raise WeightsError(str(problem), where=where) from problem
    if (sae.width, sae.n_latents) != (config.get("d_in"), config.get("d_sae")):
        raise WeightsError(f"cfg.json says {config.get('d_in')} -> {config.get('d_sae')}, the weights are of "
                           f"{sae.width} -> {sae.n_latents}", where=where)
    return sae


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise WeightsError("there is no SAE here: cfg.json is missing", where=str(path.parent),
                           hint="expected a folder with cfg.json and sae_weights.safetensors, as SAELens writes it")
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"{path.stat().st_size} bytes are no configuration")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise WeightsError(f"the SAE's configuration cannot be read: {problem}", where=str(path)) from problem
    if not isinstance(config, dict) or not isinstance(config.get("metadata") or {}, dict):
        raise WeightsError("the SAE's configuration is no mapping", where=str(path))
    if "architecture" not in config or "activation_fn_str" in config:
        raise WeightsError("the SAE is in SAELens' format from before version 6", where=str(path),
                           hint="load and save it once with sae-lens 6")
    for key in ("normalize_activations", "reshape_activations"):
        if config.get(key, "none") != "none":
            raise WeightsError(f"{key}: expected none, got {config[key]!r}", where=str(path),
                               hint="fold it into the weights, or take an SAE without")
    return config
