"""Own 16 x 16 textures, made by code: block faces, breaking cracks and item sprites.

Every texture is uint8 [16, 16, 4] (rows down, columns right, RGBA). Nothing here is read from a file or drawn after
one: a texture is a palette, integer-hash noise and a few lines. Tinted textures are grey; the biome's colour is applied
by :func:`block_layers`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from harness.errors import WorldError, unknown_name
from harness.scenario.catalogue import Block, catalogue
from harness.world.blockworld.resource_pack import ResourcePack

__all__ = [
    "BIOMES",
    "MIPS",
    "N_CRACKS",
    "BlockLayers",
    "block_layers",
    "crack_texture",
    "hash_noise",
    "item_index",
    "item_names",
    "item_sprite",
    "rgb",
    "texture",
]

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]

N_CRACKS = 10
MIPS = 4  # sharp, and means over 2 x 2, 4 x 4 and 8 x 8 texels for what is far away
_TILES = 4  # a ground texture is laid out as 4 x 4 differently turned copies, so that a meadow shows no grid

# (grass, foliage) tint per biome, as published in the game's colour tables.
BIOMES: dict[str, tuple[str, str]] = {
    "plains": ("#91bd59", "#77ab2f"),
    "sunflower_plains": ("#91bd59", "#77ab2f"),
    "forest": ("#79c05a", "#59ae30"),
    "birch_forest": ("#88bb67", "#6ba941"),
    "desert": ("#bfb755", "#aea42a"),
    "savanna": ("#bfb755", "#aea42a"),
    "taiga": ("#86b783", "#68a464"),
    "snowy_tundra": ("#80b497", "#60a17b"),
    "snowy_plains": ("#80b497", "#60a17b"),
    "jungle": ("#59c93c", "#30bb0b"),
    "swamp": ("#6a7039", "#6a7039"),
    "mountains": ("#8ab689", "#6da36b"),
}


def rgb(colour: str) -> tuple[int, int, int]:
    """The three channels of ``#rrggbb``."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def hash_noise(seed: int, height: int = 16, width: int = 16) -> F64:
    """Noise in [0, 1), float64 [height, width], by integer hashing (the same on every machine and numpy)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.uint32)
    h = x * np.uint32(0x9E3779B1) + y * np.uint32(0x85EBCA77) + np.uint32(seed * 0xC2B2AE3D & 0xFFFFFFFF)
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        h ^= h >> np.uint32(shift)
        h *= np.uint32(factor)
    h ^= h >> np.uint32(15)
    return np.asarray(h.astype(np.float64) / 2.0**32)


def _smooth(seed: int, period: int, height: int = 16, width: int = 16) -> F64:
    """Tileable value noise, float64 [height, width] in [0, 1), cells of ``16 / period`` pixels."""
    grid = hash_noise(seed, period, period)
    ys, xs = np.arange(height) * period / height, np.arange(width) * period / width
    y0, x0 = ys.astype(int), xs.astype(int)
    fy, fx = (ys - y0)[:, None], (xs - x0)[None, :]
    y1, x1 = (y0 + 1) % period, (x0 + 1) % period
    top = grid[y0][:, x0] * (1 - fx) + grid[y0][:, x1] * fx
    low = grid[y1][:, x0] * (1 - fx) + grid[y1][:, x1] * fx
    return np.asarray(top * (1 - fy) + low * fy)


def _shade(colour: tuple[int, int, int], level: F64) -> U8:
    """A colour times a brightness map: uint8 [h, w, 4], opaque."""
    out = np.full((*level.shape, 4), 255, dtype=np.uint8)
    out[..., :3] = np.clip(np.round(np.array(colour) * level[..., None]), 0, 255)
    return out


def _palette(colours: list[str], weights: list[float], seed: int, height: int = 16, width: int = 16) -> U8:
    """Each pixel takes one of a few colours at random."""
    edges = np.cumsum(weights) / np.sum(weights)
    index = np.minimum(np.searchsorted(edges, hash_noise(seed, height, width)), len(colours) - 1)
    out = np.full((height, width, 4), 255, dtype=np.uint8)
    out[..., :3] = np.array([rgb(c) for c in colours], dtype=np.uint8)[index]
    return out


def _steps(level: F64, n: int) -> F64:
    """Brightness cut to ``n`` steps, which makes noise read as pixel art."""
    return np.round(level * (n - 1)) / (n - 1)


def _grass_top() -> U8:
    level = 0.47 + 0.22 * _steps(0.7 * hash_noise(1) + 0.3 * _smooth(2, 8), 6)
    return _shade((255, 255, 255), level)


def _dirt() -> U8:
    out = _palette(
        ["#966c4a", "#79553a", "#593d29", "#b9855c", "#745844", "#878787", "#6c6c6c"], [30, 34, 16, 14, 6, 3, 1.5], 11
    )
    blot = _smooth(12, 8) > 0.66
    out[blot, :3] = rgb("#79553a")
    return out


def _fringe(seed: int) -> npt.NDArray[np.int64]:
    """How far the grass hangs over a side, per column: 2..4 pixels."""
    return np.asarray(2 + np.floor(hash_noise(seed, 1, 16)[0] * 2.6), dtype=np.int64)


def _grass_side() -> U8:
    """Dirt with a fringe; the fringe's pixels are grey and carry alpha 254, by which the tint finds them."""
    out = _dirt()
    grass = _grass_top()
    for x, depth in enumerate(_fringe(21)):
        out[:depth, x] = grass[:depth, x]
        out[:depth, x, 3] = 254
    return out


