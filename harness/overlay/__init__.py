"""Pictures and videos drawn from a recording."""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.overlay.compose import compose_frame
    from harness.overlay.video import render_video

_DOOR = {"compose_frame": "compose", "render_video": "video"}

__all__ = ["compose_frame", "render_video"]


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        return getattr(_importlib.import_module(f"{__name__}.{_DOOR[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
