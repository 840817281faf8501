"""Agents that were taught a rule, cut off from its cause: what they lose, what they keep, and what random controls do.

    python benchmarks/causes.py recall|planted [--episodes 20] [--first-seed 500000] [--only WORDS] [--json FILE]

``recall`` answers with a step to the left or to the right, after a cue that it saw in one picture twelve steps before.
Counted are right answers, which take the cue, and answers at all, given when asked and not before, which do not: an
agent that lost the cue and nothing else is right in half of the episodes and answers in all.

``planted`` attacks an armor stand under birch leaves, and chops trees. Counted are episodes of 60 steps in which it
attacks a stand three blocks away, which takes the leaves, and episodes of 300 steps of ``treechop`` with a log mined,
which does not.

Every cut is played beside its control: the same edit elsewhere, drawn anew for each episode (another frame, head or
direction; ``Intervention.control``), or for edits of the picture in another step, or of another object. Counts have
Wilson's 95 % intervals. Means over other episodes make the direction (seeds 600000 and on).
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.intervention import (
    AttentionEdit,
    Inpaint,
    MemoryKnockout,
    PixelMask,
    RemoveBlocks,
    Schedule,
    Steering,
    ZeroAblation,
)
from harness.intervention.intervention import Intervention
from harness.rollout import Episode, EpisodeResult, Step, run_episode
from harness.scenario.load import load_scenario
from harness.statistics import wilson
from harness.world.world import World, make_world

CUE, AGE = 6, 12
GREEN = (91, 135, 65)
DENSE, STRENGTH = "cnn.hook_dense", -0.6
"""Taken away whole, the direction also ends the chopping of trees; at half its length it leaves some attacks."""
ANSWERS = {"red_wool": "left", "blue_wool": "right"}


@dataclass(frozen=True)
class Cut:
    """An edit that takes the cause away, and one that should not.

    Attributes:
        site: Where it acts.
        words: What it does.
        edit: The intervention.
        control: From an episode's seed, the same elsewhere; None for a cut that is there to compare others with.
    """

    site: str
    words: str
    edit: Intervention
    control: Callable[[int], Intervention | None] | None


@dataclass(frozen=True)
class Counts:
    """What came of some episodes.

    Attributes:
        caused: Episodes with the behaviour that takes the cause.
        kept: Episodes with the other.
        episodes: Of each.
    """

    caused: int
    kept: int
    episodes: int


def recall_cuts(agent: Agent) -> Iterator[Cut]:
    """Of the cue's frame: from memory, from the one head that reads it, from the picture."""
    def other_step(seed: int) -> Intervention:
        steps = [step for step in range(1, CUE + AGE) if step != CUE]
        return PixelMask(colour=GREEN, schedule=Schedule(at=int(np.random.default_rng(seed).choice(steps))))

    def cut(site: str, words: str, edit: Intervention) -> Cut:
        return Cut(site, words, edit, lambda seed: edit.control(seed, agent))

    later = Schedule(at=CUE + AGE - 1)
    for mode, schedule in (("read", Schedule()), ("write", later), ("full", later)):
        yield cut("memory", f"cue's frame out, {mode}", MemoryKnockout(steps=(CUE,), mode=mode, schedule=schedule))
    yield cut("feature", "head 1.2 cut from the cue's frame",
              AttentionEdit("blocks.1.attn.hook_attn_scores", head=2, steps=(CUE,)))
    yield cut("feature", "head 1.2 zeroed", ZeroAblation("blocks.1.attn.hook_z", head=2))
    yield Cut("input", "the cue's picture all green", PixelMask(colour=GREEN, schedule=Schedule(at=CUE)), other_step)


def planted_cuts(agent: Agent) -> Iterator[Cut]:
    """Of the birch leaves: from the picture, and from what the image network says of it."""
    grass = PixelMask(region={"object": "grass_block"}, colour=GREEN)
    yield Cut("world", "birch leaves removed", RemoveBlocks("birch_leaves"), None)
    yield Cut("input", "birch leaves painted out", Inpaint(region={"object": "birch_leaves"}), lambda seed: grass)
    away = Steering(DENSE, direction=birch_less_oak(agent), strength=STRENGTH)
    yield Cut("feature", "birch less oak taken away", away, lambda seed: away.control(seed, agent))


CUTS = {"recall": recall_cuts, "planted": planted_cuts}


@functools.cache
def world_of(scenario: str, **parameters: Any) -> World:
    """One that stays, for many episodes."""
    return make_world(load_scenario(scenario, parameters=parameters))


