"""``--intervene``: names, steps, mappings, files, and arrays out of recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from harness.agent.load import load_agent
from harness.analysis.arrays import with_arrays
from harness.analysis.words import cast_interventions
from harness.cli import cli
from harness.errors import InterventionError
from harness.intervention import ActivationPatch, MeanAblation, Steering, from_scenario
from harness.intervention.arrays import ArrayValue
from harness.recording.recording import open_recording
from harness.scenario.load import dump_scenario, load_scenario, parse_scenario

pytestmark = pytest.mark.usefixtures("fake_backend")
SCENARIO = """
name: stripes
episode: {max_steps: 6}
outcomes: {hit: {damaged: any}}
interventions:
  blind: {kind: PixelMask, x0: 0, y0: 0, x1: 640, y1: 360, between: [1, 2]}
  calm: {kind: KeyBlock, keys: [attack]}
  odd: {kind: KeyBlock, keys: [attack], when: hti}
  built: {kind: BlockEdit, block: stone, cell: [0, 100, 3]}
"""


def call(*words: str | Path) -> Result:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2 and "Traceback" not in result.output, result.output
    assert result.stderr.count("error:") == 1
    for word in words:
        assert word in result.stderr, result.stderr


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "stripes.yaml"
    path.write_text(SCENARIO)
    return str(path)


@pytest.fixture
def run(scenario: str, fake_agent: str, tmp_path: Path):  # type: ignore[no-untyped-def]
    def go(*words: str) -> Result:
        return call("run", scenario, "--agent", fake_agent, "--backend", "fake", "--out", tmp_path / "out",
                    "--no-hooks", *words)
    return go


def header(tmp_path: Path, number: int = 1) -> list[dict[str, object]]:
    name = "stripes-fake-s0" + (f"-{number}" if number > 1 else "")
    return list(open_recording(tmp_path / "out" / name).header["interventions"])


def test_names_steps_mappings_and_files_in_the_order_given(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    one, many = tmp_path / "one.yaml", tmp_path / "many.yaml"
    one.write_text("# a comment\nkind: ActionDelay\nsteps: 2\n")
    many.write_text("- {kind: ActionNoise, camera: 2}\n- kind: ActionSequence\n  actions: [{jump: 1}]\n  at: 3\n")
    result = run("--intervene", "calm", "--intervene", "blind@4", "--intervene", "blind@2-3", "--intervene", str(one),
                 "--intervene", "{kind: KeyBlock, keys: [use], when: hit}", "--intervene", str(many))
    assert result.exit_code == 0, result.output
    assert [(i.get("name"), i["kind"], i.get("at"), i.get("between")) for i in header(tmp_path)] == [
        ("calm", "KeyBlock", None, None), ("blind", "PixelMask", [4], None), ("blind", "PixelMask", None, [2, 3]),
        (None, "ActionDelay", None, None), (None, "KeyBlock", None, None), (None, "ActionNoise", None, None),
        (None, "ActionSequence", [3], None)]
    assert "interventions: calm (KeyBlock, at every step); blind (PixelMask, at [4])" in result.stderr
    assert "calm (KeyBlock, at every step): applied in 6 of 6 steps" in result.stdout
    assert "blind (PixelMask, at [4]): applied in 1 of 6 steps" in result.stdout
    assert "KeyBlock (when hit): never applied" in result.stdout
    recording = open_recording(tmp_path / "out" / "stripes-fake-s0")
    assert [not picture.any() for picture in recording.agent_pov] == [False, False, True, True, True, False]


def test_json_says_which_are_on_and_how_often(run) -> None:  # type: ignore[no-untyped-def]
    report = json.loads(run("--json", "--intervene", "blind").stdout)
    assert report["interventions"] == [{"name": "blind", "kind": "PixelMask", "site": "input",
                                        "schedule": {"between": [1, 2]}, "applied_in_steps": 2}]


@pytest.mark.parametrize(("word", "words"), [
    ("clam", ['unknown intervention "clam"', "calm", "stripes.yaml:5:1"]),
    ("calm@", ["calm@: expected a step", "calm@40"]),
    ("calm@4-", ["expected a step"]),
    ("calm@x", ["expected a step"]),
    ("calm@9", ['"calm": at [9] lies outside the episode of 6 steps']),
    ("calm@4-2", ["between: expected", "stripes.yaml:7:3"]),
    ("odd", ['unknown outcome or event "hti"', "hit", "stripes.yaml:8:3"]),
    ("built", ["the fake backend takes no commands"]),
    ("{kind: PixelMask, region: {object: leaves}}",
     ["PixelMask: region leaves", "the fake backend does not", "play it with blockworld"]),
    ("{kind: ZeroAblation, hook: blocks.9.hook_resid_post}",
     ["no hook matches 'blocks.9.hook_resid_post'", "--intervene {kind"]),
    ("{kind: MemoryReset, at: 2}", ["has no memory that can be changed"]),
    ("{kind: KeyBlock, keys: [attack]", ["not valid YAML", "--intervene:1:"]),
    ("{kind: KeyBlock, kyes: [attack]}", ['unknown field of KeyBlock "kyes"', "keys", "--intervene {kind"]),
    ("{kind: KeyBlok, keys: [attack]}", ['unknown intervention "KeyBlok"', "KeyBlock"]),
    ("{kind: KeyBlock, keys: [attack], keys: [use]}", ['duplicate key "keys"']),
    ("{kind: !!python/object:os.system {}, keys: 1}", ["is not allowed"]),
    ("{keys: [attack]}", ["a mapping with its kind", "--intervene:1:1"]),
    ("nowhere/edits.yaml", ["cannot read the interventions in nowhere/edits.yaml: No such file"]),
    ("\0.yaml", ["cannot read the interventions"]),
    ("", ['unknown intervention ""'])])
def test_what_is_wrong_is_said_once_with_its_place(run, tmp_path: Path, word: str,  # type: ignore[no-untyped-def]
                                                   words: list[str]) -> None:
    refused(run("--intervene", word), *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("text", "words"), [
    ("- {kind: KeyBlock, keys: [use]}\n- {kind: KeyBlock, keys: [atack]}\n", ['unknown key "atack"', "edits.yaml:2:3"]),
    ("- {kind: KeyBlock, keys: [attack]}\n- 3\n", ["expected an intervention", "edits.yaml:2:3"]),
    ("kind: KeyBlock\n\tkeys: [attack]\n", ["not valid YAML", "edits.yaml:2:1"]),
    ("\xff", ["cannot read the interventions", "UTF-8"]),
    ("", ["it is empty"])])
def test_a_file_says_where_its_mistake_is(run, tmp_path: Path, text: str,  # type: ignore[no-untyped-def]
                                          words: list[str]) -> None:
    path = tmp_path / "edits.yaml"
    path.write_bytes(text.encode("latin-1"))
    refused(run("--intervene", str(path)), *words)


def test_a_dumped_scenario_names_the_same_interventions() -> None:
    scenario = load_scenario("villager")
    again = parse_scenario(dump_scenario(scenario))
    assert again.interventions == scenario.interventions
    ours = {"no-leaves", "robe-desert", "robe-painted", "leaves-painted-out", "ablate-head", "memory-4",
            "memory-keyframes-out", "no-attack", "steer-away"}
    assert ours <= set(scenario.interventions)
    built = from_scenario(scenario)
    assert [each.name for each in built] == list(scenario.interventions) and built == from_scenario(again)
    with pytest.raises(Exception, match="did you mean 'no-leaves'"):
        from_scenario(scenario, "no-leafs@3")


# ---- arrays out of recordings


HOOK = "blocks.1.hook_resid_post"


@pytest.fixture
def recorded(scenario: str, fake_agent: str, tmp_path: Path) -> Path:
    for seed in ("0", "1"):
        call("run", scenario, "--agent", fake_agent, "--backend", "fake", "--out", tmp_path / "kept", "--hooks", HOOK,
             "--seed", seed)
    return tmp_path / "kept"


def test_values_and_directions_are_read_from_recordings(recorded: Path, scenario: str, fake_agent: str) -> None:
    first, second = (np.asarray(open_recording(recorded / f"stripes-fake-s{n}").activations[HOOK]) for n in (0, 1))
    agent, loaded = load_agent(fake_agent), load_scenario(scenario)
    place = f"recording: {recorded}/stripes-fake-s0"

    def cast(text: str) -> object:
        (made,) = cast_interventions(scenario, loaded, agent, [text])
        return made

    def patch(what: str, steps: str = "") -> object:
        return cast(f"{{kind: ActivationPatch, hook: {HOOK}, values: {{{place}, {what}}}{steps}}}")

    assert patch("step: 3") == ActivationPatch(HOOK, values=first[3])
    assert patch("steps: [2, 4]", ", steps: [0, 1, 2]") == ActivationPatch(HOOK, values=first[2:5], steps=(0, 1, 2))
    mean = cast(f"{{kind: MeanAblation, hook: blocks.*.hook_resid_post, values: {{{place}, hook: {HOOK}, mean: true, "
                "steps: [1, 5]}}")
    assert isinstance(mean, MeanAblation)
    np.testing.assert_allclose(mean.values.array, first[1:].mean(0), rtol=1e-6)
    sides = f"{{of: {recorded}/stripes-fake-s0, minus: {{recording: {recorded}/stripes-fake-s1, steps: [0, 2]}}}}"
    steering = cast(f"{{kind: Steering, hook: {HOOK}, direction: {{difference_of_means: {sides}}}}}")
    assert isinstance(steering, Steering)
    np.testing.assert_allclose(steering.direction.array, first.mean(0) - second[:3].mean(0), rtol=1e-5, atol=1e-6)


def test_a_picture_is_read_from_a_recording(recorded: Path) -> None:
    place = {"recording": "stripes-fake-s0", "hook": "pov", "step": 4}
    found = with_arrays({"kind": "Paste", "picture": place}, recorded)["picture"]
    assert found.array.dtype == np.uint8
    assert np.array_equal(found.array, open_recording(recorded / "stripes-fake-s0").pov[4])


def test_a_memory_is_read_from_a_snapshot(tmp_path: Path) -> None:
    call("run", "trunk", "--agent", "vpt-nano", "--steps", "6", "--out", tmp_path)
    kept = open_recording(tmp_path / "trunk-vpt-nano-s0").snapshots
    swap = f"{{kind: MemorySwap, memory: {{recording: {tmp_path}/trunk-vpt-nano-s0, step: STEP}}, at: 3}}"
    words = "run", "trunk", "--agent", "vpt-nano", "--steps", "5", "--seed", "1", "--out", tmp_path
    result = call(*words, "--intervene", swap.replace("STEP", "0"))
    assert result.exit_code == 0, result.output
    made = open_recording(tmp_path / "trunk-vpt-nano-s1")
    spec = made.header["interventions"][0]
    assert set(spec["memory"]) == set(kept[0].agent)
    refused(call(*words, "--intervene", swap.replace("STEP", "4")), "keeps no memory of step 4", "of the steps 0")
    refused(call("run", "trunk", "--agent", "untrained", "--out", tmp_path / "other", "--intervene",
                 swap.replace("STEP", "0")), "was made with another model, vpt-nano; untrained plays", "--intervene {")
    assert not (tmp_path / "other").exists()


def test_steps_are_those_of_the_episode_in_a_forks_recording_too(tmp_path: Path) -> None:
    hook = "blocks.1.hook_resid_post"
    call("run", "trunk", "--agent", "vpt-nano", "--steps", "6", "--hooks", hook, "--out", tmp_path)
    call("fork", tmp_path / "trunk-vpt-nano-s0", "--at", "2", "--out", tmp_path)
    whole = open_recording(tmp_path / "trunk-vpt-nano-s0").activations[hook]

    def read(**place: object) -> np.ndarray[Any, Any]:
        spec = {"kind": "ActivationPatch", "hook": hook, "values": {"recording": "trunk-vpt-nano-s0-fork2", **place}}
        return np.asarray(with_arrays(spec, tmp_path)["values"].array)

    assert np.array_equal(read(step=3), whole[3])
    assert np.array_equal(read(steps=[2, 4]), whole[2:5])
    assert np.allclose(read(steps=[2, 5], mean=True), whole[2:6].mean(0), rtol=1e-5)
    with pytest.raises(InterventionError, match="has the steps 2 to 5 of"):
        read(step=1)


def test_a_run_with_an_array_keeps_it_in_its_header(recorded: Path, run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    place = f"{{recording: {recorded}/stripes-fake-s0, step: 3}}"
    result = run("--intervene", f"{{kind: ActivationPatch, hook: {HOOK}, values: {place}, at: 2}}")
    assert result.exit_code == 0, result.output
    (spec,) = header(tmp_path)
    kept = open_recording(recorded / "stripes-fake-s0").activations[HOOK][3]
    assert ArrayValue.read(spec["values"]) == ArrayValue(kept)


@pytest.mark.parametrize(("values", "words"), [
    ("{recording: R, hook: blocks.0.hook_resid_post, mean: true}",
     ['holds no "blocks.0.hook_resid_post"', "--hooks 'blocks.0.hook_resid_post'", HOOK]),
    ("{recording: R}", ["expected one of step: T, steps: [first, last] or mean: true"]),
    ("{recording: R, step: 1, mean: true}", ["expected one of"]),
    ("{recording: R, step: 6}", ["has the steps 0 to 5"]),
    ("{recording: R, steps: [3, 1]}", ["has the steps 0 to 5"]),
    ("{recording: R, steps: 3}", ["got 3"]),
    ("{recording: R, stpe: 3}", ['unknown key "stpe"', "step"]),
    ("{recording: R, hook: 'blocks.*', step: 1}", ["the name of one recorded hook"]),
    ("{recording: R-9, step: 1}", ["R-9"]),
    ("{recording: 3, step: 1}", ["expected a folder, got 3"]),
    ("{recording: R, hook: pov, mean: true}", ["expected one picture"]),
    ("{recording: R, hook: agent_pov, step: 6}", ["has the steps 0 to 5 of agent_pov, got 6"]),
    ("{difference_of_means: {of: R}}", ["expected {of: PATH, minus: PATH}"]),
    ("{difference_of_means: {of: R, minus: R}, step: 3}", ['unknown key "step"'])])
def test_what_a_recording_cannot_give_is_said_with_the_field(recorded: Path, run, values: str,  # type: ignore[no-untyped-def]
                                                             words: list[str]) -> None:
    text = values.replace("R-9", f"{recorded}/R-9").replace(": R", f": {recorded}/stripes-fake-s0")
    refused(run("--intervene", f"{{kind: MeanAblation, hook: {HOOK}, values: {text}}}"), "values: ", *words)


def test_a_file_reaches_recordings_below_it_and_no_others(recorded: Path, run, tmp_path: Path,  # type: ignore[no-untyped-def]
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    spec = f"{{kind: MeanAblation, hook: {HOOK}, values: {{recording: PATH, mean: true}}}}"
    edits, inner = tmp_path / "edits.yaml", tmp_path / "inner" / "edits.yaml"
    inner.parent.mkdir()
    edits.write_text(spec.replace("PATH", "kept/stripes-fake-s0"))
    assert run("--intervene", str(edits)).exit_code == 0
    for path in ("../kept/stripes-fake-s0", f"{recorded}/stripes-fake-s0"):
        inner.write_text(spec.replace("PATH", path))
        refused(run("--intervene", str(inner)), "leads out of the folder", "inner/edits.yaml:1:1")
    monkeypatch.chdir(inner.parent)
    assert run("--intervene", spec.replace("PATH", "../kept/stripes-fake-s0")).exit_code == 0, "typed, it may"


# ---- the bundled scenario


def test_the_villager_under_its_interventions(tmp_path: Path) -> None:
    """Recorded with the names on; the leaves are gone and attack is never carried out."""
    result = call("run", "villager", "--steps", "12", "--no-hooks", "--out", tmp_path, "--intervene", "no-leaves",
                  "--intervene", "no-attack", "--intervene", "steer-away@0-3")
    assert result.exit_code == 0, result.output
    assert "no-leaves (RemoveBlocks, at every step): applied in 1 of 12 steps" in result.stdout
    recording = open_recording(tmp_path / "villager-vpt-nano-s0")
    assert [i["name"] for i in recording.header["interventions"]] == ["no-leaves", "no-attack", "steer-away"]
    (first,) = [e for e in recording.events if e.get("name") == "no-leaves"]
    assert first["step"] == 0 and all("air replace minecraft:" in command for command in first["commands"])
    assert not any(row["executed"]["attack"] for row in recording.steps)
    verified = call("replay", tmp_path / "villager-vpt-nano-s0", "--verify")
    assert verified.exit_code == 0 and "12 of 12 frames byte-equal" in verified.stdout
    assert "interventions: no-leaves, no-attack, steer-away" in verified.stderr


def test_a_preview_shows_what_the_world_and_the_picture_become(tmp_path: Path) -> None:
    import cv2

    def picture(*words: str) -> np.ndarray:
        assert call("scenario", "preview", "villager", "--out", tmp_path / "p.png", *words).exit_code == 0
        return np.asarray(cv2.imread(str(tmp_path / "p.png")))

    plain = picture()
    assert (picture("--intervene", "no-leaves") != plain).any(-1).mean() > 0.1
    masked = picture("--intervene", "{kind: PixelMask, x0: 0, y0: 0, x1: 9, y1: 9, colour: [1, 2, 3]}")
    assert (masked[:9, :9] == (3, 2, 1)).all() and np.array_equal(masked[9:], plain[9:])
    preview = ["scenario", "preview", "villager", "--out", str(tmp_path / "x.png"), "--intervene"]
    refused(call(*preview, "no-attack"), "changes nothing in a picture", "action")
    refused(call(*preview, "no-leaves@3"), "outside the episode of 1 steps")
    assert not (tmp_path / "x.png").exists()
