"""Scenario and seed to a world, and a world to slash commands."""

from __future__ import annotations

import dataclasses
import math

import pytest

from harness.errors import ScenarioError
from harness.scenario.catalogue import catalogue
from harness.scenario.commands import episode_commands, session_commands
from harness.scenario.compile import compile_scenario, to_commands
from harness.scenario.load import load_scenario, parse_scenario, scenario_names
from harness.scenario.setup import EntitySetup, Fill, PlayerSetup, WorldSetup


def built(text: str, seed: int = 0) -> WorldSetup:
    return compile_scenario(parse_scenario(text), seed=seed)


def trunks(setup: WorldSetup) -> list[tuple[int, int, int]]:
    return [fill.first for fill in setup.fills if fill.block.endswith("_log")]


# The shipped scenarios ----------------------------------------------------------------------------------------------


def test_the_villager_stands_under_leaves_and_the_player_faces_it() -> None:
    setup = compile_scenario(load_scenario("villager"), seed=3)
    (villager,) = setup.entities
    assert villager == EntitySetup(type="villager", tag="target", position=(0.5, 100.0, 6.5), yaw=-180.0, ai=False,
                                   health=20.0, villager_type="plains", profession="none")
    assert setup.fills[:2] == (Fill((-2, 102, 4), (2, 103, 8), "oak_leaves"), Fill((-1, 104, 5), (1, 104, 7),
        "oak_leaves"))
    assert setup.player.position == (0.5, 100.0, 0.5)
    assert -8 <= setup.player.yaw <= 8
    assert setup.settle_steps == 20
    yaws = {compile_scenario(load_scenario("villager"), seed=s).player.yaw for s in range(20)}
    assert len(yaws) == 20
    assert max(yaws) - min(yaws) > 5


def test_the_villagers_commands() -> None:
    """Line for line as one would write them by hand for Minecraft 1.16.5."""
    scenario = load_scenario("villager", parameters={"trees": 0, "distance": 3})
    lines = episode_commands(compile_scenario(scenario, seed=1))
    yaw = compile_scenario(scenario, seed=1).player.yaw
    assert lines == [
        "/kill @e[type=!minecraft:player]",
        "/kill @e[type=minecraft:item]",
        "/gamemode survival @p",
        "/clear @p",
        "/effect clear @p",
        "/experience set @p 0 levels",
        "/experience set @p 0 points",
        f"/tp @p 0.5 100 0.5 {yaw:.4f} 0",
        "/forceload remove all",
        "/forceload add -32 -32 32 32",
        "/fill -32 96 -32 32 99 32 minecraft:grass_block",
        "/fill -32 100 -32 -1 109 32 minecraft:air",
        "/fill 0 100 -32 32 109 32 minecraft:air",
        "/fill -2 102 1 2 103 5 minecraft:oak_leaves[persistent=true,distance=1]",
        "/fill -1 104 2 1 104 4 minecraft:oak_leaves[persistent=true,distance=1]",
        '/summon minecraft:villager 0.5 100 3.5 {Tags:["target"],NoAI:1b,Silent:1b,PersistenceRequired:1b,'
        'Rotation:[-180f,0f],Health:20f,VillagerData:{profession:"minecraft:none",type:"minecraft:plains",level:1}}',
        f"/tp @p 0.5 100 0.5 {yaw:.4f} 0",
        "/time set 6000",
        "/weather clear 1000000",
    ]


def test_a_session_starts_by_silencing_the_chat() -> None:
    lines = session_commands(compile_scenario(load_scenario("villager"), seed=0))
    assert lines[0] == "/gamerule sendCommandFeedback false"
    assert lines[-1] == "/difficulty easy"
    assert {line.split()[1] for line in lines[:-1]} == set(catalogue().rules)
    changed = built("world: {rules: {doDaylightCycle: true, randomTickSpeed: 3}, difficulty: hard}")
    lines = session_commands(changed)
    assert "/gamerule doDaylightCycle true" in lines
    assert "/gamerule randomTickSpeed 3" in lines
    assert "/difficulty hard" in lines


