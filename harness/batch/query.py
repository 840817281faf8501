"""Results as tables for SQL: ``trials``, ``episodes`` and ``steps``, in a database that lives for one question.

The tables are loaded into memory first; then the database is cut off from files and network, and a question may only
read. What is in the folder may be from a stranger: it becomes values, never names of files or SQL.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.batch.results import cell_folders, read_json, read_results
from harness.errors import HarnessError, SuiteError, nearest_names

__all__ = ["TABLES", "Answer", "ask", "export_table"]

TABLES = ("trials", "episodes", "steps")
_MEMORY = "1GB"
_TRIAL: dict[str, type] = {"suite": str, "cell": str, "seed": int, "status": str, "problem": str, "attempts": int,
                           "n_steps": int, "seconds": float}
_EPISODE: dict[str, type] = {"suite": str, "cell": str, "seed": int, "episode": int, "episode_seed": int,
                             "status": str, "n_steps": int}
_SQL = {bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE", str: "VARCHAR"}


@dataclass(frozen=True)
class Answer:
    """The rows that a question has, read while they are asked for.

    Attributes:
        columns: Their names.
        rows: The values, one tuple a row.
    """

    columns: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]


@contextmanager
def ask(folder: str | Path, sql: str) -> Iterator[Answer]:
    """Put a question to the results in a suite's output folder.

    Args:
        folder: Of the suite.
        sql: One ``select``, in DuckDB's words, over ``trials``, ``episodes`` and ``steps``.

    Raises:
        SuiteError: when there are no results.
        HarnessError: when DuckDB is not installed, or cannot make sense of the question.
    """
    duckdb = _duckdb()
    with _loaded(duckdb, Path(folder), _named_in(sql)) as database:
        for setting in ("enable_external_access = false", "lock_configuration = true"):
            database.execute(f"SET {setting}")
        try:
            _check_reads(duckdb, database, sql)
            found = database.execute(sql)
            columns = tuple(column[0] for column in found.description)
        except duckdb.Error as problem:
            raise _refusal(database, problem) from problem
        yield Answer(columns, _rows(duckdb, database, found))


def export_table(folder: str | Path, path: str | Path, table: str = "trials") -> int:
    """Write a table as a Parquet file, whole or not at all.

    Args:
        folder: Of the suite.
        path: The file, ``.parquet``.
        table: Of ``TABLES``.

    Returns:
        How many rows it has.

    Raises:
        SuiteError: when there are no results.
        HarnessError: when DuckDB is not installed, for another suffix, or a file that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".parquet":
        raise HarnessError(f'cannot write "{path.name}": expected a name that ends in .parquet', where=str(path))
    if table not in TABLES:
        raise HarnessError(f'unknown table "{table}"', hint=f"known: {', '.join(TABLES)}")
    duckdb = _duckdb()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with _loaded(duckdb, Path(folder), {table}) as database:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            database.execute(f"COPY {table} TO {_quoted(str(part))} (FORMAT parquet, COMPRESSION zstd)")
            os.replace(part, path)
        except (OSError, duckdb.IOException) as problem:
            raise HarnessError(f"cannot write the table: {problem}", where=str(path)) from problem
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError as problem:
        raise HarnessError("DuckDB is not installed", hint='pip install "harness-bench[query]" brings it') from problem
    return duckdb


@contextmanager
def _loaded(duckdb: Any, folder: Path, tables: set[str]) -> Iterator[Any]:
    """A database with all three tables; ``steps``, which may be large, only where it is asked for."""
    cells = cell_folders(folder)
    if not cells:
        raise SuiteError("there are no results of a suite here", where=str(folder),
                         hint="give the folder that `harness batch SUITE` wrote: batches/SUITE, or its --out")
    with tempfile.TemporaryDirectory(prefix="harness-query-") as scratch:
        database = duckdb.connect(":memory:", config={
            "autoinstall_known_extensions": False, "autoload_known_extensions": False, "memory_limit": _MEMORY,
            "temp_directory": str(Path(scratch) / "spill")})
        try:
            _load(database, Path(scratch), cells, with_steps="steps" in tables)
            yield database
        finally:
            database.close()


