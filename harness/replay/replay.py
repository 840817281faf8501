"""Running a recording again: the world under the recorded actions, the agent over the recorded pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.agent.agent import Agent, AgentOutput, BatchAgent
from harness.agent.ahead import CHUNK, AheadAgent
from harness.agent.load import known_names, load_agent, takes
from harness.agent.padded import MOST_ROWS, PaddedAgent
from harness.errors import AgentError, RecordingError, WorldError
from harness.intervention.build import build_intervention
from harness.intervention.intervention import Intervention
from harness.intervention.stack import InterventionStack
from harness.recording.contractor import HumanAgent
from harness.recording.recording import Recording
from harness.recording.schema import plain
from harness.replay.divergence import Divergence, first_difference, first_pixel
from harness.replay.history import history_of_fork
from harness.rollout import Snapshot, spawn_streams, take_up_agent
from harness.scenario.schema import Scenario
from harness.world.world import World, make_world

__all__ = [
    "TOLERANCE", "ReplayReport", "agent_changes", "applied_commands", "recorded_action", "recorded_agent",
    "recorded_interventions", "recorded_moments", "recorded_scenario", "recorded_world", "replay_recording",
]

TOLERANCE = 1e-5
"""Largest difference of two log-probabilities (nats) that counts as equal. On the machine of the recording it is 0."""

_WORLD_COLUMNS = ("reward", "terminated", "events", "outcomes", "pose", "health", "statistics")

@dataclass(frozen=True)
class ReplayReport:
    """What a replay found.

    Attributes:
        n_steps: Steps compared.
        n_frames: Pictures of the world that were byte-equal.
        n_actions: Steps in which the agent chose the same.
        n_log_probs: Of these, how many with log-probabilities equal within the tolerance (0 without a policy).
        max_log_prob_difference: Largest difference seen (nats), None where nothing was compared.
        tolerance: For log-probabilities, entropy and value.
        divergences: The first difference of the world and the first of the agent, in order of steps.
        notes: What was not compared, and why; what has changed since.
    """

    n_steps: int
    n_frames: int
    n_actions: int
    n_log_probs: int
    max_log_prob_difference: float | None
    tolerance: float
    divergences: tuple[Divergence, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing differed."""
        return not self.divergences

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "ok": self.ok, "n_steps": self.n_steps, "n_frames": self.n_frames,
            "n_actions": self.n_actions, "n_log_probs": self.n_log_probs,
            "max_log_prob_difference": self.max_log_prob_difference, "tolerance": self.tolerance,
            "divergences": [{"step": d.step, "column": d.column, "recorded": plain(d.recorded),
                             "replayed": plain(d.replayed)} for d in self.divergences],
            "notes": list(self.notes)}

def replay_recording(recording: Recording, *, verify: bool = True, agent: Agent | None = None,
                     world: World | None = None, tolerance: float = TOLERANCE,
                     on_step: Callable[[int], None] | None = None) -> ReplayReport:
    """Run a recording again and compare.

    The world plays the executed actions from the recorded seed: pictures, events, statistics, pose and outcomes must be
    equal, bytes and all. The agent looks at the recorded pictures with its recorded random stream: what it saw after
    interventions, chose and executed must be equal, its log-probabilities within ``tolerance``.

    Args:
        recording: From ``open_recording``.
        verify: False plays the world alone and leaves the agent out (the actions are in the recording).
        agent: Instead of loading the one that the header names.
        world: Instead of making the one that the header names; it is left open.
        tolerance: See ``TOLERANCE``.
        on_step: Called with the number of steps done.

    Raises:
        HarnessError: when world or agent cannot be made, or the recording cannot be read.
    """
    if not len(recording):
        raise RecordingError(f"the recording has no steps to replay: {recording.summary}", where=str(recording.path))
    notes: list[str] = [f"damaged: {recording.damage}"] if recording.damage else []
    with contextlib.ExitStack() as stack:
        if world is None:
            world = _recorded_world(recording, stack, notes)
        elif not world.capabilities.deterministic:
            notes.append(f"the {world.capabilities.backend} backend promises no equal frames")
        start = recording.snapshots[recording.first_step] if recording.first_step else None
        if start is not None and start.world is None and world is not None:
            notes.append("the recording is a fork, and holds no snapshot of the world that it began in; no frames were "
                         "made again")
            world = None
        player = None if not verify else _AgentReplay(recording, agent, stack, notes, tolerance, start, world)
        stage = None if world is None else _WorldReplay(recording, world, start)
        for number in range(len(recording)):
            if stage is not None:
                stage.show(number)
            if player is not None:
                player.step(number, stage)
            if stage is not None:
                stage.play(number)
            if on_step is not None:
                on_step(number + 1)
            if all(p is None or p.found for p in (player, stage)):
                break
    found = [p.found for p in (stage, player) if p is not None and p.found is not None]
    n_actions, largest = (player.n_equal, player.largest) if player else (0, None)
    return ReplayReport(
        len(recording), stage.n_equal if stage else 0, n_actions, 0 if largest is None else n_actions, largest,
        tolerance, tuple(sorted(found, key=lambda d: d.step)), tuple(notes))

