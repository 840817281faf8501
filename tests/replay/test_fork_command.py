"""``harness fork``: what it prints, what it leaves, how it refuses; and what docs/forks.md says of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli import cli
from harness.cli.fork import step_before
from harness.recording.recording import open_recording

pytestmark = pytest.mark.usefixtures("fake_backend")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "forks.md"
SCENARIO = """
name: stripes
episode: {max_steps: 40}
outcomes:
  hit: {damaged: any}
  walked: {moved: 1.5}
  flew: {moved: 999}
interventions:
  calm: {kind: ActionOverride, keys: {attack: 0}}
  later: {kind: Nothing}
"""


@pytest.fixture
def run(tmp_path: Path, fake_agent: str) -> tuple[Path, str]:
    """(A recording, its agent's file.)"""
    (tmp_path / "stripes.yaml").write_text(SCENARIO)
    made = CliRunner().invoke(cli, ["run", str(tmp_path / "stripes.yaml"), "--agent", fake_agent, "--backend", "fake",
                                    "--out", str(tmp_path), "--quiet"])
    assert made.exit_code == 0, made.output
    return tmp_path / "stripes-fake-s0", fake_agent


def call(run: tuple[Path, str], *words: str | Path) -> Result:
    recording, agent = run
    result = CliRunner().invoke(cli, ["fork", str(recording), "--agent", agent, "--out", str(recording.parent / "out"),
                                      *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_fork_tells_where_the_two_part(run: tuple[Path, str]) -> None:
    recording = open_recording(run[0])
    hits = [event["step"] for event in recording.events]
    result = call(run, "--at-event", "hit", "--intervene", "calm")
    assert result.exit_code == 0
    folder, n = run[0].parent / "out" / f"stripes-fake-s0-fork{hits[0]}", 40 - hits[0]
    for word in (f"fork of stripes-fake-s0 at step {hits[0]}: calm (ActionOverride)", f"part at step {hits[0]}",
                 "action played: attack", "damage_entity", "changed", f"recorded: {folder}",
                 f"steps 0 to {hits[0] - 1} played again", f"calm (ActionOverride): applied in {n} of {n} steps",
                 f"harness replay {folder} --beside {run[0]} --overlay timeline --out {folder.name}.mp4"):
        assert word in result.stdout, result.stdout
    assert "random weights (seed 0)" in result.stderr
    forked = open_recording(folder)
    assert forked.complete and forked.first_step == hits[0] and not forked.steps["executed.attack"].any()
    assert forked.header["interventions"][0]["name"] == "calm"
    verified = CliRunner().invoke(cli, ["replay", str(folder), "--agent", run[1], "--verify"])
    assert verified.exit_code == 0 and "OK" in verified.stdout


def test_a_null_twin_is_said_to_be_one(run: tuple[Path, str]) -> None:
    result = call(run, "--at", "33", "--quiet", "--no-record")
    assert result.exit_code == 0 and "NO DIFFERENCE in 7 steps" in result.stdout and result.stderr == ""
    assert "nothing added" in result.stdout and not (run[0].parent / "out").exists()


def test_a_null_twin_that_differs_is_a_failure(run: tuple[Path, str]) -> None:
    """A recording that was tampered with after the fork."""
    lines = (run[0] / "steps.jsonl").read_text().splitlines()
    row = json.loads(lines[35])
    row["chosen"]["jump"] = 1
    lines[35] = json.dumps(row)
    (run[0] / "steps.jsonl").write_text("\n".join(lines) + "\n")
    opened = json.loads((run[0] / "result.json").read_text())
    opened["bytes"]["steps.jsonl"] = (run[0] / "steps.jsonl").stat().st_size
    (run[0] / "result.json").write_text(json.dumps(opened))
    result = call(run, "--at", "33", "--no-record", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["first"] == {"step": 35, "column": "chosen.jump", "recorded": 1, "fork": 0}
    assert call(run, "--at", "36", "--no-record", "--json").exit_code == 0


def test_what_found_nothing_to_do_is_said_to_have_done_nothing(run: tuple[Path, str]) -> None:
    result = call(run, "--at", "30", "--no-record", "--intervene", "{kind: KeyBlock, keys: [attack], when: flew}")
    assert result.exit_code == 0 and "NO DIFFERENCE in 10 steps" in result.stdout
    assert "KeyBlock: never applied" in result.stdout


def test_json_is_all_that_is_printed(run: tuple[Path, str]) -> None:
    result = call(run, "--at", "20", "--steps", "4", "--json", "--intervene", "{kind: PixelMask, x0: 0, y0: 0, x1: 640,"
                  " y1: 360, at: 22}")
    report = json.loads(result.stdout)
    assert result.stderr == "" and result.exit_code == 0
    assert report["first"]["step"] == 22 and report["first"]["column"] == "agent_frame" and report["n_steps"] == 4
    assert report["added"][0]["kind"] == "PixelMask" and report["applied"] == [1] and Path(report["path"]).is_dir()
    assert set(report["outcomes"]["hit"]) == {"recorded", "fork", "changed"}


def test_the_moment_may_be_named(run: tuple[Path, str]) -> None:
    recording = open_recording(run[0])
    hit = step_before(recording, "hit")
    assert hit == step_before(recording, "damage_entity") == recording.result["outcomes"]["hit"]["first_step"]  # type: ignore[index]
    result = call(run, "--at-event", "hit", "--earlier", "2", "--no-record", "--json", "--steps", "1")
    assert json.loads(result.stdout)["at"] == hit - 2


@pytest.mark.parametrize(("words", "said"), [
    ((), ["either --at STEP or --at-event NAME"]),
    (("--at", "3", "--at-event", "hit"), ["either --at STEP or --at-event NAME"]),
    (("--at", "40"), ["no step 40", "steps 0 to 39"]),
    (("--at", "3", "--earlier", "5"), ["no step -2"]),
    (("--at-event", "flew"), ['"flew" never came true', "what happened: ", "hit at step"]),
    (("--at-event", "hti"), ['unknown outcome or event in the recording "hti"', "hit"]),
    (("--at", "3", "--intervene", "clam"), ['unknown intervention "clam"', "calm"]),
    (("--at", "3", "--intervene", "later"), ["Nothing"]),
    (("--at", "3", "--intervene", "{kind: PixelMsk}"), ["PixelMsk", "PixelMask"]),
    (("--at", "3", "--intervene", "{kind: ActionOverride"), ["not valid YAML", "--intervene:1:"]),
    (("--at", "30", "--intervene", "{kind: ActionOverride, keys: {jump: 1}, at: 3}"), ["from 30 on"]),
])
def test_what_a_fork_refuses(run: tuple[Path, str], words: tuple[str, ...], said: list[str]) -> None:
    result = call(run, *words)
    assert result.exit_code == 2 and "Traceback" not in result.output
    assert all(word in result.stderr for word in said), result.stderr
    assert not (run[0].parent / "out").exists()


def test_a_folder_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["fork", str(tmp_path), "--at", "3"])
    assert result.exit_code == 2 and "no recording" in result.stderr


def test_the_page_tells_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/forks.md: its commands, its Python, and the table it prints."""
    text = PAGE.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    made = CliRunner().invoke(cli, ["run", "villager", "--steps", "60", "--quiet"])
    assert made.exit_code == 0, made.output
    (command,) = re.findall(r"^harness fork (recordings/villager-vpt-nano-s0 --at-event .*)$", text, re.MULTILINE)
    result = CliRunner().invoke(cli, ["fork", *command.split(), "--json"])
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    rows = re.findall(r"^│ (\d+) +│ ([\w -]+\w)", text, re.MULTILINE)
    assert rows and report["at"] == int(rows[0][0])
    names = {"action played": "executed", "picture of the world": "frame", "action chosen": "chosen", "pose": "pose",
             "events": "events"}
    for step, name in rows:
        if name in names:
            assert report["columns"][names[name]]["step"] == int(step), name
    for body in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(body, str(PAGE), "exec"), {})
