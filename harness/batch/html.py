"""A report as one page: everything is in the file, and its policy lets it ask nobody for anything."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from harness.batch.figures import LEFT, WIDTH, figure_of, nice_scale
from harness.batch.films import Choice, Film, suite_cells
from harness.batch.replay import replay_command
from harness.batch.suite import Cell
from harness.batch.summary import CellSummary, Summary
from harness.batch.verdicts import Verdict
from harness.viewer.page import content_hash, palette

__all__ = ["report_page"]

_OPEN = 2
_MOST_CARDS = 60


@dataclass(frozen=True)
class _Bar:
    """A verdict's estimate and interval on a scale around 0, in pixels of the drawing."""

    reach: float
    at: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class _Card:
    """An episode as the page shows it; pictures are ``data:`` addresses."""

    title: str
    random: bool
    figures: str
    seed: int
    why: str
    note: str
    view: str
    play: str
    video: str = ""
    poster: str = ""
    size: tuple[int, int] = (0, 0)
    strip: tuple[tuple[int, str], ...] = ()


def report_page(report: Summary, chosen: Sequence[Choice] = (), films: Mapping[Choice, Film] | None = None,
                problems: Mapping[Choice, str] | None = None) -> str:
    """The page.

    Args:
        report: Of the suite.
        chosen: Episodes to show, from ``films.choices``.
        films: Their pictures, as far as there are any.
        problems: Why others have none.

    Returns:
        HTML.
    """
    style = palette() + _page("report.css")
    policy = "; ".join(("default-src 'none'", f"style-src {content_hash(style)}", "img-src data:", "media-src data:",
                        "base-uri 'none'", "form-action 'none'"))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True)
    metrics = _leading(report)
    figures = {name: {row.id: report.figure(row, name) for row in report.rows} for name in metrics}
    cards = _cards(report, chosen, films or {}, problems or {}, metrics)
    return environment.from_string(_page("report.html")).render(
        report=report, style=Markup(style), policy=policy, left=LEFT, width=WIDTH, open=_OPEN,
        figures=[figure_of(report, name, figures[name]) for name in metrics], tables=report.tables(), cards=cards,
        without=sum(not card.strip for card in cards),
        to_clips=f"harness batch report {shlex.quote(str(report.folder))} --clips 300 --report DIR",
        bars=[_bar(verdict) for verdict in report.verdicts], facts=_facts(report))


def _page(name: str) -> str:
    return (resources.files("harness.batch") / "page" / name).read_text(encoding="utf-8")


def _leading(report: Summary) -> list[str]:
    """The metrics with any value; those that claims are about come first, then shares, then means."""
    judged = [verdict.metric for verdict in report.verdicts]
    some = [name for name in report.metrics if any(row.values(name) for row in report.rows)]
    return sorted(some, key=lambda name: (judged.index(name) if name in judged else len(judged),
                                          name not in report.shares))


def _cards(report: Summary, chosen: Sequence[Choice], films: Mapping[Choice, Film], problems: Mapping[Choice, str],
           metrics: Sequence[str]) -> list[_Card]:
    rows = {row.id: row for row in report.rows}
    shown = chosen if len(chosen) <= _MOST_CARDS else [choice for choice in chosen if choice in films]
    cells = suite_cells(report) if shown else {}
    return [_card(report, rows[choice.cell], choice, films.get(choice), problems.get(choice, ""), metrics[:2],
                  cells.get(choice.cell))
            for choice in shown[:_MOST_CARDS]]


def _card(report: Summary, row: CellSummary, choice: Choice, film: Film | None, problem: str, metrics: Sequence[str],
          cell: Cell | None) -> _Card:
    told = _Card(
        row.title.replace(" (random weights)", ""), row.random,
        " \N{MIDDLE DOT} ".join(f"{name} {report.figure(row, name)}" for name in metrics), choice.seed, choice.why,
        problem[:1].upper() + problem[1:],
        view=shlex.join(["harness", "view", str(film.recording)]) if film and film.recording else "",
        play="" if cell is None else replay_command(cell, choice.seed))
    if film is None:
        return told
    return _Card(**{**vars(told), "video": _data("video/webm", film.clip), "poster": _data("image/webp", film.poster),
                    "size": film.size,
                    "strip": tuple((step, _data("image/webp", image)) for step, image in film.strip)})


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _bar(verdict: Verdict) -> _Bar | None:
    if verdict.estimate is None:
        return None
    low, high = verdict.interval or (verdict.estimate, verdict.estimate)
    furthest = max(abs(end) for end in (verdict.estimate, low, high))
    reach = 1.0 if furthest <= 1.0 else nice_scale(0.0, furthest)[1]

    def x(value: float) -> float:
        return round(118 + value / reach * 110, 1)

    known = verdict.interval is not None
    return _Bar(reach, x(verdict.estimate), x(low) if known else None, x(high) if known else None)


def _facts(report: Summary) -> list[tuple[str, Any]]:
    """Where the numbers come from, as far as it is known."""
    origin = report.provenance
    packages = origin.get("packages") or {}
    commit = f", commit {str(origin['commit'])[:12]}{' with changes' if origin.get('dirty') else ''}" \
        if origin.get("commit") else ""
    seconds = sum(outcome.seconds for row in report.rows for outcome in row.finished.values())
    found = [
        ("command", shlex.join([Path(report.command[0]).name, *report.command[1:]]) if report.command else ""),
        ("results", str(report.folder)),
        ("Harness", f"{origin['harness']}{commit}" if origin.get("harness") else ""),
        ("packages", ", ".join(f"{name} {version}" for name, version in packages.items() if version)
         if isinstance(packages, dict) else ""),
        ("machine", ", ".join(str(origin[key]) for key in ("platform", "processor", "cpu_capability")
                              if origin.get(key))),
        ("rows of a forward pass", report.batch),
        ("played", f"{seconds / 60:.0f} minutes of episodes" if seconds else ""),
        *((f"agent {name}", description) for name, description in report.agents.items()),
        ("intervals", "95 %: Wilson for shares, bootstrap for means"),
    ]
    return [(name, value) for name, value in found if value not in ("", None)]
