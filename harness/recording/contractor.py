"""What a person pressed: the action files of OpenAI's contractor and BASALT recordings.

One JSON object per line, one line per game tick: the keys and mouse buttons held, how far the mouse moved, whether a
screen was open, which hotbar slot was selected. Each row becomes MineRL's 24 keys, and by the agents' own mapping the
two numbers that a VPT policy would have had to say. Row i belongs to picture i of the video.

The format and its quirks are those of openai/Video-Pre-Training (README, data_loader.py,
run_inverse_dynamics_model.py), written anew from their description.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from harness.agent.action_mapping import NULL_BUTTONS, NULL_CAMERA, to_policy
from harness.agent.agent import Agent, AgentOutput
from harness.errors import RecordingError
from harness.world.action import Action, check_action, noop_action
from harness.world.observation import Observation

__all__ = [
    "DEGREES_PER_PIXEL", "GUI_SCALES", "KEYBOARD", "MOUSE", "ActionFile", "HumanAgent", "HumanInput",
    "policy_tokens", "read_action_file",
]

KEYBOARD: Mapping[str, str] = {
    "key.keyboard.w": "forward", "key.keyboard.s": "back", "key.keyboard.a": "left", "key.keyboard.d": "right",
    "key.keyboard.space": "jump", "key.keyboard.left.shift": "sneak", "key.keyboard.left.control": "sprint",
    "key.keyboard.q": "drop", "key.keyboard.e": "inventory", "key.keyboard.f": "swapHands",
    "key.keyboard.escape": "ESC", **{f"key.keyboard.{i}": f"hotbar.{i}" for i in range(1, 10)},
}
"""The game's key names to MineRL's; other keys do nothing in the game and are counted."""
MOUSE: Mapping[int, str] = {0: "attack", 1: "use", 2: "pickItem"}
DEGREES_PER_PIXEL = 360.0 / 2400.0
GUI_SCALES: Mapping[str, float] = {"5.7": 0.5, "5.8": 0.5, "6.7": 2.0, "6.8": 2.0, "6.9": 2.0}
"""Recorder version to what its mouse movements are multiplied with while a screen is open; 1 for all others."""

_KEY_NAME = re.compile(r"[a-z]+(\.[a-z0-9]+)+")
_LONGEST_LINE = 4 << 20
_MOST_ROWS = 100_000
_MOST_KEYS = 256
_FARTHEST = 1e6


@dataclass(frozen=True)
class HumanInput:
    """One row.

    Attributes:
        row: Its number, 0 for the first.
        action: MineRL's 24 keys; the camera in degrees as moved, not yet on the policy's grid.
        tokens: The policy's {"buttons", "camera"} for it.
        gui: Whether a screen (inventory, chest, menu) was open.
        cursor: Where the mouse pointed, in pixels of a picture 720 high; None while no screen is open.
    """

    row: int
    action: Action
    tokens: Mapping[str, int]
    gui: bool
    cursor: tuple[float, float] | None

    @property
    def null(self) -> bool:
        """Whether it does nothing, as the policy says it: no button, no turn."""
        return self.tokens == {"buttons": NULL_BUTTONS, "camera": NULL_CAMERA}


@dataclass(frozen=True)
class ActionFile:
    """An action file, read.

    Attributes:
        path: The file.
        sha256: Of its bytes.
        inputs: One per row.
        notes: What had to be settled, for the recording's header: ``attack_stuck`` and ``escape_as_inventory`` count
            rows, ``hotbar_from_slot`` counts presses (None where the recorder did not write the slot),
            ``unmapped_keys`` counts rows by key.
    """

    path: Path
    sha256: str
    inputs: tuple[HumanInput, ...]
    notes: Mapping[str, Any]


def policy_tokens(action: Mapping[str, Any], *, gui: bool) -> dict[str, int]:
    """VPT's {"buttons", "camera"} for what a person did.

    ``to_policy``, but for the key that VPT lacks and whose meaning it has: ESC while a screen is open closes it, and
    VPT was trained on that as the inventory key.
    """
    closes = gui and bool(action["ESC"])
    buttons, camera = to_policy({**action, "inventory": 1} if closes else action)
    return {"buttons": buttons, "camera": camera}


def read_action_file(path: str | Path, *, gui_scale: float = 1.0) -> ActionFile:
    """Read an action file whole; of each row only what decides the action is kept.

    Args:
        path: The ``.jsonl`` file.
        gui_scale: From ``GUI_SCALES``.

    Raises:
        RecordingError: for a file that cannot be read or is too large, and for the first row that is not one, with
            its line.
    """
    path = Path(path)
    reader = _Reader(path, gui_scale)
    digest = hashlib.sha256()
    inputs: list[HumanInput] = []
    try:
        for line in _lines(path):
            digest.update(line)
            inputs.append(reader.read(len(inputs), line))
    except OSError as problem:
        raise RecordingError(f"cannot read the action file: {problem.strerror or problem}", where=str(path),
                             hint="expected the .jsonl file that belongs to the video") from problem
    if not inputs:
        raise RecordingError("the action file has no rows", where=str(path))
    return ActionFile(path, digest.hexdigest(), tuple(inputs), reader.notes())


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for number in range(1, _MOST_ROWS + 2):
            line = file.readline(_LONGEST_LINE + 1)
            if not line:
                return
            where = f"{path}:{number}"
            if len(line) > _LONGEST_LINE:
                raise RecordingError(f"the line is longer than {_LONGEST_LINE >> 20} MB", where=where)
            if number > _MOST_ROWS:
                raise RecordingError(f"the action file has more than {_MOST_ROWS} rows", where=where)
            yield line


class _Reader:
    """Turns rows into inputs, in order: some of what a row means hangs on those before it."""

    def __init__(self, path: Path, gui_scale: float) -> None:
        self._path, self._gui_scale = path, gui_scale
        self._where = str(path)
        self._stuck = False
        self._slot: int | None = 0
        self._counts: Counter[str] = Counter()
        self._unmapped: Counter[str] = Counter()

    def notes(self) -> dict[str, Any]:
        """For ``ActionFile.notes``."""
        return {"attack_stuck": self._counts["stuck"], "escape_as_inventory": self._counts["escape"],
                "hotbar_from_slot": None if self._slot is None else self._counts["hotbar"],
                "unmapped_keys": dict(sorted(self._unmapped.items()))}

    def read(self, number: int, line: bytes) -> HumanInput:
        """The input of one row.

        Raises:
            RecordingError: when it is none.
        """
        self._where = f"{self._path}:{number + 1}"
        row = self._parse(line)
        mouse, keyboard = self._field(row, "mouse", dict), self._field(row, "keyboard", dict)
        gui = self._field(row, "isGuiOpen", bool)
        held, pressed = self._buttons(mouse, "buttons"), self._buttons(mouse, "newButtons")
        self._stuck = pressed == [0] if number == 0 else self._stuck and 0 not in pressed
        if self._stuck and 0 in held:
            held = [button for button in held if button != 0]
            self._counts["stuck"] += 1
        action = noop_action()
        self._press(action, self._keys(keyboard), held)
        self._select(action, number, row)
        scale = DEGREES_PER_PIXEL * (self._gui_scale if gui else 1.0)
        turn = [self._number(mouse, axis) * scale for axis in ("dy", "dx")]
        action["camera"] = np.clip(np.array(turn), -180.0, 180.0).astype(np.float32)
        self._counts["escape"] += int(gui and action["ESC"])
        cursor = (self._number(mouse, "x"), self._number(mouse, "y")) if gui else None
        return HumanInput(number, action, policy_tokens(action, gui=gui), gui, cursor)

    def _parse(self, line: bytes) -> dict[str, Any]:
        try:
            row = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError) as problem:
            words = "it is nested too deeply" if isinstance(problem, RecursionError) else str(problem)
            self._refuse(f"the row is no JSON: {words}" if line.strip() else "the row is empty")
        if not isinstance(row, dict):
            self._refuse(f"expected a row, a JSON object, got {_brief(row)}")
        return row

    def _press(self, action: Action, keys: list[str], buttons: list[int]) -> None:
        for key in dict.fromkeys(keys):
            if key in KEYBOARD:
                action[KEYBOARD[key]] = 1
            else:
                self._count_unmapped(key)
        for button in dict.fromkeys(buttons):
            if button in MOUSE:
                action[MOUSE[button]] = 1
            else:
                self._count_unmapped(f"mouse.{button}")

    def _count_unmapped(self, name: str) -> None:
        self._unmapped[name] += 1
        if len(self._unmapped) > _MOST_KEYS:
            self._refuse(f"more than {_MOST_KEYS} different keys that the game does not know")

    def _select(self, action: Action, number: int, row: Mapping[str, Any]) -> None:
        """Another slot than in the row before was selected, by key or by wheel: the key of that slot was pressed."""
        if number == 0 and "hotbar" not in row:
            self._slot = None  # recorders before 6.11 did not write it
        if self._slot is None:
            if "hotbar" in row:
                self._refuse('"hotbar" is here and was missing in the first row')
            return
        slot = self._field(row, "hotbar", int)
        if not 0 <= slot <= 8:
            self._refuse(f'"hotbar": expected a slot from 0 to 8, got {slot}')
        if slot != self._slot:
            self._counts["hotbar"] += not action[f"hotbar.{slot + 1}"]
            action[f"hotbar.{slot + 1}"] = 1
        self._slot = slot

    def _keys(self, keyboard: Mapping[str, Any]) -> list[str]:
        keys = self._field(keyboard, "keys", list, "keyboard.")
        for key in keys:
            if not isinstance(key, str) or len(key) > 64 or not _KEY_NAME.fullmatch(key):
                self._refuse(f'"keyboard.keys": expected names such as "key.keyboard.w", got {_brief(key)}')
        return list(keys)

    def _buttons(self, mouse: Mapping[str, Any], name: str) -> list[int]:
        buttons = self._field(mouse, name, list, "mouse.")
        for button in buttons:
            if type(button) is not int or not 0 <= button < 64:
                self._refuse(f'"mouse.{name}": expected numbers of buttons such as 0, got {_brief(button)}')
        return list(buttons)

    def _number(self, mouse: Mapping[str, Any], name: str) -> float:
        value = self._field(mouse, name, float, "mouse.")
        if not abs(value) <= _FARTHEST:  # an infinity is a number for JSON's reader: 1e999
            self._refuse(f'"mouse.{name}": expected pixels, got {_brief(value)}')
        return float(value)

    def _field(self, table: Mapping[str, Any], name: str, kind: type, path: str = "") -> Any:
        if name not in table:
            self._refuse(f'the row has no "{path}{name}"')
        value = table[name]
        fits = type(value) in (int, float) if kind is float else type(value) is kind
        if not fits:
            self._refuse(f'"{path}{name}": expected {_WORDS[kind]}, got {_brief(value)}')
        return value

    def _refuse(self, message: str) -> NoReturn:
        raise RecordingError(message, where=self._where,
                             hint="expected rows of keyboard and mouse as in OpenAI's contractor recordings")


_WORDS: Mapping[type, str] = {dict: "an object", list: "a list", bool: "true or false", int: "a whole number",
                              float: "a number"}


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number in JSON")


def _brief(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return json.dumps(value[:40] if isinstance(value, str) else value)[:44]


class HumanAgent(Agent):
    """Does what a person did.

    Args:
        actions: MineRL's 24 keys, in order.
        guis: Whether a screen was open, for each; the policy's tokens depend on it.

    Raises:
        WorldError: for an action that is not one.
    """

    name = "human"
    description = "a person's play, imported"

    def __init__(self, actions: Sequence[Mapping[str, Any]], guis: Sequence[bool]) -> None:
        self._actions: list[Action] = [check_action(action) for action in actions]
        self._guis = list(guis)

    def initial_state(self) -> int:
        """The number of the next action."""
        return 0

    def act(self, observation: Observation, state: int, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        """The next action, and the policy's tokens for it.

        Raises:
            RecordingError: when there is none left.
        """
        self.resolve_hooks(hooks)
        if state >= len(self._actions):
            raise RecordingError(f"the person did {len(self._actions)} actions, and step {state} asks for another")
        action = {**self._actions[state], "camera": self._actions[state]["camera"].copy()}
        return AgentOutput(action, state + 1, tokens=policy_tokens(action, gui=self._guis[state]))

    def save_state(self, state: int) -> dict[str, npt.NDArray[Any]]:
        """The number of the next action."""
        return {"next": np.array(state, dtype=np.int64)}

    def load_state(self, arrays: Mapping[str, npt.NDArray[Any]]) -> int:
        """Back from ``save_state``."""
        return int(arrays["next"])
