"""Shapes on backgrounds and words on pictures, and a CLIP whose weights are set by hand to see them."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from harness.agent.clip import CLIP, CLIP_SIZES

SHAPES, GROUNDS = ("bar", "square"), ("grass", "water")
GREEN, BLUE = (0, 190, 60), (0, 60, 190)
RED, HUE = 0, 1
"""Units of the class token in which the hand-made tower keeps how much red there is, and green less blue."""


def draw(shape: str, ground: str, rng: np.random.Generator, word: str = "") -> np.ndarray:
    """uint8 [32, 32, 3]: a red square (9 of the 16 patches) or bar (2 of them) on grass or water."""
    picture = np.empty((32, 32, 3), np.int64)
    picture[:] = GREEN if ground == "grass" else BLUE
    height, width = (24, 24) if shape == "square" else (8, 16)
    top, left = 8 * rng.integers(0, (40 - height) // 8), 8 * rng.integers(0, (40 - width) // 8)
    picture[top:top + height, left:left + width] = (230, 0, 0)
    picture = np.clip(picture + rng.integers(-8, 9, picture.shape), 0, 255).astype(np.uint8)
    for n, at in enumerate((9, 19, 29) if word else ()):
        cv2.putText(picture, word, (n - 2, at), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (230, 0, 0), 2)
    return picture


def write(folder: Path, rows: Iterable[tuple[str, str, str, np.ndarray]], **heading: str) -> Path:
    """Pictures as PNG files, with the table: (class, attribute, split, picture) each. Returns the table's path."""
    names = {ours: heading.get(ours, ours) for ours in ("file", "label", "group", "split")}
    (folder / "shown").mkdir(parents=True)
    table = folder / "labels.csv"
    with table.open("w", newline="") as opened:
        out = csv.writer(opened)
        out.writerow(names.values())
        for number, (label, group, split, picture) in enumerate(rows):
            cv2.imwrite(str(folder / "shown" / f"{number:04}.png"), picture[..., ::-1])
            out.writerow([f"shown/{number:04}.png", label, group, split])
    return table


def shapes(folder: Path, each: int, seed: int = 0, **heading: str) -> Path:
    """As many of each shape on each ground, the first half to train on."""
    rng = np.random.default_rng(seed)
    return write(folder, ((shape, ground, "train" if n < each // 2 else "test", draw(shape, ground, rng))
                          for shape in SHAPES for ground in GROUNDS for n in range(each)), **heading)


def hand_made(hue: float = 4.0) -> CLIP:
    """A CLIP that says square where there is much red, and, ``hue`` times as loudly, where there is green.

    Its first block's attention is even and hands each patch's mean colour to the class token, in unit RED and unit HUE
    (and their negatives, so that the norms subtract nothing); the rest of the network passes it on. The image embedding
    is (red + hue * (green - blue)) times the difference of the two prompts' embeddings, so that its sign is the answer.
    """
    config = replace(CLIP_SIZES["nano"], pixel_mean=(0.15, 0.35, 0.35), pixel_std=(0.5, 0.5, 0.5))
    random = CLIP.random(config, seed=4)
    weights = {name: value.clone() for name, value in random.state_dict().items()}
    tower = {name: value for name, value in weights.items() if name.startswith("vision_model.")}
    for name, value in tower.items():
        if not (".ln_" in name and name.endswith("weight")):
            value.zero_()
    kernel = tower["vision_model.conv1.weight"]
    kernel[RED, 0], kernel[HUE, 1], kernel[HUE, 2] = 1 / 64, 1 / 64, -1 / 64
    kernel[2:4] = -kernel[[RED, HUE]]
    d = config.image.width
    tower["vision_model.blocks.0.attn.in_proj_weight"][2 * d:] = torch.eye(d)
    tower["vision_model.blocks.0.attn.out_proj.weight"].copy_(torch.eye(d))
    bar, square = random.class_embeddings([["a photo of a bar"], ["a photo of a square"]])
    weigh = torch.zeros(d)
    weigh[RED], weigh[HUE] = 1.0, hue
    tower["vision_model.projection"].copy_(torch.outer(weigh, square - bar))
    return CLIP.from_weights(weights, config).requires_grad_(False)
