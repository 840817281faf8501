"""harness doctor on machines that lack things: made-up javas, packages, displays and ports."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.world import doctor
from harness.world.doctor import CORE, Check, Finding, examine, machine_checks


def look(name: str, engine: str | None = None) -> Finding:
    (check,) = (check for check in machine_checks(engine) if check.name == name)  # type: ignore[arg-type]
    return examine(check)


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def package(folder: Path, name: str, version: str) -> Path:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


JAVA_8 = """echo 'openjdk version "1.8.0_392"' >&2"""


def test_no_java(path: Path) -> None:
    assert not look("Java 8").good
    assert "openjdk-8-jdk" in look("Java 8").advice
    assert not look("JDK").good


def test_java_8_with_a_compiler(path: Path) -> None:
    program(path, "java", JAVA_8)
    assert look("Java 8") == Finding(True, f"1.8.0_392 at {path / 'java'}", look("Java 8").advice)
    assert "is a JRE" in look("JDK").words
    program(path, "javac", "true")
    assert look("JDK").good


def test_a_jre_inside_a_jdk_is_a_jdk(tmp_path: Path, path: Path) -> None:
    java = program(tmp_path / "jdk" / "jre" / "bin", "java", JAVA_8)
    program(tmp_path / "jdk" / "bin", "javac", "true")
    (path / "java").symlink_to(java)
    assert look("JDK").good


@pytest.mark.parametrize(("script", "words"), [
    ("""echo 'openjdk version "17.0.9" 2023-10-17' >&2""", "17.0.9"),
    ("echo who knows", "who knows"),
    ("exit 3", "fails"),
    ("kill -9 $$", "fails"),
])
def test_a_wrong_java(path: Path, script: str, words: str) -> None:
    program(path, "java", script)
    found = look("Java 8")
    assert not found.good and words in found.words and found.advice


def test_a_java_that_does_not_end(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is given up, and what it started is ended with it."""
    note = tmp_path / "note"
    monkeypatch.setattr(doctor, "_PATIENCE", 1.0)
    program(path, "java", f"(/bin/sleep 3; echo alive > {note}) & /bin/sleep 60")
    began = time.monotonic()
    assert "does not end" in look("Java 8").words
    assert time.monotonic() - began < 20
    time.sleep(3)
    assert not note.exists()


def test_a_java_that_is_no_program(path: Path) -> None:
    broken = path / "java"
    broken.write_bytes(b"\x00\x01")
    broken.chmod(0o755)
    assert not look("Java 8").good


@pytest.mark.parametrize(("name", "version", "check", "good", "words"), [
    ("minerl", "0.4.4", "minerl", False, "Minecraft 1.11"),
    ("minerl", "1.0.2", "minerl", True, "1.0.2"),
    ("cbor2", "6.3.0", "cbor2", False, "6.3.0"),
    ("cbor2", "5.6.5", "cbor2", True, "5.6.5"),
    ("minestudio", "1.1.6", "minestudio", True, "1.1.6"),
])
def test_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str, check: str, good: bool,
                  words: str) -> None:
    monkeypatch.setattr(sys, "path", [str(package(tmp_path, name, version)), *sys.path])
    found = look(check)
    assert (found.good, words in found.words) == (good, True)
    assert found.good or found.advice


@pytest.mark.parametrize("name", ["minerl", "minerl's chat", "minestudio", "mcio_ctrl", "cbor2", "PyTorch",
                                  "video (PyAV)"])
def test_nothing_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert not look(name).good and "pip install" in look(name).advice


def test_whether_minerl_takes_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(package(tmp_path, "minerl", "1.0.2")), *sys.path])
    assert "cannot be told" in look("minerl's chat").words
    source = tmp_path / "minerl" / "herobraine" / "env_specs" / "human_controls.py"
    source.parent.mkdir(parents=True)
    source.write_text("actionables = [KeybasedCommandAction(), CameraAction()]")
    assert "takes no commands" in look("minerl's chat").words
    source.write_text("actionables = [CameraAction(), H.ChatAction()]")
    assert look("minerl's chat").good


def test_minestudios_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINESTUDIO_DIR", str(tmp_path))
    assert "there is no" in look("MineStudio's engine").words
    jar = tmp_path / "engine" / "build" / "libs" / "mcprec-6.13.jar"
    jar.parent.mkdir(parents=True)
    jar.touch()
    assert "is empty" in look("MineStudio's engine").words
    jar.write_bytes(b"PK")
    assert look("MineStudio's engine").good


@pytest.mark.skipif(sys.platform != "linux", reason="X sockets")
def test_the_display(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    assert "no DISPLAY and no xvfb-run" in look("display").words
    monkeypatch.setenv("DISPLAY", ":4711")
    assert "does not answer" in look("display").words
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0/tmp/.X11-unix/X4711")
        server.listen()
        assert look("display").good
    program(path, "xvfb-run", "true")
    assert look("display").good


def test_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as one, socket.socket() as two:
        for busy in (one, two):
            busy.bind(("127.0.0.1", 0))
            busy.listen()
        ports = (one.getsockname()[1], two.getsockname()[1])
        monkeypatch.setattr(doctor, "_MCIO_PORTS", ports)
        monkeypatch.setattr(doctor, "_MINERL_PORTS", ports)
        assert not look("ports", "mcio").good
        assert str(ports[0]) in look("ports", "mcio").words
        assert not look("ports", "minerl").good
        two.close()
        assert not look("ports", "mcio").good
        assert look("ports", "minerl").good


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/dev/null/cache")
    assert not look("numba's cache").good
    assert "NUMBA_CACHE_DIR" in look("numba's cache").advice


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: os.terminal_size)
    assert "could not be checked" in look("disk").words
    usage = type("usage", (), {"free": 10_000_000})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    assert not look("disk").good


def test_what_is_not_needed_is_no_problem() -> None:
    lacking = Finding(False, "not here")
    check = Check("engine", ("minerl",), lambda: lacking)
    assert check.status(lacking, (CORE,)) == "missing-but-optional"
    assert check.status(lacking, (CORE, "minerl")) == "problem"
    assert check.status(Finding(True, ""), (CORE,)) == "ok"


def test_the_command(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ask_torch", lambda: {"version": "2.0", "cuda": None, "n": 0})
    for check in ("_video",):
        monkeypatch.setattr(doctor, check, lambda: Finding(True, "fine"))
    plain = CliRunner().invoke(cli, ["doctor"])
    assert plain.exit_code == 0, plain.output
    assert "missing-but-optional  Java 8" in plain.output
    assert "problem" not in plain.output
    result = CliRunner().invoke(cli, ["doctor", "--for", "minerl", "--json"])
    found = json.loads(result.output)
    status = {row["name"]: row["status"] for row in found["checks"]}
    assert result.exit_code == 1 and not found["good"] and found["for"] == ["core", "minerl"]
    assert status["Java 8"] == status["minerl"] == "problem"
    assert status["mcio_ctrl"] == status["minestudio"] == "missing-but-optional"
    assert status["bundled weights"] == status["Python"] == "ok"
    assert all(row["type"] for row in found["checks"] if row["status"] == "problem")
    assert CliRunner().invoke(cli, ["doctor", "--for", "quake"]).exit_code == 2


def test_weights_that_were_changed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ask_torch", lambda: {"version": "2.0", "cuda": None, "n": 0})
    monkeypatch.setattr(doctor, "_video", lambda: Finding(True, "fine"))
    monkeypatch.setattr("harness.cli.doctor.file_digest", lambda _: "0" * 64)
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 1 and "not as they were sealed: clean, planted" in result.output
