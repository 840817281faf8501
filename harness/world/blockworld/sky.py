"""Light of the day, colours of sky and fog, sun, moon, stars and clouds: pure functions of the time and a direction."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators
# (compiled functions take what numba infers)

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from harness.world.blockworld.compiling import part
from harness.world.blockworld.textures import hash_noise

__all__ = [
    "CLOUD_CELLS",
    "SKY_PARAMETERS",
    "S_FOG",
    "S_GLOW_R",
    "clouds",
    "cosine",
    "daylight",
    "fog_glow",
    "sine",
    "sine_table",
    "sky_row",
]

# Slots of the per-frame sky parameters (float32).
S_SKY, S_FOG, S_SUN_X, S_SUN_Y, S_STARS, S_GLOW, S_CLOUD, S_CLOUD_X, S_CLOUD_Y, S_RAIN, S_GLOW_R = (
    0,
    3,
    6,
    7,
    8,
    9,
    10,
    13,
    14,
    15,
    16,
)
SKY_PARAMETERS = 20
CLOUD_CELLS = 128
_CLOUD_SIZE = 12.0  # blocks a cloud cell is wide
_SKY_PLANE = 16.0 / 96.0  # the game's sky plane lies 16 blocks up in a fog of 96
_GAMMA = 2.0  # VPT's brightness setting


def sine_table() -> npt.NDArray[np.float64]:
    """65,537 sines of a turn, rounded to 2^-40, so that a library's last bit cannot show: float64."""
    steps = [math.sin(2.0 * math.pi * k / 65536.0) for k in range(65537)]
    return np.round(np.array(steps) * 2.0**40) / 2.0**40


def clouds() -> npt.NDArray[np.uint8]:
    """Where clouds are: uint8 [CLOUD_CELLS, CLOUD_CELLS], 1 = cloud, seamless at the edges."""
    n = CLOUD_CELLS
    total = np.zeros((n, n))
    for k, (period, weight) in enumerate(((8, 0.45), (16, 0.7), (32, 0.9), (64, 0.5))):
        grid = hash_noise(300 + k, period, period)
        at = np.arange(n) * period / n
        i = at.astype(int)
        f = at - i
        j = (i + 1) % period
        rows = grid[i] * (1 - f)[:, None] + grid[j] * f[:, None]
        total += weight * (rows[:, i] * (1 - f)[None, :] + rows[:, j] * f[None, :])
    return (total > np.quantile(total, 0.78)).astype(np.uint8)


@part
def sine(table, angle):
    """Sine of an angle in radians from the table, linearly between its entries."""
    turn = angle * (65536.0 / 6.283185307179586)
    low = math.floor(turn)
    part = turn - low
    k = np.int64(low) & 65535
    return table[k] + (table[k + 1] - table[k]) * part


@part
def cosine(table, angle):
    """Cosine of an angle in radians from the table."""
    return sine(table, angle + 1.5707963267948966)


@part
def _clamp(value):
    return min(max(value, 0.0), 1.0)


