"""Overlay videos: pictures drawn and encoded per second, of 640x360 with attention and actions.

    python benchmarks/overlay.py [--steps 300] [--rounds 5]

Records an episode of vpt-nano in villager once, then draws it to an .mp4 in each round; prints the rate's median and
range, and the processor time a picture takes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from harness.agent.load import load_agent
from harness.analysis.attention import attention_maps
from harness.overlay.video import render_video
from harness.recording.recorder import Recorder
from harness.recording.recording import open_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    agent, scenario = load_agent("vpt-nano"), load_scenario("villager")
    with tempfile.TemporaryDirectory() as folder:
        with make_world(scenario) as world, Recorder(folder) as recorder:
            run_episode(world, agent, seed=24, max_steps=options.steps, observers=[recorder],
                        hooks=agent.resolve_hooks(["blocks.*.attn.hook_pattern"]))
        recording = open_recording(recorder.path)
        rates, costs = [], []
        for _ in range(options.rounds):
            began, spent = time.perf_counter(), time.process_time()
            n = render_video(recording, [attention_maps(recording)], Path(folder) / "o.mp4", layers=["actions"])
            rates.append(n / (time.perf_counter() - began))
            costs.append((time.process_time() - spent) / n * 1e3)
    print(f"{statistics.median(rates):.0f} pictures/s ({min(rates):.0f} to {max(rates):.0f}), "
          f"{statistics.median(costs):.1f} ms of processor time each, {options.rounds} rounds of {n}")


if __name__ == "__main__":
    main()
