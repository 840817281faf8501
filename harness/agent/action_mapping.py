"""Between MineRL's 24 keys and VPT's two numbers: a joint button combination and a joint camera bin.

Buttons: one of 8,640 combinations of ten groups, or ``inventory`` alone. Camera: 11 pitch bins times 11 yaw bins on a
mu-law scale. The order of everything is that of the released checkpoints (lib/actions.py and lib/action_mapping.py of
openai/Video-Pre-Training), written anew from its description.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import AgentError
from harness.world.action import Action, check_action, noop_action

__all__ = [
    "BUTTON_NAMES", "CAMERA_BINS", "INVENTORY", "NULL_BUTTONS", "NULL_CAMERA", "N_BUTTONS", "N_CAMERA", "button_table",
    "camera_off", "dequantise", "from_policy", "quantise", "to_policy",
]

BUTTON_NAMES: tuple[str, ...] = (
    "attack", "back", "forward", "jump", "left", "right", "sneak", "sprint", "use", "drop", "inventory",
    *(f"hotbar.{i}" for i in range(1, 10)),
)
"""VPT's own order of its 20 buttons."""

# One row per group, slowest digit first; the digit of a group is 0 for none, else 1 + the position in the row.
_GROUPS: tuple[tuple[str, ...], ...] = (
    tuple(f"hotbar.{i}" for i in range(1, 10)),
    ("forward", "back"),
    ("left", "right"),
    ("sprint", "sneak"),
    ("use",),
    ("drop",),
    ("attack",),
    ("jump",),
    ("camera",),
)
_STRIDES: tuple[int, ...] = tuple(math.prod(1 + len(later) for later in _GROUPS[i + 1:]) for i in range(len(_GROUPS)))
_CANCEL = (frozenset({"forward", "back"}), frozenset({"left", "right"}))

INVENTORY = math.prod(1 + len(group) for group in _GROUPS)
"""The joint index of the inventory key, 8640: the last one, beside all combinations."""
N_BUTTONS = INVENTORY + 1
NULL_BUTTONS = 0
CAMERA_BINS = 11
N_CAMERA = CAMERA_BINS**2
NULL_CAMERA = N_CAMERA // 2
"""The joint index of no turn, 60."""

_MAX_DEGREES, _BIN_SIZE, _MU = 10.0, 2.0, 10.0


def quantise(degrees: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Bins 0..10 of camera angles in degrees: clipped to +-10, mu-law compressed, rounded half to even."""
    x = np.clip(np.asarray(degrees, dtype=np.float64), -_MAX_DEGREES, _MAX_DEGREES)
    compressed = np.sign(x) * np.log1p(_MU * np.abs(x) / _MAX_DEGREES) / math.log1p(_MU) * _MAX_DEGREES
    return np.round((compressed + _MAX_DEGREES) / _BIN_SIZE).astype(np.int64)


def dequantise(bins: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Degrees in the middle of bins 0..10: +-10, 5.809483, 3.215369, 1.609499, 0.615394 and 0."""
    x = np.asarray(bins, dtype=np.float64) * _BIN_SIZE - _MAX_DEGREES
    return np.sign(x) * (np.power(1.0 + _MU, np.abs(x) / _MAX_DEGREES) - 1.0) / _MU * _MAX_DEGREES


@functools.cache
def button_table() -> npt.NDArray[np.uint8]:
    """uint8 [8641, 20]: which of ``BUTTON_NAMES`` each joint index holds down. Read-only."""
    table = np.zeros((N_BUTTONS, len(BUTTON_NAMES)), dtype=np.uint8)
    index = np.arange(INVENTORY)
    for group, stride in zip(_GROUPS[:-1], _STRIDES[:-1], strict=True):
        digit = index // stride % (1 + len(group))
        for place, key in enumerate(group, start=1):
            table[:INVENTORY, BUTTON_NAMES.index(key)] = digit == place
    table[INVENTORY, BUTTON_NAMES.index("inventory")] = 1
    table.flags.writeable = False
    return table


@functools.cache
def camera_off() -> npt.NDArray[np.bool_]:
    """Per joint index, bool [8641]: those whose camera switch is off, so that the camera head is overruled. Read-only.

    The inventory index is not among them.
    """
    off: npt.NDArray[np.bool_] = np.arange(N_BUTTONS) % 2 == 0
    off[INVENTORY] = False
    off.flags.writeable = False
    return off


def from_policy(buttons: int, camera: int) -> Action:
    """MineRL's action of VPT's two indices; ``ESC``, ``pickItem`` and ``swapHands`` are 0.

    Args:
        buttons: 0..8640.
        camera: 0..120, 11 * pitch bin + yaw bin; overruled by 60 (no turn) when the combination's camera switch is off.

    Raises:
        AgentError: for an index out of range.
    """
    for name, index, n in (("buttons", buttons, N_BUTTONS), ("camera", camera, N_CAMERA)):
        if not 0 <= index < n:
            raise AgentError(f"{name} index: expected 0..{n - 1}, got {index}")
    action = noop_action()
    row = button_table()[buttons]
    for column in np.flatnonzero(row):
        action[BUTTON_NAMES[column]] = 1
    turn = NULL_CAMERA if camera_off()[buttons] else camera
    action["camera"] = dequantise(divmod(turn, CAMERA_BINS)).astype(np.float32)
    return action


def to_policy(action: Mapping[str, Any]) -> tuple[int, int]:
    """VPT's (buttons, camera) indices for an action; the reverse of ``from_policy`` on what that can give.

    What VPT cannot say is settled as in its own training data: opposite directions cancel, ``sneak`` beats
    ``sprint``, the highest hotbar key wins, ``inventory`` stands alone and without a turn, angles go to the nearest
    bin, and ``ESC``, ``pickItem`` and ``swapHands`` are lost.

    Args:
        action: Keys as in ``harness.world.action``; missing ones are released. ``camera`` in degrees [pitch, yaw].

    Raises:
        WorldError: for a key or value that is not an action's.
    """
    full = check_action(action)
    if full["inventory"]:
        return INVENTORY, NULL_CAMERA
    pitch, yaw = quantise(full["camera"])
    camera = int(pitch) * CAMERA_BINS + int(yaw)
    held = {**full, "camera": int(camera != NULL_CAMERA)}
    buttons = sum(stride * _digit(group, held) for group, stride in zip(_GROUPS, _STRIDES, strict=True))
    return buttons, camera


def _digit(group: tuple[str, ...], held: Mapping[str, Any]) -> int:
    pressed = [place for place, key in enumerate(group, start=1) if held[key]]
    if len(pressed) > 1 and frozenset(group) in _CANCEL:
        return 0
    return pressed[-1] if pressed else 0
