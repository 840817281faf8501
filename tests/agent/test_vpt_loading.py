"""Strict loading: names, shapes and keywords of the released files, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_policies import GOLDEN, TINY, filled_weights
from safetensors.torch import save_file

from harness.agent.load import read_weights_file
from harness.agent.vpt import SIZES, VPTConfig, VPTPolicy
from harness.agent.vpt.agent import VPTAgent
from harness.agent.vpt.policy import expected_shapes
from harness.errors import AgentError, WeightsError

COUNTS = json.loads((GOLDEN / "param_counts.json").read_text())


def released(size: str) -> dict[str, Any]:
    return dict(json.loads((GOLDEN / f"state_dict_vpt{size}.json").read_text()))


@pytest.mark.parametrize("size", ["1x", "2x", "3x"])
def test_names_shapes_and_counts_of_the_released_sizes(size: str) -> None:
    ours = expected_shapes(size)
    theirs = {name: tuple(shape) for name, (shape, dtype) in released(size).items()}
    assert all(dtype == "float32" for _, dtype in released(size).values())
    assert ours == theirs and list(ours) == list(theirs)
    counted = COUNTS[f"vpt{size}"]
    assert len(ours) == counted["keys"] == 134
    assert sum(torch.Size(shape).numel() for shape in ours.values()) == counted["elements"]
    for group, n in counted["groups"].items():
        assert sum(torch.Size(s).numel() for name, s in ours.items() if name.startswith(group + ".")) == n, group


def test_a_released_1x_loads_at_full_size() -> None:
    """The same zeros stand behind every weight, so only the copies cost memory."""
    config = SIZES["1x"]
    weights = {name: torch.zeros(()).expand(shape) for name, (shape, _) in released("1x").items()}
    policy = VPTPolicy.from_released(config.policy_kwargs(), {"temperature": 1}, weights)
    state = policy.initial_state(1)
    frames, first = torch.zeros(1, 1, 128, 128, 3, dtype=torch.uint8), torch.ones(1, 1, dtype=torch.bool)
    with torch.inference_mode():
        out, state = policy(frames, first, state)
    assert out.buttons.shape == (1, 1, 8641) and out.camera.shape == (1, 1, 121) and out.latent.shape == (1, 1, 1024)
    torch.testing.assert_close(out.buttons.exp().sum(-1), torch.ones(1, 1))
    assert state["state.3.k"].shape == (1, 128, 1024)
    assert policy.config.window == 128 and policy.config.d_head == 128


def test_nano() -> None:
    config = SIZES["nano"]
    assert (config.hidsize, config.heads, config.blocks, config.impala_width) == (128, 4, 4, 1)
    assert (config.window, config.temperature) == (128, 1.0)
    n = sum(torch.Size(shape).numel() for shape in expected_shapes("nano").values())
    assert 4.1e6 < n < 4.3e6


def test_temperatures_equal_the_width_multiple() -> None:
    assert [SIZES[size].temperature for size in ("1x", "2x", "3x")] == [1, 2, 3]
    assert all(SIZES[size].d_head == 128 for size in ("1x", "2x", "3x"))


def test_keyword_round_trip() -> None:
    for config in (*SIZES.values(), TINY):
        assert VPTConfig.from_released(config.policy_kwargs(), config.pi_head_kwargs()) == config


def test_state_dict_gives_the_released_file_back() -> None:
    weights = filled_weights(TINY)
    policy = VPTPolicy.from_released(TINY.policy_kwargs(), TINY.pi_head_kwargs(), weights)
    back = policy.state_dict()
    assert set(back) == set(weights) and all(torch.equal(back[name], weights[name]) for name in weights)
    fixed = {name for name, p in policy.named_parameters() if not p.requires_grad}
    assert fixed == {f"value_head.normalizer.{x}" for x in ("running_mean", "running_mean_sq", "debiasing_term")}


def test_weights_can_be_saved_as_they_are(tmp_path: Path) -> None:
    policy = VPTPolicy.random(TINY)
    save_file(policy.state_dict(), tmp_path / "weights.safetensors")
    back = VPTPolicy.from_config(TINY, read_weights_file(tmp_path / "weights.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), back.parameters(), strict=True))


def test_gradients_flow() -> None:
    """The policy can be trained: every weight but the value normaliser gets a gradient."""
    policy = VPTPolicy.random(TINY)
    frames = torch.randint(0, 256, (2, 3, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    out, _ = policy(frames, torch.zeros(2, 3, dtype=torch.bool), policy.initial_state(2))
    (out.buttons[..., 7].sum() + out.camera[..., 3].sum() + out.value.sum()).backward()
    missing = [name for name, p in policy.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


def test_loading_copies() -> None:
    weights = filled_weights(TINY)
    policy = VPTPolicy.from_config(TINY, weights)
    weights["net.final_ln.weight"].zero_()
    assert policy.state_dict()["net.final_ln.weight"].any()


@pytest.mark.parametrize(("change", "words"), [
    ({"hidsiz": 128}, ["unknown policy keyword", "hidsiz", "hidsize"]),
    ({"recurrence_type": "lstm"}, ["recurrence_type", "'transformer'", "'lstm'"]),
    ({"hidsize": 15}, ["15", "2 attention heads"]),
    ({"impala_width": 0}, ["impala_width", "at least 1"]),
    ({"init_norm_kwargs": {"batch_norm": True, "group_norm_groups": 1}}, ["init_norm_kwargs", "True"]),
    ({"attention_memory_size": 2}, ["attention_memory_size", "at least 1"]),
])
def test_wrong_keywords(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(AgentError) as caught:
        VPTPolicy.from_released({**TINY.policy_kwargs(), **change}, TINY.pi_head_kwargs(), filled_weights(TINY))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_missing_keywords() -> None:
    keywords = TINY.policy_kwargs()
    del keywords["hidsize"]
    with pytest.raises(AgentError, match="missing policy keyword: hidsize"):
        VPTConfig.from_released(keywords, TINY.pi_head_kwargs())
    with pytest.raises(AgentError, match="temperature"):
        VPTConfig.from_released(TINY.policy_kwargs(), {})
    with pytest.raises(AgentError, match='unknown pi_head keyword "temprature"'):
        VPTConfig.from_released(TINY.policy_kwargs(), {"temperature": 1, "temprature": 1})
    with pytest.raises(AgentError, match="temperature"):
        VPTConfig.from_released(TINY.policy_kwargs(), {"temperature": 0})


def test_training_keywords_of_released_files_are_known() -> None:
    keywords = {**TINY.policy_kwargs(), "active_reward_monitors": {"env_reward": 1}}
    assert VPTConfig.from_released(keywords, TINY.pi_head_kwargs()) == TINY


def broken(**changes: Any) -> dict[str, Any]:
    weights: dict[str, Any] = filled_weights(TINY)
    for name, value in changes.items():
        weights.pop(name) if value is None else weights.__setitem__(name, value)
    return weights


@pytest.mark.parametrize(("weights", "words"), [
    (broken(**{"net.final_ln.weight": None}), ['missing weight "net.final_ln.weight"']),
    (broken(**{"net.final_ln.wieght": torch.zeros(16)}),
     ['unexpected weight "net.final_ln.wieght"', "nearest: net.final_ln.weight"]),
    (broken(**{"net.final_ln.weight": None, "net.final_ln.wieght": torch.zeros(16)}),
     ['unexpected weight "net.final_ln.wieght" (nearest: net.final_ln.weight)', "missing weight"]),
    (broken(**{"net.final_ln.weight": torch.zeros(17)}), ["net.final_ln.weight", "float32 [16]", "float32 [17]"]),
    (broken(**{"net.final_ln.weight": torch.zeros(16).half()}), ["expected float32 [16]", "float16 [16]"]),
    (broken(**{"net.final_ln.weight": 3}), ["net.final_ln.weight", "expected a tensor, got int"]),
    ({}, ["missing weight", "and 94 more"]),
])
def test_weights_that_do_not_fit(weights: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(WeightsError) as caught:
        VPTPolicy.from_released(TINY.policy_kwargs(), TINY.pi_head_kwargs(), weights)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_ever_so_many_foreign_names_are_refused_at_once() -> None:
    """Looking for the nearest of each took minutes."""
    weights = {f"net.recurrent_layer.blocks.{i}.mlp0.layer.weighty": torch.zeros(1) for i in range(20_000)}
    begin = time.process_time()
    with pytest.raises(WeightsError, match="nearest: net.recurrent_layer.blocks.0.mlp0.layer.weight"):
        VPTPolicy.from_config("nano", weights)
    assert time.process_time() - begin < 10


def test_another_size_is_refused_by_shape() -> None:
    with pytest.raises(WeightsError, match="expected float32"):
        VPTPolicy.from_config("2x", {n: torch.zeros(()).expand(s) for n, s in expected_shapes("1x").items()})


def test_random_weights_are_the_same_in_every_process() -> None:
    program = ("from harness.agent.vpt.agent import VPTAgent;"
               "print(VPTAgent(size='nano', random_seed=0, device='cpu').weights_digest())")
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == VPTAgent(size="nano", random_seed=0, device="cpu").weights_digest()
    assert run.stdout.strip() != VPTAgent(size="nano", random_seed=1, device="cpu").weights_digest()


def test_an_untrained_policy_is_neither_dead_nor_saturated() -> None:
    policy = VPTPolicy.random("nano")
    frames = torch.randint(0, 256, (1, 4, 128, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        out, _, cache = policy.run_with_cache(frames, torch.zeros(1, 4, dtype=torch.bool), policy.initial_state(1),
                                              ["cnn.hook_dense", "blocks.*.hook_resid_post"])
    assert (cache["cnn.hook_dense"] > 0).float().mean() > 0.2
    assert all(0.1 < cache[f"blocks.{i}.hook_resid_post"].std() < 10 for i in range(4))
    entropy = -(out.buttons.exp() * out.buttons).sum(-1)
    assert (entropy > 8.5).all(), "8,641 choices, nearly uniform"


@pytest.mark.parametrize(("frames", "first"), [
    (torch.zeros(1, 2, 16, 16, 3), torch.zeros(1, 2, dtype=torch.bool)),
    (torch.zeros(1, 2, 3, 16, 16, dtype=torch.uint8), torch.zeros(1, 2, dtype=torch.bool)),
    (torch.zeros(1, 0, 16, 16, 3, dtype=torch.uint8), torch.zeros(1, 0, dtype=torch.bool)),
    (torch.zeros(1, 2, 16, 16, 3, dtype=torch.uint8), torch.zeros(1, 2)),
    (torch.zeros(1, 2, 16, 16, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.bool)),
    (torch.zeros(2, 2, 16, 16, 3, dtype=torch.uint8), torch.zeros(2, 2, dtype=torch.bool)),
])
def test_wrong_inputs(frames: torch.Tensor, first: torch.Tensor) -> None:
    policy = VPTPolicy.from_config(TINY, filled_weights(TINY))
    with pytest.raises(AgentError, match="expected"):
        policy(frames, first, policy.initial_state(1))
