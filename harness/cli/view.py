"""``harness view``: a recording as a page in the browser, or as a file to mail."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from pathlib import Path

import click
from click.core import ParameterSource

from harness.cli.names import bytes_in_words
from harness.cli.progress import Ticker
from harness.errors import HarnessError
from harness.recording.recording import Recording, open_recording
from harness.registry import load_object
from harness.viewer.heat import HeatLayer, read_result

__all__ = ["view"]


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path), required=False, metavar="[RECORDING2]")
@click.option("--result", "results", type=click.Path(path_type=Path), multiple=True, metavar="FILE",
              help="What `harness analyse --out` wrote: heat maps (.npz) are laid over RECORDING's pictures, tables "
                   "(.json) stand below them. May be repeated.")
@click.option("--export", type=click.Path(path_type=Path), metavar="FILE.html",
              help="Write one file that works by itself, without a server.")
@click.option("--port", type=click.IntRange(1, 65535), help="Serve on this port; else on a free one.")
@click.option("--no-browser", is_flag=True, help="Only say where the page is.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.pass_context
def view(ctx: click.Context, recording: Path, other: Path | None, results: tuple[Path, ...], export: Path | None,
         port: int | None, no_browser: bool, quiet: bool) -> None:
    """Look at RECORDING in the browser: pictures, attention, keys, value, events; two are shown in lock-step.

    The page comes from this machine and is for it alone (127.0.0.1). Ctrl-C ends it.
    """
    if export is not None:
        for name in ("port", "no_browser"):
            if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
                raise HarnessError(f"--{name.replace('_', '-')} is of no use with --export, which serves nothing")
    opened = [open_recording(path) for path in (recording, other) if path is not None]
    for each in opened:
        if not each.complete:
            click.echo(f"note: {each.path.name} is not finished: {each.summary}", err=True)
    heats: list[HeatLayer] = []
    tables = []
    for path in results:
        layers, told = read_result(path, opened)
        heats += layers
        tables += [] if told is None else [told]
    if export is not None:
        _export(opened, export, heats, tables, quiet=quiet)
    else:
        _serve(opened, heats, tables, port or 0, browse=not no_browser)


def _export(opened: list[Recording], path: Path, heats: list[HeatLayer], tables: list[dict[str, object]], *,
            quiet: bool) -> None:
    export_page = load_object("harness.viewer.export:export_page")  # cv2 is not needed for --help
    with Ticker(quiet=quiet) as ticker:
        ticker.start("export", sum(map(len, opened)))
        size = export_page(*opened[:1], path, other=opened[1] if len(opened) > 1 else None, heats=heats, tables=tables,
                           on_frame=ticker.to)
    click.echo(f"wrote {path}: {sum(map(len, opened))} steps, {bytes_in_words(size)}")


def _serve(opened: list[Recording], heats: list[HeatLayer], tables: list[dict[str, object]], port: int, *,
           browse: bool) -> None:
    shelf, server = (load_object(f"harness.viewer.{name}") for name in ("shelf:Shelf", "server:ViewerServer"))
    shelves = [shelf(each, heats if number == 0 else ()) for number, each in enumerate(opened)]
    with server(shelves, tables, port) as serving:
        click.echo(f"{serving.url}   (Ctrl-C ends it)")
        if browse:
            threading.Thread(target=_open, args=(serving.url,), daemon=True).start()
        try:
            serving.serve()
        except KeyboardInterrupt:
            click.echo("stopped", err=True)


def _open(url: str) -> None:
    """Show the page, or say that it has to be done by hand."""
    # Without a display only browsers for terminals are left, and this terminal is taken.
    shown = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
    try:
        if shown and webbrowser.open(url):
            return
    except (webbrowser.Error, OSError):
        pass
    click.echo(f"no browser was found here: open {url} in one", err=True)
