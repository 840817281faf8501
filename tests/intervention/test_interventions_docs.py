"""Every example of docs/interventions*.md is one: its YAML builds, its Python runs, and every kind is on a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.intervention import from_scenario
from harness.registry import TABLES
from harness.scenario.load import parse_scenario

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs").glob("interventions*.md"))
PAGE = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
BLOCKS = {kind: re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for kind in ("yaml", "python")}
SECTIONS = [text for text in BLOCKS["yaml"] if text.startswith("interventions:")]


@pytest.mark.parametrize("text", SECTIONS)
def test_the_examples_build(text: str) -> None:
    scenario = parse_scenario(text)
    assert len(from_scenario(scenario)) == len(scenario.interventions) > 0


@pytest.mark.parametrize("code", BLOCKS["python"])
def test_the_python_examples_run(code: str) -> None:
    exec(compile(code, "docs/interventions.md", "exec"), {})


@pytest.mark.parametrize("kind", sorted(TABLES["harness.interventions"]))
def test_every_kind_is_on_the_page(kind: str) -> None:
    assert f"`{kind}`" in PAGE
