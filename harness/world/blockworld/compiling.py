"""How the block world's functions are compiled, and whether that has happened yet."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

__all__ = ["is_cached", "kernel", "part"]

_BARE: dict[str, Any] = {"no_cfunc_wrapper": True, "error_model": "numpy"}
_INNER: dict[str, Any] = {**_BARE, "no_cpython_wrapper": True}

part: Any = njit(**_INNER)
"""Decorates a compiled function that only compiled functions call: without wrappers, they compile in half the time."""

_IMPORT = re.compile(rf"^from {re.escape(__package__ or '')}\.(\w+) import", re.MULTILINE)


@functools.cache
def _sources(path: Path) -> str:
    """A digest of a source file and of all files of this package that it imports, directly or not."""
    files = [path]
    digest = hashlib.sha256()
    for file in files:
        text = file.read_bytes()
        digest.update(text)
        imported = [path.parent / f"{name}.py" for name in _IMPORT.findall(text.decode())]
        files += [other for other in dict.fromkeys(imported) if other not in files]
    return digest.hexdigest()


def _source_of(function: Callable[..., Any]) -> str:
    return _sources(Path(function.__globals__["__file__"]))


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls; it is kept on disk and runs without the interpreter's lock.

    numba forgets what it kept when the function's own file changes, though not when a file changes whose functions it
    calls. The stamp by which it decides therefore covers those files too: an old kernel never draws a new world.
    """
    compiled: Any = njit(**{**_BARE, "cache": True, "nogil": True})(function)
    cached: Any = getattr(compiled._cache, "_cache_file", None)
    if hasattr(cached, "_source_stamp"):  # numba has no public way; a numba without these names stamps as it likes
        cached._source_stamp = f"{cached._source_stamp} {_source_of(function)}"
    return compiled


def is_cached(compiled: Any) -> bool:
    """Whether a kernel is ready in this process, or waits on disk as these sources make it."""
    if compiled.signatures:
        return True
    folder = compiled.stats.cache_path
    if folder is None:
        return False
    name = compiled.py_func.__qualname__.replace("<", "").replace(">", "")
    stem = f"{compiled.py_func.__module__.rpartition('.')[2]}.{name}-"
    digest = _source_of(compiled.py_func).encode()
    return any(digest in index.read_bytes() for index in Path(folder).glob(f"{stem}*.nbi"))
