"""Creatures, dropped items and the hand as textured boxes.

A model is a list of boxes; each box has a pivot, a size in texels (1/16 block before the model's scale), a resting
rotation and a rule by which it moves. Skins are painted by code, a small picture per face, in the face order of blocks
(-x +x -y +y -z +z); a creature looks towards +z, so its front is the last face and its own right hand lies at -x.
"""

from __future__ import annotations

import functools
import math
import threading
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from harness.errors import WorldError
from harness.scenario.catalogue import Profession, VillagerType, catalogue
from harness.world.blockworld.resource_pack import ResourcePack, layout, unfolded
from harness.world.blockworld.textures import block_layers, hash_noise, item_names, item_sprite, rgb

__all__ = [
    "ANIM_HEAD",
    "ANIM_LEFT_LEG",
    "ANIM_NONE",
    "ANIM_RIGHT_LEG",
    "ANIM_ZOMBIE_ARM",
    "ITEM_KIND",
    "Models",
    "models",
    "part_names",
]

U8 = npt.NDArray[np.uint8]
ANIM_NONE, ANIM_RIGHT_LEG, ANIM_LEFT_LEG, ANIM_HEAD, ANIM_ZOMBIE_ARM = range(5)
ITEM_KIND = 100

# Columns of a box in `Models.parts`.
P_PIVOT, P_LOW, P_SIZE, P_TURN, P_ANIM, P_CUTOUT = 0, 3, 6, 9, 12, 13
PART_COLUMNS = 14


@dataclass
class Box:
    """One box: all lengths in texels, ``low`` relative to ``pivot``, ``turn`` in degrees about x, y, z.

    ``part`` is what all of it belongs to, ``details`` [h, w] per face the numbers where that differs by texel.
    """

    pivot: tuple[float, float, float]
    low: tuple[float, float, float]
    size: tuple[float, float, float]
    faces: list[U8]
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    anim: int = ANIM_NONE
    cutout: bool = False
    part: str = ""
    details: list[U8] | None = None

    def labels(self) -> list[U8]:
        """The number of the part that each texel belongs to, like ``faces``."""
        return self.details or [np.full(face.shape[:2], _part(self.part), np.uint8) for face in self.faces]


@dataclass
class Model:
    """Boxes and the scale from texels to blocks."""

    boxes: list[Box] = field(default_factory=list)
    scale: float = 0.9375 / 16.0


@functools.cache
def part_names() -> dict[int, str]:
    """Number to name of every part that a creature of the catalogue has; 0 is none."""
    names = dict.fromkeys(part for creature in catalogue().creatures.values() for part in creature.parts)
    return dict(enumerate(names, 1))


def _part(name: str) -> int:
    return 0 if not name else next(number for number, part in part_names().items() if part == name)


def _plain(colour: str | tuple[int, int, int], width: float, height: float, seed: int, grain: float = 0.10) -> U8:
    """A face of one colour with a little grain: uint8 [height, width, 4]."""
    base = np.array(rgb(colour) if isinstance(colour, str) else colour)
    h, w = max(int(round(height)), 1), max(int(round(width)), 1)
    level = 1.0 + grain * (np.round(hash_noise(seed, h, w) * 3) / 3 - 0.5)
    out = np.full((h, w, 4), 255, dtype=np.uint8)
    out[..., :3] = np.clip(np.round(base * level[..., None]), 0, 255)
    return out


def _skin(
    colour: str | tuple[int, int, int], size: tuple[float, float, float], seed: int, grain: float = 0.10
) -> list[U8]:
    """Six plain faces of a box."""
    x, y, z = size
    dims = ((z, y), (z, y), (x, z), (x, z), (x, y), (x, y))
    return [_plain(colour, w, h, seed + k, grain) for k, (w, h) in enumerate(dims)]


def _box(
    colour: str,
    pivot: tuple[float, float, float],
    low: tuple[float, float, float],
    size: tuple[float, float, float],
    seed: int,
    **rest: object,
) -> Box:
    return Box(pivot, low, size, _skin(colour, size, seed), **rest)  # type: ignore[arg-type]


def _put(face: U8, y: int, x: int, colour: str, height: int = 1, width: int = 1) -> None:
    face[y : y + height, x : x + width, :3] = rgb(colour)


# ---- villager

_SKIN = "#bd8b72"


