"""The errors a user can meet, and the words they use.

    HarnessError                  anything the user can mend; the command line prints it and exits with 2
      ScenarioError               a scenario file: unknown key, block, creature, name; bad value
      WorldError                  a world refused an action, a command, a snapshot; an engine is missing
        GameError                 a game's process died, hung, or sent what makes no sense; reset starts another
      AgentError                  an agent definition: unknown name, unknown keyword
        WeightsError              a weights file: missing, wrong name, wrong shape, wrong digest
        HookError                 a hook name or glob that matches nothing
      InterventionError           an intervention that does not exist or does not fit
      RecordingError              a recording that cannot be written, opened or read
      TrainingError               a recipe that cannot be read, a run that cannot go on
      StoreError                  an activation store that cannot be written, opened or read
      SuiteError                  a suite of trials that cannot be read or run
      LabelsError               pictures or their labels that cannot be read, or do not match
      VideoError                  a video that cannot be read or has no frames

Every message says what was expected, what came, where, and what to do next.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = [
    "AgentError",
    "GameError",
    "HarnessError",
    "HookError",
    "InterventionError",
    "LabelsError",
    "RecordingError",
    "ScenarioError",
    "StoreError",
    "SuiteError",
    "TrainingError",
    "VideoError",
    "WeightsError",
    "WorldError",
    "nearest_names",
    "out_of_memory",
    "unknown_name",
]


class HarnessError(Exception):
    """An error with an address: what went wrong, where, and what to do about it.

    Args:
        message: What was expected and what came, in one or more lines.
        where: A place a person can go to, such as ``file.yaml:13:16``.
        hint: What to do next.
    """

    exit_code = 2

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.message, self.where, self.hint = message, where, hint
        super().__init__(message)

    def __str__(self) -> str:
        lines = [self.message]
        if self.where:
            lines.append(f"  --> {self.where}")
        if self.hint:
            lines.append(f"  = help: {self.hint}")
        return "\n".join(lines)


class ScenarioError(HarnessError):
    """A scenario file or value that cannot be used."""


class WorldError(HarnessError):
    """A world that cannot be made, commanded, stepped or restored."""


class GameError(WorldError):
    """A game's process that died, hung, or sent what makes no sense. It is gone; the next reset starts another."""


class AgentError(HarnessError):
    """An agent that cannot be found or built."""


class WeightsError(AgentError):
    """A weights file that is missing, foreign or does not fit the model."""


class HookError(AgentError):
    """A hook name or glob that matches no hook point."""


class InterventionError(HarnessError):
    """An intervention that does not exist or does not fit the agent or world."""


class RecordingError(HarnessError):
    """A recording that cannot be written, opened or read."""


class TrainingError(HarnessError):
    """A training recipe that cannot be used, or a training run that cannot begin or go on."""


class StoreError(HarnessError):
    """An activation store that cannot be written, opened or read."""


class SuiteError(HarnessError):
    """A suite that cannot be read, or whose trials cannot be run."""


class LabelsError(HarnessError):
    """Pictures or their labels that cannot be read, or do not match."""


class VideoError(HarnessError):
    """A video that cannot be read or holds no frames."""


def out_of_memory(problem: BaseException) -> HarnessError | None:
    """What to say of memory that ran out; None for anything else. PyTorch, which may not be here, has many words."""
    words = str(problem)
    if not isinstance(problem, MemoryError) and not re.search(
            "out of memory|(can't|cannot) allocate memory|alloc_failed", words, re.IGNORECASE):
        return None
    on_gpu = re.search("cuda|cublas|cudnn", words, re.IGNORECASE)
    asked = re.search(r"tried to allocate ([\d.]+ \w+)", words, re.IGNORECASE)
    return HarnessError(f"out of {'GPU ' if on_gpu else ''}memory{f' (it wanted {asked[1]} more)' if asked else ''}: "
                        "take a smaller size of the agent, --precision bfloat16, fewer --hooks"
                        f"{', or --device cpu' if on_gpu else ''}")


def nearest_names(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The known names that look most like ``name``, best first (empty when none is close)."""
    candidates = sorted(set(known))
    close = difflib.get_close_matches(name, candidates, n=n, cutoff=0.5)
    return close or [c for c in candidates if name and (name in c or c in name)][:n]


def unknown_name(kind: str, name: str, known: Iterable[str], *, where: str | None = None,
                 error: type[HarnessError] = HarnessError) -> HarnessError:
    """An error for a name that is not in a table, with the nearest names and, if short, the whole table."""
    table = sorted(set(known))
    close = nearest_names(name, table)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    if len(table) <= 12 or not close:
        hint = f"{hint} known: {', '.join(table) if table else '(none)'}".strip()
    return error(f'unknown {kind} "{name}"', where=where, hint=hint)
