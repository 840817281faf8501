"""Commands against the real 1.16 command tree and registries, and the mistakes that must not pass."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from command_lint import LintError, lint, names, tree
from hypothesis import HealthCheck, given, settings
from scenario_strategies import SEEDS, scenarios

from harness.errors import ScenarioError
from harness.scenario.catalogue import catalogue
from harness.scenario.commands import (
    dress_command,
    episode_commands,
    game_script,
    item_command,
    summon_commands,
    teleport_command,
    to_commands,
)
from harness.scenario.compile import compile_scenario
from harness.scenario.datapack import datapack
from harness.scenario.dialect import check_command, game_names
from harness.scenario.load import load_scenario, parse_scenario, scenario_names
from harness.scenario.schema import Scenario
from harness.scenario.setup import EntitySetup

COOKBOOK = Path(__file__).parents[1] / "golden" / "cookbook_1_16_5.mcfunction"
SUMMON = "/summon minecraft:villager 0.5 100 3.5 "

WRONG = {
    "no slash": "time set 0",
    "unknown command": "/summom minecraft:cow 0 100 0",
    "unknown game rule": "/gamerule doMobSpawn false",
    "game rule's value": "/gamerule randomTickSpeed false",
    "unknown entity": "/summon minecraft:frog 0 100 0",
    "unknown block": "/setblock 0 100 3 minecraft:cherry_log",
    "unknown property": "/setblock 0 100 3 minecraft:oak_log[facing=north]",
    "unknown value": "/setblock 0 100 3 minecraft:oak_log[axis=w]",
    "state not closed": "/setblock 0 100 3 minecraft:oak_log[axis=y",
    "1.17 block state": "/setblock 0 100 3 minecraft:oak_leaves[waterlogged=true]",
    "unknown item": "/give @p minecraft:wooden_ax 1",
    "bad SNBT": SUMMON + '{Tags:["vt"],NoAI:1b,Rotation:[180f,0f}',
    "SNBT without value": SUMMON + "{NoAI:}",
    "no compound": SUMMON + "[1,2]",
    "missing argument": "/fill 0 100 0 1 101",
    "missing block": "/fill 0 100 0 1 101 1",
    "ends too early": "/effect give",
    "trailing rubbish": "/time set 6000 please",
    "trailing brace": SUMMON + "{NoAI:1b}}",
    "too long": SUMMON + '{Tags:["' + "x" * 230 + '"]}',
    "relative coordinate": "/setblock ~ 100~ 3 minecraft:stone",
    "mixed coordinates": "/setblock ^ 100 ^3 minecraft:stone",
    "half a cell": "/setblock 0.5 100 3 minecraft:stone",
    "newline": "/time set 0\n/weather clear",
    "unknown selector": "/kill @x",
    "unknown selector option": "/kill @e[kind=cow]",
    "unknown type in a selector": "/kill @e[type=minecraft:frog]",
    "many where one is wanted": "/data merge entity @e[tag=vt] {NoAI:1b}",
    "no player": "/clear @e",
    "1.17 item command": "/item replace entity @p hotbar.0 with minecraft:wooden_axe",
    "unknown slot": "/replaceitem entity @p hotbar.9 minecraft:wooden_axe 1",
    "count": "/replaceitem entity @p hotbar.0 minecraft:wooden_axe 65",
    "unknown effect": "/effect give @p minecraft:darkness 10",
    "after run": "/execute as @a at @s run summon minecraft:frog ~ ~ ~",
}


def commands_of(setup: object) -> list[str]:
    script = game_script(setup)  # type: ignore[arg-type]
    return [*script.session, *script.episode, *(line for lines in script.events.values() for line in lines)]


def test_the_tree_is_the_games() -> None:
    assert len(tree()["children"]) == 74
    assert (len(names("blocks")), len(names("items")), len(names("entities"))) == (763, 976, 108)


@pytest.mark.parametrize("command", WRONG.values(), ids=WRONG)
def test_the_lint_catches(command: str) -> None:
    with pytest.raises(LintError):
        lint(command)


def test_the_cookbook_passes() -> None:
    lines = [line for line in COOKBOOK.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert len(lines) > 90
    for line in lines:
        lint(line)
        check_command(line)


@pytest.mark.parametrize("name", scenario_names())
def test_every_bundled_scenario_passes(name: str) -> None:
    for seed in (0, 1):
        for command in commands_of(compile_scenario(load_scenario(name), seed=seed)):
            lint(command)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(scenarios(), SEEDS)
def test_every_scenario_passes(scenario: Scenario, seed: int) -> None:
    setup = compile_scenario(scenario, seed=seed)
    for command in commands_of(setup):
        lint(command)
    for path, text in datapack(setup).items():
        if path.endswith(".mcfunction"):
            for line in text.splitlines():
                lint(f"/{line}")


def test_single_commands_pass() -> None:
    for command in (teleport_command("@e[tag=target,limit=1]", (0.5, 100.0, 3.25), 90.0, -12.5),
                    item_command(3, "iron_axe", 1), dress_command("@e[tag=target,limit=1]", "desert", "librarian")):
        lint(command)
    for creature in catalogue().creatures:
        for command in summon_commands(EntitySetup(creature, (0.5, 100.0, 3.5), colour="#674c46"), 0):
            lint(command)


def test_the_shipped_names_are_minecraft_datas() -> None:
    assert game_names("block") == names("blocks")
    assert game_names("item") == names("items")
    assert game_names("entity") == names("entities")
    assert game_names("command") == {child["name"] for child in tree()["children"]}
    (rules,) = (child["children"] for child in tree()["children"] if child["name"] == "gamerule")
    assert game_names("game rule") == {rule["name"] for rule in rules}


# What harness itself refuses before a backend sends it ----------------------------------------------------------------


@pytest.mark.parametrize(("command", "words"), [
    ("/summon minecraft:frog 0 100 0", ['Minecraft 1.16.5 has no entity "frog"']),
    ("/execute as @a[nbt={SelectedItemSlot:8}] at @s run summon cov ~ ~ ~", ['no entity "cov"', "'cow'"]),
    ("/setblock 0 100 3 minecraft:oak_logg[axis=y]", ['no block "oak_logg"', "oak_log"]),
    ("/fill 0 100 3 1 101 3 air replace minecraft:oak_leafs", ['no block "oak_leafs"', "oak_leaves"]),
    ("/replaceitem entity @p hotbar.0 wooden_ax 1", ['no item "wooden_ax"', "wooden_axe"]),
    ("/give @p minecraft:spyglass", ['no item "spyglass"']),
    ("/gamerule doMobSpawn false", ['no game rule "doMobSpawn"', "doMobSpawning"]),
    ("/sumon cow", ['no command "sumon"', "summon"]),
    ("/say " + "x" * 300, ["305 characters", "256"]),
    ("/time set 0\n/time set 1", ["one line"]),
    ("/", ["got nothing"]),
])
def test_a_wrong_command_is_named(command: str, words: list[str]) -> None:
    with pytest.raises(ScenarioError) as caught:
        check_command(command)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(("command", "words"), [
    ("replaceitem entity @p hotbar.0 minecraft:stick 1", ["item replace"]),
    ("setblock 0 1 2 minecraft:grass", ["short_grass"]),
    ("item replace entity @p hotbar.0 with minecraft:grass_path 1", ["dirt_path"]),
])
def test_what_1_21_calls_by_another_name(command: str, words: list[str]) -> None:
    with pytest.raises(ScenarioError) as caught:
        check_command(command, "1.21")
    assert all(word in str(caught.value) for word in words)
    assert check_command("summon minecraft:frog 0 100 0", "1.21")
    assert check_command("setblock 0 1 2 minecraft:mud", "1.21")


@pytest.mark.parametrize(("command", "nearest"), [("fly", "fill"), ("summon minecraft:vilager 0 100 0", "villager")])
def test_what_1_21_has_under_no_name(command: str, nearest: str) -> None:
    with pytest.raises(ScenarioError, match=f"Minecraft 1.21 has no[\\s\\S]*{nearest}"):
        check_command(command, "1.21")


def test_a_line_that_cannot_be_split_is_refused() -> None:
    setup = compile_scenario(load_scenario("villager"), seed=0)
    long = dataclasses.replace(setup, entities=(EntitySetup("cow", (0.5, 100.0, 3.5), tag="x" * 300),))
    with pytest.raises(ScenarioError, match="a chat line carries 256"):
        episode_commands(long)


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(ScenarioError, match="unknown dialect"):
        to_commands(compile_scenario(load_scenario("villager"), seed=0), "1.12")  # type: ignore[arg-type]


def test_a_creature_that_the_version_lacks_is_refused() -> None:
    with pytest.raises(ScenarioError, match="frog"):
        parse_scenario("world: {entities: [{type: frog, at: [0, 100, 3]}]}")


def test_a_wide_area_is_kept_loaded_in_strips() -> None:
    text = "world: {blocks: [{set: stone, at: [-64, 100, -64]}, {set: stone, at: [63, 100, 63]}]}"
    lines = episode_commands(compile_scenario(parse_scenario(text), seed=0))
    areas = [list(map(int, line.split()[2:])) for line in lines if line.startswith("/forceload add")]
    kept = {(x, z) for x0, z0, x1, z1 in areas for x in range(x0 // 16, x1 // 16 + 1)
            for z in range(z0 // 16, z1 // 16 + 1)}
    assert {(-4, -4), (3, 3), (-4, 3)} <= kept
    assert all((x1 // 16 - x0 // 16 + 1) * (z1 // 16 - z0 // 16 + 1) <= 256 for x0, z0, x1, z1 in areas)
    assert lines.index("/forceload remove all") < min(k for k, line in enumerate(lines) if "forceload add" in line)
