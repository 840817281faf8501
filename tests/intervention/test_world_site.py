"""Edits of the world: exactly what they say changes, by commands that the world and Minecraft understand."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeWorld, make_scenario
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.agent.scripted import NoopAgent
from harness.errors import HarnessError, InterventionError
from harness.intervention import (
    BlockEdit,
    BlockFill,
    Command,
    EntitySwap,
    Give,
    Intervention,
    InterventionStack,
    RemoveBlocks,
    Robe,
    Schedule,
    Teleport,
    TimeOfDay,
    Weather,
    from_scenario,
)
from harness.intervention.build import build_intervention
from harness.recording.recorder import Recorder
from harness.recording.recording import open_recording
from harness.replay.replay import replay_recording
from harness.rollout import run_episode
from harness.scenario.catalogue import catalogue
from harness.scenario.commands import MAX_COMMAND
from harness.scenario.load import load_scenario, parse_scenario
from harness.world.observation import WorldState
from harness.world.world import World, make_world

VILLAGER = load_scenario("villager")
FARM = parse_scenario("""
name: farm
world:
  blocks:
    - {fill: oak_log, from: [3, 100, 3], to: [3, 103, 3]}
    - {fill: birch_leaves, from: [1, 104, 1], to: [5, 105, 5]}
  entities:
    - {type: villager, tag: left, at: [-3.5, 100, 4.5], yaw: 170, ai: false, villager: {type: snow, profession: mason}}
    - {type: villager, tag: twin, at: [-5.5, 100, 4.5], yaw: 30, ai: false}
    - {type: villager, tag: twin, at: [-5.5, 100, 8.5], yaw: 40, ai: false, villager: {type: taiga}}
    - {type: cow, at: [6.5, 100, 6.5], ai: false}
