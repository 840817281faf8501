"""A recording's frames as the transformer gets them, and the memory that it began a step with."""

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


def _played(recording: Recording, agent: VPTAgent) -> bool:
    """Whether the recording is this agent's own, so that what it kept is what the agent would compute."""
    kept, mine = recording.header["agent"], agent.provenance()
    return all(kept.get(key) == mine.get(key) for key in ("class", "weights_digest", "precision", "options"))


def nearest_memory(recording: Recording, agent: VPTAgent, step: int) -> tuple[int, VPTState]:
    """The nearest memory known at or before a step: which step it is the start of, and the memory.

    It is one that the recording kept, if the agent is the one that played. A goal that the episode drew for itself is
    that of the last memory kept; without one it is the prior's mean.
    """
    if not _played(recording, agent):
        return 0, agent.initial_state()
    start, kept = RecordedHistory(recording, len(recording)).state_before(step)
    if kept is None:
        return 0, agent.initial_state()
    snapshots = recording.snapshots
    return start, agent.keep_goal(agent.load_state(kept), agent.load_state(snapshots[max(snapshots)].agent))


def embeddings(recording: Recording, agent: VPTAgent, first: int, stop: int) -> npt.NDArray[np.float32]:
    """``hook_embed`` of steps ``first`` to ``stop - 1``, float32 [t, d].

    As recorded, if the agent is the one that played; else from the pictures that were seen, decoded 64 at a time.
    """
    history = RecordedHistory(recording, len(recording))
    kept = history.embeds(first, stop) if _played(recording, agent) else None
    if kept is not None:
        return kept
    parts = [agent.embed_pictures(history.frames(start, min(start + _PICTURES, stop)))
             for start in range(first, stop, _PICTURES)]
    return np.concatenate(parts)
