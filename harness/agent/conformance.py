"""What every agent must do, as checks that its author's own test calls.

    @pytest.mark.parametrize("check", conformance.CHECKS)
    def test_conformance(check):
        check(MyAgent)

Each check makes agents and shows them the same pictures of a world. It raises ``AssertionError`` with a sentence where
the contract is broken. ``harness check NAME`` runs them too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from harness.agent.agent import Agent, AgentOutput, AgentState
from harness.errors import HookError
from harness.world.action import KEYS, check_action
from harness.world.conformance import bench_world, some_actions
from harness.world.observation import Observation
from harness.world.world import World

__all__ = ["CHECKS", "check_actions", "check_agent", "check_hooks", "check_inputs", "check_memory", "check_seeds",
           "check_snapshots", "check_words"]

Make = Callable[[], Agent]
MakeWorld = Callable[[], World]
_STEPS = 11
"""A prime, so that what comes round every few steps does not come round with the episode."""


def check_agent(make: Make, make_world: MakeWorld = bench_world) -> None:
    """Every check, one after the other.

    Args:
        make: Builds a new agent each time it is called.
        make_world: Builds the world that it is shown; its scenario lasts at least 11 steps.
    """
    for check in CHECKS:
        check(make, make_world)


def _shown(agent: Agent, make_world: MakeWorld) -> list[Observation]:
    """What a world shows while somebody moves about in it at random."""
    with closing(make_world()) as world:
        observation, _ = world.reset(seed=3)
        shown = []
        for action in some_actions(_STEPS, seed=3):
            if agent.privileged:
                observation = {**observation, "world_state": world.world_state(blocks=True)}
            shown.append(observation)
            observation = world.step(action)[0]
        return shown


def _rng(seed: int = 5) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _said(output: AgentOutput) -> tuple[Any, ...]:
    """A decision, comparable to the bit."""
    return (repr(sorted(output.action.items())), output.log_prob, output.entropy, output.value,
            dict(output.tokens), {name: np.asarray(each).tobytes() for name, each in output.log_probs.items()})


def _acts(agent: Agent, shown: Sequence[Observation], state: AgentState, rng: np.random.Generator,
          hooks: Sequence[str] = ()) -> tuple[list[tuple[Any, ...]], list[AgentState]]:
    """Its decisions, and its memory before each of them and after the last."""
    said, states = [], [state]
    for observation in shown:
        output = agent.act(observation, states[-1], rng, hooks=hooks)
        said.append(_said(output))
        states.append(output.state)
    return said, states


def check_words(make: Make, make_world: MakeWorld = bench_world) -> None:
    """It is documented, says what it is in words, and where it comes from as JSON values."""
    agent = make()
    assert isinstance(agent, Agent), f"expected an Agent, got {agent!r}"
    assert (type(agent).__doc__ or "").strip(), "the class has no docstring"
    for key in ("name", "description"):
        value = getattr(agent, key)
        assert isinstance(value, str) and value.strip(), f"{key} is a line of text, got {value!r}"
    assert agent.name != Agent.name, f'name is still "{Agent.name}", the base class\'s'
    assert isinstance(agent.privileged, bool), f"privileged is true or false, got {agent.privileged!r}"
    assert isinstance(agent.torch_threads, int) and agent.torch_threads >= 0, "torch_threads is a count"
    said = agent.provenance()
    assert {"name", "description", "class"} <= said.keys(), "provenance tells name, description and class"
    try:
        json.dumps(said, allow_nan=False)
    except (TypeError, ValueError) as problem:
        raise AssertionError(f"provenance holds what is no JSON value: {problem}") from problem


def check_actions(make: Make, make_world: MakeWorld = bench_world) -> None:
    """Every action has MineRL's 24 keys, with values that the world takes."""
    agent, rng = make(), _rng()
    state = agent.initial_state()
    for step, observation in enumerate(_shown(agent, make_world)):
        output = agent.act(observation, state, rng)
        assert isinstance(output, AgentOutput), f"act returns an AgentOutput, got {output!r}"
        missing, more = set(KEYS) - set(output.action), set(output.action) - set(KEYS)
        assert not missing and not more, f"step {step}: the action lacks {sorted(missing)}, has also {sorted(more)}"
        full = check_action(output.action)
        camera = np.asarray(output.action["camera"])
        assert camera.tolist() == full["camera"].tolist(), f"step {step}: the camera {camera} lies beyond 180 degrees"
        state = output.state


