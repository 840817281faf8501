"""Which vectors a hook's activation holds: one a frame, one a head, or one a place in the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import HookError

__all__ = ["Tokens", "token_layout"]


@dataclass(frozen=True)
class Tokens:
    """The vectors ("tokens") that a hook has in one step.

    Attributes:
        axes: What counts them: () one a frame, ("h",) heads, ("H", "W") places, ("p",) class token and patches.
        shape: Sizes of these axes.
        width: Numbers per token, d.
        moved: Whether the numbers lie on the first axis (feature maps [C, H, W]) and not on the last.
    """

    axes: tuple[str, ...]
    shape: tuple[int, ...]
    width: int
    moved: bool = False

    @property
    def per_step(self) -> int:
        """Tokens in one step."""
        return math.prod(self.shape)

    def kinds(self) -> list[str]:
        """The type of each token: ``frame``, ``head 3``, ``CLS`` or ``patch``."""
        if not self.axes:
            return ["frame"]
        if self.axes == ("h",):
            return [f"head {i}" for i in range(self.shape[0])]
        return [*(["CLS"] if self.has_class_token else []), *["patch"] * (self.grid[0] * self.grid[1])]

    @property
    def has_class_token(self) -> bool:
        """Whether token 0 is a class token: one more than a square number of patches."""
        return self.axes == ("p",) and math.isqrt(self.shape[0] - 1) ** 2 == self.shape[0] - 1

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the places in the picture, patches in reading order; (0, 0) where there are none."""
        if self.axes == ("H", "W"):
            return self.shape[0], self.shape[1]
        if self.axes != ("p",):
            return 0, 0
        n = self.shape[0] - self.has_class_token
        return (math.isqrt(n), math.isqrt(n)) if math.isqrt(n) ** 2 == n else (1, n)

    def split(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Activations [n, ...] as tokens, float32 [n * per_step, d], those of a step together."""
        laid = np.moveaxis(values, 1, -1) if self.moved else values
        return np.ascontiguousarray(laid.reshape(-1, self.width), np.float32)


def token_layout(hook: str, axes: Sequence[str], shape: Sequence[int]) -> Tokens:
    """The tokens of a hook.

    Args:
        hook: Its name, for the error.
        axes: What its axes count, with ``b`` and ``t`` or without.
        shape: Sizes of those other than ``b`` and ``t``.

    Raises:
        HookError: where the last axis is no vector, such as in attention patterns.
    """
    own = tuple(axis for axis in axes if axis not in ("b", "t"))
    if len(own) == 3 and own == ("C", "H", "W"):
        return Tokens(own[1:], tuple(shape[1:]), int(shape[0]), moved=True)
    if own and own[:-1] in ((), ("h",), ("p",)) and own[-1] not in ("T", "P", "rgb"):
        return Tokens(own[:-1], tuple(shape[:-1]), int(shape[-1]))
    raise HookError(f'"{hook}" with the axes [{" ".join(axes)}] is no vector per frame, head or place, so there is '
                    "nothing for an SAE to take apart", hint="such as blocks.2.hook_resid_post, or attn.hook_z")
