"""The command line: what it prints, what it leaves, and how it refuses."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from fakes import FakeWorld

from harness.cli import cli
from harness.errors import VideoError
from harness.recording.recording import open_recording
from harness.recording.video import write_share_video
from harness.replay.replay import recorded_agent

pytestmark = pytest.mark.usefixtures("fake_backend")
SCENARIO = """
name: stripes
description: a world of stripes
parameters:
  length: 12
episode: {max_steps: "${length}"}
hooks: ["blocks.*.attn.hook_pattern"]
outcomes:
  hit: {damaged: any}
  walked: {moved: 1.5}
interventions:
  blind: {kind: PixelMask, x0: 0, y0: 0, x1: 640, y1: 360}
  calm: {kind: ActionOverride, keys: {attack: 0}}
  headless: {kind: ZeroAblation, hook: blocks.1.hook_resid_post}
  later: {kind: Telepathy, hook: blocks.1.hook_resid_post}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "stripes.yaml"
    path.write_text(SCENARIO)
    return str(path)


def call(*words: str | Path) -> Result:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run(scenario: str, agent: str, out: Path, *more: str) -> Result:
    return call("run", scenario, "--agent", agent, "--backend", "fake", "--out", out, *more)


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    for word in words:
        assert word in result.stderr, result.stderr
    assert "Traceback" not in result.output


def test_a_run_says_what_happened_where_it_is_and_what_to_do_next(scenario: str, fake_agent: str, tmp_path: Path
                                                                  ) -> None:
    result = run(scenario, fake_agent, tmp_path / "out")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "out" / "stripes-fake-s0"
    assert len(open_recording(folder)) == 12
    for word in ("random weights (seed 0)", "hit", "walked", "first step", f"recorded: {folder}",
                 f"harness replay {folder} --verify", f"harness replay {folder} --overlay attention"):
        assert word in result.stdout
    assert "random weights (seed 0)" in result.stderr, "said before the run, too"
    assert open_recording(folder).hooks == ["blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern"]


def test_episodes_have_intervals(scenario: str, fake_agent: str, tmp_path: Path) -> None:
    result = run(scenario, fake_agent, tmp_path / "out", "--episodes", "3", "--seed", "5")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"stripes-fake-s{s}" for s in (5, 6, 7)]
    assert "95 % interval" in result.stdout and re.search(r"\d of 3", result.stdout)
    assert "and 2 more" in result.stdout


def test_json_is_all_that_is_printed(scenario: str, fake_agent: str, tmp_path: Path) -> None:
    result = run(scenario, fake_agent, tmp_path / "out", "--json", "--steps", "4", "--intervene", "calm")
    report = json.loads(result.stdout)
    assert result.stderr == ""
    assert report["interventions"] == [
        {"name": "calm", "kind": "ActionOverride", "site": "action", "schedule": {}, "applied_in_steps": 4}]
    (episode,) = report["episodes"]
    assert episode["n_steps"] == 4 and episode["status"] == "truncated" and Path(episode["recording"]).is_dir()
    assert set(episode["outcomes"]) == {"hit", "walked"}


def test_options_of_a_run(scenario: str, fake_agent: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(scenario, fake_agent, out, "--no-record", "--quiet").stderr == "" and not out.exists()
    run(scenario, fake_agent, out, "--no-hooks", "--set", "length=5", "--intervene", "blind", "--intervene", "headless")
    first = open_recording(out / "stripes-fake-s0")
    assert first.hooks == [] and len(first) == 5 and not first.agent_pov[3].any() and first.pov[3].any()
    assert [i["kind"] for i in first.header["interventions"]] == ["PixelMask", "ZeroAblation"]
    run(scenario, fake_agent, out, "--hooks", "blocks.1.*")
    assert open_recording(out / "stripes-fake-s0-2").hooks == ["blocks.1.attn.hook_pattern", "blocks.1.hook_resid_post"]


def test_an_agent_without_a_network_traces_nothing_and_says_so(scenario: str, tmp_path: Path) -> None:
    result = run(scenario, "noop", tmp_path / "out", "--steps", "3")
    assert result.exit_code == 0 and "no network, so nothing is traced" in result.stderr
    assert "--overlay attention" not in result.stdout


def test_a_large_run_is_announced(scenario: str, fake_agent: str, tmp_path: Path,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fakes.FakeAgent.hook_shapes", lambda self: {
        f"blocks.{i}.attn.hook_pattern": ((2, 100_000_000), "float32") for i in range(2)})
    monkeypatch.setattr("fakes.FakeAgent.resolve_hooks", lambda self, globs: list(self.hook_shapes()))
    assert "2 hooks over 12 steps will take about 19.2 GB" in run(scenario, fake_agent, tmp_path / "out").stderr


