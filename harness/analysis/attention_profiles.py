"""Attention in numbers: each head's profile over frame age, entropy, horizon, and what its scores are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.analysis.attention import Traced, chosen_heads, holds_attention, same_agent, traced_attention
from harness.analysis.attention_split import in_view, split_scores
from harness.analysis.effects import BLOCK
from harness.analysis.open_loop import Progress, ticks
from harness.analysis.result import Cell, Result, Table, result_provenance
from harness.errors import HarnessError, RecordingError
from harness.recording.recording import Recording
from harness.statistics import Interval, block_means, percentile_interval

__all__ = ["AttentionProfile", "Estimate", "HeadProfile", "HeadSplit", "attention_profile", "entropy", "horizon"]

Float = npt.NDArray[np.float64]
AGES = 4
"""Ages with a column of their own; the older ones share one."""
_CHUNK = 256
_RESAMPLES = 1000
_N_BLOCKS = 3
"""One recording of fewer blocks gives no interval: resampling it would show less spread than there is."""
_AGE_COLUMNS = ("head", *(f"age {age}" for age in range(AGES)), f"age {AGES}+")
_MEASURES = ("entropy", "variance", "covariance", "from_uniform", "from_prior", "from_content")


class Estimate(NamedTuple):
    """A number and its 95 % interval; None where there are too few steps for one."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class HeadSplit:
    """What a head's scores are made of.

    Attributes:
        bias: Share of the variance of the scores over ages that the bias carries; the content carries the rest. Beyond
            0 or 1 where the two work against each other.
        from_uniform: Mean KL(pattern || uniform) in nats: what there is to explain.
        from_prior: Mean KL(pattern || softmax of the bias alone): what the bias leaves.
        from_content: Mean KL(pattern || softmax of the content alone): what the content leaves.
        prior: Mean age prior, float64 [age].
    """

    bias: Estimate
    from_uniform: Estimate
    from_prior: Estimate
    from_content: Estimate
    prior: Float


@dataclass(frozen=True)
class HeadProfile:
    """Where one head looks.

    Attributes:
        name: ``layer.head``.
        weights: Mean weight by age, float64 [age]; sums to 1.
        low: Lower end of its pointwise 95 % interval, float64 [age]; NaN without one.
        high: Upper end.
        ages: Mean weight at ages 0, 1, 2, 3, and at 4 and more together.
        entropy: Mean entropy of the pattern, in nats.
        horizon: The effective horizon, in steps.
        split: None where scores and bias were not traced.
    """

    name: str
    weights: Float
    low: Float
    high: Float
    ages: tuple[Estimate, ...]
    entropy: Estimate
    horizon: Estimate
    split: HeadSplit | None


