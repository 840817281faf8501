"""How long a fork takes to its first new frame, and what snapshots cost.

    python benchmarks/fork.py [--steps 1000] [--forks 12] [--shells 3] [--scenario villager] [--agent vpt-nano]

Records an episode, then forks it at steps spread over it, and at the worst ones: right before a snapshot. Prints
seconds from the call to the first frame that the recording does not have: in a process that holds world and agent, in
one that loads them for every fork, and from the shell (``harness fork``, everything included).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import harness
from harness.intervention import ActionOverride
from harness.recording.recording import Recording
from harness.replay.replay import recorded_world
from harness.rollout import Step


class FirstFrame:
    """Notes when the first new step is done."""

    def __init__(self) -> None:
        self.began, self.seconds = time.perf_counter(), 0.0

    def begin(self, episode: object) -> None:  # noqa: D102
        pass

    def on_step(self, step: Step) -> None:  # noqa: D102
        self.seconds = self.seconds or time.perf_counter() - self.began

    def end(self, result: object) -> None:  # noqa: D102
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--forks", type=int, default=12)
    parser.add_argument("--shells", type=int, default=3)
    parser.add_argument("--scenario", default="villager")
    parser.add_argument("--agent", default="vpt-nano")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="harness-benchmark-") as folder:
        measure(record(Path(folder), options), options)


def record(folder: Path, options: argparse.Namespace) -> Recording:
    loaded = harness.load_scenario(options.scenario)
    episode = loaded.episode.model_copy(update={"max_steps": options.steps, "terminate_when": ()})
    with harness.make_world(loaded.model_copy(update={"episode": episode})) as world, \
            harness.Recorder(folder) as recorder:
        harness.run_episode(world, harness.load_agent(options.agent), observers=[recorder], hooks=loaded.hooks)
    return harness.open_recording(recorder.path)


def measure(recording: Recording, options: argparse.Namespace) -> None:
    every, n = recording.header["snapshot_every"], len(recording)
    files = [file.stat().st_size for file in (recording.path / "snapshots").iterdir()]
    whole = sum(file.stat().st_size for file in recording.path.rglob("*") if file.is_file())
    print(f"{n} steps, a snapshot every {every}: {len(files)} of {statistics.mean(files) / 1e6:.2f} MB, "
          f"{100 * sum(files) / whole:.0f} % of the recording's {whole / 1e6:.0f} MB")
    agent = harness.load_agent(options.agent)
    worst = list(range(every - 1, n, every))
    spread = [(2 * i + 1) * n // (2 * options.forks) for i in range(options.forks)]
    with recorded_world(recording) as world:
        world.reset(seed=0)
        for what, steps, more in (("world and agent there", spread, {"world": world, "agent": agent}),
                                  ("the same, before a snapshot", worst, {"world": world, "agent": agent}),
                                  ("world and agent loaded anew", spread, {})):
            print(f"{what:30} {told([fork(recording.path, at, **more) for at in steps])}")
    seconds = []
    for at in worst[:: max(1, len(worst) // options.shells)][:options.shells]:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import sys; from harness.cli import main; sys.exit(main())", "fork",
                        str(recording.path), "--at", str(at), "--intervene", "no-attack", "--steps", "1",
                        "--no-record", "--quiet"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    print(f"{'from the shell, before a snapshot':30} {told(seconds)}")


def fork(path: Path, at: int, **more: Any) -> float:
    first = FirstFrame()
    with harness.open_recording(path) as recording:
        harness.fork_recording(recording, at=at, steps=1, interventions=[ActionOverride({"attack": 0})],
                               observers=[first], **more)
    return first.seconds


def told(seconds: list[float]) -> str:
    return (f"median {statistics.median(seconds):.2f} s, from {min(seconds):.2f} to {max(seconds):.2f} "
            f"({len(seconds)} forks)")


if __name__ == "__main__":
    main()
