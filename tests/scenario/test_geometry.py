"""Boxes, lines, trees and places."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scenario.catalogue import catalogue
from harness.scenario.geometry import cells_to_boxes, line_cells, places, split_box, tree_fills

CELL = st.tuples(st.integers(-9, 9), st.integers(95, 110), st.integers(-9, 9))


def cells_of(first: tuple[int, int, int], last: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    return list(itertools.product(*(range(min(a, b), max(a, b) + 1) for a, b in zip(first, last, strict=True))))


@given(CELL, CELL, st.integers(1, 600))
def test_splitting_a_box_keeps_every_cell_once(first: tuple[int, int, int], last: tuple[int, int, int],
    limit: int) -> None:
    boxes = list(split_box(first, last, limit))
    cells = [cell for box in boxes for cell in cells_of(*box)]
    assert sorted(cells) == sorted(cells_of(first, last))
    assert all(len(cells_of(*box)) <= limit for box in boxes)


@given(st.sets(CELL, max_size=60))
def test_boxes_cover_exactly_the_cells(cells: set[tuple[int, int, int]]) -> None:
    covered = [cell for box in cells_to_boxes(cells) for cell in cells_of(*box)]
    assert sorted(covered) == sorted(cells)


def test_a_solid_box_is_one_box() -> None:
    assert cells_to_boxes(cells_of((0, 100, 0), (3, 104, 2))) == [((0, 100, 0), (3, 104, 2))]


@given(CELL, CELL)
def test_a_line_is_connected_and_reaches_both_ends(first: tuple[int, int, int], last: tuple[int, int, int]) -> None:
    cells = line_cells(first, last)
    assert (cells[0], cells[-1]) == (first, last)
    assert len(cells) == max(abs(b - a) for a, b in zip(first, last, strict=True)) + 1
    assert all(max(abs(p - q) for p, q in zip(a, b, strict=True)) == 1 for a, b in itertools.pairwise(cells))


@pytest.mark.parametrize("species", ["oak", "birch", "spruce"])
def test_trees(species: str) -> None:
    tree = catalogue().trees[species]
    shapes, heights = set(), set()
    for seed in range(60):
        fills = tree_fills(tree, (10, 100, -5), None, np.random.default_rng(seed))
        *leaves, trunk = fills
        height = trunk.last[1] - 99
        heights.add(height)
        assert (trunk.first, trunk.last[0], trunk.last[2], trunk.block) == ((10, 100, -5), 10, -5, tree.log)
        assert all(f.block == tree.leaves and f.replace == "air" for f in leaves)
        crown = {cell for f in leaves for cell in cells_of(f.first, f.last)}
        assert all(max(abs(x - 10), abs(z + 5)) <= 2 and 101 <= y <= 100 + height + 1 for x, y, z in crown)
        assert (10, 100 + height, -5) in crown, "the trunk's top is covered"
        assert sum(len(cells_of(f.first, f.last)) for f in leaves) == len(crown)
        shapes.add(frozenset((x, y - height, z) for x, y, z in crown))
    assert heights == set(range(tree.height[0], tree.height[1] + 1))
    assert len(shapes) > 2


def test_an_oak_has_two_wide_and_two_narrow_layers() -> None:
    for seed in range(20):
        *leaves, _ = tree_fills(catalogue().trees["oak"], (0, 100, 0), 5, np.random.default_rng(seed))
        crown = {cell for f in leaves for cell in cells_of(f.first, f.last)}
        sizes = [sum(y == level for _, y, _ in crown) for level in range(100, 107)]
        assert sizes[0] == sizes[1] == sizes[6] == 0
        assert 21 <= sizes[2] <= 25
        assert 21 <= sizes[3] <= 25
        assert 5 <= sizes[4] <= 9
        assert sizes[5] == 5


def test_a_spruce_narrows_to_a_point() -> None:
    *leaves, _ = tree_fills(catalogue().trees["spruce"], (0, 100, 0), 8, np.random.default_rng(0))
    crown = {cell for f in leaves for cell in cells_of(f.first, f.last)}
    assert max(crown, key=lambda c: c[1]) == (0, 109, 0)
    assert [sum(y == level for _, y, _ in crown) for level in (109, 108, 107, 106, 105, 104)] == [1, 1, 5, 21, 5, 21]


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 2**32), st.floats(0, 9), st.floats(0, 9))
def test_places_keep_their_distance(n: int, seed: int, apart: float, clear: float) -> None:
    found = places(n, (10, -3), (-4, 8), min_distance=apart, clear=[(0.5, 0.5, clear)], rng=np.random.default_rng(seed))
    assert len(found) <= n
    assert len(set(found)) == len(found)
    for i, (x, z) in enumerate(found):
        assert -4 <= x <= 10
        assert -3 <= z <= 8
        assert math.hypot(x, z) >= clear
        assert all(math.hypot(x - a, z - b) >= apart for a, b in found[:i])
    if len(found) < n:
        free = [(x, z) for x in range(-4, 11) for z in range(-3, 9) if math.hypot(x, z) >= clear
                and all(math.hypot(x - a, z - b) >= max(apart, 1e-9) for a, b in found)]
        assert not free, "it gave up although there was room"
