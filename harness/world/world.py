"""The World contract: a ``gymnasium.Env`` that can also be commanded, inspected, frozen and thawed."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np

from harness.errors import WorldError, unknown_name
from harness.registry import lookup
from harness.scenario.compile import compile_scenario, event_commands
from harness.scenario.load import load_scenario
from harness.scenario.outcomes import OutcomeTracker
from harness.scenario.schema import Scenario
from harness.scenario.setup import Fill, TimedFill, WorldSetup
from harness.world.action import BUTTONS, action_space, check_action
from harness.world.observation import POV_SHAPE, Observation, WorldState, observation_space

__all__ = ["Capabilities", "World", "make_registered", "make_world"]


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do; outcomes and interventions ask here before they promise anything.

    Attributes:
        backend: The engine's name.
        commands: Whether ``command()`` works in mid-episode.
        snapshots: Whether ``snapshot()``/``restore()`` work.
        segmentation: Whether ``world_state(segmentation=True)`` works.
        depth: Whether ``world_state(depth=True)`` works.
        entities: Whether entities with boxes and health are reported.
        deterministic: Whether the same seed and actions give byte-identical frames.
        actions_matter: False for a recorded video.
        parts: Whether the segmentation comes with the parts of creatures.
        without: Whether ``picture_without`` works.
        narrow: Whether ``pov`` holds only those columns that an agent of 128 x 128 pixels reads.
        picture: Rows and columns of ``pov``.
        game: The game behind it, with its version, such as "Minecraft 1.16.5"; empty where there is none.
        statistics: Whether the world counts what happens in it (``mine_block.oak_log``).
        raycast: Whether the engine itself says what the crosshair meets; else it is worked out from the pose.
        lockstep: Whether the world waits for each action, so that a step is exactly a tick.
        missing_keys: Keys of the action that do nothing here.
        unknown: What the backend cannot know of its world, one sentence each.
    """

    backend: str
    commands: bool = False
    snapshots: bool = False
    segmentation: bool = False
    depth: bool = False
    entities: bool = False
    deterministic: bool = False
    actions_matter: bool = True
    parts: bool = False
    without: bool = False
    narrow: bool = False
    picture: tuple[int, int] = POV_SHAPE[:2]
    game: str = ""
    statistics: bool = True
    raycast: bool = True
    lockstep: bool = True
    missing_keys: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


