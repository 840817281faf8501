"""Branching a recording: play on from one of its steps on another course, and say where the two part.

Up to the step everything is the recording's: world, memory and random streams come from the nearest snapshot before it,
and the steps in between are played again. From there on the fork draws with the same noise, so whatever differs
follows from what was changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from harness.agent.agent import Agent
from harness.errors import AgentError, HarnessError, RecordingError, WorldError
from harness.intervention.intervention import Intervention, Moment, Site
from harness.intervention.stack import InterventionStack
from harness.provenance import digest
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording
from harness.recording.schema import plain
from harness.replay.divergence import Divergence, first_pixel
from harness.replay.history import RecordedHistory
from harness.replay.replay import (
    agent_changes,
    applied_commands,
    recorded_action,
    recorded_agent,
    recorded_interventions,
    recorded_world,
)
from harness.replay.twin import WORLD_COLUMNS, Twin
from harness.rollout import Episode, EpisodeResult, Observer, Snapshot, Step, run_episode, spawn_streams
from harness.world.action import Action, check_action
from harness.world.world import World

__all__ = ["ForkReport", "fork_recording"]


@dataclass(frozen=True)
class ForkReport:
    """What a fork did, held against its recording.

    Attributes:
        recording: The recording's folder name.
        at: The first step that was played anew.
        restored: In words: what came from a snapshot, and what was played again.
        kept: The recording's own interventions that went on.
        added: The fork's.
        applied: In how many steps each of them applied, those that were kept first.
        n_steps: Steps the fork played.
        n_compared: Of these, how many the recording has too.
        columns: Each column of a step to its first difference, None where there is none; in the order of cause.
        outcomes: Outcome name to (the recording's, the fork's) {"value", "first_step", "count"}, after step
            ``outcomes_at``; each where it stood at its own end, where that came before.
        outcomes_at: See there.
        ends: How the recording and the fork ended.
        path: The fork's own recording, None when it was not recorded.
        notes: What could not be compared, or may matter.
    """

    recording: str
    at: int
    restored: str
    kept: tuple[Mapping[str, Any], ...]
    added: tuple[Mapping[str, Any], ...]
    applied: tuple[int, ...]
    n_steps: int
    n_compared: int
    columns: Mapping[str, Divergence | None]
    outcomes: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]
    outcomes_at: int
    ends: tuple[str, str]
    path: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Divergence | None:
        """The very first difference, the earlier in the order of cause where a step has several."""
        found = [each for each in self.columns.values() if each is not None]
        return min(found, key=lambda each: each.step, default=None)

    @property
    def changed_outcomes(self) -> list[str]:
        """Names of the outcomes that came out otherwise."""
        return [name for name, (then, now) in self.outcomes.items() if then != now]

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        def told(each: Divergence | None) -> dict[str, Any] | None:
            return None if each is None else {"step": each.step, "column": each.column,
                                              "recorded": plain(each.recorded), "fork": plain(each.replayed)}

        return {
            "recording": self.recording, "at": self.at, "restored": self.restored,
            "kept": [plain(each) for each in self.kept], "added": [plain(each) for each in self.added],
            "applied": list(self.applied),
            "n_steps": self.n_steps, "n_compared": self.n_compared, "first": told(self.first),
            "columns": {name: told(each) for name, each in self.columns.items()},
            "outcomes": {name: {"recorded": plain(then), "fork": plain(now), "changed": then != now}
                         for name, (then, now) in self.outcomes.items()},
            "outcomes_at": self.outcomes_at, "ends": {"recorded": self.ends[0], "fork": self.ends[1]},
            "path": None if self.path is None else str(self.path), "notes": list(self.notes)}


def fork_recording(recording: Recording, *, at: int, interventions: Sequence[Intervention] = (), keep: bool = True,
                   steps: int | None = None, out: str | Path | None = None, observers: Sequence[Observer] = (),
                   hooks: Sequence[str] | None = None, agent: Agent | None = None, world: World | None = None,
                   tolerance: float = 0.0, announce: Callable[[str], None] | None = None) -> ForkReport:
    """Play on from a step of a recording under other interventions, and compare.

    World, memory and random streams stand at ``at`` as they did; step ``at`` is the first that is played anew.

    Args:
        recording: From ``open_recording``; a run, or a fork of one.
        at: A step of it.
        interventions: What changes something from there on, after the recording's own in order. Their schedules count
            the episode's steps; what they wait for counts from ``at`` on.
        keep: Whether the recording's own interventions go on.
        steps: Play so many; None for as long as the recorded run was to last.
        out: The folder of recordings that the fork is recorded into; None records nothing.
        observers: As for ``run_episode``.
        hooks: What to trace; None for what the recording traced.
        agent: Instead of loading the one that the header names; its weights must be the same.
        world: Instead of making the one that the header names; it is left open.
        tolerance: Largest difference of log-probabilities, entropy and value that counts as none. On the machine of
            the recording 0 will do.
        announce: Told, before anything is played, what will have to be computed that the recording does not hold.

    Raises:
        RecordingError: for a step that the recording has not, one of a video, or steps that do not come out as
            recorded when they are played again.
        AgentError: when the agent's weights are others now.
        InterventionError: for one that does not fit, or whose schedule lies before the fork.
        HarnessError: when world or agent cannot be made.
    """
    number = _row_of(recording, at, steps)
    notes = [f"damaged: {recording.damage}"] if recording.damage else []
    own = recorded_interventions(recording)
    kept = own if keep else []
    played = [*kept, *interventions]
    with contextlib.ExitStack() as stack:
        if world is None:
            world = stack.enter_context(recorded_world(recording))
        elif digest(world.scenario.model_dump(mode="json", by_alias=True)) != recording.header.get("scenario_digest"):
            raise WorldError(f'the world is of another scenario than the recording: "{world.scenario.name}"',
                             hint="leave the world out, or make it from the recording's scenario and parameters")
        limit = min(recording.header["max_steps"] if steps is None else at + steps, world.scenario.episode.max_steps)
        agent = _same_agent(recording, recorded_agent(recording) if agent is None else agent, notes)
        for each in interventions:
            each.check_length(limit, at)
        InterventionStack(played, agent=agent, seed=recording.seed, world=world)  # refuses what does not fit, early
        start, how = _stand_at(recording, at, world, agent, own, notes)
        _compare_picture(recording, number, world, notes)
        history = RecordedHistory(recording, at)
        for each in interventions if announce else ():
            cost = each.cost(history, at)
            if cost and announce:
                announce(cost)
        twin = Twin(recording, tolerance)
        recorder = None if out is None else Recorder(out)
        result = run_episode(
            world, agent, seed=recording.seed, max_steps=limit, interventions=played,
            hooks=recording.hooks if hooks is None else hooks,
            start=start if keep else replace(start, interventions={}), history=history,
            observers=[twin, *([recorder] if recorder else []), *observers],
            origin={"recording": recording.id, "name": recording.path.name, "at": at, "kept": len(kept), **how})
    described = [plain(each.describe()) for each in played]
    outcomes, outcomes_at = _outcomes(recording, twin, result)
    return ForkReport(
        recording.path.name, at, how["words"], tuple(described[:len(kept)]), tuple(described[len(kept):]),
        tuple(twin.applied[i] for i in range(len(played))), result.n_steps, twin.n_compared, twin.columns, outcomes,
        outcomes_at, (recording.status, result.status), recorder.path if recorder else None, tuple(notes))


def _row_of(recording: Recording, at: int, steps: int | None) -> int:
    """The row of the step to fork at.

    Raises:
        RecordingError: when there is nothing to fork there.
    """
    where, begin = str(recording.path), recording.first_step
    if not recording.header["world"].get("actions_matter", True):
        raise RecordingError("the recording is of a video: there is no world to play on in", where=where,
                             hint="fork a recording of `harness run`; a video can be traced again under interventions")
    if not len(recording):
        raise RecordingError(f"the recording has no steps to fork at: {recording.summary}", where=where)
    if isinstance(at, bool) or not isinstance(at, int) or not begin <= at < begin + len(recording):
        raise RecordingError(f"the recording has no step {at} to fork at: it has steps {begin} to "
                             f"{begin + len(recording) - 1} ({recording.summary})", where=where)
    if steps is not None and steps < 1:
        raise HarnessError(f"expected at least one step to play, got {steps}")
    return at - begin


def _same_agent(recording: Recording, agent: Agent, notes: list[str]) -> Agent:
    then, now = recording.header["agent"], plain(agent.provenance())
    for key, what in (("class", "agent is another"), ("weights_digest", "agent's weights have changed")):
        if key in then and then[key] != now.get(key):
            raise AgentError(f"the {what} since the recording was made ({key} was {then[key]}, is {now.get(key)}), so "
                             "it would not play on as it played", where=str(recording.path),
                             hint="fork with the agent file and weights of then: --agent FILE.yaml")
    notes += agent_changes(recording, agent)
    return agent


@dataclass(frozen=True)
class _AsRecorded(Intervention):
    """Plays what was played, whatever the agent would do."""

    site: ClassVar[Site] = "action"
    recording: Recording

    def change_action(self, action: Action, moment: Moment) -> Action:
        row = self.recording.steps[moment.step - self.recording.first_step]
        return check_action(recorded_action(row, "executed", self.recording))

    def describe(self) -> dict[str, Any]:
        return {"kind": type(self).__name__, "site": self.site}


@dataclass
class _Standing:
    """Keeps the snapshot after the last step. An observer."""

    snapshot: Snapshot | None = None

    def begin(self, episode: Episode) -> None:
        pass

    def on_step(self, step: Step) -> None:
        if step.terminated or step.truncated:
            self.snapshot = step.snapshot()

    def end(self, result: EpisodeResult) -> None:
        pass


def _stand_at(recording: Recording, at: int, world: World, agent: Agent, own: Sequence[Intervention],
              notes: list[str]) -> tuple[Snapshot, dict[str, Any]]:
    """Bring the world to the start of a step; memory, streams and notes there, and how it was done."""
    start = _nearest(recording, at, world, agent)
    kept = world.capabilities.snapshots and start.world is not None
    source = f"from the snapshot at step {start.index}" if kept else f"from step {start.index}, its beginning"
    again = {0: "", 1: f"; step {start.index} played again"}.get(
        at - start.index, f"; steps {start.index} to {at - 1} played again")
    why = "" if world.capabilities.snapshots else f" (the {world.capabilities.backend} backend has no snapshots)"
    how = {"restored_at": start.index, "from_snapshot": kept, "n_rerun": at - start.index,
           "words": f"world, memory and random streams {source}{why}{again}"}
    if start.world is not None:
        world.restore(start.world)
    elif start.index == recording.first_step == 0:
        world.reset(seed=spawn_streams(recording.seed)[0])
    start = replace(start, world=None)  # the world stands there
    if start.index < at:
        start = _play_again(recording, at, start, world, agent, own, notes)
    return start, how


def _nearest(recording: Recording, at: int, world: World, agent: Agent) -> Snapshot:
    """The last usable snapshot at or before a step; the episode's beginning where there is none."""
    for found in sorted((step for step in recording.snapshots if step <= at), reverse=True):
        if not world.capabilities.snapshots:
            break
        snapshot = recording.snapshots[found]
        if snapshot.index != found:
            raise RecordingError(f"the snapshot at step {found} says that it is of step {snapshot.index}",
                                 where=str(recording.path), hint="the file was renamed or changed")
        if snapshot.world is not None:
            return snapshot
    if recording.first_step:
        raise RecordingError("the recording is a fork and holds no snapshot of its world, so nothing can play on in it",
                             where=str(recording.path), hint="fork the recording that it was made from, at that step")
    _, rng = spawn_streams(recording.seed)
    return Snapshot(0, None, agent.save_state(agent.initial_state()), {"agent": rng.bit_generator.state})


