"""``harness sae steer``, ``name`` and ``page``: which latents steer, what they mean, and a page for each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.agent.load import load_agent
from harness.agent.sae import load_sae
from harness.analysis.result import Result
from harness.analysis.sae.closed_loop import steer_episodes
from harness.analysis.sae.consistency import do_consistency
from harness.analysis.sae.frames import latent_frames
from harness.analysis.sae.naming import name_latents
from harness.analysis.sae.steerability import steerability
from harness.analysis.sae.store import ActivationStore
from harness.cli.analyse import print_tables
from harness.cli.compare import recordings_in
from harness.cli.names import AGENT, SCENARIO, bytes_in_words, echo_json
from harness.cli.progress import Ticker
from harness.errors import HarnessError
from harness.recording.store import write_json
from harness.replay.replay import recorded_agent
from harness.scenario.load import load_scenario
from harness.viewer.latents import export_latents, latent_facts

__all__ = ["name", "page", "steer"]

_MODES = ("replace", "add", "cap", "floor", "zero")


@click.command()
@click.argument("sae", type=click.Path(path_type=Path))
@click.argument("recordings", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RECORDING...")
@click.option("--latent", "latents", type=click.IntRange(0), multiple=True,
              help="Only these; else all that are alive.")
@click.option("--key", "keys", multiple=True, default=("attack",), show_default=True, metavar="BUTTON",
              help="Whose probability to follow. May be repeated.")
@click.option("--mode", type=click.Choice(_MODES), default="replace", show_default=True,
              help="What becomes of a latent: the strength, it and the strength, at most, at least, 0.")
@click.option("--strength", type=float, help="In the latents' own units.  [default: their 99th percentile above 0]")
@click.option("--nulls", type=click.IntRange(99), default=200, show_default=True,
              help="Random directions, and random latents.")
@click.option("--units/--no-units", default=True, help="Test the hook's raw units as well.")
@click.option("--closed-loop", "scenarios", multiple=True, type=SCENARIO, metavar="SCENARIO",
              help="Play it with the latents of --latent, else with the three that move most. May be repeated.")
@click.option("--event", "events", multiple=True, default=("*",), metavar="OUTCOME",
              help="Outcomes of the scenarios to count.  [default: all]")
@click.option("--episodes", type=click.IntRange(1), default=16, show_default=True, help="Of each scenario.")
@click.option("--steps", type=click.IntRange(1), help="End them after so many.")
@click.option("--closed-nulls", type=click.IntRange(99), default=99, show_default=True, help="As --nulls, in episodes.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the nulls, and first episode.")
@click.option("--agent", "agent_name", type=AGENT, help="Where the recorded agent's file is, or another agent.")
@click.option("--device", help="Where the agent computes: auto, cpu or cuda.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the result: FILE.json.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def steer(sae: Path, recordings: tuple[Path, ...], latents: tuple[int, ...], keys: tuple[str, ...], mode: Any,
          strength: float | None, nulls: int, units: bool, scenarios: tuple[str, ...], events: tuple[str, ...],
          episodes: int, steps: int | None, closed_nulls: int, seed: int, agent_name: str | None, device: str | None,
          out: Path | None, quiet: bool, as_json: bool) -> None:
    """Measure which latents of SAE steer the agent over the pictures of RECORDING, and in episodes.

    Over pictures: S_f = mean (P~ - P)^2 of a key's probability, for every live latent and raw unit, against random
    directions of the same norm and random latents. In episodes: the same of the share with an outcome.
    """
    check_json(out)
    found = [each for path in recordings for each in recordings_in(path)]
    loaded, worlds = load_sae(sae), [load_scenario(name) for name in scenarios]
    agent = recorded_agent(found[0], agent_name, device)
    results: list[Result] = []
    with Ticker(quiet=quiet or as_json) as ticker:
        ticker.start("steering", None)
        result = steerability(found, agent, loaded, latents=latents or None, keys=keys, mode=mode, strength=strength,
                              nulls=nulls, units=units, seed=seed, progress=ticker.to)
        results.append(result)
        if worlds:
            ticker.start("playing", None)
            own = result.steered[0]
            chosen = latents or tuple(int(n) for n in own.members[own.score.max(1).argsort()[::-1][:3]])
            results.append(steer_episodes(agent, loaded, worlds, range(seed, seed + episodes), chosen, own.strength,
                                          alive=None if latents else own.members.tolist(), events=events, mode=mode,
                                          nulls=closed_nulls, max_steps=steps, seed=seed, progress=ticker.to))
    show(results, out, as_json=as_json)


def check_json(out: Path | None) -> None:
    """Refuse another suffix.

    Raises:
        HarnessError: for a file that is no .json.
    """
    if out is not None and out.suffix.lower() != ".json":
        raise HarnessError(f"--out {out}: expected a name that ends in .json")


def show(results: list[Result], out: Path | None, *, as_json: bool) -> None:
    """Tables on the terminal or as JSON, and in a file where one is named."""
    told = [result.as_dict() for result in results]
    if out is not None:
        write_json(out, told)
    if as_json:
        echo_json(told)
        return
    for result in results:
        print_tables(result.tables())
    if out is not None:
        click.echo(f"wrote {out}")


@click.command()
@click.argument("sae", type=click.Path(path_type=Path))
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--fdr", type=click.FloatRange(0, 1, min_open=True), default=0.05, show_default=True,
              help="Share of false discoveries to allow.")
@click.option("--draws", type=click.IntRange(20), default=200, show_default=True, help="Of the null.")
@click.option("--world", "scenario", type=SCENARIO, help="Also ask whether changes of this world bear the names out.")
@click.option("--without", "parameters", multiple=True, metavar="PARAMETER",
              help="A parameter of that scenario to make none: creature, canopy, trunk. May be repeated.")
@click.option("--latent", "latents", type=click.IntRange(0), multiple=True,
              help="Ask it about these; else the ten clearest names.")
@click.option("--episodes", type=click.IntRange(1), default=16, show_default=True, help="Seeds of that world.")
@click.option("--steps", type=click.IntRange(1), default=20, show_default=True, help="Pictures of each.")
@click.option("--key", default="attack", show_default=True, metavar="BUTTON", help="Whose probability to follow there.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of split, null and world.")
@click.option("--agent", "agent_name", type=AGENT, help="Where the store's agent's file is.")
@click.option("--device", help="Where the agent computes: auto, cpu or cuda.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the result: FILE.json.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def name(sae: Path, store: Path, fdr: float, draws: int, scenario: str | None, parameters: tuple[str, ...],
         latents: tuple[int, ...], episodes: int, steps: int, key: str, seed: int, agent_name: str | None,
         device: str | None, out: Path | None, quiet: bool, as_json: bool) -> None:
    """Say which states of the world the latents of SAE go with, from the states stored in STORE.

    AUROC and mutual information on held-out episodes, false discoveries controlled. With --world and --without: whether
    the world moves a latent as the latent moves the behaviour.
    """
    check_json(out)
    if (scenario is None) != (not parameters):
        raise HarnessError("--world and --without go together", hint="--world villager --without creature")
    loaded, opened = load_sae(sae), ActivationStore(store)
    worlds = {} if scenario is None else {f"without {each}": load_scenario(scenario, parameters={each: "none"})
                                          for each in parameters}
    results: list[Result] = []
    with Ticker(quiet=quiet or as_json) as ticker:
        ticker.start("naming", None)
        found = name_latents(loaded, opened, fdr=fdr, draws=draws, seed=seed, progress=ticker.to)
        results.append(found)
        asked = latents or tuple(dict.fromkeys(each.latent for each in found.names))[:10]
        if scenario is not None and asked:
            ticker.start("changing the world", None)
            told = {} if device is None else {"device": device}
            agent = load_agent(agent_name or str(opened.agent["name"]), **told)
            results.append(do_consistency(agent, loaded, load_scenario(scenario), worlds, range(seed, seed + episodes),
                                          asked, key=key, steps=steps, progress=ticker.to))
    show(results, out, as_json=as_json)


@click.command()
@click.argument("sae", type=click.Path(path_type=Path))
@click.argument("recordings", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RECORDING...")
@click.option("--latent", "latents", type=click.IntRange(0), multiple=True, required=True,
              help="Whose page. May be repeated.")
@click.option("--with", "files", type=click.Path(path_type=Path, exists=True, dir_okay=False), multiple=True,
              metavar="FILE.json", help="What harness sae name and steer wrote with --out. May be repeated.")
@click.option("--frames", type=click.IntRange(1, 100), default=8, show_default=True, help="Pictures of each.")
@click.option("--agent", "agent_name", type=AGENT, help="Where the recorded agent's file is, or another agent.")
@click.option("--device", help="Where the agent computes: auto, cpu or cuda.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The page: FILE.html.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
def page(sae: Path, recordings: tuple[Path, ...], latents: tuple[int, ...], files: tuple[Path, ...], frames: int,
         agent_name: str | None, device: str | None, out: Path, quiet: bool) -> None:
    """Write a page about latents of SAE: where in RECORDING they are largest, and what is known of them.

    One HTML file with everything inside. Heat shows where a latent is in the picture, or, where its hook has no places,
    how far it falls when a patch is covered.
    """
    found = [each for path in recordings for each in recordings_in(path)]
    loaded = load_sae(sae)
    facts = latent_facts(loaded, [result for path in files for result in _results(path)])
    agent = recorded_agent(found[0], agent_name, device)
    with Ticker(quiet=quiet) as ticker:
        ticker.start("looking", None)
        pages = latent_frames(found, agent, loaded, tuple(dict.fromkeys(latents)), n=frames, progress=ticker.to)
    click.echo(f"wrote {out}: {bytes_in_words(export_latents(pages, out, facts))}")


def _results(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise HarnessError(f"cannot be read as a result: {problem}", where=str(path)) from problem
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise HarnessError("expected what harness sae name or steer writes with --out", where=str(path))
    return found
