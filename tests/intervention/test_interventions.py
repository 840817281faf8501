"""One thing is changed, a copy is returned, and everything else stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.hooks import HookPoint
from harness.agent.scripted import NoopAgent
from harness.errors import InterventionError
from harness.intervention import ActionOverride, PixelMask, ZeroAblation
from harness.intervention.build import build_intervention
from harness.intervention.intervention import Moment, Span
from harness.world.action import BUTTONS, KEYS, noop_action

MOMENT = Moment(0, np.random.default_rng(0), {}, NoopAgent(), {})
SPAN = Span(range(3), (True,) * 3, lambda step: np.random.default_rng(step), {})


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 30), st.integers(0, 20), st.integers(1, 40), st.integers(1, 40))
def test_a_mask_covers_its_rectangle_and_nothing_else(x: int, y: int, width: int, height: int) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (36, 64, 3), dtype=np.uint8)
    before = picture.copy()
    covered = PixelMask(x, y, x + width, y + height, (255, 1, 2)).change_input(picture, MOMENT)
    inside = np.zeros((36, 64), bool)
    inside[y:y + height, x:x + width] = True
    assert (covered[inside] == (255, 1, 2)).all() and np.array_equal(covered[~inside], before[~inside])
    assert np.array_equal(picture, before)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(BUTTONS), st.integers(0, 1), min_size=1))
def test_an_override_holds_its_keys_and_nothing_else(keys: dict[str, int]) -> None:
    action = {**noop_action(), "forward": 1, "camera": np.array([1.0, 2.0], np.float32)}
    before = {k: np.array(v) for k, v in action.items()}
    changed = ActionOverride(keys).change_action(action, MOMENT)
    assert set(changed) == set(KEYS) and all(changed[k] == v for k, v in keys.items())
    assert all(np.array_equal(changed[k], before[k]) for k in KEYS if k not in keys)
    assert all(np.array_equal(action[k], before[k]) for k in KEYS)


def test_the_camera_can_be_held() -> None:
    changed = ActionOverride({"camera": [1, -2.5]}).change_action(noop_action(), MOMENT)
    assert changed["camera"].dtype == np.float32 and changed["camera"].tolist() == [1.0, -2.5]


@pytest.mark.parametrize(("hook", "shape", "axis"), [
    ("blocks.2.attn.hook_z", (1, 1, 4, 8), 2), ("blocks.0.attn.hook_pattern", (1, 4, 1, 129), 1),
    ("blocks.*.attn.hook_result", (1, 3, 4, 8), 2)])
def test_one_head_is_zeroed(hook: str, shape: tuple[int, ...], axis: int) -> None:
    torch = pytest.importorskip("torch")
    value = torch.rand(shape) + 1
    before = value.clone()
    ((name, edit),) = ZeroAblation(hook, head=3).edits()
    point = HookPoint(hook, ("b", "h", "t", "T") if axis == 1 else ("b", "t", "h", "d_head"), shape[2:])
    changed = edit(value, point, SPAN)
    assert name == hook and torch.equal(value, before)
    assert not changed.select(axis, 3).any()
    for head in range(3):
        assert torch.equal(changed.select(axis, head), before.select(axis, head))
    with pytest.raises(InterventionError, match="heads 0 to 3, got head 4"):
        ZeroAblation(hook, head=4).edits()[0][1](value, point, SPAN)


def test_a_whole_activation_is_zeroed() -> None:
    torch = pytest.importorskip("torch")
    value, point = torch.full((1, 1, 8), float("nan")), HookPoint("blocks.0.hook_resid_post", ("b", "t", "d"), (8,))
    assert torch.equal(ZeroAblation("blocks.0.hook_resid_post").edits()[0][1](value, point, SPAN), torch.zeros(1, 1, 8))


def test_other_sites_are_left_alone() -> None:
    picture, action = np.zeros((36, 64, 3), np.uint8), noop_action()
    assert ActionOverride({"use": 1}).change_input(picture, MOMENT) is picture
    assert PixelMask(0, 0, 1, 1).change_action(action, MOMENT) is action
    assert PixelMask(0, 0, 1, 1).edits() == ()


@pytest.mark.parametrize("made", [PixelMask(1, 2, 3, 4, (5, 6, 7)), ActionOverride({"attack": 0, "camera": [0, 1]}),
                                  ZeroAblation("blocks.1.attn.hook_z", 2), ZeroAblation("blocks.1.hook_mlp_out")])
def test_a_description_builds_the_same_again(made: PixelMask | ActionOverride | ZeroAblation) -> None:
    import json

    assert build_intervention(json.loads(json.dumps(made.describe()))) == made


@pytest.mark.parametrize(("spec", "message"), [
    ({"kind": "ZeroAblaton", "hook": "x"}, 'unknown intervention "ZeroAblaton"'),
    ({"kind": "ZeroAblation", "hok": "x"}, 'unknown field of ZeroAblation "hok"'),
    ({"kind": "ZeroAblation"}, "ZeroAblation needs hook"),
    ({"kind": "ZeroAblation", "hook": "blocks.0.hook_resid_post", "head": 1}, "has no heads"),
    ({"kind": "ZeroAblation", "hook": "blocks.0.attn.hook_z", "head": -1}, "expected a head from 0 on"),
    ({"kind": "PixelMask", "x0": 5, "y0": 0, "x1": 5, "y1": 9}, "0 <= x0 < x1"),
    ({"kind": "PixelMask", "x0": 0, "y0": 0, "x1": 5, "y1": 9, "colour": [0, 0, 256]}, "expected a colour"),
    ({"kind": "PixelMask", "x0": "a", "y0": 0, "x1": 5, "y1": 9}, "PixelMask:"),
    ({"kind": "ActionOverride", "keys": {"atack": 1}}, 'unknown action key "atack"'),
    ({"kind": "ActionOverride", "keys": {"attack": 3}}, "expected 0 or 1"),
    ({"kind": "ActionOverride", "keys": {}}, "expected keys"),
    ({"hook": "x"}, "with a kind"),
])
def test_what_does_not_fit_is_named(spec: dict[str, object], message: str) -> None:
    with pytest.raises(InterventionError, match=message) as found:
        build_intervention(spec, where="scenario x")
    assert "(" not in type(found.value).__name__
