"""A sparse autoencoder in an activation's place: its reconstruction, its latents edited, its error kept or left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.agent.agent import Agent
from harness.agent.sae import Sae, load_sae
from harness.errors import WeightsError
from harness.intervention.feature.edit import HEADED, FeatureEdit, whole_numbers
from harness.intervention.intervention import Span
from harness.world.world import Capabilities

__all__ = ["SaeSplice"]

_MODES = ("replace", "add", "cap", "floor", "zero")
_MAP = ("C", "H", "W")


@dataclass(frozen=True)
class SaeSplice(FeatureEdit):
    """Put an SAE's reconstruction in an activation's place, with latents edited or not.

    With x = decode(f) + error, and f' the edited latents, the activation becomes decode(f') + error, computed as
    x + (decode(f') - decode(f)): with nothing edited it is x to the bit. Without the error it is decode(f').

    Attributes:
        sae: Folder of an SAE in SAELens' format, or ``{path, digest}`` as ``describe`` gives it, or an ``Sae``.
        latents: Those to edit, from 0; None edits none.
        mode: ``replace`` them by ``strength`` ("clamping" in much of the literature), ``add`` it, ``cap`` them at it
            from above, hold them at it from below (``floor``), or make them ``zero``. No latent becomes less than 0.
        strength: In the latents' own units: one number, or one for each of ``latents``.
        error: Whether to keep what the SAE does not explain.
        positions: Only these tokens of a step, from 0: places of a feature map in reading order (row * columns +
            column), the class token and the patches of an image tower. None for all.

    ``head`` and ``units`` are those of the hook, as for every edit. What the SAE takes apart is the last axis, every
    head of ``hook_z`` and every patch of an image tower; in a feature map [C, H, W] it is the channels of each place.
    """

    sae: Any = None
    latents: tuple[int, ...] | None = None
    mode: str = "replace"
    strength: float | tuple[float, ...] = 0.0
    error: bool = True
    positions: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sae", self._loaded())
        if self.mode not in _MODES:
            raise self.wrong(f"mode: expected {', '.join(_MODES)}, got {self.mode!r}")
        self._check_strength()
        if not isinstance(self.error, bool):
            raise self.wrong(f"error: expected true or false, got {self.error!r}")
        if self.positions is not None:
            object.__setattr__(self, "positions", whole_numbers(self.positions, "SaeSplice: positions"))
        if self.latents is not None:
            object.__setattr__(self, "latents", whole_numbers(self.latents, "SaeSplice: latents"))
            assert self.latents is not None
            if self.latents[-1] >= self.sae.n_latents:
                raise self.wrong(f"the SAE has latents 0 to {self.sae.n_latents - 1}, got {self.latents[-1]}")

    def _check_strength(self) -> None:
        """A number, or as many as latents; these go in the order of the latents, which will be sorted."""
        listed = list(self.strength) if isinstance(self.strength, list | tuple) else [self.strength]
        if any(isinstance(n, bool) or not isinstance(n, int | float) or not math.isfinite(n) for n in listed):
            raise self.wrong(f"strength: expected a number, or one for each latent, got {self.strength!r}")
        if isinstance(self.strength, list | tuple):
            different = () if self.latents is None else whole_numbers(self.latents, "SaeSplice: latents")
            latents = list(self.latents) if isinstance(self.latents, list | tuple) else list(different)
            if not len(listed) == len(latents) == len(different):
                raise self.wrong(f"strength: expected one number for each of {len(different)} different latents, got "
                                 f"{len(listed)} for {len(latents)}")
            object.__setattr__(self, "strength", tuple(float(n) for _, n in sorted(zip(latents, listed, strict=True))))

    def _loaded(self) -> _Stored:
        given: Any = self.sae
        if isinstance(given, _Stored):
            return given
        if isinstance(given, Sae):
            return _Stored(given, "")
        digest = None
        if isinstance(given, Mapping) and set(given) == {"path", "digest"}:
            given, digest = given["path"], given["digest"]
        if not isinstance(given, str | Path) or not str(given):
            raise self.wrong(f"sae: expected the folder of an SAE, got {given!r}")
        try:
            stored = _Stored(load_sae(given), str(given))
        except WeightsError as problem:
            raise self.wrong(f"sae: {problem.message}", hint=problem.hint or problem.where) from problem
        if digest is not None and stored.digest != digest:
            raise self.wrong(f"sae: {given} holds other numbers than it did (digest {stored.digest[:12]}, expected "
                             f"{str(digest)[:12]})")
        return stored

    def fits(self, name: str, shape: tuple[int, ...]) -> None:
        """The SAE must be of this hook and as wide as its last axis."""
        sae, is_map = self.sae.sae, name.startswith("cnn.") and len(shape) == len(_MAP)
        if is_map and self.units is not None:
            raise self.wrong(f'"{name}" is a feature map, and units mean nothing there',
                             hint="choose latents and positions")
        laid = (*shape[1:], shape[0]) if is_map else shape
        if not laid or laid[-1] != sae.width:
            raise self.wrong(f'"{name}" has {laid[-1] if laid else 0} numbers '
                             f"{'in each place' if is_map else 'on its last axis'}, the SAE {sae.width}")
        n = math.prod(laid[:-1])
        if self.positions is not None and (len(laid) == 1 or name.rpartition(".")[2] in HEADED):
            raise self.wrong(f'"{name}" has no places, so positions mean nothing',
                             hint="say when with the schedule, and which head with head")
        if self.positions is not None and self.positions[-1] >= n:
            raise self.wrong(f'"{name}" has positions 0 to {n - 1}, got {self.positions[-1]}')
        if sae.hook not in (None, name):
            raise self.wrong(f'the SAE was trained on "{sae.hook}", not on "{name}"', hint="splice it in there")

    def check(self, agent: Agent, capabilities: Capabilities | None = None) -> None:
        """As every edit; and refuse an SAE that was trained on another agent's weights."""
        super().check(agent, capabilities)
        trained, own = self.sae.sae.metadata.get("weights_digest"), agent.provenance().get("weights_digest")
        if trained is not None and trained != own:
            raise self.wrong(f"the SAE was trained on {self.sae.sae.metadata.get('model_name')} (weights "
                             f"{str(trained)[:12]}), and {agent.name} has others ({str(own)[:12]})",
                             hint="train one on this agent: harness sae collect, harness sae train")

    def _edit(self, x: Any, point: Any, span: Span) -> Any:
        if tuple(point.axes[-3:]) != _MAP:
            return super()._edit(x, point, span)
        return super()._edit(x.movedim(-3, -1), point, span).movedim(-1, -3)

    def change(self, x: Any, step: int, span: Span) -> Any:
        """As the class says; [b, ..., d]."""
        if self.positions is None:
            return self._changed(x)
        new = x.clone()
        tokens = new.view(x.shape[0], -1, x.shape[-1])
        places = list(self.positions)
        tokens[:, places] = self._changed(tokens[:, places])
        return new

    def _changed(self, x: Any) -> Any:
        sae = self.sae.at(x)
        latents = sae.encode(x)
        edited = latents if self.latents is None else self._edited(latents)
        if not self.error:
            return sae.decode(edited)
        return x if edited is latents else x + (edited - latents) @ sae.W_dec

    def _edited(self, latents: Any) -> Any:
        new, places = latents.clone(), list(self.latents or ())
        here = new[..., places]
        strength = here.new_tensor(self.strength)
        if self.mode == "add":
            here = here + strength
        elif self.mode == "cap":
            here = here.minimum(strength)
        elif self.mode == "floor":
            here = here.maximum(strength)
        else:
            here = here * 0 + (strength if self.mode == "replace" else 0.0)
        new[..., places] = here.clamp(min=0)
        return new

    def control(self, seed: int, agent: Agent) -> FeatureEdit | None:
        """The same edit of as many random other latents; None where none is edited."""
        if self.latents is None:
            return None
        others = np.setdiff1d(np.arange(self.sae.n_latents), self.latents)
        if len(others) < len(self.latents):
            return None
        chosen = np.random.default_rng(seed).choice(others, len(self.latents), replace=False)
        return replace(self, latents=tuple(int(n) for n in chosen))


class _Stored:
    """An SAE, the folder it came from, and its copies on other devices. Equal when the numbers are."""

    def __init__(self, sae: Sae, path: str) -> None:
        self.sae, self.path, self.digest = sae, path, sae.digest()
        self._there = sae

    @property
    def n_latents(self) -> int:
        return self.sae.n_latents

    def at(self, x: Any) -> Sae:
        """On the device of a tensor, in its dtype."""
        self._there = self._there.to(x)
        return self._there

    def describe(self) -> dict[str, str]:
        return {"path": self.path, "digest": self.digest}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Stored) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"SAE({self.path or self.sae.hook}, {self.sae.width} -> {self.n_latents})"