def _stone() -> U8:
    level = 0.5 * _smooth(31, 4) + 0.5 * np.repeat(_smooth(32, 16, 16, 8), 2, axis=1)
    return _shade((127, 127, 127), 0.88 + 0.22 * _steps(level, 5))


def _cobblestone() -> U8:
    points = [(2, 2), (2, 8), (3, 13), (7, 4), (7, 11), (11, 1), (11, 7), (12, 13), (15, 4), (15, 10)]
    y, x = np.mgrid[0:16, 0:16]
    reach = []
    for py, px in points:
        dy = np.minimum(abs(y - py), 16 - abs(y - py))
        dx = np.minimum(abs(x - px), 16 - abs(x - px))
        reach.append(dy**2 + 0.8 * dx**2)
    ordered = np.sort(np.array(reach), axis=0)
    near = np.argmin(np.array(reach), axis=0)
    level = 0.85 + 0.05 * (near % 4) + 0.12 * (hash_noise(41) - 0.5) + 0.1 * (np.sqrt(ordered[0]) < 1.6)
    level[np.sqrt(ordered[1]) - np.sqrt(ordered[0]) < 0.75] = 0.58
    return _shade((135, 135, 135), level)


def _sand() -> U8:
    return _shade((219, 207, 163), 0.93 + 0.1 * _steps(0.6 * hash_noise(51) + 0.4 * _smooth(52, 8), 5))


def _bedrock() -> U8:
    return _shade((110, 110, 110), 0.35 + 1.1 * _steps(0.4 * hash_noise(61) + 0.6 * _smooth(62, 8), 4) ** 1.5)


def _water() -> U8:
    wave = _smooth(71, 4) * 0.6 + 0.4 * np.repeat(_smooth(72, 8, 8, 16), 2, axis=0)
    out = _shade((255, 255, 255), 0.72 + 0.3 * _steps(wave, 5))
    out[..., 3] = 180
    return out


def _bark(light: str, dark: str, seed: int) -> U8:
    """Vertical furrows: columns of differing brightness, broken at random heights."""
    column = hash_noise(seed, 1, 16)[0]
    run = np.repeat(hash_noise(seed + 1, 4, 16), 4, axis=0)
    level = 0.55 * column[None, :] + 0.3 * run + 0.15 * hash_noise(seed + 2)
    a, b = np.array(rgb(dark)), np.array(rgb(light))
    level = _steps(np.clip((level - 0.15) / 0.7, 0, 1), 5)[..., None]
    out = np.full((16, 16, 4), 255, dtype=np.uint8)
    out[..., :3] = np.round(a + (b - a) * level)
    return out


