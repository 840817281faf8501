"""What an intervention does to an agent's choices, over the pictures of a recording, beside what its controls do.

Open loop: the agent sees the recorded pictures and remembers, once as it is and once treated. The actions of the
recording are what happens in both, so that every step compares like with like; what follows from other actions is for
forks and runs (``compare``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent, AgentOutput
from harness.analysis.open_loop import Progress, check_key, check_untreated, kl_divergence, log_odds, look_over, ticks
from harness.analysis.result import Result, result_provenance
from harness.errors import InterventionError, RecordingError
from harness.intervention.intervention import Intervention
from harness.recording.recording import Recording
from harness.recording.schema import plain
from harness.statistics import Interval, block_bootstrap, rank_p

__all__ = ["BLOCK", "Change", "Effect", "effect"]

Float = npt.NDArray[np.float64]
BLOCK = 20
"""Steps of a block when one recording is resampled: a second of the game, longer than a key is held for nothing."""


@dataclass(frozen=True)
class Change:
    """How one quantity differs, treated less untreated.

    Attributes:
        mean: Over all steps in which the intervention could act, of all recordings.
        interval: 95 %, from resampled recordings, or from blocks of 20 steps where there is one recording only.
        largest: The largest absolute value in a step.
        controls: The means under the controls, one each.
        p: Share of controls, this one counted in, whose mean is at least as far from 0; None without controls.
    """

    mean: float
    interval: Interval
    largest: float
    controls: tuple[float, ...]
    p: float | None


@dataclass(frozen=True)
class Effect(Result):
    """What an intervention did.

    Attributes:
        steps: Absolute steps, per recording int64 [t].
        series: Quantity to its difference treated less untreated, per recording float64 [t]: ``attack`` and other keys
            are log-odds (nats), ``kl`` the divergence D(untreated || treated) of the action (nats), ``value`` the
            value estimate.
        changes: Quantity to its summary.
        applied: Share of the steps in which something was applied.
        uncontrolled: Which interventions have no control, in words; those stayed as they are in the controls.
    """

    steps: tuple[npt.NDArray[np.int64], ...]
    series: Mapping[str, tuple[Float, ...]]
    changes: Mapping[str, Change]
    applied: float
    uncontrolled: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON values, without the series."""
        return {"provenance": plain(self.provenance), "n_recordings": len(self.steps),
                "n_steps": sum(map(len, self.steps)), "applied": self.applied, "uncontrolled": list(self.uncontrolled),
                "changes": {name: {"mean": c.mean, "interval": list(c.interval), "largest": c.largest,
                                   "controls": list(c.controls), "p": c.p} for name, c in self.changes.items()}}


