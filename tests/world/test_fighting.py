"""Blows, wounds, death; creatures that walk, flee and bite."""

from __future__ import annotations

import pytest
from blocks import creature, play, world

from harness.scenario.setup import Fill


def press(simulation, every=10, n=1):
    """A blow, then the button released until the next."""
    events = []
    for _ in range(n):
        events += play(simulation, 1, attack=1)
        events += play(simulation, every - 1)
    return events


def kinds(events):
    return [event["type"] for event in events]


def test_twenty_blows_in_two_hundred_ticks_kill_a_villager():
    simulation = world(creature(), settle=20)
    events = press(simulation, n=19)
    assert kinds(events) == ["damage_entity"] * 19
    assert all(e["amount"] == pytest.approx(1.0) for e in events)
    assert simulation.entities()[0].health == pytest.approx(1.0)
    events = press(simulation)
    assert kinds(events) == ["damage_entity", "kill_entity"]
    assert events[1]["tag"] == "target" and events[1]["entity"] == "villager"
    assert simulation.statistics()["kill_entity.villager"] == 1
    assert simulation.statistics()["damage_dealt"] == 200
    assert not simulation.entities()[0].alive
    play(simulation, 20)
    assert simulation.entities() == ()


def test_holding_the_button_strikes_once():
    simulation = world(creature(), settle=20)
    assert kinds(play(simulation, 60, attack=1)) == ["damage_entity"]


def test_within_ten_ticks_only_the_excess_counts():
    simulation = world(creature(), settle=20)
    assert len(press(simulation, every=5)) == 1
    assert press(simulation, every=5) == []
    assert len(press(simulation, every=5)) == 1


def test_an_arm_that_has_not_recovered_strikes_weakly():
    simulation = world(creature(), settle=20)
    weak = [e["amount"] for e in press(simulation, every=2, n=40)]
    # s = min(1, (2 + 0.5) / 5): every second tick, so 0.2 + 0.8 * s^2 = 0.4 once the first blow's window is over
    assert weak[0] == pytest.approx(1.0)
    assert weak[1:] == [pytest.approx(0.4)] * 7


def test_beyond_three_blocks_a_blow_misses_and_the_held_button_waits_ten_ticks():
    far = world(creature(at=(0.5, 100.0, 3.85)), settle=20)
    assert far.looking_at().distance == pytest.approx(3.05) and not far.looking_at().reachable
    assert press(far) == []
    near = world(creature(at=(0.5, 100.0, 3.75)), settle=20)
    assert near.looking_at().reachable
    assert kinds(press(near)) == ["damage_entity"]
    waiting = world(Fill((0, 101, 3), (0, 101, 3), "oak_log"), yaw=90.0, settle=20)
    play(waiting, 1, attack=1)
    play(waiting, 9, attack=1, yaw=-10.0)
    assert waiting.looking_at().name == "oak_log" and waiting.player().dig == 0.0
    play(waiting, 3, attack=1)
    assert waiting.player().dig > 0.0


def test_a_nearer_block_hides_a_creature():
    simulation = world(creature(), Fill((0, 101, 1), (0, 101, 1), "glass"), settle=20)
    assert simulation.looking_at().name == "glass"
    assert kinds(press(simulation)) == []


def test_without_ai_it_is_hurt_but_neither_moves_nor_turns():
    simulation = world(creature(), settle=20)
    before = simulation.entities()[0]
    press(simulation, n=3)
    play(simulation, 40, forward=1)
    after = simulation.entities()[0]
    assert (after.position, after.yaw) == (before.position, before.yaw)
    assert after.health == pytest.approx(17.0)


def test_invulnerable_means_no_damage():
    simulation = world(creature(invulnerable=True), settle=20)
    assert press(simulation, n=3) == []
    assert simulation.entities()[0].health == 20.0


def test_a_blow_throws_back_and_a_sprinting_one_farther():
    away = []
    for keys in ({}, {"sprint": 1}):
        simulation = world(creature("zombie", at=(0.5, 100.0, 5.0), ai=True), at=(0.5, 100.0, 0.5), settle=0)
        simulation.set_difficulty("peaceful")
        for _ in range(60):
            play(simulation, 1, forward=1, **keys)
            if simulation.looking_at().reachable:
                break
        before = simulation.entities()[0].position[2]
        play(simulation, 1, forward=1, attack=1, **keys)
        play(simulation, 8)
        away.append(simulation.entities()[0].position[2] - before)
    assert away[0] > 0.8
    assert away[1] > away[0] + 0.3