def _birch_log() -> U8:
    out = _shade((214, 216, 210), 0.94 + 0.09 * _steps(hash_noise(81), 4))
    for k in range(13):
        y, x = int(hash_noise(82, 13, 1)[k, 0] * 16), int(hash_noise(83, 13, 1)[k, 0] * 16)
        length = 1 + int(hash_noise(84, 13, 1)[k, 0] * 4)
        for i in range(length):
            out[y, (x + i) % 16, :3] = (52, 50, 44) if i != length - 1 else (120, 120, 112)
    return out


def _log_top(bark: U8, light: str, ring: str) -> U8:
    y, x = np.mgrid[0:16, 0:16]
    r = np.maximum(abs(x - 7.5), abs(y - 7.5))
    a, b = np.array(rgb(light)), np.array(rgb(ring))
    out = np.full((16, 16, 4), 255, dtype=np.uint8)
    wave = ((r.astype(int) % 2) == 0) * 0.75 + 0.25 * hash_noise(91)
    out[..., :3] = np.round(a + (b - a) * wave[..., None])
    rim = r > 6.6
    out[rim] = bark[rim]
    return out


def _leaves(seed: int, holes: float) -> U8:
    """Grey foliage with see-through holes, in clumps."""
    clump = 0.55 * hash_noise(seed) + 0.45 * _smooth(seed + 1, 8)
    level = 0.29 + 0.34 * _steps(hash_noise(seed + 2) * 0.65 + 0.35 * _smooth(seed + 3, 8), 5)
    out = _shade((255, 255, 255), level)
    out[clump < np.quantile(clump, holes), 3] = 0
    return out


def _planks(light: str, dark: str, seed: int) -> U8:
    """Four boards with grain, a dark line under each, and end joints."""
    grain = np.repeat(hash_noise(seed, 16, 4), 4, axis=1) * 0.6 + 0.4 * hash_noise(seed + 1)
    level = _steps(grain, 4)[..., None]
    a, b = np.array(rgb(light)), np.array(rgb(dark))
    mix = a + (b - a) * level * 0.55
    mix[3::4] = b * 0.72
    for board, x in enumerate((15, 7, 3, 11)):
        mix[board * 4 : board * 4 + 3, x] = b * 0.78
    out = np.full((16, 16, 4), 255, dtype=np.uint8)
    out[..., :3] = np.round(mix)
    return out


def _table_top() -> U8:
    out = _planks("#b8945f", "#8a6a3c", 141)
    out[0, :, :3] = out[15, :, :3] = out[:, 0, :3] = out[:, 15, :3] = rgb("#5b4226")
    for k in (2, 6, 9, 13):
        out[k, 2:14, :3] = rgb("#6d5030")
        out[2:14, k, :3] = rgb("#6d5030")
    out[3:6, 3:6, :3] = out[10:13, 10:13, :3] = rgb("#a57a48")
    return out


def _table_side(front: bool) -> U8:
    out = _planks("#a8834f", "#7a5b33", 142)
    out[0:2, :, :3] = rgb("#8f6c3d")
    out[2, :, :3] = out[15, :, :3] = rgb("#3f2c17")
    out[3:15, 0, :3] = out[3:15, 15, :3] = rgb("#4e3820")
    if front:
        out[5:12, 4, :3] = rgb("#6e6e70")
        out[5:7, 3:7, :3] = rgb("#9a9a9c")
        out[5:13, 10, :3] = rgb("#5d4122")
        out[5:8, 9:13, :3] = rgb("#8b8b8d")
    else:
        out[5:7, 3:12, :3] = rgb("#8d8d90")
        out[7, 4:12:2, :3] = rgb("#6b6b6e")
        out[5:7, 11:14, :3] = rgb("#5d4122")
        out[9:13, 5:7, :3] = rgb("#5d4122")
    return out


def _glass() -> U8:
    out = np.zeros((16, 16, 4), dtype=np.uint8)
    edge = _shade((188, 220, 228), 0.92 + 0.1 * hash_noise(151))
    border = np.zeros((16, 16), dtype=bool)
    border[0], border[15], border[:, 0], border[:, 15] = True, True, True, True
    for y, x, n in ((3, 4, 2), (2, 7, 2), (11, 10, 3)):
        for i in range(n):
            border[y + n - 1 - i, x + i] = True
    out[border] = edge[border]
    return out


