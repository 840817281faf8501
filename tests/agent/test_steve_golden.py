"""STEVE-1's policy and prior against the original's numbers: 1e-4 + 1e-4 |b| as for VPT, the prior to 1e-5."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pytest
import torch
from golden_policies import GOLDEN, close, fill_rule, golden, golden_frames

from harness.agent.hooks import ActivationCache
from harness.agent.mineclip.config import EMBED
from harness.agent.steve import Prior, SteveOutput, StevePolicy
from harness.agent.vpt import SIZES, VPTConfig
from harness.agent.vpt.policy import expected_shapes
from harness.agent.vpt.state import VPTState
from harness.errors import AgentError, WeightsError

NAME = "steve1_tiny_mem128"
PATTERNS = [f"blocks.{i}.attn.hook_pattern" for i in range(4)]
T = 24


@functools.cache
def policy() -> StevePolicy:
    meta, _ = golden(NAME)
    config = VPTConfig.from_released(meta["policy_kwargs"], meta["pi_head_kwargs"])
    weights = {name: torch.from_numpy(np.array(fill_rule().fill_value(name, shape)))
               for name, shape in expected_shapes(config, StevePolicy).items()}
    return StevePolicy.from_released(meta["policy_kwargs"], meta["pi_head_kwargs"], weights)


def goals() -> torch.Tensor:
    """The goal of every frame [1, 24, 512]: it changes at t = 12."""
    return torch.from_numpy(golden(NAME)[1]["embed_seq"])


@functools.cache
def run(lengths: tuple[int, ...], scale: float | None) -> tuple[list[SteveOutput], list[ActivationCache], VPTState]:
    frames, first = golden_frames()[:1, :T], torch.zeros(1, T, dtype=torch.bool)
    state, start, outs, caches = policy().initial_state(1, guided=scale is not None), 0, [], []
    with torch.inference_mode():
        for length in lengths:
            part = slice(start, start + length)
            goal = goals()[:, part] if length > 1 else goals()[:, start]
            out, state, cache = policy().run_with_cache(frames[:, part], first[:, part], state,
                                                        [*PATTERNS, "hook_goal_embed", "value.hook_out"],
                                                        goal_embed=goal, cond_scale=scale)
            outs.append(out)
            caches.append(cache)
            start += length
    return outs, caches, state


STEPS = (1,) * T


def joined(outs: list[SteveOutput], name: str, row: str | None = None) -> np.ndarray:
    return torch.cat([getattr(out if row is None else out.by_row[row], name) for out in outs], 1).numpy()


def test_every_parameter_is_filled_as_in_the_golden_run() -> None:
    meta, arrays = golden(NAME)
    weights = policy().state_dict()
    assert set(weights) == set(meta["param_checksum_sum_first"]) and len(weights) == 136
    for key, (total, head) in meta["param_checksum_sum_first"].items():
        assert float(weights[key].double().sum()) == pytest.approx(total, rel=1e-6, abs=1e-5), key
        assert float(weights[key].reshape(-1)[0]) == pytest.approx(head, rel=1e-6), key
    assert np.array_equal(fill_rule().embeds(7, 2), arrays["embeds"])
    assert not np.array_equal(arrays["embed_seq"][0, 11], arrays["embed_seq"][0, 12])


@pytest.mark.parametrize("lengths", [(10, 14), (T,), STEPS])
def test_plain(lengths: tuple[int, ...]) -> None:
    _, arrays = golden(NAME)
    outs, caches, _ = run(lengths, None)
    for name in ("latent", "buttons", "camera"):
        ours = joined(outs, name)
        close(ours, arrays[f"plain_{name}"].reshape(ours.shape), name)
    raw = torch.cat([cache["value.hook_out"] for cache in caches], 1).numpy()
    close(raw, arrays["plain_vpred"].reshape(raw.shape), "vpred")


@pytest.mark.parametrize("lengths", [(10, 14), (T,), STEPS])
def test_two_rows(lengths: tuple[int, ...]) -> None:
    """Latents, memory, attention and the added goal of both rows; the unconditional row's log-probabilities."""
    _, arrays = golden(NAME)
    outs, caches, state = run(lengths, 6.0)
    close(joined(outs, "latent"), arrays["condB2_latent"], "latent")
    told = torch.cat([cache["hook_goal_embed"] for cache in caches], 1).numpy()
    close(told, arrays["embed_linear"], "hook_goal_embed")
    for head in ("buttons", "camera"):
        close(joined(outs, head, "uncond"), arrays[f"uncond_{head}"][:, :, 0], f"uncond {head}")
        close(joined(outs, head, "cond"), arrays[f"plain_{head}"][:, :, 0], f"cond {head}")
    for i in range(4):
        assert np.array_equal(state[f"state.{i}.mask"].numpy(), arrays[f"condB2_state{i}_mask"][:, 0])
        close(state[f"state.{i}.k"].numpy(), arrays[f"condB2_state{i}_K"], f"K {i}")
        close(state[f"state.{i}.v"].numpy(), arrays[f"condB2_state{i}_V"], f"V {i}")
        if lengths == STEPS:
            pattern = torch.cat([cache[PATTERNS[i]] for cache in caches], 2).numpy()
            close(pattern, arrays[f"condB2_attn{i}"], f"attention {i}")