def recorded_agent(recording: Recording, name: str | None = None, device: str | None = None) -> Agent:
    """Load the agent of a recording again.

    Args:
        recording: Its header names agent, device and, where it was the scenario's own agent, the options.
        name: Another name or agent file instead.
        device: Another device instead.

    Raises:
        AgentError: when there is no such agent or device here.
    """
    agent, chosen = recording.header["agent"], recording.header["scenario"].get("agent") or {}
    if name is None and agent.get("class") == HumanAgent.__name__:
        # Nobody can ask the person again; what can be is whether the mapping still gives the same tokens.
        where = str(recording.path / "steps.jsonl")
        actions = [recorded_action(row, "chosen", recording) for row in recording.steps]
        try:
            return HumanAgent(actions, [row.get("gui") is True for row in recording.steps])
        except WorldError as problem:
            raise RecordingError(f"a step's action is none: {problem}", where=where) from problem
    # A header is a stranger's text: it may name a bundled agent, and no file.
    if name is None and str(agent.get("name")) not in known_names():
        raise AgentError(f'the recording was made with the agent "{agent.get("name")}", which is not a bundled one',
                         hint="if it is an agent file of yours, name it with --agent FILE.yaml")
    options = dict(chosen.get("options") or {}) if name is None and chosen.get("name") == agent.get("name") else {}
    threads = agent.get("torch_threads")
    if isinstance(threads, int) and threads > 0 and takes(name or str(agent.get("name")), "torch_threads"):
        options["torch_threads"] = threads  # bits depend on it
    device = device or agent.get("device")
    if name is None and agent.get("precision", "float32") != "float32":
        options["precision"] = agent["precision"]
    told = _told(agent)
    if told and (name is None or takes(name, "prompt")):
        options |= told
    return load_agent(name or str(agent.get("name")), **options, **({"device": device} if device else {}))


def _told(agent: Mapping[str, Any]) -> dict[str, Any]:
    """What a recording's agent was told to do. A goal is there as numbers: a stranger's header opens no file."""
    options = agent.get("options")
    if not isinstance(options, dict):
        return {}
    kinds = {"prompt": str, "goal": list, "cond_scale": float | str, "deterministic_prior": bool}
    return {key: options[key] for key, kind in kinds.items() if isinstance(options.get(key), kind)}


def agent_changes(recording: Recording, agent: Agent) -> list[str]:
    """What is different about an agent since a recording was made, as far as bits may depend on it; in words."""
    then, now = recording.header["agent"], plain(agent.provenance())
    changes = [f"the agent has changed since: {key} was {then[key]!r}, is {value!r}" for key, value in now.items()
               if key in then and key not in ("device", "name", "description", "goal", "torch_threads")
               and then[key] != value]
    if then.get("torch_threads") != agent.torch_threads:
        changes.append(f"the agent used {then.get('torch_threads')} threads then, {agent.torch_threads} now; bits "
                       "depend on it")
    return changes


def recorded_interventions(recording: Recording) -> list[Intervention]:
    """The interventions that a recording was made under.

    Raises:
        InterventionError: for one that does not exist here.
    """
    return [build_intervention(spec, where=str(recording.path / "header.json"))
            for spec in recording.header["interventions"]]


def applied_steps(recording: Recording) -> dict[int, set[int]]:
    """The steps at which each intervention of a recording applied, by its place in the header's list."""
    steps: dict[int, set[int]] = {}
    for event in recording.events:
        if event.get("type") == "intervention":
            steps.setdefault(int(event["index"]), set()).add(int(event["step"]))
    return steps


