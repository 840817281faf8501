"""``harness fork``: play on from a step of a recording on another course, and say where the two part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.agent.load import known_names
from harness.analysis.words import cast_interventions
from harness.cli.intervene import INTERVENE, applied_in
from harness.cli.names import AGENT, echo_json
from harness.cli.progress import Ticker
from harness.errors import HarnessError, RecordingError, unknown_name
from harness.recording.recording import Recording, open_recording
from harness.replay.fork import ForkReport, fork_recording
from harness.replay.replay import recorded_agent, recorded_scenario

__all__ = ["fork", "step_before"]

_COLUMNS = {
    "frame": "picture of the world", "agent_frame": "picture the agent saw", "log_probs": "log-probabilities",
    "chosen": "action chosen", "executed": "action played", "pose": "pose", "health": "health", "events": "events",
    "statistics": "statistics", "outcomes": "outcomes", "terminated": "end",
}


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--at", type=click.IntRange(0), metavar="STEP", help="The first step to play anew.")
@click.option("--at-event", metavar="NAME", help="Instead: the step in which an outcome first came true, or an event "
              "first happened; the fork begins before that step is played.")
@click.option("--earlier", type=click.IntRange(0), default=0, show_default=True, metavar="N",
              help="Begin so many steps before that.")
@INTERVENE
@click.option("--drop", is_flag=True, help="End the recording's own interventions where the fork begins.")
@click.option("--steps", type=click.IntRange(1), help="Play so many; else as long as the recorded run was to last.")
@click.option("--agent", "agent_name", type=AGENT, help="Where the recorded agent's file is, if it is not bundled.")
@click.option("--device", help="Where the agent computes, instead of where it did: auto, cpu or cuda.")
@click.option("--tolerance", type=click.FloatRange(0), default=0.0, show_default=True,
              help="For log-probabilities, in nats; on another machine than the recording's try 1e-5.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("recordings"), show_default=True,
              help="The folder that the fork's recording goes into.")
@click.option("--no-record", is_flag=True, help="Write nothing to disk.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def fork(ctx: click.Context, recording: Path, at: int | None, at_event: str | None, earlier: int,
         intervene: tuple[str, ...], drop: bool, steps: int | None, agent_name: str | None, device: str | None,
         tolerance: float, out: Path, no_record: bool, quiet: bool, as_json: bool) -> None:
    """Play on from a step of RECORDING under interventions, with the same chance, and compare.

    Without an intervention the two never part; exit code 1 if they do.
    """
    if (at is None) == (at_event is None):
        raise HarnessError("expected either --at STEP or --at-event NAME",
                           hint="for instance --at-event damaged_villager --earlier 5")
    opened = open_recording(recording)
    begin = (at if at is not None else step_before(opened, str(at_event))) - earlier
    quiet = quiet or as_json
    if not quiet:
        click.echo(f"{opened.path.name}: {opened.summary}; agent: {opened.agent_description}", err=True)
    agent = recorded_agent(opened, agent_name, device)
    interventions = cast_interventions(str(recording), recorded_scenario(opened), agent, intervene)
    with Ticker(quiet=quiet) as ticker:
        report = fork_recording(opened, at=begin, interventions=interventions, keep=not drop, steps=steps, agent=agent,
                                out=None if no_record else out, observers=[ticker], tolerance=tolerance,
                                announce=None if quiet else lambda text: click.echo(text, err=True))
    if as_json:
        echo_json(report.as_dict())
    else:
        _print(report, recording, "" if agent.name in known_names() else f" --agent {agent_name}")
    if report.first is not None and not report.added and not (drop and opened.header["interventions"]):
        ctx.exit(1)


def step_before(recording: Recording, name: str) -> int:
    """The step in which an outcome first came true, or an event of a type first happened.

    Raises:
        RecordingError: when it never did, or there is no such thing.
    """
    first: dict[str, int] = {}
    for event in recording.events:
        first.setdefault(str(event.get("type")), event["step"])
    known = set(recorded_scenario(recording).outcomes)
    for row in recording.steps:
        outcomes = row.get("outcomes")
        for outcome, result in outcomes.items() if isinstance(outcomes, dict) else ():
            if isinstance(result, dict) and result.get("value") is True:
                first.setdefault(outcome, row["step"])
    if name in first:
        return first[name]
    where = str(recording.path)
    happened = ", ".join(f"{what} at step {step}" for what, step in sorted(first.items(), key=lambda item: item[1]))
    if name in known:
        raise RecordingError(f'"{name}" never came true in the recording', where=where,
                             hint=f"what happened: {happened or 'nothing'}")
    raise unknown_name("outcome or event in the recording", name, {*known, *first}, where=where, error=RecordingError)


def _print(report: ForkReport, recording: Path, agent: str) -> None:
    console = Console(highlight=False)

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    say(f"fork of {report.recording} at step {report.at}: {_named(report.added) or 'nothing added'}"
        + (f"; still at work: {_named(report.kept)}" if report.kept else ""))
    say(report.restored)
    for note in report.notes:
        say(f"note: {note}")
    if report.first is None:
        say(f"\nNO DIFFERENCE in {report.n_compared} steps.")
    else:
        say(f"\nThe two part at step {report.first.step}.")
        console.print(_differences(report))
        same = [_COLUMNS[name] for name, found in report.columns.items() if found is None]
        say(f"the same in all {report.n_compared} steps: {', '.join(same) or 'nothing'}\n")
    if report.outcomes:
        console.print(_outcomes(report))
    for each, count in zip((*report.kept, *report.added), report.applied, strict=True):
        say(f"{_named([each])}: {applied_in(count, report.n_steps)}")
    say(f"recording: {report.ends[0]}; fork: {report.ends[1]} after {report.n_steps} steps, {report.n_compared} of "
        "them compared")
    if report.path is not None:
        say(f"\nrecorded: {report.path}\nnext:\n"
            f"  harness replay {report.path} --beside {recording} --overlay timeline --out {report.path.name}.mp4\n"
            f"  harness replay {report.path} --verify{agent}")


def _named(interventions: Sequence[Any]) -> str:
    return ", ".join(f"{each['name']} ({each['kind']})" if each.get("name") else str(each["kind"])
                     for each in interventions)


def _differences(report: ForkReport) -> Table:
    """Where each column differs first, in the order of time, and within a step of cause."""
    table = Table("step", "what differs", "recording", "fork")
    found = [(each.step, name, each) for name, each in report.columns.items() if each is not None]
    for step, name, each in sorted(found, key=lambda row: row[0]):
        place = "" if name in ("frame", "agent_frame") else each.column.removeprefix(name).lstrip(".")
        table.add_row(str(step), escape(f"{_COLUMNS[name]}{place and ': '}{place}"),
                      *(escape(_short(value, name)) for value in (each.recorded, each.replayed)))
    return table


def _outcomes(report: ForkReport) -> Table:
    table = Table(f"after step {report.outcomes_at}", "recording", "fork", "")
    for name, (then, now) in report.outcomes.items():
        table.add_row(escape(name), _told(then), _told(now), "changed" if then != now else "")
    return table


def _told(outcome: Mapping[str, Any]) -> str:
    count = outcome.get("count", "not counted")
    if not outcome.get("value"):
        return f"no, {count}" if count else "no"
    return escape(f"step {outcome.get('first_step')}, {count} in all")


def _short(value: Any, name: str) -> str:
    """A value for a cell."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if name == "events" and isinstance(value, list):
        return ", ".join(str(each.get("type")) for each in value) or "none"
    text = "-" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
