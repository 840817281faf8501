"""A world whose engine is a game in a process of its own: what every such backend does in the same way.

An adapter says how its engine starts a fresh world, plays a tick and takes a command. Here the scenario is built and
settles, what the engine counts becomes deltas and events, the crosshair is worked out where the engine does not tell
it, and a process that dies or hangs ends the episode, never the program.
"""

from __future__ import annotations

import contextlib
import math
import time
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from harness.errors import GameError, HarnessError, ScenarioError, WorldError
from harness.scenario.compile import to_commands
from harness.scenario.dialect import SETTLE, Dialect, check_command
from harness.scenario.schema import Scenario
from harness.scenario.setup import Point, WorldSetup
from harness.scenario.verification import Mob, Seen, Verification, expectations, verify
from harness.world.action import HOTBAR_KEYS, Action, noop_action
from harness.world.game_process import GameProcess, kill, last_lines
from harness.world.game_statistics import risen
from harness.world.observation import POV_SHAPE, Event, LookedAt, PlayerState, WorldState
from harness.world.sight import Scene, Target, box_of
from harness.world.watchdog import Watchdog
from harness.world.world import World

__all__ = ["GameFrame", "GameWorld", "whole_picture"]

_T = TypeVar("_T")
_DAY = 24000  # ticks
_LOGGING = 0.2  # seconds
_STRUCK_FOR = 4  # ticks for which a blow may still be what a statistic tells of


@dataclass(frozen=True)
class GameFrame:
    """What an engine tells after a tick; None where it cannot.

    Attributes:
        pov: uint8 [360, 640, 3] RGB, top row first.
        statistics: The game's counters since the world began, by the names of ``WorldState``.
        position: The player's feet, in blocks.
        yaw: Degrees.
        pitch: Degrees.
        health: Half hearts.
        dead: Whether the player died, and the engine plays no further.
        gui_open: Whether a screen such as the inventory is open.
        inventory: (slot, item, count) of all that the player carries; slots 0 to 8 are the hotbar.
        mobs: (type, position) of every creature near the player.
    """

    pov: npt.NDArray[np.uint8]
    statistics: Mapping[str, int] = field(default_factory=dict)
    position: Point | None = None
    yaw: float | None = None
    pitch: float | None = None
    health: float | None = None
    dead: bool = False
    gui_open: bool | None = None
    inventory: tuple[tuple[int, str, int], ...] | None = None
    mobs: tuple[tuple[str, Point], ...] | None = None


