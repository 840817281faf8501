"""Twins: an episode that runs, held against a recording of one that began alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from harness.recording.recorder import step_row
from harness.recording.recording import Recording
from harness.recording.schema import plain
from harness.replay.divergence import Divergence, first_difference, first_pixel
from harness.rollout import Episode, EpisodeResult, Step

__all__ = ["COLUMNS", "WORLD_COLUMNS", "Twin"]

Found = tuple[str, Any, Any] | None

COLUMNS = ("frame", "agent_frame", "log_probs", "chosen", "executed", "pose", "health", "events", "statistics",
           "outcomes", "terminated")
"""What is compared, in the order of cause within a step."""
WORLD_COLUMNS = ("pose", "health", "events", "statistics", "outcomes", "terminated")
"""Those that the world alone decides, given the actions."""


class Twin:
    """Notes where an episode first differs from a recording, for each column. An observer.

    Args:
        recording: One that has the steps of the episode; those beyond its end are not compared.
        tolerance: Largest difference of log-probabilities, entropy and value that counts as none.
        pictures: Whether to compare pictures, which must be decoded.

    Attributes:
        at: The episode's first step.
        columns: Column to its first difference so far, None while there is none.
        n_compared: Steps that both have.
        outcomes: The episode's outcomes after each of its steps.
        applied: In how many steps each intervention applied, by its place in the list.
    """

    def __init__(self, recording: Recording, tolerance: float = 0.0, *, pictures: bool = True) -> None:
        self.at = self.n_compared = 0
        self.columns: dict[str, Divergence | None] = dict.fromkeys(COLUMNS)
        self.outcomes: list[Mapping[str, Any]] = []
        self.applied = Counter[int]()
        self._recording, self._tolerance = recording, tolerance
        stored = recording.activations
        self._vectors = {name.removeprefix("log_probs."): stored[name] for name in stored
                         if name.startswith("log_probs.")}
        self._compare: dict[str, Callable[[int, Step, dict[str, Any]], Found]] = {
            **{name: self._value(name) for name in COLUMNS[3:]}, "chosen": self._chosen, "log_probs": self._log_probs}
        if pictures:
            self._compare |= {"frame": self._frame, "agent_frame": self._agent_frame}

    def begin(self, episode: Episode) -> None:
        """The episode begins."""
        self.at = episode.first_step

    def on_step(self, step: Step) -> None:
        """Compare a step, as far as columns have not differed yet."""
        self.outcomes.append(step.info["outcomes"])
        self.applied.update({applied.index for applied in step.applied})
        number = step.index - self._recording.first_step
        if number >= len(self._recording):
            return
        self.n_compared += 1
        row = plain(step_row(step))
        for name in COLUMNS:
            if self.columns[name] is None and name in self._compare:
                found = self._compare[name](number, step, row)
                if found is not None:
                    self.columns[name] = Divergence(step.index, *found)

    def end(self, result: EpisodeResult) -> None:
        """Nothing is left to do."""

    def _frame(self, number: int, step: Step, row: dict[str, Any]) -> Found:
        return _pixel("frame", first_pixel(self._recording.pov[number], step.observation["pov"]))

    def _agent_frame(self, number: int, step: Step, row: dict[str, Any]) -> Found:
        return _pixel("agent_frame", first_pixel(self._recording.agent_pov[number], step.agent_observation["pov"]))

    def _value(self, column: str) -> Callable[[int, Step, dict[str, Any]], Found]:
        return lambda number, step, row: first_difference(column, self._recording.steps[number].get(column),
                                                          row[column])

    def _chosen(self, number: int, step: Step, row: dict[str, Any]) -> Found:
        recorded = self._recording.steps[number]
        return first_difference("chosen", recorded.get("chosen"), row["chosen"]) or first_difference(
            "tokens", recorded.get("tokens"), row["tokens"])

    def _log_probs(self, number: int, step: Step, row: dict[str, Any]) -> Found:
        recorded = self._recording.steps[number]
        stored = {head: series[number] for head, series in self._vectors.items() if number < len(series)}
        for head, vector in stored.items():
            if found := self._vector(head, vector, step.output.log_probs.get(head)):
                return found
        # The drawn action's log-probability follows from the vectors, and from which action was drawn.
        for name in ("entropy", "value") if stored else ("log_prob", "entropy", "value"):
            now = row[name]
            scale = max(1.0, abs(now)) if isinstance(now, float) else 1.0
            found = first_difference(name, recorded.get(name), now, self._tolerance * scale)
            if found:
                return found
        return None

    def _vector(self, head: str, recorded: Any, now: Any) -> Found:
        if now is None or np.shape(now) != np.shape(recorded):
            return f"log_probs.{head}", list(np.shape(recorded)), None if now is None else list(np.shape(now))
        if np.array_equal(recorded, now):
            return None
        a, b = np.asarray(recorded, np.float64), np.asarray(now, np.float64)
        with np.errstate(invalid="ignore"):
            gap = np.where(a == b, 0.0, np.abs(a - b))  # equal infinities are equal
        worst = int(np.where(np.isnan(gap), np.inf, gap).argmax())
        if gap[worst] <= self._tolerance:
            return None
        return f"log_probs.{head}[{worst}]", float(a[worst]), float(b[worst])


def _pixel(column: str, found: tuple[str, str] | None) -> Found:
    return None if found is None else (column, *found)
