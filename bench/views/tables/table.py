"""The table of one or several result files: rows in the published order, with notes on all that is missing.

A view on records. Several files become one table by four rules:

1. The same run given twice counts once.
2. A ratio is formed within its own file, never across two; all files must therefore have the baseline.
3. Rows are the same only if case, backend, seed, data, weights and machine (device, hardware, threads, torch,
   allocator, pairing, environment variables) are. What differs between the rows of a table gets a column, and
   only rows that agree in all of it are ranked against each other.
4. If two files have the same row, the newest run that reached it counts, even if it failed there; a
   note names the other file and what it says.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec

from bench.errors import UsageError
from bench.records.reading import Results
from bench.suites.rows import named
from bench.system.extras import require
from bench.text.units import format_ratio
from bench.views.tables import formats
from bench.views.tables.choice import chosen_rows
from bench.views.tables.column import Column, cells_of
from bench.views.tables.columns import columns_of, metric_columns
from bench.views.tables.footer import footer_of, of_run
from bench.views.tables.footnotes import STATUS_WORDS, Footnote, explain, footnotes_of, row_name
from bench.views.tables.formats import Format
from bench.views.tables.grid import Cell, Grid, Section, Tabular
from bench.views.tables.notes import arithmetic_notes, comparison_notes, run_notes
from bench.views.tables.row import Row
from bench.views.tables.rows import NOT_REACHED, rows_of
from bench.views.tables.titles import title_of

COMPLEXITIES = ("quadratic", "sub-quadratic", "linear", "unknown")
"""Classes of inference complexity, in the order of the published table."""


@dataclass(frozen=True, repr=False)
class Table(Tabular):
    """Rows in order, and the lines that belong below them."""

    baseline: str
    """Title of the model that ratios are to."""
    rows: list[Row]
    footnotes: dict[int, Footnote]
    """Footnotes by number of the row."""
    notes: list[str]
    footer: list[str]
    published: bool = False
    """Whether the published accuracies stand beside the measured figures."""
    timed: bool = True
    """Whether there are times; a table without them shows those columns only that say something."""
    promised: Sequence[str] = ()
    """Fields whose columns stand in a table without times even if every row failed."""

    @property
    def columns(self) -> list[Column]:
        return self._columns()

    def _columns(self, digits: int | None = None) -> list[Column]:
        return columns_of(
            self.rows,
            self.baseline,
            published=self.published,
            timed=self.timed,
            promised=self.promised,
            digits=digits,
        )

    def cells(self, columns: Sequence[Column]) -> Iterator[list[Cell]]:
        """The cells of each row."""
        return cells_of(self.rows, self.footnotes, columns)

    def grids(self, digits: int | None = None) -> list[Grid]:
        """One grid: rows by panel and, if they are of several complexity classes, by class."""
        columns = self._columns(digits)
        grouped = len({row.complexity for row in self.rows}) > 1
        rows = zip(self.rows, self.cells(columns), strict=True)
        parts = groupby(rows, key=lambda pair: (pair[0].panel, pair[0].complexity if grouped else None))
        sections = [Section(heading, [cells for _, cells in part]) for (_, heading), part in parts]
        return [Grid([column.head for column in columns], sections)]

    def figures(self, rows: Sequence[Row]) -> Iterator[list[object]]:
        """Every figure in full, a column each."""
        nested = {"activation_by_layer", "published_accuracy", "metrics", "remarks", "code"}
        names = [name for name in Row.__struct_fields__ if name not in nested]
        metrics = metric_columns(self.rows)
        yield [*names, *(column.head.one_line for column in metrics)]
        for row in rows:
            own = [column.value(row) if column.value else None for column in metrics]
            yield [*(getattr(row, name) for name in names), *own]

    @property
    def below(self) -> list[str]:
        return [*self.notes, *self.footer]

    def render(self, form: Format) -> str:
        """The table as terminal, markdown, latex, csv, html or json. Raises UsageError for another format."""
        return formats.render(self, form)

    def to_pandas(self) -> Any:
        """The rows as a pandas.DataFrame, a column per field of the CSV. Raises UsageError without it."""
        names, *lines = self.figures(self.rows)
        return require("pandas", "pandas").DataFrame(lines, columns=names)

    def __repr__(self) -> str:
        models = len({row.model for row in self.rows})
        return f"<Table {len(self.rows)} rows, {models} models, against {self.baseline}>"

    def __str__(self) -> str:
        return self.render("terminal")

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        return self.render("html")


def build_table(
    *results: Results,
    baseline: str | None = None,
    published: bool = False,
    models: Sequence[str] | None = None,
) -> Table:
    """The table of one or several runs, against their baseline or another of their implementations.

    models: those that have rows, by name or title; all by default.

    Raises UsageError if a file lacks the baseline, or if the files' own baselines differ.
    """
    runs = _distinct(results)
    name = baseline_of(runs, baseline)
    rows, conflicts = _merge([rows_of(run, name) for run in runs])
    rows = sorted(rows, key=_order(rows))
    compared = comparison_notes(rows, name, runs)
    rows = chosen_rows(rows, models, model_names)
    footnotes = footnotes_of(rows, explain)
    notes = [f"{note.letter}  {note.text}" for note in dict.fromkeys(footnotes.values())]
    notes += [*compared, *conflicts]
    for run in runs:
        notes += [of_run(line, run, runs) for line in (*run_notes(run), *arithmetic_notes(run, rows))]
    return Table(title_of(name), rows, footnotes, notes, footer_of(runs, rows, published), published)


def _distinct(results: Sequence[Results]) -> list[Results]:
    return list({msgspec.json.encode(run.header): run for run in results}.values())


def baseline_of(runs: Sequence[Results], wanted: str | None) -> str:
    """Name of the model that ratios are to. Raises UsageError if the files' own ones differ."""
    return common_baseline(runs) if wanted is None else named(runs[0].header.suite, wanted)


