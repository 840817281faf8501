"""Names to classes: built-in tables plus entry points. The only place that imports by string."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from harness.errors import HarnessError, unknown_name

__all__ = ["TABLES", "Plugin", "broken_distributions", "data_dir", "installed", "load_object", "load_plugin", "lookup",
           "names", "registered", "twice"]

TABLES: dict[str, dict[str, str]] = {
    "harness.worlds": {
        "blockworld": "harness.world.blockworld.world:BlockWorld",
        "minerl": "harness.world.minerl:MineRLWorld",
        "minestudio": "harness.world.minestudio:MineStudioWorld",
        "mcio": "harness.world.mcio:MCioWorld",
        "gymnasium": "harness.world.gymnasium_world:GymnasiumWorld",
        "remote": "harness.world.remote:RemoteWorld",
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
        "LinearErasure": "harness.intervention.feature.erasure:LinearErasure",
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
        "RandomShift": "harness.intervention.feature.shift:RandomShift",
        "Recolour": "harness.intervention.input.colour:Recolour",
        "RemoveBlocks": "harness.intervention.world:RemoveBlocks",
        "ResampleAblation": "harness.intervention.feature.ablation:ResampleAblation",
        "Robe": "harness.intervention.world:Robe",
        "SaeSplice": "harness.intervention.feature.sae:SaeSplice",
        "Steering": "harness.intervention.feature.direction:Steering",
        "Teleport": "harness.intervention.world:Teleport",
        "TimeOfDay": "harness.intervention.world:TimeOfDay",
        "Weather": "harness.intervention.world:Weather",
        "ZeroAblation": "harness.intervention.feature.ablation:ZeroAblation",
    },
    "harness.analyses": {
        "attention": "harness.analysis.attention_profiles:attention_profile",
        "keyframes": "harness.analysis.keyframes:key_frames",
        "memory": "harness.analysis.memory_knockout:memory_effects",
        "patching": "harness.analysis.patching:activation_patching",
        "probes": "harness.analysis.probe:probes",
        "readout": "harness.analysis.readout:read_out",
        "saliency": "harness.analysis.saliency.maps:saliency_maps",
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


@dataclass(frozen=True)
class Plugin:
    """A name in a plug-in group, and who gives it.

    Attributes:
        group: One of ``TABLES``.
        name: As scenarios, agent files and commands say it.
        path: ``"package.module:Name"``.
        distribution: Who installed it, such as ``"harness-example 0.1"``; None for what is built in.
    """

    group: str
    name: str
    path: str
    distribution: str | None = None

    @property
    def kind(self) -> str:
        """``world``, ``agent``, ``intervention`` or ``analysis``."""
        word = self.group.rpartition(".")[2]
        return "analysis" if word == "analyses" else word.removesuffix("s")

    @property
    def source(self) -> str:
        """The distribution; for what is built in, this one."""
        return self.distribution or f"harness-bench {metadata.version('harness-bench')}"


@functools.lru_cache(maxsize=4)
def _scan(path: tuple[str, ...]) -> tuple[tuple[Plugin, ...], tuple[str, ...]]:
    """What the distributions on ``path`` register, and what is wrong with those whose metadata cannot be read.

    The first distribution of a name counts, as in Python's own search.
    """
    found: list[Plugin] = []
    broken: list[str] = []
    seen: set[str] = set()
    for distribution in metadata.distributions(path=list(path)):
        called = "a distribution without a name"
        try:
            # Many are installed and few are for us: the others are not parsed, so that they cannot break anything.
            if "harness." not in (distribution.read_text("entry_points.txt") or ""):
                continue
            name, called = distribution.metadata["Name"], f"{distribution.metadata['Name']} {distribution.version}"
            points = [point for point in distribution.entry_points if point.group in TABLES]
        except Exception as problem:  # whatever a stranger's metadata makes the parser say
            broken.append(f"the entry points of {called} in {distribution.locate_file('')} cannot be read: "
                          f"{type(problem).__name__}: {problem}")
            continue
        key = str(name).lower().replace("_", "-")
        if key not in seen:
            seen.add(key)
            found += [Plugin(point.group, point.name, point.value, called) for point in points]
    return tuple(found), tuple(broken)


def registered(group: str) -> dict[str, tuple[Plugin, ...]]:
    """Every name in a plug-in group, sorted, with all who give it: more than one is a clash that ``lookup`` refuses."""
    table: dict[str, tuple[Plugin, ...]] = {name: (Plugin(group, name, path),) for name, path in TABLES[group].items()}
    for plugin in _scan(tuple(sys.path))[0]:
        if plugin.group == group:
            table[plugin.name] = (*table.get(plugin.name, ()), plugin)
    return dict(sorted(table.items()))


def broken_distributions() -> tuple[str, ...]:
    """One sentence for each installed distribution that means to register something and cannot be read."""
    return _scan(tuple(sys.path))[1]


def names(group: str) -> list[str]:
    """Every name registered in a plug-in group, built in or installed."""
    return list(registered(group))


def installed(group: str) -> dict[str, Plugin]:
    """Name to plug-in, of those that are not built in; of a name that several give, the first."""
    return {name: plugins[0] for name, plugins in registered(group).items() if plugins[0].distribution is not None}


def load_object(path: str) -> Any:
    """The object at ``"package.module:Name"``."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def load_plugin(plugin: Plugin, *, base: type | None = None, where: str | None = None,
                error: type[HarnessError] = HarnessError) -> Any:
    """Import what a plug-in names.

    Args:
        plugin: From ``registered``.
        base: The class that it must be a subclass of; None for a function.
        where: The place to name in errors; else the plug-in's path.
        error: The class of errors.

    Raises:
        HarnessError: (or ``error``) when an installed plug-in cannot be imported, or is no subclass of ``base``, naming
            its distribution.
    """
    try:
        loaded = load_object(plugin.path)
    except Exception as problem:  # a stranger's module may raise anything
        if plugin.distribution is None:
            raise
        raise _refusal(plugin, f"cannot be imported: {type(problem).__name__}: {problem}", where, error) from problem
    fits = callable(loaded) if base is None else isinstance(loaded, type) and issubclass(loaded, base)
    if not fits:
        wanted = "a function" if base is None else f"a class derived from {base.__module__}:{base.__name__}"
        raise _refusal(plugin, f"is {loaded!r}, expected {wanted}", where, error)
    return loaded