def _villager_head() -> Box:
    size = (8.0, 10.0, 8.0)
    faces = _skin(_SKIN, size, 400)
    front = faces[5]
    _put(front, 4, 1, "#40281c", 1, 6)  # one brow from temple to temple
    _put(front, 5, 1, "#e8e8e8", 1, 1)
    _put(front, 5, 2, "#2f7a3b", 1, 1)
    _put(front, 5, 5, "#2f7a3b", 1, 1)
    _put(front, 5, 6, "#e8e8e8", 1, 1)
    _put(front, 8, 2, "#8f5f4c", 1, 4)
    for face in faces[:2] + [faces[4]]:
        face[:, :, :3] = (face[:, :, :3] * 0.95).astype(np.uint8)
    return Box((0, 24, 0), (-4, 0, -4), size, faces, anim=ANIM_HEAD, part="head")


def _robe(
    kind: VillagerType, job: Profession, size: tuple[float, float, float], seed: int, front: bool
) -> tuple[list[U8], list[U8]]:
    """Faces of a box of the robe, and the part that each texel belongs to."""
    faces = _skin(kind.robe, size, seed, 0.16)
    details = [np.full(face.shape[:2], _part("robe"), np.uint8) for face in faces]
    dark = tuple(int(c * 0.72) for c in rgb(kind.robe))
    for k in (0, 1, 4, 5):
        faces[k][-2:, :, :3] = (faces[k][-2:, :, :3] * 0.8).astype(np.uint8)
    if front:
        middle = faces[5].shape[1] // 2
        faces[5][:, middle - 1 : middle + 1, :3] = dark
    if job.overlay and job.cover > 0:
        for k in (5, 4, 0, 1):
            face = faces[k]
            h, w = face.shape[:2]
            share = job.cover if k == 5 else job.cover * (0.75 if k == 4 else 0.5)
            rows = int(round(h * min(1.0, share * 1.15)))
            columns = int(round(w * min(1.0, 0.45 + 0.6 * share)))
            left = (w - columns) // 2
            patch = _plain(job.overlay, columns, max(rows, 1), seed + 20 + k, 0.14)
            if rows and columns:
                face[:rows, left : left + columns] = patch[:rows]
                face[rows - 1, left : left + columns, :3] = (patch[rows - 1, :, :3] * 0.75).astype(np.uint8)
                details[k][:rows, left : left + columns] = _part("apron")
    return faces, details


def _hat(hat: str) -> list[Box]:
    if hat == "straw":
        brim, crown = (14.0, 1.0, 14.0), (9.0, 4.0, 9.0)
        return [
            Box((0, 24, 0), (-7, 7.5, -7), brim, _skin("#c9a54b", brim, 470, 0.25), anim=ANIM_HEAD, part="hat"),
            Box((0, 24, 0), (-4.5, 7.5, -4.5), crown, _skin("#d6b55c", crown, 476, 0.25), anim=ANIM_HEAD, part="hat"),
        ]
    if hat == "feather":
        cap, feather = (9.0, 3.0, 9.0), (1.0, 6.0, 3.0)
        return [
            Box((0, 24, 0), (-4.5, 7.6, -4.5), cap, _skin("#5a6b2f", cap, 482), anim=ANIM_HEAD, part="hat"),
            Box((0, 24, 0), (-5.5, 8, -1), feather, _skin("#e8e4da", feather, 488), anim=ANIM_HEAD, part="hat"),
        ]
    cover = (9.0, 2.0, 7.0)
    return [Box((0, 24, 0), (-4.5, 10, -3.5), cover, _skin("#8e2f2f", cover, 494), anim=ANIM_HEAD, part="hat")]


