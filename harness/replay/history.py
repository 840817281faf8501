"""What a recording holds of the steps before a fork, for interventions that reach back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import HarnessError, RecordingError
from harness.recording.recording import Recording, open_recording

__all__ = ["RecordedHistory", "history_of_fork"]


@dataclass(frozen=True)
class RecordedHistory:
    """What a recording holds of the steps before a fork.

    Attributes:
        recording: Which.
        until: Where the fork begins; nothing from this step on is given.
    """

    recording: Recording
    until: int

    def state_before(self, step: int) -> tuple[int, Mapping[str, npt.NDArray[Any]] | None]:
        """The nearest memory kept at or before a step, and before the fork; (0, None) where the episode's first is.

        Raises:
            RecordingError: when there is none, and the recording begins later.
        """
        start = max((s for s in self.recording.snapshots if s <= min(step, self.until)), default=None)
        if start is None:
            if not self.recording.first_step:
                return 0, None
            raise RecordingError(f"no memory was kept at or before step {step}", where=str(self.recording.path))
        return start, self.recording.snapshots[start].agent

    def embeds(self, first: int, last: int) -> npt.NDArray[np.float32] | None:
        """``hook_embed`` of steps ``first`` to ``last - 1``, float32 [t, d]; None where it was not recorded.

        Raises:
            RecordingError: for steps that are not before the fork.
        """
        rows, traced = self._rows(first, last), self.recording.activations
        if "hook_embed" not in traced or rows.stop > traced.n_steps:
            return None
        return np.asarray(traced["hook_embed"][rows], np.float32)

    def frames(self, first: int, last: int) -> npt.NDArray[np.uint8]:
        """The pictures that the agent saw in these steps, uint8 [t, H, W, 3].

        Raises:
            RecordingError: for steps that are not before the fork.
        """
        return self.recording.agent_pov[self._rows(first, last)]

    def _rows(self, first: int, last: int) -> slice:
        begin = self.recording.first_step
        if not begin <= first <= last <= self.until:
            raise RecordingError(f"steps {first} to {last - 1} were asked for; what was recorded before the fork are "
                                 f"{begin} to {self.until - 1}", where=str(self.recording.path))
        return slice(first - begin, last - begin)


def history_of_fork(recording: Recording) -> RecordedHistory | None:
    """The history that a fork began with, where the recording it was made from lies beside it; else None."""
    origin = recording.header.get("fork")
    if not isinstance(origin, dict):
        return None
    name = origin.get("name")
    if not isinstance(name, str) or Path(name).name != name:
        return None
    try:
        parent = open_recording(recording.path.parent / name)
    except HarnessError:
        return None
    return RecordedHistory(parent, recording.first_step) if parent.id == origin.get("recording") else None