@part
def daylight(table, time, rain, sky, light_rg, light_b):
    """Fill the sky parameters and the two light tables for a time of day.

    ``light_rg`` and ``light_b`` are int32 [256]: brightness 0..256 for (occlusion nibble, light nibble). The angle of
    the sun, its brightness and the brightness curve follow the game's published formulas, with gamma as VPT sets it.
    """
    f = time / 24000.0 - 0.25
    f -= math.floor(f)
    half = 0.5 - cosine(table, f * 3.141592653589793) * 0.5
    angle = (f + (half - f) / 3.0) * 6.283185307179586
    height = cosine(table, angle)
    day = _clamp(height * 2.0 + 0.5)
    bright = _clamp(height * 2.0 + 0.2) * (1.0 - rain * 0.3125) * 0.8 + 0.2
    base = (0.470, 0.655, 1.0)
    fog = (0.690, 0.808, 1.0)
    wet, dark = min(rain, 1.0), max(rain - 1.0, 0.0) / 0.4  # above 1: thunder
    luma = (base[0] * 0.3 + base[1] * 0.59 + base[2] * 0.11) * day
    for k in range(3):
        s = base[k] * day
        s += (luma * 0.6 - s) * 0.75 * wet
        s += (luma * 0.12 - s) * 0.75 * dark
        sky[S_SKY + k] = s * 255.0
        lift = (0.06, 0.06, 0.09)[k]
        g = fog[k] * (day * (1.0 - lift) + lift) * (1.0 - (0.45, 0.45, 0.5)[k] * wet) * (1.0 - 0.5 * dark)
        sky[S_FOG + k] = g * 255.0
        sky[S_CLOUD + k] = (
            (0.96, 0.97, 1.0)[k] * (day * (0.9, 0.9, 0.85)[k] + (0.1, 0.1, 0.15)[k]) * (1.0 - 0.5 * rain) * 255.0
        )
    sky[S_SUN_X] = -sine(table, angle)
    sky[S_SUN_Y] = height
    stars = _clamp(1.0 - (height * 2.0 + 0.25))
    sky[S_STARS] = stars * stars * 0.5 * (1.0 - rain)
    sky[S_RAIN] = rain
    glow = 0.0
    if -0.4 <= height <= 0.4:
        t = height / 0.4 * 0.5 + 0.5
        glow = 1.0 - (1.0 - sine(table, t * 3.141592653589793)) * 0.99
        glow = glow * glow * (1.0 - rain)
        sky[S_GLOW_R] = (t * 0.3 + 0.7) * 255.0
        sky[S_GLOW_R + 1] = (t * t * 0.7 + 0.2) * 255.0
        sky[S_GLOW_R + 2] = 0.2 * 255.0
    sky[S_GLOW] = glow
    strength = bright * 0.95 + 0.05
    tint = bright + (1.0 - bright) * 0.35
    for k in range(256):
        level = (k & 15) / 15.0
        curve = level / (4.0 - 3.0 * level) * strength
        shade = 0.2 + 0.8 * (k >> 4) / 15.0
        for channel in range(2):
            c = curve * (tint if channel == 0 else 1.0)
            rest = 1.0 - c
            c = c + _GAMMA * (1.0 - rest * rest * rest * rest - c)
            c = _clamp(_clamp(c) * 0.96 + 0.03) * shade
            if channel == 0:
                light_rg[k] = np.int32(c * 256.0 + 0.5)
            else:
                light_b[k] = np.int32(c * 256.0 + 0.5)


@part
def _star(dx, dy, dz):
    """Brightness of the star field in a direction: small squares on the faces of a cube about the eye."""
    ax, ay, az = abs(dx), abs(dy), abs(dz)
    side = np.int64(0)
    if ax >= ay and ax >= az:
        u, v = dy / ax, dz / ax
        side = np.int64(1 if dx > 0 else 2)
    elif ay >= az:
        u, v = dx / ay, dz / ay
        side = np.int64(3 if dy > 0 else 4)
    else:
        u, v = dx / az, dy / az
        side = np.int64(5 if dz > 0 else 6)
    iu = np.int64(math.floor(u * np.float32(90.0)))
    iv = np.int64(math.floor(v * np.float32(90.0)))
    h = (iu * 73856093) ^ (iv * 19349663) ^ (side * 83492791)
    h = (h ^ (h >> 13)) * 1274126177 & 0x7FFFFFFF
    if h % 311 != 0:
        return np.float32(0.0)
    # a star fills the middle of its cell only
    fu = u * np.float32(90.0) - np.float32(iu)
    fv = v * np.float32(90.0) - np.float32(iv)
    half = np.float32(0.16) + np.float32(0.14) * np.float32((h >> 9) & 3) / np.float32(3.0)
    if abs(fu - np.float32(0.5)) > half or abs(fv - np.float32(0.5)) > half:
        return np.float32(0.0)
    return np.float32(0.75) + np.float32(0.25) * np.float32((h >> 12) & 1)


@part
def fog_glow(dx, dy, length, sky):
    """Share 0..1 of the dawn's colour in the haze of a direction: towards the low sun, near the horizon."""
    one = np.float32(1.0)
    if sky[S_GLOW] <= np.float32(0.0):
        return np.float32(0.0)
    toward = dx / length * (one if sky[S_SUN_X] > np.float32(0.0) else -one)
    low = one - abs(dy) / length * np.float32(2.2)
    return max(np.float32(0.0), min(sky[S_GLOW] * toward * max(low, np.float32(0.0)) * np.float32(1.2), one))