episode: {max_steps: 30, settle_steps: 2}
outcomes: {walked: {moved: 3}}
""")
NOBODY = NoopAgent()


@pytest.fixture(scope="module")
def farm() -> Any:
    with make_world(FARM) as world:
        world.reset(seed=1)
        yield world


def apply(world: World, *edits: Intervention, step: int = 0) -> list[str]:
    """One step of a stack: the commands that ran."""
    with InterventionStack(edits, agent=NOBODY, world=world, seed=3) as stack:
        stack.begin({"outcomes": {}})
        stack.change_world({"pov": np.zeros((1, 1, 3), np.uint8)}, step, {})
        return [command for applied in stack.take_log() for command in applied.detail["commands"]]


def entities(state: WorldState) -> dict[int, dict[str, Any]]:
    return {entity.id: dict(vars(entity)) for entity in state.entities}


def edited(world: World, *edits: Intervention) -> tuple[WorldState, WorldState, list[str]]:
    """The state before and after, and the commands; the world is then put back."""
    frozen = world.snapshot()
    before = world.world_state(blocks=True)
    commands = apply(world, *edits)
    after = world.world_state(blocks=True)
    assert apply(world, *[edit for edit in edits if not isinstance(edit, Command | Teleport | Weather | Give)]) == []
    world.restore(frozen)
    return before, after, commands


CELLS = st.tuples(st.integers(-6, 6), st.integers(98, 107), st.integers(-2, 9))
BLOCKS = st.sampled_from(["air", "oak_log", "birch_leaves", "stone", "grass_block"])
NAMES = st.sampled_from(["left", "twin", "villager", "cow"])
ANGLES = st.none() | st.integers(-180, 180) | st.floats(-90, 90)
AT = st.integers(0, 20).map(lambda step: Schedule(at=step))
edits = st.one_of(
    st.builds(BlockEdit, BLOCKS, CELLS),
    st.builds(BlockFill, BLOCKS, CELLS, CELLS, st.none() | st.just("oak_planks")),
    st.builds(RemoveBlocks, st.sampled_from(["leaves", "*_log", ("oak_log", "wool")])),
    st.builds(RemoveBlocks, st.just("leaves"), CELLS, CELLS),
    st.builds(RemoveBlocks, st.just("leaves"), around=NAMES | st.just("player"), within=st.integers(0, 9)),
    st.builds(EntitySwap, NAMES, st.sampled_from(["pig", "zombie", "armor_stand"]), st.booleans()),
    st.builds(Robe, st.sampled_from(["left", "twin", "villager"]), st.sampled_from(["desert", "snow"]),
              st.none() | st.sampled_from(["none", "leatherworker"])),
    st.builds(Robe, profession=st.sampled_from(sorted(catalogue().professions))),
    st.builds(Teleport, st.tuples(st.floats(-60, 60), st.floats(0, 200), st.floats(-60, 60)), ANGLES,
              st.none() | st.integers(-90, 90), NAMES | st.just("player")),
    st.builds(TimeOfDay, st.integers(0, 23999) | st.sampled_from(sorted(catalogue().times))),
    st.builds(Weather, st.sampled_from(catalogue().weathers)),
    st.builds(Give, st.sampled_from(["stick", "oak_log"]), st.integers(1, 64), st.integers(0, 8)),
    st.builds(Give, st.sampled_from(["stick", "oak_log"]), st.integers(1, 64), schedule=AT),
    st.builds(Command, st.sampled_from(["/time add 5", "weather rain"]), schedule=AT))

NUMBER, NAME = r"-?\d+(?:\.\d{1,4})?", r"minecraft:[a-z_]+(?:\[[a-z_]+=\w+(?:,[a-z_]+=\w+)*\])?"
NEAR = rf",x={NUMBER},y={NUMBER},z={NUMBER},sort=nearest,limit=1"
WHO = rf"(?:@p|@e\[(?:tag=\w+|type=minecraft:\w+)(?:,type=!minecraft:\w+)?(?:{NEAR})?\])"
WHOLE = r"-?\d+"
GRAMMAR = [re.compile(pattern) for pattern in (
    rf"/setblock {WHOLE} {WHOLE} {WHOLE} {NAME}", rf"/fill(?: {WHOLE}){{6}} {NAME}(?: replace minecraft:[a-z_]+)?",
    rf"/tp {WHO}(?: {NUMBER}){{3}}(?: {NUMBER} {NUMBER})?", rf"/tp {WHO} ~ -500 ~", rf"/kill {WHO}",
    rf"/summon minecraft:\w+(?: {NUMBER}){{3}} \{{.*\}}",
    rf"/data merge entity {WHO} \{{VillagerData:\{{.*\}}(?:,Xp:10)?\}}",
    r"/time set \d+", r"/time add \d+", r"/weather (?:clear|rain|thunder)(?: \d+)?",
    r"/give @p minecraft:\w+ \d+", r"/replaceitem entity @p hotbar\.[0-8] minecraft:\w+ \d+")]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits)
def test_any_edit_speaks_minecraft_is_done_once_and_can_be_written_down(farm: World, edit: Intervention) -> None:
    """Its commands have the forms of 1.16.5, this world takes them, and what is done already is not done again."""
    _, _, commands = edited(farm, edit) if edit.schedule.fits(0) else (None, None, [])
    for command in commands:
        assert len(command) <= MAX_COMMAND and any(form.fullmatch(command) for form in GRAMMAR), command
    again = build_intervention(json.loads(json.dumps(edit.describe())))
    assert again == edit and hash(again) == hash(edit)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BLOCKS, CELLS, CELLS, st.none() | st.just("oak_log"))
def test_a_fill_fills_its_box_and_nothing_else(farm: World, block: str, first: Any, last: Any, replace: str | None
                                               ) -> None:
    if block == replace:
        return
    before, after, _ = edited(farm, BlockFill(block, first, last, replace))
    assert before.blocks is not None and after.blocks is not None
    x, y, z = before.blocks_origin
    box = tuple(slice(min(a, b) - o, max(a, b) - o + 1) for a, b, o in zip(
        (first[1], first[2], first[0]), (last[1], last[2], last[0]), (y, z, x), strict=True))
    wanted = before.blocks.copy()
    part = wanted[box]
    part[part == catalogue().block(replace).id if replace else ...] = catalogue().block(block).id
    assert np.array_equal(after.blocks, wanted) and entities(after) == entities(before)


def test_no_leaves_leaves_no_leaf_in_the_world_and_everything_else_as_it_was() -> None:
    """In whole episodes of villager.yaml: of all blocks only leaves are gone; bodies, time and counters are equal."""
    leaves = [catalogue().block(name).id for name in catalogue().blocks_called("leaves")]

    class Keeper:
        def begin(self, episode: Any) -> None:
            self.world, self.states = episode.world, []

        def on_step(self, step: Any) -> None:
            self.states.append(self.world.world_state(blocks=True))
            self.applied = getattr(self, "applied", ()) + step.applied

        def end(self, result: Any) -> None: ...

    kept = []
    for interventions in ([], from_scenario(VILLAGER, "no-leaves")):
        keeper = Keeper()
        with make_world(VILLAGER) as world:
            run_episode(world, NOBODY, seed=5, max_steps=4, observers=[keeper], interventions=interventions)
        kept.append(keeper)
    plain, bare = kept
    assert not plain.applied and [a.step for a in bare.applied] == [0]
    for a, b in zip(plain.states, bare.states, strict=True):
        gone = np.isin(a.blocks, leaves)
        assert gone.sum() > 150 and not np.isin(b.blocks, leaves).any()
        assert np.array_equal(np.where(gone, 0, a.blocks), b.blocks)
        assert (a.player, a.entities, a.time, a.tick, a.statistics, a.events) == (
            b.player, b.entities, b.time, b.tick, b.statistics, b.events)


def test_a_robe_changes_the_robe_alone() -> None:
    """One villager's variant; no pixel that does not show it."""
    with make_world(VILLAGER) as world:
        first, _ = world.reset(seed=4)
        frozen, before = world.snapshot(), world.world_state(blocks=True, segmentation=True)
        apply(world, *from_scenario(VILLAGER, "robe-desert"))
        after, pov = world.world_state(blocks=True, segmentation=True), world.render()
        world.restore(frozen)
    (old,), (new,) = entities(before).values(), entities(after).values()
    assert new == {**old, "variant": "desert/none"} and old["variant"] == "plains/none"
    assert np.array_equal(before.blocks, after.blocks) and np.array_equal(before.segmentation, after.segmentation)
    differs = (pov != first["pov"]).any(-1)
    assert differs.any() and (after.segmentation[differs] == old["id"]).all()


