"""``harness trace``: an agent over a recorded video."""

from __future__ import annotations

import re
from pathlib import Path

import click

from harness.agent.load import load_agent
from harness.cli.cast import cast_hooks
from harness.cli.names import AGENT, echo_json
from harness.cli.progress import Ticker
from harness.cli.run import announce_size
from harness.recording.recorder import Recorder
from harness.rollout import run_episode
from harness.scenario.schema import Scenario
from harness.world.world import make_world

__all__ = ["trace"]

_USUAL = ("blocks.*.attn.hook_pattern", "blocks.*.hook_resid_*")
_LONGEST = 10_000_000


@click.command()
@click.argument("video", type=click.Path(path_type=Path))
@click.option("--agent", "agent_name", type=AGENT, required=True, help="Who watches.")
@click.option("--hooks", multiple=True, metavar="GLOB",
              help="Trace these hooks; else attention and the residual stream.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the agent's choices.")
@click.option("--steps", type=click.IntRange(1), help="Only so many frames.")
@click.option("--device", default=None, help="Where the agent computes: auto, cpu or cuda.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("recordings"), show_default=True,
              help="The folder that the recording's folder goes into.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def trace(video: Path, agent_name: str, hooks: tuple[str, ...], seed: int, steps: int | None, device: str | None,
          out: Path, quiet: bool, as_json: bool) -> None:
    """Show VIDEO to an agent and record its activations: one row per frame.

    The actions in the recording are what the agent would do; nothing is played.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", video.stem).lstrip("_.-")[:64] or "video"
    scenario = Scenario.model_validate({"name": name, "description": f"the video {video.name}",
                                        "episode": {"max_steps": _LONGEST, "settle_steps": 0}})
    quiet = quiet or as_json
    recorder = Recorder(out)
    with make_world(scenario, backend="video", path=video) as world, Ticker(quiet=quiet) as ticker:
        agent = load_agent(agent_name, **({} if device is None else {"device": device}))
        traced = cast_hooks(agent, hooks, _USUAL)
        notice = getattr(world, "notice", None)
        for line in (f"{agent.name}: {agent.description or 'no description'}", notice):
            if line and not quiet:
                click.echo(line, err=True)
        n_frames = getattr(world, "n_frames", None)
        announce_size(agent, traced, min(steps or _LONGEST, n_frames or 0))
        result = run_episode(world, agent, seed=seed, max_steps=steps, observers=[ticker, recorder], hooks=traced)
    if as_json:
        echo_json({"video": str(video), "agent": agent.name, "agent_description": agent.description,
                   "n_frames": result.n_steps, "notice": notice, "recording": str(recorder.path)})
        return
    if n_frames is not None and steps is None and result.n_steps < n_frames - 1:
        click.echo(f"note: the file announces about {n_frames} frames, and {result.n_steps} could be read; "
                   "it may have been cut off", err=True)
    click.echo(f"{result.n_steps} frames in {result.seconds:.1f} s, seen by {agent.name} ({agent.description})")
    click.echo(f"recorded: {recorder.path}")
    if any(hook.endswith("hook_pattern") for hook in traced):
        click.echo(f"next:\n  harness replay {recorder.path} --overlay attention --out {recorder.path.name}.mp4")
