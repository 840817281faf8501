"""Putting weights into a VPT policy: strictly from a state dict, or drawn from a seed."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import WeightsError, nearest_names

__all__ = ["EXACT", "at_precision", "check_weights", "load_weights", "random_weights"]

EXACT = "value_head.normalizer."
"""What stays float32 in every precision: three running statistics, whose small differences matter."""
_SHOWN = 8
"""Problems that an error lists."""
_COMPARED = 1000
"""Names among which the nearest is looked for."""


def at_precision(weights: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """Floating-point weights in ``float32``, ``bfloat16`` or ``float16``, but for ``EXACT``; the rest as it is."""
    dtype = getattr(torch, precision)
    return {name: weight.to(torch.float32 if EXACT in name else dtype)
            if isinstance(weight, Tensor) and weight.is_floating_point() else weight
            for name, weight in weights.items()}


def load_weights(module: nn.Module, weights: Mapping[str, Any], *, adopt: bool = False) -> None:
    """Put every tensor of ``weights`` in its place; all names, shapes and dtypes must fit.

    The module may be on the meta device.

    Args:
        module: What the weights are for.
        weights: Name to tensor.
        adopt: Make the given tensors themselves the parameters (nobody else may write to them, then), instead of
            copies that share nothing with ``weights``.

    Raises:
        WeightsError: naming each missing and unexpected weight (with the nearest names) and each wrong shape or dtype.
    """
    wanted = dict(module.state_dict())
    check_weights(wanted, weights)
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    own = {name: _laid_out(weights[name].detach(), adopt) for name in wanted}
    module.load_state_dict(own, strict=True, assign=True)
    module.register_state_dict_post_hook(_contiguous)  # type: ignore[no-untyped-call]
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)


def check_weights(wanted: Mapping[str, Tensor], weights: Mapping[str, Any]) -> None:
    """Refuse weights whose names, shapes or dtypes are not those of ``wanted`` (on any device, meta too).

    Raises:
        WeightsError: as in ``load_weights``.
    """
    problems = _name_problems(set(wanted), set(weights))
    for name, target in wanted.items():
        given = weights.get(name)
        if given is None:
            continue
        if not isinstance(given, Tensor):
            problems.append(f"{name}: expected a tensor, got {type(given).__name__}")
        elif given.shape != target.shape or given.dtype != target.dtype:
            problems.append(f"{name}: expected {_brief(target)}, got {_brief(given)}")
    if not problems:  # what does not fit is not worth reading through
        problems = [f"{name}: expected finite numbers, got NaN or infinity" for name in wanted
                    if not bool(weights[name].isfinite().all())]
    if problems:
        shown = problems[:_SHOWN] + ([f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else [])
        raise WeightsError("the weights do not fit the model:\n  " + "\n  ".join(shown),
                           hint="use the weights file that belongs to this model size and these keyword arguments")


def _laid_out(weight: Tensor, adopt: bool) -> Tensor:
    """Kernels of 3 x 3 channels last, as the pictures are: the same bits, 3 to 5 % sooner for a single frame."""
    layout = torch.channels_last if weight.shape[2:] == (3, 3) else torch.contiguous_format
    return weight.contiguous(memory_format=layout) if adopt else weight.clone(memory_format=layout)


def _contiguous(module: nn.Module, state_dict: dict[str, Any], prefix: str, metadata: Any) -> None:
    """What others get to see, and save, lies as it does in the files."""
    state_dict.update({name: weight.contiguous() for name, weight in state_dict.items() if weight.dim() == 4})


def _name_problems(wanted: set[str], given: set[str]) -> list[str]:
    missing, unexpected = sorted(wanted - given), sorted(given - wanted)
    rows = [("unexpected", name, missing or sorted(wanted)) for name in unexpected]
    rows += [("missing", name, unexpected) for name in missing]
    problems = []
    for number, (what, name, others) in enumerate(rows):
        # Looking for the nearest takes a while: only for those that are shown, and not among ever so many.
        close = nearest_names(name, others[:_COMPARED], n=1) if number < _SHOWN else []
        problems.append(f'{what} weight "{name[:200]}"' + (f" (nearest: {close[0][:200]})" if close else ""))
    return problems


def _brief(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def random_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Untrained weights that depend on names, shapes and ``seed`` alone, on every machine.

    Rows (the inputs of one unit) are normal numbers scaled to a fixed length, as the released training code does:
    1 as a rule, 0.1 for the two action heads and the value head, 1/sqrt(2) for the second convolution of each
    residual branch and the block outputs, so that depth does not blow the stream up. Norms start at 1 and 0, biases
    at 0, the value normaliser as identity. The age curves start small.
    """
    return {name: torch.from_numpy(_random_value(name, shape, seed)) for name, shape in shapes.items()}


def _random_value(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    if name.endswith(("running_mean_sq", "debiasing_term")) or (len(shape) == 1 and name.endswith("weight")):
        return np.ones(shape, np.float32)
    if len(shape) < 2:
        return np.zeros(shape, np.float32)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    rows = rng.standard_normal(shape).reshape(shape[0], -1)
    if name.endswith("b_nd"):
        return (0.1 * rows).reshape(shape).astype(np.float32)
    rows *= _row_length(name) / np.sqrt(np.square(rows).sum(1, keepdims=True))
    return rows.reshape(shape).astype(np.float32)


def _row_length(name: str) -> float:
    if name.startswith(("pi_head.", "value_head.")):
        return 0.1
    if ".conv1." in name or ".proj_layer." in name or ".mlp1." in name:
        return 1 / math.sqrt(2)
    # A ReLU halves the mean square; sqrt(2) in front of it keeps the scale.
    return math.sqrt(2) if ".mlp0." in name or ".cnn." in name or "lastlayer" in name or ".linear." in name else 1.0
