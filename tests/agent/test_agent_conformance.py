"""Every agent that comes with the package keeps the laws of agents, and each law finds who breaks it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from harness.agent import conformance
from harness.agent.agent import Agent, AgentOutput
from harness.agent.load import load_agent
from harness.agent.scripted import ReplayAgent
from harness.errors import HookError
from harness.registry import TABLES, load_object
from harness.scenario.load import load_scenario
from harness.world.action import noop_action
from harness.world.world import World, make_world

VILLAGER = load_scenario("villager")
NETWORKS = {"vpt": lambda: load_agent("untrained"), "steve": lambda: load_agent("steve-nano")}
GIVEN: dict[str, dict[str, Any]] = {"replay": {"actions": [{"forward": 1, "camera": [3, 0]}] * 4, "after": "noop"}}
SCRIPTED = sorted(TABLES["harness.agents"].keys() - NETWORKS.keys())


def small() -> World:
    return make_world(VILLAGER, size=(64, 36))


@pytest.mark.parametrize("kind", SCRIPTED)
def test_scripted_agents_keep_the_laws(kind: str) -> None:
    conformance.check_agent(lambda: load_object(TABLES["harness.agents"][kind])(**GIVEN.get(kind, {})), small)


@pytest.mark.parametrize("kind", ["vpt", pytest.param("steve", marks=pytest.mark.slow)])
def test_agents_with_a_network_keep_the_laws(kind: str) -> None:
    conformance.check_agent(NETWORKS[kind], small)


def test_a_list_that_ends_is_found() -> None:
    with pytest.raises(Exception, match="the list holds 1 actions"):
        conformance.check_actions(lambda: ReplayAgent(actions=[{"use": 1}]), small)


# ---- one who breaks each law


class Walker(Agent):
    """Presses forward in every third step, and turns at random; it keeps every law."""

    name = "walker"
    description = "walks by threes"

    def initial_state(self) -> Any:
        return {"n": np.array(0)}

    def act(self, observation: Mapping[str, Any], state: Any, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        self.resolve_hooks(hooks)
        n = int(state["n"])
        action = {**noop_action(), "forward": int(n % 3 == 0),
                  "camera": rng.uniform(-1, 1, 2).astype(np.float32)}
        return AgentOutput(action, {"n": np.array(n + 1)})

    def save_state(self, state: Any) -> dict[str, Any]:
        return dict(state)

    def load_state(self, arrays: Mapping[str, Any]) -> Any:
        return dict(arrays)


class Wordless(Walker):
    """It does not say what it is."""

    description = ""


class Unwritable(Walker):
    """Its provenance is no JSON."""

    def provenance(self) -> dict[str, Any]:
        return {**super().provenance(), "speed": np.float32(3)}


class Undocumented(Walker):
    pass


class Flyer(Walker):
    """It presses a key that there is not."""

    def act(self, *given: Any, **more: Any) -> AgentOutput:
        output = super().act(*given, **more)
        return AgentOutput({**output.action, "fly": 1}, output.state)


class Lazy(Walker):
    """It leaves keys out."""

    def act(self, *given: Any, **more: Any) -> AgentOutput:
        output = super().act(*given, **more)
        return AgentOutput({"forward": output.action["forward"]}, output.state)


class Painter(Walker):
    """It writes into the picture."""

    def act(self, observation: Mapping[str, Any], *given: Any, **more: Any) -> AgentOutput:
        observation["pov"][0, 0] ^= 1
        return super().act(observation, *given, **more)


class Overwriter(Walker):
    """It counts in the memory that it was handed."""

    def act(self, observation: Mapping[str, Any], state: Any, *given: Any, **more: Any) -> AgentOutput:
        output = super().act(observation, state, *given, **more)
        state["n"] += 1
        return AgentOutput(output.action, state)


class SecretOverwriter(Overwriter):
    """The same, and the snapshot does not show it."""

    def save_state(self, state: Any) -> dict[str, Any]:
        return {}


class Counter(Walker):
    """It remembers on itself."""

    count = 0

    def act(self, observation: Mapping[str, Any], state: Any, *given: Any, **more: Any) -> AgentOutput:
        self.count += 1
        return super().act(observation, {"n": np.array(self.count)}, *given, **more)


class Shared(Walker):
    """It forgets what it kept on itself when an episode begins, so that only a second one at the same time shows it."""

    def initial_state(self) -> Any:
        self.count = 0
        return super().initial_state()

    def act(self, observation: Mapping[str, Any], state: Any, *given: Any, **more: Any) -> AgentOutput:
        self.count = self.count + 1 if int(state["n"]) else 0
        return super().act(observation, {"n": np.array(self.count)}, *given, **more)


class Gambler(Walker):
    """It draws from the global stream."""

    def act(self, observation: Mapping[str, Any], state: Any, *given: Any, **more: Any) -> AgentOutput:
        output = super().act(observation, state, *given, **more)
        return AgentOutput({**output.action, "jump": random.randrange(2), "use": int(np.random.random() < 0.5)},
                           output.state)


class Forgetful(Walker):
    """Its snapshots hold nothing."""

    def save_state(self, state: Any) -> dict[str, Any]:
        return {}

    def load_state(self, arrays: Mapping[str, Any]) -> Any:
        return self.initial_state()


class Wrapper(Walker):
    """Its snapshots hold what is no array of numbers."""

    def save_state(self, state: Any) -> dict[str, Any]:
        return {"n": np.array([state], dtype=object)}

    def load_state(self, arrays: Mapping[str, Any]) -> Any:
        return arrays["n"][0]


class Deaf(Walker):
    """It takes any hook."""

    def resolve_hooks(self, globs: Sequence[str]) -> list[str]:
        return list(globs)


class Boaster(Walker):
    """It tells another shape than it gives."""

    def hook_shapes(self) -> dict[str, Any]:
        return {"blocks.0.hook_out": ((3,), "float32")}

    def resolve_hooks(self, globs: Sequence[str]) -> list[str]:
        if any(glob not in self.hook_shapes() for glob in globs):
            raise HookError("there is none of that name")
        return list(globs)

    def act(self, observation: Mapping[str, Any], state: Any, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        output = super().act(observation, state, rng)
        return AgentOutput(output.action, output.state, activations={hook: np.zeros(4, np.float32) for hook in hooks})


class Restless(Boaster):
    """Looking at it changes what it does."""

    def act(self, observation: Mapping[str, Any], state: Any, rng: np.random.Generator, *,
            hooks: Sequence[str] = ()) -> AgentOutput:
        rng.random(len(hooks))
        output = super().act(observation, state, rng)
        return AgentOutput(output.action, output.state, activations={hook: np.zeros(3, np.float32) for hook in hooks})


def test_one_that_keeps_them() -> None:
    conformance.check_agent(Walker, small)


@pytest.mark.parametrize(("broken", "check", "words"), [
    (dict, conformance.check_words, "expected an Agent"),
    (Wordless, conformance.check_words, "description is a line of text"),
    (Unwritable, conformance.check_words, "provenance holds what is no JSON value"),
    (Undocumented, conformance.check_words, "no docstring"),
    (Flyer, conformance.check_actions, r"has also \['fly'\]"),
    (Lazy, conformance.check_actions, "the action lacks .*'camera'"),
    (Painter, conformance.check_inputs, "wrote into the observation"),
    (Overwriter, conformance.check_inputs, "wrote into the memory"),
    (SecretOverwriter, conformance.check_inputs, "decides otherwise the second time"),
    (Counter, conformance.check_memory, "remembered outside the state"),
    (Shared, conformance.check_memory, "while another is played"),
    (Gambler, conformance.check_seeds, "gives other actions"),
    (Forgetful, conformance.check_snapshots, "goes on otherwise"),
    (Wrapper, conformance.check_snapshots, "an array of numbers"),
    (Deaf, conformance.check_hooks, "must refuse a name"),
    (Boaster, conformance.check_hooks, r"is float32 \[4\], hook_shapes says float32 \[3\]"),
    (Restless, conformance.check_hooks, "looking at hooks changed"),
], ids=lambda each: getattr(each, "__name__", None))
def test_each_law_finds_who_breaks_it(broken: type[Agent], check: Callable[..., None], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check(broken, small)
