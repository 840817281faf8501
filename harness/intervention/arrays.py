"""Arrays inside interventions: frozen, comparable, and written into a recording's header as text."""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import InterventionError

__all__ = ["MOST_BYTES", "ArrayValue"]

MOST_BYTES = 64 * 2**20
"""Larger arrays are refused: a header is a text file."""

_DTYPES = ("float32", "uint8", "bool", "int64")


class ArrayValue:
    """An array that does not change. Equal when dtype, shape and bytes are.

    Args:
        values: Anything ``numpy.asarray`` takes; floats become float32, whole numbers int64, uint8 and bool stay.

    Raises:
        InterventionError: for values of another kind, NaN or infinities, or more than ``MOST_BYTES``.
    """

    __slots__ = ("array",)
    array: npt.NDArray[Any]

    def __init__(self, values: Any) -> None:
        try:
            array = np.asarray(values)
        except (ValueError, TypeError) as problem:
            raise InterventionError(f"expected numbers in rows of equal length: {problem}") from problem
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        elif array.dtype.kind in "iu" and array.dtype != np.uint8:
            array = array.astype(np.int64)
        if str(array.dtype) not in _DTYPES:
            raise InterventionError(f"expected an array of numbers, got one of {array.dtype}")
        if array.nbytes > MOST_BYTES:
            raise InterventionError(f"the array takes {array.nbytes / 2**20:.0f} MiB; {MOST_BYTES // 2**20} MiB is the "
                                    "most that an intervention may hold")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InterventionError("the array holds NaN or infinities")
        array = np.array(array, order="C")
        array.setflags(write=False)
        object.__setattr__(self, "array", array)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("an ArrayValue does not change")

    @classmethod
    def read(cls, value: Any) -> ArrayValue:
        """From ``describe()``'s mapping, from nested lists, an array, or another ``ArrayValue``.

        Raises:
            InterventionError: when it is none of these, or damaged.
        """
        if isinstance(value, ArrayValue):
            return value
        if not isinstance(value, Mapping):
            return cls(value)
        if set(value) != {"dtype", "shape", "data"}:
            raise InterventionError(f"expected an array as {{dtype, shape, data}} or as lists, got the keys "
                                    f"{sorted(map(str, value))}")
        dtype, shape = value["dtype"], value["shape"]
        if dtype not in _DTYPES or not isinstance(shape, list | tuple) or not all(
                isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
            raise InterventionError(f"expected a dtype among {', '.join(_DTYPES)} and a shape, got {dtype!r} "
                                    f"and {shape!r}")
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size > MOST_BYTES:
            raise InterventionError(f"an array of {size} bytes is more than an intervention may hold")
        try:
            # Never more than announced, whatever the packed data would grow to.
            unpacker = zlib.decompressobj()
            raw = unpacker.decompress(base64.b64decode(str(value["data"]), validate=True), size + 1)
        except (binascii.Error, zlib.error) as problem:
            raise InterventionError(f"the array's data is damaged: {problem}") from problem
        if len(raw) != size:
            raise InterventionError(f"the array's data has {'more than ' if len(raw) > size else ''}"
                                    f"{min(len(raw), size)} bytes; dtype and shape need {size}")
        return cls(np.frombuffer(raw, dtype).reshape(shape))

    def describe(self) -> dict[str, Any]:
        """As JSON values: dtype, shape, and the bytes, packed, as base64."""
        data = base64.b64encode(zlib.compress(self.array.tobytes(), 6)).decode("ascii")
        return {"dtype": str(self.array.dtype), "shape": list(self.array.shape), "data": data}

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return tuple(self.array.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArrayValue) and self.array.dtype == other.array.dtype and \
            self.shape == other.shape and self.array.tobytes() == other.array.tobytes()

    def __hash__(self) -> int:
        return hash((str(self.array.dtype), self.shape, self.array.tobytes()))

    def __repr__(self) -> str:
        return f"ArrayValue({self.array.dtype} {list(self.shape)})"