class GameWorld(World):
    """A world in a game.

    Args:
        scenario: What to build, how long to play, what to measure.
        render_mode: "rgb_array".
        start_patience: Seconds that starting the game and making a world may take.
        patience: Seconds that a tick may take.
        restart_every: Episodes after which the game's process is ended and started again, so that what it leaks is
            bounded.
        strict: Refuse a world that the game tells to be another than the scenario's.

    A subclass gives ``capabilities``, ``_start``, ``_play``, ``_send``, ``_stop`` and ``_processes``.
    """

    dialect: ClassVar[Dialect] = "1.16.5"
    command_ticks: ClassVar[int] = 2
    """Ticks after a command in mid-episode until the picture shows what it did; they are no steps."""
    trailing_ticks: ClassVar[int] = 2
    """Ticks after the last step in which statistics that come late are waited for."""
    session_ticks: ClassVar[int | None] = None
    """Ticks that the engine plays in one world, if there is a limit."""

    def __init__(self, scenario: Scenario, *, render_mode: str | None = "rgb_array", start_patience: float = 600.0,
                 patience: float = 60.0, restart_every: int = 50, strict: bool = True) -> None:
        super().__init__(scenario, render_mode=render_mode)
        for name, value in (("start_patience", start_patience), ("patience", patience),
                            ("restart_every", restart_every)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise WorldError(f"{name}: expected a number above 0, got {value!r}")
        self._start_patience, self._patience, self._restart_every = start_patience, patience, restart_every
        self._watchdog = Watchdog(f"{self.capabilities.backend} engine", self._kill)
        self._strict, self._n_worlds = strict, 0
        self.verification = Verification((), (), 0)
        """What was checked of the world after it settled, and what nothing is known of."""
        self._frame: GameFrame | None = None
        self._events: tuple[Event, ...] = ()
        self._velocity = (0.0, 0.0, 0.0)
        self._scene: Scene | None = None
        self._sure = True  # whether the scene knows where its creatures are
        self.ignored: Counter[str] = Counter()
        """How often each key was pressed that does nothing here."""

    # ---- what an adapter gives

    @abstractmethod
    def _start(self, setup: WorldSetup, seed: int) -> GameFrame:
        """Begin a fresh world from this seed, in a process that runs or that this starts."""

    @abstractmethod
    def _play(self, action: Action) -> GameFrame:
        """Play a tick under an action that has all keys."""

    @abstractmethod
    def _send(self, commands: Sequence[str]) -> GameFrame:
        """Run commands in order, each checked already; ticks may pass."""

    @abstractmethod
    def _stop(self) -> None:
        """End the engine in the manner it wants. It may be dead already."""

    @abstractmethod
    def _processes(self) -> list[GameProcess]:
        """The game's processes that this world started, as far as they are known now."""

    def _creatures(self) -> tuple[tuple[str, Point], ...] | None:
        """(type, position) of every creature near the player, asked for once; None when the engine does not say."""
        return self._running().mobs

    def _log(self) -> Path | None:
        """The game's log, or the folder with it."""
        return None

    # ---- the contract of World

    def _reset(self, setup: WorldSetup, seed: int) -> None:
        lines = to_commands(setup, self.dialect) if self.capabilities.commands else []
        settle = max(SETTLE[self.dialect], setup.settle_steps)
        self._check_length(len(lines) + settle)
        if self._n_worlds and self._n_worlds % self._restart_every == 0:
            self._quit()
        self._n_worlds += 1
        self._ticks, self._time, self._day_goes_on = 0, setup.time, bool(setup.rules.get("doDaylightCycle", False))
        self._scene, self._sure = Scene(setup), True
        self._selected = setup.player.selected
        self._struck: deque[LookedAt] = deque(maxlen=_STRUCK_FOR)
        self._dug: deque[LookedAt] = deque(maxlen=_STRUCK_FOR)
        self._attacking = False
        self.ignored.clear()
        self._frame = self._guarded("starting a world", self._start_patience, self._start, setup, seed)
        if lines:
            self._frame = self._guarded("building the world", self._start_patience, self._send, lines)
            self._ticks += len(lines)
        select = noop_action() | {HOTBAR_KEYS[setup.player.selected]: 1}
        for tick in range(settle):
            self._frame = self._advance(select if tick == 0 else noop_action())
        self._before, self._events, self._velocity = dict(self._frame.statistics), (), (0.0, 0.0, 0.0)
        if self._frame.dead:
            raise self._failed("the player died while the world was built")
        self._verify(setup, len(lines) + settle)

    def _verify(self, setup: WorldSetup, ticks: int) -> None:
        """Hold what the game tells of the world it built against the scenario."""
        frame = self._running()
        counts: Counter[str] = Counter()
        for _, item, count in frame.inventory or ():
            counts[item] += count
        mobs = self._guarded("asking for creatures", self._patience, self._creatures)
        seen = Seen(frame.position, frame.yaw, frame.pitch, frame.health,
                    None if frame.inventory is None else counts,
                    None if mobs is None else tuple(Mob(kind, feet) for kind, feet in mobs))
        self.verification = verify(expectations(setup, ticks), seen)
        if self._strict and self.verification.wrong:
            wrong = "; ".join(self.verification.wrong)
            raise WorldError(
                f"{self.capabilities.backend} did not build what the scenario says: {wrong}",
                hint="look at its first picture: harness scenario preview SCENARIO --backend "
                     f"{self.capabilities.backend}; strict=False plays on")

    def _check_length(self, n_before: int) -> None:
        n = n_before + self.scenario.episode.max_steps + self.trailing_ticks
        if self.session_ticks is not None and n > self.session_ticks:
            raise WorldError(
                f"an episode of {self.scenario.episode.max_steps} steps takes {n} ticks with what comes before it, and "
                f"{self.capabilities.backend} plays {self.session_ticks} in one world",
                hint=f"set episode.max_steps to {self.session_ticks - n_before - self.trailing_ticks} or less")

    def _tick(self, action: dict[str, Any]) -> None:
        before = self._running()
        if before.dead:
            raise WorldError("the player is dead, and the game plays no further", hint="call world.reset(seed=...)")
        if self.session_ticks is not None and self._ticks >= self.session_ticks:
            raise WorldError(f"{self.capabilities.backend} plays {self.session_ticks} ticks in one world, commands "
                             "included, and they are over", hint="set a smaller episode.max_steps")
        self._aim(action)
        frame = self._advance(self._allowed(action))
        if self._steps + 1 == self.scenario.episode.max_steps and not frame.dead:
            late = frame
            for _ in range(self.trailing_ticks):
                late = late if late.dead else self._advance(noop_action())
            frame = replace(frame, statistics=late.statistics)
        self._frame = frame
        self._events = self._happened(before, frame)
        if before.position and frame.position:
            a, b = before.position, frame.position
            self._velocity = (b[0] - a[0], b[1] - a[1], b[2] - a[2])

    def _advance(self, action: Action) -> GameFrame:
        frame = self._guarded("a step", self._patience, self._play, action)
        self._ticks += 1
        self._time = (self._time + self._day_goes_on) % _DAY
        return frame

    def _allowed(self, action: Action) -> Action:
        """The action without keys that do nothing here, which are counted."""
        for index, key in enumerate(HOTBAR_KEYS):
            if action[key]:
                self._selected = index
        pressed = [key for key in self.capabilities.missing_keys if action[key]]
        self.ignored.update(pressed)
        return action | dict.fromkeys(pressed, 0)

    def _aim(self, action: Action) -> None:
        """Remember what a blow meets: what statistics tell of comes a tick later and does not say whom."""
        sight = self._sight()
        pressed, self._attacking = bool(action["attack"]) and not self._attacking, bool(action["attack"])
        if sight is not None and sight.reachable:
            if pressed and sight.kind == "entity":
                self._struck.appendleft(sight)
            if action["attack"] and sight.kind == "block":
                self._dug.appendleft(sight)

    def _happened(self, before: GameFrame, now: GameFrame) -> tuple[Event, ...]:
        """Events worked out from what the game counted in a tick."""
        scene, events = self._scene, list[Event]()
        assert scene is not None
        for name, n in risen(now.statistics, before.statistics).items():
            group, _, what = name.rpartition(".")
            if name == "damage_dealt":
                hit = self._struck[0] if self._struck else None
                events.append({"type": "damage_entity", "entity": hit.name if hit else None, "tag": hit and hit.tag,
                               "amount": n / 10.0})
            elif group == "kill_entity":
                hit = next((sight for sight in self._struck if sight.name == what), None)
                events += n * [{"type": "kill_entity", "entity": what, "tag": hit and hit.tag}]
                self._forget(hit)
            elif group == "mine_block":
                scene.dig(what, self._dug)
                events += n * [{"type": "mine_block", "block": what}]
            elif group in ("pickup", "drop"):
                events.append({"type": group, "item": what, "count": n})
        if before.health is not None and now.health is not None and now.health < before.health:
            events.append({"type": "player_hurt", "amount": before.health - now.health, "health": now.health})
        if now.dead:
            events.append({"type": "player_died"})
        return tuple(events)

    def _forget(self, hit: LookedAt | None) -> None:
        assert self._scene is not None
        for target in self._scene.targets:
            if hit is not None and (target.type, target.tag) == (hit.name, hit.tag):
                self._scene.forget(target)
                return

    def _sight(self) -> LookedAt | None:
        frame, scene = self._running(), self._scene
        if scene is None or frame.position is None or frame.yaw is None or frame.pitch is None:
            return None
        return scene.look(frame.position, frame.yaw, frame.pitch, targets=self._targets(frame))

    def _targets(self, frame: GameFrame) -> Sequence[Target] | None:
        """Where the backend says that creatures are; None where it does not."""
        if frame.mobs is None or self.setup is None:
            return None
        tags: dict[str, list[str | None]] = {}
        for entity in self.setup.entities:
            tags.setdefault(entity.type, []).append(entity.tag)
        return [Target(kind, tags[kind][0] if len(tags.get(kind, ())) == 1 else None, box_of(kind, feet))
                for kind, feet in frame.mobs]

    def _pov(self) -> npt.NDArray[np.uint8]:
        return self._running().pov.copy()

    def world_state(self, *, segmentation: bool = False, depth: bool = False, blocks: bool = False) -> WorldState:
        """What the game tells, and what follows from it; ``capabilities.unknown`` says what does not.

        Raises:
            WorldError: before the first reset.
        """
        frame = self._running()
        health = 0.0 if frame.dead else 20.0 if frame.health is None else frame.health
        player = PlayerState(
            position=frame.position or (0.0, 0.0, 0.0), yaw=frame.yaw or 0.0, pitch=frame.pitch or 0.0,
            velocity=self._velocity, on_ground=math.isclose(self._velocity[1], 0.0, abs_tol=1e-3), health=health,
            selected=self._selected, hotbar=_hotbar(frame.inventory))
        return WorldState(self._ticks, self._time, player, (), risen(frame.statistics, self._before), self._events,
                          self._sight())

    def command(self, text: str) -> None:
        """Run one slash command; a few ticks pass that are no steps.

        Raises:
            WorldError: when this backend takes none, before the first reset, or for a command that the game would not
                take. The game itself does not tell when it refuses one.
        """
        if not self.capabilities.commands:
            super().command(text)
        self._running()
        try:
            check_command(text, self.dialect)
        except ScenarioError as problem:
            raise WorldError(problem.message, where=problem.where, hint=problem.hint) from problem
        before = self._running()
        self._frame = self._guarded("a command", self._patience, self._send, [text])
        self._ticks += 1
        for _ in range(self.command_ticks):
            self._frame = self._advance(noop_action())
        self._attacking = False
        assert self._scene is not None
        self._sure = self._scene.command(text) and self._sure
        words = text.strip().removeprefix("/").split()
        if words[:2] == ["time", "set"] and words[2:] and words[2].isdigit():
            self._time = int(words[2]) % _DAY
        self._events = (*self._events, *self._happened(before, self._frame))

    def source(self) -> dict[str, Any]:
        """What a recording's header says beside the capabilities."""
        return {"settle_ticks": SETTLE[self.dialect], "command_ticks": self.command_ticks,
                "unverified": list(self.verification.unknown)}

    def _info(self, state: WorldState) -> dict[str, Any]:
        """As every world's; with how often a key did nothing, and whether a command moved creatures out of sight."""
        return {**super()._info(state), "ignored": dict(self.ignored), "creatures_known": self._sure}

    def close(self) -> None:
        """End the game and all its processes; closing twice is fine."""
        self._quit()
        self.setup = None

    # ---- the process

    def _running(self) -> GameFrame:
        if self._frame is None:
            raise WorldError("there is no world yet", hint="call world.reset(seed=...) first")
        return self._frame

    def _guarded(self, what: str, seconds: float, call: Callable[..., _T], *arguments: Any) -> _T:
        """The call under the watchdog; whatever goes wrong in the engine ends its process and is a ``GameError``."""
        try:
            return self._watchdog.run(what, seconds, call, *arguments)
        except GameError as problem:
            raise self._failed(problem.message, problem.hint) from problem
        except HarnessError:
            raise
        except Exception as problem:  # whatever an engine raises
            raise self._failed(f"{what} failed: {type(problem).__name__}: {problem}") from problem
        except BaseException:
            self._drop()
            raise

    def _failed(self, what: str, hint: str | None = None) -> GameError:
        time.sleep(_LOGGING)  # whoever writes the log may be behind
        lines = last_lines(log) if (log := self._log()) else []
        self._drop()
        told = "".join(f"\n  | {line}" for line in lines)
        return GameError(f"{self.capabilities.backend}: {what}{told}", where=str(log) if lines else None,
                         hint=hint or "the game's process is ended; the next reset starts another")

    def _kill(self) -> None:
        kill(self._processes())

    def _drop(self) -> None:
        """End the processes at once, and forget them."""
        self._frame = None
        self._kill()
        self._watchdog.close()
        self._let_go()

    def _let_go(self) -> None:
        """Forget an engine whose process was ended; a subclass drops its objects here."""

    def _quit(self) -> None:
        """End the engine as it wants, and then what is left of it."""
        doomed = self._processes()
        self._frame = None
        with contextlib.suppress(Exception):  # it is ended below in any case
            if doomed:
                self._watchdog.run("stopping", self._patience, self._stop)
        kill(doomed)
        self._watchdog.close()
        self._let_go()


def _hotbar(inventory: tuple[tuple[int, str, int], ...] | None) -> tuple[tuple[str, int] | None, ...]:
    held = {slot: (item, count) for slot, item, count in inventory or ()}
    return tuple(held.get(slot) for slot in range(9))


def whole_picture(picture: Any) -> npt.NDArray[np.uint8]:
    """A picture as ``GameFrame`` holds it.

    Raises:
        GameError: for one of another size or type.
    """
    if not isinstance(picture, np.ndarray) or picture.shape != POV_SHAPE or picture.dtype != np.uint8:
        got = f"{picture.dtype} {list(picture.shape)}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise GameError(f"expected a picture, uint8 {list(POV_SHAPE)}, got {got}",
                        hint="the game's window must be 640 x 360: resolution in its options")
    return np.ascontiguousarray(picture)
