"""Resource packs drawn for the tests: every picture is made here."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
TEXTURES = "assets/minecraft/textures"


def png(picture: U8) -> bytes:
    """RGBA [H, W, 4] as PNG."""
    good, data = cv2.imencode(".png", picture[..., [2, 1, 0, 3]])
    assert good
    return data.tobytes()


def flat(colour: tuple[int, int, int], height: int = 16, width: int = 16, alpha: int = 255) -> U8:
    out = np.empty((height, width, 4), dtype=np.uint8)
    out[:] = (*colour, alpha)
    return out


def pack_files(pictures: Mapping[str, U8], more: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Path to bytes of a pack: pictures by their name below textures/, without ending."""
    files = {"pack.mcmeta": b'{"pack": {"pack_format": 6, "description": "drawn by a test"}}'}
    files |= {f"{TEXTURES}/{name}.png": png(picture) for name, picture in pictures.items()}
    return {**files, **(more or {})}


def as_folder(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def as_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path
