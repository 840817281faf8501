"""How often an agent reaches an outcome, over held-out seeds.

    python benchmarks/success.py AGENT [--scenario treechop] [--outcome mined_log] [--episodes 200]
        [--first-seed 200000] [--steps 600] [--set NAME=VALUE]... [--only drawing|most-likely] [--json FILE]

AGENT is a name (vpt-nano, chopper, random, noop) or an agent file. One that draws its actions from a policy is
measured twice: drawing at the policy's own temperature, and with the most likely action. Prints counts with Wilson's
95 % interval and the median number of steps of the successful episodes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.agent.vpt.agent import VPTAgent
from harness.errors import unknown_name
from harness.scenario.load import load_scenario, parse_value
from harness.training.evaluation import evaluate_agent


def ways_to_play(name: str, only: str | None) -> Iterator[tuple[str, Agent]]:
    """The agent, once or in both of its ways."""
    agent = load_agent(name, device="cpu")
    if not isinstance(agent, VPTAgent):
        yield "as it plays", agent
        return
    if only != "most-likely":
        yield "drawing", agent
    if only != "drawing":
        yield "most likely", load_agent(name, device="cpu", deterministic=True)


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
    torch.set_num_threads(1)
    settings = dict(text.split("=", 1) for text in options.settings)
    scenario = load_scenario(options.scenario, parameters={k: parse_value(v) for k, v in settings.items()})
    if options.outcome not in scenario.outcomes:
        parser.error(str(unknown_name("outcome", options.outcome, scenario.outcomes)))
    seeds = range(options.first_seed, options.first_seed + options.episodes)
    rows = []
    for how, agent in ways_to_play(options.agent, options.only):
        if not rows:
            print(f"{agent.name}: {agent.description}")
        result = evaluate_agent(agent, scenario, options.outcome, seeds, steps=options.steps,
                                sampling=how != "most likely")
        rows.append(row := result.as_dict() | {"agent": agent.name, "how": how, "parameters": settings})
        median = "-" if row["median_steps"] is None else f"{row['median_steps']:.0f}"
        print(f"{scenario.name}, {how}: {row['successes']}/{row['episodes']}"
              f" [{row['low']:.1%}, {row['high']:.1%}], {row['within_300']} within 300 steps, median {median} steps",
              flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
