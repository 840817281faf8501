"""The figure of patching.md: which head's memory of which frame makes the agent recall answer left instead of right.

    python docs/gallery/patching.py docs/images/gallery-patching.png

The picture is the same on every machine up to rounding.
"""

from __future__ import annotations

import sys
import tempfile

import cv2
import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.analysis import Patching, activation_patching
from harness.overlay.layers import FAINT, GREY, INK, PAPER, Picture, Shade, box, heat, outline, paste, scale_bar, text
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

CUE, AGE, SEED = 6, 12, 600_000
QUERY = CUE + AGE
LEFT, CELL, HIGH, MARGIN = 104, 22, 15, 12


def play(agent: Agent, cue: str, folder: str) -> Recording:
    """One episode, up to the step that asks for the answer."""
    scenario = load_scenario("recall", parameters={"cue": cue, "cue_at": CUE, "age": AGE})
    with make_world(scenario) as world, Recorder(folder) as recorder:
        run_episode(world, agent, seed=SEED, max_steps=QUERY + 1, observers=[recorder])
    return open_recording(recorder.path)


def panel(picture: Picture, title: str, shares: npt.NDArray[np.float64], top: float, y: int, x: int) -> None:
    """A grid of heads by steps; each layer's heads are together."""
    layers, heads, steps = shares.shape
    shade = Shade(top)
    text(picture, title, x, y - 26, INK, 14, 600)
    for layer in range(layers):
        at = y + layer * (heads * HIGH + 6)
        heat(picture, np.abs(np.nan_to_num(shares[layer])).astype(np.float32), shade, x, at, steps * CELL, heads * HIGH)
        if x == LEFT:
            text(picture, f"layer {layer}", LEFT - 30, at + heads * HIGH // 2 + 5, GREY, 12, align="right")
            for head in range(heads):
                text(picture, str(head), LEFT - 8, at + head * HIGH + 12, GREY, 11, align="right")
    outline(picture, x + CUE * CELL, y, CELL, layers * (heads * HIGH + 6) - 6, INK)
    for step in range(0, steps, 6):
        text(picture, f"step {step}", x + step * CELL + CELL // 2, y - 8, GREY, 11, align="middle")
    scale_bar(picture, shade, x + 14, y + layers * (heads * HIGH + 6) + 12, 120)


def draw(found: Patching, pictures: list[tuple[str, Picture]]) -> Picture:
    """Thumbnails above, exact patching on the left, attribution on the right."""
    wide, y = len(found.sources) * CELL, 196
    picture = np.full((y + 4 * (4 * HIGH + 6) + 44, LEFT + 2 * wide + 7 * MARGIN, 3), PAPER, np.uint8)
    text(picture, "from the blue cue's answer to the red one's: share recovered by one head's memory of one frame",
         MARGIN, 24, INK, weight=700)
    for number, (words, pov) in enumerate(pictures):
        x = LEFT + number * 168
        paste(picture, cv2.resize(pov, (160, 90), interpolation=cv2.INTER_AREA), x, 36)
        text(picture, words, x, 144, GREY, 12)
    panel(picture, f"exact, all {found.attribution.size} cells", found.exact, 1.0, y, LEFT)
    box(picture, LEFT + wide + 2 * MARGIN, y - 40, 1, len(picture) - y + 20, FAINT)
    most = float(np.abs(found.attribution).max())
    panel(picture, "attribution, one backward pass", found.attribution, most, y, LEFT + wide + 4 * MARGIN)
    return picture


def main(out: str) -> None:
    """Play, measure, draw."""
    agent = load_agent("recall", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        red, blue = (play(agent, f"{cue}_wool", f"{folder}/{cue}") for cue in ("red", "blue"))
        found = activation_patching(red, blue, agent=agent, key="left", steps=(QUERY,), controls=1000)
        pictures = [(f"clean, step {CUE}", red.pov[CUE]), (f"corrupted, step {CUE}", blue.pov[CUE]),
                    (f"both, step {CUE + 1}", blue.pov[CUE + 1]), (f"both, step {QUERY}", blue.pov[QUERY])]
    picture = draw(found, pictures)
    cv2.imwrite(out, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main(sys.argv[1])
