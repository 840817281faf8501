"""What the documents say is true: links lead somewhere, commands exist, Python blocks run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands() -> list[str]:
    bodies = [body.replace("\\\n", " ") for page in PAGES for body in blocks(page, "bash")]
    lines = [line for body in bodies for line in body.splitlines()]
    parts = [part.split("#")[0].strip() for line in lines for part in line.split("&&")]
    return sorted({part for part in parts if part.startswith("harness ")})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 5


@pytest.mark.parametrize("command", commands())
def test_every_documented_option_exists(command: str) -> None:
    words = shlex.split(command)[1:]
    group = cli
    path = []
    while words and not words[0].startswith("-") and hasattr(group, "get_command"):
        found = group.get_command(None, words[0])  # type: ignore[arg-type]
        assert found is not None, f"{command}: no command {words[0]}"
        group, path, words = found, [*path, words[0]], words[1:]
    known = {option for parameter in group.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [w.split("=")[0] for w in words if w.startswith("--") and w.split("=")[0] not in {*known, "--help"}]
    assert not unknown, f"{command}: unknown options {unknown}"
    assert CliRunner().invoke(cli, [*path, "--help"]).exit_code == 0


def test_the_readme_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """README's Python block, shortened to a few steps, leaves a recording and a video."""
    (body,) = blocks(ROOT / "README.md", "python")
    lines = [line for line in body.splitlines() if line.strip() and not line.startswith(("#", "import", "from"))]
    assert len(lines) <= 9, "the front door's example fits in a few lines"
    assert 'load_scenario("scenarios/villager.yaml")' in body
    (tmp_path / "scenarios").symlink_to(ROOT / "scenarios")
    monkeypatch.chdir(tmp_path)
    exec(compile(body.replace("seed=7", "seed=7, max_steps=12"), "README.md", "exec"), {})
    assert (tmp_path / "villager.mp4").stat().st_size > 10_000
