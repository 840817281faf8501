"""Means of recorded activations, and directions made of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.errors import RecordingError, nearest_names
from harness.recording.recording import Recording

__all__ = ["difference_of_means", "mean_activation"]

Float = npt.NDArray[np.float32]
_CHUNK = 256


def mean_activation(recording: Recording, hook: str, steps: tuple[int, int] | None = None) -> Float:
    """The mean of an activation over the steps of a recording, added up in float64.

    Args:
        recording: One that traced the hook.
        hook: Its name.
        steps: The first and the last row to count; None for all.

    Returns:
        float32, of the shape of one step's activation.

    Raises:
        RecordingError: when the hook was not traced, or there is no such row.
    """
    stored = recording.activations
    if hook not in stored:
        near = nearest_names(hook, list(stored))
        raise RecordingError(f'the recording holds no "{hook}"', where=str(recording.path),
                             hint=f"record it with --hooks '{hook}'; it holds {', '.join(near) or 'none like it'}")
    series = stored[hook]
    first, last = steps or (0, len(series) - 1)
    if not 0 <= first <= last < len(series):
        raise RecordingError(f"expected steps among 0 to {len(series) - 1}, got {first} to {last}",
                             where=str(recording.path))
    total = np.zeros(series.shape[1:], np.float64)
    for start in range(first, last + 1, _CHUNK):
        total += np.asarray(series[start:min(start + _CHUNK, last + 1)], np.float64).sum(0)
    return np.asarray(total / (last - first + 1), np.float32)


def difference_of_means(of: Recording, minus: Recording, hook: str, steps: tuple[int, int] | None = None,
                        minus_steps: tuple[int, int] | None = None) -> Float:
    """The direction from one recording's mean activation to another's (Marks and Tegmark, 2023).

    Args:
        of: Where the direction leads to.
        minus: Where it leads away from.
        hook: An activation that both traced.
        steps: The first and the last row of ``of`` to count; None for all.
        minus_steps: Likewise of ``minus``.

    Returns:
        float32, of the shape of one step's activation; not normalised.

    Raises:
        RecordingError: as for ``mean_activation``, or when the two are of other shapes.
    """
    one, two = mean_activation(of, hook, steps), mean_activation(minus, hook, minus_steps)
    if one.shape != two.shape:
        raise RecordingError(f"the two recordings' {hook} have the shapes {list(one.shape)} and {list(two.shape)}",
                             where=f"{of.path} and {minus.path}", hint="take two recordings of one agent")
    return np.asarray(one - two)
