"""The far side of ``remote.py``: one object, served to one caller, in a Python of its own.

``remote.py`` starts this file as a script, by path. It needs NumPy and nothing else, and runs in Python 3.8 and later,
so that an engine with other pins than ours can be served from the environment it needs. What is served may need more.

A message is a length, and so many bytes of JSON. Arrays and bytes do not go through the socket: they lie in memory that
both sides map, and the JSON says where. One side speaks at a time, so one region serves both directions.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import types
from typing import Any

import numpy as np

__all__ = ["GRACE", "Channel", "Garbled", "serve"]

_LENGTH = struct.Struct("!I")
_MAX_JSON = 1 << 26  # bytes
_MAX_SHARED = 1 << 32  # bytes
_ALIGN = 64
GRACE = 5.0  # seconds that an engine has to stop by itself once its caller is gone
_PLACE = "__array__", "__bytes__"


class Garbled(Exception):
    """What came is no message."""


class Channel:
    """Values over a socket and shared memory: JSON, bytes, and arrays of numbers.

    Args:
        connection: One end of a pair of stream sockets.
        memory: An open file without a name that both ends map.
    """

    def __init__(self, connection: socket.socket, memory: int) -> None:
        self.connection, self.memory = connection, memory
        self.until: float | None = None
        """When, on the monotonic clock, whoever waits is to give up with a TimeoutError; None waits for ever."""
        self._map: mmap.mmap | None = None

    def close(self) -> None:
        """Let go of the socket and the memory."""
        self.connection.close()
        if self.memory >= 0:
            os.close(self.memory)
            self.memory = -1
        self._map = None

    def send(self, value: Any) -> None:
        """Say one value.

        Raises:
            TypeError: for what is neither JSON, bytes nor an array of numbers.
        """
        blobs: list[tuple[int, Any]] = []
        end = 0

        def place(item: Any) -> Any:
            nonlocal end
            if isinstance(item, np.generic):
                return item.item()
            if isinstance(item, np.ndarray) and item.dtype.kind in "biuf":
                at, end = end, _aligned(end + item.nbytes)
                blobs.append((at, item))
                return {_PLACE[0]: [item.dtype.str, list(item.shape), at]}
            if isinstance(item, (bytes, bytearray)):
                at, end = end, _aligned(end + len(item))
                blobs.append((at, np.frombuffer(item, dtype=np.uint8)))
                return {_PLACE[1]: [at, len(item)]}
            raise TypeError(f"cannot send a {type(item).__name__} to another process")

        text = json.dumps(value, default=place).encode()
        if end:
            shared = self._shared(end)
            for at, array in blobs:
                np.ndarray(array.shape, array.dtype, buffer=shared, offset=at)[...] = array
        self.connection.sendall(_LENGTH.pack(len(text)) + text)

    def receive(self) -> Any:
        """Hear one value; arrays and bytes are copies.

        Raises:
            EOFError: when the other side is gone.
            Garbled: when what came is no message.
        """
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > _MAX_JSON:
            raise Garbled(f"a message of {length} bytes was announced")
        text = self._exactly(length)
        try:
            return json.loads(text, object_hook=self._take)
        except (ValueError, TypeError, OverflowError, RecursionError) as problem:
            raise Garbled(f"{type(problem).__name__}: {problem}") from problem

    def _take(self, entry: dict[str, Any]) -> Any:
        if _PLACE[0] in entry and len(entry) == 1:
            code, shape, at = entry[_PLACE[0]]
            dtype, shape = np.dtype(code), tuple(int(n) for n in shape)
            if dtype.kind not in "biuf" or any(n < 0 for n in shape):
                raise ValueError(f"no array of numbers: {entry!r}")
            n_bytes = dtype.itemsize
            for n in shape:
                n_bytes *= n
            if n_bytes == 0:
                return np.empty(shape, dtype)
            return np.ndarray(shape, dtype, buffer=self._held(at, n_bytes), offset=at).copy()
        if _PLACE[1] in entry and len(entry) == 1:
            at, length = entry[_PLACE[1]]
            return bytes(self._held(at, length)[at:at + length]) if length else b""
        return entry

    def _held(self, at: int, length: int) -> mmap.mmap:
        if at < 0 or length < 0 or at + length > min(os.fstat(self.memory).st_size, _MAX_SHARED):
            raise ValueError(f"{length} bytes at {at} do not lie in the shared memory")
        return self._shared(at + length)

    def _shared(self, size: int) -> mmap.mmap:
        """The shared memory, at least so large; the other side sees it grow when it is told of what lies there."""
        if self._map is None or len(self._map) < size:
            if size > _MAX_SHARED:
                raise ValueError(f"{size} bytes are more than go through the shared memory")
            there = os.fstat(self.memory).st_size
            if there < size:
                os.ftruncate(self.memory, size)
            self._map = mmap.mmap(self.memory, max(size, there))  # the old one goes with its last view
        return self._map

    def _exactly(self, n: int) -> bytes:
        parts = bytearray()
        while len(parts) < n:
            if self.until is not None:
                self.connection.settimeout(max(0.001, self.until - time.monotonic()))
            part = self.connection.recv(min(n - len(parts), 1 << 20))
            if not part:
                raise EOFError("the other side closed the connection")
            parts += part
        return bytes(parts)


def _aligned(n: int) -> int:
    return -(-n // _ALIGN) * _ALIGN


def serve(channel: Channel, served: Any) -> None:
    """Answer calls to ``served`` until it is closed or the caller is gone.

    A call is ``[method, arguments, keywords]``, an answer ``{"value": ...}`` or ``{"error": ...}``. Only public methods
    can be called.
    """
    while True:
        try:
            name, arguments, keywords = channel.receive()
        except EOFError:
            served.close()
            return
        try:
            if name.startswith("_"):
                raise AttributeError(name)
            channel.send({"value": getattr(served, name)(*arguments, **keywords)})
        except Exception as problem:  # an engine may raise anything, and the caller is to hear what
            channel.send({"error": _told(problem)})
        if name == "close":
            return


def _told(problem: BaseException) -> dict[str, Any]:
    """An exception as JSON; the errors of Harness have an address and a hint besides."""
    return {"type": type(problem).__name__, "message": str(getattr(problem, "message", problem)),
            "where": getattr(problem, "where", None), "hint": getattr(problem, "hint", None),
            "traceback": traceback.format_exc(limit=-8)}


def _outlive_nobody(connection: socket.socket) -> None:
    """End this process and all that it started when its caller is gone, also in the middle of a call."""

    def watch() -> None:
        poll = select.poll()
        poll.register(connection, 0)  # nothing but the hang-up, which is always told
        poll.poll()
        time.sleep(GRACE)
        _end_all()

    threading.Thread(target=watch, daemon=True).start()


def _end_all() -> None:
    """The engine may have threads and processes of its own, and none of them is to stay."""
    try:
        os.killpg(os.getpid(), signal.SIGKILL)
    finally:
        os._exit(1)


def main(words: list[str]) -> None:
    """``serve.py SOCKET MEMORY FOLDER``: two open files by number, and where the package ``harness`` lies.

    The first message says what to serve, as "module:callable", its keywords, folders to import from, and whether those
    are all: then they are our own Python's, and this is the same environment.
    """
    here = os.path.dirname(os.path.abspath(__file__))
    # Python put this folder first, and its modules are called like the engines they import.
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    connection = socket.socket(fileno=int(words[0]))
    channel = Channel(connection, int(words[1]))
    _outlive_nobody(connection)
    try:
        path, keywords, folders, same = channel.receive()
        sys.path[:] = folders if same else [*folders, *sys.path]
        if not same:
            # The package without its front door and its neighbours: our packages are not for this Python.
            package = types.ModuleType("harness")
            package.__path__ = [words[2]]
            sys.modules["harness"] = package
        module, _, name = path.partition(":")
        served = getattr(importlib.import_module(module), name)(**keywords)
    except EOFError:
        return
    except BaseException as problem:
        channel.send({"error": _told(problem)})
        return
    channel.send({"value": {"python": sys.version.split()[0], "numpy": np.__version__}})
    try:
        serve(channel, served)
    finally:
        _end_all()


if __name__ == "__main__":
    main(sys.argv[1:])
