"""The action: MineRL 1.0's dictionary of 24 keys. This module holds the only list of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from harness.errors import WorldError, unknown_name

__all__ = ["BUTTONS", "HOTBAR_KEYS", "KEYS", "Action", "action_space", "check_action", "noop_action"]

HOTBAR_KEYS = tuple(f"hotbar.{i}" for i in range(1, 10))
BUTTONS: tuple[str, ...] = (
    "ESC", "attack", "back", "drop", "forward", *HOTBAR_KEYS, "inventory", "jump", "left", "pickItem",
    "right", "sneak", "sprint", "swapHands", "use",
)
KEYS: tuple[str, ...] = tuple(sorted((*BUTTONS, "camera")))

_WHOLE = (int, np.int64)

Action = dict[str, Any]
"""24 keys: each button 0 or 1, ``camera`` float32 [pitch (down +), yaw (right +)] in degrees."""


def action_space() -> spaces.Dict:
    """MineRL 1.0's action space: 23 ``Discrete(2)`` buttons and ``camera`` in [-180, 180] degrees."""
    table: dict[str, spaces.Space[Any]] = {name: spaces.Discrete(2) for name in BUTTONS}
    table["camera"] = spaces.Box(-180.0, 180.0, (2,), np.float32)
    return spaces.Dict({name: table[name] for name in KEYS})


def noop_action() -> Action:
    """A fresh action that does nothing."""
    action: Action = dict.fromkeys(KEYS, 0)
    action["camera"] = np.zeros(2, dtype=np.float32)
    return action


def check_action(action: Mapping[str, Any]) -> Action:
    """A complete copy of ``action``: missing keys released, buttons as ints, camera as float32 [2] within +-180.

    Raises:
        WorldError: for something that is no mapping, an unknown key, a button that is not 0 or 1, or a camera that is
            not two finite numbers.
    """
    if not isinstance(action, Mapping):
        raise WorldError(f"expected an action, a mapping of keys such as {{'forward': 1}}, got {action!r}")
    full = noop_action()
    for key, value in action.items():
        if type(value) in _WHOLE and 0 <= value <= 1 and key in full and key != "camera":
            full[key] = int(value)  # nearly every value, and quick: this runs in every step of every world
            continue
        if key not in full:
            raise unknown_name("action key", str(key), KEYS, error=WorldError)
        if key == "camera":
            full[key] = _camera(value)
            continue
        number = np.asarray(value)
        if number.dtype.kind not in "biuf" or number.size != 1 or float(number.reshape(())) not in (0.0, 1.0):
            raise WorldError(f'action key "{key}": expected 0 or 1, got {value!r}')
        full[key] = int(number.reshape(()))
    return full


def _camera(value: Any) -> npt.NDArray[np.float32]:
    if type(value) is np.ndarray and value.shape == (2,) and value.dtype == np.float32:
        pitch, yaw = value.tolist()
        if -180.0 <= pitch <= 180.0 and -180.0 <= yaw <= 180.0:  # False for a NaN
            return value.copy()
    try:
        camera = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        camera = np.empty(0, dtype=np.float32)
    if camera.shape != (2,) or not np.isfinite(camera).all():
        raise WorldError(f"action key \"camera\": expected two finite numbers [pitch, yaw] in degrees, got {value!r}")
    return np.array(np.clip(camera, -180.0, 180.0), dtype=np.float32)
