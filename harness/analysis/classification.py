"""Classification on CLIP's features with the worst group named, and what an edit inside the image tower does to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.agent.clip.model import CLIP
from harness.agent.clip.pictures import fit_pictures
from harness.agent.clip.tokens import ImageTokens, TokenSet
from harness.analysis.labelled_pictures import LabelledPictures
from harness.analysis.open_loop import Progress, ticks
from harness.analysis.result import Cell, Result, Table
from harness.errors import HarnessError, InterventionError, LabelsError
from harness.intervention.feature.edit import shared_hooks
from harness.intervention.intervention import Intervention
from harness.statistics import Interval, holm, mcnemar_exact, newcombe, wilson

__all__ = ["Classification", "Suppression", "SuppressionEffect", "classify", "suppression_effect"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Method = Literal["zero-shot", "probe"]
_FEWEST = 10
"""Pictures of a group below which its share says next to nothing, and the table says so."""


@dataclass(frozen=True)
class Suppression:
    """Edits inside the image tower: a suppressed latent, an ablated unit, a steering vector, an erased concept.

    Attributes:
        name: For tables.
        edits: Interventions on the network (``ZeroAblation``, ``Steering``, ``LinearErasure``, ...), or pairs of a
            hook's name and a function of activation and hook point.
        tokens: At which image tokens: ``all``, ``cls`` or ``patches``.
    """

    name: str
    edits: tuple[Intervention | tuple[str, Callable[[Any, Any], Any]], ...]
    tokens: TokenSet = "all"

    def __post_init__(self) -> None:
        ImageTokens.places(self.tokens)
        for edit in self.edits:
            if isinstance(edit, Intervention) and edit.site != "feature":
                raise InterventionError(f"{type(edit).__name__} acts on the {edit.site}; inside CLIP only edits of "
                                        "activations do")

    def hooks(self, model: CLIP) -> list[tuple[str, Callable[[Any, Any], Any]]]:
        """Pairs for ``model.hooks``.

        Raises:
            HookError: for a hook that the model has not.
            InterventionError: for a hook outside of the image tower, one without the token axis where only some tokens
                are meant, or an edit that does not fit its width.
        """
        pairs: list[tuple[str, Callable[[Any, Any], Any]]] = []
        for edit in self.edits:
            for glob, function in (shared_hooks([edit]) if isinstance(edit, Intervention) else [edit]):
                for name in model.hook_stack.resolve([glob]):
                    point = model.hook_stack.point(name)
                    self._check(edit, name, point, model)
                    pairs.append((name, self._at_tokens(function, point)))
        return pairs

    def _check(self, edit: Any, name: str, point: Any, model: CLIP) -> None:
        if not name.startswith("image."):
            raise InterventionError(f"{self.name}: {name} is not in the image tower")
        if self.tokens != "all" and "p" not in point.axes:
            raise InterventionError(f"{self.name}: {name} has no image tokens, so tokens={self.tokens} means nothing")
        if self.tokens != "all" and name == "image.hook_embed":
            raise InterventionError(f"{self.name}: {name} has no class token", hint="take image.hook_full_embed")
        if isinstance(edit, Intervention):
            edit.check(_Shapes(point, model))  # type: ignore[arg-type]  # what a feature edit asks of an agent

    def _at_tokens(self, function: Callable[[Any, Any], Any], point: Any) -> Callable[[Any, Any], Any]:
        if self.tokens == "all":
            return function
        axis, places = point.axes.index("p"), ImageTokens.places(self.tokens)

        def edit(x: Any, hook: Any) -> Any:
            new = function(x, hook)
            if new is None:
                return None
            where = (*[slice(None)] * axis, places)
            mixed = x.clone()
            mixed[where] = new[where]
            return mixed
        return edit


class _Shapes:
    """One hook of CLIP, as an edit's ``check`` looks at an agent's: image tokens count like steps of time."""

    name = "this CLIP"

    def __init__(self, point: Any, model: CLIP) -> None:
        self._point, self._model = point, model

    def resolve_hooks(self, globs: Sequence[str]) -> list[str]:
        return [self._point.name]

    def hook_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        sizes = zip(self._point.axes[1:], self._point.shape, strict=True)
        return {self._point.name: (tuple(n for axis, n in sizes if axis != "p"), "float32")}

    def provenance(self) -> dict[str, str]:
        return {"weights_digest": self._model.digest()}


@dataclass(frozen=True)
class Classification(Result):
    """Which pictures were put into the right class, by group.

    Attributes:
        title: Model and folder.
        group_names: Along the axis ``group``.
        rows: Which pictures of the folder were tested, int64 [picture].
        group: The group of each, int64 [picture].
        truth: The class of each, int64 [picture].
        predicted: The class it was put into, int64 [picture].
        control_overall: Share right with shuffled labels, float64 [control].
        control_worst: The same of the worst group, float64 [control].
        note: How it was done.
    """

    title: str
    group_names: tuple[str, ...]
    rows: Int
    group: Int
    truth: Int
    predicted: Int
    control_overall: Float
    control_worst: Float
    note: str = ""

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether each picture was put into its class [picture]."""
        return np.asarray(self.truth == self.predicted)

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """Group to (right, all), of the groups that have pictures."""
        return {name: (int(self.right[self.group == g].sum()), int((self.group == g).sum()))
                for g, name in enumerate(self.group_names) if (self.group == g).any()}

    @property
    def accuracy(self) -> float:
        """Share right of all pictures."""
        return float(self.right.mean())

    @property
    def worst_group(self) -> str:
        """The group with the lowest share right; the first of several."""
        return min(self.counts, key=lambda name: self.counts[name][0] / self.counts[name][1])

    @property
    def worst(self) -> float:
        """Its share right."""
        right, n = self.counts[self.worst_group]
        return right / n

    @property
    def worst_interval(self) -> Interval:
        """95 % for the lowest share of any group, whichever it is.

        Wilson's intervals of all groups at 1 - 0.05 / groups hold together (Bonferroni); the least of the true shares
        then lies between the least of their lower and the least of their upper ends.
        """
        each = [wilson(right, n, 1 - 0.05 / len(self.counts)) for right, n in self.counts.values()]
        return Interval(min(one.low for one in each), min(one.high for one in each))

    def tables(self) -> Sequence[Table]:
        """One."""
        rows: list[tuple[Cell, ...]] = [
            (name, n, right, right / n, wilson(right, n), "too few" if n < _FEWEST else None)
            for name, (right, n) in self.counts.items()]
        n, right = len(self.rows), int(self.right.sum())
        rows.append(("all", n, right, right / n, wilson(right, n), None))
        least = self.counts[self.worst_group][1]
        rows.append((f"worst: {self.worst_group}", least, None, self.worst, self.worst_interval,
                     "too few" if least < _FEWEST else None))
        for name, draws in (("all", self.control_overall), ("worst group", self.control_worst)):
            if len(draws):
                low, high = np.percentile(draws, [2.5, 97.5])
                rows.append((f"control, {name}", n, None, float(draws.mean()), Interval(float(low), float(high)),
                             f"p {self._p(name, draws):.2g}"))
        majority = np.bincount(self.truth).max() / n
        return [Table(self.title, ("group", "pictures", "right", "share", "95 %", ""), tuple(rows),
                      f"{self.note} worst: 95 % for the lowest of all groups together. control: the same with shuffled "
                      f"labels, mean and middle 95 % of {len(self.control_overall)}; p: share of controls, this one "
                      f"counted in, that reach it. Saying the most frequent class always is right in {majority:.0%}.")]

    def _p(self, name: str, draws: Float) -> float:
        own = self.accuracy if name == "all" else self.worst
        return float((1 + (draws >= own).sum()) / (1 + len(draws)))


