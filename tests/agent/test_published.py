"""The table of published agents, and loading them from the cache in both layouts; sizes shrunk so that it is quick."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from golden_policies import TINY, filled_weights
from safetensors.torch import save_file

from harness.agent.load import describe_agent, known_names, load_agent, model_card
from harness.agent.mineclip import MineCLIP
from harness.agent.published import agent_folder, cache_dir, present_source, published_agent, published_names
from harness.agent.steve.policy import StevePolicy
from harness.agent.steve.prior import Prior
from harness.agent.vpt import SIZES
from harness.agent.vpt.policy import expected_shapes
from harness.agent.vpt.weights import random_weights
from harness.cli import cli
from harness.errors import AgentError, WeightsError

NAMES = ["vpt-foundation-1x", "vpt-foundation-2x", "vpt-foundation-3x", "vpt-bc-house-3x", "vpt-bc-early-game-2x",
         "vpt-bc-early-game-3x", "vpt-rl-from-foundation-2x", "vpt-rl-from-house-2x", "vpt-rl-from-early-game-2x",
         "steve-1"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def call(*words: str) -> Result:
    return CliRunner().invoke(cli, ["agent", *words])


# --- the table -----------------------------------------------------------------------------------------------------

def test_names() -> None:
    assert published_names() == NAMES and set(NAMES) < set(known_names())


@pytest.mark.parametrize("name", NAMES)
def test_a_row(name: str) -> None:
    row = published_agent(name)
    assert row.trained_for and row.licence and row.size == ("2x" if name == "steve-1" else name[-2:])
    assert SIZES[row.size].temperature == int(row.size[0])
    n_parameters = sum(torch.Size(shape).numel() for shape in expected_shapes(row.size).values())
    for source in row.sources:
        roles = [file.role for file in source.files]
        assert "weights" in roles and len({file.file for file in source.files}) == len(roles)
        for file in source.files:
            assert (file.url or file.page or "").startswith("https://") and re.fullmatch(r"[\w.-]+", file.file)
            assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert file.md5 is None or re.fullmatch(r"[0-9a-f]{32}", file.md5)
            if file.role == "weights" and name != "steve-1":
                assert abs(file.n_bytes / (4 * n_parameters) - 1) < 0.01
    if name != "steve-1":
        openais = name[4:].replace("foundation-", "foundation-model-") if "rl" not in name else name[4:]
        assert row.sources[0].name == "openai" and f"{openais}.weights" in [f.file for f in row.sources[0].files]


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert agent_folder(published_agent("steve-1")) == tmp_path / "cache" / "agents" / "steve-1"
    monkeypatch.delenv("HARNESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_dir() == Path("/somewhere/harness")
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_dir().parts[-3:] == ("Library", "Caches", "harness")


# --- what is not here ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_an_agent_that_is_not_here_says_what_to_place_where(name: str, cache: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        load_agent(name)
    said, row = str(caught.value), published_agent(name)
    assert f"harness agent fetch {name}" in said and str(cache / "agents" / name) in said
    assert all(file.file in said and (file.url or "") in said for file in row.sources[0].files)
    assert present_source(row) is None and not cache.exists()


def test_a_misspelt_name() -> None:
    with pytest.raises(AgentError, match="vpt-foundation-3x"):
        load_agent("vpt-foundatoin-3x")


@pytest.mark.parametrize("name", ["vpt-rl-from-early-game-2x", "vpt-foundation-3x", "steve-1"])
def test_showing_what_is_not_here(name: str) -> None:
    shown = call("show", name)
    assert shown.exit_code == 0, shown.output
    row = published_agent(name)
    for words in (row.trained_for, row.licence, f"temperature {row.size[0]}", "blocks.3.attn.hook_pattern",
                  "128 frames", "not here", row.sources[0].files[-1].file):
        assert words in shown.stdout, words
    table = json.loads(call("show", name, "--json").stdout)
    assert table["temperature"] == int(row.size[0]) and table["memory"]["window"] == 128
    assert table["memory"]["bytes"]["float32"] == 4 * 2 * 128 * 4 * SIZES[row.size].hidsize
    assert table["hooks"]["blocks.0.attn.hook_pattern"]["shape"] == [SIZES[row.size].heads, 129]
    assert table["present"] is False and len(table["sources"]) == len(row.sources)


def test_counts() -> None:
    assert describe_agent("vpt-rl-from-early-game-2x")["parameters"]["total"] == 248_495_294
    steve = describe_agent("steve-1")["parameters"]
    assert steve["goal embedding"] == 1_050_624 and steve["prior"] == 2_366_976 and steve["MineCLIP"] == 158_537_730
    assert list(steve)[-1] == "total"
    assert steve["total"] - steve["prior"] - steve["MineCLIP"] == 249_545_918
    assert describe_agent("noop") == {}


def test_cards(tmp_path: Path) -> None:
    card = model_card("vpt-nano")
    assert card is not None and card.startswith("# vpt-nano") and card.rstrip() in call("show", "vpt-nano").stdout
    assert json.loads(call("show", "vpt-nano", "--json").stdout)["card"] == card
    assert model_card("noop") is None and model_card("steve-1") is None
    (tmp_path / "mine.yaml").write_text("kind: noop\ndescription: x\n")
    (tmp_path / "mine.md").write_text("# Mine\n")
    assert "# Mine" in call("show", str(tmp_path / "mine.yaml")).stdout


# --- what is here --------------------------------------------------------------------------------------------------

@pytest.fixture
def shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every published size becomes a policy of a few thousand weights."""
    for size in ("1x", "2x", "3x"):
        monkeypatch.setitem(SIZES, size, TINY)


