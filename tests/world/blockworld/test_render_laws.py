"""Laws of the picture: it depends on the world and the view only."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from render_scenes import GROUND_Y, random_scene, random_view
from render_scenes import block as block_id

from harness.errors import WorldError
from harness.scenario.catalogue import catalogue
from harness.world.blockworld.grid import Grid
from harness.world.blockworld.mesh import Q_HI_V, Q_LIGHT, Q_LIGHT_STRIDE, Q_LO_V, world_mesh
from harness.world.blockworld.render import Renderer, is_compiled, warm_up
from harness.world.blockworld.textures import BIOMES, block_layers, item_index, item_names, item_sprite, texture
from harness.world.blockworld.view import HAND_ID, SKY_DEPTH, View

HOTBAR = (
    ("oak_planks", 64),
    ("iron_axe", 1),
    None,
    ("beef", 3),
    ("grass_block", 12),
    None,
    None,
    ("glass", 2),
    ("stick", 1),
)


def copy_of(grid: Grid) -> Grid:
    return Grid(grid.voxels.copy(), tuple(int(v) for v in grid.origin), grid.ground, grid.ground_y)


def busy_view(grid: Grid, draw: np.random.Generator) -> View:
    view = random_view(grid, draw)
    x, y, z = (int(np.floor(c)) for c in view.eye)
    view.hotbar, view.selected, view.health, view.held = (
        HOTBAR,
        3,
        13.0,
        str(draw.choice(["", "iron_axe", "oak_planks"])),
    )
    view.swing, view.bob = float(draw.random()), float(draw.uniform(0, 6))
    view.crack = (x + 1, y - 2, z + 2, int(draw.integers(0, 10)))
    view.weather = str(draw.choice(["clear", "rain"]))
    view.target = (x + int(draw.integers(-2, 3)), y - 2, z + int(draw.integers(-2, 3)))
    return view


def digest(parts: tuple[np.ndarray, ...]) -> str:
    return hashlib.sha256(b"".join(p.tobytes() for p in parts)).hexdigest()


def small_digest() -> str:
    draw = np.random.default_rng(5)
    grid = random_scene(draw)
    return digest(Renderer(grid, width=320, height=180).frame(busy_view(grid, draw)))


def test_a_fresh_process_draws_the_same_bytes() -> None:
    here = Path(__file__).parent
    code = f"import sys; sys.path.insert(0, {str(here)!r}); import test_render_laws as t; print(t.small_digest())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == small_digest()


@pytest.mark.parametrize("seed", range(6))
def test_a_strided_picture_is_columns_of_the_full_one(seed: int) -> None:
    draw = np.random.default_rng(100 + seed)
    grid = random_scene(draw)
    view = busy_view(grid, draw)
    if seed == 5:
        view.gui = "inventory"
    full = Renderer(grid).frame(view)
    strided = Renderer(grid, column_stride=5, column_offset=2).frame(view)
    for a, b in zip(full, strided, strict=True):
        assert np.array_equal(a[:, 2::5], b)
    assert strided[0].shape == (360, 128, 3)
    resized = [
        cv2.resize(np.ascontiguousarray(p), (128, 128), interpolation=cv2.INTER_LINEAR) for p in (full[0], strided[0])
    ]
    assert np.array_equal(*resized)


def test_drawing_more_changes_nothing() -> None:
    draw = np.random.default_rng(9)
    grid = random_scene(draw)
    views = [busy_view(grid, draw) for _ in range(4)]
    renderer = Renderer(grid, width=320, height=180)
    first = [digest(renderer.frame(v)) for v in views]
    again = [digest(renderer.frame(v)) for v in reversed(views)]
    assert first == again[::-1]
    assert first == [digest(Renderer(copy_of(grid), width=320, height=180).frame(v)) for v in views]


def test_given_arrays_are_written_and_returned() -> None:
    draw = np.random.default_rng(10)
    grid = random_scene(draw)
    view = random_view(grid, draw)
    renderer = Renderer(grid, width=64, height=36)
    rgb, ids, depth = np.empty((36, 64, 3), np.uint8), np.empty((36, 64), np.int16), np.empty((36, 64), np.float32)
    out = renderer.frame(view, rgb=rgb, segmentation=ids, depth=depth)
    assert out[0] is rgb and out[1] is ids and out[2] is depth
    assert digest(out) == digest(renderer.frame(view))


cells = st.tuples(
    st.integers(-24, 23),
    st.integers(GROUND_Y - 4, GROUND_Y + 9),
    st.integers(-16, 31),
    st.sampled_from(sorted(b.id for b in catalogue().blocks.values())),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(cells, min_size=1, max_size=6), st.integers(0, 3))
def test_an_edited_world_looks_like_a_fresh_equal_one(edits: list[tuple[int, int, int, int]], seed: int) -> None:
    draw = np.random.default_rng(seed)
    grid = random_scene(draw, trees=4)
    view = random_view(grid, draw)
    renderer = Renderer(grid, width=160, height=90)
    second = Renderer(grid, width=80, height=45)
    for x, y, z, block in edits:
        assert grid.set(x, y, z, block)
        seen = digest(renderer.frame(view))
    fresh = copy_of(grid)
    assert seen == digest(Renderer(fresh, width=160, height=90).frame(view))
    assert digest(second.frame(view)) == digest(Renderer(fresh, width=80, height=45).frame(view))


@settings(max_examples=40, deadline=None)
@given(st.lists(cells, min_size=1, max_size=8), st.integers(0, 3))
def test_light_and_mesh_forget_how_a_world_came_to_be(edits: list[tuple[int, int, int, int]], seed: int) -> None:
    grid = random_scene(np.random.default_rng(seed), trees=4)
    world_mesh(grid)
    for x, y, z, block in edits:
        assert grid.set(x, y, z, block)
        mesh = world_mesh(grid)
    fresh = world_mesh(copy_of(grid))
    assert np.array_equal(mesh.cells, fresh.cells)
    assert np.array_equal(mesh.light, fresh.light)
    assert np.array_equal(mesh.groups[:, 1:], fresh.groups[:, 1:])
    for ours, theirs in zip(mesh.groups, fresh.groups, strict=True):
        for a, b in zip(
            mesh.quads[ours[0] : ours[0] + ours[1]], fresh.quads[theirs[0] : theirs[0] + theirs[1]], strict=True
        ):
            assert np.array_equal(np.delete(a, Q_LIGHT), np.delete(b, Q_LIGHT))
            n = int(a[Q_LIGHT_STRIDE]) * 4 * int(a[Q_HI_V] - a[Q_LO_V])
            assert np.array_equal(mesh.lights[a[Q_LIGHT] :][:n], fresh.lights[b[Q_LIGHT] :][:n])


def test_the_ground_goes_on_beyond_the_grid() -> None:
    """At the rim neither texture nor light jumps: a grid of twice the size gives the same picture of a bare plain."""
    pictures = []
    for size in (32, 64):
        voxels = np.zeros((8, size, size), dtype=np.uint8)
        voxels[:3], voxels[3] = 2, 1
        grid = Grid(voxels, (-size // 2, 0, -size // 2), 1, 3)
        pictures.append(Renderer(grid, width=320, height=180).frame(View(eye=(3.3, 5.62, -2.1), yaw=35.0, pitch=12.0)))
    same = (pictures[0][0] == pictures[1][0]).all(axis=-1)
    assert same.mean() > 0.999
    assert np.array_equal(pictures[0][1], pictures[1][1])


def test_a_forest_without_gaps_overflows_nothing() -> None:
    draw = np.random.default_rng(11)
    voxels = np.zeros((32, 32, 32), dtype=np.uint8)
    voxels[1:30] = np.where(draw.random((29, 32, 32)) < 0.5, 15, 0)
    voxels[10:16, 12:20, 12:20] = 0
    grid = Grid(voxels, (0, 0, 0), 1, 0)
    rgb, ids, depth = Renderer(grid).frame(View(eye=(16.0, 13.0, 16.0), yaw=20.0))
    assert (ids == 15).mean() > 0.5
    voxels[1:30] = draw.integers(0, 8, (29, 32, 32))
    voxels[10:16, 12:20, 12:20] = 0
    grid.voxels[...] = voxels
    grid.dirty[...] = True
    assert len(np.unique(Renderer(grid).frame(View(eye=(16.0, 13.0, 16.0), yaw=20.0))[1])) > 5


def test_sky_hand_and_depth_are_labelled() -> None:
    draw = np.random.default_rng(12)
    grid = random_scene(draw, trees=0)
    _, ids, depth = Renderer(grid).frame(View(eye=(0.5, GROUND_Y + 8.0, 0.5), pitch=-60.0))
    assert (ids == HAND_ID).sum() > 1000
    assert ((depth == np.float32(SKY_DEPTH)) == (ids == 0)).all()
    assert (depth[ids == HAND_ID] < 3).all()
    _, ids, _ = Renderer(grid).frame(View(eye=(0.5, GROUND_Y + 8.0, 0.5), gui="inventory"))
    assert not (ids == HAND_ID).any()


def test_hud_shows_hotbar_and_health() -> None:
    draw = np.random.default_rng(13)
    grid = random_scene(draw, trees=0)
    base = View(eye=(0.5, GROUND_Y + 2.62, 0.5))
    renderer = Renderer(grid)
    plain = renderer.frame(base)[0]
    for change, box in (
        (dict(hotbar=HOTBAR), (338, 360, 229, 411)),
        (dict(health=5.0), (321, 331, 229, 311)),
        (dict(selected=4), (337, 360, 228, 412)),
    ):
        other = renderer.frame(View(eye=base.eye, **change))[0]
        rows, columns = np.nonzero((other != plain).any(axis=-1))
        assert len(rows) > 20
        assert box[0] <= rows.min() and rows.max() < box[1] and box[2] <= columns.min() and columns.max() < box[3]
    inverted = 255 - Renderer(grid).frame(View(eye=base.eye, gui="inventory"))[0]
    assert not np.array_equal(inverted, plain)


def test_night_is_darker_and_rain_greyer() -> None:
    draw = np.random.default_rng(14)
    grid = random_scene(draw, trees=2)
    renderer = Renderer(grid, width=160, height=90)

    def mean(**change: object) -> np.ndarray:
        return renderer.frame(View(eye=(0.5, GROUND_Y + 4.62, 0.5), **change))[0].reshape(-1, 3).mean(axis=0)  # type: ignore[arg-type]

    day, night, rain = mean(), mean(time=18000), mean(weather="rain")
    assert night.mean() < 0.75 * day.mean()
    assert rain.mean() < 0.9 * day.mean()


def test_an_eye_in_water_sees_blue_and_no_other_ids() -> None:
    pictures = []
    for liquid in (0, block_id("water")):
        voxels = np.zeros((8, 16, 16), dtype=np.uint8)
        voxels[0] = block_id("white_wool")
        voxels[1:4] = liquid
        grid = Grid(voxels, (0, 0, 0), block_id("white_wool"), 0)
        pictures.append(Renderer(grid).frame(View(eye=(8.0, 2.6, 8.0), pitch=10.0)))
    (rgb, ids, depth), (blue, wet_ids, wet_depth) = pictures
    floor = ids == block_id("white_wool")
    assert floor.sum() > 50_000
    assert blue[floor].mean(axis=0)[2] > 1.3 * blue[floor].mean(axis=0)[0]
    assert np.array_equal(wet_ids[300:], ids[300:]) and np.array_equal(wet_depth[300:], depth[300:])


def test_a_crack_darkens_its_block_and_keeps_its_id() -> None:
    draw = np.random.default_rng(15)
    grid = random_scene(draw, trees=0)
    view = View(eye=(0.5, GROUND_Y + 2.62, 0.5), yaw=0.0, pitch=60.0)
    renderer = Renderer(grid)
    rgb, ids, depth = renderer.frame(view)
    middle = (180, 320)
    reach = depth[middle]
    at = (view.eye[0], view.eye[1] - reach * np.sin(np.deg2rad(60)), view.eye[2] + reach * np.cos(np.deg2rad(60)))
    cell = tuple(int(np.floor(c - (1e-3 if k == 1 else 0))) for k, c in enumerate(at))
    view.crack = (*cell, 9)
    cracked, cracked_ids, cracked_depth = renderer.frame(view)
    assert (cracked != rgb).any(axis=-1).sum() > 100
    assert np.array_equal(ids, cracked_ids) and np.array_equal(depth, cracked_depth)
    marks = []
    for stage in range(10):
        view.crack = (*cell, stage)
        marks.append(int((renderer.frame(view)[0] != rgb).any(axis=-1).sum()))
    assert marks == sorted(marks) and marks[0] < marks[-1]


def test_the_outline_follows_the_edges_of_its_block_only() -> None:
    grid = random_scene(np.random.default_rng(17), trees=0, size=16)
    grid.voxels[5:] = 0
    grid.voxels[:5] = block_id("grass_block")
    for x, y, z in ((0, GROUND_Y + 1, -4), (0, GROUND_Y + 1, -3)):
        grid.set(x - 16, y, z, block_id("white_wool"))
    grid.dirty[...] = True
    view = View(eye=(-15.5, GROUND_Y + 2.62, -6.5), pitch=20.0)
    renderer = Renderer(grid)
    plain = tuple(part.copy() for part in renderer.frame(view))
    view.target = (-16, GROUND_Y + 1, -4)
    marked = renderer.frame(view)
    assert np.array_equal(plain[1], marked[1]) and np.array_equal(plain[2], marked[2])
    rows, columns = np.nonzero((plain[0] != marked[0]).any(axis=-1))
    assert 300 < len(rows) < 3000
    assert (plain[0].astype(int) >= marked[0]).all()
    ids = plain[1] == block_id("white_wool")
    wool = np.nonzero(ids)
    assert rows.min() >= wool[0].min() - 2 and rows.max() <= wool[0].max() + 2
    assert columns.min() >= wool[1].min() - 2 and columns.max() <= wool[1].max() + 2
    view.target = (-16, GROUND_Y + 1, -2)  # wholly behind the other two
    hidden = (renderer.frame(view)[0] != plain[0]).any(axis=-1)
    assert not (hidden & ids)[rows.min() + 4 :].any()


def test_every_texture_of_the_table_is_painted() -> None:
    for block in catalogue().blocks.values():
        if block.shape != "none":
            for face in ("top", "bottom", "side", "front"):
                assert texture(block.face_texture(face)).shape == (16, 16, 4)  # type: ignore[arg-type]
    for name in catalogue().items:
        assert item_sprite(name)[..., 3].any()
    assert set(catalogue().biomes) <= set(BIOMES)
    for biome in BIOMES:
        assert block_layers(biome).texels.dtype == np.uint32
    assert [item_index(n) for n in item_names()] == list(range(len(item_names())))


@pytest.mark.parametrize(
    "bad", [dict(width=0), dict(column_stride=0), dict(column_stride=5, column_offset=5), dict(fov=0.0)]
)
def test_sizes_that_make_no_picture_are_refused(bad: dict[str, int]) -> None:
    grid = Grid(np.zeros((4, 16, 16), dtype=np.uint8), (0, 0, 0), 1, 0)
    with pytest.raises(WorldError, match="expected"):
        Renderer(grid, **bad)  # type: ignore[arg-type]


def test_arrays_and_views_that_do_not_fit_are_refused() -> None:
    draw = np.random.default_rng(16)
    grid = random_scene(draw, trees=0)
    renderer = Renderer(grid, width=64, height=36)
    view = random_view(grid, draw)
    for bad in (
        np.empty((36, 63, 3), np.uint8),
        np.empty((36, 64, 3), np.int16),
        np.empty((36, 128, 3), np.uint8)[:, ::2],
    ):
        with pytest.raises(WorldError, match="expected a writeable"):
            renderer.frame(view, rgb=bad)
    with pytest.raises(WorldError, match="rain"):
        renderer.frame(View(eye=view.eye, weather="rian"))
    for _ in range(2):
        with pytest.raises(WorldError, match='unknown biome "plain"'):
            renderer.frame(View(eye=view.eye, biome="plain"))
    view.entities[0, 0] = 77
    with pytest.raises(WorldError, match="entity kind 77"):
        renderer.frame(view)


def test_warm_up_leaves_everything_compiled() -> None:
    warm_up()
    assert is_compiled()