def _stained(colour: str) -> U8:
    out = _shade(rgb(colour), 0.95 + 0.1 * hash_noise(152))
    out[..., 3] = 120
    out[0, :, 3] = out[15, :, 3] = out[:, 0, 3] = out[:, 15, 3] = 190
    return out


def _wool(colour: str, seed: int) -> U8:
    y, x = np.mgrid[0:16, 0:16]
    weave = ((x + 2 * y) % 4 == 0) * 0.5 + ((x - y) % 5 == 0) * 0.3 + 0.5 * _smooth(seed, 8)
    return _shade(rgb(colour), 1.03 - 0.13 * _steps(np.clip(weave, 0, 1), 5))


def _clay(colour: str, seed: int) -> U8:
    return _shade(rgb(colour), 0.95 + 0.09 * _steps(0.5 * hash_noise(seed) + 0.5 * _smooth(seed + 1, 4), 4))


_WOOL = {
    "white": "#eaeced",
    "orange": "#f17716",
    "magenta": "#bd44b3",
    "light_blue": "#3aafd9",
    "yellow": "#f8c627",
    "lime": "#70b919",
    "pink": "#ed8dac",
    "gray": "#3e4447",
    "light_gray": "#8e8e86",
    "cyan": "#158991",
    "purple": "#792aac",
    "blue": "#35399d",
    "brown": "#724728",
    "green": "#546d1b",
    "red": "#a12722",
    "black": "#141519",
}
_CLAY = {
    "terracotta": "#985e43",
    "brown_terracotta": "#4d3323",
    "orange_terracotta": "#a15325",
    "white_terracotta": "#d1b2a1",
}
_WOODS = {
    "oak": ("#7a6038", "#4a3720", "#b8945f", "#957445"),
    "spruce": ("#4b3318", "#2a1a0b", "#82613a", "#644a2b"),
}
_STRIPPED = ("#c2a05e", "#a5834b")


def _table() -> dict[str, Callable[[], U8]]:
    """Texture name -> painter: every name of blocks.yaml has a row here."""
    rows: dict[str, Callable[[], U8]] = {
        "grass_top": _grass_top,
        "grass_side": _grass_side,
        "dirt": _dirt,
        "stone": _stone,
        "sand": _sand,
        "cobblestone": _cobblestone,
        "bedrock": _bedrock,
        "water": _water,
        "birch_log": _birch_log,
        "birch_log_top": lambda: _log_top(_birch_log(), "#c6b77b", "#a8975f"),
        "oak_leaves": lambda: _leaves(101, 0.24),
        "birch_leaves": lambda: _leaves(105, 0.26),
        "spruce_leaves": lambda: _leaves(109, 0.20),
        "oak_planks": lambda: _planks("#bd9860", "#8d6d3d", 121),
        "birch_planks": lambda: _planks("#d3c286", "#a99a66", 125),
        "spruce_planks": lambda: _planks("#84623a", "#5a4225", 129),
        "crafting_table_top": _table_top,
        "crafting_table_side": lambda: _table_side(False),
        "crafting_table_front": lambda: _table_side(True),
        "glass": _glass,
        "green_stained_glass": lambda: _stained("#667f33"),
        "stripped_oak_log": lambda: _bark(*_STRIPPED, 135),
        "stripped_oak_log_top": lambda: _log_top(_bark(*_STRIPPED, 135), "#c2a05e", "#a5834b"),
    }
    for k, (name, (light, dark, wood, ring)) in enumerate(_WOODS.items()):
        bark = functools.partial(_bark, light, dark, 85 + 3 * k)
        rows[f"{name}_log"] = bark
        rows[f"{name}_log_top"] = lambda b=bark, w=wood, r=ring: _log_top(b(), w, r)  # type: ignore[misc]
    for k, (name, colour) in enumerate(_WOOL.items()):
        rows[f"wool_{name}"] = functools.partial(_wool, colour, 160 + k)
    for k, (name, colour) in enumerate(_CLAY.items()):
        rows[name] = functools.partial(_clay, colour, 180 + 2 * k)
    return rows


@functools.cache
def texture(name: str) -> U8:
    """The texture of that name, uint8 [16, 16, 4].

    Raises:
        KeyError: for a name that blocks.yaml uses and no painter makes (a test forbids it).
    """
    out = _table()[name]()
    out.flags.writeable = False
    return out


