"""Every example of docs/scenarios.md is a scenario, and every key of the schema is on the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.scenario.compile import compile_scenario
from harness.scenario.load import json_schema, parse_scenario, scenario_names

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scenarios.md").read_text(encoding="utf-8")
BLOCKS = {kind: re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for kind in ("yaml", "python")}


@pytest.mark.parametrize("text", BLOCKS["yaml"])
def test_examples_load_and_compile(text: str) -> None:
    assert compile_scenario(parse_scenario(text), seed=3)


def test_the_python_example_runs() -> None:
    (code,) = BLOCKS["python"]
    exec(compile(code, "docs/scenarios.md", "exec"), {})


def test_every_key_is_documented() -> None:
    schema = json_schema()
    keys = set(schema["properties"])
    for part in schema["$defs"].values():
        keys |= set(part.get("properties", {}))
    missing = [key for key in keys if not re.search(rf"(?<![a-z_]){re.escape(key)}(?![a-z_])", PAGE)]
    assert len(keys) > 50
    assert not missing


def test_every_bundled_scenario_is_listed() -> None:
    assert all(f"| `{name}` |" in PAGE for name in scenario_names())
