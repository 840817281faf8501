"""Many episodes side by side: those of an agent with a network share one forward pass.

Every pass has the same number of rows, whether or not all of them play. An episode then depends on its scenario, its
seed, the agent and that number, and on nothing else: not on its neighbours, its row, or what was played before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.agent.agent import Agent, AgentOutput, BatchAgent
from harness.errors import HarnessError
from harness.rollout.episode import Episode, EpisodeResult, Observer, Snapshot, Step, run_episode, spawn_streams
from harness.scenario.schema import Scenario
from harness.world.observation import Observation
from harness.world.world import World, make_world

__all__ = ["Play", "play_many"]


@dataclass(frozen=True)
class Play:
    """An episode to be played.

    Attributes:
        scenario: Where.
        seed: One seed for everything, as for ``run_episode``.
        max_steps: Stop earlier than the scenario does.
        observers: As for ``run_episode``; snapshots are not to be had.
        label: Whatever the caller wants to know it by.
    """

    scenario: Scenario
    seed: int
    max_steps: int | None = None
    observers: Sequence[Observer] = ()
    label: Any = None

    @property
    def limit(self) -> int:
        """Steps at most."""
        longest = self.scenario.episode.max_steps
        return longest if self.max_steps is None else min(self.max_steps, longest)


def play_many(agent: Agent, plays: Iterable[Play], *, slots: int = 16, hooks: Sequence[str] = (),
              ticked: Callable[[int], None] = lambda n: None) -> Iterator[tuple[Play, EpisodeResult]]:
    """Play episodes in the embedded world, without interventions.

    An agent with a network plays ``slots`` of them at a time with one forward pass per tick; others play one after
    the other. With one slot an episode is bit for bit what ``run_episode`` plays; with more, the network's sums are
    rounded in another order.

    Args:
        agent: Who plays.
        plays: Asked for the next episode whenever a slot is free; may be endless.
        slots: Rows of each forward pass; those without an episode compute all the same.
        hooks: Globs of hook names whose activations each step's output brings.
        ticked: Told now and then how many steps were played since it was last told.

    Yields:
        Each episode and how it ended, in the order in which they end. An exception inside one of them ends only that
        one, as "failed".

    Raises:
        HarnessError: for fewer than one slot, or for a seed or number of steps that cannot be played.
        HookError: when a glob matches nothing.
    """
    names = agent.resolve_hooks(hooks)
    if slots < 1:
        raise HarnessError(f"expected at least one slot, got {slots}")
    play = _play_together(agent, plays, slots, names, ticked) if isinstance(agent, BatchAgent) \
        else _play_apart(agent, plays, names, ticked)
    yield from play


def _play_apart(agent: Agent, plays: Iterable[Play], hooks: Sequence[str], ticked: Callable[[int], None]
                ) -> Iterator[tuple[Play, EpisodeResult]]:
    world: World | None = None
    try:
        for play in plays:
            _check(play)
            if world is None or world.scenario is not play.scenario:
                if world is not None:
                    world.close()
                world = make_world(play.scenario)
            began = time.perf_counter()
            try:
                result = run_episode(world, agent, seed=play.seed, max_steps=play.max_steps, observers=play.observers,
                                     hooks=hooks)
            except Exception as problem:  # whatever it is, it is this episode's result
                result = _failed(play, 0, {}, began, problem)
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


def _play_together(agent: BatchAgent, plays: Iterable[Play], slots: int, hooks: Sequence[str],
                   ticked: Callable[[int], None]) -> Iterator[tuple[Play, EpisodeResult]]:
    rows = [_Slot(agent, tuple(hooks)) for _ in range(slots)]
    # Left out where nothing is traced: an agent of somebody else's may not know of it.
    traced: dict[str, Any] = {"hooks": hooks} if hooks else {}
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
            outputs, state = agent.act_together(
                [row.observation for row in rows], state, [row.rng for row in rows], [row.n_steps == 0 for row in rows],
                **traced)
            ended = [(row, result) for row, output in zip(rows, outputs, strict=True)
                     if output is not None and (result := row.step(output)) is not None]
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

    def __init__(self, agent: BatchAgent, hooks: tuple[str, ...]) -> None:
        self._agent, self._hooks = agent, hooks
        self._world: World | None = None
        self.leave()

    def leave(self) -> None:
        """Nobody plays here."""
        self.play: Play | None = None
        self.observation: Observation | None = None
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
        self._began, self._outcomes, self._begun = time.perf_counter(), {}, list[Observer]()
        try:
            world = self._room(play.scenario)
            seed, self.rng = spawn_streams(play.seed)
            self.observation, info = world.reset(seed=seed)
            self._outcomes = info["outcomes"]
            self.play, self.n_steps = play, 0
            episode = Episode(world, self._agent, play.seed, self._hooks, (), play.limit, _no_snapshot)
            for observer in play.observers:
                observer.begin(episode)
                self._begun.append(observer)
            self._began = time.perf_counter()
        except Exception as problem:  # whatever it is, it is this episode's result
            self.play = play
            result = self._fail(problem)
            self.leave()
            return result
        return None

    def _room(self, scenario: Scenario) -> World:
        if self._world is None or self._world.scenario is not scenario:
            if self._world is not None:
                self._world.close()
            columns: dict[str, Any] = {"agent_input": True} if self._agent.narrow else {}
            self._world = make_world(scenario, "blockworld", **columns)
        return self._world

    def step(self, output: AgentOutput) -> EpisodeResult | None:
        """Play one tick; the result when it was the last."""
        assert self.play is not None and self._world is not None and self.observation is not None
        try:
            following, reward, terminated, truncated, info = self._world.step(output.action)
            self._outcomes = info["outcomes"]
            self.n_steps += 1
            truncated = truncated or (self.n_steps >= self.play.limit and not terminated)
            step = Step(self.n_steps - 1, self.observation, self.observation, output, output.action, float(reward),
                        terminated, truncated, info, _no_snapshot)
            for observer in self._begun:
                observer.on_step(step)
            self.observation = following
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
            observer.end(result)
        if self._world is not None:
            self._world.close()
            self._world = None  # nobody knows what state it is in
        return result


def _no_snapshot() -> Snapshot:
    raise HarnessError("episodes that are played together take no snapshots", hint="use run_episode")