@part
def _lights_of_heaven(dx, dy, dz, length, sky, r, g, b):
    """Stars, sun and moon laid over a sky colour: squares on the celestial sphere about the axis of the day."""
    one = np.float32(1.0)
    inverse = one / length
    up = dy * inverse
    t = fog_glow(dx, dy, length, sky)
    r += (sky[S_GLOW_R] - r) * t
    g += (sky[S_GLOW_R + 1] - g) * t
    b += (sky[S_GLOW_R + 2] - b) * t
    if sky[S_STARS] > np.float32(0.0) and up > np.float32(0.02):
        star = _star(dx, dy, dz) * sky[S_STARS] * np.float32(330.0) * min(one, up * np.float32(6.0))
        r, g, b = r + star, g + star, b + star
    along = (dx * sky[S_SUN_X] + dy * sky[S_SUN_Y]) * inverse
    clear = one - sky[S_RAIN]
    if abs(along) > np.float32(0.9) and clear > np.float32(0.0):
        u = abs(dz * inverse / along)
        v = abs((dy * sky[S_SUN_X] - dx * sky[S_SUN_Y]) * inverse / along)
        reach = max(u, v)
        if along > np.float32(0.0):
            if reach < np.float32(0.075):
                r, g, b = np.float32(255.0), np.float32(255.0), np.float32(232.0)
            elif reach < np.float32(0.30):
                t = (np.float32(0.30) - reach) / np.float32(0.225)
                t = t * t * np.float32(0.38) * clear
                r += np.float32(255.0) * t
                g += np.float32(235.0) * t
                b += np.float32(150.0) * t
        elif reach < np.float32(0.05):
            pit = (np.int64(u * np.float32(80.0)) * 7 + np.int64(v * np.float32(80.0)) * 13) % 5 == 0
            r, g, b = np.float32(206.0), np.float32(212.0), np.float32(222.0)
            if pit:
                r, g, b = np.float32(168.0), np.float32(176.0), np.float32(190.0)
    return r, g, b


@part
def sky_row(first, last, columns, ax, ay, az, bx, by, bz, sky, cloud, eye_x, cloud_height, eye_z, out):
    """Sky colours of the pixels [first, last) of a row: ``out`` uint8 [n, 3].

    A pixel's ray is a + x b in each axis (float32, not normalised).
    """
    one = np.float32(1.0)
    zero = np.float32(0.0)
    top = np.float32(255.0)
    plane = np.float32(_SKY_PLANE)
    fog_r, fog_g, fog_b = sky[S_FOG], sky[S_FOG + 1], sky[S_FOG + 2]
    to_r, to_g, to_b = sky[S_SKY] - fog_r, sky[S_SKY + 1] - fog_g, sky[S_SKY + 2] - fog_b
    cloud_r, cloud_g, cloud_b = sky[S_CLOUD], sky[S_CLOUD + 1], sky[S_CLOUD + 2]
    sun_x, sun_y = sky[S_SUN_X], sky[S_SUN_Y]
    lit = sky[S_GLOW] > zero or sky[S_STARS] > zero
    # an offset keeps the cell numbers positive, where cutting off is rounding down
    start_x = eye_x + sky[S_CLOUD_X] + np.float32(_CLOUD_SIZE * CLOUD_CELLS * 64)
    start_z = eye_z + np.float32(_CLOUD_SIZE * CLOUD_CELLS * 64)
    cell = np.float32(1.0 / _CLOUD_SIZE)
    for i in range(np.uint64(first), np.uint64(last)):
        x = columns[i]
        dx, dy, dz = ax * x + bx, ay * x + by, az * x + bz
        length = np.float32(math.sqrt(dx * dx + dy * dy + dz * dz))
        r, g, b = fog_r, fog_g, fog_b
        rise = one / dy
        slant = length * rise  # 1 / sine of the elevation
        if dy > plane * length:
            t = one - plane * slant
            r += to_r * t
            g += to_g * t
            b += to_b * t
        if lit or abs(dx * sun_x + dy * sun_y) > np.float32(0.9) * length:
            r, g, b = _lights_of_heaven(dx, dy, dz, length, sky, r, g, b)
        if dy > np.float32(0.03) * length and cloud_height > zero:
            t = cloud_height * rise
            cx = np.uint64(np.int64((start_x + dx * t) * cell) & (CLOUD_CELLS - 1))
            cz = np.uint64(np.int64((start_z + dz * t) * cell) & (CLOUD_CELLS - 1))
            if cloud[cz, cx] != 0:
                a = np.float32(0.72) * min(one, (np.float32(33.0) - slant) * np.float32(0.045))
                r += (cloud_r - r) * a
                g += (cloud_g - g) * a
                b += (cloud_b - b) * a
        out[i, 0] = np.uint8(np.int32(min(r, top)))
        out[i, 1] = np.uint8(np.int32(min(g, top)))
        out[i, 2] = np.uint8(np.int32(min(b, top)))
