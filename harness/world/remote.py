"""An engine in a process of its own, which may be another Python: pins that clash with ours, and no hang that is ours.

``Remote`` starts ``serve.py`` there and calls the object that it serves. Socket and shared memory have no name, so none
is left behind whoever dies first; the process leads a group of its own, so all that the engine started dies with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from harness.errors import GameError, HarnessError, WorldError
from harness.scenario.schema import Scenario
from harness.scenario.setup import WorldSetup
from harness.world import serve
from harness.world.observation import EntityState, LookedAt, Observation, PlayerState, WorldState, observation_space
from harness.world.world import Capabilities, World

__all__ = ["Remote", "RemoteWorld"]

_LOG_LINES = 12
_CLOSING = 10.0  # seconds that an engine has to stop by itself
_DYING = 0.2  # seconds


class Remote:
    """An object in another process.

    Args:
        factory: What makes it there: "module:callable". Its public methods take and return JSON values, bytes, and
            arrays of numbers.
        keywords: For ``factory``.
        called: What errors call it.
        python: The Python to run it in, a path or a name on PATH; None for this one. Another one needs NumPy, and the
            modules of ``harness`` that ``factory`` imports come from here, without our environment's packages.
        path: Folders to import from before others.
        patience: Seconds that a call may take.
        start_patience: Seconds that starting may take, ``factory`` included.

    Raises:
        WorldError: when there is no such Python.
    """

    def __init__(self, factory: str, keywords: Mapping[str, Any] | None = None, *, called: str = "the engine",
                 python: str | Path | None = None, path: Sequence[str | Path] = (), patience: float = 60.0,
                 start_patience: float = 600.0) -> None:
        for name, value in (("patience", patience), ("start_patience", start_patience)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise WorldError(f"{name}: expected a number above 0, got {value!r}")
        self.called, self._factory, self._keywords = called, factory, dict(keywords or {})
        self._same = python is None
        found = sys.executable if python is None else shutil.which(Path(python).expanduser())
        if found is None:
            raise WorldError(f"there is no Python at {str(python)!r}, or it cannot be run",
                             hint="name the executable of an environment, such as ~/engine/bin/python")
        self._python = found
        self._path = [str(Path(folder).expanduser().resolve()) for folder in path]
        self._patience, self._start_patience = patience, start_patience
        self._process: subprocess.Popen[bytes] | None = None
        self.about: Mapping[str, str] = {}
        """Versions over there: ``python`` and ``numpy``."""

    @property
    def pid(self) -> int | None:
        """Of the process, None while there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process, if it does not run.

        Raises:
            WorldError: (or another HarnessError) when it cannot be started, or ``factory`` fails.
        """
        if self._process is not None:
            return
        ours, theirs = socket.socketpair()
        channel, log = serve.Channel(ours, _nameless_memory()), tempfile.TemporaryFile()  # noqa: SIM115
        try:
            with theirs:
                self._process = self._launched(theirs.fileno(), channel.memory, log)
        except OSError as problem:
            channel.close()
            log.close()
            raise WorldError(f"{self._python} cannot be run: {problem.strerror}", hint=self._needs()) from problem
        self._channel, self._log = channel, log
        self._end = weakref.finalize(self, _end, self._process, channel, log)
        folders = [*self._path, *(sys.path if self._same else ())]
        self.about = self._exchange("starting", [self._factory, self._keywords, folders, self._same],
                                    self._start_patience)

    def _launched(self, connection: int, memory: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        ours = () if self._same else ("PYTHONPATH", "PYTHONHOME")  # they are meant for this Python
        package = Path(__file__).parents[1]
        return subprocess.Popen(
            [self._python, "-u", serve.__file__, str(connection), str(memory), str(package)],
            pass_fds=(connection, memory), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={name: value for name, value in os.environ.items() if name not in ours})

    def call(self, method: str, *arguments: Any, patience: float | None = None, **keywords: Any) -> Any:
        """Call a method of the object.

        Args:
            method: Its name.
            arguments: As JSON values, bytes, and arrays of numbers.
            patience: Seconds it may take; None for the usual ones.
            keywords: Like the arguments.

        Raises:
            HarnessError: what the method raised; anything that is none of ours becomes a WorldError.
            GameError: when the process died, hung or talked nonsense. It is ended then, and ``start`` starts another.
        """
        if self._process is None:
            raise WorldError(f"{self.called} does not run", hint="reset the world: that starts it again")
        return self._exchange(method, [method, arguments, keywords], self._patience if patience is None else patience)

    def _exchange(self, method: str, message: Any, patience: float) -> Any:
        doing, starting = _doing(method), method == "starting"
        try:
            answer = self._answer(message, patience)
            value, problem = answer.get("value"), answer.get("error")
        except (EOFError, ConnectionError):
            time.sleep(_DYING)  # so that it has ended by itself, and tells its own status
            raise self._ended(f"died while {doing}", self._needs() if starting else None) from None
        except TimeoutError:
            raise self._ended(f"did not answer within {patience:g} s while {doing}") from None
        except (serve.Garbled, AttributeError) as garbled:
            raise self._ended(f"answered nonsense while {doing} ({garbled})") from garbled
        except TypeError:  # of our own: nothing was sent
            raise
        except BaseException:  # Ctrl-C between question and answer: the next answer would be the wrong one
            self._end()
            self._process = None
            raise
        if problem is None:
            return value
        if starting:
            self.close()
        raise self._raised(problem, doing)

    def _answer(self, message: Any, patience: float) -> Any:
        self._channel.until = time.monotonic() + patience
        self._channel.connection.settimeout(patience)
        self._channel.send(message)
        return self._channel.receive()

    def _raised(self, problem: Mapping[str, Any], doing: str) -> HarnessError:
        kind = _kinds(HarnessError).get(problem["type"])
        if kind is not None:
            return kind(problem["message"], where=problem["where"], hint=problem["hint"])
        lines = str(problem["traceback"]).rstrip().splitlines()[-_LOG_LINES:]
        return WorldError(f"{self.called} failed while {doing}: {problem['type']}: {problem['message']}\n"
                          + "\n".join(f"  | {line}" for line in lines))

    def _ended(self, what: str, hint: str | None = None) -> GameError:
        """End the process, and tell why with the last that it said."""
        assert self._process is not None
        process, self._process = self._process, None
        said = "".join(f"\n  | {line}" for line in _last_lines(self._log))
        self._end()
        code = process.returncode
        status = f"signal {-code}" if code < 0 else f"exit status {code}"
        log = f"the last lines of its log:{said}" if said else "its log is empty"
        return GameError(f"{self.called} {what}; it was ended ({status}), and {log}", hint=hint)

    def _needs(self) -> str:
        return f"it must be a Python of 3.8 or later with NumPy: {self._python} -m pip install numpy"

    def close(self) -> None:
        """End the process and all that it started; again and again does no harm."""
        if self._process is None:
            return
        with contextlib.suppress(OSError, EOFError, serve.Garbled):
            self._answer(["close", [], {}], _CLOSING)
        self._process = None
        self._end()


def _kinds(base: type[HarnessError]) -> dict[str, type[HarnessError]]:
    """An error and all that derive from it, by name."""
    found = {base.__name__: base}
    for kind in base.__subclasses__():
        found |= _kinds(kind)
    return found


def _doing(method: str) -> str:
    return "starting" if method == "starting" else f"it was asked to {method}"


def _nameless_memory() -> int:
    """An open file that lies in memory where the system can, and that nobody can leave behind."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("harness")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _end(process: subprocess.Popen[bytes], channel: serve.Channel, log: IO[bytes]) -> None:
    channel.close()
    # Before it is waited for: until then nobody else can get its number.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    log.close()


