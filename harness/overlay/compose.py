"""One picture of an overlay video: where everything stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from harness.analysis.attention import AttentionMaps
from harness.overlay import layers as draw
from harness.overlay.layers import AMBER, FAINT, FLAME, GREY, INK, PANEL, PAPER, Picture, Shade

__all__ = ["HEIGHT", "WIDTH", "Scene", "compose_frame"]

WIDTH, HEIGHT = 1280, 720
_MARGIN = 24
_VIEW = (_MARGIN, 60, 640, 360)
_SIDE = _MARGIN + 640 + 24
_SIDE_WIDTH = WIDTH - _MARGIN - _SIDE
_THUMB = (180, 101)
_HISTORY = (_SIDE, 262, _SIDE_WIDTH - 44, 158)
_MAP_TOP, _MAP_HEIGHT = 500, 176
_LABELS = 44
_KEYS_Y = 432
_BLANK = np.full((HEIGHT, WIDTH, 3), PAPER, dtype=np.uint8)


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
        thumbnails: (age, weight, picture) of the most attended past frames.
        shade: Weights to colours.
        first_step: The number of the first recorded step; a fork's is not 0.
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


def compose_frame(scene: Scene) -> Picture:
    """Draw a scene: uint8 [720, 1280, 3] RGB."""
    canvas = _BLANK.copy()
    _top(canvas, scene)
    x, y, width, height = _VIEW
    draw.paste(canvas, scene.pov, x, y)
    draw.outline(canvas, x, y, width, height, FAINT)
    draw.keys(canvas, scene.action, x, _KEYS_Y, width)
    _thumbnails(canvas, scene)
    if scene.attention is None or scene.step >= len(scene.attention):
        draw.text(canvas, "no attention was recorded for this step", _MARGIN, _MAP_TOP + 20, GREY, 14)
        return canvas
    _history(canvas, scene.attention, scene)
    _map(canvas, scene.attention, scene)
    return canvas


def _shortened(words: str, width: int) -> str:
    """What fits into so many pixels: both ends, since the name stands at one and "random weights" at the other."""
    short, n = words, len(words)
    while draw.text_width(short, 15, 600) > width and n > 12:
        n -= 2
        short = f"{words[:n - n // 3].rstrip()} ... {words[-(n // 3):].lstrip()}"
    return short


def _top(canvas: Picture, scene: Scene) -> None:
    draw.text(canvas, scene.title, _MARGIN, 40, INK, 20, 600)
    left = _MARGIN + draw.text_width(scene.title, 20, 600) + 18
    step = f"step {scene.first_step + scene.step} of {scene.first_step + scene.n_steps}"
    step += "" if scene.played else "; keys: not played"
    draw.text(canvas, step, left, 40, GREY, 15)
    right = WIDTH - _MARGIN
    agent = _shortened(scene.agent, right - left - draw.text_width(step, 15) - 40)
    width = draw.text_width(agent, 15, 600)
    if scene.warning:
        draw.box(canvas, right - width - 20, 20, width + 20, 28, AMBER)
        draw.text(canvas, agent, right - 10, 39, PAPER, 15, 600, "right")
    else:
        draw.text(canvas, agent, right, 39, INK, 15, 600, "right")


def _thumbnails(canvas: Picture, scene: Scene) -> None:
    draw.text(canvas, "most attended past frames", _SIDE, 72, INK, 14, 600)
    gap = (_SIDE_WIDTH - 3 * _THUMB[0]) // 2
    for place in range(3):
        x, y = _SIDE + place * (_THUMB[0] + gap), 84
        draw.box(canvas, x, y, *_THUMB, PANEL)
        if place >= len(scene.thumbnails):
            draw.text(canvas, "not yet", x + _THUMB[0] // 2, y + 56, GREY, 13, 400, "middle")
            continue
        age, weight, picture = scene.thumbnails[place]
        small = cv2.resize(picture, _THUMB, interpolation=cv2.INTER_AREA)
        draw.paste(canvas, np.asarray(small, dtype=np.uint8), x, y)
        draw.outline(canvas, x, y, *_THUMB, FAINT)
        draw.text(canvas, f"{age} frame{'s' * (age != 1)} ago", x, y + _THUMB[1] + 19, INK, 13, 600)
        draw.text(canvas, f"{weight:.3f}", x + _THUMB[0], y + _THUMB[1] + 19, GREY, 13, 400, "right")


def _history(canvas: Picture, maps: AttentionMaps, scene: Scene) -> None:
    """Mean attention over time: columns are steps, the newest at the right; age grows upwards."""
    x, y, width, height = _HISTORY
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
    draw.text(canvas, f"{(n_ages - 1) // 2}", x + width + 7, y + height // 2 + 5, GREY, 12)
    draw.text(canvas, "one column a step; upwards: frames ago", x, y + height + 18, GREY, 12)
    draw.text(canvas, f"step {scene.first_step + scene.step}", x + width, y + height + 18, GREY, 12, 400, "right")


def _map(canvas: Picture, maps: AttentionMaps, scene: Scene) -> None:
    """The attention of this step: a row per layer and head, the current frame at the right."""
    weights = maps.at(scene.step)[:, ::-1]
    n_rows, n_ages = weights.shape
    cell = max(1, (WIDTH - 2 * _MARGIN - _LABELS) // n_ages)
    row = max(1, _MAP_HEIGHT // n_rows)
    width, height = cell * n_ages, row * n_rows
    x, y = WIDTH - _MARGIN - width, _MAP_TOP
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
