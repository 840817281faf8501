"""Key-frames: past frames that heads keep looking at, beyond what frame age explains; scored against what happened."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent
from harness.analysis.attention import by_age, chosen_heads, holds_attention, same_agent, traced_attention
from harness.analysis.attention_split import age_prior, in_view
from harness.analysis.event_log import NEAR, Agreement, agreements, event_frames
from harness.analysis.keyframe_effects import KnockOuts, knock_out
from harness.analysis.open_loop import Progress, check_untreated, listen, ticks
from harness.analysis.result import Cell, Result, Table, result_provenance
from harness.errors import HarnessError, RecordingError
from harness.recording.recording import Recording
from harness.statistics import Interval

__all__ = ["KeyFrame", "KeyFrames", "Streaks", "find_streaks", "key_frames", "pick_frames"]

Array = npt.NDArray[Any]
_CHUNK = 256
_SHOWN = 20
_KINDS = ("pattern", "rel_bias")


@dataclass(frozen=True)
class Streaks:
    """What each frame of a recording gets from the heads, beyond the age prior.

    Attributes:
        received: Mean excess over the heads and over the queries that see it at ``min_age`` or more, float64 [t]; NaN
            where none does.
        mass: Excess summed over the queries of all its streaks, float64 [t].
        n_heads: Heads with a streak on it, int64 [t].
        head: The head with the most of its mass, int64 [t]; -1 without a streak.
        first: Age of the frame at the first query of this head's longest streak on it, int64 [t].
        last: Age at its last query.
        weight: Mean excess in that streak, float64 [t].
    """

    received: npt.NDArray[np.float64]
    mass: npt.NDArray[np.float64]
    n_heads: npt.NDArray[np.int64]
    head: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]


@dataclass(frozen=True)
class KeyFrame:
    """A frame that heads keep looking at.

    Attributes:
        recording: Place of its recording among those that were analysed.
        step: Which frame, as an absolute step.
        mass: Excess attention summed over the queries of all its streaks; one head that gives it all its weight for n
            queries gives about n.
        received: Mean excess over the chosen heads and all queries that see it at ``min_age`` or more.
        head: ``layer.head`` with the largest share of the mass.
        queries: First and last step of this head's longest streak.
        weight: Mean excess in that streak.
        n_heads: Heads with a streak on the frame.
        event: Kind of the nearest event; None when nothing happened.
        distance: Frames from the event to the key-frame.
    """

    recording: int
    step: int
    mass: float
    received: float
    head: str
    queries: tuple[int, int]
    weight: float
    n_heads: int
    event: str | None
    distance: int | None


@dataclass(frozen=True)
class KeyFrames(Result):
    """Key-frames of one recording or more, and what they agree with.

    Attributes:
        frames: In order of recording and step.
        agreements: With events, all kinds together first; empty where nothing happened.
        recordings: Their names.
        n_eligible: Frames that could have become one, of all recordings.
        tolerance: Frames between event and key-frame that still agree.
        n_null: Draws of other frames.
        series: What every frame received, per recording.
        effects: What knocking them out does; None where it was not asked for.
    """

    frames: tuple[KeyFrame, ...]
    agreements: tuple[Agreement, ...]
    recordings: tuple[str, ...]
    n_eligible: int
    tolerance: int
    n_null: int
    series: tuple[Streaks, ...]
    effects: KnockOuts | None

    @property
    def keyframes(self) -> dict[int, float]:
        """Of the first recording: step to mass."""
        return {each.step: each.mass for each in self.frames if each.recording == 0}

    def arrays(self) -> dict[str, Array]:
        """``recording``, ``received``, ``mass`` of every frame [t]; ``step``, ``step_recording`` of every key-frame."""
        return {"recording": np.concatenate([np.full(len(each.mass), i) for i, each in enumerate(self.series)]),
                "received": np.concatenate([each.received for each in self.series]),
                "mass": np.concatenate([each.mass for each in self.series]),
                "step": np.array([each.step for each in self.frames], np.int64),
                "step_recording": np.array([each.recording for each in self.frames], np.int64)}

    def tables(self) -> list[Table]:
        """The key-frames, their agreement with events, and what knocking them out does."""
        n = len(self.recordings)
        over = f"{self.provenance['agent']}; {n} recording{'s' * (n != 1)}"
        untaught = " Random weights: nothing here was learned." if "random weights" in over else ""
        shown = sorted(sorted(self.frames, key=lambda each: -each.mass)[:_SHOWN], key=self.frames.index)
        rows = tuple((*([self.recordings[each.recording]] if n > 1 else []), each.step, each.mass, each.received,
                      each.head, f"{each.queries[0]} to {each.queries[1]}", each.weight, each.n_heads, each.event,
                      each.distance) for each in shown)
        some = f"The {_SHOWN} with the most mass of {len(self.frames)}. " if len(self.frames) > _SHOWN else ""
        tables = [Table(f"{len(self.frames)} key-frames: {over}",
                        (*(["recording"] if n > 1 else []), "step", "mass", "received", "head", "queries", "weight",
                         "heads", "nearest event", "frames after"), rows,
                        f"{some}mass: excess attention in streaks; received: mean excess over heads and queries;\n"
                        f"weight: mean excess in the longest streak of the head named.{untaught}"), self._agreement(),
                  *([self._beside_chance()] if self.agreements else [])]
        return tables if self.effects is None else [*tables, self.effects.table(self.recordings)]

    def _agreement(self) -> Table:
        title = f"Key-frames against events, within {self.tolerance} frames"
        if not self.agreements:
            return Table(title, ("event",), (), "Nothing happened that could have been agreed with.")
        rows: list[tuple[Cell, ...]] = [
            (each.kind, each.n_events, each.n_matched, each.precision,
             _short(each.precision_interval) if self.frames else None, each.recall, _short(each.recall_interval))
            for each in self.agreements]
        return Table(title, ("event", "n", "matched", "precision", "95 %", "recall", "95 %"), tuple(rows),
                     f"n: events that a key-frame could show. {len(self.frames)} key-frames of {self.n_eligible} "
                     "frames. 95 %: Wilson's.")

    def _beside_chance(self) -> Table:
        rows: list[tuple[Cell, ...]] = [
            (each.kind, each.f1, _short(each.nearby.interval), each.nearby.p, _short(each.random.interval),
             each.random.p) for each in self.agreements]
        return Table("F1 beside as many other frames", ("event", "F1", "nearby, 95 %", "p", "random, 95 %", "p"),
                     tuple(rows),
                     f"nearby: each key-frame moved at random by up to {NEAR} frames; random: drawn from the whole "
                     f"recording; {self.n_null} times each.\nWhere key-frames and events both come early, random "
                     "frames are too easy to beat. p: rank of F1, of single kinds adjusted by Holm.")


def key_frames(recordings: Sequence[Recording], *, agent: Agent | None = None, heads: tuple[str, ...] = (),
               row: str | None = None, min_age: int = 4, excess: float = 0.1, streak: int = 3, apart: int = 2,
               tolerance: int = 2, events: tuple[str, ...] = (), draws: int = 999, causal: bool = False, most: int = 6,
               n_controls: int = 5, progress: Progress | None = None) -> KeyFrames:
    """Past frames that heads keep looking at beyond what frame age explains, and whether something happened there.

    With p(t, a) the weight that a head's query of step t gives to the frame of age a, and b(t, a) the bias by age:

    - *excess*: e(t, a) = p(t, a) - softmax_a b(t, a), over the frames in view: what the content alone adds, exactly.
      Frame i receives the mean of e(t, t - i) over the queries t >= i + min_age that see it.
    - *streak*: a run of at least ``streak`` queries, one after another, with e(t, t - i) >= ``excess`` for one frame i
      and one head. A head that always looks k frames back meets another frame in every step, and makes none.
    - *key-frame*: a frame with a streak. *mass* is its excess summed over the queries of its streaks, of all heads. Of
      frames that lie within ``apart`` of each other the one with the most mass is kept.

    Key-frames are compared with the event log: the frames that first show an event. Precision, recall and F1 count
    pairs no more than ``tolerance`` frames apart, each used once. There are two nulls of as many frames: drawn from the
    whole recording, and the key-frames themselves moved by up to eight frames, which keeps what early and late in an
    episode have in common. The second one counts.

    ``causal`` asks whether they matter: the agent looks over the recorded pictures with the frame hidden from all heads
    during its longest streak, and the KL divergence of its action is compared with that of hiding other frames, at most
    eight steps older or younger, during the same queries. *lift* is the ratio of the two means.

    Attention is not importance, which is what ``causal`` is for. A frame that a head looks at whatever happens (a sink,
    often the first) is a key-frame here. Frames that differ from all others stand out to an untaught network, too.

    Args:
        recordings: Of one agent, made without interventions. Where ``blocks.*.attn.hook_pattern`` and
            ``blocks.*.attn.hook_rel_bias`` were not recorded, the agent looks over the pictures again.
        agent: Theirs, or another, whose attention over the same pictures is then asked; None will do where both were
            recorded and nothing causal is asked.
        heads: ``layer.head`` or globs, as text: ["2.3"], ["1.*"]; none for all.
        row: Of a guided agent, ``cond`` or ``uncond``.
        min_age: Youngest age that counts: the last frames are looked at in any case.
        excess: Weight beyond the age prior from which a query counts as looking, between 0 and 1.
        streak: Queries in a row.
        apart: Key-frames are farther apart than this.
        tolerance: Frames between an event and a key-frame that agree.
        events: Kinds to compare with, names or globs: ["damage_*"], ["seen: *"], ["scenario"]; none for all.
        draws: How many times other frames are drawn.
        causal: Whether to knock them out.
        most: Knock out so many of a recording, those with the most mass; each costs 1 + n_controls runs.
        n_controls: Other frames that are hidden in its place.
        progress: Told of steps read and looked over.

    Raises:
        RecordingError: for recordings that were made under interventions, of several agents, too short, or without the
            hooks and without a way to make them; for a kind of event that did not occur.
        HarnessError: for an option out of range, or a head that is not there.
    """
    _check(min_age=min_age, streak=streak, draws=draws, most=most, n_controls=n_controls)
    if not 0 < excess < 1 or apart < 0 or tolerance < 0:
        raise HarnessError("expected excess between 0 and 1, apart and tolerance of 0 or more, got "
                           f"{excess}, {apart} and {tolerance}")
    same_agent(recordings)
    _refuse(recordings)
    if causal:
        check_untreated(recordings)
        if agent is None:
            raise HarnessError("causal needs the agent, to hide frames from it", hint="give agent=load_agent(...)")
    tick = ticks(progress, sum(map(len, recordings)) * (1 + causal * (1 + most * (1 + n_controls))))
    names: tuple[str, ...] = ()
    found, eligible = [], []
    for recording in recordings:
        names, beyond = _excess(recording, agent, row, heads, tick)
        if len(beyond) < min_age + streak:
            raise RecordingError(f"the recording has {len(beyond)} steps; a streak of {streak} at age {min_age} needs "
                                 f"{min_age + streak}", where=str(recording.path))
        found.append(find_streaks(beyond, min_age, excess, streak))
        eligible.append(len(beyond) - min_age - streak + 1)
    picked = [pick_frames(each.mass, apart) for each in found]
    happened = [event_frames(recording) for recording in recordings]
    scores = agreements(picked, happened, eligible, kinds=events, tolerance=tolerance, apart=apart, draws=draws)
    frames = tuple(_key_frame(number, recordings[number].first_step, i, found[number], names, happened[number])
                   for number, chosen in enumerate(picked) for i in chosen)
    said = {"heads": list(heads), "row": row, "min_age": min_age, "excess": excess, "streak": streak, "apart": apart,
            "tolerance": tolerance, "events": list(events), "draws": draws, "causal": causal, "most": most,
            "n_controls": n_controls}
    effects = None
    if causal and agent is not None:
        windows = [[(f.step, f.queries) for f in sorted(frames, key=lambda f: -f.mass) if f.recording == number]
                   for number in range(len(recordings))]
        effects = knock_out(recordings, agent, windows, apart=apart, most=most, n_controls=n_controls, tick=tick)
    paths = tuple(recording.path.name for recording in recordings)
    who = recordings[0].agent_description
    if agent is not None and not _recorded(recordings[0], agent):
        who = f"{agent.name}, {agent.description}, over pictures of {who}"
    return KeyFrames({**result_provenance("keyframes", recordings[0], **said), "recordings": list(paths), "agent": who},
                     frames,
                     tuple(scores), paths, sum(eligible), tolerance, draws, tuple(found), effects)


def find_streaks(beyond: Array, min_age: int, excess: float, streak: int) -> Streaks:
    """Streaks of attention on each frame.

    Args:
        beyond: Attention beyond the age prior, float [t, head, age]; 0 where nothing is in view.
        min_age: Youngest age that counts.
        excess: What a query must give a frame to count as looking.
        streak: Queries in a row.
    """
    n, n_heads, window = beyond.shape
    best, first, last = np.zeros(n), np.zeros(n, np.int64), np.zeros(n, np.int64)
    head, weight = np.full(n, -1, np.int64), np.zeros(n)
    mass, holding, received = np.zeros(n), np.zeros(n, np.int64), np.zeros(n)
    for number in range(n_heads):
        seen = _by_frame(np.asarray(beyond[:, number], np.float64))
        seen[:, :min_age] = 0
        received += seen.sum(1)
        runs = _run_lengths(seen >= excess)
        mine = np.where(runs >= streak, seen, 0).sum(1)
        mass += mine
        holding += mine > 0
        more = np.flatnonzero(mine > best)
        begin = runs[more].argmax(1)
        length = runs[more, begin]
        total = np.concatenate([np.zeros((n, 1)), seen.cumsum(1)], 1)
        best[more], head[more], first[more], last[more] = mine[more], number, begin, begin + length - 1
        weight[more] = (total[more, begin + length] - total[more, begin]) / length
    queries = np.minimum(window - 1, n - 1 - np.arange(n)) - min_age + 1
    return Streaks(np.where(queries > 0, received / np.maximum(queries, 1) / max(n_heads, 1), np.nan), mass, holding,
                   head, first, last, weight)


def pick_frames(mass: npt.NDArray[np.float64], apart: int) -> list[int]:
    """Frames with mass, any two more than ``apart`` apart; where they crowd, those with the most. Sorted."""
    kept: list[int] = []
    for frame in np.argsort(-mass, kind="stable"):
        if mass[frame] > 0 and all(abs(int(frame) - other) > apart for other in kept):
            kept.append(int(frame))
    return sorted(kept)


def _by_frame(beyond: Array) -> Array:
    """From queries [t, age] to frames [t, age]: what the frame got when it was so old; 0 after the end."""
    n, window = beyond.shape
    padded = np.concatenate([beyond, np.zeros((window, window))])
    ages = np.arange(window)
    return np.asarray(padded[np.arange(n)[:, None] + ages, ages])


def _run_lengths(held: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Length of the run of True along the last axis that each place belongs to, 0 outside."""
    lengths = np.zeros(held.shape, np.int64)
    for place in range(held.shape[1]):
        before = lengths[:, place - 1] if place else 0
        lengths[:, place] = (before + 1) * held[:, place]
    for place in range(held.shape[1] - 2, -1, -1):
        longer = held[:, place] & held[:, place + 1]
        lengths[longer, place] = lengths[longer, place + 1]
    return lengths


