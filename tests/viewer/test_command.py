"""``harness view``: what it prints, what it leaves, how it refuses, how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from viewer_fakes import heat_maps, play

from harness.cli import cli
from harness.recording.recording import Recording


def call(*words: str | Path) -> Result:
    result = CliRunner().invoke(cli, ["view", *(str(word) for word in words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_it_writes_a_page(recording: Recording, treated: Recording, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "wander.npz", maps=heat_maps())
    out = tmp_path / "x.html"
    result = call(recording.path, treated.path, "--export", out, "--result", tmp_path / "wander.npz", "--quiet")
    assert result.exit_code == 0, result.output
    assert re.fullmatch(rf"wrote {out}: 80 steps, [\d.]+ MB\n", result.stdout)
    assert '"wander"' in out.read_text() and "1/world" in out.read_text()


def test_an_unfinished_recording_is_shown_and_said(tmp_path: Path) -> None:
    killed = play(tmp_path / "r", steps=6)
    (killed.path / "result.json").unlink()
    result = call(killed.path, "--export", tmp_path / "x.html", "--quiet")
    assert result.exit_code == 0 and "is not finished" in result.stderr
    assert "unfinished (killed" in (tmp_path / "x.html").read_text()


def test_what_cannot_be_is_refused_in_words(recording: Recording, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        cases: list[tuple[tuple[str | Path, ...], str]] = [
            ((recording.path, "--no-browser", "--port", port), f"port {port} is in use"),
            ((recording.path, "--export", tmp_path / "x.pdf"), "ends in .html"),
            ((recording.path, "--export", tmp_path / "x.html", "--port", port), "--port is of no use"),
            ((recording.path, "--export", tmp_path / "x.html", "--no-browser"), "--no-browser is of no use"),
            ((recording.path, "--result", tmp_path / "none.npz"), "cannot read the result"),
            ((tmp_path,), "header.json")]
        for words, said in cases:
            result = call(*words)
            assert result.exit_code == 2 and said in result.stderr, result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to a child")
def test_without_a_browser_it_says_where_the_page_is_and_ctrl_c_ends_it(recording: Recording) -> None:
    bare = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")}
    # A shell's background jobs, and so this test, may be started with Ctrl-C ignored.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" \
              "from harness.cli import main; main()"
    with subprocess.Popen([sys.executable, "-c", program, "view", str(recording.path)], env=bare, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        url = process.stdout.readline().split()[0]
        assert process.stderr.readline() == f"no browser was found here: open {url} in one\n"
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and errors == "stopped\n"