@functools.cache
def crack_texture(stage: int) -> U8:
    """Breaking stage 0..9: dark lines that grow from the middle, uint8 [16, 16, 4]."""
    rank = np.full((16, 16), 99.0)
    turn = hash_noise(201, 16, 64)
    for arm in range(9):
        y, x = 7.5, 7.5
        dy, dx = ((-1, 0), (1, 0.3), (0.2, -1), (-0.2, 1), (-1, 1), (1, -1), (1, 1), (-1, -1), (0.6, 1))[arm]
        for step in range(11):
            iy, ix = int(y), int(x)
            if not (0 <= iy < 16 and 0 <= ix < 16):
                break
            rank[iy, ix] = min(rank[iy, ix], step * 0.75 + (arm % 5) * 0.9)
            y += 0.9 * dy + 1.3 * (turn[arm, 2 * step] - 0.5)
            x += 0.9 * dx + 1.3 * (turn[arm, 2 * step + 1] - 0.5)
    out = np.zeros((16, 16, 4), dtype=np.uint8)
    lit = rank <= 1.0 + stage * 1.05
    out[lit, 3] = 150
    edge = np.roll(lit, 1, axis=0) & ~lit & (hash_noise(202) < 0.3 + 0.04 * stage)
    out[edge] = (210, 210, 210, 50)
    return out


def _shadow() -> U8:
    """A soft round shadow, uint8 [16, 16, 4]."""
    y, x = np.mgrid[0:16, 0:16]
    reach = np.hypot(x - 7.5, y - 7.5) / 8.0
    out = np.zeros((16, 16, 4), dtype=np.uint8)
    out[..., 3] = np.round(105 * np.clip((1.0 - reach) * 2.2, 0, 1))
    return out


# ---- items

_SPRITES: dict[str, tuple[str, dict[str, str]]] = {}


def _draw(rows: list[str], colours: dict[str, str]) -> U8:
    out = np.zeros((16, 16, 4), dtype=np.uint8)
    for y, row in enumerate(rows):
        for x, key in enumerate(row):
            if key in colours:
                out[y, x] = (*rgb(colours[key]), 255)
    return out


_HANDLE = {"h": "#896727", "H": "#493615", "k": "#684e1e"}
_HEADS = {
    "wooden": {"a": "#896727", "b": "#a8803a", "c": "#5f4519"},
    "stone": {"a": "#8b8b8b", "b": "#b5b5b5", "c": "#5a5a5a"},
    "iron": {"a": "#d8d8d8", "b": "#ffffff", "c": "#8a8a8a"},
}
_AXE = [
    "",
    "         cc",
    "        cbac",
    "       cbaaHc",
    "      cbaahHac",
    "      caahkcaac",
    "       cchkH cc",
    "        hkH",
    "       hkH",
    "      hkH",
    "     hkH",
    "    hkH",
    "   hkH",
    "  hkH",
    "  HH",
]
_PICKAXE = [
    "",
    "     ccccc",
    "    cbbbaac",
    "     cccaahH",
    "        hkacc",
    "        hkHaac",
    "       hkH caac",
    "      hkH  cabc",
    "     hkH    cbc",
    "    hkH     cbc",
    "   hkH      cbc",
    "  hkH        c",
    " hkH",
    " HH",
]
_SHOVEL = [
    "",
    "           cccc",
    "          cbbac",
    "         cbaaac",
    "         caaac",
    "         hacc",
    "        hkHc",
    "       hkH",
    "      hkH",
    "     hkH",
    "    hkH",
    "   hkH",
    "  hkH",
    " HHH",
    "  HH",
]
_SWORD = [
    "             ccc",
    "            cbac",
    "           cbaac",
    "          cbaac",
    "         cbaac",
    "        cbaac",
    "       cbaac",
    "   cc cbaac",
    "   cacbaac",
    "    caaac",
    "    ccac",
    "   hkcacc",
    "  hkH ccc",
    "cckH",
    "cac",
    "ccc",
]
_STICK = [
    "",
    "",
    "             H",
    "            hkH",
    "           hkH",
    "          hkH",
    "         hkH",
    "        hkH",
    "       hkH",
    "      hkH",
    "     hkH",
    "    hkH",
    "   hkH",
    "   HH",
]
_SHEARS = [
    "",
    "",
    "      cc",
    "      cac",
    "       cac",
    "       caac",
    "   ccc cac",
    "  caaacaac",
    "   cccaaaac",
    "     rraacc",
    "    r rracc",
    "    r  rr",
    "     rr  r",
    "        rr",
]
_MEAT = [
    "",
    "",
    "",
    "     oooo",
    "   oommmmoo",
    "  ommwmmmmmo",
    " ommwwmmmnmmo",
    " omwwmmmnnmmo",
    " ommwmmmmmmno",
    "  onmmmmmmnno",
    "   oonnnnnoo",
    "     ooooo",
]


