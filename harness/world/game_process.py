"""A game's processes, known by their ids: what they left in their log, and how they end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["GameProcess", "free_port", "kill", "last_lines"]

_DYING = 5.0  # seconds


@dataclass(frozen=True)
class GameProcess:
    """A process and when it started, so that another one that got its number is never taken for it."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> GameProcess | None:
        """The process with this number, None if there is none."""
        status = _status(pid)
        return None if status is None else cls(pid, status[1])

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return GameProcess.of(self.pid) == self

    def family(self) -> list[GameProcess]:
        """Itself and all that it started, as far as they run; the youngest first."""
        parents: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir() if Path("/proc/self").exists() else ():
            status = _status(int(entry.name)) if entry.name.isdigit() else None
            if status is not None:
                parents.setdefault(status[0], []).append(int(entry.name))
        numbers = [self.pid]
        for number in numbers:
            numbers += parents.get(number, ())
        found = [GameProcess.of(number) for number in numbers[1:]]
        return [*(process for process in reversed(found) if process), *([self] if self.alive else [])]


def _status(pid: int) -> tuple[int, str] | None:
    """(parent, start time) of a process that runs; on a system without /proc, (0, "") of one that is there."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        if Path("/proc/self").exists():
            return None
        try:
            os.kill(pid, 0)
        except OSError:
            return None
        return 0, ""
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else (int(fields[1]), fields[19])


def kill(processes: Iterable[GameProcess]) -> None:
    """End processes and all that they started, at once, and wait until they are gone (5 s at most)."""
    doomed = [member for process in processes for member in process.family()]
    for process in doomed:
        with contextlib.suppress(OSError):
            if process.alive:
                os.kill(process.pid, signal.SIGKILL)
    until = time.monotonic() + _DYING
    while any(process.alive for process in doomed) and time.monotonic() < until:
        time.sleep(0.02)


def last_lines(log: Path, n: int = 12) -> list[str]:
    """The last lines of a log; of a folder, of its youngest ``.log``. Empty when there is none."""
    try:
        files = sorted(log.rglob("*.log"), key=lambda file: file.stat().st_mtime) if log.is_dir() else [log]
        with files[-1].open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 400 * n))
            return file.read().decode("utf-8", errors="replace").splitlines()[-n:]
    except (OSError, IndexError):
        return []


def free_port(first: int = 0) -> int:
    """A TCP port of this machine that nobody listens on: ``first`` or the next one up; any for 0."""
    for port in range(first, first + 200) if first else (0,):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError(f"none of the ports {first} to {first + 199} is free")
