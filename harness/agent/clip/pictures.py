"""Pictures as CLIP's image tower sees them: shortest side resized, centre cut out. No torchvision."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from harness.errors import AgentError

__all__ = ["fit_picture", "fit_pictures"]


def fit_picture(picture: npt.NDArray[np.uint8], size: tuple[int, int] = (224, 224)) -> npt.NDArray[np.uint8]:
    """A picture in the size of the image tower, as CLIP's own preprocessing makes it.

    The shortest side is resized to that of the tower by an antialiased bicubic filter (a = -0.5, as in Pillow), the
    other in proportion, its length rounded down; then the centre is cut out. Values stay whole numbers in between.

    Args:
        picture: uint8 [H, W, 3] RGB, of any size.
        size: (height, width) of the tower, equal.

    Returns:
        uint8 [height, width, 3]; the very same array when it has the size.

    Raises:
        AgentError: for anything but a picture, one that is longer than 50 times its width, or a tower that is no
            square.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3 or 0 in picture.shape:
        raise AgentError(f"picture: expected uint8 [H, W, 3], got {picture.dtype} {list(picture.shape)}")
    if picture.shape[:2] == size:
        return picture
    if size[0] != size[1]:
        raise AgentError(f"pictures are cut to squares, and the image tower sees {size[0]} x {size[1]}",
                         hint="give pictures of that size")
    height, width = picture.shape[:2]
    short, side = min(height, width), size[0]
    if max(height, width) > 50 * short:
        raise AgentError(f"a picture of {height} x {width} has no centre: one side is more than 50 times "
                         "the other")
    new = (side * height // short, side * width // short)
    batch = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]
    resized = F.interpolate(batch, new, mode="bicubic", antialias=True)[0]
    top, left = round((new[0] - side) / 2), round((new[1] - side) / 2)
    return resized[:, top:top + side, left:left + side].permute(1, 2, 0).contiguous().numpy()


def fit_pictures(pictures: Iterable[npt.NDArray[np.uint8]], size: tuple[int, int] = (224, 224)
                 ) -> npt.NDArray[np.uint8]:
    """``fit_picture`` of each: uint8 [b, height, width, 3]."""
    return np.stack([fit_picture(picture, size) for picture in pictures])
