"""``harness sae repair``, ``harness clip collect`` and ``harness clip latents`` from the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.agent.sae import save_sae
from harness.cli import cli
from harness.cli import sae_repair as module

sys.path.insert(0, str(Path(__file__).parent / "analysis"))
from wired_agent import WiredAgent, wired_sae  # noqa: E402

NEAR = "villager,distance=2,trees=0,canopy=none,steps=12:villager"
TRUNK = "trunk,distance=2,trees=0,steps=12:*_log"


def harness(*words: object) -> Any:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def sae(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "load_agent", lambda name, **told: WiredAgent())
    return save_sae(wired_sae(), tmp_path / "sae")


def test_a_repair_from_end_to_end(sae: Path, tmp_path: Path) -> None:
    result = harness("sae", "repair", "vpt-nano", sae, "--unwanted", NEAR, "--keep", TRUNK, "--train", 1, "--test", 1,
                     "--slots", 1, "--out", tmp_path / "found.json", "--quiet")
    assert result.exit_code == 0, result.output
    assert "wired at blocks.0.hook_resid_post: repair" in result.output and "on the training seeds" in result.output
    found = json.loads((tmp_path / "found.json").read_text())
    arms = {arm["name"]: arm["scenes"] for arm in found["arms"]}
    assert arms["as it is"]["villager"]["done"] == [True] and arms["latents zeroed"]["villager"]["done"] == [False]
    assert arms["latents zeroed"]["trunk"]["done"] == [True]
    assert found["provenance"]["arguments"]["test_seeds"] == [800_000]


@pytest.mark.parametrize(("words", "said"), [
    (("--unwanted", "villager", "--keep", TRUNK), "expected SCENARIO"),
    (("--unwanted", NEAR + ":a:b", "--keep", TRUNK), "expected SCENARIO"),
    (("--unwanted", "villager,steps=0:villager", "--keep", TRUNK), "steps: expected a whole number"),
    (("--unwanted", "vilager:villager", "--keep", TRUNK), "villager"),
    (("--unwanted", "villager,distanze=2:villager", "--keep", TRUNK), "distance"),
    (("--unwanted", NEAR, "--keep", "treechop:*_log:mined_lug"), "mined_log"),
    (("--unwanted", NEAR, "--keep", TRUNK, "--cause", "canopi=none"), "canopy"),
    (("--unwanted", NEAR, "--keep", TRUNK, "--hook", "blocks.0.hook_resid_past"), "hook"),
    (("--unwanted", NEAR, "--keep", TRUNK, "--first-test", 700_003), "do both"),
    (("--unwanted", NEAR, "--keep", TRUNK, "--out", "found.txt"), ".json"),
])
def test_what_is_wrong_is_said(sae: Path, words: tuple[object, ...], said: str) -> None:
    result = harness("sae", "repair", "vpt-nano", sae, *words, "--quiet")
    assert result.exit_code == 2 and said in result.output, result.output


def test_an_sae_that_is_not_there(tmp_path: Path) -> None:
    result = harness("sae", "repair", "vpt-nano", tmp_path, "--unwanted", NEAR, "--keep", TRUNK)
    assert result.exit_code == 2 and "cfg.json is missing" in result.output