def test_what_a_run_refuses(scenario: str, fake_agent: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(call("run", "vilager"), "vilager", "villager")
    assert call("run", "vilager").stderr.count("error:") == 1
    refused(call("run", scenario, "--backend", "video", "--agent", "noop"), "got none", "harness trace")
    refused(run(scenario, "vpt-nan", out), 'unknown agent "vpt-nan"', "vpt-nano")
    refused(call("run", scenario, "--backend", "blokworld", "--agent", "noop"), "blokworld", "blockworld")
    refused(run(scenario, fake_agent, out, "--hooks", "blocks.9.*"), "blocks.9.*")
    refused(run(scenario, "noop", out, "--hooks", "blocks.*"), "no hook points")
    refused(run(scenario, fake_agent, out, "--intervene", "clam"), 'unknown intervention "clam"', "calm")
    refused(run(scenario, fake_agent, out, "--intervene", "later"), 'unknown intervention "Telepathy"', "stripes")
    refused(run(scenario, fake_agent, out, "--set", "length"), "NAME=VALUE")
    refused(run(scenario, fake_agent, out, "--set", "lenght=3"), "lenght", "length")
    refused(run(scenario, fake_agent, out, "--episodes", "0"), "episodes")
    refused(call("rn", scenario), 'unknown command "rn"', "run")
    (tmp_path / "file").write_text("")
    refused(run(scenario, fake_agent, tmp_path / "file" / "out"), "cannot write the recording", "--out")
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: bad\nepisode: {max_stps: 3}\n")
    refused(call("run", bad), "bad.yaml:2:11", "max_steps")
    assert not out.exists()


def test_verify_and_overlay(scenario: str, fake_agent: str, tmp_path: Path) -> None:
    run(scenario, fake_agent, tmp_path / "out")
    folder, video = tmp_path / "out" / "stripes-fake-s0", tmp_path / "x.mp4"
    result = call("replay", folder, "--verify", "--agent", fake_agent, "--overlay", "attention", "--out", video)
    assert result.exit_code == 0, result.output
    assert "OK: 12 of 12 frames byte-equal, 12 of 12 actions equal" in result.stdout
    assert "equal within 1e-05 (largest difference 0)" in result.stdout and "random weights (seed 0)" in result.stdout
    assert video.stat().st_size > 10_000
    lines = (folder / "steps.jsonl").read_text().splitlines()
    lines[7] = lines[7].replace('"health":20.0', '"health":19.0')
    (folder / "steps.jsonl").write_text("\n".join(lines) + "\n")
    result = call("replay", folder, "--verify", "--agent", fake_agent)
    assert result.exit_code == 1 and "DIVERGED" in result.stdout and "step 7, health" in result.stdout
    report = json.loads(call("replay", folder, "--verify", "--agent", fake_agent, "--json").stdout)
    assert report["verify"]["divergences"][0]["step"] == 7


def test_what_a_replay_refuses(scenario: str, fake_agent: str, tmp_path: Path) -> None:
    run(scenario, fake_agent, tmp_path / "out", "--no-hooks")
    folder = tmp_path / "out" / "stripes-fake-s0"
    refused(call("replay", folder), "nothing to do")
    refused(call("replay", folder, "--overlay", "attention"), "belong together")
    refused(call("replay", folder, "--overlay", "atention", "--out", "x.mp4"), "attention")
    refused(call("replay", folder, "--overlay", "attention", "--out", tmp_path / "x.mp4"), "no attention patterns")
    refused(call("replay", tmp_path / "nowhere", "--verify"), "there is no recording")
    refused(call("replay", tmp_path / "out", "--verify"), "no header.json")
    refused(call("replay", folder, "--verify"), 'the agent "fake", which is not a bundled one')


def test_export(scenario: str, fake_agent: str, tmp_path: Path) -> None:
    run(scenario, fake_agent, tmp_path / "out", "--steps", "5")
    folder = tmp_path / "out" / "stripes-fake-s0"
    assert "5 frames" in call("export", folder, "--to", "webm").stdout
    with av.open(str(folder / "share.webm")) as container:
        assert container.streams.video[0].codec_context.name in ("vp9", "libvpx-vp9")
        assert sum(1 for _ in container.decode(video=0)) == 5
    assert open_recording(folder).complete, "a copy beside the frames disturbs nothing"
    refused(call("export", folder, "--to", "webm", "--out", tmp_path / "x.mp4"), "does not end in .webm")


# ---- trace


def clip(path: Path, n: int = 25, size: tuple[int, int] = (360, 640)) -> list[np.ndarray]:  # type: ignore[type-arg]
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (n, size[0] // 20, size[1] // 20, 3), dtype=np.uint8)
    frames = [f.repeat(20, axis=0).repeat(20, axis=1) for f in small]
    write_share_video(frames, path, 20.0)
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


def test_a_trace_equals_stepping_the_agent_over_the_decoded_frames(fake_agent: str, tmp_path: Path) -> None:
    from fakes import FakeAgent

    from harness.rollout import spawn_streams

    frames = clip(tmp_path / "clip.mp4")
    result = call("trace", tmp_path / "clip.mp4", "--agent", fake_agent, "--out", tmp_path / "out", "--seed", "4")
    assert result.exit_code == 0 and "random weights (seed 0)" in result.stdout and "25 frames" in result.stdout
    recording = open_recording(tmp_path / "out" / "clip-fake-s4")
    assert len(recording) == 25 == len(frames) and recording.complete
    agent, (_, rng) = FakeAgent(), spawn_streams(4)
    state = agent.initial_state()
    for i, frame in enumerate(frames):
        assert np.array_equal(recording.pov[i], frame)
        output = agent.act({"pov": frame}, state, rng, hooks=recording.hooks)
        state = output.state
        assert recording.steps[i]["log_prob"] == output.log_prob and recording.steps[i]["executed"] is None
        assert recording.steps[i]["tokens"] == output.tokens
        for name, value in output.activations.items():
            assert np.array_equal(recording.activations[name][i], value)
    assert recording.header["world"]["source"]["resized"] is False
    verified = call("replay", recording.path, "--verify", "--agent", fake_agent)
    assert verified.exit_code == 0 and "25 of 25 actions equal" in verified.stdout
    assert "recorded video" in verified.stdout and "frames byte-equal" not in verified.stdout


def test_frames_of_another_size_are_resized_and_it_is_said(fake_agent: str, tmp_path: Path) -> None:
    clip(tmp_path / "square.webm", n=3, size=(240, 240))
    result = call("trace", tmp_path / "square.webm", "--agent", fake_agent, "--out", tmp_path / "out")
    assert "240x240; it is resized to 640x360, which changes its proportions" in result.stderr
    recording = open_recording(tmp_path / "out" / "square-fake-s0")
    assert len(recording) == 3 and recording.pov[0].shape == (360, 640, 3)
    assert recording.header["world"]["source"]["resized"] is True


def audio_only(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))  # type: ignore[arg-type]
        container.mux(stream.encode(None))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "make", "words"), [
    ("none.mp4", lambda p: None, "no such video"),
    ("empty.mp4", lambda p: p.write_bytes(b""), "cannot read the video"),
    ("noise.mp4", lambda p: p.write_bytes(bytes(range(256)) * 40), "cannot read the video"),
    ("text.mp4", lambda p: p.write_text("not a video\n" * 50), "cannot read the video"),
    ("sound.mp4", audio_only, "holds no video"),
])
def test_videos_that_cannot_be_traced(fake_agent: str, tmp_path: Path, name: str, make: object, words: str) -> None:
    make(tmp_path / name)  # type: ignore[operator]
    refused(call("trace", tmp_path / name, "--agent", fake_agent, "--out", tmp_path / "out"), words, name)
    assert not (tmp_path / "out").exists()


