"""Every golden array of the original VPT code, within 1e-4 + 1e-4 |b| in float32."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from golden_policies import close, golden, golden_frames, golden_policy

MEMORIES = ["vpt_tiny_mem128", "vpt_tiny_mem8"]
FROM_HOOKS = {
    "cnn_dense": "cnn.hook_dense", "img_linear": "hook_embed", "vpred": "value.hook_out",
    # Their attention layer adds its input: what they call its output is our resid_mid.
    **{f"block{i}_{theirs}": f"blocks.{i}.{ours}" for i in range(4) for theirs, ours in (
        ("pre_r_ln", "ln1.hook_normalized"), ("attn_out", "hook_resid_mid"), ("mlp0", "mlp.hook_post"),
        ("mlp1", "hook_mlp_out"), ("out", "hook_resid_post"))},
}
PATTERNS = [f"blocks.{i}.attn.hook_pattern" for i in range(4)]


@functools.cache
def run(name: str, way: str) -> dict[str, Any]:
    """The golden input through our policy, in the golden chunks or one frame at a time."""
    meta, arrays = golden(name)
    policy, frames, first = golden_policy(name), golden_frames(), torch.from_numpy(arrays["first"])
    lengths = meta["chunk_lengths"] if way == "chunk" else [1] * meta["T"]
    state, start, outs, caches = policy.initial_state(2), 0, [], []
    with torch.inference_mode():
        for length in lengths:
            part = slice(start, start + length)
            out, state, cache = policy.run_with_cache(frames[:, part], first[:, part], state,
                                                      [*FROM_HOOKS.values(), *PATTERNS])
            outs.append(out)
            caches.append(cache)
            start += length
    return {"outs": outs, "caches": caches, "state": state}


def joined(result: dict[str, Any], array: str) -> np.ndarray:
    """Our counterpart of one golden array with batch and time axes."""
    if array in FROM_HOOKS:
        return torch.cat([cache[FROM_HOOKS[array]] for cache in result["caches"]], 1).numpy()
    field = {"vpred_denorm": "value"}.get(array, array)
    return torch.cat([getattr(out, field) for out in result["outs"]], 1).numpy()


def test_golden_input_is_the_same() -> None:
    meta, _ = golden("vpt_tiny_mem128")
    assert hashlib.sha256(golden_frames().numpy().tobytes()).hexdigest() == meta["image_sha256"]


@pytest.mark.parametrize("name", MEMORIES)
def test_every_parameter_is_filled_as_in_the_golden_run(name: str) -> None:
    meta, _ = golden(name)
    weights = golden_policy(name).state_dict()
    assert set(weights) == set(meta["param_checksum_sum_first"]) and len(weights) == 134
    for key, (total, head) in meta["param_checksum_sum_first"].items():
        assert float(weights[key].double().sum()) == pytest.approx(total, rel=1e-6, abs=1e-5), key
        assert float(weights[key].reshape(-1)[0]) == pytest.approx(head, rel=1e-6), key


@pytest.mark.parametrize("way", ["chunk", "step"])
@pytest.mark.parametrize("name", MEMORIES)
def test_outputs_and_activations(name: str, way: str) -> None:
    _, arrays = golden(name)
    compared = 0
    for key, theirs in arrays.items():
        array = key.removeprefix(f"{way}_")
        if array == key or "attn" in array and "out" not in array or "state" in array:
            continue
        ours = joined(run(name, way), array)
        close(ours, theirs.reshape(ours.shape), key)
        compared += 1
    assert compared == (27 if way == "chunk" else 7)


@pytest.mark.parametrize("way", ["chunk", "step"])
@pytest.mark.parametrize("name", MEMORIES)
def test_memory(name: str, way: str) -> None:
    _, arrays = golden(name)
    state = run(name, way)["state"]
    for i in range(4):
        assert np.array_equal(state[f"state.{i}.mask"].numpy(), arrays[f"{way}_state{i}_mask"][:, 0])
        close(state[f"state.{i}.k"].numpy(), arrays[f"{way}_state{i}_K"], f"K {i}")
        close(state[f"state.{i}.v"].numpy(), arrays[f"{way}_state{i}_V"], f"V {i}")


@pytest.mark.parametrize("name", MEMORIES)
def test_attention_patterns(name: str) -> None:
    _, arrays = golden(name)
    for i in range(4):
        for c, cache in enumerate(run(name, "chunk")["caches"]):
            close(cache[PATTERNS[i]].numpy(), arrays[f"chunk_attn{i}_chunk{c}"], f"layer {i} chunk {c}")
        steps = torch.cat([cache[PATTERNS[i]] for cache in run(name, "step")["caches"]], 2)
        close(steps.numpy(), arrays[f"step_attn{i}"], f"layer {i} step by step")


def test_image_network_stack_by_stack() -> None:
    _, arrays = golden("vpt_tiny_cnn")
    policy = golden_policy("vpt_tiny_cnn")
    names = {"dense": "cnn.hook_dense", "img_linear": "hook_embed"}
    for s in range(3):
        names |= {f"stack{s}_pool_norm": f"cnn.stacks.{s}.hook_pool",
                  f"stack{s}_out": f"cnn.stacks.{s}.blocks.1.hook_resid_post"}
    first = torch.zeros(1, 1, dtype=torch.bool)
    with torch.inference_mode():
        _, _, cache = policy.run_with_cache(golden_frames()[:1, :1], first, policy.initial_state(1),
                                            [*names.values(), "hook_image"])
    for key, name in names.items():
        close(cache[name].numpy().reshape(arrays[key].shape), arrays[key], key)
    close(cache["hook_image"][0, 0, 0].numpy(), arrays["preprocessed_0_0_row0"], "hook_image")


def test_a_reset_inside_a_chunk_equals_stepping() -> None:
    """The original ignores a reset after position 0 of a chunk; ours must not, so stepping is the truth."""
    _, arrays = golden("vpt_tiny_mem8")
    policy, first = golden_policy("vpt_tiny_mem8"), torch.from_numpy(arrays["first"])
    with torch.inference_mode():
        out, state = policy(golden_frames(), first, policy.initial_state(2))
    close(out.latent.numpy(), arrays["step_latent"], "latent")
    close(out.buttons.numpy(), arrays["step_buttons"][:, :, 0], "buttons")
    assert np.array_equal(state["state.3.mask"].numpy(), arrays["step_state3_mask"][:, 0])
