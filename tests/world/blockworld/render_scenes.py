"""Random scenes for the tests of the renderer."""

from __future__ import annotations

import numpy as np

from harness.scenario.catalogue import catalogue
from harness.world.blockworld.grid import Grid
from harness.world.blockworld.view import ENTITY_COLUMNS, View

GROUND_Y = 63


def block(name: str) -> int:
    return catalogue().blocks[name].id


def add_tree(voxels: np.ndarray, x: int, y: int, z: int, height: int, species: str, draw: np.random.Generator) -> None:
    tree = catalogue().trees[species]
    for dy in range(height - 3, height + 1):
        reach = 2 if dy < height - 1 else 1
        for dz in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                if not (abs(dx) == reach == abs(dz) and (dy == height or draw.random() < 0.5)):
                    voxels[y + dy, z + dz, x + dx] = block(tree.leaves)
    voxels[y : y + height, z, x] = block(tree.log)


def random_scene(draw: np.random.Generator, size: int = 48, height: int = 20, trees: int = 14) -> Grid:
    """Flat ground at y 63 with pits, trees, water, glass and stray blocks of every kind."""
    voxels = np.zeros((height, size, size), dtype=np.uint8)
    ground = 5
    voxels[: ground - 1], voxels[ground - 1] = block("dirt"), block("grass_block")
    for _ in range(trees):
        x, z = draw.integers(3, size - 3, 2)
        add_tree(
            voxels, int(x), ground, int(z), int(draw.integers(4, 7)), str(draw.choice(["oak", "birch", "spruce"])), draw
        )
    names = [n for n, b in catalogue().blocks.items() if b.shape != "none"]
    for _ in range(60):
        x, z = draw.integers(0, size, 2)
        voxels[ground + int(draw.integers(0, 4)), z, x] = block(str(draw.choice(names)))
    for _ in range(6):
        x, z = draw.integers(0, size - 4, 2)
        voxels[ground - int(draw.integers(1, 4)) : ground, z : z + 3, x : x + 4] = 0
        voxels[ground - 2 : ground, (z + 7) % 40 : (z + 7) % 40 + 3, x : x + 3] = block("water")
    return Grid(voxels, (-24, GROUND_Y + 1 - ground, -16), block("grass_block"), GROUND_Y)


def random_creature(draw: np.random.Generator, x: float, z: float, number: int) -> np.ndarray:
    kind = int(draw.choice([1, 2, 3, 4, 5, 6, 100]))
    row = np.zeros(ENTITY_COLUMNS)
    yaw = draw.uniform(-180, 180)
    variant = int(draw.integers(0, 7)) * 16 + int(draw.integers(0, 15)) if kind == 1 else int(draw.integers(0, 20))
    colour = 0x8B4513 + 1 if kind == 6 and draw.random() < 0.5 else 0
    hurt = float(draw.choice([0.0, 1.0, 10.0 + draw.random()]))
    row[:] = [
        kind,
        number,
        x,
        GROUND_Y + 1 + draw.uniform(0, 0.4),
        z,
        yaw,
        yaw + draw.uniform(-70, 70),
        draw.uniform(-40, 40),
        draw.uniform(-1.4, 1.4),
        hurt,
        variant if kind in (1, 100) else 0,
        colour,
        draw.uniform(0, 300),
    ]
    return row


def random_view(grid: Grid, draw: np.random.Generator, creatures: int = 5) -> View:
    """An eye somewhere in the open with creatures before it."""
    while True:
        x, z = draw.uniform(-20, 20), draw.uniform(-12, 28)
        y = GROUND_Y + 1 + draw.choice([1.62, 1.27, 0.4, 3.0, 9.0]) + draw.uniform(0, 0.1)
        around = [
            grid.get(int(np.floor(x + dx)), int(np.floor(y + dy)), int(np.floor(z + dz)))
            for dx in (-0.3, 0.3)
            for dy in (-0.3, 0.3)
            for dz in (-0.3, 0.3)
        ]
        if not any(around):
            break
    yaw, pitch = draw.uniform(-180, 180), draw.choice([0.0, draw.uniform(-40, 60), draw.uniform(-90, 90)])
    rows = []
    for k in range(creatures):
        a, r = np.deg2rad(yaw + draw.uniform(-45, 45)), draw.uniform(1.2, 14)
        rows.append(random_creature(draw, x - r * np.sin(a), z + r * np.cos(a), 1000 + k))
    return View(
        eye=(x, y, z),
        yaw=yaw,
        pitch=float(pitch),
        entities=np.array(rows).reshape(-1, ENTITY_COLUMNS),
        time=int(draw.integers(0, 24000)),
    )
