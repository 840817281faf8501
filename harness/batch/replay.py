"""The command that shows a trial of a suite."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.batch.suite import Cell
from harness.scenario.load import load_scenario, parse_value

__all__ = ["replay_command"]

_PATHS = ("recording", "of", "minus")
"""Keys of an intervention whose text is a recording; see ``analysis.arrays``."""


def replay_command(cell: Cell, seed: int) -> str:
    """The command that plays a trial again, alone and recorded; of several episodes, the first."""
    source = cell.source or cell.scenario.name
    usual = load_scenario(source).parameters
    words = ["harness", "run", source, "--agent", cell.agent, "--seed", str(seed), "--steps", str(cell.steps)]
    for name, parameter in cell.scenario.parameters.items():
        if parameter.default != usual[name].default:
            words += ["--set", f"{name}={_written(parameter.default)}"]
    for each in cell.intervene:
        words += ["--intervene", each if isinstance(each, str) else json.dumps(_anchored(each, cell.folder or Path()))]
    words += [] if cell.backend == "blockworld" else ["--backend", cell.backend]
    return shlex.join(words)


def _written(value: Any) -> str:
    """A value that ``--set`` reads as what it is."""
    return value if isinstance(value, str) and parse_value(value) == value else json.dumps(value)


def _anchored(value: Any, folder: Path) -> Any:
    """An intervention whose recordings are found from anywhere."""
    if isinstance(value, Mapping):
        return {key: str(folder / each) if key in _PATHS and isinstance(each, str) else _anchored(each, folder)
                for key, each in value.items()}
    return [_anchored(each, folder) for each in value] if isinstance(value, list | tuple) else value
