"""Figures of a stretch of training: losses by situation, agreement by key, the held attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.action_mapping import BUTTON_NAMES, NULL_CAMERA, button_table
from harness.training.learner import Measured

__all__ = ["SHOWN_KEYS", "summary"]

SHOWN_KEYS = ("attack", "forward", "back", "left", "right", "jump")


def summary(steps: Sequence[Measured]) -> dict[str, Any]:
    """JSON values over some optimiser steps.

    ``agreement`` is the share of frames on which the most likely action agrees with the teacher's on a key (or on the
    whole turn: ``camera``); ``attack_mean`` and ``attack_median`` are of P(attack) where the teacher attacks;
    ``situations`` has for each the share of frames and both losses.
    """
    buttons, camera = _joined(steps, "buttons"), _joined(steps, "camera")
    labels, keys, attack = _joined(steps, "labels"), _joined(steps, "keys"), _joined(steps, "attack")
    agreement = {key: _mean(keys[:, BUTTON_NAMES.index(key)]) for key in SHOWN_KEYS}
    agreement["camera"] = _mean(_joined(steps, "turns"))
    return {
        "loss": round(float(np.mean([step.loss for step in steps])), 5), "buttons": _mean(buttons),
        "camera": _mean(camera), "auxiliary": round(float(np.mean([step.auxiliary for step in steps])), 5),
        "gradient_norm": round(float(np.mean([step.gradient_norm for step in steps])), 4), "agreement": agreement,
        "attack_mean": _mean(attack) if len(attack) else None,
        "attack_median": round(float(np.median(attack)), 5) if len(attack) else None,
        "situations": {name: {"share": _mean(there), "buttons": _mean(buttons[there]), "camera": _mean(camera[there])}
                       for name, there in _situations(labels).items() if there.any()},
    }


def _joined(steps: Sequence[Measured], name: str) -> npt.NDArray[Any]:
    return np.concatenate([getattr(step, name) for step in steps])


def _mean(values: npt.NDArray[Any]) -> float:
    return round(float(values.mean()), 5)


def _situations(labels: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.bool_]]:
    """By what the teacher does: bool [n] each."""
    table = button_table()
    attack = table[labels[:, 0], BUTTON_NAMES.index("attack")] != 0
    walk = table[labels[:, 0], BUTTON_NAMES.index("forward")] != 0
    turn = labels[:, 1] != NULL_CAMERA
    return {"chop": attack, "walk": ~attack & walk & ~turn, "walk and turn": ~attack & walk & turn,
            "turn": ~attack & ~walk & turn}
