"""What latents mean: which go with which state of the world, by AUROC and mutual information, on held-out episodes.

Half of the episodes are searched, and the others say how good what was found is. A latent's value at a step is its
largest over the step's tokens. A state is yes or no; one that is a number is asked whether it exceeds its median over
the searched episodes (NaN: no).

Steps of an episode are not independent, so the null keeps each episode whole: the states of one episode are laid beside
the latents of another, at random (shorter ones begin anew). It also keeps what is common to all episodes at the same
step, such as that they begin alike. Each pair's AUROC is measured in standard deviations of its own null; the p-value
is its rank among those of all latents' nulls for the same state. False discoveries are controlled over latents x states
(Benjamini and Hochberg 1995).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.agent.sae import Sae
from harness.analysis.open_loop import Progress, ticks
from harness.analysis.result import Result, Table
from harness.analysis.sae.evaluate import check_store
from harness.analysis.sae.store import ActivationStore
from harness.errors import StoreError
from harness.provenance import digest
from harness.recording.schema import plain
from harness.statistics import Interval, auroc, benjamini_hochberg, mutual_information, percentile_interval

__all__ = ["LatentNames", "Name", "name_latents"]

Float = npt.NDArray[np.float64]
_FEWEST = 5
"""Episodes on either side."""
_STEPS = 20_000
"""On either side; of more, every so many-th is taken."""
_LATENTS = 256
"""Taken at a time."""
_SHOWN = 40
"""Rows of the table."""
_RESAMPLES = 1000


@dataclass(frozen=True)
class Name:
    """A latent that goes with a state.

    Attributes:
        latent: Which.
        state: In words, with the threshold where the state is a number.
        found: AUROC on the searched episodes.
        q: Share of false discoveries among pairs at least as clear.
        auroc: On held-out episodes; below 0.5 it fires where the state is not.
        interval: Its interval of 95 % over episodes; None where too few of them differ.
        information: Bits between "fires" and the state, held out.
        firing: Share of held-out steps in which it fires.
    """

    latent: int
    state: str
    found: float
    q: float
    auroc: float
    interval: Interval | None
    information: float
    firing: float

    @property
    def held(self) -> bool:
        """Whether the held-out episodes agree: the interval lies on the side that was found."""
        return self.interval is not None and (self.interval.low > 0.5 if self.found > 0.5 else self.interval.high < 0.5)


@dataclass(frozen=True)
class LatentNames(Result):
    """Latents and the states that they go with.

    Attributes:
        hook: Where.
        states: Asked about, in words.
        constant: State variables that hardly vary here, so that nothing can be said.
        n_latents: Alive and tested.
        episodes: Searched, and held out.
        steps: Likewise.
        fdr: Largest q of a name.
        names: Clearest first.
        note: Whose.
    """

    hook: str
    states: tuple[str, ...]
    constant: tuple[str, ...]
    n_latents: int
    episodes: tuple[int, int]
    steps: tuple[int, int]
    fdr: float
    names: tuple[Name, ...]
    note: str

    def tables(self) -> Sequence[Table]:
        """The clearest names; and how many there are for each state."""
        rows = [(n.latent, n.state, n.auroc, n.interval, n.information, n.q, n.firing, "yes" if n.held else "no")
                for n in self.names[:_SHOWN]]
        note = (f"{self.note}\n{self.n_latents} live latents x {len(self.states)} states; found on {self.episodes[0]} "
                f"episodes ({self.steps[0]} steps), AUROC and bits from {self.episodes[1]} others ({self.steps[1]}); "
                f"q <= {self.fdr:g}; intervals of 95 % over episodes")
        if self.constant:
            note += f"\nhardly vary here, so not asked about: {', '.join(self.constant)}"
        counts = []
        for state in self.states:
            own = [n for n in self.names if n.state == state]
            counts.append((state, len(own), sum(n.held for n in own)))
        return (Table(f"Latents that go with a state, at {self.hook}",
                      ("latent", "state", "AUROC", "95 %", "bits", "q", "fires", "held"), tuple(rows), note),
                Table("Names by state", ("state", "latents", "held on other episodes"), tuple(counts)))

    def as_dict(self) -> dict[str, Any]:
        """With every name, for a latent's page."""
        names = [{"latent": n.latent, "state": n.state, "found": n.found, "q": n.q, "auroc": n.auroc,
                  "interval": None if n.interval is None else list(n.interval), "bits": n.information,
                  "firing": n.firing, "held": n.held} for n in self.names]
        return {**super().as_dict(), "hook": self.hook, "names": plain(names)}


