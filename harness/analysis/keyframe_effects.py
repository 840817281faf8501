"""What hiding a key-frame does to the action, beside hiding another frame of about its age."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.agent.agent import Agent, AgentOutput
from harness.analysis.event_log import NEAR
from harness.analysis.open_loop import kl_divergence, look_over
from harness.analysis.result import Cell, Table
from harness.intervention.memory import MemoryKnockout
from harness.intervention.schedule import Schedule
from harness.recording.recording import Recording
from harness.statistics import Interval, block_means, percentile_interval, rank_p

__all__ = ["KnockOut", "KnockOuts", "knock_out"]

Window = tuple[int, tuple[int, int]]

_ROUNDING = 1e-6
_DRAWS = 9999


@dataclass(frozen=True)
class KnockOut:
    """One key-frame hidden.

    Attributes:
        recording: Place of its recording.
        step: The frame.
        queries: First and last step in which it was hidden from all heads.
        effect: Mean KL(untreated || hidden) of the action over these steps, in nats.
        controls: Other frames, hidden in the same steps, to the same.
        p: Share of these frames, this one counted in, with at least this effect.
    """

    recording: int
    step: int
    queries: tuple[int, int]
    effect: float
    controls: dict[int, float]
    p: float


@dataclass(frozen=True)
class KnockOuts:
    """Key-frames against other frames of about their age.

    Attributes:
        each: One by one.
        n_skipped: Key-frames that had no other frame near enough.
        lift: Mean effect of a key-frame / mean effect of another frame, which counts as 1e-6 nats where it is less:
            float32 rounds there. None without any key-frame.
        interval: Its 95 % interval: resampled recordings, or key-frames where there is one recording; None for a single
            one of either.
        p: Share of draws, this one counted in, with at least the mean effect of the key-frames, when of each key-frame
            and its other frames one is drawn at random in its place; None without any.
        resampled: What the interval is made of.
    """

    each: tuple[KnockOut, ...]
    n_skipped: int
    lift: float | None
    interval: Interval | None
    p: float | None
    resampled: str

    def table(self, recordings: Sequence[str]) -> Table:
        """One row for each, and the lift; ``recordings`` are their names."""
        several = len(recordings) > 1
        rows: list[tuple[Cell, ...]] = []
        for k in self.each:
            values = np.array(list(k.controls.values()))
            rows.append((*([recordings[k.recording]] if several else []), k.step,
                         f"{k.queries[0]} to {k.queries[1]}", k.effect, float(values.mean()),
                         Interval(float(values.min()), float(values.max())), len(values), k.p))
        said = "nothing to compare" if self.lift is None else f"lift {self.lift:.3g}, " + (
            "" if self.interval is None else f"95 % [{self.interval.low:.3g}, {self.interval.high:.3g}], "
        ) + f"p {self.p:.2g}"
        skipped = f" {self.n_skipped} more had no other frame near enough." if self.n_skipped else ""
        return Table(f"Key-frames hidden during their longest streak: {said}",
                     (*(["recording"] if several else []), "step", "queries", "KL (nats)", "other frames, mean",
                      "range", "n", "p"), tuple(rows),
                     f"KL of the action, untreated to hidden. Other frames: no key-frames, at most {NEAR} steps older "
                     "or\nyounger, hidden in the same steps. lift: ratio of the means, interval by "
                     f"{self.resampled};\np: rank when key-frames change places with these.{skipped}")


def knock_out(recordings: Sequence[Recording], agent: Agent, windows: Sequence[Sequence[Window]], *, apart: int,
              most: int, n_controls: int, tick: Callable[[int], None], seed: int = 0) -> KnockOuts:
    """Hide frames from all heads (``MemoryKnockout`` with ``mode: read``) during some queries, over recorded pictures.

    Args:
        recordings: Untreated ones, from their first step on.
        agent: One that tells log-probabilities.
        windows: Per recording, (step, (first query, last query)) of its key-frames, the most important first.
        apart: Other frames are farther than this from every key-frame.
        most: Hide so many key-frames of a recording.
        n_controls: Other frames, at random, for each.
        tick: Called with the number of steps looked over.
        seed: Of the choice of other frames.

    Raises:
        AgentError: for an agent that tells no log-probabilities.
    """
    rng, found, n_skipped = np.random.default_rng(seed), list[KnockOut](), 0
    for number, (recording, frames) in enumerate(zip(recordings, windows, strict=True)):
        base: list[AgentOutput] = []
        for step, queries in frames[:most]:
            others = [s for s in range(max(0, step - NEAR), min(step + NEAR + 1, queries[0]))
                      if all(abs(s - key) > apart for key, _ in frames)]
            if not others:
                n_skipped += 1
                continue
            base = base or look_over(recording, agent, (), (), tick)[0]
            drawn = sorted(map(int, rng.choice(others, min(n_controls, len(others)), replace=False)))
            effect, *rest = (_effect(recording, agent, base, frame, queries, tick) for frame in (step, *drawn))
            found.append(KnockOut(number, step, queries, effect, dict(zip(drawn, rest, strict=True)),
                                  rank_p(effect, rest)))
    return _sum_up(found, n_skipped, rng)


def _effect(recording: Recording, agent: Agent, base: Sequence[AgentOutput], frame: int, queries: tuple[int, int],
            tick: Callable[[int], None]) -> float:
    hidden = MemoryKnockout(steps=(frame,), schedule=Schedule(between=queries))
    outputs, _ = look_over(recording, agent, [hidden], [hidden], tick)
    rows = slice(queries[0], queries[1] + 1)

    def head(name: str) -> Any:
        return kl_divergence(*(np.stack([o.log_probs[name] for o in side[rows]]) for side in (base, outputs)))

    # Buttons and camera are drawn independently, so the divergences of the heads add up.
    return float(sum(head(name) for name in base[0].log_probs).mean())


def _sum_up(found: Sequence[KnockOut], n_skipped: int, rng: np.random.Generator) -> KnockOuts:
    if not found:
        return KnockOuts((), n_skipped, None, None, None, "none")
    pairs: dict[int, list[tuple[float, float]]] = {}
    for k in found:
        pairs.setdefault(k.recording, []).append((k.effect, float(np.mean(list(k.controls.values())))))
    units = [np.array(each) for each in pairs.values()]
    key, other = np.concatenate(units).mean(0)
    interval, resampled = None, "none, there is one key-frame"
    if len(found) > 1:
        draws = block_means(units, 1)
        interval = percentile_interval(draws[:, 0] / np.maximum(draws[:, 1], _ROUNDING))
        resampled = f"resampled recordings ({len(units)})" if len(units) > 1 else \
            f"resampled key-frames ({len(found)}) of one recording"
    places = np.array([rng.choice([k.effect, *k.controls.values()], _DRAWS) for k in found]).mean(0)
    p = (1 + int((places >= key).sum())) / (1 + _DRAWS)
    return KnockOuts(tuple(found), n_skipped, float(key / max(other, _ROUNDING)), interval, p, resampled)
