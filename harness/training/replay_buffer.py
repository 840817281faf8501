"""Stored episodes, and the streams that read them in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.training.classroom import N_HINTS, Episode
from harness.training.recipe import Stage

__all__ = ["Chunk", "Library", "Streams"]


@dataclass(frozen=True)
class Chunk:
    """What one optimiser step learns from. Axes: b streams, t ticks.

    Attributes:
        frames: uint8 [b, t, H, W, 3].
        first: bool [b, t]: an episode begins.
        labels: int64 [b, t, 2]: buttons and camera index.
        hints: float32 [b, t, N_HINTS].
    """

    frames: npt.NDArray[np.uint8]
    first: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.int64]
    hints: npt.NDArray[np.float32]


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
        if not self.shared or (self.noisy and kind < stage.noisy_share):
            shelf = self.noisy
        elif recency < stage.recent_share:
            shelf = self.shared[-stage.recent:]
        else:
            shelf = self.shared
        return shelf[int(place * len(shelf))]

    @property
    def n_frames(self) -> int:
        """Frames in all episodes."""
        return sum(map(len, self.noisy)) + sum(map(len, self.shared))


class Streams:
    """Readers that go through episodes tick by tick, each from one to the next.

    Args:
        n: How many.
        image_shape: (height, width, 3).
    """

    def __init__(self, n: int, image_shape: tuple[int, int, int]) -> None:
        self._shape = image_shape
        self.places: list[tuple[Episode, int] | None] = [None] * n

    def read(self, library: Library, stage: Stage, ticks: int, rng: np.random.Generator) -> Chunk:
        """The next ticks of every stream. Where an episode ends, another begins, marked in ``first``."""
        b = len(self.places)
        chunk = Chunk(np.empty((b, ticks, *self._shape), np.uint8), np.zeros((b, ticks), np.bool_),
                      np.empty((b, ticks, 2), np.int64), np.empty((b, ticks, N_HINTS), np.float32))
        for i in range(b):
            self._fill(chunk, i, ticks, lambda: library.choose(stage, rng), rng)
        return chunk

    def _fill(self, chunk: Chunk, i: int, ticks: int, choose: Any, rng: np.random.Generator) -> None:
        filled = 0
        while filled < ticks:
            place = self.places[i]
            if place is None:
                episode = choose()
                # The very first episodes are entered somewhere, or all streams would search, walk and chop in step.
                place = episode, int(rng.integers(len(episode)))
                chunk.first[i, filled] = True
            elif place[1] >= len(place[0]):
                place = choose(), 0
                chunk.first[i, filled] = True
            episode, at = place
            n = min(ticks - filled, len(episode) - at)
            there, here = slice(filled, filled + n), slice(at, at + n)
            chunk.frames[i, there] = episode.frames[here]
            chunk.labels[i, there] = episode.labels[here]
            chunk.hints[i, there] = episode.hints[here]
            self.places[i] = episode, at + n
            filled += n

    def episodes(self) -> Sequence[Episode]:
        """The episodes being read."""
        return [place[0] for place in self.places if place is not None]
