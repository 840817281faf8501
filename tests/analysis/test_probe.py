"""Probes: what was planted is found, noise is not, and no episode is on both sides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.load import load_agent
from harness.analysis import probes
from harness.analysis.probe import FEWEST, deal, fit_probe
from harness.cli import cli
from harness.errors import AgentError, HarnessError, RecordingError
from harness.intervention import ActionOverride
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

pytest.importorskip("torch")

HOOKS = ("hook_embed", "blocks.3.hook_resid_post")
TREES = load_scenario("treechop", parameters={"fewest": 12, "most": 12})


def walk(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return np.cumsum(rng.standard_normal((n, d)), 0) * 0.3 + rng.standard_normal(d)


def data(seed: int, strength: float, yes_no: bool, episodes: int = 10, n: int = 40, d: int = 24
         ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A variable that wanders, in activations that wander, along a direction of them."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([walk(rng, n, 1)[:, 0] for _ in range(episodes)])
    x = np.concatenate([walk(rng, n, d) for _ in range(episodes)])
    direction = rng.standard_normal(d)
    x += strength * y[:, None] * direction / np.linalg.norm(direction)
    return x, (y > np.median(y)).astype(np.float64) if yes_no else y, np.repeat(np.arange(episodes), n)


@pytest.mark.parametrize("yes_no", [False, True])
def test_a_planted_direction_is_found(yes_no: bool) -> None:
    for seed in range(5):
        found = fit_probe(*data(seed, 5.0, yes_no), yes_no=yes_no)
        assert found.value > (0.85 if yes_no else 0.6) and found.interval.low > found.chance
        assert found.p == pytest.approx(1 / 21) and found.selectivity is not None and found.selectivity > 0.3
        assert found.interval.low <= found.value <= found.interval.high


@pytest.mark.parametrize("yes_no", [False, True])
def test_noise_is_at_chance(yes_no: bool) -> None:
    """Both wander, so that frame by frame they would seem to go together."""
    found = [fit_probe(*data(seed, 0.0, yes_no), yes_no=yes_no) for seed in range(40)]
    values = np.array([each.value for each in found])
    assert abs(np.median(values) - found[0].chance) < 0.1
    assert sum(each.interval.low > each.chance for each in found) <= 5, "one in forty by the interval's own word"
    assert sum(each.p < 0.05 for each in found if each.p) <= 6, "one in twenty-one"
    if yes_no:
        assert sum(each.interval.low <= 0.5 <= each.interval.high for each in found) >= 33


def test_values_are_those_of_the_definition() -> None:
    x, y, episode = data(3, 2.0, False)
    found = fit_probe(x, y, episode, yes_no=False, controls=0)
    fold = deal(episode)
    base = np.array([y[fold != f].mean() for f in fold])
    assert found.value == pytest.approx(1 - ((y - found.predictions) ** 2).sum() / ((y - base) ** 2).sum())
    assert found.controls == () and found.p is None and found.selectivity is None
    x, y, episode = data(3, 2.0, True)
    found = fit_probe(x, y, episode, yes_no=True, controls=0)
    wins = pairs = 0.0
    for f in range(5):
        yes, no = (found.predictions[(deal(episode) == f) & (y == value)] for value in (1, 0))
        wins += (yes[:, None] > no).sum() + (yes[:, None] == no).sum() / 2
        pairs += len(yes) * len(no)
    assert found.value == pytest.approx(wins / pairs)


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=FEWEST, max_size=25), st.integers(0, 99), st.integers(2, 8))
def test_all_pictures_of_an_episode_are_on_one_side(lengths: list[int], seed: int, folds: int) -> None:
    episode = np.repeat(np.arange(len(lengths)) * 7, lengths)
    fold = deal(episode, folds, seed)
    sides = [set(fold[episode == each].tolist()) for each in np.unique(episode)]
    assert all(len(side) == 1 for side in sides)
    counts = np.bincount([side.pop() for side in sides])
    assert 2 <= len(counts) <= folds and counts.min() >= 2 and counts.max() - counts.min() <= 1


def test_an_episodes_fingerprint_does_not_leak() -> None:
    """Each episode has a value of its own, and activations by which it is known: split by pictures this is perfect."""
    rng = np.random.default_rng(0)
    episode = np.repeat(np.arange(12), 30)
    marks, y = rng.standard_normal((12, 40))[episode], rng.standard_normal(12)[episode]
    x = marks + 0.01 * rng.standard_normal(marks.shape)
    order = rng.permutation(len(y))
    assert fit_probe(x[order], y[order], np.arange(len(y)), yes_no=False, controls=0).value > 0.99
    assert fit_probe(x, y, episode, yes_no=False, controls=0).value < 0.1


def test_rows_without_a_value_are_left_out() -> None:
    x, y, episode = data(1, 5.0, False)
    gaps = y.copy()
    gaps[::3] = np.nan
    found = fit_probe(x, gaps, episode, yes_no=False, controls=3)
    kept = np.isfinite(gaps)
    same = fit_probe(x[kept], y[kept], episode[kept], yes_no=False, controls=3)
    assert found.value == same.value and np.isnan(found.predictions[~kept]).all()


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 50), st.floats(-5, 5))
def test_scale_and_origin_do_not_matter(scale: float, origin: float) -> None:
    x, y, episode = data(2, 3.0, False, episodes=6, n=12, d=4)
    one = fit_probe(x, y, episode, yes_no=False, controls=0)
    two = fit_probe(x * scale + origin, y, episode, yes_no=False, controls=0)
    assert one.value == pytest.approx(two.value, abs=1e-6)


# --- over recordings -----------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    """Six short ones of the bundled agent among trees, in which it is turned about once."""
    agent, found = load_agent("vpt-nano", device="cpu"), []
    turn = ActionOverride(keys={"camera": [0.0, 18.0]})
    for seed in range(6):
        with make_world(TREES) as world, Recorder(tmp_path_factory.mktemp("e")) as recorder:
            run_episode(world, agent, seed=seed, max_steps=20, observers=[recorder], hooks=[HOOKS[0]],
                        interventions=[turn])
        found.append(open_recording(recorder.path))
    return found


def test_trunks_are_read_in_episodes_not_seen(episodes: list[Recording]) -> None:
    found = probes(episodes, targets=("crosshair:logs",), hooks=("hook_emb*",), every=1)
    probe = found.fitted["crosshair:logs", "hook_embed"]
    assert probe.value > 0.85 and probe.value > max(probe.controls) and probe.interval.low > 0.6
    assert found.labels.shape == (120, 1) and found.step[:21].tolist() == [*range(20), 0]
    assert found.episode.tolist() == [each for each in range(6) for _ in range(20)]
    (table,) = found.tables()
    assert table.title.startswith("vpt-nano: crosshair:logs") and "6 episodes, 120 pictures" in table.title
    assert set(found.arrays()) == {"labels", "episode", "step", "prediction crosshair:logs hook_embed"}
    json.dumps(found.as_dict())


def test_an_agent_looks_again_where_nothing_was_traced(episodes: list[Recording]) -> None:
    agent = load_agent("vpt-nano", device="cpu")
    options = {"targets": ("share:logs",), "every": 4, "controls": 1}
    steps: list[int] = []
    again = probes(episodes, agent=agent, hooks=HOOKS, untrained="untrained", **options,  # type: ignore[arg-type]
                   progress=lambda done, total: steps.append(total - done))
    assert steps[-1] == 0, "the world once, the agent once, the other one once"
    traced = probes(episodes, hooks=HOOKS[:1], **options)  # type: ignore[arg-type]
    key = ("share:logs", "hook_embed")
    assert again.fitted[key].value == pytest.approx(traced.fitted[key].value, abs=1e-3)
    assert set(again.untrained) == set(again.fitted) and again.untrained[key].value != again.fitted[key].value
    (table,) = again.tables()
    assert table.columns[-2:] == ("untrained", "its 95 %") and "untrained (random weights)" in table.note
    with pytest.raises(AgentError, match="no random weights"):
        probes(episodes, agent=agent, untrained="vpt-nano")


def test_what_cannot_be_probed_is_refused(episodes: list[Recording]) -> None:
    def refused(match: str, given: list[Recording] = episodes, error: type[HarnessError] = RecordingError,
                **options: object) -> None:
        with pytest.raises(error, match=match):
            probes(given, **{"hooks": HOOKS[:1], "every": 4, "controls": 0, **options})  # type: ignore[arg-type]

    refused("expected 6 episodes or more, got 5", episodes[:5])
    refused("given twice", [*episodes, episodes[0]])
    refused("--hooks 'blocks.7.hook_resid_post'", hooks=("blocks.7.hook_resid_post",))
    refused("in_view:leaves is 1 in all|in_view:leaves is no in", targets=("in_view:leaves",))
    refused("distance:villager has a value in 0 episodes", targets=("distance:villager",))
    refused("nothing to read", targets=("health",))
    refused("unknown state variable", error=HarnessError, targets=("in_veiw:logs",))
    refused("every >= 1", error=HarnessError, every=0)
    refused("numbers per picture", error=HarnessError, agent=load_agent("vpt-nano", device="cpu"),
            hooks=("cnn.stacks.0.hook_pool",))
    twin = open_recording(episodes[0].path)
    twin.header["seed"] = episodes[1].seed
    refused("expected 6 episodes or more, got 5", [twin, *episodes[1:]])
    stranger = open_recording(episodes[0].path)
    stranger.header["agent"] = {**stranger.header["agent"], "weights_digest": "another"}
    refused("different agents", [stranger, *episodes[1:]])


def test_from_the_command_line(episodes: list[Recording], tmp_path: Path) -> None:
    folder = tmp_path / "all"
    folder.mkdir()
    for number, each in enumerate(episodes):
        (folder / str(number)).symlink_to(each.path)
    run = CliRunner().invoke(cli, ["analyse", str(folder), "probes", "--set", "targets=[share:logs]", "--set",
                                   "hooks=[hook_embed]", "--set", "controls=2", "--quiet"])
    assert run.exit_code == 0, run.output
    assert "share:logs read linearly" in run.output and "6 episodes" in run.output
