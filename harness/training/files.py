"""Files that are either the old ones or the new ones, never half of each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["replace_file"]


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` make the file under another name, then put it in place."""
    part = path.with_name(f".{path.name}.part")
    write(part)
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.chmod(0o644)
    os.replace(part, path)
