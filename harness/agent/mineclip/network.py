"""MineCLIP's parameters under the released names, and the arithmetic of its three parts.

As in the policy, modules hold parameters and functions compute. The released file has the image tower three times and
the text tower twice; here each is there once, under its ``clip_model.`` name.

Sources of the formulas: the released MineCLIP code (MineDojo/MineCLIP, mineclip/), CLIP's paper (Radford et al. 2021),
and the x-transformers encoder that MineCLIP's temporal part is made of; read and written anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.agent.hooks import HookStack
from harness.agent.mineclip.config import EMBED, MineCLIPConfig

__all__ = ["adapt_video", "build_tree", "image_tower", "temporal_encoder", "text_tower"]

EPS = 1e-5
PIXEL_MEAN = (0.3331, 0.3245, 0.3051)
PIXEL_STD = (0.2439, 0.2493, 0.2873)

_QKVO = ("to_q", "to_k", "to_v", "to_out")
See = Callable[[str, Tensor], Tensor]


class Branch(nn.Module):
    """A name in the tree with parameters and children."""

    def __init__(self, parameters: dict[str, tuple[int, ...]] | None = None, **children: nn.Module) -> None:
        super().__init__()
        for name, shape in (parameters or {}).items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))
        for name, child in children.items():
            self.add_module(name, child)


def _norm(d: int) -> nn.LayerNorm:
    return nn.LayerNorm(d, eps=EPS)


def _clip_block(d: int) -> Branch:
    attention = Branch({"in_proj_weight": (3 * d, d), "in_proj_bias": (3 * d,)}, out_proj=nn.Linear(d, d))
    return Branch(attn=attention, ln_1=_norm(d), mlp=Branch(c_fc=nn.Linear(d, 4 * d), c_proj=nn.Linear(4 * d, d)),
                  ln_2=_norm(d))


def _clip_blocks(n: int, d: int) -> nn.ModuleList:
    return nn.ModuleList([_clip_block(d) for _ in range(n)])


def _temporal_layers(config: MineCLIPConfig) -> nn.ModuleList:
    """Attention and MLP in turn, each as ([norm], layer): names such as ``layers.0.1.to_q``, ``layers.1.1.net.3``."""
    layers = []
    for _ in range(config.temporal_blocks):
        attention = Branch(None, **{name: nn.Linear(EMBED, EMBED, bias=False) for name in _QKVO})
        inner = config.d_temporal_mlp
        mlp = Branch(net=nn.ModuleDict({"0": Branch(proj=nn.Linear(EMBED, 2 * inner)), "3": nn.Linear(inner, EMBED)}))
        layers += [nn.ModuleList([nn.ModuleList([_norm(EMBED)]), part]) for part in (attention, mlp)]
    return nn.ModuleList(layers)


def build_tree(config: MineCLIPConfig) -> dict[str, nn.Module]:
    """The three top-level modules, not yet filled: ``clip_model``, ``temporal_encoder``, ``reward_head``."""
    d, patch = config.image_width, config.patch
    vision = Branch({"cls_token": (d,), "pos_embed": (config.n_patch_tokens, d), "projection": (d, EMBED)},
                    conv1=nn.Conv2d(3, d, patch, stride=patch, bias=False), ln_pre=_norm(d),
                    blocks=_clip_blocks(config.image_blocks, d), ln_post=_norm(d))
    d = config.text_width
    text = Branch({"pos_embed": (config.context, d), "projection": (d, EMBED)},
                  token_embedding=nn.Embedding(config.n_tokens, d), blocks=_clip_blocks(config.text_blocks, d),
                  ln_final=_norm(d))
    encoder = Branch(pos_emb=Branch(emb=nn.Embedding(config.positions, EMBED)),
                     attn_layers=Branch(layers=_temporal_layers(config)), norm=_norm(EMBED))
    adapter = nn.ModuleDict({"0": nn.Linear(EMBED, EMBED), "3": nn.Linear(EMBED, EMBED)})
    return {
        "clip_model": Branch({"logit_scale": ()}, vision_model=vision, text_model=text),
        "temporal_encoder": Branch(attn=Branch(model=encoder)),
        "reward_head": Branch({"video_residual_weight": ()}, video_adapter=adapter),
    }


def _normalise(x: Tensor, norm: Any) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, EPS)


def _seer(hooks: HookStack, prefix: str) -> See:
    def see(name: str, x: Tensor) -> Tensor:
        full = prefix + name
        return hooks.apply(full, x) if full in hooks.listeners else x
    return see


def _attend(q: Tensor, k: Tensor, v: Tensor, d_head: int, mask: Tensor | None, see: See) -> Tensor:
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


def _clip_block_forward(block: Any, x: Tensor, d_head: int, mask: Tensor | None, see: See) -> Tensor:
    """One pre-norm block of CLIP: ``m = x + attn(LN(x)); out = m + mlp(LN(m))`` with x * sigmoid(1.702 x)."""
    x = see("hook_resid_pre", x)
    y = see("ln1.hook_normalized", _normalise(x, block.ln_1))
    q, k, v = F.linear(y, block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, -1)
    z = _attend(q, k, v, d_head, mask, see)
    out = see("hook_attn_out", F.linear(z, block.attn.out_proj.weight, block.attn.out_proj.bias))
    middle = see("hook_resid_mid", x + out)
    y = see("ln2.hook_normalized", _normalise(middle, block.ln_2))
    hidden = see("mlp.hook_pre", F.linear(y, block.mlp.c_fc.weight, block.mlp.c_fc.bias))
    hidden = see("mlp.hook_post", hidden * torch.sigmoid(1.702 * hidden))
    out = see("hook_mlp_out", F.linear(hidden, block.mlp.c_proj.weight, block.mlp.c_proj.bias))
    return see("hook_resid_post", middle + out)


def image_tower(tree: Any, frames: Tensor, config: MineCLIPConfig, hooks: HookStack) -> Tensor:
    """Frames uint8 [b, t, H, W, 3] to frame features [b, t, 512].

    The class token's last state, normalised and projected; neither here nor later is anything brought to unit length.
    """
    tower, see = tree.vision_model, _seer(hooks, "image.")
    mean, std = (frames.new_tensor(x, dtype=tower.projection.dtype) for x in (PIXEL_MEAN, PIXEL_STD))
    x = see("hook_image", ((frames.to(mean.dtype) / 255.0 - mean) / std).movedim(-1, 2))
    b, t = x.shape[:2]
    patches = F.conv2d(x.flatten(0, 1), tower.conv1.weight, stride=config.patch).flatten(2).transpose(1, 2)
    patches = see("hook_embed", patches.reshape(b, t, *patches.shape[1:]))
    x = torch.cat((tower.cls_token.expand(b, t, 1, -1), patches), 2) + tower.pos_embed
    x = _normalise(see("hook_full_embed", x), tower.ln_pre)
    for i, block in enumerate(tower.blocks):
        x = _clip_block_forward(block, x, config.d_head, None, _seer(hooks, f"image.blocks.{i}."))
    x = see("ln_final.hook_normalized", _normalise(x[:, :, 0], tower.ln_post))
    return see("hook_out", x @ tower.projection)


def text_tower(tree: Any, tokens: Tensor, config: MineCLIPConfig, hooks: HookStack) -> Tensor:
    """Tokens int64 [b, 77] to text embeddings [b, 512], read at each prompt's end mark (its largest token)."""
    tower, see = tree.text_model, _seer(hooks, "text.")
    x = see("hook_embed", F.embedding(tokens, tower.token_embedding.weight))
    x = see("hook_full_embed", x + tower.pos_embed)
    n = tokens.shape[1]
    future = torch.ones(n, n, dtype=torch.bool, device=tokens.device).triu(1)
    for i, block in enumerate(tower.blocks):
        x = _clip_block_forward(block, x, config.d_head, future, _seer(hooks, f"text.blocks.{i}."))
    x = see("ln_final.hook_normalized", _normalise(x, tower.ln_final))
    ends = x[torch.arange(len(x), device=x.device), tokens.argmax(-1)]
    return see("hook_out", ends @ tower.projection)


