"""One optimiser step: it lowers the loss, carries the memory, and refuses numbers that are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import TINY

from harness.agent.action_mapping import N_BUTTONS, N_CAMERA, to_policy
from harness.agent.vpt.policy import VPTPolicy
from harness.training.learner import Learner, draw_tokens
from harness.training.recipe import Recipe, read_recipe
from harness.training.replay_buffer import Chunk


@pytest.fixture
def recipe(tiny: Path) -> Recipe:
    return read_recipe(tiny)[1].model_copy(update={"streams": 2})


def chunk(seed: int, ticks: int = 4, first: bool = False) -> Chunk:
    rng = np.random.default_rng(seed)
    labels = np.tile(np.array(to_policy({"attack": 1})), (2, ticks, 1)).astype(np.int64)
    begins = np.zeros((2, ticks), np.bool_)
    begins[:, 0] = first
    return Chunk(rng.integers(0, 256, (2, ticks, 128, 128, 3), dtype=np.uint8), begins, labels,
                 np.tile(np.array([1, 1, 0.2, 1.0], np.float32), (2, ticks, 1)))


def test_the_loss_falls(recipe: Recipe) -> None:
    learner = Learner(TINY, recipe)
    measured = [learner.learn(chunk(i % 3), 0.01) for i in range(12)]
    assert measured[0].loss > 10
    assert measured[-1].loss < 0.6 * measured[0].loss
    assert measured[-1].attack.mean() > measured[0].attack.mean()


def test_memory_is_carried_and_detached(recipe: Recipe) -> None:
    """Two chunks see what one pass over both sees."""
    learner = Learner(TINY, recipe)
    one, two = chunk(0, first=True), chunk(1)
    learner.learn(one, 0.0)
    assert not any(k.requires_grad for k in learner.memory.keys)
    with torch.no_grad():
        out, _, _ = learner._look(two)
        frames = torch.from_numpy(np.concatenate([one.frames, two.frames], 1))
        whole, _ = learner.policy(frames, torch.from_numpy(np.concatenate([one.first, two.first], 1)),
                                  learner.policy.initial_state(2))
    torch.testing.assert_close(out.buttons, whole.buttons[:, 4:], rtol=1e-4, atol=1e-4)


def test_frozen_stacks_stay_and_the_rest_learns_the_same(recipe: Recipe) -> None:
    """From what the stacks saw a step does to the rest what a step from the pictures does, up to half precision."""
    whole, frozen = Learner(TINY, recipe), Learner(TINY, recipe)
    before = {name: weight.clone() for name, weight in frozen.policy.state_dict().items()}
    one = chunk(0, first=True)
    seen = np.stack([frozen.see(frames) for frames in one.frames])
    assert seen.dtype == np.float16 and seen.shape == (2, 4, TINY.n_flat)
    a, b = whole.learn(one, 0.0), frozen.learn(replace(one, frames=seen), 0.01)
    assert abs(a.loss - b.loss) < 1e-2
    rest = 0
    for (name, left), (_, right) in zip(whole.named_parameters(), frozen.named_parameters(), strict=True):
        if ".stacks." in name:
            assert left.grad is not None and right.grad is None
            assert torch.equal(right, before[name])
        else:
            rest += 1
            torch.testing.assert_close(right.grad, left.grad, rtol=0.05, atol=2e-3)
            assert name not in before or not torch.equal(right, before[name]) or not right.grad.any()
    assert rest > 20


def test_a_step_that_is_no_number_changes_nothing(recipe: Recipe) -> None:
    learner = Learner(TINY, recipe)
    learner.learn(chunk(0), 0.01)
    before = {name: weight.clone() for name, weight in learner.policy.state_dict().items()}
    bad = chunk(1)
    bad.hints[0, 0, 2] = np.nan
    measured = learner.learn(bad, 0.01)
    assert not measured.finite
    for name, weight in learner.policy.state_dict().items():
        assert torch.equal(weight, before[name]), name


def test_the_dense_layer_learns_more_slowly_and_the_value_head_not_at_all(recipe: Recipe) -> None:
    learner = Learner(TINY, recipe)
    start = {name: weight.clone() for name, weight in learner.policy.state_dict().items()}
    learner.learn(chunk(0), 0.01)
    moved = {name: float((weight - start[name]).abs().max()) for name, weight in learner.policy.state_dict().items()}
    assert moved["net.img_process.cnn.dense.layer.weight"] == pytest.approx(0.003, rel=0.1)
    assert moved["pi_head.buttons.linear_layer.bias"] == pytest.approx(0.01, rel=0.1)
    assert all(step == 0.0 for name, step in moved.items() if name.startswith("value_head."))


def test_bfloat16_is_close_to_float32(recipe: Recipe) -> None:
    exact, rough = (Learner(TINY, recipe.model_copy(update={"precision": p})) for p in ("float32", "bfloat16"))
    assert rough.learn(chunk(0), 0.0).loss == pytest.approx(exact.learn(chunk(0), 0.0).loss, rel=0.02)


def test_drawn_tokens_have_the_policys_own_distribution() -> None:
    buttons, camera = np.full(N_BUTTONS, -60.0, np.float32), np.full(N_CAMERA, -60.0, np.float32)
    buttons[[1, 2]], camera[[3, 4]] = np.log([0.25, 0.75]), np.log([0.5, 0.5])
    rng = np.random.default_rng(0)
    drawn = [draw_tokens(buttons, camera, rng) for _ in range(2000)]
    assert {pair[0] for pair in drawn} == {1, 2}
    assert np.mean([pair[0] == 2 for pair in drawn]) == pytest.approx(0.75, abs=0.04)
    # Button combination 2 leaves the camera switch off, combination 1 sets it.
    assert {pair[1] for pair in drawn if pair[0] == 2} == {60} and {pair[1] for pair in drawn if pair[0] == 1} == {3, 4}
    assert draw_tokens(buttons, camera, None) == (2, 60)


def test_the_policy_is_the_released_one() -> None:
    """What is trained has no parameter beyond the released names."""
    names = set(VPTPolicy.random(TINY).state_dict())
    assert not any("auxiliary" in name for name in names)
