"""A recording's frames as the transformer gets them, and its memory at any step: pictures are looked at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.agent.agent import Agent
from harness.agent.vpt.agent import VPTAgent
from harness.agent.vpt.state import VPTState
from harness.errors import AgentError
from harness.recording.recording import Recording
from harness.replay.history import RecordedHistory

__all__ = ["embeddings", "nearest_memory", "transformer_agent"]

_PICTURES = 64
"""Decoded at a time; one takes 0.7 MB."""


def transformer_agent(agent: Agent) -> VPTAgent:
    """The agent, known to have a transformer that runs on embeddings.

    Raises:
        AgentError: when it has none.
    """
    if not isinstance(agent, VPTAgent):
        raise AgentError(f"{agent.name} has no memory of frames that could be taken apart",
                         hint="use an agent with a VPT or STEVE-1 network, such as vpt-nano")
    return agent


def nearest_memory(recording: Recording, agent: VPTAgent, step: int) -> tuple[int, VPTState]:
    """The nearest memory that the recording kept at or before a step: which step it is the start of, and the memory."""
    start, kept = RecordedHistory(recording, len(recording)).state_before(step)
    return start, agent.initial_state() if kept is None else agent.load_state(kept)


def embeddings(recording: Recording, agent: VPTAgent, first: int, stop: int) -> npt.NDArray[np.float32]:
    """``hook_embed`` of steps ``first`` to ``stop - 1``, float32 [t, d]: as recorded, else from the pictures.

    Pictures are those that the agent saw, decoded 64 at a time.
    """
    history = RecordedHistory(recording, len(recording))
    kept = history.embeds(first, stop)
    if kept is not None:
        return kept
    parts = [agent.embed_pictures(history.frames(start, min(start + _PICTURES, stop)))
             for start in range(first, stop, _PICTURES)]
    return np.concatenate(parts)
