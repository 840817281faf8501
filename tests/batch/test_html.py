"""The page as text, and the drawings on it: right places, nothing from outside, nothing of a stranger's as markup."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_results import finding

from harness.batch.figures import LEFT, WIDTH, figure_of, nice_scale
from harness.batch.films import Film, choices
from harness.batch.html import report_page
from harness.batch.results import read_summary
from harness.batch.summary import Summary
from harness.batch.verdicts import Verdict

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'"


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    folder = tmp_path_factory.mktemp("results")
    finding(folder, n_seeds=6)
    return read_summary(folder)


def test_dots_stand_where_their_numbers_are(summary: Summary) -> None:
    figures = {row.id: summary.figure(row, "held") for row in summary.rows}
    name = summary.rows[0].name
    figure = figure_of(replace(summary, baseline={name: {"held": 0.5}}), "held", figures)
    assert (figure.axis, figure.series) == ("target", ("canopy", ("oak_leaves", "none")))
    assert [panel.title for panel in figure.panels] == ["vpt-nano", "clean"]
    assert figure.ticks == ((LEFT, "0%"), (LEFT + WIDTH / 2, "50%"), (LEFT + WIDTH, "100%"))
    dot = figure.panels[0].dots[0]
    found = summary.rows[0].rate("held")
    assert found.value is not None and dot.low is not None and dot.high is not None
    assert np.allclose([dot.x, dot.low, dot.high], [LEFT + v * WIDTH for v in (found.value, found.low, found.high)],
                       atol=0.06)
    assert dot.baseline == LEFT + WIDTH / 2 and figure.has_baseline
    assert sum(len(panel.dots) for panel in figure.panels) == len(summary.rows)


@pytest.mark.parametrize(("least", "most", "scale"), [
    (0.0, 1.0, (0.0, 1.0, 0.5)), (0.0, 0.0, (0.0, 1.0, 0.5)), (3.0, 37.0, (0.0, 40.0, 10.0)),
    (-3.0, 4.0, (-4.0, 4.0, 2.0)), (0.0, 0.0123, (0.0, 0.015, 0.005))])
def test_scales_have_round_ends(least: float, most: float, scale: tuple[float, float, float]) -> None:
    assert nice_scale(least, most) == pytest.approx(scale)


def test_what_others_wrote_is_never_markup(summary: Summary) -> None:
    rows = tuple(replace(row, labels={**row.labels, "target": EVIL}, description=EVIL) for row in summary.rows)
    evil = replace(summary, suite=EVIL, description=EVIL, rows=rows, command=(EVIL,),
                   verdicts=(Verdict(EVIL, reason=EVIL, note=EVIL, replay=EVIL, flipped=(1,), passed=False),))
    page = report_page(evil, choices(evil))
    assert "<script" not in page and "<img src=x" not in page and page.count("&lt;script&gt;") > 10


def test_the_page_asks_nobody(summary: Summary) -> None:
    chosen = choices(summary)
    film = Film(b"webm", b"webp", (516, 356), ((0, b"a"), (40, b"b")))
    page = report_page(summary, chosen, {chosen[0]: film}, {chosen[1]: "there was no time to play it again"})
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None and "default-src &#39;none&#39;" in policy[1] and "script-src" not in policy[1]
    outside = [url for url in re.findall(r'(?:src|href|poster)="([^"]*)"', page) if not url.startswith("data:")]
    assert not outside and not re.search(r"\sstyle=|\son\w+=|<script|@import|url\(", page)
    assert page.count("<video") == 1 and "There was no time to play it again" in page
    assert "--clips 300" in page and "23 are without pictures" in page


def test_a_random_agents_page_says_so(tmp_path: Path) -> None:
    told = {"untrained": {"name": "untrained", "description": "the same network with random weights (seed 0)"}}
    finding(tmp_path, n_seeds=2, agents=told)
    summary = read_summary(tmp_path)
    page = report_page(summary, choices(summary))
    assert page.count('<span class="chip warning">random weights</span>') == 1 + len(summary.rows)
    assert page.count("untrained (random weights)") > len(summary.rows)
