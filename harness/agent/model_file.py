"""The ``.model`` files of the released agents: pickles that hold keyword arguments."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

from harness.agent.pickles import walk_pickle
from harness.errors import WeightsError

__all__ = ["read_model_file"]

LARGEST = 4 << 20
"""Bytes. The released files have a few thousand."""
_INERT = ("gym3.types.", "gym.spaces.")
"""Beginnings of names that may stand in a file (they describe what the policy sees and does) and become records."""
_TO_POLICY = ("model", "args", "net", "args")
_TO_HEAD = ("model", "args", "pi_head_opts")


def read_model_file(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keyword arguments of the policy and of its action head from a released ``.model`` file.

    No code in the file is run and nothing it names is imported; gym3 is not needed.

    Args:
        path: Such as ``2x.model``.

    Returns:
        ``policy_kwargs`` and ``pi_head_kwargs`` (the temperature, a float), as ``VPTPolicy.from_released`` takes them.

    Raises:
        WeightsError: for a missing, damaged or foreign file, and for one that asks for anything that is not listed.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            raise WeightsError(f"the file has {path.stat().st_size:,} bytes, expected at most {LARGEST:,}",
                               hint="is it a .weights file?")
        stream = io.BytesIO(path.read_bytes())
        table = walk_pickle(stream, lambda name: name.startswith(_INERT))
        if stream.read(1):
            raise WeightsError("the file goes on behind its end")
        policy, head = _part(table, _TO_POLICY), _part(table, _TO_HEAD)
        return _plain(policy, "policy_kwargs"), {**_plain(head, "pi_head_opts"), "temperature": _temperature(head)}
    except WeightsError as problem:
        raise WeightsError(f"{path.name} is not a .model file that can be read without running code: "
                           f"{problem.message}", where=str(path),
                           hint=problem.hint or "expected the pickle of keyword arguments that comes with a released "
                                                "policy") from problem
    except OSError as problem:
        raise WeightsError(f"cannot read the .model file: {problem.strerror or problem}", where=str(path)) from problem


def _part(table: Any, keys: tuple[str, ...]) -> dict[Any, Any]:
    for number, key in enumerate(keys):
        table = table.get(key) if isinstance(table, dict) else None
        if not isinstance(table, dict):
            raise WeightsError(f"it has no {' / '.join(keys[:number + 1])}")
    return dict(table)


def _plain(value: Any, name: str) -> Any:
    """The value itself where it is what JSON could hold; tuples become lists."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise WeightsError(f"{name}: expected texts as keys")
        return {key: _plain(part, f"{name}.{key}") for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part, name) for part in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise WeightsError(f"{name}: expected a plain value, got {getattr(value, 'name', type(value).__name__)}")


def _temperature(head: dict[Any, Any]) -> float:
    value = head.get("temperature")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise WeightsError(f"pi_head_opts: expected a temperature above 0, got {str(value)[:40]!r}")
    return float(value)
