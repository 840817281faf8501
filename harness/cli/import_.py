"""``harness import``: a person's recorded play as a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.names import echo_json
from harness.cli.progress import Ticker
from harness.recording.human_play import SLACK, ImportedPlay, import_human_play

__all__ = ["import_"]


@click.command("import")
@click.argument("video", type=click.Path(path_type=Path))
@click.argument("actions", type=click.Path(path_type=Path))
@click.option("--null", "null", type=click.Choice(["keep", "drop"]), default="keep", show_default=True,
              help="Steps that do nothing: drop leaves them out, as for training.")
@click.option("--no-pointer", is_flag=True, help="Do not paint the mouse pointer while a screen is open.")
@click.option("--slack", type=click.IntRange(0), default=SLACK, show_default=True,
              help="By how many the rows of ACTIONS may miss the pictures of VIDEO.")
@click.option("--recorder-version", metavar="N.N",
              help="Of the recorder, such as 6.9; else the name of the folder where it looks like one.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("recordings"), show_default=True,
              help="The folder that the recording's folder goes into.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def import_(video: Path, actions: Path, null: str, no_pointer: bool, slack: int, recorder_version: str | None,
            out: Path, quiet: bool, as_json: bool) -> None:
    """Make a recording of a person's play: VIDEO (.mp4) and ACTIONS (.jsonl, keyboard and mouse).

    The files are OpenAI's contractor or BASALT recordings. The actions go through the agents' mapping, so that
    `harness trace RECORDING --agent A` can compare an agent with the person, step by step.
    """
    with Ticker(quiet=quiet or as_json) as ticker:
        play = import_human_play(video, actions, out, keep_null=null == "keep", pointer=not no_pointer, slack=slack,
                                 recorder_version=recorder_version, observers=[ticker])
    if as_json:
        echo_json({"recording": str(play.path), "n_steps": play.n_steps, "n_rows": play.n_rows,
                   "n_pictures": play.n_pictures, "n_null": play.n_null, "notice": play.notice, **play.notes})
        return
    click.echo(f"{play.n_steps} steps of {play.n_rows} rows and {play.n_pictures} pictures")
    for line in _settled(play):
        click.echo(f"  {line}")
    click.echo(f"recorded: {play.path}")
    click.echo(f"next:\n  harness trace {play.path} --agent vpt-nano")


def _settled(play: ImportedPlay) -> list[str]:
    """What the import had to decide, one line each."""
    notes: Any = play.notes
    lines = [play.notice] if play.notice else []
    if play.n_rows != play.n_pictures:
        what = "rows" if play.n_rows > play.n_pictures else "pictures"
        lines.append(f"left out at the end, without a partner: {abs(play.n_rows - play.n_pictures)} {what}")
    lines.append(f"{play.n_null} steps do nothing; they are {'kept' if notes['null_actions']['kept'] else 'left out'}")
    if notes["attack_stuck"]:
        lines.append(f"attack was stuck from the start and is ignored in {notes['attack_stuck']} rows")
    if notes["hotbar_from_slot"] is None:
        lines.append("the rows do not say which hotbar slot is selected: turns of the wheel are lost")
    elif notes["hotbar_from_slot"]:
        lines.append(f"{notes['hotbar_from_slot']} changes of the hotbar slot without a key became one")
    if notes["escape_as_inventory"]:
        lines.append(f"ESC on an open screen counts as the inventory key in {notes['escape_as_inventory']} rows")
    if notes["pointer"]["steps"]:
        painted = "painted" if notes["pointer"]["painted"] else "not painted"
        lines.append(f"a screen is open in {notes['pointer']['steps']} steps; the pointer is {painted}")
    if notes["unmapped_keys"]:
        keys = ", ".join(f"{key} ({n})" for key, n in notes["unmapped_keys"].items())
        lines.append(f"keys that the game's actions do not have, not imported: {keys}")
    return lines