def _clothes(variant: int) -> tuple[VillagerType, Profession]:
    table = catalogue()
    kind = next((v for v in table.villager_types.values() if v.id == variant // 16), table.villager_types["plains"])
    job = next((p for p in table.professions.values() if p.id == variant % 16), table.professions["none"])
    return kind, job


def _villager(variant: int) -> Model:
    kind, job = _clothes(variant)
    dyed = job.overlay if job.sleeves else None  # by the profession; else by the type, like the robe
    sleeve, cloth = dyed or kind.sleeves, "apron" if dyed else "robe"
    nose, arm, cross = (2.0, 4.0, 2.0), (4.0, 8.0, 4.0), (8.0, 4.0, 4.0)
    body, robe, leg = (8.0, 12.0, 6.0), (8.5, 20.0, 6.5), (4.0, 12.0, 4.0)
    hands = _skin(sleeve, arm, 420)
    details = [np.full(face.shape[:2], _part(cloth), np.uint8) for face in hands]
    for k in (0, 1, 4, 5):
        hands[k][-1, :, :3] = rgb("#a8785f")
        details[k][-1] = _part("hands")
    sleeves = _skin(sleeve, cross, 440)
    sleeves[5][:, 3:5, :3] = (sleeves[5][:, 3:5, :3] * 0.8).astype(np.uint8)
    upper, upper_parts = _robe(kind, job, body, 430, True)
    lower, lower_parts = _robe(kind, job, robe, 450, True)
    boxes = [
        _villager_head(),
        Box((0, 24, 0), (-1, -1, 4), nose, _skin("#a8705c", nose, 410), anim=ANIM_HEAD, part="head"),
        Box((0, 12, 0), (-4, 0, -3), body, upper, details=upper_parts),
        Box((0, 4, 0), (-4.25, 0.1, -3.25), robe, lower, details=lower_parts),
        Box((0, 21, 1), (-8, -6, -2), arm, hands, turn=(-43, 0, 0), details=details),
        Box((0, 21, 1), (4, -6, -2), arm, hands, turn=(-43, 0, 0), details=details),
        Box((0, 21, 1), (-4, -6, -2), cross, sleeves, turn=(-43, 0, 0), part=cloth),
        _box("#4d3a33", (-2, 12, 0), (-2, -12, -2), leg, 460, anim=ANIM_RIGHT_LEG, part="legs"),
        _box("#4d3a33", (2, 12, 0), (-2, -12, -2), leg, 465, anim=ANIM_LEFT_LEG, part="legs"),
    ]
    if job.hat:
        boxes += _hat(job.hat)
    return Model(boxes)


# ---- animals


def _blotch(faces: list[U8], colour: str, share: float, seed: int) -> list[U8]:
    """Lay patches of a second colour over faces."""
    for k, face in enumerate(faces):
        h, w = face.shape[:2]
        coarse = hash_noise(seed + k, (h + 2) // 3 + 1, (w + 2) // 3 + 1)
        where = np.repeat(np.repeat(coarse, 3, axis=0), 3, axis=1)[1 : h + 1, 1 : w + 1] < share
        face[where, :3] = np.round(
            np.array(rgb(colour)) * (1 + 0.08 * (hash_noise(seed + 9, h, w)[where] - 0.5))[:, None]
        )
    return faces


def _legs(faces: list[U8], size: tuple[float, float, float], spread_x: float, front: float, back: float) -> list[Box]:
    height = size[1]
    places = (
        (-spread_x, back, ANIM_RIGHT_LEG),
        (spread_x, back, ANIM_LEFT_LEG),
        (-spread_x, front, ANIM_LEFT_LEG),
        (spread_x, front, ANIM_RIGHT_LEG),
    )
    return [
        Box((x, height, z), (-size[0] / 2, -height, -size[2] / 2), size, faces, anim=a, part="legs")
        for x, z, a in places
    ]


def _cow() -> Model:
    hide, white = "#443626", "#cfcfcf"
    head, body, leg, horn = (8.0, 8.0, 6.0), (12.0, 10.0, 18.0), (4.0, 12.0, 4.0), (1.0, 3.0, 1.0)
    face = _skin(hide, head, 500)
    front = face[5]
    _put(front, 0, 2, "#d8d8d8", 3, 4)
    _put(front, 3, 0, "#ffffff")
    _put(front, 3, 1, "#111111")
    _put(front, 3, 6, "#111111")
    _put(front, 3, 7, "#ffffff")
    _put(front, 5, 1, "#d3b7a7", 3, 6)
    _put(front, 6, 2, "#5c4238")
    _put(front, 6, 5, "#5c4238")
    hooves = _skin(hide, leg, 520)
    for k in (0, 1, 4, 5):
        hooves[k][-2:, :, :3] = rgb("#2b2320")
        hooves[k][6:9, 1:3, :3] = rgb(white)
    udder = (4.0, 1.0, 6.0)
    return Model(
        [
            Box((0, 20, 8), (-4, -4, 0), head, face, anim=ANIM_HEAD, part="head"),
            Box((0, 20, 8), (-5, 2, 2), horn, _skin("#d9d2b8", horn, 515), anim=ANIM_HEAD, part="head"),
            Box((0, 20, 8), (4, 2, 2), horn, _skin("#d9d2b8", horn, 516), anim=ANIM_HEAD, part="head"),
            Box((0, 12, 0), (-6, -1, -10), body, _blotch(_skin(hide, body, 530), white, 0.3, 540), part="body"),
            Box((0, 12, 0), (-2, -2, -9), udder, _skin("#d9a5a5", udder, 550), part="body"),
            *_legs(hooves, leg, 4, 6, -7),
        ],
        scale=1 / 16,
    )


def _pig() -> Model:
    pink = "#f0a5a2"
    head, snout, body, leg = (8.0, 8.0, 8.0), (4.0, 3.0, 1.0), (10.0, 8.0, 16.0), (4.0, 6.0, 4.0)
    face = _skin(pink, head, 600)
    front = face[5]
    _put(front, 3, 0, "#ffffff")
    _put(front, 3, 1, "#1a1414")
    _put(front, 3, 6, "#1a1414")
    _put(front, 3, 7, "#ffffff")
    nose = _skin("#e08f8c", snout, 610)
    _put(nose[5], 1, 0, "#8a4646")
    _put(nose[5], 1, 3, "#8a4646")
    hooves = _skin(pink, leg, 620)
    for k in (0, 1, 4, 5):
        hooves[k][-1, :, :3] = rgb("#a06460")
    return Model(
        [
            Box((0, 12, 6), (-4, -4, 0), head, face, anim=ANIM_HEAD, part="head"),
            Box((0, 12, 6), (-2, -3, 8), snout, nose, anim=ANIM_HEAD, part="head"),
            Box((0, 6, 0), (-5, 0, -8), body, _skin(pink, body, 630), part="body"),
            *_legs(hooves, leg, 3, 5, -6),
        ],
        scale=1 / 16,
    )


def _sheep() -> Model:
    wool, skin = "#e7e7e7", "#b79a86"
    head, fleece, body, leg, sock = (
        (6.0, 6.0, 8.0),
        (7.2, 7.2, 6.4),
        (11.0, 9.0, 19.0),
        (4.0, 6.0, 4.0),
        (5.0, 6.0, 5.0),
    )
    face = _skin(skin, head, 700)
    front = face[5]
    _put(front, 2, 0, "#ffffff")
    _put(front, 2, 1, "#141414")
    _put(front, 2, 4, "#141414")
    _put(front, 2, 5, "#ffffff")
    _put(front, 4, 2, "#e0a9a0", 2, 2)
    legs = [
        Box((x, 12, z), (-2, -12, -2), leg, _skin(skin, leg, 720), anim=a, part="legs")
        for x, z, a in ((-3, -7, 1), (3, -7, 2), (-3, 5, 2), (3, 5, 1))
    ]
    socks = [
        Box((x, 12, z), (-2.5, -6.5, -2.5), sock, _skin(wool, sock, 730, 0.14), anim=a, part="wool")
        for x, z, a in ((-3, -7, 1), (3, -7, 2), (-3, 5, 2), (3, 5, 1))
    ]
    return Model(
        [
            Box((0, 18, 8), (-3, -2, 0), head, face, anim=ANIM_HEAD, part="head"),
            Box((0, 18, 8), (-3.6, -2.4, -0.6), fleece, _skin(wool, fleece, 710, 0.14), anim=ANIM_HEAD, part="wool"),
            Box((0, 12, 0), (-5.5, -0.5, -9.5), body, _skin(wool, body, 740, 0.14), part="wool"),
            *legs,
            *socks,
        ],
        scale=1 / 16,
    )


def _zombie() -> Model:
    skin, shirt, trousers = "#5f8d4e", "#1f8b8b", "#3a3c93"
    head, body, limb = (8.0, 8.0, 8.0), (8.0, 12.0, 4.0), (4.0, 12.0, 4.0)
    face = _skin(skin, head, 800, 0.2)
    front = face[5]
    _put(front, 4, 1, "#0e1610", 1, 2)
    _put(front, 4, 5, "#0e1610", 1, 2)
    _put(front, 5, 3, "#46693a", 1, 2)
    _put(front, 6, 2, "#36522d", 1, 4)
    arm = _skin(skin, limb, 810, 0.2)
    for k in (0, 1, 3, 4, 5):
        arm[k][: 5 if k != 3 else 4, :, :3] = rgb(shirt)
    leg = _skin(trousers, limb, 820, 0.15)
    for k in (0, 1, 4, 5):
        leg[k][-2:, :, :3] = rgb("#54546a")
    chest = _skin(shirt, body, 830, 0.15)
    for k in (0, 1, 4, 5):
        chest[k][-1:, :, :3] = rgb(trousers)
    return Model(
        [
            Box((0, 24, 0), (-4, 0, -4), head, face, anim=ANIM_HEAD, part="head"),
            Box((0, 12, 0), (-4, 0, -2), body, chest, part="body"),
            Box((-5, 22, 0), (-3, -10, -2), limb, arm, anim=ANIM_ZOMBIE_ARM, part="arms"),
            Box((5, 22, 0), (-1, -10, -2), limb, arm, anim=ANIM_ZOMBIE_ARM, part="arms"),
            Box((-2, 12, 0), (-2, -12, -2), limb, leg, anim=ANIM_RIGHT_LEG, part="legs"),
            Box((2, 12, 0), (-2, -12, -2), limb, leg, anim=ANIM_LEFT_LEG, part="legs"),
        ]
    )


def _dye(colour: int) -> tuple[int, int, int]:
    """The channels of an E_COLOUR."""
    return (colour - 1) >> 16 & 255, (colour - 1) >> 8 & 255, (colour - 1) & 255


def _armor_stand(colour: int) -> Model:
    wood, stone = "#b0894f", "#9a9a9a"
    parts: list[tuple[str, tuple[float, float, float], tuple[float, float, float]]] = [
        (stone, (-6, 0, -6), (12.0, 1.0, 12.0)),
        (wood, (-2.9, 1, -1), (2.0, 11.0, 2.0)),
        (wood, (0.9, 1, -1), (2.0, 11.0, 2.0)),
        (wood, (-4, 12, -1), (8.0, 2.0, 2.0)),
        (wood, (-3, 14, -1), (2.0, 7.0, 2.0)),
        (wood, (1, 14, -1), (2.0, 7.0, 2.0)),
        (wood, (-6, 21, -1.5), (12.0, 3.0, 3.0)),
        (wood, (-1, 24, -1), (2.0, 7.0, 2.0)),
    ]
    boxes = [_box(c, (0, 0, 0), low, size, 900 + 7 * k, part="stand") for k, (c, low, size) in enumerate(parts)]
    for side in (-1, 1):
        turn = (-12, 0, side * 10)
        boxes.append(_box(wood, (side * 6, 22, 0), (-1, -11, -1), (2.0, 12.0, 2.0), 960, turn=turn, part="stand"))
    if colour:
        dye = _dye(colour)
        chest, sleeve = (10.0, 13.0, 6.0), (6.0, 8.0, 6.0)
        plate = _skin(dye, chest, 970, 0.2)
        plate[5][:3, 3:7, :3] = plate[4][:2, 4:6, :3].mean(axis=(0, 1)) * 0.55
        for k in (0, 1, 4, 5):
            plate[k][-2:-1, :, :3] = (plate[k][-2:-1, :, :3] * 0.7).astype(np.uint8)
        boxes.append(Box((0, 0, 0), (-5, 11.5, -3), chest, plate, part="plate"))
        for side in (-1, 1):
            arm = _skin(dye, sleeve, 980, 0.2)
            turn = (-12, 0, side * 10)
            boxes.append(Box((side * 6.5, 22, 0), (-3, -5.5, -3), sleeve, arm, turn=turn, part="plate"))
    return Model(boxes, scale=1 / 16)


# ---- items and the hand


def _cube(block_id: int, biome: str, pack: ResourcePack | None) -> list[U8]:
    layers = block_layers(biome, pack)
    return [layers.tile(block_id, face) for face in range(6)]


def _sheet(sprite: U8, depth: float, n: int) -> list[Box]:
    """A sprite with thickness: a stack of cut-out pictures, the inner ones darker."""
    boxes = []
    for k in range(n):
        picture = sprite.copy()
        if 0 < k < n - 1:
            picture[..., :3] = (picture[..., :3] * 0.78).astype(np.uint8)
        empty = np.zeros((1, 1, 4), dtype=np.uint8)
        z = -depth / 2 + depth * k / max(n - 1, 1)
        boxes.append(
            Box(
                (0, 0, 0),
                (-8, -8, z),
                (16.0, 16.0, 0.0),
                [empty, empty, empty, empty, picture[:, ::-1], picture],
                cutout=True,
            )
        )
    return boxes


def _item(index: int, biome: str, pack: ResourcePack | None) -> Model:
    """An item about its middle, 16 texels wide."""
    name = item_names()[index]
    block = catalogue().blocks.get(name)
    if block is None:
        return Model(_sheet(item_sprite(name, pack), 1.0, 5), scale=1 / 16)
    faces, cut = _cube(block.id, biome, pack), block.shape != "opaque"
    return Model([Box((0, 0, 0), (-8, -8, -8), (16.0, 16.0, 16.0), faces, cutout=cut)], scale=1 / 16)


def _arm() -> Model:
    """The player's right arm, in the game's own arm coordinates (x, y, z of the resting arm, y down its length)."""
    size = (4.0, 12.0, 4.0)
    faces = _skin("#b98366", size, 1000, 0.12)
    for k in (0, 1, 4, 5):
        faces[k][:4, :, :3] = np.round(np.array(rgb("#1f9c9c")) * (0.94 + 0.1 * hash_noise(1010, 4, 4))[..., None])
        faces[k][:] = faces[k][::-1].copy()  # the far end of the arm is its high y
    faces = [f.copy() for f in faces]
    return Model([Box((-5, 2, 0), (-3, -2, -2), size, faces)], scale=1 / 16)


# ---- resource packs


def _worn(model: Model, creature: str, variant: int, colour: int, pack: ResourcePack) -> Model:
    """The same boxes in a pack's skins; boxes whose skin the pack lacks stay as they are."""
    row = layout()["creatures"][creature]
    words = {}
    if creature == "villager":
        kind, job = _clothes(variant)
        words = {"type": kind.name, "profession": job.name}
    dye = _dye(colour) if colour else None
    skins = {name: pack.skin(creature, name, dye if skin.get("dyed") else None, **words)
             for name, skin in row["skins"].items()}
    boxes = []
    for k, box in enumerate(model.boxes):
        name, *place = row["boxes"][k] if k < len(row["boxes"]) else ("hat",)
        skin = skins.get(name)
        if skin is not None:
            box = _dressed(box, unfolded(skin, place, row["skins"][name]["size"][0]))
        if name != "hat" or skins.get("skin") is None:
            boxes.append(box)
    if creature == "villager" and (skin := skins["skin"]) is not None:
        apron = pack.pictures.get(f"entity/villager/profession/{words['profession']}")
        if apron is not None:
            for box, (_, *place) in zip(boxes, row["boxes"], strict=True):
                _mark_apron(box, unfolded(apron, place, 64))
        boxes += _worn_hat(skin)
    return Model(boxes, model.scale)


def _dressed(box: Box, faces: list[U8]) -> Box:
    cut = any((face[..., 3] == 0).any() for face in faces)
    details = [label[np.ix_(np.arange(face.shape[0]) * label.shape[0] // face.shape[0],
                            np.arange(face.shape[1]) * label.shape[1] // face.shape[1])]
               for face, label in zip(faces, box.labels(), strict=True)]
    return replace(box, faces=faces, cutout=cut, details=details)


def _mark_apron(box: Box, overlay: list[U8]) -> None:
    """Of a villager's clothes, what its profession covers is the apron and the rest the robe."""
    robe, apron = _part("robe"), _part("apron")
    assert box.details is not None
    for label, cover in zip(box.details, overlay, strict=True):
        times = label.shape[0] // cover.shape[0]
        seen = np.repeat(np.repeat(cover[..., 3] > 0, times, axis=0), times, axis=1)
        clothes = (label == robe) | (label == apron)
        label[clothes] = np.where(seen[clothes], apron, robe)


def _worn_hat(skin: U8) -> list[Box]:
    """The second layer of the head and the rim, where a skin shows any of them."""
    head = unfolded(skin, layout()["hat"]["head"], 64)
    sides = unfolded(skin, layout()["hat"]["rim"], 64)
    # The rim is painted upright and lies flat: its front is on top, its upper edge behind.
    rim = [sides[k] for k in (0, 1, 4, 5, 3, 2)]
    found = [Box((0, 24, 0), (-4.51, -0.51, -4.51), (9.02, 11.02, 9.02), head, anim=ANIM_HEAD, part="hat", cutout=True),
             Box((0, 24, 0), (-8, 5, -8), (16.0, 1.0, 16.0), rim, anim=ANIM_HEAD, part="hat", cutout=True)]
    return [box for box in found if any(face[..., 3].any() for face in box.faces)]


class Models:
    """Every model used so far, packed for the rasteriser; grows when a new one is first seen.

    Attributes:
        parts: float64 [n, PART_COLUMNS].
        part_faces: int32 [n, 6, 3]: first texel, width, height of each face.
        table: int32 [m, 2]: first part and number of parts of a model.
        scales: float64 [m]: blocks per texel.
        texels: uint32 [t], 0xAABBGGRR.
        texel_parts: uint8 [t]: the part that a texel belongs to, named by ``part_names``.
        most_boxes: number of boxes of the largest model.
    """

    def __init__(self, biome: str, pack: ResourcePack | None = None) -> None:
        self._biome, self._pack = biome, pack
        self._lock = threading.Lock()
        self._known: dict[tuple[int, int, int], int] = {}
        self._rows: list[list[float]] = []
        self._faces: list[list[tuple[int, int, int]]] = []
        self._ranges: list[tuple[int, int]] = []
        self._scales: list[float] = []
        self._texels: list[npt.NDArray[np.uint32]] = []
        self._labels: list[U8] = []
        self._n_texels = 0
        self.version = 0
        self.most_boxes = 0
        self.hand = self.number(-1, 0, 0)

    def number(self, kind: int, variant: int, colour: int) -> int:
        """The number of a model, built if it is new."""
        key = (kind, variant, colour)
        found = self._known.get(key)
        if found is not None:
            return found
        with self._lock:  # several worlds of one process draw at once
            if key not in self._known:
                number = len(self._ranges)
                self._add(self._make(kind, variant, colour))
                self._known[key] = number
        return self._known[key]

    def _make(self, kind: int, variant: int, colour: int) -> Model:
        if kind == ITEM_KIND:
            return _item(variant % len(item_names()), self._biome, self._pack)
        own = self._own(kind, variant, colour)
        if self._pack is None:
            return own
        names = {-1: "hand"} | {creature.id: creature.name for creature in catalogue().creatures.values()}
        return _worn(own, names[kind], variant, colour, self._pack)

    @staticmethod
    def _own(kind: int, variant: int, colour: int) -> Model:
        if kind == -1:
            return _arm()
        if kind == 6:
            return _armor_stand(colour)
        if kind == 1:
            return _villager(variant)
        animals = {2: _cow, 3: _pig, 4: _sheep, 5: _zombie}
        if kind not in animals:
            raise WorldError(
                f"entity kind {kind}: expected a creature id of creatures.yaml (1..6) or {ITEM_KIND}, an item"
            )
        return animals[kind]()

    def _add(self, model: Model) -> None:
        self._ranges.append((len(self._rows), len(model.boxes)))
        self.most_boxes = max(self.most_boxes, len(model.boxes))
        self._scales.append(model.scale)
        for box in model.boxes:
            turn = [a * (math.pi / 180.0) for a in box.turn]
            self._rows.append([*box.pivot, *box.low, *box.size, *turn, float(box.anim), float(box.cutout)])
            faces = []
            for face, label in zip(box.faces, box.labels(), strict=True):
                faces.append((self._n_texels, face.shape[1], face.shape[0]))
                self._texels.append(np.ascontiguousarray(face).view(np.uint32).reshape(-1))
                self._labels.append(label.reshape(-1))
                self._n_texels += face.shape[0] * face.shape[1]
            self._faces.append(faces)
        self.parts = np.array(self._rows, dtype=np.float64)
        self.part_faces = np.array(self._faces, dtype=np.int32)
        self.table = np.array(self._ranges, dtype=np.int32)
        self.scales = np.array(self._scales, dtype=np.float64)
        self.texels = np.concatenate(self._texels)
        self.texel_parts = np.concatenate(self._labels)
        self.version += 1


@functools.cache
def models(biome: str, pack: ResourcePack | None = None) -> Models:
    """The models of a biome (grass and leaves as items carry its tint), in a pack's skins where it has them."""
    return Models(biome, pack)
