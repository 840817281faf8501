"""What to suppress: parts of a network that an unwanted attack hangs on and a wanted one does not.

Training episodes are played once, and what the image network made of their pictures is kept. The transformer then looks
over them again with one part taken away (a latent, a unit, a head), and each part has two numbers: by how much the
log-odds of attack fall in the steps of unwanted attack (``gain``), and in those of wanted attack (``cost``). Both are
steps in which attack was chosen and the object was in reach under the crosshair, so they are matched in reach. Later
steps see through memory what earlier ones lost.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.agent.agent import Agent, BatchAgent
from harness.agent.sae import Sae
from harness.analysis.open_loop import has_key, log_odds
from harness.analysis.sae.collect import collect_episodes
from harness.analysis.sae.conduct import Scene
from harness.errors import AgentError, HarnessError
from harness.intervention import LinearErasure, MeanAblation, SaeSplice, Steering, ZeroAblation
from harness.intervention.feature.edit import shared_hooks
from harness.intervention.intervention import Intervention
from harness.statistics import auroc

__all__ = ["Candidate", "Part", "Practice", "active_latents", "attack_log_odds", "candidates", "practise", "rank_parts"]

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
EMBED = "hook_embed"
SIZES = (2, 8, 32)
"""Latents, units or heads that are taken away together: the ladder of every method of parts."""
STRENGTHS = (-1.0, -2.0, -4.0)
FIRES = 0.05
"""A latent is looked at if it fires in so many of the steps of unwanted attack."""
APART = 0.6
"""And is suppressed only if it is larger there than in wanted attack with this probability (AUROC)."""
_CHUNK = 64


@dataclass(frozen=True)
class Practice:
    """Training episodes, unwanted scene first; ``n`` episodes, padded to ``t`` steps.

    Attributes:
        embeds: ``hook_embed`` [n, t, e], 0 where an episode is over.
        x: The SAE's activation [n, t, d].
        seen: Steps that were played [n, t].
        attacked: Steps in which attack was chosen with the scene's object in reach [n, t].
        unwanted: Episodes of the unwanted scene [n].
    """

    embeds: npt.NDArray[np.float32]
    x: npt.NDArray[np.float32]
    seen: Bool
    attacked: Bool
    unwanted: Bool

    def during(self, unwanted: bool) -> Bool:
        """Steps of unwanted, or of wanted, attack [n, t]."""
        return np.asarray(self.attacked & (self.unwanted == unwanted)[:, None])


@dataclass(frozen=True)
class Part:
    """A latent, a unit or a head, and what its loss does to the log-odds of attack, in nats.

    Attributes:
        name: Its number, or ``layer.head``.
        gain: They fall by so much in steps of unwanted attack, mean.
        cost: And by so much in steps of wanted attack.
        apart: Probability that its activation in a step of unwanted attack is larger than in one of wanted attack;
            NaN where it was not asked.
    """

    name: str
    gain: float
    cost: float
    apart: float = float("nan")

    @property
    def score(self) -> float:
        """What is gained beyond what it costs."""
        return self.gain - max(self.cost, 0.0)


@dataclass(frozen=True)
class Candidate:
    """One way to repair.

    Attributes:
        method: Which kind.
        words: Which of its kind.
        edits: Interventions on activations.
        parts: The numbers of the latents; empty for other methods.
    """

    method: str
    words: str
    edits: tuple[Intervention, ...]
    parts: tuple[int, ...] = ()


def practise(agent: Agent, hook: str, unwanted: Scene, keep: Sequence[Scene], seeds: Sequence[int], *, slots: int = 8
             ) -> Practice:
    """Play the training episodes.

    Raises:
        AgentError: for an agent without a network.
        HarnessError: for a hook that is no single vector a step, or when there is no step of one kind of attack.
    """
    if not isinstance(agent, BatchAgent) or not hasattr(agent, "look_embedded"):
        raise AgentError(f"{agent.name} has no network to repair", hint="use an agent with one, such as vpt-nano")
    names, parts = list(dict.fromkeys((EMBED, hook))), list[tuple[bool, dict[str, Any]]]()
    for scene in (unwanted, *keep):
        with tempfile.TemporaryDirectory() as folder:
            store = collect_episodes(agent, [scene.scenario], seeds, names, folder, slots=slots, max_steps=scene.steps,
                                     variables=[f"reach:{scene.object}"])
            if store.tokens(hook).axes:
                raise HarnessError(f"{hook} has {store.tokens(hook).per_step} vectors a step, expected one",
                                   hint="such as blocks.2.hook_resid_post")
            rows = [(columns, values) for columns, values in store.rows(names)]
        taken = {name: np.concatenate([values[name] for _, values in rows]) for name in names}
        columns = {name: np.concatenate([getattr(c, name) for c, _ in rows])
                   for name in ("episode", "step", "state", "buttons")}
        for number in range(len(seeds)):
            own = np.flatnonzero(columns["episode"] == number)
            own = own[np.argsort(columns["step"][own])]
            attack = has_key("attack")[columns["buttons"][own]] & (columns["state"][own, 0] > 0)
            parts.append((scene is unwanted, {"attacked": attack, **{name: taken[name][own] for name in names}}))
    return _padded(parts, hook)


def _padded(parts: Sequence[tuple[bool, Mapping[str, Any]]], hook: str) -> Practice:
    n, t = len(parts), max(len(part["attacked"]) for _, part in parts)
    embeds = np.zeros((n, t, parts[0][1][EMBED].shape[-1]), np.float32)
    x = np.zeros((n, t, parts[0][1][hook].shape[-1]), np.float32)
    seen, attacked = np.zeros((n, t), bool), np.zeros((n, t), bool)
    for i, (_, part) in enumerate(parts):
        k = len(part["attacked"])
        embeds[i, :k], x[i, :k], seen[i, :k], attacked[i, :k] = part[EMBED], part[hook], True, part["attacked"]
    found = Practice(embeds, x, seen, attacked, np.array([unwanted for unwanted, _ in parts]))
    for unwanted, words in ((True, "unwanted"), (False, "wanted")):
        if found.during(unwanted).sum() < 2:
            raise HarnessError(f"the training episodes hold {int(found.during(unwanted).sum())} steps of {words} "
                               "attack, so nothing can be selected", hint="more training seeds, or longer episodes")
    return found


def attack_log_odds(agent: Any, practice: Practice, edits: Sequence[Intervention] = ()) -> Float:
    """Log-odds of attack in its steps, under edits: float64 [n, t], NaN in all other steps."""
    found = np.full(practice.attacked.shape, np.nan)
    pairs = shared_hooks(edits, _CHUNK)
    early = [fn for name, fn in pairs if name == EMBED]
    state = agent.initial_states(len(practice.embeds))
    with torch.inference_mode(), agent.hooks([pair for pair in pairs if pair[0] != EMBED]):
        for start in range(0, practice.attacked.shape[1], _CHUNK):
            here = slice(start, start + _CHUNK)
            part = torch.from_numpy(practice.embeds[:, here])
            for fn in early:
                part = fn(part, agent.policy.hook_stack.point(EMBED))
            out, state = agent.look_embedded(part, state)
            asked = practice.attacked[:, here]
            found[:, here][asked] = log_odds(out.buttons.float().cpu().numpy()[asked], "attack")
    return found


def rank_parts(agent: Agent, practice: Practice, edits: Mapping[str, Sequence[Intervention]],
               ticked: Callable[[int], None] = lambda n: None) -> list[Part]:
    """Each part's gain and cost, the best score first; ``edits`` takes each away by its name."""
    clean = attack_log_odds(agent, practice)
    bad, good = practice.during(True), practice.during(False)
    found = []
    for name, edit in edits.items():
        fall = clean - attack_log_odds(agent, practice, edit)
        found.append(Part(name, float(fall[bad].mean()), float(fall[good].mean())))
        ticked(1)
    return sorted(found, key=lambda part: -part.score)


