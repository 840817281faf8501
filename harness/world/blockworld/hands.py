"""What the player's hands do: strike, dig, place, drop, pick up. Compiled into the kernels of ``rules.py``."""

from __future__ import annotations

import math

import numpy as np

from harness.world.blockworld.compiling import part
from harness.world.blockworld.physics import (
    block_at,
    cosine,
    draw,
    hit_box,
    ray,
    set_block,
    sine,
)
from harness.world.blockworld.state import CUSTOM, DROPPED, FIRST_ENTITY, KILLED, LAST_ENTITY, MINED, PICKED, USED

__all__ = ["hurt_player", "knock", "look", "new_id", "record", "spawn_item", "take", "use_hands"]

# Arguments are typed numbers, not Python's: numba would compile a callee anew for every literal it is given.
_DAMAGE_ENTITY, _KILL_ENTITY, _MINE_BLOCK, _PLACE_BLOCK, _PICKUP, _DROP, _PLAYER_HURT, _PLAYER_DIED = (
    np.int64(i) for i in range(8))
_NONE, _ONE, _NOBODY = np.int64(0), np.int64(1), np.int64(-1)
_DEALT, _TAKEN, _DEATHS = CUSTOM, CUSTOM + 1, CUSTOM + 8
_STARTING = -2
_RESTING = -1


@part
def record(arrays, kind, entity, what, label, count, amount, health, x, y, z):  # type: ignore[no-untyped-def]
    """Note an event of this tick."""
    clock = arrays.clock[0]
    n = clock.n_events
    if n < len(arrays.events):
        event = arrays.events[n]
        event.kind, event.entity, event.what, event.label, event.count = kind, entity, what, label, count
        event.amount, event.health, event.x, event.y, event.z = amount, health, x, y, z
        clock.n_events = n + 1


@part
def new_id(arrays):  # type: ignore[no-untyped-def]
    """A segmentation number that no creature or item bears now (a picture holds 16 bits)."""
    clock = arrays.clock[0]
    while True:
        number = clock.next_id
        clock.next_id = number + 1 if number < LAST_ENTITY else FIRST_ENTITY
        free = True
        for i in range(clock.n_mobs):
            free = free and arrays.mobs[i].id != number
        for i in range(clock.n_items):
            free = free and arrays.items[i].id != number
        if free:
            return number


@part
def look(space, arrays):  # type: ignore[no-untyped-def]
    """Fill ``sight``: what the crosshair meets first, a creature only if it is nearer than the block."""
    figure, player, sight = space.rows.figures[0], arrays.player[0], arrays.sight[0]
    eye = figure.sneak_eye if player.sneaking else figure.player_eye
    ox, oy, oz = player.x, player.y + eye, player.z
    level = cosine(space, player.pitch)
    dx, dy, dz = -sine(space, player.yaw) * level, -sine(space, player.pitch), cosine(space, player.yaw) * level
    distance, x, y, z, face = ray(space, ox, oy, oz, dx, dy, dz, figure.look_range)
    sight.kind = 0
    best = figure.look_range
    if distance >= 0.0:
        best = distance
        sight.kind, sight.what, sight.face = 1, block_at(space, x, y, z), face
        sight.cell_x, sight.cell_y, sight.cell_z = x, y, z
        sight.reachable = distance <= figure.block_reach
    for i in range(arrays.clock[0].n_mobs):
        mob = arrays.mobs[i]
        if mob.dying > 0:
            continue
        row = space.rows.creatures[mob.kind]
        half = row.width / 2.0
        t = hit_box(ox, oy, oz, dx, dy, dz, mob.x - half, mob.y, mob.z - half,
                    mob.x + half, mob.y + row.height, mob.z + half)
        if 0.0 <= t < best:
            best = t
            sight.kind, sight.what, sight.index = 2, mob.kind, i
            sight.reachable = t <= figure.entity_reach
    sight.distance = best
    sight.x, sight.y, sight.z = ox + dx * best, oy + dy * best, oz + dz * best


