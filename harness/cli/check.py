"""``harness check``: does a plug-in keep the laws of its kind?"""

from __future__ import annotations

import contextlib
import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from harness.agent import conformance as of_agents
from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.analysis import conformance as of_analyses
from harness.analysis.arrays import with_arrays
from harness.cli.names import AGENT, PLUGIN, SCENARIO, echo_json
from harness.errors import HarnessError, InterventionError, unknown_name
from harness.intervention import conformance as of_interventions
from harness.intervention.build import build_as
from harness.intervention.intervention import Intervention
from harness.recording.recording import open_recording
from harness.registry import TABLES, Plugin, load_object, load_plugin, lookup, registered
from harness.replay.replay import recorded_agent
from harness.scenario.load import load_scenario, parse_value
from harness.world import conformance as of_worlds
from harness.world.world import World, make_world

__all__ = ["Law", "check", "judge"]

_BASES: dict[str, type | None] = {"worlds": World, "agents": Agent, "interventions": Intervention, "analyses": None}
_WITH_NETWORK = "vpt-nano"
_OPTIONS = {"worlds": ("scenario",), "agents": ("scenario",), "interventions": ("scenario", "agent"),
            "analyses": ("scenario", "agent", "recording")}
"""Kind -> which of the options that say what it is tried on mean something."""


@dataclass(frozen=True)
class Law:
    """One check and what came of it; ``why`` is None where the law holds."""

    law: str
    says: str
    why: str | None

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return self.why is None


@dataclass(frozen=True)
class _Bench:
    """What a plug-in is tried on, as the command line says it."""

    given: Mapping[str, Any]
    scenario: str
    agent: str | None
    recordings: Sequence[Path]

    def world(self) -> World:
        return make_world(load_scenario(self.scenario))


Arguments = tuple[Any, ...]


@click.command()
@click.argument("plugin", type=PLUGIN)
@click.option("--kind", type=click.Choice(list(_BASES)), help="Which one, where plug-ins of two kinds share the name.")
@click.option("--with", "given", default="{}", metavar="MAPPING",
              help='What it cannot do without: fields, arguments or options, such as "{keys: [attack]}".')
@click.option("--scenario", type=SCENARIO, help="The world it is tried in; else villager.")
@click.option("--agent", type=AGENT, help="Who plays for an intervention or an analysis; else random keys, or vpt-nano "
                                          "where a network is needed.")
@click.option("--recording", "recordings", multiple=True, type=click.Path(path_type=Path),
              help="What an analysis reads; else two short recordings are made. May be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the laws as JSON.")
@click.pass_context
def check(ctx: click.Context, plugin: str, kind: str | None, given: str, scenario: str | None, agent: str | None,
          recordings: tuple[Path, ...], as_json: bool) -> None:
    """Check PLUGIN, a registered name or package.module:Name, against the laws of its kind.

    Exit code 1 when a law is broken.
    """
    if not __debug__:
        raise HarnessError("the checks are assertions, and Python was told to leave assertions out",
                           hint="run it without -O and PYTHONOPTIMIZE")
    found, loaded = _find(plugin, kind)
    kind = found.group.rpartition(".")[2]
    for name, value in (("scenario", scenario), ("agent", agent), ("recording", recordings)):
        if value and name not in _OPTIONS[kind]:
            raise HarnessError(f"--{name} says nothing about {kind}, and {found.name} is one of them",
                               hint=f"leave it out; {kind} take {', '.join(f'--{each}' for each in _OPTIONS[kind])}")
    bench = _Bench(_mapping(given), scenario or "villager", agent, recordings)
    laws = []
    with _suite(kind, found, loaded, bench) as (checks, arguments):
        if not as_json:
            click.echo(f"{found.name}: {found.kind} of {found.source} ({found.path})")
        for each in checks:
            laws.append(judge(each, *arguments))
            if not as_json:
                _echo(laws[-1])
    n_kept = sum(law.ok for law in laws)
    if as_json:
        echo_json({"plugin": found.name, "kind": found.kind, "source": found.source, "path": found.path,
                   "ok": n_kept == len(laws), "laws": [{**asdict(law), "ok": law.ok} for law in laws]})
    else:
        click.echo(f"{n_kept} of {len(laws)} laws hold")
    ctx.exit(0 if n_kept == len(laws) else 1)


def judge(one: Callable[..., None], *arguments: Any) -> Law:
    """Run a check. Whatever it or the plug-in raises breaks its law."""
    name, says = one.__name__.removeprefix("check_"), (inspect.getdoc(one) or "").splitlines()[0].replace("`", "")
    try:
        one(*arguments)
    except AssertionError as problem:
        return Law(name, says, str(problem) or "an assertion of its own failed, without words")
    except Exception as problem:  # a stranger's code may raise anything
        return Law(name, says, f"{type(problem).__name__}: {problem}")
    return Law(name, says, None)


def _echo(law: Law) -> None:
    click.echo(f"  {'ok' if law.ok else 'FAILED':<8}{law.law:<13}{law.says}")
    for line in (law.why or "").splitlines():
        click.echo(f"          {line}")


def _find(word: str, kind: str | None) -> tuple[Plugin, Any]:
    """A plug-in by its name or its path, imported.

    Raises:
        HarnessError: for a name that nobody registered, or that means two things; for what cannot be imported, or is
            nothing of the kind.
    """
    if ":" in word:
        return _at_path(word, kind)
    groups = [group for group in TABLES if word in registered(group) and kind in (None, group.rpartition(".")[2])]
    if not groups:
        known = {name for group in TABLES if kind in (None, group.rpartition(".")[2]) for name in registered(group)}
        problem = unknown_name("plug-in", word, known)
        problem.hint = f"{problem.hint or ''} harness plugins list shows them all".strip()
        raise problem
    if len(groups) > 1:
        raise HarnessError(f'"{word}" is the name of plug-ins of {len(groups)} kinds',
                           hint=f"say --kind {' or --kind '.join(group.rpartition('.')[2] for group in groups)}")
    (group,) = groups
    loaded = lookup(group, word, base=_BASES[group.rpartition(".")[2]])
    return registered(group)[word][0], loaded


