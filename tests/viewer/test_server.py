"""The server: what it gives, and what it refuses."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from viewer_fakes import N, serving

from harness.analysis.comparison import first_differences
from harness.errors import HarnessError
from harness.recording.recording import Recording
from harness.viewer.heat import HeatLayer
from harness.viewer.server import ViewerServer
from harness.viewer.shelf import Shelf


@pytest.fixture(scope="module")
def address(recording: Recording, treated: Recording, layer: HeatLayer) -> Iterator[str]:
    with serving(Shelf(recording, [layer]), Shelf(treated)) as url:
        yield urlsplit(url).netloc


def ask(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_it_listens_on_this_machine_only(address: str) -> None:
    assert address.startswith("127.0.0.1:")


def test_the_pieces_are_the_shelfs(address: str, recording: Recording, treated: Recording, layer: HeatLayer) -> None:
    shelves = [Shelf(recording, [layer]), Shelf(treated)]
    for index, stream, number in ((0, "world", 5), (1, "world", N - 1), (0, "columns", 0), (1, "attention", 0),
                                  (0, "heat.0", 0)):
        status, headers, body = ask(address, f"/{index}/{stream}/{number}")
        assert (status, body) == (200, shelves[index].piece(stream, number))
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert ask(address, "/0/world/5")[1]["Content-Type"] == "image/png"


def test_the_page_may_ask_nobody_else(address: str) -> None:
    status, headers, body = ask(address, "/")
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    policy = body.split(b"<title>")[0]
    assert b"default-src 'none'" in policy and b"connect-src 'self'" in policy and b"unsafe" not in policy


def test_the_difference_is_that_of_the_comparison(address: str, recording: Recording, treated: Recording) -> None:
    columns, n = first_differences(recording, treated)
    first = min((each for each in columns.values() if each is not None), key=lambda each: each.step)
    told = json.loads(ask(address, "/difference")[2])
    assert told["n_compared"] == n == N
    assert (told["columns"][0]["step"], told["columns"][0]["column"]) == (first.step, first.column)
    assert told["columns"][0]["column"] == "executed.attack" and told["columns"][0]["step"] >= 12


@pytest.mark.parametrize("path", [
    "/header.json", "/../header.json", "/0/../header.json", "/0/world/../../header.json", "/%2e%2e/header.json",
    "//etc/passwd", "/0/world/0/../../../steps.jsonl", "/0/world/00000000000", "/2/world/0", "/0/world/-1",
    f"/0/world/{N}", "/0/frames.mkv", "/0/world/1%00", "/0/heat.1/0", "/0/world/1?x", "/0"])
def test_no_name_leads_out_of_the_recording(address: str, path: str) -> None:
    status, _, body = ask(address, path)
    assert status == 404 and body == b"there is nothing here"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_another_name_for_this_machine_is_refused(address: str, host: str) -> None:
    for path in ("/", "/0/world/0", "/difference"):
        assert ask(address, path, Host=host)[0] == 403


def test_names_of_this_machine_are_answered_through_any_port(address: str) -> None:
    """A tunnel (ssh -L) changes the port that the browser names."""
    for host in ("localhost", "127.0.0.1:9", f"localhost:{address.split(':')[1]}"):
        assert ask(address, "/0/world/0", Host=host)[0] == 200


def test_other_sites_and_other_methods_are_refused(address: str) -> None:
    assert ask(address, "/0/world/0", Sec_Fetch_Site="cross-site")[0] == 403
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(address, "/", method)[0] == 501


def test_one_recording_has_no_difference(recording: Recording) -> None:
    with serving(Shelf(recording)) as url:
        assert ask(urlsplit(url).netloc, "/difference")[0] == 404


def test_a_port_in_use_is_one_clear_error(recording: Recording) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(HarnessError, match=f"port {port} is in use") as caught:
            ViewerServer([Shelf(recording)], port=port)
        assert "--port" in str(caught.value)


def test_a_picture_that_cannot_be_read_is_said(recording: Recording, tmp_path: object) -> None:
    class Broken(Shelf):
        def piece(self, stream: str, number: int) -> bytes:
            raise HarnessError("frame 3 is not in the video")

    with serving(Broken(recording)) as url:
        status, _, body = ask(urlsplit(url).netloc, "/0/world/3")
    assert status == 500 and body == b"frame 3 is not in the video"
