"""Classification of drawn pictures by a CLIP made by hand, whose shortcut is known."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from drawn_pictures import GROUNDS, HUE, RED, SHAPES, draw, hand_made, shapes, write

from harness.agent.clip import CLIP
from harness.analysis import Suppression, classify, read_labels, suppression_effect
from harness.analysis.labelled_pictures import LabelledPictures, read_picture
from harness.errors import HarnessError, HookError, InterventionError, LabelsError
from harness.intervention import KeyBlock, LinearErasure, ProjectOut, Steering, ZeroAblation
from harness.statistics import newcombe

STREAM = "image.blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> LabelledPictures:
    folder = tmp_path_factory.mktemp("shapes")
    return read_labels(folder, shapes(folder, 24))


@functools.cache
def model() -> CLIP:
    return hand_made()


def states(pictures: LabelledPictures, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Class token's states at ``STREAM`` and the ground, of a split."""
    rows = np.flatnonzero(np.array(pictures.split) == split)
    seen = np.stack([read_picture(pictures.folder, pictures.files[row]) for row in rows])
    _, cache = model().run_with_cache(seen, names_filter=STREAM)
    return cache[STREAM][:, 0].numpy(), pictures.attribute[rows]


def test_the_reader(drawn: LabelledPictures) -> None:
    assert drawn.classes == SHAPES and drawn.attributes == GROUNDS and len(drawn) == 96 and drawn.unlabelled == 0
    assert drawn.group_names == ("bar, grass", "bar, water", "square, grass", "square, water")
    assert np.bincount(drawn.group).tolist() == [24] * 4
    (first, *_), = drawn.pictures(np.array([50]))
    assert first.shape == (32, 32, 3) and (first[..., 0] > 200).sum() == 24 * 24


def test_a_shortcut_shows_in_the_worst_groups(drawn: LabelledPictures) -> None:
    """Squares on grass and bars on water are right because of the ground; the others are wrong because of it."""
    found = classify(model(), drawn, controls=50)
    assert found.counts == {"bar, grass": (0, 12), "bar, water": (12, 12), "square, grass": (12, 12),
                            "square, water": (0, 12)}
    assert found.accuracy == 0.5 and found.worst == 0 and found.worst_group == "bar, grass"
    assert found.worst_interval.low == 0 and 0.2 < found.worst_interval.high < 0.5
    table, = found.tables()
    rows = {row[0]: row for row in table.rows}
    assert rows["all"][1:4] == (48, 24, 0.5) and rows["worst: bar, grass"][3] == 0
    assert rows["control, all"][3] == pytest.approx(0.5, abs=0.05) and "p 1" in str(rows["control, worst group"][5])
    honest = classify(hand_made(0.0), drawn, controls=99)
    assert honest.accuracy == honest.worst == 1.0 and honest.control_overall.max() < 0.85
    assert "p 0.01" in str(honest.tables()[0].rows[-1][-1])


def test_suppressions_are_compared_over_the_same_pictures(drawn: LabelledPictures) -> None:
    """Taking the ground out mends it, in four ways; taking something else out does nothing."""
    x, ground = states(drawn, "train")
    hue = np.eye(64)[HUE] - np.eye(64)[HUE + 2]
    redless = np.eye(64)[RED + 2] - np.eye(64)[RED]
    suppressions = [
        Suppression("erased", (LinearErasure.fit(STREAM, x, ground),), "cls"),
        Suppression("projected", (ProjectOut(STREAM, direction=hue),), "cls"),
        Suppression("units", (ZeroAblation(STREAM, units=(HUE, HUE + 2)),), "cls"),
        Suppression("function", ((STREAM, lambda a, hook: a * (abs(a.new_tensor(hue)) == 0)),), "cls"),
        Suppression("others", (ZeroAblation(STREAM, units=(20, 30)),), "cls"),
        Suppression("elsewhere", (ZeroAblation(STREAM, units=(HUE, HUE + 2)),), "patches"),
        Suppression("harm", (Steering(STREAM, direction=redless, strength=50.0),), "cls"),
    ]
    found = {each.name: each for each in suppression_effect(model(), drawn, suppressions, controls=5)}
    for name in ("erased", "projected", "units", "function"):
        each = found[name]
        assert each.after.accuracy == each.after.worst == 1.0, name
        rows = {row[0]: row for row in each.tables()[-1].rows}
        assert rows["bar, grass"][1:7] == (12, 0.0, 1.0, 0, 12, 1.0)
        assert rows["bar, grass"][8] == pytest.approx(2 / 2**12) and rows["bar, water"][8] == 1.0
        assert rows["bar, grass"][9] == pytest.approx(8 / 2**12) and rows["all"][4:7] == (0, 24, 0.5)
        assert rows["all"][7].low > 0.3  # type: ignore[union-attr]
        assert "Worst group before: bar, grass, 0; after" in each.tables()[-1].note
    for name in ("others", "elsewhere"):
        assert np.array_equal(found[name].before.predicted, found[name].after.predicted), name
    assert found["harm"].after.counts["square, grass"] == (0, 12)
    assert not model().hook_stack.listeners


