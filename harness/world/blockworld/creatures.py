"""What creatures and dropped items do in a tick. Compiled into the kernels of ``rules.py``.

A creature with ``ai`` off stands: it neither walks nor is thrown, but it is hurt and dies.
"""

from __future__ import annotations

import math

import numpy as np

from harness.world.blockworld.compiling import part
from harness.world.blockworld.hands import hurt_player, spawn_item, take
from harness.world.blockworld.physics import block_at, cosine, draw, fits, move, sine, solid, touches_water

__all__ = ["bearing", "live", "lie"]

_ONE = np.int64(1)
_IDLE, _STROLL, _FLEE, _GLANCE, _CHASE = range(5)


@part
def bearing(dx, dz):  # type: ignore[no-untyped-def]
    """Yaw in degrees of a direction, from sums and products alone so that it agrees on every machine (to 0.01)."""
    ax, az = abs(dx), abs(dz)
    if ax + az < 1e-9:
        return 0.0
    a = min(ax, az) / max(ax, az)
    s = a * a
    angle = ((-0.0464964749 * s + 0.15931422) * s - 0.327622764) * s * a + a
    angle = angle * (180.0 / math.pi)
    if ax > az:
        angle = 90.0 - angle
    if dz < 0.0:
        angle = 180.0 - angle
    return angle if dx < 0.0 else -angle


@part
def _turned(old, aim, most):  # type: ignore[no-untyped-def]
    step = (aim - old + 180.0) % 360.0 - 180.0
    return old + max(-most, min(most, step))


@part
def _aim_anywhere(space, clock, mob, reach):  # type: ignore[no-untyped-def]
    """Set a goal to walk to; False when a body would not stand free there."""
    row = space.rows.creatures[mob.kind]
    x = mob.x + (2.0 * draw(clock) - 1.0) * reach
    z = mob.z + (2.0 * draw(clock) - 1.0) * reach
    if not fits(space, x, mob.y, z, row.width, row.height):
        return False
    mob.goal_x, mob.goal_z = x, z
    return True


@part
def _decide(space, arrays, mob):  # type: ignore[no-untyped-def]
    """Choose what to do next."""
    figure, row = space.rows.figures[0], space.rows.creatures[mob.kind]
    player, clock = arrays.player[0], arrays.clock[0]
    dx, dz = player.x - mob.x, player.z - mob.z
    away = math.sqrt(dx * dx + dz * dz)
    if mob.wait > 0:
        mob.wait -= 1
        if mob.wait == 0:
            mob.mode = _IDLE
    if row.hostile and not clock.peaceful:
        chasing = away <= figure.chase_range and not player.dead
        if chasing:
            mob.mode, mob.wait, mob.goal_x, mob.goal_z = _CHASE, 1, player.x, player.z
    reached = abs(mob.goal_x - mob.x) + abs(mob.goal_z - mob.z) < 1.0
    if mob.mode == _FLEE and reached:
        _aim_anywhere(space, clock, mob, 0.5 * figure.stroll_reach)
    elif mob.mode == _STROLL and reached:
        mob.mode, mob.wait = _IDLE, 0
    elif mob.mode == _IDLE:
        if draw(clock) < figure.stroll_chance:
            if _aim_anywhere(space, clock, mob, figure.stroll_reach):
                mob.mode, mob.wait = _STROLL, np.int64(figure.stroll_ticks)
        elif draw(clock) < figure.glance_chance:
            if away < figure.glance_range:
                mob.mode, mob.wait = _GLANCE, 40 + np.int64(40.0 * draw(clock))
            else:
                mob.goal_x = mob.x + 2.0 * draw(clock) - 1.0
                mob.goal_z = mob.z + 2.0 * draw(clock) - 1.0
                mob.mode, mob.wait = _GLANCE, -20  # a look round; see _look_about
    elif mob.mode == _GLANCE and mob.wait < 0:
        mob.wait += 1
        if mob.wait == 0:
            mob.mode = _IDLE


@part
def _look_about(space, arrays, mob):  # type: ignore[no-untyped-def]
    figure, player, row = space.rows.figures[0], arrays.player[0], space.rows.creatures[mob.kind]
    rate = figure.head_turn_rate
    aim, tilt = mob.yaw, 0.0
    if mob.mode in (_GLANCE, _CHASE) and mob.wait > 0:
        dx, dz = player.x - mob.x, player.z - mob.z
        aim = bearing(dx, dz)
        rise = mob.y + row.eye - player.y - figure.player_eye
        tilt = bearing(-rise, math.sqrt(dx * dx + dz * dz))
    elif mob.mode == _GLANCE:
        aim = bearing(mob.goal_x - mob.x, mob.goal_z - mob.z)
    mob.head_yaw = _turned(mob.head_yaw, aim, rate)
    mob.head_pitch = _turned(mob.head_pitch, tilt, rate)
    off = (mob.head_yaw - mob.yaw + 180.0) % 360.0 - 180.0
    if abs(off) > 75.0:  # the body follows a head that is turned too far
        mob.yaw = _turned(mob.yaw, mob.head_yaw, abs(off) - 75.0)