def test_what_a_robe_leaves_out_stays_and_all_that_are_meant_are_dressed(farm: World) -> None:
    before, after, commands = edited(farm, Robe("left", type="jungle"))
    assert [entities(after)[i]["variant"] for i in entities(before)][:1] == ["jungle/mason"] and len(commands) == 1
    _, after, commands = edited(farm, Robe("twin", profession="cleric"))
    assert [e.variant for e in after.entities if e.tag == "twin"] == ["plains/cleric", "taiga/cleric"]
    assert len(commands) == 2
    _, after, commands = edited(farm, Robe(type="taiga"))
    assert [e.variant for e in after.entities if e.type == "villager"] == ["taiga/mason", "taiga/none", "taiga/none"]
    assert len(commands) == 2, "one wears it already"


def test_a_swap_keeps_place_facing_and_tag(farm: World) -> None:
    before, after, commands = edited(farm, EntitySwap("twin", "pig"))
    old = [e for e in before.entities if e.tag == "twin"]
    new = [e for e in after.entities if e.tag == "twin"]
    assert [(e.position, e.yaw, e.tag) for e in new] == [(e.position, e.yaw, e.tag) for e in old]
    assert {e.type for e in new} == {"pig"} and len(after.entities) == len(before.entities)
    others = [e for e in before.entities if e.tag != "twin"]
    assert [e for e in after.entities if e.tag != "twin"] == others
    assert after.statistics == before.statistics and after.events == before.events, "nobody was killed"
    _, after, _ = edited(farm, EntitySwap("cow", "zombie"))
    assert [e.type for e in after.entities].count("zombie") == 1 and "cow" not in [e.type for e in after.entities]


