"""A tiny agent with a real policy, for interventions: two blocks of two heads, a window of a few frames."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.agent.agent import AgentOutput
from harness.agent.vpt.agent import VPTAgent
from harness.intervention.intervention import Intervention
from harness.intervention.stack import InterventionStack

WINDOW, BLOCKS, HEADS, WIDTH = 6, 2, 2, 16


@functools.cache
def tiny_agent(width: int = WIDTH, window: int = WINDOW) -> VPTAgent:
    """Random weights; small pictures."""
    return VPTAgent(policy_kwargs={
        "attention_heads": HEADS, "attention_mask_style": "clipped_causal", "attention_memory_size": 2 * window,
        "diff_mlp_embedding": False, "hidsize": width, "img_shape": [32, 32, 3], "impala_chans": [4, 4, 4],
        "impala_kwargs": {"post_pool_groups": 1}, "impala_width": 1,
        "init_norm_kwargs": {"batch_norm": False, "group_norm_groups": 1}, "n_recurrence_layers": BLOCKS,
        "only_img_input": True, "pointwise_ratio": 2, "pointwise_use_activation": False,
        "recurrence_is_residual": True, "recurrence_type": "transformer", "timesteps": window,
        "use_pointwise_layer": True, "use_pre_lstm_ln": False,
    }, pi_head_kwargs={"temperature": 1.0}, random_seed=3, device="cpu")


def pictures(n: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8 [n, 360, 640, 3], each of one colour with some blocks in it: cheap, and all different."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (n, 6, 8, 3), dtype=np.uint8)
    return np.repeat(np.repeat(small, 60, 1), 80, 2)


def play(interventions: Sequence[Intervention], frames: np.ndarray[Any, Any], chunks: Sequence[int], *,
         agent: VPTAgent | None = None, seed: int = 7, hooks: Sequence[str] = ()
         ) -> tuple[list[AgentOutput], Any, list[Any]]:
    """The agent over pictures, so many at a time, under interventions: outputs, the last memory, the log."""
    agent = tiny_agent() if agent is None else agent
    state, outputs, start, log = agent.initial_state(), [], 0, []
    with InterventionStack(interventions, agent=agent, seed=seed) as stack:
        for n in chunks:
            for steps in stack.passes(range(start, start + n), n):
                state = stack.change_memory(state, steps.start, {})
                with stack.looking(steps):
                    chosen, state = agent.look_ahead(frames[steps.start:steps.stop], state, hooks)
                outputs += [choose(None) for choose in chosen]
                log += stack.take_log()
            start += n
    return outputs, state, log


def logits(outputs: Sequence[AgentOutput]) -> np.ndarray[Any, Any]:
    """Log-probabilities of the buttons [n, 8641]."""
    return np.stack([output.log_probs["buttons"] for output in outputs])
