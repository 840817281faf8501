"""The command line. Commands live in files of their own and are loaded when they are called."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import click

from harness.errors import HarnessError, out_of_memory, unknown_name
from harness.registry import load_object

__all__ = ["LazyGroup", "Refusal", "cli", "in_words", "main"]

_COMMANDS = {
    "run": ("harness.cli.run:run", "Let an agent play a scenario, and record it."),
    "train": ("harness.cli.train:train", "Make an agent's weights by its recipe."),
    "sae": ("harness.cli.sae:sae", "Sparse autoencoders: collect activations, train, evaluate."),
    "trace": ("harness.cli.trace:trace", "Trace an agent over a recorded video, no world needed."),
    "replay": ("harness.cli.replay:replay", "Run a recording again: verify it, or draw an overlay video."),
    "view": ("harness.cli.view:view", "Look at a recording in the browser, or write it as a page to mail."),
    "fork": ("harness.cli.fork:fork", "Play on from a step of a recording on another course, and compare."),
    "compare": ("harness.cli.compare:compare_command", "Compare recordings in pairs, control and treated."),
    "effect": ("harness.cli.effect:effect_command", "Say what an intervention changes over recorded pictures."),
    "analyse": ("harness.cli.analyse:analyse", "Read something out of recordings: attention, and more."),
    "clip": ("harness.cli.clip:clip", "Look into CLIP: classify pictures, with and without an edit inside it."),
    "import": ("harness.cli.import_:import_", "Make a recording of a person's play: a video and its keys and mouse."),
    "batch": ("harness.cli.suites:suites", "Play a suite of trials, and tell what came of it."),
    "export": ("harness.cli.export:export", "Write a recording in another format."),
    "scenario": ("harness.cli.scenario:scenario", "List, show, check and preview scenarios."),
    "agent": ("harness.cli.agent:agent", "List, show and fetch agents."),
    "doctor": ("harness.cli.doctor:doctor", "Check what this machine has, and say what to type."),
    "plugins": ("harness.cli.plugins:plugins", "List and check what is registered."),
    "check": ("harness.cli.check:check", "Check a plug-in against the laws of its kind."),
}


class Refusal(click.ClickException):
    """A ``HarnessError`` as the command line shows it: one message, exit code 2."""

    exit_code = HarnessError.exit_code

    def __init__(self, problem: HarnessError) -> None:
        super().__init__(str(problem))

    def show(self, file: Any = None) -> None:
        """Print to standard error."""
        click.echo(in_words(self.message), err=True)


class Alarm(Refusal):
    """One that is no bad input: something that was to stay as it was has changed."""

    exit_code = 1


def in_words(message: str) -> str:
    """A message as the command line prints it; lists of problems in a file say "error:" themselves.

    What a file holds may stand in it: marks that steer a terminal are spelt out.
    """
    message = "".join(c if c == "\n" or c.isprintable() else ascii(c)[1:-1] for c in message)
    return message if message.startswith("error:") else f"error: {message}"


class LazyGroup(click.Group):
    """A group whose commands are named in a table and imported when called.

    Args:
        table: Command name to ("package.module:command", its line in the help).
    """

    def __init__(self, *arguments: Any, table: Mapping[str, tuple[str, str]] | None = None, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._table = dict(table or {})

    def list_commands(self, ctx: click.Context | None) -> list[str]:
        """Names, in the order of the table."""
        return list(self._table)

    def get_command(self, ctx: click.Context | None, name: str) -> click.Command | None:
        """Import a command."""
        if name not in self._table:
            return None
        command = load_object(self._table[name][0])
        assert isinstance(command, click.Command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]
                        ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest names when there is no such command."""
        if args and args[0] not in self._table and not args[0].startswith("-"):
            raise click.UsageError(str(unknown_name("command", args[0], self._table)), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, without importing a single command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._table.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run; a ``HarnessError`` or a lack of memory becomes a message, Ctrl-C exit code 130."""
        try:
            return super().invoke(ctx)
        except HarnessError as problem:
            raise (Alarm if problem.exit_code == Alarm.exit_code else Refusal)(problem) from problem
        except (MemoryError, RuntimeError) as problem:
            lack = out_of_memory(problem)
            if lack is None:
                raise
            raise Refusal(lack) from problem
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)
        except BrokenPipeError:
            # The reader (head, less) went away: what is still in the buffer has nowhere to go, and that is no error.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)


@click.group(cls=LazyGroup, table=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version("harness-bench"), prog_name="harness")
def cli() -> None:
    """A lab bench for vision-based game agents.

    Script a world, trace an agent in it, change one thing, replay and compare.
    """


def main() -> None:
    """The program ``harness``."""
    try:
        # Outside of its stand-alone mode click returns the code that a command exits with.
        code = cli.main(prog_name="harness", standalone_mode=False)
    except click.ClickException as problem:
        problem.show()
        code = problem.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = 130
    raise SystemExit(code if isinstance(code, int) else 0)
