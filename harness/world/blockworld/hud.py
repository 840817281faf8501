"""The flat layer over the picture: hotbar, hearts, food, experience bar, crosshair, inventory.

The layer is made once per state of the hotbar and kept as a list of pixels, so that a frame only lays it on.
Positions are those of the game at interface scale 1 in a 640 x 360 picture.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from harness.scenario.catalogue import catalogue
from harness.world.blockworld.resource_pack import ResourcePack
from harness.world.blockworld.textures import block_layers, item_sprite, rgb

__all__ = ["INVERT", "hud_pixels", "item_icon"]

U8 = npt.NDArray[np.uint8]
INVERT = 300  # an alpha that means: invert what lies below (the crosshair)
_W, _H = 640, 360
_DIGITS = {
    "0": (14, 17, 19, 21, 25, 17, 14),
    "1": (4, 12, 4, 4, 4, 4, 31),
    "2": (14, 17, 1, 6, 8, 17, 31),
    "3": (14, 17, 1, 6, 1, 17, 14),
    "4": (3, 5, 9, 17, 31, 1, 1),
    "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14),
    "7": (31, 17, 1, 2, 4, 4, 4),
    "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12),
}
_HEART = (
    " ooo ooo ",
    "oHHroRRRo",
    "oHrrrrrRo",
    "orrrrrrRo",
    "orrrrrrdo",
    " orrrrdo ",
    "  orrdo  ",
    "   odo   ",
    "    o    ",
)
_HEART_COLOURS = {"o": "#000000", "H": "#ff8a8a", "r": "#ff1313", "R": "#f01010", "d": "#bb1313"}
_EMPTY_HEART = "#3a1010"
_FOOD = (
    "   oooo  ",
    "  obBBbo ",
    "  obBbbbo",
    "  obbbbbo",
    "  obbbbo ",
    " oobbbo  ",
    "owwooo   ",
    "owwo     ",
    " oo      ",
)
_FOOD_COLOURS = {"o": "#1a0f05", "b": "#9d6d43", "B": "#c9975f", "w": "#dcc9a8"}


class _Canvas:
    """A picture with alpha; alpha above 255 is the inverting crosshair."""

    def __init__(self) -> None:
        self.colour = np.zeros((_H, _W, 3), dtype=np.float64)
        self.alpha = np.zeros((_H, _W), dtype=np.float64)

    def fill(self, y: int, x: int, h: int, w: int, colour: str, alpha: float = 1.0) -> None:
        self._over(slice(y, y + h), slice(x, x + w), np.array(rgb(colour), dtype=np.float64), np.full((1, 1), alpha))

    def picture(self, y: int, x: int, tile: U8) -> None:
        h, w = tile.shape[:2]
        self._over(slice(y, y + h), slice(x, x + w), tile[..., :3].astype(np.float64), tile[..., 3] / 255.0)

    def _over(self, ys: slice, xs: slice, colour: npt.NDArray[np.float64], a: npt.NDArray[np.float64]) -> None:
        below, old = self.colour[ys, xs], self.alpha[ys, xs]
        a = np.broadcast_to(a, old.shape)
        total = a + old * (1 - a)
        safe = np.where(total > 0, total, 1.0)[..., None]
        self.colour[ys, xs] = (colour * a[..., None] + below * (old * (1 - a))[..., None]) / safe
        self.alpha[ys, xs] = total

    def text(self, y: int, right: int, word: str) -> None:
        """Digits that end at ``right``, with the game's drop shadow."""
        for k, char in enumerate(word):
            x = right - 6 * (len(word) - k)
            self.picture(y + 1, x + 1, _digit(char, "#3e3e3e"))
            self.picture(y, x, _digit(char, "#fcfcfc"))


@functools.cache
def _digit(char: str, colour: str) -> U8:
    """uint8 [7, 5, 4]."""
    return _stamp(tuple(format(row, "05b").replace("0", " ") for row in _DIGITS[char]), {"1": colour})


@functools.cache
def _heart(half_hearts: int) -> U8:
    """One heart, uint8 [9, 9, 4]: 0 empty, 1 half, 2 full."""
    full, empty = _stamp(_HEART, _HEART_COLOURS), _stamp(_HEART, {k: _EMPTY_HEART for k in _HEART_COLOURS})
    rim = _stamp(_HEART, {"o": "#000000"})[..., 3] > 0
    empty[..., 3] = np.where(empty[..., 3] > 0, 191, 0)
    whole = np.where(np.arange(9)[None, :, None] < (0, 5, 9)[half_hearts], full, empty)
    return np.where(rim[..., None], full, whole)


