"""The kernels: one tick of a world, and the rows a picture is made from. They run without the interpreter's lock.

Order of a tick: camera, small speeds to rest, crosshair and hands, jump, input, movement with collisions, gravity and
drag, creatures, items, time of day. Figures come from figures.yaml alone.
"""

from __future__ import annotations

import math

import numpy as np

from harness.world.blockworld.compiling import kernel, part
from harness.world.blockworld.creatures import lie, live
from harness.world.blockworld.hands import hurt_player, look, use_hands
from harness.world.blockworld.physics import cosine, fits, move, sine, touches_water
from harness.world.blockworld.state import CUSTOM, Space
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
)

__all__ = ["DROPPED_ITEM", "glance", "show", "tick"]

DROPPED_ITEM = 100
_WALKED, _SPRINTED, _CROUCHED, _SWUM, _JUMPED, _PLAYED = range(CUSTOM + 2, CUSTOM + 8)


@part
def _turn(player, act):  # type: ignore[no-untyped-def]
    player.pitch = max(-90.0, min(90.0, player.pitch + act.pitch))
    player.yaw = (player.yaw + act.yaw + 180.0) % 360.0 - 180.0


@part
def _crouch(space, player, act):  # type: ignore[no-untyped-def]
    figure = space.rows.figures[0]
    roof = not fits(space, player.x, player.y, player.z, figure.player_width, figure.player_height)
    crawl = roof and fits(space, player.x, player.y, player.z, figure.player_width, figure.sneak_height)
    player.sneaking = 1 if act.sneak or crawl else 0


@part
def _sprint(player, act, forward):  # type: ignore[no-untyped-def]
    if act.sprint and forward > 0.0 and not player.sneaking and not player.in_water:
        player.sprinting = 1
    if player.sprinting and (forward <= 0.0 or player.bumped or player.sneaking or player.in_water):
        player.sprinting = 0


@part
def _jump(space, arrays, act):  # type: ignore[no-untyped-def]
    figure, player = space.rows.figures[0], arrays.player[0]
    player.jump_wait = max(0, player.jump_wait - 1)
    if not act.jump:
        player.jump_wait = 0
        return
    if player.in_water:
        player.vy += figure.water_rise
    elif player.on_ground and player.jump_wait == 0:
        player.vy = figure.jump_speed
        if player.sprinting:
            player.vx -= sine(space, player.yaw) * figure.sprint_jump_boost
            player.vz += cosine(space, player.yaw) * figure.sprint_jump_boost
        player.jump_wait = np.int64(figure.jump_delay)
        arrays.statistics[_JUMPED] += 1


@part
def _accelerate(space, player, forward, left):  # type: ignore[no-untyped-def]
    """Add this tick's push and return the friction that acts after the move."""
    figure = space.rows.figures[0]
    friction = figure.air_friction
    if player.in_water:
        push, friction = figure.water_acceleration, figure.water_drag
    elif player.on_ground:
        push = figure.walk_acceleration * (figure.sprint_factor if player.sprinting else 1.0)
        # The push is given for the slipperiness of plain blocks, to its third power; every block here is plain.
        friction = figure.slipperiness * figure.air_friction
    else:
        push = figure.air_sprint_acceleration if player.sprinting else figure.air_acceleration
    length = forward * forward + left * left
    if length >= 1e-7:
        scale = push / max(1.0, math.sqrt(length))
        s, c = sine(space, player.yaw), cosine(space, player.yaw)
        player.vx += (left * c - forward * s) * scale
        player.vz += (forward * c + left * s) * scale
    return friction


@part
def _hold_edge(space, player, dx, dz):  # type: ignore[no-untyped-def]
    """Shorten a sneaking step so that the feet stay over ground."""
    figure = space.rows.figures[0]
    width, height, down, probe = figure.player_width, figure.sneak_height, figure.step_height, figure.sneak_probe
    y = player.y - down
    while dx != 0.0 and fits(space, player.x + dx, y, player.z, width, height):
        dx = 0.0 if abs(dx) < probe else dx - math.copysign(probe, dx)
    while dz != 0.0 and fits(space, player.x, y, player.z + dz, width, height):
        dz = 0.0 if abs(dz) < probe else dz - math.copysign(probe, dz)
    while dx != 0.0 and dz != 0.0 and fits(space, player.x + dx, y, player.z + dz, width, height):
        dx = 0.0 if abs(dx) < probe else dx - math.copysign(probe, dx)
        dz = 0.0 if abs(dz) < probe else dz - math.copysign(probe, dz)
    return dx, dz


