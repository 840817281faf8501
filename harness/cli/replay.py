"""``harness replay``: run a recording again, or draw it."""

from __future__ import annotations

from pathlib import Path

import click

from harness.analysis.attention import attention_maps
from harness.cli.names import AGENT, echo_json
from harness.cli.progress import Ticker
from harness.errors import HarnessError, unknown_name
from harness.recording.recording import Recording, open_recording
from harness.registry import load_object
from harness.replay.replay import TOLERANCE, ReplayReport, recorded_agent, replay_recording

__all__ = ["replay"]

_OVERLAYS = {"attention": attention_maps}


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--verify", is_flag=True,
              help="Prove that frames, actions and log-probabilities come out the same; exit code 1 if not.")
@click.option("--tolerance", type=click.FloatRange(0), default=TOLERANCE, show_default=True,
              help="For log-probabilities, in nats.")
@click.option("--agent", "agent_name", type=AGENT, help="Verify with this agent instead of the recorded one.")
@click.option("--device", help="Where the agent computes, instead of where it did: auto, cpu or cuda.")
@click.option("--overlay", "overlays", multiple=True, metavar="NAME", help="What to draw: attention.")
@click.option("--out", type=click.Path(path_type=Path), help="The overlay video, .mp4 or .webm.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def replay(ctx: click.Context, recording: Path, verify: bool, tolerance: float, agent_name: str | None,
           device: str | None, overlays: tuple[str, ...], out: Path | None, quiet: bool, as_json: bool) -> None:
    """Run RECORDING (a folder) again: --verify it, draw an --overlay video, or both."""
    if not verify and not overlays:
        raise HarnessError("there is nothing to do", hint="add --verify, or --overlay attention --out FILE.mp4")
    if bool(overlays) != (out is not None):
        raise HarnessError("--overlay and --out belong together", hint="--overlay attention --out FILE.mp4")
    for name in overlays:
        if name not in _OVERLAYS:
            raise unknown_name("overlay", name, _OVERLAYS)
    opened = open_recording(recording)
    quiet = quiet or as_json
    if not quiet:
        changed = f"; interventions: {', '.join(opened.interventions)}" if opened.interventions else ""
        click.echo(f"{opened.path.name}: {opened.summary}; agent: {opened.agent_description}{changed}", err=True)
    results: dict[str, object] = {"recording": str(recording), "status": opened.status, "n_steps": len(opened)}
    report = None
    with Ticker(quiet=quiet) as ticker:
        if verify:
            ticker.start("verify", len(opened))
            agent = recorded_agent(opened, agent_name, device)
            report = replay_recording(opened, agent=agent, tolerance=tolerance, on_step=ticker.to)
            results["verify"] = report.as_dict()
        if out is not None:
            ticker.start("overlay", len(opened))
            render_video = load_object("harness.overlay.video:render_video")  # cv2 is not needed for --help
            maps = [_OVERLAYS[name](opened) for name in overlays]
            results["overlay"] = {"file": str(out), "n_frames": render_video(opened, maps, out, on_frame=ticker.to)}
    if as_json:
        echo_json(results)
    else:
        _print(opened, report, out)
    if report is not None and (not report.ok or opened.damage):
        ctx.exit(1)


def _print(recording: Recording, report: ReplayReport | None, out: Path | None) -> None:
    if report is not None:
        for note in report.notes:
            click.echo(f"note: {note}")
        if recording.damage:
            click.echo(f"DAMAGED: {recording.damage}; of what is left, {_counts(report)}")
        elif report.ok:
            click.echo(f"OK: {_counts(report)}")
        else:
            click.echo(f"DIVERGED: {_counts(report)}")
            for divergence in report.divergences:
                click.echo(f"  {divergence}")
    if out is not None:
        click.echo(f"wrote {out}: {len(recording)} frames, agent: {recording.agent_description}")


def _counts(report: ReplayReport) -> str:
    parts = [f"{report.n_frames} of {report.n_steps} frames byte-equal"] if report.n_frames or not report.n_actions \
        else []
    parts.append(f"{report.n_actions} of {report.n_steps} actions equal")
    if report.max_log_prob_difference is not None:
        parts.append(f"log-probabilities of {report.n_log_probs} steps equal within {report.tolerance:g} "
                     f"(largest difference {report.max_log_prob_difference:.3g})")
    return ", ".join(parts)
