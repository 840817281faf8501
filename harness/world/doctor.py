"""Whether this machine has what playing needs: one line for each thing, with what to type where it lacks.

Nothing here imports an engine or PyTorch: installed packages are read as metadata, and what must be run is run in
another process for a limited time.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal, get_args

from harness.world.display import display_answers

__all__ = ["CORE", "ENGINES", "Check", "Engine", "Finding", "Status", "examine", "machine_checks"]

Engine = Literal["minestudio", "minerl", "mcio"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
CORE = "core"
Status = Literal["ok", "missing-but-optional", "problem"]

_PATIENCE = 15.0  # seconds for java -version and the like
_IMPORT_PATIENCE = 90.0  # seconds: a cold disk takes long to import PyTorch
_GIGABYTE = 1_000_000_000
_ROOM = {CORE: 1, "minestudio": 3, "minerl": 8, "mcio": 4}
"""Gigabytes that must be free."""
_MCIO_PORTS = (4001, 8001)
_MINERL_PORTS = range(9000, 9010)
_JAVA_8 = "apt install openjdk-8-jdk (Debian 12 has none: conda-forge openjdk=8, or Temurin 8); JDK, not JRE"


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        good: Whether it is as it should be.
        words: What is there, or what is wrong.
        advice: What to type; "" where nothing is to be done.
    """

    good: bool
    words: str
    advice: str = ""


@dataclass(frozen=True)
class Check:
    """One line: a name, what needs it (``CORE`` or engines; nothing for what is nice to have), and how to look."""

    name: str
    needed_by: tuple[str, ...]
    look: Callable[[], Finding]

    def status(self, finding: Finding, wanted: Collection[str]) -> Status:
        """``problem`` only where something wanted needs it."""
        if finding.good:
            return "ok"
        return "problem" if set(self.needed_by) & set(wanted) else "missing-but-optional"


def examine(check: Check) -> Finding:
    """Look; whatever goes wrong in looking is a finding, too."""
    try:
        return check.look()
    except Exception as problem:  # a broken machine is what this is for
        return Finding(False, f"could not be checked: {type(problem).__name__}: {problem}")


def machine_checks(engine: Engine | None = None) -> tuple[Check, ...]:
    """Every check but that of the agents' weights, in the order in which they are told.

    Args:
        engine: The one that disk space is wanted for; the checks are the same without one.
    """
    eights = ("minestudio", "minerl")
    return (
        Check("Python", (CORE,), _python),
        Check("PyTorch", (CORE,), _torch),
        Check("GPU", (), _gpu),
        Check("video (PyAV)", (CORE,), _video),
        Check("numba's cache", (CORE,), _numba_cache),
        Check("disk", (CORE, *ENGINES), lambda: _disk(engine or CORE)),
        Check("Java 8", eights, _java),
        Check("JDK", eights, _jdk),
        Check("display", ENGINES, lambda: _display(engine)),
        Check("ports", ENGINES, lambda: _ports(engine)),
        Check("minestudio", ("minestudio",), lambda: _package("minestudio", "pip install minestudio")),
        Check("MineStudio's engine", ("minestudio",), _minestudio_engine),
        Check("minerl", ("minerl",), _minerl),
        Check("minerl's chat", (), _minerl_chat),
        Check("mcio_ctrl", ("mcio",), _mcio),
        Check("cbor2", ("mcio",), _cbor2),
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _package(name: str, advice: str) -> Finding:
    version = _version(name)
    return Finding(False, "not installed", advice) if version is None else Finding(True, version)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(sys.version_info >= (3, 11), f"{version} at {sys.executable}", "use Python 3.11 or newer")


def _run(command: list[str], seconds: float) -> str | None:
    """What a program says, both streams; None when it did not end in time, or not well."""
    try:
        # A session of its own, so that a program that does not end is ended with all that it started.
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   start_new_session=True)
    except OSError:
        return None
    with program:
        try:
            said = program.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            return None
    return said.decode(errors="replace") if program.returncode == 0 else None


_ASK_TORCH = """
import json, torch
n = torch.cuda.device_count() if torch.cuda.is_available() else 0
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "n": n,
                  "name": torch.cuda.get_device_name(0) if n else ""}))
"""


