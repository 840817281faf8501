"""What every intervention must do, as checks that its author's own test calls.

    @pytest.mark.parametrize("check", conformance.CHECKS)
    def test_conformance(check):
        check(lambda: MyEdit(strength=2), conformance.Bench())

Each check plays a few steps with and without the intervention. It raises ``AssertionError`` with a sentence where the
contract is broken. ``harness check NAME`` runs them too.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np

from harness.agent.agent import Agent, AgentOutput, AgentState
from harness.agent.scripted import RandomAgent
from harness.errors import HarnessError, WorldError
from harness.intervention.build import build_as
from harness.intervention.intervention import Intervention, Site
from harness.intervention.schedule import Schedule
from harness.intervention.stack import Applied, InterventionStack, digest_of
from harness.world.action import KEYS, Action, check_action
from harness.world.conformance import bench_world
from harness.world.observation import Observation
from harness.world.world import World

__all__ = ["CHECKS", "Bench", "check_applies", "check_class", "check_control", "check_description", "check_inputs",
           "check_intervention", "check_leaving", "check_notes", "check_results", "check_schedule", "check_seeds"]

Make = Callable[[], Intervention]
_SEED = 5
_METHODS = {"world": "change_world", "input": "change_input", "memory": "change_memory", "action": "change_action"}
"""Site to the only method of these that is called there; ``edits`` is asked at every site."""


@dataclass(frozen=True)
class Bench:
    """What an intervention is tried on.

    Attributes:
        agent: Who plays. One on the memory or inside the network needs an agent with a network, such as
            ``load_agent("vpt-nano")``.
        make_world: Builds the world; what the intervention names (a creature's tag, a block) must be in it.
        n_steps: How many steps are played each time; at least 5, and best a prime, so that what comes round every few
            steps does not come round with the episode.
    """

    agent: Agent = field(default_factory=RandomAgent)
    make_world: Callable[[], World] = bench_world
    n_steps: int = 7


def check_intervention(make: Make, bench: Bench) -> None:
    """Every check, one after the other.

    Args:
        make: Builds an equal intervention each time it is called.
        bench: What it is tried on.
    """
    for check in CHECKS:
        check(make, bench)


# ---- a few steps, as run_episode plays them


@dataclass(frozen=True)
class _Row:
    """One step: what went through it, as comparable values; what was applied, written into, and returned wrongly."""

    passed: tuple[str, ...]
    applied: tuple[Applied, ...]
    wrote: tuple[str, ...]
    wrong: tuple[str, ...]


class _Player:
    """Plays with a stack, and holds everything that was handed to the interventions against a copy."""

    def __init__(self, made: Sequence[Intervention], bench: Bench, world: World) -> None:
        self.agent, self.world, self._wrote, self._wrong = bench.agent, world, list[str](), list[str]()
        self.stack = InterventionStack(made, agent=bench.agent, world=world, seed=_SEED)
        self._globs = [glob for each in made for glob, _ in each.edits()]
        self._handed: list[tuple[str, Any, str]] = []

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """With the stack's edits inside the policy, and a look at each activation before them."""
        spies = [(glob, self._keep) for glob in self._globs]
        with self.agent.hooks(spies) if spies else contextlib.nullcontext(), self.stack:
            yield

    def _keep(self, x: Any, point: Any) -> None:
        self._handed.append((point.name, x, digest_of(x)))

    @contextlib.contextmanager
    def _kept(self, what: str, look: Callable[[], Any]) -> Iterator[None]:
        before = look()
        yield
        if look() != before:
            self._wrote.append(what)

    def step(self, number: int, observation: Observation, state: AgentState, info: dict[str, Any],
             rng: np.random.Generator) -> tuple[_Row, Observation, AgentState, dict[str, Any]]:
        """One step, in the order of ``run_episode``."""
        stack, agent, world = self.stack, self.agent, self.world
        with self._kept("the world's info", lambda: repr(info)):
            observation = stack.change_world(observation, number, info)
            with self._kept("the picture that it was handed", observation["pov"].tobytes):
                seen = stack.change_input(observation, number, info)
            seen = self._picture(observation, seen)
            shown = {**seen, "world_state": world.world_state(blocks=True)} if agent.privileged else seen
            with self._kept("the memory that it was handed", lambda: digest_of(agent.save_state(state))):
                remembered = stack.change_memory(state, number, info)
            self._handed.clear()
            with stack.looking(range(number, number + 1)):
                output = agent.act(shown, remembered, rng)
            self._wrote += [f"the activation {name} that it was handed" for name, x, before in self._handed
                            if digest_of(x) != before]
            with self._kept("the action that it was handed", lambda: _words(output.action)):
                executed = stack.change_action(output.action, number, info)
        executed = self._action(output.action, executed)
        following, _, _, _, told = world.step(executed)
        stack.played(number, told, executed)
        passed = (digest_of(seen["pov"]), digest_of(agent.save_state(output.state)), *_decided(output),
                  _words(executed), repr(told))
        row = _Row(passed, stack.take_log(), tuple(self._wrote), tuple(self._wrong))
        self._wrote.clear()
        self._wrong.clear()
        return row, following, output.state, told

    def _picture(self, given: Observation, seen: Observation) -> Observation:
        """What the agent sees; where that is no picture, what it would have seen."""
        old, new = given["pov"], seen["pov"]
        if not isinstance(new, np.ndarray) or (new.dtype, new.shape) != (old.dtype, old.shape):
            self._wrong.append(f"the picture is {_shape(new)}, expected {_shape(old)}")
            return given
        if new is not old and np.shares_memory(new, old):
            self._wrong.append("the new picture is a view of the old one; return a copy")
        return seen

    def _action(self, chosen: Action, executed: Action) -> Action:
        """What the world is told; where that is no action, what was chosen."""
        try:
            check_action(executed)
        except WorldError as problem:
            self._wrong.append(f"the action is none: {problem.message}")
            return chosen
        if set(executed) != set(KEYS):
            self._wrong.append(f"the action lacks {', '.join(sorted(set(KEYS) - set(executed)))}")
        return executed


def _words(action: Any) -> str:
    return repr(sorted(action.items()))


def _decided(output: AgentOutput) -> tuple[str, str]:
    return _words(output.action), digest_of(output.log_probs)


def _play(made: Sequence[Intervention], bench: Bench, *, pause: int | None = None) -> list[_Row]:
    """Some steps of an episode; at ``pause`` the interventions are built anew, and go on from the stack's notes."""
    rows: list[_Row] = []
    rng, state = np.random.Generator(np.random.PCG64(_SEED)), bench.agent.initial_state()
    with contextlib.closing(bench.make_world()) as world:
        observation, info = world.reset(seed=_SEED)
        notes: dict[str, Any] = {}
        for steps in (range(pause or bench.n_steps), range(pause or bench.n_steps, bench.n_steps)):
            player = _Player(made, bench, world)
            with player.entered():
                player.stack.begin(info)
                player.stack.load(notes)
                for number in steps:
                    row, observation, state, info = player.step(number, observation, state, info, rng)
                    rows.append(row)
                notes = copy.deepcopy(player.stack.save())
            made = [_again(each) for each in made]
    return rows


def _again(made: Intervention) -> Intervention:
    return build_as(type(made), made.describe())


def _passed(rows: Sequence[_Row]) -> list[tuple[str, ...]]:
    return [row.passed for row in rows]


# ---- the checks


def check_class(make: Make, bench: Bench) -> None:
    """A documented frozen dataclass of one site, that overrides what is called there and nothing else."""
    made = make()
    assert isinstance(made, Intervention), f"expected an Intervention, got {made!r}"
    cls = type(made)
    assert "__dataclass_fields__" in vars(cls) and vars(cls)["__dataclass_params__"].frozen, \
        "the class is no frozen dataclass: put @dataclass(frozen=True) above it"
    # A dataclass without a docstring gets its signature for one.
    assert cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}("), "the class has no docstring"
    site = str(getattr(cls, "site", None))
    assert site in get_args(Site), f"site is one of {', '.join(get_args(Site))}, got {site}"
    own = {name for name in (*_METHODS.values(), "edits") if getattr(cls, name) is not getattr(Intervention, name)}
    useless = own - {_METHODS.get(site), "edits"}
    assert not useless, f"{', '.join(sorted(useless))} is never called at the site {site}"
    assert own, f"it overrides neither {_METHODS.get(site, 'edits')} nor edits, so it does nothing"


def check_description(make: Make, bench: Bench) -> None:
    """``describe()`` is JSON, and ``build_intervention`` makes an equal value from it, with the schedule and name."""
    for made in (make(), replace(make(), name="a-name", schedule=Schedule(between=(2, 9999), every=1))):
        said = made.describe()
        try:
            read = json.loads(json.dumps(said, allow_nan=False))
        except (TypeError, ValueError) as problem:
            raise AssertionError(f"describe() holds what is no JSON value: {problem}") from problem
        assert read.get("kind") == type(made).__name__, f"kind is the class's name, got {read.get('kind')!r}"
        assert read.get("site") == made.site, f"site is {made.site}, got {read.get('site')!r}"
        again = build_as(type(made), read)
        assert again == made and again.describe() == said, f"built from its description it differs: {again!r}, {made!r}"
    assert make() == make(), "two that are built alike are not equal"


def check_applies(make: Make, bench: Bench) -> None:
    """On this bench it applies at least once; else the other checks would say nothing."""
    assert any(row.applied for row in _play([make()], bench)), \
        f"it applied in none of {bench.n_steps} steps: give it fields or a schedule with which it has something to do"


def check_inputs(make: Make, bench: Bench) -> None:
    """It writes into nothing that it is handed: picture, memory, activation, action, info."""
    for step, row in enumerate(_play([make()], bench)):
        assert not row.wrote, f"step {step}: it wrote into {', '.join(row.wrote)}; return a changed copy"


def check_results(make: Make, bench: Bench) -> None:
    """A changed picture has the size and type of the old one and is a copy; a changed action is a complete action."""
    for step, row in enumerate(_play([make()], bench)):
        assert not row.wrong, f"step {step}: {'; '.join(row.wrong)}"


def _shape(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def check_seeds(make: Make, bench: Bench) -> None:
    """The same seed gives the same episode, with one value twice and with two: all chance comes from ``moment.rng``."""
    made = make()
    first = _passed(_play([made], bench))
    np.random.random(7)  # a draw from NumPy's global stream, which must not matter
    assert _passed(_play([made], bench)) == first, "the same value gives another episode the second time"
    assert _passed(_play([make()], bench)) == first, "an equal value gives another episode"


def check_notes(make: Make, bench: Bench) -> None:
    """All that it remembers is in the memo: built anew in mid-episode it goes on as it would have."""
    whole, broken = _play([make()], bench), _play([make()], bench, pause=bench.n_steps // 2)
    assert _passed(broken) == _passed(whole), \
        f"built anew at step {bench.n_steps // 2} with its notes, it goes on otherwise: keep what you remember in " \
        "moment.memo"


def check_schedule(make: Make, bench: Bench) -> None:
    """Before its first step, and where its schedule never holds, the episode is as without it."""
    without = _passed(_play([], bench))
    late = _play([replace(make(), schedule=Schedule(between=(3, 9999)))], bench)
    assert _passed(late[:3]) == without[:3], "with a schedule from step 3 on, an earlier step differs"
    never = _play([replace(make(), schedule=Schedule(between=(1000, 1999)))], bench)
    assert _passed(never) == without, "with a schedule from step 1000 on, the first steps differ"


def check_leaving(make: Make, bench: Bench) -> None:
    """When the stack is left, in order or by an error, the agent is as it was."""
    before = _alone(bench)
    _play([make()], bench)
    assert _alone(bench) == before, "the agent acts otherwise after the stack was left"
    with contextlib.closing(bench.make_world()) as world:
        observation, info = world.reset(seed=_SEED)
        with contextlib.suppress(_Left):
            player = _Player([make()], bench, world)
            with player.entered():
                player.stack.begin(info)
                player.step(0, observation, bench.agent.initial_state(), info, np.random.default_rng(_SEED))
                raise _Left
    assert _alone(bench) == before, "the agent acts otherwise after the stack was left by an error"


class _Left(Exception):
    """Leaves a stack in the middle."""


def _alone(bench: Bench) -> list[Any]:
    """What the agent does without any intervention, and what it says of itself."""
    return [repr(bench.agent.provenance()), *_passed(_play([], bench))]


def check_control(make: Make, bench: Bench) -> None:
    """``control`` is None, or another value of the same site and schedule that fits the agent, the same for a seed."""
    made = make()
    for seed in (0, 1):
        control = made.control(seed, bench.agent)
        if control is None:
            continue
        assert isinstance(control, Intervention), f"control returns an Intervention or None, got {control!r}"
        assert (control.site, control.schedule) == (made.site, made.schedule), "a control keeps site and schedule"
        assert control == made.control(seed, bench.agent), "the same seed gives another control"
        assert control != made, "the control is the intervention itself"
        try:
            control.check(bench.agent)
            assert _again(control) == control, "a control is built again from its description"
        except HarnessError as problem:
            raise AssertionError(f"the control of seed {seed} does not fit: {problem.message}") from problem


CHECKS: tuple[Callable[[Make, Bench], None], ...] = (
    check_class, check_description, check_applies, check_inputs, check_results, check_seeds, check_notes,
    check_schedule, check_leaving, check_control,
)
"""The checks, for ``pytest.mark.parametrize``."""
