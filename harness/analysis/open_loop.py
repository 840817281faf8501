"""Open loop: an agent over the pictures of a recording, whatever it would do, with interventions or without.

The recorded pictures and actions are what happens; the agent looks and remembers. Two runs over the same recording
differ in nothing but their stacks, so what they differ in is what the stacks did.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.agent.action_mapping import BUTTON_NAMES, button_table
from harness.agent.agent import Agent, AgentOutput, AgentState
from harness.agent.ahead import chunk_length
from harness.errors import AgentError, RecordingError, unknown_name
from harness.intervention.intervention import Intervention
from harness.intervention.stack import InterventionStack, passes
from harness.recording.recording import Recording
from harness.replay.replay import recorded_action, recorded_world
from harness.rollout import spawn_streams
from harness.world.action import check_action

__all__ = ["Progress", "Shown", "check_key", "check_untreated", "has_key", "kl_divergence", "listen", "log_odds",
           "look_over", "ticks"]

Float = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


def check_key(key: str) -> None:
    """Refuse what is no button of the policy.

    Raises:
        HarnessError: with the nearest names.
    """
    if key not in BUTTON_NAMES:
        raise unknown_name("key", key, BUTTON_NAMES)


def check_untreated(recordings: Sequence[Recording]) -> None:
    """Refuse recordings over which an agent cannot be run again as it was.

    Raises:
        RecordingError: for one without steps, one that was made under interventions, or a fork.
    """
    for recording in recordings:
        where = str(recording.path)
        if not len(recording):
            raise RecordingError(f"the recording has no steps: {recording.summary}", where=where)
        if recording.header["interventions"]:
            raise RecordingError("the recording was made under interventions, so nothing in it is untreated",
                                 where=where, hint="take one that was made without --intervene")
        if recording.first_step:
            raise RecordingError("the recording is a fork, and the memory it began with is not built here", where=where,
                                 hint="take the recording that it was made from")


@functools.cache
def has_key(key: str) -> npt.NDArray[np.bool_]:
    """Per joint button class, bool [8641]: whether it holds a key down."""
    return np.asarray(button_table()[:, BUTTON_NAMES.index(key)] > 0)


def log_odds(log_probs: npt.NDArray[Any], key: str) -> Float:
    """Log-odds that a key is down: log-sum-exp over the joint button classes with it, less that over those without.

    Args:
        log_probs: Log-probabilities of the joint classes, float [..., 8641], normalised or not.
        key: One of the policy's 20 buttons.

    Returns:
        float64 [...], in nats.
    """
    down, x = has_key(key), np.asarray(log_probs, np.float64)
    return np.asarray(np.logaddexp.reduce(x[..., down], -1) - np.logaddexp.reduce(x[..., ~down], -1))


def kl_divergence(p: npt.NDArray[Any], q: npt.NDArray[Any]) -> Float:
    """D(p || q) of log-probabilities [t, n], in nats."""
    wide = (np.asarray(x, np.float64) for x in (p, q))
    a, b = (x - np.logaddexp.reduce(x, -1, keepdims=True) for x in wide)
    return np.asarray(np.maximum((np.exp(a) * (a - b)).sum(-1), 0.0))


def ticks(progress: Progress | None, total: int) -> Callable[[int], None]:
    """A function that adds up steps and tells ``progress`` of them."""
    done = 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        if progress:
            progress(done, total)
    return tick


def listen(recording: Recording, agent: Agent, hooks: Sequence[str], tick: Callable[[int], None]
           ) -> Iterator[list[AgentOutput]]:
    """The agent over the pictures that it saw, some at a time, with its activations; nothing of it is kept.

    Args:
        recording: From its first step on. What edits inside the agent did when it was made is not done again.
        agent: One with a network.
        hooks: Names whose activations to bring.
        tick: Called with the number of steps done.

    Yields:
        Outputs of neighbouring steps, in order, each with ``activations`` of its own.

    Raises:
        RecordingError: for a recording without steps, or a fork.
        AgentError: for an agent that has no network.
    """
    where = str(recording.path)
    if not len(recording):
        raise RecordingError(f"the recording has no steps: {recording.summary}", where=where)
    if recording.first_step:
        raise RecordingError("the recording is a fork, and the memory it began with is not built here", where=where,
                             hint="take the recording that it was made from")
    if not hasattr(agent, "look_ahead"):
        raise AgentError(f"{agent.name} has no network to look into", hint="use an agent with one, such as vpt-nano")
    state, most = agent.initial_state(), chunk_length(agent, hooks)
    if hasattr(agent, "begin"):  # what an episode draws at its first frame, from the stream it drew from then
        state = agent.begin(state, spawn_streams(recording.seed)[1])
    for start in range(0, len(recording), most):
        frames = recording.agent_pov[start:start + most]
        chosen, state = agent.look_ahead(frames, state, hooks)
        yield [choose(None) for choose in chosen]
        tick(len(frames))


def look_over(recording: Recording, agent: Agent, stack: Sequence[Intervention], like: Sequence[Intervention],
              tick: Callable[[int], None]) -> tuple[list[AgentOutput], set[int]]:
    """The outputs over a recording under a stack, and the steps in which something was applied.

    Args:
        recording: Whose pictures, from its first step on.
        agent: One that tells log-probabilities; with ``look_ahead`` it sees several pictures at once.
        stack: Interventions, in order; none for the untreated run.
        like: The stack that the untreated run is compared with.
        tick: Called with the number of steps done.

    The pictures go through the network in passes, and come from a world, as the stack ``like`` needs it: the untreated
    run is then rounded as the treated one is.
    """
    waits = any(each.schedule.waits for each in like)
    most = 1 if waits or not hasattr(agent, "look_ahead") else chunk_length(agent, ())
    state, outputs, touched = agent.initial_state(), list[AgentOutput](), set[int]()
    with contextlib.ExitStack() as scope:
        shown = scope.enter_context(Shown(recording, waits or any(e.site == "world" or e.needs_world for e in like)))
        edits = scope.enter_context(InterventionStack(
            stack, agent=agent, seed=recording.seed, world=shown.world, n_steps=len(recording)))
        edits.begin(shown.info if shown.world else None)
        for steps in passes(like, range(len(recording)), most):
            before, frames = shown.info, [shown.next(step, edits) for step in steps]
            state = edits.change_memory(state, steps.start, before)
            with edits.looking(steps):
                found, state = _look(agent, frames, state)
            outputs += found
            touched |= {each.step for each in edits.take_log()}
            tick(len(steps))
    return outputs, touched


class Shown:
    """The pictures of a recording as a stack leaves them, and the world that they come from where it is needed.

    Args:
        recording: Whose.
        with_world: Whether to make its world again.

    Attributes:
        world: The world at the picture that ``next`` gives next; None without one.
        info: The world's info there, or the row before it.

    Raises:
        RecordingError: for a world that promises no equal frames.
    """

    def __init__(self, recording: Recording, with_world: bool) -> None:
        self.recording, self.info = recording, dict[str, Any]()
        self.world = recorded_world(recording) if with_world else None
        can = None if self.world is None else self.world.capabilities
        if can is not None and not can.deterministic:
            raise RecordingError(f"the {can.backend} backend promises no equal frames, so the world cannot be made "
                                 "again", where=str(recording.path),
                                 hint="use interventions that need no world")

    def __enter__(self) -> Shown:
        if self.world is not None:
            observation, self.info = self.world.reset(seed=spawn_streams(self.recording.seed)[0])
            self._pov = observation["pov"]
        return self

    def __exit__(self, *exception: object) -> None:
        if self.world is not None:
            self.world.close()

    def next(self, step: int, edits: InterventionStack) -> npt.NDArray[np.uint8]:
        """The picture of a step; then the world plays the recorded action."""
        observation = {"pov": self.recording.pov[step] if self.world is None else self._pov}
        observation = dict(edits.change_world(observation, step, self.info))
        pov: npt.NDArray[np.uint8] = edits.change_input(observation, step, self.info)["pov"]
        row = self.recording.steps[step]
        if self.world is None:
            self.info = row
        else:
            action = check_action(recorded_action(row, "executed", self.recording))
            after, _, _, _, self.info = self.world.step(action)
            self._pov = after["pov"]
            edits.played(step, self.info, action)
        return pov


def _look(agent: Agent, frames: Sequence[npt.NDArray[np.uint8]], state: AgentState
          ) -> tuple[list[AgentOutput], AgentState]:
    """One pass over some pictures; nothing is drawn."""
    if hasattr(agent, "look_ahead"):
        chosen, state = agent.look_ahead(np.stack(frames), state)
        found = [choose(None) for choose in chosen]
    else:
        found = [agent.act({"pov": frames[0]}, state, np.random.default_rng(0))]
        state = found[0].state
    if any("buttons" not in each.log_probs for each in found):
        raise AgentError(f"{agent.name} tells no log-probabilities, so nothing can be said of its choices",
                         hint="use an agent with a network, such as vpt-nano")
    return found, state
