"""An environment of Gym's or Gymnasium's interface, as ``serve.py`` can serve it: it needs NumPy alone."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.errors import WorldError

__all__ = ["GymnasiumDriver"]


class GymnasiumDriver:
    """One environment; its answers in one form.

    Args:
        environment: ``module:callable`` that makes one, or an id for ``gymnasium.make`` (``gym.make`` where there is no
            Gymnasium).
        keywords: For the callable, or for ``make``.
        picture: The key of the observation that holds the picture, with dots into what is nested; "" for an observation
            that is the picture; None for ``render()``.

    Raises:
        WorldError: when it cannot be made, or is no environment.
    """

    def __init__(self, environment: str, keywords: Mapping[str, Any], picture: str | None) -> None:
        self._name, self._picture = environment, picture
        self._env = _made(environment, dict(keywords), picture is None)
        for method in ("reset", "step"):
            if not callable(getattr(self._env, method, None)):
                raise WorldError(f"{environment} made {type(self._env).__name__}, which has no method {method}",
                                 hint="expected an environment of Gym's or Gymnasium's interface")

    def about(self) -> dict[str, Any]:
        """What its spaces look like, for people."""
        return {"action_space": str(getattr(self._env, "action_space", None)),
                "observation_space": str(getattr(self._env, "observation_space", None))}

    def reset(self, seed: int) -> dict[str, Any]:
        """Begin an episode.

        Raises:
            WorldError: when there is no picture where it was said to be.
        """
        try:
            answer = self._env.reset(seed=seed)
        except TypeError:  # an old Gym: seed apart, observation alone
            getattr(self._env, "seed", lambda _: None)(seed)
            answer = self._env.reset()
        observation, info = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, {})
        return self._told(observation, info, over=False)

    def step(self, action: Any) -> dict[str, Any]:
        """Play an action of the environment's own.

        Raises:
            WorldError: for an answer that is neither of four nor of five values, or holds no picture.
        """
        answer = self._env.step(_as_sampled(action))
        if not isinstance(answer, tuple) or len(answer) not in (4, 5):
            raise WorldError(f"step of {self._name} gave {type(answer).__name__}, expected a tuple of 4 or 5 values")
        observation, reward, *ends, info = answer
        told = self._told(observation, info, over=any(map(bool, ends)))
        return {**told, "reward": float(reward), "terminated": bool(ends[0])}

    def _told(self, observation: Any, info: Any, *, over: bool) -> dict[str, Any]:
        counted = {str(name): float(value) for name, value in dict(info or {}).items()
                   if isinstance(value, (bool, int, float, np.bool_, np.number)) and np.isfinite(value)}
        return {"picture": self._seen(observation), "info": counted, "over": over, "reward": 0.0, "terminated": False}

    def _seen(self, observation: Any) -> Any:
        if self._picture is None:
            seen, where = self._env.render(), "render()"
        else:
            seen, where = observation, f'the observation\'s "{self._picture}"'
            for key in filter(None, self._picture.split(".")):
                if not isinstance(seen, Mapping) or key not in seen:
                    keys = ", ".join(map(str, seen)) if isinstance(seen, Mapping) else type(seen).__name__
                    raise WorldError(f'the observation of {self._name} has no "{self._picture}" (it holds: {keys})',
                                     hint='picture: a key of these; "" for the observation itself; none for render()')
                seen = seen[key]
        picture = np.asarray(seen)
        if picture.ndim == 2:
            picture = picture[:, :, None].repeat(3, axis=2)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (3, 4) or 0 in picture.shape:
            raise WorldError(f"{where} of {self._name} is no picture: expected uint8 [H, W, 3], got "
                             f"{picture.dtype} {list(picture.shape)}")
        return np.ascontiguousarray(picture[:, :, :3])

    def close(self) -> None:
        """Close the environment."""
        getattr(self._env, "close", lambda: None)()


def _made(environment: str, keywords: dict[str, Any], rendered: bool) -> Any:
    module, colon, name = environment.partition(":")
    try:
        # gymnasium.make knows module:Id-v0 too, where the module registers the id.
        if colon and "-v" not in name:
            return getattr(importlib.import_module(module), name)(**keywords)
        try:
            maker = importlib.import_module("gymnasium")
        except ModuleNotFoundError:
            maker = importlib.import_module("gym")
        return maker.make(environment, **({"render_mode": "rgb_array"} if rendered else {}), **keywords)
    except WorldError:
        raise
    except Exception as problem:  # a stranger's module may raise anything
        raise WorldError(f"cannot make {environment}: {type(problem).__name__}: {problem}",
                         hint='environment: an id for gymnasium.make, or "module:callable" on the path') from problem


def _as_sampled(action: Any) -> Any:
    """As a space would sample it: lists of numbers are arrays, in mappings too."""
    if isinstance(action, Mapping):
        return {name: _as_sampled(value) for name, value in action.items()}
    return np.asarray(action) if isinstance(action, list) else action