def place_openai(folder: Path, weights: Mapping[str, torch.Tensor], kwargs: Any = None, temperature: float = 1.5
                 ) -> None:
    folder.mkdir(parents=True)
    torch.save(dict(weights), folder / "foundation-model-1x.weights")
    table = {"model": {"args": {"net": {"args": TINY.policy_kwargs() | (kwargs or {})},
                                "pi_head_opts": {"temperature": temperature}}}}
    (folder / "foundation-model-1x.model").write_bytes(pickle.dumps(table))


def plays(agent: Any) -> np.ndarray:
    pov = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    return np.asarray(agent.act({"pov": pov}, agent.initial_state(), np.random.default_rng(0)).log_probs["buttons"])


def test_openais_files(cache: Path, shrunk: None) -> None:
    folder = cache / "agents" / "vpt-foundation-1x"
    place_openai(folder, filled_weights(TINY))
    agent = load_agent("vpt-foundation-1x", device="cpu")
    assert agent.name == "vpt-foundation-1x" and "cloning" in agent.description
    note = agent.provenance()["weights"]
    assert note["source"] == "openai" and set(note["sha256"]) == {"foundation-model-1x.model",
                                                                  "foundation-model-1x.weights"}
    reference = plays(agent)
    (folder / "foundation-model-1x.model").unlink()
    assert np.array_equal(plays(load_agent("vpt-foundation-1x", device="cpu")), reference), "size says it all"
    prefixed = {f"module.policy.{name}": x for name, x in filled_weights(TINY).items()}
    for file in folder.iterdir():
        file.unlink()
    torch.save(prefixed, folder / "foundation-model-1x.weights")
    assert np.array_equal(plays(load_agent("vpt-foundation-1x", device="cpu")), reference)
    halved = load_agent("vpt-foundation-1x", device="cpu", precision="bfloat16")
    assert halved.provenance()["precision"] == "bfloat16" and 0 < np.abs(plays(halved) - reference).max() < 1
    assert json.loads(call("show", "vpt-foundation-1x", "--json").stdout)["present"] is True


def test_the_hubs_files(cache: Path, shrunk: None) -> None:
    folder = cache / "agents" / "vpt-foundation-2x"
    folder.mkdir(parents=True)
    save_file(filled_weights(TINY), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({
        "action_space": {}, "policy_kwargs": {**TINY.policy_kwargs(), "active_reward_monitors": {"env_reward": 1}},
        "temperature": 1.5}))
    agent = load_agent("vpt-foundation-2x", device="cpu")
    assert agent.provenance()["weights"]["source"] == "hub"
    (folder / "model.safetensors").write_bytes(b"exchanged")
    with pytest.raises(WeightsError, match="not the file that was here first"):
        load_agent("vpt-foundation-2x")


def test_a_published_digest_is_checked(cache: Path, shrunk: None) -> None:
    folder = cache / "agents" / "vpt-foundation-1x"
    folder.mkdir(parents=True)
    save_file(filled_weights(TINY), folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"safetensors is not the published file: its SHA256 is \w+, expected 475"):
        load_agent("vpt-foundation-1x")


@pytest.mark.parametrize(("change", "temperature", "words"), [
    ({"hidsize": 32}, 1.5, r"hidsize 32, expected 16"), ({}, 2.0, r"temperature 2.0, expected 1.5"),
    ({"recurrence_type": "lstm"}, 1.5, "describes another policy.*recurrence_type"),
    ({"hidsiz": 3}, 1.5, "describes another policy: unknown policy keyword"),
    ({"timesteps": "x"}, 1.5, "describes another policy"), ({"img_shape": 5}, 1.5, "describes another policy"),
    ({"impala_chans": None}, 1.5, "describes another policy"),
])
def test_the_model_file_of_another_size(change: Any, temperature: float, words: str, cache: Path, shrunk: None) -> None:
    place_openai(cache / "agents" / "vpt-foundation-1x", filled_weights(TINY), change, temperature)
    with pytest.raises(WeightsError, match=words) as caught:
        load_agent("vpt-foundation-1x", device="cpu")
    assert caught.value.where and caught.value.where.endswith(".model")


