"""How often an agent reaches an outcome in episodes it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.agent.agent import Agent
from harness.agent.steve.agent import SteveAgent
from harness.agent.steve.goals import invented_goal
from harness.agent.steve.policy import StevePolicy
from harness.agent.vpt.agent import VPTAgent
from harness.agent.vpt.policy import VPTPolicy
from harness.errors import HarnessError, TrainingError, unknown_name
from harness.rollout import Play, play_many
from harness.scenario.load import load_scenario
from harness.scenario.schema import Scenario
from harness.statistics import wilson
from harness.training.recipe import Validation

__all__ = ["EvaluationResult", "evaluate", "evaluate_agent", "validation_scenario"]


@dataclass(frozen=True)
class EvaluationResult:
    """What came of some episodes.

    Attributes:
        scenario: Its name.
        sampling: Whether tokens were drawn (temperature 1); False: the most likely ones.
        seeds: One per episode.
        first_steps: Of every episode the step at which the outcome came true, None where it did not.
    """

    scenario: str
    sampling: bool
    seeds: tuple[int, ...]
    first_steps: tuple[int | None, ...]

    @property
    def successes(self) -> int:
        """Episodes in which it came true."""
        return sum(step is not None for step in self.first_steps)

    def within(self, steps: int) -> int:
        """Episodes in which it came true within so many steps."""
        return sum(step is not None and step < steps for step in self.first_steps)

    @property
    def median_step(self) -> float | None:
        """Median number of steps to success, over successful episodes."""
        done = [step + 1 for step in self.first_steps if step is not None]
        return float(np.median(done)) if done else None

    def as_dict(self) -> dict[str, Any]:
        """JSON values, with Wilson's 95 % interval."""
        n = len(self.seeds)
        low, high = wilson(self.successes, n)
        return {"scenario": self.scenario, "sampling": self.sampling, "episodes": n, "successes": self.successes,
                "low": round(low, 4), "high": round(high, 4), "within_300": self.within(300),
                "median_steps": self.median_step, "first_seed": self.seeds[0],
                "first_steps": list(self.first_steps)}


def validation_scenario(validation: Validation) -> Scenario:
    """The scenario a recipe validates in.

    Raises:
        ScenarioError: for an unknown scenario or parameter.
        TrainingError: when it measures no such outcome.
    """
    scenario = load_scenario(validation.scenario, parameters=validation.parameters)
    if validation.outcome not in scenario.outcomes:
        raise unknown_name("outcome", validation.outcome, scenario.outcomes, where=f"scenario {scenario.name}",
                           error=TrainingError)
    return scenario


def evaluate(policy: VPTPolicy, scenario: Scenario, outcome: str, seeds: Sequence[int], *, steps: int,
             sampling: bool = True, worlds: int = 32, goal: str | None = None, cond_scale: float | None = None,
             report: Callable[[int], None] = lambda done: None) -> EvaluationResult:
    """Let a policy play one episode per seed, and note when the outcome comes true; the episode then ends.

    Args:
        policy: In float32.
        scenario: What to play.
        outcome: Name of one of its outcomes.
        seeds: Of the episodes, as for ``run_episode``.
        steps: At most so many.
        sampling: Draw tokens from the policy's own distribution; False takes the most likely ones.
        worlds: How many are played at a time.
        goal: What a policy of kind steve is told, by the name of an invented goal.
        cond_scale: Strength of guidance towards it; None for none.
        report: Told how many episodes are over.
    """
    config = policy.config
    told: dict[str, Any] = {}
    if goal is not None:
        told = {"prompt": goal, "goals": {goal: invented_goal(goal)}, "cond_scale": cond_scale}
    kind = SteveAgent if isinstance(policy, StevePolicy) else VPTAgent
    agent = kind(policy_kwargs=config.policy_kwargs(), pi_head_kwargs=config.pi_head_kwargs(),
                 weights=policy.state_dict(), device=str(policy.device), deterministic=not sampling,
                 torch_threads=torch.get_num_threads(), **told)
    return evaluate_agent(agent, scenario, outcome, seeds, steps=steps, sampling=sampling, worlds=worlds,
                          report=report)


def evaluate_agent(agent: Agent, scenario: Scenario, outcome: str, seeds: Sequence[int], *, steps: int,
                   sampling: bool = True, worlds: int = 32,
                   report: Callable[[int], None] = lambda done: None) -> EvaluationResult:
    """``evaluate`` for any agent, as it is: ``sampling`` is only noted.

    Raises:
        HarnessError: when an episode fails; what the measured share would be of is then unknown.
    """
    episode = scenario.episode.model_copy(update={"terminate_when": (*scenario.episode.terminate_when, outcome)})
    ending = scenario.model_copy(update={"episode": episode})
    first_steps: list[int | None] = [None] * len(seeds)
    plays = (Play(ending, seed, steps, label=number) for number, seed in enumerate(seeds))
    slots = max(1, min(worlds, len(seeds)))
    for done, (play, result) in enumerate(play_many(agent, plays, slots=slots), 1):
        if result.error is not None:
            raise HarnessError(f"the episode with seed {play.seed} failed: {result.error}")
        first_steps[play.label] = result.outcomes[outcome]["first_step"]
        report(done)
    return EvaluationResult(scenario.name, sampling, tuple(seeds), tuple(first_steps))
