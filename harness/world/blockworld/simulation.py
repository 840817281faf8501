"""One block world without its picture: built from a ``WorldSetup``, ticked by compiled rules, read as plain values."""

from __future__ import annotations

import copy
import math
from collections import namedtuple
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import ScenarioError, WorldError
from harness.scenario.catalogue import catalogue
from harness.scenario.setup import EntitySetup, Fill, IntPoint, PlayerSetup, WorldSetup
from harness.world.action import HOTBAR_KEYS, noop_action
from harness.world.blockworld.grid import CHUNK, Grid
from harness.world.blockworld.rules import glance, show, tick
from harness.world.blockworld.state import (
    ACTION,
    ACTION_KEYS,
    BAG,
    EVENT_KINDS,
    MAX_ITEMS,
    MAX_MOBS,
    MOB,
    PLAYER,
    empty_arrays,
    statistic_names,
)
from harness.world.blockworld.tables import tables
from harness.world.blockworld.textures import item_index
from harness.world.blockworld.view import ENTITY_COLUMNS, View
from harness.world.observation import EntityState, Event, LookedAt, PlayerState, WorldState

__all__ = ["Simulation", "compile_rules", "segment_names"]

_REACH = 32   # stored at least so far from where the player starts
_MARGIN = 8   # and so far around everything that is built
_DEPTH, _HEIGHT, _HEADROOM = 8, 24, 8
_LARGEST = 512


def _row_type(name: str, layout: np.dtype[np.void]) -> Any:
    return namedtuple(name, layout.names or ())


_PLAYER, _MOB = _row_type("PlayerRow", PLAYER), _row_type("MobRow", MOB)
_SETTLING = -0.0784  # the fall of a body at rest on the ground: its first tick then counts as standing
_RULES = {
    "doDaylightCycle": "daylight", "doMobLoot": "loot", "doTileDrops": "tile_drops", "fallDamage": "fall_damage",
    "naturalRegeneration": "regeneration",
}


def _item_looks() -> npt.NDArray[np.int64]:
    """The renderer's number for every item of the rules."""
    rows = tables()
    looks = np.zeros(len(rows.item_names), dtype=np.int64)
    for number, name in enumerate(rows.item_names):
        if name and name != "air":
            looks[number] = item_index(name)
    return looks


