"""The rasteriser's compiled half: from meshes, creatures and a camera to colour, segmentation and depth.

Rectangles (block faces, creature boxes, hand) are culled, sorted near to far by counting, and drawn as spans that
keep the number of the nearest rectangle per pixel; a second pass shades each pixel once. What is seen through (water,
stained glass, breaking cracks, shadows) is blended over that, far to near. All of a frame is one call that releases
the interpreter lock. Every quantity at a pixel is a function of its full-picture column and row alone, which makes a
column-strided picture equal to columns of the full one bit for bit, and any band of rows equal to the whole.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators
# (compiled functions take what numba infers)

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from harness.world.blockworld.compiling import kernel, part
from harness.world.blockworld.hud import INVERT
from harness.world.blockworld.mesh import (
    CLEAR,
    CUTOUT,
    Q_BLOCK,
    Q_FACE,
    Q_HI_U,
    Q_HI_V,
    Q_KIND,
    Q_LIGHT,
    Q_LIGHT_STRIDE,
    Q_LO_U,
    Q_LO_V,
    Q_PLANE,
)
from harness.world.blockworld.models import (
    ANIM_HEAD,
    ANIM_LEFT_LEG,
    ANIM_RIGHT_LEG,
    ANIM_ZOMBIE_ARM,
    ITEM_KIND,
)
from harness.world.blockworld.sky import (
    S_FOG,
    S_GLOW_R,
    cosine,
    daylight,
    fog_glow,
    sine,
    sky_row,
)
from harness.world.blockworld.textures import MIPS, N_CRACKS
from harness.world.blockworld.view import (
    E_AGE,
    E_HEAD_PITCH,
    E_HEAD_YAW,
    E_HURT,
    E_ID,
    E_KIND,
    E_SWING,
    E_X,
    E_Y,
    E_YAW,
    E_Z,
    HAND_ID,
    SKY_DEPTH,
)

__all__ = [
    "CAMERA",
    "DYNAMIC",
    "FOG_END",
    "FOG_START",
    "RECORD",
    "R_ROW",
    "R_TEXEL",
    "R_UMAX",
    "R_VMAX",
    "draw",
]

U8 = npt.NDArray[np.uint8]
I16 = npt.NDArray[np.int16]
F32 = npt.NDArray[np.float32]

NEAR = 0.004  # blocks; the hand is drawn HAND_SCALE times nearer than it is
HAND_SCALE = 0.05
FOG_START, FOG_END = 64.0, 92.0  # blocks along the ray
_EDGE = 1e-6  # pixels a span reaches further, so that no crack opens where rectangles of different length meet
_RADIAN = math.pi / 180.0
_LINE_ALPHA = 102  # of 256: how black the outline of the block under the crosshair is
_LINE_LIFT = 1.01  # the outline is drawn so much nearer than it is: it lies on faces, some of them seen edge-on

# Camera slots (float64).
C_EYE, C_RIGHT, C_UP, C_FORWARD, C_DX, C_DY, C_D0, C_FOCAL, C_HALF_W, C_HALF_H = 0, 3, 6, 9, 12, 15, 18, 21, 22, 23
CAMERA = 24

# Columns of a prepared rectangle (int32); the float32 columns are 1/z, u/z and v/z as (x, y, 1) coefficients.
R_TEXEL, R_ROW, R_UMASK, R_VMASK, R_UMAX, R_VMAX, R_UADD, R_VADD, R_LIGHT, R_LROW, R_LSHIFT, R_SHADE, R_ID, R_FLAGS = (
    range(14)
)
RECORD = 14
CUT, HURT, HAND, NO_ID = 1, 2, 4, 8

# Columns of a box face before projection (float64): corner, u axis, v axis (blocks per texel), normal.
D_CORNER, D_U, D_V, D_NORMAL = 0, 3, 6, 9
DYNAMIC = 12


@part
def _camera(table, eye, yaw, pitch, fov, width, height, out):
    """Fill the camera slots: axes, and the ray through a pixel as a linear function of (column, row)."""
    sy, cy = sine(table, yaw * _RADIAN), cosine(table, yaw * _RADIAN)
    sp, cp = sine(table, pitch * _RADIAN), cosine(table, pitch * _RADIAN)
    half = fov * 0.5 * _RADIAN
    focal = height * 0.5 * cosine(table, half) / sine(table, half)
    right = (-cy, 0.0, -sy)
    up = (-sy * sp, cp, cy * sp)
    forward = (-sy * cp, -sp, cy * cp)
    for k in range(3):
        out[C_EYE + k] = eye[k]
        out[C_RIGHT + k] = right[k]
        out[C_UP + k] = up[k]
        out[C_FORWARD + k] = forward[k]
        out[C_DX + k] = right[k] / focal
        out[C_DY + k] = -up[k] / focal
        out[C_D0 + k] = forward[k] + right[k] * (0.5 - width * 0.5) / focal + up[k] * (height * 0.5 - 0.5) / focal
    out[C_FOCAL] = focal
    out[C_HALF_W] = width * 0.5
    out[C_HALF_H] = height * 0.5


@part
def _rotate(table, m, rx, ry, rz):
    """Multiply m (3 x 3) by Rz Ry Rx: turn first about x."""
    for axis in range(3):
        angle = rz if axis == 0 else (ry if axis == 1 else rx)
        if angle == 0.0:
            continue
        s, c = sine(table, angle), cosine(table, angle)
        for k in range(3):
            a, b, d = m[k, 0], m[k, 1], m[k, 2]
            if axis == 0:
                m[k, 0], m[k, 1] = a * c + b * s, b * c - a * s
            elif axis == 1:
                m[k, 0], m[k, 2] = a * c + d * s, d * c - a * s
            else:
                m[k, 1], m[k, 2] = b * c + d * s, d * c - b * s


@part
def _box_faces(m, t, low, size, faces, flags, number, light, axes, dyn, meta, n):
    """Append the faces of a box whose points are ``t + m p``; returns the new count."""
    for face in range(6):
        na, ua, us, va, vs = axes[face, 0], axes[face, 1], axes[face, 2], axes[face, 3], axes[face, 4]
        if size[ua] == 0.0 or size[va] == 0.0:
            continue
        w, h = faces[face, 1], faces[face, 2]
        corner = dyn[n]
        for k in range(3):
            total = t[k]
            total += m[k, na] * (low[na] + (size[na] if face % 2 == 1 else 0.0))
            total += m[k, ua] * (low[ua] + (0.0 if us == 1 else size[ua]))
            total += m[k, va] * (low[va] + (0.0 if vs == 1 else size[va]))
            corner[D_CORNER + k] = total
            corner[D_U + k] = m[k, ua] * (us * size[ua] / w)
            corner[D_V + k] = m[k, va] * (vs * size[va] / h)
            corner[D_NORMAL + k] = m[k, na] * (1.0 if face % 2 == 1 else -1.0)
        nx, ny, nz = corner[D_NORMAL], corner[D_NORMAL + 1], corner[D_NORMAL + 2]
        length = math.sqrt(nx * nx + ny * ny + nz * nz)
        # two lamps high above, one to the south and one to the north, as the game lights its creatures
        one = max((0.16 * nx + 0.81 * ny - 0.566 * nz) / length, 0.0)
        two = max((-0.16 * nx + 0.81 * ny + 0.566 * nz) / length, 0.0)
        row = meta[n]
        row[R_TEXEL], row[R_ROW], row[R_UMASK], row[R_VMASK] = faces[face, 0], w, 0xFFFF, 0xFFFF
        row[R_UMAX], row[R_VMAX], row[R_UADD], row[R_VADD] = w - 1, h - 1, 0, 0
        row[R_LIGHT], row[R_LROW], row[R_LSHIFT] = light, 0, 20
        row[R_SHADE] = np.int32(min(0.4 + 0.6 * (one + two), 1.0) * 256.0)
        row[R_ID], row[R_FLAGS] = number, flags
        n += 1
    return n


@part
def _light_at(light, origin, x, y, z):
    """Light map entry (open, sky light) of the cell that holds a point."""
    ny, nz, nx = light.shape
    ix = min(max(np.int64(math.floor(x)) - origin[0] + 1, 0), nx - 1)
    iy = min(max(np.int64(math.floor(y)) - origin[1] + 1, 0), ny - 1)
    iz = min(max(np.int64(math.floor(z)) - origin[2] + 1, 0), nz - 1)
    return 240 + np.int64(light[iy, iz, ix])


@part
def _place_entities(
    table, entities, numbers, parts, part_faces, model_table, scales, light, origin, axes, shift, dyn, meta
):
    """Faces of all creatures and dropped items; returns their count."""
    n = np.int64(0)
    m = np.empty((3, 3), np.float64)
    root = np.empty((3, 3), np.float64)
    t = np.empty(3, np.float64)
    faces = np.empty((6, 3), np.int32)
    for e in range(entities.shape[0]):
        row = entities[e]
        item = row[E_KIND] == ITEM_KIND
        model = numbers[e]
        scale = scales[model]
        lift = 0.0
        yaw = row[E_YAW] * _RADIAN
        if item:
            block = parts[model_table[model, 0], 8] > 0.0
            scale *= 0.25 if block else 0.5
            lift = (0.22 if block else 0.30) + 0.1 * sine(table, row[E_AGE] / 10.0)
            yaw = row[E_AGE] / 20.0
        hurt = row[E_HURT] > 0.0
        topple = (row[E_HURT] - 10.0) * 1.5707963267948966 if row[E_HURT] >= 10.0 else 0.0
        for i in range(3):
            for j in range(3):
                root[i, j] = 1.0 if i == j else 0.0
        _rotate(table, root, 0.0, yaw, 0.0)
        _rotate(table, root, 0.0, 0.0, topple)
        lamp = _light_at(light, origin, row[E_X], row[E_Y] + 0.5, row[E_Z])
        for k in range(model_table[model, 0], model_table[model, 0] + model_table[model, 1]):
            part = parts[k]
            for i in range(3):
                t[i] = row[E_X + i]
                for j in range(3):
                    m[i, j] = root[i, j] * scale
                    t[i] += m[i, j] * part[j]
            t[1] += lift
            anim = np.int64(part[12])
            rx, ry, rz = part[9], part[10], part[11]
            swing = sine(table, row[E_SWING])
            if anim == ANIM_RIGHT_LEG:
                rx += swing
            elif anim == ANIM_LEFT_LEG:
                rx -= swing
            elif anim == ANIM_HEAD:
                rx += row[E_HEAD_PITCH] * _RADIAN
                ry += (row[E_HEAD_YAW] - row[E_YAW]) * _RADIAN
            elif anim == ANIM_ZOMBIE_ARM:
                rx -= 1.45 + 0.12 * swing
            _rotate(table, m, rx, ry, rz)
            for f in range(6):
                for c in range(3):
                    faces[f, c] = part_faces[k, f, c]
                faces[f, 0] += shift
            flags = (HURT if hurt else 0) | (CUT if part[13] > 0.0 else 0)
            n = _box_faces(
                m, t, part[3:6], part[6:9], faces, np.int64(flags), np.int64(row[E_ID]), lamp, axes, dyn, meta, n
            )
    return n


@part
def _place_hand(table, cam, hand, swing, bob, parts, part_faces, model_table, light, origin, axes, shift, dyn, meta, n):
    """Faces of the held item or the bare arm; returns the new count. ``hand`` is (model, 0 arm, 1 block, 2 sprite)."""
    model, style = hand[0], hand[1]
    turn = 3.141592653589793
    root = math.sqrt(max(swing, 0.0))
    m = np.zeros((3, 3), np.float64)
    t = np.zeros(3, np.float64)
    for k in range(3):
        m[k, k] = 1.0
    quick, quicker, square = sine(table, root * turn), sine(table, root * 2.0 * turn), sine(table, swing * swing * turn)
    whole = sine(table, swing * turn)
    size = 1.0
    if style == 0:
        t[0], t[1], t[2] = 0.64 - 0.3 * quick, -0.6 + 0.4 * quicker, -0.72 - 0.4 * whole
        _rotate(table, m, 0.0, -(45.0 + quick * 70.0) * _RADIAN, 0.0)
        _rotate(table, m, 0.0, 0.0, -20.0 * square * _RADIAN)
        for k in range(3):
            t[k] += -m[k, 0] + 3.6 * m[k, 1] + 3.5 * m[k, 2]
        _rotate(table, m, 0.0, 0.0, 120.0 * _RADIAN)
        _rotate(table, m, 200.0 * _RADIAN, 0.0, 0.0)
        _rotate(table, m, 0.0, 135.0 * _RADIAN, 0.0)
        for k in range(3):
            t[k] += 5.6 * m[k, 0]
    else:
        t[0], t[1], t[2] = 0.56 - 0.4 * quick, -0.52 + 0.2 * quicker, -0.72 - 0.2 * whole
        _rotate(table, m, 0.0, -(45.0 - 20.0 * square) * _RADIAN, 0.0)
        _rotate(table, m, 0.0, 0.0, -20.0 * quick * _RADIAN)
        _rotate(table, m, -80.0 * quick * _RADIAN, 0.0, 0.0)
        _rotate(table, m, 0.0, 45.0 * _RADIAN, 0.0)
        if style == 1:
            _rotate(table, m, 0.0, -45.0 * _RADIAN, 0.0)
            size = 0.4
        else:
            for k in range(3):
                t[k] += (1.13 * m[k, 0] + 3.2 * m[k, 1] + 1.13 * m[k, 2]) / 16.0
            _rotate(table, m, 0.0, 90.0 * _RADIAN, 0.0)
            _rotate(table, m, 0.0, 0.0, 25.0 * _RADIAN)
            size = 0.68
    sway = sine(table, bob)
    t[0] += 0.03 * sway
    t[1] -= 0.03 * abs(sway)
    for i in range(3):
        for j in range(3):
            m[i, j] *= size
    world = np.empty((3, 3), np.float64)
    at = np.empty(3, np.float64)
    faces = np.empty((6, 3), np.int32)
    lamp = _light_at(light, origin, cam[C_EYE], cam[C_EYE + 1], cam[C_EYE + 2])
    for k in range(model_table[model, 0], model_table[model, 0] + model_table[model, 1]):
        for i in range(3):
            place = 0.0
            for j in range(3):
                axis = cam[C_RIGHT + i] * m[0, j] + cam[C_UP + i] * m[1, j] - cam[C_FORWARD + i] * m[2, j]
                world[i, j] = axis * (HAND_SCALE / 16.0)
                place += axis * parts[k, j] / 16.0
            place += cam[C_RIGHT + i] * t[0] + cam[C_UP + i] * t[1] - cam[C_FORWARD + i] * t[2]
            at[i] = cam[C_EYE + i] + place * HAND_SCALE
        for f in range(6):
            for c in range(3):
                faces[f, c] = part_faces[k, f, c]
            faces[f, 0] += shift
        before = n
        flags = HAND | (CUT if parts[k, 13] > 0.0 else 0)
        n = _box_faces(
            world, at, parts[k, 3:6], parts[k, 6:9], faces, np.int64(flags), np.int64(HAND_ID), lamp, axes, dyn, meta, n
        )
        for r in range(before, n):
            # lit by where it stands before the eye, not by where the eye looks
            nx, ny, nz = dyn[r, D_NORMAL], dyn[r, D_NORMAL + 1], dyn[r, D_NORMAL + 2]
            length = math.sqrt(nx * nx + ny * ny + nz * nz)
            upward = (nx * cam[C_UP] + ny * cam[C_UP + 1] + nz * cam[C_UP + 2]) / length
            toward = abs(nx * cam[C_RIGHT] + ny * cam[C_RIGHT + 1] + nz * cam[C_RIGHT + 2]) / length
            meta[r, R_SHADE] = np.int32(min(max(0.72 + 0.28 * upward - 0.14 * toward, 0.4), 1.0) * 256.0)
    return n


@part
def _world_corners(cam, quad, axes, corners):
    """Corners of a world rectangle relative to the eye. False when it faces away."""
    face = quad[Q_FACE]
    na, ua, va = axes[face, 0], axes[face, 1], axes[face, 3]
    plane = quad[Q_PLANE] - cam[C_EYE + na]
    if (face % 2 == 1 and plane >= 0.0) or (face % 2 == 0 and plane <= 0.0):
        return False
    lo_u, hi_u = quad[Q_LO_U] - cam[C_EYE + ua], quad[Q_HI_U] - cam[C_EYE + ua]
    lo_v, hi_v = quad[Q_LO_V] - cam[C_EYE + va], quad[Q_HI_V] - cam[C_EYE + va]
    for k in range(4):
        corners[k, na] = plane
        corners[k, ua] = lo_u if k == 0 or k == 3 else hi_u
        corners[k, va] = lo_v if k < 2 else hi_v
    return True


@part
def _prepare_world(cam, quad, layers, layer_of, axes, plane_shade, coeffs, record):
    """The pixel functions of a world rectangle."""
    face = quad[Q_FACE]
    na, ua, us, va, vs = axes[face, 0], axes[face, 1], axes[face, 2], axes[face, 3], axes[face, 4]
    plane = quad[Q_PLANE] - cam[C_EYE + na]
    lo_u, hi_u = quad[Q_LO_U] - cam[C_EYE + ua], quad[Q_HI_U] - cam[C_EYE + ua]
    lo_v, hi_v = quad[Q_LO_V] - cam[C_EYE + va], quad[Q_HI_V] - cam[C_EYE + va]
    inverse = 1.0 / plane
    su, sv = 16.0 * us, 16.0 * vs
    u0 = -(lo_u if us == 1 else hi_u) * su
    v0 = -(lo_v if vs == 1 else hi_v) * sv
    for k in range(3):
        base = C_DX + 3 * k
        iz = cam[base + na] * inverse
        coeffs[k] = iz
        coeffs[3 + k] = cam[base + ua] * su + u0 * iz
        coeffs[6 + k] = cam[base + va] * sv + v0 * iz
    texel_px = (
        16.0 / cam[C_FOCAL]
    )  # texels a pixel spans at 1 block; along a plane seen edge-on it grows with z / distance
    for k in range(MIPS - 1):
        span = (1.7, 3.6, 7.5)[k] / texel_px
        coeffs[9 + k] = min(math.sqrt(span * abs(plane)), span)
    layer = layer_of[quad[Q_BLOCK], face]
    record[R_TEXEL], record[R_ROW] = layers[layer, 0], layers[layer, 1]
    record[R_UMASK], record[R_VMASK] = layers[layer, 2], layers[layer, 3]
    record[R_UMAX] = 16 * (quad[Q_HI_U] - quad[Q_LO_U]) - 1
    record[R_VMAX] = 16 * (quad[Q_HI_V] - quad[Q_LO_V]) - 1
    # the texture's phase is that of the world, so that rectangles continue each other
    record[R_UADD] = 16 * ((quad[Q_LO_U] if us == 1 else -quad[Q_HI_U]) & 3)
    record[R_VADD] = 16 * ((quad[Q_LO_V] if vs == 1 else -quad[Q_HI_V]) & 3)
    record[R_LIGHT], record[R_LROW] = quad[Q_LIGHT], quad[Q_LIGHT_STRIDE]
    record[R_LSHIFT] = 2 if quad[Q_LIGHT_STRIDE] > 0 else 20
    record[R_SHADE] = plane_shade[face]
    record[R_ID] = quad[Q_BLOCK]
    record[R_FLAGS] = CUT if quad[Q_KIND] == CUTOUT or quad[Q_KIND] == CLEAR else 0


@part
def _prepare_box_face(cam, dyn, meta, corners, coeffs, record):
    """Corners relative to the eye and the pixel functions of a face of a creature's box. False when it faces away."""
    w, h = meta[R_UMAX] + 1, meta[R_VMAX] + 1
    nx, ny, nz = dyn[D_NORMAL], dyn[D_NORMAL + 1], dyn[D_NORMAL + 2]
    px, py, pz = dyn[D_CORNER] - cam[C_EYE], dyn[D_CORNER + 1] - cam[C_EYE + 1], dyn[D_CORNER + 2] - cam[C_EYE + 2]
    away = nx * px + ny * py + nz * pz
    if away >= -1e-12:
        return False
    uu = dyn[D_U] * dyn[D_U] + dyn[D_U + 1] * dyn[D_U + 1] + dyn[D_U + 2] * dyn[D_U + 2]
    vv = dyn[D_V] * dyn[D_V] + dyn[D_V + 1] * dyn[D_V + 1] + dyn[D_V + 2] * dyn[D_V + 2]
    u0 = -(dyn[D_U] * px + dyn[D_U + 1] * py + dyn[D_U + 2] * pz) / uu
    v0 = -(dyn[D_V] * px + dyn[D_V + 1] * py + dyn[D_V + 2] * pz) / vv
    for k in range(4):
        a = w if k == 1 or k == 2 else 0
        b = h if k >= 2 else 0
        corners[k, 0] = px + a * dyn[D_U] + b * dyn[D_V]
        corners[k, 1] = py + a * dyn[D_U + 1] + b * dyn[D_V + 1]
        corners[k, 2] = pz + a * dyn[D_U + 2] + b * dyn[D_V + 2]
    for k in range(3):
        dx, dy, dz = cam[C_DX + 3 * k], cam[C_DX + 3 * k + 1], cam[C_DX + 3 * k + 2]
        iz = (nx * dx + ny * dy + nz * dz) / away
        coeffs[k] = iz
        coeffs[3 + k] = (dyn[D_U] * dx + dyn[D_U + 1] * dy + dyn[D_U + 2] * dz) / uu + u0 * iz
        coeffs[6 + k] = (dyn[D_V] * dx + dyn[D_V + 1] * dy + dyn[D_V + 2] * dz) / vv + v0 * iz
    for k in range(MIPS - 1):
        coeffs[9 + k] = 1e9
    for k in range(RECORD):
        record[k] = meta[k]
    return True


