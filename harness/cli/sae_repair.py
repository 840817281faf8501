"""``harness sae repair``: suppress latents to mend a behaviour, beside other methods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from harness.agent.load import load_agent
from harness.agent.sae import load_sae
from harness.analysis.sae.conduct import Scene
from harness.analysis.sae.repair import repair
from harness.cli.analyse import print_tables
from harness.cli.names import AGENT, echo_json
from harness.cli.progress import Ticker
from harness.cli.run import parse_settings
from harness.errors import HarnessError
from harness.recording.store import write_json
from harness.scenario.load import load_scenario

__all__ = ["repair_command"]

_SPEC = "SCENARIO[,NAME=VALUE]...:OBJECT[:OUTCOME]"


@click.command("repair")
@click.argument("agent_name", type=AGENT, metavar="AGENT")
@click.argument("sae_path", type=click.Path(path_type=Path), metavar="SAE")
@click.option("--unwanted", required=True, metavar=_SPEC,
              help='Where attack on the object is not wanted: "villager,distance=4,steps=100:villager".')
@click.option("--keep", multiple=True, required=True, metavar=_SPEC,
              help='Where it is, or an outcome: "treechop,steps=160:*_log:mined_log". May be repeated.')
@click.option("--cause", metavar="NAME=VALUE[,...]",
              help="Parameters that take the known cause out of the unwanted scene, to score the selection by it.")
@click.option("--pairs", type=click.IntRange(6), default=24, show_default=True,
              help="Pairs of worlds with and without the cause.")
@click.option("--train", type=click.IntRange(1), default=8, show_default=True, help="Training seeds.")
@click.option("--first-train", type=click.IntRange(0), default=700_000, show_default=True, help="The first of them.")
@click.option("--test", type=click.IntRange(1), default=40, show_default=True, help="Test seeds.")
@click.option("--first-test", type=click.IntRange(0), default=800_000, show_default=True, help="The first of them.")
@click.option("--hook", help="Where to act; else where the SAE was trained.")
@click.option("--slots", type=click.IntRange(1, 256), default=8, show_default=True,
              help="Episodes that share a forward pass, and each draw of a null.")
@click.option("--device", help="Where the agent computes: auto, cpu or cuda.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result as .json, with every episode.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def repair_command(agent_name: str, sae_path: Path, unwanted: str, keep: tuple[str, ...], cause: str | None, pairs: int,
                   train: int, first_train: int, test: int, first_test: int, hook: str | None, slots: int,
                   device: str | None, out: Path | None, quiet: bool, as_json: bool) -> None:
    """Find latents of SAE that AGENT's unwanted attack hangs on, suppress them, and compare with other methods."""
    if out is not None and out.suffix.lower() != ".json":
        raise HarnessError(f"--out {out}: expected a name that ends in .json")
    bad, good = _scene("--unwanted", unwanted), [_scene("--keep", text) for text in keep]
    name, settings = _head("--unwanted", unwanted)
    without = None if cause is None else load_scenario(name, parameters={
        **{key: value for key, value in parse_settings(settings).items() if key != "steps"},
        **parse_settings(cause.split(","))})
    sae = load_sae(sae_path)
    agent = load_agent(agent_name, **({} if device is None else {"device": device}))
    with Ticker(quiet=quiet or as_json) as ticker:
        ticker.start("parts looked at and episodes played", None)
        result = repair(agent, sae, bad, good, train_seeds=range(first_train, first_train + train),
                        test_seeds=range(first_test, first_test + test), cause=without,
                        cause_seeds=range(600_000, 600_000 + pairs), hook=hook, slots=slots,
                        progress=ticker.to)
    if out is not None:
        write_json(out, result.as_dict())
    if as_json:
        echo_json(result.as_dict())
        return
    print_tables(result.tables())
    if out is not None:
        click.echo(f"wrote {out}")


def _head(option: str, text: str) -> tuple[str, Sequence[str]]:
    """Scenario and settings of a scene."""
    name, *settings = text.split(":")[0].split(",")
    if not name or not 2 <= len(text.split(":")) <= 3:
        raise HarnessError(f"{option}: expected {_SPEC}, got {text!r}", hint='such as "villager,distance=4:villager"')
    return name, settings


def _scene(option: str, text: str) -> Scene:
    name, settings = _head(option, text)
    thing, outcome = (*text.split(":")[1:], None)[:2]
    parameters = parse_settings(settings)
    steps = parameters.pop("steps", None)
    if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 1):
        raise HarnessError(f"{option}: steps: expected a whole number from 1 on, got {steps!r}")
    assert thing is not None
    return Scene(name, load_scenario(name, parameters=parameters), thing, outcome, steps)
