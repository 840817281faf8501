"""The result of ``saliency``: maps, and how they stand to objects, to what objects do, and to chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from harness.analysis.result import Cell, Result, Table
from harness.recording.schema import plain
from harness.statistics import Interval
from harness.world.observation import POV_SHAPE

__all__ = ["AREA", "MethodScore", "ObjectScore", "Saliency"]

AREA = "area alone"
"""The row of a map that is the same everywhere: what the size of objects alone explains."""


@dataclass(frozen=True)
class ObjectScore:
    """One method on one object, over the steps in which it is seen (at least a thousandth of the picture).

    Attributes:
        method: Name of the method.
        object: Name of the object.
        n: Steps.
        mass: Mean share of the map's magnitude on it.
        area: Mean share of the picture.
        ratio: Mean of mass over area; 1 is chance.
        interval: 95 % of the ratio: recordings resampled, or blocks of steps of the only one. None with one step.
        null: The 99 % quantile of the ratio when map and picture are shifted against each other at random, by the same
            in every step of a recording: what a map of this spread gets that knows nothing of where the object is.
        p: Share of the shifts, the unshifted one counted in, whose ratio is at least as large.
        random: Mean ratio with random weights, over the random networks; None without.
        n_random: How many of them lie above their own 99 % quantile.
        hits: Steps in which the map's top is on the object.
        hits_interval: Wilson's 95 % of their share. Chance is the area.
    """

    method: str
    object: str
    n: int
    mass: float
    area: float
    ratio: float
    interval: Interval | None
    null: float
    p: float
    random: float | None
    n_random: int
    hits: int
    hits_interval: Interval


@dataclass(frozen=True)
class MethodScore:
    """One method over all objects.

    Attributes:
        method: Its name, or ``AREA``.
        rank: Mean over steps of Spearman's correlation, over objects, between mass and the absolute effect of removing
            the object; None where fewer than three objects could be compared in every step.
        interval: 95 % of it, as for the ratio.
        p: Share of shuffles of the objects' names that are at least as far from 0.
        n: Steps that count.
        random: Mean of the same with the maps of random weights; None without.
        alike: Mean over steps of Spearman's correlation, over pixels, between the map's magnitude and that of random
            weights (Adebayo et al., arXiv 1810.03292): near 1, the map shows the picture and not what was learned.
        above: Objects whose ratio lies above the 99 % quantile of shifts.
        above_random: The same with random weights, mean over the random networks.
    """

    method: str
    rank: float | None
    interval: Interval | None
    p: float | None
    n: int
    random: float | None = None
    alike: float | None = None
    above: int | None = None
    above_random: float | None = None


@dataclass(frozen=True)
class ObjectEffect:
    """What removing one object from the picture does to the target, at the same memory.

    Attributes:
        object: Its name.
        n: Steps in which it was removed.
        size: Mean absolute change; None where it was never removed, as the sky.
        interval: 95 % of it; None with one step.
        mean: Mean change, with its sign: removed less whole; None likewise.
        random: Mean absolute change with random weights, over the random networks; None without.
    """

    object: str
    n: int
    size: float | None
    interval: Interval | None
    mean: float | None
    random: float | None


@dataclass(frozen=True)
class Saliency(Result):
    """Maps of what a target depends on in the picture, and their scores.

    The last axes of ``maps`` are the policy's picture, which is the whole world's picture of 640 x 360 stretched to it;
    ``heat`` gives it back at that size. ``mass``, ``hits`` and ``effects`` have a first axis ``net``: the agent's
    network, then the random ones.

    Attributes:
        target: What the maps are of, in words.
        methods: Along the axis ``method``.
        objects: Along the axis ``object``; empty where no world could be asked.
        episodes: int64 [t]: number of the recording of each step, in the order given.
        steps: int64 [t].
        maps: float32 [method, t, H, W], with their sign where the method has one.
        area: float64 [t, object]: share of the picture; NaN where an object is not seen.
        mass: float64 [net, method, t, object]: share of the map's magnitude.
        hits: float64 [net, method, t, object]: 1 where the map's top is on the object, else 0.
        effects: float64 [net, t, object]: change of the target when the object is removed from the picture (nats); NaN
            where it was not.
        object_scores: By method and object.
        method_scores: By method, ``AREA`` first.
        object_effects: By object.
        notes: What could not be scored, and why; whose maps they are.
    """

    target: str
    methods: tuple[str, ...]
    objects: tuple[str, ...]
    episodes: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    maps: npt.NDArray[np.float32]
    area: npt.NDArray[np.float64]
    mass: npt.NDArray[np.float64]
    hits: npt.NDArray[np.float64]
    effects: npt.NDArray[np.float64]
    object_scores: tuple[ObjectScore, ...]
    method_scores: tuple[MethodScore, ...]
    object_effects: tuple[ObjectEffect, ...]
    notes: tuple[str, ...]

    def heat(self, step: int, method: str | None = None, episode: int = 0) -> npt.NDArray[np.float32] | None:
        """A map over the world's picture: its magnitude, float32 [360, 640], the largest 1.

        Args:
            step: Of the recording.
            method: Which; None for the first.
            episode: Number of the recording.

        Returns:
            None for a step without a map, or a map of zeros.
        """
        found = np.flatnonzero((self.steps == step) & (self.episodes == episode))
        if not len(found):
            return None
        row = np.abs(self.maps[0 if method is None else self.methods.index(method), found[0]])
        top = float(row.max())
        if not top:
            return None
        large = cv2.resize(row / top, POV_SHAPE[1::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(large, np.float32)

    def score(self, method: str, name: str) -> ObjectScore:
        """The score of a method on an object.

        Raises:
            KeyError: when there is none.
        """
        for each in self.object_scores:
            if (each.method, each.object) == (method, name):
                return each
        raise KeyError(f"{method} on {name}")

    def tables(self) -> Sequence[Table]:
        """Methods, then objects, then each method on each object."""
        note = "\n".join(self.notes)
        head = f"saliency of the {self.target}, {self.provenance['agent']}: {len(self.steps)} steps"
        if not self.objects:
            rows = tuple((name, len(self.steps)) for name in self.methods)
            return [Table(head, ("method", "maps"), rows, note)]
        return [self._methods_table(head, note), self._effects_table(), *map(self._objects_table, self.methods)]

    def _methods_table(self, head: str, note: str) -> Table:
        rows = tuple((s.method, s.rank, s.interval, s.p, s.n, s.random, s.alike,
                      None if s.above is None else f"{s.above}/{len(self.objects)}", s.above_random)
                     for s in self.method_scores)
        read = ("rank: Spearman over objects between a map's mass on each and what removing it does; p: objects' names "
                "shuffled; random: random weights. A map is worth something where it beats these and the area alone.\n"
                "alike: rank correlation over pixels with the map of random weights. above: objects above the 99 % of "
                "shifted maps; of a map that knows nothing, about one in a hundred is.")
        return Table(head, ("method", "rank", "95 %", "p", "steps", "random: rank", "alike", "above",
                            "random: above"), rows, f"{read}\n{note}" if note else read)

    def _effects_table(self) -> Table:
        rows = tuple((e.object, e.n, e.size, e.interval, e.mean, e.random) for e in self.object_effects)
        return Table(f"what is true: the change of the {self.target} when an object is removed from the picture",
                     ("object", "steps", "|change|", "95 %", "change", "random: |change|"), rows,
                     "Removed by drawing the world without it; hand and display are painted over, by guess. The memory "
                     "stays.")

    def _objects_table(self, method: str) -> Table:
        true = {e.object: e.size for e in self.object_effects}
        rows: list[tuple[Cell, ...]] = [
            (s.object, true[s.object], s.area, s.mass, s.ratio, s.interval, s.null, s.random, f"{s.hits}/{s.n}",
             s.hits_interval) for s in self.object_scores if s.method == method]
        return Table(method, ("object", "|change|", "area", "mass", "ratio", "95 %", "shifted", "random", "top",
                              "95 %"), tuple(rows),
                     "mass: share of the map on the object; ratio: mass / area, by chance 1; shifted: 99 % of the "
                     "ratios of shifted maps; random: ratio with random weights; top: steps in which the map's top is "
                     "on it, by chance the area.")

    def as_dict(self) -> dict[str, Any]:
        """JSON values: provenance, tables, and the scores as records."""
        records = {name: [plain(vars(each)) for each in getattr(self, name)]
                   for name in ("method_scores", "object_scores", "object_effects")}
        return {**super().as_dict(), "notes": list(self.notes), **records}