@part
def _project(cam, corners, screen, clipped):
    """Clip four corners at the near plane and project them: returns how many points ``screen`` [k, 2] holds."""
    n = 0
    for k in range(4):
        x, y, z = corners[k, 0], corners[k, 1], corners[k, 2]
        screen[k, 0] = cam[C_RIGHT] * x + cam[C_RIGHT + 1] * y + cam[C_RIGHT + 2] * z
        screen[k, 1] = cam[C_UP] * x + cam[C_UP + 1] * y + cam[C_UP + 2] * z
        clipped[k, 2] = cam[C_FORWARD] * x + cam[C_FORWARD + 1] * y + cam[C_FORWARD + 2] * z
        if clipped[k, 2] >= NEAR:
            n += 1
    if n == 0:
        return 0
    focal = cam[C_FOCAL]
    if n == 4:
        for k in range(4):
            scale = focal / clipped[k, 2]
            screen[k, 0] = cam[C_HALF_W] + screen[k, 0] * scale
            screen[k, 1] = cam[C_HALF_H] - screen[k, 1] * scale
        return 4
    n = 0
    for k in range(4):
        j = (k + 1) & 3
        za, zb = clipped[k, 2], clipped[j, 2]
        if za >= NEAR:
            clipped[n, 3], clipped[n, 4], clipped[n, 5] = screen[k, 0], screen[k, 1], za
            n += 1
        if (za >= NEAR) != (zb >= NEAR):
            # from the lower corner to the higher, so that neighbours cut the shared edge at the same point
            a, b = (k, j) if za < zb else (j, k)
            part = (NEAR - clipped[a, 2]) / (clipped[b, 2] - clipped[a, 2])
            clipped[n, 3] = screen[a, 0] + (screen[b, 0] - screen[a, 0]) * part
            clipped[n, 4] = screen[a, 1] + (screen[b, 1] - screen[a, 1]) * part
            clipped[n, 5] = NEAR
            n += 1
    for k in range(n):
        scale = focal / clipped[k, 5]
        screen[k, 0] = cam[C_HALF_W] + clipped[k, 3] * scale
        screen[k, 1] = cam[C_HALF_H] - clipped[k, 4] * scale
    return n


