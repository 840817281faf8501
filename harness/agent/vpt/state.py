"""What a VPT policy remembers: keys, values and visibility of the last frames, per block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.agent.vpt.config import VPTConfig
from harness.errors import AgentError, unknown_name

__all__ = ["VPTState"]


@dataclass(frozen=True)
class VPTState:
    """The memory after some frames. Frozen, and its tensors are never changed in place: build a new one.

    The parts have public names: ``state.{i}.k``, ``.v``, ``.mask``, ``.age`` for block i.

    Attributes:
        keys: Per block [b, window, d] in the policy's precision, heads not split, oldest frame first.
        values: Like ``keys``.
        masks: Per block bool [b, window]: True where a frame is remembered and may be seen. What lies under a False
            is never read.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]

    @classmethod
    def empty(cls, config: VPTConfig, batch_size: int, device: torch.device | str = "cpu",
              dtype: torch.dtype = torch.float32) -> VPTState:
        """Nothing remembered."""
        blank = torch.zeros(batch_size, config.window, config.hidsize, device=device, dtype=dtype)
        mask = torch.zeros(batch_size, config.window, dtype=torch.bool, device=device)
        n = config.blocks
        return cls((blank,) * n, (blank,) * n, (mask,) * n)

    @property
    def batch_size(self) -> int:
        """How many episodes it holds."""
        return int(self.keys[0].shape[0])

    def names(self) -> list[str]:
        """The names of its parts, block by block."""
        return [f"state.{i}.{part}" for i in range(len(self.keys)) for part in ("k", "v", "mask", "age")]

    def __getitem__(self, name: str) -> Tensor:
        """One part: ``k``/``v`` float32 [b, window, d], ``mask`` bool [b, window], ``age`` int64 [b, window].

        ``age`` counts from the next frame: the newest remembered frame will have age 1, the oldest age ``window``.

        Raises:
            AgentError: for another name.
        """
        if name not in self.names():
            raise unknown_name("part of the memory", name, self.names(), error=AgentError)
        _, number, part = name.split(".")
        i = int(number)
        if part == "age":
            window = self.keys[i].shape[1]
            return torch.arange(window, 0, -1, device=self.keys[i].device).expand(self.batch_size, window)
        return {"k": self.keys, "v": self.values, "mask": self.masks}[part][i]

    def with_parts(self, parts: Mapping[str, Tensor]) -> VPTState:
        """A copy with some of ``state.{i}.k/v/mask`` exchanged.

        Raises:
            AgentError: for an unknown part, an age (it follows from the position), or a wrong shape or dtype.
        """
        fields = {"k": list(self.keys), "v": list(self.values), "mask": list(self.masks)}
        for name, new in parts.items():
            old = self[name]
            _, number, part = name.split(".")
            if part == "age":
                raise AgentError(f"{name} follows from the position in the window and cannot be set")
            if new.shape != old.shape or new.dtype != old.dtype:
                raise AgentError(f"{name}: expected {old.dtype} {tuple(old.shape)}, got {new.dtype} {tuple(new.shape)}")
            fields[part][int(number)] = new.to(old.device)
        return replace(self, keys=tuple(fields["k"]), values=tuple(fields["v"]), masks=tuple(fields["mask"]))

    @property
    def n_episodes(self) -> int:
        """How many episodes it is the memory of: as many as rows, unless each has several."""
        return self.batch_size

    def episode(self, number: int) -> VPTState:
        """The memory of one of the episodes, as views."""
        def rows(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(part[number::self.n_episodes] for part in parts)

        return _share_masks(replace(self, keys=rows(self.keys), values=rows(self.values), masks=rows(self.masks)))

    def repeated(self, n: int) -> VPTState:
        """The memory of every episode n times over, one after the other."""
        def rows(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(part.repeat_interleave(n, 0) for part in parts)

        return _share_masks(replace(self, keys=rows(self.keys), values=rows(self.values), masks=rows(self.masks)))

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """``state.{i}.k/v/mask`` as NumPy arrays of their own memory, for a snapshot; half precision as float32."""
        return {name: np.array(_wide(self[name]).cpu().numpy()) for name in self.names() if not name.endswith(".age")}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], config: VPTConfig,
                    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> VPTState:
        """Back from ``to_arrays``, for a policy that computes in ``dtype``.

        Raises:
            AgentError: for missing or unknown names, shapes or dtypes that do not fit the policy.
        """
        wanted = [name for name in cls.empty(config, 1).names() if not name.endswith(".age")]
        for name in arrays:
            if name not in wanted:
                raise unknown_name("part of the memory", name, wanted, error=AgentError)
        missing = [name for name in wanted if name not in arrays]
        if missing:
            raise AgentError(f"the memory lacks {', '.join(missing)}")
        batch = int(np.shape(arrays[wanted[0]])[0]) if np.ndim(arrays[wanted[0]]) else 0
        blank = cls.empty(config, batch, device)
        tensors = {name: torch.from_numpy(np.array(arrays[name])).to(device) for name in wanted}
        state = _share_masks(blank.with_parts(tensors))
        return replace(state, keys=tuple(x.to(dtype) for x in state.keys),
                       values=tuple(x.to(dtype) for x in state.values))


def _wide(x: Tensor) -> Tensor:
    """Half precision as float32, which holds it exactly; NumPy has no bfloat16."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _share_masks(state: VPTState) -> VPTState:
    """Equal masks become one tensor again, which spares the policy work."""
    first = state.masks[0]
    return replace(state, masks=tuple(first if torch.equal(first, mask) else mask for mask in state.masks))
