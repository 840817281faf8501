"""A person's play, imported: what each row becomes, what is refused, and that nothing is left half-written."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.action_mapping import to_policy
from harness.agent.load import load_agent
from harness.cli import cli
from harness.errors import HarnessError, RecordingError
from harness.recording import contractor
from harness.recording.contractor import KEYBOARD, HumanAgent, policy_tokens, read_action_file
from harness.recording.human_play import import_human_play
from harness.recording.recorder import Recorder
from harness.recording.recording import open_recording
from harness.recording.video import write_share_video
from harness.replay.replay import replay_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world import video as video_module
from harness.world.pointer import draw_pointer
from harness.world.video import read_frames
from harness.world.world import make_world


def row(keys: Sequence[str] = (), buttons: Sequence[int] = (), *, new: Sequence[int] = (), dx: float = 0.0,
        dy: float = 0.0, gui: bool = False, x: float = 640.0, y: float = 360.0, **more: Any) -> dict[str, Any]:
    """A row as the recorder writes it, hotbar slot 0."""
    return {"mouse": {"x": x, "y": y, "dx": dx, "dy": dy, "scaledX": 0.0, "scaledY": 0.0, "dwheel": 0.0,
                      "buttons": list(buttons), "newButtons": list(new)},
            "keyboard": {"keys": [f"key.keyboard.{key}" for key in keys], "newKeys": [], "chars": ""},
            "isGuiOpen": gui, "isGuiInventory": False, "hotbar": 0, "yaw": 0.0, "pitch": 0.0, "tick": 0, "milli": 0,
            "inventory": [{"type": "oak_log", "quantity": 3}], "stats": {}, **more}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def write_clip(path: Path, n: int, size: tuple[int, int] = (360, 640)) -> Path:
    """Grey pictures, each a little lighter than the one before."""
    write_share_video([np.full((*size, 3), 40 + 4 * i, np.uint8) for i in range(n)], path, 20.0)
    return path


def call(*words: str | Path) -> Result:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


# ---- one row, against a slow reading of the published rules

GROUPS = (("", *(f"hotbar.{i}" for i in range(1, 10))), ("", "forward", "back"), ("", "left", "right"),
          ("", "sprint", "sneak"), ("", "use"), ("", "drop"), ("", "attack"), ("", "jump"), ("", "camera"))
INDEX = {combination: i for i, combination in enumerate(itertools.product(*GROUPS))}


def slow_bin(degrees: float) -> int:
    degrees = max(-10.0, min(10.0, degrees))
    compressed = math.copysign(math.log(1 + 10 * abs(degrees) / 10) / math.log(11) * 10, degrees)
    return round((compressed + 10) / 2)


def slow_reading(rows: Sequence[Mapping[str, Any]]) -> list[tuple[set[str], float, float, int, int]]:
    """(keys held, pitch, yaw, buttons token, camera token) of every row."""
    found, stuck, slot = [], False, 0
    for number, r in enumerate(rows):
        held = {KEYBOARD[k] for k in r["keyboard"]["keys"] if k in KEYBOARD}
        if number == 0 and r["mouse"]["newButtons"] == [0]:
            stuck = True
        if number > 0 and 0 in r["mouse"]["newButtons"]:
            stuck = False
        for button, name in ((0, "attack"), (1, "use"), (2, "pickItem")):
            if button in r["mouse"]["buttons"] and not (button == 0 and stuck):
                held.add(name)
        if r["hotbar"] != slot:
            held.add(f"hotbar.{r['hotbar'] + 1}")
        slot = r["hotbar"]
        pitch, yaw = (float(np.float32(max(-180.0, min(180.0, r["mouse"][k] * 360 / 2400)))) for k in ("dy", "dx"))
        camera = slow_bin(pitch) * 11 + slow_bin(yaw)
        said = set(held) | ({"camera"} if camera != 60 else set())
        for a, b in (("forward", "back"), ("left", "right")):
            said -= {a, b} if {a, b} <= said else set()
        if "sneak" in said:
            said.discard("sprint")
        keys = sorted(k for k in said if k.startswith("hotbar"))
        said -= set(keys[:-1])
        buttons = INDEX[tuple(next((k for k in group if k in said), "") for group in GROUPS)]
        if "inventory" in held or (r["isGuiOpen"] and "ESC" in held):
            buttons, camera = 8640, 60
        found.append((held, pitch, yaw, buttons, camera))
    return found


some_keys = st.lists(st.sampled_from([k.removeprefix("key.keyboard.") for k in KEYBOARD] + ["tab", "f3", "left.alt"]),
                     max_size=6)
some_buttons = st.lists(st.integers(0, 4), max_size=3)
pixels = st.one_of(st.just(0.0), st.integers(-120, 120).map(float), st.floats(-2000, 2000, width=32))
some_rows = st.lists(st.builds(
    lambda keys, buttons, new, dx, dy, gui, slot: row(keys, buttons, new=new, dx=dx, dy=dy, gui=gui, hotbar=slot),
    some_keys, some_buttons, st.one_of(st.just([0]), some_buttons), pixels, pixels, st.booleans(), st.integers(0, 8)),
    min_size=1, max_size=6)


@given(some_rows)
@settings(max_examples=150, deadline=None)
def test_rows_are_read_as_the_rules_say(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    path = write_rows(tmp_path_factory.mktemp("rows") / "a.jsonl", rows)
    read = read_action_file(path)
    for human, r, (held, pitch, yaw, buttons, camera) in zip(read.inputs, rows, slow_reading(rows), strict=True):
        assert {k for k, v in human.action.items() if k != "camera" and v} == held
        assert human.action["camera"].tolist() == [pitch, yaw]
        assert human.tokens == {"buttons": buttons, "camera": camera}
        assert human.gui == r["isGuiOpen"] and human.null == ((buttons, camera) == (0, 60))
        assert human.cursor == ((640.0, 360.0) if human.gui else None)
    unmapped = {k for r in rows for k in r["keyboard"]["keys"] if k not in KEYBOARD}
    unmapped |= {f"mouse.{b}" for r in rows for b in r["mouse"]["buttons"] if b > 2}
    assert set(read.notes["unmapped_keys"]) == unmapped, "what the game does not know is counted, never lost in silence"


def read(tmp_path: Path, *rows: Mapping[str, Any], **keywords: Any) -> contractor.ActionFile:
    return read_action_file(write_rows(tmp_path / "a.jsonl", rows), **keywords)


def test_an_attack_that_is_stuck_from_the_start_is_ignored_until_it_is_pressed(tmp_path: Path) -> None:
    found = read(tmp_path, row(buttons=[0], new=[0]), row(buttons=[0, 1]), row(), row(buttons=[0], new=[0]),
                 row(buttons=[0]))
    assert [human.action["attack"] for human in found.inputs] == [0, 0, 0, 1, 1]
    assert found.inputs[1].action["use"] == 1 and found.notes["attack_stuck"] == 2
    held = read(tmp_path, row(buttons=[0]), row(buttons=[0]))
    assert [human.action["attack"] for human in held.inputs] == [1, 1], "held over from an earlier part: no fault"


def test_a_turn_of_the_wheel_becomes_a_key(tmp_path: Path) -> None:
    found = read(tmp_path, row(hotbar=3), row(hotbar=3), row(["9"], hotbar=8), row(hotbar=0))
    pressed = [[k for k, v in human.action.items() if k.startswith("hotbar") and v] for human in found.inputs]
    assert pressed == [["hotbar.4"], [], ["hotbar.9"], ["hotbar.1"]]
    assert found.notes["hotbar_from_slot"] == 2, "the key that was pressed is not counted again"
    without = [{k: v for k, v in row(["2"]).items() if k != "hotbar"}] * 2
    assert read(tmp_path, *without).notes["hotbar_from_slot"] is None
    with pytest.raises(RecordingError, match="missing in the first row"):
        read(tmp_path, without[0], row())
    with pytest.raises(RecordingError, match='no "hotbar"'):
        read(tmp_path, row(), without[0])


def test_escape_closes_a_screen_as_the_inventory_key_does(tmp_path: Path) -> None:
    found = read(tmp_path, row(["escape"], dx=50), row(["escape"], dx=50, gui=True))
    assert [human.action["ESC"] for human in found.inputs] == [1, 1], "the action itself is kept"
    assert [human.tokens["buttons"] for human in found.inputs] == [1, 8640]
    assert found.notes["escape_as_inventory"] == 1


def test_the_mouse_in_a_screen_is_scaled_by_version(tmp_path: Path) -> None:
    play = read(tmp_path, row(dx=10), row(dx=10, gui=True), gui_scale=2.0)
    assert [float(human.action["camera"][1]) for human in play.inputs] == [1.5, 3.0]


@pytest.mark.parametrize(("line", "words"), [
    ('{"mouse": ', "no JSON"),
    ("", "empty"),
    ("[1, 2]", "expected a row"),
    ("7", "expected a row"),
    ("[" * 100_000, "nested too deeply"),
    (b'{"mouse": "\xff"}', "no JSON"),
    (json.dumps(row()).replace('"dx": 0.0', '"dx": NaN'), "NaN"),
    (json.dumps(row()).replace('"dx": 0.0', '"dx": 1e999'), "mouse.dx"),
    (json.dumps(row()).replace('"dx": 0.0', '"dx": 1' + "0" * 400), "mouse.dx"),
    (json.dumps(row()).replace('"dx": 0.0', '"dx": 1' + "0" * 9000), "no JSON"),
    (json.dumps(row()).replace('"dx": 0.0', '"dx": true'), "mouse.dx"),
    (json.dumps(row()).replace('"dx": 0.0', '"dx": "1"'), 'expected a number, got "1"'),
    (json.dumps({k: v for k, v in row().items() if k != "isGuiOpen"}), 'no "isGuiOpen"'),
    (json.dumps({**row(), "mouse": None}), '"mouse": expected an object, got null'),
    (json.dumps({**row(), "mouse": {}}), 'no "mouse.buttons"'),
    (json.dumps({**row(), "keyboard": {"newKeys": []}}), 'no "keyboard.keys"'),
    (json.dumps({**row(), "keyboard": {"keys": ["W w"]}}), "key.keyboard.w"),
    (json.dumps({**row(), "keyboard": {"keys": [["a"]]}}), "key.keyboard.w"),
    (json.dumps({**row(), "keyboard": {"keys": "key.keyboard.w"}}), "expected a list"),
    (json.dumps(row(buttons=[-1])), "mouse.buttons"),
    (json.dumps(row(buttons=[True])), "mouse.buttons"),
    (json.dumps(row(hotbar=9)), "slot from 0 to 8"),
    (json.dumps(row(hotbar=1.0)), '"hotbar": expected a whole number'),
    (json.dumps(row(gui=True, x=10.0**9)), "mouse.x"),
])
def test_a_row_that_is_none_is_named_by_its_line(tmp_path: Path, line: str | bytes, words: str) -> None:
    path = tmp_path / "a.jsonl"
    good = (json.dumps(row()) + "\n").encode()
    path.write_bytes(good + (line if isinstance(line, bytes) else line.encode()) + b"\n" + good)
    clip = write_clip(tmp_path / "v.mp4", 3)
    result = call("import", clip, path, "--out", tmp_path / "out")
    assert result.exit_code == 2 and f"{path}:2" in result.stderr and words in result.stderr, result.stderr
    assert "Traceback" not in result.output and not (tmp_path / "out").exists()


def test_hostile_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_rows(tmp_path / "a.jsonl", [row()] * 9)
    monkeypatch.setattr(contractor, "_MOST_ROWS", 9)
    assert len(read_action_file(path).inputs) == 9
    monkeypatch.setattr(contractor, "_MOST_ROWS", 8)
    with pytest.raises(RecordingError, match="more than 8 rows"):
        read_action_file(path)
    monkeypatch.setattr(contractor, "_LONGEST_LINE", 100)
    with pytest.raises(RecordingError, match="the line is longer"):
        read_action_file(path)
    monkeypatch.undo()
    with pytest.raises(RecordingError, match="different keys"):
        read(tmp_path, row([f"f{i}" for i in range(100, 400)]))


# ---- a video and its rows


def test_steps_and_pictures_stay_side_by_side(tmp_path: Path) -> None:
    rows = [row(["w"]), row(), row(gui=True, x=200.0, y=100.0, dx=3.0), row(buttons=[0], new=[0])]
    play = import_human_play(write_clip(tmp_path / "a b.mp4", 5), write_rows(tmp_path / "a.jsonl", rows),
                             tmp_path / "out")
    recording = open_recording(play.path)
    assert play.path.name == "a_b-human-s0" and recording.complete and len(recording) == 4 == play.n_steps
    assert recording.steps["source_row"].tolist() == [0, 1, 2, 3] and recording.steps["gui"].tolist() == [0, 0, 1, 0]
    pictures = list(read_frames(tmp_path / "a b.mp4"))
    for i in (0, 1, 3):
        assert np.array_equal(recording.pov[i], pictures[i])
    assert np.array_equal(recording.pov[2], draw_pointer(pictures[2], 100, 50))
    assert not np.array_equal(recording.pov[2], pictures[2])
    for r in recording.steps:
        assert r["executed"] == r["chosen"] and r["pose"] is None and r["reward"] is None and r["health"] is None
        assert (r["tokens"]["buttons"], r["tokens"]["camera"]) == to_policy(r["chosen"])
    assert recording.steps[0]["chosen"]["forward"] == 1 and recording.steps[3]["chosen"]["attack"] == 1
    source = recording.header["world"]["source"]
    assert source["format"] == "openai-contractor" and source["null_actions"] == {"count": 1, "kept": True}
    assert (source["pictures"], source["paired"], source["actions"]["rows"]) == (5, 4, 4)
    assert recording.header["agent"]["name"] == "human" and recording.header["world"]["actions_matter"] is False
    assert str(tmp_path) not in json.dumps(recording.header), "no place on this machine"
    report = replay_recording(recording, agent=None)
    assert report.ok and report.n_actions == 4


def test_null_actions_may_be_left_out(tmp_path: Path) -> None:
    rows = [row(), row(["w"]), row(), row(), row(["a"])]
    clip, actions = write_clip(tmp_path / "v.mp4", 5), write_rows(tmp_path / "a.jsonl", rows)
    recording = open_recording(import_human_play(clip, actions, tmp_path / "out", keep_null=False).path)
    pictures = list(read_frames(clip))
    assert recording.steps["source_row"].tolist() == [1, 4]
    assert np.array_equal(recording.pov[0], pictures[1]) and np.array_equal(recording.pov[1], pictures[4])
    assert recording.header["world"]["source"]["null_actions"] == {"count": 3, "kept": False}
    with pytest.raises(RecordingError, match="all 2 rows do nothing"):
        import_human_play(write_clip(tmp_path / "w.mp4", 2), write_rows(tmp_path / "b.jsonl", [row()] * 2),
                          tmp_path / "out2", keep_null=False)
    assert not (tmp_path / "out2").exists()


@pytest.mark.parametrize(("n_rows", "n_pictures", "fits"), [
    (5, 8, True), (8, 5, True), (5, 9, False), (9, 5, False), (1, 1, True),
])
def test_rows_and_pictures_may_differ_by_a_few(tmp_path: Path, n_rows: int, n_pictures: int, fits: bool) -> None:
    clip = write_clip(tmp_path / "v.mp4", n_pictures)
    actions = write_rows(tmp_path / "a.jsonl", [row(["w"])] * n_rows)
    result = call("import", clip, actions, "--out", tmp_path / "out")
    if fits:
        assert result.exit_code == 0 and len(open_recording(tmp_path / "out" / "v-human-s0")) == min(n_rows, n_pictures)
        assert ("without a partner: 3" in result.stdout) == (n_rows != n_pictures)
        return
    word = "longer" if n_rows > n_pictures else "shorter"
    assert result.exit_code == 2 and f"{word} than the video: {n_rows} rows, {n_pictures} pictures" in result.stderr
    assert not (tmp_path / "out").exists()
    assert call("import", clip, actions, "--out", tmp_path / "out", "--slack", "4").exit_code == 0


@pytest.mark.parametrize(("spoil", "words"), [
    (lambda v, a: v.unlink(), "no such video"),
    (lambda v, a: v.write_bytes(b"no video" * 99), "cannot read the video"),
    (lambda v, a: a.unlink(), "cannot read the action file"),
    (lambda v, a: a.write_text(""), "no rows"),
    (lambda v, a: (a.unlink(), a.mkdir()), "cannot read the action file"),
])
def test_files_that_cannot_be_imported(tmp_path: Path, spoil: Callable[[Path, Path], Any], words: str) -> None:
    clip, actions = write_clip(tmp_path / "v.mp4", 2), write_rows(tmp_path / "a.jsonl", [row()] * 2)
    spoil(clip, actions)
    result = call("import", clip, actions, "--out", tmp_path / "out")
    assert result.exit_code == 2 and words in result.stderr and "Traceback" not in result.output, result.stderr
    assert not (tmp_path / "out").exists()


def test_files_in_each_others_place(tmp_path: Path) -> None:
    result = call("import", write_rows(tmp_path / "a.jsonl", [row()]), write_clip(tmp_path / "v.mp4", 1))
    assert result.exit_code == 2 and "the video comes first" in result.stderr, result.stderr


class Breaks:
    """An observer that ends the loop at the third step."""

    def __init__(self, problem: BaseException) -> None:
        self.problem = problem

    def begin(self, episode: Any) -> None:
        """Nothing yet."""

    def on_step(self, step: Any) -> None:
        if step.index == 2:
            raise self.problem

    def end(self, result: Any) -> None:
        """Nothing."""


def test_nothing_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, actions = write_clip(tmp_path / "v.mp4", 6), write_rows(tmp_path / "a.jsonl", [row(["w"])] * 6)
    for problem in (KeyboardInterrupt(), RecordingError("the disk is full")):
        with pytest.raises(type(problem)):
            import_human_play(clip, actions, tmp_path / "out", observers=[Breaks(problem)])
        assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.setattr(video_module, "count_pictures", lambda path: 9)
    write_rows(actions, [row(["w"])] * 9)
    with pytest.raises(RecordingError, match="only 6 could be read"):
        import_human_play(clip, actions, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_the_command_says(tmp_path: Path) -> None:
    (tmp_path / "6.9").mkdir()
    rows = [row(buttons=[0], new=[0]), row(["f3", "w"]), row(hotbar=2), row(["escape"], gui=True, hotbar=2, dx=1.0)]
    clip = write_clip(tmp_path / "v.mp4", 4, size=(180, 320))
    actions = write_rows(tmp_path / "6.9" / "a.jsonl", rows)
    said = call("import", clip, actions, "--out", tmp_path / "out").stdout
    for words in ("4 steps of 4 rows and 4 pictures", "320x180; it is resized to 640x360", "stuck from the start",
                  "key.keyboard.f3 (1)", "1 changes of the hotbar slot", "ESC on an open screen", "pointer is painted",
                  "1 steps do nothing; they are kept", "harness trace"):
        assert words in said, said
    result = call("import", clip, actions, "--out", tmp_path / "out", "--json", "--no-pointer", "--null", "drop")
    report = json.loads(result.stdout)
    assert result.stderr == "" and report["n_steps"] == 3 and report["pointer"] == {"painted": False, "steps": 1}
    assert report["recorder_version"] == "6.9" and report["camera"]["gui_scale"] == 2.0
    recording = open_recording(report["recording"])
    assert recording.steps[2]["chosen"]["camera"][1] == pytest.approx(0.3) and not (recording.pov[2] == 255).any()
    refused = call("replay", report["recording"], "--overlay", "attention", "--out", tmp_path / "x.mp4")
    assert refused.exit_code == 2 and "no attention patterns" in refused.stderr
    assert call("export", report["recording"], "--to", "webm").exit_code == 0
    assert call("replay", report["recording"], "--verify").exit_code == 0


def test_a_changed_action_is_found_by_verifying(tmp_path: Path) -> None:
    clip, actions = write_clip(tmp_path / "v.mp4", 3), write_rows(tmp_path / "a.jsonl", [row(["w"])] * 3)
    path = import_human_play(clip, actions, tmp_path / "out").path
    steps = path / "steps.jsonl"
    lines = steps.read_text().splitlines()
    lines[1] = lines[1].replace('"jump":0', '"jump":1')
    steps.write_text("\n".join(lines) + "\n")
    result = call("replay", path, "--verify")
    assert result.exit_code == 1 and "step 1, tokens.buttons: recorded 288, replayed 290" in result.stdout


@given(st.integers(-40, 700), st.integers(-40, 400))
@settings(max_examples=40, deadline=None)
def test_the_pointer_stays_near_its_tip_and_inside_the_picture(x: int, y: int) -> None:
    frame = np.full((360, 640, 3), 90, np.uint8)
    painted = draw_pointer(frame, x, y)
    assert (frame == 90).all(), "a copy is painted"
    rows, columns = np.nonzero((painted != 90).any(axis=-1))
    assert ((rows >= y) & (rows < y + 16) & (columns >= x) & (columns < x + 16)).all()
    assert len(rows) == 0 or {0, 255} >= set(np.unique(painted[rows, columns]).tolist())
    assert (len(rows) > 0) == (-11 < x < 640 and -15 < y < 360) or not 0 <= x < 640 or not 0 <= y < 360


# ---- there and back: an agent's play, written as a person's would have been


def as_rows(actions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows that a person's recorder would have left of these actions."""
    keys, mouse = {name: key for key, name in KEYBOARD.items()}, ("attack", "use", "pickItem")
    rows, slot, before = [], 0, set[int]()
    for action in actions:
        held = [keys[name] for name, value in action.items() if name in keys and value]
        buttons = [i for i, name in enumerate(mouse) if action[name]]
        slot = next((i - 1 for i in range(1, 10) if action[f"hotbar.{i}"]), slot)
        pitch, yaw = (float(degrees) / 360 * 2400 for degrees in action["camera"])
        rows.append(row(buttons=buttons, new=[b for b in buttons if b not in before], dx=yaw, dy=pitch, hotbar=slot))
        rows[-1]["keyboard"]["keys"] = held
        before = set(buttons)
    return rows


