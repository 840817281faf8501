"""What an agent does in a scene, counted over episodes: the behaviour in question, and how else it moves.

Edits of activations act alike in all rows of a forward pass, so that many treated episodes are played side by side.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent
from harness.errors import HarnessError, unknown_name
from harness.intervention.feature.edit import shared_hooks
from harness.intervention.input.region import Region
from harness.intervention.intervention import Intervention
from harness.rollout import Episode, EpisodeResult, Play, Step, play_many
from harness.scenario.schema import Scenario, read_outcome
from harness.statistics import Interval, wilson

__all__ = ["HELD", "Conduct", "Scene", "play_scene"]

HELD = 10
"""Steps of attack with the object in reach under the crosshair from which on it was attacked."""
_ATTACKED, _REACHED = "repair_attacked", "repair_reached"


@dataclass(frozen=True)
class Scene:
    """Where an agent plays, and what is counted there.

    Attributes:
        name: For tables.
        scenario: Where.
        object: What may be attacked: a creature, a tag, a block, or a glob of them, such as ``*_log``.
        outcome: An outcome of the scenario that counts in the place of an attack on the object; None for the attack.
        steps: End episodes after so many; None leaves it to the scenario.

    Raises:
        HarnessError: for an object or an outcome that the scenario cannot have.
    """

    name: str
    scenario: Scenario
    object: str
    outcome: str | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        Region(object=self.object).check_scenario(self.scenario)
        if self.outcome is not None and self.outcome not in self.scenario.outcomes:
            raise unknown_name("outcome", self.outcome, self.scenario.outcomes, where=self.scenario.name)

    @property
    def counted(self) -> str:
        """What counts, in words."""
        return self.outcome or f"{self.object} attacked"

    def watched(self, *, brief: bool = False) -> Scenario:
        """The scenario, counting attack on the object and whether it was in reach as well.

        Args:
            brief: End as soon as what counts has happened.
        """
        looks = {"looked_at": self.object, "reachable": True}
        outcomes = {**self.scenario.outcomes, _REACHED: read_outcome(looks),
                    _ATTACKED: read_outcome({**looks, "pressing": "attack", "at_least": HELD})}
        episode = self.scenario.episode
        if brief:
            ends = (*episode.terminate_when, self.outcome or _ATTACKED)
            episode = episode.model_copy(update={"terminate_when": tuple(dict.fromkeys(ends))})
        return self.scenario.model_copy(update={"outcomes": outcomes, "episode": episode})


@dataclass(frozen=True)
class Conduct:
    """What came of episodes of one scene, each [episode].

    Attributes:
        done: Whether what the scene counts happened.
        reached: Whether the object was ever in reach under the crosshair.
        walked: Blocks walked per step, over ground.
        turned: Degrees per step that the camera was moved.
        attacking: Share of steps in which attack was held.
    """

    done: npt.NDArray[np.bool_]
    reached: npt.NDArray[np.bool_]
    walked: npt.NDArray[np.float64]
    turned: npt.NDArray[np.float64]
    attacking: npt.NDArray[np.float64]

    @property
    def share(self) -> float:
        """Of episodes in which it happened."""
        return float(self.done.mean())

    @property
    def interval(self) -> Interval:
        """Wilson's, 95 %."""
        return wilson(int(self.done.sum()), len(self.done))

    @classmethod
    def joined(cls, parts: Sequence[Conduct]) -> Conduct:
        """One after the other."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts])
                     for field in dataclasses.fields(cls)))


class _Watcher:
    """Counts steps of one episode; an observer."""

    def begin(self, episode: Episode) -> None:
        self._world = episode.world
        self._at = episode.world.world_state().player.position
        self.walked = self.turned = 0.0
        self.attacking = 0

    def on_step(self, step: Step) -> None:
        at = self._world.world_state().player.position
        self.walked += math.hypot(at[0] - self._at[0], at[2] - self._at[2])
        self._at = at
        self.turned += float(np.abs(np.asarray(step.executed["camera"], np.float64)).sum())
        self.attacking += bool(step.executed["attack"])

    def end(self, result: EpisodeResult) -> None:
        pass


def play_scene(agent: Agent, scene: Scene, seeds: Sequence[int], edits: Sequence[Intervention] = (), *,
               brief: bool = False, slots: int = 8, ticked: Callable[[int], None] = lambda n: None) -> Conduct:
    """Play a scene with edits inside the network, or none.

    Args:
        agent: Who plays.
        scene: Where.
        seeds: One episode each.
        edits: Of activations, without schedules; they act in all episodes alike.
        brief: End each as soon as what counts has happened; how it moves is then not to be compared.
        slots: Episodes that share a forward pass; an episode's numbers are rounded by it.
        ticked: Told of episodes done.

    Raises:
        HarnessError: for an edit that does not fit, or an episode that fails.
    """
    for edit in edits:
        edit.check(agent)
    scenario, found = scene.watched(brief=brief), dict[int, tuple[bool, bool, float, float, float]]()
    plays = [Play(scenario, seed, scene.steps, [_Watcher()], label=number) for number, seed in enumerate(seeds)]
    with agent.hooks(shared_hooks(edits)):
        for play, result in play_many(agent, plays, slots=slots):
            if result.status == "failed":
                raise HarnessError(f"{scene.name} with seed {play.seed} failed: {result.error}")
            watcher, n = play.observers[0], max(result.n_steps, 1)
            assert isinstance(watcher, _Watcher)
            came = {name: bool(outcome["value"]) for name, outcome in result.outcomes.items()}
            found[play.label] = (came[scene.outcome or _ATTACKED], came[_REACHED], watcher.walked / n,
                                 watcher.turned / n, watcher.attacking / n)
            ticked(1)
    rows = [found[number] for number in range(len(plays))]
    done, reached, walked, turned, attacking = (np.array(column) for column in zip(*rows, strict=True))
    return Conduct(done, reached, walked, turned, attacking)
