"""Full-size policies: strict loading with their temperatures, and how much memory that takes at its peak."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from golden_policies import GOLDEN
from safetensors.torch import save_file

from harness.agent.vpt import SIZES, VPTPolicy
from harness.agent.vpt.weights import load_weights
from harness.errors import WeightsError

# High-water marks from /proc: `ru_maxrss` begins with what the parent had when it started the child.
PROGRAM = """
import sys

def memory(mark):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(mark))

import torch
from harness.agent.load import describe_agent, read_weights_file
from harness.agent.vpt.agent import VPTAgent

before = memory("VmRSS:")
describe_agent("vpt-foundation-3x")
described = memory("VmHWM:") - before
before = memory("VmRSS:")
weights = read_weights_file(sys.argv[1], sys.argv[3], exact="value_head.normalizer.")
agent = VPTAgent(size=sys.argv[2], weights=weights, precision=sys.argv[3], device="cpu", torch_threads=1)
del weights
n_bytes = sum(p.numel() * p.element_size() for p in agent.policy.parameters())
print((memory("VmHWM:") - before) / n_bytes, (memory("VmRSS:") - before) / n_bytes, described)
"""


def released(size: str) -> dict[str, list[int]]:
    table = json.loads((GOLDEN / f"state_dict_vpt{size}.json").read_text())
    return {name: shape for name, (shape, _) in table.items()}


def measured(path: Path, size: str, precision: str) -> tuple[float, float, float]:
    run = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM, str(path), size, precision], check=True,
                         capture_output=True, text=True, timeout=280)
    peak, resident, described = map(float, run.stdout.split())
    return peak, resident, described


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


@needs_proc
@pytest.mark.parametrize(("ending", "precision"), [
    ("weights", "float32"), pytest.param("safetensors", "bfloat16", marks=pytest.mark.slow)])
def test_peak_memory_of_loading_a_1x(ending: str, precision: str, tmp_path: Path) -> None:
    path = tmp_path / f"1x.{ending}"
    weights = {name: torch.full(shape, 1e-3) for name, shape in released("1x").items()}
    save_file(weights, path) if ending == "safetensors" else torch.save(weights, path)
    peak, resident, described = measured(path, "1x", precision)
    assert 1 < resident <= peak < 1.6, (peak, resident)
    assert described < 100e6, "a description allocates no weights"


LACKING = """
import resource, sys
from click.testing import CliRunner
from harness.agent.load import read_weights_file
from harness.errors import HarnessError
read_weights_file(sys.argv[1], wanted=lambda name: name == "a")  # what every reading takes
with open("/proc/self/statm") as file:
    room = int(file.read().split()[0]) * resource.getpagesize() + (int(sys.argv[2]) << 20)
resource.setrlimit(resource.RLIMIT_AS, (room, room))
try:
    read_weights_file(sys.argv[1], "float32")
except HarnessError as problem:
    print(type(problem).__name__, problem)
"""


@needs_proc
@pytest.mark.parametrize(("ending", "room"), [("weights", 50), ("safetensors", 350)])  # MB: for the mapping, for copies
def test_too_little_memory_is_no_fault_of_the_file(ending: str, room: int, tmp_path: Path) -> None:
    path = tmp_path / f"x.{ending}"
    weights = {"a": torch.zeros(1), **{f"b{i}": torch.zeros(64 << 20, dtype=torch.int8) for i in range(4)}}
    save_file(weights, path) if ending == "safetensors" else torch.save(weights, path)
    run = subprocess.run([sys.executable, "-c", LACKING, str(path), str(room)], check=True, capture_output=True,
                         text=True, timeout=120)
    assert run.stdout.startswith("HarnessError out of memory") and "take a smaller size" in run.stdout, run.stdout


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("size", ["2x", "3x"])
def test_peak_memory_of_the_large_ones(size: str, tmp_path: Path) -> None:
    path = tmp_path / f"{size}.weights"
    torch.save({name: torch.full(shape, 1e-3) for name, shape in released(size).items()}, path)
    peak, _, _ = measured(path, size, "float32")
    assert peak < 1.6


@pytest.mark.parametrize("size", ["1x", "2x", "3x"])
def test_every_name_and_shape_is_held_against_the_model(size: str) -> None:
    """On the meta device, where no number is: a released file's names and shapes fit, and a change does not."""
    shapes = released(size)
    with torch.device("meta"):
        policy = VPTPolicy(SIZES[size])
    assert {name: list(weight.shape) for name, weight in policy.state_dict().items()} == shapes
    assert policy.config.temperature == int(size[0])
    given = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    given["pi_head.buttons.linear_layer.bias"] = torch.zeros(8640)
    given["net.lastlayer.layer.wieght"] = given.pop("net.lastlayer.layer.weight")
    with pytest.raises(WeightsError) as caught:
        load_weights(policy, given)
    for words in ("pi_head.buttons.linear_layer.bias: expected float32 [8641], got float32 [8640]",
                  'unexpected weight "net.lastlayer.layer.wieght" (nearest: net.lastlayer.layer.weight)',
                  'missing weight "net.lastlayer.layer.weight"'):
        assert words in str(caught.value)


@pytest.mark.parametrize(("file", "model"), [("1x", "2x"), ("2x", "1x"), ("3x", "2x")])
def test_swapped_sizes(file: str, model: str) -> None:
    given = {name: torch.zeros(()).expand(shape) for name, shape in released(file).items()}
    with pytest.raises(WeightsError, match=r"(?s)do not fit the model.*expected float32.*and \d+ more") as caught:
        VPTPolicy.from_released(SIZES[model].policy_kwargs(), {"temperature": int(model[0])}, given)
    assert caught.value.hint == f"these are the weights of a {file} model"
    given.popitem()
    with pytest.raises(WeightsError) as caught:
        VPTPolicy.from_released(SIZES[model].policy_kwargs(), {"temperature": int(model[0])}, given)
    assert "that belongs to this model size" in str(caught.value.hint)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["2x", "3x"])
def test_the_large_ones_load_at_full_size(size: str) -> None:
    """The same number stands behind every weight, so only the copies cost memory (2.1 GB for 3x)."""
    given = {name: torch.full((), 1e-3).expand(shape) for name, shape in released(size).items()}
    policy = VPTPolicy.from_released(SIZES[size].policy_kwargs(), {"temperature": int(size[0])}, given)
    first = torch.ones(1, 1, dtype=torch.bool)
    with torch.inference_mode():
        out, state = policy(torch.zeros(1, 1, 128, 128, 3, dtype=torch.uint8), first, policy.initial_state(1))
    torch.testing.assert_close(out.buttons.exp().sum(-1), torch.ones(1, 1))
    assert state["state.3.k"].shape == (1, 128, SIZES[size].hidsize)
    assert policy.config.temperature == int(size[0])
