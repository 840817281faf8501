"""Pairs of recordings: the first difference, the tests over pairs, and what makes no pair."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fakes import FakeAgent, FakeWorld, make_scenario

from harness.analysis import compare
from harness.analysis.comparison import first_differences
from harness.cli import cli
from harness.errors import RecordingError
from harness.intervention import ActionOverride, Intervention, KeyBlock, PixelMask, Schedule
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.replay.fork import fork_recording
from harness.rollout import run_episode

N = 30


def record(folder: Path, seed: int, interventions: Sequence[Intervention] = (), n: int = N, sharpness: float = 1.0,
           max_steps: int = N) -> Recording:
    with Recorder(folder) as recorder:
        run_episode(FakeWorld(make_scenario(max_steps)), FakeAgent(sharpness), seed=seed, observers=[recorder],
                    interventions=interventions, max_steps=n)
    return open_recording(recorder.path)


def test_what_is_the_same_never_parts(tmp_path: Path) -> None:
    one, two = record(tmp_path / "a", 3), record(tmp_path / "b", 3)
    found = compare(one, two)
    (pair,) = found.pairs
    assert pair.first is None and pair.n_compared == N and found.differences == () and found.unpaired == ()
    assert all(o.p == 1 and o.count == 0 for o in found.outcomes.values()) and set(found.outcomes) == {"walked", "hit"}


@pytest.mark.usefixtures("fake_backend")
def test_a_fork_is_held_against_the_steps_it_began_at(tmp_path: Path) -> None:
    whole = record(tmp_path / "a", 3)
    calm = ActionOverride({"attack": 0}, schedule=Schedule(between=(15, N)))
    forked = [fork_recording(whole, at=11, agent=FakeAgent(), interventions=edits, out=tmp_path / name).path
              for name, edits in (("null", []), ("calm", [calm]))]
    null, changed = (open_recording(Path(str(path))) for path in forked)
    columns, n = first_differences(whole, null)
    assert null.first_step == 11 and n == N - 11 and not any(columns.values())
    for one, two in ((whole, changed), (changed, whole)):
        columns, _ = first_differences(one, two)
        attacks = [row["step"] for row in whole.steps[15:] if row["executed"]["attack"]]
        assert columns["executed"] is not None and columns["executed"].step == attacks[0]
    early = record(tmp_path / "short", 3, n=8)
    assert first_differences(early, null)[1] == 0, "no step in common"


def test_the_first_difference_is_where_the_edit_is(tmp_path: Path) -> None:
    plain = record(tmp_path / "a", 3)
    masked = record(tmp_path / "b", 3, [PixelMask(0, 0, 300, 300, (0, 90, 255), schedule=Schedule(at=11))])
    (pair,) = compare(plain, masked).pairs
    assert pair.first is not None and pair.first.step == 11 and pair.first.column == "agent_frame"
    assert pair.columns["agent_frame"] is not None and (pair.columns["frame"] is None
                                                        or pair.columns["frame"].step > 11)
    moved = record(tmp_path / "c", 3, [ActionOverride({"forward": 1 - plain.steps[7]["executed"]["forward"]},
                                                      schedule=Schedule(at=7))])
    (pair,) = compare(plain, moved).pairs
    assert pair.first is not None and (pair.first.step, pair.first.column) == (7, "executed.forward")


def test_outcomes_over_pairs(tmp_path: Path) -> None:
    """Held forward everybody walks: every discordant pair goes one way, and the p-value is known."""
    seeds = range(8)
    plain = [record(tmp_path / "a", seed) for seed in seeds]
    held = [record(tmp_path / "b", seed, [ActionOverride({"forward": 1, "back": 0})]) for seed in seeds]
    found = compare(plain, held)
    walked = found.outcomes["walked"]
    n = len(seeds) - sum(r.steps[N - 1]["outcomes"]["walked"]["value"] for r in plain)
    assert n > 3 and (walked.control[0], walked.treated[0]) == (8 - n, 8)
    assert (walked.only_control, walked.only_treated) == (0, n) and walked.count > 0
    assert walked.p == pytest.approx(2 / 2**n) and walked.p_holm == pytest.approx(min(1, 2 * walked.p))
    assert [pair.seed for pair in found.pairs] == list(seeds)
    hits = found.outcomes["hit"]
    low, high = hits.count_interval
    assert low <= hits.count <= high


def test_what_was_cut_off_says_nothing_of_later_steps(tmp_path: Path) -> None:
    whole, short = record(tmp_path / "a", 3), record(tmp_path / "b", 3, n=12)
    (pair,) = compare(whole, short).pairs
    assert pair.outcomes_at == 11 and pair.n_compared == 12 and pair.first is None
    assert all(a == b for a, b in pair.outcomes.values())


def test_what_makes_no_pair_is_refused(tmp_path: Path) -> None:
    one, other = record(tmp_path / "a", 3), record(tmp_path / "b", 4)
    with pytest.raises(RecordingError, match=r"they have other seeds \(3 and 4\)"):
        compare(one, other)
    with pytest.raises(RecordingError, match="other scenarios or parameters"):
        compare(one, record(tmp_path / "c", 3, max_steps=N + 1))
    with pytest.raises(RecordingError, match="of one scenario and seed 3"):
        compare([one, record(tmp_path / "d", 3)], [other])
    found = compare([one, other], record(tmp_path / "e", 4))
    assert found.unpaired == (one.path.name,) and len(found.pairs) == 1


# --- the command ---------------------------------------------------------------------------------------------------


def call(*words: str | Path) -> Result:
    result = CliRunner().invoke(cli, ["compare", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_command_takes_recordings_and_folders_of_them(tmp_path: Path) -> None:
    for seed in range(3):
        record(tmp_path / "a", seed)
        record(tmp_path / "b", seed, [KeyBlock(["forward"])])
    result = call(tmp_path / "a", tmp_path / "b")
    assert result.exit_code == 0
    for words in ("3 pairs", "walked", "With 3 pairs no difference can reach p = 0.05", "p (Holm)"):
        assert words in result.stdout, result.stdout
    single = sorted((tmp_path / "a").iterdir())[0], sorted((tmp_path / "b").iterdir())[0]
    told = json.loads(call(*single, "--json").stdout)
    assert len(told["pairs"]) == 1 and told["pairs"][0]["first"]["column"] == "executed.forward"
    for words, said in (((tmp_path / "a", tmp_path / "none"), "none"), ((tmp_path, tmp_path), "neither a recording")):
        refused = call(*words)
        assert refused.exit_code == 2 and refused.stderr.count("error:") == 1 and said in refused.stderr
