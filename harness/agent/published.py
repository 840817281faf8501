"""The checkpoints that others have published: what they are, where they come from, and whether they are here."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import AgentError, WeightsError, unknown_name

__all__ = [
    "PublishedAgent", "PublishedFile", "PublishedSource", "agent_folder", "cache_dir", "missing_files", "not_here",
    "present_source", "published_agent", "published_names", "where_to_place",
]

_OPTIONAL = ("model", "config")
"""Roles of files that only repeat what ``size`` says: read and compared where they are, not needed."""


@dataclass(frozen=True)
class PublishedFile:
    """One file of a published agent.

    Attributes:
        role: ``weights``, ``model``, ``config``, ``prior`` or ``mineclip``.
        file: Its name, in the cache and (without a ``url``) at its source.
        n_bytes: About how large it is.
        url: Where a program gets it, None where only a person can.
        page: Where a person gets it.
        sha256: Its digest, where one has been published.
        md5: The same in MD5, where only that has been published.
    """

    role: str
    file: str
    n_bytes: int
    url: str | None
    page: str | None
    sha256: str | None = None
    md5: str | None = None

    @property
    def needed(self) -> bool:
        """Whether the agent cannot be loaded without it."""
        return self.role not in _OPTIONAL


@dataclass(frozen=True)
class PublishedSource:
    """One place that has all of an agent's files: OpenAI's store, the Hugging Face hub, the authors' own."""

    name: str
    files: tuple[PublishedFile, ...]

    @property
    def n_bytes(self) -> int:
        """About how much there is to download."""
        return sum(file.n_bytes for file in self.files)


@dataclass(frozen=True)
class PublishedAgent:
    """A row of ``published.yaml``.

    Attributes:
        name: What ``load_agent`` calls it.
        kind: A name of the plug-in group ``harness.agents``.
        size: A preset of the VPT policy.
        trained_for: In a few words.
        licence: As far as it is stated.
        sources: The first is the usual one.
    """

    name: str
    kind: str
    size: str
    trained_for: str
    licence: str
    sources: tuple[PublishedSource, ...]

    def source(self, name: str | None = None) -> PublishedSource:
        """The source called ``name``, or the usual one.

        Raises:
            AgentError: for a name it does not have.
        """
        table = {source.name: source for source in self.sources}
        if name is not None and name not in table:
            raise unknown_name(f"source of {self.name}", name, table, error=AgentError)
        return self.sources[0] if name is None else table[name]


@functools.cache
def _table() -> Mapping[str, PublishedAgent]:
    rows = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
    return {name: _agent(name, row) for name, row in rows.items()}


def _agent(name: str, row: Mapping[str, Any]) -> PublishedAgent:
    sources = tuple(PublishedSource(source, tuple(_file(role, file, origin) for role, file in origin["files"].items()))
                    for source, origin in row["sources"].items())
    return PublishedAgent(name, row["kind"], row["size"], row["trained_for"], row["licence"], sources)


def _file(role: str, row: Mapping[str, Any], origin: Mapping[str, Any]) -> PublishedFile:
    url = row.get("url") or (origin["base"] + row["file"] if "base" in origin else None)
    return PublishedFile(role, row["file"], int(row["bytes"]), url, row.get("page") or origin.get("page"),
                         row.get("sha256"), row.get("md5"))


def published_names() -> list[str]:
    """Every published agent, in the order of the table."""
    return list(_table())


def published_agent(name: str) -> PublishedAgent:
    """What is known of a published agent.

    Raises:
        AgentError: for another name.
    """
    if name not in _table():
        raise unknown_name("published agent", name, _table(), error=AgentError)
    return _table()[name]


def cache_dir() -> Path:
    """Where fetched files lie: ``HARNESS_CACHE``, or the system's folder for caches."""
    chosen = os.environ.get("HARNESS_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "harness"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "harness" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness"


def agent_folder(agent: PublishedAgent) -> Path:
    """The folder of one agent's files."""
    assert re.fullmatch(r"[a-z0-9.-]+", agent.name)
    return cache_dir() / "agents" / agent.name


def missing_files(agent: PublishedAgent, source: PublishedSource) -> list[PublishedFile]:
    """The files that the agent cannot be loaded without and that are not here."""
    return [file for file in source.files if file.needed and not (agent_folder(agent) / file.file).is_file()]


def present_source(agent: PublishedAgent) -> PublishedSource | None:
    """The first source whose files are all here."""
    return next((source for source in agent.sources if not missing_files(agent, source)), None)


def where_to_place(agent: PublishedAgent, source: PublishedSource) -> str:
    """For a person: which files to put where, and where they come from."""
    lines = [f"place these files in {agent_folder(agent)}"]
    for file in source.files:
        lines.append(f"  {file.file} (about {_megabytes(file.n_bytes)}{'' if file.needed else ', not needed'}) "
                     f"from {file.url or file.page}")
    return "\n".join(lines)


def not_here(agent: PublishedAgent) -> WeightsError:
    """The error for an agent whose files are not on this machine."""
    source = agent.source()
    return WeightsError(f"{agent.name} is published by others and its files are not on this machine\n"
                        f"{where_to_place(agent, source)}", hint=f"harness agent fetch {agent.name}")


def _megabytes(n: int) -> str:
    return f"{n / 1e9:.2f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB" if n >= 1e6 else f"{max(1, n // 1000)} KB"