def test_pasted_words(tmp_path: Path) -> None:
    """Red letters are red too: a bar with a word on it is taken for a square, and its group is named."""
    rng = np.random.default_rng(1)
    table = write(tmp_path, ((shape, word or "none", "test", draw(shape, ground, rng, word))
                             for shape in SHAPES for word in ("", "SQUARE") for ground in GROUNDS for _ in range(5)))
    found = classify(hand_made(0.0), read_labels(tmp_path, table), controls=0)
    assert found.counts["bar, none"] == (10, 10) and found.counts["square, SQUARE"] == (10, 10)
    assert found.worst_group == "bar, SQUARE" and found.worst < 0.5
    assert [row[0] for row in found.tables()[0].rows][-1] == "worst: bar, SQUARE"


def test_a_probe_on_random_features(drawn: LabelledPictures) -> None:
    """It is fitted on one split, scored on the other, and beats probes of shuffled labels."""
    random = CLIP.random("nano", seed=1)
    found = classify(random, drawn, method="probe", controls=20)
    assert "random weights" in found.title and "Fitted on 48 pictures" in found.note
    assert found.accuracy > 0.8 > found.control_overall.max() > 0.4 and len(found.control_overall) == 20
    assert abs(found.control_overall.mean() - 0.5) < 0.15
    again = classify(random, drawn, method="probe", controls=0)
    assert np.array_equal(found.predicted, again.predicted)


def test_splits_are_dealt_where_there_are_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    table = write(tmp_path, ((shape, ground, "", draw(shape, ground, rng))
                             for shape in SHAPES for ground in GROUNDS for _ in range(4)))
    text = table.read_text().replace(",split", "").replace(",\r\n", "\r\n").replace(",\n", "\n")
    table.write_text(text)
    pictures = read_labels(tmp_path, table)
    assert pictures.split is None
    found = classify(model(), pictures, method="probe", controls=0)
    assert [n for _, n in found.counts.values()] == [2] * 4 and "dealt at random" in found.note
    assert "too few" in str(found.tables()[0].rows)
    assert len(classify(model(), pictures, controls=0).rows) == 16


def test_columns_of_published_tables(tmp_path: Path) -> None:
    names = {"file": "img_filename", "label": "y", "group": "place", "split": "split"}
    table = shapes(tmp_path, 2, **names)
    table.write_text(table.read_text().replace("train", "0").replace("test", "2"))
    found = read_labels(tmp_path, table, {key: names[key] for key in ("file", "label", "group")})
    assert found.split is not None and set(found.split) == {"train", "test"}
    with pytest.raises(LabelsError, match='no column "file": it has img_filename, y') as told:
        read_labels(tmp_path, table)
    assert "file=NAME" in str(told.value)


