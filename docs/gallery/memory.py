"""The figure of memory.md: how much each frame age mattered to the agent recall, whose cue was k steps old.

    python docs/gallery/memory.py docs/images/gallery-memory.png

The picture is the same on every machine up to rounding.
"""

from __future__ import annotations

import sys
import tempfile

import cv2
import numpy as np

from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.analysis import MemoryEffects, memory_effects
from harness.overlay.layers import GREY, INK, PAPER, Picture, Shade, heat, outline, paste, scale_bar, text
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

CUE, AGES, SEEDS = 6, (8, 12, 16), range(600_000, 600_004)
OLDEST, LEFT, CELL, HIGH, MARGIN = 20, 236, 30, 22, 12
MODES = ("read", "write", "full")


def play(agent: Agent, age: int, folder: str) -> list[Recording]:
    """Episodes with a red cue, up to the step that asks for the answer."""
    found = []
    scenario = load_scenario("recall", parameters={"cue": "red_wool", "cue_at": CUE, "age": age})
    for seed in SEEDS:
        with make_world(scenario) as world, Recorder(folder) as recorder:
            run_episode(world, agent, seed=seed, max_steps=CUE + age + 1, observers=[recorder])
        found.append(open_recording(recorder.path))
    return found


def rows(picture: Picture, title: str, result: MemoryEffects, age: int, shade: Shade, y: int) -> None:
    """Three rows, one for each sense in which a frame is taken out; the cue's column is framed."""
    means = np.stack([result.mean(mode) for mode in MODES])
    heat(picture, np.nan_to_num(means).astype(np.float32), shade, LEFT, y, OLDEST * CELL, 3 * HIGH)
    text(picture, title, MARGIN, y + 14, INK, 14, 600)
    text(picture, f"largest {np.nanmax(means):.2g} nats", MARGIN, y + 34, GREY, 12)
    for number, mode in enumerate(MODES):
        text(picture, mode, LEFT - 8, y + number * HIGH + 16, GREY, 12, align="right")
    outline(picture, LEFT + (age - 1) * CELL, y, CELL, 3 * HIGH, INK)


def main(out: str) -> None:
    """Play, measure, draw."""
    panels, thumbnails = [], []
    with tempfile.TemporaryDirectory() as folder:
        recall, untrained = (load_agent(name, device="cpu") for name in ("recall", "untrained"))
        for age in AGES:
            recordings = play(recall, age, f"{folder}/{age}")
            asked = {"key": "left", "steps": (CUE + age,), "ages": tuple(range(1, OLDEST + 1))}
            panels.append((f"recall, cue {age} old", memory_effects(recordings, agent=recall, **asked), age))
            if age == AGES[1]:
                panels.append((f"untrained, cue {age} old", memory_effects(recordings, agent=untrained, **asked), age))
                thumbnails = [(f"step {step}", recordings[0].pov[step]) for step in (CUE - 1, CUE, CUE + 1, CUE + age)]
    panels.sort(key=lambda panel: "untrained" in panel[0])
    top, width = 176, LEFT + OLDEST * CELL + MARGIN
    picture = np.full((top + len(panels) * (3 * HIGH + 14) + 44, width, 3), PAPER, np.uint8)
    text(picture, "divergence of the answer without a frame, by the frame's age", MARGIN, 24, INK, weight=700)
    for number, (words, pov) in enumerate(thumbnails):
        x = LEFT + number * 152
        paste(picture, cv2.resize(pov, (144, 81), interpolation=cv2.INTER_AREA), x, 38)
        text(picture, words, x, 136, GREY, 12)
    shade = Shade(max(float(np.nanmax(result.kl.mean(1))) for _, result, _ in panels))
    for number, (title, result, age) in enumerate(panels):
        rows(picture, title, result, age, shade, top + number * (3 * HIGH + 14))
    for age in range(1, OLDEST + 1):
        text(picture, str(age), LEFT + (age - 1) * CELL + CELL // 2, top - 8, GREY, 12, align="middle")
    text(picture, "age", LEFT - 8, top - 8, GREY, 12, align="right")
    scale_bar(picture, shade, LEFT + 16, len(picture) - 26, 160)
    text(picture, "nats", LEFT + 230, len(picture) - 17, GREY, 12)
    text(picture, f"means over {len(SEEDS)} episodes", width - MARGIN, len(picture) - 17, GREY, 12, align="right")
    cv2.imwrite(out, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main(sys.argv[1])
