# ruff: noqa: D101, D102 - plain modules, one forward each
"""VPT written plainly: modules that call modules, one frame or one chunk at a time, no hooks.

The baseline of ``benchmarks/released.py``. It does the arithmetic that is known of the published code in the order that
code does it: float32, input divided by 255 and permuted, GroupNorm before and ReLU after each convolution, heads split
by a permutation, the age term by a gather, the memory mask rebuilt at each call, both heads and the value at the end.
It takes state dicts with the released names; the benchmark checks that it agrees with the project's policy.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.agent.vpt.config import N_BUTTONS, N_CAMERA, VPTConfig

State = list[tuple[Tensor, Tensor, Tensor]]


class FanIn(nn.Module):
    """Norm, layer, ReLU."""

    def __init__(self, layer: nn.Module, norm: nn.Module | None, relu: bool = True) -> None:
        super().__init__()
        self.layer, self.relu = layer, relu
        if norm is not None:
            self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "norm"):
            x = self.norm(x)
        x = self.layer(x)
        return F.relu(x, inplace=True) if self.relu else x


def conv(c_in: int, c_out: int, normed: bool = True) -> FanIn:
    return FanIn(nn.Conv2d(c_in, c_out, 3, padding=1, bias=not normed), nn.GroupNorm(1, c_in) if normed else None)


def dense(n_in: int, n_out: int) -> FanIn:
    return FanIn(nn.Linear(n_in, n_out, bias=False), nn.LayerNorm(n_in))


class Residual(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv0, self.conv1 = conv(c, c), conv(c, c)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv1(self.conv0(x))


class Stack(nn.Module):
    def __init__(self, c_in: int, c_out: int, first: bool) -> None:
        super().__init__()
        self.firstconv = conv(c_in, c_out, normed=not first)
        self.n = nn.GroupNorm(1, c_out)
        self.blocks = nn.ModuleList([Residual(c_out), Residual(c_out)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.n(F.max_pool2d(self.firstconv(x), 3, stride=2, padding=1))
        for block in self.blocks:
            x = block(x)
        return x


class CNN(nn.Module):
    def __init__(self, config: VPTConfig) -> None:
        super().__init__()
        channels = (3, *config.stack_channels)
        self.stacks = nn.ModuleList([Stack(channels[i], channels[i + 1], i == 0) for i in range(len(channels) - 1)])
        self.dense = dense(config.n_flat, 256)

    def forward(self, x: Tensor) -> Tensor:
        for stack in self.stacks:
            x = stack(x)
        return self.dense(x.reshape(x.shape[0], -1))


class ImageProcess(nn.Module):
    def __init__(self, config: VPTConfig) -> None:
        super().__init__()
        self.cnn, self.linear = CNN(config), dense(256, config.hidsize)

    def forward(self, frames: Tensor) -> Tensor:
        b, t = frames.shape[:2]
        x = (frames.to(torch.float32) / 255.0).reshape(b * t, *frames.shape[2:]).permute(0, 3, 1, 2)
        return self.linear(self.cnn(x)).reshape(b, t, -1)


class Attention(nn.Module):
    def __init__(self, config: VPTConfig) -> None:
        super().__init__()
        d, self.heads, self.window = config.hidsize, config.heads, config.window
        self.b_nd = nn.Parameter(torch.zeros(10, config.window))
        self.q_layer, self.proj_layer = nn.Linear(d, d), nn.Linear(d, d)
        self.k_layer, self.v_layer = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        self.r_layer = nn.Linear(d, 10 * config.heads)

    def split(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        return x.reshape(b, t, self.heads, d // self.heads).permute(0, 2, 1, 3).reshape(b * self.heads, t, -1)

    def relative(self, y: Tensor, n_keys: int) -> Tensor:
        b, t, _ = y.shape
        r = self.r_layer(y).reshape(b, t, self.heads, 10).permute(0, 2, 1, 3).reshape(b * self.heads, t, 10)
        column, row = torch.arange(n_keys, device=y.device)[None], torch.arange(t, device=y.device)[:, None]
        age = row + n_keys - t - column
        outside = (age < 0) | (age >= self.window)
        curves = self.b_nd[:, age.clamp(0, self.window - 1)]
        return torch.einsum("btn,ntk->btk", r, curves).masked_fill(outside, 0.0)

    def forward(self, y: Tensor, mask: Tensor, first: Tensor, keys: Tensor, values: Tensor
                ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        b, t, d = y.shape
        q, k, v = self.q_layer(y), self.k_layer(y), self.v_layer(y)
        k, v = torch.cat([keys, k], 1), torch.cat([values, v], 1)
        n = k.shape[1]
        column, row = torch.arange(n, device=y.device)[None], torch.arange(t, device=y.device)[:, None]
        seen = ((column > row + n - t - self.window) & (column <= row + n - t))[None].expand(b, t, n).clone()
        seen[:, :, :self.window] &= (mask & ~first[:, :1])[:, None]
        bias = torch.zeros(b, t, n, device=y.device).masked_fill(~seen, -1e9).repeat_interleave(self.heads, 0)
        logits = torch.baddbmm(bias + self.relative(y, n), self.split(q), self.split(k).transpose(1, 2),
                               alpha=self.heads / d)
        z = torch.bmm(torch.softmax(logits, 2), self.split(v))
        z = z.reshape(b, self.heads, t, -1).permute(0, 2, 1, 3).reshape(b, t, d)
        kept = torch.cat([mask & ~first[:, :1], torch.ones(b, t, dtype=torch.bool, device=y.device)], 1)
        return self.proj_layer(z), kept[:, -self.window:], k[:, -self.window:], v[:, -self.window:]


class Inner(nn.Module):
    def __init__(self, config: VPTConfig) -> None:
        super().__init__()
        self.orc_block = Attention(config)


class Block(nn.Module):
    def __init__(self, config: VPTConfig) -> None:
        super().__init__()
        d = config.hidsize
        self.pre_r_ln, self.r = nn.LayerNorm(d), Inner(config)
        self.mlp0, self.mlp1 = dense(d, config.d_mlp), FanIn(nn.Linear(config.d_mlp, d), None, relu=False)

    def forward(self, x: Tensor, first: Tensor, state: tuple[Tensor, Tensor, Tensor]
                ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        y = self.pre_r_ln(x)
        out, mask, keys, values = self.r.orc_block(y, state[0], first, state[1], state[2])
        y = y + out
        return y + self.mlp1(self.mlp0(y)), (mask, keys, values)


class Recurrent(nn.Module):
    def __init__(self, config: VPTConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.blocks)])


class Net(nn.Module):
    def __init__(self, config: VPTConfig) -> None:
        super().__init__()
        self.img_process, self.recurrent_layer = ImageProcess(config), Recurrent(config)
        self.lastlayer, self.final_ln = dense(config.hidsize, config.hidsize), nn.LayerNorm(config.hidsize)

    def transformer(self, x: Tensor, first: Tensor, state: State) -> tuple[Tensor, State]:
        after = []
        for block, old in zip(self.recurrent_layer.blocks, state, strict=True):
            x, new = block(x, first, old)
            after.append(new)
        return self.final_ln(self.lastlayer(F.relu(x))), after


class PlainVPT(nn.Module):
    """The policy; ``forward`` as in ``VPTPolicy``, with a list of (mask, keys, values) as memory."""

    def __init__(self, config: VPTConfig) -> None:
        super().__init__()
        self.config, d = config, config.hidsize
        self.net = Net(config)
        self.pi_head = nn.ModuleDict({
            "camera": nn.ModuleDict({"linear_layer": nn.Linear(d, N_CAMERA)}),
            "buttons": nn.ModuleDict({"linear_layer": nn.Linear(d, N_BUTTONS)})})
        normaliser = nn.ParameterDict({"running_mean": torch.zeros(1), "running_mean_sq": torch.zeros(1),
                                       "debiasing_term": torch.zeros(())})
        self.value_head = nn.ModuleDict({"linear": nn.Linear(d, 1), "normalizer": normaliser})

    def initial_state(self, b: int) -> State:
        device = next(self.parameters()).device
        blank = torch.zeros(b, self.config.window, self.config.hidsize, device=device)
        mask = torch.zeros(b, self.config.window, dtype=torch.bool, device=device)
        return [(mask, blank, blank) for _ in range(self.config.blocks)]

    def heads(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logs = [F.log_softmax(self.pi_head[name]["linear_layer"](latent) / self.config.temperature, -1)
                for name in ("buttons", "camera")]
        return logs[0], logs[1], self.value_head["linear"](latent)

    def forward(self, frames: Tensor, first: Tensor, state: State) -> tuple[tuple[Tensor, Tensor, Tensor], State]:
        latent, after = self.net.transformer(self.net.img_process(frames), first, state)
        return self.heads(latent), after
