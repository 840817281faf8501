"""``harness run``: an agent plays a scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from harness.agent.agent import Agent
from harness.agent.load import known_names
from harness.analysis.words import cast_interventions
from harness.cli.cast import cast_agent, cast_hooks
from harness.cli.goal import goal_options
from harness.cli.intervene import INTERVENE, Applications, applied_in, in_short
from harness.cli.names import AGENT, BACKEND, RESOURCE_PACK, SCENARIO, bytes_in_words, echo_json, worn
from harness.cli.outcomes import print_outcomes
from harness.cli.progress import Ticker
from harness.errors import HarnessError
from harness.intervention.intervention import Intervention
from harness.recording.recorder import Recorder, estimate_activation_bytes
from harness.rollout import EpisodeResult, Observer, run_episode
from harness.scenario.load import load_scenario, parse_value
from harness.scenario.schema import Scenario
from harness.world.world import make_world

__all__ = ["announce_size", "parse_settings", "run"]

_LARGE = 2_000_000_000


@click.command()
@click.argument("scenario", type=SCENARIO)
@click.option("--agent", "agent_name", type=AGENT, help="Who plays; else the scenario's own choice.")
@click.option("--backend", type=BACKEND, default="blockworld", show_default=True, help="Which engine builds the world.")
@click.option("--episodes", type=click.IntRange(1), default=1, show_default=True, help="With seeds S, S+1, ...")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the first episode.")
@click.option("--steps", type=click.IntRange(1), help="Stop earlier than the scenario's max_steps.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A value for one of its parameters.")
@click.option("--world", "options", multiple=True, metavar="NAME=VALUE", help="An option of the backend.")
@click.option("--python", type=click.Path(), help="Run the engine in this Python, where the backend can.")
@click.option("--hooks", multiple=True, metavar="GLOB", help="Trace these hooks instead of the scenario's.")
@click.option("--no-hooks", is_flag=True, help="Trace nothing.")
@INTERVENE
@goal_options
@click.option("--device", default=None, help="Where the agent computes: auto, cpu or cuda.")
@click.option("--precision", type=click.Choice(["float32", "bfloat16", "float16"]), default=None,
              help="What it computes in; else float32. docs/agents.md says how far the others are off.")
@RESOURCE_PACK
@click.option("--out", type=click.Path(path_type=Path), default=Path("recordings"), show_default=True,
              help="The folder that the recording's folder goes into.")
@click.option("--no-record", is_flag=True, help="Write nothing to disk.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def run(scenario: str, agent_name: str | None, backend: str, episodes: int, seed: int, steps: int | None,
        settings: tuple[str, ...], options: tuple[str, ...], python: str | None, hooks: tuple[str, ...],
        no_hooks: bool, intervene: tuple[str, ...], device: str | None, precision: str | None, told: Mapping[str, Any],
        resource_pack: Path | None, out: Path, no_record: bool, quiet: bool, as_json: bool) -> None:
    """Let an agent play SCENARIO (a name or a YAML file), and record it."""
    chosen = load_scenario(scenario, parameters=parse_settings(settings))
    agent = cast_agent(scenario, chosen, agent_name, device, precision, told)
    traced = cast_hooks(agent, hooks, () if no_hooks else chosen.hooks, scenario)
    interventions = cast_interventions(scenario, chosen, agent, intervene)
    engine = parse_settings(options, "--world") | ({} if python is None else {"python": python})
    quiet = quiet or as_json
    if not quiet:
        click.echo(f"{agent.name}: {agent.description or 'no description'}", err=True)
        if interventions:
            click.echo(f"interventions: {'; '.join(map(in_short, interventions))}", err=True)
    if not no_record:
        limit = min(steps or chosen.episode.max_steps, chosen.episode.max_steps)
        announce_size(agent, traced, limit * episodes)
    played: list[EpisodeResult] = []
    recorder, applications = None if no_record else Recorder(out), Applications(interventions)
    try:
        with make_world(chosen, backend=backend, **engine, **worn(resource_pack, backend)) as world, \
                Ticker(quiet=quiet, n_episodes=episodes) as ticker:
            notes = world.notes()
            for number in range(episodes):
                observers: list[Observer] = [ticker, applications, *([] if recorder is None else [recorder])]
                played.append(run_episode(world, agent, seed=seed + number, max_steps=steps, observers=observers,
                                          hooks=traced, interventions=interventions))
    except BaseException as problem:
        if played and not as_json:
            print_outcomes(chosen, agent, played)  # what was finished before this episode
        if isinstance(problem, KeyboardInterrupt):
            _farewell(recorder)
        raise
    paths = [str(path) for path in recorder.paths] if recorder else []
    if as_json:
        echo_json(_as_json(chosen, agent, interventions, applications, played, paths) | {"notes": notes})
    else:
        print_outcomes(chosen, agent, played)
        for note in notes:
            click.echo(f"note: {note}")
        for intervention, count in zip(interventions, applications.counts, strict=True):
            click.echo(f"{in_short(intervention)}: {applied_in(count, applications.n_steps)}")
        _what_next(paths, traced, "" if agent.name in known_names() else f" --agent {agent_name or chosen.agent.name}")


def parse_settings(settings: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """``name=value`` pairs, each value as YAML reads it.

    Raises:
        HarnessError: for one without an equals sign.
    """
    found = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise HarnessError(f"{option}: expected NAME=VALUE, got {setting!r}")
        found[name.strip()] = parse_value(value)
    return found


def announce_size(agent: Agent, hooks: Sequence[str], n_steps: int) -> None:
    """Say how much the activations will take, where it is much."""
    n_bytes = estimate_activation_bytes(agent, hooks, n_steps)
    if n_bytes > _LARGE:
        click.echo(f"the activations of {len(hooks)} hooks over {n_steps} steps will take about "
                   f"{bytes_in_words(n_bytes)}; --hooks and --steps make it less", err=True)


def _farewell(recorder: Recorder | None) -> None:
    if recorder is not None and recorder.paths:
        click.echo(f"what was played is in {recorder.path}", err=True)


def _what_next(paths: Sequence[str], traced: Sequence[str], agent: str) -> None:
    if not paths:
        return
    click.echo(f"\nrecorded: {paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else ""))
    click.echo(f"next:\n  harness view {paths[0]}")
    if any(name.endswith("hook_pattern") for name in traced):
        click.echo(f"  harness replay {paths[0]} --overlay attention --out {Path(paths[0]).name}.mp4")
    click.echo(f"  harness replay {paths[0]} --verify{agent}")


def _as_json(scenario: Scenario, agent: Agent, interventions: Sequence[Intervention], applications: Applications,
             played: Sequence[EpisodeResult], paths: Sequence[str]) -> dict[str, Any]:
    return {
        "scenario": scenario.name, "agent": agent.name, "agent_description": agent.description,
        "interventions": [
            {"name": i.name, "kind": type(i).__name__, "site": i.site, "schedule": i.schedule.describe(),
             "applied_in_steps": count} for i, count in zip(interventions, applications.counts, strict=True)],
        "episodes": [{"seed": r.seed, "status": r.status, "n_steps": r.n_steps, "outcomes": dict(r.outcomes),
                      "seconds": round(r.seconds, 3), "recording": paths[i] if i < len(paths) else None}
                     for i, r in enumerate(played)]}
