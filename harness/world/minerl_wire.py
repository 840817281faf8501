"""MineRL's client and its forks as a world: one protocol, Minecraft 1.16.5.

The engine's own package starts the game and speaks to it; it is handed in as a ``Client``. Its mission and its actions
are used as they are. Of its observations only the picture is taken from it: the rest is read from what the game sent,
so that a step does not build some ten thousand numbers that nobody reads.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import GameError, WorldError
from harness.scenario.schema import Scenario
from harness.scenario.setup import Point, WorldSetup
from harness.world.action import Action
from harness.world.game_process import GameProcess
from harness.world.game_statistics import flat_statistics
from harness.world.game_world import GameFrame, GameWorld, whole_picture
from harness.world.observation import POV_SHAPE
from harness.world.world import Capabilities

__all__ = ["GAME", "UNKNOWN", "Client", "WireWorld"]

GAME = "Minecraft 1.16.5"
UNKNOWN = (
    "a creature's health: damage is what the game counted, laid to the creature that was struck last",
    "what the crosshair meets: worked out from the pose, the scenario and the blocks that were mined",
    "blocks that the player placed",
    "statistics come up to one tick late, so a first_step may be one higher than in lock-step with them",
    "the time of day: what was set, not what the game says",
)
_LOGS = "MALMO_MINECRAFT_OUTPUT_LOGDIR"
_NEAR = np.array([-128, 128] * 3, dtype=np.int32)  # x0 x1 y0 y1 z0 z1, blocks from the player


@dataclass(frozen=True)
class Client:
    """What an installed package gives to speak MineRL's protocol.

    Attributes:
        survival: Its class ``HumanSurvival``, a specification of an environment.
        handlers: Its module of handlers.
        translation: Its class ``TranslationHandler``.
        spaces: Its module of spaces.
        manager: Its class ``InstanceManager``.
    """

    survival: Any
    handlers: Any
    translation: Any
    spaces: Any
    manager: Any


def name_of_numpy_1() -> None:
    """Give ``numpy.unicode_`` back, which NumPy 2 dropped and these packages' text space asks for."""
    if not hasattr(np, "unicode_"):
        np.unicode_ = np.str_  # type: ignore[attr-defined]


class WireWorld(GameWorld):
    """A world in Minecraft 1.16.5, behind a client of MineRL's protocol.

    Args:
        scenario: What to build, how long to play, what to measure.
        render_mode: "rgb_array".
        keywords: As for ``GameWorld``.

    Raises:
        WorldError: when the engine is not installed.
    """

    session_ticks = 6000
    """The game's recorder begins a new file then, which nobody has tried here."""

    def __init__(self, scenario: Scenario, *, render_mode: str | None = "rgb_array", **keywords: Any) -> None:
        super().__init__(scenario, render_mode=render_mode, **keywords)
        self._client = self._load()
        self._environment: Any = None
        self._spec: Any = None
        self._foreign: frozenset[int] = frozenset()  # ids of other worlds' records in the package's pool
        self._gui_open = False
        self._mobs_wanted = False
        self._logs: Path | None = None
        self.capabilities = self._able(self._probe())

    @abstractmethod
    def _load(self) -> Client:
        """Import the engine's package."""

    def _able(self, keys: frozenset[str]) -> Capabilities:
        """What can be done with an engine whose actions have these keys."""
        able = self.capabilities
        return replace(able, commands="chat" in keys)

    def _probe(self) -> frozenset[str]:
        """The keys of the engine's action."""
        self._spec = trimmed(self._client, biome=None)
        return frozenset(self._spec.action_space.spaces)

    # ---- what GameWorld asks for

    def _start(self, setup: WorldSetup, seed: int) -> GameFrame:
        if self._environment is None:
            self._check_machine()
            self._spec = trimmed(self._client, biome=setup.biome)
            if _LOGS not in os.environ:
                self._logs = Path(tempfile.mkdtemp(prefix="harness-game-logs-"))
                os.environ[_LOGS] = str(self._logs)
            self._foreign = frozenset(map(id, self._client.manager._instance_pool))
            self._environment = self._spec.make()
        self._prepare(setup)
        self._environment.seed(seed)  # the engine forgets it with every reset
        observation = self._environment.reset()
        self._gui_open = False
        self._mobs_wanted = "mobs" in self._spec.action_space.spaces and any(entity.ai for entity in setup.entities)
        return self._seen(observation, {}, False)

    def _check_machine(self) -> None:
        """Before the game is started: what this machine lacks for it."""
        if shutil.which("java") is None:
            raise WorldError("there is no java on PATH, which runs the game", hint="harness doctor says which one")

    def _prepare(self, setup: WorldSetup) -> None:
        """Before a reset: what an engine without commands needs."""

    def _play(self, action: Action) -> GameFrame:
        known = self._spec.action_space.spaces
        wire = {key: value for key, value in action.items() if key in known}
        if not self._gui_open and "ESC" in wire:
            wire["ESC"] = 0  # it would open the game's menu, and no agent meant that
        if self._mobs_wanted:
            wire["mobs"] = _NEAR
        return self._exchange(wire)

    def _send(self, commands: Sequence[str]) -> GameFrame:
        frame = None
        for text in commands:
            frame = self._exchange({**self._environment.action_space.no_op(), "chat": text})
            if frame.dead:
                return frame
        assert frame is not None
        return frame

    def _exchange(self, wire: Mapping[str, Any]) -> GameFrame:
        observation, reward, *ends, info = self._environment.step(dict(wire))
        del reward
        return self._seen(observation, info, any(ends))

    def _seen(self, observation: Mapping[str, Any], info: Mapping[str, Any], over: bool) -> GameFrame:
        if "error" in info:  # the picture is noise then
            raise GameError(f"the connection to the game broke: {info['error']}")
        raw = observation["raw"]
        health = raw.get("health", raw.get("life"))
        position = _position(raw)
        self._gui_open = bool(raw.get("isGuiOpen", False))
        return GameFrame(
            whole_picture(observation["pov"]), flat_statistics(raw), position,
            _number(raw.get("yaw")), _number(raw.get("pitch")), _number(health),
            dead=over or (health is not None and float(health) <= 0.0), gui_open=self._gui_open,
            inventory=_inventory(raw.get("inventory")),
            mobs=_mobs(raw.get("mobs"), position) if self._mobs_wanted else None)

    def _creatures(self) -> tuple[tuple[str, Point], ...] | None:
        """Where every creature is, asked for once; None when the engine does not say."""
        if "mobs" not in self._spec.action_space.spaces:
            return None
        before, self._mobs_wanted = self._mobs_wanted, True
        try:
            return self._play({**self._environment.action_space.no_op()}).mobs
        finally:
            self._mobs_wanted = before

    def _stop(self) -> None:
        self._environment.close()

    def _instances(self) -> list[Any]:
        """The package's records of the processes that this world started; while one starts, only its pool has it."""
        mine = [*getattr(self._environment, "instances", ())]
        mine += [other for other in self._client.manager._instance_pool
                 if id(other) not in self._foreign and all(other is not own for own in mine)]
        return [instance for instance in mine if instance.minecraft_process is not None]

    def _processes(self) -> list[GameProcess]:
        found = [GameProcess.of(instance.minecraft_process.pid) for instance in self._instances()]
        return [process for process in found if process is not None]

    def _log(self) -> Path | None:
        return Path(os.environ[_LOGS]) if _LOGS in os.environ else None

    def _let_go(self) -> None:
        gone = self._instances()
        self._environment = None
        for instance in gone:
            with contextlib.suppress(Exception):  # the process is dead: what is left are a socket, a folder, a record
                if instance.client_socket is not None:
                    instance.client_socket.close()
                instance.close()

    def close(self) -> None:
        """End the game and all its processes; closing twice is fine."""
        super().close()
        if self._logs is not None:
            shutil.rmtree(self._logs, ignore_errors=True)
            if os.environ.get(_LOGS) == str(self._logs):
                del os.environ[_LOGS]
            self._logs = None


