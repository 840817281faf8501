"""Suppression as a repair: latents tied to an unwanted attack are found, suppressed, and compared with other methods.

Everything is chosen on training seeds and measured on test seeds, the same for every method. A method offers at most
three edits (``selection.candidates``); the one with the best (share spared in the unwanted scene + mean share kept in
the others) / 2 on the training seeds is tested, the smaller at a tie. Doing nothing, and never attacking, both score
about 1/2 there. Two nulls are tested beside each suppression: as many other latents that fire in unwanted attack, and
moving the activation as far as the suppression does in a random direction; drawn anew for every block of test seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.agent.agent import Agent
from harness.agent.sae import Sae
from harness.analysis.open_loop import Progress, ticks
from harness.analysis.result import Cell, Result, Table, agent_title
from harness.analysis.sae.cause import Carriers, carriers
from harness.analysis.sae.conduct import HELD, Conduct, Scene, play_scene
from harness.analysis.sae.selection import (
    APART,
    Candidate,
    Part,
    active_latents,
    candidates,
    practise,
)
from harness.errors import HarnessError
from harness.intervention import RandomShift, SaeSplice
from harness.intervention.intervention import Intervention
from harness.scenario.schema import Scenario
from harness.statistics import bootstrap, holm, mcnemar_exact, wilson

__all__ = ["Arm", "Repair", "repair"]

_SHOWN = 8
"""Parts of each kind in the table."""


@dataclass(frozen=True)
class Arm:
    """One method, or a null, on the test seeds.

    Attributes:
        name: The method.
        words: Which edit.
        null: Whether it is a control.
        scenes: By scene's name.
    """

    name: str
    words: str
    null: bool
    scenes: Mapping[str, Conduct]


@dataclass(frozen=True)
class Tried:
    """A candidate on the training seeds: what it is, share spared, mean share kept, whether it was chosen."""

    candidate: Candidate
    spared: float
    kept: float
    chosen: bool


@dataclass(frozen=True)
class Repair(Result):
    """A repair and what it was compared with.

    Attributes:
        title: Whose.
        unwanted: Name of the scene with the unwanted attack.
        keep: Names of the others.
        arms: The first is the agent as it is.
        tried: On the training seeds.
        parts: By kind (latents, units, heads), the best first.
        counted: What each scene counts, by name.
        cause: The latents that truly carry the cause, where it was said; and what each suppression found of them.
        note: How it was done.
    """

    title: str
    unwanted: str
    keep: tuple[str, ...]
    arms: tuple[Arm, ...]
    tried: tuple[Tried, ...]
    parts: Mapping[str, Sequence[Part]]
    counted: Mapping[str, str]
    cause: Carriers | None
    note: str

    def right(self, arm: Arm, scene: str) -> float:
        """Share of episodes in which it spared what it should not attack, or did what it should."""
        share = arm.scenes[scene].share
        return 1 - share if scene == self.unwanted else share

    def worst(self, arm: Arm) -> str:
        """The scene in which it does the right thing least often."""
        return min((self.unwanted, *self.keep), key=lambda scene: self.right(arm, scene))

    def on_front(self, arm: Arm) -> bool:
        """Whether no arm but nulls is as good in the unwanted scene and in the worst kept one, and better in one."""
        def place(one: Arm) -> tuple[float, float]:
            return self.right(one, self.unwanted), min(self.right(one, scene) for scene in self.keep)
        own = place(arm)
        return not any(place(other) != own and all(a >= b for a, b in zip(place(other), own, strict=True))
                       for other in self.arms if not other.null)

    def as_dict(self) -> dict[str, Any]:
        """Tables, and every episode of every arm."""
        return {**super().as_dict(), "arms": [
            {"name": arm.name, "words": arm.words, "null": arm.null, "scenes": {
                name: {key: np.asarray(value).tolist() for key, value in vars(conduct).items()}
                for name, conduct in arm.scenes.items()}} for arm in self.arms]}

    def tables(self) -> Sequence[Table]:
        """Pareto table, other behaviour, training, parts, and the cause."""
        return [self._pareto(), self._behaviour(), self._training(), *self._found(),
                *([] if self.cause is None else [self._cause(self.cause)])]

    def _pareto(self) -> Table:
        base = self.arms[0].scenes
        p_values = holm([_mcnemar(base[self.unwanted], arm.scenes[self.unwanted]) for arm in self.arms[1:]])
        rows = []
        for arm, p in zip(self.arms, [None, *p_values], strict=True):
            cells: list[Cell] = [("null: " if arm.null else "") + arm.name, arm.words]
            for name in (self.unwanted, *self.keep):
                here = arm.scenes[name]
                cells += [f"{int(here.done.sum())} of {len(here.done)}", here.interval]
                if name == self.unwanted:
                    cells += [p, f"{int(here.reached.sum())} of {len(here.reached)}"]
                else:
                    cells.append(None if arm is self.arms[0] else _mcnemar(base[name], here))
            worst = self.worst(arm)
            front = "" if arm.null else "front" if self.on_front(arm) else "dominated"
            rows.append((*cells, f"{worst}: {self.right(arm, worst):.2f} right", front))
        columns = ["method", "edit", f"{self.unwanted}: {self.counted[self.unwanted]}", "95 %", "Holm p", "reached"]
        for name in self.keep:
            columns += [f"{name}: {self.counted[name]}", "95 %", "p"]
        return Table(f"{self.title}: repair", (*columns, "worst scene", "Pareto"), tuple(rows),
                     f"{self.note} 95 %: Wilson's. p: exact McNemar against the agent as it is, over the same seeds; "
                     "Holm: over the rows. front: no other row but nulls is at least as good in the unwanted scene and "
                     "in the worst kept one, and better in one of them.")

    def _behaviour(self) -> Table:
        rows: list[tuple[Cell, ...]] = []
        base = self.arms[0].scenes
        for arm in self.arms[1:]:
            for name in (self.unwanted, *self.keep):
                cells: list[Cell] = [("null: " if arm.null else "") + arm.name, name]
                for kind in ("walked", "turned", "attacking"):
                    moved = getattr(arm.scenes[name], kind) - getattr(base[name], kind)
                    cells += [float(moved.mean()), bootstrap(moved.tolist())]
                rows.append((*cells, f"{int(arm.scenes[name].reached.sum())} of {len(base[name].reached)}"))
        own = "; ".join(f"{name}: {base[name].walked.mean():.3g} blocks and {base[name].turned.mean():.3g} degrees a "
                        f"step, attack in {base[name].attacking.mean():.2f} of them"
                        for name in (self.unwanted, *self.keep))
        return Table("other behaviour, less the agent as it is", (
            "method", "scene", "walked", "95 %", "turned", "95 %", "attacking", "95 %", "reached"), tuple(rows),
            f"As it is: {own}. walked: blocks a step; turned: degrees a step; attacking: share of steps with attack "
            "held; reached: episodes with the object in reach. Paired by seed, percentile bootstrap over episodes.")

    def _training(self) -> Table:
        rows = [(t.candidate.method, t.candidate.words, t.spared, t.kept, (t.spared + t.kept) / 2,
                 "tested" if t.chosen else "") for t in self.tried]
        return Table("on the training seeds", ("method", "edit", "spared", "kept", "score", ""), tuple(rows),
                     "spared: share of episodes of the unwanted scene without the attack; kept: mean share of the "
                     "others with what they count.")

    def _found(self) -> Iterator[Table]:
        for kind, parts in self.parts.items():
            passing = sum(part.score > 0 for part in parts)
            rows = [(part.name, part.gain, part.cost, part.score, None if np.isnan(part.apart) else part.apart)
                    for part in parts[:_SHOWN]]
            yield Table(f"{kind}, the best of {len(parts)}; {passing} have a score above 0",
                        (kind[:-1], "gain", "cost", "score", "apart"), tuple(rows),
                        "gain, cost: nats by which the log-odds of attack fall without it in unwanted and in wanted "
                        f"attack; apart: AUROC of the two kinds of steps, at least {APART}.")

    def _cause(self, cause: Carriers) -> Table:
        rows: list[tuple[Cell, ...]] = []
        for tried in self.tried:
            if tried.candidate.parts and tried.candidate.method == "latents zeroed":
                own, true = set(tried.candidate.parts), set(cause.latents)
                hit = len(own & true)
                rows.append((tried.candidate.words, ", ".join(map(str, tried.candidate.parts)),
                             f"{hit} of {len(true)}", wilson(hit, len(true)), f"{len(own) - hit} of {len(own)}",
                             wilson(len(own) - hit, len(own)), "tested" if tried.chosen else ""))
        return Table("what the selection found of the true cause", (
            "edit", "latents", "recall", "95 %", "false discoveries", "95 %", ""), tuple(rows), cause.note)


def _mcnemar(one: Conduct, two: Conduct) -> float:
    return mcnemar_exact(int((one.done & ~two.done).sum()), int((~one.done & two.done).sum()))


def repair(agent: Agent, sae: Sae, unwanted: Scene, keep: Sequence[Scene], *, train_seeds: Sequence[int] = range(
        700_000, 700_008), test_seeds: Sequence[int] = range(800_000, 800_040), cause: Scenario | None = None,
        cause_seeds: Sequence[int] = range(600_000, 600_024), hook: str | None = None, slots: int = 8,
        progress: Progress | None = None) -> Repair:
    """Find latents tied to an unwanted attack, suppress them, and compare with other methods.

    Args:
        agent: With a network.
        sae: Of this agent, at a hook with one vector a step.
        unwanted: Where the attack is not wanted.
        keep: Where it is.
        train_seeds: For everything that is selected or fitted.
        test_seeds: For everything that is reported.
        cause: The unwanted scene with its true cause taken away, where that is known: the latents that carry the
            cause are then found by interventions on the world, and the selection is scored against them.
        cause_seeds: For the pairs of worlds with and without the cause.
        hook: Where to act; else where the SAE was trained.
        slots: Episodes that share a forward pass, and that see the same draw of a null.
        progress: Called with (episodes and parts done, in all, roughly).

    Raises:
        HarnessError: for no scene to keep, scenes of one name, seeds that both train and test, an SAE without a hook,
            or when a scene fails or holds no attack.
        InterventionError: for an SAE that does not fit the agent.
    """
    where = hook or sae.hook
    _check(agent, sae, where, unwanted, keep, train_seeds, test_seeds)
    assert where is not None
    scenes = (unwanted, *keep)
    practice = practise(agent, where, unwanted, keep, train_seeds, slots=slots)
    total = 400 + 18 * len(scenes) * len(train_seeds) + 11 * len(scenes) * len(test_seeds)
    tick = ticks(progress, total)
    offered, parts = candidates(agent, sae, where, practice, tick)
    tried = [t for method in offered.values() for t in _try(agent, method, unwanted, keep, train_seeds, slots, tick)]
    active = active_latents(sae, practice)
    arms = []
    for name, words, null, edits_of in _arms(agent, where, sae, [t.candidate for t in tried if t.chosen], list(active)):
        arms.append(Arm(name, words, null, {scene.name: _blocks(agent, scene, test_seeds, edits_of, slots, tick)
                                            for scene in scenes}))
    true = None if cause is None else carriers(agent, sae, where, unwanted, cause, cause_seeds)
    said = {"unwanted": unwanted.name, "keep": [scene.name for scene in keep], "train_seeds": list(train_seeds),
            "test_seeds": list(test_seeds), "hook": where, "slots": slots, "sae": sae.digest()}
    note = (f"{int(practice.during(True).sum())} steps of unwanted and {int(practice.during(False).sum())} of wanted "
            f"attack to select from, {len(train_seeds)} training seeds; attacked: attack held for {HELD} steps with "
            f"the object in reach. Nulls: another draw for every {slots} seeds.")
    if empty := [method for method, offers in offered.items() if not offers]:
        note += f" No part passes, so nothing to test: {', '.join(empty)}."
    return Repair({"analysis": "sae repair", "arguments": said, "agent": agent.description},
                  f"{agent_title(agent.name, agent.description)} at {where}", unwanted.name,
                  tuple(scene.name for scene in keep), tuple(arms), tuple(tried), parts,
                  {scene.name: scene.counted for scene in scenes}, true, note)


def _check(agent: Agent, sae: Sae, hook: str | None, unwanted: Scene, keep: Sequence[Scene], train: Sequence[int],
           test: Sequence[int]) -> None:
    if hook is None:
        raise HarnessError("the SAE does not say where it was trained", hint="say it with --hook")
    SaeSplice(hook, sae=sae).check(agent)
    if not keep:
        raise HarnessError("expected a scene at least in which attack is wanted",
                           hint="--keep 'treechop:*_log:mined_log'")
    names = [scene.name for scene in (unwanted, *keep)]
    if len(set(names)) < len(names):
        raise HarnessError(f"expected scenes of different names, got {', '.join(names)}")
    if not train or not test or set(train) & set(test):
        raise HarnessError("expected seeds to train and other seeds to test, got "
                           f"{len(set(train) & set(test))} that do both of {len(train)} and {len(test)}")


def _try(agent: Agent, offered: Sequence[Candidate], unwanted: Scene, keep: Sequence[Scene], seeds: Sequence[int],
         slots: int, tick: Callable[[int], None]) -> list[Tried]:
    """A method's candidates on the training seeds."""
    found = []
    for candidate in offered:
        bad, *good = (play_scene(agent, scene, seeds, candidate.edits, brief=True, slots=slots, ticked=tick).share
                      for scene in (unwanted, *keep))
        found.append(Tried(candidate, 1 - bad, float(np.mean(good)), False))
    if found:
        best = max(range(len(found)), key=lambda i: (found[i].spared + found[i].kept, -i))
        found[best] = replace(found[best], chosen=True)
    return found