@part
def _spans(screen, n, width, row0, row1, left, right):
    """Fill the pixel columns [left, right) of every row that a convex polygon covers; returns its rows."""
    y_low, y_high, x_low, x_high = screen[0, 1], screen[0, 1], screen[0, 0], screen[0, 0]
    for k in range(1, n):
        y_low, y_high = min(y_low, screen[k, 1]), max(y_high, screen[k, 1])
        x_low, x_high = min(x_low, screen[k, 0]), max(x_high, screen[k, 0])
    if x_high <= 0.5 - _EDGE or x_low >= width or y_high <= row0 or y_low >= row1:
        return 0, 0
    first = max(np.int64(math.ceil(max(y_low, -1.0) - 0.5)), row0)
    last = min(np.int64(math.ceil(min(y_high, 1e6) - 0.5)), row1)
    if math.ceil(max(x_low, -1.0) - 0.5 - _EDGE) >= math.ceil(min(x_high, 1e6) - 0.5 + _EDGE):
        return 0, 0  # between two pixel middles
    for y in range(first, last):
        left[y] = 1e9
        right[y] = -1e9
    for k in range(n):
        j = k + 1 if k + 1 < n else 0
        xa, ya, xb, yb = screen[k, 0], screen[k, 1], screen[j, 0], screen[j, 1]
        if ya == yb:
            continue
        if ya > yb:
            xa, ya, xb, yb = xb, yb, xa, ya
        slope = (xb - xa) / (yb - ya)
        for y in range(
            max(np.int64(math.ceil(max(ya, -1.0) - 0.5)), first), min(np.int64(math.ceil(min(yb, 1e6) - 0.5)), last)
        ):
            x = xa + (y + 0.5 - ya) * slope
            if x < left[y]:
                left[y] = x
            if x > right[y]:
                right[y] = x
    return first, last


