"""Steerability, closed loop: how far events of whole episodes become more or less likely when a latent is set by hand.

For an event (an outcome of the scenario: the villager harmed, a log within reach, a log broken)

    S_f^cl = mean over scenarios of (P~(event) - P(event))^2

with P the share of episodes in which it happened. Treated and clean episodes have the same seeds: the same worlds, and
the same draws of the agent as long as they see the same. Shares of few episodes differ by chance too; the two nulls,
those of ``steerability``, are played just as often and differ by chance just as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from harness.agent.agent import Agent
from harness.agent.hooks import HookPoint
from harness.agent.sae import Sae
from harness.analysis.open_loop import Progress, ticks
from harness.analysis.result import Result, Table
from harness.analysis.sae.steerability import LEVEL, Mode, check_sae, moved, random_directions
from harness.analysis.sae.tokens import token_layout
from harness.errors import HarnessError, unknown_name
from harness.rollout import Play, play_many
from harness.scenario.schema import Scenario
from harness.statistics import rank_p, wilson

__all__ = ["ClosedLoop", "steer_episodes"]

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClosedLoop(Result):
    """Events of episodes with latents set by hand.

    Attributes:
        hook: Where.
        mode: How latents were set.
        strength: To what.
        events: (scenario, outcome) each.
        n_episodes: Of each scenario, in each condition.
        latents: Those tested, [n].
        clean: Episodes with the event, [event].
        treated: Likewise, [n, event].
        directions: Likewise, along norm-matched random directions, [null, event].
        others: Likewise, with random other latents, [null, event].
        note: Whose.
    """

    hook: str
    mode: str
    strength: float
    events: tuple[tuple[str, str], ...]
    n_episodes: int
    latents: Counts
    clean: Counts
    treated: Counts
    directions: Counts
    others: Counts
    note: str

    def score(self, counts: Counts, outcome: str) -> npt.NDArray[np.float64]:
        """S_f^cl of an outcome, [row], of rows such as ``treated``."""
        columns = [i for i, (_, name) in enumerate(self.events) if name == outcome]
        away = (counts[:, columns] - self.clean[columns]) / self.n_episodes
        return np.asarray(np.square(away).mean(1))

    def p(self, outcome: str) -> npt.NDArray[np.float64]:
        """Per latent, its rank among random directions and among random latents, [n, 2]."""
        own = self.score(self.treated, outcome)
        return np.array([[rank_p(value, self.score(null, outcome).tolist()) for null in (self.directions, self.others)]
                         for value in own])

    def tables(self) -> Sequence[Table]:
        """One row per latent and event; then how many latents pass, by outcome."""
        rows, fractions = list[tuple[Any, ...]](), list[tuple[Any, ...]]()
        n = self.n_episodes
        for outcome in dict.fromkeys(name for _, name in self.events):
            ranks, scores = self.p(outcome), self.score(self.treated, outcome)
            passed = int((ranks[:, 0] <= LEVEL).sum())
            fractions.append((outcome, f"{passed} of {len(ranks)}", wilson(passed, len(ranks)),
                              float(np.quantile(self.score(self.directions, outcome), 1 - LEVEL))))
            for row, latent in enumerate(self.latents):
                for column, (scenario, name) in enumerate(self.events):
                    if name == outcome:
                        k, was = int(self.treated[row, column]), int(self.clean[column])
                        rows.append((int(latent), scenario, outcome, f"{was} of {n}", f"{k} of {n}", wilson(k, n),
                                     float(scores[row]), float(ranks[row, 0]), float(ranks[row, 1])))
        note = (f"{self.note}\nS_f = mean over scenarios of (P~ - P)^2; latents {self.mode} {self.strength:.3g} from "
                f"the first step on; {len(self.directions)} random directions of the same norm, {len(self.others)} "
                "random latents, the same seeds")
        return (Table(f"Steering episodes at {self.hook}", ("latent", "scenario", "event", "clean", "steered", "95 %",
                                                            "S_f", "p, directions", "p, random latents"),
                      tuple(rows), note),
                Table("Latents beyond the 99 % null of directions", ("event", "steerable", "95 %", "99 % null"),
                      tuple(fractions), "of those tested, which were chosen"))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Numbers of episodes with each event."""
        return {name: getattr(self, name) for name in ("latents", "clean", "treated", "directions", "others")}


