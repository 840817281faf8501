"""The picture of docs/reports.md: a report of made-up results, as a browser shows it.

    python docs/reports.py docs/images/report.png

Needs Chromium and playwright. The results are drawn by lot (tests/batch/fake_results.py).
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "batch"))

from fake_results import finding  # noqa: E402

from harness.batch.html import report_page  # noqa: E402
from harness.batch.results import read_summary  # noqa: E402
from harness.batch.verdicts import Verdict  # noqa: E402
from harness.statistics import Interval  # noqa: E402

CLAIMS = (
    Verdict("held: villager under leaves is at least 0.2 above villager in the open", "held", n=60, estimate=0.35,
            interval=Interval(0.2, 0.48), effect=0.89, p_adjusted=0.0004, passed=True),
    Verdict("held: trunk under leaves is as approved", "held", n=60, estimate=-0.23, interval=Interval(-0.37, -0.09),
            effect=-0.5, p_adjusted=0.012, passed=False, flipped=(3, 7, 8, 12, 19, 22, 27, 30, 31),
            reason="It happened in 39 of 60 trials; when it was approved, in 53 of 60."),
)


def main(out: Path) -> None:
    """Draw it."""
    with tempfile.TemporaryDirectory() as scratch:
        finding(Path(scratch) / "example", n_seeds=60)
        summary = replace(read_summary(Path(scratch) / "example"), suite="example",
                          description="Made-up results, drawn by lot to show the page.", verdicts=CLAIMS)
        page = Path(scratch) / "page.html"
        page.write_text(report_page(summary), encoding="utf-8")
        browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            shots = [chromium.new_page(viewport={"width": 1040, "height": 1000}, color_scheme=scheme)
                     for scheme in ("light", "dark")]
            pictures = []
            for shot in shots:
                shot.goto(page.as_uri())
                pictures.append(cv2.imdecode(np.frombuffer(shot.screenshot(), np.uint8), cv2.IMREAD_COLOR))
            chromium.close()
    both = cv2.resize(np.hstack(pictures), None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(out), both, [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