@part
def _sorted(keys, n, buckets, order):
    """Counting sort: ``order`` [n] lists the entries by rising key, equal keys in their order."""
    for k in range(buckets.shape[0]):
        buckets[k] = 0
    for k in range(n):
        buckets[keys[k] + 1] += 1
    for k in range(1, buckets.shape[0]):
        buckets[k] += buckets[k - 1]
    for k in range(n):
        order[buckets[keys[k]]] = k
        buckets[keys[k]] += 1


@part
def _outside(cam, x0, y0, z0, x1, y1, z1):
    """Whether a box lies wholly beyond one side of the picture's pyramid."""
    aspect_x = cam[C_HALF_W] / cam[C_FOCAL]
    aspect_y = cam[C_HALF_H] / cam[C_FOCAL]
    for side in range(5):
        a, b, c = cam[C_FORWARD], cam[C_FORWARD + 1], cam[C_FORWARD + 2]
        if side > 0:
            base = C_RIGHT if side < 3 else C_UP
            reach = aspect_x if side < 3 else aspect_y
            sign = 1.0 if side % 2 == 1 else -1.0
            a = a * reach + sign * cam[base]
            b = b * reach + sign * cam[base + 1]
            c = c * reach + sign * cam[base + 2]
        x = (x1 if a > 0 else x0) - cam[C_EYE]
        y = (y1 if b > 0 else y0) - cam[C_EYE + 1]
        z = (z1 if c > 0 else z0) - cam[C_EYE + 2]
        if a * x + b * y + c * z < 0.0:
            return True
    return False