class World(gymnasium.Env[Observation, dict[str, Any]]):
    """One world running one scenario.

    Subclasses give ``_reset``, ``_tick``, ``_pov`` and ``world_state``; episode length, outcomes and the
    terminated/truncated pair are decided here, once, for every backend.

    Args:
        scenario: What to build, how long to play, what to measure.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    capabilities: Capabilities

    def __init__(self, scenario: Scenario, *, render_mode: str | None = "rgb_array") -> None:
        self.scenario = scenario
        self.render_mode = render_mode
        self.observation_space = observation_space()
        self.action_space = action_space()
        self.setup: WorldSetup | None = None
        self._outcomes = OutcomeTracker(scenario.outcomes)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None
              ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode. The same seed gives the same world.

        Args:
            seed: Seed of everything random in the world; None continues the stream (Gymnasium's rule).
            options: None, or empty: no backend takes options yet.

        Returns:
            The first observation, and info with ``statistics``, ``events``, ``outcomes``, ``pose``.
        """
        super().reset(seed=seed)
        if options:
            raise WorldError(f"reset takes no options, got {sorted(options)}")
        world_seed = seed if seed is not None else int(self.np_random.integers(2**31))
        self.setup = compile_scenario(self.scenario, seed=world_seed)
        if self.setup.events and not self.capabilities.commands:
            raise WorldError(f'scenario "{self.scenario.name}" has events, and the {self.capabilities.backend} backend '
                             "cannot change its world in mid-episode", hint="play it with blockworld")
        self._steps = 0
        self._outcomes = OutcomeTracker(self.scenario.outcomes)
        self._reset(self.setup, world_seed)
        self._happen(0)
        state = self.world_state()
        self._outcomes.start(state.statistics, state.player.position, state.player.yaw)
        return {"pov": self._pov()}, self._info(state)

    def step(self, action: Mapping[str, Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Play one tick (1/20 s).

        Args:
            action: MineRL's dictionary; missing keys are released.

        Returns:
            observation, reward (always 0.0: what counts is in the outcomes), terminated, truncated, info.

        Raises:
            WorldError: for an action that is not one, or before the first reset.
        """
        if self.setup is None:
            raise WorldError("step was called before reset", hint="call world.reset(seed=...) first")
        full = check_action(action)
        self._tick(full)
        held = [key for key in BUTTONS if full[key]] if self._outcomes.counts_keys else ()
        terminated, truncated, info = self._judge(held)
        return {"pov": self._pov()}, 0.0, terminated, truncated, info

    def _happen(self, step: int) -> None:
        """Carry out the scenario's events before the picture of a step."""
        fills = [event.fill for event in self.setup.events if event.step == step] if self.setup else []
        if fills:
            self._change(fills)

    def _change(self, fills: Sequence[Fill]) -> None:
        """Change blocks between two ticks; a backend without commands never comes here."""
        assert self.setup is not None
        due = replace(self.setup, events=tuple(TimedFill(0, fill) for fill in fills))
        for line in event_commands(due)[0]:
            self.command(line)

    def _judge(self, held: Collection[str]) -> tuple[bool, bool, dict[str, Any]]:
        """Count the tick just played with these keys, and let the next step's events happen.

        Returns:
            terminated, truncated, info.
        """
        state = self._brief()
        # What the tick met is counted before the events change the world for the next picture.
        self._outcomes.update(self._steps, state.statistics, state.events, state.looking_at, state.player.position,
                              held, state.player.yaw)
        self._steps += 1
        self._happen(self._steps)
        died = state.player.health <= 0
        terminated = died or self._outcomes.met(self.scenario.episode.terminate_when)
        truncated = not terminated and self._steps >= self.scenario.episode.max_steps
        return terminated, truncated, self._info(state)

    def notes(self) -> tuple[str, ...]:
        """What must be said with every result of this world, one sentence each: first of all what it cannot know."""
        able = self.capabilities
        return (f"{able.backend} cannot tell: {'; '.join(able.unknown)}",) if able.unknown else ()

    def render(self) -> Any:
        """The current picture, uint8 [360, 640, 3], again; looking changes nothing."""
        return self._pov()

    def observe(self) -> tuple[Observation, dict[str, Any]]:
        """Observation and info of this moment again, as ``reset`` or ``step`` gave them: after ``restore``."""
        return {"pov": self._pov()}, self._info(self.world_state())

    def _info(self, state: WorldState) -> dict[str, Any]:
        player = state.player
        return {
            "tick": state.tick,
            "statistics": dict(state.statistics),
            "events": [dict(event) for event in state.events],
            "outcomes": self._outcomes.results(),
            "pose": {"position": list(player.position), "yaw": player.yaw, "pitch": player.pitch},
            "health": player.health,
        }

    @abstractmethod
    def _reset(self, setup: WorldSetup, seed: int) -> None:
        """Build the world and let it settle."""

    @abstractmethod
    def _tick(self, action: dict[str, Any]) -> None:
        """Advance one tick under a complete action."""

    @abstractmethod
    def _pov(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The picture now, uint8 [360, 640, 3], a fresh array."""

    @abstractmethod
    def world_state(self, *, segmentation: bool = False, depth: bool = False, blocks: bool = False) -> WorldState:
        """The privileged state now."""

    def options(self) -> Mapping[str, Any]:
        """What this world was made with that changes its pictures, as JSON values; recordings keep it."""
        return {}

    def picture_without(self, numbers: Collection[int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The picture that this moment would give in a world without some blocks and creatures; nothing is changed.

        Args:
            numbers: Of the segmentation: block ids, entity ids.

        Returns:
            uint8, of the shape of ``pov``: light, shadows and the aimed block's outline are those of that world.

        Raises:
            WorldError: when the backend cannot, or for numbers that are neither.
        """
        raise WorldError(f"the {self.capabilities.backend} backend cannot leave blocks or creatures out of its picture")

    def _brief(self) -> WorldState:
        """The state as far as a step needs it; a backend may leave the entities out to be quicker."""
        return self.world_state()

    def command(self, text: str) -> None:
        """Run one slash command such as ``/setblock 0 100 3 minecraft:oak_log``.

        Raises:
            WorldError: when the backend takes no commands, or the command is wrong.
        """
        raise WorldError(f"the {self.capabilities.backend} backend takes no commands (got {text!r})")

    def snapshot(self) -> bytes:
        """Everything that decides the future, as bytes that hold no code."""
        raise WorldError(f"the {self.capabilities.backend} backend has no snapshots")

    def restore(self, snapshot: bytes) -> None:
        """Go back to a snapshot of the same scenario."""
        raise WorldError(f"the {self.capabilities.backend} backend has no snapshots")


def make_world(scenario: Scenario, backend: str = "blockworld", **keywords: Any) -> World:
    """Build a world for a scenario. Close it, or use it in a ``with`` block.

    Args:
        scenario: From ``load_scenario``.
        backend: A name from ``harness plugins list`` (built in: blockworld).
        keywords: Passed to the backend's class.

    Raises:
        WorldError: for an unknown backend, or a keyword that its class does not take.
    """
    kind: type[World] = lookup("harness.worlds", backend, base=World, error=WorldError)
    known = _options(kind)
    for name in keywords:
        if name not in known:
            raise unknown_name(f"option of the {backend} backend", name, known - {"render_mode"}, error=WorldError)
    return kind(scenario, **keywords)


def _options(kind: type[World]) -> set[str]:
    """The keywords of a backend's class, and of those above it as far as it hands them on."""
    found: set[str] = set()
    for above in kind.__mro__:
        if "__init__" in vars(above):
            parameters = inspect.signature(vars(above)["__init__"]).parameters.values()
            found |= {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return found - {"self", "scenario"}


def make_registered(scenario: str, **keywords: Any) -> World:
    """What ``gymnasium.make("harness/Villager-v0")`` calls: a bundled scenario, by name, in the embedded world."""
    return make_world(load_scenario(scenario), **keywords)
