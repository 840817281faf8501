"""The page itself: our own HTML, CSS and JavaScript in one text, with a policy that lets it reach nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

from harness.analysis.comparison import first_differences
from harness.recording.recording import Recording
from harness.recording.schema import plain
from harness.viewer.shelf import Shelf
from harness.world.action import BUTTONS

__all__ = ["content_hash", "difference", "html_pieces", "page_facts", "palette"]

_SCRIPTS = ("data.js", "attention.js", "timeline.js", "panel.js", "cards.js", "main.js")


def page_facts(shelves: Sequence[Shelf], tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the page is told at once, as JSON values.

    Args:
        shelves: One recording, or two that are shown in lock-step.
        tables: Results of analyses: ``title`` and ``tables`` each.
    """
    return {"buttons": list(BUTTONS), "recordings": [shelf.facts() for shelf in shelves], "results": list(tables)}


def difference(a: Recording, b: Recording) -> dict[str, Any]:
    """Where two recordings part, as JSON values: ``n_compared`` steps, and the ``columns`` that differ, in order.

    Decodes pictures until one differs.
    """
    columns, n = first_differences(a, b)
    found = sorted((each for each in columns.values() if each is not None), key=lambda each: each.step)
    return {"n_compared": n, "columns": [{"step": each.step, "column": each.column, "a": _words(each.recorded),
                                          "b": _words(each.replayed)} for each in found]}


def _words(value: Any) -> str:
    words = value if isinstance(value, str) else json.dumps(plain(value))
    return words if len(words) <= 120 else words[:117] + "..."


@functools.cache
def _part(name: str) -> str:
    return (resources.files("harness.viewer") / "page" / name).read_text(encoding="utf-8")


def palette() -> str:
    """The colours of our pages as CSS variables, for light and dark."""
    return _part("palette.css")


def content_hash(text: str) -> str:
    """What a content security policy calls a style or script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def html_pieces(facts: Mapping[str, Any], inlined: Iterable[str] = (), *, served: bool) -> Iterator[str]:
    """The page as text, piece by piece.

    Nothing of a recording is ever markup: facts are JSON in a data block, and the script writes text nodes only.

    Args:
        facts: See ``page_facts``.
        inlined: Data blocks for a page that stands alone.
        served: Whether the page may ask the server it came from for more.
    """
    script = "\n".join(["'use strict';", *(_part(name) for name in _SCRIPTS)])
    style = palette() + _part("style.css")
    policy = "; ".join(("default-src 'none'", f"script-src {content_hash(script)}", f"style-src {content_hash(style)}",
                        "img-src data:", "connect-src 'self'" if served else "connect-src 'none'",
                        "base-uri 'none'", "form-action 'none'"))
    title = " and ".join(str(each["name"]) for each in facts["recordings"])
    # "<" is all that could end a data block.
    told = json.dumps({**facts, "served": served}, allow_nan=False).replace("<", "\\u003c")
    head, _, tail = _part("page.html").partition("$data\n")
    words = {"policy": policy, "title": html.escape(title), "style": style, "script": script, "facts": told}
    yield Template(head).substitute(words)
    yield from inlined
    yield Template(tail).substitute(words)