def name_latents(sae: Sae, store: ActivationStore, *, fdr: float = 0.05, draws: int = 200, seed: int = 0,
                 progress: Progress | None = None) -> LatentNames:
    """Find the states of the world that latents go with.

    Args:
        sae: Of one of the store's hooks.
        store: With state variables.
        fdr: Share of false discoveries to allow.
        draws: Of the null.
        seed: Of the split and the null.
        progress: Told of states done.

    Raises:
        StoreError: for an SAE of another hook, width or agent, a store without states or with too few episodes, or
            latents none of which fires.
    """
    hook = check_store(sae, store)
    if not store.variables:
        raise StoreError("the store holds no state of the world, so there is nothing to name latents by",
                         where=str(store.folder), hint="collect it while an agent plays, or from recordings")
    if len(store.episodes) < 2 * _FEWEST:
        raise StoreError(f"{len(store.episodes)} episodes are too few: half are searched and half are held out, "
                         f"{_FEWEST} at least", where=str(store.folder), hint="collect more: --episodes 50")
    sides = [_Side.read(sae, hook, store, episodes) for episodes in store.split(0.5, seed)]
    search, held = sides
    if min(len(side.lengths) for side in sides) < _FEWEST:
        raise StoreError("the episodes begin in too few different worlds to be halved", where=str(store.folder))
    alive = np.flatnonzero((search.latents > 0).any(0))
    if not len(alive):
        raise StoreError(f"no latent is above 0 in the searched episodes of {hook}", where=str(store.folder))
    labels, thresholds, words = _questions(search, store.variables)
    varied = [v for v in range(len(words)) if _varies(labels[:, v], search.lengths)]
    p = np.ones((len(alive), len(varied)))
    found = np.full_like(p, 0.5)
    tick = ticks(progress, len(varied))
    for column, v in enumerate(varied):
        found[:, column], p[:, column] = _test(search, alive, labels[:, v], draws, np.random.default_rng([seed, v]))
        tick(1)
    q = np.array(benjamini_hochberg(p.ravel().tolist())).reshape(p.shape)
    picked = np.argwhere(q <= fdr)
    names = [_held_out(held, int(alive[i]), words[varied[c]], thresholds[varied[c]], varied[c], float(found[i, c]),
                       float(q[i, c])) for i, c in picked]
    names.sort(key=lambda n: -abs(np.nan_to_num(n.auroc, nan=0.5) - 0.5))
    provenance = {"analysis": "sae names", "sae": sae.digest(), "store": digest(list(store.episodes)),
                  "agent": dict(store.agent), "arguments": {"fdr": fdr, "draws": draws, "seed": seed}}
    constant = tuple(store.variables[v] for v in range(len(words)) if v not in varied)
    return LatentNames(provenance, hook, tuple(words[v] for v in varied), constant, len(alive),
                       (len(search.lengths), len(held.lengths)), (len(search.latents), len(held.latents)), fdr,
                       tuple(names), f"{store.agent['name']}: {store.agent['description']}")


