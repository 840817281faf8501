"""Trained weights as a file that an agent file can name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from harness.agent.load import AgentDefinition, widened
from harness.agent.steve.goals import invented_goal
from harness.agent.vpt.policy import VPTPolicy
from harness.provenance import file_digest
from harness.training.files import replace_file

__all__ = ["deployed", "export_agent", "halved"]


_GOALS = "goals."
"""Before a goal's name: where a policy that is told what to do keeps its named goals in a weights file."""


def halved(policy: VPTPolicy) -> dict[str, Tensor]:
    """The weights under their released names, as float16."""
    return {name: weight.detach().to(torch.float16).contiguous() for name, weight in policy.state_dict().items()}


def deployed(policy: VPTPolicy) -> VPTPolicy:
    """The policy as whoever loads the exported file will have it: rounded to float16, computed in float32."""
    return type(policy).from_config(policy.config, widened(halved(policy))).requires_grad_(False)


def export_agent(policy: VPTPolicy, definition: AgentDefinition, folder: Path, name: str, *,
                 note: str, goals: Sequence[str] = ()) -> tuple[Path, str]:
    """Write ``name.safetensors`` and ``name.yaml``, an agent file that names it with its digest.

    The weights file also holds the embeddings of named goals, as float32 tensors called ``goals.<name>``.

    Returns:
        The agent file, and the SHA-256 of the weights.
    """
    weights = folder / f"{name}.safetensors"
    tensors = {**halved(policy), **{_GOALS + goal: torch.from_numpy(invented_goal(goal)) for goal in goals}}
    replace_file(weights, lambda path: save_file(tensors, path, metadata={"trained": note}))
    sha256 = file_digest(weights)
    arguments = {key: value for key, value in definition.arguments.items() if key != "random_seed"}
    table: dict[str, Any] = {
        "kind": definition.kind, "description": f"{definition.headline}; {note}", "arguments": arguments,
        "weights": {"file": weights.name, "sha256": sha256}, "licence": definition.licence or "MIT"}
    path = folder / f"{name}.yaml"
    text = yaml.safe_dump(table, sort_keys=False, allow_unicode=True, width=120)
    replace_file(path, lambda part: part.write_text(text, encoding="utf-8"))
    return path, sha256
