"""Interventions: values that change exactly one thing, each at one of five sites."""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.intervention.action import ActionOverride
    from harness.intervention.feature import ZeroAblation
    from harness.intervention.input import PixelMask
    from harness.intervention.intervention import Intervention

_DOOR = {
    "ActionOverride": "action",
    "Intervention": "intervention",
    "PixelMask": "input",
    "ZeroAblation": "feature",
}

__all__ = ["ActionOverride", "Intervention", "PixelMask", "ZeroAblation"]


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        return getattr(_importlib.import_module(f"{__name__}.{_DOOR[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
