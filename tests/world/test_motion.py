"""The player's body against the figures of the game (figures.yaml names their sources)."""

from __future__ import annotations

import pytest
from blocks import block, play, world

from harness.scenario.setup import Fill


def speed(simulation, n=200, warm=60, **keys):
    play(simulation, warm, forward=1, **keys)
    before = simulation.player().z
    play(simulation, n, forward=1, **keys)
    return (simulation.player().z - before) * 20 / n


def test_walks_at_4_317_blocks_a_second():
    assert speed(world()) == pytest.approx(4.317, abs=0.001)


def test_sprints_at_5_612():
    assert speed(world(), sprint=1) == pytest.approx(5.612, abs=0.001)


def test_sneaks_at_1_295():
    assert speed(world(), sneak=1) == pytest.approx(1.295, abs=0.001)


def test_sprint_jumps_at_7_127():
    # Twelve ticks a jump: a whole number of jumps, or the mean depends on where it is cut.
    assert speed(world(), n=240, warm=120, sprint=1, jump=1) == pytest.approx(7.127, abs=0.002)


def test_walking_at_an_angle_is_no_faster():
    straight, slant = world(), world()
    play(straight, 100, forward=1)
    play(slant, 100, forward=1, left=1)
    p, q = straight.player(), slant.player()
    assert q.x > 1 and q.z > 1
    assert (q.x - 0.5) ** 2 + (q.z - 0.5) ** 2 <= (p.z - 0.5) ** 2 * 1.05


def test_jumps_1_2522_high():
    simulation = world()
    play(simulation, 1, jump=1)
    top = simulation.player().y
    for _ in range(12):
        play(simulation)
        top = max(top, simulation.player().y)
    assert top - 100.0 == pytest.approx(1.2522, abs=0.0001)
    assert simulation.player().y == 100.0
    assert simulation.statistics()["jump"] == 1


def test_holding_jump_repeats_only_after_ten_ticks_on_a_low_roof():
    # Under a roof two blocks up a jump lasts a few ticks, so the delay alone decides.
    simulation = world(Fill((-2, 102, -2), (2, 102, 2), "stone"))
    play(simulation, 30, jump=1)
    assert simulation.statistics()["jump"] == 3
    again = world(Fill((-2, 102, -2), (2, 102, 2), "stone"))
    for _ in range(15):
        play(again, 1, jump=1)
        play(again, 1)
    assert again.statistics()["jump"] > 3  # letting go lifts the delay


def test_falls_with_gravity_and_drag():
    simulation = world(at=(0.5, 110.0, 0.5), settle=0)
    speeds = []
    for _ in range(3):
        play(simulation)
        speeds.append(simulation.player().vy)
    v = -0.0784
    for seen in speeds:
        v = (v - 0.08) * 0.98
        assert seen == pytest.approx(v, abs=1e-12)


def test_a_wall_stops_and_a_jump_climbs_it():
    simulation = world(Fill((-3, 100, 3), (3, 100, 6), "stone"))
    play(simulation, 40, forward=1)
    assert simulation.player().z == pytest.approx(2.7, abs=1e-6)
    play(simulation, 20, forward=1, jump=1)
    assert simulation.player().y > 100.9
    assert simulation.player().z > 3.0


def test_a_gap_as_wide_as_the_body_lets_it_through():
    walls = [Fill((-3, 100, 3), (-1, 102, 3), "stone"), Fill((1, 100, 3), (3, 102, 3), "stone")]
    simulation = world(*walls)
    play(simulation, 60, forward=1)
    assert simulation.player().z > 4.5


def test_a_roof_ends_a_jump():
    simulation = world(block(0, 102, 0, "stone"))
    tops = []
    for _ in range(10):
        play(simulation, 1, jump=1)
        tops.append(simulation.player().y)
    assert max(tops) == pytest.approx(100.2, abs=1e-9)


def test_sneaking_does_not_fall_off_an_edge_but_walking_does():
    pit = Fill((-8, 92, 2), (8, 99, 12), "air")
    careful, careless = world(pit), world(pit)
    play(careful, 100, forward=1, sneak=1)
    assert careful.player().y == 100.0
    assert careful.player().z < 2.3
    play(careless, 100, forward=1)
    assert careless.player().y < 99.0


def test_sprint_needs_forward_and_ends_at_a_wall_and_by_sneaking():
    simulation = world(Fill((-3, 100, 12), (3, 102, 12), "stone"))
    play(simulation, 3, sprint=1)
    assert not simulation.player().sprinting
    play(simulation, 3, sprint=1, forward=1)
    assert simulation.player().sprinting
    play(simulation, 3, forward=1)
    assert simulation.player().sprinting  # it goes on without the key
    play(simulation, 1, forward=1, sneak=1)
    assert not simulation.player().sprinting
    play(simulation, 80, sprint=1, forward=1)
    assert not simulation.player().sprinting


def test_camera_turns_in_degrees_and_pitch_stops_at_ninety():
    simulation = world()
    play(simulation, 1, pitch=10.0, yaw=30.0)
    assert (simulation.player().pitch, simulation.player().yaw) == (10.0, 30.0)
    play(simulation, 12, pitch=10.0)
    assert simulation.player().pitch == 90.0
    play(simulation, 1, yaw=170.0)
    assert simulation.player().yaw == -160.0


def test_yaw_zero_walks_to_plus_z_and_ninety_to_minus_x():
    south, west = world(yaw=0.0), world(yaw=90.0)
    play(south, 20, forward=1)
    play(west, 20, forward=1)
    assert south.player().z > 3 and abs(south.player().x - 0.5) < 0.01
    assert west.player().x < -2 and abs(west.player().z - 0.5) < 0.01


def test_water_slows_and_carries_upwards():
    pool = [Fill((-4, 95, 2), (4, 99, 20), "water")]
    simulation = world(*pool)
    play(simulation, 60, forward=1)
    assert simulation.player().in_water and simulation.player().y < 99.5
    before = simulation.player().z
    play(simulation, 20, forward=1)
    assert 0.5 < simulation.player().z - before < 3.0
    low = simulation.player().y
    play(simulation, 15, jump=1)
    assert simulation.player().y > low + 0.5


def test_a_fall_hurts_only_where_the_rule_says_so():
    high = (0.5, 108.0, 0.5)
    safe, hurt = world(at=high, settle=40), world(at=high, settle=0, fallDamage=True)
    assert safe.player().health == 20
    events = play(hurt, 40)
    assert hurt.player().health == 15  # eight blocks, three of them free
    assert [e["type"] for e in events] == ["player_hurt"]
    assert hurt.statistics()["damage_taken"] == 50


def test_ways_are_counted_in_centimetres():
    simulation = world()
    start = simulation.player().z
    play(simulation, 100, forward=1)
    walked = simulation.statistics()["walk_one_cm"]
    assert walked == pytest.approx(100 * (simulation.player().z - start), rel=0.02)
    play(simulation, 50, forward=1, sprint=1)
    play(simulation, 50, forward=1, sneak=1)
    counted = simulation.statistics()
    assert counted["sprint_one_cm"] > 900 and counted["crouch_one_cm"] > 200
    assert counted["walk_one_cm"] < walked + 50
    assert counted["play_time"] == 202


def test_the_plain_goes_on_beyond_the_stored_box():
    simulation = world()
    play(simulation, 600, forward=1, sprint=1)
    assert simulation.player().z > 100 and simulation.player().y == 100.0
