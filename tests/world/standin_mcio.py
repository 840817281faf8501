"""A stand-in for MCio's game: the mod's protocol (version 7) in front of the embedded world.

The real client, mcio_ctrl, connects to it and cannot tell the difference. As the game does it says, it carries commands
out some ticks late, and those of one kind later than those of another. It proves protocol and bookkeeping, and says
nothing about the game.

    python tests/world/standin_mcio.py ACTION_PORT OBSERVATION_PORT [FAULT@N]

FAULT is what happens at tick N, one of ``FAULTS``. It needs pyzmq and cbor2. With the environment variable
STANDIN_PROMPT commands are carried out at once, for tests that are not about delays.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from typing import Any

import cbor2
import numpy as np
import zmq

from harness.errors import WorldError
from harness.scenario.schema import Scenario
from harness.world.action import noop_action
from harness.world.blockworld.world import BlockWorld

FAULTS = ("slow", "drop", "size", "garbage", "version", "exit", "death")

DEGREES_PER_PIXEL = 0.15
KEYS = {(1, 0): "attack", (1, 1): "use", (1, 2): "pickItem", (0, 87): "forward", (0, 65): "left", (0, 68): "right",
        (0, 83): "back", (0, 81): "drop", (0, 69): "inventory", (0, 32): "jump", (0, 340): "sneak", (0, 341): "sprint",
        (0, 70): "swapHands", **{(0, 48 + n): f"hotbar.{n}" for n in range(1, 10)}}
"""(0 key or 1 mouse button, GLFW's code) to the action's key."""
GROUPS = {"mine_block": "mined", "kill_entity": "killed", "pickup": "picked_up", "drop": "dropped", "": "custom"}


def lateness(command: str) -> int:
    """Ticks after which a command is carried out: the same for all of a kind."""
    if "STANDIN_PROMPT" in os.environ:
        return 0
    return 2 + zlib.crc32(command.split()[0].encode()) % 18


class Game:
    """The embedded world, spoken to as the game is."""

    def __init__(self) -> None:
        self._world = BlockWorld(Scenario.model_validate({"name": "standin"}))
        self._world.reset(seed=0)
        self._held: set[str] = set()
        self._cursor = (0.0, 0.0)
        self._due: list[tuple[int, str]] = []
        self._told: dict[str, int] | None = None
        self._sequence = self._action = 0

    def play(self, packet: dict[str, Any]) -> None:
        """Take one action in, and play a tick."""
        self._action = packet["sequence"]
        if packet["clear_input"]:
            self._held.clear()
            self._told = None
        for event in packet["inputs"]:
            key = KEYS[event["type"], event["code"]]
            (self._held.add if event["action"] else self._held.discard)(key)
        action = noop_action() | dict.fromkeys(self._held, 1)
        for x, y in packet["cursor_pos"]:
            turn = (y - self._cursor[1]) * DEGREES_PER_PIXEL, (x - self._cursor[0]) * DEGREES_PER_PIXEL
            action["camera"] = action["camera"] + np.array(turn, dtype=np.float32)
            self._cursor = (x, y)
        self._sequence += 1
        self._due += [(self._sequence + lateness(command), command) for command in packet["commands"]]
        for tick, command in list(self._due):
            if tick <= self._sequence:
                self._due.remove((tick, command))
                self.run(command)
        self._world.step(action)

    def run(self, command: str) -> None:
        """A command, as a server's console takes it."""
        print(f"TICK {self._sequence} {command}", flush=True)
        try:
            self._world.command("/" + command)
        except WorldError as problem:
            print(f"REFUSED {problem.message}", flush=True)

    def observation(self) -> dict[str, Any]:
        """An ObservationPacket."""
        state = self._world.world_state()
        player, picture = state.player, self._world.render()
        slots = [{"__mcio_type__": ".InventorySlot", "slot": slot, "id": f"minecraft:{item[0]}", "count": item[1]}
                 for slot, item in enumerate(player.hotbar) if item]
        return {
            "__mcio_type__": ".ObservationPacket", "version": 7, "sequence": self._sequence, "mode": "SYNC",
            "last_action_sequence": self._action, "frame_sequence": self._sequence,
            "frame": picture[::-1].tobytes(), "frame_width": picture.shape[1], "frame_height": picture.shape[0],
            "frame_type": "RAW", "cursor_mode": 212995, "cursor_pos": list(self._cursor), "health": player.health,
            "player_pos": list(player.position), "player_pitch": player.pitch, "player_yaw": player.yaw + 720.0,
            "inventory_main": slots, "inventory_armor": [], "inventory_offhand": [],
            "options": [self._statistics(dict(state.statistics))]}

    def _statistics(self, now: dict[str, int]) -> dict[str, Any]:
        """All counters at first, and then those that changed."""
        before, self._told = self._told, now
        groups: dict[str, list[dict[str, Any]]] = {}
        for name, value in now.items():
            if before is None or before.get(name) != value:
                group, _, what = name.rpartition(".")
                groups.setdefault(f"minecraft:{GROUPS.get(group, group)}", []).append(
                    {"__mcio_type__": ".Stat", "id": f"minecraft:{what}", "value": int(value)})
        kind = ".StatsFullOption" if before is None else ".StatsUpdateOption"
        return {"__mcio_type__": kind, "categories": [
            {"__mcio_type__": ".StatCategory", "category": group, "stats": stats} for group, stats in groups.items()]}


def answer(game: Game, fault: str) -> bytes | None:
    """What is sent after a tick; None sends nothing."""
    if fault == "drop":
        return None
    if fault == "garbage":
        return b"\xff\x00garbage"
    if fault == "exit":
        print("java.lang.OutOfMemoryError: Java heap space", flush=True)
        os._exit(1)
    if fault == "slow":
        time.sleep(1.0)
    if fault == "death":
        game.run("kill @p")
    told = game.observation()
    if fault == "size":
        told |= {"frame": bytes(320 * 180 * 3), "frame_width": 320, "frame_height": 180}
    if fault == "version":
        told["version"] = 6
    return cbor2.dumps(told)


def main(action_port: int, observation_port: int, fault: str = "@0") -> None:
    """Serve one game until it is told to stop."""
    kind, _, at = fault.partition("@")
    context = zmq.Context()
    actions, observations = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    actions.bind(f"tcp://localhost:{action_port}")
    observations.bind(f"tcp://localhost:{observation_port}")
    game, n = Game(), 0
    print("READY", flush=True)
    while True:
        packet = cbor2.loads(actions.recv())
        if packet["stop"]:
            return
        n += 1
        game.play(packet)
        message = answer(game, kind if n == int(at) else "")
        if message is not None:
            observations.send(message)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