def _tool(rows: list[str], material: str) -> U8:
    return _draw(rows, {**_HANDLE, **_HEADS[material]})


def _meat(meat: str, dark: str, fat: str, rim: str) -> U8:
    return _draw(_MEAT, {"m": meat, "n": dark, "w": fat, "o": rim})


def _sprites() -> dict[str, Callable[[], U8]]:
    return {
        "wooden_axe": lambda: _tool(_AXE, "wooden"),
        "stone_axe": lambda: _tool(_AXE, "stone"),
        "iron_axe": lambda: _tool(_AXE, "iron"),
        "wooden_pickaxe": lambda: _tool(_PICKAXE, "wooden"),
        "iron_pickaxe": lambda: _tool(_PICKAXE, "iron"),
        "wooden_shovel": lambda: _tool(_SHOVEL, "wooden"),
        "wooden_sword": lambda: _tool(_SWORD, "wooden"),
        "iron_sword": lambda: _tool(_SWORD, "iron"),
        "stick": lambda: _draw(_STICK, _HANDLE),
        "shears": lambda: _draw(_SHEARS, {**_HEADS["iron"], "r": "#7a2f2f"}),
        "beef": lambda: _meat("#b8322c", "#8d201d", "#e2b3a4", "#5c1413"),
        "porkchop": lambda: _meat("#f0a5a2", "#d07f7e", "#fbdcd6", "#9c4f4f"),
        "mutton": lambda: _meat("#c9564b", "#9c3a33", "#f0d2c4", "#6c2320"),
        "rotten_flesh": lambda: _meat("#a0532d", "#70401f", "#7d8a46", "#4e2613"),
    }


def item_names() -> tuple[str, ...]:
    """Every item in a fixed order: blocks first (by name in the table), then items."""
    table = catalogue()
    return (*(n for n in table.blocks if n != "air"), *table.items)


@functools.cache
def _item_numbers() -> dict[str, int]:
    return {name: k for k, name in enumerate(item_names())}


def item_index(name: str) -> int:
    """The number of an item in ``E_VARIANT`` of a dropped item.

    Raises:
        ScenarioError: for a name that is neither a block nor an item, naming the nearest.
    """
    return _item_numbers()[catalogue().item(name).name]


@functools.cache
def item_sprite(name: str, pack: ResourcePack | None = None) -> U8:
    """The flat picture of an item that is not a block, uint8 [16, 16, 4]; a pack's own where it has one."""
    worn = None if pack is None else pack.sprite(name)
    out = _sprites()[name]() if worn is None else worn
    out.flags.writeable = False
    return out


# ---- the layers that the rasteriser samples

_TURNED = {"grass_top", "dirt", "sand", "stone", "bedrock"}
_FACES = ("side", "side", "bottom", "top", "front", "side")  # -x +x -y +y -z +z


def _turned(tile: U8, seed: int) -> U8:
    """4 x 4 copies turned or mirrored at random: uint8 [64, 64, 4]."""
    choice = (hash_noise(seed, _TILES, _TILES) * 8).astype(int)
    rows = []
    for y in range(_TILES):
        row = [np.rot90(tile[:, ::-1] if choice[y, x] & 4 else tile, choice[y, x] & 3) for x in range(_TILES)]
        rows.append(np.concatenate(row, axis=1))
    return np.ascontiguousarray(np.concatenate(rows, axis=0))


