"""From the names in the files that others published to the names our models use: tables, one row a family of names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from harness.errors import WeightsError, nearest_names, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CANONICAL", "KINDS", "belongs", "convert", "spell_out"]

_BLOCK = ("{attn.in_proj_weight,attn.in_proj_bias,attn.out_proj.weight,attn.out_proj.bias,ln_1.weight,ln_1.bias,"
          "mlp.c_fc.weight,mlp.c_fc.bias,mlp.c_proj.weight,mlp.c_proj.bias,ln_2.weight,ln_2.bias}")
_ATTENTION_LAYERS = "temporal_encoder.attn.model.attn_layers.layers"

CANONICAL: dict[str, tuple[str, ...]] = {
    "prior": ("{encoder,decoder}.{0,1,3,4,6}.{weight,bias}",),
    "mineclip": (
        "clip_model.logit_scale",
        "clip_model.vision_model.{cls_token,pos_embed,projection,conv1.weight}",
        "clip_model.vision_model.{ln_pre,ln_post}.{weight,bias}",
        "clip_model.vision_model.blocks.{0..11}." + _BLOCK,
        "clip_model.text_model.{pos_embed,projection,token_embedding.weight}",
        "clip_model.text_model.ln_final.{weight,bias}",
        "clip_model.text_model.blocks.{0..11}." + _BLOCK,
        "temporal_encoder.attn.model.pos_emb.emb.weight",
        "temporal_encoder.attn.model.norm.{weight,bias}",
        _ATTENTION_LAYERS + ".{0..3}.0.0.{weight,bias}",
        _ATTENTION_LAYERS + ".{0,2}.1.{to_q,to_k,to_v,to_out}.weight",
        _ATTENTION_LAYERS + ".{1,3}.1.net.{0.proj,3}.{weight,bias}",
        "reward_head.video_residual_weight",
        "reward_head.video_adapter.{0,3}.{weight,bias}",
    ),
}
"""Every name of the two models that have one size. ``{a,b}`` and ``{0..3}`` stand for each of what they list."""

# Beginning of a name in a file -> its beginning here, or None for what belongs to another model in the same file.
# The first row that fits is taken, and the new name goes through the table again.
_VPT_ROWS: tuple[tuple[str, str | None], ...] = (
    ("module.policy.", ""),  # written by several processes
    ("policy.", ""),  # written by one
    ("net.", "net."), ("pi_head.", "pi_head."), ("value_head.", "value_head."),
)
_ROWS: dict[str, tuple[tuple[str, str | None], ...]] = {
    "vpt": _VPT_ROWS,
    # Named goals stand in files of our own only.
    "steve": (*_VPT_ROWS, ("goals.", "goals."), ("prior.", None), ("mineclip.", None)),
    "prior": (
        ("prior.", ""), ("encoder.", "encoder."), ("decoder.", "decoder."),
        ("net.", None), ("pi_head.", None), ("value_head.", None), ("mineclip.", None),
    ),
    "mineclip": (
        ("mineclip.", ""), ("model.", ""),
        # The image tower stands in the file three times and the text tower twice.
        ("image_encoder.", "clip_model.vision_model."), ("reward_head.clip_model.", "clip_model."),
        ("clip_model.", "clip_model."), ("temporal_encoder.", "temporal_encoder."), ("reward_head.", "reward_head."),
        ("net.", None), ("pi_head.", None), ("value_head.", None), ("prior.", None),
    ),
}
KINDS = tuple(_ROWS)
_SHOWN = 8


def convert(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """A model's tensors under our names, from any of the published files that hold it.

    Known are OpenAI's and STEVE-1's own files (with the ``policy.`` prefixes that training leaves), MineCLIP's
    checkpoint (``model.`` prefix), and MineStudio's safetensors, in which policy, prior and MineCLIP share one file.
    Towers that MineCLIP's file holds several times are given once, under ``clip_model.``.

    Args:
        tensors: As ``read_weights_file`` gives them.
        kind: ``vpt``, ``steve`` (the policy), ``prior`` or ``mineclip``.

    Returns:
        For ``vpt`` and ``steve`` every policy tensor (their shapes, and what is missing, are the policy's to check);
        for ``prior`` exactly 20 tensors, for ``mineclip`` 334.

    Raises:
        WeightsError: for a name that no row covers, copies that differ, and missing names.
    """
    if kind not in _ROWS:
        raise unknown_name("kind of released model", kind, KINDS, error=WeightsError)
    found: dict[str, Tensor] = {}
    origins: dict[str, str] = {}
    foreign: list[str] = []
    problems: list[str] = []
    for name, tensor in tensors.items():
        try:
            target = _renamed(name, _ROWS[kind])
        except KeyError:
            foreign.append(name)
            continue
        if target is None:
            continue
        if target not in found:
            found[target], origins[target] = tensor, name
        elif not _same(found[target], tensor):
            problems.append(f"{origins[target]} and {name} should be copies of each other, and differ")
    problems = [*_foreign(foreign, kind), *problems, *_incomplete(found, kind)]
    if problems:
        shown = problems[:_SHOWN] + ([f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else [])
        raise WeightsError(f"these are not the weights of a {kind} model:\n  " + "\n  ".join(shown),
                           hint="use the weights file that belongs to this model")
    return found


def belongs(name: str, kind: str) -> bool:
    """False for a name in a file that is known to be another model's; ``convert`` would leave it out."""
    try:
        return _renamed(name, _ROWS[kind]) is not None
    except KeyError:
        return True


def _renamed(name: str, rows: Iterable[tuple[str, str | None]]) -> str | None:
    """The canonical name, None for one that belongs to another model; KeyError where no row fits."""
    for before, after in rows:
        if name.startswith(before):
            if after is None or after == before:
                return None if after is None else name
            return _renamed(after + name.removeprefix(before), rows)
    raise KeyError(name)


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and bool(a.equal(b)))


def _foreign(names: list[str], kind: str) -> list[str]:
    beginnings = [before for before, _ in _ROWS[kind]]
    return [f'unexpected weight "{name[:100]}" (expected names that begin with {", ".join(beginnings)})'
            for name in names]


def _incomplete(found: Mapping[str, Tensor], kind: str) -> list[str]:
    if kind not in CANONICAL:
        return [] if found else ["it holds none of the policy's weights"]
    wanted = spell_out(CANONICAL[kind])
    unexpected = [name for name in found if name not in wanted]
    missing = [name for name in wanted if name not in found]
    near = {name: nearest_names(name, wanted, n=1) for name in unexpected[:_SHOWN]}
    return [*(f'unexpected weight "{name}"' + (f" (nearest: {near[name][0]})" if near.get(name) else "")
              for name in unexpected), *(f'missing weight "{name}"' for name in missing)]


def spell_out(patterns: Iterable[str]) -> dict[str, None]:
    """Every name that patterns with ``{a,b}`` and ``{0..3}`` stand for, in order."""
    names: dict[str, None] = {}
    for pattern in patterns:
        pieces = re.split(r"(\{[^}]*\})", pattern)
        names |= dict.fromkeys("".join(words) for words in itertools.product(*map(_choices, pieces)))
    return names


def _choices(piece: str) -> list[str]:
    if not piece.startswith("{"):
        return [piece]
    numbers = re.fullmatch(r"\{(\d+)\.\.(\d+)\}", piece)
    return [str(i) for i in range(int(numbers[1]), int(numbers[2]) + 1)] if numbers else piece[1:-1].split(",")
