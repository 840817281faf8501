"""A stand-in for MineRL's game: its socket protocol in front of the embedded world.

The real client packages start it in the game's place and cannot tell the difference: ``install`` writes programs called
``java`` and ``xvfb-run`` that start this file. It proves protocol and bookkeeping, and says nothing about the game.

    python tests/world/standin_minerl.py FOLDER       prints what to export, for MineStudio's client

Environment variables, for tests of what goes wrong:

    STANDIN_FAULT   FAULT@N: what happens at step N of a mission, one of ``FAULTS``; BUSY@N: refuse N missions
    STANDIN_ONCE    a file: it is made by the first fault, and none happens while it is there
    STANDIN_STOCK   set: without chat, as MineRL's own game is
    STANDIN_PROMPT  set: statistics that come at once; the game's come one tick late
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import stat
import struct
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import WorldError
from harness.scenario.schema import Scenario
from harness.world.action import noop_action
from harness.world.blockworld.world import BlockWorld

FAULTS = ("slow", "hang", "drop", "cut", "size", "empty", "garbage", "exit", "death")


class Game:
    """One mission: the embedded world, spoken to as the game is."""

    def __init__(self, seed: int, biome: str, saved: str | None = None) -> None:
        self._world = BlockWorld(Scenario.model_validate({"name": "standin", "world": {"biome": biome}}))
        self._world.reset(seed=seed)
        for line in _functions(saved) if saved else ():
            self._chat(line)
        self._late = self._statistics()  # the client's counters are one request behind
        self.n_steps = 0
        self._mobs: list[int] = []

    def step(self, lines: list[str]) -> None:
        self._late = self._statistics()
        action, self._mobs = noop_action(), []
        for line in lines:
            key, _, value = line.partition(" ")
            if key == "camera":
                action[key] = np.array([float(v) for v in value.split()], dtype=np.float32)
            elif key == "chat" and "STANDIN_STOCK" not in os.environ:
                self._chat(value)
            elif key == "mobs":
                self._mobs = [int(v) for v in value.split(",")]
            elif key != "voxels":
                action[key] = int(value)  # as Integer.parseInt: what is no number ends the session
        self._world.step(action)
        self.n_steps += 1
        if "STANDIN_PROMPT" in os.environ:
            self._late = self._statistics()

    def _chat(self, text: str) -> None:
        try:
            self._world.command(text)
        except WorldError as problem:
            print(f"[CHAT] {problem.message}", flush=True)

    def _statistics(self) -> dict[str, Any]:
        groups: dict[str, Any] = {}
        for name, value in self._world.world_state().statistics.items():
            group, _, what = name.rpartition(".")
            groups.setdefault(group or "custom", {})[what] = value
        if "damage_dealt" in groups.get("custom", {}):
            groups["damage_dealt"] = {"damage_dealt": groups["custom"]["damage_dealt"]}
        return groups

    def picture(self) -> bytes:
        return bytes(self._world.render()[::-1].tobytes())

    def kill(self) -> None:
        self._world.command("/kill @p")

    def over(self) -> bool:
        return self._world.world_state().player.health <= 0

    def info(self) -> dict[str, Any]:
        state = self._world.world_state()
        player = state.player
        x, y, z = player.position
        carried = [{"slot_id": slot, "type": item[0], "quantity": item[1]}
                   for slot, item in enumerate(player.hotbar) if item]
        told = {**self._late, "xpos": x, "ypos": y, "zpos": z, "yaw": player.yaw, "pitch": player.pitch,
                "life": player.health, "health": player.health, "food_level": 20, "isGuiOpen": False,
                "inventory": carried, "biome_id": 1, "can_see_sky": 1}
        if any(self._mobs):
            told["mobs"] = [{"name": mob.type, "x": mob.position[0] - x, "y": mob.position[1] - y,
                             "z": mob.position[2] - z} for mob in state.entities if mob.type not in ("item",)]
        return told


def _functions(saved: str) -> list[str]:
    """The commands of a saved world's datapack, which the game runs when it first sees the player."""
    with zipfile.ZipFile(saved) as file:
        names = [name for name in file.namelist() if name.endswith(("/session.mcfunction", "/episode.mcfunction"))]
        return [line for name in sorted(names, reverse=True) for line in file.read(name).decode().splitlines()]


