"""``harness train``: make an agent's weights by its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.names import echo_json
from harness.cli.progress import Ticker
from harness.errors import TrainingError
from harness.training.log import read_log
from harness.training.recipe import read_recipe
from harness.training.trainer import LOG, Trainer

__all__ = ["train"]


@click.command()
@click.argument("agent")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=None,
              help="The run's folder.  [default: trained/NAME-seedS]")
@click.option("--resume", is_flag=True, help="Go on from the folder's latest checkpoint.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=None, help="Instead of the recipe's seed.")
@click.option("--smoke", is_flag=True, help="Everything small: does it run at all? Ends within two minutes.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True,
              help="CPU threads. Two runs with one thread each are quicker than one with two.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train(agent: str, out: Path | None, resume: bool, seed: int | None, smoke: bool, threads: int, quiet: bool,
          as_json: bool) -> None:
    """Train AGENT (an agent file with a recipe under "training"), from demonstrations of a scripted teacher."""
    definition, recipe = read_recipe(agent, seed=seed, smoke=smoke)
    folder = out or Path("trained") / f"{definition.name}-seed{recipe.seed}{'-smoke' if smoke else ''}"
    with Ticker(quiet=quiet or as_json) as ticker:
        try:
            path = Trainer(definition, recipe, folder, resume=resume, threads=threads, progress=ticker).run()
        except KeyboardInterrupt:
            click.echo(f"interrupted; go on with: harness train {agent} --out {folder} --resume", err=True)
            raise
        except OSError as problem:
            raise TrainingError(f"cannot write the run: {problem.strerror}", where=str(folder)) from problem
    _show(path, read_log(folder / LOG), as_json)


def _show(path: Path, rows: list[dict[str, Any]], as_json: bool) -> None:
    tests = [row for row in rows if row["kind"] == "validation"]
    trained = [row for row in rows if row["kind"] == "train"]
    latest = {row["sampling"]: row for row in tests if row["step"] == tests[-1]["step"]}
    if as_json:
        echo_json({"agent": str(path), "steps": trained[-1]["step"], "seconds": trained[-1]["seconds_total"],
                   "first": trained[0], "last": trained[-1], "validation": list(latest.values())})
        return
    first, last = trained[0], trained[-1]
    click.echo(f"{last['step']} steps in {last['seconds_total']:.0f} s without validation; loss of the buttons "
               f"{first['buttons']:.2f} -> {last['buttons']:.3f}, of the camera {first['camera']:.2f} -> "
               f"{last['camera']:.3f}")
    for sampling, row in latest.items():
        median = "" if row["median_steps"] is None else f", median {row['median_steps']:.0f} steps"
        click.echo(f"{row['scenario']}, {'drawing' if sampling else 'most likely action'}: {row['successes']} of "
                   f"{row['episodes']} held-out episodes [{row['low']:.0%}, {row['high']:.0%}]{median}")
    click.echo(f"\nlog and curves: {path.parent}\nnext:\n  harness run treechop --agent {path}")
