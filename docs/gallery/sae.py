"""The figure and the numbers of sae.md: what latents mean, how many steer, and whether their suppression repairs.

    python docs/gallery/sae.py docs/images/gallery-sae.png [--work FOLDER]

Runs the commands below, those whose result is not in FOLDER yet: some 40 minutes on one core. The same machine gives
the same numbers.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from harness.cli import cli
from harness.overlay.layers import AMBER, FAINT, GREY, INK, PANEL, PAPER, Picture, box, text
from harness.statistics import wilson

STATE = " ".join(f"--state {each}" for each in (
    "in_view:logs", "reach:logs", "breaking:logs", "in_view:birch_leaves", "in_view:leaves", "in_view:armor_stand",
    "reach:armor_stand"))
HOOKS = "--hook hook_embed --hook blocks.2.hook_resid_post"
LOOK = "--agent vpt-nano --set distance=4 --hooks hook_embed --episodes 3 --steps 60 --seed 700100"
TRAIN = "--expansion 8 --k 16 --epochs 40 --batch 1024 --threads 1 --quiet"
COMMANDS = {
    "nano-store": f"sae collect vpt-nano {HOOKS} --scenario villager --scenario treechop --scenario lone-trunk "
                  "--scenario trunk --episodes 48 --steps 200 --out nano-store --quiet",
    "planted-store": f"sae collect planted {HOOKS} --scenario planted --scenario treechop --episodes 48 --steps 200 "
                     f"{STATE} --out planted-store --quiet",
    "nano-sae": f"sae train nano-store --out nano-sae {TRAIN}",
    "planted-sae": f"sae train planted-store --out planted-sae {TRAIN}",
    "nano-names.json": "sae name nano-sae/hook_embed nano-store --quiet --out nano-names.json",
    "planted-names.json": "sae name planted-sae/hook_embed planted-store --quiet --out planted-names.json",
    "nano-villager": f"run villager {LOOK} --out nano-villager --quiet",
    "nano-trunk": f"run trunk {LOOK} --out nano-trunk --quiet",
    "nano-steer.json": "sae steer nano-sae/hook_embed nano-villager nano-trunk --quiet --out nano-steer.json",
    "nano.json": "sae repair vpt-nano nano-sae/hook_embed --unwanted villager,distance=4,steps=80:villager "
                 "--keep trunk,distance=4,steps=80:*_log --keep treechop,steps=120:*_log:mined_log --train 8 --test 32 "
                 "--quiet --out nano.json",
    "planted.json": "sae repair planted planted-sae/hook_embed "
                    "--unwanted planted,distance=3,steps=60:armor_stand:attacked_stand "
                    "--keep treechop,steps=120:*_log:mined_log --keep lone-trunk,distance=4,steps=80:*_log:mined_log "
                    "--cause leaves=oak_leaves --train 8 --test 32 --quiet --out planted.json",
}
BLUE = (92, 160, 255)
SIDE, LEFT, TOP, GAP = 330, 60, 62, 56
TITLES = {"nano.json": "vpt-nano, a villager under leaves", "planted.json": "planted, a stand under birch"}
SHORT = {"as it is": "as it is", "latents zeroed": "zeroed", "latents capped": "capped", "units": "units",
         "heads": "heads", "steering": "steering", "erasure": "erasure"}


def found(work: Path) -> None:
    """Run what is not there."""
    before = Path.cwd()
    os.chdir(work)
    try:
        for name, command in COMMANDS.items():
            if not Path(name).exists():
                print(f"harness {command}", flush=True)
                cli.main(command.split(), standalone_mode=False)
    finally:
        os.chdir(before)


def panel(picture: Picture, result: Mapping[str, Any], title: str, x: int, y: int) -> None:
    """Each method a point: attack in the unwanted scene against the worst kept share, with Wilson's intervals."""
    keep = result["provenance"]["arguments"]["keep"]
    unwanted = result["provenance"]["arguments"]["unwanted"]
    box(picture, x, y, SIDE, SIDE, PANEL)
    text(picture, title, x, y - 10, INK, 13, 600)
    for value in (0.0, 0.5, 1.0):
        text(picture, f"{value:g}", x + int(value * SIDE), y + SIDE + 15, GREY, 11, align="middle")
        text(picture, f"{value:g}", x - 6, y + SIDE - int(value * SIDE) + 4, GREY, 11, align="right")
    text(picture, "share of episodes with the unwanted attack", x + SIDE // 2, y + SIDE + 32, GREY, 11, align="middle")
    text(picture, "least share kept of the wanted ones", x + 6, y + 14, GREY, 11)
    used: list[tuple[int, int]] = []
    for arm in sorted(result["arms"], key=lambda arm: not arm["null"]):
        done = {name: scene["done"] for name, scene in arm["scenes"].items()}
        worst = min(keep, key=lambda name: np.mean(done[name]))
        across, up = done[unwanted], done[worst]
        spread = [wilson(sum(side), len(side)) for side in (across, up)]
        px, py = x + int(np.mean(across) * SIDE), y + SIDE - int(np.mean(up) * SIDE)
        colour = FAINT if arm["null"] else INK if arm["name"] == "as it is" else BLUE
        if "latents" in arm["name"] and not arm["null"]:
            colour = AMBER
        ends = [x + int(end * SIDE) for end in spread[0]], [y + SIDE - int(end * SIDE) for end in spread[1]]
        cv2.line(picture, (ends[0][0], py), (ends[0][1], py), colour, 1)
        cv2.line(picture, (px, ends[1][0]), (px, ends[1][1]), colour, 1)
        cv2.circle(picture, (px, py), 4, colour, -1, cv2.LINE_AA)
        if not arm["null"]:
            at = [px - 8 if px > x + SIDE // 2 else px + 8, py + 16]
            while any(abs(at[0] - a) < 60 and abs(at[1] - b) < 13 for a, b in used):
                at[1] += 13
            used.append((at[0], at[1]))
            text(picture, SHORT[arm["name"]], at[0], at[1], colour, 11, align="right" if px > x + SIDE // 2 else "left")


def main() -> None:
    """Run, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, default=Path("gallery-sae"))
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    found(asked.work)
    picture: Picture = np.full((TOP + SIDE + 46, LEFT + 2 * SIDE + GAP + 24, 3), PAPER, np.uint8)
    text(picture, "suppression as a repair, on seeds that selected nothing", LEFT, 22, INK, 13, 600)
    for words, colour, at in (("latents", AMBER, 470), ("other methods", BLUE, 530), ("nulls", GREY, 640)):
        text(picture, words, at, 22, colour, 12)
    for number, (name, title) in enumerate(TITLES.items()):
        result = json.loads((asked.work / name).read_text(encoding="utf-8"))
        panel(picture, result, title, LEFT + number * (SIDE + GAP), TOP)
    cv2.imwrite(str(asked.out), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
