"""A list of interventions at work in one episode: order, schedules, notes, and a line in the log for each application.

Order within a step: world, input, memory, feature (inside the forward pass), action; within a site the order of the
list, a later one sees what an earlier one left.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent, AgentState
from harness.errors import InterventionError, ScenarioError
from harness.intervention.intervention import Edit, History, Intervention, Moment, Span
from harness.scenario.outcomes import OutcomeTracker
from harness.scenario.schema import Scenario, read_outcome
from harness.world.action import BUTTONS, Action
from harness.world.observation import Observation
from harness.world.world import World

__all__ = ["Applied", "InterventionStack", "digest_of", "passes"]


def digest_of(value: Any) -> str:
    """Sixteen hex digits of SHA-256 over a value's bytes: an array, a tensor, bytes, or nested mappings of them."""
    return hashlib.sha256(_bytes(value)).hexdigest()[:16]


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, Mapping):
        return "".join(f"{key}:{digest_of(value[key])};" for key in sorted(value)).encode()
    if hasattr(value, "detach"):
        value = value.detach().float().cpu().numpy()
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return json.dumps(value, sort_keys=True, default=_listed).encode()


def _listed(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


@dataclass(frozen=True)
class Applied:
    """One intervention applied at one step.

    Attributes:
        step: Where.
        index: Its place in the stack.
        kind: Its class.
        site: Where it acts.
        name: What the scenario calls it.
        parts: What it changed, before and after, by name: a hook's activation, ``pov``, ``action``, ``memory``,
            ``world``. Digests are taken when they are asked for, so that the loop does not wait for them.
        detail: Particulars, such as the commands that ran.
    """

    step: int
    index: int
    kind: str
    site: str
    name: str | None
    parts: Mapping[str, tuple[Any, Any]]
    detail: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def digests(self) -> dict[str, tuple[str, str]]:
        """Part to digests before and after."""
        return {part: (digest_of(before), digest_of(after)) for part, (before, after) in self.parts.items()}

    def describe(self) -> dict[str, Any]:
        """As a line of the log, without the step: type, intervention, and for each part before and after."""
        return {"type": "intervention", "index": self.index, "kind": self.kind, "site": self.site,
                **({"name": self.name} if self.name else {}), **self.detail,
                "changed": {part: list(pair) for part, pair in self.digests.items()}}


class InterventionStack:
    """The interventions of one episode. Enter it to have the edits inside the policy; leave it to have none.

    Args:
        interventions: In order.
        agent: Who plays.
        seed: The episode's seed: noise depends on it.
        world: Where; None in a replay of pictures alone.
        n_steps: Length of the episode, for schedules outside it; None where it is not known.
        first_step: The first step that will be played: 0, or where a fork begins.
        recorded: For a replay: the steps at which each intervention applied then, by its index. Schedules that wait
            for something happen as recorded.
        history: What was recorded before ``first_step``.

    Raises:
        InterventionError: for one that does not fit agent, world or episode, or two that cannot compose; nothing was
            changed then.
    """

    def __init__(self, interventions: Sequence[Intervention], *, agent: Agent, seed: int, world: World | None = None,
                 n_steps: int | None = None, first_step: int = 0,
                 recorded: Mapping[int, Collection[int]] | None = None, history: History | None = None) -> None:
        self.interventions = tuple(interventions)
        self._agent, self._world, self._history, self._recorded = agent, world, history, recorded
        self._memos: list[dict[str, Any]] = [{} for _ in self.interventions]
        self._keys = _noise_keys(self.interventions, seed)
        self._log: list[Applied] = []
        self._pending: list[tuple[int, str, int, Any, Any]] = []
        self._span: range = range(0)
        self._scope = contextlib.ExitStack()
        capabilities = None if world is None else world.capabilities
        for intervention in self.interventions:
            intervention.check(agent, capabilities)
            if world is not None:
                intervention.check_scenario(world.scenario)
            if n_steps is not None:
                intervention.check_length(n_steps, first_step)
        self._check_pairs()
        scenario = None if world is None else world.scenario
        self._waits = {i: _Waiting(each, scenario) for i, each in enumerate(self.interventions)
                       if each.schedule.waits and recorded is None}
        self._edited = tuple((i, glob, edit) for i, each in enumerate(self.interventions)
                             for glob, edit in each.edits())
        self._sites = frozenset(each.site for each in self.interventions)

    def _check_pairs(self) -> None:
        for one, other in itertools.combinations(self.interventions, 2):
            why = one.clashes(other) or other.clashes(one)
            if why and _may_meet(one, other):
                raise InterventionError(f"{one.called} and {other.called} cannot run together: {why}",
                                        hint="leave one out, or give them schedules that never meet")

    def __bool__(self) -> bool:
        return bool(self.interventions)

    def __enter__(self) -> InterventionStack:
        if self._edited:
            pairs = [(glob, self._hook(i, edit)) for i, glob, edit in self._edited]
            self._scope.enter_context(self._agent.hooks(pairs))
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._scope.close()

    # --- one step, in the order in which things happen -------------------------------------------------------------

    def active(self, index: int, step: int) -> bool:
        """Whether an intervention's schedule holds at a step."""
        if self._recorded is not None:
            return step in self._recorded.get(index, ())
        waiting = self._waits.get(index)
        schedule = self.interventions[index].schedule
        if waiting is None:
            return schedule.fits(step)
        return schedule.holds(step, waiting.happened, waiting.ever)

    def change_world(self, observation: Observation, step: int, info: Mapping[str, Any]) -> Observation:
        """Run the commands of the world's interventions; the picture is drawn again when any ran."""
        if "world" not in self._sites or self._world is None:
            return observation
        world, ran = self._world, False
        for i, each in self._at("world", step):
            commands = list(each.change_world(self._moment(i, step, info)))
            before = self._frozen() if commands else b""
            for command in commands:
                world.command(command)
            if commands:
                ran = True
                self._note(step, i, {"world": (before, self._frozen())}, {"commands": commands})
        return {**observation, "pov": world.render()} if ran else observation

    def change_input(self, observation: Observation, step: int, info: Mapping[str, Any]) -> Observation:
        """What the agent sees; the same object when nothing changed it."""
        if "input" not in self._sites:
            return observation
        pov = observation["pov"]
        for i, each in enumerate(self.interventions):
            if each.site != "input":
                continue
            moment = self._moment(i, step, info)
            each.watch_input(pov, moment)
            if self.active(i, step):
                changed = each.change_input(pov, moment)
                self._note(step, i, {"pov": (pov, changed)})
                pov = changed
        return observation if pov is observation["pov"] else {**observation, "pov": pov}

    def change_memory(self, state: AgentState, step: int, info: Mapping[str, Any]) -> AgentState:
        """What the agent remembers; the same object when nothing changed it."""
        if "memory" not in self._sites:
            return state
        for i, each in enumerate(self.interventions):
            if each.site != "memory":
                continue
            moment = self._moment(i, step, info)
            each.watch_memory(state, moment)
            if self.active(i, step):
                changed = each.change_memory(state, moment)
                if changed is not state:
                    self._note(step, i, {"memory": (self._agent.save_state(state), self._agent.save_state(changed))})
                state = changed
        return state

    def passes(self, steps: range, most: int) -> Iterator[range]:
        """Cut steps into forward passes of at most so many; ``change_memory`` is due before each of them."""
        return passes(self.interventions, steps, most)

    @contextlib.contextmanager
    def looking(self, steps: range) -> Iterator[None]:
        """Around the forward pass over some steps: tells the edits inside which ones."""
        self._span = steps
        try:
            yield
            self._collect()
        finally:
            self._span = range(0)
            self._pending.clear()

    def change_action(self, action: Action, step: int, info: Mapping[str, Any]) -> Action:
        """What the world executes; the same dict when nothing changed it."""
        if "action" not in self._sites:
            return action
        for i, each in self._at("action", step):
            changed = each.change_action(action, self._moment(i, step, info))
            self._note(step, i, {"action": (action, changed)})
            action = changed
        return action

    def begin(self, info: Mapping[str, Any] | None = None) -> None:
        """After the world's reset, or where a fork begins: what schedules wait for counts from here.

        Args:
            info: The world's, here; None where nothing has been counted yet.
        """
        for waiting in self._waits.values():
            assert self._world is not None
            waiting.begin(info["outcomes"] if info else {}, self._world)

    def played(self, step: int, info: Mapping[str, Any], executed: Action) -> None:
        """After the world's tick: tell the schedules that wait for something."""
        for waiting in self._waits.values():
            assert self._world is not None
            waiting.update(step, info, executed, self._world)

    def take_log(self) -> tuple[Applied, ...]:
        """What was applied since this was last asked, in order."""
        taken = tuple(self._log)
        self._log.clear()
        return taken

    # --- snapshots -------------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Notes and what the schedules have seen, for a snapshot: plain values and arrays, by place in the stack."""
        return {str(i): {"memo": dict(memo), **({"waits": self._waits[i].save()} if i in self._waits else {})}
                for i, memo in enumerate(self._memos) if memo or i in self._waits}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Go on from what ``save`` gave, for the same interventions; others may follow them, and begin anew.

        Raises:
            InterventionError: for what ``save`` has not given.
        """
        try:
            for key, entry in saved.items():
                i = range(len(self.interventions))[int(key)]
                self._memos[i] = dict(entry["memo"])
                if i in self._waits:
                    self._waits[i].load(entry["waits"])
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, ScenarioError) as problem:
            raise InterventionError(f"the notes of a snapshot are not those of these {len(self.interventions)} "
                                    f"interventions: {type(problem).__name__}: {problem}") from problem

    # --- inside ----------------------------------------------------------------------------------------------------

    def _at(self, site: str, step: int) -> Iterator[tuple[int, Intervention]]:
        return ((i, each) for i, each in enumerate(self.interventions) if each.site == site and self.active(i, step))

    def _moment(self, index: int, step: int, info: Mapping[str, Any]) -> Moment:
        world = self._world
        return Moment(step, self._rng(index, step), self._memos[index], self._agent, info,
                      None if world is None else world.world_state, None if world is None else world.capabilities,
                      self._history, None if world is None else world.picture_without)

    def _rng(self, index: int, step: int) -> np.random.Generator:
        # Counter-based: any step's noise can be drawn without drawing the steps before it.
        return np.random.Generator(np.random.Philox(key=self._keys[index], counter=[0, 0, 0, step]))

    def _hook(self, index: int, edit: Edit) -> Callable[[Any, Any], Any]:
        lasting = self.interventions[index].lasting

        def run(x: Any, point: Any) -> Any:
            steps = self._span
            active = tuple(self.active(index, step) for step in steps)
            if not any(active) and not lasting:
                return None
            span = Span(steps, active, lambda step: self._rng(index, step), self._memos[index])
            new = edit(x, point, span)
            if new is None or (new is x and not (lasting and any(active))):
                return None
            if not all(active) and not lasting:
                new = _only(new, x, point, active)
            self._pending.append((index, point.name, list(point.axes).index("t") if "t" in point.axes else -1, x, new))
            return new
        return run

    def _collect(self) -> None:
        """One line per step and intervention, with every hook that it changed in the pass."""
        for n, step in enumerate(self._span):
            parts: dict[int, dict[str, tuple[Any, Any]]] = {}
            for index, name, axis, before, after in self._pending:
                if self.active(index, step):
                    pair = (before, after) if axis < 0 else (before.select(axis, n), after.select(axis, n))
                    parts.setdefault(index, {})[name] = pair
            for index, changed in sorted(parts.items()):
                self._note(step, index, changed)

    def _note(self, step: int, index: int, parts: Mapping[str, tuple[Any, Any]],
              detail: Mapping[str, Any] | None = None) -> None:
        each = self.interventions[index]
        self._log.append(Applied(step, index, type(each).__name__, each.site, each.name, parts, detail or {}))

    def _frozen(self) -> Any:
        assert self._world is not None
        return self._world.snapshot() if self._world.capabilities.snapshots else self._world.render()


def passes(interventions: Sequence[Intervention], steps: range, most: int) -> Iterator[range]:
    """Cut steps into forward passes of at most ``most``, so that a pass begins wherever a memory may be changed."""
    start = steps.start
    while start < steps.stop:
        end = start + 1
        while end < min(steps.stop, start + most) and not any(each.apart(end) for each in interventions):
            end += 1
        yield range(start, end)
        start = end


def _only(new: Any, old: Any, point: Any, active: Sequence[bool]) -> Any:
    """``new`` at the active query positions, ``old`` elsewhere; an activation without them is the edit's own affair."""
    if "t" not in point.axes:
        return new
    axis = list(point.axes).index("t")
    mask = old.new_tensor([float(each) for each in active]).bool()
    return new.where(mask.view([-1 if i == axis else 1 for i in range(old.ndim)]), old)


def _noise_keys(interventions: Sequence[Intervention], seed: int) -> list[npt.NDArray[np.uint64]]:
    """A key for each one's noise: from the seed, what it is, and which of its equals, not from its place."""
    keys, seen = [], dict[str, int]()
    for each in interventions:
        text = json.dumps({k: v for k, v in each.describe().items() if k != "name"}, sort_keys=True, default=_listed)
        nth = seen.get(text, 0)
        seen[text] = nth + 1
        word = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        keys.append(np.asarray(np.random.SeedSequence([seed, word, nth]).generate_state(2, np.uint64), np.uint64))
    return keys


def _may_meet(one: Intervention, other: Intervention) -> bool:
    """Whether some step may have both; schedules that wait may hold at any."""
    a, b = one.schedule, other.schedule
    for first, second in ((a, b), (b, a)):
        if first.at is not None:
            return any(first.fits(step) and second.fits(step) for step in first.at)
    low = max(a.first, b.first)
    high = min(s.between[1] if s.between else low + 10_000 for s in (a, b))
    return any(a.fits(step) and b.fits(step) for step in range(low, high + 1))


class _Waiting:
    """What a schedule's ``when`` and ``since`` wait for."""

    def __init__(self, intervention: Intervention, scenario: Scenario | None) -> None:
        self.happened: set[str] = set()
        self.ever: set[str] = set()
        if scenario is None:
            raise InterventionError(f"{intervention.called} waits for something that happens in a world, and there "
                                    "is none here")
        schedule = intervention.schedule
        self._conditions = {key: value for key, value in (("when", schedule.when), ("since", schedule.since))
                            if value is not None}
        self._counts = dict.fromkeys(self._conditions, 0)
        self._tracker = _tracker(self._conditions, intervention.called)
        self._own = {key for key, value in self._conditions.items() if isinstance(value, Mapping)}

    def begin(self, outcomes: Mapping[str, Any], world: World) -> None:
        self._counts = {key: outcomes[value]["count"] if isinstance(value, str) and value in outcomes else 0
                        for key, value in self._conditions.items()}
        if self._own:
            state = world.world_state()
            self._tracker.start(state.statistics, state.player.position, state.player.yaw)

    def update(self, step: int, info: Mapping[str, Any], executed: Action, world: World) -> None:
        if self._own:
            state = world.world_state()
            self._tracker.update(step, state.statistics, state.events, state.looking_at, state.player.position,
                                 [button for button in BUTTONS if executed[button]], state.player.yaw)
        own = self._tracker.results()
        self.happened = set()
        for key, value in self._conditions.items():
            if isinstance(value, str) and value not in info["outcomes"]:
                rose = any(event.get("type") == value for event in info["events"])
            else:
                count = (own[key] if key in self._own else info["outcomes"][value])["count"]
                rose, self._counts[key] = count > self._counts[key], count
            if rose:
                self.happened.add(key)
        self.ever |= self.happened

    def save(self) -> dict[str, Any]:
        return {"happened": sorted(self.happened), "ever": sorted(self.ever), "counts": dict(self._counts),
                "tracker": self._tracker.save()}

    def load(self, saved: Mapping[str, Any]) -> None:
        self.happened, self.ever = set(saved["happened"]), set(saved["ever"])
        self._counts = {key: int(n) for key, n in saved["counts"].items()}
        self._tracker.load(saved["tracker"])


def _tracker(conditions: Mapping[str, Any], called: str) -> OutcomeTracker:
    """Counts the conditions that are outcomes of their own.

    Raises:
        InterventionError: for a mapping that is no outcome.
    """
    own = {}
    for key, value in conditions.items():
        if isinstance(value, str):
            continue
        try:
            own[key] = read_outcome(value)
        except ScenarioError as problem:
            raise InterventionError(f"{called}: {key}: {problem.message}", hint=problem.hint) from problem
    return OutcomeTracker(own)
