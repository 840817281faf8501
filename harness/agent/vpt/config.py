"""Sizes of a VPT policy, and the released keyword arguments read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import AgentError, unknown_name

__all__ = ["SIZES", "VPTConfig", "size_config"]

N_BUTTONS, N_CAMERA = 8641, 121

# Released keywords whose value decides the shape of the network.
_SIZING = ("hidsize", "attention_heads", "impala_width", "impala_chans", "n_recurrence_layers", "pointwise_ratio",
           "timesteps", "attention_memory_size", "img_shape")
# Released keywords that have one value in every VPT checkpoint; another value would be another architecture.
_FIXED: dict[str, Any] = {
    "attention_mask_style": "clipped_causal",
    "diff_mlp_embedding": False,
    "impala_kwargs": {"post_pool_groups": 1},
    "init_norm_kwargs": {"batch_norm": False, "group_norm_groups": 1},
    "only_img_input": True,
    "pointwise_use_activation": False,
    "recurrence_is_residual": True,
    "recurrence_type": "transformer",
    "use_pointwise_layer": True,
    "use_pre_lstm_ln": False,
}
# Keywords of the training code that stand in some released files and change nothing here.
_IGNORED = ("active_reward_monitors",)


@dataclass(frozen=True)
class VPTConfig:
    """What decides every shape and the arithmetic of a VPT policy.

    Attributes:
        hidsize: Width d of the residual stream.
        heads: Attention heads.
        impala_width: Multiplies the image network's channels.
        temperature: Divides the logits of both heads; equals the width multiple in the released models.
        blocks: Transformer blocks.
        window: Frames in view of attention, the current one included; also the number remembered.
        timesteps: Chunk length of the original training code; kept for the keyword round trip only.
        image_shape: (height, width, 3) of the input.
        channels: Channels of the image network's stacks before ``impala_width``.
        mlp_ratio: Width of the MLP in multiples of d.
    """

    hidsize: int
    heads: int
    impala_width: int
    temperature: float = 1.0
    blocks: int = 4
    window: int = 128
    timesteps: int = 128
    image_shape: tuple[int, int, int] = (128, 128, 3)
    channels: tuple[int, ...] = (16, 32, 32)
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        sizes = {"hidsize": self.hidsize, "attention_heads": self.heads, "impala_width": self.impala_width,
                 "n_recurrence_layers": self.blocks, "attention_memory_size - timesteps": self.window,
                 "pointwise_ratio": self.mlp_ratio, "timesteps": self.timesteps}
        for name, size in sizes.items():
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise AgentError(f"{name}: expected a whole number of at least 1, got {size!r}")
        if self.hidsize % self.heads:
            raise AgentError(f"hidsize {self.hidsize} does not divide into {self.heads} attention heads")
        if not self.temperature > 0:
            raise AgentError(f"temperature: expected a number above 0, got {self.temperature!r}",
                             hint="for the most likely action set deterministic: true")
        if len(self.image_shape) != 3 or self.image_shape[2] != 3 or min(self.image_shape[:2]) < 8:
            raise AgentError(f"img_shape: expected [height, width, 3], got {list(self.image_shape)}")

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.hidsize // self.heads

    @property
    def d_mlp(self) -> int:
        """Width of the hidden layer of each block."""
        return self.hidsize * self.mlp_ratio

    @property
    def stack_channels(self) -> tuple[int, ...]:
        """Channels of each stack of the image network."""
        return tuple(self.impala_width * c for c in self.channels)

    def map_sizes(self) -> list[tuple[int, int]]:
        """(height, width) before the first and after each stack (each halves, rounding up)."""
        sizes = [self.image_shape[:2]]
        for _ in self.channels:
            sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
        return sizes

    @property
    def n_flat(self) -> int:
        """Length of the flattened last feature map."""
        height, width = self.map_sizes()[-1]
        return self.stack_channels[-1] * height * width

    @classmethod
    def from_released(cls, policy_kwargs: Mapping[str, Any], pi_head_kwargs: Mapping[str, Any]) -> VPTConfig:
        """Read the keyword arguments of a released ``.model`` file.

        Raises:
            AgentError: for an unknown or missing keyword, or a value that means another architecture.
        """
        known = {*_SIZING, *_FIXED, *_IGNORED}
        _check_names("policy keyword", policy_kwargs, known, required={*_SIZING, *_FIXED})
        _check_names("pi_head keyword", pi_head_kwargs, {"temperature"}, required={"temperature"})
        for name, value in _FIXED.items():
            if policy_kwargs[name] != value:
                raise AgentError(f"policy keyword {name}: expected {value!r}, got {policy_kwargs[name]!r}",
                                 hint="another value is another architecture, which is not built here")
        try:
            return cls(
                hidsize=policy_kwargs["hidsize"],
                heads=policy_kwargs["attention_heads"],
                impala_width=policy_kwargs["impala_width"],
                temperature=float(pi_head_kwargs["temperature"]),
                blocks=policy_kwargs["n_recurrence_layers"],
                window=policy_kwargs["attention_memory_size"] - policy_kwargs["timesteps"],
                timesteps=policy_kwargs["timesteps"],
                image_shape=_triple(policy_kwargs["img_shape"]),
                channels=tuple(int(channels) for channels in policy_kwargs["impala_chans"]),
                mlp_ratio=policy_kwargs["pointwise_ratio"],
            )
        except (TypeError, ValueError, OverflowError) as problem:
            raise AgentError(f"a policy keyword has a value of the wrong kind: {problem}") from problem

    def policy_kwargs(self) -> dict[str, Any]:
        """The released spelling of this configuration (``from_released`` reads it back)."""
        return {
            **_FIXED,
            "hidsize": self.hidsize, "attention_heads": self.heads, "impala_width": self.impala_width,
            "impala_chans": list(self.channels), "n_recurrence_layers": self.blocks, "pointwise_ratio": self.mlp_ratio,
            "timesteps": self.timesteps, "attention_memory_size": self.window + self.timesteps,
            "img_shape": list(self.image_shape),
        }

    def pi_head_kwargs(self) -> dict[str, Any]:
        """The released spelling of the head's arguments."""
        return {"temperature": self.temperature}


def _check_names(kind: str, given: Mapping[str, Any], known: set[str], required: set[str]) -> None:
    for name in given:
        if name not in known:
            raise unknown_name(kind, str(name), known, error=AgentError)
    missing = sorted(required - set(given))
    if missing:
        raise AgentError(f"missing {kind}{'s' if len(missing) > 1 else ''}: {', '.join(missing)}",
                         hint="give every keyword of the released model file; SIZES in harness.agent.vpt has presets")


def _triple(shape: Any) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise AgentError(f"img_shape: expected [height, width, 3], got {shape!r}")
    return (int(shape[0]), int(shape[1]), int(shape[2]))


# The temperature of each released size equals its width multiple; nano is ours and starts from random weights.
SIZES: dict[str, VPTConfig] = {
    "nano": VPTConfig(hidsize=128, heads=4, impala_width=1, temperature=1.0),
    "1x": VPTConfig(hidsize=1024, heads=8, impala_width=4, temperature=1.0),
    "2x": VPTConfig(hidsize=2048, heads=16, impala_width=8, temperature=2.0),
    "3x": VPTConfig(hidsize=3072, heads=24, impala_width=12, temperature=3.0),
}


def size_config(name: str) -> VPTConfig:
    """The preset called ``name``: nano, 1x, 2x or 3x.

    Raises:
        AgentError: for another name.
    """
    if name not in SIZES:
        raise unknown_name("VPT size", str(name), SIZES, error=AgentError)
    return SIZES[name]
