"""The woodcutter: a scripted teacher that walks to a log and chops it, seeing the world's state.

It is written to be imitated. What it does is, as far as possible, a function of what the picture shows: only trees in
view count, a tree is left alone until it is near, the camera keeps still unless the aim is off by more than a good
part of the trunk's width, and every turn is one of the policy's 11 camera steps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.action_mapping import dequantise, quantise
from harness.agent.agent import Agent, AgentOutput
from harness.errors import AgentError
from harness.scenario.catalogue import catalogue
from harness.world.action import Action, noop_action
from harness.world.observation import LookedAt, Observation, WorldState

__all__ = ["ChopperAgent", "ChopperState", "act", "escape", "hidden", "notice", "search", "turn", "wrapped"]

VIEW = 46.0
"""A trunk further to the side than this (degrees) is out of the picture, whose edge is at 51."""
RANGE = 28.0
"""Farther trunks (blocks) are too small to be seen well."""
NEAR, REACH = 2.2, 2.6
"""Walk until the trunk's middle is ``NEAR`` blocks away; chop from ``REACH`` on."""
EYE = 1.62
LEVEL = 32.0
"""Steeper pitch than this (degrees) is levelled first, unless a trunk is within reach."""
STUCK_TICKS = 5
STUCK_SPEED = 0.03
"""Pressing forward without moving this far (blocks per tick) for ``STUCK_TICKS`` ticks means being stuck."""
ESCAPE_TICKS = 14
SEARCH_TICKS = 44
"""Turning 10 degrees a tick, once around and a little more; then a walk to see more of the world."""
WALK_TICKS = 40


@dataclass(frozen=True)
class ChopperState:
    """What the woodcutter remembers.

    Attributes:
        target: Column (x, z) of the tree it walks to, or None.
        floor: Height of its feet when last on the ground.
        x: Where it stood a tick ago.
        z: Where it stood a tick ago.
        pushing: Whether it pressed forward a tick ago.
        stuck: Ticks of pushing without moving.
        escape: Ticks left of stepping aside.
        side: The side it steps to: 1 right, -1 left.
        searched: Ticks of turning since it last saw a tree.
        chopping: Whether it held attack a tick ago: it goes on until the block is gone.
    """

    target: tuple[int, int] | None = None
    floor: int = 0
    x: float = 0.0
    z: float = 0.0
    pushing: bool = False
    stuck: int = 0
    escape: int = 0
    side: int = 1
    searched: int = 0
    chopping: bool = False


@dataclass(frozen=True)
class _Aim:
    """A log as the eye sees it: cell, horizontal distance (blocks), and how far to turn (degrees)."""

    cell: tuple[int, int, int]
    distance: float
    yaw: float
    pitch: float
    leafy: bool = False

    @property
    def cost(self) -> float:
        """Bearing counts more than distance, so that turning to a tree makes it ever more the choice."""
        return self.distance / 3 + abs(self.yaw) / 5 + 4 * self.leafy


