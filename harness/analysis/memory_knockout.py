"""Which past frames a choice depends on: frames are taken out of the memory one by one, in three senses.

The memory of a transformer that keeps keys and values is longer than its window: what a frame wrote is read by later
frames, and what those took over is read after the frame itself has left. With ``blocks`` blocks that each see
``window`` frames, information travels ``blocks * (window - 1)`` steps, 508 for VPT, and not one further.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.agent.agent import Agent
from harness.agent.vpt.agent import VPTAgent
from harness.agent.vpt.state import VPTState
from harness.analysis.effects import BLOCK
from harness.analysis.embedded import embeddings, nearest_memory, transformer_agent
from harness.analysis.open_loop import Progress, check_key, check_untreated, kl_divergence, log_odds, ticks
from harness.analysis.result import Cell, Result, Table, result_provenance
from harness.errors import HarnessError, unknown_name
from harness.recording.recording import Recording
from harness.statistics import Interval, block_means, percentile_interval, rank_p
from harness.world.action import BUTTONS
from harness.world.observation import EVENT_TYPES

__all__ = ["MODES", "MemoryEffects", "memory_effects"]

Float = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]
MODES = ("read", "write", "full")
"""The senses in which a frame is taken out; the first axis of the arrays."""
PERMUTATIONS = 999
TOP_FRAMES = 8


@dataclass(frozen=True)
class MemoryEffects(Result):
    """What taking a frame out changes.

    Attributes:
        ages: int64 [age].
        steps: The query steps, of one recording after the other, int64 [query].
        recordings: Which recording a query is of, int64 [query].
        kl: D(pi || pi without the frame) of the action, buttons and camera, in nats, float64 [mode, query, age]; NaN
            where the frame lies before the recording, or where no query can read it (``read`` beyond the window).
        log_odds: Log-odds of the key without the frame less with it, in nats, likewise.
        floor: The largest divergence that hiding a slot which no query sees anyway makes: what rounding does.
        reach: The greatest age that can have an effect at all, ``blocks * (window - 1)``.
        key: Whose log-odds.
        eps: Below this, in nats, an effect counts as none.
    """

    ages: Int
    steps: Int
    recordings: Int
    kl: Float
    log_odds: Float
    floor: float
    reach: int
    key: str
    eps: float

    def _series(self, values: Float) -> list[Float]:
        """Values [query, ...] by recording, queries without the frame left out."""
        there = ~np.isnan(values.reshape(len(values), -1)).any(1)
        return [part for number in np.unique(self.recordings)
                if len(part := values[there & (self.recordings == number)])]

    def _draws(self, values: Float) -> Float | None:
        """Means over resampled queries; None where one recording is no longer than a block: every draw is it again."""
        series, gaps = self._series(values), np.diff(self.steps)
        spacing = max(1.0, float(np.median(gaps[gaps > 0]))) if (gaps > 0).any() else 1.0
        length = max(1, round(BLOCK / spacing))
        return block_means(series, length) if len(series) > 1 or sum(map(len, series)) > length else None

    def mean(self, mode: str) -> Float:
        """Mean divergence over the queries, float64 [age]; NaN where no query has such a frame."""
        return _means(self.kl[MODES.index(mode)])

    def interval(self, mode: str, age: int) -> Interval | None:
        """95 % of the mean: recordings resampled, or blocks of 20 steps of a single one; None for a shorter one."""
        draws = self._draws(self.kl[MODES.index(mode)][:, self._column(age)])
        return None if draws is None else percentile_interval(draws)

    def relayed(self, age: int) -> tuple[float, Interval | None] | None:
        """Relayed share 1 - read / full, of the means over the same queries; None where full is below ``eps``."""
        column = self._column(age)
        pair = np.stack([self.kl[MODES.index(mode)][:, column] for mode in ("read", "full")], -1)
        series = self._series(pair)
        if not series:
            return None
        read, full = np.concatenate(series).mean(0)
        if full < max(self.eps, 10 * self.floor):
            return None
        draws = self._draws(pair)
        if draws is None or (draws[:, 1] <= 0).any():
            return float(1 - read / full), None
        return float(1 - read / full), percentile_interval(1 - draws[:, 0] / draws[:, 1])

    def horizon(self, mode: str) -> int | None:
        """h_eps: the smallest of the ages tried beyond which no mean effect reaches ``eps``; 0 for no effect at all.

        None where the oldest one still does: the horizon lies further back than was tried.
        """
        means = self.mean(mode)
        over = np.flatnonzero(np.nan_to_num(means) >= self.eps)
        if not len(over):
            return 0
        later = np.flatnonzero(~np.isnan(means[over[-1] + 1:]))
        return int(self.ages[over[-1]]) if len(later) else None

    def peak(self, mode: str) -> tuple[int, float, float]:
        """The age of the largest mean effect, that effect, and its p.

        p: share of 999 random rearrangements, the observed one counted in, whose largest mean is at least as large. In
        each, every query's effects are dealt out to its ages anew: a peak is more than chance only if the queries agree
        on the age.
        """
        values = self.kl[MODES.index(mode)]
        means = _means(values)
        best = int(np.nanargmax(means))
        rng, null = np.random.default_rng(0), []
        there = ~np.isnan(values)
        for _ in range(PERMUTATIONS):
            dealt = values.copy()
            for row, mask in zip(dealt, there, strict=True):
                row[mask] = rng.permutation(row[mask])
            null.append(float(np.nanmax(_means(dealt))))
        return int(self.ages[best]), float(means[best]), rank_p(float(means[best]), null)

    def _column(self, age: int) -> int:
        return int(np.flatnonzero(self.ages == age)[0])

    def tables(self) -> Sequence[Table]:
        """Summary, effects by age, what they did to the key, and the frames that mattered most."""
        return (self._summary(), self._by_age(), self._by_way(), self._frames())

    def _about(self) -> str:
        n = len(np.unique(self.recordings))
        warning = " Its weights are random: nothing here was learned." if "random weights" in self._who else ""
        return (f"{len(self.steps)} query steps of {n} recording{'s' * (n > 1)}; D(pi || pi without the frame) in "
                f"nats, of which rounding makes {self.floor:.1g}.{warning}")

    @property
    def _who(self) -> str:
        return str(self.provenance["agent"])

    def _summary(self) -> Table:
        rows = []
        for mode in MODES:
            age, value, p = self.peak(mode)
            horizon = self.horizon(mode)
            found = (age, value, self.interval(mode, age), p) if value >= self.eps else ("none", value, None, None)
            rows.append((mode, *found, f"> {self.ages[-1]}" if horizon is None else horizon))
        return Table(f"memory of {self._who}", ("taken out", "peak at age", "divergence", "95 %", "p", "horizon"),
                     tuple(rows),
                     f"{self._about()}\nread: no query of the step looks at it; write: no later frame ever did; full: "
                     "it never was there. p: the peak against effects dealt out to the ages at random; it says that "
                     "the queries agree on an age, not that the effect is large. Horizon: "
                     f"beyond this age no mean effect reaches {self.eps:g} nats. None is possible beyond age "
                     f"{self.reach}.")

    def _ages_there(self) -> list[tuple[int, int]]:
        """Column and age of those that some query has."""
        there = ~np.isnan(self.mean("full"))
        return [(column, int(age)) for column, age in enumerate(self.ages) if there[column]]

    def _by_age(self) -> Table:
        means = {mode: self.mean(mode) for mode in MODES}
        rows: list[tuple[Cell, ...]] = []
        for column, age in self._ages_there():
            cells: list[Cell] = [age, int((~np.isnan(self.kl[MODES.index("full")][:, column])).sum())]
            for mode in MODES:
                value = float(means[mode][column])
                cells += [None, None] if np.isnan(value) else [_short(value), _short_ends(self.interval(mode, age))]
            rows.append(tuple(cells))
        columns = ("age", "n", "read", "95 %", "write", "95 %", "full", "95 %")
        return Table("divergence by frame age", columns, tuple(rows),
                     f"Intervals: recordings resampled, or blocks of {BLOCK} steps where there is only one; none where "
                     "it is no longer than a block.")

    def _by_way(self) -> Table:
        changes = [_means(self.log_odds[MODES.index(mode)]) for mode in MODES]
        rows: list[tuple[Cell, ...]] = []
        for column, age in self._ages_there():
            share, interval = self.relayed(age) or (None, None)
            cells = (float(change[column]) for change in changes)
            rows.append((age, *(None if np.isnan(cell) else _short(cell) for cell in cells), share, interval))
        return Table(f"log-odds of {self.key} by frame age, and the relayed share",
                     ("age", *(f"{self.key}, {mode}" for mode in MODES), "relayed", "95 %"), tuple(rows),
                     f"Without the frame less with it: a negative number means that it spoke for {self.key}. relayed = "
                     f"1 - read / full, where full is at least {self.eps:g} nats; below 0 where other frames make up "
                     "for one that never was.")

    def _frames(self) -> Table:
        full, change = self.kl[MODES.index("full")], self.log_odds[MODES.index("full")]
        query, column = np.nonzero(~np.isnan(full))
        frames = np.stack([self.recordings[query], self.steps[query] - self.ages[column]], -1)
        cells = {key: (frames == key).all(1) for key in map(tuple, np.unique(frames, axis=0).tolist())}
        means = {key: float(full[query[mine], column[mine]].mean()) for key, mine in cells.items()}
        rows: list[tuple[Cell, ...]] = []
        for key in sorted(means, key=lambda each: -means[each])[:TOP_FRAMES]:
            at = query[cells[key]], column[cells[key]]
            ages = self.ages[at[1]]
            rows.append((self.provenance["recordings"][key[0]], key[1],
                         str(ages.min()) if ages.min() == ages.max() else f"{ages.min()}-{ages.max()}", len(ages),
                         _short(means[key]), _short_ends(Interval(float(full[at].min()), float(full[at].max()))),
                         _short(float(change[at].mean())),
                         rank_p(means[key], [value for other, value in means.items()
                                             if other != key and other[0] == key[0]])))
        return Table("frames that mattered most, taken out in full",
                     ("recording", "step", "ages", "n", "divergence", "least, most", self.key, "p"), tuple(rows),
                     f"p: rank among the frames taken out of the same recording ({len(means)} of all). Least and most: "
                     "over the n queries.")


def _short(value: float) -> float:
    """For a table: what is far below any effect is nothing."""
    return round(value, 5) + 0.0  # no negative zero


def _short_ends(interval: Interval | None) -> Interval | None:
    return None if interval is None else Interval(*map(_short, interval))


def memory_effects(recordings: Sequence[Recording], *, agent: Agent, key: str = "attack",
                   steps: tuple[int, ...] | None = None, when: str | None = None, n: int = 24,
                   ages: tuple[int, ...] | None = None, eps: float = 0.01,
                   progress: Progress | None = None) -> MemoryEffects:
    """How far back a choice depends on what was seen: effect of each frame age, direct and relayed.

    For a query at step q and an age a, the frame of step q - a is taken out of the memory in the three senses of
    ``MemoryKnockout``, and the effect is D(pi_q || pi_q without it) of the action, that of the buttons and that of the
    camera added up, in nats; and the difference of the key's log-odds.

    - read: at step q no head looks at the frame (the direct edge), in no layer.
    - write: from step q - a + 1 on nobody looks at it: what it wrote is gone, for all later readers.
    - full: the sequence without it. Frames before it are then one step younger.

    Direct is read, and what came by way of other frames is relayed: relayed share = 1 - read / full, of the means over
    the queries. Effects do not add up: two frames that say the same each have none, and a share may be negative. The
    effective horizon h_eps is the smallest age beyond which no mean effect reaches eps.

    Under guidance (STEVE-1) a frame is taken out of the memories of both rows, and the divergence is that of their
    mixture.

    Controls: a slot of the memory that no query sees is hidden too (``floor``), and a peak is compared with effects
    dealt out to the ages at random. Ages beyond blocks * (window - 1) can have no effect; where a recording is long
    enough, the first of them is tried.

    Cost: pictures are looked at once, or not at all where ``hook_embed`` was recorded. Then the transformer alone runs,
    at most once for each frame taken out, from that frame to the last query.

    Source: the knock-outs are those of attention knock-out (Geva et al. 2023, arXiv 2304.14767), along time instead of
    token positions; the relayed path is that of Transformer-XL (Dai et al. 2019, arXiv 1901.02860).

    Args:
        recordings: One or more, made without interventions.
        agent: The recordings' agent.
        key: Button whose log-odds to follow.
        steps: The query steps; those that a recording lacks are left out of it.
        when: Instead, the steps in which this key was chosen (attack) or this event happened (damage_entity).
        n: At most so many queries a recording, spread evenly; over all steps where neither of the two is given.
        ages: Which; default 1 to 16, then half an octave apart up to one beyond the reach of the memory.
        eps: In nats; the effect that counts.
        progress: Told of frames taken out and queries.

    Returns:
        Arrays [mode, query, age].

    Raises:
        AgentError: for an agent without a transformer's memory.
        HarnessError: for an unknown key or event, or ages and steps that mean no frame.
        RecordingError: for a recording without steps, made under interventions, or forked.
    """
    check_key(key)
    check_untreated(recordings)
    player = transformer_agent(agent)
    config = player.policy.config
    reach = config.blocks * (config.window - 1)
    tried = _ages(ages, config.window, reach)
    queries = [_queries(recording, steps, when, n) for recording in recordings]
    if not any(query >= tried[0] for each in queries for query in each):
        raise HarnessError("no query step has a frame of these ages before it, so nothing can be taken out",
                           where=str(recordings[0].path), hint=f"the youngest age is {tried[0]}: name later steps")
    plans = [_Plan.of(each, tried) for each in queries]
    tick = ticks(progress, sum(len(plan.stops) for plan in plans))
    parts = [_measure(recording, player, key, plan, tried, tick)
             for recording, plan in zip(recordings, plans, strict=True)]
    said = {"key": key, "steps": steps, "when": when, "n": n, "ages": tried, "eps": eps}
    provenance = {**result_provenance("memory", recordings[0], **said), "recordings": [r.path.name for r in recordings],
                  "agent": _called(agent)}
    return MemoryEffects(
        provenance, np.array(tried, np.int64), np.concatenate([np.array(each, np.int64) for each in queries]),
        np.repeat(np.arange(len(queries)), [len(each) for each in queries]),
        np.concatenate([part.kl for part in parts], 1), np.concatenate([part.log_odds for part in parts], 1),
        max(part.floor for part in parts), reach, key, eps)


def _called(agent: Agent) -> str:
    return ", ".join(part for part in (agent.name, agent.description) if part)


def _means(values: Float) -> Float:
    """Means over the first axis that pass over NaN; NaN where nothing is left."""
    there = ~np.isnan(values)
    count = there.sum(0)
    return np.asarray(np.where(count > 0, np.where(there, values, 0.0).sum(0) / np.maximum(count, 1), np.nan))


def _ages(given: tuple[int, ...] | None, window: int, reach: int) -> list[int]:
    if given is not None:
        if not given or min(given) < 1:
            raise HarnessError(f"ages: expected whole numbers from 1 on, got {list(given)}",
                               hint="age 0 is the frame that is being looked at, which is in no memory yet")
        return sorted(set(given))
    coarse = [round(16 * 2 ** (k / 2)) for k in range(1, 32)]
    named = {*range(1, 17), *coarse, window - 1, window, reach}
    return sorted(age for age in named if age <= reach) + [reach + 1]


def _queries(recording: Recording, steps: tuple[int, ...] | None, when: str | None, n: int) -> list[int]:
    """The steps asked about, in order."""
    if steps is not None and when is not None:
        raise HarnessError("expected steps or when, got both")
    if n < 1:
        raise HarnessError(f"n: expected a number from 1 on, got {n}")
    if steps is not None:
        return sorted({step for step in steps if 0 <= step < len(recording)})
    found: Sequence[int] = range(1, len(recording))
    if when is not None:
        found = _happened(recording, when)
    return [found[i] for i in sorted({round(x) for x in np.linspace(0, len(found) - 1, min(n, len(found)))})]


def _happened(recording: Recording, what: str) -> list[int]:
    """The steps in which a key was chosen, or an event came of what was done."""
    if what in BUTTONS:
        return [number for number in range(len(recording)) if recording.steps[number]["chosen"][what]]
    if what not in EVENT_TYPES:
        raise unknown_name("key or event", what, [*BUTTONS, *EVENT_TYPES])
    return sorted({event["step"] for event in recording.events if event.get("type") == what})


@dataclass(frozen=True)
class _Plan:
    """What to compute at which step of one recording.

    Attributes:
        queries: In order.
        sources: The step of a frame to (row of the query, column of the age) of the effects to measure without it.
    """

    queries: list[int]
    sources: Mapping[int, list[tuple[int, int]]]

    @classmethod
    def of(cls, queries: list[int], ages: Sequence[int]) -> _Plan:
        sources: dict[int, list[tuple[int, int]]] = {}
        for row, query in enumerate(queries):
            for column, age in enumerate(ages):
                if query >= age:
                    sources.setdefault(query - age, []).append((row, column))
        return cls(queries, sources)

    @property
    def stops(self) -> list[int]:
        """The steps before which the memory is needed."""
        return sorted({*self.queries, *self.sources})


class _Effects:
    """The effects of one recording, float64 [mode, query, age], to be filled."""

    def __init__(self, n_queries: int, n_ages: int, key: str) -> None:
        self.kl = np.full((len(MODES), n_queries, n_ages), np.nan)
        self.log_odds = self.kl.copy()
        self.floor = 0.0
        self._key = key

    def differences(self, out: Any, t: int) -> tuple[Float, Float]:
        """Divergence and change of log-odds of the second and further rows at position t, against the first."""
        buttons, camera = (x[:, t].float().cpu().numpy() for x in (out.buttons, out.camera))
        odds = log_odds(buttons, self._key)
        return sum(kl_divergence(x[:1], x[1:]) for x in (buttons, camera)), odds[1:] - odds[0]  # type: ignore[return-value]

    def put(self, modes: Sequence[str], row: int, column: int, kl: Float, change: Float) -> None:
        for mode, one, two in zip(modes, kl, change, strict=True):
            self.kl[MODES.index(mode), row, column] = one
            self.log_odds[MODES.index(mode), row, column] = two


def _measure(recording: Recording, agent: VPTAgent, key: str, plan: _Plan, ages: Sequence[int],
             tick: Callable[[int], None]) -> _Effects:
    """All effects of one recording, in one go over its steps."""
    found = _Effects(len(plan.queries), len(ages), key)
    if not plan.stops:
        return found
    start, state = nearest_memory(recording, agent, plan.stops[0])
    embeds = embeddings(recording, agent, start, plan.queries[-1] + 1)
    at, window = start, agent.policy.config.window
    with torch.inference_mode():
        for stop in plan.stops:
            state, at = agent.remember(embeds[at - start:stop - start], state), stop
            if stop in plan.queries:
                row = plan.queries.index(stop)
                near = [(age, column) for column, age in enumerate(ages) if age <= min(stop, window - 1)]
                _read(agent, embeds[stop - start], state, found, row, near)
            if stop in plan.sources:
                wanted = [(plan.queries[row] - stop, row, column) for row, column in plan.sources[stop]]
                _without(agent, embeds[stop - start:stop - start + 1 + max(wanted)[0]], state, found, wanted)
            tick(1)
    return found


def _read(agent: VPTAgent, embed: Float32, state: VPTState, found: _Effects, row: int,
          near: Sequence[tuple[int, int]]) -> None:
    """One query with a frame hidden, for each frame (age, column), side by side.

    The first row hides none, the second the oldest slot, which the query does not see.
    """
    n, window = 2 + len(near), agent.policy.config.window
    hidden = _hidden(state.repeated(n), n, [0, *(window - age for age, _ in near)])
    out, _ = agent.look_embedded(torch.from_numpy(embed).expand(n, 1, -1), hidden)
    kl, change = found.differences(out, 0)
    found.floor = max(found.floor, float(kl[0]))
    for i, (_, column) in enumerate(near, 1):
        found.put(("read",), row, column, kl[i:i + 1], change[i:i + 1])


def _without(agent: VPTAgent, embeds: Float32, state: VPTState, found: _Effects,
             wanted: Sequence[tuple[int, int, int]]) -> None:
    """All queries (age, row, column) without one frame, the first of ``embeds``, whose memory before it is ``state``.

    Side by side the memory with the frame, with it hidden from everybody, and without it.
    """
    window = agent.policy.config.window
    _, after = agent.look_embedded(torch.from_numpy(embeds[:1])[None], state)
    rows = _last_replaced(_hidden(after.repeated(3), 3, [window - 1]), 3, state)
    for first in range(1, len(embeds), window):
        part = torch.from_numpy(embeds[first:first + window])
        out, rows = agent.look_embedded(part.expand(3, *part.shape), rows)
        for age, row, column in wanted:
            if first <= age < first + window:
                found.put(("write", "full"), row, column, *found.differences(out, age - first))


def _hidden(rows: VPTState, n: int, slots: Sequence[int]) -> VPTState:
    """Memories side by side, with the first of the slots hidden in the second memory, the next in the third, ..."""
    def hide(mask: torch.Tensor) -> torch.Tensor:
        new = mask.clone()
        for number, slot in enumerate(slots, 1):
            _by_memory(new, n)[:, number, slot] = False
        return new

    return replace(rows, masks=tuple(hide(mask) for mask in rows.masks))


def _last_replaced(rows: VPTState, n: int, last: VPTState) -> VPTState:
    """Memories side by side, with another in place of the last."""
    def put(whole: tuple[torch.Tensor, ...], own: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        new = tuple(part.clone() for part in whole)
        for part, one in zip(new, own, strict=True):
            _by_memory(part, n)[:, n - 1] = one
        return new

    return replace(rows, keys=put(rows.keys, last.keys), values=put(rows.values, last.values),
                   masks=put(rows.masks, last.masks))


def _by_memory(part: torch.Tensor, n: int) -> torch.Tensor:
    """A part of n memories as [guidance row, memory, ...]: all with the goal come first."""
    return part.view(-1, n, *part.shape[1:])