@part
def _gap(value, low, high):
    return low - value if value < low else (value - high if value > high else 0.0)


@part
def _collect(cam, quads, groups, axes, through, keys, picks, n_buckets):
    """Rectangles worth drawing, with sort keys: the nearest point, or the middle (far first) for those seen through."""
    n = 0
    ex, ey, ez = cam[C_EYE], cam[C_EYE + 1], cam[C_EYE + 2]
    scale = n_buckets / (140.0 if through == 1 else FOG_END + 40.0)
    for g in range(groups.shape[0]):
        face = groups[g, 2]
        if groups[g, 1] == 0 or (face >= 6) != (through == 1):
            continue
        face = face % 6
        x0, z0, x1, z1, y0, y1 = groups[g, 3], groups[g, 4], groups[g, 5], groups[g, 6], groups[g, 7], groups[g, 8]
        if face == 0 and ex >= x1 or face == 1 and ex <= x0 or face == 2 and ey >= y1 or face == 3 and ey <= y0:
            continue
        if face == 4 and ez >= z1 or face == 5 and ez <= z0:
            continue
        gx, gz = _gap(ex, x0, x1), _gap(ez, z0, z1)
        if gx * gx + gz * gz > 200.0 * 200.0 or _outside(cam, x0, y0, z0, x1, y1, z1):
            continue
        na, ua, va = axes[face, 0], axes[face, 1], axes[face, 3]
        en, eu, ev = cam[C_EYE + na], cam[C_EYE + ua], cam[C_EYE + va]
        for k in range(groups[g, 0], groups[g, 0] + groups[g, 1]):
            dn = quads[k, Q_PLANE] - en
            if (dn >= 0.0) == (face % 2 == 1):
                continue
            if through == 1:
                du = 0.5 * (quads[k, Q_LO_U] + quads[k, Q_HI_U]) - eu
                dv = 0.5 * (quads[k, Q_LO_V] + quads[k, Q_HI_V]) - ev
            else:
                du = _gap(eu, quads[k, Q_LO_U], quads[k, Q_HI_U])
                dv = _gap(ev, quads[k, Q_LO_V], quads[k, Q_HI_V])
            key = min(np.int64(math.sqrt(dn * dn + du * du + dv * dv) * scale), n_buckets - 1)
            keys[n] = n_buckets - 1 - key if through == 1 else key
            picks[n] = k
            n += 1
    return n


@part
def _fill(coeffs, record, q, first, last, left, right, column_of, columns, texels, near, seen):
    """Draw the spans of one rectangle into the nearest-so-far buffers."""
    top = column_of.shape[0] - 1
    cut = record[R_FLAGS] & CUT != 0
    number = np.int32(q)
    za, zb, zc = coeffs[0], coeffs[1], coeffs[2]
    for y in range(first, last):
        x0 = min(max(np.int64(math.ceil(max(left[y], -1.0) - 0.5 - _EDGE)), 0), top)
        x1 = min(max(np.int64(math.ceil(min(right[y], 1e6) - 0.5 + _EDGE)), 0), top)
        if x0 >= x1:
            continue
        i0, i1 = column_of[x0], column_of[x1]
        if i0 >= i1:
            continue
        fy = np.float32(y)
        zr = zb * fy + zc
        near_row = near[y]
        seen_row = seen[y]
        if not cut:
            for i in range(np.uint64(i0), np.uint64(i1)):  # unsigned: no wrap-around test, so that it vectorises
                iz = za * columns[i] + zr
                nearer = iz > near_row[i]
                near_row[i] = iz if nearer else near_row[i]
                seen_row[i] = number if nearer else seen_row[i]
        else:
            ur = coeffs[4] * fy + coeffs[5]
            vr = coeffs[7] * fy + coeffs[8]
            for i in range(np.uint64(i0), np.uint64(i1)):
                x = columns[i]
                iz = za * x + zr
                if iz > near_row[i]:
                    z = np.float32(1.0) / iz
                    u = min(max(np.int32((coeffs[3] * x + ur) * z), 0), record[R_UMAX])
                    v = min(max(np.int32((coeffs[6] * x + vr) * z), 0), record[R_VMAX])
                    u = (u + record[R_UADD]) & record[R_UMASK]
                    v = (v + record[R_VADD]) & record[R_VMASK]
                    if texels[np.uint64(record[R_TEXEL] + v * record[R_ROW] + u)] >= np.uint32(0x80000000):
                        near_row[i] = iz
                        seen_row[i] = number