def test_a_falling_blow_is_half_as_strong_again():
    simulation = world(creature(), settle=20)
    play(simulation, 1, jump=1)
    play(simulation, 8, pitch=3.0)
    assert simulation.player().fall > 0 and not simulation.player().on_ground
    (event,) = play(simulation, 1, attack=1)
    assert event["amount"] == pytest.approx(1.5)


def test_weapons_strike_harder_and_recover_more_slowly():
    simulation = world(creature(), hotbar={0: ("iron_sword", 1)}, settle=20)
    first, second = (e["amount"] for e in press(simulation, every=10, n=2))
    assert first == pytest.approx(6.0)
    assert second == pytest.approx(6.0 * (0.2 + 0.8 * (10.5 / 12.5) ** 2))


def test_armour_takes_four_per_cent_a_point():
    simulation = world(creature("zombie"), settle=20)
    assert press(simulation)[0]["amount"] == pytest.approx(1.0 - 0.04 * 2)


def test_an_armour_stand_breaks_at_a_second_hit_within_five_ticks():
    slow, quick = (world(creature("armor_stand"), settle=20) for _ in range(2))
    assert kinds(press(slow, every=10, n=5)) == ["damage_entity"] * 5
    assert kinds(press(quick, every=4, n=2)) == ["damage_entity", "damage_entity", "kill_entity"]
    assert not any(name.startswith("kill_entity") for name in quick.statistics())


def test_the_dead_drop_what_the_table_says_where_the_rule_allows():
    for rule, dropped in ((True, ["beef x1"]), (False, [])):
        simulation = world(creature("cow", health=1.0), doMobLoot=rule, settle=20, pitch=25.0)
        assert "kill_entity" in kinds(press(simulation))
        play(simulation, 12)
        assert [e.variant for e in simulation.entities()] == dropped


def test_a_villager_with_ai_flees_when_hurt():
    simulation = world(creature(ai=True), settle=0)
    assert press(simulation)
    before = simulation.entities()[0].position
    play(simulation, 60)
    after = simulation.entities()[0].position
    assert (after[0] - before[0]) ** 2 + (after[2] - before[2]) ** 2 > 1.0


def test_a_zombie_comes_bites_and_kills():
    simulation = world(creature("zombie", at=(0.5, 100.0, 12.0), ai=True), settle=0, naturalRegeneration=False)
    events = play(simulation, 80)
    while simulation.player().health > 0 and simulation.arrays.clock["tick"][0] < 800:
        events += play(simulation, 1)
    hurt = [e for e in events if e["type"] == "player_hurt"]
    assert hurt[0]["amount"] == 3.0 and len(hurt) == 7
    assert kinds(events)[-1] == "player_died"
    assert simulation.statistics()["deaths"] == 1
    still = simulation.player()
    play(simulation, 20, forward=1, yaw=5.0)
    assert simulation.player().yaw == still.yaw


def test_on_peaceful_it_does_not():
    simulation = world(creature("zombie", at=(0.5, 100.0, 3.0), ai=True), settle=0)
    simulation.set_difficulty("peaceful")
    assert play(simulation, 200) == []


def test_wounds_heal_slowly_where_the_rule_allows():
    healing, not_healing = world(health=10.0), world(health=10.0, naturalRegeneration=False)
    play(healing, 159)
    play(not_healing, 159)
    assert healing.player().health == 12.0
    assert not_healing.player().health == 10.0


def test_animals_stroll_but_not_through_walls_or_into_pits():
    fence = [Fill((-6, 100, 2), (6, 102, 14), "stone"), Fill((-5, 100, 3), (5, 102, 13), "air"),
             Fill((2, 95, 3), (5, 99, 13), "air")]
    cows = [creature("cow", at=(x + 0.5, 100.0, 8.5), ai=True, tag=None) for x in (-4, -2, 0)]
    simulation = world(*fence, *cows, settle=0)
    moved = 0.0
    for _ in range(60):
        play(simulation, 20)
        for entity in simulation.entities():
            x, y, z = entity.position
            assert -5.0 <= x <= 6.0 and 3.0 <= z <= 14.0
            assert y >= 99.9
            moved = max(moved, abs(x + 0.5) + abs(z - 8.5))
    assert moved > 2.0


def test_bodies_push_each_other_softly():
    simulation = world(creature("cow", at=(0.5, 100.0, 1.0), ai=True), settle=0)
    before = simulation.player().z
    play(simulation, 10)
    assert simulation.player().z < before
    assert simulation.entities()[0].position[2] > 1.0


def test_two_at_one_place_do_not_divide_by_zero():
    simulation = world(creature("cow", at=(0.5, 100.0, 0.5), ai=True), creature("cow", at=(0.5, 100.0, 0.5), ai=True))
    play(simulation, 50)
    for entity in simulation.entities():
        assert all(abs(v) < 1000 for v in entity.position)