def applied_commands(recording: Recording) -> dict[int, list[str]]:
    """The commands that interventions ran before the picture of each step."""
    commands: dict[int, list[str]] = {}
    for event in recording.events:
        if event.get("type") == "intervention" and isinstance(event.get("commands"), list):
            commands.setdefault(int(event["step"]), []).extend(map(str, event["commands"]))
    return commands


def _recorded_world(recording: Recording, stack: contextlib.ExitStack, notes: list[str]) -> World | None:
    header = recording.header["world"]
    if not header.get("actions_matter", True):
        notes.append("the world is a recorded video, so no frames were made again")
        return None
    if not header.get("deterministic", False):
        notes.append(f"the {header.get('backend')} backend promises no equal frames, so none were made again")
        return None
    return stack.enter_context(recorded_world(recording))


def recorded_scenario(recording: Recording) -> Scenario:
    """The scenario of a recording.

    Raises:
        RecordingError: when the header holds no usable one.
    """
    try:
        return Scenario.model_validate(recording.header["scenario"])
    except ValueError as problem:
        raise RecordingError(f"the header holds no usable scenario: {problem}",
                             where=str(recording.path / "header.json")) from problem


def recorded_world(recording: Recording) -> World:
    """Make the world of a recording again, not yet reset.

    Raises:
        RecordingError: when the header holds no usable scenario, or the resource pack that it was recorded with is no
            longer where it was, or is another one.
        RecordingError: also for a backend that is not here, or that wants options: those are not taken from a header,
            which is a stranger's text and could name a program to start.
    """
    scenario, backend = recorded_scenario(recording), str(recording.header["world"].get("backend"))
    try:
        world = make_world(scenario, backend=backend, **_resource_pack(recording))
    except WorldError as problem:
        raise RecordingError(f"the recorded world cannot be made here: it was {_told_of(recording, backend)}, and "
                             f"{problem.message}", where=str(recording.path / "header.json"),
                             hint="hand it over from Python: replay_recording or fork_recording with "
                                  "world=harness.make_world(...)") from problem
    recorded, found = (options.get("resource_pack") or {} for options in (recording.header["world"], world.options()))
    if recorded.get("sha256") != found.get("sha256"):
        world.close()
        raise RecordingError(f"the resource pack is not the one that was recorded with: expected sha256 "
                             f"{recorded.get('sha256')}, got {found.get('sha256')}", where=str(found.get("path")),
                             hint="put the recorded pack back there")
    return world


def _told_of(recording: Recording, backend: str) -> str:
    """The backend, and what the header says of where it ran."""
    source = recording.header["world"].get("source")
    told = source if isinstance(source, dict) else {}
    words = [f"{name} {told[name]}" for name in ("environment", "remote") if name in told]
    return " with ".join([f'"{backend}"', *words])


def _resource_pack(recording: Recording) -> dict[str, str]:
    """The keyword for a world that wears the recorded pack, from where it was."""
    pack = recording.header["world"].get("resource_pack")
    if pack is None:
        return {}
    if not isinstance(pack, dict) or not isinstance(pack.get("path"), str):
        raise RecordingError(f'the header has no usable "resource_pack" (got {pack!r})', where=str(recording.path))
    if not Path(pack["path"]).exists():
        raise RecordingError("the recording was made with a resource pack that is no longer there", where=pack["path"],
                             hint=f"put the pack back there (sha256 {pack.get('sha256')})")
    return {"resource_pack": pack["path"]}


def recorded_moments(recording: Recording) -> Iterator[World]:
    """The world of a recording, played again: at each row as it was when that row's picture was seen.

    The world is the same object each time; read what is wanted of it before going on.

    Raises:
        RecordingError: for a recording without steps or world, a world that cannot be made again frame by frame, or
            one that shows another picture than was recorded.
    """
    where = str(recording.path)
    notes: list[str] = []
    with contextlib.ExitStack() as stack:
        world = _recorded_world(recording, stack, notes)
        start = recording.snapshots[recording.first_step] if recording.first_step else None
        if world is None or notes or (start is not None and start.world is None):
            raise RecordingError(f"the world cannot be played again: {'; '.join(notes) or 'its snapshot is missing'}",
                                 where=where, hint="leave out what needs the world (segmentation, objects)")
        stage = _WorldReplay(recording, world, start)
        for number in range(len(recording)):
            stage.show(number)
            if stage.found:
                raise RecordingError(f"the world that is played again is not the recorded one: {stage.found}",
                                     where=where, hint="harness replay --verify says what has changed since")
            yield world
            stage.play(number)


