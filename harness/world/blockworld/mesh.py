"""Block faces as textured rectangles: sky light, ambient occlusion and greedy meshing, chunk by chunk.

Each chunk is meshed by itself from the padded voxel and light arrays, so the mesh depends on the world only and never
on the order of its edits. Light and occlusion are baked into a light map of 4 x 4 samples per block face, which
leaves rectangles free to merge over cells of different brightness.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators
# (compiled functions take what numba infers)

from __future__ import annotations

import functools
import weakref

import numpy as np
import numpy.typing as npt
from numba import njit

from harness.scenario.catalogue import catalogue
from harness.world.blockworld.grid import CHUNK, Grid

__all__ = [
    "AIR",
    "CLEAR",
    "CUTOUT",
    "FACE_AXES",
    "IDENTITY_LIGHT",
    "OPAQUE",
    "QUAD_COLUMNS",
    "Q_BLOCK",
    "Q_FACE",
    "Q_HI_U",
    "Q_HI_V",
    "Q_KIND",
    "Q_LIGHT",
    "Q_LIGHT_STRIDE",
    "Q_LO_U",
    "Q_LO_V",
    "Q_PLANE",
    "TRANSLUCENT",
    "WorldMesh",
    "world_mesh",
]

AIR, OPAQUE, CUTOUT, CLEAR, TRANSLUCENT = 0, 1, 2, 3, 4  # CLEAR: cut out, hides its own kind (glass)

# Columns of a rectangle: plane and extents are world coordinates along the face's axes.
Q_FACE, Q_PLANE, Q_LO_U, Q_HI_U, Q_LO_V, Q_HI_V, Q_BLOCK, Q_KIND, Q_LIGHT, Q_LIGHT_STRIDE = range(10)
QUAD_COLUMNS = 10

# Per face (-x +x -y +y -z +z): normal axis, u axis, u sign, v axis, v sign. Seen from outside, u runs right, v down.
FACE_AXES = np.array(
    [
        [0, 2, 1, 1, -1],
        [0, 2, -1, 1, -1],
        [1, 0, 1, 2, 1],
        [1, 0, 1, 2, 1],
        [2, 0, -1, 1, -1],
        [2, 0, 1, 1, -1],
    ],
    dtype=np.int64,
)

IDENTITY_LIGHT = 256  # the first entries of the light map are 0..255 themselves: constant light for creatures

U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]


@functools.cache
def _block_kinds() -> U8:
    """uint8 [256]: how a block id hides its neighbours."""
    kinds = np.zeros(256, dtype=np.uint8)
    for block in catalogue().blocks.values():
        kinds[block.id] = {"none": AIR, "opaque": OPAQUE, "cutout": CUTOUT, "translucent": TRANSLUCENT}[block.shape]
        if block.shape == "cutout" and "glass" in block.name:
            kinds[block.id] = CLEAR
    return kinds


@njit(cache=True, nogil=True, error_model="numpy")
def _grown(queue):
    """The same entries in an array of twice the length."""
    longer = np.empty(2 * queue.shape[0], np.int64)
    for i in range(queue.shape[0]):
        longer[i] = queue[i]
    return longer


@njit(cache=True, nogil=True, error_model="numpy")
def _sky_light(cells, kinds, opacity, around):
    """Light 0..15 of every padded cell [Y, Z, X]: down the columns, then spreading one step darker per cell."""
    ny, nz, nx = cells.shape
    light = np.zeros((ny, nz, nx), np.uint8)
    top = 0
    for y in range(ny):
        for z in range(nz):
            for x in range(nx):
                if cells[y, z, x] != 0:
                    top = y
    for y in range(ny - 1, -1, -1):
        for z in range(nz):
            for x in range(nx):
                kind = kinds[cells[y, z, x]]
                if kind != OPAQUE:
                    above = 15 if y == ny - 1 else light[y + 1, z, x]
                    lower = opacity[kind]
                    light[y, z, x] = above - lower if above > lower else 0
    queue = np.empty(1 << 14, np.int64)
    tail = 0
    for y in range(min(top + 2, ny)):
        for z in range(nz):
            for x in range(nx):
                level = light[y, z, x]
                if level < 2:
                    continue
                for d in range(6):
                    yy, zz, xx = y + around[d, 0], z + around[d, 1], x + around[d, 2]
                    if yy < 0 or yy >= ny or zz < 0 or zz >= nz or xx < 0 or xx >= nx:
                        continue
                    kind = kinds[cells[yy, zz, xx]]
                    if kind != OPAQUE and light[yy, zz, xx] + 1 + opacity[kind] < level:
                        if tail == queue.shape[0]:
                            queue = _grown(queue)
                        queue[tail] = (y * nz + z) * nx + x
                        tail += 1
                        break
    head = 0
    while head < tail:
        place = queue[head]
        head += 1
        x = place % nx
        z = (place // nx) % nz
        y = place // (nx * nz)
        level = light[y, z, x]
        for d in range(6):
            yy, zz, xx = y + around[d, 0], z + around[d, 1], x + around[d, 2]
            if yy < 0 or yy >= ny or zz < 0 or zz >= nz or xx < 0 or xx >= nx:
                continue
            kind = kinds[cells[yy, zz, xx]]
            if kind == OPAQUE:
                continue
            reach = np.int64(level) - 1 - np.int64(opacity[kind])
            if reach > light[yy, zz, xx]:
                light[yy, zz, xx] = reach
                if reach > 1:
                    if tail == queue.shape[0]:
                        queue = _grown(queue)
                    queue[tail] = (yy * nz + zz) * nx + xx
                    tail += 1
    return light


@njit(cache=True, nogil=True, error_model="numpy")
def _shown(own, other, kinds):
    """Whether the face of block ``own`` towards block ``other`` can be seen."""
    kind = kinds[own]
    if kind == AIR:
        return False
    towards = kinds[other]
    if towards == OPAQUE:
        return False
    return not (kind in (TRANSLUCENT, CLEAR) and own == other)


@njit(cache=True, nogil=True, error_model="numpy")
def _corner(cells, light, kinds, cell, axis_a, da, axis_b, db):
    """(occlusion 0..1, light 0..15) at a corner of a face: the mean over the four cells before it that touch it."""
    open_cells = 0.0
    total = 0.0
    lit = 0
    blocked_a = False
    blocked_b = False
    p = np.empty(3, np.int64)
    for k in range(4):
        p[0], p[1], p[2] = cell[0], cell[1], cell[2]
        if k == 1 or k == 3:
            p[axis_a] += da
        if k == 2 or k == 3:
            p[axis_b] += db
        x = min(max(p[0], 0), cells.shape[2] - 1)
        y = min(max(p[1], 0), cells.shape[0] - 1)
        z = min(max(p[2], 0), cells.shape[1] - 1)
        kind = kinds[cells[y, z, x]]
        solid = kind == OPAQUE
        if k == 1:
            blocked_a = solid
        elif k == 2:
            blocked_b = solid
        hidden = k == 3 and blocked_a and blocked_b
        open_cells += 0.2 if hidden or solid or kind == CUTOUT else 1.0
        if not solid and not hidden:
            total += light[y, z, x]
            lit += 1
    return open_cells * 0.25, total / max(lit, 1)


@njit(cache=True, nogil=True, error_model="numpy")
def _bake(cells, light, kinds, front, face, axes, out, start, stride):
    """Write the 4 x 4 light samples of one face: high nibble occlusion, low nibble light."""
    ua, us, va, vs = axes[face, 1], axes[face, 2], axes[face, 3], axes[face, 4]
    a = np.empty(4, np.float64)
    s = np.empty(4, np.float64)
    for k in range(4):
        a[k], s[k] = _corner(cells, light, kinds, front, ua, us if k & 1 else -us, va, vs if k & 2 else -vs)
    for j in range(4):
        fv = (j + 0.5) * 0.25
        for i in range(4):
            fu = (i + 0.5) * 0.25
            open_sky = (a[0] * (1 - fu) + a[1] * fu) * (1 - fv) + (a[2] * (1 - fu) + a[3] * fu) * fv
            level = (s[0] * (1 - fu) + s[1] * fu) * (1 - fv) + (s[2] * (1 - fu) + s[3] * fu) * fv
            step = min(max(int((open_sky - 0.2) * (15.0 / 0.8) + 0.5), 0), 15)
            out[start + j * stride + i] = step * 16 + min(int(level + 0.5), 15)


@njit(cache=True, nogil=True, error_model="numpy")
def _mesh_chunk(cells, light, kinds, axes, origin, lo, hi, quads, lights, counts):
    """Mesh the padded cells ``lo <= (x, y, z) < hi``; returns (rectangles, light samples) needed.

    Faces come in twelve groups: six directions of the solid and cut-out blocks, then six of the translucent ones;
    ``counts`` [12] says how many each. When an array is too small nothing more is written and the caller grows it.
    """
    ny, nz, nx = cells.shape
    size = (nx, ny, nz)
    n_quads = 0
    n_lights = 0
    widest = max(max(hi[0] - lo[0], hi[1] - lo[1]), hi[2] - lo[2])
    mask = np.zeros((widest, widest), np.int32)
    p = np.empty(3, np.int64)
    front = np.empty(3, np.int64)
    for group in range(12):
        face = group % 6
        through = group >= 6
        na, ua, us, va, vs = axes[face, 0], axes[face, 1], axes[face, 2], axes[face, 3], axes[face, 4]
        step = 1 if face % 2 == 1 else -1
        first = n_quads
        nu = hi[ua] - lo[ua]
        nv = hi[va] - lo[va]
        # the rim of the grid: outside ground shows its faces towards the inside
        n_lo = lo[na] - 1 if (step == 1 and lo[na] == 1) else lo[na]
        n_hi = hi[na] + 1 if (step == -1 and hi[na] == size[na] - 1) else hi[na]
        for n in range(n_lo, n_hi):
            if n + step < 0 or n + step >= size[na]:
                continue
            seen = False
            for j in range(nv):
                for i in range(nu):
                    p[na], p[ua], p[va] = n, lo[ua] + i, lo[va] + j
                    own = cells[p[1], p[2], p[0]]
                    mask[j, i] = 0
                    if own != 0:
                        p[na] += step
                        if (kinds[own] == TRANSLUCENT) == through and _shown(own, cells[p[1], p[2], p[0]], kinds):
                            mask[j, i] = own
                            seen = True
            if not seen:
                continue
            for j in range(nv):
                i = 0
                while i < nu:
                    key = mask[j, i]
                    if key == 0:
                        i += 1
                        continue
                    w = 1
                    h = 1
                    if not through:
                        while i + w < nu and mask[j, i + w] == key:
                            w += 1
                        grows = True
                        while grows and j + h < nv:
                            for k in range(w):
                                if mask[j + h, i + k] != key:
                                    grows = False
                                    break
                            if grows:
                                h += 1
                    stride = 4 * w
                    if n_quads < quads.shape[0] and n_lights + 16 * w * h <= lights.shape[0]:
                        q = quads[n_quads]
                        q[Q_FACE] = face
                        q[Q_PLANE] = n - 1 + origin[na] + (1 if step == 1 else 0)
                        q[Q_LO_U] = lo[ua] + i - 1 + origin[ua]
                        q[Q_HI_U] = q[Q_LO_U] + w
                        q[Q_LO_V] = lo[va] + j - 1 + origin[va]
                        q[Q_HI_V] = q[Q_LO_V] + h
                        q[Q_BLOCK] = key
                        q[Q_KIND] = kinds[key]
                        q[Q_LIGHT] = n_lights
                        q[Q_LIGHT_STRIDE] = stride
                        for jj in range(h):
                            for ii in range(w):
                                front[na], front[ua], front[va] = n + step, lo[ua] + i + ii, lo[va] + j + jj
                                tu = ii if us == 1 else w - 1 - ii
                                tv = jj if vs == 1 else h - 1 - jj
                                _bake(
                                    cells,
                                    light,
                                    kinds,
                                    front,
                                    face,
                                    axes,
                                    lights,
                                    n_lights + 4 * tv * stride + 4 * tu,
                                    stride,
                                )
                    n_quads += 1
                    n_lights += 16 * w * h
                    for jj in range(h):
                        for ii in range(w):
                            mask[j + jj, i + ii] = 0
                    i += w
        counts[group] = n_quads - first
    return n_quads, n_lights


class WorldMesh:
    """The mesh of one grid, kept up to date from ``grid.dirty``; shared by all renderers of that grid.

    Attributes:
        quads: int32 [n, QUAD_COLUMNS], group after group; the last four are the ground outside the grid.
        lights: uint8 [m]: 256 identity entries, then the light maps.
        groups: int32 [g, 9]: first, count, direction (+6 translucent), then the box x0, z0, x1, z1, y0, y1.
        cells, light: the padded copies [Y + 2, Z + 2, X + 2].
    """

    def __init__(self, grid: Grid) -> None:
        self.shape = ny, nz, nx = grid.voxels.shape
        self._ground = grid.ground
        self.origin = grid.origin.astype(np.int64)
        self.cells = np.zeros((ny + 2, nz + 2, nx + 2), dtype=np.uint8)
        depth = int(np.clip(grid.ground_y - int(grid.origin[1]) + 2, 0, ny + 2))
        self.cells[:depth] = grid.ground
        self.cells[1:-1, 1:-1, 1:-1] = 0
        self.light = np.zeros_like(self.cells)
        self._chunks: dict[tuple[int, int], tuple[I32, U8, I32]] = {}
        self._scratch = (np.zeros((4096, QUAD_COLUMNS), dtype=np.int32), np.zeros(1 << 17, dtype=np.uint8))
        self._plain = _plain_quads(grid)
        self.quads = np.zeros((0, QUAD_COLUMNS), dtype=np.int32)
        self.lights = np.zeros(0, dtype=np.uint8)
        self.groups = np.zeros((0, 9), dtype=np.int32)

    def refresh(self, grid: Grid) -> None:
        """Mesh again what changed, and clear the grid's marks."""
        stale = grid.dirty.copy()
        grid.dirty[...] = False
        for cz, cx in np.argwhere(stale):
            zs, xs = slice(cz * CHUNK, (cz + 1) * CHUNK), slice(cx * CHUNK, (cx + 1) * CHUNK)
            self.cells[1:-1, 1 + cz * CHUNK : 1 + (cz + 1) * CHUNK, 1 + cx * CHUNK : 1 + (cx + 1) * CHUNK] = (
                grid.voxels[:, zs, xs]
            )
        light = _sky_light(self.cells, _block_kinds(), _OPACITY, _AROUND)
        changed = (light != self.light).any(axis=0)
        self.light = light
        for cz, cx in np.ndindex(*stale.shape):
            around = changed[cz * CHUNK : (cz + 1) * CHUNK + 2, cx * CHUNK : (cx + 1) * CHUNK + 2]
            if stale[cz, cx] or around.any():
                self._chunks[int(cz), int(cx)] = self._mesh(int(cz), int(cx))
        self._join()

    def _mesh(self, cz: int, cx: int) -> tuple[I32, U8, I32]:
        lo = np.array([1 + cx * CHUNK, 1, 1 + cz * CHUNK], dtype=np.int64)
        hi = np.array([lo[0] + CHUNK, self.cells.shape[0] - 1, lo[2] + CHUNK], dtype=np.int64)
        counts = np.zeros(12, dtype=np.int32)
        while True:
            quads, lights = self._scratch
            n, m = _mesh_chunk(
                self.cells, self.light, _block_kinds(), FACE_AXES, self.origin, lo, hi, quads, lights, counts
            )
            if n <= len(quads) and m <= len(lights):
                return quads[:n].copy(), lights[:m].copy(), counts
            self._scratch = (
                np.zeros((max(n, len(quads)), QUAD_COLUMNS), dtype=np.int32),
                np.zeros(max(m, len(lights)), dtype=np.uint8),
            )

    def _join(self) -> None:
        """Lay the chunks end to end."""
        quads, lights, groups = [], [np.arange(IDENTITY_LIGHT, dtype=np.uint8)], []
        n, m = 0, IDENTITY_LIGHT
        ox, _, oz = (int(v) for v in self.origin)
        for (cz, cx), (chunk_quads, chunk_lights, counts) in sorted(self._chunks.items()):
            moved = chunk_quads.copy()
            moved[:, Q_LIGHT] += m
            quads.append(moved)
            lights.append(chunk_lights)
            m += len(chunk_lights)
            x0, z0 = ox + cx * CHUNK, oz + cz * CHUNK
            for group in range(12):
                if counts[group]:
                    low, high = _heights(moved, counts, group)
                    groups.append((n, counts[group], group, x0, z0, x0 + CHUNK, z0 + CHUNK, low, high))
                    n += int(counts[group])
        quads.append(self._plain)
        for k in range(len(self._plain)):
            face = int(self._plain[k, Q_FACE])
            lo_x, hi_x, lo_z, hi_z = (int(v) for v in self._plain[k, [Q_LO_U, Q_HI_U, Q_LO_V, Q_HI_V]])
            y = int(self._plain[k, Q_PLANE])
            groups.append((n, 1, face, lo_x, lo_z, hi_x, hi_z, y, y))
            n += 1
        self.quads = np.concatenate(quads)
        self.lights = np.concatenate(lights)
        self.groups = np.array(groups, dtype=np.int32).reshape(-1, 9)


