"""Interventions: values that change exactly one thing, each at one of five sites."""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.intervention.action import ActionDelay, ActionNoise, ActionOverride, ActionSequence, KeyBlock
    from harness.intervention.build import from_scenario
    from harness.intervention.feature.ablation import MeanAblation, NoiseAblation, ResampleAblation, ZeroAblation
    from harness.intervention.feature.attention import AttentionEdit
    from harness.intervention.feature.direction import ProjectOut, Steering
    from harness.intervention.feature.erasure import LinearErasure
    from harness.intervention.feature.patch import ActivationPatch
    from harness.intervention.feature.sae import SaeSplice
    from harness.intervention.feature.shift import RandomShift
    from harness.intervention.input.colour import HueShift, Recolour
    from harness.intervention.input.inpaint import Inpaint
    from harness.intervention.input.patch import FramePatch, Paste
    from harness.intervention.input.pixels import PixelBlur, PixelMask, PixelNoise
    from harness.intervention.input.region import Region
    from harness.intervention.intervention import Intervention
    from harness.intervention.memory import MemoryFreeze, MemoryKnockout, MemoryReset, MemorySwap, MemoryWindow
    from harness.intervention.schedule import Schedule
    from harness.intervention.stack import InterventionStack
    from harness.intervention.world import (
        BlockEdit,
        BlockFill,
        Command,
        EntitySwap,
        Give,
        RemoveBlocks,
        Robe,
        Teleport,
        TimeOfDay,
        Weather,
    )

_DOOR = {
    "ActionDelay": "action",
    "ActionNoise": "action",
    "ActionOverride": "action",
    "ActionSequence": "action",
    "ActivationPatch": "feature.patch",
    "AttentionEdit": "feature.attention",
    "BlockEdit": "world",
    "BlockFill": "world",
    "Command": "world",
    "EntitySwap": "world",
    "FramePatch": "input.patch",
    "Give": "world",
    "HueShift": "input.colour",
    "Inpaint": "input.inpaint",
    "Intervention": "intervention",
    "InterventionStack": "stack",
    "KeyBlock": "action",
    "LinearErasure": "feature.erasure",
    "MeanAblation": "feature.ablation",
    "MemoryFreeze": "memory",
    "MemoryKnockout": "memory",
    "MemoryReset": "memory",
    "MemorySwap": "memory",
    "MemoryWindow": "memory",
    "NoiseAblation": "feature.ablation",
    "Paste": "input.patch",
    "PixelBlur": "input.pixels",
    "PixelMask": "input.pixels",
    "PixelNoise": "input.pixels",
    "ProjectOut": "feature.direction",
    "RandomShift": "feature.shift",
    "Recolour": "input.colour",
    "Region": "input.region",
    "RemoveBlocks": "world",
    "ResampleAblation": "feature.ablation",
    "Robe": "world",
    "SaeSplice": "feature.sae",
    "Schedule": "schedule",
    "Steering": "feature.direction",
    "Teleport": "world",
    "TimeOfDay": "world",
    "Weather": "world",
    "ZeroAblation": "feature.ablation",
    "from_scenario": "build",
}

__all__ = [
    "ActionDelay",
    "ActionNoise",
    "ActionOverride",
    "ActionSequence",
    "ActivationPatch",
    "AttentionEdit",
    "BlockEdit",
    "BlockFill",
    "Command",
    "EntitySwap",
    "FramePatch",
    "Give",
    "HueShift",
    "Inpaint",
    "Intervention",
    "InterventionStack",
    "KeyBlock",
    "LinearErasure",
    "MeanAblation",
    "MemoryFreeze",
    "MemoryKnockout",
    "MemoryReset",
    "MemorySwap",
    "MemoryWindow",
    "NoiseAblation",
    "Paste",
    "PixelBlur",
    "PixelMask",
    "PixelNoise",
    "ProjectOut",
    "RandomShift",
    "Recolour",
    "Region",
    "RemoveBlocks",
    "ResampleAblation",
    "Robe",
    "SaeSplice",
    "Schedule",
    "Steering",
    "Teleport",
    "TimeOfDay",
    "Weather",
    "ZeroAblation",
    "from_scenario",
]


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        return getattr(_importlib.import_module(f"{__name__}.{_DOOR[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
