"""``harness clip``: CLIP from a local file, and what an edit inside it does to a classification of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click

from harness.agent.clip.files import load_clip
from harness.agent.clip.tokens import TOKENS, TokenSet
from harness.analysis.classification import Suppression, classify, suppression_effect
from harness.analysis.labelled_pictures import read_labels
from harness.analysis.words import without_scenario
from harness.cli.analyse import print_tables
from harness.cli.clip_options import ACTIVATION, COLUMN, LABELS, SIZE, pairs_of
from harness.cli.clip_sae import collect, latents
from harness.cli.names import echo_json
from harness.cli.progress import Ticker
from harness.errors import HarnessError
from harness.recording.store import write_json

__all__ = ["clip"]

@click.group()
def clip() -> None:
    """Look into CLIP: MODEL is a file or folder of OpenAI, OpenCLIP or Hugging Face on this machine."""


@clip.command()
@click.argument("model", type=click.Path(path_type=Path))
@SIZE
@ACTIVATION
@click.option("--hooks", "hooks", is_flag=True, help="List every hook point, with its axes and sizes.")
def show(model: Path, size: str | None, activation: str | None, hooks: bool) -> None:
    """Say what MODEL is."""
    loaded = load_clip(model, size=size, activation=activation)
    config = loaded.config
    click.echo(f"{loaded.description}\npictures of {config.image_size[0]} x {config.image_size[1]}, {config.grid[0]} x "
               f"{config.grid[1]} patches of {config.patch}; {len(loaded.hook_points)} hook points")
    for name in loaded.hook_points if hooks else ():
        point = loaded.hook_stack.point(name)
        click.echo(f"  {name}  [{', '.join(point.axes)}]  {' '.join(map(str, point.shape))}")


@clip.command("classify")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@LABELS
@COLUMN
@click.option("--method", type=click.Choice(("zero-shot", "probe")), default="zero-shot", show_default=True,
              help="By prompts, or by logistic regression on the features.")
@click.option("--template", default="a photo of a {}", show_default=True, help="A prompt; {} is the class.")
@click.option("--prompt", "prompts", multiple=True, metavar="CLASS=PROMPT",
              help="A prompt for a class instead. May be repeated, also for one class.")
@click.option("--suppress", multiple=True, metavar="WHAT",
              help='Do it again with an edit inside: a mapping such as "{kind: ZeroAblation, hook: '
                   'image.blocks.9.hook_resid_post, units: [3]}", or a YAML file with one or a list. May be repeated: '
                   "each is compared with the unedited model.")
@click.option("--tokens", type=click.Choice(TOKENS), default="all", show_default=True, help="Where to suppress.")
@click.option("--controls", type=click.IntRange(0, 100_000), default=200, show_default=True, help="Shuffled labels.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of splits and controls.")
@SIZE
@ACTIVATION
@click.option("--device", help="Where the model computes: cpu or cuda.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result as .json.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def classify_command(model: Path, folder: Path, labels: Path, columns: tuple[str, ...],
                     method: Literal["zero-shot", "probe"], template: str, prompts: tuple[str, ...],
                     suppress: tuple[str, ...], tokens: TokenSet, controls: int, seed: int, size: str | None,
                     activation: str | None, device: str | None, out: Path | None, quiet: bool, as_json: bool) -> None:
    """Classify the pictures of FOLDER with MODEL, and say for which group it works worst.

    A group is a class and a value of the spurious attribute: a waterbird on land. With --suppress, before and after
    over the same pictures.
    """
    if out is not None and out.suffix.lower() != ".json":
        raise HarnessError(f"--out {out}: expected a name that ends in .json")
    if device not in (None, "cpu", "cuda"):
        raise HarnessError(f"--device: expected cpu or cuda, got {device!r}")
    found = read_labels(folder, labels, {ours: theirs[0] for ours, theirs in pairs_of("--column", columns).items()})
    wanted = [Suppression(_name(made, word), tuple(made), tokens) for word in suppress
              for made in [without_scenario("--suppress", word)]]
    loaded = load_clip(model, size=size, activation=activation)
    if device is not None:
        loaded = loaded.to(device)
    options: dict[str, Any] = {"method": method, "prompts": pairs_of("--prompt", prompts) or None, "template": template,
                               "controls": controls, "seed": seed}
    with Ticker(quiet=quiet or as_json) as ticker:
        ticker.start("passes over the pictures" if wanted else "pictures seen", None)
        results = suppression_effect(loaded, found, wanted, progress=ticker.to, **options) if wanted else [
            classify(loaded, found, progress=ticker.to, **options)]
    said = [result.as_dict() for result in results]
    if out is not None:
        write_json(out, {"results": said})
    if as_json:
        echo_json({"results": said})
        return
    for number, result in enumerate(results):
        print_tables(result.tables() if number == 0 else result.tables()[-1:])
    if out is not None:
        click.echo(f"wrote {out}")


def _name(made: Sequence[Any], word: str) -> str:
    """A suppression in a few words."""
    return ", ".join(each.name or f"{type(each).__name__} at {', '.join(hook for hook, _ in each.edits())}"
                     for each in made) or word


clip.add_command(collect)
clip.add_command(latents)
