"""``harness batch query`` and ``harness batch export``: results as tables."""

from __future__ import annotations

import csv
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from harness.batch.query import TABLES, Answer, ask, export_table
from harness.cli.names import bytes_in_words, echo_json
from harness.errors import HarnessError

__all__ = ["export", "query"]

_SHOWN = 200


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("sql")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON objects.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the rows as CSV.")
def query(folder: Path, sql: str, as_json: bool, as_csv: bool) -> None:
    """Ask the results in FOLDER a question: one `select` over trials, episodes and steps.

    The words are DuckDB's. Labels and metrics are columns.
    """
    if as_json and as_csv:
        raise HarnessError("--json and --csv exclude each other")
    with ask(folder, sql) as answer:
        if as_json:
            echo_json([dict(zip(answer.columns, map(_plain, row), strict=True)) for row in answer.rows])
        elif as_csv:
            lines = csv.writer(sys.stdout, lineterminator="\n")
            lines.writerow(answer.columns)
            lines.writerows(answer.rows)
        else:
            _print(answer)


def _plain(value: Any) -> Any:
    """As JSON can hold it: numbers and texts as they are, dates and the like as text."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, float) and value - value != 0:
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _print(answer: Answer) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = list(islice(answer.rows, _SHOWN + 1))
    for number, column in enumerate(answer.columns):
        figures = rows and all(isinstance(row[number], int | float | None) for row in rows)
        table.add_column(column, justify="right" if figures else "left", overflow="fold")
    for row in rows[:_SHOWN]:
        table.add_row(*("" if one is None else f"{one:.6g}" if isinstance(one, float) else _shown(one) for one in row))
    # A pipe has no width: nothing is folded there.
    console = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 100_000)
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))
    if len(rows) > _SHOWN:
        click.echo(f"... these are the first {_SHOWN} rows; --csv and --json print all", err=True)


def _shown(value: Any) -> str:
    """Marks that steer a terminal are spelt out: what a file holds may stand in it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(value))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.parquet")
@click.option("--table", type=click.Choice(TABLES), default="trials", show_default=True, help="Which.")
def export(folder: Path, file: Path, table: str) -> None:
    """Write the results in FOLDER as a Parquet file, for pandas, Polars, R and others."""
    n = export_table(folder, file, table)
    click.echo(f"wrote {file}: {n} {table}, {bytes_in_words(file.stat().st_size)}")
