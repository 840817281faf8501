"""Every intervention that comes with the package keeps the laws of interventions; each law finds who breaks it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from fakes import FakeAgent
from tiny import WIDTH, tiny_agent

from harness.agent.agent import Agent
from harness.agent.sae import Sae, save_sae
from harness.intervention import conformance
from harness.intervention.build import build_intervention
from harness.intervention.conformance import Bench
from harness.intervention.intervention import Intervention, Moment, Site, Span
from harness.registry import TABLES
from harness.scenario.load import load_scenario
from harness.world.action import Action
from harness.world.world import World, make_world

VILLAGER = load_scenario("villager", parameters={"trees": 0})
HEADS, STREAM = "blocks.0.attn.hook_z", "blocks.1.hook_resid_post"
ONES = [1.0] * WIDTH


def small() -> World:
    return make_world(VILLAGER, size=(64, 36))


def sae_folder() -> str:
    """An SAE of the stream, with random directions."""
    g = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(32, WIDTH, generator=g))
    sae = Sae("topk", directions.T.contiguous(), torch.zeros(32), directions, torch.zeros(WIDTH), k=4)
    return str(save_sae(sae, tempfile.mkdtemp(prefix="sae-")))


SPECS: list[dict[str, Any]] = [
    {"kind": "ActionDelay", "steps": 2},
    {"kind": "ActionNoise", "flip": 0.2, "camera": 3},
    {"kind": "ActionOverride", "keys": {"attack": 0}},
    {"kind": "ActionSequence", "actions": [{"forward": 1}, {"attack": 1}]},
    {"kind": "ActivationPatch", "hook": STREAM, "values": ONES},
    {"kind": "AttentionEdit", "hook": "blocks.0.attn.hook_attn_scores", "ages": [1]},
    {"kind": "BlockEdit", "block": "stone", "cell": [0, 100, 3]},
    {"kind": "BlockFill", "block": "stone", "from": [-1, 100, 3], "to": [1, 101, 3]},
    {"kind": "Command", "text": "/time add 5", "every": 1},
    {"kind": "EntitySwap", "target": "target", "creature": "cow"},
    {"kind": "FramePatch", "age": 2},
    {"kind": "Give", "item": "stick", "slot": 0},
    {"kind": "HueShift", "degrees": 90},
    {"kind": "Inpaint", "region": {"object": "leaves"}},
    {"kind": "KeyBlock", "keys": ["attack", "camera"]},
    {"kind": "LinearErasure", "hook": STREAM, "read": [ONES], "write": [ONES], "mean": [0.5] * WIDTH},
    {"kind": "MeanAblation", "hook": STREAM, "values": ONES},
    {"kind": "MemoryFreeze"},
    {"kind": "MemoryKnockout", "ages": [1]},
    {"kind": "MemoryKnockout", "ages": [1], "mode": "write"},
    {"kind": "MemoryKnockout", "steps": [1], "mode": "full", "at": 3},
    {"kind": "MemoryReset", "every": 2},
    {"kind": "MemoryWindow", "last": 2},
    {"kind": "NoiseAblation", "hook": STREAM, "scale": 1.0},
    {"kind": "Paste", "picture": [[[255, 0, 0]]]},
    {"kind": "PixelBlur", "sigma": 2},
    {"kind": "PixelMask", "x0": 0, "y0": 0, "x1": 20, "y1": 20},
    {"kind": "PixelNoise", "std": 20},
    {"kind": "ProjectOut", "hook": STREAM, "direction": ONES},
    {"kind": "Recolour", "colour": "#ff0000", "region": {"object": "target", "part": "robe"}},
    {"kind": "RemoveBlocks", "blocks": "leaves"},
    {"kind": "RandomShift", "hook": STREAM, "like": {"kind": "ZeroAblation", "hook": STREAM}},
    {"kind": "ResampleAblation", "hook": STREAM, "values": [ONES, [0.0] * WIDTH]},
    {"kind": "Robe", "type": "desert"},
    {"kind": "SaeSplice", "hook": STREAM, "sae": sae_folder(), "latents": [3], "strength": 20.0},
    {"kind": "Steering", "hook": STREAM, "direction": ONES, "strength": 2},
    {"kind": "Teleport", "position": [0.5, 100, -2.5]},
    {"kind": "TimeOfDay", "time": "midnight"},
    {"kind": "Weather", "weather": "rain"},
    {"kind": "ZeroAblation", "hook": HEADS, "head": 1},
]


def bench_for(made: Intervention) -> Bench:
    if isinstance(made, Eraser):  # the fake's memory is an array, so that it can be written into
        return Bench(FakeAgent(), small, 5)
    return Bench(tiny_agent(), small, 5) if made.site in ("memory", "feature") else Bench(make_world=small, n_steps=5)


def test_every_kind_is_tried() -> None:
    # A memory to swap in is an agent's own: test_memory_site makes one.
    assert {spec["kind"] for spec in SPECS} == TABLES["harness.interventions"].keys() - {"MemorySwap"}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: "-".join(map(str, (spec["kind"], spec.get("mode", "")))))
def test_what_comes_with_the_package_keeps_the_laws(spec: dict[str, Any]) -> None:
    conformance.check_intervention(lambda: build_intervention(spec), bench_for(build_intervention(spec)))


def test_a_memory_swap_keeps_the_laws() -> None:
    agent, rng = tiny_agent(), np.random.default_rng(0)
    state = agent.initial_state()
    for level in (10, 200):
        state = agent.act({"pov": np.full((36, 64, 3), level, np.uint8)}, state, rng).state
    spec = {"kind": "MemorySwap", "memory": agent.save_state(state), "at": 2}
    conformance.check_intervention(lambda: build_intervention(spec), Bench(agent, small, 5))


# ---- one that breaks each law


@dataclass(frozen=True)
class Dim(Intervention):
    """Halve the picture's brightness; it keeps every law."""

    by: int = 2
    site: ClassVar[Site] = "input"

    def change_input(self, pov: Any, moment: Moment) -> Any:
        return pov // self.by


