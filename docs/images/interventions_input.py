"""Draw docs/images/interventions-input.png: one moment of the villager scenario under each edit of the picture.

Run: ``python docs/images/interventions_input.py``.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

import harness
from harness.agent.scripted import NoopAgent
from harness.intervention import (
    HueShift,
    Inpaint,
    InterventionStack,
    Paste,
    PixelBlur,
    PixelMask,
    PixelNoise,
    Recolour,
)

WIDTH, HEIGHT, LINE = 320, 180, 22


def tile(picture: np.ndarray, caption: str) -> np.ndarray:
    """A picture at half its size under its caption."""
    small = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    strip = np.full((LINE, WIDTH, 3), 255, np.uint8)
    cv2.putText(strip, caption, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
    return cv2.copyMakeBorder(np.vstack([strip, small]), 0, 4, 0, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def main() -> None:
    """Draw it."""
    with harness.make_world(harness.load_scenario("villager")) as world:
        world.reset(seed=24)
        for _ in range(14):
            observation, _, _, _, info = world.step({"forward": 1})
        pov = observation["pov"]
        robe = {"object": "villager", "part": "robe"}
        edits = {
            "PixelMask: the villager": PixelMask(region={"object": "villager"}),
            "PixelBlur: all but the villager": PixelBlur(6, region={"object": "villager", "invert": True}),
            "PixelNoise: grass": PixelNoise(60, region={"object": "grass_block"}),
            "Recolour: the robe": Recolour("#db9049", instead_of="#674c46", region=robe),
            "HueShift: leaves": HueShift(120, region={"object": "leaves"}),
            "Inpaint: leaves": Inpaint(region={"object": "leaves"}),
            "Inpaint: the villager": Inpaint(region={"object": "villager"}),
            "Paste: a piece of this picture": Paste(pov[120:320, 230:370], x=470, y=110),
        }
        tiles = [tile(pov, "what the world shows")]
        for caption, edit in edits.items():
            stack = InterventionStack([edit], agent=NoopAgent(), seed=24, world=world)
            tiles.append(tile(stack.change_input({"pov": pov}, 14, info)["pov"], caption))
    rows = [np.hstack(tiles[start:start + 3]) for start in range(0, len(tiles), 3)]
    path = Path(__file__).with_name("interventions-input.png")
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
