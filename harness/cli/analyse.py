"""``harness analyse``: what can be read out of recordings."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from harness.analysis.result import Cell, Result, Table
from harness.analysis.run import Analysis, find_analysis
from harness.cli.compare import recordings_in
from harness.cli.names import AGENT, ANALYSIS, echo_json
from harness.cli.progress import Ticker
from harness.errors import HarnessError
from harness.recording.recording import Recording
from harness.recording.store import write_json
from harness.registry import names
from harness.replay.replay import recorded_agent
from harness.scenario.source import Source, SourceProblem, read_tree
from harness.statistics import Interval

__all__ = ["analyse", "print_tables"]


@click.command()
@click.argument("recording", type=click.Path(path_type=Path), required=False)
@click.argument("analysis", type=ANALYSIS, required=False)
@click.argument("more", type=click.Path(path_type=Path), nargs=-1, metavar="[RECORDING]...")
@click.option("--set", "-s", "settings", multiple=True, metavar="OPTION=VALUE",
              help="An option of the analysis, its value in YAML: --set layer=2. May be repeated.")
@click.option("--about", metavar="ANALYSIS", type=ANALYSIS, help="Explain an analysis: formula, options, source.")
@click.option("--agent", "agent_name", type=AGENT, help="Where the recorded agent's file is, or another agent.")
@click.option("--device", help="Where the agent computes: auto, cpu or cuda.")
@click.option("--out", type=click.Path(path_type=Path),
              help="Write the result: .json (tables) or .npz (the numbers behind them).")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def analyse(recording: Path | None, analysis: str | None, more: tuple[Path, ...], settings: tuple[str, ...],
            about: str | None, agent_name: str | None, device: str | None, out: Path | None, quiet: bool,
            as_json: bool) -> None:
    """Read an ANALYSIS out of RECORDING, and further recordings where it compares several.

    Without an ANALYSIS: a list of them. A folder of recordings stands for all in it, where any number will do.
    """
    if about is not None:
        click.echo(_about(find_analysis(about)))
        return
    if recording is None or analysis is None:
        _list()
        return
    if out is not None and out.suffix.lower() not in (".json", ".npz"):
        raise HarnessError(f"--out {out}: expected a name that ends in .json or .npz")
    found = find_analysis(analysis)
    options = dict(_setting(text) for text in settings)
    opened = [each for path in (recording, *more) for each in recordings_in(path)]
    _say_unfinished(opened)
    with Ticker(quiet=quiet or as_json) as ticker:
        ticker.start(analysis, None)
        result = found(opened, options, agent=lambda: recorded_agent(opened[0], agent_name, device),
                       progress=ticker.to)
    if out is not None:
        _write(result, out)
    if as_json:
        echo_json(result.as_dict())
    else:
        print_tables(result.tables())
        if out is not None:
            click.echo(f"wrote {out}")


def _list() -> None:
    table = RichTable("analysis", "what it says", box=None)
    for name in names("harness.analyses"):
        table.add_row(name, escape(find_analysis(name).summary))
    Console(highlight=False).print(table)
    click.echo("\nharness analyse RECORDING ANALYSIS runs one; --about ANALYSIS explains it.")


def _about(found: Analysis) -> str:
    lines = [inspect.getdoc(found.function) or "", "", "Options (--set OPTION=VALUE):"]
    for name in found.options:
        default = f", default {found.defaults[name]!r}" if name in found.defaults else ", needed"
        lines.append(f"  {name}{default}")
    return "\n".join(lines if found.options else lines[:1])


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise HarnessError(f"--set: expected OPTION=VALUE, got {text!r}", hint="such as --set layer=2")
    if not value.strip():
        return name.strip(), None
    try:
        root, found = read_tree(Source(f"--set {name}", value))
    except SourceProblem as problem:
        raise HarnessError(f"--set {name}: {problem.message}", hint=problem.hint) from None
    if found:
        raise HarnessError(f"--set {name}: {found[0].message}", hint=found[0].hint)
    return name.strip(), root.plain()


def _say_unfinished(opened: Sequence[Recording]) -> None:
    for each in opened:
        if not each.complete:
            click.echo(f"note: {each.path.name} is not finished: {each.summary}", err=True)


def _write(result: Result, out: Path) -> None:
    if out.suffix.lower() == ".json":
        write_json(out, result.as_dict())
        return
    arrays = result.arrays()
    if not arrays:
        raise HarnessError(f"the result has no arrays to write to {out}", hint="write its tables to a .json file")
    part = out.with_name(f".{out.name}.part.npz")
    try:
        np.savez_compressed(part, **arrays)  # type: ignore[arg-type]
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


_PIPED = 160
"""Columns of tables that go into a file or another program."""


def print_tables(tables: Sequence[Table]) -> None:
    """Tables on a terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:  # nobody's screen: no column is cut
        console = Console(highlight=False, width=max(console.width, _PIPED))
    for table in tables:
        console.print(table.title, markup=False, soft_wrap=True)
        drawn = RichTable(*map(escape, table.columns))
        for row in table.rows:
            drawn.add_row(*(escape(_cell(cell)) for cell in row))
        console.print(drawn)
        if table.note:
            console.print(table.note, markup=False, soft_wrap=True)


def _cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Interval):
        return f"[{cell.low:.3g}, {cell.high:.3g}]"
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)
