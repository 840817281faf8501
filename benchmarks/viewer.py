"""The viewer in a headless Chromium: first picture, scrubbing, and the exported file.

    python benchmarks/viewer.py [--steps 6000] [--export-steps 600] [--rounds 3] [--recording DIR] [--short DIR]

Plays villager with the agent `untrained`, whose random turns keep the picture changing, unless recordings are given:
one to be served (--recording) and one to be exported (--short). Needs Chromium and `pip install ".[dev]"`.

First picture: from the start of the navigation, in a fresh browser profile, to the moment when the picture is drawn.
Scrubbing: from a step being asked for to its picture being drawn, at random steps, and at steps in a row.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import harness
from harness.recording.recording import Recording, open_recording
from harness.viewer import ViewerServer, export_page
from harness.viewer.shelf import Shelf

SEEK = """async (steps) => {
  const scrubber = document.getElementById('scrubber'), frame = document.querySelector('.frame'), times = [];
  for (const step of steps) {
    const start = performance.now();
    await new Promise((resolve) => {
      const watch = new MutationObserver(() => {
        if (frame.dataset.step === String(step)) { watch.disconnect(); resolve(); }
      });
      watch.observe(frame, { attributes: true, attributeFilter: ['data-step'] });
      scrubber.value = step;
      scrubber.dispatchEvent(new Event('input'));
    });
    times.push(performance.now() - start);
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  return times;
}"""
FIRST = "performance.getEntriesByName('first-picture')[0].startTime"


def play(folder: Path, n_steps: int) -> Recording:
    """An episode of so many steps, with attention."""
    scenario = harness.load_scenario("villager")
    episode = scenario.episode.model_copy(update={"max_steps": n_steps, "terminate_when": ()})
    scenario = scenario.model_copy(update={"episode": episode})
    with harness.make_world(scenario) as world, harness.Recorder(folder, log_probs=False) as recorder:
        harness.run_episode(world, harness.load_agent("untrained"), seed=0, observers=[recorder],
                            hooks=["blocks.*.attn.hook_pattern"])
    return open_recording(recorder.path)


@contextlib.contextmanager
def visit(browser: Any, url: str) -> Iterator[Any]:
    """A page in a fresh profile, once it is complete."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(url)
    page.wait_for_selector("body[data-ready=yes]")
    yield page
    context.close()


def said(label: str, values: list[float], unit: str) -> None:
    """Median, and what lies around it."""
    spread = f"95th percentile {np.quantile(values, 0.95):.0f}" if len(values) > 10 else \
        f"{min(values):.0f} to {max(values):.0f}"
    print(f"{label:44s} median {statistics.median(values):6.0f} {unit}   ({spread}, n = {len(values)})")


def measure(browser: Any, url: str, n_steps: int, rounds: int) -> None:
    """Loading and scrubbing of a page."""
    first, jumps, row = [], [], []
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        with visit(browser, url) as page:
            first.append(page.evaluate(FIRST))
            jumps += page.evaluate(SEEK, rng.permutation(n_steps)[:40].tolist())
            start = int(rng.integers(0, n_steps - 45))
            row += page.evaluate(SEEK, list(range(start, start + 40)))
    said("  first picture", first, "ms")
    said("  a jump to a random step", jumps, "ms")
    said("  one step on", row, "ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--export-steps", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recording", type=Path)
    parser.add_argument("--short", type=Path)
    asked = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("skipped: no Chromium on this machine (apt-get install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit('skipped: no playwright (pip install ".[dev]")')
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        long = open_recording(asked.recording) if asked.recording else play(Path(folder), asked.steps)
        short = open_recording(asked.short) if asked.short else play(Path(folder), asked.export_steps)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        start = time.perf_counter()
        with ViewerServer([Shelf(open_recording(long.path))]) as server:
            print(f"served, {len(long)} steps: ready to answer after {time.perf_counter() - start:.2f} s")
            thread = threading.Thread(target=server.serve)
            thread.start()
            measure(browser, server.url, len(long), asked.rounds)
            server.stop()
            thread.join()
        path, start = Path(folder) / "x.html", time.perf_counter()
        size = export_page(short, path)
        print(f"exported, {len(short)} steps: {size / 1e6:.1f} MB in {time.perf_counter() - start:.0f} s")
        measure(browser, path.as_uri(), len(short), asked.rounds)
        browser.close()


if __name__ == "__main__":
    main()
