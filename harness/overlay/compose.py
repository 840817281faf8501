"""One picture of an overlay video: where everything stands."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from harness.analysis.attention import AttentionMaps
from harness.overlay import layers as draw
from harness.overlay.layers import AMBER, FAINT, FLAME, GREY, INK, PANEL, PAPER, Picture, Shade
from harness.overlay.panels import (
    CHOICES_HEIGHT,
    TIMELINE_HEIGHT,
    Choices,
    Outline,
    Timeline,
    draw_choices,
    draw_heat,
    draw_outlines,
)

__all__ = ["HEIGHT", "THUMB", "WIDTH", "Layout", "Scene", "compose_frame"]

WIDTH, HEIGHT = 1280, 720
THUMB = (180, 101)
"""Columns and rows of a past frame."""
_MARGIN = 24
_VIEW = (_MARGIN, 60, 640, 360)
_LABELS = 44
_KEYS_Y = 432
_BELOW_KEYS = 476


class Layout:
    """Where the layers of a picture stand.

    Args:
        layers: Of ``attention``, ``keyframes``, ``actions``, ``timeline``; others lie over the picture.
        narrow: One column of 688 pixels, to stand beside others, instead of 1280.
    """

    def __init__(self, layers: Collection[str], *, narrow: bool = False) -> None:
        attention, thumbs, actions = "attention" in layers, bool({"attention", "keyframes"} & set(layers)), \
            "actions" in layers
        self.narrow = narrow
        self.width = 640 + 2 * _MARGIN if narrow else WIDTH
        side = _MARGIN if narrow else _MARGIN + 640 + 24
        self.side_width = self.width - _MARGIN - side
        y = _BELOW_KEYS if narrow else 60
        self.thumbs = (side, y) if thumbs else None
        y += 152 * thumbs
        self.history: tuple[int, int, int] | None = None
        if attention and not narrow:
            height = 56 if actions else 158
            self.history = (side, y + (34 if actions else 50), height)
            y += height + 64
        self.choices = (side, y + 12) if actions else None
        y += (CHOICES_HEIGHT + 12) * actions
        y = y if narrow else _BELOW_KEYS
        self.map_top = y + 24 if attention else None
        self.map_height = 176
        y += 244 * attention
        self.timeline = (_MARGIN, y + 8) if "timeline" in layers else None
        y += (TIMELINE_HEIGHT + 24) * ("timeline" in layers)
        self.height = y + y % 2


@dataclass(frozen=True)
class Scene:
    """Everything one picture is made from.

    Attributes:
        title: Left in the top line.
        agent: Right in the top line, "random weights (seed 0)" and all.
        warning: Whether the agent's line is drawn as a warning.
        step: Which of the recorded steps, from 0 on.
        n_steps: Of how many.
        pov: What the agent saw, uint8 [360, 640, 3].
        action: The executed (or, in a traced video, chosen) action as JSON values.
        played: Whether the world executed it.
        attention: The maps, or None where there are none (also after their end).
        thumbnails: (age, weight, picture of ``THUMB`` size) of past frames.
        shade: Weights to colours.
        first_step: The number of the first recorded step; a fork's is not 0.
        thumbnails_are: What the past frames are.
        heat: Laid over the picture, float32 [360, 640].
        outlines: Around objects in the picture.
        choices: What the policy gives its weight to.
        timeline: Of the whole episode.
        note: What happens in this step, in the top line.
    """

    title: str
    agent: str
    warning: bool
    step: int
    n_steps: int
    pov: Picture
    action: Mapping[str, Any] | None
    played: bool
    attention: AttentionMaps | None
    thumbnails: Sequence[tuple[int, float, Picture]]
    shade: Shade
    first_step: int = 0
    thumbnails_are: str = "most attended past frames"
    heat: npt.NDArray[np.float32] | None = None
    outlines: Sequence[Outline] = ()
    choices: Choices | None = None
    timeline: Timeline | None = None
    note: str = ""


_ATTENTION = Layout(["attention"])


def compose_frame(scene: Scene, layout: Layout = _ATTENTION) -> Picture:
    """Draw a scene: uint8 [layout.height, layout.width, 3] RGB."""
    canvas = np.full((layout.height, layout.width, 3), PAPER, dtype=np.uint8)
    _top(canvas, scene, layout)
    x, y, width, height = _VIEW
    draw.paste(canvas, scene.pov, x, y)
    if scene.heat is not None:
        draw_heat(canvas, scene.heat, x, y)
    draw_outlines(canvas, scene.outlines, x, y)
    draw.outline(canvas, x, y, width, height, FAINT)
    draw.keys(canvas, scene.action, x, _KEYS_Y, width)
    if layout.thumbs:
        _thumbnails(canvas, scene, *layout.thumbs, layout.side_width)
    if layout.choices:
        draw_choices(canvas, scene.choices, *layout.choices, layout.side_width)
    if layout.timeline and scene.timeline is not None:
        scene.timeline.draw(canvas, scene.step, *layout.timeline)
    if layout.map_top is None:
        return canvas
    if scene.attention is None or scene.step >= len(scene.attention):
        draw.text(canvas, "no attention was recorded for this step", _MARGIN, layout.map_top + 20, GREY, 14)
        return canvas
    if layout.history:
        _history(canvas, scene.attention, scene, *layout.history, layout.side_width)
    _map(canvas, scene.attention, scene, layout)
    return canvas


def _shortened(words: str, width: int, size: int = 15) -> str:
    """What fits into so many pixels: both ends, since the name stands at one and "random weights" at the other."""
    short, n = words, len(words)
    while draw.text_width(short, size, 600) > width and n > 12:
        n -= 2
        short = f"{words[:n - n // 3].rstrip()} ... {words[-(n // 3):].lstrip()}"
    return short


def _top(canvas: Picture, scene: Scene, layout: Layout) -> None:
    line, size = (24, 16) if layout.narrow else (40, 20)
    draw.text(canvas, scene.title, _MARGIN, line, INK, size, 600)
    left = _MARGIN + draw.text_width(scene.title, size, 600) + 18
    step = f"step {scene.first_step + scene.step} of {scene.first_step + scene.n_steps}"
    step += "" if scene.played else "; keys: not played"
    draw.text(canvas, step, left, line, GREY, 15)
    left += draw.text_width(step, 15) + 18
    if scene.note:
        draw.text(canvas, scene.note, left, line, AMBER, 15, 600)
        left += draw.text_width(scene.note, 15, 600)
    right = layout.width - _MARGIN
    room = right - _MARGIN if layout.narrow else right - left - 22
    size = 13 if layout.narrow else 15
    agent = _shortened(scene.agent, room - 20, size)
    width = draw.text_width(agent, size, 600)
    top = 33 if layout.narrow else 20
    if scene.warning:
        draw.box(canvas, right - width - 20, top, width + 20, 24 if layout.narrow else 28, AMBER)
        draw.text(canvas, agent, right - 10, top + (17 if layout.narrow else 19), PAPER, size, 600, "right")
    elif layout.narrow:
        draw.text(canvas, agent, _MARGIN, top + 17, INK, size, 600)
    else:
        draw.text(canvas, agent, right, top + 19, INK, size, 600, "right")


def _thumbnails(canvas: Picture, scene: Scene, left: int, top: int, room: int) -> None:
    draw.text(canvas, scene.thumbnails_are, left, top + 12, INK, 14, 600)
    gap = (room - 3 * THUMB[0]) // 2
    for place in range(3):
        x, y = left + place * (THUMB[0] + gap), top + 24
        draw.box(canvas, x, y, *THUMB, PANEL)
        if place >= len(scene.thumbnails):
            draw.text(canvas, "not yet", x + THUMB[0] // 2, y + 56, GREY, 13, 400, "middle")
            continue
        age, weight, small = scene.thumbnails[place]
        draw.paste(canvas, small, x, y)
        draw.outline(canvas, x, y, *THUMB, FAINT)
        draw.text(canvas, f"{age} frame{'s' * (age != 1)} ago", x, y + THUMB[1] + 19, INK, 13, 600)
        draw.text(canvas, f"{weight:.3f}", x + THUMB[0], y + THUMB[1] + 19, GREY, 13, 400, "right")


def _history(canvas: Picture, maps: AttentionMaps, scene: Scene, x: int, y: int, height: int, room: int) -> None:
    """Mean attention over time: columns are steps, the newest at the right; age grows upwards."""
    width = room - 44
    draw.text(canvas, "mean attention, the last steps", x, y - 14, INK, 14, 600)
    n_ages = maps.weights.shape[3]
    steps = width // 2
    first = scene.step - steps + 1
    strip = np.zeros((n_ages, steps), np.float32)
    shown = maps.means[max(0, first):scene.step + 1]
    strip[:, steps - len(shown):] = shown.T[::-1]
    draw.box(canvas, x, y, width, height, PANEL)
    draw.heat(canvas, strip, scene.shade, x, y, width, height)
    draw.outline(canvas, x, y, width, height, FAINT)
    draw.text(canvas, "now", x + width + 7, y + height, GREY, 12)
    draw.text(canvas, f"{n_ages - 1}", x + width + 7, y + 10, GREY, 12)
    if height > 80:
        draw.text(canvas, f"{(n_ages - 1) // 2}", x + width + 7, y + height // 2 + 5, GREY, 12)
    draw.text(canvas, "one column a step; upwards: frames ago", x, y + height + 18, GREY, 12)
    draw.text(canvas, f"step {scene.first_step + scene.step}", x + width, y + height + 18, GREY, 12, 400, "right")


def _map(canvas: Picture, maps: AttentionMaps, scene: Scene, layout: Layout) -> None:
    """The attention of this step: a row per layer and head, the current frame at the right."""
    weights = maps.at(scene.step)[:, ::-1]
    n_rows, n_ages = weights.shape
    cell = max(1, (layout.width - 2 * _MARGIN - _LABELS) // n_ages)
    row = max(1, layout.map_height // n_rows)
    width, height = cell * n_ages, row * n_rows
    assert layout.map_top is not None
    x, y = layout.width - _MARGIN - width, layout.map_top
    whose = "" if maps.row is None else f", row {maps.row}"
    draw.text(canvas, f"attention now, per layer.head{whose}", _MARGIN, y - 14, INK, 14, 600)
    draw.scale_bar(canvas, scene.shade, x + width - 220, y - 24, 180)
    draw.heat(canvas, weights, scene.shade, x, y, width, height)
    _rows(canvas, maps, x, y, row, width)
    for age in _ticks(n_ages):
        middle = x + (n_ages - 1 - age) * cell + cell // 2
        draw.box(canvas, middle, y + height + 2, 1, 5, GREY)
        words = "now" if age == 0 else str(age)
        draw.text(canvas, words, middle + (cell if age == 0 else 0), y + height + 20, GREY, 12, 400,
                  "right" if age == 0 else "middle")
    draw.text(canvas, "frames ago", x + width // 2 + 64, y + height + 20, GREY, 12, 400, "middle")
    for age, _, _ in scene.thumbnails:
        middle = x + (n_ages - 1 - age) * cell + cell // 2
        # A small mark above the columns of the three thumbnails.
        points = np.array([[middle - 4, y - 7], [middle + 4, y - 7], [middle, y - 1]])
        cv2.fillPoly(canvas, [points], FLAME, cv2.LINE_AA)


def _rows(canvas: Picture, maps: AttentionMaps, x: int, y: int, row: int, width: int) -> None:
    n_heads = maps.weights.shape[2]
    for number, name in enumerate(maps.names):
        top = y + number * row
        if number % n_heads == 0 and number:
            draw.box(canvas, x, top, width, 1, PAPER)
        if row >= 10:
            draw.text(canvas, name, x - 8, top + row // 2 + 4, GREY, 11, 400, "right")
        elif number % n_heads == 0:
            draw.text(canvas, f"{name.partition('.')[0]}.*", x - 8, top + row * n_heads // 2 + 4, GREY, 11, 400,
                      "right")


def _ticks(n_ages: int) -> list[int]:
    step = 32 if n_ages > 64 else 8 if n_ages > 16 else 2
    return list(range(0, n_ages, step))


def top_weight(weights: npt.NDArray[np.float32]) -> float:
    """The weight that gets the brightest colour: almost the largest on a past frame, so that one outlier is nothing."""
    n_ages = weights.shape[-1]
    # While the memory fills, few frames share all the attention; those first steps would dim all the others.
    settled = weights[min(n_ages, len(weights) // 2):]
    past = settled[..., 1:]
    return float(max(np.quantile(past, 0.999), 2.0 / n_ages)) if past.size else 1.0