def check_inputs(make: Make, make_world: MakeWorld = bench_world) -> None:
    """It writes neither into the observation nor into the memory that it is handed."""
    agent = make()
    shown, rng = _shown(agent, make_world), _rng()
    before = [(each["pov"].tobytes(), repr(each.get("world_state"))) for each in shown]
    state, streams, states, said = agent.initial_state(), [], [], []
    for step, observation in enumerate(shown):
        streams.append(rng.bit_generator.state)
        states.append(state)
        kept = {name: part.tobytes() for name, part in agent.save_state(state).items()}
        output = agent.act(observation, state, rng)
        assert (observation["pov"].tobytes(), repr(observation.get("world_state"))) == before[step], \
            f"step {step}: it wrote into the observation"
        assert {name: part.tobytes() for name, part in agent.save_state(state).items()} == kept, \
            f"step {step}: it wrote into the memory that it was handed"
        said.append(_said(output))
        state = output.state
    # A memory that was written into without showing it shows in what is decided from it a second time.
    for step in reversed(range(len(shown))):
        rng.bit_generator.state = streams[step]
        assert _said(agent.act(shown[step], states[step], rng)) == said[step], \
            f"step {step}: from the same memory and stream it decides otherwise the second time; act wrote into one"


def check_memory(make: Make, make_world: MakeWorld = bench_world) -> None:
    """All that it remembers is in the state: a second episode is as the first, and two at once do not meet."""
    agent = make()
    shown = _shown(agent, make_world)
    first, _ = _acts(agent, shown, agent.initial_state(), _rng())
    again, _ = _acts(agent, shown, agent.initial_state(), _rng())
    assert again == first, "the same episode differs the second time: something is remembered outside the state"
    one, other = agent.initial_state(), agent.initial_state()
    rng, rng_other, met = _rng(), _rng(6), []
    for observation, later in zip(shown, reversed(shown), strict=True):
        output = agent.act(observation, one, rng)
        met.append(_said(output))
        one = output.state
        other = agent.act(later, other, rng_other).state
    assert met == first, "an episode differs while another is played with the same agent"


def check_seeds(make: Make, make_world: MakeWorld = bench_world) -> None:
    """The same stream gives the same actions, in two agents: all its randomness comes from ``rng``."""
    one, two = make(), make()
    shown = _shown(one, make_world)
    rng, other = _rng(), _rng()
    first, _ = _acts(one, shown, one.initial_state(), rng)
    np.random.random(7)  # a draw from NumPy's global stream, which must not matter
    assert _acts(two, shown, two.initial_state(), other)[0] == first, "the same stream gives other actions"
    assert rng.bit_generator.state == other.bit_generator.state, "it drew more from its stream the second time"


def check_snapshots(make: Make, make_world: MakeWorld = bench_world) -> None:
    """``load_state(save_state(state))`` goes on as ``state`` does, in another agent too; the parts are plain arrays."""
    agent, other = make(), make()
    shown = _shown(agent, make_world)
    rng = _rng()
    said, states = _acts(agent, shown, agent.initial_state(), rng)
    for step in (0, _STEPS // 2):
        parts = agent.save_state(states[step])
        for name, part in parts.items():
            assert isinstance(name, str) and isinstance(part, np.ndarray) and part.dtype.kind in "biuf", \
                f"save_state: {name!r} is an array of numbers by its name, got {type(part).__name__}"
        copied = {name: part.copy() for name, part in parts.items()}
        stream = _rng()
        _acts(agent, shown[:step], agent.initial_state(), stream)
        assert _acts(other, shown[step:], other.load_state(copied), stream)[0] == said[step:], \
            f"from a memory saved at step {step} and loaded again it goes on otherwise"


def check_hooks(make: Make, make_world: MakeWorld = bench_world) -> None:
    """A hook that does not exist is refused; those that do are told with their shapes, and telling changes nothing."""
    agent = make()
    shown = _shown(agent, make_world)[:3]
    try:
        agent.resolve_hooks(["there.is.no.such.hook"])
    except HookError:
        pass
    else:
        raise AssertionError("resolve_hooks must refuse a name that matches nothing with a HookError")
    shapes = agent.hook_shapes()
    plain, _ = _acts(agent, shown, agent.initial_state(), _rng())
    names = list(shapes)[:4]
    assert agent.resolve_hooks(names) == names, "resolve_hooks gives the names of hook_shapes"
    traced, _ = _acts(agent, shown, agent.initial_state(), _rng(), names)
    assert traced == plain, "looking at hooks changed what it does"
    told = agent.act(shown[0], agent.initial_state(), _rng(), hooks=names).activations
    for name in names:
        assert name in told, f"act does not return the activation {name}"
        value = np.asarray(told[name])
        assert (value.shape, str(value.dtype)) == (tuple(shapes[name][0]), shapes[name][1]), \
            f"{name} is {value.dtype} {list(value.shape)}, hook_shapes says {shapes[name][1]} {list(shapes[name][0])}"


CHECKS: tuple[Callable[..., None], ...] = (
    check_words, check_actions, check_inputs, check_memory, check_seeds, check_snapshots, check_hooks,
)
"""The checks, for ``pytest.mark.parametrize``."""
