"""The Intervention contract: a frozen value that returns a changed copy and never touches what it was given."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent, AgentState
from harness.errors import InterventionError, unknown_name
from harness.intervention.schedule import ALWAYS, Schedule
from harness.scenario.schema import Scenario
from harness.world.action import Action
from harness.world.observation import EVENT_TYPES, WorldState
from harness.world.world import Capabilities

__all__ = ["Edit", "History", "Intervention", "Moment", "Site", "Span"]

Site = Literal["world", "input", "feature", "memory", "action"]


class History(Protocol):
    """What was recorded before an episode was taken up in the middle; a fork has it, other episodes have none."""

    def state_before(self, step: int) -> tuple[int, Mapping[str, npt.NDArray[Any]] | None]:
        """The nearest memory kept at or before ``step``: the step it is the start of, and ``save_state``'s arrays.

        The arrays are None for the memory before a first frame.
        """

    def embeds(self, first: int, last: int) -> npt.NDArray[np.float32] | None:
        """``hook_embed`` of steps ``first`` to ``last - 1``, [t, d]; None where it was not recorded."""

    def frames(self, first: int, last: int) -> npt.NDArray[np.uint8]:
        """The pictures that the agent saw in these steps, [t, H, W, 3]."""


@dataclass(frozen=True)
class Moment:
    """What an intervention may know when it applies.

    Attributes:
        step: Index of the step about to be played.
        rng: A generator that depends on the episode's seed, this intervention and the step, and on nothing else: noise
            is the same in chunks and step by step, in a replay and in a fork.
        memo: The intervention's own notes for this episode (plain values and arrays); part of snapshots.
        agent: Who plays.
        info: The world's info before this step: statistics, events, outcomes, pose.
        world_state: The privileged state now, with the arguments of ``World.world_state``; None where there is no
            world, as in the replay of a recording's pictures alone.
        capabilities: What the world can do; None as above.
        history: What was recorded before this episode began, in a fork.
        picture_without: ``World.picture_without``; None as above.
    """

    step: int
    rng: np.random.Generator
    memo: dict[str, Any]
    agent: Agent
    info: Mapping[str, Any]
    world_state: Callable[..., WorldState] | None = None
    capabilities: Capabilities | None = None
    history: History | None = None
    picture_without: Callable[[Collection[int]], npt.NDArray[np.uint8]] | None = None


@dataclass(frozen=True)
class Span:
    """Which steps one forward pass looks at, for edits inside it.

    Attributes:
        steps: Absolute step of each query position ``t``; one in closed loop, a chunk in a replay.
        active: For each, whether the schedule holds; the stack puts back what an edit changed elsewhere.
        rng_at: The generator (``Moment.rng``) of a step.
        memo: As in ``Moment``.
    """

    steps: range
    active: tuple[bool, ...]
    rng_at: Callable[[int], np.random.Generator]
    memo: dict[str, Any]


Edit = Callable[[Any, Any, Span], Any]
"""``edit(activation, hook_point, span) -> new activation``: a new tensor of the same shape, or the very same; None from
what only watches."""


@dataclass(frozen=True)
class Intervention(ABC):
    """One change at one site. Subclasses are frozen dataclasses and override the method of their site.

    Attributes:
        site: Where it acts.
        schedule: When; always, unless told.
        name: What the scenario calls it, for reports.
    """

    site: ClassVar[Site]
    schedule: Schedule = field(default=ALWAYS, kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    def change_world(self, moment: Moment) -> Sequence[str]:
        """Commands to run before the picture of this step; none when nothing is to be changed."""
        return ()

    def watch_input(self, pov: npt.NDArray[np.uint8], moment: Moment) -> None:  # noqa: B027 (most need not watch)
        """Every picture that reaches it, also where the schedule does not hold; it may write down notes in the memo."""

    def change_input(self, pov: npt.NDArray[np.uint8], moment: Moment) -> npt.NDArray[np.uint8]:
        """The picture the agent sees instead of ``pov`` (uint8 [H, W, 3]); the same array when unchanged."""
        return pov

    def watch_memory(self, state: AgentState, moment: Moment) -> None:  # noqa: B027 (most need not watch)
        """Every memory that reaches it, also where the schedule does not hold; it may write notes in the memo."""

    def change_memory(self, state: AgentState, moment: Moment) -> AgentState:
        """The memory that the agent reads in this step instead of ``state``; the same object when unchanged."""
        return state

    def edits(self) -> Sequence[tuple[str, Edit]]:
        """Edits inside the policy: pairs of a hook's name or glob and a function."""
        return ()

    def change_action(self, action: Action, moment: Moment) -> Action:
        """The action the world executes instead of the chosen one; the same dict when unchanged."""
        return action

    def check(self, agent: Agent, capabilities: Capabilities | None = None) -> None:
        """Refuse an agent or a world that it does not fit, before anything is played.

        Args:
            agent: Who plays.
            capabilities: What the world can do; None in a replay of pictures alone.

        Raises:
            HarnessError: saying what does not fit.
        """
        agent.resolve_hooks([name for name, _ in self.edits()])

    def check_scenario(self, scenario: Scenario) -> None:
        """Refuse a scenario that lacks what it names, before anything is played; here, what its schedule waits for.

        Raises:
            InterventionError: for a name that is not there, with the nearest.
        """
        for name in (self.schedule.when, self.schedule.since):
            if isinstance(name, str) and name not in scenario.outcomes and name not in EVENT_TYPES:
                raise unknown_name("outcome or event", name, [*scenario.outcomes, *EVENT_TYPES],
                                   error=InterventionError)

    def check_length(self, n_steps: int, first_step: int = 0) -> None:
        """Refuse a schedule outside an episode of ``n_steps``, or outside what a fork plays of it.

        Raises:
            InterventionError: when no step from ``first_step`` on can hold.
        """
        if not self.schedule.meets(first_step, n_steps):
            raise InterventionError(
                f"{self.called}: {self.schedule} lies outside the episode of {n_steps} steps"
                + (f", of which the fork plays those from {first_step} on" if first_step else ""),
                hint=f"steps count from 0, so the last is {n_steps - 1}")

    @property
    def called(self) -> str:
        """What messages call it: its name in quotes, or its kind."""
        return f'"{self.name}"' if self.name else type(self).__name__

    def apart(self, step: int) -> bool:
        """Whether a forward pass over several steps must begin anew at this one, since the memory may be changed."""
        return type(self).change_memory is not Intervention.change_memory and (
            self.schedule.waits or self.schedule.fits(step))

    @property
    def lasting(self) -> bool:
        """Whether its edits inside the policy are asked also in steps that the schedule leaves out."""
        return False

    def control(self, seed: int, agent: Agent) -> Intervention | None:
        """The same where nothing is expected of it (a random direction, other heads, other frames); None without one.

        Args:
            seed: Which of many.
            agent: For the number of heads, units and frames.
        """
        return None

    def cost(self, history: History, first_step: int) -> str | None:
        """In words, what a fork at ``first_step`` must compute that the recording does not hold; None if nothing."""
        return None

    @property
    def needs_world(self) -> bool:
        """Whether the world's state or picture decides what it does, so that it cannot do without one."""
        return False

    def clashes(self, other: Intervention) -> str | None:
        """Why the two cannot run in the same step, or None when they can; asked for every pair whose steps meet."""
        return None

    def describe(self) -> dict[str, Any]:
        """The mapping that ``build_intervention`` makes an equal value from: kind, site, fields, schedule."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("schedule", "name")}
        return {"kind": type(self).__name__, "site": self.site, **({"name": self.name} if self.name else {}),
                **{key: _plain(value) for key, value in own.items()}, **self.schedule.describe()}


def _plain(value: Any) -> Any:
    """A field as JSON values; values with a ``describe`` of their own say themselves."""
    if hasattr(value, "describe"):
        return value.describe()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
