"""Agents by name: ``agents/<name>.yaml`` says which class, arguments and weights make one.

Heavy libraries come late: a scripted agent is loaded without PyTorch.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.agent.agent import Agent
from harness.agent.model_file import read_model_file
from harness.agent.weights_file import read_weights_file
from harness.errors import AgentError, WeightsError, unknown_name
from harness.registry import data_dir, lookup
from harness.scenario.source import Node, Place, Source, SourceProblem, read_tree

if TYPE_CHECKING:
    import torch

__all__ = [
    "AgentDefinition", "agent_names", "load_agent", "read_agent_definition", "read_model_file", "read_weights_file",
    "widened",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_KEYS = ("kind", "description", "arguments", "weights", "licence", "training")
_WEIGHTS_KEYS = ("file", "sha256")


@dataclass(frozen=True)
class AgentDefinition:
    """What an agent file says.

    Attributes:
        name: The file's name without its ending.
        path: The file.
        kind: A name of the plug-in group ``harness.agents``.
        headline: The file's description of it, one line.
        arguments: Keyword arguments of the class.
        weights: The weights file, None without one.
        sha256: Its digest, None when the file does not say.
        licence: Of the weights.
        lines: ``file:line:column`` of each key.
    """

    name: str
    path: Path
    kind: str
    headline: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    sha256: str | None = None
    licence: str = ""
    lines: Mapping[str, str] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """The headline, and that the weights are random where they are."""
        return _honest(self.headline, self._own_words(self.arguments))

    @staticmethod
    def _own_words(arguments: Mapping[str, Any]) -> str:
        seed = arguments.get("random_seed")
        return "" if seed is None else f"random weights (seed {seed})"

    def text(self) -> str:
        """The definition for people."""
        rows = [("name", self.name), ("kind", self.kind), ("description", self.description),
                *((key, str(value)) for key, value in self.arguments.items()),
                ("weights", self.weights.name if self.weights else self._without_weights()),
                ("sha256", self.sha256 or ""), ("licence", self.licence)]
        return "\n".join(f"{key:<12} {value}" for key, value in rows if value)

    def _without_weights(self) -> str:
        own = self._own_words(self.arguments)
        return f"{own}: untrained, it plays at random" if own else "none: scripted"


def agent_names() -> list[str]:
    """The bundled agents."""
    return sorted(path.stem for path in data_dir("agents").glob("*.yaml"))


def read_agent_definition(name_or_path: str | Path) -> AgentDefinition:
    """Read an agent file: a bundled name, or a path that ends in ``.yaml``.

    Raises:
        AgentError: for an unknown name, a missing file, unknown keys or wrong types, with file and line.
    """
    path = _find(name_or_path)
    root, lines = _read_mapping(path)
    table = root.plain()
    for key in table:
        if key not in _KEYS:
            raise unknown_name("key in an agent file", key, _KEYS, where=lines[key], error=AgentError)
    for key in ("kind", "description"):
        if not isinstance(table.get(key), str):
            raise AgentError(f'an agent file needs "{key}", a text', where=lines.get(key, str(path)))
    arguments = table.get("arguments") or {}
    if not isinstance(arguments, dict):
        raise AgentError("arguments: expected keys and values", where=lines["arguments"])
    weights, sha256 = _weights_of(table.get("weights"), path, lines.get("weights"))
    return AgentDefinition(path.stem, path, table["kind"], table["description"].strip(), arguments, weights, sha256,
                           str(table.get("licence", "")), lines)


def _read_mapping(path: Path) -> tuple[Node, dict[str, str]]:
    """A YAML file's mapping, and ``file:line:column`` of each of its keys."""
    def place_in_words(place: Place | None) -> str:
        return str(path) if place is None else f"{path}:{place.line + 1}:{place.column + 1}"

    try:
        root, problems = read_tree(Source(str(path), path.read_text(encoding="utf-8")))
    except SourceProblem as problem:
        raise AgentError(problem.message, where=place_in_words(problem.place), hint=problem.hint) from None
    except (OSError, UnicodeDecodeError) as problem:
        raise AgentError(f"cannot read the agent file: {_one_line(problem)}", where=str(path)) from problem
    for first in problems:
        raise AgentError(first.message, where=place_in_words(first.place), hint=first.hint)
    if not isinstance(root.value, dict):
        raise AgentError("an agent file holds keys and values, this one does not", where=place_in_words(root.place))
    return root, {key: place_in_words(entry.key) for key, entry in root.value.items()}


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if not path.is_file():
            raise AgentError(f"there is no agent file at {path}",
                             hint=f"bundled agents: {', '.join(agent_names())}")
        return path
    path = data_dir("agents") / f"{text}.yaml"
    if not _NAME.fullmatch(text) or not path.is_file():
        raise unknown_name("agent", text, agent_names(), error=AgentError)
    return path