@dataclass(frozen=True)
class Jump(Intervention):
    """Press jump; it keeps every law."""

    site: ClassVar[Site] = "action"

    def change_action(self, action: Action, moment: Moment) -> Action:
        return {**action, "jump": 1}


@dataclass(frozen=True)
class Undocumented(Dim):
    __doc__ = None


class Bare(Dim):
    """No dataclass of its own."""

    level: int = 3


@dataclass(frozen=True)
class Misplaced(Dim):
    """It changes the action, at a site where nobody asks it to."""

    def change_action(self, action: Action, moment: Moment) -> Action:
        return action


@dataclass(frozen=True)
class Idle(Intervention):
    """It overrides nothing."""

    site: ClassVar[Site] = "input"


@dataclass(frozen=True)
class Nowhere(Dim):
    """Its site is none."""

    site: ClassVar[Site] = "sound"  # type: ignore[assignment]


@dataclass(frozen=True)
class Unwritable(Dim):
    """A field is no JSON value."""

    mask: Any = field(default_factory=lambda: frozenset({1}))


@dataclass(frozen=True)
class Forgetful(Dim):
    """Its description leaves a field out."""

    by: int = 3

    def describe(self) -> dict[str, Any]:
        return {key: value for key, value in super().describe().items() if key != "by"} | ({"by": 2})


@dataclass(frozen=True)
class Sleeper(Dim):
    """It never sees a reason to act."""

    site: ClassVar[Site] = "world"

    def change_input(self, pov: Any, moment: Moment) -> Any:
        return pov

    def change_world(self, moment: Moment) -> Sequence[str]:
        return ()


@dataclass(frozen=True)
class Scribbler(Dim):
    """It writes into the picture."""

    def change_input(self, pov: Any, moment: Moment) -> Any:
        pov[:4] = 0
        return pov


@dataclass(frozen=True)
class WatchingScribbler(Dim):
    """It writes where it should only watch."""

    def watch_input(self, pov: Any, moment: Moment) -> None:
        pov[:4] = 0


@dataclass(frozen=True)
class Presser(Jump):
    """It writes into the action."""

    def change_action(self, action: Action, moment: Moment) -> Action:
        action["jump"] = 1 - action["jump"]
        return action


@dataclass(frozen=True)
class Stuffer(Dim):
    """It writes into the world's info."""

    def change_input(self, pov: Any, moment: Moment) -> Any:
        moment.info["seen"] = True  # type: ignore[index]
        return pov // 2


@dataclass(frozen=True)
class InPlace(Intervention):
    """It writes into an activation."""

    site: ClassVar[Site] = "feature"

    def edits(self) -> Sequence[tuple[str, Any]]:
        return [(STREAM, self.change)]

    def change(self, x: Any, point: Any, span: Span) -> Any:
        return x.mul_(0.5)


@dataclass(frozen=True)
class Eraser(Intervention):
    """It writes into the memory."""

    site: ClassVar[Site] = "memory"

    def change_memory(self, state: Any, moment: Moment) -> Any:
        state *= 0
        return state


@dataclass(frozen=True)
class View(Dim):
    """It returns a view."""

    def change_input(self, pov: Any, moment: Moment) -> Any:
        return pov[:, ::-1]


@dataclass(frozen=True)
class Floating(Dim):
    """It returns a picture of floats."""

    def change_input(self, pov: Any, moment: Moment) -> Any:
        return pov / 2


@dataclass(frozen=True)
class Twice(Jump):
    """It presses a key twice as much."""

    def change_action(self, action: Action, moment: Moment) -> Action:
        return {**action, "jump": 2}


@dataclass(frozen=True)
class Only(Jump):
    """It leaves keys out."""

    def change_action(self, action: Action, moment: Moment) -> Action:
        return {"jump": 1}


