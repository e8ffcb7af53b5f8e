"""The table of one or several result files: rows in the published order, with notes on all that is missing.

A view on records. Several files become one table by four rules:

1. The same run given twice counts once.
2. A ratio is formed within its own file, never across two; all files must therefore have the baseline.
3. Rows are the same only if case, device, hardware, threads and torch are. What differs between the rows of
   a table gets a column, and only rows that agree in all of it are ranked against each other.
4. Where two files have the same row, the newest run that reached it stands, also where it failed there; a
   note names the other file and what it says.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from bench.errors import UsageError
from bench.records.reading import Results
from bench.text.units import format_ratio
from bench.views.tables.notes import (
    STATUS_WORDS,
    Footnote,
    comparison_notes,
    explain,
    footer_of,
    footnotes_of,
    machine,
    name_of,
    of_run,
    run_notes,
    setting_of,
)
from bench.views.tables.rows import NOT_REACHED, Row, machine_of, rows_of, title_of

if TYPE_CHECKING:
    from bench.views.tables.formats import Format

COMPLEXITIES = ("quadratic", "sub-quadratic", "linear", "unknown")
"""Classes of inference complexity, in the order of the published table."""


class Table(msgspec.Struct, frozen=True):
    """Rows in order, and the lines that belong below them."""

    baseline: str
    """Title of the model that ratios are to."""
    rows: list[Row]
    footnotes: dict[int, Footnote]
    """By number of the row."""
    notes: list[str]
    footer: list[str]
    published: bool = False
    """Whether the published accuracies stand beside the measured figures."""
    timed: bool = True
    """Whether there are times; a table without them shows those columns only that say something."""

    @property
    def grouped(self) -> bool:
        """Whether the rows fall into several complexity classes."""
        return len({row.complexity for row in self.rows}) > 1

    def render(self, form: "Format") -> str:
        """The table as terminal, markdown, latex, csv, html or json. Raises UsageError for another format."""
        from bench.views.tables import formats  # which is written in terms of this module

        if form not in formats.FORMATS:
            raise UsageError(f"table format {form}: choose {', '.join(formats.FORMATS)}")
        return formats.render(self, form)

    def __str__(self) -> str:
        return self.render("terminal")

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return self.render("html")


def build_table(*results: Results, baseline: str | None = None, published: bool = False) -> Table:
    """The table of one or several runs, against their baseline or another of their implementations.

    Raises UsageError where a file lacks the baseline, or where the files' own baselines differ.
    """
    runs = _distinct(results)
    name = baseline or common_baseline(runs)
    rows, conflicts = _merge([rows_of(run, name) for run in runs])
    rows = sorted(rows, key=_order(rows))
    footnotes = footnotes_of(rows, explain)
    notes = [f"{note.letter}  {note.text}" for note in dict.fromkeys(footnotes.values())]
    notes += [*comparison_notes(rows, name), *conflicts]
    for run in runs:
        notes += [of_run(line, run, runs) for line in run_notes(run)]
    return Table(title_of(name), rows, footnotes, notes, footer_of(runs, rows, published), published)


def untimed_table(run: Results, rows: list[Row], notes: list[str]) -> Table:
    """The table of rows that nobody timed; the reason of each that has no figure stands in a footnote."""
    rows = sorted(rows, key=_rank)
    footnotes = footnotes_of(rows, lambda row: row.reason or row.status)
    reasons = [f"{note.letter}  {note.text}" for note in dict.fromkeys(footnotes.values())]
    environment = run.header.environment
    footer = [setting_of(run, rows), f"{environment.hardware}, {machine(run)}"]
    title = title_of(run.header.suite.baseline)
    return Table(title, rows, footnotes, reasons + notes, footer, timed=False)


def _distinct(results: Sequence[Results]) -> list[Results]:
    return list({msgspec.json.encode(run.header): run for run in results}.values())


def common_baseline(runs: Sequence[Results]) -> str:
    names = {run.header.suite.baseline: run.path for run in runs}
    if len(names) > 1:
        (one, first), (other, second) = list(names.items())[:2]
        raise UsageError(
            f"{first} is against {one}, {second} against {other}: name one for both with --baseline"
        )
    return next(iter(names))


def _merge(tables: Sequence[list[Row]]) -> tuple[list[Row], list[str]]:
    """One row for each cell, by rule 4, and a note for each that gave way."""
    kept: dict[tuple[str, str, str, int, str], Row] = {}
    notes = []
    for row in sorted((row for rows in tables for row in rows), key=lambda row: row.created, reverse=True):
        standing = kept.setdefault(row.cell, row)
        if standing is row or row.reason == NOT_REACHED:
            continue
        if standing.reason == NOT_REACHED:
            kept[row.cell] = row
        else:
            notes.append(
                f"{name_of(row)}: {standing.run} ({_says(standing)}) is newer than {row.run} ({_says(row)})"
            )
    return [row for rows in tables for row in rows if kept[row.cell] is row], notes


def _says(row: Row) -> str:
    if row.status != "ok":
        return STATUS_WORDS.get(row.status, row.status)
    return "not timed" if row.speed_ratio is None else f"speed {format_ratio(row.speed_ratio)}"


def _order(rows: Sequence[Row]) -> Callable[[Row], tuple[int, int, int]]:
    """By workload and machine as they come, then by length, then by class, else as the suite has them."""
    places = {place: number for number, place in enumerate(dict.fromkeys(map(_place, rows)))}
    return lambda row: (places[_place(row)], row.length, _rank(row))


def _place(row: Row) -> tuple[object, ...]:
    return (row.workload, row.precision, row.phase, row.fill, *machine_of(row))


def _rank(row: Row) -> int:
    return COMPLEXITIES.index(row.complexity) if row.complexity in COMPLEXITIES else len(COMPLEXITIES)
