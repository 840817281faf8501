"""Interventions as the command line names them."""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import InterventionError, unknown_name
from harness.intervention.build import build_intervention
from harness.intervention.intervention import Intervention
from harness.scenario.load import parse_value
from harness.scenario.schema import Scenario

__all__ = ["read_interventions"]


def read_interventions(specs: Sequence[str], scenario: Scenario, where: str) -> list[Intervention]:
    """What ``--intervene`` asks for, in order: names that a scenario gives, or mappings as YAML.

    Args:
        specs: ``no-attack``, or ``{kind: ActionOverride, keys: {attack: 0}}``.
        scenario: Whose names count.
        where: What to name in errors.

    Raises:
        InterventionError: for an unknown name, or what is no intervention.
    """
    built = []
    for spec in specs:
        value = parse_value(spec) if spec.lstrip().startswith("{") else None
        if isinstance(value, dict):
            built.append(build_intervention(value, where=f"--intervene {spec!r}"))
        elif spec in scenario.interventions:
            built.append(build_intervention({"name": spec, **scenario.interventions[spec]}, where=where))
        elif spec.lstrip().startswith("{"):
            raise InterventionError(f"--intervene: expected a mapping as YAML, got {spec!r}",
                                    hint="for instance '{kind: ActionOverride, keys: {attack: 0}}'")
        else:
            raise unknown_name("intervention", spec, scenario.interventions, where=where, error=InterventionError)
    return built
