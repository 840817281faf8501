"""``harness sae`` from end to end: collect, train, evaluate; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from harness.analysis.privileged import privileged_state
from harness.analysis.sae.store import ActivationStore
from harness.cli import cli
from harness.recording.recording import open_recording

HOOK = "blocks.1.hook_resid_post"


def harness(*words: object) -> Any:
    return CliRunner().invoke(cli, [str(word) for word in words])


def said(*words: object) -> Any:
    result = harness(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sae")
    said("sae", "collect", "untrained", "--hook", HOOK, "--hook", "blocks.0.attn.hook_z", "--scenario", "trunk",
         "--episodes", 3, "--steps", 12, "--slots", 2, "--out", folder / "store")
    for seed in (0, 1):
        said("run", "trunk", "--agent", "untrained", "--seed", seed, "--steps", 12, "--hooks", HOOK,
             "--out", folder / "recordings")
    return folder


def test_an_agent_that_plays_is_stored_as_it_is_recorded(played: Path) -> None:
    store = ActivationStore(played / "store")
    assert store.n_steps == 36 and store.hooks["blocks.0.attn.hook_z"].kinds()[0] == "head 0"
    recordings = sorted((open_recording(p.parent) for p in (played / "recordings").glob("*/header.json")),
                        key=lambda each: each.seed)
    for columns, values in store.rows([HOOK], [0, 1]):
        for seed in (0, 1):
            rows = columns.episode == seed
            recording = recordings[seed]
            assert np.allclose(values[HOOK][rows], recording.activations[HOOK][:12], atol=1e-4)
            assert [row["tokens"]["buttons"] for row in recording.steps] == columns.buttons[rows].tolist()
            state = privileged_state(recording, ["distance:logs", "breaking:logs", "overhead:leaves", "reach:logs"])
            ours = columns.state[rows][:, [store.variables.index(name) for name in (
                "distance:logs", "breaking:logs", "overhead:leaves", "reach:logs")]]
            assert np.allclose(state, ours, equal_nan=True)
    assert np.isnan(columns.state).sum() == 0 and columns.state[:, 1].min() > 0


def test_recordings_and_videos_are_stored(played: Path, tmp_path: Path) -> None:
    recordings = played / "recordings"
    kept = said("sae", "collect", recordings, "--hook", HOOK, "--state", "pitch", "--out", tmp_path / "kept")
    assert kept["steps"] == 24 and kept["variables"] == ["pitch"]
    said("sae", "collect", recordings, "--hook", HOOK, "--agent", "untrained", "--state", "none", "--out",
         tmp_path / "looked")
    one = next(recordings.glob("*/frames.mkv"))
    video = said("sae", "collect", one, "--hook", HOOK, "--agent", "untrained", "--steps", 5, "--out", tmp_path / "v")
    assert video["steps"] == 5
    a, b = (next(ActivationStore(tmp_path / name).rows([HOOK]))[1][HOOK] for name in ("kept", "looked"))
    assert np.allclose(a, b, atol=1e-4)


def test_from_a_store_to_what_is_lost(played: Path, tmp_path: Path) -> None:
    trained = said("sae", "train", played / "store", "--hook", HOOK, "--expansion", 0.15, "--k", 4, "--batch", 8,
                   "--epochs", 3, "--held-out", 0.34, "--threads", 1, "--out", tmp_path / "run")
    folder = trained["saes"][HOOK]
    (fit,) = said("sae", "eval", folder, played / "store", "--chart", tmp_path / "fit.svg")
    (row,) = fit["tables"][0]["rows"]
    assert row[:4] == [HOOK, "frame", 12, 1] and 0 < row[8] <= 4
    assert "<svg" in (tmp_path / "fit.svg").read_text()
    (lost,) = said("sae", "eval", folder, played / "recordings")
    kl, ce = lost["tables"][0]["rows"]
    assert kl[1] == 0 and kl[2] > 0 and kl[3] > 0 and ce[1] > 0
    assert "random weights" in lost["tables"][0]["note"]
    spec = json.dumps({"kind": "SaeSplice", "hook": HOOK, "sae": folder})
    assert said("run", "trunk", "--agent", "untrained", "--steps", 3, "--intervene", spec, "--out", tmp_path / "r")
    other = harness("run", "trunk", "--agent", "vpt-nano", "--steps", 3, "--intervene", spec, "--out", tmp_path / "r")
    assert other.exit_code == 2 and "vpt-nano has others" in other.output


@pytest.mark.parametrize(("words", "wanted"), [
    (["collect", "untrained", "--hook", "blocks.9.hook_resid_post", "--out", "OUT"], "blocks.3.hook_resid_post"),
    (["collect", "untrained", "--hook", "blocks.0.attn.hook_pattern", "--out", "OUT"], "no vector"),
    (["collect", "noop", "--hook", HOOK, "--out", "OUT"], "has no hook points"),
    (["collect", "untrained", "--hook", HOOK, "--state", "in_vew:logs", "--out", "OUT"], "in_view"),
    (["collect", "RECORDINGS", "--hook", "blocks.0.hook_resid_post", "--out", "OUT"], "--hooks"),
    (["collect", "RECORDINGS", "untrained", "--hook", HOOK, "--out", "OUT"], "several kinds"),
    (["train", "RECORDINGS", "--out", "OUT"], "store.json is missing"),
    (["train", "STORE", "--out", "OUT"], "too few for"),
    (["eval", "STORE", "STORE"], "cfg.json is missing"),
])
def test_what_cannot_be_done_is_named(words: list[str], wanted: str, played: Path, tmp_path: Path) -> None:
    places = {"OUT": tmp_path / "out", "RECORDINGS": played / "recordings", "STORE": played / "store"}
    result = harness("sae", *(places.get(word, word) for word in words))
    assert result.exit_code == 2 and wanted in result.output, result.output
    assert "Traceback" not in result.output and not (tmp_path / "out").exists()
