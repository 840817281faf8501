"""Agents by name: ``agents/<name>.yaml`` says which class, arguments and weights make one.

Heavy libraries come late: a scripted agent is loaded without PyTorch.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.agent.agent import Agent
from harness.agent.fetch import checked_digest
from harness.agent.model_file import read_model_file
from harness.agent.published import (
    PublishedAgent,
    PublishedSource,
    agent_folder,
    not_here,
    present_source,
    published_agent,
    published_names,
)
from harness.agent.released import belongs, convert
from harness.agent.weights_file import PRECISIONS, read_weights_file
from harness.errors import AgentError, HarnessError, WeightsError, unknown_name
from harness.registry import data_dir, installed, load_object, lookup, twice
from harness.scenario.source import Node, Place, Source, SourceProblem, read_tree

if TYPE_CHECKING:
    import torch

__all__ = [
    "AgentDefinition", "agent_names", "describe_agent", "known_names", "load_agent", "model_card",
    "read_agent_definition", "read_config_file", "read_model_file", "read_weights_file", "takes", "widened",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_KEYS = ("kind", "description", "arguments", "weights", "licence", "training")
_WEIGHTS_KEYS = ("file", "sha256")
_EXACT = "value_head.normalizer."
"""Weights that stay float32 in every precision."""
_LARGEST_CONFIG = 1 << 20
_CONFIG = "harness.agent.vpt.config:VPTConfig"
_POLICIES = {"vpt": "harness.agent.vpt.policy:VPTPolicy", "steve": "harness.agent.steve.policy:StevePolicy"}
_GOALLESS = ("is not told what to do: it takes no prompt and no goal",
             "agents that are: steve-nano, and steve-1 once its files are here")
_NOT_TAKEN = {
    "precision": ("has no network, so it has no precision", "leave the precision out"),
    "prompt": _GOALLESS, "goal": _GOALLESS, "goal_frame": _GOALLESS, "cond_scale": _GOALLESS,
}
"""Argument that some kinds have -> what to say of the others, and what to do."""
_GOALS = "goals."
"""Before the names of an agent's own goals in its weights file."""
_COMPANIONS = {"steve": {"prior": "harness.agent.steve.prior:Prior", "MineCLIP": "harness.agent.mineclip:MineCLIP"}}
"""Kind -> the models that come with its policy."""


@dataclass(frozen=True)
class AgentDefinition:
    """What an agent file says.

    Attributes:
        name: The file's name without its ending.
        path: The file; of a plug-in's agent, its module.
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


def known_names() -> list[str]:
    """Every name ``load_agent`` knows: the bundled agents, those of plug-ins, those that others have published."""
    return [*agent_names(), *installed("harness.agents"), *published_names()]


def model_card(name_or_path: str | Path) -> str | None:
    """The Markdown beside an agent file that says what it was taught and what it does not know; None without one."""
    if str(name_or_path) in installed("harness.agents"):
        return None
    path = data_dir("agents") / f"{name_or_path}.yaml" if str(name_or_path) in published_names() else \
        _find(name_or_path)
    card = path.with_suffix(".md")
    return card.read_text(encoding="utf-8") if card.is_file() else None


def read_agent_definition(name_or_path: str | Path) -> AgentDefinition:
    """Read an agent file: a bundled name, or a path that ends in ``.yaml``. A plug-in's agent needs none.

    Raises:
        AgentError: for an unknown name, a missing file, unknown keys or wrong types, with file and line; for a plug-in
            that cannot be imported.
    """
    if str(name_or_path) in installed("harness.agents") and str(name_or_path) not in agent_names():
        return _of_plugin(str(name_or_path))
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


def _of_plugin(name: str) -> AgentDefinition:
    """An agent kind that a plug-in installed is an agent of that name, with its class's own arguments."""
    cls = lookup("harness.agents", name, base=Agent, error=AgentError)
    return AgentDefinition(name, Path(inspect.getfile(cls)), name, cls.description)


def _refuse_twin(name: str) -> None:
    """Refuse a plug-in's agent that is called as a bundled or published one.

    Raises:
        AgentError: naming both.
    """
    plugin = installed("harness.agents").get(name)
    if plugin is not None and name in (*agent_names(), *published_names()):
        raise twice(name, "agent", ["the one that comes with this package", f"{plugin.source} ({plugin.path})"],
                    error=AgentError)


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
        raise unknown_name("agent", text, known_names(), error=AgentError)
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
    target = folder / name
    if (target / "model.safetensors").is_file():  # a folder as the hub has them
        target /= "model.safetensors"
    target = target.resolve()
    if not target.is_relative_to(folder):
        raise AgentError(f"weights: {name} lies outside the agent file's folder", where=where,
                         hint="put the weights beside the agent file, or in a folder below it")
    digest = row.get("sha256")
    if digest is not None and not re.fullmatch(r"[0-9a-f]{64}", str(digest)):
        raise AgentError(f"sha256: expected 64 hexadecimal digits, got {digest!r}", where=where)
    return target, digest


