"""Linear concept erasure: after it, no linear probe reads the concept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent
from harness.errors import InterventionError
from harness.intervention.arrays import ArrayValue
from harness.intervention.feature.edit import FeatureEdit, read_values
from harness.intervention.intervention import Span
from harness.intervention.schedule import ALWAYS, Schedule

__all__ = ["LinearErasure"]

_TOLERANCE = 1e-6
"""Of the largest: smaller eigenvalues of a covariance, and smaller singular values, count as zero."""


@dataclass(frozen=True)
class LinearErasure(FeatureEdit):
    """Take what is linearly known of a concept out of an activation, changing it as little as can be.

    ``x - write^T read (x - mean)``. ``LinearErasure.fit`` finds the three by LEACE's closed form (Belrose et al. 2023,
    "LEACE: Perfect linear concept erasure in closed form", arXiv 2306.03819, theorem 4.3): with W the pseudo-inverse of
    the root of the covariance of x, U an orthonormal base of the columns of W cov(x, z), ``read = U^T W`` and
    ``write = U^T W^+``. Where it was fitted, x and z then have no covariance, and of all such affine maps this one
    moves x least in mean square.

    Attributes:
        read: [k, d], k the rank of the concept's covariance with x (1 at most for a yes-no concept, 0 where x does not
            know it: then nothing is changed).
        write: [k, d].
        mean: Of the activation [d].
    """

    read: Any = None
    write: Any = None
    mean: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("read", "write", "mean"):
            if getattr(self, name) is None:
                raise self.wrong(f"needs {name}", hint="LinearErasure.fit(hook, activations, concept) finds all three")
            object.__setattr__(self, name, read_values(getattr(self, name), type(self).__name__, name))
        if self.read.array.ndim != 2 or self.read.shape != self.write.shape or self.mean.shape != self.read.shape[1:]:
            raise self.wrong(f"expected read and write [k, d] and mean [d], got {list(self.read.shape)}, "
                             f"{list(self.write.shape)} and {list(self.mean.shape)}")
        if self.units is not None:
            raise self.wrong("an erasure is over all units; leave units out")

    @classmethod
    def fit(cls, hook: str, x: npt.ArrayLike, z: npt.ArrayLike, *, schedule: Schedule = ALWAYS,
            name: str | None = None) -> LinearErasure:
        """The erasure of a concept from activations at a hook.

        Args:
            hook: Where it will act.
            x: Activations [n, d].
            z: The concept: numbers [n], 0 and 1 for yes-no; or [n, m], one column for each class.
            schedule: When it will act.
            name: What reports call it.

        Raises:
            InterventionError: for activations and concept of different length, fewer than two, or NaN.
        """
        seen, concept = np.asarray(x, np.float64), np.asarray(z, np.float64)
        concept = concept[:, None] if concept.ndim == 1 else concept
        if seen.ndim != 2 or concept.ndim != 2 or len(seen) != len(concept) or len(seen) < 2:
            raise InterventionError(f"LinearErasure: expected activations [n, d] and a concept [n] or [n, m], n from 2 "
                                    f"on, got {list(seen.shape)} and {list(np.shape(z))}")
        if not np.isfinite(seen).all() or not np.isfinite(concept).all():
            raise InterventionError("LinearErasure: the activations or the concept hold NaN or infinities")
        mean = seen.mean(0)
        centred = seen - mean
        shared = centred.T @ (concept - concept.mean(0)) / len(seen)
        values, vectors = np.linalg.eigh(centred.T @ centred / len(seen))
        real = values > _TOLERANCE * max(values[-1], 0.0)
        roots, vectors = np.sqrt(values[real]), vectors[:, real]
        # In the base of the covariance's own vectors W is a division by the roots.
        base, strengths, _ = np.linalg.svd(vectors.T @ shared / roots[:, None], full_matrices=False)
        spread = np.sqrt(concept.var(0).sum())  # a singular value is a correlation times this
        kept = base[:, strengths > _TOLERANCE * max(spread, 1e-300)]
        return cls(hook, read=(vectors / roots @ kept).T, write=(vectors * roots @ kept).T, mean=mean,
                   schedule=schedule, name=name)

    def fits(self, name: str, shape: tuple[int, ...]) -> None:
        """The mean must be as long as the hook's last axis."""
        if not shape or self.mean.shape[0] != shape[-1]:
            raise self.wrong(f'"{name}" has {shape[-1] if shape else 0} units, the erasure {self.mean.shape[0]}')

    def change(self, x: Any, step: int, span: Span) -> Any:
        """``x - write^T read (x - mean)``."""
        if not len(self.read.array):
            return x
        read, write, mean = (x.new_tensor(each.array) for each in (self.read, self.write, self.mean))
        return x - (x - mean) @ read.T @ write

    def control(self, seed: int, agent: Agent) -> FeatureEdit | None:
        """The same number of random orthonormal directions, set to the mean."""
        k, d = self.read.shape
        if not k:
            return None
        random, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, k)))
        directions = ArrayValue(random.T.astype(np.float32))
        return replace(self, read=directions, write=directions)
