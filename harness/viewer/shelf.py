"""What a page shows of one recording: facts in words, and bytes by name that are read when they are asked for."""

from __future__ import annotations

import functools
import math
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from harness.analysis.attention import Traced, traced_attention
from harness.errors import RecordingError
from harness.recording.recording import Recording, StepTable
from harness.recording.schema import STEPS, plain
from harness.viewer.heat import HeatLayer
from harness.world.action import BUTTONS

__all__ = ["CHUNK", "PICTURES", "Shelf", "spans"]

CHUNK = 64
"""Steps in a piece of attention or of heat maps."""
PICTURES = ("agent", "world")
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # newer OpenCVs; flat blocks need no filter, and it takes as long as the rest
    _PNG += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
_COLUMNS = ("executed", "chosen", "pitch", "yaw", "value", "log_prob", "entropy")


class Shelf:
    """One recording, cut into named pieces.

    ``streams`` says how many pieces each name has: ``world`` and ``agent`` one picture per step (``agent`` only where
    an intervention changed what the agent saw), ``columns`` one, ``attention`` and ``heat.0``, ``heat.1``, ... one for
    every ``CHUNK`` steps. Safe to use from several threads.

    Args:
        recording: Which.
        heats: Maps to lay over its pictures.

    Raises:
        RecordingError: when the recording has no steps.
    """

    def __init__(self, recording: Recording, heats: Sequence[HeatLayer] = ()) -> None:
        if not len(recording):
            raise RecordingError(f"the recording has no steps to show: {recording.summary}", where=str(recording.path))
        self.recording, self._heats = recording, tuple(heats)
        self._lock = threading.Lock()  # decoder and open shards are one each
        self._attention, self._attention_note = _attention(recording)
        n = len(recording)
        self.streams: dict[str, int] = {"columns": 1, "world": n}
        if recording.agent_pov is not recording.pov:
            self.streams["agent"] = n
        if self._attention:
            self.streams["attention"] = math.ceil(self._attention[0].n_steps / CHUNK)
        for number, layer in enumerate(self._heats):
            self.streams[f"heat.{number}"] = math.ceil(len(layer.steps) / CHUNK)

    def picture(self, stream: str, number: int) -> npt.NDArray[np.uint8]:
        """A picture, uint8 [H, W, 3] RGB."""
        with self._lock:
            picture: npt.NDArray[np.uint8] = (
                self.recording.pov if stream == "world" else self.recording.agent_pov)[number]
        return picture

    def piece(self, stream: str, number: int) -> bytes:
        """A piece by name: a PNG, or numbers compressed by zlib.

        Raises:
            KeyError: when there is none of that name and number.
            RecordingError: when it cannot be read.
        """
        if not 0 <= number < self.streams.get(stream, 0):
            raise KeyError(f"{stream}/{number}")
        if stream in PICTURES:
            done, png = cv2.imencode(".png", self.picture(stream, number)[..., ::-1], _PNG)
            if not done:
                raise RecordingError(f"frame {number} cannot be encoded", where=str(self.recording.path))
            return bytes(png)
        if stream == "columns":
            return zlib.compress(self._columns, 1)
        steps = slice(number * CHUNK, (number + 1) * CHUNK)
        if stream == "attention":
            return zlib.compress(self._weights(steps).tobytes(), 1)
        return zlib.compress(self._heats[int(stream.removeprefix("heat."))].codes[steps].tobytes(), 1)

    def _weights(self, steps: slice) -> npt.NDArray[np.uint8]:
        """The square roots of attention weights in 255ths, uint8 [step, row, age]; rows as ``facts`` names them.

        The root, so that weights of a hundredth part keep three digits beside one of nearly 1.
        """
        rows = []
        with self._lock:
            for traced in self._attention:
                stop = min(steps.stop, traced.n_steps)
                heads = np.concatenate([traced.read("pattern", layer, steps.start, stop).astype(np.float32)
                                        for layer in traced.layers], axis=1)
                rows += [heads.mean(axis=1, keepdims=True), heads]
        weights = np.concatenate(rows, axis=1)
        codes: npt.NDArray[np.uint8] = np.rint(np.sqrt(np.clip(weights, 0, 1)) * 255).astype(np.uint8)
        return codes

    @functools.cached_property
    def _columns(self) -> bytes:
        """``_COLUMNS`` one after the other, four bytes a step: keys as bits in the order of ``BUTTONS``, else float."""
        try:
            return b"".join(column.tobytes() for column in _columns(self.recording.steps))
        except (TypeError, ValueError, AttributeError, LookupError) as problem:
            raise RecordingError(f"the steps hold something that is no number: {problem}",
                                 where=str(self.recording.path / STEPS)) from problem

    def facts(self) -> dict[str, Any]:
        """What the page is told at once, as JSON values."""
        recording = self.recording
        scenario = recording.header["scenario"]
        told: dict[str, Any] = plain({
            "name": recording.path.name, "scenario": scenario.get("name") or recording.path.name,
            "description": str(scenario.get("description") or ""),
            "agent": recording.agent_description, "random": "random weights" in recording.agent_description,
            "unfinished": None if recording.complete else recording.summary,
            "first_step": recording.first_step, "n_steps": len(recording), "fps": recording.fps,
            "size": recording.pov.shape[1:3], "streams": self.streams, "columns": _COLUMNS, "chunk": CHUNK,
            "played": bool(recording.steps[0].get("executed")),
            "attention": self._attention_facts(), "attention_note": self._attention_note,
            "heats": [{"title": layer.title, "top": layer.top, "steps": layer.steps, "shape": layer.codes.shape[1:]}
                      for layer in self._heats],
            "events": spans(recording.events), "outcomes": _outcomes(recording), "provenance": _provenance(recording),
        })
        return told

    def _attention_facts(self) -> dict[str, Any] | None:
        if not self._attention:
            return None
        names: list[str] = []
        for traced in self._attention:
            names += [name if traced.row is None else f"{traced.row} {name}" for name in ("mean", *traced.names)]
        first = self._attention[0]
        return {"rows": names, "n_ages": first.window, "n_steps": first.n_steps}


