"""A policy and a recipe so small that a run takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from harness.agent.vpt.config import VPTConfig

TINY = VPTConfig(hidsize=16, heads=2, impala_width=1, blocks=1, window=8, channels=(4, 4, 4))


def tiny_file() -> dict[str, Any]:
    """An agent file with a recipe of three short stages."""
    return {
        "kind": "vpt", "description": "tiny",
        "arguments": {"policy_kwargs": TINY.policy_kwargs(), "pi_head_kwargs": TINY.pi_head_kwargs(), "random_seed": 0},
        "training": {
            "seed": 3, "scenes": [{"scenario": "woods", "parameters": {"slot": [0, 1]}}, {"scenario": "lone-trunk"}],
            "teacher": {"episode_ticks": 16}, "streams": 8, "chunk": 4, "precision": "float32",
            "stages": [
                {"name": "cloning", "steps": 20, "demonstrations": 4, "learning_rate": [0.01, 0.002], "warmup": 4},
                {"name": "dagger", "steps": 8, "learning_rate": [0.002, 0.001], "worlds": 2, "ticks": 4, "every": 2},
                {"name": "finish", "steps": 6, "learning_rate": [0.001, 0.0], "worlds": 2, "frozen_stacks": True}],
            "validation": {"episodes": 2, "steps": 6}, "checkpoint_every": 10, "log_every": 4},
    }


def write_agent(folder: Path, table: dict[str, Any]) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(table, sort_keys=False), encoding="utf-8")
    return path
