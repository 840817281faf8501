"""Where a result comes from: commit, versions, machine, digests."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["Provenance", "collect_provenance", "digest", "file_digest"]

_PACKAGES = ("torch", "numpy", "numba", "av", "gymnasium", "opencv-python-headless", "safetensors")


@dataclass(frozen=True)
class Provenance:
    """What made a recording: bits depend on all of it.

    Attributes:
        harness: Version of this package.
        commit: Git commit of the checkout the package runs from, None when it runs from an installation.
        dirty: Whether that checkout had changes, None without one.
        python: Version of the interpreter.
        packages: Distribution name to version (None where it is not installed).
        platform: Operating system and architecture.
        processor: Name of the CPU, as far as the system tells.
        cpu_capability: Widest vector instructions: "AVX512", "AVX2", "NEON" or "DEFAULT".
        cpu_count: Logical cores.
    """

    harness: str
    commit: str | None
    dirty: bool | None
    python: str
    packages: Mapping[str, str | None]
    platform: str
    processor: str
    cpu_capability: str
    cpu_count: int

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


@functools.cache
def collect_provenance() -> Provenance:
    """The provenance of this process."""
    commit, dirty = _checkout(Path(__file__).resolve().parent.parent)
    name, capability = _processor()
    return Provenance(
        harness=metadata.version("harness-bench"), commit=commit, dirty=dirty, python=platform.python_version(),
        packages={package: _version(package) for package in _PACKAGES},
        platform=f"{platform.system()} {platform.release()} {platform.machine()}", processor=name,
        cpu_capability=capability, cpu_count=os.cpu_count() or 1,
    )


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        OSError: when it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _checkout(root: Path) -> tuple[str | None, bool | None]:
    if not (root / ".git").exists():
        return None, None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit, bool(_git(root, "status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(root: Path, *words: str) -> str:
    # Without optional locks a look at the state cannot disturb another git in the same checkout.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    run = subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True, text=True, timeout=10,
                         env=environment)
    return run.stdout.strip()


def _processor() -> tuple[str, str]:
    name, flags = platform.processor(), set[str]()
    if sys.platform.startswith("linux"):
        try:
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags = set(value.split())
    if platform.machine().lower() in ("arm64", "aarch64"):
        return name, "NEON"
    return name, "AVX512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "DEFAULT"