class _WorldReplay:
    """The world under the executed actions."""

    def __init__(self, recording: Recording, world: World, start: Snapshot | None) -> None:
        self.found: Divergence | None = None
        self.n_equal = 0
        self._recording, self._world = recording, world
        self._commands = applied_commands(recording)
        if start is None:
            observation, _ = world.reset(seed=spawn_streams(recording.seed)[0])
        else:
            assert start.world is not None
            world.restore(start.world)
            observation, _ = world.observe()
        self._pov = observation["pov"]

    def state(self) -> Any:
        """What a privileged agent may read before the step."""
        return self._world.world_state(blocks=True)

    def show(self, number: int) -> None:
        """Up to the picture of a row, which is compared."""
        if self.found:
            return
        step = self._recording.first_step + number
        for command in self._commands.get(step, ()):
            self._world.command(command)
        if step in self._commands:
            self._pov = self._world.render()
        pixel = first_pixel(self._recording.pov[number], self._pov)
        if pixel:
            self.found = Divergence(step, "frame", *pixel)
        else:
            self.n_equal += 1

    def play(self, number: int) -> None:
        """The row's action, whose results are compared."""
        if self.found:
            return
        step = self._recording.first_step + number
        row = self._recording.steps[number]
        observation, reward, terminated, _, info = self._world.step(
            recorded_action(row, "executed", self._recording))
        self._pov = observation["pov"]
        now = plain({"reward": float(reward), "terminated": terminated, **info})
        for column in _WORLD_COLUMNS:
            difference = first_difference(column, row.get(column), now.get(column))
            if difference:
                self.found = Divergence(step, *difference)
                return


def recorded_action(row: Mapping[str, Any], column: str, recording: Recording) -> dict[str, Any]:
    """A row's ``chosen`` or ``executed`` action.

    Raises:
        RecordingError: when there is none.
    """
    action = row.get(column)
    if not isinstance(action, dict):
        raise RecordingError(f'step {row["step"]} has no usable "{column}" action (got {action!r})',
                             where=f"{recording.path / 'steps.jsonl'}:{row['step'] - recording.first_step + 1}")
    return action


