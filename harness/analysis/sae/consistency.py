"""Do-consistency: does a change of the world move a latent as a change of the latent moves the behaviour.

For each seed and each change of a scenario (no villager, no leaves, no trunk), two worlds begin from the same seed and
play the same actions, those that the agent takes in the unchanged one; the agent then looks over both. Per latent, with
means over the pictures,

    a = P(key | changed world) - P(key | world)
    b = P(key | world, the latent set to what it is in the changed world, picture by picture) - P(key | world)

The latent is consistent where b has a's sign (a count, with its interval) and goes with it in size (Spearman's rank
correlation). The null lays the a of one pair beside the b of another: where all changes move the behaviour one way,
equal signs say nothing, and the shuffled share says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.agent.agent import Agent
from harness.agent.sae import Sae
from harness.analysis.open_loop import Progress, check_key, ticks
from harness.analysis.result import Result, Table
from harness.analysis.sae.downstream import Downstream, Edit, Heard, unedited
from harness.analysis.sae.steerability import check_sae
from harness.errors import HarnessError
from harness.recording.schema import plain
from harness.rollout import spawn_streams
from harness.scenario.schema import Scenario
from harness.statistics import spearman, wilson
from harness.world.action import Action
from harness.world.world import make_world

__all__ = ["DoConsistency", "do_consistency"]

Float = npt.NDArray[np.float64]
_DRAWS = 999
_STILL = 1e-6
"""Changes of a probability below this are rounding."""


@dataclass(frozen=True)
class DoConsistency(Result):
    """Changes of the world beside changes of latents.

    Attributes:
        hook: Where.
        key: Whose probability is followed.
        latents: [n].
        pairs: (change, seed) each.
        world: a, [pair].
        latent: b, [n, pair].
        activation: Mean change of each latent in the changed world, [n, pair].
        note: Whose.
    """

    hook: str
    key: str
    latents: npt.NDArray[np.int64]
    pairs: tuple[tuple[str, int], ...]
    world: Float
    latent: Float
    activation: Float
    note: str

    def agreement(self, row: int) -> tuple[int, int, float, float]:
        """Equal signs, pairs in which both moved, the shuffled share of equal signs, and its p-value (one-sided)."""
        a, b = self.world, self.latent[row]
        there = (np.abs(a) > _STILL) & (np.abs(b) > _STILL)
        if not there.any():
            return 0, 0, float("nan"), 1.0
        a, b = np.sign(a[there]), np.sign(b[there])
        agree, rng = int((a == b).sum()), np.random.default_rng(0)
        null = np.array([(a == rng.permutation(b)).sum() for _ in range(_DRAWS)])
        return agree, len(a), float(null.mean() / len(a)), float((1 + (null >= agree).sum()) / (1 + _DRAWS))

    def consistency(self, latent: int) -> dict[str, Any] | None:
        """The numbers of a latent; None where it was not asked about."""
        if latent not in self.latents:
            return None
        row = self.latents.tolist().index(latent)
        agree, n, shuffled, p = self.agreement(row)
        return {"agree": agree, "n": n, "interval": list(wilson(agree, n)) if n else None, "shuffled": shuffled,
                "p": p, "rank_correlation": spearman(self.world, self.latent[row]),
                "activation": float(self.activation[row].mean())}

    def tables(self) -> Sequence[Table]:
        """One row per latent; and what the changes do by themselves."""
        rows = []
        for row, latent in enumerate(self.latents):
            agree, n, shuffled, p = self.agreement(row)
            rows.append((int(latent), float(self.activation[row].mean()), f"{agree} of {n}",
                         wilson(agree, n) if n else None, shuffled, p, spearman(self.world, self.latent[row])))
        note = (f"{self.note}\nsigns of P({self.key}) moved by the world and by the latent alone; shuffled: the same "
                f"of pairs that do not belong together ({_DRAWS} draws)")
        effects = []
        for change in dict.fromkeys(change for change, _ in self.pairs):
            own = self.world[[i for i, pair in enumerate(self.pairs) if pair[0] == change]]
            effects.append((change, len(own), float(own.mean()), int((own > _STILL).sum()), int((own < -_STILL).sum())))
        return (Table(f"Do-consistency at {self.hook}", ("latent", "its change", "same sign", "95 %", "shuffled", "p",
                                                         "rank correlation"), tuple(rows), note),
                Table(f"What the world does to P({self.key})", ("change", "seeds", "mean change", "up", "down"),
                      tuple(effects)))

    def as_dict(self) -> dict[str, Any]:
        """With every latent's numbers, for its page."""
        return {**super().as_dict(), "key": self.key,
                "consistency": plain({str(int(latent)): self.consistency(int(latent)) for latent in self.latents})}


