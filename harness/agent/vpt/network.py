"""The VPT network: its parameters under the released names, and the arithmetic of its layers.

The modules below only hold parameters, in a tree whose ``state_dict()`` has the names of the released files; they are
never called. The arithmetic is in plain functions that take a module and a ``HookStack``, which keeps a step of the
small model free of ``nn.Module`` call overhead. A tensor that a hook may have seen is never changed in place.

Sources of the formulas: the released VPT code (openai/Video-Pre-Training, lib/util.py, lib/impala_cnn.py, lib/xf.py,
lib/masked_attention.py, lib/policy.py), read and written anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.agent.hooks import HookStack
from harness.agent.vpt.config import N_BUTTONS, N_CAMERA, VPTConfig

__all__ = [
    "N_BASES", "SLICE_BYTES", "attend", "block_forward", "build_tree", "image_maps", "image_readout", "normalise",
]

EPS = 1e-5
N_BASES = 10
"""Basis functions of the relative-age term of each block."""
SLICE_BYTES = 16 << 20
"""Of the image network's largest map, for the frames it takes at once: 16 frames of nano, 4 of 1x, 2 of 2x.

Larger tensors leave the processor's cache, and beyond 32 MiB the C library returns each to the system and fetches it
anew, page by page: at 1x, 16 frames at once took 1.25 times as long per frame as 4.
"""


class Branch(nn.Module):
    """A name in the tree with children and nothing else."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class FanIn(nn.Module):
    """A layer that normalises its input first: ``layer(norm(x))``, then ReLU unless it is a block's last layer.

    It has a bias exactly when it has no norm.
    """

    def __init__(self, norm: nn.Module | None, layer: nn.Module) -> None:
        super().__init__()
        if norm is not None:
            self.norm = norm
        self.layer = layer


class RelativeAttention(nn.Module):
    """Parameters of one block's attention; ``b_nd`` [10, window] holds the age curves."""

    def __init__(self, config: VPTConfig) -> None:
        super().__init__()
        d = config.hidsize
        self.b_nd = nn.Parameter(torch.zeros(N_BASES, config.window))
        self.q_layer = nn.Linear(d, d)
        self.k_layer = nn.Linear(d, d, bias=False)
        self.v_layer = nn.Linear(d, d, bias=False)
        self.proj_layer = nn.Linear(d, d)
        self.r_layer = nn.Linear(d, N_BASES * config.heads)


class ValueNormaliser(nn.Module):
    """Running statistics that turn the value head's output into returns; parameters in the released files."""

    def __init__(self) -> None:
        super().__init__()
        self.running_mean = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.running_mean_sq = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.debiasing_term = nn.Parameter(torch.zeros(()), requires_grad=False)


def _conv(c_in: int, c_out: int, *, normed: bool) -> FanIn:
    layer = nn.Conv2d(c_in, c_out, 3, padding=1, bias=not normed)
    return FanIn(nn.GroupNorm(1, c_in, eps=EPS) if normed else None, layer)


def _dense(n_in: int, n_out: int) -> FanIn:
    return FanIn(nn.LayerNorm(n_in, eps=EPS), nn.Linear(n_in, n_out, bias=False))


def _stack(c_in: int, c_out: int, *, first: bool) -> Branch:
    blocks = [Branch(conv0=_conv(c_out, c_out, normed=True), conv1=_conv(c_out, c_out, normed=True)) for _ in range(2)]
    return Branch(firstconv=_conv(c_in, c_out, normed=not first), n=nn.GroupNorm(1, c_out, eps=EPS),
                  blocks=nn.ModuleList(blocks))


def _block(config: VPTConfig) -> Branch:
    d = config.hidsize
    return Branch(mlp0=_dense(d, config.d_mlp), mlp1=FanIn(None, nn.Linear(config.d_mlp, d)),
                  pre_r_ln=nn.LayerNorm(d, eps=EPS), r=Branch(orc_block=RelativeAttention(config)))


