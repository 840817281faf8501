"""Names to classes: built-in tables plus entry points. The only place that imports by string."""

from __future__ import annotations

import importlib
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from harness.errors import HarnessError, unknown_name

__all__ = ["TABLES", "data_dir", "load_object", "lookup", "names"]

TABLES: dict[str, dict[str, str]] = {
    "harness.worlds": {
        "blockworld": "harness.world.blockworld.world:BlockWorld",
        "video": "harness.world.video:VideoWorld",
    },
    "harness.agents": {
        "vpt": "harness.agent.vpt.agent:VPTAgent",
        "steve": "harness.agent.steve.agent:SteveAgent",
        "noop": "harness.agent.scripted:NoopAgent",
        "random": "harness.agent.scripted:RandomAgent",
        "replay": "harness.agent.scripted:ReplayAgent",
        "chopper": "harness.agent.scripted:ChopperAgent",
        "rule-teacher": "harness.agent.rule_teacher:RuleTeacher",
        "goer": "harness.agent.goer:GoerAgent",
        "looker": "harness.agent.looker:LookerAgent",
        "recall-teacher": "harness.agent.recall_teacher:RecallTeacher",
    },
    "harness.interventions": {
        "ActionDelay": "harness.intervention.action:ActionDelay",
        "ActionNoise": "harness.intervention.action:ActionNoise",
        "ActionOverride": "harness.intervention.action:ActionOverride",
        "ActionSequence": "harness.intervention.action:ActionSequence",
        "ActivationPatch": "harness.intervention.feature.patch:ActivationPatch",
        "AttentionEdit": "harness.intervention.feature.attention:AttentionEdit",
        "BlockEdit": "harness.intervention.world:BlockEdit",
        "BlockFill": "harness.intervention.world:BlockFill",
        "Command": "harness.intervention.world:Command",
        "EntitySwap": "harness.intervention.world:EntitySwap",
        "FramePatch": "harness.intervention.input.patch:FramePatch",
        "Give": "harness.intervention.world:Give",
        "HueShift": "harness.intervention.input.colour:HueShift",
        "Inpaint": "harness.intervention.input.inpaint:Inpaint",
        "KeyBlock": "harness.intervention.action:KeyBlock",
        "MeanAblation": "harness.intervention.feature.ablation:MeanAblation",
        "MemoryFreeze": "harness.intervention.memory:MemoryFreeze",
        "MemoryKnockout": "harness.intervention.memory:MemoryKnockout",
        "MemoryReset": "harness.intervention.memory:MemoryReset",
        "MemorySwap": "harness.intervention.memory:MemorySwap",
        "MemoryWindow": "harness.intervention.memory:MemoryWindow",
        "NoiseAblation": "harness.intervention.feature.ablation:NoiseAblation",
        "Paste": "harness.intervention.input.patch:Paste",
        "PixelBlur": "harness.intervention.input.pixels:PixelBlur",
        "PixelMask": "harness.intervention.input.pixels:PixelMask",
        "PixelNoise": "harness.intervention.input.pixels:PixelNoise",
        "ProjectOut": "harness.intervention.feature.direction:ProjectOut",
        "Recolour": "harness.intervention.input.colour:Recolour",
        "RemoveBlocks": "harness.intervention.world:RemoveBlocks",
        "ResampleAblation": "harness.intervention.feature.ablation:ResampleAblation",
        "Robe": "harness.intervention.world:Robe",
        "Steering": "harness.intervention.feature.direction:Steering",
        "Teleport": "harness.intervention.world:Teleport",
        "TimeOfDay": "harness.intervention.world:TimeOfDay",
        "Weather": "harness.intervention.world:Weather",
        "ZeroAblation": "harness.intervention.feature.ablation:ZeroAblation",
    },
    "harness.analyses": {
        "attention": "harness.analysis.attention:attention_maps",
        "memory": "harness.analysis.memory_knockout:memory_effects",
        "patching": "harness.analysis.patching:activation_patching",
    },
}


def data_dir(kind: Literal["scenarios", "agents"]) -> Path:
    """The folder of bundled definitions: inside an installed wheel, or at the root of a checkout.

    Raises:
        HarnessError: when neither is there (a broken installation).
    """
    package = Path(__file__).resolve().parent
    for candidate in (package / "_data" / kind, package.parent / kind):
        if candidate.is_dir():
            return candidate
    raise HarnessError(f"the bundled {kind} are missing from this installation",
                       where=str(package), hint="install the package again")


def _entry_points(group: str) -> dict[str, metadata.EntryPoint]:
    found: dict[str, metadata.EntryPoint] = {}
    for point in metadata.entry_points(group=group):
        if point.name in TABLES[group] or point.name in found:
            other = found[point.name].value if point.name in found else TABLES[group][point.name]
            raise HarnessError(
                f'two plug-ins are called "{point.name}" in {group}: {other} and {point.value}',
                hint="uninstall one of the two, or ask its author to rename it",
            )
        found[point.name] = point
    return found


def names(group: str) -> list[str]:
    """Every name registered in a plug-in group, built in or installed."""
    return sorted({*TABLES[group], *_entry_points(group)})


def load_object(path: str) -> Any:
    """The object at ``"package.module:Name"``."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def lookup(group: str, name: str, *, where: str | None = None, error: type[HarnessError] = HarnessError) -> Any:
    """The class registered under ``name``.

    Raises:
        HarnessError: (or ``error``) when the name is not registered, with the nearest names.
    """
    if name in TABLES[group]:
        return load_object(TABLES[group][name])
    points = _entry_points(group)
    if name in points:
        return points[name].load()
    kind = group.rpartition(".")[2].removesuffix("s")
    raise unknown_name(kind, name, names(group), where=where, error=error)
