"""How long a picture of the block world takes on one core: medians with spread, and the times to start.

Scene: 64 x 24 x 64 blocks, flat grass, 20 trees, a hut, a villager, bare hand; the camera walks a circle and
turns a full turn in 120 pictures. Run: ``python benchmarks/render.py [rounds]``.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from harness.scenario.catalogue import catalogue
from harness.world.blockworld.grid import Grid
from harness.world.blockworld.render import Renderer, warm_up
from harness.world.blockworld.view import E_HEAD_YAW, E_ID, E_KIND, E_X, E_YAW, E_Z, ENTITY_COLUMNS, View

START = """
import time
t = time.perf_counter()
from harness.world.blockworld.render import warm_up
warm_up()
print(time.perf_counter() - t)
"""


def tree(voxels: np.ndarray, x: int, z: int, height: int, log: int, leaves: int) -> None:
    for dy in range(height - 3, height + 1):
        reach = 2 if dy < height - 1 else 1
        for dz in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                if not (abs(dx) == reach and abs(dz) == reach and (dy == height or (x + dz + dy) % 2)):
                    voxels[4 + dy, z + dz, x + dx] = leaves
    voxels[4 : 4 + height, z, x] = log


def scene(trees: int = 20) -> Grid:
    blocks = catalogue().blocks
    voxels = np.zeros((24, 64, 64), dtype=np.uint8)
    voxels[:3], voxels[3] = blocks["dirt"].id, blocks["grass_block"].id
    draw = np.random.default_rng(0)
    for _ in range(trees):
        x, z = (int(v) for v in draw.integers(3, 61, 2))
        tree(voxels, x, z, int(draw.integers(4, 7)), blocks["oak_log"].id, blocks["oak_leaves"].id)
    voxels[4:8, 40:46, 20:26] = blocks["oak_planks"].id
    voxels[4:7, 41:45, 21:25] = 0
    voxels[4:6, 40, 22] = 0
    voxels[5, 43, 20] = blocks["glass"].id
    for x, z in draw.integers(2, 62, (8, 2)):
        voxels[4, z, x] = blocks["cobblestone"].id
    return Grid(voxels, (-32, 0, -32), blocks["grass_block"].id, 3)


def views() -> list[View]:
    row = np.zeros((1, ENTITY_COLUMNS))
    row[0, E_KIND], row[0, E_ID], row[0, E_YAW], row[0, E_HEAD_YAW] = 1, 1000, 180, 180
    row[0, E_X : E_Z + 1] = 0.5, 4, 3.5
    turn = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    return [
        View(eye=(8 * np.cos(a), 5.62, 8 * np.sin(a)), yaw=float(np.rad2deg(a)), pitch=5.0, entities=row) for a in turn
    ]


def measure(renderer: Renderer, rounds: int) -> list[float]:
    """Milliseconds of every picture."""
    path = views()
    rgb, segmentation, depth = renderer.frame(path[0])
    times = []
    for _ in range(rounds):
        for view in path:
            start = time.perf_counter()
            renderer.frame(view, rgb=rgb, segmentation=segmentation, depth=depth)
            times.append((time.perf_counter() - start) * 1e3)
    return times


def line(name: str, times: list[float]) -> None:
    q = statistics.quantiles(times, n=20)
    print(
        f"{name:34s} median {statistics.median(times):6.3f}  5 % {q[0]:6.3f}  95 % {q[-1]:6.3f} ms"
        f"  ({1e3 / statistics.median(times):7.0f}/s, {len(times)} pictures)"
    )


def start_times() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold (compiles)", "warm (from numba's cache)"):
            out = subprocess.run(
                [sys.executable, "-c", START],
                env={**os.environ, "NUMBA_CACHE_DIR": folder},
                check=True,
                capture_output=True,
                text=True,
            )
            print(f"first picture in a fresh process, {name:26s} {float(out.stdout):6.2f} s")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {os.cpu_count()} CPUs,"
        f" load {os.getloadavg()[0]:.1f}"
    )
    warm_up()
    grid = scene()
    sizes = {
        "640x360": Renderer(grid),
        "128x128": Renderer(grid, width=128, height=128),
        "128 of 640 columns x 360": Renderer(grid, column_stride=5, column_offset=2),
    }
    times: dict[str, list[float]] = {name: [] for name in sizes}
    for _ in range(rounds):
        for name, renderer in sizes.items():
            times[name] += measure(renderer, 1)
    for name in sizes:
        line(name + ", colour + ids + depth", times[name])
    forest = scene(120)
    line("640x360, 120 trees", measure(Renderer(forest), max(1, rounds // 2)))
    edits = []
    renderer = sizes["640x360"]
    for k in range(20):
        start = time.perf_counter()
        grid.set(k - 10, 4, 5, 4)
        renderer.frame(views()[0])
        edits.append((time.perf_counter() - start) * 1e3)
    line("640x360 after an edit", edits)
    start_times()


if __name__ == "__main__":
    main()