def test_an_agents_play_comes_back_as_it_was(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "played")
    with make_world(load_scenario("treechop")) as world:
        run_episode(world, load_agent("chopper"), seed=3, max_steps=60, observers=[recorder])
    played = open_recording(recorder.path)
    write_share_video(played.pov, tmp_path / "v.mp4", played.fps)
    actions = write_rows(tmp_path / "a.jsonl", as_rows(played.steps["executed"].tolist()))
    back = open_recording(import_human_play(tmp_path / "v.mp4", actions, tmp_path / "out").path)
    assert len(back) == 60
    executed = [to_policy(action) for action in played.steps["executed"]]
    assert [(t["buttons"], t["camera"]) for t in back.steps["tokens"]] == executed
    assert len(set(executed)) > 3, "the woodcutter did several things"
    for i in (0, 30, 59):
        assert np.abs(back.pov[i].astype(int) - played.pov[i]).mean() < 6, "equal but for the video's coding"
        assert back.steps[i]["chosen"].keys() == played.steps[i]["executed"].keys()


# ---- the person as an agent


def test_a_person_has_a_snapshot_and_an_end() -> None:
    agent = HumanAgent([{"forward": 1}, {"ESC": 1}], [False, True])
    rng = np.random.default_rng(0)
    first = agent.act({}, agent.initial_state(), rng)
    state = agent.load_state(agent.save_state(first.state))
    second = agent.act({}, state, rng)
    assert first.action["forward"] == 1 and second.tokens == {"buttons": 8640, "camera": 60}
    assert second.tokens == policy_tokens(second.action, gui=True) != policy_tokens(second.action, gui=False)
    with pytest.raises(RecordingError, match="asks for another"):
        agent.act({}, second.state, rng)
    with pytest.raises(HarnessError, match="unknown action key"):
        HumanAgent([{"fly": 1}], [False])
