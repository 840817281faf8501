"""LinearErasure: what it takes away, what it leaves, and that nothing less would do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InterventionError
from harness.intervention import LinearErasure
from harness.intervention.build import build_intervention
from harness.intervention.intervention import Span

HOOK = "blocks.0.hook_resid_post"
SPAN = Span(range(1), (True,), np.random.default_rng, {})


def erased(made: LinearErasure, x: np.ndarray) -> np.ndarray:
    return made.change(torch.from_numpy(x.astype(np.float32)), 0, SPAN).numpy().astype(np.float64)


def sample(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Activations with a random covariance, in which a yes-no concept moves two directions."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 2, n)
    x = rng.standard_normal((n, d)) @ rng.standard_normal((d, d))
    return x + z[:, None] * rng.standard_normal(d) * 2 + 5 * rng.standard_normal(d), z


def probe(x: np.ndarray, z: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Least squares, with intercept."""
    with_one = np.concatenate([x, np.ones((len(x), 1))], 1)
    return np.concatenate([new, np.ones((len(new), 1))], 1) @ np.linalg.lstsq(with_one, z - z.mean(), rcond=1e-8)[0]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12))
def test_afterwards_nothing_is_linearly_known(seed: int, d: int) -> None:
    x, z = sample(400, d, seed)
    made = LinearErasure.fit(HOOK, x, z)
    after = erased(made, x)
    assert made.read.shape == (1, d)
    shared = (after - after.mean(0)).T @ (z - z.mean()) / len(z)
    assert np.abs(shared).max() < 1e-4 * np.abs(x).max()
    np.testing.assert_allclose(after.mean(0), x.mean(0), atol=1e-4 * np.abs(x).max())


def test_a_probe_is_at_chance_on_what_was_not_fitted() -> None:
    x, z = sample(4000, 16, 1)
    made = LinearErasure.fit(HOOK, x[:2000], z[:2000])
    before = ((probe(x[:2000], z[:2000], x[2000:]) > 0) == z[2000:]).mean()
    after = erased(made, x)
    chance = ((probe(after[:2000], z[:2000], after[2000:]) > 0) == z[2000:]).mean()
    assert before > 0.7 and abs(chance - 0.5) < 4 * 0.5 / np.sqrt(2000)


def test_it_moves_less_than_taking_the_difference_of_means_out() -> None:
    """Both leave no covariance with the concept; LEACE is the one that moves the activations least."""
    x, z = sample(4000, 8, 2)
    u = x[z == 1].mean(0) - x[z == 0].mean(0)
    # Another map that erases it: the same write direction is forced, the read direction is not.
    other = x - np.outer((x - x.mean(0)) @ u / (u @ u), u)
    after = erased(LinearErasure.fit(HOOK, x, z), x)
    assert np.abs(np.cov(other.T, z)[-1, :-1]).max() < 1e-6 * np.abs(x).max() * 10
    assert np.square(after - x).sum() < np.square(other - x).sum()
    np.testing.assert_allclose(np.linalg.matrix_rank(after - x, tol=1e-2), 1)


def test_where_nothing_is_known_nothing_changes() -> None:
    x = np.random.default_rng(0).standard_normal((50, 6))
    z = np.tile([0, 1], 50)
    made = LinearErasure.fit(HOOK, np.repeat(x, 2, 0), z)
    assert made.read.shape == (0, 6)
    assert np.array_equal(erased(made, x), x.astype(np.float32).astype(np.float64))
    assert made.control(0, None) is None  # type: ignore[arg-type]
    assert build_intervention(made.describe()) == made
    constant = LinearErasure.fit(HOOK, np.ones((20, 6)), np.tile([0, 1], 10))
    assert constant.read.shape == (0, 6)


def test_several_classes_and_silent_units() -> None:
    rng = np.random.default_rng(3)
    z = np.eye(3)[rng.integers(0, 3, 600)]
    x = rng.standard_normal((600, 10)) + z @ rng.standard_normal((3, 10))
    x[:, 4] = 0.0
    made = LinearErasure.fit(HOOK, x, z)
    after = erased(made, x)
    assert made.read.shape == (2, 10) and np.abs(after[:, 4]).max() < 1e-12
    assert np.abs((after - after.mean(0)).T @ (z - z.mean(0))).max() / 600 < 1e-5


@pytest.mark.parametrize(("x", "z", "words"), [
    (np.zeros((3, 2)), [0, 1], r"got \[3, 2\] and \[2\]"),
    (np.zeros((1, 2)), [0], "n from 2 on"),
    (np.array([[np.nan, 0], [1, 1]]), [0, 1], "NaN"),
])
def test_what_cannot_be_fitted(x: np.ndarray, z: list[int], words: str) -> None:
    with pytest.raises(InterventionError, match=words):
        LinearErasure.fit(HOOK, x, z)


def test_what_cannot_be_built() -> None:
    with pytest.raises(InterventionError, match="needs read"):
        LinearErasure(HOOK)
    with pytest.raises(InterventionError, match=r"read and write \[k, d\]"):
        LinearErasure(HOOK, read=[[1.0]], write=[[1.0, 2.0]], mean=[0.0])
    with pytest.raises(InterventionError, match="leave units out"):
        LinearErasure(HOOK, read=[[1.0]], write=[[1.0]], mean=[0.0], units=(0,))
