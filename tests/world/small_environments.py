"""Users' environments for ``test_gymnasium_world.py``: small, and as odd as users' are."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces


class Corridor(gymnasium.Env):
    """A light that is walked along a corridor of ten cells; at its end the episode ends."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, size=(36, 48), kind="key", render_mode=None):
        self.size, self.kind, self.render_mode = size, kind, render_mode
        self.action_space = spaces.Discrete(3)
        self.observation_space = spaces.Dict({"camera": spaces.Dict({"rgb": spaces.Box(0, 255, (*size, 3), np.uint8)})})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.hits = int(self.np_random.integers(3)), 0
        self.base = self.np_random.integers(0, 100, (*self.size, 3), dtype=np.uint8)
        return self.seen(), {}

    def seen(self):
        return {"camera": {"rgb": self.render()}}

    def render(self):
        picture = self.base.copy()
        picture[:, self.at * 4:self.at * 4 + 4] = 255
        return picture[:, :, 0] if self.kind == "grey" else picture.astype(float) if self.kind == "float" else picture

    def step(self, action):
        assert self.action_space.contains(action), action
        self.at = min(10, max(0, self.at + int(action) - 1))
        self.hits += int(action) == 2
        end = self.at == 10
        if self.kind == "odd":
            return self.seen(), 0.0, end
        return self.seen(), float(end), end, False, {"hits": self.hits, "note": "words", "nan": float("nan")}


class OldCorridor:
    """The same with Gym's old interface."""

    def __init__(self):
        self.new = Corridor()

    def seed(self, seed):
        self.number = seed

    def reset(self):
        return self.new.reset(seed=self.number)[0]["camera"]["rgb"]

    def step(self, action):
        observation, reward, terminated, _, info = self.new.step(action)
        return observation["camera"]["rgb"], reward, terminated, info


class Keyed:
    """An environment whose action is a mapping."""

    def reset(self, seed=None):
        self.last = None
        return np.zeros((360, 640, 3), np.uint8), {}

    def step(self, action):
        self.last = action
        told = {"jump": action["jump"], "turn": action["turn"], "tilt": float(action["view"][0])}
        return np.zeros((360, 640, 3), np.uint8), 0.0, False, False, told


def broken():
    raise OSError("no licence")


gymnasium.register("Corridor-v0", entry_point=Corridor)