def _stamp(rows: tuple[str, ...], colours: dict[str, str]) -> U8:
    """A small picture from letters, uint8 [h, w, 4]; a letter without a colour is left open."""
    tile = np.zeros((len(rows), len(rows[0]), 4), dtype=np.uint8)
    for y, row in enumerate(rows):
        for x, letter in enumerate(row):
            if letter in colours:
                tile[y, x] = (*rgb(colours[letter]), 255)
    return tile


@functools.cache
def item_icon(name: str, biome: str = "plains", pack: ResourcePack | None = None) -> U8:
    """The 16 x 16 picture of an item in a slot: a sprite, or a block seen from a corner. uint8 [16, 16, 4]."""
    block = catalogue().blocks.get(name)
    if block is None:
        return item_sprite(name, pack)
    layers = block_layers(biome, pack)
    top, left, right = (layers.tile(block.id, f).astype(np.float64) for f in (3, 4, 0))
    n = 4  # samples a pixel and axis
    total = np.zeros((16, 16, 4))
    ys, xs = np.mgrid[0 : 16 * n, 0 : 16 * n]
    y, x = (ys + 0.5) / n, (xs + 0.5) / n
    for tile, shade, (ox, oy), (ux, uy), (vx, vy) in (
        (top, 1.0, (8.0, 0.4), (7.0, 3.6), (-7.0, 3.6)),
        (left, 0.8, (1.0, 4.0), (7.0, 3.6), (0.0, 8.0)),
        (right, 0.6, (8.0, 7.6), (7.0, -3.6), (0.0, 8.0)),
    ):
        det = ux * vy - uy * vx
        u = ((x - ox) * vy - (y - oy) * vx) / det
        v = ((y - oy) * ux - (x - ox) * uy) / det
        inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
        sample = tile[np.clip((v * 16).astype(int), 0, 15), np.clip((u * 16).astype(int), 0, 15)]
        a = sample[..., 3:] / 255.0 * inside[..., None]
        layer = np.concatenate([sample[..., :3] * shade * a, 255.0 * a], axis=-1)
        total += layer.reshape(16, n, 16, n, 4).mean(axis=(1, 3))
    out = np.zeros((16, 16, 4), dtype=np.uint8)
    cover = np.maximum(total[..., 3:] / 255.0, 1e-6)
    out[..., :3] = np.clip(np.round(total[..., :3] / cover), 0, 255)
    out[..., 3] = (
        np.where(total[..., 3] > 100, 255, 0) if block.shape != "translucent" else np.clip(total[..., 3], 0, 255)
    )
    return out


def _slot_bar(canvas: _Canvas, hotbar: tuple[tuple[str, int] | None, ...], selected: int, biome: str,
              pack: ResourcePack | None) -> None:
    x0, y0 = _W // 2 - 91, _H - 22
    canvas.fill(y0, x0, 22, 182, "#000000", 0.45)
    canvas.fill(y0, x0, 1, 182, "#1c1c1c", 0.9)
    canvas.fill(y0 + 21, x0, 1, 182, "#1c1c1c", 0.9)
    for k in range(10):
        canvas.fill(y0, x0 + 20 * k if k < 9 else x0 + 181, 22, 1, "#1c1c1c", 0.9)
    for k in range(9):
        left = x0 + 1 + 20 * k
        canvas.fill(y0 + 1, left, 1, 20, "#9a9a9a", 0.6)
        canvas.fill(y0 + 1, left, 20, 1, "#9a9a9a", 0.6)
        canvas.fill(y0 + 20, left, 1, 20, "#555555", 0.6)
        canvas.fill(y0 + 1, left + 19, 20, 1, "#555555", 0.6)
    x = x0 - 1 + 20 * selected
    for inset, colour in ((0, "#000000"), (1, "#c6c6c6"), (2, "#ededed")):
        size = 24 - 2 * inset
        top = y0 - 1 + inset
        rows = min(size, _H - top)
        canvas.fill(top, x + inset, 1, size, colour)
        if top + size - 1 < _H:
            canvas.fill(top + size - 1, x + inset, 1, size, colour)
        canvas.fill(top, x + inset, rows, 1, colour)
        canvas.fill(top, x + inset + size - 1, rows, 1, colour)
    for k, slot in enumerate(hotbar):
        if slot is not None and slot[1] > 0:
            canvas.picture(_H - 19, x0 + 3 + 20 * k, item_icon(slot[0], biome, pack))
    for k, slot in enumerate(hotbar):
        if slot is not None and slot[1] > 1:
            canvas.text(_H - 10, x0 + 3 + 20 * k + 18, str(slot[1]))


