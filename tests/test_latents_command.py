"""``harness sae steer``, ``name`` and ``page`` from end to end, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from harness.agent.load import load_agent
from harness.agent.sae import Sae, save_sae
from harness.cli import cli

HOOK = "blocks.3.hook_resid_post"


def harness(*words: object) -> Any:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latents")
    directions = torch.nn.functional.normalize(torch.randn(6, 128, generator=torch.Generator().manual_seed(0)))
    save_sae(Sae("relu", directions.T.contiguous(), torch.ones(6), directions, torch.zeros(128), metadata={
        "hook_name": HOOK, "model_name": "untrained",
        "weights_digest": load_agent("untrained").provenance()["weights_digest"]}), folder / "sae")
    for words in (("collect", "untrained", "--hook", HOOK, "--scenario", "villager", "--episodes", 10, "--steps", 3,
                   "--slots", 10, "--out", folder / "store"),):
        assert harness("sae", *words, "--quiet").exit_code == 0
    assert harness("run", "villager", "--agent", "untrained", "--steps", 3, "--out", folder / "rec").exit_code == 0
    return folder


def test_from_an_sae_to_its_page(made: Path, tmp_path: Path) -> None:
    steered = harness("sae", "steer", made / "sae", made / "rec", "--nulls", 99, "--no-units", "--out",
                      tmp_path / "s.json", "--quiet")
    assert steered.exit_code == 0 and "random weights" in steered.output, steered.output
    named = harness("sae", "name", made / "sae", made / "store", "--draws", 20, "--world", "villager", "--without",
                    "creature", "--latent", 0, "--episodes", 1, "--steps", 2, "--out", tmp_path / "n.json", "--quiet")
    assert named.exit_code == 0 and "without creature" in named.output, named.output
    members = json.loads((tmp_path / "s.json").read_text())[0]["members"]["SAE latents"]
    page = harness("sae", "page", made / "sae", made / "rec", "--latent", next(iter(members)), "--frames", 1, "--with",
                   tmp_path / "s.json", "--with", tmp_path / "n.json", "--out", tmp_path / "page.html", "--quiet")
    assert page.exit_code == 0 and "S_f" in (tmp_path / "page.html").read_text(), page.output


@pytest.mark.parametrize(("words", "wanted"), [
    (["steer", "STORE", "REC"], "cfg.json is missing"),
    (["steer", "SAE", "REC", "--latent", 6], "latents 0 to 5, got 6"),
    (["steer", "SAE", "REC", "--agent", "vpt-nano"], "vpt-nano has others"),
    (["steer", "SAE", "REC", "--key", "atack"], "attack"),
    (["steer", "SAE", "REC", "--out", "x.csv"], "ends in .json"),
    (["steer", "SAE", "REC", "--closed-loop", "meadow", "--event", "mined_log", "--nulls", 99, "--no-units"], "event"),
    (["name", "SAE", "REC"], "store.json is missing"),
    (["name", "SAE", "STORE", "--world", "villager"], "go together"),
    (["page", "SAE", "REC", "--latent", 1, "--with", "CFG", "--out", "OUT"], "expected what harness sae name"),
])
def test_what_cannot_be_done_is_named(words: list[Any], wanted: str, made: Path, tmp_path: Path) -> None:
    places = {"SAE": made / "sae", "STORE": made / "store", "REC": made / "rec", "OUT": tmp_path / "out.html",
              "CFG": made / "sae" / "cfg.json"}
    result = harness("sae", *(places.get(word, word) for word in words))
    assert result.exit_code == 2 and wanted in result.output, result.output
    assert "Traceback" not in result.output and not list(tmp_path.iterdir())
