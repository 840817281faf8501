"""docs/agents.md: its example runs, and its table is the table."""

from __future__ import annotations

import re
from pathlib import Path

from harness.agent.load import describe_agent
from harness.agent.published import published_names

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "agents.md").read_text(encoding="utf-8")


def test_the_python_example_runs() -> None:
    (body,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(body, "docs/agents.md", "exec"), {})


def test_every_published_agent_is_in_the_table_with_its_figures() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    for name in published_names():
        (row,) = [line for line in rows if f"`{name}`" in line]
        facts = describe_agent(name)
        counts = facts["parameters"]
        own = counts["total"] - counts.get("prior", 0) - counts.get("MineCLIP", 0)
        assert f"{own:,}" in row and f"| {facts['temperature']:g} |" in row