def classify(model: CLIP, pictures: LabelledPictures, *, method: Method = "zero-shot",
             prompts: Mapping[str, Sequence[str]] | None = None, template: str = "a photo of a {}",
             suppression: Suppression | None = None, penalty: float = 1.0, controls: int = 200, batch: int = 32,
             seed: int = 0, progress: Progress | None = None) -> Classification:
    """Put the pictures of a folder into their classes by CLIP's features, and say for which group it works worst.

    ``zero-shot``: the class whose prompts' embedding has the largest cosine with the picture's (Radford et al. 2021,
    3.1). Tested are the pictures of the split ``test``, or all where the table has no splits. ``probe``: multinomial
    logistic regression with an L2 penalty on the standardised, unit-length features of the split ``train``; without
    splits, half of each group is dealt to it by the seed. A probe is always fitted without the suppression. Groups are
    class times spurious attribute (Sagawa et al. 2020, arXiv 1911.08731).

    Control: labels are shuffled, in each split for itself. ``zero-shot`` holds the same predictions against them,
    ``probe`` is fitted to them and held against them (at most 20 fits). Groups stay what they are.

    Args:
        model: From ``load_clip``.
        pictures: From ``read_labels``.
        method: How.
        prompts: For each class its prompts; else one of ``template``, with the class's name in its place.
        template: With one {}.
        suppression: What is changed inside the image tower meanwhile.
        penalty: Of the probe: times half the squared length of its weights, against the sum of the log losses.
        controls: How many.
        batch: Pictures of one forward pass.
        seed: Of splits and controls.
        progress: Called with (pictures done, pictures in all).

    Raises:
        LabelsError: for classes without a picture to fit, a split without pictures, or a picture that cannot be read.
        HarnessError: for a template without {}, prompts that lack a class or name another, numbers out of range.
    """
    if batch < 1 or controls < 0 or not penalty > 0:
        raise HarnessError(f"expected batch >= 1, controls >= 0, penalty > 0, got {batch}, {controls}, {penalty}")
    train, test = _splits(pictures, method, seed)
    rng = np.random.default_rng(seed)
    tick = ticks(progress, len(train) + len(test))
    if method == "zero-shot":
        weights = _class_embeddings(model, pictures.classes, prompts, template)
        predicted = _features(model, pictures, test, suppression, batch, tick) @ weights.T
        draws = [(predicted.argmax(1), rng.permutation(pictures.label[test])) for _ in range(controls)]
    else:
        x, y = _features(model, pictures, train, None, batch, tick), pictures.label[train]
        seen, n = _features(model, pictures, test, suppression, batch, tick), len(pictures.classes)
        predicted = _logistic(x, y, n, penalty)(seen)
        draws = [(_logistic(x, rng.permutation(y), n, penalty)(seen).argmax(1), rng.permutation(pictures.label[test]))
                 for _ in range(min(controls, 20))]
    group = pictures.group[test]
    shares = np.array([_shares(right == truth, group) for right, truth in draws]).reshape(-1, 2)
    said = {"method": method, "template": template, "prompts": {k: list(v) for k, v in (prompts or {}).items()},
            "penalty": penalty, "controls": controls, "seed": seed, "batch": batch,
            "suppression": suppression.name if suppression else None, "folder": pictures.folder.name}
    name = f"{model.description}: {method} on {pictures.folder.name}"
    return Classification({"analysis": "classify", "arguments": said, "model": model.description},
                          name + (f", {suppression.name} at {suppression.tokens} tokens" if suppression else ""),
                          pictures.group_names, test, group, pictures.label[test], predicted.argmax(1), shares[:, 0],
                          shares[:, 1], _how(pictures, method, len(train), len(test)))


