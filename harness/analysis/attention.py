"""Attention over frame age: how strongly each head looks at the picture of k steps ago."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.analysis.result import Result, result_provenance
from harness.errors import RecordingError, unknown_name
from harness.recording.recording import Recording

__all__ = ["AttentionMaps", "Traced", "attention_maps", "by_age", "chosen_heads", "holds_attention",
           "same_agent", "traced_attention"]

Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AttentionMaps(Result):
    """Attention by frame age.

    Attributes:
        weights: float32 [t, layer, head, age]; age 0 is the current picture, 1 the one before, up to the window
            (0 to 127 for VPT). Each row sums to 1.
        layers: The layer numbers along the second axis.
        row: Whose attention it is where an agent computes each step twice (``cond`` or ``uncond``); else None.
    """

    weights: Float
    layers: tuple[int, ...]
    row: str | None = None

    @property
    def names(self) -> list[str]:
        """``layer.head`` of every row of ``at(t)``: "0.0", "0.1", ..."""
        return [f"{layer}.{head}" for layer in self.layers for head in range(self.weights.shape[2])]

    def __len__(self) -> int:
        return len(self.weights)

    def at(self, step: int) -> Float:
        """The attention in one step, float32 [layer * head, age]."""
        weights: Float = self.weights[step].reshape(-1, self.weights.shape[3])
        return weights

    @functools.cached_property
    def means(self) -> Float:
        """The mean over layers and heads, float32 [t, age]."""
        means: Float = self.weights.mean(axis=(1, 2))
        return means

    def most_attended(self, step: int, n: int = 3) -> list[tuple[int, float]]:
        """The past pictures looked at most: (age, mean weight over layers and heads), strongest first.

        The current picture (age 0) is left out, and ages from before the episode.
        """
        past = self.means[step, 1:step + 1]
        ages = np.argsort(-past, kind="stable")[:n]
        return [(int(age) + 1, float(past[age])) for age in ages]


def attention_maps(recording: Recording, layer: int | None = None, row: str | None = None) -> AttentionMaps:
    """Attention of a recording by frame age, from its ``blocks.*.attn.hook_pattern``.

    Args:
        recording: One whose run traced attention patterns [h, T], oldest first, the current picture last.
        layer: Only this layer; None for all that were traced.
        row: Of a guided agent, ``cond`` or ``uncond``; None for ``cond``, or for the only one that was traced.

    Raises:
        RecordingError: when there are no steps, no pattern was traced, or not that layer's.
    """
    traced = traced_attention(recording, row=row)
    if layer is not None and layer not in traced.layers:
        raise RecordingError(f"the attention of layer {layer} was not traced", where=str(recording.path),
                             hint=f"traced layers: {', '.join(map(str, traced.layers))}")
    layers = traced.layers if layer is None else (layer,)
    weights = np.empty((traced.n_steps, len(layers), traced.n_heads, traced.window), np.float32)
    for i, number in enumerate(layers):
        weights[:, i] = traced.read("pattern", number)
    said = {"layer": layer} if traced.row is None else {"layer": layer, "row": traced.row}
    return AttentionMaps(result_provenance("attention", recording, **said), weights, layers, traced.row)


@dataclass(frozen=True)
class Traced:
    """Where a recording holds attention.

    Attributes:
        recording: Which.
        layers: Those that hold all that was asked for, in order.
        row: Of a guided agent; None where there is one row only.
        n_steps: Steps that are there.
        n_heads: Of each layer.
        window: Ages, 0 to ``window - 1``.
    """

    recording: Recording
    layers: tuple[int, ...]
    row: str | None
    n_steps: int
    n_heads: int
    window: int

    @property
    def names(self) -> tuple[str, ...]:
        """``layer.head`` of all heads."""
        return tuple(f"{layer}.{head}" for layer in self.layers for head in range(self.n_heads))

    def hook(self, kind: str, layer: int) -> str:
        """The name of a hook: kind is ``pattern``, ``attn_scores`` or ``rel_bias``."""
        return f"{self.row + '.' if self.row else ''}blocks.{layer}.attn.hook_{kind}"

    def read(self, kind: str, layer: int, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Some rows of a hook by frame age, [t, h, age], read from disk now."""
        return by_age(self.recording.activations[self.hook(kind, layer)][start:self.n_steps if stop is None else stop])

    def n_visible(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.int64]:
        """How many frames some steps may look at, the current one included, int64 [t]: fewer at an episode's start."""
        steps = self.recording.first_step + np.arange(start, self.n_steps if stop is None else stop)
        return np.minimum(steps + 1, self.window)


