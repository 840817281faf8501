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

from harness.scenario.catalogue import catalogue
from harness.world.blockworld.compiling import kernel, part
from harness.world.blockworld.grid import CHUNK, Grid

__all__ = [
    "AIR",
    "CLEAR",
    "CUTOUT",
    "FACE_AXES",
    "IDENTITY_LIGHT",
    "KERNELS",
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


@part
def _grown(queue):
    """The same entries in an array of twice the length."""
    longer = np.empty(2 * queue.shape[0], np.int64)
    for i in range(queue.shape[0]):
        longer[i] = queue[i]
    return longer


@kernel
def _sky_light(cells, kinds, opacity, around, region, light):
    """Light 0..15 of padded cells [Y, Z, X]: down the columns, then spreading one step darker per cell.

    ``region``: x0, x1, z0, z1 and y1 of the cells that are written; light of those around them is taken as it is.
    """
    ny, nz, nx = cells.shape
    rx0, rx1, rz0, rz1, ry1 = region[0], region[1], region[2], region[3], region[4]
    top = 0
    for z in range(rz0, rz1):
        for x in range(rx0, rx1):
            level = np.int64(15)
            for y in range(ny - 1, -1, -1):
                cell = cells[y, z, x]
                kind = kinds[cell]
                if cell != 0 and y > top:
                    top = y
                lower = np.int64(opacity[kind]) if kind != OPAQUE else 15
                level = max(level - lower, np.int64(0))
                if y < ry1:
                    light[y, z, x] = level
    flat_cells, flat_light = cells.reshape(-1), light.reshape(-1)
    steps = np.empty(6, np.int64)
    for d in range(6):
        steps[d] = (around[d, 0] * nz + around[d, 1]) * nx + around[d, 2]
    queue = np.empty(1 << 14, np.int64)
    tail = 0
    for y in range(min(top + 2, ry1 + 1, ny)):
        for z in range(max(rz0 - 1, 0), min(rz1 + 1, nz)):
            inner = 0 < y < ry1 - 1 and rz0 < z < rz1 - 1
            for x in range(max(rx0 - 1, 0), min(rx1 + 1, nx)):
                place = (y * nz + z) * nx + x
                level = flat_light[place]
                if level < 2:
                    continue
                safe = inner and rx0 < x < rx1 - 1
                for d in range(6):
                    if not safe:
                        yy, zz, xx = y + around[d, 0], z + around[d, 1], x + around[d, 2]
                        if yy < 0 or yy >= ry1 or zz < rz0 or zz >= rz1 or xx < rx0 or xx >= rx1:
                            continue
                    there = place + steps[d]
                    if flat_light[there] + 1 >= level:
                        continue
                    kind = kinds[flat_cells[there]]
                    if kind != OPAQUE and flat_light[there] + 1 + opacity[kind] < level:
                        if tail == queue.shape[0]:
                            queue = _grown(queue)
                        queue[tail] = place
                        tail += 1
                        break
    head = 0
    while head < tail:
        place = queue[head]
        head += 1
        x = place % nx
        z = (place // nx) % nz
        y = place // (nx * nz)
        level = flat_light[place]
        for d in range(6):
            yy, zz, xx = y + around[d, 0], z + around[d, 1], x + around[d, 2]
            if yy < 0 or yy >= ry1 or zz < rz0 or zz >= rz1 or xx < rx0 or xx >= rx1:
                continue
            there = place + steps[d]
            kind = kinds[flat_cells[there]]
            if kind == OPAQUE:
                continue
            reach = np.int64(level) - 1 - np.int64(opacity[kind])
            if reach > flat_light[there]:
                flat_light[there] = reach
                if reach > 1:
                    if tail == queue.shape[0]:
                        queue = _grown(queue)
                    queue[tail] = there
                    tail += 1


@part
def _shown(own, other, kinds):
    """Whether the face of block ``own`` towards block ``other`` can be seen."""
    kind = kinds[own]
    if kind == AIR:
        return False
    towards = kinds[other]
    if towards == OPAQUE:
        return False
    return not (kind in (TRANSLUCENT, CLEAR) and own == other)


@part
def _corner(cells, light, kinds, x, y, z, a, b):
    """(occlusion 0..1, light 0..15) at a corner of a face: the mean over the four cells before it that touch it.

    ``a`` and ``b``: the steps (x, y, z) from the cell before the face towards the corner.
    """
    open_cells = 0.0
    total = 0.0
    lit = 0
    blocked_a = False
    blocked_b = False
    for k in range(4):
        cx, cy, cz = x, y, z
        if k & 1:
            cx, cy, cz = cx + a[0], cy + a[1], cz + a[2]
        if k & 2:
            cx, cy, cz = cx + b[0], cy + b[1], cz + b[2]
        cx = min(max(cx, 0), cells.shape[2] - 1)
        cy = min(max(cy, 0), cells.shape[0] - 1)
        cz = min(max(cz, 0), cells.shape[1] - 1)
        kind = kinds[cells[cy, cz, cx]]
        solid = kind == OPAQUE
        if k == 1:
            blocked_a = solid
        elif k == 2:
            blocked_b = solid
        hidden = k == 3 and blocked_a and blocked_b
        open_cells += 0.2 if hidden or solid or kind == CUTOUT else 1.0
        if not solid and not hidden:
            total += light[cy, cz, cx]
            lit += 1
    return open_cells * 0.25, total / max(lit, 1)


@part
def _open_level(cells, light, x, y, z, a, b):
    """The light of a cell if the eight around it in the plane of ``a`` and ``b`` are air as light as it is, else -1."""
    ny, nz, nx = cells.shape
    level = np.int64(light[y, z, x])
    for j in range(-1, 2):
        for i in range(-1, 2):
            cx, cy, cz = x + i * a[0] + j * b[0], y + i * a[1] + j * b[1], z + i * a[2] + j * b[2]
            if cx < 0 or cy < 0 or cz < 0 or cx >= nx or cy >= ny or cz >= nz:
                return np.int64(-1)
            if cells[cy, cz, cx] != 0 or light[cy, cz, cx] != level:
                return np.int64(-1)
    return level


@part
def _bake(cells, light, kinds, x, y, z, right, down, out, start, stride):
    """Write the 4 x 4 light samples of the face before a cell: high nibble occlusion, low nibble light."""
    level = _open_level(cells, light, x, y, z, right, down)
    if level >= 0:
        for j in range(4):
            for i in range(4):
                out[start + j * stride + i] = 240 + level
        return
    left, up = (-right[0], -right[1], -right[2]), (-down[0], -down[1], -down[2])
    a0, s0 = _corner(cells, light, kinds, x, y, z, left, up)
    a1, s1 = _corner(cells, light, kinds, x, y, z, right, up)
    a2, s2 = _corner(cells, light, kinds, x, y, z, left, down)
    a3, s3 = _corner(cells, light, kinds, x, y, z, right, down)
    for j in range(4):
        fv = (j + 0.5) * 0.25
        for i in range(4):
            fu = (i + 0.5) * 0.25
            open_sky = (a0 * (1 - fu) + a1 * fu) * (1 - fv) + (a2 * (1 - fu) + a3 * fu) * fv
            mean = (s0 * (1 - fu) + s1 * fu) * (1 - fv) + (s2 * (1 - fu) + s3 * fu) * fv
            step = min(max(int((open_sky - 0.2) * (15.0 / 0.8) + 0.5), 0), 15)
            out[start + j * stride + i] = step * 16 + min(int(mean + 0.5), 15)


@kernel
def _mesh_chunk(cells, light, kinds, axes, origin, lo, hi, quads, lights, groups):
    """Mesh the padded cells ``lo <= (x, y, z) < hi``; returns (rectangles, light samples) needed.

    Faces come in twelve groups: six directions of the solid and cut-out blocks, then six of the translucent ones;
    ``groups`` [12, 9] tells them apart (see ``WorldMesh``). When an array is too small nothing more is written and the
    caller grows it.
    """
    ny, nz, nx = cells.shape
    size = (nx, ny, nz)
    n_quads = 0
    n_lights = 0
    widest = max(max(hi[0] - lo[0], hi[1] - lo[1]), hi[2] - lo[2])
    mask = np.zeros((widest, widest), np.int32)
    front = np.empty(3, np.int64)
    flat, strides = cells.reshape(-1), (1, nz * nx, nx)  # of x, y, z
    tallest = 0  # above it there is only air
    crowded = False  # whether anything is seen through
    for y in range(lo[1] - 1, hi[1] + 1):
        for z in range(lo[2] - 1, hi[2] + 1):
            for x in range(lo[0] - 1, hi[0] + 1):
                if cells[y, z, x] != 0:
                    tallest = y
                    crowded = crowded or kinds[cells[y, z, x]] == TRANSLUCENT
    for group in range(12):
        face = group % 6
        through = group >= 6
        na, ua, us, va, vs = axes[face, 0], axes[face, 1], axes[face, 2], axes[face, 3], axes[face, 4]
        step = 1 if face % 2 == 1 else -1
        first = n_quads
        lowest, highest = np.int64(1 << 30), np.int64(-(1 << 30))
        right = (us if ua == 0 else 0, us if ua == 1 else 0, us if ua == 2 else 0)
        down = (vs if va == 0 else 0, vs if va == 1 else 0, vs if va == 2 else 0)
        reach = min(hi[1], tallest + 1)
        nu = hi[ua] - lo[ua]
        nv = (reach if va == 1 else hi[va]) - lo[va]
        # the rim of the grid: outside ground shows its faces towards the inside
        n_lo = lo[na] - 1 if (step == 1 and lo[na] == 1) else lo[na]
        n_hi = hi[na] + 1 if (step == -1 and hi[na] == size[na] - 1) else hi[na]
        if na == 1:
            n_hi = min(n_hi, tallest + 2)
        if through and not crowded:
            n_hi = n_lo
        for n in range(n_lo, n_hi):
            if n + step < 0 or n + step >= size[na]:
                continue
            seen = False
            for j in range(nv):
                place = n * strides[na] + lo[ua] * strides[ua] + (lo[va] + j) * strides[va]
                for i in range(nu):
                    own = flat[place]
                    mask[j, i] = 0
                    if own != 0 and (kinds[own] == TRANSLUCENT) == through and (
                        _shown(own, flat[place + step * strides[na]], kinds)
                    ):
                        mask[j, i] = own
                        seen = True
                    place += strides[ua]
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
                        lowest = min(lowest, np.int64(q[Q_PLANE] if na == 1 else q[Q_LO_V]))
                        highest = max(highest, np.int64(q[Q_PLANE] if na == 1 else q[Q_HI_V]))
                        for jj in range(h):
                            for ii in range(w):
                                front[na], front[ua], front[va] = n + step, lo[ua] + i + ii, lo[va] + j + jj
                                tu = ii if us == 1 else w - 1 - ii
                                tv = jj if vs == 1 else h - 1 - jj
                                _bake(
                                    cells,
                                    light,
                                    kinds,
                                    front[0],
                                    front[1],
                                    front[2],
                                    right,
                                    down,
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
        row = groups[group]
        row[0], row[1], row[2] = first, n_quads - first, group
        row[3], row[4] = lo[0] - 1 + origin[0], lo[2] - 1 + origin[2]
        row[5], row[6] = hi[0] - 1 + origin[0], hi[2] - 1 + origin[2]
        row[7], row[8] = lowest, highest
    return n_quads, n_lights


class WorldMesh:
    """The mesh of one grid, kept up to date from ``grid.dirty``; shared by all renderers of that grid.

    Every chunk has a stretch of the arrays to itself, with room to grow, so that an edit writes a few of them only.

    Attributes:
        quads: int32 [n, QUAD_COLUMNS]; which rows are in use is what ``groups`` says.
        lights: uint8 [m]: 256 identity entries, then the light maps.
        groups: int32 [g, 9], twelve a chunk, then the ground outside the grid: first rectangle, count (may be 0),
            direction (+6 translucent), then the box x0, z0, x1, z1, y0, y1.
        cells, light: the padded copies [Y + 2, Z + 2, X + 2].
    """

    def __init__(self, grid: Grid) -> None:
        self.shape = ny, nz, nx = grid.voxels.shape
        self.origin = grid.origin.astype(np.int64)
        self.cells = np.zeros((ny + 2, nz + 2, nx + 2), dtype=np.uint8)
        depth = int(np.clip(grid.ground_y - int(grid.origin[1]) + 2, 0, ny + 2))
        self.cells[:depth] = grid.ground
        self.cells[1:-1, 1:-1, 1:-1] = 0
        self.light = np.zeros_like(self.cells)
        self._chunks: dict[tuple[int, int], tuple[I32, U8, I32]] = {}
        self._slots: dict[tuple[int, int], tuple[slice, slice]] = {}
        self._scratch = (np.zeros((4096, QUAD_COLUMNS), dtype=np.int32), np.zeros(1 << 17, dtype=np.uint8))
        self._plain = _plain_quads(grid)
        self.quads = np.zeros((0, QUAD_COLUMNS), dtype=np.int32)
        self.lights = np.zeros(0, dtype=np.uint8)
        self.groups = np.zeros((0, 9), dtype=np.int32)

    def refresh(self, grid: Grid) -> None:
        """Mesh again what changed, and clear the grid's marks."""
        stale = grid.dirty.copy()
        grid.dirty[...] = False
        whole = not self._chunks
        changed = np.ones(self.cells.shape[1:], dtype=np.bool_) if whole else np.zeros(0, dtype=np.bool_)
        if whole:
            self.cells[1:-1, 1:-1, 1:-1] = grid.voxels
            ny, nz, nx = self.cells.shape
            self._relight(np.array([0, nx, 0, nz, ny], dtype=np.int64))
            region = (0, nz, 0, nx)
        else:
            found = self._take_over(grid, stale)
            if found is None:
                return
            changed, region = found
        fits = not whole
        for cz in range(max(0, region[0] - 2) // CHUNK, min(stale.shape[0], region[1] // CHUNK + 1)):
            for cx in range(max(0, region[2] - 2) // CHUNK, min(stale.shape[1], region[3] // CHUNK + 1)):
                if changed[cz * CHUNK : (cz + 1) * CHUNK + 2, cx * CHUNK : (cx + 1) * CHUNK + 2].any():
                    self._chunks[cz, cx] = self._mesh(cz, cx)
                    fits = fits and self._lay(cz, cx)
        if not fits:
            self._join()

    def _take_over(
        self, grid: Grid, stale: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.bool_], tuple[int, int, int, int]] | None:
        """Copy marked blocks and light anew what their change can reach.

        Returns:
            Which columns changed, bool [Z + 2, X + 2], and z0, z1, x0, x1 around them; None if nothing differs.
        """
        rows, columns = np.flatnonzero(stale.any(axis=1)), np.flatnonzero(stale.any(axis=0))
        zs = slice(int(rows[0]) * CHUNK, (int(rows[-1]) + 1) * CHUNK)
        xs = slice(int(columns[0]) * CHUNK, (int(columns[-1]) + 1) * CHUNK)
        old, new = self.cells[1:-1, 1:-1, 1:-1][:, zs, xs], grid.voxels[:, zs, xs]
        different = old != new
        where = np.nonzero(different)
        if not len(where[0]):
            return None
        old[...] = new
        changed = np.zeros(self.cells.shape[1:], dtype=np.bool_)
        changed[1:-1, 1:-1][zs, xs] = different.any(axis=0)
        # light loses a step per cell, so that a change is felt less than 15 cells away, and all the way down
        low_z, high_z = int(where[1].min()) + zs.start + 1, int(where[1].max()) + zs.start + 1
        low_x, high_x = int(where[2].min()) + xs.start + 1, int(where[2].max()) + xs.start + 1
        ny, nz, nx = self.cells.shape
        z0, z1, x0, x1 = max(0, low_z - 15), min(nz, high_z + 16), max(0, low_x - 15), min(nx, high_x + 16)
        y1 = min(ny, int(where[0].max()) + 1 + 16)
        part = self.light[:y1, z0:z1, x0:x1]
        before = part.copy()
        self._relight(np.array([x0, x1, z0, z1, y1], dtype=np.int64))
        changed[z0:z1, x0:x1] |= (part != before).any(axis=0)
        return changed, (z0, z1, x0, x1)

    def _relight(self, region: npt.NDArray[np.int64]) -> None:
        _sky_light(self.cells, _block_kinds(), _OPACITY, _AROUND, region, self.light)

    def _mesh(self, cz: int, cx: int) -> tuple[I32, U8, I32]:
        lo = np.array([1 + cx * CHUNK, 1, 1 + cz * CHUNK], dtype=np.int64)
        hi = np.array([lo[0] + CHUNK, self.cells.shape[0] - 1, lo[2] + CHUNK], dtype=np.int64)
        groups = np.zeros((12, 9), dtype=np.int32)
        while True:
            quads, lights = self._scratch
            n, m = _mesh_chunk(
                self.cells, self.light, _block_kinds(), FACE_AXES, self.origin, lo, hi, quads, lights, groups
            )
            if n <= len(quads) and m <= len(lights):
                return quads[:n].copy(), lights[:m].copy(), groups
            self._scratch = (
                np.zeros((max(n, len(quads)), QUAD_COLUMNS), dtype=np.int32),
                np.zeros(max(m, len(lights)), dtype=np.uint8),
            )

    def _lay(self, cz: int, cx: int) -> bool:
        """Write a chunk into its stretch of the arrays; False when it does not fit."""
        quads, lights, groups = self._chunks[cz, cx]
        quad_slot, light_slot = self._slots[cz, cx]
        if len(quads) > quad_slot.stop - quad_slot.start or len(lights) > light_slot.stop - light_slot.start:
            return False
        own = self.quads[quad_slot.start : quad_slot.start + len(quads)]
        own[...] = quads
        own[:, Q_LIGHT] += light_slot.start
        self.lights[light_slot.start : light_slot.start + len(lights)] = lights
        row = 12 * (cz * (self.shape[2] // CHUNK) + cx)
        self.groups[row : row + 12] = groups
        self.groups[row : row + 12, 0] += quad_slot.start
        return True

    def _join(self) -> None:
        """Lay all chunks end to end, each with room to grow by a quarter."""
        n, m = len(self._plain), IDENTITY_LIGHT
        for key, (quads, lights, _) in sorted(self._chunks.items()):
            quad_room, light_room = len(quads) * 5 // 4 + 64, len(lights) * 5 // 4 + 1024
            self._slots[key] = slice(n, n + quad_room), slice(m, m + light_room)
            n, m = n + quad_room, m + light_room
        # fresh arrays, not the old ones resized: another renderer of this grid may be reading those
        self.quads = np.zeros((n, QUAD_COLUMNS), dtype=np.int32)
        self.lights = np.zeros(m, dtype=np.uint8)
        self.lights[:IDENTITY_LIGHT] = np.arange(IDENTITY_LIGHT)
        self.groups = np.zeros((12 * len(self._chunks) + len(self._plain), 9), dtype=np.int32)
        for cz, cx in self._chunks:
            self._lay(cz, cx)
        self.quads[: len(self._plain)] = self._plain
        for k, quad in enumerate(self._plain):
            y = int(quad[Q_PLANE])
            lo_x, hi_x, lo_z, hi_z = (int(v) for v in quad[[Q_LO_U, Q_HI_U, Q_LO_V, Q_HI_V]])
            self.groups[12 * len(self._chunks) + k] = (k, 1, int(quad[Q_FACE]), lo_x, lo_z, hi_x, hi_z, y, y)


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


KERNELS = _sky_light, _mesh_chunk
"""What meshing needs compiled."""

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
