"""``harness replay``: run a recording again, or draw it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from harness.analysis.attention import attention_maps
from harness.analysis.result import Result
from harness.analysis.run import find_analysis
from harness.cli.names import AGENT, echo_json
from harness.cli.progress import Ticker
from harness.errors import HarnessError, unknown_name
from harness.recording.recording import Recording, open_recording
from harness.registry import load_object, names
from harness.replay.replay import TOLERANCE, ReplayReport, recorded_agent, replay_recording

__all__ = ["replay"]

_DRAWN = ("attention", "keyframes", "saliency")
"""Analyses whose results can be drawn over a recording."""
_ALONE = ("actions", "timeline", "segmentation")
"""Layers that need no analysis: those of ``harness.overlay.video``, which is loaded late."""


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--verify", is_flag=True,
              help="Prove that frames, actions and log-probabilities come out the same; exit code 1 if not.")
@click.option("--tolerance", type=click.FloatRange(0), default=TOLERANCE, show_default=True,
              help="For log-probabilities, in nats.")
@click.option("--agent", "agent_name", type=AGENT, help="Verify with this agent instead of the recorded one.")
@click.option("--device", help="Where the agent computes, instead of where it did: auto, cpu or cuda.")
@click.option("--overlay", "overlays", multiple=True, metavar="NAME",
              help=f"What to draw, may be repeated: {', '.join((*_DRAWN, *_ALONE))}.")
@click.option("--beside", multiple=True, type=click.Path(path_type=Path), metavar="RECORDING",
              help="Another recording to draw beside it in lock-step, such as a fork. May be repeated.")
@click.option("--out", type=click.Path(path_type=Path),
              help="The overlay: a video (.mp4, .webm), a .gif, or a sheet of stills (.png).")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def replay(ctx: click.Context, recording: Path, verify: bool, tolerance: float, agent_name: str | None,
           device: str | None, overlays: tuple[str, ...], beside: tuple[Path, ...], out: Path | None, quiet: bool,
           as_json: bool) -> None:
    """Run RECORDING (a folder) again: --verify it, draw an --overlay video, or both."""
    if not verify and not overlays:
        raise HarnessError("there is nothing to do", hint="add --verify, or --overlay attention --out FILE.mp4")
    if bool(overlays) != (out is not None):
        raise HarnessError("--overlay and --out belong together", hint="--overlay attention --out FILE.mp4")
    drawable = [name for name in _DRAWN if name in names("harness.analyses")]
    for name in overlays:
        if name not in (*drawable, *_ALONE):
            raise unknown_name("overlay", name, (*drawable, *_ALONE))
    if beside and not overlays:
        raise HarnessError("--beside draws recordings beside each other", hint="add --overlay attention --out FILE.mp4")
    opened, others = open_recording(recording), [open_recording(path) for path in beside]
    quiet = quiet or as_json
    if not quiet:
        changed = f"; interventions: {', '.join(opened.interventions)}" if opened.interventions else ""
        click.echo(f"{opened.path.name}: {opened.summary}; agent: {opened.agent_description}{changed}", err=True)
    results: dict[str, object] = {"recording": str(recording), "status": opened.status, "n_steps": len(opened)}
    report, n_drawn = None, 0
    with Ticker(quiet=quiet) as ticker:
        if verify:
            ticker.start("verify", len(opened))
            agent = recorded_agent(opened, agent_name, device)
            report = replay_recording(opened, agent=agent, tolerance=tolerance, on_step=ticker.to)
            results["verify"] = report.as_dict()
        if out is not None:
            drawn = [(each, _results(each, overlays, agent_name, device, ticker)) for each in (opened, *others)]
            ticker.start("overlay", max(len(each) for each, _ in drawn))
            render_video = load_object("harness.overlay.video:render_video")  # cv2 is not needed for --help
            alone = [name for name in overlays if name in _ALONE]
            n_drawn = render_video(*drawn[0], out, layers=alone, beside=drawn[1:], on_frame=ticker.to)
            results["overlay"] = {"file": str(out), "n_frames": n_drawn}
    if as_json:
        echo_json(results)
    else:
        _print(opened, report, out, n_drawn)
    if report is not None and (not report.ok or opened.damage):
        ctx.exit(1)


def _results(recording: Recording, overlays: Sequence[str], agent_name: str | None, device: str | None,
             ticker: Ticker) -> list[Result]:
    """What the analyses among the overlays say of a recording; of attention the map of every step is drawn."""
    found: list[Result] = []
    for name in dict.fromkeys(overlays):
        if name == "attention":
            found.append(attention_maps(recording))
        elif name in _DRAWN:
            ticker.start(name, None)
            # To be drawn, saliency needs a map of every step, of one method, and no scores.
            options = {"methods": ["grad-cam"], "n_steps": len(recording), "random_networks": 0, "objects": []} \
                if name == "saliency" else {}
            found.append(find_analysis(name)([recording], options, progress=ticker.to,
                                             agent=lambda: recorded_agent(recording, agent_name, device)))
    return found


def _print(recording: Recording, report: ReplayReport | None, out: Path | None, n_drawn: int) -> None:
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
        click.echo(f"wrote {out}: {n_drawn} {'stills' if out.suffix.lower() == '.png' else 'frames'}, agent: "
                   f"{recording.agent_description}")


def _counts(report: ReplayReport) -> str:
    parts = [f"{report.n_frames} of {report.n_steps} frames byte-equal"] if report.n_frames or not report.n_actions \
        else []
    parts.append(f"{report.n_actions} of {report.n_steps} actions equal")
    if report.max_log_prob_difference is not None:
        parts.append(f"log-probabilities of {report.n_log_probs} steps equal within {report.tolerance:g} "
                     f"(largest difference {report.max_log_prob_difference:.3g})")
    return ", ".join(parts)
