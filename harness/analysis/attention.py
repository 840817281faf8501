"""Attention over frame age: how strongly each head looks at the picture of k steps ago."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.analysis.result import Result, result_provenance
from harness.errors import RecordingError, unknown_name
from harness.recording.recording import ActivationSeries, Recording

__all__ = ["AttentionMaps", "attention_maps", "attention_series", "by_age"]

Float = npt.NDArray[np.float32]
_PATTERN = re.compile(r"(?:(\w+)\.)?blocks\.(\d+)\.attn\.hook_pattern")


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
    layers, row, series = attention_series(recording, layer, row)
    n_steps, n_heads, width = series[0].shape
    weights = np.empty((n_steps, len(layers), n_heads, width - 1), np.float32)
    for i, one in enumerate(series):
        weights[:, i] = by_age(one[:])
    said = {"layer": layer} if row is None else {"layer": layer, "row": row}
    return AttentionMaps(result_provenance("attention", recording, **said), weights, layers, row)


def attention_series(recording: Recording, layer: int | None = None, row: str | None = None
                     ) -> tuple[tuple[int, ...], str | None, list[ActivationSeries]]:
    """Where the attention of a recording lies, nothing read yet.

    Args:
        recording: One whose run traced attention patterns [h, T], oldest first, the current picture last.
        layer: Only this layer; None for all that were traced.
        row: Of a guided agent, ``cond`` or ``uncond``; None for ``cond``, or for the only one that was traced.

    Returns:
        The layers, the row, and the patterns [t, h, T] of each layer, all of one shape.

    Raises:
        RecordingError: when there are no steps, no pattern was traced, or not that layer's.
    """
    if not len(recording):
        raise RecordingError(f"the recording has no steps: {recording.summary}", where=str(recording.path))
    by_row: dict[str | None, dict[int, str]] = {}
    for name in recording.activations:
        if match := _PATTERN.fullmatch(name):
            by_row.setdefault(match[1], {})[int(match[2])] = name
    if not by_row:
        raise RecordingError("the recording holds no attention patterns", where=str(recording.path),
                             hint='run it again with --hooks "blocks.*.attn.hook_pattern"')
    row = next(iter(by_row)) if row is None else row
    if row not in by_row:
        names = [name for name in by_row if name is not None]
        raise unknown_name("row of guidance", str(row), names, where=str(recording.path), error=RecordingError)
    traced = by_row[row]
    if layer is not None and layer not in traced:
        raise RecordingError(f"the attention of layer {layer} was not traced", where=str(recording.path),
                             hint=f"traced layers: {', '.join(map(str, sorted(traced)))}")
    layers = tuple(sorted(traced)) if layer is None else (layer,)
    series = [recording.activations[traced[number]] for number in layers]
    if any(s.ndim != 3 or s.shape != series[0].shape for s in series):
        raise RecordingError(f"expected patterns [t, h, T] of one shape, got {[list(s.shape) for s in series]}",
                             where=str(recording.path))
    return layers, row, series


def by_age(pattern: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Patterns [..., T], oldest key first, as [..., age]: what can be seen has the ages 0 to T - 2.

    Of the window's keys and the current one, the oldest is always masked.
    """
    return pattern[..., :0:-1]
