"""What writes a key's log-odds: direct contributions of every block, head and MLP, and a logit lens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent, AgentOutput
from harness.analysis.effects import BLOCK
from harness.analysis.open_loop import Progress, check_key, has_key, listen, log_odds, ticks
from harness.analysis.result import Cell, Result, Table, agent_title, result_provenance
from harness.errors import AgentError, HarnessError, RecordingError
from harness.recording.recording import Recording
from harness.statistics import Interval, block_bootstrap, rank_p

__all__ = ["Readout", "read_out"]

Float = npt.NDArray[np.float64]
_REST = ("biases", "entropy")
"""Components that nothing in the network writes at this step; always the last two."""


@dataclass(frozen=True)
class Readout(Result):
    """Margins, who wrote them, and what each layer would have said.

    Attributes:
        steps: Absolute steps, int64 [t].
        keys: Along the axis ``key``.
        components: Along the axis ``component``: ``embedding``, heads as ``layer.head``, ``mlp layer``, then
            ``biases`` and ``entropy``; under guidance each with its row in front; with a goal ``goal``.
        layers: Along the axis ``layer``: ``embedding``, then the blocks' numbers.
        margins: Log-odds of each key as the agent has them, nats, float64 [t, key].
        contributions: float64 [t, key, component], nats. Their sum over components is ``margins``.
        control: The mean contributions to random directions of equal norm, float64 [key, component, direction].
        lens_margins: Log-odds decoded from each layer, float64 [t, layer, key].
        lens_kl: D(policy || decoded) of the buttons, nats, float64 [t, layer].
        lens_agrees: Whether the most likely joint button class is the policy's, bool [t, layer].
        constant: Divergence, agreement and margins of the best decoding that knows nothing of the step: the mean
            policy's divergence, the commonest class's agreement, float64 [2 + key].
        pressed: Share of steps in which each key was chosen, float64 [key].
        error: Largest |sum of contributions - margin| of any step.
        recorded: Largest difference from the recorded margins; None where no log-probabilities were recorded.
        agent: Whose read-out it is, for titles.
        top: Components that the tables show.
    """

    steps: npt.NDArray[np.int64]
    keys: tuple[str, ...]
    components: tuple[str, ...]
    layers: tuple[str, ...]
    margins: Float
    contributions: Float
    control: Float
    lens_margins: Float
    lens_kl: Float
    lens_agrees: npt.NDArray[np.bool_]
    constant: Float
    pressed: Float
    error: float
    recorded: float | None
    agent: str
    top: int

    def tables(self) -> Sequence[Table]:
        """Margins; per key its contributions; the lens."""
        return [self._margins(), *(self._contributions(k) for k in range(len(self.keys))), self._lens()]

    def _margins(self) -> Table:
        rows = []
        for k, key in enumerate(self.keys):
            m = self.margins[:, k]
            low, high = int(m.argmin()), int(m.argmax())
            rows.append((key, float(m.mean()), _interval(m), f"{m[low]:.2f} at {self.steps[low]}",
                         f"{m[high]:.2f} at {self.steps[high]}", float(self.pressed[k])))
        same = "no log-probabilities were recorded to compare with" if self.recorded is None else \
            f"the recorded margins differ by {self.recorded:.1e} nats at most" + \
            (": another agent, or one that was edited" if self.recorded > 1e-2 else "")
        return Table(f"{self.agent}: log-odds of keys, {len(self.steps)} steps",
                     ("key", "mean (nats)", "95 %", "lowest", "highest", "pressed"), tuple(rows),
                     f"log-sum-exp over the joint classes with the key less those without. The agent was run again; "
                     f"{same}.")

    def _contributions(self, k: int) -> Table:
        n = len(self.components) - len(_REST)
        means = self.contributions[:, k].mean(0)
        order = np.argsort(-np.abs(means[:n]), kind="stable")
        shown, others = order[:self.top], order[self.top:]
        rows = [self._row(self.components[c], self.contributions[:, k, c], self.control[k, c]) for c in shown]
        if len(others):
            rows.append(self._row(f"{len(others)} others", self.contributions[:, k, others].sum(1),
                                  self.control[k, others].sum(0)))
        rows += [self._row(name, self.contributions[:, k, n + i]) for i, name in enumerate(_REST)]
        rows.append(self._row("sum", self.contributions[:, k].sum(1)))
        rows.append(self._row("margin", self.margins[:, k]))
        return Table(
            f"{self.agent}: direct contributions to the log-odds of {self.keys[k]}, nats",
            ("component", "mean", "95 %", "sd", "random direction", "p"), tuple(rows),
            f"Scales of norms, ReLU masks and log-sum-exp weights are those of each step. entropy is what that leaves "
            f"out. |sum - margin| is {self.error:.1e} at most. random direction: 95 % of the means for "
            f"{self.control.shape[2]} directions of equal norm; p is not corrected for the number of rows. Direct "
            "only: what a component does through later ones is theirs here.")

    def _row(self, name: str, series: Float, control: Float | None = None) -> tuple[Cell, ...]:
        mean = float(series.mean())
        null: tuple[Cell, ...] = (None, None)
        if control is not None and len(control):
            null = Interval(*map(float, np.percentile(control, [2.5, 97.5]))), rank_p(mean, list(control))
        return name, mean, _interval(series), float(series.std()), *null

    def _lens(self) -> Table:
        rows: list[tuple[Cell, ...]] = []
        for i, layer in enumerate(self.layers):
            agrees = self.lens_agrees[:, i].astype(np.float64)
            rows.append((layer, float(self.lens_kl[:, i].mean()), _interval(self.lens_kl[:, i]), float(agrees.mean()),
                         _interval(agrees), *(float(m) for m in self.lens_margins[:, i].mean(0))))
        kl, share, *margins = self.constant.tolist()
        rows.append(("no layer, mean", kl, None, share, None, *margins))
        how = self.provenance["arguments"]["lens"]
        caveat = "Later blocks' norms are applied, their attention and MLP left out" if how == "skip" else \
            "Read as if it were the last block's output: the norms on the skip path of later blocks are left out, so " \
            "early layers may be read in a scale that is not theirs"
        return Table(f"{self.agent}: logit lens ({how})",
                     ("after", "KL (nats)", "KL 95 %", "same top class", "same 95 %", *self.keys), tuple(rows),
                     f"{caveat}. Last row: the divergence of the mean policy, and the commonest class.")


def _interval(series: Float) -> Interval:
    return block_bootstrap([series], BLOCK)


def read_out(recording: Recording, *, agent: Agent, keys: tuple[str, ...] = ("attack",),
             between: tuple[int, int] | None = None, controls: int = 100, top: int = 12,
             lens: Literal["skip", "plain"] = "skip", progress: Progress | None = None) -> Readout:
    """Margins of keys over time, which block, head and MLP wrote them directly, and a logit lens.

    The agent runs again over the recorded pictures, so any recording of a VPT or STEVE-1 policy will do.

    The margin of a key is ``m = LSE(z over joint classes with it) - LSE(z over those without)``, where z are the log-
    probabilities of the 8,641 joint classes, ``z = logits / temperature`` up to a constant. With p and q the softmax
    within the two sets, ``LSE(z) = sum p z + H(p)``, so that ``m = w . z + H(p) - H(q)``, w = p on the first set and
    -q on the second. The entropies are no sum over parts; they are the row ``entropy``. ``w . z`` is read back through
    the network, at every step with these held at what they were in it:

    - the weights w;
    - the standard deviation of every LayerNorm (of the latent, of ``lastlayer``, and of every block's ``ln1``), so that
      ``LN(x) = (x - mean(x)) / scale * weight + bias`` is affine in x;
    - the masks of the two ReLUs of the read-out.

    VPT's skip path is ``resid_mid = LN(resid_pre) + attn_out`` and ``resid_post = resid_mid + mlp_out``, so a direction
    g at ``resid_post`` gives ``g . mlp_out``, ``g . result`` of each head, and goes on as
    ``centred(g * weight) / scale`` at ``resid_pre``, down to ``hook_embed`` (for STEVE-1 plus ``hook_goal_embed``).
    Biases of layers and norms are gathered in ``biases``. All is exact but for rounding: components, ``biases`` and
    ``entropy`` add up to m. What freezing hides is that a component also moves scales, masks, w and what later blocks
    do with it: this is a direct, first-order account, and an ablation (``harness effect``) may say otherwise.

    Under guidance z is ``(1 + s) cond - s uncond``; both rows' components are there with these factors.

    The control is a random direction of the latent in place of the margin's, of the same norm at every step, through
    the same read-out. The lens decodes each block's residual through ReLU, ``lastlayer``, ``ln_final`` and head;
    ``skip`` first applies the later blocks' ``ln1`` (what the policy would say if they wrote nothing), ``plain`` does
    not.

    Sources: direct attribution (Elhage et al. 2021, A Mathematical Framework for Transformer Circuits), logit lens
    (nostalgebraist 2020); the norm on the skip path is that of openai/Video-Pre-Training, lib/util.py. Intervals: 95 %,
    blocks of 20 steps drawn again.

    Args:
        recording: Of an agent with a VPT read-out.
        agent: That agent; another one looks at the same pictures.
        keys: Buttons.
        between: First and last step to count; all are seen and remembered.
        controls: Random directions.
        top: Components to show; the arrays hold all.
        lens: How earlier layers are decoded.
        progress: Called with (steps done, steps in all).

    Raises:
        HarnessError: for an unknown key, or numbers out of range.
        AgentError: for an agent without a VPT read-out.
        RecordingError: for a recording without steps, a fork, or no step between the two.
    """
    for key in keys:
        check_key(key)
    if not keys or controls < 0 or top < 1:
        raise HarnessError(f"expected at least one key, controls >= 0 and top >= 1, got {len(keys)}, {controls}, {top}")
    reader = _Reader(agent, keys, controls, lens)
    inside = _counted(recording, between)
    parts: list[_Part] = []
    start = 0
    for outputs in listen(recording, agent, reader.hooks, ticks(progress, len(recording))):
        chosen = [output for i, output in enumerate(outputs, start) if inside[i]]
        start += len(outputs)
        if chosen:
            parts.append(reader.read(chosen))
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])}
    mean = joined.pop("mean").sum(0) / inside.sum()
    constant = _constant(mean, joined.pop("classes"), joined.pop("entropy"), keys)
    control = np.moveaxis(joined.pop("control"), 2, -1).mean(0)
    numbers = np.flatnonzero(inside)
    chosen_actions = [recording.steps[int(i)]["chosen"] for i in numbers]
    said = {"keys": list(keys), "between": None if between is None else list(between), "controls": controls,
            "lens": lens}
    provenance = {**result_provenance("readout", recording, **said), "looked": f"{agent.name}, {agent.description}"}
    return Readout(
        provenance, recording.first_step + numbers, keys,
        reader.components, reader.layers, control=control, constant=constant,
        pressed=np.array([np.mean([float(action[key]) for action in chosen_actions]) for key in keys]),
        error=float(np.abs(joined["contributions"].sum(2) - joined["margins"]).max()),
        recorded=_differs(recording, numbers, joined["margins"], keys),
        agent=agent_title(agent.name, agent.description), top=top, **joined)


def _differs(recording: Recording, numbers: npt.NDArray[np.int64], margins: Float, keys: Sequence[str]) -> float | None:
    """The largest difference of margins from the recorded ones; None where none were recorded."""
    stored = recording.activations
    if "log_probs.buttons" not in stored or stored["log_probs.buttons"].shape[1:] != has_key(keys[0]).shape:
        return None
    gap, series = 0.0, stored["log_probs.buttons"]
    for i, found in zip(numbers.tolist(), margins, strict=True):
        if i < len(series):
            gap = max(gap, *(abs(float(log_odds(series[i], key)) - m) for key, m in zip(keys, found, strict=True)))
    return gap


def _counted(recording: Recording, between: tuple[int, int] | None) -> npt.NDArray[np.bool_]:
    numbers = recording.first_step + np.arange(len(recording))
    first, last = between or (0, int(numbers[-1]) if len(numbers) else 0)
    inside = (numbers >= first) & (numbers <= last)
    if len(numbers) and not inside.any():
        raise RecordingError(f"no step lies between {first} and {last}: it has {numbers[0]} to {numbers[-1]}",
                             where=str(recording.path))
    return np.asarray(inside)


def _constant(mean: Float, classes: npt.NDArray[np.int64], entropy: Float, keys: Sequence[str]) -> Float:
    """What decoding says that knows nothing of the step. The mean of D(p_t || mean) is H(mean) - mean of H(p_t)."""
    logs = np.log(np.maximum(mean, 1e-300))
    commonest = np.bincount(classes).max() / len(classes)
    return np.array([max(0.0, -(mean * logs).sum() - entropy.mean()), commonest,
                     *(float(log_odds(logs, key)) for key in keys)])


@dataclass(frozen=True)
class _Part:
    """Some steps of a result; axes as in ``Readout``.

    Attributes:
        control: [t, key, direction, component].
        entropy: Of the buttons [t].
        classes: The most likely joint class [t].
        mean: Probabilities of the classes, added up over the steps [1, 8641].
    """

    margins: Float
    contributions: Float
    control: Float
    lens_margins: Float
    lens_kl: Float
    lens_agrees: npt.NDArray[np.bool_]
    entropy: Float
    classes: npt.NDArray[np.int64]
    mean: Float


@dataclass(frozen=True)
class _Norm:
    """A LayerNorm, and its way back with the scale held."""

    weight: Float
    bias: Float
    eps: float

    def scale(self, x: Float) -> Float:
        """Standard deviation float64 [..., 1]."""
        return np.asarray(np.sqrt(x.var(-1, keepdims=True) + self.eps))

    def __call__(self, x: Float) -> Float:
        return np.asarray((x - x.mean(-1, keepdims=True)) / self.scale(x) * self.weight + self.bias)

    def back(self, g: Float, scale: Float) -> tuple[Float, Float]:
        """A direction [q, t, d] behind the norm as one before it, and what the bias adds [q, t]."""
        before = g * self.weight / scale
        return before - before.mean(-1, keepdims=True), g @ self.bias


@dataclass(frozen=True)
class _Block:
    norm: _Norm
    project: Float
    project_bias: Float
    mlp_bias: Float


class _Reader:
    """The read-out of one policy in float64: forward for the lens, and back from margins to components."""

    def __init__(self, agent: Agent, keys: Sequence[str], controls: int, lens: str) -> None:
        policy: Any = getattr(agent, "policy", None)
        if not hasattr(policy, "net") or not hasattr(policy, "pi_head"):
            raise AgentError(f"{agent.name} has no VPT read-out", hint="use a VPT or STEVE-1 agent, such as vpt-nano")
        net, head = policy.net, policy.pi_head.buttons.linear_layer
        self.keys, self.lens, self.temperature = tuple(keys), lens, policy.config.temperature
        self.head, self.head_bias = _array(head.weight), _array(head.bias)
        self.last, self.last_norm, self.final_norm = (
            _array(net.lastlayer.layer.weight), _norm(net.lastlayer.norm), _norm(net.final_ln))
        self.blocks = [_Block(_norm(block.pre_r_ln), _array(block.r.orc_block.proj_layer.weight),
                              _array(block.r.orc_block.proj_layer.bias), _array(block.mlp1.layer.bias))
                       for block in net.recurrent_layer.blocks]
        self.heads = policy.config.heads
        drawn = np.random.default_rng(0).standard_normal((controls, 1, self.head.shape[1]))
        self.directions = drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
        scale: float | None = getattr(agent, "cond_scale", None)
        self.factors = {"": 1.0} if scale is None else {"cond.": 1.0 + scale, "uncond.": -scale}
        shapes = agent.hook_shapes()
        row = next(iter(self.factors))
        self.goal = f"{row}hook_goal_embed" in shapes
        n = len(self.blocks)
        own = [*(["hook_goal_embed"] if self.goal else []), f"blocks.{n - 1}.hook_resid_post",
               *(f"blocks.{i}.{short}" for i in range(n) for short in (
                   "hook_resid_pre", "ln1.hook_scale", "attn.hook_z", "hook_mlp_out"))]
        self.hooks = ["hook_embed", *(f"{row}{name}" for row in self.factors for name in own)]
        self.layers = ("embedding", *(str(i) for i in range(n)))
        names = [*(["goal"] if self.goal else []), "embedding",
                 *(name for i in range(n) for name in (*(f"{i}.{h}" for h in range(self.heads)), f"mlp {i}"))]
        self.components = (*(f"{row} {name}".removeprefix(" ").replace(". ", " ") for row in self.factors
                             for name in names), *_REST)

    def read(self, outputs: Sequence[AgentOutput]) -> _Part:
        """Everything about some steps."""
        logs = np.stack([o.log_probs["buttons"] for o in outputs]).astype(np.float64)
        margins = np.stack([log_odds(logs, key) for key in self.keys], -1)
        seen = {name: np.stack([o.activations[name] for o in outputs]).astype(np.float64) for name in self.hooks}
        pairs = [_linear(logs, key) for key in self.keys]
        weights = np.stack([w for w, _ in pairs])
        found, under = self._components(seen, weights)
        entropy = np.stack([h for _, h in pairs], -1)
        contributions = np.concatenate([found, entropy[..., None]], -1)
        decoded = self._decoded(seen)
        probs, classes = np.exp(logs), logs.argmax(-1)
        lens_kl = (probs[:, None] * (logs[:, None] - decoded)).sum(-1)
        return _Part(margins, contributions, np.pad(under, [(0, 0)] * 3 + [(0, 1)]),
                     np.stack([log_odds(decoded, key) for key in self.keys], -1), np.maximum(lens_kl, 0.0),
                     decoded.argmax(-1) == classes[:, None], -(probs * logs).sum(-1), classes, probs.sum(0)[None])

    def _components(self, seen: Mapping[str, Float], weights: Float) -> tuple[Float, Float]:
        """Contributions [t, key, component] without the entropy, and the controls' [t, key, direction, component]."""
        n_keys = len(self.keys)
        found, under = [], []
        biases: Float = np.zeros(1)
        for row, factor in self.factors.items():
            into = weights * (factor / self.temperature)
            g = into @ self.head
            norms = np.linalg.norm(g, axis=-1).T[..., None, None] * np.sign(factor)  # [t, key, 1, 1]
            both = np.concatenate([g, np.broadcast_to(self.directions, (len(self.directions), *g.shape[1:]))])
            parts, constant = self._back(row, both, seen)
            found.append(np.moveaxis(parts[:n_keys], 0, 1))
            under.append(np.moveaxis(parts[n_keys:], 0, 1)[:, None] * norms)
            biases = biases + (constant[:n_keys] + into @ self.head_bias).T[..., None]
        none = np.zeros((*under[0].shape[:3], 1))
        return np.concatenate([*found, biases], -1), np.concatenate([*under, none], -1)

    def _back(self, row: str, g: Float, seen: Mapping[str, Float]) -> tuple[Float, Float]:
        """Directions at the latent [q, t, d] to contributions [q, t, component of a row], and what biases add."""
        x = seen[f"{row}blocks.{len(self.blocks) - 1}.hook_resid_post"]
        positive = np.maximum(x, 0.0)
        hidden = self.last_norm(positive) @ self.last.T
        g, constant = self.final_norm.back(g, self.final_norm.scale(np.maximum(hidden, 0.0)))
        g, more = self.last_norm.back((g * (hidden > 0)) @ self.last, self.last_norm.scale(positive))
        constant = constant + more
        g = g * (x > 0)
        parts: list[Float] = []
        for i in reversed(range(len(self.blocks))):
            block, name = self.blocks[i], f"{row}blocks.{i}."
            mlp = (g * (seen[f"{name}hook_mlp_out"] - block.mlp_bias)).sum(-1, keepdims=True)
            z = seen[f"{name}attn.hook_z"]
            heads = ((g @ block.project).reshape(*g.shape[:2], *z.shape[1:]) * z).sum(-1)
            constant = constant + g @ (block.mlp_bias + block.project_bias)
            parts = [heads, mlp, *parts]
            g, more = block.norm.back(g, seen[f"{name}ln1.hook_scale"])
            constant = constant + more
        goal = [(g * seen[f"{row}hook_goal_embed"]).sum(-1, keepdims=True)] if self.goal else []
        return np.concatenate([*goal, (g * seen["hook_embed"]).sum(-1, keepdims=True), *parts], -1), constant

    def _decoded(self, seen: Mapping[str, Float]) -> Float:
        """Log-probabilities of the buttons decoded from each layer, float64 [t, layer, 8641]."""
        n = len(self.blocks)
        mixed: Float = np.zeros(1)
        for row, factor in self.factors.items():
            decoded = []
            for i in range(n + 1):
                x = seen[f"{row}blocks.{i}.hook_resid_pre" if i < n else f"{row}blocks.{n - 1}.hook_resid_post"]
                for block in self.blocks[i:] if self.lens == "skip" else ():
                    x = block.norm(x)
                hidden = np.maximum(self.last_norm(np.maximum(x, 0.0)) @ self.last.T, 0.0)
                logits = (self.final_norm(hidden) @ self.head.T + self.head_bias) / self.temperature
                decoded.append(_normalised(logits))
            mixed = mixed + factor * np.stack(decoded, 1)
        return _normalised(np.asarray(mixed))


def _linear(logs: Float, key: str) -> tuple[Float, Float]:
    """Weights w [t, 8641] and entropies [t] with ``margin = w . logs + entropies`` (see ``read_out``)."""
    weights, total = np.zeros_like(logs), np.zeros(len(logs))
    for held, sign in ((has_key(key), 1.0), (~has_key(key), -1.0)):
        within = _normalised(logs[:, held])
        p = np.exp(within)
        weights[:, held] = sign * p
        total -= sign * (p * within).sum(-1)
    return weights, total


def _normalised(logits: Float) -> Float:
    return np.asarray(logits - np.logaddexp.reduce(logits, -1, keepdims=True))


def _array(tensor: Any) -> Float:
    return np.asarray(tensor.detach().float().cpu().numpy(), np.float64)


def _norm(layer: Any) -> _Norm:
    return _Norm(_array(layer.weight), _array(layer.bias), float(layer.eps))