@dataclass(frozen=True)
class SuppressionEffect(Result):
    """The same pictures classified with and without a suppression.

    Attributes:
        name: The suppression's.
        before: Without.
        after: With.
    """

    name: str
    before: Classification
    after: Classification

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """Rows, group, truth, and the two predictions [picture]."""
        return {"rows": self.before.rows, "group": self.before.group, "truth": self.before.truth,
                "before": self.before.predicted, "after": self.after.predicted}

    def tables(self) -> Sequence[Table]:
        """Before, and the paired differences."""
        groups = [(name, self.before.group == g) for g, name in enumerate(self.before.group_names)
                  if name in self.before.counts]
        tested = [self._row(name, places) for name, places in groups]
        adjusted = holm([p for _, p in tested])
        rows = [(*cells, p, q) for (cells, p), q in zip(tested, adjusted, strict=True)]
        cells, p = self._row("all", np.ones(len(self.before.rows), np.bool_))
        rows.append((*cells, p, None))
        note = (f"Worst group before: {self.before.worst_group}, {self.before.worst:.3g}; after: "
                f"{self.after.worst_group}, {self.after.worst:.3g}. difference: after less before, over the same "
                "pictures, Newcombe's paired interval; p: exact McNemar; Holm: over the groups.")
        return [*self.before.tables(),
                Table(f"{self.after.title}: before and after",
                      ("group", "pictures", "before", "after", "lost", "gained", "difference", "95 %", "p", "Holm"),
                      tuple(rows), note)]

    def _row(self, name: str, places: npt.NDArray[np.bool_]) -> tuple[tuple[Cell, ...], float]:
        one, two = self.before.right[places], self.after.right[places]
        n, lost, gained = len(one), int((one & ~two).sum()), int((~one & two).sum())
        interval = newcombe(int((one & two).sum()), lost, gained, int((~one & ~two).sum()))
        return (name, n, float(one.mean()), float(two.mean()), lost, gained, (gained - lost) / n,
                interval), mcnemar_exact(lost, gained)


def suppression_effect(model: CLIP, pictures: LabelledPictures, suppressions: Sequence[Suppression], *,
                       progress: Progress | None = None, **options: Any) -> list[SuppressionEffect]:
    """Classify the same pictures without and with each of several suppressions.

    Args:
        model: From ``load_clip``.
        pictures: From ``read_labels``.
        suppressions: Each is one result, against the same "before".
        progress: Called with (passes over the pictures done, passes in all).
        options: Of ``classify``.

    Raises:
        HarnessError: as ``classify`` and ``Suppression.hooks`` do; all suppressions are checked before any picture is
            read.
    """
    for each in suppressions:
        each.hooks(model)
    tick = ticks(progress, 1 + len(suppressions))
    before = classify(model, pictures, **options)
    tick(1)
    found = []
    for each in suppressions:
        after = classify(model, pictures, suppression=each, **{**options, "controls": 0})
        found.append(SuppressionEffect({**after.provenance, "analysis": "suppression"}, each.name, before, after))
        tick(1)
    return found


