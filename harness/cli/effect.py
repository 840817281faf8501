"""``harness effect``: what an intervention does to an agent's choices over recorded pictures, beside its controls."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.analysis.effects import BLOCK, Effect, effect
from harness.analysis.words import cast_interventions
from harness.cli.compare import recordings_in
from harness.cli.intervene import INTERVENE
from harness.cli.names import AGENT, echo_json
from harness.cli.progress import Ticker
from harness.errors import HarnessError
from harness.replay.replay import recorded_agent, recorded_scenario

__all__ = ["effect_command"]


@click.command("effect")
@click.argument("recordings", type=click.Path(path_type=Path), nargs=-1, required=True)
@INTERVENE
@click.option("--key", "keys", multiple=True, metavar="KEY", default=("attack",), show_default=True,
              help="A button whose log-odds to follow. May be repeated.")
@click.option("--controls", type=click.IntRange(0, 10_000), default=20, show_default=True,
              help="Random controls: other directions, heads, units or frames. Each is a run over the pictures.")
@click.option("--between", metavar="FIRST-LAST", help="Count only these steps; all are seen and remembered.")
@click.option("--agent", "agent_name", type=AGENT, help="Where the recorded agent's file is, or another agent.")
@click.option("--device", help="Where the agent computes: auto, cpu or cuda.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def effect_command(recordings: tuple[Path, ...], intervene: tuple[str, ...], keys: tuple[str, ...], controls: int,
                   between: str | None, agent_name: str | None, device: str | None, quiet: bool, as_json: bool) -> None:
    """Show the pictures of RECORDINGS to their agent with and without interventions, and say what changes.

    What the agent would do is compared step by step, at the same pictures: the log-odds of keys, the divergence of the
    action's distribution, the value. Nothing is played; for what follows from other actions see `harness fork`.
    """
    if not intervene:
        raise HarnessError("expected an intervention", hint="name one with --intervene, such as --intervene no-leaves")
    opened = [recording for path in recordings for recording in recordings_in(path)]
    agent = recorded_agent(opened[0], agent_name, device)
    stack = cast_interventions(str(opened[0].path), recorded_scenario(opened[0]), agent, intervene)
    with Ticker(quiet=quiet or as_json) as ticker:
        ticker.start("steps seen", None)
        found = effect(opened, agent, stack, keys=keys, controls=controls, between=_between(between),
                       progress=ticker.to)
    if as_json:
        echo_json(found.as_dict())
    else:
        _print(found)


def _between(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, last = text.partition("-")
    if not first.isdecimal() or not last.isdecimal() or int(first) > int(last):
        raise HarnessError(f"--between: expected FIRST-LAST, such as 20-59, got {text!r}")
    return int(first), int(last)


def _print(found: Effect) -> None:
    console = Console(highlight=False)
    said = found.provenance["arguments"]
    n, steps = len(found.steps), sum(map(len, found.steps))
    named = ", ".join(each.get("name") or each["kind"] for each in said["interventions"])
    console.print(f"{named} over {n} recording{'s' if n > 1 else ''}, {steps} steps; applied in {found.applied:.0%} of "
                  "them", markup=False, soft_wrap=True)
    table = Table("treated less untreated", "mean a step", "95 %", "largest", "controls: mean, range", "p")
    table.columns[0].no_wrap = True
    for name, each in found.changes.items():
        what = {"kl": "divergence (nats)", "value": "value"}.get(name, f"log-odds of {name}")
        null = "none" if each.p is None else (f"{sum(each.controls) / len(each.controls):+.3f}, "
                                              f"{min(each.controls):+.3f} to {max(each.controls):+.3f}")
        table.add_row(escape(what), f"{each.mean:+.3f}", f"[{each.interval.low:+.3f}, {each.interval.high:+.3f}]",
                      f"{each.largest:.3f}", null, "" if each.p is None else f"{each.p:.2g}")
    console.print(table)
    how = f"blocks of {BLOCK} steps" if n == 1 else "recordings"
    console.print(f"Intervals by resampling {how}; p: rank among {said['controls']} random controls.", markup=False,
                  soft_wrap=True)
    if found.uncontrolled:
        console.print(f"No control is known for: {', '.join(found.uncontrolled)}.", markup=False, soft_wrap=True)
