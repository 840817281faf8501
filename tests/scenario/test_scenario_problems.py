"""Every kind of mistake in a scenario: what is said, and the exact line and column it points to."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError, ScenarioError
from harness.scenario.load import load_scenario, parse_scenario, scenario_path
from harness.scenario.problem import ScenarioFileError


def problems(text: str) -> list[tuple[str, str, str]]:
    """(line:column, message, hint) of each problem."""
    with pytest.raises(ScenarioFileError) as caught:
        parse_scenario(text, name="x.yaml")
    return [((p.where or "").removeprefix("x.yaml:"), p.message, p.hint or "") for p in caught.value.problems]


CASES = [
    # an unknown key, at every depth
    ("descripton: x", "1:1", 'unknown key "descripton"', "'description'"),
    ("world:\n  grund: stone", "2:3", 'unknown key "grund"', "'ground'"),
    ("world:\n  blocks:\n  - {fill: stone, form: [1, 2, 3], to: [1, 2, 3], from: [1, 2, 3]}", "3:19",
     'unknown key "form"',
     "'from'"),
    ("world:\n  entities:\n  - {type: cow, at: [1, 100, 1], villager: {tipe: plains}}", "3:45",
     'unknown key "tipe"', "'type'"),
    ("outcomes:\n  a: {killed: cow, atleast: 3}", "2:20", 'unknown key "atleast"', "'at_least'"),
    ("player: {hotbar: {1: {item: stick, coun: 3}}}", "1:36", 'unknown key "coun"', "'count'"),
    ("events:\n  - {step: 3, fil: stone}", "2:5", "one of the keys fill, set, line", "'set'"),
    ("events:\n  - {set: stone, at: [0, 100, 0]}", "2:5", 'the key "step" is missing', ""),
    ("events:\n  - {step: 3, set: stne, at: [0, 100, 0]}", "2:20", 'unknown block "stne"', "'stone'"),
    ("events:\n  - {step: 3, set: stone, at: [0, 100, 0], form: 1}", "2:44", 'unknown key "form"', "step"),
    ("events:\n  - {step: -1, set: stone, at: [0, 100, 0]}", "2:12", "greater than or equal to 0", ""),
    ("episode: {max_steps: 9}\nevents: [{step: 9, set: stone, at: [0, 100, 0]}]", "2:17",
     "step 9 never comes: the episode has steps 0 to 8", "max_steps"),
    ("events: [{step: 600, set: stone, at: [0, 100, 0]}]", "1:17", "steps 0 to 599", "earlier"),
    ("outcomes: {a: {pressed: lft}}", "1:25", 'unknown key "lft"', "'left'"),
    ("outcomes: {a: {pressed: []}}", "1:12", "at least one key", "attack"),
    ("outcomes: {a: {pressed: left, since: 4, until: 3}}", "1:12", "no step lies between", "later"),
    ("outcomes: {a: {looked_at: cow, pressing: atack}}", "1:42", 'unknown key "atack"', "'attack'"),
    # a key twice
    ("name: a\nhooks: []\nname: b", "3:1", 'duplicate key "name"', "line 1"),
    ("world:\n  time: 1\n  time: 2", "3:3", 'duplicate key "time"', "line 2"),
    # unknown names
    ("world:\n  ground: gras_block", "2:11", 'unknown block "gras_block"', "'grass_block'"),
    ("world: {blocks: [{set: oak_lof, at: [0, 100, 0]}]}", "1:24", 'unknown block "oak_lof"', "'oak_log'"),
    ("world: {blocks: [{tree: oac, at: [0, 100, 0]}]}", "1:25", 'unknown tree "oac"', "'oak'"),
    ("world: {blocks: [{scatter: [oak, brich], count: 1, from: [0, 0], to: [9, 9]}]}", "1:34", 'unknown tree "brich"',
     "'birch'"),
    ("world: {entities: [{type: cwo, at: [0, 100, 0]}]}", "1:27", 'unknown creature "cwo"', "'cow'"),
    ("world: {entities: [{type: villager, at: [0, 100, 0], villager: {profession: libarian}}]}", "1:77",
     'unknown profession "libarian"', "'librarian'"),
    ("world: {entities: [{type: villager, at: [0, 100, 0], villager: {type: dessert}}]}", "1:71",
     'unknown villager type "dessert"', "'desert'"),
    ("world: {biome: planes}", "1:16", 'unknown biome "planes"', "'plains'"),
    ("world: {weather: rainy}", "1:18", 'unknown weather "rainy"', "'rain'"),
    ("world: {difficulty: esy}", "1:21", 'unknown difficulty "esy"', "'easy'"),
    ("world: {time: middnight}", "1:15", 'unknown time "middnight"', "'midnight'"),
    ("world: {rules: {doMobSpawnin: false}}", "1:17", 'unknown rule "doMobSpawnin"', "'doMobSpawning'"),
    ("player: {hotbar: {0: wooden_ax}}", "1:22", 'unknown item "wooden_ax"', "'wooden_axe'"),
    ("outcomes: {dead: {killed: cow}}\nepisode: {terminate_when: [deed]}", "2:28", 'unknown outcome "deed"', "'dead'"),
    ("outcomes: {a: {damaged: targt}}\nworld: {entities: [{type: cow, at: [0, 100, 0], tag: target}]}", "1:25",
     'unknown tag or creature "targt"', "'target'"),
    ("outcomes: {a: {mined: \"*_lgo\"}}", "1:23", 'unknown block "*_lgo"', ""),
    ("player: {facing: targt}\nworld: {entities: [{type: cow, at: [0, 100, 0], tag: target}]}", "1:18",
     'unknown direction or tag "targt"', "'target'"),
    # wrong types
    ("episode: {max_steps: many}", "1:22", "expected a whole number (got 'many')", ""),
    ("episode: {max_steps: 1.5}", "1:22", "expected a whole number (got 1.5)", ""),
    ("episode: {max_steps: true}", "1:22", "expected a whole number (got True)", ""),
    ("world: {entities: [{type: cow, at: [0, 100, 0], ai: no}]}", "1:53", "expected true or false (got 'no')", ""),
    ("hooks: all", "1:8", "expected a list (got 'all')", ""),
    ("world: [1]", "1:8", "expected a mapping (got a list)", ""),
    ("description: [1]", "1:14", "expected text (got a list)", ""),
    ("world: {rules: {mobGriefing: 1}}", "1:30", "rule mobGriefing takes true or false (got 1)", ""),
    ("world: {rules: {randomTickSpeed: true}}", "1:34", "rule randomTickSpeed takes a whole number (got True)", ""),
    ("name: my scenario", "1:7", "expected a name of letters", ""),
    ("world: {entities: [{type: zombie, at: [0, 100, 0], colour: red}]}", "1:60", "expected a colour such as", ""),
    ("interventions: {a: ZeroAblation}", "1:20", "expected a mapping with kind", ""),
    ("player: {hotbar: {9: stick}}", "1:19", "less than or equal to 8 (got 9)", ""),
    ("player: {hotbar: {axe: stick}}", "1:19", "expected a whole number (got 'axe')", ""),
    # a missing or an unknown first key
    ("world:\n  blocks:\n    - {from: [0, 0, 0]}", "3:7", "expected a mapping with one of the keys fill, set", ""),
    ("world:\n  blocks:\n    - {fil: stone}", "3:7", "expected a mapping with one of the keys fill, set", "'fill'"),
    ("outcomes:\n  a: {kiled: cow}", "2:3", "expected a mapping with one of the keys damaged, killed", "'killed'"),
    ("world:\n  blocks:\n    - {fill: stone, from: [0, 0, 0]}", "3:7", 'the key "to" is missing', ""),
    # coordinates
    ("world: {blocks: [{fill: stone, from: [0, 100, 0], to: [64, 100, 0]}]}", "1:55",
     "x must be between -64 and 63 (got 64)",
     "outside this box"),
    ("world: {blocks: [{set: stone, at: [0, -30, 0]}]}", "1:35", "y must be between 0 and 255 (got -30)", ""),
    ("world: {blocks: [{fill: stone, from: [0, 0, 0], to: [0, 128, 0]}]}", "1:18", "it spans 129 blocks along y",
     "smaller box"),
    ("world: {blocks: [{set: stone, at: [0, 100]}]}", "1:35", "expected 3 whole numbers [x, y, z] (got [0, 100])", ""),
    ("world: {blocks: [{set: stone, at: [0, 100, 0.5]}]}", "1:35", "expected 3 whole numbers", ""),
    ("player: {at: [0, 100, x]}", "1:14", "expected 3 numbers [x, y, z]", ""),
    ("player: {at: [0, 300, 0]}", "1:14", "y must be between 0 and 255 (got 300)", ""),
    ("world: {blocks: [{scatter: oak, count: [5, 2], from: [0, 0], to: [1, 1]}]}", "1:40",
     "expected a number from 0 to 64, or",
     ""),
    # things that contradict each other
    ("world: {entities: [{type: cow, at: [0, 100, 0], yaw: 3, facing: north}]}", "1:20", "facing and yaw both say",
     "leave one"),
    ("player: {yaw: 3, facing: north}", "1:1", "facing and yaw both say", "leave one"),
    ("world: {entities: [{type: villager, at: [0, 100, 0], colour: \"#000000\"}]}", "1:20",
     "a villager wears no chest plate",
     "villager: {type"),
    # YAML itself
    ("a: [", "1:5", "not valid YAML", ""),
    ("name: a\n\tworld: {}", "2:1", "not valid YAML", "spaces, not tabs"),
    ("name: a: b", "1:8", "not valid YAML: mapping values are not allowed here", "quote text"),
    ("x: !!python/object/apply:os.system [ls]", "1:4", "the tag !!python/object/apply:os.system is not allowed",
     "plain value"),
    ("<<: {name: a}", "1:1", 'unknown key "<<"', ""),
    ("name: {a: ${b}}", "1:12", "not valid YAML", "must be quoted"),
    ("name: {? [a] : b}", "1:10", "a key must be a single word", "must be quoted"),
    ("world: {time: .nan}", "1:15", "a number must be finite", ""),
    ("a: &a [*a]", "1:4", "nested more than 40 levels", ""),
    ("- a", "1:1", "expected a mapping such as name: my-scenario (got a list)", ""),
    ("just words", "1:1", "expected a mapping such as name: my-scenario (got 'just words')", ""),
    ("", "1:1", "it is empty", ""),
    # parameters
    ("description: ${distance}", "1:14", 'unknown parameter "distance"', ""),
    ("parameters: {distance: 3}\ndescription: ${distanc}", "2:14", 'unknown parameter "distanc"', "'distance'"),
    ("parameters: {a: {default: 3, range: [4, 5]}}", "1:14", "expected a number from 4 to 5 (got 3)", ""),
    ("parameters: {a: {default: x, choices: [y, z]}}", "1:14", "'x' is not one of the choices", "choices: y, z"),
    ("parameters: {a: {defalt: 3}}", "1:18", 'unknown key "defalt"', "'default'"),
    ("parameters: {a: [1]}", "1:17", "a parameter is a text, a finite number, true or false (got [1])", ""),
    ("parameters: {a: x}\nepisode: {max_steps: \"${a + 1}\"}", "2:22", "\"a\" is 'x', not a number", "floor"),
    ("episode: {max_steps: \"${1 / 0}\"}", "1:22", "division by zero", ""),
    ("episode: {max_steps: \"${__import__('os')}\"}", "1:22", 'unknown parameter "__import__"', ""),
    ("episode: {max_steps: \"${3\"}", "1:22", 'without a closing "}"', "$${"),
    # extends
    ("extends: vilager", "1:10", 'unknown scenario "vilager"', "'villager'"),
    ("extends: /etc/passwd", "1:10", "leads out of the scenario's folder", "beside this one"),
    ("extends: ../secret.yaml", "1:10", "leads out of the scenario's folder", "beside this one"),
    ("extends: [villager]", "1:10", "expected a scenario's name or file (got a list)", ""),
]


@pytest.mark.parametrize(("text", "where", "message", "hint"), CASES, ids=[repr(c[0])[:60] for c in CASES])
def test_a_mistake_is_named_with_its_place(text: str, where: str, message: str, hint: str) -> None:
    found = problems(text)
    assert any(w == where and message in m and hint in h for w, m, h in found), found


def test_all_problems_come_in_one_pass_in_the_order_of_the_file() -> None:
    text = "world:\n  biome: planes\n  time: 99999\nepisode: {terminate_when: [x]}\nnam: a\nname: b\nname: c\n"
    assert [where for where, _, _ in problems(text)] == ["2:10", "3:9", "4:28", "5:1", "7:1"]


def test_a_problem_reads_like_a_compilers() -> None:
    text = "\n" * 12 + "world:\n  blocks:\n    - {fill: oak_leafs, from: [1, 2, 3], to: [1, 2, 3]}\n"
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text, name="bad.yaml")
    assert str(caught.value) == """\