def test_a_video_without_frames(fake_agent: str, tmp_path: Path) -> None:
    """A container with a video track whose pictures were cut away."""
    frames = clip(tmp_path / "whole.webm", n=3)
    data = (tmp_path / "whole.webm").read_bytes()
    cluster = data.index(b"\x1f\x43\xb6\x75")
    (tmp_path / "cut.webm").write_bytes(data[:cluster])
    assert frames
    refused(call("trace", tmp_path / "cut.webm", "--agent", fake_agent, "--out", tmp_path / "out"), "video")
    with pytest.raises(VideoError):
        from harness.world.video import read_frames

        list(read_frames(tmp_path / "cut.webm"))


@pytest.mark.download
def test_real_footage_can_be_traced(tmp_path: Path) -> None:
    """Two 640 x 360 clips of the real game, from a wheel on PyPI: as many rows as frames, equal to stepping."""
    import zipfile

    from harness.agent.load import load_agent
    from harness.rollout import spawn_streams
    from harness.world.video import read_frames

    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "minestudio==1.1.6", "--dest",
                    str(tmp_path)], check=True, timeout=280)
    (wheel,) = tmp_path.glob("*.whl")
    wanted = ("combat_spider_7.mp4", "build_pillar_0.mp4")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(wanted):
                (tmp_path / Path(name).name).write_bytes(archive.read(name))
    for name in wanted:
        result = call("trace", tmp_path / name, "--agent", "vpt-nano", "--out", tmp_path / "out", "--json")
        assert result.exit_code == 0, result.output
        recording = open_recording(json.loads(result.stdout)["recording"])
        assert len(recording) == sum(1 for _ in read_frames(tmp_path / name)) > 100
        agent, (_, rng) = load_agent("vpt-nano"), spawn_streams(0)
        state = agent.initial_state()
        for i, frame in zip(range(12), read_frames(tmp_path / name), strict=False):
            assert np.array_equal(recording.pov[i], frame)
            output = agent.act({"pov": frame}, state, rng)
            state = output.state
            assert recording.steps[i]["log_prob"] == pytest.approx(output.log_prob, abs=1e-5)
        assert call("replay", recording.path, "--verify").exit_code == 0


