"""The voxel grid: block ids in a box of space, endless flat ground around it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.errors import WorldError

__all__ = ["CHUNK", "Grid"]

CHUNK = 16


class Grid:
    """Block ids of a box of space; outside it lies flat ground without end.

    Attributes:
        voxels: uint8 [Y, Z, X] block ids.
        origin: int64 [3], the (x, y, z) of ``voxels[0, 0, 0]``.
        ground: Block id of the ground outside the box, at and below ``ground_y``.
        ground_y: Height of the topmost ground layer outside the box.
        dirty: bool [Z/16, X/16], chunks whose mesh is stale; whoever meshes clears it.

    X and Z sizes are multiples of 16.
    """

    def __init__(self, voxels: npt.NDArray[np.uint8], origin: tuple[int, int, int], ground: int, ground_y: int) -> None:
        _, nz, nx = voxels.shape
        if nz % CHUNK or nx % CHUNK:
            raise WorldError(f"grid of {nx} x {nz} cells: expected multiples of {CHUNK}")
        self.voxels = np.ascontiguousarray(voxels, dtype=np.uint8)
        self.origin = np.array(origin, dtype=np.int64)
        self.ground = ground
        self.ground_y = ground_y
        self.dirty = np.ones((nz // CHUNK, nx // CHUNK), dtype=np.bool_)

    def inside(self, x: int, y: int, z: int) -> bool:
        """Whether a cell is stored (and can be changed)."""
        ny, nz, nx = self.voxels.shape
        return bool(0 <= x - self.origin[0] < nx and 0 <= y - self.origin[1] < ny and 0 <= z - self.origin[2] < nz)

    def get(self, x: int, y: int, z: int) -> int:
        """The block id at a cell, stored or not."""
        if self.inside(x, y, z):
            ox, oy, oz = self.origin
            return int(self.voxels[y - oy, z - oz, x - ox])
        return self.ground if y <= self.ground_y else 0

    def set(self, x: int, y: int, z: int, block: int) -> bool:
        """Change one cell and mark its chunk, and the chunks that touch it, as stale. False outside the box."""
        if not self.inside(x, y, z):
            return False
        ox, oy, oz = self.origin
        self.voxels[y - oy, z - oz, x - ox] = block
        self.touch(x, z)
        return True

    def touch(self, x: int, z: int) -> None:
        """Mark the mesh around a column as stale (light and faces reach one cell over)."""
        nz, nx = self.dirty.shape
        for dz in (-1, 1):
            for dx in (-1, 1):
                cz = (z - int(self.origin[2]) + dz) // CHUNK
                cx = (x - int(self.origin[0]) + dx) // CHUNK
                if 0 <= cz < nz and 0 <= cx < nx:
                    self.dirty[cz, cx] = True

    def replace(self, voxels: npt.NDArray[np.uint8]) -> None:
        """Take over the blocks of an equally large box; only chunks that change, or touch a change, become stale."""
        changed = np.pad((self.voxels != voxels).any(axis=0), 1)
        near = np.zeros_like(self.voxels[0], dtype=np.bool_)
        nz, nx = near.shape
        for dz in range(3):
            for dx in range(3):
                near |= changed[dz:dz + nz, dx:dx + nx]
        self.voxels[:] = voxels
        self.dirty |= near.reshape(nz // CHUNK, CHUNK, nx // CHUNK, CHUNK).any(axis=(1, 3))