error: world.blocks[0].fill: unknown block "oak_leafs"
  --> bad.yaml:15:14
   |
15 |     - {fill: oak_leafs, from: [1, 2, 3], to: [1, 2, 3]}
   |              ^^^^^^^^^
   = help: did you mean 'oak_leaves' or 'oak_planks' or 'oak_log'?"""


def test_two_problems_are_counted() -> None:
    with pytest.raises(ScenarioError, match=r"2 problems in bad\.yaml$"):
        parse_scenario("a: 1\nb: 2", name="bad.yaml")


def test_a_long_line_is_shown_around_its_problem() -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(f"hooks: [{'abcdefghi, ' * 200}!!set {{a}}]")
    assert max(map(len, str(caught.value).splitlines())) < 200
    assert "^^^" in str(caught.value)


def test_yaml_is_version_1_2() -> None:
    scenario = parse_scenario("description: on\nplayer: {pitch: 1e1, yaw: 012}\nworld: {rules: {mobGriefing: True}}\n"
                              "agent: {options: {a: no, b: 1:30, c: 0x10, d: 1_000, e: ~, f: .5}}")
    assert (scenario.description, scenario.player.pitch, scenario.player.yaw) == ("on", 10.0, 12.0)
    assert scenario.world.rules == {"mobGriefing": True}
    assert scenario.agent.options == {"a": "no", "b": "1:30", "c": 16, "d": "1_000", "e": None, "f": 0.5}


def test_a_problem_in_an_extended_file_points_into_that_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: base\nworld:\n  ground: stoen\n")
    (tmp_path / "mine.yaml").write_text("extends: base\nepisode: {max_steps: 0}\n")
    with pytest.raises(ScenarioFileError) as caught:
        load_scenario(tmp_path / "mine.yaml")
    assert [p.where for p in caught.value.problems] == [f"{tmp_path}/base.yaml:3:11", f"{tmp_path}/mine.yaml:2:22"]


def test_scenarios_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b\n")
    (tmp_path / "b.yaml").write_text("name: b\nextends: a.yaml\n")
    with pytest.raises(ScenarioError, match=r"in a circle: a -> b -> a") as caught:
        load_scenario(tmp_path / "a.yaml")
    assert "b.yaml:2:10" in str(caught.value)
    (tmp_path / "self.yaml").write_text("extends: self\n")
    with pytest.raises(ScenarioError, match="in a circle: self -> self"):
        load_scenario(tmp_path / "self.yaml")


def test_a_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("name: secret\n")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    (inner / "a.yaml").write_text("extends: link\n")
    with pytest.raises(ScenarioError, match="leads out of the scenario's folder"):
        load_scenario(inner / "a.yaml")


@pytest.mark.parametrize(("data", "message"), [
    (b"\x89PNG\r\n\x1a\n\x00\x00", "is not a text file (byte 0 is not UTF-8)"),
    (b"name: a\n\x00", "character that YAML does not allow"),
    ("name: a".encode("utf-16"), "is not a text file"),
    (b"name: \xff", "is not a text file (byte 6 is not UTF-8)"),
    (b"#" * 1_000_001, "has more than 1000000 bytes"),
    (b"", "it is empty"),
    (b"# only a comment\n", "it is empty"),
])
def test_files_that_are_no_text(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert message in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="did you mean 'villager'"):
        load_scenario("vilager")
    with pytest.raises(ScenarioError, match="did you mean 'treechop'"):
        load_scenario(tmp_path / "treechops.yaml")
    with pytest.raises(ScenarioError, match="is a folder"):
        load_scenario(tmp_path)
    with pytest.raises(ScenarioError, match="zero byte"):
        load_scenario("a\0")
    with pytest.raises(ScenarioError, match='unknown scenario "tree"'):
        scenario_path("tree")


@pytest.mark.parametrize(("parameters", "message"), [
    ({"distnce": 3}, "did you mean 'distance'"),
    ({"distance": 99}, "expected a number from 2 to 30 (got 99)"),
    ({"distance": "far"}, "expected a number (got 'far')"),
    ({"distance": True}, "expected a number (got True)"),
    ({"distance": float("nan")}, "expected a number from 2 to 30 (got nan)"),
    ({"robe": "dessert"}, 'did you mean "desert"'),
    ({"robe": 3}, "expected text (got 3)"),
    ({"canopy": "lava"}, 'unknown block "lava"'),
    ({"canopy": None}, "expected text (got None)"),
])
def test_parameters_that_do_not_fit(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario("villager", parameters=parameters)
    assert message in str(caught.value)


def test_a_parameter_that_changes_nothing_is_refused() -> None:
    text = "parameters: {a: 3}\nname: x"
    assert parse_scenario(text, parameters={"a": 3}).parameters["a"].default == 3
    with pytest.raises(ScenarioError, match="is used nowhere"):
        parse_scenario(text, parameters={"a": 4})


def test_a_scenario_built_in_python_is_checked_too() -> None:
    from pydantic import ValidationError

    from harness.scenario.schema import Scenario
    with pytest.raises(ValidationError, match='terminate_when.0: unknown outcome "x"'):
        Scenario.model_validate({"name": "a", "episode": {"terminate_when": ["x"]}})


def test_problems_are_harness_errors_with_exit_code_2() -> None:
    with pytest.raises(HarnessError) as caught:
        parse_scenario("a: 1")
    assert caught.value.exit_code == 2
