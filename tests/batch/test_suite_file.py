"""Suite files: the matrix of GitHub Actions, and every mistake with its line."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_suites import SUITE, write_tiny

from harness.batch.load import SuiteFileError, load_suite, parse_suite, suite_names
from harness.batch.metrics import USUAL
from harness.batch.suite import Budget, RecordingPolicy
from harness.errors import HarnessError, SuiteError

TEXT = SUITE.replace("AGENTS", "noop, random")


def test_every_combination_is_a_cell() -> None:
    suite = parse_suite(TEXT)
    assert (suite.name, suite.axes, len(suite.cells), suite.n_trials) == ("tiny", ("target", "agent"), 4, 20)
    titles = [cell.title for cell in suite.cells]
    assert titles == ["villager, noop", "villager, random", "trunk, noop", "trunk, random"]
    villager, _, trunk, _ = suite.cells
    assert villager.scenario.parameters["distance"].default == 3 == trunk.scenario.parameters["distance"].default
    assert (villager.steps, trunk.steps) == (8, 5)
    assert villager.target.tag == "target" and trunk.target.cells == {(0, 100, 3), (0, 101, 3)}
    assert suite.fewer(2).n_trials == 8 and suite.fewer(2).cells[0].seeds == range(40, 42)


def include(*rows: str) -> str:
    return TEXT + "".join(f"  - {row}\n" for row in rows)


def test_include_adds_to_what_it_matches_and_a_later_row_wins() -> None:
    suite = parse_suite(include("{agent: noop, steps: 3}", "{target: trunk, agent: noop, steps: 2}", "{trees: 1}"))
    assert [cell.steps for cell in suite.cells] == [3, 8, 2, 5]
    assert {cell.scenario.parameters["trees"].default for cell in suite.cells} == {1}


def test_include_with_all_axes_adds_a_combination() -> None:
    suite = parse_suite(include("{target: cow, agent: chopper, creature: cow}"))
    assert suite.cells[-1].labels == {"target": "cow", "agent": "chopper"}
    assert suite.cells[-1].scenario.world.entities[0].type == "cow"  # type: ignore[union-attr]
    assert len(suite.cells) == 5


def test_exclude_comes_before_include() -> None:
    suite = parse_suite(include("{target: trunk, agent: noop, creature: none, trunk: birch_log}")
                        + "exclude:\n  - {agent: noop}\n")
    assert [cell.title for cell in suite.cells] == ["villager, random", "trunk, random", "trunk, noop"]
    assert suite.cells[-1].steps == 8, "it came later than the row for trunks, which added nothing to it"


AXES = ("a", "b", "c")
rows = st.dictionaries(st.sampled_from(AXES), st.integers(0, 2), min_size=1)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*(st.integers(1, 3) for _ in AXES)), st.lists(rows, max_size=3))
def test_the_matrix_is_the_product_less_the_excluded(sizes: tuple[int, ...], excluded: list[dict[str, int]]) -> None:
    """Against the definition, written as a filter."""
    values = [range(n) for n in sizes]
    every = [dict(zip(AXES, combination, strict=True)) for combination in itertools.product(*values)]
    left = [c for c in every if not any(all(c[k] == v for k, v in row.items()) for row in excluded)]
    text = "labels: [a, b, c]\ndefaults: {scenario: trunk, agent: noop, steps: 1, seeds: {first: 0, count: 1}}\n"
    text += f"matrix: {dict(zip(AXES, map(list, values), strict=True))}\nexclude: {excluded}\n"
    if not left or any(not any(all(c[k] == v for k, v in row.items()) for c in every) for row in excluded):
        with pytest.raises(SuiteFileError, match="matches no combination|everything is excluded"):
            parse_suite(text)
    else:
        assert [dict(cell.labels) for cell in parse_suite(text).cells] == left


MISTAKES = {
    "unknown key": (("name: tiny", "nmae: tiny"), 'unknown key in a suite "nmae"', "1:1", "name"),
    "unknown cell key": (("  steps: 8", "  stesp: 8"), '"stesp"', "7:3", "steps"),
    "unknown parameter": (("distance: 3", "distnace: 3"), '"distnace"', "6:3", "distance"),
    "undeclared label": (("labels: [target]", "labels: []"), '"target"', "10:3", "declared under labels"),
    "a label with a meaning": (("labels: [target]", "labels: [target, agent]"), "labels: agent", "2:9", "leave it out"),
    "unknown agent": (("noop, random", "noop, rnadom"), 'unknown agent "rnadom"', "11:17", "random"),
    "unknown scenario": (("scenario: villager", "scenario: vilager"), "vilager", "4:13", "villager"),
    "value out of range": (("distance: 3", "distance: 99"), "from 2 to 30 (got 99)", "6:13", ""),
    "value of another sort": (("distance: 3", "distance: near"), "expected a number", "6:13", ""),
    "unknown block": (("trunk: oak_log", "trunk: oak_lgo"), "oak_lgo", "4:13", "oak_log"),
    "steps beyond the scenario": (("steps: 5", "steps: 601"), "1 to 600", "13:60", ""),
    "seeds of another form": (("{first: 40, count: 5}", "{first: 40}"), "{first: N, count: N}", "8:10", ""),
    "a seed twice": (("{first: 40, count: 5}", "[4, 5, 4]"), "holds one twice", "8:10", ""),
    "unknown metric": (("name: tiny", "metrics: [hold]"), 'unknown metric "hold"', "1:10", "held"),
    "unknown outcome": (("name: tiny", "metrics: ['outcome:mined_lgo']"), '"mined_lgo"', "1:10", "mined_log"),
    "unknown analysis": (("name: tiny", "metrics: [{analysis: memroy, value: a}]"), "memroy", "1:10", "memory"),
    "an analysis without a place": (("name: tiny", "metrics: [{analysis: memory}]"), "the place of a value", "1:10",
                                    "tables/0"),
    "a budget of another form": (("name: tiny", "budget: 30"), "budget: expected", "1:9", "minutes: 30"),
    "no time": (("name: tiny", "timeout: 0"), "timeout: expected a number", "1:10", ""),
    "retries of another sort": (("name: tiny", "retries: many"), "retries: expected", "1:10", ""),
    "unknown policy": (("name: tiny", "record: some"), "record: expected all, failures", "1:9", ""),
    "unknown intervention": (("  steps: 8", "  intervene: no-laeves"), '"no-laeves"', "7:14", "no-leaves"),
    "an intervention without a kind": (("  steps: 8", "  intervene: {keys: [attack]}"), "a mapping with its kind",
                                       "7:14", "KeyBlock"),
    "an intervention out of the folder": (("  steps: 8", "  intervene: ../edits.yaml"), "leads out", "7:14", ""),
    "unknown backend": (("  steps: 8", "  backend: blokworld"), '"blokworld"', "7:12", "blockworld"),
    "episodes of another sort": (("  steps: 8", "  episodes: 0"), "episodes: expected", "7:13", ""),
    "no seeds": (("count: 5", "count: 0"), "count from 1", "8:10", ""),
    "seeds left out": (("  seeds: {first: 40, count: 5}\n", ""), 'no "seeds" is given', "1:1", "defaults"),
    "empty axis": (("[villager, trunk]", "[]"), "target: the axis is empty", "10:3", ""),
    "an axis that is no list": (("[villager, trunk]", "villager"), "the axis is empty", "10:3", ""),
    "no matrix": (("matrix:", "matrx:"), "the matrix is empty", "1:1", "canopy"),
    "a value twice": (("[villager, trunk]", "[villager, villager]"), "stands there twice", "10:22", ""),
    "include matches nothing": (("{target: trunk,", "{target: trnuk,"), "include: this row matches no combination",
                                "13:5", "did you mean 'trunk'"),
    "no target": (("trunk: oak_log, ", ""), "has no target", "4:13", "tag a creature"),
    "a row that is no mapping": (("  - {target", "  - trunk\n  - {target"), "include: expected keys and values", "13:5",
                                 ""),
    "a list as a value": (("distance: 3", "distance: [3, 4]"), "distance: expected a single value", "6:13", ""),
    "a folder left": (("noop, random", "../noop.yaml"), "leads out of the suite's folder", "11:11", "beside the suite"),
    "a name with a slash": (("name: tiny", "name: a/b"), "name: expected letters", "1:7", ""),
    "a key twice": (("  steps: 8", "  steps: 8\n  steps: 9"), 'duplicate key "steps"', "8:3", "line 7"),
    "broken YAML": (("matrix:", "matrix: {"), "not valid YAML", "", ""),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_every_mistake_has_its_line(case: str) -> None:
    (old, new), message, place, hint = MISTAKES[case]
    assert old in TEXT
    with pytest.raises(SuiteFileError) as caught:
        parse_suite(TEXT.replace(old, new), name="mine.yaml")
    first = next(p for p in caught.value.problems if message in p.message)
    assert first.place is not None
    assert not place or first.where == f"mine.yaml:{place}"
    assert hint in (first.hint or "")


def test_exclude_that_matches_nothing_or_everything() -> None:
    with pytest.raises(SuiteFileError, match=r"exclude: this row matches no combination[\s\S]*did you mean 'noop'"):
        parse_suite(TEXT + "exclude:\n  - {agent: nop}\n")
    with pytest.raises(SuiteFileError, match=r"unknown axis in exclude: \"agnet\"[\s\S]*'agent'"):
        parse_suite(TEXT + "exclude:\n  - {agnet: noop}\n")
    with pytest.raises(SuiteFileError, match="everything is excluded"):
        parse_suite(TEXT + "exclude:\n  - {agent: noop}\n  - {agent: random}\n")


def test_all_mistakes_come_at_once_in_the_order_of_lines() -> None:
    text = TEXT.replace("distance: 3", "distance: 99").replace("steps: 8", "steps: 0").replace("random", "rnadom")
    with pytest.raises(SuiteFileError, match=r"3 problems in mine\.yaml") as caught:
        parse_suite(text, name="mine.yaml")
    assert [p.place.line + 1 for p in caught.value.problems if p.place] == [6, 7, 11]


def test_selecting_cells(tmp_path: Path) -> None:
    path = write_tiny(tmp_path, agents="noop, random, somebody-else")
    with pytest.raises(SuiteFileError, match=r'unknown agent "somebody-else"') as caught:
        load_suite(path)
    assert "suite.yaml:11:25" in str(caught.value) and "--only agent=NAME" in str(caught.value)
    titles = [cell.title for cell in load_suite(path, only=["agent=noop"]).cells]
    assert titles == ["villager, noop", "trunk, noop"]
    titles = [cell.title for cell in load_suite(path, only=["agent=noop", "agent=random", "target=trunk"]).cells]
    assert titles == ["trunk, noop", "trunk, random"]
    for only, message in ((["agent"], "AXIS=VALUE"), (["agnet=noop"], 'unknown axis in --only: "agnet"'),
                          (["agent=nop"], r'unknown value of agent in --only: "nop"')):
        with pytest.raises(SuiteError, match=message):
            load_suite(path, only=only)


def test_a_selection_that_the_file_excludes_is_said() -> None:
    text = TEXT + "exclude:\n  - {agent: noop, target: trunk}\n"
    with pytest.raises(HarnessError, match="leaves no cell"):
        parse_suite(text, only=["agent=noop", "target=trunk"])


def test_files_beside_the_suite(tmp_path: Path) -> None:
    path = write_tiny(tmp_path)
    assert load_suite(path).cells[0].agent == str(tmp_path / "tiny.yaml")
    with pytest.raises(SuiteError, match="no suite file or name"):
        load_suite(tmp_path / "none.yaml")
    with pytest.raises(SuiteError, match="is a folder"):
        load_suite(tmp_path)
    path.write_bytes(b"name: \xff")
    with pytest.raises(SuiteError, match="not a text file"):
        load_suite(path)


def test_too_much_is_refused() -> None:
    axis = "[" + ", ".join(map(str, range(101))) + "]"
    with pytest.raises(SuiteFileError, match="more than 10,000 combinations"):
        parse_suite(f"labels: [a, b]\nmatrix: {{a: {axis}, b: {axis}}}\n")


def test_what_a_run_is_told(tmp_path: Path) -> None:
    more = ("metrics: [held, 'outcome:mined_log', {analysis: memory, value: tables/0/rows/0/1, name: reach}]\n"
            "budget: {trials: 7, minutes: 1.5}\ntimeout: 20\nretries: 2\nrecord: {first: 3, hooks: ['blocks.*']}\n")
    suite = parse_suite(more + TEXT)
    assert [metric.name for metric in suite.metrics] == ["held", "outcome:mined_log", "reach"]
    assert suite.budget == Budget(7, 1.5) and (suite.timeout, suite.retries) == (20, 2)
    assert suite.record == RecordingPolicy("first", 3, ("blocks.*",))
    assert [suite.record.records(place) for place in (0, 2, 3)] == [True, True, False]
    assert parse_suite(TEXT).metrics == USUAL and parse_suite(TEXT).digest != suite.digest


def test_seeds_may_be_a_count_or_a_list() -> None:
    for text, seeds in (("3", range(3)), ("[9, 2]", (9, 2)), ("{first: 5, count: 2}", range(5, 7))):
        cell = parse_suite(TEXT.replace("{first: 40, count: 5}", text)).cells[0]
        assert cell.seeds == seeds and cell.episode_seeds(9) == [9]
    seeds = parse_suite(TEXT.replace("  steps: 8", "  steps: 8\n  episodes: 3")).cells[0].episode_seeds(9)
    assert len(set(seeds)) == 3 and seeds[0] == 9


def test_interventions_as_an_axis() -> None:
    text = TEXT.replace("  agent: [noop, random]", "  agent: [noop]\n  intervene: [none, no-leaves, {kind: KeyBlock, "
                        "keys: [attack]}, [no-leaves, robe-desert]]")
    cells = parse_suite(text).cells[:4]
    assert [cell.intervene for cell in cells] == [
        (), ("no-leaves",), ({"kind": "KeyBlock", "keys": ["attack"]},), ("no-leaves", "robe-desert")]
    assert [cell.title for cell in cells][2:] == ["villager, noop, KeyBlock keys=['attack']",
                                                  "villager, noop, no-leaves + robe-desert"]


def test_the_finding() -> None:
    """The bundled suite: its cells and seeds were fixed before anybody looked at a result."""
    assert "villager" in suite_names()
    suite = load_suite("villager", only=["agent=vpt-nano"])
    assert suite.axes == ("target", "canopy", "agent", "approach") and len(suite.cells) == 24
    counts = {cell.title: len(cell.seeds) for cell in suite.cells}
    assert {count for title, count in counts.items() if not title.startswith("cow")} == {200}
    assert {count for title, count in counts.items() if title.startswith("cow")} == {60}
    assert {cell.seeds.start for cell in suite.cells} == {300_000}
    for cell in suite.cells:
        equal = cell.labels["approach"] == "equalised"
        assert cell.steps == (160 if equal else 400) and cell.target.at == (0.5, 4.5 if equal else 6.5)
        assert cell.scenario.player.jitter.yaw == 8
        assert (cell.target.tag is None) == (cell.labels["target"] == "trunk")
