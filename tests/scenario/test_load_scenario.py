"""Finding, extending and filling in scenarios; the JSON schema; the bundled files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import HarnessError
from harness.registry import data_dir
from harness.scenario.load import (
    dump_scenario,
    json_schema,
    load_scenario,
    parse_scenario,
    parse_value,
    scenario_names,
    scenario_path,
)

SHIPPED = ["armor-stand", "meadow", "treechop", "trunk", "villager", "villager-no-leaves"]


def test_the_bundled_scenarios() -> None:
    assert set(SHIPPED) <= set(scenario_names())
    for name in scenario_names():
        scenario = load_scenario(name)
        assert scenario.name == name == scenario_path(name).stem
        assert scenario.description
        assert scenario == load_scenario(scenario_path(name)) == load_scenario(str(scenario_path(name)))
        assert scenario.agent.name == (name if name in ("planted", "recall") else "vpt-nano")
        assert scenario.hooks == ("blocks.*.attn.hook_pattern", "blocks.*.hook_resid_post")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: villager\nparameters: {canopy: stone, distance: 4}\n")
    scenario = load_scenario(path)
    assert scenario.name == "mine"
    assert scenario.parameters["canopy"].default == "stone"
    assert scenario.parameters["distance"].range == (2, 30)
    assert scenario.world.blocks[0].fill == "stone"  # type: ignore[union-attr]
    assert scenario.world.entities[0].at == (0.5, 100, 4.5)  # type: ignore[union-attr]
    again = load_scenario(path, parameters={"canopy": "none"})
    assert again.world.blocks[0].fill == "none"  # type: ignore[union-attr]


def test_what_extends_means(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("""
name: base
description: the base
world: {ground: sand, time: 5, rules: {mobGriefing: true}, blocks: [{set: stone, at: [0, 100, 0]}]}
outcomes: {a: {killed: cow}, b: {killed: pig, at_least: 3}, c: {mined: stone, at_least: 2}}
interventions: {i: {kind: A, x: 1}, j: {kind: A, x: 1}}
hooks: [x, y]
""")
    (tmp_path / "child.yaml").write_text("""
