"""The result store: a folder of result files, partitioned so that DuckDB can query all of them at once.

A run lies at `suite=…/device=…/commit=…/<when>-<which>.jsonl`: the same records as in the file that it was
added from, so that every view reads it. `device` is the kind, cpu or cuda; the hardware is in the header.
"""

import glob
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from bench.errors import UsageError
from bench.records.reading import Results, read
from bench.records.run import Header
from bench.system.extras import require

Load = Callable[[Path], Results]
ListRuns = Callable[[Path, str], list["Stored"]]

PARTITIONS = ("suite", "device", "commit")

_LAYOUT = "/".join([*(f"{name}=*" for name in PARTITIONS), "*.jsonl"])
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_FIELDS = {
    "type": "VARCHAR",
    "created": "TIMESTAMPTZ",
    "data": "VARCHAR",
    "environment": "JSON",
    "case": "JSON",
    "status": "VARCHAR",
    "reason": "VARCHAR",
    "parameters": "BIGINT",
    "step_seconds": "DOUBLE",
    "memory": "JSON",
    "case_id": "VARCHAR",
    "block": "INTEGER",
    "round": "INTEGER",
    "visit": "INTEGER",
    "steps": "INTEGER",
    "seconds": "DOUBLE",
    "activation": "JSON",
    "throttled": "VARCHAR",
}
"""Fields of records that queries see. The activation of a solo is an object, that of a sample a number."""

_VIEWS = {
    "runs": """
        SELECT suite, device, "commit", file, created, data, environment->>'hardware' AS hardware,
            (environment->>'threads')::INTEGER AS threads, environment->>'torch' AS torch, environment
        FROM records WHERE type = 'header'""",
    "cases": """
        SELECT suite, device, "commit", file, "case"->>'implementation' AS implementation,
            "case"->>'workload' AS workload, ("case"->>'length')::INTEGER AS length,
            ("case"->>'batch')::INTEGER AS batch, "case"->>'precision' AS precision,
            "case"->>'phase' AS phase, ("case"->>'activation')::DOUBLE AS activation_set, status, reason,
            parameters, step_seconds, (activation->>'mean')::DOUBLE AS activation_rate, memory
        FROM records WHERE type = 'solo'""",
    "samples": """
        SELECT suite, device, "commit", file, case_id, block, round, visit, steps, seconds,
            seconds / steps AS step_seconds, activation::DOUBLE AS activation_rate, throttled
        FROM records WHERE type = 'sample'""",
}
"""Tables of queries: headers of runs, cases alone, and timed runs."""


@dataclass(frozen=True)
class Stored:
    """A run in the store, and the commit that it measured."""

    path: Path
    commit: str


@dataclass(frozen=True)
class Answer:
    """Answer to a query."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def records(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def add(path: Path, folder: Path, commit: str | None = None) -> Path:
    """Copy a run into the store, and return its path there; a run that has grown since replaces its copy.

    commit: hash of the code that was measured, if the file does not say (an installed package has no commit).
    Raises UsageError: not a result file, no commit, or another file in its place.
    """
    results = read(path)
    if results.header.revisions is not None:
        raise UsageError(f"{path}: holds a gate's raw data (bench regress or doctor), not a run of a suite")
    values = (results.header.suite.name, results.kind, _commit(results, commit))
    pairs = zip(PARTITIONS, values, strict=True)
    target = folder.joinpath(*(f"{name}={quote(value, safe='')}" for name, value in pairs), _name(results))
    try:
        _copy(path, target)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written ({error.strerror})") from None
    return target


def runs_of(folder: Path, suite: str) -> list[Stored]:
    """Runs of a suite, in the order of their paths."""
    return [Stored(path, _value(path.parent)) for path in _files(folder) if _value(path.parents[2]) == suite]


def find(
    folder: Path, suite: str, implementation: str, load: Load = read, list_runs: ListRuns = runs_of
) -> list[Stored]:
    """The runs of a suite that have this implementation. Raises UsageError if there are none.

    load: reads a run, by default from its file. list_runs: lists the runs of a suite, by default anew.
    """
    runs = list_runs(folder, suite)
    found = [run for run in runs if implementation in _models(load(run.path))]
    if found:
        return found
    known = sorted({model for run in runs for model in _models(load(run.path))})
    has = f"its models there: {', '.join(known)}" if runs else f"its suites: {', '.join(suites(folder))}"
    raise UsageError(f"{folder}: has no {implementation!r} of the suite {suite!r}; {has}")


def models(folder: Path, suite: str, load: Load = read, list_runs: ListRuns = runs_of) -> list[str]:
    """Implementations of a suite that have runs. Raises UsageError if there are none."""
    found = {model for run in list_runs(folder, suite) for model in _models(load(run.path))}
    if not found:
        raise UsageError(f"{folder}: has no suite {suite!r}; it has {', '.join(suites(folder))}")
    return sorted(found)


def suites(folder: Path) -> list[str]:
    """Suites that have runs, by name. Raises UsageError if there is no store."""
    return sorted({_value(path.parents[2]) for path in _files(folder)})


def _models(results: Results) -> set[str]:
    return {solo.case.implementation for solo in results.solos.values()}


def _files(folder: Path) -> list[Path]:
    """Every run. Raises UsageError if there is none."""
    files = sorted(folder.glob(_LAYOUT), key=str)
    if not files:
        raise UsageError(f"{folder}: holds no runs; add some with bench store add FILE...")
    return files


def _value(partition: Path) -> str:
    """Value in the name of a partition's folder."""
    return unquote(partition.name.partition("=")[2])


