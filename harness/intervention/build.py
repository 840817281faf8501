"""From a mapping, as a scenario names it or a header holds it, to an intervention."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from harness.errors import InterventionError, unknown_name
from harness.intervention.intervention import Intervention
from harness.intervention.schedule import SCHEDULE_KEYS, Schedule
from harness.registry import lookup

__all__ = ["build_intervention"]


def build_intervention(spec: Mapping[str, Any], *, where: str | None = None) -> Intervention:
    """Build an intervention from ``{"kind": class name, field: value, ...}``.

    Args:
        spec: ``Intervention.describe()``'s mapping, or a scenario's: ``kind``, fields, and the schedule's keys beside
            them (``at``, ``between``, ``every``, ``when``, ``since``); ``site`` and ``description`` are passed over.
        where: The place to name in errors.

    Raises:
        InterventionError: for an unknown kind or field, a missing field, or a value that does not fit.
    """
    kind = spec.get("kind") if isinstance(spec, Mapping) else None
    if not isinstance(kind, str):
        raise InterventionError(f"expected an intervention with a kind, got {spec!r}", where=where)
    build = lookup("harness.interventions", kind, where=where, error=InterventionError)
    known = {field.name: field for field in dataclasses.fields(build) if field.name != "schedule"}
    values = {key: value for key, value in spec.items() if key not in ("kind", "site", "description")}
    for key in values:
        if key not in known and key not in SCHEDULE_KEYS:
            raise unknown_name(f"field of {kind}", key, [*known, *SCHEDULE_KEYS], where=where, error=InterventionError)
    missing = [name for name, field in known.items() if name not in values
               and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING]
    if missing:
        raise InterventionError(f"{kind} needs {', '.join(missing)}", where=where)
    try:
        schedule = Schedule(**{key: values.pop(key) for key in SCHEDULE_KEYS if key in values})
        made = build(**values, schedule=schedule)
    except InterventionError as problem:
        raise InterventionError(problem.message, where=problem.where or where, hint=problem.hint) from problem
    except (TypeError, ValueError) as problem:
        raise InterventionError(f"{kind}: {problem}", where=where) from problem
    assert isinstance(made, Intervention)
    return made
