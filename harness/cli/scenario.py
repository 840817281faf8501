"""``harness scenario``: list, show, check and preview."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click

from harness.agent.scripted import NoopAgent
from harness.analysis.words import cast_interventions
from harness.cli import in_words
from harness.cli.cast import check_cast
from harness.cli.intervene import INTERVENE, in_short
from harness.cli.names import BACKEND, RESOURCE_PACK, SCENARIO, echo_json, worn
from harness.cli.run import parse_settings
from harness.errors import HarnessError, InterventionError
from harness.intervention.stack import InterventionStack
from harness.rollout import spawn_streams
from harness.scenario.commands import game_script
from harness.scenario.compile import compile_scenario
from harness.scenario.datapack import datapack
from harness.scenario.dialect import DIALECTS, Dialect
from harness.scenario.load import dump_scenario, json_schema, load_scenario, scenario_names
from harness.scenario.setup import WorldSetup
from harness.scenario.verification import expectations
from harness.world.world import make_world

__all__ = ["scenario"]

_SETTINGS = click.option("--set", "settings", multiple=True, metavar="NAME=VALUE",
                         help="A value for one of its parameters.")
_SEED = click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
                     help="The episode's seed, as for run.")


@click.group()
def scenario() -> None:
    """List, show, check and preview scenarios."""


@scenario.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_scenarios(as_json: bool) -> None:
    """List the bundled scenarios."""
    found = {name: load_scenario(name) for name in scenario_names()}
    if as_json:
        echo_json([{"name": name, "description": s.description, "parameters": {
            key: p.default for key, p in s.parameters.items()}} for name, s in found.items()])
        return
    width = max(map(len, found), default=0)
    for name, loaded in found.items():
        click.echo(f"{name:<{width}}  {' '.join(loaded.description.split())}".rstrip())


@scenario.command()
@click.argument("name", type=SCENARIO)
@click.option("--as", "form", type=click.Choice(["yaml", "commands", "checks", "datapack", "json"]), default="yaml",
              show_default=True, help="The resolved file, Minecraft commands, what a game is checked for, the "
              "commands as a datapack's files, or the compiled world.")
@click.option("--dialect", type=click.Choice(DIALECTS), default="1.16.5", show_default=True,
              help="Of commands and datapack.")
@_SEED
@_SETTINGS
def show(name: str, form: str, dialect: Dialect, seed: int, settings: tuple[str, ...]) -> None:
    """Show a scenario as it is understood: extends merged, parameters filled in."""
    loaded = load_scenario(name, parameters=parse_settings(settings))
    if form == "yaml":
        click.echo(dump_scenario(loaded), nl=False)
        return
    setup = compile_scenario(loaded, seed=spawn_streams(seed)[0])
    if form == "json":
        echo_json(dataclasses.asdict(setup))
        return
    for line in _SHOWN[form](setup, dialect):
        click.echo(line)


def _commands(setup: WorldSetup, dialect: Dialect) -> Iterator[str]:
    script = game_script(setup, dialect)
    yield from script.session
    yield from script.episode
    for step, lines in script.events.items():
        yield f"# before the picture of step {step}"
        yield from lines


def _checks(setup: WorldSetup, dialect: Dialect) -> Iterator[str]:
    return map(str, expectations(setup, game_script(setup, dialect).settle_ticks))


def _datapack(setup: WorldSetup, dialect: Dialect) -> Iterator[str]:
    for path, text in datapack(setup, dialect).items():
        yield f"# {path}"
        yield from text.splitlines()


_SHOWN: Mapping[str, Callable[[WorldSetup, Dialect], Iterator[str]]] = {
    "commands": _commands, "checks": _checks, "datapack": _datapack}


@scenario.command()
@click.argument("names", type=SCENARIO, nargs=-1, required=True)
@_SETTINGS
def validate(names: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Check scenario files, and the agents, hooks and interventions they name; exit code 2 for a mistake."""
    problems = []
    for name in names:
        try:
            loaded = load_scenario(name, parameters=parse_settings(settings))
            compile_scenario(loaded, seed=0)
            check_cast(name, loaded)
        except HarnessError as problem:
            problems.append(problem)
            click.echo(in_words(str(problem)), err=True)
        else:
            click.echo(f"{name}: OK")
    if problems:
        raise click.exceptions.Exit(problems[0].exit_code)


@scenario.command()
def schema() -> None:
    """Print the JSON schema of scenario files, for editors."""
    echo_json(json_schema())


@scenario.command()
@click.argument("name", type=SCENARIO)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The picture, .png.")
@click.option("--backend", type=BACKEND, default="blockworld", show_default=True, help="Which engine builds the world.")
@click.option("--world", "options", multiple=True, metavar="NAME=VALUE", help="An option of the backend.")
@click.option("--python", type=click.Path(), help="Run the engine in this Python, where the backend can.")
@RESOURCE_PACK
@INTERVENE
@_SEED
@_SETTINGS
def preview(name: str, out: Path, backend: str, options: tuple[str, ...], python: str | None,
            resource_pack: Path | None, intervene: tuple[str, ...], seed: int, settings: tuple[str, ...]) -> None:
    """Write the first picture an agent would see, under interventions on the world and on the picture."""
    if out.suffix.lower() != ".png":
        raise HarnessError(f"cannot write {out}: expected a name that ends in .png")
    chosen, nobody = load_scenario(name, parameters=parse_settings(settings)), NoopAgent()
    interventions = cast_interventions(name, chosen, nobody, intervene, lenient=True)
    for each in interventions:
        if each.site not in ("world", "input"):
            raise InterventionError(f"{in_short(each)} changes nothing in a picture: its site is {each.site}")
    engine = parse_settings(options, "--world") | ({} if python is None else {"python": python})
    with make_world(chosen, backend=backend, **engine, **worn(resource_pack, backend)) as world:
        stack = InterventionStack(interventions, agent=nobody, seed=seed, world=world, n_steps=1)
        observation, info = world.reset(seed=spawn_streams(seed)[0])
        stack.begin(info)
        observation = stack.change_input(stack.change_world(observation, 0, info), 0, info)
    import cv2

    good, encoded = cv2.imencode(".png", cv2.cvtColor(observation["pov"], cv2.COLOR_RGB2BGR))
    assert good, "a picture uint8 [H, W, 3] can be encoded"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(encoded.tobytes())
    except OSError as problem:
        raise HarnessError(f"cannot write the picture: {problem.strerror}", where=str(out)) from problem
    click.echo(f"wrote {out}")
