"""What tells cells apart, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["cell_name", "label_text"]


def label_text(value: Any) -> str:
    """A label for people: an intervention that is written out by its kind and fields, several with a plus between."""
    if isinstance(value, Mapping):
        rest = " ".join(f"{key}={each}" for key, each in value.items() if key != "kind")
        return f"{value.get('kind', '')} {rest}".strip()
    if isinstance(value, list | tuple):
        return " + ".join(map(label_text, value))
    return str(value)


def cell_name(labels: Mapping[str, Any]) -> str:
    """A cell's name in claims and baselines: its axes and their values, whatever its folder is called."""
    return ", ".join(f"{axis}={label_text(value)}" for axis, value in labels.items())
