"""What stands beside and below the picture: choices, time lines, outlines. Each draws into uint8 [H, W, 3] RGB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from harness.agent.action_mapping import BUTTON_NAMES, CAMERA_BINS, N_BUTTONS, N_CAMERA, button_table, dequantise
from harness.overlay import layers as draw
from harness.overlay.layers import AMBER, FAINT, FLAME, GREY, INK, PANEL, Picture
from harness.recording.recording import Recording

__all__ = ["CHOICES_HEIGHT", "TIMELINE_HEIGHT", "Choices", "Outline", "Timeline", "choices_at", "draw_choices",
           "draw_heat", "draw_outlines", "outlines_of"]

CHOICES_HEIGHT = 118
TIMELINE_HEIGHT = 132
_MOST = 4
_SHORT = {"forward": "W", "back": "S", "left": "A", "right": "D"}
_GREEN, _BLUE = (126, 211, 108), (112, 176, 255)
_COLOURS = {"creature": FLAME, "item": (240, 230, 120), "log": AMBER, "leaves": _GREEN}


# --- what the agent would do -----------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Choices:
    """What the policy gives its weight to in one step.

    Attributes:
        actions: The likeliest combinations of keys in words, with their probability, likeliest first.
        turns: The likeliest camera movements (degrees right, degrees down) with their probability.
        value: The value estimate, None without one.
        entropy: Of the action (nats), None without one.
    """

    actions: tuple[tuple[str, float], ...]
    turns: tuple[tuple[float, float, float], ...]
    value: float | None
    entropy: float | None


def choices_at(recording: Recording, number: int) -> Choices | None:
    """The choices in one row of a recording; None where no probabilities were recorded."""
    stored = recording.activations
    heads = [stored[name] for name in ("log_probs.buttons", "log_probs.camera") if name in stored]
    if [head.shape[1:] for head in heads] != [(N_BUTTONS,), (N_CAMERA,)] or number >= len(heads[0]):
        return None
    buttons, camera = (np.exp(np.asarray(head[number], np.float64)) for head in heads)
    # A combination is there twice, with the camera's switch on and off; what is pressed is the same.
    rows = button_table()
    best = np.argpartition(-buttons, 4 * _MOST)[:4 * _MOST]
    pressed: dict[str, float] = {}
    for index in best[np.argsort(-buttons[best])]:
        words = _in_words(rows[index])
        pressed[words] = pressed.get(words, 0.0) + float(buttons[index])
    actions = sorted(pressed.items(), key=lambda item: -item[1])[:_MOST]
    turns = []
    for index in np.argsort(-camera)[:_MOST]:
        pitch, yaw = dequantise(divmod(int(index), CAMERA_BINS))
        turns.append((float(yaw), float(pitch), float(camera[index])))
    row = recording.steps[number]
    return Choices(tuple(actions), tuple(turns), row.get("value"), row.get("entropy"))


def _in_words(row: npt.NDArray[np.uint8]) -> str:
    keys = [_SHORT.get(BUTTON_NAMES[i], BUTTON_NAMES[i].replace("hotbar.", "slot ")) for i in np.flatnonzero(row)]
    return " + ".join(keys) or "nothing"


def draw_choices(picture: Picture, choices: Choices | None, x: int, y: int, width: int) -> None:
    """Bars for the likeliest keys and turns, the value and the entropy; ``CHOICES_HEIGHT`` pixels high."""
    draw.text(picture, "what it would do", x, y, INK, 14, 600)
    if choices is None:
        draw.text(picture, "no probabilities were recorded", x, y + 24, GREY, 13)
        return
    numbers = "   ".join(f"{name} {value:.2f}" for name, value in (("value", choices.value),
                                                                 ("entropy", choices.entropy)) if value is not None)
    draw.text(picture, numbers, x + width, y, GREY, 13, 400, "right")
    half = (width - 24) // 2
    turned = [(f"{yaw:+.1f} right {pitch:+.1f} down", share) for yaw, pitch, share in choices.turns]
    for left, rows in ((x, choices.actions), (x + half + 24, turned)):
        for place, (words, share) in enumerate(rows):
            top = y + 12 + 24 * place
            draw.box(picture, left, top, half, 20, PANEL)
            draw.box(picture, left, top, max(1, round(half * min(share, 1.0))), 20, FAINT)
            draw.text(picture, words, left + 6, top + 15, INK, 12, 600)
            draw.text(picture, f"{share:.2f}", left + half - 6, top + 15, GREY, 12, 400, "right")


# --- the whole episode -----------------------------------------------------------------------------------------------

class Timeline:
    """The whole recording in one strip: value and entropy as curves, attack, events and interventions as marks.

    It is drawn once; each picture gets a copy and a line for now.

    Args:
        recording: Whose step table and events.
        width: Of the strip in pixels.
    """

    def __init__(self, recording: Recording, width: int) -> None:
        self._n, self._width, self._first = max(len(recording), 1), width, recording.first_step
        self._strip = np.full((TIMELINE_HEIGHT, width, 3), draw.PAPER, np.uint8)
        draw.text(self._strip, "the episode", 0, 12, INK, 14, 600)
        self._legend()
        draw.box(self._strip, 0, 24, width, 70, PANEL)
        for name, colour in (("entropy", _BLUE), ("value", INK)):
            self._curve(np.asarray(recording.steps[name], np.float64) if len(recording) else np.zeros(0), colour)
        self._attack(recording)
        self._marks(recording)

    def _legend(self) -> None:
        right = self._width
        for words, colour in (("intervention", _GREEN), ("event", AMBER), ("attack", FLAME), ("entropy", _BLUE),
                              ("value", INK)):
            draw.text(self._strip, words, right, 12, colour, 12, 400, "right")
            right -= draw.text_width(words, 12) + 16

    def _x(self, number: float) -> int:
        return int(number * (self._width - 1) / max(self._n - 1, 1))

    def _curve(self, values: npt.NDArray[np.float64], colour: tuple[int, int, int]) -> None:
        known = np.flatnonzero(np.isfinite(values))
        if len(known) < 2:
            return
        low, high = float(values[known].min()), float(values[known].max())
        span = max(high - low, 1e-9)
        points = [[self._x(int(i)), 90 - round(60 * (values[i] - low) / span)] for i in known]
        cv2.polylines(self._strip, [np.array(points, np.int32)], False, colour, 1, cv2.LINE_AA)

    def _attack(self, recording: Recording) -> None:
        for number, row in enumerate(recording.steps):
            action = row.get("executed") or row.get("chosen") or {}
            if action.get("attack"):
                left = self._x(number)
                draw.box(self._strip, left, 97, max(1, self._x(number + 1) - left), 6, FLAME)

    def _marks(self, recording: Recording) -> None:
        for event in recording.events:
            number = int(event["step"]) - self._first
            if 0 <= number < self._n:
                edit = event.get("type") == "intervention"
                draw.box(self._strip, max(0, self._x(number) - 1), 114 if edit else 106, 2, 7,
                         _GREEN if edit else AMBER)

    def draw(self, picture: Picture, number: int, x: int, y: int) -> None:
        """Into a picture, with now marked; ``TIMELINE_HEIGHT`` pixels high."""
        draw.paste(picture, self._strip, x, y)
        now = min(x + self._x(number), picture.shape[1] - 1)
        draw.box(picture, now, y + 24, 1, 100, INK)
        words, fits = f"step {self._first + number}", now < x + self._width - 70
        draw.text(picture, words, now + (5 if fits else -5), y + 130, GREY, 12, 400, "left" if fits else "right")


# --- over the picture ------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Outline:
    """An object in the picture: its name, its colour, the lines around it."""

    name: str
    colour: tuple[int, int, int]
    lines: tuple[npt.NDArray[np.int32], ...]


def outlines_of(segmentation: npt.NDArray[np.int16], names: Mapping[int, str], tags: Mapping[int, str | None],
                 least: int = 12) -> list[Outline]:
    """Lines around creatures, items, logs and leaves.

    Args:
        segmentation: int16 [H, W] of a ``WorldState``.
        names: Its numbers' names.
        tags: Tag of a creature's number, where it has one.
        least: Objects of fewer pixels are left out.
    """
    groups: dict[str, tuple[str, list[int]]] = {}
    for number in np.unique(segmentation).tolist():
        name = str(names.get(number, ""))
        if number >= 1000:
            kind = "item" if name == "item" else "creature"
            groups[f"{number}"] = (kind, [number])
        elif name.endswith("_log"):
            groups.setdefault("log", ("log", []))[1].append(number)
        elif name.endswith("_leaves"):
            groups.setdefault("leaves", ("leaves", []))[1].append(number)
    found = []
    for label, (kind, numbers) in groups.items():
        mask = np.isin(segmentation, numbers).astype(np.uint8)
        if int(mask.sum()) < least:
            continue
        lines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        kept = tuple(np.asarray(line, np.int32) for line in lines if cv2.contourArea(line) >= least)
        words = label if kind in ("log", "leaves") else tags.get(numbers[0]) or str(names.get(numbers[0], kind))
        if kept:
            found.append(Outline(words, _COLOURS[kind], kept))
    return found


def draw_outlines(picture: Picture, outlines: Sequence[Outline], x: int, y: int) -> None:
    """Around the objects of a picture that lies at (x, y); creatures are named."""
    for each in outlines:
        cv2.drawContours(picture, list(each.lines), -1, each.colour, 1, cv2.LINE_AA, offset=(x, y))
        if each.colour == FLAME:
            left, top, _, _ = cv2.boundingRect(np.concatenate(each.lines))
            draw.text(picture, each.name, x + left, y + max(top - 4, 12), each.colour, 12, 600)


def draw_heat(picture: Picture, heat: npt.NDArray[np.float32], x: int, y: int, opacity: float = 0.6) -> None:
    """Lay a map float32 [h, w] over the part of a picture that begins at (x, y): strong where the map is large.

    Weights are divided by the map's largest; a map of nothing leaves the picture as it is.
    """
    h, w = heat.shape
    top = float(heat.max()) if heat.size else 0.0
    if top <= 0:
        return
    level = np.clip(heat / top, 0, 1)
    ramp = np.asarray(level * 255, np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    alpha = (opacity * np.sqrt(level))[..., None]
    place: Any = picture[y:y + h, x:x + w]
    place[...] = np.asarray(place * (1 - alpha) + colours * alpha, np.uint8)
