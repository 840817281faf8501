"""The measures of an SAE, at values worked out by hand; an agent's loss when its activation is replaced."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sparse_data import AGENT, HOOK, opened

from harness.agent.sae import Sae
from harness.analysis.sae.evaluate import LossRecovered, fit_chart, measure_tokens, sae_fit
from harness.analysis.sae.tokens import Tokens
from harness.errors import StoreError


def identity(d: int = 2, *, gain: float = 1.0, dead: int = 0, **metadata: object) -> Sae:
    """x = relu(x) - relu(-x), with as many latents beside that nothing can fire."""
    both = torch.cat([torch.eye(d), -torch.eye(d), torch.zeros(dead, d)])
    bias = torch.cat([torch.zeros(2 * d), -torch.ones(dead)])
    return Sae("relu", both.T.contiguous(), bias, gain * both, torch.zeros(d),
               metadata={"hook_name": HOOK, "weights_digest": AGENT["weights_digest"], **metadata})


def test_the_measures_of_single_tokens() -> None:
    x = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]])
    found = measure_tokens(x, np.array([[3.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
                           np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]), np.array([0.0, 0.0]))
    assert found[0].tolist() == [16.0, 25.0, 0.64, 0.6, 2.0]
    assert found[1].tolist() == [2.0, 1.0, 2.0, 0.0, 0.0]
    assert found[2][0] == 2.0 and np.isnan(found[2][2:4]).all() and found[2][4] == 1.0


def test_a_store_is_measured_as_worked_out(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((400, 2)).astype(np.float32) + 5
    store = opened(tmp_path, {HOOK: x})
    fit = sae_fit([identity(dead=3)], store)
    (kind,) = fit.kinds
    assert kind.explained == pytest.approx(1) and kind.fvu == pytest.approx(0, abs=1e-9)
    assert kind.cosine == pytest.approx(1) and kind.l0 == 2 and (kind.n_tokens, kind.n_episodes) == (400, 10)
    assert fit.alive[HOOK] == (2, 7)
    half = sae_fit([identity(gain=0.5)], store).kinds[0]
    rest = ((0.5 * x) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
    assert half.explained == pytest.approx(1 - rest, rel=1e-4) and half.explained < 0
    assert half.explained_interval.low < half.explained < half.explained_interval.high
    assert half.cosine == pytest.approx(1)  # a factor turns nothing
    assert "random weights" in fit.tables()[0].note and "<svg" in fit_chart(fit)


def test_token_types_are_measured_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 5, 2)).astype(np.float32)
    x[:, 0] = np.abs(x[:, 0]) * 100  # the class token
    x[:, 3] = 0  # one patch that nothing fires for
    store = opened(tmp_path, {HOOK: x}, tokens=Tokens(("p",), (5,), 2))
    fit = sae_fit([identity()], store)
    assert [(k.kind, k.n_tokens) for k in fit.kinds] == [("CLS", 100), ("patch", 400)]
    assert fit.kinds[0].l0 == 2 and fit.kinds[1].l0 == 1.5
    assert fit.places[HOOK].tolist() == [[2, 2], [0, 2]]


def test_alive_has_a_window_and_a_threshold(tmp_path: Path) -> None:
    x = np.ones((100, 2), np.float32)
    x[50:, 1] = 0
    x[99, 1] = 1
    store = opened(tmp_path, {HOOK: x})
    assert sae_fit([identity()], store, window=100).alive[HOOK] == (2, 4)
    assert sae_fit([identity()], store, window=50, least=0.1).alive[HOOK] == (1, 4)
    assert sae_fit([identity()], store, window=1, least=0.1).alive[HOOK] == (2, 4)


def test_only_held_out_episodes_are_measured(tmp_path: Path) -> None:
    store = opened(tmp_path, {HOOK: np.ones((100, 2), np.float32)})
    held = [dict(store.episodes[3]), dict(store.episodes[4])]
    assert sae_fit([identity(held_out_episodes=held)], store).kinds[0].n_tokens == 20
    assert sae_fit([identity(held_out_episodes=held)], store, held_out=False).kinds[0].n_tokens == 100
    with pytest.raises(StoreError, match="none of the episodes"):
        sae_fit([identity(held_out_episodes=[{"seed": 77}])], store)


@pytest.mark.parametrize(("sae", "said"), [
    (identity(hook_name="blocks.1.hook_resid_post"), "blocks.0.hook_resid_post"), (identity(3), "2 wide in the store"),
    (identity(weights_digest="other"), "trained on"), (identity(hook_name=None), "does not say which hook"),
])
def test_an_sae_of_something_else_is_refused(sae: Sae, said: str, tmp_path: Path) -> None:
    store = opened(tmp_path, {HOOK: np.ones((100, 2), np.float32)})
    with pytest.raises(StoreError, match=said):
        sae_fit([sae], store)


def test_the_share_of_a_loss_that_is_recovered() -> None:
    kl = (np.tile([0.1, 0.5, 0.2], (40, 1)), np.tile([0.3, 0.9, 0.2], (40, 1)))
    ce = tuple(np.column_stack([np.full(40, 1.0), 1 + each]) for each in kl)
    found = LossRecovered({}, HOOK, 80, 2, kl, ce, "made-up")
    share, interval, span = found.recovered()
    assert share == pytest.approx((0.7 - 0.2) / 0.7) and span == pytest.approx(0.7)
    assert interval.low == pytest.approx(2 / 3) and interval.high == pytest.approx(0.8)
    assert found.recovered("ce")[0] == pytest.approx(share)
    nothing = LossRecovered({}, HOOK, 40, 1, (np.zeros((40, 3)),), (), "made-up")
    assert math.isnan(nothing.recovered()[0]) and len(nothing.tables()[0].rows) == 1