@part
def _count_way(arrays, gone):  # type: ignore[no-untyped-def]
    player = arrays.player[0]
    centimetres = np.int64(math.floor(100.0 * gone + 0.5))
    if player.in_water:
        arrays.statistics[_SWUM] += centimetres
    elif player.on_ground:
        if player.sprinting:
            arrays.statistics[_SPRINTED] += centimetres
        elif player.sneaking:
            arrays.statistics[_CROUCHED] += centimetres
        else:
            arrays.statistics[_WALKED] += centimetres


@part
def _land(space, arrays, moved_down):  # type: ignore[no-untyped-def]
    player = arrays.player[0]
    if player.on_ground or player.in_water:
        damage = float(math.ceil(player.fall - space.rows.figures[0].safe_fall))
        if arrays.clock[0].fall_damage and damage > 0.0 and not player.in_water:
            hurt_player(space, arrays, damage, 0.0, 0.0)
        player.fall = 0.0
    elif moved_down > 0.0:
        player.fall += moved_down


@part
def _travel(space, arrays, act):  # type: ignore[no-untyped-def]
    """Feet: sneak, sprint, jump, push, slide, fall."""
    figure, player = space.rows.figures[0], arrays.player[0]
    width = figure.player_width
    _crouch(space, player, act)
    height = figure.sneak_height if player.sneaking else figure.player_height
    player.in_water = touches_water(space, player.x, player.y, player.z, width, height)
    slow = figure.sneak_factor if player.sneaking else 1.0
    forward = (act.forward - act.back) * slow * figure.input_factor
    left = (act.left - act.right) * slow * figure.input_factor
    _sprint(player, act, forward)
    _jump(space, arrays, act)
    if player.in_water and act.sneak:
        player.vy -= figure.water_rise
    friction = _accelerate(space, player, forward, left)
    dx, dy, dz = player.vx, player.vy, player.vz
    if player.sneaking and player.on_ground and dy <= 0.0:
        dx, dz = _hold_edge(space, player, dx, dz)
    x, y, z = player.x, player.y, player.z
    player.x, player.y, player.z, hit_x, hit_y, hit_z = move(space, x, y, z, width, height, dx, dy, dz)
    player.on_ground = hit_y and dy < 0.0
    player.bumped = hit_x or hit_z
    player.vx = 0.0 if hit_x else dx
    player.vz = 0.0 if hit_z else dz
    if hit_y:
        player.vy = 0.0
    gone = math.sqrt((player.x - x) ** 2 + (player.z - z) ** 2)
    _count_way(arrays, gone)
    _land(space, arrays, y - player.y)
    if player.in_water:
        if player.bumped and fits(space, player.x, player.y + figure.step_height, player.z, width, height):
            player.vy = figure.water_exit_speed
        player.vy = player.vy * figure.water_drag - figure.water_gravity
    else:
        player.vy = (player.vy - figure.gravity) * figure.vertical_drag
    player.vx *= friction
    player.vz *= friction
    player.bob = player.bob + 0.6 * gone if player.on_ground and gone > 0.005 else 0.0
    aim = figure.sneak_eye if player.sneaking else figure.player_eye
    player.eye += (aim - player.eye) * 0.5


@part
def _rest(figure, body):  # type: ignore[no-untyped-def]
    least = figure.least_speed
    if abs(body.vx) < least:
        body.vx = 0.0
    if abs(body.vy) < least:
        body.vy = 0.0
    if abs(body.vz) < least:
        body.vz = 0.0


