"""From the world's picture to the policy's: one resize, nothing else (the policy itself divides by 255)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from harness.errors import AgentError

__all__ = ["policy_frame", "policy_frames"]


def policy_frame(pov: npt.NDArray[np.uint8], height: int = 128, width: int = 128) -> npt.NDArray[np.uint8]:
    """The policy's picture uint8 [height, width, 3] of a game picture, stretched bilinearly as VPT was trained.

    From 640 to 128 columns is a factor of 5: bilinear sampling falls exactly on column 5x + 2, so a world may draw
    those columns alone.

    Args:
        pov: uint8 [360, 640, 3] RGB, or the same picture's columns 2, 7, 12, ... as uint8 [360, 128, 3], which gives
            the same result bit for bit; other sizes are stretched too.
        height: Of the result.
        width: Of the result.

    Raises:
        AgentError: for anything but a colour picture of bytes.
    """
    if not isinstance(pov, np.ndarray) or pov.dtype != np.uint8 or pov.ndim != 3 or pov.shape[2] != 3 or not pov.size:
        raise AgentError(f"pov: expected uint8 [360, 640, 3], got {_brief(pov)}")
    picture = cv2.resize(np.ascontiguousarray(pov), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(picture, dtype=np.uint8)


def policy_frames(frames: npt.NDArray[np.uint8], height: int = 128, width: int = 128) -> npt.NDArray[np.uint8]:
    """``policy_frame`` over uint8 [t, H, W, 3], giving [t, height, width, 3]."""
    if not isinstance(frames, np.ndarray) or frames.ndim != 4 or not len(frames):
        raise AgentError(f"frames: expected uint8 [t, 360, 640, 3], got {_brief(frames)}")
    return np.stack([policy_frame(frame, height, width) for frame in frames])


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__
