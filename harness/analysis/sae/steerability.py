"""Steerability, open loop: how far the agent's choice moves when one latent, or one raw unit, is set by hand.

For a latent f, with the error of the SAE kept, x becomes x + (f' - f) d_f in every token of every picture, where f' is
the strength (or as ``mode`` says), and

    S_f = mean_i (P~_i - P_i)^2

over pictures i (*Steering CLIP's Vision Transformer with Sparse Autoencoders*, arXiv 2504.08729), P the probability
that a key is held down. A raw unit is the same with x itself for the latents and the axes for the directions. Memory is
edited as well, since the edit is on from the first picture on: S_f equals what ``SaeSplice`` does in ``look_over``.

Two nulls. *Norm-matched directions*: the changes f' - f of a random live latent, written along a random direction of
its norm. *Random latents*: the other live latents of the same dictionary. A latent is steerable where its S_f passes
the 99 % null of directions; against the other latents it has a rank alone: one in a hundred passes that by definition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.agent.agent import Agent
from harness.agent.sae import Sae
from harness.analysis.open_loop import Progress, check_key, check_untreated, ticks
from harness.analysis.result import Result, Table
from harness.analysis.sae.downstream import Downstream, Heard, unedited
from harness.errors import HarnessError, InterventionError
from harness.intervention.feature.sae import SaeSplice
from harness.recording.recording import Recording
from harness.statistics import rank_p, wilson

__all__ = ["LEVEL", "Dictionary", "Mode", "Steerability", "Steered", "check_sae", "moved", "random_directions",
           "steerability"]

Float = npt.NDArray[np.float64]
Mode = Literal["replace", "add", "cap", "floor", "zero"]
LEVEL = 0.01
"""A latent is steerable below this p: beyond the 99 % null."""
_MOST = 100_000
"""Positive values that the usual strength is taken from."""


@dataclass(frozen=True)
class Dictionary:
    """What can be set by hand at a hook: an SAE's latents, or the raw units.

    Attributes:
        name: For tables.
        values: From tokens [..., d] to what each has, [..., m].
        directions: What 1 of each adds, [m, d].
        floor: What a value does not go below: 0 for latents.
    """

    name: str
    values: Callable[[Tensor], Tensor]
    directions: Tensor
    floor: float | None = None

    @classmethod
    def of_sae(cls, sae: Sae) -> Dictionary:
        """Latents."""
        return cls("SAE latents", sae.encode, sae.W_dec, 0.0)

    @classmethod
    def of_units(cls, width: int) -> Dictionary:
        """The numbers of an activation themselves."""
        return cls("raw units", lambda x: x, torch.eye(width))


@dataclass(frozen=True)
class Steered:
    """S_f of one dictionary and its nulls.

    Attributes:
        name: Of the dictionary.
        strength: What its members were set to.
        n_alive: Members that were not 0 in some token.
        members: Those tested, [n].
        change: Mean of P~ - P, [n, key].
        score: S_f, [n, key].
        directions: S_f of norm-matched random directions, [null, key].
        others: S_f of random live members, [null, key].
    """

    name: str
    strength: float
    n_alive: int
    members: npt.NDArray[np.int64]
    change: Float
    score: Float
    directions: Float
    others: Float

    def p_directions(self, key: int) -> Float:
        """Per member, its rank among random directions."""
        return np.array([rank_p(value, self.directions[:, key].tolist()) for value in self.score[:, key]])

    def p_others(self, key: int) -> Float:
        """Per member, its rank among random members."""
        return np.array([rank_p(value, self.others[:, key].tolist()) for value in self.score[:, key]])

    def steerable(self, key: int) -> npt.NDArray[np.bool_]:
        """Which members pass the 99 % null of directions."""
        return np.asarray(self.p_directions(key) <= LEVEL)


@dataclass(frozen=True)
class Steerability(Result):
    """How many latents steer, and which.

    Attributes:
        hook: Where.
        keys: Buttons whose probability is P.
        mode: How latents were set.
        n_pictures: i of S_f.
        steered: One per dictionary: latents, and raw units where asked for.
        note: Whose.
    """

    hook: str
    keys: tuple[str, ...]
    mode: str
    n_pictures: int
    steered: tuple[Steered, ...]
    note: str

    def tables(self) -> Sequence[Table]:
        """Fractions by dictionary and key; then the members that move most."""
        return self._fractions(), *(self._strongest(each) for each in self.steered)

    def _fractions(self) -> Table:
        rows = []
        for each in self.steered:
            for k, key in enumerate(self.keys):
                passed, n = int(each.steerable(k).sum()), len(each.members)
                rows.append((each.name, key, each.strength, f"{passed} of {n}", passed / n, wilson(passed, n),
                             float(np.median(each.score[:, k])), float(np.quantile(each.directions[:, k], 1 - LEVEL))))
        note = (f"{self.note}\nS_f = mean over {self.n_pictures} pictures of (P~ - P)^2, P the chance that the key is "
                f"held; mode {self.mode}. Steerable: beyond 99 % of random directions of the same norm, which 1 % are "
                "by chance. The interval (Wilson, 95 %) takes members as independent.")
        return Table(f"Steerability at {self.hook}", ("of", "key", "set to", "steerable", "fraction", "95 %",
                                                      "median S_f", "99 % null"), tuple(rows), note)

    def _strongest(self, each: Steered) -> Table:
        rows = []
        for k, key in enumerate(self.keys):
            p_directions, p_others = each.p_directions(k), each.p_others(k)
            for i in np.argsort(-each.score[:, k], kind="stable")[:8]:
                rows.append((int(each.members[i]), key, float(each.score[i, k]), float(each.change[i, k]),
                             float(p_directions[i]), float(p_others[i])))
        return Table(f"{each.name} that move the choice most", ("number", "key", "S_f", "mean change of P",
                                                                "p, directions", "p, random latents"), tuple(rows),
                     f"{len(each.directions)} random directions, {len(each.others)} random others of "
                     f"{each.n_alive} alive")

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Of each dictionary: ``members`` [n], ``change`` and ``score`` [n, key], the nulls [null, key]."""
        return {f"{each.name.replace(' ', '-')}.{name}": getattr(each, name) for each in self.steered
                for name in ("members", "change", "score", "directions", "others")}

    def as_dict(self) -> dict[str, Any]:
        """With every member's numbers, for a latent's page."""
        found = {}
        for each in self.steered:
            per_key = {key: (each.p_directions(k), each.p_others(k)) for k, key in enumerate(self.keys)}
            found[each.name] = {str(int(member)): {
                key: {"S_f": float(each.score[i, k]), "change": float(each.change[i, k]),
                      "p_directions": float(per_key[key][0][i]), "p_latents": float(per_key[key][1][i]),
                      "null_99": float(np.quantile(each.directions[:, k], 1 - LEVEL))}
                for k, key in enumerate(self.keys)} for i, member in enumerate(each.members)}
        return {**super().as_dict(), "hook": self.hook, "members": found}


