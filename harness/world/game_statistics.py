"""Minecraft's own counters, as backends report them, under one set of names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["flat_statistics", "risen"]

_CATEGORIES = {
    "mine_block": "mine_block", "mined": "mine_block", "kill_entity": "kill_entity", "killed": "kill_entity",
    "entity_killed_by": "entity_killed_by", "killed_by": "entity_killed_by", "pickup": "pickup", "picked_up": "pickup",
    "drop": "drop", "dropped": "drop", "use_item": "use_item", "used": "use_item", "break_item": "break_item",
    "broken": "break_item", "craft_item": "craft_item", "crafted": "craft_item", "custom": "", "damage_dealt": "",
}
"""What MineRL, MineStudio and the game's own files call a group of counters, and what a ``WorldState`` calls it."""


def flat_statistics(groups: Mapping[str, Any]) -> dict[str, int]:
    """Counters by the names of ``WorldState.statistics``, those at zero left out.

    Args:
        groups: Group to counters, with or without ``minecraft:`` before either: ``{"mined": {"oak_log": 1}}``,
            ``{"minecraft:custom": {"minecraft:damage_dealt": 70}}``. What is no group of counters is passed over.

    Returns:
        Such as ``{"mine_block.oak_log": 1, "damage_dealt": 70}``. A counter that is told twice counts once.
    """
    found: dict[str, int] = {}
    for group, counters in groups.items():
        category = _CATEGORIES.get(_bare(group))
        if category is None or not isinstance(counters, Mapping):
            continue
        for name, value in counters.items():
            count = int(value)
            if count:
                key = f"{category}.{_bare(name)}" if category else _bare(name)
                found[key] = max(count, found.get(key, 0))
    return found


def _bare(name: str) -> str:
    return name.removeprefix("minecraft:").removeprefix("minecraft.")


def risen(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """By how much each counter is higher than it was; those that are not are left out."""
    return {name: value - before.get(name, 0) for name, value in now.items() if value > before.get(name, 0)}
