"""The first difference between a recording and its replay, by step and column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Divergence", "first_difference", "first_pixel"]


@dataclass(frozen=True)
class Divergence:
    """Where a replay left its recording.

    Attributes:
        step: The first step that differs.
        column: What differs there: "frame", "chosen.attack", "log_prob", "pose.yaw", ...
        recorded: The recording's value, in words where it is a picture.
        replayed: The replay's.
    """

    step: int
    column: str
    recorded: Any
    replayed: Any

    def __str__(self) -> str:
        return f"step {self.step}, {self.column}: recorded {_short(self.recorded)}, replayed {_short(self.replayed)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def first_difference(column: str, recorded: Any, replayed: Any, tolerance: float = 0.0) -> tuple[str, Any, Any] | None:
    """The first part of two JSON values that differs, as (column with its path, recorded, replayed).

    Args:
        column: Name of the column; parts inside get ``.key`` or ``[index]`` appended.
        recorded: One value.
        replayed: The other.
        tolerance: Largest absolute difference of two numbers that still counts as equal.
    """
    if isinstance(recorded, Mapping) and isinstance(replayed, Mapping):
        for key in [*recorded, *(k for k in replayed if k not in recorded)]:
            if key not in recorded or key not in replayed:
                return f"{column}.{key}", recorded.get(key), replayed.get(key)
            found = first_difference(f"{column}.{key}", recorded[key], replayed[key], tolerance)
            if found:
                return found
        return None
    if isinstance(recorded, list) and isinstance(replayed, list) and len(recorded) == len(replayed):
        for i, (a, b) in enumerate(zip(recorded, replayed, strict=True)):
            found = first_difference(f"{column}[{i}]", a, b, tolerance)
            if found:
                return found
        return None
    if tolerance and isinstance(recorded, float) and isinstance(replayed, float | int):
        same = math.isclose(recorded, replayed, rel_tol=0.0, abs_tol=tolerance)
    else:
        same = type(recorded) is type(replayed) and recorded == replayed
    return None if same else (column, recorded, replayed)


def first_pixel(recorded: npt.NDArray[np.uint8], replayed: npt.NDArray[np.uint8]) -> tuple[str, str] | None:
    """Where two pictures uint8 [H, W, 3] differ first and how much, in words; None when they are byte-equal."""
    if recorded.shape != replayed.shape:
        return f"{list(recorded.shape)}", f"{list(replayed.shape)}"
    if np.array_equal(recorded, replayed):
        return None
    differs = (recorded != replayed).any(axis=-1)
    row, column = (int(i) for i in np.argwhere(differs)[0])
    a, b = recorded[row, column].tolist(), replayed[row, column].tolist()
    return f"rgb {a} at (x {column}, y {row})", f"rgb {b} ({int(differs.sum())} pixels differ)"
