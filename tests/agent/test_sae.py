"""Sparse autoencoders: arithmetic, and files that SAELens and this project exchange."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.agent.sae import Sae, load_sae, save_sae
from harness.errors import WeightsError


def made(activation: str, d: int = 6, m: int = 20, **changes: object) -> Sae:
    g = torch.Generator().manual_seed(0)
    directions = torch.randn(m, d, generator=g)
    directions /= directions.norm(dim=1, keepdim=True)
    parts = {"W_enc": torch.randn(d, m, generator=g), "b_enc": torch.randn(m, generator=g) / 4, "W_dec": directions,
             "b_dec": torch.randn(d, generator=g), "k": 3 if activation == "topk" else None,
             "threshold": torch.rand(m, generator=g) if activation == "jumprelu" else None,
             "metadata": {"hook_name": "blocks.0.hook_resid_post", "model_name": "made-up"}}
    return Sae(activation, **{**parts, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("activation", ["topk", "relu", "jumprelu"])
def test_latents_are_those_of_the_formula(activation: str) -> None:
    sae, x = made(activation), torch.randn(5, 6)
    latents = sae.encode(x)
    for row, found in zip(x, latents, strict=True):
        pre = [float((row - sae.b_dec) @ sae.W_enc[:, j] + sae.b_enc[j]) for j in range(20)]
        least = {"topk": sorted(pre)[-3], "relu": 0.0, "jumprelu": -1.0}[activation]
        for j, value in enumerate(pre):
            on = value > max(0.0, float(sae.threshold[j])) if sae.threshold is not None else value >= least
            assert float(found[j]) == pytest.approx(max(value, 0.0) if on else 0.0, abs=1e-5)
    assert torch.allclose(sae.decode(latents), latents @ sae.W_dec + sae.b_dec)
    out, cache = sae.run_with_cache(x)
    assert torch.allclose(out + cache["sae.blocks.0.hook_resid_post.hook_error"], x, atol=1e-4)
    assert [name.rpartition(".")[2] for name in cache] == [
        "hook_sae_in", "hook_hidden_pre", "hook_hidden_post", "hook_sae_out", "hook_error"]


@pytest.mark.parametrize("activation", ["topk", "relu", "jumprelu"])
def test_written_and_read_it_is_the_same(activation: str, tmp_path: Path) -> None:
    sae = made(activation)
    again = load_sae(save_sae(sae, tmp_path / "x"))
    assert again.digest() == sae.digest() and again.hook == sae.hook
    assert sae.digest() != made(activation, b_dec=torch.zeros(6)).digest()


def test_other_ways_of_writing_the_same_sae(tmp_path: Path) -> None:
    """SAELens' training form weighs by decoder norms, and old SAEs leave b_dec in what goes in: both fold exactly."""
    sae, x = made("topk"), torch.randn(40, 6)
    norm = torch.rand(20) + 0.5
    tensors = {"W_enc": sae.W_enc / norm, "b_enc": sae.b_enc / norm, "W_dec": sae.W_dec * norm[:, None],
               "b_dec": sae.b_dec}
    save_sae(sae, tmp_path)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "sae_weights.safetensors")
    change(tmp_path, rescale_acts_by_decoder_norm=True)
    assert torch.allclose(load_sae(tmp_path).encode(x), sae.encode(x), atol=1e-4)
    other = made("relu", b_enc=sae.b_enc - sae.b_dec @ sae.W_enc)
    save_sae(other, tmp_path / "b")
    change(tmp_path / "b", apply_b_dec_to_input=False)
    assert torch.allclose(load_sae(tmp_path / "b").encode(x), made("relu").encode(x), atol=1e-4)


def change(folder: Path, **values: object) -> None:
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps({**config, **values}))


@pytest.mark.parametrize(("values", "said"), [
    ({"architecture": "gated"}, "gated"), ({"normalize_activations": "layer_norm"}, "normalize_activations"),
    ({"reshape_activations": "hook_z"}, "reshape_activations"), ({"d_in": 7}, "cfg.json says 7"), ({"k": 99}, "k = 99"),
    ({"activation_fn_str": "relu"}, "before version 6"), ({"metadata": 3}, "no mapping"),
])
def test_what_is_not_read_is_named(values: dict, said: str, tmp_path: Path) -> None:
    save_sae(made("topk"), tmp_path)
    change(tmp_path, **values)
    with pytest.raises(WeightsError, match=said):
        load_sae(tmp_path)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cfg.json is missing"):
        load_sae(tmp_path)
    save_sae(made("topk"), tmp_path)
    (tmp_path / "cfg.json").write_text("{")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_sae(tmp_path)
    save_sae(made("relu"), tmp_path)
    save_file({"W_enc": torch.zeros(6, 20)}, tmp_path / "sae_weights.safetensors")
    with pytest.raises(WeightsError, match="expected the tensors"):
        load_sae(tmp_path)
    with pytest.raises(WeightsError, match="NaN"):
        made("relu", b_dec=torch.full((6,), float("nan")))


@pytest.mark.parametrize("activation", ["topk", "relu", "jumprelu"])
def test_sae_lens_reads_ours_and_we_read_theirs(activation: str, tmp_path: Path) -> None:
    """With sae-lens installed (the extra "saelens"); a copy of its own is best, it brings 90 packages."""
    sae_lens = pytest.importorskip("sae_lens", exc_type=ImportError)
    sae, x = made(activation), torch.randn(50, 6)
    theirs = sae_lens.SAE.load_from_disk(save_sae(sae, tmp_path / "ours"))
    assert torch.allclose(theirs.encode(x), sae.encode(x), atol=1e-5)
    assert torch.allclose(theirs(x), sae.decode(sae.encode(x)), atol=1e-5)
    assert theirs.cfg.metadata.hook_name == sae.hook
    theirs.save_model(tmp_path / "theirs")
    again = load_sae(tmp_path / "theirs")
    assert again.digest() == sae.digest() and again.hook == sae.hook


@pytest.mark.parametrize("kind", ["TopK", "BatchTopK", "Standard", "JumpReLU"])
def test_what_sae_lens_has_trained_is_read(kind: str, tmp_path: Path) -> None:
    sae_lens = pytest.importorskip("sae_lens", exc_type=ImportError)
    chosen = {"k": 3} if "TopK" in kind else {}
    trainer = getattr(sae_lens, f"{kind}TrainingSAE")(
        getattr(sae_lens, f"{kind}TrainingSAEConfig")(d_in=6, d_sae=20, **chosen))
    with torch.no_grad():
        trainer.W_dec *= torch.rand(20, 1) + 0.5
    trainer.save_inference_model(tmp_path)
    theirs, ours, x = sae_lens.SAE.load_from_disk(tmp_path), load_sae(tmp_path), torch.randn(50, 6)
    assert torch.allclose(theirs(x), ours.decode(ours.encode(x)), atol=1e-5)
