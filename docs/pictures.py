"""The pictures of docs/interventions.md and docs/forks.md.

    python docs/pictures.py world docs/images/site-world.png
    python docs/pictures.py memory docs/images/site-memory.png
    python docs/pictures.py feature docs/images/site-feature.png
    python docs/pictures.py action docs/images/site-action.png
    python docs/pictures.py fork docs/images/fork.png

Each is one function; the pictures are the same on every machine up to rounding.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from harness.agent.load import load_agent
from harness.agent.scripted import NoopAgent
from harness.intervention import EntitySwap, from_scenario
from harness.intervention.intervention import Intervention
from harness.overlay.layers import (
    AMBER,
    FAINT,
    GREY,
    INK,
    PANEL,
    PAPER,
    Picture,
    Shade,
    heat,
    scale_bar,
    text,
)
from harness.recording.recorder import Recorder
from harness.recording.recording import open_recording
from harness.replay.fork import fork_recording
from harness.rollout import Episode, EpisodeResult, Step, run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

VILLAGER = load_scenario("villager")
MARGIN = 12


class Keeper:
    """Keeps the steps of an episode."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def begin(self, episode: Episode) -> None:
        """Nothing to do."""

    def on_step(self, step: Step) -> None:
        """Keep it."""
        self.steps.append(step)

    def end(self, result: EpisodeResult) -> None:
        """Nothing to do."""


def play(interventions: Sequence[Intervention], *, agent: Any, n_steps: int, seed: int = 24,
         hooks: Sequence[str] = ()) -> list[Step]:
    """An episode of villager."""
    keeper = Keeper()
    with make_world(VILLAGER) as world:
        run_episode(world, agent, seed=seed, max_steps=n_steps, observers=[keeper], interventions=interventions,
                    hooks=hooks)
    return keeper.steps


def side_by_side(panels: Sequence[tuple[str, Picture]], width: int = 320) -> Picture:
    """Pictures in a row, with a line under each."""
    height = width * 9 // 16
    whole = np.full((height + 2 * MARGIN + 24, len(panels) * (width + MARGIN) + MARGIN, 3), PAPER, np.uint8)
    for number, (words, picture) in enumerate(panels):
        x = MARGIN + number * (width + MARGIN)
        whole[MARGIN:MARGIN + height, x:x + width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        text(whole, words, x, MARGIN + height + 22)
    return whole


def world() -> Picture:
    """What the first picture becomes."""
    cow = EntitySwap("target", "cow")
    edits: list[tuple[str, list[Intervention]]] = [
        ("villager", []), ("no-leaves", from_scenario(VILLAGER, "no-leaves")),
        ("robe-desert", from_scenario(VILLAGER, "robe-desert")), ("EntitySwap, creature: cow", [cow])]
    return side_by_side([(words, play(stack, agent=NoopAgent(), n_steps=1)[0].observation["pov"])
                         for words, stack in edits])


def memory() -> Picture:
    """What the heads of one layer look at in one step, youngest frame on the left."""
    layer, ages, step, cell = 1, 48, 60, 15
    hook = f"blocks.{layer}.attn.hook_pattern"
    # The pictures up to the step are the same: it is the memory of this one step that is changed.
    seen = [(words, play(from_scenario(VILLAGER, f"{words}@{step}") if number else [], agent=load_agent("vpt-nano"),
                         n_steps=step + 1, hooks=[hook])[step].output.activations[hook][:, ::-1][:, :ages])
            for number, words in enumerate(("as it is", "memory-4", "memory-keyframes-out"))]
    heads = len(seen[0][1])
    left, high = 190, heads * cell
    whole = np.full((len(seen) * (high + MARGIN) + 66, left + ages * cell + MARGIN, 3), PAPER, np.uint8)
    text(whole, f"villager, step {step}: attention of the {heads} heads of layer {layer}", MARGIN, 24, INK, weight=700)
    shade = Shade(max(float(pattern.max()) for _, pattern in seen))
    for row, (words, pattern) in enumerate(seen):
        y = 38 + row * (high + MARGIN)
        text(whole, words, left - 10, y + high // 2 + 5, align="right")
        heat(whole, pattern, shade, left, y, ages * cell, high)
    for age in range(0, ages, 8):
        text(whole, f"age {age}", left + age * cell, len(whole) - 12, GREY, size=12)
    scale_bar(whole, shade, 40, len(whole) - 21, 100)
    return whole


def strips(title: str, rows: Sequence[tuple[str, Sequence[bool]]], marked: range = range(0)) -> Picture:
    """What was pressed in each step, a row for each course of events."""
    n_steps = max(len(pressed) for _, pressed in rows)
    left, cell, bar = 130, 8, 34
    whole = np.full((len(rows) * (bar + 6) + 64, left + cell * n_steps + MARGIN, 3), PAPER, np.uint8)
    text(whole, title, MARGIN, 24, INK, weight=700)
    for row, (words, held) in enumerate(rows):
        y = 38 + row * (bar + 6)
        text(whole, words, left - 10, y + 22, align="right")
        for number, pressed in enumerate(held):
            x = left + number * cell
            whole[y:y + bar, x:x + cell - 1] = AMBER if pressed else PANEL if number in marked else FAINT
    for number in range(0, n_steps, 20):
        text(whole, f"step {number}", left + number * cell, len(whole) - 10, GREY, size=12)
    return whole


def feature() -> Picture:
    """Attack as the agent chose it, with the same noise, under two edits inside its network."""
    rows = [(words, [s.output.action["attack"] for s in play(stack, agent=load_agent("vpt-nano"), n_steps=120)])
            for words, stack in (("as it is", []), *((name, from_scenario(VILLAGER, name))
                                                     for name in ("ablate-head", "steer-away")))]
    return strips("villager: attack chosen", rows)


def action() -> Picture:
    """Attack as it was chosen and as it was carried out, with attack blocked from step 40 to 79."""
    steps = play(from_scenario(VILLAGER, "no-attack@40-79"), agent=load_agent("vpt-nano"), n_steps=120)
    return strips("villager --intervene no-attack@40-79",
                  [("attack chosen", [s.output.action["attack"] for s in steps]),
                   ("attack executed", [s.executed["attack"] for s in steps])], marked=range(40, 80))


def fork() -> Picture:
    """Some moments of a recording, and under them the same of its fork."""
    with tempfile.TemporaryDirectory() as folder:
        with make_world(VILLAGER) as world, Recorder(folder) as recorder:
            run_episode(world, load_agent("vpt-nano"), seed=0, max_steps=24, observers=[recorder])
        recording = open_recording(recorder.path)
        report = fork_recording(recording, at=17, interventions=from_scenario(VILLAGER, "no-attack"), out=folder)
        assert report.path is not None
        forked = open_recording(report.path)
        rows = [side_by_side([(f"{words}, step {step}", one.pov[step - one.first_step]) for step in (17, 18, 22)])
                for words, one in (("recording", recording), ("fork, no-attack", forked))]
    return np.concatenate(rows)


PICTURES: dict[str, Callable[[], Picture]] = {"world": world, "memory": memory, "feature": feature, "action": action,
                                              "fork": fork}


def main() -> None:
    """Draw one and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", choices=sorted(PICTURES))
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    cv2.imwrite(str(asked.out), cv2.cvtColor(PICTURES[asked.picture](), cv2.COLOR_RGB2BGR),
                [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
