"""Scenario and seed to ``WorldSetup``. Pure: no clock, no file, no global state."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from harness.errors import ScenarioError
from harness.scenario.catalogue import catalogue
from harness.scenario.commands import event_commands, to_commands
from harness.scenario.fields import COMPASS
from harness.scenario.geometry import cells_to_boxes, line_cells, places, tree_fills
from harness.scenario.schema import (
    BlockStep,
    EntitySpec,
    EntityStep,
    FillBlocks,
    Jitter,
    LineBlocks,
    PlantTree,
    ScatterCreatures,
    ScatterTrees,
    Scenario,
    SetBlock,
)
from harness.scenario.setup import EntitySetup, Fill, PlayerSetup, Point, TimedFill, WorldSetup

__all__ = ["compile_scenario", "event_commands", "to_commands"]

_PLACES = 4  # decimals kept of a drawn number, so that a world and a command line mean the same value


def compile_scenario(scenario: Scenario, *, seed: int) -> WorldSetup:
    """What to build for one episode. The same arguments give an equal value.

    Trees, scattering and creature jitter are drawn from ``world.seed`` where the scenario fixes one, and otherwise
    from ``seed``; the player's jitter always follows ``seed``. Every step draws from a stream of its own, so adding
    a step moves nothing else.

    Raises:
        ScenarioError: when an area is too crowded for what is to be scattered in it, or the seed is negative.
    """
    if seed < 0:
        raise ScenarioError(f"a seed is a whole number from 0 up (got {seed})")
    return _Builder(scenario, seed).build()


class _Builder:
    """One compilation: remembers what already stands where."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario, self.seed = scenario, seed
        self.layout_seed = seed if scenario.world.seed is None else scenario.world.seed
        self.occupied: list[tuple[float, float]] = []

    def _stream(self, *key: int, seed: int | None = None) -> np.random.Generator:
        sequence = np.random.SeedSequence(self.layout_seed if seed is None else seed, spawn_key=key)
        return np.random.Generator(np.random.PCG64(sequence))

    def build(self) -> WorldSetup:
        world = self.scenario.world
        player = self._player()
        fills = tuple(f for i, step in enumerate(world.blocks) for f in self._blocks(step, i))
        entities = tuple(e for i, step in enumerate(world.entities) for e in self._entities(step, i))
        return WorldSetup(
            name=self.scenario.name, seed=self.layout_seed, ground=world.ground, ground_y=world.ground_y,
            biome=world.biome, time=world.time, weather=world.weather, rules={**catalogue().rules, **world.rules},
            difficulty=world.difficulty, fills=fills, entities=entities, player=player,
            settle_steps=self.scenario.episode.settle_steps, events=tuple(self._events()))

    def _events(self) -> Iterator[TimedFill]:
        # Events of one step keep the order of the file: sorting is stable.
        for event in sorted(self.scenario.events, key=lambda event: event.step):
            for fill in _placed(event):
                yield TimedFill(event.step, fill)

    def _player(self) -> PlayerSetup:
        spec = self.scenario.player
        yaw = spec.yaw if spec.yaw is not None else 0.0
        if spec.facing in COMPASS:
            yaw = COMPASS[spec.facing]
        elif spec.facing is not None:
            target = next((e for e in self.scenario.world.entities
                           if isinstance(e, EntitySpec) and e.tag == spec.facing), None)
            assert target is not None, "the schema refuses an unknown tag"
            yaw = _yaw_towards(spec.at, target.at)
        position, yaw, pitch = self._shaken(spec.at, yaw, spec.pitch, spec.jitter, self._stream(0, seed=self.seed))
        hotbar = {slot: (item.item, item.count) for slot, item in sorted(spec.hotbar.items())}
        return PlayerSetup(position=position, yaw=yaw, pitch=pitch, hotbar=hotbar, selected=spec.selected)

    @staticmethod
    def _shaken(at: Point, yaw: float, pitch: float, jitter: Jitter, rng: np.random.Generator
                ) -> tuple[Point, float, float]:
        # Four draws whatever the widths, so that widening one offset leaves the others as they were.
        dx, dz, dyaw, dpitch = (float(v) for v in rng.uniform(-1.0, 1.0, 4))
        width = jitter.position
        position = (round(at[0] + dx * width, _PLACES), float(at[1]), round(at[2] + dz * width, _PLACES))
        turned = _wrapped(yaw + dyaw * jitter.yaw)
        tilted = round(min(90.0, max(-90.0, pitch + dpitch * jitter.pitch)), _PLACES)
        return position, turned, tilted

    def _blocks(self, step: BlockStep, index: int) -> Iterator[Fill]:
        rng = self._stream(1, index)
        match step:
            case FillBlocks() | SetBlock() | LineBlocks():
                yield from _placed(step)
            case PlantTree(tree=species) if species != "none":
                self.occupied.append((step.at[0] + 0.5, step.at[2] + 0.5))
                yield from tree_fills(catalogue().trees[species], step.at, step.height, rng)
            case ScatterTrees():
                for x, z in self._scattered(step, rng, f"world.blocks[{index}]"):
                    tree = catalogue().trees[str(rng.choice(np.array(step.scatter)))]
                    yield from tree_fills(tree, (x, self.scenario.world.ground_y + 1, z), None, rng)

    def _scattered(self, step: ScatterTrees | ScatterCreatures, rng: np.random.Generator, where: str
                   ) -> list[tuple[int, int]]:
        fewest, most = step.count
        wanted = int(rng.integers(fewest, most + 1))
        at = self.scenario.player.at
        kept = [(at[0], at[2])]
        kept += [(e.at[0], e.at[2]) for e in self.scenario.world.entities
                 if isinstance(e, EntitySpec) and e.type != "none"]
        clear = [(x, z, step.keep_clear) for x, z in kept] + [(x, z, step.min_distance) for x, z in self.occupied]
        found = places(wanted, step.first, step.last, min_distance=step.min_distance, clear=clear, rng=rng)
        if len(found) < fewest:
            raise ScenarioError(
                f"{where}: the area from {list(step.first)} to {list(step.last)} has room for {len(found)} of at least "
                f"{fewest}, each {step.min_distance:g} blocks from the next",
                where=f'scenario "{self.scenario.name}", seed {self.layout_seed}',
                hint="enlarge the area, or lower count, min_distance or keep_clear")
        self.occupied += [(x + 0.5, z + 0.5) for x, z in found]
        return found

    def _entities(self, step: EntityStep, index: int) -> Iterator[EntitySetup]:
        player = self.scenario.player.at  # not the shaken one: the layout follows its own seed alone
        rng = self._stream(2, index)
        if isinstance(step, EntitySpec):
            if step.type != "none":
                yaw = step.yaw if step.yaw is not None else _facing(step.facing, step.at, player)
                yield self._entity(step, step.type, *self._shaken(step.at, yaw, step.pitch, step.jitter, rng))
            return
        for x, z in self._scattered(step, rng, f"world.entities[{index}]"):
            at = (x + 0.5, float(self.scenario.world.ground_y + 1), z + 0.5)
            kind = str(rng.choice(np.array(step.scatter)))
            drawn = round(float(rng.uniform(-180.0, 180.0)), _PLACES)
            yaw = step.yaw if step.yaw is not None else drawn
            if step.facing is not None:
                yaw = _facing(step.facing, at, player)
            yield self._entity(step, kind, at, _wrapped(yaw), step.pitch)

    @staticmethod
    def _entity(step: EntitySpec | ScatterCreatures, kind: str, at: Point, yaw: float, pitch: float) -> EntitySetup:
        setup = EntitySetup(type=kind, position=at, tag=step.tag, yaw=yaw, pitch=pitch, ai=step.ai, health=step.health,
                            colour=step.colour, invulnerable=step.invulnerable)
        if kind != "villager":
            return setup
        dress = {"villager_type": step.villager.type, "profession": step.villager.profession}
        return EntitySetup(**{**setup.__dict__, **dress})


def _placed(step: FillBlocks | SetBlock | LineBlocks) -> Iterator[Fill]:
    """A step that draws nothing, as fills; none for the block ``none``."""
    match step:
        case FillBlocks(fill=block) if block != "none":
            yield Fill(step.first, step.last, block, step.replace)
        case SetBlock(set=block) if block != "none":
            yield Fill(step.at, step.at, block)
        case LineBlocks(line=block) if block != "none":
            for first, last in cells_to_boxes(line_cells(step.first, step.last)):
                yield Fill(first, last, block)


def _wrapped(yaw: float) -> float:
    """The same direction in [-180, 180)."""
    return round((yaw + 180.0) % 360.0 - 180.0, _PLACES)


def _yaw_towards(origin: Point, target: Point) -> float:
    return math.degrees(math.atan2(origin[0] - target[0], target[2] - origin[2]))


def _facing(facing: str | None, at: Point, player: Point) -> float:
    if facing == "player":
        return _yaw_towards(at, player)
    return COMPASS[facing] if facing else 0.0
