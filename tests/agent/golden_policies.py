"""Golden arrays, and tiny policies filled by the golden rule."""

from __future__ import annotations

import copy
import functools
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from harness.agent.vpt import VPTConfig, VPTPolicy
from harness.agent.vpt.policy import expected_shapes

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


@functools.cache
def fill_rule() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_fill", GOLDEN / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def golden(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description and the arrays of ``golden_<name>``."""
    meta = json.loads((GOLDEN / f"golden_{name}.json").read_text())
    with np.load(GOLDEN / f"golden_{name}.npz", allow_pickle=False) as arrays:
        return meta, {key: arrays[key] for key in arrays.files}


def filled_weights(config: VPTConfig) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(fill_rule().fill_value(name, shape)))
            for name, shape in expected_shapes(config).items()}


@functools.cache
def golden_policy(name: str) -> VPTPolicy:
    meta, _ = golden(name)
    head = meta.get("pi_head_kwargs", {"temperature": 2.0})
    config = VPTConfig.from_released(meta["policy_kwargs"], head)
    return VPTPolicy.from_released(meta["policy_kwargs"], head, filled_weights(config))


@functools.cache
def golden_frames() -> torch.Tensor:
    return torch.from_numpy(fill_rule().frames(0, 2, 40))


TINY = VPTConfig(hidsize=16, heads=2, impala_width=1, temperature=1.5, blocks=2, window=5, image_shape=(16, 16, 3),
                 channels=(2, 2, 4))


@functools.cache
def tiny_policy() -> VPTPolicy:
    """A policy small enough for property tests: window 5, two blocks, 16 x 16 pictures."""
    return VPTPolicy.from_config(TINY, filled_weights(TINY))


@functools.cache
def exact_policy() -> VPTPolicy:
    """``tiny_policy`` in float64: what two ways of computing must agree on is then not hidden by rounding."""
    return copy.deepcopy(tiny_policy()).double()


def close(ours: np.ndarray, theirs: np.ndarray, what: str) -> None:
    """|a - b| <= 1e-4 + 1e-4 |b|, the tolerance of every golden comparison."""
    assert ours.shape == theirs.shape, f"{what}: {ours.shape} is not {theirs.shape}"
    assert ours.dtype == theirs.dtype, f"{what}: {ours.dtype} is not {theirs.dtype}"
    off = np.abs(ours.astype(np.float64) - theirs) - (1e-4 + 1e-4 * np.abs(theirs))
    assert (off <= 0).all(), f"{what}: {int((off > 0).sum())} of {off.size} differ, worst by {off.max():.2e} over"
