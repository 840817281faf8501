"""What can be read out of a recording. Each analysis returns a result with its provenance."""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.analysis.attention import AttentionMaps, attention_maps
    from harness.analysis.comparison import Comparison, compare
    from harness.analysis.effects import Effect, effect
    from harness.analysis.means import difference_of_means, mean_activation
    from harness.analysis.result import Result
    from harness.analysis.saliency.maps import saliency_maps
    from harness.analysis.saliency.result import Saliency

_DOOR = {"AttentionMaps": "attention", "Comparison": "comparison", "Effect": "effects", "Result": "result",
         "Saliency": "saliency.result", "attention_maps": "attention", "compare": "comparison",
         "difference_of_means": "means", "effect": "effects", "mean_activation": "means",
         "saliency_maps": "saliency.maps"}

__all__ = ["AttentionMaps", "Comparison", "Effect", "Result", "Saliency", "attention_maps", "compare",
           "difference_of_means", "effect", "mean_activation", "saliency_maps"]


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        return getattr(_importlib.import_module(f"{__name__}.{_DOOR[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
