"""``harness export``: a recording in another format."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.progress import Ticker
from harness.errors import RecordingError
from harness.recording.recording import open_recording
from harness.recording.rerun_export import write_rerun
from harness.recording.video import write_share_video

__all__ = ["export"]

_SUFFIXES = {"webm": ".webm", "mp4": ".mp4", "rerun": ".rrd"}


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--to", "to", type=click.Choice(list(_SUFFIXES)), default="webm", show_default=True,
              help="webm plays in every browser, mp4 in every player; rerun is for its viewer, attention and all.")
@click.option("--out", type=click.Path(path_type=Path), help="The file; else share.webm (.mp4, .rrd) in the recording.")
@click.option("--agent-view", is_flag=True, help="What the agent saw, after interventions.")
def export(recording: Path, to: str, out: Path | None, agent_view: bool) -> None:
    """Write the pictures of RECORDING as a small video for sharing, or all of it for the rerun viewer."""
    opened = open_recording(recording)
    if len(opened) == 0:
        raise RecordingError("the recording has no frames to export", where=str(recording))
    suffix = _SUFFIXES[to]
    path = out if out is not None else opened.path / f"share{suffix}"
    if path.suffix.lower() != suffix:
        raise RecordingError(f"--out {path} does not end in {suffix}", hint=f"name it {path.with_suffix(suffix).name}")
    if to == "rerun":
        with Ticker() as ticker:
            ticker.start("export", len(opened))
            n = write_rerun(opened, path, ticker.to)
    else:
        n = write_share_video(opened.agent_pov if agent_view else opened.pov, path, opened.fps)
    click.echo(f"wrote {path}: {n} frames, {path.stat().st_size / 1e6:.1f} MB")
