"""Training: known directions are found, dead latents revive, a resumed run is the same run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sparse_data import HOOK, directions, opened, sparse_sums

from harness.agent.sae import load_sae
from harness.analysis.sae.learner import SaeLearner, _Jump
from harness.analysis.sae.recipe import SaeRecipe
from harness.analysis.sae.sparse import decode_chosen, encode_chosen
from harness.analysis.sae.train import train_saes
from harness.errors import HarnessError, StoreError, TrainingError

D, M, ACTIVE = 32, 64, 4
TRUE = directions(M, D)


def learned(recipe: SaeRecipe, steps: int = 400) -> tuple[SaeLearner, dict[str, float]]:
    x = sparse_sums(TRUE, 16384, ACTIVE)
    learner = SaeLearner(recipe, x[:4096], steps)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        measured = learner.step(x[rng.integers(0, len(x), recipe.batch)])
    return learner, measured


def mean_max_cosine(learner: SaeLearner) -> float:
    found = learner.sae({}).W_dec.numpy()
    return float((TRUE @ found.T).max(1).mean())


@pytest.mark.parametrize("options", [
    {"kind": "topk", "k": ACTIVE}, {"kind": "topk", "k": ACTIVE, "tied": True}, {"kind": "batchtopk", "k": ACTIVE},
    {"kind": "relu", "sparsity": 0.1}, {"kind": "jumprelu", "sparsity": 0.03, "threshold": 0.5, "bandwidth": 0.5},
], ids=["topk", "tied", "batchtopk", "relu", "jumprelu"])
def test_known_directions_are_found(options: dict) -> None:
    recipe = SaeRecipe(expansion=2 * M / D, learning_rate=1e-2, batch=512, dead_window=20_000, **options)
    learner, measured = learned(recipe, 400 if "k" in options else 800)
    assert mean_max_cosine(learner) >= 0.95
    assert mean_max_cosine(learned(recipe, 1)[0]) < 0.8  # before it has learned, it has not found them
    sae, x = learner.sae({}), torch.from_numpy(sparse_sums(TRUE, 512, ACTIVE, seed=5))
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(sae.n_latents), atol=1e-5)
    left = (x - sae.decode(sae.encode(x))).square().sum() / (x - x.mean(0)).square().sum()
    # On new data, as exported: the scale is folded in, BatchTopK has its threshold.
    assert float(left) == pytest.approx(measured["fvu"], abs=0.03)


def test_dead_latents_revive_with_the_auxiliary_loss_and_not_without() -> None:
    def alive(aux: float) -> int:
        x = sparse_sums(TRUE, 8192, ACTIVE)
        learner = SaeLearner(SaeRecipe(k=ACTIVE, expansion=2, batch=512, aux=aux, dead_window=2000, learning_rate=1e-2),
                             x[:2048], 300)
        with torch.no_grad():
            learner.b_enc[:32] = -4.0  # half of the dictionary can never be among the largest
        for i in range(300):
            learner.step(x[(i % 16) * 512:][:512])
        return int((learner.sae({}).encode(torch.from_numpy(x))[:, :32] > 0).any(0).sum())
    assert alive(0.0) == 0
    assert alive(1.0) >= 8


def test_sparse_gradients_are_the_dense_ones() -> None:
    torch.manual_seed(0)
    x, encoder, decoder, bias = (torch.randn(*shape, dtype=torch.float64) for shape in ((7, 5), (9, 5), (9, 5), (9,)))
    grads = []
    for sparse in (True, False):
        leaves = [t.clone().requires_grad_() for t in (x, encoder, decoder, bias)]
        a, e, w, b = leaves
        if sparse:
            values, places = encode_chosen(a, e, b, 3)
            out = decode_chosen(values.relu(), places, w)
        else:
            values, places = (a @ e.T + b).topk(3, sorted=False)
            out = torch.zeros(7, 9, dtype=torch.float64).scatter(1, places, values.relu()) @ w
        out.square().sum().backward()
        grads.append([leaf.grad for leaf in leaves])
    for one, other in zip(*grads, strict=True):
        assert torch.allclose(one, other)


def test_the_jump_feels_only_what_is_near_its_threshold() -> None:
    z, theta = torch.tensor([[0.9, 1.1, 3.0]], requires_grad=True), torch.ones(3, requires_grad=True)
    out, gate = _Jump.apply(z, theta, 0.5)
    (out.sum() + 10 * gate.sum()).backward()
    assert out.tolist() == [[0.0, pytest.approx(1.1), 3.0]]
    assert z.grad.tolist() == [[0.0, 1.0, 1.0]]
    assert theta.grad.tolist() == [-22.0, -22.0, 0.0]  # -(theta + 10) / 0.5 within half of 0.5, 0 beyond


def test_a_resumed_run_is_the_same_to_the_bit(tmp_path: Path) -> None:
    x = sparse_sums(TRUE, 4000, ACTIVE)
    store = opened(tmp_path / "store", {HOOK: x, "b": -x}, shard_bytes=40_000)
    recipe = SaeRecipe(kind="batchtopk", k=ACTIVE, expansion=2, batch=100, epochs=1.5, dead_window=300)
    whole = train_saes(store, tmp_path / "whole", recipe)
    train_saes(store, tmp_path / "cut", recipe, stop_after=41)
    cut = train_saes(store, tmp_path / "cut", recipe, resume=True)
    for hook in (HOOK, "b"):
        assert load_sae(whole[hook]).digest() == load_sae(cut[hook]).digest()
    assert load_sae(whole[HOOK]).digest() != load_sae(whole["b"]).digest()
    assert (tmp_path / "whole" / "log.jsonl").read_text() == (tmp_path / "cut" / "log.jsonl").read_text()
    assert "<svg" in (tmp_path / "cut" / "curves.svg").read_text()
    with pytest.raises(TrainingError, match="another recipe"):
        train_saes(store, tmp_path / "cut", SaeRecipe(k=ACTIVE, expansion=2, batch=100), resume=True)
    with pytest.raises(TrainingError, match="run already"):
        train_saes(store, tmp_path / "cut", recipe)
    metadata = load_sae(whole[HOOK]).metadata
    assert metadata["hook_name"] == HOOK and metadata["weights_digest"] == "abc"
    assert len(metadata["held_out_episodes"]) == 1


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    store = opened(tmp_path / "store", {HOOK: sparse_sums(TRUE, 200, ACTIVE)})
    with pytest.raises(TrainingError, match="180 tokens to train on are too few for 512 latents"):
        train_saes(store, tmp_path / "out", SaeRecipe(batch=10))
    assert not (tmp_path / "out").exists()
    with pytest.raises(StoreError, match="blocks.0"):
        train_saes(store, tmp_path / "out", SaeRecipe(batch=10, expansion=1), ["blocks.0.hook_resid_pos"])
    with pytest.raises(TrainingError, match="fewer than k"):
        train_saes(store, tmp_path / "out", SaeRecipe(batch=10, expansion=0.5))
    with pytest.raises(TrainingError, match="no checkpoint"):
        train_saes(store, tmp_path / "out", SaeRecipe(batch=10, expansion=1), resume=True)
    for wrong in ({"kind": "gated"}, {"k": 0}, {"batch": -1}, {"aux": -1.0}, {"epochs": float("nan")}):
        with pytest.raises(HarnessError):
            SaeRecipe(**wrong)
    with pytest.raises(TrainingError, match="all activations are 0"):
        SaeLearner(SaeRecipe(k=1, expansion=1), np.zeros((10, 4), np.float32), 1)
