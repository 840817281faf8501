"""Striking, digging, placing, carrying."""

from __future__ import annotations

import dataclasses
import json

import pytest
from blocks import block, creature, play, world

from harness.scenario.setup import Fill


def until(simulation, event, limit=400, **keys):
    """Ticks until an event comes, counting its own."""
    for n in range(1, limit + 1):
        if any(e["type"] == event for e in play(simulation, 1, **keys)):
            return n
    raise AssertionError(f"no {event} in {limit} ticks")


@pytest.mark.parametrize(("name", "ticks"), [
    ("oak_log", 60), ("oak_planks", 60), ("dirt", 15), ("grass_block", 18), ("oak_leaves", 6), ("stone", 150),
])
def test_breaking_by_hand_takes(name, ticks):
    simulation = world(block(0, 101, 2, name))
    assert simulation.looking_at().name == name
    assert until(simulation, "mine_block", attack=1) == ticks
    assert simulation.grid.get(0, 101, 2) == 0
    assert simulation.statistics()[f"mine_block.{name}"] == 1


@pytest.mark.parametrize(("tool", "name", "ticks"), [
    ("wooden_axe", "oak_log", 30), ("iron_axe", "oak_log", 10), ("wooden_pickaxe", "stone", 23),
    ("wooden_shovel", "dirt", 8), ("wooden_pickaxe", "oak_log", 60),
])
def test_a_tool_is_quick_on_its_own_blocks(tool, name, ticks):
    simulation = world(block(0, 101, 2, name), hotbar={0: (tool, 1)})
    assert until(simulation, "mine_block", attack=1) == ticks


def test_in_the_air_digging_is_five_times_slower():
    simulation = world(block(0, 101, 3, "oak_log"), pitch=11.3)  # low on the block: a rising eye stays on it
    play(simulation, 1, attack=1)
    grounded = simulation.player().dig
    play(simulation, 1, attack=1, jump=1)  # the hands work before the jump
    before = simulation.player().dig
    play(simulation, 1, attack=1)
    assert simulation.player().dig - before == pytest.approx(grounded / 5)


def test_letting_go_or_looking_away_starts_anew():
    simulation = world(block(0, 101, 2, "oak_log"), block(1, 101, 2, "oak_log"))
    play(simulation, 40, attack=1)
    play(simulation, 1)
    assert simulation.player().dig == 0.0
    play(simulation, 40, attack=1)
    play(simulation, 1, attack=1, yaw=-25.0)
    assert simulation.player().dig == 0.0
    assert until(simulation, "mine_block", attack=1) == 60


def test_after_a_block_the_next_one_waits_six_ticks():
    simulation = world(block(0, 101, 2, "oak_leaves"), block(0, 101, 3, "oak_leaves"))
    assert until(simulation, "mine_block", attack=1) == 6
    assert until(simulation, "mine_block", attack=1) == 5 + 1 + 6


def test_out_of_reach_nothing_breaks():
    near, far = world(block(0, 101, 5, "oak_leaves")), world(block(0, 101, 5, "oak_leaves"), at=(0.5, 100.0, 0.4))
    assert near.looking_at().distance == pytest.approx(4.5) and near.looking_at().reachable
    assert until(near, "mine_block", attack=1) == 6
    assert not far.looking_at().reachable
    assert play(far, 30, attack=1) == []


def test_bedrock_the_void_below_and_the_ground_outside_do_not_break():
    simulation = world(block(0, 99, 0, "bedrock"), pitch=90.0)
    assert play(simulation, 200, attack=1) == []
    outside = world(at=(200.5, 100.0, 0.5), pitch=60.0)
    outside.teleport((0.5, 100.0, 300.5), 0.0, 60.0)
    assert play(outside, 100, attack=1) == []


def test_a_broken_log_falls_and_is_picked_up():
    simulation = world(block(0, 101, 1, "oak_log"))
    until(simulation, "mine_block", attack=1)
    assert [e.type for e in simulation.entities()] == ["item"]
    assert simulation.entities()[0].variant == "oak_log x1"
    events = play(simulation, 9)
    assert events == []  # ten ticks pass before it can be taken
    assert until(simulation, "pickup", limit=20, forward=1) <= 12
    assert simulation.player_state().hotbar[0] == ("oak_log", 1)
    assert simulation.statistics()["pickup.oak_log"] == 1
    assert simulation.entities() == ()


def test_all_that_is_read_is_plain_python():
    simulation = world(block(0, 101, 1, "oak_log"))
    until(simulation, "mine_block", attack=1)
    state = dataclasses.asdict(simulation.state())
    assert json.loads(json.dumps(state))["entities"][0]["type"] == "item"
    assert state["events"][0] == {"type": "mine_block", "block": "oak_log", "position": [0, 101, 1]}


