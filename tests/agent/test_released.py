"""Names in published files become our names; what is left over, missing or contradictory is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from golden_policies import GOLDEN

from harness.agent.mineclip import MineCLIP
from harness.agent.released import CANONICAL, KINDS, belongs, convert, spell_out
from harness.agent.steve.policy import StevePolicy
from harness.agent.steve.prior import Prior
from harness.agent.vpt import SIZES
from harness.errors import WeightsError


def shapes(name: str) -> dict[str, list[int]]:
    table = json.loads((GOLDEN / f"state_dict_{name}.json").read_text())
    return {key: shape for key, (shape, _) in table.items()}


def tensors(name: str) -> dict[str, torch.Tensor]:
    """Shaped as the released file; one number stands behind each tensor."""
    return {key: torch.zeros(()).expand(shape) for key, shape in shapes(name).items()}


def test_the_tables_name_what_the_released_files_hold() -> None:
    assert set(spell_out(CANONICAL["prior"])) == set(shapes("steve1_prior"))
    names = spell_out(CANONICAL["mineclip"])
    assert len(names) == 334 and set(names) <= set(shapes("mineclip"))
    table = shapes("mineclip")
    assert sum(torch.Size(table[name]).numel() for name in names) == 158_537_730


def test_the_tables_name_what_our_models_have() -> None:
    with torch.device("meta"):
        assert set(Prior().state_dict()) == set(spell_out(CANONICAL["prior"]))
        assert set(MineCLIP().state_dict()) == set(spell_out(CANONICAL["mineclip"]))
        assert set(StevePolicy(SIZES["2x"]).state_dict()) == set(shapes("steve1"))


@pytest.mark.parametrize("prefix", ["", "policy.", "module.policy."])
@pytest.mark.parametrize(("kind", "file"), [("vpt", "vpt1x"), ("steve", "steve1")])
def test_policies_with_the_prefixes_of_training(prefix: str, kind: str, file: str) -> None:
    given = tensors(file)
    back = convert({prefix + name: tensor for name, tensor in given.items()}, kind)
    assert list(back) == list(given) and all(back[name] is given[name] for name in given)


def test_mineclips_checkpoint() -> None:
    back = convert({f"model.{name}": tensor for name, tensor in tensors("mineclip").items()}, "mineclip")
    assert set(back) == set(spell_out(CANONICAL["mineclip"]))
    assert all(list(back[name].shape) == shapes("mineclip")[name] for name in back)


@pytest.mark.parametrize("kept", ["image_encoder.", "reward_head.clip_model.vision_model.", "clip_model.vision_model."])
def test_mineclip_with_each_tower_once(kept: str) -> None:
    """Which of the copies a writer of safetensors keeps is up to it."""
    copies = ["image_encoder.", "reward_head.clip_model.vision_model.", "clip_model.vision_model."]
    given = {name: tensor for name, tensor in tensors("mineclip").items()
             if name.startswith(kept) or not name.startswith(tuple(copies))}
    assert set(convert(given, "mineclip")) == set(spell_out(CANONICAL["mineclip"]))


def test_one_file_of_the_hub_holds_all_of_steve() -> None:
    given = {**tensors("steve1"), **{f"prior.{name}": x for name, x in tensors("steve1_prior").items()},
             **{f"mineclip.{name}": x for name, x in tensors("mineclip").items()}}
    assert list(convert(given, "steve")) == list(shapes("steve1"))
    assert set(convert(given, "prior")) == set(shapes("steve1_prior"))
    assert set(convert(given, "mineclip")) == set(spell_out(CANONICAL["mineclip"]))
    for kind, n in (("steve", 136), ("prior", 20), ("mineclip", 788)):
        assert sum(belongs(name, kind) for name in given) == n


def test_copies_that_differ() -> None:
    given = tensors("mineclip")
    given["image_encoder.ln_pre.bias"] = torch.ones(768)
    with pytest.raises(WeightsError, match=r"image_encoder.ln_pre.bias and .*ln_pre.bias should be copies"):
        convert(given, "mineclip")
    given["image_encoder.ln_pre.bias"] = torch.zeros(768)
    assert len(convert(given, "mineclip")) == 334, "equal bits in two tensors are a copy"
    given["image_encoder.ln_pre.bias"] = torch.zeros(767)
    with pytest.raises(WeightsError, match="differ"):
        convert(given, "mineclip")


@pytest.mark.parametrize(("kind", "change", "words"), [
    ("vpt", {"optimizer.step": 0}, 'unexpected weight "optimizer.step"'),
    ("vpt", {"prior.encoder.0.weight": 0}, 'unexpected weight "prior.encoder.0.weight"'),
    ("steve", {"model.net.x": 0}, 'unexpected weight "model.net.x"'),
    ("prior", {"encoder.2.weight": 0}, 'unexpected weight "encoder.2.weight" (nearest: encoder.'),
    ("prior", {"encoder.0.weight": None}, 'missing weight "encoder.0.weight"'),
    ("mineclip", {"clip_model.text_model.ln_final.bias": None, "reward_head.clip_model.text_model.ln_final.bias": None},
     'missing weight "clip_model.text_model.ln_final.bias"'),
    ("mineclip", {"temporal_encoder.x": 0}, 'unexpected weight "temporal_encoder.x"'),
])
def test_left_over_and_missing(kind: str, change: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = tensors({"vpt": "vpt1x", "steve": "steve1", "prior": "steve1_prior"}.get(kind, kind))
    for name, value in change.items():
        if value is None:
            del given[name]
        else:
            given[name] = torch.zeros(1)
    with pytest.raises(WeightsError) as caught:
        convert(given, kind)
    assert words in str(caught.value) and f"weights of a {kind} model" in str(caught.value)


def test_a_file_of_another_model() -> None:
    with pytest.raises(WeightsError, match="none of the policy's weights"):
        convert({f"prior.{name}": x for name, x in tensors("steve1_prior").items()}, "steve")
    with pytest.raises(WeightsError, match=r"(?s)unexpected weight.*and \d+ more"):
        convert(tensors("mineclip"), "vpt")
    with pytest.raises(WeightsError, match='unknown kind of released model "idm"'):
        convert({}, "idm")
    assert set(KINDS) == {"vpt", "steve", "prior", "mineclip"}
