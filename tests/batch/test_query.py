"""SQL over results: the right tables, one clear error, and no way out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fake_results import result, write_cell, write_json, write_suite

from harness.batch.query import ask, export_table
from harness.cli import cli
from harness.errors import HarnessError, SuiteError

duckdb = pytest.importorskip("duckdb", reason='no DuckDB (pip install ".[dev]")')
CELLS = {"villager-0a": {"target": "villager", "seed": "x"}, "trunk-0b": {"target": "tr'unk", "seed": "y"}}
STEPS = [{"step": 0, "keys": ["attack"], "pose": {"x": 1.5}}, {"step": 1, "keys": [], "pose": None}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results")
    for number, (cell, labels) in enumerate(CELLS.items()):
        write_cell(path, cell, labels, [result(cell, labels, seed, {"held": float(number), "ticks": seed + 0.5})
                                        for seed in range(3)], steps=STEPS)
    torn = path / "trials" / "trunk-0b" / "2"
    (torn / "steps.jsonl").write_text('{"step": 0, "keys": []}\n{"step": 1, "ke')
    (path / "trials" / "trunk-0b" / "8").mkdir()
    (path / "trials" / "trunk-0b" / "8" / "steps.jsonl").write_text('{"step": 0}\n')  # no result yet: a half trial
    write_json(path / "trials" / "trunk-0b" / "9" / "result.json", {"format": 2})
    write_suite(path, CELLS, range(3))
    return path


def answer(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with ask(folder, sql) as found:
        return list(found.rows)


def test_trials_have_labels_and_metrics_as_columns(folder: Path) -> None:
    rows = answer(folder, "select cell, seed, target, label_seed, held, ticks from trials order by cell, seed")
    assert rows[0] == ("trunk-0b", 0, "tr'unk", "y", 1.0, 0.5) and len(rows) == 6
    assert answer(folder, "select held, count(*) from trials group by held order by held") == [(0.0, 3), (1.0, 3)]


def test_episodes_and_steps(folder: Path) -> None:
    assert answer(folder, "select count(*), bool_or(struck), max(episode) from episodes") == [(6, False, 0)]
    assert answer(folder, "select cell, count(*) from steps group by all order by all") == [
        ("trunk-0b", 5), ("villager-0a", 6)], "the torn line and the half trial are left out"
    assert answer(folder, "select max((pose->>'x')::double), max(seed) from steps") == [(1.5, 2)]


def test_numbers_of_steps_are_numbers(tmp_path: Path) -> None:
    """Step 10 comes after step 2, and a mean needs no cast; what is nested is JSON."""
    cell = {"target": "villager"}
    steps = [{"step": step, "on_target": step > 5, "log_prob": None if step < 3 else -0.5, "keys": ["attack"],
              "value": None} for step in range(12)]
    write_cell(tmp_path, "villager-0a", cell, [result("villager-0a", cell, 0, {})], steps=steps)
    write_suite(tmp_path, {"villager-0a": cell}, range(1))
    assert [row[0] for row in answer(tmp_path, "select step from steps order by step")] == list(range(12))
    assert answer(tmp_path, "select avg(on_target::int), avg(log_prob), max(keys->>0) from steps") == [
        (0.5, -0.5, "attack")]
    assert answer(tmp_path, "select count(*) from steps where step >= 9 and value is null") == [(3,)]


@pytest.mark.parametrize(("sql", "words"), [
    ("select tarket from trials", "'target'"), ("select trials.hled from trials", "'held'"),
    ("select * from trails", "'trials'"), ("selekt 1", "syntax error"), ("", "one question"),
    ("select 1; select 2", "one question"), ("select cell + 1 from trials", "DuckDB cannot"),
])
def test_a_wrong_question_is_one_clear_error(folder: Path, sql: str, words: str) -> None:
    outcome = CliRunner().invoke(cli, ["batch", "query", str(folder), sql])
    assert outcome.exit_code == 2 and words in outcome.output and "Traceback" not in outcome.output


@pytest.mark.parametrize("sql", [
    "drop table trials", "delete from trials", "create table x as select 1", "copy trials to '{out}'", "attach '{out}'",
    "install httpfs", "load httpfs", "set enable_external_access = true", "pragma database_list",
    "call pragma_version()",
    "select * from '{file}'", "select * from read_text('{file}')", "select * from read_json('{file}')",
    "select * from glob('/*')", "export database '{out}'", "select * from read_csv('http://127.0.0.1:1/x.csv')",
])
def test_a_question_only_reads_and_only_the_tables(folder: Path, tmp_path: Path, sql: str) -> None:
    file, out = folder / "suite.json", tmp_path / "out"
    before = sorted(path.stat().st_mtime_ns for path in folder.rglob("*"))
    with pytest.raises(HarnessError):
        answer(folder, sql.format(file=file, out=out))
    assert not out.exists() and sorted(path.stat().st_mtime_ns for path in folder.rglob("*")) == before


def test_the_three_ways_to_print(folder: Path) -> None:
    def printed(*words: str) -> str:
        outcome = CliRunner().invoke(cli, ["batch", "query", str(folder), "select target, sum(ticks) t from trials "
                                           "group by target order by target", *words])
        assert outcome.exit_code == 0, outcome.output
        return outcome.stdout

    assert printed("--csv") == "target,t\ntr'unk,4.5\nvillager,4.5\n"
    assert '"target": "villager"' in printed("--json")
    assert printed().splitlines()[1].split() == ["tr'unk", "4.5"]


def test_parquet(folder: Path, tmp_path: Path) -> None:
    assert export_table(folder, tmp_path / "trials.parquet") == 6
    assert export_table(folder, tmp_path / "steps.parquet", "steps") == 11
    with duckdb.connect() as database:
        found = database.execute(f"select sum(ticks), min(label_seed) from '{tmp_path / 'trials.parquet'}'").fetchall()
    assert found == [(9.0, "x")] and len(list(tmp_path.iterdir())) == 2
    with pytest.raises(HarnessError, match="ends in .parquet"):
        export_table(folder, tmp_path / "trials.csv")
    with pytest.raises(SuiteError, match="no results"):
        export_table(tmp_path, tmp_path / "x.parquet")


def test_without_duckdb_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(HarnessError) as refusal:
        answer(folder, "select 1")
    assert refusal.value.hint is not None and "harness-bench[query]" in refusal.value.hint