def _load(database: Any, scratch: Path, cells: Sequence[Path], *, with_steps: bool) -> None:
    labels = list(dict.fromkeys(str(axis) for cell in cells for axis in _labels(read_json(cell / "cell.json") or {})))
    trials, episodes = _Lines(scratch / "trials", _TRIAL, labels), _Lines(scratch / "episodes", _EPISODE, labels)
    files = _Lines(scratch / "files", {"filename": str, "cell": str, "seed": int, "episode": int}, labels)
    with trials, episodes, files:
        for cell in cells:
            for folder, result in read_results(cell):
                if result is not None:
                    _add(folder, result, trials, episodes, files if with_steps else None)
    trials.load(database, "trials")
    episodes.load(database, "episodes")
    files.load(database, "files")
    _load_steps(database)


def _add(folder: Path, result: Mapping[str, Any], trials: _Lines, episodes: _Lines, files: _Lines | None) -> None:
    cell, seed, labels = folder.parent.name, int(folder.name), _labels(result)
    trials.add({**{key: result.get(key) for key in _TRIAL}, "cell": cell}, labels,
               metric=result.get("metrics"))
    listed = result.get("episodes")
    for number, told in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(told, dict):
            continue
        episodes.add({"suite": result.get("suite"), "cell": cell, "seed": seed, "episode": number,
                      "episode_seed": told.get("seed"), "status": told.get("status"), "n_steps": told.get("n_steps")},
                     labels, measured=told.get("measured"), outcome=told.get("outcomes"))
        for path in (folder / f"episode-{number}" / "steps.jsonl", folder / "steps.jsonl"):
            if files is not None and path.is_file() and not path.is_symlink() and not path.parent.is_symlink():
                files.add({"filename": str(path), "cell": cell, "seed": seed, "episode": number}, labels)
                break


def _load_steps(database: Any) -> None:
    """``steps``: what stands in the files, beside cell, seed, episode and labels. A torn last line is left out."""
    paths = [row[0] for row in database.execute("SELECT filename FROM files ORDER BY filename").fetchall()]
    known = "files.* EXCLUDE (filename)"
    if not paths:
        database.execute(f"CREATE TABLE steps AS SELECT {known}, NULL::BIGINT AS step FROM files")
        return
    lines = f"[{', '.join(map(_quoted, paths))}], format = 'newline_delimited', ignore_errors = true"
    found = database.execute(f"DESCRIBE SELECT * FROM read_json({lines}, union_by_name = true, maximum_depth = 2, "
                             "sample_size = -1)").fetchall()  # at depth 1 numbers would be JSON, which sorts as text
    types = {row[0]: row[1] if row[1] in _SQL.values() else "JSON" for row in found}
    columns = ", ".join(f"{_quoted(name)}: {_quoted(kind)}" for name, kind in types.items())
    database.execute(f"CREATE VIEW lines AS SELECT * FROM read_json({lines}, columns = {{{columns}}}, "
                     "filename = 'harness_file')")
    taken = {row[0].lower() for row in database.execute("DESCRIBE files").fetchall()}
    columns = ", ".join(f"lines.{_name(column)} AS {_name(_free(column, 'step', taken))}" for column in types)
    torn = " AND ".join(f"lines.{_name(column)} IS NULL" for column in types)
    database.execute(f"CREATE TABLE steps AS SELECT {known}, {columns} FROM lines JOIN files "
                     f"ON files.filename = lines.harness_file WHERE NOT ({torn})")
    database.execute("DROP VIEW lines")


