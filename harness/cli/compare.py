"""``harness compare``: recordings in pairs, control and treated."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.analysis.comparison import Comparison, compare
from harness.cli.names import echo_json
from harness.errors import RecordingError
from harness.recording.recording import Recording, open_recording
from harness.recording.schema import HEADER

__all__ = ["compare_command", "recordings_in"]

_SHOWN = 10


@click.command("compare")
@click.argument("control", type=click.Path(path_type=Path))
@click.argument("treated", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def compare_command(control: Path, treated: Path, as_json: bool) -> None:
    """Compare CONTROL with TREATED: a recording each, or a folder of recordings each.

    Recordings of one scenario, with the same parameters and seed, make a pair. For each pair it says where the two
    part; over all pairs, how often each outcome came true, and whether the difference may be chance (McNemar's exact
    test, p adjusted by Holm over the outcomes).
    """
    found = compare(recordings_in(control), recordings_in(treated))
    if as_json:
        echo_json(found.as_dict())
    else:
        _print(found)


def recordings_in(folder: Path) -> list[Recording]:
    """The recording that a folder is, or those that lie in it, by name.

    Raises:
        RecordingError: when there are none.
    """
    if not folder.is_dir() or (folder / HEADER).is_file():
        return [open_recording(folder)]
    found = [open_recording(path.parent) for path in sorted(folder.glob(f"*/{HEADER}"))]
    if not found:
        raise RecordingError("neither a recording nor a folder of recordings", where=str(folder),
                             hint="a recording is a folder with a header.json, made by `harness run`")
    return found


def _print(found: Comparison) -> None:
    console = Console(highlight=False)

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    n = len(found.pairs)
    say(f"{n} pair{'s' if n > 1 else ''}: control, treated")
    for note in found.differences:
        say(f"note: {note}")
    if found.unpaired:
        say(f"note: without a partner: {', '.join(found.unpaired[:_SHOWN])}"
            + (f" and {len(found.unpaired) - _SHOWN} more" if len(found.unpaired) > _SHOWN else ""))
    table = Table("seed", "control", "treated", "the two part", "in", "steps compared")
    for pair in found.pairs[:_SHOWN]:
        first = pair.first
        table.add_row(str(pair.seed), escape(pair.control), escape(pair.treated),
                      "never" if first is None else f"step {first.step}", "" if first is None else escape(first.column),
                      str(pair.n_compared))
    console.print(table)
    if n > _SHOWN:
        say(f"and {n - _SHOWN} more pairs; --json has them all")
    if found.outcomes:
        console.print(_outcomes(found))
        if n < 6:
            say(f"With {n} pair{'s' if n > 1 else ''} no difference can reach p = 0.05; six that all differ would.")


def _outcomes(found: Comparison) -> Table:
    table = Table("outcome", "control", "treated", "alone", "p (Holm)", "count, treated less control")
    table.columns[0].no_wrap = True
    n = len(found.pairs)
    for name, each in found.outcomes.items():
        shares = [f"{count}/{n} [{interval.low:.0%}, {interval.high:.0%}]"
                  for count, interval in (each.control, each.treated)]
        low, high = each.count_interval
        spread = f" [{low:+.1f}, {high:+.1f}]" if n > 1 else ""
        table.add_row(escape(name), *shares, f"{each.only_control} : {each.only_treated}", f"{each.p_holm:.2g}",
                      f"{each.count:+.1f}{spread}")
    return table
