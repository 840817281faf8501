"""The embedded world as a ``World``: the rules of ``simulation.py`` seen through the renderer."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import ScenarioError, WorldError
from harness.scenario.compile import compile_scenario
from harness.scenario.schema import Scenario
from harness.scenario.setup import Fill, WorldSetup
from harness.world.action import noop_action
from harness.world.blockworld.commands import run_command
from harness.world.blockworld.compiling import is_cached
from harness.world.blockworld.grid import Grid
from harness.world.blockworld.models import part_names
from harness.world.blockworld.render import Renderer, is_compiled, warm_up
from harness.world.blockworld.resource_pack import announce_missing, open_resource_pack
from harness.world.blockworld.rules import tick
from harness.world.blockworld.simulation import Simulation, compile_rules, segment_names
from harness.world.blockworld.snapshot import freeze, read_header, thaw
from harness.world.blockworld.state import ACTION_KEYS, FIRST_ENTITY
from harness.world.observation import WorldState, observation_space
from harness.world.world import Capabilities, World

__all__ = ["AGENT_COLUMNS", "BlockWorld"]

AGENT_COLUMNS = (5, 2)
"""Every fifth column from the third: all that a bilinear resize from 640 to 128 columns reads, each with weight one."""

_PATIENCE = 3.0  # seconds after which a start that should have been quick is explained
_HELPER_TIMEOUT = 120.0  # seconds


class BlockWorld(World):
    """A Minecraft-like world in this process, at 20 ticks a second, drawn on the CPU.

    Args:
        scenario: What to build, how long to play, what to measure.
        render_mode: "rgb_array".
        size: Width and height of the picture, in pixels.
        agent_input: Draw only those 128 columns of the 640 that an agent's resize to 128 x 128 reads: ``pov`` is then
            uint8 [360, 128, 3], and resized to 128 x 128 it is bit for bit what the full picture gives.
        resource_pack: A Minecraft resource pack of the user's, a zip file or a folder, whose pictures blocks, creatures
            and items wear; what it lacks is drawn as without it.

    Raises:
        WorldError: for a size that makes no picture, ``agent_input`` with another size than 640 x 360, or a resource
            pack that cannot be read.
    """

    capabilities = Capabilities(
        backend="blockworld", commands=True, snapshots=True, segmentation=True, depth=True, entities=True,
        deterministic=True, parts=True, without=True)

    def __init__(self, scenario: Scenario, *, render_mode: str | None = "rgb_array", size: tuple[int, int] = (640, 360),
                 agent_input: bool = False, resource_pack: str | os.PathLike[str] | None = None) -> None:
        super().__init__(scenario, render_mode=render_mode)
        width, height = _checked_size(size)
        if agent_input and (width, height) != (640, 360):
            raise WorldError(f"agent_input draws columns of a 640 x 360 picture, not of {width} x {height}",
                             hint="leave size or agent_input out")
        self._pack = None if resource_pack is None else open_resource_pack(os.fspath(resource_pack))
        if self._pack is not None:
            announce_missing(self._pack)
        self._optics: dict[str, Any] = {"width": width, "height": height, "pack": self._pack}
        if agent_input:
            self._optics |= {"column_stride": AGENT_COLUMNS[0], "column_offset": AGENT_COLUMNS[1]}
        columns = len(range(AGENT_COLUMNS[1], width, AGENT_COLUMNS[0])) if agent_input else width
        self._shape = (height, columns, 3)
        self.capabilities = dataclasses.replace(self.capabilities, narrow=agent_input, picture=(height, columns))
        self.observation_space = observation_space(self._shape)
        self._segmentation = np.zeros(self._shape[:2], dtype=np.int16)
        self._depth = np.zeros(self._shape[:2], dtype=np.float32)
        self._simulation: Simulation | None = None
        self._renderer: Renderer | None = None
        self._renderer_grid: Grid | None = None
        self._bare: tuple[Grid, Renderer] | None = None  # of the last picture without something
        self._drawn = False      # whether segmentation and depth are those of this moment
        self._state: WorldState | None = None
        self._built: tuple[int, str] = (0, "")

    def options(self) -> Mapping[str, Any]:
        """The resource pack, where there is one: its path, and the digest of what was read of it."""
        if self._pack is None:
            return {}
        return {"resource_pack": {"path": str(self._pack.path), "sha256": self._pack.digest}}

    # ---- the contract of World

    def _reset(self, setup: WorldSetup, seed: int) -> None:
        with _explained():
            simulation = Simulation(setup, seed)
            if self._simulation is not None:
                simulation.adopt(self._simulation.grid)
            self._simulation = simulation
            self._built = seed, _digest(setup)
            still = noop_action()
            for _ in range(setup.settle_steps):
                simulation.tick(still)
            self._changed()
            self._draw(np.empty(self._shape, dtype=np.uint8))

    def _tick(self, action: dict[str, Any]) -> None:
        self._running().tick(action)
        self._changed()

    def play_row(self, row: Any, picture: npt.NDArray[np.uint8]
                 ) -> tuple[bool, bool, dict[str, Any], Callable[[], None]]:
        """``step`` for many worlds at once: one row of ``ACTION`` in, the picture into a given array.

        Returns:
            terminated, truncated, info, and what draws the picture, to be called before the next step.
        """
        self._running().advance(row)
        self._changed()
        held = [key for key in ACTION_KEYS if row[key]] if self._outcomes.counts_keys else ()
        return *self._judge(held), self._prepare(picture)

    def _change(self, fills: Sequence[Fill]) -> None:
        simulation = self._running()
        for fill in fills:
            simulation.fill(fill)
        simulation.look()
        self._changed()

    def _pov(self) -> npt.NDArray[np.uint8]:
        picture = np.empty(self._shape, dtype=np.uint8)
        self._draw(picture)
        return picture

    def world_state(self, *, segmentation: bool = False, depth: bool = False, blocks: bool = False) -> WorldState:
        """The privileged state now.

        Args:
            segmentation: Add the picture's block and entity numbers, int16 [H, W], and ``names`` for them; with them
                ``parts`` of creatures, uint8 [H, W].
            depth: Add the picture's depth, float32 [H, W].
            blocks: Add all stored blocks, uint8 [Y, Z, X].

        Raises:
            WorldError: before the first reset.
        """
        simulation = self._running()
        if self._state is None:
            self._state = simulation.state()
        extra: dict[str, Any] = {}
        if (segmentation or depth) and not self._drawn:
            self._draw(np.empty(self._shape, dtype=np.uint8))
        if segmentation:
            assert self._renderer is not None
            extra |= {"segmentation": self._segmentation.copy(), "names": segment_names(simulation),
                      "parts": self._renderer.parts(self._segmentation), "part_names": part_names()}
        if depth:
            extra["depth"] = self._depth.copy()
        if blocks:
            x, y, z = (int(v) for v in simulation.grid.origin)
            extra |= {"blocks": simulation.grid.voxels.copy(), "blocks_origin": (x, y, z)}
        return dataclasses.replace(self._state, **extra) if extra else self._state

    def picture_without(self, numbers: Collection[int]) -> npt.NDArray[np.uint8]:
        """The picture of this moment in a world without some blocks and creatures; see ``World.picture_without``.

        Raises:
            WorldError: before the first reset, or for numbers that are neither a block's nor a creature's.
        """
        for number in numbers:
            if not (0 < number < 256 or number >= FIRST_ENTITY):
                raise WorldError(f"expected numbers of blocks (1 to 255) or of creatures ({FIRST_ENTITY} on), "
                                 f"got {number}")
        bare = self._running().without(numbers, self._bare[0] if self._bare else None)
        if self._bare is None or self._bare[0] is not bare.grid:
            self._bare = bare.grid, Renderer(bare.grid, **self._optics)
        view = bare.view()
        if view.crack is not None and not bare.grid.get(*view.crack[:3]):
            view.crack = None
        return self._bare[1].frame(view)[0]

    def _brief(self) -> WorldState:
        return self._state or self._running().state(entities=())

    def command(self, text: str) -> None:
        """Run one slash command, between two ticks; ``harness scenario show X --as commands`` prints examples.

        Raises:
            WorldError: before the first reset, or when the command is wrong; nothing has changed then.
        """
        run_command(self._running(), text)
        self._changed()

    def snapshot(self) -> bytes:
        """Everything that decides the future: blocks, bodies, timers, counters, random streams, outcomes."""
        seed, digest = self._built
        return freeze(self._running(), {
            "scenario": self.scenario.name, "seed": seed, "setup": digest, "steps": self._steps,
            "outcomes": self._outcomes.save(), "np_random": self.np_random.bit_generator.state,
        })

    def restore(self, snapshot: bytes) -> None:
        """Go back to a snapshot of the same scenario, also one taken by another process.

        Raises:
            WorldError: for bytes that are no snapshot, that are damaged, or that belong to another scenario.
        """
        try:
            self._restore(snapshot)
        except (AttributeError, IndexError, KeyError, OverflowError, StopIteration, TypeError, ValueError,
                struct.error, zlib.error, ScenarioError) as problem:
            raise WorldError(f"this is not a snapshot that blockworld can restore: {type(problem).__name__}: {problem}",
                             hint="the file was changed, or made by another version") from problem

    def _restore(self, snapshot: bytes) -> None:
        header = read_header(snapshot)
        seed = int(header["seed"])
        if self.setup is None or self._built != (seed, header["setup"]):
            setup = compile_scenario(self.scenario, seed=seed)
            if _digest(setup) != header["setup"]:
                raise WorldError(
                    f'the snapshot belongs to another world: scenario "{header["scenario"]}", not '
                    f'"{self.scenario.name}" with these parameters',
                    hint="make the world from the scenario that the snapshot was taken in")
            self.setup, self._built = setup, (seed, header["setup"])
        with _explained():
            if self._simulation is None:
                self._simulation = Simulation(self.setup, seed)
            thaw(self._simulation, snapshot)
            self._steps = int(header["steps"])
            self._outcomes.load(header["outcomes"])
            self.np_random.bit_generator.state = header["np_random"]
            self._changed()
            self.world_state()  # reads every name and label, while a wrong one can still be refused

    def close(self) -> None:
        """Let go of the blocks and the renderer; closing twice is fine."""
        self.setup = self._simulation = self._renderer = self._state = self._bare = None

    # ---- the picture

    def _running(self) -> Simulation:
        if self._simulation is None:
            raise WorldError("there is no world yet", hint="call world.reset(seed=...) first")
        return self._simulation

    def _changed(self) -> None:
        self._drawn, self._state = False, None

    def _draw(self, picture: npt.NDArray[np.uint8]) -> None:
        """Draw this moment, with segmentation and depth from the same pass. Looking changes nothing."""
        self._prepare(picture)()

    def _prepare(self, picture: npt.NDArray[np.uint8]) -> Callable[[], None]:
        simulation = self._running()
        if self._renderer is None or self._renderer_grid is not simulation.grid:
            self._renderer, self._renderer_grid = Renderer(simulation.grid, **self._optics), simulation.grid
        self._drawn = True
        return self._renderer.prepare(simulation.view(), picture, self._segmentation, self._depth)


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    numbers = tuple(size) if isinstance(size, tuple | list) else ()
    if len(numbers) != 2 or not all(isinstance(n, int) and 16 <= n <= 4096 for n in numbers):
        raise WorldError(f"size: expected (width, height) from 16 to 4096 pixels, got {size!r}")
    return numbers[0], numbers[1]


def _digest(setup: WorldSetup) -> str:
    events = repr(setup.events) if setup.events else ""
    return hashlib.sha256((repr(setup) + events).encode()).hexdigest()[:16]


@contextmanager
def _explained() -> Iterator[None]:
    """Say on stderr what takes so long, where kernels must be compiled first, and use two processors for it."""
    if tick.signatures and is_compiled():
        yield
        return
    cold = not (is_cached(tick) and is_compiled())
    with _interrupt_later(), _timed(cold):
        if cold:
            _compile()
        yield


@contextmanager
def _interrupt_later() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends: numba, interrupted while it loads or compiles, loses it in a callback."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
    if pressed:
        raise KeyboardInterrupt


@contextmanager
def _timed(cold: bool) -> Iterator[None]:
    timer = threading.Timer(0.0 if cold else _PATIENCE, _say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say() -> None:
    sys.stderr.write("compiling blockworld's rules and renderer, once per machine (up to half a minute) ...\n")
    sys.stderr.flush()


def _compile() -> None:
    """Compile the renderer here while another process compiles the rules; both find the other's work on disk.

    numba compiles one function at a time in a process. Should the other process fail, the rules are compiled here,
    later: it only saves time.
    """
    helper = None
    if not is_cached(tick) and not is_compiled() and (os.cpu_count() or 1) > 1 and sys.executable:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        helper = subprocess.Popen([sys.executable, "-c", f"import {compile_rules.__module__} as m; m.compile_rules()"],
                                  env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
    try:
        warm_up()
    finally:
        if helper is not None:
            try:
                helper.wait(_HELPER_TIMEOUT)
            except subprocess.TimeoutExpired:
                helper.kill()
                helper.wait()
