"""From maps, step by step, to the scores of a result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.analysis.saliency.result import AREA, MethodScore, ObjectEffect, ObjectScore, Saliency
from harness.analysis.saliency.scene import Scene
from harness.analysis.saliency.scoring import hit, label_p, mass_share, mean_of, rank_correlations, shifted_ratios
from harness.statistics import Interval, block_bootstrap, spearman, wilson

__all__ = ["Tally"]

Float = npt.NDArray[np.float64]
Map = npt.NDArray[np.float32]
BLOCK = 20
"""Steps of a block when one recording is resampled: a second of the game."""
DRAWS = 4000
"""Shifts drawn for the null."""


class Tally:
    """Adds up scores without keeping maps.

    Args:
        n_networks: The agent's, and the random ones.
        methods: In order.
    """

    def __init__(self, n_networks: int, methods: Sequence[str]) -> None:
        self._n, self._methods = n_networks, tuple(methods)
        self._episodes, self._steps = list[int](), list[int]()
        self._area: list[dict[str, float]] = []
        self._mass: list[dict[str, Float]] = []
        self._hits: list[dict[str, Float]] = []
        self._effects: list[Sequence[Mapping[str, float]]] = []
        self._alike: list[Float] = []
        self._shifted: dict[str, Float] = {}
        self._counted: dict[str, npt.NDArray[np.int64]] = {}

    @property
    def objects(self) -> tuple[str, ...]:
        """Those seen so far."""
        return tuple(sorted(self._shifted))

    def add(self, episode: int, scene: Scene, maps: Sequence[Sequence[Map]], effects: Sequence[Mapping[str, float]]
            ) -> None:
        """One step.

        Args:
            episode: Number of its recording.
            scene: What is seen.
            maps: By network and method.
            effects: By network, object to the change of the target when it is removed.
        """
        self._episodes.append(episode)
        self._steps.append(scene.step)
        self._effects.append(effects)
        self._area.append({name: float(cover.mean(dtype=np.float64)) for name, cover in scene.covers.items()})
        self._mass.append({name: np.array([[mass_share(m, cover) for m in row] for row in maps])
                           for name, cover in scene.covers.items()})
        self._hits.append({name: np.array([[hit(m, cover) if m.any() else math.nan for m in row] for row in maps])
                           for name, cover in scene.covers.items()})
        self._alike.append(np.array([mean_of([spearman(np.abs(maps[0][k]).ravel(), np.abs(other[k]).ravel())
                                              for other in maps[1:]]) for k in range(len(self._methods))]))
        # Steps of one recording hang together, so they are shifted by the same; another recording by something else.
        shifts = np.random.default_rng(episode).integers(0, maps[0][0].size, DRAWS)
        shape = self._n, len(self._methods)
        for name, cover in scene.covers.items():
            total = self._shifted.setdefault(name, np.zeros((*shape, DRAWS)))
            count = self._counted.setdefault(name, np.zeros(shape, np.int64))
            for net, k in np.ndindex(shape):
                if maps[net][k].any():
                    total[net, k] += shifted_ratios(maps[net][k], cover).ravel()[shifts]
                    count[net, k] += 1

    def result(self, provenance: Mapping[str, Any], target: str, maps: Map, notes: Sequence[str]) -> Saliency:
        """The scores of all steps so far.

        Args:
            provenance: Of the result.
            target: What the maps are of, in words.
            maps: Of the agent's network, float32 [method, t, H, W].
            notes: What to say besides.
        """
        names = self.objects
        shape = (self._n, len(self._methods), len(self._steps), len(names))
        area, mass, hits = np.full(shape[2:], np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
        effects = np.full((self._n, *shape[2:]), np.nan)
        for t in range(len(self._steps)):
            for i, name in enumerate(names):
                if name in self._area[t]:
                    area[t, i] = self._area[t][name]
                    mass[..., t, i], hits[..., t, i] = self._mass[t][name], self._hits[t][name]
                    effects[:, t, i] = [each.get(name, math.nan) for each in self._effects[t]]
        scored = tuple(self._object_score(k, i, name, area[:, i], mass[..., i], hits[..., i])
                       for k in range(len(self._methods)) for i, name in enumerate(names)
                       if np.isfinite(mass[0, k, :, i]).any())
        return Saliency(
            provenance, target, self._methods, names, np.asarray(self._episodes, np.int64),
            np.asarray(self._steps, np.int64), maps, area, mass, hits, effects, scored,
            self._method_scores(scored, names, area, mass, effects),
            tuple(self._object_effect(name, effects[..., i]) for i, name in enumerate(names)), tuple(notes))

    def _object_score(self, k: int, i: int, name: str, area: Float, mass: Float, hits: Float) -> ObjectScore:
        """One method on one object: area [t], mass and hits [net, method, t]."""
        ratio = mass[:, k] / area
        seen = np.isfinite(ratio[0])
        null, ratios = self._null(name, 0, k), [mean_of(each) for each in ratio]
        above = sum(self._above(name, net, k, ratios[net]) for net in range(1, self._n))
        n, on = int(seen.sum()), int(hits[0, k][seen].sum())
        return ObjectScore(self._methods[k], name, n, mean_of(mass[0, k][seen]), mean_of(area[seen]), ratios[0],
                           self._interval(ratio[0]), float(np.quantile(null, 0.99)),
                           float((1 + (null >= ratios[0]).sum()) / (1 + DRAWS)), _known(mean_of(ratios[1:])), above, on,
                           wilson(on, n))

    def _null(self, name: str, net: int, k: int) -> Float:
        """The mean ratio of each drawn shift."""
        return np.asarray(self._shifted[name][net, k] / max(1, self._counted[name][net, k]))

    def _above(self, name: str, net: int, k: int, ratio: float) -> bool:
        return bool(ratio > np.quantile(self._null(name, net, k), 0.99))

    def _method_scores(self, scored: Sequence[ObjectScore], names: Sequence[str], area: Float, mass: Float,
                       effects: Float) -> tuple[MethodScore, ...]:
        truth = np.abs(effects[0])
        if not names:
            return ()
        found = [self._ranked(AREA, area, truth, {})]
        for k, method in enumerate(self._methods):
            more: dict[str, Any] = {"above": sum(s.ratio > s.null for s in scored if s.method == method)}
            if self._n > 1:
                more["random"] = _known(mean_of([mean_of(rank_correlations(each[k], truth)) for each in mass[1:]]))
                more["alike"] = _known(mean_of([step[k] for step in self._alike]))
                more["above_random"] = sum(s.n_random for s in scored if s.method == method) / (self._n - 1)
            found.append(self._ranked(method, mass[0, k], truth, more))
        return tuple(found)

    def _ranked(self, method: str, mass: Float, truth: Float, more: Mapping[str, Any]) -> MethodScore:
        ranks = rank_correlations(mass, truth)
        n = int(np.isfinite(ranks).sum())
        return MethodScore(method, _known(mean_of(ranks)), self._interval(ranks), label_p(mass, truth), n, **more)

    def _object_effect(self, name: str, effects: Float) -> ObjectEffect:
        """Effects [net, t]."""
        size = np.abs(effects)
        n = int(np.isfinite(size[0]).sum())
        return ObjectEffect(name, n, _known(mean_of(size[0])), self._interval(size[0]), _known(mean_of(effects[0])),
                            _known(mean_of(size[1:])))

    def _interval(self, values: Float) -> Interval | None:
        """95 % of the mean of values [t]; None for fewer than two."""
        there, of = np.isfinite(values), np.asarray(self._episodes)
        if there.sum() < 2:
            return None
        series = [values[there & (of == episode)] for episode in np.unique(of)]
        # Only where there is one recording are there blocks, and its steps ascend.
        apart = (self._steps[-1] - self._steps[0]) / (len(self._steps) - 1)
        return block_bootstrap(series, max(1, round(BLOCK / max(apart, 1))))


def _known(value: float) -> float | None:
    """None in place of NaN."""
    return None if math.isnan(value) else value
