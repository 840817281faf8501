"""The figure of attention.md: mean attention by frame age of every head, beside what the bias alone would give.

    python docs/gallery/attention.py docs/images/gallery-attention.png

The picture is the same on every machine up to rounding.
"""

from __future__ import annotations

import sys
import tempfile

import cv2
import numpy as np

from harness.agent.load import load_agent
from harness.analysis import AttentionProfile, attention_profile
from harness.overlay.layers import GREY, INK, PAPER, Picture, Shade, heat, scale_bar, text
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

HOOKS = [f"blocks.*.attn.hook_{kind}" for kind in ("pattern", "attn_scores", "rel_bias")]
AGES, CELL, ROW, LEFT, GAP, TOP = 48, 8, 11, 60, 30, 62


def play(scenario: str, agent: str, seeds: range, steps: int, folder: str, **parameters: str) -> list[Recording]:
    """Some episodes with the attention of all heads."""
    found = []
    loaded, player = load_scenario(scenario, parameters=parameters), load_agent(agent, device="cpu")
    for seed in seeds:
        with make_world(loaded) as world, Recorder(folder) as recorder:
            run_episode(world, player, seed=seed, max_steps=steps, observers=[recorder], hooks=HOOKS)
        found.append(open_recording(recorder.path))
    return found


def panel(picture: Picture, words: str, found: AttentionProfile, y: int, shade: Shade) -> int:
    """Weights on the left, age prior on the right; where the next panel begins."""
    arrays, n = found.arrays(), len(found.heads)
    text(picture, words, 12, y, INK, 14, 600)
    for column, key in enumerate(("weights", "prior")):
        x = LEFT + column * (AGES * CELL + GAP)
        heat(picture, arrays[key][:, :AGES].astype(np.float32), shade, x, y + 10, AGES * CELL, n * ROW)
        for age in range(0, AGES, 8):
            text(picture, str(age), x + age * CELL + CELL // 2, y + 24 + n * ROW, GREY, 11, align="middle")
    for number, head in enumerate(found.heads):
        text(picture, head.name, LEFT - 8, y + 19 + number * ROW, GREY, 10, align="right")
    return y + n * ROW + 56


def main(out: str) -> None:
    """Play, measure, draw."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = range(1, 5)
        villager = play("villager", "vpt-nano", seeds, 100, f"{folder}/trained")
        untrained = play("villager", "untrained", seeds, 100, f"{folder}/untrained")
        recall = play("recall", "recall", seeds, 40, f"{folder}/recall", cue="red_wool")
        panels = [("vpt-nano in villager, steps 48 to 99", attention_profile(villager, between=(48, 99))),
                  ("recall when it is asked (steps 18 to 20): the cue is 12 to 14 steps old",
                   attention_profile(recall, between=(18, 20))),
                  ("untrained in villager, steps 48 to 99", attention_profile(untrained, between=(48, 99)))]
    height = TOP + sum(len(found.heads) * ROW + 56 for _, found in panels) + 8
    picture = np.full((height, LEFT + 2 * AGES * CELL + GAP + 16, 3), PAPER, np.uint8)
    text(picture, "mean attention by frame age", LEFT, 24, INK, weight=700)
    text(picture, "age prior: the bias alone", LEFT + AGES * CELL + GAP, 24, INK, weight=700)
    shade, y = Shade(0.6), TOP
    for words, found in panels:
        y = panel(picture, words, found, y, shade)
    scale_bar(picture, shade, picture.shape[1] - 160, height - 20, 100)
    text(picture, "4 episodes each; age in steps (1/20 s), 0 is the current frame", 12, height - 11, GREY, 12)
    cv2.imwrite(out, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main(sys.argv[1])