def _hearts(canvas: _Canvas, half_hearts: int) -> None:
    for k in range(10):
        canvas.picture(_H - 39, _W // 2 - 91 + 8 * k, _heart(max(0, min(2, half_hearts - 2 * k))))


def _food(canvas: _Canvas) -> None:
    tile = _stamp(_FOOD, _FOOD_COLOURS)
    for k in range(10):
        canvas.picture(_H - 39, _W // 2 + 91 - 8 * k - 9, tile)


def _inventory(canvas: _Canvas, hotbar: tuple[tuple[str, int] | None, ...], biome: str,
               pack: ResourcePack | None) -> None:
    canvas.fill(0, 0, _H, _W, "#101010", 0.72)
    x0, y0 = (_W - 176) // 2, (_H - 166) // 2
    canvas.fill(y0, x0, 166, 176, "#000000")
    canvas.fill(y0 + 1, x0 + 1, 164, 174, "#ffffff")
    canvas.fill(y0 + 3, x0 + 3, 162, 172, "#555555")
    canvas.fill(y0 + 3, x0 + 3, 160, 170, "#c6c6c6")
    canvas.fill(y0 + 8, x0 + 26, 70, 49, "#000000")

    def slot(y: int, x: int) -> None:
        canvas.fill(y, x, 18, 18, "#ffffff")
        canvas.fill(y, x, 17, 17, "#373737")
        canvas.fill(y + 1, x + 1, 16, 16, "#8b8b8b")

    for row, y in enumerate((83, 101, 119, 141)):
        for k in range(9):
            slot(y0 + y, x0 + 7 + 18 * k)
            held = hotbar[k] if row == 3 else None
            if held is not None and held[1] > 0:
                canvas.picture(y0 + y + 1, x0 + 8 + 18 * k, item_icon(held[0], biome, pack))
                if held[1] > 1:
                    canvas.text(y0 + y + 10, x0 + 8 + 18 * k + 18, str(held[1]))
    for k in range(4):
        slot(y0 + 7 + 18 * k, x0 + 7)
        slot(y0 + 17 + 18 * (k // 2), x0 + 97 + 18 * (k % 2))
    slot(y0 + 27, x0 + 153)


def _crosshair(alpha: npt.NDArray[np.float64]) -> None:
    y, x = _H // 2, _W // 2
    for k in range(-4, 5):
        alpha[y - 1 + 0, x - 1 + k] = INVERT
        alpha[y - 1 + k, x - 1] = INVERT


@functools.lru_cache(maxsize=256)
def hud_pixels(
    hotbar: tuple[tuple[str, int] | None, ...],
    selected: int,
    half_hearts: int,
    gui: str,
    biome: str,
    width: int,
    height: int,
    stride: int,
    offset: int,
    pack: ResourcePack | None = None,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The layer as pixels of the (possibly column-strided) picture; the latest states are kept.

    Returns:
        places int32 [n] (row * columns + column) and values int32 [n, 4] (r, g, b, alpha 0..256 or INVERT).
    """
    canvas = _Canvas()
    _slot_bar(canvas, hotbar, selected, biome, pack)
    _hearts(canvas, half_hearts)
    _food(canvas)
    canvas.fill(_H - 29, _W // 2 - 91, 5, 182, "#000000", 0.9)
    canvas.fill(_H - 28, _W // 2 - 90, 3, 180, "#26301f", 0.9)
    if gui:
        _inventory(canvas, hotbar, biome, pack)
    alpha = np.round(canvas.alpha * 256.0)
    if not gui:
        _crosshair(alpha)
    rows = (np.arange(height) * _H + _H // 2) // height
    columns = ((np.arange(offset, width, stride)) * _W + (_W // 2 if width != _W else 0)) // width
    seen = alpha[np.ix_(rows, columns)]
    where = np.flatnonzero(seen)
    y, x = rows[where // len(columns)], columns[where % len(columns)]
    values = np.concatenate([np.round(canvas.colour[y, x]), alpha[y, x][:, None]], axis=1)
    return where.astype(np.int32), np.ascontiguousarray(values.astype(np.int32))
