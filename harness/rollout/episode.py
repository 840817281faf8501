"""The one place where world and agent meet."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent, AgentOutput, AgentState
from harness.errors import HarnessError
from harness.intervention.intervention import History, Intervention
from harness.intervention.stack import Applied, InterventionStack
from harness.world.action import Action
from harness.world.observation import Observation
from harness.world.world import World

__all__ = ["Episode", "EpisodeResult", "Observer", "Snapshot", "Step", "run_episode", "spawn_streams",
           "take_up_agent"]


@dataclass(frozen=True)
class Snapshot:
    """Everything that decides the future at the start of step ``index``.

    Attributes:
        index: The step that would be played next.
        world: The world's own bytes, None where the backend has no snapshots.
        agent: The agent's memory as named arrays.
        streams: Bit-generator state of every random stream, by name (JSON values).
        interventions: What ``InterventionStack.save`` gave.
    """

    index: int
    world: bytes | None
    agent: Mapping[str, npt.NDArray[Any]]
    streams: Mapping[str, Any]
    interventions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Episode:
    """What is known before the first step; observers get it once.

    ``max_steps`` counts from step 0, also where ``first_step`` is later. ``origin`` says where a fork comes from.
    ``rows`` is how many episodes shared a forward pass, empty places included.
    """

    world: World
    agent: Agent
    seed: int
    hooks: tuple[str, ...]
    interventions: tuple[Intervention, ...]
    max_steps: int
    snapshot: Callable[[], Snapshot]
    first_step: int = 0
    origin: Mapping[str, Any] | None = None
    rows: int = 1


@dataclass(frozen=True)
class Step:
    """One step, frozen. What is recorded stands on both sides of every intervention.

    Attributes:
        index: 0 for the first of an episode; a fork counts on from its recording's.
        observation: As the world gave it.
        agent_observation: As the agent saw it (the same object when no input intervention changed it).
        output: The agent's decision, with log-probabilities and activations.
        executed: The action the world played.
        reward: From the world.
        terminated: From the world.
        truncated: From the world.
        info: The world's info after the action: statistics, events, outcomes, pose.
        snapshot: Call it inside ``on_step`` for the state at the start of step ``index + 1``.
        applied: The interventions that applied in this step, in order.
    """

    index: int
    observation: Observation
    agent_observation: Observation
    output: AgentOutput
    executed: Action
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]
    snapshot: Callable[[], Snapshot]
    applied: tuple[Applied, ...] = ()


@dataclass(frozen=True)
class EpisodeResult:
    """How it ended.

    Attributes:
        status: "terminated", "truncated", "interrupted" (Ctrl-C) or "failed".
        n_steps: Steps played; in a fork without those before it.
        outcomes: Outcome name to {"value", "first_step", "count"}.
        seed: The episode's seed.
        seconds: Wall-clock time of the loop, without building the world.
        error: The message of the exception that ended a failed episode.
    """

    status: str
    n_steps: int
    outcomes: Mapping[str, Any]
    seed: int
    seconds: float
    error: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


class Observer(Protocol):
    """Watches an episode and cannot act."""

    def begin(self, episode: Episode) -> None:
        """Before the first step."""

    def on_step(self, step: Step) -> None:
        """After each step."""

    def end(self, result: EpisodeResult) -> None:
        """After the last step, whatever ended it."""


def spawn_streams(seed: int) -> tuple[int, np.random.Generator]:
    """Separate streams from one seed: the world's seed and the agent's generator; interventions have their own."""
    world, agent = np.random.SeedSequence(seed).spawn(2)
    world_seed = int(world.generate_state(1, np.uint32)[0] >> 1)
    return world_seed, np.random.Generator(np.random.PCG64(agent))


def run_episode(world: World, agent: Agent, *, seed: int = 0, max_steps: int | None = None,
                observers: Sequence[Observer] = (), hooks: Sequence[str] = (),
                interventions: Sequence[Intervention] = (), start: Snapshot | None = None,
                history: History | None = None, origin: Mapping[str, Any] | None = None) -> EpisodeResult:
    """Play one episode, or play on from a snapshot of one.

    Args:
        world: From ``make_world``.
        agent: From ``load_agent``.
        seed: One seed for everything; world, agent and interventions draw from separate streams spawned from it.
        max_steps: Stop earlier than the scenario's ``episode.max_steps``; counted from step 0 of the episode.
        observers: Each gets ``begin``, a frozen ``Step`` per step, and ``end``.
        hooks: Globs of hook names to trace, e.g. ``"blocks.*.attn.hook_pattern"``.
        interventions: What changes something, in order (``InterventionStack`` says which comes when). The notes of a
            snapshot belong to the first of them; those that follow begin anew.
        start: Where to play on; steps are numbered from its ``index``. A snapshot without a world takes the world as it
            stands.
        history: What was recorded before ``start``, for interventions that look back.
        origin: What a recording's header says of where ``start`` came from, as JSON values.

    Returns:
        How it ended. Ctrl-C ends the episode as "interrupted", closes the observers and is raised again.

    Raises:
        HookError: when a glob matches no hook point.
        HarnessError: for a negative seed or no steps, when an intervention does not fit the agent, or when the
            snapshot is not one of this world, agent and interventions; nothing was played then.
    """
    if seed < 0 or (max_steps is not None and max_steps < 1):
        raise HarnessError(f"expected a seed of at least 0 and at least one step, got seed={seed}, "
                           f"max_steps={max_steps}")
    names = tuple(agent.resolve_hooks([hooks] if isinstance(hooks, str) else list(hooks)))
    world_seed, agent_rng = spawn_streams(seed)
    first = 0 if start is None else start.index
    limit = min(x for x in (max_steps, world.scenario.episode.max_steps) if x is not None)
    if first >= limit:
        raise HarnessError(f"there is nothing to play from step {first} on: the episode has {limit} steps")
    edits = InterventionStack(interventions, agent=agent, world=world, seed=seed, first_step=first, history=history,
                              n_steps=limit if start is None else None)  # an edit of the past may be long over
    status, error, outcomes, n_steps = "failed", None, {}, first
    with edits:
        if start is None:
            observation, info = world.reset(seed=world_seed)
            state = agent.initial_state()
        else:
            observation, info, state = _take_up(start, world, agent, agent_rng)
        edits.begin(info)
        edits.load({} if start is None else start.interventions)

        def snapshot() -> Snapshot:
            frozen = world.snapshot() if world.capabilities.snapshots else None
            return Snapshot(n_steps, frozen, agent.save_state(state), {"agent": agent_rng.bit_generator.state},
                            edits.save())

        episode = Episode(world, agent, seed, names, tuple(interventions), limit, snapshot, first, origin)
        begun: list[Observer] = []
        began = time.perf_counter()
        try:
            for observer in observers:
                observer.begin(episode)
                begun.append(observer)
            outcomes, began = info["outcomes"], time.perf_counter()
            while n_steps < limit:
                observation = edits.change_world(observation, n_steps, info)
                seen = edits.change_input(observation, n_steps, info)
                shown = {**seen, "world_state": world.world_state(blocks=True)} if agent.privileged else seen
                remembered = edits.change_memory(state, n_steps, info)
                with edits.looking(range(n_steps, n_steps + 1)):
                    output = agent.act(shown, remembered, agent_rng, hooks=names)
                executed = edits.change_action(output.action, n_steps, info)
                following, reward, terminated, truncated, info = world.step(executed)
                edits.played(n_steps, info, executed)
                state, outcomes = output.state, info["outcomes"]
                n_steps += 1
                truncated = truncated or (n_steps >= limit and not terminated)
                step = Step(n_steps - 1, observation, seen, output, executed, float(reward), terminated, truncated,
                            info, snapshot, edits.take_log())
                for observer in observers:
                    observer.on_step(step)
                observation = following
                if terminated or truncated:
                    break
            status = "terminated" if terminated else "truncated"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"
            raise
        finally:
            result = EpisodeResult(status, n_steps - first, outcomes, seed, time.perf_counter() - began, error)
            for observer in begun:
                observer.end(result)
    return result


def _take_up(start: Snapshot, world: World, agent: Agent, rng: np.random.Generator
             ) -> tuple[Observation, dict[str, Any], AgentState]:
    """Put world, memory and stream where a snapshot was taken: what the world shows and tells there, and the memory."""
    state = take_up_agent(start, agent, rng)
    if start.world is not None:
        world.restore(start.world)
    return *world.observe(), state


def take_up_agent(start: Snapshot, agent: Agent, rng: np.random.Generator) -> AgentState:
    """The agent's memory at a snapshot; its random stream is put where it stood.

    Raises:
        HarnessError: when the snapshot is not one of this agent.
    """
    try:
        state = agent.load_state(start.agent)
        rng.bit_generator.state = start.streams["agent"]
    except (IndexError, KeyError, OverflowError, TypeError, ValueError) as problem:
        raise HarnessError(f"the snapshot at step {start.index} is not one of the agent {agent.name}: "
                           f"{type(problem).__name__}: {problem}") from problem
    return state