# ---- scenarios, agents, plug-ins


def test_scenario_commands(scenario: str, tmp_path: Path) -> None:
    assert "villager" in call("scenario", "list").stdout
    assert {"villager", "trunk"} <= {s["name"] for s in json.loads(call("scenario", "list", "--json").stdout)}
    assert "max_steps: 3" in call("scenario", "show", scenario, "--set", "length=3").stdout
    commands = call("scenario", "show", "villager", "--as", "commands").stdout.splitlines()
    assert any("summon" in line for line in commands) and all(len(line) <= 256 for line in commands)
    assert call("scenario", "show", "villager", "--as", "commands", "--dialect", "1.21").exit_code == 0
    assert json.loads(call("scenario", "show", "villager", "--as", "json").stdout)["name"] == "villager"
    assert json.loads(call("scenario", "schema").stdout)["properties"]["episode"]
    refused(call("scenario", "validate", scenario, "villager"), 'unknown intervention "Telepathy"', "stripes.yaml:")
    Path(scenario).write_text(SCENARIO[:SCENARIO.index("  later:")])
    assert f"{scenario}: OK" in call("scenario", "validate", scenario, "villager").stdout
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: bad\nwrld: {}\n")
    result = call("scenario", "validate", scenario, bad)
    refused(result, "bad.yaml:2:1", "world")
    assert f"{scenario}: OK" in result.stdout


