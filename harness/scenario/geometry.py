"""Shapes made of blocks: boxes, lines, trees, and places drawn at random. Pure functions of their arguments."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np

from harness.scenario.catalogue import Tree
from harness.scenario.setup import Fill

__all__ = ["cells_to_boxes", "line_cells", "places", "split_box", "tree_fills"]

Cell = tuple[int, int, int]
Box = tuple[Cell, Cell]


def split_box(first: Cell, last: Cell, limit: int) -> Iterator[Box]:
    """Cut a box (corners inclusive, in any order) into boxes of at most ``limit`` blocks, halving the longest edge."""
    low = tuple(map(min, first, last))
    high = tuple(map(max, first, last))
    sizes = [b - a + 1 for a, b in zip(low, high, strict=True)]
    if math.prod(sizes) <= limit:
        yield (low[0], low[1], low[2]), (high[0], high[1], high[2])
        return
    axis = sizes.index(max(sizes))
    middle = low[axis] + sizes[axis] // 2
    end, start = list(high), list(low)
    end[axis], start[axis] = middle - 1, middle
    yield from split_box((low[0], low[1], low[2]), (end[0], end[1], end[2]), limit)
    yield from split_box((start[0], start[1], start[2]), (high[0], high[1], high[2]), limit)


def line_cells(first: Cell, last: Cell) -> list[Cell]:
    """The cells of a straight line, both ends included, one per step along its longest axis."""
    n = max(abs(b - a) for a, b in zip(first, last, strict=True))
    # Integer rounding (halves up) keeps the line the same on every machine.
    return [_on_line(first, last, i, n) for i in range(n + 1)]


def _on_line(first: Cell, last: Cell, i: int, n: int) -> Cell:
    x, y, z = (a if n == 0 else a + (2 * (b - a) * i + n) // (2 * n) for a, b in zip(first, last, strict=True))
    return x, y, z


def cells_to_boxes(cells: Collection[Cell]) -> list[Box]:
    """Disjoint boxes that cover exactly the given cells: runs along x, merged along z, then along y."""
    runs = sorted((y, z, x0, x1) for y, z, x0, x1 in _runs(cells))
    slabs: dict[tuple[int, int, int, int], int] = {}
    for y, z, x0, x1 in runs:
        # A slab is kept under the row that would continue it.
        start = slabs.pop((y, z, x0, x1), z)
        slabs[y, z + 1, x0, x1] = start
    boxes: dict[tuple[int, int, int, int, int], int] = {}
    for (y, after, x0, x1), z0 in sorted(slabs.items()):
        start = boxes.pop((y, z0, after - 1, x0, x1), y)
        boxes[y + 1, z0, after - 1, x0, x1] = start
    return sorted(((x0, y0, z0), (x1, after - 1, z1)) for (after, z0, z1, x0, x1), y0 in boxes.items())


def _runs(cells: Collection[Cell]) -> Iterator[tuple[int, int, int, int]]:
    rows: dict[tuple[int, int], list[int]] = {}
    for x, y, z in set(cells):
        rows.setdefault((y, z), []).append(x)
    for (y, z), xs in rows.items():
        xs.sort()
        start = previous = xs[0]
        for x in xs[1:]:
            if x != previous + 1:
                yield y, z, start, previous
                start = x
            previous = x
        yield y, z, start, previous


def tree_fills(tree: Tree, at: Cell, height: int | None, rng: np.random.Generator) -> list[Fill]:
    """A tree standing on a block: leaves first (only into air), then the trunk through them.

    Args:
        tree: The species.
        at: The lowest trunk block.
        height: Blocks of trunk, or None to draw from the species' range.
        rng: Draws the height and which corners of the canopy are missing.
    """
    low, high = tree.height
    trunk = int(rng.integers(low, high + 1)) if height is None else height
    canopy = _spruce_canopy(trunk, rng) if tree.name == "spruce" else _round_canopy(trunk, rng)
    x, y, z = at
    leaves = [(x + dx, y + dy, z + dz) for dx, dy, dz in canopy]
    fills = [Fill(first, last, tree.leaves, replace="air") for first, last in cells_to_boxes(leaves)]
    return [*fills, Fill(at, (x, y + trunk - 1, z), tree.log)]


def _layer(y: int, radius: int, rng: np.random.Generator, corner: float) -> Iterator[Cell]:
    """A square layer of leaves that keeps each of its four corners with chance ``corner``."""
    for dx in range(-radius, radius + 1):
        for dz in range(-radius, radius + 1):
            # The draw comes first: every layer takes four, so shapes stay comparable between heights.
            if abs(dx) == radius and abs(dz) == radius and radius > 0 and rng.random() >= corner:
                continue
            yield dx, y, dz


def _round_canopy(trunk: int, rng: np.random.Generator) -> Iterable[Cell]:
    """Oak and birch: two wide layers around the top of the trunk, two narrow ones above, the last a plus."""
    for y, radius, corner in ((trunk - 3, 2, 0.5), (trunk - 2, 2, 0.5), (trunk - 1, 1, 0.5), (trunk, 1, 0.0)):
        if y >= 1:
            yield from _layer(y, radius, rng, corner)


def _spruce_canopy(trunk: int, rng: np.random.Generator) -> Iterable[Cell]:
    """Spruce: a cone whose skirts widen downwards and start anew, over a bare foot of one or two blocks."""
    foot = 1 + int(rng.integers(0, 2))
    yield 0, trunk + 1, 0
    yield 0, trunk, 0
    radius, widest = 1, 2
    for y in range(trunk - 1, foot - 1, -1):
        yield from _layer(y, radius, rng, 0.0)
        radius = radius + 1 if radius < widest else 1


def places(n: int, first: tuple[int, int], last: tuple[int, int], *, min_distance: float,
           clear: Sequence[tuple[float, float, float]], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Columns (x, z) drawn without replacement from a rectangle, apart from each other and from what stands there.

    Every free column gets its turn, in random order, so an area fails only when it is really too crowded.

    Args:
        n: How many are wanted.
        first: One corner of the rectangle, included.
        last: The opposite corner, included.
        min_distance: Between any two drawn columns, in blocks.
        clear: Circles (x, z, radius) that stay free, measured to the middle of a column.
        rng: Draws the order.

    Returns:
        Up to ``n`` columns.
    """
    (x0, x1), (z0, z1) = sorted((first[0], last[0])), sorted((first[1], last[1]))
    columns = np.stack(np.meshgrid(np.arange(x0, x1 + 1), np.arange(z0, z1 + 1), indexing="ij"), -1).reshape(-1, 2)
    columns = columns[rng.permutation(len(columns))]
    free = np.ones(len(columns), dtype=bool)
    for x, z, radius in clear:
        free &= np.hypot(columns[:, 0] + 0.5 - x, columns[:, 1] + 0.5 - z) >= radius
    chosen: list[tuple[int, int]] = []
    while len(chosen) < n and free.any():
        x, z = columns[int(free.argmax())]
        chosen.append((int(x), int(z)))
        distance = np.hypot(columns[:, 0] - x, columns[:, 1] - z)
        free &= (distance >= min_distance) & (distance > 0)
    return chosen
