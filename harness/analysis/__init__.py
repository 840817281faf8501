"""What can be read out of a recording. Each analysis returns a result with its provenance."""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.analysis.attention import AttentionMaps, attention_maps
    from harness.analysis.comparison import Comparison, compare
    from harness.analysis.effects import Effect, effect
    from harness.analysis.means import difference_of_means, mean_activation
    from harness.analysis.privileged import privileged_state
    from harness.analysis.probe import Probes, probes
    from harness.analysis.readout import Readout, read_out
    from harness.analysis.result import Result

_DOOR = {"AttentionMaps": "attention", "Comparison": "comparison", "Effect": "effects", "Probes": "probe",
         "Readout": "readout", "Result": "result", "attention_maps": "attention", "compare": "comparison",
         "difference_of_means": "means", "effect": "effects", "mean_activation": "means",
         "privileged_state": "privileged", "probes": "probe", "read_out": "readout"}

__all__ = ["AttentionMaps", "Comparison", "Effect", "Probes", "Readout", "Result", "attention_maps", "compare",
           "difference_of_means", "effect", "mean_activation", "privileged_state", "probes", "read_out"]


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        return getattr(_importlib.import_module(f"{__name__}.{_DOOR[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