class ChopperAgent(Agent):
    """Walks to the nearest log it can see and chops it. Privileged: it reads ``observation["world_state"]``.

    Args:
        reach_up: How many blocks above its feet a log may lie to be chopped.
    """

    name = "chopper"
    description = "scripted: walks to a log and chops it, sees the world's state"
    privileged = True

    def __init__(self, *, reach_up: int = 1) -> None:
        if isinstance(reach_up, bool) or not isinstance(reach_up, int) or not 0 <= reach_up <= 4:
            raise AgentError(f"reach_up: expected a whole number from 0 to 4, got {reach_up!r}")
        self._reach_up = reach_up

    def initial_state(self) -> ChopperState:
        """No tree chosen yet."""
        return ChopperState()

    def act(self, observation: Observation, state: ChopperState, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        """Choose the next action from the world's state; draws nothing.

        Raises:
            AgentError: when the observation carries no world state with blocks.
        """
        self.resolve_hooks(hooks)
        world = observation.get("world_state")
        if not isinstance(world, WorldState) or world.blocks is None:
            raise AgentError("the chopper needs observation[\"world_state\"] with blocks, and got none",
                             hint="run it with run_episode on a world that reports blocks, such as blockworld")
        state = notice(state, world)
        aim = self._choose(world, state)
        action, state = _decide(world, state, aim)
        x, _, z = world.player.position
        return AgentOutput(action, replace(state, x=x, z=z, pushing=bool(action["forward"]),
                                           chopping=bool(action["attack"])))

    @staticmethod
    def overruled(state: ChopperState, action: Action) -> ChopperState:
        """What it remembers when another action was carried out than the one it chose.

        Without this, a teacher whose advice is not followed would believe that it pushes against something.
        """
        return replace(state, pushing=bool(action["forward"]), chopping=bool(action["attack"]))

    def _choose(self, world: WorldState, state: ChopperState) -> _Aim | None:
        """The log to go for: of the trees in view the cheapest, but the old one unless another is clearly cheaper."""
        aims = [aim for aim in map(functools.partial(_sighted, world),
                                   _logs_in_view(world, state.floor, self._reach_up)) if aim is not None]
        if not aims:
            return None
        best = min(aims, key=lambda aim: (aim.cost, aim.cell))
        old = [aim for aim in aims if (aim.cell[0], aim.cell[2]) == state.target]
        return old[0] if old and old[0].cost < 1.5 * best.cost + 0.5 else best

    def save_state(self, state: ChopperState) -> dict[str, npt.NDArray[Any]]:
        """Every field as a number; no target is NaN."""
        target = (math.nan, math.nan) if state.target is None else state.target
        rest = [float(getattr(state, f.name)) for f in fields(state) if f.name != "target"]
        return {"chopper": np.array([*target, *rest], dtype=np.float64)}

    def load_state(self, arrays: Mapping[str, npt.NDArray[Any]]) -> ChopperState:
        """Back from ``save_state``."""
        values = [float(v) for v in arrays["chopper"]]
        names = [f.name for f in fields(ChopperState) if f.name != "target"]
        kinds = {"x": float, "z": float, "pushing": bool, "chopping": bool}
        rest = {name: kinds.get(name, int)(value) for name, value in zip(names, values[2:], strict=True)}
        target = None if math.isnan(values[0]) else (int(values[0]), int(values[1]))
        return ChopperState(target=target, **rest)  # type: ignore[arg-type]


@functools.cache
def _block_kinds() -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """By block id, bool [256]: logs; leaves; everything else that hides what is behind it."""
    logs, leaves, hiding = np.zeros(256, bool), np.zeros(256, bool), np.zeros(256, bool)
    for block in catalogue().blocks.values():
        logs[block.id] = block.name.endswith("_log")
        leaves[block.id] = block.name.endswith("_leaves")
        hiding[block.id] = block.shape == "opaque"
    return logs, leaves, hiding


def notice(state: ChopperState, world: WorldState) -> ChopperState:
    """Update the floor and count ticks of walking against something."""
    x, y, z = world.player.position
    floor = math.floor(y + 0.01) if world.player.on_ground else state.floor or math.floor(y + 0.01)
    moved = math.hypot(x - state.x, z - state.z)
    stuck = state.stuck + 1 if state.pushing and moved < STUCK_SPEED else 0
    return replace(state, floor=floor, stuck=stuck, escape=max(0, state.escape - 1))


def wrapped(degrees: float) -> float:
    """The same direction between -180 and 180."""
    return (degrees + 180.0) % 360.0 - 180.0


def _aim_at(world: WorldState, cell: tuple[int, int, int]) -> _Aim:
    px, py, pz = world.player.position
    dx, dy, dz = cell[0] + 0.5 - px, cell[1] + 0.5 - (py + EYE), cell[2] + 0.5 - pz
    distance = math.hypot(dx, dz)
    yaw = wrapped(math.degrees(math.atan2(-dx, dz)) - world.player.yaw)
    pitch = -math.degrees(math.atan2(dy, max(distance, 1e-6))) - world.player.pitch
    return _Aim(cell, distance, yaw, pitch)


def _logs_in_view(world: WorldState, floor: int, reach_up: int) -> list[_Aim]:
    """For each column within view the log nearest to eye height, between the feet and ``reach_up`` above them."""
    blocks, (ox, oy, oz) = world.blocks, world.blocks_origin
    assert blocks is not None
    best: dict[tuple[int, int], _Aim] = {}
    logs = _block_kinds()[0]
    # Eye height first, then the feet, then what lies above.
    for y in sorted(range(floor, floor + reach_up + 1), key=lambda level: abs(level - floor - 1)):
        if not 0 <= y - oy < blocks.shape[0]:
            continue
        for z, x in np.argwhere(logs[blocks[y - oy]]):
            column = (int(x) + ox, int(z) + oz)
            if column not in best:
                best[column] = _aim_at(world, (column[0], y, column[1]))
    return [aim for aim in best.values() if aim.distance <= RANGE and abs(aim.yaw) <= VIEW]


def _sighted(world: WorldState, aim: _Aim) -> _Aim | None:
    """The aim, marked when leaves hang before it; None when something opaque stands before it."""
    x, y, z = aim.cell
    between = _between(world, (x + 0.5, y + 0.5, z + 0.5), aim.cell)
    _, leaves, hiding = _block_kinds()
    return None if hiding[between].any() else replace(aim, leafy=bool(leaves[between].any()))


def hidden(world: WorldState, point: tuple[float, float, float]) -> bool:
    """Whether a block, leaves included, stands between the eye and a point."""
    between = _between(world, point)
    _, leaves, hiding = _block_kinds()
    return bool((hiding | leaves)[between].any())


def _between(world: WorldState, point: tuple[float, float, float], besides: tuple[int, int, int] | None = None
             ) -> npt.NDArray[np.uint8]:
    """The blocks along the line from the eye to a point, but for one cell."""
    blocks, origin = world.blocks, np.array(world.blocks_origin)
    assert blocks is not None
    px, py, pz = world.player.position
    eye, middle = np.array([px, py + EYE, pz]), np.array(point)
    n = max(2, int(np.linalg.norm(middle - eye) * 4))
    cells = np.floor(eye + (middle - eye) * np.linspace(0, 1, n)[:, None]).astype(np.int64)
    if besides is not None:
        cells = cells[(cells != np.array(besides)).any(axis=1)]
    x, y, z = (cells - origin).T
    ny, nz, nx = blocks.shape
    inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny) & (z >= 0) & (z < nz)
    found: npt.NDArray[np.uint8] = blocks[y[inside], z[inside], x[inside]]
    return found