class Simulation:
    """Blocks, bodies, rules and clock.

    Args:
        setup: What to build.
        seed: Of everything the world draws: it is the key of its own counter-based stream.

    Attributes:
        grid: The blocks; replaced by a larger one when a command builds outside it.
        arrays: All that moves.
        labels: Tags of creatures; ``MOB.label`` is an index into it.
    """

    def __init__(self, setup: WorldSetup, seed: int) -> None:
        self.tables = tables()
        self.biome, self.weather, self.difficulty = setup.biome, setup.weather, setup.difficulty
        self.rules: dict[str, bool | int] = {}
        self.labels: list[tuple[str, ...]] = []
        self.arrays = empty_arrays()
        self.attach(_empty_grid(setup))
        self._names = statistic_names(self.tables)
        self._item_looks = _item_looks()
        self._n_counted = -1
        self._counted, self._counted_names = np.zeros(0, dtype=np.int64), list[str]()
        self._action, self._idle = np.zeros(1, ACTION), np.zeros(1, ACTION)
        self._rows = np.zeros((MAX_MOBS + MAX_ITEMS, ENTITY_COLUMNS))
        self._seen: dict[int, tuple[tuple[bytes, bool], EntityState]] = {}
        self._carried: tuple[bytes, tuple[tuple[str, int] | None, ...]] = (b"", ())
        self.arrays.clock["rng_key"] = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
        self.arrays.clock["time"] = setup.time
        for name, value in setup.rules.items():
            self.set_rule(name, value)
        self.set_difficulty(setup.difficulty)
        for fill in setup.fills:
            self.fill(fill)
        for entity in setup.entities:
            self.summon(entity, (entity.tag,) if entity.tag else ())
        self._place_player(setup.player)
        self.look()

    def attach(self, grid: Grid) -> None:
        """Let another grid take the place of the old one."""
        self.grid = grid
        bounds = np.array([*grid.origin, grid.ground, grid.ground_y], dtype=np.int64)
        self._space = grid.voxels, grid.dirty, bounds, self.tables.rows

    def adopt(self, grid: Grid) -> None:
        """Move the blocks into an older grid of the same extent, whose mesh then needs little work."""
        own = self.grid
        if (grid.voxels.shape, grid.ground, grid.ground_y) == (own.voxels.shape, own.ground, own.ground_y) and (
                (grid.origin == own.origin).all()):
            grid.replace(own.voxels)
            self.attach(grid)

    def _place_player(self, setup: PlayerSetup) -> None:
        player = self.arrays.player
        player["health"], player["eye"] = setup.health, self.tables.figures["player_eye"]
        player["recharge"] = 100
        for slot, (item, count) in setup.hotbar.items():
            self.put(slot, item, count)
        player["selected"] = setup.selected
        player["in_hand"] = self.arrays.bag[setup.selected, 0]
        self.teleport(setup.position, setup.yaw, setup.pitch)

    def forget(self) -> None:
        """Drop what was read earlier: for whoever changes ``arrays`` from outside."""
        self._n_counted, self._seen, self._carried = -1, {}, (b"", ())

    # ---- time

    def tick(self, action: dict[str, Any]) -> None:
        """One twentieth of a second under a complete action."""
        camera = action["camera"]
        hotbar = next((i for i, key in enumerate(HOTBAR_KEYS, 1) if action[key]), 0)
        # One assignment of a tuple is ten times quicker than one per field. Order: ACTION.
        self.advance((float(camera[0]), float(camera[1]), *[action[key] for key in ACTION_KEYS], hotbar))

    def advance(self, row: Any) -> None:
        """One twentieth of a second under a row of ``ACTION``."""
        self._action[0] = row
        tick(*self._space, self.arrays.state, self._action, self._idle)

    def look(self) -> None:
        """Aim again after a command changed something, without letting time pass."""
        glance(*self._space, self.arrays.state)

    # ---- edits: what a setup or a command can do

    def require(self, low: IntPoint, high: IntPoint) -> None:
        """Make sure that a box of cells is stored, and grow the grid if it is not.

        Raises:
            WorldError: when the grid would become larger than 512 blocks on a side.
        """
        grid = self.grid
        if grid.inside(*low) and grid.inside(*high):
            return
        ox, oy, oz = (int(v) for v in grid.origin)
        ny, nz, nx = grid.voxels.shape
        grown = _grid_around(min(low[0], ox), min(low[1], oy), min(low[2], oz), max(high[0] + 1, ox + nx),
                             max(high[1] + 1, oy + ny), max(high[2] + 1, oz + nz), grid.ground, grid.ground_y)
        x, y, z = ox - int(grown.origin[0]), oy - int(grown.origin[1]), oz - int(grown.origin[2])
        grown.voxels[y:y + ny, z:z + nz, x:x + nx] = grid.voxels
        self.attach(grown)

    def fill(self, fill: Fill) -> None:
        """Set a cuboid of blocks, or those of its cells that hold ``fill.replace``."""
        low = tuple(min(a, b) for a, b in zip(fill.first, fill.last, strict=True))
        high = tuple(max(a, b) for a, b in zip(fill.first, fill.last, strict=True))
        self.require(low, high)  # type: ignore[arg-type]
        ox, oy, oz = (int(v) for v in self.grid.origin)
        part = self.grid.voxels[low[1] - oy:high[1] - oy + 1, low[2] - oz:high[2] - oz + 1,
                                low[0] - ox:high[0] - ox + 1]
        block = catalogue().block(fill.block).id
        if fill.replace is None:
            part[:] = block
        else:
            part[part == catalogue().block(fill.replace).id] = block
        rows, columns = self.grid.dirty.shape
        z0, z1 = max(0, (low[2] - oz - 1) // CHUNK), min(rows - 1, (high[2] - oz + 1) // CHUNK)
        x0, x1 = max(0, (low[0] - ox - 1) // CHUNK), min(columns - 1, (high[0] - ox + 1) // CHUNK)
        self.grid.dirty[z0:z1 + 1, x0:x1 + 1] = True

    def summon(self, entity: EntitySetup, tags: tuple[str, ...] = ()) -> int:
        """Let a creature appear; its segmentation number."""
        kind = catalogue().creature(entity.type)
        if int(self.arrays.clock["n_mobs"][0]) == MAX_MOBS:
            raise WorldError(f"a world holds at most {MAX_MOBS} creatures", hint="leave some out")
        variant, colour = _variant(entity), _colour(entity.colour)
        clock = self.arrays.clock[0]
        number = int(clock["next_id"])
        clock["next_id"] = number + 1
        row = int(clock["n_mobs"])
        self.arrays.mobs[row] = np.zeros((), MOB)
        mob = self.arrays.mobs[row]
        mob["id"], mob["kind"], mob["label"] = number, kind.id, self._label(tags)
        mob["x"], mob["y"], mob["z"] = entity.position
        mob["yaw"] = mob["head_yaw"] = entity.yaw
        mob["head_pitch"] = entity.pitch
        mob["health"] = kind.health if entity.health is None else entity.health
        mob["ai"] = entity.ai and kind.stat  # an armour stand has no mind to switch on
        mob["invulnerable_always"], mob["stand_hit"] = entity.invulnerable, -1000
        mob["gravity"] = not (kind.minecraft or {}).get("NoGravity", False)
        mob["goal_x"], mob["goal_z"] = mob["x"], mob["z"]
        mob["variant"], mob["colour"] = variant, colour
        clock["n_mobs"] += 1
        return number

    def change(self, row: int, entity: EntitySetup, tags: tuple[str, ...], keys: set[str]) -> None:
        """Change those traits of a creature that ``keys`` names, as NBT calls them."""
        mob = self.arrays.mobs[row]
        self._seen = {}
        if "Tags" in keys:
            mob["label"] = self._label(tags)
        if "NoAI" in keys:
            mob["ai"] = entity.ai and catalogue().creature(entity.type).stat
        if "Invulnerable" in keys:
            mob["invulnerable_always"] = entity.invulnerable
        if "Health" in keys:
            mob["health"] = entity.health
        if "Rotation" in keys:
            mob["yaw"] = mob["head_yaw"] = entity.yaw
            mob["head_pitch"] = entity.pitch
        if "VillagerData" in keys:
            mob["variant"] = _variant(entity)
        if "ArmorItems" in keys:
            mob["colour"] = _colour(entity.colour)

    def _label(self, tags: tuple[str, ...]) -> int:
        if not tags:
            return -1
        if tags not in self.labels:
            self.labels.append(tags)
        return self.labels.index(tags)

    def tags_of(self, row: int) -> tuple[str, ...]:
        """All tags of the creature in a row."""
        label = int(self.arrays.mobs["label"][row])
        return self.labels[label] if label >= 0 else ()

    def dress(self, row: int) -> dict[str, str]:
        """What the villager in a row wears, as NBT calls it; empty for other creatures."""
        mob = self.arrays.mobs[row]
        name = self.tables.creature_names[int(mob["kind"])]
        if name != "villager":
            return {}
        return dict(zip(("type", "profession"), _variant_name(name, int(mob["variant"]), 0).split("/"), strict=True))

    def put(self, slot: int, item: str, count: int) -> None:
        """Put items into a slot in place of what was there; ``air`` or a count of 0 empties it."""
        number = 0 if item == "air" or count <= 0 else self.tables.item_ids[catalogue().item(item).name]
        self.arrays.bag[slot] = (number, count if number else 0)

    def give(self, item: str, count: int) -> None:
        """Add items to the bag as far as there is room; nothing is counted as picked up."""
        number = self.tables.item_ids[catalogue().item(item).name]
        stack = int(self.tables.rows["items"]["stack"][0, number])
        for empty in (False, True):
            for slot in range(BAG):
                held, n = (int(v) for v in self.arrays.bag[slot])
                if count > 0 and ((n == 0) if empty else (n > 0 and held == number)):
                    moved = min(count, stack - n)
                    self.arrays.bag[slot] = (number, n + moved)
                    count -= moved

    def teleport(self, position: tuple[float, float, float], yaw: float | None, pitch: float | None) -> None:
        """Set the player down somewhere, at rest."""
        player = self.arrays.player
        player["x"], player["y"], player["z"] = position
        player["vx"], player["vy"], player["vz"] = 0.0, _SETTLING, 0.0
        player["fall"] = 0.0
        below = self.grid.get(math.floor(position[0]), math.floor(position[1] - 1e-3), math.floor(position[2]))
        player["on_ground"] = bool(self.tables.rows["blocks"]["solid"][0, below])
        if yaw is not None:
            player["yaw"] = (yaw + 180.0) % 360.0 - 180.0
        if pitch is not None:
            player["pitch"] = max(-90.0, min(90.0, pitch))

    def set_rule(self, name: str, value: bool | int) -> None:
        """Set a game rule; most of them have nothing to do here and are only remembered."""
        self.rules[name] = value
        if name in _RULES:
            self.arrays.clock[_RULES[name]] = bool(value)

    def set_difficulty(self, name: str) -> None:
        """On peaceful, nothing attacks; the other three are alike here."""
        self.difficulty = name
        self.arrays.clock["peaceful"] = name == "peaceful"

    def remove(self, rows: list[int]) -> None:
        """Take creatures away without a trace."""
        clock = self.arrays.clock[0]
        n = int(clock["n_mobs"])
        kept = [row for row in range(n) if row not in set(rows)]
        self.arrays.mobs[:len(kept)] = self.arrays.mobs[kept]
        clock["n_mobs"] = len(kept)

    def without(self, numbers: Collection[int], grid: Grid | None = None) -> Simulation:
        """The same moment without some blocks and creatures, to be looked at and not to be played on.

        Args:
            numbers: Ids of blocks and of creatures or items.
            grid: From an earlier call, to be used again: its mesh then needs little work.
        """
        other = copy.copy(self)
        other.forget()
        other.arrays, other._rows = empty_arrays(), np.zeros_like(self._rows)
        other.arrays.state[:] = self.arrays.state
        own = self.grid
        kept = np.arange(256, dtype=np.uint8)
        kept[[number for number in numbers if number < len(kept)]] = 0
        origin, ground = (int(v) for v in own.origin), int(kept[own.ground])
        other.attach(Grid(kept[own.voxels], tuple(origin), ground, own.ground_y))  # type: ignore[arg-type]
        if grid is not None:
            other.adopt(grid)
        mobs, clock = other.arrays.mobs, other.arrays.clock[0]
        other.remove([row for row in range(int(clock["n_mobs"])) if int(mobs["id"][row]) in numbers])
        items = other.arrays.items[:int(clock["n_items"])]
        left = items[~np.isin(items["id"], list(numbers))]
        items[:len(left)] = left
        clock["n_items"] = len(left)
        other.look()
        return other

    # ---- reading

    def view(self) -> View:
        """What the renderer needs for a picture of this moment."""
        p, clock = self.player(), self.arrays.clock[0]
        n = show(self.tables.rows, self.arrays.state, self._item_looks, self._rows)
        stage = int(p.dig * 10.0) - 1
        _, _, _, _, aimed, _, x, y, z, _, _, reachable = self.arrays.sight[0].item()
        hotbar = self._hotbar()
        held = hotbar[p.selected]
        return View(
            eye=(p.x, p.y + p.eye, p.z), yaw=p.yaw, pitch=p.pitch, time=int(clock["time"]), weather=self.weather,
            biome=self.biome, entities=self._rows[:n],
            crack=(p.dig_x, p.dig_y, p.dig_z, min(stage, 9)) if p.dig_on and stage >= 0 else None,
            target=(x, y, z) if aimed == 1 and reachable else None,
            swing=max(0, p.swing) / 6.0, held=held[0] if held else "", bob=(p.bob * math.pi) % (2.0 * math.pi),
            hotbar=hotbar, selected=p.selected, health=p.health,
            gui="inventory" if p.gui else "")

    def player(self) -> Any:
        """The player's row as a named tuple of Python numbers."""
        return _PLAYER._make(self.arrays.player[0].item())

    def _hotbar(self) -> tuple[tuple[str, int] | None, ...]:
        bag = self.arrays.bag[:9]
        key = bag.tobytes()
        if self._carried[0] != key:
            names = self.tables.item_names
            self._carried = key, tuple((names[i], n) if n else None for i, n in bag.tolist())
        return self._carried[1]

    def statistics(self) -> dict[str, int]:
        """Every counter that is not zero, by Minecraft's name."""
        counts = self.arrays.statistics
        n = int(np.count_nonzero(counts))
        if n != self._n_counted:  # a counter that has begun to count goes on: the names change seldom
            self._n_counted, self._counted = n, np.flatnonzero(counts)
            self._counted_names = [self._names[i] for i in self._counted]
        return dict(zip(self._counted_names, counts[self._counted].tolist(), strict=True))

    def events(self) -> tuple[Event, ...]:
        """What happened in the last tick."""
        n = int(self.arrays.clock["n_events"][0])
        return tuple(self._event(row) for row in self.arrays.events[:n]) if n else ()

    def _event(self, row: Any) -> Event:
        amount, health, x, y, z, kind, entity, what, label, count = row.item()
        name = EVENT_KINDS[kind]
        event: Event = {"type": name}
        if name in ("damage_entity", "kill_entity"):
            event |= {"entity": self.tables.creature_names[what], "entity_id": entity, "tag": self._tag(label)}
        if name in ("damage_entity", "player_hurt"):
            event |= {"amount": amount, "health": health}
        if name in ("mine_block", "place_block"):
            event |= {"block": self.tables.block_names[what], "position": [int(x), int(y), int(z)]}
        elif name in ("pickup", "drop"):
            event |= {"item": self.tables.item_names[what], "count": count}
        return event

    def _tag(self, label: int) -> str | None:
        return self.labels[label][0] if label >= 0 else None

    def player_state(self) -> PlayerState:
        """The player's body."""
        p = self.player()
        return PlayerState(
            position=(p.x, p.y, p.z), yaw=p.yaw, pitch=p.pitch, velocity=(p.vx, p.vy, p.vz),
            on_ground=bool(p.on_ground), health=p.health, selected=p.selected, hotbar=self._hotbar(),
            sneaking=bool(p.sneaking), sprinting=bool(p.sprinting))

    def looking_at(self) -> LookedAt | None:
        """What the crosshair meets, up to 64 blocks away."""
        distance, x, y, z, kind, what, *_, index, reachable = self.arrays.sight[0].item()
        if kind == 0:
            return None
        if kind == 1:
            return LookedAt("block", self.tables.block_names[what], distance, bool(reachable), (x, y, z))
        mob = self.arrays.mobs[index]
        return LookedAt("entity", self.tables.creature_names[what], distance, bool(reachable), (x, y, z),
                        self._tag(int(mob["label"])), int(mob["id"]))

    def entities(self) -> tuple[EntityState, ...]:
        """Creatures, then dropped items. A creature that did not change is the same object as before."""
        clock = self.arrays.clock[0]
        seen: dict[int, tuple[tuple[bytes, bool], EntityState]] = {}
        found = []
        for row in self.arrays.mobs[:int(clock["n_mobs"])]:
            number = int(row["id"])
            key = row.tobytes()[:_VISIBLE], bool(row["dying"])
            old = self._seen.get(number)
            state = old[1] if old and old[0] == key else self._creature(row)
            seen[number] = key, state
            found.append(state)
        self._seen = seen
        found += [self._item(row) for row in self.arrays.items[:int(clock["n_items"])]]
        return tuple(found)

    def _creature(self, row: Any) -> EntityState:
        m = _MOB._make(row.item())
        name = self.tables.creature_names[m.kind]
        width, height = catalogue().creature(name).box
        half = width / 2.0
        box = (m.x - half, m.y, m.z - half, m.x + half, m.y + height, m.z + half)
        return EntityState(id=m.id, type=name, tag=self._tag(m.label), position=(m.x, m.y, m.z), yaw=m.yaw, box=box,
                           health=m.health, alive=m.dying == 0, variant=_variant_name(name, m.variant, m.colour))

    def _item(self, row: Any) -> EntityState:
        x, y, z, _vx, _vy, _vz, number, item, count, *_ = row.item()
        half = float(self.tables.figures["item_size"]) / 2.0
        box = (x - half, y, z - half, x + half, y + 2 * half, z + half)
        return EntityState(id=number, type="item", tag=None, position=(x, y, z), yaw=0.0, box=box, health=0.0,
                           alive=True, variant=f"{self.tables.item_names[item]} x{count}")

    def state(self, entities: tuple[EntityState, ...] | None = None) -> WorldState:
        """The whole of it, or with the given entities."""
        tick, time, *_ = self.arrays.clock[0].item()
        return WorldState(
            tick=tick, time=time, player=self.player_state(),
            entities=self.entities() if entities is None else entities,
            statistics=self.statistics(), events=self.events(), looking_at=self.looking_at())


_VISIBLE = 8 * (MOB.names or ()).index("phase")
"""Bytes of a creature's row that decide its ``EntityState``; hurt flash, age and gait come later."""


def _empty_grid(setup: WorldSetup) -> Grid:
    px, _, pz = (math.floor(v) for v in setup.player.position)
    xs, zs = [px - _REACH, px + _REACH], [pz - _REACH, pz + _REACH]
    ys = [setup.ground_y - _DEPTH, setup.ground_y + _HEIGHT]
    # What events will build is stored from the start: the grid need not grow in mid-episode.
    fills = [*setup.fills, *(event.fill for event in setup.events)]
    corners = [corner for fill in fills for corner in (fill.first, fill.last)]
    corners += [tuple(math.floor(v) for v in entity.position) for entity in setup.entities]  # type: ignore[misc]
    for x, y, z in corners:
        xs += [x - _MARGIN, x + _MARGIN]
        zs += [z - _MARGIN, z + _MARGIN]
        ys += [y, y + _HEADROOM]
    block = catalogue().block(setup.ground).id
    return _grid_around(min(xs), min(ys), min(zs), max(xs), max(ys), max(zs), block, setup.ground_y)


def _grid_around(x0: int, y0: int, z0: int, x1: int, y1: int, z1: int, ground: int, ground_y: int) -> Grid:
    """A grid that stores at least the cells from (x0, y0, z0) up to, not including, (x1, y1, z1)."""
    x0, z0 = x0 // CHUNK * CHUNK, z0 // CHUNK * CHUNK
    nx, nz, ny = -(-(x1 - x0) // CHUNK) * CHUNK, -(-(z1 - z0) // CHUNK) * CHUNK, y1 - y0
    if max(nx, ny, nz) > _LARGEST:
        raise WorldError(f"the world would be {nx} x {ny} x {nz} blocks; at most {_LARGEST} a side are stored",
                         hint="build nearer to the player")
    voxels = np.zeros((ny, nz, nx), dtype=np.uint8)
    voxels[:max(0, ground_y - y0 + 1)] = ground
    return Grid(voxels, (x0, y0, z0), ground, ground_y)


def _variant(entity: EntitySetup) -> int:
    if entity.type != "villager":
        return 0
    known = catalogue()
    for kind, name, table in (("villager type", entity.villager_type, known.villager_types),
                              ("profession", entity.profession, known.professions)):
        if name not in table:
            raise ScenarioError(f'unknown {kind} "{name}"', hint=f"known: {', '.join(table)}")
    return 16 * known.villager_types[entity.villager_type].id + known.professions[entity.profession].id


def _variant_name(kind: str, variant: int, colour: int) -> str:
    if kind == "villager":
        known = catalogue()
        dress = next(t.name for t in known.villager_types.values() if t.id == variant // 16)
        return f"{dress}/{next(p.name for p in known.professions.values() if p.id == variant % 16)}"
    return f"#{colour - 1:06x}" if colour else ""


def _colour(text: str | None) -> int:
    return 0 if text is None else int(text.removeprefix("#"), 16) + 1


def segment_names(simulation: Simulation) -> dict[int, str]:
    """Segmentation number to name: blocks, creatures, items, the hand."""
    names = {i: name for i, name in enumerate(simulation.tables.block_names) if name}
    names[0] = "sky"
    for entity in simulation.entities():
        names[entity.id] = entity.tag or entity.type
    return names


def compile_rules() -> None:
    """Compile the rules, or load them from numba's cache: what the first world of a process does."""
    simulation = Simulation(WorldSetup(name="rules", seed=0), 0)
    simulation.tick(noop_action())
    simulation.view()