@part
def spawn_item(space, arrays, item, count, x, y, z, vx, vy, vz, wait):  # type: ignore[no-untyped-def]
    """Let an item lie in the world; where there is no room left, the oldest one goes."""
    clock = arrays.clock[0]
    if clock.n_items == len(arrays.items):
        for i in range(1, clock.n_items):
            arrays.items[i - 1] = arrays.items[i]
        clock.n_items -= 1
    number = new_id(arrays)
    thing = arrays.items[clock.n_items]
    thing.id, thing.item, thing.count, thing.age, thing.wait, thing.on_ground = number, item, count, 0, wait, 0
    thing.x, thing.y, thing.z, thing.vx, thing.vy, thing.vz = x, y, z, vx, vy, vz
    clock.n_items = clock.n_items + 1


@part
def knock(body, strength, lift, dx, dz):  # type: ignore[no-untyped-def]
    """Throw a body back along (dx, dz): half its speed is kept, and it lifts only off the ground."""
    length = math.sqrt(dx * dx + dz * dz)
    if length > 1e-4:
        body.vx = body.vx / 2.0 + dx / length * strength
        body.vz = body.vz / 2.0 + dz / length * strength
    if body.on_ground:
        body.vy = min(lift, body.vy / 2.0 + strength)


@part
def hurt_player(space, arrays, amount, dx, dz):  # type: ignore[no-untyped-def]
    """Take half hearts from the player and throw it along (dx, dz)."""
    figure, player = space.rows.figures[0], arrays.player[0]
    if player.dead:
        return
    dealt = amount
    if 2 * player.invulnerable > figure.invulnerable_ticks:
        if amount <= player.last_hurt:
            return
        dealt = amount - player.last_hurt
    else:
        player.invulnerable = np.int64(figure.invulnerable_ticks)
        knock(player, figure.knockback, figure.knockback_lift, dx, dz)
    player.last_hurt = amount
    player.health = max(0.0, player.health - dealt)
    arrays.statistics[_TAKEN] += np.int64(math.floor(dealt * 10.0 + 0.5))
    record(arrays, _PLAYER_HURT, _NONE, _NONE, _NOBODY, _NONE, dealt, player.health, player.x, player.y, player.z)
    if player.health <= 0.0:
        player.dead = 1
        arrays.statistics[_DEATHS] += 1
        record(arrays, _PLAYER_DIED, _NONE, _NONE, _NOBODY, _NONE, 0.0, 0.0, player.x, player.y, player.z)


@part
def _kill(space, arrays, mob):  # type: ignore[no-untyped-def]
    mob.dying = 1
    if space.rows.creatures[mob.kind].alive:
        arrays.statistics[KILLED + mob.kind] += 1
    record(arrays, _KILL_ENTITY, mob.id, mob.kind, mob.label, _NONE, 0.0, 0.0, mob.x, mob.y, mob.z)


@part
def _strike_stand(space, arrays, mob):  # type: ignore[no-untyped-def]
    # An armour stand has no health: it wobbles, and falls apart at a second hit soon after.
    tick = arrays.clock[0].tick
    again = mob.stand_hit >= 0 and tick - mob.stand_hit <= space.rows.figures[0].stand_hit_ticks
    mob.stand_hit, mob.hurt = tick, np.int64(space.rows.figures[0].stand_hit_ticks)
    record(arrays, _DAMAGE_ENTITY, mob.id, mob.kind, mob.label, _NONE, 0.0, mob.health, mob.x, mob.y, mob.z)
    if again:
        _kill(space, arrays, mob)


