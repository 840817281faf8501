"""Downloads from a server on this machine that breaks off, lies, changes its mind or is not there."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness.agent import fetch, published
from harness.agent.fetch import checked_digest, download, fetch_agent
from harness.agent.published import PublishedAgent, PublishedFile, PublishedSource, published_agent
from harness.cli import cli
from harness.errors import AgentError, WeightsError

BODY = bytes(range(256)) * 20_000  # 5 MB, several reads
OTHER = BODY[::-1]


class Shelf(http.server.BaseHTTPRequestHandler):
    """One file, and how to behave; ``asked`` keeps what each request wanted."""

    body, etag, ranges, kind, length = BODY, '"one"', True, "application/octet-stream", True
    cuts: list[int] = []  # noqa: RUF012  # after so many bytes of an answer the line drops, one per request
    statuses: list[int] = []  # noqa: RUF012
    asked: list[dict[str, str]] = []  # noqa: RUF012
    redirect = packing = ""

    def do_GET(self) -> None:
        shelf = type(self)
        shelf.asked.append(dict(self.headers))
        if shelf.statuses and (status := shelf.statuses.pop(0)) != 200:
            self.send_error(status)
            return
        if shelf.redirect and self.path != "/moved":
            self.send_response(302)
            self.send_header("Location", shelf.redirect)
            self.end_headers()
            return
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and shelf.ranges and self.headers["If-Range"] == shelf.etag else 0
        if start >= len(shelf.body):
            self.send_error(416)
            return
        part = shelf.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", shelf.kind)
        if shelf.packing:
            self.send_header("Content-Encoding", shelf.packing)
        if shelf.length:
            self.send_header("Content-Length", str(len(part)))
        if shelf.etag:
            self.send_header("ETag", shelf.etag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(shelf.body) - 1}/{len(shelf.body)}")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a client that has seen enough
            self.wfile.write(part[:shelf.cuts.pop(0)] if shelf.cuts else part)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Shelf]]:
    """A server of its own for each test; ``address`` is the file's."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    monkeypatch.setattr(fetch, "_CHUNK", 1 << 16)
    handler = type("Handler", (Shelf,), {"cuts": [], "statuses": [], "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        handler.address = f"http://127.0.0.1:{server.server_address[1]}/f"
        yield handler
        server.shutdown()
        thread.join()


def only(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def listing(**digests: str) -> PublishedFile:
    return PublishedFile("weights", "f", len(BODY), "", None, **digests)


def test_a_whole_file_with_progress(shelf: Any, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    digest = download(shelf.address, tmp_path / "deep" / "f", progress=lambda *words: seen.append(words))
    assert (tmp_path / "deep" / "f").read_bytes() == BODY and digest == hashlib.sha256(BODY).hexdigest()
    assert only(tmp_path / "deep") == {"f", "f.sha256"}
    assert seen[-1] == ("f", len(BODY), len(BODY)) and len(seen) > 5
    assert [row[1] for row in seen] == sorted(row[1] for row in seen)


@pytest.mark.parametrize("cuts", [[1_000_000], [1, 2, 3_000_000, 5], [0, 1_000_000]])
def test_a_broken_line_is_taken_up_where_it_broke(cuts: list[int], shelf: Any, tmp_path: Path) -> None:
    shelf.cuts.extend(cuts)
    download(shelf.address, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY and only(tmp_path) == {"f", "f.sha256"}
    assert len(shelf.asked) == len(cuts) + 1
    assert shelf.asked[-1]["Range"] == f"bytes={sum(cuts)}-" and shelf.asked[-1]["If-Range"] == '"one"'


def test_a_later_fetch_goes_on_where_an_earlier_one_gave_up(shelf: Any, tmp_path: Path) -> None:
    shelf.cuts.extend([2_000_000])
    shelf.statuses.extend([200, *[503] * 10])
    with pytest.raises(WeightsError, match=r"503.*2,000,000 bytes are kept"):
        download(shelf.address, tmp_path / "f")
    assert only(tmp_path) == {"f.part", "f.part.json"}, "no half file under the final name"
    assert (tmp_path / "f.part").read_bytes() == BODY[:2_000_000]
    shelf.statuses.clear()
    shelf.asked.clear()
    download(shelf.address, tmp_path / "f", listing(sha256=hashlib.sha256(BODY).hexdigest()))
    assert (tmp_path / "f").read_bytes() == BODY and [a["Range"] for a in shelf.asked] == ["bytes=2000000-"]


def test_a_server_without_ranges_starts_again(shelf: Any, tmp_path: Path) -> None:
    shelf.ranges = False
    shelf.cuts.append(1_000_000)
    download(shelf.address, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY and len(shelf.asked) == 2


@pytest.mark.parametrize("etag", ['W/"weak"', ""])
def test_without_a_strong_validator_nothing_is_continued(etag: str, shelf: Any, tmp_path: Path) -> None:
    shelf.etag = etag
    shelf.cuts.append(1_000_000)
    download(shelf.address, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY and not any("Range" in asked for asked in shelf.asked)


def test_a_file_that_changed_in_between_is_never_mixed(shelf: Any, tmp_path: Path) -> None:
    shelf.cuts.append(1_000_000)
    shelf.statuses.extend([200, *[500] * 9])
    with pytest.raises(WeightsError, match="500"):
        download(shelf.address, tmp_path / "f")
    shelf.statuses.clear()
    shelf.body, shelf.etag = OTHER, '"two"'
    download(shelf.address, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == OTHER


def test_a_server_that_ignores_if_range_is_found_out(shelf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                     ) -> None:
    """It continues with the end of another, longer file under the same name."""
    shelf.cuts.append(1_000_000)
    answer = Shelf.do_GET

    def changed(handler: Any) -> None:
        if shelf.asked:
            shelf.body = OTHER + b"more"
        answer(handler)
    monkeypatch.setattr(shelf, "do_GET", changed)
    download(shelf.address, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == OTHER + b"more"
    assert [asked.get("Range") for asked in shelf.asked] == [None, "bytes=1000000-", None]


def test_a_shorter_file_there_than_here(shelf: Any, tmp_path: Path) -> None:
    shelf.cuts.append(4_000_000)
    shelf.statuses.extend([200, *[500] * 9])
    with pytest.raises(WeightsError):
        download(shelf.address, tmp_path / "f")
    shelf.statuses.clear()
    shelf.body = b"short"
    download(shelf.address, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"short"


def test_a_part_of_unknown_origin_is_not_continued(shelf: Any, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(b"x" * 100)
    for note in (None, "{", "[]", json.dumps({"url": "http://elsewhere/", "validator": '"one"', "total": 5})):
        if note is not None:
            (tmp_path / "f.part").write_bytes(b"x" * 100)
            (tmp_path / "f.part.json").write_text(note)
        download(shelf.address, tmp_path / "f")
        assert (tmp_path / "f").read_bytes() == BODY
        (tmp_path / "f").unlink()


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_missing_file_is_final(status: int, shelf: Any, tmp_path: Path) -> None:
    shelf.statuses.append(status)
    with pytest.raises(WeightsError, match=f"does not give the file: {status}"):
        download(shelf.address, tmp_path / "f")
    assert len(shelf.asked) == 1 and only(tmp_path) == set()


@pytest.mark.parametrize("digest", ["sha256", "md5"])
def test_a_wrong_digest_leaves_nothing(digest: str, shelf: Any, tmp_path: Path) -> None:
    right = hashlib.new(digest, BODY).hexdigest()
    shelf.body = BODY[:-1] + b"x"
    with pytest.raises(WeightsError, match=f"not the published file: its {digest.upper()} is"):
        download(shelf.address, tmp_path / "f", listing(**{digest: right}))
    assert only(tmp_path) == set()
    shelf.body = BODY
    download(shelf.address, tmp_path / "f", listing(**{digest: right}))
    assert (tmp_path / "f").read_bytes() == BODY


def test_where_no_digest_is_published_the_first_one_counts(shelf: Any, tmp_path: Path) -> None:
    path = tmp_path / "f"
    download(shelf.address, path)
    assert (tmp_path / "f.sha256").read_text() == f"{hashlib.sha256(BODY).hexdigest()}  f\n"
    path.unlink()
    shelf.body, shelf.etag = OTHER, '"two"'
    with pytest.raises(WeightsError, match="not the file that was here first") as caught:
        download(shelf.address, path)
    assert str(tmp_path / "f.sha256") in str(caught.value.hint) and only(tmp_path) == {"f.sha256"}
    path.write_bytes(OTHER)
    with pytest.raises(WeightsError, match="not the file that was here first"):
        checked_digest(path)
    (tmp_path / "f.sha256").unlink()
    assert checked_digest(path) == hashlib.sha256(OTHER).hexdigest()
    path.write_bytes(BODY)
    with pytest.raises(WeightsError, match="not the file that was here first"):
        checked_digest(path)


@pytest.mark.parametrize("record", [b"", b"\n", b"\xff\xfe", b"0123  f\n", "ü".encode()])
def test_a_record_that_holds_no_digest_is_no_pass(record: bytes, shelf: Any, tmp_path: Path) -> None:
    (tmp_path / "f.sha256").write_bytes(record)
    with pytest.raises(WeightsError, match="f.sha256 does not hold the SHA-256 of f"):
        download(shelf.address, tmp_path / "f")
    assert only(tmp_path) == {"f.sha256"}
    (tmp_path / "f").write_bytes(BODY)
    with pytest.raises(WeightsError, match="does not hold the SHA-256"):
        checked_digest(tmp_path / "f")


@pytest.mark.parametrize(("change", "words"), [
    ({"kind": "text/html"}, "sent a web page"), ({"length": False}, "does not say how long"),
    ({"body": BODY * 3}, r"15,360,000 bytes, expected about 5,120,000"),
    ({"body": BODY[:1000]}, r"1,000 bytes, expected about 5,120,000"), ({"packing": "gzip"}, r"packed \(gzip\)"),
    ({"statuses": [302]}, "302"),
])
def test_what_is_not_the_file(change: dict[str, Any], words: str, shelf: Any, tmp_path: Path) -> None:
    for name, value in change.items():
        setattr(shelf, name, value)
    with pytest.raises(WeightsError, match=words):
        download(shelf.address, tmp_path / "f", listing())
    assert only(tmp_path) == set()


def test_redirections_are_followed_and_keep_the_range(shelf: Any, tmp_path: Path) -> None:
    shelf.redirect = "/moved"
    shelf.cuts.append(1_000_000)
    download(shelf.address, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY and shelf.asked[-1]["Range"] == "bytes=1000000-"


def test_no_redirection_from_https_to_http() -> None:
    handler = fetch._OnlyAsSafe()
    request = fetch.urllib.request.Request("https://example.org/f")
    with pytest.raises(WeightsError, match="unprotected address"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://example.org/f")


def test_a_full_disk(shelf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(WeightsError, match="1,000 bytes left, and 5,120,000 are to come"):
        download(shelf.address, tmp_path / "f")
    assert only(tmp_path) == set()


def test_a_folder_that_cannot_be_made(shelf: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="cannot write f") as caught:
        download(shelf.address, tmp_path / "file" / "f")
    assert "HARNESS_CACHE" in str(caught.value)


def test_two_at_once(shelf: Any, tmp_path: Path) -> None:
    part = tmp_path / "f.part"
    with fetch._alone(part), pytest.raises(WeightsError, match="another process is fetching f"):
        download(shelf.address, tmp_path / "f")
    download(shelf.address, tmp_path / "f")


# --- agents --------------------------------------------------------------------------------------------------------

@pytest.fixture
def row(shelf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedAgent:
    """``vpt-foundation-1x``, published on this machine; a second source is a closed door, a third for people."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/f"
    weights = PublishedFile("weights", "w.weights", len(BODY), shelf.address, None)
    agent = PublishedAgent("vpt-foundation-1x", "vpt", "1x", "nothing", "none", (
        PublishedSource("here", (PublishedFile("model", "m.model", len(BODY), shelf.address, None), weights)),
        PublishedSource("closed", (PublishedFile("weights", "w2.weights", len(BODY), closed, None),)),
        PublishedSource("people", (PublishedFile("weights", "w3.weights", 9_000_000, None, "https://example.org"),))))
    monkeypatch.setattr(published, "_table", lambda: {agent.name: agent})
    return agent


def call(*words: str) -> Result:
    return CliRunner().invoke(cli, ["agent", *words])


def test_the_command(row: PublishedAgent, shelf: Any, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "agents" / row.name
    shelf.cuts.append(100_000)
    result = call("fetch", row.name)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(folder / "m.model"), str(folder / "w.weights")]
    assert "w.weights: 5.1 MB of 5.1 MB" in result.stderr and "licence: none" in result.stderr
    assert only(folder) == {"m.model", "m.model.sha256", "w.weights", "w.weights.sha256"}
    shelf.asked.clear()
    again = call("fetch", row.name, "--quiet")
    assert again.exit_code == 0 and again.stderr == "" and not shelf.asked, "what is there is left alone"
    assert json.loads(call("list", "--json").stdout)[-1]["present"] is True
    (folder / "w.weights").write_bytes(b"exchanged")
    assert "not the file that was here first" in call("fetch", row.name).stderr


def test_offline_says_what_to_place_where(row: PublishedAgent, tmp_path: Path) -> None:
    result = call("fetch", row.name, "--source", "closed")
    assert result.exit_code == 2 and result.stdout == ""
    folder = tmp_path / "cache" / "agents" / row.name
    for words in ("cannot be reached", f"place these files in {folder}", "w2.weights (about 5 MB)", "/f"):
        assert words in result.stderr, result.stderr
    assert only(folder) == set()


def test_files_for_people(row: PublishedAgent) -> None:
    with pytest.raises(WeightsError, match=r"cannot be fetched by a program\nplace these files in .*\n"
                                           r"  w3.weights \(about 9 MB\) from https://example.org"):
        fetch_agent(row, "people")
    with pytest.raises(AgentError, match='unknown source of vpt-foundation-1x "clsed"'):
        fetch_agent(row, "clsed")


def test_unknown_names() -> None:
    result = call("fetch", "vpt-nano")
    assert result.exit_code == 2 and "vpt-nano comes with this package" in result.stderr
    result = call("fetch", "vpt-fundation-1x")
    assert result.exit_code == 2 and "vpt-foundation-1x" in result.stderr
    with pytest.raises(AgentError, match="unknown published agent"):
        published_agent("noop")
