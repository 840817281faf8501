"""Goals: what STEVE-1 is told, as a sentence, as a video, or as an embedding in a file."""

from __future__ import annotations

import hashlib
import zipfile
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from harness.agent.mineclip.config import CLIP_FRAMES, EMBED
from harness.agent.mineclip.model import resize_clip
from harness.errors import AgentError
from harness.world.video import read_frames

__all__ = ["EMBEDDING_FILES", "Embedding", "Goal", "embedding", "given_goal", "invented_goal", "named_goal",
           "read_clip", "read_embeddings"]

EMBEDDING_FILES = (".npy", ".npz", ".safetensors")
_LARGEST = 64 << 20
_LENGTH = 8.0

Embedding = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Goal:
    """What an agent was told.

    Attributes:
        kind: ``none``, ``prompt``, ``video`` or ``embedding``.
        words: The prompt, or the file's name.
        text: MineCLIP's embedding of the prompt float32 [512], from which the prior makes the goal; else None.
        embed: The goal itself float32 [512], where it does not have to be drawn.
    """

    kind: str = "none"
    words: str = ""
    text: Embedding | None = None
    embed: Embedding | None = None


def read_embeddings(path: str | Path) -> dict[str, Embedding]:
    """Every embedding in a file by name, each float32 [512]; nothing in the file is executed.

    Args:
        path: ``.npy`` (one, called ``goal``), ``.npz`` or ``.safetensors``; each array [512] or [1, 512].

    Raises:
        AgentError: for a file that is missing, is of another kind, or holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise AgentError(f"there is no goal file at {path}")
    if path.suffix not in EMBEDDING_FILES:
        raise AgentError(f"{path.name}: expected a file of embeddings ({', '.join(EMBEDDING_FILES)})", where=str(path))
    try:
        n_bytes = path.stat().st_size
        if zipfile.is_zipfile(path):  # what comes out may be a thousand times as much
            with zipfile.ZipFile(path) as archive:
                n_bytes = max(n_bytes, sum(entry.file_size for entry in archive.infolist()))
        if n_bytes > _LARGEST:
            raise ValueError(f"it has {n_bytes:,} bytes, and a goal has {4 * EMBED:,}")
        if path.suffix == ".safetensors":
            arrays = dict(load_file(path))
        else:
            with path.open("rb") as file:
                loaded = np.load(file, allow_pickle=False)
                one = isinstance(loaded, np.ndarray)
                arrays = {"goal": loaded} if one else {key: loaded[key] for key in loaded.files}
    except Exception as problem:  # NumPy, zip archives and safetensors each have errors of their own for damage
        reason = (str(problem).splitlines() or [type(problem).__name__])[0][:200]
        raise AgentError(f"cannot read the embeddings in {path.name}: {reason}", where=str(path),
                         hint="expected NumPy arrays saved with allow_pickle=False, or safetensors") from problem
    if not arrays:
        raise AgentError(f"{path.name} holds no embedding", where=str(path))
    return {name: embedding(array, f"{path.name}: {name}", where=str(path)) for name, array in arrays.items()}


def embedding(value: Any, what: str, *, where: str | None = None) -> Embedding:
    """An embedding float32 [512] from numbers [512] or [1, 512].

    Raises:
        AgentError: for anything else, or numbers that are not finite.
    """
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "fiu" or array.shape not in ((EMBED,), (1, EMBED)):
        raise AgentError(f"{what}: expected {EMBED} numbers, got {array.dtype} {list(array.shape)}", where=where)
    if not np.isfinite(array).all():
        raise AgentError(f"{what}: expected finite numbers, got NaN or infinity", where=where)
    return np.array(array.reshape(EMBED), np.float32)


def given_goal(goal: str | Path | Sequence[float]) -> tuple[str, Embedding]:
    """A goal's name and embedding, from a file that holds exactly one or from 512 numbers.

    Raises:
        AgentError: as in ``read_embeddings``, and for a file with several.
    """
    if not isinstance(goal, str | Path):
        return "numbers", embedding(goal, "goal")
    found = read_embeddings(goal)
    if len(found) != 1:
        raise AgentError(f"{Path(goal).name} holds {len(found)} embeddings ({', '.join(sorted(found)[:4])}, ...), "
                         "expected one", where=str(goal), hint="save the one that is meant alone")
    return Path(goal).name, next(iter(found.values()))


def named_goal(prompt: str, table: Mapping[str, Any]) -> Embedding | None:
    """The embedding that a table has under a prompt, case and spacing apart; None where it has none."""
    same = {" ".join(name.lower().split()): value for name, value in table.items()}
    found = same.get(" ".join(prompt.lower().split()))
    return None if found is None else embedding(found, f'goal "{prompt}"')


def invented_goal(name: str) -> Embedding:
    """A direction for a goal of our own, float32 [512] of length 8: it says which goal it is, and means nothing.

    The name decides it: 512 normal numbers of NumPy's PCG64, seeded with the SHA-256 of the name (lower case, single
    spaces) as eight words of 32 bits, little endian, and brought to that length.
    """
    spelt = " ".join(name.lower().split())
    words = np.frombuffer(hashlib.sha256(spelt.encode()).digest(), "<u4")
    drawn = np.random.Generator(np.random.PCG64([int(word) for word in words])).standard_normal(EMBED)
    return np.array(drawn * (_LENGTH / np.linalg.norm(drawn)), np.float32)


def read_clip(path: str | Path, last: int | None, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Sixteen consecutive frames of a video, uint8 [16, height, width, 3].

    Args:
        path: The video.
        last: Number of the last of them, from 0; None for the end of the video.
        size: (height, width) to stretch them to.

    Raises:
        AgentError: for a video that is too short, or has no such frame.
        VideoError: for one that cannot be read.
    """
    if last is not None and (isinstance(last, bool) or not isinstance(last, int) or last < CLIP_FRAMES - 1):
        raise AgentError(f"goal_frame: expected {CLIP_FRAMES - 1} or more, got {last!r}",
                         hint=f"it is the last of {CLIP_FRAMES} frames, counted from 0")
    frames: deque[npt.NDArray[np.uint8]] = deque(maxlen=CLIP_FRAMES)
    n = 0
    for frame in read_frames(path):
        frames.append(frame)
        n += 1
        if last is not None and n > last:
            break
    if len(frames) < CLIP_FRAMES or (last is not None and n <= last):
        wanted = f"frame {last} was asked for" if last is not None and n >= CLIP_FRAMES else f"a goal has {CLIP_FRAMES}"
        raise AgentError(f"{Path(path).name} has {n} frames, and {wanted}", where=str(path),
                         hint="give a longer video" if n < CLIP_FRAMES else f"the last one is {n - 1}")
    return resize_clip(np.stack(frames), size)