def _last_lines(log: IO[bytes]) -> list[str]:
    log.seek(max(0, os.fstat(log.fileno()).st_size - 8192))
    lines = log.read().decode(errors="replace").splitlines()
    return ["".join(c for c in line if c.isprintable())[:300] for line in lines if line.strip()][-_LOG_LINES:]


class RemoteWorld(World):
    """A world of any backend in a process of its own: it is there what it would be here.

    Args:
        scenario: What to build, how long to play, what to measure.
        engine: The backend that builds it over there.
        options: For that backend.
        python: As for ``Remote``; the environment must hold Harness's own requirements, and the engine's.
        path: As for ``Remote``.
        patience: Seconds that a step, a command or a reset may take.
        start_patience: Seconds that starting may take.
        restart_every: Begin a fresh process every so many episodes, which bounds what an engine leaks.

    Raises:
        WorldError: when the process cannot be started, or the backend refuses what it is given.
    """

    _factory = "harness.world.hosted:HostedWorld"

    def __init__(self, scenario: Scenario, *, engine: str = "blockworld",
                 options: Mapping[str, Any] | None = None, python: str | Path | None = None,
                 path: Sequence[str | Path] = (), patience: float = 120.0, start_patience: float = 600.0,
                 restart_every: int | None = None, render_mode: str | None = "rgb_array") -> None:
        super().__init__(scenario, render_mode=render_mode)
        if restart_every is not None and (type(restart_every) is not int or restart_every < 1):
            raise WorldError(f"restart_every: expected a number of episodes from 1 up, got {restart_every!r}")
        self._restart_every, self._episodes = restart_every, 0
        told = scenario.model_dump(mode="json", by_alias=True)
        self._remote = Remote(
            self._factory, {"scenario": told, "backend": engine, "keywords": dict(options or {})},
            called=f"the {engine} world in another process", python=python, path=path, patience=patience,
            start_patience=start_patience)
        self._start()

    def _start(self) -> None:
        self._remote.start()
        self.capabilities = _record(Capabilities, self._remote.call("capabilities"))
        self._notes = tuple(self._remote.call("notes"))
        self.observation_space = observation_space((*self.capabilities.picture, 3))

    def notes(self) -> tuple[str, ...]:
        """As ``World.notes``."""
        return self._notes

    def source(self) -> Mapping[str, Any]:
        """What a recording's header says: the Python that the world runs in."""
        return {"remote": dict(self._remote.about)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None
              ) -> tuple[Observation, dict[str, Any]]:
        """As ``World.reset``; a process that has ended is started again."""
        self._episodes += 1
        if self._restart_every is not None and self._episodes > self._restart_every:
            self._remote.close()
            self._episodes = 1
        self._start()
        return self._seen(self._remote.call("reset", seed=seed, options=options))

    def step(self, action: Mapping[str, Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """As ``World.step``."""
        if not isinstance(action, Mapping):
            raise WorldError(f"expected an action, a mapping of keys, got {action!r}")
        pov, terminated, truncated, info = self._remote.call("step", dict(action))
        return {"pov": self._checked(pov)}, 0.0, terminated, truncated, info

    def observe(self) -> tuple[Observation, dict[str, Any]]:
        """As ``World.observe``."""
        return self._seen(self._remote.call("observe"))

    def _seen(self, answer: Any) -> tuple[Observation, dict[str, Any]]:
        pov, info = answer
        return {"pov": self._checked(pov)}, info

    def _checked(self, pov: Any) -> npt.NDArray[np.uint8]:
        wanted = (*self.capabilities.picture, 3)
        if not isinstance(pov, np.ndarray) or pov.shape != wanted or pov.dtype != np.uint8:
            came = f"{pov.dtype} {list(pov.shape)}" if isinstance(pov, np.ndarray) else type(pov).__name__
            self._remote.close()
            raise GameError(f"{self._remote.called} sent no picture: expected uint8 {list(wanted)}, got {came}")
        return pov

    def _pov(self) -> npt.NDArray[np.uint8]:
        return self._checked(self._remote.call("render"))

    def world_state(self, *, segmentation: bool = False, depth: bool = False, blocks: bool = False) -> WorldState:
        """As ``World.world_state``."""
        told = self._remote.call("world_state", segmentation=segmentation, depth=depth, blocks=blocks)
        return _state(told)

    def picture_without(self, numbers: Collection[int]) -> npt.NDArray[np.uint8]:
        """As ``World.picture_without``."""
        return self._checked(self._remote.call("picture_without", [int(number) for number in numbers]))

    def command(self, text: str) -> None:
        """As ``World.command``."""
        self._remote.call("command", text)

    def snapshot(self) -> bytes:
        """As ``World.snapshot``."""
        snapshot: bytes = self._remote.call("snapshot")
        return snapshot

    def restore(self, snapshot: bytes) -> None:
        """As ``World.restore``; a process that has ended is started again."""
        self._start()
        self._remote.call("restore", snapshot)

    def close(self) -> None:
        """End the process."""
        self._remote.close()

    def _reset(self, setup: WorldSetup, seed: int) -> None:
        raise AssertionError("the world over there is reset")

    def _tick(self, action: dict[str, Any]) -> None:
        raise AssertionError("the world over there plays the tick")


def _state(told: Mapping[str, Any]) -> WorldState:
    """A ``WorldState`` from its fields as JSON values and arrays."""
    sight, names, parts = told["looking_at"], told["names"], told["part_names"]
    return WorldState(**{
        **told, "player": _record(PlayerState, told["player"]), "events": tuple(told["events"]),
        "entities": tuple(_record(EntityState, entity) for entity in told["entities"]),
        "looking_at": None if sight is None else _record(LookedAt, sight),
        "blocks_origin": tuple(told["blocks_origin"]), "names": {int(n): name for n, name in names.items()},
        "part_names": {int(n): name for n, name in parts.items()}})


def _record(kind: Callable[..., Any], fields: Mapping[str, Any]) -> Any:
    """A record of numbers, texts and tuples: JSON knows no tuples."""
    return kind(**{name: _tuples(value) for name, value in fields.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
