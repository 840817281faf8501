"""Worlds in which a teacher looks over the learner's shoulder: what the policy sees, and what it should do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

from harness.agent.action_mapping import from_policy, to_policy
from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.agent.preprocessing import policy_frame
from harness.errors import TrainingError
from harness.training.scenes import Scenes
from harness.world.action import Action, noop_action
from harness.world.blockworld.vector import BlockWorldVector
from harness.world.observation import WorldState

__all__ = ["N_HINTS", "Classroom", "Episode", "Moment", "load_teacher"]

N_HINTS = 4
"""Columns of ``Episode.hints``: what is under the crosshair within reach (0 nothing, 1 log, 2 leaves, 3 other), whether
the teacher has a target in view, its bearing / 25 degrees, the natural logarithm of its distance in blocks."""
_IN_VIEW = 46.0

Tokens = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Episode:
    """One stored episode. ``seed`` and ``tokens`` alone decide it: the rest comes back by playing it again.

    Attributes:
        seed: Decides scenario and world.
        noisy: A noisy demonstration, or (False) a shared episode of teacher and learner.
        tokens: What was carried out, int16 [t, 2]: buttons and camera index.
        frames: What the policy saw before each of them, uint8 [t, H, W, 3].
        labels: What the teacher would have done, int16 [t, 2].
        hints: float32 [t, N_HINTS], for the auxiliary loss.
        goal: The number of what the learner is told, 0 for nothing; the seed decides it, too.
    """

    seed: int
    noisy: bool
    tokens: Tokens
    frames: npt.NDArray[np.uint8] = field(repr=False)
    labels: Tokens = field(repr=False)
    hints: npt.NDArray[np.float32] = field(repr=False)
    goal: int = 0

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Moment:
    """What stands before one world now: tick, frame uint8 [H, W, 3], label (buttons, camera), hints [N_HINTS], goal."""

    tick: int
    frame: npt.NDArray[np.uint8]
    label: tuple[int, int]
    hints: npt.NDArray[np.float32]
    goal: int = 0


class _Running:
    """An episode in the making."""

    def __init__(self, seed: int, noisy: bool, ticks: int, teacher: Agent, goal: int,
                 frame_shape: tuple[int, ...]) -> None:
        self.seed, self.noisy, self.ticks, self.goal = seed, noisy, ticks, goal
        self.teacher, self.state = teacher, teacher.initial_state()
        self.done = 0
        self.frames = np.empty((ticks, *frame_shape), dtype=np.uint8)
        self.labels = np.zeros((ticks, 2), dtype=np.int16)
        self.tokens = np.zeros((ticks, 2), dtype=np.int16)
        self.hints = np.zeros((ticks, N_HINTS), dtype=np.float32)
        self.moment: Moment | None = None

    def note(self, tokens: tuple[int, int]) -> None:
        assert self.moment is not None
        i = self.done
        self.frames[i], self.labels[i], self.hints[i] = self.moment.frame, self.moment.label, self.moment.hints
        self.tokens[i] = tokens
        self.done += 1

    def episode(self) -> Episode:
        n = self.done
        return Episode(self.seed, self.noisy, self.tokens[:n].copy(), self.frames[:n], self.labels[:n].copy(),
                       self.hints[:n].copy(), self.goal)

    def overrule(self, action: Action) -> None:
        """Tell the teacher what was carried out."""
        self.state = self.teacher.overruled(self.state, action)  # type: ignore[attr-defined]


def load_teacher(name: str) -> Agent:
    """A privileged agent that can be overruled.

    Raises:
        TrainingError: when it is not one.
    """
    agent = load_agent(name)
    if not agent.privileged or not hasattr(agent, "overruled"):
        raise TrainingError(f'agent "{name}" cannot teach: a teacher is privileged and can be overruled',
                            hint="the bundled teacher is called chopper")
    return agent


class Classroom:
    """N worlds, stepped together, each with an episode in it or idle.

    Args:
        scenes: What to draw episodes from.
        teacher: From ``load_teacher``.
        others: Teachers of the scenes that name one, by name.
        n_worlds: How many.
        image_shape: (height, width, 3) of the policy's picture.
        threads: Workers for rules and renderer; no result depends on it.
    """

    def __init__(self, scenes: Scenes, teacher: Agent, n_worlds: int, image_shape: tuple[int, int, int], *,
                 threads: int = 1, others: Mapping[str, Agent] | None = None) -> None:
        self._scenes, self._teacher, self._shape, self._others = scenes, teacher, image_shape, others or {}
        # Only 128 columns matter for a picture 128 wide; another width needs the whole picture.
        self._vector = BlockWorldVector(scenes.scenario(0), n_worlds, agent_input=image_shape[1] == 128,
                                        threads=threads, autoreset_mode=AutoresetMode.DISABLED, copy=False)
        self._vector.reset(seed=0)
        self._over = np.zeros(n_worlds, dtype=np.bool_)
        self._running: list[_Running | None] = [None] * n_worlds
        self.n_worlds = n_worlds

    def close(self) -> None:
        """Close the worlds."""
        self._vector.close()

    def idle(self) -> list[int]:
        """Worlds without an episode."""
        return [i for i, running in enumerate(self._running) if running is None]

    def begin(self, i: int, seed: int, ticks: int, *, noisy: bool) -> None:
        """Start an episode of at most so many ticks in world i."""
        self._vector.worlds[i].scenario = self._scenes.scenario(seed)
        pictures = self._reset(i, seed)
        name = self._scenes.teacher(seed)
        teacher = self._teacher if name is None else self._others[name]
        running = _Running(seed, noisy, ticks, teacher, self._scenes.goal(seed), self._shape)
        self._running[i] = running
        self._look(i, running, pictures[i])

    def _reset(self, i: int, seed: int) -> npt.NDArray[np.uint8]:
        mask = np.arange(self.n_worlds) == i
        pictures, _ = self._vector.reset(seed=[seed] * self.n_worlds, options={"reset_mask": mask})
        self._over[i] = False
        return pictures["pov"]

    def _look(self, i: int, running: _Running, pov: npt.NDArray[np.uint8]) -> None:
        world = self._vector.worlds[i].world_state(blocks=True)
        # Teachers draw nothing: a label must be a function of what is there.
        advice = running.teacher.act({"world_state": world}, running.state, _NO_CHANCE)
        running.state = advice.state
        running.moment = Moment(running.done, policy_frame(pov, self._shape[0], self._shape[1]),
                                to_policy(advice.action), _hints(world, advice.state), running.goal)

    def moments(self) -> list[Moment | None]:
        """What stands before every world now; None where there is no episode."""
        return [running.moment if running is not None else None for running in self._running]

    def play(self, tokens: Sequence[tuple[int, int] | None]) -> list[Episode | None]:
        """Carry out one (buttons, camera) pair in every world with an episode; the others are left out with None.

        Returns:
            For each world the episode, if this tick ended it (the world is idle then), else None.
        """
        for i in np.flatnonzero(self._over).tolist():
            self._reset(i, 0)  # idle and over: any world will do, nobody looks
        actions = self._note(tokens)
        pictures, _, terminated, truncated, _ = self._vector.step(actions)
        self._over = terminated | truncated
        ended: list[Episode | None] = [None] * self.n_worlds
        for i, running in enumerate(self._running):
            if running is None:
                continue
            if self._over[i] or running.done >= running.ticks:
                ended[i], self._running[i] = running.episode(), None
                continue
            running.overrule(actions[i])
            self._look(i, running, pictures["pov"][i])
        return ended

    def _note(self, tokens: Sequence[tuple[int, int] | None]) -> list[Action]:
        for running, pair in zip(self._running, tokens, strict=True):
            assert (running is None) == (pair is None), "one pair for every world with an episode"
            if running is not None and pair is not None:
                running.note(pair)
        return [noop_action() if pair is None else from_policy(*map(int, pair)) for pair in tokens]

    def catch_up(self, tokens: Sequence[Tokens]) -> None:
        """Play what is given, int16 [t, 2] per world, in worlds whose episode has just begun, one after another."""
        for i, done in enumerate(tokens):
            running = self._running[i]
            assert running is not None and running.done == 0, "begin first"
            for pair in done.tolist():
                assert running.moment is not None
                running.note((pair[0], pair[1]))
                action = from_policy(*pair)
                observation, *_ = self._vector.worlds[i].step(action)
                running.overrule(action)
                self._look(i, running, observation["pov"])

    def unfinished(self) -> list[tuple[int, int, Tokens] | None]:
        """Of every world: the episode's seed, its longest length, and what was carried out so far."""
        return [None if running is None else (running.seed, running.ticks, running.tokens[:running.done].copy())
                for running in self._running]


_NO_CHANCE: Any = None


def _hints(world: WorldState, state: Any) -> npt.NDArray[np.float32]:
    looked, kind = world.looking_at, 0
    if looked is not None and looked.reachable:
        kind = 1 if looked.name.endswith("_log") else 2 if looked.name.endswith("_leaves") else 3
    target = getattr(state, "target", None)
    if target is None:
        return np.array([kind, 0, 0, 0], dtype=np.float32)
    x, _, z = world.player.position
    dx, dz = target[0] + 0.5 - x, target[1] + 0.5 - z
    bearing = (math.degrees(math.atan2(-dx, dz)) - world.player.yaw + 180.0) % 360.0 - 180.0
    return np.array([kind, abs(bearing) <= _IN_VIEW, bearing / 25.0, math.log(max(math.hypot(dx, dz), 0.3))],
                    dtype=np.float32)