def build_tree(config: VPTConfig) -> dict[str, nn.Module]:
    """The three top-level modules, parameters not yet filled: ``net``, ``value_head``, ``pi_head``."""
    d, channels = config.hidsize, (3, *config.stack_channels)
    stacks = [_stack(channels[s], channels[s + 1], first=s == 0) for s in range(len(config.channels))]
    image = Branch(cnn=Branch(stacks=nn.ModuleList(stacks), dense=_dense(config.n_flat, 256)), linear=_dense(256, d))
    net = Branch(
        img_process=image,
        recurrent_layer=Branch(blocks=nn.ModuleList([_block(config) for _ in range(config.blocks)])),
        lastlayer=_dense(d, d),
        final_ln=nn.LayerNorm(d, eps=EPS),
    )
    return {
        "net": net,
        "value_head": Branch(linear=nn.Linear(d, 1), normalizer=ValueNormaliser()),
        "pi_head": Branch(camera=Branch(linear_layer=nn.Linear(d, N_CAMERA)),
                          buttons=Branch(linear_layer=nn.Linear(d, N_BUTTONS))),
    }


def normalise(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """LayerNorm over the last axis."""
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, EPS)


# --- image network -------------------------------------------------------------------------------------------------

def _conv_forward(fan: Any, x: Tensor) -> Tensor:
    layer, norm = fan.layer, fan._modules.get("norm")
    if norm is not None:
        x = F.group_norm(x, 1, norm.weight, norm.bias, EPS)
    # In place on a tensor that nobody else has seen: what is hooked is the result.
    return F.relu_(F.conv2d(x, layer.weight, layer.bias, padding=1))


def _dense_forward(fan: Any, x: Tensor) -> Tensor:
    return F.relu_(F.linear(normalise(x, fan.norm), fan.layer.weight))


def _stack_forward(stack: Any, x: Tensor, see: Callable[[str, Tensor], Tensor]) -> Tensor:
    x = see("hook_firstconv", _conv_forward(stack.firstconv, x))
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    x = see("hook_pool", F.group_norm(x, 1, stack.n.weight, stack.n.bias, EPS))
    for k, block in enumerate(stack.blocks):
        x = see(f"blocks.{k}.hook_resid_pre", x)
        y = see(f"blocks.{k}.hook_conv0", _conv_forward(block.conv0, x))
        y = see(f"blocks.{k}.hook_branch_out", _conv_forward(block.conv1, y))
        x = see(f"blocks.{k}.hook_resid_post", x + y)
    return x


def _see_nothing(name: str, x: Tensor) -> Tensor:
    return x


def _maps_forward(image: Any, x: Tensor, hooks: HookStack | None, batch: tuple[int, int]) -> Tensor:
    """The three stacks over x [n, 3, H, W]; flattened [n, C*H*W] in channel, height, width order."""
    def seer(s: int) -> Callable[[str, Tensor], Tensor]:
        prefix = f"cnn.stacks.{s}."

        def see(name: str, x: Tensor) -> Tensor:
            full = prefix + name
            assert hooks is not None
            if full not in hooks.listeners:
                return x
            split = x.view(*batch, *x.shape[1:])
            new = hooks.apply(full, split)
            return x if new is split else new.flatten(0, 1)
        return see

    for s, stack in enumerate(image.cnn.stacks):
        x = _stack_forward(stack, x, seer(s) if hooks is not None else _see_nothing)
    return x.flatten(1)


