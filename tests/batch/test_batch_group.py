"""``harness batch``: a suite by name, and the commands beside it; reports of a suite that was played."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from fake_results import finding, result, write_cell, write_json, write_suite
from tiny_suites import write_tiny

from harness.cli import cli
from harness.cli.batch_report import Outputs
from harness.errors import HarnessError


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["batch", *map(str, words)])


def completed(incomplete: str) -> list[str]:
    shell = ShellComplete(cli, {}, "harness", "_HARNESS_COMPLETE")
    return [item.value for item in shell.get_completions(["batch"], incomplete)]


def test_help_shows_both_forms() -> None:
    text = call("--help").output
    assert "Usage: harness batch [OPTIONS] SUITE" in text.replace("cli batch", "harness batch")
    assert all(word in text for word in ("--workers", "report", "query", "export", "./report.yaml"))
    assert "--workers" in call("villager", "--help").output and "--clips" in call("report", "--help").output


def test_any_other_word_is_a_suite_and_options_may_come_first(tmp_path: Path) -> None:
    for words in (("vilager",), ("--seeds", 1, "vilager")):
        outcome = call(*words)
        assert outcome.exit_code == 2 and "did you mean 'villager'" in outcome.output
    assert "No such option" in call("--wrkers", "2", "villager").output
    for name in ("report", "query"):
        (tmp_path / name).write_text("matrix: {}")
        outcome = call(tmp_path / name)
        assert outcome.exit_code == 2 and "matrix is empty" in outcome.output, "a suite that is called like a command"


def test_completion_knows_suites_commands_and_options() -> None:
    assert "villager" in completed("vil") and "query" in completed("que")
    assert "--workers" in completed("--work")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    finding(folder, n_seeds=2)
    return folder


def test_a_report_folder(results: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the second time it is ours
        outcome = call("report", results, "--report", tmp_path / "r", "--json")
        assert outcome.exit_code == 0, outcome.output
    assert {path.name for path in (tmp_path / "r").iterdir()} == {"index.html", "report.json", "junit.xml", "report.md"}
    assert json.loads((tmp_path / "r" / "report.json").read_text())["trials"] == 48
    assert json.loads(outcome.stdout)["state"] == "holds"


def test_a_folder_that_is_not_ours_or_in_use_is_refused(results: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    for place in (tmp_path, results):
        outcome = call("report", results, "--report", place)
        assert outcome.exit_code == 2 and "holds other files" in outcome.output
    assert (tmp_path / "index.html").read_text() == "mine"
    with Outputs(folder=tmp_path / "new").reserved(), pytest.raises(HarnessError, match="another process"), \
            Outputs(folder=tmp_path / "new").reserved():
        pass
    assert "--clips are for a page" in call("report", results, "--clips", 3).output
    assert "no results of a suite" in call("report", tmp_path).output


def test_a_failed_trial_is_exit_code_1_and_in_junit(tmp_path: Path) -> None:
    labels = {"target": "cow"}
    write_cell(tmp_path / "b", "cow-0", labels, [result("cow-0", labels, 0, {}, status="lost", problem="killed")])
    write_suite(tmp_path / "b", {"cow-0": labels}, [0])
    outcome = call("report", tmp_path / "b", "--junit", tmp_path / "j.xml", "--markdown", tmp_path / "t.md")
    assert outcome.exit_code == 1 and "failed: cow, seed 0 (lost): killed" in outcome.stdout
    assert 'type="lost"' in (tmp_path / "j.xml").read_text() and (tmp_path / "t.md").is_file()


def test_a_played_suite_is_told_queried_and_played_again_for_its_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                                       ) -> None:
    suite = write_tiny(tmp_path, agents="random")
    monkeypatch.setattr("sys.argv", ["harness", "batch", str(suite)])
    out = tmp_path / "out"
    outcome = call(suite, "--workers", 0, "--seeds", 1, "--out", out, "--quiet", "--junit", tmp_path / "j.xml")
    assert outcome.exit_code == 0, outcome.output
    assert 'tests="1" failures="0"' in (tmp_path / "j.xml").read_text()
    assert call("query", out, "select count(*) from steps", "--csv").stdout == "count_star()\n13\n"
    changed = next(iter(out.glob("trials/trunk*/40/result.json")))
    told = json.loads(changed.read_text())
    told["episodes"][0]["actions"] = "f" * 16  # as if another machine had played it
    write_json(changed, told)
    outcome = call("report", out, "--html", tmp_path / "page.html", "--clips", 60)
    assert outcome.exit_code == 0, outcome.output
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:video/webm;base64,GkXf") == 1, "one went as before"
    assert "Played again here it takes other actions" in page
    assert len(re.findall(r"harness run villager --agent random --seed 40", page)) == 2
    assert not list(out.glob("trials/*/*/recording"))

