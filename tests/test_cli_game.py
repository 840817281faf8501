"""What the command line shows of a scenario for a real game, and its first picture from any backend."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner, Result

from harness.cli import cli


def call(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def test_checks_and_datapack_are_printed() -> None:
    checks = call("scenario", "show", "villager", "--as", "checks").output.splitlines()
    assert checks[0] == "position 0.5 100 0.5 within 0.35"
    assert "mob villager 0.5 100 6.5 within 0.35" in checks
    old, new = (call("scenario", "show", "villager", "--as", "datapack", "--dialect", d).output.splitlines()
                for d in ("1.16.5", "1.21"))
    assert "# data/harness/functions/episode.mcfunction" in old
    assert "# data/harness/function/episode.mcfunction" in new
    assert "kill @e[type=!minecraft:player]" in old


def test_any_registered_backend_gives_a_first_picture(tmp_path: Path, fake_backend: str) -> None:
    out = tmp_path / "first.png"
    result = call("scenario", "preview", "villager", "--backend", fake_backend, "--out", str(out))
    assert result.exit_code == 0, result.output
    assert cv2.imread(str(out)).shape == (360, 640, 3)


@pytest.mark.parametrize("words", [["--backend", "mincraft"], ["--backend", "video", "--resource-pack", "x.zip"]])
def test_a_preview_that_cannot_be_made_leaves_nothing(tmp_path: Path, words: list[str]) -> None:
    result = call("scenario", "preview", "villager", *words, "--out", str(tmp_path / "a.png"))
    assert result.exit_code == 2 and "error:" in result.output and not list(tmp_path.iterdir())