@pytest.mark.parametrize(("scale", "name"), [(None, "act_none"), (0.0, "act_scale0"), (6.0, "act_scale6")])
def test_acting(scale: float | None, name: str) -> None:
    """The original's acting loop: mixed log-probabilities, the tokens taken, their log-probability, both values.

    The original took the most likely tokens. At scale 6 seven log-probabilities add up, and their rounding with them.
    """
    _, arrays = golden(NAME)
    outs, caches, _ = run(STEPS, scale)
    total = np.zeros((T, 1), np.float32)
    for head in ("camera", "buttons"):
        ours = joined(outs, head)[0]
        if f"{name}_pd_{head}" in arrays:
            close(ours, arrays[f"{name}_pd_{head}"][:, 0, 0], f"{name} {head}")
        tokens = arrays[f"{name}_{head}"].reshape(T, 1)
        assert np.array_equal(ours.argmax(-1)[:, None], tokens), head
        total += np.take_along_axis(ours, tokens, 1)
    assert np.allclose(total, arrays[f"{name}_log_prob"], atol=1e-3, rtol=1e-4)
    values = torch.stack([out.value[:, 0] for out in outs]).numpy()[..., None]
    close(values, arrays[f"{name}_vpred"], "value")


def test_scale_0_is_no_guidance_and_the_formula_holds() -> None:
    plain, zero, six = (run(STEPS, scale)[0] for scale in (None, 0.0, 6.0))
    for head in ("buttons", "camera"):
        assert np.abs(joined(plain, head) - joined(zero, head)).max() < 1e-4
        mixed = 7 * joined(six, head, "cond") - 6 * joined(six, head, "uncond")
        assert np.allclose(mixed, joined(six, head), atol=1e-5)
        sums = np.exp(joined(six, head).astype(np.float64)).sum(-1)
        assert np.abs(sums - 1).max() > 0.01, "guided log-probabilities are not normalised again"


def test_prior_of_the_original() -> None:
    meta, arrays = golden("steve1_prior")
    shapes = json.loads((GOLDEN / "state_dict_steve1_prior.json").read_text())
    weights = {name: torch.from_numpy(np.array(fill_rule().fill_value(name, shape)))
               for name, (shape, _) in shapes.items()}
    for key, (total, head) in meta["param_checksum_sum_first"].items():
        assert float(weights[key].double().sum()) == pytest.approx(total, rel=1e-6, abs=1e-5), key
        assert float(weights[key].reshape(-1)[0]) == pytest.approx(head, rel=1e-6), key
    prior = Prior.from_released(weights)
    assert list(prior.state_dict()) == list(shapes) and sum(w.numel() for w in weights.values()) == 2_366_976
    text, z, video = (torch.from_numpy(arrays[key]) for key in ("text", "z", "visual"))
    with torch.inference_mode():
        found = {"prior_deterministic": prior(text), "decode_z": prior(text, z),
                 "encode": torch.cat(prior.encode(video, text), -1)}
    for key, ours in found.items():
        torch.testing.assert_close(ours, torch.from_numpy(arrays[key]), atol=1e-5, rtol=1e-5, msg=key)
    assert not torch.equal(found["decode_z"], found["prior_deterministic"])
    with pytest.raises(WeightsError, match="missing weight"):
        Prior.from_released({key: value for key, value in weights.items() if "decoder.6" not in key})
    with pytest.raises(AgentError, match="512"):
        prior(text[:, :100])


def test_names_shapes_and_counts_of_the_released_size() -> None:
    theirs = {name: tuple(shape) for name, (shape, _) in
              json.loads((GOLDEN / "state_dict_steve1.json").read_text()).items()}
    ours = expected_shapes(SIZES["2x"], StevePolicy)
    assert ours == theirs and len(ours) == 136
    assert sum(torch.Size(shape).numel() for shape in ours.values()) == 249_545_918
    assert ours["net.mineclip_embed_linear.weight"] == (2048, EMBED)
    plain: dict[str, Any] = dict.fromkeys(expected_shapes(SIZES["2x"]))
    assert set(ours) - set(plain) == {"net.mineclip_embed_linear.weight", "net.mineclip_embed_linear.bias"}