def load_agent(name_or_path: str | Path, *, device: str = "auto", precision: str | None = None,
               **overrides: Any) -> Agent:
    """Build an agent.

    Args:
        name_or_path: A bundled name such as ``vpt-nano``, a published one such as ``vpt-foundation-1x`` (its files
            must have been fetched), that of a plug-in's agent, or the path of an agent file (``.yaml``).
        device: ``auto``, ``cpu`` or ``cuda``; scripted agents compute nothing and take ``auto`` or ``cpu``.
        precision: ``float32``, ``bfloat16`` or ``float16``; None for the agent's own, which is float32 as a rule.
        overrides: Keyword arguments of its class, instead of or beside those in the file.

    Raises:
        AgentError: for an unknown name, key or keyword, a device that is not there, or a name that a plug-in's agent
            shares with another.
        WeightsError: for weights that are missing, have another digest or do not fit.
    """
    if precision is not None:
        overrides["precision"] = precision
    _refuse_twin(str(name_or_path))
    if str(name_or_path) in published_names():
        return _load_published(published_agent(str(name_or_path)), device, overrides)
    definition = read_agent_definition(name_or_path)
    cls = lookup("harness.agents", definition.kind, base=Agent, where=str(definition.path), error=AgentError)
    arguments = _arguments(cls, definition, device, overrides)
    if definition.weights is not None:
        if "weights" not in _keywords(cls):
            raise AgentError(f"agents of kind {definition.kind} have no weights", where=str(definition.path))
        digest = _check_digest(definition.weights, definition.sha256)
        precision = arguments.get("precision", "float32")
        arguments["weights"] = _part_of(definition.weights, definition.kind, precision) \
            if definition.kind in _POLICIES else read_weights_file(definition.weights)
        arguments["weights_note"] = {"file": definition.weights.name, "sha256": digest, "licence": definition.licence}
    agent = _built(cls, arguments, definition, told_here=bool(overrides) or device not in ("auto", "cpu"))
    own = agent.description if arguments.get("random_seed") is not None else ""
    agent.name = definition.name
    agent.description = _honest(definition.headline, own)
    return agent


def takes(name_or_path: str | Path, keyword: str) -> bool:
    """Whether an agent has an argument such as ``prompt``.

    Raises:
        AgentError: for an unknown agent.
    """
    published = str(name_or_path) in published_names()
    kind = published_agent(str(name_or_path)).kind if published else read_agent_definition(name_or_path).kind
    return keyword in _keywords(lookup("harness.agents", kind, base=Agent, error=AgentError))


def _keywords(cls: Any) -> list[str]:
    return [name for name, parameter in inspect.signature(cls).parameters.items()
            if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)]


