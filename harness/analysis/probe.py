"""Linear probes: can a state of the world be read off an activation, in episodes that the probe has not seen?"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.analysis.open_loop import Progress, listen, ticks
from harness.analysis.privileged import find_variable, privileged_state
from harness.analysis.result import Cell, Result, Table, agent_title, result_provenance
from harness.errors import AgentError, HarnessError, RecordingError, nearest_names
from harness.recording.recording import Recording
from harness.statistics import Interval, rank_p

__all__ = ["FEWEST", "Probe", "Probes", "deal", "fit_probe", "probes"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
FEWEST = 6
"""Episodes without which neither a probe nor its interval means anything."""
_FOLDS = 5
_STRENGTHS = 10.0 ** np.arange(-3, 4)
"""Ridge penalties, in units of the mean variance of a standardised activation."""
_WIDEST = 4096
_MOST_BYTES = 256 << 20
_RESAMPLES = 2000


@dataclass(frozen=True)
class Probe:
    """How well one probe reads one variable in episodes that it was not fitted on.

    Attributes:
        value: R² against the mean of the fitted episodes, or the area under the ROC curve (AUROC).
        interval: 95 %, episodes drawn again; the fits are not repeated.
        controls: The same measure for probes fitted to, and scored on, the labels of other episodes.
        predictions: Held-out predictions, float64 [row].
        yes_no: Whether it is an AUROC.
    """

    value: float
    interval: Interval
    controls: tuple[float, ...]
    predictions: Float
    yes_no: bool

    @property
    def chance(self) -> float:
        """What a probe has that knows nothing: 0.5 (AUROC) or 0 (R²)."""
        return 0.5 if self.yes_no else 0.0

    @property
    def selectivity(self) -> float | None:
        """Value less the mean of the controls (Hewitt and Liang, 2019); None without controls."""
        return self.value - float(np.mean(self.controls)) if self.controls else None

    @property
    def p(self) -> float | None:
        """Share of controls, this one counted in, at least as far above chance; None without controls."""
        if not self.controls:
            return None
        return rank_p(max(0.0, self.value - self.chance), [max(0.0, c - self.chance) for c in self.controls])


@dataclass(frozen=True)
class Probes(Result):
    """Probes for several variables and hooks.

    Attributes:
        targets: Along the axis ``target``.
        hooks: Along the axis ``hook``.
        labels: The variables, float64 [row, target]; NaN where one has no value.
        episode: Which episode a row belongs to, int64 [row].
        step: Its absolute step, int64 [row].
        fitted: Target and hook to the probe.
        untrained: The same for the agent with random weights; empty without one.
        agents: The agent's name, and that of the one with random weights.
    """

    targets: tuple[str, ...]
    hooks: tuple[str, ...]
    labels: Float
    episode: Int
    step: Int
    fitted: Mapping[tuple[str, str], Probe]
    untrained: Mapping[tuple[str, str], Probe]
    agents: tuple[str, str | None]

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """Labels, episode and step of each row, and predictions as ``prediction TARGET HOOK``."""
        own = {"labels": self.labels, "episode": self.episode, "step": self.step}
        return {**own, **{f"prediction {target} {hook}": probe.predictions
                          for (target, hook), probe in self.fitted.items()}}

    def tables(self) -> Sequence[Table]:
        """One for each variable."""
        return [self._table(target) for target in self.targets]

    def _table(self, target: str) -> Table:
        rows: list[tuple[Cell, ...]] = []
        variable, thing = find_variable(target)
        for hook in self.hooks:
            probe, other = self.fitted[target, hook], self.untrained.get((target, hook))
            shuffled = float(np.mean(probe.controls)) if probe.controls else None
            rows.append((hook, probe.value, probe.interval, shuffled, probe.selectivity, probe.p,
                         *(() if other is None else (other.value, other.interval))))
        agent, other_agent = self.agents
        y = self.labels[:, self.targets.index(target)]
        base = f"yes in {np.nanmean(y):.0%}" if variable.yes_no else \
            f"{np.nanmean(y):.3g} ± {np.nanstd(y):.2g} {variable.unit}"
        what, chance = ("AUROC", "0.5 is chance") if variable.yes_no else \
            ("R²", "0 is the mean of the fitted episodes; a probe that reads nothing may lie below")
        note = f"{variable.meaning.format(thing)}: {base}. {chance}."
        if target == self.targets[-1]:
            note += " Held out: whole episodes. other labels: fitted to another episode's labels at the same steps; " \
                "p is not corrected for the number of rows. What can be read need not be used." + \
                (f" untrained: {other_agent}, over the same pictures." if other_agent else "")
        n = np.isfinite(y)
        return Table(f"{agent}: {target} read linearly, {what} in {len(np.unique(self.episode[n]))} episodes, "
                     f"{n.sum()} pictures",
                     ("hook", what, "95 %", "other labels", "selectivity", "p",
                      *(("untrained", "its 95 %") if self.untrained else ())), tuple(rows), note)


def probes(recordings: Sequence[Recording], *, agent: Agent | None = None,
           targets: tuple[str, ...] = ("distance:logs", "share:logs", "crosshair:logs"),
           hooks: tuple[str, ...] = ("blocks.*.hook_resid_post",), every: int = 5, controls: int = 20,
           untrained: str | None = None, progress: Progress | None = None) -> Probes:
    """Linear probes from activations to the world's state, fitted and scored on different episodes.

    A row is a picture: x the activation [d] of a hook there, y a state variable of the world at that moment, found by
    playing the recorded actions in the recorded world again. The probe is ridge regression on standardised x,
    ``min mean (y - b - w z)^2 + s |w|^2``; for yes-no variables y is 0 or 1, so that it is Fisher's linear
    discriminant, and AUROC asks for no threshold. Episodes are dealt into up to five groups; each group is predicted by
    a probe that saw nothing of it, whose strength s was chosen among 0.001 to 1000 by the same procedure within the
    other groups. Recordings that begin in the same world (scenario and seed: forks, twins) count as one episode, since
    their pictures are alike. AUROC counts pairs of pictures of one group only: predictions of different probes are not
    compared.

    Controls: each episode gets the labels of another one, step by step, and everything is done again. So the control
    labels have the course over time and the neighbourhoods of the true ones, and what a probe makes of time or by
    remembering is in the control too (shuffled labels; selectivity after Hewitt and Liang 2019, arXiv 1909.03368).
    With ``untrained``, an agent with random weights looks at the same pictures: what can be read there is in the
    picture, and not learned. A variable that can be read is not thereby used (Alain and Bengio 2016, arXiv 1610.01644;
    Belinkov 2022): ``harness effect`` with a direction removed tests that.

    Variables (``in_view:logs``, ``distance:villager``, ``pitch``, ...): ``in_view``, ``share``, ``distance``,
    ``crosshair`` and ``reach`` with an object behind a colon (``logs``, ``leaves``, a creature, a block, a tag), and
    ``hurt``, ``on_ground``, ``pitch``, ``speed``, ``health``.

    Args:
        recordings: Six episodes or more.
        agent: Looks at the pictures again where a hook was not traced. Without one, all must have been traced.
        targets: State variables.
        hooks: Names or globs; at most 4,096 numbers per picture each.
        every: Take every so many-th picture: neighbours are nearly the same.
        controls: Label controls.
        untrained: An agent with random weights (bundled: ``untrained``; or an agent file with ``random_seed``).
        progress: Called with (steps done, steps in all).

    Raises:
        RecordingError: for fewer than six episodes, the same recording twice, recordings of different agents, a hook
            that was not traced where there is no agent, a world that cannot be made again, a variable with one value.
        HarnessError: for an unknown variable, an activation that is too large, or numbers out of range.
        AgentError: when ``untrained`` is none.
    """
    for target in targets:
        find_variable(target)
    if every < 1 or controls < 0 or not targets or not hooks:
        raise HarnessError(f"expected every >= 1, controls >= 0, targets and hooks, got {every}, {controls}, "
                           f"{len(targets)}, {len(hooks)}")
    groups = _episodes(recordings)
    other = None if untrained is None else _random_agent(untrained)
    names, from_agent = _where(recordings, agent, hooks)
    if other is not None:
        other.resolve_hooks(names)
    if from_agent and agent is not None:
        _check_size(recordings, {name: agent.hook_shapes()[name][0] for name in names}, every)
    else:
        _check_size(recordings, {name: recordings[0].activations[name].shape[1:] for name in names}, every)
    steps = sum(map(len, recordings))
    tick = ticks(progress, steps * (1 + from_agent + (other is not None)))
    seen = [_activations(each, agent if from_agent else None, names, every, tick) for each in recordings]
    labels = [privileged_state(each, targets, every, tick)[:len(x[names[0]])]
              for each, x in zip(recordings, seen, strict=True)]
    beside = [] if other is None else [_activations(each, other, names, every, tick) for each in recordings]
    y = np.concatenate(labels)
    episode = np.repeat(groups, [len(each) for each in labels])
    step = np.concatenate([each.first_step + every * np.arange(len(rows))
                           for each, rows in zip(recordings, labels, strict=True)])
    for target, column in zip(targets, y.T, strict=True):
        _check_labels(target, column, episode, recordings[0])

    def fit_all(found: Sequence[Mapping[str, npt.NDArray[np.float32]]]) -> dict[tuple[str, str], Probe]:
        return {(target, hook): fit_probe(np.concatenate([each[hook][:len(rows)] for each, rows in zip(
                    found, labels, strict=True)]), y[:, i], episode, yes_no=find_variable(target)[0].yes_no,
                    controls=controls)
                for i, target in enumerate(targets) for hook in names}

    said = {"targets": list(targets), "hooks": names, "every": every, "controls": controls, "untrained": untrained}
    provenance = {**result_provenance("probes", recordings[0], **said), "recordings": [r.path.name for r in recordings]}
    header = recordings[0].header["agent"]
    title = agent_title(agent.name, agent.description) if agent is not None and from_agent else \
        agent_title(header.get("name"), header.get("description"))
    return Probes(provenance, targets, tuple(names), y, episode, step, fit_all(seen), fit_all(beside) if beside else {},
                  (title, None if other is None else agent_title(other.name, other.description)))


# --- what goes in --------------------------------------------------------------------------------------------------

def _episodes(recordings: Sequence[Recording]) -> list[int]:
    """The episode of each recording: those that begin in the same world are one."""
    ids, worlds = set(), dict[tuple[Any, int], int]()
    for each in recordings:
        if each.id in ids:
            raise RecordingError("the same recording was given twice", where=str(each.path))
        if not len(each):
            raise RecordingError(f"the recording has no steps: {each.summary}", where=str(each.path))
        ids.add(each.id)
        worlds.setdefault((each.header["scenario"].get("name"), each.seed), len(worlds))
    if len(worlds) < FEWEST:
        raise RecordingError(f"expected {FEWEST} episodes or more, got {len(worlds)} (recordings of one scenario and "
                             "seed are one)", hint="harness run SCENARIO --episodes 20 makes them; give their folder")
    return [worlds[each.header["scenario"].get("name"), each.seed] for each in recordings]


def _random_agent(name: str) -> Agent:
    agent = load_agent(name)
    if "random weights" not in agent.description:
        raise AgentError(f'untrained: "{name}" has no random weights: {agent.description}',
                         hint='use "untrained", or an agent file with random_seed')
    return agent


def _where(recordings: Sequence[Recording], agent: Agent | None, hooks: Sequence[str]) -> tuple[list[str], bool]:
    """The hooks' names, and whether the agent must look again."""
    first = recordings[0]
    digests = {str(each.header["agent"].get("weights_digest", each.header["agent"].get("name")))
               for each in recordings}
    stored = [set(each.activations) for each in recordings]
    if agent is not None:
        names = agent.resolve_hooks(hooks)
        same = digests == {str(agent.provenance().get("weights_digest"))}
        if not (same and all(set(names) <= each for each in stored)):
            return names, True
    if len(digests) > 1:
        raise RecordingError("the recordings are of different agents, whose activations cannot be put together",
                             where=str(first.path), hint="give an agent: it looks at all pictures again")
    found = []
    for hook in hooks:
        matching = [name for name in first.activations if fnmatch.fnmatchcase(name, hook)
                    and all(name in each for each in stored)]
        if not matching:
            near = nearest_names(hook, list(first.activations))
            raise RecordingError(f'not every recording holds "{hook}"', where=str(first.path),
                                 hint=f"record them with --hooks '{hook}', or give the agent; the first holds "
                                      f"{', '.join(near) or 'none like it'}")
        found += matching
    return list(dict.fromkeys(found)), False


