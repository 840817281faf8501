"""``harness plugins``: what is registered."""

from __future__ import annotations

import click

from harness.cli.names import echo_json
from harness.registry import TABLES, names

__all__ = ["plugins"]


@click.group()
def plugins() -> None:
    """List what is registered."""


@plugins.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_plugins(as_json: bool) -> None:
    """List worlds, agents, interventions and analyses, built in and installed."""
    groups = {group: [{"name": name, "source": "built in" if name in TABLES[group] else "installed"}
                      for name in names(group)] for group in TABLES}
    if as_json:
        echo_json(groups)
        return
    for group, entries in groups.items():
        click.echo(f"{group}:")
        for entry in entries:
            click.echo(f"  {entry['name']}" + ("" if entry["source"] == "built in" else "  (installed)"))
        if not entries:
            click.echo("  (none)")
