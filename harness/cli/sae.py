"""``harness sae``: store activations, train sparse autoencoders on them, and measure these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.agent.load import load_agent
from harness.agent.sae import load_sae
from harness.analysis.result import Result
from harness.analysis.sae.collect import STATE, collect_episodes, collect_recordings, collect_videos
from harness.analysis.sae.evaluate import fit_chart, loss_recovered, sae_fit
from harness.analysis.sae.recipe import KINDS, SaeRecipe
from harness.analysis.sae.store import MANIFEST, ActivationStore
from harness.analysis.sae.train import LOG, train_saes
from harness.cli.analyse import print_tables
from harness.cli.compare import recordings_in
from harness.cli.latents import name, page, steer
from harness.cli.names import AGENT, SCENARIO, bytes_in_words, echo_json
from harness.cli.progress import Ticker
from harness.cli.sae_repair import repair_command
from harness.errors import HarnessError, TrainingError
from harness.recording.recording import Recording
from harness.replay.replay import recorded_agent
from harness.scenario.load import load_scenario
from harness.training.log import read_log

__all__ = ["sae"]

_USUAL = SaeRecipe()


@click.group()
def sae() -> None:
    """Sparse autoencoders: collect activations, train on them, evaluate."""


@sae.command()
@click.argument("sources", nargs=-1, required=True, metavar="AGENT|RECORDING|VIDEO...")
@click.option("--hook", "hooks", multiple=True, required=True, metavar="GLOB", help="Store these. May be repeated.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The store's folder.")
@click.option("--scenario", "scenarios", multiple=True, type=SCENARIO,
              help="Where AGENT plays.  [default: treechop]")
@click.option("--episodes", type=click.IntRange(1), default=50, show_default=True, help="Of each scenario.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the first episode.")
@click.option("--steps", type=click.IntRange(1), help="End episodes, or videos, after so many.")
@click.option("--slots", type=click.IntRange(1, 256), default=16, show_default=True,
              help="Episodes that share a forward pass.")
@click.option("--state", "variables", multiple=True, metavar="VARIABLE",
              help=f"State variable to store with each step; none: 'none'.  [default: {', '.join(STATE)}]")
@click.option("--agent", "agent_name", type=AGENT, help="Who looks over RECORDING or VIDEO; else what was recorded.")
@click.option("--device", help="Where the agent computes: auto, cpu or cuda.")
@click.option("--resume", is_flag=True, help="Go on with the store in --out.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def collect(sources: tuple[str, ...], hooks: tuple[str, ...], out: Path, scenarios: tuple[str, ...], episodes: int,
            seed: int, steps: int | None, slots: int, variables: tuple[str, ...], agent_name: str | None,
            device: str | None, resume: bool, quiet: bool, as_json: bool) -> None:
    """Store an agent's activations: while AGENT plays, as RECORDING holds them, or as --agent sees VIDEO."""
    told: dict[str, Any] = {} if device is None else {"device": device}
    state = () if variables == ("none",) else variables or STATE
    kinds = {_kind(source) for source in sources}
    if len(kinds) > 1:
        raise HarnessError(f"expected an agent, recordings, or videos, got several kinds: {', '.join(sorted(kinds))}")
    kind = kinds.pop()
    with Ticker(quiet=quiet or as_json) as ticker:
        ticker.start("collecting", None)
        common: dict[str, Any] = {"resume": resume, "progress": ticker.to}
        if kind == "recording":
            found = [each for source in sources for each in recordings_in(Path(source))]
            agent = None if agent_name is None else load_agent(agent_name, **told)
            store = collect_recordings(found, hooks, out, agent=agent, variables=state, **common)
        elif kind == "video":
            if agent_name is None:
                raise HarnessError("a video holds no activations", hint="say who looks at it: --agent vpt-nano")
            store = collect_videos([Path(source) for source in sources], load_agent(agent_name, **told), hooks, out,
                                   max_steps=steps, **common)
        else:
            if len(sources) > 1 or agent_name is not None:
                raise HarnessError(f"expected one agent, got {', '.join([*sources, *([agent_name or ''])])}")
            worlds = [load_scenario(name) for name in scenarios or ("treechop",)]
            store = collect_episodes(load_agent(sources[0], **told), worlds, range(seed, seed + episodes), hooks, out,
                                     variables=state, max_steps=steps, slots=slots, **common)
    _show_store(store, as_json)


def _kind(source: str) -> str:
    path = Path(source)
    if path.is_dir():
        return "recording"
    return "video" if path.is_file() and path.suffix.lower() not in (".yaml", ".yml") else "agent"


def _show_store(store: ActivationStore, as_json: bool) -> None:
    size = sum(path.stat().st_size for path in store.folder.iterdir())
    if as_json:
        echo_json({"store": str(store.folder), "agent": dict(store.agent), "steps": store.n_steps,
                   "shards": store.n_shards, "bytes": size, "episodes": len(store.episodes),
                   "variables": list(store.variables),
                   "hooks": {hook: {"tokens": store.n_tokens(hook), "width": tokens.width}
                             for hook, tokens in store.hooks.items()}})
        return
    click.echo(f"{store.n_steps} steps of {len(store.episodes)} episodes, seen by {store.agent['name']} "
               f"({store.agent['description']}): {store.n_shards} shards, {bytes_in_words(size)}")
    for hook, tokens in store.hooks.items():
        click.echo(f"  {hook}: {store.n_tokens(hook)} tokens of {tokens.width} numbers")
    click.echo(f"next:\n  harness sae train {store.folder} --out {store.folder}-sae")