@functools.cache
def _ask_torch() -> dict[str, object]:
    """Version, CUDA and cards; empty when PyTorch cannot be imported."""
    lines = (_run([sys.executable, "-c", _ASK_TORCH], _IMPORT_PATIENCE) or "").strip().splitlines()
    found: dict[str, object] = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return found


def _torch() -> Finding:
    if _version("torch") is None:
        return Finding(False, "not installed", "pip install torch")
    found = _ask_torch()
    if not found:
        return Finding(False, f"{_version('torch')} is installed and cannot be imported",
                       f"{Path(sys.executable).name} -c 'import torch' says why; pip install --force-reinstall torch")
    return Finding(True, f"{found['version']} ({'CUDA ' + str(found['cuda']) if found['cuda'] else 'CPU build'})")


def _gpu() -> Finding:
    found = _ask_torch() if _version("torch") else {}
    if found.get("n"):
        return Finding(True, f"{found['name']}, CUDA {found['cuda']} ({found['n']} in all)")
    card = (_run(["nvidia-smi", "-L"], _PATIENCE) or "").strip().splitlines()
    if card and found and not found.get("cuda"):
        return Finding(False, f"{card[0]} is here, and PyTorch is a CPU build",
                       "install a CUDA build: https://pytorch.org/get-started/locally")
    if card:
        return Finding(False, f"{card[0]} is here, and PyTorch cannot use it", "a newer driver, or an older CUDA build")
    return Finding(False, "none: agents compute on the CPU")


def _video() -> Finding:
    version = _version("av")
    if version is None:
        return Finding(False, "not installed", "pip install av")
    said = _run([sys.executable, "-c", "import av; av.codec.Codec('ffv1', 'w'); av.codec.Codec('libx264', 'w')"],
                _IMPORT_PATIENCE)
    if said is None:
        return Finding(False, f"{version} cannot write ffv1 and h264", "pip install --force-reinstall av")
    return Finding(True, f"{version}, writes ffv1 and h264")


