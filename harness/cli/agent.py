"""``harness agent``: list and show."""

from __future__ import annotations

import click

from harness.agent.load import agent_names, load_agent
from harness.cli.names import AGENT, bytes_in_words, echo_json
from harness.recording.recorder import estimate_activation_bytes
from harness.recording.schema import plain

__all__ = ["agent"]


@click.group()
def agent() -> None:
    """List and show agents."""


@agent.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_agents(as_json: bool) -> None:
    """List the agents that can be named."""
    if as_json:
        echo_json(list(agent_names()))
        return
    for name in agent_names():
        click.echo(name)


@agent.command()
@click.argument("name", type=AGENT)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show(name: str, as_json: bool) -> None:
    """Show what an agent is, and the hook points it offers."""
    loaded = load_agent(name)
    shapes = loaded.hook_shapes()
    about = plain({**loaded.provenance(), "description": loaded.description, "privileged": loaded.privileged,
                   "torch_threads": loaded.torch_threads})
    if as_json:
        echo_json({**about, "hooks": {hook: {"shape": list(shape), "dtype": dtype}
                                      for hook, (shape, dtype) in shapes.items()}})
        return
    for key, value in about.items():
        click.echo(f"{key}: {value}")
    if shapes:
        click.echo(f"\n{len(shapes)} hook points (shape without batch and time, bytes per step):")
    width = max(map(len, shapes), default=0)
    for hook, (shape, dtype) in shapes.items():
        size = bytes_in_words(estimate_activation_bytes(loaded, [hook], 1))
        click.echo(f"  {hook:<{width}}  {str(list(shape)):<16} {dtype:<8} {size:>9}")