def do_consistency(agent: Agent, sae: Sae, scenario: Scenario, changed: Mapping[str, Scenario], seeds: Sequence[int],
                   latents: Sequence[int], *, key: str = "attack", steps: int = 20, backend: str = "blockworld",
                   progress: Progress | None = None) -> DoConsistency:
    """Compare what changes of the world do with what the latents do that they move.

    Args:
        agent: Whose activations the SAE is of.
        sae: Says which hook.
        scenario: The world as it is.
        changed: The same with something else, by name.
        seeds: Of the worlds.
        latents: To be asked about.
        key: Whose probability to follow.
        steps: Pictures of each world.
        backend: Which engine builds the world.
        progress: Told of worlds looked at.

    Raises:
        InterventionError: for an SAE of another hook, width or agent, or a latent out of range.
        HarnessError: for a key that is none, or nothing to compare.
    """
    check_key(key)
    if not changed or not seeds or not latents:
        raise HarnessError("expected a change of the world, a seed and a latent at least")
    hook = check_sae(sae, agent, latents)
    below, tested = Downstream(agent, hook, (key,)), np.array(sorted(set(latents)), np.int64)
    tick, rows = ticks(progress, len(seeds) * (1 + len(changed))), dict[tuple[str, int], tuple[float, Float, Float]]()
    for seed in seeds:
        actions, pictures = _shown(agent, scenario, seed, steps, None, backend)
        base = below.look(pictures)
        clean, own = _mean(below, base, 1, unedited)[0], _latents(sae, base, tested)
        tick(1)
        for name, other in changed.items():
            heard = below.look(_shown(agent, other, seed, steps, actions, backend)[1])
            n = min(len(heard.tokens), len(base.tokens))
            theirs = _latents(sae, heard, tested)
            away = torch.zeros_like(own)
            away[:, :n] = theirs[:, :n] - own[:, :n]
            moved = _moved(below, base, away, sae.W_dec[torch.from_numpy(tested)])
            there = _mean(below, heard, 1, unedited)[0]
            rows[name, seed] = float(there - clean), moved - clean, away.mean((1, 2)).double().numpy()
            tick(1)
    pairs = tuple((name, seed) for name in changed for seed in seeds)
    provenance = {"analysis": "sae do-consistency", "sae": sae.digest(), "hook": hook, "agent": agent.description,
                  "scenario": scenario.name, "changed": list(changed), "seeds": list(seeds),
                  "arguments": {"key": key, "steps": steps}}
    return DoConsistency(provenance, hook, key, tested, pairs, np.array([rows[pair][0] for pair in pairs]),
                         np.stack([rows[pair][1] for pair in pairs], 1), np.stack([rows[pair][2] for pair in pairs], 1),
                         f"{agent.name}: {agent.description}")


def _shown(agent: Agent, scenario: Scenario, seed: int, steps: int, actions: Sequence[Action] | None, backend: str
           ) -> tuple[list[Action], npt.NDArray[np.uint8]]:
    """Pictures of a world [t, H, W, 3], and the actions played: the agent's own, or given ones."""
    world_seed, rng = spawn_streams(seed)
    with make_world(scenario, backend) as world:
        observation, _ = world.reset(seed=world_seed)
        state, played, pictures = agent.initial_state(), list[Action](), list[npt.NDArray[np.uint8]]()
        for step in range(min(steps, scenario.episode.max_steps)):
            pictures.append(np.array(observation["pov"]))
            if actions is None:
                output = agent.act(observation, state, rng)
                state, action = output.state, output.action
            elif step < len(actions):
                action = actions[step]
            else:
                break
            played.append(action)
            observation, _, terminated, truncated, _ = world.step(action)
            if terminated or truncated:
                break
    return played, np.stack(pictures)


def _latents(sae: Sae, heard: Heard, latents: npt.NDArray[np.int64]) -> Tensor:
    """[latent, t, token]."""
    with torch.inference_mode():
        return sae.encode(torch.from_numpy(heard.tokens))[..., torch.from_numpy(latents)].movedim(-1, 0)


def _mean(below: Downstream, heard: Heard, n: int, edit: Edit) -> Float:
    """Mean P(key) over the pictures, [n]."""
    total = sum(p[..., 0].double().sum(1) for _, p in below.probabilities(heard, n, edit))
    return np.asarray(total.cpu().numpy() / len(heard.tokens))  # type: ignore[union-attr]


def _moved(below: Downstream, heard: Heard, away: Tensor, directions: Tensor) -> Float:
    """Mean P(key) with each latent moved by ``away`` [n, t, token] alone, [n]."""
    parts = []
    for start in range(0, len(away), below.rows):
        rows = slice(start, start + below.rows)

        def edit(x: Tensor, cut: slice, rows: slice = rows) -> Tensor:
            return x + away[rows, cut, :, None] * directions[rows, None, None]

        parts.append(_mean(below, heard, len(away[rows]), edit))
    return np.concatenate(parts)
