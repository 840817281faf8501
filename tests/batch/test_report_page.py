"""The page of a report in a real browser: it fits, it is accessible, it plays its clips, and it asks nobody."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_results import finding

from harness.batch.films import Film, choices
from harness.batch.html import report_page
from harness.batch.results import read_summary
from harness.batch.verdicts import Verdict, keep_verdicts
from harness.recording.video import write_share_video
from harness.statistics import Interval

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no Chromium on this machine (apt-get install chromium)", allow_module_level=True)
playwright_api = pytest.importorskip("playwright.sync_api", reason='no playwright (pip install ".[dev]")')
axe_api = pytest.importorskip("axe_playwright_python.sync_playwright", reason='no axe (pip install ".[dev]")')


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    finding(folder, n_seeds=4)
    keep_verdicts(folder, [
        Verdict("held [target=cow] is as approved", "held", ("target=cow",), 4, estimate=-0.4,
                interval=Interval(-0.8, -0.1), passed=False,
                flipped=(2,), reason="2 of 4", replay="harness run villager"),
        Verdict("pressed is at most 0.2", "pressed", passed=None)], {})
    pictures = [np.full((90, 160, 3), 20 * n, np.uint8) for n in range(8)]
    write_share_video(pictures, folder / "clip.webm", 10)
    image = cv2.imencode(".webp", pictures[4])[1].tobytes()
    film = Film((folder / "clip.webm").read_bytes(), image, (160, 90), tuple((n, image) for n in range(5)))
    summary = read_summary(folder)
    chosen = choices(summary)
    path = folder / "index.html"
    path.write_text(report_page(summary, chosen, {chosen[0]: film}, {}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize(("scheme", "width", "paper"), [("light", 1280, (251, 251, 249)), ("dark", 390, (18, 19, 22))])
def test_it_fits_is_accessible_and_asks_nobody(chromium: Any, page_file: Path, scheme: str, width: int,
                                               paper: tuple[int, int, int]) -> None:
    trouble: list[str] = []
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.set_default_timeout(60_000)
    page.on("console", lambda message: trouble.append(message.text))
    page.on("request", lambda request: trouble.append(request.url)
            if not request.url.startswith(("data:", page_file.as_uri())) else None)
    page.goto(page_file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is wider than the window"
    assert page.locator(".headline").text_content() == "1 of 2 claims fails"
    assert page.locator("details.metric[open]").count() == 2 and page.locator(".card").count() == 24
    screen = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert tuple(screen[2, 2]) == paper
    page.evaluate("document.querySelector('video').preload = 'auto'")
    page.wait_for_function("document.querySelector('video').readyState >= 2")
    assert page.evaluate("document.querySelector('video').videoWidth") == 160, "the clip plays"
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    found = axe_api.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 15, "axe looked"
    assert not trouble
    page.close()
