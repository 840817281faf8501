"""The pieces of an overlay picture: text, key caps, heat maps, a scale. All draw into uint8 [H, W, 3] RGB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["AMBER", "FAINT", "FLAME", "GREY", "INK", "PANEL", "PAPER", "Picture", "Shade", "box", "heat", "keys",
           "outline", "paste", "scale_bar", "text", "text_width"]

Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

PAPER: Colour = (18, 19, 22)
PANEL: Colour = (30, 32, 37)
FAINT: Colour = (58, 62, 70)
GREY: Colour = (148, 154, 166)
INK: Colour = (232, 234, 238)
AMBER: Colour = (255, 189, 84)
FLAME: Colour = (255, 122, 69)

_FACE: Any = cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None
_CAPS = (("forward", "W"), ("left", "A"), ("back", "S"), ("right", "D"), ("jump", "jump"), ("sneak", "sneak"),
         ("sprint", "sprint"), ("attack", "attack"), ("use", "use"), ("drop", "drop"), ("inventory", "inv"),
         ("swapHands", "swap"), ("pickItem", "pick"), ("ESC", "esc"))


def text(picture: Picture, words: str, x: int, y: int, colour: Colour = INK, size: int = 14, weight: int = 400,
         align: str = "left") -> None:
    """Write one line.

    Args:
        picture: Drawn into.
        words: The line.
        x: Left edge in pixels (right edge, or middle, as ``align`` says).
        y: The line the letters stand on.
        colour: RGB.
        size: Height of the font in pixels.
        weight: 400 normal, 700 bold.
        align: "left", "right" or "middle".
    """
    if align != "left":
        width = text_width(words, size, weight)
        x -= width if align == "right" else width // 2
    if _FACE is not None:
        cv2.putText(picture, words, (x, y), colour, _FACE, size, weight)
    else:
        plain = words.encode("ascii", "replace").decode()
        cv2.putText(picture, plain, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size / 32, colour, 1 + (weight > 550),
                    cv2.LINE_AA)


def text_width(words: str, size: int = 14, weight: int = 400) -> int:
    """How wide a line is, in pixels."""
    if _FACE is not None:
        box_ = cv2.getTextSize((0, 0), words, (0, 0), _FACE, size, weight)
        return int(box_[0] + box_[2])
    plain = words.encode("ascii", "replace").decode()
    return int(cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, size / 32, 1 + (weight > 550))[0][0])


def box(picture: Picture, x: int, y: int, width: int, height: int, colour: Colour) -> None:
    """Fill a rectangle."""
    picture[y:y + height, x:x + width] = colour


def outline(picture: Picture, x: int, y: int, width: int, height: int, colour: Colour) -> None:
    """Draw a one-pixel frame around a rectangle."""
    cv2.rectangle(picture, (x - 1, y - 1), (x + width, y + height), colour, 1)


def paste(picture: Picture, piece: Picture, x: int, y: int) -> None:
    """Put a picture into a picture."""
    picture[y:y + piece.shape[0], x:x + piece.shape[1]] = piece


class Shade:
    """From attention weights to colours, the same in every picture of a video.

    The square root of the weight decides, so that the small weights of a wide window are seen beside a strong one.

    Args:
        top: The weight that gets the brightest colour; larger ones are drawn like it.
    """

    def __init__(self, top: float) -> None:
        self.top = max(top, 1e-6)
        ramp = np.arange(256, dtype=np.uint8)[:, None]
        colours = cv2.cvtColor(cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)[:, 0]
        # The darkest colour is the panel's, so that "nothing" does not look like a hole.
        fade = np.clip(np.arange(256) / 32, 0, 1)[:, None]
        self._colours = np.asarray(np.array(PANEL) * (1 - fade) + colours * fade, dtype=np.uint8)

    def __call__(self, weights: npt.NDArray[np.float32]) -> Picture:
        """uint8 [..., 3] for weights [...]."""
        level = np.sqrt(np.clip(weights / self.top, 0, 1)) * 255
        return np.asarray(self._colours[level.astype(np.uint8)])


def heat(picture: Picture, weights: npt.NDArray[np.float32], shade: Shade, x: int, y: int, width: int,
         height: int) -> None:
    """Draw a matrix [rows, columns] into a rectangle, each cell of whole pixels where they fit."""
    drawn = cv2.resize(shade(weights), (width, height), interpolation=cv2.INTER_NEAREST)
    paste(picture, np.asarray(drawn, dtype=np.uint8), x, y)


def scale_bar(picture: Picture, shade: Shade, x: int, y: int, width: int) -> None:
    """The colour scale with its ends in numbers."""
    ramp = (np.linspace(0, 1, width, dtype=np.float32) ** 2 * shade.top)[None]
    text(picture, "0", x - 6, y + 9, GREY, 12, align="right")
    heat(picture, ramp, shade, x, y, width, 10)
    text(picture, f"{shade.top:.2g}", x + width + 6, y + 9, GREY, 12)


def keys(picture: Picture, action: Mapping[str, Any] | None, x: int, y: int, width: int) -> None:
    """The 24 keys of an action: caps, lit where pressed, the hotbar's slot, and the camera's turn as arrow and degrees.

    Args:
        picture: Drawn into.
        action: MineRL's 24 keys as JSON values; None draws all caps unlit.
        x: Left edge.
        y: Upper edge; the row is 26 pixels high.
        width: Room for the row.
    """
    action = action or {}
    slot = next((k.removeprefix("hotbar.") for k, v in action.items() if k.startswith("hotbar.") and v), None)
    caps = [(label, bool(action.get(key))) for key, label in _CAPS]
    left = x
    for label, lit in [*caps, (slot or "1-9", slot is not None)]:
        cap = max(20, text_width(label, 11, 600) + 8)
        box(picture, left, y, cap, 26, FLAME if lit else PANEL)
        text(picture, label, left + cap // 2, y + 17, PAPER if lit else GREY, 11, 600, "middle")
        left += cap + 3
    pitch, yaw = action.get("camera") or (0.0, 0.0)
    _dial(picture, yaw, pitch, x + width - 26, y)
    colour = INK if pitch or yaw else GREY
    text(picture, f"{yaw:+.1f} right", x + width - 32, y + 11, colour, 11, 400, "right")
    text(picture, f"{pitch:+.1f} down", x + width - 32, y + 24, colour, 11, 400, "right")


def _dial(picture: Picture, yaw: float, pitch: float, x: int, y: int) -> None:
    """An arrow in a square of 26 pixels: where the camera turns; 10 degrees, the policy's most, reach the rim."""
    box(picture, x, y, 26, 26, PANEL)
    middle = (x + 13, y + 13)
    size = float(np.hypot(yaw, pitch))
    if size == 0:
        cv2.circle(picture, middle, 2, GREY, -1, cv2.LINE_AA)
        return
    reach = 4 + 8 * min(1.0, size / 10)
    tip = (round(middle[0] + reach * yaw / size), round(middle[1] + reach * pitch / size))
    cv2.arrowedLine(picture, middle, tip, FLAME, 2, cv2.LINE_AA, tipLength=0.45)