def test_a_preview_is_the_first_picture_of_a_run(scenario: str, fake_agent: str, tmp_path: Path) -> None:
    import cv2

    out = tmp_path / "p.png"
    assert call("scenario", "preview", scenario, "--backend", "fake", "--seed", "3", "--out", out).exit_code == 0
    run(scenario, fake_agent, tmp_path / "out", "--seed", "3")
    picture = cv2.cvtColor(cv2.imread(str(out)), cv2.COLOR_BGR2RGB)
    assert np.array_equal(picture, open_recording(tmp_path / "out" / "stripes-fake-s3").pov[0])
    refused(call("scenario", "preview", scenario, "--backend", "fake", "--out", tmp_path / "p.jpg"), ".png")


def test_agent_and_plugin_commands(fake_agent: str) -> None:
    assert "vpt-nano" in call("agent", "list").stdout and "vpt-foundation-1x" in call("agent", "list").stdout
    assert {"noop", "steve-1"} <= {row["name"] for row in json.loads(call("agent", "list", "--json").stdout)}
    shown = call("agent", "show", fake_agent).stdout
    assert "random weights (seed 0)" in shown and "blocks.0.attn.hook_pattern" in shown and "1.0 KB" in shown
    assert json.loads(call("agent", "show", "noop", "--json").stdout)["hooks"] == {}
    refused(call("agent", "show", "nop"), "noop")
    plugins = json.loads(call("plugins", "list", "--json").stdout)
    assert {"name": "PixelMask", "source": "built in", "path": "harness.intervention.input.pixels:PixelMask"} in \
        plugins["harness.interventions"]
    assert "blockworld" in call("plugins", "list").stdout


def test_every_command_has_help() -> None:
    def visit(command: object, path: list[str]) -> int:
        assert call(*path, "--help").exit_code == 0
        assert command.get_short_help_str(200), path  # type: ignore[attr-defined]
        names = command.list_commands(None) if hasattr(command, "list_commands") else []
        return 1 + sum(visit(command.get_command(None, name), [*path, name]) for name in names)  # type: ignore[attr-defined]
    assert visit(cli, []) > 15


def test_names_complete_in_the_shell() -> None:
    from click.shell_completion import ShellComplete

    def complete(words: list[str], start: str) -> list[str]:
        return [item.value for item in ShellComplete(cli, {}, "harness", "_X").get_completions(words, start)]
    assert "villager" in complete(["run"], "vil") and "noop" in complete(["run", "villager", "--agent"], "no")
    assert complete([], "rep") == ["replay"] and complete(["run", "x", "--backend"], "bl") == ["blockworld"]


# ---- the program itself


