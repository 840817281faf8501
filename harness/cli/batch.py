"""``harness batch``: play a suite of trials."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

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
from harness.batch.options import read_record
from harness.batch.ray_engine import RayEngine
from harness.batch.report import Report
from harness.batch.results import read_summary
from harness.batch.runner import BATCH, cores, run_suite, sight
from harness.batch.suite import Budget, RecordingPolicy, Suite
from harness.cli.batch_report import Outputs, report_options
from harness.cli.batch_table import BatchTable
from harness.cli.names import SUITE, echo_json
from harness.errors import HarnessError, SuiteError

__all__ = ["batch"]


@click.command()
@click.argument("suite", type=SUITE)
@click.option("--workers", type=click.IntRange(0, 256), default=None,
              help="Processes, of one thread each; results do not depend on their number. 0 plays in this one, where a "
                   "trial that crashes takes the run with it.  [default: one per core]")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
              help="Where the workers live: on this machine, or on the nodes of a Ray cluster (docs/cluster.md).")
@click.option("--address", metavar="HOST:PORT",
              help="Head of the Ray cluster.  [default: the one that runs on this machine]")
@click.option("--gpus-per-worker", type=click.FloatRange(0, 64), default=0.0, metavar="N",
              help="GPUs that Ray keeps for each worker, which then plays on CUDA; 0.5 lets two share one.")
@click.option("--recordings", metavar="URL",
              help="With Ray: put recordings there (s3://, file://), and send results here, so that nodes need not "
                   "share --out.")
@click.option("--batch", "rows", type=click.IntRange(1, 256), default=BATCH, show_default=True,
              help="Trials that share a forward pass, in each process; results depend on it.")
@click.option("--only", multiple=True, metavar="AXIS=VALUE",
              help="Only these cells. Values of one axis add up; several axes must all fit.")
@click.option("--seeds", type=click.IntRange(1), help="At most so many seeds per cell, for a look.")
@click.option("--timeout", type=click.FloatRange(0.001), help="Seconds for a trial, instead of the suite's.")
@click.option("--retries", type=click.IntRange(0, 100), help="Tries more for a trial that fails.")
@click.option("--retry-failed", is_flag=True, help="Play trials again that failed in an earlier run.")
@click.option("--budget", metavar="N|Nmin", help="Begin so many trials, or none after so many minutes: 500, 30min.")
@click.option("--record", metavar="WHICH", help="Recordings to keep: all, failures, first:N or none.")
@click.option("--hooks", multiple=True, metavar="GLOB", help="Trace these hooks in recordings.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=None,
              help="Folder of the results.  [default: batches/SUITE]")
@click.option("--baseline", "baseline_file", type=click.Path(path_type=Path, dir_okay=False), default=None,
              help="File of approved results.  [default: SUITE.baseline.json beside the suite's file]")
@click.option("--approve", is_flag=True,
              help="Write what comes out as the baseline that later runs are held against.")
@click.option("--across", type=click.Choice(list(UNDER_TEST)), multiple=True,
              help="Compare with a baseline of another agent (its weights, its arguments) or version of Harness.")
@click.option("--yes", is_flag=True, help="Play more than a million trials, too.")
@report_options
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def batch(suite: str, workers: int | None, engine: Literal["local", "ray"], address: str | None, gpus_per_worker: float,
          recordings: str | None, rows: int, only: tuple[str, ...], seeds: int | None, timeout: float | None,
          retries: int | None, retry_failed: bool, budget: str | None, record: str | None, hooks: tuple[str, ...],
          out: Path | None, baseline_file: Path | None, approve: bool, across: tuple[str, ...], yes: bool,
          outputs: Outputs, quiet: bool, as_json: bool) -> None:
    """Play every trial of SUITE (a name or a YAML file), and print what came of them.

    Finished trials are kept: the same command goes on where it was interrupted. The exit code is 1 when a trial failed
    or a claim of the suite is refuted.
    """
    most = _budget(budget)
    loaded = load_suite(suite, only=only)
    kept = _record(record, hooks, loaded.record)
    file = baseline_path(find_suite(suite)) if baseline_file is None else baseline_file
    baseline = _baseline(loaded, file, given=baseline_file is not None, approve=approve, part=bool(only or seeds))
    if approve:  # a baseline holds all seeds, and is not held against itself
        loaded = replace(loaded, statistics=replace(loaded.statistics, sequential=False),
                         claims=tuple(claim for claim in loaded.claims if not claim.against_baseline))
    if not (quiet or as_json):
        for line in sight(loaded if seeds is None else loaded.fewer(seeds)):
            click.echo(line, err=True)
    folder = Path("batches") / loaded.name if out is None else out
    with outputs.reserved():
        with _engine(engine, address, workers, gpus_per_worker, recordings) as places, \
                BatchTable(quiet=quiet or as_json) as table:
            try:
                report = run_suite(
                    loaded, out=folder, workers=cores() if workers is None else workers, batch=rows, seeds=seeds,
                    engine=places, progress=table, timeout=timeout, retries=retries,
                    record=kept, budget=most, retry_failed=retry_failed,
                    yes=yes, baseline=baseline, across=across, device="cpu" if places is None else places.device)
            except KeyboardInterrupt:
                click.echo(f"what is finished is kept in {folder}; the same command goes on", err=True)
                raise
        for line in outputs.write(read_summary(folder)) if outputs != Outputs() else ():
            click.echo(line, err=True)
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
    write_baseline(make_baseline(report.suite, keys, report.samples(), command=command), file)
    click.echo(f"approved: {file}", err=True)


@contextlib.contextmanager
def _engine(name: str, address: str | None, workers: int | None, gpus: float, recordings: str | None
            ) -> Iterator[RayEngine | None]:
    """A cluster's; None: processes of this machine."""
    if name == "local":
        for option, value in (("--address", address), ("--gpus-per-worker", gpus), ("--recordings", recordings)):
            if value:
                raise SuiteError(f"{option} is for a Ray cluster", hint="say --engine ray, too")
        yield None
        return
    if workers == 0:
        raise SuiteError("--workers 0 plays in this process, which is no Ray cluster", hint="leave one of them out")
    engine = RayEngine(address or "auto", workers=workers, gpus_per_worker=gpus, recordings=recordings)
    try:
        yield engine
    finally:
        engine.close()


def _record(word: str | None, hooks: tuple[str, ...], before: RecordingPolicy) -> RecordingPolicy | None:
    """What the words ask for; what they leave out is the suite's."""
    if word is None and not hooks:
        return None
    first = word.removeprefix("first:") if word is not None and word.startswith("first:") else ""
    try:
        wanted: dict[str, object] = {"first": int(first)} if first.isdecimal() else \
            {"keep": word} if word is not None else \
            {"first": before.first} if before.keep == "first" else {"keep": before.keep}
        return read_record({**wanted, "hooks": list(hooks or before.hooks)})
    except SuiteError as problem:
        raise SuiteError(f"--record: expected all, failures, first:N or none, got {word!r}") from problem


def _budget(text: str | None) -> Budget | None:
    if text is None:
        return None
    number, minutes = text.removesuffix("min").strip(), text.endswith("min")
    try:
        if minutes and 0 < float(number) < 1e9:
            return Budget(minutes=float(number))
        if not minutes and int(number) > 0:
            return Budget(trials=int(number))
    except ValueError:
        pass
    raise SuiteError(f"--budget: expected a number of trials, or of minutes as 30min, got {text!r}")
