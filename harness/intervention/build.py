"""From a mapping, as a scenario names it or a header holds it, to an intervention."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from harness.errors import InterventionError, unknown_name
from harness.intervention.intervention import Intervention
from harness.intervention.schedule import SCHEDULE_KEYS, Schedule
from harness.registry import lookup
from harness.scenario.schema import Scenario

__all__ = ["build_as", "build_intervention", "from_scenario", "named_spec"]

_WORDS = {"from": "first", "to": "last"}
"""A scenario's words for the corners of a box; in Python, ``from`` is taken."""


def build_intervention(spec: Mapping[str, Any], *, where: str | None = None) -> Intervention:
    """Build an intervention from ``{"kind": class name, field: value, ...}``.

    Args:
        spec: ``Intervention.describe()``'s mapping, or a scenario's: ``kind``, fields, and the schedule's keys beside
            them (``at``, ``between``, ``every``, ``when``, ``since``); ``site`` and ``description`` are passed over.
            The corners of a box may be called ``from`` and ``to``, as elsewhere in a scenario.
        where: The place to name in errors.

    Raises:
        InterventionError: for an unknown kind or field, a missing field, or a value that does not fit.
    """
    return build_as(_class_of(spec, where), spec, where=where)


def _class_of(spec: Mapping[str, Any], where: str | None) -> type[Intervention]:
    kind = spec.get("kind") if isinstance(spec, Mapping) else None
    if not isinstance(kind, str):
        raise InterventionError(f"expected an intervention with a kind, got {spec!r}", where=where)
    found: type[Intervention] = lookup("harness.interventions", kind, base=Intervention, where=where,
                                       error=InterventionError)
    return found


def build_as(cls: type[Intervention], spec: Mapping[str, Any], *, where: str | None = None) -> Intervention:
    """Build an intervention of a class that need not be registered; ``spec`` and errors as in ``build_intervention``.

    Args:
        cls: The class; ``kind`` in ``spec`` is passed over.
        spec: Fields and schedule.
        where: The place to name in errors.
    """
    kind = cls.__name__
    known = {field.name: field for field in dataclasses.fields(cls) if field.name != "schedule"}
    values = {_WORDS.get(key, key) if _WORDS.get(key) in known and _WORDS[key] not in spec else key: value
              for key, value in spec.items() if key not in ("kind", "site", "description")}
    for key in values:
        if key not in known and key not in SCHEDULE_KEYS:
            raise unknown_name(f"field of {kind}", key, [*known, *SCHEDULE_KEYS], where=where, error=InterventionError)
    missing = [name for name, field in known.items() if name not in values
               and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING]
    if missing:
        raise InterventionError(f"{kind} needs {', '.join(missing)}", where=where)
    try:
        schedule = Schedule(**{key: values.pop(key) for key in SCHEDULE_KEYS if key in values})
        return cls(**values, schedule=schedule)
    except InterventionError as problem:
        raise InterventionError(problem.message, where=problem.where or where, hint=problem.hint) from problem
    except (TypeError, ValueError) as problem:
        raise InterventionError(f"{kind}: {problem}", where=where) from problem


def named_spec(scenario: Scenario, word: str, *, where: str | None = None) -> dict[str, Any]:
    """What a scenario says of an intervention, for ``build_intervention``.

    Args:
        scenario: Its ``interventions`` are looked through.
        word: A name in it; or ``NAME@STEP`` or ``NAME@FIRST-LAST``, which take the place of its schedule there.
        where: The place to name in errors.

    Raises:
        InterventionError: for a name that the scenario has not, with the nearest, or steps that are none.
    """
    name, at, steps = word.partition("@")
    if name not in scenario.interventions:
        raise unknown_name("intervention", name, scenario.interventions, where=where, error=InterventionError)
    spec = {**scenario.interventions[name], "name": name}
    if at:
        numbers = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", steps)
        if not numbers:
            raise InterventionError(f"{word}: expected a step or two behind @, as in {name}@40 or {name}@40-60, "
                                    f"got {steps!r}", where=where)
        spec = {key: value for key, value in spec.items() if key not in SCHEDULE_KEYS}
        first, last = numbers.groups()
        spec |= {"at": int(first)} if last is None else {"between": [int(first), int(last)]}
    return spec


def from_scenario(scenario: Scenario, *words: str) -> list[Intervention]:
    """Interventions that a scenario names, built: what ``--intervene`` does.

    Args:
        scenario: From ``load_scenario``.
        words: Names, each perhaps with ``@STEP`` or ``@FIRST-LAST``; none for all that it has.

    Raises:
        InterventionError: for an unknown name, or one that cannot be built, such as one whose array is still in a
            recording: the command line reads those.
    """
    return [build_intervention(named_spec(scenario, word), where=f'intervention "{word}" of {scenario.name}')
            for word in words or scenario.interventions]
