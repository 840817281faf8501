"""The page as a file: complete, small enough, and nothing in it comes alive that should not."""

from __future__ import annotations

import base64
import re
import zlib
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from viewer_fakes import N, heat_maps

from harness import viewer
from harness.analysis.result import Result, Table, result_provenance
from harness.errors import HarnessError
from harness.recording.recording import Recording, open_recording
from harness.viewer import export
from harness.viewer.shelf import Shelf


class Blocks(HTMLParser):
    """The script elements of a page by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str | None, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._id: str | None = None
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._id, self._inside = dict(attrs).get("id"), True
            self.found[self._id] = ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found[self._id] += data


@dataclass(frozen=True)
class Seen(Result):
    """A result with a table and maps."""

    def tables(self) -> tuple[Table, ...]:
        return (Table("what <b>is</b> seen", ("where", "share"), (("face", 0.5),)),)

    def heat(self, step: int) -> Any:
        return heat_maps(N)[step]


@pytest.fixture(scope="module")
def page(recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "x.html"
    done: list[int] = []
    size = viewer.export_page(recording, path, results=[Seen(result_provenance("seen", recording))],
                              on_frame=done.append)
    assert done == list(range(1, N + 1)) and size == path.stat().st_size
    assert [p.name for p in path.parent.iterdir()] == ["x.html"]
    return path


def test_everything_is_inside(page: Path, recording: Recording) -> None:
    blocks = Blocks(page.read_text()).found
    lines = blocks["0/world"].split("\n")
    assert len(lines) == N
    for number in (0, 17, N - 1):
        image = cv2.imdecode(np.frombuffer(base64.b64decode(lines[number]), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        errors = [np.abs(image.astype(int) - recording.pov[other]).mean() for other in (number, (number + 9) % N)]
        assert errors[0] < 12 and errors[0] < errors[1] / 2, "it is this picture and no other"
    shelf = Shelf(recording)
    assert zlib.decompress(base64.b64decode(blocks["0/attention"])) == zlib.decompress(shelf.piece("attention", 0))
    assert {"0/columns", "0/heat.0", "facts"} <= set(blocks)


def test_nothing_points_outside(page: Path) -> None:
    parsed = Blocks(page.read_text())
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "action", "srcset", "data", "style"):
            assert str(attributes.get(name, "data:")).startswith("data:"), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
    (policy,) = [a["content"] for _, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in str(policy) and "connect-src 'none'" in str(policy)
    assert "unsafe" not in str(policy)
    assert not re.search(r"https?://(?!www\.w3\.org)", parsed.found[None])


def test_what_a_recording_says_is_never_markup(recording: Recording, tmp_path: Path) -> None:
    hostile = "</script><script>document.title='owned'</script><!--"
    strange = open_recording(recording.path)
    strange.header["scenario"]["name"] = hostile
    strange.header["agent"]["description"] = hostile
    viewer.export_page(strange, tmp_path / "x.html")
    blocks = Blocks((tmp_path / "x.html").read_text())
    assert sum(tag == "script" for tag, _ in blocks.tags) == len(blocks.found) == len(Shelf(recording).streams) + 2


def test_quality_gives_way_to_size(recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = viewer.export_page(recording, tmp_path / "big.html")
    limit = 200_000 + (big - 200_000) * 2 // 3
    monkeypatch.setattr(export, "LIMIT", limit)
    small = viewer.export_page(recording, tmp_path / "small.html")
    assert small <= limit < big


def test_bad_requests_leave_nothing(recording: Recording, treated: Recording, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"ends in \.html"):
        viewer.export_page(recording, tmp_path / "x.pdf")
    with pytest.raises(HarnessError, match="is of the recording"):
        viewer.export_page(treated, tmp_path / "x.html", results=[Seen(result_provenance("seen", recording))])
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(HarnessError, match="cannot write the page"):
        viewer.export_page(recording, tmp_path / "folder.html")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.html"]
