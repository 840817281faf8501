"""DAgger: learner and teacher take turns at the controls, the labels are the teacher's (Ross et al., 2011)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.vpt.state import VPTState
from harness.training.classroom import Classroom, Moment, Tokens
from harness.training.learner import Learner, draw_tokens
from harness.training.replay_buffer import Library
from harness.training.scenes import Scenes

__all__ = ["SharedControl", "Unfinished"]


@dataclass(frozen=True)
class Unfinished:
    """Where shared control stands, so that it can go on in another process.

    Attributes:
        episodes: Of every world: seed, longest length, and what was carried out so far.
        teaching: bool [n]: the teacher holds the controls.
        memory: The learner's.
    """

    episodes: list[tuple[int, int, Tokens]]
    teaching: npt.NDArray[np.bool_]
    memory: VPTState


class SharedControl:
    """Worlds played together by teacher and learner.

    Args:
        classroom: Its worlds, all idle.
        learner: Who learns.
        ticks: Length of an episode.
        segment: Ticks for which one of the two holds the controls, on average.
        rng: For seeds, turns and the learner's choices.
        unfinished: To go on from.
    """

    def __init__(self, classroom: Classroom, learner: Learner, ticks: int, segment: int, rng: np.random.Generator,
                 unfinished: Unfinished | None = None) -> None:
        self._classroom, self._learner, self._rng = classroom, learner, rng
        self._ticks, self._segment = ticks, segment
        n = classroom.n_worlds
        if unfinished is None:
            self._teaching = np.ones(n, dtype=np.bool_)
            self._memory = learner.policy.initial_state(n)
            for i in range(n):
                # The first ones are of different lengths, so that later on one or another ends all the time.
                self._begin(i, max(8, ticks * (i + 1) // n))
        else:
            self._teaching, self._memory = unfinished.teaching.copy(), unfinished.memory
            self._catch_up(unfinished)

    def _begin(self, i: int, ticks: int) -> None:
        self._classroom.begin(i, Scenes.draw_seed(self._rng), ticks, noisy=False)
        self._teaching[i] = True  # whoever begins: the first tick draws anew

    def _catch_up(self, unfinished: Unfinished) -> None:
        """Play the unfinished episodes up to where they were."""
        for i, (seed, ticks, _) in enumerate(unfinished.episodes):
            self._classroom.begin(i, seed, ticks, noisy=False)
        self._classroom.catch_up([done for _, _, done in unfinished.episodes])

    def collect(self, library: Library, ticks: int, teacher_share: float) -> float:
        """Play so many ticks in every world; finished episodes go into the library.

        Returns:
            The share of ticks with the teacher at the controls.
        """
        taught = 0
        for _ in range(ticks):
            moments = self._classroom.moments()
            assert all(moment is not None for moment in moments)
            self._take_turns(teacher_share)
            pairs = self._choose([m for m in moments if m is not None])
            taught += int(self._teaching.sum())
            for i, episode in enumerate(self._classroom.play(pairs)):
                if episode is not None:
                    library.add(episode)
                    self._begin(i, self._ticks)
        return taught / (ticks * self._classroom.n_worlds)

    def _take_turns(self, teacher_share: float) -> None:
        change, who = self._rng.random((2, self._classroom.n_worlds))
        fresh = [moment is not None and moment.tick == 0 for moment in self._classroom.moments()]
        self._teaching = np.where((change < 1.0 / self._segment) | np.array(fresh), who < teacher_share, self._teaching)

    def _choose(self, moments: list[Moment]) -> list[tuple[int, int]]:
        """The learner looks at every picture, also where the teacher acts: its memory holds all it saw."""
        frames = np.stack([moment.frame for moment in moments])
        first = np.array([moment.tick == 0 for moment in moments])
        goals = np.array([moment.goal for moment in moments], np.int64)
        buttons, camera, self._memory = self._learner.act(frames, first, self._memory, goals)
        own: list[Any] = [draw_tokens(buttons[i], camera[i], self._rng) for i in range(len(moments))]
        return [moment.label if self._teaching[i] else own[i] for i, moment in enumerate(moments)]

    def unfinished(self) -> Unfinished:
        """Where it stands."""
        episodes = [episode for episode in self._classroom.unfinished() if episode is not None]
        return Unfinished(episodes, self._teaching.copy(), self._memory)

    def close(self) -> None:
        """Close the worlds."""
        self._classroom.close()