def turn(error: float, dead_band: float) -> float:
    """One camera step towards an error in degrees; none within the dead band."""
    return 0.0 if abs(error) < dead_band else float(dequantise(quantise(error)))


def act(*keys: str, pitch: float = 0.0, yaw: float = 0.0) -> Action:
    """These keys, and a turn in degrees."""
    action = noop_action()
    for key in keys:
        action[key] = 1
    action["camera"] = np.array([pitch, yaw], dtype=np.float32)
    return action


def _at(looked: LookedAt | None, ending: str, reach: float) -> bool:
    """Whether the crosshair is on such a block within ``reach`` blocks of the eye."""
    return looked is not None and looked.kind == "block" and looked.name.endswith(ending) and looked.reachable \
        and looked.distance <= reach


def _decide(world: WorldState, state: ChopperState, aim: _Aim | None) -> tuple[Action, ChopperState]:
    looked = world.looking_at
    # A log under the crosshair and near enough is chopped, whichever it is, and the camera keeps still.
    held = state.chopping or state.stuck >= STUCK_TICKS
    if _at(looked, "_log", REACH + 0.4) or (held and _at(looked, "_log", 9.0)):
        return act("attack"), replace(state, searched=0, escape=0)
    near = aim is not None and aim.distance <= REACH + 0.5
    if abs(world.player.pitch) > LEVEL and not near:
        return act(pitch=turn(-world.player.pitch, 1.2)), state
    if aim is None:
        return search(world, replace(state, target=None))
    state = replace(state, target=(aim.cell[0], aim.cell[2]), searched=0)
    if abs(aim.yaw) < 12.0 and _at(looked, "_leaves", 2.0):
        return act("attack"), state
    if state.escape or state.stuck >= STUCK_TICKS:
        return escape(state, aim.yaw)
    return _approach(aim), state


def _approach(aim: _Aim) -> Action:
    """Turn towards the log, and walk when roughly facing it."""
    half_width = math.degrees(math.atan2(0.5, max(aim.distance, 0.5)))
    dead_band = max(1.2, 0.45 * half_width)
    correction = {"pitch": turn(aim.pitch, dead_band), "yaw": turn(aim.yaw, dead_band)}
    walks = aim.distance > NEAR and abs(aim.yaw) < 30.0
    return act(*(("forward",) if walks else ()), **correction)


def search(world: WorldState, state: ChopperState) -> tuple[Action, ChopperState]:
    """Nothing in view: level the view and turn right; after a full turn walk on a little, then turn again."""
    state = replace(state, searched=state.searched + 1)
    phase = state.searched % (SEARCH_TICKS + WALK_TICKS)
    if 0 < phase <= SEARCH_TICKS:
        return act(pitch=turn(-world.player.pitch, 1.2), yaw=10.0), state
    keys = ("forward", "jump") if state.stuck >= STUCK_TICKS else ("forward",)
    return act(*keys), state


def escape(state: ChopperState, yaw: float) -> tuple[Action, ChopperState]:
    """Something is in the way: hop over it, else step aside, each time to the other side."""
    if not state.escape:
        state = replace(state, escape=ESCAPE_TICKS, side=-state.side)
    if state.escape > ESCAPE_TICKS // 2:
        return act("forward", "jump", yaw=turn(yaw, 6.0)), state
    return act("forward", "right" if state.side > 0 else "left"), replace(state, stuck=0)
