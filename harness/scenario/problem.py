"""Problems in scenario files, told the way a compiler tells them: all of them, each with its line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import ScenarioError
from harness.scenario.source import Place

__all__ = ["Problem", "ScenarioFileError"]


_WIDTH = 160


@dataclass(frozen=True)
class Problem:
    """One thing to mend.

    Attributes:
        path: Keys and indices to it, such as ``world.blocks[1].fill`` (empty for the file as a whole).
        message: What was expected and what came.
        place: Where it stands, if it stands in a file.
        hint: What to do.
    """

    path: str
    message: str
    place: Place | None = None
    hint: str | None = None

    @property
    def where(self) -> str | None:
        """``file:line:column``, counted from 1."""
        return f"{self.place.source.name}:{self.place.line + 1}:{self.place.column + 1}" if self.place else None

    def __str__(self) -> str:
        lines = [f"error: {self.path}: {self.message}" if self.path else f"error: {self.message}"]
        gutter = " "
        if self.place is not None:
            number = str(self.place.line + 1)
            gutter = " " * len(number)
            shown, column = _window(self.place.source.line(self.place.line), self.place.column)
            lines += [f"{gutter}--> {self.where}", f"{gutter} |", f"{number} | {shown}".rstrip()]
            if shown.strip():
                carets = "^" * max(1, min(self.place.width, len(shown) - column))
                lines.append(f"{gutter} | {' ' * column}{carets}")
        if self.hint:
            lines.append(f"{gutter} = help: {self.hint}")
        return "\n".join(lines)


def _window(line: str, column: int) -> tuple[str, int]:
    """At most ``_WIDTH`` characters of a line around a column, and the column in them."""
    line = line.replace("\t", " ")
    start = max(0, column - _WIDTH // 2) if len(line) > _WIDTH else 0
    return line[start : start + _WIDTH], column - start


class ScenarioFileError(ScenarioError):
    """A scenario that cannot be loaded, with every problem found in one pass (``problems``)."""

    def __init__(self, problems: Sequence[Problem], name: str) -> None:
        self.problems = tuple(problems)
        self.name = name
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __str__(self) -> str:
        n = len(self.problems)
        total = [f"{n} problems in {self.name}"] if n > 1 else []
        return "\n".join([*(str(problem) for problem in self.problems), *total])
