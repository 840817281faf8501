"""Names of latents: a planted one is found and holds, and of states that mean nothing few are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sparse_data import HOOK, make_store
from test_sae_evaluate import identity

from harness.analysis.sae.naming import name_latents
from harness.analysis.sae.store import ActivationStore
from harness.errors import StoreError
from harness.statistics import auroc, mutual_information

EPISODES, LONG, WIDTH = 24, 30, 12


def slow(rng: np.random.Generator, columns: int) -> np.ndarray:
    """Series of each episode that wander: neighbouring steps say nearly the same, [n, column]."""
    steps = rng.standard_normal((EPISODES, LONG, columns))
    for t in range(1, LONG):
        steps[:, t] = 0.95 * steps[:, t - 1] + 0.3 * steps[:, t]
    return steps.reshape(-1, columns).astype(np.float32)


def stored(folder: Path, seed: int, *, planted: bool) -> ActivationStore:
    rng = np.random.default_rng(seed)
    x, state = slow(rng, WIDTH), slow(rng, 1)[:, 0] > 0
    if planted:
        x[:, 3] = np.where(state, np.abs(x[:, 3]), -np.abs(x[:, 3]))
    make_store(folder, {HOOK: x}, episodes=EPISODES, state=state.astype(np.float32))
    return ActivationStore(folder)


def test_a_planted_latent_is_named_and_holds(tmp_path: Path) -> None:
    found = name_latents(identity(WIDTH), stored(tmp_path, 0, planted=True))
    best = {name.latent: name for name in found.names[:2]}
    assert set(best) == {3, WIDTH + 3}  # relu(x) and relu(-x)
    assert best[3].auroc == 1.0 and best[WIDTH + 3].auroc == 0.0
    assert best[3].held and best[3].q <= 0.05 and best[3].information > 0.9
    assert found.n_latents == 2 * WIDTH and found.episodes == (12, 12)
    assert found.tables()[0].rows[0][1] == "a" and "random weights" in found.tables()[0].note
    assert found == name_latents(identity(WIDTH), ActivationStore(tmp_path))


def test_of_states_that_mean_nothing_few_latents_are_named(tmp_path: Path) -> None:
    # Each store's state is unrelated to all of its latents, so every store that names one has made a false discovery.
    wrong = [bool(name_latents(identity(WIDTH), stored(tmp_path / str(seed), seed, planted=False), draws=99).names)
             for seed in range(1, 31)]
    assert sum(wrong) <= 5  # 5 % of 30 is 1.5; more than 5 come with chance 0.003


def test_steps_that_are_taken_as_independent_would_name_many() -> None:
    """The control of the test above: without regard to episodes the same data give many false names."""
    wrong = 0
    for seed in range(1, 5):
        rng = np.random.default_rng(seed)
        x, labels = slow(rng, WIDTH), slow(rng, 1)[:, 0] > 0
        for column in x.T:
            null = [abs(auroc(column, rng.permutation(labels)) - 0.5) for _ in range(99)]
            wrong += abs(auroc(column, labels) - 0.5) > max(null)
    assert wrong >= 5  # of 48, where half a one is expected


def test_the_numbers() -> None:
    assert auroc([1, 2, 3, 4], [0, 0, 1, 1]) == 1 and auroc([1, 2, 3, 4], [1, 0, 0, 0]) == 0
    assert auroc([0, 0, 0, 1], [0, 1, 0, 1]) == 0.75 and np.isnan(auroc([1, 2], [1, 1]))
    assert mutual_information([0, 1, 0, 1], [0, 1, 0, 1]) == 1 and mutual_information([0, 1, 0, 1], [0, 0, 1, 1]) == 0
    quarter = mutual_information([1, 0, 0, 0], [1, 0, 0, 0])
    assert quarter == pytest.approx(0.811278, abs=1e-6)


def test_what_cannot_be_named_is_said(tmp_path: Path) -> None:
    x, state = np.ones((60, 2), np.float32), np.arange(60) % 2.0
    few = tmp_path / "few"
    make_store(few, {HOOK: x}, episodes=6, state=state)
    with pytest.raises(StoreError, match="6 episodes are too few"):
        name_latents(identity(), ActivationStore(few))
    make_store(tmp_path / "none", {HOOK: x}, episodes=10)
    with pytest.raises(StoreError, match="no state of the world"):
        name_latents(identity(), ActivationStore(tmp_path / "none"))
    make_store(tmp_path / "same", {HOOK: x}, episodes=10, state=np.zeros(60))
    same = name_latents(identity(), ActivationStore(tmp_path / "same"))
    assert same.constant == ("a",) and not same.names
    with pytest.raises(StoreError, match="blocks.0.hook_resid_post"):
        name_latents(identity(hook_name="blocks.1.hook_resid_post"), ActivationStore(tmp_path / "same"))
