"""``harness agent``: list, show and fetch."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from harness.agent.fetch import Progress as Report
from harness.agent.fetch import fetch_agent
from harness.agent.load import agent_names, describe_agent, load_agent, model_card, read_agent_definition
from harness.agent.published import (
    PublishedAgent,
    PublishedSource,
    agent_folder,
    present_source,
    published_agent,
    published_names,
)
from harness.cli.names import AGENT, PUBLISHED, bytes_in_words, echo_json
from harness.errors import AgentError
from harness.recording.recorder import estimate_activation_bytes
from harness.recording.schema import plain
from harness.registry import Plugin, installed

__all__ = ["agent"]

_SECONDS_BETWEEN_LINES = 10.0


@click.group()
def agent() -> None:
    """List, show and fetch agents."""


# --- list ----------------------------------------------------------------------------------------------------------

@agent.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_agents(as_json: bool) -> None:
    """List the agents that can be named: bundled ones, and those that others have published."""
    bundled, published = [_bundled_row(name) for name in agent_names()], [_published_row(published_agent(name))
                                                                          for name in published_names()]
    added = [_plugin_row(plugin) for plugin in installed("harness.agents").values()]
    if as_json:
        echo_json([*bundled, *added, *published])
        return
    width = max(len(row["name"]) for row in (*bundled, *added, *published))
    click.echo("bundled")
    for row in bundled:
        click.echo(f"  {row['name']:<{width}}  {row['description']} ({row['licence']})")
    if added:
        click.echo("\nfrom plug-ins")
    for row in added:
        click.echo(f"  {row['name']:<{width}}  {row['description']}")
    click.echo("\npublished by others (harness agent fetch NAME)")
    for row in published:
        here = "here" if row["present"] else "not here"
        click.echo(f"  {row['name']:<{width}}  {bytes_in_words(row['bytes']):>8}  {here:<8}  "
                   f"{row['licence'].split(' (')[0]:<26}  {', '.join(s['name'] for s in row['sources'])}")
    click.echo("\nharness agent show NAME says more of each: parts, memory, hook points, licence, where it comes from")


def _bundled_row(name: str) -> dict[str, Any]:
    definition = read_agent_definition(name)
    return {"name": name, "bundled": True, "kind": definition.kind, "description": definition.description,
            "licence": definition.licence, "present": True,
            "bytes": definition.weights.stat().st_size if definition.weights and definition.weights.is_file() else 0}


def _plugin_row(plugin: Plugin) -> dict[str, Any]:
    # It is not imported, so that a broken one stands in nobody's way.
    taken = plugin.name in (*agent_names(), *published_names())
    return {"name": plugin.name, "bundled": False, "kind": plugin.name,
            "description": f"of {plugin.source}{': refused, the name is taken' if taken else ''}",
            "licence": "", "present": True, "bytes": 0}


def _published_row(row: PublishedAgent) -> dict[str, Any]:
    here = present_source(row)
    return {"name": row.name, "bundled": False, "kind": row.kind, "description": row.trained_for,
            "licence": row.licence, "present": here is not None, "bytes": (here or row.source()).n_bytes,
            "size": row.size, "folder": str(agent_folder(row)),
            "sources": [_source_row(row, source) for source in row.sources]}


def _source_row(row: PublishedAgent, source: PublishedSource) -> dict[str, Any]:
    return {"name": source.name, "bytes": source.n_bytes, "files": [
        {"role": file.role, "file": file.file, "bytes": file.n_bytes, "from": file.url or file.page,
         "needed": file.needed, "sha256": file.sha256, "md5": file.md5,
         "present": (agent_folder(row) / file.file).is_file()} for file in source.files]}


# --- show ----------------------------------------------------------------------------------------------------------

@agent.command()
@click.argument("name", type=AGENT)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show(name: str, as_json: bool) -> None:
    """Show what an agent is: its parts, its memory, the hook points it offers, its card."""
    facts = describe_agent(name)
    # What others have published is large, and may not be here: it is described and not loaded.
    about = _published_row(published_agent(name)) if name in published_names() else _loaded(name, facts)
    card = model_card(name)
    if as_json:
        echo_json({**about, **facts, "hooks": facts.get("hooks") or about.get("hooks", {}), "card": card})
        return
    hooks = facts.pop("hooks", None) or about.pop("hooks", {})
    about.pop("hooks", None)
    for key, value in about.items():
        if key == "sources":
            _echo_sources(value)
        else:
            click.echo(f"{key}: {value}")
    if facts:
        _echo_facts(facts)
    _echo_hooks(hooks)
    if card:
        _echo_card(card)


def _loaded(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a bundled agent says of itself."""
    loaded = load_agent(name)
    hooks = {hook: {"shape": list(shape), "dtype": dtype, "bytes": estimate_activation_bytes(loaded, [hook], 1)}
             for hook, (shape, dtype) in loaded.hook_shapes().items()}
    about = plain({**loaded.provenance(), "description": loaded.description, "privileged": loaded.privileged,
                   "torch_threads": loaded.torch_threads})
    return {**about, "hooks": hooks}


