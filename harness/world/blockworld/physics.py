"""Bodies among blocks: cells, collision, the crosshair's ray, chance. Compiled; every block is a full cube.

``part`` functions, compiled into the kernels of ``rules.py`` that call them.
"""

from __future__ import annotations

import math

import numpy as np

from harness.world.blockworld.compiling import part

__all__ = [
    "block_at", "clip", "cosine", "draw", "fits", "hit_box", "move", "ray", "set_block", "sine",
    "solid", "touches_water",
]

_EDGE = 1e-7
_X, _Y, _Z = np.int64(0), np.int64(1), np.int64(2)  # typed: a literal would compile the callee once per value
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11, _ONE = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11), np.uint64(1)


@part
def block_at(space, x, y, z):  # type: ignore[no-untyped-def]
    """The block id at a cell, stored or not."""
    i, j, k = x - space.bounds[0], y - space.bounds[1], z - space.bounds[2]
    ny, nz, nx = space.voxels.shape
    if 0 <= i < nx and 0 <= j < ny and 0 <= k < nz:
        return np.int64(space.voxels[j, k, i])
    return space.bounds[3] if y <= space.bounds[4] else np.int64(0)


@part
def set_block(space, x, y, z, block):  # type: ignore[no-untyped-def]
    """Change a stored cell and mark the meshes around it stale; False outside the stored box."""
    i, j, k = x - space.bounds[0], y - space.bounds[1], z - space.bounds[2]
    ny, nz, nx = space.voxels.shape
    if not (0 <= i < nx and 0 <= j < ny and 0 <= k < nz):
        return False
    space.voxels[j, k, i] = block
    rows, columns = space.dirty.shape
    for a in (-1, 1):
        for b in (-1, 1):
            row, column = (k + a) // 16, (i + b) // 16
            if 0 <= row < rows and 0 <= column < columns:
                space.dirty[row, column] = True
    return True


@part
def solid(space, x, y, z):  # type: ignore[no-untyped-def]
    """Whether bodies collide with a cell."""
    return space.rows.blocks[block_at(space, x, y, z)].solid != 0


@part
def sine(space, degrees):  # type: ignore[no-untyped-def]
    """Sine from the table: the same bits on every machine."""
    return space.rows.sine[np.int64(math.floor(degrees * (65536.0 / 360.0))) & 65535]


@part
def cosine(space, degrees):  # type: ignore[no-untyped-def]
    """Cosine from the table."""
    return space.rows.sine[np.int64(math.floor(degrees * (65536.0 / 360.0) + 16384.0)) & 65535]


@part
def draw(clock):  # type: ignore[no-untyped-def]
    """The next number in [0, 1) of the world's own stream: a hash (splitmix64) of its key and a counter."""
    clock.rng_count = clock.rng_count + _ONE
    z = clock.rng_key + clock.rng_count * _STEP
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    z = z ^ (z >> _S31)
    return np.float64(z >> _S11) * (1.0 / 9007199254740992.0)


@part
def fits(space, x, y, z, width, height):  # type: ignore[no-untyped-def]
    """Whether a body with its feet at a point overlaps no solid cell."""
    half = width / 2.0
    for cy in range(math.floor(y + _EDGE), math.ceil(y + height - _EDGE)):
        for cz in range(math.floor(z - half + _EDGE), math.ceil(z + half - _EDGE)):
            for cx in range(math.floor(x - half + _EDGE), math.ceil(x + half - _EDGE)):
                if solid(space, cx, cy, cz):
                    return False
    return True


@part
def touches_water(space, x, y, z, width, height):  # type: ignore[no-untyped-def]
    """Whether a body reaches into water."""
    half = width / 2.0 - 0.001
    for cy in range(math.floor(y + 0.001), math.ceil(y + height - 0.001)):
        for cz in range(math.floor(z - half), math.ceil(z + half)):
            for cx in range(math.floor(x - half), math.ceil(x + half)):
                if space.rows.blocks[block_at(space, cx, cy, cz)].liquid != 0:
                    return True
    return False


@part
def _blocked(space, axis, a, b0, b1, c0, c1):  # type: ignore[no-untyped-def]
    for b in range(math.floor(b0 + _EDGE), math.ceil(b1 - _EDGE)):
        for c in range(math.floor(c0 + _EDGE), math.ceil(c1 - _EDGE)):
            if axis == 0:
                hit = solid(space, a, b, c)
            elif axis == 1:
                hit = solid(space, b, a, c)
            else:
                hit = solid(space, b, c, a)
            if hit:
                return True
    return False


