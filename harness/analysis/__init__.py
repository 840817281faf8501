"""What can be read out of a recording. Each analysis returns a result with its provenance."""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.analysis.attention import AttentionMaps, attention_maps
    from harness.analysis.comparison import Comparison, compare
    from harness.analysis.effects import Effect, effect
    from harness.analysis.means import difference_of_means, mean_activation
    from harness.analysis.memory_knockout import MemoryEffects, memory_effects
    from harness.analysis.patching import Patching, activation_patching
    from harness.analysis.result import Result

_DOOR = {"AttentionMaps": "attention", "Comparison": "comparison", "Effect": "effects",
         "MemoryEffects": "memory_knockout", "Patching": "patching", "Result": "result",
         "activation_patching": "patching", "attention_maps": "attention", "compare": "comparison",
         "difference_of_means": "means", "effect": "effects", "mean_activation": "means",
         "memory_effects": "memory_knockout"}

__all__ = ["AttentionMaps", "Comparison", "Effect", "MemoryEffects", "Patching", "Result", "activation_patching",
           "attention_maps", "compare", "difference_of_means", "effect", "mean_activation", "memory_effects"]


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        return getattr(_importlib.import_module(f"{__name__}.{_DOOR[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
