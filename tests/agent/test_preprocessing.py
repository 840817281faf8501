"""The resize equals OpenCV's bilinear one bit for bit, from the full picture and from its columns that matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden_policies import golden

from harness.agent.preprocessing import policy_frame, policy_frames
from harness.errors import AgentError


def sources() -> dict[str, np.ndarray]:
    y, x = np.mgrid[0:360, 0:640]
    gradient = np.stack([x * 255 // 639, y * 255 // 359, (x + y) * 255 // 998], axis=-1).astype(np.uint8)
    noise = np.random.default_rng(5).integers(0, 256, (360, 640, 3)).astype(np.uint8)
    return {"noise": noise, "gradient": gradient}


@pytest.mark.parametrize("name", ["noise", "gradient"])
def test_golden_resize_bit_for_bit(name: str) -> None:
    _, arrays = golden("resize")
    pov = sources()[name]
    assert np.array_equal(policy_frame(pov), arrays[f"{name}_out"])
    assert np.array_equal(policy_frame(pov[:, 2::5]), arrays[f"{name}_out"])
    assert np.array_equal(policy_frame(np.ascontiguousarray(pov[:, 2::5])), arrays[f"{name}_out"])


def test_many_at_once() -> None:
    pair = np.stack(list(sources().values()))
    assert np.array_equal(policy_frames(pair)[1], policy_frame(pair[1]))


def test_other_sizes_are_stretched() -> None:
    assert policy_frame(np.zeros((720, 1280, 3), np.uint8)).shape == (128, 128, 3)
    assert policy_frame(sources()["noise"], 16, 16).shape == (16, 16, 3)


@pytest.mark.parametrize("pov", [np.zeros((360, 640, 3), np.float32), np.zeros((360, 640), np.uint8), [[1]], None,
                                 np.zeros((0, 640, 3), np.uint8), np.zeros((360, 640, 4), np.uint8)])
def test_what_is_no_picture(pov: Any) -> None:
    with pytest.raises(AgentError, match="expected uint8"):
        policy_frame(pov)


def test_no_frames() -> None:
    with pytest.raises(AgentError, match="expected uint8"):
        policy_frames(np.zeros((0, 360, 640, 3), np.uint8))
