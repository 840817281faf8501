"""SAEs of the tiny agent whose first latent writes where it is told to."""

from __future__ import annotations

import torch
from intervention.tiny import tiny_agent

from harness.agent.action_mapping import BUTTON_NAMES, button_table
from harness.agent.sae import Sae

HEAD, RESID = "ln_final.hook_normalized", "blocks.0.hook_resid_post"
ATTACK = button_table()[:, BUTTON_NAMES.index("attack")] > 0


def attack_direction() -> torch.Tensor:
    """Along which the head's evidence for attack rises fastest, to first order at equal chances."""
    weight = tiny_agent().policy.pi_head.buttons.linear_layer.weight.detach()
    held = torch.from_numpy(ATTACK)
    return weight[held].mean(0) - weight[~held].mean(0)


def made(hook: str, first: torch.Tensor | None = None, m: int = 24, width: int | None = None) -> Sae:
    """Random latents that fire often; the first one writes along a given direction."""
    d = width or tiny_agent().hook_shapes()[hook][0][-1]
    generator = torch.Generator().manual_seed(5)
    directions = torch.randn(m, d, generator=generator)
    if first is not None:
        directions[0] = first
    directions = torch.nn.functional.normalize(directions)
    return Sae("relu", torch.randn(d, m, generator=generator), torch.ones(m), directions, torch.zeros(d),
               metadata={"hook_name": hook, "weights_digest": tiny_agent().provenance()["weights_digest"]})
