"""Training sparse autoencoders on an activation store: several hooks from one pass, checkpoints, a log with curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from harness.agent.sae import save_sae
from harness.analysis.open_loop import Progress, ticks
from harness.analysis.sae.learner import SaeLearner
from harness.analysis.sae.recipe import SaeRecipe
from harness.analysis.sae.store import ActivationStore
from harness.errors import TrainingError
from harness.provenance import file_digest
from harness.training.files import replace_file
from harness.training.log import append_row, chart_svg, cut_log, read_log

__all__ = ["CHECKPOINT", "CURVES", "LOG", "train_saes"]

CHECKPOINT, LOG, CURVES = "checkpoint.safetensors", "log.jsonl", "curves.svg"
_SAMPLE = 8192
"""Tokens that set scale and bias."""


def train_saes(store: ActivationStore, folder: str | Path, recipe: SaeRecipe, hooks: Sequence[str] | None = None, *,
               resume: bool = False, checkpoint_every: int = 200, log_every: int = 10, threads: int = 1,
               stop_after: int | None = None, progress: Progress | None = None) -> dict[str, Path]:
    """Train one SAE per hook, all from one pass over the store.

    Below ``folder``: ``<hook>/cfg.json`` and ``<hook>/sae_weights.safetensors`` (SAELens' format), ``log.jsonl``,
    ``curves.svg`` and ``checkpoint.safetensors``. Resumed on the same machine, a run ends with the same bits.

    Args:
        store: Activations.
        folder: The run's.
        recipe: How.
        hooks: Hooks of the store; None for all.
        resume: Go on from the folder's checkpoint.
        checkpoint_every: Steps of all hooks together between checkpoints.
        log_every: Steps of a hook between rows of the log.
        threads: CPU threads.
        stop_after: End early, after so many steps of all hooks together, with a checkpoint.
        progress: Told of steps done.

    Returns:
        Hook to the folder of its SAE.

    Raises:
        TrainingError: for too few tokens, a folder that holds a run already, or a checkpoint of another run.
        StoreError: for a hook that the store has not, or activations that are not finite (with the shard's name).
    """
    folder, names = Path(folder), list(hooks or store.hooks)
    run = _Run(store, folder, recipe, names, resume=resume)
    tick, before = ticks(progress, sum(learner.n_steps for learner in run.learners.values())), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for number, (hook, batch) in enumerate(
                store.batches(names, recipe.batch, episodes=run.train, seed=recipe.seed, epochs=recipe.epochs), 1):
            learner = run.learners[hook]
            tick(1)
            if number <= run.done:  # the order depends on nothing but the seed: what was learned is passed over
                continue
            measured = learner.step(batch)
            run.done = number
            if learner.step_number % log_every == 0 or learner.step_number == 1:
                append_row(folder / LOG, {"kind": "train", "step": number, "hook": hook,
                                          "hook_step": learner.step_number, "tokens": learner.n_tokens, **measured})
            if number % checkpoint_every == 0 or number == stop_after:
                run.checkpoint()
            if number == stop_after:
                break
    finally:
        torch.set_num_threads(before)
    run.checkpoint()
    return run.finish()


class _Run:
    """Learners, and where they stand on disk."""

    def __init__(self, store: ActivationStore, folder: Path, recipe: SaeRecipe, hooks: Sequence[str], *, resume: bool
                 ) -> None:
        self.store, self.folder, self.recipe, self.done = store, folder, recipe, 0
        self.train, self.held_out = store.split(recipe.held_out, recipe.seed)
        counts = {hook: self._count(hook) for hook in hooks}
        self.plan = {"recipe": recipe.describe(), "store": file_digest(store.folder / "store.json"),
                     "hooks": list(hooks)}
        path = folder / CHECKPOINT
        if path.is_file() and not resume:
            raise TrainingError("there is a run already", where=str(folder),
                                hint="give --resume to go on with it, or another --out")
        if resume and not path.is_file():
            raise TrainingError(f"there is no checkpoint in {folder}", hint="leave out --resume to begin anew")
        self.learners = {hook: SaeLearner(recipe, self._sample(hook), max(1, int(n * recipe.epochs) // recipe.batch))
                         for hook, n in counts.items()}
        folder.mkdir(parents=True, exist_ok=True)
        if resume:
            self._load(path)
        cut_log(folder / LOG, self.done)

    def checkpoint(self) -> None:
        """Write where the run stands, whole or not at all."""
        tensors = {f"{hook}|{name}": tensor.clone().contiguous() for hook, learner in self.learners.items()
                   for name, tensor in learner.tensors().items()}
        said = {"plan": json.dumps({**self.plan, "done": self.done}, sort_keys=True)}
        replace_file(self.folder / CHECKPOINT, lambda path: save_file(tensors, path, metadata=said))

    def finish(self) -> dict[str, Path]:
        """Write the SAEs and the curves."""
        rows = read_log(self.folder / LOG)
        curves: dict[str, dict[str, list[tuple[float, float]]]] = {key: {} for key in ("fvu", "l0", "dead")}
        for key, lines in curves.items():
            for hook in self.learners:
                lines[hook] = [(row["hook_step"], row[key]) for row in rows if row["hook"] == hook]
        titles = {"fvu": "fraction of variance unexplained", "l0": "L0", "dead": "dead latents"}
        chart = chart_svg([(titles[key], lines, 1.0 if key == "fvu" else None) for key, lines in curves.items()],
                          "steps")
        (self.folder / CURVES).write_text(chart, encoding="utf-8")
        return {hook: save_sae(learner.sae(self._metadata(hook, learner)), self.folder / hook)
                for hook, learner in self.learners.items()}

    def _metadata(self, hook: str, learner: SaeLearner) -> dict[str, Any]:
        agent = self.store.agent
        return {"model_name": agent["name"], "hook_name": hook, "weights_digest": agent["weights_digest"],
                "agent_description": agent["description"], "recipe": self.recipe.describe(),
                "training_tokens": learner.n_tokens, "store": self.plan["store"],
                "held_out_episodes": [dict(self.store.episodes[number]) for number in self.held_out],
                "token_axes": list(self.store.hooks[hook].axes)}

    def _count(self, hook: str) -> int:
        """Tokens to train on; refuses too few."""
        tokens, chosen = self.store.tokens(hook), set(self.train)
        steps = sum(int(np.isin(self.store.columns(i).episode, list(chosen)).sum()) for i in range(self.store.n_shards))
        n, m = steps * tokens.per_step, self.recipe.n_latents(tokens.width)
        if n < m or n < self.recipe.batch:
            raise TrainingError(f"{hook}: {n} tokens to train on are too few for {m} latents in batches of "
                                f"{self.recipe.batch}: a dictionary larger than its data learns it by heart",
                                where=str(self.store.folder),
                                hint="collect more, or lower --expansion and --batch")
        return n

    def _sample(self, hook: str) -> Any:
        """Tokens of the training episodes, from several shards."""
        found, n = [], 0
        order = np.random.default_rng(self.recipe.seed).permutation(self.store.n_shards).tolist()
        for _, values in self.store.rows([hook], self.train, order):
            found.append(values[hook])
            n += len(values[hook])
            if n >= _SAMPLE:
                break
        return np.concatenate(found)[:_SAMPLE]

    def _load(self, path: Path) -> None:
        try:
            with safe_open(path, framework="pt") as file:
                plan = json.loads(file.metadata()["plan"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            self.done = int(plan.pop("done"))
            if plan != json.loads(json.dumps(self.plan)):
                raise TrainingError("the checkpoint is of another recipe, store or choice of hooks", where=str(path),
                                    hint="give the command that began the run, or another --out")
            for hook, learner in self.learners.items():
                learner.load({name.rpartition("|")[2]: tensor for name, tensor in tensors.items()
                              if name.rpartition("|")[0] == hook})
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as problem:
            raise TrainingError(f"the checkpoint cannot be read: {problem}", where=str(path)) from problem
