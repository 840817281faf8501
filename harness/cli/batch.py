"""``harness batch``: play a suite of trials."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import click

from harness.batch.baseline import (
    UNDER_TEST,
    Baseline,
    baseline_path,
    make_baseline,
    read_baseline,
    write_baseline,
)
from harness.batch.load import find_suite, load_suite
from harness.batch.report import Report
from harness.batch.runner import run_suite, sight
from harness.batch.suite import Suite
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
@click.option("--baseline", "baseline_file", type=click.Path(path_type=Path, dir_okay=False), default=None,
              help="File of approved results.  [default: SUITE.baseline.json beside the suite's file]")
@click.option("--approve", is_flag=True,
              help="Write what comes out as the baseline that later runs are held against.")
@click.option("--across", type=click.Choice(list(UNDER_TEST)), multiple=True,
              help="Compare with a baseline of another agent (its weights, its arguments) or version of Harness.")
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), default=None,
              help="Write the tables as Markdown, too.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def batch(suite: str, workers: int, only: tuple[str, ...], seeds: int | None, out: Path | None,
          baseline_file: Path | None, approve: bool, across: tuple[str, ...], markdown: Path | None, quiet: bool,
          as_json: bool) -> None:
    """Play every trial of SUITE (a name or a YAML file), and print what came of them.

    Finished trials are kept: the same command goes on where it was interrupted. The exit code is 1 when a trial failed
    or a claim of the suite is refuted.
    """
    loaded = load_suite(suite, only=only)
    file = baseline_path(find_suite(suite)) if baseline_file is None else baseline_file
    baseline = _baseline(loaded, file, given=baseline_file is not None, approve=approve, part=bool(only or seeds))
    if approve:  # a baseline holds all seeds
        loaded = replace(loaded, statistics=replace(loaded.statistics, sequential=False))
    if not (quiet or as_json):
        for line in sight(loaded if seeds is None else loaded.fewer(seeds)):
            click.echo(line, err=True)
    folder = Path("batches") / loaded.name if out is None else out
    with Ticker(quiet=quiet or as_json) as ticker:
        try:
            report = run_suite(loaded, out=folder, workers=workers, seeds=seeds, progress=ticker,
                               baseline=baseline, across=across)
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
    if approve:
        _approve(report, file, loaded)
    if report.failures or report.refuted:
        raise click.exceptions.Exit(1)


def _baseline(suite: Suite, file: Path, *, given: bool, approve: bool, part: bool) -> Baseline | None:
    """The approved results that this run is held against, if there are any."""
    if approve:
        if part:
            raise HarnessError("--approve is for the whole suite", hint="leave out --only and --seeds")
        return None
    wanted = any(claim.against_baseline for claim in suite.claims)
    if given or (wanted and file.exists()):
        return read_baseline(file)
    if wanted:
        click.echo(f"no baseline is approved yet: {file} is not there, and what is expected of it stays undecided; "
                   "--approve writes it", err=True)
    return None


def _approve(report: Report, file: Path, suite: Suite) -> None:
    if report.missing:
        raise HarnessError(f"{report.missing} trials are not finished: this cannot be approved",
                           hint="run it again; what is finished is kept")
    command = shlex.join(["harness", *sys.argv[1:]])
    keys = {row.cell.name: row.key for row in report.rows}
    write_baseline(make_baseline(report.suite, keys, report.samples, command=command), file)
    click.echo(f"approved: {file}", err=True)