def test_blocks_are_removed_in_a_box_around_something_or_everywhere(farm: World) -> None:
    def left(edit: RemoveBlocks) -> dict[str, int]:
        _, after, _ = edited(farm, edit)
        return {name: int((after.blocks == catalogue().block(name).id).sum()) for name in ("oak_log", "birch_leaves")}

    assert left(RemoveBlocks("leaves")) == {"oak_log": 4, "birch_leaves": 0}
    assert left(RemoveBlocks(["leaves", "logs"])) == {"oak_log": 0, "birch_leaves": 0}
    assert left(RemoveBlocks("leaves", (5, 104, 5), (1, 104, 1))) == {"oak_log": 4, "birch_leaves": 25}
    assert left(RemoveBlocks("*_leaves", around="cow", within=4)) == {"oak_log": 4, "birch_leaves": 50 - 4 * 4}
    assert left(RemoveBlocks("leaves", around="player", within=3)) == {"oak_log": 4, "birch_leaves": 50}


class Blind(FakeWorld):
    """Takes commands and reports neither blocks nor creatures."""

    capabilities = type(FakeWorld.capabilities)("blind", commands=True, snapshots=True, deterministic=True)

    def command(self, text: str) -> None:
        vars(self).setdefault("said", []).append(text)


def test_a_world_that_reports_no_blocks_is_told_once_in_each_run_of_steps() -> None:
    world = Blind(make_scenario(40))
    world.reset(seed=0)
    bare = RemoveBlocks("leaves", (0, 100, 0), (40, 120, 60), schedule=Schedule(at=[4, 5]))
    stack = InterventionStack([BlockEdit("stone", (1, 100, 2)), bare, Weather("rain", schedule=Schedule(every=2))],
                              agent=NOBODY, world=world, seed=0)
    stack.begin({"outcomes": {}})
    for step in range(3):
        stack.change_world({"pov": None}, step, {})
    again = InterventionStack(stack.interventions, agent=NOBODY, world=world, seed=0)
    again.load(json.loads(json.dumps(stack.save())))
    for step in range(3, 6):
        again.change_world({"pov": None}, step, {})
    said = vars(world)["said"]
    assert said.count("/setblock 1 100 2 minecraft:stone") == 1
    assert said.count("/weather rain 1000000") == 3
    fills = [line for line in said if line.startswith("/fill")]
    assert len(fills) == 6 and len(set(fills)) == 6, "three kinds of leaves, each box in two halves"
    with pytest.raises(InterventionError, match="does not tell which blocks"):
        apply(world, RemoveBlocks("leaves"))
    with pytest.raises(InterventionError, match="does not report its creatures"):
        apply(world, Robe(type="desert"))


MIDWAY: Sequence[Intervention] = (
    Teleport((4.5, 100, -2.5), yaw=90, schedule=Schedule(at=5)),
    TimeOfDay("midnight", schedule=Schedule(between=(7, 30))),
    Give("iron_axe", slot=0, schedule=Schedule(at=8)),
    Give("oak_log", 5, schedule=Schedule(at=9)),
    Weather("rain", schedule=Schedule(at=10)),
    EntitySwap("target", "pig", schedule=Schedule(at=11)),
    BlockFill("stone", (0, 100, -5), (2, 102, -5), schedule=Schedule(at=12)),
    Command("time set 18000", schedule=Schedule(at=13)),
    RemoveBlocks("leaves", schedule=Schedule(since={"moved": 3})),
)