# --- how -----------------------------------------------------------------------------------------------------------

def _splits(pictures: LabelledPictures, method: Method, seed: int) -> tuple[Int, Int]:
    """Rows to fit and rows to test."""
    every = np.arange(len(pictures))
    if method not in ("zero-shot", "probe"):
        raise HarnessError(f'method: expected zero-shot or probe, got "{method}"')
    if pictures.split is not None:
        words = np.array(pictures.split)
        train, test = every[words == "train"], every[words == "test"]
    elif method == "zero-shot":
        train, test = every[:0], every
    else:
        rng, dealt = np.random.default_rng(seed), np.zeros(len(pictures), np.bool_)
        for g in np.unique(pictures.group):
            members = rng.permutation(every[pictures.group == g])
            dealt[members[:len(members) // 2]] = True
        train, test = every[dealt], every[~dealt]
    if not len(test):
        raise LabelsError("no picture of the table is in the split test")
    if method == "zero-shot":
        return every[:0], test
    lacking = [name for c, name in enumerate(pictures.classes) if not (pictures.label[train] == c).any()]
    if lacking:
        raise LabelsError(f"the probe has no picture to learn {lacking[0]!r} from",
                          hint="two pictures of each class are the least, or a split that has them in train")
    return train, test


def _class_embeddings(model: CLIP, classes: Sequence[str], prompts: Mapping[str, Sequence[str]] | None, template: str
                      ) -> Float:
    """Unit-length embeddings float64 [class, d_embed]."""
    if template.count("{}") != 1:
        raise HarnessError(f"template: expected a sentence with one {{}}, got {template!r}")
    said = dict(prompts or {})
    if said and set(said) != set(classes):
        lacking, foreign = sorted(set(classes) - set(said)), sorted(set(said) - set(classes))
        raise HarnessError(f"prompts: expected some for each of {', '.join(classes[:8])}; "
                           + (f"{lacking[0]} has none" if lacking else f"{foreign[0]} is no class"))
    each = [said.get(name, (template.replace("{}", name),)) for name in classes]
    return np.asarray(model.class_embeddings(each).double().cpu().numpy())


def _features(model: CLIP, pictures: LabelledPictures, rows: Int, suppression: Suppression | None, batch: int,
              tick: Callable[[int], None]) -> Float:
    """Unit-length features float64 [picture, d_embed]."""
    found = []
    with model.hooks(suppression.hooks(model) if suppression else []):
        for some in pictures.pictures(rows, batch):
            x = model.encode_image(fit_pictures(some, model.config.image_size)).detach().double().cpu().numpy()
            found.append(x / np.linalg.norm(x, axis=1, keepdims=True))
            tick(len(some))
    return np.concatenate(found)


def _logistic(x: Float, y: Int, n_classes: int, penalty: float) -> Callable[[Float], Float]:
    """Fit multinomial logistic regression on x [row, d]; the function gives log-odds [row, class]."""
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    mean, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 1e-12, scale, 1.0)

    def wide(rows: Float) -> Float:
        return np.concatenate([(rows - mean) / scale, np.ones((len(rows), 1))], 1)

    z, truth = wide(x), np.eye(n_classes)[y]
    free = np.ones((z.shape[1], 1))
    free[-1] = 0.0  # the intercepts

    def loss(flat: Float) -> tuple[float, Float]:
        w = flat.reshape(-1, n_classes)
        logs = log_softmax(z @ w, axis=1)
        slope = z.T @ (np.exp(logs) - truth) + penalty * free * w
        return float(-(truth * logs).sum() + penalty / 2 * (free * w * w).sum()), slope.ravel()

    found = minimize(loss, np.zeros(z.shape[1] * n_classes), jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    return lambda rows: np.asarray(wide(rows) @ found.x.reshape(-1, n_classes))


def _shares(right: npt.NDArray[np.bool_], group: Int) -> tuple[float, float]:
    """Share right of all, and of the worst group."""
    n = np.bincount(group)
    each = np.bincount(group, right)[n > 0] / n[n > 0]
    return float(right.mean()), float(each.min())


def _how(pictures: LabelledPictures, method: Method, n_train: int, n_test: int) -> str:
    split = "the table's split" if pictures.split is not None else \
        "half of each group, dealt at random" if method == "probe" else "every row of the table"
    fitted = f"Fitted on {n_train} pictures, tested" if method == "probe" else "Tested"
    left = f" {pictures.unlabelled} pictures of the folder are not in the table." if pictures.unlabelled else ""
    return f"{fitted} on {n_test} ({split}).{left}"
