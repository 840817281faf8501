"""How well a sparse autoencoder says what an activation holds, and what the agent does with what it says.

Every measure is defined here and nowhere else. For a token x [d] with reconstruction x̂ and mean activation μ of its
token type over the tokens evaluated:

* fraction of variance unexplained, FVU(x) = |x - x̂|² / |x - μ|², sums over the d numbers; "FVU per token" is its mean
  over tokens. Explained variance = 1 - sum |x - x̂|² / sum |x - μ|², sums over tokens as well (a token near the mean
  then weighs little); 1 at best, below 0 where the mean is the better guess.
* cosine(x, x̂) = x·x̂ / (|x| |x̂|), its mean over tokens.
* L0: latents above 0 in a token, its mean.
* alive: latents above 0 in more than ``least`` of the last ``window`` tokens; the others are dead. Both are printed.
* loss recovered: of a loss L on the agent's own output (KL of the action distribution from the clean run's, in nats,
  buttons and camera added; or cross-entropy against the action that was taken), (L_zero - L_spliced) /
  (L_zero - L_clean), where "spliced" has the reconstruction without its error in the activation's place, and "zero"
  zeros. The range L_zero - L_clean is printed: a share of a tiny range means nothing. Mean ablation stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.agent.agent import Agent
from harness.agent.sae import Sae
from harness.analysis.open_loop import Progress, check_untreated, kl_divergence, listen, look_over, ticks
from harness.analysis.result import Result, Table
from harness.analysis.sae.store import ActivationStore
from harness.errors import RecordingError, StoreError
from harness.intervention.feature.ablation import MeanAblation, ZeroAblation
from harness.intervention.feature.sae import SaeSplice
from harness.intervention.intervention import Intervention
from harness.provenance import digest
from harness.recording.recording import Recording
from harness.statistics import Interval, block_means, percentile_interval
from harness.training.log import chart_svg

__all__ = ["KindFit", "LossRecovered", "SaeFit", "check_store", "fit_chart", "loss_recovered", "measure_tokens",
           "sae_fit"]

Float = npt.NDArray[np.float64]
_CHUNK = 4096
_BLOCK = 20
"""Neighbouring steps that are drawn together, where there is a single episode: a second."""


@dataclass(frozen=True)
class KindFit:
    """The measures of tokens of one type; intervals of 95 % over episodes.

    Attributes:
        hook: Where.
        kind: Token type.
        n_tokens: How many.
        n_episodes: Of how many.
        explained: Explained variance.
        explained_interval: Its interval.
        fvu: Mean FVU per token.
        cosine: Mean cosine.
        l0: Mean L0.
        l0_interval: Its interval.
    """

    hook: str
    kind: str
    n_tokens: int
    n_episodes: int
    explained: float
    explained_interval: Interval
    fvu: float
    cosine: float
    l0: float
    l0_interval: Interval


@dataclass(frozen=True)
class SaeFit(Result):
    """Reconstruction by one or more SAEs, by hook and token type.

    Attributes:
        kinds: In the order of the SAEs.
        alive: Hook to (latents alive, latents).
        window: Tokens in which a latent must fire to be alive.
        least: In more than this share of them.
        density: Hook to the share of tokens in which each latent fires, [m].
        places: Hook to L0 by place in the picture, [rows, columns], where there are places.
        note: Whose activations, and which episodes.
    """

    kinds: tuple[KindFit, ...]
    alive: dict[str, tuple[int, int]]
    window: int
    least: float
    density: dict[str, Float]
    places: dict[str, Float]
    note: str

    def tables(self) -> Sequence[Table]:
        """One row per hook and token type."""
        rows = [(k.hook, k.kind, k.n_tokens, k.n_episodes, k.explained, _known(k.explained_interval), k.fvu, k.cosine,
                 k.l0, _known(k.l0_interval), "{} of {}".format(*self.alive[k.hook])) for k in self.kinds]
        note = (f"{self.note}\nalive: above 0 in more than {self.least:g} of the last {self.window:,} tokens; "
                "intervals of 95 % over episodes")
        return (Table("SAE reconstruction", ("hook", "token", "tokens", "episodes", "explained variance", "95 %",
                                             "FVU per token", "cosine", "L0", "95 %", "latents alive"),
                      tuple(rows), note),)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """``density.<hook>`` [m] and ``l0.<hook>`` [rows, columns]."""
        return {**{f"density.{hook}": x for hook, x in self.density.items()},
                **{f"l0.{hook}": x for hook, x in self.places.items()}}


@dataclass(frozen=True)
class LossRecovered(Result):
    """What the agent's output loses when an activation is replaced.

    Attributes:
        hook: Where.
        steps: Compared.
        n_recordings: Of how many.
        kl: Per recording [t, 3]: KL in nats under splice, zero ablation, mean ablation.
        ce: Per recording [t, 4]: cross-entropy in nats, clean and under the three; empty where no actions are known.
        note: Whose.
    """

    hook: str
    steps: int
    n_recordings: int
    kl: tuple[Float, ...]
    ce: tuple[Float, ...]
    note: str

    def recovered(self, loss: str = "kl") -> tuple[float, Interval, float]:
        """Share recovered by ``kl`` or ``ce``, its interval of 95 %, and the range from clean to zero in nats."""
        series = [np.column_stack([np.zeros(len(x)), x]) for x in self.kl] if loss == "kl" else list(self.ce)
        means, drawn = np.concatenate(series).mean(0), block_means(series, _BLOCK)
        span = means[2] - means[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (means[2] - means[1]) / span
            shares = (drawn[:, 2] - drawn[:, 1]) / (drawn[:, 2] - drawn[:, 0])
        return float(share), _spread(shares), float(span)

    def tables(self) -> Sequence[Table]:
        """One row per loss."""
        rows: list[tuple[Any, ...]] = []
        for loss, name in (("kl", "KL(clean || treated)"), ("ce", "cross-entropy of the action taken")):
            if loss == "ce" and not self.ce:
                continue
            share, interval, span = self.recovered(loss)
            means = np.concatenate(self.kl if loss == "kl" else self.ce).mean(0)
            clean, rest = (0.0, means) if loss == "kl" else (means[0], means[1:])
            rows.append((name, float(clean), *map(float, rest), span, share, _known(interval)))
        columns = ("loss (nats)", "clean", "SAE", "zero ablation", "mean ablation", "range", "recovered", "95 %")
        return (Table(f"Loss recovered at {self.hook}: {self.steps} steps of {self.n_recordings} recordings", columns,
                      tuple(rows), f"{self.note}\nrecovered = (zero - SAE) / (zero - clean); a share of a small range "
                                   "says little"),)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """``kl`` [t, 3] and ``ce`` [t, 4] of all recordings."""
        return {"kl": np.concatenate(self.kl), **({"ce": np.concatenate(self.ce)} if self.ce else {})}


def measure_tokens(x: npt.NDArray[Any], x_hat: npt.NDArray[Any], latents: npt.NDArray[Any], mean: npt.NDArray[Any]
                   ) -> Float:
    """The measures of single tokens.

    Args:
        x: Activations [n, d].
        x_hat: Reconstructions [n, d].
        latents: [n, m].
        mean: μ, [d].

    Returns:
        float64 [n, 5]: |x - x̂|², |x - μ|², FVU (NaN where x is μ), cosine (NaN where x or x̂ is 0), L0.
    """
    a, b = np.asarray(x, np.float64), np.asarray(x_hat, np.float64)
    error, total = ((a - b) ** 2).sum(1), ((a - mean) ** 2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        fvu = error / total
        cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    fvu[total == 0] = np.nan
    return np.column_stack([error, total, fvu, cosine, (np.asarray(latents) > 0).sum(1)])


def check_store(sae: Sae, store: ActivationStore) -> str:
    """The store's hook that an SAE belongs to.

    Raises:
        StoreError: for an SAE of another hook, width or agent.
    """
    hook = sae.hook
    if hook is None:
        raise StoreError("the SAE does not say which hook it is of", where=str(store.folder),
                         hint="its cfg.json needs metadata.hook_name")
    width = store.tokens(hook).width
    if width != sae.width:
        raise StoreError(f"{hook} is {width} wide in the store, the SAE {sae.width}", where=str(store.folder))
    trained, own = sae.metadata.get("weights_digest"), store.agent["weights_digest"]
    if trained is not None and trained != own:
        raise StoreError(f"the SAE was trained on {sae.metadata.get('model_name')} (weights {str(trained)[:12]}), the "
                         f"store is of {store.agent['name']} ({str(own)[:12]})", where=str(store.folder),
                         hint="collect a store with the agent that the SAE is of")
    return hook


def sae_fit(saes: Sequence[Sae], store: ActivationStore, *, held_out: bool = True, window: int = 100_000,
            least: float = 0.0) -> SaeFit:
    """Measure SAEs on a store, by hook and token type.

    Args:
        saes: At most one per hook.
        store: Of the same agent.
        held_out: Only the episodes that the SAE says it was not trained on, where it is of this store or the store
            holds them; else all.
        window: Tokens in which a latent must fire to be alive, the last ones of the store.
        least: In more than this share of them.

    Raises:
        StoreError: as ``check_store``, or where no episode is left.
    """
    kinds: list[KindFit] = []
    alive: dict[str, tuple[int, int]] = {}
    density, places = dict[str, Float](), dict[str, Float]()
    seen = 0
    for sae in saes:
        hook = check_store(sae, store)
        episodes = _unseen(sae, store) if held_out else list(range(len(store.episodes)))
        fits, fired, n, where = _measure(sae, hook, store, episodes, window)
        kinds += fits
        alive[hook], density[hook] = (int((fired > least * n).sum()), sae.n_latents), fired / max(n, 1)
        if where is not None:
            places[hook] = where
        seen = max(seen, n)
    said = f"{store.agent['name']}: {store.agent['description']}"
    which = "episodes held out from training" if held_out else "all episodes"
    provenance = {"analysis": "sae", "arguments": {"held_out": held_out, "window": window, "least": least},
                  "saes": [sae.digest() for sae in saes], "store": digest(list(store.episodes)),
                  "agent": dict(store.agent)}
    return SaeFit(provenance, tuple(kinds), alive, min(window, seen) or window, least, density, places,
                  f"{said}; {which}")


def _unseen(sae: Sae, store: ActivationStore) -> list[int]:
    held = sae.metadata.get("held_out_episodes")
    if not isinstance(held, list):
        return list(range(len(store.episodes)))
    found = [number for number, episode in enumerate(store.episodes) if dict(episode) in held]
    if not found:
        raise StoreError("the store holds none of the episodes that the SAE was not trained on",
                         where=str(store.folder), hint="--all measures on every episode of the store")
    return found


def _measure(sae: Sae, hook: str, store: ActivationStore, episodes: Sequence[int], window: int
             ) -> tuple[list[KindFit], Float, int, Float | None]:
    tokens = store.tokens(hook)
    names = list(dict.fromkeys(tokens.kinds()))
    kind_of = np.array([names.index(kind) for kind in tokens.kinds()])
    sums, counts = np.zeros((len(names), tokens.width)), np.zeros(len(names))
    for _, values in store.rows([hook], episodes):
        laid = values[hook].reshape(-1, tokens.per_step, tokens.width)
        for k in range(len(names)):
            part = laid[:, kind_of == k]
            sums[k] += part.sum((0, 1), dtype=np.float64)
            counts[k] += part.shape[0] * part.shape[1]
    means = sums / np.maximum(counts, 1)[:, None]
    total = int(counts.sum())
    totals = np.zeros((len(names), len(store.episodes), 6))  # of each kind and episode: five measures and the count
    fired, n, first = np.zeros(sae.n_latents), 0, max(0, total - window)
    by_place, at = np.zeros(tokens.per_step), 0
    for columns, values in store.rows([hook], episodes):
        places = np.tile(np.arange(tokens.per_step), len(columns.step))
        episode = np.repeat(columns.episode, tokens.per_step)
        for start in range(0, len(places), _CHUNK):
            cut = slice(start, start + _CHUNK)
            x = values[hook][cut]
            latents, x_hat = _reconstruct(sae, x)
            measured = measure_tokens(x, x_hat, latents, means[kind_of[places[cut]]])
            rows = np.column_stack([np.nan_to_num(measured), np.ones(len(x))])
            np.add.at(totals, (kind_of[places[cut]], episode[cut]), rows)
            np.add.at(by_place, places[cut], measured[:, 4])
            late = np.arange(at, at + len(x)) >= first
            fired += (latents[late] > 0).sum(0)
            n, at = n + int(late.sum()), at + len(x)
    fits = [_kind_fit(hook, name, totals[k][totals[k][:, 5] > 0]) for k, name in enumerate(names)]
    rows_, columns_ = tokens.grid
    grid = by_place[-rows_ * columns_:].reshape(rows_, columns_) / max(total / tokens.per_step, 1) if rows_ else None
    return fits, fired, n, grid


def _reconstruct(sae: Sae, x: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    with torch.inference_mode():
        latents = sae.encode(torch.from_numpy(np.ascontiguousarray(x)))
        return latents.numpy(), sae.decode(latents).numpy()


def _kind_fit(hook: str, kind: str, totals: Float) -> KindFit:
    """From the sums of each episode, [episode, 6]."""
    error, total, fvu, cosine, l0, n = totals.sum(0)
    drawn = np.random.default_rng(0).multinomial(len(totals), np.full(len(totals), 1 / len(totals)), 2000) @ totals
    with np.errstate(divide="ignore", invalid="ignore"):
        explained = float(1 - error / total) if total else float("nan")
        spread = _spread(1 - drawn[:, 0] / drawn[:, 1])
    return KindFit(hook, kind, int(n), len(totals), explained, spread, float(fvu / n), float(cosine / n), float(l0 / n),
                   _spread(drawn[:, 4] / drawn[:, 5]))


def _known(interval: Interval) -> Interval | None:
    return interval if np.isfinite(interval.low) else None


def _spread(draws: Float) -> Interval:
    """95 % of the draws that have a value; NaN where none has."""
    known = draws[np.isfinite(draws)]
    return percentile_interval(known) if len(known) else Interval(float("nan"), float("nan"))


def fit_chart(fit: SaeFit) -> str:
    """Explained variance, L0 and share of latents alive from hook to hook (by depth), a curve per token type: SVG."""
    hooks = list(fit.alive)
    kinds = list(dict.fromkeys(k.kind for k in fit.kinds))
    at = {(k.hook, k.kind): k for k in fit.kinds}

    def lines(value: str) -> dict[str, list[tuple[float, float]]]:
        return {kind: [(i, max(0.0, float(getattr(at[hook, kind], value)))) for i, hook in enumerate(hooks)
                       if (hook, kind) in at] for kind in kinds}

    shares: list[tuple[float, float]] = [(i, fit.alive[hook][0] / fit.alive[hook][1]) for i, hook in enumerate(hooks)]
    return chart_svg([("explained variance", lines("explained"), 1.0), ("L0", lines("l0"), None),
                      ("share of latents alive", {"all": shares}, 1.0)], "= the last hook, 0 the first")


def loss_recovered(recordings: Sequence[Recording], agent: Agent, sae: Sae, hook: str | None = None,
                   progress: Progress | None = None) -> LossRecovered:
    """Run an agent over recordings with a hook's value replaced by reconstruction, zeros, and its mean.

    Args:
        recordings: Whose pictures; made without interventions.
        agent: Whose activations the SAE is of.
        sae: The SAE.
        hook: Where; None: where it was trained.
        progress: Told of steps done.

    Raises:
        InterventionError: for an SAE of another hook, width or agent.
        RecordingError: for recordings under interventions, forks, or without steps.
    """
    name = hook or sae.hook
    if name is None:
        raise RecordingError("the SAE does not say which hook it is of", hint="give its cfg.json a metadata.hook_name")
    check_untreated(recordings)
    splice = SaeSplice(name, sae=sae, error=False)
    splice.check(agent)
    tick = ticks(progress, 5 * sum(map(len, recordings)))
    mean = _mean(listened for each in recordings for outputs in listen(each, agent, [name], tick)
                 for listened in (np.asarray(output.activations[name]) for output in outputs))
    stacks: list[list[Intervention]] = [[], [splice], [ZeroAblation(name)], [MeanAblation(name, values=mean)]]
    kl, ce = list[Float](), list[Float]()
    for recording in recordings:
        runs = [look_over(recording, agent, stack, stacks[1], tick)[0] for stack in stacks]
        logs = [{head: np.stack([o.log_probs[head] for o in run]) for head in ("buttons", "camera")} for run in runs]
        kl.append(np.column_stack([sum(kl_divergence(logs[0][head], each[head]) for head in each)
                                   for each in logs[1:]]))
        taken = [recording.steps[n].get("tokens") or {} for n in range(len(recording))]
        if all("buttons" in each for each in taken):
            ce.append(np.column_stack([_cross_entropy(each, taken) for each in logs]))
    said = f"{agent.name}: {agent.description}"
    provenance = {"analysis": "sae loss recovered", "sae": sae.digest(), "hook": name,
                  "recordings": [r.path.name for r in recordings], "agent": said}
    whole = len(ce) == len(recordings)
    return LossRecovered(provenance, name, sum(map(len, recordings)), len(recordings), tuple(kl),
                         tuple(ce) if whole else (), said)


def _mean(values: Iterable[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    total, n = np.zeros(()), 0
    for each in values:
        total, n = total + each.astype(np.float64), n + 1
    return np.asarray(total / n, np.float32)


def _cross_entropy(logs: dict[str, npt.NDArray[Any]], taken: Sequence[Any]) -> Float:
    rows = np.arange(len(taken))
    found = np.zeros(len(taken))
    for head, x in logs.items():
        wide = np.asarray(x, np.float64)
        wide = wide - np.logaddexp.reduce(wide, -1, keepdims=True)
        found -= wide[rows, [int(each[head]) for each in taken]]
    return found
