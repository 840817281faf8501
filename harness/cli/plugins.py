"""``harness plugins``: what is registered, and by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from harness.cli import LazyGroup
from harness.cli.names import echo_json
from harness.registry import TABLES, Plugin, broken_distributions, registered

__all__ = ["list_plugins", "plugins"]


@click.group(cls=LazyGroup, table={
    "list": ("harness.cli.plugins:list_plugins", "List worlds, agents, interventions and analyses."),
    "check": ("harness.cli.check:check", "Check a plug-in against the laws of its kind."),
})
def plugins() -> None:
    """List and check what is registered."""


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_plugins(as_json: bool) -> None:
    """List worlds, agents, interventions and analyses, built in and installed.

    Nothing is imported, so a plug-in that cannot be is listed like any other.
    """
    groups = {group: [_row(name, plugins) for name, plugins in registered(group).items()] for group in TABLES}
    if as_json:
        echo_json(groups)
    else:
        for group, rows in groups.items():
            click.echo(f"{group}:")
            for row in rows:
                click.echo(f"  {row['name']}{_remark(row)}")
    for problem in broken_distributions():
        click.echo(f"warning: {problem}", err=True)


def _row(name: str, plugins: Sequence[Plugin]) -> dict[str, Any]:
    """A name and who gives it; with all of them where they are several."""
    first = plugins[0]
    row = {"name": name, "source": first.distribution or "built in", "path": first.path}
    if len(plugins) > 1:
        row["refused"] = f"given by {' and '.join(each.source for each in plugins)}"
    return row


def _remark(row: Mapping[str, Any]) -> str:
    if "refused" in row:
        return f"  (refused: {row['refused']})"
    return "" if row["source"] == "built in" else f"  ({row['source']})"
