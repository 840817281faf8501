"""``harness batch``: play a suite of trials."""

from __future__ import annotations

from pathlib import Path

import click

from harness.batch.load import load_suite
from harness.batch.runner import run_suite
from harness.cli.names import SUITE, echo_json
from harness.cli.progress import Ticker
from harness.errors import HarnessError

__all__ = ["batch"]


@click.command()
@click.argument("suite", type=SUITE)
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True,
              help="Processes, of one thread each; results do not depend on their number.")
@click.option("--only", multiple=True, metavar="AXIS=VALUE",
              help="Only these cells. Values of one axis add up; several axes must all fit.")
@click.option("--seeds", type=click.IntRange(1), help="At most so many seeds per cell, for a look.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=None,
              help="Folder of the results.  [default: batches/SUITE]")
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), default=None,
              help="Write the tables as Markdown, too.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def batch(suite: str, workers: int, only: tuple[str, ...], seeds: int | None, out: Path | None, markdown: Path | None,
          quiet: bool, as_json: bool) -> None:
    """Play every trial of SUITE (a name or a YAML file), and print what came of them.

    Finished trials are kept: the same command goes on where it was interrupted. The exit code is 1 when a trial failed.
    """
    loaded = load_suite(suite, only=only)
    folder = Path("batches") / loaded.name if out is None else out
    with Ticker(quiet=quiet or as_json) as ticker:
        try:
            report = run_suite(loaded, out=folder, workers=workers, seeds=seeds, progress=ticker)
        except KeyboardInterrupt:
            click.echo(f"what is finished is kept in {folder}; the same command goes on", err=True)
            raise
    if markdown is not None:
        try:
            markdown.parent.mkdir(parents=True, exist_ok=True)
            markdown.write_text(report.markdown(), encoding="utf-8")
        except OSError as problem:
            raise HarnessError(f"cannot write the tables: {problem.strerror}", where=str(markdown)) from problem
    if as_json:
        echo_json(report.as_dict())
    else:
        click.echo(report.text())
    if report.failures:
        raise click.exceptions.Exit(1)