@part
def _barred(space, mob, row):  # type: ignore[no-untyped-def]
    """Whether walking on leads into a wall two blocks high, a drop of three, or water."""
    ahead = row.width / 2.0 + 0.5
    x = math.floor(mob.x - sine(space, mob.yaw) * ahead)
    z = math.floor(mob.z + cosine(space, mob.yaw) * ahead)
    y = math.floor(mob.y + 1e-3)
    if solid(space, x, y, z):
        return solid(space, x, y + 1, z) or solid(space, x, y + 2, z)
    for depth in range(1, 4):
        below = block_at(space, x, y - depth, z)
        if space.rows.blocks[below].liquid:
            return True
        if space.rows.blocks[below].solid:
            return False
    return True


@part
def _stride(space, arrays, mob):  # type: ignore[no-untyped-def]
    """The push of its legs this tick; 0 where it stands."""
    figure, row = space.rows.figures[0], space.rows.creatures[mob.kind]
    if mob.mode not in (_STROLL, _FLEE, _CHASE):
        return 0.0
    dx, dz = mob.goal_x - mob.x, mob.goal_z - mob.z
    if abs(dx) + abs(dz) < 0.1:
        return 0.0
    mob.yaw = _turned(mob.yaw, bearing(dx, dz), figure.turn_rate)
    if mob.on_ground and _barred(space, mob, row):
        if mob.mode == _STROLL:
            mob.mode, mob.wait = _IDLE, 0
            return 0.0
        if mob.mode == _FLEE:
            mob.goal_x, mob.goal_z = mob.x, mob.z
            return 0.0
    factor = row.flee if mob.mode == _FLEE else row.walk
    pace = row.speed * factor
    return pace * pace * figure.input_factor


@part
def _go(space, mob, push):  # type: ignore[no-untyped-def]
    """Accelerate, slide, fall."""
    figure, row = space.rows.figures[0], space.rows.creatures[mob.kind]
    wet = touches_water(space, mob.x, mob.y, mob.z, row.width, row.height)
    if wet:
        mob.vy += figure.water_rise
        push = min(push, figure.water_acceleration)
    elif push > 0.0 and mob.on_ground and mob.bumped:
        mob.vy = figure.creature_jump
    elif not mob.on_ground:
        push = min(push, figure.air_acceleration)
    friction = figure.air_friction
    if wet:
        friction = figure.water_drag
    elif mob.on_ground:
        friction = figure.slipperiness * figure.air_friction
    mob.vx -= sine(space, mob.yaw) * push
    mob.vz += cosine(space, mob.yaw) * push
    x, y, z = mob.x, mob.y, mob.z
    mob.x, mob.y, mob.z, hit_x, hit_y, hit_z = move(space, x, y, z, row.width, row.height, mob.vx, mob.vy, mob.vz)
    mob.on_ground = hit_y and mob.vy < 0.0
    mob.bumped = hit_x or hit_z
    if hit_x:
        mob.vx = 0.0
    if hit_y:
        mob.vy = 0.0
    if hit_z:
        mob.vz = 0.0
    if wet:
        mob.vy = mob.vy * friction - figure.water_gravity
    elif mob.gravity:
        mob.vy = (mob.vy - figure.gravity) * figure.vertical_drag
    mob.vx *= friction
    mob.vz *= friction
    gone = math.sqrt((mob.x - x) ** 2 + (mob.z - z) ** 2)
    mob.stride += (min(1.0, 4.0 * gone) - mob.stride) * 0.4
    mob.phase += mob.stride


@part
def _bite(space, arrays, mob):  # type: ignore[no-untyped-def]
    figure, player, row = space.rows.figures[0], arrays.player[0], space.rows.creatures[mob.kind]
    if mob.bite_wait > 0:
        mob.bite_wait -= 1
    if mob.mode != _CHASE or mob.bite_wait > 0:
        return
    dx, dz = player.x - mob.x, player.z - mob.z
    level = player.y < mob.y + row.height and player.y + figure.player_height > mob.y
    if level and dx * dx + dz * dz <= figure.bite_reach * figure.bite_reach:
        mob.bite_wait = np.int64(figure.bite_delay)
        hurt_player(space, arrays, row.bite, dx, dz)


