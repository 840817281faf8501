"""``harness export``: a recording in another format."""

from __future__ import annotations

from pathlib import Path

import click

from harness.errors import RecordingError
from harness.recording.recording import open_recording
from harness.recording.video import write_share_video

__all__ = ["export"]


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--to", "to", type=click.Choice(["webm", "mp4"]), default="webm", show_default=True,
              help="webm plays in every browser, mp4 in every player.")
@click.option("--out", type=click.Path(path_type=Path), help="The file; else share.webm inside the recording.")
@click.option("--agent-view", is_flag=True, help="What the agent saw, after interventions.")
def export(recording: Path, to: str, out: Path | None, agent_view: bool) -> None:
    """Write the pictures of RECORDING as a small video for sharing."""
    opened = open_recording(recording)
    if len(opened) == 0:
        raise RecordingError("the recording has no frames to export", where=str(recording))
    path = out if out is not None else opened.path / f"share.{to}"
    if path.suffix.lower() != f".{to}":
        raise RecordingError(f"--out {path} does not end in .{to}", hint=f"name it {path.with_suffix('.' + to).name}")
    n = write_share_video(opened.agent_pov if agent_view else opened.pov, path, opened.fps)
    click.echo(f"wrote {path}: {n} frames, {path.stat().st_size / 1e6:.1f} MB")
