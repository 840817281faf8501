"""Users' own environments as worlds: any of Gym's or Gymnasium's interface, see docs/your-environment.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from harness.errors import GameError, WorldError, unknown_name
from harness.scenario.schema import Scenario
from harness.scenario.setup import WorldSetup
from harness.world.action import BUTTONS
from harness.world.gymnasium_driver import GymnasiumDriver
from harness.world.observation import POV_SHAPE, Observation, PlayerState, WorldState
from harness.world.remote import Remote
from harness.world.world import Capabilities, World

__all__ = ["GymnasiumWorld"]

_TURNS = ("pitch", "yaw")
_FITS = ("letterbox", "stretch")


class GymnasiumWorld(World):
    """An environment of Gym's or Gymnasium's interface.

    Args:
        scenario: Names the episode, bounds its length and says what to count; its blocks and creatures are not built.
        environment: An id for ``gymnasium.make``, or ``"module:callable"`` that makes an environment.
        picture: Where the picture is: a key of the observation, with dots into what is nested; "" for the observation
            itself; None for ``render()``.
        actions: How the 24 keys become the environment's action, see docs/your-environment.md: a table of rules in
            order with the first that fits (``[{"press": ["attack"], "action": 1}, {"action": 0}]``), or a mapping from
            the environment's keys to ours (``{"jump": "jump", "turn": "camera"}``).
        fit: How a picture of another size becomes 640 x 360: "letterbox" keeps its proportions between black bars,
            "stretch" does not.
        counts: Our statistics, by which outcomes are counted, to names of numbers in the environment's info that only
            rise in an episode: ``{"mine_block.oak_log": "logs"}``.
        arguments: For ``make`` or the callable.
        python: Run it in another Python, see ``Remote``; None for this process.
        path: Folders to import it from; only with ``python``.
        patience: Seconds that a step may take in another Python.

    Raises:
        WorldError: for an environment that cannot be made, and a table that names unknown keys or is none.
    """

    def __init__(self, scenario: Scenario, *, environment: str | None = None, picture: str | None = None,
                 actions: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
                 fit: Literal["letterbox", "stretch"] = "letterbox", counts: Mapping[str, str] | None = None,
                 arguments: Mapping[str, Any] | None = None, python: str | Path | None = None,
                 path: Sequence[str | Path] = (), patience: float = 60.0,
                 render_mode: str | None = "rgb_array") -> None:
        super().__init__(scenario, render_mode=render_mode)
        if environment is None or actions is None:
            raise WorldError("the gymnasium backend needs an environment, and a table of its actions",
                             hint="make_world(scenario, 'gymnasium', environment='CartPole-v1', actions=[...]); "
                                  "docs/your-environment.md")
        if fit not in _FITS:
            raise unknown_name("fit", str(fit), _FITS, error=WorldError)
        self._environment, self._fit = environment, fit
        self._actions, self._counts = _Table(actions), dict(counts or {})
        self.capabilities = Capabilities("gymnasium", game=environment, statistics=bool(counts), raycast=False,
                                         unknown=("the player's place and view, blocks and creatures",))
        keywords: dict[str, Any] = {
            "environment": environment, "keywords": dict(arguments or {}), "picture": picture}
        self._remote = None if python is None else Remote(
            "harness.world.gymnasium_driver:GymnasiumDriver", keywords, called=environment, python=python, path=path,
            patience=patience)
        self._driver = None if self._remote else GymnasiumDriver(**keywords)
        self._told: Mapping[str, Any] | None = None

    def _ask(self, method: str, *arguments: Any) -> Any:
        if self._remote is None:
            return getattr(self._driver, method)(*arguments)
        return self._remote.call(method, *arguments)

    def source(self) -> Mapping[str, Any]:
        """What a recording's header says: which environment, and what was done to pictures and actions."""
        return {"environment": self._environment, "fit": self._fit, "actions": self._actions.told,
                "counts": self._counts}

    def step(self, action: Mapping[str, Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """As ``World.step``; the environment's own end is an end too, and its reward is in ``info``."""
        if self._told is not None and self._told["over"]:
            raise WorldError(f"the episode of {self._environment} is over", hint="call world.reset(seed=...)")
        observation, reward, terminated, truncated, info = super().step(action)
        assert self._told is not None
        terminated = terminated or self._told["terminated"]
        truncated = not terminated and (truncated or self._told["over"])
        return observation, reward, terminated, truncated, {
            **info, "reward": self._told["reward"], "environment": self._told["info"]}

    def _reset(self, setup: WorldSetup, seed: int) -> None:
        if self._remote is not None:
            self._remote.start()
        self._ticks, self._statistics = 0, dict[str, int]()
        self._take(self._ask("reset", seed))

    def _tick(self, action: dict[str, Any]) -> None:
        self._ticks += 1
        self._take(self._ask("step", self._actions.translate(action)))

    def _take(self, told: Mapping[str, Any]) -> None:
        picture = told["picture"]
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3:
            raise GameError(f"{self._environment} sent no picture, but {type(picture).__name__}")
        for statistic, name in self._counts.items():
            # Not every environment tells a number before it counts something.
            self._statistics[statistic] = max(self._statistics.get(statistic, 0), int(told["info"].get(name, 0)))
        self._told, self._shown = told, _fitted(picture, self._fit)

    def _pov(self) -> npt.NDArray[np.uint8]:
        return self._shown.copy()

    def world_state(self, *, segmentation: bool = False, depth: bool = False, blocks: bool = False) -> WorldState:
        """Nothing is known but the environment's own numbers: a player at the origin stands in."""
        if self._told is None:
            raise WorldError("there is no world yet", hint="call world.reset(seed=...) first")
        player = PlayerState((0.0, 0.0, 0.0), 0.0, 0.0, (0.0, 0.0, 0.0), True, 20.0, 0, (None,) * 9)
        return WorldState(self._ticks, 0, player, (), dict(self._statistics), (), None)

    def close(self) -> None:
        """Close the environment."""
        if self._remote is not None:
            self._remote.close()
        elif self._driver is not None:
            self._driver.close()


class _Table:
    """How our keys become an environment's action."""

    def __init__(self, rows: Any) -> None:
        self.told = rows
        self._rules: list[tuple[tuple[str, ...], Any]] | None = None
        if isinstance(rows, Mapping) and rows:
            self._keys = {str(name): str(ours) for name, ours in rows.items()}
            for ours in self._keys.values():
                if ours not in (*BUTTONS, "camera", *(f"camera.{turn}" for turn in _TURNS)):
                    raise unknown_name("action key", ours, (*BUTTONS, "camera", "camera.pitch", "camera.yaw"),
                                       where="actions", error=WorldError)
        elif isinstance(rows, Sequence) and not isinstance(rows, str) and rows:
            self._rules = [_rule(row, f"actions[{index}]") for index, row in enumerate(rows)]
            if self._rules[-1][0]:
                raise WorldError("the last rule of the actions presses keys, so some of ours would have no action",
                                 where=f"actions[{len(rows) - 1}]", hint="end with {action: ...} for nothing pressed")
        else:
            raise WorldError(f"actions: expected rules or a mapping of keys, got {rows!r}")

    def translate(self, action: Mapping[str, Any]) -> Any:
        """The environment's action, as JSON values and arrays."""
        if self._rules is not None:
            return next(theirs for press, theirs in self._rules if all(_pressed(action, key) for key in press))
        return {name: _value(action, ours) for name, ours in self._keys.items()}


def _rule(row: Any, where: str) -> tuple[tuple[str, ...], Any]:
    if not isinstance(row, Mapping) or "action" not in row or not set(row) <= {"press", "action"}:
        raise WorldError(f"expected a rule such as {{press: [attack], action: 1}}, got {row!r}", where=where)
    press = row.get("press", [])
    if not isinstance(press, Sequence) or isinstance(press, str):
        raise WorldError(f"press: expected a list of keys, got {press!r}", where=where)
    known = (*BUTTONS, *(f"camera.{turn}{sign}" for turn in _TURNS for sign in "+-"))
    for key in press:
        if key not in known:
            raise unknown_name("action key", str(key), known, where=where, error=WorldError)
    return tuple(press), row["action"]


def _pressed(action: Mapping[str, Any], key: str) -> bool:
    if not key.startswith("camera."):
        return bool(action[key])
    turn = float(action["camera"][_TURNS.index(key[7:-1])])
    return turn > 0 if key.endswith("+") else turn < 0


def _value(action: Mapping[str, Any], ours: str) -> Any:
    if ours.startswith("camera."):
        return float(action["camera"][_TURNS.index(ours[7:])])
    return action[ours]


def _fitted(picture: npt.NDArray[np.uint8], fit: str) -> npt.NDArray[np.uint8]:
    """uint8 [360, 640, 3]."""
    height, width = POV_SHAPE[:2]
    scale = min(height / picture.shape[0], width / picture.shape[1])
    size = (width, height) if fit == "stretch" else (
        max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    if size == (picture.shape[1], picture.shape[0]):
        resized = picture
    else:
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        resized = np.asarray(cv2.resize(picture, size, interpolation=how), dtype=np.uint8)
    if resized.shape == POV_SHAPE:
        return resized
    framed = np.zeros(POV_SHAPE, dtype=np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    framed[top:top + size[1], left:left + size[0]] = resized
    return framed