def _tinted(tile: U8, tint: tuple[int, int, int] | None, marked_only: bool) -> U8:
    if tint is None:
        return tile
    out = tile.copy()
    where = tile[..., 3] == 254 if marked_only else np.ones(tile.shape[:2], dtype=bool)
    out[where, :3] = np.round(tile[where, :3] * (np.array(tint) / 255.0))
    return out


def _coarser(picture: U8, size: int) -> U8:
    """The same picture, each ``size`` x ``size`` square in the mean colour of what it shows; alpha stays as it is."""
    h, w = picture.shape[:2]
    weight = np.maximum((picture[..., 3:] > 0).astype(np.float64), 1e-6)
    blocks = (picture[..., :3] * weight).reshape(h // size, size, w // size, size, 3).sum(axis=(1, 3))
    mean = blocks / weight.reshape(h // size, size, w // size, size, 1).sum(axis=(1, 3))
    out = picture.copy()
    out[..., :3] = np.round(np.repeat(np.repeat(mean, size, axis=0), size, axis=1))
    return out


class BlockLayers:
    """All block faces of one biome, ready to sample; those of a resource pack where it has them.

    Attributes:
        texels: uint32 [n], 0xAABBGGRR, layer after layer.
        levels: ``texels`` and its coarser versions, MIPS in all, laid out alike.
        info: int32 [layers, 4]: first texel, row stride, u mask, v mask.
        layer_of: int32 [256, 6]: the layer on each face of a block id (faces -x +x -y +y -z +z).
        tiles: the 16 x 16 picture of each layer, for icons and small cubes.
        cracks: int32 [11]: layers of the breaking stages, and of a creature's shadow.
    """

    def __init__(self, biome: str, pack: ResourcePack | None = None) -> None:
        if biome not in BIOMES:
            raise unknown_name("biome", biome, BIOMES, error=WorldError)
        grass, foliage = (rgb(c) for c in BIOMES[biome])
        self._tints = {"grass": grass, "foliage": foliage}
        self.tiles: list[U8] = []
        self.layer_of = np.zeros((256, 6), dtype=np.int32)
        parts: list[U8] = []
        info: list[tuple[int, int, int, int]] = []
        seen: dict[tuple[str, str | None], int] = {}
        start = 0

        def add(tile: U8, big: U8) -> int:
            nonlocal start
            side = big.shape[0]
            parts.append(big)
            info.append((start, side, side - 1, side - 1))
            self.tiles.append(tile)
            start += side * side
            return len(info) - 1

        for block in catalogue().blocks.values():
            if block.shape == "none":
                continue
            for face, side in enumerate(_FACES):
                name = block.face_texture(side)  # type: ignore[arg-type]
                tint = block.tint if self._is_tinted(block, name) else None
                if (name, tint) not in seen:
                    worn = None if pack is None else pack.tile(name, block.shape)
                    tile = _tinted(texture(name) if worn is None else worn, self._colour(tint), name == "grass_side")
                    seen[name, tint] = add(tile, _turned(tile, len(seen)) if name in _TURNED else tile)
                self.layer_of[block.id, face] = seen[name, tint]
        marks = [*(crack_texture(k) for k in range(N_CRACKS)), _shadow()]
        self.cracks = np.array([add(mark, mark) for mark in marks], dtype=np.int32)
        self.levels = [
            np.ascontiguousarray(np.concatenate([_coarser(p, 1 << k).reshape(-1, 4) for p in parts]))
            .view(np.uint32)
            .reshape(-1)
            for k in range(MIPS)
        ]
        self.texels = self.levels[0]
        self.info = np.array(info, dtype=np.int32)

    @staticmethod
    def _is_tinted(block: Block, name: str) -> bool:
        return block.tint is not None and name != "dirt"

    def _colour(self, tint: str | None) -> tuple[int, int, int] | None:
        if tint is None:
            return None
        return self._tints[tint] if tint in self._tints else rgb(tint)

    def tile(self, block: int, face: int) -> U8:
        """The picture on a face of a block, uint8 [16, 16, 4]."""
        return self.tiles[int(self.layer_of[block, face])]


@functools.cache
def block_layers(biome: str, pack: ResourcePack | None = None) -> BlockLayers:
    """The layers of a biome, built once for each pack.

    Raises:
        WorldError: for a biome without colours.
    """
    return BlockLayers(biome, pack)
