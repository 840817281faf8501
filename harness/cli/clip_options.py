"""Options and words that the commands about CLIP share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from harness.agent.clip.config import ACTIVATIONS
from harness.analysis.labelled_pictures import COLUMNS
from harness.errors import HarnessError

__all__ = ["ACTIVATION", "COLUMN", "LABELS", "SIZE", "pairs_of"]

SIZE = click.option("--size", metavar="SIZE", help="ViT-B/32 or ViT-B/16, where no configuration lies beside MODEL.")
ACTIVATION = click.option("--activation", type=click.Choice(ACTIVATIONS),
                          help="Of the MLPs, where neither a configuration nor OpenAI's own file says.")
LABELS = click.option("--labels", type=click.Path(path_type=Path), required=True,
                      help="CSV: file, label, and perhaps group (a spurious attribute) and split (train, val, test).")
COLUMN = click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS",
                      help=f"Another name of a column ({', '.join(COLUMNS)}) in it. May be repeated.")


def pairs_of(option: str, words: Sequence[str]) -> dict[str, list[str]]:
    """``NAME=VALUE`` words by name."""
    found: dict[str, list[str]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise HarnessError(f"{option}: expected NAME=VALUE, got {word!r}")
        found.setdefault(name, []).append(value)
    return found
