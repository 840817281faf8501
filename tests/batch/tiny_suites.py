"""A suite and an agent so small that a trial takes milliseconds."""

from __future__ import annotations

from pathlib import Path

import yaml

from harness.agent.vpt.config import VPTConfig

TINY = VPTConfig(hidsize=16, heads=2, impala_width=1, blocks=2, window=5, channels=(4, 4, 4))

SUITE = """\
name: tiny
labels: [target]
defaults:
  scenario: villager
  trees: 0
  distance: 3
  steps: 8
  seeds: {first: 40, count: 5}
matrix:
  target: [villager, trunk]
  agent: [AGENTS]
include:
  - {target: trunk, creature: none, trunk: oak_log, steps: 5}
"""


def write_tiny(folder: Path, *, agents: str = "tiny.yaml", edit: tuple[str, str] = ("", "")) -> Path:
    """The suite's file, with the agent's beside it."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump({
        "kind": "vpt", "description": "tiny",
        "arguments": {"policy_kwargs": TINY.policy_kwargs(), "pi_head_kwargs": TINY.pi_head_kwargs(),
                      "random_seed": 0}}), encoding="utf-8")
    path = folder / "suite.yaml"
    path.write_text(SUITE.replace("AGENTS", agents).replace(*edit), encoding="utf-8")
    return path
