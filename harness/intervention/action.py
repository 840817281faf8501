"""Interventions on what the agent does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from harness.errors import HarnessError, InterventionError, unknown_name
from harness.intervention.intervention import Intervention, Moment, Site
from harness.world.action import BUTTONS, KEYS, Action, check_action, noop_action

__all__ = ["ActionDelay", "ActionNoise", "ActionOverride", "ActionSequence", "KeyBlock"]

_BODY = ("attack", "back", "forward", "jump", "left", "right", "sneak", "sprint", "use")
"""What moves and acts; the other buttons open screens, change hands or end things."""


@dataclass(frozen=True)
class ActionOverride(Intervention):
    """Hold some keys at fixed values, whatever the agent chooses.

    Attributes:
        keys: Key to value, such as ``{"attack": 0}`` or ``{"camera": [0.0, 0.0]}``. Other keys pass through.

    Raises:
        InterventionError: for no keys, an unknown key, or a value that does not fit it.
    """

    keys: Mapping[str, Any]
    site: ClassVar[Site] = "action"

    def __post_init__(self) -> None:
        if not isinstance(self.keys, Mapping) or not self.keys:
            raise InterventionError(f"ActionOverride: expected keys as a mapping such as {{attack: 0}}, "
                                    f"got {self.keys!r}")
        object.__setattr__(self, "keys", _plain(self.keys, "ActionOverride"))

    def change_action(self, action: Action, moment: Moment) -> Action:
        """The action with the keys held; a copy."""
        return _action({**action, **self.keys})


@dataclass(frozen=True)
class KeyBlock(Intervention):
    """Never let some keys be pressed.

    Attributes:
        keys: One key or several; ``camera`` keeps the view from turning.

    Raises:
        InterventionError: for no keys, or an unknown one.
    """

    keys: tuple[str, ...]
    site: ClassVar[Site] = "action"

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", _names(self.keys, KEYS, "KeyBlock"))

    def change_action(self, action: Action, moment: Moment) -> Action:
        """The action with the keys released; the same where none of them was pressed."""
        if not any(np.any(action[key]) for key in self.keys):
            return action
        still = noop_action()
        return _action({**action, **{key: still[key] for key in self.keys}})


@dataclass(frozen=True)
class ActionNoise(Intervention):
    """Press what was not pressed, release what was, and shake the view, at random.

    Attributes:
        flip: Chance of each key to be flipped, each on its own, from 0 to 1.
        camera: Standard deviation of what is added to pitch and to yaw, in degrees.
        keys: Which keys may flip; the nine that move and act, unless told.

    Raises:
        InterventionError: for a chance or a deviation that is none, no noise at all, or an unknown key.
    """

    flip: float = 0.0
    camera: float = 0.0
    keys: tuple[str, ...] = _BODY
    site: ClassVar[Site] = "action"

    def __post_init__(self) -> None:
        for name, most in (("flip", 1.0), ("camera", 180.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                raise InterventionError(f"ActionNoise: {name}: expected a number from 0 to {most:g}, got {value!r}")
            object.__setattr__(self, name, float(value))
        if self.flip == self.camera == 0:
            raise InterventionError("ActionNoise: flip and camera are both 0, so nothing would change")
        object.__setattr__(self, "keys", _names(self.keys, BUTTONS, "ActionNoise"))

    def change_action(self, action: Action, moment: Moment) -> Action:
        """A noisy copy. Every key and both angles draw in every step, so that none depends on the others."""
        flipped = moment.rng.random(len(self.keys)) < self.flip
        turn = moment.rng.normal(0.0, 1.0, 2) * self.camera
        changed = {key: 1 - action[key] for key, flips in zip(self.keys, flipped, strict=True) if flips}
        camera = np.asarray(action["camera"], np.float64) + turn
        return _action({**action, **changed, "camera": np.clip(camera, -180.0, 180.0)})


@dataclass(frozen=True)
class ActionSequence(Intervention):
    """Play these actions, one at each step of the schedule, and then let the agent's own through.

    Attributes:
        actions: Each a mapping of keys to values; a key that it leaves out is released.

    Raises:
        InterventionError: for no actions, one that is none, or a schedule with fewer steps than there are actions.
    """

    actions: tuple[Mapping[str, Any], ...]
    site: ClassVar[Site] = "action"

    def __post_init__(self) -> None:
        given: Any = self.actions
        if not isinstance(given, list | tuple) or not given or not all(isinstance(each, Mapping) for each in given):
            raise InterventionError("ActionSequence: expected actions as a list of mappings such as [{forward: 1}, "
                                    f"{{attack: 1}}], got {given!r}")
        object.__setattr__(self, "actions", tuple(
            _plain(each, f"ActionSequence: action {i}") for i, each in enumerate(given)))
        n = self._n_steps()
        if n < len(self.actions):
            start = self.schedule.first
            raise InterventionError(
                f"ActionSequence: the schedule ({self.schedule}) has {n} steps for {len(self.actions)} actions",
                hint=f"give it between: [{start}, {start + len(self.actions) - 1}], or more")

    def _n_steps(self) -> float:
        schedule = self.schedule
        if schedule.at is not None:
            return sum(map(schedule.fits, schedule.at))
        if schedule.between is not None:
            return sum(map(schedule.fits, range(schedule.between[0], schedule.between[1] + 1)))
        return math.inf

    def change_action(self, action: Action, moment: Moment) -> Action:
        """The next of the actions; the agent's own once they are used up."""
        played = int(moment.memo.get("played", 0))
        if played >= len(self.actions):
            return action
        moment.memo["played"] = played + 1
        return _action({**noop_action(), **self.actions[played]})


@dataclass(frozen=True)
class ActionDelay(Intervention):
    """Carry out every action so many steps after it was chosen; before the first of them, nothing is pressed.

    Attributes:
        steps: How many, at least 1.

    Raises:
        InterventionError: for a delay that is none.
    """

    steps: int
    site: ClassVar[Site] = "action"

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or not 1 <= self.steps <= 10_000:
            raise InterventionError(f"ActionDelay: steps: expected a whole number from 1 to 10000, got {self.steps!r}")

    def change_action(self, action: Action, moment: Moment) -> Action:
        """What was chosen ``steps`` ago; where the schedule did not hold then, nothing is pressed."""
        # Plain values, and a new list each time: a snapshot keeps the old one.
        queue = [*moment.memo.get("queue", ()), [moment.step, {**action, "camera": [*map(float, action["camera"])]}]]
        due = moment.step - self.steps
        moment.memo["queue"] = [entry for entry in queue if entry[0] > due]
        chosen = next((entry[1] for entry in queue if entry[0] == due), None)
        return noop_action() if chosen is None else _action(chosen)


def _action(values: Mapping[str, Any]) -> Action:
    return {**values, "camera": np.array(values["camera"], dtype=np.float32)}


def _plain(keys: Mapping[str, Any], called: str) -> dict[str, Any]:
    """Keys and values, checked, as plain numbers: a header can hold them, and two equal ones compare equal."""
    try:
        full = check_action(keys)
    except HarnessError as problem:
        raise InterventionError(f"{called}: {problem.message}", hint=problem.hint) from problem
    return {k: [float(x) for x in full[k]] if k == "camera" else full[k] for k in keys}


def _names(given: Any, known: tuple[str, ...], called: str) -> tuple[str, ...]:
    """One key or several, checked, in the order given, each once."""
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not names:
        raise InterventionError(f"{called}: expected keys as a list such as [attack, use], got {given!r}")
    for name in names:
        if name not in known:
            raise unknown_name("key", str(name), known, error=InterventionError)
    return tuple(dict.fromkeys(names))