def broken(change: str) -> dict[str, torch.Tensor]:
    weights = {name: x.clone() for name, x in filled_weights(TINY).items()}
    name = "net.lastlayer.layer.weight"
    if change == "NaN":
        weights[name][0, 0] = float("nan")
    elif change == "integers":
        weights[name] = weights[name].int()
    elif change == "doubles":
        weights[name] = weights[name].double()
    elif change == "another size":
        weights[name] = torch.zeros(16, 17)
    elif change == "one too few":
        del weights[name]
    elif change == "one too many":
        weights["net.lastlayer.layer.bias"] = torch.zeros(16)
    return weights


@pytest.mark.parametrize(("change", "words"), [
    ("NaN", "net.lastlayer.layer.weight: expected finite numbers"),
    ("integers", r"net.lastlayer.layer.weight: expected float32 \[16, 16\], got int32"),
    ("doubles", r"net.lastlayer.layer.weight: expected float32, bfloat16 or float16, got float64"),
    ("another size", r"net.lastlayer.layer.weight: expected float32 \[16, 16\], got float32 \[16, 17\]"),
    ("one too few", 'missing weight "net.lastlayer.layer.weight"'),
    ("one too many", r'unexpected weight "net.lastlayer.layer.bias"'),
])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_weights_that_do_not_fit(change: str, words: str, precision: str, cache: Path, shrunk: None) -> None:
    place_openai(cache / "agents" / "vpt-foundation-1x", broken(change))
    words = words.replace("float32 ", f"{precision} ") if "int32" not in words else "int32"
    with pytest.raises(WeightsError, match=words) as caught:
        load_agent("vpt-foundation-1x", device="cpu", precision=precision)
    assert str(caught.value.where).endswith("foundation-model-1x.weights")


def test_cut_off(cache: Path, shrunk: None) -> None:
    folder = cache / "agents" / "vpt-foundation-1x"
    place_openai(folder, filled_weights(TINY))
    path = folder / "foundation-model-1x.weights"
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(WeightsError, match="is not a weights file"):
        load_agent("vpt-foundation-1x")


def test_wrong_arguments(cache: Path, shrunk: None) -> None:
    place_openai(cache / "agents" / "vpt-foundation-1x", filled_weights(TINY))
    with pytest.raises(AgentError, match="determinstic"):
        load_agent("vpt-foundation-1x", determinstic=True)
    with pytest.raises(AgentError, match="precision: expected float32, bfloat16, float16, got 'int8'"):
        load_agent("vpt-foundation-1x", precision="int8", device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(AgentError, match="device cuda was asked for"):
            load_agent("vpt-foundation-1x", device="cuda")


# --- steve-1 -------------------------------------------------------------------------------------------------------

def steve_weights() -> dict[str, torch.Tensor]:
    return random_weights(expected_shapes(TINY, StevePolicy), 0)


def test_steve_from_one_file_of_the_hub(cache: Path, shrunk: None, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cache / "agents" / "steve-1"
    folder.mkdir(parents=True)
    policy, prior = steve_weights(), Prior.random(0).state_dict()
    tower = {"mineclip.clip_model.logit_scale": torch.ones(())}
    save_file({**policy, **{f"prior.{name}": x for name, x in prior.items()}, **tower}, folder / "model.safetensors")
    agent = load_agent("steve-1", device="cpu", goal=[0.1] * 512)
    assert agent.name == "steve-1" and agent.provenance()["weights"]["source"] == "hub"
    assert np.isfinite(plays(agent)).all()
    with pytest.raises(WeightsError, match="weights of a mineclip model"):
        load_agent("steve-1", device="cpu", prompt="chop a tree")


def test_steve_from_its_authors_files(cache: Path, shrunk: None, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cache / "agents" / "steve-1"
    folder.mkdir(parents=True)
    torch.save({f"module.policy.{name}": x for name, x in steve_weights().items()}, folder / "steve1.weights")
    torch.save(Prior.random(0).state_dict(), folder / "steve1_prior.pt")
    with pytest.raises(WeightsError, match="not on this machine"):
        load_agent("steve-1", device="cpu")
    with torch.device("meta"):
        names = MineCLIP().state_dict()
    clip = {f"model.{name}": torch.zeros(1) for name in names}
    torch.save({"state_dict": clip}, folder / "attn.pth")
    with pytest.raises(WeightsError, match="attn.pth is not the published file: its MD5 is"):
        load_agent("steve-1", device="cpu")
    # Nobody can make a file with the published digest; take the row without it.
    monkeypatch.setattr("harness.agent.fetch._compare", lambda *_: None)
    agent = load_agent("steve-1", device="cpu", goal=[0.1] * 512)
    assert agent.provenance()["weights"]["source"] == "authors" and np.isfinite(plays(agent)).all()
    with pytest.raises(WeightsError, match=r"expected float32 .*, got float32 \[1\]"):
        load_agent("steve-1", device="cpu", prompt="chop a tree")