@part
def _shade(
    cam,
    coeffs,
    records,
    columns,
    row0,
    row1,
    texels,
    lights,
    light_rg,
    light_b,
    sky,
    cloud,
    cloud_height,
    near,
    seen,
    rgb,
    segmentation,
    depth,
):
    """Colour every pixel once from the rectangle it shows, run by run of equal rectangles."""
    n = columns.shape[0]
    one = np.float32(1.0)
    half = np.float32(0.5)
    focal = np.float32(cam[C_FOCAL])
    half_w, half_h = np.float32(cam[C_HALF_W]), np.float32(cam[C_HALF_H])
    widest = np.float32(math.sqrt(1.0 + (cam[C_HALF_W] / cam[C_FOCAL]) ** 2 + (cam[C_HALF_H] / cam[C_FOCAL]) ** 2))
    fog_start = np.float32(FOG_START)
    fog_z = fog_start / widest
    fog_scale = np.float32(256.0 / (FOG_END - FOG_START))
    fog_r, fog_g, fog_b = np.int64(sky[S_FOG]), np.int64(sky[S_FOG + 1]), np.int64(sky[S_FOG + 2])
    level_size = texels.shape[0] // MIPS
    texel_of, light_of = np.empty(n, np.int32), np.empty(n, np.int32)
    eye_x, eye_z = np.float32(cam[C_EYE]), np.float32(cam[C_EYE + 2])
    ax, ay, az = np.float32(cam[C_DX]), np.float32(cam[C_DX + 1]), np.float32(cam[C_DX + 2])
    for y in range(row0, row1):
        fy = np.float32(y)
        sy = (half_h - fy - half) / focal
        bx = np.float32(cam[C_DY]) * fy + np.float32(cam[C_D0])
        by = np.float32(cam[C_DY + 1]) * fy + np.float32(cam[C_D0 + 1])
        bz = np.float32(cam[C_DY + 2]) * fy + np.float32(cam[C_D0 + 2])
        near_row, seen_row, rgb_row, number_row, depth_row = near[y], seen[y], rgb[y], segmentation[y], depth[y]
        for i in range(np.uint64(n)):
            iz = near_row[i]
            depth_row[i] = one / iz if iz > np.float32(0.0) else np.float32(SKY_DEPTH)
        first = np.int64(0)
        while first < n:
            q = seen_row[first]
            last = first + 1
            while last < n and seen_row[last] == q:
                last += 1
            if q < 0:
                for i in range(first, last):
                    number_row[i] = 0
                sky_row(first, last, columns, ax, ay, az, bx, by, bz, sky, cloud, eye_x, cloud_height, eye_z, rgb_row)
                first = last
                continue
            record = records[q]
            texel, row, umask, vmask = record[R_TEXEL], record[R_ROW], record[R_UMASK], record[R_VMASK]
            umax, vmax, uadd, vadd = record[R_UMAX], record[R_VMAX], record[R_UADD], record[R_VADD]
            light, lrow, lshift, shade = record[R_LIGHT], record[R_LROW], record[R_LSHIFT], record[R_SHADE]
            number, flags = np.int16(record[R_ID]), record[R_FLAGS]
            ua, ur = coeffs[q, 3], coeffs[q, 4] * fy + coeffs[q, 5]
            va, vr = coeffs[q, 6], coeffs[q, 7] * fy + coeffs[q, 8]
            hurt = flags & HURT != 0
            last_u, last_v = np.float32(umax), np.float32(vmax)
            z1, z2, z3 = coeffs[q, 9], coeffs[q, 10], coeffs[q, 11]
            for i in range(np.uint64(first), np.uint64(last)):
                x = columns[i]
                z = depth_row[i]
                u = np.int32(min(max((ua * x + ur) * z, np.float32(0.0)), last_u))
                v = np.int32(min(max((va * x + vr) * z, np.float32(0.0)), last_v))
                level = np.int32(z > z1) + np.int32(z > z2) + np.int32(z > z3)
                texel_of[i] = level * level_size + texel + ((v + vadd) & vmask) * row + ((u + uadd) & umask)
                light_of[i] = light + (v >> lshift) * lrow + (u >> lshift)
            for i in range(np.uint64(first), np.uint64(last)):
                x = columns[i]
                z = depth_row[i]
                colour = texels[np.uint64(texel_of[i])]
                lamp = np.uint64(lights[np.uint64(light_of[i])])
                rg = (light_rg[lamp] * shade) >> 8
                b8 = (light_b[lamp] * shade) >> 8
                r = (np.int64(colour & np.uint32(255)) * rg) >> 8
                g = (np.int64((colour >> np.uint32(8)) & np.uint32(255)) * rg) >> 8
                b = (np.int64((colour >> np.uint32(16)) & np.uint32(255)) * b8) >> 8
                if hurt:
                    r, g, b = (r * 179 + 255 * 77) >> 8, (g * 179) >> 8, (b * 179) >> 8  # three tenths of pure red
                if z > fog_z:
                    sx = (x + half - half_w) / focal
                    reach = z * np.float32(math.sqrt(one + sx * sx + sy * sy))
                    if reach > fog_start:
                        f = min(np.int64((reach - fog_start) * fog_scale), 256)
                        glow = fog_glow(ax * x + bx, ay * x + by, reach / z, sky)
                        r += ((fog_r + np.int64((sky[S_GLOW_R] - sky[S_FOG]) * glow) - r) * f) >> 8
                        g += ((fog_g + np.int64((sky[S_GLOW_R + 1] - sky[S_FOG + 1]) * glow) - g) * f) >> 8
                        b += ((fog_b + np.int64((sky[S_GLOW_R + 2] - sky[S_FOG + 2]) * glow) - b) * f) >> 8
                rgb_row[i, 0] = np.uint8(r)
                rgb_row[i, 1] = np.uint8(g)
                rgb_row[i, 2] = np.uint8(b)
                number_row[i] = number
            if flags & HAND:
                for i in range(first, last):
                    depth_row[i] *= np.float32(1.0 / HAND_SCALE)
            first = last


@part
def _blend(
    cam,
    coeffs,
    record,
    first,
    last,
    left,
    right,
    column_of,
    columns,
    texels,
    lights,
    light_rg,
    light_b,
    sky,
    near,
    rgb,
    segmentation,
    depth,
):
    """Lay one see-through rectangle over the picture where nothing solid is nearer."""
    top = column_of.shape[0] - 1
    one = np.float32(1.0)
    focal = np.float32(cam[C_FOCAL])
    half_w, half_h = np.float32(cam[C_HALF_W]), np.float32(cam[C_HALF_H])
    for y in range(first, last):
        x0 = min(max(np.int64(math.ceil(max(left[y], -1.0) - 0.5 - _EDGE)), 0), top)
        x1 = min(max(np.int64(math.ceil(min(right[y], 1e6) - 0.5 + _EDGE)), 0), top)
        if x0 >= x1:
            continue
        fy = np.float32(y)
        sy = (half_h - fy - np.float32(0.5)) / focal
        for i in range(column_of[x0], column_of[x1]):
            x = columns[i]
            iz = coeffs[0] * x + (coeffs[1] * fy + coeffs[2])
            if iz <= near[y, i]:
                continue
            z = one / iz
            u = min(max(np.int32((coeffs[3] * x + (coeffs[4] * fy + coeffs[5])) * z), 0), record[R_UMAX])
            v = min(max(np.int32((coeffs[6] * x + (coeffs[7] * fy + coeffs[8])) * z), 0), record[R_VMAX])
            colour = texels[
                record[R_TEXEL]
                + ((v + record[R_VADD]) & record[R_VMASK]) * record[R_ROW]
                + ((u + record[R_UADD]) & record[R_UMASK])
            ]
            alpha = np.int32(colour >> np.uint32(24))
            if alpha == 0:
                continue
            lamp = lights[record[R_LIGHT] + (v >> record[R_LSHIFT]) * record[R_LROW] + (u >> record[R_LSHIFT])]
            rg = (light_rg[lamp] * record[R_SHADE]) >> 8
            b8 = (light_b[lamp] * record[R_SHADE]) >> 8
            r = (np.int32(colour & np.uint32(255)) * rg) >> 8
            g = (np.int32((colour >> np.uint32(8)) & np.uint32(255)) * rg) >> 8
            b = (np.int32((colour >> np.uint32(16)) & np.uint32(255)) * b8) >> 8
            sx = (x + np.float32(0.5) - half_w) / focal
            reach = z * np.float32(math.sqrt(one + sx * sx + sy * sy))
            if reach > np.float32(FOG_START):
                f = min(np.int32((reach - np.float32(FOG_START)) * np.float32(256.0 / (FOG_END - FOG_START))), 256)
                r += ((np.int32(sky[S_FOG]) - r) * f) >> 8
                g += ((np.int32(sky[S_FOG + 1]) - g) * f) >> 8
                b += ((np.int32(sky[S_FOG + 2]) - b) * f) >> 8
            alpha += alpha >> 7
            rgb[y, i, 0] = np.uint8(np.int32(rgb[y, i, 0]) + (((r - np.int32(rgb[y, i, 0])) * alpha) >> 8))
            rgb[y, i, 1] = np.uint8(np.int32(rgb[y, i, 1]) + (((g - np.int32(rgb[y, i, 1])) * alpha) >> 8))
            rgb[y, i, 2] = np.uint8(np.int32(rgb[y, i, 2]) + (((b - np.int32(rgb[y, i, 2])) * alpha) >> 8))
            if record[R_FLAGS] & NO_ID == 0 and z < depth[y, i]:
                segmentation[y, i] = np.int16(record[R_ID])
                depth[y, i] = z