def test_edits_in_mid_episode_are_logged_with_their_commands_and_replayed_to_the_byte(tmp_path: Path) -> None:
    with make_world(VILLAGER) as world, Recorder(tmp_path, log_probs=False) as recorder:
        run_episode(world, NOBODY, seed=2, max_steps=16, observers=[recorder], interventions=MIDWAY)
        last = world.world_state(blocks=True)
    recording = open_recording(recorder.path)
    log = {(e["step"], e["kind"]): e for e in recording.events if e["type"] == "intervention"}
    # It was midnight already when the command came, and the player has left its place before step 6.
    assert sorted(log) == [(5, "Teleport"), (6, "RemoveBlocks"), (7, "TimeOfDay"), (8, "Give"), (9, "Give"),
                           (10, "Weather"), (11, "EntitySwap"), (12, "BlockFill"), (13, "Command")]
    assert log[5, "Teleport"]["commands"] == ["/tp @p 4.5 100 -2.5 90 0"]
    assert log[8, "Give"]["commands"] == ["/replaceitem entity @p hotbar.0 minecraft:iron_axe 1"]
    for entry in log.values():
        before, after = entry["changed"]["world"]
        assert entry["site"] == "world" and (before != after) == (entry["kind"] != "Command")
    poses = recording.steps["pose.position"]
    assert poses[4] != poses[5] == [4.5, 100.0, -2.5]
    assert not np.array_equal(recording.pov[4], recording.pov[5]), "the picture of the step itself shows it"
    assert last.time == 18000 and last.player.hotbar[:2] == (("iron_axe", 1), ("oak_log", 5))
    assert [e.type for e in last.entities] == ["pig"]
    assert replay_recording(recording).ok
    assert [i["kind"] for i in recording.header["interventions"]] == [type(each).__name__ for each in MIDWAY]


@pytest.mark.parametrize(("spec", "words"), [
    ({"kind": "BlockEdit", "block": "oak_lag", "cell": [0, 100, 0]}, ["block:", 'unknown block "oak_lag"', "oak_log"]),
    ({"kind": "BlockEdit", "block": "stone", "cell": [0, 100, 900]}, ["cell: z must be between -64 and 63"]),
    ({"kind": "BlockEdit", "block": "stone", "cell": [0.5, 100, 0]}, ["expected 3 whole numbers"]),
    ({"kind": "BlockEdit", "block": "stone", "at": [0, 100, 0]}, ["needs cell"]),
    ({"kind": "BlockFill", "block": "stone", "from": [0, 300, 0], "to": [0, 1, 0]}, ["first: y must be between 0 and"]),
    ({"kind": "BlockFill", "block": "stone", "first": [0, 1, 0], "last": [0, 1, 0], "replace": "stone"}, ["changes"]),
    ({"kind": "BlockFill", "block": "stone", "first": [0, 1, 0], "from": [0, 1, 0], "last": [1, 1, 1]}, ['"from"']),
    ({"kind": "RemoveBlocks", "blocks": "leafs"}, ['unknown block or group "leafs"', "leaves"]),
    ({"kind": "RemoveBlocks", "blocks": []}, ["expected a block"]),
    ({"kind": "RemoveBlocks", "blocks": "air"}, ["unknown block or group"]),
    ({"kind": "RemoveBlocks", "blocks": "leaves", "first": [0, 1, 0]}, ["half a box"]),
    ({"kind": "RemoveBlocks", "blocks": "leaves", "first": [0, 1, 0], "last": [0, 1, 0], "around": "x"}, ["both say"]),
    ({"kind": "RemoveBlocks", "blocks": "leaves", "around": "cow", "within": -1}, ["within: expected blocks"]),
    ({"kind": "EntitySwap", "target": "target", "creature": "cwo"}, ['unknown creature "cwo"', "cow"]),
    ({"kind": "EntitySwap", "target": "a b", "creature": "cow"}, ["target:"]),
    ({"kind": "EntitySwap", "target": "cow", "creature": "cow"}, ["changes nothing"]),
    ({"kind": "Robe", "target": "target", "type": "dessert"}, ['unknown villager type "dessert"', "desert"]),
    ({"kind": "Robe", "target": "target", "profession": "libarian"}, ["librarian"]),
    ({"kind": "Robe", "target": "target"}, ["expected a type or a profession"]),
    ({"kind": "TimeOfDay", "time": "nooon"}, ['unknown time "nooon"', "noon"]),
    ({"kind": "TimeOfDay", "time": 24000}, ["less than 24000"]),
    ({"kind": "Weather", "weather": "rian"}, ["rain"]),
    ({"kind": "Teleport", "position": [0, 100, 900]}, ["z must be between -64 and 64"]),
    ({"kind": "Teleport", "position": [0, 100, 0], "pitch": 91}, ["pitch:"]),
    ({"kind": "Give", "item": "stikc", "slot": 0}, ['unknown item "stikc"', "stick"]),
    ({"kind": "Give", "item": "stick", "slot": 9}, ["slot:"]),
    ({"kind": "Give", "item": "stick", "count": 65, "slot": 0}, ["count: expected 1 to 64"]),
    ({"kind": "Give", "item": "stick"}, ["at every step", "at: 0"]),
    ({"kind": "Command", "text": "time set 0"}, ["at every step", "at: 0"]),
    ({"kind": "Command", "text": "/" + "x" * 256, "at": 0}, ["at most 256"]),
    ({"kind": "Command", "text": "time set 0\nkill @p", "at": 0}, ["expected one line"]),
    ({"kind": "Command", "text": " / ", "at": 0}, ["expected one line"])])
