"""One page per recording, or per two: served on this machine, or written as a single file."""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.viewer.export import export_page
    from harness.viewer.heat import HeatLayer, heat_layers
    from harness.viewer.server import ViewerServer

_DOOR = {"HeatLayer": "heat", "ViewerServer": "server", "export_page": "export", "heat_layers": "heat"}

__all__ = ["HeatLayer", "ViewerServer", "export_page", "heat_layers"]


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        return getattr(_importlib.import_module(f"{__name__}.{_DOOR[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
