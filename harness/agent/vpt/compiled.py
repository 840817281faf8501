"""A policy's forward pass through ``torch.compile``, for those who step it many times and look at nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.agent.vpt.policy import VPTOutput, VPTPolicy
from harness.agent.vpt.state import VPTState
from harness.errors import AgentError

__all__ = ["CompiledForward"]


class CompiledForward:
    """Called like its policy: compiled while nobody listens at a hook point, the policy itself while somebody does.

    Hook points are then no part of what is compiled, and cost it nothing. Compiled results differ from the policy's by
    rounding, so looking at them changes their last bits; agents, whose decisions must not hang on being watched, do not
    use this. The first call compiles, which takes from seconds (GPU) to minutes; so does the first of another shape.

    Args:
        policy: A VPT or STEVE-1 policy.
        cuda_graphs: On a GPU, replay the pass as one CUDA graph, which spares the launches of its kernels.
        backend: As for ``torch.compile``.
    """

    def __init__(self, policy: VPTPolicy, *, cuda_graphs: bool = False, backend: Any = "inductor") -> None:
        self.policy = policy
        self._copies = cuda_graphs  # results leave the graph: also where there is none, so that this can be tested
        self._mode = "reduce-overhead" if cuda_graphs and policy.device.type == "cuda" else None
        # A full graph, or an error: falling back to the plain pass in silence is what torch.compile does otherwise.
        self._compiled = torch.compile(self._pass, fullgraph=True, dynamic=False, backend=backend,
                                       mode=self._mode)

    def _pass(self, frames: Tensor, first: Tensor, state: VPTState, *told: Any) -> tuple[VPTOutput, VPTState]:
        out, after = self.policy(frames, first, state, *told)
        return out, _laid_out(after)

    def __call__(self, frames: Tensor, first: Tensor, state: VPTState, *told: Any) -> tuple[VPTOutput, VPTState]:
        """As the policy's ``forward``; ``told`` is what a STEVE-1 policy is told besides.

        Raises:
            AgentError: where PyTorch cannot compile here.
        """
        if self.policy.hook_stack.listeners:
            return self._pass(frames, first, state, *told)
        if state.keys[0] is state.values[0]:
            # An empty memory has one tensor for all, perhaps made outside of inference mode: another program.
            state = _laid_out(state)
        if self._mode is not None:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        try:
            out, after = self._compiled(_whole(frames), _whole(first), state, *told)
        except (torch._dynamo.exc.TorchDynamoException, torch._dynamo.exc.FailOnRecompileLimitHit) as problem:
            raise AgentError(f"this policy cannot be compiled here: {_reason(problem)}",
                             hint="torch.compile needs a C++ compiler such as g++ (CPU) or Triton (GPU); without them "
                                  "call the policy itself") from problem
        return (_own(out), _laid_out(after)) if self._copies else (out, after)


def _whole(x: Tensor) -> Tensor:
    """A copy with the strides of a whole tensor; for a batch of one, ``contiguous()`` would leave those of a part."""
    return x.clone(memory_format=torch.contiguous_format)


def _laid_out(state: VPTState) -> VPTState:
    """The memory in whole tensors, so that every step is the same program."""
    mask = _whole(state.masks[0])
    masks = tuple(mask if each is state.masks[0] else _whole(each) for each in state.masks)
    return replace(state, keys=tuple(map(_whole, state.keys)), values=tuple(map(_whole, state.values)), masks=masks)


def _own(value: Any) -> Any:
    """A copy outside of the graph's own memory, which its next replay overwrites."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):  # STEVE-1's rows
        return {key: _own(part) for key, part in value.items()}
    return replace(value, **{name: _own(part) for name, part in vars(value).items()})


def _reason(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return (" ".join(lines[:2]) or type(problem).__name__)[:300]