@part
def _hurt_mob(space, arrays, mob, amount):  # type: ignore[no-untyped-def]
    """Hit a creature; True when the hit counted."""
    figure, player, row = space.rows.figures[0], arrays.player[0], space.rows.creatures[mob.kind]
    if mob.invulnerable_always or mob.dying:
        return False
    if not row.alive:
        _strike_stand(space, arrays, mob)
        return False
    amount = amount * (1.0 - figure.armour_per_point * row.armour)
    dealt = amount
    if 2 * mob.invulnerable > figure.invulnerable_ticks:
        if amount <= mob.last_hurt:
            return False
        dealt = amount - mob.last_hurt
    else:
        mob.invulnerable = np.int64(figure.invulnerable_ticks)
        mob.hurt = np.int64(figure.flash_ticks)
        if mob.ai:
            knock(mob, figure.knockback, figure.knockback_lift, mob.x - player.x, mob.z - player.z)
    mob.last_hurt = amount
    dealt = min(dealt, mob.health)
    mob.health -= dealt
    if mob.health < 1e-9:  # twenty blows of 1.0 are twenty half hearts, whatever the rounding
        mob.health = 0.0
    arrays.statistics[_DEALT] += np.int64(math.floor(dealt * 10.0 + 0.5))
    record(arrays, _DAMAGE_ENTITY, mob.id, mob.kind, mob.label, _NONE, dealt, mob.health, mob.x, mob.y, mob.z)
    if mob.health == 0.0:
        _kill(space, arrays, mob)
    elif row.panic and mob.ai:
        mob.mode, mob.wait = 2, np.int64(figure.panic_ticks)
        mob.goal_x, mob.goal_z = mob.x, mob.z
    return True


@part
def _strike(space, arrays, mob):  # type: ignore[no-untyped-def]
    """A blow with what the hand holds; weak while the arm recovers."""
    figure, player = space.rows.figures[0], arrays.player[0]
    item = space.rows.items[player.in_hand]
    strength = min(1.0, (player.recharge + 0.5) / item.recharge)
    player.recharge = 0
    floor = figure.strength_floor
    amount = item.damage * (floor + (1.0 - floor) * strength * strength)
    full = strength > figure.full_strength
    falling = player.fall > 0.0 and not player.on_ground and not player.in_water
    if full and falling and not player.sprinting:
        amount *= figure.critical_factor
    if _hurt_mob(space, arrays, mob, amount) and full and player.sprinting:
        if mob.ai:
            knock(mob, figure.sprint_knockback, figure.knockback_lift, -sine(space, player.yaw),
                  cosine(space, player.yaw))
        player.vx *= figure.sprint_hit_slowdown
        player.vz *= figure.sprint_hit_slowdown
        player.sprinting = 0


@part
def _stored(space, x, y, z):  # type: ignore[no-untyped-def]
    i, j, k = x - space.bounds[0], y - space.bounds[1], z - space.bounds[2]
    ny, nz, nx = space.voxels.shape
    return 0 <= i < nx and 0 <= j < ny and 0 <= k < nz


@part
def _stop_digging(player):  # type: ignore[no-untyped-def]
    player.dig_on, player.dig = 0, 0.0


@part
def _break(space, arrays, block, harvest):  # type: ignore[no-untyped-def]
    player, clock, figure = arrays.player[0], arrays.clock[0], space.rows.figures[0]
    x, y, z = player.dig_x, player.dig_y, player.dig_z
    set_block(space, x, y, z, _NONE)
    arrays.statistics[MINED + block] += 1
    record(arrays, _MINE_BLOCK, _NONE, block, _NOBODY, _NONE, 0.0, 0.0, float(x), float(y), float(z))
    drop = space.rows.blocks[block].drop
    if clock.tile_drops and harvest and drop >= 0:
        a, b, c = draw(clock), draw(clock), draw(clock)
        u, w = draw(clock), draw(clock)
        spread = figure.item_scatter
        spawn_item(space, arrays, drop, _ONE, x + 0.25 + 0.5 * a, y + 0.25 + 0.5 * b, z + 0.25 + 0.5 * c,
                   spread * (2.0 * u - 1.0), figure.item_pop, spread * (2.0 * w - 1.0), np.int64(figure.item_delay))
    _stop_digging(player)
    player.dig_wait = np.int64(figure.dig_delay)


