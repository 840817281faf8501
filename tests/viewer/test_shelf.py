"""What the page is told: columns, attention in eight bits, events put together, heat maps."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from viewer_fakes import N, heat_maps, play

from harness import analysis
from harness.analysis.result import Result, result_provenance
from harness.errors import HarnessError, RecordingError
from harness.recording.recording import Recording, open_recording
from harness.viewer.heat import HeatLayer, heat_layers, read_result
from harness.viewer.shelf import CHUNK, Shelf, spans
from harness.world.action import BUTTONS


def codes(shelf: Shelf, recording: Recording) -> np.ndarray:
    facts = shelf.facts()["attention"]
    pieces = b"".join(zlib.decompress(shelf.piece("attention", i)) for i in range(shelf.streams["attention"]))
    return np.frombuffer(pieces, np.uint8).reshape(len(recording), len(facts["rows"]), facts["n_ages"])


def test_pictures_are_the_recordings_bytes(recording: Recording) -> None:
    shelf = Shelf(recording)
    for number in (7, 0, N - 1):
        png = np.frombuffer(shelf.piece("world", number), np.uint8)
        assert np.array_equal(cv2.imdecode(png, cv2.IMREAD_COLOR)[..., ::-1], recording.pov[number])


def test_attention_is_within_the_eight_bits_of_its_root(recording: Recording) -> None:
    maps = analysis.attention_maps(recording)
    shelf = Shelf(recording)
    shown = codes(shelf, recording)
    assert shelf.facts()["attention"]["rows"] == ["mean", *maps.names]
    truth = np.concatenate([maps.means[:, None], maps.weights.reshape(N, -1, maps.weights.shape[3])], axis=1)
    assert np.abs(shown / 255 - np.sqrt(truth)).max() <= 0.5 / 255 + 1e-6


def test_long_recordings_are_cut_into_pieces(tmp_path: Path) -> None:
    long = play(tmp_path, steps=CHUNK + 3)
    shelf = Shelf(long)
    assert shelf.streams["attention"] == 2
    maps = analysis.attention_maps(long)
    assert np.abs(codes(shelf, long)[CHUNK + 2, 0] / 255 - np.sqrt(maps.means[CHUNK + 2])).max() < 0.003


def test_columns_hold_keys_camera_and_numbers(treated: Recording) -> None:
    facts = Shelf(treated).facts()
    raw = zlib.decompress(Shelf(treated).piece("columns", 0))
    table = np.frombuffer(raw, "<u4").reshape(len(facts["columns"]), N)
    columns = dict(zip(facts["columns"], table, strict=True))
    steps = treated.steps
    for name in ("executed", "chosen"):
        for bit, key in enumerate(BUTTONS):
            assert ((columns[name] >> bit) & 1).tolist() == [row[name][key] for row in steps]
    assert (columns["executed"] != columns["chosen"]).any(), "the intervention is seen"
    assert columns["yaw"].view("<f4").tolist() == pytest.approx([row["executed"]["camera"][1] for row in steps])
    for name in ("value", "log_prob", "entropy"):
        assert columns[name].view("<f4").tolist() == pytest.approx(steps[name].tolist(), rel=1e-6)


def test_a_traced_video_has_keys_that_nobody_played(recording: Recording) -> None:
    assert Shelf(recording).facts()["played"]
    rows = [{**row, "executed": None, "value": None} for row in recording.steps]
    traced = open_recording(recording.path)
    vars(traced)["_rows"] = rows
    shelf = Shelf(traced)
    assert not shelf.facts()["played"]
    columns = np.frombuffer(zlib.decompress(shelf.piece("columns", 0)), "<u4").reshape(-1, N)
    assert (columns[0] == columns[1]).all() and np.isnan(columns[4].view("<f4")).all()


def test_rows_that_are_no_numbers_are_an_error_and_no_traceback(recording: Recording) -> None:
    strange = open_recording(recording.path)
    vars(strange)["_rows"] = [{**row, "value": "seven"} for row in recording.steps]
    with pytest.raises(RecordingError, match="no number"):
        Shelf(strange).piece("columns", 0)


@pytest.mark.parametrize(("stream", "number"), [
    ("world", N), ("world", -1), ("agent", 0), ("header", 0), ("heat.0", 0)])
def test_what_is_not_there_is_a_key_error(recording: Recording, stream: str, number: int) -> None:
    with pytest.raises(KeyError):
        Shelf(recording).piece(stream, number)


def test_random_weights_and_unfinished_runs_say_so(recording: Recording, tmp_path: Path) -> None:
    facts = Shelf(recording).facts()
    assert facts["random"] and "random weights" in facts["agent"] and facts["unfinished"] is None
    killed = play(tmp_path, steps=6)
    (killed.path / "result.json").unlink()
    assert "unfinished" in Shelf(open_recording(killed.path)).facts()["unfinished"]


def test_without_patterns_the_page_names_the_hooks(tmp_path: Path, recording: Recording) -> None:
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(recording.path, bare, ignore=shutil.ignore_patterns("activations"))
    facts = Shelf(open_recording(bare)).facts()
    assert facts["attention"] is None and '--hooks "blocks.*.attn.hook_pattern"' in facts["attention_note"]


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["hit", "jumped"])), max_size=40))
def test_spans_lose_no_event(drawn: list[tuple[int, str]]) -> None:
    events = [{"step": step, "type": kind} for step, kind in sorted(drawn)]
    found = spans(events)
    assert sum(span["count"] for span in found) == len(events)
    for event in events:
        assert any(s["words"] == event["type"] and s["first"] <= event["step"] <= s["last"] for s in found)
    for a in found:
        assert all(any(e["step"] == step and e["type"] == a["words"] for e in events)
                   for step in range(a["first"], a["last"] + 1)), "a span has no hole"
    assert [s["first"] for s in found] == sorted(s["first"] for s in found)


def test_an_intervention_of_many_steps_is_one_span(treated: Recording) -> None:
    (span,) = [s for s in Shelf(treated).facts()["events"] if s["intervention"]]
    assert span["first"] >= 12 and span["words"] == "ActionOverride (action)"


def test_heat_maps_are_coded_with_their_sign() -> None:
    layer = HeatLayer.of("x", heat_maps(20))
    assert layer.top == 2.0 and layer.codes[3, 4, 3] == 127 and layer.codes[3, 0, 0] == -64
    assert layer.steps.tolist() == list(range(20))


@pytest.mark.parametrize(("maps", "steps"), [
    (np.zeros((3, 4)), None), (np.zeros((3, 4, 4)), [0, 1]), (np.zeros((2, 4, 4)), [1, 1]),
    (np.zeros((2, 4, 4)), [0.0, 1.0]), (np.full((2, 4, 4), np.nan), None)])
def test_other_arrays_are_no_heat_maps(maps: np.ndarray, steps: list[int] | None) -> None:
    with pytest.raises(HarnessError):
        HeatLayer.of("x", maps, steps)


class Saliency(Result):
    """A result that has a map in every third step."""

    def heat(self, step: int) -> np.ndarray | None:
        return heat_maps(N)[step] if step % 3 == 0 else None


def test_a_result_with_heat_is_a_layer(recording: Recording) -> None:
    (layer,) = heat_layers(Saliency(result_provenance("saliency", recording)), recording)
    assert layer.title == "saliency" and layer.steps.tolist() == list(range(0, N, 3))
    assert np.array_equal(layer.codes, HeatLayer.of("x", heat_maps(N)[::3]).codes)


def test_a_result_with_methods_has_a_layer_for_each(recording: Recording) -> None:
    class Several(Saliency):
        methods = ("gradient", "occlusion", "none")

        def heat(self, step: int, method: str = "") -> np.ndarray | None:
            return None if method == "none" else heat_maps(N)[step] * (1 + 3 * (method == "occlusion"))

    layers = heat_layers(Several(result_provenance("saliency", recording)), recording)
    assert [(layer.title, layer.top) for layer in layers] == [("saliency: gradient", 2), ("saliency: occlusion", 8)]


def test_large_maps_become_means_over_areas() -> None:
    rng = np.random.default_rng(0)
    cells = rng.random((2, 120, 160)).astype(np.float32)
    layer = HeatLayer.of("x", cells.repeat(3, axis=1).repeat(4, axis=2))
    assert layer.codes.shape == (2, 128, 160)
    low = HeatLayer.of("x", cells.repeat(4, axis=2))
    assert np.array_equal(low.codes, HeatLayer.of("x", cells).codes), "a mean over equal cells is the cell"


def test_results_from_files(recording: Recording, treated: Recording, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "saliency.npz", maps=heat_maps(5), steps=np.arange(0, 10, 2), other=np.zeros(3))
    (layer,), none = read_result(tmp_path / "saliency.npz", [recording])
    assert none is None and layer.title == "saliency" and layer.steps.tolist() == [0, 2, 4, 6, 8]
    both = np.stack([heat_maps(6), 2 * heat_maps(6)])
    np.savez_compressed(tmp_path / "two.npz", maps=both, steps=np.array([0, 1, 2, 0, 1, 2]),
                        episodes=np.array([0, 0, 0, 1, 1, 1]))
    layers, _ = read_result(tmp_path / "two.npz", [recording])
    assert [layer.title for layer in layers] == ["two: maps 0", "two: maps 1"]
    assert layers[1].steps.tolist() == [0, 1, 2] and layers[1].top == 4.0
    np.savez_compressed(tmp_path / "late.npz", maps=heat_maps(2), steps=np.array([3, N]))
    with pytest.raises(HarnessError, match=f"has {N} steps"):
        read_result(tmp_path / "late.npz", [recording])
    np.savez_compressed(tmp_path / "none.npz", weights=np.zeros((2, 3, 4, 5)))
    with pytest.raises(HarnessError, match="no heat maps") as caught:
        read_result(tmp_path / "none.npz", [recording])
    assert "weights [2, 3, 4, 5]" in str(caught.value)
    np.savez(tmp_path / "evil.npz", maps=np.array([{}], dtype=object))
    for name, text in (("evil.npz", None), ("broken.npz", "x"), ("list.json", "[1]"), ("a.txt", "x"), ("b.json", "{")):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(HarnessError):
            read_result(tmp_path / name, [recording])
    with pytest.raises(HarnessError):
        read_result(tmp_path / "absent.npz", [recording])


def test_tables_of_another_recording_are_refused(recording: Recording, treated: Recording, tmp_path: Path) -> None:
    import json

    told = {"provenance": result_provenance("compare", recording),
            "tables": [{"title": "t", "columns": ["a"], "rows": [[1]], "note": ""}]}
    (tmp_path / "r.json").write_text(json.dumps(told))
    assert read_result(tmp_path / "r.json", [recording])[1] == {"title": "compare", "tables": told["tables"]}
    assert read_result(tmp_path / "r.json", [treated, recording])[1] is not None
    with pytest.raises(HarnessError, match="is of the recording"):
        read_result(tmp_path / "r.json", [treated])
