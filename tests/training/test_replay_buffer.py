"""Streams read every episode from its beginning, tick by tick, and mark where one begins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from harness.training.classroom import N_HINTS, Episode
from harness.training.recipe import Stage
from harness.training.replay_buffer import Library, SeenEpisodes, Streams

STAGE = Stage(name="s", steps=1, learning_rate=(0.1, 0.1), noisy_share=0.5, recent=2)


def episode(seed: int, ticks: int, noisy: bool = True) -> Episode:
    """Labels count the ticks, and frames hold the seed."""
    labels = np.stack([np.full(ticks, seed), np.arange(ticks)], 1).astype(np.int16)
    return Episode(seed, noisy, labels, np.full((ticks, 2, 2, 3), seed, np.uint8), labels,
                   np.zeros((ticks, N_HINTS), np.float32))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 7), st.integers(1, 4), st.integers(0, 99))
def test_streams_read_in_order(lengths: list[int], ticks: int, n: int, seed: int) -> None:
    library = Library(10)
    for i, length in enumerate(lengths):
        library.add(episode(i, length, noisy=i % 2 == 0))
    streams, rng = Streams(n), np.random.default_rng(seed)
    chunks = [streams.read(library, STAGE, ticks, rng) for _ in range(6)]
    labels = np.concatenate([chunk.labels for chunk in chunks], 1)
    first = np.concatenate([chunk.first for chunk in chunks], 1)
    frames = np.concatenate([chunk.frames for chunk in chunks], 1)
    assert (frames[..., 0, 0, 0] == labels[..., 0]).all()
    assert first[:, 0].all()
    for row in range(n):
        for t in range(1, 6 * ticks):
            which, at = labels[row, t]
            if first[row, t]:
                assert at == 0 and labels[row, t - 1, 1] == lengths[labels[row, t - 1, 0]] - 1
            else:
                assert (which, at) == (labels[row, t - 1, 0], labels[row, t - 1, 1] + 1)


def test_frozen_stacks_look_at_an_episode_once() -> None:
    library, looked = Library(10), []
    for i in range(3):
        library.add(episode(i, 4))

    def look(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        looked.append(len(frames))
        return frames[:, 0, 0, :2].astype(np.float16)

    seen, rng = SeenEpisodes(look), np.random.default_rng(0)
    streams, same = Streams(5), Streams(5)
    for _ in range(6):
        chunk = streams.read(library, STAGE, 3, rng, seen)
        assert chunk.frames.shape == (5, 3, 2) and (chunk.frames[..., 0] == chunk.labels[..., 0]).all()
    assert looked == [4, 4, 4]
    seen.forget_all_but(library.noisy[:1])
    seen(library.noisy[0])
    assert len(looked) == 3
    seen(library.noisy[1])
    assert len(looked) == 4
    assert same.read(library, STAGE, 3, np.random.default_rng(0)).labels.shape == (5, 3, 2)


def test_the_oldest_shared_episodes_leave() -> None:
    library = Library(2)
    for i in range(5):
        library.add(episode(i, 3, noisy=i == 0))
    assert [e.seed for e in library.noisy] == [0] and [e.seed for e in library.shared] == [3, 4]
    assert library.n_frames == 9


def test_shares_are_kept() -> None:
    library = Library(100)
    for i in range(20):
        library.add(episode(i, 3, noisy=i < 10))
    rng = np.random.default_rng(0)
    stage = STAGE.model_copy(update={"noisy_share": 0.3, "recent": 2, "recent_share": 0.5})
    drawn = np.array([library.choose(stage, rng).seed for _ in range(4000)])
    assert abs((drawn < 10).mean() - 0.3) < 0.03
    assert abs((drawn >= 18).mean() - 0.7 * (0.5 + 0.5 * 0.2)) < 0.03


def test_a_few_shared_episodes_are_not_learned_by_heart() -> None:
    library = Library(100)
    for i in range(20):
        library.add(episode(i, 3, noisy=i < 18))
    rng = np.random.default_rng(0)
    stage = STAGE.model_copy(update={"noisy_share": 0.3, "shared_weight": 3.0})
    drawn = np.array([library.choose(stage, rng).seed for _ in range(4000)])
    assert abs((drawn >= 18).mean() - 6 / 24) < 0.03
    for i in range(20, 60):
        library.add(episode(i, 3, noisy=False))
    drawn = np.array([library.choose(stage, rng).seed for _ in range(4000)])
    assert abs((drawn >= 18).mean() - 0.7) < 0.03
