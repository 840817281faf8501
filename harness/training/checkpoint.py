"""Where a training run stands, on disk: tensors as safetensors, the rest as JSON; nothing in it can run code.

Pictures are not stored. An episode is its seed and what was carried out in it; the worlds are deterministic, so
playing it again brings the pictures back.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.errors import TrainingError
from harness.training.classroom import Tokens
from harness.training.files import replace_file

__all__ = ["Checkpoint", "checkpoint_dirs", "latest_checkpoint", "read_checkpoint", "write_checkpoint"]

FORMAT = 1
_KEPT = 2

StoredEpisode = tuple[int, bool, Tokens]
"""Seed, whether it is a noisy demonstration, and the tokens carried out, int16 [t, 2]."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands.

    Attributes:
        step: Optimiser steps done.
        tensors: Weights, optimiser and memories, by name.
        episodes: All that are in use.
        state: JSON values: recipe, random streams, and which episode is where.
    """

    step: int
    tensors: Mapping[str, Tensor]
    episodes: Sequence[StoredEpisode]
    state: Mapping[str, Any]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write ``checkpoint-<step>`` below a folder, whole or not at all, and drop all but the latest two."""
    target = folder / f"checkpoint-{checkpoint.step:07d}"
    part = folder / f".{target.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    lengths = [len(tokens) for _, _, tokens in checkpoint.episodes]
    tokens = np.concatenate([np.zeros((0, 2), np.int16), *(tokens for _, _, tokens in checkpoint.episodes)])
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in checkpoint.tensors.items()}
    save_file({**tensors, "episodes.tokens": torch.from_numpy(tokens)}, part / "state.safetensors")
    table = {**checkpoint.state, "format": FORMAT, "step": checkpoint.step,
             "episodes": [[seed, noisy, n] for (seed, noisy, _), n in zip(checkpoint.episodes, lengths, strict=True)]}
    replace_file(part / "state.json", lambda path: path.write_text(json.dumps(table, allow_nan=False), "utf-8"))
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    for old in checkpoint_dirs(folder)[:-_KEPT]:
        shutil.rmtree(old)
    return target


def checkpoint_dirs(folder: Path) -> list[Path]:
    """The checkpoints below a folder, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*") if path.is_dir())


def latest_checkpoint(folder: Path) -> Path:
    """The last one.

    Raises:
        TrainingError: when there is none.
    """
    found = checkpoint_dirs(folder)
    if not found:
        raise TrainingError(f"there is no checkpoint in {folder}", hint="leave out --resume to begin anew")
    return found[-1]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read ``checkpoint-<step>``.

    Raises:
        TrainingError: when it is damaged, or of another format.
    """
    try:
        table = json.loads((path / "state.json").read_text(encoding="utf-8"))
        with safe_open(path / "state.safetensors", framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if table["format"] != FORMAT:
            raise TrainingError(f"checkpoint of format {table['format']}, expected {FORMAT}", where=str(path),
                                hint="train anew, or resume with the version that wrote it")
        tokens, at = tensors.pop("episodes.tokens").numpy(), 0
        episodes = []
        for seed, noisy, n in table.pop("episodes"):
            episodes.append((int(seed), bool(noisy), tokens[at:at + n]))
            at += n
        return Checkpoint(int(table["step"]), tensors, episodes, table)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as problem:
        raise TrainingError(f"the checkpoint cannot be read: {problem}", where=str(path),
                            hint="remove it to resume from the one before") from problem
