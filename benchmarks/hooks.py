"""What hook points cost: one step of the nano policy, B = 1, one thread, four ways in one interleaved run.

    python benchmarks/hooks.py

* ``without``: the same modules with every hook point cut out of their source text. A syntax-tree pass drops each
  ``if`` that asks for listeners and turns each ``see(name, x)`` and ``_apply(..., x)`` into ``x``; what is left is run
  as it stands. Its outputs are checked to be equal to those of the others, bit for bit.
* ``idle``: the policy as it is, nobody listening.
* ``4 hooks``: the four attention patterns are kept as NumPy arrays, entering and leaving ``hooks()`` at each step.
* ``8 hooks``: patterns and residual streams, what the villager scenario traces.

The ways take turns within a round, in an order that rotates, so that a disturbance of the machine meets them alike.
Overheads are medians of the ratios within a round, with the interval between the 2.5 and 97.5 percentiles of 2,000
bootstrap resamples of the rounds.
"""

from __future__ import annotations

import argparse
import ast
import platform
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import harness.agent.vpt.network as network
import harness.agent.vpt.policy as policy_module
from harness.agent.vpt import VPTPolicy

PATTERNS = ["blocks.*.attn.hook_pattern"]
RESIDUALS = ["blocks.*.hook_resid_post"]
VALUE_AT = {"_apply": 2, "_apply_split": 2, "see": 1}


class CutHooks(ast.NodeTransformer):
    """Takes the hook points out of a module."""

    cut = 0

    @staticmethod
    def asks(test: ast.expr) -> bool:
        """Whether a condition asks who listens."""
        return any(isinstance(node, ast.Name | ast.Attribute) and (
            getattr(node, "id", None) == "listeners" or getattr(node, "attr", None) == "listeners")
            for node in ast.walk(test))

    def visit_If(self, node: ast.If) -> Any:
        """Keep the branch without listeners."""
        self.generic_visit(node)
        if not self.asks(node.test):
            return node
        self.cut += 1
        return node.orelse or None

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        """Keep the value without listeners."""
        self.generic_visit(node)
        if not self.asks(node.test):
            return node
        self.cut += 1
        return node.orelse

    def visit_Call(self, node: ast.Call) -> Any:
        """Put the activation in place of the hook point."""
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in VALUE_AT:
            self.cut += 1
            return node.args[VALUE_AT[node.func.id]]
        return node


def without_hooks() -> type[VPTPolicy]:
    """The policy class, built from the source with the hook points cut out."""
    made: dict[str, types.ModuleType] = {}
    for module in (network, policy_module):
        assert module.__file__ is not None
        cutter = CutHooks()
        tree = cutter.visit(ast.parse(Path(module.__file__).read_text(encoding="utf-8")))
        stripped = types.ModuleType(module.__name__ + "_without_hooks")
        stripped.__file__ = module.__file__
        # Dataclasses look their module up by name.
        sys.modules[stripped.__name__] = stripped
        exec(compile(ast.fix_missing_locations(tree), module.__file__, "exec"), stripped.__dict__)
        print(f"cut {cutter.cut} hook points and questions out of {Path(module.__file__).name}")
        made[module.__name__] = stripped
    target, source = made[policy_module.__name__], made[network.__name__]
    for name in ("block_forward", "image_maps", "image_readout", "normalise"):
        setattr(target, name, getattr(source, name))
    cls: type[VPTPolicy] = target.VPTPolicy
    return cls


def stepper(policy: VPTPolicy, frames: torch.Tensor, first: torch.Tensor, state: Any, globs: list[str]
            ) -> Callable[[], Any]:
    names = policy.hook_stack.resolve(globs)

    def step() -> Any:
        if not names:
            return policy(frames, first, state)[0]
        kept: dict[str, torch.Tensor] = {}

        def keep(x: torch.Tensor, hook: Any) -> None:
            kept[hook.name] = x

        with policy.hooks([(name, keep) for name in names]):
            out, _ = policy(frames, first, state)
        assert len({name: x.numpy() for name, x in kept.items()}) == len(names)
        return out

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=600)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    frames = torch.from_numpy(rng.integers(0, 256, (1, 1, 128, 128, 3), dtype=np.uint8))
    first = torch.zeros(1, 1, dtype=torch.bool)
    plain = VPTPolicy.random("nano")
    bare = without_hooks().from_config(plain.config, plain.state_dict())
    with torch.inference_mode():
        state = plain.initial_state(1)
        for _ in range(130):
            _, state = plain(frames, first, state)
        ways = {
            "without": stepper(bare, frames, first, state, []),
            "idle": stepper(plain, frames, first, state, []),
            "4 hooks": stepper(plain, frames, first, state, PATTERNS),
            "8 hooks": stepper(plain, frames, first, state, PATTERNS + RESIDUALS),
        }
        outs = [way() for way in ways.values()]
        assert all(torch.equal(out.buttons, outs[0].buttons) and torch.equal(out.value, outs[0].value) for out in outs)
        times: dict[str, list[float]] = {name: [] for name in ways}
        order = list(ways)
        for r in range(rounds + 20):
            for name in order[r % len(order):] + order[:r % len(order)]:
                began = time.perf_counter()
                ways[name]()
                if r >= 20:
                    times[name].append(time.perf_counter() - began)
    report(times)


def report(times: dict[str, list[float]]) -> None:
    rng = np.random.default_rng(0)
    base = np.array(times["without"])
    print(f"{platform.machine()}, torch {torch.__version__}, 1 thread, {len(base)} rounds")
    for name, values in times.items():
        ms = np.array(values) * 1e3
        low, middle, high = np.percentile(ms, [25, 50, 75])
        line = f"{name:<8} median {middle:6.3f} ms (quartiles {low:.3f} to {high:.3f})"
        if name != "without":
            ratio = np.array(values) / base
            again = np.median(rng.choice(ratio, (2000, len(ratio))), axis=1)
            a, b = np.percentile(again, [2.5, 97.5])
            line += f"   {100 * (np.median(ratio) - 1):+.2f} % ({100 * (a - 1):+.2f} to {100 * (b - 1):+.2f})"
        print(line)


if __name__ == "__main__":
    main()
