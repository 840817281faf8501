"""An analysis: how much the agent turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.analysis.result import Result, Table, result_provenance
from harness.errors import RecordingError
from harness.recording.recording import Recording


@dataclass(frozen=True)
class Turning(Result):
    """Degrees turned. ``as_dict`` and ``arrays`` are the base class's: the table, and ``degrees``.

    Attributes:
        degrees: float64 [t]: how far the view was told to go in each step, up, down and sideways together.
        window: Steps that ``smoothed`` takes the mean over.
    """

    degrees: npt.NDArray[np.float64]
    window: int

    @property
    def smoothed(self) -> npt.NDArray[np.float64]:
        """The running mean, float64 [t - window + 1]."""
        return np.convolve(self.degrees, np.full(self.window, 1 / self.window), mode="valid")

    def tables(self) -> Sequence[Table]:
        """What is shown, and what ``as_dict`` holds beside the provenance."""
        row = (len(self.degrees), float(self.degrees.mean()), float(self.smoothed.max()))
        return [Table("turning", ("steps", "degrees a step, mean", f"largest mean of {self.window} steps"), (row,))]


def turning(recording: Recording, *, window: int = 20) -> Turning:
    """How far the view turns in each step of a recording.

    Args:
        recording: Any; the actions that the agent chose are read.
        window: Steps of the running mean; at most the recording's.

    Raises:
        RecordingError: for a recording without steps, or a window that does not fit.
    """
    rows = [row["chosen"]["camera"] for row in recording.steps]
    if not rows or isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= len(rows):
        raise RecordingError(f"window: expected 1 to {len(rows)}, the recording's steps, got {window!r}",
                             where=str(recording.path))
    degrees = np.hypot(*np.array(rows, np.float64).T)
    return Turning(result_provenance("turning", recording, window=window), degrees, window)
