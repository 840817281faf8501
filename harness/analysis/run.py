"""Analyses by name: what each takes, and calling one with options that came as text.

An analysis is a function registered in the group ``harness.analyses``::

    def f(recording: Recording, *, agent: Agent, progress: Progress | None = None, **options) -> Result

Its leading parameters say what it reads: one or more of type ``Recording``, or one ``Sequence[Recording]`` for any
number of them. ``agent`` (if it has one) is the recording's agent, ``progress`` is told of steps done; every other
parameter is an option, checked against its annotation.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pydantic

from harness.agent.agent import Agent
from harness.analysis.open_loop import Progress
from harness.analysis.result import Result
from harness.errors import HarnessError, unknown_name
from harness.recording.recording import Recording
from harness.registry import lookup

__all__ = ["Analysis", "find_analysis", "read_analysis"]

_GIVEN = ("agent", "progress")


@dataclass(frozen=True)
class Analysis:
    """A registered analysis and what it takes.

    Attributes:
        name: Under which it is registered.
        function: The function itself.
        n_recordings: How many recordings it reads; None for any number.
        options: Option name to its annotation.
        defaults: Option name to its default, for those that have one.
        needs_agent: Whether it runs the agent again.
    """

    name: str
    function: Callable[..., Result]
    n_recordings: int | None
    options: Mapping[str, Any]
    defaults: Mapping[str, Any]
    needs_agent: bool

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def __call__(self, recordings: Sequence[Recording], options: Mapping[str, Any], *,
                 agent: Callable[[], Agent] | None = None, progress: Progress | None = None) -> Result:
        """Run it.

        Args:
            recordings: As many as it reads.
            options: Plain values, as YAML gives them.
            agent: Loads the agent, when it is needed.
            progress: Told of steps done.

        Raises:
            HarnessError: for another number of recordings, an unknown option, or a value that does not fit.
        """
        if self.n_recordings not in (None, len(recordings)) or not recordings:
            wanted = "at least one recording" if self.n_recordings is None else \
                f"{self.n_recordings} recording{'s' * (self.n_recordings > 1)}"
            raise HarnessError(f"{self.name} reads {wanted}, got {len(recordings)}")
        given: dict[str, Any] = {name: self._checked(name, value) for name, value in options.items()}
        missing = [name for name in self.options if name not in given and name not in self.defaults]
        if missing:
            raise HarnessError(f"{self.name} needs {' and '.join(missing)}", hint=f"--set {missing[0]}=VALUE")
        parameters = inspect.signature(self.function).parameters
        if self.needs_agent and agent is not None:
            given["agent"] = agent()
        if "progress" in parameters:
            given["progress"] = progress
        return self.function(*((recordings,) if self.n_recordings is None else recordings), **given)

    def _checked(self, name: str, value: Any) -> Any:
        if name not in self.options:
            raise unknown_name(f"option of {self.name}", name, self.options)
        try:
            # Not strict: YAML has no tuples. But a number is no text, and "3" no number.
            return pydantic.TypeAdapter(self.options[name], config={"arbitrary_types_allowed": True}
                                        ).validate_python(value)
        except pydantic.ValidationError as problem:
            first = problem.errors()[0]
            place = ".".join(map(str, (name, *(p for p in first["loc"] if isinstance(p, int)))))
            raise HarnessError(f"{self.name}: {place}: {first['msg'][0].lower()}{first['msg'][1:]}, got "
                               f"{first['input']!r}") from problem


def find_analysis(name: str) -> Analysis:
    """A registered analysis.

    Raises:
        HarnessError: when there is none of that name, or it is not made as the contract says.
    """
    return read_analysis(name, lookup("harness.analyses", name))


def read_analysis(name: str, function: Callable[..., Result]) -> Analysis:
    """What a function takes, which need not be registered.

    Raises:
        HarnessError: when it is not made as the contract says.
    """
    hints = typing.get_type_hints(function)
    n_recordings: int | None = 0
    options: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        hint = hints.get(parameter.name, Any)
        if hint is Recording and n_recordings is not None and not options:
            n_recordings += 1
        elif hint == Sequence[Recording] and n_recordings == 0:
            n_recordings = None
        elif parameter.name not in _GIVEN:
            options[parameter.name] = hint
            if parameter.default is not parameter.empty:
                defaults[parameter.name] = parameter.default
    if n_recordings == 0:
        raise HarnessError(f'the analysis "{name}" reads no recording',
                           hint="its first parameter must be annotated Recording or Sequence[Recording]")
    return Analysis(name, function, n_recordings, options, defaults, "agent" in hints)
