"""Frames at which something happened, and whether other frames are found near them more often than at random."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import RecordingError, unknown_name
from harness.recording.recording import Recording
from harness.statistics import Interval, holm, wilson

__all__ = ["Agreement", "agreements", "event_frames", "n_matched", "random_frames"]

Ints = npt.NDArray[np.int64]
ALL = "all"


@dataclass(frozen=True)
class Agreement:
    """How well some frames agree with the frames of some events.

    Attributes:
        kind: Of event; ``all`` for all kinds together.
        n_events: Such events, of all recordings; those that crowd count as one.
        n_matched: Pairs of a frame and an event no farther apart than the tolerance, each used once, as many as there
            can be.
        precision: Matched frames / frames; None without any.
        recall: Matched events / events.
        f1: 2 matched / (frames + events), the harmonic mean of both.
        precision_interval: Wilson's, 95 %; (0, 1) without any.
        recall_interval: Likewise.
        null: Mean F1 of as many random frames.
        null_interval: Its central 95 %.
        p: Share of random draws, this one counted in, with at least this F1; of single kinds adjusted by Holm.
    """

    kind: str
    n_events: int
    n_matched: int
    precision: float | None
    recall: float
    f1: float
    precision_interval: Interval
    recall_interval: Interval
    null: float
    null_interval: Interval
    p: float


def event_frames(recording: Recording) -> dict[str, list[int]]:
    """Kind of event to the frames that first show it, by place in the recording, each once, in order.

    The world's events (``mine_block``, ``pickup``, ``damage_entity``, ...) and an outcome ``looked_at`` that came true
    (``seen: NAME``, once) stand in the row of the step in which they happened; its picture was taken before, so they
    show in the next one. A scenario's own ``events`` (``scenario``) come before the picture of their step.
    """
    found: dict[str, set[int]] = {}
    for event in recording.events:
        if event.get("type") != "intervention":
            found.setdefault(str(event.get("type")), set()).add(event["step"] - recording.first_step + 1)
    scenario = recording.header["scenario"]
    last = recording.steps[-1].get("outcomes") if len(recording) else None
    for name, outcome in (scenario.get("outcomes") or {}).items():
        told = last.get(name) if isinstance(last, Mapping) else None
        if isinstance(outcome, Mapping) and "looked_at" in outcome and isinstance(told, Mapping) \
                and isinstance(told.get("first_step"), int):
            found[f"seen: {name}"] = {told["first_step"] - recording.first_step + 1}
    for event in scenario.get("events") or []:
        if isinstance(event, Mapping) and isinstance(event.get("step"), int):
            found.setdefault("scenario", set()).add(event["step"] - recording.first_step)
    there = {kind: sorted(frame for frame in frames if 0 <= frame < len(recording)) for kind, frames in found.items()}
    return {kind: frames for kind, frames in there.items() if frames}


def n_matched(frames: Sequence[int], events: Sequence[int], tolerance: int) -> int:
    """The most pairs of a frame and an event that lie no more than ``tolerance`` apart, each used once; both sorted."""
    i = j = n = 0
    while i < len(frames) and j < len(events):
        if abs(frames[i] - events[j]) <= tolerance:
            i, j, n = i + 1, j + 1, n + 1
        elif frames[i] < events[j]:
            i += 1
        else:
            j += 1
    return n


def random_frames(rng: np.random.Generator, n: int, k: int, apart: int) -> Ints:
    """``k`` of ``n`` frames, sorted, any two more than ``apart`` apart, all such choices equally likely."""
    chosen = np.sort(rng.choice(n - (k - 1) * apart, k, replace=False)) if k else np.zeros(0, np.int64)
    return np.asarray(chosen + apart * np.arange(k), np.int64)


def agreements(frames: Sequence[Sequence[int]], events: Sequence[Mapping[str, Sequence[int]]], eligible: Sequence[int],
               *, kinds: Sequence[str] = (), tolerance: int = 2, apart: int = 2, draws: int = 999,
               seed: int = 0) -> list[Agreement]:
    """Score frames against events, all kinds together first, then kind by kind, beside as many random frames.

    Args:
        frames: Per recording, the frames that were picked, sorted.
        events: Per recording, what ``event_frames`` gives.
        eligible: Per recording, how many frames, from its first on, could have been picked: random ones are drawn, and
            events counted, among these.
        kinds: Which kinds count: names or globs; none for all.
        tolerance: Frames between an event and a frame that still agree.
        apart: Picked frames are farther apart than this, and so are random ones. An event that is not so far from the
            one before counts with it.
        draws: How many times random frames are drawn.
        seed: Of the draws.

    Returns:
        Nothing where there are no events.

    Raises:
        RecordingError: for kinds of which none occurs.
    """
    known = list(dict.fromkeys(kind for each in events for kind in each))
    for each in kinds:
        if not fnmatch.filter(known, each):
            raise unknown_name("kind of event in these recordings", each, known, error=RecordingError)
    counted = [kind for kind in known if not kinds or any(fnmatch.fnmatchcase(kind, each) for each in kinds)]
    there = [{kind: [f for f in each.get(kind, ()) if f < n] for kind in counted}
             for each, n in zip(events, eligible, strict=True)]
    sides = {ALL: [_spaced({f for each in one.values() for f in each}, apart) for one in there],
             **{kind: [_spaced(one[kind], apart) for one in there] for kind in counted}}
    sides = {kind: side for kind, side in sides.items() if any(side)}
    if not sides:
        return []
    rng = np.random.default_rng(seed)
    n_frames = sum(map(len, frames))
    null: dict[str, list[float]] = {kind: [] for kind in sides}
    for _ in range(draws):
        drawn = [random_frames(rng, n, len(picked), apart).tolist()
                 for n, picked in zip(eligible, frames, strict=True)]
        for kind, side in sides.items():
            null[kind].append(_f1(_matched(drawn, side, tolerance), n_frames, side))
    found = []
    for kind, side in sides.items():
        m, n = _matched(frames, side, tolerance), sum(map(len, side))
        f1, low_high = _f1(m, n_frames, side), np.percentile(null[kind], [2.5, 97.5])
        p = (1 + sum(draw >= f1 for draw in null[kind])) / (1 + draws)
        found.append(Agreement(kind, n, m, m / n_frames if n_frames else None, m / n, f1, wilson(m, n_frames),
                               wilson(m, n), float(np.mean(null[kind])), Interval(*map(float, low_high)), p))
    single = holm([each.p for each in found[1:]])
    return [found[0], *(Agreement(**{**vars(each), "p": p}) for each, p in zip(found[1:], single, strict=True))]


def _spaced(frames: Iterable[int], apart: int) -> list[int]:
    """The first of each crowd, in order."""
    kept: list[int] = []
    for frame in sorted(frames):
        if not kept or frame - kept[-1] > apart:
            kept.append(frame)
    return kept


def _matched(frames: Sequence[Sequence[int]], side: Sequence[Sequence[int]], tolerance: int) -> int:
    return sum(n_matched(one, other, tolerance) for one, other in zip(frames, side, strict=True))


def _f1(matched: int, n_frames: int, side: Sequence[Sequence[int]]) -> float:
    return 2 * matched / (n_frames + sum(map(len, side)))