@dataclass(frozen=True)
class _Side:
    """Some episodes: latents [n, m] and states [n, v], episode after episode, and the steps of each."""

    latents: npt.NDArray[np.float32]
    states: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64]

    @classmethod
    def read(cls, sae: Sae, hook: str, store: ActivationStore, episodes: Sequence[int]) -> _Side:
        every = max(1, -(-store.n_steps * len(episodes) // (len(store.episodes) * _STEPS)))
        parts: list[tuple[Any, ...]] = []
        for columns, values in store.rows([hook], episodes):
            kept = columns.step % every == 0
            x = values[hook].reshape(len(kept), -1, sae.width)[kept]
            with torch.inference_mode():
                latents = torch.cat([sae.encode(each).amax(1) for each in torch.split(torch.from_numpy(x), 256)])
            parts.append((columns.episode[kept], columns.step[kept], columns.state[kept], latents.numpy()))
        episode, step, states, found = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((step, episode))
        return cls(found[order], states[order], np.unique(episode, return_counts=True)[1])

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each episode begins."""
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]])

    def exchanged(self, labels: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Labels [n] with episodes exchanged: each episode gets another one's from its first step on."""
        starts = self.starts
        return np.concatenate([labels[starts[other] + np.arange(length) % self.lengths[other]] for length, other in
                               zip(self.lengths, rng.permutation(len(self.lengths)), strict=True)])


def _questions(side: _Side, variables: Sequence[str]) -> tuple[npt.NDArray[np.bool_], list[float], list[str]]:
    """States as yes or no [n, v], the number to exceed for each, and each in words."""
    thresholds, words = [], []
    for v, name in enumerate(variables):
        known = side.states[:, v][~np.isnan(side.states[:, v])]
        yes_no = np.isin(known, (0.0, 1.0)).all()
        thresholds.append(0.5 if yes_no else float(np.median(known)))
        words.append(name if yes_no else f"{name} > {thresholds[-1]:.3g}")
    with np.errstate(invalid="ignore"):
        return side.states > np.array(thresholds), thresholds, words


def _varies(labels: npt.NDArray[np.bool_], lengths: npt.NDArray[np.int64]) -> bool:
    """Whether two episodes at least have a yes, and two a no."""
    parts = np.split(labels, np.cumsum(lengths)[:-1])
    return all(sum(bool((part == kind).any()) for part in parts) >= 2 for kind in (True, False))


def _test(side: _Side, alive: npt.NDArray[np.int64], labels: npt.NDArray[np.bool_], draws: int,
          rng: np.random.Generator) -> tuple[Float, Float]:
    """Per latent, AUROC and p."""
    from scipy.stats import rankdata

    columns = np.column_stack([labels, *(side.exchanged(labels, rng) for _ in range(draws))]).astype(np.float32)
    n_yes = columns.sum(0)
    usable = (n_yes > 0) & (n_yes < len(labels))  # where the only episodes with a yes are long, cut ones may have none
    columns, n_yes = columns[:, usable], n_yes[usable]
    found, z, nulls = [], [], []
    for start in range(0, len(alive), _LATENTS):
        ranks = rankdata(side.latents[:, alive[start:start + _LATENTS]], axis=0) - (len(labels) + 1) / 2
        area = 0.5 + (ranks.astype(np.float32).T @ columns) / (n_yes * (len(labels) - n_yes))
        mean, spread = area[:, 1:].mean(1), np.maximum(area[:, 1:].std(1), 1e-9)
        found.append(area[:, 0])
        z.append(np.abs(area[:, 0] - mean) / spread)
        nulls.append(np.abs(area[:, 1:] - mean[:, None]) / spread[:, None])
    null = np.sort(np.concatenate(nulls), axis=None)
    beyond = len(null) - np.searchsorted(null, np.concatenate(z), side="left")
    return np.concatenate(found).astype(np.float64), (1 + beyond) / (1 + len(null))


def _held_out(side: _Side, latent: int, words: str, threshold: float, v: int, found: float, q: float) -> Name:
    values = side.latents[:, latent]
    with np.errstate(invalid="ignore"):
        labels = side.states[:, v] > threshold
    return Name(latent, words, found, q, auroc(values, labels), _interval(side, values, labels),
                mutual_information(values > 0, labels), float((values > 0).mean()))


def _interval(side: _Side, values: npt.NDArray[Any], labels: npt.NDArray[np.bool_]) -> Interval | None:
    """Of the AUROC, over episodes drawn with repetition; None where a tenth of the draws has only one label.

    An AUROC is the share of pairs (yes, no) in order, so pairs are counted once for each two episodes.
    """
    n = len(side.lengths)
    episode = np.repeat(np.arange(n), side.lengths)
    yes, wins = values[labels], np.zeros((n, n))
    for other in range(n):
        no = np.sort(values[~labels & (episode == other)])
        below = (np.searchsorted(no, yes, "left") + np.searchsorted(no, yes, "right")) / 2
        wins[:, other] = np.bincount(episode[labels], below, n)
    counts = np.array([np.bincount(episode[labels == kind], minlength=n) for kind in (True, False)])
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), _RESAMPLES)
    pairs = (drawn @ counts[0]) * (drawn @ counts[1])
    known = ((drawn @ wins) * drawn).sum(1)[pairs > 0] / pairs[pairs > 0]
    return percentile_interval(known) if len(known) > 0.9 * _RESAMPLES else None
