"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from harness.agent.agent import Agent
from harness.rollout import EpisodeResult
from harness.scenario.schema import Scenario
from harness.statistics import wilson

__all__ = ["print_outcomes"]


def print_outcomes(scenario: Scenario, agent: Agent, played: Sequence[EpisodeResult]) -> None:
    """Print what happened: one line per outcome; over several episodes how often, with Wilson's 95 % interval."""
    console = Console(highlight=False)
    seconds, n_steps = sum(r.seconds for r in played), sum(r.n_steps for r in played)
    who = f"{agent.name} ({agent.description})" if agent.description else agent.name
    console.print(f"{scenario.name}, {who}", markup=False, soft_wrap=True)
    console.print(f"{len(played)} episode{'s' * (len(played) > 1)}, {n_steps} steps in {seconds:.1f} s "
                  f"({n_steps / max(seconds, 1e-9):.0f} steps/s); {_ends(played)}", markup=False, soft_wrap=True)
    if scenario.outcomes:
        console.print(_single(played[0]) if len(played) == 1 else _several(scenario, played))


def _ends(played: Sequence[EpisodeResult]) -> str:
    if len(played) == 1:
        return f"ended {played[0].status}"
    kinds = sorted({r.status for r in played})
    return ", ".join(f"{sum(r.status == kind for r in played)} {kind}" for kind in kinds)


def _single(result: EpisodeResult) -> Table:
    table = Table("outcome", "", "first step", "count")
    for name, outcome in result.outcomes.items():
        first = outcome["first_step"]
        table.add_row(name, "yes" if outcome["value"] else "no", "-" if first is None else str(first),
                      str(outcome["count"]))
    return table


def _several(scenario: Scenario, played: Sequence[EpisodeResult]) -> Table:
    table = Table("outcome", "episodes", "share", "95 % interval", "mean count")
    for name in scenario.outcomes:
        results = [r.outcomes[name] for r in played if name in r.outcomes]
        hits = sum(bool(r["value"]) for r in results)
        low, high = wilson(hits, len(results))
        mean = sum(r["count"] for r in results) / max(len(results), 1)
        table.add_row(name, f"{hits} of {len(results)}", f"{hits / max(len(results), 1):.2f}",
                      f"{low:.2f} to {high:.2f}", f"{mean:.1f}")
    return table
