"""``harness batch``: a suite to play, or something to do with the results of one."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from harness.cli import LazyGroup
from harness.cli.batch import batch

__all__ = ["suites"]

_COMMANDS = {
    "report": ("harness.cli.batch_report:report", "Tell what lies in a suite's folder: a page, JUnit, Markdown."),
    "query": ("harness.cli.batch_query:query", "Ask the results a question in SQL."),
    "export": ("harness.cli.batch_query:export", "Write the results as a Parquet file."),
}
_HELP = ("-h", "--help")


class _Nameless(click.Context):
    """Of a command that is called by its group's name alone."""

    @property
    def command_path(self) -> str:
        """Without the blank before the name that is not there."""
        return super().command_path.rstrip()


batch.context_class = _Nameless


class _Suites(LazyGroup):
    """A group in which every word that is no command is a suite to play."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Whatever is no command's goes to ``batch`` as it is, options before the suite and all."""
        if args and args[0] not in self._table and args[0] not in _HELP:
            args = ["--", *args]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context | None, name: str) -> click.Command | None:
        """One of the table, or the one that plays a suite of that name."""
        return super().get_command(ctx, name) or batch

    def resolve_command(self, ctx: click.Context, args: list[str]
                        ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; any other word stays where it is, for ``batch``."""
        if args[0] in self._table:
            return super().resolve_command(ctx, args)
        return "", batch, args

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands, and what ``batch`` completes: suites, files, options."""
        suite = next(each for each in batch.params if isinstance(each, click.Argument))
        more = batch.shell_complete(ctx, incomplete) if incomplete.startswith("-") \
            else suite.shell_complete(ctx, incomplete)
        commands = [item for item in super().shell_complete(ctx, incomplete) if not incomplete.startswith("-")]
        return [*commands, *more]

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Both forms."""
        formatter.write_usage(ctx.command_path, "[OPTIONS] SUITE")
        formatter.write_usage(ctx.command_path, "report|query|export FOLDER ...")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Those of ``batch``, and the commands."""
        click.Command.format_options(batch, ctx, formatter)
        self.format_commands(ctx, formatter)


suites: Any = _Suites("batch", table=_COMMANDS, help=batch.help,
                      epilog="A suite that is called like a command is played by its path: ./report.yaml.")