def _echo_sources(sources: Sequence[Mapping[str, Any]]) -> None:
    for source in sources:
        click.echo(f"source {source['name']}:")
        for file in source["files"]:
            words = [f"about {bytes_in_words(file['bytes'])}", "here" if file["present"] else "not here"]
            if not file["needed"]:
                words.append("not needed")
            words += [f"{kind} {file[kind]}" for kind in ("sha256", "md5") if file[kind]]
            click.echo(f"  {file['file']} ({', '.join(words)})\n    {file['from']}")


def _echo_facts(facts: Mapping[str, Any]) -> None:
    click.echo(f"\n{facts['blocks']} blocks of {facts['heads']} heads, width {facts['width']}, "
               f"temperature {facts['temperature']:g}")
    if "goals" in facts:
        click.echo(f"goals, for --prompt: {', '.join(facts['goals'])}")
    click.echo("parameters:")
    width = max(map(len, facts["parameters"]))
    for part, count in facts["parameters"].items():
        click.echo(f"  {part:<{width}}  {count:>13,}")
    click.echo("weights: " + ", ".join(f"{bytes_in_words(n)} in {p}" for p, n in facts["bytes"].items()))
    memory = facts["memory"]
    shape = next(iter(memory["parts"].values()))
    click.echo(f"memory: keys and values of the last {memory['window']} frames ({memory['seconds']:g} s) in each of "
               f"{facts['blocks']} blocks, each {shape},\n  and which of them belong to the episode; "
               + ", ".join(f"{bytes_in_words(n)} in {p}" for p, n in memory["bytes"].items()))


def _echo_hooks(hooks: Mapping[str, Mapping[str, Any]]) -> None:
    if not hooks:
        return
    click.echo(f"\n{len(hooks)} hook points (shape without batch and time, bytes per step):")
    width = max(map(len, hooks))
    for hook, row in hooks.items():
        n_bytes = row.get("bytes", _bytes_of(row["shape"]))
        click.echo(f"  {hook:<{width}}  {str(list(row['shape'])):<16} {row['dtype']:<8} "
                   f"{bytes_in_words(n_bytes):>9}")


def _bytes_of(shape: Sequence[int]) -> int:
    n = 4
    for size in shape:
        n *= size
    return n


def _echo_card(card: str) -> None:
    click.echo()
    if sys.stdout.isatty():
        Console().print(Markdown(card))
    else:
        click.echo(card.rstrip())


# --- fetch ---------------------------------------------------------------------------------------------------------

@agent.command()
@click.argument("name", type=PUBLISHED)
@click.option("--source", help="One of the agent's sources; else the usual one. `harness agent show NAME` lists them.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
def fetch(name: str, source: str | None, quiet: bool) -> None:
    """Download a published agent's files into the cache; go on where an earlier download broke off."""
    if name in agent_names():
        raise AgentError(f"{name} comes with this package: there is nothing to fetch",
                         hint=f"harness agent show {name}")
    row = published_agent(name)
    origin = row.source(source)
    if not quiet:
        click.echo(f"{row.name}: {row.trained_for}\nlicence: {row.licence}\n"
                   f"about {bytes_in_words(origin.n_bytes)} from {origin.name} to {agent_folder(row)}", err=True)
    with _download_bar(quiet) as report:
        paths = fetch_agent(row, origin.name, report)
    for path in paths:
        click.echo(path)
    if not quiet:
        click.echo(f"next: harness agent show {name}, harness trace VIDEO --agent {name}", err=True)


@contextmanager
def _download_bar(quiet: bool) -> Iterator[Report | None]:
    """A bar on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    if quiet:
        yield None
    elif console.is_terminal:
        bar = Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
                       TimeRemainingColumn(), console=console)
        with bar:
            yield _on_bar(bar)
    else:
        yield _in_lines()


def _on_bar(bar: Progress) -> Report:
    tasks: dict[str, Any] = {}

    def report(file: str, done: int, total: int) -> None:
        if file not in tasks:
            tasks[file] = bar.add_task(file, total=total)
        bar.update(tasks[file], completed=done, total=total)
    return report


def _in_lines() -> Report:
    said = time.monotonic()

    def report(file: str, done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if done == total or now - said > _SECONDS_BETWEEN_LINES:
            said = now
            click.echo(f"{file}: {bytes_in_words(done)} of {bytes_in_words(total)}", err=True)
    return report
