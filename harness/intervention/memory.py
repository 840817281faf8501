"""Interventions on what the agent remembers.

A frame is taken from a memory in one of three senses, and they differ. ``read``: in the steps of the schedule no query
looks at it; later queries do. ``write``: what it wrote is taken away for all later queries; what other frames took
over from it while it was there stays. ``full``: the memory becomes the one that the agent would have if it had never
seen the frame.

Ages count back from the frame that is being looked at, which has age 0. Steps are absolute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent, AgentState
from harness.errors import HarnessError, InterventionError
from harness.intervention.arrays import ArrayValue
from harness.intervention.feature.attention import cut_scores, key_ages, other_frames
from harness.intervention.feature.edit import step_views, whole_numbers
from harness.intervention.intervention import Edit, History, Intervention, Moment, Site, Span
from harness.world.world import Capabilities

__all__ = ["MemoryFreeze", "MemoryKnockout", "MemoryReset", "MemorySwap", "MemoryWindow"]

_MODES = ("read", "write", "full")
_SCORES = "attn.hook_attn_scores"
KEEP_EVERY = 32
"""Steps between two memories that a full removal keeps, where it cannot know beforehand how far back it must go."""


def _wrong(owner: Intervention, message: str, hint: str | None = None) -> InterventionError:
    return InterventionError(f"{type(owner).__name__}: {message}", hint=hint)


def _window(agent: Agent) -> tuple[int, int, int]:
    """Blocks, heads and frames (the current one included) of an agent's attention; zeros without one."""
    shapes = agent.hook_shapes()
    found = [shape for name, (shape, _) in shapes.items()
             if name.endswith(_SCORES) and name.removeprefix("cond.").startswith("blocks.")]
    return (len(found), found[0][0], found[0][1] - 1) if found else (0, 0, 0)


@dataclass(frozen=True)
class _MemoryEdit(Intervention):
    """Base of all of them."""

    site: ClassVar[Site] = "memory"

    def check(self, agent: Agent, capabilities: Capabilities | None = None) -> None:
        """Refuse an agent that remembers nothing.

        Raises:
            InterventionError: naming the agent.
        """
        if not _window(agent)[0]:
            raise _wrong(self, f"{agent.name} has no memory that can be changed",
                         hint="memories are those of agents with a network, such as vpt-nano")
        super().check(agent, capabilities)


@dataclass(frozen=True)
class _Unread(_MemoryEdit):
    """Base of those that hide frames from a query: a key whose score is cut weighs nothing, the rest sums to 1.

    A query that would be left with nothing to look at is left alone.

    Attributes:
        layers: Only in these blocks, 0 for the first; None for all.
        heads: Only in these heads; None for all.
        row: ``cond`` or ``uncond``: only in this row of a guided agent; None for both.
    """

    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    row: str | None = None

    def __post_init__(self) -> None:
        for name in ("layers", "heads"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole_numbers(getattr(self, name), f"{type(self).__name__}: {name}"))
        if self.row not in (None, "cond", "uncond"):
            raise _wrong(self, f"row: expected cond or uncond, got {self.row!r}")

    def check(self, agent: Agent, capabilities: Capabilities | None = None) -> None:
        """Refuse layers or heads that the agent has not."""
        n_blocks, n_heads, _ = _window(agent)
        if n_blocks:
            for name, n in (("layers", n_blocks), ("heads", n_heads)):
                asked = getattr(self, name)
                if asked is not None and asked[-1] >= n:
                    raise _wrong(self, f"{name}: {agent.name} has {name} 0 to {n - 1}, got {asked[-1]}")
        super().check(agent, capabilities)

    def edits(self) -> Sequence[tuple[str, Edit]]:
        """One edit of the scores in each block."""
        start = f"{self.row}." if self.row else ""
        layers: Sequence[Any] = ("*",) if self.layers is None else self.layers
        return [(f"{start}blocks.{layer}.{_SCORES}", self._cut) for layer in layers]

    def hidden(self, row: Any, step: int, active: bool, span: Span) -> Any:
        """Which keys of one query [b, h, T], oldest first, to hide: columns, or a mask of the row's shape."""
        raise NotImplementedError

    def _cut(self, x: Any, point: Any, span: Span) -> Any:
        changed = None
        for n, row in step_views(x, point):
            hidden = self.hidden(row, span.steps[n], span.active[n], span)
            if isinstance(hidden, list):
                if not hidden:
                    continue
                mask = row.new_zeros(row.shape).bool()
                mask[..., hidden] = True
            else:
                mask = hidden
            if mask is None:
                continue
            if self.heads is not None:
                others = [h for h in range(row.shape[1]) if h not in self.heads]
                mask[:, others] = False
            lowest = cut_scores(row, range(row.shape[-1]))
            new = lowest.where(mask, row)
            left = (new > lowest.abs().neg() / 10).any(-1, keepdim=True)
            new = new.where(left, row)
            changed = x.clone() if changed is None else changed
            for m, view in step_views(changed, point):
                if m == n:
                    view.copy_(new)
                    break
        return x if changed is None else changed