def _excess(recording: Recording, agent: Agent | None, row: str | None, heads: Sequence[str],
            tick: Callable[[int], None]) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """Names of the chosen heads, and what their queries give beyond the age prior, float32 [t, head, age]."""
    if agent is not None and not (_recorded(recording, agent) and holds_attention(recording, _KINDS, row)):
        return _look_again(recording, agent, row, heads, tick)
    traced = traced_attention(recording, _KINDS, row)
    kept = chosen_heads(traced.names, heads)
    beyond = np.zeros((traced.n_steps, len(kept), traced.window), np.float32)
    for start in range(0, traced.n_steps, _CHUNK):
        stop = min(start + _CHUNK, traced.n_steps)
        pattern, bias = (np.concatenate([traced.read(kind, layer, start, stop) for layer in traced.layers], 1)[:, kept]
                         for kind in _KINDS)
        beyond[start:stop] = _beyond(pattern, bias, traced.n_visible(start, stop))
        tick(stop - start)
    return tuple(traced.names[i] for i in kept), beyond


def _recorded(recording: Recording, agent: Agent) -> bool:
    """Whether it was this agent whose attention was recorded, not another that looks at the same pictures."""
    then, now = recording.header["agent"], agent.provenance()
    return all(then.get(key) == now.get(key) for key in ("class", "weights_digest"))