@part
def _dig(space, arrays, pressed):  # type: ignore[no-untyped-def]
    """One tick of breaking the block under the crosshair."""
    player, sight, figure = arrays.player[0], arrays.sight[0], space.rows.figures[0]
    if player.dig_wait > 0 and not pressed:
        player.dig_wait -= 1
        return
    same = (player.dig_on and player.dig_x == sight.cell_x and player.dig_y == sight.cell_y
            and player.dig_z == sight.cell_z)
    if not same:
        player.dig_on, player.dig, player.dig_wait = 1, 0.0, 0
        player.dig_x, player.dig_y, player.dig_z = sight.cell_x, sight.cell_y, sight.cell_z
        if not pressed:  # with the button held, taking up a new block costs a tick
            return
    block = block_at(space, player.dig_x, player.dig_y, player.dig_z)
    row, item = space.rows.blocks[block], space.rows.items[player.in_hand]
    if row.hardness < 0.0 or not _stored(space, player.dig_x, player.dig_y, player.dig_z):
        return
    fitting = row.tool != 0 and item.tool == row.tool
    harvest = fitting or not row.needs_tool
    speed = item.speed if fitting else 1.0
    eye = block_at(space, math.floor(player.x), math.floor(player.y + player.eye), math.floor(player.z))
    if not player.on_ground:
        speed *= figure.airborne_dig_factor
    if space.rows.blocks[eye].liquid:
        speed *= figure.airborne_dig_factor
    player.dig += speed / max(row.hardness, 1e-3) / (figure.dig_divisor if harvest else figure.dig_divisor_wrong_tool)
    if player.dig >= 1.0 - 1e-9:  # sixty sixtieths are one, whatever the rounding
        _break(space, arrays, block, harvest)


@part
def _swing(player):  # type: ignore[no-untyped-def]
    if player.swing == _RESTING or player.swing >= 3:
        player.swing = _STARTING


@part
def _attack(space, arrays, held):  # type: ignore[no-untyped-def]
    player, sight, figure = arrays.player[0], arrays.sight[0], space.rows.figures[0]
    pressed = held and not player.attack_held
    player.attack_held = held
    player.miss_wait = player.miss_wait - 1 if held and player.miss_wait > 0 else 0
    if pressed:
        _swing(player)
        if sight.kind == 2 and sight.reachable:
            _strike(space, arrays, arrays.mobs[sight.index])
        elif not (sight.kind == 1 and sight.reachable):
            player.miss_wait, player.recharge = np.int64(figure.miss_ticks), 0
    if held and player.miss_wait == 0 and sight.kind == 1 and sight.reachable:
        _swing(player)
        _dig(space, arrays, pressed)
    else:
        _stop_digging(player)


@part
def _free_for(space, arrays, x, y, z):  # type: ignore[no-untyped-def]
    """Whether a solid block at a cell would stand in nobody's body."""
    figure, player = space.rows.figures[0], arrays.player[0]
    half = figure.player_width / 2.0
    height = figure.sneak_height if player.sneaking else figure.player_height
    if (player.x - half < x + 1 and player.x + half > x and player.y < y + 1 and player.y + height > y
            and player.z - half < z + 1 and player.z + half > z):
        return False
    for i in range(arrays.clock[0].n_mobs):
        mob = arrays.mobs[i]
        row = space.rows.creatures[mob.kind]
        side = row.width / 2.0
        if (mob.x - side < x + 1 and mob.x + side > x and mob.y < y + 1 and mob.y + row.height > y
                and mob.z - side < z + 1 and mob.z + side > z):
            return False
    return True


@part
def _place(space, arrays):  # type: ignore[no-untyped-def]
    player, sight = arrays.player[0], arrays.sight[0]
    slot = player.selected
    block = space.rows.items[arrays.bag[slot, 0]].block
    if arrays.bag[slot, 1] <= 0 or block < 0:
        return
    step = 1 if sight.face % 2 else -1
    x, y, z = sight.cell_x, sight.cell_y, sight.cell_z
    if sight.face < 2:
        x += step
    elif sight.face < 4:
        y += step
    else:
        z += step
    taken = space.rows.blocks[block_at(space, x, y, z)].target != 0
    if taken or (space.rows.blocks[block].solid and not _free_for(space, arrays, x, y, z)):
        return
    if not set_block(space, x, y, z, block):
        return
    arrays.statistics[USED + arrays.bag[slot, 0]] += 1
    arrays.bag[slot, 1] -= 1
    if arrays.bag[slot, 1] == 0:
        arrays.bag[slot, 0] = 0
    _swing(player)
    record(arrays, _PLACE_BLOCK, _NONE, block, _NOBODY, _NONE, 0.0, 0.0, float(x), float(y), float(z))


