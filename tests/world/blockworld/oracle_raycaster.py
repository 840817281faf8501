"""A second renderer, written independently: one ray a pixel, stepped from voxel to voxel, in double precision.

It shares the tables of the rasteriser (textures, boxes of the creatures) and none of its geometry: no meshes, no
projection, no sorting. What it knows is the contract: which faces exist, how textures lie on them, how creatures stand.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from harness.scenario.catalogue import catalogue
from harness.world.blockworld.grid import Grid
from harness.world.blockworld.models import (
    ANIM_HEAD,
    ANIM_LEFT_LEG,
    ANIM_RIGHT_LEG,
    ANIM_ZOMBIE_ARM,
    ITEM_KIND,
    models,
)
from harness.world.blockworld.textures import texture
from harness.world.blockworld.view import (
    E_AGE,
    E_COLOUR,
    E_HEAD_PITCH,
    E_HEAD_YAW,
    E_HURT,
    E_ID,
    E_KIND,
    E_SWING,
    E_VARIANT,
    E_X,
    E_Y,
    E_YAW,
    E_Z,
    View,
)

SKY = 1e9


def rotation(axis: int, degrees: float) -> np.ndarray:
    """Turn about an axis: x pitches forward, y turns as yaw does, z leans from x to y."""
    a = math.radians(degrees)
    c, s = math.cos(a), math.sin(a)
    if axis == 0:
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    if axis == 1:
        return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def creature_boxes(view: View) -> np.ndarray:
    """Every box as [n, 19]: id, inverse matrix (9), origin (3), low (3), high (3)."""
    table = models(view.biome)
    rows = []
    for e in view.entities:
        model = table.number(int(e[E_KIND]), int(e[E_VARIANT]), int(e[E_COLOUR]))
        first, count = table.table[model]
        feet, scale, yaw = np.array([e[E_X], e[E_Y], e[E_Z]]), table.scales[model], e[E_YAW]
        if e[E_KIND] == ITEM_KIND:
            scale = scale * 0.25
            feet = feet + np.array([0, 0.22 + 0.1 * math.sin(e[E_AGE] / 10), 0])
            yaw = math.degrees(e[E_AGE] / 20)
        body = rotation(1, yaw) @ rotation(2, max(e[E_HURT] - 10, 0) * 90 if e[E_HURT] >= 10 else 0)
        for part in table.parts[first : first + count]:
            pivot, low, size, turn, anim = part[0:3], part[3:6], part[6:9], np.degrees(part[9:12]), int(part[12])
            swing = math.degrees(math.sin(e[E_SWING]))
            turn = turn.copy()
            if anim == ANIM_RIGHT_LEG:
                turn[0] += swing
            elif anim == ANIM_LEFT_LEG:
                turn[0] -= swing
            elif anim == ANIM_HEAD:
                turn[0] += e[E_HEAD_PITCH]
                turn[1] += e[E_HEAD_YAW] - e[E_YAW]
            elif anim == ANIM_ZOMBIE_ARM:
                turn[0] -= math.degrees(1.45) + 0.12 * swing
            matrix = body @ rotation(2, turn[2]) @ rotation(1, turn[1]) @ rotation(0, turn[0]) * scale
            origin = feet + body @ pivot * scale
            rows.append([e[E_ID], *np.linalg.inv(matrix).ravel(), *origin, *low, *(low + size)])
    return np.array(rows, dtype=np.float64).reshape(-1, 19)


def face_masks() -> tuple[np.ndarray, np.ndarray]:
    """Kind of each block (0 air, 1 opaque, 2 leaves, 3 glass, 4 seen through) and its opaque texels [256, 16, 16]."""
    kind = np.zeros(256, dtype=np.int64)
    solid = np.ones((256, 16, 16), dtype=np.bool_)
    for block in catalogue().blocks.values():
        kind[block.id] = {"none": 0, "opaque": 1, "cutout": 2, "translucent": 4}[block.shape]
        if block.shape == "cutout":
            solid[block.id] = texture(block.face_texture("side"))[..., 3] >= 128
            if "glass" in block.name:
                kind[block.id] = 3
    return kind, solid


@njit(cache=True)
def _block(voxels, origin, ground, ground_y, x, y, z):
    ix, iy, iz = x - origin[0], y - origin[1], z - origin[2]
    if 0 <= ix < voxels.shape[2] and 0 <= iy < voxels.shape[0] and 0 <= iz < voxels.shape[1]:
        return np.int64(voxels[iy, iz, ix])
    return ground if y <= ground_y else 0


@njit(cache=True)
def _cast(
    eye, axes, half_height, width, height, voxels, origin, ground, ground_y, kind, solid, boxes, far, ids, depths
):
    for row in range(height):
        for column in range(width):
            a = (column + 0.5 - width / 2) / (height / 2) * half_height
            b = (height / 2 - row - 0.5) / (height / 2) * half_height
            ray = axes[2] + axes[0] * a + axes[1] * b
            best, found = SKY, 0
            for k in range(boxes.shape[0]):
                enter, leave = -1e30, 1e30
                hit = True
                for i in range(3):
                    start, along = 0.0, 0.0
                    for j in range(3):
                        start += boxes[k, 1 + 3 * i + j] * (eye[j] - boxes[k, 10 + j])
                        along += boxes[k, 1 + 3 * i + j] * ray[j]
                    if along == 0.0:
                        hit = hit and boxes[k, 13 + i] <= start <= boxes[k, 16 + i]
                        continue
                    t0, t1 = (boxes[k, 13 + i] - start) / along, (boxes[k, 16 + i] - start) / along
                    enter, leave = max(enter, min(t0, t1)), min(leave, max(t0, t1))
                if hit and enter < leave and 0.0 < enter < best:
                    best, found = enter, int(boxes[k, 0])
            x, y, z = math.floor(eye[0]), math.floor(eye[1]), math.floor(eye[2])
            cell = np.array([x, y, z])
            before = _block(voxels, origin, ground, ground_y, cell[0], cell[1], cell[2])
            while True:
                axis, t = 0, 1e30
                for i in range(3):
                    if ray[i] != 0.0:
                        edge = (cell[i] + (1 if ray[i] > 0 else 0) - eye[i]) / ray[i]
                        if edge < t:
                            axis, t = i, edge
                if t >= best or t > far:
                    break
                cell[axis] += 1 if ray[axis] > 0 else -1
                block = _block(voxels, origin, ground, ground_y, cell[0], cell[1], cell[2])
                if block != 0 and not (kind[block] >= 3 and block == before):
                    u = eye[2] + t * ray[2] - cell[2] if axis == 0 else eye[0] + t * ray[0] - cell[0]
                    v = eye[2] + t * ray[2] - cell[2] if axis == 1 else 1.0 - (eye[1] + t * ray[1] - cell[1])
                    if (axis == 0 and ray[0] < 0) or (axis == 2 and ray[2] > 0):
                        u = 1.0 - u
                    iu, iv = min(max(int(u * 16), 0), 15), min(max(int(v * 16), 0), 15)
                    if solid[block, iv, iu]:
                        best, found = t, block
                        break
                before = block
            ids[row, column] = found
            depths[row, column] = best


def cast(grid: Grid, view: View, width: int = 640, height: int = 360, fov: float = 70.0, far: float = 120.0):
    """(ids int64 [H, W], depth float64 [H, W]) of a view; beyond ``far`` along the axis counts as sky."""
    yaw, pitch = math.radians(view.yaw), math.radians(view.pitch)
    forward = np.array([-math.sin(yaw) * math.cos(pitch), -math.sin(pitch), math.cos(yaw) * math.cos(pitch)])
    right = np.array([-math.cos(yaw), 0.0, -math.sin(yaw)])
    axes = np.array([right, np.cross(right, forward), forward])
    kind, solid = face_masks()
    ids, depths = np.zeros((height, width), dtype=np.int64), np.zeros((height, width))
    _cast(
        np.array(view.eye, dtype=np.float64),
        axes,
        math.tan(math.radians(fov / 2)),
        width,
        height,
        grid.voxels,
        grid.origin,
        grid.ground,
        grid.ground_y,
        kind,
        solid,
        creature_boxes(view),
        far,
        ids,
        depths,
    )
    return ids, depths