def _look_again(recording: Recording, agent: Agent, row: str | None, heads: Sequence[str],
                tick: Callable[[int], None]) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """The same from the agent, over the recorded pictures."""
    start = f"{row}." if row else "cond." if recording.guidance_rows else ""
    hooks = {kind: [name for name in agent.hook_shapes()
                    if re.fullmatch(rf"{re.escape(start)}blocks\.\d+\.attn\.hook_{kind}", name)] for kind in _KINDS}
    if not all(hooks.values()):
        raise RecordingError(f"the recording holds no attention, and {agent.name} has none", where=str(recording.path),
                             hint="take a recording of an agent with a network, such as vpt-nano")
    n_heads, width = agent.hook_shapes()[hooks["pattern"][0]][0]
    names = [f"{layer}.{head}" for layer in range(len(hooks["pattern"])) for head in range(n_heads)]
    kept = chosen_heads(names, heads)
    beyond, done = np.zeros((len(recording), len(kept), width - 1), np.float32), 0
    for outputs in listen(recording, agent, [*hooks["pattern"], *hooks["rel_bias"]], tick):
        pattern, bias = (np.stack([np.concatenate([np.asarray(o.activations[name]) for name in hooks[kind]])[kept]
                                   for o in outputs]) for kind in _KINDS)
        steps = np.arange(done, done + len(outputs))
        beyond[steps] = _beyond(by_age(pattern), by_age(bias), np.minimum(steps + 1, width - 1))
        done += len(outputs)
    return tuple(names[i] for i in kept), beyond


