"""What was written is what is read, byte for byte; what was cut off is readable up to there."""

from __future__ import annotations

import json
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeAgent, FakeWorld, make_scenario
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.agent.agent import AgentOutput
from harness.errors import RecordingError
from harness.intervention import ActionOverride, PixelMask
from harness.recording.recorder import Recorder, estimate_activation_bytes
from harness.recording.recording import Recording, open_recording
from harness.recording.schema import plain
from harness.recording.store import ShardWriter, list_shards, read_lines, read_snapshot, write_snapshot
from harness.recording.video import FrameSequence, FrameWriter, count_frames, write_share_video
from harness.rollout import Episode, EpisodeResult, Snapshot, Step, run_episode

quick = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


class Watch:
    """Keeps every step."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.snapshots: dict[int, Snapshot] = {}

    def begin(self, episode: Episode) -> None:
        self.snapshots[0] = episode.snapshot()

    def on_step(self, step: Step) -> None:
        self.steps.append(step)

    def end(self, result: EpisodeResult) -> None:
        self.result = result


def play(folder: Path, n: int = 40, hooks: tuple[str, ...] = ("blocks.*",), interventions: tuple = (),
         seed: int = 3, **keywords: object) -> tuple[Recording, Watch]:
    watch = Watch()
    with Recorder(folder, **keywords) as recorder:
        run_episode(FakeWorld(make_scenario(n)), FakeAgent(), seed=seed, observers=[recorder, watch], hooks=hooks,
                    interventions=interventions)
    return open_recording(recorder.path), watch


@quick
@given(st.data())
def test_frames_come_back_bit_for_bit_in_any_order(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(2, 40)), data.draw(st.integers(2, 40))
    n = data.draw(st.integers(1, 35))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    frames = rng.integers(0, 256, (n, height, width, 3), dtype=np.uint8)
    fps = data.draw(st.sampled_from([20.0, 30.0, 29.97, 60.0]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.mkv"
        writer = FrameWriter(path, fps, (height, width))
        for frame in frames:
            writer.write(frame)
        writer.close()
        assert count_frames(path) == n
        read = FrameSequence(path, n, fps, (height, width))
        for i in data.draw(st.lists(st.integers(-n, n - 1), max_size=12)):
            assert np.array_equal(read[i], frames[i])
        cut = data.draw(st.slices(n))
        assert np.array_equal(read[cut], frames[cut])
        assert all(np.array_equal(a, b) for a, b in zip(read, frames, strict=True))
        with pytest.raises(IndexError):
            read[n]
        read.close()


@quick
@given(st.data())
def test_arrays_come_back_bit_for_bit_however_they_are_sliced(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.float16, np.float64, np.int64, np.uint8]))
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    n = data.draw(st.integers(1, 20))
    kind = hnp.from_dtype(np.dtype(dtype))
    values = data.draw(hnp.arrays(dtype, (n, *shape), elements=kind))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "activations"
        writer = ShardWriter(folder, shard_steps=data.draw(st.integers(1, 7)))
        for row in values:
            writer.write({"a": row, "b": row.ravel()[0]})
        writer.flush()
        (Path(name) / "header.json").write_text(json.dumps(header(hooks={"a": {}, "b": {}})))
        from harness.recording.recording import Activations

        series = Activations(folder, ["a"], n)["a"]
        assert series.shape == (n, *shape) and series.dtype == dtype and len(series) == n
        assert np.asarray(series).tobytes() == values.tobytes()
        cut = data.draw(st.slices(n))
        assert series[cut].tobytes() == values[cut].tobytes()
        i = data.draw(st.integers(-n, n - 1))
        assert series[i].tobytes() == values[i].tobytes()
        assert series[i, 0].tobytes() == values[i, 0].tobytes()
        assert series[..., -1].tobytes() == values[..., -1].tobytes()
        chosen = data.draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=5))
        assert series[chosen].tobytes() == values[chosen].tobytes()


def header(**more: object) -> dict[str, object]:
    return {"format": "harness-recording", "version": 1, "scenario": {}, "seed": 0, "world": {}, "agent": {},
            "interventions": [], "hooks": {}, "max_steps": 1, "fps": 20.0, **more}


def test_a_recording_holds_everything_on_both_sides(tmp_path: Path) -> None:
    mask = PixelMask(0, 0, 100, 50, (255, 0, 0))
    still = ActionOverride({"attack": 0, "camera": [0.0, 1.5]})
    recording, watch = play(tmp_path, interventions=(mask, still))
    assert len(recording) == 40 == len(watch.steps)
    assert recording.complete and recording.status == "truncated"
    for step in watch.steps:
        row = recording.steps[step.index]
        assert np.array_equal(recording.pov[step.index], step.observation["pov"])
        assert np.array_equal(recording.agent_pov[step.index], step.agent_observation["pov"])
        assert (recording.agent_pov[step.index][:50, :100] == (255, 0, 0)).all()
        assert row["chosen"] == plain(step.output.action) and row["executed"] == plain(step.executed)
        assert row["log_prob"] == step.output.log_prob and row["value"] == step.output.value
        assert row["statistics"] == dict(step.info["statistics"]) and row["pose"] == step.info["pose"]
        for name, value in step.output.activations.items():
            assert recording.activations[name][step.index].tobytes() == np.asarray(value).tobytes()
        assert recording.activations["log_probs.buttons"][step.index].tobytes() == \
            step.output.log_probs["buttons"].tobytes()
    assert recording.result is not None and recording.result["outcomes"] == watch.result.outcomes
    assert any(e["type"] == "intervention" and e["site"] == "action" for e in recording.events)
    assert recording.steps[-1]["truncated"] and not recording.steps[0]["truncated"]
    assert recording.hooks == list(FakeAgent().hook_shapes())


def test_the_header_says_who_played_and_what(tmp_path: Path) -> None:
    recording, _ = play(tmp_path, n=3)
    h = recording.header
    assert h["agent"]["description"] == "random weights (seed 0)" and "random weights" in recording.agent_description
    assert h["scenario"]["name"] == "stripes" and h["seed"] == 3 and len(h["scenario_digest"]) == 64
    assert h["provenance"]["packages"]["numpy"] == np.__version__
    assert h["provenance"]["cpu_capability"] in ("AVX512", "AVX2", "NEON", "DEFAULT")
    assert h["hooks"]["blocks.0.attn.hook_pattern"] == {"shape": [2, 129], "dtype": "float32"}
    assert h["world"]["backend"] == "fake" and h["world"]["deterministic"] is True


def test_columns(tmp_path: Path) -> None:
    recording, watch = play(tmp_path, n=8)
    table = recording.steps
    assert table["log_prob"].dtype == np.float64 and table["step"].tolist() == list(range(8))
    assert table["terminated"].dtype == bool
    assert table["pose.yaw"].tolist() == [s.info["pose"]["yaw"] for s in watch.steps]
    assert table["executed.attack"].tolist() == [s.executed["attack"] for s in watch.steps]
    assert table["executed"][2] == plain(watch.steps[2].executed)
    with pytest.raises(RecordingError, match="unknown column"):
        table["log_porb"]


def test_looking_does_not_touch(tmp_path: Path) -> None:
    """A recorder and hooks leave the trajectory byte-equal."""
    recorded, _ = play(tmp_path)
    alone = Watch()
    run_episode(FakeWorld(make_scenario(40)), FakeAgent(), seed=3, observers=[alone])
    assert [s.observation["pov"].tobytes() for s in alone.steps] == [f.tobytes() for f in recorded.pov]


def test_snapshots_lead_to_the_same_future(tmp_path: Path) -> None:
    recording, watch = play(tmp_path, n=250)
    assert list(recording.snapshots) == list(range(0, 250, 32))
    snapshot = recording.snapshots[192]
    world, agent = FakeWorld(make_scenario(250)), FakeAgent()
    world.reset(seed=99)
    assert snapshot.world is not None
    world.restore(snapshot.world)
    rng = np.random.Generator(np.random.PCG64())
    rng.bit_generator.state = snapshot.streams["agent"]
    state, observation = agent.load_state(snapshot.agent), {"pov": world.render()}
    for step in watch.steps[192:212]:
        assert np.array_equal(observation["pov"], step.observation["pov"])
        output = agent.act(observation, state, rng)
        assert output.tokens == step.output.tokens
        state = output.state
        observation, *_ = world.step(output.action)


def test_a_snapshot_with_any_stream_comes_back(tmp_path: Path) -> None:
    for kind in (np.random.PCG64, np.random.Philox, np.random.MT19937):
        state = kind(5).state
        snapshot = Snapshot(7, b"\x00world", {"k": np.arange(6.0).reshape(3, 2).T, "n": np.array(3)}, {"agent": state})
        write_snapshot(tmp_path / kind.__name__, snapshot)
        back = read_snapshot(tmp_path / kind.__name__ / "00000007.safetensors")
        assert back.index == 7 and back.world == b"\x00world" and np.array_equal(back.agent["k"], snapshot.agent["k"])
        assert back.agent["n"].shape == () and int(back.agent["n"]) == 3
        generator = kind()
        generator.state = back.streams["agent"]
        assert np.random.Generator(generator).random() == np.random.Generator(kind(5)).random()


def test_nothing_is_overwritten_and_names_stay_inside(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "recordings"
    recorder = Recorder(out)
    for _ in range(2):
        run_episode(FakeWorld(make_scenario(2)), FakeAgent(), seed=1, observers=[recorder])
    agent = FakeAgent()
    agent.name = "../../evil agent"
    run_episode(FakeWorld(make_scenario(2)), agent, seed=1, observers=[recorder])
    names = [path.name for path in recorder.paths]
    assert names[:2] == ["stripes-fake-s1", "stripes-fake-s1-2"]
    assert {p.parent for p in recorder.paths} == {out} and "/" not in names[2] and sorted(tmp_path.iterdir()) == [
        tmp_path / "deep"]
    assert recorder.path == recorder.paths[-1]


def test_large_rows_make_small_shards(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, shard_steps=32)
    for i in range(5):
        writer.write({"x": np.full((3 << 20,), i, np.float64)})
    writer.flush()
    assert [start for start, _ in list_shards(tmp_path)] == [0, 2, 4]


def test_half_precision_on_request(tmp_path: Path) -> None:
    recording, watch = play(tmp_path, n=4, activation_dtype="float16")
    name = "blocks.0.hook_resid_post"
    assert recording.activations[name].dtype == np.float16
    assert recording.header["hooks"][name]["dtype"] == "float16"
    assert recording.activations["log_probs.buttons"].dtype == np.float32
    assert np.array_equal(recording.activations[name][2], watch.steps[2].output.activations[name].astype(np.float16))


def test_the_estimate_is_what_is_written(tmp_path: Path) -> None:
    agent = FakeAgent()
    hooks = agent.resolve_hooks(["blocks.*"])
    recording, _ = play(tmp_path, n=32, log_probs=False)
    estimated = estimate_activation_bytes(agent, hooks, 32)
    (shard,) = list_shards(recording.path / "activations")
    assert estimated <= shard[1].stat().st_size <= estimated + 2000
    assert estimated == 32 * 2 * (2 * 129 + 8) * 4
    assert estimate_activation_bytes(agent, hooks, 32, "float16") == estimated // 2


def test_an_episode_without_hooks_or_policy(tmp_path: Path) -> None:
    recording, _ = play(tmp_path, n=3, hooks=(), log_probs=False)
    assert not (recording.path / "activations").exists()
    assert len(recording.activations) == 0 and recording.hooks == [] and len(recording) == 3


@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
def test_a_copy_has_the_right_colours(tmp_path: Path, suffix: str) -> None:
    import av

    colours = [(255, 189, 84), (30, 160, 40), (20, 40, 220), (200, 30, 30), (128, 128, 128)]
    frames = [np.full((64, 96, 3), colour, np.uint8) for colour in colours for _ in range(4)]
    write_share_video(frames, tmp_path / f"c{suffix}", 20.0)
    with av.open(str(tmp_path / f"c{suffix}")) as container:
        read = [f.to_ndarray(format="rgb24")[20:40, 20:60] for f in container.decode(video=0)]
    for i, colour in enumerate(colours):
        assert np.abs(read[4 * i + 3].mean(axis=(0, 1)) - colour).max() < 6


def test_copies_for_sharing_play(tmp_path: Path) -> None:
    import av

    recording, _ = play(tmp_path, n=12)
    for suffix in (".webm", ".mp4"):
        path = tmp_path / f"share{suffix}"
        assert write_share_video(recording.pov, path, recording.fps) == 12
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.pix_fmt == "yuv420p"
            frames = list(container.decode(stream))
            assert {stream.codec_context.colorspace, stream.codec_context.color_primaries} == {1}, "BT.709"
        assert len(frames) == 12 and (frames[0].width, frames[0].height) == (640, 360)
        if suffix == ".mp4":
            data = path.read_bytes()
            assert data.index(b"moov") < data.index(b"mdat"), "the index comes first, so that it plays while loading"


# ---- what is cut off, changed or hostile


def test_a_recording_cut_off_anywhere_opens(tmp_path: Path) -> None:
    """Truncate each file at many places: what is left is whole rows and exact frames."""
    recording, watch = play(tmp_path, n=40)
    recording.close()
    (recording.path / "result.json").unlink()
    for name, part in (("steps.jsonl", 0.5), ("frames.mkv", 0.6), ("steps.jsonl", 0.001), ("frames.mkv", 0.0005)):
        file = recording.path / name
        file.write_bytes(file.read_bytes()[:int(file.stat().st_size * part)])
        cut = open_recording(recording.path)
        assert not cut.complete and cut.status == "unfinished" and len(cut) < 40
        assert "unfinished" in cut.summary
        for i in range(len(cut)):
            assert np.array_equal(cut.pov[i], watch.steps[i].observation["pov"])
            assert cut.steps[i]["log_prob"] == watch.steps[i].output.log_prob
        cut.close()
    assert len(open_recording(recording.path)) == 0


def test_missing_activations_are_said(tmp_path: Path) -> None:
    recording, _ = play(tmp_path, n=40)
    (recording.path / "result.json").unlink()
    (recording.path / "activations" / "00000032.safetensors").unlink()
    cut = open_recording(recording.path)
    assert len(cut) == 40 and len(cut.activations["blocks.0.hook_resid_post"]) == 32
    assert "activations of the first 32" in cut.summary


def test_a_missing_shard_in_the_middle_is_an_error(tmp_path: Path) -> None:
    recording, _ = play(tmp_path, n=70)
    (recording.path / "activations" / "00000032.safetensors").unlink()
    with pytest.raises(RecordingError, match="steps 32 to 63 are missing"):
        open_recording(recording.path).activations  # noqa: B018


@pytest.mark.parametrize(("change", "message"), [
    (lambda p: (p / "header.json").unlink(), "no header.json"),
    (lambda p: (p / "header.json").write_text("{"), "cannot read header.json"),
    (lambda p: (p / "header.json").write_text("[]"), "expected a header"),
    (lambda p: (p / "header.json").write_text(json.dumps(header(version=99))), "format version 99"),
    (lambda p: (p / "header.json").write_text(json.dumps(header(seed="x"))), 'no usable "seed"'),
    (lambda p: (p / "result.json").write_text("[1"), "cannot read result.json"),
])
def test_a_broken_header_is_named(tmp_path: Path, change: object, message: str) -> None:
    recording, _ = play(tmp_path, n=2)
    change(recording.path)  # type: ignore[operator]
    with pytest.raises(RecordingError, match=message):
        open_recording(recording.path)


def test_broken_contents_are_named(tmp_path: Path) -> None:
    recording, _ = play(tmp_path, n=6)
    rows = (recording.path / "steps.jsonl").read_text().splitlines(keepends=True)
    (recording.path / "steps.jsonl").write_text("".join([*rows[:2], "{oops\n", *rows[3:]]))
    with pytest.raises(RecordingError, match="cannot read row") as found:
        len(open_recording(recording.path))
    assert found.value.where is not None and found.value.where.endswith("steps.jsonl:3")
    (recording.path / "steps.jsonl").write_text("".join(rows[:2] + rows[3:]))
    with pytest.raises(RecordingError, match="expected step 2, got 3"):
        len(open_recording(recording.path))
    (recording.path / "steps.jsonl").write_text("".join(rows))
    (recording.path / "activations" / "00000000.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(RecordingError, match="cannot read 00000000.safetensors"):
        open_recording(recording.path).activations  # noqa: B018


def test_foreign_files_beside_shards_are_not_read(tmp_path: Path) -> None:
    recording, _ = play(tmp_path, n=6)
    for name in ("..safetensors", "evil.safetensors", "00000001.pkl", ".00000006.safetensors.part"):
        (recording.path / "activations" / name).write_bytes(b"\x80\x04")
    assert recording.activations.n_steps == 6


def test_what_is_not_a_recording(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="there is no recording"):
        open_recording(tmp_path / "nowhere")
    with pytest.raises(RecordingError, match="no header"):
        open_recording(tmp_path)
    with pytest.raises(RecordingError, match="nothing has been recorded"):
        Recorder(tmp_path).path  # noqa: B018
    assert list(read_lines(tmp_path / "none.jsonl")) == []


def test_rows_without_a_json_form_are_refused() -> None:
    assert plain({"a": np.float32(0.5), "b": float("nan"), "c": (1, np.int64(2)), "d": np.array([True])}) == {
        "a": 0.5, "b": None, "c": [1, 2], "d": [True]}
    with pytest.raises(RecordingError, match="cannot be written"):
        plain({"x": object()})


def test_no_pickle_anywhere() -> None:
    """No reader of this project can be made to run code: the dangerous calls do not occur in its source."""
    import harness

    source = "\n".join(p.read_text() for p in Path(harness.__file__).parent.rglob("*.py"))
    for word in ("import pickle", "pickle.load", "allow_pickle=True", "weights_only=False", "yaml.load(", "eval("):
        # pickletools takes a pickle apart and runs none of it.
        found = source.replace(".eval()", "").replace("import pickletools", "").count(word)
        assert not found, word


class Pending:
    """An array that is on its way from a GPU: looking inside waits for it."""

    def __init__(self, value: np.ndarray) -> None:  # type: ignore[type-arg]
        self._value, self.looked_in = value, ""
        self.shape, self.dtype = value.shape, value.dtype

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:  # type: ignore[type-arg]
        self.looked_in = threading.current_thread().name
        return self._value


def test_arrays_still_on_their_way_are_waited_for_in_the_writer_alone(tmp_path: Path) -> None:
    made: list[Pending] = []

    class Device(FakeAgent):
        def act(self, *arguments: object, **keywords: object) -> AgentOutput:
            output = super().act(*arguments, **keywords)  # type: ignore[arg-type]
            activations = {name: Pending(value) for name, value in output.activations.items()}
            made.extend(activations.values())
            return replace(output, activations=activations)

    with Recorder(tmp_path) as recorder:
        run_episode(FakeWorld(make_scenario(6)), Device(), seed=3, observers=[recorder], hooks=["blocks.*"])
    assert {p.looked_in for p in made} == {"harness-recorder"} and len(made) == 24
    recording = open_recording(recorder.path)
    assert np.array_equal(recording.activations["blocks.0.hook_resid_post"][0], made[1]._value)
