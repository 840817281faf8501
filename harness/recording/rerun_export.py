"""A recording for the rerun viewer (https://rerun.io): pictures, attention, curves and events on one time line.

A file of rerun's is for looking, not for keeping: it is promised to be readable by the next version of rerun only.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import HarnessError, RecordingError
from harness.recording.recording import Recording

__all__ = ["write_rerun"]

_CURVES = ("value", "entropy", "log_prob")
_PATTERN = re.compile(r"(?:\w+\.)?blocks\.\d+\.attn\.hook_pattern")
_QUALITY = 90


def write_rerun(recording: Recording, path: Path, on_frame: Callable[[int], None] | None = None) -> int:
    """Write a ``.rrd`` file.

    On the time line ``step``: ``pov`` (JPEG), ``attention/<hook>`` (tensors [head, age], age 0 the current frame),
    ``policy/value``, ``/entropy``, ``/log_prob``, ``keys/<key>`` for every key that is ever pressed, ``camera/pitch``
    and ``camera/yaw`` in degrees, ``events``; and the header, for all times, as ``provenance``.

    Args:
        recording: Any; of an unfinished one what is there.
        path: Replaced once the new file is whole.
        on_frame: Called with the number of steps done.

    Returns:
        How many steps were written.

    Raises:
        HarnessError: when rerun is not installed.
        RecordingError: for a recording without steps, or a file that cannot be written.
    """
    try:
        import rerun
    except ImportError as problem:
        raise HarnessError("rerun is not installed", hint='pip install "harness-bench[rerun]" brings it') from problem
    if not len(recording):
        raise RecordingError(f"the recording has no steps to export: {recording.summary}", where=str(recording.path))
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        stream = rerun.RecordingStream("harness", recording_id=str(recording.id))
        stream.save(str(part))
        header = json.dumps(recording.header, indent=1)
        stream.log("provenance", rerun.TextDocument(f"```json\n{header}\n```", media_type="text/markdown"), static=True)
        pressed, events = _pressed(recording), _by_row(recording)
        for number in range(len(recording)):
            stream.set_time("step", sequence=recording.first_step + number)
            _log_seen(rerun, stream, recording, number)
            _log_done(rerun, stream, recording.steps[number], pressed)
            for event in events.get(number, ()):
                level = "WARN" if event.get("type") == "intervention" else "INFO"
                stream.log("events", rerun.TextLog(json.dumps(event), level=level))
            if on_frame is not None:
                on_frame(number + 1)
        stream.flush()
        stream.disconnect()
        part.replace(path)
    except OSError as problem:
        raise RecordingError(f"cannot write {path.name}: {problem.strerror or problem}", where=str(path)) from problem
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return len(recording)


def _log_seen(rerun: Any, stream: Any, recording: Recording, number: int) -> None:
    import cv2

    bgr = cv2.cvtColor(recording.agent_pov[number], cv2.COLOR_RGB2BGR)
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
    stream.log("pov", rerun.EncodedImage(contents=jpeg, media_type="image/jpeg"))
    for name in recording.activations:
        if _PATTERN.fullmatch(name) and number < len(recording.activations[name]):
            # Oldest key first, of which the first is always masked: turned round, age by age.
            weights = np.asarray(recording.activations[name][number], np.float32)[:, :0:-1]
            stream.log(f"attention/{name}", rerun.Tensor(weights, dim_names=["head", "age"]))


def _log_done(rerun: Any, stream: Any, row: Mapping[str, Any], pressed: Collection[str]) -> None:
    for name in _CURVES:
        if row.get(name) is not None:
            stream.log(f"policy/{name}", rerun.Scalars(float(row[name])))
    action = _action(row)
    for key in pressed:
        stream.log(f"keys/{key}", rerun.Scalars(float(action.get(key, 0))))
    for axis, degrees in zip(("pitch", "yaw"), action.get("camera") or (0.0, 0.0), strict=True):
        stream.log(f"camera/{axis}", rerun.Scalars(float(degrees)))


def _action(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return row.get("executed") or row.get("chosen") or {}


def _pressed(recording: Recording) -> list[str]:
    return sorted({key for row in recording.steps for key, value in _action(row).items() if key != "camera" and value})


def _by_row(recording: Recording) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for event in recording.events:
        found.setdefault(event["step"] - recording.first_step, []).append(event)
    return found
