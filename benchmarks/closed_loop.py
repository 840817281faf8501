"""The closed loop: blockworld, an agent, tracing of attention and residuals, recording on.

    python benchmarks/closed_loop.py [--steps 600] [--rounds 3] [--scenario villager] [--agent vpt-nano]

Prints steps per second with recording, without recording, and bare (no hooks either), interleaved round by round, and
the peak memory of the process. ``--steps 6000 --rounds 1`` is the long episode.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import tempfile
from pathlib import Path

import harness

HOOKS = ["blocks.*.attn.hook_pattern", "blocks.*.hook_resid_*"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scenario", default="villager")
    parser.add_argument("--agent", default="vpt-nano")
    parser.add_argument("--only", choices=["recorded", "traced", "bare"])
    options = parser.parse_args()
    loaded = harness.load_scenario(options.scenario)
    episode = loaded.episode.model_copy(update={"max_steps": options.steps, "terminate_when": ()})
    scenario, agent = loaded.model_copy(update={"episode": episode}), harness.load_agent(options.agent)
    print(f"{agent.name}: {agent.description}")
    kinds = [options.only] if options.only else ["recorded", "traced", "bare"]
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    with harness.make_world(scenario) as world:
        harness.run_episode(world, agent, seed=0, max_steps=20, hooks=HOOKS)  # compiles, warms the caches
        for number in range(options.rounds):
            for kind in kinds:
                rates[kind].append(play(world, agent, number, kind))
    for kind, found in rates.items():
        print(f"{kind:9} median {statistics.median(found):6.1f} steps/s, from {min(found):.1f} to {max(found):.1f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {peak:.2f} GB, {options.rounds} rounds of {options.steps} steps")


def play(world: harness.World, agent: harness.Agent, seed: int, kind: str) -> float:
    folder = Path(tempfile.mkdtemp(prefix="harness-benchmark-"))
    try:
        observers = [harness.Recorder(folder)] if kind == "recorded" else []
        result = harness.run_episode(world, agent, seed=seed, observers=observers,
                                     hooks=[] if kind == "bare" else HOOKS)
        return result.n_steps / result.seconds
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
