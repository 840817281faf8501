"""``harness batch report``, and the same options on the command that plays."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from harness.batch.results import read_summary
from harness.batch.summary import Summary
from harness.cli.names import bytes_in_words, echo_json
from harness.errors import HarnessError
from harness.registry import load_object

__all__ = ["Outputs", "report", "report_options"]

_FILES = ("index.html", "report.json", "junit.xml", "report.md")
_MADE_BY = "harness batch report"


@dataclass(frozen=True)
class Outputs:
    """What is to be written.

    Attributes:
        html: The page.
        folder: All four, under their usual names.
        junit: JUnit's XML.
        markdown: The tables.
        clips: Seconds for playing trials again that have no recording; 0 for none.
    """

    html: Path | None = None
    folder: Path | None = None
    junit: Path | None = None
    markdown: Path | None = None
    clips: float = 0.0

    @contextlib.contextmanager
    def reserved(self) -> Iterator[None]:
        """Keep the report's folder for this process, before the hours that a suite may take.

        Raises:
            HarnessError: for a folder that is not ours or in use, and for clips without a page.
        """
        if self.clips and self.html is None and self.folder is None:
            raise HarnessError("--clips are for a page", hint="say where it goes: --html FILE or --report DIR")
        if self.folder is None:
            yield
            return
        _check_ours(self.folder)
        lock = self.folder / ".lock"
        with _written(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            file = lock.open("w")
        with file:
            with contextlib.suppress(ImportError):  # not on Windows
                import fcntl

                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    raise HarnessError("another process writes its report into this folder", where=str(self.folder),
                                       hint="wait for it, or name another folder") from None
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)

    def write(self, summary: Summary) -> list[str]:
        """Write everything that was asked for; a line about each file.

        Raises:
            HarnessError: when a file cannot be written.
        """
        html, told, junit, markdown = (None if self.folder is None else self.folder / name for name in _FILES)
        texts: list[tuple[Path, bytes]] = []
        if pages := [path for path in (self.html, html) if path is not None]:
            page = _page(summary, self.clips).encode()
            texts += [(path, page) for path in pages]
        if told is not None:
            texts.append((told, (json.dumps({"made_by": _MADE_BY, **summary.as_dict()}, indent=1) + "\n").encode()))
        xml = load_object("harness.batch.junit:junit_xml")
        texts += [(path, xml(summary)) for path in (self.junit, junit) if path is not None]
        texts += [(path, summary.markdown().encode()) for path in (self.markdown, markdown) if path is not None]
        for path, content in texts:
            _replace(path, content)
        return [f"wrote {path}: {bytes_in_words(len(content))}" for path, content in texts]


_OPTIONS = (
    click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the page, one file."),
    click.option("--report", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
                 help=f"Write all of it into a folder: {', '.join(_FILES)}."),
    click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit XML, for CI."),
    click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), help="Write the tables as Markdown."),
    click.option("--clips", type=click.FloatRange(0), default=0.0, metavar="SECONDS",
                 help="Play one trial of each cell again for the page's pictures, where no recording was kept; none is "
                      "begun after so many seconds."),
)


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a report; it gets them as ``outputs``."""
    @functools.wraps(command)
    def told(*args: Any, html: Path | None, folder: Path | None, junit: Path | None, markdown: Path | None,
             clips: float, **options: Any) -> Any:
        return command(*args, outputs=Outputs(html, folder, junit, markdown, clips), **options)

    wrapped: Callable[..., Any] = told
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


@click.command()
@click.argument("results", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False))
@report_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def report(results: Path, outputs: Outputs, as_json: bool) -> None:
    """Tell what lies in FOLDER, the results of a suite: nothing is played, unless for --clips.

    The exit code is 1 when a claim fails or a trial could not be played.
    """
    with outputs.reserved():
        summary = read_summary(results)
        lines = outputs.write(summary)
    if as_json:
        echo_json(summary.as_dict())
    else:
        click.echo(summary.text())
    for line in lines:
        click.echo(line, err=True)
    if summary.state == "fails":
        raise click.exceptions.Exit(1)


def _page(summary: Summary, seconds: float) -> str:
    choices, recorded, again = (load_object(f"harness.batch.films:{name}")
                                for name in ("choices", "film_recordings", "play_again"))
    chosen = choices(summary)
    films, problems = recorded(summary, chosen), {}
    if seconds and (left := [choice for choice in chosen if choice not in films]):
        more, problems = again(summary, left, seconds)
        films |= more
    return str(load_object("harness.batch.html:report_page")(summary, chosen, films, problems))


def _check_ours(folder: Path) -> None:
    """Refuse to write among files that no report wrote."""
    there = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    foreign = [name for name in there if name not in _FILES]
    ours = not there
    if there and not foreign:
        with contextlib.suppress(OSError, ValueError):
            told = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            ours = isinstance(told, dict) and told.get("made_by") == _MADE_BY
    if foreign or not ours:
        raise HarnessError(f"the folder for the report holds other files ({', '.join((foreign or there)[:3])})",
                           where=str(folder), hint="name one that is empty, new, or holds an earlier report")


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise HarnessError(f"cannot write the report: {problem.strerror}", where=str(path)) from problem


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with _written(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
