"""The mouse pointer, painted into a picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["draw_pointer"]

Frame = npt.NDArray[np.uint8]

_POINTER = """
#
##
#.#
#..#
#...#
#....#
#.....#
#......#
#.......#
#........#
#.....####
#..#..#
#.# #..#
##  #..#
     ##
""".strip("\n").splitlines()
"""Our own arrow, at most 16 x 16 as the published agents saw one: # dark, . light; its tip points."""


def draw_pointer(frame: Frame, x: int, y: int) -> Frame:
    """A copy of a picture uint8 [H, W, 3] with an arrow whose tip is at (x, y); what lies outside is cut off."""
    painted = frame.copy()
    height, width = frame.shape[:2]
    for down, line in enumerate(_POINTER):
        for right, mark in enumerate(line):
            if mark != " " and 0 <= y + down < height and 0 <= x + right < width:
                painted[y + down, x + right] = 0 if mark == "#" else 255
    return painted