@sae.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The run's folder.")
@click.option("--hook", "hooks", multiple=True, metavar="NAME", help="Only these of the store; else all, in one pass.")
@click.option("--kind", type=click.Choice(KINDS), default=_USUAL.kind, show_default=True, help="Which are kept.")
@click.option("--expansion", type=float, default=_USUAL.expansion, show_default=True, help="Latents per number.")
@click.option("--k", type=int, default=_USUAL.k, show_default=True, help="Latents per token (topk, batchtopk).")
@click.option("--sparsity", type=float, default=_USUAL.sparsity, show_default=True,
              help="Factor of the L1 (relu) or L0 (jumprelu) penalty.")
@click.option("--bandwidth", type=float, default=_USUAL.bandwidth, show_default=True,
              help="Where a threshold learns from (jumprelu).")
@click.option("--tied", is_flag=True, help="The encoder is the decoder transposed.")
@click.option("--aux", type=float, default=_USUAL.aux, show_default=True,
              help="Factor of the auxiliary loss for dead latents; 0: none.")
@click.option("--dead-window", type=int, default=_USUAL.dead_window, show_default=True,
              help="Tokens without firing that make a latent dead.")
@click.option("--learning-rate", type=float, default=_USUAL.learning_rate, show_default=True, help="Of Adam.")
@click.option("--batch", type=int, default=_USUAL.batch, show_default=True, help="Tokens per step.")
@click.option("--epochs", type=float, default=_USUAL.epochs, show_default=True, help="Passes over the store.")
@click.option("--held-out", type=float, default=_USUAL.held_out, show_default=True,
              help="Share of episodes that are not trained on.")
@click.option("--seed", type=int, default=_USUAL.seed, show_default=True, help="Of weights and order.")
@click.option("--threads", type=click.IntRange(1, 64), default=2, show_default=True, help="CPU threads.")
@click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train(store: Path, out: Path, hooks: tuple[str, ...], threads: int, resume: bool, quiet: bool, as_json: bool,
          **given: Any) -> None:
    """Train sparse autoencoders on STORE, one per hook, and write them in SAELens' format."""
    with Ticker(quiet=quiet or as_json) as ticker:
        ticker.start("training", None)
        try:
            written = train_saes(ActivationStore(store), out, SaeRecipe(**given), hooks, resume=resume, threads=threads,
                                 progress=ticker.to)
        except OSError as problem:
            raise TrainingError(f"cannot write the run: {problem.strerror}", where=str(out)) from problem
    last = {row["hook"]: row for row in read_log(out / LOG)}
    if as_json:
        echo_json({"saes": {hook: str(path) for hook, path in written.items()}, "last": last})
        return
    for hook, path in written.items():
        row = last[hook]
        click.echo(f"{hook}: {row['tokens']} tokens, FVU {row['fvu']:.3f}, L0 {row['l0']:.1f}, {row['dead']} dead "
                   f"(of the last batches trained on): {path}")
    click.echo(f"next:\n  harness sae eval {next(iter(written.values()))} {store}")


@sae.command("eval")
@click.argument("paths", nargs=-1, required=True, metavar="SAE... STORE|RECORDING")
@click.option("--all", "everything", is_flag=True, help="Also episodes of the store that were trained on.")
@click.option("--window", type=click.IntRange(1), default=100_000, show_default=True,
              help="Tokens in which a latent must fire to be alive.")
@click.option("--least", type=click.FloatRange(0, 1), default=0.0, show_default=True,
              help="In more than this share of them.")
@click.option("--hook", help="Where to put the SAE in; else where it was trained.")
@click.option("--agent", "agent_name", type=AGENT, help="Where the recorded agent's file is, or another agent.")
@click.option("--device", help="Where the agent computes: auto, cpu or cuda.")
@click.option("--chart", type=click.Path(path_type=Path, dir_okay=False), help="Write curves by hook: FILE.svg.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def evaluate(paths: tuple[str, ...], everything: bool, window: int, least: float, hook: str | None,
             agent_name: str | None, device: str | None, chart: Path | None, quiet: bool, as_json: bool) -> None:
    """Measure SAEs on the held-out episodes of STORE, or what the agent of RECORDING (or a folder of them) loses.

    On a store: explained variance, cosine, L0 and live latents by hook and token type. On recordings: loss recovered.
    """
    if len(paths) < 2:
        raise HarnessError("expected one SAE at least, and a store or recordings",
                           hint="harness sae eval trained/blocks.2.hook_resid_post store")
    saes, target = [load_sae(path) for path in paths[:-1]], Path(paths[-1])
    results: list[Result] = []
    if (target / MANIFEST).is_file():
        fit = sae_fit(saes, ActivationStore(target), held_out=not everything, window=window, least=least)
        results.append(fit)
        if chart is not None:
            chart.write_text(fit_chart(fit), encoding="utf-8")
    else:
        if chart is not None:
            raise HarnessError("--chart draws what is measured on a store, and these are recordings")
        found: list[Recording] = recordings_in(target)
        agent = recorded_agent(found[0], agent_name, device)
        with Ticker(quiet=quiet or as_json) as ticker:
            for each in saes:
                ticker.start("looking", None)
                results.append(loss_recovered(found, agent, each, hook, ticker.to))
    if as_json:
        echo_json([result.as_dict() for result in results])
        return
    for result in results:
        print_tables(result.tables())


for command in (steer, name, page, repair_command):
    sae.add_command(command)