def query(folder: Path, sql: str, parameters: Sequence[object] = ()) -> Answer:
    """Query the store's tables `runs`, `cases` and `samples` in DuckDB's SQL.

    Raises UsageError: no store, or what DuckDB says is wrong with the query.
    """
    duckdb = require("duckdb", "store")
    files = list(map(str, _files(folder)))
    with duckdb.connect() as connection:
        try:
            connection.execute(f"CREATE VIEW records AS SELECT *, filename AS file FROM {_source(files)}")
            for name, view in _VIEWS.items():
                connection.execute(f"CREATE VIEW {name} AS {view}")
            answer = connection.execute(sql, list(parameters))
            if answer is None:
                raise UsageError("the query is empty")
            columns = tuple(column[0] for column in answer.description)
            return Answer(_distinct(columns), answer.fetchall())
        except duckdb.Error as error:
            raise UsageError(f"{folder}: {' '.join(str(error).split())}") from None


def _distinct(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Raises UsageError if two have one name."""
    twice = [name for number, name in enumerate(columns) if name in columns[:number]]
    if twice:
        raise UsageError(f"the query gives two columns the name {twice[0]}: name one otherwise, with AS")
    return columns


def _source(files: Sequence[str]) -> str:
    quoted = ", ".join("'" + glob.escape(file).replace("'", "''") + "'" for file in files)
    columns = ", ".join(f"\"{name}\": '{kind}'" for name, kind in _FIELDS.items())
    return (
        f"read_json([{quoted}], format = 'newline_delimited', columns = {{{columns}}}, filename = true, "
        "hive_partitioning = true, hive_types_autocast = false)"
    )


def _commit(results: Results, named: str | None) -> str:
    if named is not None:
        if not _COMMIT.fullmatch(named):
            raise UsageError(f"--commit {named}: give a commit's whole hash (git rev-parse HEAD prints it)")
        return named
    environment = results.header.environment
    if environment.commit is None:
        raise UsageError(f"{results.path}: does not say which commit it measured; name it with --commit")
    if environment.dirty:
        raise UsageError(
            f"{results.path}: measured {environment.commit[:9]} with uncommitted changes; "
            "name the commit that it stands for with --commit"
        )
    return environment.commit


def _name(results: Results) -> str:
    """File name of a run, the same however much of it has been measured."""
    header: Header = results.header
    which = hashlib.sha256(msgspec.json.encode(header)).hexdigest()[:12]
    return f"{re.sub('[^0-9T]', '', header.created.partition('+')[0])}-{which}.jsonl"


def _copy(source: Path, target: Path) -> None:
    content = source.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if target.exists() and not whole.startswith(target.read_bytes()):
        raise UsageError(f"{source}: the store has more of this run, or other figures: {target}")
    target.parent.mkdir(parents=True, exist_ok=True)
    written = target.with_suffix(".part")
    written.write_bytes(whole)
    os.replace(written, target)
