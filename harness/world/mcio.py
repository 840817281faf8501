"""MCio (Minecraft 1.21.3 with a Fabric mod) as a world. Its client runs in a process of its own, see ``remote.py``.

Commands are the difficulty here: the server runs them some 20 ticks after they were sent, and those of different kinds
overtake each other. They are sent one a tick, and before one of another kind everything sent so far is waited for.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import WorldError
from harness.scenario.dialect import SETTLE
from harness.scenario.schema import Scenario
from harness.scenario.setup import WorldSetup
from harness.world.action import Action, noop_action
from harness.world.display import require_display
from harness.world.game_process import GameProcess
from harness.world.game_statistics import flat_statistics
from harness.world.game_world import GameFrame, GameWorld, whole_picture
from harness.world.remote import Remote
from harness.world.world import Capabilities

__all__ = ["DOMAIN_SHIFT", "MCioWorld"]

GAME = "Minecraft 1.21.3"
DOMAIN_SHIFT = (f"{GAME}, not the 1.16.5 that VPT and STEVE-1 were trained on: textures, light, heads-up display and "
                "screens differ, so what an agent does here is no evidence of what it does there")
"""Said with every result of this backend."""

_MARGIN = 5.0  # seconds

_UNKNOWN = (
    "what the crosshair meets: worked out from the pose and what the scenario built",
    "creatures: where they were summoned, as long as they have no mind of their own",
    "whether a command was refused, or when it was carried out: nothing is told",
    "the seed of the land: it is the save's; what the scenario builds stands on it",
    "how many ticks the server made in a step: the client alone is in lock-step",
)


class MCioWorld(GameWorld):
    """A world in Minecraft 1.21.3 through MCio.

    Args:
        scenario: What to build, how long to play, what to measure.
        python: The Python that mcio_ctrl is installed in, 3.12 or newer; None for this one.
        path: Folders to import it from before others.
        instance: The name of an instance that ``mcio install`` made, which is then started and ended here; None to play
            in a game that runs.
        save: The name of the instance's world to play in. Give it one of its own: the scenario is built into it.
        action_port: Where the game takes actions.
        observation_port: Where it sends observations.
        hide_window: Whether the game started here shows no window.
        keywords: As for ``GameWorld``.

    Raises:
        WorldError: for an instance without a save, or ports that are none.
    """

    dialect = "1.21"
    command_ticks = 0  # sending one waits
    # ESC ends the client's episode and reaches no screen.
    capabilities = Capabilities("mcio", commands=True, game=GAME, raycast=False, lockstep=False, missing_keys=("ESC",),
                                unknown=_UNKNOWN)

    def __init__(self, scenario: Scenario, *, python: str | Path | None = None, path: Sequence[str | Path] = (),
                 instance: str | None = None, save: str | None = None, action_port: int = 4001,
                 observation_port: int = 8001, hide_window: bool = True, **keywords: Any) -> None:
        super().__init__(scenario, **keywords)
        if instance is not None and save is None:
            raise WorldError(f'the instance "{instance}" opens its menu unless a save is named', hint="save: its name")
        for name, port in (("action_port", action_port), ("observation_port", observation_port)):
            if type(port) is not int or not 0 < port < 65536:
                raise WorldError(f"{name}: expected a port, 1 to 65535, got {port!r}")
        self._instance = instance
        self._remote = Remote(
            "harness.world.mcio_driver:MCioDriver",
            {"instance": instance, "save": save, "action_port": action_port, "observation_port": observation_port,
             "hide_window": hide_window},
            called="MCio's client", python=python, path=path, patience=self._patience,
            start_patience=self._start_patience)
        # The nearer watchdog is to speak first: it has the client's log.
        self._patience, self._start_patience = self._patience + _MARGIN, self._start_patience + _MARGIN

    def notes(self) -> tuple[str, ...]:
        """The domain shift, and what MCio cannot tell."""
        return (DOMAIN_SHIFT, *super().notes())

    def source(self) -> dict[str, Any]:
        """What a recording's header says besides: the domain shift, and the client's Python."""
        return {**super().source(), "domain_shift": DOMAIN_SHIFT, "remote": dict(self._remote.about)}

    def _start(self, setup: WorldSetup, seed: int) -> GameFrame:
        if self._instance is not None and self._remote.pid is None:
            require_display("mcio")
        self._remote.start()
        return _frame(self._remote.call("reset", patience=self._start_patience - _MARGIN))

    def _play(self, action: Action) -> GameFrame:
        return _frame(self._remote.call("step", action, []))

    def _send(self, commands: Sequence[str]) -> GameFrame:
        told: Any = None
        for _, alike in itertools.groupby(commands, key=_kind):
            for command in alike:
                self._remote.call("step", noop_action(), [command.removeprefix("/")])
            told = self._remote.call("wait", SETTLE[self.dialect], patience=self._start_patience - _MARGIN)
            self._ticks += SETTLE[self.dialect]
        return _frame(told)

    def _stop(self) -> None:
        self._remote.close()

    def _let_go(self) -> None:
        self._remote.close()

    def _processes(self) -> list[GameProcess]:
        process = None if self._remote.pid is None else GameProcess.of(self._remote.pid)
        return [process] if process else []


def _kind(command: str) -> str:
    """Commands of one kind keep their order."""
    return command.removeprefix("/").partition(" ")[0]


def _frame(told: Mapping[str, Any]) -> GameFrame:
    x, y, z = told["position"]
    return GameFrame(
        pov=whole_picture(told["pov"]), statistics=flat_statistics(told["statistics"]), position=(x, y, z),
        yaw=(told["yaw"] + 180.0) % 360.0 - 180.0, pitch=told["pitch"], health=told["health"],
        dead=told["health"] <= 0.0, gui_open=told["gui_open"],
        inventory=tuple((slot, item.removeprefix("minecraft:"), count) for slot, item, count in told["inventory"]))
