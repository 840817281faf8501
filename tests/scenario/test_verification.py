"""What is checked after a game has settled, and the scenario as a datapack."""

from __future__ import annotations

import dataclasses
import json

import pytest

from harness.scenario.commands import game_script
from harness.scenario.compile import compile_scenario
from harness.scenario.datapack import datapack
from harness.scenario.load import parse_scenario
from harness.scenario.setup import WorldSetup
from harness.scenario.verification import Expected, Mob, Seen, expectations, verify

TEXT = """
world:
  entities:
    - {type: villager, at: [0.5, 100, 3.5], ai: false}
    - {type: villager, at: [4.5, 100, 3.5], ai: false}
    - {type: cow, at: [-6.5, 100, 9.5]}
    - {type: armor_stand, at: [8.5, 100, 3.5]}
player: {at: [0.5, 100, 0.5], yaw: 179.9, hotbar: {0: wooden_axe, 3: {item: oak_log, count: 12}, 5: oak_log}}
episode: {settle_steps: 30}
"""


def setup_of(text: str = TEXT) -> WorldSetup:
    return compile_scenario(parse_scenario(text), seed=0)


GOOD = Seen(position=(0.5, 100.0, 0.6), yaw=-179.8, pitch=0.2, health=20.0, inventory={"wooden_axe": 1, "oak_log": 13,
            "air": 0}, mobs=(Mob("minecraft:villager", (4.5, 100.0, 3.5)), Mob("cow", (-3.0, 100.0, 7.0)),
                             Mob("villager", (0.5, 100.0, 3.6))))


def test_a_world_as_it_should_be() -> None:
    result = verify(expectations(setup_of(), 30), GOOD)
    assert result.wrong == () and result.unknown == ()
    assert result.n_met == len(expectations(setup_of(), 30)) == 10


def test_what_a_backend_cannot_tell_is_named() -> None:
    result = verify(expectations(setup_of()), Seen(position=(0.5, 100.0, 0.5)))
    assert result.wrong == () and result.n_met == 1
    assert set(result.unknown) == {"yaw", "pitch", "health", "item", "no other item", "mob"}
    assert verify(expectations(setup_of()), Seen()).n_met == 0


@pytest.mark.parametrize(("change", "words"), [
    ({"position": (0.5, 98.0, 0.5)}, "position 0.5 100 0.5 within 0.35, got 0.5 98 0.5"),
    ({"yaw": 0.0}, "yaw 179.9 within 1, got 0"),
    ({"pitch": 45.0}, "pitch 0 within 1, got 45"),
    ({"health": 19.0}, "health 20, got 19"),
    ({"inventory": {"wooden_axe": 1, "oak_log": 12}}, "item oak_log 13, got 12"),
    ({"inventory": {"wooden_axe": 1, "oak_log": 13, "dirt": 2}}, "no other item, got dirt"),
    ({"mobs": GOOD.mobs[:2]}, "mob villager 0.5 100 3.5 within 0.35, got none"),  # type: ignore[index]
    ({"mobs": (*GOOD.mobs, Mob("zombie", (9.0, 100.0, 9.0)))}, "no other creature, got zombie"),  # type: ignore[misc]
    ({"mobs": (*GOOD.mobs[1:], Mob("villager", (9.0, 100.0, 9.0)))}, "got 9 100 9"),  # type: ignore[index]
])
def test_what_is_wrong_is_said(change: dict[str, object], words: str) -> None:
    result = verify(expectations(setup_of(), 30), dataclasses.replace(GOOD, **change))  # type: ignore[arg-type]
    assert len(result.wrong) == 1 and words in result.wrong[0], result.wrong


def test_a_creature_without_a_mind_stands_still() -> None:
    still, walking = (next(e for e in expectations(setup_of(), 20) if e.name == name) for name in ("villager", "cow"))
    assert still.tolerance < 0.5 < 4 < walking.tolerance
    assert isinstance(still, Expected) and not [e for e in expectations(setup_of()) if e.name == "armor_stand"]


@pytest.mark.parametrize(("dialect", "folder", "number"), [("1.16.5", "functions", 6), ("1.21", "function", 48)])
def test_a_datapack_holds_every_command_once(dialect: str, folder: str, number: int) -> None:
    setup = setup_of("events: [{step: 3, fill: stone, from: [1, 100, 1], to: [1, 100, 2]}]")
    script = game_script(setup, dialect)  # type: ignore[arg-type]
    files = datapack(setup, dialect)  # type: ignore[arg-type]
    assert json.loads(files["pack.mcmeta"])["pack"]["pack_format"] == number
    assert json.loads(files[f"data/minecraft/tags/{folder}/tick.json"]) == {"values": ["harness:tick"]}
    lines = {path.rpartition("/")[2].removesuffix(".mcfunction"): text.splitlines() for path, text in files.items()
             if path.endswith(".mcfunction")}
    assert lines["session"] == [line.removeprefix("/") for line in script.session]
    assert lines["episode"] == [line.removeprefix("/") for line in script.episode]
    assert lines["event_3"] == [line.removeprefix("/") for line in script.events[3]]
    assert lines["begin"][0] == "tag @s add harness_ready"
    assert lines["begin"][-1] == f"schedule function harness:event_3 {script.settle_ticks + 4}t"
    assert not any(line.startswith("/") for text in lines.values() for line in text)


def test_a_game_settles_long_enough() -> None:
    assert game_script(setup_of(), "1.16.5").settle_ticks == 30
    assert game_script(setup_of("episode: {settle_steps: 0}"), "1.16.5").settle_ticks == 20
    assert game_script(setup_of("episode: {settle_steps: 0}"), "1.21").settle_ticks == 25