def program(*words: str | Path, **keywords: object) -> subprocess.Popen[str]:
    code = (f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom harness import registry\n"
            "registry.TABLES['harness.worlds']['fake'] = 'fakes:FakeWorld'\n"
            "from harness.cli import main; main()")
    return subprocess.Popen([sys.executable, "-W", "error", "-c", code, *map(str, words)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **keywords)  # type: ignore[call-overload,no-any-return]


def test_ctrl_c_keeps_what_was_played_and_exits_with_130(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text("name: long\nepisode: {max_steps: 1000000}\n")
    process = program("run", tmp_path / "long.yaml", "--agent", "random", "--backend", "fake", "--out",
                      tmp_path / "out")
    steps = tmp_path / "out" / "long-random-s0" / "steps.jsonl"
    end = time.monotonic() + 60
    while time.monotonic() < end and not (steps.exists() and steps.stat().st_size > 20_000):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, problem = process.communicate(timeout=60)
    assert process.returncode == 130, problem
    assert "what was played is in" in problem and problem.count("interrupted") == 1 and "Traceback" not in problem
    recording = open_recording(steps.parent)
    assert recording.status == "interrupted" and len(recording) > 20


def test_a_full_disk_exits_with_2_and_one_clear_line(tmp_path: Path) -> None:
    import resource

    (tmp_path / "long.yaml").write_text("name: long\nepisode: {max_steps: 1000000}\n")
    process = program("run", tmp_path / "long.yaml", "--agent", "random", "--backend", "fake", "--out",
                      tmp_path / "out", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (400_000,) * 2))
    _, problem = process.communicate(timeout=60)
    assert process.returncode == 2, problem
    assert "error: cannot write the recording: the file size limit is reached; the first" in problem
    assert "Traceback" not in problem
    assert len(open_recording(tmp_path / "out" / "long-random-s0")) > 0


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = program("scenario", "show", "villager", "--as", "commands")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize(("problem", "said", "wanted"), [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7 GiB."),
     "out of GPU memory (it wanted 2.00 GiB more): take a smaller size", "or --device cpu"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
     "out of GPU memory: take a smaller size", "or --device cpu"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes."),
     "out of memory (it wanted 4096 bytes more): take a smaller size", "--precision bfloat16"),
    (MemoryError(), "out of memory: take a smaller size", "--precision bfloat16"),
])
def test_memory_that_runs_out_is_one_line_with_smaller_options(
        problem: Exception, said: str, wanted: str, scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_agent(name: str, **keywords: object) -> None:
        raise problem

    monkeypatch.setattr("harness.cli.cast.load_agent", load_agent)
    result = call("run", scenario, "--agent", "vpt-foundation-3x", "--backend", "fake", "--no-record")
    assert result.exit_code == 2 and said in result.output and wanted in result.output
    assert len(result.output.splitlines()) == 1


def test_marks_that_steer_a_terminal_are_spelt_out() -> None:
    result = call("run", "\x1b[2Jtrunk")
    assert result.exit_code == 2 and "\x1b" not in result.output and r"\x1b[2Jtrunk" in result.output


def test_a_bug_shows_its_traceback(scenario: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: FakeWorld, action: dict[str, object]) -> None:
        raise ValueError("a bug")
    monkeypatch.setattr(FakeWorld, "_tick", broken)
    with pytest.raises(ValueError, match="a bug"):
        run(scenario, "noop", tmp_path / "out")


@pytest.mark.parametrize(("text", "message", "place"), [
    ("agent: {name: vpt-nan}", 'unknown agent "vpt-nan"', "2:15"),
    ('hooks: ["blocks.*.attn.hook_pattern", "blocks.9.hook_x"]', "matches none of this policy's", "2:39"),
    ("interventions: {odd: {kind: ZeroAblatoin, hook: blocks.2.attn.hook_z}}", 'unknown intervention "ZeroAblatoin"',
     "2:17"),
    ("interventions: {big: {kind: ZeroAblation, hook: blocks.2.attn.hook_z, head: 77}}", "has heads 0 to 3", "2:17"),
    ("interventions: {gone: {kind: ZeroAblation, hook: blocks.9.attn.hook_z}}", "matches none of", "2:17"),
])
def test_what_a_scenario_names_is_looked_up_with_its_place(tmp_path: Path, text: str, message: str, place: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"extends: villager\n{text}\n")
    result = CliRunner().invoke(cli, ["scenario", "validate", str(file)])
    assert result.exit_code == 2
    assert message in result.stderr and f"{file}:{place}" in result.stderr
    if text.startswith("interventions"):
        name = text.split("{")[1].split(":")[0]
        played = CliRunner().invoke(cli, ["run", str(file), "--intervene", name, "--out", str(tmp_path / "out")])
        assert played.exit_code == 2 and f"{file}:{place}" in played.stderr
        assert not (tmp_path / "out").exists()


def test_a_replay_computes_in_the_recorded_precision(scenario: str, tmp_path: Path) -> None:
    result = run(scenario, "vpt-nano", tmp_path / "out", "--precision", "bfloat16", "--steps", "3", "--no-hooks")
    assert result.exit_code == 0, result.output
    recording = open_recording(next((tmp_path / "out").iterdir()))
    assert recording.header["agent"]["precision"] == "bfloat16"
    assert recorded_agent(recording, device="cpu").provenance()["precision"] == "bfloat16"
    assert call("replay", recording.path, "--verify").exit_code == 0
    refused(run(scenario, "noop", tmp_path / "out", "--precision", "bfloat16"), "no network, so it has no precision")
    refused(run(scenario, "vpt-nano", tmp_path / "out", "--precision", "int8"), "int8")