def _at_path(path: str, kind: str | None) -> tuple[Plugin, Any]:
    try:
        loaded = load_object(path)
    except Exception as problem:  # a stranger's module may raise anything
        raise HarnessError(f"cannot import {path}: {type(problem).__name__}: {problem}",
                           hint="expected package.module:Name; is its folder on PYTHONPATH?") from problem
    fits = [each for each, base in _BASES.items()
            if (isinstance(loaded, type) and issubclass(loaded, base) if base else inspect.isfunction(loaded))]
    kind = kind or (fits[0] if fits else None)
    if kind is None:
        raise HarnessError(f"{path} is {loaded!r}, expected a class derived from World, Agent or Intervention, or a "
                           "function, which is an analysis", hint="say which it is meant to be with --kind")
    plugin = Plugin(f"harness.{kind}", path.rpartition(":")[2], path, "no installed distribution")
    return plugin, load_plugin(plugin, base=_BASES[kind])


def _mapping(text: str) -> dict[str, Any]:
    value = parse_value(text)
    if not isinstance(value, dict):
        raise HarnessError(f'--with: expected a mapping such as "{{keys: [attack]}}", got {text!r}')
    return value


# ---- what each kind is tried on


@contextlib.contextmanager
def _suite(kind: str, plugin: Plugin, loaded: Any, bench: _Bench
           ) -> Iterator[tuple[Sequence[Callable[..., None]], Arguments]]:
    """The checks of a kind and what they are called with.

    Raises:
        HarnessError: when the plug-in cannot be built from what was given.
    """
    if kind == "worlds":
        scenario = load_scenario(bench.scenario)
        _try(plugin, loaded, scenario, **bench.given)
        yield of_worlds.CHECKS, (lambda: loaded(scenario, **bench.given),)
    elif kind == "agents":
        _try(plugin, loaded, **bench.given)
        yield of_agents.CHECKS, (lambda: loaded(**bench.given), bench.world)
    elif kind == "interventions":
        yield _of_intervention(plugin, loaded, bench)
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield of_analyses.CHECKS, _for_analysis(loaded, bench, Path(folder))


def _for_analysis(loaded: Callable[..., Any], bench: _Bench, folder: Path) -> Arguments:
    """The function, recordings, options and agent; run once, so that what it refuses itself is told as it tells it."""
    if bench.recordings:
        recordings = [open_recording(path) for path in bench.recordings]
        agent = recorded_agent(recordings[0], bench.agent)
    else:
        agent = load_agent(bench.agent or _WITH_NETWORK)
        recordings = of_analyses.bench_recordings(folder, agent, bench.world)
    arguments = (loaded, recordings, bench.given, agent)
    if judge(of_analyses.check_signature, *arguments).ok:
        try:
            of_analyses.run_once(*arguments)
        except HarnessError as problem:
            problem.hint = problem.hint or "say what it needs with --with, and what it reads with --recording"
            raise
        except Exception:  # a stranger's code may raise anything: for the checks to find
            pass
    return arguments


def _of_intervention(plugin: Plugin, loaded: type[Intervention], bench: _Bench
                     ) -> tuple[Sequence[Callable[..., None]], Arguments]:
    spec = with_arrays(bench.given, Path(), anywhere=True)
    try:
        made = build_as(loaded, spec, where="--with" if bench.given else None)
    except InterventionError as problem:
        problem.hint = problem.hint or 'say its fields and schedule with --with "{field: value}"'
        raise
    needs = getattr(made, "site", None) in ("memory", "feature")
    name = bench.agent or (_WITH_NETWORK if needs else "random")
    tried = of_interventions.Bench(load_agent(name), bench.world)

    def check_name(make: Callable[[], Intervention], bench: of_interventions.Bench) -> None:
        """It is registered under the name of its class, by which recordings name it."""
        assert plugin.name == loaded.__name__, f"it is registered as {plugin.name}, the class is {loaded.__name__}"

    return (check_name, *of_interventions.CHECKS), (lambda: build_as(loaded, spec), tried)


def _try(plugin: Plugin, loaded: Callable[..., Any], *arguments: Any, **given: Any) -> None:
    """Build it once, so that what it refuses itself is told as it tells it; anything else is for the checks to find.

    Raises:
        HarnessError: its own, or ``_bind``'s.
    """
    _bind(plugin, loaded, *arguments, **given)
    try:
        made = loaded(*arguments, **given)
        if isinstance(made, World):
            made.close()
    except HarnessError as problem:
        problem.hint = problem.hint or 'say what it needs with --with "{name: value}"'
        raise
    except Exception:  # a stranger's code may raise anything
        return


def _bind(plugin: Plugin, loaded: Callable[..., Any], *arguments: Any, **given: Any) -> None:
    """Refuse what does not fit a plug-in's signature, before anything is checked.

    Raises:
        HarnessError: naming the arguments.
    """
    try:
        inspect.signature(loaded).bind(*arguments, **given)
    except TypeError as problem:
        takes = [name for name in inspect.signature(loaded).parameters][len(arguments):]
        raise HarnessError(f"{plugin.name}: {problem}", where="--with" if given else None,
                           hint=f'it takes {", ".join(takes) or "nothing"}; say them with --with "{{name: value}}"'
                           ) from problem