def _refusal(plugin: Plugin, what: str, where: str | None, error: type[HarnessError]) -> HarnessError:
    return error(f'the {plugin.kind} "{plugin.name}" of {plugin.source} {what}', where=where or plugin.path,
                 hint=f"its author can mend it; pip uninstall {plugin.source.split()[0]} takes it away")


def lookup(group: str, name: str, *, base: type | None = None, where: str | None = None,
           error: type[HarnessError] = HarnessError) -> Any:
    """The class or function registered under ``name``.

    Args:
        group: One of ``TABLES``.
        name: The name.
        base: As in ``load_plugin``.
        where: The place to name in errors.
        error: The class of errors.

    Raises:
        HarnessError: (or ``error``) when the name is not registered, with the nearest names; when more than one gives
            it, with both; or as ``load_plugin`` does.
    """
    plugins = registered(group).get(name, ())
    if not plugins:
        raise unknown_name(Plugin(group, name, "").kind, name, names(group), where=where, error=error)
    if len(plugins) > 1:
        raise twice(name, plugins[0].kind, [f"{plugin.source} ({plugin.path})" for plugin in plugins], where, error)
    return load_plugin(plugins[0], base=base, where=where, error=error)


def twice(name: str, kind: str, givers: Sequence[str], where: str | None = None,
          error: type[HarnessError] = HarnessError) -> HarnessError:
    """An error for one name that several give: none of them is preferred in silence."""
    return error(f'more than one {kind} is called "{name}": {" and ".join(givers)}', where=where,
                 hint="uninstall one of them, or ask its author to rename it; harness plugins list shows them all")
