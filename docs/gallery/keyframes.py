"""The figure of keyframes.md: attention beyond the age prior in an episode, frame by frame, and its key-frames.

    python docs/gallery/keyframes.py docs/images/gallery-keyframes.png

The picture is the same on every machine up to rounding.
"""

from __future__ import annotations

import sys
import tempfile

import cv2
import numpy as np

from harness.agent.load import load_agent
from harness.analysis import attention_maps, key_frames
from harness.analysis.attention import traced_attention
from harness.analysis.attention_split import age_prior, in_view
from harness.analysis.event_log import event_frames
from harness.overlay.layers import AMBER, FLAME, GREY, INK, PAPER, Picture, Shade, heat, scale_bar, text
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

SEED, STEPS, HEADS = 24, 120, ("1.0", "1.1")
HOOKS = [f"blocks.*.attn.hook_{kind}" for kind in ("pattern", "rel_bias")]
CELL, LEFT, TOP, WIDE = 4, 56, 62, 208


def play(folder: str) -> Recording:
    """An episode of vpt-nano in villager."""
    with make_world(load_scenario("villager")) as world, Recorder(folder) as recorder:
        run_episode(world, load_agent("vpt-nano", device="cpu"), seed=SEED, max_steps=STEPS, observers=[recorder],
                    hooks=HOOKS)
    return open_recording(recorder.path)


def by_frame(recording: Recording) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Attention beyond the age prior, mean of the chosen heads, [frame, query]."""
    traced, maps = traced_attention(recording, ("pattern", "rel_bias")), attention_maps(recording)
    out = np.zeros((STEPS, STEPS), np.float32)
    for name in HEADS:
        layer, head = map(int, name.split("."))
        prior = age_prior(traced.read("rel_bias", layer), in_view(traced.n_visible(), traced.window))
        beyond = maps.weights[:, layer, head] - prior[:, head]
        for query in range(STEPS):
            out[:query + 1, query] += beyond[query, :query + 1][::-1] / len(HEADS)
    return out


def main(out: str) -> None:
    """Play, measure, draw."""
    with tempfile.TemporaryDirectory() as folder:
        recording = play(folder)
        found = key_frames([recording], heads=HEADS, draws=1)
        beyond, events = by_frame(recording), event_frames(recording)
        shown = sorted(sorted(found.frames, key=lambda each: -each.mass)[:4], key=lambda each: each.step)
        thumbs = [recording.pov[each.step] for each in shown]
    side, shade = STEPS * CELL, Shade(1.0)
    picture: Picture = np.full((TOP + side + 44, LEFT + side + WIDE + 32, 3), PAPER, np.uint8)
    title = f"villager, vpt-nano: attention beyond the age prior, mean of heads {' and '.join(HEADS)}"
    text(picture, title, 12, 24, INK, weight=700)
    text(picture, "down: the frame that is looked at; across: the step that looks", 12, 46, GREY, 12)
    heat(picture, beyond, shade, LEFT, TOP, side, side)
    for kind, frames in events.items():
        for frame in frames:
            y = TOP + frame * CELL + CELL // 2
            cv2.line(picture, (LEFT - 10, y), (LEFT - 2, y), FLAME if kind == "damage_entity" else GREY, 2)
    for number, (each, pov) in enumerate(zip(shown, thumbs, strict=True)):
        y, x = TOP + number * (side // 4), LEFT + side + 24
        at = TOP + each.step * CELL + CELL // 2
        cv2.line(picture, (LEFT + side - 4, at), (x - 4, y + 40), AMBER, 1, cv2.LINE_AA)
        picture[y:y + WIDE * 9 // 16 - 26, x:x + WIDE - 46] = cv2.resize(
            pov, (WIDE - 46, WIDE * 9 // 16 - 26), interpolation=cv2.INTER_AREA)
        text(picture, f"{each.step}: longest streak {each.queries[0]} to {each.queries[1]}", x - 2, y + 105, INK, 11)
    for step in range(0, STEPS, 20):
        text(picture, str(step), LEFT + step * CELL, TOP + side + 16, GREY, 11, align="middle")
        text(picture, str(step), LEFT - 14, TOP + step * CELL + 6, GREY, 11, align="right")
    text(picture, "orange: a hit first shows; grey: the villager first under the crosshair", 12, TOP + side + 36, GREY,
         12)
    scale_bar(picture, shade, LEFT + side + 60, TOP + side + 26, 100)
    cv2.imwrite(out, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main(sys.argv[1])