def steerability(recordings: Sequence[Recording], agent: Agent, sae: Sae, *, latents: Sequence[int] | None = None,
                 keys: Sequence[str] = ("attack",), mode: Mode = "replace", strength: float | None = None,
                 nulls: int = 200, units: bool = True, seed: int = 0, progress: Progress | None = None
                 ) -> Steerability:
    """S_f of latents, and of raw units of the same hook, over recorded pictures.

    Args:
        recordings: Whose pictures; made without interventions.
        agent: Whose activations the SAE is of.
        sae: Says which hook.
        latents: Those to test; None: all that are alive in the recordings.
        keys: Buttons whose probability is P.
        mode: As in ``SaeSplice``.
        strength: Likewise; None: the 99th percentile of what is above 0, of latents and of units each.
        nulls: Random directions, and random others.
        units: Whether to test raw units as well.
        seed: Of the nulls.
        progress: Told of passes over pictures done.

    Raises:
        InterventionError: for an SAE of another hook, width or agent, or a latent out of range.
        HarnessError: for a key that is none, fewer nulls than a 99 % null needs, or an SAE none of whose latents fires.
        RecordingError: for recordings under interventions, forks, or without steps.
    """
    if nulls < 99:
        raise HarnessError(f"a 99 % null needs 99 draws at least, got {nulls}")
    if not keys:
        raise HarnessError("expected a key whose probability to follow", hint="attack, for instance")
    for key in keys:
        check_key(key)
    check_untreated(recordings)
    hook = check_sae(sae, agent, latents)
    below = Downstream(agent, hook, tuple(dict.fromkeys(keys)))
    n_pictures = sum(map(len, recordings))
    heard = [below.listen(recording, lambda n: None) for recording in recordings]
    tests = [(Dictionary.of_sae(sae), latents), *([(Dictionary.of_units(sae.width), None)] if units else [])]
    found = []
    for dictionary, chosen in tests:
        found.append(_steer(_Runner(below, heard, dictionary, mode, strength), chosen, nulls, seed, progress))
    provenance = {"analysis": "sae steerability", "sae": sae.digest(), "hook": hook, "agent": agent.description,
                  "recordings": [each.path.name for each in recordings],
                  "arguments": {"mode": mode, "strength": strength, "nulls": nulls, "seed": seed}}
    return Steerability(provenance, hook, tuple(dict.fromkeys(keys)), mode, n_pictures, tuple(found),
                        f"{agent.name}: {agent.description}")


def check_sae(sae: Sae, agent: Agent, latents: Sequence[int] | None = None) -> str:
    """The hook that an SAE belongs to, in an agent that has it.

    Raises:
        InterventionError: for an SAE of another hook, width or agent, one that does not say its hook, or a latent out
            of range.
    """
    if sae.hook is None:
        raise InterventionError("the SAE does not say which hook it is of",
                                hint="its cfg.json needs metadata.hook_name")
    SaeSplice(sae.hook, sae=sae, latents=None if latents is None else tuple(latents)).check(agent)
    return sae.hook


