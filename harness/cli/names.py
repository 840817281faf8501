"""Arguments that complete in the shell, and words that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from harness.agent.load import known_names
from harness.agent.published import published_names
from harness.batch.load import suite_names
from harness.errors import HarnessError
from harness.registry import TABLES, names
from harness.scenario.load import scenario_names

__all__ = ["AGENT", "ANALYSIS", "BACKEND", "PLUGIN", "PUBLISHED", "RESOURCE_PACK", "SCENARIO", "SUITE",
           "bytes_in_words", "echo_json", "worn"]


class _Name(click.ParamType):  # type: ignore[type-arg]  # generic in newer clicks only
    def __init__(self, name: str, known: Callable[[], Sequence[str]], *, files: bool) -> None:
        self.name, self._known, self._files = name, known, files

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Known names, and files where a file will do."""
        found = [CompletionItem(name) for name in self._known() if name.startswith(incomplete)]
        return found if found or not self._files else [CompletionItem(incomplete, type="file")]


SCENARIO = _Name("scenario", scenario_names, files=True)
AGENT = _Name("agent", known_names, files=True)
PUBLISHED = _Name("agent", published_names, files=False)
ANALYSIS = _Name("analysis", lambda: names("harness.analyses"), files=False)
SUITE = _Name("suite", suite_names, files=True)
PLUGIN = _Name("plugin", lambda: [name for group in TABLES for name in names(group)], files=False)
BACKEND = _Name("backend", lambda: [n for n in names("harness.worlds") if n != "video"], files=False)

RESOURCE_PACK = click.option("--resource-pack", type=click.Path(path_type=Path), metavar="PATH",
                             help="Your own Minecraft resource pack, a zip file or a folder, for blockworld to wear.")


def worn(resource_pack: Path | None, backend: str) -> dict[str, Any]:
    """The world's keyword for --resource-pack.

    Raises:
        HarnessError: for another backend than blockworld.
    """
    if resource_pack is None:
        return {}
    if backend != "blockworld":
        raise HarnessError(f"--resource-pack is for blockworld, not for {backend}",
                           hint="a real Minecraft takes its own: put it into the game's options")
    return {"resource_pack": resource_pack}


def echo_json(value: Any) -> None:
    """Print a JSON value to standard output."""
    click.echo(json.dumps(value, indent=2))


def bytes_in_words(n: int) -> str:
    """A number of bytes for people: 2.4 GB."""
    amount = float(n)
    for unit in ("bytes", "KB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
