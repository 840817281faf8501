"""Filling activation stores: from episodes that are played, from recordings, from videos.

What is stored in one go is a unit: episodes that share a forward pass, a recording, or a video. Each unit can be made
again from what the store says of it, so an interrupted store goes on at the shard where it was left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.agent.agent import Agent, AgentOutput
from harness.agent.ahead import AheadAgent, chunk_length
from harness.analysis.open_loop import Progress, listen, ticks
from harness.analysis.privileged import StateReader, privileged_state
from harness.analysis.sae.store import SHARD_BYTES, ActivationStore, StoredStep, StoreWriter
from harness.analysis.sae.tokens import Tokens, token_layout
from harness.errors import AgentError, HarnessError, RecordingError, nearest_names
from harness.provenance import file_digest
from harness.recording.human_play import video_scenario
from harness.recording.recording import Recording
from harness.rollout import Episode, EpisodeResult, Play, Step, play_many, run_episode
from harness.scenario.schema import Scenario
from harness.world.video import VideoWorld
from harness.world.world import World, make_world

__all__ = ["STATE", "collect_episodes", "collect_recordings", "collect_videos"]

STATE = ("in_view:logs", "distance:logs", "reach:logs", "breaking:logs", "overhead:leaves", "in_view:villager",
         "reach:villager")
"""State variables that are stored unless told otherwise."""
_LONGEST = 10_000_000


def collect_episodes(agent: Agent, scenarios: Sequence[Scenario], seeds: Sequence[int], hooks: Sequence[str],
                     folder: str | Path, *, variables: Sequence[str] = STATE, max_steps: int | None = None,
                     slots: int = 16, resume: bool = False, shard_bytes: int = SHARD_BYTES,
                     progress: Progress | None = None) -> ActivationStore:
    """Store an agent's activations while it plays, every scenario with every seed.

    Args:
        agent: Who plays, with a network.
        scenarios: Where.
        seeds: Of the episodes.
        hooks: Hook names or globs.
        folder: The store's.
        variables: State variables to store with each step; see ``harness.analysis.privileged``.
        max_steps: End episodes earlier.
        slots: Episodes that share a forward pass; what an episode's numbers are rounded to depends on it.
        resume: Go on with what is in the folder.
        shard_bytes: Activations per shard, about.
        progress: Told of episodes done.

    Raises:
        HookError: for a hook that the agent has not, or that holds no vectors.
        HarnessError: for an unknown variable, no scenario or seed, or an episode that fails.
        StoreError: for a folder that holds a store already, or another one.
    """
    if not scenarios or not seeds:
        raise HarnessError("expected a scenario and a seed to play at least",
                           hint="--scenario treechop --episodes 50")
    layout = _layout(agent, hooks)
    reader_of = _readers(variables, scenarios)
    runs = [(scenario, seed) for scenario in scenarios for seed in seeds]
    plan = {"agent": _who(agent), "variables": list(variables), "slots": slots, "max_steps": max_steps,
            "episodes": [{"scenario": scenario.name, "seed": seed} for scenario, seed in runs]}
    writer = StoreWriter(Path(folder), plan, layout, resume=resume, shard_bytes=shard_bytes)
    tick = ticks(progress, len(runs))
    for unit, first in enumerate(range(0, len(runs), slots)):
        group = list(enumerate(runs))[first:first + slots]
        if not writer.finished(unit):
            writer.begin(unit)
            plays = [Play(scenario, seed, max_steps, [_Watcher(number, writer.add, reader_of())], hooks=tuple(layout))
                     for number, (scenario, seed) in group]
            for play, result in play_many(agent, plays, slots=slots):
                if result.status == "failed":
                    raise HarnessError(f"{play.scenario.name} with seed {play.seed} failed: {result.error}")
            writer.end()
        tick(len(group))
    writer.close()
    return ActivationStore(folder)


def collect_recordings(recordings: Sequence[Recording], hooks: Sequence[str], folder: str | Path, *,
                       agent: Agent | None = None, variables: Sequence[str] = STATE, resume: bool = False,
                       shard_bytes: int = SHARD_BYTES, progress: Progress | None = None) -> ActivationStore:
    """Store what recordings hold, or what an agent has when it looks over their pictures.

    Args:
        recordings: Of one agent, if ``agent`` is None.
        hooks: Hook names; globs with an ``agent``.
        folder: The store's.
        agent: Looks over the pictures; None takes recorded activations.
        variables: State variables; the recordings' worlds are played again for them.
        resume: Go on with what is in the folder.
        shard_bytes: Activations per shard, about.
        progress: Told of steps done.

    Raises:
        RecordingError: for a hook that was not recorded, recordings of different agents, or a world that cannot be
            made again.
        HarnessError: as ``collect_episodes``.
    """
    if not recordings:
        raise HarnessError("expected one recording at least")
    if agent is None:
        layout, who = _recorded_layout(recordings, hooks), _recorded_agent(recordings)
    else:
        layout, who = _layout(agent, hooks), _who(agent)
    plan = {"agent": who, "variables": list(variables), "looked": agent is not None,
            "episodes": [{"recording": each.id, "scenario": each.header["scenario"].get("name"), "seed": each.seed}
                         for each in recordings]}
    writer = StoreWriter(Path(folder), plan, layout, resume=resume, shard_bytes=shard_bytes)
    tick = ticks(progress, sum(map(len, recordings)))
    for unit, recording in enumerate(recordings):
        if not writer.finished(unit):
            writer.begin(unit)
            state = privileged_state(recording, variables) if variables else np.zeros((len(recording), 0))
            for n, activations in enumerate(_activations(recording, agent, list(layout))):
                tokens = recording.steps[n].get("tokens") or {}
                taken = int(tokens.get("buttons", -1)), int(tokens.get("camera", -1))
                writer.add(StoredStep(unit, recording.first_step + n, activations, state[n].tolist(), taken))
            writer.end()
        tick(len(recording))
    writer.close()
    return ActivationStore(folder)


def collect_videos(videos: Sequence[Path], agent: Agent, hooks: Sequence[str], folder: str | Path, *,
                   max_steps: int | None = None, resume: bool = False, shard_bytes: int = SHARD_BYTES,
                   progress: Progress | None = None) -> ActivationStore:
    """Store what an agent has when it looks at videos; there is no state beside it.

    Args:
        videos: Files.
        agent: With a network.
        hooks: Hook names or globs.
        folder: The store's.
        max_steps: Pictures of each video at most.
        resume: Go on with what is in the folder.
        shard_bytes: Activations per shard, about.
        progress: Told of videos done.

    Raises:
        AgentError: for an agent that has no network.
        HookError: as ``collect_episodes``.
        VideoError: for a video that cannot be read.
    """
    layout = _layout(agent, hooks)
    if not hasattr(agent, "look_ahead"):
        raise AgentError(f"{agent.name} has no network to look into", hint="use an agent with one, such as vpt-nano")
    plan = {"agent": _who(agent), "variables": [], "max_steps": max_steps,
            "episodes": [{"video": each.name, "sha256": file_digest(each)} for each in videos]}
    writer = StoreWriter(Path(folder), plan, layout, resume=resume, shard_bytes=shard_bytes)
    tick, names = ticks(progress, len(videos)), list(layout)
    for unit, path in enumerate(videos):
        if not writer.finished(unit):
            writer.begin(unit)
            scenario = video_scenario(path, max_steps or _LONGEST)
            with make_world(scenario, backend="video", path=path,
                            pictures=None if max_steps is None else range(max_steps)) as world:
                assert isinstance(world, VideoWorld)
                ahead = AheadAgent(agent, world.upcoming, chunk_length(agent, names))
                run_episode(world, ahead, observers=[_Watcher(unit, writer.add, None)], hooks=names)
            writer.end()
        tick(1)
    writer.close()
    return ActivationStore(folder)


class _Watcher:
    """An observer that stores each step with the state of the world at its picture."""

    def __init__(self, episode: int, add: Callable[[StoredStep], None], reader: StateReader | None) -> None:
        self._episode, self._add, self._reader = episode, add, reader

    def begin(self, episode: Episode) -> None:
        """Before the first step, the world shows the first picture."""
        self._world: World = episode.world
        self._read(attacked=False)

    def on_step(self, step: Step) -> None:
        """The world is at the next picture already, so the state of this one was read before."""
        self._add(StoredStep(self._episode, step.index, step.output.activations, self._state, _taken(step.output)))
        self._read(attacked=bool(step.executed["attack"]))

    def end(self, result: EpisodeResult) -> None:
        """Nothing to do."""

    def _read(self, *, attacked: bool) -> None:
        read = None if self._reader is None else self._reader.read(self._world, attacked)
        self._state: Sequence[float] = read or ()


def _taken(output: AgentOutput) -> tuple[int, int]:
    return output.tokens.get("buttons", -1), output.tokens.get("camera", -1)


def _readers(variables: Sequence[str], scenarios: Sequence[Scenario]) -> Callable[[], StateReader | None]:
    if not variables:
        return lambda: None
    StateReader(variables, scenarios)  # refuses a wrong name before anything is written
    return lambda: StateReader(variables, scenarios)


def _layout(agent: Agent, hooks: Sequence[str]) -> dict[str, Tokens]:
    names, axes, shapes = agent.resolve_hooks(hooks), agent.hook_axes(), agent.hook_shapes()
    if not names:
        raise HarnessError("expected a hook at least", hint="--hook blocks.2.hook_resid_post")
    return {name: token_layout(name, axes[name], shapes[name][0]) for name in names}


def _recorded_layout(recordings: Sequence[Recording], hooks: Sequence[str]) -> dict[str, Tokens]:
    layout = {}
    for hook in hooks:
        for each in recordings:
            if hook not in each.activations:
                near = ", ".join(nearest_names(hook, list(each.activations))) or "none like it"
                raise RecordingError(f'the recording does not hold "{hook}", but {near}', where=str(each.path),
                                     hint=f"record it with --hooks '{hook}', or give --agent to look again")
        shape = recordings[0].activations[hook].shape[1:]
        headed = hook.rpartition(".")[2] in ("hook_z", "hook_q", "hook_k", "hook_v", "hook_result")
        axes = ("h", "d_head") if headed else ("C", "H", "W") if hook.startswith("cnn.") and len(shape) == 3 else \
            ("d",) if len(shape) == 1 else tuple("?" * len(shape))
        layout[hook] = token_layout(hook, axes, shape)
    return layout


def _who(agent: Agent) -> dict[str, Any]:
    said = agent.provenance()
    return {"name": agent.name, "description": agent.description, "weights_digest": said.get("weights_digest")}


def _recorded_agent(recordings: Sequence[Recording]) -> dict[str, Any]:
    found = [{key: each.header["agent"].get(key) for key in ("name", "description", "weights_digest")}
             for each in recordings]
    if len({each["weights_digest"] for each in found}) > 1:
        raise RecordingError("the recordings are of different agents, whose activations cannot be put together",
                             where=str(recordings[0].path), hint="give --agent: it looks at all pictures again")
    return found[0]


def _activations(recording: Recording, agent: Agent | None, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    if agent is not None:
        for outputs in listen(recording, agent, names, lambda n: None):
            yield from (output.activations for output in outputs)
        return
    series = {name: recording.activations[name] for name in names}
    n = min(len(recording), *(len(each) for each in series.values()))
    for start in range(0, n, 256):
        parts = {name: each[start:min(start + 256, n)] for name, each in series.items()}
        for i in range(min(256, n - start)):
            yield {name: part[i] for name, part in parts.items()}