def _weights_of(row: Any, path: Path, where: str | None) -> tuple[Path | None, str | None]:
    if row is None or row == "none":
        return None, None
    if not isinstance(row, dict) or not isinstance(row.get("file"), str):
        raise AgentError('weights: expected "none", or "file" and "sha256"', where=where)
    for key in row:
        if key not in _WEIGHTS_KEYS:
            raise unknown_name("key of weights", str(key), _WEIGHTS_KEYS, where=where, error=AgentError)
    name = row["file"]
    folder = path.parent.resolve()
    target = (folder / name).resolve()
    if not target.is_relative_to(folder):
        raise AgentError(f"weights: {name} lies outside the agent file's folder", where=where,
                         hint="put the weights beside the agent file, or in a folder below it")
    digest = row.get("sha256")
    if digest is not None and not re.fullmatch(r"[0-9a-f]{64}", str(digest)):
        raise AgentError(f"sha256: expected 64 hexadecimal digits, got {digest!r}", where=where)
    return target, digest


def load_agent(name_or_path: str | Path, *, device: str = "auto", **overrides: Any) -> Agent:
    """Build an agent.

    Args:
        name_or_path: A bundled name such as ``vpt-nano``, or the path of an agent file (``.yaml``).
        device: ``auto``, ``cpu`` or ``cuda``; scripted agents compute nothing and take ``auto`` or ``cpu``.
        overrides: Keyword arguments of its class, instead of or beside those in the file.

    Raises:
        AgentError: for an unknown name, key or keyword, or a device that is not there.
        WeightsError: for weights that are missing, have another digest or do not fit.
    """
    definition = read_agent_definition(name_or_path)
    cls = lookup("harness.agents", definition.kind, where=str(definition.path), error=AgentError)
    arguments: dict[str, Any] = {**definition.arguments, **overrides}
    known = [name for name, parameter in inspect.signature(cls).parameters.items()
             if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)]
    reserved = {"device", "weights", "weights_note"}
    for key in arguments:
        if key not in known or key in reserved:
            raise unknown_name(f"argument of agent kind {definition.kind}:", key, set(known) - reserved,
                               where=str(definition.path) if key in definition.arguments else None, error=AgentError)
    if "device" in known:
        arguments["device"] = device
    elif device not in ("auto", "cpu"):
        raise AgentError(f'agent "{definition.name}" has no network, so it cannot run on {device!r}',
                         hint="leave the device out")
    if definition.weights is not None:
        if "weights" not in known:
            raise AgentError(f"agents of kind {definition.kind} have no weights", where=str(definition.path))
        digest = _check_digest(definition.weights, definition.sha256)
        arguments["weights"] = widened(read_weights_file(definition.weights))
        arguments["weights_note"] = {"file": definition.weights.name, "sha256": digest, "licence": definition.licence}
    agent = _built(cls, arguments, definition)
    own = agent.description if arguments.get("random_seed") is not None else ""
    agent.name = definition.name
    agent.description = _honest(definition.headline, own)
    return agent


def _built(cls: Any, arguments: Mapping[str, Any], definition: AgentDefinition) -> Agent:
    where = definition.lines.get("arguments", str(definition.path))
    try:
        agent = cls(**arguments)
    except WeightsError:
        raise
    except AgentError as problem:
        problem.where = problem.where or where
        raise
    except (TypeError, ValueError, OverflowError) as problem:
        # A class may lean on Python for a value of the wrong kind; from a file that is a mistake in the file.
        raise AgentError(f"these arguments do not fit agents of kind {definition.kind}: {_one_line(problem)}",
                         where=where) from problem
    assert isinstance(agent, Agent)
    return agent


def _honest(description: str, own: str) -> str:
    """The file's description; what the agent says of itself (random weights) is added where the file is silent."""
    if not own or own in description:
        return description
    return f"{description}; {own}"


def _check_digest(path: Path, expected: str | None) -> str:
    if not path.is_file():
        what = f"{path} is a folder, expected a weights file" if path.is_dir() else \
            f"the weights file {path.name} is missing"
        raise WeightsError(what, where=str(path), hint="fetch it, or put it beside the agent file")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if expected is not None and digest.hexdigest() != expected:
        raise WeightsError(f"the weights file {path.name} is not the one the agent file means: its SHA-256 is "
                           f"{digest.hexdigest()}, expected {expected}", where=str(path),
                           hint="fetch it again, or correct sha256 if the file was exchanged on purpose")
    return digest.hexdigest()


def widened(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights stored in half precision as the float32 they are computed in; everything else as it is."""
    return {name: weight.float() if str(weight.dtype) in ("torch.float16", "torch.bfloat16") else weight
            for name, weight in weights.items()}


def _one_line(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return (lines[0] if lines else type(problem).__name__)[:200]
