"""A server for one page, on this machine and for it alone."""

from __future__ import annotations

import errno
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from harness.errors import HarnessError
from harness.recording.recording import open_recording
from harness.viewer.page import difference, html_pieces, page_facts
from harness.viewer.shelf import PICTURES, Shelf

__all__ = ["ViewerServer"]

_ADDRESS = "127.0.0.1"
_PIECE = re.compile(r"/([01])/([a-z]+(?:\.\d{1,3})?)/(\d{1,7})")
_HOST = re.compile(r"(?:127\.0\.0\.1|localhost)(?::\d{1,5})?")


class ViewerServer:
    """Serves the page of a recording, or of two, on 127.0.0.1. Use it in a ``with`` block.

    No path of a request ever becomes a file name: a request names a recording (0 or 1), a stream and a number, which
    are looked up in a ``Shelf``. Requests whose ``Host`` is not this machine are refused, so that a web site which
    points its own name here cannot read along.

    Args:
        shelves: What to show.
        tables: Results of analyses, ``title`` and ``tables`` each.
        port: 0 for a free one.

    Raises:
        HarnessError: when the port cannot be had.
    """

    def __init__(self, shelves: Sequence[Shelf], tables: Sequence[Mapping[str, Any]] = (), port: int = 0) -> None:
        page = "".join(html_pieces({**page_facts(shelves, tables), "difference": None}, served=True)).encode()
        self._difference = _Later(lambda: difference(*(open_recording(s.recording.path) for s in shelves))) \
            if len(shelves) == 2 else None
        try:
            self._server = _Server((_ADDRESS, port), _Handler)
        except OSError as problem:
            taken = problem.errno == errno.EADDRINUSE
            raise HarnessError(f"port {port} is in use" if taken else
                               f"cannot listen on port {port}: {problem.strerror or problem}",
                               hint="give another --port, or none to take a free one") from problem
        self._server.page, self._server.shelves, self._server.difference = page, shelves, self._difference

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{_ADDRESS}:{self._server.server_address[1]}/"

    def __enter__(self) -> ViewerServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._server.server_close()

    def serve(self) -> None:
        """Answer until ``stop`` is called from another thread, or Ctrl-C."""
        if self._difference is not None:
            self._difference.start()
        self._server.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        """Let ``serve`` return."""
        self._server.shutdown()


class _Later:
    """Something that takes a while, worked out in the background."""

    def __init__(self, work: Callable[[], dict[str, Any]]) -> None:
        self._work, self._done = work, threading.Event()
        self._value: dict[str, Any] = {}

    def start(self) -> None:
        threading.Thread(target=self._run, name="harness-viewer-difference", daemon=True).start()

    def _run(self) -> None:
        try:
            self._value = self._work()
        except HarnessError as problem:
            self._value = {"error": problem.message}
        finally:
            self._done.set()

    def wait(self) -> dict[str, Any]:
        self._done.wait()
        return self._value


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    page: bytes
    shelves: Sequence[Shelf]
    difference: _Later | None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 600

    def do_GET(self) -> None:
        """The page, a piece of a recording, or the difference of two."""
        if not _HOST.fullmatch(self.headers.get("Host", "")) or self.headers.get("Sec-Fetch-Site") == "cross-site":
            self._refuse(HTTPStatus.FORBIDDEN, "this page is for the machine it runs on")
        elif self.path == "/":
            self._answer(self.server.page, "text/html; charset=utf-8")
        elif self.path == "/difference" and self.server.difference is not None:
            self._answer(json.dumps(self.server.difference.wait()).encode(), "application/json")
        else:
            self._piece()

    def _piece(self) -> None:
        asked = _PIECE.fullmatch(self.path)
        try:
            if asked is None:
                raise KeyError(self.path)
            stream = asked[2]
            body = dict(enumerate(self.server.shelves))[int(asked[1])].piece(stream, int(asked[3]))
        except KeyError:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
        except HarnessError as problem:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, problem.message)
        else:
            self._answer(body, "image/png" if stream in PICTURES else "application/octet-stream")

    def _refuse(self, status: HTTPStatus, words: str) -> None:
        self._answer(words.encode(), "text/plain; charset=utf-8", status)

    def _answer(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"),
                            ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"),
                            ("Cross-Origin-Resource-Policy", "same-origin"), ("X-Frame-Options", "DENY")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal is for what matters."""