def _beyond(pattern: Array, bias: Array, n_visible: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Pattern less age prior, [t, head, age]."""
    return np.asarray(pattern - age_prior(bias, in_view(n_visible, pattern.shape[-1])), np.float32)


def _key_frame(recording: int, first_step: int, frame: int, found: Streaks, names: Sequence[str],
               happened: Mapping[str, Sequence[int]]) -> KeyFrame:
    near = min(((abs(frame - event), event, kind) for kind, events in happened.items() for event in events),
               default=None)
    step = first_step + frame
    return KeyFrame(recording, step, float(found.mass[frame]), float(found.received[frame]), names[found.head[frame]],
                    (step + int(found.first[frame]), step + int(found.last[frame])), float(found.weight[frame]),
                    int(found.n_heads[frame]), None if near is None else near[2],
                    None if near is None else frame - near[1])


def _check(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise HarnessError(f"{name}: expected a number from 1 on, got {value}")


def _refuse(recordings: Sequence[Recording]) -> None:
    """A frame that was hidden would be taken for one that is not looked at."""
    for recording in recordings:
        if recording.header["interventions"]:
            raise RecordingError("the recording was made under interventions, which may have changed what was seen",
                                 where=str(recording.path), hint="take one that was made without --intervene")


def _short(interval: Interval) -> Interval:
    return Interval(round(interval.low, 3), round(interval.high, 3))