def image_maps(net: Any, frames: Tensor, hooks: HookStack) -> Tensor:
    """Frames uint8 [b, t, H, W, 3] to what the three stacks see, flattened: [b, t, C*H'*W'].

    Frames go through the convolutions in slices of ``SLICE_BYTES``, unless somebody listens in there: a listener gets
    the whole [b, t, C, H, W] at once, and pays for it in memory.
    """
    image, listeners = net.img_process, hooks.listeners
    b, t = frames.shape[:2]
    heard = bool(listeners) and any(name.startswith("cnn.stacks.") for name in listeners)
    pictures = frames.to(image.linear.layer.weight.dtype) / 255.0
    if "hook_image" in listeners:
        pictures = hooks.apply("hook_image", pictures)
    # [b, t, H, W, 3] seen as [n, 3, H, W] is channels-last already, the layout the convolutions are quickest in.
    flat = pictures.reshape(b * t, *pictures.shape[2:]).permute(0, 3, 1, 2)
    channels = image.cnn.stacks[0].firstconv.layer.weight.shape[0]
    at_once = max(1, SLICE_BYTES // (channels * math.prod(flat.shape[2:]) * flat.element_size()))
    slices = [flat] if heard or b * t <= at_once else torch.split(flat, at_once)
    maps = [_maps_forward(image, part, hooks if heard else None, (b, t)) for part in slices]
    features = maps[0] if len(maps) == 1 else torch.cat(maps)
    return features.view(b, t, -1)


def image_readout(net: Any, maps: Tensor, hooks: HookStack) -> Tensor:
    """From the stacks' flattened maps [b, t, C*H'*W'] to frame embeddings [b, t, d]."""
    image, listeners = net.img_process, hooks.listeners
    x = _dense_forward(image.cnn.dense, maps)
    if "cnn.hook_dense" in listeners:
        x = hooks.apply("cnn.hook_dense", x)
    x = _dense_forward(image.linear, x)
    if "hook_embed" in listeners:
        x = hooks.apply("hook_embed", x)
    return x


# --- transformer ---------------------------------------------------------------------------------------------------

def _first_norm(x: Tensor, norm: nn.LayerNorm, names: dict[str, str], hooks: HookStack) -> Tensor:
    """``pre_r_ln``; with a listener at its scale (the standard deviation, [b, t, 1]) a replaced scale is used."""
    name, listeners = names["ln1.hook_scale"], hooks.listeners
    y = None
    if name in listeners:
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + EPS).sqrt()
        new = hooks.apply(name, scale)
        y = None if new is scale else centred / new * norm.weight + norm.bias
    y = normalise(x, norm) if y is None else y
    name = names["ln1.hook_normalized"]
    return hooks.apply(name, y) if name in listeners else y


def _relative_bias(block: RelativeAttention, y: Tensor, heads: int, n_keys: int) -> Tensor:
    """Content-gated age term [b, h, t, T]: sum over bases n of r[t, h, n] * b_nd[n, age of key for query].

    Ages below 0 (the future) and from the window on get 0; both are masked anyway.
    """
    b, t, _ = y.shape
    window = block.b_nd.shape[1]
    r = F.linear(y, block.r_layer.weight, block.r_layer.bias).view(b, t, heads, N_BASES).transpose(1, 2)
    if t == 1:
        # One query: keys run from age `window` (masked) down to 0, so the curves are read backwards.
        curves = F.pad(block.b_nd.flip(1), (n_keys - window, 0))
        return torch.matmul(r, curves)
    by_age = F.pad(torch.matmul(r, block.b_nd), (0, 1))
    query = torch.arange(t, device=y.device)[:, None] + (n_keys - t)
    age = query - torch.arange(n_keys, device=y.device)
    age = torch.where((age >= 0) & (age < window), age, window)
    return by_age.gather(-1, age.expand(b, heads, t, n_keys))


