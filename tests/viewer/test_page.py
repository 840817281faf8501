"""The page in a real browser: what it shows, what it answers to, and that it asks nobody for anything."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fakes import FakeAgent
from viewer_fakes import N, serving

from harness import analysis, registry, viewer
from harness.recording.recording import Recording, open_recording
from harness.replay.fork import fork_recording
from harness.viewer.heat import HeatLayer
from harness.viewer.shelf import Shelf

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no Chromium on this machine (apt-get install chromium)", allow_module_level=True)
playwright_api = pytest.importorskip("playwright.sync_api", reason='no playwright (pip install ".[dev]")')
axe_api = pytest.importorskip("axe_playwright_python.sync_playwright", reason='no axe (pip install ".[dev]")')

PIXELS = """(canvas) => {
  const pen = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0);
  const { data, width, height } = pen.getImageData(0, 0, canvas.width, canvas.height);
  let text = '';
  for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
  return [btoa(text), width, height];
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page that is offline but for this machine; a console message or a foreign request fails the test."""
    trouble: list[str] = []
    contexts = []

    def open_page(url: str, **options: Any) -> Any:
        context = chromium.new_context(viewport={"width": 1400, "height": 1000}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        own = url.partition("#")[0]
        page.on("console", lambda message: trouble.append(f"console: {message.text}"))
        page.on("pageerror", lambda problem: trouble.append(f"error: {problem}"))
        page.on("request", lambda request: trouble.append(f"request: {request.url}")
                if not request.url.startswith((own, "data:", "blob:")) else None)
        page.goto(url)
        page.wait_for_selector("body[data-ready=yes]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not trouble


@contextmanager
def shown(visit: Callable[..., Any], *shelves: Shelf, at: int = 0) -> Iterator[Any]:
    with serving(*shelves) as url:
        page = visit(f"{url}#step={at}")
        yield page
        page.close()


def pixels(page: Any, selector: str, step: int) -> np.ndarray[Any, Any]:
    """What a canvas shows, once it shows that step: uint8 [H, W, 3]."""
    page.wait_for_selector(f"{selector}[data-step='{step}']")
    data, width, height = page.locator(selector).first.evaluate(PIXELS)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[..., :3]


def test_the_timeline_shows_the_step_that_was_clicked(visit: Any, recording: Recording) -> None:
    with shown(visit, Shelf(recording), at=3) as page:
        assert np.array_equal(pixels(page, ".frame", 3), recording.pov[3])
        lanes = page.locator("#lanes")
        box = lanes.bounding_box()
        left, wide = 92, box["width"] - 92
        for step in (25, 11):
            lanes.click(position={"x": left + (step + 0.5) / N * wide, "y": 30})
            assert np.array_equal(pixels(page, ".frame", step), recording.pov[step])
        lanes.hover(position={"x": left + 20.5 / N * wide, "y": 30})
        assert page.locator("#hover").text_content().startswith("step 20, 1.00 s")
        assert page.locator(".chip.agent.warning").text_content() == recording.agent_description


def test_an_age_shows_the_frame_of_so_many_steps_ago(visit: Any, recording: Recording) -> None:
    """Age 0 is the current frame: the picture at age k is the one of step - k, to the pixel."""
    maps = analysis.attention_maps(recording)
    step, n_ages = 30, maps.weights.shape[3]
    with shown(visit, Shelf(recording), at=step) as page:
        strongest, _ = maps.most_attended(step, 1)[0]
        assert np.array_equal(pixels(page, ".past", step - strongest), recording.agent_pov[step - strongest])
        strip = page.locator(".strip")
        wide = strip.bounding_box()["width"]
        cell = (wide - 44) / n_ages
        for age in (0, 1, 7, step):
            strip.hover(position={"x": wide - (age + 0.5) * cell, "y": 20})
            assert np.array_equal(pixels(page, ".past", step - age), recording.agent_pov[step - age])
            weight = float(maps.means[step, age])
            assert page.locator(".age-how").text_content() == f"step {step - age}, weight {coded(weight):.3f}"
        strip.hover(position={"x": wide - (step + 1.5) * cell, "y": 20})
        assert page.locator(".age-how").text_content().startswith("before the recording")
        strip.click(position={"x": wide - 7.5 * cell, "y": 20})
        page.mouse.move(5, 5)
        page.keyboard.press("ArrowRight")
        assert np.array_equal(pixels(page, ".past", step + 1 - 7), recording.agent_pov[step + 1 - 7])
        page.locator(".go").click()
        assert np.array_equal(pixels(page, ".frame", step + 1 - 7), recording.pov[step + 1 - 7])


def coded(weight: float) -> float:
    return (round(weight ** 0.5 * 255) / 255) ** 2


def test_a_head_is_chosen_by_name_or_by_its_row(visit: Any, recording: Recording) -> None:
    maps = analysis.attention_maps(recording)
    with shown(visit, Shelf(recording), at=20) as page:
        page.locator(".head").select_option("1.0")
        page.locator(".age").focus()
        page.keyboard.press("Home")
        weight = coded(float(maps.weights[20, 1, 0, 0]))
        assert page.locator(".age-how").text_content() == f"step 20, weight {weight:.3f}"
        page.keyboard.press("ArrowLeft")
        assert page.locator(".age-words").text_content() == "1 frame ago", "older is to the left, as on the strip"
        assert page.locator(".frame").get_attribute("data-step") == "20", "the slider's arrows are its own"
        page.locator(".strip").click(position={"x": 600, "y": 84 + 22 + 9 * 1.5})
        assert page.locator(".head").evaluate("select => select.selectedOptions[0].text") == "0.0"


def test_every_key(visit: Any, recording: Recording) -> None:
    marks = sorted({0, *(e["first"] for e in Shelf(recording).facts()["events"]),
                    *(o["first_step"] for o in Shelf(recording).facts()["outcomes"] if o["first_step"] is not None)})
    with shown(visit, Shelf(recording), at=10) as page:
        def press(key: str, step: int) -> None:
            page.keyboard.press(key)
            assert np.array_equal(pixels(page, ".frame", step), recording.pov[step]), key

        press("ArrowRight", 11)
        press("ArrowLeft", 10)
        press("Shift+ArrowRight", 20)
        press("Shift+ArrowLeft", 10)
        press("End", N - 1)
        press("Home", 0)
        assert len(marks) > 2
        press("]", marks[1])
        press("]", marks[2])
        press("[", marks[1])
        press("Home", 0)
        page.locator("#play").focus()
        page.keyboard.press("Space")
        assert page.locator("#play").text_content() == "Pause"
        page.wait_for_selector(f".frame[data-step='{N - 1}']")
        assert page.locator("#play").text_content() == "Play", "it stops at the end"
        page.keyboard.press("Space")
        page.keyboard.press("Space")
        assert page.locator("#play").text_content() == "Play"


def test_all_24_keys_have_a_lane_when_asked_for(visit: Any, recording: Recording) -> None:
    with shown(visit, Shelf(recording)) as page:
        low = page.locator("#lanes").bounding_box()["height"]
        page.locator("#all-keys").click()
        used = {key for row in recording.steps for key, value in row["chosen"].items() if value and key != "camera"}
        assert page.locator("#lanes").bounding_box()["height"] == low + 13 * (23 - len(used))


def test_zooming_keeps_the_step_in_view(visit: Any, recording: Recording) -> None:
    with shown(visit, Shelf(recording), at=35) as page:
        page.keyboard.press("+")
        lanes = page.locator("#lanes")
        lanes.click(position={"x": 93, "y": 30})
        assert np.array_equal(pixels(page, ".frame", N - 20), recording.pov[N - 20]), "20 of 40 steps are in view"
        page.keyboard.press("Home")
        pixels(page, ".frame", 0)
        lanes.click(position={"x": 93, "y": 30})
        pixels(page, ".frame", 0)


def test_heat_is_laid_over_the_picture(visit: Any, recording: Recording, layer: HeatLayer) -> None:
    with shown(visit, Shelf(recording, [layer]), at=6) as page:
        heat = page.locator(".panel .heat")
        data, width, height = heat.evaluate(PIXELS)
        drawn = np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)
        assert (width, height) == (16, 9)
        assert drawn[4, 6, 3] == 254 and drawn[0, 0, 3] == 128 and drawn[8, 8, 3] == 0
        assert drawn[4, 6, 0] > drawn[4, 6, 2] and drawn[0, 0, 2] > drawn[0, 0, 0], "for it yellow, against it blue"
        assert heat.evaluate("h => getComputedStyle(h).opacity") == "0.7"
        page.locator(".opacity").focus()
        page.keyboard.press("Home")
        assert heat.evaluate("h => getComputedStyle(h).opacity") == "0"
        page.locator(".layer").select_option("none")
        assert heat.is_hidden()


def test_two_run_in_lock_step_and_part_where_the_comparison_says(visit: Any, recording: Recording, treated: Recording
                                                                ) -> None:
    first = analysis.compare(recording, treated).pairs[0].first
    assert first is not None
    with shown(visit, Shelf(recording), Shelf(treated), at=39) as page:
        page.wait_for_selector("#parting button")
        assert f"part at step {first.step} in {first.column}" in page.locator("#parting").text_content()
        a, b = (pixels(page, f".panel:nth-child({n}) .frame", 39) for n in (1, 2))
        assert np.array_equal(a, recording.pov[39]) and np.array_equal(b, treated.pov[39])
        page.locator("#parting button").click()
        for n, each in ((1, recording), (2, treated)):
            shown_ = pixels(page, f".panel:nth-child({n}) .frame", first.step)
            assert np.array_equal(shown_, each.pov[first.step])
        assert page.locator(".panel:nth-child(2) .cap.apart").text_content() == "attack", "the intervention is marked"
        assert page.locator(".panel:nth-child(1) .cap.apart").count() == 0


def test_a_fork_stands_beside_the_steps_it_began_at(visit: Any, recording: Recording, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TABLES["harness.worlds"], "fake", "fakes:FakeWorld")
    path = fork_recording(recording, at=20, agent=FakeAgent(), out=tmp_path).path
    forked = open_recording(Path(str(path)))
    with shown(visit, Shelf(recording), Shelf(forked), at=25) as page:
        b = ".panel:nth-child(2)"
        assert np.array_equal(pixels(page, f"{b} .frame", 25), forked.pov[5])
        page.wait_for_selector("#parting:has-text('equal in all 20 steps')")
        page.locator("#scrubber").focus()
        page.keyboard.press("Home")
        assert np.array_equal(pixels(page, ".frame", 0), recording.pov[0])
        page.wait_for_selector(f"{b} .scene .absent:not([hidden])")
        assert page.locator(f"{b} .scene .absent").text_content() == "before the recording begins"


def test_the_file_works_from_disk_without_a_network(visit: Any, recording: Recording, treated: Recording,
                                                    tmp_path: Path) -> None:
    path = tmp_path / "x.html"
    viewer.export_page(recording, path, other=treated)
    page = visit(f"{path.as_uri()}#step=12", offline=True)
    for step in (12, 13):
        frame = pixels(page, ".panel:nth-child(1) .frame", step)
        line = page.locator("[id='0/world']").evaluate("(block, k) => block.textContent.split('\\n')[k]", step)
        image = cv2.imdecode(np.frombuffer(base64.b64decode(line), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.abs(frame.astype(int) - image).max() <= 4, "the picture of this step; decoders round differently"
        page.keyboard.press("ArrowRight")
    strip = page.locator(".panel:nth-child(1) .strip")
    box = strip.bounding_box()
    pixels(page, ".panel:nth-child(1) .frame", 14)
    strip.hover(position={"x": box["width"] - 5.5 * (box["width"] - 44) / 128, "y": 20})
    past = pixels(page, ".panel:nth-child(1) .past", 14 - 5)
    assert np.abs(past.astype(int) - recording.pov[9]).mean() < 12
    assert "part at step" in page.locator("#parting").text_content()
    page.close()


def test_a_picture_that_is_gone_is_said_and_the_page_lives_on(chromium: Any, recording: Recording) -> None:
    class Torn(Shelf):
        def piece(self, stream: str, number: int) -> bytes:
            if (stream, number) == ("world", 5):
                raise KeyError
            return super().piece(stream, number)

    with serving(Torn(recording)) as url:
        page = chromium.new_page()
        page.goto(f"{url}#step=4")
        page.wait_for_selector("body[data-ready=yes]")
        page.keyboard.press("ArrowRight")
        page.wait_for_selector(".scene .absent:not([hidden])")
        assert page.locator(".scene .absent").text_content() == "there is nothing here"
        page.keyboard.press("ArrowRight")
        assert np.array_equal(pixels(page, ".frame", 6), recording.pov[6])
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit: Any, recording: Recording, treated: Recording, layer: HeatLayer, scheme: str) -> None:
    with serving(Shelf(recording, [layer]), Shelf(treated)) as url:
        page = visit(url, color_scheme=scheme)
        page.wait_for_selector("#parting button")
        found = axe_api.Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert len(found.response["passes"]) > 15, "axe looked"
        page.close()


@pytest.mark.parametrize(("scheme", "paper"), [("light", (251, 251, 249)), ("dark", (18, 19, 22))])
def test_a_screenshot_shows_the_picture_on_the_themes_paper(visit: Any, recording: Recording, scheme: str,
                                                            paper: tuple[int, int, int]) -> None:
    with serving(Shelf(recording)) as url:
        page = visit(f"{url}#step=9", color_scheme=scheme)
        pixels(page, ".frame", 9)
        box = page.locator(".frame").first.bounding_box()
        png = np.frombuffer(page.screenshot(), np.uint8)
        screen = cv2.imdecode(png, cv2.IMREAD_COLOR)[..., ::-1]
        assert tuple(screen[2, 2]) == paper
        assert (box["width"], box["height"]) == (640, 360)
        x, y = round(box["x"]), round(box["y"])
        inner = np.s_[20:340, 20:620]
        assert np.abs(screen[y:y + 360, x:x + 640][inner].astype(int) - recording.pov[9][inner]).mean() < 3
        strip = page.locator(".strip").first.bounding_box()
        left, top = round(strip["x"]), round(strip["y"])
        drawn = screen[top:top + 84, left + 44:left + round(strip["width"])]
        flame = (194, 68, 15) if scheme == "light" else (255, 122, 69)
        assert (np.abs(drawn.astype(int) - flame).max(axis=-1) < 8).sum() > 200, "the bars of attention"
        for width in (1400, 900, 480):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is wider than the window"
        page.close()


def test_everything_can_be_reached_by_tab_and_seen_when_it_is(visit: Any, recording: Recording) -> None:
    with shown(visit, Shelf(recording), at=5) as page:
        wanted = page.locator("button:enabled:visible, select:visible, input:visible").count()
        seen = set()
        for _ in range(wanted + 5):
            page.keyboard.press("Tab")
            state = page.evaluate("""() => { const e = document.activeElement, s = getComputedStyle(e);
                return [e.tagName, s.outlineStyle, [...document.querySelectorAll('*')].indexOf(e)]; }""")
            if state[0] in ("BUTTON", "SELECT", "INPUT"):
                assert state[1] == "solid", f"no focus ring on {state}"
                seen.add(state[2])
        assert len(seen) == wanted
