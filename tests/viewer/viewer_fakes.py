"""Recordings of the fakes, heat maps, and a server in a thread, for the tests of the viewer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from fakes import FakeAgent, FakeWorld, make_scenario

from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode
from harness.viewer.server import ViewerServer
from harness.viewer.shelf import Shelf

N = 40


def play(folder: Any, interventions: Sequence[Any] = (), steps: int = N) -> Recording:
    with Recorder(folder) as recorder:
        run_episode(FakeWorld(make_scenario(steps)), FakeAgent(), seed=3, observers=[recorder], hooks=["blocks.*"],
                    interventions=interventions)
    return open_recording(recorder.path)


def heat_maps(n: int = N) -> npt.NDArray[np.float32]:
    """A bright cell that wanders, and one that speaks against."""
    maps = np.zeros((n, 9, 16), np.float32)
    maps[np.arange(n), 4, np.arange(n) % 16] = 2.0
    maps[:, 0, 0] = -1.0
    return maps


@contextmanager
def serving(*shelves: Shelf, tables: Sequence[dict[str, Any]] = ()) -> Iterator[str]:
    with ViewerServer(shelves, tables) as server:
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield server.url
        finally:
            server.stop()
            thread.join()