@part
def _heal(space, arrays):  # type: ignore[no-untyped-def]
    figure, player = space.rows.figures[0], arrays.player[0]
    player.invulnerable = max(0, player.invulnerable - 1)
    if not arrays.clock[0].regeneration or player.dead or player.health >= figure.player_health:
        player.regeneration = 0
        return
    player.regeneration += 1
    if player.regeneration >= figure.regeneration_ticks:
        player.health = min(figure.player_health, player.health + 1.0)
        player.regeneration = 0


@part
def _screen(player, act):  # type: ignore[no-untyped-def]
    """The inventory key opens and closes the screen, ESC closes it; True while it is open or was closed just now."""
    before = player.gui
    if act.inventory and not player.inventory_held:
        player.gui = 1 - player.gui
    elif act.ESC:
        player.gui = 0
    player.inventory_held = act.inventory
    return before != 0 or player.gui != 0


@kernel
def tick(voxels, dirty, bounds, rows, state, action, idle):  # type: ignore[no-untyped-def]
    """One twentieth of a second.

    Args:
        voxels: uint8 [Y, Z, X], the blocks; changed in place.
        dirty: bool [Z/16, X/16], meshes to renew; changed in place.
        bounds: int64 [5], see ``Space``.
        rows: ``ROWS`` [1], the tables.
        state: ``STATE`` [1], everything that moves; changed in place.
        action: ``ACTION`` [1].
        idle: ``ACTION`` [1], all zero: what a dead player, or one with the inventory open, does.
    """
    space, arrays = Space(voxels, dirty, bounds, rows[0]), state[0]
    player, clock = arrays.player[0], arrays.clock[0]
    clock.n_events = 0
    clock.tick += 1
    arrays.statistics[_PLAYED] += 1
    busy = _screen(player, action[0])
    act = idle[0] if busy or player.dead else action[0]
    _turn(player, act)
    _rest(space.rows.figures[0], player)
    use_hands(space, arrays, act)
    _travel(space, arrays, act)
    _heal(space, arrays)
    live(space, arrays)
    lie(space, arrays)
    if clock.daylight:
        clock.time = (clock.time + 1) % np.int64(space.rows.figures[0].day_length)
    look(space, arrays)


@kernel
def glance(voxels, dirty, bounds, rows, state):  # type: ignore[no-untyped-def]
    """Look again without letting time pass: after a command changed something."""
    look(Space(voxels, dirty, bounds, rows[0]), state[0])


@kernel
def show(rows, state, item_looks, out):  # type: ignore[no-untyped-def]
    """Write one row per creature and item for the renderer (columns of ``view.py``); the number of rows.

    Args:
        rows: ``ROWS`` [1].
        state: ``STATE`` [1], only read.
        item_looks: int64 [items], the renderer's number for each item.
        out: float64 [>= creatures + items, ENTITY_COLUMNS], overwritten.
    """
    tables, arrays = rows[0], state[0]
    clock, figure = arrays.clock[0], tables.figures[0]
    n = 0
    for i in range(clock.n_mobs):
        mob, row = arrays.mobs[i], out[n]
        row[E_KIND], row[E_ID] = mob.kind, mob.id
        row[E_X], row[E_Y], row[E_Z] = mob.x, mob.y, mob.z
        row[E_YAW], row[E_HEAD_YAW], row[E_HEAD_PITCH] = mob.yaw, mob.head_yaw, mob.head_pitch
        angle = np.int64(mob.phase * (38.17 * 65536.0 / 360.0)) & 65535
        row[E_SWING] = 1.4 * mob.stride * tables.sine[angle]
        row[E_HURT] = mob.hurt / figure.flash_ticks
        if mob.dying > 0:
            row[E_HURT] = 10.0 + min(1.0, math.sqrt((mob.dying - 1.0) / figure.death_ticks * 1.6))
        row[E_VARIANT], row[E_COLOUR], row[E_AGE] = mob.variant, mob.colour, mob.age
        n += 1
    for i in range(clock.n_items):
        thing, row = arrays.items[i], out[n]
        row[:] = 0.0
        row[E_KIND], row[E_ID], row[E_AGE] = DROPPED_ITEM, thing.id, thing.age
        row[E_X], row[E_Y], row[E_Z] = thing.x, thing.y, thing.z
        row[E_VARIANT] = item_looks[thing.item]
        n += 1
    return n
