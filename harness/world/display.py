"""The X display of this machine, which a game's window needs, seen or not."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sys

from harness.errors import WorldError

__all__ = ["display_answers", "require_display"]


def display_answers(display: str) -> bool:
    """Whether the X server of this machine listens; one on another machine is taken at its word."""
    local = re.fullmatch(r"(?:unix)?:(\d+)(?:\.\d+)?", display)
    if local is None:
        return True
    name = f"/tmp/.X11-unix/X{local[1]}"
    for address in (name, f"\0{name}"):
        with socket.socket(socket.AF_UNIX) as one, contextlib.suppress(OSError):
            one.settimeout(2.0)
            one.connect(address)
            return True
    return False


def require_display(backend: str) -> None:
    """A game without a display hangs or dies without a word: say so before it is started.

    Args:
        backend: Whose game needs it.

    Raises:
        WorldError: on Linux, when DISPLAY names no X server that answers.
    """
    display = os.environ.get("DISPLAY")
    if sys.platform != "linux" or (display and display_answers(display)):
        return
    lacking = f"DISPLAY={display} does not answer" if display else "DISPLAY is not set"
    install = "" if shutil.which("xvfb-run") else "apt install xvfb, then "
    raise WorldError(f"the game of {backend} needs an X display, and {lacking}",
                     hint=f"{install}start with xvfb-run -a harness ...")
