"""What stands in a recording's files: names, header, rows."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from harness.errors import RecordingError
from harness.provenance import collect_provenance, digest
from harness.rollout import Episode, spawn_streams

__all__ = [
    "AGENT_FRAMES", "ACTIVATIONS", "EVENTS", "FORMAT", "FRAMES", "HEADER", "RESULT", "SHARD_NAME", "SHARD_STEPS",
    "SIZED", "SNAPSHOTS", "STEPS", "VERSION", "check_header", "make_header", "plain", "shard_name",
]

FORMAT = "harness-recording"
VERSION = 1
"""Grows when a reader of the old files would read the new ones wrongly."""

HEADER = "header.json"
RESULT = "result.json"
STEPS = "steps.jsonl"
EVENTS = "events.jsonl"
FRAMES = "frames.mkv"
AGENT_FRAMES = "agent_frames.mkv"
ACTIVATIONS = "activations"
SNAPSHOTS = "snapshots"
SIZED = (FRAMES, AGENT_FRAMES, STEPS, EVENTS)
"""Files whose sizes ``result.json`` holds, so that a reader sees when one was cut off later."""
SHARD_NAME = re.compile(r"(\d{8})\.safetensors")
SHARD_STEPS = 32
"""Steps in one activation shard; fewer where a step is so large that a shard would not fit in memory."""


def shard_name(start: int) -> str:
    """File name of the shard or snapshot that begins at a step."""
    return f"{start:08d}.safetensors"


def plain(value: Any) -> Any:
    """``value`` as JSON values: arrays become lists, NaN and infinities become None.

    Raises:
        RecordingError: for something that has no JSON form.
    """
    # JSON has no NaN; writing the word would make the file unreadable for every strict reader.
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    raise RecordingError(f"a {type(value).__name__} cannot be written to a recording: {value!r}")


def make_header(episode: Episode, *, fps: float, shard_steps: int, snapshot_every: int) -> dict[str, Any]:
    """Everything known before the first step.

    Args:
        episode: From ``run_episode``.
        fps: Frames per second of the videos.
        shard_steps: Steps in one activation shard.
        snapshot_every: Steps between snapshots.
    """
    world, agent = episode.world, episode.agent
    scenario = world.scenario.model_dump(mode="json", by_alias=True)
    shapes = agent.hook_shapes()
    said = plain(agent.provenance())
    rows, *times = said.get("batch_shape", [1, 1])
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "provenance": collect_provenance().as_dict(),
        "scenario": scenario,
        "scenario_digest": digest(scenario),
        "seed": episode.seed,
        "seeds": {"episode": episode.seed, "world": spawn_streams(episode.seed)[0]},
        "max_steps": episode.max_steps,
        "first_step": episode.first_step,
        **({} if episode.origin is None else {"fork": plain(episode.origin)}),
        "world": {"class": type(world).__name__, **asdict(world.capabilities), **plain(_source(world))},
        "agent": {
            **said, "batch_shape": [rows * episode.rows, *times], "name": agent.name, "description": agent.description,
            "privileged": agent.privileged, "torch_threads": agent.torch_threads,
        },
        "interventions": [plain(intervention.describe()) for intervention in episode.interventions],
        "hooks": {name: {"shape": list(shapes[name][0]), "dtype": shapes[name][1]}
                  for name in episode.hooks if name in shapes},
        "fps": fps,
        "shard_steps": shard_steps,
        "snapshot_every": snapshot_every,
    }


def _source(world: Any) -> Mapping[str, Any]:
    """What a world says of where its pictures come from (a recorded video does)."""
    describe = getattr(world, "source", None)
    return {"source": describe()} if callable(describe) else {}


def check_header(header: Any, where: str) -> dict[str, Any]:
    """The header, if this version can read it.

    Raises:
        RecordingError: for a file of another kind, a newer version, or missing parts.
    """
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise RecordingError(f'expected a header with format "{FORMAT}"', where=where,
                             hint="is this the folder of a recording?")
    version = header.get("version")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise RecordingError(f"the recording has format version {version!r}; this harness reads up to {VERSION}",
                             where=where, hint="install a newer harness")
    wanted = {"scenario": dict, "seed": int, "world": dict, "agent": dict, "interventions": list, "hooks": dict,
              "max_steps": int, "fps": int | float}
    for key, kind in wanted.items():
        if not isinstance(header.get(key), kind):
            raise RecordingError(f'the header has no usable "{key}" (got {header.get(key)!r})', where=where,
                                 hint="the file was changed, or written by something else")
    for key, kind, usual in (("first_step", int, 0), ("fork", dict, {})):
        if not isinstance(header.get(key, usual), kind) or isinstance(header.get(key), bool):
            raise RecordingError(f'the header has no usable "{key}" (got {header[key]!r})', where=where)
    if not 0 <= header.get("first_step", 0) < header["max_steps"]:
        raise RecordingError(f"the header says that the recording begins at step {header['first_step']} of "
                             f"{header['max_steps']}", where=where)
    if header["seed"] < 0:
        raise RecordingError(f"the header says seed {header['seed']}; seeds are 0 or more", where=where)
    if not 0 < header["fps"] < 1000:
        raise RecordingError(f"the header says {header['fps']!r} frames per second", where=where)
    return header