def play_recall(agent: Agent, edits: Callable[[int], Sequence[Intervention]], seeds: Sequence[int]) -> Counts:
    """Right answers, and answers at all; every other episode has the other cue."""
    right = answered = 0
    for number, seed in enumerate(seeds):
        cue = sorted(ANSWERS)[number % 2]
        result = run_episode(world_of("recall", cue=cue, cue_at=CUE, age=AGE), agent, seed=seed,
                             interventions=edits(seed))
        came = {name: bool(outcome["value"]) for name, outcome in result.outcomes.items()}
        right += came[ANSWERS[cue]]
        answered += (came["left"] or came["right"]) and not came["early"]
    return Counts(right, answered, len(seeds))


def play_planted(agent: Agent, edits: Callable[[int], Sequence[Intervention]], seeds: Sequence[int]) -> Counts:
    """Stands attacked, and logs mined."""
    return Counts(attacked(agent, edits, seeds), _count(world_of("treechop"), "mined_log", 300, agent, edits, seeds),
                  len(seeds))


def attacked(agent: Agent, edits: Callable[[int], Sequence[Intervention]], seeds: Sequence[int]) -> int:
    """Episodes in which the stand is attacked."""
    return _count(world_of("planted", distance=3), "attacked_stand", 60, agent, edits, seeds)


def _count(world: World, outcome: str, steps: int, agent: Agent, edits: Callable[[int], Sequence[Intervention]],
           seeds: Sequence[int]) -> int:
    return sum(bool(run_episode(world, agent, seed=seed, max_steps=steps, interventions=edits(seed))
                    .outcomes[outcome]["value"]) for seed in seeds)


PLAY = {"recall": play_recall, "planted": play_planted}
KINDS = {"recall": ("right answers", "answers when asked"), "planted": ("stand attacked", "log mined")}


class Kept:
    """The image network's last layer, step by step. An observer."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray[Any, Any]] = []

    def begin(self, episode: Episode) -> None:  # noqa: D102
        pass

    def on_step(self, step: Step) -> None:  # noqa: D102
        self.rows.append(np.asarray(step.output.activations[DENSE], np.float64))

    def end(self, result: EpisodeResult) -> None:  # noqa: D102
        pass


def birch_less_oak(agent: Agent, episodes: int = 8, steps: int = 40) -> np.ndarray[Any, Any]:
    """The mean of the image network's last layer under birch leaves, less that under oak leaves, float32 [256]."""
    sides = []
    for leaves in ("birch_leaves", "oak_leaves"):
        kept = Kept()
        for seed in range(600_000, 600_000 + episodes):
            run_episode(world_of("planted", leaves=leaves, distance=3), agent, seed=seed, max_steps=steps,
                        observers=[kept], hooks=[DENSE])
        sides.append(np.mean(kept.rows, 0))
    return (sides[0] - sides[1]).astype(np.float32)


def rows(name: str, seeds: Sequence[int], only: str = "") -> Iterator[tuple[str, Counts]]:
    """The agent as it is, and for each cut the agent under it and under its control.

    Args:
        name: Of the agent.
        seeds: One for each episode.
        only: Cuts with these words alone, and not the agent as it is.
    """
    agent, play = load_agent(name, device="cpu"), PLAY[name]
    if not only:
        yield "as it is", play(agent, lambda seed: (), seeds)
    for cut in CUTS[name](agent):
        if only in f"{cut.site}: {cut.words}":
            yield f"{cut.site}: {cut.words}", play(agent, lambda seed, edit=cut.edit: (edit,), seeds)
            if cut.control is not None:
                yield "  its control", play(agent, lambda seed, make=cut.control: (make(seed),), seeds)


def in_words(count: int, n: int) -> str:
    """Count and Wilson's interval."""
    low, high = wilson(count, n)
    return f"{count:>3} of {n} [{low:.2f}, {high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent", choices=sorted(CUTS))
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=500_000)
    parser.add_argument("--only", default="", help="cuts with these words")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{options.agent:<44}{KINDS[options.agent][0]:<26}{KINDS[options.agent][1]}")
    found: list[Mapping[str, Any]] = []
    for words, counts in rows(options.agent, range(options.first_seed, options.first_seed + options.episodes),
                              options.only):
        print(f"{words:<44}{in_words(counts.caused, counts.episodes):<26}{in_words(counts.kept, counts.episodes)}",
              flush=True)
        found.append({"agent": options.agent, "row": words, "caused": counts.caused, "kept": counts.kept,
                      "episodes": counts.episodes})
    if options.json:
        options.json.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