def _check_size(recordings: Sequence[Recording], shapes: Mapping[str, tuple[int, ...]], every: int) -> None:
    for name, shape in shapes.items():
        if math.prod(shape) > _WIDEST:
            raise HarnessError(f"{name} has {math.prod(shape):,} numbers per picture, more than the {_WIDEST:,} that a "
                               "probe takes", hint="choose a narrower one, such as cnn.hook_dense or hook_embed")
    size = sum(map(math.prod, shapes.values())) * 4 * sum(map(len, recordings))
    if size / every > _MOST_BYTES:
        raise HarnessError(f"the activations are {size / every / 2**20:,.0f} MB, more than {_MOST_BYTES >> 20}",
                           hint=f"take every {-(-size // _MOST_BYTES)}th picture (every), or fewer hooks")


def _activations(recording: Recording, agent: Agent | None, names: Sequence[str], every: int,
                 tick: Callable[[int], None]) -> dict[str, npt.NDArray[np.float32]]:
    """Per hook float32 [row, d], recorded or as the agent has them now."""
    kept: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in names}
    for name, start, values in _read(recording, agent, names, tick):
        rows = values[-start % every::every]
        kept[name].append(rows.reshape(len(rows), -1).astype(np.float32))
    return {name: np.concatenate(rows) for name, rows in kept.items()}


