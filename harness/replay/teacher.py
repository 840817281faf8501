"""Teacher forcing: an agent looks at a recording, and beside what it would do stands what was done.

The agent sees the recorded pictures one after another, whatever it would choose. For every step the log-probabilities
that it gives to the recorded action are kept; their mean, negated, is its cross-entropy against whoever played.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.agent.action_mapping import N_BUTTONS, N_CAMERA, NULL_BUTTONS, NULL_CAMERA
from harness.errors import RecordingError
from harness.recording.contractor import policy_tokens
from harness.recording.recording import Recording
from harness.rollout import Step

__all__ = ["HEADS", "TeacherForcing"]

HEADS: Mapping[str, int] = {"buttons": N_BUTTONS, "camera": N_CAMERA}
"""The policy's two heads and how many tokens each has."""


class TeacherForcing:
    """Scores a recording's actions as an agent goes over its pictures.

    Hand ``columns`` to a ``Recorder``; read ``summary`` at the end.

    Args:
        recording: Whose actions are the teacher's: those the world played, or where nothing was played those chosen.

    Raises:
        RecordingError: for a step without a usable action.
    """

    def __init__(self, recording: Recording) -> None:
        self.n_steps = self.n_null = 0
        self._actions, self._tokens = [], []
        for number, row in enumerate(recording.steps):
            action, tokens = _recorded(row, f"{recording.path / 'steps.jsonl'}:{number + 1}")
            self._actions.append(action)
            self._tokens.append(tokens)
        self._scores: list[tuple[float, float]] = []

    def columns(self, step: Step) -> dict[str, Any]:
        """``teacher``: the recorded action, its tokens, the agent's log-probability of each (nats), whether it is null.

        The log-probability is None for an agent that tells no probabilities.
        """
        tokens = self._tokens[step.index]
        null = tokens == {"buttons": NULL_BUTTONS, "camera": NULL_CAMERA}
        told = step.output.log_probs
        scored = all(head in told and len(told[head]) == size for head, size in HEADS.items())
        log_prob = {head: float(told[head][tokens[head]]) for head in HEADS} if scored else None
        self.n_steps += 1
        self.n_null += null
        if log_prob is not None and not null:
            self._scores.append((log_prob["buttons"], log_prob["camera"]))
        return {"teacher": {"action": self._actions[step.index], "tokens": tokens, "log_prob": log_prob, "null": null}}

    def summary(self) -> dict[str, Any]:
        """Counts, and the cross-entropy (mean nats) of each head over the steps that do something; None without any."""
        means = -np.array(self._scores, np.float64).mean(axis=0) if self._scores else None
        return {"n_steps": self.n_steps, "n_null": self.n_null, "n_scored": len(self._scores),
                "cross_entropy": None if means is None else {
                    head: float(mean) for head, mean in zip(HEADS, means, strict=True)},
                "uniform": {head: float(np.log(size)) for head, size in HEADS.items()}}


def _recorded(row: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], dict[str, int]]:
    """(action, its tokens) of a row: the tokens as drawn, where the action was played as it was chosen."""
    executed, chosen, tokens = row.get("executed"), row.get("chosen"), row.get("tokens")
    action = chosen if executed is None else executed
    if not isinstance(action, dict):
        raise RecordingError("the step has no action to compare with", where=where)
    if action == chosen and isinstance(tokens, dict) and all(
            type(tokens.get(head)) is int and 0 <= tokens[head] < size for head, size in HEADS.items()):
        return action, {head: tokens[head] for head in HEADS}
    return action, policy_tokens({"ESC": 0, **action}, gui=row.get("gui") is True)
