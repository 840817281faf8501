"""Stored episodes, and the streams that read them in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.training.classroom import N_HINTS, Episode
from harness.training.recipe import Stage

__all__ = ["Chunk", "Library", "SeenEpisodes", "Streams"]


@dataclass(frozen=True)
class Chunk:
    """What one optimiser step learns from. Axes: b streams, t ticks.

    Attributes:
        frames: uint8 [b, t, H, W, 3]; or with frozen stacks float16 [b, t, n_flat], what the stacks saw.
        first: bool [b, t]: an episode begins.
        labels: int64 [b, t, 2]: buttons and camera index.
        hints: float32 [b, t, N_HINTS].
        goals: int64 [b, t]: the number of what the learner is told, 0 for nothing; None is nothing throughout.
    """

    frames: npt.NDArray[np.uint8] | npt.NDArray[np.float16]
    first: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.int64]
    hints: npt.NDArray[np.float32]
    goals: npt.NDArray[np.int64] | None = None


class Library:
    """All episodes to learn from. Shared ones beyond ``capacity`` leave, oldest first; demonstrations stay."""

    def __init__(self, capacity: int) -> None:
        self.noisy: list[Episode] = []
        self.shared: list[Episode] = []
        self._capacity = capacity

    def add(self, episode: Episode) -> None:
        """Keep one more."""
        if episode.noisy:
            self.noisy.append(episode)
        else:
            self.shared.append(episode)
            del self.shared[:-self._capacity]

    def choose(self, stage: Stage, rng: np.random.Generator) -> Episode:
        """An episode to read next. Always three draws, so that what is drawn later does not hang on the outcome."""
        kind, recency, place = rng.random(3)
        if not self.shared or (self.noisy and kind < self._noisy_share(stage)):
            shelf = self.noisy
        elif recency < stage.recent_share:
            shelf = self.shared[-stage.recent:]
        else:
            shelf = self.shared
        return shelf[int(place * len(shelf))]

    def _noisy_share(self, stage: Stage) -> float:
        if stage.shared_weight is None:
            return stage.noisy_share
        weight = stage.shared_weight * len(self.shared)
        return max(stage.noisy_share, len(self.noisy) / (len(self.noisy) + weight))

    @property
    def n_frames(self) -> int:
        """Frames in all episodes."""
        return sum(map(len, self.noisy)) + sum(map(len, self.shared))


class SeenEpisodes:
    """What frozen convolution stacks see in episodes: computed when an episode is first read, and kept.

    Args:
        look: From frames uint8 [t, H, W, 3] to float16 [t, n_flat].
    """

    def __init__(self, look: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float16]]) -> None:
        self._look = look
        # The episode is kept beside the result: an id means nothing once its object is gone.
        self._seen: dict[int, tuple[Episode, npt.NDArray[np.float16]]] = {}

    def __call__(self, episode: Episode) -> npt.NDArray[np.float16]:
        """Float16 [t, n_flat] of a whole episode."""
        if id(episode) not in self._seen:
            self._seen[id(episode)] = episode, self._look(episode.frames)
        return self._seen[id(episode)][1]

    def forget_all_but(self, episodes: Iterable[Episode]) -> None:
        """Drop what is no longer read."""
        kept = {id(episode) for episode in episodes}
        self._seen = {key: value for key, value in self._seen.items() if key in kept}


class Streams:
    """Readers that go through episodes tick by tick, each from one to the next.

    Args:
        n: How many.
    """

    def __init__(self, n: int) -> None:
        self.places: list[tuple[Episode, int] | None] = [None] * n

    def read(self, library: Library, stage: Stage, ticks: int, rng: np.random.Generator,
             seen: SeenEpisodes | None = None) -> Chunk:
        """The next ticks of every stream. Where an episode ends, another begins, marked in ``first``.

        With ``seen`` the chunk holds what frozen stacks saw instead of pictures.
        """
        b = len(self.places)
        parts: list[npt.NDArray[Any]] = []
        first, labels = np.zeros((b, ticks), np.bool_), np.empty((b, ticks, 2), np.int64)
        hints, goals = np.empty((b, ticks, N_HINTS), np.float32), np.zeros((b, ticks), np.int64)
        for i in range(b):
            for there, episode, here, fresh in self._pass(i, ticks, lambda: library.choose(stage, rng), rng):
                first[i, there.start], goals[i, there] = fresh, episode.goal
                labels[i, there], hints[i, there] = episode.labels[here], episode.hints[here]
                parts.append((episode.frames if seen is None else seen(episode))[here])
        frames: npt.NDArray[Any] = np.concatenate(parts)
        return Chunk(frames.reshape(b, ticks, *frames.shape[1:]), first, labels, hints, goals)

    def _pass(self, i: int, ticks: int, choose: Callable[[], Episode], rng: np.random.Generator
              ) -> Iterator[tuple[slice, Episode, slice, bool]]:
        """Stream i over so many ticks: where in the chunk, of which episode, where in it, and whether it begins."""
        filled = 0
        while filled < ticks:
            place = self.places[i]
            fresh = place is None or place[1] >= len(place[0])
            if place is None:
                episode = choose()
                # The very first episodes are entered somewhere, or all streams would search, walk and chop in step.
                place = episode, int(rng.integers(len(episode)))
            elif fresh:
                place = choose(), 0
            episode, at = place
            n = min(ticks - filled, len(episode) - at)
            self.places[i] = episode, at + n
            yield slice(filled, filled + n), episode, slice(at, at + n), fresh
            filled += n

    def episodes(self) -> Sequence[Episode]:
        """The episodes being read."""
        return [place[0] for place in self.places if place is not None]