@part
def _part(space, a, b, reach):  # type: ignore[no-untyped-def]
    """Two bodies whose boxes overlap push each other softly. ``reach`` is half the sum of their widths."""
    dx, dz = b.x - a.x, b.z - a.z
    if abs(dx) >= reach or abs(dz) >= reach:
        return
    largest = max(abs(dx), abs(dz))
    if largest < 0.01:
        return
    root = math.sqrt(largest)
    push = min(1.0, 1.0 / root) * space.rows.figures[0].push / root
    a.vx -= dx * push
    a.vz -= dz * push
    b.vx += dx * push
    b.vz += dz * push


@part
def _jostle(space, arrays):  # type: ignore[no-untyped-def]
    figure, player, clock = space.rows.figures[0], arrays.player[0], arrays.clock[0]
    for i in range(clock.n_mobs):
        mob = arrays.mobs[i]
        row = space.rows.creatures[mob.kind]
        if mob.dying or not row.alive:
            continue
        if player.y < mob.y + row.height and player.y + figure.player_height > mob.y and not player.dead:
            _part(space, player, mob, (figure.player_width + row.width) / 2.0)
        for j in range(i):
            other = arrays.mobs[j]
            wide = space.rows.creatures[other.kind]
            if (not other.dying and wide.alive and other.y < mob.y + row.height
                    and other.y + wide.height > mob.y):
                _part(space, other, mob, (wide.width + row.width) / 2.0)


@part
def _fall_apart(space, arrays, mob):  # type: ignore[no-untyped-def]
    clock, row = arrays.clock[0], space.rows.creatures[mob.kind]
    if clock.loot and row.drop >= 0:
        spawn_item(space, arrays, row.drop, _ONE, mob.x, mob.y + 0.5, mob.z, 0.0, space.rows.figures[0].item_pop, 0.0,
                   np.int64(space.rows.figures[0].item_delay))


@part
def live(space, arrays):  # type: ignore[no-untyped-def]
    """One tick of every creature, in the order in which they came."""
    clock = arrays.clock[0]
    _jostle(space, arrays)
    kept = 0
    for i in range(clock.n_mobs):
        mob = arrays.mobs[i]
        mob.age += 1
        mob.hurt = max(0, mob.hurt - 1)
        mob.invulnerable = max(0, mob.invulnerable - 1)
        if mob.dying > 0:
            mob.dying += 1
        if mob.dying > space.rows.figures[0].death_ticks:
            _fall_apart(space, arrays, mob)
            continue
        if mob.ai:
            push = 0.0
            if mob.dying == 0 and space.rows.creatures[mob.kind].alive:
                _decide(space, arrays, mob)
                push = _stride(space, arrays, mob)
                _look_about(space, arrays, mob)
                _bite(space, arrays, mob)
            _go(space, mob, push)
        else:
            mob.vx, mob.vy, mob.vz = 0.0, 0.0, 0.0
        if kept != i:
            arrays.mobs[kept] = arrays.mobs[i]
        kept += 1
    clock.n_mobs = kept


@part
def _near(space, player, thing):  # type: ignore[no-untyped-def]
    figure = space.rows.figures[0]
    side = (figure.player_width + figure.item_size) / 2.0 + figure.pickup_reach
    low = player.y - figure.pickup_reach_up - figure.item_size
    high = player.y + figure.player_height + figure.pickup_reach_up
    return abs(thing.x - player.x) < side and abs(thing.z - player.z) < side and low < thing.y < high


@part
def lie(space, arrays):  # type: ignore[no-untyped-def]
    """One tick of every dropped item: it falls, slides, is picked up or rots away."""
    clock, player, figure = arrays.clock[0], arrays.player[0], space.rows.figures[0]
    size, kept = figure.item_size, 0
    for i in range(clock.n_items):
        thing = arrays.items[i]
        thing.age += 1
        thing.wait = max(0, thing.wait - 1)
        thing.vy -= figure.item_gravity
        if not fits(space, thing.x, thing.y, thing.z, size, size):
            thing.y, thing.vy = thing.y + 0.1, 0.0  # a block was put over it
        else:
            thing.x, thing.y, thing.z, hit_x, hit_y, hit_z = move(
                space, thing.x, thing.y, thing.z, size, size, thing.vx, thing.vy, thing.vz)
            thing.on_ground = hit_y and thing.vy < 0.0
            if hit_x:
                thing.vx = 0.0
            if hit_y:
                thing.vy = 0.0
            if hit_z:
                thing.vz = 0.0
        drag = figure.item_drag * (figure.slipperiness if thing.on_ground else 1.0)
        thing.vx *= drag
        thing.vz *= drag
        thing.vy *= figure.item_drag
        if thing.wait == 0 and not player.dead and _near(space, player, thing):
            thing.count -= take(space, arrays, thing.item, thing.count)
        if thing.count <= 0 or thing.age >= figure.item_life:
            continue
        if kept != i:
            arrays.items[kept] = arrays.items[i]
        kept += 1
    clock.n_items = kept