@part
def _use(space, arrays, held):  # type: ignore[no-untyped-def]
    player, sight = arrays.player[0], arrays.sight[0]
    if player.use_wait > 0:
        player.use_wait -= 1
    pressed = held and not player.use_held
    player.use_held = held
    if not pressed and not (held and player.use_wait == 0):
        return
    player.use_wait = np.int64(space.rows.figures[0].use_delay)
    if sight.kind == 1 and sight.reachable and (player.sneaking or not space.rows.blocks[sight.what].opens):
        _place(space, arrays)


@part
def _drop(space, arrays):  # type: ignore[no-untyped-def]
    player, clock, figure = arrays.player[0], arrays.clock[0], space.rows.figures[0]
    slot = player.selected
    if arrays.bag[slot, 1] <= 0:
        return
    item = arrays.bag[slot, 0]
    arrays.bag[slot, 1] -= 1
    if arrays.bag[slot, 1] == 0:
        arrays.bag[slot, 0] = 0
    level = cosine(space, player.pitch) * figure.item_throw
    spawn_item(space, arrays, item, _ONE, player.x, player.y + player.eye - 0.3, player.z,
               -sine(space, player.yaw) * level, -sine(space, player.pitch) * figure.item_throw + 0.1,
               cosine(space, player.yaw) * level, np.int64(figure.item_delay_thrown))
    arrays.statistics[DROPPED + item] += 1
    record(arrays, _DROP, arrays.items[clock.n_items - 1].id, item, _NOBODY, _ONE, 0.0, 0.0, player.x, player.y,
           player.z)


@part
def _pick(arrays):  # type: ignore[no-untyped-def]
    """Take the block under the crosshair into the hand, if it is carried."""
    player, sight = arrays.player[0], arrays.sight[0]
    if sight.kind != 1:
        return
    for slot in range(len(arrays.bag)):
        if arrays.bag[slot, 1] > 0 and arrays.bag[slot, 0] == sight.what:
            if slot < 9:
                player.selected = slot
                return
            for column in range(2):
                kept = arrays.bag[player.selected, column]
                arrays.bag[player.selected, column] = arrays.bag[slot, column]
                arrays.bag[slot, column] = kept
            return


@part
def take(space, arrays, item, count):  # type: ignore[no-untyped-def]
    """Put items into the bag, onto stacks first; how many found room."""
    left = count
    stack = space.rows.items[item].stack
    for turn in range(2):
        for slot in range(len(arrays.bag)):
            empty = arrays.bag[slot, 1] == 0
            if left > 0 and ((turn == 1 and empty) or (turn == 0 and not empty and arrays.bag[slot, 0] == item)):
                moved = min(left, stack - arrays.bag[slot, 1])
                if moved > 0:
                    arrays.bag[slot, 0] = item
                    arrays.bag[slot, 1] += moved
                    left -= moved
    taken = count - left
    if taken > 0:
        arrays.statistics[PICKED + item] += taken
        player = arrays.player[0]
        record(arrays, _PICKUP, _NONE, item, _NOBODY, taken, 0.0, 0.0, player.x, player.y, player.z)
    return taken


@part
def use_hands(space, arrays, act):  # type: ignore[no-untyped-def]
    """One tick of the hands, after the head turned and before the feet move."""
    player = arrays.player[0]
    if act.hotbar > 0:
        player.selected = act.hotbar - 1
    if act.drop and not player.drop_held:
        _drop(space, arrays)
    player.drop_held = act.drop
    in_hand = arrays.bag[player.selected, 0] if arrays.bag[player.selected, 1] > 0 else 0
    if in_hand != player.in_hand:  # a fresh weapon starts at rest
        player.in_hand, player.recharge = in_hand, 0
    look(space, arrays)
    _attack(space, arrays, act.attack)
    look(space, arrays)
    _use(space, arrays, act.use)
    if act.pickItem and not player.pick_held:
        _pick(arrays)
    player.pick_held = act.pickItem
    if player.swing == _STARTING:
        player.swing = 0
    elif player.swing >= 0:
        player.swing = player.swing + 1 if player.swing < space.rows.figures[0].swing_ticks - 1 else _RESTING
    player.recharge += 1