@pytest.mark.parametrize(("text", "words"), [
    ("", "no column"),
    ("file,label\n", "no rows"),
    ("file,label\n0.png,a\n0.png,b\n", "more than one row"),
    ("file,label\n0.png,a\n1.png,\n", "row 3 of the table has nothing under label"),
    ("file,label\n0.png,a,b\n", "more cells than the heading"),
    ("file,label\n0.png,a\n1.pgn,b\n", r"1 of the 2 pictures .* 1.pgn \(nearest: 1.png\)"),
    ("file,label\n0.png,a\n1.png,a\n", "expected 2 to 1,000 classes, got 1"),
    ("file,label\n../out.png,a\n1.png,b\n", "leads out of the folder"),
    ("file,label\n/etc/passwd,a\n1.png,b\n", "leads out of the folder"),
    ("file,label\nlink.png,a\n1.png,b\n", "leads out of the folder"),
    ("file,label,split\n0.png,a,yes\n1.png,b,test\n", "expected train, val or test"),
    ("file,label\n\"0.png,a\n", "cannot read the table"),
])
def test_tables_that_do_not_match(tmp_path: Path, text: str, words: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for path in (folder / "0.png", folder / "1.png", tmp_path / "out.png"):
        cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))
    (folder / "link.png").symlink_to(tmp_path / "out.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(LabelsError, match=words):
        read_labels(folder, tmp_path / "t.csv")


def test_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    png = cv2.imencode(".png", np.zeros((40, 50, 3), np.uint8))[1].tobytes()
    jpg = cv2.imencode(".jpg", np.zeros((40, 50, 3), np.uint8))[1].tobytes()
    for name, raw in (("a.png", png), ("a.jpg", jpg)):
        (tmp_path / name).write_bytes(raw)
        assert read_picture(tmp_path, name).shape == (40, 50, 3)
    huge = png[:16] + (60_000).to_bytes(4, "big") * 2 + png[24:]
    for name, raw, words in (("cut.png", png[:40], "damaged"), ("huge.png", huge, "more than 50,000,000 pixels"),
                             ("text.png", b"hello", "none"), ("empty.png", b"", "none"),
                             ("cut.jpg", jpg[:20], "none")):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(LabelsError, match=words):
            read_picture(tmp_path, name)


def test_bad_options(drawn: LabelledPictures) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"template": "a photo"}, "with one {}"), ({"method": "guess"}, "zero-shot or probe"),
        ({"prompts": {"bar": ["a bar"]}}, "square has none"), ({"penalty": 0}, "penalty > 0"),
        ({"prompts": {"bar": ["x"], "square": ["y"], "circle": ["z"]}}, "circle is no class")]
    for options, words in cases:
        with pytest.raises(HarnessError, match=words):
            classify(model(), drawn, **options)
    for suppression, words in (
            (Suppression("x", (ZeroAblation("text.blocks.0.hook_resid_post"),)), "not in the image tower"),
            (Suppression("x", (ZeroAblation("image.hook_out"),), "cls"), "no image tokens"),
            (Suppression("x", (ZeroAblation("image.hook_embed"),), "cls"), "no class token"),
            (Suppression("x", (ZeroAblation(STREAM, units=(64,)),)), "units 0 to 63"),
            (Suppression("x", (ZeroAblation("image.blocks.0.attn.hook_z", head=2),)), "heads 0 to 1"),
            (Suppression("x", (ProjectOut(STREAM, direction=[1.0, 0.0]),)), "64 units, the direction 2")):
        with pytest.raises(InterventionError, match=words):
            suppression_effect(model(), drawn, [suppression])
    with pytest.raises(HookError, match="did you mean"):
        suppression_effect(model(), drawn, [Suppression("x", (ZeroAblation("image.blocks.1.hook_resid_pots"),))])
    with pytest.raises(InterventionError, match="KeyBlock acts on the action"):
        Suppression("x", (KeyBlock(keys=["attack"]),))


def test_a_head_is_a_head_behind_the_token_axis() -> None:
    """Silencing head 1 of z silences that head at every token, not token 1."""
    random = CLIP.random("nano", seed=1)
    hook = "image.blocks.0.attn.hook_z"
    pairs = Suppression("x", (ZeroAblation(hook, head=1),)).hooks(random)
    with random.hooks(pairs):
        _, cache = random.run_with_cache(np.full((1, 32, 32, 3), 90, np.uint8), names_filter=hook)
    assert not cache[hook][:, :, 1].any() and bool(cache[hook][:, :, 0].abs().min() > 0)


def test_newcombe_covers_what_it_should() -> None:
    """Exactly, over every table of 15 pairs: between 93 and 98.5 % where pairs agree more, or less, than by chance."""
    n = 15
    tables = [(a, b, c, n - a - b - c) for a in range(n + 1) for b in range(n + 1 - a) for c in range(n + 1 - a - b)]
    found = [newcombe(*table) for table in tables]
    for shares in ((0.5, 0.2, 0.1, 0.2), (0.2, 0.4, 0.3, 0.1), (0.7, 0.05, 0.15, 0.1)):
        truth = shares[2] - shares[1]
        chances = [math.factorial(n) / math.prod(map(math.factorial, table)) *
                   math.prod(p**k for p, k in zip(shares, table, strict=True)) for table in tables]
        covered = sum(p for p, each in zip(chances, found, strict=True) if each.low <= truth <= each.high)
        assert sum(chances) == pytest.approx(1) and 0.93 < covered < 0.985, (shares, covered)
    for (a, b, c, d), each in zip(tables, found, strict=True):
        assert each.low - 1e-9 <= (c - b) / n <= each.high + 1e-9
        assert each.low >= -1 - 1e-9 and each.high <= 1 + 1e-9
        assert newcombe(a, c, b, d) == (pytest.approx(-each.high), pytest.approx(-each.low))
    assert newcombe(0, 0, 0, 0) == (-1.0, 1.0)
