"""Arrays of interventions that are written as a place in a recording; an intervention itself never opens one.

    values:    {recording: PATH, hook: NAME, step: 40}          the activation of one step
               {recording: PATH, hook: NAME, steps: [40, 59]}   of several, both ends included, [t, ...]
               {recording: PATH, hook: NAME, mean: true}        their mean, over all steps or over ``steps``
    direction: {difference_of_means: {of: PATH, minus: PATH}, hook: NAME}
    picture:   {recording: PATH, hook: pov, step: 40}           the world's picture; agent_pov is the agent's
    memory:    {recording: PATH, step: 32}                      what its agent remembered, from a snapshot

``hook`` may be left out where it is the intervention's own. In a difference, instead of a PATH there may be
``{recording: PATH, steps: [first, last]}``. Steps are those of the episode, also in a fork's recording. Activations and
memories come from recordings of the agent that plays: those of other weights mean other things.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent
from harness.analysis.means import mean_activation
from harness.errors import HarnessError, InterventionError, nearest_names, unknown_name
from harness.intervention.arrays import ArrayValue
from harness.intervention.schedule import SCHEDULE_KEYS
from harness.recording.recording import ActivationSeries, Recording, open_recording
from harness.recording.schema import plain

__all__ = ["with_arrays"]

_ONE, _DIFFERENCE = ("recording", "hook", "step", "steps", "mean"), ("difference_of_means", "hook")
_PICTURES = ("pov", "agent_pov")
_WORDS = {"recording", "difference_of_means"}


def with_arrays(spec: Mapping[str, Any], folder: Path | None, *, agent: Agent | None = None, anywhere: bool = False
                ) -> dict[str, Any]:
    """An intervention's mapping with every array read that is written as a place in a recording.

    Args:
        spec: For ``build_intervention``.
        folder: Paths are relative to it; None where no file may be opened.
        agent: Who plays; None where that is not known, and any model's activations will do.
        anywhere: Whether paths may lead out of the folder: only those that the user typed may.

    Raises:
        InterventionError: for a mapping that says it wrongly, or a recording that lacks the hook or the steps, or was
            made with another model.
        RecordingError: for a folder that is no recording.
    """
    found = {}
    for key, value in spec.items():
        if isinstance(value, Mapping) and key not in SCHEDULE_KEYS and _WORDS & value.keys():
            reader = _Reader(spec.get("hook"), folder, agent, anywhere)
            try:
                value = reader.memory(value) if key == "memory" else ArrayValue(reader.read(value))
            except HarnessError as problem:
                problem.message = f"{key}: {problem.message}"
                raise
        found[key] = value
    return found


class _Reader:
    """Reads one field."""

    def __init__(self, hook: Any, folder: Path | None, agent: Agent | None, anywhere: bool) -> None:
        self.hook, self.folder, self.agent, self.anywhere = hook, folder, agent, anywhere

    def read(self, value: Mapping[str, Any]) -> npt.NDArray[Any]:
        self.hook = value.get("hook", self.hook)
        if not isinstance(self.hook, str) or any(mark in self.hook for mark in "*?["):
            raise InterventionError(f"expected the name of one recorded hook, got {self.hook!r}",
                                    hint="say it beside the recording: {recording: PATH, hook: NAME, mean: true}")
        if "difference_of_means" not in value:
            return self.one(value)
        _known(value, _DIFFERENCE)
        sides = value["difference_of_means"]
        if not isinstance(sides, Mapping) or set(sides) != {"of", "minus"}:
            raise InterventionError(f"difference_of_means: expected {{of: PATH, minus: PATH}}, got {sides!r}")
        of, minus = (self.one({**(side if isinstance(side, Mapping) else {"recording": side}), "mean": True})
                     for side in (sides["of"], sides["minus"]))
        if of.shape != minus.shape:
            raise InterventionError(f"the two recordings' {self.hook} have the shapes {list(of.shape)} and "
                                    f"{list(minus.shape)}", hint="take two recordings of one agent")
        difference: npt.NDArray[Any] = of - minus
        return difference

    def memory(self, value: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        _known(value, ("recording", "step"))
        recording, step = self.own(value), value.get("step")
        snapshots = recording.snapshots
        kept = sorted(snapshots)
        if step not in kept or isinstance(step, bool):
            some = ", ".join(map(str, kept[:12])) + (", ..." if len(kept) > 12 else "")
            raise InterventionError(f"the recording {recording.path} keeps no memory of step {step!r}",
                                    hint=f"it keeps those of the steps {some}" if kept else "it keeps none")
        return dict(snapshots[step].agent)

    def one(self, value: Mapping[str, Any]) -> npt.NDArray[Any]:
        _known(value, _ONE)
        step, steps, mean = value.get("step"), value.get("steps"), value.get("mean", False)
        if mean not in (True, False) or (step is not None) + (steps is not None or mean is True) != 1:
            raise InterventionError("expected one of step: T, steps: [first, last] or mean: true beside the recording",
                                    hint="mean: true may stand with steps, and is then over these")
        if self.hook in _PICTURES:
            return self.picture(open_recording(self.path(value["recording"])), step)
        recording = self.own(value)
        series = self.series(recording)
        if step is not None:
            return np.asarray(series[self.rows([step, step], len(series), recording)[0]], np.float32)
        first, last = (0, len(series) - 1) if steps is None else self.rows(steps, len(series), recording)
        if mean:
            return mean_activation(recording, str(self.hook), (first, last))
        return np.asarray(series[first:last + 1], np.float32)

    def picture(self, recording: Recording, step: Any) -> npt.NDArray[np.uint8]:
        if step is None:
            raise InterventionError(f"{self.hook}: expected one picture, as step: T")
        pictures = getattr(recording, str(self.hook))
        picture: npt.NDArray[np.uint8] = pictures[self.rows([step, step], len(pictures), recording)[0]]
        return picture

    def own(self, value: Mapping[str, Any]) -> Recording:
        """The recording, of the agent that plays."""
        recording = open_recording(self.path(value["recording"]))
        then, now = recording.header["agent"], {} if self.agent is None else plain(self.agent.provenance())
        # The digest is of the numbers in memory, which another precision rounds otherwise.
        keys = ("class", "weights_digest") if then.get("precision") == now.get("precision") else ("class",)
        if any(key in then and key in now and then[key] != now[key] for key in keys):
            raise InterventionError(
                f"the recording {recording.path} was made with another model, {then.get('name')}; {now.get('name')} "
                "plays", hint="record it again with this one's --agent; in Python any array of the shape may be given")
        return recording

    def path(self, given: Any) -> Path:
        if not isinstance(given, str) or not given or "\0" in given:
            raise InterventionError(f"recording: expected a folder, got {given!r}")
        if self.folder is None:
            raise InterventionError(f"the recording {given} is not looked for here: the intervention stands in another "
                                    "recording's header", hint="write the intervention out behind --intervene")
        path = self.folder / given
        if not self.anywhere and not path.resolve().is_relative_to(self.folder.resolve()):
            raise InterventionError(f"the recording {given} leads out of the folder of the file that names it",
                                    hint="keep recordings below it, or write the intervention out behind --intervene")
        return path

    def series(self, recording: Recording) -> ActivationSeries:
        stored = recording.activations
        if self.hook not in stored:
            near = nearest_names(str(self.hook), list(stored))
            raise InterventionError(
                f'the recording {recording.path} holds no "{self.hook}"',
                hint=f"record it with --hooks '{self.hook}'; it holds {', '.join(near or list(stored)[:3]) or 'none'}")
        series = stored[str(self.hook)]
        if not len(series):
            raise InterventionError(f'the recording {recording.path} holds no step of "{self.hook}"')
        return series

    def rows(self, steps: Any, n: int, recording: Recording) -> tuple[int, int]:
        """The first and the last of ``n`` rows that belong to steps of the episode."""
        if not isinstance(steps, list | tuple) or len(steps) != 2 or not all(type(s) is int for s in steps):
            raise InterventionError(f"expected a step, or steps: [first, last], got {steps!r}")
        begin = recording.first_step
        if not begin <= steps[0] <= steps[1] < begin + n:
            raise InterventionError(f"the recording {recording.path} has the steps {begin} to {begin + n - 1} of "
                                    f"{self.hook}, got {steps[0]}{f' to {steps[1]}' if steps[1] != steps[0] else ''}")
        return steps[0] - begin, steps[1] - begin


def _known(value: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    for key in value:
        if key not in keys:
            raise unknown_name("key", str(key), keys, error=InterventionError)
    if keys[0] not in value:
        raise InterventionError(f"expected the key {keys[0]}, got {sorted(map(str, value))}")