@pytest.mark.parametrize("dialect", ["1.16.5", "1.21"])
@pytest.mark.parametrize("name", scenario_names())
def test_commands_come_in_order(name: str, dialect: str) -> None:
    """Session, clean slate, blocks, creatures, player, time: nothing before what it needs."""
    setup = compile_scenario(load_scenario(name), seed=5)
    commands = [c.removeprefix("/") for c in to_commands(setup, dialect)]
    words = [c.split()[0] for c in commands]
    slate = words.index("kill")
    assert set(words[:slate]) == {"gamerule", "difficulty"}
    assert "gamerule" not in words[slate:]
    assert words.index("forceload") < words.index("fill")
    summons = [i for i, w in enumerate(words) if w in ("summon", "data")]
    blocks = [i for i, w in enumerate(words) if w in ("fill", "setblock")]
    last_tp = len(words) - 1 - words[::-1].index("tp")
    assert max(blocks) < min([*summons, last_tp])
    assert max([*summons, 0]) < last_tp
    assert words[-2:] == ["time", "weather"]
    assert all(w in ("replaceitem", "item") for w in words[last_tp + 1 : -2])


def test_the_variants_change_one_thing() -> None:
    villager = compile_scenario(load_scenario("villager"), seed=9)
    no_leaves = compile_scenario(load_scenario("villager-no-leaves"), seed=9)
    assert no_leaves == dataclasses.replace(villager, name="villager-no-leaves", fills=villager.fills[2:])
    trunk = compile_scenario(load_scenario("trunk"), seed=9)
    assert trunk.entities == ()
    log = Fill((0, 100, 6), (0, 101, 6), "oak_log")
    assert trunk == dataclasses.replace(
        villager, name="trunk", entities=(), fills=(*villager.fills[:2], log, *villager.fills[2:]))
    stand = compile_scenario(load_scenario("armor-stand"), seed=9)
    expected = EntitySetup(type="armor_stand", tag="target", position=(0.5, 100.0, 6.5), yaw=-180.0, ai=False,
        colour="#674c46")
    assert stand == dataclasses.replace(villager, name="armor-stand", entities=(expected,))


def test_a_parameter_changes_one_thing() -> None:
    villager = compile_scenario(load_scenario("villager"), seed=9)
    robe = compile_scenario(load_scenario("villager", parameters={"robe": "desert"}), seed=9)
    assert robe == dataclasses.replace(villager,
        entities=(dataclasses.replace(villager.entities[0], villager_type="desert"),))
    cow = compile_scenario(load_scenario("villager", parameters={"creature": "cow", "health": 10}), seed=9)
    assert cow.entities[0].type == "cow"
    assert cow.fills == villager.fills


@pytest.mark.parametrize("seed", range(12))
def test_treechop_has_a_few_trees_apart_from_each_other(seed: int) -> None:
    setup = compile_scenario(load_scenario("treechop"), seed=seed)
    places = trunks(setup)
    assert 4 <= len(places) <= 8
    assert all(y == 100 and abs(x) <= 14 and abs(z) <= 14 for x, y, z in places)
    for i, (x, _, z) in enumerate(places):
        assert math.hypot(x, z) >= 4
        assert all(math.hypot(x - a, z - b) >= 5 for a, _, b in places[:i])


def test_meadow_has_animals_and_no_block_but_the_ground() -> None:
    setup = compile_scenario(load_scenario("meadow"), seed=1)
    assert setup.fills == ()
    assert 5 <= len(setup.entities) <= 9
    assert {e.type for e in setup.entities} <= {"cow", "pig", "sheep"}
    assert all(e.tag == "animal" and e.ai for e in setup.entities)
    assert len({e.yaw for e in setup.entities}) == len(setup.entities)


# Seeds and streams --------------------------------------------------------------------------------------------------


def test_a_fixed_world_seed_keeps_the_layout_and_moves_the_player() -> None:
    text = ("world: {seed: 5, blocks: [{scatter: oak, count: 4, from: [-20, -20], to: [20, 20]}]}\n"
            "player: {jitter: {yaw: 90}}")
    one, two = built(text, 1), built(text, 2)
    assert one.fills == two.fills
    assert one.player.yaw != two.player.yaw
    free = text.replace("seed: 5, ", "")
    assert built(free, 1).fills != built(free, 2).fills


def test_a_step_more_moves_nothing_else() -> None:
    scatter = "{scatter: oak, count: 4, from: [-20, -20], to: [20, 20]}"
    entity = "{type: cow, at: [30, 100, 30], jitter: {position: 2, yaw: 90}}"
    one = built(f"world: {{blocks: [{scatter}], entities: [{entity}]}}")
    two = built(f"world: {{blocks: [{scatter}, {{set: stone, at: [50, 100, 50]}}], entities: [{entity}, {entity}]}}")
    assert two.fills[:-1] == one.fills
    assert two.entities[0] == one.entities[0]
    assert two.entities[1] != two.entities[0]


