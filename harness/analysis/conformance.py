"""What every analysis must do, as checks that its author's own test calls.

    @pytest.mark.parametrize("check", conformance.CHECKS)
    def test_conformance(check, tmp_path):
        check(my_analysis, conformance.bench_recordings(tmp_path), {"window": 5})

Each check raises ``AssertionError`` with a sentence where the contract is broken. ``harness check NAME`` runs them too.
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
from harness.errors import HarnessError
from harness.provenance import file_digest
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode
from harness.world.conformance import bench_world
from harness.world.world import World

__all__ = ["CHECKS", "bench_recordings", "check_analysis", "check_options", "check_recordings", "check_repeats",
           "check_result", "check_signature"]

Analysis = Callable[..., Any]
Check = Callable[[Analysis, Sequence[Recording], Mapping[str, Any]], None]
_FIRST = ("recording", "recordings")
_TRACED = ("blocks.*.attn.hook_pattern", "blocks.*.hook_resid_post")


def bench_recordings(folder: Path, agent: Agent | None = None, make_world: Callable[[], World] = bench_world, *,
                     n: int = 2, n_steps: int = 24) -> list[Recording]:
    """Short recordings to try an analysis on; attention and residuals are traced where the agent has a network.

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
                        hooks=_TRACED if player.hook_shapes() else ())
    return [open_recording(path) for path in recorder.paths]


def check_analysis(analysis: Analysis, recordings: Sequence[Recording], options: Mapping[str, Any] | None = None
                   ) -> None:
    """Every check, one after the other.

    Args:
        analysis: The function.
        recordings: What it is tried on; an analysis of one recording gets the first.
        options: Keywords that it needs.
    """
    for check in CHECKS:
        check(analysis, recordings, options or {})


def _first(analysis: Analysis) -> str:
    return next(iter(inspect.signature(analysis).parameters), "")


def _run(analysis: Analysis, recordings: Sequence[Recording], options: Mapping[str, Any]) -> Any:
    return analysis(list(recordings) if _first(analysis) == "recordings" else recordings[0], **options)


def _json(value: Any, what: str) -> str:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as problem:
        raise AssertionError(f"{what} holds what is no JSON value: {problem}") from problem


def check_signature(analysis: Analysis, recordings: Sequence[Recording], options: Mapping[str, Any]) -> None:
    """A documented function of ``recording`` or ``recordings``; everything else can be said by keyword."""
    assert callable(analysis), f"expected a function, got {analysis!r}"
    assert inspect.getdoc(analysis), "the function has no docstring"
    parameters = list(inspect.signature(analysis).parameters.values())
    assert parameters and parameters[0].name in _FIRST, \
        f"the first parameter is called recording or recordings, got {_first(analysis) or 'none'}"
    unnamed = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL)]
    assert not unnamed, f"{', '.join(unnamed)} cannot be given by keyword"


def check_result(analysis: Analysis, recordings: Sequence[Recording], options: Mapping[str, Any]) -> None:
    """It returns a ``Result`` whose provenance, and ``as_dict()`` where it has one, are JSON values."""
    result = _run(analysis, recordings, options)
    assert isinstance(result, Result), f"expected a harness.analysis.Result, got {type(result).__name__}"
    assert isinstance(result.provenance, Mapping) and result.provenance, "the provenance says nothing"
    _json(result.provenance, "the provenance")
    _as_dict(result)


def _as_dict(result: Any) -> str:
    """``as_dict()`` as text; the provenance alone, of a result without one."""
    as_dict = getattr(result, "as_dict", None)
    return _json(as_dict() if as_dict is not None else result.provenance, "as_dict()")


def check_options(analysis: Analysis, recordings: Sequence[Recording], options: Mapping[str, Any]) -> None:
    """An option that it does not have is refused."""
    try:
        _run(analysis, recordings, {**options, "there_is_no_such_option": 1})
    except (TypeError, HarnessError):
        return
    raise AssertionError("there_is_no_such_option=1 was taken; refuse what is not known")


def check_repeats(analysis: Analysis, recordings: Sequence[Recording], options: Mapping[str, Any]) -> None:
    """The same recording and options give the same result."""
    first = _as_dict(_run(analysis, recordings, options))
    assert _as_dict(_run(analysis, recordings, options)) == first, "the second result differs from the first"


def check_recordings(analysis: Analysis, recordings: Sequence[Recording], options: Mapping[str, Any]) -> None:
    """It writes nothing into the recordings' folders."""
    before = _files(recordings)
    _run(analysis, recordings, options)
    after = _files(recordings)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    assert not changed, f"it changed {', '.join(changed)}"


def _files(recordings: Sequence[Recording]) -> dict[str, str]:
    return {str(path.relative_to(each.path.parent)): file_digest(path) for each in recordings
            for path in sorted(each.path.rglob("*")) if path.is_file()}


CHECKS: tuple[Check, ...] = (check_signature, check_result, check_options, check_repeats, check_recordings)
"""The checks, for ``pytest.mark.parametrize``."""