@part
def _place_cracks(crack, layers, crack_layers, axes, dyn, meta, n):
    """The six faces of the block being broken, a hair outside it; returns the new count."""
    layer = crack_layers[min(max(crack[3], 0), N_CRACKS - 1)]
    m = np.zeros((3, 3), np.float64)
    t = np.empty(3, np.float64)
    low = np.empty(3, np.float64)
    size = np.empty(3, np.float64)
    faces = np.empty((6, 3), np.int32)
    for k in range(3):
        m[k, k] = 1.0
        t[k] = crack[k]
        low[k] = -0.002
        size[k] = 1.004
    for f in range(6):
        faces[f, 0], faces[f, 1], faces[f, 2] = layers[layer, 0], 16, 16
    return _box_faces(m, t, low, size, faces, np.int64(NO_ID), np.int64(0), np.int64(255), axes, dyn, meta, n)


@part
def _place_shadows(entities, radii, cells, light, origin, layers, layer, dyn, meta, n):
    """A round shadow on the ground under each creature; returns the new count."""
    ny, nz, nx = cells.shape
    for e in range(entities.shape[0]):
        kind = np.int64(entities[e, E_KIND])
        radius = radii[kind] if 0 <= kind < radii.shape[0] else 0.0
        if radius == 0.0 or entities[e, E_HURT] >= 10.0:
            continue
        x, feet, z = entities[e, E_X], entities[e, E_Y], entities[e, E_Z]
        ix, iz = np.int64(math.floor(x)) - origin[0] + 1, np.int64(math.floor(z)) - origin[2] + 1
        iy = np.int64(math.floor(feet - 0.01)) - origin[1] + 1
        if ix < 0 or iz < 0 or ix >= nx or iz >= nz:
            continue
        drop = 0
        while drop < 3 and 0 < iy < ny and cells[iy, iz, ix] == 0:
            iy -= 1
            drop += 1
        if iy < 0 or iy >= ny or cells[iy, iz, ix] == 0:
            continue
        row = dyn[n]
        for k in range(DYNAMIC):
            row[k] = 0.0
        row[D_CORNER], row[D_CORNER + 1], row[D_CORNER + 2] = x - radius, origin[1] + iy + 0.004, z - radius
        row[D_U] = radius / 8.0
        row[D_V + 2] = radius / 8.0
        row[D_NORMAL + 1] = 1.0
        for k in range(RECORD):
            meta[n, k] = 0
        meta[n, R_TEXEL], meta[n, R_ROW], meta[n, R_UMASK], meta[n, R_VMASK] = layers[layer, 0], 16, 0xFFFF, 0xFFFF
        meta[n, R_UMAX], meta[n, R_VMAX], meta[n, R_LIGHT], meta[n, R_LSHIFT] = 15, 15, 255, 20
        meta[n, R_SHADE], meta[n, R_FLAGS] = 256, NO_ID
        n += 1
    return n


@part
def _line(ax, ay, az, bx, by, bz, wide, width, row0, row1, column_of, near, rgb):
    """Darken a screen line (x, y, 1/z at both ends) where nothing is before it: ``wide`` pixels across its main axis.

    Each column (or row) is decided by its own number, so that every part of a picture agrees with the whole.
    """
    flat = abs(bx - ax) >= abs(by - ay)
    if (ax > bx) if flat else (ay > by):
        ax, ay, az, bx, by, bz = bx, by, bz, ax, ay, az
    low, high = (ax, bx) if flat else (ay, by)
    if high - low < 1e-9:
        return
    start, end = (0, width) if flat else (row0, row1)
    first = max(np.int64(math.ceil(max(low, -1.0) - 0.5)), start)
    last = min(np.int64(math.ceil(min(high, 1e6) - 0.5)), end)
    for k in range(first, last):
        part = (k + 0.5 - low) / (high - low)
        iz = np.float32((az + (bz - az) * part) * _LINE_LIFT)
        across = ay + (by - ay) * part if flat else ax + (bx - ax) * part
        if not -1e6 < across < 1e6:
            continue
        top = np.int64(math.floor(across - 0.5 * wide + 0.5))
        for j in range(top, top + wide):
            y, x = (j, k) if flat else (k, j)
            if y < row0 or y >= row1 or x < 0 or x >= width:
                continue
            i = column_of[x]
            if i == column_of[x + 1] or iz < near[y, i]:
                continue
            for c in range(3):
                rgb[y, i, c] = np.uint8((np.int32(rgb[y, i, c]) * (256 - _LINE_ALPHA)) >> 8)


@part
def _outline(cam, target, axes, width, height, row0, row1, column_of, near, rgb):
    """The outline of a block: those edges that belong to a face turned to the eye."""
    wide = np.int64(max(height / 180.0 + 0.5, 1.0))
    view = np.empty((2, 3), np.float64)
    for edge in range(12):
        along = edge // 4
        u, v = (along + 1) % 3, (along + 2) % 3
        at_u, at_v = target[u] + (edge & 1), target[v] + (edge >> 1 & 1)
        faces_u = cam[C_EYE + u] > at_u if edge & 1 else cam[C_EYE + u] < at_u
        faces_v = cam[C_EYE + v] > at_v if edge >> 1 & 1 else cam[C_EYE + v] < at_v
        if not faces_u and not faces_v:
            continue
        for end in range(2):
            d_u, d_v = at_u - cam[C_EYE + u], at_v - cam[C_EYE + v]
            d_a = target[along] + end - cam[C_EYE + along]
            for k in range(3):
                base = (C_RIGHT, C_UP, C_FORWARD)[k]
                view[end, k] = cam[base + along] * d_a + cam[base + u] * d_u + cam[base + v] * d_v
        if view[0, 2] < NEAR and view[1, 2] < NEAR:
            continue
        for end in range(2):
            if view[end, 2] < NEAR:
                part = (NEAR - view[end, 2]) / (view[1 - end, 2] - view[end, 2])
                for k in range(3):
                    view[end, k] += (view[1 - end, k] - view[end, k]) * part
        za, zb = 1.0 / view[0, 2], 1.0 / view[1, 2]
        focal, half_w, half_h = cam[C_FOCAL], cam[C_HALF_W], cam[C_HALF_H]
        _line(
            half_w + view[0, 0] * focal * za,
            half_h - view[0, 1] * focal * za,
            za,
            half_w + view[1, 0] * focal * zb,
            half_h - view[1, 1] * focal * zb,
            zb,
            wide,
            np.int64(width),
            row0,
            row1,
            column_of,
            near,
            rgb,
        )


