"""What a scenario names and other rooms own: its agent and hooks (its interventions: ``intervene.py``).

A scenario file is checked without loading any of them, so that a recording opens where a plug-in is absent. Here they
are looked up, and what does not exist is reported with its place in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import click

from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.analysis.words import cast_interventions
from harness.errors import HarnessError
from harness.scenario.load import where_in_file
from harness.scenario.schema import Scenario

__all__ = ["cast_agent", "cast_hooks", "check_cast"]


@contextmanager
def _pointing(source: str, *keys: str | int) -> Iterator[None]:
    """Let an error that knows no place point to a value in the scenario's file."""
    try:
        yield
    except HarnessError as problem:
        problem.where = problem.where or where_in_file(source, keys)
        raise


def cast_agent(source: str, scenario: Scenario, name: str | None, device: str | None,
               precision: str | None = None, told: Mapping[str, Any] | None = None) -> Agent:
    """The agent asked for, else the scenario's own; the scenario's options go to its own agent alone.

    Args:
        source: The scenario's name or path, as it was given.
        scenario: What it holds.
        name: An agent, None for the scenario's.
        device: For ``load_agent``; None leaves it to the agent.
        precision: The same.
        told: From ``goal_options``.
    """
    keywords: dict[str, Any] = {**(told or {}), "device": device, "precision": precision}
    keywords = {key: value for key, value in keywords.items() if value is not None}
    if name is not None and name != scenario.agent.name:
        return _remarked(load_agent(name, **keywords))
    # What was given on the command line is not the file's mistake.
    with nullcontext() if keywords else _pointing(source, "agent", "name"):
        options = dict(scenario.agent.options)
        if {"prompt", "goal"} & keywords.keys():  # what it is told here takes the place of what the scenario tells it
            for key in ("prompt", "goal", "goal_frame"):
                options.pop(key, None)
        return _remarked(load_agent(scenario.agent.name, **{**options, **keywords}))


def _remarked(agent: Agent) -> Agent:
    """Say so where an agent that knows goals is told none."""
    goals, goal = getattr(agent, "named_goals", ()), getattr(agent, "goal", None)
    if goals and goal is not None and goal.kind == "none":
        click.echo(f"{agent.name} is told nothing, so it plays undirected; goals it knows, for --prompt: "
                   f"{', '.join(goals)}", err=True)
    return agent


def cast_hooks(agent: Agent, asked: Sequence[str], usual: Sequence[str], source: str | None = None) -> list[str]:
    """Hook names to trace: what was asked for, else the usual ones; none for an agent without a network.

    Raises:
        HookError: when a glob matches nothing.
    """
    if asked:
        return list(agent.resolve_hooks(list(asked)))
    if usual and not agent.hook_shapes():
        click.echo(f"{agent.name} has no network, so nothing is traced", err=True)
        return []
    for number, glob in enumerate(usual):
        with _pointing(source or "", "hooks", number):
            agent.resolve_hooks([glob])
    return list(agent.resolve_hooks(list(usual)))


def check_cast(source: str, scenario: Scenario) -> None:
    """Look up everything that a scenario names.

    Raises:
        HarnessError: for the first that does not exist or does not fit, with its place in the file.
    """
    agent = cast_agent(source, scenario, None, "cpu" if "device" in scenario.agent.options else None)
    if agent.hook_shapes():
        cast_hooks(agent, (), scenario.hooks, source)
    cast_interventions(source, scenario, agent, list(scenario.interventions), lenient=True)
