"""Many block worlds in one process, on threads: rules and renderer run without the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from harness.errors import WorldError, unknown_name
from harness.scenario.load import load_scenario
from harness.scenario.schema import Scenario
from harness.world.action import BUTTONS, HOTBAR_KEYS, KEYS, check_action
from harness.world.blockworld.state import ACTION, ACTION_KEYS
from harness.world.blockworld.world import BlockWorld

__all__ = ["BlockWorldVector", "make_registered"]

Pictures = dict[str, npt.NDArray[np.uint8]]
Flags = npt.NDArray[np.bool_]


class BlockWorldVector(VectorEnv[Pictures, Any, Any]):
    """N worlds of one scenario, stepped together.

    Every world is a ``BlockWorld`` with a seed and random streams of its own; what comes out does not depend on the
    number of threads, and equals N single worlds step by step.

    Args:
        scenario: What each world runs.
        num_envs: How many.
        size: Width and height of the pictures.
        agent_input: See ``BlockWorld``.
        threads: Workers; each has a fixed share of the worlds.
        autoreset_mode: ``NEXT_STEP`` (Gymnasium's default: the step after the last one resets, whatever the action),
            ``SAME_STEP`` (the last observation and info are in ``infos["final_obs"]`` and ``infos["final_info"]``) or
            ``DISABLED`` (a finished world must be reset with ``options={"reset_mask": ...}``).
        copy: Give fresh arrays each time; False hands out the same array again and again.
        render_mode: "rgb_array".

    Raises:
        WorldError: for fewer than one world or thread.
    """

    def __init__(self, scenario: Scenario, num_envs: int = 8, *, size: tuple[int, int] = (640, 360),
                 agent_input: bool = False, threads: int = 2,
                 autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP, copy: bool = True,
                 render_mode: str | None = "rgb_array") -> None:
        if num_envs < 1 or threads < 1:
            raise WorldError(f"expected at least one world and one thread, got {num_envs} and {threads}")
        self.worlds = [BlockWorld(scenario, render_mode=render_mode, size=size, agent_input=agent_input)
                       for _ in range(num_envs)]
        self.num_envs, self.copy, self.render_mode = num_envs, copy, render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**BlockWorld.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self.worlds[0].observation_space
        self.single_action_space = self.worlds[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        shape = self.single_observation_space["pov"].shape  # type: ignore[index]
        self._pictures = np.zeros((num_envs, *shape), dtype=np.uint8)
        self._actions = np.zeros(num_envs, ACTION)
        self._over: Flags = np.zeros(num_envs, dtype=np.bool_)
        bounds = np.linspace(0, num_envs, min(threads, num_envs) + 1).astype(int).tolist()
        self._shares = [range(a, b) for a, b in zip(bounds, bounds[1:], strict=False)]
        # The calling thread takes a share, too.
        self._pool = ThreadPoolExecutor(len(self._shares) - 1, "blockworld") if len(self._shares) > 1 else None

    def reset(self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
              ) -> tuple[Pictures, dict[str, Any]]:
        """Start an episode in every world, or in those that ``options["reset_mask"]`` marks.

        Args:
            seed: One number (world i gets ``seed + i``), one per world, or None.
            options: None, or ``{"reset_mask": bool [num_envs]}``.

        Raises:
            WorldError: for seeds or a mask of another length, or an unknown option.
        """
        seeds = [None if seed is None else seed + i for i in range(self.num_envs)] if not isinstance(
            seed, Sequence) else list(seed)
        mask = np.asarray(_only_mask(options, self.num_envs))
        if len(seeds) != self.num_envs:
            raise WorldError(f"expected {self.num_envs} seeds, got {len(seeds)}")
        infos: list[dict[str, Any] | None] = [None] * self.num_envs
        if self.copy:
            self._pictures = self._pictures.copy()  # the last ones are the caller's
        for i in np.flatnonzero(mask).tolist():
            infos[i] = self._reset_one(i, seeds[i])
        self._over[mask] = False
        return {"pov": self._pictures}, _batched(infos)

    def _reset_one(self, i: int, seed: int | None = None) -> dict[str, Any]:
        observation, info = self.worlds[i].reset(seed=seed)
        self._pictures[i] = observation["pov"]
        return info

    def step(self, actions: Mapping[str, Any] | Sequence[Mapping[str, Any]]
             ) -> tuple[Pictures, npt.NDArray[np.float64], Flags, Flags, dict[str, Any]]:
        """Play one tick in every world.

        Args:
            actions: Keys to arrays with one value per world, or one action dictionary per world.

        Raises:
            WorldError: for a wrong action, before the first reset, or (``DISABLED``) for a world that is over.
        """
        if any(world.setup is None for world in self.worlds):
            raise WorldError("step was called before reset", hint="call reset(seed=...) first")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._over.any():
            raise WorldError(f"worlds {np.flatnonzero(self._over).tolist()} are over",
                             hint='reset them with options={"reset_mask": mask}')
        self._read(actions)
        done = np.zeros((2, self.num_envs), dtype=np.bool_)
        infos: list[dict[str, Any] | None] = [None] * self.num_envs
        finals: list[tuple[Pictures, dict[str, Any]] | None] = [None] * self.num_envs

        draws: list[Callable[[], None] | None] = [None] * self.num_envs
        if self.copy:
            self._pictures = np.empty_like(self._pictures)  # every world draws, or is reset
        for i, world in enumerate(self.worlds):
            if self._over[i] and self.autoreset_mode == AutoresetMode.NEXT_STEP:
                infos[i] = self._reset_one(i)
                continue
            terminated, truncated, infos[i], draw = world.play_row(self._actions[i], self._pictures[i])
            done[:, i], draws[i] = (terminated, truncated), draw
            if done[:, i].any() and self.autoreset_mode == AutoresetMode.SAME_STEP:
                draw()
                draws[i] = None
                finals[i] = {"pov": self._pictures[i].copy()}, infos[i] or {}
                infos[i] = self._reset_one(i)
        self._draw(draws)
        self._over = np.zeros_like(self._over)
        if self.autoreset_mode != AutoresetMode.SAME_STEP:
            self._over = np.asarray(done.any(axis=0))
        batched = _batched(infos)
        if any(finals):
            batched |= _column("final_obs", [f[0] if f else None for f in finals])
            batched |= _column("final_info", [f[1] if f else None for f in finals])
        return {"pov": self._pictures}, np.zeros(self.num_envs), done[0], done[1], batched

    def _draw(self, draws: Sequence[Callable[[], None] | None]) -> None:
        """Draw all pictures. Only this is done on threads: it is nearly all of a step, and needs no interpreter."""
        def work(share: range) -> None:
            for i in share:
                draw = draws[i]
                if draw is not None:
                    draw()

        others = [] if self._pool is None else [self._pool.submit(work, share) for share in self._shares[1:]]
        work(self._shares[0])
        for other in others:
            other.result()

    def _read(self, actions: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Fill the action table, all worlds at once."""
        if not isinstance(actions, Mapping):
            full = [check_action(action) for action in actions]
            if len(full) != self.num_envs:
                raise WorldError(f"expected {self.num_envs} actions, got {len(full)}")
            actions = {key: np.array([action[key] for action in full]) for key in KEYS}
        for key in actions:
            if key not in KEYS:
                raise unknown_name("action key", str(key), KEYS, error=WorldError)
        table = self._actions
        camera = np.asarray(actions.get("camera", np.zeros((self.num_envs, 2))), dtype=np.float32)
        if camera.shape != (self.num_envs, 2) or not np.isfinite(camera).all():
            raise WorldError(f"camera: expected finite degrees [{self.num_envs}, 2], got {camera.shape}")
        camera = np.clip(camera, -180.0, 180.0)
        table["pitch"], table["yaw"] = camera[:, 0], camera[:, 1]
        pressed = {key: self._buttons(key, actions[key]) for key in BUTTONS if key in actions}
        for key in ACTION_KEYS:
            table[key] = pressed.get(key, 0)
        table["hotbar"] = 0
        for number, key in reversed(list(enumerate(HOTBAR_KEYS, 1))):  # of several, the first counts
            if key in pressed:
                table["hotbar"] = np.where(pressed[key] != 0, number, table["hotbar"])

    def _buttons(self, key: str, value: Any) -> npt.NDArray[np.int64]:
        column = np.asarray(value)
        if column.shape != (self.num_envs,) or not ((column == 0) | (column == 1)).all():
            raise WorldError(f'action key "{key}": expected {self.num_envs} values of 0 or 1, got {value!r}')
        return column.astype(np.int64)

    def render(self) -> tuple[npt.NDArray[np.uint8], ...]:
        """The current picture of every world."""
        return tuple(world.render() for world in self.worlds)

    def close_extras(self, **kwargs: Any) -> None:
        """Close every world and stop the threads."""
        if self._pool is not None:
            self._pool.shutdown()
        for world in self.worlds:
            world.close()


def _only_mask(options: dict[str, Any] | None, n: int) -> npt.NDArray[np.bool_]:
    options = options or {}
    for key in options:
        if key != "reset_mask":
            raise unknown_name("option of reset", key, ["reset_mask"], error=WorldError)
    mask = np.asarray(options.get("reset_mask", np.ones(n, dtype=np.bool_)))
    if mask.shape != (n,) or mask.dtype != np.bool_ or not mask.any():
        raise WorldError(f"reset_mask: expected bool [{n}] with at least one True, got {mask!r}")
    return mask


def _column(key: str, values: list[Any]) -> dict[str, Any]:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return {key: column, f"_{key}": np.array([value is not None for value in values])}


def _batched(infos: list[dict[str, Any] | None]) -> dict[str, Any]:
    """Gymnasium's form: a column per key, and a mask of the worlds that gave it. Numbers stay numbers."""
    there = np.array([info is not None for info in infos])
    batched: dict[str, Any] = {}
    for key in next((info for info in infos if info is not None), {}):
        values = [None if info is None else info[key] for info in infos]
        if key in ("tick", "health"):
            batched[key] = np.array([0 if value is None else value for value in values])
            batched[f"_{key}"] = there.copy()
        else:
            batched |= _column(key, values)
    return batched


def make_registered(scenario: str, num_envs: int = 8, **keywords: Any) -> BlockWorldVector:
    """What ``gymnasium.make_vec("harness/Villager-v0", num_envs=8)`` calls."""
    return BlockWorldVector(load_scenario(scenario), num_envs, **keywords)
