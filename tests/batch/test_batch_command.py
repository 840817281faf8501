"""``harness batch``, and ``harness.run_suite`` at the front door."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from tiny_suites import write_tiny

import harness
from harness.agent.scripted import NoopAgent
from harness.batch.runner import Tally
from harness.cli import cli
from harness.cli.batch_table import BatchTable


def call(*words: str | Path) -> Result:
    """In this process, where what is patched holds, and an end of the process would be seen."""
    return CliRunner().invoke(cli, ["batch", *map(str, words), "--workers", "0"])


def test_a_table_and_the_files_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(write_tiny(tmp_path, agents="noop, random"), "--seeds", 2, "--quiet", "--markdown", "tables/t.md")
    assert result.exit_code == 0, result.output
    assert "target    agent   approached" in result.stdout and "0/2 0% [0, 66]" in result.stdout
    assert "trials" not in result.stderr, "quiet: no progress"
    assert len(list((tmp_path / "batches" / "tiny" / "trials").glob("*/*/result.json"))) == 8
    assert (tmp_path / "tables" / "t.md").read_text().count("| villager |") == 6


def test_json_of_a_part(tmp_path: Path) -> None:
    result = call(write_tiny(tmp_path, agents="noop, absent"), "--only", "agent=noop", "--only", "target=trunk",
                  "--seeds", 1, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    table = json.loads(result.stdout)
    assert [row["labels"] for row in table["rows"]] == [{"target": "trunk", "agent": "noop"}]
    assert table["rows"][0]["rates"]["approached"] == {"count": 1, "n": 1, "rate": 1.0, "low": 0.2065, "high": 1.0}


def test_bad_input_is_told_with_exit_code_2(tmp_path: Path) -> None:
    suite = write_tiny(tmp_path, agents="noop, absent")
    for words, message in (((suite,), 'unknown agent "absent"'), (("vilager",), "no suite file or name"),
                           ((suite, "--only", "agent"), "AXIS=VALUE"),
                           ((suite, "--only", "agent=noop", "--out", suite), "is a file")):
        result = call(*words)
        assert result.exit_code == 2 and "Traceback" not in result.output and message in result.output


def test_a_failed_trial_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NoopAgent, "act", lambda *_, **__: 1 / 0)
    result = call(write_tiny(tmp_path, agents="noop"), "--seeds", 1, "--out", tmp_path / "out")
    assert result.exit_code == 1 and "failed: villager, noop, seed 40: ZeroDivisionError" in result.stdout


def test_ctrl_c_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, played = write_tiny(tmp_path, agents="noop"), list[int]()
    act = NoopAgent.act

    def interrupted(self: NoopAgent, *arguments: object, **more: object) -> object:
        played.append(1)
        if len(played) == 12:  # in the second trial
            raise KeyboardInterrupt
        return act(self, *arguments, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(NoopAgent, "act", interrupted)
        result = call(suite, "--out", tmp_path / "out")
    assert result.exit_code == 130 and "the same command goes on" in result.stderr
    assert len(list((tmp_path / "out").glob("trials/*/*/result.json"))) == 1
    result = call(suite, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["missing"] == 0


def test_the_front_door(tmp_path: Path) -> None:
    report = harness.run_suite(write_tiny(tmp_path, agents="noop"), out=tmp_path / "out", seeds=1)
    assert isinstance(report, harness.Report) and report.missing == 0


def test_recordings_and_budgets_from_the_command_line(tmp_path: Path) -> None:
    suite = write_tiny(tmp_path, agents="noop")
    result = call(suite, "--seeds", 2, "--out", tmp_path / "out", "--record", "first:1", "--budget", "3")
    assert result.exit_code == 0 and "stopped: the budget is used up" in result.stdout, result.output
    assert len(list((tmp_path / "out").glob("trials/*/40/recording/header.json"))) == 2
    for words, message in ((("--budget", "soon"), "a number of trials"), (("--record", "some"), "first:N"),
                           (("--record", "all", "--hooks", "blocks.9"), "noop")):
        result = call(suite, "--seeds", 2, "--out", tmp_path / "other", *words)
        assert result.exit_code == 2 and message in result.output, result.output


def test_progress_without_a_terminal_is_lines_and_on_one_a_table() -> None:
    cells = [Tally("villager, noop", 5, 2, 1, 1.0, 2), Tally("trunk, noop", 5)]
    console = Console(force_terminal=True, width=100, file=io.StringIO())
    with BatchTable(console=console) as table:
        table.start("10 trials", 80)
        table.tallies("held", cells)
        table._said = 0.0  # long ago
        table.to(40)
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert "villager, noop" in drawn and "2/5" in drawn and "0.5" in drawn and "40" not in drawn.split("held")[0]
    assert "left" in drawn
