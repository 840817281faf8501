"""Recordings in pairs, control and treated: where the two of a pair part, and what came of it over all pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analysis.result import Result, result_provenance
from harness.errors import RecordingError
from harness.recording.recording import Recording
from harness.recording.schema import plain
from harness.replay.divergence import Divergence, first_difference, first_pixel
from harness.replay.twin import COLUMNS
from harness.statistics import Interval, bootstrap, holm, mcnemar_exact, wilson

__all__ = ["Comparison", "OutcomeDifference", "Pair", "compare", "first_differences"]

_NUMBERS = ("log_prob", "entropy", "value")


@dataclass(frozen=True)
class Pair:
    """Two recordings of one scenario and seed.

    Attributes:
        control: The first's folder name.
        treated: The second's.
        seed: Of both.
        columns: Column of a step to its first difference, None where there is none, in the order of cause; ``recorded``
            is the control's value, ``replayed`` the treated one's.
        n_compared: Steps that both have.
        outcomes: Outcome name to (control's, treated's) {"value", "first_step", "count"}.
        outcomes_at: The step after which both stood so: the last of both, unless one of them was cut off earlier.
    """

    control: str
    treated: str
    seed: int
    columns: Mapping[str, Divergence | None]
    n_compared: int
    outcomes: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]
    outcomes_at: int

    @property
    def first(self) -> Divergence | None:
        """The very first difference, the earlier in the order of cause where a step has several."""
        return min((each for each in self.columns.values() if each is not None), key=lambda each: each.step,
                   default=None)


@dataclass(frozen=True)
class OutcomeDifference:
    """One outcome over all pairs.

    Attributes:
        control: Episodes in which it came true, and Wilson's 95 % interval of their share.
        treated: Likewise.
        only_control: Pairs in which it came true in the control alone.
        only_treated: Pairs in which it came true in the treated alone.
        p: McNemar's exact test on these two numbers.
        p_holm: The same, adjusted by Holm over all outcomes.
        count: Mean difference of its count in a pair, treated less control.
        count_interval: 95 %, pairs resampled.
    """

    control: tuple[int, Interval]
    treated: tuple[int, Interval]
    only_control: int
    only_treated: int
    p: float
    p_holm: float
    count: float
    count_interval: Interval


@dataclass(frozen=True)
class Comparison(Result):
    """Control against treated.

    Attributes:
        pairs: By seed.
        outcomes: By name.
        differences: What the headers differ in besides interventions, in words.
        unpaired: Folders without a partner.
    """

    pairs: tuple[Pair, ...]
    outcomes: Mapping[str, OutcomeDifference]
    differences: tuple[str, ...]
    unpaired: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        def told(each: Divergence | None) -> dict[str, Any] | None:
            return None if each is None else {"step": each.step, "column": each.column,
                                              "control": plain(each.recorded), "treated": plain(each.replayed)}

        return {
            "provenance": plain(self.provenance), "differences": list(self.differences),
            "unpaired": list(self.unpaired),
            "pairs": [{"control": p.control, "treated": p.treated, "seed": p.seed, "n_compared": p.n_compared,
                       "first": told(p.first), "columns": {name: told(found) for name, found in p.columns.items()},
                       "outcomes_at": p.outcomes_at,
                       "outcomes": {name: {"control": plain(a), "treated": plain(b)}
                                    for name, (a, b) in p.outcomes.items()}} for p in self.pairs],
            "outcomes": {name: {"control": o.control[0], "control_interval": list(o.control[1]),
                                "treated": o.treated[0], "treated_interval": list(o.treated[1]),
                                "n_pairs": len(self.pairs), "only_control": o.only_control,
                                "only_treated": o.only_treated, "p": o.p, "p_holm": o.p_holm, "count": o.count,
                                "count_interval": list(o.count_interval)} for name, o in self.outcomes.items()}}


def compare(control: Recording | Sequence[Recording], treated: Recording | Sequence[Recording]) -> Comparison:
    """Compare recordings in pairs of the same scenario, parameters and seed.

    Args:
        control: One recording or more, no two of one scenario and seed.
        treated: Likewise.

    Raises:
        RecordingError: when no two make a pair, or two on one side have the same scenario and seed.
    """
    one, two = (_by_key([given] if isinstance(given, Recording) else list(given)) for given in (control, treated))
    both = sorted(one.keys() & two.keys(), key=lambda key: key[1])
    if not both:
        raise _no_pair(one, two)
    unpaired = [side[key].path.name for side, other in ((one, two), (two, one)) for key in side if key not in other]
    pairs = [_pair(one[key], two[key]) for key in both]
    differences: dict[str, None] = {}
    for key in both:
        differences.update(dict.fromkeys(_differences(one[key], two[key])))
    first = one[both[0]]
    provenance = {**result_provenance("compare", first), "n_pairs": len(pairs),
                  "treated": two[both[0]].path.name,
                  "interventions": [side[both[0]].header["interventions"] for side in (one, two)]}
    return Comparison(provenance, tuple(pairs), _over_pairs(pairs), tuple(differences), tuple(unpaired))


Key = tuple[str, int, int]


def _by_key(recordings: Sequence[Recording]) -> dict[Key, Recording]:
    found: dict[Key, Recording] = {}
    for recording in recordings:
        if not len(recording):
            raise RecordingError(f"the recording has no steps to compare: {recording.summary}",
                                 where=str(recording.path))
        key = str(recording.header.get("scenario_digest")), recording.seed, recording.first_step
        if key in found:
            raise RecordingError(f"{found[key].path.name} and {recording.path.name} are of one scenario and seed "
                                 f"{recording.seed}, so it is not clear which of them to pair",
                                 where=str(recording.path), hint="put control and treated ones into two folders")
        found[key] = recording
    return found


def _no_pair(one: Mapping[Key, Recording], two: Mapping[Key, Recording]) -> RecordingError:
    (a, b) = next(iter(one)), next(iter(two))
    seeds = [sorted({key[1] for key in side}) for side in (one, two)]
    if a[0] != b[0] and {key[0] for key in one}.isdisjoint(key[0] for key in two):
        what = "they are of other scenarios or parameters"
    elif set(seeds[0]).isdisjoint(seeds[1]):
        what = f"they have other seeds ({_some(seeds[0])} and {_some(seeds[1])})"
    else:
        what = "they begin at other steps"
    return RecordingError(f"no two of the recordings make a pair: {what}",
                          where=f"{one[a].path} and {two[b].path}",
                          hint="a pair is one scenario with one seed, played twice, the second time with --intervene")


def _some(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds[:5])) + (", ..." if len(seeds) > 5 else "")


def _differences(a: Recording, b: Recording) -> list[str]:
    """What else the two differ in, in words."""
    one, two = a.header["agent"], b.header["agent"]
    if one.get("weights_digest") != two.get("weights_digest") or one.get("class") != two.get("class"):
        said = f"{a.path.name} was played by {one.get('name')}, {b.path.name} by {two.get('name')}"
        return [f"the agents differ: {said}; differences are those of the agents, too"]
    found = [f"the agent's {key} was {one.get(key)!r} and {two.get(key)!r}"
             for key in ("device", "precision", "torch_threads", "batch_shape") if one.get(key) != two.get(key)]
    if a.header["world"].get("backend") != b.header["world"].get("backend"):
        found.append("the worlds are of other backends: "
                     f"{a.header['world'].get('backend')} and {b.header['world'].get('backend')}")
    return found


def first_differences(a: Recording, b: Recording) -> tuple[dict[str, Divergence | None], int]:
    """Where two recordings first differ, whatever they are of.

    Args:
        a: One; its values are the divergences' ``recorded``.
        b: The other; it may begin at another step, as a fork does.

    Returns:
        Column of a step to its first difference, None where there is none, in the order of cause; and how many steps
        both have.
    """
    columns: dict[str, Divergence | None] = dict.fromkeys(COLUMNS)
    common = range(max(a.first_step, b.first_step), min(a.first_step + len(a), b.first_step + len(b)))
    for step in common:
        watched = [name for name in COLUMNS if columns[name] is None]
        if not watched:
            break
        for name in watched:
            found = _difference(name, a, b, step)
            if found is not None:
                columns[name] = Divergence(step, *found)
    return columns, len(common)


def _pair(a: Recording, b: Recording) -> Pair:
    columns, n = first_differences(a, b)
    ends = a.first_step + len(a) - 1, b.first_step + len(b) - 1
    # What ended of itself stays as it is; what was cut off says nothing of the steps after it.
    cut = [end for end, r in zip(ends, (a, b), strict=True) if r.status != "terminated"]
    until = min(cut, default=max(ends))
    then, now = (_outcomes(r, min(until, end)) for r, end in zip((a, b), ends, strict=True))
    return Pair(a.path.name, b.path.name, a.seed, columns, n,
                {name: (then[name], now[name]) for name in then if name in now}, until)


def _difference(name: str, a: Recording, b: Recording, step: int) -> tuple[str, Any, Any] | None:
    if name in ("frame", "agent_frame"):
        one, two = ((r.pov if name == "frame" else r.agent_pov)[step - r.first_step] for r in (a, b))
        pixel = first_pixel(one, two)
        return None if pixel is None else (name, *pixel)
    row, other = (r.steps[step - r.first_step] for r in (a, b))
    if name == "log_probs":
        return next(filter(None, (first_difference(key, row.get(key), other.get(key)) for key in _NUMBERS)), None)
    found = first_difference(name, row.get(name), other.get(name))
    if name == "chosen" and found is None:
        return first_difference("tokens", row.get("tokens"), other.get("tokens"))
    return found


def _outcomes(recording: Recording, step: int) -> dict[str, Mapping[str, Any]]:
    told = recording.steps[step - recording.first_step].get("outcomes")
    return {name: each for name, each in told.items() if isinstance(each, dict)} if isinstance(told, dict) else {}


def _over_pairs(pairs: Sequence[Pair]) -> dict[str, OutcomeDifference]:
    names = [name for name in pairs[0].outcomes if all(name in pair.outcomes for pair in pairs)]
    raw = {}
    for name in names:
        happened = np.array([[bool(side.get("value")) for side in pair.outcomes[name]] for pair in pairs])
        counts = [float(b.get("count") or 0) - float(a.get("count") or 0)
                  for a, b in (pair.outcomes[name] for pair in pairs)]
        raw[name] = happened, counts, (int((happened[:, 0] & ~happened[:, 1]).sum()),
                                       int((~happened[:, 0] & happened[:, 1]).sum()))
    p_values = [mcnemar_exact(*raw[name][2]) for name in names]
    adjusted = holm(p_values)
    found = {}
    for name, p, q in zip(names, p_values, adjusted, strict=True):
        happened, counts, (only_control, only_treated) = raw[name]
        shares = [(int(happened[:, side].sum()), wilson(int(happened[:, side].sum()), len(pairs))) for side in (0, 1)]
        found[name] = OutcomeDifference(shares[0], shares[1], only_control, only_treated, p, q, float(np.mean(counts)),
                                        bootstrap(counts))
    return found
