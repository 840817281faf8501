"""Options that tell an agent what to do, shared by the commands that load one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

__all__ = ["goal_options"]


class _Scale(click.ParamType):  # type: ignore[type-arg]  # generic in newer clicks only
    name = "number|auto|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """A number, or one of the two words."""
        if value in ("auto", "none"):
            return str(value)
        try:
            return float(value)
        except ValueError:
            self.fail(f"expected a number, auto or none, got {value!r}", param, ctx)


_OPTIONS = (
    click.option("--prompt", metavar="TEXT", help="Tell an agent such as steve-1 what to do, in plain English."),
    click.option("--goal", type=click.Path(), metavar="FILE",
                 help="Tell it by a video of 16 frames or more, or an embedding (.npy, .npz, .safetensors)."),
    click.option("--goal-frame", type=int, metavar="N", help="The last of the 16 frames; else the video's last."),
    click.option("--cond-scale", type=_Scale(), default=None,
                 help="Strength of guidance: a number, auto (6 for a prompt, else 7), or none."),
)


def goal_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options by which an agent is told what to do.

    The command gets ``told``: keywords for ``load_agent``, of those that were given.
    """
    @functools.wraps(command)
    def told(*args: Any, prompt: str | None, goal: str | None, goal_frame: int | None,
             cond_scale: float | str | None, **options: Any) -> Any:
        given = {"prompt": prompt, "goal": goal, "goal_frame": goal_frame, "cond_scale": cond_scale}
        return command(*args, told={key: value for key, value in given.items() if value is not None}, **options)

    wrapped: Callable[..., Any] = told
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
