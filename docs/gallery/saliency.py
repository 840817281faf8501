"""The picture of docs/gallery/saliency.md: one step, seven maps of what it depends on.

    python docs/gallery/saliency.py docs/images/gallery-saliency.png

It is the same on every machine up to rounding.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from harness.agent.load import load_agent
from harness.analysis import Saliency, saliency_maps
from harness.analysis.saliency.scene import scenes
from harness.overlay.layers import AMBER, GREY, INK, PAPER, Picture, Shade, scale_bar, text
from harness.recording.recorder import Recorder
from harness.recording.recording import open_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

STEP, WIDTH, HEIGHT, MARGIN, LINE = 28, 240, 135, 10, 22
COLUMNS = 4
FULL = 0.995
"""Quantile of a map that gets the brightest colour: a few pixels of a gradient outshine all others."""


def blended(picture: Picture, heat: np.ndarray, shade: Shade) -> Picture:
    """The map over a grey, darkened picture."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2) * 0.45
    weight = np.sqrt(np.clip(heat, 0, 1))[..., None]
    return np.asarray(grey * (1 - weight) + shade(heat) * weight, np.uint8)


def draw(result: Saliency, picture: Picture, stand: np.ndarray) -> Picture:
    """The picture itself, then a panel for each method, each with the stand's outline."""
    rows = -(-(1 + len(result.methods)) // COLUMNS)
    whole = np.full((rows * (HEIGHT + LINE + MARGIN) + 3 * MARGIN + 12, COLUMNS * (WIDTH + MARGIN) + MARGIN, 3), PAPER,
                    np.uint8)
    contours = cv2.findContours((cv2.resize(stand, (WIDTH, HEIGHT)) > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL,
                                cv2.CHAIN_APPROX_NONE)[0]
    shade = Shade(1.0)
    for number, method in enumerate([None, *result.methods]):
        x = MARGIN + number % COLUMNS * (WIDTH + MARGIN)
        y = MARGIN + number // COLUMNS * (HEIGHT + LINE + MARGIN)
        panel = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        words, said = f"{result.provenance['recording']}, step {STEP}", ""
        if method is not None:
            heat = result.heat(STEP, method)
            assert heat is not None
            heat = heat / np.quantile(heat, FULL)
            panel = blended(panel, cv2.resize(heat, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), shade)
            words, said = method, f"{result.score(method, 'stand').ratio:.1f} on the stand"
        cv2.drawContours(panel, contours, -1, AMBER, 1)
        whole[y:y + HEIGHT, x:x + WIDTH] = panel
        text(whole, words, x, y + HEIGHT + 16, INK, 13)
        text(whole, said, x + WIDTH, y + HEIGHT + 16, GREY, 13, align="right")
    scale_bar(whole, shade, MARGIN + 14, whole.shape[0] - 20, 160)
    text(whole, "of the map's 99.5 % quantile; number: mass / area, by chance 1; outlined: the stand", MARGIN + 220,
         whole.shape[0] - 11, GREY, 12)
    return whole


def main() -> None:
    """Play, map, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    agent = load_agent("planted", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        with make_world(load_scenario("planted")) as world, Recorder(folder) as recorder:
            run_episode(world, agent, seed=3, max_steps=STEP + 1, observers=[recorder])
        with open_recording(recorder.path) as recording:
            result = saliency_maps([recording], agent=agent, steps=(STEP,), random_networks=0)
            scene, = scenes(recording, agent, [STEP], ["stand"], (128, 128))
            picture = draw(result, scene.picture, scene.covers["stand"])
    # Colours in steps of eight: nobody sees it, and the file is half as large.
    cv2.imwrite(str(out), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) & 0xF8, [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