def moved(values: Tensor, mode: str, strength: float, floor: float | None) -> Tensor:
    """What an edit adds to values."""
    wanted: Tensor = {"replace": lambda: torch.full_like(values, strength), "add": lambda: values + strength,
                      "cap": lambda: values.clamp(max=strength), "floor": lambda: values.clamp(min=strength),
                      "zero": lambda: torch.zeros_like(values)}[mode]()
    return (wanted if floor is None else wanted.clamp(min=floor)) - values


def random_directions(like: Tensor, seed: int) -> Tensor:
    """Random directions with the norms of given ones, [n, d]: uniform on the sphere."""
    drawn = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))
    found: Tensor = drawn / drawn.norm(dim=1, keepdim=True) * like.norm(dim=1, keepdim=True)
    return found


class _Runner:
    """S_f of edits over what was heard, batch by batch."""

    def __init__(self, below: Downstream, heard: Sequence[Heard], dictionary: Dictionary, mode: str,
                 strength: float | None) -> None:
        self._below, self._heard, self.dictionary, self._mode = below, heard, dictionary, mode
        self.alive, usual = self._survey()
        self.strength = usual if strength is None else strength
        # One row of nothing, in the batches' own arithmetic: with edits of nothing S_f is 0.
        self._clean = [torch.cat([p for _, p in below.probabilities(each, 1, unedited)], 1) for each in heard]

    def _survey(self) -> tuple[npt.NDArray[np.int64], float]:
        fired, positive = torch.zeros(len(self.dictionary.directions), dtype=torch.bool), list[Tensor]()
        for each in self._heard:
            for part in torch.split(torch.from_numpy(each.tokens), 64):
                with torch.inference_mode():
                    values = self.dictionary.values(part).flatten(0, 1)
                fired |= (values != 0).any(0)
                positive.append(values[values > 0][::max(1, int((values > 0).sum()) * len(self._heard) // _MOST)])
        alive, kept = np.flatnonzero(fired.numpy()), torch.cat(positive).numpy()
        if not len(alive):
            raise HarnessError("no latent is above 0 in these recordings", hint="take recordings of the agent that the "
                                                                                "SAE was trained on, or more of them")
        return alive, float(np.quantile(kept, 0.99))

    def scores(self, members: npt.NDArray[np.int64], directions: Tensor, tick: Callable[[int], None]
               ) -> tuple[Float, Float]:
        """Mean change of P and S_f, float64 [n, key] each; members may repeat."""
        parts = [self._batch(members[start:start + self._below.rows], directions[start:start + self._below.rows], tick)
                 for start in range(0, len(members), self._below.rows)]
        total = sum(len(each.tokens) for each in self._heard)
        first, second = (np.concatenate([part[i] for part in parts]) / total for i in (0, 1))
        return first, second

    def _batch(self, members: npt.NDArray[np.int64], directions: Tensor, tick: Callable[[int], None]
               ) -> tuple[Float, Float]:
        which = torch.from_numpy(members)

        def edit(x: Tensor, cut: slice) -> Tensor:
            values = self.dictionary.values(x)[..., which].movedim(-1, 0)
            delta = moved(values, self._mode, self.strength, self.dictionary.floor)
            return x + delta[..., None] * directions[:, None, None]

        first, second = (np.zeros((len(members), self._clean[0].shape[-1])) for _ in range(2))
        for heard, clean in zip(self._heard, self._clean, strict=True):
            for cut, p in self._below.probabilities(heard, len(members), edit):
                away = (p - clean[:, cut]).double()
                first, second = first + away.sum(1).cpu().numpy(), second + away.square().sum(1).cpu().numpy()
        tick(len(members))
        return first, second


def _steer(runner: _Runner, chosen: Sequence[int] | None, nulls: int, seed: int, progress: Progress | None) -> Steered:
    rng, own = np.random.default_rng(seed), runner.dictionary.directions
    members = runner.alive if chosen is None else np.array(sorted(set(chosen)), np.int64)
    drawn = rng.choice(runner.alive, nulls)
    others = members if chosen is None else rng.permutation(np.setdiff1d(runner.alive, members))[:nulls]
    if chosen is not None and not len(others):
        raise HarnessError("no other latent is alive, so there is none to compare with",
                           hint="leave out latents, or take more recordings")
    tick = ticks(progress, len(members) + nulls + (0 if chosen is None else len(others)))
    change, score = runner.scores(members, own[members], tick)
    _, away = runner.scores(drawn, random_directions(own[drawn], seed), tick)
    other = score if chosen is None else runner.scores(others, own[others], tick)[1]
    return Steered(runner.dictionary.name, runner.strength, len(runner.alive), members, change, score, away, other)