@dataclass(frozen=True)
class AttentionProfile(Result):
    """Attention by frame age, over all steps that were counted.

    Attributes:
        heads: One profile each.
        uniform: Mean weight by age of a head that looks at all it can see alike, float64 [age].
        uniform_entropy: Its mean entropy, in nats.
        epsilon: Of the horizon.
        n_recordings: How many.
        n_steps: Steps counted in all of them.
    """

    heads: tuple[HeadProfile, ...]
    uniform: Float
    uniform_entropy: float
    epsilon: float
    n_recordings: int
    n_steps: int

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """``weights``, ``low``, ``high`` and, where split, ``prior``, [head, age]; ``uniform`` [age]; ``names``."""
        found = {key: np.stack([getattr(head, key) for head in self.heads]) for key in ("weights", "low", "high")}
        if self.heads[0].split is not None:
            found["prior"] = np.stack([head.split.prior for head in self.heads if head.split is not None])
        return {**found, "uniform": self.uniform, "names": np.array([head.name for head in self.heads])}

    def tables(self) -> list[Table]:
        """Weight by age, its intervals, spread; where split, what the scores are made of, and the age prior."""
        n, interval = self.n_recordings, self.heads[0].entropy.interval
        over = f"{self.provenance['agent']}; {n} recording{'s' * (n != 1)}, {self.n_steps} steps"
        how = f"resampled recordings ({n})" if n > 1 else \
            f"blocks of {BLOCK} steps of one recording: it says nothing of other scenes" if interval else \
            f"none, one recording of {self.n_steps} steps is too short"
        untaught = "\nRandom weights: nothing here was learned." if "random weights" in over else ""
        rows: list[tuple[Cell, ...]] = [(h.name, *(each.value for each in h.ages)) for h in self.heads]
        tables = [
            Table(f"Mean weight by frame age: {over}", _AGE_COLUMNS, (*rows, ("uniform", *_by_column(self.uniform))),
                  "uniform: a head that looks at every frame in view alike." + untaught),
            Table("95 % intervals of these weights", _AGE_COLUMNS,
                  tuple((h.name, *(_shown(each) for each in h.ages)) for h in self.heads), f"Intervals: {how}."),
            self._spread()]
        return tables if self.heads[0].split is None else [*tables, self._made_of(), self._priors()]

    def _spread(self) -> Table:
        rows: list[tuple[Cell, ...]] = []
        for h in self.heads:
            interval = h.entropy.interval
            frames = None if interval is None else Interval(*map(float, np.exp(interval)))
            rows.append((h.name, h.entropy.value, _shown(h.entropy), float(np.exp(h.entropy.value)), frames,
                         int(h.horizon.value), h.horizon.interval))
        rows.append(("uniform", self.uniform_entropy, None, float(np.exp(self.uniform_entropy)), None,
                     horizon(self.uniform, self.epsilon), None))
        missing = "" if self.heads[0].split else (
            "\nContent and bias by age are told apart where they were recorded: --hooks \"blocks.*.attn.hook_pattern\" "
            "--hooks \"blocks.*.attn.hook_attn_scores\" --hooks \"blocks.*.attn.hook_rel_bias\".")
        return Table("Spread of attention", ("head", "entropy", "95 %", "frames", "95 %", "horizon", "95 %"),
                     tuple(rows), "entropy: mean, in nats; frames: its exponential, the effective number of frames; "
                     f"horizon: age within which {1 - self.epsilon:.0%} of the mean weight lies.{missing}")

    def _made_of(self) -> Table:
        rows = tuple((h.name, s.bias.value, _shown(s.bias), s.from_uniform.value, s.from_prior.value,
                      _shown(s.from_prior), s.from_content.value, _shown(s.from_content))
                     for h in self.heads if (s := h.split) is not None)
        return Table("What the scores are made of: bias by age, and content",
                     ("head", "bias", "95 %", "KL", "left by bias", "95 %", "left by content", "95 %"), rows,
                     "bias: its share of the scores' variance over ages; the content's is 1 less this. KL (nats): from "
                     "the pattern to uniform attention;\nleft: to the softmax of that term alone. Variance counts all "
                     "ages alike, also those that the softmax makes nothing of.")

    def _priors(self) -> Table:
        return Table("Age prior: where the bias alone would look", (*_AGE_COLUMNS, "horizon"),
                     tuple((h.name, *_by_column(h.split.prior), horizon(h.split.prior, self.epsilon))
                           for h in self.heads if h.split is not None), "Mean over steps of the softmax of the bias.")


