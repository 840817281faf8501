"""What a map is of: one number that the policy says, as a function of the picture with the memory held fixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from harness.agent.action_mapping import BUTTON_NAMES, N_CAMERA, button_table
from harness.agent.hooks import HookPoint
from harness.agent.vpt.agent import VPTAgent
from harness.agent.vpt.policy import VPTOutput
from harness.agent.vpt.state import VPTState
from harness.errors import HarnessError, unknown_name

__all__ = ["PictureFunction", "PictureTarget", "Readout", "read_target"]

_CAMERA = "camera."
_BATCH, _NUMBERS = 16, 4096
"""Pictures a pass takes at once, and how many times the policy's width that may be: gradients keep every layer."""


@dataclass(frozen=True)
class Readout:
    """One number of the policy's output.

    Attributes:
        name: A button, ``camera.0`` to ``camera.120``, or ``value``.
    """

    name: str

    @property
    def unit(self) -> str:
        """What it is, in words."""
        if self.name == "value":
            return "value"
        return f"log-probability of {self.name}" if self.name.startswith(_CAMERA) else f"log-odds of {self.name}"

    def of(self, out: VPTOutput) -> Tensor:
        """The number [b] of an output over one frame, differentiably.

        A button's log-odds: log-sum-exp over the joint classes with it, less that over those without. A camera bin's
        log-probability, after the temperature. The value as it is denormalised.
        """
        if self.name == "value":
            return out.value[:, 0]
        if self.name.startswith(_CAMERA):
            return out.camera[:, 0, int(self.name.removeprefix(_CAMERA))]
        held = torch.from_numpy(button_table()[:, BUTTON_NAMES.index(self.name)] != 0).to(out.buttons.device)
        joint = out.buttons[:, 0]
        return joint[:, held].logsumexp(-1) - joint[:, ~held].logsumexp(-1)


def read_target(name: str) -> Readout:
    """A target by its name.

    Raises:
        HarnessError: for a name that is none, with the nearest, or a camera bin that there is not.
    """
    if name in BUTTON_NAMES or name == "value":
        return Readout(name)
    number = name.removeprefix(_CAMERA)
    if name.startswith(_CAMERA) and number.isdecimal() and int(number) < N_CAMERA:
        return Readout(f"{_CAMERA}{int(number)}")
    if name.startswith("camera"):
        raise HarnessError(f"target: expected a camera bin from camera.0 to camera.{N_CAMERA - 1}, got {name!r}",
                           hint="bin = 11 * pitch + yaw, each 0 to 10; camera.60 is no turn")
    raise unknown_name("target", name, [*BUTTON_NAMES, "value", "camera.60"])


class PictureFunction(Protocol):
    """A number for each picture, and the image maps that it was computed from: all that the methods need."""

    def __call__(self, pictures: Tensor) -> Tensor:
        """[n] for pictures [n, H, W, 3], differentiably."""

    def with_maps(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and the last convolution stack's maps [n, C, h, w]."""

    @property
    def batch(self) -> int:
        """How many pictures to ask about at once."""


@dataclass(frozen=True)
class PictureTarget:
    """A target as a function of the picture alone: the memory is held fixed, once for each picture of a batch.

    Because the memory is closed over, and not an argument, whatever takes a function from tensors to tensors can be
    used on it; captum among them, which cannot batch over a memory that is a nested structure.

    Attributes:
        agent: Whose policy.
        state: The memory before the step.
        readout: Which number.
    """

    agent: VPTAgent
    state: VPTState
    readout: Readout

    @property
    def batch(self) -> int:
        """Few for wide policies."""
        return max(1, min(_BATCH, _NUMBERS // self.agent.policy.config.hidsize))

    @property
    def maps_hook(self) -> str:
        """Where the last convolution stack ends."""
        return f"cnn.stacks.{len(self.agent.policy.config.channels) - 1}.blocks.1.hook_resid_post"

    def __call__(self, pictures: Tensor) -> Tensor:
        """The number [n] for pictures float [n, H, W, 3] at the policy's size, 0 to 1."""
        return self.readout.of(self.agent.look_at(pictures, self.state))

    def with_maps(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and the last stack's maps [n, C, h, w]."""
        kept: list[Tensor] = []

        def keep(x: Tensor, hook: HookPoint) -> Tensor:
            # The policy's weights ask for no gradient, and the picture need not: the maps are where it begins.
            maps = x[:, 0] if x.requires_grad else x[:, 0].detach().requires_grad_()
            kept.append(maps)
            return maps[:, None]

        with self.agent.hooks([(self.maps_hook, keep)]):
            values = self(pictures)
        return values, kept[0]
