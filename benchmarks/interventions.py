"""What interventions cost.

    python benchmarks/interventions.py masks [--pictures 200]

* ``masks``: edits of the villager scenario's picture, 640 x 360: the world plays a tick while the player looks around,
  then each edit in turn is applied to the picture and timed, segmentation included. Prints the median and the 5th and
  95th percentile of every edit, and how many pixels it changed.
"""

from __future__ import annotations

import argparse
import os
import platform
import time

import numpy as np

import harness
from harness.agent.scripted import NoopAgent
from harness.intervention import (
    FramePatch,
    HueShift,
    Inpaint,
    PixelBlur,
    PixelMask,
    PixelNoise,
    Recolour,
    Region,
)
from harness.intervention.intervention import Intervention, Moment

ROBE = Region(object="villager", part="robe")
MASKS: dict[str, Intervention] = {
    "mask, rectangle": PixelMask(0, 0, 320, 180),
    "mask, villager": PixelMask(region={"object": "villager"}),
    "mask, robe": PixelMask(region=ROBE),
    "mask, leaves": PixelMask(region={"object": "leaves"}),
    "mask, leaves, 8 pixels more": PixelMask(region={"object": "leaves", "grow": 8}),
    "mask, all but the villager": PixelMask(region={"object": "villager", "invert": True}),
    "recolour, robe": Recolour("#db9049", instead_of="#674c46", region=ROBE),
    "recolour, grass": Recolour("#db9049", region={"object": "grass_block"}),
    "hue, leaves": HueShift(120, region={"object": "leaves"}),
    "another frame, leaves": FramePatch(step=0, region={"object": "leaves"}),
    "noise, leaves": PixelNoise(30, region={"object": "leaves"}),
    "noise, whole picture": PixelNoise(30),
    "blur 4, leaves": PixelBlur(4, region={"object": "leaves"}),
    "blur 4, whole picture": PixelBlur(4),
    "paint out the villager, telea": Inpaint(region={"object": "villager"}, method="telea"),
    "paint out the villager, render": Inpaint(region={"object": "villager"}),
    "paint out leaves, render": Inpaint(region={"object": "leaves"}),
}


def masks(pictures: int) -> None:
    scenario, rng = harness.load_scenario("villager"), np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in MASKS}
    sizes: dict[str, list[int]] = {name: [] for name in MASKS}
    memos: dict[str, dict[str, object]] = {name: {} for name in MASKS}
    with harness.make_world(scenario) as world:
        observation, info = world.reset(seed=24)
        for step in range(pictures + 5):
            pov = observation["pov"]
            for name, edit in MASKS.items():
                moment = Moment(step, np.random.default_rng(step), memos[name], NoopAgent(), info, world.world_state,
                                world.capabilities, None, world.picture_without)
                begin = time.perf_counter()
                edit.watch_input(pov, moment)
                changed = edit.change_input(pov, moment)
                took = time.perf_counter() - begin
                if step >= 5:  # the first ones compile and fill caches
                    times[name].append(took * 1e3)
                    sizes[name].append(int((changed != pov).any(axis=-1).sum()))
            yaw = 2.0 * np.sin(step / 9) + rng.normal(0, 0.5)
            observation, _, terminated, truncated, info = world.step({"camera": [0.0, float(yaw)]})
            if terminated or truncated:
                observation, info = world.reset(seed=24)
    print(f"{'':32s}   median     5 %    95 %      pixels changed (median)")
    for name, found in times.items():
        low, middle, high = np.percentile(found, [5, 50, 95])
        print(f"{name:32s} {middle:8.2f} {low:7.2f} {high:7.2f} ms {int(np.median(sizes[name])):10d}")


SECTIONS = {"masks": masks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=sorted(SECTIONS))
    parser.add_argument("--pictures", type=int, default=200)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {os.cpu_count()} CPUs, "
          f"load {os.getloadavg()[0]:.1f}")
    SECTIONS[options.section](options.pictures)


if __name__ == "__main__":
    main()