def trimmed(client: Client, biome: str | None, world_file: str | None = None) -> Any:
    """The package's own survival specification with two observations: the picture, and all that the game sent.

    The mission that the game reads is the package's own, with every observation asked for.
    """

    class Sent(client.translation):  # type: ignore[misc, name-defined]
        """The game's message as it came."""

        def __init__(self) -> None:
            super().__init__(client.spaces.Dict({}))

        def to_string(self) -> str:
            return "raw"

        def xml_template(self) -> str:
            return "<ObservationFromFullStats/>"

        def from_hero(self, info: dict[str, Any]) -> dict[str, Any]:
            size = len(info["pov"] or b"")
            if size != POV_SHAPE[0] * POV_SHAPE[1] * 3:
                raise GameError(f"the game sent {size} bytes for a picture, and 640 x 360 pixels take 691200")
            return info

    class Survival(client.survival):  # type: ignore[misc, name-defined]
        """The package's survival world, with less to observe."""

        observables: list[Any]

        def create_observables(self) -> list[Any]:
            return [Sent(), client.handlers.POVObservation(self.resolution)]

        def to_xml(self) -> str:
            trimmed_ones = self.observables
            if not hasattr(self, "stock_observables"):
                self.stock_observables = super().create_observables()
            self.observables = self.stock_observables
            try:
                return str(super().to_xml())
            finally:
                self.observables = trimmed_ones

        def create_agent_start(self) -> list[Any]:
            start = list(super().create_agent_start())
            has_biome = any(type(handler).__name__ == "PreferredSpawnBiome" for handler in start)
            return start if biome is None or has_biome else [*start, client.handlers.PreferredSpawnBiome(biome)]

    return Survival(fov_range=[70, 70], gamma_range=[2, 2], guiscale_range=[1, 1], cursor_size_range=[16, 16],
                    resolution=(POV_SHAPE[1], POV_SHAPE[0]), frameskip=1, load_filename=world_file)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _position(raw: Mapping[str, Any]) -> Point | None:
    if not {"xpos", "ypos", "zpos"} <= set(raw):
        return None
    return float(raw["xpos"]), float(raw["ypos"]), float(raw["zpos"])


def _inventory(told: Any) -> tuple[tuple[int, str, int], ...] | None:
    """(slot, item, count) of what the player carries."""
    if not isinstance(told, list):
        return None
    found = [(int(item.get("slot_id", item.get("slot", item.get("index", -1)))),
              str(item.get("type", "air")).removeprefix("minecraft:"), int(item.get("quantity", 0))) for item in told]
    return tuple(entry for entry in found if entry[2] and entry[1] not in ("air", "none"))


def _mobs(told: Any, feet: Point | None) -> tuple[tuple[str, Point], ...] | None:
    """Creatures at their places; the engine counts from the player."""
    if not isinstance(told, list) or feet is None:
        return None
    return tuple((str(mob["name"]).lower().rpartition(":")[2].rpartition(".")[2].replace(" ", "_"),
                  (feet[0] + float(mob["x"]), feet[1] + float(mob["y"]), feet[2] + float(mob["z"]))) for mob in told)
