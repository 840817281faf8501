"""Sparse autoencoders on CLIP's features of a folder of pictures, and which latents carry the spurious attribute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.agent.clip.model import CLIP
from harness.agent.clip.pictures import fit_pictures
from harness.agent.clip.tokens import ImageTokens, TokenSet
from harness.agent.sae import Sae
from harness.analysis.labelled_pictures import LabelledPictures
from harness.analysis.open_loop import Progress, ticks
from harness.analysis.result import Result, Table
from harness.analysis.sae.store import ActivationStore, StoredStep, StoreWriter
from harness.analysis.sae.tokens import token_layout
from harness.errors import LabelsError, WeightsError
from harness.statistics import auroc

__all__ = ["CARRIES", "AttributeLatents", "attribute_latents", "collect_pictures"]

Int = npt.NDArray[np.int64]
CARRIES = 0.75
"""AUROC of the attribute, within a class, from which on a latent is said to carry it."""
_UNIT = 256
"""Pictures that are stored in one go."""
_SHOWN = 12


def collect_pictures(model: CLIP, pictures: LabelledPictures, hooks: Sequence[str], folder: str | Path, *,
                     batch: int = 32, resume: bool = False, progress: Progress | None = None) -> ActivationStore:
    """Store what the image tower has of each picture: of the split ``train``, or of all where there are no splits.

    A picture is one step of an episode of its own; its tokens are the class token and the patches, or one vector.
    Beside it stand the numbers of its class and of its attribute.

    Args:
        model: From ``load_clip``.
        pictures: From ``read_labels``.
        hooks: Names or globs, in the image tower.
        folder: The store's.
        batch: Pictures of one forward pass.
        resume: Go on with what is in the folder.
        progress: Told of pictures done.

    Raises:
        HookError: for a hook that the model has not, or that holds no vectors.
        LabelsError: for a picture that cannot be read, or no picture to train on.
        StoreError: for a folder that holds a store already, or another one.
    """
    names = model.hook_stack.resolve([name if name.startswith("image.") else f"image.{name}" for name in hooks])
    points = [model.hook_stack.point(name) for name in names]
    layout = {name: token_layout(name, point.axes, point.shape[:len(point.axes) - 1])
              for name, point in zip(names, points, strict=True)}
    rows = _training(pictures)
    plan = {"agent": {"name": "clip", "description": model.description, "weights_digest": model.digest()},
            "variables": ["class", "attribute"],
            "episodes": [{"picture": pictures.files[row]} for row in rows]}
    writer = StoreWriter(Path(folder), plan, layout, resume=resume)
    tick = ticks(progress, len(rows))
    for unit, start in enumerate(range(0, len(rows), _UNIT)):
        some = rows[start:start + _UNIT]
        if not writer.finished(unit):
            writer.begin(unit)
            for place, kept in enumerate(_states(model, pictures, some, names, batch)):
                row = some[place]
                writer.add(StoredStep(start + place, 0, kept, (float(pictures.label[row]),
                                                               float(pictures.attribute[row]))))
            writer.end()
        tick(len(some))
    writer.close()
    return ActivationStore(folder)


@dataclass(frozen=True)
class AttributeLatents(Result):
    """How well each latent that fires tells the attribute, and the class.

    Attributes:
        title: Model and folder.
        latent: Numbers of the latents, the best for the attribute first, int64 [latent].
        of_attribute: AUROC of the attribute within a class, mean over the classes, float64 [latent].
        of_class: AUROC of the class within a value of the attribute, likewise.
        fires: Share of pictures in which it fires [latent].
        null: The largest distance of an AUROC from 1/2 with shuffled attributes, 95th percentile of the draws.
        note: How.
    """

    title: str
    latent: Int
    of_attribute: npt.NDArray[np.float64]
    of_class: npt.NDArray[np.float64]
    fires: npt.NDArray[np.float64]
    null: float
    note: str

    @property
    def carriers(self) -> tuple[int, ...]:
        """Those that carry the attribute, beyond the null, and tell it better than the class; the best first."""
        far, other = np.abs(self.of_attribute - 0.5), np.abs(self.of_class - 0.5)
        return tuple(int(j) for j in self.latent[(far >= CARRIES - 0.5) & (far > self.null) & (far > other)])

    def tables(self) -> list[Table]:
        """One."""
        rows = tuple((int(self.latent[i]), float(self.of_attribute[i]), float(self.of_class[i]), float(self.fires[i]),
                      "carries it" if int(self.latent[i]) in self.carriers else "")
                     for i in range(min(_SHOWN, len(self.latent))))
        return [Table(self.title, ("latent", "AUROC of the attribute", "AUROC of the class", "fires", ""), rows,
                      f"{self.note} carries it: AUROC {CARRIES} or more from either side, beyond the null "
                      f"({0.5 + self.null:.2f}), and further from 1/2 than that of the class. "
                      f"{len(self.carriers)} of {len(self.latent)} latents do: {list(self.carriers)}")]


def attribute_latents(model: CLIP, sae: Sae, pictures: LabelledPictures, *, tokens: TokenSet = "all",
                      draws: int = 100, batch: int = 32, seed: int = 0) -> AttributeLatents:
    """Which latents tell the spurious attribute, on the pictures of the split ``train``.

    A picture's value of a latent is its mean over the tokens. The AUROC of the attribute is taken within each class and
    averaged, so that a latent of the class does not count where class and attribute go together; that of the class
    within each value of the attribute. Null: attributes shuffled within the classes; of each draw the largest distance
    of any latent from 1/2.

    Args:
        model: From ``load_clip``.
        sae: Trained at a hook of its image tower.
        pictures: With two values of the attribute.
        tokens: At which image tokens.
        draws: Of the null.
        batch: Pictures of one forward pass.
        seed: Of the null.

    Raises:
        LabelsError: for an attribute that has not two values, or lacks one of them in every class.
        WeightsError: for an SAE that does not say its hook, or of another model.
    """
    if len(pictures.attributes) != 2:
        raise LabelsError(f"expected an attribute of two values, got {len(pictures.attributes)}",
                          hint="name its column: --column group=place")
    _check_sae(model, sae)
    assert sae.hook is not None
    rows = _training(pictures)
    values = np.stack([_of_tokens(sae, kept[sae.hook], tokens)
                       for kept in _states(model, pictures, rows, [sae.hook], batch)])
    fires = (values > 0).mean(0)
    latent = np.flatnonzero(fires > 0)
    ranks = values[:, latent]
    attribute, label = pictures.attribute[rows], pictures.label[rows]
    own, of_class = _within(ranks, attribute == 1, label), _class_auroc(ranks, label, attribute)
    rng, worst = np.random.default_rng(seed), []
    for _ in range(draws):
        mixed = attribute.copy()
        for each in np.unique(label):
            mixed[label == each] = rng.permutation(mixed[label == each])
        worst.append(float(np.abs(_within(ranks, mixed == 1, label) - 0.5).max()))
    order = np.argsort(-np.abs(own - 0.5), kind="stable")
    where = f"{sae.hook}, {tokens} tokens"
    return AttributeLatents({"analysis": "attribute latents", "model": model.description, "sae": sae.digest(),
                             "arguments": {"tokens": tokens, "draws": draws, "seed": seed}},
                            f"{model.description}: {' or '.join(pictures.attributes)} at {where}", latent[order],
                            own[order], of_class[order], fires[latent][order],
                            float(np.percentile(worst, 95)) if worst else 0.0,
                            f"{len(rows)} pictures of the training split; mean over {tokens} tokens.")


def _training(pictures: LabelledPictures) -> Int:
    rows = np.arange(len(pictures)) if pictures.split is None else np.flatnonzero(np.array(pictures.split) == "train")
    if not len(rows):
        raise LabelsError("no picture of the split train", where=str(pictures.folder))
    return rows


def _states(model: CLIP, pictures: LabelledPictures, rows: Int, names: Sequence[str], batch: int
            ) -> Iterator[Mapping[str, Any]]:
    """Of each picture, hook to its activation without the batch axis."""
    for some in pictures.pictures(rows, batch):
        with torch.inference_mode():
            _, cache = model.run_with_cache(fit_pictures(some, model.config.image_size), names_filter=names)
        for i in range(len(some)):
            yield {name: cache[name][i].float().cpu().numpy() for name in names}


def _of_tokens(sae: Sae, x: npt.NDArray[Any], tokens: TokenSet) -> npt.NDArray[np.float64]:
    here = x[ImageTokens.places(tokens)] if x.ndim == 2 else x[None]
    return np.asarray(sae.encode(torch.from_numpy(here)).mean(0).numpy(), np.float64)


def _check_sae(model: CLIP, sae: Sae) -> None:
    if sae.hook is None or sae.hook not in model.hook_points:
        raise WeightsError(f"the SAE is of {sae.hook or 'no known hook'}, which this CLIP has not",
                           hint="train one on it: harness clip collect, harness sae train")
    if sae.metadata.get("weights_digest") not in (None, model.digest()):
        raise WeightsError("the SAE was trained on another model's weights",
                           hint="train one on this: harness clip collect, harness sae train")


def _class_auroc(x: npt.NDArray[np.float64], label: Int, attribute: Int) -> npt.NDArray[np.float64]:
    """Of the class against the others, the furthest from 1/2, within each value of the attribute."""
    found = np.stack([_within(x, label == each, attribute) for each in np.unique(label)])
    return np.asarray(np.take_along_axis(found, np.abs(found - 0.5).argmax(0)[None], 0)[0])


def _within(x: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_], group: Int) -> npt.NDArray[np.float64]:
    """AUROC of yes and no within each group that has both, the mean over groups; x [n, latent]."""
    both = [here for each in np.unique(group) if 0 < positive[here := group == each].sum() < here.sum()]
    found = [[auroc(column, positive[here]) for column in x[here].T] for here in both]
    if not found:
        raise LabelsError("no group has both values, so they cannot be told apart")
    return np.asarray(np.mean(found, 0))
