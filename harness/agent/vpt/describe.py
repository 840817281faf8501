"""What a policy is made of, worked out without allocating any of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from harness.agent.vpt.config import VPTConfig, size_config
from harness.agent.vpt.policy import VPTPolicy

__all__ = ["count_parameters", "describe_policy"]

_TICKS_PER_SECOND = 20
_PARTS = {
    "net.img_process.": "image network", "net.recurrent_layer.": "transformer", "net.lastlayer.": "last layer",
    "net.final_ln.": "last layer", "net.mineclip_embed_linear.": "goal embedding", "pi_head.buttons.": "buttons head",
    "pi_head.camera.": "camera head", "value_head.": "value head",
}
"""Beginning of a weight's name -> what to call the part it belongs to."""


def describe_policy(config: VPTConfig | str, policy_class: type[VPTPolicy] = VPTPolicy) -> dict[str, Any]:
    """Parameters per part, memory and hook points of a policy of a size, as JSON values.

    Args:
        config: The size.
        policy_class: What is built of it (on the meta device).

    Returns:
        ``parameters`` (part -> count, and ``total``), ``bytes`` (precision -> bytes of the weights), ``temperature``,
        ``blocks``, ``heads``, ``width``, ``memory`` (``window`` in frames, ``seconds``, ``bytes`` per precision,
        ``parts``: name -> shape) and ``hooks`` (name -> ``shape``, ``axes``, ``dtype``).
    """
    sizes = size_config(config) if isinstance(config, str) else config
    with torch.device("meta"):
        policy = policy_class(sizes)
        state = policy.initial_state(1)
    counts: dict[str, int] = {}
    for name, weight in policy.state_dict().items():
        part = next((part for beginning, part in _PARTS.items() if name.startswith(beginning)), "other")
        counts[part] = counts.get(part, 0) + weight.numel()
    total = sum(counts.values())
    remembered = [name for name in state.names() if name.endswith((".k", ".v"))]
    numbers = sum(math.prod(state[name].shape) for name in remembered)
    return {
        "parameters": {**counts, "total": total},
        "bytes": {"float32": 4 * total, "bfloat16": 2 * total, "float16": 2 * total},
        "temperature": sizes.temperature, "blocks": sizes.blocks, "heads": sizes.heads, "width": sizes.hidsize,
        "memory": {
            "window": sizes.window, "seconds": sizes.window / _TICKS_PER_SECOND,
            "bytes": {"float32": 4 * numbers, "bfloat16": 2 * numbers, "float16": 2 * numbers},
            "parts": {name: list(state[name].shape) for name in state.names() if not name.endswith(".age")},
        },
        "hooks": {name: {"shape": list(point.shape), "axes": list(point.axes), "dtype": "float32"}
                  for name, point in policy.hook_stack.points.items()},
    }


def count_parameters(modules: Mapping[str, type[nn.Module]]) -> dict[str, int]:
    """Parameters of modules that need no arguments, by the names given; nothing is allocated."""
    with torch.device("meta"):
        return {name: sum(weight.numel() for weight in module().state_dict().values())
                for name, module in modules.items()}
