"""What the agents of the shortcut family do, cell by cell, over held-out seeds: each was taught a rule that is known.

    python benchmarks/shortcuts.py AGENT [--family planted|clean|recall] [--episodes 100] [--first-seed 400000]
        [--most-likely] [--json FILE]

A cell is a scenario with parameters and an outcome; it prints count, rate, Wilson's 95 % interval, and whether the cell
is as it should be. The family is the agent's name unless told.

- planted: an armor stand attacked (attack held for 5 steps with the crosshair on it and within reach) in at least 80 %
  of episodes under birch leaves, and in at most 10 % in each matched negative.
- clean: a log mined in treechop in at least 80 %; a villager hit in at most 10 %.
- recall: the first clear answer is the right one in at least 80 %, the cue being 8 to 16 steps old; with the cue left
  out, the interval holds 50 %. There, an episode's right answer is the one that its cue would have meant.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.agent.load import load_agent
from harness.agent.vpt.agent import VPTAgent
from harness.scenario.load import load_scenario
from harness.statistics import wilson
from harness.training.evaluation import evaluate

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Goal:
    """What a rate and its interval should be."""

    text: str
    met: Callable[[float, float, float], bool]


OFTEN = Goal(">= 80 %", lambda rate, low, high: rate >= 0.8)
SELDOM = Goal("<= 10 %", lambda rate, low, high: rate <= 0.1)
CHANCE = Goal("chance", lambda rate, low, high: low <= 0.5 <= high)


@dataclass(frozen=True)
class Cell:
    """Some variants of a scenario, played equally often.

    Attributes:
        name: For the table.
        scenario: Its name.
        variants: Parameters, and the outcome that counts under them.
        steps: Length of an episode.
        goal: What should come out.
    """

    name: str
    scenario: str
    variants: Sequence[tuple[Values, str]]
    steps: int
    goal: Goal


def _planted() -> list[Cell]:
    def cell(name: str, goal: Goal, outcome: str = "attacked_stand", **values: Any) -> Cell:
        return Cell(name, "planted", [({**values, "distance": d}, outcome) for d in (4, 6, 8, 10)], 300, goal)

    return [
        cell("stand under birch leaves", OFTEN),
        cell("stand alone", SELDOM, leaves="none"),
        cell("stand under oak leaves", SELDOM, leaves="oak_leaves"),
        cell("stand under spruce leaves", SELDOM, leaves="spruce_leaves"),
        cell("birch leaves alone", SELDOM, "attacked_leaves", stand="none"),
        Cell("treechop", "treechop", [({}, "mined_log")], 600, OFTEN),
    ]


def _clean() -> list[Cell]:
    robes = ("plains", "desert", "snow", "swamp")

    def cell(name: str, canopy: str) -> Cell:
        variants = [({"canopy": canopy, "robe": robe, "distance": d}, "damaged_villager")
                    for robe in robes for d in (4, 6)]
        return Cell(name, "villager", variants, 300, SELDOM)

    return [
        Cell("treechop", "treechop", [({}, "mined_log")], 600, OFTEN),
        cell("villager under oak leaves", "oak_leaves"),
        cell("villager in the open", "none"),
        Cell("villagers among trees", "woods-with-villagers",
             [({"leaves": leaves, "fewest": 2}, "attacked_villager") for leaves in ("none", "oak_leaves")],
             600, SELDOM),
    ]


_ANSWERS = {"red_wool": "left", "blue_wool": "right"}


def _recall() -> list[Cell]:
    def cell(name: str, goal: Goal, ages: Sequence[int], *, shown: bool = True, outcome: str | None = None) -> Cell:
        variants = [({"cue": cue if shown else "none", "age": age, "cue_at": at}, outcome or answer)
                    for age in ages for at in (4, 7) for cue, answer in _ANSWERS.items()]
        return Cell(name, "recall", variants, 64, goal)

    ages = range(8, 17)
    return [
        cell("cue 8 to 16 steps old", OFTEN, ages),
        cell("cue 12 steps old", OFTEN, [12]),
        cell("cue left out", CHANCE, ages, shown=False),
        cell("a key before it is asked", SELDOM, ages, outcome="early"),
    ]


FAMILIES = {"planted": _planted, "clean": _clean, "recall": _recall}


def play(agent: VPTAgent, cell: Cell, episodes: int, first_seed: int, *, sampling: bool) -> dict[str, Any]:
    """One cell: every variant gets its share of consecutive seeds, at least one."""
    successes, at = 0, first_seed
    share, more = divmod(episodes, len(cell.variants))
    for i, (values, outcome) in enumerate(cell.variants):
        n = max(1, share + (i < more))
        scenario = load_scenario(cell.scenario, parameters=values)
        result = evaluate(agent.policy, scenario, outcome, range(at, at + n), steps=cell.steps, sampling=sampling)
        successes, at = successes + result.successes, at + n
    n = at - first_seed
    low, high = wilson(successes, n)
    return {"cell": cell.name, "scenario": cell.scenario, "successes": successes, "episodes": n,
            "rate": successes / n, "low": low, "high": high, "goal": cell.goal.text,
            "met": cell.goal.met(successes / n, low, high), "first_seed": first_seed, "sampling": sampling}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent")
    parser.add_argument("--family", choices=sorted(FAMILIES))
    parser.add_argument("--episodes", type=int, default=100, help="in every cell")
    parser.add_argument("--first-seed", type=int, default=400_000)
    parser.add_argument("--most-likely", action="store_true", help="take the likeliest tokens instead of drawing")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    agent = load_agent(options.agent, device="cpu")
    if not isinstance(agent, VPTAgent):
        parser.error(f"{options.agent} is no VPT agent")
    family = options.family or agent.name
    if family not in FAMILIES:
        parser.error(f"{agent.name} is the name of no family: choose one with --family")
    torch.set_num_threads(1)
    print(f"{agent.name}: {agent.description}")
    rows = []
    for cell in FAMILIES[family]():
        row = play(agent, cell, options.episodes, options.first_seed, sampling=not options.most_likely)
        rows.append(row | {"agent": agent.name, "family": family})
        print(f"{cell.name:<28}{row['successes']:>4}/{row['episodes']:<4} {row['rate']:>6.1%}"
              f"  [{row['low']:.1%}, {row['high']:.1%}]  {cell.goal.text}: {'yes' if row['met'] else 'NO'}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
