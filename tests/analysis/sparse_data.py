"""Activation stores of made-up data: sparse sums of known directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.analysis.sae.store import ActivationStore, StoredStep, StoreWriter
from harness.analysis.sae.tokens import Tokens

HOOK = "blocks.0.hook_resid_post"
AGENT = {"name": "made-up", "description": "random weights (seed 0)", "weights_digest": "abc"}


def directions(m: int, d: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((m, d))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def sparse_sums(true: np.ndarray, n: int, active: int, seed: int = 0) -> np.ndarray:
    """n sums of ``active`` directions each, with weights from 1 to 2."""
    rng = np.random.default_rng(seed)
    which = rng.random((n, len(true))).argpartition(active, axis=1)[:, :active]
    weights = rng.uniform(1, 2, (n, active)).astype(np.float32)
    return np.einsum("nk,nkd->nd", weights, true[which]).astype(np.float32)


def make_store(folder: Path, values: dict[str, np.ndarray], *, episodes: int = 10, tokens: Tokens | None = None,
               shard_bytes: int = 1 << 20, resume: bool = False, units: int | None = None,
               state: np.ndarray | None = None) -> StoreWriter:
    """Values [n, ...] of each hook, dealt to episodes of equal length; one episode is one unit."""
    layout = {hook: tokens or Tokens((), (), x.shape[1]) for hook, x in values.items()}
    n = len(next(iter(values.values())))
    plan = {"agent": AGENT, "variables": [] if state is None else ["a"],
            "episodes": [{"scenario": "made-up", "seed": e} for e in range(episodes)]}
    writer = StoreWriter(folder, plan, layout, resume=resume, shard_bytes=shard_bytes)
    long = n // episodes
    for e in range(episodes if units is None else units):
        if writer.finished(e):
            continue
        writer.begin(e)
        for i in range(e * long, (e + 1) * long):
            row = () if state is None else (float(state[i]),)
            writer.add(StoredStep(e, i - e * long, {hook: x[i] for hook, x in values.items()}, row, (i, i + 1)))
        writer.end()
    if units is None:
        writer.close()
    return writer


def opened(folder: Path, values: dict[str, np.ndarray], **options: object) -> ActivationStore:
    make_store(folder, values, **options)  # type: ignore[arg-type]
    return ActivationStore(folder)