def attend(block: RelativeAttention, y: Tensor, memory: tuple[Tensor, Tensor], mask_bias: Tensor, heads: int,
           names: dict[str, str], hooks: HookStack) -> tuple[Tensor, Tensor, Tensor]:
    """One block's attention over the remembered window and the new positions.

    Args:
        block: Its parameters.
        y: Normalised input [b, t, d].
        memory: Remembered keys and values [b, window, d], heads not split.
        mask_bias: [b, 1, t, T], 0 where a query may look and -1e9 where it may not.
        heads: How many.
        names: Short to full hook names of this block.
        hooks: Who listens.

    Returns:
        The output [b, t, d] after the projection, and keys and values [b, T, d] with the new positions appended.
    """
    b, t, d = y.shape
    d_head, listeners = d // heads, hooks.listeners
    q = F.linear(y, block.q_layer.weight, block.q_layer.bias).view(b, t, heads, d_head)
    k = F.linear(y, block.k_layer.weight)
    v = F.linear(y, block.v_layer.weight)
    if listeners:
        q = _apply(hooks, names["attn.hook_q"], q)
        k = _apply_split(hooks, names["attn.hook_k"], k, heads)
        v = _apply_split(hooks, names["attn.hook_v"], v, heads)
    keys, values = torch.cat((memory[0], k), 1), torch.cat((memory[1], v), 1)
    k_read, v_read = keys.view(b, -1, heads, d_head), values.view(b, -1, heads, d_head)
    bias = _relative_bias(block, y, heads, keys.shape[1])
    if listeners:
        k_read = _apply(hooks, names["attn.hook_k_mem"], k_read)
        v_read = _apply(hooks, names["attn.hook_v_mem"], v_read)
        bias = _apply(hooks, names["attn.hook_rel_bias"], bias)
    # muP: the product of query and key is divided by d_head, not by its root; the age term is not scaled.
    scores = torch.matmul(q.transpose(1, 2) * (1.0 / d_head), k_read.permute(0, 2, 3, 1)) + bias + mask_bias
    if listeners:
        scores = _apply(hooks, names["attn.hook_attn_scores"], scores)
    pattern = torch.softmax(scores, -1)
    if listeners:
        pattern = _apply(hooks, names["attn.hook_pattern"], pattern)
    z = torch.matmul(pattern, v_read.transpose(1, 2)).transpose(1, 2)
    if listeners:
        z = _apply(hooks, names["attn.hook_z"], z)
    return _project(block, z, names, hooks), keys, values


def _project(block: RelativeAttention, z: Tensor, names: dict[str, str], hooks: HookStack) -> Tensor:
    """From z [b, t, h, d_head] to [b, t, d]; the share of each head [b, t, h, d] is computed only for a listener."""
    proj, name = block.proj_layer, names["attn.hook_result"]
    if name in hooks.listeners:
        heads, d_head = z.shape[2:]
        result = torch.einsum("bthk,ohk->btho", z, proj.weight.view(-1, heads, d_head))
        new = hooks.apply(name, result)
        if new is not result:
            return new.sum(2) + proj.bias
    return F.linear(z.flatten(2), proj.weight, proj.bias)


def _apply(hooks: HookStack, name: str, x: Tensor) -> Tensor:
    return hooks.apply(name, x) if name in hooks.listeners else x


def _apply_split(hooks: HookStack, name: str, x: Tensor, heads: int) -> Tensor:
    if name not in hooks.listeners:
        return x
    split = x.view(*x.shape[:-1], heads, -1)
    new = hooks.apply(name, split)
    return x if new is split else new.flatten(2)


def block_forward(block: Any, x: Tensor, memory: tuple[Tensor, Tensor], mask_bias: Tensor, heads: int,
                  names: dict[str, str], hooks: HookStack) -> tuple[Tensor, Tensor, Tensor]:
    """One transformer block; the skip path reads the *normalised* input, as in the released code.

    ``y = LN(x); m = y + attn(y); out = m + mlp(LN(m))``. Arguments and results as in ``attend``.
    """
    listeners = hooks.listeners
    if listeners:
        x = _apply(hooks, names["hook_resid_pre"], x)
        y = _first_norm(x, block.pre_r_ln, names, hooks)
    else:
        y = normalise(x, block.pre_r_ln)
    attention = block.r.orc_block
    out, keys, values = attend(attention, y, memory, mask_bias, heads, names, hooks)
    if listeners:
        out = _apply(hooks, names["hook_attn_out"], out)
    middle = y + out
    if listeners:
        middle = _apply(hooks, names["hook_resid_mid"], middle)
    mlp0, mlp1 = block.mlp0, block.mlp1.layer
    normed = normalise(middle, mlp0.norm)
    if listeners:
        normed = _apply(hooks, names["ln2.hook_normalized"], normed)
    hidden = F.linear(normed, mlp0.layer.weight)
    if listeners:
        hidden = _apply(hooks, names["mlp.hook_pre"], hidden)
    hidden = F.relu(hidden)
    if listeners:
        hidden = _apply(hooks, names["mlp.hook_post"], hidden)
    out = F.linear(hidden, mlp1.weight, mlp1.bias)
    if listeners:
        out = _apply(hooks, names["hook_mlp_out"], out)
    x = middle + out
    if listeners:
        x = _apply(hooks, names["hook_resid_post"], x)
    return x, keys, values