def common_baseline(runs: Sequence[Results]) -> str:
    names = {run.header.suite.baseline: run.path for run in runs}
    if len(names) > 1:
        (one, first), (other, second) = list(names.items())[:2]
        raise UsageError(
            f"{first} is against {one}, {second} against {other}: name one for both with --baseline"
        )
    return next(iter(names))


def model_names(row: Row) -> tuple[str, str]:
    """Names that a user may call its model by."""
    return (row.model, row.title)


def _merge(tables: Sequence[list[Row]]) -> tuple[list[Row], list[str]]:
    """One row for each cell, by rule 4, and a note for each that gave way."""
    kept: dict[tuple[object, ...], Row] = {}
    notes = []
    for row in sorted((row for rows in tables for row in rows), key=lambda row: row.created, reverse=True):
        standing = kept.setdefault(row.cell, row)
        if standing is row or row.reason == NOT_REACHED:
            continue
        if standing.reason == NOT_REACHED:
            kept[row.cell] = row
        else:
            notes.append(
                f"{row_name(row)}: {standing.run} ({_says(standing)}) is newer than {row.run} ({_says(row)})"
            )
    return [row for rows in tables for row in rows if kept[row.cell] is row], notes


def _says(row: Row) -> str:
    if row.status != "ok":
        return STATUS_WORDS.get(row.status, row.status)
    return "not timed" if row.speed_ratio is None else f"speed {format_ratio(row.speed_ratio)}"


def _order(rows: Sequence[Row]) -> Callable[[Row], tuple[int, int, int]]:
    """Sort key: by setting and machine as they come, then by length, by class, else as the suite has them."""
    places = {place: number for number, place in enumerate(dict.fromkeys(row.place for row in rows))}
    return lambda row: (places[row.place], row.length, class_rank(row))


def class_rank(row: Row) -> int:
    return COMPLEXITIES.index(row.complexity) if row.complexity in COMPLEXITIES else len(COMPLEXITIES)
