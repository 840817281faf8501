"""Slash commands: those that the compiler writes build the same world, and wrong ones are refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import play, world
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import WorldError
from harness.scenario.catalogue import catalogue
from harness.scenario.compile import compile_scenario, to_commands
from harness.scenario.load import load_scenario
from harness.scenario.setup import EntitySetup, Fill, PlayerSetup, WorldSetup
from harness.world.blockworld.commands import COMMANDS, read_nbt, run_command
from harness.world.blockworld.simulation import Simulation

CELL = st.tuples(st.integers(-12, 12), st.integers(96, 110), st.integers(-12, 12))
BLOCK = st.sampled_from(sorted(catalogue().blocks))
FILL = st.builds(Fill, CELL, CELL, BLOCK, st.none() | BLOCK)
QUARTERS = st.integers(-40, 40).map(lambda v: v / 4)
POINT = st.tuples(QUARTERS, QUARTERS.map(lambda v: 100 + abs(v)), QUARTERS)
ENTITY = st.builds(
    EntitySetup, type=st.sampled_from(sorted(catalogue().creatures)), position=POINT,
    tag=st.none() | st.sampled_from(["a", "b"]), yaw=st.integers(-180, 179).map(float),
    pitch=st.integers(-90, 90).map(float), ai=st.booleans(), health=st.none() | st.integers(1, 20).map(float),
    villager_type=st.sampled_from(sorted(catalogue().villager_types)),
    profession=st.sampled_from(sorted(catalogue().professions)), invulnerable=st.booleans(),
    colour=st.none() | st.just("#a06540"))
SETUP = st.builds(
    WorldSetup, name=st.just("test"), seed=st.just(1), fills=st.lists(FILL, max_size=6).map(tuple),
    entities=st.lists(ENTITY, max_size=4).map(tuple), time=st.integers(0, 23999),
    weather=st.sampled_from(catalogue().weathers), difficulty=st.sampled_from(catalogue().difficulties),
    rules=st.fixed_dictionaries({**{n: st.just(v) for n, v in catalogue().rules.items()}, "doMobLoot": st.booleans()}),
    player=st.builds(PlayerSetup, position=POINT, yaw=st.integers(-180, 179).map(float),
                     pitch=st.integers(-90, 90).map(float),
                     hotbar=st.dictionaries(st.integers(0, 8), st.tuples(st.sampled_from(["stick", "dirt", "iron_axe"]),
                                                                         st.integers(1, 64)))))


def empty(setup):
    return Simulation(WorldSetup(name="empty", seed=1, ground=setup.ground, ground_y=setup.ground_y), 1)


def region(simulation, low=(-16, 92, -16), high=(17, 120, 17)):
    """Block ids [y, z, x] of a box, stored or not."""
    grid = simulation.grid
    cells = np.zeros((high[1] - low[1], high[2] - low[2], high[0] - low[0]), dtype=np.uint8)
    cells[:grid.ground_y - low[1] + 1] = grid.ground
    box = []
    for axis, size in zip((1, 2, 0), grid.voxels.shape, strict=True):
        start, end = max(low[axis], int(grid.origin[axis])), min(high[axis], int(grid.origin[axis]) + size)
        box.append((slice(start - low[axis], end - low[axis]),
                    slice(start - int(grid.origin[axis]), end - int(grid.origin[axis]))))
    cells[tuple(out for out, _ in box)] = grid.voxels[tuple(own for _, own in box)]
    return cells


def assert_alike(built, told):
    assert np.array_equal(region(built), region(told))
    n = int(built.arrays.clock["n_mobs"][0])
    assert n == int(told.arrays.clock["n_mobs"][0])
    for row in range(n):
        a, b = built.arrays.mobs[row], told.arrays.mobs[row]
        for name in ("x", "y", "z", "yaw", "head_yaw", "head_pitch", "health"):
            assert a[name] == pytest.approx(b[name], abs=1e-4), name
        for name in ("kind", "ai", "invulnerable_always", "gravity", "variant", "colour"):
            assert a[name] == b[name], name
        assert built.tags_of(row)[:1] == told.tags_of(row)[:1] or not built.tags_of(row)
    for name in ("x", "y", "z", "yaw", "pitch", "health"):
        assert built.arrays.player[name][0] == pytest.approx(told.arrays.player[name][0], abs=1e-4), name
    assert (built.arrays.bag == told.arrays.bag).all()
    for name in ("time", "daylight", "loot", "tile_drops", "peaceful"):
        assert built.arrays.clock[name] == told.arrays.clock[name], name
    assert (built.rules, built.weather, built.difficulty) == (told.rules, told.weather, told.difficulty)


@settings(max_examples=25, deadline=None)
@given(setup=SETUP, dialect=st.sampled_from(["1.16.5", "1.21"]))
def test_a_setup_and_its_commands_build_the_same_world(setup, dialect):
    built, told = Simulation(setup, 1), empty(setup)
    for command in to_commands(setup, dialect):
        run_command(told, command)
    assert_alike(built, told)


@pytest.mark.parametrize("name", ["villager", "villager-no-leaves", "trunk", "treechop", "meadow", "armor-stand"])
def test_the_bundled_scenarios_build_by_command(name):
    setup = compile_scenario(load_scenario(name), seed=3)
    built, told = Simulation(setup, 1), empty(setup)
    for command in to_commands(setup):
        run_command(told, command)
    assert_alike(built, told)


@pytest.mark.parametrize(("command", "words"), [
    ("/fil 0 0 0 1 1 1 minecraft:stone", ["unknown command", "fill"]),
    ("/setblock 0 100 3 minecraft:oak_lag", ["unknown block", "oak_log"]),
    ("/setblock 0 100 three minecraft:oak_log", ["whole number", "three"]),
    ("/setblock 0 100 3 minecraft:oak_log[axis=x]", ["axis=x", "axis=y"]),
    ("/setblock 9000 100 3 minecraft:stone", ["512"]),
    ("/fill 0 100 0 99 200 99 minecraft:stone", ["too many blocks"]),
    ("/fill 0 100 0 1 101 1 minecraft:stone sideways", ["fill mode", "outline"]),
    ("/summon minecraft:vilager 0 100 0", ["unknown creature", "villager"]),
    ("/summon minecraft:villager 0 100 0 {NoIA:1b}", ["NBT key", "NoAI"]),
    ("/summon minecraft:villager 0 100 0 {NoAI:1b", ["brackets"]),
    ('/summon minecraft:villager 0 100 0 {VillagerData:{type:"minecraft:plain"}}', ["villager type", "plains"]),
    ("/gamerule doMobLot true", ["game rule", "doMobLoot"]),
    ("/gamerule doMobLoot maybe", ["true or false"]),
    ("/weather snow", ["unknown weather"]),
    ("/time set late", ["whole number"]),
    ("/tp @p 0 100", ["too few"]),
    ("/tp @p 0 100 0 90", ["yaw and pitch"]),
    ("/tp @p ^ ^ ^1", ["^"]),
    ("/replaceitem entity @p hotbar.9 minecraft:stick", ["hotbar.0 to hotbar.8"]),
    ("/replaceitem entity @p hotbar.1 minecraft:stck", ["unknown item", "stick"]),
    ("/give @e minecraft:stick", ["@p"]),
    ("/effect give @p minecraft:night_vision", ["no effects"]),
    ("/gamemode creative @p", ["game mode"]),
    ("/kill @e[team=red]", ["selector argument", "tag"]),
    ("/kill @e[sort=near]", ["order", "nearest"]),
    ("/kill @e[x=here]", ["expected a number"]),
    ("/data get entity @p Health", ["data merge"]),
    ("", ["empty"]),
])
def test_a_wrong_command_is_refused_and_changes_nothing(command, words):
    simulation = world()
    before = simulation.arrays.state.tobytes(), simulation.grid.voxels.tobytes()
    with pytest.raises(WorldError) as caught:
        run_command(simulation, command)
    for word in words:
        assert word in str(caught.value)
    assert (simulation.arrays.state.tobytes(), simulation.grid.voxels.tobytes()) == before


def test_fill_modes():
    simulation = world()
    run_command(simulation, "/fill -2 100 4 2 104 8 minecraft:stone outline")
    assert simulation.grid.get(0, 102, 6) == 0 and simulation.grid.get(0, 102, 4) == 3
    run_command(simulation, "/fill -2 100 4 2 104 8 minecraft:glass keep")
    assert simulation.grid.get(0, 102, 6) == 25 and simulation.grid.get(0, 102, 4) == 3
    run_command(simulation, "/fill -2 100 4 2 104 8 minecraft:dirt replace minecraft:stone")
    assert simulation.grid.get(0, 102, 6) == 25 and simulation.grid.get(0, 102, 4) == 2
    run_command(simulation, "/fill -2 100 4 2 104 8 minecraft:oak_leaves[persistent=true,distance=1] hollow")
    assert simulation.grid.get(0, 102, 6) == 0 and simulation.grid.get(2, 104, 8) == 15
    run_command(simulation, "/fill -2 100 4 2 104 8 minecraft:air replace #minecraft:leaves")
    assert simulation.grid.get(2, 104, 8) == 0


def test_selectors_go_by_distance_and_merged_dress_keeps_what_it_leaves_out():
    simulation = world()
    run_command(simulation, "/kill @e[type=!minecraft:player]")
    for x, dress in ((1, "snow"), (5, "taiga"), (9, "swamp")):
        run_command(simulation, f'/summon minecraft:villager {x} 100 0 {{VillagerData:{{type:"minecraft:{dress}"}}}}')
    nearest = "@e[type=minecraft:villager,x=6,y=100,z=0,sort=nearest,limit=1]"
    run_command(simulation, f'/data merge entity {nearest} {{VillagerData:{{profession:"minecraft:mason"}}}}')
    assert [e.variant for e in simulation.entities()] == ["snow/none", "taiga/mason", "swamp/none"]
    run_command(simulation, "/kill @e[x=6,y=100,z=0,sort=furthest,limit=1]")
    assert [e.variant for e in simulation.entities()] == ["taiga/mason", "swamp/none"]


def test_building_outside_the_stored_box_enlarges_it():
    simulation = world()
    before = simulation.grid
    run_command(simulation, "/setblock 100 140 -100 minecraft:stone")
    assert simulation.grid is not before
    assert simulation.grid.get(100, 140, -100) == 3 and simulation.grid.get(0, 99, 0) == 1
    play(simulation, 5)
    assert simulation.player().y == 100.0


def test_creatures_are_chosen_by_tag_and_type_and_merged():
    simulation = world()
    run_command(simulation, '/summon minecraft:villager 0.5 100 3.5 {Tags:["vt","x"],NoAI:1b,Rotation:[180f,0f]}')
    run_command(simulation, "/summon minecraft:cow 2.5 100 3.5")
    run_command(simulation, "/data merge entity @e[tag=x,limit=1] {NoAI:0b,Health:7f}")
    villager, cow = simulation.entities()
    assert (villager.tag, villager.health, cow.tag) == ("vt", 7.0, None)
    assert simulation.arrays.mobs["ai"][0] == 1
    run_command(simulation, "/tp @e[type=minecraft:cow] ~ ~ ~5")
    assert simulation.entities()[1].position == (0.5, 100.0, 5.5)
    run_command(simulation, "/kill @e[tag=vt]")
    assert [e.type for e in simulation.entities()] == ["cow"]
    run_command(simulation, "/kill @e[type=!minecraft:player]")
    assert simulation.entities() == ()


def test_commands_between_ticks_act_at_once():
    simulation = world()
    assert simulation.looking_at() is None
    run_command(simulation, "/setblock 0 101 3 minecraft:oak_log[axis=y]")
    assert simulation.looking_at().name == "oak_log"
    run_command(simulation, "/gamerule doDaylightCycle true")
    run_command(simulation, "/time set 23999")
    play(simulation, 2)
    assert simulation.view().time == 1
    run_command(simulation, "/weather rain 1000")
    assert simulation.view().weather == "rain"


def test_nbt_reads_what_the_cookbook_writes():
    text = ('{UUID:[I;1,2,3,4],Tags:["vt"],NoAI:1b,Health:20f,Silent:0b,Age:-5,'
            'ArmorItems:[{},{},{id:"minecraft:leather_chestplate",Count:1b,tag:{display:{color:6704179}}},{}]}')
    nbt = read_nbt(text)
    assert nbt["UUID"] == [1, 2, 3, 4] and nbt["NoAI"] is True and nbt["Silent"] is False
    assert nbt["Health"] == 20.0 and nbt["Age"] == -5
    assert nbt["ArmorItems"][2]["tag"]["display"]["color"] == 6704179
    for wrong in ("", "{", "{a}", "{a:}", "[1]", "{a:1,,b:2}", '{a:"b}', "{a:1}}", "{a:[1,2}"):
        with pytest.raises(WorldError):
            read_nbt(wrong)


@given(st.text(max_size=40) | st.lists(st.sampled_from([*COMMANDS, "@p", "@e", "{", "}", "[", "~", "1", "a"]),
                                       max_size=8).map(" ".join))
@settings(max_examples=200, deadline=None)
def test_no_text_makes_it_stumble(text):
    simulation = world(settle=0)
    try:
        run_command(simulation, text)
    except WorldError as problem:
        assert str(problem)