def _writable(folder: Path) -> bool:
    """Whether a file can be made in a folder or, where it is not there yet, in the nearest one above it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _numba_cache() -> Finding:
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    package = Path(__file__).resolve().parent / "blockworld"
    places = [Path(chosen)] if chosen else [package / "__pycache__", Path.home() / ".cache" / "numba"]
    for place in places:
        if _writable(place):
            return Finding(True, str(place))
    return Finding(False, f"{places[0]} cannot be written: blockworld compiles anew in every process",
                   "export NUMBA_CACHE_DIR=A_FOLDER_OF_YOURS")


def _disk(wanted: str) -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / _GIGABYTE
    return Finding(free >= _ROOM[wanted], f"{free:.1f} GB free here (wanted: {_ROOM[wanted]})",
                   "make room, or work in another folder")


def _java_path() -> Path | None:
    found = shutil.which("java")
    return None if found is None else Path(found)


def _java() -> Finding:
    path = _java_path()
    if path is None:
        return Finding(False, "no java on PATH", _JAVA_8)
    said = _run([str(path), "-version"], _PATIENCE)
    if said is None:
        return Finding(False, f"{path} -version fails, or does not end", _JAVA_8)
    version = re.search(r'version "([^"]+)"', said)
    if version is None:
        return Finding(False, f"{path} -version says {said.strip()[:60]!r}", _JAVA_8)
    right = version[1].startswith(("1.8.", "8."))
    return Finding(right, f"{version[1]} at {path}", f"Minecraft 1.16.5 here runs on Java 8 only: {_JAVA_8}")


def _jdk() -> Finding:
    path = _java_path()
    if path is None:
        return Finding(False, "no java on PATH", _JAVA_8)
    folders = dict.fromkeys((path.parent, path.resolve().parent))
    # A JRE inside a JDK is one, too: jre/bin/java beside bin/javac.
    found = [f for folder in folders for f in (folder, folder.parent.parent / "bin") if (f / "javac").exists()]
    if found:
        return Finding(True, f"javac in {found[0]}")
    return Finding(False, f"{path} is a JRE: there is no javac beside it", _JAVA_8)


def _display(engine: str | None) -> Finding:
    if sys.platform != "linux":
        return Finding(True, f"{sys.platform}: the desktop's")
    runner, display = shutil.which("xvfb-run"), os.environ.get("DISPLAY")
    if engine == "minestudio" and not runner and os.environ.get("MINESTUDIO_GPU_RENDER") != "1":
        return Finding(False, "no xvfb-run, by which MineStudio starts the game", "apt install xvfb")
    if display and display_answers(display):
        return Finding(True, f"DISPLAY={display}")
    if runner:
        return Finding(True, f"{runner}; start with xvfb-run -a harness ...")
    words = f"DISPLAY={display} does not answer, and there is no xvfb-run" if display else "no DISPLAY and no xvfb-run"
    return Finding(False, words, "apt install xvfb, then start with xvfb-run -a harness ...")


def _ports(engine: str | None) -> Finding:
    ports = _MCIO_PORTS if engine == "mcio" else tuple(_MINERL_PORTS)
    busy = [port for port in ports if not _free(port)]
    free = len(ports) - len(busy)
    good = not busy if engine == "mcio" else free > 0
    words = f"{free} of {len(ports)} from {ports[0]} to {ports[-1]} are free"
    return Finding(good, words + (f"; in use: {', '.join(map(str, busy))}" if busy else ""),
                   "end what holds them: ss -ltnp shows it")


def _free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _minestudio_engine() -> Finding:
    chosen = os.environ.get("MINESTUDIO_DIR")
    folder = Path(chosen) if chosen else Path(tempfile.gettempdir()) / "MineStudio"
    jar = folder / "engine" / "build" / "libs" / "mcprec-6.13.jar"
    advice = "export MINESTUDIO_DIR=$HOME/.minestudio; python -m minestudio.simulator.entry -y (458 MB)"
    if not jar.is_file():
        return Finding(False, f"there is no {jar}", advice)
    if jar.stat().st_size == 0:
        return Finding(False, f"{jar} is empty", advice)
    if not chosen:
        return Finding(True, f"{folder}, which the system may empty: set MINESTUDIO_DIR")
    return Finding(True, str(folder))


_MINERL = ('pip install "setuptools<66" "wheel<0.39", then pip install git+https://github.com/KarolisRam/minerl '
           "(takes commands), or git+https://github.com/minerllabs/minerl@v1.0.2 (does not)")


def _minerl() -> Finding:
    version = _version("minerl")
    if version is None:
        return Finding(False, "not installed", _MINERL)
    if version.startswith("0."):
        return Finding(False, f"{version} is PyPI's minerl: Minecraft 1.11, other keys, not what VPT played",
                       f"pip uninstall minerl, then {_MINERL}")
    return Finding(True, version)


def _minerl_chat() -> Finding:
    if _version("minerl") is None:
        return Finding(False, "minerl is not installed", _MINERL)
    path = Path(str(metadata.distribution("minerl").locate_file("minerl/herobraine/env_specs/human_controls.py")))
    if not path.is_file():
        return Finding(False, f"cannot be told: there is no {path}",
                       'python -c "import minerl", then look for chat in an env\'s action_space')
    if "ChatAction" in path.read_text(encoding="utf-8", errors="replace"):
        return Finding(True, "takes commands")
    return Finding(False, "this minerl takes no commands: scenarios need a saved world, see docs/minecraft.md",
                   "pip install git+https://github.com/KarolisRam/minerl")


def _mcio() -> Finding:
    version = _version("mcio_ctrl")
    if version is None:
        return Finding(False, "not installed",
                       'Python 3.12 or newer: pip install mcio_ctrl "cbor2<6"; mcio inst install main')
    return Finding(sys.version_info >= (3, 12), version, "mcio_ctrl needs Python 3.12 or newer")


def _cbor2() -> Finding:
    version = _version("cbor2")
    if version is None:
        return Finding(False, "not installed", 'pip install "cbor2<6"')
    return Finding(int(re.match(r"\d+", version)[0]) < 6, version,  # type: ignore[index]
                   'mcio_ctrl reads no packet with cbor2 6: pip install "cbor2<6"')