def _read(recording: Recording, agent: Agent | None, names: Sequence[str], tick: Callable[[int], None]
          ) -> Iterator[tuple[str, int, npt.NDArray[Any]]]:
    """Hook, first row, and activations of neighbouring steps."""
    if agent is None:
        for name in names:
            series = recording.activations[name]
            for start in range(0, len(series), 256):
                yield name, start, series[start:start + 256]
        return
    start = 0
    for outputs in listen(recording, agent, names, tick):
        for name in names:
            yield name, start, np.stack([np.asarray(each.activations[name]) for each in outputs])
        start += len(outputs)


def _check_labels(target: str, y: Float, episode: Int, recording: Recording) -> None:
    known = np.isfinite(y)
    if len(np.unique(episode[known])) < FEWEST:
        raise RecordingError(f"{target} has a value in {len(np.unique(episode[known]))} episodes, expected {FEWEST} or "
                             "more", where=str(recording.path), hint="choose another variable, or other episodes")
    values = np.unique(y[known])
    if len(values) == 1:
        raise RecordingError(f"{target} is {values[0]:g} in all {known.sum()} pictures, so there is nothing to read",
                             where=str(recording.path), hint="choose another variable, or other episodes")
    for value in (0.0, 1.0) if find_variable(target)[0].yes_no else ():
        n = len(np.unique(episode[known & (y == value)]))
        if n < 2:
            raise RecordingError(f"{target} is {'yes' if value else 'no'} in {n} episode only, so it cannot be held "
                                 "out", where=str(recording.path), hint="choose another variable, or more episodes")