def _attention(recording: Recording) -> tuple[list[Traced], str | None]:
    """The traced patterns, one entry per row of guidance, and why there are none."""
    found: list[Traced] = []
    note = None
    for row in recording.guidance_rows or (None,):
        try:
            traced = traced_attention(recording, row=row)
        except RecordingError as problem:
            note = ": ".join(part for part in (problem.message, problem.hint) if part)
            continue
        if found and traced.window != found[0].window:
            note = "the rows of guidance have windows of other widths"
            continue
        found.append(traced)
    return found, None if found else note


def _columns(steps: StepTable) -> list[npt.NDArray[Any]]:
    done = [row.get("executed") or row.get("chosen") for row in steps]
    cameras = np.array([(action or {}).get("camera") or (math.nan, math.nan) for action in done], "<f4")
    numbers = [np.array([math.nan if row.get(name) is None else row[name] for row in steps], "<f4")
               for name in _COLUMNS[4:]]
    return [_bits(done), _bits(row.get("chosen") for row in steps), cameras[:, 0], cameras[:, 1], *numbers]


def _bits(actions: Iterable[Mapping[str, Any] | None]) -> npt.NDArray[np.uint32]:
    """Pressed keys, one bit each."""
    words = [sum(1 << bit for bit, key in enumerate(BUTTONS) if action.get(key)) if action else 0 for action in actions]
    return np.array(words, "<u4")


def spans(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Events in words, those that follow one another put together: an intervention at each of 600 steps is one.

    Args:
        events: Each with its ``step``, in order.

    Returns:
        Mappings with ``first`` and ``last`` step, ``count``, ``intervention`` (else something of the world) and
        ``words``.
    """
    found: list[dict[str, Any]] = []
    latest: dict[str, dict[str, Any]] = {}
    for event in events:
        step, changed = int(event["step"]), event.get("type") == "intervention"
        parts = (event.get("name") or event.get("kind"), f"({event.get('site')})") if changed else (
            str(event.get("type")).replace("_", " "), *(event.get(key) for key in ("entity", "block", "item")))
        words = " ".join(str(part) for part in parts if part)
        last = latest.get(words)
        if last is not None and step <= last["last"] + 1:
            last["last"], last["count"] = step, last["count"] + 1
            continue
        latest[words] = {"first": step, "last": step, "count": 1, "intervention": changed, "words": words}
        found.append(latest[words])
    return found


def _outcomes(recording: Recording) -> list[dict[str, Any]]:
    told = (recording.result or {}).get("outcomes") or recording.steps[-1].get("outcomes")
    return [{"name": name, "value": bool(each.get("value")), "first_step": each.get("first_step"),
             "count": each.get("count")}
            for name, each in (told.items() if isinstance(told, dict) else ()) if isinstance(each, dict)]


def _provenance(recording: Recording) -> list[tuple[str, str]]:
    """Where everything comes from: label and words."""
    header = recording.header
    agent, made = header["agent"], header.get("provenance") or {}
    weights = agent.get("weights") or {}
    commit = f"{str(made['commit'])[:12]}{', with changes' if made.get('dirty') else ''}" if made.get("commit") else ""
    fork = header.get("fork") or {}
    rows = [
        ("recording", f"{recording.path.name} ({recording.id})"),
        ("ended", recording.summary),
        ("agent", recording.agent_description),
        ("weights", weights.get("file") if isinstance(weights, dict) else weights),
        ("weights digest", str(agent.get("weights_digest") or "")[:16]),
        ("sees more than the picture", "yes, it reads the world's state" if agent.get("privileged") else ""),
        ("scenario digest", str(header.get("scenario_digest") or "")[:16]),
        ("seed", recording.seed),
        ("world", header["world"].get("backend")),
        ("interventions", ", ".join(recording.interventions) or "none"),
        ("fork of", f"{fork.get('name')} ({fork.get('recording')}) at step {fork.get('at')}" if fork else ""),
        ("hooks", ", ".join(recording.hooks) or "none"),
        ("device", " ".join(str(agent[key]) for key in ("device", "device_name", "precision") if agent.get(key))),
        ("harness", " ".join(part for part in (str(made.get("harness") or ""), commit) if part)),
        ("made", header.get("created")),
    ]
    return [(label, str(words)) for label, words in rows if words not in (None, "")]