def steer_episodes(agent: Agent, sae: Sae, scenarios: Sequence[Scenario], seeds: Sequence[int], latents: Sequence[int],
                   strength: float, *, alive: Sequence[int] | None = None, events: Sequence[str] = ("*",),
                   mode: Mode = "replace", nulls: int = 99, max_steps: int | None = None, slots: int = 16,
                   backend: str = "blockworld", seed: int = 0, progress: Progress | None = None) -> ClosedLoop:
    """Play episodes with each latent set by hand, and with the nulls.

    Args:
        agent: Who plays.
        sae: Says which hook.
        scenarios: Where.
        seeds: Of the episodes of each.
        latents: To be tested.
        strength: As in ``SaeSplice``.
        alive: Latents that the nulls are drawn from; None: all.
        events: Outcomes of the scenarios, or globs.
        mode: As in ``SaeSplice``.
        nulls: Random directions, and random latents.
        max_steps: End episodes earlier.
        slots: Episodes that share a forward pass.
        backend: Which engine builds the world.
        seed: Of the nulls.
        progress: Told of conditions played.

    Raises:
        InterventionError: for an SAE of another hook, width or agent, or a latent out of range.
        HarnessError: for no scenario, seed, latent or event, an event that no scenario has, too few nulls, or an
            episode that fails.
    """
    if not scenarios or not seeds or not latents:
        raise HarnessError("expected a scenario, a seed and a latent at least")
    if nulls < 99:
        raise HarnessError(f"a 99 % null needs 99 draws at least, got {nulls}")
    hook, found = check_sae(sae, agent, latents), _events(scenarios, events)
    rng = np.random.default_rng(seed)
    tested = np.array(sorted(set(latents)), np.int64)
    live = np.arange(sae.n_latents) if alive is None else np.asarray(alive, np.int64)
    drawn, rest = rng.choice(live, nulls), np.setdiff1d(live, tested)
    if not len(rest):
        raise HarnessError("no other latent is alive, so there is none to compare with")
    others = rng.choice(rest, nulls, replace=len(rest) < nulls)
    first = token_layout(hook, agent.hook_axes()[hook], agent.hook_shapes()[hook][0]).moved
    tick = ticks(progress, 1 + len(tested) + 2 * nulls)

    def play(edits: Sequence[Callable[[Tensor, HookPoint], Tensor] | None]) -> Counts:
        counts = []
        for edit in edits:
            with agent.hooks([] if edit is None else [(hook, edit)]):
                counts.append(_count(agent, scenarios, seeds, found, max_steps, slots, backend))
            tick(1)
        return np.array(counts, np.int64)

    def edited(members: Counts, directions: Tensor) -> list[Callable[[Tensor, HookPoint], Tensor] | None]:
        return [_Edit(sae, int(member), direction, mode, strength, channels_first=first)
                for member, direction in zip(members, directions, strict=True)]

    own = sae.W_dec
    provenance = {"analysis": "sae closed loop", "sae": sae.digest(), "hook": hook, "agent": agent.description,
                  "seeds": list(seeds), "arguments": {"mode": mode, "strength": strength, "nulls": nulls, "seed": seed,
                                                      "max_steps": max_steps, "slots": slots}}
    return ClosedLoop(provenance, hook, mode, strength, found, len(seeds), tested, play([None])[0],
                      play(edited(tested, own[tested])), play(edited(drawn, random_directions(own[drawn], seed))),
                      play(edited(others, own[others])), f"{agent.name}: {agent.description}")


def _events(scenarios: Sequence[Scenario], globs: Sequence[str]) -> tuple[tuple[str, str], ...]:
    every = [(scenario.name, name) for scenario in scenarios for name in scenario.outcomes]
    if not every:
        raise HarnessError("none of the scenarios has an outcome, so there are no events to count",
                           hint="take one with outcomes: harness scenario show villager")
    for glob in globs:
        if not any(fnmatchcase(name, glob) for _, name in every):
            raise unknown_name("event", glob, sorted({name for _, name in every}))
    return tuple(each for each in every if any(fnmatchcase(each[1], glob) for glob in globs))


@dataclass(frozen=True, eq=False)
class _Edit:
    """What one latent's change does to an activation [b, t, ...], along a direction that need not be its own."""

    sae: Sae
    member: int
    direction: Tensor
    mode: Mode
    strength: float
    channels_first: bool

    def __call__(self, x: Tensor, hook: HookPoint) -> Tensor:
        laid = x.movedim(2, -1) if self.channels_first else x
        values = self.sae.to(laid).encode(laid)[..., self.member]
        delta = moved(values, self.mode, self.strength, 0.0)
        new = laid + delta[..., None] * self.direction.to(laid)
        return new.movedim(-1, 2) if self.channels_first else new


def _count(agent: Agent, scenarios: Sequence[Scenario], seeds: Sequence[int], events: Sequence[tuple[str, str]],
           max_steps: int | None, slots: int, backend: str) -> list[int]:
    """Episodes with each event."""
    happened = dict.fromkeys(events, 0)
    for scenario in scenarios:
        plays = [Play(scenario, seed, max_steps, backend=backend) for seed in seeds]
        for play, result in play_many(agent, plays, slots=slots if backend == "blockworld" else 1):
            if result.status == "failed":
                raise HarnessError(f"{play.scenario.name} with seed {play.seed} failed: {result.error}")
            for key in happened:
                if key[0] == scenario.name:
                    happened[key] += bool(result.outcomes[key[1]]["value"])
    return [happened[key] for key in events]