class Session:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._game, self._mission = connection, None, ""
        kind, _, n = os.environ.get("STANDIN_FAULT", "").partition("@")
        self._fault, self._at = kind, int(n or 0)

    def serve(self) -> bool:
        """Until the client leaves; False when it wants the game to end."""
        while (message := self._receive()) is not None:
            text = message.decode(errors="replace")
            if text.startswith("<MissionInit"):
                self._mission = text
            elif text.startswith("<Quit"):
                self._send(struct.pack("!I", 1))
            elif text.startswith("<Peek"):
                self._peek()
            elif text.startswith("<StepClient"):
                self._step(text)
            elif text.startswith("<Exit"):
                self._send(struct.pack("!I", 1))
                return False
            elif text.startswith("<Echo"):
                self._send(message)
            elif text.startswith("<Disconnect"):
                return True
            elif re.fullmatch(r"[\w-]+:\d+:\d+:\d+:true(:-?\d+)?", text):
                self._begin(text)
        return True

    def _begin(self, token: str) -> None:
        if self._fault == "busy" and self._at > 0:
            self._at -= 1
            self._send(struct.pack("!I", 0))
            return
        parts = token.split(":")
        print(f"TOKEN {token}", flush=True)
        biome = re.search(r"PreferredSpawnBiome>(\w+)<", self._mission)
        saved = re.search(r"LoadWorldFile>([^<]+)<", self._mission)
        self._game = Game(int(parts[5]) if len(parts) > 5 else 0, biome[1] if biome else "plains",
                          saved[1] if saved else None)
        self._send(struct.pack("!I", 1))

    def _peek(self) -> None:
        assert self._game is not None
        self._send(self._game.picture())
        self._send(json.dumps(self._game.info()).encode())
        self._send(struct.pack("!b", 0))

    def _step(self, text: str) -> None:
        assert self._game is not None
        inside = re.fullmatch(r"<StepClient\d>(.*)</StepClient\d >", text, re.DOTALL)
        assert inside, text
        self._game.step([line for line in inside[1].split("\n") if line])
        fault = self._fault if self._game.n_steps == self._at and self._due() else ""
        if fault == "death":
            self._game.kill()
        picture, told = self._game.picture(), json.dumps(self._game.info()).encode()
        self._misbehave(fault, picture)
        self._send({"size": picture[:64 * 64 * 3], "empty": b""}.get(fault, picture))
        self._send(struct.pack("!dbb", 0.0, self._game.over(), 1))
        self._send(b"{garbage" if fault == "garbage" else told)

    def _misbehave(self, fault: str, picture: bytes) -> None:
        if fault == "slow":
            time.sleep(1.0)
        elif fault == "hang":
            time.sleep(3600.0)
        elif fault == "exit":
            print("# A fatal error has been detected by the stand-in", flush=True)
            os._exit(1)
        elif fault in ("drop", "cut"):
            if fault == "cut":
                self._connection.sendall(struct.pack("!I", len(picture)) + picture[:1000])
            self._connection.shutdown(socket.SHUT_RDWR)

    def _due(self) -> bool:
        once = os.environ.get("STANDIN_ONCE")
        if once and Path(once).exists():
            return False
        if once:
            Path(once).touch()
        return True

    def _send(self, data: bytes) -> None:
        self._connection.sendall(struct.pack("!I", len(data)) + data)

    def _receive(self) -> bytes | None:
        head = self._exactly(4)
        return None if head is None else self._exactly(struct.unpack("!I", head)[0])

    def _exactly(self, n: int) -> bytes | None:
        data = b""
        while len(data) < n:
            more = self._connection.recv(n - len(data))
            if not more:
                return None
            data += more
        return data


def serve(port: int) -> None:
    """Play the game's part on a port until a client sends Exit."""
    if os.environ.get("STANDIN_FAULT") == "start":
        print("Error: the stand-in does not start", flush=True)
        sys.exit(1)
    with socket.create_server(("127.0.0.1", port)) as server:
        print(f"***** Start MalmoEnvServer on port {port}", flush=True)
        print("CLIENT enter state: DORMANT", flush=True)
        goes_on = True
        while goes_on:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection, contextlib.suppress(OSError):
                goes_on = Session(connection).serve()


def install(folder: Path) -> dict[str, str]:
    """Write what MineStudio's client takes for its engine, for Java and for a display.

    Returns:
        The environment variables that make it so.
    """
    jar = folder / "engine" / "build" / "libs" / "mcprec-6.13.jar"
    jar.parent.mkdir(parents=True, exist_ok=True)
    jar.touch()
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    _program(programs / "java", f'exec "{sys.executable}" "{Path(__file__).resolve()}" "$@"')
    _program(programs / "xvfb-run", 'shift\nexec "$@"')
    return {"MINESTUDIO_DIR": str(folder), "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"}


def _program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


if __name__ == "__main__":
    ports = [word.partition("=")[2] for word in sys.argv if word.startswith("--envPort=")]
    if ports:
        serve(int(ports[0]))
    else:
        for name, value in install(Path(sys.argv[1]).resolve()).items():
            sys.stdout.write(f"export {name}={value}\n")