def active_latents(sae: Sae, practice: Practice) -> dict[int, float]:
    """Latents that fire in ``FIRES`` of the steps of unwanted attack, and how far apart the two kinds of attack are."""
    from_x = [sae.encode(torch.from_numpy(practice.x[practice.during(kind)])).numpy() for kind in (True, False)]
    fires = (from_x[0] > 0).mean(0)
    values, kind = np.concatenate(from_x), np.repeat([True, False], [len(side) for side in from_x])
    return {int(j): auroc(values[:, j], kind) for j in np.flatnonzero(fires >= FIRES)}


def candidates(agent: Agent, sae: Sae, hook: str, practice: Practice, ticked: Callable[[int], None] = lambda n: None
               ) -> tuple[dict[str, list[Candidate]], dict[str, list[Part]]]:
    """What each method has to offer, smallest edit first, and the parts that methods were ranked by.

    * ``latents zeroed``, ``latents capped``: the best 2, 8 and 32 of the latents with a score above 0 that are larger
      in unwanted attack (AUROC of ``APART`` at least); made 0, or held below their mean in wanted attack.
    * ``units``: the best 2, 8 and 32 numbers of the same activation, put to their mean in wanted attack.
    * ``heads``: the best 2, 8 and 32 of the attention heads, as many as have a score above 0, zeroed.
    * ``steering``: 1, 2 and 4 times the difference of means, unwanted less wanted attack, taken away.
    * ``erasure``: LEACE of three concepts: unwanted or wanted attack; attack or not in the unwanted scene; the scene.
    """
    bad, good = practice.x[practice.during(True)], practice.x[practice.during(False)]
    mean = good.mean(0)
    active = active_latents(sae, practice)
    shapes = agent.hook_shapes()
    heads = {f"{name.split('.')[1]}.{h}": (name, h) for name in agent.resolve_hooks(["blocks.*.attn.hook_z"])
             for h in range(shapes[name][0][0])}

    def off(name: str) -> tuple[Intervention, ...]:
        return (ZeroAblation(heads[name][0], head=heads[name][1]),)

    ranked = {
        "latents": [Part(p.name, p.gain, p.cost, active[int(p.name)]) for p in rank_parts(agent, practice, {
            str(j): (SaeSplice(hook, sae=sae, latents=(j,), mode="zero"),) for j, apart in active.items()
            if apart >= APART}, ticked)],
        "units": rank_parts(agent, practice, {
            str(u): (MeanAblation(hook, values=mean, units=(u,)),) for u in range(len(mean))}, ticked),
        "heads": rank_parts(agent, practice, {name: off(name) for name in heads}, ticked),
    }
    chosen = [int(p.name) for p in ranked["latents"] if p.score > 0]
    level = sae.encode(torch.from_numpy(good)).mean(0).tolist()
    found: dict[str, list[Candidate]] = {"latents zeroed": [], "latents capped": [], "units": [], "heads": []}
    for top in _ladder(chosen):
        words = f"{len(top)} latent{'s' * (len(top) > 1)}"
        found["latents zeroed"].append(Candidate("latents zeroed", words, (
            SaeSplice(hook, sae=sae, latents=top, mode="zero"),), top))
        found["latents capped"].append(Candidate("latents capped", words, (
            SaeSplice(hook, sae=sae, latents=top, mode="cap", strength=tuple(level[j] for j in top)),), top))
    for top in _ladder([int(p.name) for p in ranked["units"] if p.score > 0]):
        found["units"].append(Candidate("units", f"{len(top)} unit{'s' * (len(top) > 1)}", (
            MeanAblation(hook, values=mean, units=top),)))
    for names in _ladder([p.name for p in ranked["heads"] if p.score > 0]):
        found["heads"].append(Candidate("heads", ", ".join(names) if len(names) <= 4 else f"{len(names)} heads",
                                        tuple(edit for name in names for edit in off(name))))
    found["steering"] = [Candidate("steering", f"{-s:g} x difference of means", (
        Steering(hook, direction=bad.mean(0) - mean, strength=s),)) for s in STRENGTHS]
    found["erasure"] = list(_erasures(hook, practice))
    return found, ranked


def _ladder(ranked: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The best few, the best more, at most three sizes, without repeats."""
    return [tuple(ranked[:n]) for n in dict.fromkeys(min(size, len(ranked)) for size in SIZES) if n]


def _erasures(hook: str, practice: Practice) -> list[Candidate]:
    bad, good = practice.during(True), practice.during(False)
    there = practice.seen & practice.unwanted[:, None]
    concepts = {"unwanted or wanted attack": (bad, good), "attack or not, unwanted scene": (bad, there & ~bad),
                "scene": (there, practice.seen & ~practice.unwanted[:, None])}
    return [Candidate("erasure", words, (LinearErasure.fit(
        hook, np.concatenate([practice.x[yes], practice.x[no]]), np.repeat([1.0, 0.0], [yes.sum(), no.sum()])),))
        for words, (yes, no) in concepts.items() if yes.sum() > 1 and no.sum() > 1]
