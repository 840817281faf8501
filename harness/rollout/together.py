"""Many episodes side by side: those of an agent with a network share one forward pass.

Every pass has the same number of rows, whether or not all of them play. An episode then depends on its scenario, its
seed, the agent and that number, and on nothing else: not on its neighbours, its row, or what was played before.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.agent.agent import Agent, AgentOutput, AgentState, BatchAgent
from harness.errors import HarnessError
from harness.intervention.intervention import Intervention
from harness.intervention.stack import InterventionStack
from harness.rollout.episode import Episode, EpisodeResult, Observer, Snapshot, Step, run_episode, spawn_streams
from harness.scenario.schema import Scenario
from harness.world.observation import Observation
from harness.world.world import World, make_world

__all__ = ["Play", "can_share", "play_many"]


def can_share(interventions: Sequence[Intervention], backend: str = "blockworld") -> bool:
    """Whether an episode can share forward passes: none of these acts inside the network or on its memory."""
    return backend == "blockworld" and not any(each.site in ("feature", "memory") for each in interventions)


@dataclass(frozen=True)
class Play:
    """An episode to be played.

    Attributes:
        scenario: Where.
        seed: One seed for everything, as for ``run_episode``.
        max_steps: Stop earlier than the scenario does.
        observers: As for ``run_episode``.
        label: Whatever the caller wants to know it by.
        hooks: Names of hooks to trace.
        interventions: As for ``run_episode``.
        backend: Which engine builds the world.
        whole: An observer wants the whole picture; else an agent that reads only part of it gets only that drawn.
    """

    scenario: Scenario
    seed: int
    max_steps: int | None = None
    observers: Sequence[Observer] = ()
    label: Any = None
    hooks: tuple[str, ...] = ()
    interventions: Sequence[Intervention] = ()
    backend: str = "blockworld"
    whole: bool = False

    @property
    def limit(self) -> int:
        """Steps at most."""
        longest = self.scenario.episode.max_steps
        return longest if self.max_steps is None else min(self.max_steps, longest)

    def world(self, agent: Agent) -> World:
        """Build its world."""
        narrow = isinstance(agent, BatchAgent) and agent.narrow and not self.whole and not self.interventions
        columns: dict[str, Any] = {"agent_input": True} if narrow and self.backend == "blockworld" else {}
        return make_world(self.scenario, self.backend, **columns)

    def fits(self, world: World) -> bool:
        """Whether a world that was built for another play can be used again."""
        wide = self.whole or bool(self.interventions)
        return world.scenario is self.scenario and not (wide and world.capabilities.narrow)


def play_many(agent: Agent, plays: Iterable[Play], *, slots: int = 16,
              ticked: Callable[[int], None] = lambda n: None) -> Iterator[tuple[Play, EpisodeResult]]:
    """Play many episodes.

    An agent with a network plays ``slots`` of them at a time with one forward pass per tick; others play one after
    the other. With one slot an episode is what ``run_episode`` plays, bit for bit; with more, the network's sums are
    rounded in another order.

    Args:
        agent: Who plays.
        plays: Asked for the next episode whenever a slot is free; may be endless.
        slots: Rows of each forward pass; those without an episode compute all the same.
        ticked: Told now and then how many steps were played since it was last told.

    Yields:
        Each episode and how it ended, in the order in which they end. An exception inside one of them ends only that
        one, as "failed".

    Raises:
        HarnessError: for fewer than one slot, for a seed or number of steps that cannot be played, or for several slots
            and an episode that cannot share a forward pass (``can_share``).
    """
    if slots < 1:
        raise HarnessError(f"expected at least one slot, got {slots}")
    play = _play_together(agent, plays, slots, ticked) if isinstance(agent, BatchAgent) and slots > 1 \
        else _play_apart(agent, plays, ticked)
    yield from play


def _play_apart(agent: Agent, plays: Iterable[Play], ticked: Callable[[int], None]
                ) -> Iterator[tuple[Play, EpisodeResult]]:
    world: World | None = None
    built: str | None = None
    try:
        for play in plays:
            _check(play)
            began = time.perf_counter()
            try:
                if world is None or built != play.backend or not play.fits(world):
                    if world is not None:
                        world.close()
                        world = None
                    world, built = play.world(agent), play.backend
                result = run_episode(world, agent, seed=play.seed, max_steps=play.max_steps, observers=play.observers,
                                     hooks=play.hooks, interventions=play.interventions)
            except Exception as problem:  # whatever it is, it is this episode's result
                result = _failed(play, 0, {}, began, problem)
                if world is not None:
                    world.close()
                world = None  # nobody knows what state it is in
            ticked(result.n_steps)
            yield play, result
    finally:
        if world is not None:
            world.close()


def _check(play: Play) -> None:
    if play.seed < 0 or play.limit < 1:
        raise HarnessError(f"expected a seed of at least 0 and at least one step, got seed={play.seed}, "
                           f"max_steps={play.max_steps}")


def _failed(play: Play, n_steps: int, outcomes: Any, began: float, problem: Exception) -> EpisodeResult:
    return EpisodeResult("failed", n_steps, outcomes, play.seed, time.perf_counter() - began,
                         f"{type(problem).__name__}: {problem}")


def _play_together(agent: BatchAgent, plays: Iterable[Play], slots: int, ticked: Callable[[int], None]
                   ) -> Iterator[tuple[Play, EpisodeResult]]:
    rows = [_Slot(agent, number, slots) for number in range(slots)]
    state = agent.initial_states(slots)
    source, more = iter(plays), True
    try:
        while True:
            while more and (free := next((row for row in rows if row.play is None), None)) is not None:
                play = next(source, None)
                more = play is not None
                if play is not None and (early := free.begin(play)) is not None:
                    yield play, early
            playing = [row for row in rows if row.play is not None]
            if not playing:
                return
            ended = [(row, result) for row in playing if (result := row.look()) is not None]
            hooks = tuple(dict.fromkeys(name for row in rows if row.play is not None for name in row.play.hooks))
            outputs, state = agent.act_together(
                [row.seen for row in rows], state, [row.rng for row in rows], [row.n_steps == 0 for row in rows],
                hooks=hooks)
            ended += [(row, result) for row, output in zip(rows, outputs, strict=True)
                      if output is not None and (result := row.step(output, state)) is not None]
            ticked(len(playing))
            for row, result in ended:
                assert row.play is not None
                play = row.play
                row.leave()
                yield play, result
    finally:
        for row in rows:
            row.close()


class _Slot:
    """One row of the batch: a world that is kept from episode to episode while the scenario stays the same."""

    def __init__(self, agent: BatchAgent, number: int, rows: int) -> None:
        self._agent, self._number, self._rows = agent, number, rows
        self._world: World | None = None
        self.leave()

    def leave(self) -> None:
        """Nobody plays here."""
        self.play: Play | None = None
        self.seen: Observation | None = None
        self.rng: np.random.Generator | None = None
        self.n_steps = 0

    def close(self) -> None:
        self.leave()
        if self._world is not None:
            self._world.close()
            self._world = None

    def begin(self, play: Play) -> EpisodeResult | None:
        """Start an episode; its result when it fails at once."""
        _check(play)
        if not can_share(play.interventions, play.backend):
            raise HarnessError("interventions inside the network or on the memory, and other backends, cannot share a "
                               "forward pass", hint="play them with slots=1")
        self._began, self._outcomes, self._begun = time.perf_counter(), {}, list[Observer]()
        self.play, self.n_steps = play, 0
        try:
            world = self._room(play)
            self._edits = InterventionStack(play.interventions, agent=self._agent, world=world, seed=play.seed,
                                            n_steps=play.limit)
            seed, self.rng = spawn_streams(play.seed)
            self._observation, self._info = world.reset(seed=seed)
            self._edits.begin(self._info)
            self._memory: AgentState = None
            self._outcomes = self._info["outcomes"]
            episode = Episode(world, self._agent, play.seed, play.hooks, tuple(play.interventions), play.limit,
                              self._snapshot, rows=self._rows)
            for observer in play.observers:
                observer.begin(episode)
                self._begun.append(observer)
            self._began = time.perf_counter()
        except Exception as problem:  # whatever it is, it is this episode's result
            result = self._fail(problem)
            self.leave()
            return result
        return None

    def _room(self, play: Play) -> World:
        if self._world is None or not play.fits(self._world):
            if self._world is not None:
                self._world.close()
                self._world = None
            self._world = play.world(self._agent)
        return self._world

    def _snapshot(self) -> Snapshot:
        """At the start of the step that comes next."""
        assert self._world is not None and self.rng is not None
        memory = self._agent.initial_state() if self._memory is None \
            else self._agent.memory_of(self._memory, self._number)
        return Snapshot(self.n_steps, self._world.snapshot(), self._agent.save_state(memory),
                        {"agent": self.rng.bit_generator.state}, self._edits.save())

    def look(self) -> EpisodeResult | None:
        """What the agent sees next, in ``seen``; the result when that fails."""
        try:
            self._observation = self._edits.change_world(self._observation, self.n_steps, self._info)
            self.seen = self._edits.change_input(self._observation, self.n_steps, self._info)
        except Exception as problem:  # whatever it is, it is this episode's result
            self.seen = None
            return self._fail(problem)
        return None

    def step(self, output: AgentOutput, memory: AgentState) -> EpisodeResult | None:
        """Play one tick; the result when it was the last. ``memory`` is that of all rows."""
        assert self.play is not None and self._world is not None and self.seen is not None
        try:
            output = replace(output, activations={name: output.activations[name] for name in self.play.hooks})
            executed = self._edits.change_action(output.action, self.n_steps, self._info)
            following, reward, terminated, truncated, self._info = self._world.step(executed)
            self._edits.played(self.n_steps, self._info, executed)
            self._memory, self._outcomes = memory, self._info["outcomes"]
            self.n_steps += 1
            truncated = truncated or (self.n_steps >= self.play.limit and not terminated)
            step = Step(self.n_steps - 1, self._observation, self.seen, output, executed, float(reward),
                        terminated, truncated, self._info, self._snapshot, self._edits.take_log())
            for observer in self._begun:
                observer.on_step(step)
            self._observation = following
            if not (terminated or truncated):
                return None
            result = EpisodeResult("terminated" if terminated else "truncated", self.n_steps, self._outcomes,
                                   self.play.seed, time.perf_counter() - self._began)
            for observer in self._begun:
                observer.end(result)
        except Exception as problem:  # whatever it is, it is this episode's result
            return self._fail(problem)
        return result

    def _fail(self, problem: Exception) -> EpisodeResult:
        assert self.play is not None
        result = _failed(self.play, self.n_steps, self._outcomes, self._began, problem)
        for observer in self._begun:
            with contextlib.suppress(Exception):  # it has failed already, and for the reason above
                observer.end(result)
        if self._world is not None:
            self._world.close()
            self._world = None  # nobody knows what state it is in
        return result
