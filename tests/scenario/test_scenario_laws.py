"""The laws of the scenario room, over generated scenarios and over arbitrary text."""

from __future__ import annotations

import re

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scenario_strategies import SEEDS, scenarios

from harness.errors import ScenarioError
from harness.scenario.catalogue import catalogue
from harness.scenario.commands import MAX_COMMAND, MAX_FILL
from harness.scenario.compile import compile_scenario, to_commands
from harness.scenario.load import dump_scenario, load_scenario, parse_scenario, scenario_names
from harness.scenario.schema import Scenario

_SLOW = settings(max_examples=60, deadline=None,
 suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@_SLOW
@given(scenarios())
def test_loading_what_was_dumped_gives_the_same(scenario: Scenario) -> None:
    text = dump_scenario(scenario)
    assert parse_scenario(text) == scenario
    assert dump_scenario(parse_scenario(text)) == text


@_SLOW
@given(scenarios(), SEEDS)
def test_compiling_is_pure(scenario: Scenario, seed: int) -> None:
    before = scenario.model_dump()
    setup = compile_scenario(scenario, seed=seed)
    assert compile_scenario(parse_scenario(dump_scenario(scenario)), seed=seed) == setup
    assert scenario.model_dump() == before


@_SLOW
@given(scenarios(), SEEDS, st.sampled_from(["1.16.5", "1.21"]))
def test_every_command_fits_and_is_balanced(scenario: Scenario, seed: int, dialect: str) -> None:
    setup = compile_scenario(scenario, seed=seed)
    commands = to_commands(setup, dialect)
    blocks = {b.minecraft.partition("[")[0] for b in catalogue().blocks.values()}
    for command in commands:
        assert len(command) <= MAX_COMMAND
        assert command.startswith("/") == (dialect == "1.16.5")
        for opening, closing in ("{}", "[]"):
            assert command.count(opening) == command.count(closing), command
        assert command.count('"') % 2 == 0
        words = command.removeprefix("/").split()
        if words[0] == "fill":
            x0, y0, z0, x1, y1, z1 = map(int, words[1:7])
            assert (x1 - x0 + 1) * (y1 - y0 + 1) * (z1 - z0 + 1) <= MAX_FILL
            assert words[7].removeprefix("minecraft:").partition("[")[0] in blocks
        elif words[0] == "setblock":
            assert words[4].removeprefix("minecraft:").partition("[")[0] in blocks
        elif words[0] == "summon":
            assert words[1].removeprefix("minecraft:") in catalogue().creatures
    assert sum(" summon " in f" {c.removeprefix('/')}" for c in commands) == len(setup.entities)


_WORDS = st.sampled_from([
    "name: a", "world:", "blocks:", "- {fill: stone, from: [1, 2, 3], to: [1, 2, 3]}", "entities:", "- type: cow",
    "  at: [1, 100, 1]", "tag: ${x}", "parameters:", "x: 3", "extends: villager", "extends: treechop", "outcomes:",
    "o: {killed: cow}", "episode: {max_steps: 3}", "hooks: [a]", "player: {yaw: ${x}}", "- 1", "? a", ": b", "&a", "*a",
    "!!int", "<<: *a", "{", "}", "[", "]", "'", '"', "|", ">", "null", "~", "1e400", ".nan", "0x", "-", "${", "}", "#",
    "hotbar: {0: stone}", "interventions: {a: {kind: b}}", "rules: {mobGriefing: 1}", "%YAML 9.9", "---", "...",
])
_LINES = st.lists(st.tuples(st.integers(0, 6), _WORDS | st.text(max_size=12)), max_size=14).map(
    lambda lines: "\n".join(" " * indent + word for indent, word in lines))


@settings(max_examples=400, deadline=None)
@given(st.one_of(_LINES, st.text(max_size=200)))
@example("a: &a [*a]")
@example("a: " + "9" * 5000)
@example("[" * 3000)
@example("{? [a] : b}")
@example("a: !!python/object/apply:os.system [x]")
@example("\x00")
@example("\ufeffname: a")
@example("hooks: !!set {a, b}")
@example("name: !!null a\nplayer: !!map {}\nhooks: !!seq a")
@example("%TAG ! a\n--- !<b> c")
@example("description: '${((((((((((((((((((((((1))))))))}'")
@example("parameters: {a: {default: 1, choices: 3}}\nhooks: ['${a}']")
def test_any_text_gives_a_scenario_or_a_scenario_error(text: str) -> None:
    try:
        assert isinstance(parse_scenario(text), Scenario)
    except ScenarioError as error:
        assert re.match(r"error: \S", str(error))
        assert all(p.message for p in error.problems)  # type: ignore[attr-defined]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(scenario_names()), st.data())
def test_one_wrong_edit_of_a_good_file_is_never_a_traceback(name: str, data: st.DataObject) -> None:
    text = dump_scenario(load_scenario(name))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    text = text[:start] + data.draw(st.text(max_size=8) | _WORDS) + text[end:]
    try:
        parse_scenario(text)
    except ScenarioError as error:
        assert str(error).startswith("error: ")


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=9) | st.sampled_from(["distance", "robe", "canopy", "trees"]),
                       st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9), max_size=3))
def test_any_parameters_give_a_scenario_or_a_scenario_error(parameters: dict[str, object]) -> None:
    try:
        scenario = load_scenario("villager", parameters=parameters)
    except ScenarioError:
        return
    assert {name: scenario.parameters[name].default for name in parameters} == parameters
