"""Agent files and weights files: what loads, and how each wrong thing is named."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_policies import TINY, filled_weights
from safetensors.torch import save_file

from harness.agent.load import agent_names, load_agent, model_card, read_agent_definition, read_weights_file
from harness.agent.vpt import VPTPolicy
from harness.agent.vpt.agent import VPTAgent
from harness.errors import AgentError, HookError, WeightsError


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def test_bundled_agents() -> None:
    assert {"chopper", "noop", "random", "vpt-nano"} <= set(agent_names())
    for name in agent_names():
        definition = read_agent_definition(name)
        assert definition.name == name and definition.description and definition.licence
        assert load_agent(name).name == name


def test_random_weights_are_called_random_everywhere() -> None:
    agent = load_agent("untrained")
    for said in (agent.description, read_agent_definition("untrained").text(), str(agent.provenance()["weights"]),
                 read_agent_definition("untrained").description):
        assert "random weights (seed 0)" in said, said
    other = load_agent("untrained", random_seed=4)
    assert "random weights (seed 4)" in other.description and "seed 0" not in other.description


def test_bundled_weights_are_sealed_small_and_trained() -> None:
    sealed = [read_agent_definition(name) for name in agent_names() if read_agent_definition(name).weights is not None]
    assert "vpt-nano" in [definition.name for definition in sealed]
    for definition in sealed:
        assert definition.sha256 is not None and definition.weights is not None
        assert definition.weights.stat().st_size <= 9_000_000
        assert "random weights" not in load_agent(definition.name, device="cpu").description
        card = model_card(definition.name)
        assert card is not None and "@" not in card, "a card has figures and no gaps"
    assert sum(d.weights.stat().st_size for d in sealed if d.weights is not None) <= 56_000_000


def test_overrides_reach_the_agent() -> None:
    agent = load_agent("vpt-nano", device="cpu", deterministic=True, torch_threads=2)
    assert isinstance(agent, VPTAgent) and agent.deterministic and agent.torch_threads == 2


def test_agents_without_a_network_have_no_hooks() -> None:
    with pytest.raises(HookError, match="no hook points"):
        load_agent("noop").resolve_hooks(["blocks.*"])


@pytest.mark.parametrize(("name", "words"), [
    ("vpt-nanno", ["unknown agent", "vpt-nano"]), ("../agents/noop", ["unknown agent"]), ("", ["unknown agent"]),
    ("missing.yaml", ["no agent file", "vpt-nano"]),
])
def test_unknown_names(name: str, words: list[str]) -> None:
    with pytest.raises(AgentError) as caught:
        load_agent(name)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(("text", "words"), [
    ("kind: noop\ndescription: x\nargumets: {}\n", ["argumets", "arguments", "mine.yaml:3:1"]),
    ("kind: noop\n", ['"description"', "mine.yaml"]),
    ("kind: [noop]\ndescription: x\n", ['"kind"', "mine.yaml:1:1"]),
    ("kind: nooop\ndescription: x\n", ["unknown agent", "nooop", "noop"]),
    ("- a\n", ["keys and values", "mine.yaml:1:1"]),
    ("kind: 'noop\n", ["not valid YAML", "mine.yaml:2:1"]),
    ("kind: !!python/object/apply:os.getcwd []\ndescription: x\n", ["tag", "not allowed", "mine.yaml:1:7"]),
    ("kind: vpt\ndescription: x\narguments: {size: nano, random_seed: 0, hidsiz: 3}\n", ["hidsiz", "mine.yaml"]),
    ("kind: vpt\ndescription: x\narguments: {size: nano}\n", ["weights file or a random_seed"]),
    ("kind: vpt\ndescription: x\nweights: {file: ../secret.safetensors}\n", ["outside", "mine.yaml:3:1"]),
    ("kind: vpt\ndescription: x\nweights: {file: a.safetensors}\n", ["a.safetensors is missing"]),
    ("kind: vpt\ndescription: x\nweights: {fil: a.safetensors}\n", ['"file" and "sha256"']),
    ("kind: vpt\ndescription: x\nweights: {file: a.safetensors, sha: 1}\n", ["sha", "sha256"]),
    ("kind: vpt\ndescription: x\nweights: {file: a.safetensors, sha256: xyz}\n", ["64 hexadecimal digits"]),
])
def test_wrong_agent_files(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(AgentError) as caught:
        load_agent(path)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_unknown_overrides() -> None:
    with pytest.raises(AgentError, match="determinstic"):
        load_agent("vpt-nano", determinstic=True)
    with pytest.raises(AgentError, match="has no network"):
        load_agent("noop", device="cuda")
    with pytest.raises(AgentError, match="weights"):
        load_agent("vpt-nano", weights={})


def tiny_file(folder: Path, ending: str = ".safetensors") -> tuple[Path, str]:
    path = folder / f"tiny{ending}"
    if ending == ".safetensors":
        save_file(filled_weights(TINY), path)
    else:
        torch.save(filled_weights(TINY), path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


TINY_ARGUMENTS = f"policy_kwargs: {TINY.policy_kwargs()}\n  pi_head_kwargs: {TINY.pi_head_kwargs()}".replace("'", "")


@pytest.mark.parametrize("ending", [".safetensors", ".weights"])
def test_weights_from_a_file(tmp_path: Path, ending: str) -> None:
    path, digest = tiny_file(tmp_path, ending)
    text = (f"kind: vpt\ndescription: tiny\nlicence: MIT\nweights: {{file: {path.name}, sha256: {digest}}}\n"
            f"arguments:\n  {TINY_ARGUMENTS}\n")
    agent = load_agent(write(tmp_path, text))
    assert agent.description == "tiny" and "random" not in str(agent.provenance())
    assert agent.provenance()["weights"] == {"file": path.name, "sha256": digest, "licence": "MIT"}
    pov = np.zeros((360, 640, 3), np.uint8)
    assert agent.act({"pov": pov}, agent.initial_state(), np.random.default_rng(0)).value is not None


def test_a_folder_of_the_hub_as_weights(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    path, digest = tiny_file(tmp_path)
    path.rename(tmp_path / "hub" / "model.safetensors")
    file = write(tmp_path, f"kind: vpt\ndescription: tiny\nweights: {{file: hub}}\narguments:\n  {TINY_ARGUMENTS}\n")
    assert load_agent(file).provenance()["weights"]["sha256"] == digest


def test_mistakes_point_to_where_they_were_made(tmp_path: Path) -> None:
    path, _ = tiny_file(tmp_path)
    file = write(tmp_path, f"kind: vpt\ndescription: x\nweights: {{file: {path.name}}}\narguments: {{size: nano}}\n")
    with pytest.raises(WeightsError, match="do not fit") as refusal:
        load_agent(file)
    assert refusal.value.where == str(path)
    with pytest.raises(AgentError, match="precision") as refusal_of_argument:
        load_agent("vpt-nano", precision="float8")
    assert refusal_of_argument.value.where is None


def test_another_digest(tmp_path: Path) -> None:
    path, _ = tiny_file(tmp_path)
    text = f"kind: vpt\ndescription: x\nweights: {{file: {path.name}, sha256: {'a' * 64}}}\narguments: {{size: nano}}\n"
    with pytest.raises(WeightsError, match="not the one the agent file means"):
        load_agent(write(tmp_path, text))


def test_weights_of_another_size(tmp_path: Path) -> None:
    path, _ = tiny_file(tmp_path)
    text = f"kind: vpt\ndescription: x\nweights: {{file: {path.name}}}\narguments: {{size: nano}}\n"
    with pytest.raises(WeightsError, match="missing weight"):
        load_agent(write(tmp_path, text))


def test_reading_gives_the_tensors_back(tmp_path: Path) -> None:
    for ending in (".safetensors", ".weights"):
        back = read_weights_file(tiny_file(tmp_path, ending)[0])
        assert all(torch.equal(back[name], weight) for name, weight in filled_weights(TINY).items())


class Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("ran"),))


def test_what_is_no_weights_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = tiny_file(tmp_path)[0].read_bytes()
    cases = {"empty": b"", "text": b"hello, this is no file of weights", "cut": good[:len(good) // 2],
             "evil": pickle.dumps(Evil()), "zip": b"PK\x03\x04nothing"}
    torch.save({"a": Evil()}, tmp_path / "evil2")
    cases["evil2"] = (tmp_path / "evil2").read_bytes()
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(WeightsError, match="not a weights file"):
            read_weights_file(tmp_path / name)
    assert not (tmp_path / "ran").exists(), "code in a weights file was run"
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="holds list, expected tensors by name"):
        read_weights_file(tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="tiny.safetensors"):
        read_weights_file(tmp_path / "tinny.safetensors")


def test_scripted_agents_load_without_torch() -> None:
    program = ("import sys; sys.modules['torch'] = None\n"
               "from harness.agent.load import load_agent\n"
               "for name in ('noop', 'random', 'chopper'): load_agent(name)\n"
               "assert 'cv2' not in sys.modules and 'numba' not in sys.modules")
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


@pytest.mark.parametrize(("text", "message", "place"), [
    ("kind: vpt\nkind: noop\ndescription: x", 'duplicate key "kind"', "2:1"),
    ("kind: vpt\ndescription: x\narguments: {size: 2020-99-99}", 'unknown VPT size "2020-99-99"', "3:1"),
    ("kind: vpt\ndescription: x\narguments: {size: nano, random_seed: abc}", "random_seed: expected", "3:1"),
    ("kind: vpt\ndescription: x\narguments: {size: nano, random_seed: -1}", "random_seed: expected", "3:1"),
    ("kind: vpt\ndescription: x\narguments: {size: nano, random_seed: 0, torch_threads: 100000}", "from 1 to", "3:1"),
    ("kind: vpt\ndescription: x\narguments: {policy_kwargs: 3, pi_head_kwargs: 4, random_seed: 0}", "fit", "3:1"),
    ("kind: replay\ndescription: x\narguments: {actions: 5}", "do not fit agents of kind replay", "3:1"),
    ("kind: vpt\ndescription: " + "[" * 5000, "nested too deeply", ""),
    ("kind: vpt\ndescription: x\narguments: {size: nano}\nweights: {file: .}", "is a folder", ""),
])
def test_a_wrong_agent_file_is_refused_with_its_place(tmp_path: Path, text: str, message: str, place: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(AgentError) as refusal:
        load_agent(file, device="cpu")
    assert message in str(refusal.value)
    assert not place or refusal.value.where == f"{file}:{place}"


def test_weights_that_are_no_numbers_are_refused_by_name() -> None:
    weights = VPTPolicy.random("nano").state_dict()
    name = "net.lastlayer.layer.weight"
    weights[name] = weights[name].clone()
    weights[name][3, 4] = float("nan")
    with pytest.raises(WeightsError, match=f"{name}: expected finite numbers"):
        VPTPolicy.from_config("nano", weights)