@dataclass(frozen=True)
class Gambler(Dim):
    """It draws from the global stream."""

    def change_input(self, pov: Any, moment: Moment) -> Any:
        return np.random.randint(0, 256, pov.shape, np.uint8)


@dataclass(frozen=True)
class Counter(Dim):
    """It remembers on itself."""

    def change_input(self, pov: Any, moment: Moment) -> Any:
        object.__setattr__(self, "count", getattr(self, "count", 0) + 1)
        return pov // (1 + getattr(self, "count"))  # noqa: B009


@dataclass(frozen=True)
class Diary(Dim):
    """It remembers on itself, and begins anew with each episode."""

    def change_input(self, pov: Any, moment: Moment) -> Any:
        count = getattr(self, "count", 0) + 1 if moment.step else 0
        object.__setattr__(self, "count", count)
        return pov // (1 + count)


@dataclass(frozen=True)
class Insistent(InPlace):
    """It acts in steps that its schedule leaves out."""

    @property
    def lasting(self) -> bool:
        return True

    def change(self, x: Any, point: Any, span: Span) -> Any:
        return x * 0.5


@dataclass(frozen=True)
class Sticky(Dim):
    """It leaves something on the agent."""

    def change_input(self, pov: Any, moment: Moment) -> Any:
        moment.agent.description = "dimmed"
        return pov // 2


@dataclass(frozen=True)
class SelfControlled(Dim):
    """It is its own control."""

    def control(self, seed: int, agent: Agent) -> Intervention:
        return self


@dataclass(frozen=True)
class OtherSite(Dim):
    """Its control is of another site."""

    def control(self, seed: int, agent: Agent) -> Intervention:
        return Jump()


@dataclass(frozen=True)
class Fickle(Dim):
    """Its control is another one each time."""

    def control(self, seed: int, agent: Agent) -> Intervention:
        return Fickle(by=int(np.random.randint(3, 1 << 30)))


@dataclass(frozen=True)
class Unfit(Dim):
    """Its control does not fit the agent."""

    def control(self, seed: int, agent: Agent) -> Intervention:
        return Unfit(by=99)

    def check(self, agent: Agent, capabilities: Any = None) -> None:
        if self.by == 99:
            agent.resolve_hooks(["no.such.hook"])


@pytest.mark.parametrize("made", [Dim, Jump])
def test_those_that_keep_them(made: Callable[[], Intervention]) -> None:
    conformance.check_intervention(made, bench_for(made()))


BROKEN: Mapping[Callable[[], Intervention], tuple[Callable[..., None], str]] = {
    Undocumented: (conformance.check_class, "no docstring"),
    Bare: (conformance.check_class, "no frozen dataclass"),
    Misplaced: (conformance.check_class, "change_action is never called at the site input"),
    Idle: (conformance.check_class, "overrides neither change_input nor edits"),
    Nowhere: (conformance.check_class, "site is one of world, input, feature, memory, action, got sound"),
    Unwritable: (conformance.check_description, "no JSON value"),
    Forgetful: (conformance.check_description, "built from its description it differs"),
    Sleeper: (conformance.check_applies, "applied in none of 5 steps"),
    Scribbler: (conformance.check_inputs, "wrote into the picture"),
    WatchingScribbler: (conformance.check_inputs, "wrote into the picture"),
    Presser: (conformance.check_inputs, "wrote into the action"),
    Stuffer: (conformance.check_inputs, "wrote into the world's info"),
    InPlace: (conformance.check_inputs, f"wrote into the activation {STREAM}"),
    Eraser: (conformance.check_inputs, "wrote into the memory"),
    View: (conformance.check_results, "a view of the old one"),
    Floating: (conformance.check_results, r"the picture is float64 \[36, 64, 3\], expected uint8"),
    Twice: (conformance.check_results, "the action is none: .*jump"),
    Only: (conformance.check_results, "the action lacks ESC"),
    Gambler: (conformance.check_seeds, "another episode"),
    Counter: (conformance.check_seeds, "the same value gives another episode the second time"),
    Diary: (conformance.check_notes, "keep what you remember in moment.memo"),
    Insistent: (conformance.check_schedule, "an earlier step differs"),
    Sticky: (conformance.check_leaving, "acts otherwise after the stack was left"),
    SelfControlled: (conformance.check_control, "the intervention itself"),
    OtherSite: (conformance.check_control, "keeps site and schedule"),
    Fickle: (conformance.check_control, "the same seed gives another control"),
    Unfit: (conformance.check_control, "the control of seed 0 does not fit"),
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda each: each.__name__)
def test_each_law_finds_what_breaks_it(broken: Callable[[], Intervention]) -> None:
    check, words = BROKEN[broken]
    with pytest.raises(AssertionError, match=words):
        check(broken, bench_for(broken()))
