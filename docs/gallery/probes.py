"""The figure of probes.md: what can be read linearly, where in the network, and in one without training.

    python docs/gallery/probes.py docs/images/gallery-probes.png

The picture is the same on every machine up to rounding.
"""

from __future__ import annotations

import sys
import tempfile

import cv2
import numpy as np

from harness.agent.load import load_agent
from harness.analysis import Probes, probes
from harness.cli.analyse import print_tables
from harness.overlay.layers import AMBER, FAINT, GREY, INK, PANEL, PAPER, Picture, box, text
from harness.recording.recorder import Recorder
from harness.recording.recording import open_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

EPISODES, STEPS = 10, 60
TARGETS = ("distance:logs", "share:logs", "crosshair:logs", "distance:villager", "in_view:villager")
HOOKS = ("hook_embed", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post", "blocks.2.hook_resid_post",
         "blocks.3.hook_resid_post")
SHORT = ("embedding", "block 0", "block 1", "block 2", "block 3")
BLUE = (92, 160, 255)
LEFT, WIDE, ROW, GAP, MARGIN = 100, 330, 17, 34, 14


def panel(picture: Picture, found: Probes, target: str, x: int, y: int) -> None:
    """One variable: a row for each hook; chance in the middle of what the controls reach."""
    chance = found.fitted[target, HOOKS[0]].chance
    low, high = (0.2, 1.0) if chance else (-0.5, 1.0)

    def at(value: float) -> int:
        return x + LEFT + int((np.clip(value, low, high) - low) / (high - low) * WIDE)

    box(picture, x + LEFT, y, WIDE, ROW * len(HOOKS), PANEL)
    text(picture, f"{target}, {'AUROC' if chance else 'R2'}", x + LEFT, y - 6, INK, 13, 600)
    for i, hook in enumerate(HOOKS):
        probe, other, middle = found.fitted[target, hook], found.untrained[target, hook], y + i * ROW + ROW // 2
        ends = at(min(probe.controls)), at(max(probe.controls))
        box(picture, ends[0], middle - 5, max(1, ends[1] - ends[0]), 11, FAINT)
        for each, colour, down in ((other, BLUE, 3), (probe, AMBER, -3)):
            low_end, high_end = (at(end) for end in each.interval)
            cv2.line(picture, (low_end, middle + down), (high_end, middle + down), colour, 1)
            cv2.circle(picture, (at(each.value), middle + down), 3, colour, -1, cv2.LINE_AA)
        text(picture, SHORT[i], x + LEFT - 6, middle + 4, GREY, 11, align="right")
    cv2.line(picture, (at(chance), y), (at(chance), y + ROW * len(HOOKS)), GREY, 1)
    for value in (low, chance, high):
        text(picture, f"{value:g}", at(value), y + ROW * len(HOOKS) + 13, GREY, 11, align="middle")


def course(picture: Picture, found: Probes, x: int, y: int, height: int) -> None:
    """Held-out predictions of the distance to a trunk beside the truth, episode after episode."""
    truth, read = found.labels[:, 0], found.fitted["distance:logs", "hook_embed"].predictions
    top = 1.05 * np.nanmax(truth)
    box(picture, x + LEFT, y, WIDE, height, PANEL)
    text(picture, "distance:logs, blocks, from the embedding", x + LEFT, y - 6, INK, 13, 600)
    for episode in np.unique(found.episode):
        rows = np.flatnonzero(found.episode == episode)
        for values, colour in ((truth, INK), (read, AMBER)):
            points = [(x + LEFT + int((row + 0.5) * WIDE / len(truth)),
                       y + height - int(np.clip(values[row] / top, 0, 1) * (height - 2)) - 1) for row in rows]
            cv2.polylines(picture, [np.array(points, np.int32)], False, colour, 1, cv2.LINE_AA)
    text(picture, f"{top:.0f}", x + LEFT - 6, y + 12, GREY, 11, align="right")
    text(picture, "white: true; 10 episodes, each held out", x + LEFT, y + height + 13, GREY, 11)


def main(out: str) -> None:
    """Play, probe, draw."""
    agent = load_agent("vpt-nano", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        recordings = []
        for seed in range(EPISODES):
            with make_world(load_scenario("woods-with-villagers")) as world, Recorder(folder) as recorder:
                run_episode(world, agent, seed=seed, max_steps=STEPS, observers=[recorder], hooks=list(HOOKS))
            recordings.append(open_recording(recorder.path))
        found = probes(recordings, agent=agent, targets=TARGETS, hooks=HOOKS, untrained="untrained")
    high = ROW * len(HOOKS)
    picture: Picture = np.full((58 + 3 * (high + GAP), 2 * (LEFT + WIDE + MARGIN) + MARGIN, 3), PAPER, np.uint8)
    text(picture, f"woods-with-villagers, {EPISODES} episodes, {len(found.step)} pictures", LEFT, 20, INK, 13, 600)
    text(picture, "amber: vpt-nano", 520, 20, AMBER, 12)
    text(picture, "blue: random weights", 632, 20, BLUE, 12)
    text(picture, "grey: other labels", 766, 20, GREY, 12)
    for i, target in enumerate(TARGETS):
        panel(picture, found, target, i % 2 * (LEFT + WIDE + MARGIN), 52 + i // 2 * (high + GAP))
    course(picture, found, LEFT + WIDE + MARGIN, 52 + 2 * (high + GAP), high)
    print_tables(found.tables())
    cv2.imwrite(out, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main(sys.argv[1])