class _Lines:
    """Rows on their way into a table: columns and their types are found while the rows are written to a file.

    Args:
        path: The file.
        fixed: Columns that are always there, and their types.
        labels: Names of the axes.
    """

    def __init__(self, path: Path, fixed: Mapping[str, type], labels: Sequence[str]) -> None:
        self._path = path
        self._types: dict[str, type | None] = dict(fixed)
        self._taken = {name.lower() for name in fixed}
        self._names: dict[tuple[str, str], str] = {}
        for label in labels:
            self._types[self._column("label", label)] = None

    def __enter__(self) -> _Lines:
        self._file = self._path.open("w", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, fixed: Mapping[str, Any], labels: Mapping[str, Any], **groups: Any) -> None:
        """A row: the fixed columns, the labels, and groups of columns that are named as they come."""
        row = {name: self._typed(name, value) for name, value in fixed.items()}
        for group, values in (("label", labels), *groups.items()):
            for name, value in values.items() if isinstance(values, dict) else ():
                column = self._column(group, str(name))
                row[column] = self._typed(column, value)
        self._file.write(json.dumps(row) + "\n")

    def load(self, database: Any, table: str) -> None:
        """Make the table."""
        columns = ", ".join(f"{_quoted(name)}: {_quoted(_SQL[kind or str])}" for name, kind in self._types.items())
        database.execute(f"CREATE TABLE {table} AS SELECT * FROM read_json({_quoted(str(self._path))}, "
                         f"format = 'newline_delimited', columns = {{{columns}}})")

    def _column(self, group: str, name: str) -> str:
        """A column's name; with its group before it where another column is called the same."""
        if (group, name) not in self._names:
            self._names[group, name] = _free(name, group, self._taken)
        return self._names[group, name]

    def _typed(self, name: str, value: Any) -> Any:
        """A value as JSON can hold it; a column of several types becomes text."""
        if isinstance(value, dict | list):
            value = json.dumps(value)
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
            value = None
        kind, known = (None if value is None else type(value)), self._types.setdefault(name, None)
        if kind is not None and kind is not known:
            wide = float if {kind, known} == {int, float} else str
            self._types[name] = kind if known is None else wide
        return value


def _free(name: str, group: str, taken: set[str]) -> str:
    free = name
    while free.lower() in taken:
        free = f"{group}_{free}"
    taken.add(free.lower())
    return free


def _labels(told: Mapping[str, Any]) -> dict[str, Any]:
    labels = told.get("labels")
    return labels if isinstance(labels, dict) else {}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _named_in(sql: str) -> set[str]:
    return {table for table in TABLES if re.search(rf"\b{table}\b", sql, re.IGNORECASE)}


def _check_reads(duckdb: Any, database: Any, sql: str) -> None:
    statements = database.extract_statements(sql)
    if len(statements) != 1:
        raise HarnessError(f"expected one question, got {len(statements)} statements",
                           hint="ask them one by one" if statements else
                           '"select * from trials limit 1" shows the columns')
    kinds = duckdb.StatementType
    if statements[0].type not in (kinds.SELECT, kinds.EXPLAIN):
        raise HarnessError(f"expected a question that only reads (select ...), got {statements[0].type.name}",
                           hint="to write a table use `harness batch export FOLDER FILE.parquet`")


def _rows(duckdb: Any, database: Any, found: Any) -> Iterator[tuple[Any, ...]]:
    try:
        while block := found.fetchmany(1000):
            yield from block
    except duckdb.Error as problem:
        raise _refusal(database, problem) from problem


_UNKNOWN: Sequence[tuple[str, str, Callable[[Any], list[str]]]] = (
    (r'[Cc]olumn "([^"]+)" not found', "column",
     lambda database: [row[0] for table in TABLES for row in database.execute(f"DESCRIBE {table}").fetchall()]),
    (r"does not have a column named \"([^\"]+)\"", "column",
     lambda database: [row[0] for table in TABLES for row in database.execute(f"DESCRIBE {table}").fetchall()]),
    (r"Table with name (\S+) does not exist", "table", lambda database: list(TABLES)),
)


def _refusal(database: Any, problem: Exception) -> HarnessError:
    """DuckDB's words as one error, with the nearest names of ours."""
    words = str(problem)
    for pattern, kind, names in _UNKNOWN:
        if found := re.search(pattern, words):
            known = sorted(set(names(database)))
            near = nearest_names(found[1], known) or nearest_names(found[1].lower(), known)
            hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
            listed = known if kind == "table" or not near else []
            return HarnessError(f'unknown {kind} "{found[1]}"',
                                hint=f"{hint}known: {', '.join(listed)}" if listed else hint.strip())
    if "file system operations are disabled" in words:
        return HarnessError("a question reads the tables of this folder, and no other file",
                            hint=f"the tables: {', '.join(TABLES)}")
    text = re.sub(r"^\w+(?: \w+)? Error: ", "", words).strip()
    return HarnessError(f"DuckDB cannot answer this: {text}", hint=f"one select over {', '.join(TABLES)}; "
                        '"select * from trials limit 1" shows the columns')
