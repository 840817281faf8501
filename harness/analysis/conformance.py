"""What every analysis must do, as checks that its author's own test calls.

    @pytest.mark.parametrize("check", conformance.CHECKS)
    def test_conformance(check, tmp_path):
        check(my_analysis, conformance.bench_recordings(tmp_path), {"window": 5})

One that runs the agent again gets it as a fourth argument, and ``bench_recordings`` as its second. Each check raises
``AssertionError`` with a sentence where the contract is broken. ``harness check NAME`` runs them too.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from harness.agent.agent import Agent
from harness.agent.scripted import RandomAgent
from harness.analysis.result import Result
from harness.analysis.run import read_analysis
from harness.errors import HarnessError
from harness.provenance import file_digest
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode
from harness.world.conformance import bench_world
from harness.world.world import World

__all__ = ["CHECKS", "bench_recordings", "check_analysis", "check_recordings", "check_repeats", "check_result",
           "check_signature", "run_once"]

Function = Callable[..., Result]
_TRACED = ("attn.hook_pattern", "attn.hook_rel_bias", "hook_resid_post")


def bench_recordings(folder: Path, agent: Agent | None = None, make_world: Callable[[], World] = bench_world, *,
                     n: int = 2, n_steps: int = 24) -> list[Recording]:
    """Short recordings to try an analysis on; attention and residuals are traced where the agent has them.

    Args:
        folder: The recordings' folders go into it.
        agent: Who plays; None for random keys.
        make_world: Builds the world.
        n: How many, with seeds 0, 1, ...
        n_steps: Steps of each.
    """
    player = RandomAgent() if agent is None else agent
    with closing(make_world()) as world, Recorder(folder) as recorder:
        for seed in range(n):
            run_episode(world, player, seed=seed, max_steps=n_steps, observers=[recorder],
                        hooks=[name for name in player.hook_shapes() if name.endswith(_TRACED)])
    return [open_recording(path) for path in recorder.paths]


def check_analysis(analysis: Function, recordings: Sequence[Recording], options: Mapping[str, Any] | None = None,
                   agent: Agent | None = None) -> None:
    """Every check, one after the other.

    Args:
        analysis: The function.
        recordings: What it is tried on; it gets as many of the first as it reads.
        options: Those that it needs, as plain values.
        agent: For one that runs the agent again.
    """
    for check in CHECKS:
        check(analysis, recordings, options or {}, agent)


def run_once(analysis: Function, recordings: Sequence[Recording], options: Mapping[str, Any], agent: Agent | None
             ) -> Result:
    """Call it as ``harness analyse`` does.

    Raises:
        HarnessError: for options that do not fit, or its own.
    """
    read = read_analysis(getattr(analysis, "__name__", "analysis"), analysis)
    return read(recordings[:read.n_recordings], options, agent=None if agent is None else lambda: agent)


def check_signature(analysis: Function, recordings: Sequence[Recording], options: Mapping[str, Any],
                    agent: Agent | None = None) -> None:
    """A documented function that says by annotations which recordings it reads and which options it takes."""
    assert callable(analysis), f"expected a function, got {analysis!r}"
    assert inspect.getdoc(analysis), "the function has no docstring"
    try:
        read = read_analysis(analysis.__name__, analysis)
    except HarnessError as problem:
        raise AssertionError(f"{problem.message}: {problem.hint}") from problem
    several = [each.name for each in inspect.signature(analysis).parameters.values()
               if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    assert not several, f"{', '.join(several)} takes anything: name every option"
    bare = [name for name, hint in read.options.items() if hint is Any]
    assert not bare, f"{', '.join(bare)} has no annotation, so a value that does not fit cannot be refused"


def check_result(analysis: Function, recordings: Sequence[Recording], options: Mapping[str, Any],
                 agent: Agent | None = None) -> None:
    """It returns a Result whose provenance and ``as_dict()`` are JSON values."""
    result = run_once(analysis, recordings, options, agent)
    assert isinstance(result, Result), f"expected a harness.analysis.Result, got {type(result).__name__}"
    assert isinstance(result.provenance, Mapping) and result.provenance, "the provenance says nothing"
    _json(result.provenance, "the provenance")
    _json(result.as_dict(), "as_dict()")


def check_repeats(analysis: Function, recordings: Sequence[Recording], options: Mapping[str, Any],
                  agent: Agent | None = None) -> None:
    """The same recordings and options give the same numbers."""
    one, two = (run_once(analysis, recordings, options, agent) for _ in range(2))
    assert _json(one.as_dict(), "as_dict()") == _json(two.as_dict(), "as_dict()"), \
        "the second result differs from the first"
    arrays, again = one.arrays(), two.arrays()
    other = [name for name in {**arrays, **again}
             if name not in arrays or name not in again or arrays[name].tobytes() != again[name].tobytes()]
    assert not other, f"the second result differs from the first in {', '.join(other)}"


def check_recordings(analysis: Function, recordings: Sequence[Recording], options: Mapping[str, Any],
                     agent: Agent | None = None) -> None:
    """It writes nothing into the recordings' folders."""
    before = _files(recordings)
    run_once(analysis, recordings, options, agent)
    after = _files(recordings)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    assert not changed, f"it changed {', '.join(changed)}"


def _json(value: Any, what: str) -> str:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as problem:
        raise AssertionError(f"{what} holds what is no JSON value: {problem}") from problem


def _files(recordings: Sequence[Recording]) -> dict[str, str]:
    return {str(path.relative_to(each.path.parent)): file_digest(path) for each in recordings
            for path in sorted(each.path.rglob("*")) if path.is_file()}


CHECKS: tuple[Callable[..., None], ...] = (check_signature, check_result, check_repeats, check_recordings)
"""The checks, for ``pytest.mark.parametrize``."""
