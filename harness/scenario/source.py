"""YAML text to a tree in which every key and value knows its line and column.

The YAML is version 1.2's core schema: only ``true`` and ``false`` are booleans, ``1e-3`` is a number, ``on`` and
``no`` are words. Tags, merge keys and anything that would build an object are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

__all__ = ["MAX_BYTES", "Entry", "Node", "Place", "Source", "SourceProblem", "quoted_scalar_words", "read_tree"]

MAX_BYTES = 1_000_000
_MAX_DEPTH = 40
_MAX_NODES = 50_000

_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_INT = re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Source:
    """A text and the name it goes by in messages."""

    name: str
    text: str

    def line(self, number: int) -> str:
        """One line, counted from 0 (empty when there is none)."""
        lines = self.text.splitlines()
        return lines[number] if number < len(lines) else ""


@dataclass(frozen=True)
class Place:
    """Where something stands: line and column from 0, width in characters (0: unknown)."""

    source: Source
    line: int
    column: int
    width: int = 0


@dataclass(frozen=True)
class Entry:
    """One ``key: value`` of a mapping."""

    key: Place
    node: Node


@dataclass(frozen=True)
class Node:
    """A value: a scalar, a list of nodes, or a mapping of entries."""

    place: Place
    value: str | int | float | bool | None | list[Node] | dict[str, Entry]

    def plain(self) -> Any:
        """The value without its places."""
        if isinstance(self.value, dict):
            return {key: entry.node.plain() for key, entry in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


@dataclass
class SourceProblem(Exception):
    """Text that is no usable YAML: what, where, and what to do."""

    message: str
    place: Place | None = None
    hint: str | None = None


class _Loader(yaml.SafeLoader):
    """Only used to compose; its resolvers are YAML 1.2's."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


_Loader.add_implicit_resolver(_TAG + "bool", _BOOL, list("tTfF"))
_Loader.add_implicit_resolver(_TAG + "null", _NULL, ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_TAG + "int", _INT, list("-+0123456789"))
_Loader.add_implicit_resolver(_TAG + "float", _FLOAT, list("-+.0123456789"))


def quoted_scalar_words(text: str) -> bool:
    """Whether a word must be quoted to stay text under YAML 1.2."""
    return any(pattern.match(text) for pattern in (_BOOL, _NULL, _INT, _FLOAT))


def read_tree(source: Source) -> tuple[Node, list[SourceProblem]]:
    """Parse a text.

    Returns:
        The tree, and what is wrong in it without breaking it: tags, duplicate keys (the first counts), keys that
        are no words, numbers that are not finite.

    Raises:
        SourceProblem: for broken YAML, an empty text, or excessive nesting or size.
    """
    try:
        root = yaml.compose(source.text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise _syntax(source, error) from None
    except yaml.reader.ReaderError as error:
        raise SourceProblem(f"it holds a character that YAML does not allow (code {error.character})",
                            _at_offset(source, error.position), "save the file as plain UTF-8 text") from None
    except (RecursionError, ValueError) as error:
        message = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise SourceProblem(message, None) from None
    if root is None:
        raise SourceProblem("it is empty; expected a mapping such as name: my-scenario", None)
    converter = _Converter(source)
    return converter.convert(root, 0), converter.problems


def _syntax(source: Source, error: yaml.MarkedYAMLError) -> SourceProblem:
    mark = error.problem_mark or error.context_mark
    place = Place(source, mark.line, mark.column, 1) if mark else None
    context = f" {error.context}" if error.context else ""
    message = f"not valid YAML: {error.problem or 'cannot be read'}{context}"
    hint = None
    line = source.line(mark.line) if mark else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        hint = "indent with spaces, not tabs"
    elif "but got '{'" in message and "${" in line:
        hint = 'inside {...} and [...], a reference must be quoted: "${name}"'
    elif "mapping values are not allowed" in message:
        hint = "quote text that holds ': ', and check the indentation"
    return SourceProblem(message, place, hint)


def _at_offset(source: Source, offset: int) -> Place:
    before = source.text[:offset]
    return Place(source, before.count("\n"), offset - (before.rfind("\n") + 1), 1)


@dataclass
class _Converter:
    source: Source
    count: int = 0
    problems: list[SourceProblem] = field(default_factory=list)

    def place(self, node: yaml.Node) -> Place:
        start, end = node.start_mark, node.end_mark
        width = end.column - start.column if end.line == start.line else 0
        return Place(self.source, start.line, start.column, width)

    def convert(self, node: yaml.Node, depth: int) -> Node:
        place = self.place(node)
        self.count += 1
        # Aliases may repeat or even contain themselves; both end here.
        if depth > _MAX_DEPTH:
            raise SourceProblem(f"it is nested more than {_MAX_DEPTH} levels deep", place)
        if self.count > _MAX_NODES:
            raise SourceProblem(f"it holds more than {_MAX_NODES} values", place,
                                "look for an alias that repeats itself")
        if isinstance(node, yaml.ScalarNode):
            return Node(place, self.scalar(node, place))
        if isinstance(node, yaml.SequenceNode):
            self.standard(node, "seq", place)
            return Node(place, [self.convert(child, depth + 1) for child in node.value])
        self.standard(node, "map", place)
        return Node(place, self.mapping(node, depth))

    def report(self, message: str, place: Place, hint: str | None = None) -> None:
        self.problems.append(SourceProblem(message, place, hint))

    def standard(self, node: yaml.Node, tag: str, place: Place) -> None:
        if node.tag != _TAG + tag:
            self.report(f"the tag {str(node.tag).replace(_TAG, '!!')} is not allowed", place,
                        "write the plain value: text, a number, a list or a mapping")

    def mapping(self, node: yaml.Node, depth: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            place = self.place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.report("a key must be a single word", place,
                            'a value such as ${name} inside {...} or [...] must be quoted: "${name}"')
                continue
            key = key_node.value
            if key in entries:
                self.report(f'duplicate key "{key}"', place,
                            f"it was given on line {entries[key].key.line + 1} already; keep one")
                continue
            entries[key] = Entry(place, self.convert(value_node, depth + 1))
        return entries

    def scalar(self, node: yaml.ScalarNode, place: Place) -> str | int | float | bool | None:
        text: str = node.value
        tag = node.tag.removeprefix(_TAG)
        if tag not in ("str", "null", "bool", "int", "float"):
            self.standard(node, "str", place)
            return text
        try:
            value = _READ[tag](text)
        except ValueError:
            self.report(f"{text[:40]!r} is not a usable {tag}", place)
            return text
        if isinstance(value, float) and value - value != 0:
            self.report("a number must be finite", place)
            return 0.0
        return value


def _bool(text: str) -> bool:
    if not _BOOL.match(text):
        raise ValueError(text)
    return text.lower() == "true"


_READ: dict[str, Callable[[str], str | int | float | bool | None]] = {
    "str": str,
    "null": lambda text: None,
    "bool": _bool,
    "int": lambda text: int(text, 0) if text[:2] in ("0o", "0x") else int(text),
    "float": lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
}
