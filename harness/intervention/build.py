"""From a mapping, as a scenario names it or a header holds it, to an intervention."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from harness.errors import InterventionError, unknown_name
from harness.intervention.intervention import Intervention
from harness.registry import lookup

__all__ = ["build_intervention"]


def build_intervention(spec: Mapping[str, Any], *, where: str | None = None) -> Intervention:
    """Build an intervention from ``{"kind": class name, field: value, ...}``.

    Args:
        spec: ``Intervention.describe()``'s mapping, or a scenario's; ``site`` and ``description`` are passed over.
        where: The place to name in errors.

    Raises:
        InterventionError: for an unknown kind or field, a missing field, or a value that does not fit.
    """
    kind = spec.get("kind")
    if not isinstance(kind, str):
        raise InterventionError(f"expected an intervention with a kind, got {dict(spec)!r}", where=where)
    build = lookup("harness.interventions", kind, where=where, error=InterventionError)
    known = {field.name: field for field in dataclasses.fields(build)}
    values = {key: value for key, value in spec.items() if key not in ("kind", "site", "description")}
    for key in values:
        if key not in known:
            raise unknown_name(f"field of {kind}", key, known, where=where, error=InterventionError)
    missing = [name for name, field in known.items() if name not in values
               and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING]
    if missing:
        raise InterventionError(f"{kind} needs {', '.join(missing)}", where=where)
    try:
        made = build(**values)
    except (TypeError, ValueError) as problem:
        raise InterventionError(f"{kind}: {problem}", where=where) from problem
    assert isinstance(made, Intervention)
    return made
