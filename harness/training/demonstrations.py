"""Noisy demonstrations: the teacher plays, and now and then something pushes it off its way.

The labels stay the teacher's, so the learner sees how to come back from where its own mistakes will lead it
(noise injection: M. Laskey et al., DART, 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from harness.agent.action_mapping import (
    BUTTON_NAMES,
    CAMERA_BINS,
    NULL_CAMERA,
    button_table,
    dequantise,
    to_policy,
)
from harness.errors import TrainingError
from harness.training.classroom import Classroom, Episode, Moment, Tokens
from harness.training.recipe import Noise
from harness.world.action import noop_action

__all__ = ["Bursts", "collect_demonstrations", "play_again"]


class Bursts:
    """The noise on one episode.

    Args:
        noise: Its rates.
        rng: Its own stream.
    """

    def __init__(self, noise: Noise, rng: np.random.Generator) -> None:
        self._noise, self._rng = noise, rng
        self._left = 0
        self._pair = (0, NULL_CAMERA)

    def disturb(self, wanted: tuple[int, int]) -> tuple[int, int]:
        """What is carried out instead of the wanted (buttons, camera); mostly the same."""
        noise, rng = self._noise, self._rng
        if not self._left and rng.random() < noise.start:
            self._left = int(rng.integers(1, noise.longest + 1))
            self._pair = self._draw()
        elif self._left and rng.random() < noise.redraw:
            self._pair = self._draw()
        if self._left:
            self._left -= 1
            return self._pair
        if noise.release and rng.random() < noise.release and button_table()[wanted[0], _ATTACK]:
            return 0, NULL_CAMERA
        return wanted

    def _draw(self) -> tuple[int, int]:
        rng, action = self._rng, noop_action()
        for keys in (("", "forward", "back"), ("", "left", "right"), ("", "attack")):
            key = keys[int(rng.integers(len(keys)))]
            if key:
                action[key] = 1
        spreads = (self._noise.pitch_spread, self._noise.yaw_spread)
        bins = np.clip(np.round(rng.normal(CAMERA_BINS // 2, spreads)), 0, CAMERA_BINS - 1).astype(np.int64)
        action["camera"] = dequantise(bins).astype(np.float32)
        return to_policy(action)


_ATTACK = BUTTON_NAMES.index("attack")


def collect_demonstrations(classroom: Classroom, seeds: Sequence[int], ticks: int, noise: Noise,
                           report: Callable[[int], None] = lambda done: None) -> list[Episode]:
    """One noisy demonstration per seed, each a function of its seed alone, in the order of the seeds."""
    def driver(seed: int) -> Callable[[int, Moment], tuple[int, int]]:
        bursts = Bursts(noise, np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(8,))))
        return lambda tick, moment: bursts.disturb(moment.label)

    return _play_all(classroom, [(seed, ticks, True, driver(seed)) for seed in seeds], report)


def play_again(classroom: Classroom, episodes: Iterable[tuple[int, bool, Tokens]],
               report: Callable[[int], None] = lambda done: None) -> list[Episode]:
    """Episodes from their seeds and tokens: the worlds are deterministic, so the pictures need not be stored.

    Raises:
        TrainingError: when an episode ends earlier than it did, because the world is not what it was.
    """
    def driver(tokens: Tokens) -> Callable[[int, Moment], tuple[int, int]]:
        return lambda tick, moment: (int(tokens[tick, 0]), int(tokens[tick, 1]))

    wanted = [(seed, noisy, tokens) for seed, noisy, tokens in episodes]
    jobs = [(seed, len(tokens), noisy, driver(tokens)) for seed, noisy, tokens in wanted]
    played = _play_all(classroom, jobs, report)
    for episode, (seed, _, tokens) in zip(played, wanted, strict=True):
        if len(episode) != len(tokens):
            raise TrainingError(f"the episode with seed {seed} had {len(tokens)} steps and now ends after "
                                f"{len(episode)}",
                                hint="scenarios or world have changed since the checkpoint: start training anew")
    return played


_Job = tuple[int, int, bool, Callable[[int, Moment], tuple[int, int]]]


def _play_all(classroom: Classroom, jobs: Sequence[_Job], report: Callable[[int], None]) -> list[Episode]:
    """Play every job (seed, ticks, noisy, driver) in the classroom's worlds, several at a time."""
    played: list[Episode | None] = [None] * len(jobs)
    waiting = iter(range(len(jobs)))
    places = [-1] * classroom.n_worlds
    done = 0
    while done < len(jobs):
        for i, job in zip(classroom.idle(), waiting, strict=False):
            seed, ticks, noisy, _ = jobs[job]
            classroom.begin(i, seed, ticks, noisy=noisy)
            places[i] = job
        tokens = [None if moment is None else jobs[places[i]][3](moment.tick, moment)
                  for i, moment in enumerate(classroom.moments())]
        for i, episode in enumerate(classroom.play(tokens)):
            if episode is not None:
                played[places[i]] = episode
                done += 1
                report(done)
    return [episode for episode in played if episode is not None]