extends: base
world: {time: 6, rules: {doFireTick: true}, blocks: []}
outcomes: {a: null, b: {mined: dirt}, c: {at_least: 5}, d: {killed: cow}}
interventions: {i: {kind: B}, j: {x: 2}}
hooks: [z]
""")
    child = load_scenario(tmp_path / "child.yaml")
    assert (child.name, child.description) == ("child", "the base")
    assert (child.world.ground, child.world.time, child.world.blocks) == ("sand", 6, ())
    assert child.world.rules == {"mobGriefing": True, "doFireTick": True}
    assert {k: v.model_dump() for k, v in child.outcomes.items()} == {
        "b": {"mined": "dirt", "at_least": 1}, "c": {"mined": "stone", "at_least": 5}, "d": {"killed": "cow",
            "at_least": 1}}
    assert child.interventions == {"i": {"kind": "B"}, "j": {"kind": "A", "x": 2}}
    assert child.hooks == ("z",)
    (tmp_path / "grandchild.yaml").write_text("extends: child.yaml\nname: g\n")
    assert load_scenario(tmp_path / "grandchild.yaml") == child.model_copy(update={"name": "g"})


def test_a_file_beside_comes_before_a_bundled_one(tmp_path: Path) -> None:
    (tmp_path / "villager.yaml").write_text("name: other\ndescription: mine\n")
    (tmp_path / "a.yaml").write_text("extends: villager\n")
    assert load_scenario(tmp_path / "a.yaml").description == "mine"
    (tmp_path / "b.yaml").write_text("extends: treechop\n")
    assert load_scenario(tmp_path / "b.yaml").outcomes == load_scenario("treechop").outcomes


@pytest.mark.parametrize(("value", "expected"), [
    ("${n}", 3), ("${ n }", 3), ("${n + 1}", 4), ("${n - -1}", 4), ("${2 * (n + x)}", 11.0), ("${n / 2}", 1.5),
    ("${floor(x)}", 2), ("${floor(-x)}", -3), ("${-n}", -3), ("${my-name}", "a b"), ("${flag}", True), ("${1e0}", None),
    ("log ${n}", "log 3"), ("${n}${n}", "33"), ("${my-name}!", "a b!"), ("x${flag}", "xtrue"), ("${x}", 2.5),
    ("$${n}", "${n}"), ("$$${n}", "$${n}"), ("$n", "$n"), ("{n}", "{n}"), ("${n - 1 - 1}", 1), ("${8 / 2 / 2}", 2.0),
    ("${2 + 3 * 4}", 14), ("${.5 + 1.}", 1.5),
])
def test_references(value: str, expected: object) -> None:
    text = f"parameters: {{n: 3, x: 2.5, my-name: a b, flag: true}}\nagent: {{options: {{v: {json.dumps(value)}}}}}"
    if expected is None:
        with pytest.raises(HarnessError, match="unexpected"):
            parse_scenario(text)
        return
    result = parse_scenario(text).agent.options["v"]
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize("value", ["${}", "${n +}", "${(n}", "${n n}", "${n ** 2}", "${n.x}", "${a[0]}", "${'x'}",
    "${n % 2}",
                                   "${" + "(" * 250 + "}", "${99999999999999999999}", "${n", "${floor}", "${floor(n}",
                                       "${.}",
                                   "${flag + 1}", "${" + "-" * 190 + "n}", "${²}"])
def test_what_is_no_expression(value: str) -> None:
    text = f"parameters: {{n: 3, flag: true}}\nagent: {{options: {{v: {json.dumps(value)}}}}}"
    if value.startswith("${--"):
        assert parse_scenario(text).agent.options["v"] == 3
        return
    with pytest.raises(HarnessError) as caught:
        parse_scenario(text)
    assert "agent.options.v" in str(caught.value)


@pytest.mark.parametrize(("text", "value"), [
    ("3", 3), ("2.5", 2.5), ("1e3", 1000.0), ("true", True), ("none", "none"), ("no", "no"), ("oak_leaves",
        "oak_leaves"), ("", ""),
    ("a: b: c", "a: b: c"), ("[1", "[1"), ("'3'", "3"),
])
def test_values_from_a_command_line(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_a_dump_reads_well() -> None:
    text = dump_scenario(load_scenario("villager"))
    assert "  - fill: oak_leaves\n    from: [-2, 102, 4]\n    to: [2, 103, 8]\n" in text
    assert "  damaged_villager:\n    damaged: target\n" in text
    assert "${" not in text
    # Readers of YAML 1.1 understand it alike.
    assert yaml.safe_load(dump_scenario(parse_scenario("description: 'on'")))["description"] == "on"


def test_loading_imports_nothing_heavy() -> None:
    code = ("import sys; from harness.scenario.load import load_scenario; load_scenario('villager'); "
            "print([m for m in ('torch', 'numba', 'cv2', 'scipy') if m in sys.modules])")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# The JSON schema ----------------------------------------------------------------------------------------------------


def test_the_shipped_json_schema_is_current() -> None:
    """After a change of the schema: harness scenario schema > scenarios/scenario.schema.json."""
    shipped = (data_dir("scenarios") / "scenario.schema.json").read_text(encoding="utf-8")
    assert json.loads(shipped) == json_schema()


def fits(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """The part of JSON Schema that ours uses."""
    if "$ref" in schema:
        return fits(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    unknown = set(schema) - {"type", "properties", "required", "additionalProperties", "patternProperties", "items",
        "anyOf",
                             "oneOf", "enum", "const", "pattern", "minimum", "maximum", "exclusiveMinimum",
                                 "exclusiveMaximum",
                             "minItems", "maxItems", "maxLength", "minLength", "description", "title", "default",
                                 "$defs",
                             "prefixItems", "propertyNames"}
    assert not unknown
    branches = [*schema.get("anyOf", []), *schema.get("oneOf", [])]
    if branches and not any(fits(value, branch, root) for branch in branches):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        return False
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        if not low <= value <= high or value <= schema.get("exclusiveMinimum", value - 1):
            return False
    if isinstance(value, list):
        n = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return n and all(fits(item, schema.get("items", {}), root) for item in value)
    if isinstance(value, dict) and {"properties", "additionalProperties", "patternProperties"} & set(schema):
        return _object_fits(value, schema, root)
    return True


def _is(value: Any, kind: str) -> bool:
    types: dict[str, Any] = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None),
                             "array": list, "object": dict}
    return isinstance(value, types[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _object_fits(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if any(key not in value for key in schema.get("required", [])):
        return False
    for key, item in value.items():
        patterns = [s for p, s in schema.get("patternProperties", {}).items() if re.search(p, str(key))]
        more = schema.get("additionalProperties", True)
        part = schema.get("properties", {}).get(key) or (patterns or [more])[0]
        if part is False or (isinstance(part, dict) and not fits(item, part, root)):
            return False
    return True


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_files_fit_the_json_schema(name: str) -> None:
    raw = yaml.safe_load(scenario_path(name).read_text(encoding="utf-8"))
    schema = json_schema()
    assert fits(raw, schema, schema)
    assert fits(yaml.safe_load(dump_scenario(load_scenario(name))), schema, schema)


@pytest.mark.parametrize("text", ["nam: x", "world: {biom: plains}", "episode: {max_steps: many}",
    "player: {pitch: 91}",
                                  "world: {blocks: [{fil: stone}]}", "world: {ground: gras}",
                                      "outcomes: {a: {killd: cow}}", "hooks: x"])
def test_the_json_schema_refuses(text: str) -> None:
    schema = json_schema()
    assert not fits(yaml.safe_load(text), schema, schema)


def test_an_editor_can_complete_names() -> None:
    text = json.dumps(json_schema())
    assert all(f'"{name}"' in text for name in ("oak_leaves", "armor_stand", "librarian", "doMobSpawning", "midnight"))


@pytest.mark.parametrize("text", ["outcomes: {a: null}", "world: {ground: 'minecraft:stone'}", "extends: villager",
                                  "episode: {max_steps: '${n}'}", "parameters: {a: 3, b: x, c: {default: 3}}"])
def test_the_json_schema_allows(text: str) -> None:
    schema = json_schema()
    assert fits(yaml.safe_load(text), schema, schema)


@pytest.mark.parametrize("name", SHIPPED)
def test_files_name_their_schema(name: str) -> None:
    first, _, _ = scenario_path(name).read_text(encoding="utf-8").partition("\n")
    assert first == "# yaml-language-server: $schema=scenario.schema.json"
