"""The action mapping equals the exhaustive golden tables, and what VPT can say survives the round trip."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from golden_policies import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

from harness.agent.action_mapping import (
    BUTTON_NAMES,
    CAMERA_BINS,
    INVENTORY,
    N_BUTTONS,
    N_CAMERA,
    NULL_CAMERA,
    button_table,
    camera_off,
    dequantise,
    from_policy,
    quantise,
    to_policy,
)
from harness.errors import AgentError, WorldError
from harness.world.action import BUTTONS, KEYS, check_action, noop_action

with np.load(GOLDEN / "golden_action_tables.npz", allow_pickle=False) as arrays:
    TABLES = {name: arrays[name] for name in arrays.files}
QUANTISER = json.loads((GOLDEN / "golden_quantizer.json").read_text())


def action(**keys: Any) -> dict[str, Any]:
    return {**noop_action(), **{name.replace("_", "."): value for name, value in keys.items()}}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return set(a) == set(b) and all(np.array_equal(a[key], b[key]) for key in a)


def test_every_button_combination() -> None:
    assert np.array_equal(button_table(), TABLES["button_idx_to_factored"])
    assert np.array_equal(camera_off(), TABLES["camera_meta_off"])


def test_every_combination_to_the_game_and_back() -> None:
    """8,641 combinations with a turn, each through both directions."""
    for index in range(N_BUTTONS):
        made = from_policy(index, 17)
        row = dict(zip(BUTTON_NAMES, TABLES["button_idx_to_factored"][index], strict=True))
        assert {key: made[key] for key in BUTTON_NAMES} == row
        assert sorted(made) == sorted(KEYS) and made["ESC"] == made["pickItem"] == made["swapHands"] == 0
        back = to_policy(made)
        if index == INVENTORY:
            assert back == (INVENTORY, NULL_CAMERA) and made["camera"].any()
        else:
            assert back == (index, NULL_CAMERA if TABLES["camera_meta_off"][index] else 17)


def test_every_camera_bin() -> None:
    degrees = np.array([QUANTISER["undiscretize"][str(i)] for i in range(CAMERA_BINS)])
    assert np.allclose(dequantise(np.arange(CAMERA_BINS)), degrees, rtol=0, atol=1e-12)
    for index in range(N_CAMERA):
        pitch, yaw = TABLES["camera_idx_to_factored"][index]
        turn = from_policy(1, index)["camera"]
        assert turn.dtype == np.float32
        assert np.array_equal(turn, degrees[[pitch, yaw]].astype(np.float32))
        assert to_policy(action(camera=turn))[1] == index


def test_quantiser_on_three_thousand_angles() -> None:
    assert np.array_equal(quantise(QUANTISER["degrees"]), QUANTISER["bins"])
    firsts = QUANTISER["first_value_of_each_next_bin"]
    assert list(quantise(firsts)) == list(range(1, CAMERA_BINS))


GRID = [float(np.float32(x)) for x in dequantise(np.arange(CAMERA_BINS))]


@st.composite
def sayable(draw: st.DrawFn) -> dict[str, Any]:
    """An action that VPT has words for: at most one key of each group, angles on the grid, inventory alone."""
    made = noop_action()
    if draw(st.integers(0, 20)) == 0:
        made["inventory"] = 1
        return made
    for group in (BUTTON_NAMES[11:], ("forward", "back"), ("left", "right"), ("sprint", "sneak"), ("use",), ("drop",),
                  ("attack",), ("jump",)):
        key = draw(st.sampled_from([None, *group]))
        if key is not None:
            made[key] = 1
    made["camera"] = np.array([draw(st.sampled_from(GRID)), draw(st.sampled_from(GRID))], dtype=np.float32)
    return made


@given(sayable())
def test_what_vpt_can_say_comes_back(made: dict[str, Any]) -> None:
    assert same(from_policy(*to_policy(made)), made)


@given(st.fixed_dictionaries({key: st.integers(0, 1) for key in BUTTONS}),
       st.tuples(st.floats(-180, 180), st.floats(-180, 180)))
def test_anything_settles_after_one_round_trip(keys: dict[str, int], camera: tuple[float, float]) -> None:
    once = from_policy(*to_policy({**keys, "camera": np.array(camera, np.float32)}))
    assert same(from_policy(*to_policy(once)), once)
    assert same(check_action(once), once)


@pytest.mark.parametrize(("pressed", "held"), [
    (("forward", "back"), ()), (("left", "right", "jump"), ("jump",)), (("sprint", "sneak"), ("sneak",)),
    (("hotbar.1", "hotbar.9", "hotbar.4"), ("hotbar.9",)), (("ESC", "pickItem", "swapHands"), ()),
    (("inventory", "attack", "forward"), ("inventory",)),
])
def test_what_vpt_cannot_say(pressed: tuple[str, ...], held: tuple[str, ...]) -> None:
    made = from_policy(*to_policy(dict.fromkeys(pressed, 1)))
    assert {key for key in BUTTONS if made[key]} == set(held)


def test_inventory_drops_the_turn_on_the_way_in_and_keeps_it_on_the_way_out() -> None:
    assert to_policy(action(inventory=1, camera=[10, 10])) == (INVENTORY, NULL_CAMERA)
    assert from_policy(INVENTORY, 120)["camera"].tolist() == [10, 10]


def test_a_turn_without_the_camera_switch_is_no_turn() -> None:
    assert not from_policy(0, 120)["camera"].any()
    assert from_policy(1, 120)["camera"].tolist() == [10, 10]


@pytest.mark.parametrize(("buttons", "camera"), [(8641, 0), (-1, 0), (0, 121), (0, -1)])
def test_indices_out_of_range(buttons: int, camera: int) -> None:
    with pytest.raises(AgentError, match=r"expected 0\.\."):
        from_policy(buttons, camera)


def test_unknown_key() -> None:
    with pytest.raises(WorldError, match="atack"):
        to_policy({"atack": 1})
