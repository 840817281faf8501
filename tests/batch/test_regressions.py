"""``harness batch`` against a baseline, end to end, with scripted agents."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_suites import write_tiny

from harness.agent.scripted import NoopAgent
from harness.batch.load import load_suite
from harness.batch.replay import replay_command
from harness.batch.runner import run_suite
from harness.cli import cli

EXPECT = ("statistics: {family_error: 0.25}\nexpect:\n"
          "  - {metric: contact, in: {target: trunk}, equal: baseline}\n"
          "  - {metric: held, at_most: 0.9}\n")


def call(*words: str | Path) -> Result:
    """In this process, where what is patched holds."""
    return CliRunner().invoke(cli, ["batch", *map(str, words), "--workers", "0"])


def suite(folder: Path, agents: str = "noop") -> Path:
    path = write_tiny(folder, agents=agents)
    path.write_text(path.read_text() + EXPECT)
    return path


def test_approve_then_change_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = suite(tmp_path), tmp_path / "out"
    first = call(path, "--out", out)
    assert first.exit_code == 0 and "no baseline is approved yet" in first.stderr, first.output
    assert "with 5 seeds you will see" in first.stderr and "undecided  contact of" in first.stdout
    assert call(path, "--out", out, "--approve", "--seeds", 2).exit_code == 2
    assert "approved:" in call(path, "--out", out, "--approve").stderr
    again = call(path, "--out", out).stdout
    assert "passed   contact of [target=trunk, agent=noop] is equal to the baseline" in again, again
    # The trunk of this suite is hit by nobody who does nothing; now somebody does.
    hit = NoopAgent.act

    def attacks(self: NoopAgent, *arguments: object, **more: object) -> object:
        output = hit(self, *arguments, **more)  # type: ignore[arg-type]
        output.action["attack"] = 1
        return output

    monkeypatch.setattr(NoopAgent, "act", attacks)
    found = call(path, "--out", tmp_path / "other", "--json")
    verdicts = json.loads(found.stdout)["verdicts"]
    assert found.exit_code == 1, found.output
    (failed,) = [v for v in verdicts if v["passed"] is False]
    assert failed["claim"] == "contact of [target=trunk, agent=noop] is equal to the baseline"
    assert failed["flipped"] == [40, 41, 42, 43, 44] and failed["replay"].startswith("harness run villager --agent ")
    words = shlex.split(failed["replay"])[1:]
    assert CliRunner().invoke(cli, [*words, "--no-record", "--quiet"]).exit_code == 0


def test_another_agent_under_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = suite(tmp_path), tmp_path / "out"
    assert call(path, "--out", out, "--approve", "--quiet").exit_code == 0
    told = NoopAgent.provenance
    monkeypatch.setattr(NoopAgent, "provenance", lambda self: {**told(self), "weights_digest": "b" * 64})
    refused = call(path, "--out", out)
    assert refused.exit_code == 1, refused.output
    assert "nothing was compared" in refused.output and "--across agent" in refused.output
    compared = call(path, "--out", out, "--across", "agent", "--quiet")
    assert compared.exit_code == 0 and "note: the agent noop has other weights" in compared.stdout
    (tmp_path / "suite.baseline.json").write_text("{")
    broken = call(path, "--out", out)
    assert broken.exit_code == 2 and "damaged" in broken.output and "Traceback" not in broken.output
    assert call(path, "--out", out, "--baseline", tmp_path / "none.json").exit_code == 2


def test_the_command_of_a_trial(tmp_path: Path) -> None:
    cells = load_suite(suite(tmp_path)).cells
    command = replay_command(cells[1], 43)
    assert command == ("harness run villager --agent noop --seed 43 --steps 5 --set creature=none --set trunk=oak_log "
                       "--set distance=3 --set trees=0")


def test_the_command_has_the_cells_interventions(tmp_path: Path) -> None:
    (cell,) = load_suite(write_tiny(tmp_path, agents="noop"), only=["target=villager"]).cells
    steered = {"kind": "Steering", "direction": {"difference_of_means": {"of": "one", "minus": {"recording": "two"}}}}
    words = shlex.split(replay_command(replace(cell, intervene=("no-leaves@3", steered), backend="remote",
                                               folder=tmp_path), 40))
    assert words[-6:-3] == ["--intervene", "no-leaves@3", "--intervene"] and words[-2:] == ["--backend", "remote"]
    means = json.loads(words[-3])["direction"]["difference_of_means"]
    assert means == {"of": str(tmp_path / "one"), "minus": {"recording": str(tmp_path / "two")}}, "found from anywhere"
    one = cell.scenario.parameters["robe"].model_copy(update={"default": "1"})
    odd = cell.scenario.model_copy(update={"parameters": {"robe": one}})
    assert "'robe=\"1\"'" in replay_command(replace(cell, scenario=odd), 40), "a text that looks like a number"


def test_a_settled_suite_ends_early(tmp_path: Path) -> None:
    path = write_tiny(tmp_path, agents="noop", edit=("count: 5", "count: 12"))
    path.write_text(path.read_text() + "statistics: {sequential: true, block: 4}\nexpect:\n"
                                       "  - {metric: held, in: {target: villager}, at_most: 0.9}\n")
    report = run_suite(path, out=tmp_path / "out")
    assert report.verdicts[0].passed is True and report.verdicts[0].n == 4, "at the first of three looks"
    assert report.spared == 8 and report.missing == 0 and "8 trials were not needed" in report.text()
    assert [len(row.measured) for row in report.rows] == [4, 12], "nothing is claimed of the trunk: it is played whole"