@part
def _in_water(cam, cells, origin, water):
    """Whether the eye is in a stored cell of water."""
    x = np.int64(math.floor(cam[C_EYE])) - origin[0] + 1
    y = np.int64(math.floor(cam[C_EYE + 1])) - origin[1] + 1
    z = np.int64(math.floor(cam[C_EYE + 2])) - origin[2] + 1
    inside = 0 <= x < cells.shape[2] and 0 <= y < cells.shape[0] and 0 <= z < cells.shape[1]
    return inside and cells[y, z, x] == water


@part
def _drown(lamp, row0, row1, light_rg, light_b, depth, rgb):
    """What an eye in water sees: blue, and less the further away."""
    red, green, blue = light_rg[lamp] * 20 >> 8, light_rg[lamp] * 52 >> 8, light_b[lamp] * 120 >> 8
    for y in range(row0, row1):
        for i in range(depth.shape[1]):
            reach = min(depth[y, i], np.float32(80.0)) * np.float32(0.07)
            share = np.int32(256.0 - 174.0 / (1.0 + reach * reach))
            for c in range(3):
                old = np.int32(rgb[y, i, c])
                new = red if c == 0 else (green if c == 1 else blue)
                rgb[y, i, c] = np.uint8(old + (((new - old) * share) >> 8))


@part
def _overlay(places, values, row0, row1, columns, rgb):
    """Lay the flat layer over the picture."""
    for k in range(places.shape[0]):
        y, i = places[k] // columns, places[k] % columns
        if y < row0 or y >= row1:
            continue
        a = values[k, 3]
        for c in range(3):
            old = np.int32(rgb[y, i, c])
            rgb[y, i, c] = np.uint8(255 - old if a == INVERT else old + (((values[k, c] - old) * a) >> 8))


@kernel
def draw(
    table,
    numbers,
    eye,
    cam,
    quads,
    groups,
    lights,
    light,
    cells,
    origin,
    axes,
    layers,
    layer_of,
    crack_layers,
    texels,
    shift,
    parts,
    part_faces,
    model_table,
    scales,
    entities,
    entity_models,
    hand,
    crack,
    target,
    radii,
    cloud,
    plane_shade,
    columns,
    column_of,
    places,
    values,
    keys,
    picks,
    order,
    buckets,
    coeffs,
    records,
    dyn,
    meta,
    left,
    right,
    near,
    seen,
    light_rg,
    light_b,
    sky,
    rgb,
    segmentation,
    depth,
    row0,
    row1,
):
    """One picture, or the rows [row0, row1) of it.

    ``numbers``: yaw, pitch, fov, width, height, time, rain, swing, bob, height of the clouds over the eye, block
    id of water.
    """
    _camera(table, eye, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], cam)
    daylight(table, numbers[5], numbers[6], sky, light_rg, light_b)
    width = numbers[3]
    for y in range(np.uint64(row0), np.uint64(row1)):
        for i in range(np.uint64(columns.shape[0])):
            near[y, i] = 0.0
            seen[y, i] = -1
    corners = np.empty((4, 3), np.float64)
    screen = np.empty((8, 2), np.float64)
    clipped = np.empty((8, 6), np.float64)
    n_buckets = buckets.shape[0] - 1
    n_faces = _place_entities(
        table, entities, entity_models, parts, part_faces, model_table, scales, light, origin, axes, shift, dyn, meta
    )
    if hand[1] >= 0:
        n_faces = _place_hand(
            table,
            cam,
            hand,
            numbers[7],
            numbers[8],
            parts,
            part_faces,
            model_table,
            light,
            origin,
            axes,
            shift,
            dyn,
            meta,
            n_faces,
        )
    used = np.int64(0)  # typed: a literal would compile what it is handed to twice
    for phase in range(2):  # what hides, near to far; then what is seen through, far to near
        n = _collect(cam, quads, groups, axes, phase, keys, picks, n_buckets)
        if phase == 0:
            first_face = 0
        else:
            first_face = n_faces  # ``used`` stays: the records of what hides are asked for again (``parts``)
            n_faces = _place_shadows(
                entities, radii, cells, light, origin, layers, crack_layers[N_CRACKS], dyn, meta, n_faces
            )
            if crack[3] >= 0:
                n_faces = _place_cracks(crack, layers, crack_layers, axes, dyn, meta, n_faces)
        for k in range(first_face, n_faces):
            dx, dy, dz = dyn[k, 0] - cam[0], dyn[k, 1] - cam[1], dyn[k, 2] - cam[2]
            reach = math.sqrt(dx * dx + dy * dy + dz * dz) * (n_buckets / (FOG_END + 40.0))
            keys[n] = min(np.int64(reach), n_buckets - 1) if phase == 0 else n_buckets - 1
            picks[n] = -1 - k
            n += 1
        _sorted(keys, n, buckets, order)
        for k in range(n):
            pick = picks[order[k]]
            c, r = coeffs[used], records[used]
            if pick >= 0:
                drawn = _world_corners(cam, quads[pick], axes, corners)
            else:
                drawn = _prepare_box_face(cam, dyn[-1 - pick], meta[-1 - pick], corners, c, r)
            if not drawn:
                continue
            points = _project(cam, corners, screen, clipped)
            if points < 3:
                continue
            first, last = _spans(screen, points, width, row0, row1, left, right)
            if first >= last:
                continue
            if pick >= 0:
                _prepare_world(cam, quads[pick], layers, layer_of, axes, plane_shade, c, r)
            if phase == 0:
                _fill(c, r, used, first, last, left, right, column_of, columns, texels, near, seen)
                used += 1
            else:
                _blend(
                    cam,
                    c,
                    r,
                    first,
                    last,
                    left,
                    right,
                    column_of,
                    columns,
                    texels,
                    lights,
                    light_rg,
                    light_b,
                    sky,
                    near,
                    rgb,
                    segmentation,
                    depth,
                )
        if phase == 0:
            _shade(
                cam,
                coeffs,
                records,
                columns,
                row0,
                row1,
                texels,
                lights,
                light_rg,
                light_b,
                sky,
                cloud,
                np.float32(numbers[9]),
                near,
                seen,
                rgb,
                segmentation,
                depth,
            )
            if target[3] != 0:
                _outline(cam, target, axes, width, numbers[4], row0, row1, column_of, near, rgb)
    if _in_water(cam, cells, origin, numbers[10]):
        lamp = _light_at(light, origin, cam[C_EYE], cam[C_EYE + 1], cam[C_EYE + 2])
        _drown(lamp, row0, row1, light_rg, light_b, depth, rgb)
    _overlay(places, values, row0, row1, columns.shape[0], rgb)