# --- the probe -----------------------------------------------------------------------------------------------------

def deal(episode: Int, folds: int = _FOLDS, seed: int = 0) -> Int:
    """The fold of every row, int64 [row]: all rows of an episode are in one, and each has two episodes or more.

    Labels have no say in it, so that true and control labels are treated alike.

    Args:
        episode: Numbers [row].
        folds: At most so many.
        seed: Of the order in which episodes are dealt.
    """
    numbers, place = np.unique(episode, return_inverse=True)
    n = max(2, min(folds, len(numbers) // 2))
    return np.asarray(np.random.default_rng(seed).permutation(np.arange(len(numbers)) % n)[place])


def fit_probe(x: npt.NDArray[Any], y: Float, episode: Int, *, yes_no: bool, controls: int = 20, seed: int = 0) -> Probe:
    """A probe, scored on held-out episodes, with its controls. See ``probes``.

    Args:
        x: Activations [row, d].
        y: Labels [row], 0 and 1 where ``yes_no``; rows with NaN are left out.
        episode: Episode of each row; rows of one follow each other in order of time.
        yes_no: Whether to measure AUROC; else R².
        controls: How many.
        seed: Of controls and resamples.
    """
    known = np.isfinite(y)
    wide, labels, (numbers, place) = x[known].astype(np.float64), y[known], \
        np.unique(episode[known], return_inverse=True)
    rng = np.random.default_rng(seed)
    columns = np.stack([labels, *(_others(labels, place, rng) for _ in range(controls))], 1)
    fold = deal(place, seed=seed)
    predicted, base = _held_out(wide, columns, fold)
    measure = _auroc if yes_no else _r_squared
    n = len(numbers)
    drawn = rng.multinomial(n, np.full(n, 1 / n), _RESAMPLES).astype(np.float64)
    scores = [measure(columns[:, c], predicted[:, c], base[:, c], place, fold) for c in range(columns.shape[1])]
    values = [float(score(np.ones(n))) for score in scores]
    low, high = np.nanpercentile(scores[0](drawn), [2.5, 97.5])
    whole = np.full(len(y), np.nan)
    whole[known] = predicted[:, 0]
    return Probe(values[0], Interval(float(low), float(high)), tuple(v for v in values[1:] if np.isfinite(v)), whole,
                 yes_no)


def _others(y: Float, place: Int, rng: np.random.Generator) -> Float:
    """Every episode's labels replaced with another's, step by step; repeated or cut to length."""
    order, swapped = rng.permutation(place.max() + 1), np.empty_like(y)
    for here, there in zip(order, np.roll(order, 1), strict=True):
        swapped[place == here] = np.resize(y[place == there], int((place == here).sum()))
    return swapped


def _held_out(x: Float, y: Float, fold: Int) -> tuple[Float, Float]:
    """Predictions of each fold [row, column] by probes of the others, and the means of those."""
    predicted, base = np.empty_like(y), np.empty_like(y)
    for held in np.unique(fold):
        out, rest = fold == held, fold != held
        error = np.zeros((len(_STRENGTHS), y.shape[1]))
        for inner in np.unique(fold[rest]):
            test, train = fold == inner, rest & (fold != inner)
            if train.any():
                error += ((_ridge(x[train], y[train], x[test]) - y[test]) ** 2).sum(1)
        best = error.argmin(0)
        predicted[out] = np.take_along_axis(_ridge(x[rest], y[rest], x[out]), best[None, None], 0)[0]
        base[out] = y[rest].mean(0)
    return predicted, base


def _ridge(x: Float, y: Float, new: Float) -> Float:
    """Fit on x [row, d], y [row, column]; predict rows of ``new``: [strength, row, column]."""
    mean, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    z, level = (x - mean) / scale, y.mean(0)
    covariance, target = z.T @ z / len(z), z.T @ (y - level) / len(z)
    ridged = covariance + _STRENGTHS[:, None, None] * np.eye(len(covariance))
    return np.asarray((new - mean) / scale @ np.linalg.solve(ridged, target[None]) + level)


def _r_squared(y: Float, predicted: Float, base: Float, place: Int, fold: Int) -> Callable[[Float], Float]:
    """R² [...] for weights of episodes [..., episode]."""
    error, total = np.bincount(place, (y - predicted) ** 2), np.bincount(place, (y - base) ** 2)
    return lambda weights: 1 - weights @ error / (weights @ total)


def _auroc(y: Float, predicted: Float, base: Float, place: Int, fold: Int) -> Callable[[Float], Float]:
    """The share of (yes, no) pairs of one fold in which yes is predicted higher, for weights [..., episode]."""
    n = int(place.max()) + 1
    right, pairs = np.zeros((n, n)), np.zeros((n, n))
    fold_of = {int(e): int(f) for e, f in zip(place, fold, strict=True)}
    yes = [predicted[(place == e) & (y > 0.5)] for e in range(n)]
    no = [np.sort(predicted[(place == e) & (y <= 0.5)]) for e in range(n)]
    for a in range(n):
        for b in range(n):
            if fold_of[a] == fold_of[b]:
                below = np.searchsorted(no[b], yes[a], "left").sum() + np.searchsorted(no[b], yes[a], "right").sum()
                right[a, b], pairs[a, b] = below / 2, len(yes[a]) * len(no[b])

    def score(weights: Float) -> Float:
        with np.errstate(invalid="ignore"):
            return np.asarray(((weights @ right) * weights).sum(-1) / ((weights @ pairs) * weights).sum(-1))
    return score
