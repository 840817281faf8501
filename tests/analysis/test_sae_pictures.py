"""SAEs on CLIP's features of drawn pictures, by a tower made by hand: the shortcut's latent is known."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_pictures import HUE, RED, hand_made, shapes

from harness.agent.clip import CLIP
from harness.agent.sae import Sae
from harness.analysis import Suppression, read_labels, suppression_effect
from harness.analysis.labelled_pictures import LabelledPictures
from harness.analysis.sae.pictures import attribute_latents, collect_pictures
from harness.analysis.sae.recipe import SaeRecipe
from harness.analysis.sae.store import ActivationStore
from harness.analysis.sae.train import train_saes
from harness.errors import HookError, InterventionError, LabelsError, StoreError, WeightsError
from harness.intervention import SaeSplice

STREAM = "image.blocks.1.hook_resid_post"


@functools.cache
def model() -> CLIP:
    return hand_made()


@functools.cache
def by_hand() -> Sae:
    """Latents 0 and 1 are green and blue, 2 and 3 red and its opposite; the others never fire."""
    d = model().config.image.width
    directions = torch.zeros(6, d)
    directions[0, HUE], directions[1, HUE], directions[2, RED], directions[3, RED] = 1, -1, 1, -1
    directions[4, 10], directions[5, 11] = 1, 1
    bias = torch.tensor([0.0, 0, 0, 0, -9, -9])
    return Sae("relu", directions.T.contiguous(), bias, directions, torch.zeros(d),
               metadata={"hook_name": STREAM, "weights_digest": model().digest(), "model_name": "by hand"})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> LabelledPictures:
    folder = tmp_path_factory.mktemp("shapes")
    return read_labels(folder, shapes(folder, 24))


def test_a_store_of_pictures_keeps_tokens_and_labels(drawn: LabelledPictures, tmp_path: Path) -> None:
    store = collect_pictures(model(), drawn, ["blocks.1.hook_resid_post"], tmp_path / "store", batch=7)
    tokens = store.tokens(STREAM)
    assert store.n_steps == 48 and tokens.kinds() == ["CLS", *["patch"] * 16] and tokens.has_class_token
    rows = np.flatnonzero(np.array(drawn.split) == "train")
    (columns, values), = store.rows([STREAM])
    assert columns.state[:, 0].tolist() == drawn.label[rows].tolist()
    assert columns.state[:, 1].tolist() == drawn.attribute[rows].tolist()
    (seen,) = drawn.pictures(rows[:3])
    _, cache = model().run_with_cache(np.stack(seen), names_filter=STREAM)
    assert np.allclose(values[STREAM][:3 * 17], cache[STREAM].reshape(-1, tokens.width).numpy(), atol=1e-5)
    with pytest.raises(StoreError, match="there is a store already"):
        collect_pictures(model(), drawn, [STREAM], tmp_path / "store")


def test_the_shortcut_s_latents_are_found_and_their_loss_mends_the_worst_group(drawn: LabelledPictures) -> None:
    found = attribute_latents(model(), by_hand(), drawn, tokens="cls")
    assert set(found.carriers) == {0, 1} and found.null < 0.5
    off = Suppression("ground off", (SaeSplice(STREAM, sae=by_hand(), latents=found.carriers, mode="zero"),), "cls")
    beside = Suppression("others off", (SaeSplice(STREAM, sae=by_hand(), latents=(4, 5), mode="zero"),), "cls")
    mended, untouched = suppression_effect(model(), drawn, [off, beside], controls=0)
    assert mended.before.worst == 0 and mended.after.worst == 1
    assert untouched.after.worst == 0 and (untouched.after.predicted == untouched.before.predicted).all()


def test_with_a_trained_sae(drawn: LabelledPictures, tmp_path: Path) -> None:
    """The same from end to end; that the SAE learns the two grounds is not given, so they must stand out by far."""
    collect_pictures(model(), drawn, [STREAM], tmp_path / "store")
    recipe = SaeRecipe(kind="topk", expansion=1, k=2, batch=64, epochs=40, learning_rate=3e-3, dead_window=2000)
    train_saes(ActivationStore(tmp_path / "store"), tmp_path / "sae", recipe, threads=1)
    splice = SaeSplice(STREAM, sae=str(tmp_path / "sae" / STREAM))
    found = attribute_latents(model(), splice.sae.sae, drawn, tokens="cls")
    assert found.carriers
    off = Suppression("off", (SaeSplice(STREAM, sae=splice.sae.sae, latents=found.carriers, mode="zero"),), "cls")
    (effect,) = suppression_effect(model(), drawn, [off], controls=0)
    assert effect.after.worst > effect.before.worst


def test_what_does_not_fit_is_refused(drawn: LabelledPictures, tmp_path: Path) -> None:
    with pytest.raises(HookError):
        collect_pictures(model(), drawn, ["blocks.9.hook_resid_post"], tmp_path / "a")
    with pytest.raises(HookError, match="nothing for an SAE"):
        collect_pictures(model(), drawn, ["blocks.0.attn.hook_pattern"], tmp_path / "b")
    other = CLIP.random(model().config, seed=1)
    with pytest.raises(WeightsError, match="another model"):
        attribute_latents(other, by_hand(), drawn)
    with pytest.raises(InterventionError, match="trained on by hand"):
        suppression_effect(other, drawn, [Suppression("off", (SaeSplice(STREAM, sae=by_hand()),))])
    nowhere = Sae("relu", by_hand().W_enc, by_hand().b_enc, by_hand().W_dec, by_hand().b_dec)
    with pytest.raises(WeightsError, match="no known hook"):
        attribute_latents(model(), nowhere, drawn)
    alone = LabelledPictures(drawn.folder, drawn.files, drawn.classes, drawn.label, ("",), drawn.attribute * 0,
                             drawn.split, 0)
    with pytest.raises(LabelsError, match="two values"):
        attribute_latents(model(), by_hand(), alone)
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
