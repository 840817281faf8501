"""What can be read out of a recording. Each analysis returns a result with its provenance."""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.analysis.attention import AttentionMaps, attention_maps
    from harness.analysis.result import Result

_DOOR = {"AttentionMaps": "attention", "Result": "result", "attention_maps": "attention"}

__all__ = ["AttentionMaps", "Result", "attention_maps"]


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        return getattr(_importlib.import_module(f"{__name__}.{_DOOR[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
