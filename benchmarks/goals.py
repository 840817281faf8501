"""What an agent with named goals does when it is told each of them, and when it is told nothing, over held-out seeds.

    python benchmarks/goals.py AGENT [--episodes 100] [--first-seed 500000] [--steps 300] [--scales none 3]
        [--most-likely] [--json FILE]

Every row plays the same seeds of the scenario errands to the end and counts all three outcomes: a log mined, an animal
met (crosshair on it and near enough to hit, for 20 steps), and looked around (turned by 720 degrees without leaving a
circle of 1.5 blocks). Hitting an animal ends an episode. A row is a goal and a strength of guidance; the last row is
the agent that is told nothing. On the diagonal stands success; off it, what a wrong goal does. Wilson's 95 % intervals.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from harness.agent.load import load_agent
from harness.errors import HarnessError
from harness.rollout import Play, play_many
from harness.scenario.load import load_scenario
from harness.statistics import wilson

OUTCOMES = {"chop a tree": "mined_log", "go to the animal": "met_animal", "look around": "looked_around"}
"""Goal -> what shows that it was reached."""


def play(name: str, seeds: Sequence[int], steps: int, told: dict[str, Any], *, likely: bool) -> dict[str, int]:
    """How many episodes reach each outcome."""
    agent, scenario = load_agent(name, device="cpu", deterministic=likely, **told), load_scenario("errands")
    reached = dict.fromkeys(OUTCOMES.values(), 0)
    for episode, result in play_many(agent, [Play(scenario, seed, steps) for seed in seeds], slots=min(32, len(seeds))):
        if result.error is not None:
            raise HarnessError(f"the episode with seed {episode.seed} failed: {result.error}")
        for outcome in reached:
            reached[outcome] += bool(result.outcomes[outcome]["value"])
    return reached


def verdicts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """For each goal and strength: whether its interval lies above that of the agent that is told nothing."""
    nothing = next(row for row in rows if row["goal"] is None)
    said = []
    for row in rows:
        if row["goal"] is None:
            continue
        outcome = OUTCOMES[row["goal"]]
        own, other = row["outcomes"][outcome], nothing["outcomes"][outcome]
        better = own["low"] > other["high"]
        told, nothing_told = (f"{c['rate']:.0%} [{c['low']:.0%}, {c['high']:.0%}]" for c in (own, other))
        said.append(f"{row['goal']}, scale {row['cond_scale']}: {told} against {nothing_told}: "
                    f"{'above' if better else 'NOT above'}")
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=500_000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--scales", nargs="+", default=["none", "3"])
    parser.add_argument("--most-likely", action="store_true", help="take the likeliest tokens instead of drawing")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(options.first_seed, options.first_seed + options.episodes)
    scales = [scale if scale in ("none", "auto") else float(scale) for scale in options.scales]
    tellings = [(goal, scale) for goal in OUTCOMES for scale in scales] + [(None, "none")]
    rows = []
    print(f"{'told':<18}{'scale':<7}" + "".join(f"{outcome:<26}" for outcome in OUTCOMES.values()))
    for goal, scale in tellings:
        told = {} if goal is None else {"prompt": goal, "cond_scale": scale}
        reached = play(options.agent, seeds, options.steps, told, likely=options.most_likely)
        found = {}
        for outcome, n in reached.items():
            low, high = wilson(n, len(seeds))
            found[outcome] = {"successes": n, "rate": n / len(seeds), "low": low, "high": high}
        rows.append({"agent": options.agent, "goal": goal, "cond_scale": scale, "episodes": len(seeds),
                     "first_seed": seeds[0], "steps": options.steps, "sampling": not options.most_likely,
                     "outcomes": found})
        cells = (f"{c['successes']}/{len(seeds)} [{c['low']:.0%}, {c['high']:.0%}]" for c in found.values())
        print(f"{goal or 'nothing':<18}{scale!s:<7}" + "".join(f"{cell:<26}" for cell in cells), flush=True)
    print("\n".join(verdicts(rows)))
    if options.json:
        options.json.write_text(json.dumps(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
