"""CLIP's parameters, and the arithmetic of its two towers, each with a hook point at every step.

Modules hold parameters and functions compute. Parameters have the names that MineCLIP's released file gives its own
two towers, which are CLIP's; MineCLIP computes with the functions here. ``files`` brings other files' names into these.

Sources of the formulas: CLIP's paper (Radford et al. 2021, section 2.4), the Vision Transformer (Dosovitskiy et al.
2021) and the released code (openai/CLIP, clip/model.py), read and written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.agent.clip.config import Activation, CLIPConfig, Tower
from harness.agent.hooks import HookStack

__all__ = ["Branch", "See", "attend", "clip_tree", "image_tower", "norm", "normalise", "seer", "text_tower",
           "unit_length"]

EPS = 1e-5
See = Callable[[str, Tensor], Tensor]


class Branch(nn.Module):
    """A name in the tree with parameters and children."""

    def __init__(self, parameters: dict[str, tuple[int, ...]] | None = None, **children: nn.Module) -> None:
        super().__init__()
        for name, shape in (parameters or {}).items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))
        for name, child in children.items():
            self.add_module(name, child)


def norm(d: int) -> nn.LayerNorm:
    """A layer norm over ``d`` units, not yet filled."""
    return nn.LayerNorm(d, eps=EPS)


def _block(tower: Tower) -> Branch:
    d = tower.width
    attention = Branch({"in_proj_weight": (3 * d, d), "in_proj_bias": (3 * d,)}, out_proj=nn.Linear(d, d))
    return Branch(attn=attention, ln_1=norm(d),
                  mlp=Branch(c_fc=nn.Linear(d, tower.d_mlp), c_proj=nn.Linear(tower.d_mlp, d)), ln_2=norm(d))


def _blocks(tower: Tower) -> nn.ModuleList:
    return nn.ModuleList([_block(tower) for _ in range(tower.n_blocks)])


def clip_tree(config: CLIPConfig) -> Branch:
    """``logit_scale``, ``vision_model`` and ``text_model``, not yet filled."""
    d = config.image.width
    vision = Branch({"cls_token": (d,), "pos_embed": (config.n_image_tokens, d), "projection": (d, config.d_embed)},
                    conv1=nn.Conv2d(3, d, config.patch, stride=config.patch, bias=False), ln_pre=norm(d),
                    blocks=_blocks(config.image), ln_post=norm(d))
    d = config.text.width
    text = Branch({"pos_embed": (config.context, d), "projection": (d, config.d_embed)},
                  token_embedding=nn.Embedding(config.n_tokens, d), blocks=_blocks(config.text), ln_final=norm(d))
    return Branch({"logit_scale": ()}, vision_model=vision, text_model=text)


def normalise(x: Tensor, by: Any) -> Tensor:
    """Layer norm with the parameters of ``by``."""
    return F.layer_norm(x, by.normalized_shape, by.weight, by.bias, EPS)


def unit_length(x: Tensor) -> Tensor:
    """Rows [..., d] at length 1."""
    return F.normalize(x, dim=-1)


def seer(hooks: HookStack, prefix: str) -> See:
    """``see(name, x)``: what listeners at ``prefix + name`` leave of ``x``."""
    def see(name: str, x: Tensor) -> Tensor:
        full = prefix + name
        return hooks.apply(full, x) if full in hooks.listeners else x
    return see


def attend(q: Tensor, k: Tensor, v: Tensor, d_head: int, mask: Tensor | None, see: See) -> Tensor:
    """Dot-product attention over the last axes but one; q, k, v are [..., n, d], heads not split.

    Scores are divided by the root of the head's width (unlike VPT's). Returns z [..., n, d].
    """
    heads = q.shape[-1] // d_head
    q, k, v = (see(f"attn.hook_{name}", x.reshape(*x.shape[:-1], heads, d_head)) for name, x in
               (("q", q), ("k", k), ("v", v)))
    scores = torch.matmul(q.transpose(-3, -2) * d_head**-0.5, k.transpose(-3, -2).transpose(-2, -1))
    if mask is not None:
        scores = scores.masked_fill(mask, float("-inf"))
    pattern = see("attn.hook_pattern", torch.softmax(see("attn.hook_attn_scores", scores), -1))
    z = torch.matmul(pattern, v.transpose(-3, -2)).transpose(-3, -2)
    return see("attn.hook_z", z).flatten(-2)


def _activate(x: Tensor, activation: Activation) -> Tensor:
    return x * torch.sigmoid(1.702 * x) if activation == "quick_gelu" else F.gelu(x)


def _block_forward(block: Any, x: Tensor, d_head: int, activation: Activation, mask: Tensor | None, see: See) -> Tensor:
    """One pre-norm block: ``m = x + attn(LN(x)); out = m + mlp(LN(m))``."""
    x = see("hook_resid_pre", x)
    y = see("ln1.hook_normalized", normalise(x, block.ln_1))
    q, k, v = F.linear(y, block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, -1)
    z = attend(q, k, v, d_head, mask, see)
    out = see("hook_attn_out", F.linear(z, block.attn.out_proj.weight, block.attn.out_proj.bias))
    middle = see("hook_resid_mid", x + out)
    y = see("ln2.hook_normalized", normalise(middle, block.ln_2))
    hidden = see("mlp.hook_pre", F.linear(y, block.mlp.c_fc.weight, block.mlp.c_fc.bias))
    hidden = see("mlp.hook_post", _activate(hidden, activation))
    out = see("hook_mlp_out", F.linear(hidden, block.mlp.c_proj.weight, block.mlp.c_proj.bias))
    return see("hook_resid_post", middle + out)


def image_tower(tree: Any, pictures: Tensor, config: CLIPConfig, hooks: HookStack) -> Tensor:
    """Pictures uint8 [..., H, W, 3] to features [..., d_embed].

    The class token's last state, normalised and projected; neither here nor later is anything brought to unit length.

    Args:
        tree: Of ``clip_tree``.
        pictures: Of the tower's size; any axes may stand first.
        config: Sizes.
        hooks: Who listens at ``image.*``.
    """
    tower, see = tree.vision_model, seer(hooks, "image.")
    mean, std = (pictures.new_tensor(x, dtype=tower.projection.dtype) for x in (config.pixel_mean, config.pixel_std))
    x = see("hook_image", ((pictures.to(mean.dtype) / 255.0 - mean) / std).movedim(-1, -3))
    lead: Sequence[int] = x.shape[:-3]
    patches = F.conv2d(x.reshape(-1, *x.shape[-3:]), tower.conv1.weight, stride=config.patch).flatten(2).transpose(1, 2)
    patches = see("hook_embed", patches.reshape(*lead, *patches.shape[1:]))
    x = torch.cat((tower.cls_token.expand(*lead, 1, -1), patches), -2) + tower.pos_embed
    x = normalise(see("hook_full_embed", x), tower.ln_pre)
    for i, block in enumerate(tower.blocks):
        x = _block_forward(block, x, config.image.d_head, config.activation, None, seer(hooks, f"image.blocks.{i}."))
    x = see("ln_final.hook_normalized", normalise(x[..., 0, :], tower.ln_post))
    return see("hook_out", x @ tower.projection)


def text_tower(tree: Any, tokens: Tensor, config: CLIPConfig, hooks: HookStack) -> Tensor:
    """Tokens int64 [b, 77] to text embeddings [b, d_embed], read at each prompt's end mark (its largest token).

    Args:
        tree: Of ``clip_tree``.
        tokens: From ``prompt_tokens``.
        config: Sizes.
        hooks: Who listens at ``text.*``.
    """
    tower, see = tree.text_model, seer(hooks, "text.")
    x = see("hook_embed", F.embedding(tokens, tower.token_embedding.weight))
    x = see("hook_full_embed", x + tower.pos_embed)
    n = tokens.shape[1]
    future = torch.ones(n, n, dtype=torch.bool, device=tokens.device).triu(1)
    for i, block in enumerate(tower.blocks):
        x = _block_forward(block, x, config.text.d_head, config.activation, future, seer(hooks, f"text.blocks.{i}."))
    x = see("ln_final.hook_normalized", normalise(x, tower.ln_final))
    ends = x[torch.arange(len(x), device=x.device), tokens.argmax(-1)]
    return see("hook_out", ends @ tower.projection)
