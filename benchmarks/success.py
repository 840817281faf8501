"""How often a VPT agent reaches an outcome, over held-out seeds, at temperature 1 and with the most likely action.

    python benchmarks/success.py AGENT [--scenario treechop] [--outcome mined_log] [--episodes 200]
        [--first-seed 200000] [--steps 600] [--set NAME=VALUE]... [--only drawing|most-likely] [--json FILE]

Prints counts with Wilson's 95 % interval and the median number of steps of the successful episodes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from harness.agent.load import load_agent
from harness.agent.vpt.agent import VPTAgent
from harness.scenario.load import load_scenario, parse_value
from harness.training.evaluation import evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent")
    parser.add_argument("--scenario", default="treechop")
    parser.add_argument("--outcome", default="mined_log")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=200_000)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")
    parser.add_argument("--only", choices=["drawing", "most-likely"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    agent = load_agent(options.agent, device="cpu")
    if not isinstance(agent, VPTAgent):
        parser.error(f"{options.agent} is no VPT agent")
    torch.set_num_threads(1)
    settings = dict(text.split("=", 1) for text in options.settings)
    scenario = load_scenario(options.scenario, parameters={k: parse_value(v) for k, v in settings.items()})
    print(f"{agent.name}: {agent.description}")
    rows = []
    for sampling in (True, False):
        if options.only == ("most-likely" if sampling else "drawing"):
            continue
        seeds = range(options.first_seed, options.first_seed + options.episodes)
        result = evaluate(agent.policy, scenario, options.outcome, seeds, steps=options.steps, sampling=sampling)
        rows.append(row := result.as_dict() | {"agent": agent.name, "parameters": settings})
        median = "-" if row["median_steps"] is None else f"{row['median_steps']:.0f}"
        how = "temperature 1" if sampling else "most likely"
        print(f"{scenario.name}, {how}: {row['successes']}/{row['episodes']}"
              f" [{row['low']:.1%}, {row['high']:.1%}], {row['within_300']} within 300 steps, median {median} steps")
    if options.json:
        options.json.write_text(json.dumps(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
