"""Laws of the goal-conditioned policy, in float64 where two ways of computing must agree; and what its page says."""

from __future__ import annotations

import copy
import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_policies import TINY, fill_rule, tiny_policy
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.mineclip import MineCLIP
from harness.agent.steve import ROWS, SteveOutput, StevePolicy
from harness.agent.steve.rows import split_row
from harness.agent.vpt.policy import expected_shapes
from harness.agent.vpt.state import VPTState

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "steve.md").read_text(encoding="utf-8")


@functools.cache
def tiny() -> StevePolicy:
    return StevePolicy.from_config(TINY, {name: torch.from_numpy(np.array(fill_rule().fill_value(name, shape)))
                                          for name, shape in expected_shapes(TINY, StevePolicy).items()})


@functools.cache
def exact() -> StevePolicy:
    return copy.deepcopy(tiny()).double()


def run(lengths: list[int], frames: torch.Tensor, first: torch.Tensor, goal: torch.Tensor, scale: float | None,
        ) -> tuple[list[SteveOutput], VPTState]:
    state, start, outs = exact().initial_state(len(frames), guided=scale is not None), 0, []
    with torch.inference_mode():
        for length in lengths:
            part = slice(start, start + length)
            out, state = exact()(frames[:, part], first[:, part], state, goal[:, part], scale)
            outs.append(out)
            start += length
    return outs, state


@given(st.lists(st.integers(1, 8), min_size=1, max_size=3), st.integers(1, 2), st.integers(0, 999),
       st.one_of(st.none(), st.floats(-2, 10)))
@settings(max_examples=25, deadline=None)
def test_chunked_is_stepped(lengths: list[int], b: int, seed: int, scale: float | None) -> None:
    """Outputs of the mixture and of each row, and the memory; goals change, and episodes begin, at any frame."""
    rng, t = np.random.default_rng(seed), sum(lengths)
    frames = torch.from_numpy(rng.integers(0, 256, (b, t, *TINY.image_shape), dtype=np.uint8))
    first = torch.from_numpy(rng.random((b, t)) < 0.2)
    goal = torch.from_numpy(rng.standard_normal((b, 3, 512))[:, np.sort(rng.integers(0, 3, t))])
    chunks, end = run(lengths, frames, first, goal, scale)
    steps, one_end = run([1] * t, frames, first, goal, scale)
    for name in ("buttons", "camera", "value", "latent"):
        whole, single = (torch.cat([getattr(out, name) for out in outs], 1) for outs in (chunks, steps))
        torch.testing.assert_close(whole, single, atol=1e-9, rtol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
    for part in end.names():
        torch.testing.assert_close(end[part], one_end[part], atol=1e-9, rtol=1e-9)
    rows = ROWS if scale is not None else ROWS[:1]
    assert tuple(chunks[0].by_row) == rows and len(end.keys[0]) == b * len(rows)
    for out in chunks:
        for row in rows:
            sums = out.by_row[row].camera.exp().sum(-1)
            torch.testing.assert_close(sums, torch.ones_like(sums))


@given(st.integers(0, 999))
@settings(max_examples=10, deadline=None)
def test_rows_keep_to_themselves(seed: int) -> None:
    """The uncond row never learns of the goal, and the cond row is that of a pass without guidance."""
    rng = np.random.default_rng(seed)
    frames = torch.from_numpy(rng.integers(0, 256, (1, 4, *TINY.image_shape), dtype=np.uint8))
    first = torch.zeros(1, 4, dtype=torch.bool)
    one, two = (torch.from_numpy(rng.standard_normal((1, 4, 512))) for _ in range(2))
    (a,), state_a = run([4], frames, first, one, 3.0)
    (c,), state_c = run([4], frames, first, two, 3.0)
    (plain,), state = run([4], frames, first, one, None)
    assert torch.equal(a.by_row["uncond"].latent, c.by_row["uncond"].latent)
    assert not torch.allclose(a.by_row["cond"].latent, c.by_row["cond"].latent)
    torch.testing.assert_close(a.by_row["cond"].latent, plain.latent, atol=1e-9, rtol=1e-9)
    for part in (name for name in state.names() if not name.endswith("age")):
        assert torch.equal(state_a[part][1:], state_c[part][1:])
        torch.testing.assert_close(state_a[part][:1], state[part], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("row", [None, *ROWS])
@pytest.mark.parametrize("name", ["hook_goal_embed", "hook_full_embed", "blocks.1.attn.hook_z", "value.hook_out",
                                  "unembed.camera.hook_out"])
def test_a_replacement_takes_effect_in_its_row(name: str, row: str | None) -> None:
    policy = tiny()
    frames, first = torch.zeros(1, 2, 16, 16, 3, dtype=torch.uint8), torch.zeros(1, 2, dtype=torch.bool)
    goal, state = torch.ones(1, 512), policy.initial_state(1, guided=True)
    field = {"value.hook_out": "value", "unembed.camera.hook_out": "camera"}.get(name, "buttons")
    full = name if row is None else f"{row}.{name}"

    def noise(x: torch.Tensor, hook: object) -> torch.Tensor:
        assert len(x) == (1 if row else 2) and hook.name == full  # type: ignore[attr-defined]
        return x + torch.rand(x.shape, generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        plain, _ = policy(frames, first, state, goal, 2.0)
        out, _ = policy.run_with_hooks(frames, first, state, [(full, noise)], goal, 2.0)
    for each in ROWS:
        same = torch.equal(getattr(out.by_row[each], field), getattr(plain.by_row[each], field))
        assert same == (row not in (None, each)), each
    if field != "value":
        assert not torch.equal(getattr(out, field), getattr(plain, field))


def test_the_page_names_every_hook_point() -> None:
    """Those that a policy has beside VPT's, and all of MineCLIP's."""
    named = set(re.findall(r"`([\w.{}]+)`", PAGE))
    own = {re.sub(r"readout\.[\w.]+\.hook", "readout.{key}.hook", name)
           for name in set(tiny().hook_points) - set(tiny_policy().hook_points)}
    assert own == {"hook_goal_embed", "hook_full_embed", "guided.readout.{key}.hook_margin"} and own <= named
    for name in MineCLIP.random("nano").hook_points:
        part, _, rest = name.partition(".")
        short = re.sub(r"^blocks\.\d+\.", "", rest)
        assert (short if rest.startswith("blocks.") else f"{part}.{rest}") in named, name


def test_the_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "steve.md", "exec"), {})
    printed = capsys.readouterr().out
    for shape in ("[1, 4, 2, 130]", "[1, 2, 8641]", "[2, 2]", "[1, 16, 1, 10, 16]"):
        assert shape in printed, shape


@given(st.text(min_size=1, max_size=30))
def test_names_of_rows(text: str) -> None:
    row, rest = split_row(text)
    assert (f"{row}.{rest}" if row else rest) == text and (row is None or row in ROWS)
    assert split_row(f"cond.{text}") == ("cond", text)