def test_drops_follow_the_table_and_the_rule():
    for name, drop in (("grass_block", "dirt x1"), ("oak_leaves", None), ("stone", None)):
        simulation = world(block(0, 101, 2, name))
        until(simulation, "mine_block", attack=1)
        assert [e.variant for e in simulation.entities()] == ([drop] if drop else [])
    barren = world(block(0, 101, 2, "dirt"), doTileDrops=False)
    until(barren, "mine_block", attack=1)
    assert barren.entities() == ()
    picked = world(block(0, 101, 2, "stone"), hotbar={0: ("wooden_pickaxe", 1)})
    until(picked, "mine_block", attack=1)
    assert [e.variant for e in picked.entities()] == ["cobblestone x1"]


def test_items_rot_after_five_minutes():
    simulation = world(block(0, 101, 4, "dirt"))
    until(simulation, "mine_block", attack=1)
    play(simulation, 5998)
    assert len(simulation.entities()) == 1
    play(simulation, 2)
    assert simulation.entities() == ()


def test_placing_uses_one_and_not_where_a_body_stands():
    simulation = world(hotbar={0: ("oak_planks", 3)}, pitch=45.0)
    events = play(simulation, 1, use=1)
    assert [e["type"] for e in events] == ["place_block"]
    assert simulation.grid.get(*events[0]["position"]) == 20
    assert events[0]["position"][1] == 100
    assert simulation.player_state().hotbar[0] == ("oak_planks", 2)
    assert simulation.statistics()["use_item.oak_planks"] == 1
    inside = world(hotbar={0: ("oak_planks", 3)}, pitch=90.0)
    assert play(inside, 1, use=1) == []
    blocked = world(creature(at=(0.5, 100.0, 2.0)), hotbar={0: ("oak_planks", 3)}, pitch=40.0)
    blocked.teleport((0.5, 100.0, 0.2), 0.0, 40.0)
    blocked.look()
    assert blocked.looking_at().kind in ("block", "entity")
    assert play(blocked, 1, use=1) == []


def test_holding_use_places_every_four_ticks():
    simulation = world(Fill((0, 101, 3), (0, 101, 3), "stone"), hotbar={0: ("dirt", 64)}, pitch=50.0)
    placed = [n for n in range(12) if play(simulation, 1, use=1, yaw=12.0)]
    assert placed[0] == 0
    assert all(b - a >= 4 for a, b in zip(placed, placed[1:], strict=False)) and len(placed) >= 2


def test_a_crafting_table_opens_nothing_and_takes_no_block_unless_sneaking():
    table = block(0, 101, 2, "crafting_table")
    assert play(world(table, hotbar={0: ("dirt", 1)}), 3, use=1) == []
    sneaking = world(table, hotbar={0: ("dirt", 1)})
    play(sneaking, 2, sneak=1)
    assert [e["type"] for e in play(sneaking, 1, sneak=1, use=1)] == ["place_block"]


def test_hotbar_drop_and_pick():
    simulation = world(block(0, 101, 3, "oak_log"), hotbar={1: ("stick", 2), 5: ("oak_log", 4)})
    play(simulation, 1, hotbar_2=1)
    assert simulation.player().selected == 1
    events = play(simulation, 5, drop=1)
    assert [(e["type"], e["item"]) for e in events] == [("drop", "stick")]  # once a press
    assert simulation.player_state().hotbar[1] == ("stick", 1)
    assert simulation.statistics()["drop.stick"] == 1
    play(simulation, 1, pickItem=1)
    assert simulation.player().selected == 5
    play(simulation, 80, forward=1)
    assert simulation.statistics()["pickup.stick"] == 1


def test_an_open_inventory_holds_hands_feet_and_head_still():
    simulation = world(block(0, 101, 2, "oak_log"))
    play(simulation, 1, inventory=1)
    assert simulation.view().gui == "inventory"
    still = simulation.player()
    play(simulation, 20, forward=1, attack=1, jump=1, inventory=1, pitch=5.0, yaw=5.0)
    after = simulation.player()
    assert (after.x, after.y, after.z, after.yaw, after.pitch, after.dig) == (
        still.x, still.y, still.z, still.yaw, still.pitch, 0.0)
    play(simulation, 1)
    play(simulation, 1, ESC=1)
    assert simulation.view().gui == ""
    play(simulation, 5, ESC=1, swapHands=1)
    assert simulation.view().gui == ""
    play(simulation, 10, forward=1)
    assert simulation.player().z > still.z
