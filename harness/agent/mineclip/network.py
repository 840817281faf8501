"""MineCLIP's parameters under the released names, and the arithmetic of what it adds to CLIP.

As in the policy, modules hold parameters and functions compute. The released file has the image tower three times and
the text tower twice; here each is there once, under its ``clip_model.`` name, and both are ``harness.agent.clip``'s.

Sources of the formulas: the released MineCLIP code (MineDojo/MineCLIP, mineclip/), and the x-transformers encoder that
MineCLIP's temporal part is made of; read and written anew.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.agent.clip.network import Branch, See, attend, clip_tree, norm, normalise, seer
from harness.agent.hooks import HookStack
from harness.agent.mineclip.config import EMBED, MineCLIPConfig

__all__ = ["adapt_video", "build_tree", "temporal_encoder"]

_QKVO = ("to_q", "to_k", "to_v", "to_out")


def _temporal_layers(config: MineCLIPConfig) -> nn.ModuleList:
    """Attention and MLP in turn, each as ([norm], layer): names such as ``layers.0.1.to_q``, ``layers.1.1.net.3``."""
    layers = []
    for _ in range(config.temporal_blocks):
        attention = Branch(None, **{name: nn.Linear(EMBED, EMBED, bias=False) for name in _QKVO})
        inner = config.d_temporal_mlp
        mlp = Branch(net=nn.ModuleDict({"0": Branch(proj=nn.Linear(EMBED, 2 * inner)), "3": nn.Linear(inner, EMBED)}))
        layers += [nn.ModuleList([nn.ModuleList([norm(EMBED)]), part]) for part in (attention, mlp)]
    return nn.ModuleList(layers)


def build_tree(config: MineCLIPConfig) -> dict[str, nn.Module]:
    """The three top-level modules, not yet filled: ``clip_model``, ``temporal_encoder``, ``reward_head``."""
    encoder = Branch(pos_emb=Branch(emb=nn.Embedding(config.positions, EMBED)),
                     attn_layers=Branch(layers=_temporal_layers(config)), norm=norm(EMBED))
    adapter = nn.ModuleDict({"0": nn.Linear(EMBED, EMBED), "3": nn.Linear(EMBED, EMBED)})
    return {
        "clip_model": clip_tree(config.clip),
        "temporal_encoder": Branch(attn=Branch(model=encoder)),
        "reward_head": Branch({"video_residual_weight": ()}, video_adapter=adapter),
    }


def temporal_encoder(tree: Any, features: Tensor, config: MineCLIPConfig, hooks: HookStack) -> Tensor:
    """Frame features [b, t, 512] to video embeddings [b, 512]: two pre-norm blocks, then the mean over time.

    Positions are scaled by 512^-0.5; the MLP is gated: half of its first layer times the SiLU of the other half.
    """
    model, see = tree.attn.model, seer(hooks, "temporal.")
    positions = model.pos_emb.emb.weight[:features.shape[1]] * EMBED**-0.5
    x = see("hook_full_embed", features + positions)
    layers = model.attn_layers.layers
    for i in range(len(layers) // 2):
        x = _temporal_block(layers[2 * i], layers[2 * i + 1], x, config.d_head, seer(hooks, f"temporal.blocks.{i}."))
    x = see("ln_final.hook_normalized", normalise(x, model.norm))
    return see("hook_out", x.mean(1))


def _temporal_block(attention: Any, mlp: Any, x: Tensor, d_head: int, see: See) -> Tensor:
    x = see("hook_resid_pre", x)
    y = see("ln1.hook_normalized", normalise(x, attention[0][0]))
    q, k, v = (F.linear(y, getattr(attention[1], name).weight) for name in _QKVO[:3])
    z = attend(q, k, v, d_head, None, see)
    middle = see("hook_resid_mid", x + see("hook_attn_out", F.linear(z, attention[1].to_out.weight)))
    y = see("ln2.hook_normalized", normalise(middle, mlp[0][0]))
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