def attention_profile(recordings: Sequence[Recording], *, heads: tuple[str, ...] = (), row: str | None = None,
                      epsilon: float = 0.1, between: tuple[int, int] | None = None,
                      progress: Progress | None = None) -> AttentionProfile:
    """Where each head looks by frame age: profile, entropy, horizon, and content against the bias by age.

    Of the pattern p(t, a), the weight that the query of step t gives to the frame of age a:

    - *profile*: mean over steps of p(t, a), and its sum over ages 4 and more;
    - *entropy*: mean over steps of -sum_a p ln p, in nats; exp of it is the effective number of frames;
    - *effective horizon*: the smallest age h at which the profile, summed from age 0 to h, is at least 1 - epsilon;
    - *uniform*: the same of 1 / n(t) on the n(t) frames in view, min(t + 1, window): early steps see fewer.

    Where ``hook_attn_scores`` and ``hook_rel_bias`` were traced, the score s = q·k / d_head + b is split exactly into
    content c = s - b and bias b (Baker et al. 2022, lib/xf.py). Over the ages in view at a step,
    Cov(b, s) + Cov(c, s) = Var(s); the bias's share is the sum of Cov(b, s) over steps divided by that of Var(s). The
    pattern's KL divergence from the softmax of either term alone says what that term leaves unexplained.

    It describes where heads look. Whether it matters to what the agent does is for knock-outs to say.

    Args:
        recordings: Of one agent, with ``blocks.*.attn.hook_pattern``. Read in pieces.
        heads: ``layer.head`` or globs, as text: ["2.3"], ["1.*"]; none for all.
        row: Of a guided agent, ``cond`` or ``uncond``.
        epsilon: Weight that may lie beyond the horizon, between 0 and 1.
        between: Count only steps in this range, both ends included.
        progress: Told of steps read, of all layers.

    Returns:
        Profiles with intervals: recordings resampled, or blocks of 20 steps of one recording that has at least three.

    Raises:
        RecordingError: for a recording without the hook, another agent's, or without a step in the range.
        HarnessError: for an epsilon that is none, or a head that is not there.
    """
    if not 0 < epsilon < 1:
        raise HarnessError(f"epsilon: expected a share between 0 and 1, got {epsilon}")
    same_agent(recordings)
    kinds = ("pattern", "attn_scores", "rel_bias")
    split = all(holds_attention(recording, kinds, row) for recording in recordings)
    traced = [traced_attention(recording, kinds if split else kinds[:1], row) for recording in recordings]
    names = traced[0].names
    kept = chosen_heads(names, heads)
    layers = sorted({i // traced[0].n_heads for i in kept})
    tick = ticks(progress, len(layers) * sum(each.n_steps for each in traced))
    n_visible = [each.n_visible()[_rows(each, between)] for each in traced]
    found: list[HeadProfile] = []
    for place in layers:
        series, priors = zip(*(_series(each, each.layers[place], _rows(each, between), split, tick) for each in traced),
                             strict=True)
        n_steps = sum(map(len, n_visible))
        for i in (i for i in kept if i // traced[0].n_heads == place):
            head = i % traced[0].n_heads
            prior = sum(each[head] for each in priors) / n_steps if split else None
            found.append(_profile(names[i], [each[:, head] for each in series], prior, epsilon))
    whole = np.concatenate(n_visible)
    uniform = np.where(in_view(whole, traced[0].window)[:, 0], 1 / whole[:, None], 0).mean(0)
    said = {"heads": list(heads), "row": traced[0].row, "epsilon": epsilon,
            "between": None if between is None else list(between)}
    provenance = {**result_provenance("attention", recordings[0], **said),
                  "recordings": [r.path.name for r in recordings]}
    return AttentionProfile(provenance, tuple(found), uniform, float(np.log(whole).mean()), epsilon, len(recordings),
                            len(whole))


def entropy(pattern: npt.NDArray[Any]) -> Float:
    """Shannon entropy of patterns [..., age] in nats, float64 [...]."""
    p = np.asarray(pattern, np.float64)
    return np.asarray(-(p * np.log(np.where(p > 0, p, 1.0))).sum(-1))


def horizon(profile: npt.NDArray[Any], epsilon: float) -> int:
    """The effective horizon of a profile [age]: the smallest age up to which it sums to 1 - epsilon or more."""
    return int(_horizons(np.asarray(profile)[None], epsilon)[0])


def _horizons(profiles: npt.NDArray[Any], epsilon: float) -> Float:
    # Weights were rounded to float32; a sum that should be 1 - epsilon may be a little less.
    enough = np.cumsum(profiles, -1) >= 1 - epsilon - 1e-6
    return np.asarray(np.where(enough.any(-1), enough.argmax(-1), profiles.shape[-1] - 1), np.float64)


def _rows(traced: Traced, between: tuple[int, int] | None) -> slice:
    """The rows of the steps in a range."""
    first = traced.recording.first_step
    low, high = between or (first, first + traced.n_steps - 1)
    start, stop = max(low - first, 0), min(high - first + 1, traced.n_steps)
    if start >= stop:
        raise RecordingError(f"no step lies between {low} and {high}: it has {first} to {first + traced.n_steps - 1}",
                             where=str(traced.recording.path))
    return slice(start, stop)


def _series(traced: Traced, layer: int, rows: slice, split: bool, tick: Any) -> tuple[npt.NDArray[np.float32], Float]:
    """Pattern and measures of a layer, float32 [t, h, age + measure], and the sum of its prior, float64 [h, age]."""
    window = traced.window
    n_measures = len(_MEASURES) if split else 1
    out = np.empty((rows.stop - rows.start, traced.n_heads, window + n_measures), np.float32)
    prior = np.zeros((traced.n_heads, window))
    for start, stop in _chunks(rows):
        into = out[start - rows.start:stop - rows.start]
        into[..., :window] = traced.read("pattern", layer, start, stop)
        into[..., window] = entropy(into[..., :window])
        if split:
            parts = split_scores(traced.read("attn_scores", layer, start, stop),
                                 traced.read("rel_bias", layer, start, stop),
                                 in_view(traced.n_visible(start, stop), window))
            for number, name in enumerate(_MEASURES[1:], 1):
                into[..., window + number] = getattr(parts, name)
            prior += parts.prior.sum(0)
        tick(stop - start)
    return out, prior


def _chunks(rows: slice) -> Iterator[tuple[int, int]]:
    for start in range(rows.start, rows.stop, _CHUNK):
        yield start, min(start + _CHUNK, rows.stop)


def _profile(name: str, series: Sequence[npt.NDArray[np.float32]], prior: Float | None, epsilon: float) -> HeadProfile:
    """One head's, from its columns [t, age + measure] of every recording."""
    window = series[0].shape[1] - (1 if prior is None else len(_MEASURES))
    whole = np.concatenate(series).mean(0, dtype=np.float64)
    enough = len(series) > 1 or len(series[0]) >= _N_BLOCKS * BLOCK
    draws = block_means(series, BLOCK, _RESAMPLES) if enough else None

    def estimate(of: Any) -> Estimate:
        return Estimate(float(of(whole[None])[0]), None if draws is None else percentile_interval(of(draws)))

    def measure(name: str) -> Estimate:
        return estimate(lambda x: x[:, window + _MEASURES.index(name)])

    at = {name: window + number for number, name in enumerate(_MEASURES)}
    split = None if prior is None else HeadSplit(
        estimate(lambda x: x[:, at["covariance"]] / np.maximum(x[:, at["variance"]], 1e-12)),
        measure("from_uniform"), measure("from_prior"), measure("from_content"), prior)
    low, high = np.full((2, window), np.nan) if draws is None else np.percentile(draws[:, :window], [2.5, 97.5], axis=0)
    columns = [estimate(lambda x, age=age: x[:, age]) for age in range(min(AGES, window))]
    return HeadProfile(name, whole[:window], low, high, (*columns, estimate(lambda x: x[:, AGES:window].sum(1))),
                       measure("entropy"), estimate(lambda x: _horizons(x[:, :window], epsilon)), split)


def _shown(each: Estimate) -> Interval | None:
    return None if each.interval is None else Interval(*(round(end, 3) for end in each.interval))


def _by_column(profile: Float) -> list[float]:
    return [*map(float, profile[:AGES]), float(profile[AGES:].sum())]