def by_age(stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """From keys as a hook has them, [..., T] oldest first, to ages, [..., age]: 0 is the current frame.

    Of the window's keys and the current one, the oldest is always masked: what can be seen has ages 0 to window - 1.
    """
    return stored[..., :0:-1]


def traced_attention(recording: Recording, kinds: Sequence[str] = ("pattern",), row: str | None = None) -> Traced:
    """Find what a recording traced of attention.

    Args:
        recording: Which.
        kinds: What must be there, of a layer: ``pattern``, ``attn_scores``, ``rel_bias``.
        row: Of a guided agent, ``cond`` or ``uncond``; None for ``cond``, or for the only one that was traced.

    Raises:
        RecordingError: when there are no steps, or no layer was traced, naming the ``--hooks`` to record with.
    """
    where = str(recording.path)
    if not len(recording):
        raise RecordingError(f"the recording has no steps: {recording.summary}", where=where)
    by_row: dict[str | None, dict[int, set[str]]] = {}
    for name in recording.activations:
        if match := re.fullmatch(rf"(?:(\w+)\.)?blocks\.(\d+)\.attn\.hook_({'|'.join(kinds)})", name):
            by_row.setdefault(match[1], {}).setdefault(int(match[2]), set()).add(match[3])
    whole = {each: layers for each, layers in (
        (each, tuple(sorted(n for n, there in found.items() if there == set(kinds)))) for each, found in by_row.items())
        if layers}
    if not whole:
        wanted = " ".join(f'--hooks "blocks.*.attn.hook_{kind}"' for kind in kinds)
        what = "attention patterns" if kinds == ("pattern",) else f"attention {' and '.join(kinds)} of one layer"
        raise RecordingError(f"the recording holds no {what}", where=where, hint=f"run it again with {wanted}")
    row = next(iter(whole)) if row is None else row
    if row not in whole:
        names = [name for name in whole if name is not None]
        raise unknown_name("row of guidance", str(row), names, where=where, error=RecordingError)
    traced = Traced(recording, whole[row], row, 0, 0, 0)
    shapes = {recording.activations[traced.hook(kind, n)].shape for kind in kinds for n in traced.layers}
    if len(shapes) > 1 or len(next(iter(shapes))) != 3:
        raise RecordingError(f"expected patterns [t, h, T] of one shape, got {[list(s) for s in sorted(shapes)]}",
                             where=where)
    n_steps, n_heads, width = shapes.pop()
    return Traced(recording, traced.layers, row, n_steps, n_heads, width - 1)


def holds_attention(recording: Recording, kinds: Sequence[str], row: str | None = None) -> bool:
    """Whether some layer of a recording has all that is asked for; as for ``traced_attention``."""
    try:
        traced_attention(recording, kinds, row)
    except RecordingError:
        return False
    return True


def chosen_heads(names: Sequence[str], heads: Sequence[str]) -> list[int]:
    """The places in ``names`` of the heads that are asked for.

    Args:
        names: All of them, ``layer.head``.
        heads: Names or globs such as ``2.3`` and ``1.*``; none for all.

    Raises:
        RecordingError: for one that matches none, with the nearest names.
    """
    for each in heads:
        if not fnmatch.filter(names, each):
            raise unknown_name("head", each, names, error=RecordingError)
    return [i for i, name in enumerate(names) if not heads or any(fnmatch.fnmatchcase(name, each) for each in heads)]


def same_agent(recordings: Sequence[Recording]) -> None:
    """Refuse recordings of several agents, whose heads have nothing in common but their names.

    Raises:
        RecordingError: naming the first two that differ.
    """
    first = recordings[0]
    for each in recordings[1:]:
        one, two = (r.header["agent"] for r in (first, each))
        if any(one.get(key) != two.get(key) for key in ("class", "name", "weights_digest")):
            raise RecordingError(f"the recordings are of two agents, {first.agent_description} and "
                                 f"{each.agent_description}", where=f"{first.path} and {each.path}",
                                 hint="analyse those of one agent at a time")
