"""``harness clip collect`` and ``harness clip latents``: sparse autoencoders on CLIP's features of pictures."""

from __future__ import annotations

from pathlib import Path

import click

from harness.agent.clip import load_clip
from harness.agent.clip.tokens import TOKENS, TokenSet
from harness.agent.sae import load_sae
from harness.analysis.labelled_pictures import LabelledPictures, read_labels
from harness.analysis.sae.pictures import attribute_latents, collect_pictures
from harness.cli.analyse import print_tables
from harness.cli.clip_options import ACTIVATION, COLUMN, LABELS, SIZE, pairs_of
from harness.cli.names import echo_json
from harness.cli.progress import Ticker

__all__ = ["collect", "latents"]


@click.command("collect")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@LABELS
@COLUMN
@click.option("--hook", "hooks", multiple=True, required=True, metavar="GLOB",
              help="Store these, such as image.blocks.9.hook_resid_post. May be repeated.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The store's folder.")
@SIZE
@ACTIVATION
@click.option("--resume", is_flag=True, help="Go on with the store in --out.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def collect(model: Path, folder: Path, labels: Path, columns: tuple[str, ...], hooks: tuple[str, ...], out: Path,
            size: str | None, activation: str | None, resume: bool, quiet: bool, as_json: bool) -> None:
    """Store what MODEL's image tower has of the training pictures of FOLDER, for harness sae train."""
    pictures = _read(folder, labels, columns)
    with Ticker(quiet=quiet or as_json) as ticker:
        ticker.start("pictures seen", None)
        store = collect_pictures(load_clip(model, size=size, activation=activation), pictures, hooks, out,
                                 resume=resume, progress=ticker.to)
    if as_json:
        echo_json({"store": str(store.folder), "pictures": store.n_steps,
                   "hooks": {hook: {"tokens": store.n_tokens(hook), "width": tokens.width}
                             for hook, tokens in store.hooks.items()}})
        return
    click.echo(f"{store.n_steps} pictures, seen by {store.agent['description']}")
    for hook, tokens in store.hooks.items():
        click.echo(f"  {hook}: {store.n_tokens(hook)} tokens of {tokens.width} numbers")
    click.echo(f"next:\n  harness sae train {store.folder} --out {store.folder}-sae")


@click.command("latents")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("sae_path", type=click.Path(path_type=Path), metavar="SAE")
@LABELS
@COLUMN
@click.option("--tokens", type=click.Choice(TOKENS), default="all", show_default=True, help="At which image tokens.")
@click.option("--draws", type=click.IntRange(0, 100_000), default=100, show_default=True, help="Shuffled attributes.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the shuffles.")
@SIZE
@ACTIVATION
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def latents(model: Path, folder: Path, sae_path: Path, labels: Path, columns: tuple[str, ...], tokens: TokenSet,
            draws: int, seed: int, size: str | None, activation: str | None, as_json: bool) -> None:
    """Say which latents of SAE carry the spurious attribute of FOLDER's training pictures, and how to suppress them."""
    pictures, sae = _read(folder, labels, columns), load_sae(sae_path)
    found = attribute_latents(load_clip(model, size=size, activation=activation), sae, pictures, tokens=tokens,
                              draws=draws, seed=seed)
    suppress = (f"{{kind: SaeSplice, hook: {sae.hook}, sae: {sae_path}, latents: {list(found.carriers)}, mode: zero}}"
                if found.carriers else None)
    if as_json:
        echo_json({**found.as_dict(), "carriers": list(found.carriers), "suppress": suppress})
        return
    print_tables(found.tables())
    if suppress:
        click.echo(f'next:\n  harness clip classify {model} {folder} --labels {labels} --tokens {tokens} --suppress '
                   f'"{suppress}"')


def _read(folder: Path, labels: Path, columns: tuple[str, ...]) -> LabelledPictures:
    return read_labels(folder, labels, {ours: theirs[0] for ours, theirs in pairs_of("--column", columns).items()})
