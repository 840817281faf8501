"""Which part of a creature a pixel shows: read from the buffers that the picture was drawn with."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators
# (compiled functions take what numba infers)

from __future__ import annotations

import numpy as np

from harness.world.blockworld.compiling import kernel
from harness.world.blockworld.raster import R_ROW, R_TEXEL, R_UMAX, R_VMAX
from harness.world.blockworld.state import FIRST_ENTITY
from harness.world.observation import HUD_PART

__all__ = ["find_parts"]


@kernel
def find_parts(coeffs, records, columns, near, seen, segmentation, texel_parts, shift, places, parts):
    """Fill ``parts`` [H, W]: at a creature's pixels the part that its texel belongs to, ``HUD_PART`` at ``places``.

    The texel is found as the picture's second pass finds it. Creatures' faces have one level of detail and no phase.
    """
    one, zero = np.float32(1.0), np.float32(0.0)
    for y in range(parts.shape[0]):
        fy = np.float32(y)
        for i in range(parts.shape[1]):
            parts[y, i] = 0
            if segmentation[y, i] < FIRST_ENTITY:
                continue
            q = seen[y, i]
            z, x = one / near[y, i], columns[i]
            u = (coeffs[q, 3] * x + (coeffs[q, 4] * fy + coeffs[q, 5])) * z
            v = (coeffs[q, 6] * x + (coeffs[q, 7] * fy + coeffs[q, 8])) * z
            column = np.int64(min(max(u, zero), np.float32(records[q, R_UMAX])))
            row = np.int64(min(max(v, zero), np.float32(records[q, R_VMAX])))
            parts[y, i] = texel_parts[records[q, R_TEXEL] - shift + row * records[q, R_ROW] + column]
    n = parts.shape[1]
    for k in range(places.shape[0]):
        parts[places[k] // n, places[k] % n] = HUD_PART
