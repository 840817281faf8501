"""The renderer: one view of a grid as colour, segmentation and depth."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import WorldError, unknown_name
from harness.scenario.catalogue import catalogue
from harness.world.blockworld.compiling import is_cached
from harness.world.blockworld.grid import Grid
from harness.world.blockworld.hud import hud_pixels
from harness.world.blockworld.mesh import FACE_AXES, KERNELS, WorldMesh, world_mesh
from harness.world.blockworld.models import ITEM_KIND, Models, models
from harness.world.blockworld.parts import find_parts
from harness.world.blockworld.raster import CAMERA, DYNAMIC, RECORD, draw
from harness.world.blockworld.resource_pack import ResourcePack
from harness.world.blockworld.sky import SKY_PARAMETERS, clouds, sine_table
from harness.world.blockworld.textures import MIPS, BlockLayers, block_layers, item_index
from harness.world.blockworld.view import E_COLOUR, E_KIND, E_VARIANT, View

__all__ = ["Renderer", "is_compiled", "warm_up"]

U8 = npt.NDArray[np.uint8]
I16 = npt.NDArray[np.int16]
F32 = npt.NDArray[np.float32]

_PLANE_SHADE = np.array(
    [154, 154, 128, 256, 205, 205], dtype=np.int32
)  # W E bottom top N S: the game's .6 .6 .5 1 .8 .8
_SHADOWS = np.zeros(ITEM_KIND + 1)  # radius of the shadow by creature id
_SHADOWS[[1, 2, 3, 4, 5, ITEM_KIND]] = 0.5, 0.7, 0.7, 0.7, 0.5, 0.15
_RAIN = {"clear": 0.0, "rain": 1.0, "thunder": 1.4}
_BUCKETS = 2048
_CLOUDS_ABOVE_GROUND = 64.0


def _output(name: str, given: Any, shape: tuple[int, ...], dtype: type[np.generic]) -> Any:
    """The caller's array, checked (the kernel checks nothing), or a fresh one."""
    if given is None:
        return np.empty(shape, dtype=dtype)
    if given.shape != shape or given.dtype != dtype or not given.flags.c_contiguous or not given.flags.writeable:
        raise WorldError(
            f"{name} array {given.dtype} {list(given.shape)}: "
            f"expected a writeable, contiguous {np.dtype(dtype)} {list(shape)}"
        )
    return given


class _Shared:
    """Tables that no picture changes: made once per process."""

    def __init__(self) -> None:
        self.sines = sine_table()
        self.clouds = clouds()


_shared: list[_Shared] = []


def _tables() -> _Shared:
    if not _shared:
        _shared.append(_Shared())
    return _shared[0]