def _heights(quads: I32, counts: I32, group: int) -> tuple[int, int]:
    """Lowest and highest y of one group of a chunk's rectangles."""
    start = int(counts[:group].sum())
    rows = quads[start : start + int(counts[group])]
    if group % 6 in (2, 3):
        return int(rows[:, Q_PLANE].min()), int(rows[:, Q_PLANE].max())
    return int(rows[:, Q_LO_V].min()), int(rows[:, Q_HI_V].max())


def _plain_quads(grid: Grid) -> I32:
    """The ground outside the grid: four rectangles around it, far beyond the fog."""
    ny, nz, nx = grid.voxels.shape
    ox, oy, oz = (int(v) for v in grid.origin)
    far = 1024
    y = grid.ground_y + 1
    rects = [
        (ox - far, ox + nx + far, oz - far, oz),
        (ox - far, ox + nx + far, oz + nz, oz + nz + far),
        (ox - far, ox, oz, oz + nz),
        (ox + nx, ox + nx + far, oz, oz + nz),
    ]
    open_sky = 15 * 16 + 15
    if grid.ground == 0:
        return np.zeros((0, QUAD_COLUMNS), dtype=np.int32)
    kind = int(_block_kinds()[grid.ground])
    return np.array(
        [[3, y, x0, x1, z0, z1, grid.ground, kind, open_sky, 0] for x0, x1, z0, z1 in rects], dtype=np.int32
    )


_AROUND = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=np.int64)
_OPACITY = np.array([0, 15, 1, 0, 1], dtype=np.uint8)
_meshes: weakref.WeakKeyDictionary[Grid, WorldMesh] = weakref.WeakKeyDictionary()


def world_mesh(grid: Grid) -> WorldMesh:
    """The mesh of a grid, refreshed if the grid changed."""
    mesh = _meshes.get(grid)
    if mesh is None or mesh.shape != grid.voxels.shape:
        mesh = _meshes[grid] = WorldMesh(grid)
        grid.dirty[...] = True
    if grid.dirty.any():
        mesh.refresh(grid)
    return mesh