@dataclass
class _AgentReplay:
    """The agent over the recorded pictures, with the interventions and random streams of the recording."""

    recording: Recording
    agent: Agent | None
    stack: contextlib.ExitStack
    notes: list[str]
    tolerance: float
    start: Snapshot | None
    world: World | None = None
    found: Divergence | None = None
    n_equal: int = 0
    largest: float | None = None
    _stopped: bool = False
    _lost: bool = False
    _number: int = 0
    _edits: InterventionStack = field(init=False)

    def __post_init__(self) -> None:
        if self.agent is None:
            self.agent = recorded_agent(self.recording)
        self.agent = self._looking_ahead(self.agent)
        self.notes += agent_changes(self.recording, self.agent)
        self._edits = self.stack.enter_context(InterventionStack(
            recorded_interventions(self.recording), agent=self.agent, seed=self.recording.seed, world=self.world,
            recorded=applied_steps(self.recording), history=history_of_fork(self.recording)))
        _, self._rng = spawn_streams(self.recording.seed)
        if self.start is None:
            self._state = self.agent.initial_state()
        else:
            self._state = take_up_agent(self.start, self.agent, self._rng)
            self._edits.load(self.start.interventions)
        stored = self.recording.activations
        self._vectors = {name.removeprefix("log_probs."): stored[name] for name in stored
                         if name.startswith("log_probs.")}

    def _looking_ahead(self, agent: Agent) -> Agent:
        """The agent, seeing as many pictures at once, in as many rows, as it did then: bits depend on it."""
        header = self.recording.header
        shape = header["agent"].get("batch_shape")
        rows = shape[0] // agent.provenance().get("batch_shape", [1])[0] if isinstance(shape, list) and shape else 1
        if isinstance(agent, BatchAgent) and 1 < rows <= MOST_ROWS:
            return PaddedAgent(agent, rows)
        chunk = shape[1] if isinstance(shape, list) and len(shape) == 2 else 1
        if chunk not in range(2, CHUNK + 1) or header["interventions"] or not hasattr(agent, "look_ahead"):
            return agent
        return AheadAgent(agent, lambda n: list(self.recording.pov[self._number:self._number + n]), chunk)

    def step(self, number: int, stage: _WorldReplay | None) -> None:
        assert self.agent is not None
        if self.found or self._stopped:
            return
        step = self.recording.first_step + number
        if self.agent.privileged and (stage is None or stage.found):
            self.notes.append(f"the agent reads the world's state, so it could be compared up to step {step} only")
            self._stopped = True
            return
        self._number = number
        self._know_the_world(step, stage)
        difference = self._compare(step, stage.state() if stage and self.agent.privileged else None)
        if difference:
            self.found = Divergence(step, *difference)
        else:
            self.n_equal += 1

    def _know_the_world(self, step: int, stage: _WorldReplay | None) -> None:
        """Where the world is not the recorded one, edits that depend on it are not made again."""
        if self._lost or (stage is not None and not stage.found):
            return
        lost = [each for each in self._edits.interventions if each.site == "input" and each.needs_world]
        if lost:
            self._lost = True
            kinds = " and ".join(dict.fromkeys(type(each).__name__ for each in lost))
            self.notes.append(f"from step {step} on, what the agent saw is taken from the recording: {kinds} would "
                              "need the world of that moment")

    def _compare(self, step: int, world_state: Any) -> tuple[str, Any, Any] | None:
        assert self.agent is not None
        before = self.recording.steps[self._number - 1] if self._number else {}
        recorded = self.recording.agent_pov[self._number]
        pov = recorded if self._lost else \
            self._edits.change_input({"pov": self.recording.pov[self._number]}, step, before)["pov"]
        pixel = first_pixel(recorded, pov)
        if pixel:
            return ("agent_frame", *pixel)
        shown: dict[str, Any] = {"pov": pov} if world_state is None else {"pov": pov, "world_state": world_state}
        remembered = self._edits.change_memory(self._state, step, before)
        with self._edits.looking(range(step, step + 1)):
            output = self.agent.act(shown, remembered, self._rng)
        self._state = output.state
        executed = self._edits.change_action(output.action, step, before)
        self._edits.take_log()
        return self._compare_output(output, executed)

    def _compare_output(self, output: AgentOutput, executed: Any) -> tuple[str, Any, Any] | None:
        row = self.recording.steps[self._number]
        # Log-probabilities first: where they leave, a different draw is only what follows.
        for head, series in self._vectors.items():
            if self._number < len(series):
                difference = self._compare_vectors(f"log_probs.{head}", series[self._number],
                                                   output.log_probs.get(head))
                if difference:
                    return difference
        numbers = {"log_prob": output.log_prob, "entropy": output.entropy, "value": output.value}
        for column, value in numbers.items():
            scale = max(1.0, abs(value or 0.0)) if column != "log_prob" else 1.0
            difference = first_difference(column, row.get(column), plain(value), self.tolerance * scale)
            if difference:
                return difference
        if output.log_prob is not None and row["log_prob"] is not None:
            self._seen(abs(row["log_prob"] - output.log_prob))
        for column, made in (("tokens", output.tokens), ("chosen", output.action), ("executed", executed)):
            if column == "executed" and row.get("executed") is None:
                continue
            difference = first_difference(column, row.get(column), plain(made))
            if difference:
                return difference
        return None

    def _compare_vectors(self, column: str, recorded: Any, replayed: Any) -> tuple[str, Any, Any] | None:
        if replayed is None or np.shape(replayed) != np.shape(recorded):
            return column, list(np.shape(recorded)), None if replayed is None else list(np.shape(replayed))
        a, b = np.asarray(recorded, np.float64), np.asarray(replayed, np.float64)
        with np.errstate(invalid="ignore"):
            gap = np.where(a == b, 0.0, np.abs(a - b))  # equal infinities are equal
        gap = np.where(np.isnan(gap), np.inf, gap)
        worst = int(gap.argmax())
        self._seen(float(gap[worst]))
        return None if gap[worst] <= self.tolerance else (f"{column}[{worst}]", float(a[worst]), float(b[worst]))

    def _seen(self, gap: float) -> None:
        self.largest = gap if self.largest is None else max(self.largest, gap)
