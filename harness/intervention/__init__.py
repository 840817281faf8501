"""Interventions: values that change exactly one thing, each at one of five sites."""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.intervention.action import ActionOverride
    from harness.intervention.feature.ablation import MeanAblation, NoiseAblation, ResampleAblation, ZeroAblation
    from harness.intervention.feature.attention import AttentionEdit
    from harness.intervention.feature.direction import ProjectOut, Steering
    from harness.intervention.feature.patch import ActivationPatch
    from harness.intervention.input.colour import HueShift, Recolour
    from harness.intervention.input.inpaint import Inpaint
    from harness.intervention.input.patch import FramePatch, Paste
    from harness.intervention.input.pixels import PixelBlur, PixelMask, PixelNoise
    from harness.intervention.input.region import Region
    from harness.intervention.intervention import Intervention
    from harness.intervention.schedule import Schedule
    from harness.intervention.stack import InterventionStack

_DOOR = {
    "ActionOverride": "action",
    "ActivationPatch": "feature.patch",
    "AttentionEdit": "feature.attention",
    "FramePatch": "input.patch",
    "HueShift": "input.colour",
    "Inpaint": "input.inpaint",
    "Intervention": "intervention",
    "InterventionStack": "stack",
    "MeanAblation": "feature.ablation",
    "NoiseAblation": "feature.ablation",
    "Paste": "input.patch",
    "PixelBlur": "input.pixels",
    "PixelMask": "input.pixels",
    "PixelNoise": "input.pixels",
    "ProjectOut": "feature.direction",
    "Recolour": "input.colour",
    "Region": "input.region",
    "ResampleAblation": "feature.ablation",
    "Schedule": "schedule",
    "Steering": "feature.direction",
    "ZeroAblation": "feature.ablation",
}

__all__ = [
    "ActionOverride",
    "ActivationPatch",
    "AttentionEdit",
    "FramePatch",
    "HueShift",
    "Inpaint",
    "Intervention",
    "InterventionStack",
    "MeanAblation",
    "NoiseAblation",
    "Paste",
    "PixelBlur",
    "PixelMask",
    "PixelNoise",
    "ProjectOut",
    "Recolour",
    "Region",
    "ResampleAblation",
    "Schedule",
    "Steering",
    "ZeroAblation",
]


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        return getattr(_importlib.import_module(f"{__name__}.{_DOOR[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