@part
def clip(space, axis, low, high, b0, b1, c0, c1, step):  # type: ignore[no-untyped-def]
    """How far of ``step`` a body spanning [low, high] on ``axis`` can go; b and c are the other axes, in xyz order."""
    if step < 0.0:
        for cell in range(math.floor(low + _EDGE) - 1, math.floor(low + step) - 1, -1):
            if _blocked(space, axis, cell, b0, b1, c0, c1):
                return min(0.0, max(step, cell + 1.0 - low))
    elif step > 0.0:
        for cell in range(math.ceil(high - _EDGE), math.ceil(high + step)):
            if _blocked(space, axis, cell, b0, b1, c0, c1):
                return max(0.0, min(step, cell - high))
    return step


@part
def move(space, x, y, z, width, height, dx, dy, dz):  # type: ignore[no-untyped-def]
    """Slide a body: first y, then the larger of x and z, then the other.

    Returns:
        The new x, y, z, and for each axis whether something was in the way.
    """
    half = width / 2.0
    gone_y = clip(space, _Y, y, y + height, x - half, x + half, z - half, z + half, dy)
    y += gone_y
    z_first = abs(dx) < abs(dz)
    gone_x, gone_z = dx, dz
    for turn in range(2):
        if (turn == 0) == z_first:
            gone_z = clip(space, _Z, z - half, z + half, x - half, x + half, y, y + height, dz)
            z += gone_z
        else:
            gone_x = clip(space, _X, x - half, x + half, y, y + height, z - half, z + half, dx)
            x += gone_x
    return x, y, z, gone_x != dx, gone_y != dy, gone_z != dz


@part
def hit_box(ox, oy, oz, dx, dy, dz, x0, y0, z0, x1, y1, z1):  # type: ignore[no-untyped-def]
    """Distance along a ray to a box, 0 from inside it, -1 when it misses (slab method)."""
    near, far = 0.0, 1e30
    for axis in range(3):
        if axis == 0:
            o, d, low, high = ox, dx, x0, x1
        elif axis == 1:
            o, d, low, high = oy, dy, y0, y1
        else:
            o, d, low, high = oz, dz, z0, z1
        if d == 0.0:
            if o < low or o > high:
                return -1.0
            continue
        a, b = (low - o) / d, (high - o) / d
        near = max(near, min(a, b))
        far = min(far, max(a, b))
    return near if near <= far else -1.0


@part
def ray(space, ox, oy, oz, dx, dy, dz, reach):  # type: ignore[no-untyped-def]
    """The first block on a ray, cell by cell (Amanatides and Woo).

    Returns:
        distance (-1: none), cell x, y, z, and the face it entered by: 0..5 for -x +x -y +y -z +z.
    """
    x, y, z = math.floor(ox), math.floor(oy), math.floor(oz)
    sx, sy, sz = (1 if dx > 0 else -1), (1 if dy > 0 else -1), (1 if dz > 0 else -1)
    wx = abs(1.0 / dx) if dx != 0.0 else 1e30
    wy = abs(1.0 / dy) if dy != 0.0 else 1e30
    wz = abs(1.0 / dz) if dz != 0.0 else 1e30
    tx = (x + 1 - ox if dx > 0 else ox - x) * wx if dx != 0.0 else 1e30
    ty = (y + 1 - oy if dy > 0 else oy - y) * wy if dy != 0.0 else 1e30
    tz = (z + 1 - oz if dz > 0 else oz - z) * wz if dz != 0.0 else 1e30
    distance, face = 0.0, 3
    while distance <= reach:
        if space.rows.blocks[block_at(space, x, y, z)].target != 0:
            return distance, x, y, z, face
        if tx <= ty and tx <= tz:
            distance, x, tx = tx, x + sx, tx + wx
            face = 0 if sx > 0 else 1
        elif ty <= tz:
            distance, y, ty = ty, y + sy, ty + wy
            face = 2 if sy > 0 else 3
        else:
            distance, z, tz = tz, z + sz, tz + wz
            face = 4 if sz > 0 else 5
    return -1.0, x, y, z, face