def effect(recordings: Recording | Sequence[Recording], agent: Agent, interventions: Sequence[Intervention], *,
           keys: Sequence[str] = ("attack",), controls: int = 20, between: tuple[int, int] | None = None,
           progress: Progress | None = None) -> Effect:
    """Run an agent over recorded pictures with and without interventions, and with their controls.

    Interventions on the world, and on objects in the picture, need the world: it is made again from the recording,
    and plays the recorded actions. Interventions on actions do nothing to a choice and are refused.

    Args:
        recordings: Untreated ones.
        agent: One that tells log-probabilities; with ``look_ahead`` it sees several pictures at once.
        interventions: A stack, in order.
        keys: Buttons whose log-odds to follow.
        controls: How many random controls (``Intervention.control``); the same number of runs over the pictures.
        between: Count only steps in this range, both ends included; all are seen and remembered.
        progress: Called with (steps done, steps in all) as the runs go on.

    Raises:
        InterventionError: for no intervention, one on actions, or one that does not fit.
        RecordingError: for a recording without steps, or one that was made under interventions.
        AgentError: for an agent that tells no log-probabilities.
    """
    given = [recordings] if isinstance(recordings, Recording) else list(recordings)
    _refuse(given, interventions, keys)
    drawn: list[list[Intervention]] = []
    uncontrolled: dict[str, None] = {}
    for seed in range(controls):
        one = [each.control(seed, agent) for each in interventions]
        for each, control in zip(interventions, one, strict=True):
            if control is None:
                uncontrolled[each.name or type(each).__name__] = None
        if any(control is not None for control in one):
            drawn.append([each if c is None else c for each, c in zip(interventions, one, strict=True)])
    applied = counted = 0
    tick = ticks(progress, sum(map(len, given)) * (2 + len(drawn)))
    steps: list[npt.NDArray[np.int64]] = []
    treated: dict[str, list[Float]] = {}
    under: list[dict[str, list[Float]]] = [{} for _ in drawn]
    for recording in given:
        base, _ = look_over(recording, agent, (), interventions, tick)
        numbers = np.arange(recording.first_step, recording.first_step + len(recording))
        first, last = between or (int(numbers[0]), int(numbers[-1]))
        inside = (numbers >= first) & (numbers <= last)
        if not inside.any():
            raise RecordingError(f"no step lies between {first} and {last}: it has {numbers[0]} to {numbers[-1]}",
                                 where=str(recording.path))
        steps.append(numbers[inside])
        for number, stack in enumerate([list(interventions), *drawn]):
            outputs, touched = look_over(recording, agent, stack, interventions, tick)
            for name, values in _differences(base, outputs, keys).items():
                (treated if number == 0 else under[number - 1]).setdefault(name, []).append(values[inside])
            if number == 0:
                applied += len(touched & set(numbers[inside].tolist()))
                counted += int(inside.sum())
    changes = {}
    for name, series in treated.items():
        means = tuple(float(np.concatenate(one[name]).mean()) for one in under)
        whole = np.concatenate(series)
        changes[name] = Change(float(whole.mean()), block_bootstrap(series, BLOCK), float(np.abs(whole).max()), means,
                               rank_p(float(whole.mean()), means) if means else None)
    said = {"interventions": [plain(each.describe()) for each in interventions], "keys": list(keys),
            "controls": len(drawn), "between": None if between is None else list(between)}
    provenance = {**result_provenance("effect", given[0], **said), "recordings": [r.path.name for r in given],
                  "agent": agent.name}
    return Effect(provenance, tuple(steps), {k: tuple(v) for k, v in treated.items()}, changes, applied / counted,
                  tuple(uncontrolled))


def _refuse(recordings: Sequence[Recording], interventions: Sequence[Intervention], keys: Sequence[str]) -> None:
    if not recordings or not interventions:
        raise InterventionError(f"expected recordings and interventions, got {len(recordings)} and "
                                f"{len(interventions)}", hint="name one with --intervene")
    for key in keys:
        check_key(key)
    for each in interventions:
        if each.site == "action":
            raise InterventionError(f"{each.name or type(each).__name__} changes what is played, not what is chosen: "
                                    "over a recording it does nothing",
                                    hint="use it in `harness fork`, and compare what comes of it")
    check_untreated(recordings)


def _differences(base: Sequence[AgentOutput], treated: Sequence[AgentOutput], keys: Sequence[str]) -> dict[str, Float]:
    """Per quantity float64 [t]."""
    found: dict[str, Float] = {}
    one, two = (np.stack([o.log_probs["buttons"] for o in outputs]) for outputs in (base, treated))
    for key in keys:
        found[key] = log_odds(two, key) - log_odds(one, key)
    # Buttons and camera are drawn independently, so the divergences of the two heads add up.
    found["kl"] = kl_divergence(one, two) + kl_divergence(*(np.stack([o.log_probs["camera"] for o in outputs])
                                        for outputs in (base, treated)))
    if all(o.value is not None for o in (*base, *treated)):
        before, after = (np.array([o.value for o in outputs], np.float64) for outputs in (base, treated))
        found["value"] = after - before
    return found