@dataclass(frozen=True)
class MemoryWindow(_Unread):
    """Let the agent look back at its last frames only.

    Attributes:
        last: How many, the current one included.
    """

    last: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.last, bool) or not isinstance(self.last, int) or self.last < 1:
            raise _wrong(self, f"last: expected a number of frames from 1 on, got {self.last!r}")

    def check(self, agent: Agent, capabilities: Capabilities | None = None) -> None:
        """Refuse a window that is no smaller than the agent's."""
        super().check(agent, capabilities)
        window = _window(agent)[2]
        if self.last >= window:
            raise _wrong(self, f"last: {agent.name} sees {window} frames anyway, got {self.last}")

    def hidden(self, row: Any, step: int, active: bool, span: Span) -> Any:
        """All that is older."""
        return [column for column, age in enumerate(key_ages(row.shape[-1])) if age >= self.last] if active else []


@dataclass(frozen=True)
class MemoryKnockout(_Unread):
    """Take frames out of the memory.

    Attributes:
        ages: Frames by age, as seen from each step of the schedule.
        steps: Frames by absolute step.
        older_than: All frames of a greater age than this.
        mode: ``read``, ``write`` or ``full``; see above. ``full`` takes whole frames, from all layers and heads.
        strongest: With ``read``: of the frames named only so many, those with the highest scores, for each query and
            head: the frames that it would look at most.

    A ``full`` removal takes the frame out of the sequence: frames before it are then one step younger, as they would be
    if it had not been. It runs the transformer again over the embeddings of the frames since (``hook_embed``), which it
    keeps, from the nearest memory before; no picture is looked at again.
    """

    ages: tuple[int, ...] | None = None
    steps: tuple[int, ...] | None = None
    older_than: int | None = None
    mode: str = "read"
    strongest: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in _MODES:
            raise _wrong(self, f"mode: expected {', '.join(_MODES)}, got {self.mode!r}")
        for name in ("ages", "steps"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole_numbers(getattr(self, name), f"{type(self).__name__}: {name}"))
        for name, least in (("older_than", 0), ("strongest", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise _wrong(self, f"{name}: expected a whole number from {least} on, got {value!r}")
        given = [name for name in ("ages", "steps", "older_than") if getattr(self, name) is not None]
        if len(given) != 1:
            raise _wrong(self, f"expected one of ages, steps or older_than, got {' and '.join(given) or 'none'}")
        if self.strongest is not None and self.mode != "read":
            raise _wrong(self, f"strongest depends on each query, so it fits mode: read, not {self.mode}")
        if self.mode == "full":
            self._check_full()

    def _check_full(self) -> None:
        if self.layers is not None or self.heads is not None or self.row is not None:
            raise _wrong(self, "full takes a frame out of the whole memory; layers, heads and row mean nothing",
                         hint="use mode: write to take it out of some layers or heads")
        if self.older_than is not None:
            raise _wrong(self, "full takes single frames, by ages or steps", hint="MemoryReset forgets everything")
        if self.ages is not None:
            if self.ages[0] == 0:
                raise _wrong(self, "ages: the current frame is in no memory yet, so full takes ages from 1 on")
            if self.schedule.at is None and not self.schedule.waits:
                raise _wrong(self, "with ages, full would take a frame out at every step",
                             hint="say when: at: STEP, or name the frames by steps")

    def check(self, agent: Agent, capabilities: Capabilities | None = None) -> None:
        """Refuse ages that no query sees."""
        super().check(agent, capabilities)
        window = _window(agent)[2]
        if self.mode != "full" and self.ages is not None and self.ages[-1] >= window:
            raise _wrong(self, f"ages: {agent.name} remembers ages 0 to {window - 1}, got {self.ages[-1]}",
                         hint="mode: full reaches further, by what later frames took over")
        if self.older_than is not None and self.older_than >= window - 1:
            raise _wrong(self, f"older_than: {agent.name} remembers ages 0 to {window - 1}, got {self.older_than}")
        if self.mode == "full" and not hasattr(agent, "remember"):
            raise _wrong(self, f"{agent.name} cannot build a memory from embeddings")

    @property
    def lasting(self) -> bool:
        """What was taken away, or is kept to be built from, matters in steps that the schedule leaves out."""
        return self.mode != "read"

    def apart(self, step: int) -> bool:
        """For ``full`` also where it begins to keep what it needs."""
        return self.mode == "full" and (super().apart(step) or step == self._first_needed(step))

    def clashes(self, other: Intervention) -> str | None:
        """A full removal computes the memory without the edits of activations that made the one before."""
        if self.mode == "full" and other.edits() and not (isinstance(other, MemoryKnockout) and other.mode == "full"):
            return "a full removal builds the memory anew, and would leave the other's edits of activations out"
        return None

    def _named(self, step: int, oldest: int) -> Iterator[int]:
        """Steps of the frames that are meant at a step, the current one included."""
        if self.steps is not None:
            yield from self.steps
        elif self.ages is not None:
            yield from (step - age for age in self.ages if step >= age)
        else:
            assert self.older_than is not None
            yield from range(max(0, oldest), max(0, step - self.older_than))

    # --- read and write ------------------------------------------------------------------------------------------

    def edits(self) -> Sequence[tuple[str, Edit]]:
        """On scores; for ``full`` one that only watches the embeddings."""
        return [("hook_embed", self._watch)] if self.mode == "full" else super().edits()

    def hidden(self, row: Any, step: int, active: bool, span: Span) -> Any:
        """By mode."""
        ages = list(key_ages(row.shape[-1]))
        oldest = step - ages[0]
        if self.mode == "write":
            taken = span.memo.setdefault("taken", {})
            if active and str(step) not in taken:
                taken[str(step)] = np.array(sorted(self._named(step, oldest)), np.int64)
            # In a chunk, later steps have been through an earlier layer already: what they took is not gone yet.
            gone = {int(s) for at, some in taken.items() if int(at) <= step for s in some}
            return [column for column, age in enumerate(ages) if age > 0 and step - age in gone]
        if not active:
            return []
        meant = set(self._named(step, oldest))
        columns = [column for column, age in enumerate(ages) if step - age in meant]
        if self.strongest is None or not columns:
            return columns
        part = row[..., columns].float()
        best = part.topk(min(self.strongest, len(columns)), -1).indices
        mask = row.new_zeros(row.shape).bool()
        chosen = part.new_zeros(part.shape).bool().scatter(-1, best, True)
        mask[..., columns] = chosen & (part > -5e4)
        return mask

    # --- full ------------------------------------------------------------------------------------------------------

    def _first_needed(self, step: int) -> int | None:
        """The earliest frame that may have to go, from a step on; None when nothing more will happen."""
        schedule = self.schedule
        if self.steps is not None:
            return self.steps[0]
        assert self.ages is not None
        if schedule.waits:
            return max(0, step - self.ages[-1])
        left = [at for at in schedule.at or () if at >= step and schedule.fits(at)]
        return max(0, left[0] - self.ages[-1]) if left else None

    def _watch(self, x: Any, point: Any, span: Span) -> None:
        memo = span.memo
        if "anchors" in memo:
            rows = x[0].detach().float().cpu().numpy()
            for n, step in enumerate(span.steps):
                if len(memo["kept"]) == 0 or step > memo["kept"][-1]:
                    memo["kept"] = np.append(memo["kept"], step).astype(np.int64)
                    new = np.array(rows[n:n + 1], np.float32)
                    memo["embeds"] = np.concatenate([memo["embeds"], new]) if memo["embeds"].size else new

    def watch_memory(self, state: AgentState, moment: Moment) -> None:
        """Keep a memory from before the first frame that may have to go, and the embeddings since."""
        if self.mode != "full":
            return
        memo, step = moment.memo, moment.step
        needed = self._first_needed(step)
        if needed is None:
            memo.pop("anchors", None)
            return
        if "anchors" not in memo:
            if step < needed and not self.schedule.waits:
                return
            memo.update(anchors={}, kept=np.zeros(0, np.int64), embeds=np.zeros((0, 0), np.float32))
            if step > needed and step > 0:
                self._begin_late(min(needed, step), state, moment)
                return
        anchors = memo["anchors"]
        if not anchors or (self.schedule.waits and self.ages and step - max(map(int, anchors)) >= KEEP_EVERY):
            anchors[str(step)] = dict(moment.agent.save_state(state))
            old = [at for at in sorted(map(int, anchors)) if at <= needed]
            for at in old[:-1]:  # the newest of those is enough
                del anchors[str(at)]
            keep = memo["kept"] >= min(map(int, anchors))
            memo["kept"] = memo["kept"][keep]
            memo["embeds"] = memo["embeds"][keep] if memo["embeds"].size else memo["embeds"]

    def _begin_late(self, needed: int, state: AgentState, moment: Moment) -> None:
        """In a fork: what came before is in the recording."""
        memo, history = moment.memo, moment.history
        if history is None:
            raise _wrong(self, f"frames since step {needed} are needed, and nothing from before step {moment.step} was "
                               "kept",
                         hint="in a fork they come from the recording that it was made from, which must lie beside it")
        start, arrays = history.state_before(needed)
        embeds = history.embeds(start, moment.step)
        if embeds is None:
            embeds = moment.agent.embed_pictures(history.frames(start, moment.step))  # type: ignore[attr-defined]
        if arrays is None:
            arrays = moment.agent.save_state(moment.agent.initial_state())
        memo["anchors"] = {str(start): {name: np.asarray(value) for name, value in arrays.items()}}
        memo["kept"], memo["embeds"] = np.arange(start, moment.step), np.asarray(embeds, np.float32)

    def cost(self, history: History, first_step: int) -> str | None:
        """The pictures that a full removal must look at again, or the frames that the transformer must."""
        needed = self._first_needed(first_step) if self.mode == "full" else None
        if needed is None or needed >= first_step:
            return None
        start, kept = history.state_before(needed)
        n, since = first_step - start, "its last reset" if kept is None else f"the memory kept at step {start}"
        if history.embeds(start, first_step) is None:
            return (f"{type(self).__name__}: the recording holds no hook_embed, so the {n} pictures since {since} are "
                    "looked at again; record with --hooks hook_embed to spare that")
        if kept is None:
            return (f"{type(self).__name__}: the recording keeps no memory, so the transformer runs over the {n} "
                    f"frames since {since}")
        return None

    def change_memory(self, state: AgentState, moment: Moment) -> AgentState:
        """For ``full``, the memory built without the frames; the same object when they are not in it yet."""
        if self.mode != "full":
            return state
        memo, step = moment.memo, moment.step
        kept: npt.NDArray[np.int64] = memo.get("kept", np.zeros(0, np.int64))
        gone = [s for s in self._named(step, 0) if s < step and s in kept]
        if not gone:
            return state
        anchors = memo["anchors"]
        start = max((at for at in map(int, anchors) if at <= gone[0]), default=None)
        if start is None:
            raise _wrong(self, f"no memory from before step {gone[0]} was kept")
        stay = ~np.isin(kept, gone)
        memo["kept"], memo["embeds"] = kept[stay], memo["embeds"][stay]
        for at in [at for at in map(int, anchors) if at > gone[0]]:
            del anchors[str(at)]
        after = memo["kept"] >= start
        before = moment.agent.keep_goal(moment.agent.load_state(anchors[str(start)]), state)
        rebuilt: AgentState = moment.agent.remember(memo["embeds"][after], before)  # type: ignore[attr-defined]
        return rebuilt

    def control(self, seed: int, agent: Agent) -> MemoryKnockout | None:
        """As many other frames of about the same age, at random; None where none are left.

        Args:
            seed: Which of many.
            agent: For the reach of its memory.
        """
        # Only full reaches beyond the window.
        others = other_frames(self.ages, self.steps, None if self.mode == "full" else _window(agent)[2], seed)
        return replace(self, **others) if others else None


@dataclass(frozen=True)
class MemoryFreeze(_MemoryEdit):
    """Remember nothing new: at each step of an unbroken run of steps the memory is the one of the run's first step.

    The current frame is seen, and forgotten after the step. Remembered frames keep their ages.
    """

    def change_memory(self, state: AgentState, moment: Moment) -> AgentState:
        """The memory of the run's first step."""
        memo, agent = moment.memo, moment.agent
        last, memo["last"] = memo.get("last"), moment.step
        if last != moment.step - 1:
            memo["held"] = dict(agent.save_state(state))
            return state
        return agent.load_state(memo["held"])


@dataclass(frozen=True)
class MemoryReset(_MemoryEdit):
    """Forget every frame, at each step of the schedule; an agent that was told what to do still knows it."""

    def __post_init__(self) -> None:
        _needs_schedule(self)

    def change_memory(self, state: AgentState, moment: Moment) -> AgentState:
        """The memory before a first frame."""
        return moment.agent.keep_goal(moment.agent.initial_state(), state)


@dataclass(frozen=True)
class MemorySwap(_MemoryEdit):
    """Put the memory of another episode, or of another time, in place of this one; the goal stays one's own.

    Attributes:
        memory: As ``Agent.save_state`` gave it, by name; in a file or on the command line ``{recording: PATH, step:
            T}``, for a step at which the recording keeps a snapshot.
    """

    memory: Mapping[str, Any]

    def __post_init__(self) -> None:
        _needs_schedule(self)
        given: Any = self.memory
        if not isinstance(given, Mapping) or not given:
            raise _wrong(self, f"memory: expected arrays by name, got {given!r}")
        if "recording" in given:
            raise _wrong(self, "memory: names a recording, which is read by the command line; in Python give "
                               "open_recording(...).snapshots[step].agent")
        read = {}
        for name, value in sorted(given.items()):
            try:
                read[str(name)] = ArrayValue.read(value)
            except InterventionError as problem:
                raise _wrong(self, f"memory: {name}: {problem.message}", hint=problem.hint) from problem
        object.__setattr__(self, "memory", _Frozen(read))

    def check(self, agent: Agent, capabilities: Capabilities | None = None) -> None:
        """Refuse a memory of another model."""
        super().check(agent, capabilities)
        try:
            agent.load_state({name: value.array for name, value in self.memory.items()})
        except HarnessError as problem:
            raise _wrong(self, f"memory: {problem.message}",
                         hint="it comes from an agent of the same size") from problem

    def change_memory(self, state: AgentState, moment: Moment) -> AgentState:
        """The other memory."""
        other = moment.agent.load_state({name: value.array for name, value in self.memory.items()})
        return moment.agent.keep_goal(other, state)


class _Frozen(dict[str, ArrayValue]):
    """A mapping with a hash."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted((name, hash(value)) for name, value in self.items())))


def _needs_schedule(owner: Intervention) -> None:
    schedule = owner.schedule
    if schedule.at is None and schedule.between is None and schedule.every is None and not schedule.waits:
        raise _wrong(owner, "without a schedule it would act at every step, and nothing would ever be remembered",
                     hint="say when: at: STEP, or every: 1 if you mean it")
