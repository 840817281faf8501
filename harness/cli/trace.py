"""``harness trace``: an agent over a recorded video, or over a recording."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from harness.agent.ahead import AheadAgent, chunk_length
from harness.agent.load import load_agent
from harness.cli.cast import cast_hooks
from harness.cli.goal import goal_options
from harness.cli.names import AGENT, echo_json
from harness.cli.progress import Ticker
from harness.cli.run import announce_size
from harness.errors import AgentError, RecordingError
from harness.recording.human_play import video_scenario
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.recording.schema import FRAMES
from harness.replay.teacher import TeacherForcing
from harness.rollout import run_episode
from harness.world.world import make_world

__all__ = ["trace"]

_USUAL = ("blocks.*.attn.hook_pattern", "blocks.*.hook_resid_*")
_LONGEST = 10_000_000


@click.command()
@click.argument("video", type=click.Path(path_type=Path), metavar="VIDEO|RECORDING")
@click.option("--agent", "agent_name", type=AGENT, required=True, help="Who watches.")
@click.option("--hooks", multiple=True, metavar="GLOB",
              help="Trace these hooks; else attention and the residual stream.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the agent's choices.")
@click.option("--steps", type=click.IntRange(1), help="Only so many frames.")
@goal_options
@click.option("--device", default=None, help="Where the agent computes: auto, cpu or cuda.")
@click.option("--precision", type=click.Choice(["float32", "bfloat16", "float16"]), default=None,
              help="What it computes in; else float32. docs/agents.md says how far the others are off.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("recordings"), show_default=True,
              help="The folder that the recording's folder goes into.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def trace(video: Path, agent_name: str, hooks: tuple[str, ...], seed: int, steps: int | None, device: str | None,
          precision: str | None, told: Mapping[str, Any], out: Path, quiet: bool, as_json: bool) -> None:
    """Show VIDEO, or the pictures of RECORDING, to an agent and record its activations: one row per picture.

    The actions in the new recording are what the agent would do; nothing is played. Over a recording, such as one
    that `harness import` made of a person's play, each row also holds the recorded action and the log-probability
    that the agent gives it.
    """
    quiet = quiet or as_json
    recording = open_recording(video) if video.is_dir() else None
    teacher = None if recording is None else TeacherForcing(recording)
    recorder = Recorder(out, columns=None if teacher is None else teacher.columns)
    with _world(video, recording, steps) as world, Ticker(quiet=quiet) as ticker:
        agent = load_agent(agent_name, precision=precision, **told, **({} if device is None else {"device": device}))
        if agent.privileged:
            raise AgentError(f"{agent.name} goes by the world's state, and pictures have none",
                             hint="choose an agent that sees pictures only, such as vpt-nano")
        traced = cast_hooks(agent, hooks, _USUAL)
        if hasattr(agent, "look_ahead"):
            agent = AheadAgent(agent, world.upcoming, chunk_length(agent, traced))
        notice = getattr(world, "notice", None)
        for line in (f"{agent.name}: {agent.description or 'no description'}", notice):
            if line and not quiet:
                click.echo(line, err=True)
        n_frames = getattr(world, "n_frames", None)
        announce_size(agent, traced, min(steps or _LONGEST, n_frames or 0))
        result = run_episode(world, agent, seed=seed, observers=[ticker, recorder], hooks=traced)
    if as_json:
        compared = {} if teacher is None else {"teacher": teacher.summary()}
        echo_json({"video": str(video), "agent": agent.name, "agent_description": agent.description,
                   "n_frames": result.n_steps, "notice": notice, "recording": str(recorder.path), **compared})
        return
    if n_frames is not None and result.n_steps < n_frames - 1:
        click.echo(f"note: the file announces about {n_frames} frames, and {result.n_steps} could be read; "
                   "it may have been cut off", err=True)
    click.echo(f"{result.n_steps} frames in {result.seconds:.1f} s, seen by {agent.name} ({agent.description})")
    if recording is not None and teacher is not None:
        click.echo(_comparison(recording, teacher.summary()))
    click.echo(f"recorded: {recorder.path}")
    if any(hook.endswith("hook_pattern") for hook in traced):
        click.echo(f"next:\n  harness replay {recorder.path} --overlay attention --out {recorder.path.name}.mp4")


def _world(video: Path, recording: Recording | None, steps: int | None) -> Any:
    """The video, or a recording's pictures, or the first of them, as a world."""
    if recording is None:
        return make_world(video_scenario(video, steps or _LONGEST), backend="video", path=video,
                          pictures=None if steps is None else range(steps))
    n = min(len(recording), steps or _LONGEST)
    if not n:
        raise RecordingError(f"the recording has no steps to trace: {recording.summary}", where=str(recording.path))
    notes = {"recording": recording.path.name, "played_by": recording.agent_description}
    return make_world(video_scenario(recording.path, n), backend="video", path=recording.path / FRAMES,
                      pictures=range(n), notes=notes)


def _comparison(recording: Recording, summary: Mapping[str, Any]) -> str:
    """How well the agent foresaw the recorded actions, in one line."""
    who, means, uniform = recording.header["agent"].get("name"), summary["cross_entropy"], summary["uniform"]
    if means is None:
        why = "every step is null" if summary["n_null"] == summary["n_steps"] else "the agent tells no probabilities"
        return f"no cross-entropy against {who}: {why}"
    heads = ", ".join(f"{head} {means[head]:.3f} nats (uniform {uniform[head]:.3f})" for head in means)
    return (f"cross-entropy against {who}: {heads}; mean over {summary['n_scored']} steps, without "
            f"{summary['n_null']} that do nothing")