def _arms(agent: Agent, hook: str, sae: Sae, chosen: Sequence[Candidate], active: Sequence[int]
          ) -> Iterator[tuple[str, str, bool, Callable[[int], Sequence[Intervention]]]]:
    """Name, words, whether it is a null, and the edits of each block of seeds."""
    def same(edits: Sequence[Intervention]) -> Callable[[int], Sequence[Intervention]]:
        return lambda block: edits

    def drawn(others: Sequence[int], n: int) -> Callable[[int], Sequence[Intervention]]:
        return lambda block: (SaeSplice(hook, sae=sae, mode="zero", latents=tuple(
            int(j) for j in np.random.default_rng(block).choice(others, n, replace=False))),)

    def shifted(edit: Intervention) -> Callable[[int], Sequence[Intervention]]:
        return lambda block: (RandomShift(hook, like=edit, seed=block),)

    yield "as it is", "", False, same(())
    for each in chosen:
        yield each.method, each.words, False, same(each.edits)
        if not each.parts:
            continue
        others, n = np.setdiff1d(active, each.parts).tolist(), len(each.parts)
        if len(others) >= n and each.method == "latents zeroed":
            yield f"{each.method}, others", f"{n} at random", True, drawn(others, n)
        yield f"{each.method}, elsewhere", "random direction, as far", True, shifted(each.edits[0])


def _blocks(agent: Agent, scene: Scene, seeds: Sequence[int], edits_of: Callable[[int], Sequence[Intervention]],
            slots: int, tick: Callable[[int], None]) -> Conduct:
    return Conduct.joined([play_scene(agent, scene, seeds[start:start + slots], edits_of(block), slots=slots,
                                      ticked=tick) for block, start in enumerate(range(0, len(seeds), slots))])
