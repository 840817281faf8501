"""The rasteriser against the ray caster: two renderers that share no geometry must see the same world."""

from __future__ import annotations

import numpy as np
from oracle_raycaster import cast
from render_scenes import random_scene, random_view

from harness.world.blockworld.render import Renderer
from harness.world.blockworld.view import HAND_ID

NEAR = 60.0
FRAMES = 24


def test_ids_and_depth_agree_with_the_ray_caster() -> None:
    pixels = wrong = deep = 0
    for seed in range(FRAMES):
        draw = np.random.default_rng(seed)
        grid = random_scene(draw)
        view = random_view(grid, draw)
        _, ids, depth = Renderer(grid).frame(view)
        true_ids, true_depth = cast(grid, view)
        compared = ((depth < NEAR) | (true_depth < NEAR)) & (ids != HAND_ID)
        same = ids == true_ids
        pixels += int(compared.sum())
        wrong += int((compared & ~same).sum())
        deep += int((compared & same & (np.abs(depth - true_depth) > 1e-3 * true_depth)).sum())
    assert pixels > 1_000_000
    assert wrong / pixels < 1e-5, f"{wrong} of {pixels} ids differ"
    assert deep / pixels < 1e-4, f"{deep} of {pixels} depths differ"


def test_the_oracle_can_fail() -> None:
    """A block moved by one cell is seen by the comparison."""
    draw = np.random.default_rng(1)
    grid = random_scene(draw)
    view = random_view(grid, draw)
    _, ids, _ = Renderer(grid).frame(view)
    x, y, z = (int(np.floor(c)) for c in view.eye)
    step = 3
    forward = (-np.sin(np.deg2rad(view.yaw)), np.cos(np.deg2rad(view.yaw)))
    grid.set(x + round(step * forward[0]), y, z + round(step * forward[1]), 45)
    true_ids, _ = cast(grid, view)
    assert (ids != true_ids).mean() > 1e-4
