"""An analysis: how much the agent turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent
from harness.analysis.result import Result, result_provenance
from harness.errors import RecordingError
from harness.recording.recording import Recording


@dataclass(frozen=True)
class Turning(Result):
    """Degrees turned.

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

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"provenance": dict(self.provenance), "n_steps": len(self.degrees),
                "mean": float(self.degrees.mean()), "largest_window": float(self.smoothed.max())}


def turning(recording: Recording, *, agent: Agent | None = None,
            progress: Callable[[int, int], None] | None = None, window: int = 20) -> Turning:
    """How far the view turns in each step of a recording.

    Args:
        recording: Any; the actions that the agent chose are read.
        agent: Not needed: nothing is computed again.
        progress: Not needed: it takes no time.
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