def test_what_cannot_be_is_refused_when_it_is_built(spec: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InterventionError) as found:
        build_intervention(spec)
    assert all(word in str(found.value) for word in words), str(found.value)


@pytest.mark.parametrize(("edit", "words"), [
    (Robe("targt", type="desert"), ['unknown tag or creature "targt"', "target"]),
    (Teleport((0, 100, 0), target="playr"), ["playr", "player"]),
    (RemoveBlocks("leaves", around="vilager"), ["vilager", "villager"]),
    (EntitySwap("nobody", "cow"), ["nobody"]),
    (Robe("cow", type="desert"), ["only villagers wear robes"]),
    (Weather("rain", schedule=Schedule(when="damaged_vilager")), ["damaged_villager"])])
def test_what_the_scenario_lacks_is_refused_before_anything_is_played(edit: Intervention, words: list[str]) -> None:
    with make_world(VILLAGER) as world, pytest.raises(HarnessError) as found:
        run_episode(world, NOBODY, seed=0, max_steps=2, interventions=[edit])
    assert all(word in str(found.value) for word in words), str(found.value)


@settings(max_examples=14, deadline=None)
@given(edits)
def test_a_backend_without_commands_is_refused_by_name(edit: Intervention) -> None:
    with pytest.raises(InterventionError, match="the fake backend takes no commands"):
        run_episode(FakeWorld(make_scenario(40)), NOBODY, interventions=[edit])


@pytest.mark.parametrize(("one", "other", "what"), [
    (TimeOfDay("noon"), TimeOfDay("midnight", schedule=Schedule(at=3)), "the time of day"),
    (Weather("rain"), Weather("clear"), "the weather"),
    (BlockEdit("stone", (0, 100, 0)), BlockEdit("air", (0, 100, 0)), r"the block at \[0, 100, 0\]"),
    (Give("stick", slot=1), Give("shears", slot=1), "slot 1"),
    (Robe("left", type="snow"), Robe("left", type="taiga", profession="none"), 'the type of "left"'),
    (EntitySwap("left", "cow"), EntitySwap("left", "pig"), 'the kind of "left"'),
    (Teleport((0, 100, 0)), Teleport((0, 101, 0)), 'the place of "player"')])
def test_two_that_would_undo_each_other_are_refused_unless_they_never_meet(farm: World, one: Any, other: Any, what: str
                                                                          ) -> None:
    with pytest.raises(InterventionError, match=f"cannot run together: each would undo .* {what}"):
        InterventionStack([other, one], agent=NOBODY, world=farm, seed=0)
    early, late = replace(one, schedule=Schedule(at=5)), replace(other, schedule=Schedule(at=9))
    for stack in ([one, one], [early, late]):
        InterventionStack(stack, agent=NOBODY, world=farm, seed=0)


def test_a_creature_that_is_gone_is_left_in_peace(farm: World) -> None:
    """A tag that is known and means nobody now: nothing is done, and nothing is logged."""
    frozen = farm.snapshot()
    farm.command("/kill @e[tag=left]")
    gone = Robe("left", type="desert"), EntitySwap("left", "pig"), Teleport((0, 100, 0), target="left")
    assert apply(farm, *gone) == []
    farm.restore(frozen)
