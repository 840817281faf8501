"""MCio's client, mcio_ctrl, as ``serve.py`` serves it: it runs in the Python that mcio_ctrl needs, 3.12 or newer."""

from __future__ import annotations

import importlib.metadata
import logging
import socket
import sys
from typing import Any

from harness.errors import WorldError

__all__ = ["MCioDriver"]

_SIZE = (640, 360)


class MCioDriver:
    """One client, and the game if it is to start it.

    Args:
        instance: The name of an instance that ``mcio install`` made; None to use a game that runs.
        save: The name of the instance's world to play in.
        action_port: Where the game takes actions.
        observation_port: Where it sends observations.
        hide_window: Whether the game started here shows no window.

    Raises:
        WorldError: when mcio_ctrl is not here, or cannot run here.
    """

    def __init__(self, instance: str | None, save: str | None, action_port: int, observation_port: int,
                 hide_window: bool) -> None:
        _check_environment()
        from mcio_ctrl.envs.minerl_env import MinerlEnv
        from mcio_ctrl.types import MCioMode, RunOptions

        logging.basicConfig(level=logging.WARNING)  # to the log that an error quotes
        self._ports = None if instance else (action_port, observation_port)
        self._env = MinerlEnv(RunOptions(
            instance_name=instance, world_name=save, mcio_mode=MCioMode.SYNC, width=_SIZE[0], height=_SIZE[1],
            hide_window=hide_window, action_port=action_port, observation_port=observation_port))
        self._begun = False

    def reset(self) -> dict[str, Any]:
        """Connect, and start the game where that is ours to do; a connection that is there is kept.

        Raises:
            WorldError: when no game runs.
        """
        if self._begun and not self._env.terminated:
            return self.step(self._env.get_noop_action(), [])
        if self._ports is not None:
            for port in self._ports:
                _knock(port)
        self._env.reset()
        self._begun = True
        return self._frame()

    def step(self, action: dict[str, Any], commands: list[str]) -> dict[str, Any]:
        """A tick under an action, and commands, without slashes, for the game to run some time soon.

        Once the player is dead none is played: the client wants a reset.
        """
        if not self._env.terminated:
            self._env.step(action, options={"commands": commands})
        return self._frame()

    def wait(self, n: int) -> dict[str, Any]:
        """So many ticks without keys."""
        for _ in range(n):
            self.step(self._env.get_noop_action(), [])
        return self._frame()

    def close(self) -> None:
        """Let go of the connection; a game that was started here is ended."""
        self._env.close()

    def _frame(self) -> dict[str, Any]:
        env = self._env
        packet = env._last_observation_pkt  # the pose and what is carried are told nowhere else
        return {
            "pov": env.last_frame, "statistics": {group: dict(counts) for group, counts in env.stats_cache.items()},
            "position": list(packet.player_pos), "yaw": packet.player_yaw, "pitch": packet.player_pitch,
            "health": packet.health, "sequence": packet.sequence,
            "inventory": [[item.slot, item.id, item.count] for item in packet.inventory_main],
            "gui_open": packet.cursor_mode == 212993,  # glfw.CURSOR_NORMAL: the mouse is a pointer
        }


def _check_environment() -> None:
    here = sys.executable
    version = sys.version_info[0], sys.version_info[1]
    if version < (3, 12):
        raise WorldError(f"mcio_ctrl needs Python 3.12 or newer, and this is {version[0]}.{version[1]}", where=here,
                         hint="make an environment with a newer one, and name it: --python PATH")
    install = f'{here} -m pip install mcio_ctrl "cbor2<6"'
    try:
        importlib.metadata.version("mcio_ctrl")
        cbor = importlib.metadata.version("cbor2")
    except importlib.metadata.PackageNotFoundError as problem:
        raise WorldError(f"{problem.name} is not installed", where=here, hint=install) from problem
    if int(cbor.partition(".")[0]) >= 6:
        raise WorldError(f"mcio_ctrl reads no packet with cbor2 6 or later, and this is {cbor}", where=here,
                         hint=f'{here} -m pip install "cbor2<6"')


def _knock(port: int) -> None:
    """The client would wait for ever for a game that is not there."""
    try:
        socket.create_connection(("localhost", port), timeout=5.0).close()
    except OSError as problem:
        raise WorldError(f"no game answers at port {port} of this machine",
                         hint="start one in synchronous mode, 640 x 360, as docs/minecraft.md says; or name an "
                              "instance for Harness to start") from problem