class Renderer:
    """Draws views of one grid.

    Args:
        grid: What to draw; chunks marked in ``grid.dirty`` are meshed again before a picture.
        width: Columns of the full picture.
        height: Rows.
        fov: Vertical field of view in degrees.
        column_stride: Draw only every so many columns ...
        column_offset: ... from this one on; these are bit for bit the columns of the full picture.
        pack: Whose pictures blocks, creatures and items wear, else the built-in ones.

    Raises:
        WorldError: for sizes that make no picture.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        width: int = 640,
        height: int = 360,
        fov: float = 70.0,
        column_stride: int = 1,
        column_offset: int = 0,
        pack: ResourcePack | None = None,
    ) -> None:
        if width < 1 or height < 1 or column_stride < 1 or not 0 <= column_offset < min(column_stride, width):
            raise WorldError(
                f"picture of {width} x {height}, every {column_stride}. column from {column_offset}: expected sizes of "
                "at least 1 and an offset within the stride"
            )
        if not 1.0 <= fov < 170.0:
            raise WorldError(f"field of view of {fov} degrees: expected 1 to 170")
        self._grid, self._pack = grid, pack
        self._width, self._height, self._stride, self._offset = width, height, column_stride, column_offset
        self._columns = np.arange(column_offset, width, column_stride).astype(np.float32)
        self.columns = len(self._columns)
        starts = (np.arange(width + 1) - column_offset + column_stride - 1) // column_stride
        self._column_of = np.clip(starts, 0, self.columns).astype(np.int64)
        self._near = np.zeros((height, self.columns), dtype=np.float32)
        self._seen = np.zeros((height, self.columns), dtype=np.int32)
        self._left, self._right = np.zeros(height), np.zeros(height)
        self._camera = np.zeros(CAMERA)
        self._numbers = np.zeros(11)
        self._numbers[2:5] = fov, width, height
        self._numbers[10] = catalogue().blocks["water"].id
        self._eye = np.zeros(3)
        self._sky = np.zeros(SKY_PARAMETERS, dtype=np.float32)
        self._light_rg, self._light_b = np.zeros(256, dtype=np.int32), np.zeros(256, dtype=np.int32)
        self._buckets = np.zeros(_BUCKETS + 1, dtype=np.int64)
        self._crack = np.full(4, -1, dtype=np.int64)
        self._target = np.zeros(4, dtype=np.int64)
        self._hand = np.zeros(2, dtype=np.int64)
        self._capacity = 0
        self._faces = 0
        self._biome = ""
        self._texels_version = -1
        self._hud_key: tuple[Any, ...] = ()
        self._hud: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]] = (
            np.zeros(0, dtype=np.int32),
            np.zeros((0, 4), dtype=np.int32),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the picture."""
        return self._height, self.columns

    def frame(
        self, view: View, *, rgb: U8 | None = None, segmentation: I16 | None = None, depth: F32 | None = None
    ) -> tuple[U8, I16, F32]:
        """Draw a view.

        Args:
            view: The moment to draw.
            rgb: uint8 [H, W, 3] to write into, else a fresh array.
            segmentation: int16 [H, W]: 0 sky, 1..255 block ids, 999 the own hand, from 1000 creatures.
            depth: float32 [H, W]: blocks along the view axis; SKY_DEPTH for sky.

        Returns:
            The three arrays.
        """
        rgb = _output("rgb", rgb, (*self.shape, 3), np.uint8)
        segmentation = _output("segmentation", segmentation, self.shape, np.int16)
        depth = _output("depth", depth, self.shape, np.float32)
        self.prepare(view, rgb, segmentation, depth)()
        return rgb, segmentation, depth

    def prepare(self, view: View, rgb: U8, segmentation: I16, depth: F32) -> Callable[[], None]:
        """Everything of ``frame`` that needs the interpreter; calling the result draws, without its lock.

        The result must be called before the next view is prepared or the grid is changed.
        """
        mesh = world_mesh(self._grid)
        if view.biome != self._biome:
            self._choose_biome(view.biome)
        numbers = self._entity_models(view.entities)
        self._choose_hand(view)
        version = self._models.version  # read before the texels: another thread may be adding a model
        if version != self._texels_version:
            skins = self._models.texels
            self._texels = np.concatenate([part for level in self._layers.levels for part in (level, skins)])
            self._texels_version = version
        self._reserve(mesh, len(numbers))
        self._choose_hud(view)
        entities = np.ascontiguousarray(view.entities, dtype=np.float64)
        self._eye[:] = view.eye
        n = self._numbers
        n[0], n[1] = view.yaw, view.pitch
        n[5], n[6], n[7], n[8] = view.time, self._rain(view.weather), view.swing, view.bob
        n[9] = self._grid.ground_y + _CLOUDS_ABOVE_GROUND - view.eye[1]
        if view.crack is None:
            self._crack[3] = -1
        else:
            self._crack[:] = view.crack
        if view.target is None:
            self._target[3] = 0
        else:
            self._target[:3], self._target[3] = view.target, 1
        shared, layers, made = _tables(), self._layers, self._models
        return functools.partial(
            draw,
            shared.sines,
            n,
            self._eye,
            self._camera,
            mesh.quads,
            mesh.groups,
            mesh.lights,
            mesh.light,
            mesh.cells,
            mesh.origin,
            FACE_AXES,
            layers.info,
            layers.layer_of,
            layers.cracks,
            self._texels,
            len(layers.texels),
            made.parts,
            made.part_faces,
            made.table,
            made.scales,
            entities,
            numbers,
            self._hand,
            self._crack,
            self._target,
            _SHADOWS,
            shared.clouds,
            _PLANE_SHADE,
            self._columns,
            self._column_of,
            *self._hud,
            self._keys,
            self._picks,
            self._order,
            self._buckets,
            self._coeffs,
            self._records,
            self._dyn,
            self._meta,
            self._left,
            self._right,
            self._near,
            self._seen,
            self._light_rg,
            self._light_b,
            self._sky,
            rgb,
            segmentation,
            depth,
            0,
            self._height,
        )

    def parts(self, segmentation: I16, parts: U8 | None = None) -> U8:
        """Which part of a creature each pixel of the picture drawn last shows.

        Args:
            segmentation: Of that picture.
            parts: uint8 [H, W] to write into, else a fresh array.

        Returns:
            uint8 [H, W]: 0 none, numbers of ``part_names``, ``HUD_PART`` under the heads-up display.
        """
        parts = _output("parts", parts, self.shape, np.uint8)
        find_parts(self._coeffs, self._records, self._columns, self._near, self._seen, segmentation,
                   self._models.texel_parts, len(self._layers.texels), self._hud[0], parts)
        return parts

    @staticmethod
    def _rain(weather: str) -> float:
        if weather not in _RAIN:
            raise unknown_name("weather", weather, _RAIN, error=WorldError)
        return _RAIN[weather]

    def _choose_biome(self, biome: str) -> None:
        self._layers: BlockLayers = block_layers(biome, self._pack)
        self._biome = biome
        self._models: Models = models(biome, self._pack)
        self._texels_version = -1

    def _entity_models(self, entities: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        known = self._models.number
        rows = entities[:, (E_KIND, E_VARIANT, E_COLOUR)].tolist() if len(entities) else []
        return np.array([known(int(k), int(v), int(c)) for k, v, c in rows], dtype=np.int64)

    def _choose_hand(self, view: View) -> None:
        if view.gui:
            self._hand[:] = 0, -1
        elif not view.held:
            self._hand[:] = self._models.hand, 0
        else:
            name = catalogue().item(view.held).name
            self._hand[0] = self._models.number(ITEM_KIND, item_index(name), 0)
            self._hand[1] = 1 if name in catalogue().blocks else 2

    def _choose_hud(self, view: View) -> None:
        key = (view.hotbar, view.selected, math.ceil(view.health), view.gui, view.biome)
        if key != self._hud_key:
            self._hud = hud_pixels(
                view.hotbar,
                view.selected,
                math.ceil(view.health),
                view.gui,
                view.biome,
                self._width,
                self._height,
                self._stride,
                self._offset,
                self._pack,
            )
            self._hud_key = key

    def _reserve(self, mesh: WorldMesh, n_entities: int) -> None:
        """Make the work arrays large enough for everything that could be drawn: the kernel checks no bounds."""
        boxes = (n_entities + 1) * self._models.most_boxes + 1 + n_entities  # and the hand, a crack, shadows
        if 6 * boxes > self._faces:
            self._faces = 12 * boxes + 64
            self._dyn = np.zeros((self._faces, DYNAMIC))
            self._meta = np.zeros((self._faces, RECORD), dtype=np.int32)
        needed = len(mesh.quads) + 6 * boxes
        if needed > self._capacity:
            self._capacity = needed + needed // 2 + 256
            self._keys = np.zeros(self._capacity, dtype=np.int64)
            self._picks = np.zeros(self._capacity, dtype=np.int64)
            self._order = np.zeros(self._capacity, dtype=np.int64)
            self._coeffs = np.zeros((self._capacity, 9 + MIPS - 1), dtype=np.float32)
            self._records = np.zeros((self._capacity, RECORD), dtype=np.int32)


def is_compiled() -> bool:
    """Whether everything that a picture needs is compiled: ready in this process or kept on disk."""
    return all(is_cached(kernel) for kernel in (draw, find_parts, *KERNELS))


def warm_up() -> None:
    """Compile (or load from the cache) everything that a picture needs."""
    voxels = np.zeros((4, 16, 16), dtype=np.uint8)
    voxels[0] = 1
    renderer = Renderer(Grid(voxels, (0, 0, 0), 1, 0), width=32, height=32)
    renderer.parts(renderer.frame(View(eye=(8.0, 2.6, 8.0)))[1])