def _arguments(cls: Any, definition: AgentDefinition, device: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What the class is called with, but for its weights."""
    arguments: dict[str, Any] = {**definition.arguments, **overrides}
    known = _keywords(cls)
    reserved = {"device", "weights", "weights_note"}
    for key in arguments:
        if key not in known and key in _NOT_TAKEN:
            raise AgentError(f'agent "{definition.name}" {_NOT_TAKEN[key][0]}', hint=_NOT_TAKEN[key][1])
        if key not in known or key in reserved:
            raise unknown_name(f"argument of agent kind {definition.kind}:", key, set(known) - reserved,
                               where=str(definition.path) if key in definition.arguments else None, error=AgentError)
    if "device" in known:
        arguments["device"] = device
    elif device not in ("auto", "cpu"):
        raise AgentError(f'agent "{definition.name}" has no network, so it cannot run on {device!r}',
                         hint="leave the device out")
    return arguments


def _load_published(agent: PublishedAgent, device: str, overrides: Mapping[str, Any]) -> Agent:
    source = present_source(agent)
    if source is None:
        raise not_here(agent)
    cls = lookup("harness.agents", agent.kind, base=Agent, error=AgentError)
    folder = agent_folder(agent)
    files = {file.role: folder / file.file for file in source.files if file.needed}
    definition = AgentDefinition(agent.name, folder, agent.kind, agent.trained_for, {"size": agent.size},
                                 files["weights"], licence=agent.licence)
    arguments = _arguments(cls, definition, device, overrides)
    digests = {file.file: checked_digest(folder / file.file, file) for file in source.files
               if (folder / file.file).is_file()}
    _check_model_file(agent, source)
    arguments["weights"] = _part_of(files["weights"], agent.kind, arguments.get("precision", "float32"))
    if agent.kind == "steve":
        # They are read when a goal asks for them; MineCLIP is larger than all the rest.
        for role in ("prior", "mineclip"):
            arguments[role] = functools.partial(_part_of, files.get(role, files["weights"]), role, "float32")
    arguments["weights_note"] = {"published": agent.name, "source": source.name, "sha256": digests,
                                 "licence": agent.licence}
    built = _built(cls, arguments, definition, told_here=True)
    built.name, built.description = agent.name, agent.trained_for
    return built


def _part_of(path: Path, kind: str, precision: str) -> dict[str, torch.Tensor]:
    """One model's weights under our names, from a file that may hold others too."""
    precision = precision if precision in PRECISIONS else "float32"  # the agent itself refuses what is neither
    tensors = read_weights_file(path, precision, exact=_EXACT, wanted=lambda name: belongs(name, kind))
    try:
        return convert(tensors, kind)
    except WeightsError as problem:
        problem.where = problem.where or str(path)
        raise


def _check_model_file(agent: PublishedAgent, source: PublishedSource) -> None:
    """Hold the file of keyword arguments, where there is one, against the size that the table states."""
    for file in source.files:
        path = agent_folder(agent) / file.file
        if file.needed or not path.is_file():
            continue
        policy, head = read_model_file(path) if file.role == "model" else read_config_file(path)
        try:
            said = load_object(_CONFIG).from_released(policy, head)
        except HarnessError as problem:
            raise WeightsError(f"{file.file} describes another policy: {problem.message}", where=str(path),
                               hint=f"take {file.file} away to load the weights as size {agent.size}") from problem
        expected = load_object("harness.agent.vpt.config:size_config")(agent.size)
        if said != expected:
            differing = [f"{key} {said.policy_kwargs()[key]!r}, expected {value!r}"
                         for key, value in expected.policy_kwargs().items() if said.policy_kwargs()[key] != value]
            if said.temperature != expected.temperature:
                differing.append(f"temperature {said.temperature}, expected {expected.temperature}")
            raise WeightsError(f"{file.file} is not that of {agent.name} (size {agent.size}): {'; '.join(differing)}",
                               where=str(path), hint="was it exchanged with another size's?")


def read_config_file(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keyword arguments from the ``config.json`` of MineStudio's layout, as ``read_model_file`` gives them.

    Raises:
        WeightsError: for a file that cannot be read or does not hold them.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        table = json.loads(path.read_text(encoding="utf-8"))
        policy, temperature = table["policy_kwargs"], table["temperature"]
        if not isinstance(policy, dict) or isinstance(temperature, bool) or not isinstance(temperature, (int, float)):
            raise TypeError("policy_kwargs and temperature are expected")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise WeightsError(f"{path.name} is not the config.json of a published policy: {_one_line(problem)}",
                           where=str(path), hint="expected policy_kwargs and temperature") from problem
    return policy, {"temperature": float(temperature)}


def describe_agent(name_or_path: str | Path) -> dict[str, Any]:
    """Parts, sizes, memory and hook points of a VPT or STEVE-1 agent, without loading or allocating its weights.

    Returns:
        As ``harness.agent.vpt.describe.describe_policy``; empty for agents of other kinds.

    Raises:
        AgentError: for an unknown name or a wrong file.
    """
    if str(name_or_path) in published_names():
        row = published_agent(str(name_or_path))
        kind, arguments, goals = row.kind, {"size": row.size}, []
    else:
        definition = read_agent_definition(name_or_path)
        kind, arguments, goals = definition.kind, dict(definition.arguments), _own_goals(definition)
    if kind not in _POLICIES:
        return {}
    config = arguments.get("size") or load_object(_CONFIG).from_released(
        arguments.get("policy_kwargs") or {}, arguments.get("pi_head_kwargs") or {})
    facts: dict[str, Any] = load_object("harness.agent.vpt.describe:describe_policy")(
        config, load_object(_POLICIES[kind]))
    if goals:
        facts["goals"] = goals
    elif kind in _COMPANIONS:
        classes = {name: load_object(path) for name, path in _COMPANIONS[kind].items()}
        counts = load_object("harness.agent.vpt.describe:count_parameters")(classes)
        parts = facts["parameters"]
        total = parts.pop("total") + sum(counts.values())
        facts["parameters"] = {**parts, **counts, "total": total}
        facts["bytes"] = {precision: size * total for precision, size in (("float32", 4), ("bfloat16", 2),
                                                                          ("float16", 2))}
    return facts


def _own_goals(definition: AgentDefinition) -> list[str]:
    """Names of the goals in an agent's weights file; one that has some needs neither prior nor MineCLIP."""
    if definition.kind not in _COMPANIONS or definition.weights is None or not definition.weights.is_file():
        return []
    try:
        found = read_weights_file(definition.weights, wanted=lambda name: name.startswith(_GOALS))
    except WeightsError:
        return []  # it holds none; whatever else is wrong with it shows when it is loaded
    return [name.removeprefix(_GOALS) for name in found]


def _built(cls: Any, arguments: Mapping[str, Any], definition: AgentDefinition, *, told_here: bool) -> Agent:
    # With arguments that the caller gave, the mistake may not be in the file.
    where = None if told_here else definition.lines.get("arguments", str(definition.path))
    try:
        agent: Agent = cls(**arguments)
    except WeightsError as problem:
        problem.where = problem.where or str(definition.weights or definition.path)
        raise
    except AgentError as problem:
        problem.where = problem.where or where
        raise
    except (TypeError, ValueError, OverflowError) as problem:
        # A class may lean on Python for a value of the wrong kind; from a file that is a mistake in the file.
        raise AgentError(f"these arguments do not fit agents of kind {definition.kind}: {_one_line(problem)}",
                         where=where) from problem
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
