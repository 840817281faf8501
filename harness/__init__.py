"""Harness: a lab bench for vision-based game agents.

The front door is lazy: ``import harness`` loads no torch, no numba and no cv2.
"""

from __future__ import annotations

import importlib as _importlib
from importlib import metadata as _metadata
from typing import TYPE_CHECKING, Any

import gymnasium as _gymnasium

if TYPE_CHECKING:
    from harness import analysis, intervention, overlay, viewer
    from harness.agent.agent import Agent
    from harness.agent.load import load_agent
    from harness.batch.report import Report
    from harness.batch.runner import run_suite
    from harness.errors import HarnessError
    from harness.intervention.intervention import Intervention
    from harness.recording.recorder import Recorder
    from harness.recording.recording import Recording, open_recording
    from harness.replay.fork import fork_recording
    from harness.replay.replay import replay_recording
    from harness.rollout import Step, run_episode
    from harness.scenario.load import load_scenario
    from harness.scenario.schema import Scenario
    from harness.world.world import World, make_world

_DOOR = {
    "Agent": "harness.agent.agent",
    "HarnessError": "harness.errors",
    "Intervention": "harness.intervention.intervention",
    "Recorder": "harness.recording.recorder",
    "Recording": "harness.recording.recording",
    "Report": "harness.batch.report",
    "Scenario": "harness.scenario.schema",
    "Step": "harness.rollout",
    "World": "harness.world.world",
    "fork_recording": "harness.replay.fork",
    "load_agent": "harness.agent.load",
    "load_scenario": "harness.scenario.load",
    "make_world": "harness.world.world",
    "open_recording": "harness.recording.recording",
    "replay_recording": "harness.replay.replay",
    "run_episode": "harness.rollout",
    "run_suite": "harness.batch.runner",
}
_ROOMS = ("analysis", "intervention", "overlay", "viewer")

__all__ = [
    "Agent",
    "HarnessError",
    "Intervention",
    "Recorder",
    "Recording",
    "Report",
    "Scenario",
    "Step",
    "World",
    "__version__",
    "analysis",
    "fork_recording",
    "intervention",
    "load_agent",
    "load_scenario",
    "make_world",
    "open_recording",
    "overlay",
    "replay_recording",
    "run_episode",
    "run_suite",
    "viewer",
]

__version__ = _metadata.version("harness-bench")


# Names of Gymnasium: gymnasium.make("harness/Villager-v0"), gymnasium.make_vec("harness/Villager-v0", num_envs=8).
for _id, _scenario in {
    "Villager": "villager", "VillagerNoLeaves": "villager-no-leaves", "Trunk": "trunk", "Treechop": "treechop",
    "Meadow": "meadow", "ArmorStand": "armor-stand",
}.items():
    _gymnasium.register(
        f"harness/{_id}-v0", entry_point="harness.world.world:make_registered",
        vector_entry_point="harness.world.blockworld.vector:make_registered", kwargs={"scenario": _scenario})


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        return getattr(_importlib.import_module(_DOOR[name]), name)
    if name in _ROOMS:
        return _importlib.import_module(f"harness.{name}")
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