def temporal_encoder(tree: Any, features: Tensor, config: MineCLIPConfig, hooks: HookStack) -> Tensor:
    """Frame features [b, t, 512] to video embeddings [b, 512]: two pre-norm blocks, then the mean over time.

    Positions are scaled by 512^-0.5; the MLP is gated: half of its first layer times the SiLU of the other half.
    """
    model, see = tree.attn.model, _seer(hooks, "temporal.")
    positions = model.pos_emb.emb.weight[:features.shape[1]] * EMBED**-0.5
    x = see("hook_full_embed", features + positions)
    layers = model.attn_layers.layers
    for i in range(len(layers) // 2):
        x = _temporal_block(layers[2 * i], layers[2 * i + 1], x, config.d_head, _seer(hooks, f"temporal.blocks.{i}."))
    x = see("ln_final.hook_normalized", _normalise(x, model.norm))
    return see("hook_out", x.mean(1))


def _temporal_block(attention: Any, mlp: Any, x: Tensor, d_head: int, see: See) -> Tensor:
    x = see("hook_resid_pre", x)
    y = see("ln1.hook_normalized", _normalise(x, attention[0][0]))
    q, k, v = (F.linear(y, getattr(attention[1], name).weight) for name in _QKVO[:3])
    z = _attend(q, k, v, d_head, None, see)
    middle = see("hook_resid_mid", x + see("hook_attn_out", F.linear(z, attention[1].to_out.weight)))
    y = see("ln2.hook_normalized", _normalise(middle, mlp[0][0]))
    first, last = mlp[1].net["0"].proj, mlp[1].net["3"]
    hidden, gate = F.linear(y, first.weight, first.bias).chunk(2, -1)
    hidden, gate = see("mlp.hook_pre_linear", hidden), see("mlp.hook_pre", gate)
    hidden = see("mlp.hook_post", hidden * F.silu(gate))
    return see("hook_resid_post", middle + see("hook_mlp_out", F.linear(hidden, last.weight, last.bias)))


def adapt_video(tree: Any, video: Tensor) -> Tensor:
    """The reward head's view of a video embedding [b, 512]: a gated mix with a two-layer network of itself.

    For scores only; goals are made of the embedding itself.
    """
    first, last = tree.video_adapter["0"], tree.video_adapter["3"]
    changed = F.linear(F.relu(F.linear(video, first.weight, first.bias)), last.weight, last.bias)
    share = torch.sigmoid(tree.video_residual_weight)
    return share * video + (1.0 - share) * changed
