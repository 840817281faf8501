"""Splicing a sparse autoencoder: with its error it changes nothing, and of anything else it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import HEADS, WIDTH, logits, pictures, play, tiny_agent

from harness.agent.sae import Sae, save_sae
from harness.errors import InterventionError
from harness.intervention import SaeSplice
from harness.intervention.build import build_intervention
from harness.intervention.schedule import Schedule

HOOK = "blocks.0.hook_resid_post"
FRAMES = pictures(6)


def made(width: int = WIDTH, **metadata: Any) -> Sae:
    g = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(3 * width, width, generator=g))
    return Sae("topk", directions.T.contiguous(), torch.zeros(3 * width), directions,
               torch.randn(width, generator=g) / 4, k=3, metadata=metadata)


def test_with_nothing_edited_and_the_error_kept_the_outputs_are_equal() -> None:
    plain = logits(play([], FRAMES, [6])[0])
    assert np.abs(logits(play([SaeSplice(HOOK, sae=made())], FRAMES, [6])[0]) - plain).max() <= 1e-5
    # The same arithmetic must be able to fail: an edit by 0 goes the whole way, one by more does not end there.
    zero = SaeSplice(HOOK, sae=made(), latents=(2, 7), mode="add", strength=0.0)
    assert np.abs(logits(play([zero], FRAMES, [6])[0]) - plain).max() <= 1e-5
    more = SaeSplice(HOOK, sae=made(), latents=(2, 7), mode="add", strength=2.0)
    assert np.abs(logits(play([more], FRAMES, [6])[0]) - plain).max() > 1e-3
    without = SaeSplice(HOOK, sae=made(), error=False)
    assert np.abs(logits(play([without], FRAMES, [6])[0]) - plain).max() > 1e-3


@pytest.mark.parametrize(("mode", "strength", "wanted"), [
    ("replace", 4.0, [4.0, 4.0]), ("add", 1.0, [None, 1.0]), ("cap", 0.1, [0.1, 0.0]), ("floor", 9.0, [9.0, 9.0]),
    ("zero", 9.0, [0.0, 0.0]),
    ("add", -100.0, [0.0, 0.0])])
def test_an_edit_moves_along_the_directions_of_its_latents(mode: str, strength: float, wanted: list) -> None:
    sae = made()
    x = 5 * sae.W_dec[3:4] + sae.b_dec  # latent 3 fires
    latents = sae.encode(x)
    off = int((latents[0] == 0).nonzero()[0])
    edit = SaeSplice(HOOK, sae=sae, latents=(3, off), mode=mode, strength=strength)
    target = latents.clone()
    for place, value in zip((3, off), wanted, strict=True):
        target[0, place] = latents[0, place] + strength if value is None else value
    got = edit.change(x, 0, None)  # type: ignore[arg-type]
    assert torch.allclose(got, x + (target - latents) @ sae.W_dec, atol=1e-5)
    assert torch.allclose(SaeSplice(HOOK, sae=sae, latents=(3, off), mode=mode, strength=strength, error=False)
                          .change(x, 0, None), sae.decode(target), atol=1e-5)  # type: ignore[arg-type]


def test_heads_are_taken_apart_one_by_one() -> None:
    hook, agent = "blocks.0.attn.hook_z", tiny_agent()
    sae = made(WIDTH // HEADS)
    one = SaeSplice(hook, head=1, sae=sae, error=False)
    one.check(agent)
    outputs = play([one], FRAMES, [6], hooks=[hook])[0]
    plain = play([], FRAMES, [6], hooks=[hook])[0]
    for got, was in zip(outputs, plain, strict=True):
        z, before = (np.asarray(each.activations[hook]) for each in (got, was))
        assert np.array_equal(z[0], before[0])
        x = torch.from_numpy(before[1].copy())
        assert np.allclose(z[1], sae.decode(sae.encode(x)).numpy(), atol=1e-5)


def test_places_of_a_feature_map_are_steered_alone_and_at_their_time() -> None:
    hook, agent = "cnn.stacks.2.blocks.1.hook_resid_post", tiny_agent()
    channels, rows, columns = agent.hook_shapes()[hook][0]
    assert (rows, columns) == (4, 4)
    sae = made(channels)
    edit = SaeSplice(hook, sae=sae, latents=(1,), strength=3.0, positions=(0, 7), schedule=Schedule(at=(2,)))
    edit.check(agent)
    plain, got = ([np.asarray(output.activations[hook]) for output in play(stack, FRAMES, [4, 2], hooks=[hook])[0]]
                  for stack in ([], [edit]))
    for step, (was, now) in enumerate(zip(plain, got, strict=True)):
        moved = np.argwhere(np.abs(now - was).max(0) > 1e-6).tolist()
        assert moved == ([[0, 0], [1, 3]] if step == 2 else [])
    x = torch.from_numpy(plain[2][:, 1, 3].copy())
    wanted = x + (3.0 - sae.encode(x)[1]) * sae.W_dec[1]
    assert np.allclose(got[2][:, 1, 3], wanted.numpy(), atol=1e-5)
    with pytest.raises(InterventionError, match="positions 0 to 15, got 16"):
        SaeSplice(hook, sae=sae, latents=(1,), positions=(16,)).check(agent)
    with pytest.raises(InterventionError, match="has no places"):
        SaeSplice(HOOK, sae=made(), latents=(1,), positions=(0,)).check(agent)


def test_an_sae_of_something_else_is_refused() -> None:
    agent = tiny_agent()
    own = agent.provenance()["weights_digest"]
    SaeSplice(HOOK, sae=made(hook_name=HOOK, weights_digest=own)).check(agent)
    for sae, said in ((made(WIDTH + 1), "numbers on its last axis"), (made(hook_name="blocks.1.hook_resid_post"),
                      'trained on "blocks.1'), (made(hook_name=HOOK, weights_digest="0" * 64), "and .* has others")):
        with pytest.raises(InterventionError, match=said):
            SaeSplice(HOOK, sae=sae).check(agent)
    with pytest.raises(InterventionError, match="latents 0 to 47, got 48"):
        SaeSplice(HOOK, sae=made(), latents=(48,))
    for wrong in ({"mode": "rotate"}, {"strength": float("nan")}, {"error": 1}, {"latents": (-1,)}):
        with pytest.raises(InterventionError):
            SaeSplice(HOOK, **{"sae": made(), **wrong})


def test_its_description_names_the_file_and_its_numbers(tmp_path: Path) -> None:
    folder = save_sae(made(), tmp_path)
    splice = SaeSplice(HOOK, sae=str(folder), latents=(1,), mode="zero")
    again = build_intervention(splice.describe())
    assert again == splice and splice.describe()["sae"]["digest"] == made().digest()
    assert splice.control(0, tiny_agent()).latents != (1,)
    save_sae(Sae("relu", made().W_enc, made().b_enc, made().W_dec, made().b_dec), tmp_path)
    with pytest.raises(InterventionError, match="other numbers than it did"):
        build_intervention(splice.describe())
    with pytest.raises(InterventionError, match="cfg.json is missing"):
        SaeSplice(HOOK, sae=str(tmp_path / "nothing"))