def test_jitter_stays_in_its_bounds() -> None:
    text = "player: {at: [3, 100, 4], yaw: 170, pitch: 85, jitter: {position: 0.5, yaw: 20, pitch: 10}}"
    for seed in range(40):
        player = built(text, seed).player
        assert abs(player.position[0] - 3) <= 0.5
        assert abs(player.position[2] - 4) <= 0.5
        assert player.position[1] == 100
        assert player.yaw >= 150 or player.yaw <= -170
        assert 75 <= player.pitch <= 90


@pytest.mark.parametrize(("facing", "yaw"), [("south", 0.0), ("west", 90.0), ("north", -180.0), ("east", -90.0)])
def test_directions(facing: str, yaw: float) -> None:
    cow = f"{{type: cow, at: [5, 100, 5], facing: {facing}}}"
    setup = built(f"player: {{facing: {facing}}}\nworld: {{entities: [{cow}]}}")
    assert setup.player.yaw == yaw
    assert setup.entities[0].yaw == yaw


@pytest.mark.parametrize(("at", "yaw"),
    [("[0.5, 100, 9.5]", 0.0), ("[-9.5, 100, 0.5]", 90.0), ("[9.5, 100, 0.5]", -90.0),
                                         ("[9.5, 100, 9.5]", -45.0)])
def test_facing_a_creature_and_the_player(at: str, yaw: float) -> None:
    setup = built(f"player: {{facing: t}}\nworld: {{entities: [{{type: cow, at: {at}, tag: t, facing: player}}]}}")
    assert setup.player.yaw == yaw
    assert (setup.entities[0].yaw - yaw) % 360 == 180


def test_an_area_without_room_says_so() -> None:
    text = "name: crowd\nworld: {blocks: [{scatter: oak, count: 9, from: [10, 10], to: [12, 12], min_distance: 3}]}"
    with pytest.raises(ScenarioError) as caught:
        built(text)
    assert "world.blocks[0]" in str(caught.value)
    assert "of at least 9" in str(caught.value)
    assert "enlarge the area" in str(caught.value)
    with pytest.raises(ScenarioError, match="a seed is a whole number from 0 up"):
        built("name: a", -1)


def test_none_leaves_a_step_out() -> None:
    setup = built("""
world:
  blocks:
    - {fill: none, from: [0, 100, 0], to: [1, 100, 1]}
    - {set: none, at: [0, 100, 0]}
    - {line: none, from: [0, 100, 0], to: [1, 100, 1]}
    - {tree: none, at: [5, 100, 5]}
    - {set: minecraft:stone, at: [0, 100, 0]}
  entities:
    - {type: none, at: [0, 100, 0]}
""")
    assert setup.fills == (Fill((0, 100, 0), (0, 100, 0), "stone"),)
    assert setup.entities == ()


# The emitter --------------------------------------------------------------------------------------------------------


def commands_of(*entities: EntitySetup, fills: tuple[Fill, ...] = (),
    dialect: str = "1.16.5", **player: object) -> list[str]:
    setup = WorldSetup(name="x", seed=0, entities=entities,
        fills=fills, player=PlayerSetup(**player))  # type: ignore[arg-type]
    lines = episode_commands(setup, dialect)  # type: ignore[arg-type]
    slash = "/" if dialect == "1.16.5" else ""
    start = max(i for i, line in enumerate(lines) if line.startswith(f"{slash}fill")
                and line.endswith("minecraft:air") and "replace" not in line)
    return lines[start + 1 : -2]


def test_blocks_as_commands() -> None:
    lines = commands_of(fills=(
        Fill((1, 100, 1), (1, 100, 1), "oak_log"),
        Fill((3, 101, 3), (1, 100, 1), "spruce_leaves", replace="air"),
        Fill((0, 100, 0), (0, 100, 0), "stone", replace="oak_leaves"),
    ))[:-1]
    assert lines == [
        "/setblock 1 100 1 minecraft:oak_log[axis=y]",
        "/fill 1 100 1 3 101 3 minecraft:spruce_leaves[persistent=true,distance=1] replace minecraft:air",
        "/fill 0 100 0 0 100 0 minecraft:stone replace minecraft:oak_leaves",
    ]


