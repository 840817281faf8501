"""Memory by frame age: the planted age is found, interventions say the same, and nothing reaches beyond the bound."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.agent.scripted import NoopAgent
from harness.analysis.memory_knockout import MODES, MemoryEffects, memory_effects
from harness.analysis.open_loop import kl_divergence, log_odds, look_over
from harness.cli import cli
from harness.errors import HarnessError
from harness.intervention import MemoryKnockout, Schedule
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

torch = pytest.importorskip("torch")

from agent.golden_policies import TINY, filled_weights  # noqa: E402

from harness.agent.steve.agent import SteveAgent  # noqa: E402
from harness.agent.vpt.agent import VPTAgent  # noqa: E402

CUE, AGE = 6, 12
QUERY = CUE + AGE


@pytest.fixture(scope="module")
def recall() -> Agent:
    return load_agent("recall", device="cpu")


def play(folder: Path, agent: Agent, cue: str, seed: int) -> Recording:
    """Up to the first white wall, which asks for the answer."""
    scenario = load_scenario("recall", parameters={"cue": cue, "cue_at": CUE, "age": AGE})
    with make_world(scenario) as world, Recorder(folder) as recorder:
        run_episode(world, agent, seed=seed, max_steps=QUERY + 1, observers=[recorder], hooks=["hook_embed"])
    return open_recording(recorder.path)


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory, recall: Agent) -> list[Recording]:
    """Red cues: the agent answers right where it saw none, so a blue one changes nothing when it is taken away."""
    return [play(tmp_path_factory.mktemp("red"), recall, "red_wool", seed) for seed in (500, 501, 502)]


@pytest.fixture(scope="module")
def found(episodes: list[Recording], recall: Agent) -> MemoryEffects:
    return memory_effects(episodes, agent=recall, key="left", steps=(QUERY,))


@pytest.mark.parametrize("mode", MODES)
def test_recall_depends_on_its_cue_and_on_nothing_else(found: MemoryEffects, mode: str) -> None:
    age, value, p = found.peak(mode)
    assert abs(age - AGE) <= 1 and value > 1 and p <= 0.05
    means = found.mean(mode)
    others = means[~np.isnan(means) & (np.abs(found.ages - AGE) > 1)]
    assert len(others) >= 12 and value > 1000 * others.max()
    assert found.horizon(mode) == age
    interval = found.interval(mode, age)
    assert interval is not None and interval.low > 0.1 and interval.low <= value <= interval.high


def test_the_cue_is_read_directly_and_speaks_for_its_side(found: MemoryEffects) -> None:
    column = found.ages.tolist().index(AGE)
    change = found.log_odds[MODES.index("full")][:, column]
    assert (change < -3).all(), "without red, left is less likely"
    assert (np.abs(change) > 100 * np.abs(found.log_odds[MODES.index("full")][:, 0])).all()
    share = found.relayed(AGE)
    assert share is not None and abs(share[0]) < 0.05 and share[1] is not None
    assert found.relayed(1) is None, "a share of nothing is nothing"
    frames = found.tables()[3].rows
    assert all(row[1] == CUE for row in frames[:3]) and frames[3][4] < frames[2][4] / 1000  # type: ignore[operator]


def test_random_weights_remember_next_to_nothing_and_say_so(episodes: list[Recording]) -> None:
    untrained = load_agent("untrained", device="cpu")
    result = memory_effects(episodes[:2], agent=untrained, key="left", steps=(QUERY,))
    assert 0 < np.nanmax(result.kl) < 0.01
    assert all(result.horizon(mode) == 0 for mode in MODES)
    summary = result.tables()[0]
    assert all(row[1] == "none" for row in summary.rows) and "random weights" in summary.title
    assert "nothing here was learned" in summary.note


def by_intervention(recording: Recording, agent: Agent, mode: str, query: int, age: int) -> tuple[float, float]:
    """The same numbers from the intervention, over all pictures of the recording."""
    source = query - age
    edit = {"read": lambda: MemoryKnockout(ages=[age], schedule=Schedule(at=query)),
            "write": lambda: MemoryKnockout(steps=[source], mode="write", schedule=Schedule(at=source + 1)),
            "full": lambda: MemoryKnockout(steps=[source], mode="full", schedule=Schedule(at=query))}[mode]()
    base, _ = look_over(recording, agent, (), [edit], lambda n: None)
    treated, _ = look_over(recording, agent, [edit], [edit], lambda n: None)
    one, two = base[query].log_probs, treated[query].log_probs
    kl = sum(float(kl_divergence(one[head], two[head])) for head in ("buttons", "camera"))
    return kl, float(log_odds(two["buttons"], "left") - log_odds(one["buttons"], "left"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("age", [1, AGE])
def test_the_numbers_are_those_of_the_intervention(episodes: list[Recording], recall: Agent, found: MemoryEffects,
                                                   mode: str, age: int) -> None:
    kl, change = by_intervention(episodes[0], recall, mode, QUERY, age)
    place = MODES.index(mode), 0, found.ages.tolist().index(age)
    assert found.kl[place] == pytest.approx(kl, rel=1e-3, abs=1e-5)
    assert found.log_odds[place] == pytest.approx(change, rel=1e-3, abs=2e-4)


def test_under_guidance_a_frame_leaves_both_memories(episodes: list[Recording]) -> None:
    agent = SteveAgent(size="nano", random_seed=0, goal=np.linspace(-1, 1, 512).tolist(), cond_scale=3.0, device="cpu")
    result = memory_effects(episodes[:1], agent=agent, key="left", steps=(QUERY,), ages=(AGE,))
    for number, mode in enumerate(MODES):
        kl, change = by_intervention(episodes[0], agent, mode, QUERY, AGE)
        assert kl > 1e-5 and result.kl[number, 0, 0] == pytest.approx(kl, rel=0.02, abs=1e-6)
        assert result.log_odds[number, 0, 0] == pytest.approx(change, rel=0.02, abs=1e-4)


def test_nothing_reaches_beyond_blocks_times_window(episodes: list[Recording], monkeypatch: pytest.MonkeyPatch
                                                    ) -> None:
    """Two blocks that see five frames: 2 * 4 steps back, and not one further."""
    noise = np.random.default_rng(0).standard_normal((QUERY + 1, TINY.hidsize)).astype(np.float32)
    agent = VPTAgent(policy_kwargs=TINY.policy_kwargs(), pi_head_kwargs=TINY.pi_head_kwargs(),
                     weights=filled_weights(TINY), device="cpu")
    # Frames that have nothing in common: of a still picture one more or less changes nothing at any age.
    monkeypatch.setattr(agent, "embed_pictures", lambda frames: noise[:len(frames)])
    result = memory_effects(episodes[:1], agent=agent, key="left", steps=(15, 16, 17, 18), ages=tuple(range(1, 13)))
    reach, window = TINY.blocks * (TINY.window - 1), TINY.window
    assert result.reach == reach == 8
    read, write, full = result.kl
    assert np.isnan(read[:, window - 1:]).all() and (read[:, :window - 1] > 0).all()
    for without in (write, full):
        assert (without[:, :reach] > 0).all(), "it is felt up to the bound"
        assert (without[:, reach:] == 0).all(), "and exactly nothing beyond"
    assert result.floor == 0 and not result.log_odds[1:, :, reach:].any()
    # Beyond the window everything is relayed.
    assert (np.abs(result.log_odds[2, :, window:reach]) > 0).any()


def effects(kl: Any, steps: Any = (30, 60, 90), ages: Any = (1, 2, 3, 4), recordings: Any = None) -> MemoryEffects:
    """A result with these divergences [query, age], the same in all modes."""
    values = np.broadcast_to(np.asarray(kl, np.float64), (3, len(steps), len(ages))).copy()
    return MemoryEffects({"agent": "a", "recordings": ["r"] * 3}, np.array(ages), np.array(steps),
                         np.zeros(len(steps), int) if recordings is None else np.array(recordings), values, values * 0,
                         0.0, 508, "attack", 0.1)


def test_horizons_shares_and_peaks_by_hand() -> None:
    result = effects([[0.5, 0.05, 0.2, 0.01]] * 3)
    assert result.horizon("read") == 3 and effects([[0.0] * 4] * 3).horizon("full") == 0
    assert effects([[0, 0, 0, 1.0]] * 3).horizon("read") is None, "older ages were not tried"
    assert effects([[0.0, 1.0, 0, np.nan]] * 3).horizon("read") == 2
    result.kl[0] /= 4
    share = result.relayed(1)
    assert share is not None and share[0] == pytest.approx(0.75)
    assert share[1] is not None and share[1] == pytest.approx((0.75, 0.75)), "the same at every query"
    assert result.relayed(2) is None, "below eps there is nothing to share"
    agreed = effects([[0, 1.0, 0, 0]] * 12, steps=range(30, 390, 30))
    assert agreed.peak("full")[0] == 2 and agreed.peak("full")[2] < 0.01
    disagreed = effects(np.eye(12), steps=range(30, 390, 30), ages=range(1, 13))
    assert disagreed.peak("full")[2] > 0.5
    assert effects([[1.0] * 4] * 3, steps=(5, 6, 7)).interval("read", 1) is None, "three steps are less than a block"
    assert effects([[1.0] * 4] * 3, steps=(5, 5, 5), recordings=(0, 1, 2)).interval("read", 1) == (1.0, 1.0)


@pytest.mark.parametrize(("options", "said"), [
    ({"key": "lefft"}, 'unknown key "lefft"'),
    ({"when": "damage_entitty"}, 'unknown key or event "damage_entitty"'),
    ({"when": "left", "steps": (3,)}, "got both"),
    ({"ages": (0, 1)}, "whole numbers from 1 on"),
    ({"steps": (900,)}, "nothing can be taken out"),
    ({"when": "player_died"}, "nothing can be taken out"),
    ({"n": 0}, "from 1 on, got 0"),
])
def test_what_means_nothing_is_refused(episodes: list[Recording], recall: Agent, options: dict[str, Any],
                                       said: str) -> None:
    with pytest.raises(HarnessError, match=said):
        memory_effects(episodes[:1], agent=recall, **options)


def test_an_agent_without_memory_is_refused(episodes: list[Recording]) -> None:
    with pytest.raises(HarnessError, match="no memory of frames"):
        memory_effects(episodes[:1], agent=NoopAgent())


def test_the_command_over_an_unfinished_recording(episodes: list[Recording], tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    shutil.copytree(episodes[0].path, folder)
    (folder / "result.json").unlink()
    out = tmp_path / "memory.npz"
    words = ["analyse", str(folder), "memory", "--set", "key=left", "--set", "n=2", "--set", "ages=[1, 12]"]
    told = CliRunner().invoke(cli, [*words, "--json", "--out", str(out)])
    assert told.exit_code == 0, told.output
    assert "is not finished" in told.stderr
    summary = json.loads(told.stdout)["tables"][0]
    assert [row[0] for row in summary["rows"]] == list(MODES) and summary["rows"][0][1] == AGE
    with np.load(out) as arrays:
        assert arrays["kl"].shape == (3, 2, 2) and list(arrays["steps"]) == [1, QUERY]
    wrong = CliRunner().invoke(cli, [*words, "--set", "agess=3"])
    assert wrong.exit_code == 2 and "ages" in wrong.stderr