def _play_again(recording: Recording, at: int, start: Snapshot, world: World, agent: Agent,
                own: Sequence[Intervention], notes: list[str]) -> Snapshot:
    """Play the recorded steps up to a step again: the world its recorded actions, the agent for its memory."""
    twin, standing = Twin(recording, pictures=False), _Standing()
    run_episode(world, agent, seed=recording.seed, max_steps=at, observers=[twin, standing], start=start,
                interventions=[*own, _AsRecorded(recording)])
    exact = world.capabilities.deterministic
    for name, found in twin.columns.items():
        if found is not None and exact and name in WORLD_COLUMNS:
            raise _not_as_recorded(recording, str(found))
    found = next((each for each in twin.columns.values() if each is not None), None)
    if found is not None:
        notes.append(f"the steps before the fork do not come out quite as recorded ({found}): what the agent remembers "
                     "may differ")
    if standing.snapshot is None or standing.snapshot.index != at:
        raise _not_as_recorded(recording, f"the episode ended before step {at}")
    return replace(standing.snapshot, world=None)


def _compare_picture(recording: Recording, number: int, world: World, notes: list[str]) -> None:
    """Hold the picture at the fork against the recorded one: what is drawn otherwise would look like an effect."""
    if recording.first_step + number in applied_commands(recording):
        return  # it was drawn after the recording's interventions had changed the world
    pixel = first_pixel(recording.pov[number], world.render())
    if pixel is None:
        return
    if world.capabilities.deterministic:
        raise _not_as_recorded(recording, str(Divergence(recording.first_step + number, "frame", *pixel)))
    notes.append(f"the {world.capabilities.backend} backend promises no equal frames, and shows others at the fork")


def _not_as_recorded(recording: Recording, what: str) -> RecordingError:
    return RecordingError(f"the world does not come out as recorded: {what}", where=str(recording.path),
                          hint="it was changed, or recorded by another version; `harness replay --verify` tells more")


def _outcomes(recording: Recording, twin: Twin, result: EpisodeResult
              ) -> tuple[dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]], int]:
    """Both sides' outcomes after the last step up to which both are known, and that step."""
    first = recording.first_step
    ends = first + len(recording) - 1, twin.at + result.n_steps - 1
    final = recording.status == "terminated", result.status == "terminated"
    # What ended of itself stays as it is; what was cut off says nothing of the steps after it.
    cut = [end for end, over in zip(ends, final, strict=True) if not over]
    until = min(cut, default=max(ends))
    then = _mapping(recording.steps[min(until, ends[0]) - first].get("outcomes"))
    now = twin.outcomes[min(until, ends[1]) - twin.at]
    return {name: (_mapping(then.get(name)), plain(now[name])) for name in now}, until


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