def test_a_big_fill_is_split_without_gap_or_overlap() -> None:
    lines = [c for c in commands_of(fills=(Fill((-64, 100, -64), (63, 105, 63), "stone"),)) if "stone" in c]
    boxes = [tuple(map(int, line.split()[1:7])) for line in lines]
    cells = [(x, y, z) for x0, y0, z0, x1, y1, z1 in boxes
             for x in range(x0, x1 + 1) for y in range(y0, y1 + 1) for z in range(z0, z1 + 1)]
    assert len(cells) == len(set(cells)) == 128 * 6 * 128
    assert (min(cells), max(cells)) == ((-64, 100, -64), (63, 105, 63))


def test_creatures_as_commands() -> None:
    at = (0.5, 100.0, 3.5)
    assert commands_of(
        EntitySetup("armor_stand", at, ai=False, colour="#664c43", yaw=12.5),
        EntitySetup("zombie", at, tag="z", health=4.5),
        EntitySetup("cow", at, invulnerable=True, pitch=-10.0),
        EntitySetup("villager", at, profession="librarian", villager_type="snow"),
    )[:-1] == [
        '/summon minecraft:armor_stand 0.5 100 3.5 {Rotation:[12.5f,0f],ArmorItems:[{},{},'
        '{id:"minecraft:leather_chestplate",Count:1b,tag:{display:{color:6704195}}},{}],NoGravity:1b}',
        '/summon minecraft:zombie 0.5 100 3.5 {Tags:["z"],Silent:1b,PersistenceRequired:1b,Rotation:[0f,0f],'
        'Health:4.5f,ArmorItems:[{},{},{},{id:"minecraft:stone_button",Count:1b}],IsBaby:0b,CanPickUpLoot:0b}',
        "/summon minecraft:cow 0.5 100 3.5 {Silent:1b,PersistenceRequired:1b,Invulnerable:1b,Rotation:[0f,-10f],Age:0}",
        '/summon minecraft:villager 0.5 100 3.5 {Silent:1b,PersistenceRequired:1b,Rotation:[0f,0f],VillagerData:'
        '{profession:"minecraft:librarian",type:"minecraft:snow",level:2},Xp:10}',
    ]


def test_a_long_summon_is_split_and_loses_nothing() -> None:
    long = EntitySetup("villager", (-63.1234, 100.0, -63.1234), tag="a" * 64, yaw=-179.1234, pitch=-89.1234, ai=False,
                       health=1023.1234, villager_type="savanna", profession="leatherworker", invulnerable=True)
    first, *rest = commands_of(EntitySetup("cow", (0.0, 100.0, 0.0)), long)[1:-1]
    assert rest
    assert all(line.startswith("/data merge entity @e[tag=harness1,limit=1] {") for line in rest)
    assert f'Tags:["{"a" * 64}","harness1"]' in first
    text = " ".join([first, *rest])
    for part in ("NoAI:1b", "Silent:1b", "Invulnerable:1b", "Rotation:[-179.1234f,-89.1234f]", "Health:1023.1234f",
                 'profession:"minecraft:leatherworker"', "Xp:10"):
        assert text.count(part) == 1
    assert all(len(line) <= 256 for line in [first, *rest])


def test_the_player_as_commands() -> None:
    hotbar = {3: ("oak_planks", 16), 0: ("wooden_axe", 1)}
    lines = commands_of(position=(1.25, 100.0, -0.00001), yaw=-0.00001, pitch=10.0, hotbar=hotbar)
    assert lines == ["/tp @p 1.25 100 0 0 10", "/replaceitem entity @p hotbar.0 minecraft:wooden_axe 1",
                     "/replaceitem entity @p hotbar.3 minecraft:oak_planks 16"]


def test_the_newer_dialect() -> None:
    lines = commands_of(EntitySetup("armor_stand", (0.5, 100.0, 3.5), colour="#664c43"), dialect="1.21",
                        hotbar={0: ("wooden_axe", 1)})
    assert lines == [
        'summon minecraft:armor_stand 0.5 100 3.5 {Rotation:[0f,0f],ArmorItems:[{},{},'
        '{id:"minecraft:leather_chestplate",count:1,components:{"minecraft:dyed_color":{rgb:6704195}}},{}],NoGravity:1b}',
        "tp @p 0.5 100 0.5 0 0",
        "item replace entity @p hotbar.0 with minecraft:wooden_axe 1",
    ]
    with pytest.raises(ScenarioError, match=r'unknown dialect "1\.8"'):
        to_commands(WorldSetup(name="x", seed=0), "1.8")  # type: ignore[arg-type]


def test_rules_reach_the_world_complete() -> None:
    setup = built("world: {rules: {doMobLoot: false}}")
    assert setup.rules == {**catalogue().rules, "doMobLoot": False}
