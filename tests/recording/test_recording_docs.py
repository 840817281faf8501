"""The page about recordings: its Python runs, and its table of files is what lies in a folder."""

from __future__ import annotations

import re
from pathlib import Path

from fakes import FakeAgent, FakeWorld, make_scenario

import harness
from harness.intervention import PixelMask

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recordings.md"


def test_the_page_is_true(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    with harness.Recorder(tmp_path) as recorder:
        harness.run_episode(FakeWorld(make_scenario(12)), FakeAgent(), seed=0, observers=[recorder], hooks=["blocks.*"],
                            interventions=[PixelMask(0, 0, 9, 9)])
    (body,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, object] = {"harness": harness, "path": recorder.path}
    exec(compile(body, str(PAGE), "exec"), names)
    assert names["seen"].shape == (3, 360, 640, 3) and names["last"].shape == (2,)  # type: ignore[attr-defined]
    listed = set(re.findall(r"^      (\w+\.?\w*)", page, re.MULTILINE))
    assert {p.name for p in recorder.path.iterdir()} == listed
    for column in harness.open_recording(recorder.path).steps.columns:
        assert f"`{column}`" in page, column
