"""A compiled pass says what the policy says, and steps aside while somebody looks."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_policies import TINY, filled_weights
from torch import Tensor

from harness.agent.steve import StevePolicy
from harness.agent.vpt import VPTPolicy
from harness.agent.vpt.compiled import CompiledForward
from harness.errors import AgentError


class Traced:
    """A backend that runs what PyTorch traced, without a compiler, and counts."""

    def __init__(self) -> None:
        self.n_compiled = self.n_runs = 0

    def __call__(self, module: Any, inputs: Any) -> Any:
        self.n_compiled += 1

        def run(*arguments: Any) -> Any:
            self.n_runs += 1
            return module(*arguments)
        return run


@pytest.fixture(autouse=True)
def forgotten() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def pictures(n: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (n, 1, 1, *TINY.image_shape), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("cuda_graphs", [False, True])  # on a CPU there are none, and results are copied all the same
@pytest.mark.parametrize("kind", ["vpt", "steve"])
def test_one_program_for_all_steps_and_none_while_somebody_looks(kind: str, cuda_graphs: bool) -> None:
    if kind == "vpt":
        policy, told = VPTPolicy.from_config(TINY, filled_weights(TINY)), ()
    else:
        policy, told = StevePolicy.random(TINY, 0), (torch.ones(1, 512), 6.0)
    backend, shown = Traced(), pictures(8)
    compiled = CompiledForward(policy, backend=backend, cuda_graphs=cuda_graphs)
    first = torch.zeros(1, 1, dtype=torch.bool)
    guided = {"guided": True} if kind == "steve" else {}
    state = expected = policy.initial_state(1, **guided)
    with torch.inference_mode():
        for number, frame in enumerate(shown):
            out, state = compiled(frame, first, state, *told)
            right, expected = policy(frame, first, expected, *told)
            torch.testing.assert_close((out.buttons, out.camera, out.value), (right.buttons, right.camera, right.value))
            for name in state.names():
                torch.testing.assert_close(state[name], expected[name])
            assert backend.n_runs == number + 1
        assert backend.n_compiled == 1
        seen = []
        with policy.hooks([("blocks.*.attn.hook_pattern", lambda x, hook: seen.append(hook.name))]):
            out, state = compiled(shown[0], first, state, *told)
        right, _ = policy(shown[0], first, expected, *told)
        assert len(seen) == TINY.blocks and torch.equal(out.buttons, right.buttons)
        assert backend.n_runs == len(shown) and backend.n_compiled == 1
        compiled(shown[1], first, state, *told)
        assert backend.n_runs == len(shown) + 1 and backend.n_compiled == 1


def test_where_nothing_can_be_compiled() -> None:
    def backend(module: Any, inputs: Any) -> Any:
        raise RuntimeError("no working C++ compiler")

    policy = VPTPolicy.from_config(TINY, filled_weights(TINY))
    compiled, first = CompiledForward(policy, backend=backend), torch.zeros(1, 1, dtype=torch.bool)
    with pytest.raises(AgentError, match=r"cannot be compiled here: .*no working C\+\+ compiler") as refusal:
        compiled(pictures(1)[0], first, policy.initial_state())
    assert "g++" in str(refusal.value)
    with policy.hooks([("hook_embed", lambda x, hook: None)]):
        compiled(pictures(1)[0], first, policy.initial_state())


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_on_a_gpu(cuda_graphs: bool) -> None:
    """Log-probabilities and memory within 1e-3 of the policy's, and a memory from earlier stays as it was."""
    policy = VPTPolicy.from_config(TINY, filled_weights(TINY)).to("cuda")
    compiled, first = CompiledForward(policy, cuda_graphs=cuda_graphs), torch.zeros(1, 1, dtype=torch.bool).cuda()
    state = expected = policy.initial_state()
    kept = []
    with torch.inference_mode():
        for frame in pictures(6).cuda():
            out, state = compiled(frame, first, state)
            right, expected = policy(frame, first, expected)
            assert (out.buttons - right.buttons).abs().max() < 1e-3
            kept.append((state, [state[name].clone() for name in state.names()]))
    for old, parts in kept:
        assert all(torch.equal(old[name], part) for name, part in zip(old.names(), parts, strict=True))


BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "released.py"


def test_the_benchmark_steps_the_compiled_pass(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
                                               ) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARK.parent))
    released, backend = importlib.import_module("released"), Traced()

    class WithoutCompiler(CompiledForward):
        def __init__(self, policy: VPTPolicy) -> None:
            super().__init__(policy, backend=backend)
    monkeypatch.setattr(released, "CompiledForward", WithoutCompiler)
    with torch.inference_mode():
        released.modes(VPTPolicy.random("nano", 0), 1, compiling=True)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  compiled ")]
    assert len(rows) == 1 and "KL" in rows[0] and backend.n_compiled == 1


@pytest.mark.gpu
def test_the_benchmark_on_a_gpu() -> None:
    """Half precision, automatic half precision, compiled, and CUDA graphs, each with its error."""
    done = subprocess.run([sys.executable, str(BENCHMARK), "--device", "cuda", "--compile", "--sizes", "1x", "--only",
                           "modes", "--rounds", "5"], capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    print(done.stdout)
    for mode in ("float32", "bfloat16", "automatic bfloat16", "compiled", "compiled, CUDA graphs"):
        assert f"\n  {mode} " in done.stdout
